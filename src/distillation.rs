//! Distillation (Reiser et al. 2021): a grid of networks learns what a trained field says at random points of its cells, in
//! random directions: `shaders/distillation.wgsl`.
//!
//! First the teacher is asked where it is dense ([`extract`]): cells with nothing in them get no network. Then every step asks
//! it for colour and density at points that are drawn on the device, and the student for its own. As rays stop nowhere else,
//! points are drawn where the occupancy grid is set, rather than in the whole of a network's cell as in the paper.

use std::time::Duration;

use crate::compositing::{activation_defines, output_defines};
use crate::config::{Cells, Distillation, Occupancy, ResolvedConfig};
use crate::field::{Field, FieldBuffers, FieldParameters, ROWS};
use crate::gpu::{
    Allocator, Buffer, Defines, Gpu, GpuError, Groups, Planner, Profile, Stage, Submitter,
};
use crate::images::ImageSet;
use crate::network::{CellGrid, GridTooLarge, SavedActivations, binned};
use crate::occupancy::OccupancyGrid;
use crate::pass::{Capacity, Pass};
use crate::sampling::SceneBox;
use crate::step_state::StepState;

const FILE: &str = "distillation";

/// Why a field cannot be distilled.
#[derive(Debug, thiserror::Error)]
pub enum DistillationError {
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// Nothing is dense.
    #[error(
        "the teacher has no occupied cell: no optical thickness of a step exceeds {threshold}: train it longer, or lower distillation.threshold with --set"
    )]
    Empty {
        /// What cells were compared with.
        threshold: f32,
    },
    /// The student's grid lies elsewhere.
    #[error(
        "the student's grid, cells.low = {low:?} and cells.high = {high:?}, misses 99 % or more of what the teacher sees, which lies between {dense_low:?} and {dense_high:?} of the scene's box: leave both out, or move them with --set"
    )]
    Misses {
        /// Lowest corner of the grid.
        low: [f32; 3],
        /// Highest corner of the grid.
        high: [f32; 3],
        /// Lowest corner of what is dense.
        dense_low: [f32; 3],
        /// Highest corner of what is dense.
        dense_high: [f32; 3],
    },
    /// The networks that the teacher needs are too many.
    #[error(transparent)]
    GridTooLarge(#[from] GridTooLarge),
    /// Told to stop.
    #[error("stopped")]
    Stopped,
}

/// A trained field that a grid of networks learns from.
#[derive(Debug)]
pub struct Teacher {
    /// Its configuration.
    pub config: ResolvedConfig,
    field: Field,
    parameters: FieldParameters,
}

