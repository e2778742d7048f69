//! Camera paths exported by nerfstudio's viewer, and the transform from its normalised frame to the world.

use std::path::Path;

use glam::DVec3;

use super::json::{Fields, Location};
use super::pose::Pose;
use super::{CameraPath, CameraPathError, CameraState, Model, Views};
use super::{extent_of_angle, fps, list, parse_json, read_text, size};

/// Parse an object with `camera_path`; keys that do not affect the cameras are ignored.
pub(super) fn parse(whole: &Fields) -> Result<CameraPath, CameraPathError> {
    let model = match whole.text("camera_type")?.unwrap_or("perspective") {
        "perspective" => Model::Perspective,
        "fisheye" => Model::Fisheye,
        "equirectangular" => Model::Equirectangular,
        other => {
            let start: String = other.chars().take(40).collect();
            return Err(whole.error(format!(
                "`camera_type` is {start:?}: give perspective, fisheye or equirectangular"
            )));
        }
    };
    let view = |(index, value)| {
        let frame = Fields::of(whole.path, Location::Of("camera_path", index), value)?;
        let rows = frame.flat_matrix("camera_to_world")?.ok_or_else(|| {
            frame.error("`camera_to_world` is missing: expected 16 numbers, row by row")
        })?;
        let pose = Pose::from_rows(rows)
            .map_err(|fault| frame.error(format!("`camera_to_world` is not a pose: {fault}")))?;
        let extent = if model == Model::Equirectangular {
            1.0
        } else {
            extent_of_angle(&frame, frame.required("fov", "vertical degrees")?)?
        };
        Ok(CameraState { pose, extent })
    };
    let frames = list(whole, "camera_path", "frame")?;
    Ok(CameraPath {
        file: whole.path.to_owned(),
        size: size(whole, ["render_width", "render_height"])?,
        fps: fps(whole)?,
        crop: None,
        model,
        views: Views::Dense(
            frames
                .iter()
                .enumerate()
                .map(view)
                .collect::<Result<_, _>>()?,
        ),
    })
}

/// Transform from the dataset's world to nerfstudio's normalised frame: `scale · (rotation · p + translation)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameTransform {
    transform: Pose,
    scale: f64,
}

impl FrameTransform {
    /// Read a `dataparser_transforms.json`: `{"transform": 3×4, "scale": s}`.
    ///
    /// # Errors
    /// [`CameraPathError`] names the file and the key.
    pub fn read(file: &Path) -> Result<Self, CameraPathError> {
        Self::from_keys(file, "transform", "scale")?.ok_or_else(|| CameraPathError::File {
            path: file.to_owned(),
            message: "`transform` is missing: expected the 3 × 4 matrix of nerfstudio's \
                      dataparser_transforms.json"
                .to_owned(),
        })
    }

    /// Read the transform that was already applied to the poses of a `transforms.json` (`applied_transform`,
    /// `applied_scale`), if any.
    ///
    /// # Errors
    /// [`CameraPathError`] names the file and the key.
    pub fn read_applied(file: &Path) -> Result<Option<Self>, CameraPathError> {
        Self::from_keys(file, "applied_transform", "applied_scale")
    }

    fn from_keys(
        file: &Path,
        transform: &str,
        scale: &str,
    ) -> Result<Option<Self>, CameraPathError> {
        let root = parse_json(file, &read_text(file)?)?;
        let whole = Fields::of(file, Location::File, &root)?;
        let factor = whole.number(scale)?;
        let Some(rows) = whole.matrix(transform)? else {
            return Ok(None);
        };
        let factor = factor.unwrap_or(1.0);
        if !(1e-9..=1e9).contains(&factor) {
            return Err(whole.error(format!("`{scale}` is {factor}: give a positive number")));
        }
        let transform = Pose::from_rows(rows)
            .map_err(|fault| whole.error(format!("`{transform}` is not rigid: {fault}")))?;
        Ok(Some(Self {
            transform,
            scale: factor,
        }))
    }

    /// Return the transform from the world of a dataset whose poses include `applied`: nerfstudio's own transform includes
    /// `applied` too, so it is divided out.
    #[must_use]
    pub fn after(&self, applied: &Self) -> Self {
        let inverse = applied.transform.rotation.conjugate();
        let (own, first) = (self.transform, applied.transform);
        let rotation = (own.rotation * inverse).normalize();
        Self {
            transform: Pose {
                rotation,
                position: own.position - rotation * first.position,
            },
            scale: self.scale / applied.scale,
        }
    }

