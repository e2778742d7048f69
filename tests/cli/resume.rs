//! `kiln train --resume`: an interrupted run continues as if it had not been interrupted.

use kiln::dataset::Image;
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::support::*;

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    // Stop between two occupancy updates and between two progress reports.
    succeeds(train(&shared().dataset, &run).args(["--steps", "13"]));
    assert_eq!(steps_of(&run), 13);
    succeeds(
        kiln(["train", "--steps", "27", "--resume"])
            .arg(&run)
            .arg(&shared().dataset),
    );
    // Resume without DATASET, and with the path of the checkpoint instead of its run.
    let checkpoint = run.join("checkpoint.safetensors");
    succeeds(kiln(["train", "--steps", &STEPS.to_string(), "--resume"]).arg(&checkpoint));
    assert_eq!(steps_of(&run), u64::from(STEPS));
    assert_same_tensors(&shared().run, &run);

    let metrics = json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let steps = |event: &str| -> Vec<u64> {
        let lines = metrics.iter().filter(|line| line["event"] == event);
        lines.map(|line| line["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps("progress"), [13, 16, 27, 32, 40]);
    assert_eq!(steps("start"), [0, 13, 27]);
    assert_eq!(steps("eval"), [13, 27, 40]);
}

#[test]
fn a_field_without_tables_is_resumed_too() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (parts, whole) = (folder.path().join("parts"), folder.path().join("whole"));
    let frequencies = "--set=passes.field.position_encoding={frequency={n_frequencies=5}}";
    let train = |run| {
        let mut command = train(&shared().dataset, run);
        command.args([frequencies, "--eval-views", "1"]);
        command
    };
    succeeds(train(&parts).args(["--steps", "9"]));
    succeeds(kiln(["train", "--steps", "22", "--eval-views", "1", "--resume"]).arg(&parts));
    succeeds(train(&whole).args(["--steps", "22"]));
    let (_, tensors) = checkpoint(&whole);
    assert!(
        !tensors
            .keys()
            .any(|name| name.contains("position_encoding"))
    );
    assert_same_tensors(&whole, &parts);
    succeeds(kiln(["inspect"]).arg(&parts));
    succeeds(kiln(["eval", "--eval-views", "1"]).arg(&parts));
}

#[test]
fn a_killed_run_resumes_from_its_last_checkpoint() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (killed, whole) = (folder.path().join("killed"), folder.path().join("whole"));
    let mut command = endless_training(&shared().dataset, &killed);
    command.args(["--checkpoint-every", "0.05"]);
    command.stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let is_saved = || {
        std::fs::read(killed.join("checkpoint.safetensors"))
            .is_ok_and(|b| SafeTensors::deserialize(&b).is_ok())
    };
    wait_until(is_saved, "no checkpoint appeared");
    child.kill().unwrap();
    child.wait().unwrap();

    let saved: u32 = checkpoint(&killed).0["step"].parse().unwrap();
    assert!(saved > 0);
    let steps = (saved + 9).to_string();
    succeeds(kiln(["train", "--steps", &steps, "--resume"]).arg(&killed));
    succeeds(train(&shared().dataset, &whole).args(["--steps", &steps]));
    assert_same_tensors(&whole, &killed);
    // Lines that the killed process wrote after its last checkpoint are not duplicated.
    let metrics = json_lines(&std::fs::read_to_string(killed.join("metrics.jsonl")).unwrap());
    let progress = metrics.iter().filter(|line| line["event"] == "progress");
    let steps: Vec<u64> = progress
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    assert_eq!(
        names_in(&killed),
        [
            "checkpoint.safetensors",
            "config.toml",
            "eval.json",
            "metrics.jsonl",
            "report.html"
        ]
    );
}

