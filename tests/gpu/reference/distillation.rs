//! The loss of distillation (Reiser et al. 2021, section 3.2): mean squared error of colour and of the opacity over a distance.

use super::compositing::{DensityActivation, RgbActivation};

/// Parameters of the loss of one point: the student's output activations, and the distance.
#[derive(Clone, Copy, Debug)]
pub struct DistillationLoss {
    /// Activation from raw density to density; a rectifier has slope 0.01 for negative values.
    pub density: DensityActivation,
    /// Activation from raw colour to colour.
    pub color: RgbActivation,
    /// Distance over which the opacity is computed, in world units.
    pub distance: f64,
}

impl DistillationLoss {
    /// Return the density and its derivative.
    fn density(&self, raw: f64) -> (f64, f64) {
        if self.density == DensityActivation::Relu && raw <= 0.0 {
            return (0.01 * raw, 0.01);
        }
        (self.density.value(raw), self.density.derivative(raw))
    }

    /// Return `1/4 (|c - c*|^2 + (alpha - alpha*)^2)` of one point, with `alpha = 1 - exp(-sigma distance)`.
    pub fn loss(&self, raw_color: [f64; 3], raw_density: f64, target: [f64; 4]) -> f64 {
        let alpha = |sigma: f64| 1.0 - (-sigma * self.distance).exp();
        let difference = alpha(self.density(raw_density).0) - alpha(target[3]);
        let colors = (0..3).map(|c| self.color.value(raw_color[c]) - target[c]);
        0.25 * (colors.map(|d| d * d).sum::<f64>() + difference * difference)
    }

    /// Return the gradients of the loss with respect to raw colour and raw density.
    pub fn gradient(
        &self,
        raw_color: [f64; 3],
        raw_density: f64,
        target: [f64; 4],
    ) -> ([f64; 3], f64) {
        let (sigma, slope) = self.density(raw_density);
        let through = (-sigma * self.distance).exp();
        let difference = (-target[3] * self.distance).exp() - through;
        let d_color = std::array::from_fn(|c| {
            let value = self.color.value(raw_color[c]);
            0.5 * (value - target[c]) * self.color.derivative(raw_color[c])
        });
        (d_color, 0.5 * difference * through * self.distance * slope)
    }
}
