//! Layout of a network's weights in the parameter slab.
//!
//! Layers are stored in sequence, each as `[out][in]` with both dimensions padded to multiples of four. The biases are the
//! column after a layer's inputs. A grid of networks stores the networks of one cell after those of another. The input of a
//! layer listed in `skips` is the output of the previous layer, followed by the network's input.

/// Weight matrix of a layer, in each cell of a grid of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerMatrix {
    /// Offset of the first f32 within a cell's weights.
    pub first: u32,
    /// Padded number of inputs.
    pub columns: u32,
    /// Padded number of outputs.
    pub rows: u32,
    /// Whether the layer belongs to the colour network.
    pub of_color: bool,
}

/// Sizes of a network's layers, and their offsets in the slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Layer sizes: input, hidden…, output.
    pub dims: Vec<u32>,
    /// Whether layers have biases.
    pub biases: bool,
    /// Layers (from 0) with a skip connection from the network's input.
    pub skips: Vec<u32>,
    /// Whether output 0 is padded to four rows, so that the other outputs start at row 4.
    pub separates_first_output: bool,
    /// Offset of the network's first f32 in the slab.
    pub base: u32,
    /// Number of networks with this layout: one per cell that has a network; 1 without a grid.
    pub n_networks: u32,
    /// Stride between these networks in f32; 0 without a grid.
    pub network_stride: u32,
}

pub(super) fn pad4(n: u32) -> u32 {
    n.next_multiple_of(4)
}

impl Layout {
    /// Create the layout of a network with layer sizes `dims` (input, hidden…, output) that starts at f32 `base` of the slab.
    #[must_use]
    pub fn new(dims: &[u32], biases: bool, base: u32) -> Self {
        Self {
            dims: dims.to_vec(),
            biases,
            skips: Vec::new(),
            separates_first_output: false,
            base,
            n_networks: 1,
            network_stride: 0,
        }
    }

    /// Whether the layout belongs to a grid of networks.
    #[must_use]
    pub fn is_grid(&self) -> bool {
        self.network_stride > 0
    }

    /// Number of weight matrices.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.dims.len() - 1
    }

    /// Whether layer `l` has a skip connection from the network's input.
    #[must_use]
    pub fn has_skip(&self, l: usize) -> bool {
        self.skips.iter().any(|&s| s as usize == l)
    }

    /// Number of inputs of layer `l`.
    #[must_use]
    pub fn inputs(&self, l: usize) -> u32 {
        self.dims[l] + if self.has_skip(l) { self.dims[0] } else { 0 }
    }

    /// Padded number of inputs of layer `l`, including the bias column. It is the row stride of the weights, and the minimum
    /// row stride of the input.
    #[must_use]
    pub fn width(&self, l: usize) -> u32 {
        pad4(self.inputs(l) + u32::from(self.biases))
    }

    /// Padded number of outputs of layer `l`.
    #[must_use]
    pub fn rows(&self, l: usize) -> u32 {
        if self.separates_first_output && l + 1 == self.n_layers() {
            4 + pad4(self.dims[l + 1] - 1)
        } else {
            pad4(self.dims[l + 1])
        }
    }

    /// Row of output `o` of layer `l`.
    #[must_use]
    pub fn row_of(&self, l: usize, o: u32) -> u32 {
        let apart = self.separates_first_output && l + 1 == self.n_layers() && o > 0;
        if apart { o + 3 } else { o }
    }

    /// Offset of the first f32 of layer `l` in the slab, for the first cell.
    #[must_use]
    pub fn offset(&self, l: usize) -> u32 {
        self.base + (0..l).map(|k| self.width(k) * self.rows(k)).sum::<u32>()
    }

    /// Size of one network in f32.
    #[must_use]
    pub fn slab_len(&self) -> u32 {
        self.offset(self.n_layers()) - self.base
    }

    /// Number of multiply-adds in the forward pass of one sample.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        (0..self.n_layers())
            .map(|l| u64::from(self.inputs(l)) * u64::from(self.dims[l + 1]))
            .sum()
    }
}
