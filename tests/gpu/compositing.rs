//! The gradients of a composited loss, and rendered pixels. Activations and losses come from the reference.

use std::sync::Arc;

use bytemuck::Zeroable;
use kiln::config::Loss as LossConfig;
use kiln::gpu::{Buffer, Defines, Gpu};
use kiln::loss;
use kiln::step_state::{DEPTH_STRIDE, StepState};

use crate::reference::compositing::{
    Compositing, DensityActivation, RgbActivation, Sample, d_opacity_of_background,
};
use crate::reference::loss::Loss;
use crate::reference::random::Pcg;
use crate::support::{
    GpuRay, Rig, assert_close, linear_from_srgb, on_device, srgb_from_linear, to_f64,
};

/// Stride of the raw densities, in f32 values.
const STRIDE: usize = 8;

/// Return the alpha of the pixel of `ray`.
fn alpha(ray: usize) -> f64 {
    if ray.is_multiple_of(3) { 0.4 } else { 1.0 }
}

/// Rays with samples. The last two rays do not fit the buffers.
pub struct Rays {
    pub samples: Vec<Vec<Sample>>,
    backgrounds: Vec<[f64; 3]>,
    targets: Vec<[f64; 3]>,
}

pub const N_RAYS: usize = 70;
pub const N_FITTING: usize = 68;

impl Rays {
    /// Return random rays. `last_dt` replaces the last dt of every third ray.
    pub fn random(pcg: &mut Pcg, last_dt: Option<f64>) -> Self {
        let sample = |pcg: &mut Pcg| Sample {
            raw: [
                pcg.uniform(-2.0, 2.0),
                pcg.uniform(-2.0, 2.0),
                pcg.uniform(-2.0, 2.0),
                pcg.uniform(-3.0, 3.0),
            ],
            dt: pcg.uniform(0.01, 0.2),
            t: pcg.uniform(0.5, 4.0),
        };
        let mut samples: Vec<Vec<Sample>> = (0..N_RAYS)
            .map(|_| (0..pcg.next_u32() % 20).map(|_| sample(pcg)).collect())
            .collect();
        if let Some(dt) = last_dt {
            samples
                .iter_mut()
                .step_by(3)
                .filter_map(|ray| ray.last_mut())
                .for_each(|last| last.dt = dt);
        }
        let mut colors = |low, high| (0..N_RAYS).map(|_| pcg.uniform3(low, high)).collect();
        Self {
            samples,
            backgrounds: colors(0.0, 1.0),
            targets: colors(0.0, 1.0),
        }
    }

    pub fn offsets(&self) -> Vec<u32> {
        let mut offsets = vec![0];
        for ray in &self.samples {
            offsets.push(offsets[offsets.len() - 1] + ray.len() as u32);
        }
        offsets
    }

    fn flat(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().flatten()
    }

    pub fn n_samples(&self) -> usize {
        self.flat().count()
    }

    pub fn rig(&self, gpu: &Arc<Gpu>) -> Rig {
        let n = self.n_samples() as u32;
        let rig = Rig::new(gpu, 0, 0, 0);
        rig.set(StepState {
            n_rays: N_RAYS as u32,
            n_rays_fitting: N_FITTING as u32,
            n_marched: n,
            n_kept: n,
            ..StepState::zeroed()
        });
        rig
    }

