//! Learning from a teacher.

use serde::{Deserialize, Serialize};

/// Learning from a trained field (Reiser et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// Steps that learn from the teacher; those that follow learn from the images.
    pub steps: u32,
    /// Random points per network and step, at most.
    #[serde(default = "points_per_network")]
    pub points_per_network: u32,
    /// Densities are compared as opacities over this distance, in world units.
    #[serde(default = "alpha_distance")]
    pub alpha_distance: f32,
    /// Places in each cell of the occupancy grid at which the teacher is asked for its density.
    #[serde(default = "supersampling")]
    pub supersampling: u32,
    /// Optical thickness of a step from which on a cell of the occupancy grid is dense.
    #[serde(default = "dense_threshold")]
    pub threshold: f32,
    /// The teacher's run, which `kiln distill` fills in; without one nothing is distilled.
    #[serde(default)]
    pub teacher: String,
    /// What tells whether the teacher is still the same.
    #[serde(default)]
    pub teacher_fingerprint: String,
    /// Runs to name beside the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<String>,
}

impl Default for Distillation {
    fn default() -> Self {
        Self {
            steps: 1000,
            points_per_network: points_per_network(),
            alpha_distance: alpha_distance(),
            supersampling: supersampling(),
            threshold: dense_threshold(),
            teacher: String::new(),
            teacher_fingerprint: String::new(),
            compare: Vec::new(),
        }
    }
}

fn points_per_network() -> u32 {
    128
}

fn alpha_distance() -> f32 {
    0.0211
}

fn dense_threshold() -> f32 {
    0.1
}

fn supersampling() -> u32 {
    8
}
