//! State that the kernels of a step share: `shaders/common/step.wgsl`.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::gpu::{Allocator, Count, Counts, GpuError};

/// Every ray of a batch whose number is a multiple of this one goes through a pixel whose depth is known, if there are any.
pub const DEPTH_STRIDE: u32 = 8;

/// Mirror of `StepState` in `shaders/common/step.wgsl`; see there for the fields.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct StepState {
    pub step: u32,
    pub seed: u32,
    pub n_rays: u32,
    pub n_marched: u32,
    pub n_kept: u32,
    pub n_rays_fitting: u32,
    pub n_rays_total: u32,
    pub n_kept_total: u32,
    pub n_marched_total: u32,
    pub next_rays: u32,
    pub loss: f32,
    pub squared_error: f32,
    pub learning_rate: f32,
    pub non_finite: u32,
    pub saturated: u32,
    pub occupancy_phase: u32,
    pub n_tiles: u32,
    pub n_cells: u32,
    pub max_ray_samples: u32,
    pub task: u32,
    pub task_start: u32,
}

impl StepState {
    /// Rays of a micro-batch.
    pub const RAYS: Count = Count::new("n_rays", offset_of!(Self, n_rays), 1);
    /// Samples that the sampler placed.
    pub const MARCHED: Count = Count::new("n_marched", offset_of!(Self, n_marched), 2);
    /// Samples kept after culling.
    pub const KEPT: Count = Count::new("n_kept", offset_of!(Self, n_kept), 3);
    /// Tiles of samples in a grid of networks.
    pub const TILES: Count = Count::new("n_tiles", offset_of!(Self, n_tiles), 4);
    /// Networks of a grid that have samples.
    pub const CELLS: Count = Count::new("n_cells", offset_of!(Self, n_cells), 5);

    /// Allocate zeroed counts.
    pub fn counts(allocator: &dyn Allocator, label: &str) -> Result<Counts, GpuError> {
        Counts::new(allocator, label, size_of::<Self>() as u64)
    }
}
