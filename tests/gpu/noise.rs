//! Noise on raw densities.

use kiln::gpu::Defines;
use kiln::step_state::StepState;

use crate::support::{Rig, on_device};

#[test]
fn noise_is_gaussian_and_depends_on_the_step() {
    const N: usize = 20_000;
    on_device(|gpu| {
        let rig = Rig::new(gpu, 0, 0, N);
        let noise = |step: u32, total: u32| -> Vec<f32> {
            rig.set(StepState {
                step,
                n_kept_total: total,
                ..rig.state()
            });
            // Each density is followed by a value that must not change.
            let rows: Vec<f32> = (0..N).flat_map(|_| [2.0, 5.0]).collect();
            let density = rig.buffer(&rows);
            let defines = Defines::new()
                .set("density_stride", 2)
                .set("deviation", "0.5");
            rig.run(|stage| {
                let bindings = [("counts", &rig.counts.state), ("raw_density", &density)];
                let groups = rig.counts.groups(StepState::KEPT, 64, 1);
                stage.run("entry/noise", "noise", &defines, &bindings, groups)?;
                Ok(())
            });
            let rows: Vec<f32> = rig.read(&density, 2 * N);
            assert!(rows.chunks_exact(2).all(|r| r[1] == 5.0));
            rows.chunks_exact(2).map(|r| (r[0] - 2.0) / 0.5).collect()
        };
        let values = noise(3, N as u32);
        let moment = |power: i32| {
            values
                .iter()
                .map(|v| f64::from(*v).powi(power))
                .sum::<f64>()
                / N as f64
        };
        for (power, expected, tolerance) in
            [(1, 0.0, 0.03), (2, 1.0, 0.05), (3, 0.0, 0.1), (4, 3.0, 0.3)]
        {
            let found = moment(power);
            assert!(
                (found - expected).abs() < tolerance,
                "moment {power}: {found}"
            );
        }
        assert_eq!(values, noise(3, N as u32));
        assert_ne!(values, noise(4, N as u32));
        // The next micro-batch or pass of the step continues the sequence.
        let next = noise(3, 2 * N as u32);
        assert!(values.iter().all(|v| v.is_finite()) && values[0] != next[0]);
    });
}
