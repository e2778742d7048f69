//! kiln
pub mod gpu;
pub mod network;
pub mod step;
