//! The fused network: forward, backward and weight gradients.

use std::sync::Arc;

use kiln::gpu::Gpu;
use kiln::network::{Backward, Batch, Fused, Layout, Network, Rows, SavedActivations, Weights};
use kiln::step_state::StepState;

use crate::reference::network::fused::{Layer, Mlp};
use crate::reference::random::Pcg;
use crate::support::{
    Rig, assert_close, on_both_devices, on_device, pack_layers, random_rows, strided,
};

struct Case {
    dims: &'static [u32],
    biases: bool,
    n: usize,
    /// Index of the network's first f32 in the slab.
    base: u32,
    /// Number of columns before and after those of the matrices.
    around: u32,
    /// Whether only the first output is computed, written as four columns, as for the raw density of marched samples.
    density_only: bool,
}

/// Return a slab that contains `layers`, with the value `elsewhere` before and after.
fn pack(network: &Layout, base: u32, layers: &[Layer], elsewhere: f64) -> Vec<f64> {
    let (base, len) = (base as usize, network.slab_len() as usize);
    let mut slab = vec![elsewhere; base + len + 8];
    slab[base..base + len].fill(0.0);
    pack_layers(network, 0, layers, &mut slab);
    slab
}

/// Return inputs for which no pre-activation is so close to zero that rounding could change its sign, which would change the
/// gradient.
fn decided_inputs(mlp: &Mlp, layers: &[Layer], n: usize, pcg: &mut Pcg) -> Vec<Vec<f64>> {
    let decided = |input: &Vec<f64>| {
        let values = mlp.forward(layers, input).values;
        layers[..layers.len() - 1]
            .iter()
            .zip(&values)
            .all(|(layer, h)| {
                layer
                    .weights
                    .chunks_exact(h.len())
                    .enumerate()
                    .all(|(o, row)| {
                        let dot: f64 = row.iter().zip(h).map(|(w, h)| w * h).sum();
                        (dot + layer.biases.get(o).copied().unwrap_or(0.0)).abs() > 1e-4
                    })
            })
    };
    let width = mlp.dims[0];
    std::iter::repeat_with(|| pcg.uniform_vec(width, -1.0, 1.0))
        .filter(decided)
        .take(n)
        .collect()
}

fn check(gpu: &Arc<Gpu>, case: &Case) {
    let mut pcg = Pcg::new(case.n as u64);
    let mlp = Mlp {
        dims: case.dims.iter().map(|&d| d as usize).collect(),
        biases: case.biases,
    };
    let layers = mlp.random(&mut pcg);
    let layout = Layout::new(case.dims, case.biases, case.base);
    let network = Network::Fused(Fused::new(gpu.profile(), layout.clone(), false));
    let (n, last) = (case.n, layout.n_layers() - 1);
    let inputs = decided_inputs(&mlp, &layers, n, &mut pcg);
    let forwards: Vec<_> = inputs.iter().map(|x| mlp.forward(&layers, x)).collect();
    let rig = Rig::new(gpu, 0, 0, n);
    let counts = &rig.counts;
    let slab = pack(&layout, case.base, &layers, f64::NAN);
    let weights = Weights {
        values: rig.floats(&slab),
        transposed: rig.zeros(slab.len()),
    };
    rig.run(|stage| network.transpose(stage, &weights, None));
    let activations = network
        .activations(gpu, "test", n as u64, SavedActivations::Gradients)
        .unwrap();
    let around = case.around;

    // The bias column may contain any value: the kernels write the 1 themselves.
    let padded = |rows: &[Vec<f64>], width: u32, bias_at: Option<usize>| -> Vec<Vec<f64>> {
        let pad = |row: &Vec<f64>| {
            let mut row = row.clone();
            row.resize(width as usize, 0.0);
            if let Some(at) = bias_at {
                row[at] = 3.0;
            }
            row
        };
        rows.iter().map(pad).collect()
    };
    let bias_at = case.biases.then_some(mlp.dims[0]);
    let in_stride = layout.width(0) + 2 * around;
    let input = rig.buffer(&strided(
        &padded(&inputs, layout.width(0), bias_at),
        in_stride,
        around,
        f32::NAN,
    ));
    let input = Rows {
        buffer: &input,
        stride: in_stride,
        offset: around,
    };

    let out_width = layout.rows(last);
    let out_stride = out_width + 2 * around;
    let output = rig.buffer(&strided(&vec![vec![]; n], out_stride, 0, 9.0));
    let rows = Rows {
        buffer: &output,
        stride: out_stride,
        offset: around,
    };
    rig.run(|stage| {
        network.forward(
            stage,
            Batch::of(counts, StepState::KEPT),
            &weights,
            input,
            rows,
            &activations,
        )
    });
    let outputs: Vec<Vec<f64>> = forwards.iter().map(|f| f.output().to_vec()).collect();
    let expected = strided(&padded(&outputs, out_width, None), out_stride, around, 9.0);
    let expected: Vec<f64> = expected[..n * out_stride as usize]
        .iter()
        .map(|&v| f64::from(v))
        .collect();
    assert_close(
        "output",
        &rig.read(&output, n * out_stride as usize),
        &expected,
        2e-6,
    );

    if case.density_only {
        let narrow = rig.buffer(&strided(&vec![vec![]; n], 4, 0, 9.0));
        let nothing = SavedActivations::Nothing;
        let unsaved = network.activations(gpu, "test", n as u64, nothing);
        let unsaved = unsaved.unwrap();
        rig.run(|stage| {
            network.forward(
                stage,
                Batch::of(counts, StepState::KEPT),
                &weights,
                input,
                Rows::of(&narrow, 4),
                &unsaved,
            )
        });
        let expected: Vec<f64> = outputs.iter().flat_map(|row| row[..4].to_vec()).collect();
        assert_close("first outputs", &rig.read(&narrow, 4 * n), &expected, 2e-6);
    }

    let d_outputs = random_rows(&mut pcg, n, mlp.dims[last + 1], 1.0);
    let d_first: Vec<f64> = pcg.uniform_vec(n.next_multiple_of(512), -1.0, 1.0);
    let mut d_layers = mlp.zeros();
    let d_inputs: Vec<Vec<f64>> = forwards
        .iter()
        .zip(&d_outputs)
        .zip(&d_first)
        .map(|((f, d), first)| {
            let mut d_input = mlp.backward(&layers, f, d, &mut d_layers);
            d_input[0] += first;
            d_input
        })
        .collect();
    let d_output = rig.buffer(&strided(
        &padded(&d_outputs, out_width, None),
        out_stride,
        around,
        f32::NAN,
    ));
    let d_output = Rows {
        buffer: &d_output,
        stride: out_stride,
        offset: around,
    };
    let d_stride = layout.width(0) + 4;
    let d_input = rig.buffer(&strided(&vec![vec![]; n], d_stride, 0, 9.0));
    let d_first = rig.floats(&d_first);
    let gradients = rig.buffer(&vec![0.5_f32; slab.len()]);
    let backward = Backward {
        d_output,
        d_first_input: Some(&d_first),
        d_input: Some((Rows::of(&d_input, d_stride), case.dims[0])),
        rectified_input: None,
        weight_gradients: Some(&gradients),
        overwrite: false,
    };
    rig.run(|stage| {
        network.backward(
            stage,
            Batch::of(counts, StepState::KEPT),
            &weights,
            input,
            &activations,
            &backward,
        )
    });
    let expected: Vec<f64> = d_inputs
        .into_iter()
        .flat_map(|mut row| {
            row.resize(d_stride as usize, 9.0);
            row
        })
        .collect();
    assert_close(
        "d_input",
        &rig.read(&d_input, n * d_stride as usize),
        &expected,
        1e-5,
    );
    // Gradients are added to the initial 0.5; the rest of the slab does not change.
    let expected: Vec<f64> = pack(&layout, case.base, &d_layers, 0.0)
        .iter()
        .map(|g| g + 0.5)
        .collect();
    assert_close(
        "weight gradients",
        &rig.read(&gradients, slab.len()),
        &expected,
        1e-5,
    );
}

