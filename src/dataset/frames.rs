//! The frames of one transforms file: names, image paths, cameras. Shared by every JSON format.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::image::image_size;
use super::json::{Document, Fields, kind};
use super::{Frame, Note, Notes, intrinsics, pose};
use crate::text::escaped;

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
        match fields.and_then(|fields| one(&fields, root, notes)) {
            Ok(Found::Frame(frame)) => found.frames.push(*frame),
            Ok(Found::Missing(image)) => found.missing.push(image),
            Err(error) => notes.fault(error)?,
        }
    }
    Ok(found)
}

/// What a frame of a file turns out to be.
enum Found {
    Frame(Box<Frame>),
    Missing(PathBuf),
}

fn one(fields: &Fields, root: &Path, notes: &mut Notes) -> Result<Found, DatasetError> {
    let file_path = file_path(fields)?;
    let world_from_camera = pose::pose(fields, notes)?;
    let Some(image_path) = find_image(root, file_path) else {
        return Ok(Found::Missing(root.join(without_dot(file_path))));
    };
    let size = image_size(&image_path)?;
    for (key, note) in [
        ("mask_path", Note::Mask),
        ("depth_file_path", Note::Depth),
        ("depth_path", Note::Depth),
    ] {
        companion(fields, root, key, note, size, notes);
    }
    let camera = intrinsics::camera(fields, size, world_from_camera, notes)?;
    let near_far = intrinsics::near_far(fields)?;
    Ok(Found::Frame(Box::new(Frame {
        name: name(file_path),
        image_path,
        camera,
        near_far,
    })))
}

/// Notes a mask or depth image, and whether it fits its frame's image of `size`.
fn companion(
    fields: &Fields,
    root: &Path,
    key: &str,
    note: Note,
    size: [u32; 2],
    notes: &mut Notes,
) {
    let Some(value) = fields.own(key) else {
        return;
    };
    notes.add(note, || format!("{} has a `{key}`", fields.place()));
    let Some(path) = value.as_str().and_then(|path| find_image(root, path)) else {
        notes.add(Note::CompanionAbsent, || {
            format!("{}: its `{key}` names no image", fields.place())
        });
        return;
    };
    let complaint = match image_size(&path) {
        Ok(found) if found == size => return,
        Ok([w, h]) => format!("has {w} × {h} pixels, not {} × {}", size[0], size[1]),
        Err(_) => "is not an image that can be read".to_owned(),
    };
    notes.add(Note::CompanionMismatch, || {
        format!("{}: its `{key}` {complaint}", fields.place())
    });
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
    if let Some(fault) = notes.faults.pop() {
        return Err(fault);
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
    let value = fields.own("file_path");
    if let Some(other) = value.filter(|v| !v.is_string()) {
        return Err(fields.error(format!(
            "`file_path` should be a text, found {}",
            kind(other)
        )));
    }
    let path = value.and_then(|value| value.as_str()).unwrap_or("");
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
