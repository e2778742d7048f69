//! Maps each named tensor to its position in the device buffers.

use crate::config::{Algorithm, ResolvedConfig};
use crate::field::Field;
use crate::gpu::Buffer;
use crate::train::Trainer;

/// The quantity that a buffer holds for each parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Value,
    Average,
    FirstMoment,
    SecondMoment,
    OuterFirstMoment,
    OuterSecondMoment,
}

/// The quantities that are saved for each parameter under `config`.
pub(super) fn roles(config: &ResolvedConfig) -> &'static [Quantity] {
    use Quantity::{
        Average, FirstMoment, OuterFirstMoment, OuterSecondMoment, SecondMoment, Value,
    };
    match &config.meta {
        None => &[Value, Average, FirstMoment, SecondMoment],
        Some(meta) => match meta.optimizer.algorithm {
            Algorithm::Adam => &[Value, OuterFirstMoment, OuterSecondMoment],
            Algorithm::Sgd => &[Value],
        },
    }
}

impl Quantity {
    /// Whether this quantity belongs to the outer optimiser.
    pub(super) fn is_outer(self) -> bool {
        matches!(self, Self::OuterFirstMoment | Self::OuterSecondMoment)
    }

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Value => "",
            Self::Average => "ema.",
            Self::FirstMoment => "first_moment.",
            Self::SecondMoment => "second_moment.",
            Self::OuterFirstMoment => "outer_first_moment.",
            Self::OuterSecondMoment => "outer_second_moment.",
        }
    }

    /// Return the buffer that holds this quantity for the slab of network weights.
    pub(super) fn of_slab(self, trainer: &Trainer) -> &Buffer {
        let dense = &trainer.dense;
        match self {
            Self::Value => &dense.weights.values,
            Self::Average => &dense.averages,
            Self::FirstMoment => &dense.moments[0],
            Self::SecondMoment => &dense.moments[1],
            Self::OuterFirstMoment | Self::OuterSecondMoment => self.outer(trainer, 0),
        }
    }

    /// Return the buffer that holds this quantity for the chunk of `table`; first and second moments share one buffer.
    pub(super) fn of_table<'a>(self, trainer: &'a Trainer, table: &Table) -> &'a Buffer {
        let group = &trainer.sparse[table.pass];
        match self {
            Self::Value => &group.values[table.chunk],
            Self::Average => &group.averages[table.chunk],
            Self::FirstMoment | Self::SecondMoment => &group.moments[table.chunk],
            Self::OuterFirstMoment | Self::OuterSecondMoment => {
                let before = trainer.sparse[..table.pass].iter().map(|s| s.values.len());
                self.outer(trainer, 1 + before.sum::<usize>() + table.chunk)
            }
        }
    }

    /// Return the outer optimiser's moments for parameter buffer `index`. Must not be called if it has no moments.
    fn outer(self, trainer: &Trainer, index: usize) -> &Buffer {
        let which = usize::from(self == Self::OuterSecondMoment);
        match &trainer.reptile {
            Some(reptile) => &reptile.outer[index].group.moments[which],
            None => &trainer.dense.moments[which],
        }
    }

    /// Return the index in a buffer of this quantity for the parameter at `index` in the buffer of values. First and second
    /// moments alternate in runs of `lanes`.
    fn place(self, index: usize, lanes: usize) -> usize {
        let (run, lane) = (index / lanes, index % lanes);
        match self {
            Self::Value | Self::Average | Self::OuterFirstMoment | Self::OuterSecondMoment => index,
            Self::FirstMoment => 2 * run * lanes + lane,
            Self::SecondMoment => (2 * run + 1) * lanes + lane,
        }
    }
}

/// A weight matrix or a bias vector in the slab.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) name: String,
    /// Index of the first f32 of each row.
    rows: Vec<usize>,
    columns: usize,
    bias: bool,
    /// Number of networks if they form a grid; their matrices are stored one after the other.
    copies: Option<usize>,
}

/// Return the prefix of the tensor names of pass `index` of `n`.
pub(crate) fn prefix(index: usize, n: usize) -> String {
    if n > 1 {
        format!("passes.{index}.")
    } else {
        String::new()
    }
}

