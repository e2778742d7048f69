//! Datasets: posed images in common formats.
//!
//! [`Dataset::open`] reads cameras and image headers and checks them; error messages are one line. [`load_images`] decodes the
//! pixels afterwards. World units are those of the file. Poses are converted to OpenGL camera-to-world.

mod archive;
mod blender;
mod camera_model;
mod colmap;
mod depth;
mod depth_summary;
pub mod doctor;
pub mod duplicate_images;
mod error;
mod find_image;
mod folder;
mod formats;
mod frame;
mod frames;
pub mod framing;
mod image;
mod image_folders;
mod intrinsics;
mod inverted;
mod json;
mod llff;
mod mask;
mod mask_files;
mod metashape;
mod nerf_plus_plus;
mod notes;
mod npy;
mod nsvf;
mod number_files;
mod objects;
mod orientation;
mod photographs;
mod pixel_format;
mod points;
mod polycam;
mod pose;
mod posed_image;
mod poses;
mod problem;
mod reality_capture;
mod scene_hints;
mod srn;
mod surroundings;
#[cfg(test)]
mod tests;
mod transforms;

use std::fmt;
use std::path::{Path, PathBuf};

pub use ::image::metadata::Orientation;
pub use blender::{write_blender, write_object};
pub(crate) use camera_model::is_camera_model;
pub(crate) use depth_summary::DepthSummary;
pub use error::DatasetError;
pub use folder::is_dataset;
use folder::{datasets_beside, open_folder};
pub use frame::{Frame, Split};
pub(crate) use image::check_image;
pub use image::{FileIdentity, Image, image_size, load_images, load_with_contents};
pub use mask::{Hidden, Mask, MaskSource};
pub(crate) use mask_files::in_folder as mask_in_folder;
use notes::{Note, Notes};
pub use objects::{Object, Objects, Skipped, Splits, holds_objects, write_splits};
#[cfg(feature = "viewer")]
pub(crate) use photographs::is_without_poses;
pub(crate) use photographs::{
    copy_upright, images_of_folder, is_mask, is_video, orientation_of, photo_kind,
};
pub use points::{DepthSource, PointDepth, SparsePoints};
pub use poses::{ViewWithoutImage, parse_poses};

use crate::camera::Camera;
use crate::config::Surroundings;
use crate::files::parent;
use crate::text::{counted_len, one_line, shown};
use framing::Framing;

/// Every `HOLD_OUT`th view is held out for testing if the files define no split.
const HOLD_OUT: usize = 8;
/// Number of faults after which reading stops.
const MAX_FAULTS: usize = 1000;
/// File name of a dataset in one file.
const TRANSFORMS: &str = "transforms.json";

/// Storage format of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NeRF-synthetic: `transforms_{train,val,test}.json`.
    Blender,
    /// Instant-NGP or nerfstudio: one `transforms.json`.
    Transforms,
    /// COLMAP: a sparse model and its images.
    Colmap,
    /// LLFF: forward-facing captures with `poses_bounds.npy` and images in several sizes.
    Llff,
    /// Neural Sparse Voxel Fields: a scene with `pose/`, `rgb/`, `intrinsics.txt` and `bbox.txt`.
    Nsvf,
    /// Scene Representation Networks: an object with `pose/`, `rgb/` and `intrinsics.txt`.
    Srn,
    /// NeRF++: `train/` and other splits with `pose/`, `rgb/` and `intrinsics/`.
    NerfPlusPlus,
    /// `RealityCapture` or `RealityScan`: a CSV file of registered images.
    RealityCapture,
    /// Agisoft Metashape: an XML file of cameras.
    Metashape,
    /// Polycam: raw data with `keyframes/`.
    Polycam,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Blender => "Blender",
            Self::Transforms => "transforms.json",
            Self::Colmap => "COLMAP",
            Self::Llff => "LLFF",
            Self::Nsvf => "NSVF",
            Self::Srn => "SRN",
            Self::NerfPlusPlus => "NeRF++",
            Self::RealityCapture => "RealityCapture",
            Self::Metashape => "Metashape",
            Self::Polycam => "Polycam",
        })
    }
}

