//! Ray marching through the occupancy grid: `shaders/sampling/ray_march.wgsl` (Müller et al. 2022, section 5.4).

use super::SceneBox;
use crate::gpu::Defines;

/// Minimum step in unit coordinates: the diagonal of the unit cube divided by `steps`.
#[must_use]
pub fn dt_min(steps: u32) -> f32 {
    let steps = steps as f32;
    3.0_f32.sqrt() / steps
}

/// Return the shader file and its template values, for a grid of `resolution` cells per axis. With `limited`, the counts on the
/// device limit the number of samples per ray. Steps grow by `cone_angle` with distance. With `jitter`, which marks training
/// rays, steps shrink from twice their length to their length over `coarse_steps` training steps.
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
    // The maximum step is a cell of the coarsest cascade.
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
