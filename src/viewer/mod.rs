//! The window: live training, a camera to fly, and what can be seen of a field.
//!
//! The window lives on the main thread and never waits for the device. All work on fields is an engine's, on a thread of
//! its own: the two talk in [`Command`]s and [`Event`]s, and the engine's pictures stay on the device they share. Neither the
//! trainer nor the renderer knows of any of this.

mod album;
mod canvas;
mod flight;
mod navigation;
mod overlay;
mod pace;
mod panels;
mod protocol;
mod recent;
mod script;
mod state;
mod window;

pub use navigation::Navigation;
pub use pace::{Pace, Turn, finer};
pub use protocol::{
    Choice, Command, Errand, Event, Learned, Looking, Opened, Outbox, Photo, Place, Progress, Shot,
    Training,
};
pub use window::{ViewerError, run};
