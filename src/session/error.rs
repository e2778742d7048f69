//! Errors of a session.

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
use crate::train::{PlanError, TrainError};

/// Result of a session's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options are invalid, contradict each other, or do not fit the dataset or the run. The program exits with code 2.
    #[error("{0}")]
    Usage(String),
    /// The observer cancelled the work. The string is appended to `interrupted` in the message; it starts with a space or
    /// punctuation, or is empty. The program exits with code 130.
    #[error("interrupted{0}")]
    Cancelled(String),
    /// Any other failure; the string is the whole message.
    #[error("{0}")]
    Failed(String),
    /// A configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A dataset cannot be opened or is invalid.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A checkpoint cannot be read, written or used.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// A run directory cannot be read, written or used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The device failed, or none fits.
    #[error("{0}{how}", how = advice(.0))]
    Gpu(GpuError),
    /// The method does not fit the device.
    #[error(transparent)]
    Plan(PlanError),
    /// Training failed.
    #[error(transparent)]
    Train(TrainError),
    /// Distillation failed.
    #[error(transparent)]
    Distillation(DistillationError),
    /// A camera path is invalid.
    #[error(transparent)]
    CameraPath(#[from] CameraPathError),
    /// The weights of another program cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The LPIPS weights are invalid, or the images are too small for LPIPS.
    #[error(transparent)]
    Lpips(#[from] LpipsError),
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The built-in scene cannot be made.
    #[error(transparent)]
    Scene(SceneError),
    /// A file or stream cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A value cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Advice on reducing memory use, for any allocation that fails.
const OF_MEMORY: &str =
    ": lower `training.batch_size` or `log2_hashmap_size` with --set, or --downscale the images";

/// Return advice on how to recover from a device error, as commands and flags of `kiln`.
fn advice(error: &GpuError) -> &'static str {
    match error {
        GpuError::NoAdapter => {
            ": install a Vulkan driver (on Linux without a GPU, Mesa's lavapipe: `make vulkan` does it)"
        }
        GpuError::NoSuchDevice { .. } => " (see `kiln devices`)",
        GpuError::NoSurface { .. } => ": choose another with --device, or train without --view",
        GpuError::DeviceLost { .. } => {
            "; a training can be continued from its last checkpoint: kiln train --resume RUN"
        }
        GpuError::OutOfMemory { .. } => OF_MEMORY,
        GpuError::TooLarge { advice, .. } if advice.is_empty() => OF_MEMORY,
        _ => "",
    }
}

impl From<GpuError> for Error {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}

/// Convert errors so that a device error becomes [`Error::Gpu`] wherever it is detected.
macro_rules! from_error_of_work {
    ($($error:ident => $variant:ident),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                match error {
                    $error::Gpu(error) => Self::Gpu(error),
                    other => Self::$variant(other),
                }
            }
        }
    )*};
}

from_error_of_work!(
    PlanError => Plan,
    TrainError => Train,
    DistillationError => Distillation,
    CheckpointError => Checkpoint,
    SceneError => Scene
);

impl Error {
    /// Return [`Self::Usage`] with this message.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Return [`Self::Failed`] with this message.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// Return whether the observer cancelled the work.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Return whether the user's request is invalid, as opposed to a failure while carrying it out.
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

    /// Return the message, followed by the messages of its causes that it does not already contain.
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
