//! Evaluation of a field, forward and backward.

use super::buffers::{FieldBuffers, FieldParameters};
use super::{Field, RAW_DENSITY_STRIDE};
use crate::encoding;
use crate::gpu::{Buffer, Counts, Defines, GpuError, Stage};
use crate::network::binned::BinnedOutputs;
use crate::network::{Backward, Batch, Rows};
use crate::step_state::StepState;

/// The samples that a field is evaluated at.
#[derive(Debug, Clone, Copy)]
pub struct FieldInputs<'a> {
    /// Counts on the device, of which [`StepState::KEPT`] is the number of samples.
    pub counts: &'a Counts,
    /// Positions in the box.
    pub positions: &'a Buffer,
    /// Ray of each sample.
    pub sample_rays: &'a Buffer,
    /// The rays, which give the view directions.
    pub rays: &'a Buffer,
}

impl<'a> FieldInputs<'a> {
    /// The batch of samples, in sample order.
    fn batch(&self) -> Batch<'a> {
        Batch::of(self.counts, StepState::KEPT)
    }
}

/// The buffers that a field's backward pass adds gradients to.
#[derive(Debug, Clone, Copy)]
pub struct FieldGradients<'a> {
    /// dL/dW, in the layout of the weights.
    pub weights: &'a Buffer,
    /// Whether the gradients of a grid's networks overwrite `weights` instead.
    pub overwrite: bool,
    /// Gradients of the hash table, chunk by chunk, in fixed point.
    pub tables: &'a [Buffer],
    /// Fixed-point scale of each level's gradients.
    pub scales: &'a Buffer,
}

impl Field {
    /// Add: encode the positions in `samples` and compute their raw density, for all marched samples.
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
            let outputs = BinnedOutputs {
                binned_density: (raw, RAW_DENSITY_STRIDE),
                density: (&buffers.raw_density, RAW_DENSITY_STRIDE),
                color: None,
            };
            bins.scatter(network, marched, &outputs)?;
        }
        Ok(())
    }

    /// Add: encode the positions of the kept samples, for which features of marched samples are not reused.
    pub fn encode_kept(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &FieldInputs<'_>,
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

    /// Add: compute the raw density of the kept samples from their features, and their raw colour if `with_color`.
    pub fn forward(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &FieldInputs<'_>,
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
            let outputs = BinnedOutputs {
                binned_density: (&buffers.color_input, self.color_stride()),
                density: (&kept.raw_density, 1),
                color: with_color.then_some((&buffers.raw_color, &kept.raw_color)),
            };
            kept.bins.scatter(stage, samples.batch(), &outputs)?;
        }
        Ok(())
    }

    /// Add: compute the raw colour of the kept samples from the outputs of the density network, if there is a colour network.
    fn color(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &FieldInputs<'_>,
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

    /// Add: compute the gradients of all parameters from those of the raw outputs in [`Self::d_raw_outputs`].
    pub fn backward(
        &self,
        network: &mut Stage,
        encode: &mut Stage,
        parameters: &FieldParameters,
        samples: &FieldInputs<'_>,
        buffers: &FieldBuffers,
        gradients: &FieldGradients<'_>,
    ) -> Result<(), GpuError> {
        let weights = &parameters.weights;
        let batch = buffers.kept_batch(samples.counts);
        let mut positions = samples.positions;
        if let Some(kept) = &buffers.kept_bins {
            let sorted = self.d_outputs(buffers);
            let gradients = BinnedOutputs {
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

    /// Add: compute the gradient of the raw density with respect to position in the box, at the kept samples, after a forward
    /// pass that saved activations.
    pub fn density_gradient(
        &self,
        stage: &mut Stage,
        parameters: &FieldParameters,
        samples: &FieldInputs<'_>,
        buffers: &FieldBuffers,
        d_position: &Buffer,
    ) -> Result<(), GpuError> {
        let batch = buffers.kept_batch(samples.counts);
        let (mut positions, mut into) = (samples.positions, d_position);
        if let Some(kept) = &buffers.kept_bins {
            // Raw colours have been scattered back already, so their buffer is free.
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
}
