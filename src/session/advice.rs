//! Explains paths that name something else than a command needs: a run instead of a dataset, a dataset instead of a run, or
//! nothing.

use std::path::{Path, PathBuf};

use super::Error;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dataset::{self, DatasetError};
use crate::run::is_run;

/// Maximum number of runs that an error names.
const MAX_NAMED: usize = 5;

/// Return `error` of opening the dataset at `path`, or one that says that the path is a run.
pub(crate) fn not_a_dataset(path: &Path, error: DatasetError) -> Error {
    let is_elsewhere = matches!(
        error,
        DatasetError::NotADataset { .. } | DatasetError::UnsupportedFormat { .. }
    );
    if is_elsewhere && is_run(path) {
        let run = path.display();
        return Error::usage(format!(
            "{run} is a run, not a dataset: to continue its training, kiln train --resume {run}; to look at it, kiln view {run}; \
             to train a new one, give the folder of images"
        ));
    }
    let inside = runs_in(path);
    if is_elsewhere && !inside.is_empty() {
        return Error::usage(format!(
            "{} is not a dataset, but holds runs: {}; to continue one, kiln train --resume RUN",
            path.display(),
            inside.join(", ")
        ));
    }
    error.into()
}

/// Open the checkpoint of the run at `path`.
///
/// # Errors
/// [`Error::Usage`] if the path is a dataset or a folder of runs, or if it does not exist but other runs do; else as [`Checkpoint::open`].
pub(crate) fn open_checkpoint(path: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(path).map_err(|error| match error {
        CheckpointError::NotARun { .. } => not_a_run(path, error),
        error => error.into(),
    })
}

fn not_a_run(path: &Path, error: CheckpointError) -> Error {
    let shown = path.display();
    if let Some(error) = dataset::url_error(path) {
        return error.into();
    }
    if dataset::is_dataset(path) {
        return Error::usage(format!(
            "{shown} is a dataset, not a run: train it first, with kiln train {shown}"
        ));
    }
    let inside = runs_in(path);
    if !inside.is_empty() {
        return Error::usage(format!(
            "{shown} is not a run, but holds runs: {}",
            inside.join(", ")
        ));
    }
    if path.exists() {
        return error.into();
    }
    // Default names of runs lie in runs/.
    let parent = path.parent().unwrap_or(Path::new(""));
    let mut nearby = runs_in(parent);
    if nearby.is_empty() && parent != Path::new("runs") {
        nearby = runs_in(Path::new("runs"));
    }
    if nearby.is_empty() {
        return error.into();
    }
    Error::usage(format!(
        "{shown}: no such run; there are {}",
        nearby.join(", ")
    ))
}

/// Return the runs in `folder` as paths, the newest first: at most [`MAX_NAMED`], then a count of the others.
fn runs_in(folder: &Path) -> Vec<String> {
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = here.read_dir().into_iter().flatten().flatten();
    let mut runs: Vec<_> = entries
        .filter(|entry| entry.path().is_dir() && is_run(&entry.path()))
        .map(|entry| {
            let checkpoint = entry.path().join("checkpoint.safetensors");
            let saved = checkpoint.metadata().and_then(|m| m.modified()).ok();
            (std::cmp::Reverse(saved), folder.join(entry.file_name()))
        })
        .collect();
    runs.sort();
    let path = |(_, path): &(_, PathBuf)| path.display().to_string();
    let mut named: Vec<String> = runs.iter().take(MAX_NAMED).map(path).collect();
    if runs.len() > MAX_NAMED {
        named.push(format!("and {} more", runs.len() - MAX_NAMED));
    }
    named
}
