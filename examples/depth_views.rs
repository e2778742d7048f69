//! Write a dataset of the built-in scene with few training views and a depth image for every view:
//! `cargo run --release --example depth_views views 8`.

use std::path::Path;

use kiln::camera::Camera;
use kiln::dataset::{Split, write_blender};
use kiln::gpu::{Gpu, GpuOptions};
use kiln::scene::DemoScene;

/// Side of the images in pixels.
const SIZE: u32 = 128;
/// Metres per unit of a depth image.
const UNIT: f32 = 1e-4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("give the folder to write")?;
    let n_train = arguments.next().map_or(Ok(8), |n| n.parse())?;
    let gpu = Gpu::open(&GpuOptions::default())?;
    for (split, n) in [(Split::Train, n_train), (Split::Test, 8)] {
        let cameras = DemoScene::cameras(split, n, SIZE);
        let images = cameras
            .iter()
            .map(|camera| DemoScene::render(&gpu, camera))
            .collect::<Result<Vec<_>, _>>()?;
        write_blender(root.as_ref(), split, &cameras, &images, Some([2.0, 6.0]))?;
        write_depths(&gpu, root.as_ref(), split, &cameras)?;
    }
    Ok(())
}

/// Write the distances along the rays of each view, and name the files in the split's transforms.
fn write_depths(
    gpu: &Gpu,
    root: &Path,
    split: Split,
    cameras: &[Camera],
) -> Result<(), Box<dyn std::error::Error>> {
    let path = root.join(format!("transforms_{split}.json"));
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    document["depth_unit_scale_factor"] = UNIT.into();
    document["is_euclidean_depth"] = true.into();
    std::fs::create_dir_all(root.join("depth"))?;
    for (i, camera) in cameras.iter().enumerate() {
        let distances = DemoScene::distances(gpu, camera)?;
        let stored = distances
            .iter()
            .map(|d| (d / UNIT).round() as u16)
            .collect();
        let image = image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_raw(SIZE, SIZE, stored);
        let name = format!("depth/{split}_{i}.png");
        image.ok_or("wrong size")?.save(root.join(&name))?;
        document["frames"][i]["depth_file_path"] = name.into();
    }
    std::fs::write(path, serde_json::to_string_pretty(&document)?)?;
    Ok(())
}
