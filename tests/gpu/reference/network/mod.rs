//! Networks.

pub mod binned;
pub mod fused;
pub mod tiled;
