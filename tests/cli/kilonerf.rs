//! Grids of networks: training, resuming, distillation from another run, evaluation and rendering.

use std::path::Path;

use assert_cmd::Command;
use kiln::camera::Camera;
use kiln::dataset::{Split, write_blender, write_object};
use tempfile::TempDir;

use crate::support::*;

/// Settings that make a step of a grid of networks take milliseconds on a software adapter.
const FEW: [&str; 8] = [
    "--set=training.batch_size=2048",
    "--set=occupancy.resolution=16",
    "--set=passes.sampler.ray_march.steps=32",
    "--set=passes.field.cells.longest=3",
    "--set=passes.field.n_density_outputs=9",
    "--set=passes.field.density_network.n_neurons=8",
    "--set=passes.field.density_network.n_hidden_layers=1",
    "--set=passes.field.color_network.n_neurons=8",
];

fn train_grid(dataset: &Path, out: &Path) -> Command {
    let mut command = kiln(["train", "--method", "kilonerf-small"]);
    command.arg(dataset).arg("--out").arg(out).args(FEW);
    command
}

fn distill(teacher: &Path, out: &Path) -> Command {
    let mut command = kiln(["distill", "--method", "kilonerf-small"]);
    command.arg(teacher).arg("--out").arg(out).args(FEW).args([
        "--set=distillation.supersampling=2",
        "--set=distillation.threshold=1e-4",
    ]);
    command
}

#[test]
fn a_resumed_grid_equals_an_uninterrupted_one() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dataset = &shared().dataset;
    let average = "--set=optimizer.ema_decay=0.9";
    succeeds(train_grid(dataset, &at("whole")).args(["--steps", "24", average]));
    succeeds(train_grid(dataset, &at("halves")).args(["--steps", "11", average]));
    succeeds(kiln(["train", "--steps", "24", "--resume"]).arg(at("halves")));
    assert_same_tensors(&at("whole"), &at("halves"));
    let (_, tensors) = checkpoint(&at("whole"));
    for (name, shape) in [
        ("density_network.0.weight", "F32 [27, 8, 27]"),
        ("density_network.0.bias", "F32 [27, 8]"),
        ("cells", "U32 [3, 3, 3]"),
        ("updates.cells", "U32 [27, 2]"),
    ] {
        assert_eq!(tensors[name].0, shape, "{name}");
    }

    succeeds(kiln(["eval"]).arg(at("halves")));
    assert_eq!(steps_of(&at("halves")), 24);
    let out = at("views");
    let channels = ["--channels", "rgb,depth,normal,opacity", "--out"];
    succeeds(
        kiln(["render", "--turntable", "2"])
            .args(channels)
            .arg(&out)
            .arg(at("halves")),
    );
    assert_eq!(names_in(&out).len(), 8);
}

#[test]
fn a_student_of_a_dataset_without_splits_has_the_training_views_of_its_teacher() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let angles = (0..4_u8).map(|i| f32::from(i) * 1.5);
    let cameras: Vec<Camera> = angles.map(|angle| camera(angle, SIDE)).collect();
    let images: Vec<_> = cameras.iter().map(sphere).collect();
    write_object(&at("ball"), &cameras, &images, [2.0, 6.0]).unwrap();
    succeeds(train(&at("ball"), &at("teacher")).args(["--train-views", "1,3", "--steps", "40"]));
    succeeds(distill(&at("teacher"), &at("student")).args([
        "--distill-steps",
        "2",
        "--steps",
        "4",
    ]));
    let report = json(&at("student").join("eval.json"));
    assert_eq!(view_names(&report), ["rgb_00", "rgb_02"]);
}

#[test]
fn a_hash_grid_feeds_a_grid_of_networks_by_configuration_alone() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let mut command = train(&shared().dataset, &out);
    // Occluded samples are culled, so the remaining ones are sorted again.
    command.args(["--steps", "20", "--set=passes.field.cells={ longest = 4 }"]);
    succeeds(&mut command);
    let (_, tensors) = checkpoint(&out);
    let shape = &tensors["color_network.0.weight"].0;
    assert!(shape.starts_with("F32 [64, "), "{shape}");
    assert!(tensors.contains_key("position_encoding.level_0"));
    succeeds(kiln(["eval"]).arg(&out));
}

