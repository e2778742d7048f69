//! Passes: where samples lie, and the field that is evaluated there.

use serde::{Deserialize, Serialize};

use crate::aabb::Aabb;

/// One pass: where samples lie, and the field that is evaluated there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassConfig {
    /// Factor on this pass's loss.
    #[serde(default = "super::optimizer::one")]
    pub loss_weight: f32,
    /// Where samples lie.
    pub sampler: Sampler,
    /// What is evaluated.
    pub field: FieldConfig,
}

/// Where samples lie along a ray.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    /// Steps through the occupied cells of the occupancy grid.
    RayMarch {
        /// Steps along a diagonal of the unit cube.
        steps: u32,
        /// Growth of the step with distance; left out: 0 for `aabb_scale` 1, else 4 / `steps` (Instant-NGP's 1/256 at its 1,024).
        #[serde(default)]
        cone_angle: Option<f32>,
        /// First training steps, over which steps fall from twice their length to their own, so that a batch holds more
        /// rays while little is known to be empty; left out: 256 where steps grow by 1/128 or more, else 0.
        #[serde(default)]
        coarse_steps: Option<u32>,
        /// Samples per ray at most.
        max_samples: u32,
        /// Samples behind this transmittance are culled.
        min_transmittance: f32,
    },
    /// A fixed number between near and far.
    Stratified {
        /// Samples per ray.
        n_samples: u32,
        /// Whether samples move within their interval while training.
        jitter: bool,
        /// Samples behind this transmittance are culled; 0 keeps all.
        #[serde(default)]
        min_transmittance: f32,
        /// Whether samples outside the scene's box are left out.
        #[serde(default = "yes")]
        bounded: bool,
        /// What is spaced evenly; left out, disparity where the dataset looks forward into an open scene, else distance.
        #[serde(default)]
        spacing: Option<Spacing>,
        /// What the last sample of a ray stands for, in what near and far measure; left out, all that lies behind it.
        #[serde(default)]
        last_interval: Option<f32>,
    },
    /// Samples where the pass before saw something (Mildenhall et al. 2020, section 5.2).
    Importance {
        /// Samples drawn per ray.
        n_samples: u32,
        /// Whether samples move within their interval while training.
        jitter: bool,
        /// Whether the samples of the pass before are evaluated once more with them.
        #[serde(default = "yes")]
        merge: bool,
    },
}

/// What a sampler spaces evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Distance.
    Linear,
    /// One over distance.
    Disparity,
}

impl Sampler {
    /// Samples behind this transmittance are culled; 0 keeps all.
    #[must_use]
    pub fn min_transmittance(&self) -> f32 {
        match *self {
            Self::RayMarch {
                min_transmittance, ..
            }
            | Self::Stratified {
                min_transmittance, ..
            } => min_transmittance,
            Self::Importance { .. } => 0.0,
        }
    }
}

/// A radiance field: an encoding that feeds a network, twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Encoding of positions in [0, 1]³.
    pub position_encoding: PositionEncoding,
    /// Encoding of unit view directions.
    #[serde(default)]
    pub direction_encoding: DirectionEncoding,
    /// Cells of the box that have networks of their own; left out, one of each serves the whole box.
    #[serde(default)]
    pub cells: Option<Cells>,
    /// Network from encoded position to density and features.
    pub density_network: NetworkConfig,
    /// Outputs of the density network: the raw density first, then features, or the raw colour without a colour network.
    pub n_density_outputs: u32,
    /// Whether the raw density feeds the colour network as the features do.
    #[serde(default = "yes")]
    pub density_to_color: bool,
    /// Activation of the features.
    #[serde(default)]
    pub feature_activation: FeatureActivation,
    /// Network from features and the encoded direction to raw colour. Left out, the density network's outputs are density
    /// and colour.
    #[serde(default)]
    pub color_network: Option<NetworkConfig>,
    /// Raw density to σ, per unit of the space that samples lie in.
    #[serde(default)]
    pub density_activation: DensityActivation,
    /// Added to raw density before an exponential: below 0 a field begins thinner, so that light of a large scene is not lost
    /// before the cameras. Left out, -1.2 where rays are marched through cascades of normalised length in
    /// steps that grow by 1/128 or more, and 0 elsewhere.
    #[serde(default)]
    pub density_bias: Option<f32>,
    /// Raw colour to colour.
    #[serde(default)]
    pub color_activation: ColorActivation,
}

