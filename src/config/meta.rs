//! Meta-learning of an initialisation.

use serde::{Deserialize, Serialize};

use super::{Algorithm, Optimizer};

/// Learning weights to begin with (Reptile: Nichol, Achiam and Schulman 2018, as Tancik et al. 2021 use it): of one object
/// after another a few steps are learned, from the same weights, which then move towards what those steps made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Steps of `[optimizer]` on the images of each object, at most 256.
    pub inner_steps: u32,
    /// What takes the difference between the weights and what became of them as its gradient. With `sgd`, `learning_rate` is
    /// the share of the way that the weights move: plain interpolation.
    pub optimizer: Optimizer,
    /// Objects adapted to when it is measured how good the weights are, from the first of the test objects on.
    #[serde(default = "default_held_out_objects")]
    pub held_out_objects: u32,
    /// Steps that these are adapted for.
    #[serde(default = "held_out_steps")]
    pub held_out_steps: u32,
    /// MiB of images that stay on the device; objects beyond are read again when their turn comes.
    #[serde(default = "resident_mib")]
    pub resident_mib: u32,
    /// File that says which objects are learned from, which `kiln meta` fills in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<String>,
    /// Share of the folders that are learned from, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_fraction: Option<f64>,
}

fn default_held_out_objects() -> u32 {
    2
}

fn held_out_steps() -> u32 {
    32
}

fn resident_mib() -> u32 {
    2048
}

impl Meta {
    /// What suits a method that says nothing of it and learns by `optimizer`: Adam where the inner steps descend plainly, as
    /// the papers have it. Adam's inner steps are all of about the same length, and a share of the way they came will do.
    #[must_use]
    pub fn matching(optimizer: &Optimizer) -> Self {
        let plain = |algorithm, learning_rate| Optimizer {
            algorithm,
            learning_rate,
            ..Optimizer::plain()
        };
        Self {
            inner_steps: 32,
            optimizer: match optimizer.algorithm {
                Algorithm::Sgd => plain(Algorithm::Adam, 5e-4),
                Algorithm::Adam => plain(Algorithm::Sgd, 0.2),
            },
            held_out_objects: default_held_out_objects(),
            held_out_steps: held_out_steps(),
            resident_mib: resident_mib(),
            splits: None,
            train_fraction: None,
        }
    }
}
