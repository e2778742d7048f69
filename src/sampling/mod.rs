//! Samplers: where along a ray the field is evaluated.
//!
//! A sampler first counts the samples of each ray. A prefix sum then gives the offset of each ray's samples, at which the
//! sampler places them. Samples are packed: those of a ray are contiguous, and their offsets do not depend on the order of
//! execution.

pub mod importance;
pub mod ray_march;
pub mod stratified;

use crate::aabb::Aabb;
use crate::config::{Ndc, ResolvedConfig, Sampler, Spacing, resolved};
use crate::gpu::{Allocator, Buffer, Counts, Defines, GpuError, Stage};
use crate::step_state::StepState;

/// The map from the field's space ([`crate::scene_frame::SceneFrame`]) to the box that is the domain of the encodings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SceneBox {
    /// Scale of the map to the unit cube: `u = position * scale + offset`.
    pub scale: f32,
    /// Offset of that map.
    pub offset: [f32; 3],
    /// Side of the box in unit cubes: a power of two.
    pub aabb_scale: u32,
    /// If given, `position` is in normalised device coordinates.
    pub ndc: Option<Ndc>,
}

impl SceneBox {
    /// Return the box of a resolved configuration.
    #[must_use]
    pub fn of(config: &ResolvedConfig) -> Self {
        let (scale, offset) = config.scene.unit_cube();
        Self {
            scale: scale as f32,
            offset: offset.map(|v| v as f32),
            aabb_scale: config.aabb_scale(),
            ndc: config.scene.ndc,
        }
    }

    /// The box in the field's space.
    #[must_use]
    pub fn bounds(&self) -> Aabb {
        let (side, scale) = (f64::from(self.aabb_scale), f64::from(self.scale));
        Aabb::around_unit_cube(side, scale, self.offset.map(f64::from))
    }

    /// Number of occupancy-grid cascades that cover the box.
    #[must_use]
    pub fn cascades(&self) -> u32 {
        self.aabb_scale.trailing_zeros() + 1
    }

    /// Template values of the shaders.
    #[must_use]
    pub fn defines(&self) -> Defines {
        let half_box = self.aabb_scale as f32 / 2.0;
        Defines::new()
            .set_f32("scale", self.scale)
            .set_f32s("offset", self.offset)
            .set_f32("half_box", half_box)
            .set("cascades", self.cascades())
            .set("ndc", self.ndc.is_some())
            .set("ndc_near", f64::from(self.ndc.map_or(1.0, |ndc| ndc.near)))
            .set_f32s("ndc_half", self.ndc.map_or([1.0; 2], |ndc| ndc.half))
    }
}

/// Samples placed along rays.
#[derive(Debug, Clone)]
pub struct PlacedSamples {
    /// Number of samples of each ray.
    pub ray_counts: Buffer,
    /// Prefix sum of `ray_counts`.
    pub ray_offsets: Buffer,
    /// Position in the box, and dt in units of the samples' space: world, or normalised device coordinates.
    pub samples: Buffer,
    /// Ray, and distance from its origin.
    pub sample_rays: Buffer,
}

impl PlacedSamples {
    /// Allocate buffers for `n` samples of `n_rays` rays.
    pub fn new(
        allocator: &dyn Allocator,
        label: &str,
        n_rays: u64,
        n: u64,
    ) -> Result<Self, GpuError> {
        let buffer = |name: &str, n: u64, size: u64| allocator.array(label, name, n, size);
        Ok(Self {
            ray_counts: buffer("ray counts", n_rays, 4)?,
            ray_offsets: buffer("ray offsets", n_rays + 1, 4)?,
            samples: buffer("samples", n, 16)?,
            sample_rays: buffer("sample rays", n, 8)?,
        })
    }
}

/// The kernels of a sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Count samples per ray.
    Count,
    /// Place samples.
    Place,
}

