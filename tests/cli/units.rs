//! Scenes in any unit, with any origin and any background: how they are placed, and what is reported.

use std::path::{Path, PathBuf};

use kiln::camera::Camera;
use kiln::dataset::Image;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

/// A point in UTM coordinates, in metres.
const FAR: [f64; 3] = [512_345.25, 4_649_776.5, 250.0];

/// A dataset of views around a sphere of radius `unit`, centred at `unit * at`.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new(unit: f64, at: [f64; 3]) -> Self {
        Self::with(16, unit, at, Some(1), sphere)
    }

    fn with(
        n: u8,
        unit: f64,
        at: [f64; 3],
        aabb_scale: Option<u32>,
        look: impl Fn(&Camera) -> Image,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        let frame = |i: u8| {
            let turn = f32::from(i) / f32::from(n) * std::f32::consts::TAU;
            let eye = [3.5 * turn.cos(), 3.5 * turn.sin(), 2.0 * (3.0 * turn).sin()];
            let camera = Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.7, SIDE, SIDE);
            let name = format!("images/{i:02}.png");
            let image = look(&camera);
            image.save_png(&folder.path().join(&name)).unwrap();
            let mut rows: Vec<[f64; 4]> = camera.world_from_camera.to_vec();
            for (row, at) in rows.iter_mut().zip(at) {
                row[3] = row[3] * unit + at * unit;
            }
            rows.push([0.0, 0.0, 0.0, 1.0]);
            json!({ "file_path": name, "transform_matrix": rows })
        };
        let frames: Vec<Value> = (0..n).map(frame).collect();
        let mut document = json!({ "camera_angle_x": 0.7_f32, "frames": frames });
        if let Some(side) = aabb_scale {
            document["aabb_scale"] = side.into();
        }
        std::fs::write(folder.path().join("transforms.json"), document.to_string()).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Train a run with additional flags, and return its folder and stderr.
    fn train(&self, name: &str, more: &[&str]) -> (PathBuf, String) {
        let run = self.path().join("runs").join(name);
        let mut command = train(self.path(), &run);
        let output = succeeds(command.args(["--steps", "150", "--seed", "3"]).args(more));
        (run, text(&output.stderr))
    }

    /// Run `kiln inspect` with additional flags, and return its JSON report, its text output and its exit code.
    fn inspect(&self, more: &[&str]) -> (Value, String, i32) {
        let run = |json: &[&str]| {
            let mut command = kiln(["inspect", "--method", "ngp-small"]);
            command.arg(self.path()).args(more).args(json);
            command.output().unwrap()
        };
        let report = json_lines(&text(&run(&["--json"]).stdout)).remove(0);
        let plain = run(&[]);
        let printed = text(&plain.stdout) + &text(&plain.stderr);
        (report, printed, plain.status.code().unwrap())
    }
}

fn psnr(run: &Path) -> f64 {
    json(&run.join("eval.json"))["psnr"].as_f64().unwrap()
}

fn config(run: &Path) -> toml::Table {
    let text = std::fs::read_to_string(run.join("config.toml")).unwrap();
    text.parse().unwrap()
}

fn loss(run: &Path) -> f64 {
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let last = json_lines(&log)
        .into_iter()
        .rfind(|line| line["event"] == "progress")
        .unwrap();
    last["loss"].as_f64().unwrap()
}

/// Return `--set` flags for a box whose sides are three times `unit`, centred at `unit * at`.
fn placed(unit: f64, at: [f64; 3]) -> [String; 2] {
    let scale = 0.33 / unit;
    let [x, y, z] = at.map(|v| 0.5 - 0.33 * v);
    [
        format!("--set=scene.scale={scale}"),
        format!("--set=scene.offset=[{x},{y},{z}]"),
    ]
}

#[test]
fn training_depends_on_neither_unit_nor_origin() {
    if !has_adapter() {
        return;
    }
    let measured = [
        (1.0, [0.0; 3]),
        (1000.0, [0.0; 3]),
        (0.001, [0.0; 3]),
        (1.0, FAR),
    ]
    .map(|(unit, at)| {
        let flags = placed(unit, at);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (run, _) = Scene::new(unit, at).train_and_measure(&flags);
        run
    });
    let (loss, psnr) = measured[0];
    assert!(psnr > 10.0, "{psnr}");
    for (other, other_psnr) in &measured[1..] {
        assert!((other - loss).abs() < 1e-3 * loss, "{measured:?}");
        assert!((other_psnr - psnr).abs() < 0.01, "{measured:?}");
    }
}

