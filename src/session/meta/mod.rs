//! Meta-learns an initialisation from many objects (Reptile). `driver` is the loop, `stream` supplies the images, `evaluate` is
//! `kiln meta-eval`.

mod driver;
mod evaluate;
mod figure;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use evaluate::{MetaEvalOptions, meta_eval};

use super::check::{self, MAX_DOWNSCALE};
use super::fit::diverged;
use super::limits::Limits;
use super::training::{Intervals, Start, Training};
use super::{Error, Observer, ObserverExt, Result, Scale, data, open, resolve};
use crate::checkpoint::Checkpoint;
use crate::config::{Budget, ConfigOptions, Meta, ResolvedConfig};
use crate::dataset::{Objects, OpenOptions, Splits};
use crate::gpu::{AdapterClass, Gpu};
use crate::run::RunDir;
use crate::text::bytes;
use crate::train::{plan, size_network_grids};
use driver::MetaTraining;
use stream::Stream;

/// Options of meta-learning: objects, method and limits.
#[derive(Debug, Clone)]
pub struct MetaOptions {
    /// Folder of objects. If `None`, that of the resumed run.
    pub root: Option<PathBuf>,
    /// JSON file that lists the folders of the splits `train` and `test`. If `None`, the only `*_splits.json` in `root`.
    pub splits: Option<PathBuf>,
    /// Without a splits file: fraction of the folders to train on, the first by name.
    pub train_fraction: Option<f64>,
    /// The configuration; where it names none, `learnit`, or `learnit-small` on a software adapter.
    pub config: ConfigOptions,
    /// Run directory to create. If `None`, `runs/<root>-<method>`.
    pub out: Option<PathBuf>,
    /// Run to continue, with its own configuration.
    pub resume: Option<PathBuf>,
    /// Limit of outer steps, counted from the start of the run.
    pub steps: Option<u32>,
    /// Limit of seconds of training, counted from the start of the run.
    pub seconds: Option<f64>,
    /// Factor to shrink the images by.
    pub downscale: Option<u32>,
    /// Whether to rotate images by their EXIF orientation.
    pub apply_orientation: bool,
    /// Seconds of training between checkpoints.
    pub checkpoint_every: f64,
    /// Whether to write event files for `TensorBoard`.
    pub tensorboard: bool,
    /// Whether to overwrite an existing run.
    pub overwrite: bool,
    /// Command line that repeats this, for the run's log and report; empty if there is none.
    pub command: String,
}

impl Default for MetaOptions {
    fn default() -> Self {
        Self {
            root: None,
            splits: None,
            train_fraction: None,
            config: ConfigOptions::default(),
            out: None,
            resume: None,
            steps: None,
            seconds: None,
            downscale: None,
            apply_orientation: false,
            checkpoint_every: 60.0,
            tensorboard: false,
            overwrite: false,
            command: String::new(),
        }
    }
}

impl MetaOptions {
    /// Return options that train on the objects in `root`, with defaults for everything else.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Some(root.into()),
            ..Self::default()
        }
    }

    /// Check the values of the options. [`meta`] does so too; this needs no device.
    ///
    /// # Errors
    /// [`Error::Usage`] if a value is out of range, or neither a folder nor a run is named.
    pub fn check(&self) -> Result<()> {
        check::positive("--seconds", self.seconds)?;
        check::positive("--checkpoint-every", Some(self.checkpoint_every))?;
        check::in_range("--downscale", self.downscale, &(1..=MAX_DOWNSCALE))?;
        let method = ("--method", self.config.method.is_some());
        let config = ("--config", self.config.file.is_some());
        let splits = ("--splits", self.splits.is_some());
        let fraction = ("--train-fraction", self.train_fraction.is_some());
        check::at_most_one(&[method, config])?;
        check::at_most_one(&[splits, fraction])?;
        check::excludes(
            ("--resume", self.resume.is_some()),
            &[
                method,
                config,
                splits,
                fraction,
                ("--set", !self.config.overrides.is_empty()),
                ("--seed", self.config.seed.is_some()),
                ("--downscale", self.downscale.is_some()),
                ("--apply-orientation", self.apply_orientation),
                ("--out", self.out.is_some()),
                ("--force", self.overwrite),
            ],
        )?;
        if let Some(share) = self.train_fraction.filter(|f| !(*f > 0.0 && *f <= 1.0)) {
            return Err(Error::usage(format!(
                "--train-fraction {share}: give a fraction above 0, up to 1"
            )));
        }
        if self.root.is_none() && self.resume.is_none() {
            return Err(Error::usage(
                "no ROOT given: name a folder with one folder per object, or give --resume RUN",
            ));
        }
        Ok(())
    }
}

