//! Samplers: the positions along a ray at which the field is evaluated.

pub mod importance;
pub mod ray_march;
pub mod stratified;
