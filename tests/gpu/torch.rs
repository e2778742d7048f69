//! Training steps of small methods, and imported models, compared with `PyTorch`: `tests/fixtures/torch` contains its results
//! and the scripts that produce them.

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Zeroable;
use kiln::camera::{Camera, Lens};
use kiln::checkpoint::{self, Checkpoint};
use kiln::config::{Config, ResolvedConfig, SceneHints};
use kiln::dataset::Image;
use kiln::field::{Field, FieldInputs, FieldParameters, RAW_DENSITY_STRIDE};
use kiln::gpu::Gpu;
use kiln::images::{GpuCamera, ImageSet, near_far};
use kiln::import::{Imported, kilonerf_seed, learnit, nerf_pytorch, ngp_seed};
use kiln::network::SavedActivations;
use kiln::render::Renderer;
use kiln::scene_frame::SceneFrame;
use kiln::step_state::StepState;
use kiln::train::Trainer;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::support::{
    GpuRay, Rig, assert_close, on_both_devices, on_device, save_checkpoint, to_f64,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/torch")
        .join(name)
}

/// The tensors of a safetensors file, each with its type, shape and bytes.
struct Tensors {
    metadata: Option<HashMap<String, String>>,
    all: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Tensors {
    fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let all = tensors
            .iter()
            .map(|(name, t)| {
                (
                    name.to_owned(),
                    (t.dtype(), t.shape().to_vec(), t.data().to_vec()),
                )
            })
            .collect();
        Self {
            metadata: header.metadata().clone(),
            all,
        }
    }

    fn save(&self, path: &Path) {
        let views = self.all.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        std::fs::write(
            path,
            safetensors::serialize(views, self.metadata.clone()).unwrap(),
        )
        .unwrap();
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    fn read<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        let (_, _, bytes) = self
            .all
            .get(name)
            .unwrap_or_else(|| panic!("there is no tensor `{name}`"));
        bytemuck::pod_collect_to_vec(bytes)
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.read(name)
    }

    /// Replace the values of `name` by those of `from`, which must have the same type and shape.
    fn replace(&mut self, name: &str, from: &(Dtype, Vec<usize>, Vec<u8>)) {
        let to = self
            .all
            .get_mut(name)
            .unwrap_or_else(|| panic!("kiln saves no tensor `{name}`"));
        assert_eq!(
            (to.0, &to.1),
            (from.0, &from.1),
            "type and shape of `{name}`"
        );
        to.2.clone_from(&from.2);
    }
}

/// Group values into rows of three.
fn vectors(values: &[f32]) -> Vec<[f32; 3]> {
    values.chunks_exact(3).map(|v| [v[0], v[1], v[2]]).collect()
}

/// Return `a - b`, elementwise.
fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Return a trainer of the configuration `toml`, with the fixture's parameters, rays and targets.
fn step_trainer(gpu: &Arc<Gpu>, toml: &str, want: &Tensors, scratch: &Path) -> Trainer {
    let config = Config::from_file(&fixture(toml), &[]).unwrap();
    trainer_of(gpu, config, want, scratch)
}