    /// Return the buffers that `train` and `render` read.
    pub fn inputs(&self, rig: &Rig) -> Vec<(&'static str, Buffer)> {
        let rays: Vec<GpuRay> = self
            .backgrounds
            .iter()
            .map(|b| GpuRay {
                background: b.map(|v| v as f32),
                ..GpuRay::zeroed()
            })
            .collect();
        let targets: Vec<f32> = self
            .targets
            .iter()
            .enumerate()
            .flat_map(|(r, t)| [t[0] as f32, t[1] as f32, t[2] as f32, alpha(r) as f32])
            .collect();
        let samples: Vec<f32> = self
            .flat()
            .flat_map(|s| [0.0, 0.0, 0.0, s.dt as f32])
            .collect();
        let colors: Vec<f32> = self
            .flat()
            .flat_map(|s| [s.raw[0] as f32, s.raw[1] as f32, s.raw[2] as f32, f32::NAN])
            .collect();
        let mut color_input = vec![f32::NAN; self.n_samples() * STRIDE];
        color_input
            .iter_mut()
            .step_by(STRIDE)
            .zip(self.flat())
            .for_each(|(to, s)| *to = s.raw[3] as f32);
        let kept_rays: Vec<[u32; 2]> = self.flat().map(|s| [0, (s.t as f32).to_bits()]).collect();
        // The marched offsets, in the x component, must not be read.
        let offsets: Vec<[u32; 2]> = self.offsets().into_iter().map(|o| [12345, o]).collect();
        vec![
            ("counts", rig.counts.state.clone()),
            ("rays", rig.buffer(&rays)),
            ("targets", rig.buffer(&targets)),
            ("kept_samples", rig.buffer(&samples)),
            ("raw_color", rig.buffer(&colors)),
            ("raw_density", rig.buffer(&color_input)),
            ("kept_rays", rig.buffer(&kept_rays)),
            ("offsets", rig.buffer(&offsets)),
        ]
    }
}

pub fn activations(density: DensityActivation, color: RgbActivation) -> Defines {
    let density = match density {
        DensityActivation::Exp => "exp",
        DensityActivation::Relu => "relu",
        DensityActivation::Softplus => "softplus",
    };
    let color = match color {
        RgbActivation::Sigmoid => "sigmoid",
        RgbActivation::None => "none",
    };
    Defines::new()
        .set("density_activation", density)
        .set("density_bias", "0.0")
        .set("color_activation", color)
        .set("density_stride", STRIDE)
        .set("color_stride", 1)
        .set("color_offset", 0)
        .set("d_density_stride", 1)
        .set("joint", false)
        .set("ndc", false)
}

/// Run `pass` of the compositing shader over the rays of `rig`.
fn run(rig: &Rig, pass: &str, entry: &str, defines: Defines, bindings: &[(&str, &Buffer)]) {
    let defines = defines.set("pass", pass);
    rig.run(|stage| {
        let per_ray = rig.counts.groups(StepState::RAYS, 64, 1);
        stage.run("compositing", entry, &defines, bindings, per_ray)?;
        Ok(())
    });
}

struct Training {
    density: DensityActivation,
    color: RgbActivation,
    loss: Loss,
    opacity_loss: f64,
    mask_loss: f64,
    linear: bool,
    last_dt: Option<f64>,
}

