//! The frequency encoding of positions, and its gradient.

use std::sync::Arc;

use kiln::config::FrequencyConfig;
use kiln::encoding::Frequency;
use kiln::gpu::Gpu;
use kiln::network::{Batch, Rows};
use kiln::step_state::StepState;

use crate::reference::encoding::frequency;
use crate::reference::random::Pcg;
use crate::support::{Rig, assert_close, on_both_devices, samples, strided};

/// Check 300 positions, which are encoded as `scale p + offset`.
fn check(
    gpu: &Arc<Gpu>,
    config: &FrequencyConfig,
    reference: &frequency::Frequency,
    tolerance: f64,
) {
    let mut pcg = Pcg::new(5);
    let encoding = Frequency::new(config, None);
    assert_eq!(encoding.n_outputs() as usize, reference.n_outputs());
    let positions: Vec<[f64; 3]> = (0..300).map(|_| pcg.uniform3(0.0, 1.0)).collect();
    let n = positions.len();
    let (scale, offset) = (config.scale.unwrap(), config.offset.unwrap());
    // Computed in f32, as on the device.
    let encoded: Vec<[f64; 3]> = positions
        .iter()
        .map(|p| [0, 1, 2].map(|i| f64::from(scale * p[i] as f32 + offset[i])))
        .collect();
    let rig = Rig::new(gpu, 0, 0, n);
    let samples = rig.buffer(&samples(&positions, 0.0));
    let stride = encoding.n_outputs().next_multiple_of(4) + 4;
    let features = rig.buffer(&strided(&vec![vec![]; n], stride, 0, 9.0));
    let rows = Rows::of(&features, stride);
    rig.run(|stage| {
        encoding.forward(
            stage,
            Batch::of(&rig.counts, StepState::KEPT),
            &samples,
            rows,
        )
    });
    let expected: Vec<f64> = encoded
        .iter()
        .flat_map(|&x| {
            let mut row = reference.forward(x);
            row.resize(stride as usize, 9.0); // other columns do not change
            row
        })
        .collect();
    let actual: Vec<f32> = rig.read(&features, n * stride as usize);
    assert_close("features", &actual, &expected, tolerance);

    let d_out: Vec<Vec<f64>> = (0..n)
        .map(|_| pcg.uniform_vec(reference.n_outputs(), -1.0, 1.0))
        .collect();
    let d_features = rig.buffer(&strided(&d_out, stride, 0, f32::NAN));
    let d_position = rig.buffer(&vec![[7.0_f32; 4]; n]);
    let rows = Rows::of(&d_features, stride);
    rig.run(|stage| {
        encoding.d_position(
            stage,
            Batch::of(&rig.counts, StepState::KEPT),
            &samples,
            rows,
            &d_position,
        )
    });
    let expected: Vec<f64> = encoded
        .iter()
        .zip(&d_out)
        .flat_map(|(&x, d)| {
            let [x, y, z] = reference.backward(x, d).map(|g| g * f64::from(scale));
            [x, y, z, 0.0]
        })
        .collect();
    let actual: Vec<f32> = rig.read(&d_position, 4 * n);
    let largest = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let relative = |v: f64| v / largest;
    let actual: Vec<f32> = actual
        .iter()
        .map(|&v| relative(f64::from(v)) as f32)
        .collect();
    let expected: Vec<f64> = expected.into_iter().map(relative).collect();
    assert_close("d_position", &actual, &expected, tolerance);
}

#[test]
fn positions_by_frequencies() {
    on_both_devices(|gpu| {
        for (n, include_input, max_log2, tolerance) in [
            (10, true, None, 5e-5),
            (4, false, None, 1e-5),
            (20, true, Some(8.0), 5e-5),
        ] {
            let config = FrequencyConfig {
                n_frequencies: n,
                include_input,
                max_log2,
                scale: Some(3.0),
                offset: Some([-1.5, -1.25, 0.5]),
            };
            let reference = match max_log2 {
                Some(max) => frequency::Frequency::log_spaced(n, max, include_input),
                None => frequency::Frequency::powers_of_two(n, include_input),
            };
            check(gpu, &config, &reference, tolerance);
        }
    });
}
