//! Chooses the views to render: a split, an orbit, a spiral or a camera path, or some of their frames.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::RenderOptions;
use crate::aabb::Aabb;
use crate::camera::Camera;
#[cfg(feature = "viewer")]
use crate::camera_path::Draft;
use crate::camera_path::{CameraPath, FrameTransform, MAX_SIDE, TimedCamera, orbit, spiral};
use crate::checkpoint::Checkpoint;
use crate::config::DEFAULT_SCALE;
use crate::dataset::{Dataset, Format, Split, ViewWithoutImage};
use crate::session::{Error, Observer, ObserverExt, Result, data};

/// Default frames per second.
const FPS: f64 = 12.0;

/// A view to render.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Index among all views of the split or path.
    pub(crate) index: usize,
    pub(crate) camera: Camera,
    /// Near and far bounds of its rays in world units, if its file has them.
    pub(crate) near_far: Option<[f32; 2]>,
}

impl View {
    /// Return the views of an animation.
    pub(crate) fn of(frames: &[TimedCamera]) -> Vec<Self> {
        let view = |(index, frame): (usize, &TimedCamera)| Self {
            index,
            camera: frame.camera,
            near_far: None,
        };
        frames.iter().enumerate().map(view).collect()
    }

    /// Return this view with another camera.
    pub(super) fn with_camera(self, camera: Camera) -> Self {
        Self { camera, ..self }
    }
}

/// Views in order, with their frame rate and crop.
pub(super) struct Views {
    pub(super) all: Vec<View>,
    pub(super) fps: f64,
    /// Box to render; everything if `None`.
    pub(super) crop: Option<Aabb>,
}

/// `--frames A..B` or `A..B..STEP`: a half-open range; either end may be left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FrameRange {
    /// The first frame; 0 if `None`.
    pub start: Option<usize>,
    /// The frame after the last one; the number of frames if `None`.
    pub end: Option<usize>,
    /// Step between frames; 1 if `None`.
    pub step: Option<usize>,
}

impl FromStr for FrameRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("`{text}` is not a range of frames: give A..B (B excluded) or A..B..STEP");
        let number = |t: &str| match t {
            "" => Ok(None),
            t => t.parse().map(Some).map_err(|_| fault()),
        };
        let parts: Vec<&str> = text.split("..").collect();
        let (start, end, step) = match parts[..] {
            [start, end] => (number(start)?, number(end)?, None),
            [start, end, step] => (number(start)?, number(end)?, number(step)?),
            _ => return Err(fault()),
        };
        if parts.len() == 3 && step.is_none_or(|s| s == 0) {
            return Err(fault());
        }
        if let (Some(start), Some(end)) = (start, end)
            && start >= end
        {
            return Err(format!(
                "`{text}` contains no frame: it starts at {start} and ends before {end}"
            ));
        }
        Ok(Self { start, end, step })
    }
}

impl Views {
    /// Return the views of a camera path that is being edited.
    #[cfg(feature = "viewer")]
    pub(super) fn along(draft: &Draft) -> Result<Self> {
        let path = draft.path(Path::new("the path"));
        let path = path.ok_or_else(|| Error::usage("the path has no key frames yet: add one"))?;
        check_size("the path's image", draft.size)?;
        Ok(Self {
            all: View::of(&path.cameras(draft.size, draft.fps)?),
            fps: draft.fps,
            crop: draft.crop,
        })
    }

    /// Return the views that `--frames` and `--every` select, and the step between them.
    pub(super) fn pick(&self, options: &RenderOptions) -> Result<(Vec<View>, usize)> {
        let n = self.all.len();
        let range = options.frames.unwrap_or_default();
        let (start, end) = (range.start.unwrap_or(0), range.end.unwrap_or(n));
        if start >= n || end > n || start >= end {
            let start = range.start.map(|v| v.to_string()).unwrap_or_default();
            let end = range.end.map(|v| v.to_string()).unwrap_or_default();
            return Err(Error::usage(format!(
                "--frames {start}..{end}: there are {n} frames, 0..{n}"
            )));
        }
        let step = range.step.or(options.every).unwrap_or(1);
        let picked = self.all[start..end].iter().step_by(step).copied();
        Ok((picked.collect(), step))
    }
}

/// A camera path file, before it is mapped to the world coordinates of a run's dataset.
#[derive(Debug)]
pub(super) struct PathFile {
    path: CameraPath,
    file: PathBuf,
    transform: Option<(FrameTransform, PathBuf)>,
}

impl PathFile {
    pub(super) fn read(observer: &dyn Observer, options: &RenderOptions) -> Result<Option<Self>> {
        let Some(file) = &options.path else {
            return Ok(None);
        };
        let path = CameraPath::read(file)?;
        let transform = match &options.path_transform {
            Some(given) if !path.is_normalised() => {
                return Err(Error::usage(format!(
                    "--path-transform {} is for camera paths of nerfstudio, but {} is in the dataset's world coordinates already: \
                     leave it out",
                    given.display(),
                    file.display()
                )));
            }
            Some(given) => Some((FrameTransform::read(given)?, given.clone())),
            None => None,
        };
        if path.is_normalised() && transform.is_none() {
            observer.note(format!(
                "note: {} is a nerfstudio path, which has its own coordinate system: unless that is the dataset's, \
                 give its dataparser_transforms.json as --path-transform",
                file.display()
            ));
        }
        Ok(Some(Self {
            path,
            file: file.clone(),
            transform,
        }))
    }

