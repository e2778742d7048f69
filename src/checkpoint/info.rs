//! What a checkpoint says of itself, and what can be wrong with one.

use std::path::PathBuf;

use crate::config::{Config, ConfigError};
use crate::dataset::Opening;
use crate::gpu::GpuError;

/// What can go wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing to open.
    #[error("{path}: {reason}: point to a run directory made by `kiln train`", path = .path.display())]
    NotARun {
        /// The path as given.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// The file is not safetensors, or cut short.
    #[error("{path} is not a checkpoint, or is cut short ({reason}): train again with `kiln train --force`, or point to another run", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// The file is safetensors but not ours.
    #[error("{path} was not written by this version of kiln ({reason}): point to a run directory made by `kiln train`", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// A tensor is missing or of another shape than the config says.
    #[error("{path}: tensor `{name}` {reason}", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The config in the metadata is invalid.
    #[error("{path}: {source}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// A value is NaN or infinite; nothing was written.
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

/// What a checkpoint says about its run.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// The complete configuration.
    pub config: Config,
    /// Steps done.
    pub step: u32,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Where the images came from.
    pub dataset: String,
    /// Factor the images were downscaled by.
    pub downscale: u32,
    /// Whether they were turned as their EXIF orientation says.
    pub apply_orientation: bool,
    /// Training views it was limited to, by index; empty where it used all.
    pub train_views: Vec<usize>,
    /// [`crate::dataset::Dataset::fingerprint`] of the dataset; empty where it is not known.
    pub fingerprint: String,
    /// Of the bytes of the images that it was trained on, see [`crate::dataset::Content::fingerprint`]: a number, or after
    /// `kiln meta` one for each object, with commas between them and nothing for those whose turn has not come. Empty where
    /// it is not known.
    pub image_fingerprint: String,
    /// Of the bytes of the images that it was measured on; empty where there are none, or where they are not known.
    pub held_out_fingerprint: String,
    /// What it was trained on.
    pub device: String,
}

impl Info {
    /// Of parameters that were trained elsewhere, on images that are not known.
    #[must_use]
    pub fn imported(config: Config) -> Self {
        Self {
            config,
            step: 0,
            train_seconds: 0.0,
            dataset: String::new(),
            downscale: 1,
            apply_orientation: false,
            train_views: Vec::new(),
            fingerprint: String::new(),
            image_fingerprint: String::new(),
            held_out_fingerprint: String::new(),
            device: String::new(),
        }
    }

    /// How its dataset was opened.
    #[must_use]
    pub fn opening(&self) -> Opening {
        Opening {
            downscale: self.downscale,
            apply_orientation: self.apply_orientation,
        }
    }

    /// Whether it was imported, and not trained since.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        self.dataset.is_empty()
    }
}
