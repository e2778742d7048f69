//! The configuration of a run: a TOML file that says everything about a method. A method is data: the presets in
//! `assets/configs/` are such files.

mod check;
mod overrides;
mod passes;

use serde::{Deserialize, Serialize};

pub use passes::{
    Cells, ColorActivation, DensityActivation, DirectionEncoding, FeatureActivation, Field,
    FrequencyConfig, HashGridConfig, Initialization, Network, Pass, PositionEncoding, Sampler,
    Spacing,
};

use crate::gpu::AdapterClass;
use check::InvalidValue;
use overrides::set;

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

const PRESETS: [(&str, &str); 9] = [
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
    ("kilonerf", include_str!("../assets/configs/kilonerf.toml")),
    (
        "kilonerf-small",
        include_str!("../assets/configs/kilonerf-small.toml"),
    ),
    ("learnit", include_str!("../assets/configs/learnit.toml")),
    (
        "learnit-small",
        include_str!("../assets/configs/learnit-small.toml"),
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
    /// How the field learns from another one, where it does, before it is trained on images.
    #[serde(default)]
    pub distillation: Option<Distillation>,
    /// How weights to begin with are learned from many objects; `kiln meta` alone looks at it.
    #[serde(default)]
    pub meta: Option<Meta>,
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
    pub scale: Option<f64>,
    /// World to unit cube; the dataset's, else 0.5 each.
    #[serde(default)]
    pub offset: Option<[f64; 3]>,
    /// What density and distances are counted per inside.
    #[serde(default)]
    pub length: Length,
    /// Side of the box in unit cubes, a power of two up to 128; the dataset's, else 1.
    #[serde(default)]
    pub aabb_scale: Option<u32>,
    /// Background behind training rays: `random`, `white`, `black`, `#rrggbb`, or `auto` or `auto:white` and so on, which go by
    /// the images.
    pub background: Background,
    /// Background of evaluation and rendering: `white`, `black`, `#rrggbb`, or `auto:white` and so on.
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
    /// How samples lie in scenes that are seen from one side alone.
    #[serde(default)]
    pub forward_facing: ForwardFacing,
    /// Normalised device coordinates; left out, the dataset's where `forward_facing` says `ndc`.
    #[serde(default)]
    pub ndc: Option<Ndc>,
}

/// The unit of length that a field computes in, and that density is per.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// World units, as they come: of imported models, of captures whose reader brings them to one size, of normalised device
    /// coordinates, and of configurations that say nothing else.
    #[default]
    World,
    /// World units times `scale / 0.33`, so that nothing depends on the dataset's unit and origin.
    Normalized,
}

/// World to unit cube where nothing else is said, as in Instant-NGP; of it, one normalised length is one world unit.
pub const DEFAULT_SCALE: f64 = 0.33;

/// What `scene.scale` may be.
pub const SCALE_RANGE: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

impl Scene {
    /// Scale and offset from the space that fields compute in to the unit cube: `cube = position * scale + offset`.
    #[must_use]
    pub fn unit_cube(&self) -> (f64, [f64; 3]) {
        match self.length {
            Length::World => (self.box_scale(), self.box_offset()),
            Length::Normalized => (DEFAULT_SCALE, [0.5; 3]),
        }
    }

    /// World to unit cube, the default where nothing is said.
    #[must_use]
    pub fn box_scale(&self) -> f64 {
        self.scale.unwrap_or(DEFAULT_SCALE)
    }

    /// World to unit cube, the default where nothing is said.
    #[must_use]
    pub fn box_offset(&self) -> [f64; 3] {
        self.offset.unwrap_or([0.5; 3])
    }

    /// Gives backgrounds that go by the images their colours.
    fn settle_backgrounds(&mut self, surroundings: Option<Surroundings>) {
        self.background = self.background.over(surroundings);
        self.eval_background = match (self.eval_background, self.background) {
            // What a scene that fills its images leaves open is looked at as it was trained.
            (Background::Auto(_), Background::Fixed(rgb))
                if matches!(surroundings, Some(Surroundings::Filled(_))) =>
            {
                Background::Fixed(rgb)
            }
            (of_images, _) => of_images.over(surroundings),
        };
    }
}