/// Options for opening a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Requested downscaling of the images to 1/`downscale` of the full size; at least 1.
    pub downscale: u32,
    /// Whether images are rotated or flipped by their EXIF orientation. If false, this is done only for images whose declared
    /// size fits only the rotated image.
    pub apply_orientation: bool,
    /// Whether alpha is a mask, which hides transparent pixels, instead of transparency.
    pub alpha_mask: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            downscale: 1,
            apply_orientation: false,
            alpha_mask: false,
        }
    }
}

impl OpenOptions {
    /// Override `downscale` if one is given, and set `apply_orientation` if it is true.
    #[must_use]
    pub fn or(self, downscale: Option<u32>, apply_orientation: bool) -> Self {
        Self {
            downscale: downscale.unwrap_or(self.downscale),
            apply_orientation: self.apply_orientation || apply_orientation,
            ..self
        }
    }

    /// Set `alpha_mask` if `is_mask`.
    #[must_use]
    pub fn or_alpha_mask(self, is_mask: bool) -> Self {
        Self {
            alpha_mask: self.alpha_mask || is_mask,
            ..self
        }
    }
}

/// The views of a dataset, and warnings about its files.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The folder that image paths are relative to.
    pub root: PathBuf,
    /// The folder's name.
    pub name: String,
    /// Storage format.
    pub format: Format,
    /// What the files say about the format: its variant, version and storage; empty if there is nothing to say.
    pub variant: String,
    /// Views to train on, in the file's order; at least one.
    pub train: Vec<Frame>,
    /// Validation views; empty if the files define none.
    pub val: Vec<Frame>,
    /// Test views: those of the file, else the validation views, else every 8th view, which is then not in `train`.
    pub test: Vec<Frame>,
    /// Instant-NGP's `aabb_scale`: side of the scene box in unit cubes, a power of two from 1 to 128.
    pub aabb_scale: Option<u32>,
    /// Instant-NGP's `scale` from world units to its unit cube; positive.
    pub scale: Option<f64>,
    /// Instant-NGP's `offset`, added after `scale`.
    pub offset: Option<[f64; 3]>,
    /// The scene box as estimated from the cameras, if the file does not give it and the default does not suit.
    pub framing: Option<Framing>,
    /// What the images show around the scene; set by [`Dataset::examine_surroundings`].
    pub surroundings: Option<Surroundings>,
    /// Sparse points on the scene's surfaces; empty if the files have none.
    pub points: SparsePoints,
    /// Remaining downscaling factor to the size requested from [`Dataset::open_at`], for [`load_images`] and
    /// [`Camera::downscaled`].
    pub downscale: u32,
    /// Whether `test` is every 8th view because the files define no split.
    pub is_held_out: bool,
    /// Images that are listed but absent; their frames are left out.
    pub missing: Vec<PathBuf>,
    /// Problems that were worked around, one line each.
    pub warnings: Vec<String>,
    /// Views of splits of which no image exists; they are in none of the lists above.
    without_images: Vec<(Split, Vec<ViewWithoutImage>)>,
    /// The fingerprint before [`Dataset::restrict_train`].
    whole: Option<String>,
}

