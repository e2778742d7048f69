//! Reptile's outer step (Nichol, Achiam and Schulman 2018).

use super::optimizer::{Adam, Moments};

/// Return the outer gradient `θ - φ` for initial weights θ, which the steps of a task changed to φ.
pub fn gradient(theta: &[f64], phi: &[f64]) -> Vec<f64> {
    theta.iter().zip(phi).map(|(t, p)| t - p).collect()
}

/// Move θ towards φ by the fraction `share` of their difference.
pub fn interpolate(share: f64, theta: &mut [f64], phi: &[f64]) {
    for (t, p) in theta.iter_mut().zip(phi) {
        *t += share * (p - *t);
    }
}

/// Update θ by a step of Adam on the outer gradient.
pub fn step(adam: &Adam, rate: f64, theta: &mut [f64], phi: &[f64], moments: &mut Moments) {
    let gradient = gradient(theta, phi);
    adam.update(rate, theta, &gradient, moments);
}