impl Scene {
    /// Train a run, and return its last loss, its PSNR and stderr.
    fn train_and_measure(&self, flags: &[&str]) -> ((f64, f64), String) {
        let (run, printed) = self.train("new", flags);
        ((loss(&run), psnr(&run)), printed)
    }
}

#[test]
fn a_scene_without_a_placement_is_placed_by_its_cameras() {
    if !has_adapter() {
        return;
    }
    let (reference, printed) = Scene::new(1.0, [0.0; 3]).train_and_measure(&[]);
    assert!(!printed.contains("scene: a box"), "{printed}");
    for (unit, at) in [(1000.0, [0.0; 3]), (0.001, [0.0; 3]), (1.0, FAR)] {
        let scene = Scene::new(unit, at);
        let (run, printed) = scene.train("placed", &[]);
        assert!(
            (psnr(&run) - reference.1).abs() < 1.0,
            "{unit}: {} against {}",
            psnr(&run),
            reference.1
        );
        // The reported placement is the one in use. Set by flags, it gives the same run.
        let line = printed
            .lines()
            .find(|l| l.contains("scene: a box"))
            .unwrap();
        let value = |key: &str| {
            let rest = line.split(&format!("{key}=")).nth(1).unwrap();
            rest.split([' ', ';', ')']).next().unwrap().to_owned()
        };
        let (scale, offset) = (value("scene.scale"), value("scene.offset"));
        let placed = config(&run)["scene"].clone();
        assert_eq!(
            placed["scale"].as_float().unwrap(),
            scale.parse::<f64>().unwrap()
        );
        let (typed, printed) = scene.train(
            "typed",
            &[
                &format!("--set=scene.scale={scale}"),
                &format!("--set=scene.offset={offset}"),
            ],
        );
        assert!(!printed.contains("scene: a box"), "{printed}");
        assert_same_tensors(&run, &typed);
    }
}

#[test]
fn a_box_of_another_size_stays_centred_on_the_focus_of_the_cameras() {
    if !has_adapter() {
        return;
    }
    let scene = Scene::new(1.0, FAR);
    let (run, _) = scene.train("small", &["--set=scene.scale=0.5"]);
    let placed = config(&run)["scene"].clone();
    let offset = placed["offset"].as_array().unwrap();
    for (offset, at) in offset.iter().zip(FAR) {
        let middle = 0.5 * at + offset.as_float().unwrap();
        assert!((middle - 0.5).abs() < 1e-3, "{middle}");
    }
}

