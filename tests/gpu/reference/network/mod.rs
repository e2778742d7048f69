//! Networks.

pub mod fused;
pub mod tiled;
