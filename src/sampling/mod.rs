//! Samplers: where along its ray the field is evaluated.
//!
//! A sampler first counts the samples of each ray; after a prefix sum each ray knows where its own go, and places
//! them. Samples are packed: those of a ray are contiguous, and the places do not depend on the order of execution.

pub mod importance;
pub mod ray_march;
pub mod stratified;

use crate::config::{Config, Ndc, Sampler, Spacing};
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Stage};

/// The map from the space that a field computes in ([`crate::scene_frame::SceneFrame`]) to the box that the encodings see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SceneBox {
    /// To the unit cube: `u = position * scale + offset`.
    pub scale: f32,
    /// See `scale`.
    pub offset: [f32; 3],
    /// Side of the box in unit cubes: a power of two.
    pub aabb_scale: u32,
    /// Where given, positions in the above are normalised device coordinates.
    pub ndc: Option<Ndc>,
}

impl SceneBox {
    /// The box of a resolved configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let (scale, offset) = config.scene.unit_cube();
        Self {
            scale: scale as f32,
            offset: offset.map(|v| v as f32),
            aabb_scale: config.scene.aabb_scale.unwrap_or(1),
            ndc: config.scene.ndc,
        }
    }

    /// The corners, in the field's space.
    #[must_use]
    pub fn corners(&self) -> [[f64; 3]; 2] {
        let half = f64::from(self.aabb_scale) / 2.0;
        let corner = |sign: f64| {
            self.offset
                .map(|o| (0.5 + sign * half - f64::from(o)) / f64::from(self.scale))
        };
        [corner(-1.0), corner(1.0)]
    }

    /// Cascades of the occupancy grid that cover the box.
    #[must_use]
    pub fn cascades(&self) -> u32 {
        self.aabb_scale.trailing_zeros() + 1
    }

    /// The values that specialise shaders.
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
pub struct Placed {
    /// Samples per ray, before the prefix sum.
    pub ray_counts: Buffer,
    /// Prefix sum of the counts.
    pub ray_offsets: Buffer,
    /// Position in the box, and dt in units of the space that samples lie in: the world, or device coordinates.
    pub samples: Buffer,
    /// Ray, and distance from its origin.
    pub sample_rays: Buffer,
}

/// Which of a sampler's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Count samples per ray.
    Count,
    /// Place them.
    Place,
}

/// What a sampler looks at.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The rays.
    pub rays: &'a Buffer,
    /// Occupancy bits; needed for marching.
    pub occupancy: Option<&'a Buffer>,
    /// The samples of the pass before; needed for importance.
    pub previous: Option<&'a importance::Previous>,
}

/// Most samples a ray may get, given those that the pass before may have; `None` where that says nothing of a batch.
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

/// Add: run `sampler`'s kernel for `pass` over the rays. `jitter` moves samples at random, for training; `limited` lets a
/// marched ray have as many samples as the counts on the device say; `index` is the place
/// of its pass in the method, which keeps random numbers apart.
pub fn run(
    gpu: &Gpu,
    stage: &mut Stage,
    counts: &Counts,
    sampler: &Sampler,
    index: usize,
    scene: &SceneBox,
    resolution: u32,
    pass: Pass,
    jitter: bool,
    limited: bool,
    sources: &Sources<'_>,
    placed: &Placed,
) -> Result<(), GpuError> {
    let (file, defines) = match *sampler {
        Sampler::RayMarch {
            steps,
            cone_angle,
            coarse_steps,
            max_samples,
            ..
        } => {
            let counts = (steps, max_samples);
            let growth = (cone_angle.unwrap_or(0.0), coarse_steps.unwrap_or(0));
            ray_march::shader(counts, growth, scene, resolution, jitter, limited)
        }
        Sampler::Stratified {
            n_samples,
            jitter: allowed,
            bounded,
            spacing,
            last_interval,
            ..
        } => {
            let disparity = spacing == Some(Spacing::Disparity);
            let jitter = jitter && allowed;
            stratified::shader(n_samples, jitter, bounded, disparity, last_interval)
        }
        Sampler::Importance {
            n_samples,
            jitter: allowed,
            merge,
        } => importance::shader(n_samples, jitter && allowed, merge),
    };
    let mut bindings = vec![
        ("counts", &counts.state),
        ("rays", sources.rays),
        ("ray_counts", &placed.ray_counts),
        ("ray_offsets", &placed.ray_offsets),
        ("samples", &placed.samples),
        ("sample_rays", &placed.sample_rays),
    ];
    bindings.extend(sources.occupancy.map(|bits| ("occupancy", bits)));
    let salt = 0x5bd1_e995_u32.wrapping_add(0x9e37_79b9_u32.wrapping_mul(index as u32));
    let defines = scene.defines().merge(defines).set("salt", salt);
    let groups = || counts.groups(gpu, Count::Rays, 64, 1);
    if let Some(previous) = sources.previous {
        bindings.extend([
            ("previous_offsets", &previous.offsets),
            ("previous_samples", &previous.samples),
            ("previous_rays", &previous.sample_rays),
            ("previous_density", &previous.density),
            ("weighted", &previous.weighted),
        ]);
        if pass == Pass::Count {
            let defines = defines
                .clone()
                .merge(previous.activations.clone())
                .set("pass", "weigh")
                .set("density_stride", previous.density_stride);
            stage.run(gpu, file, "weigh", &defines, &bindings, groups())?;
        }
    }
    let name = if pass == Pass::Count {
        "count"
    } else {
        "place"
    };
    let defines = defines.set("pass", name);
    stage.run(gpu, file, name, &defines, &bindings, groups())?;
    Ok(())
}
