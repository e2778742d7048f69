//! The same images stored in several sizes: `images`, `images_2`, `images_4`…

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::image::image_size;
use super::{Dataset, Notes};
use crate::files::parent;

/// Number of images that are looked for to find their folder.
const MAX_TRIED: usize = 8;
/// Names of the folders of images other than `images` and `images_N`.
const OTHER_FOLDERS: [&str; 2] = ["input", "rgb"];

/// A folder of images of one size.
pub(super) struct ImageFolder {
    pub name: String,
    pub path: PathBuf,
    /// Downscaling factor from the full size, rounded to a whole number.
    pub factor: u32,
    /// Width and height of the full size.
    full: [f64; 2],
}

/// Return the folders `images` and `images_N` in `root` of which `first_size` returns the size of an image, largest images
/// first. Without a `full` size, that of `images` counts as full, or the largest if there is no such folder.
pub(super) fn find_folders(
    root: &Path,
    full: Option<[f64; 2]>,
    mut first_size: impl FnMut(&Path) -> Result<Option<[u32; 2]>, DatasetError>,
) -> Result<Vec<ImageFolder>, DatasetError> {
    let entries = root.read_dir().map_err(|e| DatasetError::read(root, e))?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_image_folder(&name) {
            continue;
        }
        let path = entry.path();
        if let Some(size) = first_size(&path)? {
            found.push((name, path, size.map(f64::from)));
        }
    }
    let of_images = found.iter().find(|(name, ..)| name == "images");
    let largest = found.iter().max_by(|a, b| a.2[0].total_cmp(&b.2[0]));
    let Some((.., stored)) = of_images.or(largest) else {
        return Ok(Vec::new());
    };
    let full = full.unwrap_or(*stored);
    let mut folders: Vec<ImageFolder> = found
        .into_iter()
        .map(|(name, path, size)| ImageFolder {
            name,
            path,
            factor: (full[0] / size[0]).round().max(1.0) as u32,
            full,
        })
        .collect();
    folders.sort_by(|a, b| (a.factor, &a.name).cmp(&(b.factor, &b.name)));
    Ok(folders)
}

/// Return whether a folder of that name holds the images of a capture in one size.
fn is_image_folder(name: &str) -> bool {
    match name.strip_prefix("images") {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('_')
            .is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit())),
        None => false,
    }
}

/// Choose the folder to use for images at 1/`downscale` of the full size. Return it and the remaining downscaling factor.
///
/// The choice is the folder with the smallest images whose remaining factor is a whole number; else with the smallest images
/// that are larger than requested; else with the largest images.
pub(super) fn choose(folders: &[ImageFolder], downscale: u32) -> Option<(&ImageFolder, u32)> {
    let larger = || folders.iter().filter(|f| f.factor <= downscale);
    larger()
        .rfind(|f| downscale.is_multiple_of(f.factor))
        .or_else(|| larger().next_back())
        .or(folders.first())
        .map(|folder| (folder, (downscale / folder.factor).max(1)))
}

impl ImageFolder {
    /// Record the choice of this folder for images at 1/`downscale`, which are shrunk by `rest`.
    pub fn record(&self, dataset: &mut Dataset, downscale: u32, rest: u32) {
        dataset.downscale = rest;
        dataset.warnings.extend(self.note(downscale, rest));
        if self.factor > 1 && self.factor * rest == downscale {
            let shrunk = if rest > 1 {
                format!(" and shrunk by {rest}")
            } else {
                String::new()
            };
            dataset.add_variant(&format!(
                "images of {}, stored at 1/{} of the full size{shrunk}",
                self.name, self.factor
            ));
        }
    }

    /// Return a warning if the result has another size than the requested 1/`downscale`.
    fn note(&self, downscale: u32, rest: u32) -> Option<String> {
        if downscale == 1 || self.factor * rest == downscale {
            return None;
        }
        let [width, height] = self.full;
        Some(format!(
            "no folder holds images at 1/{downscale} of the full {width} × {height} pixels: {} is used, which makes them 1/{}",
            self.name,
            self.factor * rest
        ))
    }
}

/// Where the images are that a file lists.
pub(super) struct Base {
    /// The folder that holds the dataset.
    pub root: PathBuf,
    /// Folders of the images in several sizes; empty if the names are relative to `other`.
    folders: Vec<ImageFolder>,
    other: PathBuf,
}

impl Base {
    /// Find the images with these `names`, which `file` lists: in `images` or `images_N` of `folder` or of up to `max_above[0]`
    /// folders above it, else in another folder there, else below one of up to `max_above[1]` folders themselves. Farther up,
    /// there are other captures, whose images may have the same names.
    pub fn find(
        folder: &Path,
        max_above: [usize; 2],
        file: &Path,
        names: &[&str],
        full: Option<[f64; 2]>,
        notes: &mut Notes,
    ) -> Result<Self, DatasetError> {
        // Evenly spread, since the first ones may be missing; all of them if none of those is there.
        let step = names.len().div_ceil(MAX_TRIED).max(1);
        let spread: Vec<&str> = names.iter().copied().step_by(step).collect();
        let found = Self::find_by(folder, max_above, &spread, full, notes)?;
        let found = match found {
            None => Self::find_by(folder, max_above, names, full, notes)?,
            found => found,
        };
        found.ok_or_else(|| DatasetError::NoImages {
            path: file.to_owned(),
            count: names.len(),
            first: PathBuf::from(names.first().copied().unwrap_or("")),
        })
    }

    /// Find the images as [`Self::find`] does, by some of their names.
    fn find_by(
        folder: &Path,
        [max_above, max_above_itself]: [usize; 2],
        tried: &[&str],
        full: Option<[f64; 2]>,
        notes: &mut Notes,
    ) -> Result<Option<Self>, DatasetError> {
        let mut above = vec![folder.to_owned()];
        for _ in 0..max_above {
            let next = above.last().map(|last| parent(last));
            above.extend(next);
        }
        let mut find = |folder: &Path| {
            let mut found = tried
                .iter()
                .filter_map(|name| notes.finder.find(folder, name).ok()?);
            // Damaged images are told when the frames are read.
            found.find_map(|found| image_size(&found.path).ok())
        };
        for root in &above {
            let folders = find_folders(root, full, |folder| Ok(find(folder)))?;
            let other = PathBuf::new();
            let root = root.clone();
            if !folders.is_empty() {
                return Ok(Some(Self {
                    root,
                    folders,
                    other,
                }));
            }
            let others = OTHER_FOLDERS.map(|name| root.join(name));
            if let Some(other) = others
                .into_iter()
                .find(|other| other.is_dir() && find(other).is_some())
            {
                return Ok(Some(Self {
                    root,
                    folders,
                    other,
                }));
            }
        }
        for root in above.into_iter().take(max_above_itself + 1) {
            if tried.is_empty() || find(&root).is_some() {
                return Ok(Some(Self {
                    other: root.clone(),
                    folders: Vec::new(),
                    root,
                }));
            }
        }
        Ok(None)
    }

    /// Return the folder to use for images of `dataset` at 1/`downscale`, and record the choice there.
    pub fn choose(&self, dataset: &mut Dataset, downscale: u32) -> PathBuf {
        if let Some((folder, rest)) = choose(&self.folders, downscale) {
            folder.record(dataset, downscale, rest);
            return folder.path.clone();
        }
        dataset.downscale = downscale;
        self.other.clone()
    }
}
