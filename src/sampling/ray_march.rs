//! Occupancy-grid march: `shaders/sampling/ray_march.wgsl` (Müller et al. 2022, section 5.4).

use super::SceneBox;
use crate::config::Sampler;
use crate::gpu::Defines;

/// Shortest step in unit coordinates: a diagonal of the unit cube in `steps` parts.
#[must_use]
pub fn dt_min(steps: u32) -> f32 {
    let steps = steps as f32;
    3.0_f32.sqrt() / steps
}

/// The shader and its values, for a grid of `resolution` cells per axis.
#[must_use]
pub fn shader(
    sampler: &Sampler,
    scene: &SceneBox,
    resolution: u32,
    jitter: bool,
) -> (&'static str, Defines) {
    let (steps, cone_angle, max_samples) = match *sampler {
        Sampler::RayMarch {
            steps,
            cone_angle,
            max_samples,
            ..
        } => (steps, cone_angle.unwrap_or(0.0), max_samples),
        Sampler::Stratified { n_samples, .. } | Sampler::Importance { n_samples, .. } => {
            (n_samples, 0.0, n_samples)
        }
    };
    let shortest = dt_min(steps);
    // The longest step is a cell of the coarsest cascade.
    let longest = shortest * scene.aabb_scale as f32 * (steps as f32 / resolution as f32).max(1.0);
    let defines = Defines::new()
        .set("resolution", resolution)
        .set("dt_min", format!("{shortest:?}"))
        .set("dt_max", format!("{longest:?}"))
        .set("cone_angle", cone_angle)
        .set("max_samples", max_samples)
        .set("jitter", jitter);
    ("sampling/ray_march", defines)
}
