//! `kiln eval`

use std::path::PathBuf;

use super::Terminal;
use crate::config::Background;
use crate::dataset::Split;
use crate::session::{EvaluateOptions, Evaluation, Result, Selection};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln eval runs/lego-ngp                          all test views
  kiln eval runs/lego-ngp --eval-views 0,5,10 --save-images
  kiln eval runs/lego-ngp --lpips alex.safetensors --json")]
pub(super) struct Args {
    /// Run directory, or a checkpoint file
    run: PathBuf,
    /// Views to measure: train, val or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// Where the images are, if not where the run was trained
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Views to evaluate: how many, evenly spread, or which, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or all
    /// [default: all, at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Background to composite over: white, black or #rrggbb
    #[arg(long, value_name = "C")]
    background: Option<Background>,
    /// Factor to shrink the images by; the run's own where left out
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    downscale: Option<u32>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them; as the run does where it was trained so
    #[arg(long)]
    apply_orientation: bool,
    /// Write the renderings to the run's images/ folder
    #[arg(long)]
    save_images: bool,
    /// Measure LPIPS too, with these weights (safetensors) of its alex or vgg network: docs/evaluation.md tells how to
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
