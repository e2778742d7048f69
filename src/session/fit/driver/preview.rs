//! Previews of a held-out view during training.

use super::Fit;
use crate::dataset::{Frame, Image};
use crate::eval::evaluate_view;
use crate::gpu::AdapterClass;
use crate::session::run_log::{PLATEAU_DB, SCHEMA};
use crate::session::{ObserverExt as _, Result, data};

/// A held-out view, shrunk until it can be rendered often.
pub(super) struct Preview {
    frame: Frame,
    image: Image,
    downscale: u32,
}

impl Fit<'_> {
    /// Load the first evaluation view, at most 400 pixels wide (100 on a software adapter).
    pub(super) fn load_preview(&self) -> Result<Option<Preview>> {
        let Some(frame) = self.eval_frames.first() else {
            return Ok(None);
        };
        let side = if self.training.gpu.class() == AdapterClass::Software {
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
        let (image, _) = data::load(
            self.observer,
            std::slice::from_ref(frame),
            downscale,
            "loading",
        )?;
        Ok(image.into_iter().next().map(|image| Preview {
            frame: frame.clone(),
            image,
            downscale,
        }))
    }

    /// Render the preview and log its PSNR. Return it in dB, or `None` if there is no view or the observer stops the rendering.
    pub(super) fn render_preview(&mut self) -> Result<Option<f64>> {
        let Some(Preview {
            frame,
            image,
            downscale,
        }) = &self.preview
        else {
            return Ok(None);
        };
        self.training
            .trainer
            .export_ema(&self.training.renderer.parameters)?;
        let (renderer, observer) = (&mut self.training.renderer, self.observer);
        let mut keep_going = |_| observer.keep_going();
        let seen = evaluate_view(renderer, frame, image, *downscale, &mut keep_going)?;
        let Some((quality, _)) = seen else {
            return Ok(None);
        };
        let line = serde_json::json!({
            "schema": SCHEMA, "event": "view", "step": self.training.trainer.step(), "seconds": self.training.trainer.seconds(),
            "name": quality.name, "psnr": quality.psnr, "downscale": downscale,
        });
        self.training.log.write(&line)?;
        self.training.log.scalars(
            self.training.trainer.step(),
            &[("held_out/psnr", quality.psnr)],
        );
        Ok(Some(quality.psnr))
    }

    /// Report once that the held-out view has stopped improving.
    pub(super) fn report_plateau(&mut self, seconds: f64, psnr: f64) -> Result<()> {
        let Some(since) = self.plateau.add(seconds, psnr) else {
            return Ok(());
        };
        let text = format!(
            "plateau: the held-out view improved by less than {PLATEAU_DB} dB in the last {since:.0} s (now {psnr:.2} dB); \
             press Ctrl-C to save and stop"
        );
        self.observer.note(&text);
        self.training.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "plateau", "step": self.training.trainer.step(), "seconds": seconds,
            "psnr": psnr, "for_seconds": since,
        }))
    }
}
