//! Reptile's outer step (Nichol, Achiam and Schulman 2018).

use super::optimizer::{Adam, Moments};

/// What stands for the gradient of weights θ that a task's steps turned into φ.
pub fn gradient(theta: &[f64], phi: &[f64]) -> Vec<f64> {
    theta.iter().zip(phi).map(|(t, p)| t - p).collect()
}

/// θ moves a share of the way to φ.
pub fn interpolate(share: f64, theta: &mut [f64], phi: &[f64]) {
    for (t, p) in theta.iter_mut().zip(phi) {
        *t += share * (p - *t);
    }
}

/// θ moves by a step of Adam.
pub fn step(adam: &Adam, rate: f64, theta: &mut [f64], phi: &[f64], moments: &mut Moments) {
    let gradient = gradient(theta, phi);
    adam.update(rate, theta, &gradient, moments);
}