#[test]
fn an_unsuitable_box_is_never_reported_as_ready() {
    let cases = [
        (5.0, "warning", "lies inside what the cameras see"),
        (10.0, "error", "of the images' rays meet the scene"),
        (1000.0, "error", "lies inside what the cameras see"),
        (0.001, "error", "cells of its grid"),
        (0.05, "warning", "cells of its grid"),
    ];
    for (unit, severity, words) in cases {
        let scene = Scene::new(unit, [0.0; 3]);
        let here = ["--set=scene.scale=0.33", "--set=scene.offset=[0.5,0.5,0.5]"];
        let (report, printed, code) = scene.inspect(&here);
        let problems = report["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        let message = problems[0]["message"].as_str().unwrap();
        assert!(message.contains(words), "{unit}: {message}");
        assert_eq!(problems[0]["severity"], severity, "{message}");
        assert_eq!(code, i32::from(severity == "error"));
        assert!(!printed.contains("ready to train"), "{printed}");
        // The suggested flags work as printed.
        let advice = message.split("; try ").nth(1).unwrap();
        let flags: Vec<&str> = advice.split(' ').collect();
        let (report, printed, code) = scene.inspect(&flags);
        assert_eq!(report["problems"], json!([]), "{advice}");
        assert!(printed.contains("ready to train") && code == 0, "{printed}");
        assert!(report["fit"]["rays_inside"].as_f64().unwrap() > 0.5);
        assert!(report["fit"]["cells_across"].as_f64().unwrap() > 50.0);
    }
    // A box that does not contain the focus of the cameras is an error too.
    let scene = Scene::new(1000.0, [3.0, 2.0, 0.0]);
    let here = ["--set=scene.scale=0.33", "--set=scene.offset=[0.5,0.5,0.5]"];
    let (report, _, code) = scene.inspect(&here);
    let severity = &report["problems"][0]["severity"];
    assert_eq!((severity, code), (&json!("error"), 1), "{report:#}");
    let (report, printed, _) = Scene::new(1000.0, [0.0; 3]).inspect(&[]);
    assert_eq!(report["problems"], json!([]));
    assert!(printed.contains("scene: a box of 2866"), "{printed}");
}

#[test]
fn a_distant_origin_is_reported_with_flags_that_work() {
    let scene = Scene::new(1.0, FAR);
    let here = ["--set=scene.scale=0.33", "--set=scene.offset=[0.5,0.5,0.5]"];
    let (report, _, code) = scene.inspect(&here);
    assert_eq!(code, 1);
    let problems = report["problems"].as_array().unwrap();
    let message = problems[0]["message"].as_str().unwrap();
    let advice = message.split("; try ").nth(1).unwrap();
    let flags: Vec<&str> = advice.split(' ').collect();
    let (report, _, code) = scene.inspect(&flags);
    assert_eq!((&report["problems"], code), (&json!([]), 0), "{advice}");
}

/// Return `image` with `rgb` in place of transparent pixels.
fn over(image: Image, rgb: [u8; 3]) -> Image {
    let mut image = image;
    for pixel in image.pixels.chunks_exact_mut(4) {
        if pixel[3] == 0 {
            pixel[..3].copy_from_slice(&rgb);
        }
        pixel[3] = 255;
    }
    image.has_alpha = false;
    image
}

#[test]
fn the_background_is_taken_from_the_images() {
    if !has_adapter() {
        return;
    }
    let trained = |change: &dyn Fn(Image) -> Image, more: &[&str]| {
        let scene = Scene::with(16, 1.0, [0.0; 3], Some(1), |camera| change(sphere(camera)));
        let (run, printed) = scene.train("new", more);
        let scene = config(&run)["scene"].clone();
        let color = |key: &str| scene[key].as_str().unwrap().to_owned();
        let line = printed.lines().find(|l| l.contains("background: "));
        (
            color("background"),
            color("eval_background"),
            line.unwrap_or_default().to_owned(),
            psnr(&run),
        )
    };
    let (background, eval_background, printed, _) = trained(&|image| image, &[]);
    assert_eq!(
        (&*background, &*eval_background),
        ("random", "white"),
        "{printed}"
    );
    assert!(printed.contains("transparent"), "{printed}");

    let (background, eval_background, printed, plain) = trained(&|i| over(i, [250, 250, 250]), &[]);
    assert_eq!(
        (&*background, &*eval_background),
        ("#fafafa", "#fafafa"),
        "{printed}"
    );
    assert!(printed.contains("around the object"), "{printed}");
    let (.., typed) = trained(&|i| over(i, [250, 250, 250]), &["--background", "#fafafa"]);
    assert_eq!(plain.to_bits(), typed.to_bits(), "{plain} and {typed}");

    let filled = |image: Image| {
        let mut image = over(image, [0; 3]);
        for (i, pixel) in image.pixels.chunks_exact_mut(4).enumerate() {
            if pixel[..3] == [0; 3] {
                pixel[0] = (i * 7) as u8;
                pixel[1] = (i / 3) as u8;
            }
        }
        image
    };
    let (background, eval_background, printed, _) = trained(&filled, &[]);
    assert_ne!(background, "random", "{printed}");
    assert_eq!(background, eval_background);
    assert!(
        printed.contains("the mean colour of the images, which the scene fills"),
        "{printed}"
    );

    // The flag takes precedence.
    let (background, eval_background, printed, _) = trained(&filled, &["--background", "#102030"]);
    assert_eq!((&*background, &*eval_background), ("#102030", "#102030"));
    assert_eq!(printed, "");
}

/// Render the inside of a sphere of radius 6, in colours that vary slowly.
fn walls(camera: &Camera) -> Image {
    let mut pixels = Vec::new();
    for (y, x) in (0..camera.height).flat_map(|y| (0..camera.width).map(move |x| (y, x))) {
        let (eye, ray) = camera.ray(x as f32 + 0.5, y as f32 + 0.5);
        let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let (a, b, c) = (dot(ray, ray), dot(eye, ray), dot(eye, eye) - 36.0);
        let t = (-b + (b * b - a * c).sqrt()) / a;
        let color = |i: usize| 127.5 + 110.0 * (0.7 * (eye[i] + t * ray[i]) + i as f64).sin();
        pixels.extend([0, 1, 2].map(|i| color(i).round() as u8));
        pixels.push(255);
    }
    Image {
        width: camera.width,
        height: camera.height,
        pixels,
        has_alpha: false,
        mask: None,
    }
}

#[test]
fn a_room_is_learned_without_fog_at_the_cameras() {
    if !has_adapter() {
        return;
    }
    let scene = Scene::with(48, 1.0, [0.0; 3], Some(8), walls);
    let clear = |name: &str, more: &[&str]| {
        let run = scene.path().join("runs").join(name);
        let mut command = kiln([
            "train",
            "--method=ngp-small",
            "--steps=200",
            "--seed=3",
            "--out",
        ]);
        succeeds(command.arg(&run).args(more).arg(scene.path()));
        psnr(&run)
    };
    let ours = clear("room", &[]);
    // Start as Instant-NGP does: short steps from the camera on, through a field that is dense at first.
    let dense = [
        "--background=black",
        "--set=occupancy.warmup_steps=64",
        "--set=training.near_steps=0",
        "--set=passes.sampler.ray_march.cone_angle=0.00390625",
        "--set=passes.field.density_bias=0.0",
    ];
    let foggy = clear("fog", &dense);
    assert!(ours > 18.0 && ours > foggy + 4.0, "{ours} and {foggy} dB");
}

#[test]
fn settings_derived_from_the_images_can_be_given_as_flags() {
    if !has_adapter() {
        return;
    }
    let scene = Scene::with(24, 1.0, [0.0; 3], Some(8), walls);
    let config = |name: &str, more: &[&str]| {
        let run = scene.path().join("runs").join(name);
        let mut command = kiln(["train", "--steps=1", "--out"]);
        succeeds(command.arg(&run).args(more).arg(scene.path()));
        std::fs::read_to_string(run.join("config.toml")).unwrap()
    };
    let found = config("found", &["--method=ngp-small"]);
    // Half the distance of the cameras from the centre.
    assert!(found.contains("near_start = 1.88"), "{found}");
    let background = found
        .lines()
        .find_map(|line| line.strip_prefix("background = "));
    let background = format!("--background={}", background.unwrap().trim_matches('"'));
    let typed = [
        "--method=ngp-small",
        &*background,
        "--set=scene.aabb_scale=8",
        "--set=training.opacity_loss=0.29",
    ];
    assert_eq!(config("typed", &typed), found);
    // If a background is given, the scene may be transparent, and there is no opacity loss.
    let seen = config("seen", &["--method=ngp-small", "--background=black"]);
    assert!(!seen.contains("opacity_loss"), "{seen}");
    let file = scene.path().join("runs/found/config.toml");
    let again = ["--config", file.to_str().unwrap()];
    assert_eq!(config("again", &again), found);
    let seen = config("other", &[again[0], again[1], "--background=black"]);
    assert!(!seen.contains("opacity_loss"), "{seen}");
    let anew = config("anew", &[again[0], again[1], "--background=auto"]);
    assert_eq!(anew, found);
}

#[test]
fn a_box_that_excludes_the_walls_of_a_room_is_reported() {
    // The file's box ends before the cameras, so it excludes the walls that fill the images.
    let scene = Scene::with(24, 1.0, [0.0; 3], Some(1), walls);
    let (report, printed, code) = scene.inspect(&[]);
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.len() == 1 && code == 0, "{problems:#?}");
    let message = problems[0]["message"].as_str().unwrap();
    assert!(message.contains("fills the images"), "{message}");
    assert!(!printed.contains("ready to train"), "{printed}");
    let flags: Vec<&str> = message.split("; try ").nth(1).unwrap().split(' ').collect();
    let (report, printed, _) = scene.inspect(&flags);
    assert_eq!(report["problems"], json!([]), "{flags:?}");
    assert!(
        printed.contains("24 of 24 inside") || printed.contains("21 of 21 inside"),
        "{printed}"
    );
}

#[test]
fn training_without_samples_fails_within_its_first_steps() {
    if !has_adapter() {
        return;
    }
    let scene = Scene::new(1.0, [0.0; 3]);
    let run = scene.path().join("runs/none");
    let mut command = train(scene.path(), &run);
    // Use a batch that is too small for the samples of any ray.
    command.args(["--steps", "100000", "--set=training.batch_size=1024"]);
    let march = "--set=passes.sampler.ray_march";
    command.args([
        format!("{march}.steps=8192"),
        format!("{march}.max_samples=8192"),
    ]);
    refused(
        &mut command,
        1,
        &["no samples were evaluated", "batch_size"],
    );
}
