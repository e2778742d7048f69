//! Rendering in rounds, for methods with ray marching: `shaders/entry/rounds.wgsl`. Each round places as many samples as fit
//! the buffers, evaluates and composites them, and removes rays that are opaque or have left the scene's box, whose share of
//! the buffers goes to the other rays.
//!
//! Nothing behind an opaque surface is evaluated, not even its density, and the last few rays have the whole capacity.

use crate::config::{ResolvedConfig, Sampler};
use crate::field::FieldParameters;
use crate::gpu::primitives::Scan;
use crate::gpu::{Allocator, Buffer, Counts, Defines, Gpu, GpuError, Groups, Stage};
use crate::images::RAY_BYTES;
use crate::pass::{Pass, PassUse};
use crate::step_state::StepState;

/// Transmittance below which rays end, if the method does not set one.
const MIN_TRANSMITTANCE: f32 = 1e-3;

/// Return the sampler of `config` if views are rendered in rounds.
pub(super) fn sampler(config: &ResolvedConfig) -> Option<&Sampler> {
    let [pass] = config.passes.as_slice() else {
        return None;
    };
    Some(&pass.sampler).filter(|s| matches!(s, Sampler::RayMarch { .. }))
}

/// Return `config` without culling: rounds evaluate all placed samples, since they remove opaque rays instead.
pub(super) fn without_culling(config: &ResolvedConfig) -> ResolvedConfig {
    config.with(|config| {
        for pass in &mut config.passes {
            if let Sampler::RayMarch {
                min_transmittance, ..
            } = &mut pass.sampler
            {
                *min_transmittance = 0.0;
            }
        }
    })
}

/// Buffers of rendering in rounds, in addition to those of the pass.
#[derive(Debug)]
pub(super) struct Rounds {
    /// The pass with each of the two ray buffers, between which rounds alternate.
    passes: [Pass; 2],
    flags: Buffer,
    places: Buffer,
    scan: Scan,
    min_transmittance: f32,
    max_samples: u32,
}

impl Rounds {
    /// Allocate the buffers for rounds of `pass`, which must not cull, of the method in `config`.
    pub(super) fn new(
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
        pass: &Pass,
    ) -> Result<Self, GpuError> {
        let (max_samples, given) = match config.passes[0].sampler {
            Sampler::RayMarch {
                max_samples,
                min_transmittance,
                ..
            } => (max_samples, min_transmittance),
            _ => (1, 0.0),
        };
        let n = u64::from(pass.capacity.rays);
        let mut other = pass.clone();
        other.rays = allocator.buffer("rendering rays of the next round", n * RAY_BYTES)?;
        Ok(Self {
            passes: [pass.clone(), other],
            flags: allocator.buffer("rendering rays that go on", n * 4)?,
            places: allocator.buffer("rendering places of rays", (n + 1) * 4)?,
            scan: Scan::new(allocator, "rendering rounds", n)?,
            min_transmittance: if given > 0.0 {
                given
            } else {
                MIN_TRANSMITTANCE
            },
            max_samples,
        })
    }

    fn run_entry(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        entry: &str,
        rays: [&Buffer; 2],
    ) -> Result<(), GpuError> {
        let bindings = [
            ("counts", &counts.state),
            ("state", &counts.state),
            ("rays", rays[0]),
            ("next_rays", rays[1]),
            ("flags", &self.flags),
            ("places", &self.places),
        ];
        let defines = Defines::new()
            .set("pass", entry)
            .set("capacity", self.passes[0].capacity.kept)
            .set("max_samples", self.max_samples);
        let groups = if matches!(entry, "limit" | "update_count") {
            Groups::Direct([1, 1, 1])
        } else {
            counts.groups(StepState::RAYS, 64, 1)
        };
        stage.run("entry/rounds", entry, &defines, &bindings, groups)?;
        Ok(())
    }

    /// Add: prepare the rays of a tile, which were already generated, and its part of `image` for the first round.
    pub(super) fn begin(&self, stage: &mut Stage, image: &Buffer) -> Result<(), GpuError> {
        let pass = &self.passes[0];
        stage.clear(image);
        self.run_entry(stage, &pass.counts, "start", [&pass.rays, &pass.rays])
    }

    /// Create the stages of two rounds, after which the remaining rays are in the first buffer again.
    pub(super) fn two_rounds(
        &self,
        gpu: &Gpu,
        parameters: &FieldParameters,
        occupancy: Option<&Buffer>,
        image: &Buffer,
    ) -> Result<Vec<Stage>, GpuError> {
        let mut stages = Vec::new();
        for (pass, other) in [(0, 1), (1, 0)] {
            let (pass, next) = (&self.passes[pass], &self.passes[other].rays);
            let (counts, rays) = (&pass.counts, [&pass.rays, next]);
            let mut limit = gpu.stage("limit");
            self.run_entry(&mut limit, counts, "limit", rays)?;
            stages.push(limit);
            let purpose = PassUse {
                training: false,
                color: true,
                limited: true,
            };
            stages.extend(pass.stages(gpu, parameters, occupancy, purpose)?.into_vec());
            let mut end = gpu.stage("accumulate");
            let samples = pass.ray_samples();
            samples.accumulate(&mut end, self.min_transmittance, image)?;
            self.run_entry(&mut end, counts, "flag_active", rays)?;
            let (flags, places) = (&self.flags, &self.places);
            self.scan
                .run(&mut end, counts, StepState::RAYS, flags, places)?;
            self.run_entry(&mut end, counts, "compact", rays)?;
            self.run_entry(&mut end, counts, "update_count", rays)?;
            counts.publish(&mut end)?;
            stages.push(end);
        }
        Ok(stages)
    }
}
