//! Multi-layer perceptrons that run all layers in one kernel (width ≤ 64): `shaders/network/fused.wgsl`. There is a single
//! network, or one per cell of a grid; a workgroup then evaluates samples of one cell.
//!
//! `h₀ = x`, `h_{l+1} = relu(W_l h_l)`, linear output. Weights are f32, stored layer by layer as `[out][in]` with both
//! dimensions padded to multiples of four; a bias is the weight of a constant input. The forward pass may save the hidden
//! activations, from which the backward pass computes pre-activation gradients. Weight gradients are sums over chunks of
//! samples, added in a fixed order, so that all runs give the same result.

use super::weight_gradients::{Block, CHUNK, accumulate, partial_bytes};
use super::{
    ActivationBytes, Activations, Backward, Batch, Layout, Rows, SavedActivations, binned,
};
use crate::gpu::{AdapterClass, Buffer, Defines, DeviceProfile, GpuError, Groups, Stage};
use crate::step_state::StepState;

const WORKGROUP: u32 = 64;
/// Maximum workgroup memory for staged weights: the amount that every adapter has.
const STAGE_BYTES: u32 = 16 << 10;

/// The layout of a network in the parameter slab, and the parameters of its kernels.
#[derive(Debug, Clone)]
pub struct Fused {
    /// Sizes and offsets of the layers.
    pub layout: Layout,
    samples_per_thread: u32,
    workgroup: u32,
    /// Whether a workgroup stages weights in workgroup memory, as many rows of a layer at a time as fit.
    staged: bool,
    /// Whether a `ReLU` applies to all outputs except the first, which is padded to four columns.
    rectified_outputs: bool,
}

/// Rows of a layer that are evaluated together.
#[derive(Debug, Clone, Copy, serde::Serialize)]
struct Part {
    first: u32,
    n: u32,
}

/// Split `rows` rows of `length` f32 into parts that fit workgroup memory, as evenly as possible.
fn staged_parts(rows: u32, length: u32) -> Vec<Part> {
    let most = STAGE_BYTES / (4 * length);
    let n = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
    let firsts = (0..rows).step_by(n as usize);
    let part = |first: u32| Part {
        first,
        n: n.min(rows - first),
    };
    firsts.map(part).collect()
}

impl Fused {
    /// Create a network without skip connections.
    #[must_use]
    pub fn new(profile: &DeviceProfile, layout: Layout, rectified_outputs: bool) -> Self {
        // On software adapters two samples per thread share each weight load; on GPUs, with many samples in flight, one per
        // thread saves registers.
        let samples_per_thread = if profile.class == AdapterClass::Software {
            2
        } else {
            1
        };
        let is_grid = layout.is_grid();
        Self {
            samples_per_thread,
            workgroup: if is_grid {
                binned::tile_lanes(profile)
            } else {
                WORKGROUP
            },
            staged: is_grid && !profile.identity_table,
            rectified_outputs,
            layout,
        }
    }

    /// Number of samples that a workgroup evaluates.
    #[must_use]
    pub fn tile(&self) -> u32 {
        self.workgroup * self.samples_per_thread
    }

    /// Bytes of hidden activations and their gradients per sample in training.
    #[must_use]
    pub fn activation_bytes(&self) -> u64 {
        let last = self.layout.n_layers() - 1;
        u64::from(self.hidden_offset(last) + self.d_hidden_offset(last)) * 4
    }

    /// First column of hidden layer `l` (from 0) in a row of saved activations. For the index of the output layer, this is the
    /// row stride.
    fn hidden_offset(&self, l: usize) -> u32 {
        (1..=l).map(|k| self.layout.width(k)).sum()
    }

    /// First column of hidden layer `l` in a row of gradients, which have no bias column.
    fn d_hidden_offset(&self, l: usize) -> u32 {
        (0..l).map(|k| self.layout.rows(k)).sum()
    }

    /// Sizes in bytes of the buffers for `capacity` samples.
    pub(super) fn activation_buffers(
        &self,
        capacity: u64,
        keep: SavedActivations,
    ) -> ActivationBytes {
        let layout = &self.layout;
        let last = layout.n_layers() - 1;
        let rows =
            |stride: u32| capacity.next_multiple_of(u64::from(CHUNK)) * u64::from(stride) * 4;
        let partials = (0..=last).map(|l| partial_bytes(capacity, layout.width(l), layout.rows(l)));
        let (none, all) = (
            keep == SavedActivations::Nothing,
            keep == SavedActivations::Gradients,
        );
        let hidden = if none {
            0
        } else {
            rows(self.hidden_offset(last))
        };
        let d_hidden = if all {
            rows(self.d_hidden_offset(last))
        } else {
            0
        };
        ActivationBytes {
            hidden: vec![hidden],
            d_hidden: vec![d_hidden],
            partials: if all { partials.max().unwrap_or(0) } else { 0 },
        }
    }

