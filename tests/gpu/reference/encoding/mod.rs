//! Encodings from a position or a direction to a feature vector.

pub mod frequency;
pub mod hash_grid;
pub mod spherical_harmonics;
