//! The frames of one transforms file: names, image paths and cameras. Shared by all JSON formats.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::find_image::{MatchRule, as_written, frame_name, without_dot};
use super::image::image_size;
use super::json::{Document, Fields};
use super::{
    Frame, Note, Notes, ViewWithoutImage, intrinsics, orientation, pixel_format, pose, poses,
};
use crate::json_text::kind;
use crate::text::shown;

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
    let Some(image_path) = find_image(fields, root, file_path, notes)? else {
        let view = poses::without_images(fields, notes.usual_size).ok();
        let image = root.join(without_dot(file_path));
        return Ok(Found::Missing(image, view.map(Box::new)));
    };
    let header = pixel_format::header(&image_path)?;
    for (key, note) in [
        ("mask_path", Note::Mask),
        ("depth_file_path", Note::Depth),
        ("depth_path", Note::Depth),
    ] {
        companion(fields, root, key, note, header.size, notes);
    }
    if fields.own("mask_path").is_none() && notes.finder.beside(&image_path, DYNAMIC_MASK) {
        notes.add(Note::Mask, || {
            format!("{} has a {DYNAMIC_MASK}* beside it", fields.place())
        });
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
    })))
}

/// Note a mask or depth image, and whether it exists and has the `size` of its frame's image.
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
    let Some(path) = value.as_str().and_then(|path| as_written(root, path)) else {
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

/// Find the image `file_path`; add a note if it was found under another name.
fn find_image(
    fields: &Fields,
    root: &Path,
    file_path: &str,
    notes: &mut Notes,
) -> Result<Option<PathBuf>, DatasetError> {
    let found = notes.finder.find(root, file_path);
    let Some(found) = found.map_err(|fault| fields.error(fault.0))? else {
        return Ok(None);
    };
    let note = match found.how {
        MatchRule::Exact => return Ok(Some(found.path)),
        MatchRule::FirstOfSeveral => Note::SeveralEndings,
        MatchRule::Case => Note::OtherCase,
        MatchRule::Extension => Note::OtherEnding,
        MatchRule::PathSuffix => Note::Moved,
        MatchRule::Subfolder => Note::Deeper,
    };
    notes.add(note, || {
        format!("{} is {}", fields.place(), shown(&found.path))
    });
    Ok(Some(found.path))
}
