//! Photographs and videos that have no camera poses yet.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ImageDecoder as _, ImageEncoder as _, ImageFormat, ImageReader};

use super::Orientation;
use super::error::DatasetError;
#[cfg(any(feature = "viewer", test))]
use super::folder::{dataset_above, is_dataset};
use super::formats::VIDEO_EXTENSIONS;
#[cfg(any(feature = "viewer", test))]
use super::formats::bare_images;
use super::frames::is_dynamic_mask;
use super::image::{MAX_BYTES, decode, image_size};
use super::pixel_format::{
    MAX_DEPTH, SUPPORTED_EXTENSIONS, UNSUPPORTED_EXTENSIONS, extension, header, images_below,
};

use crate::files::read_file;

/// Quality of a turned JPEG, at which no difference is visible.
const QUALITY: u8 = 97;

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

/// Return whether the image at `path` in `root` is named as a mask of another.
pub(crate) fn is_mask(root: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(root).unwrap_or(path);
    let folders = below.parent().into_iter().flatten();
    let mut names = folders.map(|name| name.to_string_lossy().to_lowercase());
    names.any(|name| name == "masks" || name.starts_with("masks_")) || is_dynamic_mask(path)
}

/// Return how the image at `path` is to be turned to be upright.
pub(crate) fn orientation_of(path: &Path) -> Orientation {
    header(path).map_or(Orientation::NoTransforms, |header| header.orientation)
}

/// Copy the image at `from` to `to`, turned as `orientation` says. A turned JPEG stays a JPEG with its EXIF data, which no longer
/// say that it should be turned; other turned images are stored as PNG.
///
/// # Errors
/// A [`DatasetError`] if the image cannot be read or written.
pub(crate) fn copy_upright(
    from: &Path,
    to: &Path,
    orientation: Orientation,
) -> Result<(), DatasetError> {
    let cannot_write = |e| DatasetError::write(to, e);
    if orientation == Orientation::NoTransforms {
        std::fs::copy(from, to).map_err(cannot_write)?;
        return Ok(());
    }
    let bytes = read_file(from, MAX_BYTES).map_err(|e| DatasetError::read(from, e))?;
    let exif = exif_of(&bytes);
    let (decoded, format) = decode(from, bytes, orientation, "copy the image again")?;
    let file = std::fs::File::create(to).map_err(cannot_write)?;
    let mut writer = std::io::BufWriter::new(file);
    let written = if format == ImageFormat::Jpeg {
        let mut encoder = JpegEncoder::new_with_quality(&mut writer, QUALITY);
        if let Some(exif) = exif {
            // Without room for them, the image still has its pixels.
            let _ = encoder.set_exif_metadata(exif);
        }
        decoded.write_with_encoder(encoder)
    } else {
        decoded.write_with_encoder(PngEncoder::new(&mut writer))
    };
    written.map_err(|e| cannot_write(std::io::Error::other(e)))?;
    writer.flush().map_err(cannot_write)
}

/// Return the EXIF data of an image without its orientation.
fn exif_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut decoder = reader.ok()?.into_decoder().ok()?;
    let mut exif = decoder.exif_metadata().ok()??;
    let _ = Orientation::remove_from_exif_chunk(&mut exif);
    Some(exif)
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
