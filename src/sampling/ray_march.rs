//! Occupancy-grid march: `shaders/sampling/ray_march.wgsl` (Müller et al. 2022, section 5.4).

use super::SceneBox;
use crate::gpu::Defines;

/// Shortest step in unit coordinates: a diagonal of the unit cube in `steps` parts.
#[must_use]
pub fn dt_min(steps: u32) -> f32 {
    let steps = steps as f32;
    3.0_f32.sqrt() / steps
}

/// The shader and its values, for a grid of `resolution` cells per axis; `limited` leaves the number of samples to the counts.
/// Steps grow by `cone_angle` with distance; those of training rays, which `jitter` tells, fall from twice their length to their
/// own over `coarse_steps` training steps.
#[must_use]
pub fn shader(
    (steps, max_samples): (u32, u32),
    (cone_angle, coarse_steps): (f32, u32),
    scene: &SceneBox,
    resolution: u32,
    jitter: bool,
    limited: bool,
) -> (&'static str, Defines) {
    let shortest = dt_min(steps);
    // The longest step is a cell of the coarsest cascade.
    let longest = shortest * scene.aabb_scale as f32 * (steps as f32 / resolution as f32).max(1.0);
    let defines = Defines::new()
        .set("resolution", resolution)
        .set_f32("dt_min", shortest)
        .set_f32("dt_max", longest)
        .set("cone_angle", cone_angle)
        .set("coarse_steps", if jitter { coarse_steps } else { 0 })
        .set("max_samples", max_samples)
        .set("limited", limited)
        .set("jitter", jitter);
    ("sampling/ray_march", defines)
}
