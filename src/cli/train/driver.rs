//! Training under way: looks at a held-out view, checkpoints, the end, and what is said meanwhile.

use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;

use super::super::Session;
use super::super::interrupt::{self, Interrupted};
use super::super::journal::{Journal, PLATEAU_DB, Plateau};
use super::super::output::{SCHEMA, short};
use super::super::scene::{self, Request};
use super::{Args, LOOK_EVERY, Limits, Setup};
use crate::checkpoint::{self, Checkpoint, CheckpointError, Source};
use crate::dataset::same_picture::Thumbnail;
use crate::dataset::{Frame, Image, Split};
use crate::eval::{EvalReport, evaluate_view};
use crate::gpu::{AdapterClass, Gpu};
use crate::render::Renderer;
use crate::report::Example;
use crate::run::RunDir;
use crate::text::{counted, counted_len};
#[cfg(feature = "viewer")]
use crate::train::TrainError;
use crate::train::{Advance, Progress, TrainEvent, Trainer};

/// How a session of training began, in metrics.jsonl.
#[derive(Serialize)]
pub(in crate::cli) struct Start {
    pub(in crate::cli) schema: u32,
    pub(in crate::cli) event: &'static str,
    pub(in crate::cli) step: u32,
    pub(in crate::cli) seconds: f64,
    pub(in crate::cli) command: String,
    pub(in crate::cli) dataset: String,
    pub(in crate::cli) dataset_name: String,
    pub(in crate::cli) downscale: u32,
    pub(in crate::cli) device: String,
    pub(in crate::cli) version: &'static str,
    pub(in crate::cli) load_seconds: f64,
    pub(in crate::cli) compile_seconds: f64,
}

