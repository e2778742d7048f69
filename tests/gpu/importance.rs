//! Importance sampling: draws from given weights, and properties that hold for any weights.

use std::sync::Arc;

use kiln::config::Sampler;
use kiln::gpu::primitives::Scan;
use kiln::gpu::{Buffer, Counts, Defines, Gpu};
use kiln::sampling::importance::PreviousPass;
use kiln::sampling::{Phase, PlacedSamples, Sampling, SceneBox};
use kiln::step_state::StepState;

use crate::reference::random::Pcg;
use crate::reference::sampling::importance::{invert, merge};
use crate::support::{GpuRay, Rig, assert_close, on_both_devices, on_device};

const SCENE: SceneBox = SceneBox {
    scale: 0.25,
    offset: [0.5; 3],
    aabb_scale: 1,
    ndc: None,
};
const N: u32 = 24;

/// Return a sampler of the pass that follows `previous`.
fn second_pass<'a>(
    sampler: &'a Sampler,
    jitter: bool,
    counts: &'a Counts,
    rays: &'a Buffer,
    previous: &'a PreviousPass,
) -> Sampling<'a> {
    Sampling {
        sampler,
        index: 1,
        scene: &SCENE,
        resolution: 0,
        jitter,
        limited: false,
        counts,
        rays,
        occupancy: None,
        previous: Some(previous),
    }
}

/// The samples of a ray in the previous pass, and their expected weights.
#[derive(Debug, Clone)]
struct Coarse {
    t: Vec<f64>,
    weights: Vec<f64>,
}

impl Coarse {
    /// Return the densities that composite to `weights` with `dt` = 1.
    fn densities(&self) -> Vec<f64> {
        let mut transmittance = 1.0_f64;
        self.weights
            .iter()
            .map(|w| {
                let alpha: f64 = (w / transmittance).min(1.0 - 1e-7);
                transmittance *= 1.0 - alpha;
                -(1.0 - alpha).ln()
            })
            .collect()
    }
}

/// Return t and dt of the samples of each ray.
fn sample(gpu: &Arc<Gpu>, rays: &[Coarse], jitter: bool, length: f64) -> Vec<Vec<[f64; 2]>> {
    let n_rays = rays.len();
    let before: usize = rays.iter().map(|r| r.t.len()).sum();
    let capacity = before + n_rays * N as usize;
    let rig = Rig::new(gpu, n_rays, 0, 0);
    let mut offsets = vec![[77_u32, 0]];
    for ray in rays {
        let last = offsets[offsets.len() - 1][1];
        offsets.push([77, last + ray.t.len() as u32]);
    }
    let directions: Vec<GpuRay> = (0..n_rays)
        .map(|_| GpuRay::new([0.1, 0.2, 0.3], [length, 0.0, 0.0]))
        .collect();
    let of = |f: &dyn Fn(&Coarse) -> Vec<f64>| rays.iter().flat_map(f).collect::<Vec<f64>>();
    let samples: Vec<f32> = (0..before).flat_map(|_| [0.0, 0.0, 0.0, 1.0]).collect();
    let sample_rays: Vec<[u32; 2]> = of(&|r| r.t.clone())
        .iter()
        .map(|t| [0, ((t * length) as f32).to_bits()])
        .collect();
    // Each density is followed by a value that must not be read.
    let density: Vec<f32> = of(&Coarse::densities)
        .iter()
        .flat_map(|&d| [d as f32, f32::NAN])
        .collect();
    let previous = PreviousPass {
        offsets: rig.buffer(&offsets),
        samples: rig.buffer(&samples),
        sample_rays: rig.buffer(&sample_rays),
        density: rig.buffer(&density),
        density_stride: 2,
        activations: Defines::new()
            .set("density_activation", "relu")
            .set("density_bias", "0.0")
            .set("color_activation", "sigmoid"),
        weighted: rig.zeros(2 * before),
    };
    let placed = PlacedSamples {
        ray_counts: rig.zeros(n_rays),
        ray_offsets: rig.zeros(n_rays + 1),
        samples: rig.zeros(4 * capacity),
        sample_rays: rig.zeros(2 * capacity),
    };
    let scan = Scan::new(gpu, "test", n_rays as u64).unwrap();
    let directions = rig.buffer(&directions);
    let counts = &rig.counts;
    let sampling = |sampler, jitter| second_pass(sampler, jitter, counts, &directions, &previous);
    let sampler = Sampler::Importance {
        n_samples: N,
        jitter: true,
        merge: true,
    };
    rig.run(|stage| {
        sampling(&sampler, jitter).run(stage, Phase::Count, &placed)?;
        let (n, to) = (&placed.ray_counts, &placed.ray_offsets);
        scan.run(stage, counts, StepState::RAYS, n, to)?;
        sampling(&sampler, jitter).run(stage, Phase::Place, &placed)
    });
    let offsets: Vec<u32> = rig.read(&placed.ray_offsets, n_rays + 1);
    let samples: Vec<[f32; 4]> = rig.read(&placed.samples, capacity);
    let sample_rays: Vec<[u32; 2]> = rig.read(&placed.sample_rays, capacity);
    (0..n_rays)
        .map(|r| {
            (offsets[r] as usize..offsets[r + 1] as usize)
                .map(|i| {
                    assert_eq!(sample_rays[i][0], r as u32);
                    let distance = f64::from(f32::from_bits(sample_rays[i][1]));
                    let x = (0.1 + distance) * 0.25 + 0.5;
                    assert!(
                        (f64::from(samples[i][0]) - x).abs() < 1e-5,
                        "a position on the ray"
                    );
                    [distance / length, f64::from(samples[i][3]) / length]
                })
                .collect()
        })
        .collect()
}

