//! `kiln distill`: from flags to training with a teacher.

use std::path::PathBuf;

use super::{Terminal, command_line, train};
use crate::session::{DistillOptions, FitOptions, Result, Selection};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln distill runs/lego-ngp                             into a grid of tiny networks that renders fast
  kiln distill runs/lego-nerf --seconds 900 --out runs/fast
  kiln distill runs/lego-ngp --set passes.field.cells.longest=24
  kiln distill runs/lego-ngp --compare runs/lego-kilonerf
                                                         beside the same grid trained directly on the images
  kiln train --resume runs/fast --seconds 1800           go on, whichever stage it is in

First the teacher is asked where it is dense, then the student learns from it at random points, then
from the images.")]
pub(super) struct Args {
    /// Run to learn from, of any method
    teacher: PathBuf,
    /// Where the images are, if not where the teacher was trained
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Preset of the student [default: `kilonerf`, or `kilonerf-small` on a software adapter]
    #[arg(long, conflicts_with = "config", value_name = "M")]
    method: Option<String>,
    /// Configuration file of the student instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a value of the configuration, as in --set `distillation.points_per_network=64`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Run directory to make [default: `runs/<dataset>-<method>`]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Steps that learn from the teacher; those that follow learn from the images [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    distill_steps: Option<u32>,
    /// Stop after this many steps, of both kinds [default without --seconds: 20000, or on a software adapter 300 s]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Stop after this many seconds of training
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
    /// Views to evaluate: how many, evenly spread, or which, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or all
    /// [default: all, at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Seed of all random numbers [default: the configuration's]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Seconds between checkpoints
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "S",
        default_value_t = 60.0
    )]
    checkpoint_every: f64,
    /// Runs whose PSNR to show beside the student's, as their last evaluation found it; may be repeated
    #[arg(long, value_name = "RUN")]
    compare: Vec<PathBuf>,
    /// Write event files for tensorboard into the run's tensorboard/ folder
    #[arg(long)]
    tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long)]
    force: bool,
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = FitOptions {
        dataset: args.dataset.clone(),
        method: args.method.clone(),
        config: args.config.clone(),
        overrides: args.overrides.clone(),
        out: args.out.clone(),
        steps: args.steps,
        seconds: args.seconds,
        eval_views: args.eval_views.clone(),
        seed: args.seed,
        checkpoint_every: args.checkpoint_every,
        tensorboard: args.tensorboard,
        overwrite: args.force,
        distill: Some(DistillOptions {
            teacher: args.teacher.clone(),
            steps: args.distill_steps,
            compare: args.compare.clone(),
        }),
        command: command_line(),
        ..FitOptions::default()
    };
    train::fit(terminal, &options)
}
