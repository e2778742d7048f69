//! A pass: a sampler places samples along rays, a field is evaluated there, those behind opaque ones are culled.
//! Training, rendering and measuring share it.

use crate::compositing::activation_defines;
use crate::config::{Config, Sampler};
use crate::field::{Field, FieldBuffers, FieldParameters, RAW_DENSITY_STRIDE};
use crate::gpu::primitives::Scan;
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Groups, Stage};
use crate::images::RAY_BYTES;
use crate::network::Keep;
use crate::sampling::{self, Placed, SceneBox};

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
    /// Whether a pass of this size is within what `gpu` binds.
    #[must_use]
    pub fn fits(self, gpu: &Gpu, field: &Field, keep: Keep) -> bool {
        field.fits(gpu, u64::from(self.marched), u64::from(self.kept), keep)
    }
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
    /// Cells per axis of the occupancy grid.
    pub resolution: u32,
    /// What fits.
    pub capacity: Capacity,
    /// Counts on the device.
    pub counts: Counts,
    /// Rays to evaluate.
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
}

/// The stages of a pass, in order.
#[derive(Debug, Clone)]
pub struct PassStages {
    /// Count, prefix sum, place.
    pub march: Stage,
    /// Encode the positions.
    pub encode: Stage,
    /// Density of all of them.
    pub density: Stage,
    /// Drop what lies behind opaque samples.
    pub cull: Stage,
    /// Density and colour of the rest.
    pub forward: Stage,
}

impl PassStages {
    /// In order.
    #[must_use]
    pub fn into_vec(self) -> Vec<Stage> {
        vec![
            self.march,
            self.encode,
            self.density,
            self.cull,
            self.forward,
        ]
    }
}

impl Pass {
    /// Allocate a pass.
    ///
    /// # Errors
    /// Those of allocation.
    pub fn new(
        gpu: &Gpu,
        config: &Config,
        label: &str,
        capacity: Capacity,
        keep: Keep,
    ) -> Result<Self, GpuError> {
        let pass = &config.passes[0];
        let field = Field::new(gpu, &pass.field)?;
        let (rays, marched, kept) = (
            u64::from(capacity.rays),
            u64::from(capacity.marched),
            u64::from(capacity.kept),
        );
        let per =
            |name: &str, n: u64, bytes: u64| gpu.buffer(&format!("{label} {name}"), n * bytes);
        Ok(Self {
            sampler: pass.sampler.clone(),
            scene: SceneBox::of(config),
            resolution: config.occupancy.resolution,
            capacity,
            counts: Counts::new(gpu, label)?,
            rays: per("rays", rays, RAY_BYTES)?,
            buffers: field.buffers(gpu, label, marched, kept, keep)?,
            placed: Placed {
                ray_counts: per("ray counts", rays, 4)?,
                ray_offsets: per("ray offsets", rays + 1, 4)?,
                samples: per("samples", marched.next_multiple_of(512), 16)?,
                sample_rays: per("sample rays", marched.next_multiple_of(512), 8)?,
            },
            offsets: per("offsets", rays + 1, 8)?,
            kept_samples: per("kept samples", kept.next_multiple_of(512), 16)?,
            kept_rays: per("kept rays", kept.next_multiple_of(512), 8)?,
            kept_counts: per("kept counts", rays, 4)?,
            kept_offsets: per("kept offsets", rays + 1, 4)?,
            scan: Scan::new(gpu, label, rays)?,
            field,
        })
    }

    /// Bytes that [`Self::new`] allocates.
    #[must_use]
    pub fn bytes(field: &Field, capacity: Capacity, keep: Keep) -> u64 {
        let (rays, marched, kept) = (
            u64::from(capacity.rays),
            u64::from(capacity.marched).next_multiple_of(512),
            u64::from(capacity.kept).next_multiple_of(512),
        );
        rays * (RAY_BYTES + 4 * 4 + 8)
            + (marched + kept) * 24
            + field.buffer_sizes(marched, kept, keep).iter().sum::<u64>()
    }

    fn min_transmittance(&self) -> f32 {
        match self.sampler {
            Sampler::RayMarch {
                min_transmittance, ..
            }
            | Sampler::Stratified {
                min_transmittance, ..
            } => min_transmittance,
        }
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
        stage.run(
            gpu,
            "entry/step",
            pass,
            &Defines::new().set("pass", pass).set("capacity", capacity),
            &[("state", &self.counts.state), offsets],
            Groups::Direct([1, 1, 1]),
        )?;
        self.counts.publish(gpu, stage)
    }

    /// The stages that evaluate the field along `self.rays`. `jitter` moves samples at random; `keep`, which the pass
    /// must have been made for, is what a backward pass needs.
    ///
    /// # Errors
    /// Those of compilation and binding.
    pub fn stages(
        &self,
        gpu: &Gpu,
        parameters: &FieldParameters,
        occupancy: &Buffer,
        jitter: bool,
        keep: Keep,
    ) -> Result<PassStages, GpuError> {
        let counts = &self.counts;
        let per_ray = || counts.groups(gpu, Count::Rays, 64, 1);
        let mut march = Stage::new("march");
        let run = |stage: &mut Stage, pass| {
            sampling::run(
                gpu,
                stage,
                counts,
                &self.sampler,
                &self.scene,
                self.resolution,
                pass,
                jitter,
                &self.rays,
                occupancy,
                &self.placed,
            )
        };
        run(&mut march, sampling::Pass::Count)?;
        let Placed {
            ray_counts,
            ray_offsets,
            samples,
            sample_rays,
        } = &self.placed;
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

        let (mut encode, mut density) = (Stage::new("encode"), Stage::new("density"));
        self.field.density(
            gpu,
            &mut encode,
            &mut density,
            counts,
            parameters,
            samples,
            &self.buffers,
        )?;

        let mut cull = Stage::new("cull");
        let defines = self
            .defines()
            .set("density_stride", RAW_DENSITY_STRIDE)
            .set(
                "min_transmittance",
                format!("{:?}", self.min_transmittance()),
            )
            .set("pass", "cull");
        let bindings = [
            ("counts", &counts.state),
            ("samples", samples),
            ("raw_density", &self.buffers.raw_density),
            ("ray_offsets", ray_offsets),
            ("kept_counts", &self.kept_counts),
        ];
        cull.run(gpu, "compositing", "cull", &defines, &bindings, per_ray())?;
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
        let bindings = [
            ("counts", &counts.state),
            ("ray_offsets", ray_offsets),
            ("kept_offsets", &self.kept_offsets),
            ("offsets", &self.offsets),
        ];
        cull.run(
            gpu,
            "compositing",
            "pair",
            &self.defines().set("pass", "pair"),
            &bindings,
            per_ray(),
        )?;
        let defines = self
            .defines()
            .set("feature_stride", self.field.feature_stride())
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

        let mut forward = Stage::new("forward");
        self.field.forward(
            gpu,
            &mut forward,
            counts,
            parameters,
            &self.rays,
            &self.kept_rays,
            &self.buffers,
            keep,
        )?;
        Ok(PassStages {
            march,
            encode,
            density,
            cull,
            forward,
        })
    }

    /// The values of the compositing shaders.
    #[must_use]
    pub fn defines(&self) -> Defines {
        activation_defines(&self.field.config)
    }
}
