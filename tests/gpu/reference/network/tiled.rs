//! Fully connected network with skips: the input of layer `k` is `h_k`, or `[h_k, h_0]` if `k` is a skip. Hidden layers are
//! rectified; with `rectified_outputs`, all outputs except the first are rectified too.
//!
//! Weights and gradients as in `fused`. One sample per call.

use super::super::random::Pcg;
use super::fused::Layer;

/// The shape of a network.
#[derive(Clone, Debug)]
pub struct SkipMlp {
    /// Widths: input, hidden …, output.
    pub dims: Vec<usize>,
    /// Layers whose input includes the network's input.
    pub skips: Vec<usize>,
    /// Whether layers add a bias.
    pub biases: bool,
    /// Whether all outputs except the first are rectified.
    pub rectified_outputs: bool,
}

impl SkipMlp {
    /// Return the number of inputs of layer `k`.
    pub fn inputs(&self, k: usize) -> usize {
        self.dims[k]
            + if self.skips.contains(&k) {
                self.dims[0]
            } else {
                0
            }
    }

    /// Return layers of zeros, to accumulate gradients into.
    pub fn zeros(&self) -> Vec<Layer> {
        self.layers(|_, n| vec![0.0; n])
    }

    /// Return layers, including biases, uniform in `+-sqrt(6 / in)`.
    pub fn random(&self, pcg: &mut Pcg) -> Vec<Layer> {
        self.layers(|n_in, n| {
            let bound = (6.0 / n_in as f64).sqrt();
            pcg.uniform_vec(n, -bound, bound)
        })
    }

    fn layers(&self, mut fill: impl FnMut(usize, usize) -> Vec<f64>) -> Vec<Layer> {
        (0..self.dims.len() - 1)
            .map(|k| {
                let (n_in, n_out) = (self.inputs(k), self.dims[k + 1]);
                Layer {
                    weights: fill(n_in, n_in * n_out),
                    biases: fill(n_in, if self.biases { n_out } else { 0 }),
                }
            })
            .collect()
    }

    /// Return whether output `o` of layer `k` is rectified.
    pub fn is_rectified(&self, k: usize, o: usize) -> bool {
        k + 2 < self.dims.len() || (self.rectified_outputs && o > 0)
    }

    /// Return the input of every layer, concatenated at skips, and all pre-activations.
    pub fn forward(&self, layers: &[Layer], input: &[f64]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let (mut inputs, mut sums) = (Vec::new(), Vec::new());
        let mut h = input.to_vec();
        for (k, layer) in layers.iter().enumerate() {
            if self.skips.contains(&k) {
                h.extend(input);
            }
            let dot = |row: &[f64]| row.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>();
            let sum: Vec<f64> = layer
                .weights
                .chunks_exact(h.len())
                .enumerate()
                .map(|(o, row)| dot(row) + layer.biases.get(o).copied().unwrap_or(0.0))
                .collect();
            inputs.push(h);
            h = (0..sum.len())
                .map(|o| {
                    if self.is_rectified(k, o) {
                        sum[o].max(0.0)
                    } else {
                        sum[o]
                    }
                })
                .collect();
            sums.push(sum);
        }
        inputs.push(h);
        (inputs, sums)
    }

    /// Accumulate into `d_layers` and return `d_input`. `d_output` is with respect to the outputs before their rectifier.
    pub fn backward(
        &self,
        layers: &[Layer],
        (inputs, sums): &(Vec<Vec<f64>>, Vec<Vec<f64>>),
        d_output: &[f64],
        d_layers: &mut [Layer],
    ) -> Vec<f64> {
        let mut d_z = d_output.to_vec();
        let mut d_input = vec![0.0; self.dims[0]];
        for k in (0..layers.len()).rev() {
            let n = inputs[k].len();
            let mut d_h = vec![0.0; n];
            for (o, d) in d_z.iter().enumerate() {
                for (i, h) in inputs[k].iter().enumerate() {
                    d_layers[k].weights[o * n + i] += d * h;
                    d_h[i] += layers[k].weights[o * n + i] * d;
                }
                if let Some(bias) = d_layers[k].biases.get_mut(o) {
                    *bias += d;
                }
            }
            if k == 0 || self.skips.contains(&k) {
                let from = if k == 0 { 0 } else { self.dims[k] };
                for (sum, d) in d_input.iter_mut().zip(&d_h[from..]) {
                    *sum += d;
                }
            }
            if k > 0 {
                d_z = (0..self.dims[k])
                    .map(|i| if sums[k - 1][i] > 0.0 { d_h[i] } else { 0.0 })
                    .collect();
            }
        }
        d_input
    }
}
