//! `kiln train`: the files it writes, when it stops, and what it does not overwrite.

use tempfile::TempDir;

use crate::support::*;

#[test]
fn a_run_directory_is_complete() {
    if !has_adapter() {
        return;
    }
    let run = &shared().run;
    assert_eq!(
        names_in(run),
        [
            "checkpoint.safetensors",
            "config.toml",
            "eval.json",
            "metrics.jsonl",
            "report.html"
        ]
    );

    let metrics = json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let progress: Vec<_> = metrics
        .iter()
        .filter(|line| line["event"] == "progress")
        .collect();
    assert!(metrics.iter().all(|line| line["schema"] == 1));
    assert_eq!(progress.last().unwrap()["step"], STEPS);
    for key in [
        "seconds",
        "loss",
        "train_psnr",
        "rays",
        "samples",
        "marched",
        "learning_rate",
    ] {
        assert!(
            progress
                .iter()
                .all(|line| line[key].as_f64().is_some_and(|v| v > 0.0)),
            "{key}: {progress:?}"
        );
    }

    let report = json(&run.join("eval.json"));
    assert_eq!(
        (&report["steps"], &report["views"], &report["split"]),
        (&STEPS.into(), &3.into(), &"test".into())
    );

    let (metadata, tensors) = checkpoint(run);
    assert_eq!(metadata["step"], STEPS.to_string());
    let copy = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(
        copy.starts_with("# A copy for reading: this run uses the configuration in its checkpoint"),
        "{copy}"
    );
    assert!(copy.ends_with(&metadata["config"]), "{copy}");
    assert_eq!(tensors["density_network.0.weight"].0, "F32 [32, 8]");
    assert_eq!(tensors["position_encoding.level_3"].0, "F32 [1024, 2]");
}

#[test]
fn with_json_stdout_holds_json_lines_only() {
    if !has_adapter() {
        return;
    }
    let lines = json_lines(&shared().stdout);
    assert!(
        lines
            .iter()
            .all(|line| line["schema"] == 1 && line["event"].is_string()),
        "{lines:?}"
    );
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["steps"]),
        (&"eval".into(), &STEPS.into())
    );
    let mut report = json(&shared().run.join("eval.json"));
    report["event"] = "eval".into();
    assert_eq!(*last, report);
}

#[test]
fn the_same_run_twice_gives_the_same_bytes() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (again, other) = (folder.path().join("again"), folder.path().join("other"));
    // Train from the run's config.toml, which is complete.
    let mut command = kiln(["train"]);
    command
        .arg(&shared().dataset)
        .arg("--config")
        .arg(shared().run.join("config.toml"))
        .arg("--out")
        .arg(&again);
    succeeds(command.args(["--steps", &STEPS.to_string()]));
    assert_same_tensors(&shared().run, &again);

    succeeds(train(&shared().dataset, &other).args(["--steps", &STEPS.to_string(), "--seed", "1"]));
    let ((_, first), (_, second)) = (checkpoint(&shared().run), checkpoint(&other));
    assert_ne!(
        first["density_network.0.weight"], second["density_network.0.weight"],
        "another seed"
    );
}

#[test]
fn an_existing_run_is_only_overwritten_with_force() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let before = files_in(&run);
    let path = run.to_str().unwrap();
    refused(
        train(&shared().dataset, &run).args(["--steps", "2"]),
        2,
        &[path, "--force", "--resume"],
    );
    assert!(files_in(&run) == before, "the run was touched");

    // A run that fails before its first checkpoint keeps the previous one.
    let checkpoint = before["checkpoint.safetensors"].clone();
    train(&shared().dataset, &run)
        .args(["--steps", "50", "--force"])
        .args(["--set", "optimizer.learning_rate=1e30"])
        .output()
        .unwrap();
    assert!(files_in(&run)["previous.safetensors"] == checkpoint);

    succeeds(train(&shared().dataset, &run).args(["--steps", "2", "--force"]));
    assert_eq!(steps_of(&run), 2);
    assert!(!run.join("previous.safetensors").exists());
    let metrics = json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let events: Vec<&str> = metrics.iter().filter_map(|l| l["event"].as_str()).collect();
    assert_eq!(events, ["start", "progress", "eval"]);
}

#[test]
fn the_default_name_of_a_run_is_its_dataset_and_method() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    for _ in 0..2 {
        let mut command = kiln(["train", "--steps", "1"]);
        succeeds(
            command
                .arg(&shared().dataset)
                .args(SMALL)
                .current_dir(folder.path()),
        );
    }
    assert_eq!(
        names_in(&folder.path().join("runs")),
        ["sphere-ngp-small", "sphere-ngp-small-2"]
    );
}

