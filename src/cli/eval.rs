//! `kiln eval`: evaluates a run.

use std::path::PathBuf;

use super::Terminal;
use crate::config::Background;
use crate::dataset::Split;
use crate::session::{EvaluateOptions, Evaluation, MAX_DOWNSCALE, Result, Selection};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln eval runs/lego-ngp                          all test views
  kiln eval runs/lego-ngp --eval-views 0,5,10 --save-images
  kiln eval runs/lego-ngp --lpips alex.safetensors --json")]
pub(super) struct Args {
    /// Run directory, or a checkpoint file
    run: PathBuf,
    /// Split to evaluate: train, val or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// Where the images are, if not where the run was trained
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Views to evaluate: a number of evenly spaced views, indices and ranges such as 0,5,10, 0..24 (24 excluded) or 0-23
    /// (23 included), or all [default: all, but at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Background to composite over: white, black or #rrggbb [default: the run's]
    #[arg(long, value_name = "C")]
    background: Option<Background>,
    /// Shrink the images by this factor [default: the run's]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DOWNSCALE)))]
    downscale: Option<u32>,
    /// Rotate the images by their EXIF orientation, for datasets whose poses describe the rotated images; on if the run was
    /// trained that way
    #[arg(long)]
    apply_orientation: bool,
    /// Write the rendered views to the run's images/ folder
    #[arg(long)]
    save_images: bool,
    /// Compute LPIPS too, with these weights (safetensors) of its alex or vgg network; docs/evaluation.md explains how to
    /// export them
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = EvaluateOptions {
        run: args.run.clone(),
        split: args.split,
        dataset: args.dataset.clone(),
        eval_views: args.eval_views.clone(),
        background: args.background,
        downscale: args.downscale,
        apply_orientation: args.apply_orientation,
        save_images: args.save_images,
        lpips: args.lpips.clone(),
    };
    let evaluation = Evaluation::prepare(&options)?;
    evaluation.run(&terminal.open_gpu()?, terminal).map(|_| ())
}
