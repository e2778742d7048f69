//! Prepares a run: dataset, configuration, directory and checkpoint, before anything is uploaded to the device.

use std::path::{Path, PathBuf};

use super::FitOptions;
use super::teacher::{self, TeacherState};
use crate::checkpoint::{Checkpoint, CheckpointError, Info};
use crate::config::{
    Budget, Config, PassConfig, PositionEncoding, ResolvedConfig, SceneHints, key_of,
};
use crate::dataset::duplicate_images;
use crate::dataset::{Dataset, DepthSummary, FileIdentity, Frame, Image, OpenOptions};
use crate::field::Field;
use crate::gpu::{AdapterClass, Gpu};
use crate::images::{DepthSample, GpuCamera, ImageSet, near_far};
use crate::report::duration;
use crate::run::RunDir;
use crate::scene_frame::SceneFrame;
use crate::session::limits::Limits;
use crate::session::memory::SOFTWARE_SPEED;
use crate::session::views::{self, Selection};
use crate::session::{Error, Observer, ObserverExt, Result, data, memory, open, resolve};
use crate::text::counted_len;
use crate::train::{operations, size_network_grids};

/// A prepared run, before anything is uploaded to the device.
pub(super) struct Setup {
    pub(super) dataset: Dataset,
    pub(super) dataset_path: PathBuf,
    pub(super) config: ResolvedConfig,
    /// The configuration before it was resolved; `None` for a resumed run.
    pub(super) unresolved: Option<Config>,
    pub(super) dir: RunDir,
    /// The requested options of opening; `dataset.downscale` is the factor that is left to apply after loading.
    pub(super) opening: OpenOptions,
    pub(super) train_views: Vec<usize>,
    pub(super) fingerprint: String,
    /// Fingerprint of the training images' file contents; empty until they are loaded.
    pub(super) image_fingerprint: String,
    /// The same of the held-out images.
    pub(super) held_out_fingerprint: String,
    pub(super) checkpoint: Option<Checkpoint>,
    /// Run to initialise the parameters from; `None` for random ones.
    pub(super) init: Option<Checkpoint>,
    pub(super) teacher: Option<TeacherState>,
}

/// `--set` keys that do not change what a resumed run computes.
const SAFE_TO_SET: [&str; 2] = ["training.submission_ms", "scene.eval_background"];

