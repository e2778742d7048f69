//! Camera paths of Instant-NGP (`base_cam.json`), and the transform from its unit cube to the world.

use glam::{DQuat, DVec3};

use super::json::{Fields, Location};
use super::key_frames::KeyFrames;
use super::pose::Pose;
use super::{CameraPath, CameraPathError, CameraState, DEFAULT_FPS, MAX_FRAMES, Model, Views};
use super::{extent_of_angle, list};

/// Default time between key frames in seconds, since the file has no times.
const APART: f64 = 1.0;
/// Default image size.
const SIZE: [u32; 2] = [1280, 720];

/// Rotation between the axes of Instant-NGP and of the dataset: its x, y and z are the dataset's y, z and x.
const AXES: DQuat = DQuat::from_xyzw(0.5, 0.5, 0.5, 0.5);
/// Rotation by 180° about x: converts camera axes from +z forward, y down, to −z forward, y up.
const CAMERA: DQuat = DQuat::from_xyzw(1.0, 0.0, 0.0, 0.0);

/// Parse an object with `path`, whose poses are in the unit cube. A key frame has `R`, a quaternion (x, y, z, w) from the
/// camera's axes (right, down, forward) to the cube's; `T`, its position; and `fov`, the vertical field of view in degrees.
/// Rendering settings such as aperture and glow are ignored.
pub(super) fn parse(whole: &Fields) -> Result<CameraPath, CameraPathError> {
    let view = |(index, value)| {
        let key = Fields::of(whole.path, Location::Of("path", index), value)?;
        let missing = |what: &str| key.error(format!("{what} is missing: see docs/camera-path.md"));
        let rotation: [f64; 4] = key
            .vector("R")?
            .ok_or_else(|| missing("`R` (a quaternion, x, y, z, w)"))?;
        let position: [f64; 3] = key
            .vector("T")?
            .ok_or_else(|| missing("`T` (a point in the unit cube)"))?;
        let rotation = DQuat::from_array(rotation);
        if rotation.length() < 1e-6 {
            return Err(key.error("`R` is not a rotation: its quaternion is zero"));
        }
        let pose = Pose {
            position: position.into(),
            rotation: rotation.normalize(),
        };
        let extent = extent_of_angle(&key, key.required("fov", "vertical degrees")?)?;
        Ok(CameraState { pose, extent })
    };
    let frames = list(whole, "path", "key frame")?;
    let views: Vec<CameraState> = frames
        .iter()
        .enumerate()
        .map(view)
        .collect::<Result<_, _>>()?;
    let looped = whole.flag("loop")? && views.len() > 1;
    let gaps = if looped { views.len() } else { views.len() - 1 };
    let seconds = whole.number("duration_seconds")?;
    let seconds = seconds.unwrap_or(APART * gaps as f64);
    if gaps > 0 && !(1e-3..=MAX_FRAMES as f64).contains(&seconds) {
        return Err(whole.error(format!(
            "`duration_seconds` is {seconds}: give a positive number of seconds"
        )));
    }
    let apart = seconds / gaps.max(1) as f64;
    let times = (0..views.len()).map(|i| i as f64 * apart).collect();
    let keys = KeyFrames::new(times, views, &[], looped.then_some(seconds));
    Ok(CameraPath {
        file: whole.path.to_owned(),
        size: SIZE,
        fps: DEFAULT_FPS,
        crop: None,
        model: Model::Perspective,
        views: Views::UnitCube(Box::new(keys)),
    })
}

