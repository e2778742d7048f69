//! Distillation of a trained field, the teacher, into a grid of networks, the student (Reiser et al. 2021):
//! `shaders/distillation.wgsl`.
//!
//! [`extract`] first evaluates the teacher's density to find the occupied cells; network cells without any get no network. Each
//! distillation step then evaluates teacher and student at random points, drawn on the device, in random directions, and
//! compares colour and opacity. Points are drawn in occupied cells of the occupancy grid, since rays place samples nowhere
//! else, and not in the whole cell of a network as in the paper.

mod extraction;

pub use extraction::{Extraction, extract};

use extraction::{max_overlaps, occupied, overlapping_cells, voxel};

use crate::aabb::Aabb;
use crate::compositing::{activation_defines, output_defines};
use crate::config::{Distillation, ResolvedConfig};
use crate::field::{Field, FieldBuffers, FieldParameters, SAMPLE_ALIGNMENT};
use crate::gpu::{
    Allocator, Buffer, Defines, DeviceProfile, Gpu, GpuError, Groups, Planner, Stage,
};
use crate::network::{CellGrid, GridTooLarge, SavedActivations, binned};
use crate::pass::{Capacity, Pass};
use crate::sampling::SceneBox;
use crate::step_state::StepState;

const FILE: &str = "distillation";

/// An error of a distillation.
#[derive(Debug, thiserror::Error)]
pub enum DistillationError {
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The student's configuration has no `[distillation]` or no `[occupancy]`.
    #[error("the student's configuration needs the tables `distillation` and `occupancy`")]
    NotADistillation,
    /// No cell of the teacher is occupied.
    #[error(
        "the teacher has no occupied cell: no optical thickness of a step exceeds {threshold}: train it longer, or lower distillation.threshold with --set"
    )]
    Empty {
        /// Threshold of the optical thickness.
        threshold: f32,
    },
    /// The student's grid contains less than 1 % of the teacher's occupied cells.
    #[error(
        "the student's grid, cells.low = {:?} and cells.high = {:?}, misses 99 % or more of what the teacher sees, which lies between {:?} and {:?} of the scene's box: leave both out, or move them with --set",
        grid.low, grid.high, dense.low, dense.high
    )]
    Misses {
        /// Bounds of the student's grid, in the scene's box.
        grid: Aabb<f32>,
        /// Bounds of the occupied cells, in the scene's box.
        dense: Aabb<f32>,
    },
    /// The grid needs too many networks.
    #[error(transparent)]
    GridTooLarge(#[from] GridTooLarge),
    /// The caller stopped the extraction.
    #[error("stopped")]
    Stopped,
}

/// A trained field that is distilled into a grid of networks.
#[derive(Debug)]
pub struct Teacher {
    /// Configuration of the teacher.
    pub config: ResolvedConfig,
    field: Field,
    parameters: FieldParameters,
}

impl Teacher {
    /// Return the number of multiply-adds of extracting the occupancy, and of evaluating the teacher in one distillation step,
    /// for a student with configuration `config` whose buffers hold `kept` samples.
    #[must_use]
    pub fn multiply_adds(
        &self,
        profile: &DeviceProfile,
        config: &ResolvedConfig,
        kept: u32,
    ) -> [f64; 2] {
        let parts = config.passes[0].field.cells.as_ref();
        let Some(((cells, distillation), occupancy)) = parts
            .zip(config.distillation.as_ref())
            .zip(config.occupancy.as_ref())
        else {
            return [0.0; 2];
        };
        let cascades = SceneBox::of(config).cascades();
        let voxels = f64::from(occupancy.resolution).powi(3) * f64::from(cascades);
        let places = voxels * f64::from(distillation.supersampling);
        let n_points = Distiller::points(profile, distillation, self, cells.n_networks(), kept);
        let density = self.field.density.layout().multiply_adds() as f64;
        let all = self.field.multiply_adds() as f64;
        [places * density, f64::from(n_points) * all]
    }

    /// Create a teacher from the last field of `config` and its parameters.
    #[must_use]
    pub fn new(config: ResolvedConfig, field: Field, parameters: FieldParameters) -> Self {
        Self {
            config,
            field,
            parameters,
        }
    }
}