/// Default limits: outer steps on a GPU, seconds on a software adapter.
const DEFAULT_STEPS: u32 = 20_000;
const DEFAULT_SECONDS: f64 = 900.0;

/// A prepared run, before anything is uploaded to the device.
struct Setup {
    objects: Objects,
    config: ResolvedConfig,
    dir: RunDir,
    opening: OpenOptions,
    checkpoint: Option<Checkpoint>,
}

impl Setup {
    fn meta(&self) -> &Meta {
        // `begin` and `resume` both ensure that it is there.
        self.config.meta.as_ref().unwrap_or_else(|| unreachable!())
    }
}

/// Open the objects in `root`, and warn of those that are left out.
fn open_objects(
    observer: &dyn Observer,
    root: &Path,
    splits: &Splits,
    opening: OpenOptions,
) -> Result<Objects> {
    let objects = Objects::open(root, splits, opening)?;
    for skipped in &objects.skipped {
        observer.warn(format!("{} is left out: {}", skipped.name, skipped.reason));
    }
    let [w, h] = objects.size;
    for object in objects.train.iter().chain(&objects.test) {
        let missing = &object.dataset.missing;
        if let Some(first) = missing.first() {
            observer.warn(format!(
                "{}: {} listed images are absent and left out, the first {}",
                object.name,
                missing.len(),
                first.display()
            ));
        }
    }
    observer.note(format!(
        "objects: {}, {} for training, {} held out, up to {} views of {w}×{h}",
        objects.name,
        objects.train.len(),
        objects.test.len(),
        objects.most_views(),
    ));
    Ok(objects)
}

/// The splits that a run was trained with.
fn splits_of(meta: &Meta) -> Splits {
    match (&meta.splits, meta.train_fraction) {
        (Some(file), _) => Splits::File(PathBuf::from(file)),
        (None, Some(share)) => Splits::Fraction(share),
        (None, None) => Splits::Found,
    }
}

fn begin(observer: &dyn Observer, options: &MetaOptions, gpu: &Gpu) -> Result<Setup> {
    let root = options.root.clone().unwrap_or_default();
    let small = gpu.class() == AdapterClass::Software;
    let default = Budget::from(gpu.class()).preset("learnit");
    let mut config = options.config.load_with_meta(&default)?;
    if !options.config.names_method() && small {
        resolve::note_small_method(observer, &config, "learnit");
    }
    let opening = OpenOptions::default().or(options.downscale, options.apply_orientation);
    let splits = match (&options.splits, options.train_fraction) {
        (Some(file), _) => Splits::File(file.clone()),
        (None, Some(share)) => Splits::Fraction(share),
        (None, None) => Splits::Found,
    };
    let objects = open_objects(observer, &root, &splits, opening)?;
    size_network_grids(gpu.profile(), &mut config)?;
    if let Some(meta) = &mut config.meta {
        meta.splits = options.splits.as_deref().map(data::absolute);
        meta.train_fraction = options.train_fraction;
    }
    let config = resolve::resolve(observer, config, &mut objects.scene(), gpu.class());
    let dir = options.out.as_deref().map_or_else(
        || RunDir::default_for(&objects.name, &config.method),
        RunDir::at,
    );
    dir.check_free(options.overwrite)?;
    Ok(Setup {
        objects,
        config,
        dir,
        opening,
        checkpoint: None,
    })
}

/// Open the objects that `checkpoint` was trained on, or those in the folder that is given with a flag.
fn objects_of(
    observer: &dyn Observer,
    run: &Path,
    checkpoint: &Checkpoint,
    (flag, given): (&str, Option<&Path>),
    opening: OpenOptions,
) -> Result<Objects> {
    let info = &checkpoint.info;
    let Some(meta) = &info.config.meta else {
        return Err(Error::usage(format!(
            "{} is a run of one scene: give one made by kiln meta",
            run.display()
        )));
    };
    if given.is_none() && info.is_imported() {
        return Err(Error::usage(format!(
            "{} was imported and has no objects: give a folder of objects with {flag}",
            run.display()
        )));
    }
    let remembered = PathBuf::from(&info.dataset);
    let root = given.unwrap_or(&remembered);
    if !root.exists() {
        return Err(Error::usage(format!(
            "{} was trained on the objects in {}: {} does not exist; give their new path with {flag}",
            run.display(),
            info.dataset,
            root.display()
        )));
    }
    open_objects(observer, root, &splits_of(meta), opening)
}

