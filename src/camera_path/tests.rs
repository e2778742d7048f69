use std::path::Path;

use glam::{DQuat, DVec3};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::key_frames::KeyFrames;
use super::spline::turn;
use super::*;

fn parse(value: &Value) -> Result<CameraPath, CameraPathError> {
    CameraPath::parse(Path::new("cameras.json"), value.to_string().as_bytes())
}

fn refused(value: &Value, words: &[&str]) {
    let error = parse(value).unwrap_err().to_string();
    assert!(
        error.starts_with("cameras.json: ") && !error.contains('\n'),
        "{error}"
    );
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn orbit() -> Value {
    let key =
        |time: f64, x: f64, y: f64| json!({"time": time, "eye": [x, y, 1], "target": [0, 0, 0]});
    json!({
        "width": 32, "height": 16, "fps": 10, "fov": 40,
        "key_frames": [key(2.0, 4.0, 0.0), key(3.0, 0.0, 4.0), key(4.5, -4.0, 0.0)]
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = orbit();
    change(&mut value);
    value
}

#[test]
fn frames_run_from_the_first_key_frame_to_the_last() {
    let path = parse(&orbit()).unwrap();
    assert!(!path.is_normalised());
    let cameras = path.cameras(path.size(), path.fps()).unwrap();
    assert_eq!(cameras.len(), 26);
    assert_eq!((cameras[0].time, cameras[10].time), (0.0, 1.0));
    for (i, expected) in [
        (0, [4.0, 0.0, 1.0]),
        (10, [0.0, 4.0, 1.0]),
        (25, [-4.0, 0.0, 1.0]),
    ] {
        let camera = cameras[i].camera;
        assert_eq!(camera.position(), expected);
        // The camera looks at the origin, and the image is upright: the right axis is horizontal.
        let along =
            DVec3::from(camera.forward().map(f64::from)).dot(DVec3::from(expected.map(f64::from)));
        assert!((along + 17.0_f64.sqrt()).abs() < 1e-5);
        assert!(
            camera.world_from_camera[2][0].abs() < 1e-6 && camera.world_from_camera[2][1] > 0.0
        );
        let focal = 8.0 / 20.0_f32.to_radians().tan();
        assert!((camera.focal[0] - focal).abs() < 1e-4 && camera.focal[0] == camera.focal[1]);
        assert_eq!(
            (camera.width, camera.height, camera.lens),
            (32, 16, Lens::Pinhole)
        );
    }
    // Another aspect ratio keeps the vertical field of view, another frame rate the duration.
    let cameras = path.cameras([10, 32], 2.0).unwrap();
    assert_eq!(cameras.len(), 6);
    assert!((cameras[0].camera.focal[0] - 16.0 / 20.0_f32.to_radians().tan()).abs() < 1e-4);
    assert!(path.cameras([1, 1], 0.0).is_err() && path.cameras([1, 1], f64::NAN).is_err());
}

#[test]
fn one_key_frame_is_a_still() {
    let path = with(|v| v["key_frames"].as_array_mut().unwrap().truncate(1));
    for looped in [false, true] {
        let mut path = path.clone();
        path["loop"] = json!(looped);
        assert_eq!(
            parse(&path).unwrap().cameras([4, 4], 24.0).unwrap().len(),
            1
        );
    }
}

#[test]
fn a_loop_ends_before_it_begins_again() {
    // The segment back to the first key takes the mean duration of the others: 1.25 s.
    let path = parse(&with(|v| v["loop"] = json!(true))).unwrap();
    assert_eq!(path.cameras([4, 4], 4.0).unwrap().len(), 15);
    let path = with(|v| {
        v["loop"] = json!(true);
        v["seconds"] = json!(3);
    });
    let cameras = parse(&path).unwrap().cameras([4, 4], 1000.0).unwrap();
    assert_eq!(cameras.len(), 3000);
    let eye = |i: usize| DVec3::from(cameras[i].camera.position());
    // The velocity at the end equals that at the start.
    let (leaving, arriving) = (eye(1) - eye(0), eye(0) - eye(2999));
    assert!(
        (leaving - arriving).length() < 0.05 * leaving.length(),
        "{leaving} {arriving}"
    );
}

#[test]
fn other_cameras_have_other_sizes() {
    let path = with(|v| {
        v["camera"] = json!("orthographic");
        v.as_object_mut().unwrap().remove("fov");
        v["size"] = json!(2.0);
        v["key_frames"][2]["size"] = json!(0.5);
    });
    let cameras = parse(&path).unwrap().cameras([32, 16], 10.0).unwrap();
    assert_eq!(cameras[0].camera.lens, Lens::Orthographic);
    assert!((cameras[0].camera.focal[1] - 8.0).abs() < 1e-5);
    assert!((cameras[25].camera.focal[1] - 32.0).abs() < 1e-4);
    let path = with(|v| {
        v["camera"] = json!("equirectangular");
        v.as_object_mut().unwrap().remove("fov");
    });
    let camera = parse(&path).unwrap().cameras([32, 16], 10.0).unwrap()[0].camera;
    assert_eq!(camera.lens, Lens::Equirectangular);
    assert!((camera.focal[0] - 32.0 / std::f32::consts::TAU).abs() < 1e-5);
}

#[test]
fn bad_paths_are_refused_by_key_frame() {
    let key = |k: &'static str, to: Value| with(move |v| v["key_frames"][1][k] = to);
    refused(&json!([]), &["an object"]);
    refused(&json!({"frame": []}), &["`key_frames`", "camera-path.md"]);
    refused(&json!({"frames": []}), &["`frames` is empty"]);
    refused(
        &json!({"w": 4, "h": 4, "frames": [{"transform_matrix": 3}]}),
        &["frame 0", "`transform_matrix`"],
    );
    refused(
        &with(|v| v["key_frames"] = json!([])),
        &["`key_frames` is empty"],
    );
    refused(
        &with(|v| v["key_frames"] = json!({})),
        &["should be a list"],
    );
    refused(
        &with(|v| v["key_frames"][1] = json!(3)),
        &["key frame 1", "an object"],
    );
    refused(
        &with(|v| v["speed"] = json!(3)),
        &["\"speed\"", "the keys are"],
    );
    refused(&key("roll\n", json!(3)), &["key frame 1", "\"roll\\n\""]);
    refused(
        &key("time", json!(2.0)),
        &["key frame 1", "2 s", "increase"],
    );
    refused(
        &key("time", json!("1")),
        &["key frame 1", "`time`", "a string"],
    );
    refused(
        &key("eye", json!([1, 2])),
        &["key frame 1", "`eye`", "3 numbers", "2 entries"],
    );
    refused(
        &key("eye", json!([1, 2, null])),
        &["key frame 1", "`eye`", "null"],
    );
    refused(
        &key("eye", json!([1, 2, 1e30])),
        &["key frame 1", "`eye`", "1e30"],
    );
    refused(
        &key("eye", json!([0, 0, 0])),
        &["key frame 1", "the same point"],
    );
    refused(
        &key("up", json!([0, 4, 1])),
        &["key frame 1", "`up`", "along the view"],
    );
    refused(&key("up", json!([0, 0, 0])), &["key frame 1", "`up`"]);
    refused(&key("fov", json!(180)), &["key frame 1", "`fov` is 180"]);
    refused(&key("fov", json!(-1)), &["key frame 1", "`fov`"]);
    refused(&key("size", json!(1)), &["key frame 1", "`size`", "`fov`"]);
    refused(
        &key("transform_matrix", json!([[1, 0, 0, 0]])),
        &["key frame 1", "1 rows"],
    );
    let identity = json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]);
    refused(
        &key("transform_matrix", identity),
        &["key frame 1", "not both"],
    );
    let matrix = |rows: Value| {
        with(move |v| v["key_frames"][0] = json!({"time": 0, "transform_matrix": rows}))
    };
    refused(
        &matrix(json!([[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])),
        &["key frame 0", "stretched"],
    );
    refused(
        &matrix(json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]])),
        &["mirrored"],
    );
    refused(
        &matrix(json!([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])),
        &["zero column"],
    );
    refused(
        &matrix(json!([
            [1, 0, 0, 0],
            [0, 1, 0, 0],
            [0, 0, 1, 0],
            [1, 2, 3, 1]
        ])),
        &["transposed"],
    );
    refused(
        &with(|v| v["key_frames"][0] = json!({"time": 0})),
        &["key frame 0", "no pose"],
    );
    refused(
        &with(|v| v["key_frames"][0] = json!({"eye": [1, 2, 3]})),
        &["`time` (seconds)"],
    );
    refused(
        &with(|v| {
            v.as_object_mut().unwrap().remove("fov");
        }),
        &["key frame 0", "`fov`"],
    );
    refused(
        &with(|v| v["camera"] = json!("orthographic")),
        &["`fov` is not for this camera"],
    );
    refused(
        &with(|v| v["camera"] = json!("fish")),
        &["\"fish\"", "orthographic"],
    );
    refused(&with(|v| v["width"] = json!(1.5)), &["`width` is 1.5"]);
    refused(
        &with(|v| v["height"] = json!(20000)),
        &["`height`", "16384"],
    );
    refused(&with(|v| v["fps"] = json!(0)), &["`fps`"]);
    refused(&with(|v| v["loop"] = json!(1)), &["`loop`"]);
    refused(&with(|v| v["seconds"] = json!(1)), &["`seconds`", "loop"]);
    refused(
        &with(|v| {
            v["loop"] = json!(true);
            v["seconds"] = json!(2.5);
        }),
        &["`seconds` is 2.5"],
    );
    let long = parse(&with(|v| v["key_frames"][2]["time"] = json!(1e8))).unwrap();
    let error = long.cameras([1, 1], 24.0).unwrap_err().to_string();
    assert!(
        error.contains("2399999953 frames") && error.contains("100000"),
        "{error}"
    );
}

