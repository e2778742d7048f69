//! `kiln render`

mod plan;
mod views;

#[cfg(feature = "viewer")]
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use super::interrupt::{self, Interrupted};
use super::output::SCHEMA;
use super::pace::Pace;
use super::scene;
use super::sink::{DepthFormat, Look, Target};
use super::{Session, usage};
#[cfg(feature = "viewer")]
use crate::camera_path::Draft;
use crate::config::{Background, Config, SceneHints};
use crate::dataset::{Split, doctor};
use crate::images::near_far;
use crate::render::{Channel, Crop, Frame, Renderer};
use crate::text::counted_len;
pub(super) use views::View;
use views::{FrameRange, PathFile, Views, sized};

const EXAMPLES: &str = "\
Examples:
  kiln render runs/lego --out views/                          the test views as PNGs
  kiln render runs/lego --turntable 48 --out orbit.gif        an orbit
  kiln render runs/fern --spiral 60 --out spiral.gif          a spiral before a forward-facing scene
  kiln render runs/lego --path cameras.json --out flight.mp4  a camera's path as a video
  kiln render runs/lego --path cameras.json --out frames/ --frames 100..200 --samples 4
  kiln render runs/lego --turntable 1 --out cutout.png --background transparent
  kiln render runs/lego --turntable 1 --out top.png --crop=-1,-1,0,1,1,1
  kiln render runs/lego --channels rgb,depth --linear --depth-format exr --out exr/

docs/camera-path.md describes the files that --path reads.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Run directory, or a checkpoint file
    pub(super) run: PathBuf,
    /// Render the views of a split: train, val or test (which is what is rendered where nothing is chosen)
    #[arg(long, value_name = "SPLIT", conflicts_with_all = ["turntable", "spiral", "path"])]
    pub(super) split: Option<Split>,
    /// Render an orbit of N views around the scene, or a swing where the cameras stood on one side of it
    #[arg(long, value_name = "N", conflicts_with_all = ["spiral", "path"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) turntable: Option<u32>,
    /// Render a spiral of N views before the scene, where the cameras looked one way, as in LLFF captures
    #[arg(long, value_name = "N", conflicts_with = "path", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) spiral: Option<u32>,
    /// Render along a path: key frames (docs/camera-path.md), a camera path from nerfstudio or Instant-NGP, or the poses of
    /// a transforms.json
    #[arg(long, value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
    /// nerfstudio's `dataparser_transforms.json`, which takes its path to the dataset's world
    #[arg(long, value_name = "FILE", requires = "path")]
    pub(super) path_transform: Option<PathBuf>,
    /// Only frames A to B - 1, counted from 0; numbers in file names stay those of the whole
    #[arg(long, value_name = "A..B[..STEP]")]
    pub(super) frames: Option<FrameRange>,
    /// Only every K-th frame; an animation shows each K times as long
    #[arg(long, value_name = "K", value_parser = positive)]
    pub(super) every: Option<usize>,
    /// Folder for images, or one .png, .exr, .gif or .mp4 file (the last needs ffmpeg)
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) out: PathBuf,
    /// Pixels per row; left out, as in the dataset or the path
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(super) width: Option<u32>,
    /// Rows; left out, as in the dataset or the path
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(super) height: Option<u32>,
    /// What to render: rgb, depth, normal, opacity
    #[arg(long, value_name = "c,d", value_delimiter = ',', default_value = "rgb")]
    pub(super) channels: Vec<Channel>,
    /// Background: white, black, #rrggbb, or transparent (PNGs with alpha)
    #[arg(long, value_name = "C")]
    pub(super) background: Option<Backdrop>,
    /// Show only what lies in this box, two corners in world units; left out, as in the path
    #[arg(long, value_name = "x,y,z,x,y,z", allow_hyphen_values = true)]
    pub(super) crop: Option<Crop>,
    /// Rays a pixel, averaged: 1, 4, 9 or 16
    #[arg(long, value_name = "N", default_value = "1", value_parser = samples_per_side)]
    pub(super) samples: u32,
    /// Write colour as linear-light EXR, times alpha; opaque where --background names a colour
    #[arg(long)]
    pub(super) linear: bool,
    /// Depth as shades of grey, as 16-bit PNG or as EXR in world units; 0 where there is nothing [default: shaded]
    #[arg(long, value_name = "shaded|png16|exr")]
    pub(super) depth_format: Option<DepthName>,
    /// What a world unit is in 16-bit depth [default: 1000]
    #[arg(long, value_name = "S", value_parser = positive_number)]
    pub(super) depth_scale: Option<f64>,
    /// Where the images are, if not where the run was trained
    #[arg(long, value_name = "DIR")]
    pub(super) dataset: Option<PathBuf>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them; as the run does where it was trained so
    #[arg(long)]
    pub(super) apply_orientation: bool,
    /// Frames per second of an animation; left out, as in the path, else 12
    #[arg(long, value_name = "N", value_parser = frame_rate)]
    pub(super) fps: Option<f64>,
}

