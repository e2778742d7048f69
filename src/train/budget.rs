//! The memory plan: what a run will allocate on the device, decided before anything is.

use crate::config::Config;
use crate::field::Field;
use crate::gpu::{Gpu, GpuError};
use crate::pass::{Capacity, Pass};
use crate::sampling::SceneBox;

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
    /// Bytes of the occupancy grid.
    pub occupancy_bytes: u64,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.parameter_bytes + self.batch_bytes + self.occupancy_bytes
    }
}

/// Plan a resolved `config` for `gpu`: a batch whose buffers would exceed a binding is split into micro-batches.
///
/// # Errors
/// [`GpuError::TooLarge`] when a single level of the hash grid does not fit a binding.
pub fn plan(gpu: &Gpu, config: &Config) -> Result<MemoryPlan, GpuError> {
    let field = Field::new(gpu, &config.passes[0].field)?;
    let training = &config.training;
    let batch = training.batch_size.unwrap_or(1 << 15);
    let max_rays = training.max_rays.unwrap_or(1 << 14);
    let limit = gpu.max_binding_bytes();
    let (marched_row, kept_row) = field.widest_row_bytes();
    let mut micro_batches = training.micro_batches.unwrap_or(1);
    loop {
        let kept = (batch / micro_batches).next_multiple_of(512);
        let marched = ((kept as f32 * training.marched_per_kept) as u32).next_multiple_of(512);
        if (u64::from(marched) * marched_row).max(u64::from(kept) * kept_row) > limit
            && micro_batches < 4096
        {
            micro_batches *= 2;
            continue;
        }
        let capacity = Capacity {
            rays: (max_rays / micro_batches).max(64),
            marched,
            kept,
        };
        let features = field.hash_grid.total_rows() * u64::from(field.hash_grid.n_features());
        let cells = u64::from(config.occupancy.resolution).pow(3)
            * u64::from(SceneBox::of(config).cascades());
        return Ok(MemoryPlan {
            capacity,
            micro_batches,
            parameter_bytes: features * 20
                + field.hash_grid.total_rows() * 8
                + u64::from(field.slab_len()) * 24,
            batch_bytes: Pass::bytes(&field, capacity, true) + u64::from(capacity.kept) * 20,
            occupancy_bytes: cells * 4 + cells / 8,
        });
    }
}
