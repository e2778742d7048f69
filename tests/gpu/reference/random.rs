//! Reproducible test data.

/// PCG32 (O'Neill 2014, XSH-RR 64/32, one fixed stream).
pub struct Pcg {
    state: u64,
}

impl Pcg {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
    const INCREMENT: u64 = 1_442_695_040_888_963_407;

    /// Return a generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut pcg = Self {
            state: seed.wrapping_add(Self::INCREMENT),
        };
        pcg.next_u32();
        pcg
    }

    /// Return 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        let state = self.state;
        self.state = state
            .wrapping_mul(Self::MULTIPLIER)
            .wrapping_add(Self::INCREMENT);
        let xor_shifted = (((state >> 18) ^ state) >> 27) as u32;
        xor_shifted.rotate_right((state >> 59) as u32)
    }

    /// Return a number uniform in `[0, 1)`, a multiple of 2^-24 and therefore exact in f32 too.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.next_u32() >> 8) / f64::from(1 << 24)
    }

    /// Return a number uniform in `[low, high)`, rounded to f32 so that a GPU buffer contains exactly the same value.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        f64::from((low + (high - low) * self.unit()) as f32)
    }

    /// Return `n` values of [`Pcg::uniform`].
    pub fn uniform_vec(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }

    /// Return three values of [`Pcg::uniform`].
    pub fn uniform3(&mut self, low: f64, high: f64) -> [f64; 3] {
        std::array::from_fn(|_| self.uniform(low, high))
    }

    /// Return a direction uniform on the unit sphere, of length 1 in f64.
    pub fn direction(&mut self) -> [f64; 3] {
        let z = 2.0 * self.unit() - 1.0;
        let radius = (1.0 - z * z).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
        [radius * cos, radius * sin, z]
    }
}
