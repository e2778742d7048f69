//! Meta-learns an initialisation (Reptile) from many objects. `driver` runs it, `stream` feeds it; `evaluate` measures it.

mod driver;
mod evaluate;
mod figure;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use evaluate::{MetaEvalOptions, meta_eval};

use super::fit::diverged;
use super::journal::{Journal, SCHEMA, Start};
use super::limits::Limits;
use super::training::{Intervals, Training};
use super::{Error, Observer, ObserverExt, Result, Scale, data, open, resolve};
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Meta};
use crate::dataset::{Objects, Opening, Splits};
use crate::gpu::{AdapterClass, Gpu};
use crate::render::Renderer;
use crate::run::RunDir;
use crate::text::bytes;
use crate::train::{Trainer, fit_cells, plan};
use driver::Driver;
use stream::Stream;

/// What to meta-learn from, and for how long.
#[derive(Debug, Clone)]
pub struct MetaOptions {
    /// Folder of objects; with `resume`, that of the run where left out.
    pub root: Option<PathBuf>,
    /// File with the lists `train` and `test` of folders; the one `*_splits.json` in `root` where left out.
    pub splits: Option<PathBuf>,
    /// Share of the folders to learn from, the first by name, where no file says which.
    pub train_fraction: Option<f64>,
    /// Preset; where left out, `learnit`, or `learnit-small` on a software adapter.
    pub method: Option<String>,
    /// Configuration file instead of a preset.
    pub config: Option<PathBuf>,
    /// Values of the configuration to change, as `meta.inner_steps=16`.
    pub overrides: Vec<String>,
    /// Run directory to make; `runs/<root>-<method>` where left out.
    pub out: Option<PathBuf>,
    /// Run to go on with, under its own configuration.
    pub resume: Option<PathBuf>,
    /// Outer steps over the run's life.
    pub steps: Option<u32>,
    /// Seconds of training over the run's life.
    pub seconds: Option<f64>,
    /// Factor to shrink the images by.
    pub downscale: Option<u32>,
    /// Whether to turn images as their EXIF orientation says.
    pub apply_orientation: bool,
    /// Seed of all random numbers; the configuration's where left out.
    pub seed: Option<u32>,
    /// Seconds of training between checkpoints.
    pub checkpoint_every: f64,
    /// Whether to write event files for `TensorBoard`.
    pub tensorboard: bool,
    /// Whether to overwrite an existing run.
    pub overwrite: bool,
    /// What repeats this, for the run's log and report; empty where nothing does.
    pub command: String,
}

impl Default for MetaOptions {
    fn default() -> Self {
        Self {
            root: None,
            splits: None,
            train_fraction: None,
            method: None,
            config: None,
            overrides: Vec::new(),
            out: None,
            resume: None,
            steps: None,
            seconds: None,
            downscale: None,
            apply_orientation: false,
            seed: None,
            checkpoint_every: 60.0,
            tensorboard: false,
            overwrite: false,
            command: String::new(),
        }
    }
}

impl MetaOptions {
    /// Options that learn from the objects in `root` and leave everything else to its default.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Some(root.into()),
            ..Self::default()
        }
    }

    /// Refuse values that no run can be asked for. [`meta`] does so too; this needs no device.
    ///
    /// # Errors
    /// [`Error::Usage`]
    pub fn check(&self) -> Result<()> {
        for (flag, value) in [
            ("--seconds", self.seconds),
            ("--checkpoint-every", Some(self.checkpoint_every)),
        ] {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return Err(Error::usage(format!(
                    "{flag} {value}: give a positive number"
                )));
            }
        }
        if let Some(share) = self.train_fraction.filter(|f| !(*f > 0.0 && *f <= 1.0)) {
            return Err(Error::usage(format!(
                "--train-fraction {share}: give a share above 0, up to 1"
            )));
        }
        if self.root.is_none() && self.resume.is_none() {
            return Err(Error::usage(
                "no ROOT given: name a folder that holds one folder an object, or --resume a run",
            ));
        }
        Ok(())
    }
}

