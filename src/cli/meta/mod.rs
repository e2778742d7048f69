//! `kiln meta`: from flags to learning what to begin with. `driver` runs it, `stream` feeds it; `kiln meta-eval` measures it.

mod driver;
mod evaluate;
mod figure;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) use evaluate::{Args as EvalArgs, run as evaluate};

use super::journal::Journal;
use super::output::{SCHEMA, bytes};
use super::train::{Limits, Start, command_line, diverged};
use super::{Session, interrupt, scene, usage};
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Meta};
use crate::dataset::{Objects, Opening, Splits};
use crate::gpu::{AdapterClass, Gpu};
use crate::render::Renderer;
use crate::run::RunDir;
use crate::train::{Trainer, fit_cells, plan};
use driver::Driver;
use stream::Stream;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln meta data/cars                             until the default budget is spent
  kiln meta data/cars --method learnit --steps 50000 --out runs/cars
  kiln meta data/cars --method ngp                of the hash-grid method
  kiln meta --resume runs/cars --seconds 3600     go on
  kiln train data/cars/a-new-one --init runs/cars --train-views 0
                                                  learn an object from one view, beginning there
  kiln meta-eval runs/cars                        what that is worth

ROOT holds one folder an object, each a dataset of its own. A step is an outer step: so many steps
as meta.inner_steps says are learned on one object, and what they begin with moves towards their end.")]
pub(super) struct Args {
    /// Folder of objects; may be left out with --resume
    root: Option<PathBuf>,
    /// File with the lists `train` and `test` of folders [default: the one *_splits.json in ROOT]
    #[arg(long, value_name = "FILE", conflicts_with = "train_fraction")]
    splits: Option<PathBuf>,
    /// Learn from this share of the folders, the first by name, where no file says which
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    train_fraction: Option<f64>,
    /// Preset; where left out, `learnit`, or `learnit-small` on a software adapter
    #[arg(long, conflicts_with = "config", value_name = "M")]
    method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a value of the configuration, as in --set `meta.inner_steps=16`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Run directory to make [default: `runs/<root>-<method>`]
    #[arg(long, conflicts_with = "resume", value_name = "RUN")]
    out: Option<PathBuf>,
    /// Run to go on with, under its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["method", "config", "overrides", "splits", "train_fraction", "downscale", "apply_orientation", "seed"])]
    resume: Option<PathBuf>,
    /// Stop after this many outer steps over the run's life [default without --seconds: 20000, or on a software adapter 900 s]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Stop after this many seconds of training over the run's life
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
    /// Shrink the images by this factor
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    downscale: Option<u32>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them
    #[arg(long)]
    apply_orientation: bool,
    /// Seed of all random numbers [default: the configuration's]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Seconds between checkpoints
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "S",
        default_value_t = 60.0
    )]
    checkpoint_every: f64,
    /// Write event files for tensorboard into the run's tensorboard/ folder
    #[arg(long)]
    tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

