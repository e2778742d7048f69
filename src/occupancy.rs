//! Occupancy grid: `shaders/occupancy.wgsl` (Müller et al. 2022, appendix E.2).
//!
//! Each cell stores the optical thickness of the field over the minimum step, as a decaying maximum of samples at random
//! positions in the cell. An update visits a slice of the cells, in a fixed permutation, and as many occupied cells. Between
//! updates, the samples that training evaluates raise the thickness of their cells.

use crate::compositing::activation_defines;
use crate::config::{Occupancy, ResolvedConfig, Sampler, resolved};
use crate::field::{Field, FieldBuffers, FieldParameters, RAW_DENSITY_STRIDE};
use crate::gpu::{
    Allocator, Buffer, Counts, Defines, DeviceProfile, Gpu, GpuError, Groups, Kernel, Stage,
    WithAdvice,
};
use crate::images::ImageSet;
use crate::network::SavedActivations;
use crate::pass::Pass;
use crate::sampling::{SceneBox, ray_march};
use crate::step_state::StepState;

/// The grid, and the buffers of its updates.
#[derive(Debug, Clone)]
pub struct OccupancyGrid {
    /// Cells per axis.
    pub resolution: u32,
    /// Number of cascades: cubes of doubling side.
    pub cascades: u32,
    /// Optical thickness of each cell; a cell with a value below 0 is never occupied.
    pub thickness: Buffer,
    /// Occupancy bitfield, one bit per cell.
    pub bits: Buffer,
    /// Counts of the updates; `occupancy_phase` is the number of updates done.
    pub counts: Counts,
    scene: SceneBox,
    cells: Buffer,
    samples: Buffer,
    partial_sums: Buffer,
    total: Buffer,
    buffers: FieldBuffers,
    n_sweep: u32,
    decay: f32,
    threshold: f32,
    fixed_threshold: bool,
    dt: f32,
}

/// Thickness of a cell that no update has visited yet. Such cells are occupied.
pub const UNVISITED: f32 = 1e30;

impl OccupancyGrid {
    /// Allocate the grid of `config`, if it has one. [`Self::reset`] must be called before use.
    pub fn of_config(
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
        field: &Field,
    ) -> Result<Option<Self>, GpuError> {
        let occupancy = config.occupancy.as_ref();
        occupancy
            .map(|occupancy| Self::new(allocator, config, occupancy, field))
            .transpose()
    }

    /// Allocate a grid. [`Self::reset`] must be called before use.
    pub fn new(
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
        occupancy: &Occupancy,
        field: &Field,
    ) -> Result<Self, GpuError> {
        let scene = SceneBox::of(config);
        let resolution = occupancy.resolution;
        let cells = occupancy.n_cells(scene.aabb_scale);
        let n_sweep = Self::n_sweep(allocator.profile(), config, occupancy, field);
        let n = u64::from(2 * n_sweep);
        let marched = |pass: &crate::config::PassConfig| match pass.sampler {
            Sampler::RayMarch { steps, .. } => Some(steps),
            Sampler::Stratified { .. } | Sampler::Importance { .. } => None,
        };
        let steps = config.passes.iter().find_map(marched).unwrap_or(1024);
        let of_grid = WithAdvice::new(
            allocator,
            "lower `occupancy.resolution` or `scene.aabb_scale` with --set",
        );
        let of_update = WithAdvice::new(allocator, "lower `occupancy.cells_per_update` with --set");
        Ok(Self {
            resolution,
            cascades: scene.cascades(),
            thickness: of_grid.buffer("occupancy thickness", u64::from(cells) * 4)?,
            bits: of_grid.buffer("occupancy bits", u64::from(cells) / 8)?,
            counts: StepState::counts(allocator, "occupancy")?,
            cells: of_update.buffer("occupancy cells", n * 4)?,
            samples: of_update.buffer("occupancy samples", n.next_multiple_of(512) * 16)?,
            partial_sums: of_update.buffer("occupancy partial sums", 4096 * 8)?,
            total: of_update.buffer("occupancy total", 8)?,
            buffers: field.buffers(&of_update, "occupancy", n, 0, SavedActivations::Nothing)?,
            n_sweep,
            // In Instant-NGP every update decays every cell. Here a visit applies the decay of all updates since the cell's
            // previous visit.
            decay: occupancy.decay.powf(cells as f32 / n_sweep as f32),
            threshold: occupancy.threshold,
            fixed_threshold: false,
            dt: ray_march::dt_min(steps) / scene.scale,
            scene,
        })
    }

