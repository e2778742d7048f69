//! A pass: a sampler places samples along rays, a field is evaluated at the samples, samples behind opaque ones are culled.
//! Training, rendering and benchmarks share it.

use crate::compaction::{KeptSamples, PlacedOutputs};
use crate::compositing::{RaySamples, activation_defines};
use crate::config::{ResolvedConfig, Sampler};
use crate::field::{Field, FieldBuffers, FieldInputs, FieldParameters, RAW_DENSITY_STRIDE};
use crate::gpu::primitives::Scan;
use crate::gpu::{Allocator, Buffer, Counts, Defines, Gpu, GpuError, Groups, Stage, WithAdvice};
use crate::images::RAY_BYTES;
use crate::network::SavedActivations;
use crate::sampling::importance::PreviousPass;
use crate::sampling::{Phase, PlacedSamples, Sampling, SceneBox, samples_per_ray};
use crate::step_state::StepState;

/// Maximum numbers of rays and samples of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Capacity {
    /// Rays.
    pub rays: u32,
    /// Samples that the sampler places.
    pub marched: u32,
    /// Samples kept after culling.
    pub kept: u32,
}

impl Capacity {
    /// Return the capacity of each pass for `rays` rays; `None` if a pass has no fixed number of samples per ray.
    #[must_use]
    pub fn of_rays(config: &ResolvedConfig, rays: u32) -> Option<Vec<Self>> {
        let capacity = |per_ray: u32| {
            // More samples than this fit no device.
            let samples = rays.saturating_mul(per_ray).min(u32::MAX - 511);
            let samples = samples.next_multiple_of(512);
            Self {
                rays,
                marched: samples,
                kept: samples,
            }
        };
        samples_of_passes(config).map(|all| all.into_iter().map(capacity).collect())
    }

    /// Return the capacity of a pass with `sampler`: without culling, it places at most as many samples as it can keep.
    #[must_use]
    pub fn of_sampler(self, sampler: &Sampler) -> Self {
        let marched = if culls(sampler) {
            self.marched
        } else {
            self.kept
        };
        Self { marched, ..self }
    }

    /// Number of samples whose density is evaluated before culling.
    fn culled_from(self, sampler: &Sampler) -> u32 {
        if culls(sampler) { self.marched } else { 0 }
    }
}

/// Maximum number of samples per ray in each pass; `None` if it depends on the scene.
#[must_use]
pub fn samples_of_passes(config: &ResolvedConfig) -> Option<Vec<u32>> {
    let mut before = None;
    let samples = |pass: &crate::config::PassConfig| {
        before = samples_per_ray(&pass.sampler, before);
        before
    };
    config.passes.iter().map(samples).collect()
}

/// Whether samples behind opaque ones are culled, which requires the density of all samples first.
fn culls(sampler: &Sampler) -> bool {
    sampler.min_transmittance() > 0.0
}

/// Buffers and kernels of one pass.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The field.
    pub field: Field,
    /// The sampler.
    pub sampler: Sampler,
    /// The scene's box.
    pub scene: SceneBox,
    /// Index in the method's list of passes.
    pub index: usize,
    /// Cells per axis of the occupancy grid; 0 without one.
    pub resolution: u32,
    /// Maximum numbers of rays and samples.
    pub capacity: Capacity,
    /// Counts on the device, shared by all passes.
    pub counts: Counts,
    /// Rays to evaluate, shared by all passes.
    pub rays: Buffer,
    /// The field's buffers.
    pub buffers: FieldBuffers,
    /// Placed samples.
    pub placed: PlacedSamples,
    /// Kept samples.
    pub kept: KeptSamples,
    scan: Scan,
    previous: Option<PreviousPass>,
    density_noise: f32,
}

/// The stages of a pass, in order.
#[derive(Debug, Clone)]
pub struct PassStages {
    /// Count samples, compute their offsets by a prefix sum, place samples.
    pub march: Stage,
    /// Encode the positions.
    pub encode: Stage,
    /// Compute the density of all samples, and cull samples behind opaque ones; `None` without culling.
    pub cull: Option<[Stage; 2]>,
    /// Compute density and colour of the kept samples.
    pub forward: Stage,
}

impl PassStages {
    /// Return the stages in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<Stage> {
        let mut stages = vec![self.march, self.encode];
        stages.extend(self.cull.into_iter().flatten());
        stages.push(self.forward);
        stages
    }
}

/// Options for the stages of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassUse {
    /// Whether samples are jittered and noise is added to densities.
    pub training: bool,
    /// Whether colour is evaluated.
    pub color: bool,
    /// Whether the counts on the device limit the number of samples of a marched ray.
    pub limited: bool,
}

