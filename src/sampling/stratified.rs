//! Stratified sampling: `shaders/sampling/stratified.wgsl` (Mildenhall et al. 2020, eq. 2).

use crate::gpu::Defines;

/// The shader and its values.
#[must_use]
pub fn shader(
    n_samples: u32,
    jitter: bool,
    bounded: bool,
    disparity: bool,
) -> (&'static str, Defines) {
    (
        "sampling/stratified",
        Defines::new()
            .set("n_samples", n_samples)
            .set("jitter", jitter)
            .set("bounded", bounded)
            .set("disparity", disparity),
    )
}
