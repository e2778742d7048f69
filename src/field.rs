//! A radiance field: a position encoding that feeds a density network, whose outputs and an encoded view direction feed a
//! colour network. There is one of each, or one for every cell of a grid; samples are then sorted by cell on the way in, and
//! outputs brought back on the way out. A field knows nothing of rays, images or backgrounds.

use crate::compositing::RawOutputs;
use crate::config::{Cells, FieldConfig};
use crate::encoding::{self, HashGrid, PositionEncoder};
use crate::gpu::{Allocator, Buffer, Counts, Defines, GpuError, Planner, Profile, Stage};
use crate::network::binned::Unsorted;
use crate::network::{
    Activations, Backward, Batch, Bins, CellGrid, Fused, GridTooLarge, Layout, Matrix, Network,
    Rows, SavedActivations, Tiled, Updated, Weights,
};
use crate::step_state::StepState;

/// The shape of a field.
#[derive(Debug, Clone)]
pub struct Field {
    /// The configuration it was made of.
    pub config: FieldConfig,
    /// Cells that have networks of their own.
    pub cells: Option<CellGrid>,
    /// Position encoding.
    pub position: PositionEncoder,
    /// Encoded position to raw density and features.
    pub density: Network,
    /// Those and the encoded direction to raw colour; where there is none, the density network has raw colour as features.
    pub color: Option<Network>,
}

/// Parameters to evaluate a field with: the trained ones, or their moving averages.
#[derive(Debug, Clone)]
pub struct FieldParameters {
    /// Hash table, chunk by chunk.
    pub tables: Vec<Buffer>,
    /// Network weights.
    pub weights: Weights,
    /// Which network each cell of a grid has, in the order (z, y, x).
    pub cells: Option<Buffer>,
}

impl FieldParameters {
    /// Zeroed parameters of `fields`, which share one slab of network weights; [`crate::train::Trainer::export_ema`] fills them.
    ///
    /// # Errors
    /// As [`Allocator::buffer`].
    pub fn of_passes(allocator: &dyn Allocator, fields: &[Field]) -> Result<Vec<Self>, GpuError> {
        let weights: u64 = fields.iter().map(|f| u64::from(f.slab_len()) * 4).sum();
        let weights = Weights {
            values: allocator.buffer("exported weights", weights)?,
            transposed: allocator.buffer("exported weights transposed", weights)?,
        };
        let parameters = |field: &Field| {
            let tables = field.tables();
            Ok(Self {
                tables: tables.allocate(allocator, "exported hash table", 4)?,
                weights: weights.clone(),
                cells: field.map_of_cells(allocator)?,
            })
        };
        fields.iter().map(parameters).collect()
    }

    /// Zeroed parameters of one field.
    ///
    /// # Errors
    /// As [`Allocator::buffer`].
    pub fn new(allocator: &dyn Allocator, field: &Field) -> Result<Self, GpuError> {
        Ok(Self::of_passes(allocator, std::slice::from_ref(field))?.remove(0))
    }
}

/// Buffers for evaluating a field at samples: first the density of all that were marched, then everything of those kept.
#[derive(Debug, Clone)]
pub struct FieldBuffers {
    /// Encoded positions of marched samples.
    pub features: Buffer,
    /// Raw density of marched samples, four f32 apart.
    pub raw_density: Buffer,
    /// Encoded positions of kept samples.
    pub kept_features: Buffer,
    /// Input of the colour network: density outputs, then the encoded direction.
    pub color_input: Buffer,
    /// Raw colour of kept samples, four f32 apart; of no use without a colour network.
    raw_color: Buffer,
    d_raw_color: Buffer,
    d_raw_density: Buffer,
    marched_activations: Activations,
    density_activations: Activations,
    color_activations: Option<Activations>,
    binned_raw_density: Buffer,
    d_color_input: Buffer,
    d_features: Buffer,
    marched_bins: Option<Bins>,
    kept_bins: Option<KeptBins>,
}

/// How kept samples are sorted by cell, and what the networks make of them in the order the samples came in.
#[derive(Debug, Clone)]
struct KeptBins {
    bins: Bins,
    raw_density: Buffer,
    raw_color: Buffer,
    d_raw_density: Buffer,
    d_raw_color: Buffer,
}

