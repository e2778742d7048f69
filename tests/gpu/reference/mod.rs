//! CPU references: a plain f64 implementation of every stage of the GPU pipeline.
//!
//! `src/encoding/hash_grid.rs`, `shaders/encoding/hash_grid.wgsl` and `encoding/hash_grid.rs` here are the same stage.
//! The chain of trust: finite differences check these backward passes (`tests/reference.rs`), and these check the
//! kernels (`tests/gpu`). One sample or one ray per call; the caller loops over a batch.
//!
//! Gradients are named `d_…`. Parameter gradients accumulate (`+=`); gradients of inputs are returned. Marching and the
//! occupancy grid are exceptions to f64: f32 comparisons determine which samples exist, so the reference makes the same
//! comparisons.

#![allow(
    dead_code,
    reason = "two test binaries include these modules and neither calls everything"
)]
#![allow(clippy::cast_possible_wrap, reason = "grid coordinates are small")]

pub mod compaction;
pub mod compositing;
pub mod distillation;
pub mod encoding;
pub mod loss;
pub mod metrics;
pub mod network;
pub mod occupancy;
pub mod optimizer;
pub mod primitives;
pub mod random;
pub mod reptile;
pub mod sampling;
