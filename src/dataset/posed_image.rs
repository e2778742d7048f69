//! Frames of formats that list images with poses and intrinsics, other than the JSON formats.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::intrinsics::{self, size_ratio};
use super::{Frame, Notes, find_image, orientation, pixel_format};
use crate::camera::{Camera, Lens};
use crate::text::escaped;

/// Intrinsics in pixels of a given size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Intrinsics {
    /// Focal lengths (x, y); see [`Lens`].
    pub focal: [f64; 2],
    /// Principal point (x, y) from the top-left corner.
    pub principal: [f64; 2],
    pub lens: Lens,
}

/// The reason why an image cannot be used.
pub(super) enum Fault {
    /// A message about the entry that describes the image.
    Entry(String),
    /// An error of the image file.
    Image(DatasetError),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Entry(message)
    }
}

/// Return the frame of the image `name` in `folder`, or `None` if the file does not exist.
///
/// `declared` is the size that `intrinsics` refer to; without it, they are computed from the size of the stored image.
pub(super) fn frame(
    folder: &Path,
    name: &str,
    world_from_camera: [[f64; 4]; 3],
    declared: Option<[f64; 2]>,
    intrinsics: impl FnOnce([f64; 2]) -> Intrinsics,
    notes: &mut Notes,
    place: impl Fn() -> String,
) -> Result<Option<Frame>, Fault> {
    let Some(image_path) = notes.find_image(folder, name, &place)? else {
        return Ok(None);
    };
    let header = pixel_format::header(&image_path).map_err(Fault::Image)?;
    let orientation = notes.choose_orientation(&header, declared, &place);
    let stored = orientation::oriented_size(header.size, orientation);
    let size = declared.unwrap_or(stored.map(f64::from));
    let exchanged = orientation::advice(&header, orientation);
    let ratio = size_ratio(stored, size, "its camera has", exchanged)?;
    let of = intrinsics(size);
    let scaled = |v: [f64; 2]| [0, 1].map(|axis| (v[axis] * ratio[axis]) as f32);
    let camera = Camera {
        world_from_camera,
        width: stored[0],
        height: stored[1],
        focal: scaled(of.focal),
        principal: scaled(of.principal),
        lens: of.lens,
    };
    intrinsics::check(&camera, notes, place)?;
    Ok(Some(Frame {
        name: escaped(find_image::without_extension(name)),
        image_path,
        orientation,
        camera,
        near_far: None,
        mask: None,
        depth: None,
    }))
}

/// The frames of a file whose images exist, and the missing images.
pub(super) struct FrameList<'a> {
    /// The file that lists the images.
    file: &'a Path,
    pub frames: Vec<Frame>,
    pub missing: Vec<PathBuf>,
}

impl<'a> FrameList<'a> {
    pub fn of(file: &'a Path) -> Self {
        Self {
            file,
            frames: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Add a frame, which `place` names. Return whether its image exists. A fault is an error, or is noted if reading goes on.
    pub fn add(
        &mut self,
        found: Result<Option<Frame>, Fault>,
        image: PathBuf,
        place: String,
        notes: &mut Notes,
    ) -> Result<bool, DatasetError> {
        match found {
            Ok(Some(frame)) => {
                self.frames.push(frame);
                return Ok(true);
            }
            Ok(None) => self.missing.push(image),
            Err(Fault::Image(error)) => notes.fault(error)?,
            Err(Fault::Entry(message)) => notes.fault(DatasetError::Frame {
                path: self.file.to_owned(),
                frame: place,
                message,
            })?,
        }
        Ok(false)
    }

    /// Return an error if there is no frame: the first fault, else that no image exists, else `empty`.
    pub fn check(&self, empty: &str, notes: &mut Notes) -> Result<(), DatasetError> {
        check_frames(&self.frames, &self.missing, self.file, empty, notes)
    }
}

/// Return an error if there is no frame: the first fault, else that no image of those in `file` exists, else `empty`.
pub(super) fn check_frames(
    frames: &[Frame],
    missing: &[PathBuf],
    file: &Path,
    empty: &str,
    notes: &mut Notes,
) -> Result<(), DatasetError> {
    if !frames.is_empty() {
        return Ok(());
    }
    if let Some(fault) = notes.faults.pop() {
        return Err(fault);
    }
    Err(match missing.first() {
        Some(first) => DatasetError::NoImages {
            path: file.to_owned(),
            count: missing.len(),
            first: first.clone(),
        },
        None => DatasetError::File {
            path: file.to_owned(),
            message: empty.to_owned(),
        },
    })
}
