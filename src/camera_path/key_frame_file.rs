//! kiln's own format of key-frame files (`docs/camera-path.md`).

use std::path::Path;

use super::draft::{Draft, KeyFrame};
use super::json::{Fields, Location};
use super::key_frames::{MIN_GAP, ViewTarget};
use super::pose::Pose;
use super::{CameraPath, CameraPathError, CameraState, Model, read_text};
use super::{extent_of_angle, fps, list, size};
use crate::aabb::Aabb;

impl Draft {
    /// Read a file of key frames.
    ///
    /// # Errors
    /// Those of [`CameraPath::read`]; [`CameraPathError::File`] if there are no key frames of a perspective camera.
    pub fn read(file: &Path) -> Result<Self, CameraPathError> {
        let text = read_text(file)?;
        let refuse = |message: &str| CameraPathError::File {
            path: file.to_owned(),
            message: message.to_owned(),
        };
        let root = super::parse_json(file, &text)?;
        let whole = Fields::of(file, Location::File, &root)?;
        if !whole.has("key_frames") {
            // If this is not a path of another program either, report its faults first.
            CameraPath::parse(file, &text)?;
            return Err(refuse(
                "another program's path can be rendered (kiln render --path) but not edited",
            ));
        }
        let (model, draft) = parse(&whole)?;
        if model != Model::Perspective {
            return Err(refuse(
                "its camera is not a perspective one: it can be rendered (kiln render --path) but not edited",
            ));
        }
        Ok(draft)
    }
}

/// Parse an object with `key_frames`; return its camera model and key frames.
pub(super) fn parse(whole: &Fields) -> Result<(Model, Draft), CameraPathError> {
    whole.only(&[
        "camera",
        "width",
        "height",
        "fps",
        "loop",
        "seconds",
        "fov",
        "size",
        "crop",
        "key_frames",
    ])?;
    let model = match whole.text("camera")?.unwrap_or("perspective") {
        "perspective" => Model::Perspective,
        "orthographic" => Model::Orthographic,
        "equirectangular" => Model::Equirectangular,
        other => {
            let start: String = other.chars().take(40).collect();
            return Err(whole.error(format!(
                "`camera` is {start:?}: give perspective, orthographic or equirectangular"
            )));
        }
    };
    let shared = extent(whole, model)?;
    let mut keys: Vec<KeyFrame> = Vec::new();
    for (index, value) in list(whole, "key_frames", "key frame")?.iter().enumerate() {
        let key = Fields::of(whole.path, Location::KeyFrame(index), value)?;
        key.only(&[
            "time",
            "transform_matrix",
            "eye",
            "target",
            "up",
            "fov",
            "size",
        ])?;
        let time = key.required("time", "seconds")?;
        if let Some(before) = keys.last().map(|k| k.time)
            && time < before + MIN_GAP
        {
            return Err(key.error(format!(
                "its time, {time} s, is not later than that of the key frame before, {before} s: times must increase"
            )));
        }
        let (pose, look) = pose(&key)?;
        let extent = extent(&key, model)?.or(shared).ok_or_else(|| match model {
            Model::Orthographic => key.error(
                "`size` (what the image's height spans, in world units) is missing, \
                     here and for the whole file",
            ),
            _ => key.error(
                "`fov` (vertical field of view, in degrees) is missing, \
                     here and for the whole file",
            ),
        })?;
        let view = CameraState { pose, extent };
        keys.push(KeyFrame { time, view, look });
    }
    let draft = Draft {
        size: size(whole, ["width", "height"])?,
        fps: fps(whole)?,
        looped: whole.flag("loop")?,
        seconds: seconds(whole, &keys)?,
        crop: crop(whole)?,
        keys,
    };
    Ok((model, draft))
}

/// Parse the visible part of the scene, given by two corners.
fn crop(whole: &Fields) -> Result<Option<Aabb>, CameraPathError> {
    let Some(corners) = whole.corners("crop")? else {
        return Ok(None);
    };
    let crop = Aabb::new(corners[0], corners[1]);
    crop.map(Some)
        .map_err(|e| whole.error(format!("`crop`: {e}")))
}

/// Parse the extent of the image's height from `fov` or `size`, if given.
fn extent(fields: &Fields, model: Model) -> Result<Option<f64>, CameraPathError> {
    let refuse = |key: &str, way: &str| {
        if fields.has(key) {
            return Err(fields.error(format!("`{key}` is not for this camera: {way}")));
        }
        Ok(())
    };
    match model {
        Model::Orthographic => {
            refuse("fov", "an orthographic one has a `size` in world units")?;
            let size = fields.number("size")?;
            if let Some(size) = size.filter(|s| !(1e-6..=1e9).contains(s)) {
                return Err(fields.error(format!(
                    "`size` is {size}: give what the image's height spans in world units, above 0"
                )));
            }
            Ok(size)
        }
        Model::Equirectangular => {
            refuse("fov", "an equirectangular one sees everything")?;
            refuse("size", "an equirectangular one sees everything")?;
            Ok(Some(1.0))
        }
        Model::Perspective | Model::Fisheye => {
            refuse("size", "a perspective one has a `fov` in degrees")?;
            let degrees = fields.number("fov")?;
            degrees.map(|d| extent_of_angle(fields, d)).transpose()
        }
    }
}

/// Parse the pose of a key frame, given by a matrix or by eye and target.
fn pose(key: &Fields) -> Result<(Pose, Option<ViewTarget>), CameraPathError> {
    let looks = key.vector("eye")?.zip(key.vector("target")?);
    match (key.matrix("transform_matrix")?, looks) {
        (Some(_), _) if ["eye", "target", "up"].iter().any(|k| key.has(k)) => {
            Err(key.error("give either `transform_matrix` or `eye` and `target`, not both"))
        }
        (Some(rows), _) => {
            let pose = Pose::from_rows(rows).map_err(|fault| {
                key.error(format!(
                    "`transform_matrix` is not a pose, {fault}: \
                     expected an OpenGL camera-to-world matrix"
                ))
            })?;
            Ok((pose, None))
        }
        (None, Some((eye, target))) => {
            let up = key.vector("up")?.unwrap_or([0.0, 0.0, 1.0]);
            let look = ViewTarget {
                target: target.into(),
                up: up.into(),
            };
            let pose = Pose::look_at(eye.into(), look.target, look.up);
            Ok((pose.map_err(|fault| key.error(fault))?, Some(look)))
        }
        (None, None) => {
            Err(key.error("has no pose: give `transform_matrix`, or `eye` and `target`"))
        }
    }
}

/// Parse the duration of a loop in seconds, if given.
fn seconds(whole: &Fields, keys: &[KeyFrame]) -> Result<Option<f64>, CameraPathError> {
    let seconds = whole.number("seconds")?;
    let [first, .., last] = keys else {
        return Ok(None);
    };
    let lasts = last.time - first.time;
    if !whole.flag("loop")? {
        return match seconds {
            Some(_) => Err(whole.error("`seconds` is the length of a loop: add `\"loop\": true`")),
            None => Ok(None),
        };
    }
    if let Some(seconds) = seconds.filter(|s| *s < lasts + MIN_GAP) {
        return Err(whole.error(format!(
            "`seconds` is {seconds}: a loop is longer than the {lasts} s from the first key frame to the last"
        )));
    }
    Ok(seconds)
}
