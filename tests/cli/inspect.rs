//! `kiln inspect`: its reports on datasets and runs.

use serde_json::{Value, json};

use crate::support::*;

/// Return what `kiln inspect --json` prints about a dataset with this change to its training file, and the exit code.
fn inspected(change: impl FnOnce(&mut Value)) -> (Value, i32) {
    let dataset = own_dataset();
    change_json(&dataset.path().join("transforms_train.json"), change);
    let output = kiln(["inspect", "--json"])
        .arg(dataset.path())
        .output()
        .unwrap();
    let report = json_lines(&text(&output.stdout)).remove(0);
    (report, output.status.code().unwrap())
}

/// Check that `kiln inspect` finds a problem of this severity whose message contains these words.
#[track_caller]
fn finds(change: impl FnOnce(&mut Value), severity: &str, words: &[&str]) {
    let (report, code) = inspected(change);
    let problems = report["problems"].as_array().unwrap();
    let is_it = |p: &&Value| {
        let message = p["message"].as_str().unwrap();
        p["severity"] == severity && words.iter().all(|w| message.contains(w))
    };
    assert!(problems.iter().any(|p| is_it(&p)), "{problems:#?}");
    assert_eq!(code, i32::from(severity == "error"), "{problems:#?}");
    assert_eq!(report["usable"], json!(severity != "error"));
}

#[test]
fn a_good_dataset_is_described() {
    let dataset = own_dataset();
    let plot = dataset.path().join("cameras.png");
    let output = succeeds(kiln(["inspect", "--plot"]).arg(&plot).arg(dataset.path()));
    let printed = text(&output.stdout);
    for part in [
        "Blender",
        "6 training, 0 validation, 3 test",
        "9, 24×24, with alpha",
        "pinhole, 40.1° wide",
        "4.03 to 4.03 from their common focus, (0.00, 0.00, 0.00)",
        "no problems",
    ] {
        assert!(printed.contains(part), "`{part}` is not in {printed}");
    }
    let drawn = image::open(&plot).unwrap().into_rgb8();
    // Colours of the cameras, the box and the focus.
    for color in [
        [44, 100, 210],
        [240, 110, 20],
        [120, 94, 240],
        [220, 38, 127],
    ] {
        assert!(
            drawn.pixels().any(|p| p.0 == color),
            "{color:?} is not drawn"
        );
    }
    let (report, _) = inspected(|_| {});
    assert_eq!(report["views"], json!({ "train": 6, "val": 0, "test": 3 }));
    assert_eq!(report["problems"], json!([]));
    assert!(report["cameras"]["distance"][0].as_f64().unwrap() > 4.0);
    if has_adapter() {
        assert!(report["memory"]["total_bytes"].as_u64().unwrap() > 1 << 20);
    }
}

#[test]
fn all_faults_are_reported_together() {
    let (report, code) = inspected(|d| {
        d["frames"][0]["transform_matrix"][0][0] = json!("NaN");
        d["frames"][1]["transform_matrix"] = json!([[1, 0], [0, 1]]);
        d["frames"][2]["file_path"] = json!("./train/gone");
        d["frames"][3]["fl_x"] = json!(-1);
    });
    let messages: Vec<&str> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["message"].as_str().unwrap())
        .collect();
    for part in ["frame 0", "frame 1", "train/gone", "frame 3"] {
        assert!(messages.iter().any(|m| m.contains(part)), "{messages:#?}");
    }
    assert_eq!((code, &report["errors"]), (1, &json!(3)));
    assert_eq!(report["missing"].as_array().unwrap().len(), 1);
}

