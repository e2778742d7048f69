//! Meta-learned initialisations: `meta`, `train --init` and `meta-eval`.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use kiln::camera::Camera;
use kiln::dataset::write_splits;
use tempfile::TempDir;

use crate::support::*;

/// Settings that make a step of learned initialisations take milliseconds on a software adapter.
const FEW: [&str; 6] = [
    "--method=learnit-small",
    "--set=training.n_rays=16",
    "--set=passes.sampler.stratified.n_samples=8",
    "--set=passes.field.density_network.n_neurons=8",
    "--set=passes.field.position_encoding.frequency.n_frequencies=4",
    "--set=meta.inner_steps=4",
];
const VIEWS: u8 = 5;

/// Write an object of [`VIEWS`] views: a sphere with one colour channel dimmed.
fn write_object(folder: &Path, dimmed: usize, side: u32) {
    let camera = |i: u8| {
        let angle = f32::from(i) / f32::from(VIEWS) * std::f32::consts::TAU;
        camera(angle, side)
    };
    let cameras: Vec<Camera> = (0..VIEWS).map(camera).collect();
    let mut images: Vec<_> = cameras.iter().map(sphere).collect();
    for image in &mut images {
        image
            .pixels
            .chunks_exact_mut(4)
            .for_each(|p| p[dimmed % 3] /= 3);
    }
    kiln::dataset::write_object(folder, &cameras, &images, [2.0, 6.0]).unwrap();
}

/// Create a folder of four training objects and a held-out one.
fn objects(side: u32) -> TempDir {
    let root = TempDir::new().unwrap();
    let names = ["a", "b", "c", "d", "e"];
    for (i, name) in names.iter().enumerate() {
        write_object(&root.path().join(name), i, side);
    }
    let of = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let splits = [of(&names[..4]), of(&names[4..])];
    write_splits(&root.path().join("ball_splits.json"), &splits).unwrap();
    root
}

fn meta(root: &Path, out: &Path) -> Command {
    let mut command = kiln(["meta"]);
    command.arg(root).arg("--out").arg(out).args(FEW);
    command
}

/// Create a folder of objects, and a run of a few outer steps on them.
fn learned() -> (TempDir, PathBuf) {
    let root = objects(SIDE);
    let run = root.path().join("runs/balls");
    let output = succeeds(meta(root.path(), &run).args(["--steps", "3"]));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("4 for training, 1 held out"), "{stderr}");
    assert!(
        stderr.contains("all objects stay on the device"),
        "{stderr}"
    );
    assert!(text(&output.stdout).contains("held out: PSNR"));
    (root, run)
}

#[test]
fn a_new_object_starts_from_the_learned_initialisation() {
    if !has_adapter() {
        return;
    }
    let (root, run) = learned();
    for file in [
        "config.toml",
        "checkpoint.safetensors",
        "metrics.jsonl",
        "eval.json",
        "report.html",
    ] {
        assert!(run.join(file).is_file(), "no {file}");
    }
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(log.contains("\"first_psnr\":"), "{log}");

    // Before the first step the weights are exactly the learned ones.
    let object = root.path().join("e");
    let train = |out: &str, more: &[&str]| {
        let mut command = kiln(["train"]);
        command.arg(&object).arg("--init").arg(&run);
        command.arg("--out").arg(root.path().join(out)).args(more);
        command
    };
    succeeds(&mut train("at_0", &["--train-views", "0", "--steps", "0"]));
    let (metadata, (_, ours)) = (checkpoint(&run).1, checkpoint(&root.path().join("at_0")));
    let mut compared = 0;
    for (name, tensor) in metadata
        .iter()
        .filter(|(n, _)| n.starts_with("density_network."))
    {
        assert!(ours[name] == *tensor, "{name} differs");
        compared += 1;
    }
    assert_eq!(compared, 8);

    // Train on one view, and evaluate on all others.
    succeeds(&mut train("at_5", &["--train-views", "0", "--steps", "5"]));
    let new = root.path().join("at_5");
    let report = || json(&new.join("eval.json"));
    let others = ["rgb_01", "rgb_02", "rgb_03", "rgb_04"];
    assert_eq!(view_names(&report()), others);
    succeeds(kiln(["eval"]).arg(&new));
    assert_eq!(view_names(&report()), others);
    let views = root.path().join("views");
    succeeds(
        kiln(["render", "--turntable", "2", "--out"])
            .arg(&views)
            .arg(&new),
    );
    assert_eq!(names_in(&views).len(), 2);
    // The new run can be resumed like any run, without the run that it was initialised from.
    std::fs::rename(&run, root.path().join("elsewhere")).unwrap();
    succeeds(kiln(["train", "--steps", "8", "--resume"]).arg(&new));
    assert_eq!(steps_of(&new), 8);
}

