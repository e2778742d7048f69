//! Real spherical harmonics of unit directions: `shaders/encoding/spherical_harmonics.wgsl`.

use crate::gpu::Defines;

/// Number of encoded values for `degree` bands: `degree` squared.
#[must_use]
pub fn n_outputs(degree: u32) -> u32 {
    degree * degree
}

/// Return the shader file and its template values.
#[must_use]
pub fn shader(degree: u32) -> (&'static str, Defines) {
    (
        "encoding/spherical_harmonics",
        Defines::new().set("degree", degree),
    )
}
