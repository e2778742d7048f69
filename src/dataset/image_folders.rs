//! The same images stored in several sizes: `images`, `images_2`, `images_4`…

use std::path::{Path, PathBuf};

use super::error::DatasetError;

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
/// first. Without a `full` size, each folder's own size counts as full size.
pub(super) fn find(
    root: &Path,
    full: Option<[f64; 2]>,
    mut first_size: impl FnMut(&Path) -> Result<Option<[u32; 2]>, DatasetError>,
) -> Result<Vec<ImageFolder>, DatasetError> {
    let entries = root.read_dir().map_err(|e| DatasetError::read(root, e))?;
    let mut folders = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_image_folder(&name) {
            continue;
        }
        let path = entry.path();
        if let Some(size) = first_size(&path)? {
            let size = size.map(f64::from);
            let full = full.unwrap_or(size);
            folders.push(ImageFolder {
                name,
                path,
                factor: (full[0] / size[0]).round().max(1.0) as u32,
                full,
            });
        }
    }
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
    /// Return a warning if the result has another size than the requested 1/`downscale`.
    pub fn note(&self, downscale: u32, rest: u32) -> Option<String> {
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