/// Return a trainer of `config`, with the fixture's parameters, rays and targets.
fn trainer_of(gpu: &Arc<Gpu>, config: Config, want: &Tensors, scratch: &Path) -> Trainer {
    let config = config.resolve(SceneHints::default(), gpu.class());
    // No rays are drawn from this image.
    let image = Image {
        width: 2,
        height: 2,
        pixels: vec![0; 16],
        has_alpha: false,
        mask: None,
    };
    let camera = Camera::look_at([4.0, 0.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0], 1.0, 2, 2);
    let images = ImageSet::upload(
        gpu,
        &[image],
        &[GpuCamera::new(
            &camera,
            near_far(&config, None),
            &SceneFrame::of(&config),
        )],
    )
    .unwrap();
    let mut trainer = Trainer::new(gpu, &config, &images, None).unwrap();

    // Parameters are loaded from a checkpoint, so that their names and shapes are tested too.
    let path = scratch.join("initial.safetensors");
    save_checkpoint(&path, gpu, &trainer);
    let mut state = Tensors::open(&path);
    for (name, tensor) in &want.all {
        let parts = [
            "passes.",
            "position_encoding.",
            "density_network.",
            "color_network.",
        ];
        if parts.iter().any(|p| name.starts_with(p)) {
            state.replace(name, tensor);
            let average = format!("ema.{name}");
            if state.all.contains_key(&average) {
                state.replace(&average, tensor);
            }
        }
    }
    // Use the final scale of the fixed-point gradients, because the initial scale is coarser than the tolerance.
    if let Some((_, _, scales)) = state.all.get_mut("state.gradient_scales") {
        *scales = 2.0_f32.powi(34).to_le_bytes().repeat(scales.len() / 4);
    }
    state.save(&path);
    Checkpoint::open(&path)
        .unwrap()
        .restore(gpu, &mut trainer)
        .unwrap();

    let [origin, direction, view_dir, background, targets] = [
        "rays.origin",
        "rays.direction",
        "rays.view_dir",
        "rays.background",
        "targets",
    ]
    .map(|name| vectors(&want.f32(name)));
    let near_far = want.f32("rays.near_far");
    let rays: Vec<GpuRay> = (0..targets.len())
        .map(|i| GpuRay {
            origin: origin[i],
            t_min: near_far[2 * i],
            direction: direction[i],
            t_max: near_far[2 * i + 1],
            view_dir: view_dir[i],
            background: background[i],
            ..GpuRay::zeroed()
        })
        .collect();
    gpu.write(&trainer.passes[0].rays, 0, &rays);
    let targets: Vec<[f32; 4]> = targets.iter().map(|c| [c[0], c[1], c[2], 1.0]).collect();
    gpu.write(&trainer.targets, 0, &targets);
    trainer
}

/// Return the gradients of all parameters by name.
fn gradients(gpu: &Gpu, trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    let n = trainer.dense.len as usize;
    let slab = gpu.read::<f32>(&trainer.dense.gradients, 0, n).unwrap();
    for (index, pass) in trainer.passes.iter().enumerate() {
        let prefix = if trainer.passes.len() > 1 {
            format!("passes.{index}.")
        } else {
            String::new()
        };
        let field = &pass.field;
        for (name, network) in field.networks() {
            let network = network.layout();
            for l in 0..network.n_layers() {
                let columns = network.inputs(l) as usize;
                let row = |(copy, r): (u32, u32)| {
                    let at = network.offset(l) + network.row_of(l, r) * network.width(l);
                    &slab[(copy * network.network_stride + at) as usize..]
                };
                let n_rows = network.dims[l + 1];
                let rows =
                    || (0..network.n_networks).flat_map(|c| (0..n_rows).map(move |r| (c, r)));
                all.insert(
                    format!("{prefix}{name}.{l}.weight"),
                    rows().flat_map(|r| row(r)[..columns].to_vec()).collect(),
                );
                // The bias is the weight of the column that follows the inputs.
                all.insert(
                    format!("{prefix}{name}.{l}.bias"),
                    rows().map(|r| row(r)[columns]).collect(),
                );
            }
        }
        let sparse = &trainer.sparse[index];
        let levels = field.tables().levels().len();
        let scales = gpu
            .read::<f32>(&sparse.gradient_scales, 0, levels.max(1))
            .unwrap();
        for_each_level(field, |level, chunk, first, count| {
            let fixed = gpu
                .read::<i32>(&sparse.gradients[chunk], first * 4, count)
                .unwrap();
            let values = fixed.iter().map(|&g| g as f32 / scales[level]).collect();
            all.insert(format!("{prefix}position_encoding.level_{level}"), values);
        });
    }
    all
}

/// Call `f` with each level, its chunk, and the first feature and number of features of the level in that chunk.
fn for_each_level(field: &Field, mut f: impl FnMut(usize, usize, u64, usize)) {
    let grid = field.tables();
    for (index, chunk) in grid.chunks().iter().enumerate() {
        for (k, &first_row) in chunk.first_rows.iter().enumerate() {
            let level = chunk.first_level + k;
            let (features, rows) = (
                u64::from(grid.n_features()),
                grid.levels()[level].rows as usize,
            );
            f(
                level,
                index,
                u64::from(first_row) * features,
                rows * grid.n_features() as usize,
            );
        }
    }
}

