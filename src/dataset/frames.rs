//! The frames of one transforms file: names, image paths, cameras. Shared by every JSON format.

use std::path::{Path, PathBuf};

use super::error::{DatasetError, escaped};
use super::image::image_size;
use super::json::{Document, Fields};
use super::{Frame, Note, Notes, intrinsics, pose};

/// Endings tried, in order, on a `file_path` that does not exist as written.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "PNG", "JPG", "JPEG"];

/// The frames of a file whose images exist, in the file's order, and the images that do not.
pub(super) struct FramesOfFile {
    pub frames: Vec<Frame>,
    pub missing: Vec<PathBuf>,
}

/// Reads all frames of `document`; image paths are relative to `root`.
pub(super) fn read(
    document: &Document,
    root: &Path,
    notes: &mut Notes,
) -> Result<FramesOfFile, DatasetError> {
    let mut found = FramesOfFile {
        frames: Vec::new(),
        missing: Vec::new(),
    };
    for fields in document.frames()? {
        let file_path = file_path(&fields)?;
        let world_from_camera = pose::pose(&fields, notes)?;
        let Some(image_path) = find_image(root, file_path) else {
            found.missing.push(root.join(without_dot(file_path)));
            continue;
        };
        if fields.own("mask_path").is_some() {
            notes.add(Note::Mask, || {
                format!("{} has a `mask_path`", fields.place())
            });
        }
        let camera =
            intrinsics::camera(&fields, image_size(&image_path)?, world_from_camera, notes)?;
        let near_far = intrinsics::near_far(&fields)?;
        found.frames.push(Frame {
            name: name(file_path),
            image_path,
            camera,
            near_far,
        });
    }
    Ok(found)
}

/// As [`read`], but an error when the file lists no frame or no image exists.
pub(super) fn read_some(
    document: &Document,
    root: &Path,
    notes: &mut Notes,
) -> Result<FramesOfFile, DatasetError> {
    let found = read(document, root, notes)?;
    if !found.frames.is_empty() {
        return Ok(found);
    }
    match found.missing.first() {
        None => Err(document
            .fields()
            .error("`frames` is empty: expected at least one {file_path, transform_matrix}")),
        Some(first) => Err(DatasetError::NoImages {
            path: document.path.clone(),
            count: found.missing.len(),
            first: first.clone(),
        }),
    }
}

fn file_path<'a>(fields: &Fields<'a>) -> Result<&'a str, DatasetError> {
    let path = fields
        .own("file_path")
        .and_then(|value| value.as_str())
        .unwrap_or("");
    if path.is_empty() {
        return Err(fields.error(
            "`file_path` is missing: expected the path of an image, relative to the JSON file",
        ));
    }
    Ok(path)
}

/// The image that `file_path` names, with or without its extension, and with either slash.
fn find_image(root: &Path, file_path: &str) -> Option<PathBuf> {
    let candidates = |file_path: &str| {
        let path = root.join(without_dot(file_path));
        let extended = EXTENSIONS.map(|extension| {
            let mut path = path.clone().into_os_string();
            path.push(".");
            path.push(extension);
            PathBuf::from(path)
        });
        std::iter::once(path)
            .chain(extended)
            .find(|path| path.is_file())
    };
    candidates(file_path).or_else(|| candidates(&file_path.replace('\\', "/")))
}

/// `file_path` in one spelling: forward slashes, no leading "./".
pub(super) fn normalised(file_path: &str) -> String {
    without_dot(&file_path.replace('\\', "/")).to_owned()
}

fn without_dot(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    path
}

/// A frame's name: its normalised path without an image extension.
pub(super) fn name(file_path: &str) -> String {
    let path = normalised(file_path);
    let stem = EXTENSIONS
        .iter()
        .find_map(|extension| path.strip_suffix(extension)?.strip_suffix('.'));
    escaped(stem.unwrap_or(&path))
}
