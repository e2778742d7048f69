//! `kiln meta` and `kiln meta-eval`: meta-learn an initialisation and evaluate it.

use std::path::PathBuf;

use super::flags::{ConfigFlags, RunFlags};
use super::{Terminal, command_line};
use crate::session::{self, MAX_DOWNSCALE, MetaEvalOptions, MetaOptions, Result, Selection};

const STEPS_HELP: &str = "Stop after this many outer steps, counted from the start of the run [default: 20000, or 900 s on a \
     software adapter; none with --seconds]";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln meta data/cars                             train for the default time
  kiln meta data/cars --method learnit --steps 50000 --out runs/cars
  kiln meta data/cars --method ngp                initialise a hash grid
  kiln meta --resume runs/cars --seconds 3600     continue
  kiln train data/cars/a-new-one --init runs/cars --train-views 0
                                                  train on one view from that initialisation
  kiln meta-eval runs/cars                        compare it with random weights

ROOT holds one folder per object, each a dataset. The algorithm is Reptile: an outer step trains on one
object for meta.inner_steps steps, then moves the initialisation towards the result.")]
#[command(mut_arg("method", |arg| arg.help("Preset [default: `learnit`, or `learnit-small` on a software adapter]")))]
#[command(mut_arg("overrides", |arg| arg.help("Change a configuration value, as in --set `meta.inner_steps=16`; may be repeated")))]
#[command(mut_arg("out", |arg| arg.help("Run directory to create [default: `runs/<root>-<method>`]")))]
#[command(mut_arg("steps", |arg| arg.help(STEPS_HELP)))]
pub(super) struct Args {
    /// Folder of objects; may be left out with --resume
    root: Option<PathBuf>,
    /// JSON file that lists the folders of the splits `train` and `test` [default: the only *_splits.json in ROOT]
    #[arg(long, value_name = "FILE", conflicts_with = "train_fraction")]
    splits: Option<PathBuf>,
    /// Without a splits file: train on this fraction of the folders, the first by name
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    train_fraction: Option<f64>,
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    run: RunFlags,
    /// Run to continue, with its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["method", "config", "overrides", "splits", "train_fraction", "downscale", "apply_orientation", "seed", "out", "force"])]
    resume: Option<PathBuf>,
    /// Shrink the images by this factor
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DOWNSCALE)))]
    downscale: Option<u32>,
    /// Rotate the images by their EXIF orientation, for datasets whose poses describe the rotated images
    #[arg(long)]
    apply_orientation: bool,
}

impl Args {
    /// Return the options that the flags set.
    fn options(&self) -> MetaOptions {
        MetaOptions {
            root: self.root.clone(),
            splits: self.splits.clone(),
            train_fraction: self.train_fraction,
            config: self.config.options(),
            out: self.run.out.clone(),
            resume: self.resume.clone(),
            steps: self.run.steps,
            seconds: self.run.seconds,
            downscale: self.downscale,
            apply_orientation: self.apply_orientation,
            checkpoint_every: self.run.checkpoint_every,
            tensorboard: self.run.tensorboard,
            overwrite: self.run.force,
            command: command_line(),
        }
    }
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    let options = args.options();
    options.check()?;
    session::meta(&terminal.open_gpu()?, &options, terminal).map(|_| ())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln meta-eval runs/cars                              train on one view of each held-out object
  kiln meta-eval runs/cars --objects 5 --steps 0,32,1000
  kiln meta-eval runs/cars --train-views 3              train on the first three views
  kiln meta-eval runs/cars --train-views 0,12 --json    train on views 0 and 12

Trains each object from the meta-learned initialisation and from random weights, prints the PSNR of
novel views after each number of steps, and writes meta-eval.json and meta-eval.png into the run.")]
pub(super) struct EvalArgs {
    /// Run made by `kiln meta`, or a checkpoint file
    run: PathBuf,
    /// Number of held-out objects, the first of the list [default: all, but at most 5 on a software adapter]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    objects: Option<u32>,
    /// Numbers of steps after which to evaluate
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        default_values_t = MetaEvalOptions::STEPS
    )]
    steps: Vec<u32>,
    /// Views of each object to train on: a number (the first views), or indices and ranges such as 0,12, 0..3 (3 excluded)
    /// or 0-2 (2 included)
    #[arg(long, value_name = "N|i,j|A..B", default_value = "1")]
    train_views: Selection,
    /// Other views to evaluate: a number of evenly spaced views, indices and ranges, or all [default: all, but at most 3 on
    /// a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Where the objects are, if not where the run was trained
    #[arg(long, value_name = "ROOT")]
    root: Option<PathBuf>,
    /// JSON file that lists the folders of the split `test` [default: the run's]
    #[arg(long, value_name = "FILE")]
    splits: Option<PathBuf>,
    /// Shrink the images by this factor [default: the run's]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DOWNSCALE)))]
    downscale: Option<u32>,
    /// Rotate the images by their EXIF orientation, for datasets whose poses describe the rotated images; on if the run was
    /// trained that way
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
