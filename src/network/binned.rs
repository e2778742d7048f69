//! Grids of networks (Reiser et al. 2021): samples are sorted by cell, and evaluated in tiles of samples of one cell:
//! `shaders/network/binned.wgsl`.
//!
//! Cells without a network and the space outside the grid are empty: samples there are sorted, but not evaluated.

use super::Batch;
use crate::aabb::Aabb;
use crate::config;
use crate::gpu::primitives::{Bin, Scan};
use crate::gpu::{
    AdapterClass, Allocator, Binding, Buffer, Count, Counts, Defines, DeviceProfile, GpuError,
    Groups, Stage,
};
use crate::step_state::StepState;

const FILE: &str = "network/binned";
/// Entry of the cell map for a cell without a network.
pub const NO_NETWORK: u32 = u32::MAX;

/// The cells of a grid of networks.
#[derive(Debug, Clone, PartialEq)]
pub struct CellGrid {
    /// Cells along x, y and z.
    pub resolution: [u32; 3],
    /// Bounds of the grid, in the scene's box [0, 1]³.
    pub bounds: Aabb<f32>,
    /// Number of cells that have a network.
    pub n_networks: u32,
}

impl CellGrid {
    /// Create the grid that a configuration describes.
    #[must_use]
    pub fn new(config: &config::Cells) -> Self {
        Self {
            resolution: config.resolution(),
            bounds: config.bounds(),
            n_networks: config.n_networks(),
        }
    }

    /// Return the grid `wanted` with the smallest near-cubic cells of which at most `most` have networks, according to `count`;
    /// `None` if there is no such grid.
    #[must_use]
    pub fn finest(
        wanted: &config::Cells,
        most: u32,
        count: impl Fn(&config::Cells) -> u32,
    ) -> Option<config::Cells> {
        let of_side = |longest: u32| config::Cells {
            resolution: None,
            longest,
            memory_mib: None,
            ..wanted.clone()
        };
        let fits = |cells: &config::Cells| {
            let total: u64 = cells.resolution().iter().map(|&n| u64::from(n)).product();
            total <= config::Cells::MAX_CELLS && count(cells) <= most
        };
        (1..=config::Cells::MAX_SIDE)
            .map(of_side)
            .take_while(fits)
            .last()
    }

    /// Number of cells.
    #[must_use]
    pub fn n_cells(&self) -> u32 {
        self.resolution.iter().product()
    }

    /// Cells per unit of length along each axis.
    #[must_use]
    pub fn per_unit(&self) -> [f32; 3] {
        std::array::from_fn(|a| {
            self.resolution[a] as f32 / (self.bounds.high[a] - self.bounds.low[a])
        })
    }

    /// Template values of the shaders that locate cells.
    #[must_use]
    pub fn defines(&self) -> Defines {
        Defines::new()
            .set("resolution", self.resolution)
            .set_f32s("low", self.bounds.low)
            .set_f32s("per_unit", self.per_unit())
    }

    /// Allocate the cell map in which every cell has a network, in order.
    pub fn full_map(&self, allocator: &dyn Allocator) -> Result<Buffer, GpuError> {
        let map: Vec<u32> = (0..self.n_cells()).collect();
        allocator.buffer_with("cells", &map)
    }
}

/// The networks of a grid have more weights than one buffer can hold, or are more than shaders can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {networks} networks of the grid, {max} at most, need {bytes} bytes in one buffer but this device binds at most {limit}: give cells.longest={longest} or less with --set, or cells.memory_mib",
    max = config::Cells::MAX_NETWORKS
)]
pub struct GridTooLarge {
    /// Number of networks of each kind (density and colour).
    pub networks: u32,
    /// Size of their weights in bytes.
    pub bytes: u64,
    /// The device's limit in bytes.
    pub limit: u64,
    /// Number of cells along the longest side that would fit.
    pub longest: u32,
}

impl From<GridTooLarge> for GpuError {
    fn from(grid: GridTooLarge) -> Self {
        Self::TooLarge {
            label: "weights of the grid's networks".to_owned(),
            bytes: grid.bytes,
            limit: grid.limit,
            advice: format!(
                "there are {} networks, and {} are supported; give cells.longest={} or less with --set, or cells.memory_mib",
                grid.networks,
                config::Cells::MAX_NETWORKS,
                grid.longest
            ),
        }
    }
}

/// Number of lanes of the workgroup that evaluates a tile: enough for the device, but few enough that cells with few samples
/// leave few lanes idle.
pub(super) fn tile_lanes(profile: &DeviceProfile) -> u32 {
    if profile.class == AdapterClass::Software {
        8
    } else {
        64
    }
}

