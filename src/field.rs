//! A radiance field: a position encoding that feeds a density network, whose outputs and an encoded view direction feed a
//! colour network. A field knows nothing of rays, images or backgrounds.

use crate::config::Field as FieldConfig;
use crate::encoding::{self, HashGrid, PositionEncoder};
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Stage};
use crate::network::fused::Activations;
use crate::network::{Fused, Keep, Rows};

/// The shape of a field.
#[derive(Debug, Clone)]
pub struct Field {
    /// The configuration it was made of.
    pub config: FieldConfig,
    /// Position encoding.
    pub position: PositionEncoder,
    /// Encoded position to raw density and features.
    pub density: Fused,
    /// Those and the encoded direction to raw colour.
    pub color: Fused,
}

/// Parameters to evaluate a field with: the trained ones, or their moving averages.
#[derive(Debug, Clone)]
pub struct FieldParameters {
    /// Hash table, chunk by chunk.
    pub tables: Vec<Buffer>,
    /// Network weights.
    pub weights: Buffer,
    /// Network weights, each layer transposed.
    pub transposed: Buffer,
}

impl FieldParameters {
    /// Bytes of the parameters of `field`.
    #[must_use]
    pub fn bytes(field: &Field) -> u64 {
        let features = field.tables().total_rows() * u64::from(field.tables().n_features());
        features * 4 + u64::from(field.slab_len()) * 8
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
    /// Raw colour of kept samples, four f32 apart.
    pub raw_color: Buffer,
    density_activations: Activations,
    color_activations: Activations,
    d_color_input: Buffer,
    d_features: Buffer,
}

/// f32 from one raw density to the next.
pub const RAW_DENSITY_STRIDE: u32 = 4;

/// What the colour network keeps when a field does: input gradients are only ever asked of the density.
fn color_keeps(keep: Keep) -> Keep {
    match keep {
        Keep::Gradients => Keep::Gradients,
        Keep::Nothing | Keep::Activations => Keep::Nothing,
    }
}

impl Field {
    /// Plan a field for a device.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] when a level of the hash grid does not fit a binding.
    pub fn new(gpu: &Gpu, config: &FieldConfig) -> Result<Self, GpuError> {
        let position = PositionEncoder::new(gpu, &config.position_encoding)?;
        let dims = |n_in: u32, network: &crate::config::Network, n_out: u32| {
            let mut dims = vec![n_in];
            dims.extend((0..network.n_hidden_layers).map(|_| network.n_neurons));
            dims.push(n_out);
            dims
        };
        let density_dims = dims(
            position.n_outputs(),
            &config.density_network,
            config.n_density_outputs,
        );
        let density = Fused::new(gpu, &density_dims, config.density_network.biases, 0);
        let n_color_inputs =
            config.n_density_outputs + encoding::n_direction_values(&config.direction_encoding);
        let color_dims = dims(n_color_inputs, &config.color_network, 3);
        let color = Fused::new(
            gpu,
            &color_dims,
            config.color_network.biases,
            density.slab_len(),
        );
        Ok(Self {
            config: config.clone(),
            position,
            density,
            color,
        })
    }

    /// The tables that the position encoding trains, which may be none.
    #[must_use]
    pub fn tables(&self) -> &HashGrid {
        self.position.tables()
    }

    /// f32 of all network weights in their slab.
    #[must_use]
    pub fn slab_len(&self) -> u32 {
        self.density.slab_len() + self.color.slab_len()
    }

    /// Row stride of encoded positions.
    #[must_use]
    pub fn feature_stride(&self) -> u32 {
        self.density.width(0)
    }

    /// Row stride of the colour network's input.
    #[must_use]
    pub fn color_stride(&self) -> u32 {
        self.color.width(0)
    }

