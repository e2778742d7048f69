//! Samplers: the numbers and positions of samples along rays.

use std::sync::Arc;

use bytemuck::Zeroable;
use kiln::config::{Ndc, Sampler, Spacing};
use kiln::gpu::primitives::Scan;
use kiln::gpu::{Buffer, Counts, Gpu};
use kiln::sampling::{Phase, PlacedSamples, Sampling, SceneBox, ray_march};
use kiln::step_state::StepState;

use crate::reference::occupancy::OccupancyGrid;
use crate::reference::random::Pcg;
use crate::reference::sampling::ray_march::{Ray, RayMarch};
use crate::reference::sampling::stratified::{LAST_DT, stratified};
use crate::support::{GpuRay, Rig, on_device};

const RESOLUTION: u32 = 16;
/// A box that is not centred at the origin.
const SCENE: SceneBox = SceneBox {
    scale: 0.7,
    offset: [0.4, 0.5, 0.6],
    aabb_scale: 1,
    ndc: None,
};

const CASCADES: SceneBox = SceneBox {
    scale: 0.33,
    offset: [0.5; 3],
    aabb_scale: 4,
    ndc: None,
};

/// A sample: position in the box, and dt and distance in world units.
#[derive(Debug, Clone, Copy)]
struct Placement {
    x: [f32; 3],
    dt: f32,
    t: f32,
}

/// Return a sampler of the first pass, which reads the occupancy bits if it marches.
fn first_pass<'a>(
    sampler: &'a Sampler,
    scene: &'a SceneBox,
    jitter: bool,
    counts: &'a Counts,
    rays: &'a Buffer,
    bits: &'a Buffer,
) -> Sampling<'a> {
    Sampling {
        sampler,
        index: 0,
        scene,
        resolution: RESOLUTION,
        jitter,
        limited: false,
        counts,
        rays,
        occupancy: Some(bits),
        previous: None,
    }
}

/// Return the samples of each ray; with `jitter`, those of the first training step.
fn sample(
    gpu: &Arc<Gpu>,
    sampler: &Sampler,
    scene: &SceneBox,
    jitter: bool,
    rays: &[GpuRay],
    bits: &[u32],
) -> Vec<Vec<Placement>> {
    sample_in_step(gpu, sampler, scene, jitter.then_some(0), rays, bits)
}

/// Return the samples of each ray in a training step, or without jitter if `step` is `None`.
fn sample_in_step(
    gpu: &Arc<Gpu>,
    sampler: &Sampler,
    scene: &SceneBox,
    step: Option<u32>,
    rays: &[GpuRay],
    bits: &[u32],
) -> Vec<Vec<Placement>> {
    const CAPACITY: usize = 1 << 16;
    let (n, jitter) = (rays.len(), step.is_some());
    let rig = Rig::new(gpu, n, 0, 0);
    rig.set(StepState {
        step: step.unwrap_or(0),
        ..rig.state()
    });
    let counts = &rig.counts;
    let placed = PlacedSamples {
        ray_counts: rig.zeros(n),
        ray_offsets: rig.zeros(n + 1),
        samples: rig.buffer(&vec![9.0_f32; 4 * CAPACITY]),
        sample_rays: rig.zeros(2 * CAPACITY),
    };
    let scan = Scan::new(gpu, "test", n as u64).unwrap();
    let (rays, occupancy): (Buffer, Buffer) = (rig.buffer(rays), rig.buffer(bits));
    let sampling = |sampler, jitter| first_pass(sampler, scene, jitter, counts, &rays, &occupancy);
    rig.run(|stage| {
        sampling(sampler, jitter).run(stage, Phase::Count, &placed)?;
        scan.run(
            stage,
            counts,
            StepState::RAYS,
            &placed.ray_counts,
            &placed.ray_offsets,
        )?;
        sampling(sampler, jitter).run(stage, Phase::Place, &placed)
    });
    let offsets: Vec<u32> = rig.read(&placed.ray_offsets, n + 1);
    let samples: Vec<[f32; 4]> = rig.read(&placed.samples, CAPACITY);
    let sample_rays: Vec<[u32; 2]> = rig.read(&placed.sample_rays, CAPACITY);
    assert_eq!(
        samples[offsets[n] as usize], [9.0; 4],
        "nothing behind the last"
    );
    (0..n)
        .map(|r| {
            (offsets[r] as usize..offsets[r + 1] as usize)
                .map(|i| {
                    assert_eq!(sample_rays[i][0], r as u32);
                    let [x, y, z, dt] = samples[i];
                    Placement {
                        x: [x, y, z],
                        dt,
                        t: f32::from_bits(sample_rays[i][1]),
                    }
                })
                .collect()
        })
        .collect()
}

