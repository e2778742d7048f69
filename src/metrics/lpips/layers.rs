//! Layers of the networks, evaluated on bands of rows.

use rayon::prelude::*;

use super::network::KernelGeometry;

/// Output channels per iteration: two registers of the smallest vector unit.
const LANES: usize = 8;
/// Pixels per iteration, which share each loaded weight.
const PIXELS: usize = 4;
/// Pixels per task of a thread, which reads all weights of a layer once per task.
pub(super) const PIXELS_PER_TASK: usize = 32;

/// A layer of a network. Features are stored as (row, pixel, channel).
#[derive(Debug)]
pub(super) enum Layer {
    Convolution(Convolution),
    Pool {
        channels: usize,
        reach: KernelGeometry,
    },
}

impl Layer {
    pub(super) fn reach(&self) -> KernelGeometry {
        match self {
            Self::Convolution(c) => c.reach,
            Self::Pool { reach, .. } => *reach,
        }
    }

    pub(super) fn inputs(&self) -> usize {
        match self {
            Self::Convolution(c) => c.inputs,
            Self::Pool { channels, .. } => *channels,
        }
    }

    /// Compute `rows` rows of `width` outputs each, from input rows of `stride` values.
    fn forward(&self, input: &[f32], stride: usize, rows: usize, width: usize) -> Vec<f32> {
        match self {
            Self::Convolution(c) => c.forward(input, stride, rows, width),
            Self::Pool { channels, reach } => pool(*channels, *reach, input, stride, rows, width),
        }
    }
}

#[derive(Debug)]
pub(super) struct Convolution {
    inputs: usize,
    outputs: usize,
    reach: KernelGeometry,
    /// (outputs / LANES, size, size × inputs): an output depends on a contiguous run of values in each of `size` rows.
    weights: Vec<[f32; LANES]>,
    bias: Vec<f32>,
}

impl Convolution {
    /// Create a convolution with `weight` (outputs, inputs, size, size).
    pub(super) fn new(
        weight: &[f32],
        bias: Vec<f32>,
        inputs: usize,
        outputs: usize,
        reach: KernelGeometry,
    ) -> Self {
        let size = reach.size;
        let mut weights = Vec::with_capacity(weight.len() / LANES);
        for block in 0..outputs / LANES {
            for (row, column) in (0..size).flat_map(|r| (0..size).map(move |c| (r, c))) {
                for input in 0..inputs {
                    weights.push(std::array::from_fn(|lane| {
                        let plane = (block * LANES + lane) * inputs + input;
                        weight[(plane * size + row) * size + column]
                    }));
                }
            }
        }
        Self {
            inputs,
            outputs,
            reach,
            weights,
            bias,
        }
    }

    fn forward(&self, input: &[f32], row_stride: usize, rows: usize, width: usize) -> Vec<f32> {
        let KernelGeometry { size, stride, .. } = self.reach;
        let run = size * self.inputs;
        let start = |pixel: usize| {
            (pixel / width) * stride * row_stride + (pixel % width) * stride * self.inputs
        };
        let task = |first: usize, out: &mut [f32]| {
            let n = out.len() / self.outputs;
            let blocks = self.weights.chunks_exact(size * run);
            for (block, (weights, bias)) in blocks.zip(self.bias.as_chunks().0).enumerate() {
                for pixel in (0..n).step_by(PIXELS) {
                    // Iterations beyond the last pixel recompute it; the results are dropped.
                    let starts: [usize; PIXELS] =
                        std::array::from_fn(|i| start(first + (pixel + i).min(n - 1)));
                    let mut sums = [*bias; PIXELS];
                    for (row, weights) in weights.chunks_exact(run).enumerate() {
                        let runs = starts.map(|s| &input[s + row * row_stride..][..run]);
                        sums = accumulate(sums, weights, runs);
                    }
                    for (i, sum) in sums.iter().enumerate().take(n - pixel) {
                        let at = (pixel + i) * self.outputs + block * LANES;
                        for (out, sum) in out[at..][..LANES].iter_mut().zip(sum) {
                            *out = sum.max(0.0);
                        }
                    }
                }
            }
        };
        let mut out = vec![0.0; rows * width * self.outputs];
        out.par_chunks_mut(PIXELS_PER_TASK * self.outputs)
            .enumerate()
            .for_each(|(index, out)| task(index * PIXELS_PER_TASK, out));
        out
    }
}

/// Add the products of `runs` and `weights` to `sums`, which stay in registers. The loops have no iterators, because tests are
/// built without inlining their calls.
#[inline]
fn accumulate(
    mut sums: [[f32; LANES]; PIXELS],
    weights: &[[f32; LANES]],
    runs: [&[f32]; PIXELS],
) -> [[f32; LANES]; PIXELS] {
    let runs = runs.map(|run| &run[..weights.len()]);
    let mut i = 0;
    while i < weights.len() {
        let weights = &weights[i];
        let mut pixel = 0;
        while pixel < PIXELS {
            let (sum, value) = (&mut sums[pixel], runs[pixel][i]);
            let mut lane = 0;
            while lane < LANES {
                sum[lane] += value * weights[lane];
                lane += 1;
            }
            pixel += 1;
        }
        i += 1;
    }
    sums
}

fn pool(
    channels: usize,
    reach: KernelGeometry,
    input: &[f32],
    row_stride: usize,
    rows: usize,
    width: usize,
) -> Vec<f32> {
    let mut out = vec![f32::NEG_INFINITY; rows * width * channels];
    out.par_chunks_mut(channels)
        .with_min_len(PIXELS_PER_TASK)
        .enumerate()
        .for_each(|(pixel, out)| {
            let (y, x) = (pixel / width * reach.stride, pixel % width * reach.stride);
            for row in y..y + reach.size {
                let run = &input[row * row_stride + x * channels..][..reach.size * channels];
                for pixel in run.chunks_exact(channels) {
                    for (out, value) in out.iter_mut().zip(pixel) {
                        *out = out.max(*value);
                    }
                }
            }
        });
    out
}

/// The input rows, with padding, that a layer still needs.
#[derive(Debug)]
pub(super) struct Window {
    reach: KernelGeometry,
    channels: usize,
    /// Number of pixels of a row, without padding.
    width: usize,
    rows: Vec<f32>,
}

impl Window {
    pub(super) fn new(reach: KernelGeometry, channels: usize, width: usize) -> Self {
        let mut window = Self {
            reach,
            channels,
            width,
            rows: Vec::new(),
        };
        window.pad();
        window
    }

    /// Return the number of values of a row with padding.
    fn stride(&self) -> usize {
        (self.width + 2 * self.reach.padding) * self.channels
    }

    /// Append the rows of zeros above or below the image.
    fn pad(&mut self) {
        let padding = self.reach.padding * self.stride();
        self.rows.resize(self.rows.len() + padding, 0.0);
    }

    /// Apply `layer` to the next band of rows; `last` if no band follows.
    pub(super) fn pass(&mut self, layer: &Layer, band: &[f32], last: bool) -> Vec<f32> {
        let (stride, side) = (self.stride(), self.reach.padding * self.channels);
        for row in band.chunks_exact(self.width * self.channels) {
            self.rows.resize(self.rows.len() + side, 0.0);
            self.rows.extend_from_slice(row);
            self.rows.resize(self.rows.len() + side, 0.0);
        }
        if last {
            self.pad();
        }
        let rows = self.reach.outputs_of_padded(self.rows.len() / stride);
        let width = self.reach.outputs(self.width);
        let out = layer.forward(&self.rows, stride, rows, width);
        self.rows.drain(..rows * self.reach.stride * stride);
        out
    }
}
