//! Multi-layer perceptrons with a common interface for the forward and the backward pass.

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
    /// Row stride in f32, a multiple of 4.
    pub stride: u32,
    /// First column, a multiple of 4.
    pub offset: u32,
}

impl<'a> Rows<'a> {
    /// Rows that start at column 0.
    #[must_use]
    pub fn of(buffer: &'a Buffer, stride: u32) -> Self {
        Self {
            buffer,
            stride,
            offset: 0,
        }
    }
}

/// The rows that a network is evaluated for.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Counts on the device.
    pub counts: &'a Counts,
    /// The count that gives the number of rows.
    pub count: Count,
    /// The network of each row, for a grid of networks.
    pub bins: Option<&'a Bins>,
}

impl<'a> Batch<'a> {
    /// Create a batch of `count` rows for a single network.
    #[must_use]
    pub fn of(counts: &'a Counts, count: Count) -> Self {
        Self {
            counts,
            count,
            bins: None,
        }
    }
}

/// What a forward pass saves for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedActivations {
    /// Nothing: only the outputs are needed.
    Nothing,
    /// Hidden activations, for input gradients.
    Activations,
    /// Hidden activations, with buffers for weight gradients.
    Gradients,
}

/// Identifies the networks of a grid that the current step updated.
#[derive(Debug, Clone, Copy)]
pub struct Updated<'a> {
    /// Counts on the device, which include the step number.
    pub counts: &'a Counts,
    /// Per network: number of updates, and step of the last update, counted from 1.
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

/// Buffers for a network's hidden activations and for their gradients.
#[derive(Debug, Clone)]
pub struct Activations {
    /// What a forward pass saves.
    pub saved: SavedActivations,
    hidden: Vec<Buffer>,
    d_hidden: Vec<Buffer>,
    partials: Buffer,
}

/// Size in bytes of each buffer of [`Activations`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ActivationBytes {
    hidden: Vec<u64>,
    d_hidden: Vec<u64>,
    partials: u64,
}

/// Inputs and outputs of a backward pass.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// dL/doutput.
    pub d_output: Rows<'a>,
    /// One value per row, which is added to the gradient of input 0.
    pub d_first_input: Option<&'a Buffer>,
    /// dL/dinput, and the number of its columns to compute, from the first on.
    pub d_input: Option<(Rows<'a>, u32)>,
    /// The input if it is the output of a `ReLU`: gradients are zero where its values are not positive.
    pub rectified_input: Option<Rows<'a>>,
    /// The buffer that dL/dW is added to.
    pub weight_gradients: Option<&'a Buffer>,
    /// Whether weight gradients overwrite the buffer instead, for those networks of a grid that have samples.
    pub overwrite: bool,
}

/// A multi-layer perceptron.
#[derive(Debug, Clone)]
pub enum Network {
    /// Narrow: all layers in one kernel.
    Fused(Fused),
    /// Wide: one matrix product per layer.
    Tiled(Tiled),
}

impl Network {
    /// Sizes and offsets of the layers.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        match self {
            Self::Fused(network) => &network.layout,
            Self::Tiled(network) => &network.layout,
        }
    }

    /// Bytes of hidden activations and their gradients per sample in training.
    #[must_use]
    pub fn activation_bytes(&self) -> u64 {
        match self {
            Self::Fused(network) => network.activation_bytes(),
            Self::Tiled(network) => network.activation_bytes(),
        }
    }

    /// Allocate buffers for `capacity` samples, of which a forward pass saves what `saved` says.
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

    /// Add: `output = network(input)` for the rows of `batch`; `activations.saved` says what is saved. If the output rows are
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

    /// Add: compute the gradients with respect to the input and the weights, after a forward pass over `input` that saved the
    /// activations they need.
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

    /// Add: update the transposed copy of the weights. In a grid of networks, `updated` restricts this to the networks that the
    /// current step updated.
    pub fn transpose(
        &self,
        stage: &mut Stage,
        weights: &Weights,
        updated: Option<Updated<'_>>,
    ) -> Result<(), GpuError> {
        weight_gradients::transpose(stage, self.layout(), weights, updated)
    }
}
