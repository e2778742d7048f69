//! Learning what to begin with, under way: looks at held-out objects, checkpoints, the end, and what is said meanwhile.

use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;

use super::super::Session;
use super::super::interrupt::{self, Interrupted};
use super::super::journal::Journal;
use super::super::output::{SCHEMA, short};
use super::super::scene;
use super::super::train::{Limits, Line, go_on_without_disk};
use super::Setup;
use super::evaluate::{Unseen, mean, slow_side};
use super::stream::Stream;
use crate::checkpoint::{self, Source};
use crate::dataset::{DatasetError, Frame, Image};
use crate::eval::{self, Context, ViewQuality};
use crate::gpu::{AdapterClass, Gpu};
use crate::render::{Channel, Renderer};
use crate::report::{self, Example};
use crate::text::{counted, counted_len};
use crate::train::{Advance, Progress, TrainEvent, Trainer};

/// Seconds of training between looks at held-out objects, at least.
const LOOK_EVERY: f64 = 20.0;
/// Unseen views of each held-out object that are looked at.
const LOOK_VIEWS: usize = 3;
/// Seconds that looking at an object's views should take at most.
const LOOK_SECONDS: f64 = 2.0;

/// An object that is not learned from.
struct HeldOut {
    name: String,
    input: Frame,
    image: Image,
    /// Factor that the image is shrunk by.
    downscale: u32,
    unseen: Unseen,
}

