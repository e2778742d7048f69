//! Distillation: the points that are drawn, the teacher's outputs, and the loss against the reference.

use std::sync::Arc;

use kiln::config::{Config, ResolvedConfig, SceneHints};
use kiln::distillation::{Distiller, Teacher};
use kiln::field::{Field, FieldInputs, FieldParameters};
use kiln::gpu::{AdapterClass, Gpu, Planner, Stage};
use kiln::network::SavedActivations;
use kiln::network::binned::NO_NETWORK;
use kiln::pass::{Capacity, Pass};
use kiln::step_state::StepState;

use crate::reference::compositing::{DensityActivation, RgbActivation};
use crate::reference::distillation::DistillationLoss;
use crate::reference::random::Pcg;
use crate::support::{Rig, assert_close, on_device, to_f64};

fn config(preset: &str, overrides: &[&str]) -> ResolvedConfig {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let config = Config::preset(preset, &overrides).unwrap();
    config.resolve(SceneHints::default(), AdapterClass::Software)
}

/// Return a field with random weights and tables.
fn random(gpu: &Arc<Gpu>, config: &ResolvedConfig, pcg: &mut Pcg) -> (Field, FieldParameters) {
    let field = Field::of_passes(gpu.profile(), config).unwrap().remove(0);
    let parameters = FieldParameters::new(gpu, &field).unwrap();
    let mut fill = |buffer: &kiln::gpu::Buffer, bound: f64| {
        let n = buffer.bytes() as usize / 4;
        let values: Vec<f32> = (0..n).map(|_| pcg.uniform(-bound, bound) as f32).collect();
        gpu.write(buffer, 0, &values);
    };
    fill(&parameters.weights.values, 0.6);
    for table in &parameters.tables {
        fill(table, 1.0);
    }
    (field, parameters)
}

const SIDE: usize = 16;
/// Number of cells of the student's grid along each axis, and the grid's box.
const CELLS: usize = 3;
const LOW: [f32; 3] = [0.1, 0.2, 0.05];
const HIGH: [f32; 3] = [0.9, 1.0, 0.7];

/// Return whether `x` lies, within rounding errors, in box `index` of a grid of `n` boxes per axis between `low` and `high`,
/// with x varying fastest.
fn lies_in(x: [f32; 4], index: usize, n: usize, low: [f32; 3], high: [f32; 3]) -> bool {
    let at = [index % n, index / n % n, index / (n * n)];
    (0..3).all(|a| {
        let share = (x[a] - low[a]) / (high[a] - low[a]) * n as f32;
        (share - at[a] as f32) > -1e-4 && (share - at[a] as f32) < 1.0 + 1e-4
    })
}

