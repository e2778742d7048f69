//! `kiln train`: from flags to a trainer. `driver` runs it, `distill` gives it a teacher.

mod distill;
mod driver;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;

use super::interrupt;
use super::journal::Journal;
use super::output::SCHEMA;
use super::scene;
use super::views::{self, Selection};
use super::{Session, usage};
use crate::checkpoint::{Checkpoint, CheckpointError, Info};
use crate::config::{Background, Config};
use crate::dataset::same_picture::{self, Thumbnail};
use crate::dataset::{Content, Dataset, Frame, Image, Opening, Split};
use crate::distillation::{Extraction, Teacher};
use crate::eval::EvalReport;
use crate::field::Field;
use crate::gpu::{AdapterClass, Gpu};
use crate::images::{GpuCamera, ImageSet, near_far};
use crate::render::Renderer;
use crate::run::RunDir;
use crate::scene_frame::SceneFrame;
use crate::train::{TrainError, Trainer, fit_cells, operations};
pub(super) use driver::Driver;
#[cfg(feature = "viewer")]
pub(super) use driver::Turn;
pub(super) use driver::{Line, Start, command_line, go_on_without_disk};

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  kiln train data/lego                                   until the default budget is spent
  kiln train data/lego --seconds 300 --out runs/a        for five minutes of training
  kiln train data/fox --downscale 4 --until-psnr 27      until it is good enough
  kiln train data/fern --downscale 8                     on the images of an LLFF capture at that size
  kiln train --resume runs/a --seconds 900               go on, exactly as if it had never stopped
  kiln train data/lego --config runs/a/config.toml --seed 2
                                                         the same again with another seed
  kiln train data/lego --set training.batch_size=65536   change a value of the configuration
  kiln train data/car --init runs/cars --train-views 0   from one view, beginning with what kiln meta learned

Ctrl-C saves a checkpoint and stops; a second one quits at once.")]
pub(super) struct Args {
    /// Folder of posed images: Blender, `transforms.json`, LLFF or SRN; may be left out with --resume
    pub(super) dataset: Option<PathBuf>,
    /// Preset; where left out, `ngp`, or `ngp-small` on a software adapter
    #[arg(long, conflicts_with = "config", value_name = "M")]
    pub(super) method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Change a value of the configuration, as in --set `training.batch_size=65536`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    pub(super) overrides: Vec<String>,
    /// Run directory to make [default: `runs/<dataset>-<method>`]
    #[arg(long, conflicts_with = "resume", value_name = "RUN")]
    pub(super) out: Option<PathBuf>,
    /// Run to go on with, under its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["method", "config"])]
    pub(super) resume: Option<PathBuf>,
    /// Begin with the parameters of this run, as `kiln meta` made, and with its configuration where no other is named
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    pub(super) init: Option<PathBuf>,
    /// Stop after this many steps over the run's life [default without --seconds: 20000, or on a software adapter 300 s]
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<u32>,
    /// Stop after this many seconds of training over the run's life
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    pub(super) seconds: Option<f64>,
    /// Stop once the evaluation views reach this PSNR
    #[arg(long, allow_negative_numbers = true, value_name = "DB")]
    pub(super) until_psnr: Option<f64>,
    /// Train on these views only, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or on all; where the dataset names no
    /// test views, the others are
    #[arg(long, value_name = "i,j|A..B|all")]
    pub(super) train_views: Option<Selection>,
    /// Views to evaluate: how many, evenly spread, or which, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or all
    /// [default: all, at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    pub(super) eval_views: Option<Selection>,
    /// Shrink the images by this factor; of LLFF data, from the full size, taking the folder of the size where there is one
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) downscale: Option<u32>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them
    #[arg(long)]
    pub(super) apply_orientation: bool,
    /// Seed of all random numbers [default: the configuration's]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u32>,
    /// Seconds between checkpoints
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "S",
        default_value_t = 60.0
    )]
    pub(super) checkpoint_every: f64,
    /// Background behind training rays: auto, random, white, black or #rrggbb; a colour also serves evaluation
    #[arg(long, value_name = "C")]
    pub(super) background: Option<Background>,
    /// Composite in linear colour
    #[arg(long)]
    pub(super) linear: bool,
    /// Write event files for tensorboard into the run's tensorboard/ folder
    #[arg(long)]
    pub(super) tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long, conflicts_with = "resume")]
    pub(super) force: bool,
    /// Watch it in a window
    #[cfg(feature = "viewer")]
    #[arg(long)]
    pub(super) view: bool,
    /// Do what a file of actions says, for tests
    #[cfg(feature = "viewer")]
    #[arg(long, value_name = "FILE", hide = true, requires = "view")]
    pub(super) view_script: Option<PathBuf>,
}

