//! The window: live training, a camera to fly, and what can be seen of a field.
//!
//! The window lives on the main thread and never waits for the device. All work on fields is an engine's, on a thread of
//! its own: the two talk in [`Command`]s and [`Event`]s, and the engine's pictures stay on the device they share. Neither the
//! trainer nor the renderer knows of any of this.

mod album;
mod canvas;
mod engine;
mod flight;
mod frame_scheduler;
mod navigation;
mod overlay;
mod panels;
mod protocol;
mod recent;
mod script;
mod state;
mod window;

pub use frame_scheduler::{FrameScheduler, NextWork, finer};
pub use navigation::Navigation;
pub use protocol::{
    Choice, Command, Event, ExportJob, Learned, Opened, Outbox, Photo, Progress, RenderedView,
    Training, ViewRequest, Viewpoint,
};
pub use window::{ViewerError, run};

use crate::session::{Error, Observer, Result, WindowOptions};

/// Open a window and do what it asks for until it is closed; `terminal` is told what the window shows too.
///
/// # Errors
/// [`Error`], where no window can be opened, or what it was opened for fails.
pub fn open(options: WindowOptions, terminal: Box<dyn Observer + Send>) -> Result<()> {
    let script = options.script.clone();
    run(script.as_deref(), move |commands, outbox| {
        engine::run(commands, outbox, options, terminal)
    })
    .map_err(|error| match error {
        ViewerError::Gpu(error) => Error::Gpu(error),
        other => Error::failed(other.to_string()),
    })?
}
