//! Intrinsics: focal lengths, principal point and lens from the various keys in use, scaled to the stored image.

use super::camera_model::{self, MODELS, coefficient_names};
use super::error::DatasetError;
use super::json::Fields;
use super::{Note, Notes};
use crate::camera::{Camera, Lens, focal_from_angle};

/// Maximum side of an image, in pixels.
pub(super) const MAX_SIDE: u32 = 1 << 16;
/// Maximum relative difference between the ratios of stored to declared width and height.
const UNIFORM: f64 = 1e-2;
/// Plausible fields of view of perspective lenses, in radians: 1° to 150°.
const PLAUSIBLE: std::ops::RangeInclusive<f32> = 0.017..=2.62;

/// Return the camera of a frame whose image has `image` (width, height) pixels. `exchanged` is the advice if the file has width
/// and height swapped.
///
/// Keys are read as Instant-NGP and nerfstudio write them: `w`, `h`, `fl_x`, `fl_y`, `cx`, `cy`, `camera_angle_x`,
/// `camera_angle_y`, `camera_model`, `is_fisheye`, `k1`, `k2`, `k3`, `k4`, `p1`, `p2`, and `x_fov`, `y_fov` in degrees.
/// Values that describe another resolution of the same image are scaled to `image`.
pub(super) fn camera(
    fields: &Fields,
    image: [u32; 2],
    exchanged: &str,
    world_from_camera: [[f64; 4]; 3],
    notes: &mut Notes,
) -> Result<Camera, DatasetError> {
    let declared = declared_size(fields, image)?;
    let ratio = size_ratio(image, declared, "`w` and `h` say", exchanged)
        .map_err(|message| fields.error(message))?;
    if ratio
        .iter()
        .zip(image)
        .any(|(ratio, side)| (ratio - 1.0).abs() * f64::from(side) > 1e-6)
    {
        notes.add(Note::Rescaled, || {
            let [w, h] = declared;
            format!(
                "{} is stored with {} × {} pixels, not {w} × {h}",
                fields.place(),
                image[0],
                image[1]
            )
        });
    }
    let lens = lens(fields)?;
    if fields.get("fisheye_crop_radius").is_some() {
        notes.add(Note::FisheyeCrop, || {
            format!("{} has a `fisheye_crop_radius`", fields.place())
        });
    }
    let middle = declared.map(|side| 0.5 * side);
    let (focal, principal) = if lens == Lens::Equirectangular {
        let (pi, tau) = (std::f64::consts::PI, std::f64::consts::TAU);
        ([declared[0] / tau, declared[1] / pi], middle)
    } else {
        let cx = fields.number("cx")?.unwrap_or(middle[0]);
        let cy = fields.number("cy")?.unwrap_or(middle[1]);
        (focal(fields, declared)?, [cx, cy])
    };
    let scaled = |v: [f64; 2]| [(v[0] * ratio[0]) as f32, (v[1] * ratio[1]) as f32];
    let camera = Camera {
        world_from_camera,
        width: image[0],
        height: image[1],
        focal: scaled(focal),
        principal: scaled(principal),
        lens,
    };
    check(&camera, notes, || fields.place()).map_err(|message| fields.error(message))?;
    Ok(camera)
}

/// Return whether two sizes differ only in scale.
pub(super) fn is_same_shape(image: [u32; 2], declared: [f64; 2]) -> bool {
    let sides = image.map(f64::from);
    let ratio = [sides[0] / declared[0], sides[1] / declared[1]];
    (ratio[0] / ratio[1] - 1.0).abs() <= UNIFORM
}

/// Return the ratios of an image's width and height to the declared ones, which may differ in scale but not in aspect ratio. In
/// the error message, `who` names the source of the declared size, and `exchanged` is the advice if width and height are
/// swapped.
pub(super) fn size_ratio(
    image: [u32; 2],
    declared: [f64; 2],
    who: &str,
    exchanged: &str,
) -> Result<[f64; 2], String> {
    if is_same_shape(image, declared) {
        let sides = image.map(f64::from);
        return Ok([sides[0] / declared[0], sides[1] / declared[1]]);
    }
    let [w, h] = declared;
    Err(format!(
        "the image has {} × {} pixels but {who} {w} × {h}: {}",
        image[0],
        image[1],
        if is_same_shape(image, [h, w]) {
            exchanged
        } else {
            "correct one of them"
        }
    ))
}