#[test]
fn a_line_cut_short_is_dropped_from_the_metrics() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let path = run.join("metrics.jsonl");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        format!("{good}{{\"schema\":1,\"event\":\"progress\",\"step\":48}}\n{{\"schema\":1,\"ev"),
    )
    .unwrap();
    succeeds(kiln(["train", "--steps", "20", "--resume"]).arg(&run));
    let now = std::fs::read_to_string(&path).unwrap();
    assert!(now.starts_with(&good));
    let events = json_lines(&now[good.len()..]);
    let events: Vec<&str> = events.iter().filter_map(|l| l["event"].as_str()).collect();
    assert_eq!(events, ["start", "eval"]);
    assert_eq!(
        steps_of(&run),
        u64::from(STEPS),
        "fewer steps than done change nothing"
    );
}

#[test]
fn a_resumed_run_keeps_its_configuration() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let before = files_in(&run);
    let resume = || {
        let mut command = kiln(["train", "--steps", "41", "--resume"]);
        command.arg(&run);
        command
    };
    for set in [
        "optimizer.learning_rate=0.1",
        "seed=3",
        "training.batch_size=4096",
    ] {
        refused(
            resume().args(["--set", set]),
            2,
            &["--set", set, "its own configuration"],
        );
    }
    for flags in [
        &["--seed", "3"][..],
        &["--background", "black"],
        &["--linear"],
        &["--downscale", "2"],
        &["--train-views", "0,1"],
    ] {
        refused(resume().args(flags), 2, &["--resume", flags[0]]);
    }
    for flags in [
        ["--method", "ngp"],
        ["--config", "c.toml"],
        ["--out", "elsewhere"],
    ] {
        let error = error_of(resume().args(flags), 2);
        assert!(
            error[0].contains(flags[0]) && error[0].contains("--resume"),
            "{error:?}"
        );
    }
    assert!(files_in(&run) == before, "the run was touched");
    succeeds(resume().args(["--set", "training.submission_ms=20"]));
    assert_eq!(steps_of(&run), u64::from(STEPS) + 1);
}

#[test]
fn a_moved_dataset_has_to_be_named() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    write_dataset(&new);
    rewrite_checkpoint(&run, "", |metadata| {
        metadata.insert("dataset".to_owned(), old.display().to_string());
    });
    let there = old.to_str().unwrap();
    refused(
        kiln(["train", "--steps", "41", "--resume"]).arg(&run),
        2,
        &[there, "DATASET"],
    );
    refused(kiln(["eval"]).arg(&run), 2, &[there, "--dataset"]);
    succeeds(kiln(["eval", "--dataset"]).arg(&new).arg(&run));
    succeeds(
        kiln(["train", "--steps", "41", "--resume"])
            .arg(&run)
            .arg(&new),
    );
    assert_eq!(steps_of(&run), u64::from(STEPS) + 1);
}

#[test]
fn a_run_resumes_with_its_own_dataset_and_configuration() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let other = own_dataset();
    change_json(&other.path().join("transforms_train.json"), |document| {
        let x = &mut document["frames"][0]["transform_matrix"][0][3];
        *x = (x.as_f64().unwrap() + 0.01).into();
    });
    let before = files_in(&run);
    let resume = |dataset: &std::path::Path| {
        let mut command = kiln(["train", "--steps", "50", "--resume"]);
        command.arg(&run).arg(dataset);
        command
    };
    refused(
        &mut resume(other.path()),
        2,
        &["is not the dataset", "cameras differ"],
    );
    assert!(files_in(&run) == before);
    // A dataset with the same cameras is the same dataset, whatever its path.
    let moved = own_dataset();
    let config = run.join("config.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        good.replace("learning_rate = 0.02", "learning_rate = 0.5"),
    )
    .unwrap();
    let output = succeeds(&mut resume(moved.path()));
    assert!(text(&output.stderr).contains("config.toml was changed"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), good);
    // Evaluation on another dataset is allowed, with a warning.
    let output = succeeds(kiln(["eval", "--dataset"]).arg(other.path()).arg(&run));
    assert!(text(&output.stderr).contains("is not the dataset"));
    let lines = error_of(kiln(["train", "--force", "--resume"]).arg(&run), 2);
    assert!(lines[0].contains("--force") && lines[0].contains("--resume"));
}

