//! Invalid datasets: a one-line error that locates the fault, and no run directory.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::*;

const TRAIN: &str = "transforms_train.json";

/// Change the training split's JSON, and check that training is refused with these words.
fn spoiled(change: impl FnOnce(&mut Value), words: &[&str]) {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    change_json(&dataset.path().join(TRAIN), change);
    train_refused(dataset.path(), &[], 1, words);
}

/// Replace a file of the dataset, and check that training is refused with these words.
fn replaced(file: &str, with: impl FnOnce(Vec<u8>) -> Vec<u8>, words: &[&str]) {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    let path = dataset.path().join(file);
    let bytes = with(std::fs::read(&path).unwrap());
    std::fs::write(&path, bytes).unwrap();
    train_refused(dataset.path(), &[], 1, words);
}

#[test]
fn a_folder_that_does_not_exist() {
    if has_adapter() {
        train_refused(
            Path::new("no/such/folder"),
            &[],
            1,
            &["no/such/folder", "no such file or directory"],
        );
    }
}

#[test]
fn a_folder_without_a_dataset() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let here = folder.path().to_str().unwrap();
    train_refused(folder.path(), &[], 1, &[here, TRAIN, "transforms.json"]);
    let file = folder.path().join("photo.png");
    std::fs::write(&file, "").unwrap();
    train_refused(
        &file,
        &[],
        1,
        &["photo.png", "single image", "transforms.json"],
    );
}

#[test]
fn a_dataset_without_its_images() {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    std::fs::remove_dir_all(dataset.path().join("train")).unwrap();
    train_refused(
        dataset.path(),
        &[],
        1,
        &[TRAIN, "none of the 6 images exists", "train/r_0"],
    );
    // Folders that have the names of images are not images.
    for i in 0..6 {
        std::fs::create_dir_all(dataset.path().join(format!("train/r_{i}.png"))).unwrap();
    }
    train_refused(
        dataset.path(),
        &[],
        1,
        &[TRAIN, "none of the 6 images exists"],
    );
}

#[test]
fn no_frames_at_all() {
    spoiled(
        |document| document["frames"] = json!([]),
        &[TRAIN, "`frames` is empty"],
    );
}

#[test]
fn json_that_is_malformed() {
    replaced(
        TRAIN,
        |_| b"{\n \"frames\": [,]}".to_vec(),
        &[TRAIN, "line 2, column 13", "not valid JSON"],
    );
}

#[test]
fn json_that_is_cut_short() {
    replaced(
        TRAIN,
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        &[TRAIN, "not valid JSON", "line"],
    );
    replaced(TRAIN, |_| Vec::new(), &[TRAIN, "is empty"]);
    replaced(
        "transforms_test.json",
        |_| b"null".to_vec(),
        &["transforms_test.json", "found null"],
    );
}

#[test]
fn a_json_file_that_is_a_folder() {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    std::fs::remove_file(dataset.path().join(TRAIN)).unwrap();
    std::fs::create_dir(dataset.path().join(TRAIN)).unwrap();
    train_refused(
        dataset.path(),
        &[],
        1,
        &[dataset.path().to_str().unwrap(), "no dataset here"],
    );
}

#[test]
fn a_matrix_of_the_wrong_shape() {
    let spoil = |document: &mut Value| {
        document["frames"][3]["transform_matrix"] = json!([[1, 0, 0], [0, 1, 0], [0, 0, 1]]);
    };
    spoiled(
        spoil,
        &[
            TRAIN,
            "frame 3",
            "train/r_3",
            "transform_matrix",
            "3 numbers in row 0",
        ],
    );
}

#[test]
fn a_pose_with_nan() {
    if !has_adapter() {
        return;
    }
    let dataset = own_dataset();
    let path = dataset.path().join(TRAIN);
    let mut document = json(&path);
    document["frames"][2]["transform_matrix"][1][3] = "HERE".into();
    std::fs::write(&path, document.to_string().replace("\"HERE\"", "NaN")).unwrap();
    train_refused(
        dataset.path(),
        &[],
        1,
        &[TRAIN, "frame 2", "train/r_2", "row 1, column 3", "NaN"],
    );
}

#[test]
fn an_image_that_is_cut_short() {
    replaced(
        "train/r_4.png",
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        &["train/r_4.png", "copy or export"],
    );
    replaced("train/r_4.png", |_| Vec::new(), &["train/r_4.png"]);
    replaced(
        "train/r_4.png",
        |_| b"GIF89a".to_vec(),
        &["train/r_4.png", "PNG"],
    );
}

#[test]
fn a_size_that_contradicts_the_images() {
    let spoil = |document: &mut Value| (document["w"], document["h"]) = (24.into(), 99.into());
    spoiled(spoil, &[TRAIN, "frame 0", "24 × 24", "24 × 99"]);
}

#[test]
fn numbers_that_cannot_be() {
    spoiled(
        |document| document["camera_angle_x"] = json!(1e300),
        &[TRAIN, "`camera_angle_x`", "too large"],
    );
    spoiled(
        |document| document["w"] = json!(4_000_000_000_u32),
        &[TRAIN, "`w` = 4000000000"],
    );
    spoiled(
        |document| document["near"] = json!(7),
        &[TRAIN, "`near` = 7", "`far` = 6"],
    );
    spoiled(
        |document| document["aabb_scale"] = json!(3),
        &[TRAIN, "`aabb_scale` = 3", "power of two"],
    );
}

#[test]
fn training_views_that_are_not_there() {
    if !has_adapter() {
        return;
    }
    for (views, words) in [
        ("6", ["view 6", "0 to 5"]),
        ("0,6", ["view 6", "0 to 5"]),
        ("4..7", ["view 6", "0 to 5"]),
        ("0-99999999999", ["view 6", "0 to 5"]),
        ("1,1", ["view 1", "twice"]),
        ("0..3,2", ["view 2", "twice"]),
    ] {
        train_refused(
            &shared().dataset,
            &["--train-views", views],
            2,
            &["--train-views", words[0], words[1]],
        );
    }
    train_refused(
        &shared().dataset,
        &["--eval-views", "0,3"],
        2,
        &["--eval-views 3", "3 views"],
    );
}
