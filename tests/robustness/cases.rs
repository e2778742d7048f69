//! Damaged datasets, configurations, checkpoints and camera paths: each ends in success or in one clear error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{DynamicImage, ImageFormat};
use serde_json::{Value, json};

use crate::mutate::{self, Random};
use crate::process::{self, Outcome};
use crate::support::{SMALL, copy_folder, has_adapter, header_len, json as read_json, shared};

/// Number of cases unless `KILN_CASES` is set.
const FEW: u64 = 48;
/// Maximum CPU time of a case over all cores, in seconds; a hang always exceeds it.
const CPU_SECONDS: f64 = 10.0;
/// Memory that a process on the software adapter needs for the smallest run.
const BASE_BYTES: u64 = 768 << 20;

/// The files that cases start from.
struct Base {
    dataset: PathBuf,
    run: PathBuf,
    config: Value,
}

fn base() -> Base {
    let shared = shared();
    let config: toml::Value =
        toml::from_str(&std::fs::read_to_string(shared.run.join("config.toml")).unwrap()).unwrap();
    Base {
        dataset: shared.dataset.clone(),
        run: shared.run.clone(),
        config: serde_json::to_value(config).unwrap(),
    }
}

/// Return all files below a folder, without following links.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // An archive takes the place of a dataset.
    let entries = folder.read_dir().into_iter().flatten();
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Return the sizes and modification times of all files below `folder`, except those below `but`.
fn state_of(folder: &Path, but: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    files_below(folder)
        .into_iter()
        .filter(|p| !p.starts_with(but))
        .map(|p| {
            let data = p.symlink_metadata().unwrap();
            (p, (data.len(), data.modified().unwrap()))
        })
        .collect()
}

/// Convert the dataset to one `transforms.json` with the keys that nerfstudio and Instant-NGP write.
fn as_transforms(dataset: &Path) {
    let split = read_json(&dataset.join("transforms_train.json"));
    let mut frames = split["frames"].as_array().unwrap().clone();
    frames[0]["mask_path"] = json!("train/r_1.png");
    frames[1]["fl_x"] = json!(30.0);
    frames[2]["depth_file_path"] = json!("depth.png");
    write_depth(&dataset.join("depth.png"));
    let header = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n";
    std::fs::write(
        dataset.join("points.ply"),
        format!("{header}0 0 0\n1 1 1\n"),
    )
    .unwrap();
    let document = json!({
        "camera_model": "OPENCV", "fl_x": 32.9, "fl_y": 32.9, "cx": 12.0, "cy": 12.0, "w": 24, "h": 24,
        "k1": 0.01, "k2": 0.0, "p1": 0.0, "p2": 0.001, "aabb_scale": 2, "scale": 0.3, "offset": [0.5, 0.5, 0.5],
        "near": 2.0, "far": 6.0, "frames": frames, "ply_file_path": "points.ply",
        "train_filenames": ["train/r_0.png", "train/r_1.png", "train/r_2.png"], "test_filenames": ["train/r_3.png"],
    });
    std::fs::remove_file(dataset.join("transforms_train.json")).unwrap();
    std::fs::remove_file(dataset.join("transforms_test.json")).unwrap();
    std::fs::write(dataset.join("transforms.json"), document.to_string()).unwrap();
}

/// Convert the images to an LLFF capture: six cameras side by side, and `poses_bounds.npy`.
fn as_llff(dataset: &Path) {
    std::fs::rename(dataset.join("train"), dataset.join("images")).unwrap();
    for name in ["transforms_train.json", "transforms_test.json"] {
        std::fs::remove_file(dataset.join(name)).unwrap();
    }
    std::fs::remove_dir_all(dataset.join("test")).unwrap();
    let mut header = "{'descr': '<f8', 'fortran_order': False, 'shape': (6, 17), }".to_owned();
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for i in 0..6_u8 {
        // Columns down, right, back, position, and height, width, focal length; then near and far.
        let row = [
            [0.0, 1.0, 0.0, 0.2 * f64::from(i), 24.0],
            [-1.0, 0.0, 0.0, 0.1 * f64::from(i % 2), 24.0],
            [0.0, 0.0, 1.0, 0.0, 30.0],
        ];
        let numbers = row.as_flattened().iter().chain(&[2.0, 6.0]);
        bytes.extend(numbers.flat_map(|v| v.to_le_bytes()));
    }
    std::fs::write(dataset.join("poses_bounds.npy"), bytes).unwrap();
}

