//! The memory plan: what a run will allocate on the device, decided before anything is.

use crate::compositing::RAY_LOSS_BYTES;
use crate::config::Config;
use crate::field::Field;
use crate::gpu::{Gpu, GpuError};
use crate::network::Keep;
use crate::occupancy::OccupancyGrid;
use crate::optimizer::{DenseGroup, SparseGroup};
use crate::pass::{Capacity, Pass};
use crate::render::Renderer;

/// What a run will allocate.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct MemoryPlan {
    /// Rays and samples held at once.
    pub capacity: Capacity,
    /// Parts a step is computed in.
    pub micro_batches: u32,
    /// Bytes of parameters with gradients, moments and averages.
    pub parameter_bytes: u64,
    /// Bytes of rays, samples and activations.
    pub batch_bytes: u64,
    /// Bytes of the occupancy grid and its updates.
    pub occupancy_bytes: u64,
    /// Bytes of the renderer that looks at views, with its copy of the parameters.
    pub rendering_bytes: u64,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.parameter_bytes + self.batch_bytes + self.occupancy_bytes + self.rendering_bytes
    }
}

/// Plan a resolved `config` for `gpu`: a batch whose buffers would exceed a binding is split into micro-batches.
///
/// # Errors
/// [`GpuError::TooLarge`] when a single level of the hash grid does not fit a binding.
pub fn plan(gpu: &Gpu, config: &Config) -> Result<MemoryPlan, GpuError> {
    let field = Field::new(gpu, &config.passes[0].field)?;
    let training = &config.training;
    let batch = training.batch();
    let max_rays = training.most_rays();
    let mut micro_batches = training.micro_batches.unwrap_or(1);
    let capacity = loop {
        let kept = (batch / micro_batches).next_multiple_of(512);
        let capacity = Capacity {
            rays: (max_rays / micro_batches).max(64),
            marched: ((kept as f32 * training.marched_per_kept) as u32).next_multiple_of(512),
            kept,
        };
        if capacity.fits(gpu, &field, Keep::Gradients) || micro_batches >= 4096 {
            break capacity;
        }
        micro_batches *= 2;
    };
    Ok(MemoryPlan {
        capacity,
        micro_batches,
        parameter_bytes: DenseGroup::bytes(field.slab_len()) + SparseGroup::bytes(field.tables()),
        batch_bytes: Pass::bytes(&field, capacity, Keep::Gradients)
            + u64::from(capacity.kept) * (16 + 4)
            + u64::from(capacity.rays) * (16 + RAY_LOSS_BYTES),
        occupancy_bytes: OccupancyGrid::bytes(gpu, config, &field),
        rendering_bytes: Renderer::bytes(gpu, &field),
    })
}
