//! A grid of networks: the network of each position, the stable order of samples by network, and coordinates within cells.

/// A grid of cells over the box from `low` to `high`.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Number of cells along x, y and z.
    pub resolution: [usize; 3],
    /// Lowest corner.
    pub low: [f64; 3],
    /// Highest corner.
    pub high: [f64; 3],
    /// Network of each cell, in the order (z, y, x).
    pub networks: Vec<Option<usize>>,
}

impl Grid {
    /// Return `x` in cells from the lowest corner.
    fn scaled(&self, x: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|a| {
            (x[a] - self.low[a]) / (self.high[a] - self.low[a]) * self.resolution[a] as f64
        })
    }

    /// Return the cell along `axis` of a position in cells.
    fn cell(&self, axis: usize, x: f64) -> usize {
        (x.max(0.0) as usize).min(self.resolution[axis] - 1)
    }

    /// Return the number of networks.
    pub fn n_networks(&self) -> usize {
        self.networks.iter().flatten().count()
    }

    /// Return the network of `x`: none outside the grid or on its faces, nor in a cell without a network.
    pub fn network(&self, x: [f64; 3]) -> Option<usize> {
        let x = self.scaled(x);
        let inside = (0..3).all(|a| x[a] > 0.0 && x[a] < self.resolution[a] as f64);
        let [i, j, k] = std::array::from_fn(|a| self.cell(a, x[a]));
        let at = (k * self.resolution[1] + j) * self.resolution[0] + i;
        inside.then(|| self.networks[at]).flatten()
    }

    /// Return coordinates from -1 to 1 within the cell of `x`.
    pub fn local(&self, x: [f64; 3]) -> [f64; 3] {
        let x = self.scaled(x);
        std::array::from_fn(|a| 2.0 * (x[a] - self.cell(a, x[a]) as f64) - 1.0)
    }

    /// Return the derivative of [`Self::local`] along each axis.
    pub fn d_local(&self) -> [f64; 3] {
        std::array::from_fn(|a| 2.0 * self.resolution[a] as f64 / (self.high[a] - self.low[a]))
    }

    /// Return the samples of each network, in their original order.
    pub fn bins(&self, positions: &[[f64; 3]]) -> Vec<Vec<usize>> {
        let mut bins = vec![Vec::new(); self.n_networks()];
        for (i, x) in positions.iter().enumerate() {
            if let Some(network) = self.network(*x) {
                bins[network].push(i);
            }
        }
        bins
    }
}