fn random_coarse(pcg: &mut Pcg, n: usize) -> Coarse {
    let mut t = pcg.uniform_vec(n, 1.0, 3.0);
    t.sort_by(f64::total_cmp);
    // High peaks and values near zero, as surfaces produce.
    let weights: Vec<f64> = (0..n)
        .map(|_| pcg.uniform(0.0, 1.0).powi(6) + 1e-3)
        .collect();
    let total: f64 = weights.iter().sum::<f64>() / 0.9;
    Coarse {
        weights: weights.iter().map(|w| w / total).collect(),
        t,
    }
}

#[test]
fn without_jitter_the_inverse_at_even_steps_is_merged_with_the_previous_samples() {
    on_both_devices(|gpu| {
        let mut pcg = Pcg::new(51);
        let mut rays: Vec<Coarse> = (3..70).map(|n| random_coarse(&mut pcg, n)).collect();
        rays.extend((1..3).map(|n| random_coarse(&mut pcg, n)));
        rays.insert(
            5,
            Coarse {
                t: vec![],
                weights: vec![],
            },
        );
        let all = sample(gpu, &rays, false, 1.7);
        for (ray, got) in rays.iter().zip(&all) {
            if ray.t.is_empty() {
                assert!(got.is_empty());
                continue;
            }
            let u: Vec<f64> = (0..N).map(|k| f64::from(k) / f64::from(N - 1)).collect();
            let (t, dt) = merge(&ray.t, &invert(&ray.t, &ray.weights, &u));
            assert_eq!(got.len(), t.len());
            let got_t: Vec<f32> = got.iter().map(|s| s[0] as f32).collect();
            assert_close(&format!("t of {} samples", ray.t.len()), &got_t, &t, 2e-4);
            // The last dt represents everything behind the last sample.
            let last = got.len() - 1;
            assert!(got[last][1] > 9e9);
            let got_dt: Vec<f32> = got[..last].iter().map(|s| s[1] as f32).collect();
            if dt[..last].iter().any(|v| *v > 1e-6) {
                assert_close("dt", &got_dt, &dt[..last], 1e-3);
            }
        }
    });
}

#[test]
fn samples_are_sorted_and_stay_between_the_first_and_the_last() {
    on_device(|gpu| {
        let mut pcg = Pcg::new(52);
        let rays: Vec<Coarse> = (0..500)
            .map(|i| random_coarse(&mut pcg, 1 + i % 64))
            .collect();
        for (ray, got) in rays.iter().zip(sample(gpu, &rays, true, 0.6)) {
            assert_eq!(got.len(), ray.t.len() + N as usize);
            assert!(got.windows(2).all(|p| p[0][0] <= p[1][0]), "{got:?}");
            assert!(got.iter().all(|s| s[1] >= 0.0));
            let (first, last) = (ray.t[0], ray.t[ray.t.len() - 1]);
            let inside = |s: &[f64; 2]| s[0] >= first - 1e-5 && s[0] <= last + 1e-5;
            assert!(got.iter().all(inside), "{first} to {last}: {got:?}");
            // All samples of the previous pass are kept.
            for t in &ray.t {
                let nearest = got
                    .iter()
                    .map(|s| (s[0] - t).abs())
                    .fold(f64::MAX, f64::min);
                assert!(nearest < 1e-5, "{t} is missing from {got:?}");
            }
        }
    });
}

