//! Training as a whole: an analytic scene is learned, runs are reproducible byte by byte, and NaN is detected.

use std::sync::{Arc, OnceLock};

use kiln::camera::Camera;
use kiln::config::{Config, ResolvedConfig, SceneHints};
use kiln::dataset::Image;
use kiln::distillation::Teacher;
use kiln::field::{Field, FieldParameters};
use kiln::gpu::{Buffer, Gpu};
use kiln::images::{GpuCamera, ImageSet, near_far};
use kiln::metrics::psnr;
use kiln::occupancy::OccupancyGrid;
use kiln::render::{NormalSource, Renderer};
use kiln::scene_frame::SceneFrame;
use kiln::train::{StepStatus, TrainError, TrainEvent, Trainer, plan};

use crate::support::on_device;

const SIDE: u32 = 24;

pub fn config(overrides: &[&str]) -> Config {
    let small = [
        "scene.scale=0.45",
        "training.batch_size=4096",
        "training.initial_rays=128",
        "passes.sampler.ray_march.steps=64",
        "occupancy.resolution=16",
        "occupancy.warmup_steps=16",
        "passes.field.n_density_outputs=8",
        "passes.field.position_encoding.hash_grid.n_levels=4",
        "passes.field.position_encoding.hash_grid.log2_hashmap_size=12",
        "passes.field.position_encoding.hash_grid.base_resolution=8",
        "passes.field.position_encoding.hash_grid.finest_resolution=32",
        "passes.field.direction_encoding.spherical_harmonics.degree=2",
        "passes.field.density_network.n_neurons=16",
        "passes.field.color_network.n_neurons=16",
    ];
    let overrides: Vec<String> = small
        .iter()
        .chain(overrides)
        .map(|s| (*s).to_owned())
        .collect();
    Config::preset("ngp-small", &overrides).unwrap()
}

/// The memory plan of a run equals the number of bytes that the run allocates.
#[test]
fn the_plan_is_what_is_allocated() {
    on_device(|gpu| {
        let of_ngp = [
            &[][..],
            &["training.micro_batches=3", "scene.aabb_scale=4"],
            &FREQUENCIES,
            &[
                "passes.field.density_network.biases=true",
                "training.batch_size=65536",
            ],
            // Nothing is culled, although the number of samples per ray is not fixed.
            &["passes.sampler.ray_march.min_transmittance=0.0"],
        ];
        let preset = |name: &str, set: &str| Config::preset(name, &[set.to_owned()]).unwrap();
        let mut configs: Vec<Config> = of_ngp.iter().map(|more| config(more)).collect();
        configs.push(preset("nerf-small", "training.n_rays=200"));
        configs.push(preset("nerf", "training.n_rays=37"));
        configs.push(preset("kilonerf-small", "training.batch_size=4096"));
        for config in configs {
            let name = format!("{} {:?}", config.method, config.training);
            let config = config.resolve(SceneHints::default(), gpu.class());
            let camera = camera(0.0, 0.0);
            let cameras = [GpuCamera::new(
                &camera,
                near_far(&config, None),
                &SceneFrame::of(&config),
            )];
            let images = ImageSet::upload(gpu, &[view(&camera)], &cameras).unwrap();
            let before = gpu.allocated_bytes();
            let trainer = Trainer::new(gpu, &config, &images, None).unwrap();
            let _renderer = Renderer::new(gpu, &config, grid(&trainer).map(|g| &g.bits)).unwrap();
            let allocated = gpu.allocated_bytes() - before;
            let planned = plan(gpu.profile(), &config).unwrap().total_bytes();
            assert_eq!(allocated, planned, "{name}");
        }
    });
}

const DISTANCE: f32 = 3.0;

/// Return a camera that looks at the origin, at the fraction `turn` of a circle around the z axis and at height z.
pub fn camera(turn: f32, z: f32) -> Camera {
    let (sin, cos) = (turn * std::f32::consts::TAU).sin_cos();
    let radius = (DISTANCE * DISTANCE - z * z).sqrt();
    Camera::look_at(
        [radius * cos, radius * sin, z],
        [0.0; 3],
        [0.0, 0.0, 1.0],
        0.7,
        SIDE,
        SIDE,
    )
}

