//! Passes: a sampler along rays, and the field evaluated at its samples.

use serde::{Deserialize, Serialize};

use crate::aabb::Aabb;

/// One pass: a sampler along rays, and the field evaluated at its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassConfig {
    /// Weight of this pass's loss; positive. Default: 1.
    #[serde(default = "super::optimizer::one")]
    pub loss_weight: f32,
    /// Where samples lie along a ray.
    pub sampler: Sampler,
    /// The field evaluated at the samples.
    pub field: FieldConfig,
}

/// A sampler: where samples lie along a ray.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    /// Ray marching through the occupied cells of the occupancy grid.
    RayMarch {
        /// Number of minimum steps along a diagonal of the unit cube: 1 to 65,536.
        steps: u32,
        /// Growth of the step with the distance from the ray's origin, in [0, 1). Default: 0 if `aabb_scale` is 1, else 4 /
        /// `steps` (Instant-NGP's 1/256 for its 1,024 steps).
        #[serde(default)]
        cone_angle: Option<f32>,
        /// Number of initial training steps over which the marching step shrinks from twice its length to its length, so that a
        /// batch holds more rays while few cells are known to be empty. Default: 1,024 if the box has cascades and steps grow
        /// by at least 1/128, else 0; 0 in meta-learning.
        #[serde(default)]
        coarse_steps: Option<u32>,
        /// Maximum number of samples per ray: 2 to 16,384.
        max_samples: u32,
        /// Transmittance below which samples are culled, in [0, 1); 0 keeps all.
        min_transmittance: f32,
    },
    /// Stratified sampling: a fixed number of samples between near and far (Mildenhall et al. 2020, eq. 2).
    Stratified {
        /// Number of samples per ray: 2 to 16,384.
        n_samples: u32,
        /// Whether samples are jittered within their intervals in training.
        jitter: bool,
        /// Transmittance below which samples are culled, in [0, 1); 0, the default, keeps all.
        #[serde(default)]
        min_transmittance: f32,
        /// Whether samples outside the scene's box are left out. Default: true.
        #[serde(default = "default_true")]
        bounded: bool,
        /// Quantity in which samples are evenly spaced. Default: disparity in world space if the dataset's reader has
        /// normalised the scene by its depths (LLFF captures), else distance.
        #[serde(default)]
        spacing: Option<Spacing>,
        /// Length of the interval of a ray's last sample, in the units of near and far: above 0, at most
        /// 1e10. Default: infinite.
        #[serde(default)]
        last_interval: Option<f32>,
    },
    /// Importance sampling from the compositing weights of the previous pass's samples (Mildenhall et al. 2020, section 5.2).
    Importance {
        /// Number of samples drawn per ray: 2 to 16,384.
        n_samples: u32,
        /// Whether samples are jittered within their intervals in training.
        jitter: bool,
        /// Whether the samples of the previous pass are evaluated again, together with the new ones. Default: true.
        #[serde(default = "default_true")]
        merge: bool,
    },
}

/// Quantity in which a sampler spaces samples evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Distance.
    Linear,
    /// Disparity: the reciprocal of the distance.
    Disparity,
}

impl Sampler {
    /// Return the transmittance below which samples are culled; 0 keeps all.
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

/// A radiance field: position encoding and density network, direction encoding and colour network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Encoding of positions in the scene's box, [0, 1]³.
    pub position_encoding: PositionEncoding,
    /// Encoding of unit view directions. Default: none.
    #[serde(default)]
    pub direction_encoding: DirectionEncoding,
    /// Grid of cells with their own networks. Default: one network of each kind for the whole box.
    #[serde(default)]
    pub cells: Option<Cells>,
    /// Network from the encoded position to raw density and features.
    pub density_network: NetworkConfig,
    /// Number of outputs of the density network: the raw density, then features, or the raw colour if there is no colour
    /// network. A multiple of 4 up to 512, plus 1 if `density_to_color` is false; 4 without a colour network.
    pub n_density_outputs: u32,
    /// Whether the raw density, like the features, is an input of the colour network. Default: true.
    #[serde(default = "default_true")]
    pub density_to_color: bool,
    /// Activation of the features. Default: none.
    #[serde(default)]
    pub feature_activation: FeatureActivation,
    /// Network from features and encoded direction to raw colour. Without one, the outputs of the density network are
    /// raw density and raw colour.
    #[serde(default)]
    pub color_network: Option<NetworkConfig>,
    /// Activation from raw density to σ, which is per unit length of the space that samples lie in. Default: exponential.
    #[serde(default)]
    pub density_activation: DensityActivation,
    /// Added to the raw density before the exponential activation. A value below 0 lowers the initial density, so that a large
    /// scene does not absorb the light near the cameras. Default: -1.2 for ray marching through cascades with normalised length
    /// and steps that grow by at least 1/128, else 0.
    #[serde(default)]
    pub density_bias: Option<f32>,
    /// Activation from raw colour to colour. Default: sigmoid.
    #[serde(default)]
    pub color_activation: ColorActivation,
}

