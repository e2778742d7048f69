//! A radiance field: a position encoding that feeds a density network, whose outputs and an encoded view direction feed a
//! colour network. There is one of each, or one for every cell of a grid; samples are then sorted by cell on the way in, and
//! outputs brought back on the way out. A field knows nothing of rays, images or backgrounds.

use crate::compositing::RawOutputs;
use crate::config::{Cells, Field as FieldConfig};
use crate::encoding::{self, HashGrid, PositionEncoder};
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Stage};
use crate::network::binned::Unsorted;
use crate::network::{
    ActivationBytes, Activations, Backward, Batch, Bins, CellGrid, Fused, Layout, Matrix, Network,
    Rows, SavedActivations, Tiled, Updated, Weights,
};

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
    pub fn of_passes(gpu: &Gpu, fields: &[Field]) -> Result<Vec<Self>, GpuError> {
        let weights: u64 = fields.iter().map(|f| u64::from(f.slab_len()) * 4).sum();
        let weights = Weights {
            values: gpu.buffer("settled weights", weights)?,
            transposed: gpu.buffer("settled weights transposed", weights)?,
        };
        let parameters = |field: &Field| {
            Ok(Self {
                tables: field.tables().allocate(gpu, "settled hash table", 4)?,
                weights: weights.clone(),
                cells: field.map_of_cells(gpu)?,
            })
        };
        fields.iter().map(parameters).collect()
    }

    /// Zeroed parameters of one field.
    pub fn new(gpu: &Gpu, field: &Field) -> Result<Self, GpuError> {
        Ok(Self::of_passes(gpu, std::slice::from_ref(field))?.remove(0))
    }

    /// Bytes of the parameters of `field`.
    #[must_use]
    pub fn bytes(field: &Field) -> u64 {
        let features = field.tables().total_rows() * u64::from(field.tables().n_features());
        let cells = field.cells.as_ref().map_or(0, CellGrid::n_cells);
        features * 4 + u64::from(field.slab_len()) * 8 + u64::from(cells) * 4
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
            None => Batch::of(counts, Count::Kept),
        }
    }

    /// 1 for networks of a grid that had kept samples since this was cleared.
    #[must_use]
    pub fn updated(&self) -> Option<&Buffer> {
        self.kept_bins.as_ref().map(|kept| &kept.bins.updated)
    }
}