#[test]
fn bad_json_says_where() {
    let error = |text: &[u8]| {
        CameraPath::parse(Path::new("cameras.json"), text)
            .unwrap_err()
            .to_string()
    };
    for (text, word) in [
        (&b"{\n \"fps\": ?}"[..], "line 2, column 9"),
        (
            b"{\"key_frames\": [{}], \"fov\": NaN}",
            "`fov` should be a finite number, found NaN or Infinity",
        ),
        (b"", "is empty"),
        (b"{\"fps\": 1e999}", "out of range"),
        (b"\xff", "line 1, column 1: a character that is not UTF-8"),
    ] {
        assert!(error(text).contains(word), "{}", error(text));
    }
    assert!(error("[".repeat(100_000).as_bytes()).contains("recursion"));
    assert!(CameraPath::read(Path::new("no/such.json")).is_err());
}

/// The examples of the documentation can be parsed.
#[test]
fn documented_files_are_read() {
    let text = include_str!("../../docs/camera-path.md");
    let examples: Vec<&str> = text
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(examples.len() >= 4);
    for example in examples {
        let file = Path::new("camera-path.md");
        let path = CameraPath::parse(file, example.as_bytes()).unwrap();
        assert!(!path.cameras(path.size(), path.fps()).unwrap().is_empty());
    }
}

