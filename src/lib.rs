//! Radiance fields on any GPU: training, evaluation and rendering as WGSL compute shaders through wgpu.
//!
#![doc = include_str!("../assets/images/front.md")]
//!
//! ```no_run
#![doc = include_str!("../examples/train.rs")]
//! ```
//!
//! [`session`] has a function for each task of a user: train, distil, meta-learn, evaluate, render. It is built on the other
//! modules. A radiance field is an encoding that feeds a network; the data flow is:
//!
//! ```text
//!  dataset ─► images ─► rays ─► sampling ─► encoding ─► network ─► compositing ─► loss
//!                                  ▲            └──── field ────┘                  │
//!                             occupancy ◄── field.density (every k steps)          │
//!  optimizer ◄── dW ◄── network ◄── compositing backward ◄─────────────────────────┘
//!            ◄── dTable ◄── encoding
//! ```
//!
//! - [`session`]: the tasks of a user, each from plain options and an observer.
//! - [`dataset`]: reads posed images in common formats into frames.
//! - [`camera`]: camera models with lens distortion: rays of pixels, projection.
//! - [`camera_path`]: timed cameras for animations: key-frame files, orbits, spirals.
//! - [`aabb`]: axis-aligned boxes.
//! - [`scene_frame`]: the similarity between a dataset's world space and the field's normalised space.
//! - [`images`]: images and cameras on the device; draws training rays.
//! - [`sampling`]: samplers, which place samples along rays: ray marching, stratified, importance.
//! - [`occupancy`]: the occupancy grid with which ray marching skips empty space.
//! - [`compaction`]: culls samples behind opaque ones and gathers the others.
//! - [`encoding`]: position and direction encodings: hash grid, frequencies, spherical harmonics.
//! - [`network`]: multi-layer perceptrons, and grids of small ones.
//! - [`field`]: a radiance field: encodings with density and colour networks.
//! - [`pass`]: evaluates a field along rays: sample, encode, cull, forward.
//! - [`compositing`]: volume rendering, forward and backward.
//! - [`loss`]: losses on composited colours.
//! - [`optimizer`]: Adam or gradient descent, with moving averages of the weights.
//! - [`step_state`]: counts, seed and learning rate of a training step, on the device.
//! - [`train`]: the training loop as a list of stages, and its memory plan.
//! - [`distillation`]: distils a trained field into a grid of networks.
//! - [`reptile`]: meta-learns an initialisation from many objects (Reptile).
//! - [`render`]: renders views: colour, opacity, depth, normals.
//! - [`eval`]: evaluates a field against images.
//! - [`metrics`]: PSNR, SSIM and LPIPS.
//! - [`config`]: the TOML file that defines a method; its presets and checks.
//! - [`checkpoint`]: saves, loads and verifies checkpoints.
//! - [`run`]: run directories.
//! - [`report`]: a run as an HTML page.
//! - [`tensorboard`]: a run as `TensorBoard` event files.
//! - [`import`]: converts models of other programs.
//! - [`scene`]: the built-in demo scene and toy cars.
//! - [`files`]: size-limited reading and atomic replacement of files.
//! - [`gpu`]: adapters, buffers, kernels and submission, on top of [`wgpu`]; the lowest layer.
//! - `cli`, `viewer`: the command line and the window, which use [`session`] as observers (features `cli` and `viewer`).
//!
//! Shapes in this crate's documentation are row-major. World units are the dataset's. σ is per unit of the field's
//! normalised length, or per world unit if `scene.length` is `world`. Colours are sRGB values in [0, 1], unless a field is
//! composited in linear colour.

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
