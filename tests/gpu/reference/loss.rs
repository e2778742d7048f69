//! Photometric losses, per channel with `e = predicted - target`, averaged over three channels and over rays.

/// The loss of one channel's error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// `e^2`.
    L2,
    /// `(|e| <= delta ? e^2 / (2 delta) : |e| - delta / 2) / 5`, value and gradient, as in Instant-NGP with delta = 0.1, where
    /// it equals L2 for small errors.
    Huber {
        /// Error at which the parabola becomes a line, in colour units.
        delta: f64,
    },
}

impl Loss {
    /// Return the loss of one channel.
    pub fn value(self, e: f64) -> f64 {
        match self {
            Self::L2 => e * e,
            Self::Huber { delta } if e.abs() <= delta => 0.5 * e * e / delta / 5.0,
            Self::Huber { delta } => (e.abs() - 0.5 * delta) / 5.0,
        }
    }

    /// Return the derivative of the loss of one channel.
    pub fn derivative(self, e: f64) -> f64 {
        match self {
            Self::L2 => 2.0 * e,
            Self::Huber { delta } if e.abs() <= delta => e / delta / 5.0,
            Self::Huber { .. } => e.signum() / 5.0,
        }
    }

    /// Return the mean over the channels of one ray.
    pub fn ray(self, predicted: [f64; 3], target: [f64; 3]) -> f64 {
        (0..3)
            .map(|c| self.value(predicted[c] - target[c]))
            .sum::<f64>()
            / 3.0
    }

    /// Return the mean over the rays of one step.
    pub fn step(self, predicted: &[[f64; 3]], target: &[[f64; 3]]) -> f64 {
        let sum: f64 = predicted
            .iter()
            .zip(target)
            .map(|(&p, &t)| self.ray(p, t))
            .sum();
        sum / predicted.len() as f64
    }

    /// Return the gradient of [`Loss::step`] with respect to every predicted colour; it includes the factor `1 / (3 n_rays)`.
    pub fn backward(self, predicted: &[[f64; 3]], target: &[[f64; 3]]) -> Vec<[f64; 3]> {
        let scale = 1.0 / (3.0 * predicted.len() as f64);
        predicted
            .iter()
            .zip(target)
            .map(|(p, t)| std::array::from_fn(|c| scale * self.derivative(p[c] - t[c])))
            .collect()
    }
}