/// `--background`: what stands behind the scene, if anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Backdrop {
    Transparent,
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
pub(super) enum DepthName {
    Shaded,
    Png16,
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

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("give a number of frames from 1 on".to_owned()),
    }
}

fn positive_number(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if (1e-9..=1e9).contains(&v) => Ok(v),
        _ => Err("give a positive number".to_owned()),
    }
}

fn frame_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if (0.01..=1000.0).contains(&v) => Ok(v),
        _ => Err("give frames per second from 0.01 to 1000".to_owned()),
    }
}

fn samples_per_side(text: &str) -> Result<u32, String> {
    match text {
        "1" => Ok(1),
        "4" => Ok(2),
        "9" => Ok(3),
        "16" => Ok(4),
        _ => Err("give 1, 4, 9 or 16".to_owned()),
    }
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let target = plan::target(&args.out)?;
    plan::check(args, target)?;
    let path = PathFile::read(session, args)?;
    let background = match args.background {
        Some(Backdrop::Behind(color)) => scene::one_background(Some(color))?,
        Some(Backdrop::Transparent) | None => None,
    };
    let gpu = session.open_gpu()?;
    let mut run = scene::open_run(session, &gpu, &args.run, background)?;
    let views = views::all(session, &run.checkpoint, args, path)?;
    render_to(session, &mut run.renderer, args, target, &views)
}

#[cfg(feature = "viewer")]
impl Args {
    /// Those of one channel of a path, over a colour.
    pub(super) fn along_path(
        out: &Path,
        channel: Channel,
        per_side: u32,
        background: [f32; 3],
    ) -> Self {
        Self {
            run: PathBuf::new(),
            split: None,
            turntable: None,
            spiral: None,
            path: None,
            path_transform: None,
            frames: None,
            every: None,
            out: out.to_owned(),
            width: None,
            height: None,
            channels: vec![channel],
            background: Some(Backdrop::Behind(Background::Fixed(background))),
            crop: None,
            samples: per_side,
            linear: false,
            depth_format: None,
            depth_scale: None,
            dataset: None,
            apply_orientation: false,
            fps: None,
        }
    }
}

/// Render `path` of what is open.
#[cfg(feature = "viewer")]
pub(super) fn along(
    session: &Session,
    renderer: &mut Renderer,
    args: &Args,
    path: &Draft,
) -> anyhow::Result<()> {
    let target = plan::target(&args.out)?;
    plan::check(args, target)?;
    let views = Views::along(path)?;
    render_to(session, renderer, args, target, &views)
}

/// Opacity below which nothing shows in pictures of 8 bits.
const HARDLY_SEEN: f32 = 0.5 / 255.0;

