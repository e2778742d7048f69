//! A COLMAP model: cameras, posed images and sparse points, as `cameras`, `images` and `points3D` hold them.

use std::collections::HashMap;
use std::path::Path;

use crate::dataset::camera_model::CameraModel;

/// The files of a model, without their extensions.
pub(super) const FILES: [&str; 3] = ["cameras", "images", "points3D"];

/// Files of newer models, which repeat what the others say.
pub(super) const OTHER_FILES: [&str; 2] = ["rigs", "frames"];

/// How the files of a model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// `cameras.bin`, `images.bin`, `points3D.bin`.
    Binary,
    /// `cameras.txt`, `images.txt`, `points3D.txt`.
    Text,
}

impl Storage {
    /// Return how the model in `folder` is stored, if there is one. Binary files take precedence, as in COLMAP.
    pub fn of(folder: &Path) -> Option<Self> {
        [Self::Binary, Self::Text].into_iter().find(|storage| {
            let names = &FILES[..2];
            names.iter().all(|name| {
                folder
                    .join(name)
                    .with_extension(storage.extension())
                    .is_file()
            })
        })
    }

    pub const fn extension(self) -> &'static str {
        match self {
            Self::Binary => "bin",
            Self::Text => "txt",
        }
    }
}

/// Intrinsics that images share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelCamera {
    pub model: CameraModel,
    /// Width and height in pixels.
    pub size: [u64; 2],
    /// Parameters in COLMAP's order, as many as the model has; lengths in pixels.
    pub parameters: Vec<f64>,
}

/// A registered image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelImage {
    pub id: u32,
    /// Camera-from-world rotation: w, x, y, z.
    pub rotation: [f64; 4],
    /// Camera-from-world translation, in world units.
    pub translation: [f64; 3],
    pub camera: u32,
    /// Path relative to the folder of images.
    pub name: String,
}

/// The sparse points of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ModelPoints {
    /// Positions in world units.
    pub positions: Vec<[f64; 3]>,
    /// sRGB colours.
    pub colors: Vec<[u8; 3]>,
    /// Mean reprojection errors in pixels.
    pub errors: Vec<f64>,
    /// The images that see the points, point after point.
    pub image_ids: Vec<u32>,
    /// End of each point's images in `image_ids`.
    pub track_ends: Vec<usize>,
}

impl ModelPoints {
    /// Return the images that see point `i`.
    pub fn track(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.track_ends[i - 1] };
        &self.image_ids[start..self.track_ends[i]]
    }
}

/// A reconstruction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub storage: Storage,
    /// Whether `rigs` and `frames` lie beside the other files, as COLMAP 3.12 and later write them.
    pub has_rigs: bool,
    pub cameras: HashMap<u32, ModelCamera>,
    /// Sorted by name.
    pub images: Vec<ModelImage>,
    pub points: ModelPoints,
}
