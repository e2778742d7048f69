//! A radiance field: a position encoding feeds a density network, whose outputs and the encoded view direction feed a colour
//! network. There is one network of each kind, or one per cell of a grid; in a grid, samples are sorted by cell before the
//! evaluation, and outputs scattered back to sample order after it. A field is independent of ray generation, images and
//! backgrounds.

mod buffers;
mod evaluate;

use crate::config::{Cells, FieldConfig, ResolvedConfig};
use crate::encoding::{self, HashGrid, PositionEncoder};
use crate::gpu::{Allocator, Buffer, DeviceProfile, GpuError, Stage};
use crate::network::{CellGrid, Fused, GridTooLarge, LayerMatrix, Layout, Network, Tiled, Updated};
pub use buffers::{FieldBuffers, FieldParameters};
pub use evaluate::{FieldGradients, FieldInputs};

/// A field: its configuration, encoding and network layouts, without parameters.
#[derive(Debug, Clone)]
pub struct Field {
    /// The field's configuration.
    pub config: FieldConfig,
    /// The grid, if its cells have their own networks.
    pub cells: Option<CellGrid>,
    /// Position encoding.
    pub position: PositionEncoder,
    /// Density network: from the encoded position to raw density and features.
    pub density: Network,
    /// Colour network: from the density network's outputs and the encoded direction to raw colour. If there is none, the
    /// features of the density network are the raw colour.
    pub color: Option<Network>,
}

/// Stride of the raw densities of marched samples, in f32.
pub const RAW_DENSITY_STRIDE: u32 = 4;

/// Return the layouts of the density and the colour network of `config`, or of a cell, from f32 `base` of their slab on.
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
    density.separates_first_output = config.density_apart();
    let base = base + density.slab_len();
    let n_color_inputs = if density.separates_first_output {
        n - 1
    } else {
        n
    } + encoding::n_direction_values(&config.direction_encoding);
    let color = config.color_network.as_ref();
    let color = color.map(|network| layout(n_color_inputs, network, 3, base));
    (density, color)
}

/// Buffers hold a multiple of this number of samples, so that kernels need not stop at the last sample.
pub(crate) const SAMPLE_ALIGNMENT: u64 = 512;

impl Field {
    /// Create a field for a device with `profile`.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] if a level of the hash grid, or the weights of a grid of networks, do not fit a binding.
    pub fn new(profile: &DeviceProfile, config: &FieldConfig) -> Result<Self, GpuError> {
        Self::at_offset(profile, config, 0)
    }

    /// Create a field whose network weights start at f32 `base` of their slab.
    pub fn at_offset(
        profile: &DeviceProfile,
        config: &FieldConfig,
        base: u32,
    ) -> Result<Self, GpuError> {
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
                layout.n_networks = cells.n_networks;
                layout.network_stride = stride;
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

    /// Size of the networks of `config`, or of those of one cell, in f32.
    #[must_use]
    pub fn len_of_networks(config: &FieldConfig) -> u32 {
        let (density, color) = layouts(config, 0);
        density.slab_len() + color.as_ref().map_or(0, Layout::slab_len)
    }

    /// Create all fields of a method, whose network weights share one slab.
    pub fn of_passes(
        profile: &DeviceProfile,
        config: &ResolvedConfig,
    ) -> Result<Vec<Self>, GpuError> {
        let mut base = 0;
        let mut fields = Vec::new();
        for pass in &config.passes {
            let field = Self::at_offset(profile, &pass.field, base)?;
            base += field.slab_len();
            fields.push(field);
        }
        Ok(fields)
    }

    /// The networks and their names, in the order of their weights in the slab.
    pub fn networks(&self) -> impl Iterator<Item = (&'static str, &Network)> {
        let color = self
            .color
            .as_ref()
            .map(|network| ("color_network", network));
        std::iter::once(("density_network", &self.density)).chain(color)
    }

    /// The trained tables of the position encoding, a grid without levels if it has none.
    #[must_use]
    pub fn tables(&self) -> &HashGrid {
        self.position.tables()
    }

    /// Size of all network weights in f32.
    #[must_use]
    pub fn slab_len(&self) -> u32 {
        let of_network = |n: &Network| n.layout().slab_len() * n.layout().n_networks;
        self.networks().map(|(_, n)| of_network(n)).sum()
    }

    /// For a grid: offset of the first f32 in the slab, f32 per cell, and stride between cells in f32.
    #[must_use]
    pub fn cell_range(&self) -> Option<[u32; 3]> {
        let layout = self.density.layout();
        let stride = layout.network_stride;
        self.cells.as_ref().map(|_| [layout.base, stride, stride])
    }

    /// The weight matrices of a cell's networks.
    #[must_use]
    pub fn matrices(&self) -> Vec<LayerMatrix> {
        let base = self.density.layout().base;
        let layers = |(index, (_, network)): (usize, (&str, &Network))| {
            let layout = network.layout().clone();
            let layers = 0..layout.n_layers();
            layers.map(move |l| LayerMatrix {
                first: layout.offset(l) - base,
                columns: layout.width(l),
                rows: layout.rows(l),
                of_color: index > 0,
            })
        };
        self.networks().enumerate().flat_map(layers).collect()
    }

    /// Allocate the cell map in which every cell of the grid has a network, in order; `None` without a grid.
    pub fn full_cell_map(&self, allocator: &dyn Allocator) -> Result<Option<Buffer>, GpuError> {
        let cells = self.cells.as_ref();
        cells.map(|cells| cells.full_map(allocator)).transpose()
    }

    /// Number of samples that a workgroup evaluates, in a grid.
    fn tile(&self) -> u32 {
        match &self.density {
            Network::Fused(network) => network.tile(),
            Network::Tiled(_) => 1,
        }
    }

    /// Number of multiply-adds of all networks per sample.
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

    /// First column of the colour network's input: raw density precedes the input, or is part of it.
    fn color_offset(&self) -> u32 {
        if self.density.layout().separates_first_output {
            4
        } else {
            0
        }
    }

    /// Row stride of the density network's output, which is also that of the colour network's input.
    #[must_use]
    pub fn color_stride(&self) -> u32 {
        let density = self.density.layout();
        match &self.color {
            Some(color) => self.color_offset() + color.layout().width(0),
            None => density.rows(density.n_layers() - 1),
        }
    }

    /// Whether kept samples reuse the features of marched samples, if those were evaluated.
    #[must_use]
    pub fn reuses_features(&self) -> bool {
        self.cells.is_none()
    }

    /// Add: update the transposed copy of the weights; in a grid, only for the networks in `updated`, if given.
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