impl FieldBuffers {
    /// Which rows the networks are evaluated for at the kept samples.
    fn kept_batch<'a>(&'a self, counts: &'a Counts) -> Batch<'a> {
        match &self.kept_bins {
            Some(kept) => kept.bins.batch(),
            None => Batch::of(counts, StepState::KEPT),
        }
    }

    /// 1 for networks of a grid that had kept samples since this was cleared.
    #[must_use]
    pub fn updated(&self) -> Option<&Buffer> {
        self.kept_bins.as_ref().map(|kept| &kept.bins.updated)
    }
}

/// Raw outputs in the order in which samples came in.
fn unsorted_outputs(density: &Buffer, color: &Buffer) -> RawOutputs {
    RawOutputs {
        density: density.clone(),
        density_stride: 1,
        color: color.clone(),
        color_stride: 1,
        color_offset: 0,
    }
}

/// The samples that a field is evaluated at.
#[derive(Debug, Clone, Copy)]
pub struct KeptSamples<'a> {
    /// Counts on the device, of which [`StepState::KEPT`] says how many samples there are.
    pub counts: &'a Counts,
    /// Positions in the box.
    pub positions: &'a Buffer,
    /// Ray of each sample.
    pub sample_rays: &'a Buffer,
    /// The rays, which give the view directions.
    pub rays: &'a Buffer,
}

impl<'a> KeptSamples<'a> {
    /// In the order in which they came in.
    fn batch(&self) -> Batch<'a> {
        Batch::of(self.counts, StepState::KEPT)
    }
}

/// What a field's backward pass adds gradients to.
#[derive(Debug, Clone, Copy)]
pub struct FieldGradients<'a> {
    /// dL/dW, laid out as the weights.
    pub weights: &'a Buffer,
    /// Whether the gradients of a grid's networks replace what is there instead.
    pub overwrite: bool,
    /// Gradients of the hash table, chunk by chunk, in fixed point.
    pub tables: &'a [Buffer],
    /// Their scale, level by level.
    pub scales: &'a Buffer,
}

/// f32 from one raw density to the next.
pub const RAW_DENSITY_STRIDE: u32 = 4;

/// What the colour network saves when a field does: input gradients are only ever asked of the density.
fn color_saves(saved: SavedActivations) -> SavedActivations {
    match saved {
        SavedActivations::Gradients => SavedActivations::Gradients,
        SavedActivations::Nothing | SavedActivations::Activations => SavedActivations::Nothing,
    }
}

/// Where the weights of the networks of `config` lie, or of a cell's, from f32 `base` of their slab on.
fn layouts(config: &FieldConfig, base: u32) -> (Layout, Option<Layout>) {
    let layout = |n_in: u32, network: &crate::config::NetworkConfig, n_out: u32, base: u32| {
        let mut dims = vec![n_in];
        dims.extend((0..network.n_hidden_layers).map(|_| network.n_neurons));
        dims.push(n_out);
        Layout {
            skips: network.skips.clone(),
            ..Layout::new(&dims, network.biases, base)
        }
    };
    let n = config.n_density_outputs;
    let n_inputs = encoding::n_position_values(&config.position_encoding);
    let mut density = layout(n_inputs, &config.density_network, n, base);
    density.first_apart = config.density_apart();
    let base = base + density.slab_len();
    let n_color_inputs = if density.first_apart { n - 1 } else { n }
        + encoding::n_direction_values(&config.direction_encoding);
    let color = config.color_network.as_ref();
    let color = color.map(|network| layout(n_color_inputs, network, 3, base));
    (density, color)
}

/// Samples come in whole chunks of so many, so that kernels need not stop at the last one.
pub(crate) const ROWS: u64 = 512;

impl Field {
    /// Plan a field for a device of `profile`.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] when a level of the hash grid, or the weights of a grid of networks, do not fit a binding.
    pub fn new(profile: &Profile, config: &FieldConfig) -> Result<Self, GpuError> {
        Self::behind(profile, config, 0)
    }

