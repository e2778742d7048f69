//! Behaviour of all commands: help, completions, interruptions, full disks.

use std::process::Command;

use kiln::camera::Camera;
use kiln::dataset::{Split, write_blender};
use tempfile::TempDir;

use crate::support::*;

#[test]
fn kiln_without_arguments_suggests_first_commands() {
    let output = succeeds(&mut kiln::<&str>([]));
    let printed = text(&output.stdout);
    for part in [
        "kiln demo",
        "kiln inspect DATASET",
        "kiln train DATASET",
        "--help",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn every_command_has_examples_completions_and_a_man_page() {
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
fn a_downscale_factor_is_suggested_for_large_images_on_a_software_adapter() {
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
    let printed = one_step(&[]);
    if printed.contains("software adapter,") {
        assert!(
            printed.contains("--downscale 4 is a good choice"),
            "{printed}"
        );
        let printed = one_step(&["--downscale", "4"]);
        assert!(
            !printed.contains("large for a software adapter"),
            "{printed}"
        );
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

/// Start a training without an end, and return its process once it has reported progress.
#[cfg(unix)]
fn endless(run: &std::path::Path) -> std::process::Child {
    let mut command = endless_training(&shared().dataset, run);
    command.stderr(std::fs::File::create(run.with_extension("log")).unwrap());
    let child = command.spawn().unwrap();
    let trains =
        || std::fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|m| m.contains("progress"));
    wait_until(trains, "it does not train");
    child
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_is_saved_and_can_be_resumed() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    for name in ["INT", "TERM", "HUP"] {
        let run = folder.path().join(name);
        let mut child = endless(&run);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let printed = std::fs::read_to_string(run.with_extension("log")).unwrap();
        assert!(printed.contains("kiln train --resume"), "{printed}");
        let saved: u32 = checkpoint(&run).0["step"].parse().unwrap();
        assert!(saved > 0);
        let steps = (saved + 3).to_string();
        succeeds(kiln(["train", "--steps", &steps, "--resume"]).arg(&run));
        assert_eq!(steps_of(&run), u64::from(saved) + 3);
    }
}

/// A folder with room for `kib` KiB; only root on Linux can mount one.
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
fn a_full_disk_does_not_cost_the_previous_checkpoint() {
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
    // There is no room for the next checkpoint beside the previous one.
    let lines = error_of(
        kiln(["train", "--steps", "6", "--eval-views", "1", "--resume"]).arg(&run),
        1,
    );
    assert!(lines[0].contains("checkpoint.safetensors"), "{lines:?}");
    assert!(lines[0].contains("No space left"), "{lines:?}");
    assert!(
        checkpoint(&run) == before,
        "the previous checkpoint is lost"
    );
    assert!(!names_in(&run).iter().any(|n| n.ends_with(".partial")));
}

#[test]
fn event_files_are_written_on_request() {
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
