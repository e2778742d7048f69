//! Encodings of positions and of view directions.

pub mod frequency;
pub mod hash_grid;
pub mod spherical_harmonics;

pub use frequency::Frequency;
pub use hash_grid::HashGrid;

use crate::config::{DirectionEncoding, PositionEncoding};
use crate::gpu::{Buffer, Counts, Defines, DeviceProfile, GpuError, Stage};
use crate::network::{Batch, CellGrid, Rows};
use crate::step_state::StepState;

/// An encoding of positions.
#[derive(Debug, Clone)]
pub enum PositionEncoder {
    /// Features from trained tables.
    HashGrid(HashGrid),
    /// Sines and cosines.
    Frequency(Frequency),
}

/// The tables of an encoding without parameters: a grid without levels.
static NO_TABLES: HashGrid = HashGrid::empty();

impl PositionEncoder {
    /// Create an encoding for a device with `profile`. If `cells` is given, a frequency encoding encodes positions within these
    /// cells.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] if a level of a hash grid does not fit a binding.
    pub fn new(
        profile: &DeviceProfile,
        config: &PositionEncoding,
        cells: Option<&CellGrid>,
    ) -> Result<Self, GpuError> {
        Ok(match config {
            PositionEncoding::HashGrid(grid) => {
                Self::HashGrid(HashGrid::new(grid, profile.max_binding_bytes)?)
            }
            PositionEncoding::Frequency(config) => Self::Frequency(Frequency::new(config, cells)),
        })
    }

    /// Number of encoded values per position.
    #[must_use]
    pub fn n_outputs(&self) -> u32 {
        match self {
            Self::HashGrid(grid) => grid.n_outputs(),
            Self::Frequency(frequency) => frequency.n_outputs(),
        }
    }

    /// The trained tables, a grid without levels if there are none.
    #[must_use]
    pub fn tables(&self) -> &HashGrid {
        match self {
            Self::HashGrid(grid) => grid,
            Self::Frequency(_) => &NO_TABLES,
        }
    }

    /// Add: encode the positions in `samples` into `features`.
    pub fn forward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        tables: &[Buffer],
        samples: &Buffer,
        features: Rows<'_>,
    ) -> Result<(), GpuError> {
        match self {
            Self::HashGrid(grid) => grid.forward(stage, batch, tables, samples, features),
            Self::Frequency(frequency) => frequency.forward(stage, batch, samples, features),
        }
    }

    /// Add: `d_position = dL/dx`, for positions x in the box.
    pub fn d_position(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        tables: &[Buffer],
        samples: &Buffer,
        d_features: Rows<'_>,
        d_position: &Buffer,
    ) -> Result<(), GpuError> {
        match self {
            Self::HashGrid(grid) => {
                grid.d_position(stage, batch, tables, samples, d_features, d_position)
            }
            Self::Frequency(frequency) => {
                frequency.d_position(stage, batch, samples, d_features, d_position)
            }
        }
    }
}

/// Return the shader file of a direction encoding and its template values, if there is an encoding.
fn direction_shader(encoding: &DirectionEncoding) -> Option<(&'static str, Defines)> {
    match *encoding {
        DirectionEncoding::None => None,
        DirectionEncoding::SphericalHarmonics { degree } => {
            Some(spherical_harmonics::shader(degree))
        }
        DirectionEncoding::Frequency {
            n_frequencies,
            include_input,
        } => Some(frequency::shader(n_frequencies, include_input)),
    }
}

/// Number of encoded values per position.
#[must_use]
pub fn n_position_values(encoding: &PositionEncoding) -> u32 {
    match encoding {
        PositionEncoding::HashGrid(grid) => grid.n_levels * grid.n_features_per_level,
        PositionEncoding::Frequency(f) => frequency::n_outputs(f.n_frequencies, f.include_input),
    }
}

/// Number of encoded values per direction.
#[must_use]
pub fn n_direction_values(encoding: &DirectionEncoding) -> u32 {
    match *encoding {
        DirectionEncoding::None => 0,
        DirectionEncoding::SphericalHarmonics { degree } => spherical_harmonics::n_outputs(degree),
        DirectionEncoding::Frequency {
            n_frequencies,
            include_input,
        } => frequency::n_outputs(n_frequencies, include_input),
    }
}

/// Add: encode the view direction of each kept sample into the columns of `output`, from its offset on.
pub fn encode_directions(
    stage: &mut Stage,
    counts: &Counts,
    encoding: &DirectionEncoding,
    rays: &Buffer,
    kept_rays: &Buffer,
    output: Rows<'_>,
) -> Result<(), GpuError> {
    let Some((file, defines)) = direction_shader(encoding) else {
        return Ok(());
    };
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
        "entry/direction",
        "direction",
        &defines,
        &bindings,
        counts.groups(StepState::KEPT, 64, 1),
    )?;
    Ok(())
}
