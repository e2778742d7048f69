//! Central finite differences, worked examples and identities for the CPU references: the kernels are compared with the
//! references, and nothing else checks the references. Needs no GPU.

#[path = "gpu/reference/mod.rs"]
mod reference;

use reference::compositing::{
    Compositing, DensityActivation, RgbActivation, Sample, d_opacity_of_background,
};
use reference::distillation::DistillationLoss;
use reference::encoding::{
    frequency::Frequency,
    hash_grid::{HashGrid, Level, levels_ngp},
    spherical_harmonics,
};
use reference::loss::Loss;
use reference::metrics;
use reference::network::fused::{Layer, Mlp};
use reference::network::tiled::SkipMlp;
use reference::occupancy::OccupancyGrid;
use reference::optimizer::{Adam, LazyEma, LearningRate, Moments, ema_update};
use reference::primitives;
use reference::random::Pcg;
use reference::sampling::{
    ray_march::{MarchSample, Ray, RayMarch},
    stratified::{LAST_DT, stratified},
};

/// Compare `analytic` with `(f(x + h) - f(x - h)) / 2h`, per component.
///
/// `tolerance` is relative to the largest component, which must be far from zero for a meaningful comparison.
fn assert_gradient(
    name: &str,
    analytic: &[f64],
    x: &[f64],
    h: f64,
    tolerance: f64,
    f: impl Fn(&[f64]) -> f64,
) {
    assert_eq!(analytic.len(), x.len(), "{name}: length of the gradient");
    let numeric: Vec<f64> = (0..x.len())
        .map(|i| {
            let mut moved = x.to_vec();
            moved[i] = x[i] + h;
            let above = f(&moved);
            moved[i] = x[i] - h;
            (above - f(&moved)) / (2.0 * h)
        })
        .collect();
    let largest = numeric.iter().fold(0.0_f64, |m, g| m.max(g.abs()));
    assert!(largest > 1e-3, "{name}: gradient vanishes ({largest:e})");
    for (i, (a, n)) in analytic.iter().zip(&numeric).enumerate() {
        assert!(
            (a - n).abs() <= tolerance * largest,
            "{name}[{i}]: analytic {a:e}, finite difference {n:e}, largest {largest:e}"
        );
    }
}

#[test]
fn distillation_gradient() {
    let target = [0.2, 0.7, 0.5, 1.5];
    for density in [
        DensityActivation::Exp,
        DensityActivation::Relu,
        DensityActivation::Softplus,
    ] {
        for raw_density in [-0.4, 0.3, 1.1] {
            let objective = DistillationLoss {
                density,
                color: RgbActivation::Sigmoid,
                distance: 0.5,
            };
            let x = [0.3, -0.8, 1.2, raw_density];
            let split = |x: &[f64]| ([x[0], x[1], x[2]], x[3]);
            let loss = |x: &[f64]| objective.loss(split(x).0, split(x).1, target);
            let (d_color, d_density) = objective.gradient(split(&x).0, split(&x).1, target);
            let analytic = [d_color[0], d_color[1], d_color[2], d_density];
            assert_gradient("distillation", &analytic, &x, 1e-5, 1e-6, loss);
        }
    }
}