    /// Bytes of each of the [`FieldBuffers`] for that many marched and kept samples.
    #[must_use]
    pub fn buffer_sizes(&self, marched: u64, kept: u64, keep: Keep) -> Vec<u64> {
        let rows = |n: u64, stride: u32| n.next_multiple_of(512) * u64::from(stride) * 4;
        let (features, color) = (self.feature_stride(), self.color_stride());
        let backward = if keep == Keep::Nothing { 0 } else { kept };
        let mut sizes = vec![
            rows(marched, features),
            rows(marched, RAW_DENSITY_STRIDE),
            rows(kept, features),
            rows(kept, color),
            rows(kept, 4),
            rows(backward, color),
            rows(backward, features),
        ];
        sizes.extend(self.density.activation_buffers(kept, keep));
        sizes.extend(self.color.activation_buffers(kept, color_keeps(keep)));
        sizes
    }

    /// Whether that many samples can be held without a buffer exceeding what `gpu` binds.
    #[must_use]
    pub fn fits(&self, gpu: &Gpu, marched: u64, kept: u64, keep: Keep) -> bool {
        let sizes = self.buffer_sizes(marched, kept, keep);
        sizes.iter().all(|&bytes| bytes <= gpu.max_binding_bytes())
    }

    /// Allocate for `marched` and `kept` samples; the buffers' labels start with `label`.
    ///
    /// # Errors
    /// Those of allocation.
    pub fn buffers(
        &self,
        gpu: &Gpu,
        label: &str,
        marched: u64,
        kept: u64,
        keep: Keep,
    ) -> Result<FieldBuffers, GpuError> {
        let sizes = self.buffer_sizes(marched, kept, keep);
        let buffer =
            |name: &str, index: usize| gpu.buffer(&format!("{label} {name}"), sizes[index]);
        let network = |name: &str| format!("{label} {name} network");
        let color = color_keeps(keep);
        Ok(FieldBuffers {
            features: buffer("features", 0)?,
            raw_density: buffer("raw density", 1)?,
            kept_features: buffer("kept features", 2)?,
            color_input: buffer("color input", 3)?,
            raw_color: buffer("raw color", 4)?,
            d_color_input: buffer("d_color input", 5)?,
            d_features: buffer("d_features", 6)?,
            density_activations: self
                .density
                .activations(gpu, &network("density"), kept, keep)?,
            color_activations: self
                .color
                .activations(gpu, &network("color"), kept, color)?,
        })
    }

    /// Add: encode the positions in `samples` and compute their raw density, for all marched samples.
    ///
    /// # Errors
    /// Those of compilation and binding.
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
        let features = Rows::of(&buffers.features, self.feature_stride());
        self.position.forward(
            gpu,
            encode,
            counts,
            Count::Marched,
            &parameters.tables,
            samples,
            features,
        )?;
        let raw = Rows::of(&buffers.raw_density, RAW_DENSITY_STRIDE);
        self.density.forward(
            gpu,
            network,
            counts,
            Count::Marched,
            &parameters.weights,
            features,
            raw,
            None,
        )
    }