#[test]
fn one_opaque_sample_draws_all_into_its_own_interval() {
    on_device(|gpu| {
        let t: Vec<f64> = (0..32).map(|i| 1.0 + 0.1 * f64::from(i)).collect();
        let rays: Vec<Coarse> = (1..31)
            .map(|hit| Coarse {
                t: t.clone(),
                weights: (0..32).map(|i| f64::from(u8::from(i == hit))).collect(),
            })
            .collect();
        for (hit, got) in (1..31).zip(sample(gpu, &rays, true, 1.0)) {
            let (low, high) = (t[hit] - 0.05, t[hit] + 0.05);
            let drawn = got
                .iter()
                .filter(|s| s[0] > low - 1e-4 && s[0] < high + 1e-4)
                .count();
            // The value added to each weight gives the other 29 intervals a total probability of 29e-5, which affects at most
            // the first or last draw.
            assert!(drawn as u32 > N - 2, "{drawn} of {N} around sample {hit}");
        }
    });
}

#[test]
fn zero_weights_spread_samples_evenly() {
    on_device(|gpu| {
        let t: Vec<f64> = (0..16).map(|i| 2.0 + 0.25 * f64::from(i)).collect();
        let empty = Coarse {
            weights: vec![0.0; 16],
            t,
        };
        let got = &sample(gpu, std::slice::from_ref(&empty), false, 1.0)[0];
        let u: Vec<f64> = (0..N).map(|k| f64::from(k) / f64::from(N - 1)).collect();
        let (low, high) = (2.125, 2.0 + 0.25 * 14.5);
        let expected: Vec<f64> = u.iter().map(|u| low + (high - low) * u).collect();
        let (t, _) = merge(&empty.t, &expected);
        let got: Vec<f32> = got.iter().map(|s| s[0] as f32).collect();
        assert_close("t", &got, &t, 1e-5);
    });
}

/// Over many rays, the fraction of draws in each interval equals its normalised weight.
#[test]
fn draws_follow_the_weights() {
    on_device(|gpu| {
        let t: Vec<f64> = (0..10).map(f64::from).map(|i| 1.0 + i).collect();
        let weights = vec![0.0, 0.05, 0.3, 0.1, 0.0, 0.2, 0.25, 0.05, 0.04, 0.01];
        let rays = vec![
            Coarse {
                t: t.clone(),
                weights: weights.clone()
            };
            2000
        ];
        let mut hits = [0_u32; 10];
        for ray in sample(gpu, &rays, true, 1.0) {
            let more = ray.iter().filter(|s| (s[0] - s[0].round()).abs() > 1e-5);
            more.for_each(|s| hits[(s[0] - 0.5) as usize] += 1);
        }
        let total: f64 = weights[1..9].iter().sum();
        let n: u32 = hits.iter().sum();
        for i in 1..9 {
            let (share, expected) = (f64::from(hits[i]) / f64::from(n), weights[i] / total);
            assert!(
                (share - expected).abs() < 0.01,
                "{i}: {share}, expected {expected}"
            );
        }
        assert_eq!((hits[0], hits[9]), (0, 0));
    });
}

/// Rays that did not fit the buffers of the previous pass get no samples.
#[test]
fn rays_that_did_not_fit_before_get_none() {
    on_device(|gpu| {
        let rig = Rig::new(gpu, 3, 0, 0);
        rig.set(StepState {
            n_rays: 3,
            n_rays_fitting: 1,
            ..rig.state()
        });
        let previous = PreviousPass {
            offsets: rig.buffer(&[[0_u32, 0], [0, 2], [0, 4], [0, 6]]),
            samples: rig.buffer(&[1.0_f32; 24]),
            sample_rays: rig.buffer(&[[0_u32, 1.0_f32.to_bits()]; 6]),
            density: rig.buffer(&[0.0_f32; 6]),
            density_stride: 1,
            activations: Defines::new()
                .set("density_activation", "exp")
                .set("density_bias", "0.0")
                .set("color_activation", "sigmoid"),
            weighted: rig.zeros(12),
        };
        let placed = PlacedSamples {
            ray_counts: rig.buffer(&[9_u32; 4]),
            ray_offsets: rig.zeros(4),
            samples: rig.zeros(4),
            sample_rays: rig.zeros(4),
        };
        let rays = rig.buffer(&[GpuRay::new([0.0; 3], [1.0, 0.0, 0.0]); 3]);
        let counts = &rig.counts;
        let sampling = |sampler, jitter| second_pass(sampler, jitter, counts, &rays, &previous);
        let sampler = Sampler::Importance {
            n_samples: N,
            jitter: false,
            merge: true,
        };
        rig.run(|stage| sampling(&sampler, false).run(stage, Phase::Count, &placed));
        assert_eq!(rig.read::<u32>(&placed.ray_counts, 3), [2 + N, 0, 0]);
    });
}
