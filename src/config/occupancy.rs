//! The occupancy grid.

use serde::{Deserialize, Serialize};

/// Occupancy grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occupancy {
    /// Cells per axis and cascade, a power of two from 16 to 256.
    pub resolution: u32,
    /// Optical thickness above which a cell is occupied (or the mean, if that is lower).
    pub threshold: f32,
    /// A cell's maximum is multiplied by the fourth power of this whenever a sweep of the grid visits it.
    pub decay: f32,
    /// Steps from one update to the next, once warmed up.
    pub interval: u32,
    /// Updates at every step before that.
    #[serde(default)]
    pub warmup_steps: u32,
    /// Cells visited per update; left out, it follows the batch size.
    #[serde(default)]
    pub cells_per_update: Option<u32>,
}

impl Occupancy {
    /// Cells of all cascades that cover a box of `aabb_scale` unit cubes a side.
    #[must_use]
    pub fn n_cells(&self, aabb_scale: u32) -> u32 {
        self.resolution.pow(3) * (aabb_scale.trailing_zeros() + 1)
    }
}
