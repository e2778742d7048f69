//! The state shared by all kinds of training: trainer, renderer, log, limits, and the schedule of previews and checkpoints.

use std::sync::Arc;
use std::time::Instant;

use super::limits::Limits;
use super::run_log::{Line, RunLog, SCHEMA};
use super::{Error, Observer, ObserverExt as _, Result, Scale, Task};
use crate::checkpoint::{self, CheckpointError, Source};
use crate::config::ResolvedConfig;
use crate::distillation::Teacher;
use crate::gpu::Gpu;
use crate::images::ImageSet;
use crate::render::Renderer;
use crate::run::RunDir;
use crate::text::si;
use crate::train::{Progress, TrainEvent, Trainer};

/// Units of the progress bar.
const PARTS: f64 = 1000.0;

/// Intervals between previews and between checkpoints, in seconds of training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// Shortest interval between previews of held-out views.
    pub(crate) preview: f64,
    /// Interval between checkpoints.
    pub(crate) save: f64,
}

/// Make a trainer, with parameters as `set_parameters` leaves them, and a renderer of what it trains; all shaders are compiled.
/// Also return the seconds that took; `loading` is the time before, in seconds, for the note about both.
pub(crate) fn compile(
    observer: &dyn Observer,
    gpu: &Arc<Gpu>,
    config: &ResolvedConfig,
    images: &ImageSet,
    teacher: Option<&Teacher>,
    loading: f64,
    set_parameters: impl FnOnce(&mut Trainer) -> Result<()>,
) -> Result<(Trainer, Renderer, f64)> {
    let started = Instant::now();
    let spinner = observer.task("compiling shaders", Scale::Unknown);
    let mut trainer = Trainer::new(gpu, config, images, teacher)?;
    trainer.warm_up(images)?;
    set_parameters(&mut trainer)?;
    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let renderer = Renderer::new(gpu, config, bits)?;
    drop(spinner);
    observer.check()?;
    let compiling = started.elapsed().as_secs_f64();
    observer.note(format!(
        "loaded in {loading:.1} s, shaders compiled in {compiling:.1} s"
    ));
    Ok((trainer, renderer, compiling))
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
}

impl<'a> Training<'a> {
    pub(crate) fn new(
        observer: &'a dyn Observer,
        dir: &RunDir,
        trainer: Trainer,
        renderer: Renderer,
        log: RunLog<'a>,
        limits: Limits,
        intervals: Intervals,
    ) -> Self {
        let start = trainer.seconds();
        let meta = trainer.config().meta.as_ref();
        let inner_steps = meta.map_or(1, |meta| meta.inner_steps);
        Self {
            observer,
            gpu: Arc::clone(renderer.gpu()),
            dir: dir.clone(),
            trainer,
            renderer,
            log,
            limits,
            inner_steps,
            intervals,
            next_preview: start + intervals.preview,
            next_save: start + intervals.save,
            task: None,
            events: Vec::new(),
            latest: None,
            held_out_psnr: None,
        }
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
            self.describe(&progress);
        }
        Ok(())
    }

    fn describe(&self, p: &Progress) {
        let Some(task) = &self.task else { return };
        let step = p.step / self.inner_steps;
        let rate = f64::from(p.step) / p.seconds.max(1e-9);
        let (fraction, left) = self.limits.so_far(step, p.seconds);
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
        task.set((fraction * PARTS) as u64);
        task.describe(&format!(
            "{unit} {step}  {:.1} {unit}s/s  {}samples/s  {}rays/s  {quality}{held_out}  {left:.0} s left",
            rate / f64::from(self.inner_steps),
            si(f64::from(p.samples) * rate),
            si(f64::from(p.rays) * rate),
        ));
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

    /// Save a checkpoint that names `source` as its dataset.
    pub(crate) fn save(&self, source: &Source<'_>) -> Result<()> {
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

/// Return the result of saving, but turn an I/O error into a warning: the disk may have room again later, and the previous
/// checkpoint is intact.
pub(crate) fn warn_if_unwritable(observer: &dyn Observer, saved: Result<()>) -> Result<()> {
    match saved {
        Err(Error::Checkpoint(error @ CheckpointError::Io { .. })) => {
            observer.warn(format!(
                "cannot save a checkpoint: {error}; training continues, and the previous checkpoint is kept"
            ));
            Ok(())
        }
        outcome => outcome,
    }
}