    /// Return the views of the path, in the world coordinates of `checkpoint`'s dataset.
    fn views(
        mut self,
        observer: &dyn Observer,
        checkpoint: &Checkpoint,
        options: &RenderOptions,
    ) -> Result<Views> {
        if let Some((transform, file)) = self.transform {
            let remembered = PathBuf::from(&checkpoint.info.dataset);
            let dataset = options.dataset.as_deref().unwrap_or(&remembered);
            let transform = match applied(dataset)? {
                Some(applied) => transform.after(&applied),
                None => transform,
            };
            if !dataset.exists() {
                observer.note(format!(
                    "note: {} does not exist; its applied_transform, if it has one, is a part of {}: give its new path with --dataset",
                    dataset.display(),
                    file.display()
                ));
            }
            self.path.to_world(&transform);
        }
        let mut usual = self.path.size();
        if self.path.is_in_unit_cube() {
            let dataset = open_dataset(checkpoint, options);
            if let Some(first) = dataset.as_ref().and_then(|d| d.train.first()) {
                let camera = first
                    .camera
                    .downscaled(dataset.as_ref().map_or(1, |d| d.downscale));
                usual = [camera.width, camera.height];
            }
            let (scale, offset, whence) = unit_cube(checkpoint, dataset.as_ref());
            observer.note(format!(
                "note: {} is an Instant-NGP path, which is in Instant-NGP's unit cube: it is mapped to the world with scale \
                 {scale} and offset {offset:?}, {whence}",
                self.file.display(),
            ));
            self.path.place_unit_cube(scale, offset);
        }
        let fps = options.fps.unwrap_or(self.path.fps());
        let size = size(usual, options.width, options.height);
        check_size(&self.file.display().to_string(), size)?;
        Ok(Views {
            all: View::of(&self.path.cameras(size, fps)?),
            fps,
            crop: options.crop.or(self.path.crop()),
        })
    }
}

/// Open the dataset of the run. Return `None` if that fails.
fn open_dataset(checkpoint: &Checkpoint, options: &RenderOptions) -> Option<Dataset> {
    let remembered = PathBuf::from(&checkpoint.info.dataset);
    let path = options.dataset.as_deref().unwrap_or(&remembered);
    let opening = checkpoint
        .info
        .opening()
        .or(None, options.apply_orientation);
    Dataset::open_with(path, opening).ok()
}

/// Return the scale and offset that map the world to Instant-NGP's unit cube, and a description of their source. Instant-NGP
/// reads them from the dataset's file.
fn unit_cube(checkpoint: &Checkpoint, dataset: Option<&Dataset>) -> (f64, [f64; 3], &'static str) {
    let read = dataset.filter(|d| matches!(d.format, Format::Blender | Format::Transforms));
    if let Some(dataset) = read {
        let whence = if dataset.scale.or(dataset.offset.map(|_| 1.0)).is_some() {
            "from the dataset's file"
        } else {
            "the defaults, since the dataset's file has none"
        };
        let scale = dataset.scale.unwrap_or(DEFAULT_SCALE);
        return (scale, dataset.offset.unwrap_or([0.5; 3]), whence);
    }
    let config = &checkpoint.info.config;
    (
        config.scale(),
        config.offset(),
        "from this run, since no transforms file was found; if the path is for another dataset, give that with --dataset",
    )
}

/// Read the transform that was applied to the poses in the dataset's file, if the file has one.
fn applied(dataset: &Path) -> Result<Option<FrameTransform>> {
    let file = if dataset.is_dir() {
        dataset.join("transforms.json")
    } else {
        dataset.to_owned()
    };
    if file.is_file() {
        Ok(FrameTransform::read_applied(&file)?)
    } else {
        Ok(None)
    }
}