/// Check loss and squared error per ray, and gradients per sample; a step has two micro-batches.
fn check_training(gpu: &Arc<Gpu>, case: &Training) {
    const MICRO_BATCHES: f64 = 2.0;
    const LOSS_WEIGHT: f64 = 0.75;
    let mut pcg = Pcg::new(21);
    let rays = Rays::random(&mut pcg, case.last_dt);
    let n = rays.n_samples();
    let rig = rays.rig(gpu);
    let losses = rig.buffer(&vec![7.0_f32; 12 * N_RAYS]);
    let (d_color, d_density) = (
        rig.buffer(&vec![7.0_f32; 4 * n]),
        rig.buffer(&vec![7.0_f32; n]),
    );
    let inputs = rays.inputs(&rig);
    let mut bindings: Vec<(&str, &Buffer)> = inputs
        .iter()
        .map(|(name, buffer)| (*name, buffer))
        .collect();
    bindings.extend([
        ("d_color", &d_color),
        ("d_density", &d_density),
        ("ray_losses", &losses),
    ]);
    let config = match case.loss {
        Loss::L2 => LossConfig::L2 {},
        Loss::Huber { delta } => LossConfig::Huber {
            delta: delta as f32,
        },
    };
    let of_loss = activations(case.density, case.color)
        .merge(loss::defines(&config))
        .set("linear", case.linear)
        .set("opacity_loss", case.opacity_loss)
        .set("mask_loss", case.mask_loss)
        .set("loss_weight", format!("{LOSS_WEIGHT:?}"))
        .set("micro_batches", MICRO_BATCHES as u32);
    run(&rig, "train", "train", of_loss, &bindings);
    run(
        &rig,
        "gradients",
        "gradients_of_samples",
        activations(case.density, case.color)
            .set("opacity_loss", case.opacity_loss)
            .set("mask_loss", case.mask_loss),
        &bindings,
    );

    let compositing = Compositing {
        density_activation: case.density,
        rgb_activation: case.color,
        min_transmittance: 0.0,
    };
    let (mut expected_losses, mut expected_color, mut expected_density) = (vec![], vec![], vec![]);
    for (r, samples) in rays.samples.iter().enumerate() {
        if r >= N_FITTING {
            expected_losses.extend([0.0, 0.0]);
            expected_color.extend(vec![7.0; 4 * samples.len()]);
            expected_density.extend(vec![7.0; samples.len()]);
            continue;
        }
        let background = if case.linear {
            rays.backgrounds[r].map(linear_from_srgb)
        } else {
            rays.backgrounds[r]
        };
        let composite = compositing.forward(samples);
        let composited = composite.over(background);
        let weight = case.opacity_loss * alpha(r);
        let clear = weight * composite.transmittance;
        let empty = case.mask_loss * (1.0 - alpha(r));
        let shown = composited.map(|v| {
            if case.linear {
                srgb_from_linear(v)
            } else {
                (v, 1.0)
            }
        });
        let predicted = shown.map(|(value, _)| value);
        let target = rays.targets[r];
        expected_losses.extend([
            LOSS_WEIGHT
                * (case.loss.ray(predicted, target)
                    + case.loss.value(clear)
                    + empty * (1.0 - composite.transmittance)),
            Loss::L2.ray(predicted, target),
        ]);
        let d_rgb: [f64; 3] = std::array::from_fn(|c| {
            let slope = case.loss.derivative(predicted[c] - target[c]) * shown[c].1;
            LOSS_WEIGHT * slope / (3.0 * N_FITTING as f64 * MICRO_BATCHES)
        });
        let d_clear = LOSS_WEIGHT * (weight * case.loss.derivative(clear) - empty);
        let d_opacity = d_opacity_of_background(d_rgb, background)
            - d_clear / (N_FITTING as f64 * MICRO_BATCHES);
        for d in compositing.backward(samples, d_rgb, d_opacity) {
            expected_color.extend([d[0], d[1], d[2], 0.0]);
            expected_density.push(d[3]);
        }
    }
    let losses: Vec<f32> = rig
        .read::<[f32; 12]>(&losses, N_RAYS)
        .iter()
        .flat_map(|loss| [loss[3], loss[7]])
        .collect();
    assert_close("loss and squared error", &losses, &expected_losses, 1e-5);
    // Compare only the rays that fit: the unchanged 7s of the others would dominate the relative error.
    let end = rays.offsets()[N_FITTING] as usize;
    let (actual_color, actual_density): (Vec<f32>, Vec<f32>) =
        (rig.read(&d_color, 4 * n), rig.read(&d_density, n));
    assert_close(
        "d_color",
        &actual_color[..4 * end],
        &expected_color[..4 * end],
        2e-5,
    );
    assert_close(
        "d_density",
        &actual_density[..end],
        &expected_density[..end],
        2e-5,
    );
    assert!(
        end < n
            && actual_density[end..]
                .iter()
                .chain(&actual_color[4 * end..])
                .all(|&v| v == 7.0)
    );
}

