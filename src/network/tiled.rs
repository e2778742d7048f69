//! Multi-layer perceptrons of any width, with one matrix product per layer: `shaders/network/tiled.wgsl`.
//!
//! `h₀ = x`, `h_{l+1} = relu(W_l h_l + b_l)`, linear output; a layer with a skip connection multiplies the matrix `[h_l, x]`
//! without concatenating the two. If a backward pass follows, the activations of all layers are stored. Activation gradients
//! alternate between two buffers, so each layer's weight gradients are computed as soon as its output gradients are available.

use super::layout::pad4;
use super::weight_gradients::{Block, CHUNK, accumulate, accumulate_biases, partial_bytes};
use super::{ActivationBytes, Activations, Backward, Batch, Layout, Rows, SavedActivations};
use crate::gpu::{Buffer, Defines, DeviceProfile, GpuError, Stage};

/// The variant of the matrix-product kernel that a device runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KernelVariant {
    /// Rows are read at indices proved uniform to a software adapter's compiler.
    Proved,
    /// Both operands are staged in workgroup memory.
    Staged,
}

/// The layout of a network in the parameter slab, and the variant of its kernels.
#[derive(Debug, Clone)]
pub struct Tiled {
    /// Sizes and offsets of the layers.
    pub layout: Layout,
    /// Whether a `ReLU` applies to all outputs except the first.
    pub rectified_outputs: bool,
    variant: KernelVariant,
}

/// A range of columns of an operand, and the row of the matrix that multiplies its first column.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    rows: Rows<'a>,
    width: u32,
    first_row: u32,
}

/// `out = epilogue(Σ segments · matrix)`.
#[derive(Debug, Clone)]
struct Product<'a> {
    segments: Vec<Segment<'a>>,
    /// Offset of the first f32 of the matrix in its slab, and its row stride.
    matrix: (u32, u32),
    /// Row of the matrix that holds the biases.
    bias_row: Option<u32>,
    /// Number of columns to compute, from `first_column` on.
    width: u32,
    first_column: u32,
    out: Rows<'a>,
    /// A `ReLU` applies to the outputs from this column on.
    rectified_from: Option<u32>,
    /// Outputs are zero where these values are not positive.
    mask: Option<Rows<'a>>,
    /// Added to column 0.
    addend: Option<&'a Buffer>,
    /// Whether the result is added to `out`.
    accumulates: bool,
}

impl<'a> Product<'a> {
    fn new(matrix: (u32, u32), width: u32, out: Rows<'a>) -> Self {
        Self {
            segments: Vec::new(),
            matrix,
            bias_row: None,
            width,
            first_column: 0,
            out,
            rectified_from: None,
            mask: None,
            addend: None,
            accumulates: false,
        }
    }
}

/// Number of samples and of outputs of a tile in workgroup memory.
const STAGED_TILE: u32 = 64;
/// Number of samples per thread of the `proved` kernel.
const PROVED_ROWS: u32 = 8;
/// Maximum number of outputs of the `narrow` kernel, in which a thread computes all outputs of one sample.
const NARROW: u32 = 8;

impl Tiled {
    /// Create a network of any width.
    #[must_use]
    pub fn new(profile: &DeviceProfile, layout: Layout, rectified_outputs: bool) -> Self {
        Self {
            layout,
            rectified_outputs,
            variant: if profile.identity_table {
                KernelVariant::Proved
            } else {
                KernelVariant::Staged
            },
        }
    }

    /// Number of hidden layers.
    fn n_hidden(&self) -> usize {
        self.layout.n_layers() - 1
    }

    /// Row stride of hidden layer `l` (from 0).
    fn hidden_stride(&self, l: usize) -> u32 {
        pad4(self.layout.dims[l + 1])
    }

    fn widest(&self) -> u32 {
        (0..self.n_hidden())
            .map(|l| self.hidden_stride(l))
            .max()
            .unwrap_or(4)
    }

    /// Bytes of hidden activations and their gradients per sample in training.
    #[must_use]
    pub fn activation_bytes(&self) -> u64 {
        let hidden = (0..self.n_hidden()).map(|l| u64::from(self.hidden_stride(l)));
        2 * 4 * hidden.sum::<u64>()
    }

