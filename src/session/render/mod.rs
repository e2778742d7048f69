//! Renders views of a run to images, animations and videos.

mod plan;
mod views;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::journal::SCHEMA;
use super::sink::{DepthFormat, Look, Target};
use super::view_progress::ViewProgress;
use super::{Error, Observer, ObserverExt, Result, open, resolve};
#[cfg(feature = "viewer")]
use crate::camera_path::Draft;
use crate::config::{Background, Config, SceneHints};
use crate::dataset::Split;
use crate::dataset::doctor;
use crate::gpu::Gpu;
use crate::images::near_far;
use crate::render::{Channel, Crop, Frame, Renderer};
use crate::text::counted_len;
pub use views::FrameRange;
pub(crate) use views::View;
use views::{PathFile, Views, sized};

/// Which views of a run to render, how, and where to.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Run directory, or a checkpoint file
    pub run: PathBuf,
    /// Render the views of a split: train, val or test (which is what is rendered where nothing is chosen)
    pub split: Option<Split>,
    /// Render an orbit of N views around the scene, or a swing where the cameras stood on one side of it
    pub turntable: Option<u32>,
    /// Render a spiral of N views before the scene, where the cameras looked one way, as in LLFF captures
    pub spiral: Option<u32>,
    /// Render along a path: key frames (docs/camera-path.md), a camera path from nerfstudio or Instant-NGP, or the poses of
    /// a transforms.json
    pub path: Option<PathBuf>,
    /// nerfstudio's `dataparser_transforms.json`, which takes its path to the dataset's world
    pub path_transform: Option<PathBuf>,
    /// Only frames A to B - 1, counted from 0; numbers in file names stay those of the whole
    pub frames: Option<FrameRange>,
    /// Only every K-th frame; an animation shows each K times as long
    pub every: Option<usize>,
    /// Folder for images, or one .png, .exr, .gif or .mp4 file (the last needs ffmpeg)
    pub out: PathBuf,
    /// Pixels per row; left out, as in the dataset or the path
    pub width: Option<u32>,
    /// Rows; left out, as in the dataset or the path
    pub height: Option<u32>,
    /// What to render: rgb, depth, normal, opacity
    pub channels: Vec<Channel>,
    /// Background: white, black, #rrggbb, or transparent (PNGs with alpha)
    pub background: Option<Backdrop>,
    /// Show only what lies in this box, two corners in world units; left out, as in the path
    pub crop: Option<Crop>,
    /// Rays a pixel along each side, averaged: of 2, four rays a pixel
    pub samples: u32,
    /// Write colour as linear-light EXR, times alpha; opaque where --background names a colour
    pub linear: bool,
    /// Depth as shades of grey, as 16-bit PNG or as EXR in world units; 0 where there is nothing [default: shaded]
    pub depth_format: Option<DepthName>,
    /// What a world unit is in 16-bit depth [default: 1000]
    pub depth_scale: Option<f64>,
    /// Where the images are, if not where the run was trained
    pub dataset: Option<PathBuf>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them; as the run does where it was trained so
    pub apply_orientation: bool,
    /// Frames per second of an animation; left out, as in the path, else 12
    pub fps: Option<f64>,
}

impl RenderOptions {
    /// Options that render the test views of `run` as PNGs into the folder, or as the file, `out`.
    #[must_use]
    pub fn new(run: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            split: None,
            turntable: None,
            spiral: None,
            path: None,
            path_transform: None,
            frames: None,
            every: None,
            out: out.into(),
            width: None,
            height: None,
            channels: vec![Channel::Rgb],
            background: None,
            crop: None,
            samples: 1,
            linear: false,
            depth_format: None,
            depth_scale: None,
            dataset: None,
            apply_orientation: false,
            fps: None,
        }
    }
}

/// `--background`: what stands behind the scene, if anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backdrop {
    /// Nothing: images have alpha.
    Transparent,
    /// A colour.
    Behind(Background),
}

impl Backdrop {
    /// Its colour, if it has one.
    fn color(self) -> Option<[f32; 3]> {
        match self {
            Self::Transparent => None,
            Self::Behind(background) => Some(background.color()),
        }
    }
}

