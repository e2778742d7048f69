//! Importance sampling: `shaders/sampling/importance.wgsl` (Mildenhall et al. 2020, section 5.2).

use crate::gpu::{Buffer, Defines};

/// The shader and its values.
#[must_use]
pub fn shader(n_samples: u32, jitter: bool, merge: bool) -> (&'static str, Defines) {
    (
        "sampling/importance",
        Defines::new()
            .set("n_samples", n_samples)
            .set("jitter", jitter)
            .set("merge", merge),
    )
}

/// The samples of the pass before, and what the field there made of them.
#[derive(Debug, Clone)]
pub struct PreviousPass {
    /// Offsets of each ray's samples, in the second of each pair.
    pub offsets: Buffer,
    /// Position and dt.
    pub samples: Buffer,
    /// Ray and distance.
    pub sample_rays: Buffer,
    /// Raw density at f32 `density_stride * sample`.
    pub density: Buffer,
    /// See `density`.
    pub density_stride: u32,
    /// The values of the field's output activations.
    pub activations: Defines,
    /// Room for place and weight of each sample: (n, 2) f32.
    pub weighted: Buffer,
}
