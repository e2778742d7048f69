//! Stratified sampling: `shaders/sampling/stratified.wgsl` (Mildenhall et al. 2020, eq. 2).

use crate::gpu::Defines;

/// Return the shader file and its template values.
#[must_use]
pub fn shader(
    n_samples: u32,
    jitter: bool,
    bounded: bool,
    disparity: bool,
    last_interval: Option<f32>,
) -> (&'static str, Defines) {
    (
        "sampling/stratified",
        Defines::new()
            .set("n_samples", n_samples)
            .set("jitter", jitter)
            .set("bounded", bounded)
            .set("disparity", disparity)
            .set("ends", last_interval.is_some())
            .set_f32("last_interval", last_interval.unwrap_or(0.0)),
    )
}