/// Render a sphere of radius 0.8 whose colour depends on the position, antialiased by 5 x 5 rays per pixel, on a transparent
/// background.
pub fn view(camera: &Camera) -> Image {
    let shade = |px: f32, py: f32| -> [f64; 4] {
        let (o, d) = camera.ray(px, py);
        let (b, c) = (dot(o, d), dot(o, o) - 0.64);
        let discriminant = b * b - c;
        if discriminant < 0.0 {
            return [0.0; 4];
        }
        let t = -b - discriminant.sqrt();
        let p: [f64; 3] = std::array::from_fn(|a| o[a] + t * d[a]);
        [
            0.5 + 0.5 * p[0],
            0.5 + 0.5 * p[1],
            if p[2] > 0.0 { 0.9 } else { 0.2 },
            1.0,
        ]
    };
    let mut pixels = Vec::new();
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let mut sum = [0.0; 4];
        for (i, j) in (0..5).flat_map(|i| (0..5).map(move |j| (i, j))) {
            let place = |at: u32, sub: i32| at as f32 + (sub as f32 + 0.5) / 5.0;
            let s = shade(place(x, i), place(y, j));
            (0..4).for_each(|c| sum[c] += s[c] / 25.0);
        }
        let alpha = sum[3].max(1e-9);
        pixels.extend(
            [sum[0] / alpha, sum[1] / alpha, sum[2] / alpha, sum[3]]
                .map(|v| (v * 255.0).round() as u8),
        );
    }
    Image {
        width: SIDE,
        height: SIDE,
        pixels,
        has_alpha: true,
        mask: None,
    }
}

