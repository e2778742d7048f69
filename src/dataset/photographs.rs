//! Photographs and videos that have no camera poses yet.

use std::path::{Path, PathBuf};

#[cfg(any(feature = "viewer", test))]
use super::folder::{dataset_above, is_dataset};
use super::formats::VIDEO_EXTENSIONS;
#[cfg(any(feature = "viewer", test))]
use super::formats::bare_images;
use super::image::image_size;
use super::pixel_format::{
    MAX_DEPTH, SUPPORTED_EXTENSIONS, UNSUPPORTED_EXTENSIONS, extension, images_below,
};

/// What photographs have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PhotoKind {
    /// Whether all were taken with one camera at one focal length, as far as their sizes and EXIF data say.
    pub is_one_camera: bool,
    /// Mean number of pixels, in millions.
    pub megapixels: f64,
    /// Size of all files.
    pub bytes: u64,
}

/// Return whether `path` is named as a video.
pub(crate) fn is_video(path: &Path) -> bool {
    VIDEO_EXTENSIONS.contains(&extension(path).as_str())
}

#[cfg(any(feature = "viewer", test))]
/// Return whether `path` is a video, or a folder of photographs without camera poses.
pub(crate) fn is_without_poses(path: &Path) -> bool {
    if path.is_file() {
        return is_video(path);
    }
    path.is_dir()
        && !is_dataset(path)
        && dataset_above(path).is_none()
        && bare_images(path).is_some()
}

/// Return the images in `folder` and its sub-folders, sorted: those in formats that are read, and others.
pub(crate) fn images_of_folder(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_read = |path: &PathBuf| SUPPORTED_EXTENSIONS.contains(&extension(path).as_str());
    let mut read = images_below(folder);
    read.retain(is_read);
    read.sort();
    let mut others = unsupported_below(folder, MAX_DEPTH);
    others.sort();
    (read, others)
}

fn unsupported_below(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if UNSUPPORTED_EXTENSIONS.contains(&extension(&path).as_str()) {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            found.extend(unsupported_below(&path, depth - 1));
        }
    }
    found
}

/// Return what the photographs at `paths` have in common. Images that cannot be read do not count.
pub(crate) fn photo_kind(paths: &[PathBuf]) -> PhotoKind {
    let known: Vec<_> = paths
        .iter()
        .filter_map(|path| Some((image_size(path).ok()?, lens_of(path))))
        .collect();
    let pixels: f64 = known
        .iter()
        .map(|([w, h], _)| f64::from(*w) * f64::from(*h))
        .sum();
    PhotoKind {
        is_one_camera: known.windows(2).all(|pair| pair[0] == pair[1]),
        megapixels: pixels / 1e6 / known.len().max(1) as f64,
        bytes: paths
            .iter()
            .filter_map(|path| Some(path.metadata().ok()?.len()))
            .sum(),
    }
}

/// Return the camera's name and focal length in the EXIF data of an image.
fn lens_of(path: &Path) -> Option<Vec<String>> {
    let file = crate::files::open_file(path).ok()?;
    let data = exif::Reader::new()
        .read_from_container(&mut std::io::BufReader::new(file))
        .ok()?;
    let tags = [exif::Tag::Make, exif::Tag::Model, exif::Tag::FocalLength];
    let text = |tag| {
        let field = data.get_field(tag, exif::In::PRIMARY);
        field.map_or_else(String::new, |field| field.display_value().to_string())
    };
    Some(tags.map(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::gradient;

    #[test]
    fn photographs_of_one_size_are_of_one_camera() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("below")).unwrap();
        for name in ["b.png", "a.png", "below/c.png"] {
            gradient(1000, 500).save_png(&at(name)).unwrap();
        }
        std::fs::write(at("d.heic"), b"").unwrap();
        std::fs::write(at("notes.txt"), b"").unwrap();
        let (read, others) = images_of_folder(folder.path());
        assert_eq!(read, [at("a.png"), at("b.png"), at("below/c.png")]);
        assert_eq!(others, [at("d.heic")]);
        let kind = photo_kind(&read);
        assert!(kind.is_one_camera && kind.bytes > 0);
        assert!((kind.megapixels - 0.5).abs() < 1e-9);
        gradient(500, 1000).save_png(&at("a.png")).unwrap();
        assert!(!photo_kind(&read).is_one_camera);
        assert!(is_without_poses(folder.path()) && !is_without_poses(&at("notes.txt")));
        std::fs::write(at("clip.mov"), b"").unwrap();
        assert!(is_without_poses(&at("clip.mov")) && !is_without_poses(&at("absent.mov")));
        assert!(is_video(Path::new("a/desk.MP4")) && !is_video(Path::new("mp4")));
    }
}