impl Teacher {
    /// Multiply-adds of asking it where it is dense, and of one step's lessons, for a student of `config`, `kept` of whose
    /// samples fit at once.
    #[must_use]
    pub fn multiply_adds(&self, profile: &Profile, config: &ResolvedConfig, kept: u32) -> [f64; 2] {
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

    /// The last field of `config`, with its parameters.
    #[must_use]
    pub fn new(config: ResolvedConfig, field: Field, parameters: FieldParameters) -> Self {
        Self {
            config,
            field,
            parameters,
        }
    }
}

/// Where a teacher is dense, and the grid that covers it.
#[derive(Debug, Clone)]
pub struct Extraction {
    /// Of the occupancy grid.
    pub thickness: Vec<f32>,
    /// Of the occupancy grid.
    pub bits: Vec<u32>,
    /// The grid of networks, over the box around what is dense.
    pub cells: Cells,
    /// Network of each cell, in the order (z, y, x).
    pub map: Vec<u32>,
}

/// Ask `teacher` for its density in every cell of the occupancy grid of `config`, `config.distillation.supersampling` times;
/// cells that no camera of `images` sees count as empty. The grid has `max_networks` at most, if given. `keep_going` hears the share that is done. Blocks.
///
/// # Errors
/// [`DistillationError`]
pub fn extract(
    gpu: &Gpu,
    config: &ResolvedConfig,
    teacher: &Teacher,
    images: &ImageSet,
    max_networks: Option<u32>,
    keep_going: &mut dyn FnMut(f64) -> bool,
) -> Result<Extraction, DistillationError> {
    let (Some(occupancy), Some(distillation)) = (&config.occupancy, &config.distillation) else {
        return Err(DistillationError::Empty { threshold: 0.0 });
    };
    let occupancy = Occupancy {
        decay: 1.0,
        threshold: distillation.threshold,
        ..occupancy.clone()
    };
    let grid = OccupancyGrid::new(gpu, config, &occupancy, &teacher.field)?.strict();
    let mut submitter = Submitter::new(Duration::from_millis(50));
    let unseen = grid.mark_unseen(gpu, &teacher.field, images)?;
    submitter.run(gpu, &unseen.iter().collect::<Vec<_>>())?;
    let update = grid.update(gpu, &teacher.field, &teacher.parameters)?;
    let update: Vec<&Stage> = update.iter().collect();
    // Half of what an update visits is new.
    let per_update = u64::from(grid.cells_per_update() / 2);
    let visits = u64::from(grid.n_cells()) * u64::from(distillation.supersampling);
    let n = visits.div_ceil(per_update);
    for i in 0..n {
        submitter.run(gpu, &update)?;
        if !keep_going((i + 1) as f64 / n as f64) {
            return Err(DistillationError::Stopped);
        }
    }
    let cells = grid.n_cells() as usize;
    let mut bits: Vec<u32> = gpu.read(&grid.bits, 0, cells / 32)?;
    let thickness: Vec<f32> = gpu.read(&grid.thickness, 0, cells)?;
    let voxels: Vec<[[f32; 3]; 2]> = occupied(&bits)
        .map(|cell| voxel(cell, grid.resolution as usize, grid.cascades))
        .collect();
    if voxels.is_empty() {
        return Err(DistillationError::Empty {
            threshold: occupancy.threshold,
        });
    }
    let field = &config.passes[0].field;
    let room = Room {
        wanted: max_networks,
        bytes: u64::from(Field::len_of_networks(field)) * 4,
        limit: gpu.max_binding_bytes(),
    };
    let (cells, map) = cover(&voxels, field.cells.clone().unwrap_or_default(), room)?;
    // Rays need not stop, nor lessons be about, where there is no network.
    for index in occupied(&bits.clone()) {
        let [low, high] = voxel(index, grid.resolution as usize, grid.cascades);
        if (0..3).any(|a| high[a] <= cells.low[a] || low[a] >= cells.high[a]) {
            bits[index / 32] &= !(1 << (index % 32));
        }
    }
    Ok(Extraction {
        thickness,
        bits,
        cells,
        map,
    })
}

/// The cells of an occupancy grid whose bits are set.
fn occupied(bits: &[u32]) -> impl Iterator<Item = usize> + '_ {
    (0..32 * bits.len()).filter(|cell| bits[cell / 32] >> (cell % 32) & 1 == 1)
}

/// Corners in the scene's box of cell `index` of an occupancy grid.
fn voxel(index: usize, side: usize, cascades: u32) -> [[f32; 3]; 2] {
    let per_cascade = side.pow(3);
    let (cascade, within) = (index / per_cascade, index % per_cascade);
    let corner = [within % side, within / side % side, within / (side * side)];
    // Cascades double in size; the box is the largest of them.
    let share = (cascade as f32 + 1.0 - cascades as f32).exp2();
    let place = |i: usize| (i as f32 / side as f32 - 0.5) * share + 0.5;
    [corner.map(place), corner.map(|i| place(i + 1))]
}

/// How many networks there may be.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// As many as these, in the finest cells that allow it, where a number is given.
    wanted: Option<u32>,
    /// Bytes of a network's weights.
    bytes: u64,
    /// Bytes that the weights of all may take.
    limit: u64,
}