/// How samples lie in scenes that are seen from one side alone, as LLFF captures are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardFacing {
    /// Between near and far in the world, as in any scene.
    #[default]
    World,
    /// Evenly in normalised device coordinates, to infinity.
    Ndc,
}

/// Normalised device coordinates (Mildenhall et al. 2020, appendix C), of cameras that look along -z.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ndc {
    /// Depth of the plane at which rays start. Rendered depth counts what is more than 64 times as far as if it were there.
    pub near: f32,
    /// Half of an image's width and height in focal lengths.
    pub half: [f32; 2],
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

/// What images show where there is nothing of the scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Surroundings {
    /// Nothing: they are transparent there.
    Transparent,
    /// One colour (sRGB), which surrounds the scene in most images.
    Plain([u8; 3]),
    /// The scene fills them, of this colour on average.
    Filled([u8; 3]),
}

/// A background colour, sRGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Background {
    /// A new colour for every ray.
    Random,
    /// One colour.
    Fixed([f32; 3]),
    /// By what surrounds the scene in the images: this colour, or a new one for every ray, where they are transparent; that
    /// colour where they have one; else their mean colour.
    Auto(Option<[f32; 3]>),
}

impl std::fmt::Display for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto(None) => f.write_str("auto"),
            Self::Auto(Some(rgb)) => write!(f, "auto:{}", Self::Fixed(*rgb)),
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
            "auto" => return Ok(Self::Auto(None)),
            "random" => return Ok(Self::Random),
            "white" => return Ok(Self::Fixed([1.0; 3])),
            "black" => return Ok(Self::Fixed([0.0; 3])),
            _ => {}
        }
        if let Some(color) = text.strip_prefix("auto:") {
            return match color.parse()? {
                Self::Fixed(rgb) => Ok(Self::Auto(Some(rgb))),
                Self::Random | Self::Auto(_) => Err(format!(
                    "`{text}` is not a background: give a colour after auto:, such as white"
                )),
            };
        }
        let hex = text.strip_prefix('#').filter(|h| h.len() == 6);
        let value = hex.and_then(|h| u32::from_str_radix(h, 16).ok());
        let value = value.ok_or_else(|| {
            format!(
                "`{text}` is not a background: give auto, random, white, black or #rrggbb in six hexadecimal digits"
            )
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
            Self::Random | Self::Auto(None) => [0.0; 3],
            Self::Fixed(rgb) | Self::Auto(Some(rgb)) => rgb,
        }
    }

    /// One that goes by the images where these show `surroundings`.
    fn over(self, surroundings: Option<Surroundings>) -> Self {
        let Self::Auto(color) = self else {
            return self;
        };
        let byte = |v: u8| f32::from(v) / 255.0;
        match surroundings {
            Some(Surroundings::Plain(rgb) | Surroundings::Filled(rgb)) => {
                Self::Fixed(rgb.map(byte))
            }
            Some(Surroundings::Transparent) | None => color.map_or(Self::Random, Self::Fixed),
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
    /// First steps, over which the distance at which training rays start falls from `near_start` to `scene.near`, so that
    /// what is seen is not first explained by fog before the cameras.
    #[serde(default)]
    pub near_steps: u32,
    /// Where the rays of the first step start, in world units along the ray. Left out, halfway to what the cameras
    /// look at, where the scene fills their images.
    #[serde(default)]
    pub near_start: Option<f32>,
    /// What light that passes through the whole scene costs where an image is opaque: the loss of a difference of this much
    /// in every channel, times the transmittance. 1/√12 is about what a random background would cost on average. Left out, 0.29
    /// where the scene fills the images and the background goes by them; else nothing.
    #[serde(default)]
    pub opacity_loss: Option<f32>,
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

/// The optimiser and its schedule, shared by all parameter groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// What makes a step of a gradient.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Step size at step 0.
    pub learning_rate: f32,
    /// Decay of Adam's first moment.
    #[serde(default = "beta1")]
    pub beta1: f32,
    /// Decay of Adam's second moment.
    #[serde(default = "beta2")]
    pub beta2: f32,
    /// Added to the root of Adam's second moment.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// L2 regularisation of network weights.
    #[serde(default)]
    pub l2_reg: f32,
    /// Factor on the norms of the layers of a grid's colour networks, weights and biases of each layer of each network
    /// together, in the loss on images: it keeps colours that few rays have seen from running away with the direction.
    #[serde(default)]
    pub norm_reg: f32,
    /// Decay of the moving average that evaluation uses; 0 turns it off.
    #[serde(default)]
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
    #[serde(default = "passes::yes")]
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

fn beta1() -> f32 {
    0.9
}

fn beta2() -> f32 {
    0.999
}

fn epsilon() -> f32 {
    1e-8
}

/// What makes a step of a gradient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Adam (Kingma and Ba 2015).
    #[default]
    Adam,
    /// Gradient descent: the gradient times the rate. Of the gradients of rays drawn at random, a stochastic one.
    Sgd,
}

/// Learning weights to begin with (Reptile: Nichol, Achiam and Schulman 2018, as Tancik et al. 2021 use it): of one object
/// after another a few steps are learned, from the same weights, which then move towards what those steps made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Steps of `[optimizer]` on the images of each object, at most 256.
    pub inner_steps: u32,
    /// What takes the difference between the weights and what became of them as its gradient. With `sgd`, `learning_rate` is
    /// the share of the way that the weights move: plain interpolation.
    pub optimizer: Optimizer,
    /// Objects adapted to when it is measured how good the weights are, from the first of the test objects on.
    #[serde(default = "two_objects")]
    pub held_out_objects: u32,
    /// Steps that these are adapted for.
    #[serde(default = "held_out_steps")]
    pub held_out_steps: u32,
    /// MiB of images that stay on the device; objects beyond are read again when their turn comes.
    #[serde(default = "resident_mib")]
    pub resident_mib: u32,
    /// File that says which objects are learned from, which `kiln meta` fills in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<String>,
    /// Share of the folders that are learned from, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_fraction: Option<f64>,
}