    /// Return the same grid with a fixed threshold of occupancy. Otherwise the threshold is at most the mean over all cells, so
    /// that a field may start with little density.
    #[must_use]
    pub fn with_fixed_threshold(self) -> Self {
        Self {
            fixed_threshold: true,
            ..self
        }
    }

    /// Number of cells in the slice of an update: half of the cells it visits, whose features must fit a binding.
    fn n_sweep(
        profile: &DeviceProfile,
        config: &ResolvedConfig,
        occupancy: &Occupancy,
        field: &Field,
    ) -> u32 {
        let cells = occupancy.n_cells(config.aabb_scale());
        let per_update = resolved(occupancy.cells_per_update);
        let mut n_sweep = (per_update.clamp(2048, cells) / 2).next_multiple_of(64);
        let is_slow = |n: u32| {
            let operations = u64::from(2 * n) * field.multiply_adds() * 2;
            operations > profile.class.max_stage_operations()
        };
        let fits = |n: u32| field.fits(profile, u64::from(2 * n), 0, SavedActivations::Nothing);
        while n_sweep > 1024 && (is_slow(n_sweep) || !fits(n_sweep)) {
            n_sweep = (n_sweep / 2).next_multiple_of(64);
        }
        n_sweep
    }

    /// Reset the grid, with every cell occupied.
    pub fn reset(&self, gpu: &Gpu, seed: u32) {
        let cells = self.n_cells() as usize;
        gpu.write(&self.thickness, 0, &vec![UNVISITED; cells]);
        gpu.write(&self.bits, 0, &vec![u32::MAX; cells / 32]);
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.seed = seed;
        state.n_marched = self.cells_per_update();
        gpu.write(&self.counts.state, 0, &[state]);
    }

    /// Number of cells.
    #[must_use]
    pub fn n_cells(&self) -> u32 {
        self.resolution.pow(3) * self.cascades
    }

    /// Number of cells that an update visits.
    #[must_use]
    pub fn cells_per_update(&self) -> u32 {
        2 * self.n_sweep
    }

    fn kernel(
        &self,
        gpu: &Gpu,
        field: &Field,
        pass: &str,
        entry: &str,
        more: Defines,
    ) -> Result<std::sync::Arc<Kernel>, GpuError> {
        let defines = activation_defines(&field.config)
            .merge(self.scene.defines())
            .set("resolution", self.resolution)
            .set("n_sweep", self.n_sweep)
            .set("density_stride", RAW_DENSITY_STRIDE)
            .set_f32("dt", self.dt)
            .set_f32("decay", self.decay)
            .set_f32("threshold", self.threshold)
            .set("fixed_threshold", self.fixed_threshold)
            .set("pass", pass)
            .merge(more);
        gpu.kernel("occupancy", entry, &defines)
    }

    /// Create the stages that permanently disable the cells that no camera sees, one per cascade, and rebuild the bitfield.
    pub fn mark_unseen(
        &self,
        gpu: &Gpu,
        field: &Field,
        images: &ImageSet,
    ) -> Result<Vec<Stage>, GpuError> {
        let bindings = [("cameras", &images.cameras), ("thickness", &self.thickness)];
        let cells = u64::from(self.resolution.pow(3));
        let mut stages = Vec::new();
        for cascade in 0..self.cascades {
            let mut stage = gpu.stage("mark unseen");
            let more = Defines::new()
                .set("n_cameras", images.len())
                .set("cascade", cascade);
            let kernel = self.kernel(gpu, field, "mark", "mark_unseen", more)?;
            stage.dispatch(&kernel, &bindings, Groups::covering(cells, 64))?;
            stages.push(stage);
        }
        let mut stage = gpu.stage("occupancy bits");
        self.rebuild(gpu, field, &mut stage)?;
        stages.push(stage);
        Ok(stages)
    }

