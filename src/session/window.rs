//! How the program asks for a window, which this library may be built without.

use std::path::PathBuf;

use super::{FitOptions, Observer, Result};
use crate::gpu::GpuOptions;

/// Opens a window, and returns as it is closed. The observer is told what the window shows too.
pub type OpenWindow = fn(WindowOptions, Box<dyn Observer + Send>) -> Result<()>;

/// What a window begins with.
#[derive(Debug, Clone, Default)]
pub struct WindowOptions {
    /// The device.
    pub gpu: GpuOptions,
    /// What to open; nothing where left out.
    pub content: Option<WindowContent>,
    /// What repeats this, for the logs of trainings that the window begins.
    pub command: String,
    /// File of actions that stand in for a person, for tests.
    pub script: Option<PathBuf>,
}

/// What a window opens.
#[derive(Debug, Clone)]
pub enum WindowContent {
    /// A run to look at, or a dataset to train on.
    Path(PathBuf),
    /// A training.
    Fit(Box<FitOptions>),
}
