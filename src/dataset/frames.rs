//! The frames of one transforms file: names, image paths and cameras. Shared by all JSON formats.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::find_image::{as_written, frame_name, without_dot};
use super::image::image_size;
use super::intrinsics::is_same_shape;
use super::json::{Document, FRAMES, Fields};
use super::mask::{Hidden, MaskSource};
use super::pixel_format::extension;
use super::{
    DepthSource, Frame, Note, Notes, ViewWithoutImage, intrinsics, orientation, pixel_format, pose,
    poses,
};
use serde_json::Value;

use crate::json_text::kind;

/// Prefix that Instant-NGP puts before an image's name for its mask.
const DYNAMIC_MASK: &str = "dynamic_mask_";
/// The unit of nerfstudio's depth images, in metres.
const MILLIMETRE: f64 = 1e-3;

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
    read_list(document, FRAMES, Roots::same(root), notes)
}

/// Folders that paths in a file are relative to.
#[derive(Clone, Copy)]
pub(super) struct Roots<'a> {
    pub images: &'a Path,
    /// Masks and depths.
    pub companions: &'a Path,
}

impl<'a> Roots<'a> {
    pub fn same(root: &'a Path) -> Self {
        Self {
            images: root,
            companions: root,
        }
    }
}

/// Read the frames in the list `key` of `document`.
pub(super) fn read_list(
    document: &Document,
    key: &str,
    roots: Roots,
    notes: &mut Notes,
) -> Result<FramesOfFile, DatasetError> {
    let mut found = FramesOfFile {
        frames: Vec::new(),
        missing: Vec::new(),
        without_images: Vec::new(),
    };
    // Images in unsupported formats are counted, so that they are reported once.
    let mut foreign: Option<(DatasetError, usize)> = None;
    for fields in document.frames_in(key)? {
        match fields.and_then(|fields| one(&fields, roots, notes)) {
            Ok(Found::Bad) => {}
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
    /// The file says that the image is blurred.
    Bad,
}

fn one(fields: &Fields, roots: Roots, notes: &mut Notes) -> Result<Found, DatasetError> {
    let root = roots.images;
    let file_path = file_path(fields)?;
    if fields.own("is_bad").and_then(Value::as_bool) == Some(true) {
        notes.add(Note::Bad, || fields.place());
        return Ok(Found::Bad);
    }
    let world_from_camera = pose::pose(fields, notes)?;
    let found = notes.find_image(root, file_path, || fields.place());
    let Some(image_path) = found.map_err(|message| fields.error(message))? else {
        let view = poses::without_images(fields, notes.usual_size).ok();
        let image = root.join(without_dot(file_path));
        return Ok(Found::Missing(image, view.map(Box::new)));
    };
    let header = pixel_format::header(&image_path)?;
    let mask = mask(fields, roots.companions, &image_path, header.size, notes);
    let depth = depth(fields, roots.companions, header.size, notes)?;
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
        depth,
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

/// Return whether the file at `path` is named as a mask of an image beside it.
pub(super) fn is_dynamic_mask(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(DYNAMIC_MASK.as_bytes())
}

/// Return the depths of a frame whose image has `size` pixels: nerfstudio's `depth_file_path`, in units of
/// `depth_unit_scale_factor`, or Instant-NGP's `depth_path`, in units of `integer_depth_scale`.
fn depth(
    fields: &Fields,
    root: &Path,
    size: [u32; 2],
    notes: &mut Notes,
) -> Result<Option<DepthSource>, DatasetError> {
    for (key, unit_key, default) in [
        ("depth_file_path", "depth_unit_scale_factor", MILLIMETRE),
        ("depth_path", "integer_depth_scale", 1.0 / 65_535.0),
    ] {
        if fields.own(key).is_none() {
            continue;
        }
        let Some(path) = companion(fields, root, key, size, notes) else {
            continue;
        };
        let unit = fields.number(unit_key)?;
        if unit.is_some_and(|unit| unit <= 0.0) {
            return Err(fields.error(format!("`{unit_key}` should be positive: correct it")));
        }
        if unit.is_none() && key == "depth_file_path" {
            notes.add(Note::DepthUnit, || {
                format!("{} has a `{key}`", fields.place())
            });
        }
        return Ok(Some(DepthSource::File {
            path,
            unit: unit.unwrap_or(default),
            is_distance: fields.flag("is_euclidean_depth"),
        }));
    }
    Ok(None)
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
    // The shape of an array, and of depths in OpenEXR, is checked when it is read.
    if ["npy", "exr"].contains(&extension(&path).as_str()) {
        return Some(path);
    }
    let complaint = match image_size(&path) {
        Ok(found) if is_same_shape(found, size.map(f64::from)) => return Some(path),
        Ok([w, h]) => format!("has {w} × {h} pixels, not {} × {}", size[0], size[1]),
        Err(error) => {
            notes.add(Note::CompanionUnreadable, || {
                format!("{}: its `{key}` cannot be read ({error})", fields.place())
            });
            return None;
        }
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
    read_some_of(document, Roots::same(root), notes)
}

/// Read frames as [`read_some`] does, with images and other files in different folders.
pub(super) fn read_some_of(
    document: &Document,
    roots: Roots,
    notes: &mut Notes,
) -> Result<FramesOfFile, DatasetError> {
    let found = read_list(document, FRAMES, roots, notes)?;
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
