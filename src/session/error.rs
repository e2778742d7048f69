//! What can go wrong in a session.

use crate::camera_path::CameraPathError;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::dataset::DatasetError;
use crate::distillation::DistillationError;
use crate::gpu::GpuError;
use crate::import::ImportError;
use crate::metrics::lpips::LpipsError;
use crate::report::ReportError;
use crate::run::RunError;
use crate::scene::SceneError;
use crate::train::TrainError;

/// What a session returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a session did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options contradict each other, or do not suit the dataset or run that they are for.
    #[error("{0}")]
    Usage(String),
    /// The observer cancelled the work; the text goes on from `interrupted`.
    #[error("interrupted{0}")]
    Cancelled(String),
    /// Something that no other variant names.
    #[error("{0}")]
    Failed(String),
    /// A configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A dataset is at fault.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A checkpoint is at fault.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A run directory is at fault.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The device is at fault.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Distillation failed.
    #[error(transparent)]
    Distillation(#[from] DistillationError),
    /// A camera path is at fault.
    #[error(transparent)]
    CameraPath(#[from] CameraPathError),
    /// A model of another program cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The weights for LPIPS, or the images it compares, are at fault.
    #[error(transparent)]
    Lpips(#[from] LpipsError),
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The built-in scene cannot be made.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// A file or stream cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A value cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// An error of [`Self::Usage`].
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// An error of [`Self::Failed`].
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// Whether the observer cancelled the work.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Whether the request itself is at fault, rather than what became of it.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Usage(_) | Self::Config(_) | Self::Gpu(GpuError::NoSuchDevice { .. }) => true,
            Self::Run(error) => matches!(
                error,
                RunError::Exists { .. }
                    | RunError::Unfinished { .. }
                    | RunError::NotARun { .. }
                    | RunError::Busy { .. }
            ),
            _ => false,
        }
    }

    /// The message with those of its causes that it does not contain itself.
    #[must_use]
    pub fn full_message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            cause = error.source();
        }
        text
    }
}