fn two_objects() -> u32 {
    2
}

fn held_out_steps() -> u32 {
    32
}

fn resident_mib() -> u32 {
    2048
}

impl Meta {
    /// What suits a method that says nothing of it and learns by `optimizer`: Adam where the inner steps descend plainly, as
    /// the papers have it. Adam's inner steps are all of about the same length, and a share of the way they came will do.
    #[must_use]
    pub fn suiting(optimizer: &Optimizer) -> Self {
        let plain = |algorithm, learning_rate| Optimizer {
            algorithm,
            learning_rate,
            ..Optimizer::plain()
        };
        Self {
            inner_steps: 32,
            optimizer: match optimizer.algorithm {
                Algorithm::Sgd => plain(Algorithm::Adam, 5e-4),
                Algorithm::Adam => plain(Algorithm::Sgd, 0.2),
            },
            held_out_objects: two_objects(),
            held_out_steps: held_out_steps(),
            resident_mib: resident_mib(),
            splits: None,
            train_fraction: None,
        }
    }
}

impl Optimizer {
    /// One that does nothing but descend: no regularisation, no averages, a constant rate.
    fn plain() -> Self {
        Self {
            algorithm: Algorithm::Sgd,
            learning_rate: 1.0,
            beta1: beta1(),
            beta2: beta2(),
            epsilon: epsilon(),
            l2_reg: 0.0,
            norm_reg: 0.0,
            ema_decay: 0.0,
            decay_base: 1.0,
            decay_start: 0,
            decay_interval: 0,
            staircase: true,
            decay_end: None,
            warmup_steps: 0,
            network_rate: 1.0,
        }
    }
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

/// Learning from a trained field (Reiser et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// Steps that learn from the teacher; those that follow learn from the images.
    pub steps: u32,
    /// Random points per network and step, at most.
    #[serde(default = "points_per_network")]
    pub points_per_network: u32,
    /// Densities are compared as opacities over this distance, in world units.
    #[serde(default = "alpha_distance")]
    pub alpha_distance: f32,
    /// Places in each cell of the occupancy grid at which the teacher is asked for its density.
    #[serde(default = "supersampling")]
    pub supersampling: u32,
    /// Optical thickness of a step from which on a cell of the occupancy grid is dense.
    #[serde(default = "dense_threshold")]
    pub threshold: f32,
    /// The teacher's run, which `kiln distill` fills in; without one nothing is distilled.
    #[serde(default)]
    pub teacher: String,
    /// What tells whether the teacher is still the same.
    #[serde(default)]
    pub teacher_fingerprint: String,
    /// Runs to name beside the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<String>,
}