/// Bytes of each of the [`FieldBuffers`].
#[derive(Debug, Clone)]
struct FieldBytes {
    features: u64,
    raw_density: u64,
    kept_features: u64,
    color_input: u64,
    raw_color: u64,
    d_raw_color: u64,
    d_raw_density: u64,
    d_color_input: u64,
    d_features: u64,
    marched_activations: ActivationBytes,
    density_activations: ActivationBytes,
    color_activations: Option<ActivationBytes>,
    binned_raw_density: u64,
    unsorted_density: u64,
    unsorted_color: u64,
    d_unsorted_density: u64,
    d_unsorted_color: u64,
    bins: u64,
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

/// f32 from one raw density to the next.
pub const RAW_DENSITY_STRIDE: u32 = 4;

/// What the colour network keeps when a field does: input gradients are only ever asked of the density.
fn color_keeps(keep: SavedActivations) -> SavedActivations {
    match keep {
        SavedActivations::Gradients => SavedActivations::Gradients,
        SavedActivations::Nothing | SavedActivations::Activations => SavedActivations::Nothing,
    }
}

/// Where the weights of the networks of `config` lie, or of a cell's, from f32 `base` of their slab on.
fn layouts(config: &FieldConfig, base: u32) -> (Layout, Option<Layout>) {
    let layout = |n_in: u32, network: &crate::config::Network, n_out: u32, base: u32| {
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
    /// Plan a field for a device.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] when a level of the hash grid does not fit a binding.
    pub fn new(gpu: &Gpu, config: &FieldConfig) -> Result<Self, GpuError> {
        Self::behind(gpu, config, 0)
    }

    /// Plan a field whose network weights start at f32 `base` of their slab.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn behind(gpu: &Gpu, config: &FieldConfig, base: u32) -> Result<Self, GpuError> {
        let cells = config.cells.as_ref().map(CellGrid::new);
        let within = cells
            .as_ref()
            .filter(|_| config.cells.as_ref().is_some_and(|c| c.local));
        let position = PositionEncoder::new(gpu, &config.position_encoding, within)?;
        let (mut density, mut color) = layouts(config, base);
        if let Some(cells) = &cells {
            let of_color = color.as_ref().map_or(0, Layout::slab_len);
            let stride = density.slab_len() + of_color;
            for layout in std::iter::once(&mut density).chain(&mut color) {
                layout.copies = cells.n_networks;
                layout.copy_stride = stride;
            }
            let limit = gpu.max_binding_bytes();
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
                return Err(GpuError::GridTooLarge {
                    networks,
                    bytes: bytes(networks),
                    limit,
                    longest: (1..finest).rev().find(fits).unwrap_or(1),
                });
            }
        }
        let network = |layout: Layout, rectified: bool| {
            if config.is_narrow() || layout.is_grid() {
                Network::Fused(Fused::new(gpu, layout, rectified))
            } else {
                Network::Tiled(Tiled::new(gpu, layout, rectified))
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
    pub fn of_passes(gpu: &Gpu, config: &crate::config::Config) -> Result<Vec<Self>, GpuError> {
        let mut base = 0;
        let mut fields = Vec::new();
        for pass in &config.passes {
            let field = Self::behind(gpu, &pass.field, base)?;
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
    pub fn map_of_cells(&self, gpu: &Gpu) -> Result<Option<Buffer>, GpuError> {
        let cells = self.cells.as_ref();
        cells.map(|cells| cells.full_map(gpu)).transpose()
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

    fn bytes(&self, marched: u64, kept: u64, keep: SavedActivations) -> FieldBytes {
        // Threads without a sample write to a row of their own.
        let spare = |n: u64| n + u64::from(n > 0 && self.cells.is_some());
        let (unsorted, sorted) = (kept, |n: u64| if self.cells.is_some() { n } else { 0 });
        let bins = |n: u64, with_rays: bool| match &self.cells {
            Some(grid) => Bins::bytes(grid, n, with_rays, self.tile()),
            None => 0,
        };
        let bins = bins(marched, false) + bins(kept, true);
        let (marched, kept) = (spare(marched), spare(kept));
        let rows = |n: u64, stride: u32| n.next_multiple_of(ROWS) * u64::from(stride) * 4;
        let (features, color) = (self.feature_stride(), self.color_stride());
        let backward = if keep == SavedActivations::Nothing {
            0
        } else {
            kept
        };
        let trained = if keep == SavedActivations::Gradients {
            kept
        } else {
            0
        };
        let apart = self.color_offset() > 0;
        let with_color = |n: u64| if self.color.is_some() { n } else { 0 };
        let network = |n: &Network, samples, keep| n.activation_buffers(samples, keep);
        FieldBytes {
            features: rows(marched, features),
            raw_density: rows(marched, RAW_DENSITY_STRIDE),
            kept_features: rows(kept, features),
            color_input: rows(kept, color),
            raw_color: rows(with_color(kept), 4),
            d_raw_color: rows(with_color(trained), 4),
            d_raw_density: if apart { 0 } else { rows(trained, 1) },
            d_color_input: rows(backward, color),
            d_features: rows(backward, features),
            marched_activations: network(&self.density, marched, SavedActivations::Nothing),
            density_activations: network(&self.density, kept, keep),
            color_activations: self
                .color
                .as_ref()
                .map(|color| network(color, kept, color_keeps(keep))),
            binned_raw_density: rows(sorted(marched), RAW_DENSITY_STRIDE),
            unsorted_density: rows(sorted(unsorted), 1),
            unsorted_color: rows(sorted(unsorted), 4),
            d_unsorted_density: rows(sorted(trained), 1),
            d_unsorted_color: rows(sorted(trained), 4),
            bins,
        }
    }

    /// Bytes of each of the [`FieldBuffers`] for that many marched and kept samples.
    #[must_use]
    pub fn buffer_sizes(&self, marched: u64, kept: u64, keep: SavedActivations) -> Vec<u64> {
        let bytes = self.bytes(marched, kept, keep);
        let mut sizes = vec![
            bytes.features,
            bytes.raw_density,
            bytes.kept_features,
            bytes.color_input,
            bytes.raw_color,
            bytes.d_raw_color,
            bytes.d_raw_density,
            bytes.d_color_input,
            bytes.d_features,
            bytes.binned_raw_density,
            bytes.unsorted_density,
            bytes.unsorted_color,
            bytes.d_unsorted_density,
            bytes.d_unsorted_color,
            bytes.bins,
        ];
        sizes.extend(bytes.marched_activations.iter());
        sizes.extend(bytes.density_activations.iter());
        sizes.extend(
            bytes
                .color_activations
                .iter()
                .flat_map(ActivationBytes::iter),
        );
        sizes
    }

    /// Whether that many samples can be held without a buffer exceeding what `gpu` binds.
    #[must_use]
    pub fn fits(&self, gpu: &Gpu, marched: u64, kept: u64, keep: SavedActivations) -> bool {
        let sizes = self.buffer_sizes(marched, kept, keep);
        sizes.iter().all(|&bytes| bytes <= gpu.max_binding_bytes())
    }

    /// Allocate for `marched` and `kept` samples; the buffers' labels start with `label`.
    pub fn buffers(
        &self,
        gpu: &Gpu,
        label: &str,
        marched: u64,
        kept: u64,
        keep: SavedActivations,
    ) -> Result<FieldBuffers, GpuError> {
        let bytes = self.bytes(marched, kept, keep);
        let buffer = |name: &str, bytes: u64| gpu.buffer(&format!("{label} {name}"), bytes);
        let network = |name: &str| format!("{label} {name} network");
        let bins = |samples: u64, with_rays: bool| {
            let cells = self.cells.as_ref().filter(|_| samples > 0);
            cells
                .map(|grid| Bins::new(gpu, label, grid, samples, with_rays, self.tile()))
                .transpose()
        };
        let unsorted = |bins: Bins| -> Result<KeptBins, GpuError> {
            Ok(KeptBins {
                bins,
                raw_density: buffer("unsorted raw density", bytes.unsorted_density)?,
                raw_color: buffer("unsorted raw color", bytes.unsorted_color)?,
                d_raw_density: buffer("d_unsorted raw density", bytes.d_unsorted_density)?,
                d_raw_color: buffer("d_unsorted raw color", bytes.d_unsorted_color)?,
            })
        };
        Ok(FieldBuffers {
            marched_bins: bins(marched, false)?,
            kept_bins: bins(kept, true)?.map(unsorted).transpose()?,
            binned_raw_density: buffer("binned raw density", bytes.binned_raw_density)?,
            features: buffer("features", bytes.features)?,
            raw_density: buffer("raw density", bytes.raw_density)?,
            kept_features: buffer("kept features", bytes.kept_features)?,
            color_input: buffer("color input", bytes.color_input)?,
            raw_color: buffer("raw color", bytes.raw_color)?,
            d_raw_color: buffer("d_raw color", bytes.d_raw_color)?,
            d_raw_density: buffer("d_raw density", bytes.d_raw_density)?,
            d_color_input: buffer("d_color input", bytes.d_color_input)?,
            d_features: buffer("d_features", bytes.d_features)?,
            marched_activations: bytes
                .marched_activations
                .allocate(gpu, &network("marched density"))?,
            density_activations: bytes
                .density_activations
                .allocate(gpu, &network("density"))?,
            color_activations: bytes
                .color_activations
                .map(|bytes| bytes.allocate(gpu, &network("color")))
                .transpose()?,
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
    pub fn density(
        &self,
        gpu: &Gpu,
        encode: &mut Stage,
        network: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        samples: &Buffer,
        buffers: &FieldBuffers,
    ) -> Result<(), GpuError> {
        let bins = buffers.marched_bins.as_ref().zip(parameters.cells.as_ref());
        let mut batch = Batch::of(counts, Count::Marched);
        let (mut samples, mut raw) = (samples, &buffers.raw_density);
        if let Some((bins, cells)) = bins {
            bins.sort(gpu, encode, counts, Count::Marched, cells, samples, None)?;
            (batch, samples, raw) = (bins.batch(), &bins.samples, &buffers.binned_raw_density);
        }
        let features = Rows::of(&buffers.features, self.feature_stride());
        self.position.forward(
            gpu,
            encode,
            batch.counts,
            batch.count,
            &parameters.tables,
            samples,
            features,
        )?;
        self.density.forward(
            gpu,
            network,
            batch,
            &parameters.weights,
            features,
            Rows::of(raw, RAW_DENSITY_STRIDE),
            &buffers.marched_activations,
            SavedActivations::Nothing,
        )?;
        if let Some((bins, _)) = bins {
            let outputs = Unsorted {
                binned_density: (raw, RAW_DENSITY_STRIDE),
                density: (&buffers.raw_density, RAW_DENSITY_STRIDE),
                color: None,
            };
            bins.scatter(gpu, network, counts, Count::Marched, &outputs)?;
        }
        Ok(())
    }

    /// Whether the kept samples of a field whose marched ones were evaluated before take their features from those.
    #[must_use]
    pub fn reuses_features(&self) -> bool {
        self.cells.is_none()
    }

    /// Add: features of the kept samples where they do not come with them from marched ones.
    pub fn encode_kept(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        samples: &Buffer,
        kept_rays: &Buffer,
        buffers: &FieldBuffers,
    ) -> Result<(), GpuError> {
        let mut positions = samples;
        if let Some((kept, cells)) = buffers.kept_bins.as_ref().zip(parameters.cells.as_ref()) {
            let (bins, rays) = (&kept.bins, Some(kept_rays));
            bins.sort(gpu, stage, counts, Count::Kept, cells, samples, rays)?;
            positions = &bins.samples;
        }
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let tables = &parameters.tables;
        let Batch { counts, count, .. } = buffers.kept_batch(counts);
        self.position
            .forward(gpu, stage, counts, count, tables, positions, features)
    }

    /// Add: raw density of the kept samples from their features, and raw colour if `with_color`. `rays` and `kept_rays`
    /// give the directions.
    pub fn forward(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        rays: &Buffer,
        kept_rays: &Buffer,
        buffers: &FieldBuffers,
        keep: SavedActivations,
        with_color: bool,
    ) -> Result<(), GpuError> {
        let batch = buffers.kept_batch(counts);
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let outputs = Rows::of(&buffers.color_input, self.color_stride());
        self.density.forward(
            gpu,
            stage,
            batch,
            &parameters.weights,
            features,
            outputs,
            &buffers.density_activations,
            keep,
        )?;
        let color = self.color.as_ref().zip(buffers.color_activations.as_ref());
        if let Some((color, activations)) = color.filter(|_| with_color) {
            let rays_of = buffers.kept_bins.as_ref();
            let kept_rays = rays_of.map_or(kept_rays, |kept| &kept.bins.sample_rays);
            let parts = (color, activations);
            self.color(
                gpu, stage, batch, parameters, rays, kept_rays, buffers, parts, keep,
            )?;
        }
        if let Some(kept) = &buffers.kept_bins {
            let outputs = Unsorted {
                binned_density: (&buffers.color_input, self.color_stride()),
                density: (&kept.raw_density, 1),
                color: with_color.then_some((&buffers.raw_color, &kept.raw_color)),
            };
            kept.bins
                .scatter(gpu, stage, counts, Count::Kept, &outputs)?;
        }
        Ok(())
    }

    /// Add: raw colour of the kept samples from the outputs of the density network.
    fn color(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        batch: Batch<'_>,
        parameters: &FieldParameters,
        rays: &Buffer,
        kept_rays: &Buffer,
        buffers: &FieldBuffers,
        (color, activations): (&Network, &Activations),
        keep: SavedActivations,
    ) -> Result<(), GpuError> {
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
        let counts = batch.counts;
        encoding::encode_directions(gpu, stage, counts, encoding, rays, kept_rays, directions)?;
        let raw = Rows::of(&buffers.raw_color, 4);
        color.forward(
            gpu,
            stage,
            batch,
            &parameters.weights,
            input,
            raw,
            activations,
            color_keeps(keep),
        )
    }

    /// Add: gradients of all parameters from those of the raw outputs, which lie where [`Self::d_raw_outputs`] says. They
    /// are added to what there is; those of the networks of a grid take its place if they are `overwrite`.
    pub fn backward(
        &self,
        gpu: &Gpu,
        network: &mut Stage,
        encode: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        samples: &Buffer,
        buffers: &FieldBuffers,
        weight_gradients: &Buffer,
        overwrite: bool,
        gradient_scales: &Buffer,
        table_gradients: &[Buffer],
    ) -> Result<(), GpuError> {
        let weights = &parameters.weights;
        let batch = buffers.kept_batch(counts);
        let mut samples = samples;
        if let Some(kept) = &buffers.kept_bins {
            let sorted = self.d_outputs(buffers);
            let gradients = Unsorted {
                binned_density: (&sorted.density, sorted.density_stride),
                density: (&kept.d_raw_density, 1),
                color: Some((&sorted.color, &kept.d_raw_color)),
            };
            kept.bins.gather(gpu, network, &gradients)?;
            samples = &kept.bins.samples;
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
                weight_gradients: Some(weight_gradients),
                overwrite,
            };
            color.backward(gpu, network, batch, weights, input, activations, &backward)?;
        }
        let tables = self.tables();
        let width = self.position.n_outputs().next_multiple_of(4);
        let backward = Backward {
            d_output: d_outputs,
            d_first_input: None,
            d_input: (!tables.levels().is_empty()).then_some((d_features, width)),
            rectified_input: None,
            weight_gradients: Some(weight_gradients),
            overwrite,
        };
        let activations = &buffers.density_activations;
        self.density.backward(
            gpu,
            network,
            batch,
            weights,
            features,
            activations,
            &backward,
        )?;
        tables.backward(
            gpu,
            encode,
            batch.counts,
            batch.count,
            samples,
            d_features,
            gradient_scales,
            table_gradients,
        )
    }

    /// Add: the gradient of the raw density with respect to position in the box, at the kept samples, after a forward
    /// pass that saved activations.
    pub fn density_gradient(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        samples: &Buffer,
        buffers: &FieldBuffers,
        d_position: &Buffer,
    ) -> Result<(), GpuError> {
        let batch = buffers.kept_batch(counts);
        let (mut samples, mut into) = (samples, d_position);
        if let Some(kept) = &buffers.kept_bins {
            // Raw colours have been brought back by now, and leave their room.
            (samples, into) = (&kept.bins.samples, &buffers.raw_color);
        }
        let stride = self.color_stride();
        let layout = self.density.layout();
        let width = layout.rows(layout.n_layers() - 1);
        let defines = Defines::new().set("stride", stride).set("width", width);
        let bindings = [
            ("counts", &batch.counts.state),
            ("d_output", &buffers.d_color_input),
        ];
        stage.run(
            gpu,
            "entry/one_hot",
            "one_hot",
            &defines,
            &bindings,
            batch.counts.groups(gpu, batch.count, 64, 1),
        )?;
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
        self.density.backward(
            gpu,
            stage,
            batch,
            &parameters.weights,
            features,
            &buffers.density_activations,
            &backward,
        )?;
        self.position.d_position(
            gpu,
            stage,
            batch.counts,
            batch.count,
            &parameters.tables,
            samples,
            d_features,
            into,
        )?;
        if let Some(kept) = &buffers.kept_bins {
            let bins = &kept.bins;
            bins.scatter_vectors(gpu, stage, counts, Count::Kept, into, d_position)?;
        }
        Ok(())
    }

    /// Add: rewrite the transposed weights after the weights changed; of a grid, if `updated` is given, where it says so.
    pub fn transpose(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        parameters: &FieldParameters,
        updated: Option<Updated<'_>>,
    ) -> Result<(), GpuError> {
        for (_, network) in self.networks() {
            network.transpose(gpu, stage, &parameters.weights, updated)?;
        }
        Ok(())
    }
}