/// Advice for ray buffers that are too large.
const FEWER_RAYS: &str =
    "lower `training.max_rays`, or `training.n_rays` where that is given, with --set";

/// Advice for sample buffers that are too large.
const FEWER_SAMPLES: &str = "lower `training.batch_size`, or `training.n_rays` and the samples per ray where those are given, with --set";

impl Pass {
    /// Allocate the passes of a method, which share their rays and counts; `saved` maps the index of a pass to what it saves
    /// for the backward pass.
    pub fn of_method(
        allocator: &dyn Allocator,
        config: &ResolvedConfig,
        label: &str,
        capacities: &[Capacity],
        saved: &dyn Fn(usize) -> SavedActivations,
    ) -> Result<Vec<Self>, GpuError> {
        let most_rays = capacities.iter().map(|c| c.rays).max().unwrap_or(0);
        let bytes = u64::from(most_rays) * RAY_BYTES;
        let counts = StepState::counts(allocator, label)?;
        let rays =
            WithAdvice::new(allocator, FEWER_RAYS).buffer(&format!("{label} rays"), bytes)?;
        let allocator = &WithAdvice::new(allocator, FEWER_SAMPLES);
        let mut passes: Vec<Self> = Vec::new();
        let fields = Field::of_passes(allocator.profile(), config)?;
        for (index, field) in fields.into_iter().enumerate() {
            let label = if capacities.len() > 1 {
                format!("{label} pass {index}")
            } else {
                label.to_owned()
            };
            let sampler = config.passes[index].sampler.clone();
            let (capacity, culls) = (capacities[index], culls(&sampler));
            let (n_rays, marched, kept) = (
                u64::from(capacity.rays),
                u64::from(capacity.marched).next_multiple_of(512),
                u64::from(capacity.kept).next_multiple_of(512),
            );
            let placed = PlacedSamples::new(allocator, &label, n_rays, marched)?;
            let previous = match (&sampler, passes.last()) {
                (Sampler::Importance { .. }, Some(before)) => {
                    Some(before.as_previous(allocator, &label)?)
                }
                _ => None,
            };
            let culled_from = u64::from(capacity.culled_from(&sampler));
            passes.push(Self {
                scene: SceneBox::of(config),
                index,
                resolution: config.occupancy.as_ref().map_or(0, |o| o.resolution),
                capacity,
                counts: counts.clone(),
                rays: rays.clone(),
                buffers: field.buffers(allocator, &label, culled_from, kept, saved(index))?,
                kept: KeptSamples::new(allocator, &label, n_rays, kept, &placed, culls)?,
                scan: Scan::new(allocator, &label, n_rays)?,
                previous,
                density_noise: config.training.density_noise,
                placed,
                sampler,
                field,
            });
        }
        Ok(passes)
    }

    /// Return the input of an importance sampler in the next pass; the label of its buffer starts with `label`.
    fn as_previous(
        &self,
        allocator: &dyn Allocator,
        label: &str,
    ) -> Result<PreviousPass, GpuError> {
        let raw = self.field.raw_outputs(&self.buffers);
        let bytes = u64::from(self.capacity.kept) * 8;
        Ok(PreviousPass {
            offsets: self.kept.offsets.clone(),
            samples: self.kept.samples.clone(),
            sample_rays: self.kept.sample_rays.clone(),
            density: raw.density,
            density_stride: raw.density_stride,
            activations: activation_defines(&self.field.config),
            weighted: allocator.buffer(&format!("{label} weighted samples"), bytes)?,
        })
    }

    /// Add: run the kernel `pass` of `shaders/entry/step.wgsl`, which sets the counts of samples and of rays that fit
    /// `capacity` from `offsets`, and publish the counts.
    fn count_samples(
        &self,
        stage: &mut Stage,
        pass: &str,
        capacity: u32,
        offsets: (&str, &Buffer),
    ) -> Result<(), GpuError> {
        let n_rays = if self.index == 0 {
            "state.n_rays"
        } else {
            "state.n_rays_fitting"
        };
        let defines = Defines::new()
            .set("pass", pass)
            .set("n_rays", n_rays)
            .set("keeps_all", !culls(&self.sampler))
            .set("capacity", capacity);
        let bindings = [("state", &self.counts.state), offsets];
        let once = Groups::Direct([1, 1, 1]);
        stage.run("entry/step", pass, &defines, &bindings, once)?;
        self.counts.publish(stage)
    }

