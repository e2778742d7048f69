//! The frames of one transforms file: names, image paths and cameras. Shared by all JSON formats.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::find_image::{as_written, frame_name, without_dot};
use super::image::image_size;
use super::intrinsics::is_same_shape;
use super::json::{Document, Fields};
use super::mask::{Hidden, MaskSource};
use super::{
    Frame, Note, Notes, ViewWithoutImage, intrinsics, orientation, pixel_format, pose, poses,
};
use crate::json_text::kind;

/// Prefix that Instant-NGP puts before an image's name for its mask.
const DYNAMIC_MASK: &str = "dynamic_mask_";

/// The frames of a file whose images exist, in the file's order, and the missing images.
pub(super) struct FramesOfFile {
    pub frames: Vec<Frame>,
    pub missing: Vec<PathBuf>,
    /// Views of missing images whose pose, intrinsics and size are known.
    pub without_images: Vec<ViewWithoutImage>,
}

/// Read all frames of `document`; image paths are relative to `root`.
pub(super) fn read(
    document: &Document,
    root: &Path,
    notes: &mut Notes,
) -> Result<FramesOfFile, DatasetError> {
    let mut found = FramesOfFile {
        frames: Vec::new(),
        missing: Vec::new(),
        without_images: Vec::new(),
    };
    // Images in unsupported formats are counted, so that they are reported once.
    let mut foreign: Option<(DatasetError, usize)> = None;
    for fields in document.frames()? {
        match fields.and_then(|fields| one(&fields, root, notes)) {
            Ok(Found::Frame(frame)) => found.frames.push(*frame),
            Ok(Found::Missing(image, view)) => {
                found.missing.push(image);
                found.without_images.extend(view.map(|view| *view));
            }
            Err(error @ (DatasetError::ImageFormat { .. } | DatasetError::Image { .. }))
                if !notes.go_on =>
            {
                match &mut foreign {
                    None => foreign = Some((error, 0)),
                    Some((first, more)) => *more += usize::from(first.is_like(&error)),
                }
            }
            Err(error) => notes.fault(error)?,
        }
    }
    foreign.map_or(Ok(found), |(first, more)| Err(first.and_more(more)))
}

/// The result of reading one frame.
enum Found {
    Frame(Box<Frame>),
    Missing(PathBuf, Option<Box<ViewWithoutImage>>),
}

fn one(fields: &Fields, root: &Path, notes: &mut Notes) -> Result<Found, DatasetError> {
    let file_path = file_path(fields)?;
    let world_from_camera = pose::pose(fields, notes)?;
    let found = notes.find_image(root, file_path, || fields.place());
    let Some(image_path) = found.map_err(|message| fields.error(message))? else {
        let view = poses::without_images(fields, notes.usual_size).ok();
        let image = root.join(without_dot(file_path));
        return Ok(Found::Missing(image, view.map(Box::new)));
    };
    let header = pixel_format::header(&image_path)?;
    let mask = mask(fields, root, &image_path, header.size, notes);
    for key in ["depth_file_path", "depth_path"] {
        if fields.own(key).is_some() {
            notes.add(Note::Depth, || format!("{} has a `{key}`", fields.place()));
            companion(fields, root, key, header.size, notes);
        }
    }
    let declared = intrinsics::declared(fields)?;
    let orientation = notes.choose_orientation(&header, declared, || fields.place());
    let size = orientation::oriented_size(header.size, orientation);
    notes.usual_size.get_or_insert(size);
    let exchanged = orientation::advice(&header, orientation);
    let camera = intrinsics::camera(fields, size, exchanged, world_from_camera, notes)?;
    let near_far = intrinsics::near_far(fields)?;
    Ok(Found::Frame(Box::new(Frame {
        name: frame_name(file_path),
        image_path,
        orientation,
        camera,
        near_far,
        mask,
    })))
}

/// Return the mask of a frame whose image has `size` pixels: that of its `mask_path`, else the one beside its image.
fn mask(
    fields: &Fields,
    root: &Path,
    image_path: &Path,
    size: [u32; 2],
    notes: &mut Notes,
) -> Option<MaskSource> {
    if fields.own("mask_path").is_some() {
        let path = companion(fields, root, "mask_path", size, notes)?;
        let hidden = Hidden::Black;
        return Some(MaskSource::File { path, hidden });
    }
    let path = notes.finder.beside(image_path, DYNAMIC_MASK)?;
    let hidden = Hidden::White;
    Some(MaskSource::File { path, hidden })
}

/// Return the image that `key` names, if it has the shape of the frame's image, which has `size` pixels; add a note otherwise.
fn companion(
    fields: &Fields,
    root: &Path,
    key: &str,
    size: [u32; 2],
    notes: &mut Notes,
) -> Option<PathBuf> {
    let named = fields.own(key)?.as_str();
    let Some(path) = named.and_then(|path| as_written(root, path)) else {
        notes.add(Note::CompanionAbsent, || {
            format!("{}: its `{key}` names no image", fields.place())
        });
        return None;
    };
    let complaint = match image_size(&path) {
        Ok(found) if is_same_shape(found, size.map(f64::from)) => return Some(path),
        Ok([w, h]) => format!("has {w} × {h} pixels, not {} × {}", size[0], size[1]),
        Err(_) => "is not an image that can be read".to_owned(),
    };
    notes.add(Note::CompanionMismatch, || {
        format!("{}: its `{key}` {complaint}", fields.place())
    });
    None
}

/// Read all frames as [`read`] does, but return an error if the file lists no frame or no image exists.
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
            "`file_path` should be a string, found {}",
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
