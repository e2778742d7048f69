//! The training loop of one run: previews of a held-out view, checkpoints, the end, and the notes in between.

mod preview;
mod stages;
#[cfg(feature = "viewer")]
mod window;

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use preview::Preview;
use rayon::prelude::*;

use super::setup::{self, Setup};
use super::{FitOptions, PREVIEW_EVERY, diverged, teacher};
use crate::checkpoint::{Checkpoint, DataSource};
use crate::dataset::duplicate_images::Thumbnail;
use crate::dataset::{Frame, Split};
use crate::distillation::Extraction;
use crate::eval::EvalReport;
use crate::gpu::Gpu;
use crate::report::Example;
use crate::run::{Lock, Reservation, RunDir};
use crate::session::evaluate::{self, EvaluationPlan, EvaluationRequest, Limit};
use crate::session::run_log::{Plateau, SCHEMA};
use crate::session::training::{Intervals, Start, Training};
use crate::session::{Error, Observer, ObserverExt, Result, data, resolve};
use crate::text::counted;
use crate::train::{Progress, StepStatus};

/// Result of [`Fit::advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitStatus {
    /// The device got new work, or a preview was rendered, or a checkpoint was saved.
    Worked,
    /// The device's queue is full: call again later, or call [`Fit::wait`].
    Busy,
    /// A limit is reached: call [`Fit::finish`] next.
    Done,
}

/// A training in progress. Call [`Self::advance`] until it returns [`FitStatus::Done`], then [`Self::finish`]; [`Self::run`] does
/// both. It stays on the thread that opened it.
pub struct Fit<'a> {
    observer: &'a dyn Observer,
    #[cfg(feature = "viewer")]
    options: FitOptions,
    setup: Setup,
    training: Training<'a>,
    /// Views to evaluate, at most.
    eval_frames: Vec<Frame>,
    /// Whether the user chose them.
    has_chosen_views: bool,
    /// What is evaluated, once that is decided.
    eval_plan: Option<EvaluationPlan>,
    /// Views that choose between the distilled and the fine-tuned field, and their kind; none without a distillation.
    selection_views: Vec<Frame>,
    selection_kind: &'static str,
    /// The distilled field, once it has turned out to be better than the fine-tuned one.
    kept_stage: Option<Checkpoint>,
    held_out: Split,
    /// Thumbnails of the training images, until the first evaluation has compared the held-out images with them.
    trained_on: Vec<Thumbnail>,
    plateau: Plateau,
    /// Stages of a distillation that are in the log, each with its run (empty for this run).
    reported_stages: Vec<(String, String)>,
    preview: Option<Preview>,
    has_begun: bool,
    is_over: bool,
    // Dropped last: they release the run directory.
    _lock: Option<Lock>,
    _reservation: Reservation,
    _listening: Box<dyn Any>,
}

impl std::fmt::Debug for Fit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fit")
            .field("run", &self.setup.dir)
            .field("step", &self.training.trainer.step())
            .finish_non_exhaustive()
    }
}

