//! Optimiser and learning-rate schedule.

use serde::{Deserialize, Serialize};

/// The optimiser and its learning-rate schedule, shared by all parameter groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Optimisation algorithm. Default: Adam.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Learning rate at step 0; positive.
    pub learning_rate: f32,
    /// Decay rate β₁ of Adam's first moment, in [0, 1). Default: 0.9.
    #[serde(default = "beta1")]
    pub beta1: f32,
    /// Decay rate β₂ of Adam's second moment, in [0, 1). Default: 0.999.
    #[serde(default = "beta2")]
    pub beta2: f32,
    /// ε, added to the square root of Adam's second moment; positive. Default: 1e-8.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// Coefficient of the L2 regularisation of network weights: their gradient is increased by `l2_reg` times
    /// the weights. Default: 0.
    #[serde(default)]
    pub l2_reg: f32,
    /// Coefficient of a penalty on the norms of the layers of a grid's colour networks, in the loss on images; the norm
    /// is that of the weights and biases of each layer of each network. It limits view dependence of colours that few
    /// rays observe. Default: 0.
    #[serde(default)]
    pub norm_reg: f32,
    /// Decay rate of the exponential moving average of the parameters that evaluation uses, in [0, 1); 0, the
    /// default, disables averaging.
    #[serde(default)]
    pub ema_decay: f32,
    /// Factor by which the learning rate is multiplied at each decay; positive. Default: 1.
    #[serde(default = "one")]
    pub decay_base: f32,
    /// Step of the first decay. Default: 0.
    #[serde(default)]
    pub decay_start: u32,
    /// Number of steps between decays; 0, the default, keeps the learning rate constant.
    #[serde(default)]
    pub decay_interval: u32,
    /// Whether the learning rate decays in discrete steps (the default) or continuously, by `decay_base` per interval.
    #[serde(default = "super::passes::default_true")]
    pub staircase: bool,
    /// Step after which the learning rate no longer decays; at least `decay_start`. Default: none.
    #[serde(default)]
    pub decay_end: Option<u32>,
    /// Number of steps of a linear warm-up of the learning rate from 0. Default: 128 for hash grids in front of a background of
    /// one colour, where the first steps can otherwise leave the colour network without gradient; else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u32>,
    /// Factor of the learning rate of network weights. Default, for hash grids: 0.5 where images are transparent, 0.25 where
    /// they show one colour around the scene; else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_rate: Option<f32>,
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

/// Optimisation algorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Adam (Kingma and Ba 2015).
    #[default]
    Adam,
    /// Gradient descent: the step is the gradient times the learning rate; stochastic, since rays are drawn at random.
    Sgd,
}

impl Optimizer {
    /// Return plain gradient descent: no regularisation, no moving average, a constant learning rate.
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
            warmup_steps: None,
            network_rate: None,
        }
    }
}
