//! Settings of the occupancy grid.

use serde::{Deserialize, Serialize};

/// Settings of the occupancy grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occupancy {
    /// Number of cells per axis of each cascade: a power of two from 16 to 256.
    pub resolution: u32,
    /// Optical thickness over the minimum step above which a cell is occupied, or the mean thickness if
    /// that is lower; at least 0.
    pub threshold: f32,
    /// Decay factor of the cells' thickness per update, 0 to 1. When a cell is visited, the decay of all updates since its
    /// previous visit is applied.
    pub decay: f32,
    /// Number of steps between updates after the warm-up, at least 1.
    pub interval: u32,
    /// Number of initial steps with an update each. Default: 0.
    #[serde(default)]
    pub warmup_steps: u32,
    /// Number of cells visited per update: 2,048 to 2²⁶. Default: the batch size on a software adapter, else a quarter of
    /// the cells; at least 2,048.
    #[serde(default)]
    pub cells_per_update: Option<u32>,
}

impl Occupancy {
    /// Return the number of cells of all cascades, which cover a box with a side of `aabb_scale` unit cubes.
    #[must_use]
    pub fn n_cells(&self, aabb_scale: u32) -> u32 {
        self.resolution.pow(3) * (aabb_scale.trailing_zeros() + 1)
    }
}
