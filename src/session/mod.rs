//! One function for each task of a user: [`fit`], [`distill`], [`meta`], [`meta_eval`], [`evaluate`], [`render()`], and
//! [`prepare`](prepare::prepare), which makes a dataset.
//!
//! Each takes a device, plain options with defaults, and an [`Observer`] that receives messages and progress and may cancel the
//! work. The command line and the window are two such observers.

pub(crate) mod advice;
mod check;
#[cfg(feature = "viewer")]
pub(crate) mod crop;
pub(crate) mod data;
mod demo;
pub(crate) mod drawing;
mod error;
pub(crate) mod evaluate;
pub(crate) mod fit;
mod limits;
pub(crate) mod memory;
mod meta;
mod observer;
pub(crate) mod open;
mod plot;
pub mod prepare;
pub mod render;
pub(crate) mod resolve;
pub(crate) mod run_log;
pub(crate) mod sink;
mod training;
mod view_progress;
pub(crate) mod views;
#[cfg(feature = "viewer")]
mod window;

#[cfg(feature = "cli")]
pub(crate) use check::{MAX_DOWNSCALE, MAX_SIDE};
pub use demo::{make_demo_objects, make_demo_scene};
pub use error::{Error, Result};
pub use evaluate::{EvaluateOptions, Evaluation, evaluate};
pub use fit::{DistillOptions, Fit, FitOptions, FitProgress, FitStatus, distill, fit};
pub use meta::{MetaEvalOptions, MetaOptions, meta, meta_eval};
pub(crate) use observer::ObserverExt;
pub use observer::{Level, Observer, Scale, Task};
pub use plot::plot_cameras;
pub use render::{DepthEncoding, FrameRange, RenderBackground, RenderOptions, Rendering, render};
pub use views::{IndexRange, Selection};
#[cfg(feature = "viewer")]
pub use window::{OpenWindow, WindowContent, WindowOptions};
