//! Shared helpers: running the binary, a small dataset, a run trained on it, and checks of error messages.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use image::AnimationDecoder as _;
use image::codecs::gif::GifDecoder;
use kiln::camera::Camera;
use kiln::dataset::{Image, Split, write_blender};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::TempDir;

/// Dotted key of the hash grid's settings.
pub const GRID: &str = "passes.field.position_encoding.hash_grid";
/// Settings that make a step take milliseconds on a software adapter.
pub const SMALL: [&str; 8] = [
    "--method=ngp-small",
    "--set=passes.field.position_encoding.hash_grid.log2_hashmap_size=10",
    "--set=passes.field.position_encoding.hash_grid.n_levels=4",
    "--set=training.batch_size=2048",
    "--set=occupancy.resolution=16",
    "--set=occupancy.warmup_steps=16",
    "--set=occupancy.interval=4",
    "--set=optimizer.warmup_steps=8",
];
/// Number of steps of the shared run.
pub const STEPS: u32 = 40;
/// Width and height of an image in pixels.
pub const SIDE: u32 = 24;

/// Return the `kiln` command with `arguments`, without backtraces, and with a timeout of two minutes.
pub fn kiln<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .timeout(Duration::from_mins(2));
    command
}

/// Return whether a GPU adapter is available. Print "skipped" if not, or panic if `KILN_REQUIRE_GPU` is 1.
pub fn has_adapter() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| kiln(["devices"]).output().unwrap().status.success());
    if !found {
        assert_ne!(
            std::env::var("KILN_REQUIRE_GPU").as_deref(),
            Ok("1"),
            "there is no GPU adapter"
        );
        eprintln!("skipped: no GPU adapter");
    }
    found
}

/// Return whether the adapter is a software adapter; print "skipped" if not.
pub fn on_software() -> bool {
    let is = has_adapter() && {
        let devices = json_lines(&text(&succeeds(&mut kiln(["devices", "--json"])).stdout));
        let used = devices.iter().find(|d| d["default"] == true);
        used.is_some_and(|device| device["class"] == "software")
    };
    if !is {
        eprintln!("skipped: no software adapter");
    }
    is
}

/// Run a command that must succeed, and return its output.
pub fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    output
}

/// Run a command that must fail with `code`, and return its stderr from the line that starts with `error: `.
pub fn error_of(command: &mut Command, code: i32) -> Vec<String> {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let lines: Vec<String> = stderr
        .lines()
        .skip_while(|l| !l.starts_with("error: "))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "no error is reported: {stderr}");
    lines
}

/// Check that a command fails with `code` and a one-line error that contains all of `words`.
pub fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let lines = error_of(command, code);
    assert_eq!(lines.len(), 1, "more than one line: {lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` is not in: {}", lines[0]);
    }
}

/// Return the command `kiln train DATASET --out OUT` with the settings [`SMALL`].
pub fn train(dataset: &Path, out: &Path) -> Command {
    let mut command = kiln(["train"]);
    command.arg(dataset).arg("--out").arg(out).args(SMALL);
    command
}

/// Check that training fails with a one-line error and leaves no files behind.
pub fn train_refused(dataset: &Path, more: &[&str], code: i32, words: &[&str]) {
    let folder = TempDir::new().unwrap();
    let mut command = train(dataset, &folder.path().join("runs/new"));
    refused(command.args(more), code, words);
    assert!(
        names_in(folder.path()).is_empty(),
        "left behind: {:?}",
        names_in(folder.path())
    );
}

/// Render a unit sphere whose colour encodes the position on it, on a transparent background.
pub fn sphere(camera: &Camera) -> Image {
    let eye = camera.position().map(|v| v as f32);
    let columns = [0, 1, 2].map(|c| [0, 1, 2].map(|r| camera.world_from_camera[r][c] as f32));
    let mut pixels = Vec::new();
    for (y, x) in (0..camera.height).flat_map(|y| (0..camera.width).map(move |x| (y, x))) {
        let right = (x as f32 + 0.5 - camera.principal[0]) / camera.focal[0];
        let up = (camera.principal[1] - y as f32 - 0.5) / camera.focal[1];
        let ray = [0, 1, 2].map(|i| right * columns[0][i] + up * columns[1][i] - columns[2][i]);
        let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let (a, b, c) = (dot(ray, ray), dot(eye, ray), dot(eye, eye) - 1.0);
        let root = b * b - a * c;
        if root < 0.0 {
            pixels.extend([0; 4]);
        } else {
            let t = (-b - root.sqrt()) / a;
            pixels.extend(
                [0, 1, 2].map(|i| (127.5 + 127.0 * (eye[i] + t * ray[i])).clamp(0.0, 255.0) as u8),
            );
            pixels.push(255);
        }
    }
    Image {
        width: camera.width,
        height: camera.height,
        pixels,
        has_alpha: true,
        mask: None,
    }
}

/// Return a square camera above the sphere, at `angle` radians around the z axis, that looks at the sphere's centre.
pub fn camera(angle: f32, side: u32) -> Camera {
    let eye = [3.5 * angle.cos(), 3.5 * angle.sin(), 2.0];
    Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.7, side, side)
}

/// Write a dataset of 6 training and 3 test views in Blender's format.
pub fn write_dataset(root: &Path) {
    write_dataset_of(root, SIDE);
}