/// Return the averages of the tables as evaluation uses them.
fn tables(gpu: &Gpu, field: &Field, parameters: &FieldParameters) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    for_each_level(field, |level, chunk, first, count| {
        let values = gpu
            .read::<f32>(&parameters.tables[chunk], first * 4, count)
            .unwrap();
        all.insert(format!("position_encoding.level_{level}"), values);
    });
    all
}

/// Run the steps of `want` on its rays, compare gradients, learning rates and losses, and return the number of steps.
fn follow(gpu: &Arc<Gpu>, trainer: &mut Trainer, want: &Tensors) -> u32 {
    let (losses, rates) = (
        to_f64(&want.f32("losses")),
        to_f64(&want.f32("learning_rates")),
    );
    let n_rays = (want.f32("targets").len() / 3) as u32;
    for (step, loss) in losses.iter().enumerate() {
        gpu.write(
            &trainer.counts().state,
            offset_of!(StepState, next_rays) as u64,
            &[n_rays],
        );
        // Run all stages except the one that would draw other rays.
        for stage in trainer.stages().0.iter().filter(|s| s.name != "rays") {
            if step == 0 && stage.name == "optimize" {
                let all = gradients(gpu, trainer);
                let wanted = want.names().filter_map(|n| n.strip_prefix("gradient."));
                assert!(wanted.eq(all.keys()), "kiln has other parameters");
                for (name, values) in &all {
                    let name = format!("gradient.{name}");
                    assert_close(&name, values, &to_f64(&want.f32(&name)), 1e-4);
                }
            }
            gpu.submit([stage]);
        }
        let state: StepState = gpu.read(&trainer.counts().state, 0, 1).unwrap()[0];
        assert_eq!((state.n_rays, state.n_rays_fitting), (n_rays, n_rays));
        if step == 0 && want.all.contains_key("counts") {
            assert_eq!(
                [state.n_marched, state.n_kept],
                want.read::<u32>("counts")[..],
                "marched and kept samples"
            );
        }
        assert_eq!((state.non_finite, state.saturated), (0, 0));
        assert_close(
            &format!("learning rate of step {step}"),
            &[state.learning_rate],
            &rates[step..=step],
            1e-5,
        );
        assert_close(
            &format!("loss of step {step}"),
            &[state.loss],
            &[*loss],
            1e-4,
        );
    }
    losses.len() as u32
}

/// Run the steps of the fixture `name`, compare the change of its parameters, and return the final checkpoint.
fn check_steps(gpu: &Arc<Gpu>, name: &str, want: &Tensors) -> Tensors {
    let scratch = tempfile::tempdir().unwrap();
    let mut trainer = step_trainer(gpu, &format!("{name}.toml"), want, scratch.path());
    follow(gpu, &mut trainer, want);
    let path = scratch.path().join("final.safetensors");
    save_checkpoint(&path, gpu, &trainer);
    let saved = Tensors::open(&path);
    for name in want.names().filter_map(|n| n.strip_prefix("gradient.")) {
        let before = want.f32(name);
        let change = |after: Vec<f32>| difference(&after, &before);
        let expected = change(want.f32(&format!("final.{name}")));
        // Adam takes a full step even for a tiny gradient, whose sign may depend on rounding: compare tensors, not elements.
        let length = |v: &[f32]| v.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
        let error = length(&difference(&change(saved.f32(name)), &expected));
        let error = error / length(&expected);
        assert!(error < 0.03, "change of {name}: {error}");
    }
    saved
}

