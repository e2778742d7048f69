//! Summarises a run and verifies its checkpoint.

use std::path::Path;

use super::super::Terminal;
use crate::checkpoint::Checkpoint;
use crate::run::RunDir;
use crate::session::run_log::SCHEMA;
use crate::session::{ObserverExt as _, Result};
use crate::session::{evaluate, open};
use crate::text::bytes;
use crate::text::counted;

pub(super) fn inspect(terminal: &Terminal, path: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    let gpu = crate::gpu::Gpu::open(&terminal.options)?;
    let contents = checkpoint.verify(&gpu)?;
    let dir = RunDir::of(path);
    let info = &checkpoint.info;
    let mut warnings = Vec::new();
    warnings.extend(open::fault_of_copy(path, &checkpoint));
    let eval = evaluate::stored(&dir);
    let rendered = open::rendered(path);
    let kept = (rendered != path).then(|| Checkpoint::open(&rendered));
    let kept = kept.transpose()?.map(|checkpoint| checkpoint.info.step);
    let shown = kept.unwrap_or(info.step);
    if let Some(eval) = eval.as_ref().filter(|e| e.steps != shown) {
        warnings.push(format!(
            "eval.json is of step {}, not of this checkpoint: run kiln eval {}",
            eval.steps,
            path.display()
        ));
    }
    let imported = info.is_imported();
    if !imported && !Path::new(&info.dataset).exists() {
        warnings.push(format!(
            "its dataset {} does not exist: give the new path to train --resume, eval and render",
            info.dataset
        ));
    }
    let line = |what: &str, text: String| terminal.result(format!("  {what:11} {text}"));
    terminal.result(format!(
        "{}: {} run",
        dir.path().display(),
        info.config.method
    ))?;
    line(
        "trained",
        match (imported, &info.config.meta) {
            (true, _) => "by another program, and imported".to_owned(),
            (false, Some(meta)) => format!(
                "an initialisation, {} of {} each in {:.1} s on {}",
                counted(info.step / meta.inner_steps, "outer step"),
                counted(meta.inner_steps, "step"),
                info.train_seconds,
                info.device
            ),
            (false, None) => format!(
                "{} in {:.1} s on {}",
                counted(info.step, "step"),
                info.train_seconds,
                info.device
            ),
        },
    )?;
    line(
        "dataset",
        match (imported, info.downscale) {
            (true, _) => "unknown: give one to train --resume, eval and render".to_owned(),
            (false, 1) => info.dataset.clone(),
            (false, k) => format!("{}, downscaled by {k}", info.dataset),
        },
    )?;
    line(
        "checkpoint",
        format!(
            "{}, {} tensors, {} parameters, every value finite{}",
            bytes(contents.bytes),
            contents.tensors,
            contents.parameters,
            if contents.resumable {
                ""
            } else {
                "; parameters only, which can initialise a training"
            }
        ),
    )?;
    line(
        "scene",
        format!(
            "background {}, evaluated over {}",
            info.config.scene.background, info.config.scene.eval_background
        ),
    )?;
    if let Some(step) = kept {
        line(
            "rendered",
            format!("its distilled field, of step {step}: fine-tuning made it worse"),
        )?;
    }
    if dir.distilled().is_file() {
        line(
            "distilled",
            "the field after the distillation is kept until fine-tuning is over".to_owned(),
        )?;
    }
    if let Some(eval) = &eval {
        line(
            "measured",
            format!(
                "{} PSNR {:.2} dB over {} views, background {}",
                eval.split, eval.psnr, eval.views, eval.background
            ),
        )?;
    }
    for warning in &warnings {
        terminal.result(format!("  warning     {warning}"))?;
    }
    let mut names = contents.tensor_names.clone();
    names.sort();
    for name in &names {
        terminal.detail(format!("  {name}"));
    }
    terminal.json(&serde_json::json!({
        "schema": SCHEMA, "event": "inspect", "path": path.display().to_string(), "method": info.config.method,
        "steps": info.step, "train_seconds": info.train_seconds, "device": info.device, "dataset": info.dataset,
        "downscale": info.downscale, "train_views": info.train_views, "bytes": contents.bytes,
        "tensors": contents.tensors, "parameters": contents.parameters, "resumable": contents.resumable, "rendered_step": shown,
        "psnr": eval.map(|e| e.psnr), "warnings": warnings, "usable": true,
    }))
}
