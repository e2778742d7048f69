//! Adam and gradient descent on all kinds of parameter groups, moving averages, and the learning rate and gradient scales of a
//! step.

use std::sync::Arc;

use bytemuck::Zeroable;
use kiln::config::{Algorithm, Config, HashGridConfig, Optimizer};
use kiln::encoding::HashGrid;
use kiln::gpu::{Gpu, Groups};
use kiln::network::LayerMatrix;
use kiln::optimizer::{CellGroup, CellUpdate, DenseGroup, SparseGroup, schedule_defines};
use kiln::step_state::StepState;

use crate::reference::optimizer::{Adam, LazyEma, LearningRate, Moments, ema_update};
use crate::reference::random::Pcg;
use crate::support::{Rig, assert_close, on_device, to_f32, to_f64};

fn config(ema_decay: f32) -> Optimizer {
    let preset = Config::preset("ngp", &[]).unwrap().optimizer;
    Optimizer {
        l2_reg: 1e-3,
        epsilon: 1e-8,
        network_rate: Some(0.5),
        ema_decay,
        ..preset
    }
}

/// Return the value of an f32 setting, which is also the constant in the kernel.
fn exact(v: f32) -> f64 {
    f64::from(v)
}

fn adam(config: &Optimizer, l2_reg: f32) -> Adam {
    Adam {
        beta1: exact(config.beta1),
        beta2: exact(config.beta2),
        epsilon: exact(config.epsilon),
        l2_reg: exact(l2_reg),
    }
}

const RATE: f32 = 0.01;

fn state(step: u32) -> StepState {
    StepState {
        step,
        learning_rate: RATE,
        ..StepState::zeroed()
    }
}

#[test]
fn dense_group_follows_adam_and_its_average() {
    const N: usize = 100;
    on_device(|gpu| {
        let mut pcg = Pcg::new(31);
        let config = config(0.9);
        let rig = Rig::new(gpu, 0, 0, 0);
        let group = DenseGroup::new(gpu, "test", N as u32, 0.9).unwrap();
        let mut weights = pcg.uniform_vec(N, -1.0, 1.0);
        let (mut ema, mut moments) = (weights.clone(), Moments::zeros(N, 1));
        let start = weights.clone();
        gpu.write(&group.weights.values, 0, &to_f32(&weights));
        gpu.write(&group.averages, 0, &to_f32(&weights));
        for step in 0..6 {
            let gradients = pcg.uniform_vec(N, -0.1, 0.1);
            gpu.write(&group.gradients, 0, &to_f32(&gradients));
            rig.set(state(step));
            let all = [0, N as u32];
            rig.run(|stage| group.update(stage, &rig.counts, &config, all));
            adam(&config, config.l2_reg).update(
                exact(RATE) * 0.5,
                &mut weights,
                &gradients,
                &mut moments,
            );
            ema_update(exact(config.ema_decay), &mut ema, &weights);
        }
        // Compare changes, so that the magnitude of the weights does not hide an error of the step.
        let moved = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&start).map(|(v, s)| v - s).collect()
        };
        let values = to_f64(&rig.read::<f32>(&group.weights.values, N));
        assert_close("weights", &to_f32(&moved(&values)), &moved(&weights), 1e-4);
        let averages = to_f64(&rig.read::<f32>(&group.averages, N));
        assert_close("averages", &to_f32(&moved(&averages)), &moved(&ema), 1e-4);
        for (name, buffer, expected) in [
            ("first moments", &group.moments[0], &moments.m),
            ("second moments", &group.moments[1], &moments.v),
        ] {
            assert_close(name, &rig.read(buffer, N), expected, 1e-5);
        }
        assert!(
            rig.read::<f32>(&group.gradients, N)
                .iter()
                .all(|&g| g == 0.0),
            "gradients are cleared"
        );
    });
}

#[test]
fn gradient_descent_takes_steps_of_the_gradient() {
    const N: usize = 64;
    on_device(|gpu| {
        let mut pcg = Pcg::new(32);
        let config = Optimizer {
            algorithm: Algorithm::Sgd,
            ..config(0.0)
        };
        let rig = Rig::new(gpu, 0, 0, 0);
        let group = DenseGroup::new(gpu, "test", N as u32, 0.0).unwrap();
        let mut weights = pcg.uniform_vec(N, -1.0, 1.0);
        gpu.write(&group.weights.values, 0, &to_f32(&weights));
        for step in 0..3 {
            let gradients = pcg.uniform_vec(N, -0.1, 0.1);
            gpu.write(&group.gradients, 0, &to_f32(&gradients));
            rig.set(state(step));
            rig.run(|stage| group.update(stage, &rig.counts, &config, [0, N as u32]));
            for (w, g) in weights.iter_mut().zip(&gradients) {
                *w -= exact(RATE) * 0.5 * (g + exact(config.l2_reg) * *w);
            }
        }
        let found = rig.read::<f32>(&group.weights.values, N);
        assert_close("weights", &found, &weights, 1e-6);
        let used = rig.read::<f32>(&group.gradients, N);
        assert!(used.iter().all(|&g| g == 0.0), "gradients are cleared");
    });
}

