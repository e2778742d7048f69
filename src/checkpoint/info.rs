//! Metadata of a checkpoint, and errors of checkpoints.

use std::path::PathBuf;

use crate::config::{ConfigError, ResolvedConfig};
use crate::dataset::OpenOptions;
use crate::gpu::GpuError;

/// An error of a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The path does not hold a checkpoint.
    #[error("{path}: {reason}: point to a run directory made by `kiln train`", path = .path.display())]
    NotARun {
        /// The path as given.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// The file is not safetensors, or is truncated.
    #[error("{path} is not a checkpoint, or is cut short ({reason}): train again with `kiln train --force`, or point to another run", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// The file is safetensors, but not a kiln checkpoint of this version.
    #[error("{path} was not written by this version of kiln ({reason}): point to a run directory made by `kiln train`", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why it was not recognised.
        reason: String,
    },
    /// A tensor is missing, or has another shape than the configuration requires.
    #[error("{path}: tensor `{name}` {reason}", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// How it is inconsistent.
        reason: String,
    },
    /// The configuration in the metadata is invalid.
    #[error("{path}: {source}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The error of the configuration.
        source: ConfigError,
    },
    /// A value is NaN or infinite. Nothing was written.
    #[error(
        "`{name}` holds NaN or infinite values: lower optimizer.learning_rate with --set and train again"
    )]
    NonFinite {
        /// The tensor.
        name: String,
    },
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Metadata of a checkpoint's run.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// The complete configuration.
    pub config: ResolvedConfig,
    /// Number of training steps done.
    pub step: u32,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Path of the dataset.
    pub dataset: String,
    /// Factor by which the images were downscaled.
    pub downscale: u32,
    /// Whether the EXIF orientation of the images was applied.
    pub apply_orientation: bool,
    /// Whether the alpha of the images was a mask.
    pub alpha_mask: bool,
    /// Indices of the training views; empty for all.
    pub train_views: Vec<usize>,
    /// [`crate::dataset::Dataset::fingerprint`] of the dataset; empty if unknown.
    pub fingerprint: String,
    /// Fingerprint of the bytes of the training images, see [`crate::dataset::FileIdentity::fingerprint`]; empty if unknown.
    /// After `kiln meta` there is one per object, separated by commas; it is empty for objects that were not used yet.
    pub image_fingerprint: String,
    /// Fingerprint of the bytes of the held-out images; empty if there are none or if unknown.
    pub held_out_fingerprint: String,
    /// Name of the device that the parameters were trained on.
    pub device: String,
}

impl Info {
    /// Create the metadata of parameters that another program trained on unknown images.
    #[must_use]
    pub fn imported(config: ResolvedConfig) -> Self {
        Self {
            config,
            step: 0,
            train_seconds: 0.0,
            dataset: String::new(),
            downscale: 1,
            apply_orientation: false,
            alpha_mask: false,
            train_views: Vec::new(),
            fingerprint: String::new(),
            image_fingerprint: String::new(),
            held_out_fingerprint: String::new(),
            device: String::new(),
        }
    }

    /// Return the options with which the dataset was opened.
    #[must_use]
    pub fn opening(&self) -> OpenOptions {
        OpenOptions {
            downscale: self.downscale,
            apply_orientation: self.apply_orientation,
            alpha_mask: self.alpha_mask,
        }
    }

    /// Whether the parameters were imported and not trained since.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        self.dataset.is_empty()
    }
}