/// Outer steps of a run with no limit given, on a GPU; seconds on a software adapter.
const DEFAULT_STEPS: u32 = 20_000;
const DEFAULT_SECONDS: f64 = 900.0;

/// What a run is made of, before anything is on the device.
struct Setup {
    objects: Objects,
    config: Config,
    dir: RunDir,
    opening: Opening,
    checkpoint: Option<Checkpoint>,
}

impl Setup {
    fn meta(&self) -> &Meta {
        // Both ways that lead here give it one.
        self.config.meta.as_ref().unwrap_or_else(|| unreachable!())
    }
}

/// Open the objects in `root`, and say what was left out.
fn open_objects(
    observer: &dyn Observer,
    root: &Path,
    splits: &Splits,
    opening: Opening,
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
        "objects: {}, {} to learn from, {} held out, up to {} views of {w}×{h}",
        objects.name,
        objects.train.len(),
        objects.test.len(),
        objects.most_views(),
    ));
    Ok(objects)
}

/// The splits that a run was made with.
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
    let default = if small { "learnit-small" } else { "learnit" };
    let chosen = options.config.is_some() || options.method.is_some();
    let method = options.method.as_deref().unwrap_or(default);
    let method = options.config.is_none().then_some(method);
    let (file, overrides) = (options.config.as_deref(), &options.overrides);
    let mut config = resolve::config_with_meta(file, method, overrides, gpu.class())?;
    if !chosen && small {
        observer.note(format!(
            "method: {}, sized for a software adapter (--method learnit for the full one)",
            config.method
        ));
    }
    if let Some(seed) = options.seed {
        config.seed = seed;
    }
    let opening = Opening::default().or(options.downscale, options.apply_orientation);
    let splits = match (&options.splits, options.train_fraction) {
        (Some(file), _) => Splits::File(file.clone()),
        (None, Some(share)) => Splits::Fraction(share),
        (None, None) => Splits::Found,
    };
    let objects = open_objects(observer, &root, &splits, opening)?;
    fit_cells(gpu, &mut config)?;
    resolve::resolve(observer, &mut config, &mut objects.scene(), gpu.class());
    if let Some(meta) = &mut config.meta {
        meta.splits = options.splits.as_deref().map(data::absolute);
        meta.train_fraction = options.train_fraction;
    }
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

/// The objects that the run of `checkpoint` is about, or those in `given`.
fn objects_of(
    observer: &dyn Observer,
    run: &Path,
    checkpoint: &Checkpoint,
    (flag, given): (&str, Option<&Path>),
    opening: Opening,
) -> Result<Objects> {
    let info = &checkpoint.info;
    let Some(meta) = &info.config.meta else {
        return Err(Error::usage(format!(
            "{} is a run of one scene: kiln meta makes one that learns what to begin with",
            run.display()
        )));
    };
    if given.is_none() && info.is_imported() {
        return Err(Error::usage(format!(
            "{} was imported and knows no objects: give their folder with {flag}",
            run.display()
        )));
    }
    let remembered = PathBuf::from(&info.dataset);
    let root = given.unwrap_or(&remembered);
    if !root.exists() {
        return Err(Error::usage(format!(
            "{} was made of the objects in {}: {} is not there; give their place with {flag}",
            run.display(),
            info.dataset,
            root.display()
        )));
    }
    open_objects(observer, root, &splits_of(meta), opening)
}