#[test]
fn gradient_descent_updates_rows_and_networks_of_a_grid() {
    on_device(|gpu| {
        let config = Optimizer {
            algorithm: Algorithm::Sgd,
            l2_reg: 0.0,
            ..config(0.0)
        };
        let grid = grid(2);
        let rig = Rig::new(gpu, 0, 0, 0);
        let group = SparseGroup::new(gpu, &grid).unwrap();
        let n = group.values[0].bytes() as usize / 4;
        let values: Vec<f32> = (0..n).map(|i| i as f32 * 0.01).collect();
        gpu.write(&group.values[0], 0, &values);
        // Row 1 has a gradient of (0.5, -0.25), at the initial scale of a group.
        let scale = rig.read::<f32>(&group.gradient_scales, 1)[0];
        let fixed = [0.5, -0.25].map(|g| (g * scale) as i32);
        gpu.write(&group.gradients[0], 8, &fixed);
        rig.set(state(0));
        rig.run(|stage| group.update(stage, &rig.counts, &grid, &config));
        let mut expected = to_f64(&values);
        expected[2] -= exact(RATE) * 0.5;
        expected[3] += exact(RATE) * 0.25;
        let found = rig.read::<f32>(&group.values[0], n);
        assert_close("rows", &found, &expected, 1e-6);

        // Two networks of 16 weights each, of which only the second had samples.
        let dense = DenseGroup::new(gpu, "test", 32, 0.0).unwrap();
        gpu.write(&dense.weights.values, 0, &[0.5_f32; 32]);
        gpu.write(&dense.gradients, 0, &[0.25_f32; 32]);
        let matrix = LayerMatrix {
            first: 0,
            columns: 4,
            rows: 4,
            of_color: false,
        };
        let cells = CellGroup::new(gpu, 2, [0, 16, 16], vec![matrix]).unwrap();
        let updated = rig.buffer(&[0_u32, 1]);
        rig.set(state(0));
        rig.run(|stage| {
            let update = CellUpdate {
                updated: &updated,
                overwrite: false,
                penalized: false,
            };
            cells.update(stage, &rig.counts, &config, &dense, &update)
        });
        let mut expected = vec![0.5; 32];
        let step = exact(RATE) * exact(config.network_rate.unwrap()) * 0.25;
        expected[16..].iter_mut().for_each(|w| *w -= step);
        let found = rig.read::<f32>(&dense.weights.values, 32);
        assert_close("networks", &found, &expected, 1e-6);
    });
}

#[test]
fn corrections_for_bias_count_from_the_start_of_a_task() {
    const N: usize = 16;
    on_device(|gpu| {
        let config = Optimizer {
            l2_reg: 0.0,
            ..config(0.0)
        };
        let rig = Rig::new(gpu, 0, 0, 0);
        let moved = |step: u32, task_start: u32| {
            let group = DenseGroup::new(gpu, "test", N as u32, 0.0).unwrap();
            gpu.write(&group.gradients, 0, &[0.1_f32; N]);
            rig.set(StepState {
                task_start,
                ..state(step)
            });
            rig.run(|stage| group.update(stage, &rig.counts, &config, [0, N as u32]));
            rig.read::<f32>(&group.weights.values, N)
        };
        assert_eq!(moved(40, 40), moved(0, 0));
        assert_ne!(moved(40, 0), moved(0, 0));
    });
}