/// Maximum number of samples per ray, given that of the previous pass, `before`; `None` if the number depends on the scene.
#[must_use]
pub fn samples_per_ray(sampler: &Sampler, before: Option<u32>) -> Option<u32> {
    match *sampler {
        Sampler::RayMarch { .. } => None,
        Sampler::Stratified { n_samples, .. } => Some(n_samples),
        Sampler::Importance {
            n_samples, merge, ..
        } => before.map(|n| n_samples + if merge { n } else { 0 }),
    }
}

/// A sampler and its inputs.
#[derive(Debug)]
pub struct Sampling<'a> {
    /// The sampler.
    pub sampler: &'a Sampler,
    /// Index of its pass in the method, which makes the random numbers of passes differ.
    pub index: usize,
    /// The scene's box.
    pub scene: &'a SceneBox,
    /// Cells per axis of the occupancy grid; 0 without one.
    pub resolution: u32,
    /// Whether samples are jittered, for training.
    pub jitter: bool,
    /// Whether the counts on the device limit the number of samples of a marched ray.
    pub limited: bool,
    /// Counts on the device.
    pub counts: &'a Counts,
    /// The rays.
    pub rays: &'a Buffer,
    /// Occupancy bitfield; required for ray marching.
    pub occupancy: Option<&'a Buffer>,
    /// The samples of the previous pass; required for importance sampling.
    pub previous: Option<&'a importance::PreviousPass>,
}

impl Sampling<'_> {
    fn shader(&self) -> (&'static str, Defines) {
        match *self.sampler {
            Sampler::RayMarch {
                steps,
                cone_angle,
                coarse_steps,
                max_samples,
                ..
            } => {
                let counts = (steps, max_samples);
                let growth = (resolved(cone_angle), resolved(coarse_steps));
                let (scene, resolution) = (self.scene, self.resolution);
                ray_march::shader(counts, growth, scene, resolution, self.jitter, self.limited)
            }
            Sampler::Stratified {
                n_samples,
                jitter,
                bounded,
                spacing,
                last_interval,
                ..
            } => {
                let disparity = resolved(spacing) == Spacing::Disparity;
                let jitter = jitter && self.jitter;
                stratified::shader(n_samples, jitter, bounded, disparity, last_interval)
            }
            Sampler::Importance {
                n_samples,
                jitter,
                merge,
            } => importance::shader(n_samples, jitter && self.jitter, merge),
        }
    }

    /// Add: run the sampler's kernel for `phase` over the rays.
    pub fn run(
        &self,
        stage: &mut Stage,
        phase: Phase,
        placed: &PlacedSamples,
    ) -> Result<(), GpuError> {
        let (file, defines) = self.shader();
        let mut bindings = vec![
            ("counts", &self.counts.state),
            ("rays", self.rays),
            ("ray_counts", &placed.ray_counts),
            ("ray_offsets", &placed.ray_offsets),
            ("samples", &placed.samples),
            ("sample_rays", &placed.sample_rays),
        ];
        bindings.extend(self.occupancy.map(|bits| ("occupancy", bits)));
        let salt = 0x5bd1_e995_u32.wrapping_add(0x9e37_79b9_u32.wrapping_mul(self.index as u32));
        let defines = self.scene.defines().merge(defines).set("salt", salt);
        let groups = || self.counts.groups(StepState::RAYS, 64, 1);
        if let Some(previous) = self.previous {
            bindings.extend([
                ("previous_offsets", &previous.offsets),
                ("previous_samples", &previous.samples),
                ("previous_rays", &previous.sample_rays),
                ("previous_density", &previous.density),
                ("weighted", &previous.weighted),
            ]);
            if phase == Phase::Count {
                let defines = defines
                    .clone()
                    .merge(previous.activations.clone())
                    .set("pass", "sample_weights")
                    .set("density_stride", previous.density_stride);
                stage.run(file, "sample_weights", &defines, &bindings, groups())?;
            }
        }
        let name = match phase {
            Phase::Count => "count",
            Phase::Place => "place",
        };
        let defines = defines.set("pass", name);
        stage.run(file, name, &defines, &bindings, groups())?;
        Ok(())
    }
}