#[test]
fn the_distilled_field_is_kept_where_fine_tuning_makes_it_worse() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dataset = at("sphere");
    write_dataset(&dataset);
    let cameras: Vec<Camera> = [0.7, 2.9].map(|angle| camera(angle, SIDE)).to_vec();
    let images: Vec<_> = cameras.iter().map(sphere).collect();
    write_blender(&dataset, Split::Val, &cameras, &images, Some([2.0, 6.0])).unwrap();
    succeeds(train(&dataset, &at("teacher")).args(["--steps", "60"]));
    // Fine-tuning on black images lowers the quality of all views.
    for name in names_in(&dataset.join("train")) {
        let path = dataset.join("train").join(name);
        let size = image::image_dimensions(&path).unwrap();
        image::RgbaImage::from_pixel(size.0, size.1, image::Rgba([0, 0, 0, 255]))
            .save(path)
            .unwrap();
    }
    let student = at("student");
    let output = succeeds(distill(&at("teacher"), &student).args([
        "--distill-steps",
        "40",
        "--steps",
        "80",
    ]));
    let printed = text(&output.stderr);
    let lowered = "fine-tuning lowered the PSNR of 2 validation views";
    assert!(printed.contains(lowered), "{printed}");
    assert!(student.join("best.safetensors").is_file());
    assert_eq!(json(&student.join("eval.json"))["steps"], 40);
    // Every reader uses it and says so.
    let output = succeeds(kiln(["eval"]).arg(&student));
    let printed = text(&output.stderr);
    assert!(printed.contains("using its distilled field"), "{printed}");
    assert_eq!(json(&student.join("eval.json"))["steps"], 40);
    let printed = text(&succeeds(kiln(["inspect"]).arg(&student)).stdout);
    assert!(
        printed.contains("its distilled field, of step 40"),
        "{printed}"
    );
    assert!(!printed.contains("eval.json is of step"), "{printed}");
    // Training goes on from the last state, as if nothing had been kept.
    succeeds(kiln(["train", "--steps", "90", "--resume"]).arg(&student));
    let whole = at("whole");
    succeeds(distill(&at("teacher"), &whole).args(["--distill-steps", "40", "--steps", "90"]));
    assert_same_tensors(&whole, &student);
    assert!(student.join("best.safetensors").is_file());
    assert!(!student.join("distilled.safetensors").exists());
    assert_eq!(steps_of(&student), 40);
}

#[test]
fn test_views_never_choose_the_stage_of_a_student() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dataset = at("sphere");
    // Validation views, which serve as test views too.
    for (split, n, start) in [(Split::Train, 8_u8, 0.0), (Split::Val, 3, 0.4)] {
        let cameras: Vec<Camera> = (0..n)
            .map(|i| camera(start + f32::from(i) * 0.7, SIDE))
            .collect();
        let images: Vec<_> = cameras.iter().map(sphere).collect();
        write_blender(&dataset, split, &cameras, &images, Some([2.0, 6.0])).unwrap();
    }
    succeeds(train(&dataset, &at("teacher")).args(["--steps", "60"]));
    let output = succeeds(distill(&at("teacher"), &at("student")).args([
        "--distill-steps",
        "6",
        "--steps",
        "10",
    ]));
    let printed = text(&output.stderr);
    assert!(printed.contains("2 training views held back"), "{printed}");
    assert!(printed.contains("PSNR of 2 held-back views"), "{printed}");
}