impl<'a> Fit<'a> {
    /// Open the dataset and the run that `options` name, upload the images and compile the shaders.
    ///
    /// # Errors
    /// [`Error`] if the options contradict each other, the dataset or the run cannot be used, or the device fails;
    /// [`Error::Cancelled`] if the observer cancels.
    pub fn open(gpu: &Arc<Gpu>, options: &FitOptions, observer: &'a dyn Observer) -> Result<Self> {
        options.check()?;
        let limits = super::limits(options, gpu);
        let mut setup = match &options.resume {
            Some(run) => setup::resume(observer, options, gpu, run)?,
            None => setup::begin(observer, options, gpu)?,
        };
        if !setup.train_views.is_empty() {
            setup
                .dataset
                .restrict_train(&setup.train_views)
                .map_err(|e| Error::usage(format!("--train-views: {e}")))?;
            observer.note(format!(
                "training on {} of the dataset's views; {} are held out",
                setup.dataset.train.len(),
                setup.dataset.test.len()
            ));
        }
        let held_out = if setup.dataset.test.is_empty() {
            Split::Train
        } else {
            Split::Test
        };
        let eval_frames = data::select_eval_frames(
            gpu,
            setup.dataset.frames(held_out),
            options.eval_views.as_ref(),
        )?;
        resolve::check(observer, &setup.dataset, &setup.dataset_path, &setup.config)?;
        if setup.teacher.as_ref().is_none_or(|t| !t.is_new) {
            setup::announce(observer, gpu, &setup, limits)?;
        }
        let listening = observer.listen_for_cancel();
        let reservation = setup.dir.reserve()?;
        let lock = setup.dir.lock()?;

        let started = Instant::now();
        let (mut images, contents) = data::load(
            observer,
            &setup.dataset.train,
            setup.dataset.downscale,
            "loading images",
        )?;
        let is_copied = setup::fingerprint_images(observer, &mut setup, &contents)?;
        let trained_on = if is_copied || setup.dataset.test.is_empty() {
            Vec::new()
        } else {
            images.par_iter().map(Thumbnail::of).collect()
        };
        let (selection_views, selection_kind) =
            setup::take_selection_views(observer, &mut setup, &mut images);
        let set = setup::upload(observer, gpu, &setup, &images)?;
        drop(images);
        observer.check()?;
        let loading = started.elapsed().as_secs_f64();

        let new_teacher = setup.teacher.as_ref().filter(|t| t.is_new);
        let found: Option<Extraction> = new_teacher
            .map(|teaching| {
                teacher::extract_grid(observer, gpu, &setup.config, &teaching.teacher, &set)
            })
            .transpose()?;
        if let Some(found) = &found {
            // The number of networks decides the batch size.
            if let Some(mut config) = setup.unresolved.take() {
                config.passes[0].field.cells = Some(found.cells.clone());
                setup.config = config.resolve(setup.dataset.hints(), gpu.class());
            }
            setup::announce(observer, gpu, &setup, limits)?;
        }
        let (checkpoint, init) = (&setup.checkpoint, &setup.init);
        let start = Start {
            dir: &setup.dir,
            config: &setup.config,
            images: &set,
            teacher: setup.teacher.as_ref().map(|t| &t.teacher),
            dataset: (
                &setup.dataset_path,
                &setup.dataset.name,
                setup.opening.downscale,
            ),
            command: &options.command,
            resumed: setup.checkpoint.as_ref().map(|c| c.info.step),
            tensorboard: options.tensorboard,
            limits,
            intervals: Intervals {
                preview: PREVIEW_EVERY,
                save: options.checkpoint_every,
            },
            load_seconds: loading,
        };
        let training = Training::start(observer, gpu, &start, |trainer| {
            if let Some(checkpoint) = checkpoint {
                checkpoint.restore(gpu, trainer)?;
            } else if let Some(init) = init {
                trainer.reset(None)?;
                init.initialise(gpu, trainer)?;
            } else if let Some(found) = &found {
                trainer.apply_extraction(found);
            }
            Ok(())
        })?;
        let mut fit = Self {
            observer,
            #[cfg(feature = "viewer")]
            options: options.clone(),
            training,
            eval_frames,
            has_chosen_views: options.eval_views.is_some(),
            eval_plan: None,
            selection_views,
            selection_kind,
            kept_stage: None,
            held_out,
            trained_on,
            plateau: Plateau::default(),
            reported_stages: setup.dir.logged_stages(),
            preview: None,
            has_begun: false,
            is_over: false,
            setup,
            _lock: lock,
            _reservation: reservation,
            _listening: listening,
        };
        fit.report_compared()?;
        Ok(fit)
    }

    /// Train to the limits, save and evaluate. Return the run directory, and the evaluation if there are views to evaluate.
    ///
    /// # Errors
    /// As [`Self::advance`] and [`Self::finish`].
    pub fn run(mut self) -> Result<(RunDir, Option<EvalReport>)> {
        loop {
            match self.advance(u32::MAX)? {
                FitStatus::Worked => {}
                FitStatus::Busy => self.wait()?,
                FitStatus::Done => break,
            }
        }
        let report = self.finish()?;
        Ok((self.setup.dir.clone(), report))
    }

