//! What every training has: a trainer, a renderer that shows what it learned, a log, limits, and what is due when.

use std::sync::Arc;
use std::time::Instant;

use super::journal::{Journal, Line, SCHEMA};
use super::limits::Limits;
use super::{Error, Observer, ObserverExt as _, Result, Scale, Task};
use crate::checkpoint::{self, CheckpointError, Source};
use crate::gpu::Gpu;
use crate::render::Renderer;
use crate::run::RunDir;
use crate::text::si;
use crate::train::{Progress, TrainEvent, Trainer};

/// Parts of the live progress.
const PARTS: f64 = 1000.0;

/// When a training looks at held-out views and saves, in seconds of training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// Between looks at held-out views, at least.
    pub(crate) look: f64,
    /// Between checkpoints.
    pub(crate) save: f64,
}

/// A training under way.
pub(crate) struct Training<'a> {
    pub(crate) observer: &'a dyn Observer,
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) dir: RunDir,
    pub(crate) trainer: Trainer,
    pub(crate) renderer: Renderer,
    pub(crate) log: Journal<'a>,
    pub(crate) limits: Limits,
    /// Steps that count as one towards the limits: the inner steps of an outer one, else 1.
    inner_steps: u32,
    intervals: Intervals,
    next_look: f64,
    next_save: f64,
    task: Option<Box<dyn Task + Sync>>,
    pub(crate) events: Vec<TrainEvent>,
    /// What the trainer reported last.
    pub(crate) latest: Option<Progress>,
    /// PSNR of the held-out views when they were last looked at, dB.
    pub(crate) held_out_psnr: Option<f64>,
}

impl<'a> Training<'a> {
    pub(crate) fn new(
        observer: &'a dyn Observer,
        gpu: &Arc<Gpu>,
        dir: &RunDir,
        (trainer, renderer): (Trainer, Renderer),
        log: Journal<'a>,
        limits: Limits,
        inner_steps: u32,
        intervals: Intervals,
    ) -> Self {
        let start = trainer.seconds();
        Self {
            observer,
            gpu: Arc::clone(gpu),
            dir: dir.clone(),
            trainer,
            renderer,
            log,
            limits,
            inner_steps,
            intervals,
            next_look: start + intervals.look,
            next_save: start + intervals.save,
            task: None,
            events: Vec::new(),
            latest: None,
            held_out_psnr: None,
        }
    }

    /// Show progress from here on.
    pub(crate) fn show(&mut self) {
        self.task = Some(self.observer.task("starting", Scale::Live(PARTS as u64)));
    }

    /// Show no progress any more.
    pub(crate) fn hide(&mut self) {
        self.task = None;
    }

    /// Steps submitted, or outer steps.
    pub(crate) fn step(&self) -> u32 {
        self.trainer.step() / self.inner_steps
    }

    /// Whether the steps or the seconds of the limits are reached.
    pub(crate) fn is_over(&self) -> bool {
        self.step() >= self.limits.steps || self.trainer.seconds() >= self.limits.seconds
    }

    /// Finish the step under way, and report.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.trainer.pause(&mut self.events)?;
        self.report()
    }

    /// Pass on what the trainer says.
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

    /// The mean rates so far, to follow other words; nothing where nothing was reported.
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

    /// Whether a look or a checkpoint is due, or the end.
    pub(crate) fn is_due(&self) -> bool {
        let next = self.limits.seconds.min(self.next_look).min(self.next_save);
        self.trainer.seconds() >= next
    }

    /// Whether held-out views are to be looked at.
    pub(crate) fn look_is_due(&self) -> bool {
        self.trainer.seconds() >= self.next_look
    }

    /// They were looked at, which began at `started`: a tenth of the time at most goes into looking.
    pub(crate) fn looked(&mut self, started: Instant) {
        let took = started.elapsed().as_secs_f64();
        self.next_look = self.trainer.seconds() + self.intervals.look.max(10.0 * took);
    }

    /// Whether a checkpoint is due, which is then due again an interval later.
    pub(crate) fn take_save_due(&mut self) -> bool {
        let seconds = self.trainer.seconds();
        let is_due = seconds >= self.next_save;
        if is_due {
            self.next_save = seconds + self.intervals.save;
        }
        is_due
    }

    /// Save a checkpoint of a training on `source`.
    pub(crate) fn save(&self, source: &Source<'_>) -> Result<()> {
        let path = self.dir.checkpoint();
        checkpoint::save(&path, &self.gpu, &self.trainer, source)?;
        self.dir.forget_previous();
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

/// What came of saving, unless the disk is at fault, which is told: it may not be full for ever, and what was saved before is
/// still there.
pub(crate) fn go_on_without_disk(observer: &dyn Observer, saved: Result<()>) -> Result<()> {
    match saved {
        Err(Error::Checkpoint(error @ CheckpointError::Io { .. })) => {
            observer.warn(format!(
                "cannot save a checkpoint: {error}; training goes on, the one before is kept"
            ));
            Ok(())
        }
        outcome => outcome,
    }
}
