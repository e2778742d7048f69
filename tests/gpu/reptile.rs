//! Meta-learning of an initialisation: outer steps, the tasks in turn, and restoring the start of a task.

use std::sync::Arc;

use kiln::checkpoint::Checkpoint;
use kiln::config::{Config, Meta, ResolvedConfig, SceneHints};
use kiln::dataset::Image;
use kiln::gpu::{Buffer, Gpu};
use kiln::images::{GpuCamera, ImageSet, TASKS, near_far};
use kiln::render::Renderer;
use kiln::scene_frame::SceneFrame;
use kiln::step_state::StepState;
use kiln::train::{TrainEvent, Trainer, plan};

use crate::reference::optimizer::{Adam, Moments};
use crate::reference::reptile;
use crate::support::{assert_close, on_device, save_checkpoint, to_f32, to_f64};
use crate::train::{camera, config, train, view};

const INNER: u32 = 5;
const OBJECTS: u32 = 3;
const VIEWS: u32 = 4;

const INTERPOLATED: [&str; 3] = [
    "meta.optimizer.algorithm=\"sgd\"",
    "meta.optimizer.learning_rate=0.3",
    "meta.optimizer.l2_reg=0.0",
];
/// Adam as outer optimiser, with a rate that is halved at every outer step.
const WITH_ADAM: [&str; 6] = [
    "meta.optimizer.algorithm=\"adam\"",
    "meta.optimizer.learning_rate=1e-2",
    "meta.optimizer.epsilon=1e-4",
    "meta.optimizer.decay_base=0.5",
    "meta.optimizer.decay_start=1",
    "meta.optimizer.decay_interval=1",
];

/// Return a configuration that meta-learns the initialisation of a hash grid.
fn meta_config(gpu: &Gpu, overrides: &[&str]) -> ResolvedConfig {
    let mut config = config(&[]);
    config.meta = Some(Meta {
        inner_steps: INNER,
        ..Meta::default_for(&config.optimizer)
    });
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    let config = Config::parse(&config.to_toml(), "test", &overrides).unwrap();
    config.resolve(SceneHints::default(), gpu.class())
}

/// Return spheres in different colours, and another sphere in the slot of the held-out object.
fn objects(gpu: &Gpu, config: &ResolvedConfig) -> ImageSet {
    let cameras: Vec<_> = (0..VIEWS).map(|i| camera(i as f32 * 0.27, 0.4)).collect();
    let side = u64::from(cameras[0].width);
    let pixels = u64::from(VIEWS) * side * side;
    let set = ImageSet::of_slots(gpu, OBJECTS + 1, VIEWS, pixels).unwrap();
    for slot in 0..=OBJECTS {
        let images: Vec<Image> = cameras
            .iter()
            .map(|camera| {
                let mut image = view(camera);
                image.pixels.chunks_exact_mut(4).for_each(|p| {
                    p[..3].rotate_left(slot as usize % 3);
                    p[0] /= 1 + slot as u8;
                });
                image
            })
            .collect();
        let cameras: Vec<GpuCamera> = cameras
            .iter()
            .map(|c| GpuCamera::new(c, near_far(config, None), &SceneFrame::of(config)))
            .collect();
        set.put(gpu, slot, &images, &cameras);
    }
    for task in 0..TASKS {
        set.assign(gpu, task, task % OBJECTS, VIEWS);
    }
    set.assign(gpu, TASKS, OBJECTS, 1);
    set
}

fn trainer_of(gpu: &Arc<Gpu>, overrides: &[&str]) -> Trainer {
    let config = meta_config(gpu, overrides);
    let set = objects(gpu, &config);
    let mut trainer = Trainer::new(gpu, &config, &set, None).unwrap();
    trainer.warm_up(&set).unwrap();
    trainer
}

fn all(gpu: &Gpu, buffer: &Buffer) -> Vec<f32> {
    gpu.read(buffer, 0, buffer.bytes() as usize / 4).unwrap()
}

/// Return the buffers that contain the parameters.
fn parameters(trainer: &Trainer) -> Vec<Buffer> {
    let tables = trainer.sparse.iter().flat_map(|s| s.values.clone());
    std::iter::once(trainer.dense.weights.values.clone())
        .chain(tables)
        .collect()
}

/// Save a checkpoint of `trainer` to a file and read it back.
fn saved(gpu: &Gpu, trainer: &Trainer) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    save_checkpoint(&path, gpu, trainer);
    Checkpoint::open(&path).unwrap()
}

/// Return all parameters, and the state of the outer optimiser.
fn state(gpu: &Gpu, trainer: &Trainer) -> Vec<Vec<f32>> {
    let mut buffers = parameters(trainer);
    for outer in &trainer.reptile.as_ref().unwrap().outer {
        let [first, second] = outer.group.moments.clone();
        buffers.extend([outer.group.weights.values.clone(), first, second]);
    }
    buffers.iter().map(|b| all(gpu, b)).collect()
}

