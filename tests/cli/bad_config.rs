//! Invalid configurations and flags: the error names the file, the `--set` or the flag, and nothing is written.

use tempfile::TempDir;

use crate::support::*;

/// Check that training with `--set TEXT` fails with a one-line error that contains `--set TEXT` and all of `words`.
fn set_refused(text: &str, words: &[&str]) {
    let named = format!("--set {text}: ");
    train_refused(
        &shared().dataset,
        &["--set", text],
        2,
        &[&[named.as_str()], words].concat(),
    );
}

#[test]
fn keys_that_do_not_exist() {
    if !has_adapter() {
        return;
    }
    set_refused(
        "optimizer.nosuch=1",
        &["unknown field `nosuch`", "`learning_rate`"],
    );
    set_refused("nosuch.key=1", &["no table `nosuch`"]);
    set_refused("nosuch", &["key=value"]);
    set_refused("=1", &["key is empty"]);
}

#[test]
fn values_that_are_impossible() {
    if !has_adapter() {
        return;
    }
    let levels = format!("{GRID}.n_levels=99");
    for (text, words) in [
        (
            "training.batch_size=0",
            ["is 0", "between 1024 and 16777216"],
        ),
        ("training.batch_size=-1", ["`-1`", "u32"]),
        ("training.batch_size=much", ["\"much\"", "u32"]),
        (levels.as_str(), ["n_levels` is 99", "between 1 and 32"]),
        ("optimizer.learning_rate=-0.01", ["is -0.01", "positive"]),
        ("optimizer.learning_rate=nan", ["is NaN", "finite"]),
        ("scene.aabb_scale=3", ["is 3", "power of two"]),
        ("occupancy.resolution=100", ["is 100", "power of two"]),
        ("scene.background=pink", ["`pink`", "#rrggbb"]),
        ("scene.offset=[1,2]", ["length 2", "length 3"]),
        ("training.submission_ms=1e30", ["submission_ms", "60000"]),
        ("passes=3", ["integer `3`", "sequence"]),
        ("training.initial_rays=0", ["initial_rays` is 0", "64"]),
        ("training.max_rays=0", ["max_rays` is 0", "64"]),
        ("training.max_rays=4294967295", ["max_rays", "4194304"]),
        (
            "occupancy.cells_per_update=0",
            ["cells_per_update` is 0", "2048"],
        ),
    ] {
        set_refused(text, &words);
    }
}

#[test]
fn settings_that_do_not_fit_the_device() {
    if !has_adapter() {
        return;
    }
    let grid = format!("{GRID}.log2_hashmap_size=24");
    let levels = format!("{GRID}.n_levels=16");
    train_refused(
        &shared().dataset,
        &["--set", &levels, "--set", &grid],
        1,
        &["bytes", "lower", "log2_hashmap_size"],
    );
}

#[test]
fn configuration_files() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.toml");
    let out = folder.path().join("run");
    let good = std::fs::read_to_string(shared().run.join("config.toml")).unwrap();
    let error = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let mut command = kiln(["train"]);
        command
            .arg(&shared().dataset)
            .arg("--out")
            .arg(&out)
            .arg("--config")
            .arg(&file)
            .args(more);
        let lines = error_of(&mut command, 2);
        assert!(lines[0].contains("mine.toml"), "{lines:?}");
        lines.join("\n")
    };
    let unknown = good.replace("batch_size", "batchsize");
    assert!(error(&unknown, &[]).contains("unknown field `batchsize`"));
    assert!(error(&unknown, &["--set", "seed=1"]).contains("unknown field `batchsize`"));
    let impossible = good.replace("batch_size = 2048", "batch_size = 0");
    assert!(error(&impossible, &[]).contains("`training.batch_size` is 0"));
    assert!(error(&impossible, &["--set", "seed=1"]).contains("`training.batch_size` is 0"));
    assert!(error("seed = ", &[]).contains("line 1"));
    assert!(error("", &[]).contains("missing field"));

    let train = |config: &std::path::Path| {
        let mut command = kiln(["train", "--out"]);
        command
            .arg(&out)
            .arg(&shared().dataset)
            .arg("--config")
            .arg(config);
        command
    };
    refused(
        &mut train(&folder.path().join("none.toml")),
        2,
        &["none.toml", "cannot read"],
    );
    refused(
        &mut train(folder.path()),
        2,
        &[folder.path().to_str().unwrap(), "cannot read"],
    );
    assert_eq!(names_in(folder.path()), ["mine.toml"]);
}

#[test]
fn a_method_that_does_not_exist() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut command = kiln(["train", "--method", "magic", "--out"]);
    command
        .arg(folder.path().join("run"))
        .arg(&shared().dataset);
    refused(&mut command, 2, &["`magic`", "ngp-small", "--config"]);
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn invalid_limits() {
    if !has_adapter() {
        return;
    }
    for flag in ["--seconds", "--until-psnr", "--checkpoint-every"] {
        for value in ["-1", "NaN", "0", "inf"] {
            train_refused(
                &shared().dataset,
                &[flag, value],
                2,
                &[flag, value, "positive"],
            );
        }
    }
    let folder = TempDir::new().unwrap();
    for flags in [
        ["--seconds", "soon"],
        ["--steps", "-1"],
        ["--steps", "99999999999"],
        ["--seed", "1.5"],
        ["--downscale", "0"],
        ["--train-views", "3-0"],
        ["--train-views", "0..three"],
        ["--train-views", "2..2"],
        ["--background", "pink"],
    ] {
        let error = error_of(
            train(&shared().dataset, &folder.path().join("run")).args(flags),
            2,
        );
        assert!(
            error[0].contains(flags[0]) || error[0].contains(flags[1]),
            "{error:?}"
        );
    }
    refused(&mut kiln(["train"]), 2, &["DATASET", "--resume"]);
    assert!(names_in(folder.path()).is_empty());
}
