//! Fully connected network: `h_0 = input`, `z_k = W_k h_k + b_k`, `h_{k+1} = max(z_k, 0)`; the last layer is linear.
//!
//! Weights: per layer `[out][in]`, row-major, as in `torch.nn.Linear`. One sample per call.

use super::super::random::Pcg;

/// The shape of a network.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// Widths: input, hidden …, output.
    pub dims: Vec<usize>,
    /// Whether layers add a bias.
    pub biases: bool,
}

/// The parameters of one layer, or their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// `[out][in]`.
    pub weights: Vec<f64>,
    /// `[out]`, empty in a network without biases.
    pub biases: Vec<f64>,
}

/// Saved values of `forward`: the input of every layer, then the output.
#[derive(Clone, Debug)]
pub struct Activations {
    /// `[n_layers + 1][dims[k]]`.
    pub values: Vec<Vec<f64>>,
}

impl Activations {
    /// Return the output of the last layer.
    pub fn output(&self) -> &[f64] {
        &self.values[self.values.len() - 1]
    }
}

impl Mlp {
    /// Return the number of weight matrices.
    pub fn n_layers(&self) -> usize {
        self.dims.len() - 1
    }

    /// Return layers of zeros, to accumulate gradients into.
    pub fn zeros(&self) -> Vec<Layer> {
        self.layers(|_, n| vec![0.0; n])
    }

    /// Return layers, including biases, uniform in `+-sqrt(6 / in)`: large enough that every part of a test matters.
    pub fn random(&self, pcg: &mut Pcg) -> Vec<Layer> {
        self.layers(|n_in, n| {
            let bound = (6.0 / n_in as f64).sqrt();
            pcg.uniform_vec(n, -bound, bound)
        })
    }

    fn layers(&self, mut fill: impl FnMut(usize, usize) -> Vec<f64>) -> Vec<Layer> {
        self.dims
            .windows(2)
            .map(|dims| Layer {
                weights: fill(dims[0], dims[0] * dims[1]),
                biases: fill(dims[0], if self.biases { dims[1] } else { 0 }),
            })
            .collect()
    }

    /// Run the network on one input of `dims[0]` values.
    pub fn forward(&self, layers: &[Layer], input: &[f64]) -> Activations {
        assert_eq!(input.len(), self.dims[0], "input width");
        let mut values = vec![input.to_vec()];
        for (k, layer) in layers.iter().enumerate() {
            let h = &values[k];
            let is_last = k + 1 == layers.len();
            let next = (0..self.dims[k + 1])
                .map(|o| {
                    let row = &layer.weights[o * h.len()..(o + 1) * h.len()];
                    let dot: f64 = row.iter().zip(h).map(|(w, h)| w * h).sum();
                    let z = dot + layer.biases.get(o).copied().unwrap_or(0.0);
                    if is_last { z } else { z.max(0.0) }
                })
                .collect();
            values.push(next);
        }
        Activations { values }
    }

    /// `dW_k[o][i] += dz_k[o] h_k[i]`, `db_k += dz_k`, `dh_k = W_k^T dz_k`, `dz_{k-1} = [h_k > 0] dh_k`.
    ///
    /// Accumulate into `d_layers` and return `d_input`.
    pub fn backward(
        &self,
        layers: &[Layer],
        activations: &Activations,
        d_output: &[f64],
        d_layers: &mut [Layer],
    ) -> Vec<f64> {
        let mut d_z = d_output.to_vec();
        for k in (0..self.n_layers()).rev() {
            let h = &activations.values[k];
            let mut d_h = vec![0.0; h.len()];
            for (o, d_z) in d_z.iter().enumerate() {
                for (i, h) in h.iter().enumerate() {
                    d_layers[k].weights[o * self.dims[k] + i] += d_z * h;
                    d_h[i] += layers[k].weights[o * self.dims[k] + i] * d_z;
                }
            }
            for (d_bias, d_z) in d_layers[k].biases.iter_mut().zip(&d_z) {
                *d_bias += d_z;
            }
            if k > 0 {
                for (d_h, h) in d_h.iter_mut().zip(h) {
                    *d_h *= f64::from(*h > 0.0);
                }
            }
            d_z = d_h;
        }
        d_z
    }
}
