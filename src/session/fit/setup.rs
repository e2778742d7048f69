//! What a run is made of: its dataset, configuration, directory and checkpoint, before anything is on the device.

use std::path::{Path, PathBuf};

use super::{FitOptions, teacher};
use crate::checkpoint::{Checkpoint, CheckpointError, Info};
use crate::config::{Background, Config};
use crate::dataset::same_picture;
use crate::dataset::{Content, Dataset, Frame, Image, Opening};
use crate::distillation::Teacher;
use crate::field::Field;
use crate::gpu::{AdapterClass, Gpu};
use crate::images::{GpuCamera, ImageSet, near_far};
use crate::run::RunDir;
use crate::scene_frame::SceneFrame;
use crate::session::limits::Limits;
use crate::session::memory::SOFTWARE_SPEED;
use crate::session::views::{self, Selection};
use crate::session::{Error, Observer, ObserverExt, Result, data, memory, open, resolve};
use crate::train::{fit_cells, operations};

/// What a run is made of, before anything is on the device.
pub(super) struct Setup {
    pub(super) dataset: Dataset,
    pub(super) dataset_path: PathBuf,
    pub(super) config: Config,
    /// The configuration before it was resolved, of a run that begins.
    pub(super) unresolved: Option<Config>,
    pub(super) dir: RunDir,
    /// What was asked for; `dataset.downscale` is what is left to do.
    pub(super) opening: Opening,
    pub(super) train_views: Vec<usize>,
    pub(super) fingerprint: String,
    /// Of its images' bytes, once they are loaded.
    pub(super) image_fingerprint: String,
    /// Of those held out.
    pub(super) held_out_fingerprint: String,
    pub(super) checkpoint: Option<Checkpoint>,
    /// What parameters it begins with, if not random ones.
    pub(super) init: Option<Checkpoint>,
    pub(super) teacher: Option<TeacherState>,
}

/// A teacher whose lessons are not over.
pub(super) struct TeacherState {
    pub(super) teacher: Teacher,
    /// Whether its student is still to be made.
    pub(super) is_new: bool,
}

/// The key of a `--set`.
pub(super) fn key_of(text: &str) -> &str {
    text.split('=').next().unwrap_or_default().trim()
}

/// `--set` keys that do not change what a resumed run computes.
const SAFE_TO_SET: [&str; 2] = ["training.submission_ms", "scene.eval_background"];