    /// Plan a field whose network weights start at f32 `base` of their slab.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn behind(profile: &Profile, config: &FieldConfig, base: u32) -> Result<Self, GpuError> {
        let cells = config.cells.as_ref().map(CellGrid::new);
        let within = cells
            .as_ref()
            .filter(|_| config.cells.as_ref().is_some_and(|c| c.local));
        let position = PositionEncoder::new(profile, &config.position_encoding, within)?;
        let (mut density, mut color) = layouts(config, base);
        if let Some(cells) = &cells {
            let of_color = color.as_ref().map_or(0, Layout::slab_len);
            let stride = density.slab_len() + of_color;
            for layout in std::iter::once(&mut density).chain(&mut color) {
                layout.copies = cells.n_networks;
                layout.copy_stride = stride;
            }
            let limit = profile.max_binding_bytes;
            let bytes = |networks: u32| u64::from(networks) * u64::from(stride) * 4;
            let (networks, grid) = (cells.n_networks, config.cells.as_ref());
            if let Some(grid) =
                grid.filter(|_| bytes(networks) > limit || networks > Cells::MAX_NETWORKS)
            {
                let share = f64::from(networks) / f64::from(cells.n_cells());
                let fits = |longest: &u32| {
                    let coarser = Cells {
                        resolution: None,
                        longest: *longest,
                        occupied: None,
                        ..grid.clone()
                    };
                    let networks = (f64::from(coarser.n_networks()) * share).ceil() as u32;
                    bytes(networks) <= limit && networks <= Cells::MAX_NETWORKS
                };
                let finest = cells.resolution.iter().copied().max().unwrap_or(1);
                return Err(GpuError::from(GridTooLarge {
                    networks,
                    bytes: bytes(networks),
                    limit,
                    longest: (1..finest).rev().find(fits).unwrap_or(1),
                }));
            }
        }
        let network = |layout: Layout, rectified: bool| {
            if config.is_narrow() || layout.is_grid() {
                Network::Fused(Fused::new(profile, layout, rectified))
            } else {
                Network::Tiled(Tiled::new(profile, layout, rectified))
            }
        };
        Ok(Self {
            config: config.clone(),
            cells,
            position,
            density: network(density, config.rectifies_features()),
            color: color.map(|layout| network(layout, false)),
        })
    }

    /// f32 of the networks of `config`, or of those of one cell, in their slab.
    #[must_use]
    pub fn len_of_networks(config: &FieldConfig) -> u32 {
        let (density, color) = layouts(config, 0);
        density.slab_len() + color.as_ref().map_or(0, Layout::slab_len)
    }

    /// All fields of a method, whose network weights share one slab.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_passes(
        profile: &Profile,
        config: &crate::config::Config,
    ) -> Result<Vec<Self>, GpuError> {
        let mut base = 0;
        let mut fields = Vec::new();
        for pass in &config.passes {
            let field = Self::behind(profile, &pass.field, base)?;
            base += field.slab_len();
            fields.push(field);
        }
        Ok(fields)
    }

    /// The networks, in the order of their weights in the slab, under the names they go by.
    pub fn networks(&self) -> impl Iterator<Item = (&'static str, &Network)> {
        let color = self
            .color
            .as_ref()
            .map(|network| ("color_network", network));
        std::iter::once(("density_network", &self.density)).chain(color)
    }

    /// The tables that the position encoding trains, which may be none.
    #[must_use]
    pub fn tables(&self) -> &HashGrid {
        self.position.tables()
    }

    /// f32 of all network weights in their slab.
    #[must_use]
    pub fn slab_len(&self) -> u32 {
        let of_network = |n: &Network| n.layout().slab_len() * n.layout().copies;
        self.networks().map(|(_, n)| of_network(n)).sum()
    }

    /// First f32 in the slab, f32 of a cell's networks, and f32 from one cell's to the next's, where there is a grid.
    #[must_use]
    pub fn cell_range(&self) -> Option<[u32; 3]> {
        let layout = self.density.layout();
        let stride = layout.copy_stride;
        self.cells.as_ref().map(|_| [layout.base, stride, stride])
    }

    /// The layers of a cell's networks.
    #[must_use]
    pub fn matrices(&self) -> Vec<Matrix> {
        let base = self.density.layout().base;
        let layers = |(index, (_, network)): (usize, (&str, &Network))| {
            let layout = network.layout().clone();
            let layers = 0..layout.n_layers();
            layers.map(move |l| Matrix {
                first: layout.offset(l) - base,
                columns: layout.width(l),
                rows: layout.rows(l),
                of_color: index > 0,
            })
        };
        self.networks().enumerate().flat_map(layers).collect()
    }

    /// The map that gives every cell of a grid its network, in order.
    pub fn map_of_cells(&self, allocator: &dyn Allocator) -> Result<Option<Buffer>, GpuError> {
        let cells = self.cells.as_ref();
        cells.map(|cells| cells.full_map(allocator)).transpose()
    }

    /// Samples that a workgroup evaluates, of a grid.
    fn tile(&self) -> u32 {
        match &self.density {
            Network::Fused(network) => network.tile(),
            Network::Tiled(_) => 1,
        }
    }

    /// Multiply-adds of all networks for one sample.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        self.networks()
            .map(|(_, n)| n.layout().multiply_adds())
            .sum()
    }

    /// Row stride of encoded positions.
    #[must_use]
    pub fn feature_stride(&self) -> u32 {
        self.density.layout().width(0)
    }

    /// First column of what the colour network sees: raw density comes before it, or is part of it.
    fn color_offset(&self) -> u32 {
        if self.density.layout().first_apart {
            4
        } else {
            0
        }
    }

    /// Row stride of the density network's output, which goes on as the colour network's input.
    #[must_use]
    pub fn color_stride(&self) -> u32 {
        let density = self.density.layout();
        match &self.color {
            Some(color) => self.color_offset() + color.layout().width(0),
            None => density.rows(density.n_layers() - 1),
        }
    }

    /// Whether the buffers for that many samples are within what a device of `profile` binds.
    #[must_use]
    pub fn fits(
        &self,
        profile: &Profile,
        marched: u64,
        kept: u64,
        saved: SavedActivations,
    ) -> bool {
        let planner = Planner::new(profile);
        self.buffers(&planner, "", marched, kept, saved).is_ok()
    }

    /// Allocate for `marched` and `kept` samples, of which `saved` is left for a backward pass; the buffers' labels start with
    /// `label`.
    ///
    /// # Errors
    /// As [`Allocator::buffer`].
    pub fn buffers(
        &self,
        allocator: &dyn Allocator,
        label: &str,
        marched: u64,
        kept: u64,
        saved: SavedActivations,
    ) -> Result<FieldBuffers, GpuError> {
        let rows = |name: &str, n: u64, stride: u32| {
            let bytes = n.next_multiple_of(ROWS) * u64::from(stride) * 4;
            allocator.buffer(&format!("{label} {name}"), bytes)
        };
        let bins = |samples: u64, with_rays: bool| {
            let cells = self.cells.as_ref().filter(|_| samples > 0);
            cells
                .map(|grid| Bins::new(allocator, label, grid, samples, with_rays, self.tile()))
                .transpose()
        };
        let (is_grid, has_color) = (self.cells.is_some(), self.color.is_some());
        let (marched_bins, kept_bins) = (bins(marched, false)?, bins(kept, true)?);
        let unsorted = kept;
        // Threads without a sample write to a row of their own.
        let spare = |n: u64| n + u64::from(n > 0 && is_grid);
        let (marched, kept) = (spare(marched), spare(kept));
        let if_any = |condition: bool, n: u64| if condition { n } else { 0 };
        let backward = if_any(saved != SavedActivations::Nothing, kept);
        let trained = if_any(saved == SavedActivations::Gradients, kept);
        let apart = self.color_offset() > 0;
        let (features, color) = (self.feature_stride(), self.color_stride());
        let kept_bins = match kept_bins {
            Some(bins) => Some(KeptBins {
                bins,
                raw_density: rows("unsorted raw density", unsorted, 1)?,
                raw_color: rows("unsorted raw color", unsorted, 4)?,
                d_raw_density: rows("d_unsorted raw density", trained, 1)?,
                d_raw_color: rows("d_unsorted raw color", trained, 4)?,
            }),
            None => None,
        };
        let activations = |network: &Network, name: &str, samples: u64, saved| {
            network.activations(
                allocator,
                &format!("{label} {name} network"),
                samples,
                saved,
            )
        };
        let color_activations = self
            .color
            .as_ref()
            .map(|network| activations(network, "color", kept, color_saves(saved)));
        Ok(FieldBuffers {
            marched_bins,
            kept_bins,
            binned_raw_density: rows(
                "binned raw density",
                if_any(is_grid, marched),
                RAW_DENSITY_STRIDE,
            )?,
            features: rows("features", marched, features)?,
            raw_density: rows("raw density", marched, RAW_DENSITY_STRIDE)?,
            kept_features: rows("kept features", kept, features)?,
            color_input: rows("color input", kept, color)?,
            raw_color: rows("raw color", if_any(has_color, kept), 4)?,
            d_raw_color: rows("d_raw color", if_any(has_color, trained), 4)?,
            d_raw_density: rows("d_raw density", if_any(!apart, trained), 1)?,
            d_color_input: rows("d_color input", backward, color)?,
            d_features: rows("d_features", backward, features)?,
            marched_activations: activations(
                &self.density,
                "marched density",
                marched,
                SavedActivations::Nothing,
            )?,
            density_activations: activations(&self.density, "density", kept, saved)?,
            color_activations: color_activations.transpose()?,
        })
    }

    /// Where the raw outputs at kept samples lie.
    #[must_use]
    pub fn raw_outputs(&self, buffers: &FieldBuffers) -> RawOutputs {
        match &buffers.kept_bins {
            Some(kept) => unsorted_outputs(&kept.raw_density, &kept.raw_color),
            None => self.outputs(&buffers.color_input, &buffers.raw_color),
        }
    }

    fn outputs(&self, density: &Buffer, color: &Buffer) -> RawOutputs {
        let stride = self.color_stride();
        let joint = self.color.is_none();
        RawOutputs {
            density: density.clone(),
            density_stride: stride,
            color: if joint { density } else { color }.clone(),
            color_stride: if joint { stride / 4 } else { 1 },
            color_offset: u32::from(joint),
        }
    }

    /// Where [`Self::backward`] wants the gradients of the raw outputs.
    #[must_use]
    pub fn d_raw_outputs(&self, buffers: &FieldBuffers) -> RawOutputs {
        match &buffers.kept_bins {
            Some(kept) => unsorted_outputs(&kept.d_raw_density, &kept.d_raw_color),
            None => self.d_outputs(buffers),
        }
    }

    fn d_outputs(&self, buffers: &FieldBuffers) -> RawOutputs {
        let mut outputs = self.outputs(&buffers.d_color_input, &buffers.d_raw_color);
        if self.color_offset() == 0 {
            outputs.density = buffers.d_raw_density.clone();
            outputs.density_stride = 1;
        }
        outputs
    }

    /// Add: encode the positions in `samples` and compute their raw density, for all marched samples.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn density(
        &self,
        encode: &mut Stage,
        network: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        samples: &Buffer,
        buffers: &FieldBuffers,
    ) -> Result<(), GpuError> {
        let bins = buffers.marched_bins.as_ref().zip(parameters.cells.as_ref());
        let marched = Batch::of(counts, StepState::MARCHED);
        let (mut batch, mut samples, mut raw) = (marched, samples, &buffers.raw_density);
        if let Some((bins, cells)) = bins {
            bins.sort(encode, marched, cells, samples, None)?;
            (batch, samples, raw) = (bins.batch(), &bins.samples, &buffers.binned_raw_density);
        }
        let features = Rows::of(&buffers.features, self.feature_stride());
        self.position
            .forward(encode, batch, &parameters.tables, samples, features)?;
        let (weights, raw_rows) = (&parameters.weights, Rows::of(raw, RAW_DENSITY_STRIDE));
        let activations = &buffers.marched_activations;
        self.density
            .forward(network, batch, weights, features, raw_rows, activations)?;
        if let Some((bins, _)) = bins {
            let outputs = Unsorted {
                binned_density: (raw, RAW_DENSITY_STRIDE),
                density: (&buffers.raw_density, RAW_DENSITY_STRIDE),
                color: None,
            };
            bins.scatter(network, marched, &outputs)?;
        }
        Ok(())
    }

    /// Whether the kept samples of a field whose marched ones were evaluated before take their features from those.
    #[must_use]
    pub fn reuses_features(&self) -> bool {
        self.cells.is_none()
    }

    /// Add: features of the kept samples where they do not come with them from marched ones.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn encode_kept(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &KeptSamples<'_>,
        buffers: &FieldBuffers,
    ) -> Result<(), GpuError> {
        let mut positions = samples.positions;
        if let Some((kept, cells)) = buffers.kept_bins.as_ref().zip(parameters.cells.as_ref()) {
            let (bins, rays) = (&kept.bins, Some(samples.sample_rays));
            bins.sort(stage, samples.batch(), cells, positions, rays)?;
            positions = &bins.samples;
        }
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let batch = buffers.kept_batch(samples.counts);
        self.position
            .forward(stage, batch, &parameters.tables, positions, features)
    }

    /// Add: raw density of the kept samples from their features, and raw colour if `with_color`.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn forward(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &KeptSamples<'_>,
        buffers: &FieldBuffers,
        with_color: bool,
    ) -> Result<(), GpuError> {
        let batch = buffers.kept_batch(samples.counts);
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let outputs = Rows::of(&buffers.color_input, self.color_stride());
        let (weights, activations) = (&parameters.weights, &buffers.density_activations);
        self.density
            .forward(stage, batch, weights, features, outputs, activations)?;
        if with_color {
            self.color(stage, parameters, samples, buffers)?;
        }
        if let Some(kept) = &buffers.kept_bins {
            let outputs = Unsorted {
                binned_density: (&buffers.color_input, self.color_stride()),
                density: (&kept.raw_density, 1),
                color: with_color.then_some((&buffers.raw_color, &kept.raw_color)),
            };
            kept.bins.scatter(stage, samples.batch(), &outputs)?;
        }
        Ok(())
    }

    /// Add: raw colour of the kept samples from the outputs of the density network, where a network of its own makes it.
    fn color(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &KeptSamples<'_>,
        buffers: &FieldBuffers,
    ) -> Result<(), GpuError> {
        let Some((color, activations)) =
            self.color.as_ref().zip(buffers.color_activations.as_ref())
        else {
            return Ok(());
        };
        let batch = buffers.kept_batch(samples.counts);
        let sorted = buffers.kept_bins.as_ref();
        let sample_rays = sorted.map_or(samples.sample_rays, |kept| &kept.bins.sample_rays);
        let outputs = Rows::of(&buffers.color_input, self.color_stride());
        let input = Rows {
            offset: self.color_offset(),
            ..outputs
        };
        let encoding = &self.config.direction_encoding;
        let n_directions = encoding::n_direction_values(encoding);
        let directions = Rows {
            offset: input.offset + color.layout().dims[0] - n_directions,
            ..input
        };
        let (counts, rays) = (batch.counts, samples.rays);
        encoding::encode_directions(stage, counts, encoding, rays, sample_rays, directions)?;
        let raw = Rows::of(&buffers.raw_color, 4);
        color.forward(stage, batch, &parameters.weights, input, raw, activations)
    }

    /// Add: gradients of all parameters from those of the raw outputs, which lie where [`Self::d_raw_outputs`] says.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn backward(
        &self,
        network: &mut Stage,
        encode: &mut Stage,
        parameters: &FieldParameters,
        samples: &KeptSamples<'_>,
        buffers: &FieldBuffers,
        gradients: &FieldGradients<'_>,
    ) -> Result<(), GpuError> {
        let weights = &parameters.weights;
        let batch = buffers.kept_batch(samples.counts);
        let mut positions = samples.positions;
        if let Some(kept) = &buffers.kept_bins {
            let sorted = self.d_outputs(buffers);
            let gradients = Unsorted {
                binned_density: (&sorted.density, sorted.density_stride),
                density: (&kept.d_raw_density, 1),
                color: Some((&sorted.color, &kept.d_raw_color)),
            };
            kept.bins.gather(network, &gradients)?;
            positions = &kept.bins.samples;
        }
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let d_features = Rows::of(&buffers.d_features, self.feature_stride());
        let outputs = Rows::of(&buffers.color_input, self.color_stride());
        let d_outputs = Rows::of(&buffers.d_color_input, self.color_stride());
        let offset = self.color_offset();
        if let (Some(color), Some(activations)) = (&self.color, &buffers.color_activations) {
            let input = Rows { offset, ..outputs };
            let d_input = Rows {
                offset,
                ..d_outputs
            };
            let n = self.config.n_density_outputs - u32::from(offset > 0);
            let backward = Backward {
                d_output: Rows::of(&buffers.d_raw_color, 4),
                d_first_input: (offset == 0).then_some(&buffers.d_raw_density),
                d_input: Some((d_input, n)),
                rectified_input: self.config.rectifies_features().then_some(input),
                weight_gradients: Some(gradients.weights),
                overwrite: gradients.overwrite,
            };
            color.backward(network, batch, weights, input, activations, &backward)?;
        }
        let tables = self.tables();
        let width = self.position.n_outputs().next_multiple_of(4);
        let backward = Backward {
            d_output: d_outputs,
            d_first_input: None,
            d_input: (!tables.levels().is_empty()).then_some((d_features, width)),
            rectified_input: None,
            weight_gradients: Some(gradients.weights),
            overwrite: gradients.overwrite,
        };
        let activations = &buffers.density_activations;
        self.density
            .backward(network, batch, weights, features, activations, &backward)?;
        let (scales, into) = (gradients.scales, gradients.tables);
        tables.backward(encode, batch, positions, d_features, scales, into)
    }

    /// Add: the gradient of the raw density with respect to position in the box, at the kept samples, after a forward
    /// pass that saved activations.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn density_gradient(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &KeptSamples<'_>,
        buffers: &FieldBuffers,
        d_position: &Buffer,
    ) -> Result<(), GpuError> {
        let batch = buffers.kept_batch(samples.counts);
        let (mut positions, mut into) = (samples.positions, d_position);
        if let Some(kept) = &buffers.kept_bins {
            // Raw colours have been scattered back by now: their buffer is free.
            (positions, into) = (&kept.bins.samples, &buffers.raw_color);
        }
        let stride = self.color_stride();
        let layout = self.density.layout();
        let width = layout.rows(layout.n_layers() - 1);
        let defines = Defines::new().set("stride", stride).set("width", width);
        let bindings = [
            ("counts", &batch.counts.state),
            ("d_output", &buffers.d_color_input),
        ];
        let groups = batch.counts.groups(batch.count, 64, 1);
        stage.run("entry/one_hot", "one_hot", &defines, &bindings, groups)?;
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let d_features = Rows::of(&buffers.d_features, self.feature_stride());
        let width = self.position.n_outputs().next_multiple_of(4);
        let backward = Backward {
            d_output: Rows::of(&buffers.d_color_input, stride),
            d_first_input: None,
            d_input: Some((d_features, width)),
            rectified_input: None,
            weight_gradients: None,
            overwrite: false,
        };
        let (weights, activations) = (&parameters.weights, &buffers.density_activations);
        self.density
            .backward(stage, batch, weights, features, activations, &backward)?;
        let tables = &parameters.tables;
        self.position
            .d_position(stage, batch, tables, positions, d_features, into)?;
        if let Some(kept) = &buffers.kept_bins {
            let bins = &kept.bins;
            bins.scatter_vectors(stage, samples.batch(), into, d_position)?;
        }
        Ok(())
    }

    /// Add: rewrite the transposed weights after the weights changed; of a grid, if `updated` is given, where it says so.
    pub fn transpose(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        updated: Option<Updated<'_>>,
    ) -> Result<(), GpuError> {
        for (_, network) in self.networks() {
            network.transpose(stage, &parameters.weights, updated)?;
        }
        Ok(())
    }
}
