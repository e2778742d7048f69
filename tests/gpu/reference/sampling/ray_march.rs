//! Ray marching through the occupancy grid, for one ray (Müller et al. 2022, appendix E.1), f32 throughout.
//!
//! All values are in unit coordinates: `t` is the distance along the *normalised* direction, so `t / scale` is in world units
//! if world -> unit is a scaling by `scale`. The step at `t` is `dt(t) = clamp(t * cone_angle, dt_min, dt_max)`. Empty cells
//! are crossed with the same steps, so the possible sample positions do not depend on which cells are empty.

use super::super::occupancy::OccupancyGrid;

/// The parameters of ray marching.
#[derive(Clone, Copy, Debug)]
pub struct RayMarch {
    /// Lower corner of the scene box, in unit coordinates.
    pub box_min: [f32; 3],
    /// Upper corner of the scene box.
    pub box_max: [f32; 3],
    /// Minimum step.
    pub dt_min: f32,
    /// Maximum step.
    pub dt_max: f32,
    /// Ratio of step to distance; 0 for equal steps of `dt_min`.
    pub cone_angle: f32,
    /// Maximum number of samples.
    pub max_samples: usize,
}

/// A ray in unit coordinates.
#[derive(Clone, Copy, Debug)]
pub struct Ray {
    /// Origin.
    pub origin: [f32; 3],
    /// Direction, of any length but zero.
    pub direction: [f32; 3],
    /// No sample before this distance.
    pub t_min: f32,
    /// No sample at or beyond this distance.
    pub t_max: f32,
}

/// A sample: the field is evaluated at `position`, at distance `t` along the ray, for an interval of length `dt`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarchSample {
    /// Distance along the normalised direction.
    pub t: f32,
    /// Length of the interval.
    pub dt: f32,
    /// `origin + t * normalised direction`.
    pub position: [f32; 3],
}

impl RayMarch {
    /// Return `clamp(t * cone_angle, dt_min, dt_max)`.
    pub fn step(&self, t: f32) -> f32 {
        (t * self.cone_angle).clamp(self.dt_min, self.dt_max)
    }

    /// Return the samples of one ray, front to back.
    ///
    /// Marching starts at `t0 + jitter * dt(t0)` with `t0 = max(box entry, t_min)` and jitter in `[0, 1)`. It ends at the box
    /// exit, at `t_max` or after `max_samples`. At each point the cascade is `max(mip_from_position, mip_from_dt)`.
    pub fn march(&self, grid: &OccupancyGrid, ray: &Ray, jitter: f32) -> Vec<MarchSample> {
        let mut samples = Vec::new();
        let direction = normalised(ray.direction);
        let Some((enter, exit)) = self.intersect(ray.origin, direction) else {
            return samples;
        };
        let start = enter.max(ray.t_min);
        let end = exit.min(ray.t_max);
        let mut t = start + jitter * self.step(start);
        while t < end && samples.len() < self.max_samples {
            let dt = self.step(t);
            let position = std::array::from_fn(|a| ray.origin[a] + t * direction[a]);
            let cascade = grid.mip_from_position(position).max(grid.mip_from_dt(dt));
            if grid.is_occupied(position, cascade) {
                samples.push(MarchSample { t, dt, position });
                t += dt;
            } else {
                let target = t + distance_to_next_cell(grid, position, direction, cascade);
                // Take at least one step, because on a cell face the distance is 0.
                loop {
                    t += self.step(t);
                    if t >= target {
                        break;
                    }
                }
            }
        }
        samples
    }

    /// Return the distances at which the line enters and leaves the box (slab method), or `None` if it misses. The entry may be
    /// negative.
    pub fn intersect(&self, origin: [f32; 3], direction: [f32; 3]) -> Option<(f32, f32)> {
        let mut enter = f32::MIN;
        let mut exit = f32::MAX;
        for a in 0..3 {
            if direction[a] == 0.0 {
                if origin[a] < self.box_min[a] || origin[a] > self.box_max[a] {
                    return None;
                }
            } else {
                let t0 = (self.box_min[a] - origin[a]) / direction[a];
                let t1 = (self.box_max[a] - origin[a]) / direction[a];
                enter = enter.max(t0.min(t1));
                exit = exit.min(t0.max(t1));
            }
        }
        (enter < exit).then_some((enter, exit))
    }
}

/// Return the distance to the nearest cell face ahead; 0 if `u` lies on a face and the ray leaves through it.
fn distance_to_next_cell(
    grid: &OccupancyGrid,
    u: [f32; 3],
    direction: [f32; 3],
    cascade: u32,
) -> f32 {
    let cell_size = (1_u32 << cascade) as f32 / grid.resolution as f32;
    let q = grid.to_cells(u, cascade);
    let mut nearest = f32::MAX;
    for a in 0..3 {
        if direction[a] != 0.0 {
            let face = q[a].floor() + if direction[a] > 0.0 { 1.0 } else { 0.0 };
            nearest = nearest.min((face - q[a]) * cell_size / direction[a]);
        }
    }
    nearest.max(0.0)
}

fn normalised(v: [f32; 3]) -> [f32; 3] {
    let length = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
    v.map(|v| v / length)
}