#[test]
fn outer_steps_of_reptile_match_pytorch() {
    on_both_devices(|gpu| {
        let want = Tensors::open(&fixture("reptile_step.safetensors"));
        let losses = to_f64(&want.f32("losses"));
        let interpolated = ["algorithm=\"sgd\"", "learning_rate=0.25"];
        for (name, overrides) in [("adam", &[][..]), ("interpolated", &interpolated)] {
            let overrides: Vec<String> = overrides
                .iter()
                .map(|o| format!("meta.optimizer.{o}"))
                .collect();
            let config = Config::from_file(&fixture("reptile_step.toml"), &overrides).unwrap();
            let scratch = tempfile::tempdir().unwrap();
            let trainer = trainer_of(gpu, config, &want, scratch.path());
            let inner_steps = trainer.reptile.as_ref().unwrap().inner_steps();
            for (step, loss) in losses.iter().enumerate() {
                let (steps, _) = trainer.stages();
                let ends = (step as u32 + 1).is_multiple_of(inner_steps);
                let outer = if ends { trainer.outer_stages() } else { &[] };
                let stages = steps.iter().chain(outer).filter(|s| s.name != "rays");
                gpu.submit(stages.collect::<Vec<_>>());
                let state: StepState = gpu.read(&trainer.counts().state, 0, 1).unwrap()[0];
                assert_eq!((state.non_finite, state.step), (0, step as u32 + 1));
                if name == "adam" {
                    let what = format!("loss of step {step}");
                    assert_close(&what, &[state.loss], &[*loss], 1e-4);
                }
                if !ends {
                    continue;
                }
                let outer_step = (step as u32 + 1) / inner_steps;
                assert_eq!((state.task, state.task_start), (outer_step, state.step));
                let path = scratch.path().join("saved.safetensors");
                save_checkpoint(&path, gpu, &trainer);
                let saved = Tensors::open(&path);
                let prefix = format!("{name}.{outer_step}.");
                let mut compared = 0;
                for of in want.names().filter_map(|n| n.strip_prefix(&prefix)) {
                    let expected = want.f32(&format!("{prefix}{of}"));
                    for (a, b) in saved.f32(of).iter().zip(&expected) {
                        assert!((a - b).abs() < 1e-5, "{prefix}{of}: {a}, not {b}");
                        compared += 1;
                    }
                }
                assert_eq!(compared, 24 * 16 + 16 + 2 * (16 * 16 + 16) + 16 * 4 + 4);
            }
        }
    });
}

#[test]
fn ten_steps_of_a_coarse_and_a_fine_network_match_pytorch() {
    on_device(|gpu| {
        let want = Tensors::open(&fixture("nerf_step.safetensors"));
        check_steps(gpu, "nerf_step", &want);
    });
}

#[test]
fn ten_steps_of_a_grid_of_networks_match_pytorch() {
    on_both_devices(|gpu| {
        let want = Tensors::open(&fixture("cells_step.safetensors"));
        let saved = check_steps(gpu, "cells_step", &want);
        let visited = want.read::<u32>("visited");
        let updates = saved.read::<[u32; 2]>("updates.cells");
        let expected: Vec<[u32; 2]> = visited.iter().map(|v| [10 * v; 2]).collect();
        assert_eq!(updates, expected);
        for name in want.names().filter_map(|n| n.strip_prefix("gradient.")) {
            let (before, after) = (want.f32(name), saved.f32(name));
            let of_network = before.len() / visited.len();
            let both = before.chunks(of_network).zip(after.chunks(of_network));
            for (network, (before, after)) in both.enumerate() {
                let moved = before != after;
                assert_eq!(moved, visited[network] == 1, "network {network} of {name}");
            }
        }
    });
}

/// Return a renderer with the parameters of `imported`, loaded from a checkpoint in `scratch`.
fn renderer_of(gpu: &Arc<Gpu>, imported: &Imported, scratch: &Path) -> Renderer {
    let info = checkpoint::Info::imported(imported.config.clone());
    let path = scratch.join("checkpoint.safetensors");
    checkpoint::save_parameters(&path, &imported.parameters, &info).unwrap();
    let saved = Checkpoint::open(&path).unwrap();
    saved.verify(gpu).unwrap();
    let renderer = Renderer::new(gpu, &saved.info.config, None).unwrap();
    let fields: Vec<Field> = renderer.fields().cloned().collect();
    let fields: Vec<&Field> = fields.iter().collect();
    saved
        .load_parameters(gpu, &fields, &renderer.parameters)
        .unwrap();
    renderer
}

