//! Checkpoints that cannot be opened, paths that cannot hold a run, and runs that diverge.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::support::*;

/// Check that evaluating, rendering and resuming `run` all fail with a one-line error that contains these words.
fn unusable(run: &Path, words: &[&str]) {
    let out = TempDir::new().unwrap();
    refused(kiln(["eval"]).arg(run), 1, words);
    refused(
        kiln(["render", "--turntable", "1", "--out"])
            .arg(out.path().join("o"))
            .arg(run),
        1,
        words,
    );
    refused(
        kiln(["train", "--steps", "50", "--resume"]).arg(run),
        1,
        words,
    );
    assert!(names_in(out.path()).is_empty());
}

#[test]
fn paths_without_a_run() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    unusable(
        Path::new("no/such/run"),
        &["no/such/run", "no such run", "kiln train"],
    );
    unusable(
        folder.path(),
        &[
            folder.path().to_str().unwrap(),
            "checkpoint.safetensors",
            "kiln train",
        ],
    );
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn checkpoints_that_are_cut_short() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let path = run.join("checkpoint.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 5, 1000, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(
            kiln(["eval"]).arg(&run),
            1,
            &["checkpoint.safetensors", "cut short", "kiln train"],
        );
    }
    unusable(&run, &["checkpoint.safetensors", "cut short"]);
    std::fs::write(
        &path,
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    )
    .unwrap();
    unusable(&run, &["checkpoint.safetensors", "git lfs pull"]);
    let mut endless = whole.clone();
    endless[..8].fill(255);
    std::fs::write(&path, endless).unwrap();
    unusable(&run, &["checkpoint.safetensors", "kiln train"]);
}

#[test]
fn checkpoints_of_other_programs() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let file = folder.path().join("foreign/checkpoint.safetensors");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let tensor = TensorView::new(Dtype::F32, vec![2], &[0; 8]).unwrap();
    std::fs::write(
        &file,
        safetensors::serialize([("weight", tensor)], None).unwrap(),
    )
    .unwrap();
    unusable(
        &file,
        &[
            "foreign/checkpoint.safetensors",
            "not written by",
            "no metadata",
        ],
    );
    rewrite_checkpoint(&run, "", |metadata| {
        metadata.insert("format".to_owned(), "kiln-99".to_owned());
    });
    unusable(&run, &["checkpoint.safetensors", "`kiln-99`", "`kiln-1`"]);
}

#[test]
fn a_copy_of_a_checkpoint_cannot_be_resumed() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let copy = run.join("backup.safetensors");
    std::fs::copy(run.join("checkpoint.safetensors"), &copy).unwrap();
    let before = files_in(&run);
    refused(
        kiln(["train", "--steps", "50", "--resume"]).arg(&copy),
        2,
        &["backup.safetensors", "checkpoint.safetensors"],
    );
    // The copy can be evaluated, which leaves the run's own eval.json unchanged.
    succeeds(kiln(["eval", "--eval-views", "1"]).arg(&copy));
    assert!(files_in(&run) == before);
}

#[test]
fn checkpoints_that_contradict_themselves() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    rewrite_checkpoint(&run, "", |metadata| {
        let config = metadata["config"].replace("log2_hashmap_size = 10", "log2_hashmap_size = 11");
        metadata.insert("config".to_owned(), config);
    });
    unusable(
        &run,
        &[
            "checkpoint.safetensors",
            "`position_encoding.level_",
            "1024",
            "2048",
        ],
    );

    let (_folder, run) = own_run();
    rewrite_checkpoint(&run, "ema.color_network.1.weight", |_| {});
    unusable(
        &run,
        &[
            "checkpoint.safetensors",
            "`ema.color_network.1.weight` is missing",
        ],
    );

    let (_folder, run) = own_run();
    rewrite_checkpoint(&run, "", |metadata| {
        let config = metadata["config"].replace("batch_size = 2048", "batch_size = 1");
        metadata.insert("config".to_owned(), config);
    });
    unusable(
        &run,
        &["checkpoint.safetensors", "`training.batch_size` is 1"],
    );
}

#[test]
fn occupied_output_paths() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for more in [&[][..], &["--force"]] {
        let [taken, here] = [file.to_str().unwrap(), folder.path().to_str().unwrap()];
        refused(
            train(&shared().dataset, folder.path()).args(more),
            2,
            &[here, "not a run directory", "--out"],
        );
        refused(
            train(&shared().dataset, &file).args(more),
            2,
            &[taken, "not a run directory", "--out"],
        );
        refused(
            train(&shared().dataset, &file.join("run")).args(more),
            1,
            &[taken, "cannot write"],
        );
    }
    assert_eq!(
        files_in(folder.path()).into_iter().collect::<Vec<_>>(),
        [("file".to_owned(), b"mine".to_vec())]
    );
}

#[test]
fn folders_that_are_read_only() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut permissions = folder.path().metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(folder.path(), permissions).unwrap();
    if std::fs::write(folder.path().join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let here = folder.path().to_str().unwrap();
    refused(
        &mut train(&shared().dataset, &folder.path().join("run")),
        1,
        &[here, "cannot write"],
    );
    refused(
        &mut train(&shared().dataset, folder.path()),
        1,
        &[here, "cannot write"],
    );
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn a_new_run_that_diverges() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let wild = ["--steps", "40", "--set", "optimizer.learning_rate=1e30"];
    let words = [
        "NaN or infinite",
        "lower optimizer.learning_rate",
        "--force",
        "nothing had been saved",
        "run",
    ];
    refused(train(&shared().dataset, &run).args(wild), 1, &words);
    assert_eq!(names_in(&run), ["config.toml", "metrics.jsonl"]);
    refused(
        train(&shared().dataset, &run).args(["--steps", "2"]),
        2,
        &["without a checkpoint", "--force"],
    );
    succeeds(train(&shared().dataset, &run).args(["--steps", "2", "--force"]));
    assert_eq!(steps_of(&run), 2);
}