impl FromStr for Backdrop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "transparent" {
            return Ok(Self::Transparent);
        }
        text.parse()
            .map(Self::Behind)
            .map_err(|e| format!("{e}, or transparent"))
    }
}

/// `--depth-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepthName {
    /// Shades of grey, the nearest white.
    Shaded,
    /// 16-bit PNG.
    Png16,
    /// `OpenEXR`, in world units.
    Exr,
}

impl FromStr for DepthName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "shaded" => Ok(Self::Shaded),
            "png16" => Ok(Self::Png16),
            "exr" => Ok(Self::Exr),
            _ => Err("give shaded, png16 or exr".to_owned()),
        }
    }
}

/// Render views of a run to files, as `options` say.
///
/// # Errors
/// [`Error`]
pub fn render(gpu: &Arc<Gpu>, options: &RenderOptions, observer: &dyn Observer) -> Result<()> {
    Rendering::prepare(options, observer)?.run(gpu, observer)
}

/// A rendering whose options fit together, before a device is opened.
#[derive(Debug)]
pub struct Rendering<'a> {
    options: &'a RenderOptions,
    target: Target,
    path: Option<PathFile>,
    background: Option<Background>,
}

impl<'a> Rendering<'a> {
    /// Check `options`, and read the path that they name.
    ///
    /// # Errors
    /// [`Error::Usage`], [`Error::CameraPath`]
    pub fn prepare(options: &'a RenderOptions, observer: &dyn Observer) -> Result<Self> {
        let target = plan::target(&options.out)?;
        plan::check(options, target)?;
        let path = PathFile::read(observer, options)?;
        let background = match options.background {
            Some(Backdrop::Behind(color)) => open::one_background(Some(color))?,
            Some(Backdrop::Transparent) | None => None,
        };
        Ok(Self {
            options,
            target,
            path,
            background,
        })
    }

    /// Open the run and render.
    ///
    /// # Errors
    /// [`Error`]
    pub fn run(self, gpu: &Arc<Gpu>, observer: &dyn Observer) -> Result<()> {
        let options = self.options;
        let mut run = open::open_run(observer, gpu, &options.run, self.background)?;
        let views = views::all(observer, &run.checkpoint, options, self.path)?;
        render_to(observer, &mut run.renderer, options, self.target, &views)
    }
}

/// Render `path` with a `renderer` that is open.
#[cfg(feature = "viewer")]
pub(crate) fn along(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    options: &RenderOptions,
    path: &Draft,
) -> Result<()> {
    let target = plan::target(&options.out)?;
    plan::check(options, target)?;
    let views = Views::along(path)?;
    render_to(observer, renderer, options, target, &views)
}

/// Opacity below which nothing shows in pictures of 8 bits.
const HARDLY_SEEN: f32 = 0.5 / 255.0;

/// Render what `options` pick of `views` to where they say.
fn render_to(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    options: &RenderOptions,
    target: Target,
    views: &Views,
) -> Result<()> {
    let background = options.background.and_then(Backdrop::color);
    if views.crop.is_some() && !renderer.can_crop() {
        return Err(Error::usage(
            "--crop: this run sees its scene in device coordinates, in which nothing is a box: leave the crop out",
        ));
    }
    renderer.set_crop(views.crop);
    let (picked, step) = views.pick(options)?;
    warn_of_nothing(observer, renderer.config(), &picked);
    let fps = views.fps / step as f64;
    plan::check_views(options, target, &picked, fps)?;
    plan::make_folder(&options.out, target)?;
    if let Some(first) = picked.first() {
        observer.task_note(format!(
            "rendering {} of {}×{}",
            counted_len(picked.len(), "view"),
            first.camera.width,
            first.camera.height
        ));
    }
    let _listener = observer.listens();
    let mut sinks = plan::sinks(observer, options, target, &views.all, &picked, fps)?;
    let depth = plan::depth_format(options, target);
    let shaded = options.channels.contains(&Channel::Depth) && depth == DepthFormat::Shaded;
    // Of the whole, so that parts of it fit together.
    let look = look(observer, renderer, &views.all, shaded)?;
    let look = Look {
        background: background.or(look
            .background
            .filter(|_| options.background != Some(Backdrop::Transparent))),
        linear_background: background,
        depth,
        linear: options.linear || target == Target::Exr,
        ..look
    };
    let how = How {
        normals: options.channels.contains(&Channel::Normal),
        per_side: options.samples,
    };
    let mut is_empty = true;
    render_all(observer, renderer, &picked, how, |index, frame| {
        is_empty &= frame.opacity.iter().all(|opacity| *opacity < HARDLY_SEEN);
        sinks
            .iter_mut()
            .try_for_each(|s| s.add(index, frame, &look))
    })?;
    if is_empty && !picked.is_empty() {
        observer.warn("nothing but background is seen: check where the cameras look, the unit and origin of a path, --crop, and \
             whether the run was trained long enough",
        );
    }
    let mut cut = 0;
    for sink in sinks {
        let written = sink.finish()?;
        cut += written.cut;
        for path in written.paths {
            observer.json(&serde_json::json!({ "schema": SCHEMA, "event": "image", "path": path.display().to_string() }))?;
        }
    }
    if let (true, DepthFormat::Png16(scale)) = (cut > 0, depth) {
        observer.note(format!(
            "note: {cut} depths beyond {:.4} world units were cut off: give a --depth-scale below {scale}",
            f32::from(u16::MAX) / scale
        ));
    }
    observer.result(format!(
        "rendered {} to {}",
        counted_len(picked.len(), "view"),
        options.out.display()
    ))
}

