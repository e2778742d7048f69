//! Where the weights of a network lie in its parameter slab.
//!
//! Layer after layer as `[out][in]`, both sides padded to multiples of four. A bias is the last column of its layer's rows.
//! A grid of cells has as many copies of all that, one cell's networks after another's.
//! The input of a layer listed in `skips` is the output of the layer before, followed by the network's own input.

/// A layer of the networks of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerMatrix {
    /// First f32 among those of a cell.
    pub first: u32,
    /// Inputs, padded.
    pub columns: u32,
    /// Outputs, padded.
    pub rows: u32,
    /// Whether it sees directions, or what was made of them.
    pub of_color: bool,
}

/// Sizes of a network's layers, and their places in the slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Layer sizes: input, hidden…, output.
    pub dims: Vec<u32>,
    /// Whether layers have biases.
    pub biases: bool,
    /// Layers (from 0) that see the network's input again.
    pub skips: Vec<u32>,
    /// Whether output 0 has four rows to itself, so that the others start at row 4.
    pub first_apart: bool,
    /// First f32 of the network in the slab.
    pub base: u32,
    /// Networks of this shape, one for each cell.
    pub copies: u32,
    /// f32 from one of them to the next.
    pub copy_stride: u32,
}

pub(super) fn pad4(n: u32) -> u32 {
    n.next_multiple_of(4)
}

impl Layout {
    /// Layers of `dims` (input, hidden…, output) one after the other, starting at f32 `base` of the slab.
    #[must_use]
    pub fn new(dims: &[u32], biases: bool, base: u32) -> Self {
        Self {
            dims: dims.to_vec(),
            biases,
            skips: Vec::new(),
            first_apart: false,
            base,
            copies: 1,
            copy_stride: 0,
        }
    }

    /// Whether there is one for each cell of a grid.
    #[must_use]
    pub fn is_grid(&self) -> bool {
        self.copy_stride > 0
    }

    /// Number of layers of weights.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.dims.len() - 1
    }

    /// Whether layer `l` sees the network's input again.
    #[must_use]
    pub fn has_skip(&self, l: usize) -> bool {
        self.skips.iter().any(|&s| s as usize == l)
    }

    /// Inputs of layer `l`.
    #[must_use]
    pub fn inputs(&self, l: usize) -> u32 {
        self.dims[l] + if self.has_skip(l) { self.dims[0] } else { 0 }
    }

    /// Padded inputs of layer `l`, the bias column included: the stride of its rows of weights, and of its input at least.
    #[must_use]
    pub fn width(&self, l: usize) -> u32 {
        pad4(self.inputs(l) + u32::from(self.biases))
    }

    /// Padded outputs of layer `l`.
    #[must_use]
    pub fn rows(&self, l: usize) -> u32 {
        if self.first_apart && l + 1 == self.n_layers() {
            4 + pad4(self.dims[l + 1] - 1)
        } else {
            pad4(self.dims[l + 1])
        }
    }

    /// Row of output `o` of layer `l`.
    #[must_use]
    pub fn row_of(&self, l: usize, o: u32) -> u32 {
        let apart = self.first_apart && l + 1 == self.n_layers() && o > 0;
        if apart { o + 3 } else { o }
    }

    /// First f32 of layer `l` in the slab, of the first copy.
    #[must_use]
    pub fn offset(&self, l: usize) -> u32 {
        self.base + (0..l).map(|k| self.width(k) * self.rows(k)).sum::<u32>()
    }

    /// f32 that one network takes in the slab.
    #[must_use]
    pub fn slab_len(&self) -> u32 {
        self.offset(self.n_layers()) - self.base
    }

    /// Multiply-adds of one sample's forward pass.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        (0..self.n_layers())
            .map(|l| u64::from(self.inputs(l)) * u64::from(self.dims[l + 1]))
            .sum()
    }
}