/// The command as one would type it again.
pub(in crate::cli) fn command_line() -> String {
    let quoted = |argument: String| {
        let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
        if !argument.is_empty() && argument.chars().all(is_plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|a| quoted(a.to_string_lossy().into_owned()));
    std::iter::once("kiln".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What came of saving, unless the disk is at fault, which is told.
pub(in crate::cli) fn go_on_without_disk(
    session: &Session,
    bar: &ProgressBar,
    saved: anyhow::Result<()>,
) -> anyhow::Result<()> {
    match saved {
        Err(error) if matches!(error.downcast_ref(), Some(CheckpointError::Io { .. })) => {
            bar.suspend(|| {
                session.out.note(format!(
                    "warning: cannot save a checkpoint: {error}; training goes on, the one before is kept"
                ));
            });
            Ok(())
        }
        outcome => outcome,
    }
}

#[derive(Serialize)]
pub(in crate::cli) struct Line<'a, T> {
    pub(in crate::cli) schema: u32,
    pub(in crate::cli) event: &'a str,
    #[serde(flatten)]
    pub(in crate::cli) value: T,
}

/// What a turn of [`Driver::turn`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Turn {
    /// The device has new work, or something was looked at or saved.
    Went,
    /// The device has enough to do: come back, or wait with [`Trainer::wait`].
    Busy,
    /// A limit is reached.
    Done,
}

/// A held-out view, small enough to look at often.
struct Look {
    frame: Frame,
    image: Image,
    downscale: u32,
}

pub(in crate::cli) struct Driver<'a> {
    pub(super) session: &'a Session,
    pub(super) gpu: &'a Arc<Gpu>,
    pub(super) args: &'a Args,
    pub(super) setup: &'a Setup,
    pub(super) trainer: Trainer,
    pub(super) renderer: Renderer,
    pub(super) log: Journal<'a>,
    pub(super) eval_frames: Vec<Frame>,
    pub(super) held_out: Split,
    /// Training images in little, until held-out ones were looked for among them.
    trained_on: Vec<Thumbnail>,
    pub(super) limits: Limits,
    pub(super) plateau: Plateau,
    /// Stages of a distillation that are in the log, with the runs they are of.
    told: Vec<(String, String)>,
    look: Option<Look>,
    next_look: f64,
    next_save: f64,
    bar: ProgressBar,
    events: Vec<TrainEvent>,
    /// What the trainer last said.
    latest: Option<Progress>,
    /// PSNR of the held-out view when it was last looked at.
    last_psnr: Option<f64>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        session: &'a Session,
        gpu: &'a Arc<Gpu>,
        args: &'a Args,
        setup: &'a Setup,
        (trainer, renderer): (Trainer, Renderer),
        log: Journal<'a>,
        (eval_frames, held_out, trained_on): (Vec<Frame>, Split, Vec<Thumbnail>),
        limits: Limits,
    ) -> Self {
        let start = trainer.seconds();
        Self {
            session,
            gpu,
            args,
            setup,
            trainer,
            renderer,
            log,
            eval_frames,
            held_out,
            trained_on,
            limits,
            plateau: Plateau::default(),
            told: setup.dir.stages_told(),
            look: None,
            next_look: start + LOOK_EVERY,
            next_save: start + args.checkpoint_every,
            bar: ProgressBar::hidden(),
            events: Vec::new(),
            latest: None,
            last_psnr: None,
        }
    }

    /// Train to the limits, save and evaluate.
    pub(super) fn run(&mut self) -> anyhow::Result<Option<EvalReport>> {
        let mut done = !self.begin()?;
        while !done {
            match self.turn(u32::MAX)? {
                Turn::Went => {}
                Turn::Busy => self.trainer.wait()?,
                Turn::Done => done = true,
            }
        }
        self.end()
    }

    /// What comes before the first turn; whether there is anything to train.
    pub(in crate::cli) fn begin(&mut self) -> anyhow::Result<bool> {
        self.bar = self.session.out.live(1000, "starting");
        self.look = self.look_view()?;
        // A resumed run may be there already.
        let done = self.setup.checkpoint.is_some()
            && (self.trainer.step() >= self.limits.steps
                || self.trainer.seconds() >= self.limits.seconds
                || self.is_good_enough()?);
        if done {
            self.session.out.note(format!(
                "nothing to train: the run is past {} already, which count over its whole life; give more to go on",
                self.limits.describe()
            ));
        }
        Ok(!done)
    }

    /// One submission at most, of step `most` at the latest, and what is due after it: a look at the held-out view, a
    /// checkpoint.
    pub(in crate::cli) fn turn(&mut self, most: u32) -> anyhow::Result<Turn> {
        self.tell_of_lessons()?;
        let last_lesson = self.setup.config.lessons();
        let is_taught = self.trainer.step() < last_lesson;
        let until = if is_taught {
            last_lesson.min(self.limits.steps)
        } else {
            self.limits.steps
        };
        let outcome = self.trainer.advance(until.min(most), &mut self.events)?;
        self.hear()?;
        if interrupt::is_asked() {
            return Err(self.interrupted());
        }
        let seconds = self.trainer.seconds();
        self.tell_of_lessons()?;
        let reached = self.trainer.step() >= self.limits.steps && outcome == Advance::Reached;
        if reached || seconds >= self.limits.seconds {
            return Ok(Turn::Done);
        }
        if seconds >= self.next_look {
            self.pause()?;
            let started = Instant::now();
            if let Some(psnr) = self.look_at_view()? {
                self.last_psnr = Some(psnr);
                self.tell_plateau(seconds, psnr)?;
            }
            let done = match self.is_good_enough() {
                Err(error) if error.is::<Interrupted>() => {
                    return Err(self.interrupted());
                }
                is_good => is_good?,
            };
            // A tenth of the time at most goes into looking.
            self.next_look = seconds + LOOK_EVERY.max(10.0 * started.elapsed().as_secs_f64());
            if done {
                return Ok(Turn::Done);
            }
        }
        if seconds >= self.next_save {
            self.next_save = seconds + self.args.checkpoint_every;
            self.pause()?;
            self.save_or_go_on()?;
        }
        Ok(match outcome {
            Advance::Busy => Turn::Busy,
            Advance::Submitted | Advance::Reached => Turn::Went,
        })
    }

    /// Finish the step under way, and pass on what the trainer says.
    pub(in crate::cli) fn pause(&mut self) -> anyhow::Result<()> {
        self.trainer.pause(&mut self.events)?;
        self.hear()
    }

    /// What comes after the last turn: save, and evaluate.
    pub(in crate::cli) fn end(&mut self) -> anyhow::Result<Option<EvalReport>> {
        self.pause()?;
        self.bar.finish_and_clear();
        let last_lesson = self.setup.config.lessons();
        if self.trainer.step() < last_lesson {
            self.session.out.note(format!(
                "the teacher still teaches: {} of {last_lesson} lessons are done, and none of the steps on images; \
                 kiln train --resume {} --seconds N goes on",
                self.trainer.step(),
                self.setup.dir.path().display()
            ));
        }
        // What was learned can be measured even where it cannot be kept.
        let saved = self.save();
        let report = self.finish();
        if let Err(error) = saved {
            return Err(anyhow::anyhow!(
                "{error}; once that is mended, kiln train --resume {} goes on from the checkpoint before, if there is one",
                self.setup.dir.path().display()
            ));
        }
        report
    }

    /// How good the teacher is, and the runs to compare with, where that has not been told.
    pub(super) fn tell_of_others(&mut self) -> anyhow::Result<()> {
        let config = &self.setup.config;
        let Some(distillation) = config
            .distillation
            .as_ref()
            .filter(|_| config.lessons() > 0)
        else {
            return Ok(());
        };
        let compared = distillation.compare.iter().map(|run| ("compared", run));
        let all = std::iter::once(("teacher", &distillation.teacher)).chain(compared);
        for (stage, run) in all {
            if self.has_told(stage, run) {
                continue;
            }
            match self.report_of(std::path::Path::new(run)) {
                Ok(report) => self.tell_stage(stage, run, &report)?,
                Err(error) if error.is::<Interrupted>() => return Err(self.interrupted()),
                // They may be gone by the time that a run goes on.
                Err(error) if self.setup.checkpoint.is_some() => self.session.out.note(format!(
                    "warning: {run}: {error}; how good it is stays unknown"
                )),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether `stage` of `run` (none for the run's own) is in the log.
    fn has_told(&self, stage: &str, run: &str) -> bool {
        self.told.iter().any(|(s, r)| s == stage && r == run)
    }

    /// How good what the teacher taught is, once it has taught all and nothing has come after.
    fn tell_of_lessons(&mut self) -> anyhow::Result<()> {
        let lessons = self.setup.config.lessons();
        let due = lessons > 0 && self.trainer.step() == lessons;
        if !due || self.has_told("distilled", "") {
            return Ok(());
        }
        self.pause()?;
        // It is kept, whatever becomes of its evaluation.
        self.save_or_go_on()?;
        let bar = self.bar.clone();
        match bar.suspend(|| self.evaluate()) {
            Ok((report, _)) => self.tell_stage("distilled", "", &report),
            Err(error) if error.is::<Interrupted>() => Err(self.interrupted()),
            Err(error) => Err(error),
        }
    }

    /// What the last evaluation of `run` found, if that was of the same views, else what one finds now.
    fn report_of(&self, run: &std::path::Path) -> anyhow::Result<EvalReport> {
        let checkpoint = Checkpoint::open(run)?;
        let kept = std::fs::read(RunDir::of(run).eval()).ok();
        let kept = kept.and_then(|text| serde_json::from_slice::<EvalReport>(&text).ok());
        let background = &self.setup.config.scene.eval_background;
        let is_same = |report: &EvalReport| {
            let names = report.images.iter().map(|view| &view.name);
            names.eq(self.eval_frames.iter().map(|frame| &frame.name))
                && report.steps == checkpoint.info.step
                && report.downscale == self.setup.dataset.downscale
                && report.background == background.to_string()
        };
        if let Some(report) = kept.filter(is_same) {
            return Ok(report);
        }
        let (steps, train_seconds) = (checkpoint.info.step, checkpoint.info.train_seconds);
        let mut run = scene::look_at(self.gpu, checkpoint, Some(*background))?;
        let request = Request {
            frames: &self.eval_frames,
            split: self.held_out,
            steps,
            train_seconds,
            save_to: None,
            dataset: &self.setup.dataset,
            lpips: None,
            trained_on: &[],
        };
        Ok(scene::evaluate(self.session, self.gpu, &mut run.renderer, &request)?.0)
    }

    /// Keep and show how good a stage of a distillation is.
    fn tell_stage(&mut self, stage: &str, run: &str, report: &EvalReport) -> anyhow::Result<()> {
        let name = if run.is_empty() {
            stage.to_owned()
        } else {
            format!("{stage} {run}")
        };
        self.session.out.note(format!(
            "{name}: {} PSNR {:.2} dB over {}, after {} and {:.1} s",
            report.split,
            report.psnr,
            counted_len(report.views, "view"),
            counted(report.steps, "step"),
            report.train_seconds
        ));
        self.told.push((stage.to_owned(), run.to_owned()));
        self.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "stage", "stage": stage, "run": run, "method": report.method,
            "step": self.trainer.step(), "seconds": self.trainer.seconds(), "psnr": report.psnr, "ssim": report.ssim,
            "views": report.views, "of_steps": report.steps, "of_seconds": report.train_seconds,
        }))
    }

    /// Pass on what the trainer says.
    fn hear(&mut self) -> anyhow::Result<()> {
        for event in std::mem::take(&mut self.events) {
            let TrainEvent::Progress(progress) = event;
            self.log.write(&Line {
                schema: SCHEMA,
                event: "progress",
                value: progress,
            })?;
            self.log.scalars(
                progress.step,
                &[
                    ("train/loss", f64::from(progress.loss)),
                    ("train/psnr", f64::from(progress.train_psnr)),
                    ("train/learning_rate", f64::from(progress.learning_rate)),
                    ("train/rays_per_step", f64::from(progress.rays)),
                    ("train/samples_per_step", f64::from(progress.samples)),
                ],
            );
            self.latest = Some(progress);
            self.show(progress);
        }
        Ok(())
    }

    fn show(&self, p: Progress) {
        let rate = f64::from(p.step) / p.seconds.max(1e-9);
        let (fraction, eta) = self.limits.so_far(p.step, p.seconds);
        let held_out = self
            .last_psnr
            .map(|v| format!(", held-out {v:.2} dB"))
            .unwrap_or_default();
        self.bar.set_position((fraction * 1000.0) as u64);
        self.bar.set_message(format!(
            "step {}  {rate:.1} steps/s  {}samples/s  {}rays/s  train {:.2} dB{held_out}  {eta:.0} s left",
            p.step,
            short(f64::from(p.samples) * rate),
            short(f64::from(p.rays) * rate),
            p.train_psnr,
        ));
    }

    /// The view to look at.
    fn look_view(&self) -> anyhow::Result<Option<Look>> {
        let Some(frame) = self.eval_frames.first() else {
            return Ok(None);
        };
        let side = if self.gpu.class() == AdapterClass::Software {
            100
        } else {
            400
        };
        let extra = frame
            .camera
            .width
            .div_ceil(self.setup.dataset.downscale)
            .div_ceil(side)
            .max(1);
        let downscale = self.setup.dataset.downscale * extra;
        let (image, _) = scene::load(
            self.session,
            std::slice::from_ref(frame),
            downscale,
            "loading",
        )?;
        Ok(image.into_iter().next().map(|image| Look {
            frame: frame.clone(),
            image,
            downscale,
        }))
    }

    fn look_at_view(&mut self) -> anyhow::Result<Option<f64>> {
        let Some(Look {
            frame,
            image,
            downscale,
        }) = &self.look
        else {
            return Ok(None);
        };
        self.trainer.settle(&self.renderer.parameters)?;
        let (renderer, session) = (&mut self.renderer, self.session);
        let mut keep_going = |_| session.keep_going();
        let seen = evaluate_view(renderer, frame, image, *downscale, &mut keep_going)?;
        let Some((quality, _)) = seen else {
            return Ok(None);
        };
        let line = serde_json::json!({
            "schema": SCHEMA, "event": "view", "step": self.trainer.step(), "seconds": self.trainer.seconds(),
            "name": quality.name, "psnr": quality.psnr, "downscale": downscale,
        });
        self.log.write(&line)?;
        self.log
            .scalars(self.trainer.step(), &[("held_out/psnr", quality.psnr)]);
        Ok(Some(quality.psnr))
    }

    /// Say once that the held-out view has stopped getting better.
    fn tell_plateau(&mut self, seconds: f64, psnr: f64) -> anyhow::Result<()> {
        let Some(since) = self.plateau.add(seconds, psnr) else {
            return Ok(());
        };
        let text = format!(
            "plateau: the held-out view gained less than {PLATEAU_DB} dB in the last {since:.0} s (now {psnr:.2} dB); \
             Ctrl-C saves and stops"
        );
        self.bar.suspend(|| self.session.out.note(&text));
        self.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "plateau", "step": self.trainer.step(), "seconds": seconds,
            "psnr": psnr, "for_seconds": since,
        }))
    }

    /// Save what there is and say how to go on.
    fn interrupted(&mut self) -> anyhow::Error {
        self.bar.finish_and_clear();
        self.session
            .out
            .note("stopping: saving a checkpoint (Ctrl-C again quits at once)");
        match self.pause().and_then(|()| self.save()) {
            Ok(()) => Interrupted(format!(
                " at step {} and saved: kiln train --resume {} goes on",
                self.trainer.step(),
                self.setup.dir.path().display()
            ))
            .into(),
            Err(error) => error,
        }
    }

    /// Save; a disk that is full now may not be later, and what was saved before is still there.
    fn save_or_go_on(&self) -> anyhow::Result<()> {
        go_on_without_disk(self.session, &self.bar, self.save())
    }

    /// Whether `--until-psnr` is given and reached.
    fn is_good_enough(&mut self) -> anyhow::Result<bool> {
        Ok(self.limits.psnr.is_finite() && self.evaluate()?.0.psnr >= self.limits.psnr)
    }

    fn evaluate(&mut self) -> anyhow::Result<(EvalReport, Vec<Example>)> {
        self.trainer.settle(&self.renderer.parameters)?;
        let request = Request {
            frames: &self.eval_frames,
            split: self.held_out,
            steps: self.trainer.step(),
            train_seconds: self.trainer.seconds(),
            save_to: None,
            dataset: &self.setup.dataset,
            lpips: None,
            // Once is enough.
            trained_on: &std::mem::take(&mut self.trained_on),
        };
        scene::evaluate(self.session, self.gpu, &mut self.renderer, &request)
    }

    fn save(&self) -> anyhow::Result<()> {
        let dataset = std::path::absolute(&self.setup.dataset_path)
            .unwrap_or_else(|_| self.setup.dataset_path.clone());
        let path = self.setup.dir.checkpoint();
        let source = Source {
            dataset: &dataset.display().to_string(),
            opening: self.setup.opening,
            train_views: &self.setup.train_views,
            fingerprint: &self.setup.fingerprint,
            image_fingerprint: &self.setup.image_fingerprint,
            held_out_fingerprint: &self.setup.held_out_fingerprint,
        };
        checkpoint::save(&path, self.gpu, &self.trainer, &source)?;
        self.setup.dir.forget_previous();
        self.session.out.detail(format!(
            "saved {} at step {}",
            path.display(),
            self.trainer.step()
        ));
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<Option<EvalReport>> {
        let latest = self.latest;
        let (steps, seconds) = (self.trainer.step(), self.trainer.seconds());
        let rate = latest.map_or_else(String::new, |p| {
            let rate = f64::from(steps) / seconds.max(1e-9);
            format!(
                ", {}samples/s, {}rays/s",
                short(f64::from(p.samples) * rate),
                short(f64::from(p.rays) * rate)
            )
        });
        self.session.out.note(format!(
            "trained {} in {seconds:.1} s{rate}",
            counted(steps, "step")
        ));
        if let Some(p) = latest.filter(|p| p.saturated > 0.0) {
            self.session.out.note(format!(
                "warning: {} hash-table gradients came near the end of their range",
                p.saturated
            ));
        }
        if latest.is_some_and(|p| p.samples == 0.0) {
            self.session.out.note(
                "warning: no samples were evaluated at last: the occupancy grid is empty, and so is what was learned",
            );
        }
        if self.eval_frames.is_empty() {
            self.session.out.note("no views to evaluate");
            return Ok(None);
        }
        let started = Instant::now();
        let (report, examples) = self.evaluate()?;
        self.log.keep(&serde_json::json!({
            "schema": SCHEMA, "event": "eval", "step": steps, "seconds": seconds, "split": report.split,
            "psnr": report.psnr, "ssim": report.ssim, "evaluate_seconds": started.elapsed().as_secs_f64(),
        }));
        let mut scalars = vec![("test/psnr", report.psnr)];
        scalars.extend(report.ssim.map(|s| ("test/ssim", s)));
        self.log.scalars(steps, &scalars);
        let lessons = self.setup.config.lessons();
        if lessons > 0 && steps > lessons {
            self.tell_stage("fine-tuned", "", &report)?;
        }
        let dir = &self.setup.dir;
        scene::keep(self.session, dir, &self.setup.config, &report, &examples)?;
        self.session.out.result(scene::describe(&report))?;
        self.session
            .out
            .result(format!("run: {}", dir.path().display()))?;
        let mut line = serde_json::to_value(&report)?;
        line["event"] = "eval".into();
        self.session.out.json(&line)?;
        Ok(Some(report))
    }
}

