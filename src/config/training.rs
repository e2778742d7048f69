//! Settings of training steps: rays, batches, regularisers, losses.

use serde::{Deserialize, Serialize};

/// Settings of training steps. Defaults of batch sizes depend on the adapter class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Number of samples evaluated per step, to which the ray count adapts: 1,024 to 2²⁴. Default: that of the adapter class;
    /// for grids of networks at least 64 per network, up to 2¹⁸.
    #[serde(default)]
    pub batch_size: Option<u32>,
    /// Number of micro-batches of a step, whose gradients accumulate: 1 to 256; more if the buffers would not fit. Default: as
    /// few as suit the adapter.
    #[serde(default)]
    pub micro_batches: Option<u32>,
    /// Number of samples that the sampler may place per sample kept after culling: 1 to 64. Default: 4.
    #[serde(default = "four")]
    pub marched_per_kept: f32,
    /// Fixed number of rays per step: 1 to 2²². Default: the number adapts so that `batch_size` samples are evaluated; with
    /// more than one pass there is no default.
    #[serde(default)]
    pub n_rays: Option<u32>,
    /// Number of rays of the first step, if it adapts: 64 to 2²². Default: 1/64 of `batch_size`, at least 64.
    #[serde(default)]
    pub initial_rays: Option<u32>,
    /// Maximum number of rays per step, if it adapts: 64 to 2²². Default: `batch_size`, from 256 to 2¹⁸.
    #[serde(default)]
    pub max_rays: Option<u32>,
    /// Number of initial steps that draw rays only from the central crop of the images. Default: 0.
    #[serde(default)]
    pub crop_steps: u32,
    /// Side of the central crop as a fraction of width and height, in (0, 1]. Default: 0.5.
    #[serde(default = "half")]
    pub crop_fraction: f32,
    /// Number of initial steps over which the start of training rays falls from `near_start` to `scene.near`, which prevents
    /// fog close to the cameras (floaters). Default: 0.
    #[serde(default)]
    pub near_steps: u32,
    /// Start of the rays of the first step, in world units along the ray; at least 0. Default: half the distance of the cameras
    /// from their focus if the scene fills the images, else none.
    #[serde(default)]
    pub near_start: Option<f32>,
    /// Coefficient of the loss on light that passes through the whole scene: that of a colour difference of
    /// `opacity_loss` × α × T in every channel, where α is the pixel's alpha and T the ray's transmittance; 0 to 1. 1/√12
    /// ≈ 0.29 gives about the average loss over random backgrounds. Default: 0.29 if the scene fills the images and the
    /// background is automatic, else 0.
    #[serde(default)]
    pub opacity_loss: Option<f32>,
    /// Coefficient of the loss `mask_loss` × (1 − α) × (1 − T) on what a ray meets where the image is transparent (α and T as
    /// above; the mask loss of Wang et al. 2021, `NeuS`, to first order); 0 to 1. Default: 0.005 if the images are transparent
    /// and the background is automatic, else 0.
    #[serde(default)]
    pub mask_loss: Option<f32>,
    /// Whether known depths, from depth images or sparse points, are used. Default: true.
    #[serde(default = "super::passes::default_true")]
    pub depth: bool,
    /// Coefficient of the loss on known depths (Deng et al. 2022); at least 0. Default: 0.001.
    #[serde(default = "default_depth_loss")]
    pub depth_loss: f32,
    /// Standard deviation of known depths, as a fraction of the depth; in (0, 1]. Default: 0.01.
    #[serde(default = "default_depth_deviation")]
    pub depth_deviation: f32,
    /// Standard deviation of Gaussian noise added to raw densities in training (Mildenhall et al. 2020, appendix
    /// A); at least 0. Default: 0.
    #[serde(default)]
    pub density_noise: f32,
    /// Maximum duration of a submission to the device in milliseconds, up to 60,000. Default: 50.
    #[serde(default = "default_submission_ms")]
    pub submission_ms: f32,
    /// Arithmetic and storage precision. Default: `f32`.
    #[serde(default)]
    pub precision: Precision,
}

fn four() -> f32 {
    4.0
}

fn default_depth_loss() -> f32 {
    1e-3
}

fn default_depth_deviation() -> f32 {
    1e-2
}

fn default_submission_ms() -> f32 {
    50.0
}

/// Arithmetic precision of the networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision: 32-bit floats.
    #[default]
    F32,
}

/// Loss on composited colours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Squared error (L2).
    L2 {},
    /// Huber loss, scaled as in Instant-NGP.
    Huber {
        /// Error from which on the loss is linear; positive.
        delta: f32,
    },
}

fn half() -> f32 {
    0.5
}