/// Return rays that start around and inside the box, some of which miss it, start late, end early or run along an axis.
fn rays(pcg: &mut Pcg, scene: &SceneBox) -> Vec<GpuRay> {
    let half = f64::from(scene.aabb_scale) / 2.0;
    let world = |u: [f64; 3]| -> [f64; 3] {
        std::array::from_fn(|c| (u[c] - f64::from(scene.offset[c])) / f64::from(scene.scale))
    };
    let mut rays: Vec<GpuRay> = (0..300)
        .map(|i| {
            let from = world(pcg.uniform3(0.5 - 2.0 * half, 0.5 + 2.0 * half));
            let to = world(pcg.uniform3(0.5 - 1.3 * half, 0.5 + 1.3 * half));
            // Directions of any length, because t is measured in multiples of the direction.
            let length = pcg.uniform(0.2, 3.0);
            let distance: f64 = (0..3)
                .map(|c| (to[c] - from[c]).powi(2))
                .sum::<f64>()
                .sqrt();
            let mut ray = GpuRay::new(
                from,
                std::array::from_fn(|c| (to[c] - from[c]) / distance * length),
            );
            if i % 3 == 0 {
                ray.t_min = (pcg.uniform(0.0, 1.0) * distance / length) as f32;
                ray.t_max = ray.t_min + (pcg.uniform(0.0, 1.0) * distance / length) as f32;
            }
            ray
        })
        .collect();
    for axis in 0..3 {
        for sign in [-1.0, 1.0] {
            let mut direction = [0.0; 3];
            direction[axis] = sign;
            let mut from = [0.53, 0.47, 0.41];
            from[axis] = 0.5 - sign * 1.9 * half;
            rays.push(GpuRay::new(world(from), direction));
        }
    }
    rays
}

fn march(
    gpu: &Arc<Gpu>,
    scene: SceneBox,
    steps: u32,
    cone_angle: f32,
    max_samples: u32,
    occupied: f64,
) {
    let mut pcg = Pcg::new(61);
    let mut grid = OccupancyGrid::empty(RESOLUTION, scene.cascades());
    for index in 0..grid.values.len() {
        grid.set(index, pcg.unit() < occupied);
    }
    let rays = rays(&mut pcg, &scene);
    let sampler = Sampler::RayMarch {
        steps,
        cone_angle: Some(cone_angle),
        coarse_steps: Some(0),
        max_samples,
        min_transmittance: 1e-3,
    };
    let actual = sample(gpu, &sampler, &scene, false, &rays, &grid.bits);
    let half = scene.aabb_scale as f32 / 2.0;
    let dt_min = ray_march::dt_min(steps);
    let reference = RayMarch {
        box_min: [0.5 - half; 3],
        box_max: [0.5 + half; 3],
        dt_min,
        dt_max: if cone_angle > 0.0 {
            3.0_f32.sqrt() * scene.aabb_scale as f32 / RESOLUTION as f32
        } else {
            dt_min
        },
        cone_angle,
        max_samples: max_samples as usize,
    };
    let (mut equal, mut total, mut cut) = (0, 0, 0);
    for (ray, actual) in rays.iter().zip(&actual) {
        let length = ray.direction.iter().map(|v| v * v).sum::<f32>().sqrt();
        let unit = Ray {
            origin: std::array::from_fn(|c| ray.origin[c] * scene.scale + scene.offset[c]),
            direction: ray.direction,
            t_min: ray.t_min * scene.scale * length,
            t_max: ray.t_max * scene.scale * length,
        };
        let expected = reference.march(&grid, &unit, 0.0);
        total += expected.len();
        cut += usize::from(expected.len() == max_samples as usize);
        // Rounding may move a sample across a cell face, which changes the number of samples of a few rays.
        if expected.len() != actual.len() {
            assert!(
                expected.len().abs_diff(actual.len()) <= 2,
                "{} samples, expected {}",
                actual.len(),
                expected.len()
            );
            continue;
        }
        let near = |a: f32, b: f32| (a - b).abs() < 3e-5 * (1.0 + b.abs());
        equal += usize::from(expected.iter().zip(actual).all(|(e, a)| {
            let x = e
                .position
                .map(|u| (u - 0.5) / scene.aabb_scale as f32 + 0.5);
            near(a.t, e.t / scene.scale)
                && near(a.dt, e.dt / scene.scale)
                && (0..3).all(|c| near(a.x[c], x[c]))
        }));
    }
    assert!(total > 2000, "{total} samples are too few to tell");
    assert!(cut > 5 || max_samples >= 1024, "{cut} rays are cut short");
    assert!(
        equal + 6 >= rays.len(),
        "{equal} of {} rays have the reference's samples",
        rays.len()
    );
}