#[test]
fn a_gradient_or_weight_that_is_not_finite_raises_the_alarm() {
    on_device(|gpu| {
        // Disable regularisation, which would add the weight to the gradient.
        let config = Optimizer {
            l2_reg: 0.0,
            ..config(0.9)
        };
        for (gradient, weight) in [
            (f32::NAN, 0.5),
            (f32::INFINITY, 0.5),
            (0.1, f32::NAN),
            (0.1, f32::INFINITY),
        ] {
            let rig = Rig::new(gpu, 0, 0, 0);
            let group = DenseGroup::new(gpu, "test", 16, 0.9).unwrap();
            let mut weights = vec![0.5_f32; 16];
            weights[5] = weight;
            let mut gradients = vec![0.1_f32; 16];
            gradients[5] = gradient;
            gpu.write(&group.weights.values, 0, &weights);
            gpu.write(&group.gradients, 0, &gradients);
            rig.set(state(0));
            rig.run(|stage| group.update(stage, &rig.counts, &config, [0, 16]));
            assert_eq!(
                rig.state().non_finite,
                1,
                "gradient {gradient}, weight {weight}"
            );
            for moments in &group.moments {
                assert!(rig.read::<f32>(moments, 16).iter().all(|m| m.is_finite()));
            }
        }
    });
}

#[test]
fn networks_of_a_grid_without_samples_are_not_updated() {
    on_device(|gpu| {
        for (ema_decay, norm_reg, fresh) in
            [(0.9, 0.0, false), (0.0, 0.25, false), (0.0, 0.0, true)]
        {
            check_cells(gpu, ema_decay, norm_reg, fresh);
        }
    });
}

fn check_cells(gpu: &Arc<Gpu>, ema_decay: f32, norm_reg: f32, fresh: bool) {
    const NETWORKS: usize = 3;
    const LEN: usize = 16 + 32 + 80;
    const FIRST: usize = 16;
    const N: usize = FIRST + NETWORKS * LEN + 8;
    // Matrices of 4 × 4, 8 × 4 and 4 × 20 weights, the last two from view-dependent layers.
    let shapes = [(0, 4, 4, false), (16, 8, 4, true), (48, 4, 20, true)];
    let matrices = shapes.map(|(first, columns, rows, of_color)| LayerMatrix {
        first,
        columns,
        rows,
        of_color,
    });
    let mut pcg = Pcg::new(5);
    let config = Optimizer {
        norm_reg,
        ..config(ema_decay)
    };
    let rig = Rig::new(gpu, 0, 0, 0);
    let group = DenseGroup::new(gpu, "test", N as u32, ema_decay).unwrap();
    let range = [FIRST, LEN, LEN].map(|n| n as u32);
    let cells = CellGroup::new(gpu, NETWORKS as u32, range, matrices.to_vec()).unwrap();
    let start = pcg.uniform_vec(N, -1.0, 1.0);
    let (mut weights, mut ema) = (start.clone(), start.clone());
    let mut moments = vec![Moments::zeros(LEN, 1); NETWORKS];
    gpu.write(&group.weights.values, 0, &to_f32(&start));
    gpu.write(&group.averages, 0, &to_f32(&start));
    let mut counters = [[0; 2]; NETWORKS];
    for step in 0..7 {
        let visited: Vec<usize> = (0..NETWORKS)
            .filter(|n| (step + n) % 3 != 0 && *n != 2)
            .collect();
        let mut gradients = vec![0.0; N];
        let mut updated = [0_u32; NETWORKS];
        for &n in &visited {
            let at = FIRST + n * LEN..FIRST + (n + 1) * LEN;
            gradients[at.clone()].copy_from_slice(&pcg.uniform_vec(LEN, -0.1, 0.1));
            updated[n] = 1;
            counters[n] = [counters[n][0] + 1, step as u32 + 1];
            let (rate, adam) = (exact(RATE) * 0.5, adam(&config, config.l2_reg));
            let mut with_norms = gradients[at.clone()].to_vec();
            for matrix in matrices.iter().filter(|m| m.of_color) {
                let [begin, len] = [matrix.first, matrix.columns * matrix.rows].map(|n| n as usize);
                let layer = &weights[at.clone()][begin..begin + len];
                let norm = layer.iter().map(|w| w * w).sum::<f64>().sqrt();
                for (d, w) in with_norms[begin..begin + len].iter_mut().zip(layer) {
                    *d += exact(norm_reg) * w / norm;
                }
            }
            adam.update(rate, &mut weights[at.clone()], &with_norms, &mut moments[n]);
        }
        // Averages approach their weights even if the weights are not updated.
        ema_update(exact(config.ema_decay), &mut ema, &weights);
        gpu.write(&group.gradients, 0, &to_f32(&gradients));
        let updated = rig.buffer(&updated);
        rig.set(state(step as u32));
        rig.run(|stage| {
            let counts = &rig.counts;
            let update = CellUpdate {
                updated: &updated,
                overwrite: fresh,
                penalized: true,
            };
            cells.update(stage, counts, &config, &group, &update)
        });
        assert_eq!(rig.read::<u32>(&updated, NETWORKS), [0; NETWORKS]);
        let left = rig.read::<f32>(&group.gradients, N);
        if fresh {
            assert_eq!(
                left,
                to_f32(&gradients),
                "gradients that the next step overwrites"
            );
        } else {
            assert!(left.iter().all(|&g| g == 0.0), "gradients are cleared");
        }
    }
    let moved =
        |values: &[f64]| -> Vec<f64> { values.iter().zip(&start).map(|(v, s)| v - s).collect() };
    let read = |buffer| to_f64(&rig.read::<f32>(buffer, N));
    let values = read(&group.weights.values);
    assert_close("weights", &to_f32(&moved(&values)), &moved(&weights), 1e-4);
    let rest = FIRST + 2 * LEN..N;
    assert_eq!(
        to_f32(&values[rest.clone()]),
        to_f32(&start[rest]),
        "weights of networks without samples"
    );
    assert_eq!(rig.read::<[u32; 2]>(&cells.counters, NETWORKS), counters);
    if CellGroup::transposes(&config) {
        let transposed = read(&group.weights.transposed);
        for (n, matrix) in (0..2).flat_map(|n| matrices.map(|m| (n, m))) {
            let [first, columns, rows] =
                [matrix.first, matrix.columns, matrix.rows].map(|n| n as usize);
            let corner = FIRST + n * LEN + first;
            for i in 0..columns * rows {
                let turned = i % columns * rows + i / columns;
                assert_eq!(transposed[corner + turned], values[corner + i]);
            }
        }
        return;
    }
    let exported = rig.buffer(&to_f32(&start));
    rig.set(state(7));
    rig.run(|stage| cells.export_ema(stage, &rig.counts, &config, &group, &exported));
    let exported = read(&exported);
    assert_close("averages", &to_f32(&moved(&exported)), &moved(&ema), 1e-4);
}

