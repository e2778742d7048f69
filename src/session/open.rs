//! Opens runs for rendering, evaluation or resuming.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, Observer, ObserverExt, Result, advice};
use crate::checkpoint::Checkpoint;
use crate::config::Background;
use crate::gpu::Gpu;
use crate::render::Renderer;
use crate::run::{CopyFault, RunDir};

/// A run opened for rendering.
pub(crate) struct OpenRun {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) renderer: Renderer,
}

/// Open the checkpoint to render of the run at `path`, and warn if the run's `config.toml` differs from it.
pub(crate) fn open_checkpoint(observer: &dyn Observer, path: &Path) -> Result<Checkpoint> {
    let rendered = rendered(path);
    if rendered != path {
        observer.note(format!(
            "{}: using its distilled field, since fine-tuning made it worse",
            path.display()
        ));
    }
    let checkpoint = advice::open_checkpoint(&rendered)?;
    if let Some(fault) = fault_of_copy(path, &checkpoint) {
        observer.warn(fault);
    }
    Ok(checkpoint)
}

/// Return the path of the checkpoint to render of the run at `path`: `path` itself, unless a better one is kept.
pub(crate) fn rendered(path: &Path) -> PathBuf {
    let best = RunDir::of(path).best();
    if path.is_dir() && best.is_file() {
        best
    } else {
        path.to_owned()
    }
}

/// Open the checkpoint of a run to resume; the warning says that `config.toml` will be rewritten.
pub(crate) fn open_to_resume(observer: &dyn Observer, path: &Path) -> Result<Checkpoint> {
    let dir = RunDir::of(path);
    if !dir.is(path) {
        return Err(Error::usage(format!(
            "--resume {}: give a run directory; to use this file, put it into a new folder as checkpoint.safetensors",
            path.display()
        )));
    }
    let checkpoint = advice::open_checkpoint(path)?;
    if let Some(fault) = dir.config_mismatch(&checkpoint.info.config) {
        observer.warn(format!("{}; it is a copy for reading: a resumed run uses the configuration in its checkpoint, and the file is \
             rewritten (to use another configuration, train a new run with --config)",
            name_fault(&dir, &fault)
        ));
    }
    Ok(checkpoint)
}

/// Describe how the `config.toml` beside the checkpoint at `path` differs from it, and what to do about it.
pub(crate) fn fault_of_copy(path: &Path, checkpoint: &Checkpoint) -> Option<String> {
    let dir = RunDir::of(path);
    // Other checkpoint files in the directory may have other configurations.
    let fault = dir
        .is(path)
        .then(|| dir.config_mismatch(&checkpoint.info.config))??;
    let way_out = match &fault {
        CopyFault::Changed => format!(
            "to use the file, train a new run: kiln train DATASET --config {}",
            dir.config().display()
        ),
        CopyFault::Unreadable(_) => "the file is not needed: remove it".to_owned(),
    };
    Some(format!(
        "{}; it is a copy for reading, and the configuration in the checkpoint is used ({way_out})",
        name_fault(&dir, &fault)
    ))
}

fn name_fault(dir: &RunDir, fault: &CopyFault) -> String {
    match fault {
        CopyFault::Changed => format!("{} was changed", dir.config().display()),
        CopyFault::Unreadable(reason) => reason.clone(),
    }
}

/// Open the run at `path`, with another background if one is given.
pub(crate) fn open_run(
    observer: &dyn Observer,
    gpu: &Arc<Gpu>,
    path: &Path,
    background: Option<Background>,
) -> Result<OpenRun> {
    open_loaded(gpu, open_checkpoint(observer, path)?, background)
}

/// Make a renderer for `checkpoint`, with another background if one is given.
pub(crate) fn open_loaded(
    gpu: &Arc<Gpu>,
    checkpoint: Checkpoint,
    background: Option<Background>,
) -> Result<OpenRun> {
    let of_run = &checkpoint.info.config;
    let config = of_run.with(|config| {
        config.scene.eval_background = background.unwrap_or(config.scene.eval_background);
    });
    let occupancy = checkpoint.load_occupancy(gpu)?;
    let renderer = Renderer::new(gpu, &config, occupancy.as_ref())?;
    let fields: Vec<_> = renderer.fields().collect();
    checkpoint.load_parameters(gpu, &fields, &renderer.parameters)?;
    drop(fields);
    Ok(OpenRun {
        checkpoint,
        renderer,
    })
}

/// Check that `--background` of evaluation and rendering is one colour.
pub(crate) fn one_background(background: Option<Background>) -> Result<Option<Background>> {
    match background {
        Some(other @ (Background::Random | Background::Auto(_))) => Err(Error::usage(format!(
            "--background {other}: give one colour: white, black or #rrggbb",
        ))),
        other => Ok(other),
    }
}
