//! The window: shows training in progress and trained runs from a camera that the user moves.
//!
//! The window runs on the main thread and never waits for the device. The engine, on a separate thread, does all training and
//! rendering. The two exchange `Command`s and `Event`s. Rendered views stay on the device, which both use. The trainer
//! and the renderer do not depend on the window.

mod canvas;
mod engine;
mod frame_scheduler;
mod navigation;
mod overlay;
mod panels;
mod path_editor;
mod photo_loader;
mod protocol;
mod recent;
mod script;
mod state;
mod theme;
mod window;

use frame_scheduler::{FrameScheduler, NextWork, finer};
use navigation::Navigation;
use protocol::{ExportJob, Photo, Progress, RenderedView, TrainerReport, ViewRequest};
use window::{ViewerError, run};

use crate::session::{Error, Observer, Result, WindowOptions};

/// Open a window and serve it until it is closed; `terminal` receives the messages that the window shows.
///
/// # Errors
/// [`Error`] if no window can be opened, or if the training or run that it was opened for fails.
pub fn open(options: WindowOptions, terminal: Box<dyn Observer + Send>) -> Result<()> {
    let script = options.script.clone();
    run(script.as_deref(), move |commands, events| {
        engine::run(commands, events, options, terminal)
    })
    .map_err(|error| match error {
        ViewerError::Gpu(error) => Error::Gpu(error),
        other => Error::failed(other.to_string()),
    })?
}