impl Args {
    /// Train on `dataset` into `out`, over whatever was there, as the demo does.
    pub(super) fn for_demo(dataset: &Path, out: &Path, seconds: f64) -> Self {
        Self {
            out: Some(out.to_owned()),
            seconds: Some(seconds),
            force: true,
            ..Self::on(dataset)
        }
    }

    /// Go on with what these flags began in `run`, under the same limits.
    #[cfg(feature = "viewer")]
    fn to_go_on(&self, run: &Path) -> Self {
        Self {
            dataset: self.dataset.clone(),
            resume: Some(run.to_owned()),
            steps: self.steps,
            seconds: self.seconds,
            until_psnr: self.until_psnr,
            eval_views: self.eval_views.clone(),
            checkpoint_every: self.checkpoint_every,
            tensorboard: self.tensorboard,
            ..Self::on(run)
        }
    }

    /// Train on `dataset`, nothing else said.
    pub(super) fn on(dataset: &Path) -> Self {
        Self {
            dataset: Some(dataset.to_owned()),
            out: None,
            seconds: None,
            checkpoint_every: 60.0,
            force: false,
            method: None,
            config: None,
            overrides: Vec::new(),
            resume: None,
            init: None,
            steps: None,
            until_psnr: None,
            train_views: None,
            eval_views: None,
            downscale: None,
            apply_orientation: false,
            seed: None,
            background: None,
            linear: false,
            tensorboard: false,
            #[cfg(feature = "viewer")]
            view: false,
            #[cfg(feature = "viewer")]
            view_script: None,
        }
    }
}

/// Steps of a run with no limit given, on a GPU; seconds on a software adapter.
const DEFAULT_STEPS: u32 = 20_000;
const DEFAULT_SECONDS: f64 = 300.0;
/// Steps of a run that begins with another's parameters, as in Tancik et al. 2021.
const INIT_STEPS: u32 = 1000;
/// Seconds of training between looks at a held-out view, at least.
const LOOK_EVERY: f64 = 10.0;

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    train(session, args, None).map(|_| ())
}

/// Refuse what no run can be asked for.
fn check_flags(args: &Args, lesson: Option<&Lesson>) -> anyhow::Result<()> {
    for (flag, value) in [
        ("--seconds", args.seconds),
        ("--until-psnr", args.until_psnr),
        ("--checkpoint-every", Some(args.checkpoint_every)),
    ] {
        if value.is_some_and(|v| !(v.is_finite() && v > 0.0)) {
            return Err(usage(format!(
                "{flag} {}: give a positive number",
                value.unwrap_or_default()
            )));
        }
    }
    if args.dataset.is_none() && args.resume.is_none() && lesson.is_none() {
        return Err(usage(
            "no DATASET given: name a folder of posed images, or --resume a run",
        ));
    }
    Ok(())
}

/// When to stop, over the run's life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) steps: u32,
    pub(super) seconds: f64,
    pub(super) psnr: f64,
}

impl Limits {
    fn of(args: &Args, gpu: &Gpu) -> Self {
        let software = gpu.class() == AdapterClass::Software;
        // Who begins with what was learned is there soon.
        let default = match (&args.init, software) {
            (Some(_), _) => (INIT_STEPS, f64::INFINITY),
            (None, true) => (u32::MAX, DEFAULT_SECONDS),
            (None, false) => (DEFAULT_STEPS, f64::INFINITY),
        };
        Self {
            psnr: args.until_psnr.unwrap_or(f64::INFINITY),
            ..Self::given((args.steps, args.seconds), default)
        }
    }