#[test]
fn training_gradients_of_instant_ngp() {
    on_device(|gpu| {
        let (density, color) = (DensityActivation::Exp, RgbActivation::Sigmoid);
        check_training(
            gpu,
            &Training {
                density,
                color,
                loss: Loss::Huber { delta: 0.1 },
                opacity_loss: 0.0,
                mask_loss: 0.0,
                linear: false,
                last_dt: None,
            },
        );
    });
}

#[test]
fn losses_on_opacity_apply_by_the_alpha_of_the_image() {
    on_device(|gpu| {
        let cases = [
            (Loss::Huber { delta: 0.1 }, false, None),
            (Loss::L2, true, None),
            (Loss::L2, false, Some(1e10)),
        ];
        for (loss, linear, last_dt) in cases {
            check_training(
                gpu,
                &Training {
                    density: DensityActivation::Exp,
                    color: RgbActivation::Sigmoid,
                    loss,
                    opacity_loss: 0.3,
                    mask_loss: 0.2,
                    linear,
                    last_dt,
                },
            );
        }
    });
}

#[test]
fn training_gradients_of_nerf() {
    on_device(|gpu| {
        let (density, color) = (DensityActivation::Relu, RgbActivation::Sigmoid);
        check_training(
            gpu,
            &Training {
                density,
                color,
                loss: Loss::L2,
                opacity_loss: 0.0,
                mask_loss: 0.0,
                linear: false,
                last_dt: Some(1e10),
            },
        );
    });
}

#[test]
fn training_gradients_of_unbounded_colors() {
    on_device(|gpu| {
        let (density, color) = (DensityActivation::Softplus, RgbActivation::None);
        check_training(
            gpu,
            &Training {
                density,
                color,
                loss: Loss::L2,
                opacity_loss: 0.0,
                mask_loss: 0.0,
                linear: false,
                last_dt: None,
            },
        );
    });
}

#[test]
fn training_gradients_in_linear_color() {
    on_device(|gpu| {
        let (density, color) = (DensityActivation::Exp, RgbActivation::Sigmoid);
        check_training(
            gpu,
            &Training {
                density,
                color,
                loss: Loss::L2,
                opacity_loss: 0.0,
                mask_loss: 0.0,
                linear: true,
                last_dt: None,
            },
        );
    });
}