impl Dataset {
    /// Open a folder, a zip archive, or a file that describes a dataset, with images at full size.
    ///
    /// A folder is read in the first [`Format`] that it holds, in the order of docs/datasets.md. A `transforms*.json`, a file
    /// of a COLMAP model, `poses_bounds.npy`, a CSV file of `RealityCapture` and an XML file of Metashape are opened by
    /// themselves; a file named after a split stands for its folder. Only poses and image headers are read.
    ///
    /// # Errors
    /// A [`DatasetError`] if the path is not a dataset; else the first fault in its files.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        Self::open_at(path, 1)
    }

    /// Open a dataset as [`Dataset::open`] does, for images at 1/`downscale` of the full size.
    ///
    /// If a dataset stores its images in several sizes, the smallest suitable size is used.
    /// [`Dataset::downscale`] is the remaining factor, which equals `downscale` for other datasets.
    pub fn open_at(path: &Path, downscale: u32) -> Result<Self, DatasetError> {
        let opening = OpenOptions {
            downscale,
            ..OpenOptions::default()
        };
        Self::open_with(path, opening)
    }

    /// Open a dataset as [`Dataset::open_at`] does, with all options.
    pub fn open_with(path: &Path, opening: OpenOptions) -> Result<Self, DatasetError> {
        Self::read(path, opening.downscale.max(1), &mut Notes::of(opening))
    }

    /// Open a dataset as [`Dataset::open_with`] does, but skip frames that cannot be used. Return the dataset without those
    /// frames, or `None` if no frame is left, and all faults.
    #[must_use]
    pub fn examine(path: &Path, opening: OpenOptions) -> (Option<Self>, Vec<DatasetError>) {
        let mut notes = Notes {
            go_on: true,
            ..Notes::of(opening)
        };
        let (dataset, fatal) = match Self::read(path, opening.downscale.max(1), &mut notes) {
            Ok(dataset) => (Some(dataset), None),
            Err(error) => (None, Some(error)),
        };
        (
            dataset,
            merge_equal_faults(notes.faults.into_iter().chain(fatal)),
        )
    }

    fn read(path: &Path, downscale: u32, notes: &mut Notes) -> Result<Self, DatasetError> {
        let mut dataset = Self::find(path, downscale, notes)?;
        mask_files::find_in_folder(&mut dataset);
        if notes.alpha_mask {
            mask_files::take_alpha(&mut dataset);
        }
        match dataset.format {
            // Set when the folder of images was chosen.
            Format::Colmap | Format::Llff | Format::Metashape | Format::RealityCapture => {}
            Format::Blender
            | Format::NerfPlusPlus
            | Format::Nsvf
            | Format::Polycam
            | Format::Srn
            | Format::Transforms => dataset.downscale = downscale,
        }
        Ok(dataset)
    }

    fn find(path: &Path, downscale: u32, notes: &mut Notes) -> Result<Self, DatasetError> {
        if path.is_dir() {
            return open_folder(path, downscale, notes);
        }
        if let Some(error) = url_error(path) {
            return Err(error);
        }
        if !path.exists() {
            return Err(DatasetError::NotFound {
                path: path.to_owned(),
                nearby: datasets_beside(path),
            });
        }
        let root = &parent(path);
        if path.file_name().is_some_and(|name| name == llff::FILE) {
            return llff::open(root, downscale, notes);
        }
        if colmap::is_file_of_model(path) {
            return colmap::open(root, downscale, notes);
        }
        if reality_capture::is_file(path) {
            return reality_capture::open(path, downscale, notes);
        }
        if metashape::is_file(path) {
            return metashape::open(path, downscale, notes);
        }
        if archive::is(path) {
            let unpacked = archive::unpack(path)?;
            let mut dataset = open_folder(&unpacked.dataset, downscale, notes)?;
            if unpacked.dataset == unpacked.folder {
                let stem = path.file_stem().unwrap_or_default();
                dataset.name = stem.to_string_lossy().into_owned();
            }
            if !unpacked.others.is_empty() {
                let others: Vec<String> =
                    unpacked.others.iter().map(|other| shown(other)).collect();
                dataset.warnings.push(format!(
                    "the archive holds {} datasets: {} is used; to use another, give its folder: {}",
                    others.len() + 1,
                    shown(&unpacked.dataset),
                    others.join(", ")
                ));
            }
            if unpacked.has_links {
                dataset.warnings.push(
                    "the archive holds symbolic links, which are left out: unpack it yourself and give the folder".to_owned(),
                );
            }
            dataset.warnings.push(format!(
                "the archive is unpacked to {}, which can be deleted when the dataset is no longer used",
                shown(&unpacked.folder)
            ));
            return Ok(dataset);
        }
        if let Some(format) = formats::of_file(path) {
            return Err(DatasetError::UnsupportedFormat {
                path: path.to_owned(),
                format: format.name,
                advice: format.advice,
            });
        }
        if !path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
        {
            let looked_for =
                "expected a folder, a zip archive, or a file that describes a dataset (transforms.json, poses_bounds.npy, images.bin, a CSV \
                     file of RealityCapture, an XML file of Metashape)".to_owned();
            return Err(DatasetError::NotADataset {
                path: path.to_owned(),
                looked_for,
            });
        }
        let is_split = [Split::Train, Split::Val, Split::Test]
            .into_iter()
            .any(|split| {
                path.file_name()
                    .is_some_and(|name| name == split.file_name().as_str())
            });
        if is_split && root.join(Split::Train.file_name()).is_file() {
            return blender::open(root, notes);
        }
        transforms::open(root, path, notes)
    }

    /// Return the views of a split; [`Split::Val`] may be empty.
    #[must_use]
    pub fn frames(&self, split: Split) -> &[Frame] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Return the views of a split whose images are all absent; such views can only be rendered.
    #[must_use]
    pub fn poses(&self, split: Split) -> &[ViewWithoutImage] {
        let poses = self.without_images.iter().find(|(of, _)| *of == split);
        poses.map_or(&[], |(_, poses)| poses)
    }

    /// Return a fingerprint of the training cameras (FNV-1a), independent of the dataset's path and of
    /// [`Dataset::restrict_train`].
    #[must_use]
    pub fn fingerprint(&self) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |bits: u32| {
            for byte in bits.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for Camera {
            world_from_camera,
            width,
            height,
            focal,
            ..
        } in self.train.iter().map(|f| f.camera)
        {
            let pose = world_from_camera.as_flattened().iter().map(|v| *v as f32);
            pose.chain(focal).for_each(|v| take(v.to_bits()));
            take(width);
            take(height);
        }
        format!("{hash:016x}")
    }

    /// Number of views that have a mask.
    #[must_use]
    pub fn n_masks(&self) -> usize {
        self.views()
            .iter()
            .filter(|frame| frame.mask.is_some())
            .count()
    }

    /// Return the cameras of all views, in the order of the files.
    #[must_use]
    pub fn cameras(&self) -> Vec<Camera> {
        self.views().iter().map(|f| f.camera).collect()
    }

    /// Return all views, in the order of the files.
    #[must_use]
    pub fn views(&self) -> Vec<Frame> {
        if !self.is_held_out {
            let mut all = self.train.clone();
            let others = self.val.iter().chain(&self.test);
            for frame in others {
                if !all.contains(frame) {
                    all.push(frame.clone());
                }
            }
            return all;
        }
        let (mut train, mut test) = (self.train.iter(), self.test.iter());
        let view = |i: usize| {
            if i.is_multiple_of(HOLD_OUT) {
                test.next()
            } else {
                train.next()
            }
        };
        let n = self.train.len() + self.test.len();
        (0..n).map_while(view).cloned().collect()
    }

    /// Restrict training to the views with these indices, in this order. If the files define no split, indices count all views,
    /// and the other views are held out; otherwise they count the training views.
    ///
    /// # Errors
    /// [`DatasetError::Views`] if there is no index, or if one is out of range or repeated.
    pub fn restrict_train(&mut self, indices: &[usize]) -> Result<(), DatasetError> {
        self.whole = Some(self.fingerprint());
        if self.is_held_out {
            self.train = self.views();
            let others = self.train.iter().enumerate();
            let others = others.filter(|(i, _)| !indices.contains(i));
            self.test = others.map(|(_, frame)| frame.clone()).collect();
            self.is_held_out = false;
        }
        let invalid = |message: String| DatasetError::Views {
            dataset: one_line(&self.name),
            message,
        };
        if indices.is_empty() {
            return Err(invalid(
                "no training view selected: name at least one".to_owned(),
            ));
        }
        let mut views = Vec::with_capacity(indices.len());
        for (i, &index) in indices.iter().enumerate() {
            let Some(view) = self.train.get(index) else {
                let last = self.train.len().saturating_sub(1);
                return Err(invalid(format!(
                    "there is no training view {index}: choose from 0 to {last}"
                )));
            };
            if indices[..i].contains(&index) {
                return Err(invalid(format!(
                    "training view {index} is selected twice: name it once"
                )));
            }
            views.push(view.clone());
        }
        self.train = views;
        Ok(())
    }

    /// Return a dataset without views.
    fn new(root: &Path, format: Format) -> Self {
        let name = root.file_name().map(ToOwned::to_owned);
        let name = name
            .or_else(|| Some(root.canonicalize().ok()?.file_name()?.to_owned()))
            .unwrap_or_default();
        Self {
            root: root.to_owned(),
            name: if name.is_empty() {
                "dataset".to_owned()
            } else {
                name.to_string_lossy().into_owned()
            },
            format,
            variant: String::new(),
            train: Vec::new(),
            val: Vec::new(),
            test: Vec::new(),
            aabb_scale: None,
            scale: None,
            offset: None,
            framing: None,
            surroundings: None,
            points: SparsePoints::default(),
            downscale: 1,
            is_held_out: false,
            missing: Vec::new(),
            warnings: Vec::new(),
            without_images: Vec::new(),
            whole: None,
        }
    }

    /// Add to [`Self::variant`].
    fn add_variant(&mut self, text: &str) {
        if !self.variant.is_empty() {
            self.variant.push_str("; ");
        }
        self.variant.push_str(text);
    }

    /// Split views into training views and held-out views: every 8th, starting with the first. A single view stays in training.
    fn hold_out(&mut self, views: Vec<Frame>) {
        self.is_held_out = views.len() > 1;
        for (i, view) in views.into_iter().enumerate() {
            if self.is_held_out && i.is_multiple_of(HOLD_OUT) {
                self.test.push(view);
            } else {
                self.train.push(view);
            }
        }
    }

    /// Add a warning if there is no test view, because the dataset has a single view.
    fn warn_without_test_view(&mut self) {
        if self.test.is_empty() {
            self.warnings
                .push("the dataset has a single view: there is no test view".to_owned());
        }
    }

    /// Estimate the scene box if necessary, and add the warnings that count frames.
    fn finish(&mut self, notes: &mut Notes) {
        self.estimate_box();
        if let Some(first) = self.missing.first() {
            let count = self.missing.len();
            let first = one_line(&first.to_string_lossy());
            self.warnings.push(if count == 1 {
                format!("a listed image is absent and left out, {first}")
            } else {
                format!("{count} listed images are absent and left out, the first {first}")
            });
        }
        self.warnings
            .extend(notes.counted.drain(..).map(|(note, count, first)| {
                let frames = counted_len(count, "frame");
                format!("{first}: {} ({frames})", note.consequence())
            }));
    }
}

/// Return the error for a path that is a URL.
pub(crate) fn url_error(path: &Path) -> Option<DatasetError> {
    formats::of_url(path).map(|format| DatasetError::UnsupportedFormat {
        path: path.to_owned(),
        format: format.name,
        advice: format.advice,
    })
}

/// Merge equal faults of several frames into the first of them.
fn merge_equal_faults(faults: impl Iterator<Item = DatasetError>) -> Vec<DatasetError> {
    let mut all: Vec<(DatasetError, usize)> = Vec::new();
    for fault in faults {
        let same = all.iter_mut().find(|(known, _)| known.is_like(&fault));
        match same {
            Some((_, more)) => *more += 1,
            None => all.push((fault, 0)),
        }
    }
    all.into_iter()
        .map(|(fault, more)| fault.and_more(more))
        .collect()
}