/// Return the RGB values of an image over white, 0 to 1.
fn over_white(image: &Image) -> Vec<f32> {
    let channel = |p: &[u8], c: usize| {
        (f32::from(p[c]) * f32::from(p[3]) / 255.0 + 255.0 - f32::from(p[3])) / 255.0
    };
    let pixels = image.pixels.chunks_exact(4);
    pixels
        .flat_map(|p| [0, 1, 2].map(|c| channel(p, c)))
        .collect()
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn trainer(gpu: &Arc<Gpu>, overrides: &[&str]) -> Trainer {
    trainer_of(gpu, config(overrides))
}

/// Upload views of a sphere.
fn images(gpu: &Arc<Gpu>, config: &ResolvedConfig) -> ImageSet {
    static VIEWS: OnceLock<Vec<(Camera, Image)>> = OnceLock::new();
    let views = VIEWS.get_or_init(|| {
        // A golden-ratio spiral.
        let camera = |i: u8| camera(f32::from(i) * 0.618_034, f32::from(i) * 0.25 - 2.375);
        (0..20).map(|i| (camera(i), view(&camera(i)))).collect()
    });
    let cameras: Vec<GpuCamera> = views
        .iter()
        .map(|(c, _)| GpuCamera::new(c, near_far(config, None), &SceneFrame::of(config)))
        .collect();
    let images: Vec<Image> = views.iter().map(|(_, image)| image.clone()).collect();
    ImageSet::upload(gpu, &images, &cameras).unwrap()
}

fn trainer_of(gpu: &Arc<Gpu>, config: Config) -> Trainer {
    let config = config.resolve(SceneHints::default(), gpu.class());
    let images = images(gpu, &config);
    let mut trainer = Trainer::new(gpu, &config, &images, None).unwrap();
    trainer.warm_up(&images).unwrap();
    trainer
}

pub fn train(trainer: &mut Trainer, steps: u32) -> Result<Vec<TrainEvent>, TrainError> {
    let mut events = Vec::new();
    loop {
        match trainer.advance(steps, &mut events)? {
            StepStatus::Reached => break,
            StepStatus::Busy => trainer.wait()?,
            StepStatus::Submitted => {}
        }
    }
    trainer.pause(&mut events)?;
    Ok(events)
}

/// Frequency encoding in place of the hash grid.
const FREQUENCIES: [&str; 4] = [
    "passes.field.position_encoding={frequency={n_frequencies=4}}",
    "passes.field.density_network={n_neurons=32,n_hidden_layers=2}",
    "optimizer.learning_rate=5e-3",
    "optimizer.network_rate=1.0",
];

#[test]
fn a_colored_sphere_is_learned() {
    on_device(|gpu| learns_a_sphere(gpu, &[], [28.0, 30.0]));
}

#[test]
fn a_colored_sphere_is_learned_by_frequencies() {
    on_device(|gpu| learns_a_sphere(gpu, &FREQUENCIES, [24.0, 26.0]));
}

#[test]
fn a_colored_sphere_is_learned_by_a_grid_of_networks() {
    let cells = "passes.field.cells={longest=2}";
    on_device(|gpu| learns_a_sphere(gpu, &[cells], [26.0, 28.0]));
}

/// The method has a coarse and a fine pass of wide networks, micro-batches, noise, and a crop in the first steps.
#[test]
fn a_colored_sphere_is_learned_in_two_passes() {
    on_device(|gpu| {
        let overrides = [
            "training.n_rays=96",
            "training.micro_batches=3",
            "training.crop_steps=20",
            "training.density_noise=0.05",
            "passes.0.sampler.stratified.n_samples=20",
            "passes.1.sampler.importance={n_samples=8,jitter=true,merge=true}",
            "passes.0.field.density_to_color=false",
            "passes.0.field.n_density_outputs=17",
            "passes.1.field.density_network={n_neurons=32,n_hidden_layers=3,skips=[2],biases=true}",
            "passes.1.field.feature_activation=relu",
            "passes.field.position_encoding.frequency.n_frequencies=4",
        ];
        let config = Config::preset("nerf-small", &overrides.map(str::to_owned)).unwrap();
        let mut trainer = trainer_of(gpu, config);
        let events = train(&mut trainer, 320).unwrap();
        let TrainEvent::Progress(last) = events.last().unwrap();
        assert_eq!(last.rays, 96.0);
        assert!(last.train_psnr > 22.0, "{last:?}");
        let mut renderer = Renderer::new(gpu, trainer.config(), None).unwrap();
        trainer.export_ema(&renderer.parameters).unwrap();
        let camera = camera(0.07, 0.2);
        let frame = renderer.render(&camera, None, false).unwrap();
        let found = psnr(&frame.rgb([1.0; 3]), &over_white(&view(&camera)));
        assert!(found > 21.0, "PSNR {found:.2} dB");
    });
}

/// The sampler of this method culls nothing and places more samples than its batch can hold.
#[test]
fn a_batch_that_is_never_culled_stays_within_its_buffers() {
    on_device(|gpu| {
        let overrides = [
            "passes.sampler={stratified={n_samples=64,jitter=true}}",
            "training.initial_rays=400",
        ];
        let mut trainer = trainer(gpu, &overrides);
        let events = train(&mut trainer, 48).unwrap();
        let TrainEvent::Progress(last) = events.last().unwrap();
        assert!(last.samples <= 4096.0 && last.samples > 2000.0, "{last:?}");
        let capacity = trainer.passes[0].capacity;
        assert_eq!(capacity.marched, capacity.kept);
    });
}

/// Train on a sphere and check views of it. `floors` are minimum PSNRs in dB, of new views and of the training rays.
fn learns_a_sphere(gpu: &Arc<Gpu>, overrides: &[&str], floors: [f64; 2]) {
    let mut trainer = trainer(gpu, overrides);
    let events = train(&mut trainer, 400).unwrap();
    assert_eq!(trainer.step(), 400);
    let TrainEvent::Progress(last) = events.last().unwrap();
    assert_eq!(last.step, 400);
    assert_eq!(last.saturated, 0.0);
    assert!(
        last.samples > 0.7 * 4096.0 && last.samples <= 4096.0,
        "the batch is filled: {last:?}"
    );

    // Render views between the training views, with the averaged weights.
    let mut renderer =
        Renderer::new(gpu, trainer.config(), grid(&trainer).map(|g| &g.bits)).unwrap();
    trainer.export_ema(&renderer.parameters).unwrap();
    let mut total = 0.0;
    // There are more rays than the buffers can hold with all their samples: rendering in rounds equals rendering in one pass.
    let large = camera(0.3, 0.7).resized(160, 160);
    let [in_one, in_rounds] = [true, false].map(|n| renderer.render(&large, None, n).unwrap());
    for (name, one, rounds) in [
        ("colour", &in_one.color, &in_rounds.color),
        ("opacity", &in_one.opacity, &in_rounds.opacity),
        ("depth", &in_one.depth, &in_rounds.depth),
    ] {
        let differ = one.iter().zip(rounds).map(|(a, b)| (a - b).abs());
        let largest = differ.fold(0.0, f32::max);
        // The tolerance is the remaining transmittance at which a ray ends.
        assert!(largest < 0.01, "{name} differs by {largest} in rounds");
        assert!(one.iter().any(|v| *v > 0.5));
    }
    for (turn, z) in [(0.07, 0.2), (0.44, 1.3)] {
        let camera = camera(turn, z);
        let frame = renderer.render(&camera, None, true).unwrap();
        total += psnr(&frame.rgb([1.0; 3]), &over_white(&view(&camera))) / 2.0;

        // The centre of the image is opaque and a radius nearer than the origin, and normals face the camera.
        let middle = ((SIDE / 2) * SIDE + SIDE / 2) as usize;
        assert!(frame.opacity[middle] > 0.95);
        let depth = frame.depth[middle] / frame.opacity[middle];
        assert!((depth - (DISTANCE - 0.8)).abs() < 0.25, "depth {depth}");
        renderer.normal_source = NormalSource::Density;
        let of_density = renderer.render(&camera, None, true).unwrap();
        renderer.normal_source = NormalSource::Depth;
        // The mean cosine over a smooth sphere is 2 / 3; the gradient of a density is rough.
        for (frame, least) in [(&frame, 0.55), (&of_density, 0.35)] {
            let solid = frame
                .normal
                .chunks_exact(3)
                .zip(&frame.opacity)
                .filter(|(_, opacity)| **opacity > 0.9);
            let cosines: Vec<f32> = solid
                .map(|(n, _)| [n[0], n[1], n[2]])
                .map(|n| -dot3(n, camera.forward()) / dot3(n, n).sqrt())
                .collect();
            let facing = cosines.iter().sum::<f32>() / cosines.len() as f32;
            assert!(
                cosines.len() > 150 && facing > least,
                "{} pixels, mean cosine {facing}",
                cosines.len()
            );
        }
        assert!(
            frame.opacity[0] < 0.05,
            "nothing in the corner: {}",
            frame.opacity[0]
        );
    }
    assert!(total > floors[0], "PSNR {total:.2} dB");
    assert!(
        f64::from(last.train_psnr) > floors[1],
        "training PSNR {:.2} dB",
        last.train_psnr
    );
}

fn dot3(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn grid(trainer: &Trainer) -> Option<&OccupancyGrid> {
    trainer.occupancy.as_ref()
}

/// Return every buffer that training writes, as bytes.
fn bytes(gpu: &Gpu, trainer: &Trainer) -> Vec<(&'static str, Vec<u8>)> {
    let read = |buffer: &Buffer| gpu.read::<u8>(buffer, 0, buffer.bytes() as usize).unwrap();
    let all = |buffers: &[Buffer]| buffers.iter().flat_map(read).collect();
    let (dense, sparse) = (&trainer.dense, &trainer.sparse[trainer.sparse.len() - 1]);
    vec![
        ("weights", read(&dense.weights.values)),
        ("first moments of weights", read(&dense.moments[0])),
        ("second moments of weights", read(&dense.moments[1])),
        ("weight averages", read(&dense.averages)),
        ("table", all(&sparse.values)),
        ("table moments", all(&sparse.moments)),
        ("table averages", all(&sparse.averages)),
        ("table counters", all(&sparse.counters)),
        ("gradient scales", read(&sparse.gradient_scales)),
        (
            "occupancy",
            grid(trainer).map_or(Vec::new(), |g| read(&g.thickness)),
        ),
        (
            "occupancy bits",
            grid(trainer).map_or(Vec::new(), |g| read(&g.bits)),
        ),
        ("state", read(&trainer.counts().state)),
    ]
}

#[test]
fn runs_with_one_seed_are_equal_byte_for_byte() {
    on_device(|gpu| {
        let run = |overrides: &[&str]| {
            let mut trainer = trainer(gpu, overrides);
            train(&mut trainer, 40).unwrap();
            bytes(gpu, &trainer)
        };
        let first = run(&[]);
        // The other run is divided into submissions of single stages.
        for ((name, a), (_, b)) in first.iter().zip(run(&["training.submission_ms=0.001"])) {
            assert!(*a == b, "{name} differ");
        }
        let other = run(&["seed=1"]);
        assert!(
            first.iter().zip(&other).take(6).all(|(a, b)| a.1 != b.1),
            "another seed is another run"
        );
    });
}

#[test]
fn micro_batches_add_up() {
    on_device(|gpu| {
        let mut trainer = trainer(gpu, &["training.micro_batches=2"]);
        let events = train(&mut trainer, 96).unwrap();
        let TrainEvent::Progress(last) = events.last().unwrap();
        assert!(last.train_psnr > 15.0, "{last:?}");
        assert!(
            last.samples > 0.7 * 4096.0 && last.samples <= 4096.0,
            "the batch is filled: {last:?}"
        );
    });
}

#[test]
fn distillation_without_a_teacher_is_an_error() {
    on_device(|gpu| {
        let sets = [
            "passes.field.cells={longest=2}",
            "distillation={steps=3,teacher=\"a run\"}",
        ];
        let mut trainer = trainer(gpu, &sets);
        let error = trainer.advance(1, &mut Vec::new()).unwrap_err();
        assert!(
            matches!(
                error,
                TrainError::NoTeacher {
                    step: 0,
                    distillation_steps: 3
                }
            ),
            "{error}"
        );
        assert_eq!(trainer.step(), 0);
    });
}

#[test]
fn a_teacher_without_use_is_an_error() {
    on_device(|gpu| {
        let config = config(&[]).resolve(SceneHints::default(), gpu.class());
        let field = Field::of_passes(gpu.profile(), &config).unwrap().remove(0);
        let parameters = FieldParameters::new(gpu, &field).unwrap();
        let teacher = Teacher::new(config.clone(), field, parameters);
        let images = images(gpu, &config);
        let error = Trainer::new(gpu, &config, &images, Some(&teacher)).unwrap_err();
        assert!(matches!(error, TrainError::UnusedTeacher), "{error}");
    });
}

#[test]
fn nan_in_a_weight_stops_training() {
    on_device(|gpu| {
        let mut trainer = trainer(gpu, &[]);
        let field = trainer.field();
        let density = field.density.layout();
        let color = field.color.as_ref().unwrap().layout();
        // A hidden weight, whose NaN a ReLU hides from the loss, and an output weight.
        let weights = [density.offset(0), color.offset(color.n_layers() - 1)];
        train(&mut trainer, 16).unwrap();
        let good: Vec<f32> = gpu
            .read(&trainer.dense.weights.values, 0, trainer.dense.len as usize)
            .unwrap();
        for weight in weights {
            gpu.write(&trainer.dense.weights.values, 0, &good);
            gpu.write(
                &trainer.dense.weights.values,
                u64::from(weight) * 4,
                &[f32::NAN],
            );
            let until = trainer.step() + 16;
            let outcome = train(&mut trainer, until);
            assert!(
                matches!(outcome, Err(TrainError::NonFinite { .. })),
                "weight {weight}: {outcome:?}"
            );
        }
    });
}
