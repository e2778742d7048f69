//! Buffers of a renderer, and the capacities of its passes.

use super::rounds;
use super::rounds::Rounds;
use super::{FLOATS_PER_PIXEL, Renderer};
use crate::config::{ResolvedConfig, Sampler};
use crate::field::Field;
use crate::gpu::{AdapterClass, Allocator, Buffer, DeviceProfile, GpuError, Planner};
use crate::images::GpuCamera;
use crate::network::SavedActivations;
use crate::pass::{Capacity, Pass, samples_of_passes};

/// The buffers of a renderer, except the parameters.
pub(super) struct Buffers {
    pub(super) passes: Vec<Pass>,
    /// Additional buffers, if views are rendered in rounds.
    pub(super) rounds: Option<Rounds>,
    pub(super) cameras: Buffer,
    pub(super) image: Buffer,
}

impl Buffers {
    pub(super) fn new(
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
        fields: &[Field],
    ) -> Result<Self, GpuError> {
        let in_rounds = rounds::sampler(config).is_some();
        let plain = if in_rounds {
            &rounds::without_culling(config)
        } else {
            config
        };
        let capacities = Renderer::capacities(allocator.profile(), plain, fields);
        let saved = |_| SavedActivations::Nothing;
        let passes = Pass::of_method(allocator, plain, "rendering", &capacities, &saved)?;
        let image_bytes = u64::from(capacities[0].rays) * FLOATS_PER_PIXEL as u64 * 4;
        let last = &passes[passes.len() - 1];
        let rounds = in_rounds.then(|| Rounds::new(allocator, config, last));
        Ok(Self {
            rounds: rounds.transpose()?,
            cameras: allocator.buffer("render camera", size_of::<GpuCamera>() as u64)?,
            image: allocator.buffer("render tile image", image_bytes)?,
            passes,
        })
    }
}

impl Renderer {
    /// Return the capacity of each pass: as large as suits the adapter class and its binding limit.
    pub(super) fn capacities(
        profile: &DeviceProfile,
        config: &ResolvedConfig,
        fields: &[Field],
    ) -> Vec<Capacity> {
        let mut kept: u32 = match profile.class {
            AdapterClass::Software => 1 << 15,
            AdapterClass::Integrated => 1 << 17,
            AdapterClass::Discrete => 1 << 18,
        };
        let marched = |pass: &crate::config::PassConfig| match pass.sampler {
            Sampler::RayMarch { max_samples, .. } => Some(max_samples),
            _ => None,
        };
        // At least one ray must fit, with its maximum number of samples.
        let longest = config.passes.iter().filter_map(marched).max();
        let least = longest.unwrap_or(1).max(4096);
        loop {
            let capacity = Capacity {
                rays: kept / 2,
                marched: 2 * kept,
                kept,
            };
            let most = samples_of_passes(config).into_iter().flatten().max();
            let fixed = most.and_then(|n| Capacity::of_rays(config, (2 * kept / n).max(1)));
            let of_pass = |pass: &crate::config::PassConfig| capacity.of_sampler(&pass.sampler);
            let is_fixed = fixed.is_some();
            let capacities =
                fixed.unwrap_or_else(|| config.passes.iter().map(of_pass).collect::<Vec<_>>());
            let is_quick = |(c, field): (&Capacity, &Field)| {
                let operations = u64::from(c.kept) * field.multiply_adds() * 2;
                operations <= profile.class.max_stage_operations()
            };
            let saved = |_| SavedActivations::Activations;
            let planner = Planner::new(profile);
            let fit = capacities.iter().zip(fields).all(is_quick)
                && Pass::of_method(&planner, config, "rendering", &capacities, &saved).is_ok();
            let at_least = if is_fixed {
                capacities[0].rays <= 1
            } else {
                kept / 2 < least
            };
            if fit || at_least {
                return capacities;
            }
            kept /= 2;
        }
    }
}
