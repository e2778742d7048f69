//! Trains a field on the images of a dataset, from options to an evaluated run.

mod driver;
mod setup;
mod teacher;

#[cfg(feature = "viewer")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use driver::{Advanced, Fit, FitProgress};

use super::limits::Limits;
use super::views::Selection;
use super::{Error, Observer, Result};
use crate::checkpoint::CheckpointError;
use crate::config::Background;
use crate::eval::EvalReport;
use crate::gpu::{AdapterClass, Gpu};
use crate::run::RunDir;
use crate::train::TrainError;

/// What to train, on what, and for how long.
#[derive(Debug, Clone)]
pub struct FitOptions {
    /// Folder of posed images, or the file that lists them. With `resume` or a teacher, the one of that run where left out.
    pub dataset: Option<PathBuf>,
    /// Preset; where left out, `ngp`, or `ngp-small` on a software adapter.
    pub method: Option<String>,
    /// Configuration file instead of a preset.
    pub config: Option<PathBuf>,
    /// Values of the configuration to change, as `training.batch_size=65536`.
    pub overrides: Vec<String>,
    /// Run directory to make; `runs/<dataset>-<method>` where left out.
    pub out: Option<PathBuf>,
    /// Run to go on with, under its own configuration.
    pub resume: Option<PathBuf>,
    /// Run whose parameters training begins with, and whose configuration where no other is named.
    pub init: Option<PathBuf>,
    /// Steps over the run's life.
    pub steps: Option<u32>,
    /// Seconds of training over the run's life.
    pub seconds: Option<f64>,
    /// PSNR of the evaluation views to stop at, dB.
    pub until_psnr: Option<f64>,
    /// Views to train on; all where left out.
    pub train_views: Option<Selection>,
    /// Views to evaluate; all where left out, at most 25 on a software adapter.
    pub eval_views: Option<Selection>,
    /// Factor to shrink the images by.
    pub downscale: Option<u32>,
    /// Whether to turn images as their EXIF orientation says.
    pub apply_orientation: bool,
    /// Seed of all random numbers; the configuration's where left out.
    pub seed: Option<u32>,
    /// Seconds of training between checkpoints.
    pub checkpoint_every: f64,
    /// What stands behind training rays; a colour also serves evaluation.
    pub background: Option<Background>,
    /// Whether to composite in linear colour.
    pub linear: bool,
    /// Whether to write event files for `TensorBoard`.
    pub tensorboard: bool,
    /// Whether to overwrite an existing run.
    pub overwrite: bool,
    /// The teacher to learn from before the images, if there is one.
    pub distill: Option<DistillOptions>,
    /// What repeats this, for the run's log and report; empty where nothing does.
    pub command: String,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            dataset: None,
            method: None,
            config: None,
            overrides: Vec::new(),
            out: None,
            resume: None,
            init: None,
            steps: None,
            seconds: None,
            until_psnr: None,
            train_views: None,
            eval_views: None,
            downscale: None,
            apply_orientation: false,
            seed: None,
            checkpoint_every: 60.0,
            background: None,
            linear: false,
            tensorboard: false,
            overwrite: false,
            distill: None,
            command: String::new(),
        }
    }
}

impl FitOptions {
    /// Options that train on `dataset` and leave everything else to its default.
    #[must_use]
    pub fn new(dataset: impl Into<PathBuf>) -> Self {
        Self {
            dataset: Some(dataset.into()),
            ..Self::default()
        }
    }

    /// Options that go on with what these began in `run`, under the same limits.
    #[cfg(feature = "viewer")]
    pub(crate) fn resuming(&self, run: &Path) -> Self {
        Self {
            dataset: self.dataset.clone(),
            resume: Some(run.to_owned()),
            steps: self.steps,
            seconds: self.seconds,
            until_psnr: self.until_psnr,
            eval_views: self.eval_views.clone(),
            checkpoint_every: self.checkpoint_every,
            tensorboard: self.tensorboard,
            command: self.command.clone(),
            ..Self::default()
        }
    }

    /// Refuse values that no run can be asked for. [`Fit::open`] does so too; this needs no device.
    ///
    /// # Errors
    /// [`Error::Usage`]
    pub fn check(&self) -> Result<()> {
        for (flag, value) in [
            ("--seconds", self.seconds),
            ("--until-psnr", self.until_psnr),
            ("--checkpoint-every", Some(self.checkpoint_every)),
        ] {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return Err(Error::usage(format!(
                    "{flag} {value}: give a positive number"
                )));
            }
        }
        if self.downscale == Some(0) {
            return Err(Error::usage("--downscale 0: give a factor from 1 on"));
        }
        if self.dataset.is_none() && self.resume.is_none() && self.distill.is_none() {
            return Err(Error::usage(
                "no DATASET given: name a folder of posed images, or --resume a run",
            ));
        }
        Ok(())
    }
}

/// What a student learns from before it learns from images.
#[derive(Debug, Clone, Default)]
pub struct DistillOptions {
    /// Run to learn from, of any method.
    pub teacher: PathBuf,
    /// Steps that learn from it; the configuration's where left out.
    pub steps: Option<u32>,
    /// Runs whose PSNR is told beside the student's.
    pub compare: Vec<PathBuf>,
}

/// Train as `options` say, save and evaluate; the run's directory, and its evaluation if there are views to evaluate.
///
/// # Errors
/// [`Error`]
pub fn fit(
    gpu: &Arc<Gpu>,
    options: &FitOptions,
    observer: &dyn Observer,
) -> Result<(RunDir, Option<EvalReport>)> {
    Fit::open(gpu, options, observer)?.run()
}

/// Steps of a run with no limit given, on a GPU; seconds on a software adapter.
const DEFAULT_STEPS: u32 = 20_000;
const DEFAULT_SECONDS: f64 = 300.0;
/// Steps of a run that begins with another's parameters, as in Tancik et al. 2021.
const INIT_STEPS: u32 = 1000;
/// Seconds of training between looks at a held-out view, at least.
const LOOK_EVERY: f64 = 10.0;

/// When to stop, as `options` say, or by default for a device as `gpu`.
fn limits(options: &FitOptions, gpu: &Gpu) -> Limits {
    let software = gpu.class() == AdapterClass::Software;
    // Who begins with what was learned is there soon.
    let default = match (&options.init, software) {
        (Some(_), _) => (INIT_STEPS, f64::INFINITY),
        (None, true) => (u32::MAX, DEFAULT_SECONDS),
        (None, false) => (DEFAULT_STEPS, f64::INFINITY),
    };
    Limits {
        psnr: options.until_psnr.unwrap_or(f64::INFINITY),
        ..Limits::given((options.steps, options.seconds), default)
    }
}

/// `error`, with what is left of the run where its values stopped being finite.
pub(crate) fn diverged(error: Error, dir: &RunDir) -> Error {
    let is_divergence = matches!(
        error,
        Error::Train(TrainError::NonFinite { .. })
            | Error::Checkpoint(CheckpointError::NonFinite { .. })
    );
    if !is_divergence {
        return error;
    }
    let checkpoint = dir.checkpoint();
    if checkpoint.exists() {
        Error::failed(format!(
            "{error}; {} keeps the last good state",
            checkpoint.display()
        ))
    } else {
        Error::failed(format!(
            "{error} and --force; nothing had been saved in {}",
            dir.path().display()
        ))
    }
}
