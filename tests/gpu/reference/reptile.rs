//! Reptile's outer step (Nichol, Achiam and Schulman 2018).

use super::optimizer::{Adam, Moments};

/// The outer gradient `θ - φ` of weights θ, which a task's steps turned into φ.
pub fn gradient(theta: &[f64], phi: &[f64]) -> Vec<f64> {
    theta.iter().zip(phi).map(|(t, p)| t - p).collect()
}

/// Move θ by `share` of the way to φ.
pub fn interpolate(share: f64, theta: &mut [f64], phi: &[f64]) {
    for (t, p) in theta.iter_mut().zip(phi) {
        *t += share * (p - *t);
    }
}

/// Move θ by a step of Adam on the outer gradient.
pub fn step(adam: &Adam, rate: f64, theta: &mut [f64], phi: &[f64], moments: &mut Moments) {
    let gradient = gradient(theta, phi);
    adam.update(rate, theta, &gradient, moments);
}
