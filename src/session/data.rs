//! Datasets and their images, opened for a session.

use std::path::{Path, PathBuf};

use super::views::{self, Selection};
use super::{Error, Observer, ObserverExt, Result, Scale};
use crate::checkpoint::Checkpoint;
use crate::dataset::{Content, Dataset, Frame, Image, Opening, Split, load_with_contents};
use crate::gpu::{AdapterClass, Gpu};
use crate::run::RunDir;

/// Views on a slow adapter where none are asked for.
const VIEWS_ON_SOFTWARE: usize = 25;

/// The frames that `views` picks; without it all of them, or 25 on a software adapter.
pub(crate) fn pick(
    observer: &dyn Observer,
    gpu: &Gpu,
    frames: &[Frame],
    views: Option<&Selection>,
) -> Result<Vec<Frame>> {
    let n = match views {
        Some(Selection::These(parts)) => {
            let views = views::indices(parts, "--eval-views", frames.len(), "the split")?;
            return Ok(views.into_iter().map(|i| frames[i].clone()).collect());
        }
        Some(Selection::Number(0)) => {
            return Err(Error::usage(
                "--eval-views 0: one number says how many views; give 1 or more, `all`, or indices such as 0,5 or 0-0",
            ));
        }
        Some(Selection::Number(n)) => *n,
        None if gpu.class() == AdapterClass::Software && frames.len() > VIEWS_ON_SOFTWARE => {
            observer.note(format!(
                "evaluating {VIEWS_ON_SOFTWARE} of {} views on this software adapter (--eval-views chooses)",
                frames.len()
            ));
            VIEWS_ON_SOFTWARE
        }
        Some(Selection::All) | None => frames.len(),
    };
    let n = n.min(frames.len());
    Ok((0..n)
        .map(|i| frames[i * frames.len() / n].clone())
        .collect())
}

/// Where `path` is, wherever the program is started the next time.
pub(crate) fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.display().to_string()
}

/// Open a dataset, and repeat its warnings.
pub(crate) fn open_dataset(
    observer: &dyn Observer,
    path: &Path,
    opening: Opening,
) -> Result<Dataset> {
    let dataset = Dataset::open_with(path, opening)?;
    tell(observer, &dataset);
    Ok(dataset)
}

fn tell(observer: &dyn Observer, dataset: &Dataset) {
    for warning in &dataset.warnings {
        observer.warn(warning);
    }
    observer.note(format!(
        "dataset: {} ({}), {} training, {} validation, {} test views{}",
        dataset.name,
        dataset.format,
        dataset.train.len(),
        dataset.val.len(),
        dataset.test.len(),
        if dataset.missing.is_empty() {
            String::new()
        } else {
            format!(", {} images missing and left out", dataset.missing.len())
        },
    ));
}

/// Decode images under a bar; with what tells their files from others.
pub(crate) fn load(
    observer: &dyn Observer,
    frames: &[Frame],
    downscale: u32,
    what: &'static str,
) -> Result<(Vec<Image>, Vec<Content>)> {
    let bar = observer.task(what, Scale::Count(frames.len() as u64));
    let loaded = load_with_contents(frames, downscale, &|| bar.increment())?;
    drop(bar);
    Ok(loaded)
}

/// Say that images are not those that the run in `dir` was trained on before, though their cameras are.
pub(crate) fn warn_of_other_images(observer: &dyn Observer, dir: &RunDir, whose: &str) {
    observer.warn(format!("{whose} not those that {} was trained on so far: their files changed, their cameras did not; it goes on \
         with them, and remembers them from its next checkpoint on (to have them from the start, train anew)",
        dir.path().display()
    ));
}

/// Say that held-out images are not those that the run in `dir` was measured on before.
pub(crate) fn warn_of_other_held_out(observer: &dyn Observer, dir: &RunDir, dataset: &Path) {
    observer.warn(format!("the images held out in {} are not those that {} was measured on so far: their files changed; what is measured \
         from now on does not compare with what was before",
        dataset.display(),
        dir.path().display()
    ));
}

/// The dataset of a run as that was trained on it: all views but those it saw are held out, where nothing else says which.
pub(crate) fn dataset_of(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    given: Option<&Path>,
    opening: Opening,
) -> Result<Dataset> {
    let mut dataset = whole_dataset_of(observer, checkpoint, given, opening)?;
    let views = &checkpoint.info.train_views;
    if dataset.is_held_out
        && !views.is_empty()
        && dataset.fingerprint() == checkpoint.info.fingerprint
    {
        dataset.restrict_train(views)?;
    }
    Ok(dataset)
}

/// The dataset of a run: `given`, else where it was trained.
pub(crate) fn whole_dataset_of(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    given: Option<&Path>,
    opening: Opening,
) -> Result<Dataset> {
    let remembered = PathBuf::from(&checkpoint.info.dataset);
    let path = given.unwrap_or(&remembered);
    if given.is_none() && checkpoint.info.is_imported() {
        return Err(Error::usage(
            "the run was imported and knows no images: give a dataset with --dataset",
        ));
    }
    if given.is_none() && checkpoint.info.config.meta.is_some() {
        return Err(Error::usage(format!(
            "the run learned what to begin with, from the objects in {}: kiln meta-eval measures it, and eval and render take an \
             object with --dataset",
            path.display()
        )));
    }
    if given.is_none() && !path.exists() {
        return Err(Error::usage(format!(
            "the run was trained on {}, which is not there: give its place with --dataset",
            path.display()
        )));
    }
    open_dataset(observer, path, opening)
}

/// Say where `dataset` is not the one that a run was trained on.
pub(crate) fn warn_of_other_views(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    dataset: &Dataset,
) {
    let trained_on = &checkpoint.info.fingerprint;
    if !trained_on.is_empty() && *trained_on != dataset.fingerprint() {
        observer.warn(format!(
            "{} is not the dataset that the run was trained on ({}): their cameras differ",
            dataset.root.display(),
            checkpoint.info.dataset
        ));
    }
}

/// Say where the images of `split` are not those that a run was trained or measured on, though their cameras are.
pub(crate) fn warn_of_changed_images(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    dataset: &Dataset,
    split: Split,
) -> Result<()> {
    let info = &checkpoint.info;
    let (known, what) = match split {
        Split::Train => (&info.image_fingerprint, "trained"),
        Split::Test => (&info.held_out_fingerprint, "measured"),
        Split::Val => return Ok(()),
    };
    // What learned from many objects knows the images of each.
    if known.is_empty() || info.config.meta.is_some() || info.fingerprint != dataset.fingerprint() {
        return Ok(());
    }
    let contents = Content::of_images(dataset.frames(split))?;
    if *known != Content::fingerprint(&contents) {
        observer.warn(format!("the {split} images in {} are not those that the run was {what} on: their files changed",
            dataset.root.display()
        ));
    }
    Ok(())
}
