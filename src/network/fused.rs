//! Multi-layer perceptron whose layers run in one kernel (width ≤ 64): `shaders/network/fused.wgsl`.
//!
//! `h₀ = x`, `h_{l+1} = relu(W_l h_l)`, linear output. Weights are f32, packed layer after layer as `[out][in]` with
//! both sides padded to multiples of four; a bias is the weight of a constant input. Forward may save the hidden
//! activations; backward turns them into pre-activation gradients; weight gradients are sums over chunks of samples,
//! added in a fixed order, so that they are the same on every run.

use crate::gpu::{AdapterClass, Buffer, Count, Counts, Defines, Gpu, GpuError, Groups, Stage};

/// A matrix of activations inside a buffer: `n` rows, `stride` f32 apart, starting at column `offset`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The buffer.
    pub buffer: &'a Buffer,
    /// f32 from row to row, a multiple of 4.
    pub stride: u32,
    /// First column, a multiple of 4.
    pub offset: u32,
}

impl<'a> Rows<'a> {
    /// Rows that fill the whole stride.
    #[must_use]
    pub fn of(buffer: &'a Buffer, stride: u32) -> Self {
        Self {
            buffer,
            stride,
            offset: 0,
        }
    }
}

/// Samples that one partial sum of weight gradients covers.
const CHUNK: u32 = 512;
const WORKGROUP: u32 = 64;

fn pad4(n: u32) -> u32 {
    n.next_multiple_of(4)
}

/// The layout of one network inside the parameter slab, and its kernels.
#[derive(Debug, Clone)]
pub struct Fused {
    /// Layer sizes, input and output included.
    dims: Vec<u32>,
    biases: bool,
    /// First f32 of the network in the slab.
    base: u32,
    samples_per_thread: u32,
}

/// What a forward pass is to leave behind for backward ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: outputs are all that is wanted.
    Nothing,
    /// Hidden activations, for gradients of the input.
    Activations,
    /// Room for the gradients of weights too.
    Gradients,
}

/// Buffers that hold what forward saves for backward.
#[derive(Debug, Clone)]
pub struct Activations {
    hidden: Buffer,
    d_hidden: Buffer,
    partials: Buffer,
}

impl Fused {
    /// A network of `dims` (input, hidden…, output) whose weights start at f32 `base` of the slab.
    #[must_use]
    pub fn new(gpu: &Gpu, dims: &[u32], biases: bool, base: u32) -> Self {
        // Two samples a thread share each weight load; one keeps registers free where samples are plenty.
        let samples_per_thread = if gpu.class() == AdapterClass::Software {
            2
        } else {
            1
        };
        Self {
            dims: dims.to_vec(),
            biases,
            base,
            samples_per_thread,
        }
    }

