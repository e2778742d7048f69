//! Occupancy grid: `shaders/occupancy.wgsl` (Müller et al. 2022, appendix E.2).
//!
//! Per cell the optical thickness of the field over the shortest step, kept as a decaying maximum of samples at random
//! places in the cell. An update visits a slice of the cells, in a fixed permutation, and as many occupied ones.

use crate::compositing::activation_defines;
use crate::config::{Config, Sampler};
use crate::field::{Field, FieldBuffers, FieldParameters, RAW_DENSITY_STRIDE};
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Groups, Kernel, Stage, StepState};
use crate::images::ImageSet;
use crate::sampling::{SceneBox, ray_march};

/// The grid, and the buffers of its updates.
#[derive(Debug, Clone)]
pub struct OccupancyGrid {
    /// Cells per axis.
    pub resolution: u32,
    /// Cubes of doubling side.
    pub cascades: u32,
    /// Optical thickness of each cell; below 0: never occupied.
    pub thickness: Buffer,
    /// One bit a cell.
    pub bits: Buffer,
    /// Counts of the updates; its `occupancy_phase` is the number done.
    pub counts: Counts,
    scene: SceneBox,
    cells: Buffer,
    samples: Buffer,
    partial_sums: Buffer,
    total: Buffer,
    buffers: FieldBuffers,
    n_sweep: u32,
    n_occupied: u32,
    decay: f32,
    threshold: f32,
    dt: f32,
}

/// Value of a cell that no update has visited yet: occupied.
pub const UNVISITED: f32 = 1e30;

impl OccupancyGrid {
    /// A grid with every cell occupied.
    ///
    /// # Errors
    /// Those of allocation.
    pub fn new(gpu: &Gpu, config: &Config, field: &Field) -> Result<Self, GpuError> {
        let scene = SceneBox::of(config);
        let resolution = config.occupancy.resolution;
        let cells = resolution.pow(3) * scene.cascades();
        let per_update = config
            .occupancy
            .cells_per_update
            .unwrap_or(1 << 14)
            .clamp(2048, cells);
        let n_sweep = (per_update / 2).next_multiple_of(64);
        let n_occupied = n_sweep;
        let n = u64::from(n_sweep + n_occupied);
        // A cell is visited once every `cells / n_sweep` updates. Instant-NGP decays every cell at every update and
        // visits a quarter of them, so over four updates' worth of visits the decay is the same.
        let steps = match config.passes[0].sampler {
            Sampler::RayMarch { steps, .. } => steps,
            Sampler::Stratified { .. } => 1024,
        };
        let counts = Counts::new(gpu, "occupancy")?;
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.seed = config.seed;
        state.n_marched = n_sweep + n_occupied;
        gpu.write(&counts.state, 0, &[state]);
        Ok(Self {
            resolution,
            cascades: scene.cascades(),
            thickness: gpu.buffer_with("occupancy thickness", &vec![UNVISITED; cells as usize])?,
            bits: gpu.buffer_with("occupancy bits", &vec![u32::MAX; cells as usize / 32])?,
            counts,
            cells: gpu.buffer("occupancy cells", n * 4)?,
            samples: gpu.buffer("occupancy samples", n.next_multiple_of(512) * 16)?,
            partial_sums: gpu.buffer("occupancy partial sums", 4096 * 8)?,
            total: gpu.buffer("occupancy total", 8)?,
            buffers: field.buffers(gpu, n, 512)?,
            n_sweep,
            n_occupied,
            decay: config.occupancy.decay.powi(4),
            threshold: config.occupancy.threshold,
            dt: ray_march::dt_min(steps) / scene.scale,
            scene,
        })
    }

    /// Number of cells.
    #[must_use]
    pub fn n_cells(&self) -> u32 {
        self.resolution.pow(3) * self.cascades
    }