/// Return the declared width and height, if the file gives both.
pub(super) fn declared(fields: &Fields) -> Result<Option<[f64; 2]>, DatasetError> {
    let sides = fields.number("w")?.zip(fields.number("h")?);
    Ok(sides
        .map(|(w, h)| [w, h])
        .filter(|sides| sides.iter().all(|v| *v >= 1.0)))
}

/// Return `near` and `far` in world units, if the file gives both.
pub(super) fn near_far(fields: &Fields) -> Result<Option<[f32; 2]>, DatasetError> {
    let (Some(near), Some(far)) = (fields.number("near")?, fields.number("far")?) else {
        return Ok(None);
    };
    if near < 0.0 || near as f32 >= far as f32 {
        return Err(fields.error(format!(
            "`near` = {near} and `far` = {far} should be 0 ≤ near < far: correct or remove them"
        )));
    }
    Ok(Some([near as f32, far as f32]))
}

/// Return the resolution that the other keys refer to; a side that is not declared follows from the image's aspect ratio.
fn declared_size(fields: &Fields, image: [u32; 2]) -> Result<[f64; 2], DatasetError> {
    let side = |key: &str| -> Result<Option<f64>, DatasetError> {
        let Some(value) = fields.number(key)? else {
            return Ok(None);
        };
        let rounded = value.round();
        if !(1.0..=f64::from(MAX_SIDE)).contains(&rounded) {
            return Err(fields.error(format!(
                "`{key}` = {value} is not an image side: expected 1 to {MAX_SIDE} pixels"
            )));
        }
        Ok(Some(rounded))
    };
    let [width, height] = image.map(f64::from);
    Ok(match (side("w")?, side("h")?) {
        (Some(w), Some(h)) => [w, h],
        (Some(w), None) => [w, height * w / width],
        (None, Some(h)) => [width * h / height, h],
        (None, None) => [width, height],
    })
}

/// Return the focal lengths (x, y) in pixels of the declared resolution; if only one is given, the other equals it.
fn focal(fields: &Fields, size: [f64; 2]) -> Result<[f64; 2], DatasetError> {
    let axis = |keys: [&str; 3], side: f64| -> Result<Option<f64>, DatasetError> {
        let Some((key, value)) = fields.first_number(&keys)? else {
            return Ok(None);
        };
        if key.starts_with("fl_") {
            if value <= 0.0 {
                return Err(fields.error(format!(
                    "`{key}` = {value}: a focal length must be a positive number of pixels"
                )));
            }
            return Ok(Some(value));
        }
        let radians = if key.ends_with("_fov") {
            value.to_radians()
        } else {
            value
        };
        if radians <= 0.0 || radians >= std::f64::consts::PI {
            return Err(fields.error(format!(
                "`{key}` = {value}: a field of view must be between 0 and 180 degrees (π)"
            )));
        }
        Ok(Some(focal_from_angle(radians, side)))
    };
    let x = axis(["fl_x", "camera_angle_x", "x_fov"], size[0])?;
    let y = axis(["fl_y", "camera_angle_y", "y_fov"], size[1])?;
    match (x, y) {
        (Some(x), Some(y)) => Ok([x, y]),
        (Some(both), None) | (None, Some(both)) => Ok([both; 2]),
        (None, None) => Err(fields.error(
            "the focal length is missing: expected `fl_x` (pixels) or `camera_angle_x` (radians)",
        )),
    }
}

