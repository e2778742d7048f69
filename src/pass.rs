//! A pass: a sampler places samples along rays, a field is evaluated there, those behind opaque ones are culled.
//! Training, rendering and measuring share it.

use crate::compositing::{activation_defines, output_defines};
use crate::config::{Config, Sampler};
use crate::field::{Field, FieldBuffers, FieldParameters, RAW_DENSITY_STRIDE};
use crate::gpu::primitives::Scan;
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Groups, Stage};
use crate::images::RAY_BYTES;
use crate::network::SavedActivations;
use crate::sampling::importance::Previous;
use crate::sampling::{self, Placed, SceneBox, Sources, samples_per_ray};

/// How many rays and samples a pass holds at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Capacity {
    /// Rays.
    pub rays: u32,
    /// Samples that the sampler places.
    pub marched: u32,
    /// Samples that are left after culling.
    pub kept: u32,
}

impl Capacity {
    /// What passes of fixed numbers of samples per ray hold of `rays` rays; `None` where one has no such number.
    #[must_use]
    pub fn of_rays(config: &Config, rays: u32) -> Option<Vec<Self>> {
        let capacity = |per_ray: u32| {
            // What exceeds this fits no device.
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

    /// The same for a pass of `sampler`: where nothing is culled, no more is placed than can be kept.
    #[must_use]
    pub fn of_sampler(self, sampler: &Sampler) -> Self {
        let marched = if culls(sampler) {
            self.marched
        } else {
            self.kept
        };
        Self { marched, ..self }
    }

    /// Samples whose density alone is evaluated before some are culled.
    fn culled_from(self, sampler: &Sampler) -> u32 {
        if culls(sampler) { self.marched } else { 0 }
    }

    /// Whether a pass of this size is within what `gpu` binds.
    #[must_use]
    pub fn fits(self, gpu: &Gpu, sampler: &Sampler, field: &Field, keep: SavedActivations) -> bool {
        let marched = u64::from(self.culled_from(sampler));
        field.fits(gpu, marched, u64::from(self.kept), keep)
            && u64::from(self.marched.max(self.kept)) * 16 <= gpu.max_binding_bytes()
    }
}

/// Most samples a ray has in each pass; `None` where that depends on the scene.
#[must_use]
pub fn samples_of_passes(config: &Config) -> Option<Vec<u32>> {
    let mut before = None;
    let samples = |pass: &crate::config::Pass| {
        before = samples_per_ray(&pass.sampler, before);
        before
    };
    config.passes.iter().map(samples).collect()
}

/// Whether samples behind opaque ones are dropped, which takes the density of all of them first.
fn culls(sampler: &Sampler) -> bool {
    sampler.min_transmittance() > 0.0
}

/// Buffers and kernels of one pass.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The field's shape.
    pub field: Field,
    /// Where samples lie.
    pub sampler: Sampler,
    /// The box.
    pub scene: SceneBox,
    /// Place in the method's list of passes.
    pub index: usize,
    /// Cells per axis of the occupancy grid; 0 without one.
    pub resolution: u32,
    /// What fits.
    pub capacity: Capacity,
    /// Counts on the device, shared by all passes.
    pub counts: Counts,
    /// Rays to evaluate, shared by all passes.
    pub rays: Buffer,
    /// The field's buffers.
    pub buffers: FieldBuffers,
    /// Samples that were placed.
    pub placed: Placed,
    /// Offsets of each ray's marched and kept samples.
    pub offsets: Buffer,
    /// Kept samples: position and dt.
    pub kept_samples: Buffer,
    /// Kept samples: ray and distance.
    pub kept_rays: Buffer,
    kept_counts: Buffer,
    kept_offsets: Buffer,
    scan: Scan,
    previous: Option<Previous>,
    density_noise: f32,
}

/// The stages of a pass, in order.
#[derive(Debug, Clone)]
pub struct PassStages {
    /// Count, prefix sum, place.
    pub march: Stage,
    /// Encode the positions.
    pub encode: Stage,
    /// Density of all of them, and drop what lies behind opaque samples; empty where nothing is culled.
    pub cull: Option<[Stage; 2]>,
    /// Density and colour of the rest.
    pub forward: Stage,
}

impl PassStages {
    /// In order.
    #[must_use]
    pub fn into_vec(self) -> Vec<Stage> {
        let mut stages = vec![self.march, self.encode];
        stages.extend(self.cull.into_iter().flatten());
        stages.push(self.forward);
        stages
    }
}

/// What a pass is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// Whether samples move at random and densities are noisy.
    pub training: bool,
    /// What a backward pass needs, which the pass must have been made for.
    pub keep: SavedActivations,
    /// Whether colour is wanted.
    pub color: bool,
    /// Whether the counts on the device say how many samples a marched ray may have.
    pub limited: bool,
}