#[test]
fn frames_are_checked_against_each_other_and_the_box() {
    let flip = |row: &mut Value, column: usize| {
        row[column] = json!(-row[column].as_f64().unwrap());
    };
    finds(
        |d| flip(&mut d["frames"][1]["transform_matrix"][0], 0),
        "error",
        &["frame 1", "rigid"],
    );
    finds(
        |d| {
            for row in 0..3 {
                flip(&mut d["frames"][0]["transform_matrix"][row], 0);
            }
        },
        "error",
        &["frame 0", "mirrored"],
    );
    finds(
        |d| d["frames"][1]["file_path"] = json!("./train/r_0"),
        "warning",
        &["train/r_0", "repeats the image"],
    );
    finds(
        |d| {
            let pose = d["frames"][0]["transform_matrix"].clone();
            for i in 0..6 {
                d["frames"][i]["transform_matrix"] = pose.clone();
            }
        },
        "error",
        &["all 6 cameras", "parallax"],
    );
    // OpenCV poses: y and z point in the opposite directions.
    finds(
        |d| {
            for i in 0..6 {
                for row in 0..3 {
                    flip(&mut d["frames"][i]["transform_matrix"][row], 1);
                    flip(&mut d["frames"][i]["transform_matrix"][row], 2);
                }
            }
        },
        "error",
        &["look away", "OpenCV"],
    );
    finds(
        |d| {
            // The file specifies the box, which would otherwise follow the cameras.
            (d["scale"], d["offset"]) = (json!(0.33), json!([0.5, 0.5, 0.5]));
            for i in 0..6 {
                let x = &mut d["frames"][i]["transform_matrix"][0][3];
                *x = json!(x.as_f64().unwrap() + 100.0);
            }
        },
        "error",
        &["no camera sees", "--set scene.offset=["],
    );
    finds(
        |d| d["frames"][0]["fl_x"] = json!(0.5),
        "warning",
        &["frame 0", "175.2°"],
    );
    finds(
        |d| d["frames"][0]["mask_path"] = json!("train/none.png"),
        "warning",
        &["frame 0", "names no image"],
    );
    let dataset = own_dataset();
    image::RgbImage::new(7, 5)
        .save(dataset.path().join("mask.png"))
        .unwrap();
    let mask = dataset.path().join("mask.png").display().to_string();
    finds(
        |d| d["frames"][0]["mask_path"] = json!(mask),
        "warning",
        &["frame 0", "7 × 5 pixels, not 24 × 24"],
    );
    finds(
        |d| {
            d["frames"][0]["w"] = json!(10);
            d["frames"][0]["h"] = json!(24);
        },
        "error",
        &["frame 0", "10"],
    );
}

#[test]
fn inverted_poses_are_one_problem() {
    let (report, _) = inspected(|d| {
        for i in 0..6 {
            let matrix = &mut d["frames"][i]["transform_matrix"];
            let old: [[f64; 4]; 4] = serde_json::from_value(matrix.clone()).unwrap();
            for r in 0..3 {
                for c in 0..3 {
                    matrix[r][c] = json!(old[c][r]);
                }
                let place: f64 = (0..3).map(|k| old[k][r] * old[k][3]).sum();
                matrix[r][3] = json!(-place);
            }
        }
    });
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let message = problems[0]["message"].as_str().unwrap();
    assert!(
        message.contains("world-to-camera") && message.contains("invert each"),
        "{message}"
    );
}

#[test]
fn an_image_both_trained_on_and_held_out_is_reported() {
    let dataset = own_dataset();
    let at = |name: &str| dataset.path().join(name);
    std::fs::copy(at("train/r_2.png"), at("test/r_1.png")).unwrap();
    let output = succeeds(kiln(["inspect"]).arg(dataset.path()));
    let printed = text(&output.stdout);
    let words = ["test/r_1 is held out", "train/r_2", "1 warning"];
    assert!(words.iter().all(|w| printed.contains(w)), "{printed}");
}

#[test]
fn a_fault_of_the_whole_file_is_reported_once() {
    let (report, code) = inspected(|d| d["camera_angle_x"] = json!("wide"));
    let problems = report["problems"].as_array().unwrap();
    assert_eq!((code, problems.len()), (1, 1), "{problems:#?}");
    let message = problems[0]["message"].as_str().unwrap();
    assert!(
        message.contains("frame 0 (./train/r_0) and 5 other frames"),
        "{message}"
    );
    finds(
        |d| d["k1"] = json!(50.0),
        "warning",
        &["frame 0", "corners", "6 frames"],
    );
}

