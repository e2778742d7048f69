//! `kiln meta` and `kiln meta-eval`

use std::path::PathBuf;

use super::{Terminal, command_line};
use crate::session::{self, MetaEvalOptions, MetaOptions, Result, Selection};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln meta data/cars                             until the default budget is spent
  kiln meta data/cars --method learnit --steps 50000 --out runs/cars
  kiln meta data/cars --method ngp                of the hash-grid method
  kiln meta --resume runs/cars --seconds 3600     go on
  kiln train data/cars/a-new-one --init runs/cars --train-views 0
                                                  learn an object from one view, beginning there
  kiln meta-eval runs/cars                        what that is worth

ROOT holds one folder an object, each a dataset of its own. A step is an outer step: so many steps
as meta.inner_steps says are learned on one object, and what they begin with moves towards their end.")]
pub(super) struct Args {
    /// Folder of objects; may be left out with --resume
    root: Option<PathBuf>,
    /// File with the lists `train` and `test` of folders [default: the one *_splits.json in ROOT]
    #[arg(long, value_name = "FILE", conflicts_with = "train_fraction")]
    splits: Option<PathBuf>,
    /// Learn from this share of the folders, the first by name, where no file says which
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    train_fraction: Option<f64>,
    /// Preset; where left out, `learnit`, or `learnit-small` on a software adapter
    #[arg(long, conflicts_with = "config", value_name = "M")]
    method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a value of the configuration, as in --set `meta.inner_steps=16`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Run directory to make [default: `runs/<root>-<method>`]
    #[arg(long, conflicts_with = "resume", value_name = "RUN")]
    out: Option<PathBuf>,
    /// Run to go on with, under its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["method", "config", "overrides", "splits", "train_fraction", "downscale", "apply_orientation", "seed"])]
    resume: Option<PathBuf>,
    /// Stop after this many outer steps over the run's life [default without --seconds: 20000, or on a software adapter 900 s]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Stop after this many seconds of training over the run's life
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
    /// Shrink the images by this factor
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    downscale: Option<u32>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them
    #[arg(long)]
    apply_orientation: bool,
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
    /// Write event files for tensorboard into the run's tensorboard/ folder
    #[arg(long)]
    tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

impl Args {
    /// What the flags ask for.
    fn options(&self) -> MetaOptions {
        MetaOptions {
            root: self.root.clone(),
            splits: self.splits.clone(),
            train_fraction: self.train_fraction,
            method: self.method.clone(),
            config: self.config.clone(),
            overrides: self.overrides.clone(),
            out: self.out.clone(),
            resume: self.resume.clone(),
            steps: self.steps,
            seconds: self.seconds,
            downscale: self.downscale,
            apply_orientation: self.apply_orientation,
            seed: self.seed,
            checkpoint_every: self.checkpoint_every,
            tensorboard: self.tensorboard,
            overwrite: self.force,
            command: command_line(),
        }
    }
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = args.options();
    options.check()?;
    session::meta(&terminal.open_gpu()?, &options, terminal)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln meta-eval runs/cars                              one view of each held-out object
  kiln meta-eval runs/cars --objects 5 --steps 0,32,1000
  kiln meta-eval runs/cars --train-views 3              the first three views
  kiln meta-eval runs/cars --train-views 0,12 --json    these two

Prints the PSNR of views that were not trained on after so many steps, from what was learned and from
scratch, and writes meta-eval.json and meta-eval.png into the run.")]
pub(super) struct EvalArgs {
    /// Run that `kiln meta` made, or a checkpoint file
    run: PathBuf,
    /// Held-out objects to learn, the first by the list [default: all, at most 5 on a software adapter]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    objects: Option<u32>,
    /// Steps after which to measure
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        default_values_t = MetaEvalOptions::STEPS
    )]
    steps: Vec<u32>,
    /// Views of each object to learn from: how many, the first ones, or which, as 0,12, 0..3
    /// (without the last) or 0-2 (with it)
    #[arg(long, value_name = "N|i,j|A..B", default_value = "1")]
    train_views: Selection,
    /// Other views to measure: how many, evenly spread, which, or all [default: all, at most 3 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Where the objects are, if not where the run was made
    #[arg(long, value_name = "ROOT")]
    root: Option<PathBuf>,
    /// File with the list `test` of folders, if not the run's
    #[arg(long, value_name = "FILE")]
    splits: Option<PathBuf>,
    /// Factor to shrink the images by; the run's own where left out
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    downscale: Option<u32>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them; as the run does where it was made so
    #[arg(long)]
    apply_orientation: bool,
    /// Folder to write to [default: the run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn evaluate(terminal: &Terminal, args: &EvalArgs) -> Result<()> {
    let options = MetaEvalOptions {
        run: args.run.clone(),
        objects: args.objects,
        steps: args.steps.clone(),
        train_views: args.train_views.clone(),
        eval_views: args.eval_views.clone(),
        root: args.root.clone(),
        splits: args.splits.clone(),
        downscale: args.downscale,
        apply_orientation: args.apply_orientation,
        out: args.out.clone(),
    };
    session::meta_eval(&terminal.open_gpu()?, &options, terminal)
}
