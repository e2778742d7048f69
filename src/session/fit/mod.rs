//! Trains a field on the images of a dataset, from options to an evaluated run.

mod driver;
mod setup;
mod teacher;

#[cfg(feature = "viewer")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use driver::{Fit, FitProgress, FitStatus};

use super::check::{self, MAX_DOWNSCALE};
use super::limits::Limits;
use super::views::Selection;
use super::{Error, Observer, Result};
use crate::checkpoint::CheckpointError;
use crate::config::ConfigOptions;
use crate::eval::EvalReport;
use crate::gpu::{AdapterClass, Gpu};
use crate::run::RunDir;
use crate::train::TrainError;

/// Options of a training: dataset, method and limits.
#[derive(Debug, Clone)]
pub struct FitOptions {
    /// Folder of posed images, or the file that lists them. If `None`, the dataset of the resumed run or of the teacher.
    pub dataset: Option<PathBuf>,
    /// The configuration; where it names none, `ngp`, or `ngp-small` on a software adapter.
    pub config: ConfigOptions,
    /// Run directory to create. If `None`, `runs/<dataset>-<method>`.
    pub out: Option<PathBuf>,
    /// Run to continue, with its own configuration.
    pub resume: Option<PathBuf>,
    /// Run to initialise the parameters from; its configuration is used unless `method` or `config` names another.
    pub init: Option<PathBuf>,
    /// Limit of steps, counted from the start of the run.
    pub steps: Option<u32>,
    /// Limit of seconds of training, counted from the start of the run.
    pub seconds: Option<f64>,
    /// Mean PSNR of the evaluation views to stop at, dB.
    pub until_psnr: Option<f64>,
    /// Views to train on; all if `None`.
    pub train_views: Option<Selection>,
    /// Views to evaluate. If `None`, all, but at most 25 on a software adapter.
    pub eval_views: Option<Selection>,
    /// Factor to shrink the images by.
    pub downscale: Option<u32>,
    /// Whether to rotate images by their EXIF orientation.
    pub apply_orientation: bool,
    /// Whether the alpha of the images is a mask instead of transparency.
    pub alpha_mask: bool,
    /// Seconds of training between checkpoints.
    pub checkpoint_every: f64,
    /// Whether to write event files for `TensorBoard`.
    pub tensorboard: bool,
    /// Whether to overwrite an existing run.
    pub overwrite: bool,
    /// Distillation before training on the images, if any.
    pub distill: Option<DistillOptions>,
    /// Command line that repeats this, for the run's log and report; empty if there is none.
    pub command: String,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            dataset: None,
            config: ConfigOptions::default(),
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
            alpha_mask: false,
            checkpoint_every: 60.0,
            tensorboard: false,
            overwrite: false,
            distill: None,
            command: String::new(),
        }
    }
}

impl FitOptions {
    /// Return options that train on `dataset`, with defaults for everything else.
    #[must_use]
    pub fn new(dataset: impl Into<PathBuf>) -> Self {
        Self {
            dataset: Some(dataset.into()),
            ..Self::default()
        }
    }

    /// Return options that resume `run`, which was started with these options, with the same limits.
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

    /// Check the values of the options. [`Fit::open`] does so too; this needs no device.
    ///
    /// # Errors
    /// [`Error::Usage`] if a value is out of range, or no dataset, run or teacher is named.
    pub fn check(&self) -> Result<()> {
        check::positive("--seconds", self.seconds)?;
        check::positive("--until-psnr", self.until_psnr)?;
        check::positive("--checkpoint-every", Some(self.checkpoint_every))?;
        check::in_range("--downscale", self.downscale, &(1..=MAX_DOWNSCALE))?;
        let steps = self.distill.as_ref().and_then(|distill| distill.steps);
        check::in_range("--distill-steps", steps, &(1..=u32::MAX))?;
        let method = ("--method", self.config.method.is_some());
        let config = ("--config", self.config.file.is_some());
        let init = ("--init", self.init.is_some());
        check::at_most_one(&[method, config])?;
        check::excludes(
            ("--resume", self.resume.is_some()),
            &[
                method,
                config,
                init,
                ("--out", self.out.is_some()),
                ("--force", self.overwrite),
                ("a teacher", self.distill.is_some()),
            ],
        )?;
        check::excludes(("a teacher", self.distill.is_some()), &[init])?;
        if self.dataset.is_none() && self.resume.is_none() && self.distill.is_none() {
            return Err(Error::usage(
                "no DATASET given: name a folder of posed images, or give --resume RUN",
            ));
        }
        Ok(())
    }
}

/// Options of distillation.
#[derive(Debug, Clone)]
pub struct DistillOptions {
    /// Run to distil, trained with any method.
    pub teacher: PathBuf,
    /// Distillation steps; the configuration's if `None`.
    pub steps: Option<u32>,
    /// Runs whose PSNR is reported for comparison.
    pub compare: Vec<PathBuf>,
}

impl DistillOptions {
    /// Return options that distil `teacher`, with defaults for everything else.
    #[must_use]
    pub fn new(teacher: impl Into<PathBuf>) -> Self {
        Self {
            teacher: teacher.into(),
            steps: None,
            compare: Vec::new(),
        }
    }
}

/// Train, save and evaluate a run. Return the run directory, and the evaluation if there are views to evaluate.
///
/// # Errors
/// As [`Fit::open`] and [`Fit::run`].
pub fn fit(
    gpu: &Arc<Gpu>,
    options: &FitOptions,
    observer: &dyn Observer,
) -> Result<(RunDir, Option<EvalReport>)> {
    Fit::open(gpu, options, observer)?.run()
}

/// Distil a trained run into a student, then train the student on the images. Return the student's run directory, and the
/// evaluation if there are views to evaluate. `options.dataset` may be `None`: it is the teacher's then.
///
/// ```no_run
/// use kiln::gpu::{Gpu, GpuOptions};
/// use kiln::session::{DistillOptions, FitOptions, distill};
///
/// let gpu = Gpu::open(&GpuOptions::default())?;
/// distill(&gpu, DistillOptions::new("runs/lego-ngp"), FitOptions::default(), &())?;
/// # Ok::<(), kiln::session::Error>(())
/// ```
///
/// # Errors
/// As [`fit`].
pub fn distill(
    gpu: &Arc<Gpu>,
    distillation: DistillOptions,
    options: FitOptions,
    observer: &dyn Observer,
) -> Result<(RunDir, Option<EvalReport>)> {
    let options = FitOptions {
        distill: Some(distillation),
        ..options
    };
    fit(gpu, &options, observer)
}

/// Default limits: steps on a GPU, seconds on a software adapter.
const DEFAULT_STEPS: u32 = 20_000;
const DEFAULT_SECONDS: f64 = 300.0;
/// Default number of steps of a run that is initialised from another, as in Tancik et al. 2021.
const INIT_STEPS: u32 = 1000;
/// Shortest interval between previews of a held-out view, in seconds of training.
const PREVIEW_EVERY: f64 = 10.0;

/// The limits in `options`, or the defaults for `gpu`.
fn limits(options: &FitOptions, gpu: &Gpu) -> Limits {
    let software = gpu.class() == AdapterClass::Software;
    // An initialised run converges quickly.
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

/// Add to an error about non-finite values which state of the run is left.
pub(super) fn diverged(error: Error, dir: &RunDir) -> Error {
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
            "{error}; {} holds the last good state",
            checkpoint.display()
        ))
    } else {
        Error::failed(format!(
            "{error} and --force; nothing had been saved in {}",
            dir.path().display()
        ))
    }
}