impl FieldConfig {
    /// Whether the fused kernels hold its networks: all layers narrow and plain.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        let narrow =
            |n: &NetworkConfig| n.n_neurons <= 64 && n.n_hidden_layers <= 4 && n.skips.is_empty();
        let color = self.color_network.as_ref();
        narrow(&self.density_network) && color.is_none_or(narrow) && self.n_density_outputs <= 65
    }

    /// Whether the raw density lies apart from the features, which then begin at a whole vec4.
    #[must_use]
    pub fn density_apart(&self) -> bool {
        !self.density_to_color || self.color_network.is_none()
    }

    /// Whether features are rectified.
    #[must_use]
    pub fn rectifies_features(&self) -> bool {
        self.feature_activation == FeatureActivation::Relu
    }

    /// The networks there are, by key.
    pub(super) fn networks(&self) -> impl Iterator<Item = (&'static str, &NetworkConfig)> {
        let color = self.color_network.as_ref().map(|n| ("color_network", n));
        std::iter::once(("density_network", &self.density_network)).chain(color)
    }
}

/// A grid of cells, each with networks of its own (Reiser et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    /// Cells along x, y and z; left out, near-cubic ones, `longest` of them along the longest side.
    #[serde(default)]
    pub resolution: Option<[u32; 3]>,
    /// See `resolution`.
    #[serde(default = "default_longest")]
    pub longest: u32,
    /// MiB that the networks may take with their gradients, moments and averages: near-cubic cells, as small as fit, take the
    /// place of `longest`, and this is left out once they are known.
    #[serde(default)]
    pub memory_mib: Option<f32>,
    /// Corner of the grid with the lowest coordinates, in the scene's box [0, 1]³. There is nothing outside the grid.
    #[serde(default)]
    pub low: [f32; 3],
    /// Corner of the grid with the highest coordinates, in the scene's box.
    #[serde(default = "ones")]
    pub high: [f32; 3],
    /// Whether frequencies encode a position as -1 to 1 within its cell, rather than its world coordinates.
    #[serde(default = "yes")]
    pub local: bool,
    /// Cells that have networks; there is nothing in the others. Left out, all have.
    #[serde(default)]
    pub occupied: Option<u32>,
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            resolution: None,
            longest: default_longest(),
            memory_mib: None,
            low: [0.0; 3],
            high: [1.0; 3],
            local: true,
            occupied: None,
        }
    }
}

impl Cells {
    /// What shaders count networks with.
    pub const MAX_NETWORKS: u32 = 32_768;
    /// Cells with and without networks.
    pub const MAX_CELLS: u64 = 1 << 24;
    /// Cells along a side.
    pub const MAX_SIDE: u32 = 1024;

    /// What the grid covers, in the scene's box.
    #[must_use]
    pub fn bounds(&self) -> Aabb<f32> {
        Aabb {
            low: self.low,
            high: self.high,
        }
    }

    /// Cells along x, y and z.
    #[must_use]
    pub fn resolution(&self) -> [u32; 3] {
        let sides: [f32; 3] = std::array::from_fn(|a| self.high[a] - self.low[a]);
        let longest = sides.iter().copied().fold(0.0, f32::max);
        self.resolution.unwrap_or_else(|| {
            sides.map(|side| ((side / longest * self.longest as f32).round() as u32).max(1))
        })
    }

    /// Number of networks of a kind.
    #[must_use]
    pub fn n_networks(&self) -> u32 {
        self.occupied
            .unwrap_or_else(|| self.resolution().iter().product())
    }
}

