//! A COLMAP model: cameras, posed images and sparse points, as `cameras`, `images` and `points3D` hold them.

use std::collections::HashMap;
use std::path::Path;

/// The files of a model, without their extensions.
pub(super) const FILES: [&str; 3] = ["cameras", "images", "points3D"];

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

/// A camera model of COLMAP (`src/colmap/sensor/models.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataset) enum CameraModel {
    SimplePinhole,
    Pinhole,
    SimpleRadial,
    Radial,
    OpenCv,
    OpenCvFisheye,
    FullOpenCv,
    Fov,
    SimpleRadialFisheye,
    RadialFisheye,
    ThinPrismFisheye,
    RadTanThinPrismFisheye,
    SimpleDivision,
    Division,
    SimpleFisheye,
    Fisheye,
    Eucm,
    Equirectangular,
}

/// All models in the order of their numbers: name and number of parameters.
pub(in crate::dataset) const MODELS: [(CameraModel, &str, usize); 18] = [
    (CameraModel::SimplePinhole, "SIMPLE_PINHOLE", 3),
    (CameraModel::Pinhole, "PINHOLE", 4),
    (CameraModel::SimpleRadial, "SIMPLE_RADIAL", 4),
    (CameraModel::Radial, "RADIAL", 5),
    (CameraModel::OpenCv, "OPENCV", 8),
    (CameraModel::OpenCvFisheye, "OPENCV_FISHEYE", 8),
    (CameraModel::FullOpenCv, "FULL_OPENCV", 12),
    (CameraModel::Fov, "FOV", 5),
    (CameraModel::SimpleRadialFisheye, "SIMPLE_RADIAL_FISHEYE", 4),
    (CameraModel::RadialFisheye, "RADIAL_FISHEYE", 5),
    (CameraModel::ThinPrismFisheye, "THIN_PRISM_FISHEYE", 12),
    (
        CameraModel::RadTanThinPrismFisheye,
        "RAD_TAN_THIN_PRISM_FISHEYE",
        16,
    ),
    (CameraModel::SimpleDivision, "SIMPLE_DIVISION", 4),
    (CameraModel::Division, "DIVISION", 5),
    (CameraModel::SimpleFisheye, "SIMPLE_FISHEYE", 3),
    (CameraModel::Fisheye, "FISHEYE", 4),
    (CameraModel::Eucm, "EUCM", 6),
    (CameraModel::Equirectangular, "EQUIRECTANGULAR", 2),
];

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

/// Return the names of a model's parameters after the focal lengths and the principal point.
pub(in crate::dataset) fn coefficient_names(model: CameraModel) -> &'static [&'static str] {
    match model {
        CameraModel::SimplePinhole
        | CameraModel::Pinhole
        | CameraModel::SimpleFisheye
        | CameraModel::Fisheye
        | CameraModel::Equirectangular => &[],
        CameraModel::SimpleRadial | CameraModel::SimpleRadialFisheye => &["k1"],
        CameraModel::Radial | CameraModel::RadialFisheye => &["k1", "k2"],
        CameraModel::OpenCv => &["k1", "k2", "p1", "p2"],
        CameraModel::OpenCvFisheye => &["k1", "k2", "k3", "k4"],
        CameraModel::FullOpenCv => &["k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"],
        CameraModel::Fov => &["omega"],
        CameraModel::ThinPrismFisheye => &["k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"],
        CameraModel::RadTanThinPrismFisheye => &[
            "k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3",
        ],
        CameraModel::SimpleDivision | CameraModel::Division => &["k"],
        CameraModel::Eucm => &["alpha", "beta"],
    }
}