/// Say that none of `views` sees the scene of `config`: their file stands in another unit, or around another origin.
fn warn_of_nothing(observer: &dyn Observer, config: &Config, views: &[View]) {
    if config.scene.ndc.is_some() || views.is_empty() {
        return;
    }
    let scene_box = resolve::box_of(config, SceneHints::default());
    let sees = |v: &View| doctor::sees(&v.camera, &scene_box, near_far(config, v.near_far));
    if !views.iter().any(sees) {
        observer.warn(format!("no camera sees the scene's box, {}, in world units: pictures show nothing but background; \
             check the unit and the origin of the path",
            scene_box.shown()
        ));
    }
}

/// What a rendering takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) normals: bool,
    /// Rays a pixel, per side.
    pub(crate) per_side: u32,
}

/// Render `views` one after the other; `take` gets each, and its number, as it is done.
pub(crate) fn render_all(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    views: &[View],
    how: How,
    mut take: impl FnMut(usize, &Frame) -> Result<()>,
) -> Result<()> {
    let _listener = observer.listens();
    let way_out = "Ctrl-C ends it; a smaller --width or fewer --samples take less";
    let cameras = views.iter().map(|view| &view.camera);
    let mut progress =
        ViewProgress::new(observer, "rendering", way_out, cameras, how.per_side.pow(2));
    for view in views {
        let (camera, near_far) = (&view.camera, view.near_far);
        let mut go_on = |done| progress.go_on(done);
        let (normals, per_side) = (how.normals, how.per_side);
        let frame = renderer.render_while(camera, near_far, normals, per_side, &mut go_on)?;
        let Some(frame) = frame else {
            let text = format!(" before frame {} was rendered", view.index);
            return Err(Error::Cancelled(text));
        };
        take(view.index, &frame)?;
        progress.complete();
    }
    drop(progress);
    Ok(())
}

/// Pixels per row of the small views that the range of depth is taken from.
const SMALL: u32 = 64;
/// Most of them.
const MAX_SMALL: usize = 100;

/// How `views` are to look; where depth is shaded, its range is that of small versions of them.
pub(crate) fn look(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    views: &[View],
    shaded: bool,
) -> Result<Look> {
    let mut range = None;
    if shaded {
        let small = |v: &View| v.seen_by(sized(&v.camera, Some(v.camera.width.min(SMALL)), None));
        let apart = views.len().div_ceil(MAX_SMALL).max(1);
        let views: Vec<View> = views.iter().step_by(apart).map(small).collect();
        let how = How {
            normals: false,
            per_side: 1,
        };
        render_all(observer, renderer, &views, how, |_, frame| {
            let both = range.into_iter().chain(frame.depth_range());
            range = both.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]);
            Ok(())
        })?;
    }
    Ok(Look {
        background: Some(renderer.config().scene.eval_background.color()),
        linear_background: None,
        depth_range: range.unwrap_or([0.0, 1.0]),
        depth: DepthFormat::Shaded,
        linear: false,
    })
}