/// Buffers of the distillation steps, in which teacher and student are evaluated and compared.
#[derive(Debug)]
pub struct Distiller {
    grid: CellGrid,
    /// Number of points per step.
    pub n_points: u32,
    /// Number of directions per step, which the points share.
    pub n_rays: u32,
    alpha_distance: f32,
    voxels: Buffer,
    first_voxels: Buffer,
    /// Cell of each network.
    cells: Buffer,
    occupancy: [u32; 2],
    /// The teacher's outputs at the points: colour and density.
    pub targets: Buffer,
    buffers: FieldBuffers,
}

impl Distiller {
    /// Return the number of points per step: `points_per_network` for each network, or as many as the buffers of
    /// student and teacher hold.
    fn points(
        profile: &DeviceProfile,
        config: &Distillation,
        teacher: &Teacher,
        networks: u32,
        kept: u32,
    ) -> u32 {
        let wanted = u64::from(config.points_per_network) * u64::from(networks);
        let mut n_points = u32::try_from(wanted.min(u64::from(kept))).unwrap_or(u32::MAX);
        let most = profile.class.max_stage_operations();
        let fits = |n: u32| {
            let operations = 2 * u64::from(n) * teacher.field.multiply_adds();
            operations <= most
                && teacher
                    .field
                    .fits(profile, 0, u64::from(n), SavedActivations::Nothing)
        };
        while n_points > 512 && !fits(n_points) {
            n_points /= 2;
        }
        n_points
    }

    /// Allocate the buffers of the distillation steps of a student; `None` if `config` has no
    /// `distillation`, `occupancy` or `cells`.
    pub fn of_config(
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
        teacher: &Teacher,
        capacity: Capacity,
    ) -> Result<Option<Self>, GpuError> {
        let cells = config.passes[0].field.cells.as_ref();
        let (Some(cells), Some(distillation), Some(occupancy)) =
            (cells, &config.distillation, &config.occupancy)
        else {
            return Ok(None);
        };
        let grid = CellGrid::new(cells);
        let profile = allocator.profile();
        let n_points = Self::points(
            profile,
            distillation,
            teacher,
            grid.n_networks,
            capacity.kept,
        );
        let cascades = SceneBox::of(config).cascades();
        let networks = u64::from(grid.n_networks);
        let pieces = max_overlaps(&grid, occupancy.resolution, cascades);
        let rows = u64::from(n_points).next_multiple_of(SAMPLE_ALIGNMENT);
        let nothing = SavedActivations::Nothing;
        Ok(Some(Self {
            n_points,
            n_rays: n_points.min(capacity.rays),
            alpha_distance: distillation.alpha_distance,
            voxels: allocator.buffer("voxels of networks", pieces * 4)?,
            first_voxels: allocator.buffer("first voxels", (networks + 1) * 4)?,
            cells: allocator.buffer("cells of networks", networks * 4)?,
            occupancy: [occupancy.resolution, cascades],
            targets: allocator.buffer("teacher outputs", rows * 16)?,
            buffers: teacher
                .field
                .buffers(allocator, "teacher", 0, rows, nothing)?,
            grid,
        }))
    }

    /// Return the number of bytes of the teacher's parameters and of the buffers that [`Self::of_config`] allocates.
    pub fn bytes(
        profile: &DeviceProfile,
        config: &ResolvedConfig,
        teacher: &Teacher,
        capacity: Capacity,
    ) -> Result<u64, GpuError> {
        let planner = Planner::new(profile);
        FieldParameters::new(&planner, &teacher.field)?;
        Self::of_config(&planner, config, teacher, capacity)?;
        Ok(planner.bytes())
    }

    /// Set the cell of each network from `map`, the network of each cell, and the occupied cells of the
    /// occupancy grid from `bits`.
    pub fn set_cells_and_occupancy(&self, gpu: &Gpu, map: &[u32], bits: &[u32]) {
        let [side, cascades] = self.occupancy;
        let mut voxels = vec![Vec::<u32>::new(); self.grid.n_networks as usize];
        let mut cells = vec![0; voxels.len()];
        for (cell, &network) in map.iter().enumerate() {
            if let Some(of_network) = cells.get_mut(network as usize) {
                *of_network = cell as u32;
            }
        }
        for index in occupied(bits) {
            let voxel = voxel(index, side as usize, cascades);
            if !voxel.overlaps(&self.grid.bounds) {
                continue;
            }
            for cell in overlapping_cells(&voxel, &self.grid) {
                let network = map.get(cell).copied().unwrap_or(binned::NO_NETWORK) as usize;
                if let Some(of_network) = voxels.get_mut(network) {
                    of_network.push(index as u32);
                }
            }
        }
        let mut firsts = vec![0];
        for of_network in &voxels {
            firsts.push(firsts[firsts.len() - 1] + of_network.len() as u32);
        }
        gpu.write(&self.first_voxels, 0, &firsts);
        gpu.write(&self.voxels, 0, &voxels.concat());
        gpu.write(&self.cells, 0, &cells);
    }