#[test]
fn imported_models_make_the_images_of_pytorch() {
    on_device(|gpu| {
        for kind in ["flexible", "directionless", "paper", "yenchenlin"] {
            let scratch = tempfile::tempdir().unwrap();
            let mut model = Tensors::open(&fixture(&format!("nerf_pytorch/{kind}.safetensors")));
            let [image, pose, focal] = ["image", "pose", "focal"].map(|name| {
                let name = format!("expected.{name}");
                let values = model.f32(&name);
                model.all.remove(&name);
                values
            });
            let path = scratch.path().join("model.safetensors");
            model.save(&path);
            let mut options = nerf_pytorch::Options {
                n_fine_samples: 12,
                ..nerf_pytorch::Options::default()
            };
            options.rays.n_samples = 16;
            let imported = nerf_pytorch::read(&path, &options).unwrap();
            let mut renderer = renderer_of(gpu, &imported, scratch.path());
            let side = 12;
            let rows = [0, 1, 2].map(|r| [0, 1, 2, 3].map(|c| f64::from(pose[4 * r + c])));
            let camera = Camera {
                world_from_camera: rows,
                focal: [focal[0]; 2],
                principal: [side as f32 / 2.0; 2],
                lens: Lens::Pinhole,
                width: side,
                height: side,
            };
            let frame = renderer.render(&camera, None, false).unwrap();
            // Composite over white, before rounding to 8 bits.
            let color = frame.color.iter().enumerate();
            let color: Vec<f32> = color.map(|(i, c)| c + 1.0 - frame.opacity[i / 3]).collect();
            let name = format!("image of the {kind} model");
            assert_close(&name, &color, &to_f64(&image), 1e-4);
        }
    });
}

#[test]
fn ten_steps_match_pytorch() {
    on_both_devices(|gpu| {
        let scratch = tempfile::tempdir().unwrap();
        let want = Tensors::open(&fixture("step.safetensors"));
        let mut trainer = step_trainer(gpu, "step.toml", &want, scratch.path());
        let n_steps = follow(gpu, &mut trainer, &want);
        trainer.restore_clock(n_steps, 0.0);
        let path = scratch.path().join("final.safetensors");
        save_checkpoint(&path, gpu, &trainer);
        let saved = Tensors::open(&path);
        // Averages of rows without recent updates lag behind; exporting and loading a checkpoint both bring them up to date.
        let field = &trainer.passes[0].field;
        let [exported, loaded] = [
            FieldParameters::new(gpu, field).unwrap(),
            FieldParameters::new(gpu, field).unwrap(),
        ];
        trainer.export_ema(std::slice::from_ref(&exported)).unwrap();
        Checkpoint::open(&path)
            .unwrap()
            .load_parameters(gpu, &[field], std::slice::from_ref(&loaded))
            .unwrap();
        let averages = [tables(gpu, field, &exported), tables(gpu, field, &loaded)];
        for name in want.names().filter_map(|n| n.strip_prefix("gradient.")) {
            // Compare the change of the tensor, not its values.
            let before = want.f32(name);
            let compare = |what: &str, got: &[f32], after: &[f32]| {
                let name = format!("change of {what}{name}");
                assert_close(
                    &name,
                    &difference(got, &before),
                    &to_f64(&difference(after, &before)),
                    1e-3,
                );
            };
            compare("", &saved.f32(name), &want.f32(&format!("final.{name}")));
            let average = want.f32(&format!("final.ema.{name}"));
            if name.starts_with("position_encoding") {
                for a in &averages {
                    compare("ema.", &a[name], &average);
                }
                let updates = saved
                    .read::<[u32; 2]>(&format!("updates.{name}"))
                    .into_iter()
                    .map(|[n, _]| n);
                let wanted = want.read::<u32>(&format!("final.updates.{name}"));
                assert!(
                    updates.eq(wanted),
                    "rows of {name} were updated more or less often"
                );
            } else {
                compare("ema.", &saved.f32(&format!("ema.{name}")), &average);
            }
        }
    });
}