    /// Create the stages of an update.
    pub fn update(
        &self,
        gpu: &Gpu,
        field: &Field,
        parameters: &FieldParameters,
    ) -> Result<Vec<Stage>, GpuError> {
        let mut sample = gpu.stage("occupancy samples");
        let bindings = [
            ("counts", &self.counts.state),
            ("occupancy", &self.bits),
            ("cells", &self.cells),
            ("samples", &self.samples),
            ("raw_density", &self.buffers.raw_density),
            ("thickness", &self.thickness),
        ];
        let groups = |n: u32| Groups::covering(u64::from(n), 64);
        for (entry, n) in [
            ("sweep_positions", self.n_sweep),
            ("occupied_positions", self.n_sweep),
        ] {
            let kernel = self.kernel(gpu, field, "positions", entry, Defines::new())?;
            sample.dispatch(&kernel, &bindings, groups(n))?;
        }
        let (mut encode, mut density) = (
            gpu.stage("occupancy encode"),
            gpu.stage("occupancy density"),
        );
        field.density(
            &mut encode,
            &mut density,
            &self.counts,
            parameters,
            &self.samples,
            &self.buffers,
        )?;
        self.counts.publish(&mut sample)?;
        let mut update = gpu.stage("occupancy update");
        for (entry, n) in [
            ("update_swept", self.n_sweep),
            ("update_occupied", self.n_sweep),
        ] {
            let kernel = self.kernel(gpu, field, "update", entry, Defines::new())?;
            update.dispatch(&kernel, &bindings, groups(n))?;
        }
        self.rebuild(gpu, field, &mut update)?;
        update.run(
            "entry/step",
            "next_phase",
            &Defines::new().set("pass", "next_phase"),
            &[("state", &self.counts.state)],
            Groups::Direct([1, 1, 1]),
        )?;
        Ok(vec![sample, encode, density, update])
    }

    /// Add: raise cells to at least the optical thickness of the samples in them that `pass` evaluated.
    pub fn raise_sampled_cells(&self, stage: &mut Stage, pass: &Pass) -> Result<(), GpuError> {
        let raw = pass.field.raw_outputs(&pass.buffers);
        let stride = Defines::new().set("density_stride", raw.density_stride);
        let kernel = self.kernel(stage.gpu(), &pass.field, "sampled", "raise_sampled", stride)?;
        let bindings = [
            ("counts", &pass.counts.state),
            ("kept_samples", &pass.kept.samples),
            ("raw_density", &raw.density),
            ("thickness", &self.thickness),
        ];
        let groups = pass.counts.groups(StepState::KEPT, 64, 1);
        stage.dispatch(&kernel, &bindings, groups)?;
        Ok(())
    }

    /// Add: rebuild the bitfield from the thickness.
    fn rebuild(&self, gpu: &Gpu, field: &Field, stage: &mut Stage) -> Result<(), GpuError> {
        let bindings = [
            ("thickness", &self.thickness),
            ("partial_sums", &self.partial_sums),
            ("total", &self.total),
            ("occupancy", &self.bits),
        ];
        let sums = self.kernel(gpu, field, "sum_slices", "sum_slices", Defines::new())?;
        stage.dispatch(&sums, &bindings, Groups::Direct([64, 1, 1]))?;
        let total = self.kernel(gpu, field, "reduce_sums", "reduce_sums", Defines::new())?;
        stage.dispatch(&total, &bindings, Groups::Direct([1, 1, 1]))?;
        for cascade in 0..self.cascades {
            let bits = self.kernel(
                gpu,
                field,
                "bits",
                "bits",
                Defines::new().set("cascade", cascade),
            )?;
            let words = u64::from(self.resolution.pow(3) / 32);
            stage.dispatch(&bits, &bindings, Groups::covering(words, 64))?;
        }
        Ok(())
    }
}