/// What a window asks of training.
#[cfg(feature = "viewer")]
impl<'a> Driver<'a> {
    pub(in crate::cli) fn gpu(&self) -> &'a Arc<Gpu> {
        self.gpu
    }

    /// Do not count the last `time` as training.
    pub(in crate::cli) fn leave_out(&mut self, time: std::time::Duration) {
        self.trainer.leave_out(time);
    }

    /// Longest submission, if the configuration allows that much.
    pub(in crate::cli) fn set_budget(&mut self, budget: std::time::Duration) {
        let own = self.setup.config.training.submission_ms / 1e3;
        let budget = budget.min(std::time::Duration::from_secs_f32(own));
        self.trainer.set_budget(budget);
        self.renderer.set_budget(budget);
    }

    pub(in crate::cli) fn session(&self) -> &'a Session {
        self.session
    }

    /// Its folder.
    pub(in crate::cli) fn path(&self) -> std::path::PathBuf {
        self.setup.dir.path().to_owned()
    }

    /// Bytes on the device, reckoned.
    pub(in crate::cli) fn bytes(&self) -> anyhow::Result<u64> {
        Ok(scene::memory(self.gpu, &self.setup.config, &self.setup.dataset)?.total_bytes())
    }

    /// Flags that go on with it, and flags that begin it anew where it is.
    pub(in crate::cli) fn args_again(&self) -> [Args; 2] {
        let dir = self.setup.dir.path();
        let anew = Args {
            out: Some(dir.to_owned()),
            force: true,
            ..self.args.clone()
        };
        [self.args.to_go_on(dir), anew]
    }

    /// What is seen, and by which cameras.
    pub(in crate::cli) fn scene(
        &self,
    ) -> (&crate::config::Config, &crate::dataset::Dataset, &Renderer) {
        (&self.setup.config, &self.setup.dataset, &self.renderer)
    }

    pub(in crate::cli) fn renderer(&mut self) -> &mut Renderer {
        &mut self.renderer
    }

    /// Let the driver's own renderer show what was learned so far.
    pub(in crate::cli) fn show_newest(&self) -> anyhow::Result<()> {
        Ok(self.trainer.settle(&self.renderer.parameters)?)
    }

    /// Let `other`, which is apart, show what was learned so far.
    pub(in crate::cli) fn show_newest_in(&self, other: &Renderer) -> Result<(), TrainError> {
        self.trainer.settle(&other.parameters)?;
        other.take_occupancy(&self.renderer);
        Ok(())
    }

    pub(in crate::cli) fn step(&self) -> u32 {
        self.trainer.step()
    }

    /// Whether nothing that was submitted is under way.
    pub(in crate::cli) fn is_idle(&mut self) -> anyhow::Result<bool> {
        Ok(self.trainer.is_idle()?)
    }

    /// Save now, and say so.
    pub(in crate::cli) fn save_and_tell(&mut self) -> anyhow::Result<()> {
        self.save()?;
        self.session
            .out
            .note(format!("saved at step {}", self.trainer.step()));
        Ok(())
    }

    /// How it goes.
    pub(in crate::cli) fn progress(&self, paused: bool) -> crate::viewer::Progress {
        let latest = self.latest;
        let (step, seconds) = (self.trainer.step(), self.trainer.seconds());
        let rate = f64::from(step) / seconds.max(1e-9);
        let (fraction, left) = self.limits.so_far(step, seconds);
        let per_second =
            |of: fn(&Progress) -> f32| latest.map_or(0.0, |p| f64::from(of(&p)) * rate);
        crate::viewer::Progress {
            step,
            seconds,
            learned: latest.map(|p| crate::viewer::Learned {
                step: p.step,
                seconds: p.seconds,
                loss: p.loss,
                train_psnr: p.train_psnr,
            }),
            held_out: self.last_psnr,
            steps_per_second: rate,
            samples_per_second: per_second(|p| p.samples),
            rays_per_second: per_second(|p| p.rays),
            fraction,
            left,
            paused,
        }
    }
}