/// A run that goes on.
pub(super) fn resume(
    observer: &dyn Observer,
    options: &FitOptions,
    gpu: &Gpu,
    run: &Path,
) -> Result<Setup> {
    if !RunDir::of(run).is(run) {
        return Err(Error::usage(format!(
            "--resume {}: goes on in a run directory; put the file into one of its own, as checkpoint.safetensors",
            run.display()
        )));
    }
    let mut checkpoint = open::open_to_resume(observer, run)?;
    if checkpoint.info.config.meta.is_some() && !checkpoint.info.is_imported() {
        return Err(Error::usage(format!(
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
    if let Some(text) = options.overrides.iter().find(|o| !is_safe(o)) {
        let keeps = if imported {
            "an imported run keeps its own scene and networks; only training, optimizer, loss and scene.eval_background"
                .to_owned()
        } else {
            let safe = SAFE_TO_SET.join(" and ");
            format!("a resumed run keeps its own configuration; only {safe}")
        };
        return Err(Error::usage(format!("--set {text}: {keeps} may be set")));
    }
    for (flag, is_given) in [
        ("--seed", options.seed.is_some()),
        ("--background", options.background.is_some()),
        ("--linear", options.linear),
        ("--downscale", options.downscale.is_some() && !imported),
        (
            "--apply-orientation",
            options.apply_orientation && !imported,
        ),
        ("--train-views", options.train_views.is_some()),
    ] {
        if is_given {
            return Err(Error::usage(format!(
                "--resume goes on under the run's own configuration: leave out {flag}"
            )));
        }
    }
    if !options.overrides.is_empty() {
        checkpoint.info.config = Config::parse(
            &checkpoint.info.config.to_toml(),
            "the run's config",
            &options.overrides,
        )?;
    }
    let dataset_path = options
        .dataset
        .clone()
        .unwrap_or_else(|| PathBuf::from(&checkpoint.info.dataset));
    if options.dataset.is_none() && imported {
        return Err(Error::usage(format!(
            "{} was imported and knows no images: give a dataset as DATASET",
            run.display()
        )));
    }
    if options.dataset.is_none() && !dataset_path.exists() {
        return Err(Error::usage(format!(
            "{} was trained on {}, which is not there: give its place as DATASET",
            run.display(),
            dataset_path.display()
        )));
    }
    let opening = checkpoint.info.opening();
    let opening = opening.or(options.downscale, options.apply_orientation);
    let dataset = data::open_dataset(observer, &dataset_path, opening)?;
    observer.note(format!(
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
        return Err(Error::usage(if is_same {
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
    let teacher = teacher::teacher_of(observer, gpu, run, &checkpoint)?;
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
fn config_of_init(options: &FitOptions, init: &Checkpoint, gpu: &Gpu) -> Result<Config> {
    let of_init = &init.info.config;
    let chosen = options.config.is_some() || options.method.is_some();
    let mut config = if chosen {
        let method = options.method.as_deref();
        resolve::config(
            options.config.as_deref(),
            method,
            &options.overrides,
            gpu.class(),
        )?
    } else {
        Config::parse(&of_init.to_toml(), "the run of --init", &options.overrides)?
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
        CheckpointError::Tensor { .. } => Error::usage(format!(
            "--init: {error}: the networks of {} are others; leave out --method, --config and --set, or name those it was \
             made with",
            config.method
        )),
        other => other.into(),
    })?;
    Ok(config)
}

/// A run that begins.
pub(super) fn begin(observer: &dyn Observer, options: &FitOptions, gpu: &Gpu) -> Result<Setup> {
    let lesson = options.distill.as_ref();
    let of_teacher = lesson
        .map(|l| open::open_checkpoint(observer, &l.teacher))
        .transpose()?;
    let remembered = of_teacher.as_ref().map(|c| &c.info);
    let dataset_path = match (&options.dataset, remembered) {
        (Some(path), _) => path.clone(),
        (None, Some(info)) => PathBuf::from(&info.dataset),
        (None, None) => PathBuf::new(),
    };
    let small = gpu.class() == AdapterClass::Software;
    let method = match lesson {
        Some(_) if options.config.is_none() && options.method.is_none() => {
            Some(if small { "kilonerf-small" } else { "kilonerf" })
        }
        _ => options.method.as_deref(),
    };
    let init = options
        .init
        .as_deref()
        .map(|run| open::open_checkpoint(observer, run))
        .transpose()?;
    let mut config = match &init {
        Some(init) => config_of_init(options, init, gpu)?,
        None => resolve::config(
            options.config.as_deref(),
            method,
            &options.overrides,
            gpu.class(),
        )?,
    };
    config.meta = None;
    let taught = config
        .distillation
        .as_ref()
        .filter(|_| config.lessons() > 0);
    if let Some(distillation) = taught.filter(|_| lesson.is_none()) {
        return Err(Error::usage(format!(
            "the configuration begins with a distillation, which needs its teacher: kiln distill {} with the same flags",
            distillation.teacher
        )));
    }
    let mut cells = config.passes.iter().filter_map(|p| p.field.cells.as_ref());
    if lesson.is_none() && init.is_none() && cells.any(|c| c.occupied.is_some()) {
        return Err(Error::usage(
            "passes.field.cells.occupied is what a distillation finds out of its teacher: leave it out, or go on with a run that has it (--resume)",
        ));
    }
    let chosen = options.config.is_some() || method.is_some() || init.is_some();
    if !chosen && gpu.class() == AdapterClass::Software {
        observer.note(format!(
            "method: {}, sized for a software adapter (--method ngp for the full one)",
            config.method
        ));
    }
    if let Some(seed) = options.seed {
        config.seed = seed;
    }
    if let Some(background) = options.background {
        let is_typed = |key: &str| options.overrides.iter().any(|text| key_of(text) == key);
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
    config.scene.linear |= options.linear;
    let opening = remembered.map_or_else(Opening::default, Info::opening);
    let opening = opening.or(options.downscale, options.apply_orientation);
    let mut dataset = match (&of_teacher, &options.dataset) {
        (Some(teacher), given) => {
            data::whole_dataset_of(observer, teacher, given.as_deref(), opening)?
        }
        (None, _) => data::open_dataset(observer, &dataset_path, opening)?,
    };
    let teacher = match (lesson, &of_teacher) {
        (Some(lesson), Some(checkpoint)) => Some(teacher::prepare(
            gpu,
            lesson,
            checkpoint,
            &dataset,
            &options.overrides,
            &mut config,
        )?),
        _ => None,
    };
    if teacher.is_none() {
        fit_cells(gpu, &mut config)?;
    }
    let unresolved = Some(config.clone());
    resolve::resolve(observer, &mut config, &mut dataset, gpu.class());
    let dir = options.out.as_deref().map_or_else(
        || RunDir::default_for(&dataset.name, &config.method),
        RunDir::at,
    );
    dir.check_free(options.overwrite)?;
    if let Some(lesson) = lesson {
        teacher::check_others(observer, lesson, &dir, &dataset)?;
    }
    // A student sees what its teacher saw.
    let train_views = match &options.train_views {
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
fn views_to_train_on(chosen: &Selection, dataset: &Dataset) -> Result<Vec<usize>> {
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
pub(super) fn know_images(
    observer: &dyn Observer,
    setup: &mut Setup,
    contents: &[Content],
) -> Result<bool> {
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
            data::warn_of_other_images(observer, &setup.dir, &whose);
        }
        if differs(&before.held_out_fingerprint, &setup.held_out_fingerprint) {
            data::warn_of_other_held_out(observer, &setup.dir, &setup.dataset_path);
        }
    }
    let train: Vec<_> = train.iter().zip(contents.iter().copied()).collect();
    let held_out: Vec<_> = test.iter().zip(held_out).collect();
    let copied = same_picture::copies(&train, &held_out);
    if let Some(problem) = &copied {
        observer.warn(&problem.message);
    }
    Ok(copied.is_some())
}

/// Tell what is about to be trained, and what it takes.
pub(super) fn announce(
    observer: &dyn Observer,
    gpu: &Gpu,
    setup: &Setup,
    limits: Limits,
) -> Result<()> {
    let mut memory = memory::memory(gpu, &setup.config, &setup.dataset)?;
    if let Some(teaching) = &setup.teacher {
        memory.add_teacher(gpu, &setup.config, &teaching.teacher);
    }
    observer.note(format!("memory: {}", memory.describe()));
    observer.note(format!(
        "training {} into {} for {}",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe()
    ));
    advise_on_size(observer, gpu, setup);
    warn_of_slowness(observer, gpu, setup)
}

/// Longest side of images that a software adapter gets through.
const MAX_SIDE_ON_SOFTWARE: u32 = 1600;

/// Say what factor makes images small enough for a software adapter.
fn advise_on_size(observer: &dyn Observer, gpu: &Gpu, setup: &Setup) {
    let downscale = setup.dataset.downscale;
    let frames = &setup.dataset.train;
    let sides = frames.iter().map(|f| f.camera.width.max(f.camera.height));
    let longest = sides.max().unwrap_or(0).div_ceil(downscale);
    if gpu.class() != AdapterClass::Software || longest <= MAX_SIDE_ON_SOFTWARE {
        return;
    }
    let camera = frames[0].camera.downscaled(downscale);
    // Counted from the full size, of which a folder may hold a part already.
    let asked = setup.opening.downscale.max(downscale);
    let fits = asked * longest.div_ceil(MAX_SIDE_ON_SOFTWARE).next_power_of_two();
    let size = format!("{}×{}", camera.width, camera.height);
    observer.note(format!(
        "note: images of {size} pixels are more than a software adapter gets through: it draws few of their \
         pixels while training, and evaluating them takes long; --downscale {fits} suits it"
    ));
}

/// Say how long steps and views of a method take that a software adapter is slow at.
fn warn_of_slowness(observer: &dyn Observer, gpu: &Gpu, setup: &Setup) -> Result<()> {
    let operations = operations(gpu, &setup.config)?;
    let Some([step, ray]) = operations.filter(|_| gpu.class() == AdapterClass::Software) else {
        return Ok(());
    };
    let camera = setup.dataset.train[0].camera;
    let camera = camera.downscaled(setup.dataset.downscale);
    let view = ray * f64::from(camera.width) * f64::from(camera.height) / SOFTWARE_SPEED;
    let step = step / SOFTWARE_SPEED;
    if step > 2.0 || view > 60.0 {
        observer.warn(format!("on this adapter a step takes about {step:.1} s and rendering a view about {view:.0} s: \
             --method nerf-small is sized for two cores, and --eval-views 1 measures one view"
        ));
    }
    Ok(())
}

/// The training images on the device.
pub(super) fn upload(gpu: &Gpu, setup: &Setup, images: &[Image]) -> Result<ImageSet> {
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
