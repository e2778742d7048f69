//! What the tests share: the binary, a small dataset, a run trained on it, and what is asked of refusals.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;
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
/// Steps of the shared run.
pub const STEPS: u32 = 40;
/// Pixels of an image, each side.
pub const SIDE: u32 = 24;

/// The command, with no more output than it gives when it is not watched.
pub fn kiln<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .timeout(std::time::Duration::from_mins(2));
    command
}

/// Whether there is an adapter to run on. Says so where there is none, or fails if there must be one.
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

/// The output of a command that succeeds.
pub fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    output
}

/// The lines from `error: ` on of a command that fails with `code`.
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

/// Checks that a command fails with `code` and one line of error that contains all of `words`.
pub fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let lines = error_of(command, code);
    assert_eq!(lines.len(), 1, "more than a line: {lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` is not in: {}", lines[0]);
    }
}

/// `kiln train DATASET --out OUT`, small.
pub fn train(dataset: &Path, out: &Path) -> Command {
    let mut command = kiln(["train"]);
    command.arg(dataset).arg("--out").arg(out).args(SMALL);
    command
}

/// Checks that training is refused in one line, and that nothing is left behind.
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

/// A unit sphere of colours that tell directions, before nothing.
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
    }
}

/// Writes a dataset of 6 training and 3 test views in Blender's format.
pub fn write_dataset(root: &Path) {
    for (split, n, start) in [(Split::Train, 6, 0.0), (Split::Test, 3, 0.4)] {
        let camera = |i: u8| {
            let angle: f32 = start + f32::from(i) / f32::from(n) * std::f32::consts::TAU;
            let eye = [3.5 * angle.cos(), 3.5 * angle.sin(), 2.0];
            Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.7, SIDE, SIDE)
        };
        let cameras: Vec<Camera> = (0..n).map(camera).collect();
        let images: Vec<Image> = cameras.iter().map(sphere).collect();
        write_blender(root, split, &cameras, &images, Some([2.0, 6.0])).unwrap();
    }
}

/// A dataset to spoil.
pub fn own_dataset() -> TempDir {
    let folder = TempDir::new().unwrap();
    write_dataset(folder.path());
    folder
}

/// What all tests may read and none may change.
pub struct Shared {
    /// The dataset.
    pub dataset: PathBuf,
    /// A run of [`STEPS`] steps.
    pub run: PathBuf,
    /// What training it printed with `--json`.
    pub stdout: String,
}

/// The shared dataset and run, made on first use.
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

/// A copy of the shared run, to change.
pub fn own_run() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    for (name, bytes) in files_in(&shared().run) {
        std::fs::write(run.join(name), bytes).unwrap();
    }
    (folder, run)
}

/// Names of what is in a folder, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The files of a folder that has no folders.
pub fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    names_in(folder)
        .into_iter()
        .map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap()))
        .collect()
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lines of JSON, nothing else.
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

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Steps that a run's last evaluation names.
pub fn steps_of(run: &Path) -> u64 {
    json(&run.join("eval.json"))["steps"].as_u64().unwrap()
}

/// Metadata of a checkpoint.
pub type Metadata = std::collections::HashMap<String, String>;
/// Tensors of a checkpoint as (dtype and shape, bytes).
pub type Tensors = BTreeMap<String, (String, Vec<u8>)>;

/// The metadata and tensors of a run's checkpoint.
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

/// Checks that two runs hold the same tensors, byte for byte.
pub fn assert_same_tensors(a: &Path, b: &Path) {
    let ((_, a), (_, b)) = (checkpoint(a), checkpoint(b));
    assert!(a.len() > 20 && a.keys().eq(b.keys()));
    let differ: Vec<&String> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(differ.is_empty(), "tensors differ: {differ:?}");
}

/// Rewrites a checkpoint with other metadata, leaving out the tensor called `without`.
pub fn rewrite_checkpoint(run: &Path, without: &str, change: impl FnOnce(&mut Metadata)) {
    let path = run.join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (mut metadata, _) = checkpoint(run);
    change(&mut metadata);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter(|(name, _)| *name != without);
    std::fs::write(&path, safetensors::serialize(kept, Some(metadata)).unwrap()).unwrap();
}
