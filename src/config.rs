//! The configuration of a run: a TOML file that says everything about a method. A method is data: the presets in
//! `assets/configs/` are such files.

use serde::{Deserialize, Serialize};

use crate::gpu::AdapterClass;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML, or a key is unknown or of the wrong type.
    #[error("in the config {origin}: {reason}")]
    Parse {
        /// File or preset.
        origin: String,
        /// Where and what.
        reason: String,
    },
    /// A value is impossible.
    #[error("in the config {origin}: `{key}` {reason}")]
    Value {
        /// File or preset.
        origin: String,
        /// Dotted key.
        key: String,
        /// What it should be.
        reason: String,
    },
    /// There is no such preset.
    #[error("there is no method `{name}`; there are: {known} (or give a file with --config)")]
    NoSuchMethod {
        /// What was asked for.
        name: String,
        /// The presets.
        known: String,
    },
    /// A `--set` is malformed, or sets what cannot be.
    #[error("--set {text}: {reason}")]
    Set {
        /// As typed.
        text: String,
        /// What is wrong.
        reason: String,
    },
}

/// A key with an impossible value, and what it should be.
#[derive(Debug)]
struct Bad {
    key: String,
    reason: String,
}

fn bad(key: &str, reason: impl Into<String>) -> Bad {
    Bad {
        key: key.to_owned(),
        reason: reason.into(),
    }
}

const PRESETS: [(&str, &str); 5] = [
    ("ngp", include_str!("../assets/configs/ngp.toml")),
    (
        "ngp-small",
        include_str!("../assets/configs/ngp-small.toml"),
    ),
    ("nerf", include_str!("../assets/configs/nerf.toml")),
    (
        "nerf-lowres",
        include_str!("../assets/configs/nerf-lowres.toml"),
    ),
    (
        "nerf-small",
        include_str!("../assets/configs/nerf-small.toml"),
    ),
];

/// A run's configuration, complete once [`Config::resolve`] has filled in what depends on the scene and the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the method, for reports only.
    pub method: String,
    /// Seed of all random numbers.
    #[serde(default)]
    pub seed: u32,
    /// The scene's box, frame and colours.
    pub scene: Scene,
    /// Batches.
    pub training: Training,
    /// The optimiser and its schedule.
    pub optimizer: Optimizer,
    /// The loss on composited colours.
    pub loss: Loss,
    /// The occupancy grid that ray marching skips empty space with; needed where a pass marches.
    #[serde(default)]
    pub occupancy: Option<Occupancy>,
    /// Sampler and field of each pass; an importance sampler looks at the pass before its own, and the last one makes the
    /// image.
    pub passes: Vec<Pass>,
}

/// Scene box and colours. World positions map to the unit cube by `u = world * scale + offset`; the encodings see the
/// cube of side `aabb_scale` around 0.5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// World to unit cube; the dataset's, else 0.33.
    #[serde(default)]
    pub scale: Option<f32>,
    /// World to unit cube; the dataset's, else 0.5 each.
    #[serde(default)]
    pub offset: Option<[f32; 3]>,
    /// Side of the box in unit cubes, a power of two up to 128; the dataset's, else 1.
    #[serde(default)]
    pub aabb_scale: Option<u32>,
    /// Background behind training rays: `random`, `white`, `black` or `#rrggbb`.
    pub background: Background,
    /// Background of evaluation and rendering: `white`, `black` or `#rrggbb`.
    pub eval_background: Background,
    /// Composite in linear colour instead of the images' own sRGB values.
    #[serde(default)]
    pub linear: bool,
    /// Nearest point of rays, world units along the ray.
    #[serde(default)]
    pub near: Option<f32>,
    /// Farthest point of rays, world units along the ray.
    #[serde(default)]
    pub far: Option<f32>,
    /// Where in a pixel its ray passes: 0.5 is the centre.
    #[serde(default = "half")]
    pub pixel_center: f32,
    /// What distances along rays, near and far among them, measure.
    #[serde(default)]
    pub ray_direction: RayDirection,
}

/// Length of a perspective camera's ray directions; other cameras' are unit vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RayDirection {
    /// Unit vectors: distances from the camera.
    #[default]
    Unit,
    /// Vectors to the plane at depth 1: distances are depths along the viewing axis.
    Plane,
}

fn half() -> f32 {
    0.5
}

/// A background colour, sRGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Background {
    /// A new colour for every ray.
    Random,
    /// One colour.
    Fixed([f32; 3]),
}

impl std::fmt::Display for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Fixed([1.0, 1.0, 1.0]) => f.write_str("white"),
            Self::Fixed([0.0, 0.0, 0.0]) => f.write_str("black"),
            Self::Fixed(rgb) => {
                let byte = |c: f32| (c.clamp(0.0, 1.0) * 255.0).round() as u8;
                write!(
                    f,
                    "#{:02x}{:02x}{:02x}",
                    byte(rgb[0]),
                    byte(rgb[1]),
                    byte(rgb[2])
                )
            }
        }
    }
}

