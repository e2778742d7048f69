//! Depth supervision: few views with depth images, and what `training.depth=false` does.

use std::path::Path;

use kiln::dataset::{Split, write_blender};
use kiln::gpu::{Gpu, GpuOptions};
use kiln::scene::DemoScene;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{has_adapter, json as read_json, kiln, succeeds, text};

const SIZE: u32 = 48;

/// Write six training and three test views of the built-in scene with depth images, in tenths of a millimetre along rays.
fn write_views(root: &Path) {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    std::fs::create_dir_all(root.join("depth")).unwrap();
    for (split, n) in [(Split::Train, 6), (Split::Test, 3)] {
        let cameras = DemoScene::cameras(split, n, SIZE);
        let images: Vec<_> = cameras
            .iter()
            .map(|camera| DemoScene::render(&gpu, camera).unwrap())
            .collect();
        write_blender(root, split, &cameras, &images, Some([2.0, 6.0])).unwrap();
        let path = root.join(format!("transforms_{split}.json"));
        let mut document = read_json(&path);
        document["depth_unit_scale_factor"] = 1e-4.into();
        document["is_euclidean_depth"] = true.into();
        for (i, camera) in cameras.iter().enumerate() {
            let distances = DemoScene::distances(&gpu, camera).unwrap();
            let stored = distances.iter().map(|d| (d / 1e-4).round() as u16);
            let depth: image::ImageBuffer<image::Luma<u16>, Vec<u16>> =
                image::ImageBuffer::from_raw(SIZE, SIZE, stored.collect()).unwrap();
            let name = format!("depth/{split}_{i}.png");
            depth.save(root.join(&name)).unwrap();
            document["frames"][i]["depth_file_path"] = name.into();
        }
        std::fs::write(path, document.to_string()).unwrap();
    }
}

#[test]
fn depth_images_help_few_views() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (views, run) = (folder.path().join("views"), folder.path().join("run"));
    write_views(&views);
    let train = |depth: bool| -> (String, Value) {
        let mut command = kiln([
            "train",
            "--steps",
            "200",
            "--method",
            "ngp-small",
            "--force",
        ]);
        command.arg(&views).arg("--out").arg(&run);
        command.arg(format!("--set=training.depth={depth}"));
        command.arg("--set=training.batch_size=4096");
        let told = text(&succeeds(&mut command).stderr);
        (told, read_json(&run.join("eval.json")))
    };
    let (told, without) = train(false);
    assert!(!told.contains("depth: "), "{told}");
    let (told, with) = train(true);
    assert!(
        told.contains("known in 6 training views") && told.contains("training.depth=false"),
        "{told}"
    );
    // Both are measured against the depth images of the test views.
    let error = |report: &Value, key: &str| report["depth"][key].as_f64().unwrap();
    for key in ["abs_rel", "rmse"] {
        let [with, without] = [error(&with, key), error(&without, key)];
        assert!(
            with > 0.0 && with < 0.8 * without,
            "{key}: {with} and {without}"
        );
    }
    let [a, b] = [&with, &without].map(|report| report["psnr"].as_f64().unwrap());
    assert!(a > b, "{a} dB with depth, {b} without");
    assert!(with["images"][0]["depth"]["abs_rel"].is_number());
    // What the dataset knows is told before training.
    let inspected = text(&succeeds(kiln(["inspect"]).arg(&views)).stdout);
    assert!(inspected.contains("known in 9 views"), "{inspected}");
}
