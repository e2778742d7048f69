//! `kiln train`

use std::path::PathBuf;

use super::{Terminal, command_line};
use crate::config::Background;
use crate::session::{self, FitOptions, Result, Selection};

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  kiln train data/lego                                   until the default budget is spent
  kiln train data/lego --seconds 300 --out runs/a        for five minutes of training
  kiln train data/fox --downscale 4 --until-psnr 27      until it is good enough
  kiln train data/fern --downscale 8                     on the images of an LLFF capture at that size
  kiln train --resume runs/a --seconds 900               go on, exactly as if it had never stopped
  kiln train data/lego --config runs/a/config.toml --seed 2
                                                         the same again with another seed
  kiln train data/lego --set training.batch_size=65536   change a value of the configuration
  kiln train data/car --init runs/cars --train-views 0   from one view, beginning with what kiln meta learned

Ctrl-C saves a checkpoint and stops; a second one quits at once.")]
pub(super) struct Args {
    /// Folder of posed images: Blender, `transforms.json`, LLFF or SRN; may be left out with --resume
    dataset: Option<PathBuf>,
    /// Preset; where left out, `ngp`, or `ngp-small` on a software adapter
    #[arg(long, conflicts_with = "config", value_name = "M")]
    method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a value of the configuration, as in --set `training.batch_size=65536`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Run directory to make [default: `runs/<dataset>-<method>`]
    #[arg(long, conflicts_with = "resume", value_name = "RUN")]
    out: Option<PathBuf>,
    /// Run to go on with, under its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["method", "config"])]
    resume: Option<PathBuf>,
    /// Begin with the parameters of this run, as `kiln meta` made, and with its configuration where no other is named
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Stop after this many steps over the run's life [default without --seconds: 20000, or on a software adapter 300 s]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Stop after this many seconds of training over the run's life
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
    /// Stop once the evaluation views reach this PSNR
    #[arg(long, allow_negative_numbers = true, value_name = "DB")]
    until_psnr: Option<f64>,
    /// Train on these views only, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or on all; where the dataset names no
    /// test views, the others are
    #[arg(long, value_name = "i,j|A..B|all")]
    train_views: Option<Selection>,
    /// Views to evaluate: how many, evenly spread, or which, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or all
    /// [default: all, at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Shrink the images by this factor; of LLFF data, from the full size, taking the folder of the size where there is one
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
    /// Background behind training rays: auto, random, white, black or #rrggbb; a colour also serves evaluation
    #[arg(long, value_name = "C")]
    background: Option<Background>,
    /// Composite in linear colour
    #[arg(long)]
    linear: bool,
    /// Write event files for tensorboard into the run's tensorboard/ folder
    #[arg(long)]
    tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Watch it in a window
    #[cfg(feature = "viewer")]
    #[arg(long)]
    pub(super) view: bool,
    /// Do what a file of actions says, for tests
    #[cfg(feature = "viewer")]
    #[arg(long, value_name = "FILE", hide = true, requires = "view")]
    pub(super) view_script: Option<PathBuf>,
}

impl Args {
    /// What the flags ask for.
    pub(super) fn options(&self) -> FitOptions {
        FitOptions {
            dataset: self.dataset.clone(),
            method: self.method.clone(),
            config: self.config.clone(),
            overrides: self.overrides.clone(),
            out: self.out.clone(),
            resume: self.resume.clone(),
            init: self.init.clone(),
            steps: self.steps,
            seconds: self.seconds,
            until_psnr: self.until_psnr,
            train_views: self.train_views.clone(),
            eval_views: self.eval_views.clone(),
            downscale: self.downscale,
            apply_orientation: self.apply_orientation,
            seed: self.seed,
            checkpoint_every: self.checkpoint_every,
            background: self.background,
            linear: self.linear,
            tensorboard: self.tensorboard,
            overwrite: self.force,
            distill: None,
            command: command_line(),
        }
    }
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    fit(terminal, &args.options())
}

/// Open the device and train.
pub(super) fn fit(terminal: &Terminal, options: &FitOptions) -> Result<()> {
    options.check()?;
    let gpu = terminal.open_gpu()?;
    session::fit(&gpu, options, terminal).map(|_| ())
}
