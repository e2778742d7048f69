//! `kiln eval`, `kiln devices`, and behaviour that all commands share.

use std::path::Path;

use predicates::prelude::*;
use serde_json::Value;

use crate::lpips;
use crate::support::*;

/// Run `kiln eval`, and return its report, which must equal the run's eval.json.
fn evaluated(run: &Path, more: &[&str]) -> Value {
    let output = succeeds(kiln(["eval", "--json"]).arg(run).args(more));
    let report = json_lines(&text(&output.stdout)).pop().unwrap();
    assert_eq!(report, json(&run.join("eval.json")));
    report
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

#[test]
fn the_report_has_the_keys_that_scripts_rely_on() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let report = evaluated(&run, &[]);
    insta::assert_debug_snapshot!(keys(&report), @r#"
    [
        "background",
        "color_space",
        "dataset",
        "device",
        "downscale",
        "images",
        "method",
        "psnr",
        "rays_per_second",
        "schema",
        "split",
        "ssim",
        "steps",
        "train_seconds",
        "views",
    ]
    "#);
    insta::assert_debug_snapshot!(keys(&report["images"][0]), @r#"
    [
        "name",
        "psnr",
        "ssim",
    ]
    "#);
    let said =
        ["method", "split", "background", "color_space"].map(|key| report[key].as_str().unwrap());
    assert_eq!(said, ["ngp-small", "test", "white", "sRGB"]);
    assert_eq!(view_names(&report), ["test/r_0", "test/r_1", "test/r_2"]);
    assert_eq!(report["steps"], STEPS);
    // The metrics of the checkpoint equal those that training measured.
    let trained = json(&shared().run.join("eval.json"));
    for key in ["psnr", "ssim"] {
        let [a, b] = [&report, &trained].map(|r| r[key].as_f64().unwrap());
        assert!((a - b).abs() < 1e-3, "{key}: {a} and {b}");
        let images = report["images"].as_array().unwrap();
        let mean =
            images.iter().map(|i| i[key].as_f64().unwrap()).sum::<f64>() / images.len() as f64;
        assert!((a - mean).abs() < 1e-9, "{key} is the mean over views");
    }
}

#[test]
fn flags_select_views_splits_and_backgrounds() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let evaluated = |more: &[&str]| evaluated(&run, more);
    assert_eq!(
        view_names(&evaluated(&["--eval-views", "2"])),
        ["test/r_0", "test/r_1"]
    );
    assert_eq!(
        view_names(&evaluated(&["--eval-views", "2,0"])),
        ["test/r_2", "test/r_0"]
    );
    for (chosen, names) in [
        ("all", &["test/r_0", "test/r_1", "test/r_2"][..]),
        ("1..3", &["test/r_1", "test/r_2"]),
        ("1-2", &["test/r_1", "test/r_2"]),
        ("2,0..1", &["test/r_2", "test/r_0"]),
    ] {
        let found = evaluated(&["--eval-views", chosen]);
        assert_eq!(view_names(&found), names, "{chosen}");
    }
    let report = evaluated(&[
        "--split",
        "train",
        "--eval-views",
        "3,",
        "--background",
        "#ff0000",
        "--downscale",
        "2",
    ]);
    assert_eq!(view_names(&report), ["train/r_3"]);
    assert_eq!(
        (&report["split"], &report["background"]),
        (&"train".into(), &"#ff0000".into())
    );

    succeeds(kiln(["eval", "--save-images", "--eval-views", "1"]).arg(&run));
    assert_eq!(names_in(&run.join("images")), ["test_000.png"]);
    let size = kiln::dataset::image_size(&run.join("images/test_000.png")).unwrap();
    assert_eq!(size, [SIDE; 2]);
}

#[test]
fn the_text_output_names_the_background_of_the_metrics() {
    if !has_adapter() {
        return;
    }
    let (_folder, run) = own_run();
    let quiet = kiln(["eval", "-q", "--eval-views", "1", "--device", "0"])
        .arg(&run)
        .assert()
        .code(0);
    let said = predicate::str::contains("PSNR").and(predicate::str::contains("background white"));
    quiet
        .stdout(said.and(predicate::str::contains("SSIM")))
        .stderr("");
}

#[test]
fn lpips_is_measured_with_the_given_weights() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let file = folder.path().join("lpips-vgg.safetensors");
    lpips::write(&file, &lpips::weights("vgg"));
    let mut flags = vec!["--lpips", file.to_str().unwrap(), "--eval-views", "2"];
    flags.push("--save-images");
    let report = evaluated(&run, &flags);
    assert_eq!(report["lpips_network"], "vgg");
    let images = report["images"].as_array().unwrap();
    let distances: Vec<f64> = images
        .iter()
        .map(|i| i["lpips"].as_f64().unwrap())
        .collect();
    // Compare the saved rendering with the image over white, whose pixels are opaque or fully transparent.
    let opaque = |path: &Path| -> Vec<f32> {
        let rgba = image::open(path).unwrap().to_rgba8();
        let over_white = |p: &image::Rgba<u8>| {
            if p[3] == 0 {
                [255; 3]
            } else {
                [p[0], p[1], p[2]]
            }
        };
        let values = rgba.pixels().flat_map(over_white);
        values.map(|v| f32::from(v) / 255.0).collect()
    };
    let network = kiln::metrics::lpips::Lpips::open(&file).unwrap();
    for (i, distance) in distances.iter().enumerate() {
        let ours = opaque(&run.join(format!("images/test_{i:03}.png")));
        let theirs = opaque(&shared().dataset.join(format!("test/r_{i}.png")));
        let side = SIDE as usize;
        let expected = network.distance(&ours, &theirs, side, side).unwrap();
        assert!(
            (distance - expected).abs() < 1e-6,
            "{distance}, not {expected}"
        );
    }
    let mean = report["lpips"].as_f64().unwrap();
    assert!((mean - f64::midpoint(distances[0], distances[1])).abs() < 1e-9);

    let said = format!(", LPIPS {mean:.3} (vgg) over 2 of 3 views");
    kiln(["eval", "-q"])
        .arg(&run)
        .args(&flags)
        .assert()
        .code(0)
        .stdout(predicate::str::contains(said));
}