#[test]
fn distillation_and_fine_tuning_can_both_be_resumed() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let teacher = at("teacher");
    succeeds(train(&shared().dataset, &teacher).args(["--steps", "60"]));
    let steps = ["--distill-steps", "12", "--steps"];
    let output = succeeds(distill(&teacher, &at("whole")).args(steps).arg("20"));
    let printed = text(&output.stderr);
    for part in [
        "cells get networks",
        "teacher ",
        "distilled: test PSNR",
        "fine-tuned: test PSNR",
        "1 training view held back",
        "the PSNR of 1 held-back view",
    ] {
        assert!(printed.contains(part), "{part} is missing from {printed}");
    }
    // Interrupt the run once during distillation, and once during fine-tuning.
    succeeds(distill(&teacher, &at("parts")).args(steps).arg("7"));
    succeeds(kiln(["train", "--steps", "15", "--resume"]).arg(at("parts")));
    succeeds(kiln(["train", "--steps", "20", "--resume"]).arg(at("parts")));
    assert_same_tensors(&at("whole"), &at("parts"));
    let report = std::fs::read_to_string(at("whole").join("report.html")).unwrap();
    assert!(report.contains("<td>distilled</td>"));

    // Do the same with micro-batches, whose gradients are accumulated.
    let in_parts = |out: &Path, n: &str| {
        let mut command = distill(&teacher, out);
        command
            .args(steps)
            .args([n, "--set=training.micro_batches=2"]);
        succeeds(&mut command);
    };
    in_parts(&at("two"), "16");
    in_parts(&at("two-resumed"), "12");
    succeeds(kiln(["train", "--steps", "16", "--resume"]).arg(at("two-resumed")));
    assert_same_tensors(&at("two"), &at("two-resumed"));

    // A teacher is never overwritten. No run is overwritten if `--compare` names a run that does not exist.
    let before = names_in(&at("whole"));
    for (flag, code, part) in [
        (
            ["--out"].as_slice(),
            2,
            "that is the teacher or a run to compare with",
        ),
        (&["--compare=nowhere", "--out"], 1, "no such run"),
    ] {
        let mut command = kiln(["distill", "--force", "--steps=2"]);
        let from = if code == 2 {
            at("whole")
        } else {
            teacher.clone()
        };
        command.arg(from).args(flag).arg(at("whole"));
        refused(&mut command, code, &[part]);
        assert_eq!(names_in(&at("whole")), before);
    }

    // A student may be a teacher of another student. It has as many networks as fit: about 3.7 KiB each, with four copies of
    // the weights.
    succeeds(
        distill(&at("whole"), &at("grandchild"))
            .args(steps)
            .args(["14", "--set=passes.field.cells.memory_mib=0.2"]),
    );
    let (_, grandchild) = checkpoint(&at("grandchild"));
    let networks = grandchild["updates.cells"].1.len() / 8;
    let config = std::fs::read_to_string(at("grandchild").join("config.toml")).unwrap();
    assert!(config.contains(&format!("occupied = {networks}")) && !config.contains("memory_mib"));
    let is_parameter =
        |n: &&String| n.starts_with("density_network.") || n.starts_with("color_network.");
    let parameters = grandchild.keys().filter(is_parameter);
    let all: usize = parameters.map(|n| grandchild[n].1.len() / 4).sum();
    assert!(all * 5 * 4 <= (0.2 * f64::from(1 << 20)) as usize);

    // Stages that an interrupted run did not report are reported when it is resumed.
    let mut command = distill(&teacher, &at("cut"));
    command
        .args(steps)
        .arg("12")
        .arg("--compare")
        .arg(at("two"));
    succeeds(&mut command);
    let metrics = at("cut").join("metrics.jsonl");
    let log = std::fs::read_to_string(&metrics).unwrap();
    let is_kept = |line: &&str| !line.contains(r#""event":"stage""#);
    let kept: Vec<&str> = log.lines().filter(is_kept).collect();
    assert_eq!(log.lines().count() - kept.len(), 3);
    std::fs::write(&metrics, kept.join("\n") + "\n").unwrap();
    let output = succeeds(kiln(["train", "--steps", "20", "--resume"]).arg(at("cut")));
    let printed = text(&output.stderr);
    for part in ["teacher ", "compared ", "distilled: ", "fine-tuned: "] {
        assert!(printed.contains(part), "{part} is missing from {printed}");
    }

    let output = succeeds(distill(&teacher, &at("early")).args(steps).arg("7"));
    assert!(text(&output.stderr).contains("7 of 12 distillation steps are done"));
    let before = std::fs::read(at("early").join("checkpoint.safetensors")).unwrap();
    succeeds(kiln(["train", "--steps", "62", "--resume"]).arg(&teacher));
    let resumed = || {
        let mut command = kiln(["train", "--steps", "20", "--resume"]);
        command.arg(at("early"));
        command
    };
    refused(&mut resumed(), 2, &["has changed since"]);
    std::fs::rename(&teacher, at("elsewhere")).unwrap();
    refused(&mut resumed(), 2, &["does not exist: put it back"]);
    let after = std::fs::read(at("early").join("checkpoint.safetensors")).unwrap();
    assert_eq!(before, after, "the run is unchanged");
    // After distillation a student needs no teacher.
    succeeds(kiln(["train", "--steps", "22", "--resume"]).arg(at("whole")));
}