impl Default for Distillation {
    fn default() -> Self {
        Self {
            steps: 1000,
            points_per_network: points_per_network(),
            alpha_distance: alpha_distance(),
            supersampling: supersampling(),
            threshold: dense_threshold(),
            teacher: String::new(),
            teacher_fingerprint: String::new(),
            compare: Vec::new(),
        }
    }
}

fn points_per_network() -> u32 {
    128
}

fn alpha_distance() -> f32 {
    0.0211
}

fn dense_threshold() -> f32 {
    0.1
}

fn supersampling() -> u32 {
    8
}

/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What is added to raw densities in a box of cascades: a field that begins with a third of the density, since light has far
/// to go there.
const BIAS_IN_CASCADES: f32 = -1.2;

/// Growth of steps from which on that pays: with shorter ones a thin field costs more samples a ray than it gains.
const LONG_STEPS: f32 = 1.0 / 128.0;

/// First training steps with longer steps along rays, where these are long.
const COARSE_STEPS: u32 = 1024;

/// What light that passes through a scene that fills its images costs: the standard deviation of colours between 0 and 1.
const OPACITY_LOSS: f32 = 0.29;

/// Where rays start at first, over the cameras' distance from what they look at.
const NEAR_START: f64 = 0.5;

/// What the dataset says about the scene's frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct SceneHints {
    /// Side of the box.
    pub aabb_scale: Option<u32>,
    /// World to unit cube.
    pub scale: Option<f64>,
    /// World to unit cube.
    pub offset: Option<[f64; 3]>,
    /// The middle of the unit cube, in world units, where `offset` follows `scale`.
    pub center: Option<[f64; 3]>,
    /// What the images show behind things.
    pub surroundings: Option<Surroundings>,
    /// How far the cameras of a scene that fills its images stand from what they look at, in world units.
    pub distance: Option<f64>,
    /// Whether its reader brings world units to one size, by what is known of depths.
    pub is_normalized: bool,
    /// Where cameras look forward into an open scene, far points of which are as coarse as they are distant.
    pub forward_facing: Option<Ndc>,
}

impl Config {
    /// Whether something of it depends on what the images show.
    #[must_use]
    pub fn goes_by_images(&self) -> bool {
        let Scene {
            aabb_scale,
            background,
            eval_background,
            ..
        } = self.scene;
        let is_auto = |b| matches!(b, Background::Auto(_));
        let training = &self.training;
        let starts_anywhere = training.near_steps > 0 && training.near_start.is_none();
        aabb_scale.is_none() || is_auto(background) || is_auto(eval_background) || starts_anywhere
    }

    /// The optimiser of the steps, which average nothing where weights to begin with are learned: tasks are too short.
    #[must_use]
    pub fn optimizer_of_steps(&self) -> Optimizer {
        let mut optimizer = self.optimizer.clone();
        if self.meta.is_some() {
            optimizer.ema_decay = 0.0;
        }
        optimizer
    }