#[test]
fn one_hidden_layer() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[32, 64, 16],
                biases: false,
                n: 777,
                base: 0,
                around: 0,
                density_only: true,
            },
        );
    });
}

#[test]
fn two_hidden_layers_behind_other_weights_in_wider_rows() {
    on_device(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[32, 64, 64, 3],
                biases: false,
                n: 130,
                base: 48,
                around: 4,
                density_only: false,
            },
        );
    });
}

#[test]
fn biases_and_widths_that_are_not_padded_alike() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[28, 32, 32, 3],
                biases: true,
                n: 513,
                base: 0,
                around: 0,
                density_only: false,
            },
        );
    });
}

#[test]
fn biases_with_more_outputs_than_inputs() {
    on_device(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[7, 16, 33],
                biases: true,
                n: 65,
                base: 16,
                around: 8,
                density_only: false,
            },
        );
    });
}

#[test]
fn weights_in_a_slab_too_large_for_a_uniform_binding() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[28, 32, 16],
                biases: true,
                n: 200,
                // There are 64 KiB of other weights before the network.
                base: 1 << 14,
                around: 0,
                density_only: false,
            },
        );
    });
}

#[test]
fn no_samples_change_nothing() {
    on_device(|gpu| {
        let layout = Layout::new(&[32, 64, 16], false, 0);
        let network = Network::Fused(Fused::new(gpu.profile(), layout.clone(), false));
        let rig = Rig::new(gpu, 0, 0, 0);
        let len = layout.slab_len() as usize;
        let weights = Weights {
            values: rig.zeros(len),
            transposed: rig.zeros(len),
        };
        let gradients = rig.buffer(&vec![0.5_f32; len]);
        let activations = network
            .activations(gpu, "test", 512, SavedActivations::Gradients)
            .unwrap();
        let (input, output) = (rig.zeros(512 * 32), rig.buffer(&vec![9.0_f32; 512 * 16]));
        let (input, rows) = (Rows::of(&input, 32), Rows::of(&output, 16));
        let backward = Backward {
            d_output: rows,
            d_first_input: None,
            d_input: None,
            rectified_input: None,
            weight_gradients: Some(&gradients),
            overwrite: false,
        };
        rig.run(|stage| {
            let batch = Batch::of(&rig.counts, StepState::KEPT);
            network.forward(stage, batch, &weights, input, rows, &activations)?;
            network.backward(stage, batch, &weights, input, &activations, &backward)
        });
        assert!(rig.read::<f32>(&output, 512 * 16).iter().all(|&v| v == 9.0));
        assert!(rig.read::<f32>(&gradients, len).iter().all(|&v| v == 0.5));
    });
}
