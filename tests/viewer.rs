//! The viewer window on a virtual X server: a script of actions opens it, trains, turns the camera, switches modes, resizes and
//! closes it, and the tests check the captured images.
//!
//! Without `Xvfb` or an adapter they print "skipped"; `KILN_REQUIRE_WINDOW=1` turns that into a failure.

#![cfg(all(feature = "viewer", target_os = "linux"))]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln::gpu::{Gpu, GpuError, GpuOptions};
use kiln::scene::DemoScene;
use tempfile::TempDir;

/// A virtual X server, which is stopped when the test ends.
struct Server {
    process: Child,
    display: String,
}

impl Server {
    /// Start a server on a free display. Return `None` if there is no `Xvfb`.
    fn start(folder: &Path) -> Option<Self> {
        let number = folder.join("display");
        let file = std::fs::File::create(&number).unwrap();
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1400x900x24"]);
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::null());
        let process = command.spawn().ok()?;
        let mut server = Self {
            process,
            display: String::new(),
        };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            let text = std::fs::read_to_string(&number).unwrap();
            if text.ends_with('\n') {
                server.display = format!(":{}", text.trim());
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kiln(server: &Server, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.current_dir(folder);
    command.env("DISPLAY", &server.display);
    command.env("XDG_STATE_HOME", folder.join("state"));
    command.env_remove("WAYLAND_DISPLAY");
    command
}

/// Run a command that must exit with `code`, and return its stderr.
fn run(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{printed}");
    printed
}

struct Capture(image::RgbImage);

impl Capture {
    fn open(path: &Path) -> Self {
        let image = image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(image.to_rgb8())
    }

    /// Return the mean colour of a rectangle, given in fractions of the window.
    fn mean(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f64; 3] {
        let (w, h) = (self.0.width() as f32, self.0.height() as f32);
        let mut sums = [0.0; 3];
        let mut n = 0.0;
        for (x, y, pixel) in self.0.enumerate_pixels() {
            let at = [x as f32 / w, y as f32 / h];
            if at[0] >= x0 && at[0] < x1 && at[1] >= y0 && at[1] < y1 {
                (0..3).for_each(|c| sums[c] += f64::from(pixel[c]));
                n += 1.0;
            }
        }
        sums.map(|s| s / n)
    }

    /// Return the fraction of pixels that differ from those of `other`.
    fn differs(&self, other: &Self) -> f64 {
        let pairs = self.0.pixels().zip(other.0.pixels());
        let far = pairs.filter(|(a, b)| (0..3).any(|c| a[c].abs_diff(b[c]) > 24));
        far.count() as f64 / f64::from(self.0.width() * self.0.height())
    }
}

/// Return a server, and a folder with the built-in scene; `None` without `Xvfb` or adapter.
fn set_up() -> Option<(Server, TempDir)> {
    let folder = TempDir::new().unwrap();
    let required = std::env::var("KILN_REQUIRE_WINDOW").as_deref() == Ok("1");
    let Some(server) = Server::start(folder.path()) else {
        assert!(!required, "Xvfb is not installed");
        println!("skipped: no Xvfb");
        return None;
    };
    let gpu = match Gpu::open(&GpuOptions::default()) {
        Ok(gpu) => gpu,
        Err(GpuError::NoAdapter) if !required => {
            println!("skipped: no GPU adapter");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    DemoScene::write_dataset(&gpu, &folder.path().join("scene"), [12, 2, 2], 64, &|| ()).unwrap();
    Some((server, folder))
}

#[test]
fn a_window_trains_turns_switches_modes_and_closes() {
    let Some((server, folder)) = set_up() else {
        return;
    };
    let at = |name: &str| folder.path().join(name);
    let script = r#"[
        {"resize": [600.0, 440.0]}, {"until": "opened"}, {"until": "trained"}, {"wait": 5.0},
        {"capture": "training.png"},
        {"drag": [[0.2, 0.4, 0.35, 0.5], "left"]}, {"wait": 0.5},
        {"drag": [[0.2, 0.4, 0.22, 0.4], "right"]}, {"drag": [[0.2, 0.4, 0.2, 0.42], "middle"]},
        {"scroll": [[0.2, 0.4], 60.0]}, {"hold": ["W", 0.3]},
        {"key": "Space"}, {"wait": 0.5}, {"until": "sharp"}, {"capture": "paused.png"},
        {"key": "Period"}, {"wait": 0.5}, {"command": "S"}, {"wait": 0.5},
        {"key": "R"}, {"until": "sharp"}, {"capture": "first.png"},
        {"key": "2"}, {"until": "sharp"}, {"capture": "depth.png"},
        {"key": "3"}, {"until": "sharp"}, {"capture": "normals.png"},
        {"key": "4"}, {"until": "sharp"}, {"capture": "opacity.png"},
        {"key": "5"}, {"until": "sharp"}, {"capture": "cost.png"},
        {"key": "6"}, {"until": "sharp"}, {"capture": "occupancy.png"},
        {"key": "1"}, {"key": "C"}, {"key": "X"}, {"key": "F1"}, {"wait": 0.2},
        {"capture": "help.png"}, {"key": "Escape"},
        {"drop": "no-such-dataset"}, {"until": "failed"}, {"wait": 0.2}, {"capture": "failed.png"},
        {"key": "Escape"}, {"resize": [640.0, 400.0]}, {"wait": 0.5}, {"until": "sharp"},
        {"capture": "resized.png"},
        "close"
    ]"#;
    std::fs::write(at("script.json"), script).unwrap();
    let mut command = kiln(&server, folder.path());
    command.args(["train", "scene", "--view", "--view-script", "script.json"]);
    let printed = run(command.args(["--out", "run", "--seconds", "600"]), 0);
    assert!(printed.contains("no-such-dataset: no such"), "{printed}");
    assert!(printed.contains("saved at step"), "{printed}");
    assert!(at("run").join("checkpoint.safetensors").is_file());

    let open = |name: &str| Capture::open(&at(&format!("{name}.png")));
    let [training, first] = ["training", "first"].map(open);
    assert_eq!((first.0.width(), first.0.height()), (600, 440));
    // The surroundings are white, and the scene is in the middle.
    assert!(first.mean([0.2, 0.3, 0.3, 0.45])[2] < 235.0);
    assert!(
        training.differs(&open("paused")) > 0.05,
        "the camera was moved"
    );
    let modes = ["first", "depth", "normals", "opacity", "cost", "occupancy"].map(open);
    for (i, a) in modes.iter().enumerate() {
        for b in &modes[i + 1..] {
            assert!(a.differs(b) > 0.03);
        }
    }
    // Distances are shown in the colours of turbo, over the background.
    let [red, _, blue] = open("depth").mean([0.2, 0.3, 0.3, 0.45]);
    assert!((red - blue).abs() > 60.0, "{red} {blue}");
    assert!(open("depth").mean([0.02, 0.09, 0.08, 0.12])[0] > 235.0);
    assert!(open("help").differs(&modes[0]) > 0.05);
    assert!(open("failed").differs(&modes[0]) > 0.01);
    let resized = open("resized");
    assert_eq!((resized.0.width(), resized.0.height()), (640, 400));

    // A path that cannot be opened is reported in the window and in the terminal.
    let script = r#"[{"until": "failed"}, {"wait": 0.2}, {"capture": "nothing.png"}, "close"]"#;
    std::fs::write(at("script.json"), script).unwrap();
    let mut command = kiln(&server, folder.path());
    let printed = run(
        command.args(["view", "nothing-here", "--script", "script.json"]),
        0,
    );
    assert!(printed.contains("nothing-here"), "{printed}");
}

#[test]
fn a_run_is_compared_cropped_filmed_and_survives_the_loss_of_its_device() {
    let Some((server, folder)) = set_up() else {
        return;
    };
    let at = |name: &str| folder.path().join(name);
    let mut command = kiln(&server, folder.path());
    command.args(["train", "scene", "--out", "run", "--steps", "150"]);
    run(&mut command, 0);

    let key = |time: u8, eye: [f32; 3]| {
        let [x, y, z] = eye;
        format!(r#"{{"time": {time}, "eye": [{x}, {y}, {z}], "target": [0, 0, 0]}}"#)
    };
    let path = format!(
        r#"{{"width": 32, "height": 24, "fps": 4, "fov": 40, "key_frames": [{}, {}]}}"#,
        key(0, [4.0, 0.0, 1.0]),
        key(1, [0.0, 4.0, 1.0])
    );
    std::fs::write(at("cameras.json"), path).unwrap();
    let script = r#"[
        {"resize": [600.0, 440.0]}, {"until": "opened"}, {"until": "sharp"}, {"capture": "run.png"},
        {"key": "P"}, {"until": "sharp"}, {"key": "V"}, {"wait": 0.5}, {"until": "sharp"}, {"capture": "side.png"},
        {"key": "V"}, {"wait": 0.3}, {"until": "sharp"}, {"drag": [[0.25, 0.4, 0.35, 0.4], "left"]}, {"capture": "wipe.png"},
        {"key": "V"}, {"until": "compared"}, {"capture": "error.png"}, {"key": "V"},
        {"key": "R"}, {"until": "sharp"}, {"capture": "first.png"},
        {"key": "G"}, {"drag": [[0.2, 0.3, 0.3, 0.35], "left"]}, {"scroll": [[0.2, 0.4], -200.0]},
        {"key": "C"}, {"wait": 1.0}, {"until": "sharp"}, {"capture": "crop.png"},
        {"key": "C"}, {"key": "G"},
        {"drop": "cameras.json"}, {"key": "N"}, {"key": "N"}, {"key": "K"}, {"wait": 0.2}, {"command": "E"},
        {"key": "L"}, {"until": "played"}, {"until": "sharp"}, {"capture": "played.png"},
        {"command": "R"}, {"wait": 0.2}, {"until": "done"},
        {"key": "F12"}, {"wait": 0.2}, {"until": "done"},
        "lose_device", {"wait": 2.0}, {"until": "opened"}, {"until": "sharp"}, {"capture": "again.png"},
        {"key": "K"}, {"wait": 0.2}, {"command": "Q"}, {"wait": 0.3}, {"capture": "unsaved.png"}, {"key": "Escape"},
        {"command": "E"}, {"wait": 0.3},
        "close"
    ]"#;
    std::fs::write(at("script.json"), script).unwrap();
    let mut command = kiln(&server, folder.path());
    let printed = run(command.args(["view", "run", "--script", "script.json"]), 0);
    assert!(printed.contains("the device was lost"), "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
    let recent = std::fs::read_to_string(at("state/kiln/recent.json")).unwrap();
    assert!(recent.contains("run"), "{recent}");

    let open = |name: &str| Capture::open(&at(&format!("{name}.png")));
    let first = open("first");
    assert!(open("run").mean([0.2, 0.3, 0.3, 0.45])[2] < 235.0);
    for other in ["side", "wipe", "error", "crop", "played"] {
        assert!(open(other).differs(&first) > 0.05, "{other}");
    }
    assert!(
        open("error").mean([0.0, 0.1, 0.45, 0.7])[2] < 100.0,
        "dark where they agree"
    );
    assert!(
        open("again").differs(&open("played")) < 0.2,
        "the view is restored"
    );
    assert!(
        open("unsaved").differs(&open("again")) > 0.01,
        "an unsaved path is asked for"
    );
    // Four frames per second from the first key frame to the third, which was added after the second: 1 s and 2 s.
    let film = std::fs::File::open(at("path.gif")).unwrap();
    let film = image::codecs::gif::GifDecoder::new(std::io::BufReader::new(film)).unwrap();
    let frames = image::AnimationDecoder::into_frames(film);
    assert_eq!(frames.count(), 13);
    let kept = std::fs::read_to_string(at("cameras.json")).unwrap();
    assert!(
        kept.contains("transform_matrix") && kept.contains("\"time\":3"),
        "{kept}"
    );
    let mut command = kiln(&server, folder.path());
    command.args([
        "render",
        "run",
        "--path",
        "cameras.json",
        "--out",
        "last.png",
        "--frames",
        "12..13",
    ]);
    run(&mut command, 0);
    assert!(open("screenshot-001").0.width() > 200);
}

#[test]
fn unsaved_training_survives_the_loss_of_its_device_and_an_interrupt_saves_it() {
    let Some((server, folder)) = set_up() else {
        return;
    };
    let at = |name: &str| folder.path().join(name);
    let script = r#"[
        {"resize": [480.0, 320.0]}, {"until": "trained"}, "lose_device", {"wait": 2.0}, {"until": "trained"},
        {"device": 0}, {"wait": 2.0}, {"until": "trained"}, {"key": "F12"}, {"key": "F12"}, {"wait": 50.0}, "close"
    ]"#;
    std::fs::write(at("script.json"), script).unwrap();
    let mut command = kiln(&server, folder.path());
    command.args(["train", "scene", "--view", "--view-script", "script.json"]);
    command.args(["--out", "run", "--seconds", "600"]);
    command.stderr(Stdio::from(
        std::fs::File::create(at("printed.txt")).unwrap(),
    ));
    let mut process = command.spawn().unwrap();
    let started = Instant::now();
    while !at("screenshot-002.png").exists() && started.elapsed() < Duration::from_secs(100) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let printed = || std::fs::read_to_string(at("printed.txt")).unwrap();
    assert!(at("screenshot-002.png").exists(), "{}", printed());
    let mut interrupt = Command::new("kill");
    interrupt.args(["-INT", &process.id().to_string()]);
    assert!(interrupt.status().unwrap().success());
    let status = process.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{}", printed());
    assert!(printed().contains("the device was lost"), "{}", printed());
    assert!(
        printed().contains("resuming run"),
        "on the other device: {}",
        printed()
    );
    assert!(!printed().contains("panicked"), "{}", printed());
    assert!(
        printed().contains("to continue: kiln train --resume run"),
        "{}",
        printed()
    );
    assert!(at("run").join("checkpoint.safetensors").is_file());
}

#[test]
fn a_missing_display_is_reported() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.current_dir(folder.path()).arg("view");
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.env_remove("WAYLAND_SOCKET");
    let printed = run(&mut command, 1);
    assert!(printed.contains("no window can be opened"), "{printed}");
}

#[test]
fn a_finished_run_is_evaluated_cropped_and_trained_further() {
    let Some((server, folder)) = set_up() else {
        return;
    };
    let at = |name: &str| folder.path().join(name);
    let mut command = kiln(&server, folder.path());
    command.args(["train", "scene", "--out", "run", "--steps", "150"]);
    run(&mut command, 0);
    std::fs::remove_file(at("run/eval.json")).unwrap();
    let script = r#"[
        {"resize": [600.0, 440.0]}, {"until": "opened"}, {"until": "sharp"}, "evaluate", {"wait": 0.3}, {"until": "done"},
        {"key": "6"}, {"wait": 3.0}, {"until": "sharp"}, {"capture": "floaters.png"}, {"key": "1"},
        {"double_click": [0.22, 0.42]}, {"wait": 0.5}, {"until": "sharp"}, {"capture": "pivot.png"},
        {"drop": "box.json"}, {"wait": 0.5}, {"until": "sharp"}, "remove_outside", {"wait": 1.0}, {"until": "opened"},
        {"until": "sharp"}, {"capture": "cropped.png"},
        {"continue": 1.0}, {"wait": 1.0}, {"until": "trained"}, {"until": "ended"}, "close"
    ]"#;
    std::fs::write(at("script.json"), script).unwrap();
    let path = r#"{"width": 32, "height": 24, "fov": 40, "crop": [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]],
        "key_frames": [{"time": 0, "eye": [4, 0, 1], "target": [0, 0, 0]}]}"#;
    std::fs::write(at("box.json"), path).unwrap();
    let mut command = kiln(&server, folder.path());
    let printed = run(command.args(["view", "run", "--script", "script.json"]), 0);
    assert!(at("run/eval.json").is_file(), "{printed}");
    let cropped = at("run-cropped");
    assert!(printed.contains("run is unchanged"), "{printed}");
    assert!(cropped.join("report.html").is_file(), "{printed}");
    let steps = |run: &std::path::Path| {
        let text = std::fs::read(run.join("eval.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
        report["steps"].as_u64().unwrap()
    };
    assert_eq!(steps(&at("run")), 150);
    assert!(steps(&cropped) > 150);
}

/// A program that takes the options of COLMAP 4 and notes how it is called: finding features takes a minute, then fails.
const COLMAP: &str = r#"#!/bin/sh
case "$1 $2" in
    help*) echo "COLMAP 4.0.0 -- Structure-from-Motion" ;;
    *-h) echo "--database_path --image_path --ImageReader.camera_model --FeatureExtraction.use_gpu" ;;
    *) echo "$@" >> "$(dirname "$0")/calls"
        [ "$(wc -l < "$(dirname "$0")/calls")" -gt 1 ] || sleep 60
        echo "ERROR: nothing found"
        exit 1 ;;
