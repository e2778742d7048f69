//! The memory plan: what a run allocates on the device, decided before the allocation.

use super::buffers::{Allocators, Buffers};
use crate::config::{Budget, Cells, Config, PassConfig, ResolvedConfig};
use crate::field::Field;
use crate::gpu::{AdapterClass, Allocator, DeviceProfile, GpuError, Planner};
use crate::network::{CellGrid, SavedActivations};
use crate::optimizer::{CellGroup, DenseGroup};
use crate::pass::{Capacity, Pass, samples_of_passes};
use crate::render::Renderer;

/// An error of planning.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The plan exceeds a limit of the device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The memory for a grid of networks is too small.
    #[error(
        "cells.memory_mib is {mib}, but the networks of a single cell take {bytes} bytes: give more with --set, or smaller networks"
    )]
    NoNetworkFits {
        /// The memory, in MiB.
        mib: f32,
        /// Size in bytes of the networks of one cell, with gradients, moments and averages.
        bytes: u64,
    },
}

/// Sizes of all allocations of a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct MemoryPlan {
    /// Maximum numbers of rays and samples of each pass.
    pub capacities: Vec<Capacity>,
    /// Number of micro-batches per step.
    pub micro_batches: u32,
    /// Bytes of parameters with gradients, moments and averages.
    pub parameter_bytes: u64,
    /// Bytes of rays, samples and activations.
    pub batch_bytes: u64,
    /// Bytes of the occupancy grid and its updates.
    pub occupancy_bytes: u64,
    /// Bytes of the renderer of views, with its copy of the parameters.
    pub rendering_bytes: u64,
}

impl MemoryPlan {
    /// Return the total number of bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.parameter_bytes + self.batch_bytes + self.occupancy_bytes + self.rendering_bytes
    }
}

impl From<AdapterClass> for Budget {
    fn from(class: AdapterClass) -> Self {
        match class {
            AdapterClass::Software => Self::SOFTWARE,
            AdapterClass::Integrated => Self::INTEGRATED,
            AdapterClass::Discrete => Self::DISCRETE,
        }
    }
}

/// Maximum number of micro-batches per step.
const MAX_MICRO_BATCHES: u32 = 4096;

/// Return the number of operations of the networks per training step and per rendered ray, for a method whose passes have fixed
/// numbers of samples per ray.
pub fn operations(
    profile: &DeviceProfile,
    config: &ResolvedConfig,
) -> Result<Option<[f64; 2]>, GpuError> {
    let Some(per_ray) = samples_of_passes(config) else {
        return Ok(None);
    };
    let fields = Field::of_passes(profile, config)?;
    let weighted = per_ray.iter().zip(&fields);
    let multiply_adds: f64 = weighted
        .map(|(&n, field)| f64::from(n) * field.multiply_adds() as f64)
        .sum();
    let rays = f64::from(config.first_rays());
    Ok(Some([6.0 * multiply_adds * rays, 2.0 * multiply_adds]))
}

/// Return the maximum number of networks of pass `index` of `config`, if it sets their memory (`cells.memory_mib`).
///
/// # Errors
/// [`PlanError::NoNetworkFits`] if the memory holds no network.
pub fn max_networks(
    profile: &DeviceProfile,
    config: &Config,
    index: usize,
) -> Result<Option<u32>, PlanError> {
    let field = &config.passes[index].field;
    let Some(mib) = field.cells.as_ref().and_then(|cells| cells.memory_mib) else {
        return Ok(None);
    };
    let len = Field::len_of_networks(field);
    // Buffer sizes are multiples of 16 bytes, like the counters of two networks.
    let planner = Planner::new(profile);
    DenseGroup::new(&planner, "networks", 2 * len, config.optimizer.ema_decay)?;
    CellGroup::new(&planner, 2, [0; 3], Vec::new())?;
    let bytes = planner.bytes() / 2;
    let most = (f64::from(mib) * f64::from(1 << 20) / bytes as f64) as u32;
    if most == 0 {
        return Err(PlanError::NoNetworkFits { mib, bytes });
    }
    let bound = profile.max_binding_bytes / (u64::from(len) * 4);
    let bound = u32::try_from(bound).unwrap_or(u32::MAX);
    Ok(Some(most.min(bound).min(Cells::MAX_NETWORKS)))
}