/// Render what `args` pick of `views` to where they say.
fn render_to(
    session: &Session,
    renderer: &mut Renderer,
    args: &Args,
    target: Target,
    views: &Views,
) -> anyhow::Result<()> {
    let background = args.background.and_then(Backdrop::color);
    if views.crop.is_some() && !renderer.can_crop() {
        return Err(usage(
            "--crop: this run sees its scene in device coordinates, in which nothing is a box: leave the crop out",
        ));
    }
    renderer.set_crop(views.crop);
    let (picked, step) = views.pick(args)?;
    warn_of_nothing(session, renderer.config(), &picked);
    let fps = views.fps / step as f64;
    plan::check_views(args, target, &picked, fps)?;
    plan::make_folder(&args.out, target)?;
    if let Some(first) = picked.first() {
        session.out.in_place_of_bar(format!(
            "rendering {} of {}×{}",
            counted_len(picked.len(), "view"),
            first.camera.width,
            first.camera.height
        ));
    }
    let _listener = interrupt::listen();
    let mut sinks = plan::sinks(args, target, &views.all, &picked, fps)?;
    let depth = plan::depth_format(args, target);
    let shaded = args.channels.contains(&Channel::Depth) && depth == DepthFormat::Shaded;
    // Of the whole, so that parts of it fit together.
    let look = look(session, renderer, &views.all, shaded)?;
    let look = Look {
        background: background.or(look
            .background
            .filter(|_| args.background != Some(Backdrop::Transparent))),
        linear_background: background,
        depth,
        linear: args.linear || target == Target::Exr,
        ..look
    };
    let how = How {
        normals: args.channels.contains(&Channel::Normal),
        per_side: args.samples,
    };
    let mut is_empty = true;
    render_all(session, renderer, &picked, how, |index, frame| {
        is_empty &= frame.opacity.iter().all(|opacity| *opacity < HARDLY_SEEN);
        sinks
            .iter_mut()
            .try_for_each(|s| s.add(index, frame, &look))
    })?;
    if is_empty && !picked.is_empty() {
        session.out.note(
            "warning: nothing but background is seen: check where the cameras look, the unit and origin of a path, --crop, and \
             whether the run was trained long enough",
        );
    }
    let mut cut = 0;
    for sink in sinks {
        let written = sink.finish()?;
        cut += written.cut;
        for path in written.paths {
            session.out.json(&serde_json::json!({ "schema": SCHEMA, "event": "image", "path": path.display().to_string() }))?;
        }
    }
    if let (true, DepthFormat::Png16(scale)) = (cut > 0, depth) {
        session.out.note(format!(
            "note: {cut} depths beyond {:.4} world units were cut off: give a --depth-scale below {scale}",
            f32::from(u16::MAX) / scale
        ));
    }
    session.out.result(format!(
        "rendered {} to {}",
        counted_len(picked.len(), "view"),
        args.out.display()
    ))
}

/// Say that none of `views` sees the scene of `config`: their file stands in another unit, or around another origin.
fn warn_of_nothing(session: &Session, config: &Config, views: &[View]) {
    if config.scene.ndc.is_some() || views.is_empty() {
        return;
    }
    let scene_box = scene::box_of(config, SceneHints::default());
    let sees = |v: &View| doctor::sees(&v.camera, &scene_box, near_far(config, v.near_far));
    if !views.iter().any(sees) {
        session.out.note(format!(
            "warning: no camera sees the scene's box, {}, in world units: pictures show nothing but background; \
             check the unit and the origin of the path",
            scene_box.shown()
        ));
    }
}

/// What a rendering takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) normals: bool,
    /// Rays a pixel, per side.
    pub(super) per_side: u32,
}

/// Render `views` one after the other; `take` gets each, and its number, as it is done.
pub(super) fn render_all(
    session: &Session,
    renderer: &mut Renderer,
    views: &[View],
    how: How,
    mut take: impl FnMut(usize, &Frame) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let _listener = interrupt::listen();
    let way_out = "Ctrl-C ends it; a smaller --width or fewer --samples take less";
    let cameras = views.iter().map(|view| &view.camera);
    let mut pace = Pace::new(session, "rendering", way_out, cameras, how.per_side.pow(2));
    for view in views {
        let (camera, near_far) = (&view.camera, view.near_far);
        let mut go_on = |done| pace.go_on(done);
        let (normals, per_side) = (how.normals, how.per_side);
        let frame = renderer.render_while(camera, near_far, normals, per_side, &mut go_on)?;
        let Some(frame) = frame else {
            let text = format!(" before frame {} was rendered", view.index);
            return Err(Interrupted(text).into());
        };
        take(view.index, &frame)?;
        pace.complete();
    }
    pace.finish();
    Ok(())
}

/// Pixels per row of the small views that the range of depth is taken from.
const SMALL: u32 = 64;
/// Most of them.
const MOST_SMALL: usize = 100;

/// How `views` are to look; where depth is shaded, its range is that of small versions of them.
pub(super) fn look(
    session: &Session,
    renderer: &mut Renderer,
    views: &[View],
    shaded: bool,
) -> anyhow::Result<Look> {
    let mut range = None;
    if shaded {
        let small = |v: &View| v.seen_by(sized(&v.camera, Some(v.camera.width.min(SMALL)), None));
        let apart = views.len().div_ceil(MOST_SMALL).max(1);
        let views: Vec<View> = views.iter().step_by(apart).map(small).collect();
        let how = How {
            normals: false,
            per_side: 1,
        };
        render_all(session, renderer, &views, how, |_, frame| {
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