#[test]
fn unsuitable_lpips_weights_are_refused_before_rendering() {
    if !has_adapter() {
        return;
    }
    let (folder, run) = own_run();
    let file = folder.path().join("lpips.safetensors");
    let eval = || {
        let mut command = kiln(["eval", "--save-images"]);
        command.arg(&run).arg("--lpips").arg(&file);
        command
    };
    refused(&mut eval(), 1, &["cannot read", "lpips.safetensors"]);
    std::fs::write(&file, "weights").unwrap();
    // The weights are checked before a device is opened.
    refused(
        eval().args(["--device", "nosuch"]),
        1,
        &["lpips.safetensors is not a safetensors file"],
    );
    lpips::write(&file, &lpips::weights("alex"));
    refused(&mut eval(), 1, &["test/r_0", "31 pixels a side", "24×24"]);
    assert!(!run.join("images").exists());
}

#[test]
fn missing_views_are_refused() {
    if !has_adapter() {
        return;
    }
    let eval = || {
        let mut command = kiln(["eval"]);
        command.arg(&shared().run);
        command
    };
    refused(
        eval().args(["--eval-views", "0,3"]),
        2,
        &["--eval-views 3", "3 views"],
    );
    refused(
        eval().args(["--eval-views", "1-3"]),
        2,
        &["--eval-views 1-3", "no view 3", "0 to 2"],
    );
    refused(
        eval().args(["--eval-views", "0..2,1"]),
        2,
        &["--eval-views 1", "view 1 is selected twice"],
    );
    refused(
        eval().args(["--split", "val", "--eval-views", "0,1"]),
        2,
        &["--split val", "no such views"],
    );
    refused(eval().args(["--eval-views", "0"]), 2, &["--eval-views 0"]);
    refused(eval().args(["--split", "val"]), 2, &["--split val"]);
    refused(
        eval().args(["--background", "random"]),
        2,
        &["--background random"],
    );
    for flags in [
        ["--eval-views", "first"],
        ["--eval-views", ","],
        ["--eval-views", "2..0"],
        ["--eval-views", "2-0"],
        ["--eval-views", "1..1"],
        ["--eval-views", "all,1"],
        ["--split", "all"],
        ["--background", "pink"],
    ] {
        let error = error_of(eval().args(flags), 2);
        assert!(
            error[0].contains(flags[0]) && error[0].contains(flags[1]),
            "{error:?}"
        );
    }
}

#[test]
fn stages_without_work_are_not_timed() {
    if !has_adapter() {
        return;
    }
    for (method, is_trained) in [
        ("kilonerf-small", false),
        ("nerf-small", false),
        ("ngp-small", true),
    ] {
        let small = match method {
            "nerf-small" => "--set=training.n_rays=16",
            _ => "--set=training.batch_size=2048",
        };
        let mut bench = kiln(["bench", "--json", "--warm-up=1", "--repeats=1"]);
        bench.args(["--method", method, small]);
        let lines = json_lines(&text(&succeeds(&mut bench).stdout));
        let stages: Vec<&Value> = lines.iter().filter(|l| l["event"] == "stage").collect();
        let named = |name: &str| stages.iter().find(|s| s["stage"] == name);
        assert_eq!(named("encode backward").is_some(), is_trained, "{method}");
        // The rest of the backward pass is timed, and its operations are counted.
        assert!(named("network backward").unwrap()["gflops"].as_f64() > Some(0.0));
        for stage in stages {
            assert_ne!(stage["items"], 0.0, "{stage}");
            let share = stage["share_of_peak"].as_f64().unwrap_or(0.0);
            assert!(share < 20.0, "{stage}");
        }
        if !is_trained {
            refused(
                kiln(["bench", "--stage", "encode backward", "--method", method])
                    .args([small, "--warm-up=1"]),
                2,
                &["encode backward", "network backward"],
            );
        }
    }
}