/// Return the raw colour and raw density of `field` at positions in the box, seen from the given directions.
fn evaluate(
    gpu: &Arc<Gpu>,
    field: &Field,
    parameters: &FieldParameters,
    position: &[[f32; 3]],
    direction: &[[f32; 3]],
) -> (Vec<[f32; 3]>, Vec<f32>) {
    let n = position.len();
    let padded = n.next_multiple_of(512);
    let rig = Rig::new(gpu, n, n, n);
    let buffers = field
        .buffers(gpu, "test", n as u64, n as u64, SavedActivations::Nothing)
        .unwrap();
    let mut samples: Vec<[f32; 4]> = position.iter().map(|p| [p[0], p[1], p[2], 1.0]).collect();
    samples.resize(padded, [0.5; 4]);
    let samples = rig.buffer(&samples);
    // One ray per point.
    let rays: Vec<GpuRay> = direction
        .iter()
        .map(|&view_dir| GpuRay {
            view_dir,
            ..GpuRay::zeroed()
        })
        .collect();
    let rays = rig.buffer(&rays);
    let kept_rays: Vec<[u32; 2]> = (0..padded).map(|i| [i.min(n - 1) as u32, 0]).collect();
    let kept_rays = rig.buffer(&kept_rays);
    let kept = FieldInputs {
        counts: &rig.counts,
        positions: &samples,
        sample_rays: &kept_rays,
        rays: &rays,
    };
    rig.run(|stage| {
        let mut network = gpu.stage("density");
        field.density(
            stage,
            &mut network,
            &rig.counts,
            parameters,
            &samples,
            &buffers,
        )?;
        stage
            .append(network)
            .copy(&buffers.features, &buffers.kept_features);
        if !field.reuses_features() {
            field.encode_kept(stage, parameters, &kept, &buffers)?;
        }
        field.forward(stage, parameters, &kept, &buffers, true)
    });
    let outputs = field.raw_outputs(&buffers);
    let color = rig.read::<[f32; 4]>(&outputs.color, n * outputs.color_stride as usize);
    let color = color.chunks(outputs.color_stride as usize);
    let color = color.map(|row| row[outputs.color_offset as usize]);
    let density = rig.read::<f32>(&buffers.raw_density, n * RAW_DENSITY_STRIDE as usize);
    (
        color.map(|c| [c[0], c[1], c[2]]).collect(),
        density
            .iter()
            .step_by(RAW_DENSITY_STRIDE as usize)
            .copied()
            .collect(),
    )
}

#[test]
fn an_instant_ngp_field_matches_pytorch() {
    let given = std::env::var_os("KILN_SEED_001");
    let is_fixture = given.is_none();
    let directory = given.map_or_else(|| fixture("seed_001"), PathBuf::from);
    on_both_devices(|gpu| {
        let scratch = tempfile::tempdir().unwrap();
        let want = Tensors::open(&directory.join("expected.safetensors"));
        let model = directory.join("model.safetensors");
        let mut options = ngp_seed::Options {
            // The script's default resolution, or the full one.
            finest_resolution: if is_fixture { 128 } else { 2048 },
            ..ngp_seed::Options::default()
        };
        options.rays.pixel_center = 0.5;
        let imported = ngp_seed::read(&model, &options).unwrap();
        let mut renderer = renderer_of(gpu, &imported, scratch.path());
        let field = renderer.fields().next().unwrap().clone();

        let (position, direction) = (
            vectors(&want.f32("points.position")),
            vectors(&want.f32("points.direction")),
        );
        let (color, density) =
            evaluate(gpu, &field, &renderer.parameters[0], &position, &direction);
        let rgb = logistic(&color);
        assert_close("rgb", &rgb, &to_f64(&want.f32("points.rgb")), 1e-4);
        // Compare each σ relative to itself, not to the largest one.
        let ratios: Vec<f32> = density
            .iter()
            .zip(want.f32("points.sigma"))
            .map(|(raw, sigma)| raw.exp() / sigma)
            .collect();
        assert_close("ratio of σ", &ratios, &vec![1.0; position.len()], 1e-4);

        let over_white = over_white(&mut renderer, &want);
        assert_close("image", &over_white, &to_f64(&want.f32("image")), 1e-4);
    });
}

/// Render the view of a fixture's camera over white.
fn over_white(renderer: &mut Renderer, want: &Tensors) -> Vec<f32> {
    let [pose, focal, principal] =
        ["world_from_camera", "focal", "principal"].map(|n| want.f32(&format!("camera.{n}")));
    let shape = &want.all["image"].1;
    let camera = Camera {
        world_from_camera: std::array::from_fn(|r| {
            std::array::from_fn(|c| f64::from(pose[4 * r + c]))
        }),
        width: shape[1] as u32,
        height: shape[0] as u32,
        focal: [focal[0], focal[1]],
        principal: [principal[0], principal[1]],
        lens: Lens::Pinhole,
    };
    let frame = renderer.render(&camera, None, false).unwrap();
    let pixels = frame.color.chunks_exact(3).zip(&frame.opacity);
    pixels
        .flat_map(|(c, o)| [0, 1, 2].map(|k| c[k] + 1.0 - o))
        .collect()
}