    /// Prepare the loop: load the preview's image and check the limits. Return whether there is nothing to train.
    fn begin(&mut self) -> Result<bool> {
        self.training.show();
        self.preview = self.load_preview()?;
        // A resumed run may have reached the limits already.
        let done = self.setup.checkpoint.is_some()
            && (self.training.is_over() || self.is_good_enough()?);
        if done {
            self.training.note_nothing_to_train();
        }
        Ok(done)
    }

    /// Submit at most one batch of work, none beyond step `until_step`, and do what is due after it: render the preview, save a
    /// checkpoint. Once a limit is reached or the run is finished, do nothing.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once the observer cancels, with a checkpoint saved; another [`Error`] if training diverges, the
    /// device fails, an image cannot be read, or the observer cannot write a record. A checkpoint or log that cannot be written
    /// only causes a warning.
    pub fn advance(&mut self, until_step: u32) -> Result<FitStatus> {
        if !self.has_begun {
            self.is_over = self.begin()?;
            self.has_begun = true;
        }
        if self.is_over {
            return Ok(FitStatus::Done);
        }
        let outcome = self.train_batch(until_step);
        let outcome = outcome.map_err(|error| diverged(error, &self.setup.dir))?;
        self.is_over = outcome == FitStatus::Done;
        Ok(outcome)
    }

    fn train_batch(&mut self, until_step: u32) -> Result<FitStatus> {
        self.report_distilled()?;
        let distillation_steps = self.setup.config.distillation_steps();
        let is_distilling = self.training.trainer.step() < distillation_steps;
        let until = if is_distilling {
            distillation_steps.min(self.training.limits.steps)
        } else {
            self.training.limits.steps
        };
        let outcome = self
            .training
            .trainer
            .advance(until.min(until_step), &mut self.training.events)?;
        self.training.report()?;
        if self.observer.is_cancelled() {
            return Err(self.interrupted());
        }
        let seconds = self.training.trainer.seconds();
        self.report_distilled()?;
        let reached = self.training.trainer.step() >= self.training.limits.steps
            && outcome == StepStatus::Reached;
        if reached || seconds >= self.training.limits.seconds {
            return Ok(FitStatus::Done);
        }
        if self.training.preview_is_due() {
            self.pause()?;
            let started = Instant::now();
            if let Some(psnr) = self.render_preview()? {
                self.training.held_out_psnr = Some(psnr);
                self.report_plateau(seconds, psnr)?;
            }
            let done = match self.is_good_enough() {
                Err(error) if error.is_cancelled() => {
                    return Err(self.interrupted());
                }
                is_good => is_good?,
            };
            self.training.schedule_preview(started);
            if done {
                return Ok(FitStatus::Done);
            }
        }
        if self.training.take_save_due() {
            self.pause()?;
            self.save_or_warn()?;
        }
        Ok(match outcome {
            StepStatus::Busy => FitStatus::Busy,
            StepStatus::Submitted | StepStatus::Reached => FitStatus::Worked,
        })
    }

    /// Finish the step under way.
    ///
    /// # Errors
    /// [`Error`] if the device fails, training diverges, or the observer cannot write a record.
    pub fn pause(&mut self) -> Result<()> {
        let paused = self.training.pause();
        paused.map_err(|error| diverged(error, &self.setup.dir))
    }

