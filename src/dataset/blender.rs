//! The Blender (NeRF-synthetic) format: `transforms_{train,val,test}.json`, one file a split.

use std::path::Path;

use rayon::prelude::*;

use super::error::DatasetError;
use super::json::Document;
use super::{Dataset, Format, Image, Notes, Split, frames};
use crate::camera::{Camera, Lens};

/// The file of a split.
pub(super) fn file_name(split: Split) -> String {
    format!("transforms_{split}.json")
}

/// Reads the dataset whose `transforms_train.json` lies in `root`.
pub(super) fn open(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let document = Document::read(&root.join(file_name(Split::Train)))?;
    let train = frames::read_some(&document, root, notes)?;
    let mut dataset = Dataset::new(root, Format::Blender).with_hints(&document.fields())?;
    dataset.train = train.frames;
    dataset.missing = train.missing;
    for split in [Split::Val, Split::Test] {
        let path = root.join(file_name(split));
        if !path.is_file() {
            continue;
        }
        let found = frames::read(&Document::read(&path)?, root, notes)?;
        if found.frames.is_empty() && !found.missing.is_empty() {
            let count = found.missing.len();
            dataset.warnings.push(format!(
                "{}: none of its {count} images exists: split ignored",
                file_name(split)
            ));
        }
        dataset.missing.extend(found.missing);
        match split {
            Split::Val => dataset.val = found.frames,
            Split::Train | Split::Test => dataset.test = found.frames,
        }
    }
    if dataset.test.is_empty() {
        fall_back(&mut dataset);
    }
    dataset.finish(notes);
    Ok(dataset)
}

/// A test split where there is none: the validation views, else every 8th training view.
pub(super) fn fall_back(dataset: &mut Dataset) {
    if dataset.val.is_empty() {
        let views = std::mem::take(&mut dataset.train);
        dataset.hold_out(views);
        dataset.warnings.push(format!(
            "no test or val split: every 8th training view is held out ({} of {})",
            dataset.test.len(),
            dataset.test.len() + dataset.train.len()
        ));
    } else {
        dataset.test = dataset.val.clone();
        dataset
            .warnings
            .push("no test split: the val split is used".to_owned());
    }
}

/// Writes one split in Blender's format: `root/transforms_{split}.json` and
/// `root/{split}/r_{i}.png`.
///
/// `cameras` and `images` go in pairs; `near_far` (world units) is written as `near` and `far`
/// where given.
///
/// # Errors
/// Cameras the format cannot hold (all must be pinholes with one size and focal length, square
/// pixels and a centred principal point), images of another size, or a file that cannot be written.
pub fn write_blender(
    root: &Path,
    split: Split,
    cameras: &[Camera],
    images: &[Image],
    near_far: Option<[f32; 2]>,
) -> Result<(), DatasetError> {
    let path = root.join(file_name(split));
    let invalid = |message: &str| DatasetError::File {
        path: path.clone(),
        message: message.to_owned(),
    };
    let first = cameras
        .first()
        .ok_or_else(|| invalid("cannot write a split without frames"))?;
    if cameras.len() != images.len() {
        return Err(invalid(
            "cannot write a split with unequal numbers of cameras and images",
        ));
    }
    for (camera, image) in cameras.iter().zip(images) {
        if !is_blender(camera) || (camera.width, camera.focal) != (first.width, first.focal) {
            return Err(invalid(
                "the Blender format holds pinhole cameras with one focal length, square pixels \
                 and a centred principal point",
            ));
        }
        if [image.width, image.height] != [camera.width, camera.height] {
            return Err(invalid("an image and its camera differ in size"));
        }
    }
    let folder = root.join(split.to_string());
    std::fs::create_dir_all(&folder).map_err(|e| DatasetError::write(&folder, e))?;
    images
        .par_iter()
        .enumerate()
        .try_for_each(|(i, image)| image.save_png(&folder.join(format!("r_{i}.png"))))?;

    let frames = cameras.iter().enumerate().map(|(i, camera)| {
        let rows = camera
            .world_from_camera
            .into_iter()
            .chain([[0.0, 0.0, 0.0, 1.0]]);
        let rows: Vec<_> = rows.map(|row| row.map(f64::from)).collect();
        serde_json::json!({ "file_path": format!("./{split}/r_{i}"), "transform_matrix": rows })
    });
    let angle = 2.0 * (0.5 * f64::from(first.width) / f64::from(first.focal[0])).atan();
    let mut document =
        serde_json::json!({ "camera_angle_x": angle, "frames": frames.collect::<Vec<_>>() });
    if let Some([near, far]) = near_far {
        document["near"] = near.into();
        document["far"] = far.into();
    }
    let text = serde_json::to_string_pretty(&document)
        .map_err(|e| DatasetError::write(&path, std::io::Error::other(e)))?;
    std::fs::write(&path, text + "\n").map_err(|e| DatasetError::write(&path, e))
}

/// Whether `camera_angle_x` and the image's size say all about the intrinsics.
fn is_blender(camera: &Camera) -> bool {
    let centre = [camera.width as f32 / 2.0, camera.height as f32 / 2.0];
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs();
    camera.lens == Lens::Pinhole
        && camera.focal[0] > 0.0
        && near(camera.focal[0], camera.focal[1])
        && near(camera.principal[0], centre[0])
        && near(camera.principal[1], centre[1])
}
