//! Samplers: where along a ray the field is evaluated.

pub mod importance;
pub mod ray_march;
pub mod stratified;