fn grid(n_features: u32) -> HashGrid {
    let config = HashGridConfig {
        n_levels: 3,
        n_features_per_level: n_features,
        log2_hashmap_size: 8,
        base_resolution: 4,
        per_level_scale: Some(2.0),
        finest_resolution: 0,
        dense_levels: true,
        grid_offset: 0.5,
    };
    // Two levels of 64 and 256 rows in the first chunk, and one of 256 rows in the second.
    HashGrid::new(&config, 320 * u64::from(n_features) * 8).unwrap()
}

/// Return the values of a group's buffers, chunk by chunk.
fn all<T: bytemuck::Pod>(
    rig: &Rig,
    grid: &HashGrid,
    buffers: &[kiln::gpu::Buffer],
    per_row: u32,
) -> Vec<T> {
    assert_eq!(buffers.len(), grid.chunks().len());
    grid.chunks()
        .iter()
        .zip(buffers)
        .flat_map(|(c, b)| rig.read::<T>(b, (c.rows * per_row) as usize))
        .collect()
}

fn write_all<T: bytemuck::Pod>(
    rig: &Rig,
    grid: &HashGrid,
    buffers: &[kiln::gpu::Buffer],
    per_row: u32,
    data: &[T],
) {
    let mut first = 0;
    for (chunk, buffer) in grid.chunks().iter().zip(buffers) {
        let end = first + (chunk.rows * per_row) as usize;
        rig.gpu.write(buffer, 0, &data[first..end]);
        first = end;
    }
}