#[test]
fn march_with_equal_steps() {
    on_device(|gpu| {
        march(gpu, SCENE, 128, 0.0, 1024, 0.4);
    });
}

#[test]
fn march_through_cascades_with_growing_steps() {
    on_device(|gpu| {
        march(gpu, CASCADES, 256, 1.0 / 64.0, 1024, 0.3);
    });
}

#[test]
fn march_stops_at_max_samples() {
    on_device(|gpu| {
        march(gpu, SCENE, 128, 0.0, 20, 0.8);
    });
}

#[test]
fn march_steps_are_longer_in_the_first_training_steps() {
    on_device(|gpu| {
        let rays = rays(&mut Pcg::new(63), &CASCADES);
        let bits = vec![u32::MAX; 3 * RESOLUTION.pow(3) as usize / 32];
        let (steps, growth) = (128, 1.0 / 8.0);
        let sampled = |coarse_steps: u32, step: Option<u32>| {
            let sampler = Sampler::RayMarch {
                steps,
                cone_angle: Some(growth),
                coarse_steps: Some(coarse_steps),
                max_samples: 1024,
                min_transmittance: 0.0,
            };
            sample_in_step(gpu, &sampler, &CASCADES, step, &rays, &bits)
        };
        let shortest = ray_march::dt_min(steps);
        let longest = shortest * CASCADES.aabb_scale as f32 * steps as f32 / RESOLUTION as f32;
        for (step, times) in [(0, 2.0), (2, 1.75), (4, 1.5), (8, 1.0), (20, 1.0)] {
            let placed = sampled(8, Some(step));
            let mut seen = [0; 3];
            for (i, samples) in placed.iter().enumerate() {
                for pair in samples.windows(2) {
                    let t = pair[0].t * CASCADES.scale;
                    let own = (t * growth).max(shortest);
                    let expected = (own * times).min(longest);
                    let kind = if own == shortest {
                        0
                    } else {
                        1 + usize::from(expected == longest)
                    };
                    seen[kind] += 1;
                    let dt = pair[0].dt * CASCADES.scale;
                    assert!(
                        (dt - expected).abs() < 1e-5,
                        "ray {i}: {dt} at {t}, expected {expected}"
                    );
                    let gap = (pair[1].t - pair[0].t) * CASCADES.scale;
                    assert!((gap - dt).abs() < 1e-4, "ray {i}: {gap} after {dt}");
                }
            }
            assert!(seen.iter().all(|n| *n > 5), "{seen:?}");
        }
        let places = |samples: &[Vec<Placement>]| -> Vec<Vec<[f32; 2]>> {
            let of_ray = |ray: &Vec<Placement>| ray.iter().map(|p| [p.t, p.dt]).collect();
            samples.iter().map(of_ray).collect()
        };
        let is_same = |a: (u32, Option<u32>), b: (u32, Option<u32>)| {
            places(&sampled(a.0, a.1)) == places(&sampled(b.0, b.1))
        };
        // Rendering and later training steps do not change.
        assert!(is_same((8, None), (0, None)));
        assert!(!is_same((8, Some(3)), (0, Some(3))));
    });
}

#[test]
fn jitter_moves_all_samples_of_a_ray_by_part_of_a_step() {
    on_device(|gpu| {
        let sampler = Sampler::RayMarch {
            steps: 128,
            cone_angle: Some(0.0),
            coarse_steps: Some(0),
            max_samples: 1024,
            min_transmittance: 0.0,
        };
        let rays = rays(&mut Pcg::new(62), &SCENE);
        let bits = vec![u32::MAX; RESOLUTION.pow(3) as usize / 32];
        let (still, moved) = (
            sample(gpu, &sampler, &SCENE, false, &rays, &bits),
            sample(gpu, &sampler, &SCENE, true, &rays, &bits),
        );
        let mut shifts = Vec::new();
        for (still, moved) in still.iter().zip(&moved) {
            assert!(still.len().abs_diff(moved.len()) <= 1);
            let shift = |(s, m): (&Placement, &Placement)| (m.t - s.t) / s.dt;
            let of_ray: Vec<f32> = still.iter().zip(moved).map(shift).collect();
            assert!(
                of_ray
                    .iter()
                    .all(|&s| (-1e-3..1.001).contains(&s) && (s - of_ray[0]).abs() < 2e-3)
            );
            shifts.extend(of_ray.first());
        }
        let mean = shifts.iter().sum::<f32>() / shifts.len() as f32;
        assert!(
            shifts.len() > 150 && (mean - 0.5).abs() < 0.08,
            "{} rays, mean {mean}",
            shifts.len()
        );
    });
}

