//! What the commands share: opening datasets and runs, choosing views, evaluating.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use rayon::prelude::*;

use super::interrupt::Interrupted;
use super::output::bytes;
use super::pace::Pace;
use super::sink::save_png;
use super::views::{self, Selection};
use super::{Session, usage};
use crate::camera::Camera;
use crate::checkpoint::Checkpoint;
use crate::config::{
    Background, Config, ConfigError, ForwardFacing, Meta, SceneHints, Surroundings,
};
use crate::dataset::doctor::{self, Bounds, Problem, Severity};
use crate::dataset::framing::short;
use crate::dataset::same_picture::{self, Thumbnail};
use crate::dataset::{Content, Dataset, Frame, Image, Opening, Split, load_with_contents};
use crate::distillation::{Lessons, Teacher};
use crate::eval::{self, Context, EvalReport};
use crate::gpu::{AdapterClass, Gpu, GpuError};
use crate::images::near_far;
use crate::metrics::lpips::Lpips;
use crate::render::{Channel, Renderer};
use crate::report::{self, Example};
use crate::run::{CopyFault, RunDir};
use crate::text::{counted, counted_len};
use crate::train::{MemoryPlan, operations, plan};

/// Views on a slow adapter where none are asked for.
const VIEWS_ON_SOFTWARE: usize = 25;

