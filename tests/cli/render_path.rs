//! `kiln render --path`: key frames, paths of other programs, and ranges of frames.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use kiln::dataset::image_size;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::render_outputs::solid_run;
use crate::support::*;

/// A folder with a camera path in it.
struct Place(TempDir);

impl Place {
    fn new(path: &Value) -> Self {
        let place = Self(TempDir::new().unwrap());
        std::fs::write(place.at("cameras.json"), path.to_string()).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn render(&self, out: &str) -> Command {
        let mut command = kiln(["render"]);
        command.arg(solid_run());
        command.arg("--path").arg(self.at("cameras.json"));
        command.arg("--out").arg(self.at(out));
        command
    }
}

/// Return a path of nine frames around the sphere.
fn swing() -> Value {
    let key =
        |time: f64, x: f64, y: f64| json!({"time": time, "eye": [x, y, 1.5], "target": [0, 0, 0]});
    json!({
        "width": 16, "height": 12, "fps": 4, "fov": 40,
        "key_frames": [key(0.0, 3.5, 0.0), key(1.0, 0.0, 3.5), key(2.0, -3.5, 0.0)]
    })
}

#[test]
fn ranges_of_a_path_equal_those_frames_of_the_whole() {
    if !has_adapter() {
        return;
    }
    let place = Place::new(&swing());
    let channels = ["--channels", "rgb,depth"];
    succeeds(place.render("whole").args(channels));
    let whole = files_in(&place.at("whole"));
    assert_eq!(whole.len(), 18);
    assert_eq!(
        image_size(&place.at("whole/rgb_0008.png")).unwrap(),
        [16, 12]
    );
    assert_ne!(whole["rgb_0000.png"], whole["rgb_0004.png"]);
    // Ranges give the same bytes under the same names.
    succeeds(
        place
            .render("parts")
            .args(channels)
            .args(["--frames", "..2"]),
    );
    succeeds(
        place
            .render("parts")
            .args(channels)
            .args(["--frames", "5..9..2"]),
    );
    succeeds(
        place
            .render("parts")
            .args(channels)
            .args(["--frames", "2..5", "--every", "2"]),
    );
    let parts = files_in(&place.at("parts"));
    let numbers = ["0000", "0001", "0002", "0004", "0005", "0007"];
    let expected: Vec<String> = ["depth", "rgb"]
        .iter()
        .flat_map(|c| numbers.map(|n| format!("{c}_{n}.png")))
        .collect();
    assert!(parts.keys().eq(&expected), "{:?}", parts.keys());
    assert!(parts.iter().all(|(name, bytes)| whole[name] == *bytes));
}

#[test]
fn an_animation_has_the_duration_of_its_path() {
    if !has_adapter() {
        return;
    }
    let place = Place::new(&swing());
    let frames = |name: &str| {
        let frames = gif_frames(&place.at(name));
        let total: Duration = frames.iter().map(|f| Duration::from(f.delay())).sum();
        (
            frames.len(),
            frames[0].buffer().dimensions(),
            total.as_millis(),
        )
    };
    succeeds(place.render("a.gif").args(["--width", "8"]));
    assert_eq!(frames("a.gif"), (9, (8, 6), 2250));
    // Twice as many frames in the same time, of which every third is rendered.
    succeeds(
        place
            .render("b.gif")
            .args(["--fps", "8", "--every", "3", "--height", "10"]),
    );
    assert_eq!(frames("b.gif"), (6, (13, 10), 2250));
}

#[test]
fn orthographic_and_equirectangular_cameras_render() {
    if !has_adapter() {
        return;
    }
    let key = json!({"time": 0, "eye": [3.0, 0.0, 0.0], "target": [0, 0, 0]});
    let mean = |path: Value| {
        let place = Place::new(&path);
        succeeds(place.render("o.png").args(["--channels", "opacity"]));
        let image = image::open(place.at("o.png")).unwrap().into_luma8();
        image
            .pixels()
            .map(|p| f64::from(p.0[0]) / 255.0)
            .sum::<f64>()
            / f64::from(image.width() * image.height())
    };
    // A sphere of radius 1 fills π/16 of an orthographic image of side 4, whatever its distance. In a panorama it fills a
    // cap of half angle asin(1/3), here near the equator, where the latitudes that it spans are a fifth of 180°.
    let orthographic = mean(json!({
        "camera": "orthographic", "width": 32, "height": 32, "size": 4, "key_frames": [key]
    }));
    assert!((orthographic - 0.196).abs() < 0.08, "{orthographic}");
    let around =
        mean(json!({"camera": "equirectangular", "width": 64, "height": 32, "key_frames": [key]}));
    assert!((around - 0.0184).abs() < 0.012, "{around}");
}

#[test]
fn nerfstudio_paths_are_read() {
    if !has_adapter() {
        return;
    }
    // A camera at (3.5, 0, 0) that looks at the origin, in world coordinates and in the normalised frame of `rows` below.
    let world = json!([0, 0, 1, 3.5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let normalised = json!([-1, 0, 0, 0.1, 0, 0, 1, 0.55, 0, 1, 0, 0.3, 0, 0, 0, 1]);
    let path = |pose: Value| {
        json!({
            "camera_type": "perspective", "render_width": 12, "render_height": 12, "fps": 24, "seconds": 1,
            "keyframes": [], "camera_path": [{"camera_to_world": pose, "fov": 40, "aspect": 1}]
        })
    };
    let place = Place::new(&path(world));
    let output = succeeds(&mut place.render("a.png"));
    let printed = text(&output.stderr);
    assert!(
        printed.contains("note: ") && printed.contains("--path-transform"),
        "{printed}"
    );
    let expected = std::fs::read(place.at("a.png")).unwrap();

    let place = Place::new(&path(normalised));
    let transform = place.at("dataparser_transforms.json");
    let rows = json!([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]]);
    std::fs::write(
        &transform,
        json!({"transform": rows, "scale": 0.1}).to_string(),
    )
    .unwrap();
    let output = succeeds(
        place
            .render("a.png")
            .arg("--path-transform")
            .arg(&transform),
    );
    assert!(!text(&output.stderr).contains("note: "));
    let found = image::open(place.at("a.png")).unwrap().into_rgb8();
    let expected = image::load_from_memory(&expected).unwrap().into_rgb8();
    assert!(expected.pixels().any(|p| p.0 != [255; 3]));
    for (a, b) in found.pixels().zip(expected.pixels()) {
        assert!(
            a.0.iter().zip(b.0).all(|(a, b)| a.abs_diff(b) <= 2),
            "{a:?} {b:?}"
        );
    }
    // The flag is accepted only for nerfstudio paths.
    let place = Place::new(&swing());
    refused(
        place
            .render("a.gif")
            .arg("--path-transform")
            .arg(&transform),
        2,
        &["--path-transform", "cameras.json", "nerfstudio"],
    );
}

#[test]
fn paths_of_other_programs_render_like_key_frames() {
    if !has_adapter() {
        return;
    }
    let still = |path: &Value| {
        let place = Place::new(path);
        let output = succeeds(&mut place.render("a.png"));
        let image = image::open(place.at("a.png")).unwrap().into_rgb8();
        (image, text(&output.stderr))
    };
    let (expected, _) = still(&json!({
        "width": SIDE, "height": SIDE,
        "key_frames": [{"time": 0, "eye": [3.5, 0, 0.5], "target": [0, 0, 0.5], "fov": 40}]
    }));
    assert!(expected.pixels().any(|p| p.0 != [255; 3]));
    let alike = |found: &image::RgbImage| {
        assert_eq!(found.dimensions(), expected.dimensions());
        for (a, b) in found.pixels().zip(expected.pixels()) {
            let is_near = a.0.iter().zip(b.0).all(|(a, b)| a.abs_diff(b) <= 2);
            assert!(is_near, "{a:?} {b:?}");
        }
    };
    // A world unit is 0.33 of Instant-NGP's unit cube, whose centre is the origin and whose axes are y, z, x. The axes of its
    // cameras are right, down, forward: those of the cube after half a turn around x.
    let (found, printed) = still(&json!({"time": 1.0, "path": [{
        "R": [1, 0, 0, 0], "T": [0.5, 0.5 + 0.33 * 0.5, 0.5 + 0.33 * 3.5], "fov": 40, "slice": 0.0, "scale": 1.5
    }]}));
    alike(&found);
    assert!(
        printed.contains("unit cube") && printed.contains("0.33"),
        "{printed}"
    );
    let pose = json!([[0, 0, 1, 3.5], [1, 0, 0, 0], [0, 1, 0, 0.5], [0, 0, 0, 1]]);
    let (found, _) = still(&json!({
        "camera_angle_x": 40.0_f64.to_radians(), "w": SIDE, "h": SIDE,
        "frames": [{"file_path": "none/r_0", "transform_matrix": pose}]
    }));
    alike(&found);
}

#[test]
fn a_path_that_never_sees_the_scene_is_reported() {
    if !has_adapter() {
        return;
    }
    let printed = |at: [f64; 3]| {
        let [x, y, z] = at;
        let place = Place::new(&json!({
            "width": 8, "height": 8, "fov": 40,
            "key_frames": [{"time": 0, "eye": [x + 3.5, y, z], "target": [x, y, z]}]
        }));
        text(&succeeds(&mut place.render("a.png")).stderr)
    };
    let elsewhere = printed([512_345.0, 4_649_776.0, 250.0]);
    assert!(
        elsewhere.contains("no camera sees the scene box") && elsewhere.contains("unit"),
        "{elsewhere}"
    );
    assert!(!printed([0.0; 3]).contains("no camera"));
}

#[test]
fn a_split_without_images_is_rendered_but_not_evaluated() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let dataset = folder.path().join("poses");
    copy_folder(&shared().dataset, &dataset);
    std::fs::remove_dir_all(dataset.join("test")).unwrap();
    let poses = json(&dataset.join("transforms_test.json"));
    let n = poses["frames"].as_array().unwrap().len();
    let mut command = kiln(["render"]);
    command.arg(&run).arg("--dataset").arg(&dataset);
    let out = folder.path().join("views");
    succeeds(command.args(["--split", "test", "--out"]).arg(&out));
    assert_eq!(names_in(&out).len(), n);
    let size = image_size(&out.join("rgb_0000.png")).unwrap();
    assert_eq!(size, [SIDE, SIDE]);
    let mut command = kiln(["inspect"]);
    let output = succeeds(command.arg(&dataset));
    let printed = text(&output.stdout);
    assert!(
        printed.contains(&format!("{n} poses have no images"))
            && printed.contains("kiln render --split test"),
        "{printed}"
    );
}

#[test]
fn a_path_needs_no_dataset() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let place = Place::new(&swing());
    let mut command = kiln(["render"]);
    command
        .arg(&run)
        .arg("--path")
        .arg(place.at("cameras.json"));
    command.args(["--dataset", "no/where", "--frames", "3..4"]);
    succeeds(command.arg("--out").arg(place.at("o.png")));
}

