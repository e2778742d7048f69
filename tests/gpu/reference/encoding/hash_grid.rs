//! Multiresolution hash grid (Müller et al. 2022, section 3), trilinear.
//!
//! Level l, position x in `[0, 1]^3`: `q = x * scale + grid_offset`, cell `= floor(q)`, `w = q - floor(q)`. Corner k
//! (bit 0 = x, bit 1 = y, bit 2 = z) has weight `prod_axis (bit ? w : 1 - w)` and reads one row of F features:
//!
//! - dense: `(c.x + c.y * resolution + c.z * resolution^2) mod rows`
//! - hashed: `(c.x ^ c.y * 2654435761 ^ c.z * 805459861) mod rows`, in u32, wrapping
//!
//! Table: `[total_rows][F]`, level l from row `first_row`. Features: `[levels][F]`, level-major.

/// One resolution of the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Number of cells per unit length; exactly representable in f32.
    pub scale: f64,
    /// Number of grid points per axis: the strides of the dense index.
    pub resolution: u32,
    /// Number of rows of this level.
    pub rows: u32,
    /// First row of the level in the whole table.
    pub first_row: u32,
    /// Whether there is one row per grid point, instead of a hash.
    pub dense: bool,
}

/// A hash grid without its table.
#[derive(Clone, Debug)]
pub struct HashGrid {
    /// Levels, from coarse to fine.
    pub levels: Vec<Level>,
    /// F: number of features per level.
    pub n_features_per_level: usize,
    /// 0.5 for Instant-NGP's staggered levels, 0 for grids whose points are at multiples of the cell size.
    pub grid_offset: f64,
}

/// Rows and interpolation weights of one position on one level.
struct Cell {
    /// Row in the whole table of each corner.
    rows: [usize; 8],
    /// Fraction within the cell, per axis.
    w: [f64; 3],
}

/// Return the levels of Instant-NGP or, if `grid_offset` is 0, plain levels with points at multiples of the cell size.
///
/// | `grid_offset` | `scale_l` | `resolution_l` |
/// |---|---|---|
/// | 0.5 | `base * b^l - 1` | `ceil(scale_l) + 1` |
/// | 0 | `floor(base * b^l)` | `scale_l + 1` |
///
/// `b^l` is an f64 `pow`. With an offset, `scale_l` is rounded to f32 *before* the `ceil`, so that a `b` that was computed
/// as `2.0000000000000004` still gives 16, 32, 64, … points.
/// Rows: `resolution^3` rounded up to a multiple of 8 if `dense_levels` and `resolution^3` is at most
/// `2^log2_hashmap_size`; else `2^log2_hashmap_size`.
pub fn levels_ngp(
    n_levels: u32,
    base_resolution: u32,
    per_level_scale: f64,
    log2_hashmap_size: u32,
    dense_levels: bool,
    grid_offset: f64,
) -> Vec<Level> {
    let hashmap_size = 1_u32 << log2_hashmap_size;
    let mut first_row = 0;
    (0..n_levels)
        .map(|l| {
            let grown = f64::from(base_resolution) * per_level_scale.powf(f64::from(l));
            let (scale, resolution) = if grid_offset == 0.0 {
                (grown.floor(), grown.floor() as u32 + 1)
            } else {
                let scale = f64::from((grown - 1.0) as f32);
                (scale, scale.ceil() as u32 + 1)
            };
            let points = u64::from(resolution).pow(3);
            let dense = dense_levels && points <= u64::from(hashmap_size);
            let rows = if dense {
                (points as u32).next_multiple_of(8)
            } else {
                hashmap_size
            };
            let level = Level {
                scale,
                resolution,
                rows,
                first_row,
                dense,
            };
            first_row += rows;
            level
        })
        .collect()
}