impl std::str::FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "random" => return Ok(Self::Random),
            "white" => return Ok(Self::Fixed([1.0; 3])),
            "black" => return Ok(Self::Fixed([0.0; 3])),
            _ => {}
        }
        let hex = text.strip_prefix('#').filter(|h| h.len() == 6);
        let value = hex.and_then(|h| u32::from_str_radix(h, 16).ok());
        let value = value.ok_or_else(|| {
            format!("`{text}` is not a background: give random, white, black or #rrggbb")
        })?;
        let channel = |shift: u32| ((value >> shift) & 255) as f32 / 255.0;
        Ok(Self::Fixed([channel(16), channel(8), channel(0)]))
    }
}

impl Serialize for Background {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Background {
    /// The colour that stands for the background where one is needed.
    #[must_use]
    pub fn color(self) -> [f32; 3] {
        match self {
            Self::Random => [0.0; 3],
            Self::Fixed(rgb) => rgb,
        }
    }
}

/// Batch budgets. What is left out follows the adapter class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Samples evaluated per step; the ray count adapts to fill it.
    #[serde(default)]
    pub batch_size: Option<u32>,
    /// Parts a step is computed in, one after the other; gradients add up.
    #[serde(default)]
    pub micro_batches: Option<u32>,
    /// Samples the sampler may place per sample that is kept after culling.
    #[serde(default = "four")]
    pub marched_per_kept: f32,
    /// Rays per step. Left out, the number adapts so that `batch_size` samples are evaluated.
    #[serde(default)]
    pub n_rays: Option<u32>,
    /// Rays of the first step, where their number adapts.
    #[serde(default)]
    pub initial_rays: Option<u32>,
    /// Rays per step at most.
    #[serde(default)]
    pub max_rays: Option<u32>,
    /// First steps, in which only the middle of the images is looked at.
    #[serde(default)]
    pub crop_steps: u32,
    /// Share of width and height that counts as the middle.
    #[serde(default = "half")]
    pub crop_fraction: f32,
    /// Standard deviation of what is added to raw densities while training (Mildenhall et al. 2020, appendix A).
    #[serde(default)]
    pub density_noise: f32,
    /// Longest submission to the device in milliseconds.
    #[serde(default = "fifty")]
    pub submission_ms: f32,
    /// Arithmetic and storage precision: `f32`.
    #[serde(default)]
    pub precision: Precision,
}

impl Training {
    /// Samples evaluated per step.
    #[must_use]
    pub fn batch(&self) -> u32 {
        self.batch_size.unwrap_or(1 << 15)
    }

    /// Rays per step at most.
    #[must_use]
    pub fn most_rays(&self) -> u32 {
        let adapted = || self.max_rays.unwrap_or(self.batch().clamp(256, 1 << 18));
        self.n_rays.unwrap_or_else(adapted)
    }

    /// Rays of the first step.
    #[must_use]
    pub fn first_rays(&self) -> u32 {
        let adapted = || self.initial_rays.unwrap_or((self.batch() / 64).max(64));
        self.n_rays.unwrap_or_else(adapted)
    }
}

fn four() -> f32 {
    4.0
}

fn fifty() -> f32 {
    50.0
}

/// Arithmetic of the networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision, the reference.
    #[default]
    F32,
}

/// Adam and its schedule, shared by all parameter groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Step size at step 0.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// L2 regularisation of network weights.
    pub l2_reg: f32,
    /// Decay of the moving average that evaluation uses; 0 turns it off.
    pub ema_decay: f32,
    /// The rate is multiplied by this…
    #[serde(default = "one")]
    pub decay_base: f32,
    /// …at this step…
    #[serde(default)]
    pub decay_start: u32,
    /// …and every so many steps after; 0 keeps the rate constant.
    #[serde(default)]
    pub decay_interval: u32,
    /// Whether that happens at once, rather than little by little over the interval.
    #[serde(default = "yes")]
    pub staircase: bool,
    /// Last step at which that happens; left out, there is none.
    #[serde(default)]
    pub decay_end: Option<u32>,
    /// Steps over which the rate rises from 0.
    #[serde(default)]
    pub warmup_steps: u32,
    /// Factor on the rate of network weights.
    #[serde(default = "one")]
    pub network_rate: f32,
}

fn one() -> f32 {
    1.0
}

/// Loss on composited colours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Squared error.
    L2 {},
    /// Huber loss, scaled as Instant-NGP does.
    Huber {
        /// Where the square turns into a line.
        delta: f32,
    },
}

