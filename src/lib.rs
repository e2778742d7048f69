//! Radiance fields on any GPU: training, evaluation and rendering as WGSL compute shaders through wgpu.
//!
#![doc = include_str!("../assets/images/front.md")]
//!
//! ```no_run
#![doc = include_str!("../examples/train.rs")]
//! ```
//!
//! [`session`] has a function for each task of a user: train, distil, meta-learn, evaluate, render. It is built on the other
//! modules. A radiance field is an encoding that feeds a network, and data flows like this:
//!
//! ```text
//!  dataset ─► images ─► rays ─► sampling ─► encoding ─► network ─► compositing ─► loss
//!                                  ▲            └──── field ────┘                  │
//!                             occupancy ◄── field.density (every k steps)          │
//!  optimizer ◄── dW ◄── network ◄── compositing backward ◄─────────────────────────┘
//!            ◄── dTable ◄── encoding
//! ```
//!
//! - [`dataset`] and [`camera`] turn files into frames; [`images`] uploads them and samples rays from them.
//! - [`sampling`] places samples along rays, helped by [`occupancy`]; [`field`] is [`encoding`] and [`network`].
//! - [`camera_path`] makes the cameras of an animation, from files or around a scene.
//! - [`pass`] evaluates a field along rays; [`train`] and [`render`] drive it; [`eval`] and [`metrics`] measure it.
//! - [`reptile`] meta-learns an initialisation from many objects that are trained in turn.
//! - [`config`] is the TOML file that defines a method; [`checkpoint`] and [`run`] store a training, [`report`] writes it as
//!   HTML, and [`tensorboard`] as event files.
//! - [`gpu`] is the layer below all of these, on top of [`wgpu`]. [`session`] is the top layer; the command line and the window
//!   (features `cli` and `viewer`) are two observers of it.
//!
//! Shapes in this crate's documentation are row-major, world units are the dataset's, σ is per world unit, colours are
//! sRGB values in [0, 1] unless a field is composited in linear colour.

pub mod aabb;
pub mod camera;
pub mod camera_path;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compaction;
pub mod compositing;
pub mod config;
pub mod dataset;
pub mod distillation;
pub mod encoding;
pub mod eval;
pub mod field;
pub mod files;
pub mod gpu;
pub mod images;
pub mod import;
mod json_text;
pub mod loss;
pub mod metrics;
pub mod network;
pub mod occupancy;
pub mod optimizer;
pub mod pass;
mod random;
pub mod render;
pub mod report;
pub mod reptile;
pub mod run;
pub mod sampling;
pub mod scene;
pub mod scene_frame;
pub mod session;
pub mod step_state;
pub mod tensorboard;
mod text;
pub mod train;
#[cfg(feature = "viewer")]
pub mod viewer;

pub use wgpu;