/// Same as [`write_dataset`], with test images of `side` pixels a side.
pub fn write_dataset_of(root: &Path, side: u32) {
    for (split, side, n, start) in [(Split::Train, SIDE, 6, 0.0), (Split::Test, side, 3, 0.4)] {
        let camera = |i: u8| {
            let angle: f32 = start + f32::from(i) / f32::from(n) * std::f32::consts::TAU;
            camera(angle, side)
        };
        let cameras: Vec<Camera> = (0..n).map(camera).collect();
        let images: Vec<Image> = cameras.iter().map(sphere).collect();
        write_blender(root, split, &cameras, &images, Some([2.0, 6.0])).unwrap();
    }
}

/// Create a dataset that the test may modify.
pub fn own_dataset() -> TempDir {
    let folder = TempDir::new().unwrap();
    write_dataset(folder.path());
    folder
}

/// Files that all tests share and none may modify.
pub struct Shared {
    /// The dataset.
    pub dataset: PathBuf,
    /// A run of [`STEPS`] steps.
    pub run: PathBuf,
    /// What `kiln train --json` printed on stdout.
    pub stdout: String,
}

/// Return the shared dataset and run, which are created on first use.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        let _ = std::fs::remove_dir_all(&root);
        let (dataset, run) = (root.join("sphere"), root.join("run"));
        write_dataset(&dataset);
        let output =
            succeeds(train(&dataset, &run).args(["--json", "--steps", &STEPS.to_string()]));
        Shared {
            dataset,
            run,
            stdout: text(&output.stdout),
        }
    })
}

/// Create a copy of the shared run that the test may modify.
pub fn own_run() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    copy_folder(&shared().run, &run);
    (folder, run)
}

/// Copy a folder and everything below it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Return the names of a folder's entries, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Return the contents of the files in a folder without subfolders, by name.
pub fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    names_in(folder)
        .into_iter()
        .map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap()))
        .collect()
}

/// Decode output as UTF-8.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Parse text that consists of JSON lines, each with at most one `schema` and one `event`.
pub fn json_lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| -> Value {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
        for key in ["schema", "event"] {
            assert!(line.matches(&format!("\"{key}\":")).count() <= 1, "{line}");
        }
        value
    };
    text.lines().map(parse).collect()
}

/// Parse a JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Change a JSON file.
pub fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut document = json(path);
    change(&mut document);
    std::fs::write(path, document.to_string()).unwrap();
}

/// Return the names of the views in an evaluation report.
pub fn view_names(report: &Value) -> Vec<&str> {
    report["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap())
        .collect()
}

/// Return the frames of a GIF.
pub fn gif_frames(path: &Path) -> Vec<image::Frame> {
    let file = BufReader::new(File::open(path).unwrap());
    let frames = GifDecoder::new(file).unwrap().into_frames();
    frames.map(Result::unwrap).collect()
}

/// Return the command of a training on `dataset` without an end, with the settings [`SMALL`].
pub fn endless_training(dataset: &Path, out: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.arg("train").arg(dataset).arg("--out").arg(out);
    command.args(SMALL).args(["--steps", "1000000"]);
    command.stdout(std::process::Stdio::null());
    command
}

/// Wait for at most a minute until `condition` holds.
#[track_caller]
pub fn wait_until(condition: impl Fn() -> bool, what: &str) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Send a signal to a process.
#[cfg(unix)]
#[track_caller]
pub fn signal(child: &std::process::Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success(), "the process has ended by itself");
}

/// Return the `steps` of a run's last evaluation.
pub fn steps_of(run: &Path) -> u64 {
    json(&run.join("eval.json"))["steps"].as_u64().unwrap()
}

/// Metadata of a checkpoint.
pub type Metadata = std::collections::HashMap<String, String>;
/// Tensors of a checkpoint as (dtype and shape, bytes).
pub type Tensors = BTreeMap<String, (String, Vec<u8>)>;

/// Return the metadata and tensors of a run's checkpoint.
pub fn checkpoint(run: &Path) -> (Metadata, Tensors) {
    let bytes = std::fs::read(run.join("checkpoint.safetensors")).unwrap();
    let metadata = SafeTensors::read_metadata(&bytes)
        .unwrap()
        .1
        .metadata()
        .clone()
        .unwrap_or_default();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let described = |t: &TensorView<'_>| {
        (
            format!("{:?} {:?}", t.dtype(), t.shape()),
            t.data().to_vec(),
        )
    };
    (
        metadata,
        tensors
            .iter()
            .map(|(name, tensor)| (name.to_owned(), described(&tensor)))
            .collect(),
    )
}

/// Check that two runs hold the same tensors, byte for byte.
pub fn assert_same_tensors(a: &Path, b: &Path) {
    let ((_, a), (_, b)) = (checkpoint(a), checkpoint(b));
    assert!(a.len() > 20 && a.keys().eq(b.keys()));
    let differ: Vec<&String> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(differ.is_empty(), "tensors differ: {differ:?}");
}

/// Return the length in bytes of a checkpoint's JSON header, which follows the 8 bytes that contain this length.
pub fn header_len(checkpoint: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(checkpoint[..8].try_into().unwrap())).unwrap()
}

/// Rewrite a checkpoint with its metadata changed by `change` and without the tensor `without`.
pub fn rewrite_checkpoint(run: &Path, without: &str, change: impl FnOnce(&mut Metadata)) {
    let path = run.join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (mut metadata, _) = checkpoint(run);
    change(&mut metadata);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter(|(name, _)| *name != without);
    std::fs::write(&path, safetensors::serialize(kept, Some(metadata)).unwrap()).unwrap();
}
