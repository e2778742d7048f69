//! What a new user types by mistake, and what long work says about itself.

use std::path::Path;

use super::support::*;
use kiln::config::Config;
use tempfile::TempDir;

#[test]
fn a_folder_of_images_names_the_dataset_above_it() {
    if !has_adapter() {
        return;
    }
    let dataset = &shared().dataset;
    let meant = format!("did you mean {}?", dataset.display());
    train_refused(&dataset.join("train"), &[], 1, &[&meant]);
    let mut inside = train(Path::new("."), Path::new("nowhere"));
    inside.current_dir(dataset.join("train"));
    refused(&mut inside, 1, &["did you mean ./..?"]);
}

#[test]
fn a_misspelled_dataset_and_a_url_are_explained() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    for name in ["sphere", "cube"] {
        write_dataset(&folder.path().join(name));
    }
    let meant = format!("did you mean {}?", folder.path().join("sphere").display());
    train_refused(
        &folder.path().join("spere"),
        &[],
        1,
        &["no such file", &meant],
    );
    let other = ["no such file", "check the path"];
    train_refused(&folder.path().join("lego"), &[], 1, &other);
    let url = Path::new("https://example.org/lego.zip");
    train_refused(url, &[], 1, &["a URL", "download it"]);
}

#[test]
fn a_run_given_as_a_dataset_and_a_dataset_given_as_a_run_are_explained() {
    if !has_adapter() {
        return;
    }
    let (dataset, run) = (&shared().dataset, &shared().run);
    let resumes = format!("kiln train --resume {}", run.display());
    train_refused(run, &[], 2, &["is a run, not a dataset", &resumes]);
    let trains = format!("kiln train {}", dataset.display());
    for arguments in [
        vec!["eval"],
        vec!["render", "--turntable", "1", "--out", "nowhere"],
        vec!["render"],
        vec!["distill"],
        vec!["train", "--resume"],
        vec!["meta-eval"],
        vec!["bench", "--render"],
    ] {
        let mut command = kiln(&arguments);
        let words = ["is a dataset, not a run", &*trains];
        refused(command.arg(dataset), 2, &words);
    }
}

#[test]
fn a_missing_run_lists_those_that_exist() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    for name in ["runs/a", "runs/b"] {
        copy_folder(&shared().run, &folder.path().join(name));
    }
    let eval = |run: &str, words: &[&str]| {
        let mut command = kiln(["eval", run]);
        refused(command.current_dir(folder.path()), 2, words);
    };
    let both = ["runs/a", "runs/b"];
    eval("runs/c", &[&["no such run; there are"], &both[..]].concat());
    eval("c", &both);
    eval("runs", &[&["holds runs"], &both[..]].concat());
    let mut train = kiln(["train", "runs"]);
    let words = [&["holds runs", "--resume"], &both[..]].concat();
    refused(train.current_dir(folder.path()), 2, &words);
    let mut render = kiln(["render", "runs/a"]);
    refused(render.current_dir(folder.path()), 2, &["--out"]);
    let url = "https://example.org/run";
    refused(&mut kiln(["eval", url]), 1, &["a URL", "download it"]);
    let mut nothing = kiln(["eval", "c"]);
    let empty = TempDir::new().unwrap();
    refused(nothing.current_dir(empty.path()), 1, &["no such run"]);
}

#[test]
fn misspelled_settings_are_suggested() {
    if !has_adapter() {
        return;
    }
    for (setting, meant) in [
        ("batch_size=4096", "training.batch_size"),
        ("training.bacth_size=4096", "training.batch_size"),
        ("optimiser.learning_rate=0.1", "optimizer.learning_rate"),
        ("loggarithm=1", ""),
    ] {
        let words = if meant.is_empty() {
            ["unknown field", "loggarithm"]
        } else {
            ["did you mean", meant]
        };
        train_refused(&shared().dataset, &["--set", setting], 2, &words);
    }
}

#[test]
fn times_have_units() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut command = train(&shared().dataset, &folder.path().join("run"));
    command.args(["--seconds=0.01m", "--checkpoint-every=1h"]);
    let printed = text(&succeeds(command.args(["--eval-views", "1"])).stderr);
    assert!(printed.contains("for 1 s"), "{printed}");
    let mut wrong = train(&shared().dataset, &folder.path().join("other"));
    let printed = wrong.args(["--seconds", "1x"]).assert().code(2);
    let printed = text(&printed.get_output().stderr);
    assert!(printed.contains("90s, 1.5m or 1h30m"), "{printed}");
}

#[test]
fn shells_complete_the_methods() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&succeeds(&mut kiln(["completions", shell])).stdout);
        for method in Config::presets() {
            assert!(script.contains(method), "{shell}: {method}");
        }
    }
}

#[test]
fn training_ends_with_what_to_do_next() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let mut command = train(&shared().dataset, &run);
    let printed = text(&succeeds(command.args(["--steps", "1"])).stderr);
    let last = printed.lines().last().unwrap();
    for words in ["kiln render", "--turntable", "--resume"] {
        assert!(last.contains(words), "{printed}");
    }
    let resume = format!("kiln train --resume {}", run.display());
    assert!(last.contains(&resume), "{printed}");
}

#[test]
fn a_method_for_gpus_names_its_twin_on_a_software_adapter() {
    if !on_software() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let words = ["sized for GPUs", "--method ngp-small"];
    let note = |method: &str, name: &str| {
        let mut command = kiln(["train", "--steps=1", "--eval-views=1", "--method", method]);
        command.args([
            "--set=training.batch_size=1024",
            "--set=occupancy.warmup_steps=0",
        ]);
        command.arg(format!("--set={GRID}.log2_hashmap_size=10"));
        command.arg(&shared().dataset).arg("--out");
        text(&succeeds(command.arg(folder.path().join(name))).stderr)
    };
    let printed = note("ngp", "large");
    assert!(words.iter().all(|w| printed.contains(w)), "{printed}");
    assert!(!note("ngp-small", "small").contains(words[0]));
}

#[test]
fn an_evaluation_takes_no_longer_than_it_should_on_a_software_adapter() {
    if !on_software() {
        return;
    }
    let (folder, run) = own_run();
    // The same views, so large that not all of their pixels can be rendered in time.
    let large = folder.path().join("large");
    write_dataset_of(&large, 1400);
    let mut command = kiln(["eval", "--json", "--downscale=1", "--dataset"]);
    let output = succeeds(command.arg(&large).arg(&run));
    let printed = text(&output.stderr);
    for words in ["of their pixels", "--eval-views"] {
        assert!(printed.contains(words), "{printed}");
    }
    let report = json_lines(&text(&output.stdout)).pop().unwrap();
    let share = report["pixel_share"].as_f64().unwrap();
    assert!(share <= 0.5 && share.log2().fract() == 0.0, "{share}");
    assert_eq!(report["views"], 3);
    let kept = std::fs::read_to_string(run.join("eval.json")).unwrap();
    assert!(kept.contains("pixel_share"), "{kept}");
    // The tiles are as good as the whole views were at another size.
    let small = std::fs::read_to_string(shared().run.join("eval.json")).unwrap();
    let small: serde_json::Value = serde_json::from_str(&small).unwrap();
    let [tiles, whole] = [&report, &small].map(|r| r["psnr"].as_f64().unwrap());
    assert!((tiles - whole).abs() < 3.0, "{tiles} and {whole} dB");
}
