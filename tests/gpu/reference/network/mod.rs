//! Networks.

pub mod fused;