/// Occupancy grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occupancy {
    /// Cells per axis and cascade, a power of two from 16 to 256.
    pub resolution: u32,
    /// Optical thickness above which a cell is occupied (or the mean, if that is lower).
    pub threshold: f32,
    /// A cell's maximum is multiplied by the fourth power of this whenever a sweep of the grid visits it.
    pub decay: f32,
    /// Steps from one update to the next, once warmed up.
    pub interval: u32,
    /// Updates at every step before that.
    #[serde(default)]
    pub warmup_steps: u32,
    /// Cells visited per update; left out, it follows the batch size.
    #[serde(default)]
    pub cells_per_update: Option<u32>,
}

/// One pass: where samples lie, and the field that is evaluated there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// Factor on this pass's loss.
    #[serde(default = "one")]
    pub loss_weight: f32,
    /// Where samples lie.
    pub sampler: Sampler,
    /// What is evaluated.
    pub field: Field,
}

/// Where samples lie along a ray.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    /// Steps through the occupied cells of the occupancy grid.
    RayMarch {
        /// Steps along a diagonal of the unit cube.
        steps: u32,
        /// Growth of the step with distance; left out: 0 for `aabb_scale` 1, else 1/256.
        #[serde(default)]
        cone_angle: Option<f32>,
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
pub struct Field {
    /// Encoding of positions in [0, 1]³.
    pub position_encoding: PositionEncoding,
    /// Encoding of unit view directions.
    #[serde(default)]
    pub direction_encoding: DirectionEncoding,
    /// Network from encoded position to density and features.
    pub density_network: Network,
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
    pub color_network: Option<Network>,
    /// Raw density to σ per world unit.
    #[serde(default)]
    pub density_activation: DensityActivation,
    /// Raw colour to colour.
    #[serde(default)]
    pub color_activation: ColorActivation,
}

impl Field {
    /// Whether the fused kernels hold its networks: all layers narrow and plain.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        let narrow =
            |n: &Network| n.n_neurons <= 64 && n.n_hidden_layers <= 4 && n.skips.is_empty();
        let color = self.color_network.as_ref();
        narrow(&self.density_network)
            && color.is_some_and(narrow)
            && self.density_to_color
            && !self.rectifies_features()
            && self.n_density_outputs <= 64
            && self.n_density_outputs.is_multiple_of(4)
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
    fn networks(&self) -> impl Iterator<Item = (&'static str, &Network)> {
        let color = self.color_network.as_ref().map(|n| ("color_network", n));
        std::iter::once(("density_network", &self.density_network)).chain(color)
    }
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

fn yes() -> bool {
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
pub struct Network {
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

/// Longest file that is read.
const LONGEST: u64 = 1 << 20;

/// What the dataset says about the scene's frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct SceneHints {
    /// Side of the box.
    pub aabb_scale: Option<u32>,
    /// World to unit cube.
    pub scale: Option<f32>,
    /// World to unit cube.
    pub offset: Option<[f32; 3]>,
    /// Whether cameras look forward into an open scene, far points of which are as coarse as they are distant.
    pub open: bool,
}

impl Config {
    /// Names of the presets.
    #[must_use]
    pub fn presets() -> Vec<&'static str> {
        PRESETS.iter().map(|&(name, _)| name).collect()
    }

    /// The preset used where none is named.
    #[must_use]
    pub fn default_method(class: AdapterClass) -> &'static str {
        if class == AdapterClass::Software {
            "ngp-small"
        } else {
            "ngp"
        }
    }

    /// Load a preset with `--set` overrides.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn preset(name: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let (_, text) =
            PRESETS
                .iter()
                .find(|&&(n, _)| n == name)
                .ok_or_else(|| ConfigError::NoSuchMethod {
                    name: name.to_owned(),
                    known: Self::presets().join(", "),
                })?;
        Self::parse(text, name, overrides)
    }

    /// Load a file with `--set` overrides.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn from_file(path: &std::path::Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let bytes = crate::files::read_file(path, LONGEST);
        let text = bytes.and_then(|bytes| {
            let invalid = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
            String::from_utf8(bytes).map_err(invalid)
        });
        let text = text.map_err(|source| ConfigError::Read {
            path: origin.clone(),
            source,
        })?;
        Self::parse(&text, &origin, overrides)
    }

    /// Parse `text`, apply `overrides` (`key.path=value`), and check every value.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let fault = |e: toml::de::Error| ConfigError::Parse {
            origin: origin.to_owned(),
            reason: e.to_string().trim().replace('\n', "\n  "),
        };
        let mut table: toml::Table = toml::from_str(text).map_err(fault)?;
        for text in overrides {
            set(&mut table, text)?;
        }
        Self::from_table(table).map_err(|reason| Self::blame(text, origin, overrides, reason))
    }

    /// The configuration in `table`, or on one line what is wrong with it.
    fn from_table(table: toml::Table) -> Result<Self, String> {
        let config = Self::deserialize(toml::Value::Table(table))
            .map_err(|e| e.to_string().trim().replace('\n', ", "))?;
        config
            .check()
            .map_err(|Bad { key, reason }| format!("`{key}` {reason}"))?;
        Ok(config)
    }

    /// Whose fault `reason` is: the text's, if it is wrong by itself, else the first override's that breaks it.
    fn blame(text: &str, origin: &str, overrides: &[String], reason: String) -> ConfigError {
        match toml::from_str::<Self>(text) {
            Err(e) => {
                let reason = e.to_string().trim().replace('\n', "\n  ");
                return ConfigError::Parse {
                    origin: origin.to_owned(),
                    reason,
                };
            }
            Ok(config) => {
                if let Err(Bad { key, reason }) = config.check() {
                    return ConfigError::Value {
                        origin: origin.to_owned(),
                        key,
                        reason,
                    };
                }
            }
        }
        let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
        for text in overrides {
            if set(&mut table, text).is_ok()
                && let Err(reason) = Self::from_table(table.clone())
            {
                return ConfigError::Set {
                    text: text.clone(),
                    reason,
                };
            }
        }
        ConfigError::Parse {
            origin: origin.to_owned(),
            reason,
        }
    }

    /// The complete configuration as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), Bad> {
        // Shaders hold these values as text, where NaN and infinity have none.
        if let Some((key, value)) = toml::Value::try_from(self)
            .ok()
            .and_then(|v| non_finite(&v, ""))
        {
            return Err(bad(&key, format!("is {value}; it must be a finite number")));
        }
        let positive = |key: &str, value: f32| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(bad(key, format!("is {value}; it must be positive")))
            }
        };
        let not_negative = |key: &str, value: f32| {
            if value >= 0.0 {
                Ok(())
            } else {
                Err(bad(key, format!("is {value}; it must not be negative")))
            }
        };
        let scene = &self.scene;
        if let Some(scale) = scene.scale {
            positive("scene.scale", scale)?;
        }
        if let Some(a) = scene.aabb_scale
            && !(a.is_power_of_two() && a <= 128)
        {
            return Err(bad(
                "scene.aabb_scale",
                format!("is {a}; it must be a power of two up to 128"),
            ));
        }
        if scene.eval_background == Background::Random {
            return Err(bad(
                "scene.eval_background",
                "is random; images need one colour: white, black or #rrggbb",
            ));
        }
        if let (Some(near), Some(far)) = (scene.near, scene.far)
            && !(near >= 0.0 && far > near && far.is_finite())
        {
            return Err(bad(
                "scene.far",
                format!("is {far} with near {near}; it must be larger, and near not negative"),
            ));
        }
        for (key, value) in [("scene.near", scene.near), ("scene.far", scene.far)] {
            not_negative(key, value.unwrap_or(0.0))?;
        }
        if !(0.0..=1.0).contains(&scene.pixel_center) {
            return Err(bad(
                "scene.pixel_center",
                format!("is {}; it must lie between 0 and 1", scene.pixel_center),
            ));
        }
        let optimizer = &self.optimizer;
        positive("optimizer.decay_base", optimizer.decay_base)?;
        if let Some(end) = optimizer.decay_end
            && end < optimizer.decay_start
        {
            return Err(bad(
                "optimizer.decay_end",
                format!("is {end}, before decay_start, {}", optimizer.decay_start),
            ));
        }
        not_negative("optimizer.l2_reg", optimizer.l2_reg)?;
        not_negative("optimizer.network_rate", optimizer.network_rate)?;
        positive("optimizer.learning_rate", optimizer.learning_rate)?;
        positive("optimizer.epsilon", optimizer.epsilon)?;
        for (key, value) in [
            ("optimizer.beta1", optimizer.beta1),
            ("optimizer.beta2", optimizer.beta2),
            ("optimizer.ema_decay", optimizer.ema_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(bad(
                    key,
                    format!("is {value}; it must be at least 0 and below 1"),
                ));
            }
        }
        if let Some(batch) = self.training.batch_size
            && !(1024..=1 << 24).contains(&batch)
        {
            return Err(bad(
                "training.batch_size",
                format!("is {batch}; it must lie between 1024 and 16777216"),
            ));
        }
        if let Some(parts) = self.training.micro_batches
            && !(1..=256).contains(&parts)
        {
            return Err(bad(
                "training.micro_batches",
                format!("is {parts}; it must lie between 1 and 256"),
            ));
        }
        for (key, rays) in [
            ("training.initial_rays", self.training.initial_rays),
            ("training.max_rays", self.training.max_rays),
        ] {
            if let Some(rays) = rays
                && !(64..=1 << 22).contains(&rays)
            {
                return Err(bad(
                    key,
                    format!("is {rays}; it must lie between 64 and 4194304"),
                ));
            }
        }
        if let Some(rays) = self.training.n_rays
            && !(1..=1 << 22).contains(&rays)
        {
            return Err(bad(
                "training.n_rays",
                format!("is {rays}; it must lie between 1 and 4194304"),
            ));
        }
        let crop = self.training.crop_fraction;
        if !(crop > 0.0 && crop <= 1.0) {
            return Err(bad(
                "training.crop_fraction",
                format!("is {crop}; it must be positive and 1 at most"),
            ));
        }
        not_negative("training.density_noise", self.training.density_noise)?;
        if !(1.0..=64.0).contains(&self.training.marched_per_kept) {
            return Err(bad(
                "training.marched_per_kept",
                "must lie between 1 and 64",
            ));
        }
        let longest = self.training.submission_ms;
        if !(longest > 0.0 && longest <= 60_000.0) {
            return Err(bad(
                "training.submission_ms",
                format!("is {longest}; it must be positive and 60000 at most"),
            ));
        }
        if let Loss::Huber { delta } = self.loss {
            positive("loss.huber.delta", delta)?;
        }
        if let Some(occupancy) = &self.occupancy {
            occupancy.check()?;
            not_negative("occupancy.threshold", occupancy.threshold)?;
        }
        self.check_passes()
    }

    fn check_passes(&self) -> Result<(), Bad> {
        let n = self.passes.len();
        if !(1..=4).contains(&n) {
            return Err(bad(
                "passes",
                format!("has {n} entries; a method needs one to four"),
            ));
        }
        for (index, pass) in self.passes.iter().enumerate() {
            pass.check()?;
            match pass.sampler {
                Sampler::Importance { .. } if index == 0 => {
                    return Err(bad(
                        "passes.sampler.importance",
                        "needs a pass before its own, whose samples it looks at",
                    ));
                }
                Sampler::RayMarch { .. } if self.occupancy.is_none() => {
                    return Err(bad(
                        "occupancy",
                        "is missing; marching rays need an occupancy grid",
                    ));
                }
                _ => {}
            }
        }
        if n > 1 && self.training.n_rays.is_none() {
            return Err(bad(
                "training.n_rays",
                "is missing; with more than one pass the number of rays does not adapt",
            ));
        }
        Ok(())
    }

    /// Fill in what depends on the scene and on the adapter's class.
    pub fn resolve(&mut self, hints: SceneHints, class: AdapterClass) {
        let scene = &mut self.scene;
        let aabb_scale = *scene
            .aabb_scale
            .get_or_insert(hints.aabb_scale.unwrap_or(1));
        let scale = *scene.scale.get_or_insert(hints.scale.unwrap_or(0.33));
        let offset = *scene.offset.get_or_insert(hints.offset.unwrap_or([0.5; 3]));
        let software = class == AdapterClass::Software;
        let batch = *self.training.batch_size.get_or_insert(match class {
            AdapterClass::Software => 1 << 15,
            AdapterClass::Integrated => 1 << 17,
            AdapterClass::Discrete => 1 << 18,
        });
        // Parts small enough for a slow adapter to finish a stage within a submission.
        let parts = if software { batch.div_ceil(1 << 17) } else { 1 };
        if self.training.n_rays.is_none() {
            self.training.micro_batches.get_or_insert(parts);
            self.training.max_rays = Some(self.training.most_rays());
            self.training.initial_rays = Some(self.training.first_rays());
        }
        if let Some(occupancy) = &mut self.occupancy {
            let cells = occupancy.resolution.pow(3) * (aabb_scale.trailing_zeros() + 1);
            occupancy.cells_per_update.get_or_insert(if software {
                batch.max(2048)
            } else {
                (cells / 4).clamp(2048, 1 << 19)
            });
        }
        for pass in &mut self.passes {
            match &mut pass.sampler {
                Sampler::RayMarch { cone_angle, .. } => {
                    cone_angle.get_or_insert(if aabb_scale > 1 { 1.0 / 256.0 } else { 0.0 });
                }
                Sampler::Stratified { spacing, .. } => {
                    spacing.get_or_insert(if hints.open {
                        Spacing::Disparity
                    } else {
                        Spacing::Linear
                    });
                }
                Sampler::Importance { .. } => {}
            }
            match &mut pass.field.position_encoding {
                PositionEncoding::HashGrid(grid) => {
                    let levels = f64::from(grid.n_levels.max(2) - 1);
                    let finest = f64::from(grid.finest_resolution) * f64::from(aabb_scale);
                    grid.per_level_scale.get_or_insert(
                        (finest / f64::from(grid.base_resolution)).powf(1.0 / levels),
                    );
                }
                PositionEncoding::Frequency(frequency) => {
                    let side = aabb_scale as f32;
                    frequency.scale.get_or_insert(side / scale);
                    let low = offset.map(|o| (0.5 - side / 2.0 - o) / scale);
                    frequency.offset.get_or_insert(low);
                }
            }
        }
    }
}

