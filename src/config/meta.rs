//! Meta-learning of an initialisation.

use serde::{Deserialize, Serialize};

use super::{Algorithm, Optimizer};

/// Meta-learning of an initialisation with Reptile (Nichol, Achiam and Schulman 2018), as in Tancik et al. 2021: for one object
/// after another, inner steps start from the initial weights, which an outer step then moves towards the adapted weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Number of inner steps, of `[optimizer]` on the images of each object: 1 to 256.
    pub inner_steps: u32,
    /// Outer optimiser, whose gradient is the initial minus the adapted weights. With `sgd`, `learning_rate` is the fraction by
    /// which the initial weights move towards the adapted weights: plain interpolation.
    pub optimizer: Optimizer,
    /// Number of test objects, counted from the first, that the initialisation is adapted to at each evaluation during
    /// meta-learning. Default: 2.
    #[serde(default = "default_held_out_objects")]
    pub held_out_objects: u32,
    /// Number of adaptation steps on each of these objects; at least 1. Default: 32.
    #[serde(default = "held_out_steps")]
    pub held_out_steps: u32,
    /// Memory for images on the device in MiB, at least 1; objects beyond are read again before each use. Default: 2048.
    #[serde(default = "resident_mib")]
    pub resident_mib: u32,
    /// File that lists the training and test objects; set by `kiln meta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<String>,
    /// Fraction of the folders that are training objects; set by `kiln meta`.
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
    /// Return the default for a method without `[meta]` whose inner optimiser is `optimizer`: Adam as the outer optimiser of
    /// plain gradient descent, as in the papers; interpolation for Adam, whose inner steps all have about the same length.
    #[must_use]
    pub fn default_for(optimizer: &Optimizer) -> Self {
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
