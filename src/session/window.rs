//! Options of the window.

use std::path::PathBuf;

use super::{FitOptions, Observer, Result};
use crate::gpu::GpuOptions;

/// Opens a window and returns when it is closed. The observer receives the messages that the window shows.
pub type OpenWindow = fn(WindowOptions, Box<dyn Observer + Send>) -> Result<()>;

/// Options of a window.
#[derive(Debug, Clone, Default)]
pub struct WindowOptions {
    /// Device to use.
    pub gpu: GpuOptions,
    /// Content to open at the start, if any.
    pub content: Option<WindowContent>,
    /// Command line that repeats this, for the logs of trainings that are started in the window.
    pub command: String,
    /// File of scripted user actions, for tests.
    pub script: Option<PathBuf>,
}

/// Content that a window opens.
#[derive(Debug, Clone)]
pub enum WindowContent {
    /// A run to view, or a dataset to train on.
    Path(PathBuf),
    /// A training with these options.
    Fit(Box<FitOptions>),
}