#[test]
fn outer_steps_follow_the_reference() {
    on_device(|gpu| {
        for overrides in [&INTERPOLATED[..], &WITH_ADAM] {
            let trainer = trainer_of(gpu, overrides);
            let optimizer = trainer.config().meta.clone().unwrap().optimizer;
            let adam = Adam {
                beta1: f64::from(optimizer.beta1),
                beta2: f64::from(optimizer.beta2),
                epsilon: f64::from(optimizer.epsilon),
                l2_reg: 0.0,
            };
            let mut theta: Vec<Vec<f64>> = parameters(&trainer)
                .iter()
                .map(|b| to_f64(&all(gpu, b)))
                .collect();
            let mut moments: Vec<Moments> =
                theta.iter().map(|t| Moments::zeros(t.len(), 1)).collect();
            for outer_step in 0..3 {
                for _ in 0..INNER {
                    gpu.submit(trainer.stages().0);
                }
                let phi: Vec<Vec<f64>> = parameters(&trainer)
                    .iter()
                    .map(|b| to_f64(&all(gpu, b)))
                    .collect();
                gpu.submit(trainer.outer_stages());
                let after = parameters(&trainer);
                for (index, (theta, phi)) in theta.iter_mut().zip(&phi).enumerate() {
                    let before = theta.clone();
                    if optimizer.algorithm == kiln::config::Algorithm::Sgd {
                        reptile::interpolate(f64::from(optimizer.learning_rate), theta, phi);
                    } else {
                        let halved = 0.5_f64.powf(f64::from(outer_step));
                        let rate = f64::from(optimizer.learning_rate) * halved;
                        reptile::step(&adam, rate, theta, phi, &mut moments[index]);
                    }
                    let found = to_f64(&all(gpu, &after[index]));
                    let change = |to: &[f64]| reptile::gradient(to, &before);
                    assert!(
                        change(theta).iter().any(|c| c.abs() > 1e-6),
                        "nothing moved"
                    );
                    let name = format!("change of buffer {index} in outer step {outer_step}");
                    assert_close(&name, &to_f32(&change(&found)), &change(theta), 1e-3);
                    *theta = found;
                }
                // The next task starts from the new initial weights, with a reset optimiser.
                let state: StepState = gpu.read(&trainer.counts().state, 0, 1).unwrap()[0];
                assert_eq!((state.task, state.task_start), (outer_step + 1, state.step));
                let sparse = &trainer.sparse[0];
                for buffer in sparse.moments.iter().chain(&trainer.dense.moments) {
                    assert!(all(gpu, buffer).iter().all(|v| *v == 0.0));
                }
                for counters in &sparse.counters {
                    let n = counters.bytes() as usize / 4;
                    let counters = gpu.read::<u32>(counters, 0, n).unwrap();
                    assert!(counters.iter().all(|c| *c == 0));
                }
            }
        }
    });
}

#[test]
fn rays_are_drawn_from_the_object_of_the_current_task() {
    on_device(|gpu| {
        let mut trainer = trainer_of(gpu, &INTERPOLATED);
        for outer_step in 0..4 {
            // Train the first step of the task.
            train(&mut trainer, outer_step * INNER + 1).unwrap();
            let state: StepState = gpu.read(&trainer.counts().state, 0, 1).unwrap()[0];
            let rays = gpu
                .read::<[u32; 16]>(&trainer.passes[0].rays, 0, state.n_rays as usize)
                .unwrap();
            let slot = outer_step % OBJECTS;
            let of_object = slot * VIEWS..(slot + 1) * VIEWS;
            // The image of each ray.
            let images: Vec<u32> = rays.iter().map(|r| r[IMAGE_OF_RAY]).collect();
            assert!(images.iter().all(|i| of_object.contains(i)), "{images:?}");
            for image in of_object {
                assert!(images.contains(&image), "view {image} is left out");
            }
        }
    });
}

/// Index of the 32-bit word of a `Ray` that contains its image.
const IMAGE_OF_RAY: usize = 11;

