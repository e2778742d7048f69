//! Frequency encoding: `shaders/encoding/frequency.wgsl` (Mildenhall et al. 2020, eq. 4, without the factor π).

use crate::config::{FrequencyConfig, resolved};
use crate::gpu::{Binding, Buffer, Defines, GpuError, Stage};
use crate::network::{Batch, CellGrid, Rows};

/// Number of encoded values per 3-vector: 6 per frequency, and 3 for the vector itself if `include_input`.
#[must_use]
pub fn n_outputs(n_frequencies: u32, include_input: bool) -> u32 {
    6 * n_frequencies + if include_input { 3 } else { 0 }
}

/// Return `n` frequencies from 1 to 2^`max_log2`, evenly spaced in the exponent.
fn frequencies(n: u32, max_log2: f64) -> Vec<f32> {
    let spacing = max_log2 / f64::from(n.max(2) - 1);
    (0..n)
        .map(|j| (f64::from(j) * spacing).exp2() as f32)
        .collect()
}

/// Return the shader file and its template values, for frequencies that are powers of two.
#[must_use]
pub fn shader(n_frequencies: u32, include_input: bool) -> (&'static str, Defines) {
    let powers = frequencies(n_frequencies, f64::from(n_frequencies.max(1) - 1));
    ("encoding/frequency", defines(&powers, include_input))
}

fn defines(frequencies: &[f32], include_input: bool) -> Defines {
    let text: Vec<String> = frequencies.iter().map(|f| format!("{f:?}")).collect();
    let n = u32::try_from(frequencies.len()).unwrap_or(0);
    Defines::new()
        .set("frequencies", text)
        .set("include_input", include_input)
        .set("encoded", n_outputs(n, include_input))
}

/// The frequency encoding of positions, which has no trained parameters.
#[derive(Debug, Clone)]
pub struct Frequency {
    frequencies: Vec<f32>,
    include_input: bool,
    scale: f32,
    offset: [f32; 3],
    /// If given, positions are encoded relative to their cell of this grid, from -1 to 1.
    cells: Option<CellGrid>,
}

impl Frequency {
    /// Create the encoding of a resolved configuration, for world coordinates or for coordinates within the cells of a grid.
    #[must_use]
    pub fn new(config: &FrequencyConfig, cells: Option<&CellGrid>) -> Self {
        let n = config.n_frequencies;
        let highest = config.max_log2.unwrap_or(f64::from(n.max(1) - 1));
        Self {
            frequencies: frequencies(n, highest),
            include_input: config.include_input,
            scale: resolved(config.scale),
            offset: resolved(config.offset),
            cells: cells.cloned(),
        }
    }

    /// Number of encoded values per position.
    #[must_use]
    pub fn n_outputs(&self) -> u32 {
        n_outputs(
            u32::try_from(self.frequencies.len()).unwrap_or(0),
            self.include_input,
        )
    }

    fn run(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        pass: &str,
        stride: u32,
        bindings: &[Binding<'_>],
    ) -> Result<(), GpuError> {
        let of_cells = self.cells.as_ref().map(CellGrid::defines);
        let defines = defines(&self.frequencies, self.include_input)
            .merge(of_cells.unwrap_or_default())
            .set("local", self.cells.is_some())
            .set("pass", pass)
            .set("count", batch.count.field())
            .set("stride", stride)
            .set_f32("scale", self.scale)
            .set_f32s("offset", self.offset);
        let mut bindings = bindings.to_vec();
        bindings.push(("counts", &batch.counts.state));
        let groups = batch.counts.groups(batch.count, 64, 1);
        stage.run("entry/position", pass, &defines, &bindings, groups)?;
        Ok(())
    }

    /// Add: encode the positions in `samples` into `features`.
    pub fn forward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        samples: &Buffer,
        features: Rows<'_>,
    ) -> Result<(), GpuError> {
        let bindings = [("samples", samples), ("features", features.buffer)];
        self.run(stage, batch, "forward", features.stride, &bindings)
    }

    /// Add: `d_position = dL/dx`, for positions x in the box.
    pub fn d_position(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        samples: &Buffer,
        d_features: Rows<'_>,
        d_position: &Buffer,
    ) -> Result<(), GpuError> {
        let bindings = [
            ("samples", samples),
            ("d_features", d_features.buffer),
            ("d_position", d_position),
        ];
        self.run(stage, batch, "position", d_features.stride, &bindings)
    }
}