impl FieldConfig {
    /// Whether the fused kernels support the networks: at most 64 neurons, 4 hidden layers and 65 density outputs,
    /// without skip connections.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        let narrow =
            |n: &NetworkConfig| n.n_neurons <= 64 && n.n_hidden_layers <= 4 && n.skips.is_empty();
        let color = self.color_network.as_ref();
        narrow(&self.density_network) && color.is_none_or(narrow) && self.n_density_outputs <= 65
    }

    /// Whether the raw density is stored apart from the features, which then start at a vec4 boundary.
    #[must_use]
    pub fn density_apart(&self) -> bool {
        !self.density_to_color || self.color_network.is_none()
    }

    /// Whether the features have a `ReLU` activation.
    #[must_use]
    pub fn rectifies_features(&self) -> bool {
        self.feature_activation == FeatureActivation::Relu
    }

    /// Return the networks with their keys.
    pub(super) fn networks(&self) -> impl Iterator<Item = (&'static str, &NetworkConfig)> {
        let color = self.color_network.as_ref().map(|n| ("color_network", n));
        std::iter::once(("density_network", &self.density_network)).chain(color)
    }
}

/// A grid of cells with their own networks (Reiser et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    /// Number of cells along x, y and z. Default: near-cubic cells, `longest` along the longest side.
    #[serde(default)]
    pub resolution: Option<[u32; 3]>,
    /// Number of near-cubic cells along the longest side of the grid, 1 to 1,024, if `resolution` is not given. Default: 16.
    #[serde(default = "default_longest")]
    pub longest: u32,
    /// Memory in MiB for the networks with their gradients, moments and averages; positive. The smallest near-cubic cells that
    /// fit then replace `longest`, and this setting is removed. Excludes `resolution`.
    #[serde(default)]
    pub memory_mib: Option<f32>,
    /// Lower corner of the grid in the scene's box [0, 1]³. Space outside the grid is empty. Default: 0.
    #[serde(default)]
    pub low: [f32; 3],
    /// Upper corner of the grid in the scene's box. Default: 1.
    #[serde(default = "ones")]
    pub high: [f32; 3],
    /// Whether a frequency encoding takes positions within the cell, from -1 to 1, instead of coordinates in the
    /// field's space. Default: true.
    #[serde(default = "default_true")]
    pub local: bool,
    /// Number of cells that have networks; the other cells are empty. Default: all.
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
    /// Maximum number of networks of each kind that the shaders support.
    pub const MAX_NETWORKS: u32 = 32_768;
    /// Maximum number of cells, with and without networks.
    pub const MAX_CELLS: u64 = 1 << 24;
    /// Maximum number of cells along a side.
    pub const MAX_SIDE: u32 = 1024;

    /// Return the bounds of the grid in the scene's box.
    #[must_use]
    pub fn bounds(&self) -> Aabb<f32> {
        Aabb {
            low: self.low,
            high: self.high,
        }
    }

    /// Return the number of cells along x, y and z.
    #[must_use]
    pub fn resolution(&self) -> [u32; 3] {
        let sides: [f32; 3] = std::array::from_fn(|a| self.high[a] - self.low[a]);
        let longest = sides.iter().copied().fold(0.0, f32::max);
        self.resolution.unwrap_or_else(|| {
            sides.map(|side| ((side / longest * self.longest as f32).round() as u32).max(1))
        })
    }

    /// Return the number of networks of each kind.
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
    /// Sines and cosines at several frequencies.
    Frequency(FrequencyConfig),
}

