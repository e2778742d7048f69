//! Learning what to begin with, under way: looks at held-out objects, checkpoints, the end, and what is said meanwhile.

use std::time::Instant;

use super::Setup;
use super::evaluate::{Unseen, mean, slow_side};
use super::stream::Stream;
use crate::checkpoint::Source;
use crate::dataset::{DatasetError, Frame, Image};
use crate::eval::{self, Context, ViewQuality};
use crate::gpu::AdapterClass;
use crate::render::Channel;
use crate::report::{self, Example};
use crate::session::journal::SCHEMA;
use crate::session::training::{Training, go_on_without_disk};
use crate::session::{Error, Observer, ObserverExt, Result, Scale, data, evaluate};
use crate::text::{counted, counted_len};
use crate::train::Advance;

/// Seconds of training between looks at held-out objects, at least.
pub(super) const LOOK_EVERY: f64 = 20.0;
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

/// Meta-learning under way.
pub(super) struct Driver<'a> {
    observer: &'a dyn Observer,
    setup: &'a Setup,
    stream: Stream<'a>,
    training: Training<'a>,
    held_out: Vec<HeldOut>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        observer: &'a dyn Observer,
        setup: &'a Setup,
        stream: Stream<'a>,
        training: Training<'a>,
    ) -> Self {
        Self {
            observer,
            setup,
            stream,
            training,
            held_out: Vec::new(),
        }
    }

    fn inner_steps(&self) -> u32 {
        self.setup.meta().inner_steps
    }

    /// Learn to the limits, save, and measure.
    pub(super) fn run(&mut self) -> Result<()> {
        self.training.show();
        self.choose_held_out()?;
        if self.setup.checkpoint.is_some() && self.training.is_over() {
            self.observer.note(format!(
                "nothing to learn: the run is past {} already, which count over its whole life; give more to go on",
                self.training.limits.describe()
            ));
        }
        loop {
            let k = self.inner_steps();
            let last = self.training.limits.steps.saturating_mul(k);
            if let Err(error) = self.stream.prepare(self.training.step()) {
                return Err(self.stopped(&error));
            }
            if let Some(object) = self.stream.take_changed() {
                let (observer, dir) = (self.observer, &self.setup.dir);
                let whose = format!("those of {} are", object.name);
                data::warn_of_other_images(observer, dir, &whose);
            }
            let due = self.training.is_due();
            // What is due is done between two tasks.
            let until = if due {
                self.training.trainer.step().next_multiple_of(k)
            } else {
                (self.training.step() + self.stream.ahead()).saturating_mul(k)
            };
            let outcome = self
                .training
                .trainer
                .advance(until.min(last), &mut self.training.events)?;
            self.training.report()?;
            if self.observer.is_cancelled() {
                return Err(self.interrupted());
            }
            match outcome {
                Advance::Busy => self.training.trainer.wait()?,
                Advance::Reached if self.training.is_over() => break,
                Advance::Reached if due => self.do_what_is_due()?,
                Advance::Submitted | Advance::Reached => {}
            }
        }
        self.end()
    }

    fn do_what_is_due(&mut self) -> Result<()> {
        if self.training.look_is_due() {
            self.training.pause()?;
            let started = Instant::now();
            match self.look() {
                Err(error) if error.is_cancelled() => return Err(self.interrupted()),
                outcome => outcome?,
            }
            self.training.looked(started);
        }
        if self.training.take_save_due() {
            self.training.pause()?;
            self.save_or_go_on()?;
        }
        Ok(())
    }

    /// Objects to look at, with a few of the views that they are not adapted to.
    fn choose_held_out(&mut self) -> Result<()> {
        let most = self.setup.meta().held_out_objects as usize;
        let first = self.setup.objects.test.first();
        let Some((object, frame)) = first.and_then(|o| Some((o, o.frames.first()?))) else {
            self.observer
                .warn("no object is held out: how good it gets cannot be measured");
            return Ok(());
        };
        let full = frame.camera.downscaled(object.dataset.downscale);
        let longest = full.width.max(full.height);
        let side = if self.training.gpu.class() == AdapterClass::Software {
            slow_side(
                &self.training.gpu,
                &self.setup.config,
                LOOK_VIEWS,
                LOOK_SECONDS,
            )?
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
    fn adapted(&mut self) -> Result<Vec<(ViewQuality, Example)>> {
        let steps = self.setup.meta().held_out_steps;
        let mut all = Vec::new();
        for object in &self.held_out {
            let HeldOut { input, image, .. } = object;
            self.stream.hold_out(input, image, object.downscale);
            self.training.trainer.adapt();
            let mut unheard = Vec::new();
            let mut outcome = Ok(());
            while outcome.is_ok() {
                match self.training.trainer.advance(steps, &mut unheard) {
                    Ok(Advance::Reached) => break,
                    Ok(_) if self.observer.is_cancelled() => break,
                    Ok(Advance::Busy) => outcome = self.training.trainer.wait(),
                    Ok(Advance::Submitted) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            let settled = outcome
                .and_then(|()| self.training.trainer.pause(&mut unheard))
                .and_then(|()| {
                    Ok(self
                        .training
                        .trainer
                        .export_ema(&self.training.renderer.parameters)?)
                });
            self.training.trainer.end_adaptation()?;
            settled?;
            self.observer.check()?;
            let background = self.setup.config.scene.eval_background.color();
            let measured = object
                .unseen
                .measure(self.observer, &mut self.training.renderer)?;
            for ((quality, rendered), image) in measured.into_iter().zip(&object.unseen.images) {
                let prediction = rendered.pixels(Channel::Rgb, background, [0.0, 1.0]);
                let example = Example::new("", &quality, image, prediction, &self.setup.config);
                all.push((quality, example));
            }
        }
        Ok(all)
    }

    /// Adapt to the held-out objects, and tell how good that is.
    fn look(&mut self) -> Result<()> {
        let views = self.adapted()?;
        let psnrs: Vec<f64> = views.iter().map(|(quality, _)| quality.psnr).collect();
        let Some(psnr) = mean(&psnrs) else {
            return Ok(());
        };
        self.training.held_out_psnr = Some(psnr);
        let step = self.training.trainer.step();
        self.training.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "view", "step": step, "seconds": self.training.trainer.seconds(),
            "outer_step": self.training.step(), "name": "held-out objects", "psnr": psnr,
            "objects": self.held_out.len(), "views": views.len(), "adapted_for": self.setup.meta().held_out_steps,
        }))?;
        self.training.log.scalars(step, &[("held_out/psnr", psnr)]);
        Ok(())
    }

    /// Save what there is, for some later day. What the object under way taught is left: it comes again.
    fn leave(&mut self) -> Result<String> {
        self.training.hide();
        self.training.pause()?;
        self.training.trainer.abandon_task()?;
        self.save()?;
        Ok(format!(
            "at outer step {} and saved: kiln meta --resume {} goes on",
            self.training.step(),
            self.setup.dir.path().display()
        ))
    }

    /// Save and say how to go on.
    fn interrupted(&mut self) -> Error {
        self.observer
            .note("stopping: saving a checkpoint (Ctrl-C again quits at once)");
        match self.leave() {
            Ok(how) => Error::Cancelled(format!(" {how}")),
            Err(error) => error,
        }
    }

    /// Save, as an object cannot be read.
    fn stopped(&mut self, cause: &DatasetError) -> Error {
        match self.leave() {
            Ok(how) => Error::failed(format!("{cause}; stopped {how} once that is mended")),
            Err(error) => Error::failed(format!("{cause}; and it cannot be saved: {error}")),
        }
    }

    /// Save; a disk that is full now may not be later, and what was saved before is still there.
    fn save_or_go_on(&self) -> Result<()> {
        go_on_without_disk(self.observer, self.save())
    }

    fn save(&self) -> Result<()> {
        self.training.save(&Source {
            dataset: &data::absolute(&self.setup.objects.root),
            opening: self.setup.opening,
            train_views: &[],
            fingerprint: &self.setup.objects.fingerprint(),
            image_fingerprint: &self.stream.image_fingerprint(),
            held_out_fingerprint: "",
        })
    }

    /// What comes after the last task: save, and measure.
    fn end(&mut self) -> Result<()> {
        self.training.pause()?;
        self.training.hide();
        let seconds = self.training.trainer.seconds();
        let outer = self.training.step();
        let rates = self.training.rates();
        self.observer.note(format!(
            "learned for {} of {} in {seconds:.1} s{rates}",
            counted(outer, "outer step"),
            counted(self.inner_steps(), "step")
        ));
        // What was learned can be measured even where it cannot be kept.
        let saved = self.save();
        let spinner = self
            .observer
            .task("adapting to held-out objects", Scale::Unknown);
        let views = self.adapted();
        drop(spinner);
        self.keep(views?)?;
        saved.map_err(|error| {
            Error::failed(format!(
                "{error}; once that is mended, kiln meta --resume {} goes on from the checkpoint before, if there is one",
                self.setup.dir.path().display()
            ))
        })?;
        let dir = self.setup.dir.path().display();
        self.observer.note(format!(
            "kiln train OBJECT --init {dir} --train-views 0 begins with it; kiln meta-eval {dir} says what it is worth"
        ));
        self.observer.result(format!("run: {dir}"))
    }

    /// Keep what the held-out objects came to: `eval.json`, the report, and a line.
    fn keep(&mut self, views: Vec<(ViewQuality, Example)>) -> Result<()> {
        if views.is_empty() {
            return Ok(());
        }
        let (qualities, mut examples): (Vec<_>, Vec<_>) = views.into_iter().unzip();
        let steps = self.setup.meta().held_out_steps;
        let context = Context {
            split: "test".to_owned(),
            dataset: self.setup.objects.root.display().to_string(),
            downscale: self.held_out[0].unseen.downscale,
            steps: self.training.trainer.step(),
            train_seconds: self.training.trainer.seconds(),
            rays_per_second: 0.0,
            device: self.training.gpu.name().to_owned(),
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
        self.training.log.keep(&serde_json::json!({
            "schema": SCHEMA, "event": "eval", "step": report.steps, "seconds": report.train_seconds,
            "split": report.split, "psnr": report.psnr, "ssim": report.ssim,
        }));
        let setup = self.setup;
        evaluate::keep(self.observer, &setup.dir, &setup.config, &report, &shown)?;
        let names: Vec<&str> = self.held_out.iter().map(|o| o.name.as_str()).collect();
        let size = if report.downscale > 1 {
            format!(" at 1/{} of their size", report.downscale)
        } else {
            String::new()
        };
        self.observer.result(format!(
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
        line["outer_steps"] = self.training.step().into();
        self.observer.json(&line)
    }
}