fn check(gpu: &Arc<Gpu>, activation: &str, density: DensityActivation, cascades: usize) {
    const POINTS: u32 = 1500;
    const STEP: u32 = 2;
    const RAYS: u32 = 90;
    let mut pcg = Pcg::new(23);
    let teacher = config(
        "ngp-small",
        &[
            "passes.field.position_encoding.hash_grid.n_levels=2",
            "passes.field.position_encoding.hash_grid.log2_hashmap_size=8",
            "passes.field.position_encoding.hash_grid.base_resolution=2",
            "passes.field.position_encoding.hash_grid.finest_resolution=4",
        ],
    );
    let (field, parameters) = random(gpu, &teacher, &mut pcg);
    // Some cells have no network.
    let has_network = |cell: usize| cell % 5 != 1;
    let networks: Vec<usize> = (0..CELLS.pow(3)).filter(|c| has_network(*c)).collect();
    let text = |v: [f32; 3]| format!("{v:?}");
    let student = config(
        "kilonerf-small",
        &[
            &format!("passes.field.cells.resolution={:?}", [CELLS; 3]),
            &format!("passes.field.cells.low={}", text(LOW)),
            &format!("passes.field.cells.high={}", text(HIGH)),
            &format!("passes.field.cells.occupied={}", networks.len()),
            &format!("scene.aabb_scale={}", 1 << (cascades - 1)),
            &format!("occupancy.resolution={SIDE}"),
            "distillation.steps=10",
            "distillation.points_per_network=500",
            "distillation.alpha_distance=0.3",
            &format!("passes.field.density_activation={activation}"),
        ],
    );
    let capacity = Capacity {
        rays: RAYS,
        marched: POINTS,
        kept: POINTS,
    };
    let keep = |_| SavedActivations::Gradients;
    let pass = Pass::of_method(gpu, &student, "test", &[capacity], &keep)
        .unwrap()
        .remove(0);
    let (_, of_student) = random(gpu, &student, &mut pcg);
    let rig = Rig {
        gpu: Arc::clone(gpu),
        counts: pass.counts.clone(),
    };
    rig.set(StepState {
        seed: 4,
        step: STEP,
        ..bytemuck::Zeroable::zeroed()
    });
    // Every third voxel is dense.
    let n_voxels = cascades * SIDE.pow(3);
    let is_dense = |voxel: usize| voxel.is_multiple_of(3);
    let mut bits = vec![0_u32; n_voxels / 32];
    (0..n_voxels)
        .filter(|v| is_dense(*v))
        .for_each(|v| bits[v / 32] |= 1 << (v % 32));
    let mut map = vec![NO_NETWORK; CELLS.pow(3)];
    for (network, &cell) in networks.iter().enumerate() {
        map[cell] = network as u32;
    }

    let distillation = student.distillation.clone().unwrap();
    let ray_losses = rig.zeros(RAYS as usize * 12);
    let teacher = Teacher::new(teacher, field.clone(), parameters.clone());
    let before = gpu.allocated_bytes();
    let distiller = Distiller::of_config(gpu, &student, &teacher, pass.capacity);
    let distiller = distiller.unwrap().unwrap();
    let of_parameters = Planner::new(gpu.profile());
    FieldParameters::new(&of_parameters, &field).unwrap();
    let allocated = gpu.allocated_bytes() - before + of_parameters.bytes();
    let planned = Distiller::bytes(gpu.profile(), &student, &teacher, pass.capacity).unwrap();
    assert_eq!(allocated, planned, "allocated and planned bytes");
    assert_eq!((distiller.n_points, distiller.n_rays), (POINTS, RAYS));
    distiller.set_cells_and_occupancy(gpu, &map, &bits);
    let cell_map = of_student.cells.as_ref().unwrap();
    gpu.write(cell_map, 0, &map);
    let stages = distiller
        .stages(gpu, &teacher, &pass, &of_student, &ray_losses)
        .unwrap();
    rig.submit(&stages.iter().collect::<Vec<&Stage>>());

    let n = POINTS as usize;
    let samples: Vec<[f32; 4]> = rig.read(&pass.kept.samples, n);
    let dense: Vec<usize> = (0..n_voxels).filter(|v| is_dense(*v)).collect();
    // Voxels of coarser cascades are larger; the coarsest cascade is the box.
    let corners = |voxel: usize| {
        let half = 0.5 / (1 << (cascades - 1 - voxel / SIDE.pow(3))) as f32;
        ([0.5 - half; 3], [0.5 + half; 3])
    };
    let in_voxel = |x: [f32; 4], voxel: usize| {
        let (low, high) = corners(voxel);
        lies_in(x, voxel % SIDE.pow(3), SIDE, low, high)
    };
    let mut of_network = vec![0; networks.len()];
    let mut hit = std::collections::BTreeSet::new();
    for (i, &x) in samples.iter().enumerate() {
        let network = (i + STEP as usize * (n % networks.len())) % networks.len();
        let cell = networks[network];
        assert!(
            lies_in(x, cell, CELLS, LOW, HIGH),
            "point {i}, {x:?}, lies outside of cell {cell}"
        );
        let voxel = dense.iter().find(|v| in_voxel(x, **v));
        let voxel = voxel.unwrap_or_else(|| panic!("point {i}, {x:?}, lies in no dense voxel"));
        of_network[network] += 1;
        hit.insert(*voxel);
    }
    let [least, most] = [n / networks.len(), n.div_ceil(networks.len())];
    assert!(of_network.iter().all(|m| (least..=most).contains(m)));
    // At least two thirds of the dense voxels that overlap the grid.
    assert!(hit.len() > 300, "points in {} voxels only", hit.len());
    let sample_rays: Vec<[u32; 2]> = rig.read(&pass.kept.sample_rays, n);
    assert!(
        sample_rays
            .iter()
            .enumerate()
            .all(|(i, ray)| ray[0] == i as u32 % RAYS)
    );
    let rays: Vec<crate::support::GpuRay> = rig.read(&pass.rays, RAYS as usize);
    let mut mean = [0.0; 3];
    for ray in &rays {
        let length: f32 = ray.view_dir.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{:?}", ray.view_dir);
        (0..3).for_each(|a| mean[a] += ray.view_dir[a] / RAYS as f32);
    }
    assert!(mean.iter().all(|m| m.abs() < 0.25), "{mean:?}");

    let targets: Vec<f32> = rig.read(&distiller.targets, 4 * n);
    let expected = teacher_outputs(&rig, &field, &parameters, &samples, &rays);
    assert_close("the teacher's outputs", &targets, &expected, 1e-6);
    let targets = to_f64(&targets);
    let raw = pass.field.raw_outputs(&pass.buffers);
    let raw_density = to_f64(&rig.read::<f32>(&raw.density, n));
    let raw_color = to_f64(&rig.read::<f32>(&raw.color, 4 * n));
    let objective = DistillationLoss {
        density,
        color: RgbActivation::Sigmoid,
        distance: f64::from(distillation.alpha_distance),
    };
    let (mut d_color, mut d_density) = (vec![], vec![]);
    let mut losses = vec![0.0; RAYS as usize];
    for i in 0..n {
        let color = std::array::from_fn(|c| raw_color[4 * i + c]);
        let target = std::array::from_fn(|c| targets[4 * i + c]);
        let (of_color, of_density) = objective.gradient(color, raw_density[i], target);
        d_color.extend(of_color.map(|d| d / n as f64));
        d_color.push(0.0);
        d_density.push(of_density / n as f64);
        // `end_batch` takes the mean over rays.
        losses[i % RAYS as usize] +=
            objective.loss(color, raw_density[i], target) / n as f64 * f64::from(RAYS);
    }
    let d_raw = pass.field.d_raw_outputs(&pass.buffers);
    assert_close("d_color", &rig.read(&d_raw.color, 4 * n), &d_color, 1e-5);
    assert_close("d_density", &rig.read(&d_raw.density, n), &d_density, 1e-5);
    let read: Vec<[f32; 12]> = rig.read(&ray_losses, RAYS as usize);
    let got: Vec<f32> = read.iter().map(|r| r[3]).collect();
    assert_close("loss", &got, &losses, 1e-5);
}