    /// The steps and seconds that are `given`, or the default ones where neither is.
    pub(super) fn given(given: (Option<u32>, Option<f64>), default: (u32, f64)) -> Self {
        let (steps, seconds) = match given {
            (None, None) => default,
            (steps, seconds) => (steps.unwrap_or(u32::MAX), seconds.unwrap_or(f64::INFINITY)),
        };
        Self {
            steps,
            seconds,
            psnr: f64::INFINITY,
        }
    }

    /// The share that is done after `step` steps and `seconds`, and the seconds that are left.
    pub(super) fn so_far(self, step: u32, seconds: f64) -> (f64, f64) {
        let by_steps = f64::from(step) / f64::from(self.steps);
        let fraction = by_steps.max(seconds / self.seconds).min(1.0);
        let left = if fraction > 0.0 {
            seconds / fraction - seconds
        } else {
            0.0
        };
        (fraction, left)
    }

    pub(super) fn describe(self) -> String {
        let mut parts = Vec::new();
        if self.steps < u32::MAX {
            parts.push(format!("{} steps", self.steps));
        }
        if self.seconds.is_finite() {
            parts.push(format!("{:.0} s", self.seconds));
        }
        if self.psnr.is_finite() {
            parts.push(format!("{} dB", self.psnr));
        }
        parts.join(" or ")
    }
}

/// What a run is made of, before anything is on the device.
struct Setup {
    dataset: Dataset,
    dataset_path: PathBuf,
    config: Config,
    /// The configuration before it was resolved, of a run that begins.
    unresolved: Option<Config>,
    dir: RunDir,
    /// What was asked for; `dataset.downscale` is what is left to do.
    opening: Opening,
    train_views: Vec<usize>,
    fingerprint: String,
    /// Of its images' bytes, once they are loaded.
    image_fingerprint: String,
    /// Of those held out.
    held_out_fingerprint: String,
    checkpoint: Option<Checkpoint>,
    /// What parameters it begins with, if not random ones.
    init: Option<Checkpoint>,
    teacher: Option<Teaching>,
}

/// What `kiln distill` adds to training.
#[derive(Debug)]
pub(super) struct Lesson {
    /// Run to learn from.
    pub(super) teacher: PathBuf,
    /// Steps that learn from it.
    pub(super) steps: Option<u32>,
    /// Runs to name beside the result.
    pub(super) compare: Vec<PathBuf>,
}

/// A teacher whose lessons are not over.
struct Teaching {
    teacher: Teacher,
    /// Whether its student is still to be made.
    is_fresh: bool,
}

/// The key of a `--set`.
fn key_of(text: &str) -> &str {
    text.split('=').next().unwrap_or_default().trim()
}

/// `--set` keys that do not change what a resumed run computes.
const SAFE_TO_SET: [&str; 2] = ["training.submission_ms", "scene.eval_background"];