#[test]
fn a_method_name_is_not_used_as_a_path() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut command = kiln(["train", "--steps", "1", "--set", "method=../../a"]);
    succeeds(
        command
            .arg(&shared().dataset)
            .args(SMALL)
            .current_dir(folder.path()),
    );
    assert_eq!(names_in(folder.path()), ["runs"]);
    assert_eq!(names_in(&folder.path().join("runs")), ["sphere-..-..-a"]);
}

#[test]
fn a_box_that_no_camera_sees_is_refused() {
    if !has_adapter() {
        return;
    }
    let far_off = ["--steps", "2", "--set", "scene.offset=[9,9,9]"];
    let words = ["no camera sees the scene's box", "--set scene.scale="];
    train_refused(&shared().dataset, &far_off, 1, &words);
}

#[test]
fn seconds_and_psnr_end_a_run() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let timed = folder.path().join("timed");
    succeeds(train(&shared().dataset, &timed).args(["--seconds", "0.5", "--steps", "1000000"]));
    let report = json(&timed.join("eval.json"));
    let seconds = report["train_seconds"].as_f64().unwrap();
    assert!((0.5..20.0).contains(&seconds), "{seconds} s");

    // Limits count the whole run, resumed or not: both are already reached.
    for limit in [["--seconds", "0.001"], ["--until-psnr", "1"]] {
        let mut command = kiln(["train", "--steps", "1000000", "--resume"]);
        succeeds(command.arg(&run).args(limit));
        assert_eq!(steps_of(&run), u64::from(STEPS), "{limit:?}");
    }
}

#[test]
fn training_views_are_selected_and_saved() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    let few = ["--train-views", "4,0", "--eval-views", "1"];
    succeeds(
        train(&shared().dataset, &whole)
            .args(["--steps", "12"])
            .args(few),
    );
    assert_eq!(checkpoint(&whole).0["train_views"], "4,0");
    let report = json(&whole.join("eval.json"));
    assert_eq!(
        (&report["views"], &report["images"][0]["name"]),
        (&1.into(), &"test/r_0".into())
    );

    succeeds(
        train(&shared().dataset, &halves)
            .args(["--steps", "5"])
            .args(few),
    );
    succeeds(kiln(["train", "--steps", "12", "--resume"]).arg(&halves));
    assert_same_tensors(&whole, &halves);

    let ranges = folder.path().join("ranges");
    for (chosen, views) in [
        ("2", "2"),
        ("1..4", "1,2,3"),
        ("1-4", "1,2,3,4"),
        ("5,0..2", "5,0,1"),
        ("all", "0,1,2,3,4,5"),
    ] {
        succeeds(
            train(&shared().dataset, &ranges)
                .args(["--steps", "1", "--force", "--eval-views", "all"])
                .args(["--train-views", chosen]),
        );
        assert_eq!(checkpoint(&ranges).0["train_views"], views, "{chosen}");
        assert_eq!(json(&ranges.join("eval.json"))["views"], 3);
    }
}

#[test]
fn a_run_saves_its_downscaling_and_colour_settings() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("Lauf – übung");
    let flags = [
        "--steps",
        "2",
        "--downscale",
        "2",
        "--background",
        "black",
        "--linear",
    ];
    succeeds(train(&shared().dataset, &run).args(flags));
    let report = json_lines(&text(&succeeds(kiln(["eval", "--json"]).arg(&run)).stdout))
        .pop()
        .unwrap();
    assert_eq!(report["background"], "black");
    let images = folder.path().join("images");
    succeeds(
        kiln(["render", "--split", "test", "--out"])
            .arg(&images)
            .arg(&run),
    );
    let size = kiln::dataset::image_size(&images.join("rgb_0000.png")).unwrap();
    assert_eq!(size, [SIDE / 2, SIDE / 2]);
}

#[test]
fn an_image_both_trained_on_and_held_out_is_reported() {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    let folder = TempDir::new().unwrap();
    let reported = |name: &str| {
        let run = folder.path().join(name);
        let output = succeeds(train(dataset.path(), &run).args(["--steps", "3"]));
        let lines = text(&output.stderr);
        let trained = lines.find("trained 3 steps").unwrap();
        let leaks: Vec<_> = lines
            .match_indices("makes its metrics too good")
            .map(|(at, _)| at)
            .collect();
        assert!(leaks.len() < 2, "reported more than once: {lines}");
        leaks.first().map(|at| *at < trained)
    };
    assert_eq!(reported("apart"), None);
    // A byte-identical copy is detected before training starts, and the same image in another format once it is decoded.
    let [seen, held_out] = ["train/r_3.png", "test/r_0.png"].map(|f| dataset.path().join(f));
    std::fs::copy(&seen, &held_out).unwrap();
    assert_eq!(reported("copied"), Some(true));
    let decoded = image::open(&seen).unwrap();
    decoded
        .save_with_format(&held_out, image::ImageFormat::Tiff)
        .unwrap();
    assert_eq!(reported("saved-again"), Some(false));
}