/// Convert the images to an object of Scene Representation Networks: a text file per pose, of cameras that look along +z, y
/// down.
fn as_srn(random: &mut Random, dataset: &Path) {
    let split = read_json(&dataset.join("transforms_train.json"));
    std::fs::rename(dataset.join("train"), dataset.join("rgb")).unwrap();
    std::fs::create_dir(dataset.join("pose")).unwrap();
    for (i, frame) in split["frames"].as_array().unwrap().iter().enumerate() {
        let rows = frame["transform_matrix"].as_array().unwrap().iter();
        let rows = rows.map(|row| {
            let at = |column: usize| row[column].as_f64().unwrap();
            format!("{} {} {} {}", at(0), -at(1), -at(2), at(3))
        });
        let text = rows.collect::<Vec<_>>().join("\n");
        std::fs::write(dataset.join(format!("pose/r_{i}.txt")), text).unwrap();
    }
    for name in ["transforms_train.json", "transforms_test.json"] {
        std::fs::remove_file(dataset.join(name)).unwrap();
    }
    std::fs::remove_dir_all(dataset.join("test")).unwrap();
    // The near plane has a separate line, or none.
    let near = *random.of(&["0.\n", ""]);
    let text = format!("32.9 12. 12. 0.\n0. 0. 0.\n{near}2.\n24 24\n");
    std::fs::write(dataset.join("intrinsics.txt"), text).unwrap();
}

/// Convert the images to an NSVF scene: the poses of [`as_srn`], a matrix of intrinsics, and a box.
fn as_nsvf(random: &mut Random, dataset: &Path) {
    as_srn(random, dataset);
    let text = "32.9 0 12 0\n0 32.9 12 0\n0 0 1 0\n0 0 0 1\n";
    std::fs::write(dataset.join("intrinsics.txt"), text).unwrap();
    std::fs::write(dataset.join("bbox.txt"), "-1 -1 -1 1 1 1 0.4\n").unwrap();
    std::fs::write(dataset.join("near_and_far.txt"), "1 6\n").unwrap();
}

