//! Sparse points of a scene, as structure from motion finds them, and what they say about the depth of views.

use std::path::PathBuf;
use std::sync::Arc;

mod ply;

pub(super) use ply::read as read_ply;

/// Points on the surfaces of a scene.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparsePoints {
    /// Positions in world units.
    pub positions: Vec<[f64; 3]>,
    /// sRGB colours, one per point.
    pub colors: Vec<[u8; 3]>,
    /// Mean reprojection error in pixels, if the files give it.
    pub reprojection_error: Option<f64>,
}

/// The depth of one point of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointDepth {
    /// Column and row in pixels of the frame's camera; the first pixel is from 0 to 1.
    pub at: [f32; 2],
    /// Distance from the camera along the ray, in world units.
    pub distance: f32,
    /// Weight of the point, positive: 1 for a pixel of a depth image, from 2 to 0 for points, the less accurate the smaller.
    pub weight: f32,
}

impl PointDepth {
    /// Return the index of the pixel that shows the point, row by row, if an image of `full` (width, height) pixels is scaled to
    /// `size`.
    #[must_use]
    pub fn pixel(&self, full: [u32; 2], size: [u32; 2]) -> u32 {
        let [x, y] = [0, 1].map(|axis| {
            let at = self.at[axis] / full[axis] as f32 * size[axis] as f32;
            (at as u32).min(size[axis] - 1)
        });
        y * size[0] + x
    }
}

/// What is known about the depth of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum DepthSource {
    /// An image of depths.
    File {
        /// The file, which existed when the dataset was opened.
        path: PathBuf,
        /// World units per stored unit.
        unit: f64,
        /// Whether depths are distances from the camera's centre, not along its axis.
        is_distance: bool,
    },
    /// The sparse points that the frame sees.
    Points(Arc<[PointDepth]>),
}