/// Return all weight matrices and bias vectors of the fields of a method.
pub(super) fn matrices(fields: &[&Field]) -> Vec<Matrix> {
    let mut all = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let pass = prefix(index, fields.len());
        for (name, network) in field.networks() {
            let layout = network.layout();
            for l in 0..layout.n_layers() {
                let columns = layout.inputs(l) as usize;
                let row = |o| layout.offset(l) + layout.row_of(l, o) * layout.width(l);
                let n = layout.dims[l + 1];
                let rows = (0..layout.n_networks)
                    .flat_map(|copy| (0..n).map(move |o| (copy * layout.network_stride, o)))
                    .map(|(corner, o)| (corner + row(o)) as usize);
                let matrix = |part: &str, offset, columns, bias| Matrix {
                    name: format!("{pass}{name}.{l}.{part}"),
                    rows: rows.clone().map(|r| r + offset).collect(),
                    columns,
                    bias,
                    copies: layout.is_grid().then_some(layout.n_networks as usize),
                };
                all.push(matrix("weight", 0, columns, false));
                if layout.biases {
                    all.push(matrix("bias", columns, 1, true));
                }
            }
        }
    }
    all
}

impl Matrix {
    pub(super) fn shape(&self) -> Vec<usize> {
        let n = self.rows.len() / self.copies.unwrap_or(1);
        let of_one = if self.bias {
            vec![n]
        } else {
            vec![n, self.columns]
        };
        self.copies.into_iter().chain(of_one).collect()
    }

    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let columns = self.columns;
        self.rows.iter().flat_map(move |r| *r..r + columns)
    }

    pub(super) fn extract(&self, slab: &[f32]) -> Vec<f32> {
        self.places().map(|i| slab[i]).collect()
    }

    pub(super) fn insert(&self, slab: &mut [f32], values: &[f32]) {
        for (i, v) in self.places().zip(values) {
            slab[i] = *v;
        }
    }
}

/// The cell map of a grid of networks: the network of each cell.
#[derive(Debug, Clone)]
pub(super) struct CellMap {
    pub(super) name: String,
    pub(super) pass: usize,
    /// Cells along (z, y, x).
    pub(super) shape: Vec<usize>,
    pub(super) networks: usize,
}

/// Return the cell maps of all grids of networks in the fields of a method.
pub(super) fn maps(fields: &[&Field]) -> Vec<CellMap> {
    let map = |(pass, field): (usize, &&Field)| {
        let grid = field.cells.as_ref()?;
        Some(CellMap {
            name: format!("{}cells", prefix(pass, fields.len())),
            pass,
            shape: grid.resolution.iter().rev().map(|&n| n as usize).collect(),
            networks: grid.n_networks as usize,
        })
    };
    fields.iter().enumerate().filter_map(map).collect()
}

impl CellMap {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One level of a hash grid.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) pass: usize,
    pub(super) chunk: usize,
    pub(super) first_row: u32,
    pub(super) rows: usize,
    pub(super) features: usize,
}

/// Return all levels of the hash grids of the fields of a method.
pub(super) fn tables(fields: &[&Field]) -> Vec<Table> {
    let mut all = Vec::new();
    for (pass, field) in fields.iter().enumerate() {
        let grid = field.tables();
        for (chunk, c) in grid.chunks().iter().enumerate() {
            for (index, &first_row) in c.first_rows.iter().enumerate() {
                let level = c.first_level + index;
                let prefix = prefix(pass, fields.len());
                all.push(Table {
                    name: format!("{prefix}position_encoding.level_{level}"),
                    pass,
                    chunk,
                    first_row,
                    rows: grid.levels()[level].rows as usize,
                    features: grid.n_features() as usize,
                });
            }
        }
    }
    all
}

impl Table {
    pub(super) fn shape(&self) -> Vec<usize> {
        vec![self.rows, self.features]
    }

    fn lanes(&self) -> usize {
        self.features.min(4)
    }

    /// Return the index of the first f32, and the number of f32 values, in a buffer of `role`.
    pub(super) fn range(&self, role: Quantity) -> (u64, usize) {
        let per_value = if matches!(role, Quantity::FirstMoment | Quantity::SecondMoment) {
            2
        } else {
            1
        };
        (
            u64::from(self.first_row) * (self.features * per_value) as u64,
            self.rows * self.features * per_value,
        )
    }

    pub(super) fn extract(&self, values: &[f32], role: Quantity) -> Vec<f32> {
        (0..self.rows * self.features)
            .map(|i| values[role.place(i, self.lanes())])
            .collect()
    }

    pub(super) fn insert(&self, values: &mut [f32], role: Quantity, from: &[f32]) {
        for (i, v) in from.iter().enumerate() {
            values[role.place(i, self.lanes())] = *v;
        }
    }
}