impl Level {
    /// Return the row, within this level, of grid point `c`.
    pub fn row(&self, c: [u32; 3]) -> u32 {
        let index = if self.dense {
            c[0].wrapping_add(c[1].wrapping_mul(self.resolution))
                .wrapping_add(
                    c[2].wrapping_mul(self.resolution)
                        .wrapping_mul(self.resolution),
                )
        } else {
            c[0] ^ c[1].wrapping_mul(2_654_435_761) ^ c[2].wrapping_mul(805_459_861)
        };
        index % self.rows
    }

    /// Return the cell that contains `x`. `q` is computed in f32, as in the kernel, because it determines the cell.
    fn cell(&self, x: [f64; 3], grid_offset: f64) -> Cell {
        let q: [f32; 3] = x.map(|x| x as f32 * self.scale as f32 + grid_offset as f32);
        let base = q.map(|q| q.floor().max(0.0) as u32);
        let w = q.map(|q| f64::from(q) - f64::from(q.floor()));
        let rows = std::array::from_fn(|corner| {
            let point = std::array::from_fn(|axis| base[axis].wrapping_add(bit(corner, axis)));
            (self.first_row + self.row(point)) as usize
        });
        Cell { rows, w }
    }
}

impl HashGrid {
    /// Return the number of rows of the whole table.
    pub fn total_rows(&self) -> usize {
        self.levels.iter().map(|level| level.rows as usize).sum()
    }

    /// Return the number of features per position.
    pub fn n_outputs(&self) -> usize {
        self.levels.len() * self.n_features_per_level
    }

    /// Return `out[l][f] = sum_corner weight * table[row][f]`.
    pub fn forward(&self, x: [f64; 3], table: &[f64]) -> Vec<f64> {
        let n_features = self.n_features_per_level;
        let mut out = vec![0.0; self.n_outputs()];
        for (level, out) in self.levels.iter().zip(out.chunks_exact_mut(n_features)) {
            let cell = level.cell(x, self.grid_offset);
            for (corner, &row) in cell.rows.iter().enumerate() {
                let weight: f64 = (0..3).map(|axis| factor(corner, axis, cell.w)).product();
                for (f, out) in out.iter_mut().enumerate() {
                    *out += weight * table[row * n_features + f];
                }
            }
        }
        out
    }

    /// Accumulate `d_table[row][f] += weight * d_out[l][f]`, and return `d_position`.
    ///
    /// Within a cell, the derivative of a weight along an axis is the product of the other two factors, times `+scale` or
    /// `-scale`. On a cell face, the derivative is that of the cell that `floor` selects.
    pub fn backward(
        &self,
        x: [f64; 3],
        table: &[f64],
        d_out: &[f64],
        d_table: &mut [f64],
    ) -> [f64; 3] {
        let n_features = self.n_features_per_level;
        let mut d_position = [0.0; 3];
        for (level, d_out) in self.levels.iter().zip(d_out.chunks_exact(n_features)) {
            let cell = level.cell(x, self.grid_offset);
            for (corner, &row) in cell.rows.iter().enumerate() {
                let factors: [f64; 3] = std::array::from_fn(|axis| factor(corner, axis, cell.w));
                let mut d_weight = 0.0;
                for (f, d_out) in d_out.iter().enumerate() {
                    d_table[row * n_features + f] += factors[0] * factors[1] * factors[2] * d_out;
                    d_weight += table[row * n_features + f] * d_out;
                }
                for axis in 0..3 {
                    let others = factors[(axis + 1) % 3] * factors[(axis + 2) % 3];
                    let sign = if bit(corner, axis) == 1 { 1.0 } else { -1.0 };
                    d_position[axis] += sign * level.scale * others * d_weight;
                }
            }
        }
        d_position
    }
}

/// Return 1 if `corner` is the upper one along `axis`, else 0.
fn bit(corner: usize, axis: usize) -> u32 {
    (corner >> axis & 1) as u32
}

/// Return the factor of `axis` in the weight of `corner`.
fn factor(corner: usize, axis: usize, w: [f64; 3]) -> f64 {
    if bit(corner, axis) == 1 {
        w[axis]
    } else {
        1.0 - w[axis]
    }
}