#[test]
fn adapting_abandoning_a_task_and_resuming_do_not_affect_training() {
    on_device(|gpu| {
        for overrides in [&INTERPOLATED[..], &WITH_ADAM] {
            let mut whole = trainer_of(gpu, overrides);
            train(&mut whole, 4 * INNER).unwrap();
            let expected = state(gpu, &whole);

            let mut other = trainer_of(gpu, overrides);
            train(&mut other, INNER).unwrap();
            // Adapting to another object changes the parameters…
            other.adapt();
            train(&mut other, 7).unwrap();
            let bits = other.occupancy.as_ref().map(|g| &g.bits);
            let renderer = Renderer::new(gpu, other.config(), bits).unwrap();
            other.export_ema(&renderer.parameters).unwrap();
            let adapted = all(gpu, &renderer.parameters[0].weights.values);
            other.end_adaptation().unwrap();
            assert_eq!(other.step(), INNER);
            let values = all(gpu, &other.dense.weights.values);
            assert_ne!(adapted, values, "the held-out object changed nothing");
            // …a task is abandoned halfway…
            train(&mut other, 2 * INNER + 3).unwrap();
            other.restart_task().unwrap();
            assert_eq!(other.step(), 2 * INNER);
            // …and the run is saved and resumed.
            let saved = saved(gpu, &other);
            assert!(saved.verify(gpu).unwrap().resumable);
            let mut resumed = trainer_of(gpu, overrides);
            saved.restore(gpu, &mut resumed).unwrap();
            for trainer in [&mut other, &mut resumed] {
                train(trainer, 4 * INNER).unwrap();
                assert!(state(gpu, trainer) == expected, "another result");
            }
        }
    });
}

#[test]
fn training_starts_from_the_learned_initialisation() {
    on_device(|gpu| {
        let mut trainer = trainer_of(gpu, &INTERPOLATED);
        train(&mut trainer, 2 * INNER).unwrap();
        let learned: Vec<Vec<f32>> = parameters(&trainer).iter().map(|b| all(gpu, b)).collect();
        let saved = saved(gpu, &trainer);

        let config = trainer.config().with(|config| config.meta = None);
        assert!(config.optimizer.ema_decay > 0.0, "averages are tested too");
        let set = objects(gpu, &config);
        let mut initialised = Trainer::new(gpu, &config, &set, None).unwrap();
        let fields: Vec<_> = initialised.fields().cloned().collect();
        saved
            .check_shapes(&fields.iter().collect::<Vec<_>>())
            .unwrap();
        initialised.reset(None).unwrap();
        saved.initialise(gpu, &initialised).unwrap();
        for (found, expected) in parameters(&initialised).iter().zip(&learned) {
            assert!(all(gpu, found) == *expected, "not the same weights");
        }
        assert!(all(gpu, &initialised.dense.averages) == learned[0]);
        assert!(all(gpu, &initialised.sparse[0].averages[0]) == learned[1]);
        // A single view does not cause unseen cells to be marked as empty.
        let bits = &initialised.occupancy.as_ref().unwrap().bits;
        let bits = gpu.read::<u32>(bits, 0, bits.bytes() as usize / 4).unwrap();
        assert!(bits.iter().all(|b| *b == u32::MAX));

        let wider = config.with(|config| {
            if let Some(network) = &mut config.passes[0].field.color_network {
                network.n_neurons = 32;
            }
        });
        let fields = kiln::field::Field::of_passes(gpu.profile(), &wider).unwrap();
        let error = saved
            .check_shapes(&fields.iter().collect::<Vec<_>>())
            .unwrap_err();
        assert!(
            error.to_string().contains("color_network.0.weight"),
            "{error}"
        );
    });
}

/// A few steps on one view of the held-out sphere reach a higher PSNR from learned weights than from random ones.
#[test]
fn a_learned_initialisation_is_better_than_a_random_one() {
    on_device(|gpu| {
        let mut trainer = trainer_of(gpu, &INTERPOLATED);
        let first_psnr = |trainer: &mut Trainer| {
            trainer.adapt();
            let events = train(trainer, INNER).unwrap();
            trainer.end_adaptation().unwrap();
            let TrainEvent::Progress(last) = events.last().unwrap();
            last.train_psnr
        };
        let before = first_psnr(&mut trainer);
        let events = train(&mut trainer, 30 * INNER).unwrap();
        let TrainEvent::Progress(last) = events.last().unwrap();
        let inner = last.inner.unwrap();
        assert!(inner.last_psnr > inner.first_psnr, "{inner:?}");
        let after = first_psnr(&mut trainer);
        assert!(after > before + 3.0, "{before} dB, then {after} dB");
    });
}

#[test]
fn the_plan_counts_what_outer_steps_take() {
    on_device(|gpu| {
        for overrides in [&INTERPOLATED[..], &WITH_ADAM] {
            let config = meta_config(gpu, overrides);
            let set = objects(gpu, &config);
            let before = gpu.allocated_bytes();
            let trainer = Trainer::new(gpu, &config, &set, None).unwrap();
            let bits = trainer.occupancy.as_ref().map(|g| &g.bits);
            let _renderer = Renderer::new(gpu, &config, bits).unwrap();
            let allocated = gpu.allocated_bytes() - before;
            let planned = plan(gpu.profile(), &config).unwrap().total_bytes();
            assert_eq!(allocated, planned);
        }
    });
}