pub(super) struct Driver<'a> {
    session: &'a Session,
    gpu: &'a Arc<Gpu>,
    setup: &'a Setup,
    stream: Stream<'a>,
    trainer: Trainer,
    renderer: Renderer,
    log: Journal<'a>,
    limits: Limits,
    checkpoint_every: f64,
    held_out: Vec<HeldOut>,
    next_look: f64,
    next_save: f64,
    bar: ProgressBar,
    events: Vec<TrainEvent>,
    latest: Option<Progress>,
    last_psnr: Option<f64>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        session: &'a Session,
        gpu: &'a Arc<Gpu>,
        setup: &'a Setup,
        stream: Stream<'a>,
        (trainer, renderer): (Trainer, Renderer),
        log: Journal<'a>,
        limits: Limits,
        checkpoint_every: f64,
    ) -> Self {
        let start = trainer.seconds();
        Self {
            session,
            gpu,
            setup,
            stream,
            trainer,
            renderer,
            log,
            limits,
            checkpoint_every,
            held_out: Vec::new(),
            next_look: start + LOOK_EVERY,
            next_save: start + checkpoint_every,
            bar: ProgressBar::hidden(),
            events: Vec::new(),
            latest: None,
            last_psnr: None,
        }
    }

    fn inner_steps(&self) -> u32 {
        self.setup.meta().inner_steps
    }

    /// Outer steps submitted.
    fn outer_step(&self) -> u32 {
        self.trainer.step() / self.inner_steps()
    }

    /// Learn to the limits, save, and measure.
    pub(super) fn run(&mut self) -> anyhow::Result<()> {
        self.bar = self.session.out.live(1000, "starting");
        self.choose_held_out()?;
        let is_there = |driver: &Self| {
            driver.outer_step() >= driver.limits.steps
                || driver.trainer.seconds() >= driver.limits.seconds
        };
        if self.setup.checkpoint.is_some() && is_there(self) {
            self.session.out.note(format!(
                "nothing to learn: the run is past {} already, which count over its whole life; give more to go on",
                self.limits.describe()
            ));
        }
        loop {
            let k = self.inner_steps();
            let last = self.limits.steps.saturating_mul(k);
            if let Err(error) = self.stream.prepare(self.outer_step()) {
                return Err(self.stopped(&error));
            }
            if let Some(object) = self.stream.take_changed() {
                let (session, dir) = (self.session, &self.setup.dir);
                let whose = format!("those of {} are", object.name);
                self.bar
                    .suspend(|| scene::warn_of_other_images(session, dir, &whose));
            }
            let seconds = self.trainer.seconds();
            let due = seconds >= self.limits.seconds.min(self.next_look).min(self.next_save);
            // What is due is done between two tasks.
            let until = if due {
                self.trainer.step().next_multiple_of(k)
            } else {
                (self.outer_step() + self.stream.ahead()).saturating_mul(k)
            };
            let outcome = self.trainer.advance(until.min(last), &mut self.events)?;
            self.hear()?;
            if interrupt::is_asked() {
                return Err(self.interrupted());
            }
            match outcome {
                Advance::Busy => self.trainer.wait()?,
                Advance::Reached if is_there(self) => break,
                Advance::Reached if due => self.do_what_is_due()?,
                Advance::Submitted | Advance::Reached => {}
            }
        }
        self.end()
    }

    fn do_what_is_due(&mut self) -> anyhow::Result<()> {
        let seconds = self.trainer.seconds();
        if seconds >= self.next_look {
            self.pause()?;
            let started = Instant::now();
            match self.look() {
                Err(error) if error.is::<Interrupted>() => return Err(self.interrupted()),
                outcome => outcome?,
            }
            // A tenth of the time at most goes into looking.
            self.next_look = seconds + LOOK_EVERY.max(10.0 * started.elapsed().as_secs_f64());
        }
        if seconds >= self.next_save {
            self.next_save = seconds + self.checkpoint_every;
            self.pause()?;
            self.save_or_go_on()?;
        }
        Ok(())
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        self.trainer.pause(&mut self.events)?;
        self.hear()
    }

    /// Objects to look at, with a few of the views that they are not adapted to.
    fn choose_held_out(&mut self) -> anyhow::Result<()> {
        let most = self.setup.meta().held_out_objects as usize;
        let first = self.setup.objects.test.first();
        let Some((object, frame)) = first.and_then(|o| Some((o, o.frames.first()?))) else {
            self.session
                .out
                .note("warning: no object is held out: how good it gets cannot be measured");
            return Ok(());
        };
        let full = frame.camera.downscaled(object.dataset.downscale);
        let longest = full.width.max(full.height);
        let side = if self.gpu.class() == AdapterClass::Software {
            slow_side(self.gpu, &self.setup.config, LOOK_VIEWS, LOOK_SECONDS)?
        } else {
            longest
        };
        let extra = longest.div_ceil(side).max(1);
        for object in self.setup.objects.test.iter().take(most) {
            let [input, others @ ..] = object.frames.as_slice() else {
                continue;
            };
            if others.is_empty() {
                continue;
            }
            let n = LOOK_VIEWS.min(others.len());
            let views = (0..n).map(|i| others[i * others.len() / n].clone());
            let downscale = object.dataset.downscale * extra;
            self.held_out.push(HeldOut {
                name: object.name.clone(),
                input: input.clone(),
                image: input.load()?.downscaled(object.dataset.downscale),
                downscale: object.dataset.downscale,
                unseen: Unseen::load(&object.name, views.collect(), downscale)?,
            });
        }
        Ok(())
    }

    /// PSNR of the unseen views of each held-out object, after a few steps on its first view.
    fn adapted(&mut self) -> anyhow::Result<Vec<(ViewQuality, Example)>> {
        let steps = self.setup.meta().held_out_steps;
        let mut all = Vec::new();
        for object in &self.held_out {
            let HeldOut { input, image, .. } = object;
            self.stream.hold_out(input, image, object.downscale);
            self.trainer.adapt();
            let mut unheard = Vec::new();
            let mut outcome = Ok(());
            while outcome.is_ok() {
                match self.trainer.advance(steps, &mut unheard) {
                    Ok(Advance::Reached) => break,
                    Ok(_) if interrupt::is_asked() => break,
                    Ok(Advance::Busy) => outcome = self.trainer.wait(),
                    Ok(Advance::Submitted) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            let settled = outcome
                .and_then(|()| self.trainer.pause(&mut unheard))
                .and_then(|()| Ok(self.trainer.settle(&self.renderer.parameters)?));
            self.trainer.end_adaptation()?;
            settled?;
            interrupt::check()?;
            let background = self.setup.config.scene.eval_background.color();
            let measured = object.unseen.measure(self.session, &mut self.renderer)?;
            for ((quality, rendered), image) in measured.into_iter().zip(&object.unseen.images) {
                let prediction = rendered.pixels(Channel::Rgb, background, [0.0, 1.0]);
                let example = Example::new("", &quality, image, prediction, &self.setup.config);
                all.push((quality, example));
            }
        }
        Ok(all)
    }

    /// Adapt to the held-out objects, and tell how good that is.
    fn look(&mut self) -> anyhow::Result<()> {
        let views = self.adapted()?;
        let psnrs: Vec<f64> = views.iter().map(|(quality, _)| quality.psnr).collect();
        let Some(psnr) = mean(&psnrs) else {
            return Ok(());
        };
        self.last_psnr = Some(psnr);
        let step = self.trainer.step();
        self.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "view", "step": step, "seconds": self.trainer.seconds(),
            "outer_step": self.outer_step(), "name": "held-out objects", "psnr": psnr,
            "objects": self.held_out.len(), "views": views.len(), "adapted_for": self.setup.meta().held_out_steps,
        }))?;
        self.log.scalars(step, &[("held_out/psnr", psnr)]);
        Ok(())
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
            let mut scalars = vec![
                ("train/loss", f64::from(progress.loss)),
                ("train/psnr", f64::from(progress.train_psnr)),
            ];
            if let Some(inner) = progress.inner {
                scalars.push(("inner/first_psnr", f64::from(inner.first_psnr)));
                scalars.push(("inner/last_psnr", f64::from(inner.last_psnr)));
            }
            self.log.scalars(progress.step, &scalars);
            self.latest = Some(progress);
            self.show(progress);
        }
        Ok(())
    }

    fn show(&self, p: Progress) {
        let k = f64::from(self.inner_steps());
        let rate = f64::from(p.step) / p.seconds.max(1e-9);
        let outer = p.step / self.inner_steps();
        let (fraction, eta) = self.limits.so_far(outer, p.seconds);
        let held_out = self
            .last_psnr
            .map(|v| format!(", held-out {v:.2} dB"))
            .unwrap_or_default();
        let inner = p.inner.map_or_else(String::new, |i| {
            format!("inner steps {:.2} to {:.2} dB", i.first_psnr, i.last_psnr)
        });
        self.bar.set_position((fraction * 1000.0) as u64);
        self.bar.set_message(format!(
            "outer step {outer}  {:.1}/s  {}samples/s  {}rays/s  {inner}{held_out}  {eta:.0} s left",
            rate / k,
            short(f64::from(p.samples) * rate),
            short(f64::from(p.rays) * rate),
        ));
    }

    /// Save what there is, for some later day. What the object under way taught is left: it comes again.
    fn leave(&mut self) -> anyhow::Result<String> {
        self.bar.finish_and_clear();
        self.pause()?;
        self.trainer.abandon_task()?;
        self.save()?;
        Ok(format!(
            "at outer step {} and saved: kiln meta --resume {} goes on",
            self.outer_step(),
            self.setup.dir.path().display()
        ))
    }

    /// Save and say how to go on.
    fn interrupted(&mut self) -> anyhow::Error {
        self.session
            .out
            .note("stopping: saving a checkpoint (Ctrl-C again quits at once)");
        match self.leave() {
            Ok(how) => Interrupted(format!(" {how}")).into(),
            Err(error) => error,
        }
    }

    /// Save, as an object cannot be read.
    fn stopped(&mut self, cause: &DatasetError) -> anyhow::Error {
        match self.leave() {
            Ok(how) => anyhow::anyhow!("{cause}; stopped {how} once that is mended"),
            Err(error) => anyhow::anyhow!("{cause}; and it cannot be saved: {error}"),
        }
    }

    /// Save; a disk that is full now may not be later, and what was saved before is still there.
    fn save_or_go_on(&self) -> anyhow::Result<()> {
        go_on_without_disk(self.session, &self.bar, self.save())
    }

    fn save(&self) -> anyhow::Result<()> {
        let path = self.setup.dir.checkpoint();
        let source = Source {
            dataset: &super::absolute(&self.setup.objects.root),
            opening: self.setup.opening,
            train_views: &[],
            fingerprint: &self.setup.objects.fingerprint(),
            image_fingerprint: &self.stream.image_fingerprint(),
            held_out_fingerprint: "",
        };
        checkpoint::save(&path, self.gpu, &self.trainer, &source)?;
        self.setup.dir.forget_previous();
        self.session.out.detail(format!(
            "saved {} at outer step {}",
            path.display(),
            self.outer_step()
        ));
        Ok(())
    }

    /// What comes after the last task: save, and measure.
    fn end(&mut self) -> anyhow::Result<()> {
        self.pause()?;
        self.bar.finish_and_clear();
        let (step, seconds) = (self.trainer.step(), self.trainer.seconds());
        let outer = self.outer_step();
        let rate = f64::from(step) / seconds.max(1e-9);
        let rates = self.latest.map_or_else(String::new, |p| {
            format!(
                ", {}samples/s, {}rays/s",
                short(f64::from(p.samples) * rate),
                short(f64::from(p.rays) * rate)
            )
        });
        self.session.out.note(format!(
            "learned for {} of {} in {seconds:.1} s{rates}",
            counted(outer, "outer step"),
            counted(self.inner_steps(), "step")
        ));
        // What was learned can be measured even where it cannot be kept.
        let saved = self.save();
        let spinner = self.session.out.spinner("adapting to held-out objects");
        let views = self.adapted();
        spinner.finish_and_clear();
        self.keep(views?)?;
        saved.map_err(|error| {
            anyhow::anyhow!(
                "{error}; once that is mended, kiln meta --resume {} goes on from the checkpoint before, if there is one",
                self.setup.dir.path().display()
            )
        })?;
        let dir = self.setup.dir.path().display();
        self.session.out.note(format!(
            "kiln train OBJECT --init {dir} --train-views 0 begins with it; kiln meta-eval {dir} says what it is worth"
        ));
        self.session.out.result(format!("run: {dir}"))
    }

    /// Keep what the held-out objects came to: `eval.json`, the report, and a line.
    fn keep(&mut self, views: Vec<(ViewQuality, Example)>) -> anyhow::Result<()> {
        if views.is_empty() {
            return Ok(());
        }
        let (qualities, mut examples): (Vec<_>, Vec<_>) = views.into_iter().unzip();
        let steps = self.setup.meta().held_out_steps;
        let context = Context {
            split: "test".to_owned(),
            dataset: self.setup.objects.root.display().to_string(),
            downscale: self.held_out[0].unseen.downscale,
            steps: self.trainer.step(),
            train_seconds: self.trainer.seconds(),
            rays_per_second: 0.0,
            device: self.gpu.name().to_owned(),
            lpips_network: None,
        };
        let shown: Vec<Example> = report::pick(&qualities)
            .into_iter()
            .map(|(index, label)| Example {
                label: label.to_owned(),
                ..std::mem::take(&mut examples[index])
            })
            .collect();
        let mut report = eval::report(&self.setup.config, context, qualities);
        report.adapted_for = Some(steps);
        self.log.keep(&serde_json::json!({
            "schema": SCHEMA, "event": "eval", "step": report.steps, "seconds": report.train_seconds,
            "split": report.split, "psnr": report.psnr, "ssim": report.ssim,
        }));
        let setup = self.setup;
        scene::keep(self.session, &setup.dir, &setup.config, &report, &shown)?;
        let names: Vec<&str> = self.held_out.iter().map(|o| o.name.as_str()).collect();
        let size = if report.downscale > 1 {
            format!(" at 1/{} of their size", report.downscale)
        } else {
            String::new()
        };
        self.session.out.result(format!(
            "held out: PSNR {:.2} dB over {}{size} after {} on one view of {}, background {}, {} \
             values rounded to 8 bits",
            report.psnr,
            counted_len(report.views, "unseen view"),
            counted(steps, "step"),
            names.join(", "),
            report.background,
            report.color_space,
        ))?;
        let mut line = serde_json::to_value(&report)?;
        line["event"] = "eval".into();
        line["outer_steps"] = self.outer_step().into();
        self.session.out.json(&line)
    }
}