    /// Save a checkpoint and evaluate the run. Return the evaluation, or `None` if there are no views to evaluate.
    ///
    /// # Errors
    /// [`Error::Failed`] if the checkpoint cannot be saved (the evaluation runs all the same), [`Error::Cancelled`] if the
    /// observer cancels the evaluation, another [`Error`] if the device fails or a file cannot be written.
    pub fn finish(&mut self) -> Result<Option<EvalReport>> {
        self.is_over = true;
        self.pause()?;
        self.training.hide();
        let distillation_steps = self.setup.config.distillation_steps();
        if self.training.trainer.step() < distillation_steps {
            self.observer.note(format!(
                "distillation is not finished: {} of {distillation_steps} distillation steps are done, and no fine-tuning step on \
                 images; to continue: kiln train --resume {} --seconds N",
                self.training.trainer.step(),
                self.setup.dir.path().display()
            ));
        }
        // Evaluate even if the checkpoint cannot be saved.
        let saved = self.save();
        let report = self.evaluate_and_report();
        if let Err(error) = saved {
            return Err(self.training.not_saved(&error, "train"));
        }
        report
    }

    /// Save a checkpoint and return the error that says how to continue.
    fn interrupted(&mut self) -> Error {
        self.training.note_stopping();
        match self.pause().and_then(|()| self.save()) {
            Ok(()) => self.saved_interruption(),
            Err(error) => error,
        }
    }

    /// Return the error of an interruption after which the checkpoint was saved; it says how to continue.
    #[must_use]
    pub fn saved_interruption(&self) -> Error {
        Error::Cancelled(format!(
            " at step {}, checkpoint saved; to continue: kiln train --resume {}",
            self.training.trainer.step(),
            self.setup.dir.path().display()
        ))
    }

    /// Evaluate the run if `--until-psnr` is given, and return whether it is reached.
    fn is_good_enough(&mut self) -> Result<bool> {
        Ok(self.training.limits.psnr.is_finite()
            && self.evaluate()?.0.psnr >= self.training.limits.psnr)
    }

    fn evaluate(&mut self) -> Result<(EvalReport, Vec<Example>)> {
        self.training
            .trainer
            .export_ema(&self.training.renderer.parameters)?;
        let trainer = &self.training.trainer;
        self.evaluate_renderer((trainer.step(), trainer.seconds()))
    }

    /// Evaluate the field in the renderer, which was trained for these steps and seconds.
    fn evaluate_renderer(
        &mut self,
        (steps, train_seconds): (u32, f64),
    ) -> Result<(EvalReport, Vec<Example>)> {
        let plan = self.evaluation_plan()?;
        let request = EvaluationRequest {
            plan: &plan,
            split: self.held_out,
            steps,
            train_seconds,
            save_to: None,
            dataset: &self.setup.dataset,
            lpips: None,
            // Held-out images are compared with the training images only once.
            trained_on: &std::mem::take(&mut self.trained_on),
        };
        evaluate::evaluate_views(
            self.observer,
            &self.training.gpu,
            &mut self.training.renderer,
            &request,
        )
    }

    /// Return the plan of all evaluations of this training, so that they are of the same pixels.
    fn evaluation_plan(&mut self) -> Result<EvaluationPlan> {
        if let Some(plan) = &self.eval_plan {
            return Ok(plan.clone());
        }
        let training = &mut self.training;
        let seconds = Some(training.limits.seconds).filter(|s| s.is_finite());
        let limit = if self.has_chosen_views {
            Limit::None
        } else {
            Limit::Training(seconds.unwrap_or(training.trainer.seconds()))
        };
        let frames = (&*self.eval_frames, self.setup.dataset.downscale);
        let all = self.setup.dataset.frames(self.held_out).len();
        let plan = EvaluationPlan::new(self.observer, &mut training.renderer, frames, limit, all)?;
        Ok(self.eval_plan.insert(plan).clone())
    }

    fn save(&self) -> Result<()> {
        self.training.save(&DataSource {
            dataset: &data::absolute(&self.setup.dataset_path),
            opening: self.setup.opening,
            train_views: &self.setup.train_views,
            fingerprint: &self.setup.fingerprint,
            image_fingerprint: &self.setup.image_fingerprint,
            held_out_fingerprint: &self.setup.held_out_fingerprint,
        })
    }

    fn save_or_warn(&self) -> Result<()> {
        self.training.warn_if_unwritable(self.save())
    }

