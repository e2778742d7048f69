//! The state shared by all kinds of training: trainer, renderer, log, limits, and the schedule of previews and checkpoints.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::limits::Limits;
use super::run_log::{self, Line, RunLog, SCHEMA};
use super::{Error, Observer, ObserverExt as _, Result, Scale, Task};
use crate::checkpoint::{self, CheckpointError, DataSource};
use crate::config::{Config, ResolvedConfig};
use crate::distillation::Teacher;
use crate::gpu::{AdapterClass, Gpu};
use crate::images::ImageSet;
use crate::render::Renderer;
use crate::report::duration;
use crate::run::RunDir;
use crate::text::si;
use crate::train::{Progress, TrainEvent, Trainer};

/// Units of the progress bar.
const PARTS: f64 = 1000.0;

/// Seconds of training after which the time left is estimated.
const MEASURED_SECONDS: f64 = 5.0;
/// Trainings that take longer than this many seconds are announced.
const LONG_SECONDS: f64 = 1800.0;
/// Fewer steps than these give no clear picture.
const FEW_STEPS: u32 = 200;
/// Latest step of the first report of a training that is not resumed.
const FIRST_REPORT: u32 = 64;

/// Intervals between previews and between checkpoints, in seconds of training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// Shortest interval between previews of held-out views.
    pub(crate) preview: f64,
    /// Interval between checkpoints.
    pub(crate) save: f64,
}

/// What a training starts from.
pub(crate) struct Start<'s> {
    /// Run directory.
    pub(crate) dir: &'s RunDir,
    pub(crate) config: &'s ResolvedConfig,
    pub(crate) images: &'s ImageSet,
    pub(crate) teacher: Option<&'s Teacher>,
    /// Path, name and downscaling factor of the dataset.
    pub(crate) dataset: (&'s Path, &'s str, u32),
    /// Command line, for the log.
    pub(crate) command: &'s str,
    /// Step of the resumed run.
    pub(crate) resumed: Option<u32>,
    /// Whether to write event files.
    pub(crate) tensorboard: bool,
    pub(crate) limits: Limits,
    pub(crate) intervals: Intervals,
    /// Seconds that loading the images took.
    pub(crate) load_seconds: f64,
}

/// A training in progress.
pub(crate) struct Training<'a> {
    pub(crate) observer: &'a dyn Observer,
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) dir: RunDir,
    pub(crate) trainer: Trainer,
    pub(crate) renderer: Renderer,
    pub(crate) log: RunLog<'a>,
    pub(crate) limits: Limits,
    /// Trainer steps that count as one step of the limits: the inner steps per outer step, or 1.
    inner_steps: u32,
    intervals: Intervals,
    next_preview: f64,
    next_save: f64,
    task: Option<Box<dyn Task + Sync>>,
    pub(crate) events: Vec<TrainEvent>,
    /// The trainer's last report.
    pub(crate) latest: Option<Progress>,
    /// PSNR of the last preview of the held-out views, dB.
    pub(crate) held_out_psnr: Option<f64>,
    /// Step and seconds of the first report in this session, until the time left has been estimated.
    first_report: Option<(u32, f64)>,
    has_estimated: bool,
}

impl<'a> Training<'a> {
    /// Make a trainer and a renderer, let `set_parameters` load parameters, compile all shaders, and begin the log.
    pub(crate) fn start(
        observer: &'a dyn Observer,
        gpu: &Arc<Gpu>,
        start: &Start<'_>,
        set_parameters: impl FnOnce(&mut Trainer) -> Result<()>,
    ) -> Result<Self> {
        let Start {
            dir,
            config,
            images,
            limits,
            intervals,
            load_seconds,
            ..
        } = *start;
        let compiling = Instant::now();
        let spinner = observer.task("compiling shaders", Scale::Unknown);
        let mut trainer = Trainer::new(gpu, config, images, start.teacher)?;
        trainer.warm_up(images)?;
        set_parameters(&mut trainer)?;
        let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
        let renderer = Renderer::new(gpu, config, bits)?;
        drop(spinner);
        observer.check()?;
        let compile_seconds = compiling.elapsed().as_secs_f64();
        observer.note(format!(
            "loaded in {load_seconds:.1} s, shaders compiled in {compile_seconds:.1} s"
        ));

        let mut log = RunLog::begin(observer, dir, config, start.resumed, start.tensorboard)?;
        let (dataset, name, downscale) = start.dataset;
        log.write(&run_log::Start {
            schema: SCHEMA,
            event: "start",
            step: trainer.step(),
            seconds: trainer.seconds(),
            command: start.command.to_owned(),
            dataset: dataset.display().to_string(),
            dataset_name: name.to_owned(),
            downscale,
            device: gpu.name().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            load_seconds,
            compile_seconds,
        })?;
        let seconds = trainer.seconds();
        let inner_steps = config.meta.as_ref().map_or(1, |meta| meta.inner_steps);
        Ok(Self {
            observer,
            gpu: Arc::clone(gpu),
            dir: dir.clone(),
            trainer,
            renderer,
            log,
            limits,
            inner_steps,
            intervals,
            next_preview: seconds + intervals.preview,
            next_save: seconds + intervals.save,
            task: None,
            events: Vec::new(),
            latest: None,
            held_out_psnr: None,
            first_report: None,
            has_estimated: false,
        })
    }