fn logistic(raw: &[[f32; 3]]) -> Vec<f32> {
    let raw = raw.as_flattened().iter();
    raw.map(|raw| 1.0 / (1.0 + (-raw).exp())).collect()
}

/// Return the points of a fixture, transformed from world space to the box of `config`.
fn points_in_box(want: &Tensors, config: &ResolvedConfig) -> Vec<[f32; 3]> {
    let scene = &config.scene;
    let scale = scene.scale.unwrap() as f32;
    let offset = scene.offset.unwrap().map(|v| v as f32);
    let position = vectors(&want.f32("points.position"));
    position
        .iter()
        .map(|p| [0, 1, 2].map(|a| p[a] * scale + offset[a]))
        .collect()
}

#[test]
fn a_learned_initialisation_matches_pytorch() {
    let directory =
        std::env::var_os("KILN_SEED_003").map_or_else(|| fixture("seed_003"), PathBuf::from);
    on_both_devices(|gpu| {
        let scratch = tempfile::tempdir().unwrap();
        let want = Tensors::open(&directory.join("expected.safetensors"));
        let options = learnit::Options::default();
        let imported = learnit::read(&directory.join("model.safetensors"), &options).unwrap();
        let renderer = renderer_of(gpu, &imported, scratch.path());
        let field = renderer.fields().next().unwrap().clone();
        let position = points_in_box(&want, &imported.config);
        let direction = vec![[0.0, 0.0, 1.0]; position.len()];
        let (color, density) =
            evaluate(gpu, &field, &renderer.parameters[0], &position, &direction);
        let sigma: Vec<f32> = density.iter().map(|raw| raw.max(0.0)).collect();
        assert_close("σ", &sigma, &to_f64(&want.f32("points.sigma")), 1e-4);
        let rgb = logistic(&color);
        assert_close("rgb", &rgb, &to_f64(&want.f32("points.rgb")), 1e-4);
    });
}

/// The model of nerf-meta has columns in another order, a softplus, and a last interval of 1e-3.
#[test]
fn a_learned_initialisation_of_nerf_meta_matches_pytorch() {
    let directory =
        std::env::var_os("KILN_NERF_META").map_or_else(|| fixture("nerf_meta"), PathBuf::from);
    on_both_devices(|gpu| {
        let scratch = tempfile::tempdir().unwrap();
        let want = Tensors::open(&directory.join("expected.safetensors"));
        let mut options = learnit::Options::default();
        options.rays.pixel_center = 0.5;
        let imported = learnit::read(&directory.join("model.safetensors"), &options).unwrap();
        let mut renderer = renderer_of(gpu, &imported, scratch.path());
        let field = renderer.fields().next().unwrap().clone();
        let position = points_in_box(&want, &imported.config);
        let direction = vec![[0.0, 0.0, 1.0]; position.len()];
        let (color, density) =
            evaluate(gpu, &field, &renderer.parameters[0], &position, &direction);
        let softplus = |raw: &f32| f64::from(*raw).exp().ln_1p() as f32;
        let sigma: Vec<f32> = density.iter().map(softplus).collect();
        assert_close("σ", &sigma, &to_f64(&want.f32("points.sigma")), 1e-4);
        let rgb = logistic(&color);
        assert_close("rgb", &rgb, &to_f64(&want.f32("points.rgb")), 1e-4);
        let image = over_white(&mut renderer, &want);
        assert_close("image", &image, &to_f64(&want.f32("image")), 1e-4);
    });
}

