//! The optimiser and its schedule.

use serde::{Deserialize, Serialize};

/// The optimiser and its schedule, shared by all parameter groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// What makes a step of a gradient.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Step size at step 0.
    pub learning_rate: f32,
    /// Decay of Adam's first moment.
    #[serde(default = "beta1")]
    pub beta1: f32,
    /// Decay of Adam's second moment.
    #[serde(default = "beta2")]
    pub beta2: f32,
    /// Added to the root of Adam's second moment.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// L2 regularisation of network weights.
    #[serde(default)]
    pub l2_reg: f32,
    /// Factor on the norms of the layers of a grid's colour networks, weights and biases of each layer of each network
    /// together, in the loss on images: it keeps colours that few rays have seen from running away with the direction.
    #[serde(default)]
    pub norm_reg: f32,
    /// Decay of the moving average that evaluation uses; 0 turns it off.
    #[serde(default)]
    pub ema_decay: f32,
    /// The rate is multiplied by this…
    #[serde(default = "one")]
    pub decay_base: f32,
    /// …at this step…
    #[serde(default)]
    pub decay_start: u32,
    /// …and every so many steps after; 0 keeps the rate constant.
    #[serde(default)]
    pub decay_interval: u32,
    /// Whether that happens at once, rather than little by little over the interval.
    #[serde(default = "super::passes::yes")]
    pub staircase: bool,
    /// Last step at which that happens; left out, there is none.
    #[serde(default)]
    pub decay_end: Option<u32>,
    /// Steps over which the rate rises from 0.
    #[serde(default)]
    pub warmup_steps: u32,
    /// Factor on the rate of network weights.
    #[serde(default = "one")]
    pub network_rate: f32,
}

pub(super) fn one() -> f32 {
    1.0
}

fn beta1() -> f32 {
    0.9
}

fn beta2() -> f32 {
    0.999
}

fn epsilon() -> f32 {
    1e-8
}

/// What makes a step of a gradient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Adam (Kingma and Ba 2015).
    #[default]
    Adam,
    /// Gradient descent: the gradient times the rate. Of the gradients of rays drawn at random, a stochastic one.
    Sgd,
}

impl Optimizer {
    /// One that does nothing but descend: no regularisation, no averages, a constant rate.
    pub(super) fn plain() -> Self {
        Self {
            algorithm: Algorithm::Sgd,
            learning_rate: 1.0,
            beta1: beta1(),
            beta2: beta2(),
            epsilon: epsilon(),
            l2_reg: 0.0,
            norm_reg: 0.0,
            ema_decay: 0.0,
            decay_base: 1.0,
            decay_start: 0,
            decay_interval: 0,
            staircase: true,
            decay_end: None,
            warmup_steps: 0,
            network_rate: 1.0,
        }
    }
}
