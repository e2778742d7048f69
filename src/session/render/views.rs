//! Which views are rendered: of a split, of an orbit or a spiral or along a path, and which of those.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::RenderOptions;
use crate::camera::Camera;
#[cfg(feature = "viewer")]
use crate::camera_path::Draft;
use crate::camera_path::{CameraPath, FrameTransform, MAX_SIDE, TimedCamera, orbit, spiral};
use crate::checkpoint::Checkpoint;
use crate::config::DEFAULT_SCALE;
use crate::dataset::{Dataset, Format, Split, Unpictured};
use crate::render::Crop;
use crate::session::{Error, Observer, ObserverExt, Result, data};

/// Frames per second of what has no rate of its own.
const FPS: f64 = 12.0;

/// A view to render.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Its number among all that could be rendered.
    pub(crate) index: usize,
    pub(crate) camera: Camera,
    /// What its file says of near and far.
    pub(crate) near_far: Option<[f32; 2]>,
}

impl View {
    /// The views of an animation.
    pub(crate) fn of(frames: &[TimedCamera]) -> Vec<Self> {
        let view = |(index, frame): (usize, &TimedCamera)| Self {
            index,
            camera: frame.camera,
            near_far: None,
        };
        frames.iter().enumerate().map(view).collect()
    }

    /// The same with another camera.
    pub(super) fn seen_by(self, camera: Camera) -> Self {
        Self { camera, ..self }
    }
}

/// Views in order, and how fast they follow each other.
pub(super) struct Views {
    pub(super) all: Vec<View>,
    pub(super) fps: f64,
    /// What is seen of the scene.
    pub(super) crop: Option<Crop>,
}

/// `--frames A..B`, `A..B..STEP`: half-open, either end may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRange {
    start: Option<usize>,
    end: Option<usize>,
    step: Option<usize>,
}

impl FromStr for FrameRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("`{text}` is no range of frames: give A..B (B left out) or A..B..STEP");
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
                "`{text}` holds no frame: the first is {start}, and {end} is not among them"
            ));
        }
        Ok(Self { start, end, step })
    }
}

impl Views {
    /// Those of a path that is being made.
    #[cfg(feature = "viewer")]
    pub(super) fn along(draft: &Draft) -> Result<Self> {
        let path = draft.path(Path::new("the path"));
        let path = path.ok_or_else(|| Error::usage("the path has no key frames yet: set one"))?;
        check_size("the path's image", draft.size)?;
        Ok(Self {
            all: View::of(&path.cameras(draft.size, draft.fps)?),
            fps: draft.fps,
            crop: draft.crop,
        })
    }

    /// The views that `--frames` and `--every` pick, and how many there are from one to the next.
    pub(super) fn pick(&self, options: &RenderOptions) -> Result<(Vec<View>, usize)> {
        let n = self.all.len();
        let range = options.frames.unwrap_or(FrameRange {
            start: None,
            end: None,
            step: None,
        });
        let (start, end) = (range.start.unwrap_or(0), range.end.unwrap_or(n));
        if start >= n || end > n || start >= end {
            let start = range.start.map(|v| v.to_string()).unwrap_or_default();
            let end = range.end.map(|v| v.to_string()).unwrap_or_default();
            return Err(Error::usage(format!(
                "--frames {start}..{end}: there are {n} frames, 0..{n}"
            )));
        }
        let step = match (range.step, options.every) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(
                    "--every: --frames A..B..STEP says already how many frames to go on by",
                ));
            }
            (step, every) => step.or(every).unwrap_or(1),
        };
        if step == 0 {
            return Err(Error::usage("--every 0: give a number of frames from 1 on"));
        }
        let picked = self.all[start..end].iter().step_by(step).copied();
        Ok((picked.collect(), step))
    }
}

