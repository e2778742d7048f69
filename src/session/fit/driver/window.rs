//! What only the window needs of a training.

use std::sync::Arc;
use std::time::Duration;

use super::Fit;
use crate::config::ResolvedConfig;
use crate::dataset::Dataset;
use crate::gpu::Gpu;
use crate::render::Renderer;
use crate::session::fit::setup::Setup;
use crate::session::fit::{FitOptions, diverged};
use crate::session::{ObserverExt as _, Result, memory};

impl Fit<'_> {
    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.training.gpu
    }

    /// Exclude the last `time` from the training time.
    pub(crate) fn exclude_time(&mut self, time: Duration) {
        self.training.trainer.exclude_time(time);
    }

    /// Limit submissions to `budget`, or to `training.submission_ms` if that is shorter.
    pub(crate) fn set_budget(&mut self, budget: Duration) {
        let own = self.setup.config.training.submission_ms / 1e3;
        let budget = budget.min(Duration::from_secs_f32(own));
        self.training.trainer.set_budget(budget);
        self.training.renderer.set_budget(budget);
    }

    /// Planned device memory, in bytes.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let Setup {
            config, dataset, ..
        } = &self.setup;
        Ok(memory::memory(&self.training.gpu, config, dataset)?.total_bytes())
    }

    /// Options that resume this run, and options that train it anew in the same directory.
    pub(crate) fn options_again(&self) -> [FitOptions; 2] {
        let dir = self.setup.dir.path();
        let anew = FitOptions {
            out: Some(dir.to_owned()),
            overwrite: true,
            ..self.options.clone()
        };
        [self.options.resuming(dir), anew]
    }

    pub(crate) fn config(&self) -> &ResolvedConfig {
        &self.setup.config
    }

    pub(crate) fn dataset(&self) -> &Dataset {
        &self.setup.dataset
    }

    pub(crate) fn renderer(&mut self) -> &mut Renderer {
        &mut self.training.renderer
    }

    /// Export the current EMA weights, or those of the stage that was kept, to this training's renderer.
    pub(crate) fn show_newest(&self) -> Result<()> {
        self.export_to(&self.training.renderer)
    }

    /// Export the same weights and the occupancy grid to `other`, a separate renderer.
    pub(crate) fn show_newest_in(&self, other: &Renderer) -> Result<()> {
        self.export_to(other)?;
        other.copy_occupancy_from(&self.training.renderer);
        Ok(())
    }

    fn export_to(&self, renderer: &Renderer) -> Result<()> {
        if let Some(stage) = &self.kept_stage {
            let fields: Vec<_> = renderer.fields().collect();
            stage.load_parameters(&self.training.gpu, &fields, &renderer.parameters)?;
        } else {
            self.training.trainer.export_ema(&renderer.parameters)?;
        }
        Ok(())
    }

    /// Whether the device has finished all submitted work.
    pub(crate) fn is_idle(&mut self) -> Result<bool> {
        Ok(self.training.trainer.is_idle()?)
    }

    /// Save a checkpoint now and note it.
    pub(crate) fn save_and_note(&mut self) -> Result<()> {
        let saved = self.save();
        saved.map_err(|error| diverged(error, &self.setup.dir))?;
        let step = self.training.trainer.step();
        self.observer.note(format!("saved at step {step}"));
        Ok(())
    }
}