impl Args {
    /// Learn from the objects in `root` into `out`, over whatever was there, as the demo does.
    pub(super) fn for_demo(root: &Path, out: &Path, seconds: f64) -> Self {
        Self {
            root: Some(root.to_owned()),
            splits: None,
            train_fraction: None,
            method: None,
            config: None,
            overrides: Vec::new(),
            out: Some(out.to_owned()),
            resume: None,
            steps: None,
            seconds: Some(seconds),
            downscale: None,
            apply_orientation: false,
            seed: None,
            checkpoint_every: 60.0,
            tensorboard: false,
            force: true,
        }
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

/// Refuse what no run can be asked for, before the device is looked for.
fn check_flags(args: &Args) -> anyhow::Result<()> {
    for (flag, value) in [
        ("--seconds", args.seconds),
        ("--checkpoint-every", Some(args.checkpoint_every)),
    ] {
        if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(usage(format!("{flag} {value}: give a positive number")));
        }
    }
    if let Some(share) = args.train_fraction.filter(|f| !(*f > 0.0 && *f <= 1.0)) {
        return Err(usage(format!(
            "--train-fraction {share}: give a share above 0, up to 1"
        )));
    }
    if args.root.is_none() && args.resume.is_none() {
        return Err(usage(
            "no ROOT given: name a folder that holds one folder an object, or --resume a run",
        ));
    }
    Ok(())
}

/// Open the objects in `root`, and say what was left out.
fn open_objects(
    session: &Session,
    root: &Path,
    splits: &Splits,
    opening: Opening,
) -> anyhow::Result<Objects> {
    let objects = Objects::open(root, splits, opening)?;
    for skipped in &objects.skipped {
        session.out.note(format!(
            "warning: {} is left out: {}",
            skipped.name, skipped.reason
        ));
    }
    let [w, h] = objects.size;
    for object in objects.train.iter().chain(&objects.test) {
        let missing = &object.dataset.missing;
        if let Some(first) = missing.first() {
            session.out.note(format!(
                "warning: {}: {} listed images are absent and left out, the first {}",
                object.name,
                missing.len(),
                first.display()
            ));
        }
    }
    session.out.note(format!(
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

fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.display().to_string()
}

fn fresh(session: &Session, args: &Args, gpu: &Gpu) -> anyhow::Result<Setup> {
    let root = args.root.clone().unwrap_or_default();
    let small = gpu.class() == AdapterClass::Software;
    let default = if small { "learnit-small" } else { "learnit" };
    let chosen = args.config.is_some() || args.method.is_some();
    let method = args.method.as_deref().unwrap_or(default);
    let method = args.config.is_none().then_some(method);
    let (file, overrides) = (args.config.as_deref(), &args.overrides);
    let mut config = scene::config_with_meta(file, method, overrides, gpu.class())?;
    if !chosen && small {
        session.out.note(format!(
            "method: {}, sized for a software adapter (--method learnit for the full one)",
            config.method
        ));
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    let opening = Opening::default().or(args.downscale, args.apply_orientation);
    let splits = match (&args.splits, args.train_fraction) {
        (Some(file), _) => Splits::File(file.clone()),
        (None, Some(share)) => Splits::Fraction(share),
        (None, None) => Splits::Found,
    };
    let objects = open_objects(session, &root, &splits, opening)?;
    fit_cells(gpu, &mut config)?;
    scene::resolve(session, &mut config, &mut objects.scene(), gpu.class());
    if let Some(meta) = &mut config.meta {
        meta.splits = args.splits.as_deref().map(absolute);
        meta.train_fraction = args.train_fraction;
    }
    let dir = args.out.as_deref().map_or_else(
        || RunDir::default_for(&objects.name, &config.method),
        RunDir::at,
    );
    dir.check_free(args.force)?;
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
    session: &Session,
    run: &Path,
    checkpoint: &Checkpoint,
    (flag, given): (&str, Option<&Path>),
    opening: Opening,
) -> anyhow::Result<Objects> {
    let info = &checkpoint.info;
    let Some(meta) = &info.config.meta else {
        return Err(usage(format!(
            "{} is a run of one scene: kiln meta makes one that learns what to begin with",
            run.display()
        )));
    };
    if given.is_none() && info.is_imported() {
        return Err(usage(format!(
            "{} was imported and knows no objects: give their folder with {flag}",
            run.display()
        )));
    }
    let remembered = PathBuf::from(&info.dataset);
    let root = given.unwrap_or(&remembered);
    if !root.exists() {
        return Err(usage(format!(
            "{} was made of the objects in {}: {} is not there; give their place with {flag}",
            run.display(),
            info.dataset,
            root.display()
        )));
    }
    open_objects(session, root, &splits_of(meta), opening)
}

fn resume(session: &Session, args: &Args, run: &Path) -> anyhow::Result<Setup> {
    let dir = RunDir::of(run);
    if !dir.is(run) {
        return Err(usage(format!(
            "--resume {}: goes on in a run directory; put the file into one of its own, as checkpoint.safetensors",
            run.display()
        )));
    }
    let checkpoint = scene::open_to_resume(session, run)?;
    let root = ("ROOT", args.root.as_deref());
    let objects = objects_of(session, run, &checkpoint, root, checkpoint.info.opening())?;
    // What was imported has not learned from any.
    let known = &checkpoint.info.fingerprint;
    if !known.is_empty() && objects.fingerprint() != *known {
        return Err(usage(format!(
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
    session.out.note(format!(
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

fn limits(args: &Args, gpu: &Gpu) -> Limits {
    let default = match gpu.class() {
        AdapterClass::Software => (u32::MAX, DEFAULT_SECONDS),
        _ => (DEFAULT_STEPS, f64::INFINITY),
    };
    Limits::given((args.steps, args.seconds), default)
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    check_flags(args)?;
    let gpu = session.open_gpu()?;
    let limits = limits(args, &gpu);
    let setup = match &args.resume {
        Some(run) => resume(session, args, run)?,
        None => fresh(session, args, &gpu)?,
    };
    let objects = &setup.objects;
    let plan = plan(&gpu, &setup.config)?;
    let (slots, slot_bytes) = stream::slots(&setup.config, &objects.train);
    let image_bytes = u64::from(slots) * slot_bytes;
    let kept = if slots as usize > objects.train.len() {
        "all objects stay on the device".to_owned()
    } else {
        let n = slots - 1;
        format!("{n} objects at a time, the others are read again at their turn")
    };
    session.out.note(format!(
        "memory: about {} on the device ({} images: {kept}; {} parameters, {} batch, {} rendering)",
        bytes(image_bytes + plan.total_bytes()),
        bytes(image_bytes),
        bytes(plan.parameter_bytes),
        bytes(plan.batch_bytes),
        bytes(plan.rendering_bytes),
    ));
    session.out.note(format!(
        "learning what {} begins with into {} for {}: {} steps on each object",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe().replace("steps", "outer steps"),
        setup.meta().inner_steps,
    ));
    let _listener = interrupt::listen();
    let _reservation = setup.dir.reserve()?;
    let _lock = setup.dir.lock()?;

    let started = Instant::now();
    let mut stream = Stream::new(&gpu, &setup.config, &objects.train, objects.most_views())?;
    let done = setup.checkpoint.as_ref().map_or(0, |c| c.info.step);
    let first = done / setup.meta().inner_steps;
    stream.seek(first);
    if let Some(checkpoint) = &setup.checkpoint {
        stream.expect(&checkpoint.info.image_fingerprint);
    }
    let bar = session.out.bar(objects.train.len(), "loading images");
    stream.fill(&|| bar.inc())?;
    stream.prepare(first)?;
    bar.finish_and_clear();
    interrupt::check()?;
    let loading = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let spinner = session.out.spinner("compiling shaders");
    // Whatever the first task is about: there is something to draw rays of.
    let mut trainer = Trainer::new(&gpu, &setup.config, &stream.set, None)?;
    trainer.warm_up(&stream.set)?;
    if let Some(checkpoint) = &setup.checkpoint {
        checkpoint.restore(&gpu, &mut trainer)?;
    }
    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let renderer = Renderer::new(&gpu, &setup.config, bits)?;
    spinner.finish_and_clear();
    interrupt::check()?;
    let compiling = started.elapsed().as_secs_f64();
    session.out.note(format!(
        "loaded in {loading:.1} s, shaders compiled in {compiling:.1} s"
    ));

    let resumed = setup.checkpoint.as_ref().map(|_| done);
    let config = &setup.config;
    let mut log = Journal::begin(session, &setup.dir, config, resumed, args.tensorboard)?;
    log.write(&Start {
        schema: SCHEMA,
        event: "start",
        step: trainer.step(),
        seconds: trainer.seconds(),
        command: command_line(),
        dataset: objects.root.display().to_string(),
        dataset_name: objects.name.clone(),
        downscale: setup.opening.downscale,
        device: gpu.name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        load_seconds: loading,
        compile_seconds: compiling,
    })?;
    let every = args.checkpoint_every;
    let mut driver = Driver::new(
        session,
        &gpu,
        &setup,
        stream,
        (trainer, renderer),
        log,
        limits,
        every,
    );
    driver.run().map_err(|error| diverged(error, &setup.dir))
}
