//! The tiled network: forward, backward and weight gradients, in both variants of its matrix product.

use std::sync::Arc;

use kiln::gpu::Gpu;
use kiln::network::{Backward, Batch, Layout, Network, Rows, SavedActivations, Tiled, Weights};
use kiln::step_state::StepState;

use crate::reference::network::fused::Layer;
use crate::reference::network::tiled::SkipMlp;
use crate::reference::random::Pcg;
use crate::support::{
    Rig, assert_close, on_both_devices, on_device, pack_layers, random_rows, strided,
};

struct Case {
    dims: &'static [u32],
    skips: &'static [u32],
    biases: bool,
    /// Whether output 0 is separate from the others, which are rectified.
    apart: bool,
    n: usize,
    /// Index of the network's first f32 in the slab.
    base: u32,
    /// Number of columns before and after those of the matrices.
    around: u32,
}

fn slab(layout: &Layout, layers: &[Layer]) -> Vec<f64> {
    let mut slab = vec![0.0; (layout.base + layout.slab_len()) as usize + 8];
    pack_layers(layout, 0, layers, &mut slab);
    slab
}

/// Return inputs for which no rectified pre-activation is so close to zero that rounding could change its sign.
fn decided(mlp: &SkipMlp, layers: &[Layer], n: usize, pcg: &mut Pcg) -> Vec<Vec<f64>> {
    let is_decided = |input: &Vec<f64>| {
        let (_, sums) = mlp.forward(layers, input);
        sums.iter().enumerate().all(|(k, sums)| {
            let far = |(o, s): (usize, &f64)| !mlp.is_rectified(k, o) || s.abs() > 1e-4;
            sums.iter().enumerate().all(far)
        })
    };
    let width = mlp.dims[0];
    std::iter::repeat_with(|| pcg.uniform_vec(width, -1.0, 1.0))
        .filter(is_decided)
        .take(n)
        .collect()
}