fn resume(session: &Session, args: &Args, gpu: &Gpu, run: &Path) -> anyhow::Result<Setup> {
    if !RunDir::of(run).is(run) {
        return Err(usage(format!(
            "--resume {}: goes on in a run directory; put the file into one of its own, as checkpoint.safetensors",
            run.display()
        )));
    }
    let mut checkpoint = scene::open_to_resume(session, run)?;
    if checkpoint.info.config.meta.is_some() && !checkpoint.info.is_imported() {
        return Err(usage(format!(
            "{} learned what to begin with: kiln meta --resume goes on with it, and kiln train OBJECT --init begins with it",
            run.display()
        )));
    }
    checkpoint.info.config.meta = None;
    // What was imported has not been trained on anything yet.
    let imported = checkpoint.info.is_imported();
    let is_safe = |text: &String| {
        let key = key_of(text);
        let of_training = ["training.", "optimizer.", "loss"];
        SAFE_TO_SET.contains(&key) || (imported && of_training.iter().any(|k| key.starts_with(k)))
    };
    if let Some(text) = args.overrides.iter().find(|o| !is_safe(o)) {
        let keeps = if imported {
            "an imported run keeps its own scene and networks; only training, optimizer, loss and scene.eval_background"
                .to_owned()
        } else {
            let safe = SAFE_TO_SET.join(" and ");
            format!("a resumed run keeps its own configuration; only {safe}")
        };
        return Err(usage(format!("--set {text}: {keeps} may be set")));
    }
    for (flag, is_given) in [
        ("--seed", args.seed.is_some()),
        ("--background", args.background.is_some()),
        ("--linear", args.linear),
        ("--downscale", args.downscale.is_some() && !imported),
        ("--apply-orientation", args.apply_orientation && !imported),
        ("--train-views", args.train_views.is_some()),
    ] {
        if is_given {
            return Err(usage(format!(
                "--resume goes on under the run's own configuration: leave out {flag}"
            )));
        }
    }
    if !args.overrides.is_empty() {
        checkpoint.info.config = Config::parse(
            &checkpoint.info.config.to_toml(),
            "the run's config",
            &args.overrides,
        )?;
    }
    let dataset_path = args
        .dataset
        .clone()
        .unwrap_or_else(|| PathBuf::from(&checkpoint.info.dataset));
    if args.dataset.is_none() && imported {
        return Err(usage(format!(
            "{} was imported and knows no images: give a dataset as DATASET",
            run.display()
        )));
    }
    if args.dataset.is_none() && !dataset_path.exists() {
        return Err(usage(format!(
            "{} was trained on {}, which is not there: give its place as DATASET",
            run.display(),
            dataset_path.display()
        )));
    }
    let opening = checkpoint.info.opening();
    let opening = opening.or(args.downscale, args.apply_orientation);
    let dataset = scene::open_dataset(session, &dataset_path, opening)?;
    session.out.note(format!(
        "resuming {} at step {} after {:.1} s",
        run.display(),
        checkpoint.info.step,
        checkpoint.info.train_seconds
    ));
    let trained_on = &checkpoint.info.fingerprint;
    if !trained_on.is_empty() && *trained_on != dataset.fingerprint() {
        let (path, run) = (dataset_path.display(), run.display());
        let of_run = Path::new(&checkpoint.info.dataset);
        let is_same = of_run.canonicalize().ok() == dataset_path.canonicalize().ok();
        return Err(usage(if is_same {
            format!(
                "{path} has other training cameras than {run} was trained on (poses, sizes, or which views are held out, as \
                 an image more or less changes): put them back as they were, or train anew"
            )
        } else {
            format!(
                "{path} is not the dataset that {run} was trained on ({}), its training cameras differ: give that one",
                of_run.display()
            )
        }));
    }
    let teacher = distill::teacher_of(session, gpu, run, &checkpoint)?;
    Ok(Setup {
        teacher,
        dataset_path,
        config: checkpoint.info.config.clone(),
        unresolved: None,
        dir: RunDir::of(run),
        opening,
        train_views: checkpoint.info.train_views.clone(),
        fingerprint: dataset.fingerprint(),
        image_fingerprint: String::new(),
        held_out_fingerprint: String::new(),
        dataset,
        checkpoint: Some(checkpoint),
        init: None,
    })
}

