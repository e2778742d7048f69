//! `kiln render`: renders views of a run.

use std::path::PathBuf;

use super::Terminal;
use crate::aabb::Aabb;
use crate::dataset::Split;
use crate::render::{Channel, NormalSource};
use crate::session::render::{
    DepthEncoding, FrameRange, RenderBackground, RenderOptions, Rendering,
};
use crate::session::{Error, MAX_SIDE, Result, advice};

const EXAMPLES: &str = "\
Examples:
  kiln render runs/lego --out views/                          the test views as PNGs
  kiln render runs/lego --turntable 48 --out orbit.gif        an orbit
  kiln render runs/fern --spiral 60 --out spiral.gif          a spiral in front of a forward-facing scene
  kiln render runs/lego --path cameras.json --out flight.mp4  a camera path as a video
  kiln render runs/lego --path cameras.json --out frames/ --frames 100..200 --samples 4
  kiln render runs/lego --turntable 1 --out cutout.png --background transparent
  kiln render runs/lego --turntable 1 --out top.png --crop=-1,-1,0,1,1,1
  kiln render runs/lego --channels rgb,depth --linear --depth-format exr --out exr/

docs/camera-path.md describes the files that --path reads.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Run directory, or a checkpoint file
    run: PathBuf,
    /// Render the views of a split: train, val or test [default: test, unless another kind of view is chosen]
    #[arg(long, value_name = "SPLIT", conflicts_with_all = ["turntable", "spiral", "path"])]
    split: Option<Split>,
    /// Render an orbit of N views around the scene, or an arc if the training cameras are all on one side
    #[arg(long, value_name = "N", conflicts_with_all = ["spiral", "path"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    turntable: Option<u32>,
    /// Render a spiral of N views in front of a forward-facing scene, such as an LLFF capture
    #[arg(long, value_name = "N", conflicts_with = "path", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    spiral: Option<u32>,
    /// Render a camera path: key frames (docs/camera-path.md), a path from nerfstudio or Instant-NGP, or the poses of a
    /// transforms.json
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// nerfstudio's `dataparser_transforms.json`, which maps its camera path to the dataset's world coordinates
    #[arg(long, value_name = "FILE", requires = "path")]
    path_transform: Option<PathBuf>,
    /// Render only frames A to B - 1, counted from 0; file names keep the numbers of the whole path
    #[arg(long, value_name = "A..B[..STEP]")]
    frames: Option<FrameRange>,
    /// Render only every K-th frame; an animation shows each frame K times as long
    #[arg(long, value_name = "K", value_parser = positive)]
    every: Option<usize>,
    /// Folder for images, or a .png, .exr, .gif or .mp4 file (.mp4 needs ffmpeg)
    #[arg(long, value_name = "DIR|FILE")]
    out: Option<PathBuf>,
    /// Width in pixels [default: as in the dataset or the path]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    width: Option<u32>,
    /// Height in pixels [default: as in the dataset or the path]
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    height: Option<u32>,
    /// Channels to render: rgb, depth, normal, opacity
    #[arg(long, value_name = "c,d", value_delimiter = ',', default_value = "rgb")]
    channels: Vec<Channel>,
    /// Background: white, black, #rrggbb, or transparent (PNGs with alpha) [default: the run's]
    #[arg(long, value_name = "C")]
    background: Option<RenderBackground>,
    /// Render only what lies in this box, given by two corners in world units [default: as in the path]
    #[arg(long, value_name = "x,y,z,x,y,z", allow_hyphen_values = true)]
    crop: Option<Aabb>,
    /// Rays per pixel (antialiasing): 1, 4, 9 or 16
    #[arg(long, value_name = "N", default_value = "1", value_parser = samples_per_side)]
    samples: u32,
    /// Write colour as linear EXR with premultiplied alpha; opaque if --background names a colour
    #[arg(long)]
    linear: bool,
    /// Write depth as shades of grey, 16-bit PNG, or EXR in world units; 0 means nothing was hit [default: shaded, or exr
    /// for an .exr file]
    #[arg(long, value_name = "shaded|png16|exr")]
    depth_format: Option<DepthEncoding>,
    /// Value of one world unit in 16-bit depth [default: 1000]
    #[arg(long, value_name = "S", value_parser = positive_number)]
    depth_scale: Option<f64>,
    /// Compute normals from depth, which is smooth, or from the gradient of the density, averaged along each ray
    #[arg(long, value_name = "depth|density", default_value = "depth")]
    normals: NormalSource,
    /// Where the images are, if not where the run was trained
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Rotate the images by their EXIF orientation, for datasets whose poses describe the rotated images; on if the run was
    /// trained that way
    #[arg(long)]
    apply_orientation: bool,
    /// Frames per second of an animation [default: as in the path, else 12]
    #[arg(long, value_name = "N", value_parser = frame_rate)]
    fps: Option<f64>,
}

fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("give a whole number, 1 or more".to_owned()),
    }
}

fn positive_number(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(v) if (1e-9..=1e9).contains(&v) => Ok(v),
        _ => Err("give a positive number".to_owned()),
    }
}

fn frame_rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(v) if (0.01..=1000.0).contains(&v) => Ok(v),
        _ => Err("give frames per second from 0.01 to 1000".to_owned()),
    }
}

fn samples_per_side(text: &str) -> std::result::Result<u32, String> {
    match text {
        "1" => Ok(1),
        "4" => Ok(2),
        "9" => Ok(3),
        "16" => Ok(4),
        _ => Err("give 1, 4, 9 or 16".to_owned()),
    }
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let Some(out) = args.out.clone() else {
        // Whether there is something to render matters more.
        advice::open_checkpoint(&args.run)?;
        return Err(Error::usage(format!(
            "where to? give --out, a folder or a file: kiln render {} --out frames/",
            args.run.display()
        )));
    };
    let options = RenderOptions {
        run: args.run.clone(),
        split: args.split,
        turntable: args.turntable,
        spiral: args.spiral,
        path: args.path.clone(),
        path_transform: args.path_transform.clone(),
        frames: args.frames,
        every: args.every,
        out,
        width: args.width,
        height: args.height,
        channels: args.channels.clone(),
        background: args.background,
        crop: args.crop,
        samples_per_side: args.samples,
        linear: args.linear,
        depth_format: args.depth_format,
        depth_scale: args.depth_scale,
        normals: args.normals,
        dataset: args.dataset.clone(),
        apply_orientation: args.apply_orientation,
        fps: args.fps,
    };
    let rendering = Rendering::prepare(&options, terminal)?;
    rendering.run(&terminal.open_gpu()?, terminal)
}