    /// Cells that one update visits.
    #[must_use]
    pub fn cells_per_update(&self) -> u32 {
        self.n_sweep + self.n_occupied
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
            .set("n_occupied", self.n_occupied)
            .set("density_stride", RAW_DENSITY_STRIDE)
            .set("dt", format!("{:?}", self.dt))
            .set("decay", format!("{:?}", self.decay))
            .set("threshold", format!("{:?}", self.threshold))
            .set("pass", pass)
            .merge(more);
        Kernel::new(gpu, "occupancy", entry, &defines)
    }

    /// A stage that switches off for good every cell that no camera sees.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn mark_unseen(
        &self,
        gpu: &Gpu,
        field: &Field,
        images: &ImageSet,
    ) -> Result<Stage, GpuError> {
        let mut stage = Stage::new("mark unseen");
        let more = Defines::new().set("n_cameras", images.len());
        let kernel = self.kernel(gpu, field, "mark", "mark_unseen", more)?;
        let bindings = [("cameras", &images.cameras), ("thickness", &self.thickness)];
        stage.dispatch(
            gpu,
            &kernel,
            &bindings,
            Groups::covering(u64::from(self.n_cells()), 64),
        )?;
        self.rebuild(gpu, field, &mut stage)?;
        Ok(stage)
    }

    /// The stages of one update.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn update(
        &self,
        gpu: &Gpu,
        field: &Field,
        parameters: &FieldParameters,
    ) -> Result<Vec<Stage>, GpuError> {
        let mut sample = Stage::new("occupancy samples");
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
            ("occupied_positions", self.n_occupied),
        ] {
            let kernel = self.kernel(gpu, field, "positions", entry, Defines::new())?;
            sample.dispatch(gpu, &kernel, &bindings, groups(n))?;
        }
        let mut density = Stage::new("occupancy density");
        let mut network = Stage::new("occupancy density");
        self.counts.groups(gpu, Count::Marched, 64, 1);
        field.density(
            gpu,
            &mut density,
            &mut network,
            &self.counts,
            parameters,
            &self.samples,
            &self.buffers,
        )?;
        self.counts.publish(gpu, &mut sample)?;
        density.append(network);
        let mut update = Stage::new("occupancy update");
        for (entry, n) in [("sweep", self.n_sweep), ("raise", self.n_occupied)] {
            let kernel = self.kernel(gpu, field, "update", entry, Defines::new())?;
            update.dispatch(gpu, &kernel, &bindings, groups(n))?;
        }
        self.rebuild(gpu, field, &mut update)?;
        let kernel = Kernel::new(
            gpu,
            "entry/step",
            "next_phase",
            &Defines::new().set("pass", "next_phase"),
        )?;
        update.dispatch(
            gpu,
            &kernel,
            &[("state", &self.counts.state)],
            Groups::Direct([1, 1, 1]),
        )?;
        Ok(vec![sample, density, update])
    }

    /// Add: rebuild the bits from the thickness.
    fn rebuild(&self, gpu: &Gpu, field: &Field, stage: &mut Stage) -> Result<(), GpuError> {
        let bindings = [
            ("thickness", &self.thickness),
            ("partial_sums", &self.partial_sums),
            ("total", &self.total),
            ("occupancy", &self.bits),
        ];
        let mean = self.kernel(gpu, field, "mean", "mean", Defines::new())?;
        stage.dispatch(gpu, &mean, &bindings, Groups::Direct([64, 1, 1]))?;
        let fold = self.kernel(gpu, field, "fold", "fold", Defines::new())?;
        stage.dispatch(gpu, &fold, &bindings, Groups::Direct([1, 1, 1]))?;
        for cascade in 0..self.cascades {
            let bits = self.kernel(
                gpu,
                field,
                "bits",
                "bits",
                Defines::new().set("cascade", cascade),
            )?;
            let words = u64::from(self.resolution.pow(3) / 32);
            stage.dispatch(gpu, &bits, &bindings, Groups::covering(words, 64))?;
        }
        Ok(())
    }
}