    /// Add: raw density and raw colour of the kept samples from their features. `rays` and `kept_rays` give the
    /// directions.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn forward(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        rays: &Buffer,
        kept_rays: &Buffer,
        buffers: &FieldBuffers,
        keep: Keep,
    ) -> Result<(), GpuError> {
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let color_input = Rows::of(&buffers.color_input, self.color_stride());
        let saved = (keep != Keep::Nothing).then_some(&buffers.density_activations);
        self.density.forward(
            gpu,
            stage,
            counts,
            Count::Kept,
            &parameters.weights,
            features,
            color_input,
            saved,
        )?;
        let directions = Rows {
            offset: self.config.n_density_outputs,
            ..color_input
        };
        let encoding = &self.config.direction_encoding;
        encoding::encode_directions(gpu, stage, counts, encoding, rays, kept_rays, directions)?;
        let saved = (color_keeps(keep) != Keep::Nothing).then_some(&buffers.color_activations);
        let raw = Rows::of(&buffers.raw_color, 4);
        self.color.forward(
            gpu,
            stage,
            counts,
            Count::Kept,
            &parameters.weights,
            color_input,
            raw,
            saved,
        )
    }

    /// Add: gradients of all parameters from those of raw colour and raw density at the kept samples.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn backward(
        &self,
        gpu: &Gpu,
        network: &mut Stage,
        encode: &mut Stage,
        counts: &Counts,
        parameters: &FieldParameters,
        samples: &Buffer,
        d_raw_color: &Buffer,
        d_raw_density: &Buffer,
        buffers: &FieldBuffers,
        weight_gradients: &Buffer,
        gradient_scales: &Buffer,
        table_gradients: &[Buffer],
    ) -> Result<(), GpuError> {
        let count = Count::Kept;
        let transposed = &parameters.transposed;
        let d_color = Rows::of(d_raw_color, 4);
        let color_input = Rows::of(&buffers.color_input, self.color_stride());
        let d_color_input = Rows::of(&buffers.d_color_input, self.color_stride());
        let features = Rows::of(&buffers.kept_features, self.feature_stride());
        let d_features = Rows::of(&buffers.d_features, self.feature_stride());
        let n = self.config.n_density_outputs;
        let (saved_color, saved_density) =
            (&buffers.color_activations, &buffers.density_activations);
        self.color.backward(
            gpu,
            network,
            counts,
            count,
            transposed,
            d_color,
            Some(d_raw_density),
            saved_color,
            d_color_input,
            n,
            true,
        )?;
        self.color.weight_gradients(
            gpu,
            network,
            counts,
            count,
            color_input,
            d_color,
            saved_color,
            weight_gradients,
        )?;
        let width = self.position.n_outputs().next_multiple_of(4);
        self.density.backward(
            gpu,
            network,
            counts,
            count,
            transposed,
            d_color_input,
            None,
            saved_density,
            d_features,
            width,
            true,
        )?;
        self.density.weight_gradients(
            gpu,
            network,
            counts,
            count,
            features,
            d_color_input,
            saved_density,
            weight_gradients,
        )?;
        self.tables().backward(
            gpu,
            encode,
            counts,
            count,
            samples,
            d_features,
            gradient_scales,
            table_gradients,
        )
    }

    /// Add: the gradient of the raw density with respect to position in the box, at the kept samples, after a forward
    /// pass that saved activations.
    ///
    /// # Errors
    /// Those of compilation and binding.
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
        let stride = self.color_stride();
        let width = self.density.rows(self.density.n_layers() - 1);
        let defines = Defines::new().set("stride", stride).set("width", width);
        let bindings = [
            ("counts", &counts.state),
            ("d_output", &buffers.d_color_input),
        ];
        stage.run(
            gpu,
            "entry/one_hot",
            "one_hot",
            &defines,
            &bindings,
            counts.groups(gpu, Count::Kept, 64, 1),
        )?;
        let one_hot = Rows::of(&buffers.d_color_input, stride);
        let d_features = Rows::of(&buffers.d_features, self.feature_stride());
        let width = self.position.n_outputs().next_multiple_of(4);
        let saved = &buffers.density_activations;
        self.density.backward(
            gpu,
            stage,
            counts,
            Count::Kept,
            &parameters.transposed,
            one_hot,
            None,
            saved,
            d_features,
            width,
            false,
        )?;
        self.position.d_position(
            gpu,
            stage,
            counts,
            Count::Kept,
            &parameters.tables,
            samples,
            d_features,
            d_position,
        )
    }

    /// Add: rewrite the transposed weights after the weights changed.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn transpose(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        parameters: &FieldParameters,
    ) -> Result<(), GpuError> {
        for network in [&self.density, &self.color] {
            network.transpose(gpu, stage, &parameters.weights, &parameters.transposed)?;
        }
        Ok(())
    }

    /// Zeroed parameters of this shape, for [`crate::train::Trainer::settle`] to fill.
    ///
    /// # Errors
    /// Those of allocation.
    pub fn parameters(&self, gpu: &Gpu) -> Result<FieldParameters, GpuError> {
        let bytes = u64::from(self.slab_len()) * 4;
        Ok(FieldParameters {
            tables: self.tables().allocate(gpu, "settled hash table", 4)?,
            weights: gpu.buffer("settled weights", bytes)?,
            transposed: gpu.buffer("settled weights transposed", bytes)?,
        })
    }
}