    fn defines(&self, pass: &str) -> Defines {
        self.grid
            .defines()
            .set("pass", pass)
            .set("networks", self.grid.n_networks)
            .set("n_points", self.n_points)
            .set("shift", self.n_points % self.grid.n_networks)
            .set("n_rays", self.n_rays)
            .set("side", self.occupancy[0])
            .set("cascades", self.occupancy[1])
            .set_f32("alpha_distance", self.alpha_distance)
    }

    /// Create the stages of a distillation step up to the gradients of the student's raw outputs.
    pub fn stages(
        &self,
        gpu: &Gpu,
        teacher: &Teacher,
        student: &Pass,
        parameters: &FieldParameters,
        ray_losses: &Buffer,
    ) -> Result<Vec<Stage>, GpuError> {
        let counts = &student.counts;
        let samples = student.kept_samples();
        let activations =
            activation_defines(&teacher.config.passes[teacher.config.passes.len() - 1].field);
        let of_student = activation_defines(&student.field.config);

        let mut draw = gpu.stage("draw");
        let once = Groups::Direct([1, 1, 1]);
        let defines = self.defines("begin").merge(of_student.clone());
        draw.run(FILE, "begin", &defines, &[("state", &counts.state)], once)?;
        counts.publish(&mut draw)?;
        let per_point = || counts.groups(StepState::KEPT, 64, 1);
        let bindings = [
            ("counts", &counts.state),
            ("voxels", &self.voxels),
            ("first_voxels", &self.first_voxels),
            ("cells", &self.cells),
            ("samples", samples.positions),
            ("sample_rays", samples.sample_rays),
            ("rays", samples.rays),
        ];
        let defines = self.defines("draw").merge(of_student.clone());
        draw.run(FILE, "draw", &defines, &bindings, per_point())?;

        let mut ask = gpu.stage("teacher encode");
        let field = &teacher.field;
        let (of_teacher, buffers) = (&teacher.parameters, &self.buffers);
        field.encode_kept(&mut ask, of_teacher, &samples, buffers)?;
        let mut answer = gpu.stage("teacher");
        field.forward(&mut answer, of_teacher, &samples, buffers, true)?;
        let raw = field.raw_outputs(&self.buffers);
        let defines = self
            .defines("targets")
            .merge(activations)
            .merge(output_defines(&raw));
        let bindings = [
            ("counts", &counts.state),
            ("raw_density", &raw.density),
            ("raw_color", &raw.color),
            ("targets", &self.targets),
        ];
        answer.run(FILE, "teacher_targets", &defines, &bindings, per_point())?;

        let mut encode = gpu.stage("encode");
        let (field, buffers) = (&student.field, &student.buffers);
        field.encode_kept(&mut encode, parameters, &samples, buffers)?;
        let mut forward = gpu.stage("forward");
        field.forward(&mut forward, parameters, &samples, buffers, true)?;
        let raw = student.field.raw_outputs(&student.buffers);
        let d_raw = student.field.d_raw_outputs(&student.buffers);
        let defines = self
            .defines("compare")
            .merge(of_student)
            .merge(output_defines(&raw));
        let bindings = [
            ("counts", &counts.state),
            ("targets", &self.targets),
            ("raw_density", &raw.density),
            ("raw_color", &raw.color),
            ("d_density", &d_raw.density),
            ("d_color", &d_raw.color),
            ("ray_losses", ray_losses),
        ];
        let mut compare = gpu.stage("compare");
        let per_ray = counts.groups(StepState::RAYS, 64, 1);
        compare.run(FILE, "compare", &defines, &bindings, per_ray)?;
        Ok(vec![draw, ask, answer, encode, forward, compare])
    }
}
