//! Renders views of a run to images, animations and videos.

mod plan;
mod views;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::run_log::SCHEMA;
use super::sink::{DepthFormat, PixelOptions, Target};
use super::view_progress::ViewProgress;
use super::{Error, Observer, ObserverExt, Result, open, resolve};
use crate::aabb::Aabb;
#[cfg(feature = "viewer")]
use crate::camera_path::Draft;
use crate::config::{Background, ResolvedConfig, SceneHints};
use crate::dataset::Split;
use crate::dataset::doctor;
use crate::gpu::Gpu;
use crate::images::near_far;
use crate::render::{Channel, NormalSource, RenderedFrame, Renderer};
use crate::text::counted_len;
pub use views::FrameRange;
pub(crate) use views::View;
use views::{PathFile, Views, sized};

/// Options of a rendering: which views of a run to render, how, and to which files.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Run directory, or a checkpoint file.
    pub run: PathBuf,
    /// Split to render. At most one of `split`, `turntable`, `spiral` and `path` applies; the test split if all are `None`.
    pub split: Option<Split>,
    /// Number of views of an orbit around the scene, or of an arc if the training cameras are all on one side.
    pub turntable: Option<u32>,
    /// Number of views of a spiral in front of a forward-facing scene.
    pub spiral: Option<u32>,
    /// File of a camera path: key frames (docs/camera-path.md), a path of nerfstudio or Instant-NGP, or a transforms.json.
    pub path: Option<PathBuf>,
    /// nerfstudio's `dataparser_transforms.json`, which maps its camera path to the dataset's world coordinates.
    pub path_transform: Option<PathBuf>,
    /// Frames to render; all if `None`. File names keep the numbers of the whole path.
    pub frames: Option<FrameRange>,
    /// Render only every this many frames; an animation shows each frame that many times as long.
    pub every: Option<usize>,
    /// Folder for images, or a .png, .exr, .gif or .mp4 file (.mp4 needs ffmpeg).
    pub out: PathBuf,
    /// Width in pixels. If `None`, it follows from the height and the aspect ratio, or is that of the dataset or the path.
    pub width: Option<u32>,
    /// Height in pixels. If `None`, it follows from the width and the aspect ratio, or is that of the dataset or the path.
    pub height: Option<u32>,
    /// Channels to render; one file or set of files each.
    pub channels: Vec<Channel>,
    /// Background; the run's evaluation background if `None`.
    pub background: Option<RenderBackground>,
    /// Box to render, in world units; that of the path if `None`.
    pub crop: Option<Aabb>,
    /// Square root of the number of rays per pixel, whose colours are averaged: 2 means four rays.
    pub samples_per_side: u32,
    /// Whether to write colour as linear `OpenEXR` with premultiplied alpha; opaque if `background` is a colour.
    pub linear: bool,
    /// Format of depth. If `None`, `OpenEXR` for an .exr file, else shades of grey.
    pub depth_format: Option<DepthEncoding>,
    /// Value of one world unit in 16-bit depth; 1000 if `None`.
    pub depth_scale: Option<f64>,
    /// Where normals come from.
    pub normals: NormalSource,
    /// Dataset, if not where the run was trained.
    pub dataset: Option<PathBuf>,
    /// Whether to rotate images by their EXIF orientation; on if the run was trained that way.
    pub apply_orientation: bool,
    /// Frames per second of an animation; that of the path, or 12, if `None`.
    pub fps: Option<f64>,
}

impl RenderOptions {
    /// Return options that render the test views of `run` to `out`, a folder for PNGs or a file.
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
            samples_per_side: 1,
            linear: false,
            depth_format: None,
            depth_scale: None,
            normals: NormalSource::default(),
            dataset: None,
            apply_orientation: false,
            fps: None,
        }
    }
}

/// `--background`: a colour or transparency behind the scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RenderBackground {
    /// Transparent: images have an alpha channel.
    Transparent,
    /// A colour.
    Color(Background),
}

