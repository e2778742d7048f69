//! The hash grid: features, table gradients and position gradients.

use std::sync::Arc;

use kiln::config::HashGridConfig;
use kiln::encoding::HashGrid;
use kiln::gpu::{Buffer, Gpu};
use kiln::network::{Batch, Rows};
use kiln::step_state::StepState;

use crate::reference::encoding::hash_grid::{self, levels_ngp};
use crate::reference::random::Pcg;
use crate::support::{Rig, assert_close, on_both_devices, on_device, samples, strided, to_f32};

struct Case {
    n_features: u32,
    grid_offset: f64,
    dense_levels: bool,
    /// Size of a binding, as a number of rows of the widest buffer; `None` for all rows in one chunk.
    rows_per_chunk: Option<u64>,
    chunks: usize,
}

/// Return a configuration with levels of 125 and 729 points, and then two hashed levels of 1024 rows.
fn config(case: &Case) -> HashGridConfig {
    HashGridConfig {
        n_levels: 4,
        n_features_per_level: case.n_features,
        log2_hashmap_size: 10,
        base_resolution: 4,
        per_level_scale: Some(1.9),
        finest_resolution: 0,
        dense_levels: case.dense_levels,
        grid_offset: case.grid_offset,
    }
}

/// Return positions at least a thousandth of a cell away from every face, where the position gradient is discontinuous, and
/// then positions on the faces of the box.
fn positions(grid: &hash_grid::HashGrid, n: usize, pcg: &mut Pcg) -> Vec<[f64; 3]> {
    let on_face = |x: &[f64; 3]| {
        let distance = |scale: f64, x: f64| {
            let q = x * scale + grid.grid_offset;
            (q - q.round()).abs()
        };
        grid.levels
            .iter()
            .any(|level| x.iter().any(|&x| distance(level.scale, x) < 1e-3))
    };
    let inside = std::iter::repeat_with(|| pcg.uniform3(0.0, 1.0))
        .filter(|x| !on_face(x))
        .take(n);
    let mut all: Vec<_> = inside.collect();
    all.extend([[0.0; 3], [1.0; 3], [1.0, 0.0, 0.5], [0.25, 1.0, 0.0]]);
    all
}

/// Return the table's rows, one buffer per chunk.
fn split(rig: &Rig, grid: &HashGrid, table: &[f64]) -> Vec<Buffer> {
    let mut rest = table;
    grid.chunks()
        .iter()
        .map(|chunk| {
            let (own, others) = rest.split_at((chunk.rows * grid.n_features()) as usize);
            rest = others;
            rig.floats(own)
        })
        .collect()
}

fn check(gpu: &Arc<Gpu>, case: &Case) {
    let mut pcg = Pcg::new(u64::from(case.n_features));
    let config = config(case);
    let binding = case
        .rows_per_chunk
        .map_or(1 << 27, |rows| rows * u64::from(case.n_features) * 8);
    let grid = HashGrid::new(&config, binding).unwrap();
    assert_eq!(grid.chunks().len(), case.chunks);
    let reference = hash_grid::HashGrid {
        levels: levels_ngp(4, 4, 1.9, 10, case.dense_levels, case.grid_offset),
        n_features_per_level: case.n_features as usize,
        grid_offset: case.grid_offset,
    };
    assert_eq!(grid.total_rows(), reference.total_rows() as u64);

    let n_inside = 301;
    let positions = positions(&reference, n_inside, &mut pcg);
    let n = positions.len();
    let n_outputs = reference.n_outputs();
    let table = pcg.uniform_vec(reference.total_rows() * case.n_features as usize, -1.0, 1.0);
    let rig = Rig::new(gpu, 0, 0, n);
    let counts = &rig.counts;
    let tables = split(&rig, &grid, &table);
    let samples = rig.buffer(&samples(&positions, 0.0));

    let stride = grid.n_outputs().next_multiple_of(4) + 4;
    let features = rig.buffer(&strided(&vec![vec![]; n], stride, 0, 9.0));
    let rows = Rows::of(&features, stride);
    rig.run(|stage| {
        grid.forward(
            stage,
            Batch::of(counts, StepState::KEPT),
            &tables,
            &samples,
            rows,
        )
    });
    let actual: Vec<f32> = rig.read(&features, n * stride as usize);
    let expected: Vec<f64> = positions
        .iter()
        .flat_map(|&x| {
            let mut row = reference.forward(x, &table);
            row.resize(stride as usize, 9.0); // other columns do not change
            row
        })
        .collect();
    assert_close("features", &actual, &expected, 1e-6);

    let d_out: Vec<Vec<f64>> = (0..n)
        .map(|_| pcg.uniform_vec(n_outputs, -1.0, 1.0))
        .collect();
    let mut d_table = vec![0.0; table.len()];
    let d_positions: Vec<[f64; 3]> = positions
        .iter()
        .zip(&d_out)
        .map(|(&x, d)| reference.backward(x, &table, d, &mut d_table))
        .collect();
    let d_features = rig.buffer(&strided(&d_out, stride, 0, f32::NAN));
    let rows = Rows::of(&d_features, stride);
    // Use a different scale for every level, so that using another level's scale fails the test.
    let scales = [
        2_f32.powi(20),
        2_f32.powi(22),
        2_f32.powi(19),
        2_f32.powi(21),
    ];
    let gradient_scales = rig.buffer(&scales);
    let d_tables = grid.allocate(gpu, "gradients", 4).unwrap();
    for _ in 0..2 {
        rig.run(|stage| {
            grid.backward(
                stage,
                Batch::of(counts, StepState::KEPT),
                &samples,
                rows,
                &gradient_scales,
                &d_tables,
            )
        });
    }
    let fixed: Vec<i32> = grid
        .chunks()
        .iter()
        .zip(&d_tables)
        .flat_map(|(chunk, buffer)| {
            rig.read::<i32>(buffer, (chunk.rows * case.n_features) as usize)
        })
        .collect();
    let scale_of_row = grid
        .levels()
        .iter()
        .zip(scales)
        .flat_map(|(l, s)| vec![s; l.rows as usize]);
    let scale_of_feature = scale_of_row.flat_map(|s| vec![s; case.n_features as usize]);
    let actual: Vec<f32> = fixed
        .iter()
        .zip(scale_of_feature)
        .map(|(&i, s)| (f64::from(i) / f64::from(s)) as f32)
        .collect();
    let twice: Vec<f64> = d_table.iter().map(|g| 2.0 * g).collect();
    assert_close(
        "table gradients, accumulated over two calls",
        &actual,
        &twice,
        1e-5,
    );

    let d_position = rig.buffer(&vec![7.0_f32; 4 * n]);
    rig.run(|stage| {
        grid.d_position(
            stage,
            Batch::of(counts, StepState::KEPT),
            &tables,
            &samples,
            rows,
            &d_position,
        )
    });
    let actual: Vec<f32> = rig.read(&d_position, 4 * n_inside);
    let expected: Vec<f64> = d_positions[..n_inside]
        .iter()
        .flat_map(|d| [d[0], d[1], d[2], 0.0])
        .collect();
    assert_close("d_position", &actual, &expected, 1e-5);
}