    fn defines(&self, pass: &str, batch: Batch<'_>) -> Defines {
        let layout = &self.layout;
        let layers = layout.n_layers();
        let per_layer = |f: &dyn Fn(usize) -> u32| (0..layers).map(f).collect::<Vec<u32>>();
        let widths = per_layer(&|l| layout.width(l));
        let rows = per_layer(&|l| layout.rows(l));
        let scratch = widths.iter().chain(&rows).copied().max().unwrap_or(4);
        Defines::new()
            .set("pass", pass)
            .set("count", batch.count.field())
            .set("cells", batch.bins.is_some())
            .set(
                "padding_row",
                batch.bins.map_or(0, binned::Bins::padding_row),
            )
            .set("cell_quads", layout.network_stride / 4)
            .set("staged", self.staged)
            .set("layers", layers)
            .set("biases", layout.biases)
            .set("bias_at", &layout.dims)
            .set("padded_rows", rows)
            .set("widths", widths)
            .set("hidden_offset", per_layer(&|l| self.hidden_offset(l)))
            .set("hidden_stride", self.hidden_offset(layers - 1))
            .set("d_hidden_offset", per_layer(&|l| self.d_hidden_offset(l)))
            .set("d_hidden_stride", self.d_hidden_offset(layers - 1))
            .set("offsets", per_layer(&|l| layout.offset(l)))
            .set("scratch", scratch)
            .set("workgroup", self.workgroup)
            .set("samples", self.samples_per_thread)
    }

    /// Return template values: the parts into which each layer's `rows`, of the given `lengths`, are split for evaluation.
    fn parts(&self, rows: &[u32], lengths: impl Iterator<Item = u32>) -> Defines {
        let parts_of = |(&rows, length): (&u32, u32)| {
            let parts = if self.staged {
                staged_parts(rows, length)
            } else {
                vec![Part { first: 0, n: rows }]
            };
            let largest = parts.iter().map(|part| part.n * length).max();
            (parts, largest.unwrap_or(0))
        };
        let (parts, largest): (Vec<_>, Vec<u32>) = rows.iter().zip(lengths).map(parts_of).unzip();
        Defines::new()
            .set("parts", parts)
            .set("stage_quads", largest.into_iter().max().unwrap_or(0) / 4)
    }

    /// Return the shader's declaration of the read-only weights: a uniform buffer if `slab` fits one, which a software adapter
    /// reads without a branch, else a storage buffer.
    fn weight_defines(&self, profile: &DeviceProfile, slab: &Buffer) -> Defines {
        let is_grid = self.layout.is_grid();
        let (space, array) = if !is_grid && slab.bytes() <= profile.max_uniform_bytes {
            let quads = (self.layout.base + self.layout.slab_len()) / 4;
            ("var<uniform>", format!("array<vec4<f32>, {quads}>"))
        } else {
            ("var<storage, read>", "array<vec4<f32>>".to_owned())
        };
        Defines::new()
            .set("weight_space", space)
            .set("weight_array", array)
    }

    fn groups(&self, batch: Batch<'_>) -> Groups {
        match batch.bins {
            Some(_) => batch.counts.groups(StepState::TILES, 1, 1),
            None => batch.counts.groups(batch.count, self.tile(), 1),
        }
    }

