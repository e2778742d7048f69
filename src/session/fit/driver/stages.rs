//! Reports of the stages of a distillation: teacher, runs to compare with, and the student.

use super::Fit;
use crate::checkpoint::Checkpoint;
use crate::dataset::Split;
use crate::eval::EvalReport;
use crate::run::RunDir;
use crate::session::ObserverExt as _;
use crate::session::evaluate::{self, EvaluationPlan, EvaluationRequest, Limit};
use crate::session::run_log::SCHEMA;
use crate::session::{Result, open};
use crate::text::{counted, counted_len};

impl Fit<'_> {
    /// Report the quality of the teacher and of the runs to compare with, unless the log has it already.
    pub(super) fn report_compared(&mut self) -> Result<()> {
        let config = &self.setup.config;
        let Some(distillation) = config
            .distillation
            .clone()
            .filter(|_| config.distillation_steps() > 0)
        else {
            return Ok(());
        };
        let compared = distillation.compare.iter().map(|run| ("compared", run));
        let all = std::iter::once(("teacher", &distillation.teacher)).chain(compared);
        for (stage, run) in all {
            if self.has_reported(stage, run) {
                continue;
            }
            match self.report_of(std::path::Path::new(run)) {
                Ok(report) => self.report_stage(stage, run, &report)?,
                Err(error) if error.is_cancelled() => return Err(self.interrupted()),
                // These runs may be gone when this run is resumed.
                Err(error) if self.setup.checkpoint.is_some() => self
                    .observer
                    .warn(format!("{run}: {error}; it is left out of the comparison")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether `stage` of `run` (empty for this run) is in the log.
    fn has_reported(&self, stage: &str, run: &str) -> bool {
        self.reported_stages
            .iter()
            .any(|(s, r)| s == stage && r == run)
    }

    /// Report the quality of the distilled field after the last distillation step, before the first step on images.
    pub(super) fn report_distilled(&mut self) -> Result<()> {
        let distillation_steps = self.setup.config.distillation_steps();
        let due = distillation_steps > 0 && self.training.trainer.step() == distillation_steps;
        if !due || self.has_reported("distilled", "") {
            return Ok(());
        }
        self.pause()?;
        // Save first, in case the evaluation fails.
        let saved = self.save();
        let is_saved = saved.is_ok();
        self.training.warn_if_unwritable(saved)?;
        if is_saved
            && !self.selection_views.is_empty()
            && let Err(error) = self.setup.dir.keep_distilled()
        {
            self.observer.warn(format!(
                "{error}; the fine-tuned field is not compared with the distilled one"
            ));
        }
        match self.evaluate() {
            Ok((report, _)) => self.report_stage("distilled", "", &report),
            Err(error) if error.is_cancelled() => Err(self.interrupted()),
            Err(error) => Err(error),
        }
    }

    /// Return the stored evaluation of `run` if it is of the same views, step, size and background; else evaluate it now.
    fn report_of(&mut self, run: &std::path::Path) -> Result<EvalReport> {
        let plan = self.evaluation_plan()?;
        let checkpoint = Checkpoint::open(&open::rendered(run))?;
        let kept = evaluate::stored(&RunDir::of(run));
        let background = &self.setup.config.scene.eval_background;
        let is_same = |report: &EvalReport| {
            let names = report.images.iter().map(|view| &view.name);
            names.eq(plan.frames.iter().map(|frame| &frame.name))
                && report.pixel_share.unwrap_or(1.0) == plan.pixel_share
                && report.steps == checkpoint.info.step
                && report.downscale == self.setup.dataset.downscale
                && report.background == background.to_string()
        };
        if let Some(report) = kept.filter(is_same) {
            return Ok(report);
        }
        let (steps, train_seconds) = (checkpoint.info.step, checkpoint.info.train_seconds);
        let mut run = open::open_loaded(&self.training.gpu, checkpoint, Some(*background))?;
        let request = EvaluationRequest {
            plan: &plan,
            split: self.held_out,
            steps,
            train_seconds,
            save_to: None,
            dataset: &self.setup.dataset,
            lpips: None,
            trained_on: &[],
        };
        Ok(evaluate::evaluate_views(
            self.observer,
            &self.training.gpu,
            &mut run.renderer,
            &request,
        )?
        .0)
    }

    /// Compare the fine-tuned field with the distilled one on views that neither was trained on, apart from the test views. Keep
    /// the distilled one if it is better; return its checkpoint then.
    pub(super) fn choose_stage(&mut self) -> Result<Option<Checkpoint>> {
        let dir = self.setup.dir.clone();
        let kept = [dir.distilled(), dir.best()];
        let kept = kept.iter().find(|file| file.is_file());
        let (Some(kept), false) = (kept, self.selection_views.is_empty()) else {
            return Ok(None);
        };
        let distilled = Checkpoint::open(kept)?;
        let frames = (&*self.selection_views, self.setup.dataset.downscale);
        let limit = Limit::Training(self.training.trainer.seconds());
        let all = self.selection_views.len();
        // Both fields are measured on the same pixels.
        let plan = EvaluationPlan::new(&(), &mut self.training.renderer, frames, limit, all)?;
        let fine_tuned = self.evaluate_selection(&plan)?;
        self.load_stage(&distilled)?;
        let before = self.evaluate_selection(&plan)?;
        let is_kept = before.psnr > fine_tuned.psnr;
        dir.choose_distilled(is_kept)?;
        let views = format!(
            "{} ({})",
            counted_len(all, self.selection_kind),
            before.extent()
        );
        let [before, after] = [before.psnr, fine_tuned.psnr];
        if is_kept {
            self.observer.warn(format!(
                "fine-tuning lowered the PSNR of {views} from {before:.2} to {after:.2} dB: the distilled field is kept in {} and \
                 used from now on; kiln train --resume {} --seconds N continues fine-tuning, which takes longer to pay",
                dir.best().display(),
                dir.path().display()
            ));
        } else {
            self.observer.note(format!(
                "fine-tuning raised the PSNR of {views} from {before:.2} to {after:.2} dB"
            ));
        }
        Ok(is_kept.then_some(distilled))
    }

    /// Load the parameters of `stage` of this run into the renderer. Fine-tuning does not change the occupancy.
    pub(super) fn load_stage(&mut self, stage: &Checkpoint) -> Result<()> {
        let training = &self.training;
        let fields: Vec<_> = training.renderer.fields().collect();
        Ok(stage.load_parameters(&training.gpu, &fields, &training.renderer.parameters)?)
    }

    /// Evaluate the field in the renderer on the views that choose the stage.
    fn evaluate_selection(&mut self, plan: &EvaluationPlan) -> Result<EvalReport> {
        let request = EvaluationRequest {
            plan,
            split: Split::Val,
            steps: self.training.trainer.step(),
            train_seconds: self.training.trainer.seconds(),
            save_to: None,
            dataset: &self.setup.dataset,
            lpips: None,
            trained_on: &[],
        };
        let (gpu, renderer) = (&self.training.gpu, &mut self.training.renderer);
        Ok(evaluate::evaluate_views(self.observer, gpu, renderer, &request)?.0)
    }

    /// Show the quality of a stage of a distillation and write it to the log.
    pub(super) fn report_stage(
        &mut self,
        stage: &str,
        run: &str,
        report: &EvalReport,
    ) -> Result<()> {
        let name = if run.is_empty() {
            stage.to_owned()
        } else {
            format!("{stage} {run}")
        };
        self.observer.note(format!(
            "{name}: {} PSNR {:.2} dB over {}, after {} and {:.1} s",
            report.split,
            report.psnr,
            report.extent(),
            counted(report.steps, "step"),
            report.train_seconds
        ));
        self.reported_stages
            .push((stage.to_owned(), run.to_owned()));
        self.training.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "stage", "stage": stage, "run": run, "method": report.method,
            "step": self.training.trainer.step(), "seconds": self.training.trainer.seconds(), "psnr": report.psnr, "ssim": report.ssim,
            "views": report.views, "of_steps": report.steps, "of_seconds": report.train_seconds,
        }))
    }
}