/// The grid as `wanted`, or the finest with as many networks as `room` wants, over the box around `voxels` as far as that lies
/// in the wanted one, with networks in the cells that any of them reaches into.
fn cover(
    voxels: &[[[f32; 3]; 2]],
    wanted: Cells,
    room: Room,
) -> Result<(Cells, Vec<u32>), DistillationError> {
    let (mut dense_low, mut dense_high) = ([1.0_f32; 3], [0.0_f32; 3]);
    for [low, high] in voxels {
        for a in 0..3 {
            dense_low[a] = dense_low[a].min(low[a]).max(0.0);
            dense_high[a] = dense_high[a].max(high[a]).min(1.0);
        }
    }
    let (low, high) = (wanted.low, wanted.high);
    let within = |[from, to]: &&[[f32; 3]; 2]| (0..3).all(|a| from[a] < high[a] && to[a] > low[a]);
    let all = voxels.len();
    let voxels: Vec<_> = voxels.iter().filter(within).collect();
    let mut cells = wanted;
    for a in 0..3 {
        cells.low[a] = low[a].max(dense_low[a]);
        cells.high[a] = high[a].min(dense_high[a]);
    }
    // Stray cells are no scene.
    if 100 * voxels.len() < all || (0..3).any(|a| cells.low[a] >= cells.high[a]) {
        return Err(DistillationError::Misses {
            low,
            high,
            dense_low,
            dense_high,
        });
    }
    let occupied = |cells: &Cells| {
        let grid = CellGrid::new(cells);
        let mut map = vec![binned::NONE; grid.n_cells() as usize];
        for voxel in &voxels {
            for cell in reached(voxel, &grid) {
                map[cell] = 0;
            }
        }
        map
    };
    let count = |cells: &Cells| occupied(cells).iter().map(|&n| u32::from(n == 0)).sum();
    if let Some(finest) = room
        .wanted
        .and_then(|most| CellGrid::finest(&cells, most, count))
    {
        cells = finest;
    }
    cells.resolution = Some(cells.resolution());
    let mut map = occupied(&cells);
    let mut networks = 0;
    for network in map.iter_mut().filter(|network| **network == 0) {
        *network = networks;
        networks += 1;
    }
    let most = u32::try_from(room.limit / room.bytes.max(1)).unwrap_or(u32::MAX);
    let most = most.min(Cells::MAX_NETWORKS);
    if networks > most {
        let finest = CellGrid::finest(&cells, most, count);
        return Err(DistillationError::GridTooLarge(GridTooLarge {
            networks,
            bytes: u64::from(networks) * room.bytes,
            limit: room.limit,
            longest: finest.map_or(1, |cells| cells.longest),
        }));
    }
    cells.occupied = Some(networks);
    Ok((cells, map))
}

/// The cells of `grid` that a box reaches into.
fn reached([low, high]: &[[f32; 3]; 2], grid: &CellGrid) -> impl Iterator<Item = usize> {
    // A face that two cells share belongs to neither more than to the other.
    const FACE: f32 = 1e-3;
    let (n, per_unit) = (grid.resolution, grid.per_unit());
    let [x, y, z] = std::array::from_fn(|a| {
        let [low, high] = [low, high].map(|x| (x[a] - grid.low[a]) * per_unit[a]);
        let face = FACE.min((high - low) / 2.0);
        let last = ((high - face).max(0.0) as u32).min(n[a] - 1);
        ((low + face).max(0.0) as u32).min(last)..=last
    });
    z.flat_map(move |z| y.clone().map(move |y| (y, z)))
        .flat_map(move |(y, z)| x.clone().map(move |x| ((z * n[1] + y) * n[0] + x) as usize))
}

