//! The meta-learning loop: previews of held-out objects, checkpoints, the end, and the notes in between.

use std::time::Instant;

use super::Setup;
use super::evaluate::{NovelViews, affordable_side, mean};
use super::stream::Stream;
use crate::checkpoint::DataSource;
use crate::dataset::{DatasetError, Frame, Image};
use crate::eval::{self, Context, ViewQuality};
use crate::gpu::AdapterClass;
use crate::render::Channel;
use crate::report::{self, Example};
use crate::session::run_log::SCHEMA;
use crate::session::training::Training;
use crate::session::{Error, Observer, ObserverExt, Result, Scale, data, evaluate};
use crate::text::{counted, counted_len};
use crate::train::StepStatus;

/// Shortest interval between previews of held-out objects, in seconds of training.
pub(super) const PREVIEW_EVERY: f64 = 20.0;
/// Number of novel views of each held-out object in a preview.
const PREVIEW_VIEWS: usize = 3;
/// Most seconds that rendering an object's views in a preview should take.
const PREVIEW_SECONDS: f64 = 2.0;

/// A held-out object.
struct HeldOut {
    name: String,
    input: Frame,
    image: Image,
    /// Factor that `image` is shrunk by.
    downscale: u32,
    unseen: NovelViews,
}

/// A meta-learning run in progress.
pub(super) struct MetaTraining<'a> {
    observer: &'a dyn Observer,
    setup: &'a Setup,
    stream: Stream<'a>,
    training: Training<'a>,
    held_out: Vec<HeldOut>,
}

impl<'a> MetaTraining<'a> {
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

