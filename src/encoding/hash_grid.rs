//! Multiresolution hash grid: `shaders/encoding/hash_grid.wgsl` (Müller et al. 2022, section 3).
//!
//! The levels of the table are stored in sequence, in chunks of whole levels that fit the device's binding limit. Gradients are
//! i32 fixed point with a power-of-two scale per level, which adapts to the largest sum of the previous step.

use bytemuck::{Pod, Zeroable};

use crate::config::{HashGridConfig, resolved};
use crate::gpu::{Allocator, Binding, Buffer, Defines, GpuError, Stage, WithAdvice};
use crate::network::{Batch, Rows};

/// A level of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Grid units per side of the box.
    pub scale: f32,
    /// Corners per axis.
    pub resolution: u32,
    /// Number of rows in the table.
    pub rows: u32,
    /// Whether a corner's row is its index instead of its hash.
    pub dense: bool,
}

/// Mirror of `Level` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct GpuLevel {
    pub scale: f32,
    pub resolution: u32,
    pub first_row: u32,
    pub rows: u32,
    pub dense: u32,
    pub pad: [u32; 3],
}

/// Advice for tables that are too large.
const SMALLER: &str = "lower `log2_hashmap_size` with --set";

/// Consecutive levels that share a buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Index of the first level.
    pub first_level: usize,
    /// First row of each level within the chunk.
    pub first_rows: Vec<u32>,
    /// Number of rows.
    pub rows: u32,
}

/// A hash grid: its levels, the chunks they are stored in, and its kernels.
#[derive(Debug, Clone)]
pub struct HashGrid {
    levels: Vec<Level>,
    chunks: Vec<Chunk>,
    n_features: u32,
    grid_offset: f64,
}

/// Compute the levels of a grid. With `grid_offset` 0.5 level l has scale `base b^l - 1`, as in tiny-cuda-nn; with 0 it has
/// `floor(base b^l)` cells.
#[must_use]
pub fn levels(config: &HashGridConfig) -> Vec<Level> {
    let growth = resolved(config.per_level_scale);
    let limit = 1_u64 << config.log2_hashmap_size;
    (0..config.n_levels)
        .map(|l| {
            let cells =
                f64::from(config.base_resolution) * growth.powi(i32::try_from(l).unwrap_or(0));
            let scale = if config.grid_offset > 0.0 {
                (cells - 1.0) as f32
            } else {
                (cells + 1e-9).floor() as f32
            };
            let resolution = scale.ceil() as u32 + 1;
            let corners = u64::from(resolution).saturating_pow(3);
            let dense = config.dense_levels && corners <= limit;
            let rows = if dense {
                corners.next_multiple_of(8)
            } else {
                limit
            };
            Level {
                scale,
                resolution,
                rows: u32::try_from(rows).unwrap_or(u32::MAX),
                dense,
            }
        })
        .collect()
}