fn check_sparse(gpu: &Arc<Gpu>, n_features: u32, ema_decay: f32) {
    let mut pcg = Pcg::new(32);
    let config = config(ema_decay);
    let grid = grid(n_features);
    assert_eq!(grid.chunks().len(), 2);
    let (rows, f) = (grid.total_rows() as usize, n_features as usize);
    let level_of_row: Vec<usize> = grid
        .levels()
        .iter()
        .enumerate()
        .flat_map(|(l, level)| vec![l; level.rows as usize])
        .collect();
    let scales = [2_f32.powi(20), 2_f32.powi(24), 2_f32.powi(16)];
    let rig = Rig::new(gpu, 0, 0, 0);
    let group = SparseGroup::new(gpu, &grid).unwrap();
    let mut weights = pcg.uniform_vec(rows * f, -1e-2, 1e-2);
    let start = weights.clone();
    let (mut moments, mut ema) = (
        Moments::zeros(rows, f),
        LazyEma::new(exact(ema_decay), &weights, f),
    );
    write_all(&rig, &grid, &group.values, n_features, &to_f32(&weights));
    write_all(&rig, &grid, &group.averages, n_features, &to_f32(&weights));
    gpu.write(&group.gradient_scales, 0, &scales);

    let mut largest = [0_u32; 3];
    let steps = 7;
    for step in 0..steps {
        // A third of the rows have a gradient, of which some values are nevertheless zero.
        let touched: Vec<bool> = (0..rows).map(|_| pcg.unit() < 0.33).collect();
        let fixed: Vec<i32> = (0..rows * f)
            .map(|i| {
                let scale = f64::from(scales[level_of_row[i / f]]);
                if touched[i / f] && pcg.unit() < 0.8 {
                    (pcg.uniform(-0.1, 0.1) * scale) as i32
                } else {
                    0
                }
            })
            .collect();
        let gradients: Vec<f64> = fixed
            .iter()
            .enumerate()
            .map(|(i, &g)| f64::from(g) / f64::from(scales[level_of_row[i / f]]))
            .collect();
        for (i, g) in fixed.iter().enumerate() {
            let largest = &mut largest[level_of_row[i / f]];
            *largest = (*largest).max(g.unsigned_abs());
        }
        write_all(&rig, &grid, &group.gradients, n_features, &fixed);
        rig.set(state(step));
        rig.run(|stage| group.update(stage, &rig.counts, &grid, &config));
        let before = weights.clone();
        let updated =
            adam(&config, 0.0).update_sparse(exact(RATE), &mut weights, &gradients, &mut moments);
        for row in (0..rows).filter(|&row| updated[row]) {
            ema.catch_up(row, &before, step);
            ema.catch_up(row, &weights, step + 1);
        }
    }
    let moved =
        |values: &[f64]| -> Vec<f64> { values.iter().zip(&start).map(|(v, s)| v - s).collect() };
    let values = to_f64(&all(&rig, &grid, &group.values, n_features));
    assert_close("weights", &to_f32(&moved(&values)), &moved(&weights), 1e-4);
    let counters: Vec<[u32; 2]> = all(&rig, &grid, &group.counters, 1);
    let expected: Vec<[u32; 2]> = moments
        .steps
        .iter()
        .zip(&ema.last_step)
        .map(|(&n, &last)| [n, last])
        .collect();
    assert_eq!(counters, expected);
    assert!(counters.iter().any(|c| c[0] > 2) && counters.iter().any(|c| c[1] + 2 < steps));
    assert!(
        all::<i32>(&rig, &grid, &group.gradients, n_features)
            .iter()
            .all(|&g| g == 0)
    );
    assert_eq!(rig.read::<u32>(&group.largest, 3), largest);
    assert_eq!(rig.state().saturated, 0);

    let exported = grid.allocate(gpu, "exported", 4).unwrap();
    rig.set(state(steps));
    rig.run(|stage| group.export_ema(stage, &rig.counts, &grid, &config, &exported));
    (0..rows).for_each(|row| ema.catch_up(row, &weights, steps));
    let actual = to_f64(&all(&rig, &grid, &exported, n_features));
    assert_close(
        "exported averages",
        &to_f32(&moved(&actual)),
        &moved(&ema.values),
        1e-4,
    );
}

#[test]
fn sparse_rows_keep_their_own_count_and_average() {
    on_device(|gpu| check_sparse(gpu, 2, 0.9));
}

#[test]
fn sparse_rows_of_two_parts_without_average() {
    on_device(|gpu| check_sparse(gpu, 8, 0.0));
}

#[test]
fn sums_near_the_integer_limits_count_as_saturated() {
    on_device(|gpu| {
        let grid = grid(2);
        let rig = Rig::new(gpu, 0, 0, 0);
        let group = SparseGroup::new(gpu, &grid).unwrap();
        gpu.write(
            &group.gradients[1],
            0,
            &[1 << 29, 1 << 30, -(1 << 30), 0, i32::MIN, 5],
        );
        rig.set(state(0));
        rig.run(|stage| group.update(stage, &rig.counts, &grid, &config(0.9)));
        assert_eq!(rig.state().saturated, 3);
        assert_eq!(rig.read::<u32>(&group.largest, 3), [0, 0, 1 << 31]);
    });
}