    /// Note that the resumed run has already reached its limits.
    pub(crate) fn note_nothing_to_train(&self) {
        self.observer.note(format!(
            "nothing to train: the run has already reached {}; limits count from the start of the run, so give larger ones to \
             continue",
            self.limits.describe()
        ));
    }

    /// Note that the observer has cancelled, before the last checkpoint is saved.
    pub(crate) fn note_stopping(&mut self) {
        self.hide();
        self.observer
            .note("stopping: saving a checkpoint (press Ctrl-C again to quit without saving)");
    }

    /// Return the error for a last checkpoint that could not be saved. `command` resumes the run.
    pub(crate) fn not_saved(&self, error: &Error, command: &str) -> Error {
        Error::failed(format!(
            "{error}; fix that, then continue from the previous checkpoint, if there is one: kiln {command} --resume {}",
            self.dir.path().display()
        ))
    }

    /// Start showing progress.
    pub(crate) fn show(&mut self) {
        self.task = Some(
            self.observer
                .task("starting", Scale::Fraction(PARTS as u64)),
        );
    }

    /// Stop showing progress.
    pub(crate) fn hide(&mut self) {
        self.task = None;
    }

    /// Number of steps submitted; outer steps in meta-learning.
    pub(crate) fn step(&self) -> u32 {
        self.trainer.step() / self.inner_steps
    }

    /// Whether the limit of steps or of seconds is reached.
    pub(crate) fn is_over(&self) -> bool {
        self.step() >= self.limits.steps || self.trainer.seconds() >= self.limits.seconds
    }

