//! Buffers of training, allocated by the same constructors on a device and in a plan.

use super::HISTORY_LEN;
use crate::compositing::RAY_LOSS_BYTES;
use crate::config::ResolvedConfig;
use crate::gpu::{Allocator, Buffer, GpuError};
use crate::network::SavedActivations;
use crate::occupancy::OccupancyGrid;
use crate::optimizer::{CellGroup, DenseGroup, SparseGroup};
use crate::pass::{Capacity, Pass};
use crate::reptile::Reptile;

/// Allocators of the parts of a training.
#[derive(Clone, Copy)]
pub(super) struct Allocators<'a> {
    /// Parameters with gradients, moments and averages.
    pub(super) parameters: &'a dyn Allocator,
    /// Rays, samples and activations.
    pub(super) batch: &'a dyn Allocator,
    /// The occupancy grid and its updates.
    pub(super) occupancy: &'a dyn Allocator,
}

/// The buffers of a trainer.
#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) passes: Vec<Pass>,
    pub(super) occupancy: Option<OccupancyGrid>,
    pub(super) dense: DenseGroup,
    pub(super) sparse: Vec<SparseGroup>,
    pub(super) cells: Vec<Option<(CellGroup, Buffer)>>,
    pub(super) reptile: Option<Reptile>,
    pub(super) targets: Buffer,
    pub(super) history: Buffer,
    pub(super) ray_losses: Buffer,
}

impl Buffers {
    /// Allocate the buffers for training with a resolved `config` and passes of `capacities`.
    pub(super) fn new(
        allocators: Allocators<'_>,
        config: &ResolvedConfig,
        capacities: &[Capacity],
    ) -> Result<Self, GpuError> {
        let Allocators {
            parameters, batch, ..
        } = allocators;
        let saved = |_| SavedActivations::Gradients;
        let passes = Pass::of_method(batch, config, "training", capacities, &saved)?;
        let last = &passes[passes.len() - 1].field;
        let occupancy = OccupancyGrid::of_config(allocators.occupancy, config, last)?;
        let slab_len = passes.iter().map(|p| p.field.slab_len()).sum();
        let ema_decay = config.inner_optimizer().ema_decay;
        let dense = DenseGroup::new(parameters, "networks", slab_len, ema_decay)?;
        let tables = passes.iter().map(|p| p.field.tables());
        let sparse: Vec<SparseGroup> = tables
            .map(|tables| SparseGroup::new(parameters, tables))
            .collect::<Result<_, _>>()?;
        let of_cells = |pass: &Pass| -> Result<_, GpuError> {
            let field = &pass.field;
            let Some((range, map)) = field.cell_range().zip(field.full_cell_map(parameters)?)
            else {
                return Ok(None);
            };
            let copies = field.density.layout().n_networks;
            let group = CellGroup::new(parameters, copies, range, field.matrices())?;
            Ok(Some((group, map)))
        };
        let cells = passes.iter().map(of_cells).collect::<Result<_, _>>()?;
        let of_tasks = config.meta.as_ref();
        let reptile = of_tasks
            .map(|meta| Reptile::new(parameters, meta, &dense, &sparse))
            .transpose()?;
        let rays = u64::from(capacities[0].rays);
        Ok(Self {
            targets: batch.buffer("targets", rays * 16)?,
            history: batch.buffer("history", u64::from(HISTORY_LEN) * 32)?,
            ray_losses: batch.buffer("ray losses", rays * RAY_LOSS_BYTES)?,
            passes,
            occupancy,
            dense,
            sparse,
            cells,
            reptile,
        })
    }
}