/// Transform a pose from the unit cube to the dataset's world. A world point x maps to the cube point `scale · x + offset` with
/// its axes in the order y, z, x.
pub(super) fn to_world(pose: Pose, scale: f64, offset: DVec3) -> Pose {
    Pose {
        position: (AXES * pose.position - offset) / scale,
        rotation: (AXES * pose.rotation * CAMERA).normalize(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use glam::DMat3;
    use serde_json::{Value, json};

    use super::*;

    fn parse(value: &Value) -> Result<CameraPath, CameraPathError> {
        CameraPath::parse(Path::new("base_cam.json"), value.to_string().as_bytes())
    }

    fn key(r: [f64; 4], t: [f64; 3]) -> Value {
        json!({
            "R": r, "T": t, "fov": 50.0, "aperture_size": 0.0, "glow_mode": 0, "glow_y_cutoff": 0.0,
            "scale": 1.5, "slice": 0.0
        })
    }

    #[test]
    fn a_pose_comes_back_from_the_cube() {
        // A camera at (2, 3, 5) that looks along the world's x, up along the world's z: columns right −y, up z, back −x.
        let columns = [DVec3::NEG_Y, DVec3::Z, DVec3::NEG_X];
        let position = DVec3::new(2.0, 3.0, 5.0);
        let (scale, offset) = (0.25, DVec3::new(0.5, 0.25, 1.0));
        // Computed by hand: up and back are negated (−z, x); a vector's y, z, x are the cube's x, y, z; the point is first
        // scaled and shifted: (1, 1, 2.25).
        let cycled = |v: DVec3| DVec3::new(v.y, v.z, v.x);
        let axes = DMat3::from_cols(cycled(columns[0]), cycled(-columns[1]), cycled(-columns[2]));
        assert_eq!(axes.z_axis, DVec3::Z);
        let in_cube = DVec3::new(1.0, 2.25, 1.0);
        assert_eq!(in_cube, cycled(scale * position + offset));
        let rotation = DQuat::from_mat3(&axes);
        let file = json!({
            "path": [key(rotation.to_array(), in_cube.to_array())], "time": 1.0
        });
        let mut path = parse(&file).unwrap();
        assert!(path.is_in_unit_cube() && !path.is_normalised());
        path.place_unit_cube(scale, offset.to_array());
        let cameras = path.cameras([90, 60], 24.0).unwrap();
        assert_eq!(cameras.len(), 1);
        let camera = cameras[0].camera;
        assert!((camera.place() - position).length() < 1e-6);
        for (i, column) in columns.into_iter().enumerate() {
            let found = DVec3::from(camera.world_from_camera.map(|row| row[i]));
            assert!((found - column).length() < 1e-6, "column {i}: {found}");
        }
        // Half of the image height, 30 pixels, subtends half of the vertical 50°.
        let focal = 30.0 / 25.0_f32.to_radians().tan();
        assert!((camera.focal[1] - focal).abs() < 1e-3 && camera.focal[0] == camera.focal[1]);
    }

    #[test]
    fn key_frames_are_a_second_apart() {
        let quaternions = [[0.5; 4], [0.4, 0.5, 0.6, 0.5]];
        let keys: Vec<Value> = (0..2)
            .map(|i| key(quaternions[i], [0.5 + 0.1 * i as f64, 0.5, 1.2]))
            .collect();
        let mut path = parse(&json!({"path": keys, "time": 1.0})).unwrap();
        path.place_unit_cube(0.33, [0.5; 3]);
        let cameras = path.cameras([8, 8], 4.0).unwrap();
        assert_eq!((path.fps(), cameras.len(), cameras[4].time), (24.0, 5, 1.0));
        let place = cameras[4].camera.place();
        let expected = DVec3::new(0.7 / 0.33, 0.1 / 0.33, 0.0);
        assert!((place - expected).length() < 1e-6, "{place}");
        let looped = json!({"path": keys, "loop": true, "duration_seconds": 3});
        let mut path = parse(&looped).unwrap();
        path.place_unit_cube(0.33, [0.5; 3]);
        assert_eq!(path.cameras([8, 8], 4.0).unwrap().len(), 12);
    }

    #[test]
    fn bad_files_are_refused_by_key_frame() {
        let refused = |value: Value, words: &[&str]| {
            let error = parse(&value).unwrap_err().to_string();
            for word in ["base_cam.json"].iter().chain(words) {
                assert!(
                    error.contains(word) && !error.contains('\n'),
                    "`{word}`: {error}"
                );
            }
        };
        let with = |name: &str, value: Value| {
            let mut second = key([0.5; 4], [0.5; 3]);
            second[name] = value;
            json!({"path": [key([0.5; 4], [0.5; 3]), second]})
        };
        refused(json!({"path": []}), &["`path` is empty"]);
        refused(json!({"path": 3}), &["`path` should be a list"]);
        refused(
            with("R", json!([0, 0, 0, 0])),
            &["frame 1 of `path`", "`R`"],
        );
        refused(with("R", json!([0, 0, 1])), &["frame 1", "4 numbers"]);
        refused(with("T", json!("x")), &["frame 1", "3 numbers"]);
        refused(with("fov", json!(0)), &["frame 1", "`fov`"]);
        refused(
            json!({"path": [{"fov": 50, "T": [0, 0, 0]}]}),
            &["frame 0", "`R`"],
        );
        let mut endless = with("fov", json!(50));
        endless["duration_seconds"] = json!(0);
        refused(endless, &["duration_seconds"]);
    }
}