/// Convert the images to a COLMAP model, binary or text, with one point and masks of two images.
fn as_colmap(random: &mut Random, dataset: &Path) {
    let split = read_json(&dataset.join("transforms_train.json"));
    std::fs::rename(dataset.join("train"), dataset.join("images")).unwrap();
    for name in ["transforms_train.json", "transforms_test.json"] {
        std::fs::remove_file(dataset.join(name)).unwrap();
    }
    std::fs::remove_dir_all(dataset.join("test")).unwrap();
    let poses: Vec<[f64; 7]> = (split["frames"].as_array().unwrap().iter())
        .map(|frame| {
            let column = |c: usize| {
                glam::DVec3::from(
                    [0, 1, 2].map(|r| frame["transform_matrix"][r][c].as_f64().unwrap()),
                )
            };
            // COLMAP's cameras look along +z, y down.
            let axes = glam::DMat3::from_cols(column(0), -column(1), -column(2)).transpose();
            let [x, y, z, w] = glam::DQuat::from_mat3(&axes).to_array();
            let t = -(axes * column(3));
            [w, x, y, z, t.x, t.y, t.z]
        })
        .collect();
    let folder = dataset.join(random.of(&["sparse/0", "sparse", "colmap/sparse/0"]));
    std::fs::create_dir_all(&folder).unwrap();
    if random.below(2) == 0 {
        let camera = "1 OPENCV 24 24 32.9 32.9 12 12 0.01 0 0 0.001\n";
        std::fs::write(folder.join("cameras.txt"), camera).unwrap();
        let mut images = String::new();
        for (i, pose) in poses.iter().enumerate() {
            let numbers: Vec<String> = pose.iter().map(f64::to_string).collect();
            write!(images, "{i} {} 1 r_{i}.png\n1 2 0\n", numbers.join(" ")).unwrap();
        }
        std::fs::write(folder.join("images.txt"), images).unwrap();
        std::fs::write(folder.join("points3D.txt"), "0 0 0 0 9 9 9 0.5 0 0 1 0\n").unwrap();
    } else {
        let mut cameras = 1_u64.to_le_bytes().to_vec();
        cameras.extend([1_u32, 4].map(u32::to_le_bytes).concat());
        cameras.extend([24_u64, 24].map(u64::to_le_bytes).concat());
        cameras.extend(
            [32.9_f64, 32.9, 12.0, 12.0, 0.01, 0.0, 0.0, 0.001]
                .map(f64::to_le_bytes)
                .concat(),
        );
        std::fs::write(folder.join("cameras.bin"), cameras).unwrap();
        let mut images = (poses.len() as u64).to_le_bytes().to_vec();
        for (i, pose) in (0_u32..).zip(&poses) {
            images.extend(i.to_le_bytes());
            images.extend(pose.map(f64::to_le_bytes).concat());
            images.extend(1_u32.to_le_bytes());
            images.extend(format!("r_{i}.png\0").bytes());
            images.extend(1_u64.to_le_bytes());
            images.extend([1.0_f64, 2.0].map(f64::to_le_bytes).concat());
            images.extend(0_u64.to_le_bytes());
        }
        std::fs::write(folder.join("images.bin"), images).unwrap();
        let mut points = [1_u64, 0].map(u64::to_le_bytes).concat();
        points.extend([0.0_f64; 3].map(f64::to_le_bytes).concat());
        points.extend([9, 9, 9]);
        points.extend(0.5_f64.to_le_bytes());
        points.extend(2_u64.to_le_bytes());
        points.extend([0_u32, 0, 1, 0].map(u32::to_le_bytes).concat());
        std::fs::write(folder.join("points3D.bin"), points).unwrap();
    }
    std::fs::create_dir(dataset.join("masks")).unwrap();
    for name in ["r_1.png", "r_2.png.png"] {
        let mask = image::GrayImage::from_fn(24, 24, |x, _| image::Luma([255 * u8::from(x > 5)]));
        mask.save(dataset.join("masks").join(name)).unwrap();
    }
}

/// Move the images of the training split to `folder`, and remove everything else. Return their camera-to-world matrices.
fn take_images(dataset: &Path, folder: &str) -> Vec<[[f64; 4]; 3]> {
    let split = read_json(&dataset.join("transforms_train.json"));
    let target = dataset.join(folder);
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::rename(dataset.join("train"), target).unwrap();
    for name in ["transforms_train.json", "transforms_test.json"] {
        std::fs::remove_file(dataset.join(name)).unwrap();
    }
    std::fs::remove_dir_all(dataset.join("test")).unwrap();
    let frames = split["frames"].as_array().unwrap().iter();
    let matrix = |frame: &Value| {
        [0, 1, 2].map(|r| [0, 1, 2, 3].map(|c| frame["transform_matrix"][r][c].as_f64().unwrap()))
    };
    frames.map(matrix).collect()
}

/// Convert the images to a capture of `RealityCapture`.
fn as_reality_capture(random: &mut Random, dataset: &Path) {
    let folder = *random.of::<&str>(&["images", "photos"]);
    let poses = take_images(dataset, folder);
    let mut text = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\n".to_owned();
    for (i, [x, y, z]) in poses.iter().enumerate() {
        let turn = 360.0 * i as f64 / poses.len() as f64;
        let (x, y, z) = (x[3], y[3], z[3]);
        writeln!(
            text,
            "r_{i}.png,{x},{y},{z},{turn},60,0,49.3,0,0,0.01,0,0,0,0,0.001"
        )
        .unwrap();
    }
    std::fs::write(dataset.join("cameras.csv"), text).unwrap();
}