impl Occupancy {
    fn check(&self) -> Result<(), Bad> {
        let occupancy = self;
        if !(occupancy.resolution.is_power_of_two() && (16..=256).contains(&occupancy.resolution)) {
            return Err(bad(
                "occupancy.resolution",
                format!(
                    "is {}; it must be a power of two from 16 to 256",
                    occupancy.resolution
                ),
            ));
        }
        if occupancy.interval == 0 {
            return Err(bad("occupancy.interval", "is 0; it must be at least 1"));
        }
        if let Some(cells) = occupancy.cells_per_update
            && !(2048..=1 << 26).contains(&cells)
        {
            return Err(bad(
                "occupancy.cells_per_update",
                format!("is {cells}; it must lie between 2048 and 67108864"),
            ));
        }
        if !(0.0..=1.0).contains(&occupancy.decay) {
            return Err(bad("occupancy.decay", "must lie between 0 and 1"));
        }
        Ok(())
    }
}

impl HashGridConfig {
    fn check(&self) -> Result<(), Bad> {
        let grid = self;
        if !(1..=32).contains(&grid.n_levels) {
            return Err(bad(
                "hash_grid.n_levels",
                format!("is {}; it must lie between 1 and 32", grid.n_levels),
            ));
        }
        if ![1, 2, 4, 8].contains(&grid.n_features_per_level) {
            return Err(bad(
                "hash_grid.n_features_per_level",
                format!("is {}; it must be 1, 2, 4 or 8", grid.n_features_per_level),
            ));
        }
        if !(4..=24).contains(&grid.log2_hashmap_size) {
            return Err(bad(
                "hash_grid.log2_hashmap_size",
                format!(
                    "is {}; it must lie between 4 and 24",
                    grid.log2_hashmap_size
                ),
            ));
        }
        if !(1..=4096).contains(&grid.base_resolution)
            || !(1..=65_536).contains(&grid.finest_resolution)
        {
            return Err(bad(
                "hash_grid.base_resolution",
                "must lie between 1 and 4096, finest_resolution up to 65536",
            ));
        }
        if grid.per_level_scale.is_none() && grid.finest_resolution < grid.base_resolution {
            return Err(bad(
                "hash_grid.finest_resolution",
                format!(
                    "is {}; it must be at least base_resolution, {}",
                    grid.finest_resolution, grid.base_resolution
                ),
            ));
        }
        if let Some(growth) = grid.per_level_scale {
            // Beyond this f32 no longer tells neighbouring cells apart.
            const FINEST: f64 = 16_777_216.0;
            let finest =
                f64::from(grid.base_resolution) * growth.powf(f64::from(grid.n_levels - 1));
            if growth < 1.0 || finest > FINEST {
                let limit = "it must be at least 1 and the finest level have 16777216 cells per axis at most";
                return Err(bad(
                    "hash_grid.per_level_scale",
                    format!("is {growth}, for {finest:.0} cells; {limit}"),
                ));
            }
        }
        if grid.grid_offset != 0.0 && grid.grid_offset != 0.5 {
            return Err(bad("hash_grid.grid_offset", "must be 0 or 0.5"));
        }
        if grid.n_levels * grid.n_features_per_level > 128 {
            return Err(bad(
                "hash_grid.n_levels",
                "times n_features_per_level must not exceed 128",
            ));
        }
        Ok(())
    }
}

