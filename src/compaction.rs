//! Sample compaction: samples behind opaque ones are culled, and the others gathered: `shaders/compaction.wgsl`.
//!
//! A ray keeps a prefix of its samples, so that gathering copies contiguous runs.

use crate::gpu::primitives::Scan;
use crate::gpu::{Allocator, Buffer, Counts, Defines, GpuError, Stage};
use crate::sampling::PlacedSamples;
use crate::step_state::StepState;

const FILE: &str = "compaction";

/// The samples that a pass keeps: without culling, all placed samples.
#[derive(Debug, Clone)]
pub struct KeptSamples {
    /// Offsets of each ray's placed and kept samples: (rays + 1, 2) u32.
    pub offsets: Buffer,
    /// Position and dt.
    pub samples: Buffer,
    /// Ray and distance.
    pub sample_rays: Buffer,
    ray_counts: Buffer,
    /// Prefix sum of the number of kept samples of each ray.
    pub ray_offsets: Buffer,
}

/// The field's outputs at the placed samples.
#[derive(Debug, Clone)]
pub struct PlacedOutputs<'a> {
    /// Raw density at f32 `density_stride * sample`.
    pub raw_density: &'a Buffer,
    /// Stride of `raw_density` in f32.
    pub density_stride: u32,
    /// Encoded positions.
    pub features: &'a Buffer,
    /// Number of f32 features to copy per sample; 0 if they are not reused.
    pub feature_stride: u32,
    /// Template values of the field's output activations.
    pub activations: Defines,
}

impl KeptSamples {
    /// Allocate buffers for `n_kept` samples of `n_rays` rays; without culling, share those of `placed`.
    pub fn new(
        allocator: &dyn Allocator,
        label: &str,
        n_rays: u64,
        n_kept: u64,
        placed: &PlacedSamples,
        culls: bool,
    ) -> Result<Self, GpuError> {
        let buffer = |name: &str, n: u64, size: u64| allocator.array(label, name, n, size);
        let or_placed = |name: &str, placed: &Buffer, n: u64, bytes: u64| {
            if culls {
                buffer(name, n, bytes)
            } else {
                Ok(placed.clone())
            }
        };
        Ok(Self {
            offsets: buffer("offsets", n_rays + 1, 8)?,
            samples: or_placed("kept samples", &placed.samples, n_kept, 16)?,
            sample_rays: or_placed("kept rays", &placed.sample_rays, n_kept, 8)?,
            ray_counts: or_placed("kept counts", &placed.ray_counts, n_rays, 4)?,
            ray_offsets: or_placed("kept offsets", &placed.ray_offsets, n_rays + 1, 4)?,
        })
    }

    /// Add: count the samples of each ray before its transmittance falls below `min_transmittance`, and compute their offsets.
    pub fn cull(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        placed: &PlacedSamples,
        evaluated: &PlacedOutputs<'_>,
        min_transmittance: f32,
        scan: &Scan,
    ) -> Result<(), GpuError> {
        let defines = evaluated
            .activations
            .clone()
            .set("density_stride", evaluated.density_stride)
            .set_f32("min_transmittance", min_transmittance)
            .set("pass", "cull");
        let bindings = [
            ("counts", &counts.state),
            ("samples", &placed.samples),
            ("raw_density", evaluated.raw_density),
            ("ray_offsets", &placed.ray_offsets),
            ("kept_counts", &self.ray_counts),
        ];
        let per_ray = counts.groups(StepState::RAYS, 64, 1);
        stage.run(FILE, "cull", &defines, &bindings, per_ray)?;
        let (values, offsets) = (&self.ray_counts, &self.ray_offsets);
        scan.run(stage, counts, StepState::RAYS, values, offsets)
    }

    /// Add: write the offsets of placed and of kept samples as pairs.
    pub fn pair(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        placed: &PlacedSamples,
    ) -> Result<(), GpuError> {
        let bindings = [
            ("counts", &counts.state),
            ("ray_offsets", &placed.ray_offsets),
            ("kept_offsets", &self.ray_offsets),
            ("offsets", &self.offsets),
        ];
        let defines = Defines::new().set("pass", "pair");
        let per_ray = counts.groups(StepState::RAYS, 64, 1);
        stage.run(FILE, "pair", &defines, &bindings, per_ray)?;
        Ok(())
    }

    /// Add: copy kept samples to their offsets, and their features to `kept_features`.
    pub fn gather(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        placed: &PlacedSamples,
        evaluated: &PlacedOutputs<'_>,
        kept_features: &Buffer,
    ) -> Result<(), GpuError> {
        let defines = Defines::new()
            .set("feature_stride", evaluated.feature_stride)
            .set("pass", "gather");
        let bindings = [
            ("counts", &counts.state),
            ("samples", &placed.samples),
            ("sample_rays", &placed.sample_rays),
            ("features", evaluated.features),
            ("offsets", &self.offsets),
            ("kept_samples", &self.samples),
            ("kept_rays", &self.sample_rays),
            ("kept_features", kept_features),
        ];
        let per_sample = counts.groups(StepState::MARCHED, 64, 1);
        stage.run(FILE, "gather", &defines, &bindings, per_sample)?;
        Ok(())
    }
}