/// Convert the images to a capture of Metashape.
fn as_metashape(dataset: &Path) {
    let poses = take_images(dataset, "images");
    let mut cameras = String::new();
    for (i, rows) in poses.iter().enumerate() {
        let numbers: Vec<String> = rows
            .iter()
            .flat_map(|[x, y, z, t]| [*x, -y, -z, *t])
            .chain([0.0, 0.0, 0.0, 1.0])
            .map(|v| v.to_string())
            .collect();
        let matrix = numbers.join(" ");
        writeln!(
            cameras,
            "<camera id=\"{i}\" label=\"r_{i}\" sensor_id=\"0\" component_id=\"0\"><transform>{matrix}</transform></camera>"
        )
        .unwrap();
    }
    let text = format!(
        "<?xml version=\"1.0\"?>\n<document version=\"2.0.0\"><chunk label=\"a\"><sensors><sensor id=\"0\" type=\"frame\">\n\
         <resolution width=\"24\" height=\"24\"/><calibration class=\"adjusted\"><f>32.9</f><cx>0</cx><cy>0</cy><k1>0.01</k1>\
         </calibration></sensor></sensors>\n<components><component id=\"0\"><transform><rotation>1 0 0 0 1 0 0 0 1</rotation>\
         <translation>1 2 3</translation><scale>2</scale></transform></component></components>\n<cameras>\n{cameras}</cameras>\
         </chunk></document>\n"
    );
    std::fs::write(dataset.join("cameras.xml"), text).unwrap();
}

/// Convert the images to a raw capture of Polycam, with depth.
fn as_polycam(dataset: &Path) {
    let poses = take_images(dataset, "keyframes/images");
    for folder in ["keyframes/cameras", "keyframes/depth"] {
        std::fs::create_dir(dataset.join(folder)).unwrap();
    }
    for (i, [x, y, z]) in poses.iter().enumerate() {
        let mut camera = json!({
            "fx": 32.9, "fy": 32.9, "cx": 12.0, "cy": 12.0, "width": 24, "height": 24, "blur_score": 90.0,
        });
        for (name, row) in [("2", x), ("0", y), ("1", z)] {
            for (column, value) in row.iter().enumerate() {
                camera[format!("t_{name}{column}")] = json!(value);
            }
        }
        let path = dataset.join(format!("keyframes/cameras/r_{i}.json"));
        std::fs::write(path, camera.to_string()).unwrap();
        write_depth(&dataset.join(format!("keyframes/depth/r_{i}.png")));
    }
}

fn write_depth(path: &Path) {
    let depth = image::ImageBuffer::from_fn(12, 12, |x, _| image::Luma([4000 + 10 * x as u16]));
    depth.save(path).unwrap();
}