/// Return the lens model. Without `camera_model`, nonzero coefficients imply `OpenCV`'s perspective model.
fn lens(fields: &Fields) -> Result<Lens, DatasetError> {
    let listed = distortion_params(fields)?;
    let coefficient = |key: &str| {
        if let Some(listed) = &listed {
            let place = DISTORTION_PARAMS.iter().position(|name| *name == key);
            return Ok(place.and_then(|i| listed.get(i)).map_or(0.0, |v| *v as f32));
        }
        fields.number(key).map(|value| value.unwrap_or(0.0) as f32)
    };
    let model = fields
        .text("camera_model")?
        .unwrap_or("")
        .to_ascii_uppercase();
    let unsupported = [
        "equirectangular",
        "latlong",
        "orthographic",
        "is_equirectangular",
    ];
    if let Some(key) = unsupported.into_iter().find(|key| fields.flag(key)) {
        return Err(fields.error(format!(
            "`{key}` lenses are not supported: expected a perspective or OpenCV fisheye lens"
        )));
    }
    if fields.get("ftheta_p0").is_some() {
        return Err(fields.error(
            "f-theta lenses are not supported: expected a perspective or OpenCV fisheye lens",
        ));
    }
    let fisheye = match model.as_str() {
        "" => fields.flag("is_fisheye"),
        "PINHOLE" | "SIMPLE_PINHOLE" | "PERSPECTIVE" | "RADIAL" | "SIMPLE_RADIAL" | "OPENCV" => {
            false
        }
        "OPENCV_FISHEYE" | "FISHEYE" | "RADIAL_FISHEYE" | "SIMPLE_RADIAL_FISHEYE" => true,
        _ => return other_lens(fields, &model, listed),
    };
    if let Some(listed) = listed.as_ref()
        && listed.len() != DISTORTION_PARAMS.len()
        && !(fisheye && listed.len() == 4)
    {
        return Err(fields.error(format!(
            "`distortion_params` holds {} numbers, expected six: {}",
            listed.len(),
            DISTORTION_PARAMS.join(", ")
        )));
    }
    // COLMAP's name where there is only one.
    let has_k = model.starts_with("SIMPLE_RADIAL") && listed.is_none() && fields.get("k").is_some();
    let k1 = coefficient(if has_k { "k" } else { "k1" })?;
    let [k2, k3, k4] = [coefficient("k2")?, coefficient("k3")?, coefficient("k4")?];
    if fisheye {
        return Ok(Lens::OpenCvFisheye { k1, k2, k3, k4 });
    }
    if k4 != 0.0 {
        return Err(fields.error(
            "`k4` of a perspective lens is not supported: \
             undistort the images or refit the lens without it",
        ));
    }
    let [p1, p2] = [coefficient("p1")?, coefficient("p2")?];
    if [k1, k2, k3, p1, p2].iter().all(|value| *value == 0.0) {
        return Ok(Lens::Pinhole);
    }
    Ok(Lens::OpenCv { k1, k2, k3, p1, p2 })
}

/// The order of nerfstudio's `distortion_params`.
const DISTORTION_PARAMS: [&str; 6] = ["k1", "k2", "k3", "k4", "p1", "p2"];

/// Return the numbers of nerfstudio's `distortion_params`, if the file has that key.
fn distortion_params(fields: &Fields) -> Result<Option<Vec<f64>>, DatasetError> {
    let Some(value) = fields.get("distortion_params") else {
        return Ok(None);
    };
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|list| {
        let finite = |v: &serde_json::Value| v.as_f64().filter(|v| (*v as f32).is_finite());
        list.iter().map(finite).collect()
    });
    numbers.map(Some).ok_or_else(|| {
        fields.error("`distortion_params` should be a list of finite numbers: correct it, or give k1, k2, k3, k4, p1, p2")
    })
}