/// Set the cells of grids of networks for which `config` sets the memory (`cells.memory_mib`): the smallest for which it
/// suffices if all cells have networks.
pub fn size_network_grids(profile: &DeviceProfile, config: &mut Config) -> Result<(), PlanError> {
    for index in 0..config.passes.len() {
        let Some(most) = max_networks(profile, config, index)? else {
            continue;
        };
        let cells = &mut config.passes[index].field.cells;
        let all = |cells: &Cells| cells.resolution().iter().product();
        let finest = cells.as_ref().and_then(|c| CellGrid::finest(c, most, all));
        if let Some(finest) = finest {
            *cells = Some(finest);
        }
    }
    Ok(())
}

impl MemoryPlan {
    /// Allocate the buffers of this plan.
    pub(super) fn allocate(
        &self,
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
    ) -> Result<Buffers, GpuError> {
        let allocators = Allocators {
            parameters: allocator,
            batch: allocator,
            occupancy: allocator,
        };
        Buffers::new(allocators, config, &self.capacities)
    }
}

/// Plan a resolved `config` for a device with `profile`. A batch whose buffers would exceed a binding, or whose stages would
/// take too long, is split into micro-batches.
///
/// # Errors
/// [`GpuError::TooLarge`] if the parameters, or the smallest micro-batch, do not fit a binding.
pub fn plan(profile: &DeviceProfile, config: &ResolvedConfig) -> Result<MemoryPlan, GpuError> {
    let fields = Field::of_passes(profile, config)?;
    let training = &config.training;
    let max_rays = config.max_rays();
    let mut micro_batches = training.micro_batches.unwrap_or(1);
    // The duration is not checked if both the number of rays and that of micro-batches are set.
    let named = training.n_rays.is_some() && training.micro_batches.is_some();
    let is_quick = |(c, field): (&Capacity, &Field)| {
        let operations = u64::from(c.kept) * field.multiply_adds() * 4;
        named || operations <= profile.class.max_stage_operations()
    };
    let fits = |capacities: &[Capacity]| {
        let planner = Planner::new(profile);
        let saved = |_| SavedActivations::Gradients;
        capacities.iter().zip(&fields).all(is_quick)
            && Pass::of_method(&planner, config, "training", capacities, &saved).is_ok()
    };
    let capacities = loop {
        let capacities = capacities(config, max_rays, micro_batches);
        let last_resort =
            micro_batches >= MAX_MICRO_BATCHES.min(training.n_rays.unwrap_or(MAX_MICRO_BATCHES));
        if last_resort || fits(&capacities) {
            break capacities;
        }
        // Prefer a number of micro-batches that divides a fixed number of rays.
        let next = micro_batches + 1..=2 * micro_batches;
        let alike = |m: &u32| training.n_rays.is_some_and(|n| n % m == 0);
        micro_batches = next.rev().find(alike).unwrap_or(2 * micro_batches);
    };
    let [parameters, batch, occupancy, rendering] = [(); 4].map(|()| Planner::new(profile));
    let allocators = Allocators {
        parameters: &parameters,
        batch: &batch,
        occupancy: &occupancy,
    };
    Buffers::new(allocators, config, &capacities)?;
    Renderer::plan(&rendering, &rendering, config)?;
    Ok(MemoryPlan {
        micro_batches,
        parameter_bytes: parameters.bytes(),
        batch_bytes: batch.bytes(),
        occupancy_bytes: occupancy.bytes(),
        rendering_bytes: rendering.bytes(),
        capacities,
    })
}

fn capacities(config: &ResolvedConfig, max_rays: u32, micro_batches: u32) -> Vec<Capacity> {
    let training = &config.training;
    if let Some(n) = training.n_rays
        && let Some(capacities) = Capacity::of_rays(config, n.div_ceil(micro_batches))
    {
        return capacities;
    }
    let kept = (config.batch_size() / micro_batches).next_multiple_of(512);
    let capacity = Capacity {
        rays: (max_rays / micro_batches).max(64),
        marched: ((kept as f32 * training.marched_per_kept) as u32).next_multiple_of(512),
        kept,
    };
    let of_pass = |pass: &PassConfig| capacity.of_sampler(&pass.sampler);
    config.passes.iter().map(of_pass).collect()
}