#[test]
fn stratified_samples_inside_the_box() {
    const N: usize = 24;
    on_device(|gpu| {
        let scene = SceneBox {
            scale: 0.25,
            offset: [0.5; 3],
            aabb_scale: 2,
            ndc: None,
        };
        let mut rays = rays(&mut Pcg::new(63), &scene);
        for ray in &mut rays {
            (ray.t_min, ray.t_max) = (0.5, 6.0);
        }
        let place = |ray: &GpuRay, t: f64| -> [f64; 3] {
            std::array::from_fn(|c| {
                let world = f64::from(ray.origin[c]) + t * f64::from(ray.direction[c]);
                (world * f64::from(scene.scale) + f64::from(scene.offset[c]) - 0.5)
                    / f64::from(scene.aabb_scale)
                    + 0.5
            })
        };
        for jitter in [false, true] {
            let sampler = Sampler::Stratified {
                n_samples: N as u32,
                jitter: true,
                min_transmittance: 0.0,
                bounded: true,
                spacing: Some(Spacing::Linear),
                last_interval: None,
            };
            let actual = sample(gpu, &sampler, &scene, jitter, &rays, &[0; 4]);
            let (mut inside_at_all, mut places) = (0, Vec::new());
            for (ray, actual) in rays.iter().zip(&actual) {
                let length = ray
                    .direction
                    .iter()
                    .map(|&v| f64::from(v * v))
                    .sum::<f64>()
                    .sqrt();
                let (t, dt) = stratified(0.5, 6.0, N, None, LAST_DT);
                let inside = |t: f64| place(ray, t).iter().all(|x| (0.0..1.0).contains(x));
                inside_at_all += usize::from(!actual.is_empty());
                if jitter {
                    // The samples lie in consecutive bins, one in each.
                    let bins: Vec<f64> = actual
                        .iter()
                        .map(|a| (f64::from(a.t) / length - 0.5) / 5.5 * 23.0)
                        .collect();
                    let nearest: Vec<i32> = bins.iter().map(|b| b.round() as i32).collect();
                    assert!(
                        nearest.windows(2).all(|pair| pair[1] == pair[0] + 1),
                        "{bins:?}"
                    );
                    places.extend(
                        bins.iter()
                            .zip(&nearest)
                            .filter(|(_, n)| (1..23).contains(*n))
                            .map(|(b, &n)| b - f64::from(n)),
                    );
                } else {
                    let kept: Vec<usize> = (0..N).filter(|&i| inside(t[i])).collect();
                    assert_eq!(actual.len(), kept.len());
                    for (a, &i) in actual.iter().zip(&kept) {
                        assert!(
                            (f64::from(a.t) - t[i] * length).abs() < 1e-5 * (1.0 + t[i] * length)
                        );
                        assert!(
                            (f64::from(a.dt) / (dt[i] * length) - 1.0).abs() < 1e-4,
                            "{a:?}: {}",
                            dt[i] * length
                        );
                        let x = place(ray, t[i]);
                        assert!((0..3).all(|c| (f64::from(a.x[c]) - x[c]).abs() < 1e-5));
                    }
                }
            }
            assert!(inside_at_all > 150);
            if jitter {
                let n = places.len() as f64;
                let mean = places.iter().sum::<f64>() / n;
                let variance = places.iter().map(|p| p * p).sum::<f64>() / n;
                assert!(
                    mean.abs() < 0.03 && (variance - 1.0 / 12.0).abs() < 0.01,
                    "{n}: {mean}, {variance}"
                );
            }
        }
    });
}