/// Return the lens of a `camera_model` with more coefficients, or none: those of COLMAP, by their names there, and Project
/// Aria's FISHEYE624, whose coefficients may be listed in `distortion_params`.
fn other_lens(
    fields: &Fields,
    model: &str,
    listed: Option<Vec<f64>>,
) -> Result<Lens, DatasetError> {
    let name = match model {
        "FISHEYE624" => "RAD_TAN_THIN_PRISM_FISHEYE",
        other => other,
    };
    let known = MODELS.iter().find(|(_, known, _)| *known == name);
    let Some((model, ..)) = known else {
        return Err(fields.error(format!(
            "`camera_model` {} is not supported: use PINHOLE, OPENCV, OPENCV_FISHEYE, EQUIRECTANGULAR or another of COLMAP's, \
             or undistort the images",
            crate::text::one_line(model)
        )));
    };
    let names = coefficient_names(*model);
    let values = match listed {
        Some(listed) if listed.len() == names.len() => listed,
        Some(listed) => {
            return Err(fields.error(format!(
                "`distortion_params` holds {} numbers, but this `camera_model` has {}: {}",
                listed.len(),
                names.len(),
                names.join(", ")
            )));
        }
        None => names
            .iter()
            .map(|name| Ok(fields.number(name)?.unwrap_or(0.0)))
            .collect::<Result<_, DatasetError>>()?,
    };
    Ok(camera_model::lens(*model, &values))
}

