//! `kiln train`: trains a run.

use std::path::PathBuf;

use super::flags::{ConfigFlags, RunFlags};
use super::{Terminal, command_line};
use crate::config::{Background, ConfigOptions};
use crate::session::{self, FitOptions, MAX_DOWNSCALE, Result, Selection};

const STEPS_HELP: &str = "Stop after this many steps, counted from the start of the run [default: 20000, or 1000 with --init, \
     or 300 s on a software adapter; none with --seconds]";

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  kiln train data/lego                                   train for the default number of steps
  kiln train data/lego --seconds 300 --out runs/a        train for five minutes
  kiln train data/fox --downscale 4 --until-psnr 27      stop once the test PSNR reaches 27 dB
  kiln train data/fern --downscale 8                     use the images of an LLFF capture at 1/8 size
  kiln train --resume runs/a --seconds 900               continue exactly where the run stopped
  kiln train data/lego --config runs/a/config.toml --seed 2
                                                         repeat with another seed
  kiln train data/lego --set training.batch_size=65536   change a configuration value
  kiln train data/car --init runs/cars --train-views 0   use one view and the weights of kiln meta

Ctrl-C saves a checkpoint and stops; a second Ctrl-C quits at once.")]
#[command(mut_arg("method", |arg| arg.help("Preset [default: `ngp`, or `ngp-small` on a software adapter]")))]
#[command(mut_arg("steps", |arg| arg.help(STEPS_HELP)))]
pub(super) struct Args {
    /// Folder of posed images: Blender, `transforms.json`, LLFF or SRN; may be left out with --resume
    dataset: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    run: RunFlags,
    /// Run to continue, with its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["method", "config", "out", "force"])]
    resume: Option<PathBuf>,
    /// Initialise the weights from this run (usually made by `kiln meta`), and use its configuration unless --method or
    /// --config names another
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Stop once the mean PSNR of the evaluation views reaches this value, in dB
    #[arg(long, allow_negative_numbers = true, value_name = "DB")]
    until_psnr: Option<f64>,
    /// Train on these views only: indices and ranges such as 0,5,10, 0..24 (24 excluded) or 0-23 (23 included), or all; if
    /// the dataset defines no test split, the remaining views become test views
    #[arg(long, value_name = "i,j|A..B|all")]
    train_views: Option<Selection>,
    /// Views to evaluate: a number of evenly spaced views, indices and ranges such as 0,5,10, 0..24 (24 excluded) or 0-23
    /// (23 included), or all [default: all, but at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Shrink the images by this factor; for LLFF data it counts from the full size, and a folder of images at that size is
    /// used if there is one
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DOWNSCALE)))]
    downscale: Option<u32>,
    /// Rotate the images by their EXIF orientation, for datasets whose poses describe the rotated images
    #[arg(long)]
    apply_orientation: bool,
    /// Take the alpha of the images for a mask: what is transparent is not trained on, instead of being empty
    #[arg(long)]
    alpha_mask: bool,
    /// Background of training rays: auto, random, white, black or #rrggbb; a fixed colour is used for evaluation too
    #[arg(long, value_name = "C")]
    background: Option<Background>,
    /// Composite in linear colour instead of sRGB
    #[arg(long)]
    linear: bool,
    /// Watch the training in a window
    #[cfg(feature = "viewer")]
    #[arg(long)]
    pub(super) view: bool,
    /// Run a script of user actions, for tests
    #[cfg(feature = "viewer")]
    #[arg(long, value_name = "FILE", hide = true, requires = "view")]
    pub(super) view_script: Option<PathBuf>,
}

impl Args {
    /// Return the options that the flags set.
    pub(super) fn options(&self) -> FitOptions {
        FitOptions {
            dataset: self.dataset.clone(),
            config: ConfigOptions {
                background: self.background,
                linear: self.linear,
                ..self.config.options()
            },
            out: self.run.out.clone(),
            resume: self.resume.clone(),
            init: self.init.clone(),
            steps: self.run.steps,
            seconds: self.run.seconds,
            until_psnr: self.until_psnr,
            train_views: self.train_views.clone(),
            eval_views: self.eval_views.clone(),
            downscale: self.downscale,
            apply_orientation: self.apply_orientation,
            alpha_mask: self.alpha_mask,
            checkpoint_every: self.run.checkpoint_every,
            tensorboard: self.run.tensorboard,
            overwrite: self.run.force,
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
    let (dir, _) = session::fit(&gpu, options, terminal)?;
    terminal.suggest_next(dir.path());
    Ok(())
}