impl FrequencyConfig {
    fn check(&self) -> Result<(), Bad> {
        // The shader's range reduction is exact up to here.
        const HIGHEST: f64 = 15.0;
        if !(1..=20).contains(&self.n_frequencies) {
            return Err(bad(
                "frequency.n_frequencies",
                format!("is {}; it must lie between 1 and 20", self.n_frequencies),
            ));
        }
        let highest = self.max_log2.unwrap_or(f64::from(self.n_frequencies - 1));
        if !(0.0..=HIGHEST).contains(&highest) {
            return Err(bad(
                "frequency.max_log2",
                format!("is {highest}; it must lie between 0 and {HIGHEST}"),
            ));
        }
        if self.scale.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
            return Err(bad("frequency.scale", "must be positive"));
        }
        if self
            .offset
            .is_some_and(|o| o.iter().any(|v| !v.is_finite()))
        {
            return Err(bad("frequency.offset", "must be three finite numbers"));
        }
        Ok(())
    }
}

impl Pass {
    fn check(&self) -> Result<(), Bad> {
        if self.loss_weight <= 0.0 {
            return Err(bad(
                "passes.loss_weight",
                format!("is {}; it must be positive", self.loss_weight),
            ));
        }
        let (transmittance, n) = match self.sampler {
            Sampler::RayMarch {
                steps,
                max_samples,
                min_transmittance,
                cone_angle,
            } => {
                if steps == 0 || steps > 65_536 {
                    return Err(bad(
                        "passes.sampler.ray_march.steps",
                        "must lie between 1 and 65536",
                    ));
                }
                if cone_angle.is_some_and(|c| !(0.0..1.0).contains(&c)) {
                    return Err(bad(
                        "passes.sampler.ray_march.cone_angle",
                        "must be at least 0 and below 1",
                    ));
                }
                (min_transmittance, max_samples)
            }
            Sampler::Stratified {
                n_samples,
                min_transmittance,
                bounded,
                ..
            } => {
                let hashed = matches!(self.field.position_encoding, PositionEncoding::HashGrid(_));
                if !bounded && hashed {
                    return Err(bad(
                        "passes.sampler.stratified.bounded",
                        "is false, but a hash grid has no features outside the box",
                    ));
                }
                (min_transmittance, n_samples)
            }
            Sampler::Importance { n_samples, .. } => (0.0, n_samples),
        };
        if !(2..=16_384).contains(&n) {
            return Err(bad(
                "passes.sampler",
                format!("asks for {n} samples per ray; give 2 to 16384"),
            ));
        }
        if !(0.0..1.0).contains(&transmittance) {
            return Err(bad(
                "passes.sampler",
                "has a min_transmittance outside 0 to 1",
            ));
        }
        let field = &self.field;
        match &field.position_encoding {
            PositionEncoding::HashGrid(grid) => grid.check()?,
            PositionEncoding::Frequency(frequency) => frequency.check()?,
        }
        match field.direction_encoding {
            DirectionEncoding::SphericalHarmonics { degree } if !(1..=4).contains(&degree) => {
                return Err(bad(
                    "spherical_harmonics.degree",
                    format!("is {degree}; it must lie between 1 and 4"),
                ));
            }
            DirectionEncoding::Frequency { n_frequencies, .. }
                if !(1..=12).contains(&n_frequencies) =>
            {
                return Err(bad(
                    "frequency.n_frequencies",
                    format!("is {n_frequencies}; it must lie between 1 and 12"),
                ));
            }
            _ => {}
        }
        let n = field.n_density_outputs;
        if field.color_network.is_none() && n != 4 {
            return Err(bad(
                "n_density_outputs",
                format!("is {n}; without a color_network it must be 4: density and colour"),
            ));
        }
        let apart = u32::from(!field.density_to_color);
        let aligned = n > apart && (n - apart).is_multiple_of(4);
        if field.color_network.is_some() && !(aligned && n <= 513) {
            let what = if apart == 1 {
                "the raw density and a multiple of 4 features, 512 at most"
            } else {
                "a multiple of 4, 512 at most"
            };
            return Err(bad(
                "n_density_outputs",
                format!("is {n}; it must be {what}"),
            ));
        }
        for (key, network) in field.networks() {
            network.check(key)?;
        }
        Ok(())
    }
}

