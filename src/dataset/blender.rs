//! The Blender (NeRF-synthetic) format: one file `transforms_{train,val,test}.json` per split.

use std::path::Path;

use rayon::prelude::*;

use super::error::DatasetError;
use super::json::Document;
use super::{Dataset, Format, Image, Notes, Split, TRANSFORMS, frames};
use crate::camera::{Camera, Lens};

/// Read the dataset whose `transforms_train.json` lies in `root`.
pub(super) fn open(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let document = Document::read(&root.join(Split::Train.file_name()))?;
    let train = frames::read_some(&document, root, notes)?;
    let mut dataset = Dataset::new(root, Format::Blender).with_hints(&document.fields())?;
    dataset.train = train.frames;
    dataset.missing = train.missing;
    for split in [Split::Val, Split::Test] {
        let path = root.join(split.file_name());
        if !path.is_file() {
            continue;
        }
        let found = frames::read(&Document::read(&path)?, root, notes)?;
        let count = found.missing.len();
        if found.frames.is_empty() && count > 0 && found.without_images.len() == count {
            dataset.warnings.push(format!(
                "{}: its {count} poses have no images: kiln render --split {split} renders them, but metrics need images",
                split.file_name()
            ));
            dataset.without_images.push((split, found.without_images));
            continue;
        }
        if found.frames.is_empty() && count > 0 {
            dataset.warnings.push(format!(
                "{}: none of its {count} images exists: split ignored",
                split.file_name()
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

/// Fill in a missing test split: use the validation views, else every 8th training view.
pub(super) fn fall_back(dataset: &mut Dataset) {
    if dataset.val.is_empty() {
        let views = std::mem::take(&mut dataset.train);
        dataset.hold_out(views);
        dataset.warnings.push(format!(
            "no test or val split with images: every 8th training view is held out ({} of {})",
            dataset.test.len(),
            dataset.test.len() + dataset.train.len()
        ));
    } else {
        dataset.test = dataset.val.clone();
        dataset
            .warnings
            .push("no test split with images: the val split is used".to_owned());
    }
}

/// Write one split in Blender's format: `root/transforms_{split}.json` and `root/{split}/r_{i}.png`.
///
/// `cameras[i]` belongs to `images[i]`; `near_far` (world units), if given, is written as `near` and `far`.
///
/// # Errors
/// A [`DatasetError`] if the format cannot represent the cameras (all must be pinholes with the same size and focal length,
/// square pixels and a centred principal point), if an image has another size, or if a file cannot be written.
pub fn write_blender(
    root: &Path,
    split: Split,
    cameras: &[Camera],
    images: &[Image],
    near_far: Option<[f32; 2]>,
) -> Result<(), DatasetError> {
    let name = |i: usize| format!("{split}/r_{i}");
    write(root, &split.file_name(), &name, cameras, images, near_far)
}

/// Write all views of an object: `root/transforms.json` and `root/rgb_{i}.png`. The limits of [`write_blender`] apply.
pub fn write_object(
    root: &Path,
    cameras: &[Camera],
    images: &[Image],
    near_far: [f32; 2],
) -> Result<(), DatasetError> {
    let name = |i: usize| format!("rgb_{i:02}");
    write(root, TRANSFORMS, &name, cameras, images, Some(near_far))
}

fn write(
    root: &Path,
    file: &str,
    name: &(dyn Fn(usize) -> String + Sync),
    cameras: &[Camera],
    images: &[Image],
    near_far: Option<[f32; 2]>,
) -> Result<(), DatasetError> {
    let path = root.join(file);
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
    let place = |i: usize| root.join(name(i)).with_extension("png");
    let folder = place(0).parent().unwrap_or(root).to_owned();
    std::fs::create_dir_all(&folder).map_err(|e| DatasetError::write(&folder, e))?;
    images
        .par_iter()
        .enumerate()
        .try_for_each(|(i, image)| image.save_png(&place(i)))?;

    let frames = cameras.iter().enumerate().map(|(i, camera)| {
        let rows = camera
            .world_from_camera
            .into_iter()
            .chain([[0.0, 0.0, 0.0, 1.0]]);
        let rows: Vec<_> = rows.collect();
        serde_json::json!({ "file_path": format!("./{}", name(i)), "transform_matrix": rows })
    });
    let angle = 2.0 * (0.5 * f64::from(first.width) / f64::from(first.focal[0])).atan();
    let mut document =
        serde_json::json!({ "camera_angle_x": angle, "frames": frames.collect::<Vec<_>>() });
    if let Some([near, far]) = near_far {
        document["near"] = near.into();
        document["far"] = far.into();
    }
    write_json(&path, &document)
}

/// Write a document as indented JSON.
pub(super) fn write_json(path: &Path, document: &serde_json::Value) -> Result<(), DatasetError> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| DatasetError::write(path, std::io::Error::other(e)))?;
    std::fs::write(path, text + "\n").map_err(|e| DatasetError::write(path, e))
}

/// Return whether `camera_angle_x` and the image size describe the intrinsics completely.
fn is_blender(camera: &Camera) -> bool {
    let centre = [camera.width as f32 / 2.0, camera.height as f32 / 2.0];
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs();
    camera.lens == Lens::Pinhole
        && camera.focal[0] > 0.0
        && near(camera.focal[0], camera.focal[1])
        && near(camera.principal[0], centre[0])
        && near(camera.principal[1], centre[1])
}