fn check(gpu: &Arc<Gpu>, case: &Case) {
    let mut pcg = Pcg::new(case.n as u64);
    let mlp = SkipMlp {
        dims: case.dims.iter().map(|&d| d as usize).collect(),
        skips: case.skips.iter().map(|&s| s as usize).collect(),
        biases: case.biases,
        rectified_outputs: case.apart,
    };
    let layers = mlp.random(&mut pcg);
    let layout = Layout {
        skips: case.skips.to_vec(),
        separates_first_output: case.apart,
        ..Layout::new(case.dims, case.biases, case.base)
    };
    let network = Network::Tiled(Tiled::new(gpu.profile(), layout.clone(), case.apart));
    let (n, last) = (case.n, layout.n_layers() - 1);
    let inputs = decided(&mlp, &layers, n, &mut pcg);
    let forwards: Vec<_> = inputs.iter().map(|x| mlp.forward(&layers, x)).collect();
    let rig = Rig::new(gpu, 0, 0, n);
    let counts = &rig.counts;
    let values = slab(&layout, &layers);
    let weights = Weights {
        values: rig.floats(&values),
        transposed: rig.zeros(values.len()),
    };
    rig.run(|stage| network.transpose(stage, &weights, None));
    let activations = network
        .activations(gpu, "test", n as u64, SavedActivations::Gradients)
        .unwrap();
    let around = case.around;

    let padded = |row: &[f64], width: u32| {
        let mut row = row.to_vec();
        row.resize(width as usize, 0.0);
        row
    };
    let in_width = case.dims[0].next_multiple_of(4);
    let in_stride = in_width + 2 * around;
    let rows: Vec<Vec<f64>> = inputs.iter().map(|x| padded(x, in_width)).collect();
    let input = rig.buffer(&strided(&rows, in_stride, around, f32::NAN));
    let input = Rows {
        buffer: &input,
        stride: in_stride,
        offset: around,
    };

    // Outputs in the order of the slab: the first separate, then the others, in whole groups of four.
    let out_width = layout.rows(last);
    let place = |row: &[f64]| {
        let mut placed = vec![0.0; out_width as usize];
        for (o, v) in row.iter().enumerate() {
            placed[layout.row_of(last, o as u32) as usize] = *v;
        }
        placed
    };
    let out_stride = out_width + 2 * around;
    let output = rig.buffer(&strided(&vec![vec![]; n], out_stride, 0, 9.0));
    let to = Rows {
        buffer: &output,
        stride: out_stride,
        offset: around,
    };
    let forward = |to: Rows<'_>, keep: SavedActivations| {
        let scratch = network.activations(gpu, "test", n as u64, keep).unwrap();
        let activations = if keep == SavedActivations::Nothing {
            &scratch
        } else {
            &activations
        };
        rig.run(|stage| {
            network.forward(
                stage,
                Batch::of(counts, StepState::KEPT),
                &weights,
                input,
                to,
                activations,
            )
        });
    };
    let outputs: Vec<Vec<f64>> = forwards
        .iter()
        .map(|(inputs, _)| place(&inputs[last + 1]))
        .collect();
    let expected: Vec<f64> = strided(&outputs, out_stride, around, 9.0)[..n * out_stride as usize]
        .iter()
        .map(|&v| f64::from(v))
        .collect();
    for keep in [SavedActivations::Nothing, SavedActivations::Gradients] {
        forward(to, keep);
        let got: Vec<f32> = rig.read(&output, n * out_stride as usize);
        assert_close(&format!("output, {keep:?}"), &got, &expected, 3e-6);
    }

    let narrow = rig.buffer(&strided(&vec![vec![]; n], 4, 0, 9.0));
    forward(Rows::of(&narrow, 4), SavedActivations::Nothing);
    let expected: Vec<f64> = outputs.iter().flat_map(|row| row[..4].to_vec()).collect();
    assert_close("first outputs", &rig.read(&narrow, 4 * n), &expected, 3e-6);

    let d_outputs = random_rows(&mut pcg, n, mlp.dims[last + 1], 1.0);
    let d_first: Vec<f64> = pcg.uniform_vec(n.next_multiple_of(512), -1.0, 1.0);
    let mut d_layers = mlp.zeros();
    let d_inputs: Vec<Vec<f64>> = forwards
        .iter()
        .zip(&d_outputs)
        .zip(inputs.iter().zip(&d_first))
        .map(|((f, d), (x, first))| {
            let mut d_input = mlp.backward(&layers, f, d, &mut d_layers);
            // The input is treated as the output of a rectifier.
            for (d, x) in d_input.iter_mut().zip(x) {
                *d *= f64::from(*x > 0.0);
            }
            d_input[0] += first;
            d_input
        })
        .collect();
    let d_rows: Vec<Vec<f64>> = d_outputs.iter().map(|d| place(d)).collect();
    let d_output = rig.buffer(&strided(&d_rows, out_stride, around, f32::NAN));
    let d_stride = in_width + 4;
    let d_input = rig.buffer(&strided(&vec![vec![]; n], d_stride, 0, 9.0));
    let d_first = rig.floats(&d_first);
    let gradients = rig.buffer(&vec![0.5_f32; values.len()]);
    let backward = Backward {
        d_output: Rows {
            buffer: &d_output,
            stride: out_stride,
            offset: around,
        },
        d_first_input: Some(&d_first),
        d_input: Some((Rows::of(&d_input, d_stride), case.dims[0])),
        rectified_input: Some(input),
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
    let n_inputs = case.dims[0] as usize;
    let got: Vec<f32> = rig
        .read::<f32>(&d_input, n * d_stride as usize)
        .chunks_exact(d_stride as usize)
        .flat_map(|row| {
            assert_eq!(row[in_width as usize..], [9.0; 4], "columns behind");
            row[..n_inputs].to_vec()
        })
        .collect();
    assert_close("d_input", &got, &d_inputs.concat(), 1e-5);
    let expected: Vec<f64> = slab(&layout, &d_layers).iter().map(|g| g + 0.5).collect();
    let got: Vec<f32> = rig.read(&gradients, values.len());
    assert_close("weight gradients", &got, &expected, 1e-5);
}

#[test]
fn wide_layers_with_a_skip_and_the_first_output_apart() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[63, 128, 128, 128, 65],
                skips: &[2],
                biases: true,
                apart: true,
                n: 530,
                base: 16,
                around: 0,
            },
        );
    });
}

#[test]
fn a_skip_into_the_output_layer() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[10, 72, 72, 5],
                skips: &[1, 2],
                biases: true,
                apart: false,
                n: 70,
                base: 0,
                around: 4,
            },
        );
    });
}

#[test]
fn a_view_branch_between_other_columns() {
    on_both_devices(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[155, 64, 3],
                skips: &[],
                biases: true,
                apart: false,
                n: 200,
                base: 64,
                around: 4,
            },
        );
    });
}

#[test]
fn without_biases() {
    on_device(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[32, 260, 16],
                skips: &[],
                biases: false,
                apart: false,
                n: 65,
                base: 0,
                around: 0,
            },
        );
    });
}

#[test]
fn density_and_color_alone() {
    on_device(|gpu| {
        check(
            gpu,
            &Case {
                dims: &[39, 96, 96, 4],
                skips: &[],
                biases: true,
                apart: true,
                n: 33,
                base: 4,
                around: 0,
            },
        );
    });
}