/// Samples sorted by cell.
#[derive(Debug, Clone)]
pub struct Bins {
    grid: CellGrid,
    tile: u32,
    capacity: u64,
    /// Counts after sorting: samples in cells with networks, tiles, networks that have samples.
    pub counts: Counts,
    /// Positions of the sorted samples.
    pub samples: Buffer,
    /// Rays of the sorted samples.
    pub sample_rays: Buffer,
    /// Per tile: network, first sample, number of samples.
    pub tiles: Buffer,
    /// Per network: its first sample, and one past its last.
    pub bounds: Buffer,
    /// Networks that have samples.
    pub visited: Buffer,
    /// 1 for networks that have had samples since this buffer was cleared.
    pub updated: Buffer,
    pairs: Buffer,
    tile_counts: Buffer,
    tile_offsets: Buffer,
    has_samples: Buffer,
    cell_offsets: Buffer,
    sort: Bin,
    scan: Scan,
    networks: Counts,
}

/// Raw outputs, or their gradients, in sorted order and in sample order.
#[derive(Debug, Clone, Copy)]
pub struct BinnedOutputs<'a> {
    /// Raw density in sorted order, and its stride in f32.
    pub binned_density: (&'a Buffer, u32),
    /// Raw density in sample order, and its stride in f32.
    pub density: (&'a Buffer, u32),
    /// Raw colour in sorted order and in sample order.
    pub color: Option<(&'a Buffer, &'a Buffer)>,
}

impl Bins {
    /// Allocate buffers to sort `capacity` samples into the cells of `grid`, in tiles of `tile` samples.
    pub fn new(
        allocator: &dyn Allocator,
        label: &str,
        grid: &CellGrid,
        capacity: u64,
        with_rays: bool,
        tile: u32,
    ) -> Result<Self, GpuError> {
        let buffer = |role: &str, n: u64, size: u64| allocator.array(label, role, n, size);
        let n = u64::from(grid.n_networks);
        let networks = StepState::counts(allocator, "networks")?;
        networks.set(allocator, StepState::CELLS, grid.n_networks);
        let matrix = StepState::counts(allocator, "bin")?;
        let samples = u32::try_from(capacity).unwrap_or(u32::MAX);
        Ok(Self {
            counts: StepState::counts(allocator, "bins")?,
            samples: buffer("binned samples", capacity, 16)?,
            sample_rays: buffer("binned rays", if with_rays { capacity } else { 0 }, 8)?,
            tiles: buffer("tiles", capacity / u64::from(tile) + n, 16)?,
            bounds: buffer("bounds of bins", n + 1, 8)?,
            visited: buffer("visited networks", n, 4)?,
            updated: buffer("updated networks", n, 4)?,
            pairs: buffer("bin pairs", capacity, 8)?,
            tile_counts: buffer("tile counts", n, 4)?,
            tile_offsets: buffer("tile offsets", n + 1, 4)?,
            has_samples: buffer("networks with samples", n, 4)?,
            cell_offsets: buffer("network offsets", n + 1, 4)?,
            sort: Bin::new(allocator, samples, matrix, StepState::RAYS)?,
            scan: Scan::new(allocator, label, n)?,
            networks,
            grid: grid.clone(),
            tile,
            capacity,
        })
    }

    /// Return the batch of sorted samples.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            counts: &self.counts,
            count: StepState::KEPT,
            bins: Some(self),
        }
    }

    /// Row of activations that belongs to no sample; threads without a sample write to it.
    pub(super) fn padding_row(&self) -> u64 {
        self.capacity
    }

    fn defines(&self, pass: &str, count: Count) -> Defines {
        self.grid
            .defines()
            .set("pass", pass)
            .set("count", count.field())
            .set("networks", self.grid.n_networks)
            .set("tile", self.tile)
    }

    /// Add: sort the `samples` of a batch, and their rays if given, by network; `cells` is the cell map.
    pub fn sort(
        &self,
        stage: &mut Stage,
        Batch { counts, count, .. }: Batch<'_>,
        cells: &Buffer,
        samples: &Buffer,
        sample_rays: Option<&Buffer>,
    ) -> Result<(), GpuError> {
        let mut bindings: Vec<Binding<'_>> = vec![
            ("counts", &counts.state),
            ("samples", samples),
            ("cells", cells),
            ("pairs", &self.pairs),
            ("bounds", &self.bounds),
            ("tile_counts", &self.tile_counts),
            ("has_samples", &self.has_samples),
            ("tile_offsets", &self.tile_offsets),
            ("cell_offsets", &self.cell_offsets),
            ("tiles", &self.tiles),
            ("visited", &self.visited),
            ("updated", &self.updated),
            ("binned", &self.counts.state),
            ("binned_samples", &self.samples),
            ("binned_rays", &self.sample_rays),
        ];
        bindings.extend(sample_rays.map(|rays| ("sample_rays", rays)));
        let run = |stage: &mut Stage, pass: &str, entry: &str, groups: Groups| {
            let defines = self
                .defines(pass, count)
                .set("with_rays", sample_rays.is_some());
            stage.run(FILE, entry, &defines, &bindings, groups)?;
            Ok::<(), GpuError>(())
        };
        let per_sample = || counts.groups(count, 64, 1);
        let per_network = || Groups::covering(u64::from(self.grid.n_networks), 64);
        run(stage, "keys", "keys", per_sample())?;
        let bits = u32::BITS - self.grid.n_networks.leading_zeros();
        self.sort.run(stage, counts, count, &self.pairs, bits)?;
        stage.clear(&self.bounds);
        run(stage, "bounds", "find_bounds", per_sample())?;
        run(stage, "sizes", "sizes", per_network())?;
        self.networks.publish(stage)?;
        for (values, offsets) in [
            (&self.tile_counts, &self.tile_offsets),
            (&self.has_samples, &self.cell_offsets),
        ] {
            self.scan
                .run(stage, &self.networks, StepState::CELLS, values, offsets)?;
        }
        run(stage, "tiles", "list_tiles", per_network())?;
        self.counts.publish(stage)?;
        let per_binned = self.counts.groups(StepState::KEPT, 64, 1);
        run(stage, "place", "place", per_binned)
    }

    /// Add: scatter the networks' outputs back to sample order, for all `count` samples of the batch that was sorted.
    pub fn scatter(
        &self,
        stage: &mut Stage,
        Batch { counts, count, .. }: Batch<'_>,
        outputs: &BinnedOutputs<'_>,
    ) -> Result<(), GpuError> {
        let mut bindings = vec![
            ("counts", &counts.state),
            ("binned", &self.counts.state),
            ("pairs", &self.pairs),
            ("binned_density", outputs.binned_density.0),
            ("density", outputs.density.0),
        ];
        if let Some((binned, color)) = outputs.color {
            bindings.extend([("binned_color", binned), ("color", color)]);
        }
        let defines = self
            .defines("scatter", count)
            .set("with_density", true)
            .set("with_color", outputs.color.is_some())
            .set("from_density_stride", outputs.binned_density.1)
            .set("to_density_stride", outputs.density.1);
        let groups = counts.groups(count, 64, 1);
        stage.run(FILE, "scatter", &defines, &bindings, groups)?;
        Ok(())
    }

    /// Add: scatter `binned`, one vec4 per sorted sample, to `values` in sample order, for all `count` samples.
    pub fn scatter_vectors(
        &self,
        stage: &mut Stage,
        Batch { counts, count, .. }: Batch<'_>,
        binned: &Buffer,
        values: &Buffer,
    ) -> Result<(), GpuError> {
        let bindings = [
            ("counts", &counts.state),
            ("binned", &self.counts.state),
            ("pairs", &self.pairs),
            ("binned_color", binned),
            ("color", values),
        ];
        let defines = self
            .defines("scatter", count)
            .set("with_density", false)
            .set("with_color", true);
        let groups = counts.groups(count, 64, 1);
        stage.run(FILE, "scatter", &defines, &bindings, groups)?;
        Ok(())
    }

    /// Add: gather the gradients of the raw outputs into sorted order.
    pub fn gather(&self, stage: &mut Stage, gradients: &BinnedOutputs<'_>) -> Result<(), GpuError> {
        let mut bindings = vec![
            ("binned", &self.counts.state),
            ("pairs", &self.pairs),
            ("d_density", gradients.density.0),
            ("d_binned_density", gradients.binned_density.0),
        ];
        if let Some((binned, color)) = gradients.color {
            bindings.extend([("d_binned_color", binned), ("d_color", color)]);
        }
        let defines = self
            .defines("gather", StepState::KEPT)
            .set("to_density_stride", gradients.binned_density.1);
        let groups = self.counts.groups(StepState::KEPT, 64, 1);
        stage.run(FILE, "gather", &defines, &bindings, groups)?;
        Ok(())
    }
}