/// Pairs at most of a network's cell and a voxel that reaches into it, of `cascades` of `side`³ voxels.
fn most_pieces(grid: &CellGrid, side: u32, cascades: u32) -> u64 {
    let of_cascade = |cascade: u32| {
        // What both grids cut space into, and what each cell holds of it.
        let whole: u64 = grid
            .resolution
            .iter()
            .map(|n| u64::from(side + n))
            .product();
        let share = (cascade as f32 + 1.0 - cascades as f32).exp2();
        let voxels = |a: usize| {
            let cell = (grid.high[a] - grid.low[a]) / grid.resolution[a] as f32;
            (cell * side as f32 / share) as u64 + 2
        };
        let each: u64 = (0..3).map(voxels).product();
        whole.min(each.saturating_mul(u64::from(grid.n_networks)))
    };
    (0..cascades).map(of_cascade).sum()
}

/// What asks the teacher, and compares.
#[derive(Debug)]
pub struct Distiller {
    grid: CellGrid,
    /// Points of a step.
    pub n_points: u32,
    /// Directions of a step, which points share.
    pub n_rays: u32,
    alpha_distance: f32,
    voxels: Buffer,
    first_voxels: Buffer,
    /// Cell of each network.
    cells: Buffer,
    occupancy: [u32; 2],
    /// The teacher's answers: colour and density.
    pub targets: Buffer,
    buffers: FieldBuffers,
}

impl Distiller {
    /// Points of a step: as many as the student's and the teacher's buffers hold, `points_per_network` at most.
    fn points(
        profile: &Profile,
        config: &Distillation,
        teacher: &Teacher,
        networks: u32,
        kept: u32,
    ) -> u32 {
        let wanted = u64::from(config.points_per_network) * u64::from(networks);
        let mut n_points = u32::try_from(wanted.min(u64::from(kept))).unwrap_or(u32::MAX);
        let most = profile.class.most_operations();
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

    /// Buffers for the distillation steps of a student of `config`, which holds as much as `capacity`; none where nothing is
    /// distilled.
    ///
    /// # Errors
    /// As [`Allocator::buffer`].
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
        let pieces = most_pieces(&grid, occupancy.resolution, cascades);
        let rows = u64::from(n_points).next_multiple_of(ROWS);
        let nothing = SavedActivations::Nothing;
        Ok(Some(Self {
            n_points,
            n_rays: n_points.min(capacity.rays),
            alpha_distance: distillation.alpha_distance,
            voxels: allocator.buffer("voxels of networks", pieces * 4)?,
            first_voxels: allocator.buffer("first voxels", (networks + 1) * 4)?,
            cells: allocator.buffer("cells of networks", networks * 4)?,
            occupancy: [occupancy.resolution, cascades],
            targets: allocator.buffer("teacher's answers", rows * 16)?,
            buffers: teacher
                .field
                .buffers(allocator, "teacher", 0, rows, nothing)?,
            grid,
        }))
    }

    /// Bytes that `teacher` takes, and [`Self::of_config`] allocates.
    ///
    /// # Errors
    /// As [`Self::of_config`].
    pub fn bytes(
        profile: &Profile,
        config: &ResolvedConfig,
        teacher: &Teacher,
        capacity: Capacity,
    ) -> Result<u64, GpuError> {
        let planner = Planner::new(profile);
        FieldParameters::new(&planner, &teacher.field)?;
        Self::of_config(&planner, config, teacher, capacity)?;
        Ok(planner.bytes())
    }

