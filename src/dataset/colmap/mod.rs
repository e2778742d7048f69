//! COLMAP (Schönberger and Frahm 2016): a sparse model beside a folder of images, as COLMAP, GLOMAP and Mip-NeRF 360 have it.
//!
//! The model's files are documented in COLMAP's `doc/format.rst`. Both binary and text files are read, of any version:
//! `rigs` and `frames`, which COLMAP 3.12 and later write, repeat what `cameras` and `images` say.

mod binary;
mod camera;
mod model;
mod read;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::image::image_size;
use super::image_folders::{self, ImageFolder};
use super::intrinsics::{self, MAX_SIDE, size_ratio};
use super::pixel_format::images_below;
use super::{Dataset, Format, Frame, Notes, find_image, orientation, pixel_format};
use crate::camera::Camera;
use crate::files::parent;
use crate::text::{counted_len, escaped, one_line, shown};
use camera::Intrinsics;
use model::{Model, ModelImage, ModelPoints, Storage};

/// Folders that hold models, either themselves or in numbered subfolders, in the order of their precedence.
const FOLDERS: [&str; 6] = [
    "sparse",
    "colmap/sparse",
    "dense/sparse",
    "distorted/sparse",
    "colmap",
    "",
];
/// Number of folders above a model that may hold the folder of images.
const MAX_ABOVE: usize = 3;
/// Number of points that a view must see for a near bound.
const MIN_SEEN: usize = 32;
/// Fraction of the points that a view sees that may be outliers in front of the others.
const NEAREST: f64 = 0.02;
/// The near bound as a fraction of the distance of the nearest point.
const NEAR: f64 = 0.5;
/// Number of images that are looked for to find their folder.
const MAX_TRIED: usize = 8;
/// Names of the folders of images other than `images` and `images_N`.
const OTHER_FOLDERS: [&str; 2] = ["input", "rgb"];

/// A model's folder.
#[derive(Clone, Debug)]
struct Found {
    folder: PathBuf,
    storage: Storage,
}

/// Return whether `root` holds a model.
pub(super) fn is(root: &Path) -> bool {
    !models(root).is_empty()
}

/// Return whether `path` is a file of a model.
pub(super) fn is_file_of_model(path: &Path) -> bool {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("");
    let is_extension = path.extension().is_some_and(|e| e == "bin" || e == "txt");
    let root = parent(path);
    is_extension && model::FILES.contains(&stem) && Storage::of(&root).is_some()
}

/// Return the models of the first of [`FOLDERS`] that has one.
fn models(root: &Path) -> Vec<Found> {
    let found = |folder: PathBuf| {
        let storage = Storage::of(&folder)?;
        Some(Found { folder, storage })
    };
    for name in FOLDERS {
        let folder = if name.is_empty() {
            root.to_owned()
        } else {
            root.join(name)
        };
        if let Some(model) = found(folder.clone()) {
            return vec![model];
        }
        let entries = folder.read_dir().into_iter().flatten().flatten();
        let mut numbered: Vec<(u32, PathBuf)> = entries
            .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())))
            .collect();
        numbered.sort();
        let models: Vec<Found> = numbered
            .into_iter()
            .filter_map(|(_, path)| found(path))
            .collect();
        if !models.is_empty() {
            return models;
        }
    }
    Vec::new()
}