impl Network {
    fn check(&self, key: &str) -> Result<(), Bad> {
        let (n, layers) = (self.n_neurons, self.n_hidden_layers);
        if !n.is_multiple_of(4) || !(4..=512).contains(&n) {
            return Err(bad(
                &format!("{key}.n_neurons"),
                format!("is {n}; it must be a multiple of 4 from 4 to 512"),
            ));
        }
        if !(1..=16).contains(&layers) {
            return Err(bad(
                &format!("{key}.n_hidden_layers"),
                format!("is {layers}; it must lie between 1 and 16"),
            ));
        }
        if let Some(skip) = self.skips.iter().find(|&&s| s == 0 || s > layers) {
            return Err(bad(
                &format!("{key}.skips"),
                format!("names layer {skip}; there are layers 1 to {layers} behind the first"),
            ));
        }
        Ok(())
    }
}

/// The first number in `value` that is NaN or infinite, with its dotted key.
fn non_finite(value: &toml::Value, key: &str) -> Option<(String, f64)> {
    match value {
        toml::Value::Float(number) if !number.is_finite() => Some((key.to_owned(), *number)),
        toml::Value::Array(items) => items.iter().find_map(|item| non_finite(item, key)),
        toml::Value::Table(table) => table.iter().find_map(|(name, item)| {
            let dot = if key.is_empty() { "" } else { "." };
            non_finite(item, &format!("{key}{dot}{name}"))
        }),
        _ => None,
    }
}

