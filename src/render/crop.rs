//! The crop box, to which rays are clipped.

use bytemuck::{Pod, Zeroable};

use crate::aabb::Aabb;
use crate::scene_frame::SceneFrame;

/// Mirror of `Crop` in `shaders/common/crop.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct GpuCrop {
    pub low: [f32; 3],
    pub is_set: u32,
    pub high: [f32; 3],
    pub unused: u32,
}

impl GpuCrop {
    /// Convert `crop` to the space of `frame`, for the device.
    #[must_use]
    pub fn new(crop: Option<Aabb>, frame: &SceneFrame) -> Self {
        crop.map_or_else(Self::zeroed, |crop| Self {
            low: frame.point(crop.low).map(|v| v as f32),
            is_set: 1,
            high: frame.point(crop.high).map(|v| v as f32),
            unused: 0,
        })
    }
}
