//! Networks: multi-layer perceptrons behind one interface of forward and backward.

pub mod binned;
pub mod fused;
pub mod layout;
pub mod tiled;
mod weight_gradients;

pub use binned::{Bins, CellGrid, GridTooLarge};
pub use fused::Fused;
pub use layout::{LayerMatrix, Layout};
pub use tiled::Tiled;

use crate::gpu::{Allocator, Buffer, Count, Counts, GpuError, Stage};

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

/// Which rows a network is evaluated for.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Counts on the device.
    pub counts: &'a Counts,
    /// Which of them says how many rows there are.
    pub count: Count,
    /// Which network each row is for, where there is a grid of them.
    pub bins: Option<&'a Bins>,
}

impl<'a> Batch<'a> {
    /// `count` rows, all for the same network.
    #[must_use]
    pub fn of(counts: &'a Counts, count: Count) -> Self {
        Self {
            counts,
            count,
            bins: None,
        }
    }
}

/// What a forward pass is to leave behind for backward ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedActivations {
    /// Nothing: outputs are all that is wanted.
    Nothing,
    /// Hidden activations, for gradients of the input.
    Activations,
    /// Room for the gradients of weights too.
    Gradients,
}

/// Which networks of a grid the step under way updated.
#[derive(Debug, Clone, Copy)]
pub struct Updated<'a> {
    /// Counts on the device, the number of the step among them.
    pub counts: &'a Counts,
    /// Per network: updates, and the step of the last one, counted from 1.
    pub counters: &'a Buffer,
}

/// Network weights on the device.
#[derive(Debug, Clone)]
pub struct Weights {
    /// The slab, `[out][in]` per layer.
    pub values: Buffer,
    /// The slab, `[in][out]` per layer.
    pub transposed: Buffer,
}

/// Buffers for what a network computes on the way, and what forward saves for backward.
#[derive(Debug, Clone)]
pub struct Activations {
    /// What a forward pass leaves there.
    pub saved: SavedActivations,
    hidden: Vec<Buffer>,
    d_hidden: Vec<Buffer>,
    partials: Buffer,
}

/// Bytes of each of the [`Activations`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ActivationBytes {
    hidden: Vec<u64>,
    d_hidden: Vec<u64>,
    partials: u64,
}

/// Where the gradients of a backward pass come from and go to.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// dL/doutput.
    pub d_output: Rows<'a>,
    /// One value a row that is added to the gradient of input 0.
    pub d_first_input: Option<&'a Buffer>,
    /// dL/dinput, of its first columns, as many as given.
    pub d_input: Option<(Rows<'a>, u32)>,
    /// Where the input was the output of a rectifier: its values, behind which gradients vanish where they are not positive.
    pub rectified_input: Option<Rows<'a>>,
    /// What dL/dW is added to.
    pub weight_gradients: Option<&'a Buffer>,
    /// Whether the gradients of those networks of a grid that have samples replace what was there before.
    pub overwrite: bool,
}

/// A multi-layer perceptron.
#[derive(Debug, Clone)]
pub enum Network {
    /// Narrow: all layers in one kernel.
    Fused(Fused),
    /// Wide: a matrix product per layer.
    Tiled(Tiled),
}

impl Network {
    /// Sizes and places of the layers.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        match self {
            Self::Fused(network) => &network.layout,
            Self::Tiled(network) => &network.layout,
        }
    }

    /// Bytes of activations per sample that training moves.
    #[must_use]
    pub fn activation_bytes(&self) -> u64 {
        match self {
            Self::Fused(network) => network.activation_bytes(),
            Self::Tiled(network) => network.activation_bytes(),
        }
    }

    /// Buffers for what is `saved` of `capacity` samples.
    ///
    /// # Errors
    /// As [`Allocator::buffer`].
    pub fn activations(
        &self,
        allocator: &dyn Allocator,
        label: &str,
        capacity: u64,
        saved: SavedActivations,
    ) -> Result<Activations, GpuError> {
        let bytes = match self {
            Self::Fused(network) => network.activation_buffers(capacity, saved),
            Self::Tiled(network) => network.activation_buffers(capacity, saved),
        };
        let buffer = |role: &str, bytes: u64| allocator.array(label, role, bytes, 1);
        let buffers = |role: &str, all: &[u64]| -> Result<Vec<Buffer>, GpuError> {
            all.iter().map(|&bytes| buffer(role, bytes)).collect()
        };
        Ok(Activations {
            saved,
            hidden: buffers("hidden", &bytes.hidden)?,
            d_hidden: buffers("d_hidden", &bytes.d_hidden)?,
            partials: buffer("weight-gradient partials", bytes.partials)?,
        })
    }

    /// Add: `output = network(input)` for the rows of `batch`; `activations` say what is saved. Where the output rows are
    /// narrower than the network's output, only the outputs that fit are computed.
    pub fn forward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        weights: &Weights,
        input: Rows<'_>,
        output: Rows<'_>,
        activations: &Activations,
    ) -> Result<(), GpuError> {
        match self {
            Self::Fused(network) => {
                network.forward(stage, batch, &weights.values, input, output, activations)
            }
            Self::Tiled(network) => {
                let transposed = &weights.transposed;
                network.forward(stage, batch, transposed, input, output, activations)
            }
        }
    }

    /// Add: gradients of the input and of the weights, after a forward pass over `input` that kept what they need.
    pub fn backward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        weights: &Weights,
        input: Rows<'_>,
        activations: &Activations,
        gradients: &Backward<'_>,
    ) -> Result<(), GpuError> {
        match self {
            Self::Fused(network) => network.backward(
                stage,
                batch,
                &weights.transposed,
                input,
                activations,
                gradients,
            ),
            Self::Tiled(network) => {
                network.backward(stage, batch, &weights.values, input, activations, gradients)
            }
        }
    }

    /// Add: rewrite the transposed copy of the weights after they changed; of a grid of networks, if `updated` is given, of
    /// those alone whose counters say that the step under way updated them.
    pub fn transpose(
        &self,
        stage: &mut Stage,
        weights: &Weights,
        updated: Option<Updated<'_>>,
    ) -> Result<(), GpuError> {
        weight_gradients::transpose(stage, self.layout(), weights, updated)
    }
}