/// Return the colour and density of `field` at `samples` in the directions of their `rays`, evaluated in reverse order.
fn teacher_outputs(
    rig: &Rig,
    field: &Field,
    parameters: &FieldParameters,
    samples: &[[f32; 4]],
    rays: &[crate::support::GpuRay],
) -> Vec<f64> {
    let n = samples.len();
    let gpu = &*rig.gpu;
    let reversed: Vec<[f32; 4]> = samples.iter().rev().copied().collect();
    let of_rays: Vec<[u32; 2]> = (0..n).rev().map(|i| [(i % rays.len()) as u32, 0]).collect();
    let (points, sample_rays, rays) = (
        rig.buffer(&reversed),
        rig.buffer(&of_rays),
        rig.buffer(rays),
    );
    let rows = n.next_multiple_of(512) as u64;
    let buffers = field
        .buffers(gpu, "test", 0, rows, SavedActivations::Nothing)
        .unwrap();
    let (mut encode, mut forward) = (gpu.stage("encode"), gpu.stage("forward"));
    let samples = FieldInputs {
        counts: &rig.counts,
        positions: &points,
        sample_rays: &sample_rays,
        rays: &rays,
    };
    field
        .encode_kept(&mut encode, parameters, &samples, &buffers)
        .unwrap();
    field
        .forward(&mut forward, parameters, &samples, &buffers, true)
        .unwrap();
    rig.submit(&[&encode, &forward]);
    let raw = field.raw_outputs(&buffers);
    let [stride, color_stride, first] = [
        raw.density_stride,
        4 * raw.color_stride,
        4 * raw.color_offset,
    ]
    .map(|v| v as usize);
    let density: Vec<f32> = rig.read(&raw.density, stride * n);
    let color: Vec<f32> = rig.read(&raw.color, color_stride * n);
    let output = |i: usize| {
        let raw = |c: usize| f64::from(color[color_stride * i + first + c]);
        let value = |c: usize| RgbActivation::Sigmoid.value(raw(c));
        let density = DensityActivation::Exp.value(f64::from(density[stride * i]));
        [value(0), value(1), value(2), density]
    };
    (0..n).rev().flat_map(output).collect()
}

#[test]
fn a_distillation_step_draws_dense_points_and_compares_colour_and_opacity() {
    on_device(|gpu| {
        check(gpu, "softplus", DensityActivation::Softplus, 1);
        check(gpu, "relu", DensityActivation::Relu, 2);
    });
}