/// Return all views that the flags select.
pub(super) fn all(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    options: &RenderOptions,
    path: Option<PathFile>,
) -> Result<Views> {
    if let Some(path) = path {
        return path.views(observer, checkpoint, options);
    }
    // Orbits and spirals follow all cameras, even those that the run was not trained on.
    let given = options.dataset.as_deref();
    let opening = checkpoint
        .info
        .opening()
        .or(None, options.apply_orientation);
    let dataset = if options.turntable.or(options.spiral).is_some() {
        data::whole_dataset_of(observer, checkpoint, given, opening)?
    } else {
        data::dataset_of(observer, checkpoint, given, opening)?
    };
    let downscale = dataset.downscale;
    let fps = options.fps.unwrap_or(FPS);
    let cameras = || -> Vec<Camera> {
        let frames = dataset.train.iter();
        frames.map(|f| f.camera.downscaled(downscale)).collect()
    };
    let mut all = if let Some(n) = options.turntable {
        View::of(&orbit(&cameras(), n, fps))
    } else if let Some(n) = options.spiral {
        let near_far = depth_bounds(&dataset);
        let frames = spiral(&cameras(), near_far.map(|b| b.map(f64::from)), n, fps)
            .map_err(|e| Error::usage(format!("--spiral {n}: {e}")))?;
        let views = View::of(&frames).into_iter();
        views.map(|view| View { near_far, ..view }).collect()
    } else {
        let split = options.split.unwrap_or(Split::Test);
        let (frames, poses) = (dataset.frames(split), dataset.poses(split));
        let without_images = |(index, pose): (usize, &ViewWithoutImage)| View {
            index,
            camera: pose.camera.downscaled(downscale),
            near_far: pose.near_far,
        };
        let view = |(index, frame): (usize, &crate::dataset::Frame)| View {
            index,
            camera: frame.camera.downscaled(downscale),
            near_far: frame.near_far,
        };
        // Prefer poses that the files list for this split over frames that replace a missing split.
        if poses.is_empty() {
            frames.iter().enumerate().map(view).collect()
        } else {
            poses.iter().enumerate().map(without_images).collect()
        }
    };
    if all.is_empty() {
        let split = options.split.unwrap_or(Split::Test);
        return Err(Error::usage(format!(
            "the dataset has no {split} views to render: give another --split, --turntable N, --spiral N or --path FILE"
        )));
    }
    for view in &mut all {
        view.camera = sized(&view.camera, options.width, options.height);
        check_size(
            "a view of the dataset",
            [view.camera.width, view.camera.height],
        )?;
    }
    Ok(Views {
        all,
        fps,
        crop: options.crop,
    })
}

/// Return the smallest near bound and the largest far bound of the training views of `dataset`, if all of them have bounds.
fn depth_bounds(dataset: &Dataset) -> Option<[f32; 2]> {
    let bounds: Option<Vec<[f32; 2]>> = dataset.train.iter().map(|f| f.near_far).collect();
    let both = |a: [f32; 2], b: [f32; 2]| [a[0].min(b[0]), a[1].max(b[1])];
    bounds?.into_iter().reduce(both)
}

/// Maximum number of pixels of a view; each takes 32 bytes.
const MAX_PIXELS: u64 = 1 << 26;

fn check_size(what: &str, [width, height]: [u32; 2]) -> Result<()> {
    if width.max(height) > MAX_SIDE {
        return Err(Error::usage(format!(
            "--width, --height: {what} would be {width}×{height}, but the most is {MAX_SIDE} pixels per side: make it smaller"
        )));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::usage(format!(
            "--width, --height: {what} would be {width}×{height}, but the most is {} million pixels: make it smaller",
            MAX_PIXELS / 1_000_000
        )));
    }
    Ok(())
}

/// Return size `of` with another width, height or both; if one is `None`, the aspect ratio is kept.
fn size(of: [u32; 2], width: Option<u32>, height: Option<u32>) -> [u32; 2] {
    match (width, height) {
        (None, None) => of,
        (Some(w), Some(h)) => [w, h],
        (Some(w), None) => [w, scaled(of[1], w, of[0])],
        (None, Some(h)) => [scaled(of[0], h, of[1]), h],
    }
}

/// Return `camera` with another resolution. If the aspect ratio changes, the horizontal field of view is kept.
pub(super) fn sized(camera: &Camera, width: Option<u32>, height: Option<u32>) -> Camera {
    let [w, h] = size([camera.width, camera.height], width, height);
    if width.is_none() || height.is_none() {
        return camera.resized(w, h);
    }
    // Keep the horizontal field of view and square pixels.
    let mut resized = camera.resized(w, scaled(camera.height, w, camera.width));
    let shift = (h as f32 - resized.height as f32) / 2.0;
    resized.principal[1] += shift;
    resized.height = h;
    resized
}

fn scaled(side: u32, new: u32, old: u32) -> u32 {
    u32::try_from(u64::from(side) * u64::from(new) / u64::from(old.max(1)))
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open() {
        let range = |start, end, step| FrameRange { start, end, step };
        assert_eq!("2..5".parse(), Ok(range(Some(2), Some(5), None)));
        assert_eq!("..5".parse(), Ok(range(None, Some(5), None)));
        assert_eq!("2..".parse(), Ok(range(Some(2), None, None)));
        assert_eq!("2..9..3".parse(), Ok(range(Some(2), Some(9), Some(3))));
        assert_eq!("....2".parse(), Ok(range(None, None, Some(2))));
        for bad in [
            "",
            "5",
            "5..5",
            "6..5",
            "a..b",
            "-1..4",
            "1..4..0",
            "1..4..",
            "1..2..3..4",
            "1...4",
        ] {
            assert!(bad.parse::<FrameRange>().is_err(), "{bad}");
        }
    }
}
