//! Frequency encoding (Mildenhall et al. 2020, equation 4, without the factor pi).
//!
//! `[x, sin(f_0 x), cos(f_0 x), sin(f_1 x), cos(f_1 x), …]`; each entry has three values, for x, y and z. The leading `x` is
//! present only with `include_input`. The paper has `f_j = 2^j`.

/// The frequencies, and whether the input is part of the output.
#[derive(Clone, Debug)]
pub struct Frequency {
    /// `f_j`, radians per unit of the input.
    pub frequencies: Vec<f64>,
    /// Whether the output begins with the input itself.
    pub include_input: bool,
}

impl Frequency {
    /// Return an encoding with `f_j = 2^j`, j in `0..n`.
    pub fn powers_of_two(n: u32, include_input: bool) -> Self {
        Self {
            frequencies: (0..n).map(|j| f64::from(j).exp2()).collect(),
            include_input,
        }
    }

    /// Return an encoding with `n` frequencies from 1 to `2^max_log2`, evenly spaced in the exponent.
    pub fn log_spaced(n: u32, max_log2: f64, include_input: bool) -> Self {
        let spacing = max_log2 / f64::from(n.max(2) - 1);
        Self {
            frequencies: (0..n).map(|j| (f64::from(j) * spacing).exp2()).collect(),
            include_input,
        }
    }

    /// Return the number of features per input: `3 * (include_input + 2 n)`.
    pub fn n_outputs(&self) -> usize {
        3 * (usize::from(self.include_input) + 2 * self.frequencies.len())
    }

    /// Return the features of `x`.
    pub fn forward(&self, x: [f64; 3]) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.n_outputs());
        if self.include_input {
            out.extend(x);
        }
        for &frequency in &self.frequencies {
            out.extend(x.map(|x| (frequency * x).sin()));
            out.extend(x.map(|x| (frequency * x).cos()));
        }
        out
    }

    /// Return `d_x = [d_out] + sum_j f_j (cos(f_j x) d_sin_j - sin(f_j x) d_cos_j)`.
    pub fn backward(&self, x: [f64; 3], d_out: &[f64]) -> [f64; 3] {
        let (d_input, d_waves) = d_out.split_at(if self.include_input { 3 } else { 0 });
        let mut d_position = [0.0; 3];
        for (d_position, d_input) in d_position.iter_mut().zip(d_input) {
            *d_position += d_input;
        }
        for (&frequency, d_wave) in self.frequencies.iter().zip(d_waves.chunks_exact(6)) {
            for axis in 0..3 {
                let (sin, cos) = (frequency * x[axis]).sin_cos();
                d_position[axis] += frequency * (cos * d_wave[axis] - sin * d_wave[3 + axis]);
            }
        }
        d_position
    }
}