    /// Add: `output = network(input)` for the rows of `batch`. If the output rows are narrower than the network's output, only
    /// the outputs that fit are computed.
    pub fn forward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        weights: &Buffer,
        input: Rows<'_>,
        output: Rows<'_>,
        activations: &Activations,
    ) -> Result<(), GpuError> {
        let saves = activations.saved != SavedActivations::Nothing;
        let last = self.layout.n_layers() - 1;
        let mut rows: Vec<u32> = (0..=last).map(|l| self.layout.rows(l)).collect();
        rows[last] = rows[last].min(output.stride);
        let defines = self
            .defines("forward", batch)
            .merge(self.weight_defines(stage.gpu().profile(), weights))
            .merge(self.parts(&rows, (0..=last).map(|l| self.layout.width(l))))
            .set("save", saves)
            .set("rectified_outputs", self.rectified_outputs)
            .set("in_stride", input.stride)
            .set("in_offset", input.offset)
            .set("out_stride", output.stride)
            .set("out_offset", output.offset);
        let mut bindings = vec![
            ("counts", &batch.counts.state),
            ("weights", weights),
            ("network_input", input.buffer),
            ("network_output", output.buffer),
        ];
        bindings.extend(saves.then(|| ("hidden", &activations.hidden[0])));
        bindings.extend(batch.bins.map(|bins| ("tiles", &bins.tiles)));
        stage.run(
            "network/fused",
            "forward",
            &defines,
            &bindings,
            self.groups(batch),
        )?;
        Ok(())
    }

    /// Add: compute the requested gradients with respect to the input and the weights.
    pub fn backward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        weights_transposed: &Buffer,
        input: Rows<'_>,
        activations: &Activations,
        gradients: &Backward<'_>,
    ) -> Result<(), GpuError> {
        let layout = &self.layout;
        let layers = layout.n_layers();
        let d_output = gradients.d_output;
        // Without input gradients, the pass ends at the first layer's output.
        let (d_input, d_input_width) = gradients.d_input.unwrap_or((d_output, 0));
        let back_rows: Vec<u32> = (0..layers)
            .map(|l| {
                if l == 0 {
                    d_input_width
                } else {
                    layout.dims[l]
                }
            })
            .collect();
        let padded: Vec<u32> = (0..layers).map(|l| layout.rows(l)).collect();
        debug_assert!(d_output.stride >= padded[layers - 1] && d_input.stride >= d_input_width);
        let defines = self
            .defines("backward", batch)
            .merge(self.weight_defines(stage.gpu().profile(), weights_transposed))
            .set("save", gradients.weight_gradients.is_some())
            .set("writes_d_input", gradients.d_input.is_some())
            .set("extra_d_input", gradients.d_first_input.is_some())
            .set("rectified_input", gradients.rectified_input.is_some())
            .set(
                "in_stride",
                gradients.rectified_input.map_or(0, |h| h.stride),
            )
            .set(
                "in_offset",
                gradients.rectified_input.map_or(0, |h| h.offset),
            )
            .merge(self.parts(&back_rows, padded.iter().copied()))
            .set(
                "back_offsets",
                (0..layers).map(|l| layout.offset(l)).collect::<Vec<_>>(),
            )
            .set("d_out_stride", d_output.stride)
            .set("d_out_offset", d_output.offset)
            .set("d_in_stride", d_input.stride)
            .set("d_in_offset", d_input.offset);
        let mut bindings = vec![
            ("counts", &batch.counts.state),
            ("weights_transposed", weights_transposed),
            ("d_output", d_output.buffer),
            ("d_input", d_input.buffer),
            ("hidden", &activations.hidden[0]),
            ("d_hidden", &activations.d_hidden[0]),
        ];
        bindings.extend(gradients.d_first_input.map(|b| ("d_first_input", b)));
        bindings.extend(
            gradients
                .rectified_input
                .map(|h| ("network_input", h.buffer)),
        );
        bindings.extend(batch.bins.map(|bins| ("tiles", &bins.tiles)));
        stage.run(
            "network/fused",
            "backward",
            &defines,
            &bindings,
            self.groups(batch),
        )?;
        let Some(weight_gradients) = gradients.weight_gradients else {
            return Ok(());
        };
        for l in (0..layers).rev() {
            let saved = |buffer, stride, offset| Rows {
                buffer,
                stride,
                offset,
            };
            let (hidden, d_hidden) = (&activations.hidden[0], &activations.d_hidden[0]);
            let (stride, d_stride) = (
                self.hidden_offset(layers - 1),
                self.d_hidden_offset(layers - 1),
            );
            let h = match l {
                0 => input,
                _ => saved(hidden, stride, self.hidden_offset(l - 1)),
            };
            let d = match l {
                _ if l + 1 == layers => d_output,
                _ => saved(d_hidden, d_stride, self.d_hidden_offset(l)),
            };
            // Saved rows contain the 1 that multiplies the biases; the rows of the input do not.
            let block = Block {
                input: (h, layout.width(l)),
                d_output: (d, layout.rows(l)),
                offset: layout.offset(l),
                stride: layout.width(l),
                network_stride: layout.network_stride,
                bias_column: (layout.biases && l == 0).then_some(layout.dims[0]),
                overwrite: gradients.overwrite,
            };
            let partials = &activations.partials;
            accumulate(stage, batch, &block, partials, weight_gradients)?;
        }
        Ok(())
    }
}