    /// Finish the current step and report.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.trainer.pause(&mut self.events)?;
        self.report()
    }

    /// Pass the trainer's events to the log and the observer.
    pub(crate) fn report(&mut self) -> Result<()> {
        for event in std::mem::take(&mut self.events) {
            let TrainEvent::Progress(progress) = event;
            self.log.write(&Line {
                schema: SCHEMA,
                event: "progress",
                value: progress,
            })?;
            let mut scalars = vec![
                ("train/loss", progress.loss),
                ("train/psnr", progress.train_psnr),
            ];
            if let Some(inner) = progress.inner {
                scalars.push(("inner/first_psnr", inner.first_psnr));
                scalars.push(("inner/last_psnr", inner.last_psnr));
            } else {
                scalars.push(("train/learning_rate", progress.learning_rate));
                scalars.push(("train/rays_per_step", progress.rays));
                scalars.push(("train/samples_per_step", progress.samples));
            }
            let scalars: Vec<_> = scalars.iter().map(|&(n, v)| (n, f64::from(v))).collect();
            self.log.scalars(progress.step, &scalars);
            self.observer.progress(&progress);
            self.latest = Some(progress);
            self.estimate(&progress);
            self.describe(&progress);
        }
        Ok(())
    }

    /// Once the speed is known, say so if the limit of steps is hours away, or the limit of seconds only a few steps.
    fn estimate(&mut self, p: &Progress) {
        let (first, since) = *self.first_report.get_or_insert((p.step, p.seconds));
        let elapsed = p.seconds - since;
        if self.has_estimated || elapsed < MEASURED_SECONDS || p.step == first {
            return;
        }
        self.has_estimated = true;
        let rate = f64::from(p.step - first) / elapsed / f64::from(self.inner_steps);
        let by_steps = f64::from(self.limits.steps.saturating_sub(self.step())) / rate;
        let by_seconds = self.limits.seconds - p.seconds;
        let twin = Config::small_twin(&self.renderer.config().method)
            .filter(|_| self.gpu.class() == AdapterClass::Software)
            .map_or_else(String::new, |twin| {
                format!("; --method {twin} is sized for it")
            });
        if by_steps.min(by_seconds) > LONG_SECONDS {
            self.observer.note(format!(
                "at {rate:.2} steps/s this will take about {}: Ctrl-C saves and stops, --seconds limits it{twin}",
                duration(by_steps.min(by_seconds))
            ));
        } else if first <= FIRST_REPORT
            && by_seconds < by_steps
            && by_seconds * rate < f64::from(FEW_STEPS)
        {
            self.observer.warn(format!(
                "at {rate:.2} steps/s only about {:.0} steps fit into the time, too few for a clear picture{twin}",
                f64::from(self.step()) + by_seconds * rate
            ));
        }
    }

    fn describe(&self, p: &Progress) {
        let Some(task) = &self.task else { return };
        let step = p.step / self.inner_steps;
        let rate = f64::from(p.step) / p.seconds.max(1e-9);
        let (fraction, left) = self.limits.progress(step, p.seconds);
        let (unit, quality) = match p.inner {
            Some(i) => (
                "outer step",
                format!("inner steps {:.2} to {:.2} dB", i.first_psnr, i.last_psnr),
            ),
            None => ("step", format!("train {:.2} dB", p.train_psnr)),
        };
        let held_out = self
            .held_out_psnr
            .map(|v| format!(", held-out {v:.2} dB"))
            .unwrap_or_default();
        // The most important comes first, because narrow terminals show no more.
        task.describe(&format!(
            "{unit} {step}  {quality}{held_out}  {left:.0} s left  {:.1} {unit}s/s  {}samples/s  {}rays/s",
            rate / f64::from(self.inner_steps),
            si(f64::from(p.samples) * rate),
            si(f64::from(p.rays) * rate),
        ));
        task.set((fraction * PARTS) as u64);
    }

    /// The mean rates so far, as text that starts with a comma; empty before the first report.
    pub(crate) fn rates(&self) -> String {
        let rate = f64::from(self.trainer.step()) / self.trainer.seconds().max(1e-9);
        self.latest.map_or_else(String::new, |p| {
            format!(
                ", {}samples/s, {}rays/s",
                si(f64::from(p.samples) * rate),
                si(f64::from(p.rays) * rate)
            )
        })
    }

    /// Whether a preview, a checkpoint or the end is due.
    pub(crate) fn is_due(&self) -> bool {
        let next = self
            .limits
            .seconds
            .min(self.next_preview)
            .min(self.next_save);
        self.trainer.seconds() >= next
    }

    /// Whether a preview of held-out views is due.
    pub(crate) fn preview_is_due(&self) -> bool {
        self.trainer.seconds() >= self.next_preview
    }

    /// Schedule the next preview after one that began at `started`, so that previews take at most about a tenth of the time.
    pub(crate) fn schedule_preview(&mut self, started: Instant) {
        let took = started.elapsed().as_secs_f64();
        self.next_preview = self.trainer.seconds() + self.intervals.preview.max(10.0 * took);
    }

    /// Whether a checkpoint is due; if so, schedule the next one.
    pub(crate) fn take_save_due(&mut self) -> bool {
        let seconds = self.trainer.seconds();
        let is_due = seconds >= self.next_save;
        if is_due {
            self.next_save = seconds + self.intervals.save;
        }
        is_due
    }

    /// Return the result of saving, but only warn if the file cannot be written: the previous checkpoint is intact, and the disk
    /// may have room again later.
    pub(crate) fn warn_if_unwritable(&self, saved: Result<()>) -> Result<()> {
        match saved {
            Err(Error::Checkpoint(error @ CheckpointError::Io { .. })) => {
                self.observer.warn(format!(
                    "cannot save a checkpoint: {error}; training continues, and the previous checkpoint is kept"
                ));
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Save a checkpoint that names `source` as its dataset.
    pub(crate) fn save(&self, source: &DataSource<'_>) -> Result<()> {
        let path = self.dir.checkpoint();
        checkpoint::save(&path, &self.gpu, &self.trainer, source)?;
        self.dir.remove_previous();
        let unit = if self.inner_steps > 1 {
            "outer step"
        } else {
            "step"
        };
        self.observer.detail(format!(
            "saved {} at {unit} {}",
            path.display(),
            self.step()
        ));
        Ok(())
    }
}
