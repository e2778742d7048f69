//! kiln
pub mod camera;
pub mod compositing;
pub mod config;
pub mod dataset;
pub mod encoding;
pub mod field;
pub mod gpu;
pub mod images;
pub mod loss;
pub mod network;
pub mod occupancy;
pub mod optimizer;
pub mod pass;
pub mod metrics;
pub mod render;
pub mod sampling;
pub mod train;