#[test]
fn a_steady_turn_stays_steady() {
    let key = |i: u8| {
        let turn = DQuat::from_rotation_z(f64::from(i) * 1.5);
        CameraState {
            pose: Pose {
                position: turn * DVec3::X,
                rotation: turn,
            },
            extent: 1.0,
        }
    };
    let keys = KeyFrames::new(
        vec![0.0, 1.0, 2.0, 3.0],
        (0..4).map(key).collect(),
        &[],
        None,
    );
    for i in 0..30 {
        let time = f64::from(i) / 10.0;
        let expected = DQuat::from_rotation_z(time * 1.5);
        let dot = keys.at(time).pose.rotation.dot(expected).abs();
        assert!(dot > 1.0 - 1e-12, "{time}: {dot}");
    }
}

/// Random key frames: gaps of 0.1 to 3 s, any rotation, extents from e⁻³ to e³.
fn key_frames() -> impl Strategy<Value = (Vec<f64>, Vec<CameraState>, Option<f64>)> {
    let key = (
        0.1..3.0_f64,
        prop::array::uniform3(-5.0..5.0_f64),
        prop::array::uniform4(-1.0..1.0_f64),
        -3.0..3.0_f64,
    );
    (
        prop::collection::vec(key, 1..7),
        prop::option::of(0.1..3.0_f64),
    )
        .prop_map(|(keys, back)| {
            let (mut times, mut views, mut time) = (Vec::new(), Vec::new(), -2.0);
            for (gap, position, [x, y, z, w], zoom) in keys {
                time += gap;
                times.push(time);
                let q = DQuat::from_xyzw(x, y, z, w);
                let rotation = if q.length() < 1e-3 {
                    DQuat::IDENTITY
                } else {
                    q.normalize()
                };
                let pose = Pose {
                    position: position.into(),
                    rotation,
                };
                views.push(CameraState {
                    pose,
                    extent: zoom.exp(),
                });
            }
            let period = back
                .filter(|_| times.len() > 1)
                .map(|back| time - times[0] + back);
            (times, views, period)
        })
}