    /// Sizes in bytes of the buffers for `capacity` samples: hidden layers (all, or two that alternate if nothing is saved),
    /// their gradients, partial sums.
    pub(super) fn activation_buffers(
        &self,
        capacity: u64,
        keep: SavedActivations,
    ) -> ActivationBytes {
        let rows =
            |stride: u32| capacity.next_multiple_of(u64::from(CHUNK)) * u64::from(stride) * 4;
        let layout = &self.layout;
        let partials = (0..layout.n_layers())
            .map(|l| partial_bytes(capacity, pad4(layout.inputs(l)), layout.rows(l)));
        let in_turn = vec![rows(self.widest()); self.n_hidden().min(2)];
        match keep {
            SavedActivations::Nothing => ActivationBytes {
                hidden: in_turn,
                ..ActivationBytes::default()
            },
            SavedActivations::Activations | SavedActivations::Gradients => ActivationBytes {
                hidden: (0..self.n_hidden())
                    .map(|l| rows(self.hidden_stride(l)))
                    .collect(),
                d_hidden: in_turn,
                partials: if keep == SavedActivations::Gradients {
                    partials.max().unwrap_or(0)
                } else {
                    0
                },
            },
        }
    }

    /// Return the rows that store hidden layer `l`.
    fn hidden<'a>(&self, activations: &'a Activations, l: usize) -> Rows<'a> {
        let index = if activations.saved == SavedActivations::Nothing {
            l % activations.hidden.len()
        } else {
            l
        };
        Rows::of(&activations.hidden[index], self.hidden_stride(l))
    }

    /// Add: `output = network(input)` for the rows of `batch`. If the output rows are narrower than the network's output, only
    /// the outputs that fit are computed.
    pub fn forward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        transposed: &Buffer,
        input: Rows<'_>,
        output: Rows<'_>,
        activations: &Activations,
    ) -> Result<(), GpuError> {
        let layout = &self.layout;
        let last = self.n_hidden();
        for l in 0..=last {
            let rows = layout.rows(l);
            let (out, width) = if l == last {
                (output, rows.min(output.stride))
            } else {
                (self.hidden(activations, l), rows)
            };
            let before = if l == 0 {
                input
            } else {
                self.hidden(activations, l - 1)
            };
            let mut product = Product::new((layout.offset(l), rows), width, out);
            product.segments.push(Segment {
                rows: before,
                width: pad4(layout.dims[l]),
                first_row: 0,
            });
            if layout.has_skip(l) {
                product.segments.push(Segment {
                    rows: input,
                    width: pad4(layout.dims[0]),
                    first_row: layout.dims[l],
                });
            }
            product.bias_row = layout.biases.then_some(layout.inputs(l));
            product.rectified_from = if l < last {
                Some(0)
            } else {
                self.rectified_outputs.then_some(4)
            };
            self.multiply(stage, batch, transposed, &product)?;
        }
        Ok(())
    }

    /// Add: compute the requested gradients with respect to the input and the weights.
    pub fn backward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        weights: &Buffer,
        input: Rows<'_>,
        activations: &Activations,
        gradients: &Backward<'_>,
    ) -> Result<(), GpuError> {
        let layout = &self.layout;
        let mut d = gradients.d_output;
        let mut reached_input = false;
        for l in (0..layout.n_layers()).rev() {
            let (rows, width) = (layout.rows(l), layout.width(l));
            let before = if l == 0 {
                input
            } else {
                self.hidden(activations, l - 1)
            };
            if let Some(into) = gradients.weight_gradients {
                let partials = &activations.partials;
                let offset = layout.offset(l);
                let mut block = Block {
                    input: (before, pad4(layout.dims[l])),
                    d_output: (d, rows),
                    offset,
                    stride: width,
                    network_stride: 0,
                    bias_column: None,
                    overwrite: false,
                };
                accumulate(stage, batch, &block, partials, into)?;
                if layout.has_skip(l) {
                    block.input = (input, pad4(layout.dims[0]));
                    block.offset = offset + layout.dims[l];
                    accumulate(stage, batch, &block, partials, into)?;
                }
                if layout.biases {
                    let place = [offset + layout.inputs(l), width];
                    let d_output = (d, rows);
                    accumulate_biases(stage, batch, d_output, place, partials, into)?;
                }
            }
            let segment = Segment {
                rows: d,
                width: rows,
                first_row: 0,
            };
            if let Some((d_input, asked)) = gradients.d_input
                && (l == 0 || layout.has_skip(l))
            {
                let first_column = if l == 0 { 0 } else { layout.dims[l] };
                let matrix = (layout.offset(l) + first_column, width);
                let mut product = Product::new(matrix, pad4(asked), d_input);
                product.segments.push(segment);
                product.accumulates = reached_input;
                product.mask = gradients.rectified_input;
                product.addend = gradients.d_first_input.filter(|_| l == 0);
                self.multiply(stage, batch, weights, &product)?;
                reached_input = true;
            }
            if l > 0 {
                let stride = self.hidden_stride(l - 1);
                let turn = &activations.d_hidden[l % activations.d_hidden.len()];
                let out = Rows::of(turn, stride);
                let mut product = Product::new((layout.offset(l), width), stride, out);
                product.segments.push(segment);
                product.mask = Some(before);
                self.multiply(stage, batch, weights, &product)?;
                d = out;
            }
        }
        Ok(())
    }

    fn multiply(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        matrix: &Buffer,
        product: &Product<'_>,
    ) -> Result<(), GpuError> {
        let Batch { counts, count, .. } = batch;
        let quads = |n: u32| n / 4;
        let per_segment =
            |f: &dyn Fn(&Segment<'_>) -> u32| product.segments.iter().map(f).collect::<Vec<u32>>();
        let n_outputs = quads(product.width);
        let is_narrow = product.width <= NARROW;
        // A remainder of few outputs would cost as much as eight times as many: compute it with the `narrow` kernel.
        let left_over = n_outputs % 8 * 4;
        if self.variant == KernelVariant::Proved
            && !is_narrow
            && left_over > 0
            && left_over <= NARROW
        {
            let mut part = product.clone();
            part.width = product.width - left_over;
            self.multiply(stage, batch, matrix, &part)?;
            part.first_column = product.first_column + part.width;
            part.width = left_over;
            return self.multiply(stage, batch, matrix, &part);
        }
        let (first, stride) = product.matrix;
        let first = first + product.first_column;
        // Equal shares of the outputs, at most 64 vec4 each, in whole SIMD vectors of a software adapter.
        let depth = n_outputs.div_ceil(64);
        let lanes = n_outputs.div_ceil(depth).next_multiple_of(8);
        let (entry, groups) = match self.variant {
            _ if is_narrow => ("narrow", counts.groups(count, 64, 1)),
            KernelVariant::Proved => ("proved", counts.groups(count, PROVED_ROWS, depth)),
            KernelVariant::Staged => {
                let depth = product.width.div_ceil(STAGED_TILE);
                ("staged", counts.groups(count, STAGED_TILE, depth))
            }
        };
        let at = |offset: u32| quads(offset + product.first_column);
        let mask = product.mask;
        let addend = product.addend.filter(|_| product.first_column == 0);
        let rectified_from = product.rectified_from.map_or(-1, |column| {
            i64::from(quads(column.saturating_sub(product.first_column)))
        });
        let defines = Defines::new()
            .set("variant", entry)
            .set("count", count.field())
            .set("lanes", lanes)
            .set("n_outputs", n_outputs)
            .set("matrix_stride", quads(stride))
            .set("depths", per_segment(&|s| quads(s.width)))
            .set("strides", per_segment(&|s| quads(s.rows.stride)))
            .set("offsets", per_segment(&|s| quads(s.rows.offset)))
            .set("first_rows", per_segment(&|s| s.first_row))
            .set("out_stride", quads(product.out.stride))
            .set("out_offset", at(product.out.offset))
            .set("has_bias", product.bias_row.is_some())
            .set("has_mask", mask.is_some())
            .set("mask_stride", mask.map_or(0, |m| quads(m.stride)))
            .set("mask_offset", mask.map_or(0, |m| at(m.offset)))
            .set("has_addend", addend.is_some())
            .set("rectified_from", rectified_from)
            .set("accumulates", product.accumulates);
        // Layers of the same shape share a kernel, because the offsets of their weights are in a uniform.
        let bias = product.bias_row.map_or(0, |row| first + row * stride);
        let place = stage
            .gpu()
            .uniform("layer", &[quads(first), quads(bias), 0, 0])?;
        let mut bindings = vec![
            ("counts", &counts.state),
            ("place", &place),
            ("matrix", matrix),
            ("operand_0", product.segments[0].rows.buffer),
            ("result", product.out.buffer),
        ];
        bindings.extend(
            product
                .segments
                .get(1)
                .map(|s| ("operand_1", s.rows.buffer)),
        );
        bindings.extend(mask.map(|m| ("mask", m.buffer)));
        bindings.extend(addend.map(|e| ("addend", e)));
        stage.run("network/tiled", entry, &defines, &bindings, groups)?;
        Ok(())
    }
}