/// Pack the dataset into an archive, which replaces it.
fn as_archive(dataset: &Path) {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for path in files_below(dataset) {
        // Damaged files may be links, pipes, or enormous.
        let data = path.symlink_metadata().unwrap();
        if !data.is_file() || data.len() > 1 << 24 {
            continue;
        }
        let name = path.strip_prefix(dataset).unwrap().to_string_lossy();
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(format!("scene/{name}"), options).unwrap();
        std::io::Write::write_all(&mut writer, &std::fs::read(&path).unwrap()).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    std::fs::remove_dir_all(dataset).unwrap();
    std::fs::write(dataset, bytes).unwrap();
}

/// Rewrite an image in another format without renaming it. A JPEG gets an EXIF orientation.
fn in_another_format(random: &mut Random, images: &[PathBuf]) -> PathBuf {
    let path = random.of(images).clone();
    let image = image::open(&path).unwrap();
    let format = *random.of(&[
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
        ImageFormat::OpenExr,
    ]);
    let image = match format {
        ImageFormat::OpenExr => DynamicImage::ImageRgb32F(image.to_rgb32f()),
        _ => DynamicImage::ImageRgb8(image.to_rgb8()),
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    let mut bytes = bytes.into_inner();
    if format == ImageFormat::Jpeg {
        // An EXIF directory with one entry, the orientation.
        let turn = random.below(12) as u8;
        let mut exif =
            b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([turn, 0, 0, 0, 0, 0, 0]);
        bytes.splice(2..2, exif);
    }
    std::fs::write(&path, bytes).unwrap();
    path
}

fn kiln(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(arguments);
    command
}

/// Damage a JSON file: some of its values, or its bytes.
fn spoil_json(random: &mut Random, path: &Path) -> String {
    if random.below(3) == 0 {
        return mutate::file(random, path);
    }
    let mut document = read_json(path);
    let mut changes: Vec<String> = (0..=random.below(3))
        .map(|_| mutate::value(random, &mut document))
        .collect();
    let text = document.to_string();
    let bytes = match random.below(6) {
        0 => {
            let wide = text.encode_utf16().flat_map(u16::to_le_bytes);
            b"\xff\xfe".iter().copied().chain(wide).collect()
        }
        1 => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        2 => format!("\u{feff}// {{ \"\n/* [ */ {text} // }}").into_bytes(),
        _ => text.into_bytes(),
    };
    std::fs::write(path, bytes).unwrap();
    if random.below(4) == 0 {
        changes.push(mutate::file(random, path));
    }
    changes.join("; ")
}

/// Damage a dataset. Return a description of the damage.
fn spoil_dataset(random: &mut Random, dataset: &Path) -> String {
    match random.below(16) {
        0 | 1 => as_transforms(dataset),
        2 => as_llff(dataset),
        3 => as_srn(random, dataset),
        4 => as_nsvf(random, dataset),
        5..=7 => as_colmap(random, dataset),
        8 | 9 => as_reality_capture(random, dataset),
        10 | 11 => as_metashape(dataset),
        12 => as_polycam(dataset),
        // Leave poses without images.
        13 => std::fs::remove_dir_all(dataset.join("test")).unwrap(),
        _ => {}
    }
    let files = files_below(dataset);
    let (json, images): (Vec<_>, Vec<_>) = files.into_iter().partition(|p| {
        p.extension().is_some_and(|e| {
            ["json", "npy", "txt", "bin", "csv", "xml", "ply"]
                .iter()
                .any(|of| e == *of)
        })
    });
    let path = match random.below(6) {
        0 => random.of(&images).clone(),
        1 => in_another_format(random, &images),
        _ => random.of(&json).clone(),
    };
    let what = if path.extension().is_some_and(|e| e == "json") {
        spoil_json(random, &path)
    } else {
        mutate::file(random, &path)
    };
    format!("{}: {what}", path.strip_prefix(dataset).unwrap().display())
}

/// Damage a dataset, or an archive of one, which is renamed. Return its path and a description of the damage.
fn spoil_input(random: &mut Random, dataset: &Path) -> (PathBuf, String) {
    if random.below(6) > 0 {
        return (dataset.to_owned(), spoil_dataset(random, dataset));
    }
    let inside = (random.below(2) == 0).then(|| spoil_dataset(random, dataset));
    as_archive(dataset);
    let archive = dataset.with_extension("zip");
    std::fs::rename(dataset, &archive).unwrap();
    let what = inside.unwrap_or_else(|| mutate::file(random, &archive));
    (archive, format!("archive: {what}"))
}

/// Create the files of a case. Return the command to run on them and a description of the damage.
fn make(seed: u64, harmless: bool, base: &Base, folder: &Path) -> (Command, String) {
    let mut random = Random {
        state: seed,
        harmless,
    };
    let place = |name: &str| folder.join(name);
    std::fs::create_dir_all(place("canary")).unwrap();
    std::fs::write(place("canary/keep.png"), b"keep").unwrap();
    copy_folder(&base.dataset, &place("work/dataset"));
    copy_folder(&base.run, &place("work/run"));
    let (dataset, run, out) = (place("work/dataset"), place("work/run"), place("work/out"));
    match random.below(20) {
        0..=8 => {
            let (dataset, what) = spoil_input(&mut random, &dataset);
            let mut command = kiln(&["inspect", "--json", "--plot"]);
            command.arg(out.join("plot.png")).arg(&dataset);
            std::fs::create_dir(&out).unwrap();
            command.env("KILN_CACHE", out.join("cache"));
            (command, format!("inspect a dataset: {what}"))
        }
        9 | 10 => {
            let (dataset, what) = spoil_input(&mut random, &dataset);
            let mut command = kiln(&["train", "--steps", "1", "--eval-views", "1", "--out"]);
            command.arg(&out).args(SMALL).arg(&dataset);
            command.env("KILN_CACHE", place("work/cache"));
            (command, format!("train on a dataset: {what}"))
        }
        11 | 12 => {
            let path = place("work/config.toml");
            let what = spoil_config(&mut random, base, &path);
            let mut command = kiln(&["inspect", "--json", "--config"]);
            command.arg(&path).arg(&dataset);
            (command, format!("inspect under a configuration: {what}"))
        }
        13 => {
            let what = spoil_run(&mut random, &run);
            let mut command = kiln(&["eval", "--eval-views", "1", "--dataset"]);
            command.arg(&dataset).arg(&run);
            (command, format!("evaluate a run: {what}"))
        }
        14 => {
            let what = spoil_run(&mut random, &run);
            let mut command = kiln(&["train", "--steps", "41", "--eval-views", "1", "--resume"]);
            command.arg(&run).arg(&dataset);
            (command, format!("resume a run: {what}"))
        }
        15 => {
            let what = if random.below(2) == 0 {
                std::fs::remove_dir_all(dataset.join("test")).unwrap();
                let poses = dataset.join("transforms_test.json");
                format!("poses: {}", spoil_json(&mut random, &poses))
            } else {
                spoil_run(&mut random, &run)
            };
            let mut command = kiln(&["render", "--width", "8", "--out"]);
            command.arg(&out).arg("--dataset").arg(&dataset).arg(&run);
            (command, format!("render a run: {what}"))
        }
        16 | 17 => {
            let path = place("work/path.json");
            let what = spoil_path(&mut random, &path);
            let mut command = kiln(&[
                "render", "--frames", "0..2", "--width", "8", "--height", "8",
            ]);
            command.arg("--out").arg(&out).arg("--path").arg(&path);
            command.arg("--dataset").arg(&dataset).arg(&run);
            (command, format!("render along a path: {what}"))
        }
        _ => {
            let what = spoil_run(&mut random, &run);
            let mut command = kiln(&["inspect", "--json"]);
            command.arg(&run);
            (command, format!("inspect a run: {what}"))
        }
    }
}

fn spoil_config(random: &mut Random, base: &Base, path: &Path) -> String {
    let mut config = base.config.clone();
    let mut changes: Vec<String> = (0..=random.below(2))
        .map(|_| mutate::value(random, &mut config))
        .collect();
    // TOML has no null.
    let text = toml::to_string(&without_nulls(config)).unwrap_or_default();
    std::fs::write(path, text).unwrap();
    if random.below(4) == 0 {
        changes.push(mutate::file(random, path));
    }
    changes.join("; ")
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect(),
        Value::Array(list) => list
            .into_iter()
            .filter(|v| !v.is_null())
            .map(without_nulls)
            .collect(),
        other => other,
    }
}

fn spoil_run(random: &mut Random, run: &Path) -> String {
    let checkpoint = run.join("checkpoint.safetensors");
    if random.below(2) == 0 {
        return format!("header: {}", spoil_header(random, &checkpoint));
    }
    let files = files_below(run);
    let path = if random.below(3) == 0 {
        random.of(&files).clone()
    } else {
        checkpoint
    };
    let what = mutate::file(random, &path);
    format!("{}: {what}", path.strip_prefix(run).unwrap().display())
}

/// Change the JSON header of a safetensors file, which holds the tensors' types, shapes and offsets, and the metadata.
fn spoil_header(random: &mut Random, path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let length = header_len(&bytes);
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let what = if random.below(3) > 0 {
        spoil_metadata(random, &mut header["__metadata__"])
    } else {
        mutate::value(random, &mut header)
    };
    let text = header.to_string().into_bytes();
    let length = if !random.harmless && random.below(10) == 0 {
        random.next()
    } else {
        text.len() as u64
    };
    let parts = [
        &length.to_le_bytes()[..],
        &text,
        &bytes[8 + header_len(&bytes)..],
    ];
    std::fs::write(path, parts.concat()).unwrap();
    what
}

/// Change the metadata, in most cases a value inside the configuration, which is stored as text.
fn spoil_metadata(random: &mut Random, metadata: &mut Value) -> String {
    let config = metadata["config"].as_str().map(str::to_owned);
    match config {
        Some(text) if random.below(3) > 0 => {
            let config: toml::Value = toml::from_str(&text).unwrap();
            let mut config = serde_json::to_value(config).unwrap();
            let what = mutate::value(random, &mut config);
            let text = toml::to_string(&without_nulls(config)).unwrap_or_default();
            metadata["config"] = json!(text);
            format!("config{what}")
        }
        _ => mutate::value(random, metadata),
    }
}

fn spoil_path(random: &mut Random, path: &Path) -> String {
    let rows = [
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, -1.0, -3.5],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let document = match random.below(5) {
        0 => json!({
            "camera_type": "perspective", "render_height": 8, "render_width": 8, "fps": 24, "seconds": 0.1,
            "camera_path": [
                { "camera_to_world": rows.as_flattened(), "fov": 50.0, "aspect": 1.0 },
                { "camera_to_world": rows.as_flattened(), "fov": 60.0, "aspect": 1.0 },
            ],
            "keyframes": [], "is_cycle": false,
        }),
        1 => json!({
            "path": [
                { "R": [1, 0, 0, 0], "T": [0.5, 0.5, 1.6], "fov": 40.0, "scale": 1.5, "slice": 0.0 },
                { "R": [0.9, 0.1, 0, 0], "T": [0.5, 0.4, 1.6], "fov": 50.0, "scale": 1.5, "slice": 0.0 },
            ],
            "time": 0.5, "loop": false, "duration_seconds": 0.1,
        }),
        2 => json!({
            "camera_angle_x": 0.7, "w": 8, "h": 8, "fps": 12,
            "frames": [
                { "file_path": "none/r_0", "transform_matrix": rows },
                { "file_path": "none/r_1", "transform_matrix": rows },
            ],
        }),
        _ => json!({
            "width": 8, "height": 8, "fps": 4, "camera": "perspective", "loop": false,
            "key_frames": [
                { "time": 0.0, "eye": [3.5, 0.0, 2.0], "target": [0.0, 0.0, 0.0], "up": [0.0, 0.0, 1.0], "fov": 40.0 },
                { "time": 1.0, "transform_matrix": rows, "fov": 50.0 },
                { "time": 2.5, "eye": [0.0, -3.5, 1.0], "target": [0.0, 0.0, 0.0], "fov": 40.0 },
            ],
        }),
    };
    std::fs::write(path, document.to_string()).unwrap();
    spoil_json(random, path)
}

/// Return why the outcome of a case is a failure, if it is one.
fn fault(outcome: &Outcome) -> Option<String> {
    let n_errors = outcome
        .stderr
        .lines()
        .filter(|l| l.starts_with("error: "))
        .count();
    let planned = planned_bytes(&outcome.stderr);
    match outcome.code {
        None => return Some("it was killed, or crashed".to_owned()),
        Some(0) => {}
        Some(1 | 2) if n_errors == 1 => {}
        Some(code) => return Some(format!("exit code {code} with {n_errors} errors")),
    }
    if outcome.stderr.contains("panicked") {
        return Some("it panicked".to_owned());
    }
    if outcome.cpu_seconds > CPU_SECONDS {
        return Some(format!("it took {:.1} s", outcome.cpu_seconds));
    }
    let limit = BASE_BYTES + 2 * planned;
    (outcome.bytes > limit).then(|| {
        format!(
            "it took {} MiB, {} allowed",
            outcome.bytes >> 20,
            limit >> 20
        )
    })
}

/// Return the memory that a run reported.
fn planned_bytes(stderr: &str) -> u64 {
    let plan = stderr
        .lines()
        .find_map(|l| l.strip_prefix("memory: about "))
        .unwrap_or("");
    let mut words = plan.split(' ');
    let amount: f64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0.0);
    let unit = if words.next() == Some("GiB") {
        1 << 30
    } else {
        1 << 20
    };
    (amount * f64::from(unit)) as u64
}

