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
mod visibility;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::frames::is_dynamic_mask;
use super::image_folders;
use super::intrinsics::MAX_SIDE;
use super::pixel_format::{images_below, images_in};
use super::posed_image::{self, Fault, FrameList};
use super::{Dataset, Format, Frame, Notes, SparsePoints};
use crate::files::parent;
use crate::text::{counted_len, one_line, shown};
use model::{Model, ModelImage, Storage};

/// Folders that hold models, either themselves or in numbered subfolders, in the order of their precedence.
const FOLDERS: [&str; 6] = [
    "sparse",
    "colmap/sparse",
    "dense/sparse",
    "distorted/sparse",
    "colmap",
    "",
];
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
    let is_stem = model::FILES.contains(&stem) || model::OTHER_FILES.contains(&stem);
    is_extension && is_stem && Storage::of(&root).is_some()
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
    let names: Vec<&str> = model.images.iter().map(|i| i.name.as_str()).collect();
    let max_above = found.max_above();
    let base = image_folders::Base::find(&found.folder, max_above, &file, &names, full, notes)?;
    let mut dataset = Dataset::new(&base.root, Format::Colmap);
    dataset.warnings.extend(choice);
    dataset.add_variant(&model.variant());
    let folder = base.choose(&mut dataset, downscale);
    let mut list = FrameList::of(&file);
    let mut ids = Vec::with_capacity(model.images.len());
    for image in &model.images {
        let found = frame(image, &model, &folder, notes);
        if list.add(found, folder.join(&image.name), place(image), notes)? {
            ids.push(image.id);
        }
    }
    list.check("holds no image", notes)?;
    dataset.missing = list.missing;
    let mut frames = list.frames;
    model.points.describe(&ids, &mut frames);
    let registered = model.images.len();
    let present = registered - dataset.missing.len();
    let unregistered = photographs(&folder, &base, &names).saturating_sub(present);
    if unregistered > 0 {
        dataset.warnings.push(format!(
            "{} in {} without a pose, because COLMAP did not register {}: left out (it registered {registered})",
            counted_len(unregistered, "image"),
            shown(&folder),
            if unregistered == 1 { "it" } else { "them" },
        ));
    }
    dataset.points = SparsePoints {
        reprojection_error: model.points.mean_error(),
        positions: model.points.positions,
        colors: model.points.colors,
    };
    dataset.hold_out(frames);
    dataset.warn_without_test_view();
    dataset.finish(notes);
    Ok(dataset)
}

/// Return the number of images in `folder` that may be of the capture. In a folder that is not of images alone, those count that
/// lie beside one of `names`.
fn photographs(folder: &Path, base: &image_folders::Base, names: &[&str]) -> usize {
    let all = if folder == base.root {
        let beside: BTreeSet<PathBuf> = names.iter().map(|n| parent(&folder.join(n))).collect();
        beside.iter().flat_map(|folder| images_in(folder)).collect()
    } else {
        images_below(folder)
    };
    all.iter().filter(|path| !is_dynamic_mask(path)).count()
}

impl Found {
    /// Return the numbers of folders above the model that may hold a folder of images, and that may hold images themselves: up to
    /// the dataset if the model lies in one of [`FOLDERS`], else only the nearest, and none.
    fn max_above(&self) -> [usize; 2] {
        let path = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let name = path.file_name().and_then(|name| name.to_str());
        let numbered = name.is_some_and(|name| name.parse::<u32>().is_ok());
        let holder = if numbered { parent(&path) } else { path };
        let named = FOLDERS
            .iter()
            .filter(|folder| !folder.is_empty() && holder.ends_with(folder));
        // The longest of those that end alike.
        let depth = named
            .map(|folder| Path::new(folder).components().count())
            .max();
        let numbered = usize::from(numbered);
        depth.map_or([1 + numbered, 0], |depth| [depth + numbered; 2])
    }

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

fn place(image: &ModelImage) -> String {
    format!("image {} ({})", image.id, one_line(&image.name))
}

/// Return the frame of `image`, or `None` if its file does not exist.
fn frame(
    image: &ModelImage,
    model: &Model,
    folder: &Path,
    notes: &mut Notes,
) -> Result<Option<Frame>, Fault> {
    let Some(of_model) = model.cameras.get(&image.camera) else {
        return Err(Fault::Entry(format!(
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
        return Err(Fault::Entry(format!(
            "its camera has {w} × {h} pixels: expected sides of 1 to {MAX_SIDE}"
        )));
    }
    posed_image::frame(
        folder,
        &image.name,
        world_from_camera,
        Some(size.map(|side| side as f64)),
        |_| camera::intrinsics(of_model),
        notes,
        || place(image),
    )
}
