//! The first steps of README.md, typed in order as they are printed.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::*;

/// Return the commands of the `console` blocks in the section `heading` of README.md: lines that start with `$ `, without the
/// prompt, with the lines that continue them (`> `).
fn commands(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let mut commands: Vec<String> = Vec::new();
    for line in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
        } else if let (Some(rest), Some(command)) = (line.strip_prefix("> "), commands.last_mut()) {
            command.push('\n');
            command.push_str(rest);
        }
    }
    commands
}

#[test]
#[ignore = "takes minutes: make test-tools runs it"]
fn the_first_steps_of_the_readme_work_in_order() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let program = assert_cmd::cargo::cargo_bin!("kiln");
    let path = std::env::join_paths(std::iter::once(program.parent().unwrap().to_owned()).chain(
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()),
    ))
    .unwrap();
    let commands = commands("First steps");
    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        // Commands that open a window wait for the user to close it; tests/viewer.rs tests them.
        let opens_window = command.contains("kiln view") || command.contains("--view");
        if opens_window {
            continue;
        }
        let output = Command::new("sh")
            .args(["-ec", command])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command}\n{}",
            text(&output.stderr)
        );
    }
    // Everything that the text speaks of is there.
    for file in [
        "demo/orbit-rgb.gif",
        "runs/first/report.html",
        "orbit.gif",
        "flight.gif",
        "runs/student/report.html",
    ] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
}