    /// Evaluate the run and write the results.
    fn evaluate_and_report(&mut self) -> Result<Option<EvalReport>> {
        let latest = self.training.latest;
        let (steps, seconds) = (
            self.training.trainer.step(),
            self.training.trainer.seconds(),
        );
        let rate = self.training.rates();
        self.observer.note(format!(
            "trained {} in {seconds:.1} s{rate}",
            counted(steps, "step")
        ));
        if let Some(p) = latest.filter(|p| p.saturated > 0.0) {
            self.observer.warn(format!(
                "{} hash-table gradients came close to the limit of their fixed-point range",
                p.saturated
            ));
        }
        if latest.is_some_and(|p| p.samples == 0.0) {
            self.observer.warn("no samples were evaluated in the last steps: the occupancy grid is empty, and so is the trained scene",
            );
        }
        if self.eval_frames.is_empty() {
            self.observer.note("no views to evaluate");
            return Ok(None);
        }
        let started = Instant::now();
        let distillation_steps = self.setup.config.distillation_steps();
        let (mut report, mut examples) = self.evaluate()?;
        if distillation_steps > 0 && steps > distillation_steps {
            self.report_stage("fine-tuned", "", &report)?;
            match self.choose_stage() {
                Ok(Some(stage)) => {
                    self.load_stage(&stage)?;
                    let trained = (stage.info.step, stage.info.train_seconds);
                    (report, examples) = self.evaluate_renderer(trained)?;
                    self.kept_stage = Some(stage);
                }
                Ok(None) => {}
                // The evaluation of the fine-tuned field is not lost.
                Err(error) => self.observer.warn(format!(
                    "the fine-tuned field was not compared with the distilled one: {error}"
                )),
            }
        }
        self.training.log.append(&serde_json::json!({
            "schema": SCHEMA, "event": "eval", "step": report.steps, "seconds": report.train_seconds, "split": report.split,
            "psnr": report.psnr, "ssim": report.ssim, "evaluate_seconds": started.elapsed().as_secs_f64(),
        }));
        let mut scalars = vec![("test/psnr", report.psnr)];
        scalars.extend(report.ssim.map(|s| ("test/ssim", s)));
        self.training.log.scalars(report.steps, &scalars);
        let dir = &self.setup.dir;
        evaluate::write_evaluation(self.observer, dir, &self.setup.config, &report, &examples)?;
        self.observer.result(evaluate::describe(&report))?;
        self.observer
            .result(format!("run: {}", dir.path().display()))?;
        let mut line = serde_json::to_value(&report)?;
        line["event"] = "eval".into();
        self.observer.json(&line)?;
        Ok(Some(report))
    }
}

/// Progress of a training.
#[derive(Debug, Clone, Copy)]
pub struct FitProgress {
    /// Steps submitted.
    pub step: u32,
    /// Training time, in seconds.
    pub seconds: f64,
    /// The trainer's last report, if any.
    pub latest: Option<Progress>,
    /// PSNR of the last preview of the held-out view, dB.
    pub held_out: Option<f64>,
    /// Fraction that is done, in [0, 1].
    pub fraction: f64,
    /// Estimated time left, in seconds.
    pub left: f64,
}

impl Fit<'_> {
    /// Block until the device can take more work.
    ///
    /// # Errors
    /// [`Error`] if the device fails.
    pub fn wait(&mut self) -> Result<()> {
        Ok(self.training.trainer.wait()?)
    }

    /// Progress so far.
    #[must_use]
    pub fn progress(&self) -> FitProgress {
        let (step, seconds) = (
            self.training.trainer.step(),
            self.training.trainer.seconds(),
        );
        let (fraction, left) = self.training.limits.progress(step, seconds);
        FitProgress {
            step,
            seconds,
            latest: self.training.latest,
            held_out: self.training.held_out_psnr,
            fraction,
            left,
        }
    }

    /// The run's directory.
    #[must_use]
    pub fn dir(&self) -> &RunDir {
        &self.setup.dir
    }
}
