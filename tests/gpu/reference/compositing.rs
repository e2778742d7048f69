//! Volume rendering of one ray (Max 1995; Mildenhall et al. 2020, equation 3), front to back.
//!
//! `alpha_i = 1 - exp(-sigma_i dt_i)`, `T_0 = 1`, `T_{i+1} = T_i (1 - alpha_i)`, `w_i = T_i alpha_i`;
//! `rgb = sum w_i c_i`, `opacity = sum w_i`, `depth = sum w_i t_i`; over a background, `colour = rgb + (1 - opacity) bg`.
//! `sigma` is per world unit, `dt` and `t` are in world units.

/// Activation from raw density to `sigma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DensityActivation {
    /// `exp(raw)`; its derivative is `exp(clamp(raw, -15, 15))`, as in Instant-NGP.
    Exp,
    /// `max(raw, 0)`.
    Relu,
    /// `ln(1 + exp(raw))`.
    Softplus,
}

impl DensityActivation {
    /// Return `sigma(raw)`.
    pub fn value(self, raw: f64) -> f64 {
        match self {
            Self::Exp => raw.exp(),
            Self::Relu => raw.max(0.0),
            // This form does not overflow for either sign of `raw`.
            Self::Softplus => raw.max(0.0) + (-raw.abs()).exp().ln_1p(),
        }
    }

    /// Return `d sigma / d raw`.
    pub fn derivative(self, raw: f64) -> f64 {
        match self {
            Self::Exp => raw.clamp(-15.0, 15.0).exp(),
            Self::Relu => f64::from(raw > 0.0),
            Self::Softplus => sigmoid(raw),
        }
    }
}

/// Activation from a raw colour channel to a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RgbActivation {
    /// `1 / (1 + exp(-raw))`.
    Sigmoid,
    /// Identity.
    None,
}

impl RgbActivation {
    /// Return `c(raw)`.
    pub fn value(self, raw: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid(raw),
            Self::None => raw,
        }
    }

    /// Return `d c / d raw`.
    pub fn derivative(self, raw: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid(raw) * (1.0 - sigmoid(raw)),
            Self::None => 1.0,
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One evaluated sample of a ray.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Network output before activation: red, green, blue, density.
    pub raw: [f64; 4],
    /// Length of the interval of the ray that this sample represents, in world units.
    pub dt: f64,
    /// Distance along the ray, in world units.
    pub t: f64,
}

/// The composited values of a ray.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Composite {
    /// `sum w_i c_i`, without a background.
    pub rgb: [f64; 3],
    /// `sum w_i`.
    pub opacity: f64,
    /// `sum w_i t_i`: not divided by the opacity.
    pub depth: f64,
    /// `T` after the last sample used, `1 - opacity`.
    pub transmittance: f64,
    /// Number of samples used: all, unless the ray was terminated early.
    pub n_used: usize,
}

impl Composite {
    /// Return `rgb + (1 - opacity) * background`.
    pub fn over(&self, background: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|c| self.rgb[c] + (1.0 - self.opacity) * background[c])
    }
}

/// Return the part of `d_opacity` that a background adds: `-dot(d_colour, background)`.
pub fn d_opacity_of_background(d_colour: [f64; 3], background: [f64; 3]) -> f64 {
    -dot(d_colour, background)
}

/// The activations and the threshold of early ray termination.
#[derive(Clone, Copy, Debug)]
pub struct Compositing {
    /// For `raw[3]`.
    pub density_activation: DensityActivation,
    /// For `raw[0..3]`.
    pub rgb_activation: RgbActivation,
    /// The ray ends before the first sample whose `T_i` is below this value; 0 disables early termination.
    pub min_transmittance: f64,
}

/// A sample that is used, after activation, with its transmittance.
struct ActivatedSample {
    colour: [f64; 3],
    weight: f64,
    /// `T_{i+1}`.
    transmittance_after: f64,
}

impl Compositing {
    /// Composite samples that are ordered front to back.
    pub fn forward(&self, samples: &[Sample]) -> Composite {
        let lit = self.activate(samples);
        let mut composite = Composite {
            rgb: [0.0; 3],
            opacity: 0.0,
            depth: 0.0,
            transmittance: 1.0,
            n_used: lit.len(),
        };
        for (sample, lit) in samples.iter().zip(&lit) {
            for c in 0..3 {
                composite.rgb[c] += lit.weight * lit.colour[c];
            }
            composite.opacity += lit.weight;
            composite.depth += lit.weight * sample.t;
            composite.transmittance = lit.transmittance_after;
        }
        composite
    }