#[test]
fn what_cannot_be_distilled_is_refused() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = &shared().run;
    let fails = |command: &mut Command, code: i32, part: &str| {
        refused(command, code, &[part]);
        assert!(!at("out").exists());
    };
    let steps = ["--steps", "4"];
    fails(
        distill(run, &at("out"))
            .args(steps)
            .arg("--set=distillation.threshold=1e9"),
        1,
        "has no occupied cell",
    );
    fails(
        distill(run, &at("out"))
            .args(steps)
            .arg("--set=passes.field.cells.low=[0.9, 0.9, 0.9]"),
        1,
        "no camera sees the grid of networks",
    );
    let other = at("other");
    write_dataset(&other);
    let transforms = other.join("transforms_train.json");
    let moved = std::fs::read_to_string(&transforms)
        .unwrap()
        .replacen("0.7", "0.71", 1);
    std::fs::write(&transforms, moved).unwrap();
    fails(
        distill(run, &at("out"))
            .args(steps)
            .arg("--dataset")
            .arg(&other),
        2,
        "training cameras differ from those",
    );
    fails(
        distill(run, &at("out"))
            .args(steps)
            .arg("--set=scene.scale=0.2"),
        2,
        "a student uses its teacher's scene",
    );
    fails(
        distill(&at("nothing"), &at("out")).args(steps),
        1,
        "no such run",
    );
    let mut none = distill(run, &at("out"));
    none.arg("--distill-steps=0").assert().code(2);
    let mut command = train_grid(&shared().dataset, &at("out"));
    fails(
        command.arg("--set=passes.field.cells.occupied=5"),
        2,
        "cells.occupied is extracted from a teacher",
    );
    let mut command = kiln(["distill", "--method", "ngp-small"]);
    fails(
        command.arg(run).arg("--out").arg(at("out")),
        2,
        "is not a grid of networks",
    );
    // A student's configuration needs its teacher.
    succeeds(distill(run, &at("student")).args(["--steps", "2", "--distill-steps", "1"]));
    let mut command = kiln(["train", "--config"]);
    command.arg(at("student").join("config.toml"));
    command.arg(&shared().dataset).arg("--out").arg(at("out"));
    fails(&mut command, 2, "needs its teacher: run kiln distill ");
    let mut command = kiln([
        "train",
        "--method",
        "kilonerf-small",
        "--set=passes.field.cells.longest=26",
    ]);
    command.arg(&shared().dataset).arg("--out").arg(at("out"));
    fails(&mut command, 1, "or less with --set");
    let corner = "--set=passes.field.cells.low=[0.7, 0.7, 0.7]";
    let mut command = train_grid(&shared().dataset, &at("corner"));
    let output = succeeds(command.args(["--steps", "1", corner]));
    let printed = text(&output.stderr);
    assert!(
        printed.contains("which the grid of networks, "),
        "{printed}"
    );
    for (memory, code, part) in [
        ("0.001", 1, "a single cell take"),
        ("0", 2, "must be positive"),
    ] {
        let mut command = kiln(["train", "--method", "kilonerf-small"]);
        command.arg(format!("--set=passes.field.cells.memory_mib={memory}"));
        command.arg(&shared().dataset).arg("--out").arg(at("out"));
        fails(&mut command, code, part);
    }
    let mut command = kiln([
        "train",
        "--method",
        "kilonerf-small",
        "--set=passes.field.cells.low=[0.5, 0.5, 1.0]",
    ]);
    command.arg(&shared().dataset).arg("--out").arg(at("out"));
    fails(&mut command, 2, "low below high");
}
