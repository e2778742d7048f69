//! The memory plan: what a run will allocate on the device, decided before anything is.

use super::buffers::{Allocators, Buffers};
use crate::config::{Budget, Cells, Config, PassConfig, ResolvedConfig};
use crate::field::Field;
use crate::gpu::{AdapterClass, Allocator, DeviceProfile, GpuError, Planner};
use crate::network::{CellGrid, SavedActivations};
use crate::optimizer::{CellGroup, DenseGroup};
use crate::pass::{Capacity, Pass, samples_of_passes};
use crate::render::Renderer;

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The device cannot hold it.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A grid of networks was given too little memory.
    #[error(
        "cells.memory_mib is {mib}, but the networks of a single cell take {bytes} bytes: give more with --set, or smaller networks"
    )]
    NoNetworkFits {
        /// What was given, in MiB.
        mib: f32,
        /// What one cell takes, with gradients, moments and averages.
        bytes: u64,
    },
}

/// What a run will allocate.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct MemoryPlan {
    /// Rays and samples that each pass holds at once.
    pub capacities: Vec<Capacity>,
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

impl From<AdapterClass> for Budget {
    fn from(class: AdapterClass) -> Self {
        match class {
            AdapterClass::Software => Self::SOFTWARE,
            AdapterClass::Integrated => Self::INTEGRATED,
            AdapterClass::Discrete => Self::DISCRETE,
        }
    }
}

/// Micro-batches of a step at most.
const MAX_PARTS: u32 = 4096;

/// Operations of the networks for one training step and for one rendered ray, of a method whose passes have fixed numbers of
/// samples per ray.
///
/// # Errors
/// As [`plan`].
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

/// Cells of pass `index` of `config` that can have networks, where it names the memory that these may take.
///
/// # Errors
/// [`PlanError::NoNetworkFits`] when not even one can.
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
    // Buffers are whole multiples of 16 bytes, as the counters of two networks are.
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

/// Give grids for whose networks `config` names the memory the smallest cells that fit, all of which have networks.
///
/// # Errors
/// As [`max_networks`].
pub fn fit_cells(profile: &DeviceProfile, config: &mut Config) -> Result<(), PlanError> {
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
    /// The buffers of this plan on the device of `allocator`.
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

/// Plan a resolved `config` for a device of `profile`: a batch whose buffers would exceed a binding, or whose stages would take
/// long, is split into micro-batches.
///
/// # Errors
/// [`GpuError::TooLarge`] when parameters, or the smallest micro-batch, do not fit a binding.
pub fn plan(profile: &DeviceProfile, config: &ResolvedConfig) -> Result<MemoryPlan, GpuError> {
    let fields = Field::of_passes(profile, config)?;
    let training = &config.training;
    let max_rays = config.max_rays();
    let mut micro_batches = training.micro_batches.unwrap_or(1);
    // Who names both rays and parts is taken at their word.
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
        let last_resort = micro_batches >= MAX_PARTS.min(training.n_rays.unwrap_or(MAX_PARTS));
        if last_resort || fits(&capacities) {
            break capacities;
        }
        // The parts of a given number of rays are alike, if it has such parts.
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