    /// Return the gradient of a loss with respect to every `raw`, given the gradients with respect to `rgb` and `opacity`.
    ///
    /// With `g_i = dot(d_rgb, c_i) + d_opacity`, since `dw_i/dsigma_i = dt_i T_{i+1}` and `dw_j/dsigma_i = -dt_i w_j`
    /// for j > i: `dL/dsigma_i = dt_i (T_{i+1} g_i - sum_{j>i} w_j g_j)`, whose sum is the suffix. `dL/dc_i = w_i d_rgb`.
    /// The position of early termination is treated as constant; samples behind it get zeros.
    pub fn backward(&self, samples: &[Sample], d_rgb: [f64; 3], d_opacity: f64) -> Vec<[f64; 4]> {
        let mut d_raw = vec![[0.0; 4]; samples.len()];
        let mut suffix = 0.0;
        for (i, lit) in self.activate(samples).iter().enumerate().rev() {
            let Sample { raw, dt, .. } = samples[i];
            let g = dot(d_rgb, lit.colour) + d_opacity;
            for c in 0..3 {
                d_raw[i][c] = lit.weight * d_rgb[c] * self.rgb_activation.derivative(raw[c]);
            }
            let d_sigma = dt * (lit.transmittance_after * g - suffix);
            d_raw[i][3] = d_sigma * self.density_activation.derivative(raw[3]);
            suffix += lit.weight * g;
        }
        d_raw
    }

    /// Return the cross-entropy `-sum p_i log(w_i + 1e-7)` between the weights of samples and a normal distribution around the
    /// distance `surface` (Deng et al. 2022, equation 7), with a standard deviation of `deviation`, at least `dt_i`.
    pub fn depth_loss(&self, samples: &[Sample], surface: f64, deviation: f64) -> f64 {
        let lit = self.activate(samples);
        let terms = samples.iter().zip(&lit);
        terms
            .map(|(sample, lit)| {
                -share(sample, surface, deviation) * (lit.weight + MIN_WEIGHT).ln()
            })
            .sum()
    }

    /// Return the gradient of [`Self::depth_loss`] with respect to every raw density.
    pub fn depth_backward(&self, samples: &[Sample], surface: f64, deviation: f64) -> Vec<f64> {
        let lit = self.activate(samples);
        let mut d_raw = vec![0.0; samples.len()];
        let mut suffix = 0.0;
        for (i, lit) in lit.iter().enumerate().rev() {
            let Sample { raw, dt, .. } = samples[i];
            let g = -share(&samples[i], surface, deviation) / (lit.weight + MIN_WEIGHT);
            let d_sigma = dt * (lit.transmittance_after * g - suffix);
            d_raw[i] = d_sigma * self.density_activation.derivative(raw[3]);
            suffix += lit.weight * g;
        }
        d_raw
    }

    /// Return the samples in front of early termination.
    fn activate(&self, samples: &[Sample]) -> Vec<ActivatedSample> {
        let mut transmittance = 1.0;
        let mut lit = Vec::new();
        for sample in samples {
            if transmittance < self.min_transmittance {
                break;
            }
            let sigma = self.density_activation.value(sample.raw[3]);
            let transmittance_after = transmittance * (-sigma * sample.dt).exp();
            lit.push(ActivatedSample {
                colour: std::array::from_fn(|c| self.rgb_activation.value(sample.raw[c])),
                weight: transmittance - transmittance_after,
                transmittance_after,
            });
            transmittance = transmittance_after;
        }
        lit
    }
}

/// Added to weights before their logarithm.
const MIN_WEIGHT: f64 = 1e-7;

/// Return the part of a normal distribution around `surface` in the interval of a sample.
fn share(sample: &Sample, surface: f64, deviation: f64) -> f64 {
    let deviation = deviation.max(sample.dt);
    let z = (sample.t - surface) / deviation;
    (-0.5 * z * z).exp() * (sample.dt / deviation).min(1.0) / std::f64::consts::TAU.sqrt()
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
