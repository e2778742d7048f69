//! `kiln distill`: trains a student from a teacher.

use std::path::PathBuf;

use super::{Terminal, command_line, train};
use crate::config::ConfigOptions;
use crate::session::{DistillOptions, FitOptions, Result, Selection};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln distill runs/lego-ngp                             distil into a grid of tiny networks (KiloNeRF)
  kiln distill runs/lego-nerf --seconds 900 --out runs/fast
  kiln distill runs/lego-ngp --set passes.field.cells.longest=24
  kiln distill runs/lego-ngp --compare runs/lego-kilonerf
                                                         compare with the same grid trained on the images alone
  kiln train --resume runs/fast --seconds 1800           continue, in either stage

An occupancy grid is extracted from the teacher first. The student then learns the teacher's colours
and opacities at random points, and is finally fine-tuned on the images.")]
pub(super) struct Args {
    /// Run to distil, trained with any method
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
    /// Change a configuration value, as in --set `distillation.points_per_network=64`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Run directory to create [default: `runs/<dataset>-<method>`]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Distillation steps; all steps after them are fine-tuning on the images [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    distill_steps: Option<u32>,
    /// Stop after this many steps, distillation and fine-tuning together [default: 20000, or 300 s on a software adapter;
    /// none with --seconds]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Stop after this many seconds of training
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
    /// Views to evaluate: a number of evenly spaced views, indices and ranges such as 0,5,10, 0..24 (24 excluded) or 0-23
    /// (23 included), or all [default: all, but at most 25 on a software adapter]
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
    /// Run whose PSNR to report for comparison, from its last evaluation if that fits; may be repeated
    #[arg(long, value_name = "RUN")]
    compare: Vec<PathBuf>,
    /// Write event files for tensorboard to the run's tensorboard/ folder
    #[arg(long)]
    tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long)]
    force: bool,
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = FitOptions {
        dataset: args.dataset.clone(),
        config: ConfigOptions {
            method: args.method.clone(),
            file: args.config.clone(),
            overrides: args.overrides.clone(),
            seed: args.seed,
            ..ConfigOptions::default()
        },
        out: args.out.clone(),
        steps: args.steps,
        seconds: args.seconds,
        eval_views: args.eval_views.clone(),
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