/// Parameters of a frequency encoding of positions (Mildenhall et al. 2020, eq. 4, without the factor π).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrequencyConfig {
    /// Number of frequencies: 1 to 20.
    pub n_frequencies: u32,
    /// Whether the encoding starts with the position itself. Default: true.
    #[serde(default = "default_true")]
    pub include_input: bool,
    /// Base-2 logarithm of the highest frequency, 0 to 15; frequencies are evenly spaced in the exponent from 1 to
    /// `2^max_log2`. Default: `n_frequencies` - 1, which gives powers of two.
    #[serde(default)]
    pub max_log2: Option<f64>,
    /// Scale of the encoded value `scale p + offset`, for positions p in [0, 1]³ of the scene's box; positive. Default: the
    /// value is the position in the field's space.
    #[serde(default)]
    pub scale: Option<f32>,
    /// Offset of the encoded value; see `scale`.
    #[serde(default)]
    pub offset: Option<[f32; 3]>,
}

/// Parameters of a hash grid, named as in tiny-cuda-nn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashGridConfig {
    /// Number of levels: 1 to 32.
    pub n_levels: u32,
    /// Number of features per level: 1, 2, 4 or 8.
    pub n_features_per_level: u32,
    /// Maximum number of rows of a level, as a base-2 logarithm: 4 to 24.
    pub log2_hashmap_size: u32,
    /// Number of cells per axis of the coarsest level: 1 to 4,096.
    pub base_resolution: u32,
    /// Growth factor of the resolution from level to level, at least 1. Default: from `base_resolution` to `finest_resolution`.
    #[serde(default)]
    pub per_level_scale: Option<f64>,
    /// Number of cells per axis of the finest level, per unit cube, if `per_level_scale` is not given: 1
    /// to 65,536. Default: 2,048.
    #[serde(default = "finest")]
    pub finest_resolution: u32,
    /// Whether levels that fit the table are indexed directly instead of hashed. Default: true.
    #[serde(default = "default_true")]
    pub dense_levels: bool,
    /// Offset of the grid in cells: 0.5 as in tiny-cuda-nn (the default), or 0.
    #[serde(default = "half_f64")]
    pub grid_offset: f64,
}

fn finest() -> u32 {
    2048
}

pub(super) fn default_true() -> bool {
    true
}

fn half_f64() -> f64 {
    0.5
}

/// Encoding of view directions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DirectionEncoding {
    /// No encoding: colour does not depend on the direction.
    #[default]
    None,
    /// Real spherical harmonics.
    SphericalHarmonics {
        /// Number of bands: 1 to 4.
        degree: u32,
    },
    /// Sines and cosines at several frequencies.
    Frequency {
        /// Number of frequencies, which are powers of two: 1 to 12.
        n_frequencies: u32,
        /// Whether the encoding starts with the direction itself. Default: true.
        #[serde(default = "default_true")]
        include_input: bool,
    },
}

/// A multi-layer perceptron.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Number of neurons per hidden layer: a multiple of 4, from 4 to 512.
    pub n_neurons: u32,
    /// Number of hidden layers: 1 to 16.
    pub n_hidden_layers: u32,
    /// Whether layers have biases. Default: false.
    #[serde(default)]
    pub biases: bool,
    /// Skip connections: ascending indices of layers, counted from 0, whose input is the output of the previous layer followed
    /// by the input of the network. Default: none.
    #[serde(default)]
    pub skips: Vec<u32>,
    /// Distribution of the initial weights and biases. Default: Xavier uniform, with zero biases.
    #[serde(default)]
    pub initialization: Initialization,
}

/// Distribution of the initial weights and biases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// Weights uniform in ±√(6 / (`n_in` + `n_out`)), biases 0 (Glorot and Bengio 2010).
    #[default]
    XavierUniform,
    /// Weights and biases uniform in ±1/√`n_in`, as in `torch.nn.Linear`.
    TorchLinear,
}

/// Activation of the features that the density network passes to the colour network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureActivation {
    /// Identity.
    #[default]
    None,
    /// Rectified linear unit.
    Relu,
}

/// Activation from raw density to σ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DensityActivation {
    /// Exponential.
    #[default]
    Exp,
    /// Rectified linear unit.
    Relu,
    /// Softplus: log(1 + eˣ).
    Softplus,
}

/// Activation from raw colour to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorActivation {
    /// Logistic sigmoid.
    #[default]
    Sigmoid,
    /// Identity.
    None,
}
