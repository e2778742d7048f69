//! `kiln distill`: trains a student from a teacher.

use std::path::PathBuf;

use super::flags::{ConfigFlags, RunFlags};
use super::{Terminal, command_line, train};
use crate::session::{DistillOptions, FitOptions, Result, Selection};

const STEPS_HELP: &str = "Stop after this many steps, distillation and fine-tuning together [default: 20000, or 300 s on a \
     software adapter; none with --seconds]";

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
#[command(mut_arg("method", |arg| arg.help("Preset of the student [default: `kilonerf`, or `kilonerf-small` on a software adapter]")))]
#[command(mut_arg("config", |arg| arg.help("Configuration file of the student instead of a preset")))]
#[command(mut_arg("overrides", |arg| arg.help("Change a configuration value, as in --set `distillation.points_per_network=64`; may be repeated")))]
#[command(mut_arg("steps", |arg| arg.help(STEPS_HELP)))]
pub(super) struct Args {
    /// Run to distil, trained with any method
    teacher: PathBuf,
    /// Where the images are, if not where the teacher was trained
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    run: RunFlags,
    /// Distillation steps; all steps after them are fine-tuning on the images [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    distill_steps: Option<u32>,
    /// Views to evaluate: a number of evenly spaced views, indices and ranges such as 0,5,10, 0..24 (24 excluded) or 0-23
    /// (23 included), or all [default: all, but at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Run whose PSNR to report for comparison, from its last evaluation if that fits; may be repeated
    #[arg(long, value_name = "RUN")]
    compare: Vec<PathBuf>,
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = FitOptions {
        dataset: args.dataset.clone(),
        config: args.config.options(),
        out: args.run.out.clone(),
        steps: args.run.steps,
        seconds: args.run.seconds,
        eval_views: args.eval_views.clone(),
        checkpoint_every: args.run.checkpoint_every,
        tensorboard: args.run.tensorboard,
        overwrite: args.run.force,
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