#[test]
fn bad_paths_are_refused() {
    if !has_adapter() {
        return;
    }
    let refused_with = |text: &[u8], words: &[&str]| {
        let place = Place::new(&json!({}));
        std::fs::write(place.at("cameras.json"), text).unwrap();
        refused(
            &mut place.render("out"),
            1,
            &[&["cameras.json"], words].concat(),
        );
        assert_eq!(names_in(place.0.path()), ["cameras.json"]);
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut path = swing();
        change(&mut path);
        path.to_string().into_bytes()
    };
    refused_with(b"", &["is empty"]);
    refused_with(b"{\"fps\": ?}", &["line 1", "column 9", "not valid JSON"]);
    let text = swing().to_string();
    let nan = text.replacen("\"fps\":4", "\"fps\":NaN", 1);
    assert_ne!(nan, text);
    refused_with(nan.as_bytes(), &["`fps`", "NaN"]);
    refused_with(b"{}", &["`key_frames`"]);
    refused_with("[".repeat(10_000).as_bytes(), &["recursion"]);
    refused_with(&changed(&|p| p["key_frames"] = json!([])), &["empty"]);
    refused_with(&changed(&|p| p["width"] = json!(1e12)), &["`width`"]);
    refused_with(&changed(&|p| p["speed"] = json!(1)), &["speed"]);
    refused_with(
        &changed(&|p| p["key_frames"][2]["time"] = json!(0.5)),
        &["key frame 2", "increase"],
    );
    refused_with(
        &changed(&|p| p["key_frames"][2]["time"] = json!(1e9)),
        &["4000000001 frames", "100000"],
    );
    refused_with(
        &changed(&|p| p["key_frames"][1]["eye"] = json!([[1], 2, 3])),
        &["key frame 1", "`eye`"],
    );
    let place = Place::new(&swing());
    let mut command = kiln(["render"]);
    command
        .arg(&shared().run)
        .args(["--path", "no/such.json", "--out"]);
    refused(
        command.arg(place.at("out")),
        1,
        &["cannot read no/such.json"],
    );
    refused(
        place.render("out").args(["--frames", "9.."]),
        2,
        &["--frames 9..", "there are 9 frames"],
    );
    refused(
        place.render("out").args(["--height", "16000"]),
        2,
        &["cameras.json", "16384"],
    );
    refused(&mut place.render("a.png"), 2, &["9 images"]);
}

