//! Opens datasets and loads images, with notes and warnings.

use std::path::{Path, PathBuf};

use super::views::{self, Selection};
use super::{Error, Observer, ObserverExt, Result, Scale, advice};
use crate::checkpoint::Checkpoint;
use crate::dataset::{Dataset, FileIdentity, Frame, Image, OpenOptions, Split, load_with_contents};
use crate::gpu::{AdapterClass, Gpu};
use crate::run::RunDir;

/// Default number of evaluation views on a software adapter.
const VIEWS_ON_SOFTWARE: usize = 25;

/// Return the frames that `views` selects. If it is `None`, return all of them, or 25 on a software adapter.
pub(crate) fn select_eval_frames(
    gpu: &Gpu,
    frames: &[Frame],
    views: Option<&Selection>,
) -> Result<Vec<Frame>> {
    let n = match views {
        Some(Selection::Indices(parts)) => {
            let views = views::indices(parts, "--eval-views", frames.len(), "the split")?;
            return Ok(views.into_iter().map(|i| frames[i].clone()).collect());
        }
        Some(Selection::Number(0)) => {
            return Err(Error::usage(
                "--eval-views 0: a single number is the number of views; give 1 or more, `all`, or indices such as 0,5 or 0-0",
            ));
        }
        Some(Selection::Number(n)) => *n,
        None if gpu.class() == AdapterClass::Software => VIEWS_ON_SOFTWARE,
        Some(Selection::All) | None => frames.len(),
    };
    let n = n.min(frames.len());
    Ok((0..n)
        .map(|i| frames[i * frames.len() / n].clone())
        .collect())
}

/// Make `path` absolute, so that it stays valid when the program is started in another folder.
pub(crate) fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.display().to_string()
}

/// Open a dataset and pass on its warnings.
pub(crate) fn open_dataset(
    observer: &dyn Observer,
    path: &Path,
    opening: OpenOptions,
) -> Result<Dataset> {
    let dataset =
        Dataset::open_with(path, opening).map_err(|error| advice::not_a_dataset(path, error))?;
    report_dataset(observer, &dataset);
    Ok(dataset)
}

fn report_dataset(observer: &dyn Observer, dataset: &Dataset) {
    for warning in &dataset.warnings {
        observer.warn(warning);
    }
    observer.note(format!(
        "dataset: {} ({}), {} training, {} validation, {} test views{}{}",
        dataset.name,
        described_format(dataset),
        dataset.train.len(),
        dataset.val.len(),
        dataset.test.len(),
        if dataset.missing.is_empty() {
            String::new()
        } else {
            format!(", {} images missing and left out", dataset.missing.len())
        },
        match dataset.n_masks() {
            0 => String::new(),
            n => format!(", {n} with masks, whose hidden pixels are not used"),
        },
    ));
}

/// Return the format, with its variant.
pub(crate) fn described_format(dataset: &Dataset) -> String {
    if dataset.variant.is_empty() {
        dataset.format.to_string()
    } else {
        format!("{}, {}", dataset.format, dataset.variant)
    }
}

/// Decode images with a progress bar. Return them, and the [`FileIdentity`] of each file, which identifies its bytes.
pub(crate) fn load(
    observer: &dyn Observer,
    frames: &[Frame],
    downscale: u32,
    what: &'static str,
) -> Result<(Vec<Image>, Vec<FileIdentity>)> {
    let bar = observer.task(what, Scale::Count(frames.len() as u64));
    let loaded = load_with_contents(frames, downscale, &|| bar.increment())?;
    drop(bar);
    Ok(loaded)
}

/// Warn that image files have changed since the run in `dir` was trained, though their cameras have not. `whose` names the
/// images and ends with "are".
pub(crate) fn warn_of_other_images(observer: &dyn Observer, dir: &RunDir, whose: &str) {
    observer.warn(format!("{whose} not those that {} was trained on so far: their files have changed, but not their cameras; training \
         continues with the new images, which the next checkpoint records (to use them from the start, train a new run)",
        dir.path().display()
    ));
}

/// Warn that held-out images have changed since the run in `dir` was last evaluated.
pub(crate) fn warn_of_other_held_out(observer: &dyn Observer, dir: &RunDir, dataset: &Path) {
    observer.warn(format!("the held-out images in {} are not those that {} was evaluated on so far: their files have changed; new \
         metrics cannot be compared with earlier ones",
        dataset.display(),
        dir.path().display()
    ));
}

/// Open the dataset of a run with the split that the run was trained with: if the files define no split, all views that the run
/// was not trained on are held out.
pub(crate) fn dataset_of(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    given: Option<&Path>,
    opening: OpenOptions,
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

/// Open the dataset of a run, with all its views: at `given`, or else where the run was trained.
pub(crate) fn whole_dataset_of(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    given: Option<&Path>,
    opening: OpenOptions,
) -> Result<Dataset> {
    let trained_at = PathBuf::from(&checkpoint.info.dataset);
    let path = given.unwrap_or(&trained_at);
    if given.is_none() && checkpoint.info.is_imported() {
        return Err(Error::usage(
            "the run was imported and has no dataset: give one with --dataset",
        ));
    }
    if given.is_none() && checkpoint.info.config.meta.is_some() {
        return Err(Error::usage(format!(
            "the run is an initialisation, meta-learned from the objects in {}: evaluate it with kiln meta-eval, or give an object \
             with --dataset",
            path.display()
        )));
    }
    if given.is_none() && !path.exists() {
        return Err(Error::usage(format!(
            "the run was trained on {}, which does not exist: give its new path with --dataset",
            path.display()
        )));
    }
    open_dataset(observer, path, opening)
}

/// Warn if `dataset` is not the one that a run was trained on.
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

/// Warn if the image files of `split` have changed since a run was trained or evaluated on them, though the cameras have not.
pub(crate) fn warn_of_changed_images(
    observer: &dyn Observer,
    checkpoint: &Checkpoint,
    dataset: &Dataset,
    split: Split,
) -> Result<()> {
    let info = &checkpoint.info;
    let (known, what) = match split {
        Split::Train => (&info.image_fingerprint, "trained"),
        Split::Test => (&info.held_out_fingerprint, "evaluated"),
        Split::Val => return Ok(()),
    };
    // A meta-learned run stores a fingerprint for each object instead.
    if known.is_empty() || info.config.meta.is_some() || info.fingerprint != dataset.fingerprint() {
        return Ok(());
    }
    let contents = FileIdentity::of_images(dataset.frames(split))?;
    if *known != FileIdentity::fingerprint(&contents) {
        observer.warn(format!("the {split} images in {} are not those that the run was {what} on: their files have changed",
            dataset.root.display()
        ));
    }
    Ok(())
}