/// Return the state, the scales and the largest gradients after `begin_step`.
fn begin_step(
    gpu: &Arc<Gpu>,
    rate: &Optimizer,
    step: u32,
    scales: &[f32],
    largest: &[u32],
) -> (StepState, Vec<f32>, Vec<u32>) {
    let rig = Rig::new(gpu, 0, 0, 0);
    rig.set(StepState {
        step,
        next_rays: 321,
        loss: 5.0,
        n_rays_total: 9,
        n_kept_total: 9,
        ..StepState::zeroed()
    });
    let (scale_buffer, largest_buffer) = (rig.buffer(scales), rig.buffer(largest));
    let defines = schedule_defines(rate)
        .set("micro_batches", 1)
        .set("n_levels", scales.len());
    let kernel = |pass: &str| {
        let defines = defines.clone().set("pass", pass);
        gpu.kernel("entry/step", pass, &defines).unwrap()
    };
    let bindings = [
        ("state", &rig.counts.state),
        ("gradient_scales", &scale_buffer),
        ("largest", &largest_buffer),
    ];
    rig.run(|stage| {
        for pass in ["rescale", "begin_step"] {
            stage.dispatch(&kernel(pass), &bindings, Groups::Direct([1, 1, 1]))?;
        }
        Ok(())
    });
    (
        rig.state(),
        rig.read(&scale_buffer, scales.len()),
        rig.read(&largest_buffer, largest.len()),
    )
}

#[test]
fn gradient_scales_follow_the_largest_sum_by_powers_of_two() {
    on_device(|gpu| {
        let rate = config(0.9);
        let one = 2_f32.powi(24);
        // A sum of 26 bits keeps its scale, and 30 bits lose four; 10 bits could gain sixteen but gain four; without a sum the
        // scale does not change.
        let largest = [
            (1 << 26) - 1,
            1 << 25,
            (1 << 30) - 1,
            1 << 29,
            1000,
            0,
            u32::MAX >> 1,
            3 << 20,
        ];
        let (state, scales, after) = begin_step(gpu, &rate, 0, &[one; 8], &largest);
        let by = [0, 0, -4, -4, 4, 0, -5, 4];
        assert_eq!(scales, by.map(|shift| 2_f32.powi(24 + shift)));
        assert_eq!(after, [0; 8]);
        assert_eq!(
            state,
            StepState {
                next_rays: 321,
                n_rays: 321,
                learning_rate: state.learning_rate,
                ..StepState::zeroed()
            }
        );
        // The scale stays between 1 and 2^64, whose inverse is a normal number.
        let (_, scales, _) = begin_step(gpu, &rate, 0, &[2.0, 2_f32.powi(62)], &[u32::MAX >> 1, 1]);
        assert_eq!(scales, [1.0, 2_f32.powi(64)]);
    });
}

#[test]
fn learning_rate_decays_continuously() {
    on_device(|gpu| {
        let config = Optimizer {
            learning_rate: 5e-3,
            decay_base: 0.1,
            decay_start: 0,
            decay_interval: 1000,
            decay_end: None,
            staircase: false,
            ..config(0.9)
        };
        for step in [0, 1, 500, 1000, 2500] {
            let rate = begin_step(gpu, &config, step, &[1.0], &[0]).0.learning_rate;
            let expected = 5e-3 * 0.1_f64.powf(f64::from(step) / 1000.0);
            assert!(
                (f64::from(rate) / expected - 1.0).abs() < 1e-5,
                "{step}: {rate}"
            );
        }
    });
}

#[test]
fn learning_rate_warms_up_and_decays_in_stairs() {
    on_device(|gpu| {
        let config = Optimizer {
            learning_rate: 0.02,
            decay_base: 0.33,
            decay_start: 100,
            decay_interval: 50,
            decay_end: Some(300),
            warmup_steps: Some(10),
            ..config(0.9)
        };
        let reference = LearningRate {
            initial: 0.02,
            decay_base: 0.33,
            decay_start: 100,
            decay_interval: 50,
            decay_end: 300,
        };
        let steps = [0, 1, 8, 9, 10, 99, 100, 149, 150, 249, 250, 300, 400];
        let actual: Vec<f32> = steps
            .iter()
            .map(|&s| begin_step(gpu, &config, s, &[1.0], &[0]).0.learning_rate)
            .collect();
        let expected: Vec<f64> = steps
            .iter()
            .map(|&s| reference.at(s) * (f64::from(s + 1) / 10.0).min(1.0))
            .collect();
        for (a, e) in actual.iter().zip(&expected) {
            assert!(
                (f64::from(*a) / e - 1.0).abs() < 1e-4,
                "{actual:?} {expected:?}"
            );
        }
    });
}