#[test]
fn images_are_decoded() {
    let dataset = own_dataset();
    let image = dataset.path().join("train/r_2.png");
    let bytes = std::fs::read(&image).unwrap();
    std::fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    let blank = image::RgbaImage::new(SIDE, SIDE);
    blank.save(dataset.path().join("train/r_3.png")).unwrap();
    let output = kiln(["inspect"]).arg(dataset.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    let line = |mark: &str| {
        printed
            .lines()
            .find(|l| l.contains(mark))
            .unwrap()
            .to_owned()
    };
    assert!(line("error").contains("r_2.png"), "{printed}");
    assert!(line("warning").contains("r_3.png") && line("warning").contains("transparent"));
}

#[test]
fn training_makes_the_same_checks() {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    change_json(&dataset.path().join("transforms_train.json"), |document| {
        let pose = document["frames"][0]["transform_matrix"].clone();
        for i in 0..6 {
            document["frames"][i]["transform_matrix"] = pose.clone();
        }
    });
    train_refused(dataset.path(), &[], 1, &["parallax", "kiln inspect"]);
    // A single training view needs no parallax.
    let folder = tempfile::TempDir::new().unwrap();
    succeeds(train(dataset.path(), &folder.path().join("run")).args([
        "--train-views",
        "0",
        "--steps",
        "1",
    ]));
}

#[test]
fn other_formats_are_named() {
    for (names, words) in [
        (vec!["sparse/0/cameras.bin"], ["COLMAP", "colmap mapper"]),
        (vec!["bundle.out"], ["Bundler", "kiln prepare"]),
        (vec!["poses_bounds.npy"], ["poses_bounds.npy", "numpy.save"]),
        (
            vec!["rgb/0.png", "pose/0.txt", "intrinsics.txt", "bbox.txt"],
            ["intrinsics.txt", "matrix of intrinsics"],
        ),
        (
            vec!["rgb/0.png", "pose/0.txt", "intrinsics.txt"],
            ["intrinsics.txt", "five lines"],
        ),
        (
            vec!["images/a.jpg", "images/b.jpg"],
            ["2 images", "no poses"],
        ),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let output = kiln(["inspect"]).arg(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let printed = text(&output.stdout);
        assert!(
            words.iter().all(|w| printed.contains(w)),
            "{words:?}: {printed}"
        );
    }
}

#[test]
fn a_run_is_verified() {
    if !has_adapter() {
        return;
    }
    let output = succeeds(kiln(["inspect", "--json"]).arg(&shared().run));
    let report = &json_lines(&text(&output.stdout))[0];
    assert_eq!(report["steps"], STEPS);
    assert_eq!(report["resumable"], true);
    assert_eq!(report["warnings"], json!([]));
    let parameters: usize = checkpoint(&shared().run)
        .1
        .iter()
        .filter(|(name, _)| {
            ["position_encoding.", "density_network.", "color_network."]
                .iter()
                .any(|p| name.starts_with(p))
        })
        .map(|(_, (_, bytes))| bytes.len() / 4)
        .sum();
    assert_eq!(report["parameters"], parameters);

    let (_folder, run) = own_run();
    rewrite_checkpoint(&run, "first_moment.density_network.0.weight", |_| {});
    refused(
        kiln(["inspect"]).arg(&run),
        1,
        &["first_moment.density_network.0.weight", "missing"],
    );
    // Write a NaN into the first tensor, which follows the header.
    let (_folder, run) = own_run();
    let path = run.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = header_len(&bytes);
    bytes[8 + header..12 + header].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    refused(
        kiln(["inspect"]).arg(&run),
        1,
        &["NaN", "checkpoint.safetensors"],
    );
}