    /// Number of layers of weights.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.dims.len() - 1
    }

    /// Layer sizes: input, hidden…, output.
    #[must_use]
    pub fn dims(&self) -> &[u32] {
        &self.dims
    }

    /// Whether layers have biases.
    #[must_use]
    pub fn biases(&self) -> bool {
        self.biases
    }

    /// Padded inputs of layer `l`, the bias column included: the row stride its input needs at least.
    #[must_use]
    pub fn width(&self, l: usize) -> u32 {
        pad4(self.dims[l] + u32::from(self.biases))
    }

    /// Padded outputs of layer `l`.
    #[must_use]
    pub fn rows(&self, l: usize) -> u32 {
        pad4(self.dims[l + 1])
    }

    /// First f32 of layer `l` in the slab.
    #[must_use]
    pub fn offset(&self, l: usize) -> u32 {
        self.base + (0..l).map(|k| self.width(k) * self.rows(k)).sum::<u32>()
    }

    /// f32 the network takes in the slab.
    #[must_use]
    pub fn slab_len(&self) -> u32 {
        self.offset(self.n_layers()) - self.base
    }

    /// Multiply-adds of one sample's forward pass.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        self.dims
            .windows(2)
            .map(|d| u64::from(d[0]) * u64::from(d[1]))
            .sum()
    }

    /// Bytes of activations per sample that training keeps.
    #[must_use]
    pub fn activation_bytes(&self) -> u64 {
        u64::from(self.hidden_at(self.n_layers() - 1) + self.d_hidden_at(self.n_layers() - 1)) * 4
    }

    /// Column of hidden layer `l` (from 0) in a row of saved activations; of the last layer's index, the row's length.
    fn hidden_at(&self, l: usize) -> u32 {
        (1..=l).map(|k| self.width(k)).sum()
    }

    /// The same in a row of gradients, which have no bias column.
    fn d_hidden_at(&self, l: usize) -> u32 {
        (0..l).map(|k| self.rows(k)).sum()
    }

    /// Bytes of the buffers for what is kept of `capacity` samples: hidden activations, their gradients, partial sums.
    #[must_use]
    pub fn activation_buffers(&self, capacity: u64, keep: Keep) -> [u64; 3] {
        let last = self.n_layers() - 1;
        let largest = (0..self.n_layers())
            .map(|l| self.width(l) * self.rows(l))
            .max()
            .unwrap_or(0);
        let chunks = capacity.div_ceil(u64::from(CHUNK));
        let rows = |stride: u32| chunks * u64::from(CHUNK * stride) * 4;
        let hidden = rows(self.hidden_at(last));
        match keep {
            Keep::Nothing => [0; 3],
            Keep::Activations => [hidden, 0, 0],
            Keep::Gradients => [
                hidden,
                rows(self.d_hidden_at(last)),
                chunks * u64::from(largest) * 4,
            ],
        }
    }

    /// Buffers for what is kept of `capacity` samples.
    ///
    /// # Errors
    /// Those of allocation.
    pub fn activations(
        &self,
        gpu: &Gpu,
        label: &str,
        capacity: u64,
        keep: Keep,
    ) -> Result<Activations, GpuError> {
        let [hidden, d_hidden, partials] = self.activation_buffers(capacity, keep);
        let buffer = |role: &str, bytes: u64| gpu.buffer(&format!("{label} {role}"), bytes);
        Ok(Activations {
            hidden: buffer("hidden", hidden)?,
            d_hidden: buffer("d_hidden", d_hidden)?,
            partials: buffer("weight-gradient partials", partials)?,
        })
    }

    fn defines(&self, pass: &str, count: Count) -> Defines {
        let layers = self.n_layers();
        let per_layer = |f: &dyn Fn(usize) -> u32| (0..layers).map(f).collect::<Vec<u32>>();
        let widths = per_layer(&|l| self.width(l));
        let rows = per_layer(&|l| self.rows(l));
        let scratch = widths.iter().chain(&rows).copied().max().unwrap_or(4);
        Defines::new()
            .set("pass", pass)
            .set("count", count.field())
            .set("layers", layers)
            .set("biases", self.biases)
            .set("bias_at", &self.dims)
            .set("padded_rows", &rows)
            .set("rows", rows)
            .set("widths", widths)
            .set("hidden_at", per_layer(&|l| self.hidden_at(l)))
            .set("hidden_stride", self.hidden_at(layers - 1))
            .set("d_hidden_at", per_layer(&|l| self.d_hidden_at(l)))
            .set("d_hidden_stride", self.d_hidden_at(layers - 1))
            .set("offsets", per_layer(&|l| self.offset(l)))
            .set("scratch", scratch)
            .set("workgroup", WORKGROUP)
            .set("samples", self.samples_per_thread)
    }

    /// How the shader declares weights that it only reads: uniform where `slab` fits such a binding, since there a software
    /// adapter reads them without a branch.
    fn weight_defines(&self, gpu: &Gpu, slab: &Buffer) -> Defines {
        let (space, array) = if slab.bytes() <= gpu.max_uniform_bytes() {
            let quads = (self.base + self.slab_len()) / 4;
            ("var<uniform>", format!("array<vec4<f32>, {quads}>"))
        } else {
            ("var<storage, read>", "array<vec4<f32>>".to_owned())
        };
        Defines::new()
            .set("weight_space", space)
            .set("weight_array", array)
    }

    fn groups(&self, gpu: &Gpu, counts: &Counts, count: Count) -> Groups {
        counts.groups(gpu, count, WORKGROUP * self.samples_per_thread, 1)
    }

    /// Add: `output = network(input)` for `count` rows, keeping hidden activations in `save` if given. Where the output
    /// rows are narrower than the network's output, only the outputs that fit are computed.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn forward(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        count: Count,
        weights: &Buffer,
        input: Rows<'_>,
        output: Rows<'_>,
        save: Option<&Activations>,
    ) -> Result<(), GpuError> {
        let last = self.n_layers() - 1;
        let rows: Vec<u32> = (0..=last)
            .map(|l| {
                if l == last {
                    self.rows(l).min(output.stride)
                } else {
                    self.rows(l)
                }
            })
            .collect();
        let defines = self
            .defines("forward", count)
            .merge(self.weight_defines(gpu, weights))
            .set("rows", rows)
            .set("save", save.is_some())
            .set("in_stride", input.stride)
            .set("in_offset", input.offset)
            .set("out_stride", output.stride)
            .set("out_offset", output.offset);
        let mut bindings = vec![
            ("counts", &counts.state),
            ("weights", weights),
            ("network_input", input.buffer),
            ("network_output", output.buffer),
        ];
        bindings.extend(save.map(|activations| ("hidden", &activations.hidden)));
        stage.run(
            gpu,
            "network/fused",
            "forward",
            &defines,
            &bindings,
            self.groups(gpu, counts, count),
        )?;
        Ok(())
    }

    /// Add: `d_input = dL/dinput` (its first `d_input_width` columns) from `d_output = dL/doutput`. `d_first_input`, one
    /// value a row, is added to the gradient of input 0. `training` says whether the pre-activation gradients are kept
    /// for [`Self::weight_gradients`].
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn backward(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        count: Count,
        weights_transposed: &Buffer,
        d_output: Rows<'_>,
        d_first_input: Option<&Buffer>,
        activations: &Activations,
        d_input: Rows<'_>,
        d_input_width: u32,
        training: bool,
    ) -> Result<(), GpuError> {
        let layers = self.n_layers();
        let back_rows: Vec<u32> = (0..layers)
            .map(|l| if l == 0 { d_input_width } else { self.dims[l] })
            .collect();
        let padded: Vec<u32> = (0..layers).map(|l| self.rows(l)).collect();
        debug_assert!(d_output.stride >= padded[layers - 1] && d_input.stride >= d_input_width);
        let defines = self
            .defines("backward", count)
            .merge(self.weight_defines(gpu, weights_transposed))
            .set("save", training)
            .set("extra_d_input", d_first_input.is_some())
            .set("back_rows", back_rows)
            .set(
                "back_offsets",
                (0..layers).map(|l| self.offset(l)).collect::<Vec<_>>(),
            )
            .set("d_out_stride", d_output.stride)
            .set("d_out_offset", d_output.offset)
            .set("d_in_stride", d_input.stride);
        let mut bindings = vec![
            ("counts", &counts.state),
            ("weights_transposed", weights_transposed),
            ("d_output", d_output.buffer),
            ("d_input", d_input.buffer),
            ("hidden", &activations.hidden),
            ("d_hidden", &activations.d_hidden),
        ];
        bindings.extend(d_first_input.map(|b| ("d_first_input", b)));
        stage.run(
            gpu,
            "network/fused",
            "backward",
            &defines,
            &bindings,
            self.groups(gpu, counts, count),
        )?;
        Ok(())
    }

    /// Add: `gradients += dL/dW` of every layer, after [`Self::backward`] with `training`.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn weight_gradients(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        count: Count,
        input: Rows<'_>,
        d_output: Rows<'_>,
        activations: &Activations,
        gradients: &Buffer,
    ) -> Result<(), GpuError> {
        let last = self.n_layers() - 1;
        for l in (0..=last).rev() {
            let (width, rows) = (self.width(l), self.rows(l));
            let saved = |buffer, stride, offset| Rows {
                buffer,
                stride,
                offset,
            };
            let h = match l {
                0 => input,
                _ => saved(
                    &activations.hidden,
                    self.hidden_at(last),
                    self.hidden_at(l - 1),
                ),
            };
            let d = match l {
                _ if l == last => d_output,
                _ => saved(
                    &activations.d_hidden,
                    self.d_hidden_at(last),
                    self.d_hidden_at(l),
                ),
            };
            // The larger side lies on the lanes, where four values share a load.
            let lanes_are_inputs = width >= rows;
            let (on_lanes, on_rows, lanes, n_rows) = if lanes_are_inputs {
                (h, d, width, rows)
            } else {
                (d, h, rows, width)
            };
            let bias = if self.biases && l == 0 {
                i64::from(self.dims[0])
            } else {
                -1
            };
            let block = [16, 12, 8, 4]
                .into_iter()
                .find(|b| n_rows % b == 0)
                .unwrap_or(4);
            let defines = self
                .defines("weights", count)
                .set("lanes", lanes)
                .set("n_rows", n_rows)
                .set("block", block)
                .set("chunk", CHUNK)
                .set("lanes_stride", on_lanes.stride)
                .set("lanes_offset", on_lanes.offset)
                .set("lanes_bias", if lanes_are_inputs { bias } else { -1 })
                .set("rows_stride", on_rows.stride)
                .set("rows_offset", on_rows.offset)
                .set("rows_bias", if lanes_are_inputs { -1 } else { bias });
            let bindings = [
                ("counts", &counts.state),
                ("lanes_operand", on_lanes.buffer),
                ("rows_operand", on_rows.buffer),
                ("partials", &activations.partials),
            ];
            stage.run(
                gpu,
                "network/fused",
                "weights",
                &defines,
                &bindings,
                counts.groups(gpu, count, CHUNK, n_rows / block),
            )?;
            let defines = self
                .defines("reduce", count)
                .set("lanes", lanes)
                .set("n_rows", n_rows)
                .set("chunk", CHUNK)
                .set("offset", self.offset(l))
                .set("width", width)
                .set("lanes_are_inputs", lanes_are_inputs);
            let bindings = [
                ("counts", &counts.state),
                ("partials", &activations.partials),
                ("gradients", gradients),
            ];
            stage.run(
                gpu,
                "network/fused",
                "reduce",
                &defines,
                &bindings,
                Groups::covering(u64::from(lanes * n_rows), 64),
            )?;
        }
        Ok(())
    }

    /// Add: rewrite the transposed copy of the weights after they changed.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn transpose(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        weights: &Buffer,
        weights_transposed: &Buffer,
    ) -> Result<(), GpuError> {
        let bindings = [
            ("weights", weights),
            ("weights_transposed", weights_transposed),
        ];
        let end = u64::from(self.base + self.slab_len());
        stage.run(
            gpu,
            "network/fused",
            "transpose",
            &self.defines("transpose", Count::Kept),
            &bindings,
            Groups::covering(end, 64),
        )?;
        Ok(())
    }
}