impl HashGrid {
    /// Create a grid without levels: the tables of an encoding without parameters.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            levels: Vec::new(),
            chunks: Vec::new(),
            n_features: 0,
            grid_offset: 0.0,
        }
    }

    /// Create the grid for a device that binds at most `max_binding_bytes`.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] if a single level does not fit.
    pub fn new(config: &HashGridConfig, max_binding_bytes: u64) -> Result<Self, GpuError> {
        let levels = levels(config);
        // The moments are the largest buffers: two values per feature.
        let row_bytes = u64::from(config.n_features_per_level) * 8;
        let limit = max_binding_bytes / row_bytes;
        let mut chunks: Vec<Chunk> = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            if u64::from(level.rows) > limit {
                return Err(GpuError::TooLarge {
                    label: format!("hash grid level {index}"),
                    bytes: u64::from(level.rows) * row_bytes,
                    limit: max_binding_bytes,
                    advice: SMALLER.to_owned(),
                });
            }
            match chunks.last_mut() {
                Some(chunk) if u64::from(chunk.rows + level.rows) <= limit => {
                    chunk.first_rows.push(chunk.rows);
                    chunk.rows += level.rows;
                }
                _ => chunks.push(Chunk {
                    first_level: index,
                    first_rows: vec![0],
                    rows: level.rows,
                }),
            }
        }
        Ok(Self {
            levels,
            chunks,
            n_features: config.n_features_per_level,
            grid_offset: config.grid_offset,
        })
    }

    /// The levels, coarsest first.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The chunks of levels.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Number of features per level.
    #[must_use]
    pub fn n_features(&self) -> u32 {
        self.n_features
    }

    /// Number of encoded values per position.
    #[must_use]
    pub fn n_outputs(&self) -> u32 {
        u32::try_from(self.levels.len()).unwrap_or(0) * self.n_features
    }

    /// Number of rows of all levels.
    #[must_use]
    pub fn total_rows(&self) -> u64 {
        self.levels.iter().map(|l| u64::from(l.rows)).sum()
    }

    /// Allocate zeroed buffers, one per chunk, of `bytes_per_feature` bytes for each feature of each row.
    pub fn allocate(
        &self,
        allocator: &dyn Allocator,
        label: &str,
        bytes_per_feature: u64,
    ) -> Result<Vec<Buffer>, GpuError> {
        let advised = WithAdvice::new(allocator, SMALLER);
        self.chunks
            .iter()
            .map(|c| {
                advised.buffer(
                    label,
                    u64::from(c.rows) * u64::from(self.n_features) * bytes_per_feature,
                )
            })
            .collect()
    }

    /// Template values of the shaders for a chunk.
    #[must_use]
    pub fn defines(&self, chunk: &Chunk) -> Defines {
        let lanes = self.n_features.min(4);
        let count = chunk.first_rows.len();
        let (row_type, int_type) = match lanes {
            1 => ("f32".to_owned(), "i32".to_owned()),
            n => (format!("vec{n}<f32>"), format!("vec{n}<i32>")),
        };
        let components: &[&str] = if lanes == 1 {
            &[""]
        } else {
            &[".x", ".y", ".z", ".w"]
        };
        let components = &components[..lanes as usize];
        let sum: Vec<String> = components.iter().map(|c| format!("v{c}")).collect();
        Defines::new()
            .set("n_levels", count)
            .set("first_level", chunk.first_level)
            .set("first_rows", &chunk.first_rows)
            .set("n_rows", chunk.rows)
            .set_f32("grid_offset", self.grid_offset as f32)
            .set("n_features", self.n_features)
            .set("lanes", lanes)
            .set("parts", self.n_features.div_ceil(4))
            .set("component", components)
            .set("sum_of_lanes", sum.join(" + "))
            .set("row_type", row_type)
            .set("int_type", int_type)
    }

    fn gpu_levels(&self, chunk: &Chunk) -> Vec<GpuLevel> {
        let levels = &self.levels[chunk.first_level..];
        let gpu_level = |(level, &first_row): (&Level, &u32)| GpuLevel {
            scale: level.scale,
            resolution: level.resolution,
            first_row,
            rows: level.rows,
            dense: u32::from(level.dense),
            pad: [0; 3],
        };
        levels
            .iter()
            .zip(&chunk.first_rows)
            .map(gpu_level)
            .collect()
    }

    /// Add: run `pass` over the samples of `batch` for every chunk; `bindings` maps a chunk's index to its bindings. With
    /// `per_level`, each level is a layer of workgroups in z; otherwise each thread loops over all levels.
    fn run<'a>(
        &self,
        stage: &mut Stage,
        batch: Batch<'a>,
        pass: &str,
        stride: u32,
        per_level: bool,
        bindings: impl Fn(usize) -> Vec<Binding<'a>>,
    ) -> Result<(), GpuError> {
        for (index, chunk) in self.chunks.iter().enumerate() {
            let defines = self
                .defines(chunk)
                .set("pass", pass)
                .set("count", batch.count.field())
                .set("stride", stride);
            let levels = stage
                .gpu()
                .uniform_slice("hash grid levels", &self.gpu_levels(chunk))?;
            let mut bindings = bindings(index);
            bindings.extend([("counts", &batch.counts.state), ("levels", &levels)]);
            let depth = if per_level { n_levels(chunk) } else { 1 };
            let groups = batch.counts.groups(batch.count, 64, depth);
            stage.run("encoding/hash_grid", pass, &defines, &bindings, groups)?;
        }
        Ok(())
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
        self.run(stage, batch, "forward", features.stride, true, |chunk| {
            vec![
                ("samples", samples),
                ("table", &tables[chunk]),
                ("features", features.buffer),
            ]
        })
    }

    /// Add: `d_tables += dL/dtable`, in fixed point.
    pub fn backward(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        samples: &Buffer,
        d_features: Rows<'_>,
        gradient_scales: &Buffer,
        d_tables: &[Buffer],
    ) -> Result<(), GpuError> {
        self.run(stage, batch, "backward", d_features.stride, true, |chunk| {
            vec![
                ("samples", samples),
                ("d_features", d_features.buffer),
                ("gradient_scales", gradient_scales),
                ("d_table", &d_tables[chunk]),
            ]
        })
    }

    /// Add: `d_position = dL/dx`.
    pub fn d_position(
        &self,
        stage: &mut Stage,
        batch: Batch<'_>,
        tables: &[Buffer],
        samples: &Buffer,
        d_features: Rows<'_>,
        d_position: &Buffer,
    ) -> Result<(), GpuError> {
        self.run(
            stage,
            batch,
            "position",
            d_features.stride,
            false,
            |chunk| {
                vec![
                    ("samples", samples),
                    ("table", &tables[chunk]),
                    ("d_features", d_features.buffer),
                    ("d_position", d_position),
                ]
            },
        )
    }
}

fn n_levels(chunk: &Chunk) -> u32 {
    u32::try_from(chunk.first_rows.len()).unwrap_or(0)
}