fn resume(observer: &dyn Observer, options: &MetaOptions, run: &Path) -> Result<Setup> {
    let dir = RunDir::of(run);
    let checkpoint = open::open_to_resume(observer, run)?;
    let root = ("ROOT", options.root.as_deref());
    let objects = objects_of(observer, run, &checkpoint, root, checkpoint.info.opening())?;
    // An imported run has no fingerprint.
    let known = &checkpoint.info.fingerprint;
    if !known.is_empty() && objects.fingerprint() != *known {
        return Err(Error::usage(format!(
            "the objects in {} are not those that {} was trained on: give the same ROOT, with the same splits",
            objects.root.display(),
            run.display()
        )));
    }
    let inner = checkpoint
        .info
        .config
        .meta
        .as_ref()
        .map_or(1, |m| m.inner_steps);
    observer.note(format!(
        "resuming {} at outer step {} after {:.1} s",
        run.display(),
        checkpoint.info.step / inner,
        checkpoint.info.train_seconds
    ));
    Ok(Setup {
        objects,
        config: checkpoint.info.config.clone(),
        dir,
        opening: checkpoint.info.opening(),
        checkpoint: Some(checkpoint),
    })
}

fn limits(options: &MetaOptions, gpu: &Gpu) -> Limits {
    let default = match gpu.class() {
        AdapterClass::Software => (u32::MAX, DEFAULT_SECONDS),
        _ => (DEFAULT_STEPS, f64::INFINITY),
    };
    Limits::given((options.steps, options.seconds), default)
}

/// Meta-learn an initialisation, save it and evaluate it on held-out objects. Return the run directory.
///
/// # Errors
/// [`Error::Usage`] if the options are invalid or do not fit the run, [`Error::Cancelled`] if the observer cancels (a
/// checkpoint is saved once training has started), another [`Error`] if the objects or the run cannot be read, a file cannot be
/// written, or the device fails.
pub fn meta(gpu: &Arc<Gpu>, options: &MetaOptions, observer: &dyn Observer) -> Result<RunDir> {
    options.check()?;
    let limits = limits(options, gpu);
    let setup = match &options.resume {
        Some(run) => resume(observer, options, run)?,
        None => begin(observer, options, gpu)?,
    };
    let objects = &setup.objects;
    let plan = plan(gpu.profile(), &setup.config)?;
    let (slots, slot_bytes) = stream::slots(&setup.config, &objects.train);
    let image_bytes = u64::from(slots) * slot_bytes;
    let kept = if slots as usize > objects.train.len() {
        "all objects stay on the device".to_owned()
    } else {
        let n = slots - 1;
        format!("{n} objects at a time, the others are read again when needed")
    };
    observer.note(format!(
        "memory: about {} on the device ({} images: {kept}; {} parameters, {} batch, {} rendering)",
        bytes(image_bytes + plan.total_bytes()),
        bytes(image_bytes),
        bytes(plan.parameter_bytes),
        bytes(plan.batch_bytes),
        bytes(plan.rendering_bytes),
    ));
    observer.note(format!(
        "meta-learning an initialisation of {} into {} for {}: {} steps on each object",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe().replace("steps", "outer steps"),
        setup.meta().inner_steps,
    ));
    let _listener = observer.listen_for_cancel();
    let _reservation = setup.dir.reserve()?;
    let _lock = setup.dir.lock()?;

    let started = Instant::now();
    let mut stream = Stream::new(gpu, &setup.config, &objects.train, objects.most_views())?;
    let done = setup.checkpoint.as_ref().map_or(0, |c| c.info.step);
    let first = done / setup.meta().inner_steps;
    stream.seek(first);
    if let Some(checkpoint) = &setup.checkpoint {
        stream.restore_fingerprints(&checkpoint.info.image_fingerprint);
    }
    let bar = observer.task("loading images", Scale::Count(objects.train.len() as u64));
    stream.fill(observer, &|| bar.increment())?;
    stream.prepare(first)?;
    drop(bar);
    observer.check()?;
    let loading = started.elapsed().as_secs_f64();

    // Tasks are assigned, so warming up has images to draw rays from.
    let start = Start {
        dir: &setup.dir,
        config: &setup.config,
        images: &stream.set,
        teacher: None,
        dataset: (&objects.root, &objects.name, setup.opening.downscale),
        command: &options.command,
        resumed: setup.checkpoint.as_ref().map(|_| done),
        tensorboard: options.tensorboard,
        limits,
        intervals: Intervals {
            preview: driver::PREVIEW_EVERY,
            save: options.checkpoint_every,
        },
        load_seconds: loading,
    };
    let training = Training::start(observer, gpu, &start, |trainer| match &setup.checkpoint {
        Some(checkpoint) => Ok(checkpoint.restore(gpu, trainer)?),
        None => Ok(()),
    })?;
    let mut driver = MetaTraining::new(observer, &setup, stream, training);
    driver.run().map_err(|error| diverged(error, &setup.dir))?;
    Ok(setup.dir.clone())
}