/// The configuration of a run that begins with `init`: that run's, unless another is named, in the same box.
fn config_of_init(args: &Args, init: &Checkpoint, gpu: &Gpu) -> anyhow::Result<Config> {
    let of_init = &init.info.config;
    let chosen = args.config.is_some() || args.method.is_some();
    let mut config = if chosen {
        let method = args.method.as_deref();
        scene::config(args.config.as_deref(), method, &args.overrides, gpu.class())?
    } else {
        Config::parse(&of_init.to_toml(), "the run of --init", &args.overrides)?
    };
    config.distillation = None;
    let scene = &mut config.scene;
    scene.scale = scene.scale.or(of_init.scene.scale);
    scene.offset = scene.offset.or(of_init.scene.offset);
    // The parameters are of its unit.
    scene.length = of_init.scene.length;
    for (pass, of_init) in config.passes.iter_mut().zip(&of_init.passes) {
        let of_init = of_init.field.density_bias.unwrap_or(0.0);
        pass.field.density_bias.get_or_insert(of_init);
    }
    scene.aabb_scale = scene.aabb_scale.or(of_init.scene.aabb_scale);
    let fields = Field::of_passes(gpu, &config)?;
    let fields: Vec<&Field> = fields.iter().collect();
    init.fits(&fields).map_err(|error| match error {
        CheckpointError::Tensor { .. } => usage(format!(
            "--init: {error}: the networks of {} are others; leave out --method, --config and --set, or name those it was \
             made with",
            config.method
        )),
        other => other.into(),
    })?;
    Ok(config)
}