impl Pass {
    /// Allocate the passes of a method, which share their rays and counts.
    pub fn of_method(
        gpu: &Gpu,
        config: &Config,
        label: &str,
        capacities: &[Capacity],
        keep: &dyn Fn(usize) -> SavedActivations,
    ) -> Result<Vec<Self>, GpuError> {
        let most_rays = capacities.iter().map(|c| c.rays).max().unwrap_or(0);
        let counts = Counts::new(gpu, label)?;
        let rays = gpu.buffer(&format!("{label} rays"), u64::from(most_rays) * RAY_BYTES)?;
        let mut passes: Vec<Self> = Vec::new();
        for (index, field) in Field::of_passes(gpu, config)?.into_iter().enumerate() {
            let (capacity, keep) = (capacities[index], keep(index));
            let shared = (counts.clone(), rays.clone());
            let before = passes.last();
            let label = if capacities.len() > 1 {
                format!("{label} pass {index}")
            } else {
                label.to_owned()
            };
            let pass = Self::new(
                gpu, config, &label, field, index, capacity, keep, shared, before,
            )?;
            passes.push(pass);
        }
        Ok(passes)
    }

    fn new(
        gpu: &Gpu,
        config: &Config,
        label: &str,
        field: Field,
        index: usize,
        capacity: Capacity,
        keep: SavedActivations,
        (counts, rays): (Counts, Buffer),
        before: Option<&Self>,
    ) -> Result<Self, GpuError> {
        let sampler = config.passes[index].sampler.clone();
        let culls = culls(&sampler);
        let (n_rays, marched, kept) = (
            u64::from(capacity.rays),
            u64::from(capacity.marched).next_multiple_of(512),
            u64::from(capacity.kept).next_multiple_of(512),
        );
        let per =
            |name: &str, n: u64, bytes: u64| gpu.buffer(&format!("{label} {name}"), n * bytes);
        let placed = Placed {
            ray_counts: per("ray counts", n_rays, 4)?,
            ray_offsets: per("ray offsets", n_rays + 1, 4)?,
            samples: per("samples", marched, 16)?,
            sample_rays: per("sample rays", marched, 8)?,
        };
        // Where nothing is culled, what is placed is what is kept.
        let or_placed = |name: &str, placed: &Buffer, n: u64, bytes: u64| {
            if culls {
                per(name, n, bytes)
            } else {
                Ok(placed.clone())
            }
        };
        let previous = match (&sampler, before) {
            (Sampler::Importance { .. }, Some(before)) => {
                let raw = before.field.raw_outputs(&before.buffers);
                Some(Previous {
                    offsets: before.offsets.clone(),
                    samples: before.kept_samples.clone(),
                    sample_rays: before.kept_rays.clone(),
                    density: raw.density,
                    density_stride: raw.density_stride,
                    activations: activation_defines(&before.field.config),
                    weighted: per("weighted samples", u64::from(before.capacity.kept), 8)?,
                })
            }
            _ => None,
        };
        let culled_from = u64::from(capacity.culled_from(&sampler));
        Ok(Self {
            scene: SceneBox::of(config),
            index,
            resolution: config.occupancy.as_ref().map_or(0, |o| o.resolution),
            capacity,
            counts,
            rays,
            buffers: field.buffers(gpu, label, culled_from, kept, keep)?,
            offsets: per("offsets", n_rays + 1, 8)?,
            kept_samples: or_placed("kept samples", &placed.samples, kept, 16)?,
            kept_rays: or_placed("kept rays", &placed.sample_rays, kept, 8)?,
            kept_counts: or_placed("kept counts", &placed.ray_counts, n_rays, 4)?,
            kept_offsets: or_placed("kept offsets", &placed.ray_offsets, n_rays + 1, 4)?,
            scan: Scan::new(gpu, label, n_rays)?,
            previous,
            density_noise: config.training.density_noise,
            placed,
            sampler,
            field,
        })
    }