    /// Steps that learn from a teacher, which are the first ones; 0 where there is none.
    #[must_use]
    pub fn lessons(&self) -> u32 {
        let taught = self.distillation.as_ref();
        let taught = taught.filter(|d| !d.teacher.is_empty());
        taught.map_or(0, |d| d.steps)
    }

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
        let bytes = crate::files::read_file(path, MAX_BYTES);
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
            .map_err(|InvalidValue { key, reason }| format!("`{key}` {reason}"))?;
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
                if let Err(InvalidValue { key, reason }) = config.check() {
                    return ConfigError::Value {
                        origin: origin.to_owned(),
                        key,
                        reason,
                    };
                }
            }
        }
        let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
        // The one that broke it for good: an earlier one may be wrong without a later one.
        let mut culprit = None;
        for text in overrides {
            let outcome = set(&mut table, text).map(|()| Self::from_table(table.clone()));
            match outcome {
                Ok(Ok(_)) => culprit = None,
                Ok(Err(reason)) if culprit.is_none() => {
                    culprit = Some(ConfigError::Set {
                        text: text.clone(),
                        reason,
                    });
                }
                _ => {}
            }
        }
        if let Some(culprit) = culprit {
            return culprit;
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

    /// Fill in what depends on the scene and on the adapter's class.
    pub fn resolve(&mut self, hints: SceneHints, class: AdapterClass) {
        let scene = &mut self.scene;
        if scene.forward_facing == ForwardFacing::Ndc
            && let Some(ndc) = hints.forward_facing
        {
            scene.ndc.get_or_insert(ndc);
        }
        if scene.ndc.is_some() {
            // All there is lies between -1 and 1.
            scene.scale.get_or_insert(0.5);
            scene.offset.get_or_insert([0.5; 3]);
            scene.aabb_scale.get_or_insert(1);
        }
        let in_world = scene.ndc.is_none();
        let aabb_scale = *scene
            .aabb_scale
            .get_or_insert(hints.aabb_scale.unwrap_or(1));
        let own = hints.scale.unwrap_or(DEFAULT_SCALE);
        let scale = *scene.scale.get_or_insert(own);
        let offset = match (hints.offset, hints.center) {
            // Around the same point in another size.
            (Some(_), Some(center)) if scale.to_bits() != own.to_bits() => {
                center.map(|c| 0.5 - scale * c)
            }
            (offset, _) => offset.unwrap_or([0.5; 3]),
        };
        scene.offset.get_or_insert(offset);
        if matches!(scene.background, Background::Auto(_))
            && matches!(hints.surroundings, Some(Surroundings::Filled(_)))
        {
            self.training.opacity_loss.get_or_insert(OPACITY_LOSS);
        }
        scene.settle_backgrounds(hints.surroundings);
        if self.training.near_steps > 0
            && in_world
            && let Some(distance) = hints.distance
        {
            let start = (NEAR_START * distance) as f32;
            self.training.near_start.get_or_insert(start);
        }
        if hints.is_normalized || !in_world {
            scene.length = Length::World;
        }
        let length = scene.length;
        let (unit_scale, unit_offset) = self.scene.unit_cube();
        let software = class == AdapterClass::Software;
        // With fewer samples a network of a grid costs more to update than to evaluate.
        let cells = self.passes.iter().filter_map(|p| p.field.cells.as_ref());
        let networks = cells.map(Cells::n_networks).max().unwrap_or(0);
        let enough = (64 * networks).next_power_of_two();
        let of_class = match class {
            AdapterClass::Software => 1 << 15,
            AdapterClass::Integrated => 1 << 17,
            AdapterClass::Discrete => 1 << 18,
        };
        let batch = *self
            .training
            .batch_size
            .get_or_insert(enough.clamp(of_class, 1 << 18));
        // Parts small enough for a slow adapter to finish a stage within a submission.
        let parts = if software && networks == 0 {
            batch.div_ceil(1 << 17)
        } else {
            1
        };
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
                Sampler::RayMarch {
                    steps,
                    cone_angle,
                    coarse_steps,
                    ..
                } => {
                    let wanted = if aabb_scale > 1 {
                        4.0 / *steps as f32
                    } else {
                        0.0
                    };
                    let growth = *cone_angle.get_or_insert(wanted);
                    let is_long = aabb_scale > 1 && growth >= LONG_STEPS;
                    // Where objects take turns there is no start of the whole.
                    let coarse = is_long && self.meta.is_none();
                    coarse_steps.get_or_insert(if coarse { COARSE_STEPS } else { 0 });
                    let is_exp = pass.field.density_activation == DensityActivation::Exp;
                    if is_long && is_exp && length == Length::Normalized {
                        pass.field.density_bias.get_or_insert(BIAS_IN_CASCADES);
                    }
                }
                Sampler::Stratified { spacing, .. } => {
                    spacing.get_or_insert(if hints.is_normalized && in_world {
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
                    let scale = unit_scale as f32;
                    frequency.scale.get_or_insert(side / scale);
                    let low = unit_offset.map(|o| (0.5 - side / 2.0 - o as f32) / scale);
                    frequency.offset.get_or_insert(low);
                }
            }
        }
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
    fn boxes_of_cascades_begin_thin_and_coarse() {
        let resolved = |preset: &str, overrides: &[&str]| {
            let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            let mut config = Config::preset(preset, &overrides).unwrap();
            config.resolve(SceneHints::default(), AdapterClass::Software);
            let Sampler::RayMarch {
                cone_angle,
                coarse_steps,
                ..
            } = config.passes[0].sampler
            else {
                panic!("{preset} marches rays");
            };
            let bias = config.passes[0].field.density_bias;
            (cone_angle.unwrap(), coarse_steps.unwrap(), bias)
        };
        let (box_of_8, cube) = ("scene.aabb_scale=8", "scene.aabb_scale=1");
        assert_eq!(resolved("ngp-small", &[cube]), (0.0, 0, None));
        assert_eq!(
            resolved("ngp-small", &[box_of_8]),
            (1.0 / 64.0, 1024, Some(-1.2))
        );
        // Instant-NGP's own step and beginning.
        assert_eq!(resolved("ngp", &[box_of_8]), (1.0 / 256.0, 0, None));
        let world = [box_of_8, "scene.length=\"world\""];
        assert_eq!(resolved("ngp-small", &world), (1.0 / 64.0, 1024, None));
        let typed = [
            box_of_8,
            "passes.field.density_bias=0.5",
            "passes.sampler.ray_march.cone_angle=0.01",
            "passes.sampler.ray_march.coarse_steps=7",
        ];
        assert_eq!(resolved("ngp-small", &typed), (0.01, 7, Some(0.5)));
    }

    #[test]
    fn scenes_that_fill_their_images_are_opaque_before_their_mean_colour() {
        let resolved = |overrides: &[&str], surroundings| {
            let mut config = small(overrides).unwrap();
            let hints = SceneHints {
                surroundings: Some(surroundings),
                ..SceneHints::default()
            };
            config.resolve(hints, AdapterClass::Software);
            let scene = config.scene;
            (
                scene.background.to_string(),
                scene.eval_background.to_string(),
                config.training.opacity_loss,
            )
        };
        let told = |back: &str, eval: &str, loss| (back.to_owned(), eval.to_owned(), loss);
        let (filled, plain) = (
            Surroundings::Filled([16, 32, 48]),
            Surroundings::Plain([255; 3]),
        );
        let mean = "#102030";
        assert_eq!(resolved(&[], filled), told(mean, mean, Some(0.29)));
        assert_eq!(resolved(&[], plain), told("white", "white", None));
        let random = told("random", "white", None);
        assert_eq!(resolved(&[], Surroundings::Transparent), random);
        // A background that is asked for may be what is seen through the scene.
        let black = ["scene.background=black"];
        assert_eq!(resolved(&black, filled), told("black", "black", None));
        let none = ["training.opacity_loss=0"];
        assert_eq!(resolved(&none, filled), told(mean, mean, Some(0.0)));
        for wrong in ["-1", "1.5", "nan"] {
            let wrong = format!("training.opacity_loss={wrong}");
            let refused = small(&[&wrong]).unwrap_err().to_string();
            assert!(refused.contains("training.opacity_loss"), "{refused}");
        }
    }

    #[test]
    fn rays_start_halfway_to_what_fills_the_images() {
        let resolved = |preset: &str, overrides: &[&str], distance: Option<f64>| {
            let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            let mut config = Config::preset(preset, &overrides).unwrap();
            let hints = SceneHints {
                distance,
                ..SceneHints::default()
            };
            config.resolve(hints, AdapterClass::Software);
            config.training.near_start
        };
        let far = Some(4000.0);
        assert_eq!(resolved("ngp-small", &[], far), Some(2000.0));
        assert_eq!(resolved("ngp", &[], far), Some(2000.0));
        assert_eq!(resolved("ngp-small", &[], None), None);
        assert_eq!(resolved("nerf", &[], far), None);
        let typed = ["training.near_start=20"];
        assert_eq!(resolved("ngp-small", &typed, far), Some(20.0));
        // The images are looked at for it, whatever else is given.
        let given = [
            "scene.aabb_scale=8",
            "scene.background=black",
            "scene.eval_background=black",
        ];
        let given = given.map(str::to_owned);
        let preset = |name: &str| Config::preset(name, &given).unwrap();
        assert!(preset("ngp").goes_by_images() && !preset("nerf").goes_by_images());
        let off = ["training.near_steps=0"];
        assert_eq!(resolved("ngp-small", &off, far), None);
    }

    #[test]
    fn values_without_a_text_in_shaders_are_refused() {
        for key in [
            "scene.pixel_center",
            "scene.near",
            "scene.scale",
            "training.near_start",
            "optimizer.l2_reg",
            "optimizer.norm_reg",
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
