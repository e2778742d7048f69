//! Occupancy grid: nested cubes of `resolution^3` cells, f32 throughout.
//!
//! In unit coordinates u, cascade c covers the cube centred at 0.5 with side `2^c`, so cascade 0 is `[0, 1]^3` and a cell of
//! cascade c is `2^c / resolution` wide. Cell index: `((c * R + z) * R + y) * R + x`; its bit is bit `index % 32` of
//! word `index / 32`. A value is an optical thickness, `sigma * dt_min`.

/// Values, and the bits that are computed from them.
#[derive(Clone, Debug)]
pub struct OccupancyGrid {
    /// R: number of cells per axis.
    pub resolution: u32,
    /// C: number of nested cubes.
    pub cascades: u32,
    /// `[C][R][R][R]`. A negative value means that no camera sees the cell; the value and the unset bit then never change.
    pub values: Vec<f32>,
    /// `[ceil(C R^3 / 32)]`.
    pub bits: Vec<u32>,
}

impl OccupancyGrid {
    /// Return a grid with all values 0 and all bits unset.
    pub fn empty(resolution: u32, cascades: u32) -> Self {
        let n_cells = (cascades * resolution.pow(3)) as usize;
        Self {
            resolution,
            cascades,
            values: vec![0.0; n_cells],
            bits: vec![0; n_cells.div_ceil(32)],
        }
    }

    /// Return a grid with all bits set.
    pub fn full(resolution: u32, cascades: u32) -> Self {
        let mut grid = Self::empty(resolution, cascades);
        (0..grid.values.len()).for_each(|index| grid.set(index, true));
        grid
    }

    /// Return the index of a cell.
    pub fn index(&self, cascade: u32, cell: [u32; 3]) -> usize {
        let r = self.resolution;
        (((cascade * r + cell[2]) * r + cell[1]) * r + cell[0]) as usize
    }

    /// Return the bit of a cell.
    pub fn get(&self, index: usize) -> bool {
        self.bits[index / 32] >> (index % 32) & 1 == 1
    }

    /// Set the bit of a cell.
    pub fn set(&mut self, index: usize, occupied: bool) {
        let mask = 1 << (index % 32);
        if occupied {
            self.bits[index / 32] |= mask;
        } else {
            self.bits[index / 32] &= !mask;
        }
    }

    /// Return a position in cells of `cascade`: `((u - 0.5) / 2^c + 0.5) * R`.
    pub fn to_cells(&self, u: [f32; 3], cascade: u32) -> [f32; 3] {
        let shrink = 1.0 / (1_u32 << cascade) as f32;
        u.map(|u| ((u - 0.5) * shrink + 0.5) * self.resolution as f32)
    }

    /// Return the cell of `cascade` at `u`; positions outside are assigned to the nearest cell.
    pub fn cell(&self, u: [f32; 3], cascade: u32) -> [u32; 3] {
        let last = (self.resolution - 1) as f32;
        self.to_cells(u, cascade)
            .map(|q| q.floor().clamp(0.0, last) as u32)
    }

    /// Return whether the bit of the cell of `cascade` at `u` is set.
    pub fn is_occupied(&self, u: [f32; 3], cascade: u32) -> bool {
        self.get(self.index(cascade, self.cell(u, cascade)))
    }

    /// Return the finest cascade that covers `u`, at most C - 1: 0 while `max|u - 0.5| < 0.5`, 1 while `< 1`, 2 while `< 2`, …
    pub fn mip_from_position(&self, u: [f32; 3]) -> u32 {
        let reach = u
            .iter()
            .fold(0.0_f32, |reach, u| reach.max((u - 0.5).abs()));
        let mip = floor_log2(reach) + 2;
        mip.clamp(0, self.cascades as i32 - 1) as u32
    }

    /// Return the cascade whose cells suit a step, at most C - 1: 0 while `2 R dt < 1`, 1 while `< 2`, 2 while `< 4`, …
    pub fn mip_from_dt(&self, dt: f32) -> u32 {
        let mip = floor_log2(dt * (2 * self.resolution) as f32) + 1;
        mip.clamp(0, self.cascades as i32 - 1) as u32
    }

    /// Update every visited cell with `value = max(value * decay, fresh)`, and then all bits with
    /// `value > min(threshold, mean)`.
    ///
    /// `fresh[index]` is a new optical thickness, or `None` for a cell that this update does not visit, whose value stays.
    /// `mean` is that of cascade 0, with negative values counting as 0.
    pub fn update(&mut self, fresh: &[Option<f32>], decay: f32, threshold: f32) {
        for (value, fresh) in self.values.iter_mut().zip(fresh) {
            if let Some(fresh) = fresh
                && *value >= 0.0
            {
                *value = (*value * decay).max(*fresh);
            }
        }
        let cutoff = threshold.min(self.mean());
        for index in 0..self.values.len() {
            self.set(index, self.values[index] > cutoff);
        }
    }

    /// Return the mean of cascade 0, with negative values counting as 0.
    pub fn mean(&self) -> f32 {
        let finest = &self.values[..self.resolution.pow(3) as usize];
        let sum: f64 = finest.iter().map(|&v| f64::from(v.max(0.0))).sum();
        (sum / finest.len() as f64) as f32
    }

    /// Set the bit of every coarse cell that contains an occupied cell of the next finer cascade. R must be a multiple of 4.
    ///
    /// The finer cascade covers cells `R/4 .. 3R/4` of each axis, with two of its cells per coarse cell.
    pub fn pool_bits(&mut self) {
        let r = self.resolution;
        for fine in 0..self.cascades.saturating_sub(1) {
            for index in 0..r.pow(3) {
                let cell = [index % r, index / r % r, index / (r * r)];
                if self.get(self.index(fine, cell)) {
                    let coarse = self.index(fine + 1, cell.map(|i| i / 2 + r / 4));
                    self.set(coarse, true);
                }
            }
        }
    }
}

/// Return `floor(log2(x))` of a positive normal f32, from its exponent bits; -127 for 0.
fn floor_log2(x: f32) -> i32 {
    (x.to_bits() >> 23 & 0xff) as i32 - 127
}