/// Distance between two views, independent of the sign of the quaternions.
fn distance(a: &CameraState, b: &CameraState) -> f64 {
    let angle = turn(a.pose.rotation, b.pose.rotation).length();
    (a.pose.position - b.pose.position).length() + angle + (a.extent / b.extent).ln().abs()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn paths_pass_through_their_keys_and_close((times, views, period) in key_frames()) {
        let keys = KeyFrames::new(times.clone(), views.clone(), &[], period);
        for (time, view) in times.iter().zip(&views) {
            prop_assert!(distance(&keys.at(time - times[0]), view) < 1e-7);
        }
        if let Some(period) = period {
            prop_assert!(distance(&keys.at(period), &views[0]) < 1e-7);
            prop_assert!(distance(&keys.at(period - 1e-9), &views[0]) < 1e-6);
        }
    }

    #[test]
    fn views_between_keys_are_valid((times, views, period) in key_frames(), part in 0.0..1.0_f64) {
        let duration = period.unwrap_or(times[times.len() - 1] - times[0]);
        let keys = KeyFrames::new(times, views.clone(), &[], period);
        let view = keys.at(part * duration);
        prop_assert!((view.pose.rotation.length() - 1.0).abs() < 1e-12);
        prop_assert!(view.pose.position.is_finite() && view.pose.position.length() < 40.0);
        // The extent stays between those of the key frames, so every field of view lies between 0° and 180°.
        let extents = views.iter().map(|v| v.extent);
        let low = extents.clone().fold(f64::MAX, f64::min);
        let high = extents.fold(0.0, f64::max);
        prop_assert!((low * 0.999_999..=high * 1.000_001).contains(&view.extent));
        let camera = Model::Perspective.camera(&view, [16, 8]);
        prop_assert!(camera.focal.iter().all(|f| *f > 0.0 && f.is_finite()));
    }

    #[test]
    fn velocities_are_continuous((times, views, period) in key_frames()) {
        const H: f64 = 1e-6;
        let keys = KeyFrames::new(times.clone(), views, &[], period);
        let ends = if period.is_some() { 0..times.len() } else { 1..times.len().saturating_sub(1) };
        for i in ends {
            let time = times[i] - times[0] + period.unwrap_or(0.0);
            let [earlier, before, at, after, later] = [-2.0, -1.0, 0.0, 1.0, 2.0].map(|h| keys.at(time + h * H));
            // One-sided derivatives of second order, because the acceleration at a key may be large.
            let sides = |difference: &dyn Fn(&CameraState, &CameraState) -> DVec3| {
                let left = 4.0 * difference(&before, &at) - difference(&earlier, &at);
                let right = 4.0 * difference(&at, &after) - difference(&at, &later);
                [left, right].map(|side| side / (2.0 * H))
            };
            let speed = sides(&|a, b| b.pose.position - a.pose.position);
            let spin = sides(&|a, b| turn(a.pose.rotation, b.pose.rotation));
            let zoom = sides(&|a, b| DVec3::X * (b.extent / a.extent).ln());
            for [left, right] in [speed, spin, zoom] {
                prop_assert!((left - right).length() < 1e-3 * (1.0 + left.length()), "{} {}", left, right);
            }
        }
    }
}

#[test]
fn one_target_for_all_stays_in_the_middle_without_a_jump() {
    let path = parse(&orbit()).unwrap();
    let cameras = path.cameras([32, 16], 40.0).unwrap();
    let mut last: Option<DVec3> = None;
    for timed in &cameras {
        let (eye, forward) = (timed.camera.position(), timed.camera.forward());
        let (eye, forward) = (DVec3::from(eye), DVec3::from(forward.map(f64::from)));
        assert!(forward.distance(-eye.normalize()) < 1e-5, "{}", timed.time);
        // The rotation within 1/40 s, at about a quarter turn per second.
        assert!(last.is_none_or(|l| l.distance(forward) < 0.08));
        last = Some(forward);
    }
}