    /// The kept samples, as inputs of the field.
    #[must_use]
    pub fn kept_samples(&self) -> FieldInputs<'_> {
        FieldInputs {
            counts: &self.counts,
            positions: &self.kept.samples,
            sample_rays: &self.kept.sample_rays,
            rays: &self.rays,
        }
    }

    /// The kept samples and the field's outputs there, as inputs of compositing.
    #[must_use]
    pub fn ray_samples(&self) -> RaySamples<'_> {
        RaySamples {
            counts: &self.counts,
            rays: &self.rays,
            offsets: &self.kept.offsets,
            samples: &self.kept.samples,
            sample_rays: &self.kept.sample_rays,
            raw: self.field.raw_outputs(&self.buffers),
            defines: activation_defines(&self.field.config).merge(self.scene.defines()),
        }
    }

    /// Create the stages that evaluate the field along `self.rays` on `gpu`.
    pub fn stages(
        &self,
        gpu: &Gpu,
        parameters: &FieldParameters,
        occupancy: Option<&Buffer>,
        purpose: PassUse,
    ) -> Result<PassStages, GpuError> {
        let march = self.march(gpu, occupancy, purpose)?;
        let mut encode = gpu.stage("encode");
        let samples = self.kept_samples();
        let (field, counts, buffers) = (&self.field, &self.counts, &self.buffers);
        let cull = if culls(&self.sampler) {
            let mut density = gpu.stage("density");
            let placed = &self.placed.samples;
            field.density(
                &mut encode,
                &mut density,
                counts,
                parameters,
                placed,
                buffers,
            )?;
            let mut cull = self.cull(gpu)?;
            if !field.reuses_features() {
                field.encode_kept(&mut cull, parameters, &samples, buffers)?;
            }
            Some([density, cull])
        } else {
            field.encode_kept(&mut encode, parameters, &samples, buffers)?;
            None
        };
        let mut forward = gpu.stage("forward");
        field.forward(&mut forward, parameters, &samples, buffers, purpose.color)?;
        if purpose.training && self.density_noise > 0.0 {
            let raw = field.raw_outputs(buffers);
            let defines = Defines::new()
                .set("density_stride", raw.density_stride)
                .set_f32("deviation", self.density_noise);
            let bindings = [("counts", &counts.state), ("raw_density", &raw.density)];
            let groups = counts.groups(StepState::KEPT, 64, 1);
            forward.run("entry/noise", "noise", &defines, &bindings, groups)?;
        }
        Ok(PassStages {
            march,
            encode,
            cull,
            forward,
        })
    }

    /// Create the stage that counts and places samples.
    fn march(
        &self,
        gpu: &Gpu,
        occupancy: Option<&Buffer>,
        purpose: PassUse,
    ) -> Result<Stage, GpuError> {
        let (counts, placed) = (&self.counts, &self.placed);
        let mut march = gpu.stage("march");
        let sampling = Sampling {
            sampler: &self.sampler,
            index: self.index,
            scene: &self.scene,
            resolution: self.resolution,
            jitter: purpose.training,
            limited: purpose.limited,
            counts,
            rays: &self.rays,
            occupancy,
            previous: self.previous.as_ref(),
        };
        sampling.run(&mut march, Phase::Count, placed)?;
        let (ray_counts, ray_offsets) = (&placed.ray_counts, &placed.ray_offsets);
        self.scan
            .run(&mut march, counts, StepState::RAYS, ray_counts, ray_offsets)?;
        let (marched, offsets) = (self.capacity.marched, ("ray_offsets", ray_offsets));
        self.count_samples(&mut march, "marched", marched, offsets)?;
        sampling.run(&mut march, Phase::Place, placed)?;
        if !culls(&self.sampler) {
            self.kept.pair(&mut march, counts, placed)?;
        }
        Ok(march)
    }

    /// Create the stage that culls samples behind opaque ones.
    fn cull(&self, gpu: &Gpu) -> Result<Stage, GpuError> {
        let (counts, placed, kept) = (&self.counts, &self.placed, &self.kept);
        let reuses_features = self.field.reuses_features();
        let evaluated = PlacedOutputs {
            raw_density: &self.buffers.raw_density,
            density_stride: RAW_DENSITY_STRIDE,
            features: &self.buffers.features,
            feature_stride: if reuses_features {
                self.field.feature_stride()
            } else {
                0
            },
            activations: activation_defines(&self.field.config),
        };
        let mut cull = gpu.stage("cull");
        let least = self.sampler.min_transmittance();
        kept.cull(&mut cull, counts, placed, &evaluated, least, &self.scan)?;
        let offsets = ("kept_offsets", &kept.ray_offsets);
        self.count_samples(&mut cull, "kept", self.capacity.kept, offsets)?;
        kept.pair(&mut cull, counts, placed)?;
        let features = &self.buffers.kept_features;
        kept.gather(&mut cull, counts, placed, &evaluated, features)?;
        Ok(cull)
    }
}
