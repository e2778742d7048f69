//! Distillation from a trained field.

use serde::{Deserialize, Serialize};

/// Distillation of a trained field, the teacher, into a grid of networks (Reiser et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// Number of distillation steps, which come first; the following steps train on the images. At least 1.
    pub steps: u32,
    /// Maximum number of random points per network and step. Default: 128.
    #[serde(default = "points_per_network")]
    pub points_per_network: u32,
    /// Distance over which densities are converted to opacities for the comparison, in units of the field's length
    /// (`scene.length`); positive. Default: 0.0211.
    #[serde(default = "alpha_distance")]
    pub alpha_distance: f32,
    /// Number of points per cell of the occupancy grid at which the teacher's density is evaluated. Default: 8.
    #[serde(default = "supersampling")]
    pub supersampling: u32,
    /// Optical thickness, over the minimum ray-marching step, above which a cell of the occupancy grid is
    /// occupied; positive. Default: 0.1.
    #[serde(default = "dense_threshold")]
    pub threshold: f32,
    /// Maximum number of views that choose between the distilled and the fine-tuned field: validation views or, where the
    /// dataset has none, training views that are held back, a quarter of them at most. With 0 the fine-tuned field is kept.
    /// The presets have 4; 0 if a configuration names no number.
    #[serde(default)]
    pub held_back_views: u32,
    /// The teacher's run, set by `kiln distill`; without a teacher there is no distillation.
    #[serde(default)]
    pub teacher: String,
    /// Hash of the teacher's checkpoint, to detect changes; set by `kiln distill`.
    #[serde(default)]
    pub teacher_fingerprint: String,
    /// Other runs to compare with the result in the report.
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
            held_back_views: 4,
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