impl RenderBackground {
    /// Return the colour, or `None` if transparent.
    fn color(self) -> Option<[f32; 3]> {
        match self {
            Self::Transparent => None,
            Self::Color(background) => Some(background.color()),
        }
    }
}

impl FromStr for RenderBackground {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "transparent" {
            return Ok(Self::Transparent);
        }
        text.parse()
            .map(Self::Color)
            .map_err(|e| format!("{e}, or transparent"))
    }
}

/// Value of `--depth-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepthEncoding {
    /// Shades of grey, nearest white.
    Shaded,
    /// 16-bit PNG.
    Png16,
    /// `OpenEXR`, in world units.
    Exr,
}

impl FromStr for DepthEncoding {
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

/// Render views of a run to files.
pub fn render(gpu: &Arc<Gpu>, options: &RenderOptions, observer: &dyn Observer) -> Result<()> {
    Rendering::prepare(options, observer)?.run(gpu, observer)
}

/// A rendering whose options have been checked, before a device is opened.
#[derive(Debug)]
pub struct Rendering<'a> {
    options: &'a RenderOptions,
    target: Target,
    path: Option<PathFile>,
    background: Option<Background>,
}

impl<'a> Rendering<'a> {
    /// Check `options` and read the camera path that they name.
    ///
    /// # Errors
    /// [`Error::Usage`] if options contradict each other, [`Error::CameraPath`] if the path cannot be read.
    pub fn prepare(options: &'a RenderOptions, observer: &dyn Observer) -> Result<Self> {
        let target = plan::target(&options.out)?;
        plan::check_options(options, target)?;
        let path = PathFile::read(observer, options)?;
        let background = match options.background {
            Some(RenderBackground::Color(color)) => open::one_background(Some(color))?,
            Some(RenderBackground::Transparent) | None => None,
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
    /// [`Error::Usage`] if the options do not fit the run or its dataset, [`Error::Cancelled`] if the observer cancels, another
    /// [`Error`] if the run or the dataset cannot be read, a file cannot be written, or the device fails.
    pub fn run(self, gpu: &Arc<Gpu>, observer: &dyn Observer) -> Result<()> {
        let options = self.options;
        let mut run = open::open_run(observer, gpu, &options.run, self.background)?;
        let views = views::all(observer, &run.checkpoint, options, self.path)?;
        render_to(observer, &mut run.renderer, options, self.target, &views)
    }
}

/// Render `path` with an open `renderer`.
#[cfg(feature = "viewer")]
pub(crate) fn render_draft(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    options: &RenderOptions,
    path: &Draft,
) -> Result<()> {
    let target = plan::target(&options.out)?;
    plan::check_options(options, target)?;
    let views = Views::along(path)?;
    render_to(observer, renderer, options, target, &views)
}

/// Largest opacity that is invisible in 8-bit images.
const MAX_INVISIBLE_OPACITY: f32 = 0.5 / 255.0;

/// Render the `views` that `options` pick to `target`.
fn render_to(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    options: &RenderOptions,
    target: Target,
    views: &Views,
) -> Result<()> {
    let background = options.background.and_then(RenderBackground::color);
    if views.crop.is_some() && !renderer.can_crop() {
        return Err(Error::usage(
            "--crop: this run uses normalised device coordinates, which cannot be cropped to a box: leave the crop out",
        ));
    }
    renderer.set_crop(views.crop);
    let (picked, step) = views.pick(options)?;
    warn_if_nothing_visible(observer, renderer.config(), &picked);
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
    let _listener = observer.listen_for_cancel();
    let mut sinks = plan::sinks(observer, options, target, &views.all, &picked, fps)?;
    let depth = plan::depth_format(options, target);
    let shaded = options.channels.contains(&Channel::Depth) && depth == DepthFormat::Shaded;
    // Use the depth range of all views, so that parts that are rendered separately fit together.
    let look = pixel_options(observer, renderer, &views.all, shaded)?;
    let look = PixelOptions {
        background: background.or(look
            .background
            .filter(|_| options.background != Some(RenderBackground::Transparent))),
        linear_background: background,
        depth,
        linear: options.linear || target == Target::Exr,
        ..look
    };
    renderer.normal_source = options.normals;
    let how = RenderSettings {
        normals: options.channels.contains(&Channel::Normal),
        per_side: options.samples_per_side,
    };
    let mut is_empty = true;
    render_all(observer, renderer, &picked, how, |index, frame| {
        is_empty &= frame
            .opacity
            .iter()
            .all(|opacity| *opacity < MAX_INVISIBLE_OPACITY);
        sinks
            .iter_mut()
            .try_for_each(|s| s.add(index, frame, &look))
    })?;
    if is_empty && !picked.is_empty() {
        observer.warn("the images show only background: check where the cameras look, the unit and origin of the path, --crop, and \
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
            "note: {cut} depths beyond {:.4} world units were clipped: give a --depth-scale below {scale}",
            f32::from(u16::MAX) / scale
        ));
    }
    observer.result(format!(
        "rendered {} to {}",
        counted_len(picked.len(), "view"),
        options.out.display()
    ))
}

/// Warn if none of `views` sees the scene box of `config`, for example because the path has another unit or origin.
fn warn_if_nothing_visible(observer: &dyn Observer, config: &ResolvedConfig, views: &[View]) {
    if config.scene.ndc.is_some() || views.is_empty() {
        return;
    }
    let scene_box = resolve::box_of(config, SceneHints::default());
    let sees = |v: &View| doctor::sees(&v.camera, &scene_box, near_far(config, v.near_far));
    if !views.iter().any(sees) {
        observer.warn(format!("no camera sees the scene box, {}, in world units: the images will show only background; \
             check the unit and the origin of the path",
            doctor::corners(&scene_box)
        ));
    }
}

/// Settings for rendering views.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RenderSettings {
    pub(crate) normals: bool,
    /// Square root of the number of rays per pixel.
    pub(crate) per_side: u32,
}

