//! `kiln prepare`: what it refuses, and a video of the built-in scene whose cameras are found by the real programs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use glam::{DMat3, DVec3};
use kiln::camera::Camera;
use kiln::dataset::Dataset;
use kiln::gpu::{Gpu, GpuOptions};
use kiln::scene::DemoScene;
use tempfile::TempDir;

use crate::support::{error_of, kiln, own_dataset, succeeds, text};

/// Run a command that must fail with `code`, and return its error.
fn fails(command: &mut assert_cmd::Command, code: i32) -> String {
    error_of(command, code).join("\n")
}

/// Return whether ffmpeg and colmap are installed; panic if not and `KILN_REQUIRE_COLMAP` is 1.
fn has_tools() -> bool {
    let has = |name: &str, argument: &str| {
        let mut command = Command::new(name);
        command
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = has("ffmpeg", "-version") && has("colmap", "help");
    if !found {
        assert_ne!(
            std::env::var("KILN_REQUIRE_COLMAP").as_deref(),
            Ok("1"),
            "ffmpeg or colmap is not here"
        );
        eprintln!("skipped: ffmpeg or colmap is not here");
    }
    found
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("note.txt"), "no video").unwrap();
    std::fs::write(at("clip.mp4"), "no video").unwrap();
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/mine.txt"), "").unwrap();
    let dataset = own_dataset();
    let photos = dataset.path().join("train");
    let out = at("out");
    let refused = |input: &Path, more: &[&str], parts: &[&str]| {
        let mut command = kiln(["prepare"]);
        command.arg(input).arg("--out").arg(&out).args(more);
        let told = fails(&mut command, 2);
        for part in parts {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
        assert!(!out.exists());
    };
    refused(&at("absent.mp4"), &[], &["absent.mp4", "no such file"]);
    refused(&at("note.txt"), &[], &["note.txt", "neither a video"]);
    refused(&photos, &["--frames", "9"], &["--frames"]);
    refused(&photos, &["--matcher", "vocab-tree"], &["--vocab-tree"]);
    refused(&photos, &["--camera-model", "FOO"], &["FOO", "OPENCV"]);
    std::fs::create_dir(at("empty")).unwrap();
    refused(&at("empty"), &[], &["empty", "no photographs"]);
    let tree = ["--vocab-tree", "/nowhere/tree"];
    refused(&photos, &tree, &["/nowhere/tree", "no such file"]);
    std::fs::write(at("tree"), "").unwrap();
    let tree = at("tree");
    let both = [
        "--matcher",
        "sequential",
        "--vocab-tree",
        tree.to_str().unwrap(),
    ];
    refused(&photos, &both, &["of no use"]);
    std::fs::create_dir(at("iphone")).unwrap();
    std::fs::write(at("iphone/1.heic"), "").unwrap();
    refused(&at("iphone"), &[], &["1.heic", "convert"]);
    std::fs::create_dir(at("many")).unwrap();
    for i in 0..251 {
        std::fs::write(at("many").join(format!("{i}.jpg")), "").unwrap();
    }
    refused(&at("many"), &[], &["251 photographs", "--vocab-tree"]);
    let nowhere = ["--colmap", "/nowhere/colmap"];
    refused(
        &photos,
        &nowhere,
        &["/nowhere/colmap", "apt install colmap", "brew"],
    );
    let mut command = kiln(["prepare"]);
    command.arg(&photos).arg("--out").arg(at("full"));
    let told = fails(&mut command, 2);
    assert!(told.contains("did not make"), "{told}");
    assert!(at("full/mine.txt").exists());
    // Not even with --force are other files replaced.
    let told = fails(command.arg("--force"), 2);
    assert!(told.contains("did not make"), "{told}");
    assert!(at("full/mine.txt").exists());
    std::fs::create_dir_all(at("cut/prepare")).unwrap();
    std::fs::write(at("cut/prepare/prepare.json"), "{\"sche").unwrap();
    let mut command = kiln(["prepare"]);
    command.arg(&photos).arg("--out").arg(at("cut"));
    let told = fails(command.args(["--colmap", "/nowhere/colmap"]), 2);
    assert!(told.contains("--force to start over"), "{told}");
    let told = fails(command.arg("--force"), 2);
    assert!(told.contains("apt install colmap"), "{told}");
    let mut command = kiln(["prepare"]);
    command.arg(&photos).arg("--out").arg(at("note.txt"));
    let told = fails(&mut command, 2);
    assert!(told.contains("is a file"), "{told}");
    let mut inside = kiln(["prepare"]);
    inside.arg(&photos).arg("--out").arg(photos.join("dataset"));
    let told = fails(&mut inside, 2);
    assert!(told.contains("lies in the folder"), "{told}");
    // Other commands lead here.
    let told = fails(kiln(["train"]).arg(at("clip.mp4")), 1);
    assert!(told.contains("kiln prepare"), "{told}");
    let told = fails(kiln(["train"]).arg(&photos), 1);
    assert!(told.contains("did you mean"), "{told}");
    std::fs::create_dir(at("photos")).unwrap();
    std::fs::copy(photos.join("r_0.png"), at("photos/r_0.png")).unwrap();
    let told = fails(kiln(["train"]).arg(at("photos")), 1);
    assert!(told.contains("kiln prepare"), "{told}");
}

/// Frames of the video.
const N_FRAMES: usize = 96;
const SIZE: [u32; 2] = [800, 600];

/// Write the video of the built-in scene in its room to `path`.
fn write_video(gpu: &Gpu, path: &Path, cameras: &[Camera]) {
    let mut ffmpeg = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pixel_format",
            "rgba",
        ])
        .args([
            "-video_size",
            &format!("{}x{}", SIZE[0], SIZE[1]),
            "-framerate",
            "24",
            "-i",
            "pipe:0",
        ])
        .args(["-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = ffmpeg.stdin.as_mut().unwrap();
    for camera in cameras {
        let image = DemoScene::render_in_room(gpu, camera).unwrap();
        pipe.write_all(&image.pixels).unwrap();
    }
    drop(ffmpeg.stdin.take());
    assert!(ffmpeg.wait().unwrap().success());
}

/// Return scale, rotation and translation of the similarity from `from` to `to` with the least squared error (Umeyama 1991),
/// whose rotation is the mean of those between the cameras.
fn similarity(from: &[&Camera], to: &[&Camera]) -> (f64, DMat3, DVec3) {
    let axes = |camera: &Camera| {
        DMat3::from_cols_array_2d(&[0, 1, 2].map(|c| camera.world_from_camera.map(|row| row[c])))
    };
    let place = |camera: &&Camera| DVec3::from(camera.position());
    let mut sum = DMat3::ZERO;
    for (a, b) in from.iter().zip(to) {
        sum += axes(b) * axes(a).transpose();
    }
    // The nearest rotation: a few steps of Newton's iteration for the polar decomposition.
    let mut rotation = sum * (1.0 / from.len() as f64);
    for _ in 0..30 {
        rotation = (rotation + rotation.inverse().transpose()) * 0.5;
    }
    let mean = |all: &[&Camera]| all.iter().map(place).sum::<DVec3>() / all.len() as f64;
    let (a, b) = (mean(from), mean(to));
    let (mut along, mut squares) = (0.0, 0.0);
    for (from, to) in from.iter().zip(to) {
        let turned = rotation * (place(from) - a);
        along += turned.dot(place(to) - b);
        squares += turned.length_squared();
    }
    let scale = along / squares;
    (scale, rotation, b - scale * (rotation * a))
}

#[test]
#[ignore = "runs ffmpeg and colmap for minutes"]
fn colmap_finds_the_cameras_of_a_video() {
    if !has_tools() {
        return;
    }
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let folder = TempDir::new().unwrap();
    let (video, out) = (folder.path().join("desk.mp4"), folder.path().join("desk"));
    let true_cameras = DemoScene::walk(N_FRAMES, SIZE);
    write_video(&gpu, &video, &true_cameras);
    let mut command = kiln(["prepare", "--frames", "48"]);
    command.arg(&video).arg("--out").arg(&out);
    command.timeout(std::time::Duration::from_mins(8));
    let output = succeeds(&mut command);
    let told = text(&output.stderr) + &text(&output.stdout);
    for part in [
        "800×600",
        "the sharpest 48 of 96 frames",
        "COLMAP takes about",
        "images registered",
        "kiln train",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(out.join("cameras.png").exists());
    let dataset = Dataset::open(&out).unwrap();
    let views = dataset.views();
    assert!(views.len() >= 46, "{} of 48 frames", views.len());
    assert!(dataset.points.positions.len() > 500);
    // Which frame of the video is the sharpest of each interval does not matter: the true camera is that of the nearest frame.
    let numbers: Vec<usize> = views
        .iter()
        .map(|view| {
            view.name
                .rsplit('_')
                .next()
                .unwrap()
                .parse::<usize>()
                .unwrap()
                - 1
        })
        .collect();
    let found: Vec<&Camera> = views.iter().map(|view| &view.camera).collect();
    // Of the two frames of an interval, try both.
    let mut chosen: Vec<&Camera> = numbers.iter().map(|i| &true_cameras[2 * i]).collect();
    for _ in 0..3 {
        let (scale, rotation, shift) = similarity(&found, &chosen);
        for ((camera, chosen), i) in found.iter().zip(&mut chosen).zip(&numbers) {
            let place = scale * (rotation * DVec3::from(camera.position())) + shift;
            let of = |j: usize| DVec3::from(true_cameras[j].position()).distance(place);
            let nearer = if of(2 * i) <= of(2 * i + 1) {
                2 * i
            } else {
                2 * i + 1
            };
            *chosen = &true_cameras[nearer];
        }
    }
    let (scale, rotation, shift) = similarity(&found, &chosen);
    let (mut turned, mut moved): (f64, f64) = (0.0, 0.0);
    for (camera, expected) in found.iter().zip(&chosen) {
        let place = scale * (rotation * DVec3::from(camera.position())) + shift;
        moved = moved.max(place.distance(DVec3::from(expected.position())));
        let forward = rotation * DVec3::from(camera.forward().map(f64::from));
        let angle = forward.angle_between(DVec3::from(expected.forward().map(f64::from)));
        turned = turned.max(angle.to_degrees());
    }
    println!(
        "{} views: {turned:.3}° and {:.3} % of the radius",
        views.len(),
        100.0 * moved / 3.2
    );
    assert!(turned < 0.5 && moved < 0.032, "{turned}° {moved}");
    // A second call has nothing left to do, and other options start only what depends on them.
    let mut again = kiln(["prepare", "--frames", "48"]);
    let told = text(&succeeds(again.arg(&video).arg("--out").arg(&out)).stderr);
    assert!(!told.contains("COLMAP takes"), "{told}");
    let mut other = kiln(["prepare", "--frames", "40"]);
    let told = fails(other.arg(&video).arg("--out").arg(&out), 2);
    assert!(told.contains("--force"), "{told}");
    let run = folder.path().join("run");
    let mut train = kiln(["train", "--steps", "60"]);
    let output = succeeds(train.arg(&out).arg("--out").arg(&run));
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(told.contains("COLMAP") && told.contains("depth:"), "{told}");
}