    /// Say which network each cell has, and which cells of the occupancy grid are dense.
    pub fn set_map(&self, gpu: &Gpu, map: &[u32], bits: &[u32]) {
        let [side, cascades] = self.occupancy;
        let mut voxels = vec![Vec::<u32>::new(); self.grid.n_networks as usize];
        let mut cells = vec![0; voxels.len()];
        for (cell, &network) in map.iter().enumerate() {
            if let Some(of_network) = cells.get_mut(network as usize) {
                *of_network = cell as u32;
            }
        }
        for index in occupied(bits) {
            let corners = voxel(index, side as usize, cascades);
            let is_outside =
                |a: usize| corners[0][a] >= self.grid.high[a] || corners[1][a] <= self.grid.low[a];
            if (0..3).any(is_outside) {
                continue;
            }
            for cell in reached(&corners, &self.grid) {
                let network = map.get(cell).copied().unwrap_or(binned::NONE) as usize;
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

    /// The stages from nothing to the gradients of the student's raw outputs.
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
        answer.run(FILE, "answer", &defines, &bindings, per_point())?;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_voxels_reach_into_get_networks() {
        let voxels = [
            [[0.25, 0.25, 0.25], [0.5, 0.5, 0.5]],
            [[0.5, 0.25, 0.25], [0.75, 0.5, 0.5]],
            [[0.5, 0.5, 0.5], [0.75, 0.75, 0.75]],
        ];
        let wanted = Cells {
            longest: 4,
            ..Cells::default()
        };
        let room = Room {
            wanted: None,
            bytes: 100,
            limit: 1 << 20,
        };
        let (cells, map) = cover(&voxels, wanted.clone(), room).unwrap();
        assert_eq!((cells.low, cells.high), ([0.25; 3], [0.75; 3]));
        assert_eq!(cells.resolution, Some([4; 3]));
        assert_eq!(cells.occupied, Some(24));
        let none = map.iter().filter(|&&n| n == binned::NONE).count();
        assert_eq!(none, 40);
        let mut numbers: Vec<u32> = map.iter().copied().filter(|&n| n != binned::NONE).collect();
        numbers.dedup();
        assert_eq!(numbers, (0..24).collect::<Vec<_>>());
        // A flat box has fewer cells across.
        let (cells, map) = cover(&voxels[..2], wanted.clone(), room).unwrap();
        assert_eq!(cells.resolution, Some([4, 2, 2]));
        assert_eq!(map, (0..16).collect::<Vec<_>>());
        // A wanted box cuts off what lies outside of it.
        let half = Cells {
            low: [0.5, 0.0, 0.0],
            ..wanted.clone()
        };
        let (half, _) = cover(&voxels, half, room).unwrap();
        assert_eq!((half.low, half.high), ([0.5, 0.25, 0.25], [0.75; 3]));
        let beside = Cells {
            low: [0.8; 3],
            ..wanted.clone()
        };
        let missed = cover(&voxels, beside, room).unwrap_err().to_string();
        assert!(missed.contains("[0.75, 0.75, 0.75]"), "{missed}");
        // The smallest cells of which 60 at most are needed.
        let sixty = Room {
            wanted: Some(60),
            ..room
        };
        let (cells, map) = cover(&voxels, wanted.clone(), sixty).unwrap();
        let networks = map.iter().filter(|&&n| n != binned::NONE).count();
        assert!(networks <= 60 && cells.memory_mib.is_none());
        let finer = Cells {
            longest: cells.longest + 1,
            resolution: None,
            occupied: None,
            ..cells
        };
        let (finer, _) = cover(&voxels, finer.clone(), room).unwrap();
        assert!(finer.occupied.unwrap() > 60);
        // What does not fit is told with what does.
        let small = Room {
            limit: 60 * 100,
            ..room
        };
        let longest = finer.longest;
        let refused = cover(
            &voxels,
            Cells {
                longest,
                ..wanted.clone()
            },
            small,
        )
        .unwrap_err();
        let DistillationError::GridTooLarge(GridTooLarge { longest, .. }) = refused else {
            panic!("{refused}");
        };
        let at = |longest: u32| {
            cover(
                &voxels,
                Cells {
                    longest,
                    ..wanted.clone()
                },
                small,
            )
        };
        assert!(at(longest).is_ok() && at(longest + 1).is_err(), "{longest}");
    }

    #[test]
    fn voxels_of_coarser_cascades_are_larger() {
        let n = 8 * 8 * 8;
        assert_eq!(voxel(0, 8, 1), [[0.0; 3], [0.125; 3]]);
        assert_eq!(voxel(0, 8, 2), [[0.25; 3], [0.3125; 3]]);
        assert_eq!(voxel(n, 8, 2), [[0.0; 3], [0.125; 3]]);
        assert_eq!(voxel(2 * n - 1, 8, 2), [[0.875; 3], [1.0; 3]]);
    }
}