#[test]
fn a_grid_of_networks_matches_pytorch_inside_on_borders_and_outside() {
    let directory =
        std::env::var_os("KILN_SEED_000").map_or_else(|| fixture("seed_000"), PathBuf::from);
    on_both_devices(|gpu| {
        let scratch = tempfile::tempdir().unwrap();
        let want = Tensors::open(&directory.join("expected.safetensors"));
        let options = kilonerf_seed::Options::default();
        let imported = kilonerf_seed::read(&directory.join("model.safetensors"), &options).unwrap();
        let renderer = renderer_of(gpu, &imported, scratch.path());
        let field = renderer.fields().next().unwrap().clone();
        let position = points_in_box(&want, &imported.config);
        let direction = vectors(&want.f32("points.direction"));
        let (color, density) =
            evaluate(gpu, &field, &renderer.parameters[0], &position, &direction);
        let sigma: Vec<f32> = density.iter().map(|raw| raw.max(0.0)).collect();
        let (rgb, want_sigma) = (want.f32("points.rgb"), want.f32("points.sigma"));
        assert_close("σ", &sigma, &to_f64(&want_sigma), 1e-4);
        // Outside the grid the original model makes points black, which is never visible.
        let is_inside = |i: &usize| rgb[3 * i..3 * i + 3] != [0.0; 3];
        let inside: Vec<usize> = (0..position.len()).filter(is_inside).collect();
        assert!(inside.len() > position.len() / 3);
        let of = |rgb: &[f32]| -> Vec<f32> {
            let of = |&i: &usize| rgb[3 * i..3 * i + 3].to_vec();
            inside.iter().flat_map(of).collect()
        };
        assert_close("rgb", &of(&logistic(&color)), &to_f64(&of(&rgb)), 1e-4);
    });
}

/// Write a model of `n`³ cells in the tensors of the `PyTorch` implementation: the density of a cell is its index (x slowest)
/// plus 1.
fn numbered_cells(n: usize, path: &Path) {
    let cells = n * n * n;
    let zeros = |shape: &[usize]| {
        let bytes = vec![0; 4 * cells * shape.iter().product::<usize>()];
        (Dtype::F32, [&[n; 3], shape].concat(), bytes)
    };
    let mut all = BTreeMap::new();
    for (layer, n_in, n_out) in [(1, 9, 4), (2, 4, 5), (3, 4, 4), (4, 13, 4), (5, 4, 3)] {
        all.insert(format!("layer{layer}_w"), zeros(&[n_in, n_out]));
        all.insert(format!("layer{layer}_b"), zeros(&[1, n_out]));
    }
    let (_, _, bytes) = all.get_mut("layer2_b").unwrap();
    for (cell, biases) in bytes.chunks_exact_mut(5 * 4).enumerate() {
        biases[4 * 4..].copy_from_slice(&((cell + 1) as f32).to_le_bytes());
    }
    let metadata = None;
    Tensors { metadata, all }.save(path);
}

#[test]
fn points_on_cell_borders_are_in_the_same_cells_as_in_pytorch() {
    const SIDE: f32 = 3.0;
    on_both_devices(|gpu| {
        for n in [2, 8, 16_usize] {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("model.safetensors");
            numbered_cells(n, &path);
            let options = kilonerf_seed::Options::default();
            let imported = kilonerf_seed::read(&path, &options).unwrap();
            let renderer = renderer_of(gpu, &imported, scratch.path());
            let field = renderer.fields().next().unwrap().clone();

            // All corners of cells, and points that a few additional or missing roundings would move across a border.
            let border = |k: usize| k as f32 * (SIDE / n as f32) - SIDE / 2.0;
            let mut points = Vec::new();
            for i in 0..(n + 1).pow(3) {
                let corner = [i % (n + 1), i / (n + 1) % (n + 1), i / (n + 1).pow(2)].map(border);
                points.push(corner);
                let by = [-16, 16][i % 2];
                let bits = corner[i % 3].to_bits();
                let mut beside = corner;
                beside[i % 3] = f32::from_bits(bits.saturating_add_signed(by));
                points.push(beside);
            }
            // Compute the cell as the implementation's `forward` does: in f32 and in the same order.
            let want = points.iter().map(|p| {
                let is_inside = p.iter().all(|v| v.abs() < SIDE / 2.0);
                let cell = p.map(|v| {
                    let at = v / (SIDE / n as f32) + n as f32 / 2.0;
                    (at as usize).min(n - 1)
                });
                let number = (cell[0] * n + cell[1]) * n + cell[2] + 1;
                if is_inside { number as f32 } else { 0.0 }
            });
            let scale = imported.config.scene.scale.unwrap() as f32;
            let in_box: Vec<[f32; 3]> = points.iter().map(|p| p.map(|v| v * scale + 0.5)).collect();
            let direction = vec![[0.0, 0.0, 1.0]; points.len()];
            let (_, density) = evaluate(gpu, &field, &renderer.parameters[0], &in_box, &direction);
            for ((point, density), want) in points.iter().zip(density).zip(want) {
                assert_eq!(density.max(0.0), want, "{n}: {point:?}");
            }
        }
    });
}