#[test]
fn one_feature_a_level() {
    on_device(|gpu| {
        check(
            gpu,
            &Case {
                n_features: 1,
                grid_offset: 0.5,
                dense_levels: true,
                rows_per_chunk: None,
                chunks: 1,
            },
        );
    });
}

#[test]
fn two_features_a_level_in_three_chunks_without_offset() {
    on_device(|gpu| {
        let rows_per_chunk = Some(1100);
        check(
            gpu,
            &Case {
                n_features: 2,
                grid_offset: 0.0,
                dense_levels: true,
                rows_per_chunk,
                chunks: 3,
            },
        );
    });
}

#[test]
fn four_features_a_level() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                n_features: 4,
                grid_offset: 0.5,
                dense_levels: true,
                rows_per_chunk: None,
                chunks: 1,
            },
        );
    });
}

#[test]
fn eight_features_a_level_in_two_chunks_all_hashed() {
    on_device(|gpu| {
        let rows_per_chunk = Some(2048);
        check(
            gpu,
            &Case {
                n_features: 8,
                grid_offset: 0.0,
                dense_levels: false,
                rows_per_chunk,
                chunks: 2,
            },
        );
    });
}

#[test]
fn gradients_of_one_step_do_not_depend_on_the_order_of_execution() {
    on_device(|gpu| {
        let case = Case {
            n_features: 4,
            grid_offset: 0.5,
            dense_levels: true,
            rows_per_chunk: None,
            chunks: 1,
        };
        let grid = HashGrid::new(&config(&case), 1 << 27).unwrap();
        let mut pcg = Pcg::new(7);
        let positions: Vec<_> = (0..4000).map(|_| pcg.uniform3(0.0, 1.0)).collect();
        let d_out = to_f32(&pcg.uniform_vec(4000 * 20, -1.0, 1.0));
        let run = |order: &[usize]| {
            let rig = Rig::new(gpu, 0, 0, 4000);
            let moved: Vec<_> = order.iter().map(|&i| positions[i]).collect();
            let d: Vec<f32> = order
                .iter()
                .flat_map(|&i| d_out[20 * i..20 * (i + 1)].to_vec())
                .collect();
            let (samples, d) = (rig.buffer(&samples(&moved, 0.0)), rig.buffer(&d));
            let scales = rig.buffer(&[2_f32.powi(20); 4]);
            let tables = grid.allocate(gpu, "gradients", 4).unwrap();
            let rows = Rows::of(&d, 20);
            rig.run(|stage| {
                grid.backward(
                    stage,
                    Batch::of(&rig.counts, StepState::KEPT),
                    &samples,
                    rows,
                    &scales,
                    &tables,
                )
            });
            rig.read::<i32>(&tables[0], (grid.total_rows() * 4) as usize)
        };
        let forwards: Vec<usize> = (0..4000).collect();
        let backwards: Vec<usize> = (0..4000).rev().collect();
        let first = run(&forwards);
        assert!(first.iter().any(|&g| g != 0));
        assert!(first == run(&backwards));
    });
}

#[test]
fn a_level_larger_than_a_binding_is_refused() {
    let case = Case {
        n_features: 2,
        grid_offset: 0.0,
        dense_levels: true,
        rows_per_chunk: None,
        chunks: 1,
    };
    let error = HashGrid::new(&config(&case), 1000 * 16)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("hash grid level 2") && error.contains("log2_hashmap_size"),
        "{error}"
    );
}
