//! Converts COLMAP's cameras and poses.

use glam::{DMat3, DQuat, DVec3};

use super::model::{CameraModel, ModelCamera, ModelImage};
use crate::camera::Lens;
use crate::dataset::posed_image::Intrinsics;

/// Return the intrinsics of `camera`, in pixels of its size; its parameters are as many as its model has.
pub(super) fn intrinsics(camera: &ModelCamera) -> Intrinsics {
    let v = camera.parameters.as_slice();
    let [width, height] = camera.size.map(|side| side as f64);
    if camera.model == CameraModel::Equirectangular {
        let (pi, tau) = (std::f64::consts::PI, std::f64::consts::TAU);
        return Intrinsics {
            focal: [width / tau, height / pi],
            principal: [width / 2.0, height / 2.0],
            lens: Lens::Equirectangular,
        };
    }
    let has_one_focal = matches!(
        camera.model,
        CameraModel::SimplePinhole
            | CameraModel::SimpleRadial
            | CameraModel::Radial
            | CameraModel::SimpleRadialFisheye
            | CameraModel::RadialFisheye
            | CameraModel::SimpleDivision
            | CameraModel::SimpleFisheye
    );
    let (focal, rest) = if has_one_focal {
        ([v[0]; 2], &v[1..])
    } else {
        ([v[0], v[1]], &v[2..])
    };
    Intrinsics {
        focal,
        principal: [rest[0], rest[1]],
        lens: lens(camera.model, &rest[2..]),
    }
}

/// Return the lens with the parameters `v`, which follow the focal lengths and the principal point.
pub(in crate::dataset) fn lens(model: CameraModel, v: &[f64]) -> Lens {
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

/// Return the OpenGL camera-to-world matrix of `image`, or a message if its pose is not one.
///
/// COLMAP's pose maps world to camera, x right, y down, z forward: the centre is −Rᵀ t, and the axes y and z are turned.
pub(super) fn pose(image: &ModelImage) -> Result<[[f64; 4]; 3], String> {
    let [w, x, y, z] = image.rotation;
    let quaternion = DQuat::from_xyzw(x, y, z, w);
    let translation = DVec3::from(image.translation);
    if !quaternion.is_finite() || !translation.is_finite() || quaternion.length() < 1e-6 {
        return Err(format!(
            "its pose, the quaternion ({w}, {x}, {y}, {z}) and the translation {translation}, is not a pose: \
             export the model again"
        ));
    }
    let world_from_camera = DMat3::from_quat(quaternion.normalize()).transpose();
    let center = -(world_from_camera * translation);
    let columns = [
        world_from_camera.x_axis,
        -world_from_camera.y_axis,
        -world_from_camera.z_axis,
        center,
    ];
    Ok(std::array::from_fn(|row| columns.map(|column| column[row])))
}