/// Prepare to resume `run`.
pub(super) fn resume(
    observer: &dyn Observer,
    options: &FitOptions,
    gpu: &Gpu,
    run: &Path,
) -> Result<Setup> {
    let mut checkpoint = open::open_to_resume(observer, run)?;
    if checkpoint.info.config.meta.is_some() && !checkpoint.info.is_imported() {
        return Err(Error::usage(format!(
            "{} is a meta-learned initialisation: continue it with kiln meta --resume, or train from it with \
             kiln train OBJECT --init",
            run.display()
        )));
    }
    checkpoint.info.config = checkpoint.info.config.with(|config| config.meta = None);
    // An imported run has not been trained here yet, so more of its configuration may change.
    let imported = checkpoint.info.is_imported();
    let is_safe = |text: &String| {
        let key = key_of(text);
        let of_training = ["training.", "optimizer.", "loss"];
        SAFE_TO_SET.contains(&key) || (imported && of_training.iter().any(|k| key.starts_with(k)))
    };
    if let Some(text) = options.config.overrides.iter().find(|o| !is_safe(o)) {
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
        ("--seed", options.config.seed.is_some()),
        ("--background", options.config.background.is_some()),
        ("--linear", options.config.linear),
        ("--downscale", options.downscale.is_some() && !imported),
        (
            "--apply-orientation",
            options.apply_orientation && !imported,
        ),
        ("--alpha-mask", options.alpha_mask && !imported),
        ("--train-views", options.train_views.is_some()),
    ] {
        if is_given {
            return Err(Error::usage(format!(
                "--resume keeps the run's own configuration: leave out {flag}"
            )));
        }
    }
    if !options.config.overrides.is_empty() {
        let of_run = &checkpoint.info.config;
        let changed = options.config.change(of_run, "the run's config")?;
        checkpoint.info.config = ResolvedConfig::from_run(changed);
    }
    let dataset_path = options
        .dataset
        .clone()
        .unwrap_or_else(|| PathBuf::from(&checkpoint.info.dataset));
    if options.dataset.is_none() && imported {
        return Err(Error::usage(format!(
            "{} was imported and has no dataset: give one as DATASET",
            run.display()
        )));
    }
    if options.dataset.is_none() && !dataset_path.exists() {
        return Err(Error::usage(format!(
            "{} was trained on {}, which does not exist: give its new path as DATASET",
            run.display(),
            dataset_path.display()
        )));
    }
    let opening = checkpoint.info.opening();
    let opening = opening
        .or(options.downscale, options.apply_orientation)
        .or_alpha_mask(options.alpha_mask);
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
                "the training cameras in {path} have changed since {run} was trained (poses, sizes, or which views are held \
                 out; adding or removing an image changes that): restore them, or train a new run"
            )
        } else {
            format!(
                "{path} is not the dataset that {run} was trained on ({}), for their training cameras differ: give the right one",
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

/// The configuration of a run that is initialised from `init`: that run's, unless another is named; its scene box is always
/// that of `init` unless set.
fn config_of_init(options: &FitOptions, init: &Checkpoint, gpu: &Gpu) -> Result<Config> {
    let of_init = &init.info.config;
    let default = Budget::from(gpu.class()).preset("ngp");
    let mut config = if options.config.names_method() {
        options.config.load(&default)?
    } else {
        options.config.change(of_init, "the run of --init")?
    };
    config.distillation = None;
    let scene = &mut config.scene;
    scene.scale = scene.scale.or(of_init.scene.scale);
    scene.offset = scene.offset.or(of_init.scene.offset);
    // The parameters depend on its unit of length.
    scene.length = of_init.scene.length;
    for (pass, of_init) in config.passes.iter_mut().zip(&of_init.passes) {
        let of_init = of_init.field.density_bias.unwrap_or(0.0);
        pass.field.density_bias.get_or_insert(of_init);
    }
    scene.aabb_scale = scene.aabb_scale.or(of_init.scene.aabb_scale);
    let resolved = config.clone().resolve(SceneHints::default(), gpu.class());
    let fields = Field::of_passes(gpu.profile(), &resolved)?;
    let fields: Vec<&Field> = fields.iter().collect();
    init.check_shapes(&fields).map_err(|error| match error {
        CheckpointError::Tensor { .. } => Error::usage(format!(
            "--init: {error}: the networks of {} have other shapes; leave out --method, --config and --set, or give those \
             that the run was trained with",
            config.method
        )),
        other => other.into(),
    })?;
    Ok(config)
}

/// Prepare a new run.
pub(super) fn begin(observer: &dyn Observer, options: &FitOptions, gpu: &Gpu) -> Result<Setup> {
    let distill = options.distill.as_ref();
    let of_teacher = distill
        .map(|l| open::open_checkpoint(observer, &l.teacher))
        .transpose()?;
    let teacher_info = of_teacher.as_ref().map(|c| &c.info);
    let dataset_path = match (&options.dataset, teacher_info) {
        (Some(path), _) => path.clone(),
        (None, Some(info)) => PathBuf::from(&info.dataset),
        (None, None) => PathBuf::new(),
    };
    let default = if distill.is_some() { "kilonerf" } else { "ngp" };
    let default = Budget::from(gpu.class()).preset(default);
    let init = options
        .init
        .as_deref()
        .map(|run| open::open_checkpoint(observer, run))
        .transpose()?;
    let mut config = match &init {
        Some(init) => config_of_init(options, init, gpu)?,
        None => options.config.load(&default)?,
    };
    config.meta = None;
    let taught = config
        .distillation
        .as_ref()
        .filter(|_| config.distillation_steps() > 0);
    if let Some(distillation) = taught.filter(|_| distill.is_none()) {
        return Err(Error::usage(format!(
            "the configuration starts with a distillation, which needs its teacher: run kiln distill {} with the same flags",
            distillation.teacher
        )));
    }
    let mut cells = config.passes.iter().filter_map(|p| p.field.cells.as_ref());
    if distill.is_none() && init.is_none() && cells.any(|c| c.occupied.is_some()) {
        return Err(Error::usage(
            "passes.field.cells.occupied is extracted from a teacher by kiln distill: leave it out, or resume a run that has it (--resume)",
        ));
    }
    let chosen = options.config.names_method() || distill.is_some() || init.is_some();
    if !chosen && gpu.class() == AdapterClass::Software {
        resolve::note_small_method(observer, &config, "ngp");
    }
    let opening = teacher_info.map_or_else(OpenOptions::default, Info::opening);
    let opening = opening
        .or(options.downscale, options.apply_orientation)
        .or_alpha_mask(options.alpha_mask);
    let mut dataset = match (&of_teacher, &options.dataset) {
        (Some(teacher), given) => {
            data::whole_dataset_of(observer, teacher, given.as_deref(), opening)?
        }
        (None, _) => data::open_dataset(observer, &dataset_path, opening)?,
    };
    let teacher = match (distill, &of_teacher) {
        (Some(distill), Some(checkpoint)) => Some(teacher::prepare(
            gpu,
            distill,
            checkpoint,
            &dataset,
            &options.config.overrides,
            &mut config,
        )?),
        _ => None,
    };
    if let Some(info) = teacher_info.filter(|_| gpu.class() == AdapterClass::Software) {
        note_purpose(observer, &info.config);
    }
    if teacher.is_none() {
        size_network_grids(gpu.profile(), &mut config)?;
    }
    let unresolved = Some(config.clone());
    let config = resolve::resolve(observer, config, &mut dataset, gpu.class());
    let dir = options.out.as_deref().map_or_else(
        || RunDir::default_for(&dataset.name, &config.method),
        RunDir::at,
    );
    dir.check_free(options.overwrite)?;
    if let Some(distill) = distill {
        teacher::check_others(observer, distill, &dir, &dataset)?;
    }
    // A student trains on the views of its teacher.
    let train_views = match &options.train_views {
        Some(chosen) => views_to_train_on(chosen, &dataset)?,
        None => teacher_info.map_or_else(Vec::new, |info| info.train_views.clone()),
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

/// Indices of the views that `--train-views` selects, among all views if the dataset's files define no split.
fn views_to_train_on(chosen: &Selection, dataset: &Dataset) -> Result<Vec<usize>> {
    let (n, whose) = if dataset.is_held_out {
        (dataset.views().len(), "the dataset")
    } else {
        (dataset.train.len(), "the training split")
    };
    match chosen.clone().by_index() {
        Selection::Indices(parts) => views::indices(&parts, "--train-views", n, whose),
        _ => Ok((0..n).collect()),
    }
}

/// Store the fingerprints of the images, warn if they have changed since the checkpoint, and return whether held-out images are
/// copies of training images (compared by file contents; a warning is given). `contents` are those of the training images.
pub(super) fn fingerprint_images(
    observer: &dyn Observer,
    setup: &mut Setup,
    contents: &[FileIdentity],
) -> Result<bool> {
    let Dataset { train, test, .. } = &setup.dataset;
    let held_out = FileIdentity::of_images(test)?;
    setup.image_fingerprint = FileIdentity::fingerprint(contents);
    if !held_out.is_empty() {
        setup.held_out_fingerprint = FileIdentity::fingerprint(&held_out);
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
    let copied = duplicate_images::find_identical_files(&train, &held_out);
    if let Some(problem) = &copied {
        observer.warn(&problem.message);
    }
    Ok(copied.is_some())
}

/// Tell what a student of `teacher` is for on a software adapter.
fn note_purpose(observer: &dyn Observer, teacher: &ResolvedConfig) {
    let is_hash_grid =
        |pass: &PassConfig| matches!(pass.field.position_encoding, PositionEncoding::HashGrid(_));
    observer.note(if teacher.passes.last().is_some_and(is_hash_grid) {
        "a student renders faster than a hash grid on GPUs, but on a software adapter only 0.4 to 0.9 times as fast: here it is \
         for taking to a GPU, or for its fewer parameters"
    } else {
        "a student renders many times as fast as its teacher, on this adapter too"
    });
}

/// Return the views that choose between the distilled and the fine-tuned field, and their kind: a few validation views or, where
/// there are none apart from the test views, training views, which are held back: they are removed, also from `images`. None
/// without a distillation.
pub(super) fn take_selection_views(
    observer: &dyn Observer,
    setup: &mut Setup,
    images: &mut Vec<Image>,
) -> (Vec<Frame>, &'static str) {
    let distillation = setup.config.distillation.as_ref();
    let distillation = distillation.filter(|_| setup.config.distillation_steps() > 0);
    let Some(most) = distillation.map(|d| d.held_back_views as usize) else {
        return (Vec::new(), "");
    };
    let spread = |n: usize, of: usize| (0..n).map(move |i| (2 * i + 1) * of / (2 * n));
    let Dataset {
        train, val, test, ..
    } = &mut setup.dataset;
    // Validation views may serve as test views too.
    let val: Vec<&Frame> = val.iter().filter(|view| !test.contains(view)).collect();
    if !val.is_empty() {
        let n = most.min(val.len());
        let chosen = spread(n, val.len()).map(|i| val[i].clone());
        return (chosen.collect(), "validation view");
    }
    let n = most.min(train.len() / 4);
    let chosen: Vec<usize> = spread(n, train.len()).collect();
    if n > 0 {
        observer.note(format!(
            "{} held back, to tell whether fine-tuning helps: the dataset has no validation views of its own",
            counted_len(n, "training view")
        ));
    }
    let mut held_back: Vec<Frame> = Vec::new();
    for &index in chosen.iter().rev() {
        images.remove(index);
        held_back.insert(0, train.remove(index));
    }
    (held_back, "held-back view")
}

/// Note what is about to be trained, and the memory and time that it takes.
pub(super) fn announce(
    observer: &dyn Observer,
    gpu: &Gpu,
    setup: &Setup,
    limits: Limits,
) -> Result<()> {
    let mut memory = memory::memory(gpu, &setup.config, &setup.dataset)?;
    if let Some(teaching) = &setup.teacher {
        memory.add_teacher(gpu, &setup.config, &teaching.teacher)?;
    }
    observer.note(format!("memory: {}", memory.describe()));
    observer.note(format!(
        "training {} into {} for {}",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe()
    ));
    advise_on_size(observer, gpu, setup);
    note_twin(observer, gpu, setup);
    warn_of_slowness(observer, gpu, setup)
}

/// Longest image side, in pixels, that suits a software adapter.
const MAX_SIDE_ON_SOFTWARE: u32 = 1600;

/// Suggest a downscale factor if the images are too large for a software adapter.
fn advise_on_size(observer: &dyn Observer, gpu: &Gpu, setup: &Setup) {
    let downscale = setup.dataset.downscale;
    let frames = &setup.dataset.train;
    let sides = frames.iter().map(|f| f.camera.width.max(f.camera.height));
    let longest = sides.max().unwrap_or(0).div_ceil(downscale);
    if gpu.class() != AdapterClass::Software || longest <= MAX_SIDE_ON_SOFTWARE {
        return;
    }
    let camera = frames[0].camera.downscaled(downscale);
    // The factor counts from the full size; the folder in use may already hold smaller images.
    let asked = setup.opening.downscale.max(downscale);
    let fits = asked * longest.div_ceil(MAX_SIDE_ON_SOFTWARE).next_power_of_two();
    let size = format!("{}×{}", camera.width, camera.height);
    observer.note(format!(
        "note: images of {size} pixels are large for a software adapter: training sees few of their pixels, and \
         evaluation takes long; --downscale {fits} is a good choice"
    ));
}

/// Say that a method is sized for GPUs, on a software adapter.
fn note_twin(observer: &dyn Observer, gpu: &Gpu, setup: &Setup) {
    let method = &setup.config.method;
    let is_new = setup.checkpoint.is_none() && gpu.class() == AdapterClass::Software;
    if let Some(twin) = Config::small_twin(method).filter(|_| is_new) {
        observer.warn(format!(
            "{method} is sized for GPUs and slow on this software adapter: --method {twin} reaches more in the same time"
        ));
    }
}

/// Warn of long steps and views on a software adapter.
fn warn_of_slowness(observer: &dyn Observer, gpu: &Gpu, setup: &Setup) -> Result<()> {
    let operations = operations(gpu.profile(), &setup.config)?;
    let Some([step, ray]) = operations.filter(|_| gpu.class() == AdapterClass::Software) else {
        return Ok(());
    };
    let camera = setup.dataset.train[0].camera;
    let camera = camera.downscaled(setup.dataset.downscale);
    let view = ray * f64::from(camera.width) * f64::from(camera.height) / SOFTWARE_SPEED;
    let step = step / SOFTWARE_SPEED;
    if step > 2.0 || view > 60.0 {
        observer.warn(format!(
            "on this adapter a step takes about {step:.1} s and rendering a view about {}",
            duration(view)
        ));
    }
    Ok(())
}

/// Upload the training images.
pub(super) fn upload(
    observer: &dyn Observer,
    gpu: &Gpu,
    setup: &Setup,
    images: &[Image],
) -> Result<ImageSet> {
    let scene_frame = SceneFrame::of(&setup.config);
    let camera = |f: &Frame| {
        GpuCamera::new(
            &f.camera.downscaled(setup.dataset.downscale),
            near_far(&setup.config, f.near_far),
            &scene_frame,
        )
    };
    let cameras: Vec<GpuCamera> = setup.dataset.train.iter().map(camera).collect();
    let set = ImageSet::upload(gpu, images, &cameras)?;
    let training = &setup.config.training;
    let uses_depth =
        training.depth && training.depth_loss > 0.0 && setup.config.scene.ndc.is_none();
    if !uses_depth {
        return Ok(set);
    }
    let (frames, downscale) = (&setup.dataset.train, setup.dataset.downscale);
    let views = frames
        .iter()
        .map(|frame| Ok((frame.camera, frame.read_depths()?)))
        .collect::<Result<Vec<_>>>()?;
    let known = frames.iter().zip(&views);
    let known = known.map(|(frame, (_, depths))| (frame, depths.as_slice()));
    let summary = DepthSummary::of(known, &resolve::world_box(&setup.dataset, &setup.config));
    for problem in summary.problems() {
        observer.warn(problem);
    }
    let samples = DepthSample::of_views(&views, images, downscale, &scene_frame);
    if !samples.is_empty() {
        observer.note(format!(
            "depth: {} known in {} (ignore them with --set training.depth=false)",
            counted_len(samples.len(), "pixel"),
            counted_len(summary.views, "training view")
        ));
    }
    Ok(set.with_depths(gpu, &samples)?)
}
