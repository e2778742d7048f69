//! `kiln prepare`: makes a dataset of a video or of photographs.

use std::path::PathBuf;

use super::{Terminal, inspect, quoted};
use crate::session::prepare::{CAMERA_MODEL, FRAMES, Matcher, PrepareOptions, prepare};
use crate::session::run_log::SCHEMA;
use crate::session::{ObserverExt as _, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln prepare desk.mp4 --out desk              frames, camera poses, and a check of both
  kiln prepare photos/ --out desk               the same from photographs
  kiln train desk                               then train

ffmpeg and colmap do the work: install them with your system's packages. An interrupted preparation
goes on where it stopped: type the same command again.")]
pub(super) struct Args {
    /// Video, or folder of photographs
    #[arg(value_name = "VIDEO|PHOTOS")]
    input: PathBuf,
    /// Folder of the dataset
    #[arg(long, value_name = "DATASET")]
    out: PathBuf,
    #[arg(long, value_name = "N", help = format!("Number of frames to take from a video, the sharpest of each interval [default: {FRAMES}]"), value_parser = clap::value_parser!(u32).range(2..=5_000))]
    frames: Option<u32>,
    /// Shrink the frames of a video to this length of the longer side, in pixels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=16_384))]
    max_side: Option<u32>,
    /// Images to match: sequential for videos, exhaustive up to 250 photographs, beyond that vocab-tree
    #[arg(long, value_enum, default_value = "auto")]
    matcher: MatcherFlag,
    /// Tree of visual words, which finds similar images among many
    #[arg(long, value_name = "FILE")]
    vocab_tree: Option<PathBuf>,
    #[arg(long, help = "COLMAP's camera model; OPENCV or OPENCV_FISHEYE for action cameras", value_name = "NAME", default_value = CAMERA_MODEL)]
    camera_model: String,
    /// COLMAP's program [default: on the PATH]
    #[arg(long, value_name = "PATH")]
    colmap: Option<PathBuf>,
    /// ffmpeg's program [default: on the PATH]
    #[arg(long, value_name = "PATH")]
    ffmpeg: Option<PathBuf>,
    /// Start over: replace images, model and logs of an earlier preparation in the folder; other files never are
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MatcherFlag {
    Auto,
    Sequential,
    Exhaustive,
    VocabTree,
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = PrepareOptions {
        frames: args.frames,
        max_side: args.max_side,
        matcher: match args.matcher {
            MatcherFlag::Auto => Matcher::Auto,
            MatcherFlag::Sequential => Matcher::Sequential,
            MatcherFlag::Exhaustive => Matcher::Exhaustive,
            MatcherFlag::VocabTree => Matcher::VocabTree,
        },
        vocab_tree: args.vocab_tree.clone(),
        camera_model: args.camera_model.to_ascii_uppercase(),
        colmap: args.colmap.clone(),
        ffmpeg: args.ffmpeg.clone(),
        overwrite: args.force,
        ..PrepareOptions::new(&args.input, &args.out)
    };
    let done = prepare(&options, terminal)?;
    let plot = args.out.join("cameras.png");
    inspect::of_dataset(terminal, &args.out, &plot)?;
    let error = done
        .reprojection_error
        .map_or_else(String::new, |e| format!(", reprojection error {e:.2} px"));
    terminal.result(format!(
        "{} of {} images registered, {} points{error}, in {}",
        done.registered,
        done.images,
        done.points,
        crate::report::duration(done.seconds)
    ))?;
    terminal.note(format!(
        "train it: kiln train {}",
        quoted(&args.out.to_string_lossy())
    ));
    terminal.json(&serde_json::json!({
        "schema": SCHEMA, "event": "prepare", "dataset": args.out, "images": done.images, "registered": done.registered,
        "points": done.points, "reprojection_error": done.reprojection_error, "seconds": done.seconds,
    }))
}
