//! The memory plan: what a run will allocate on the device, decided before anything is.

use crate::compositing::RAY_LOSS_BYTES;
use crate::config::{Cells, Config};
use crate::field::Field;
use crate::gpu::{Gpu, GpuError};
use crate::network::{CellGrid, SavedActivations};
use crate::occupancy::OccupancyGrid;
use crate::optimizer::{CellGroup, DenseGroup, SparseGroup};
use crate::pass::{Capacity, Pass, samples_of_passes};
use crate::render::Renderer;
use crate::reptile::Reptile;

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

/// Micro-batches of a step at most.
const MAX_PARTS: u32 = 4096;

/// Operations of the networks for one training step and for one rendered ray, of a method whose passes have fixed numbers of
/// samples per ray.
///
/// # Errors
/// As [`plan`].
pub fn operations(gpu: &Gpu, config: &Config) -> Result<Option<[f64; 2]>, GpuError> {
    let Some(per_ray) = samples_of_passes(config) else {
        return Ok(None);
    };
    let fields = Field::of_passes(gpu, config)?;
    let weighted = per_ray.iter().zip(&fields);
    let multiply_adds: f64 = weighted
        .map(|(&n, field)| f64::from(n) * field.multiply_adds() as f64)
        .sum();
    let rays = f64::from(config.training.first_rays());
    Ok(Some([6.0 * multiply_adds * rays, 2.0 * multiply_adds]))
}

/// Cells of pass `index` of `config` that can have networks, where it names the memory that these may take.
///
/// # Errors
/// [`GpuError::NoNetworkFits`] when not even one can.
pub fn max_networks(gpu: &Gpu, config: &Config, index: usize) -> Result<Option<u32>, GpuError> {
    let field = &config.passes[index].field;
    let Some(mib) = field.cells.as_ref().and_then(|cells| cells.memory_mib) else {
        return Ok(None);
    };
    let len = Field::len_of_networks(field);
    let bytes = DenseGroup::bytes(len, config.optimizer.ema_decay) + CellGroup::bytes(1);
    let most = (f64::from(mib) * f64::from(1 << 20) / bytes as f64) as u32;
    if most == 0 {
        return Err(GpuError::NoNetworkFits { mib, bytes });
    }
    let bound = gpu.max_binding_bytes() / (u64::from(len) * 4);
    let bound = u32::try_from(bound).unwrap_or(u32::MAX);
    Ok(Some(most.min(bound).min(Cells::MAX_NETWORKS)))
}

/// Give grids for whose networks `config` names the memory the smallest cells that fit, all of which have networks.
///
/// # Errors
/// As [`max_networks`].
pub fn fit_cells(gpu: &Gpu, config: &mut Config) -> Result<(), GpuError> {
    for index in 0..config.passes.len() {
        let Some(most) = max_networks(gpu, config, index)? else {
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

/// Plan a resolved `config` for `gpu`: a batch whose buffers would exceed a binding, or whose stages would take long, is split
/// into micro-batches.
///
/// # Errors
/// [`GpuError::TooLarge`] when a single level of the hash grid does not fit a binding.
pub fn plan(gpu: &Gpu, config: &Config) -> Result<MemoryPlan, GpuError> {
    let fields = Field::of_passes(gpu, config)?;
    let training = &config.training;
    let max_rays = training.most_rays();
    let mut micro_batches = training.micro_batches.unwrap_or(1);
    let fits = |capacities: &[Capacity]| {
        capacities
            .iter()
            .zip(&fields)
            .zip(&config.passes)
            .all(|((c, field), pass)| {
                let operations = u64::from(c.kept) * field.multiply_adds() * 4;
                // Who names both rays and parts is taken at their word.
                let named = training.n_rays.is_some() && training.micro_batches.is_some();
                let quick = named || operations <= gpu.class().most_operations();
                quick && c.fits(gpu, &pass.sampler, field, SavedActivations::Gradients)
            })
    };
    let capacities = loop {
        let capacities = capacities(config, max_rays, micro_batches);
        let last_resort = micro_batches >= MAX_PARTS.min(training.n_rays.unwrap_or(MAX_PARTS));
        if fits(&capacities) || last_resort {
            break capacities;
        }
        // The parts of a given number of rays are alike, if it has such parts.
        let next = micro_batches + 1..=2 * micro_batches;
        let alike = |m: &u32| training.n_rays.is_some_and(|n| n % m == 0);
        micro_batches = next.rev().find(alike).unwrap_or(2 * micro_batches);
    };
    let parameter_bytes = |field: &Field| {
        let networks = field.cells.as_ref().map_or(0, |c| c.n_networks);
        let tables = field.tables();
        let values =
            u64::from(field.slab_len()) + tables.total_rows() * u64::from(tables.n_features());
        let outer = config.meta.as_ref();
        DenseGroup::bytes(field.slab_len(), config.optimizer_of_steps().ema_decay)
            + CellGroup::bytes(networks)
            + SparseGroup::bytes(tables)
            + outer.map_or(0, |meta| Reptile::bytes(meta, values * 4))
    };
    let batch_bytes = Pass::bytes(config, &fields, &capacities, &|_| {
        SavedActivations::Gradients
    });
    Ok(MemoryPlan {
        micro_batches,
        parameter_bytes: fields.iter().map(parameter_bytes).sum(),
        batch_bytes: batch_bytes + u64::from(capacities[0].rays) * (16 + RAY_LOSS_BYTES),
        occupancy_bytes: OccupancyGrid::bytes(gpu, config, &fields[fields.len() - 1]),
        rendering_bytes: Renderer::bytes(gpu, config, &fields),
        capacities,
    })
}

fn capacities(config: &Config, max_rays: u32, micro_batches: u32) -> Vec<Capacity> {
    let training = &config.training;
    if let Some(n) = training.n_rays
        && let Some(capacities) = Capacity::of_rays(config, n.div_ceil(micro_batches))
    {
        return capacities;
    }
    let kept = (training.batch() / micro_batches).next_multiple_of(512);
    let capacity = Capacity {
        rays: (max_rays / micro_batches).max(64),
        marched: ((kept as f32 * training.marched_per_kept) as u32).next_multiple_of(512),
        kept,
    };
    let of_pass = |pass: &crate::config::Pass| capacity.of_sampler(&pass.sampler);
    config.passes.iter().map(of_pass).collect()
}