#[test]
fn undamaged_files_succeed() {
    if !has_adapter() {
        return;
    }
    let base = base();
    // Enough for every kind of case to occur.
    for seed in 0..FEW {
        let folder = tempfile::tempdir().unwrap();
        let (mut command, what) = make(seed, true, &base, folder.path());
        let outcome = process::run(&mut command);
        assert_eq!(
            outcome.code,
            Some(0),
            "{what}: {command:?}\n{}",
            outcome.stderr
        );
        assert_eq!(fault(&outcome), None, "{what}");
    }
}

#[test]
fn damaged_files_end_in_success_or_one_error() {
    if !has_adapter() {
        return;
    }
    let base = base();
    let first = number_of("KILN_SEED", 1);
    let (seeds, keep): (Vec<u64>, bool) = match std::env::var("KILN_CASE") {
        Ok(case) => (vec![case.parse().unwrap()], true),
        Err(_) => (
            (first..first + number_of("KILN_CASES", FEW)).collect(),
            false,
        ),
    };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::sync::Mutex::new((Vec::new(), [0_usize; 3], 0.0_f64, 0_u64));
    let work = || {
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(&seed) = seeds.get(index) else { break };
            let folder = tempfile::tempdir().unwrap();
            let (mut command, what) = make(seed, false, &base, folder.path());
            let work = folder.path().join("work");
            let outside = state_of(folder.path(), &work);
            let given = state_of(&work.join("dataset"), &work.join("none"));
            let trained = state_of(&work.join("run"), &work.join("none"));
            let keeps_runs = what.starts_with("inspect") || what.starts_with("render");
            let outcome = process::run(&mut command);
            let mut wrong = fault(&outcome);
            if state_of(folder.path(), &work) != outside
                || state_of(&work.join("dataset"), &work.join("none")) != given
            {
                wrong = Some("it wrote outside its output".to_owned());
            }
            if keeps_runs && state_of(&work.join("run"), &work.join("none")) != trained {
                wrong = Some("it wrote into the run".to_owned());
            }
            let mut results = results.lock().unwrap();
            results.1[outcome.code.unwrap_or(2).clamp(0, 2) as usize] += 1;
            results.2 = results.2.max(outcome.cpu_seconds);
            results.3 = results.3.max(outcome.bytes);
            if let Some(wrong) = wrong {
                let text = format!(
                    "case {seed}: {wrong}\n  {what}\n  {command:?}\n  {}",
                    outcome
                        .stderr
                        .lines()
                        .rev()
                        .take(4)
                        .collect::<Vec<_>>()
                        .join("\n  ")
                );
                results.0.push(text);
            }
            if keep {
                eprintln!("case {seed}: {what}\n{}{}", outcome.stdout, outcome.stderr);
                eprintln!("files in {}", folder.keep().display());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (faults, codes, seconds, bytes) = results.into_inner().unwrap();
    eprintln!(
        "{} cases: {} succeeded, {} failed, {} were refused; at most {seconds:.1} s and {} MiB",
        seeds.len(),
        codes[0],
        codes[1],
        codes[2],
        bytes >> 20
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

use crate::number as number_of;
