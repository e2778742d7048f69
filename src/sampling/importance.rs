//! Importance sampling: `shaders/sampling/importance.wgsl` (Mildenhall et al. 2020, section 5.2).

use crate::gpu::{Buffer, Defines};

/// Return the shader file and its template values.
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

/// The samples of the previous pass, and their raw density.
#[derive(Debug, Clone)]
pub struct PreviousPass {
    /// Offsets of each ray's samples: the second value of each pair.
    pub offsets: Buffer,
    /// Position and dt.
    pub samples: Buffer,
    /// Ray and distance.
    pub sample_rays: Buffer,
    /// Raw density at f32 `density_stride * sample`.
    pub density: Buffer,
    /// Stride of `density` in f32.
    pub density_stride: u32,
    /// Template values of the field's output activations.
    pub activations: Defines,
    /// Scratch buffer for each sample's t and weight: (n, 2) f32.
    pub weighted: Buffer,
}
