//! Networks: multi-layer perceptrons behind one interface of forward, backward and weight gradients.

pub mod fused;

pub use fused::{Fused, Keep, Rows};