esac
"#;

#[test]
fn photographs_are_prepared_again_after_a_cancellation() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some((server, folder)) = set_up() else {
        return;
    };
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("photos")).unwrap();
    std::fs::create_dir_all(at("bin")).unwrap();
    for i in 0..3 {
        let photo = at("scene/train").join(format!("r_{i}.png"));
        std::fs::copy(photo, at("photos").join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(at("bin/colmap"), COLMAP).unwrap();
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(at("bin/colmap"), permissions).unwrap();
    let script = r#"[
        {"wait": 1.0}, {"drop": "photos"}, {"wait": 0.5}, {"capture": "question.png"}, "prepare", {"wait": 3.0}, "cancel",
        {"until": "done"}, {"wait": 0.5}, {"drop": "photos"}, {"wait": 0.5}, "prepare", {"until": "failed"}, "close"
    ]"#;
    std::fs::write(at("script.json"), script).unwrap();
    let mut command = kiln(&server, folder.path());
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", at("bin").display()));
    let printed = run(command.args(["view", "--script", "script.json"]), 0);
    assert!(printed.contains("finished stages are kept"), "{printed}");
    assert!(printed.contains("nothing found"), "{printed}");
    let calls = std::fs::read_to_string(at("bin/calls")).unwrap();
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[1].starts_with("feature_extractor"), "{calls:?}");
    assert!(
        calls[1].contains("--FeatureExtraction.use_gpu 0"),
        "{calls:?}"
    );
    let question = Capture::open(&at("question.png"));
    assert!(question.0.width() > 100);
}