/// A path that was read, before it is known what run it is for.
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
                    "--path-transform {}: is for nerfstudio's paths, {} stands in the dataset's world already",
                    given.display(),
                    file.display()
                )));
            }
            Some(given) => Some((FrameTransform::read(given)?, given.clone())),
            None => None,
        };
        if path.is_normalised() && transform.is_none() {
            observer.note(format!(
                "note: {} is nerfstudio's, whose paths stand in a frame of their own: \
                 give its dataparser_transforms.json as --path-transform, unless that is the dataset's world",
                file.display()
            ));
        }
        Ok(Some(Self {
            path,
            file: file.clone(),
            transform,
        }))
    }

    /// The frames, in the world of `checkpoint`'s dataset.
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
                    "note: {} is not there, whose applied_transform, if it has one, is a part of {}: give its place with --dataset",
                    dataset.display(),
                    file.display()
                ));
            }
            self.path.to_world(&transform);
        }
        let mut usual = self.path.size();
        if self.path.is_in_unit_cube() {
            let dataset = at_hand(checkpoint, options);
            if let Some(first) = dataset.as_ref().and_then(|d| d.train.first()) {
                let camera = first
                    .camera
                    .downscaled(dataset.as_ref().map_or(1, |d| d.downscale));
                usual = [camera.width, camera.height];
            }
            let (scale, offset, whence) = unit_cube(checkpoint, dataset.as_ref());
            observer.note(format!(
                "note: {} is Instant-NGP's, whose paths stand in its unit cube: they are taken to the world by scale {scale} \
                 and offset {offset:?}, {whence}",
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

/// The dataset, where it is where it was.
fn at_hand(checkpoint: &Checkpoint, options: &RenderOptions) -> Option<Dataset> {
    let remembered = PathBuf::from(&checkpoint.info.dataset);
    let path = options.dataset.as_deref().unwrap_or(&remembered);
    let opening = checkpoint
        .info
        .opening()
        .or(None, options.apply_orientation);
    Dataset::open_with(path, opening).ok()
}

/// What Instant-NGP takes from the world to its unit cube with, and who says so: what it reads itself is the dataset's file.
fn unit_cube(checkpoint: &Checkpoint, dataset: Option<&Dataset>) -> (f64, [f64; 3], &'static str) {
    let read = dataset.filter(|d| matches!(d.format, Format::Blender | Format::Transforms));
    if let Some(dataset) = read {
        let whence = if dataset.scale.or(dataset.offset.map(|_| 1.0)).is_some() {
            "as the dataset's file says"
        } else {
            "as always where the dataset's file does not say"
        };
        let scale = dataset.scale.unwrap_or(DEFAULT_SCALE);
        return (scale, dataset.offset.unwrap_or([0.5; 3]), whence);
    }
    let scene = &checkpoint.info.config.scene;
    (
        scene.box_scale(),
        scene.box_offset(),
        "as in this run, since no transforms file is at hand that says: give the dataset's place with --dataset if it was another",
    )
}

/// What the dataset's file says was applied to its poses.
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

/// All views that the flags speak of.
pub(super) fn all(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    options: &RenderOptions,
    path: Option<PathFile>,
) -> Result<Views> {
    if let Some(path) = path {
        return path.views(observer, checkpoint, options);
    }
    // Ways around a scene go by all who looked at it, however many were learned from.
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
        let near_far = reach(&dataset);
        let frames = spiral(&cameras(), near_far.map(|b| b.map(f64::from)), n, fps)
            .map_err(|e| Error::usage(format!("--spiral {n}: {e}")))?;
        let views = View::of(&frames).into_iter();
        views.map(|view| View { near_far, ..view }).collect()
    } else {
        let split = options.split.unwrap_or(Split::Test);
        let (frames, poses) = (dataset.frames(split), dataset.poses(split));
        let unpictured = |(index, pose): (usize, &Unpictured)| View {
            index,
            camera: pose.camera.downscaled(downscale),
            near_far: pose.near_far,
        };
        let view = |(index, frame): (usize, &crate::dataset::Frame)| View {
            index,
            camera: frame.camera.downscaled(downscale),
            near_far: frame.near_far,
        };
        // What the files list is what is asked for, rather than what stands in for it.
        if poses.is_empty() {
            frames.iter().enumerate().map(view).collect()
        } else {
            poses.iter().enumerate().map(unpictured).collect()
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

/// The nearest and the farthest that the training views of `dataset` reach, where all of them say.
fn reach(dataset: &Dataset) -> Option<[f32; 2]> {
    let bounds: Option<Vec<[f32; 2]>> = dataset.train.iter().map(|f| f.near_far).collect();
    let both = |a: [f32; 2], b: [f32; 2]| [a[0].min(b[0]), a[1].max(b[1])];
    bounds?.into_iter().reduce(both)
}

/// Most pixels of a view, which take 32 bytes each.
const MAX_PIXELS: u64 = 1 << 26;

fn check_size(what: &str, [width, height]: [u32; 2]) -> Result<()> {
    if width.max(height) > MAX_SIDE {
        return Err(Error::usage(format!(
            "--width, --height: {what} becomes {width}×{height}: {MAX_SIDE} pixels a side is the most"
        )));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::usage(format!(
            "--width, --height: {what} becomes {width}×{height}: {} million pixels are the most",
            MAX_PIXELS / 1_000_000
        )));
    }
    Ok(())
}

/// `of` with another width, another height or both; what is left out keeps the shape.
fn size(of: [u32; 2], width: Option<u32>, height: Option<u32>) -> [u32; 2] {
    match (width, height) {
        (None, None) => of,
        (Some(w), Some(h)) => [w, h],
        (Some(w), None) => [w, scaled(of[1], w, of[0])],
        (None, Some(h)) => [scaled(of[0], h, of[1]), h],
    }
}

/// `camera` with another resolution: the same view, width deciding the focal length where the shape changes.
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
