//! Encodings of positions and of view directions.

pub mod frequency;
pub mod hash_grid;
pub mod spherical_harmonics;

pub use hash_grid::HashGrid;

use crate::config::DirectionEncoding;
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Stage};
use crate::network::Rows;

/// The shader file of a direction encoding and the values it is specialised with.
fn direction_shader(encoding: &DirectionEncoding) -> (&'static str, Defines) {
    match *encoding {
        DirectionEncoding::SphericalHarmonics { degree } => spherical_harmonics::shader(degree),
        DirectionEncoding::Frequency {
            n_frequencies,
            include_input,
        } => frequency::shader(n_frequencies, include_input),
    }
}

/// Number of values that `encoding` makes of a direction.
#[must_use]
pub fn n_direction_values(encoding: &DirectionEncoding) -> u32 {
    match *encoding {
        DirectionEncoding::SphericalHarmonics { degree } => spherical_harmonics::n_outputs(degree),
        DirectionEncoding::Frequency {
            n_frequencies,
            include_input,
        } => frequency::n_outputs(n_frequencies, include_input),
    }
}

/// Add: encode the view direction of each kept sample into the columns of `output` from its offset on.
///
/// # Errors
/// Those of compilation and binding.
pub fn encode_directions(
    gpu: &Gpu,
    stage: &mut Stage,
    counts: &Counts,
    encoding: &DirectionEncoding,
    rays: &Buffer,
    kept_rays: &Buffer,
    output: Rows<'_>,
) -> Result<(), GpuError> {
    let (file, defines) = direction_shader(encoding);
    let defines = defines
        .set("encoding", file)
        .set("stride", output.stride)
        .set("offset", output.offset);
    let bindings = [
        ("counts", &counts.state),
        ("rays", rays),
        ("kept_rays", kept_rays),
        ("color_input", output.buffer),
    ];
    stage.run(
        gpu,
        "entry/direction",
        "direction",
        &defines,
        &bindings,
        counts.groups(gpu, Count::Kept, 64, 1),
    )?;
    Ok(())
}