fn default_longest() -> u32 {
    16
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// Encoding of positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PositionEncoding {
    /// Multiresolution hash grid.
    HashGrid(HashGridConfig),
    /// Sines and cosines.
    Frequency(FrequencyConfig),
}

/// Parameters of a frequency encoding of positions (Mildenhall et al. 2020, eq. 4, without the factor π).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrequencyConfig {
    /// Number of frequencies: 1 to 20.
    pub n_frequencies: u32,
    /// Whether the position itself comes first.
    #[serde(default = "yes")]
    pub include_input: bool,
    /// Logarithm of the highest frequency; the frequencies are 1 to `2^max_log2`, evenly spaced in the exponent. Where left
    /// out, powers of two.
    #[serde(default)]
    pub max_log2: Option<f64>,
    /// What is encoded is `scale p + offset`, for positions p in [0, 1]³ of the scene's box; where left out, world
    /// coordinates.
    #[serde(default)]
    pub scale: Option<f32>,
    /// See `scale`.
    #[serde(default)]
    pub offset: Option<[f32; 3]>,
}

/// Parameters of a hash grid, named as in tiny-cuda-nn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashGridConfig {
    /// Number of levels.
    pub n_levels: u32,
    /// Features per level: 1, 2, 4 or 8.
    pub n_features_per_level: u32,
    /// Rows of a level at most, as a power of two.
    pub log2_hashmap_size: u32,
    /// Cells per axis of the coarsest level.
    pub base_resolution: u32,
    /// Growth from level to level; left out, it makes the finest level `finest_resolution` cells.
    #[serde(default)]
    pub per_level_scale: Option<f64>,
    /// Cells per axis of the finest level per unit cube, where `per_level_scale` is left out.
    #[serde(default = "finest")]
    pub finest_resolution: u32,
    /// Whether levels that fit are indexed directly instead of hashed.
    #[serde(default = "yes")]
    pub dense_levels: bool,
    /// Shift of the grid in cells: 0.5 as in tiny-cuda-nn, or 0.
    #[serde(default = "half_f64")]
    pub grid_offset: f64,
}

fn finest() -> u32 {
    2048
}

pub(super) fn yes() -> bool {
    true
}

fn half_f64() -> f64 {
    0.5
}

/// Encoding of view directions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DirectionEncoding {
    /// Colour does not depend on the direction.
    #[default]
    None,
    /// Real spherical harmonics.
    SphericalHarmonics {
        /// Number of bands: 1 to 4.
        degree: u32,
    },
    /// Sines and cosines.
    Frequency {
        /// Number of octaves.
        n_frequencies: u32,
        /// Whether the direction itself comes first.
        #[serde(default = "yes")]
        include_input: bool,
    },
}

/// A multi-layer perceptron.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Neurons per hidden layer: a multiple of 4 up to 512.
    pub n_neurons: u32,
    /// Hidden layers.
    pub n_hidden_layers: u32,
    /// Whether layers have biases.
    #[serde(default)]
    pub biases: bool,
    /// Layers, counted from 0, whose input is the output of the layer before followed by the network's own.
    #[serde(default)]
    pub skips: Vec<u32>,
    /// Distribution that weights and biases start from.
    #[serde(default)]
    pub initialization: Initialization,
}

/// Distribution that weights and biases start from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// Weights uniform in ±√(6 / (`n_in` + `n_out`)), biases 0 (Glorot and Bengio 2010).
    #[default]
    XavierUniform,
    /// Weights and biases uniform in ±1/√`n_in`, as `torch.nn.Linear` has it.
    TorchLinear,
}

/// Features that the density network hands to the colour network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureActivation {
    /// Identity.
    #[default]
    None,
    /// Rectified linear.
    Relu,
}

/// Raw density to σ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DensityActivation {
    /// Exponential.
    #[default]
    Exp,
    /// Rectified linear.
    Relu,
    /// log(1 + eˣ)
    Softplus,
}

/// Raw colour to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorActivation {
    /// Logistic.
    #[default]
    Sigmoid,
    /// Identity.
    None,
}
