//! Where each named tensor lies in the device's private layout.

use crate::field::Field;

/// What a buffer holds of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Value,
    Average,
    FirstMoment,
    SecondMoment,
}

impl Role {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Value => "",
            Self::Average => "ema.",
            Self::FirstMoment => "first_moment.",
            Self::SecondMoment => "second_moment.",
        }
    }

    /// Index in a buffer of this role of the value at `index` in a buffer of values, where moments alternate in runs of
    /// `lanes`.
    fn place(self, index: usize, lanes: usize) -> usize {
        let (run, lane) = (index / lanes, index % lanes);
        match self {
            Self::Value | Self::Average => index,
            Self::FirstMoment => 2 * run * lanes + lane,
            Self::SecondMoment => (2 * run + 1) * lanes + lane,
        }
    }
}

/// A weight matrix or a bias vector in the slab.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) name: String,
    offset: usize,
    stride: usize,
    rows: usize,
    columns: usize,
    bias: bool,
}

/// All matrices and biases of a field.
pub(super) fn matrices(field: &Field) -> Vec<Matrix> {
    let mut all = Vec::new();
    for (prefix, network) in [
        ("density_network", &field.density),
        ("color_network", &field.color),
    ] {
        for l in 0..network.n_layers() {
            let (columns, rows) = (network.dims()[l] as usize, network.dims()[l + 1] as usize);
            let (offset, stride) = (network.offset(l) as usize, network.width(l) as usize);
            all.push(Matrix {
                name: format!("{prefix}.{l}.weight"),
                offset,
                stride,
                rows,
                columns,
                bias: false,
            });
            if network.biases() {
                let name = format!("{prefix}.{l}.bias");
                all.push(Matrix {
                    name,
                    offset: offset + columns,
                    stride,
                    rows,
                    columns: 1,
                    bias: true,
                });
            }
        }
    }
    all
}

impl Matrix {
    pub(super) fn shape(&self) -> Vec<usize> {
        if self.bias {
            vec![self.rows]
        } else {
            vec![self.rows, self.columns]
        }
    }

    fn places(&self, role: Role) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows).flat_map(move |r| {
            (0..self.columns).map(move |c| role.place(self.offset + r * self.stride + c, 4))
        })
    }

    pub(super) fn extract(&self, slab: &[f32], role: Role) -> Vec<f32> {
        self.places(role).map(|i| slab[i]).collect()
    }

    pub(super) fn insert(&self, slab: &mut [f32], role: Role, values: &[f32]) {
        for (i, v) in self.places(role).zip(values) {
            slab[i] = *v;
        }
    }
}

/// One level of the hash table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) chunk: usize,
    pub(super) first_row: u32,
    pub(super) rows: usize,
    pub(super) features: usize,
}

/// All levels of a field's hash table.
pub(super) fn tables(field: &Field) -> Vec<Table> {
    let grid = field.tables();
    let features = grid.n_features() as usize;
    grid.chunks()
        .iter()
        .enumerate()
        .flat_map(|(chunk, c)| {
            c.first_rows
                .iter()
                .enumerate()
                .map(move |(index, &first_row)| {
                    let level = c.first_level + index;
                    let rows = grid.levels()[level].rows as usize;
                    Table {
                        name: format!("position_encoding.level_{level}"),
                        chunk,
                        first_row,
                        rows,
                        features,
                    }
                })
        })
        .collect()
}

impl Table {
    pub(super) fn shape(&self) -> Vec<usize> {
        vec![self.rows, self.features]
    }

    fn lanes(&self) -> usize {
        self.features.min(4)
    }

    /// First f32 and number of f32 in a buffer of `role`.
    pub(super) fn range(&self, role: Role) -> (u64, usize) {
        let per_value = if matches!(role, Role::Value | Role::Average) {
            1
        } else {
            2
        };
        (
            u64::from(self.first_row) * (self.features * per_value) as u64,
            self.rows * self.features * per_value,
        )
    }

    pub(super) fn extract(&self, values: &[f32], role: Role) -> Vec<f32> {
        (0..self.rows * self.features)
            .map(|i| values[role.place(i, self.lanes())])
            .collect()
    }

    pub(super) fn insert(&self, values: &mut [f32], role: Role, from: &[f32]) {
        for (i, v) in from.iter().enumerate() {
            values[role.place(i, self.lanes())] = *v;
        }
    }
}