/// Check values that depend on each other; `place` names the frame. The error is the message about it.
pub(super) fn check(
    camera: &Camera,
    notes: &mut Notes,
    place: impl Fn() -> String,
) -> Result<(), String> {
    if camera
        .focal
        .iter()
        .any(|focal| !focal.is_finite() || *focal <= 0.0)
    {
        return Err(format!(
            "the focal length {:?} is not a positive number of pixels",
            camera.focal
        ));
    }
    if camera.principal.iter().any(|value| !value.is_finite()) {
        return Err("the principal point is not finite".to_owned());
    }
    let size = [camera.width as f32, camera.height as f32];
    let angles = [0, 1].map(|axis| 2.0 * (size[axis] / 2.0 / camera.focal[axis]).atan());
    // Radial displacement that the lens causes at the corner farthest from the principal point.
    let corner = [0, 1].map(|axis| {
        let far = camera.principal[axis].max(size[axis] - camera.principal[axis]);
        f64::from(far / camera.focal[axis])
    });
    let moved = |p: [f64; 2]| p[0].hypot(p[1]) / corner[0].hypot(corner[1]).max(1e-9);
    let seen = camera.lens.direction(corner).0;
    let stretch = moved([seen.x, seen.y]);
    if !camera.lens.is_finite() {
        return Err(format!(
            "the coefficients of its lens are not finite, or far too large: {:?}",
            camera.lens
        ));
    }
    if camera.lens.is_perspective() && !(0.5..=2.0).contains(&stretch) {
        notes.add(Note::Distorted, || {
            format!(
                "{} has a lens that moves the corners to {stretch:.2} times their distance",
                place()
            )
        });
    }
    let is_flat = camera.lens != Lens::Pinhole || angles.iter().all(|a| PLAUSIBLE.contains(a));
    let aspect = camera.focal[0] / camera.focal[1];
    if !is_flat || !(0.5..=2.0).contains(&aspect) {
        notes.add(Note::Extreme, || {
            format!(
                "{} has a field of view of {:.1}° × {:.1}° and pixels {aspect:.2} times as high as wide",
                place(),
                angles[0].to_degrees(),
                angles[1].to_degrees()
            )
        });
    }
    if camera
        .principal
        .iter()
        .zip(size)
        .any(|(centre, side)| (centre / side - 0.5).abs() > 0.25)
    {
        notes.add(Note::OffCentre, || {
            let [x, y] = camera.principal;
            format!(
                "{} has its principal point at ({x}, {y}) of {} × {} pixels",
                place(),
                size[0],
                size[1]
            )
        });
    }
    if !camera.lens_is_invertible() {
        notes.add(Note::FoldingLens, || {
            format!(
                "{} has a lens model that does not cover the whole image",
                place()
            )
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::camera::Lens;
    use crate::dataset::tests::{Scene, refused};

    #[test]
    fn lens_models() {
        let mut scene = Scene::new(1);
        let k1 = ("k1", json!(0.5));
        let fisheye = Lens::OpenCvFisheye {
            k1: 0.5,
            k2: 0.0,
            k3: 0.0,
            k4: 0.0,
        };
        let opencv = Lens::OpenCv {
            k1: 0.5,
            k2: 0.0,
            k3: 0.0,
            p1: 0.0,
            p2: 0.0,
        };
        let cases = [
            (("is_fisheye", json!(true)), fisheye),
            (("camera_model", json!("OPENCV_FISHEYE")), fisheye),
            (("camera_model", json!("SIMPLE_RADIAL")), opencv),
            (("camera_model", json!("opencv")), opencv),
            (("camera_model", json!(null)), opencv),
        ];
        for (key, lens) in cases {
            assert_eq!(
                scene.open_with(None, &[key, k1.clone()]).unwrap().train[0]
                    .camera
                    .lens,
                lens
            );
        }
        let pinhole = scene
            .open_with(None, &[("camera_model", json!("OPENCV"))])
            .unwrap();
        assert_eq!(pinhole.train[0].camera.lens, Lens::Pinhole);
        refused(
            scene.open_with(None, &[("camera_model", json!("ORTHOPHOTO"))]),
            &["ORTHOPHOTO", "frame 0"],
        );
        let sphere = scene
            .open_with(None, &[("camera_model", json!("EQUIRECTANGULAR"))])
            .unwrap();
        let camera = sphere.train[0].camera;
        assert_eq!(camera.lens, Lens::Equirectangular);
        assert_eq!(camera.principal, [4.0, 3.0]);
        assert!((camera.focal[0] - 8.0 / std::f32::consts::TAU).abs() < 1e-6);
        let rational = [("camera_model", json!("FULL_OPENCV")), ("k6", json!(0.25))];
        let rational = scene.open_with(None, &rational).unwrap();
        let expected = Lens::FullOpenCv {
            k: [0.0, 0.0, 0.0, 0.0, 0.0, 0.25],
            p: [0.0; 2],
        };
        assert_eq!(rational.train[0].camera.lens, expected);
        let list = ("distortion_params", json!([0.5, 0, 0, 0, 0.01, 0.02]));
        let listed = scene.open_with(None, std::slice::from_ref(&list)).unwrap();
        let expected = Lens::OpenCv {
            k1: 0.5,
            k2: 0.0,
            k3: 0.0,
            p1: 0.01,
            p2: 0.02,
        };
        assert_eq!(listed.train[0].camera.lens, expected);
        let aria = ("camera_model", json!("FISHEYE624"));
        refused(
            scene.open_with(None, &[list, aria.clone()]),
            &["`distortion_params`", "12"],
        );
        let all = (
            "distortion_params",
            json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        );
        let expected = Lens::RadTanThinPrismFisheye {
            k: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            p: [8.0, 7.0],
            s: [9.0, 10.0, 11.0, 12.0],
        };
        let aria = scene.open_with(None, &[all, aria]).unwrap();
        assert_eq!(aria.train[0].camera.lens, expected);
        refused(
            scene.open_with(None, &[("distortion_params", json!("x"))]),
            &["`distortion_params`"],
        );
        refused(scene.open_with(None, &[("k4", json!(0.1))]), &["`k4`"]);
        let folding = scene.open_with(None, &[("k1", json!(-9.0))]).unwrap();
        assert!(
            folding.warnings[1].contains("lens"),
            "{:?}",
            folding.warnings
        );
    }

    #[test]
    fn a_downscaled_image_rescales_its_intrinsics() {
        let mut scene = Scene::new(3);
        let keys = [
            ("w", json!(32.0)),
            ("h", json!(24)),
            ("fl_x", json!(40)),
            ("cx", json!(12)),
            ("cy", json!(11)),
        ];
        let dataset = scene.open_with(None, &keys).unwrap();
        let camera = dataset.train[0].camera;
        assert_eq!(
            (camera.width, camera.focal, camera.principal),
            (8, [10.0, 10.0], [3.0, 2.75])
        );
        assert!(
            dataset.warnings.len() == 1 && dataset.warnings[0].contains("3 frames"),
            "{:?}",
            dataset.warnings
        );
        let rotated = [("w", json!(6)), ("h", json!(8))];
        refused(
            scene.open_with(None, &rotated),
            &["frame 0", "8 × 6", "6 × 8", "rotate the image"],
        );
        refused(
            scene.open_with(None, &[("w", json!(9)), ("h", json!(6))]),
            &["8 × 6", "9 × 6"],
        );
    }
}