/// The frames that `views` picks; without it all of them, or 25 on a software adapter.
pub(super) fn pick(
    session: &Session,
    gpu: &Gpu,
    frames: &[Frame],
    views: Option<&Selection>,
) -> anyhow::Result<Vec<Frame>> {
    let n = match views {
        Some(Selection::These(parts)) => {
            let views = views::indices(parts, "--eval-views", frames.len(), "the split")?;
            return Ok(views.into_iter().map(|i| frames[i].clone()).collect());
        }
        Some(Selection::Number(0)) => {
            return Err(usage(
                "--eval-views 0: one number says how many views; give 1 or more, `all`, or indices such as 0,5 or 0-0",
            ));
        }
        Some(Selection::Number(n)) => *n,
        None if gpu.class() == AdapterClass::Software && frames.len() > VIEWS_ON_SOFTWARE => {
            session.out.note(format!(
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

/// Open a dataset, and repeat its warnings.
pub(super) fn open_dataset(
    session: &Session,
    path: &Path,
    opening: Opening,
) -> anyhow::Result<Dataset> {
    let dataset = Dataset::open_with(path, opening)?;
    tell(session, &dataset);
    Ok(dataset)
}

fn tell(session: &Session, dataset: &Dataset) {
    for warning in &dataset.warnings {
        session.out.note(format!("warning: {warning}"));
    }
    session.out.note(format!(
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

/// The same of a method that learns what to begin with, which any does; of what it says nothing of, it gets what suits it, and
/// `--set meta.…` changes that too.
pub(super) fn config_with_meta(
    file: Option<&Path>,
    method: Option<&str>,
    overrides: &[String],
    class: AdapterClass,
) -> Result<Config, ConfigError> {
    let of_meta = |text: &&String| text.trim_start().starts_with("meta.");
    let (of_meta, others): (Vec<&String>, Vec<&String>) = overrides.iter().partition(of_meta);
    let cloned = |list: Vec<&String>| list.into_iter().cloned().collect::<Vec<_>>();
    let mut config = self::config(file, method, &cloned(others), class)?;
    let suiting = Meta::suiting(&config.optimizer);
    config.meta.get_or_insert(suiting);
    config.distillation = None;
    Config::parse(&config.to_toml(), &config.method, &cloned(of_meta))
}

/// The configuration that flags ask for: a file, a preset, or what suits adapters of `class`; not resolved yet.
pub(super) fn config(
    file: Option<&Path>,
    method: Option<&str>,
    overrides: &[String],
    class: AdapterClass,
) -> Result<Config, ConfigError> {
    match (file, method) {
        (Some(file), _) => Config::from_file(file, overrides),
        (None, method) => {
            Config::preset(method.unwrap_or(Config::default_method(class)), overrides)
        }
    }
}

/// Fill in what depends on the scene and the device, and tell what was taken from the cameras and the images.
pub(super) fn resolve(
    session: &Session,
    config: &mut Config,
    dataset: &mut Dataset,
    class: AdapterClass,
) {
    if dataset.surroundings.is_none() && config.goes_by_images() {
        dataset.survey();
    }
    let (hints, framing) = (dataset.hints(), dataset.framing);
    let is_placed = config.scene.scale.is_some() && config.scene.offset.is_some();
    let why = match (config.scene.scale, config.scene.offset) {
        (Some(_), _) => "of the scale given, around where",
        (None, Some(_)) => "at the offset given, in the size that suits where",
        (None, None) => "since",
    };
    let given = [config.scene.background, config.scene.eval_background];
    config.resolve(hints, class);
    if let Some(framing) = framing.filter(|_| !is_placed && config.scene.ndc.is_none()) {
        let scene = &config.scene;
        let [x, y, z] = scene.box_offset();
        session.out.note(format!(
            "scene: a box of {} world units a side, {why} {} (scene.scale={} scene.offset=[{x},{y},{z}] \
             scene.aabb_scale={}; --set changes them)",
            short(f64::from(scene.aabb_scale.unwrap_or(1)) / scene.box_scale()),
            framing.reason(),
            scene.box_scale(),
            scene.aabb_scale.unwrap_or(1),
        ));
    }
    if config.scene.forward_facing == ForwardFacing::Ndc
        && hints.is_normalized
        && config.scene.ndc.is_none()
    {
        session.out.note(
            "the cameras do not all look one way: the scene is held in the world, not in normalised device coordinates",
        );
    }
    if matches!(given, [Background::Auto(_), _])
        && let Some(surroundings) = hints.surroundings
    {
        let background = config.scene.background;
        let why = match surroundings {
            Surroundings::Transparent => "where the images are transparent".to_owned(),
            Surroundings::Plain(_) => {
                "around the object in most images, which are opaque".to_owned()
            }
            Surroundings::Filled(_) => "the mean of the images, which the scene fills".to_owned(),
        };
        let loss = config.training.opacity_loss.unwrap_or(0.0);
        let more = if loss > 0.0 {
            ", without training.opacity_loss, which keeps the scene opaque"
        } else {
            ""
        };
        session.out.note(format!(
            "background: {background}, {why} (--background chooses another{more})"
        ));
    }
}

/// The box of a resolved configuration, in world units. Device coordinates hold all that lies before the cameras: what
/// `dataset` itself frames stands for that.
pub(super) fn world_box(dataset: &Dataset, config: &Config) -> Bounds {
    box_of(
        config,
        if config.scene.ndc.is_some() {
            dataset.hints()
        } else {
            SceneHints::default()
        },
    )
}

/// The box of a resolved configuration in world units, for which `hints` stand where they say something.
pub(super) fn box_of(config: &Config, hints: SceneHints) -> Bounds {
    let scene = &config.scene;
    let scale = hints.scale.unwrap_or(scene.box_scale());
    let offset = hints.offset.unwrap_or(scene.box_offset());
    let side = hints.aabb_scale.or(scene.aabb_scale).unwrap_or(1);
    let corner = |sign: f64| offset.map(|o| (0.5 + sign * f64::from(side) / 2.0 - o) / scale);
    Bounds {
        low: corner(-1.0),
        high: corner(1.0),
    }
}

/// What is wrong with the cameras of `dataset` under a resolved configuration.
pub(super) fn problems(dataset: &Dataset, config: &Config) -> Vec<Problem> {
    let world = world_box(dataset, config);
    let near_far = |view: &Frame| near_far(config, view.near_far);
    let cubes = config.scene.aabb_scale.unwrap_or(1);
    let mut problems = doctor::check(dataset, &world, cubes, &near_far);
    for cells in config.passes.iter().filter_map(|p| p.field.cells.as_ref()) {
        let corner = |share: [f32; 3]| -> [f64; 3] {
            let side = |a: usize| world.high[a] - world.low[a];
            std::array::from_fn(|a| world.low[a] + f64::from(share[a]) * side(a))
        };
        let grid = Bounds {
            low: corner(cells.low),
            high: corner(cells.high),
        };
        // Of a grid that fills the box all has been told.
        if grid != world {
            problems.extend(doctor::check_grid(dataset, &grid, &near_far));
        }
    }
    problems
}

/// Tell what is wrong with the cameras of `dataset`, and refuse to train where that would be in vain.
pub(super) fn check(
    session: &Session,
    dataset: &Dataset,
    path: &Path,
    config: &Config,
) -> anyhow::Result<()> {
    let problems = problems(dataset, config);
    let (errors, warnings): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|p| p.severity == Severity::Error);
    for warning in warnings {
        session.out.note(format!("warning: {}", warning.message));
    }
    check_depths(dataset, config)?;
    errors.first().map_or(Ok(()), |error| {
        Err(anyhow::anyhow!(
            "{}: {} (kiln inspect {} --plot cameras.png shows them)",
            dataset.name,
            error.message,
            path.display()
        ))
    })
}

/// Refuse rays that end before they start.
fn check_depths(dataset: &Dataset, config: &Config) -> anyhow::Result<()> {
    let frames = dataset
        .train
        .iter()
        .chain(&dataset.val)
        .chain(&dataset.test);
    for frame in frames {
        let [near, far] = near_far(config, frame.near_far);
        if near >= far {
            return Err(usage(format!(
                "rays of {} would start at {near} and end at {far}: change scene.near or scene.far with --set",
                frame.name
            )));
        }
    }
    Ok(())
}

/// What a run will take on the device.
#[derive(Debug, serde::Serialize)]
pub(super) struct Memory {
    image_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher_bytes: Option<u64>,
    total_bytes: u64,
    plan: MemoryPlan,
}

/// The memory that training on `dataset` takes under a resolved configuration.
pub(super) fn memory(gpu: &Gpu, config: &Config, dataset: &Dataset) -> Result<Memory, GpuError> {
    let plan = plan(gpu, config)?;
    let pixels: u64 = dataset
        .train
        .iter()
        .map(|f| f.camera.downscaled(dataset.downscale))
        .map(|c| u64::from(c.width) * u64::from(c.height))
        .sum();
    Ok(Memory {
        image_bytes: pixels * 4,
        teacher_bytes: None,
        total_bytes: pixels * 4 + plan.total_bytes(),
        plan,
    })
}

impl Memory {
    /// Count what `teacher` takes while it teaches.
    pub(super) fn add_teacher(&mut self, gpu: &Gpu, config: &Config, teacher: &Teacher) {
        let teacher = Lessons::bytes(gpu, config, teacher, self.plan.capacities[0].kept);
        self.teacher_bytes = Some(teacher);
        self.total_bytes += teacher;
    }

    /// Bytes of all of it.
    #[cfg(feature = "viewer")]
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let plan = &self.plan;
        format!(
            "about {} on the device ({} images, {} parameters, {} batch, {} occupancy, {} rendering{}){}",
            bytes(self.total_bytes),
            bytes(self.image_bytes),
            bytes(plan.parameter_bytes),
            bytes(plan.batch_bytes),
            bytes(plan.occupancy_bytes),
            bytes(plan.rendering_bytes),
            self.teacher_bytes
                .map(|teacher| format!(", {} teacher", bytes(teacher)))
                .unwrap_or_default(),
            if plan.micro_batches > 1 {
                format!(", in {} micro-batches", plan.micro_batches)
            } else {
                String::new()
            },
        )
    }
}

/// Decode images under a bar; with what tells their files from others.
pub(super) fn load(
    session: &Session,
    frames: &[Frame],
    downscale: u32,
    what: &'static str,
) -> anyhow::Result<(Vec<Image>, Vec<Content>)> {
    let bar = session.out.bar(frames.len(), what);
    let loaded = load_with_contents(frames, downscale, &|| bar.inc())?;
    bar.finish_and_clear();
    Ok(loaded)
}

/// Say that images are not those that the run in `dir` was trained on before, though their cameras are.
pub(super) fn warn_of_other_images(session: &Session, dir: &RunDir, whose: &str) {
    session.out.note(format!(
        "warning: {whose} not those that {} was trained on so far: their files changed, their cameras did not; it goes on \
         with them, and remembers them from its next checkpoint on (to have them from the start, train anew)",
        dir.path().display()
    ));
}

/// Say that held-out images are not those that the run in `dir` was measured on before.
pub(super) fn warn_of_other_held_out(session: &Session, dir: &RunDir, dataset: &Path) {
    session.out.note(format!(
        "warning: the images held out in {} are not those that {} was measured on so far: their files changed; what is measured \
         from now on does not compare with what was before",
        dataset.display(),
        dir.path().display()
    ));
}

/// A run opened for looking at.
pub(super) struct OpenRun {
    pub(super) checkpoint: Checkpoint,
    pub(super) renderer: Renderer,
}

/// Open the checkpoint of the run at `path`, and say where the run's `config.toml` says something else.
pub(super) fn open_checkpoint(session: &Session, path: &Path) -> anyhow::Result<Checkpoint> {
    let checkpoint = Checkpoint::open(path)?;
    if let Some(fault) = fault_of_copy(path, &checkpoint) {
        session.out.note(format!("warning: {fault}"));
    }
    Ok(checkpoint)
}

/// The same of a run that goes on, which writes that file anew.
pub(super) fn open_to_resume(session: &Session, path: &Path) -> anyhow::Result<Checkpoint> {
    let checkpoint = Checkpoint::open(path)?;
    let dir = RunDir::of(path);
    if let Some(fault) = dir.copy_fault(&checkpoint.info.config) {
        session.out.note(format!(
            "warning: {}; it is a copy for reading: a resumed run keeps the configuration of its checkpoint, and the file is \
             set back (train anew with --config to use another)",
            name_fault(&dir, &fault)
        ));
    }
    Ok(checkpoint)
}

/// What the `config.toml` beside the checkpoint in `path` says else than it, and what to do about it.
pub(super) fn fault_of_copy(path: &Path, checkpoint: &Checkpoint) -> Option<String> {
    let dir = RunDir::of(path);
    // Other files beside a run's own checkpoint have other configurations.
    let fault = dir
        .is(path)
        .then(|| dir.copy_fault(&checkpoint.info.config))??;
    let way_out = match &fault {
        CopyFault::Changed => format!(
            "kiln train DATASET --config {} trains another run with what it says",
            dir.config().display()
        ),
        CopyFault::Unreadable(_) => "nothing needs the file: remove it".to_owned(),
    };
    Some(format!(
        "{}; it is a copy for reading, and the configuration in the checkpoint rules ({way_out})",
        name_fault(&dir, &fault)
    ))
}

fn name_fault(dir: &RunDir, fault: &CopyFault) -> String {
    match fault {
        CopyFault::Changed => format!("{} was changed", dir.config().display()),
        CopyFault::Unreadable(reason) => reason.clone(),
    }
}

/// Open the run at `path`, with another background if asked.
pub(super) fn open_run(
    session: &Session,
    gpu: &Arc<Gpu>,
    path: &Path,
    background: Option<Background>,
) -> anyhow::Result<OpenRun> {
    look_at(gpu, open_checkpoint(session, path)?, background)
}

/// What `checkpoint` holds, for looking at, with another background if asked.
pub(super) fn look_at(
    gpu: &Arc<Gpu>,
    checkpoint: Checkpoint,
    background: Option<Background>,
) -> anyhow::Result<OpenRun> {
    let mut config = checkpoint.info.config.clone();
    if let Some(background) = background {
        config.scene.eval_background = background;
    }
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

/// `--background` of evaluation and rendering, which need one colour.
pub(super) fn one_background(background: Option<Background>) -> anyhow::Result<Option<Background>> {
    match background {
        Some(other @ (Background::Random | Background::Auto(_))) => Err(usage(format!(
            "--background {other}: images need one colour: white, black or #rrggbb",
        ))),
        other => Ok(other),
    }
}

/// The dataset of a run as that was trained on it: all views but those it saw are held out, where nothing else says which.
pub(super) fn dataset_of(
    session: &Session,
    checkpoint: &Checkpoint,
    given: Option<&Path>,
    opening: Opening,
) -> anyhow::Result<Dataset> {
    let mut dataset = whole_dataset_of(session, checkpoint, given, opening)?;
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
pub(super) fn whole_dataset_of(
    session: &Session,
    checkpoint: &Checkpoint,
    given: Option<&Path>,
    opening: Opening,
) -> anyhow::Result<Dataset> {
    let remembered = PathBuf::from(&checkpoint.info.dataset);
    let path = given.unwrap_or(&remembered);
    if given.is_none() && checkpoint.info.is_imported() {
        return Err(usage(
            "the run was imported and knows no images: give a dataset with --dataset",
        ));
    }
    if given.is_none() && checkpoint.info.config.meta.is_some() {
        return Err(usage(format!(
            "the run learned what to begin with, from the objects in {}: kiln meta-eval measures it, and eval and render take an \
             object with --dataset",
            path.display()
        )));
    }
    if given.is_none() && !path.exists() {
        return Err(usage(format!(
            "the run was trained on {}, which is not there: give its place with --dataset",
            path.display()
        )));
    }
    open_dataset(session, path, opening)
}

/// Say where `dataset` is not the one that a run was trained on.
pub(super) fn warn_of_other_views(session: &Session, checkpoint: &Checkpoint, dataset: &Dataset) {
    let trained_on = &checkpoint.info.fingerprint;
    if !trained_on.is_empty() && *trained_on != dataset.fingerprint() {
        session.out.note(format!(
            "warning: {} is not the dataset that the run was trained on ({}): their cameras differ",
            dataset.root.display(),
            checkpoint.info.dataset
        ));
    }
}

/// Say where the images of `split` are not those that a run was trained or measured on, though their cameras are.
pub(super) fn warn_of_changed_images(
    session: &Session,
    checkpoint: &Checkpoint,
    dataset: &Dataset,
    split: Split,
) -> anyhow::Result<()> {
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
        session.out.note(format!(
            "warning: the {split} images in {} are not those that the run was {what} on: their files changed",
            dataset.root.display()
        ));
    }
    Ok(())
}

/// What a software adapter does of networks on two cores, in operations per second.
pub(super) const SOFTWARE_SPEED: f64 = 15e9;

/// What is about to happen, and how long it takes where that is long and can be told.
fn evaluating(gpu: &Gpu, config: &Config, images: &[Image]) -> Result<String, GpuError> {
    let what = format!("evaluating {}", counted_len(images.len(), "view"));
    let Some([_, ray]) = operations(gpu, config)? else {
        return Ok(what);
    };
    let pixels: f64 = images
        .iter()
        .map(|i| f64::from(i.width) * f64::from(i.height))
        .sum();
    let seconds = ray * pixels / SOFTWARE_SPEED;
    if gpu.class() == AdapterClass::Software && seconds > 20.0 {
        Ok(format!("{what}, in about {seconds:.0} s"))
    } else {
        Ok(what)
    }
}

/// What to evaluate.
pub(super) struct Request<'a> {
    pub(super) frames: &'a [Frame],
    pub(super) split: Split,
    pub(super) steps: u32,
    pub(super) train_seconds: f64,
    /// Where to write the renderings.
    pub(super) save_to: Option<&'a Path>,
    /// Where the images come from.
    pub(super) dataset: &'a Dataset,
    /// What to measure the learned perceptual distance with.
    pub(super) lpips: Option<&'a Lpips>,
    /// Training images in little, to find them among `frames`; none where that is not to be looked for.
    pub(super) trained_on: &'a [Thumbnail],
}

/// Evaluate under a bar; the worst, the median and the best view come along, to be shown.
pub(super) fn evaluate(
    session: &Session,
    gpu: &Gpu,
    renderer: &mut Renderer,
    request: &Request<'_>,
) -> anyhow::Result<(EvalReport, Vec<Example>)> {
    let (images, _) = load(
        session,
        request.frames,
        request.dataset.downscale,
        "loading",
    )?;
    if !request.trained_on.is_empty() {
        let train = request.dataset.train.iter().zip(request.trained_on);
        let shown: Vec<Thumbnail> = images.par_iter().map(Thumbnail::of).collect();
        let held_out: Vec<_> = request.frames.iter().zip(&shown).collect();
        let train: Vec<_> = train.collect();
        if let Some(leak) = same_picture::leaks(request.dataset, &train, &held_out) {
            session.out.note(format!("warning: {}", leak.message));
        }
    }
    if let Some(lpips) = request.lpips {
        for (frame, image) in request.frames.iter().zip(&images) {
            lpips
                .check_size(image.width as usize, image.height as usize)
                .with_context(|| frame.name.clone())?;
        }
    }
    if let Some(folder) = request.save_to {
        std::fs::create_dir_all(folder)
            .map_err(|e| anyhow::anyhow!("cannot make {}: {e}", folder.display()))?;
    }
    session
        .out
        .in_place_of_bar(evaluating(gpu, renderer.config(), &images)?);
    let camera_of = |frame: &Frame| frame.camera.downscaled(request.dataset.downscale);
    let cameras: Vec<Camera> = request.frames.iter().map(camera_of).collect();
    let way_out = "Ctrl-C ends it, and the run stays as it is; fewer --eval-views or a larger --downscale measure sooner";
    let mut pace = Pace::new(session, "evaluating", way_out, &cameras, 1);
    let background = renderer.config().scene.eval_background.color();
    let mut views = Vec::with_capacity(images.len());
    let mut renderings = Vec::with_capacity(images.len());
    let mut rays = 0.0;
    let mut seconds = 0.0;
    for (index, (frame, image)) in request.frames.iter().zip(&images).enumerate() {
        let start = Instant::now();
        let (camera, near_far) = (&cameras[index], frame.near_far);
        let mut go_on = |done| pace.go_on(done);
        let rendered = renderer.render_while(camera, near_far, false, 1, &mut go_on)?;
        let Some(rendered) = rendered else {
            pace.finish();
            return Err(Interrupted(format!(" while evaluating view {}", frame.name)).into());
        };
        // The first view pays for compiling shaders.
        if index > 0 || images.len() == 1 {
            rays += f64::from(rendered.width * rendered.height);
            seconds += start.elapsed().as_secs_f64();
        }
        let mut quality = eval::compare(renderer.config(), &frame.name, image, &rendered);
        if let Some(lpips) = request.lpips {
            let distance = eval::perceptual_distance(lpips, renderer.config(), image, &rendered)?;
            quality.lpips = Some(distance);
        }
        let pixels = rendered.pixels(Channel::Rgb, background, [0.0, 1.0]);
        if let Some(folder) = request.save_to {
            // The view's number in its split, whichever views were chosen.
            let mut all = request.dataset.frames(request.split).iter();
            let number = all.position(|f| f == frame).unwrap_or(index);
            let path = folder.join(format!("{}_{number:03}.png", request.split));
            save_png(&path, &pixels, rendered.width, rendered.height)?;
        }
        renderings.push(pixels);
        views.push(quality);
        pace.complete();
    }
    pace.finish();
    let context = Context {
        split: request.split.to_string(),
        dataset: request.dataset.root.display().to_string(),
        downscale: request.dataset.downscale,
        steps: request.steps,
        train_seconds: request.train_seconds,
        rays_per_second: if seconds > 0.0 { rays / seconds } else { 0.0 },
        device: gpu.name().to_owned(),
        lpips_network: request.lpips.map(|l| l.network().to_string()),
    };
    let picks = report::pick(&views).into_iter();
    let examples = picks.map(|(index, label)| {
        let prediction = std::mem::take(&mut renderings[index]);
        Example::new(
            label,
            &views[index],
            &images[index],
            prediction,
            renderer.config(),
        )
    });
    let examples = examples.collect();
    Ok((eval::report(renderer.config(), context, views), examples))
}

/// Keep an evaluation in its run: `eval.json` and the report. Where that fails, the figures are told all the same.
pub(super) fn keep(
    session: &Session,
    dir: &RunDir,
    config: &Config,
    report: &EvalReport,
    examples: &[Example],
) -> anyhow::Result<()> {
    let text = format!("{}\n", serde_json::to_string_pretty(report)?);
    if let Err(error) = dir.write(&dir.eval(), &text) {
        session.out.note(format!("warning: {error}"));
    }
    match report::write(dir, Some(&config.to_toml()), report, examples) {
        Ok(()) => session
            .out
            .note(format!("report: {}", dir.report().display())),
        Err(error) => session.out.note(format!("warning: {error}")),
    }
    Ok(())
}

/// One line for people.
pub(super) fn describe(report: &EvalReport) -> String {
    let ssim = report
        .ssim
        .map(|s| format!(", SSIM {s:.4} (11×11 Gaussian, σ 1.5)"))
        .unwrap_or_default();
    let lpips = report
        .lpips
        .zip(report.lpips_network.as_ref())
        .map(|(distance, network)| format!(", LPIPS {distance:.3} ({network})"))
        .unwrap_or_default();
    let size = if report.downscale > 1 {
        format!(" at 1/{} of their size", report.downscale)
    } else {
        String::new()
    };
    format!(
        "{} PSNR {:.2} dB{ssim}{lpips} over {}{size}, background {}, {} values rounded to 8 bits, after {} and {:.1} s of training",
        report.split,
        report.psnr,
        counted_len(report.views, "view"),
        report.background,
        report.color_space,
        counted(report.steps, "step"),
        report.train_seconds
    )
}