/// Apply one `a.b.c=value`; `passes` stands for all its entries, `passes.0` for the first, and the value is TOML, or a bare
/// string.
fn set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let fault = |reason: String| ConfigError::Set {
        text: text.to_owned(),
        reason,
    };
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| fault("give key=value, as in training.batch_size=65536".to_owned()))?;
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.trim().to_owned()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys
        .pop()
        .filter(|k| !k.is_empty())
        .ok_or_else(|| fault("the key is empty".to_owned()))?;
    insert(table, &keys, last, &value).map_err(fault)
}

/// Set `keys.last` to `value` below `table`. A number after the key of an array picks one of its entries, else all are set.
fn insert(
    table: &mut toml::Table,
    keys: &[&str],
    last: &str,
    value: &toml::Value,
) -> Result<(), String> {
    let Some((&key, rest)) = keys.split_first() else {
        table.insert(last.to_owned(), value.clone());
        return Ok(());
    };
    match table.get_mut(key) {
        None => Err(format!("there is no table `{key}`")),
        Some(toml::Value::Table(inner)) => insert(inner, rest, last, value),
        Some(toml::Value::Array(items)) => {
            let index = rest.first().and_then(|k| k.parse::<usize>().ok());
            let n = items.len();
            let (chosen, rest) = match index {
                None => (items.as_mut_slice(), rest),
                Some(i) if i < n => (&mut items[i..=i], &rest[1..]),
                Some(i) => return Err(format!("`{key}` has no entry {i}, but {n} from 0 on")),
            };
            for item in chosen {
                match item {
                    toml::Value::Table(inner) => insert(inner, rest, last, value)?,
                    _ => return Err(format!("`{key}` is not a table")),
                }
            }
            Ok(())
        }
        Some(_) => Err(format!("`{key}` is not a table")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: &str = "passes.field.position_encoding.hash_grid";

    fn small(overrides: &[&str]) -> Result<Config, ConfigError> {
        Config::preset(
            "ngp-small",
            &overrides
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_resolved_configuration_can_be_read_again() {
        for levels in [1, 2, 8, 32] {
            for aabb_scale in [1, 128] {
                let overrides = [
                    format!("{GRID}.n_levels={levels}"),
                    format!("{GRID}.finest_resolution=65536"),
                    format!("scene.aabb_scale={aabb_scale}"),
                ];
                let mut config = small(&overrides.each_ref().map(String::as_str)).unwrap();
                config.resolve(SceneHints::default(), AdapterClass::Software);
                assert_eq!(
                    Config::parse(&config.to_toml(), "itself", &[]).unwrap(),
                    config
                );
            }
        }
    }

    #[test]
    fn values_without_a_text_in_shaders_are_refused() {
        for key in [
            "scene.pixel_center",
            "scene.near",
            "scene.scale",
            "optimizer.l2_reg",
            "occupancy.threshold",
        ] {
            for value in ["nan", "inf", "-inf", "1e39"] {
                let error = small(&[&format!("{key}={value}")]).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("`{key}` is")) && error.contains("finite"),
                    "{error}"
                );
            }
        }
        let error = small(&["scene.offset=[0.5, nan, 0.5]"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("`scene.offset` is NaN"), "{error}");
    }

    #[test]
    fn the_override_that_is_wrong_is_named() {
        let error = small(&["seed=1", "optimizer.nosuch=1", "seed=2"])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--set optimizer.nosuch=1: unknown field `nosuch`"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        let error = small(&["seed=1", "training.batch_size=0"])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--set training.batch_size=0: `training.batch_size` is 0; it must"),
            "{error}"
        );
        // Two that are only right together.
        assert!(
            small(&[
                &format!("{GRID}.finest_resolution=8"),
                &format!("{GRID}.base_resolution=4")
            ])
            .is_ok()
        );
    }

    #[test]
    fn what_is_wrong_with_the_text_is_not_blamed_on_an_override() {
        let text = PRESETS[1].1.replace("batch_size = 16384", "batch_size = 3");
        let error = Config::parse(&text, "my.toml", &["seed=1".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("in the config my.toml: `training.batch_size` is 3"),
            "{error}"
        );
        let text = PRESETS[1].1.replace("batch_size", "batchsize");
        let error = Config::parse(&text, "my.toml", &["seed=1".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("in the config my.toml: ")
                && error.contains("unknown field `batchsize`"),
            "{error}"
        );
    }

    #[test]
    fn grids_finer_than_f32_are_refused() {
        let error = small(&[
            &format!("{GRID}.n_levels=32"),
            &format!("{GRID}.n_features_per_level=1"),
            &format!("{GRID}.per_level_scale=8"),
        ]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("16777216 cells per axis at most"), "{error}");
        let error = small(&["training.submission_ms=1e30"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("60000 at most"), "{error}");
    }
}
