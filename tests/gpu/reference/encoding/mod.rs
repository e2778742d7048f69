//! Encodings: a position or a direction becomes a feature vector.

pub mod frequency;
pub mod hash_grid;
pub mod spherical_harmonics;
