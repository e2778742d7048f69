//! Distillation: where points are drawn, what the teacher is asked, and the loss against its reference.

use std::sync::Arc;

use kiln::config::{Config, SceneHints};
use kiln::distillation::{Lessons, Teacher};
use kiln::field::{Field, FieldParameters};
use kiln::gpu::{AdapterClass, Gpu, Stage, StepState};
use kiln::network::Keep;
use kiln::occupancy::OccupancyGrid;
use kiln::pass::{Capacity, Pass};

use crate::reference::compositing::{DensityActivation, RgbActivation};
use crate::reference::distillation::Lesson;
use crate::reference::random::Pcg;
use crate::support::{Rig, assert_close, on_device, to_f64};

fn config(preset: &str, overrides: &[&str]) -> Config {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let mut config = Config::preset(preset, &overrides).unwrap();
    config.resolve(SceneHints::default(), AdapterClass::Software);
    config
}

/// Random weights and tables of one field.
fn random(gpu: &Arc<Gpu>, config: &Config, pcg: &mut Pcg) -> (Field, FieldParameters) {
    let field = Field::of_passes(gpu, config).unwrap().remove(0);
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

fn check(gpu: &Arc<Gpu>, activation: &str, density: DensityActivation) {
    const POINTS: u32 = 1500;
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
    let activation = format!("passes.field.density_activation={activation}");
    let student = config(
        "kilonerf-small",
        &[
            "passes.field.cells.longest=3",
            "occupancy.resolution=16",
            "distillation.steps=10",
            "distillation.points_per_network=500",
            "distillation.alpha_distance=0.3",
            &activation,
        ],
    );
    let capacity = Capacity {
        rays: RAYS,
        marched: POINTS,
        kept: POINTS,
    };
    let keep = |_| Keep::Gradients;
    let pass = Pass::of_method(gpu, &student, "test", &[capacity], &keep)
        .unwrap()
        .remove(0);
    let (_, of_student) = random(gpu, &student, &mut pcg);
    let grid = OccupancyGrid::of_config(gpu, &student, &pass.field)
        .unwrap()
        .unwrap();
    let rig = Rig {
        gpu: Arc::clone(gpu),
        counts: pass.counts.clone(),
    };
    rig.set(StepState {
        seed: 4,
        step: 2,
        ..bytemuck::Zeroable::zeroed()
    });
    // Every third voxel of the lower half.
    let is_dense = |voxel: usize| voxel / 256 < 8 && voxel.is_multiple_of(3);
    let mut bits = vec![0_u32; 16 * 16 * 16 / 32];
    (0..4096)
        .filter(|v| is_dense(*v))
        .for_each(|v| bits[v / 32] |= 1 << (v % 32));

    let cells = pass.field.cells.clone().unwrap();
    let distillation = student.distillation.clone().unwrap();
    let ray_losses = rig.zeros(RAYS as usize * 12);
    let teacher = Teacher::new(teacher, field.clone(), parameters);
    let before = gpu.allocated_bytes();
    let lessons = Lessons::new(gpu, &distillation, &teacher, &pass, (&cells, &grid)).unwrap();
    let allocated = gpu.allocated_bytes() - before + FieldParameters::bytes(&field);
    let planned = Lessons::bytes(gpu, &student, &teacher, POINTS);
    // Buffers of nothing have a least size.
    let least = 1024;
    assert!(
        (planned..planned + least).contains(&allocated),
        "{allocated} bytes allocated, {planned} planned"
    );
    assert_eq!((lessons.n_points, lessons.n_rays), (POINTS, RAYS));
    let map: Vec<u32> = (0..27).collect();
    lessons.set_map(gpu, &map, &bits);
    let stages = lessons
        .stages(gpu, &teacher, &pass, &of_student, &ray_losses)
        .unwrap();
    rig.submit(&stages.iter().collect::<Vec<&Stage>>());

    let n = POINTS as usize;
    let samples: Vec<[f32; 4]> = rig.read(&pass.kept_samples, n);
    let mut hit = vec![0; 4096];
    for sample in &samples {
        let [x, y, z] = [0, 1, 2].map(|a| (sample[a] * 16.0) as usize);
        let voxel = (z * 16 + y) * 16 + x;
        assert!(
            is_dense(voxel),
            "{sample:?} lies in voxel {voxel}, which is empty"
        );
        hit[voxel] += 1;
    }
    let dense = (0..4096).filter(|v| is_dense(*v));
    let missed = dense.filter(|v| hit[*v] == 0).count();
    assert!(missed < 300, "{missed} of 683 voxels have no point");
    let sample_rays: Vec<[u32; 2]> = rig.read(&pass.kept_rays, n);
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

    let targets = to_f64(&rig.read::<f32>(&lessons.targets, 4 * n));
    assert!(
        targets
            .chunks(4)
            .all(|t| (0.0..=1.0).contains(&t[0]) && t[3] > 0.0)
    );
    assert!(targets.chunks(4).any(|t| (t[0] - targets[0]).abs() > 0.01));
    let raw = pass.field.raw_outputs(&pass.buffers);
    let raw_density = to_f64(&rig.read::<f32>(&raw.density, n));
    let raw_color = to_f64(&rig.read::<f32>(&raw.color, 4 * n));
    let lesson = Lesson {
        density,
        color: RgbActivation::Sigmoid,
        distance: f64::from(distillation.alpha_distance),
    };
    let (mut d_color, mut d_density) = (vec![], vec![]);
    let mut losses = vec![0.0; RAYS as usize];
    for i in 0..n {
        let color = std::array::from_fn(|c| raw_color[4 * i + c]);
        let target = std::array::from_fn(|c| targets[4 * i + c]);
        let (of_color, of_density) = lesson.gradient(color, raw_density[i], target);
        d_color.extend(of_color.map(|d| d / n as f64));
        d_color.push(0.0);
        d_density.push(of_density / n as f64);
        // end_batch takes the mean over rays.
        losses[i % RAYS as usize] +=
            lesson.loss(color, raw_density[i], target) / n as f64 * f64::from(RAYS);
    }
    let d_raw = pass.field.d_raw_outputs(&pass.buffers);
    assert_close("d_color", &rig.read(&d_raw.color, 4 * n), &d_color, 1e-5);
    assert_close("d_density", &rig.read(&d_raw.density, n), &d_density, 1e-5);
    let read: Vec<[f32; 12]> = rig.read(&ray_losses, RAYS as usize);
    let got: Vec<f32> = read.iter().map(|r| r[3]).collect();
    assert_close("loss", &got, &losses, 1e-5);
}

#[test]
fn a_lesson_is_about_dense_places_and_compares_colour_and_opacity() {
    on_device(|gpu| {
        check(gpu, "softplus", DensityActivation::Softplus);
        check(gpu, "relu", DensityActivation::Relu);
    });
}