fn fresh(
    session: &Session,
    args: &Args,
    gpu: &Gpu,
    lesson: Option<&Lesson>,
) -> anyhow::Result<Setup> {
    let of_teacher = lesson
        .map(|l| scene::open_checkpoint(session, &l.teacher))
        .transpose()?;
    let remembered = of_teacher.as_ref().map(|c| &c.info);
    let dataset_path = match (&args.dataset, remembered) {
        (Some(path), _) => path.clone(),
        (None, Some(info)) => PathBuf::from(&info.dataset),
        (None, None) => PathBuf::new(),
    };
    let small = gpu.class() == AdapterClass::Software;
    let method = match lesson {
        Some(_) if args.config.is_none() && args.method.is_none() => {
            Some(if small { "kilonerf-small" } else { "kilonerf" })
        }
        _ => args.method.as_deref(),
    };
    let init = args
        .init
        .as_deref()
        .map(|run| scene::open_checkpoint(session, run))
        .transpose()?;
    let mut config = match &init {
        Some(init) => config_of_init(args, init, gpu)?,
        None => scene::config(args.config.as_deref(), method, &args.overrides, gpu.class())?,
    };
    config.meta = None;
    let taught = config
        .distillation
        .as_ref()
        .filter(|_| config.lessons() > 0);
    if let Some(distillation) = taught.filter(|_| lesson.is_none()) {
        return Err(usage(format!(
            "the configuration begins with a distillation, which needs its teacher: kiln distill {} with the same flags",
            distillation.teacher
        )));
    }
    let mut cells = config.passes.iter().filter_map(|p| p.field.cells.as_ref());
    if lesson.is_none() && init.is_none() && cells.any(|c| c.occupied.is_some()) {
        return Err(usage(
            "passes.field.cells.occupied is what a distillation finds out of its teacher: leave it out, or go on with a run that has it (--resume)",
        ));
    }
    let chosen = args.config.is_some() || method.is_some() || init.is_some();
    if !chosen && gpu.class() == AdapterClass::Software {
        session.out.note(format!(
            "method: {}, sized for a software adapter (--method ngp for the full one)",
            config.method
        ));
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    if let Some(background) = args.background {
        let is_typed = |key: &str| args.overrides.iter().any(|text| key_of(text) == key);
        config.scene.background = background;
        match background {
            Background::Fixed(_) => config.scene.eval_background = background,
            Background::Auto(_) if !is_typed("scene.eval_background") => {
                config.scene.eval_background = Background::Auto(Some([1.0; 3]));
            }
            Background::Auto(_) | Background::Random => {}
        }
        // It goes with a background that went by the images.
        if !is_typed("training.opacity_loss") {
            config.training.opacity_loss = None;
        }
    }
    config.scene.linear |= args.linear;
    let opening = remembered.map_or_else(Opening::default, Info::opening);
    let opening = opening.or(args.downscale, args.apply_orientation);
    let mut dataset = match (&of_teacher, &args.dataset) {
        (Some(teacher), given) => {
            scene::whole_dataset_of(session, teacher, given.as_deref(), opening)?
        }
        (None, _) => scene::open_dataset(session, &dataset_path, opening)?,
    };
    let teacher = match (lesson, &of_teacher) {
        (Some(lesson), Some(checkpoint)) => Some(distill::prepare(
            gpu,
            lesson,
            checkpoint,
            &dataset,
            &args.overrides,
            &mut config,
        )?),
        _ => None,
    };
    if teacher.is_none() {
        fit_cells(gpu, &mut config)?;
    }
    let unresolved = Some(config.clone());
    scene::resolve(session, &mut config, &mut dataset, gpu.class());
    let dir = args.out.as_deref().map_or_else(
        || RunDir::default_for(&dataset.name, &config.method),
        RunDir::at,
    );
    dir.check_free(args.force)?;
    if let Some(lesson) = lesson {
        distill::check_others(session, lesson, &dir, &dataset)?;
    }
    // A student sees what its teacher saw.
    let train_views = match &args.train_views {
        Some(chosen) => views_to_train_on(chosen, &dataset)?,
        None => remembered.map_or_else(Vec::new, |info| info.train_views.clone()),
    };
    Ok(Setup {
        dataset_path,
        config,
        unresolved,
        dir,
        opening,
        train_views,
        fingerprint: dataset.fingerprint(),
        image_fingerprint: String::new(),
        held_out_fingerprint: String::new(),
        dataset,
        checkpoint: None,
        init,
        teacher,
    })
}

/// What `--train-views` names; of a dataset whose files name no split, all views count.
fn views_to_train_on(chosen: &Selection, dataset: &Dataset) -> anyhow::Result<Vec<usize>> {
    let (n, whose) = if dataset.is_held_out {
        (dataset.views().len(), "the dataset")
    } else {
        (dataset.train.len(), "the training split")
    };
    match chosen.clone().by_index() {
        Selection::These(parts) => views::indices(&parts, "--train-views", n, whose),
        _ => Ok((0..n).collect()),
    }
}

/// Remember what tells the images from others, say whether they are those of before, and return whether held-out ones are told
/// to be copies of training images, whose `contents` are known.
fn know_images(session: &Session, setup: &mut Setup, contents: &[Content]) -> anyhow::Result<bool> {
    let Dataset { train, test, .. } = &setup.dataset;
    let held_out = Content::of_images(test)?;
    setup.image_fingerprint = Content::fingerprint(contents);
    if !held_out.is_empty() {
        setup.held_out_fingerprint = Content::fingerprint(&held_out);
    }
    if let Some(before) = setup.checkpoint.as_ref().map(|c| &c.info) {
        let differs = |known: &str, now: &str| !known.is_empty() && known != now;
        if differs(&before.image_fingerprint, &setup.image_fingerprint) {
            let whose = format!("the images in {} are", setup.dataset_path.display());
            scene::warn_of_other_images(session, &setup.dir, &whose);
        }
        if differs(&before.held_out_fingerprint, &setup.held_out_fingerprint) {
            scene::warn_of_other_held_out(session, &setup.dir, &setup.dataset_path);
        }
    }
    let train: Vec<_> = train.iter().zip(contents.iter().copied()).collect();
    let held_out: Vec<_> = test.iter().zip(held_out).collect();
    let copied = same_picture::copies(&train, &held_out);
    if let Some(problem) = &copied {
        session.out.note(format!("warning: {}", problem.message));
    }
    Ok(copied.is_some())
}

/// Train and evaluate; returns the run and its report.
pub(super) fn train(
    session: &Session,
    args: &Args,
    lesson: Option<&Lesson>,
) -> anyhow::Result<(RunDir, Option<EvalReport>)> {
    check_flags(args, lesson)?;
    let gpu = session.open_gpu()?;
    let limits = Limits::of(args, &gpu);
    let mut setup = match &args.resume {
        Some(run) => resume(session, args, &gpu, run)?,
        None => fresh(session, args, &gpu, lesson)?,
    };
    if !setup.train_views.is_empty() {
        setup
            .dataset
            .restrict_train(&setup.train_views)
            .map_err(|e| usage(format!("--train-views: {e}")))?;
        session.out.note(format!(
            "training on {} of its views, {} are held out",
            setup.dataset.train.len(),
            setup.dataset.test.len()
        ));
    }
    let held_out = if setup.dataset.test.is_empty() {
        Split::Train
    } else {
        Split::Test
    };
    let eval_frames = scene::pick(
        session,
        &gpu,
        setup.dataset.frames(held_out),
        args.eval_views.as_ref(),
    )?;
    scene::check(session, &setup.dataset, &setup.dataset_path, &setup.config)?;
    if setup.teacher.as_ref().is_none_or(|t| !t.is_fresh) {
        announce(session, &gpu, &setup, limits)?;
    }
    let _listener = interrupt::listen();
    let _reservation = setup.dir.reserve()?;
    let _lock = setup.dir.lock()?;

    let started = Instant::now();
    let (images, contents) = scene::load(
        session,
        &setup.dataset.train,
        setup.dataset.downscale,
        "loading images",
    )?;
    let is_copied = know_images(session, &mut setup, &contents)?;
    let trained_on = if is_copied || setup.dataset.test.is_empty() {
        Vec::new()
    } else {
        images.par_iter().map(Thumbnail::of).collect()
    };
    let set = upload(&gpu, &setup, &images)?;
    drop(images);
    interrupt::check()?;
    let loading = started.elapsed().as_secs_f64();

    let fresh_teacher = setup.teacher.as_ref().filter(|t| t.is_fresh);
    let found: Option<Extraction> = fresh_teacher
        .map(|teaching| distill::look(session, &gpu, &setup.config, &teaching.teacher, &set))
        .transpose()?;
    if let Some(found) = &found {
        // How many networks there are decides how large a batch is.
        if let Some(mut config) = setup.unresolved.take() {
            config.passes[0].field.cells = Some(found.cells.clone());
            config.resolve(setup.dataset.hints(), gpu.class());
            setup.config = config;
        }
        announce(session, &gpu, &setup, limits)?;
    }
    let started = Instant::now();
    let spinner = session.out.spinner("compiling shaders");
    let teacher = setup.teacher.as_ref().map(|t| &t.teacher);
    let mut trainer = Trainer::new(&gpu, &setup.config, &set, teacher)?;
    trainer.warm_up(&set)?;
    if let Some(checkpoint) = &setup.checkpoint {
        checkpoint.restore(&gpu, &mut trainer)?;
    } else if let Some(init) = &setup.init {
        trainer.reset(None)?;
        init.begin(&gpu, &trainer)?;
    } else if let Some(found) = &found {
        trainer.adopt(found);
    }
    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let renderer = Renderer::new(&gpu, &setup.config, bits)?;
    spinner.finish_and_clear();
    interrupt::check()?;
    let compiling = started.elapsed().as_secs_f64();
    session.out.note(format!(
        "loaded in {loading:.1} s, shaders compiled in {compiling:.1} s"
    ));

    let resumed = setup.checkpoint.as_ref().map(|c| c.info.step);
    let config = &setup.config;
    let log = Journal::begin(session, &setup.dir, config, resumed, args.tensorboard)?;
    let mut driver = Driver::new(
        session,
        &gpu,
        args,
        &setup,
        (trainer, renderer),
        log,
        (eval_frames, held_out, trained_on),
        limits,
    );
    driver.log.write(&Start {
        schema: SCHEMA,
        event: "start",
        step: driver.trainer.step(),
        seconds: driver.trainer.seconds(),
        command: command_line(),
        dataset: setup.dataset_path.display().to_string(),
        dataset_name: setup.dataset.name.clone(),
        downscale: setup.opening.downscale,
        device: gpu.name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        load_seconds: loading,
        compile_seconds: compiling,
    })?;
    driver.tell_of_others()?;
    #[cfg(feature = "viewer")]
    if let Some(desk) = &session.desk {
        super::view::train_on(desk, &mut driver).map_err(|error| diverged(error, &setup.dir))?;
        return Ok((setup.dir.clone(), None));
    }
    let report = driver.run().map_err(|error| diverged(error, &setup.dir))?;
    Ok((setup.dir.clone(), report))
}

/// `error`, with what is left of the run where its values stopped being finite.
pub(super) fn diverged(error: anyhow::Error, dir: &RunDir) -> anyhow::Error {
    let is_divergence = matches!(error.downcast_ref(), Some(TrainError::NonFinite { .. }))
        || matches!(
            error.downcast_ref(),
            Some(CheckpointError::NonFinite { .. })
        );
    if !is_divergence {
        return error;
    }
    let checkpoint = dir.checkpoint();
    if checkpoint.exists() {
        anyhow::anyhow!(
            "{error}; {} keeps the last good state",
            checkpoint.display()
        )
    } else {
        anyhow::anyhow!(
            "{error} and --force; nothing had been saved in {}",
            dir.path().display()
        )
    }
}

fn announce(session: &Session, gpu: &Gpu, setup: &Setup, limits: Limits) -> anyhow::Result<()> {
    let mut memory = scene::memory(gpu, &setup.config, &setup.dataset)?;
    if let Some(teaching) = &setup.teacher {
        memory.add_teacher(gpu, &setup.config, &teaching.teacher);
    }
    session.out.note(format!("memory: {}", memory.describe()));
    session.out.note(format!(
        "training {} into {} for {}",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe()
    ));
    advise_on_size(session, gpu, setup);
    warn_of_slowness(session, gpu, setup)
}

/// Longest side of images that a software adapter gets through.
const LONGEST_ON_SOFTWARE: u32 = 1600;

/// Say what factor makes images small enough for a software adapter.
fn advise_on_size(session: &Session, gpu: &Gpu, setup: &Setup) {
    let downscale = setup.dataset.downscale;
    let frames = &setup.dataset.train;
    let sides = frames.iter().map(|f| f.camera.width.max(f.camera.height));
    let longest = sides.max().unwrap_or(0).div_ceil(downscale);
    if gpu.class() != AdapterClass::Software || longest <= LONGEST_ON_SOFTWARE {
        return;
    }
    let camera = frames[0].camera.downscaled(downscale);
    // Counted from the full size, of which a folder may hold a part already.
    let asked = setup.opening.downscale.max(downscale);
    let fits = asked * longest.div_ceil(LONGEST_ON_SOFTWARE).next_power_of_two();
    let size = format!("{}×{}", camera.width, camera.height);
    session.out.note(format!(
        "note: images of {size} pixels are more than a software adapter gets through: it draws few of their \
         pixels while training, and evaluating them takes long; --downscale {fits} suits it"
    ));
}

/// Say how long steps and views of a method take that a software adapter is slow at.
fn warn_of_slowness(session: &Session, gpu: &Gpu, setup: &Setup) -> anyhow::Result<()> {
    let operations = operations(gpu, &setup.config)?;
    let Some([step, ray]) = operations.filter(|_| gpu.class() == AdapterClass::Software) else {
        return Ok(());
    };
    let camera = setup.dataset.train[0].camera;
    let camera = camera.downscaled(setup.dataset.downscale);
    let view = ray * f64::from(camera.width) * f64::from(camera.height) / scene::SOFTWARE_SPEED;
    let step = step / scene::SOFTWARE_SPEED;
    if step > 2.0 || view > 60.0 {
        session.out.note(format!(
            "warning: on this adapter a step takes about {step:.1} s and rendering a view about {view:.0} s: \
             --method nerf-small is sized for two cores, and --eval-views 1 measures one view"
        ));
    }
    Ok(())
}

fn upload(gpu: &Gpu, setup: &Setup, images: &[Image]) -> anyhow::Result<ImageSet> {
    let scene_frame = SceneFrame::of(&setup.config);
    let camera = |f: &Frame| {
        GpuCamera::new(
            &f.camera.downscaled(setup.dataset.downscale),
            near_far(&setup.config, f.near_far),
            &scene_frame,
        )
    };
    let cameras: Vec<GpuCamera> = setup.dataset.train.iter().map(camera).collect();
    Ok(ImageSet::upload(gpu, images, &cameras)?)
}