#[test]
fn losses_on_depth_are_added_to_some_rays() {
    const MICRO_BATCHES: u32 = 2;
    const LOSS_WEIGHT: f32 = 0.75;
    const DEPTH_LOSS: f32 = 0.02;
    const DEVIATION: f32 = 0.05;
    on_device(|gpu| {
        for joint in [false, true] {
            let mut pcg = Pcg::new(29);
            let mut rays = Rays::random(&mut pcg, None);
            // Samples in order, as samplers place them.
            for ray in &mut rays.samples {
                ray.sort_by(|a, b| a.t.total_cmp(&b.t));
            }
            let n = rays.n_samples();
            let rig = rays.rig(gpu);
            let stride = DEPTH_STRIDE as usize;
            let known: Vec<[f32; 2]> = (0..N_RAYS.div_ceil(stride))
                .map(|_| [pcg.uniform(0.5, 4.0) as f32, pcg.uniform(0.1, 2.0) as f32])
                .collect();
            let losses = rig.buffer(&vec![1.0_f32; 12 * N_RAYS]);
            let (d_color, d_density) = (
                rig.buffer(&vec![0.25_f32; 4 * n]),
                rig.buffer(&vec![0.25_f32; n]),
            );
            let inputs = rays.inputs(&rig);
            let mut bindings: Vec<(&str, &Buffer)> = inputs
                .iter()
                .map(|(name, buffer)| (*name, buffer))
                .collect();
            let targets = rig.buffer(&known);
            bindings.extend([
                ("d_color", &d_color),
                ("d_density", &d_density),
                ("ray_losses", &losses),
                ("depth_targets", &targets),
            ]);
            let (density, color) = (DensityActivation::Exp, RgbActivation::Sigmoid);
            let defines = activations(density, color)
                .set("joint", joint)
                .set("stride", DEPTH_STRIDE)
                .set_f32("depth_loss", DEPTH_LOSS)
                .set_f32("deviation", DEVIATION)
                .set_f32("loss_weight", LOSS_WEIGHT)
                .set("micro_batches", MICRO_BATCHES);
            run(&rig, "depth", "depth_gradients", defines, &bindings);
            let compositing = Compositing {
                density_activation: density,
                rgb_activation: color,
                min_transmittance: 0.0,
            };
            let (mut expected_losses, mut expected) = (Vec::new(), Vec::new());
            for (r, samples) in rays.samples.iter().enumerate() {
                if !r.is_multiple_of(stride) || r >= N_FITTING {
                    expected_losses.push(1.0);
                    expected.extend(vec![0.25; samples.len()]);
                    continue;
                }
                let [surface, weight] = known[r / stride].map(f64::from);
                let deviation = f64::from(DEVIATION) * surface;
                let factor =
                    f64::from(LOSS_WEIGHT) * f64::from(DEPTH_LOSS) * weight * stride as f64;
                expected_losses
                    .push(1.0 + factor * compositing.depth_loss(samples, surface, deviation));
                let scale = factor / (N_FITTING as f64 * f64::from(MICRO_BATCHES));
                let d = compositing.depth_backward(samples, surface, deviation);
                expected.extend(d.into_iter().map(|d| 0.25 + scale * d));
            }
            let losses: Vec<f32> = rig
                .read::<[f32; 12]>(&losses, N_RAYS)
                .iter()
                .map(|l| l[3])
                .collect();
            assert_close("loss", &losses, &expected_losses, 1e-5);
            let actual: Vec<f32> = if joint {
                let d: Vec<[f32; 4]> = rig.read(&d_color, n);
                assert!(d.iter().all(|d| d[1..] == [0.25; 3]));
                d.iter().map(|d| d[0]).collect()
            } else {
                rig.read(&d_density, n)
            };
            let [actual, expected]: [Vec<f64>; 2] = [
                actual.iter().map(|v| f64::from(*v) - 0.25).collect(),
                expected.iter().map(|v| v - 0.25).collect(),
            ];
            let actual: Vec<f32> = actual.iter().map(|v| *v as f32).collect();
            assert!(expected.iter().any(|v| v.abs() > 1e-4));
            assert_close("d_density", &actual, &expected, 1e-4);
        }
    });
}