#[test]
fn changed_images_are_reported_once() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let dataset = own_dataset();
    let mut steps = STEPS;
    let last = std::cell::RefCell::new(String::new());
    let printed = || last.borrow().clone();
    let mut resume = |dataset: &std::path::Path| {
        steps += 1;
        let steps = steps.to_string();
        let mut command = kiln(["train", "--eval-views", "1", "--steps", &steps, "--resume"]);
        let output = succeeds(command.arg(&run).arg(dataset));
        assert_eq!(steps_of(&run).to_string(), steps);
        last.replace(text(&output.stderr));
        printed().matches("their files have changed").count()
    };
    let key = |run: &std::path::Path| checkpoint(run).0.get("image_fingerprint").cloned();
    let known = key(&run).unwrap();
    assert_eq!(resume(dataset.path()), 0, "a copy is the same dataset");
    assert_eq!(key(&run).as_ref(), Some(&known));

    let image = dataset.path().join("train/r_3.png");
    let before = std::fs::read(&image).unwrap();
    let mut changed = Image::load(&image).unwrap();
    changed.pixels[0] ^= 128;
    changed.pixels[3] = 255;
    changed.save_png(&image).unwrap();
    let eval = |split: &str| {
        let mut command = kiln(["eval", "--eval-views", "1", "--split", split, "--dataset"]);
        let output = succeeds(command.arg(dataset.path()).arg(&run));
        text(&output.stderr).contains("their files have changed")
    };
    assert!(eval("train") && !eval("test"));
    assert_eq!(resume(dataset.path()), 1);
    assert_ne!(key(&run).as_ref(), Some(&known));
    assert_eq!(resume(dataset.path()), 0, "reported once");
    std::fs::write(&image, before).unwrap();
    assert_eq!(resume(dataset.path()), 1);
    assert_eq!(key(&run).as_ref(), Some(&known));

    // Changed held-out views are reported with other words.
    std::fs::copy(
        dataset.path().join("test/r_0.png"),
        dataset.path().join("test/r_1.png"),
    )
    .unwrap();
    assert_eq!(resume(dataset.path()), 1);
    assert!(
        printed().contains("the held-out images in"),
        "{}",
        printed()
    );
    assert!(printed().contains("cannot be compared"), "{}", printed());
    assert_eq!(resume(dataset.path()), 0, "reported once");
    // It is no problem if a run of an older version has no fingerprints.
    rewrite_checkpoint(&run, "", |metadata| {
        metadata.remove("image_fingerprint").unwrap();
        metadata.remove("held_out_fingerprint").unwrap();
    });
    std::fs::copy(
        dataset.path().join("test/r_0.png"),
        dataset.path().join("test/r_2.png"),
    )
    .unwrap();
    succeeds(kiln(["eval", "--eval-views", "1"]).arg(&run));
    changed.save_png(&image).unwrap();
    assert_eq!(resume(dataset.path()), 0);
    assert!(key(&run).is_some_and(|key| key != known));
}

#[test]
fn only_one_process_trains_a_run() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let lock = std::fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    refused(
        kiln(["train", "--steps", "50", "--resume"]).arg(&run),
        2,
        &["another kiln"],
    );
    drop(lock);
    // A killed process leaves the file behind, but not the lock.
    succeeds(kiln(["train", "--steps", "41", "--resume"]).arg(&run));
    assert!(!names_in(&run).contains(&".lock".to_owned()));
}

#[test]
fn a_checkpoint_with_a_nan_is_neither_evaluated_nor_rendered_nor_resumed() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let path = run.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = header_len(&bytes);
    bytes[8 + header..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let out = folder.path().join("views");
    for arguments in [
        &["eval"][..],
        &["render", "--out", out.to_str().unwrap()],
        &["train", "--resume"],
    ] {
        refused(kiln(arguments).arg(&run), 1, &["NaN", "damaged"]);
    }
}