fn assert_close(name: &str, actual: f64, expected: f64, tolerance: f64) {
    assert!(
        (actual - expected).abs() <= tolerance,
        "{name}: {actual:e}, expected {expected:e}"
    );
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn array3(x: &[f64]) -> [f64; 3] {
    [x[0], x[1], x[2]]
}

// The finite-difference check itself

#[test]
fn gradient_check_accepts_the_derivative() {
    assert_gradient("x^3", &[12.0], &[2.0], 1e-4, 1e-6, |x| x[0].powi(3));
}

#[test]
#[should_panic(expected = "x^3[0]: analytic")]
fn gradient_check_refuses_one_part_in_ten_thousand() {
    assert_gradient("x^3", &[12.0012], &[2.0], 1e-4, 1e-6, |x| x[0].powi(3));
}

#[test]
#[should_panic(expected = "gradient vanishes")]
fn gradient_check_refuses_a_constant() {
    assert_gradient("constant", &[0.0], &[2.0], 1e-4, 1e-6, |_| 1.0);
}

// Encodings

/// Return a grid with scales 3.5, 8 and 17: two dense levels and a hashed level with collisions.
fn small_hash_grid(grid_offset: f64) -> HashGrid {
    let mut first_row = 0;
    let levels = [
        (3.5, 5, 128, true),
        (8.0, 9, 736, true),
        (17.0, 18, 64, false),
    ]
    .map(|(scale, resolution, rows, dense)| {
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
    .to_vec();
    HashGrid {
        levels,
        n_features_per_level: 2,
        grid_offset,
    }
}

/// Positions are multiples of 2^-8, displaced by 2^-14, so that `x * scale + offset` is exact in f32. They are at least 0.002
/// cells away from the faces, a displacement is at most 17 * 2^-14 = 0.001 cells, and within a cell the interpolation is linear
/// along each axis: the difference is exact except for rounding.
#[test]
fn hash_grid_position_gradient() {
    const H: f64 = 1.0 / 16384.0;
    let mut pcg = Pcg::new(1);
    for grid_offset in [0.0, 0.5] {
        let grid = small_hash_grid(grid_offset);
        let table = pcg.uniform_vec(grid.total_rows() * 2, -1.0, 1.0);
        let mut checked = 0;
        while checked < 20 {
            let x: [f64; 3] = std::array::from_fn(|_| (pcg.unit() * 256.0).floor() / 256.0);
            let face_distance = |l: &Level, x: f64| {
                let q = x * l.scale + grid_offset;
                (q - q.round()).abs()
            };
            let on_face = |l: &Level| x.iter().any(|&x| face_distance(l, x) < 0.002);
            if grid.levels.iter().any(on_face) {
                continue;
            }
            let d_out = pcg.uniform_vec(grid.n_outputs(), -1.0, 1.0);
            let mut d_table = vec![0.0; table.len()];
            let d_position = grid.backward(x, &table, &d_out, &mut d_table);
            assert_gradient("d_position", &d_position, &x, H, 1e-9, |x| {
                dot(&grid.forward(array3(x), &table), &d_out)
            });
            checked += 1;
        }
    }
}

#[test]
fn hash_grid_table_gradient_accumulates_over_positions() {
    let mut pcg = Pcg::new(2);
    for grid_offset in [0.0, 0.5] {
        let grid = small_hash_grid(grid_offset);
        let table = pcg.uniform_vec(grid.total_rows() * 2, -1.0, 1.0);
        let positions: Vec<_> = (0..6).map(|_| pcg.uniform3(0.0, 1.0)).collect();
        let d_out = pcg.uniform_vec(grid.n_outputs(), -1.0, 1.0);
        let mut d_table = vec![0.0; table.len()];
        for &x in &positions {
            grid.backward(x, &table, &d_out, &mut d_table);
        }
        assert_gradient("d_table", &d_table, &table, 1e-3, 1e-9, |table| {
            let loss = |&x: &[f64; 3]| dot(&grid.forward(x, table), &d_out);
            positions.iter().map(loss).sum()
        });
    }
}

/// One dense level of 2x2x2 points stores the corner index: at w = (1/4, 1/2, 3/4), trilinear interpolation of `x + 2 y + 4 z`
/// gives 0.25 + 1 + 3.
#[test]
fn hash_grid_corner_order() {
    let grid = HashGrid {
        levels: vec![Level {
            scale: 1.0,
            resolution: 2,
            rows: 8,
            first_row: 0,
            dense: true,
        }],
        n_features_per_level: 1,
        grid_offset: 0.0,
    };
    let table: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(grid.forward([0.25, 0.5, 0.75], &table), [4.25]);
}

/// The hash of grid point (3, 5, 7) is computed in 64-bit arithmetic, whose low bits equal those of wrapping arithmetic; its
/// dense row is 3 + 5 * 10 + 7 * 100.
#[test]
fn hash_grid_rows() {
    let hashed = Level {
        scale: 1.0,
        resolution: 2,
        rows: 1 << 19,
        first_row: 0,
        dense: false,
    };
    let expected = (3 ^ (5 * 2_654_435_761_u64) ^ (7 * 805_459_861_u64)) % (1 << 19);
    assert_eq!(u64::from(hashed.row([3, 5, 7])), expected);
    let dense = Level {
        resolution: 10,
        rows: 1000,
        dense: true,
        ..hashed
    };
    assert_eq!(dense.row([3, 5, 7]), 753);
}

#[test]
fn hash_grid_levels_of_instant_ngp() {
    // b = exp(ln(2048 / 16) / 7) = 2, up to the last bit; 2^19 rows hold 64^3 = 262144 points but not 128^3.
    let b = 2.0_f64.next_up();
    let levels = levels_ngp(8, 16, b, 19, true, 0.5);
    let resolutions: Vec<_> = levels.iter().map(|l| l.resolution).collect();
    assert_eq!(resolutions, [16, 32, 64, 128, 256, 512, 1024, 2048]);
    let dense: Vec<_> = levels.iter().map(|l| l.dense).collect();
    assert_eq!(dense, [true, true, true, false, false, false, false, false]);
    assert_close("scale", levels[1].scale, 31.0, 1e-5);
    let first_rows: Vec<_> = levels[..5].iter().map(|l| l.first_row).collect();
    assert_eq!(
        first_rows,
        [0, 4096, 4096 + 32768, 36864 + 262_144, 299_008 + 524_288]
    );
}

#[test]
fn hash_grid_levels_without_offset() {
    // floor(16 * 1.5^l) = 16, 24, 36, 54; never dense; 2^14 rows each.
    let levels = levels_ngp(4, 16, 1.5, 14, false, 0.0);
    let scales: Vec<_> = levels.iter().map(|l| l.scale).collect();
    assert_eq!(scales, [16.0, 24.0, 36.0, 54.0]);
    assert_eq!(levels[3].resolution, 55);
    assert_eq!(levels[3].first_row, 3 << 14);
    // 3^3 = 27 points take 32 rows.
    assert_eq!(levels_ngp(1, 2, 2.0, 14, true, 0.0)[0].rows, 32);
}

#[test]
fn frequency_gradient() {
    let mut pcg = Pcg::new(3);
    for encoding in [
        Frequency::powers_of_two(6, true),
        Frequency::powers_of_two(4, false),
        Frequency::log_spaced(7, 5.0, false),
    ] {
        let x = pcg.uniform3(-1.0, 1.0);
        let d_out = pcg.uniform_vec(encoding.n_outputs(), -1.0, 1.0);
        let d_position = encoding.backward(x, &d_out);
        assert_gradient("frequency", &d_position, &x, 1e-5, 1e-7, |x| {
            dot(&encoding.forward(array3(x)), &d_out)
        });
    }
}

#[test]
fn frequency_order() {
    let x = [0.1_f64, 0.2, 0.3];
    let sin = |f: f64| x.map(|x| (f * x).sin());
    let cos = |f: f64| x.map(|x| (f * x).cos());
    let expected = [x, sin(1.0), cos(1.0), sin(2.0), cos(2.0)].concat();
    assert_eq!(Frequency::powers_of_two(2, true).forward(x), expected);
    // 2^linspace(0, 8, 20): the last of 20 frequencies is 256.
    let last = Frequency::log_spaced(20, 8.0, false).frequencies[19];
    assert_close("last frequency", last, 256.0, 1e-9);
}

#[test]
fn spherical_harmonics_gradient() {
    let mut pcg = Pcg::new(4);
    for degree in 1..=4 {
        let d = pcg.direction();
        let d_out = pcg.uniform_vec(degree * degree, -1.0, 1.0);
        let d_direction = spherical_harmonics::backward(degree, d, &d_out);
        if degree == 1 {
            assert_eq!(d_direction, [0.0; 3]);
            continue;
        }
        assert_gradient("harmonics", &d_direction, &d, 1e-4, 1e-6, |d| {
            dot(&spherical_harmonics::forward(degree, array3(d)), &d_out)
        });
    }
}

/// Integrate with midpoints in z and equal angles in phi. A product of two functions has degree at most 6: 16 points are exact
/// in phi, and the midpoint rule in z has an error of about `1 / n^2`.
#[test]
fn spherical_harmonics_are_orthonormal() {
    const N_Z: u32 = 1000;
    const N_PHI: u32 = 16;
    let mut gram = [[0.0; 16]; 16];
    for i in 0..N_Z * N_PHI {
        let z = (2.0 * f64::from(i / N_PHI) + 1.0) / f64::from(N_Z) - 1.0;
        let phi = std::f64::consts::TAU * f64::from(i % N_PHI) / f64::from(N_PHI);
        let radius = (1.0 - z * z).sqrt();
        let y = spherical_harmonics::forward(4, [radius * phi.cos(), radius * phi.sin(), z]);
        let area = 4.0 * std::f64::consts::PI / f64::from(N_Z * N_PHI);
        for a in 0..16 {
            for b in 0..16 {
                gram[a][b] += area * y[a] * y[b];
            }
        }
    }
    for (a, row) in gram.iter().enumerate() {
        for (b, &integral) in row.iter().enumerate() {
            assert_close(&format!("<{a}, {b}>"), integral, f64::from(a == b), 2e-4);
        }
    }
}

/// Orthonormality does not determine order and sign: compare values at (1, 2, 2) / 3 with the closed forms.
#[test]
fn spherical_harmonics_order_and_sign() {
    let [x, y, z] = [1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0];
    let expected = [
        0.282_094_792,
        -0.488_602_512 * y,
        0.488_602_512 * z,
        -0.488_602_512 * x,
        1.092_548_431 * x * y,
        -1.092_548_431 * y * z,
        0.946_174_696 * z * z - 0.315_391_565,
        -1.092_548_431 * x * z,
        0.546_274_215 * (x * x - y * y),
        0.590_043_590 * y * (y * y - 3.0 * x * x),
        2.890_611_443 * x * y * z,
        0.457_045_799 * y * (1.0 - 5.0 * z * z),
        0.373_176_333 * z * (5.0 * z * z - 3.0),
        0.457_045_799 * x * (1.0 - 5.0 * z * z),
        1.445_305_721 * z * (x * x - y * y),
        0.590_043_590 * x * (3.0 * y * y - x * x),
    ];
    let actual = spherical_harmonics::forward(4, [x, y, z]);
    for (i, (&actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert_close(&format!("harmonic {i}"), actual, expected, 2e-9);
    }
}

// Network

/// Return all parameters of a network as one list; `unflatten` is the inverse.
fn flatten(layers: &[Layer]) -> Vec<f64> {
    layers
        .iter()
        .flat_map(|l| [l.weights.clone(), l.biases.clone()].concat())
        .collect()
}

fn unflatten(mlp: &Mlp, mut flat: &[f64]) -> Vec<Layer> {
    let mut layers = mlp.zeros();
    for layer in &mut layers {
        for part in [&mut layer.weights, &mut layer.biases] {
            let (head, tail) = flat.split_at(part.len());
            part.copy_from_slice(head);
            flat = tail;
        }
    }
    layers
}

#[test]
fn mlp_gradients() {
    let mut pcg = Pcg::new(5);
    for biases in [false, true] {
        let mlp = Mlp {
            dims: vec![5, 8, 7, 3],
            biases,
        };
        let layers = mlp.random(&mut pcg);
        let inputs = [pcg.uniform_vec(5, -1.0, 1.0), pcg.uniform_vec(5, -1.0, 1.0)];
        let d_output = pcg.uniform_vec(3, -1.0, 1.0);
        let loss =
            |layers: &[Layer], input: &[f64]| dot(mlp.forward(layers, input).output(), &d_output);
        let mut d_layers = mlp.zeros();
        for input in &inputs {
            let activations = mlp.forward(&layers, input);
            let dead = activations.values[1].iter().filter(|&&h| h == 0.0).count();
            assert!((1..8).contains(&dead), "{dead} of 8 neurons are off");
            let d_input = mlp.backward(&layers, &activations, &d_output, &mut d_layers);
            assert_gradient("d_input", &d_input, input, 1e-6, 1e-7, |input| {
                loss(&layers, input)
            });
        }
        let flat = flatten(&layers);
        assert_gradient("d_layers", &flatten(&d_layers), &flat, 1e-6, 1e-7, |flat| {
            let layers = unflatten(&mlp, flat);
            inputs.iter().map(|input| loss(&layers, input)).sum()
        });
    }
}

/// Gradients of skips and of rectified outputs, at inputs where no rectifier switches.
#[test]
fn skip_mlp_gradients() {
    let mut pcg = Pcg::new(7);
    let mlp = SkipMlp {
        dims: vec![3, 8, 8, 7, 5],
        skips: vec![1, 3],
        biases: true,
        rectified_outputs: true,
    };
    let layers = mlp.random(&mut pcg);
    let input = pcg.uniform_vec(3, -1.0, 1.0);
    let d_output = pcg.uniform_vec(5, -1.0, 1.0);
    let loss = |layers: &[Layer], input: &[f64]| {
        let (values, _) = mlp.forward(layers, input);
        dot(&values[4], &d_output)
    };
    let forward = mlp.forward(&layers, &input);
    assert_eq!(forward.0[1].len(), 8 + 3);
    // The gradient with respect to the outputs before their rectifier.
    let d_sum: Vec<f64> = (0..5)
        .map(|o| {
            if mlp.is_rectified(3, o) && forward.1[3][o] <= 0.0 {
                0.0
            } else {
                d_output[o]
            }
        })
        .collect();
    assert!(d_sum.contains(&0.0) && d_sum[0] != 0.0);
    let mut d_layers = mlp.zeros();
    let d_input = mlp.backward(&layers, &forward, &d_sum, &mut d_layers);
    assert_gradient("d_input", &d_input, &input, 1e-6, 1e-7, |input| {
        loss(&layers, input)
    });
    for (k, layer) in layers.iter().enumerate() {
        let name = format!("d_weights {k}");
        let d = &d_layers[k];
        assert_gradient(&name, &d.weights, &layer.weights, 1e-6, 1e-7, |weights| {
            let mut layers = layers.clone();
            layers[k].weights = weights.to_vec();
            loss(&layers, &input)
        });
        assert_gradient("d_biases", &d.biases, &layer.biases, 1e-6, 1e-7, |biases| {
            let mut layers = layers.clone();
            layers[k].biases = biases.to_vec();
            loss(&layers, &input)
        });
    }
}

/// Three intervals with weights 1, 2 and 1 between the midpoints 1, 2, 3 and 5.
#[test]
fn importance_worked_example() {
    use reference::sampling::importance::{invert, merge};
    let t = [0.5, 1.5, 2.5, 3.5, 6.5];
    let drawn = invert(
        &t,
        &[9.0, 1.0, 2.0, 1.0, 9.0],
        &[0.0, 0.125, 0.5, 0.875, 1.0],
    );
    for (got, want) in drawn.iter().zip([1.0, 1.5, 2.5, 4.0, 5.0]) {
        assert!((got - want).abs() < 1e-4, "{drawn:?}");
    }
    let (all, dt) = merge(&t, &[1.0, 4.0]);
    assert_eq!(all, [0.5, 1.0, 1.5, 2.5, 3.5, 4.0, 6.5]);
    assert_eq!(dt[..6], [0.5, 0.5, 1.0, 1.0, 0.5, 2.5]);
    assert!(dt[6] > 1e9);
}

/// One hidden neuron is active and one inactive: z = (1*2 + 2*3 + 1, -2 + 0 + 0) = (9, -2), out = 4 * 9 + 5 * 0 - 6 = 30.
#[test]
fn mlp_worked_example() {
    let mlp = Mlp {
        dims: vec![2, 2, 1],
        biases: true,
    };
    let layers = unflatten(&mlp, &[1.0, 2.0, -1.0, 0.0, 1.0, 0.0, 4.0, 5.0, -6.0]);
    assert_eq!(mlp.forward(&layers, &[2.0, 3.0]).output(), [30.0]);
}

// Compositing and loss

fn random_samples(pcg: &mut Pcg, n: usize) -> Vec<Sample> {
    let mut t = 2.0;
    (0..n)
        .map(|_| {
            let dt = pcg.uniform(0.05, 0.3);
            t += dt;
            let raw = std::array::from_fn(|_| pcg.uniform(-2.0, 2.0));
            Sample { raw, dt, t }
        })
        .collect()
}

fn with_raw(samples: &[Sample], raw: &[f64]) -> Vec<Sample> {
    samples
        .iter()
        .zip(raw.chunks_exact(4))
        .map(|(sample, raw)| Sample {
            raw: [raw[0], raw[1], raw[2], raw[3]],
            ..*sample
        })
        .collect()
}

#[test]
fn compositing_gradient_through_the_background() {
    use DensityActivation::{Exp, Relu, Softplus};
    let mut pcg = Pcg::new(6);
    let background = [0.9, 0.2, 0.6];
    for density_activation in [Exp, Relu, Softplus] {
        for rgb_activation in [RgbActivation::Sigmoid, RgbActivation::None] {
            // Opaque enough to end rays early after some of the samples, or no early termination.
            for min_transmittance in [0.0, 0.3] {
                let compositing = Compositing {
                    density_activation,
                    rgb_activation,
                    min_transmittance,
                };
                let samples = random_samples(&mut pcg, 24);
                let raw: Vec<f64> = samples.iter().flat_map(|s| s.raw).collect();
                let n_used = compositing.forward(&samples).n_used;
                assert_eq!(n_used < 24, min_transmittance > 0.0, "{n_used} used");

                let d_colour = pcg.uniform3(-1.0, 1.0);
                let d_opacity = d_opacity_of_background(d_colour, background);
                let d_raw = compositing.backward(&samples, d_colour, d_opacity);
                let name = format!("{density_activation:?} {rgb_activation:?} d_raw");
                assert_gradient(&name, &d_raw.concat(), &raw, 1e-6, 1e-7, |raw| {
                    let composite = compositing.forward(&with_raw(&samples, raw));
                    dot(&composite.over(background), &d_colour)
                });
            }
        }
    }
}

#[test]
fn depth_loss_gradient() {
    let mut pcg = Pcg::new(31);
    for density_activation in [DensityActivation::Exp, DensityActivation::Softplus] {
        let compositing = Compositing {
            density_activation,
            rgb_activation: RgbActivation::Sigmoid,
            min_transmittance: 0.0,
        };
        let samples = random_samples(&mut pcg, 24);
        let raw: Vec<f64> = samples.iter().map(|s| s.raw[3]).collect();
        let surface = samples[9].t + 0.02;
        let d_raw = compositing.depth_backward(&samples, surface, 0.4);
        assert_gradient("depth d_raw", &d_raw, &raw, 1e-5, 1e-7, |raw| {
            let mut moved = samples.clone();
            for (sample, raw) in moved.iter_mut().zip(raw) {
                sample.raw[3] = *raw;
            }
            compositing.depth_loss(&moved, surface, 0.4)
        });
    }
}

#[test]
fn depth_loss_worked_example() {
    let compositing = Compositing {
        density_activation: DensityActivation::Relu,
        rgb_activation: RgbActivation::None,
        min_transmittance: 0.0,
    };
    let sample = |t: f64, density: f64| Sample {
        raw: [0.0, 0.0, 0.0, density],
        dt: 1.0,
        t,
    };
    // Half of the light is absorbed in each interval: weights 1/2 and 1/4.
    let half = std::f64::consts::LN_2;
    let samples = [sample(2.0, half), sample(3.0, half)];
    // A standard deviation of 1, the length of an interval: shares of 0.3989 and 0.2420.
    let expected = 0.398_942_28 * half + 0.241_970_72 * 2.0 * half;
    let loss = compositing.depth_loss(&samples, 2.0, 0.1);
    assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
}

#[test]
fn compositing_gradient_of_rgb_and_opacity() {
    let mut pcg = Pcg::new(7);
    let compositing = Compositing {
        density_activation: DensityActivation::Exp,
        rgb_activation: RgbActivation::Sigmoid,
        min_transmittance: 0.0,
    };
    let samples = random_samples(&mut pcg, 9);
    let raw: Vec<f64> = samples.iter().flat_map(|s| s.raw).collect();
    let (d_rgb, d_opacity) = ([0.3, -0.7, 0.5], 0.8);
    let d_raw = compositing.backward(&samples, d_rgb, d_opacity);
    assert_gradient("d_raw", &d_raw.concat(), &raw, 1e-6, 1e-7, |raw| {
        let composite = compositing.forward(&with_raw(&samples, raw));
        dot(&composite.rgb, &d_rgb) + d_opacity * composite.opacity
    });
}

/// Three samples with alpha 1/2 (sigma = 1, dt = ln 2) have weights 1/2, 1/4, 1/8.
#[test]
fn compositing_worked_example() {
    let sample = |c: f64, t: f64| Sample {
        raw: [c, 0.0, 1.0, 1.0],
        dt: std::f64::consts::LN_2,
        t,
    };
    let samples = [sample(0.2, 1.0), sample(0.4, 2.0), sample(0.8, 3.0)];
    let mut compositing = Compositing {
        density_activation: DensityActivation::Relu,
        rgb_activation: RgbActivation::None,
        min_transmittance: 0.0,
    };
    let all = compositing.forward(&samples);
    assert_eq!(all.n_used, 3);
    assert_close("red", all.rgb[0], 0.1 + 0.1 + 0.1, 1e-12);
    assert_close("opacity", all.opacity, 0.875, 1e-12);
    assert_close("transmittance", all.transmittance, 0.125, 1e-12);
    assert_close("depth", all.depth, 0.5 + 0.5 + 0.375, 1e-12);
    assert_close("blue", all.over([0.0, 0.0, 0.4])[2], 0.875 + 0.05, 1e-12);

    // T before the samples is 1, 1/2, 1/4: termination at 0.3 leaves two samples, and no gradient behind them.
    compositing.min_transmittance = 0.3;
    let cut = compositing.forward(&samples);
    assert_eq!(cut.n_used, 2);
    assert_close("red of two", cut.rgb[0], 0.2, 1e-12);
    assert_eq!(compositing.backward(&samples, [1.0; 3], 1.0)[2], [0.0; 4]);

    let empty = compositing.forward(&[]);
    assert_eq!((empty.n_used, empty.opacity), (0, 0.0));
    assert_eq!(empty.over([1.0, 0.5, 0.25]), [1.0, 0.5, 0.25]);
}

#[test]
fn exp_activation_clamps_only_its_derivative() {
    let exp = DensityActivation::Exp;
    assert_close("value", exp.value(16.0).ln(), 16.0, 1e-12);
    assert_close("upper", exp.derivative(16.0).ln(), 15.0, 1e-12);
    assert_close("lower", exp.derivative(-20.0).ln(), -15.0, 1e-12);
    assert_close(
        "softplus",
        DensityActivation::Softplus.value(800.0),
        800.0,
        1e-9,
    );
}

#[test]
fn loss_gradient() {
    let mut pcg = Pcg::new(8);
    for loss in [
        Loss::L2,
        Loss::Huber { delta: 0.1 },
        Loss::Huber { delta: 0.5 },
    ] {
        let predicted: Vec<_> = (0..8).map(|_| pcg.uniform3(0.0, 1.0)).collect();
        let target: Vec<_> = (0..8).map(|_| pcg.uniform3(0.0, 1.0)).collect();
        let gradient = loss.backward(&predicted, &target).concat();
        let name = format!("{loss:?}");
        assert_gradient(&name, &gradient, &predicted.concat(), 1e-6, 1e-7, |p| {
            let predicted: Vec<_> = p.chunks_exact(3).map(array3).collect();
            loss.step(&predicted, &target)
        });
    }
}

/// Huber 0.1: |e| = 0.05 gives 0.05^2 / 0.2 / 5 = 0.0025 = e^2, |e| = 0.3 gives (0.3 - 0.05) / 5 = 0.05.
#[test]
fn loss_worked_example() {
    let huber = Loss::Huber { delta: 0.1 };
    assert_close("parabola", huber.value(-0.05), 0.0025, 1e-12);
    assert_close("line", huber.value(0.3), 0.05, 1e-12);
    let step = huber.step(&[[0.05, 0.0, 0.3]; 2], &[[0.0; 3], [0.05, 0.0, 0.3]]);
    assert_close("step", step, (0.0025 + 0.0 + 0.05) / 3.0 / 2.0, 1e-12);
    assert_close(
        "squares",
        Loss::L2.ray([0.1, 0.2, 0.3], [0.0; 3]),
        0.14 / 3.0,
        1e-12,
    );
}

// Optimizer

/// `w = 1`, `b1 = 0.5`, `b2 = 0.75`, `lr = 0.1`, no epsilon. Gradients 2, then 1:
///
/// - m = 0.5 * 0 + 0.5 * 2 = 1, v = 0.25 * 4 = 1, step size = 0.1 * sqrt(0.25) / 0.5 = 0.1,
///   w = 1 - 0.1 * 1 / 1 = 0.9
/// - m = 0.5 * 1 + 0.5 * 1 = 1, v = 0.75 * 1 + 0.25 * 1 = 1, step size = 0.1 * sqrt(0.4375) / 0.75,
///   w = 0.9 - 0.0881917 = 0.8118083
#[test]
fn adam_worked_example() {
    let adam = Adam {
        beta1: 0.5,
        beta2: 0.75,
        epsilon: 0.0,
        l2_reg: 0.0,
    };
    let (mut w, mut moments) = ([1.0], Moments::zeros(1, 1));
    adam.update(0.1, &mut w, &[2.0], &mut moments);
    assert_close("after one step", w[0], 0.9, 1e-12);
    adam.update(0.1, &mut w, &[1.0], &mut moments);
    assert_close("after two steps", w[0], 0.811_808_3, 1e-7);

    // l2_reg 0.5 and gradient 1.5 on w = 1 give the gradient 2 of the first case; epsilon 1 reduces the first step by a third.
    let adam = Adam {
        epsilon: 1.0,
        l2_reg: 0.5,
        ..adam
    };
    let (mut w, mut moments) = ([1.0], Moments::zeros(1, 1));
    adam.update(0.1, &mut w, &[1.5], &mut moments);
    assert_close("with decay", w[0], 1.0 - 0.2 / 3.0, 1e-12);
}

const NGP_ADAM: Adam = Adam {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-15,
    l2_reg: 1e-6,
};

#[test]
fn sparse_adam_is_dense_adam_where_all_rows_have_gradients() {
    let mut pcg = Pcg::new(9);
    let mut dense = pcg.uniform_vec(8, -1.0, 1.0);
    let mut sparse = dense.clone();
    let mut dense_moments = Moments::zeros(4, 2);
    let mut sparse_moments = dense_moments.clone();
    for _ in 0..5 {
        let mut gradients = pcg.uniform_vec(8, -1.0, 1.0);
        gradients[3] = 0.0; // One zero in a row does not make it untouched.
        NGP_ADAM.update(1e-2, &mut dense, &gradients, &mut dense_moments);
        let touched = NGP_ADAM.update_sparse(1e-2, &mut sparse, &gradients, &mut sparse_moments);
        assert_eq!(touched, [true; 4]);
    }
    assert_eq!(dense, sparse);
    assert_eq!(dense_moments, sparse_moments);
}

/// A row that is skipped twice between two updates ends as if there had been only those two steps.
#[test]
fn sparse_adam_skips_rows_without_gradients() {
    let gradients = [[1.0, -2.0], [0.0, 0.0], [0.0, 0.0], [0.5, 3.0]];
    let (mut skipping, mut skipping_moments) = ([0.3, 0.4], Moments::zeros(1, 2));
    let (mut direct, mut direct_moments) = ([0.3, 0.4], Moments::zeros(1, 2));
    for gradients in gradients {
        NGP_ADAM.update_sparse(1e-2, &mut skipping, &gradients, &mut skipping_moments);
    }
    for gradients in [gradients[0], gradients[3]] {
        NGP_ADAM.update(1e-2, &mut direct, &gradients, &mut direct_moments);
    }
    assert_eq!(skipping_moments.steps, [2]);
    assert_eq!((skipping, skipping_moments), (direct, direct_moments));
}

#[test]
fn lazy_average_is_the_eager_average() {
    const STEPS: u32 = 40;
    let mut pcg = Pcg::new(10);
    let mut weights = pcg.uniform_vec(10, -1.0, 1.0);
    let mut eager = weights.clone();
    let mut lazy = LazyEma::new(0.95, &weights, 2);
    let mut moments = Moments::zeros(5, 2);
    for step in 1..=STEPS {
        let mut gradients = vec![0.0; 10];
        for row in 0..5 {
            if pcg.unit() < 0.3 {
                gradients[2 * row] = pcg.uniform(-1.0, 1.0);
            }
        }
        let before = weights.clone();
        let touched = NGP_ADAM.update_sparse(0.1, &mut weights, &gradients, &mut moments);
        ema_update(0.95, &mut eager, &weights);
        for row in (0..5).filter(|&row| touched[row]) {
            lazy.catch_up(row, &before, step - 1);
            lazy.catch_up(row, &weights, step);
        }
    }
    assert!(lazy.last_step.iter().any(|&step| step < STEPS));
    for row in 0..5 {
        lazy.catch_up(row, &weights, STEPS);
    }
    for (lazy, (eager, weight)) in lazy.values.iter().zip(eager.iter().zip(&weights)) {
        assert_close("average", *lazy, *eager, 1e-12);
        assert!((eager - weight).abs() > 1e-6, "the average does not lag");
    }
}

#[test]
fn learning_rate_stairs() {
    let schedule = LearningRate {
        initial: 1e-2,
        decay_base: 0.33,
        decay_start: 20_000,
        decay_interval: 10_000,
        decay_end: 45_000,
    };
    for (step, stairs) in [
        (0, 0),
        (19_999, 0),
        (20_000, 1),
        (29_999, 1),
        (30_000, 2),
        (40_000, 3),
        (50_000, 3),
    ] {
        let expected = 1e-2 * 0.33_f64.powi(stairs);
        assert_close("rate", schedule.at(step), expected, 1e-15);
    }
}

// Sampling

#[test]
fn stratified_samples_fill_the_ray() {
    // Points 2, 3, 4, 5, 6; bins [2, 2.5], [2.5, 3.5], [3.5, 4.5], [4.5, 5.5], [5.5, 6].
    let (t, dt) = stratified(2.0, 6.0, 5, None, LAST_DT);
    assert_eq!(t, [2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(dt, [1.0, 1.0, 1.0, 1.0, LAST_DT]);
    let (t, dt) = stratified(2.0, 6.0, 5, Some(&[0.5, 0.0, 0.5, 0.75, 0.5]), LAST_DT);
    assert_eq!(t, [2.25, 2.5, 4.0, 5.25, 5.75]);
    assert_eq!(dt, [0.25, 1.5, 1.25, 0.5, LAST_DT]);

    let mut pcg = Pcg::new(11);
    let jitter = pcg.uniform_vec(64, 0.0, 1.0);
    let (t, dt) = stratified(0.5, 3.0, 64, Some(&jitter), LAST_DT);
    assert!(dt.iter().all(|&dt| dt > 0.0));
    assert_close("sum of steps", dt[..63].iter().sum(), t[63] - t[0], 1e-12);
}

/// Return a march with steps of 1/64 in a box of width 1, and a ray along an axis, a third of a cell off the cell faces.
fn axis_march() -> (RayMarch, Ray) {
    let march = RayMarch {
        box_min: [0.0; 3],
        box_max: [1.0; 3],
        dt_min: 1.0 / 64.0,
        dt_max: 1.0,
        cone_angle: 0.0,
        max_samples: 1024,
    };
    let ray = Ray {
        origin: [-0.5, 0.54, 0.54],
        direction: [3.0, 0.0, 0.0],
        t_min: 0.0,
        t_max: 100.0,
    };
    (march, ray)
}

#[test]
fn march_through_full_and_empty_grids() {
    let (march, ray) = axis_march();
    let full = OccupancyGrid::full(8, 1);
    let samples = march.march(&full, &ray, 0.5);
    assert_eq!(samples.len(), 64);
    let first = MarchSample {
        t: 0.5 + 0.5 / 64.0,
        dt: 1.0 / 64.0,
        position: [0.5 / 64.0, 0.54, 0.54],
    };
    assert_eq!(samples[0], first);
    assert!(
        march
            .march(&OccupancyGrid::empty(8, 1), &ray, 0.5)
            .is_empty()
    );

    let count = |march: RayMarch, ray: Ray| march.march(&full, &ray, 0.5).len();
    // Half of the box lies between t_min = 0.75 and t_max = 1.25.
    let (t_min, t_max) = (0.75, 1.25);
    assert_eq!(
        count(
            march,
            Ray {
                t_min,
                t_max,
                ..ray
            }
        ),
        32
    );
    let origin = [-0.5, 1.5, 0.54];
    assert_eq!(count(march, Ray { origin, ..ray }), 0, "misses the box");
    let direction = [-3.0, 0.0, 0.0];
    assert_eq!(count(march, Ray { direction, ..ray }), 0, "points away");
    let max_samples = 10;
    assert_eq!(
        count(
            RayMarch {
                max_samples,
                ..march
            },
            ray
        ),
        10
    );
}

/// With one slab of cells set, the samples are those of the full grid that lie in the slab, in both directions along the axis
/// and along a slanted ray (8 steps across the slab on the axis, 9.9 slanted): crossing empty cells keeps the step lattice.
/// Without jitter, the samples on the axis lie exactly on cell faces.
#[test]
fn march_skips_empty_cells_on_the_same_lattice() {
    let (march, forward) = axis_march();
    let backward = Ray {
        origin: [1.5, 0.54, 0.54],
        direction: [-0.2, 0.0, 0.0],
        ..forward
    };
    let slanted = Ray {
        origin: [-0.1, 0.2, 0.9],
        direction: [1.0, 0.4, -0.6],
        ..forward
    };
    for (jitter, slab_x, n_slanted) in [(0.0, 4, 10), (0.0, 5, 10), (0.25, 4, 10), (0.25, 5, 9)] {
        let mut slab = OccupancyGrid::empty(8, 1);
        for i in 0..64 {
            let index = slab.index(0, [slab_x, i % 8, i / 8]);
            slab.set(index, true);
        }
        for (ray, n_expected) in [(forward, 8), (backward, 8), (slanted, n_slanted)] {
            let all = march.march(&OccupancyGrid::full(8, 1), &ray, jitter);
            let in_slab: Vec<_> = all
                .into_iter()
                .filter(|s| slab.cell(s.position, 0)[0] == slab_x)
                .collect();
            assert_eq!(march.march(&slab, &ray, jitter), in_slab);
            assert_eq!(in_slab.len(), n_expected);
        }
    }
}

/// Steps are t / 16, clamped to their bounds, and far from the centre only coarse cells matter.
#[test]
fn march_with_a_cone_and_cascades() {
    let march = RayMarch {
        box_min: [-1.5; 3],
        box_max: [2.5; 3],
        cone_angle: 1.0 / 16.0,
        dt_min: 1.0 / 64.0,
        dt_max: 0.125,
        max_samples: 1024,
    };
    let ray = Ray {
        origin: [-1.5, 0.54, 0.54],
        direction: [1.0, 0.0, 0.0],
        t_min: 0.0,
        t_max: 100.0,
    };
    let full = OccupancyGrid::full(8, 3);
    let samples = march.march(&full, &ray, 0.0);
    assert_eq!(samples[0].dt, 1.0 / 64.0);
    assert_eq!(samples[samples.len() - 1].dt, 0.125);
    for pair in samples.windows(2) {
        assert_eq!(pair[1].t, pair[0].t + pair[0].dt);
        assert_eq!(pair[0].dt, (pair[0].t / 16.0).clamp(1.0 / 64.0, 0.125));
    }

    // Only cascade 2 is set. 2 R dt is 2 at dt = 0.125, which selects cascade 2 from there on; before that, the position
    // selects it while it is outside [-0.5, 1.5].
    let mut coarse = OccupancyGrid::empty(8, 3);
    (2 * 512..3 * 512).for_each(|index| coarse.set(index, true));
    let expected: Vec<_> = samples
        .into_iter()
        .filter(|s| s.position[0] <= -0.5 || s.position[0] >= 1.5 || s.dt >= 0.125)
        .collect();
    assert_eq!(march.march(&coarse, &ray, 0.0), expected);
}

#[test]
fn occupancy_cells_and_cascades() {
    let grid = OccupancyGrid::empty(8, 3);
    assert_eq!(grid.index(1, [3, 2, 1]), 512 + 64 + 16 + 3);
    // Cascade 1 spans [-0.5, 1.5]: 0.99 is (0.49 / 2 + 0.5) * 8 = 5.96.
    assert_eq!(grid.cell([0.99, 0.0, 0.5], 0), [7, 0, 4]);
    assert_eq!(grid.cell([0.99, 0.0, 0.5], 1), [5, 2, 4]);
    let mips = [0.5, 0.99, 1.0, 1.49, 1.5, 9.0].map(|x| grid.mip_from_position([x, 0.5, 0.5]));
    assert_eq!(mips, [0, 0, 1, 1, 2, 2]);
    // 2 R dt = 0.8, 1, 1.6, 2, 32.
    let mips = [0.05, 0.0625, 0.1, 0.125, 2.0].map(|dt| grid.mip_from_dt(dt));
    assert_eq!(mips, [0, 1, 1, 2, 2]);
}

#[test]
fn occupancy_update_decays_raises_and_thresholds() {
    let mut grid = OccupancyGrid::empty(4, 1);
    grid.values[0] = 1.0;
    grid.values[1] = 1.0;
    grid.values[2] = -1.0;
    grid.values[3] = 1.0;
    let mut fresh = vec![Some(0.0); 64];
    fresh[1] = Some(2.0);
    fresh[2] = Some(5.0);
    fresh[3] = None;
    grid.update(&fresh, 0.5, 100.0);
    assert_eq!(grid.values[..5], [0.5, 2.0, -1.0, 1.0, 0.0]);
    // Mean (0.5 + 2 + 0 + 1) / 64 = 0.0546875.
    assert_close("mean", grid.mean().into(), 0.054_687_5, 1e-9);
    let bits = |grid: &OccupancyGrid| -> Vec<usize> { (0..64).filter(|&i| grid.get(i)).collect() };
    assert_eq!(bits(&grid), [0, 1, 3]);
    // The cell is neither visited nor above the threshold of 0.02, which is now the smaller of the two.
    fresh.fill(None);
    grid.values[4] = 0.02;
    grid.values[5] = 0.021;
    grid.update(&fresh, 0.5, 0.02);
    assert_eq!(bits(&grid), [0, 1, 3, 5]);
}

/// The bit is set in the coarse cell that contains the centre of the fine cell.
#[test]
fn occupancy_pooling_covers_the_same_place() {
    for u in [[0.03, 0.5, 0.97], [0.3, 0.72, 0.4]] {
        let mut grid = OccupancyGrid::empty(8, 3);
        let index = grid.index(0, grid.cell(u, 0));
        grid.set(index, true);
        grid.pool_bits();
        let on = (0..3 * 512).filter(|&i| grid.get(i)).count();
        assert_eq!(on, 3);
        assert!((0..3).all(|cascade| grid.is_occupied(u, cascade)));
    }
}

// Metrics and primitives

#[test]
fn psnr_of_a_known_error() {
    // All values differ by 51/255 = 0.2: -20 log10(0.2) = 13.979 dB. A difference below half a grey level is rounded away.
    let a = vec![100.0 / 255.0; 12];
    let b = vec![151.3 / 255.0; 12];
    assert_close("psnr", metrics::psnr(&a, &b), 13.979_400_1, 1e-6);
    assert_eq!(metrics::psnr(&a, &[100.3 / 255.0; 12]), f64::INFINITY);
}

#[test]
fn ssim_of_known_images() {
    let mut pcg = Pcg::new(12);
    let a = pcg.uniform_vec(16 * 13 * 3, 0.0, 1.0);
    assert_close("identical", metrics::ssim(&a, &a, 16, 13), 1.0, 1e-12);
    let b = pcg.uniform_vec(16 * 13 * 3, 0.0, 1.0);
    assert!(metrics::ssim(&a, &b, 16, 13) < 0.5, "unrelated images");

    // Constant 0.4 against constant 0.6: no variance, (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4).
    let (a, b) = (vec![0.4; 363], vec![0.6; 363]);
    assert_close(
        "constant",
        metrics::ssim(&a, &b, 11, 11),
        0.4801 / 0.5201,
        1e-12,
    );

    // One white pixel in the middle of the only window, against black: with k the weight of that pixel, mu = k and
    // var = k - k^2, so C1 / (k^2 + C1) * C2 / (k - k^2 + C2).
    let taps: f64 = (1..=5).map(|i| (-f64::from(i * i) / 4.5).exp()).sum();
    let k = (1.0 / (1.0 + 2.0 * taps)).powi(2);
    let mut white = vec![0.0; 363];
    white[(5 * 11 + 5) * 3..][..3].fill(1.0);
    let expected = 1e-4 / (k * k + 1e-4) * 9e-4 / (k - k * k + 9e-4);
    let actual = metrics::ssim(&white, &[0.0; 363], 11, 11);
    assert_close("one pixel", actual / expected, 1.0, 1e-9);
}

#[test]
fn primitives_worked_examples() {
    let scanned = primitives::exclusive_scan(&[3, 0, 2, 5]);
    assert_eq!(scanned, (vec![0, 3, 3, 5], 10));
    assert_eq!(primitives::exclusive_scan(&[]), (vec![], 0));
    let (order, offsets) = primitives::bin(&[2, 0, 2, 3, 0], 5);
    assert_eq!(order, [1, 4, 0, 2, 3]);
    assert_eq!(offsets, [0, 2, 2, 4, 5, 5]);
}
