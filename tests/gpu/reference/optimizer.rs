//! Adam (Kingma and Ba 2015) in the form of tiny-cuda-nn, an exponential moving average of the weights, and the
//! learning-rate schedule.
//!
//! Parameters are `[rows][row_len]`: a row is one hash-table entry, or one weight of a network (`row_len` 1).

/// The constants of Adam.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the bias-corrected second moment.
    pub epsilon: f64,
    /// L2 regularisation: `g += l2_reg * w` before the moments are updated.
    pub l2_reg: f64,
}

/// The state of Adam.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// First moment, `[rows][row_len]`.
    pub m: Vec<f64>,
    /// Second moment, `[rows][row_len]`.
    pub v: Vec<f64>,
    /// Number of updates of each row, `[rows]`.
    pub steps: Vec<u32>,
}

impl Moments {
    /// Return moments before any update.
    pub fn zeros(rows: usize, row_len: usize) -> Self {
        Self {
            m: vec![0.0; rows * row_len],
            v: vec![0.0; rows * row_len],
            steps: vec![0; rows],
        }
    }

    fn row_len(&self) -> usize {
        self.m.len() / self.steps.len()
    }
}

impl Adam {
    /// Update every row.
    pub fn update(
        &self,
        learning_rate: f64,
        weights: &mut [f64],
        gradients: &[f64],
        moments: &mut Moments,
    ) {
        for row in 0..moments.steps.len() {
            self.update_row(learning_rate, row, weights, gradients, moments);
        }
    }

    /// Update the rows that have a gradient. A row whose gradient is exactly zero in all values keeps its weights, moments and
    /// step counter. Return which rows were updated.
    pub fn update_sparse(
        &self,
        learning_rate: f64,
        weights: &mut [f64],
        gradients: &[f64],
        moments: &mut Moments,
    ) -> Vec<bool> {
        let row_len = moments.row_len();
        let touched: Vec<bool> = gradients
            .chunks_exact(row_len)
            .map(|row| row.iter().any(|&g| g != 0.0))
            .collect();
        for (row, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
            self.update_row(learning_rate, row, weights, gradients, moments);
        }
        touched
    }

    /// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `w -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)`, with t counted from 1.
    fn update_row(
        &self,
        learning_rate: f64,
        row: usize,
        weights: &mut [f64],
        gradients: &[f64],
        moments: &mut Moments,
    ) {
        let row_len = moments.row_len();
        moments.steps[row] += 1;
        let t = f64::from(moments.steps[row]);
        let (one, two) = (1.0 - self.beta1.powf(t), 1.0 - self.beta2.powf(t));
        for i in row * row_len..(row + 1) * row_len {
            let g = gradients[i] + self.l2_reg * weights[i];
            moments.m[i] = self.beta1 * moments.m[i] + (1.0 - self.beta1) * g;
            moments.v[i] = self.beta2 * moments.v[i] + (1.0 - self.beta2) * g * g;
            weights[i] -=
                learning_rate * moments.m[i] / one / ((moments.v[i] / two).sqrt() + self.epsilon);
        }
    }
}

/// Update the eager average of all weights, once per step after the weights: `ema = decay ema + (1 - decay) w`.
///
/// The average starts as a copy of the initial weights, so it needs no bias correction.
pub fn ema_update(decay: f64, ema: &mut [f64], weights: &[f64]) {
    for (ema, w) in ema.iter_mut().zip(weights) {
        *ema = decay * *ema + (1.0 - decay) * w;
    }
}

/// The same average, updated lazily row by row: over k steps with unchanged weights it is `ema = w + (ema - w) decay^k`.
///
/// A row that step s updates is caught up twice: to s - 1 with its old weights, then to s with the new weights.
/// Before the average is read, every row is caught up to the current step.
#[derive(Clone, Debug)]
pub struct LazyEma {
    /// Decay per step.
    pub decay: f64,
    /// Averages, `[rows][row_len]`.
    pub values: Vec<f64>,
    /// Step to which each row is up to date, `[rows]`.
    pub last_step: Vec<u32>,
}

impl LazyEma {
    /// Start at step 0 with a copy of `weights`.
    pub fn new(decay: f64, weights: &[f64], row_len: usize) -> Self {
        Self {
            decay,
            values: weights.to_vec(),
            last_step: vec![0; weights.len() / row_len],
        }
    }

    /// Bring `row` up to date with the end of `step`, given that its weights have been those in `weights` (the whole table)
    /// since `last_step`.
    pub fn catch_up(&mut self, row: usize, weights: &[f64], step: u32) {
        let row_len = self.values.len() / self.last_step.len();
        let remaining = self.decay.powf(f64::from(step - self.last_step[row]));
        let range = row * row_len..(row + 1) * row_len;
        for (ema, w) in self.values[range.clone()].iter_mut().zip(&weights[range]) {
            *ema = w + (*ema - w) * remaining;
        }
        self.last_step[row] = step;
    }
}

/// Staircase decay of the learning rate, in absolute steps.
#[derive(Clone, Copy, Debug)]
pub struct LearningRate {
    /// Learning rate until `decay_start`.
    pub initial: f64,
    /// Factor of each decay.
    pub decay_base: f64,
    /// Step of the first decay.
    pub decay_start: u32,
    /// Number of steps between decays, at least 1.
    pub decay_interval: u32,
    /// Last step at which a decay may happen.
    pub decay_end: u32,
}

impl LearningRate {
    /// Return `initial * decay_base^n` with `n = s < decay_start ? 0 : floor((s - decay_start) / decay_interval) + 1` and
    /// `s = min(step, decay_end)`.
    pub fn at(&self, step: u32) -> f64 {
        let stairs = step
            .min(self.decay_end)
            .checked_sub(self.decay_start)
            .map_or(0, |past| past / self.decay_interval + 1);
        self.initial * self.decay_base.powf(f64::from(stairs))
    }
}
