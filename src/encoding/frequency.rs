//! Frequency encoding: `shaders/encoding/frequency.wgsl` (Mildenhall et al. 2020, eq. 4, without the factor π).

use crate::gpu::Defines;

/// Values per 3-vector: 6 per octave, and the vector itself if `include_input`.
#[must_use]
pub fn n_outputs(n_frequencies: u32, include_input: bool) -> u32 {
    6 * n_frequencies + if include_input { 3 } else { 0 }
}

/// The shader and its values.
#[must_use]
pub fn shader(n_frequencies: u32, include_input: bool) -> (&'static str, Defines) {
    let defines = Defines::new()
        .set("n_frequencies", n_frequencies)
        .set("include_input", include_input)
        .set("encoded", n_outputs(n_frequencies, include_input));
    ("encoding/frequency", defines)
}
