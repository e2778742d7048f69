//! Sample compaction: exact.

use kiln::gpu::{Buffer, Count, Defines};
use kiln::step_state::StepState;

use crate::compositing::{N_FITTING, N_RAYS, Rays, activations};
use crate::reference::compaction;
use crate::reference::compositing::{DensityActivation, RgbActivation, Sample};
use crate::reference::random::Pcg;
use crate::support::{Rig, on_device};

/// Run `entry` of the compaction shader over `count` of `rig`.
fn run(rig: &Rig, entry: &str, defines: &Defines, count: Count, bindings: &[(&str, &Buffer)]) {
    let defines = defines.clone().set("pass", entry);
    rig.run(|stage| {
        let groups = rig.counts.groups(count, 64, 1);
        stage.run("compaction", entry, &defines, bindings, groups)?;
        Ok(())
    });
}

#[test]
fn cull_keeps_samples_up_to_the_opaque_one_and_gather_moves_them() {
    const MIN_TRANSMITTANCE: f64 = 0.3;
    on_device(|gpu| {
        let mut pcg = Pcg::new(22);
        let rays = Rays::random(&mut pcg, None);
        let n = rays.n_samples();
        let rig = rays.rig(gpu);
        let defines = || activations(DensityActivation::Exp, RgbActivation::Sigmoid);
        let inputs = rays.inputs(&rig);
        let buffer = |name: &str| &inputs.iter().find(|(n, _)| *n == name).unwrap().1;
        let ray_offsets = rig.buffer(&rays.offsets());
        let kept_counts = rig.zeros(N_RAYS);
        let bindings = [
            ("counts", buffer("counts")),
            ("samples", buffer("kept_samples")),
            ("raw_density", buffer("raw_density")),
            ("ray_offsets", &ray_offsets),
            ("kept_counts", &kept_counts),
        ];
        run(
            &rig,
            "cull",
            &defines().set("min_transmittance", "0.3"),
            StepState::RAYS,
            &bindings,
        );
        let density = DensityActivation::Exp;
        let thickness = |s: &Sample| density.value(s.raw[3]) * s.dt;
        let n_of = |(r, samples): (usize, &Vec<Sample>)| {
            let thicknesses: Vec<f64> = samples.iter().map(thickness).collect();
            let n = compaction::n_kept(&thicknesses, MIN_TRANSMITTANCE);
            if r < N_FITTING { n as u32 } else { 0 }
        };
        let expected: Vec<u32> = rays.samples.iter().enumerate().map(n_of).collect();
        assert!(
            expected
                .iter()
                .zip(&rays.samples)
                .any(|(&kept, s)| 0 < kept && (kept as usize) < s.len())
        );
        assert_eq!(rig.read::<u32>(&kept_counts, N_RAYS), expected);

        let (offsets, total) = crate::reference::primitives::exclusive_scan(&expected);
        let kept_offsets = rig.buffer(&[offsets.clone(), vec![total]].concat());
        let pairs = rig.zeros(2 * (N_RAYS + 1));
        let bindings = [
            ("counts", buffer("counts")),
            ("ray_offsets", &ray_offsets),
            ("kept_offsets", &kept_offsets),
            ("offsets", &pairs),
        ];
        run(&rig, "pair", &defines(), StepState::RAYS, &bindings);
        let starts = rays.offsets();
        let expected_pairs: Vec<[u32; 2]> = starts
            .iter()
            .zip(offsets.iter().chain([&total]))
            .map(|(&a, &b)| [a, b])
            .collect();
        assert_eq!(rig.read::<[u32; 2]>(&pairs, N_RAYS + 1), expected_pairs);

        let marched: Vec<[f32; 4]> = (0..n)
            .map(|_| std::array::from_fn(|_| pcg.unit() as f32))
            .collect();
        let sample_rays: Vec<[u32; 2]> = (0..N_RAYS as u32)
            .flat_map(|r| vec![r; rays.samples[r as usize].len()])
            .zip(0..)
            .map(|(r, i)| [r, i])
            .collect();
        let features: Vec<[f32; 8]> = (0..n)
            .map(|_| std::array::from_fn(|_| pcg.unit() as f32))
            .collect();
        let (m, sr, f) = (
            rig.buffer(&marched),
            rig.buffer(&sample_rays),
            rig.buffer(&features),
        );
        let (km, kr, kf) = (rig.zeros(4 * n), rig.zeros(2 * n), rig.zeros(8 * n));
        let bindings = [
            ("counts", buffer("counts")),
            ("samples", &m),
            ("sample_rays", &sr),
            ("features", &f),
            ("offsets", &pairs),
            ("kept_samples", &km),
            ("kept_rays", &kr),
            ("kept_features", &kf),
        ];
        run(
            &rig,
            "gather",
            &defines().set("feature_stride", 8),
            StepState::MARCHED,
            &bindings,
        );
        let n_kept = total as usize;
        let gathered = compaction::gather(&marched, &starts, &expected);
        assert_eq!(rig.read::<[f32; 4]>(&km, n_kept), gathered);
        let gathered = compaction::gather(&sample_rays, &starts, &expected);
        assert_eq!(rig.read::<[u32; 2]>(&kr, n_kept), gathered);
        let gathered = compaction::gather(&features, &starts, &expected);
        assert_eq!(rig.read::<[f32; 8]>(&kf, n_kept), gathered);
        assert!(
            rig.read::<f32>(&km, 4 * n)[4 * n_kept..]
                .iter()
                .all(|&v| v == 0.0),
            "nothing behind the kept samples"
        );
    });
}