/// Write `text` to a file in a temporary folder.
fn kept(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("cameras.json");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

#[test]
fn what_is_edited_and_saved_is_what_was_read() {
    let looks = with(|v| v["crop"] = json!([[-1, -1, -1], [1, 2, 3.5]]));
    let posed = with(|v| {
        v["loop"] = json!(true);
        v["seconds"] = json!(9.5);
        let rows = json!([[0, 0, -1, -4], [-1, 0, 0, 0], [0, 1, 0, 0.5]]);
        v["key_frames"][1] = json!({"time": 3.0, "transform_matrix": rows, "fov": 25});
    });
    for value in [looks, posed] {
        let (_folder, file) = kept(&value.to_string());
        let draft = Draft::read(&file).unwrap();
        draft.write(&file).unwrap();
        let again = Draft::read(&file).unwrap();
        assert_eq!((again.fps, again.size), (draft.fps, draft.size));
        assert_eq!((again.crop, again.looped), (draft.crop, draft.looped));
        assert_eq!(again.seconds, draft.seconds);
        let paths = [parse(&value).unwrap(), CameraPath::read(&file).unwrap()];
        assert_eq!(paths[0].crop(), paths[1].crop());
        let [a, b] = paths.map(|p| p.cameras([32, 16], 10.0).unwrap());
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            let [a, b] = [a, b].map(|f| f.camera.world_from_camera);
            for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
                assert!((a - b).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn a_draft_plays_as_its_file_does() {
    let (_folder, file) = kept(&orbit().to_string());
    let draft = Draft::read(&file).unwrap();
    assert_eq!((draft.keys().len(), draft.duration()), (3, 2.5));
    let path = draft.path(&file).unwrap();
    for frame in parse(&orbit()).unwrap().cameras([32, 16], 10.0).unwrap() {
        let seen = path.at(frame.time, [32, 16]);
        assert_eq!(seen.world_from_camera, frame.camera.world_from_camera);
    }
    // A shifted camera still looks at its target.
    let mut shifted = draft.clone();
    shifted.shift(0, [0.0, 1.0, 0.0]);
    let camera = shifted.keys()[0].camera([32, 16]);
    assert_eq!(camera.position(), [4.0, 1.0, 1.0]);
    let [x, y] = camera.project([0.0; 3]).unwrap();
    assert!((x - 16.0).abs() < 1e-3 && (y - 8.0).abs() < 1e-3);
}

#[test]
fn times_of_key_frames_stay_apart_and_in_order() {
    let camera = |x: f32| Camera::look_at([x, 4.0, 1.0], [0.0; 3], [0.0, 0.0, 1.0], 0.8, 40, 30);
    let mut draft = Draft::default();
    for x in [0.0, 1.0, 2.0] {
        draft.add(&camera(x), 2.0);
    }
    let xs = |draft: &Draft| -> Vec<f64> {
        let keys = draft.keys().iter();
        keys.map(|k| k.camera([40, 30]).position()[0]).collect()
    };
    assert_eq!(draft.retime(0, 3.0), 1);
    assert_eq!(xs(&draft), [1.0, 0.0, 2.0]);
    // At the time of another key frame, it is inserted behind that one, slightly later.
    assert_eq!(draft.retime(0, 4.0), 2);
    assert_eq!(xs(&draft), [0.0, 2.0, 1.0]);
    let times: Vec<f64> = draft.keys().iter().map(KeyFrame::time).collect();
    assert!(times.windows(2).all(|t| t[1] > t[0]), "{times:?}");
    assert_eq!(draft.retime(7, 1.0), 7);
    assert_eq!(draft.retime(1, f64::NAN), 1);
    assert!(Draft::default().path(Path::new("x")).is_none());
}

#[test]
fn what_cannot_be_edited_says_so() {
    let flat = json!({"camera": "orthographic", "width": 8, "height": 8, "size": 2,
        "key_frames": [{"time": 0, "eye": [0, 0, 4], "target": [0, 0, 0], "up": [0, 1, 0]}]});
    let dense = json!({"camera_type": "perspective", "render_width": 8, "render_height": 8, "fps": 24,
        "camera_path": [{"camera_to_world": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1], "fov": 50, "aspect": 1}]});
    for value in [flat, dense] {
        let (_folder, file) = kept(&value.to_string());
        CameraPath::read(&file).unwrap();
        let error = Draft::read(&file).unwrap_err().to_string();
        assert!(
            error.contains("cameras.json") && error.contains("not edited"),
            "{error}"
        );
    }
    for crop in [
        json!([1, 2]),
        json!([[0, 0, 0], [1, 1]]),
        json!([[0, 0, 0], [1, 0, 1]]),
    ] {
        refused(&with(|v| v["crop"] = crop.clone()), &["crop"]);
    }
}