fn resume(observer: &dyn Observer, options: &MetaOptions, run: &Path) -> Result<Setup> {
    let dir = RunDir::of(run);
    if !dir.is(run) {
        return Err(Error::usage(format!(
            "--resume {}: goes on in a run directory; put the file into one of its own, as checkpoint.safetensors",
            run.display()
        )));
    }
    let checkpoint = open::open_to_resume(observer, run)?;
    let root = ("ROOT", options.root.as_deref());
    let objects = objects_of(observer, run, &checkpoint, root, checkpoint.info.opening())?;
    // What was imported has not learned from any.
    let known = &checkpoint.info.fingerprint;
    if !known.is_empty() && objects.fingerprint() != *known {
        return Err(Error::usage(format!(
            "the objects in {} are not those that {} learned from: give ROOT as it was, with the same splits",
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

/// Meta-learn an initialisation as `options` say, save it and measure it on held-out objects.
///
/// # Errors
/// [`Error`]
pub fn meta(gpu: &Arc<Gpu>, options: &MetaOptions, observer: &dyn Observer) -> Result<()> {
    options.check()?;
    let limits = limits(options, gpu);
    let setup = match &options.resume {
        Some(run) => resume(observer, options, run)?,
        None => begin(observer, options, gpu)?,
    };
    let objects = &setup.objects;
    let plan = plan(gpu, &setup.config)?;
    let (slots, slot_bytes) = stream::slots(&setup.config, &objects.train);
    let image_bytes = u64::from(slots) * slot_bytes;
    let kept = if slots as usize > objects.train.len() {
        "all objects stay on the device".to_owned()
    } else {
        let n = slots - 1;
        format!("{n} objects at a time, the others are read again at their turn")
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
        "learning what {} begins with into {} for {}: {} steps on each object",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe().replace("steps", "outer steps"),
        setup.meta().inner_steps,
    ));
    let _listener = observer.listens();
    let _reservation = setup.dir.reserve()?;
    let _lock = setup.dir.lock()?;

    let started = Instant::now();
    let mut stream = Stream::new(gpu, &setup.config, &objects.train, objects.most_views())?;
    let done = setup.checkpoint.as_ref().map_or(0, |c| c.info.step);
    let first = done / setup.meta().inner_steps;
    stream.seek(first);
    if let Some(checkpoint) = &setup.checkpoint {
        stream.expect(&checkpoint.info.image_fingerprint);
    }
    let bar = observer.task("loading images", Scale::Count(objects.train.len() as u64));
    stream.fill(observer, &|| bar.increment())?;
    stream.prepare(first)?;
    drop(bar);
    observer.check()?;
    let loading = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let spinner = observer.task("compiling shaders", Scale::Unknown);
    // Whatever the first task is about: there is something to draw rays of.
    let mut trainer = Trainer::new(gpu, &setup.config, &stream.set, None)?;
    trainer.warm_up(&stream.set)?;
    if let Some(checkpoint) = &setup.checkpoint {
        checkpoint.restore(gpu, &mut trainer)?;
    }
    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let renderer = Renderer::new(gpu, &setup.config, bits)?;
    drop(spinner);
    observer.check()?;
    let compiling = started.elapsed().as_secs_f64();
    observer.note(format!(
        "loaded in {loading:.1} s, shaders compiled in {compiling:.1} s"
    ));

    let resumed = setup.checkpoint.as_ref().map(|_| done);
    let config = &setup.config;
    let mut log = Journal::begin(observer, &setup.dir, config, resumed, options.tensorboard)?;
    log.write(&Start {
        schema: SCHEMA,
        event: "start",
        step: trainer.step(),
        seconds: trainer.seconds(),
        command: options.command.clone(),
        dataset: objects.root.display().to_string(),
        dataset_name: objects.name.clone(),
        downscale: setup.opening.downscale,
        device: gpu.name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        load_seconds: loading,
        compile_seconds: compiling,
    })?;
    let intervals = Intervals {
        look: driver::LOOK_EVERY,
        save: options.checkpoint_every,
    };
    let training = Training::new(
        observer,
        gpu,
        &setup.dir,
        (trainer, renderer),
        log,
        limits,
        setup.meta().inner_steps,
        intervals,
    );
    let mut driver = Driver::new(observer, &setup, stream, training);
    driver.run().map_err(|error| diverged(error, &setup.dir))
}