#[test]
fn stratified_samples_of_a_ray_without_an_end_span_the_box() {
    const N: usize = 32;
    on_device(|gpu| {
        let mut rays = rays(&mut Pcg::new(65), &SCENE);
        for ray in &mut rays {
            (ray.t_min, ray.t_max) = (0.0, 1e10);
        }
        let sampler = Sampler::Stratified {
            n_samples: N as u32,
            jitter: false,
            min_transmittance: 0.0,
            bounded: true,
            spacing: Some(Spacing::Linear),
            last_interval: None,
        };
        let placed = sample(gpu, &sampler, &SCENE, false, &rays, &[0; 4]);
        let mut hits = 0;
        for samples in placed.iter().filter(|s| !s.is_empty()) {
            // The first and last samples lie on the box's faces, where rounding may put them outside.
            assert!(samples.len() + 2 >= N, "{} samples", samples.len());
            let gap = (samples[N - 3].t - samples[0].t) / (N - 3) as f32;
            for pair in samples.windows(2) {
                assert!((pair[1].t - pair[0].t - gap).abs() < 1e-3 * gap.max(0.01));
            }
            assert!(samples[0].t >= 0.0);
            hits += 1;
        }
        assert!(hits > 150, "{hits} rays hit the box");
    });
}

#[test]
fn rays_that_do_not_fit_are_not_placed() {
    on_device(|gpu| {
        let rays = rays(&mut Pcg::new(64), &SCENE);
        let n = rays.len();
        let rig = Rig::new(gpu, n, 0, 0);
        rig.set(StepState {
            n_rays: n as u32,
            n_rays_fitting: 2,
            ..StepState::zeroed()
        });
        let offsets: Vec<u32> = (0..=n as u32).map(|i| 3 * i).collect();
        let placed = PlacedSamples {
            ray_counts: rig.zeros(n),
            ray_offsets: rig.buffer(&offsets),
            samples: rig.buffer(&vec![9.0_f32; 12 * n]),
            sample_rays: rig.zeros(6 * n),
        };
        let bits = rig.buffer(&vec![u32::MAX; RESOLUTION.pow(3) as usize / 32]);
        let buffer = rig.buffer(&rays);
        let sampling =
            |sampler, jitter| first_pass(sampler, &SCENE, jitter, &rig.counts, &buffer, &bits);
        let samplers = [
            Sampler::RayMarch {
                steps: 128,
                cone_angle: Some(0.0),
                coarse_steps: Some(0),
                max_samples: 1024,
                min_transmittance: 0.0,
            },
            Sampler::Stratified {
                n_samples: 24,
                jitter: true,
                min_transmittance: 0.0,
                bounded: true,
                spacing: Some(Spacing::Linear),
                last_interval: None,
            },
        ];
        for sampler in &samplers {
            let sampling = sampling(sampler, false);
            rig.run(|stage| sampling.run(stage, Phase::Place, &placed));
            let samples: Vec<[f32; 4]> = rig.read(&placed.samples, 3 * n);
            assert!(
                samples[..6].iter().all(|s| s[0] != 9.0)
                    && samples[6..].iter().all(|s| *s == [9.0; 4])
            );
        }
    });
}

/// The interval of a ray's last sample is given in multiples of the ray's direction, like the positions of samples.
#[test]
fn the_last_interval_has_the_configured_length() {
    const N: usize = 12;
    on_device(|gpu| {
        let mut rays = rays(&mut Pcg::new(71), &SCENE);
        for ray in &mut rays {
            (ray.t_min, ray.t_max) = (2.0, 6.0);
        }
        for last in [None, Some(1e-3), Some(0.25)] {
            let sampler = Sampler::Stratified {
                n_samples: N as u32,
                jitter: true,
                min_transmittance: 0.0,
                bounded: false,
                spacing: Some(Spacing::Linear),
                last_interval: last,
            };
            for jitter in [false, true] {
                let placed = sample(gpu, &sampler, &SCENE, jitter, &rays, &[0; 4]);
                let last = last.map_or(LAST_DT, f64::from);
                let (_, dt) = stratified(2.0, 6.0, N, None, last);
                for (ray, samples) in rays.iter().zip(&placed) {
                    assert_eq!(samples.len(), N);
                    let unit = ray.direction.iter().map(|v| v * v).sum::<f32>().sqrt();
                    let want = dt[N - 1] as f32 * unit;
                    let found = samples[N - 1].dt;
                    assert!((found / want - 1.0).abs() < 1e-6, "{found}, not {want}");
                    if !jitter {
                        let gap = dt[0] as f32 * unit;
                        assert!((samples[N - 2].dt / gap - 1.0).abs() < 1e-4);
                    }
                }
            }
        }
    });
}

