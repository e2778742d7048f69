//! The examples, run on a small dataset.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;

use crate::support::*;

/// Return the command that runs an example in `folder`. Build the examples if only this test target was built.
fn example(name: &str, folder: &Path) -> Command {
    static BUILT: OnceLock<()> = OnceLock::new();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kiln"));
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let example = program.with_file_name("examples").join(file);
    if !example.exists() {
        BUILT.get_or_init(|| {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
            succeeds(cargo.args(["build", "--locked", "--examples"]));
        });
    }
    let mut command = Command::new(example);
    command
        .current_dir(folder)
        .timeout(std::time::Duration::from_mins(2));
    command
}

#[test]
fn a_field_is_trained_measured_and_rendered() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut train = example("train", folder.path());
    let output = succeeds(train.arg(&shared().dataset).arg("40"));
    let printed = text(&output.stdout);
    assert!(printed.contains("step 16: "), "{printed}");
    assert!(printed.contains("step 40: "), "{printed}");
    assert!(printed.contains("dB over 3 views"), "{printed}");
    let view = image::open(folder.path().join("view.png")).unwrap();
    assert_eq!([view.width(), view.height()], [SIDE, SIDE]);
    let runs = std::fs::read_dir(folder.path().join("runs")).unwrap();
    let run = runs.map(|entry| entry.unwrap().path()).next().unwrap();
    assert!(run.join("report.html").is_file());

    // Render the run along a camera path.
    let mut path = example("render_path", folder.path());
    succeeds(path.arg(&run).arg("path.gif"));
    let film = image::open(folder.path().join("path.gif")).unwrap();
    assert_eq!([film.width(), film.height()], [160, 120]);
    let mut usage = example("render_path", folder.path());
    let output = usage.arg(&run).output().unwrap();
    assert!(text(&output.stderr).contains("render_path RUN OUT.gif"));
}

#[test]
fn a_custom_method_is_trained() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut method = example("custom_method", folder.path());
    let output = succeeds(method.arg(&shared().dataset).arg("10"));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("kilonerf-small: ") && printed.contains(" dB"),
        "{printed}"
    );
}

#[test]
fn a_program_trains_on_its_own_device() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let output = succeeds(&mut example("embed", folder.path()));
    let printed = text(&output.stdout);
    let numbers: Vec<f64> = printed
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter_map(|n| n.parse().ok())
        .collect();
    let [red, green, blue, opacity] = numbers[..] else {
        panic!("{printed}");
    };
    assert!(red > 0.6 && green < 0.4 && blue < 0.4, "{printed}");
    assert!(opacity > 0.9, "{printed}");
}