    /// Bytes that [`Self::of_method`] allocates for the passes of a method; `keep` as there.
    #[must_use]
    pub fn bytes(
        config: &Config,
        fields: &[Field],
        capacities: &[Capacity],
        keep: &dyn Fn(usize) -> SavedActivations,
    ) -> u64 {
        let most_rays = capacities.iter().map(|c| c.rays).max().unwrap_or(0);
        let mut bytes = u64::from(most_rays) * RAY_BYTES;
        for (index, (field, capacity)) in fields.iter().zip(capacities).enumerate() {
            let sampler = &config.passes[index].sampler;
            let rays = u64::from(capacity.rays);
            let marched = u64::from(capacity.marched).next_multiple_of(512);
            let kept = u64::from(capacity.kept).next_multiple_of(512);
            let culled_from = u64::from(capacity.culled_from(sampler));
            let (samples, counts) = if culls(sampler) {
                (marched + kept, 4)
            } else {
                (marched, 2)
            };
            let weighted = match sampler {
                Sampler::Importance { .. } => u64::from(capacities[index - 1].kept) * 8,
                _ => 0,
            };
            let of_field = field.buffer_sizes(culled_from, kept, keep(index));
            bytes += rays * (counts * 4 + 8) + samples * 24 + weighted;
            bytes += of_field.iter().sum::<u64>();
        }
        bytes
    }

    /// One of the small kernels in `shaders/entry/step.wgsl`.
    fn settle_count(
        &self,
        gpu: &Gpu,
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
        stage.run(
            gpu,
            "entry/step",
            pass,
            &Defines::new()
                .set("pass", pass)
                .set("n_rays", n_rays)
                .set("keeps_all", !culls(&self.sampler))
                .set("capacity", capacity),
            &[("state", &self.counts.state), offsets],
            Groups::Direct([1, 1, 1]),
        )?;
        self.counts.publish(gpu, stage)
    }

    /// The stages that evaluate the field along `self.rays`.
    pub fn stages(
        &self,
        gpu: &Gpu,
        parameters: &FieldParameters,
        occupancy: Option<&Buffer>,
        purpose: Purpose,
    ) -> Result<PassStages, GpuError> {
        let counts = &self.counts;
        let march = self.march(gpu, occupancy, purpose.training, purpose.limited)?;
        let mut encode = Stage::new("encode");
        let cull = if culls(&self.sampler) {
            let mut density = Stage::new("density");
            let samples = &self.placed.samples;
            self.field.density(
                gpu,
                &mut encode,
                &mut density,
                counts,
                parameters,
                samples,
                &self.buffers,
            )?;
            let mut cull = self.cull(gpu)?;
            if !self.field.reuses_features() {
                self.encode_kept(gpu, &mut cull, parameters)?;
            }
            Some([density, cull])
        } else {
            self.encode_kept(gpu, &mut encode, parameters)?;
            None
        };
        let mut forward = Stage::new("forward");
        self.field.forward(
            gpu,
            &mut forward,
            counts,
            parameters,
            &self.rays,
            &self.kept_rays,
            &self.buffers,
            purpose.keep,
            purpose.color,
        )?;
        if purpose.training && self.density_noise > 0.0 {
            let raw = self.field.raw_outputs(&self.buffers);
            let defines = Defines::new()
                .set("density_stride", raw.density_stride)
                .set_f32("deviation", self.density_noise);
            let bindings = [("counts", &counts.state), ("raw_density", &raw.density)];
            let groups = counts.groups(gpu, Count::Kept, 64, 1);
            forward.run(gpu, "entry/noise", "noise", &defines, &bindings, groups)?;
        }
        Ok(PassStages {
            march,
            encode,
            cull,
            forward,
        })
    }

    /// Add: features of the kept samples, where they do not come with them.
    pub fn encode_kept(
        &self,
        gpu: &Gpu,
        stage: &mut Stage,
        parameters: &FieldParameters,
    ) -> Result<(), GpuError> {
        self.field.encode_kept(
            gpu,
            stage,
            &self.counts,
            parameters,
            &self.kept_samples,
            &self.kept_rays,
            &self.buffers,
        )
    }