/// Render `views` in order, and call `take` with the index and the frame of each.
pub(crate) fn render_all(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    views: &[View],
    how: RenderSettings,
    mut take: impl FnMut(usize, &RenderedFrame) -> Result<()>,
) -> Result<()> {
    let _listener = observer.listen_for_cancel();
    let way_out = "Ctrl-C stops it; a smaller --width or fewer --samples take less time";
    let per_pixel = u64::from(how.per_side.pow(2));
    let rays = views
        .iter()
        .map(|view| u64::from(view.camera.width) * u64::from(view.camera.height) * per_pixel);
    let mut progress = ViewProgress::new(observer, "rendering", way_out, rays);
    for view in views {
        let (camera, near_far) = (&view.camera, view.near_far);
        let mut go_on = |done| progress.update(done);
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

/// Width in pixels of the small views on which the depth range is measured.
const SMALL: u32 = 64;
/// Maximum number of views on which the depth range is measured.
const MAX_SMALL: usize = 100;

/// Return the options for converting frames to pixels, for the background of `renderer`. If depth is `shaded`, its range is
/// measured on small versions of `views`.
pub(crate) fn pixel_options(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    views: &[View],
    shaded: bool,
) -> Result<PixelOptions> {
    let mut range = None;
    if shaded {
        let small =
            |v: &View| v.with_camera(sized(&v.camera, Some(v.camera.width.min(SMALL)), None));
        let apart = views.len().div_ceil(MAX_SMALL).max(1);
        let views: Vec<View> = views.iter().step_by(apart).map(small).collect();
        let how = RenderSettings {
            normals: false,
            per_side: 1,
        };
        render_all(observer, renderer, &views, how, |_, frame| {
            let both = range.into_iter().chain(frame.depth_range());
            range = both.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]);
            Ok(())
        })?;
    }
    Ok(PixelOptions {
        background: Some(renderer.config().scene.eval_background.color()),
        linear_background: None,
        depth_range: range.unwrap_or([0.0, 1.0]),
        depth: DepthFormat::Shaded,
        linear: false,
    })
}