#[test]
fn a_run_that_diverges_keeps_its_checkpoint() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let path = run.join("checkpoint.safetensors");
    rewrite_checkpoint(&run, "", |metadata| {
        let config = metadata["config"].replace("learning_rate = 0.02", "learning_rate = 1e30");
        assert_ne!(config, metadata["config"]);
        metadata.insert("config".to_owned(), config);
    });
    let before = std::fs::read(&path).unwrap();
    let words = [
        "NaN or infinite",
        "lower optimizer.learning_rate",
        "holds the last good state",
        path.to_str().unwrap(),
    ];
    refused(
        kiln(["train", "--steps", "100", "--resume"]).arg(&run),
        1,
        &words,
    );
    assert!(
        std::fs::read(&path).unwrap() == before,
        "the checkpoint was touched"
    );
    succeeds(kiln(["eval"]).arg(&run));
}

#[test]
fn a_changed_or_invalid_config_copy_is_reported_once() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let file = run.join("config.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let at = |name: &str| folder.path().join(name);
    let warnings = |command: &mut assert_cmd::Command| -> Vec<String> {
        let output = succeeds(command);
        let both = text(&output.stderr) + &text(&output.stdout);
        let about = both.lines().filter(|l| l.contains("config.toml"));
        about.map(str::to_owned).collect()
    };
    let commands = || {
        let mut eval = kiln(["eval", "--eval-views", "1"]);
        eval.arg(&run);
        let mut render = kiln(["render", "--turntable", "1", "--out"]);
        render.arg(at("views")).arg(&run);
        let mut inspect = kiln(["inspect"]);
        inspect.arg(&run);
        let mut init = kiln(["train", "--force", "--steps", "1", "--init"]);
        init.arg(&run)
            .arg(&shared().dataset)
            .arg("--out")
            .arg(at("begun"));
        let mut distill = kiln(["distill", "--method", "kilonerf-small", "--force"]);
        distill
            .args([
                "--set=distillation.supersampling=1",
                "--set=distillation.threshold=1e-4",
                "--set=training.batch_size=2048",
                "--set=passes.field.cells.longest=2",
                "--set=passes.field.density_network.n_neurons=8",
                "--set=passes.field.color_network.n_neurons=8",
                "--distill-steps=1",
                "--steps=1",
            ])
            .arg("--compare")
            .arg(at("other"))
            .arg(&run)
            .arg("--out")
            .arg(at("student"));
        [eval, render, inspect, init, distill]
    };
    copy_folder(&shared().run, &at("other"));
    let edited = good.replace("learning_rate = 0.02", "learning_rate = 0.5");
    assert_ne!(edited, good);
    let not_utf8 = b"method = \"\xff\"\n".to_vec();
    for (bytes, words) in [
        (edited.clone().into_bytes(), ["was changed", "--config"]),
        (
            b"not a configuration\n".to_vec(),
            ["config.toml", "remove it"],
        ),
        (not_utf8, ["cannot read", "remove it"]),
        (Vec::new(), ["config.toml", "remove it"]),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        for mut command in commands() {
            let lines = warnings(&mut command);
            assert_eq!(lines.len(), 1, "{command:?}: {lines:#?}");
            for word in ["warning", "copy for reading", words[0], words[1]] {
                assert!(lines[0].contains(word), "{command:?}: {}", lines[0]);
            }
        }
        assert_eq!(
            std::fs::read(&file).unwrap(),
            bytes,
            "the user's file was changed"
        );
        // The report shows the configuration of the checkpoint, which is the one in use.
        let report = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(report.contains("learning_rate = 0.02"));
        assert!(!report.contains("learning_rate = 0.5"));
    }
    let mut bench = kiln(["bench", "--repeats=1", "--size=16x16", "--render"]);
    assert_eq!(warnings(bench.arg(&run)).len(), 1);
    // There is no warning for added comments, for a missing copy, or for a checkpoint with another file name.
    std::fs::write(&file, format!("# mine\n{good}")).unwrap();
    let nothing: [&str; 0] = [];
    assert_eq!(
        warnings(kiln(["eval", "--eval-views", "1"]).arg(&run)),
        nothing
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        warnings(kiln(["eval", "--eval-views", "1"]).arg(&run)),
        nothing
    );
    std::fs::write(&file, &edited).unwrap();
    let other = run.join("another.safetensors");
    std::fs::copy(run.join("checkpoint.safetensors"), &other).unwrap();
    assert_eq!(
        warnings(kiln(["eval", "--eval-views", "1"]).arg(&other)),
        nothing
    );

    let mut resume = kiln(["train", "--eval-views", "1", "--steps", "41", "--resume"]);
    let lines = warnings(resume.arg(&run));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("was changed") && lines[0].contains("rewritten"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), good);
    std::fs::write(&file, "garbage").unwrap();
    let mut resume = kiln(["train", "--eval-views", "1", "--steps", "42", "--resume"]);
    let lines = warnings(resume.arg(&run));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("copy for reading") && lines[0].contains("rewritten"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), good);
}