#[test]
fn rendered_color_opacity_depth_and_normal() {
    on_device(|gpu| {
        let mut pcg = Pcg::new(23);
        let rays = Rays::random(&mut pcg, None);
        let n = rays.n_samples();
        let rig = rays.rig(gpu);
        let slopes: Vec<[f64; 3]> = (0..n).map(|_| pcg.uniform3(-5.0, 5.0)).collect();
        let d_position: Vec<f32> = slopes
            .iter()
            .flat_map(|s| [s[0] as f32, s[1] as f32, s[2] as f32, 0.0])
            .collect();
        let (d_position, image) = (
            rig.buffer(&d_position),
            rig.buffer(&vec![7.0_f32; 8 * N_RAYS]),
        );
        let inputs = rays.inputs(&rig);
        let mut bindings: Vec<(&str, &Buffer)> = inputs
            .iter()
            .map(|(name, buffer)| (*name, buffer))
            .collect();
        bindings.extend([("d_position", &d_position), ("image", &image)]);
        let defines =
            activations(DensityActivation::Softplus, RgbActivation::Sigmoid).set("normals", true);
        run(&rig, "render", "render", defines, &bindings);

        let reference = Compositing {
            density_activation: DensityActivation::Softplus,
            rgb_activation: RgbActivation::Sigmoid,
            min_transmittance: 0.0,
        };
        let mut first = 0;
        let mut expected = Vec::new();
        for (r, samples) in rays.samples.iter().enumerate() {
            let samples = if r < N_FITTING {
                samples.as_slice()
            } else {
                &[]
            };
            let composite = reference.forward(samples);
            // The weight of a sample is the factor in the gradient with respect to its colour.
            let weights = reference.backward(samples, [1.0, 0.0, 0.0], 0.0);
            let mut normal = [0.0; 3];
            for (i, (sample, d)) in samples.iter().zip(&weights).enumerate() {
                let weight = d[0] / RgbActivation::Sigmoid.derivative(sample.raw[0]);
                let slope = slopes[first + i];
                (0..3).for_each(|c| normal[c] -= weight * slope[c]);
            }
            let length = normal.iter().map(|v| v * v).sum::<f64>().sqrt();
            let normal = normal.map(|v| composite.opacity * v / length.max(1e-10));
            first += samples.len();
            expected.extend(composite.rgb);
            expected.push(composite.opacity);
            expected.extend(normal);
            expected.push(composite.depth);
        }
        let actual: Vec<f32> = rig.read(&image, 8 * N_RAYS);
        assert_close("pixels", &actual, &expected, 3e-6);
        assert!(to_f64(&actual[8 * N_FITTING..]).iter().all(|&v| v == 0.0));
    });
}

/// The density gradient in normalised device coordinates, transformed to world space, equals finite differences through the
/// mapping.
#[test]
fn normals_in_device_coordinates_are_transformed_to_world_space() {
    on_device(|gpu| {
        let (near, half) = (1.2_f64, [0.6_f64, 0.45]);
        let (point, gradient) = ([0.4_f64, -0.7, -2.5], [0.3_f64, -0.8, 0.5]);
        let device = |p: [f64; 3]| {
            [
                -p[0] / (p[2] * half[0]),
                -p[1] / (p[2] * half[1]),
                1.0 + 2.0 * near / p[2],
            ]
        };
        let along =
            |p: [f64; 3]| -> f64 { device(p).iter().zip(gradient).map(|(v, g)| v * g).sum() };
        let expected = [0, 1, 2].map(|axis| {
            let moved = |h: f64| {
                let mut p = point;
                p[axis] += h;
                along(p)
            };
            -(moved(1e-5) - moved(-1e-5)) / 2e-5
        });
        let length = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
        let expected = expected.map(|v| v / length);

        let rig = Rig::new(gpu, 1, 1, 1);
        let x = device(point).map(|v| (v * 0.5 + 0.5) as f32);
        let image = rig.zeros(8);
        let buffers = [
            ("offsets", rig.buffer(&[[0_u32, 0], [0, 1]])),
            ("kept_samples", rig.buffer(&[x[0], x[1], x[2], 1.0])),
            ("kept_rays", rig.buffer(&[[0_u32, 0]])),
            ("raw_color", rig.buffer(&[0.0_f32; 4])),
            ("raw_density", rig.buffer(&[50.0_f32; STRIDE])),
            ("d_position", rig.buffer(&gradient.map(|g| g as f32))),
        ];
        let mut bindings = vec![("counts", &rig.counts.state), ("image", &image)];
        bindings.extend(buffers.iter().map(|(name, buffer)| (*name, buffer)));
        let defines = activations(DensityActivation::Relu, RgbActivation::None)
            .set("ndc", true)
            .set("ndc_near", near)
            .set("ndc_half", half)
            .set("scale", "0.5")
            .set("offset", ["0.5"; 3])
            .set("half_box", "0.5")
            .set("normals", true);
        run(&rig, "render", "render", defines, &bindings);
        let normal: Vec<f32> = rig.read::<f32>(&image, 8)[4..7].to_vec();
        assert_close("normal", &normal, &expected, 1e-4);
    });
}
