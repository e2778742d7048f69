//! Converts COLMAP's cameras and poses.

use glam::{DMat3, DQuat, DVec3};

use super::model::{ModelCamera, ModelImage};
use crate::camera::Lens;
use crate::dataset::camera_model::{CameraModel, lens};
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