#[test]
fn devices_are_listed() {
    if !has_adapter() {
        return;
    }
    let devices = json_lines(&text(&succeeds(&mut kiln(["devices", "--json"])).stdout));
    assert_eq!(devices.iter().filter(|d| d["default"] == true).count(), 1);
    for (i, device) in devices.iter().enumerate() {
        assert_eq!(
            (&device["schema"], &device["index"]),
            (&1.into(), &i.into())
        );
        assert!(
            device["name"].is_string()
                && device["backend"].is_string()
                && device["driver"].is_string()
        );
        assert!(
            ["software", "integrated", "discrete"].contains(&device["class"].as_str().unwrap())
        );
        assert!(
            device["features"].is_object() && device["max_binding_bytes"].as_u64() >= Some(1 << 27)
        );
    }
    let name = devices[0]["name"].as_str().unwrap();
    kiln(["devices"])
        .assert()
        .code(0)
        .stdout(predicate::str::contains(name));
}

#[test]
fn the_selected_device_is_marked() {
    if !has_adapter() {
        return;
    }
    let marked = |value: &str| {
        let output = kiln(["devices", "--json"])
            .env("KILN_DEVICE", value)
            .output()
            .unwrap();
        let devices = json_lines(&text(&output.stdout));
        let of = |d: &Value| d["default"] == true;
        (output.status.code(), devices.iter().position(of))
    };
    assert_eq!(marked("0"), (Some(0), Some(0)));
    // If no device matches, the list is still shown before the name is refused.
    assert_eq!(marked("nosuch"), (Some(2), None));
    // "97" is neither an index nor part of a name.
    assert_eq!(marked("97"), (Some(2), None));
}

#[test]
fn frames_of_the_chosen_sizes_are_timed() {
    if !has_adapter() {
        return;
    }
    let mut bench = kiln(["bench", "--json", "--repeats=1"]);
    bench.args(["--size=16x16", "--size=24x12", "--render"]);
    let lines = json_lines(&text(&succeeds(bench.arg(&shared().run)).stdout));
    let frames: Vec<&Value> = lines.iter().filter(|l| l["event"] == "render").collect();
    let sizes: Vec<_> = frames.iter().map(|f| (&f["width"], &f["height"])).collect();
    assert_eq!(sizes, [(&16.into(), &16.into()), (&24.into(), &12.into())]);
    for frame in frames {
        assert!(frame["milliseconds_per_frame"].as_f64() > Some(0.0));
        assert!(frame["samples_per_ray"].as_f64() > Some(0.0), "{frame}");
    }
    for size in ["16", "16x", "0x16", "7x16", "16x99999"] {
        kiln(["bench", "--render", "nowhere", "--size", size])
            .assert()
            .code(2)
            .stderr(predicate::str::contains("give WIDTHxHEIGHT"));
    }
    kiln(["bench", "--size=16x16"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("--render"));
}

#[test]
fn an_unknown_stage_is_refused_before_anything_is_timed() {
    if !has_adapter() {
        return;
    }
    refused(
        &mut kiln(["bench", "--stage", "nosuch"]),
        2,
        &["--stage nosuch", "network backward"],
    );
}

#[test]
fn an_unknown_device_is_refused() {
    if !has_adapter() {
        return;
    }
    train_refused(
        &shared().dataset,
        &["--device", "nosuch"],
        2,
        &["`nosuch`", "0 "],
    );
    refused(
        kiln(["eval"])
            .arg(&shared().run)
            .env("KILN_DEVICE", "nosuch"),
        2,
        &["`nosuch`"],
    );
}

#[test]
fn errors_are_json_too() {
    if !has_adapter() {
        return;
    }
    let output = kiln(["eval", "--json", "nowhere"]).output().unwrap();
    let lines = json_lines(&text(&output.stdout));
    assert_eq!((output.status.code(), lines.len()), (Some(1), 1));
    assert_eq!(
        (&lines[0]["schema"], &lines[0]["event"]),
        (&1.into(), &"error".into())
    );
    assert!(lines[0]["message"].as_str().unwrap().contains("nowhere"));
}

#[test]
fn help_succeeds_and_invalid_arguments_fail() {
    for arguments in [&["--help"][..], &["train", "--help"], &["--version"]] {
        kiln(arguments)
            .assert()
            .code(0)
            .stderr("")
            .stdout(predicate::str::contains("kiln"));
    }
    for arguments in [
        &["fly"][..],
        &["train", "--nosuch"],
        &["devices", "-q", "-v"],
        &["eval"],
    ] {
        kiln(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(predicate::str::contains("panicked").not());
    }
}
