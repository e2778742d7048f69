//! What a person meets around the commands: help, completions, interruptions, full disks.

use std::process::Command;
use std::time::{Duration, Instant};

use kiln::camera::Camera;
use kiln::dataset::{Split, write_blender};
use tempfile::TempDir;

use crate::support::*;

#[test]
fn kiln_alone_tells_a_newcomer_what_to_do() {
    let output = succeeds(&mut kiln::<&str>([]));
    let told = text(&output.stdout);
    for part in [
        "kiln demo",
        "kiln inspect DATASET",
        "kiln train DATASET",
        "--help",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn every_command_has_examples_completions_and_a_page() {
    let help = text(&succeeds(&mut kiln(["--help"])).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_whitespace().next())
        .filter(|c| *c != "help")
        .collect();
    assert!(commands.len() > 7, "{commands:?}");
    let pages = TempDir::new().unwrap();
    succeeds(kiln(["man", "--out"]).arg(pages.path()));
    for command in &commands {
        let page = std::fs::read_to_string(pages.path().join(format!("kiln-{command}.1"))).unwrap();
        assert!(page.contains(".SH EXAMPLES\n.nf\n"), "{page}");
        let help = text(&succeeds(&mut kiln([*command, "--help"])).stdout);
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(&succeeds(&mut kiln(["completions", shell])).stdout);
        assert!(commands.iter().all(|c| script.contains(c)), "{shell}");
        assert!(script.contains("turntable"), "{shell}");
    }
}

#[test]
fn images_too_large_for_a_software_adapter_get_a_factor_that_suits() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let camera = Camera::look_at([4.0, 0.0, 1.0], [0.0; 3], [0.0, 0.0, 1.0], 0.7, 3300, 24);
    for split in [Split::Train, Split::Test] {
        write_blender(folder.path(), split, &[camera], &[sphere(&camera)], None).unwrap();
    }
    let run = folder.path().join("run");
    let one_step = |more: &[&str]| {
        let mut command = train(folder.path(), &run);
        let output = succeeds(command.args(["--steps", "1", "--force"]).args(more));
        text(&output.stderr)
    };
    let told = one_step(&[]);
    if told.contains("software adapter,") {
        assert!(told.contains("--downscale 4 suits it"), "{told}");
        let told = one_step(&["--downscale", "4"]);
        assert!(!told.contains("more than a software adapter"), "{told}");
    }
}

#[test]
fn output_to_files_has_no_colours_and_no_bars() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let output = succeeds(
        train(&shared().dataset, &folder.path().join("run"))
            .args(["--steps", "3"])
            .env("CLICOLOR_FORCE", "0")
            .env("NO_COLOR", "1"),
    );
    for stream in [&output.stdout, &output.stderr] {
        assert!(!stream.contains(&0x1b) && !stream.contains(&b'\r'));
    }
}

/// A training that would not end, with its process.
#[cfg(unix)]
fn endless(run: &std::path::Path) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command
        .arg("train")
        .arg(&shared().dataset)
        .arg("--out")
        .arg(run)
        .args(SMALL)
        .args(["--steps", "1000000"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(run.with_extension("log")).unwrap());
    let child = command.spawn().unwrap();
    let started = Instant::now();
    let trains =
        || std::fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|m| m.contains("progress"));
    while !trains() {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "it does not train"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_is_saved_and_goes_on() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    for name in ["INT", "TERM", "HUP"] {
        let run = folder.path().join(name);
        let mut child = endless(&run);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let told = std::fs::read_to_string(run.with_extension("log")).unwrap();
        assert!(told.contains("kiln train --resume"), "{told}");
        let saved: u32 = checkpoint(&run).0["step"].parse().unwrap();
        assert!(saved > 0);
        let steps = (saved + 3).to_string();
        succeeds(kiln(["train", "--steps", &steps, "--resume"]).arg(&run));
        assert_eq!(steps_of(&run), u64::from(saved) + 3);
    }
}

/// A folder that holds `kib` KiB, where one can be had (as root, on Linux).
#[cfg(target_os = "linux")]
struct SmallDisk(TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn new(kib: u32) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|s| s.success()).then(|| Self(folder))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_no_checkpoint_that_was_there() {
    if !has_adapter() {
        return;
    }
    let size = std::fs::metadata(shared().run.join("checkpoint.safetensors"))
        .unwrap()
        .len()
        / 1024;
    let Some(disk) = SmallDisk::new(u32::try_from(size).unwrap() * 3 / 2) else {
        eprintln!("skipped: no small disk can be mounted");
        return;
    };
    let run = disk.0.path().join("run");
    succeeds(train(&shared().dataset, &run).args(["--steps", "3", "--eval-views", "1"]));
    let before = checkpoint(&run);
    // The next checkpoint has no room beside the one before.
    let lines = error_of(
        kiln(["train", "--steps", "6", "--eval-views", "1", "--resume"]).arg(&run),
        1,
    );
    assert!(lines[0].contains("checkpoint.safetensors"), "{lines:?}");
    assert!(lines[0].contains("No space left"), "{lines:?}");
    assert!(checkpoint(&run) == before, "what was saved is lost");
    assert!(!names_in(&run).iter().any(|n| n.ends_with(".partial")));
}

#[test]
fn event_files_are_written_where_asked_for() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeeds(train(&shared().dataset, &run).args(["--steps", "20", "--tensorboard"]));
    let names = names_in(&run.join("tensorboard"));
    assert_eq!(names.len(), 1, "{names:?}");
    let events = std::fs::read(run.join("tensorboard").join(&names[0])).unwrap();
    for tag in ["train/loss", "train/psnr", "test/psnr", "test/ssim"] {
        let found = events.windows(tag.len()).any(|w| w == tag.as_bytes());
        assert!(found, "{tag} is not in the event file");
    }
}
