//! Which views are rendered: of a split, of an orbit or a spiral or along a path, and which of those.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Args;
use crate::camera::Camera;
#[cfg(feature = "viewer")]
use crate::camera_path::Draft;
use crate::camera_path::{CameraPath, FrameTransform, MAX_SIDE, TimedCamera, orbit, spiral};
use crate::checkpoint::Checkpoint;
use crate::cli::{Session, scene, usage};
use crate::dataset::{Dataset, Split};
use crate::render::Crop;

/// Frames per second of what has no rate of its own.
const FPS: f64 = 12.0;

/// A view to render.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct View {
    /// Its number among all that could be rendered.
    pub(in crate::cli) index: usize,
    pub(in crate::cli) camera: Camera,
    /// What its file says of near and far.
    pub(in crate::cli) near_far: Option<[f32; 2]>,
}

impl View {
    /// The views of an animation.
    pub(in crate::cli) fn of(frames: &[TimedCamera]) -> Vec<Self> {
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
pub(in crate::cli) struct FrameRange {
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
    pub(super) fn along(draft: &Draft) -> anyhow::Result<Self> {
        let path = draft.path(Path::new("the path"));
        let path = path.ok_or_else(|| usage("the path has no key frames yet: set one"))?;
        check_size("the path's image", draft.size)?;
        Ok(Self {
            all: View::of(&path.cameras(draft.size, draft.fps)?),
            fps: draft.fps,
            crop: draft.crop,
        })
    }

    /// The views that `--frames` and `--every` pick, and how many there are from one to the next.
    pub(super) fn pick(&self, args: &Args) -> anyhow::Result<(Vec<View>, usize)> {
        let n = self.all.len();
        let range = args.frames.unwrap_or(FrameRange {
            start: None,
            end: None,
            step: None,
        });
        let (start, end) = (range.start.unwrap_or(0), range.end.unwrap_or(n));
        if start >= n || end > n || start >= end {
            let start = range.start.map(|v| v.to_string()).unwrap_or_default();
            let end = range.end.map(|v| v.to_string()).unwrap_or_default();
            return Err(usage(format!(
                "--frames {start}..{end}: there are {n} frames, 0..{n}"
            )));
        }
        let step = match (range.step, args.every) {
            (Some(_), Some(_)) => {
                return Err(usage(
                    "--every: --frames A..B..STEP says already how many frames to go on by",
                ));
            }
            (step, every) => step.or(every).unwrap_or(1),
        };
        let picked = self.all[start..end].iter().step_by(step).copied();
        Ok((picked.collect(), step))
    }
}

/// A path that was read, before it is known what run it is for.
pub(super) struct PathFile {
    path: CameraPath,
    file: PathBuf,
    transform: Option<(FrameTransform, PathBuf)>,
}

impl PathFile {
    pub(super) fn read(session: &Session, args: &Args) -> anyhow::Result<Option<Self>> {
        let Some(file) = &args.path else {
            return Ok(None);
        };
        let path = CameraPath::read(file)?;
        let transform = match &args.path_transform {
            Some(given) if !path.is_normalised() => {
                return Err(usage(format!(
                    "--path-transform {}: is for nerfstudio's paths, {} stands in the dataset's world already",
                    given.display(),
                    file.display()
                )));
            }
            Some(given) => Some((FrameTransform::read(given)?, given.clone())),
            None => None,
        };
        if path.is_normalised() && transform.is_none() {
            session.out.note(format!(
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
        session: &Session,
        checkpoint: &Checkpoint,
        args: &Args,
    ) -> anyhow::Result<Views> {
        if let Some((transform, file)) = self.transform {
            let remembered = PathBuf::from(&checkpoint.info.dataset);
            let dataset = args.dataset.as_deref().unwrap_or(&remembered);
            let transform = match applied(dataset)? {
                Some(applied) => transform.after(&applied),
                None => transform,
            };
            if !dataset.exists() {
                session.out.note(format!(
                    "note: {} is not there, whose applied_transform, if it has one, is a part of {}: give its place with --dataset",
                    dataset.display(),
                    file.display()
                ));
            }
            self.path.to_world(&transform);
        }
        let fps = args.fps.unwrap_or(self.path.fps());
        let size = size(self.path.size(), args.width, args.height);
        check_size(&self.file.display().to_string(), size)?;
        Ok(Views {
            all: View::of(&self.path.cameras(size, fps)?),
            fps,
            crop: args.crop.or(self.path.crop()),
        })
    }
}

/// What the dataset's file says was applied to its poses.
fn applied(dataset: &Path) -> anyhow::Result<Option<FrameTransform>> {
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
    session: &Session,
    checkpoint: &Checkpoint,
    args: &Args,
    path: Option<PathFile>,
) -> anyhow::Result<Views> {
    if let Some(path) = path {
        return path.views(session, checkpoint, args);
    }
    // Ways around a scene go by all who looked at it, however many were learned from.
    let given = args.dataset.as_deref();
    let opening = checkpoint.info.opening().or(None, args.apply_orientation);
    let dataset = if args.turntable.or(args.spiral).is_some() {
        scene::whole_dataset_of(session, checkpoint, given, opening)?
    } else {
        scene::dataset_of(session, checkpoint, given, opening)?
    };
    let downscale = dataset.downscale;
    let fps = args.fps.unwrap_or(FPS);
    let cameras = || -> Vec<Camera> {
        let frames = dataset.train.iter();
        frames.map(|f| f.camera.downscaled(downscale)).collect()
    };
    let mut all = if let Some(n) = args.turntable {
        View::of(&orbit(&cameras(), n, fps))
    } else if let Some(n) = args.spiral {
        let near_far = reach(&dataset);
        let frames = spiral(&cameras(), near_far.map(|b| b.map(f64::from)), n, fps)
            .map_err(|e| usage(format!("--spiral {n}: {e}")))?;
        let views = View::of(&frames).into_iter();
        views.map(|view| View { near_far, ..view }).collect()
    } else {
        let frames = dataset.frames(args.split.unwrap_or(Split::Test));
        let view = |(index, frame): (usize, &crate::dataset::Frame)| View {
            index,
            camera: frame.camera.downscaled(downscale),
            near_far: frame.near_far,
        };
        frames.iter().enumerate().map(view).collect()
    };
    if all.is_empty() {
        let split = args.split.unwrap_or(Split::Test);
        return Err(usage(format!(
            "the dataset has no {split} views to render: give another --split, --turntable N, --spiral N or --path FILE"
        )));
    }
    for view in &mut all {
        view.camera = sized(&view.camera, args.width, args.height);
        check_size(
            "a view of the dataset",
            [view.camera.width, view.camera.height],
        )?;
    }
    Ok(Views {
        all,
        fps,
        crop: args.crop,
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

fn check_size(what: &str, [width, height]: [u32; 2]) -> anyhow::Result<()> {
    if width.max(height) > MAX_SIDE {
        return Err(usage(format!(
            "--width, --height: {what} becomes {width}×{height}: {MAX_SIDE} pixels a side is the most"
        )));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(usage(format!(
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
