//! Rays, batches and losses of training.

use serde::{Deserialize, Serialize};

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
    #[serde(default = "default_submission_ms")]
    pub submission_ms: f32,
    /// Arithmetic and storage precision: `f32`.
    #[serde(default)]
    pub precision: Precision,
}

fn four() -> f32 {
    4.0
}

fn default_submission_ms() -> f32 {
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

fn half() -> f32 {
    0.5
}