    /// Count samples, and place them.
    fn march(
        &self,
        gpu: &Gpu,
        occupancy: Option<&Buffer>,
        jitter: bool,
        limited: bool,
    ) -> Result<Stage, GpuError> {
        let counts = &self.counts;
        let mut march = Stage::new("march");
        let sources = Sources {
            rays: &self.rays,
            occupancy,
            previous: self.previous.as_ref(),
        };
        let run = |stage: &mut Stage, pass| {
            sampling::run(
                gpu,
                stage,
                counts,
                &self.sampler,
                self.index,
                &self.scene,
                self.resolution,
                pass,
                jitter,
                limited,
                &sources,
                &self.placed,
            )
        };
        run(&mut march, sampling::Pass::Count)?;
        let (ray_counts, ray_offsets) = (&self.placed.ray_counts, &self.placed.ray_offsets);
        self.scan.run(
            gpu,
            &mut march,
            counts,
            Count::Rays,
            ray_counts,
            ray_offsets,
        )?;
        self.settle_count(
            gpu,
            &mut march,
            "marched",
            self.capacity.marched,
            ("ray_offsets", ray_offsets),
        )?;
        run(&mut march, sampling::Pass::Place)?;
        if !culls(&self.sampler) {
            self.pair(gpu, &mut march)?;
        }
        Ok(march)
    }

    fn pair(&self, gpu: &Gpu, stage: &mut Stage) -> Result<(), GpuError> {
        let bindings = [
            ("counts", &self.counts.state),
            ("ray_offsets", &self.placed.ray_offsets),
            ("kept_offsets", &self.kept_offsets),
            ("offsets", &self.offsets),
        ];
        stage.run(
            gpu,
            "compositing",
            "pair",
            &self.defines().set("pass", "pair"),
            &bindings,
            self.counts.groups(gpu, Count::Rays, 64, 1),
        )?;
        Ok(())
    }

    /// Drop what lies behind opaque samples.
    fn cull(&self, gpu: &Gpu) -> Result<Stage, GpuError> {
        let counts = &self.counts;
        let Placed {
            ray_offsets,
            samples,
            sample_rays,
            ..
        } = &self.placed;
        let mut cull = Stage::new("cull");
        let defines = self
            .defines()
            .set("density_stride", RAW_DENSITY_STRIDE)
            .set_f32("min_transmittance", self.sampler.min_transmittance())
            .set("pass", "cull");
        let bindings = [
            ("counts", &counts.state),
            ("samples", samples),
            ("raw_density", &self.buffers.raw_density),
            ("ray_offsets", ray_offsets),
            ("kept_counts", &self.kept_counts),
        ];
        let per_ray = counts.groups(gpu, Count::Rays, 64, 1);
        cull.run(gpu, "compositing", "cull", &defines, &bindings, per_ray)?;
        self.scan.run(
            gpu,
            &mut cull,
            counts,
            Count::Rays,
            &self.kept_counts,
            &self.kept_offsets,
        )?;
        self.settle_count(
            gpu,
            &mut cull,
            "kept",
            self.capacity.kept,
            ("kept_offsets", &self.kept_offsets),
        )?;
        self.pair(gpu, &mut cull)?;
        let defines = self
            .defines()
            .set(
                "feature_stride",
                if self.field.reuses_features() {
                    self.field.feature_stride()
                } else {
                    0
                },
            )
            .set("pass", "gather");
        let bindings = [
            ("counts", &counts.state),
            ("samples", samples),
            ("sample_rays", sample_rays),
            ("features", &self.buffers.features),
            ("offsets", &self.offsets),
            ("kept_samples", &self.kept_samples),
            ("kept_rays", &self.kept_rays),
            ("kept_features", &self.buffers.kept_features),
        ];
        cull.run(
            gpu,
            "compositing",
            "gather",
            &defines,
            &bindings,
            counts.groups(gpu, Count::Marched, 64, 1),
        )?;
        Ok(cull)
    }

    /// The values of the compositing shaders.
    #[must_use]
    pub fn defines(&self) -> Defines {
        let raw = self.field.raw_outputs(&self.buffers);
        activation_defines(&self.field.config)
            .merge(output_defines(&raw))
            .merge(self.scene.defines())
    }
}