#[test]
fn the_documented_examples_render() {
    if !has_adapter() {
        return;
    }
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/camera-path.md"))
            .unwrap();
    for example in text.split("```json\n").skip(1) {
        let place = Place::new(&json!({}));
        let example = example.split("```").next().unwrap();
        std::fs::write(place.at("cameras.json"), example).unwrap();
        succeeds(
            place
                .render("o.png")
                .args(["--frames", "..1", "--width", "16"]),
        );
        assert_eq!(image_size(&place.at("o.png")).unwrap()[0], 16);
    }
}

#[test]
fn a_crop_comes_from_the_path_or_a_flag() {
    if !has_adapter() {
        return;
    }
    let mut path = swing();
    path["key_frames"] = json!([{"time": 0, "eye": [0, -4, 0], "target": [0, 0, 0]}]);
    path["width"] = json!(24);
    path["height"] = json!(24);
    let whole = Place::new(&path);
    // Crop to the right half of the image.
    path["crop"] = json!([[0, -9, -9], [9, 9, 9]]);
    let cut = Place::new(&path);
    let flags = ["--background", "black"];
    succeeds(whole.render("whole.png").args(flags));
    succeeds(cut.render("cut.png").args(flags));
    let flag = "--crop=0,-9,-9,9,9,9";
    succeeds(whole.render("flag.png").args(flags).arg(flag));
    succeeds(
        cut.render("other.png")
            .args(flags)
            .arg("--crop=-9,-9,-9,0,9,9"),
    );
    let open = |path: PathBuf| image::open(path).unwrap().to_rgb8();
    let all = open(whole.at("whole.png"));
    let right = open(cut.at("cut.png"));
    assert_eq!(right, open(whole.at("flag.png")));
    let left = open(cut.at("other.png"));
    let bright = |image: &image::RgbImage, columns: std::ops::Range<u32>| -> u64 {
        let pixels = image
            .enumerate_pixels()
            .filter(|(x, _, _)| columns.contains(x));
        pixels
            .map(|(_, _, p)| p.0.iter().map(|&v| u64::from(v)).sum::<u64>())
            .sum()
    };
    assert!(bright(&all, 0..11) > 1000 && bright(&all, 13..24) > 1000);
    assert_eq!((bright(&right, 0..11), bright(&left, 13..24)), (0, 0));
    assert!(bright(&right, 13..24) > 1000 && bright(&left, 0..11) > 1000);
    for bad in ["--crop=1,2,3", "--crop=0,0,0,1,0,1", "--crop=a,b,c,d,e,f"] {
        let names_the_flag = predicates::str::contains("--crop");
        whole
            .render("bad.png")
            .arg(bad)
            .assert()
            .code(2)
            .stderr(names_the_flag);
    }
    assert!(!whole.at("bad.png").exists());
}