#[test]
fn meta_eval_compares_learned_and_random_initialisations() {
    if !has_adapter() {
        return;
    }
    let (_root, run) = learned();
    let output = succeeds(kiln(["meta-eval", "--steps", "4,0", "--json"]).arg(&run));
    let lines = json_lines(&text(&output.stdout));
    let of = |event: &str| lines.iter().filter(|l| l["event"] == event).count();
    assert_eq!((of("object"), of("meta-eval")), (4, 1));
    let report = json(&run.join("meta-eval.json"));
    let means = report["means"].as_array().unwrap();
    let steps: Vec<_> = means.iter().map(|m| m["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 0, 4, 4]);
    assert_eq!(
        (&report["outer_steps"], &report["objects"]),
        (&3.into(), &1.into())
    );
    assert_eq!(report["background"], "white");
    let image = kiln::dataset::Image::load(&run.join("meta-eval.png")).unwrap();
    // An input view, a label and four novel views side by side, in three rows.
    assert!(image.width > 5 * SIDE && image.height > 3 * SIDE);

    let output = succeeds(kiln(["meta-eval", "--steps", "0", "--train-views", "2"]).arg(&run));
    assert!(text(&output.stdout).contains("trained on 2 views each"));
    let refuse =
        |more: &[&str], words: &[&str]| refused(kiln(["meta-eval"]).arg(&run).args(more), 2, words);
    let copy = std::fs::read(run.join("config.toml")).unwrap();
    std::fs::write(run.join("config.toml"), "garbage").unwrap();
    let output = succeeds(kiln(["meta-eval", "--steps", "0"]).arg(&run));
    let printed = text(&output.stderr);
    assert_eq!(printed.matches("copy for reading").count(), 1, "{printed}");
    std::fs::write(run.join("config.toml"), copy).unwrap();
    let output = succeeds(kiln(["meta-eval", "--steps", "0"]).arg(&run));
    assert!(!text(&output.stderr).contains("copy for reading"));
    refuse(&["--train-views", "5"], &["--train-views 5", "5 views"]);
    refuse(
        &["--train-views", "0,9"],
        &["--train-views 9", "numbered 0"],
    );
    refuse(&["--train-views", "3..9"], &["no view 5", "0 to 4"]);
    refuse(&["--train-views", "all"], &["--train-views all", "5 views"]);
    refuse(&["--eval-views", "0,1"], &["--eval-views 0", "trained on"]);
    refuse(&["--root", "/nowhere"], &["/nowhere", "--root"]);
    refuse(&["--train-views", "1,1"], &["view 1 is selected twice"]);
    refused(kiln(["eval"]).arg(&run), 2, &["meta-eval", "--dataset"]);
    let of_one_scene = &shared().run;
    refused(
        kiln(["meta-eval"]).arg(of_one_scene),
        2,
        &["run of one scene", "kiln meta"],
    );
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_wherever_its_images_stay() {
    if !has_adapter() {
        return;
    }
    // Use objects that do not all fit in 1 MiB.
    let root = objects(128);
    let at = |name: &str| root.path().join("runs").join(name);
    succeeds(meta(root.path(), &at("whole")).args(["--steps", "9"]));
    let streamed = ["--set=meta.resident_mib=1", "--steps", "4"];
    let output = succeeds(meta(root.path(), &at("parts")).args(streamed));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("2 objects at a time"), "{stderr}");
    succeeds(kiln(["meta", "--steps", "9", "--resume"]).arg(at("parts")));
    assert_same_tensors(&at("whole"), &at("parts"));
    let output = succeeds(kiln(["inspect"]).arg(at("parts")));
    assert!(text(&output.stdout).contains("learnit-small"));
    refused(
        kiln(["train", "--resume"]).arg(at("parts")),
        2,
        &["kiln meta --resume", "--init"],
    );
    // A run cannot be resumed with other objects.
    write_object(&root.path().join("a"), 2, 128);
    std::fs::remove_file(root.path().join("a/rgb_00.png")).unwrap();
    refused(
        kiln(["meta", "--steps", "12", "--resume"]).arg(at("parts")),
        2,
        &["not those that", "same splits"],
    );
}

#[test]
fn the_initialisation_of_a_hash_grid_is_learned_too() {
    if !has_adapter() {
        return;
    }
    let root = objects(SIDE);
    let run = root.path().join("run");
    let mut command = kiln(["meta"]);
    command.arg(root.path()).arg("--out").arg(&run).args(SMALL);
    succeeds(command.args(["--set=meta.inner_steps=3", "--steps", "3"]));
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(
        config.contains("[meta.optimizer]") && config.contains("algorithm = \"sgd\""),
        "{config}"
    );
    let out = root.path().join("new");
    let mut command = kiln(["train", "--steps", "60", "--train-views", "0", "--init"]);
    succeeds(
        command
            .arg(&run)
            .arg("--out")
            .arg(&out)
            .arg(root.path().join("e")),
    );
    assert_eq!(steps_of(&out), 60);
    assert!(
        !std::fs::read_to_string(out.join("config.toml"))
            .unwrap()
            .contains("[meta")
    );
    // Render the object from several sides, although it was trained on one view.
    let views = root.path().join("views");
    succeeds(
        kiln(["render", "--turntable", "3", "--out"])
            .arg(&views)
            .arg(&out),
    );
    let images = files_in(&views);
    let images: Vec<_> = images.values().collect();
    assert!(images.len() == 3 && images[0] != images[1]);
    succeeds(kiln(["meta-eval", "--steps", "2"]).arg(&run));
}

#[test]
fn unusable_objects_are_refused_or_skipped_by_name() {
    if !has_adapter() {
        return;
    }
    let root = objects(SIDE);
    let out = root.path().join("run");
    let refuse = |more: &[&str], code: i32, words: &[&str]| {
        refused(
            meta(root.path(), &out).args(["--steps", "1"]).args(more),
            code,
            words,
        );
        assert!(!out.exists(), "left behind");
    };
    let write = |name: &str, train: &[&str]| {
        let file = root.path().join(name);
        std::fs::write(&file, serde_json::json!({ "train": train }).to_string()).unwrap();
        file.display().to_string()
    };
    let missing = write("missing.json", &["a", "nowhere"]);
    refuse(
        &["--splits", &missing],
        1,
        &["missing.json", "nowhere", "--splits"],
    );
    let single = write("single.json", &["a"]);
    refuse(
        &["--splits", &single],
        1,
        &["1 object to learn from", "two"],
    );
    let mut command = kiln(["inspect", "--splits", &single]);
    refused(command.arg(root.path()), 1, &["1 object to learn from"]);
    refuse(&["--train-fraction", "0"], 2, &["--train-fraction 0"]);
    refuse(&["--seconds", "-1"], 2, &["--seconds -1"]);
    refuse(
        &["--set=meta.inner_steps=0"],
        2,
        &["meta.inner_steps", "between 1 and 256"],
    );
    refuse(
        &["--set=meta.optimizer.learning_rate=0"],
        2,
        &["meta.optimizer.learning_rate", "positive"],
    );
    refused(&mut kiln(["meta"]), 2, &["no ROOT given"]);
    refused(
        kiln(["meta"]).arg(root.path().join("a")),
        1,
        &["is one scene"],
    );
    refused(
        kiln(["train"]).arg(root.path()),
        1,
        &["no dataset here", "a, b, c"],
    );

    // A damaged image is detected before training starts.
    let image = root.path().join("c/rgb_02.png");
    let whole = std::fs::read(&image).unwrap();
    std::fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    refuse(&[], 1, &["rgb_02.png", "cannot be decoded"]);
    let output = kiln(["inspect"]).arg(root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("rgb_02.png"));
    std::fs::write(&image, &whole).unwrap();

    // Make one object without images, and one of another size.
    for i in 0..VIEWS {
        std::fs::remove_file(root.path().join(format!("a/rgb_{i:02}.png"))).unwrap();
    }
    write_object(&root.path().join("b"), 1, 2 * SIDE);
    let output = succeeds(meta(root.path(), &out).args(["--steps", "1"]));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("a is left out: ") && stderr.contains("none of the 5 images"),
        "{stderr}"
    );
    assert!(
        stderr.contains("b is left out: has images of 48 × 48"),
        "{stderr}"
    );
    let output = kiln(["inspect"]).arg(root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("2 training objects, 1 held out"),
        "{stdout}"
    );
    assert!(
        stdout.contains("left out: a: ") && stdout.contains("left out: b: "),
        "{stdout}"
    );

    // With networks of another shape, the error names the first tensor that differs.
    let new = root.path().join("new");
    let mut command = kiln(["train", "--init"]);
    command
        .arg(&out)
        .arg(root.path().join("e"))
        .arg("--out")
        .arg(&new);
    let wider = "--set=passes.field.density_network.n_neurons=12";
    refused(
        command.arg(wider),
        2,
        &["--init", "density_network.0.weight", "[12, 24]"],
    );
    let mut command = kiln(["train", "--method", "ngp-small", "--init"]);
    command
        .arg(&out)
        .arg(root.path().join("e"))
        .arg("--out")
        .arg(&new);
    refused(
        &mut command,
        2,
        &["--init", "position_encoding.level_0", "ngp-small"],
    );
    assert!(!new.exists());
    refused(
        kiln(["train", "--init", "/nowhere"]).arg(root.path().join("e")),
        1,
        &["/nowhere", "no such run"],
    );
}

#[test]
fn changed_images_of_objects_are_reported_once() {
    if !has_adapter() {
        return;
    }
    // Test objects that all stay on the device, and objects that are streamed.
    for (side, more) in [(SIDE, &[][..]), (128, &["--set=meta.resident_mib=1"])] {
        let root = objects(side);
        let run = root.path().join("run");
        // Run one step more than there are training objects.
        succeeds(meta(root.path(), &run).args(["--steps", "5"]).args(more));
        let mut steps = 5;
        let mut resume = |root: &Path| {
            steps += 5;
            let steps = steps.to_string();
            let mut command = kiln(["meta", "--steps", &steps, "--resume"]);
            let output = succeeds(command.arg(&run).arg(root));
            text(&output.stderr)
        };
        let key = || checkpoint(&run).0["image_fingerprint"].clone();
        let known = key();
        assert!(known.split(',').all(|one| one.len() == 16), "{known}");
        assert_eq!(known.split(',').count(), 4);
        let copy = objects(side);
        assert!(!resume(copy.path()).contains("their files have changed"));
        assert_eq!(key(), known);
        write_object(&copy.path().join("b"), 2, side);
        write_object(&copy.path().join("c"), 0, side);
        let printed = resume(copy.path());
        assert_eq!(
            printed.matches("their files have changed").count(),
            1,
            "{printed}"
        );
        assert!(printed.contains("those of b are") || printed.contains("those of c are"));
        assert_ne!(key(), known);
        assert!(!resume(copy.path()).contains("their files have changed"));
    }
}
