//! COLMAP's camera models: names, parameters and lenses.

use crate::camera::Lens;

/// A camera model of COLMAP (`src/colmap/sensor/models.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CameraModel {
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
pub(super) const MODELS: [(CameraModel, &str, usize); 18] = [
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

/// Return whether COLMAP has a camera model of this name.
pub(crate) fn is_camera_model(name: &str) -> bool {
    MODELS.iter().any(|(_, known, _)| *known == name)
}

/// Return the names of a model's parameters after the focal lengths and the principal point.
pub(super) fn coefficient_names(model: CameraModel) -> &'static [&'static str] {
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

/// Return the lens with the parameters `v`, which follow the focal lengths and the principal point.
pub(super) fn lens(model: CameraModel, v: &[f64]) -> Lens {
    let v = |i: usize| v.get(i).map_or(0.0, |v| *v as f32);
    let perspective = |k1: f32, k2: f32, p1: f32, p2: f32| {
        if [k1, k2, p1, p2] == [0.0; 4] {
            return Lens::Pinhole;
        }
        let k3 = 0.0;
        Lens::OpenCv { k1, k2, k3, p1, p2 }
    };
    let fisheye = |k1: f32, k2: f32, k3: f32, k4: f32| Lens::OpenCvFisheye { k1, k2, k3, k4 };
    match model {
        CameraModel::SimplePinhole | CameraModel::Pinhole => Lens::Pinhole,
        CameraModel::SimpleRadial => perspective(v(0), 0.0, 0.0, 0.0),
        CameraModel::Radial => perspective(v(0), v(1), 0.0, 0.0),
        CameraModel::OpenCv => perspective(v(0), v(1), v(2), v(3)),
        CameraModel::FullOpenCv => Lens::FullOpenCv {
            k: [v(0), v(1), v(4), v(5), v(6), v(7)],
            p: [v(2), v(3)],
        },
        CameraModel::Fov if v(0) == 0.0 => Lens::Pinhole,
        CameraModel::Fov => Lens::Fov { omega: v(0) },
        CameraModel::SimpleFisheye | CameraModel::Fisheye => fisheye(0.0, 0.0, 0.0, 0.0),
        CameraModel::SimpleRadialFisheye => fisheye(v(0), 0.0, 0.0, 0.0),
        CameraModel::RadialFisheye => fisheye(v(0), v(1), 0.0, 0.0),
        CameraModel::OpenCvFisheye => fisheye(v(0), v(1), v(2), v(3)),
        CameraModel::ThinPrismFisheye => Lens::ThinPrismFisheye {
            k: [v(0), v(1), v(4), v(5)],
            p: [v(2), v(3)],
            s: [v(6), v(7)],
        },
        CameraModel::RadTanThinPrismFisheye => Lens::RadTanThinPrismFisheye {
            k: [v(0), v(1), v(2), v(3), v(4), v(5)],
            p: [v(7), v(6)],
            s: [v(8), v(9), v(10), v(11)],
        },
        CameraModel::SimpleDivision | CameraModel::Division => Lens::Division { k: v(0) },
        CameraModel::Eucm => Lens::Eucm {
            alpha: v(0),
            beta: v(1),
        },
        CameraModel::Equirectangular => Lens::Equirectangular,
    }
}