/// Read the model in `path`, or the largest of those below it, for images at 1/`downscale` of the full size.
pub(super) fn open(
    path: &Path,
    downscale: u32,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    let (found, choice) = choose(models(path), path)?;
    let model = read::read(&found.folder, found.storage)?;
    let file = found.file("images");
    let Some(first) = model.images.first() else {
        return Err(DatasetError::File {
            path: file,
            message: "holds no image: no photograph was registered; take more that overlap, or match them exhaustively"
                .to_owned(),
        });
    };
    let full = model
        .cameras
        .get(&first.camera)
        .map(|camera| camera.size.map(|side| side as f64));
    let base = image_base(&found.folder, &model.images, full, notes)?;
    let (folder, rest, warning) = base.choose(downscale);
    let mut dataset = Dataset::new(&base.root, Format::Colmap);
    dataset.downscale = rest;
    dataset.warnings.extend(choice);
    dataset.warnings.extend(warning);
    let mut frames = Vec::with_capacity(model.images.len());
    for image in &model.images {
        match frame(image, &model, &folder, notes) {
            Ok(Some(frame)) => frames.push((image.id, frame)),
            Ok(None) => dataset.missing.push(folder.join(&image.name)),
            Err(Fault::Image(error)) => notes.fault(error)?,
            Err(Fault::Frame(message)) => notes.fault(DatasetError::Frame {
                path: file.clone(),
                frame: place(image),
                message,
            })?,
        }
    }
    if frames.is_empty() {
        if let Some(fault) = notes.faults.pop() {
            return Err(fault);
        }
        return Err(DatasetError::NoImages {
            path: file,
            count: dataset.missing.len(),
            first: folder.join(&first.name),
        });
    }
    let frames = with_near_bounds(frames, &model.points);
    let registered = frames.len() + dataset.missing.len();
    let unregistered = images_below(&folder).len().saturating_sub(frames.len());
    if unregistered > 0 {
        dataset.warnings.push(format!(
            "{} in {} without a pose, because COLMAP did not register {}: left out (it registered {registered})",
            counted_len(unregistered, "image"),
            shown(&folder),
            if unregistered == 1 { "it" } else { "them" },
        ));
    }
    dataset.hold_out(frames);
    dataset.warn_without_test_view();
    dataset.finish(notes);
    Ok(dataset)
}

/// Set the near bounds of frames, which have the numbers of their images, to a part of the distance of the nearest points that
/// they see.
fn with_near_bounds(mut frames: Vec<(u32, Frame)>, points: &ModelPoints) -> Vec<Frame> {
    let positions = frames
        .iter()
        .map(|(id, frame)| (*id, frame.camera.position()));
    let mut distances = points.distances(&positions.collect());
    for (id, frame) in &mut frames {
        let Some(seen) = distances.get_mut(id).filter(|seen| seen.len() >= MIN_SEEN) else {
            continue;
        };
        seen.sort_by(f64::total_cmp);
        let near = NEAR * seen[(NEAREST * seen.len() as f64) as usize];
        if near.is_finite() && near > 0.0 {
            frame.near_far = Some([near as f32, f32::MAX]);
        }
    }
    frames.into_iter().map(|(_, frame)| frame).collect()
}

impl Found {
    fn file(&self, name: &str) -> PathBuf {
        self.folder
            .join(name)
            .with_extension(self.storage.extension())
    }
}

/// Choose the model with the most images. Return it, and a warning that names it if there are several.
fn choose(models: Vec<Found>, path: &Path) -> Result<(Found, Option<String>), DatasetError> {
    let mut counted = Vec::with_capacity(models.len());
    for model in models {
        counted.push((read::n_images(&model.folder, model.storage)?, model));
    }
    // The first of several equally large ones.
    let best = (0..counted.len()).rev().max_by_key(|i| counted[*i].0);
    let Some(best) = best else {
        return Err(DatasetError::NotADataset {
            path: path.to_owned(),
            looked_for: "looked for COLMAP's cameras and images, as .bin or .txt".to_owned(),
        });
    };
    let (n, model) = counted.remove(best);
    let others: Vec<String> = counted
        .iter()
        .map(|(n, other)| format!("{} ({})", shown(&other.folder), counted_len(*n, "image")))
        .collect();
    let choice = (!others.is_empty()).then(|| {
        format!(
            "there are {} models: {}, with {}, is used; to use another, name its folder: {}",
            others.len() + 1,
            shown(&model.folder),
            counted_len(n, "image"),
            others.join(", ")
        )
    });
    Ok((model, choice))
}

/// Where the images of a model are.
struct ImageBase {
    /// The folder that holds the dataset.
    root: PathBuf,
    /// Folders of the images in several sizes; empty if the names are relative to `other`.
    folders: Vec<ImageFolder>,
    other: PathBuf,
}

impl ImageBase {
    /// Return the folder to use for images at 1/`downscale`, the remaining factor, and a warning about them.
    fn choose(&self, downscale: u32) -> (PathBuf, u32, Option<String>) {
        match image_folders::choose(&self.folders, downscale) {
            Some((folder, rest)) => (folder.path.clone(), rest, folder.note(downscale, rest)),
            None => (self.other.clone(), downscale, None),
        }
    }
}

