//! Random numbers on the host, from the same generator as in the shaders.

/// The PCG hash generator of `shaders/common/pcg.wgsl`.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u32);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        let state = self.0.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
        self.0 = (word >> 22) ^ word;
        self.0
    }

    /// Uniform in ±`bound`.
    pub(crate) fn symmetric(&mut self, bound: f32) -> f32 {
        let unit = (self.next() >> 8) as f32 / 16_777_216.0;
        (2.0 * unit - 1.0) * bound
    }
}