/// Without a bounding box, samples are evenly spaced in inverse distance.
#[test]
fn unbounded_samples_in_disparity() {
    const N: usize = 20;
    on_device(|gpu| {
        let mut rays = rays(&mut Pcg::new(66), &SCENE);
        for ray in &mut rays {
            (ray.t_min, ray.t_max) = (0.5, 40.0);
        }
        let sampler = Sampler::Stratified {
            n_samples: N as u32,
            jitter: true,
            min_transmittance: 0.0,
            bounded: false,
            spacing: Some(Spacing::Disparity),
            last_interval: None,
        };
        for jitter in [false, true] {
            let placed = sample(gpu, &sampler, &SCENE, jitter, &rays, &[0; 4]);
            for (ray, samples) in rays.iter().zip(&placed) {
                assert_eq!(samples.len(), N, "samples outside the box are kept too");
                let unit = ray.direction.iter().map(|v| v * v).sum::<f32>().sqrt();
                let place = |i: usize| {
                    let f = i as f32 / (N - 1) as f32;
                    1.0 / ((1.0 - f) / 0.5 + f / 40.0)
                };
                for (i, s) in samples.iter().enumerate() {
                    let t = s.t / unit;
                    if jitter {
                        let (below, above) = (place(i.max(1) - 1), place((i + 1).min(N - 1)));
                        assert!(t > 0.999 * below && t < 1.001 * above, "{i}: {t}");
                    } else {
                        assert!((t / place(i) - 1.0).abs() < 1e-4, "{i}: {t}");
                    }
                    if let Some(next) = samples.get(i + 1) {
                        assert!(
                            (s.dt - (next.t - s.t)).abs() < 1e-3 * next.t,
                            "{i}: {}",
                            s.dt
                        );
                    } else {
                        assert!(s.dt > 1e9 * unit);
                    }
                }
            }
        }
    });
}

/// Samples are evenly spaced in the depth of normalised device coordinates, from the near plane to infinity, and their
/// distances are in world space.
#[test]
fn samples_in_normalised_device_coordinates() {
    const N: usize = 16;
    on_device(|gpu| {
        let ndc = Ndc {
            near: 1.1,
            half: [0.6, 0.45],
        };
        let scene = SceneBox {
            scale: 0.5,
            offset: [0.5; 3],
            aabb_scale: 1,
            ndc: Some(ndc),
        };
        let mut pcg = Pcg::new(67);
        let rays: Vec<GpuRay> = (0..50)
            .map(|i| {
                let from = [
                    pcg.uniform(-0.3, 0.3),
                    pcg.uniform(-0.3, 0.3),
                    pcg.uniform(-0.2, 0.5),
                ];
                let away = if i == 7 { 0.1 } else { -pcg.uniform(0.6, 1.5) };
                GpuRay::new(from, [pcg.uniform(-0.4, 0.4), pcg.uniform(-0.3, 0.3), away])
            })
            .collect();
        let sampler = Sampler::Stratified {
            n_samples: N as u32,
            jitter: true,
            min_transmittance: 0.0,
            bounded: false,
            spacing: Some(Spacing::Linear),
            last_interval: None,
        };
        let all = sample(gpu, &sampler, &scene, false, &rays, &[0; 4]);
        for (i, (ray, samples)) in rays.iter().zip(&all).enumerate() {
            // A ray that points backwards has no samples.
            assert_eq!(samples.len(), if i == 7 { 0 } else { N });
            let length = ray.direction.iter().map(|v| v * v).sum::<f32>().sqrt();
            for (k, s) in samples.iter().enumerate() {
                let part = k as f32 / (N - 1) as f32;
                assert!((s.x[2] - part).abs() < 1e-5, "{k}: {s:?}");
                if k + 1 == N {
                    assert!(s.t > 1e4 && s.dt > 1e9);
                    continue;
                }
                let p = [0, 1, 2].map(|c| ray.origin[c] + s.t / length * ray.direction[c]);
                let device = [
                    -p[0] / (p[2] * ndc.half[0]),
                    -p[1] / (p[2] * ndc.half[1]),
                    1.0 + 2.0 * ndc.near / p[2],
                ];
                for c in 0..3 {
                    assert!(
                        (device[c] * 0.5 + 0.5 - s.x[c]).abs() < 1e-4,
                        "{k}: {device:?}, {s:?}"
                    );
                }
                let next = samples[k + 1];
                let step = [0, 1, 2].map(|c| (2.0 * (next.x[c] - s.x[c])).powi(2));
                assert!((s.dt - step.iter().sum::<f32>().sqrt()).abs() < 1e-4);
            }
        }
    });
}
