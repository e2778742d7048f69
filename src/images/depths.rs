//! Pixels of training images whose depth is known.

use bytemuck::{Pod, Zeroable};

use super::{Chunk, ImageSet, training_defines};
use crate::camera::Camera;
use crate::config::ResolvedConfig;
use crate::dataset::{Image, Mask, PointDepth};
use crate::gpu::{Buffer, Counts, Gpu, GpuError, Stage};
use crate::scene_frame::SceneFrame;
use crate::step_state::{DEPTH_STRIDE, StepState};

/// Maximum number of known depths on the device: 64 MiB.
const MAX_SAMPLES: usize = 1 << 22;

/// The known depth of a pixel. Mirror of `DepthSample` in `shaders/images.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct DepthSample {
    /// Number of the image in its set.
    pub image: u32,
    /// Index of the pixel, row by row.
    pub pixel: u32,
    /// Distance along the ray, in the field's units.
    pub distance: f32,
    /// Weight of the loss, positive.
    pub weight: f32,
}

/// Known depths on the device.
#[derive(Debug, Clone)]
pub(super) struct Depths {
    samples: Buffer,
    n_samples: u32,
}

impl DepthSample {
    /// Return the known depths of `views`, whose `images` were downscaled by `downscale`, for a field in the space of `space`.
    /// Pixels that masks hide are left out; of more depths than fit the device, an even part is taken.
    #[must_use]
    pub fn of_views(
        views: &[(Camera, Vec<PointDepth>)],
        images: &[Image],
        downscale: u32,
        space: &SceneFrame,
    ) -> Vec<Self> {
        let with_depth = views
            .iter()
            .filter(|(_, depths)| !depths.is_empty())
            .count();
        let most = (MAX_SAMPLES / with_depth.max(1)).max(1);
        let mut samples = Vec::new();
        for (i, ((camera, depths), image)) in views.iter().zip(images).enumerate() {
            let full = [camera.width, camera.height];
            let camera = camera.downscaled(downscale);
            let size = [camera.width, camera.height];
            // An odd step takes pixels from all columns of most images.
            let step = depths.len().div_ceil(most).max(1) | 1;
            for depth in depths.iter().step_by(step) {
                let pixel = depth.pixel(full, size);
                let is_used = |mask: &Mask| mask.is_used(pixel as usize);
                if image.mask.as_ref().is_none_or(is_used) {
                    samples.push(Self {
                        image: i as u32,
                        pixel,
                        distance: space.length(f64::from(depth.distance)) as f32,
                        weight: depth.weight,
                    });
                }
            }
        }
        samples.truncate(MAX_SAMPLES);
        samples
    }
}

impl ImageSet {
    /// Upload known depths of the images.
    pub fn with_depths(self, gpu: &Gpu, samples: &[DepthSample]) -> Result<Self, GpuError> {
        if samples.is_empty() {
            return Ok(self);
        }
        let depths = Depths {
            samples: gpu.buffer_with("known depths", samples)?,
            n_samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        };
        Ok(Self {
            depths: Some(depths),
            ..self
        })
    }

    /// Allocate the targets that [`Self::draw_depths`] writes for at most `n_rays` rays, if any depth is known:
    /// (rays / [`DEPTH_STRIDE`], 2) f32.
    pub fn depth_targets(&self, gpu: &Gpu, n_rays: u32) -> Result<Option<Buffer>, GpuError> {
        let bytes = u64::from(n_rays.div_ceil(DEPTH_STRIDE)) * 8;
        let targets = self
            .depths
            .as_ref()
            .map(|_| gpu.buffer("depth targets", bytes));
        targets.transpose()
    }

    /// Add to `stage`, after [`Self::draw`]: replace every [`DEPTH_STRIDE`]th ray by one through a random pixel whose depth is
    /// known, and write its distance and weight to `depth_targets`.
    pub fn draw_depths(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        config: &ResolvedConfig,
        rays: &Buffer,
        targets: &Buffer,
        depth_targets: &Buffer,
    ) -> Result<(), GpuError> {
        let Some(Depths { samples, n_samples }) = &self.depths else {
            return Ok(());
        };
        for (chunk, Chunk { pixels, .. }) in self.chunks.iter().enumerate() {
            let defines = training_defines(config)
                .set("pass", "depth")
                .set("chunk", chunk)
                .set("stride", DEPTH_STRIDE)
                .set("n_samples", *n_samples);
            let bindings = [
                ("cameras", &self.cameras),
                ("counts", &counts.state),
                ("rays", rays),
                ("pixels", pixels),
                ("targets", targets),
                ("depth_samples", samples),
                ("depth_targets", depth_targets),
            ];
            let groups = counts.groups(StepState::RAYS, 64, 1);
            stage.run("images", "depth_rays", &defines, &bindings, groups)?;
        }
        Ok(())
    }
}