/// Find the images of the model in `folder`: in `images` or `images_N` of a folder above it, else in another folder there, else
/// beside it.
fn image_base(
    folder: &Path,
    images: &[ModelImage],
    full: Option<[f64; 2]>,
    notes: &mut Notes,
) -> Result<ImageBase, DatasetError> {
    let names: Vec<&str> = images
        .iter()
        .take(MAX_TRIED)
        .map(|image| image.name.as_str())
        .collect();
    let mut above = vec![folder.to_owned()];
    for _ in 0..MAX_ABOVE {
        let next = above.last().map(|last| parent(last));
        above.extend(next);
    }
    let mut find = |folder: &Path| {
        let mut found = names
            .iter()
            .filter_map(|name| notes.finder.find(folder, name).ok()?);
        found.next().map(|found| found.path)
    };
    for root in &above {
        let size = |folder: &Path| find(folder).map(|path| image_size(&path)).transpose();
        let folders = image_folders::find(root, full, size)?;
        if !folders.is_empty() {
            return Ok(ImageBase {
                root: root.clone(),
                folders,
                other: PathBuf::new(),
            });
        }
        let others = OTHER_FOLDERS.map(|name| root.join(name));
        if let Some(other) = others
            .into_iter()
            .find(|other| other.is_dir() && find(other).is_some())
        {
            return Ok(ImageBase {
                root: root.clone(),
                folders,
                other,
            });
        }
    }
    for root in &above {
        if find(root).is_some() {
            return Ok(ImageBase {
                root: root.clone(),
                folders: Vec::new(),
                other: root.clone(),
            });
        }
    }
    Err(DatasetError::NoImages {
        path: folder.to_owned(),
        count: images.len(),
        first: PathBuf::from(images.first().map_or("", |image| image.name.as_str())),
    })
}

fn place(image: &ModelImage) -> String {
    format!("image {} ({})", image.id, one_line(&image.name))
}

/// The reason why an image cannot be used.
enum Fault {
    Frame(String),
    Image(DatasetError),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Frame(message)
    }
}

/// Return the frame of `image`, or `None` if its file does not exist.
fn frame(
    image: &ModelImage,
    model: &Model,
    folder: &Path,
    notes: &mut Notes,
) -> Result<Option<Frame>, Fault> {
    let Some(of_model) = model.cameras.get(&image.camera) else {
        return Err(Fault::Frame(format!(
            "its camera {} is not in the file of cameras: export the model again",
            image.camera
        )));
    };
    let world_from_camera = camera::pose(image)?;
    let size = of_model.size;
    if size
        .iter()
        .any(|side| !(1..=u64::from(MAX_SIDE)).contains(side))
    {
        let [w, h] = size;
        return Err(Fault::Frame(format!(
            "its camera has {w} × {h} pixels: expected sides of 1 to {MAX_SIDE}"
        )));
    }
    let Some(image_path) = notes.find_image(folder, &image.name, || place(image))? else {
        return Ok(None);
    };
    let declared = size.map(|side| side as f64);
    let header = pixel_format::header(&image_path).map_err(Fault::Image)?;
    let orientation = notes.choose_orientation(&header, Some(declared), || place(image));
    let stored = orientation::oriented_size(header.size, orientation);
    let exchanged = orientation::advice(&header, orientation);
    let ratio = size_ratio(stored, declared, "its camera has", exchanged)?;
    let of = Intrinsics::of(of_model);
    let scaled = |v: [f64; 2]| [0, 1].map(|a| (v[a] * ratio[a]) as f32);
    let camera = Camera {
        world_from_camera,
        width: stored[0],
        height: stored[1],
        focal: scaled(of.focal),
        principal: scaled(of.principal),
        lens: of.lens,
    };
    intrinsics::check(&camera, notes, || place(image))?;
    Ok(Some(Frame {
        name: escaped(find_image::without_extension(&image.name)),
        image_path,
        orientation,
        camera,
        near_far: None,
        mask: None,
    }))
}