    /// Train to the limits, save and evaluate.
    pub(super) fn run(&mut self) -> Result<()> {
        self.training.show();
        self.choose_held_out()?;
        if self.setup.checkpoint.is_some() && self.training.is_over() {
            self.training.note_nothing_to_train();
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
            // Previews and checkpoints happen between two tasks.
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
                StepStatus::Busy => self.training.trainer.wait()?,
                StepStatus::Reached if self.training.is_over() => break,
                StepStatus::Reached if due => self.preview_and_save()?,
                StepStatus::Submitted | StepStatus::Reached => {}
            }
        }
        self.end()
    }

    /// Render a preview and save a checkpoint if they are due.
    fn preview_and_save(&mut self) -> Result<()> {
        if self.training.preview_is_due() {
            self.training.pause()?;
            let started = Instant::now();
            match self.preview() {
                Err(error) if error.is_cancelled() => return Err(self.interrupted()),
                outcome => outcome?,
            }
            self.training.schedule_preview(started);
        }
        if self.training.take_save_due() {
            self.training.pause()?;
            self.training.warn_if_unwritable(self.save())?;
        }
        Ok(())
    }

    /// Choose the held-out objects for previews, with a few novel views of each.
    fn choose_held_out(&mut self) -> Result<()> {
        let most = self.setup.meta().held_out_objects as usize;
        let first = self.setup.objects.test.first();
        let Some((object, frame)) = first.and_then(|o| Some((o, o.frames.first()?))) else {
            self.observer
                .warn("no object is held out, so the initialisation cannot be evaluated: list some as `test` in a file for --splits");
            return Ok(());
        };
        let full = frame.camera.downscaled(object.dataset.downscale);
        let longest = full.width.max(full.height);
        let side = if self.training.gpu.class() == AdapterClass::Software {
            affordable_side(
                &self.training.gpu,
                &self.setup.config,
                PREVIEW_VIEWS,
                PREVIEW_SECONDS,
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
            let n = PREVIEW_VIEWS.min(others.len());
            let views = (0..n).map(|i| others[i * others.len() / n].clone());
            let downscale = object.dataset.downscale * extra;
            self.held_out.push(HeldOut {
                name: object.name.clone(),
                input: input.clone(),
                image: input.load()?.downscaled(object.dataset.downscale),
                downscale: object.dataset.downscale,
                unseen: NovelViews::load(&object.name, views.collect(), downscale)?,
            });
        }
        Ok(())
    }

    /// Evaluate the novel views of each held-out object after a few steps on its first view.
    fn evaluate_held_out(&mut self) -> Result<Vec<(ViewQuality, Example)>> {
        let steps = self.setup.meta().held_out_steps;
        let mut all = Vec::new();
        for object in &self.held_out {
            let HeldOut { input, image, .. } = object;
            self.stream.hold_out(input, image, object.downscale);
            self.training.trainer.adapt();
            let mut events = Vec::new();
            let mut outcome = Ok(());
            while outcome.is_ok() {
                match self.training.trainer.advance(steps, &mut events) {
                    Ok(StepStatus::Reached) => break,
                    Ok(_) if self.observer.is_cancelled() => break,
                    Ok(StepStatus::Busy) => outcome = self.training.trainer.wait(),
                    Ok(StepStatus::Submitted) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            let exported = outcome
                .and_then(|()| self.training.trainer.pause(&mut events))
                .and_then(|()| {
                    Ok(self
                        .training
                        .trainer
                        .export_ema(&self.training.renderer.parameters)?)
                });
            self.training.trainer.end_adaptation()?;
            exported?;
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

    /// Adapt to the held-out objects and log the mean PSNR.
    fn preview(&mut self) -> Result<()> {
        let views = self.evaluate_held_out()?;
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

    /// Save a checkpoint before stopping, and return text that says how to continue. The unfinished outer step is discarded; a
    /// resumed run repeats it.
    fn save_and_stop(&mut self) -> Result<String> {
        self.training.hide();
        self.training.pause()?;
        self.training.trainer.restart_task()?;
        self.save()?;
        Ok(format!(
            "at outer step {}, checkpoint saved; to continue: kiln meta --resume {}",
            self.training.step(),
            self.setup.dir.path().display()
        ))
    }

    /// Save a checkpoint and return the error that says how to continue.
    fn interrupted(&mut self) -> Error {
        self.training.note_stopping();
        match self.save_and_stop() {
            Ok(how) => Error::Cancelled(format!(" {how}")),
            Err(error) => error,
        }
    }

    /// Save a checkpoint after an object could not be read, and return the error.
    fn stopped(&mut self, cause: &DatasetError) -> Error {
        match self.save_and_stop() {
            Ok(how) => Error::failed(format!("{cause}; fix that first; stopped {how}")),
            Err(error) => {
                Error::failed(format!("{cause}; the run cannot be saved either: {error}"))
            }
        }
    }

    fn save(&self) -> Result<()> {
        self.training.save(&DataSource {
            dataset: &data::absolute(&self.setup.objects.root),
            opening: self.setup.opening,
            train_views: &[],
            fingerprint: &self.setup.objects.fingerprint(),
            image_fingerprint: &self.stream.image_fingerprint(),
            held_out_fingerprint: "",
        })
    }

    /// Save a checkpoint and evaluate on held-out objects.
    fn end(&mut self) -> Result<()> {
        self.training.pause()?;
        self.training.hide();
        let seconds = self.training.trainer.seconds();
        let outer = self.training.step();
        let rates = self.training.rates();
        self.observer.note(format!(
            "trained {} of {} in {seconds:.1} s{rates}",
            counted(outer, "outer step"),
            counted(self.inner_steps(), "step")
        ));
        // Evaluate even if the checkpoint cannot be saved.
        let saved = self.save();
        let spinner = self
            .observer
            .task("adapting to held-out objects", Scale::Unknown);
        let views = self.evaluate_held_out();
        drop(spinner);
        self.keep(views?)?;
        saved.map_err(|error| self.training.not_saved(&error, "meta"))?;
        let dir = self.setup.dir.path().display();
        self.observer.note(format!(
            "to train from it: kiln train OBJECT --init {dir} --train-views 0; to evaluate it: kiln meta-eval {dir}"
        ));
        self.observer.result(format!("run: {dir}"))
    }

    /// Write the evaluation of the held-out objects to `eval.json` and the report, and print it.
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
            of_views: 0,
            pixel_share: 1.0,
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
        self.training.log.append(&serde_json::json!({
            "schema": SCHEMA, "event": "eval", "step": report.steps, "seconds": report.train_seconds,
            "split": report.split, "psnr": report.psnr, "ssim": report.ssim,
        }));
        let setup = self.setup;
        evaluate::write_evaluation(self.observer, &setup.dir, &setup.config, &report, &shown)?;
        let names: Vec<&str> = self.held_out.iter().map(|o| o.name.as_str()).collect();
        let size = if report.downscale > 1 {
            format!(" at 1/{} of full size", report.downscale)
        } else {
            String::new()
        };
        self.observer.result(format!(
            "held out: PSNR {:.2} dB over {}{size} after {} on one view of {}, background {}, {} \
             values rounded to 8 bits",
            report.psnr,
            counted_len(report.views, "novel view"),
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