    /// Transform a pose from the normalised frame to the world.
    pub(super) fn to_world(self, pose: Pose) -> Pose {
        let inverse = self.transform.rotation.conjugate();
        let unscaled: DVec3 = pose.position / self.scale;
        Pose {
            position: inverse * (unscaled - self.transform.position),
            rotation: (inverse * pose.rotation).normalize(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(value: &Value) -> Result<CameraPath, CameraPathError> {
        CameraPath::parse(Path::new("ns.json"), value.to_string().as_bytes())
    }

    fn exported() -> Value {
        let frame = |x: f64| {
            json!({
                "camera_to_world": [1, 0, 0, x, 0, 0, -1, 2, 0, 1, 0, 3, 0, 0, 0, 1],
                "fov": 60, "aspect": 1.5
            })
        };
        json!({
            "camera_type": "perspective", "render_height": 200, "render_width": 300, "fps": 12,
            "seconds": 0.25, "is_cycle": false, "smoothness_value": 0.5, "keyframes": [],
            "camera_path": [frame(0.0), frame(0.5), frame(1.0)], "crop": null
        })
    }

    #[test]
    fn dense_frames_are_taken_as_they_are() {
        let path = parse(&exported()).unwrap();
        assert!(path.is_normalised());
        assert_eq!((path.size(), path.fps()), ([300, 200], 12.0));
        let cameras = path.cameras(path.size(), path.fps()).unwrap();
        assert_eq!(cameras.len(), 3);
        let camera = cameras[1].camera;
        assert_eq!(camera.position(), [0.5, 2.0, 3.0]);
        // Row 2 of the rotation is 0 1 0: up in the image is the world's z.
        assert!((camera.world_from_camera[2][1] - 1.0).abs() < 1e-6);
        // Half of the image height, 100 pixels, subtends half of 60°.
        assert!((camera.focal[0] - 100.0 * 3.0_f32.sqrt()).abs() < 1e-3);
        assert!((cameras[2].time - 2.0 / 12.0).abs() < 1e-12);
        let mut all_around = exported();
        all_around["camera_type"] = json!("equirectangular");
        all_around["camera_path"][0]["fov"] = json!(null);
        let path = parse(&all_around).unwrap();
        let camera = path.cameras([360, 180], 1.0).unwrap()[0].camera;
        assert!((camera.focal[0] - 57.29578).abs() < 1e-3 && camera.focal[0] == camera.focal[1]);
    }

    #[test]
    fn bad_files_are_refused_by_frame() {
        let refused = |change: &dyn Fn(&mut Value), words: &[&str]| {
            let mut value = exported();
            change(&mut value);
            let error = parse(&value).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
            for word in words {
                assert!(error.contains(word), "`{word}` is not in: {error}");
            }
        };
        refused(
            &|v| v["camera_path"] = json!([]),
            &["`camera_path` is empty"],
        );
        refused(&|v| v["camera_path"] = json!(3), &["should be a list"]);
        refused(&|v| v["render_width"] = json!(1e9), &["`render_width`"]);
        refused(&|v| v["fps"] = json!(0), &["`fps`"]);
        refused(
            &|v| v["camera_type"] = json!("vr180"),
            &["vr180", "fisheye"],
        );
        let frame = |key: &'static str, to: Value| {
            move |v: &mut Value| v["camera_path"][2][key] = to.clone()
        };
        refused(&frame("fov", json!(180)), &["frame 2", "`fov`"]);
        refused(&frame("fov", json!(null)), &["frame 2", "null"]);
        refused(
            &frame("camera_to_world", json!([1, 2])),
            &["frame 2", "16 numbers", "2 entries"],
        );
        let turned = json!([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 2, 3, 1]);
        refused(&frame("camera_to_world", turned), &["transposed"]);
        let mirrored = json!([-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        refused(&frame("camera_to_world", mirrored), &["mirrored"]);
    }

    #[test]
    fn the_normalised_frame_leads_back_to_the_world() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, value: Value| {
            let file = folder.path().join(name);
            std::fs::write(&file, value.to_string()).unwrap();
            file
        };
        // A rotation by 90° about z, then a translation, then a scale of one half.
        let normalised = write(
            "dataparser_transforms.json",
            json!({"transform": [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]], "scale": 0.5}),
        );
        let transform = FrameTransform::read(&normalised).unwrap();
        // The world point (5, 6, 7) is rotated to (−6, 5, 7), translated to (−5, 7, 10), scaled to (−2.5, 3.5, 5).
        let rows = [
            [1.0, 0.0, 0.0, -2.5],
            [0.0, 1.0, 0.0, 3.5],
            [0.0, 0.0, 1.0, 5.0],
        ];
        let pose = Pose::from_rows(rows).unwrap();
        let world = transform.to_world(pose);
        assert!((world.position - DVec3::new(5.0, 6.0, 7.0)).length() < 1e-12);
        // The normalised x axis is the world's −y.
        assert!((world.rotation * DVec3::X + DVec3::Y).length() < 1e-12);
        // The dataset was made from another world by x ↦ 2 (A x + (0, 0, 1)), where A is a rotation by 90° about
        // x. nerfstudio's file starts from that world, so its point p with 2 (A p + (0, 0, 1)) = (5, 6, 7) maps
        // to the same position as above.
        let applied = write(
            "transforms.json",
            json!({"applied_transform": [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 1]], "applied_scale": 2.0}),
        );
        let applied = FrameTransform::read_applied(&applied).unwrap().unwrap();
        let own = FrameTransform {
            transform: Pose {
                position: transform.transform.position
                    + transform.transform.rotation * applied.transform.position,
                rotation: transform.transform.rotation * applied.transform.rotation,
            },
            scale: transform.scale * applied.scale,
        };
        let back = own.after(&applied).to_world(pose);
        assert!((back.position - world.position).length() < 1e-12);
        assert!(back.rotation.dot(world.rotation).abs() > 1.0 - 1e-12);
        let none = write("none.json", json!({"frames": []}));
        assert!(FrameTransform::read_applied(&none).unwrap().is_none());
        assert!(FrameTransform::read(&none).is_err());
        let sheared = write(
            "sheared.json",
            json!({"transform": [[1, 1, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]], "scale": 1}),
        );
        let error = FrameTransform::read(&sheared).unwrap_err().to_string();
        assert!(error.contains("sheared.json") && error.contains("not rigid"));
    }
}
