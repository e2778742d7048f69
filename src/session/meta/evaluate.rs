//! `kiln meta-eval`: trains held-out objects on one or a few views, from the meta-learned initialisation and from random
//! weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::figure::{Figure, Row};
use super::stream;
use crate::checkpoint::Checkpoint;
use crate::config::ResolvedConfig;
use crate::dataset::{Frame, Image, Object, Splits, load_images};
use crate::eval::{self, ViewQuality, evaluate_view};
use crate::gpu::{AdapterClass, Gpu, GpuError};
use crate::images::ImageSet;
use crate::render::{self, Channel, Renderer};
use crate::run::RunDir;
use crate::session::check::{self, MAX_DOWNSCALE};
use crate::session::memory::SOFTWARE_SPEED;
use crate::session::run_log::{Line, SCHEMA};
use crate::session::views::{self, Selection};
use crate::session::{Error, Observer, ObserverExt, Result, Scale, data, open};
use crate::text::{counted, counted_len};
use crate::train::{StepStatus, Trainer, operations};

/// Options of the evaluation of a meta-learned initialisation.
#[derive(Debug, Clone)]
pub struct MetaEvalOptions {
    /// Meta-learned run, or a checkpoint file.
    pub run: PathBuf,
    /// Number of held-out objects, the first of the list. If `None`, all, but at most 5 on a software adapter.
    pub objects: Option<u32>,
    /// Numbers of steps after which to evaluate.
    pub steps: Vec<u32>,
    /// Views of each object to train on: a number (the first views), or indices.
    pub train_views: Selection,
    /// Other views to evaluate. If `None`, all, but at most 3 on a software adapter.
    pub eval_views: Option<Selection>,
    /// Folder of objects, if not where the run was trained.
    pub root: Option<PathBuf>,
    /// JSON file that lists the folders of the split `test`; the run's if `None`.
    pub splits: Option<PathBuf>,
    /// Factor to shrink the images by; the run's if `None`.
    pub downscale: Option<u32>,
    /// Whether to rotate images by their EXIF orientation; on if the run was trained that way.
    pub apply_orientation: bool,
    /// Folder to write to; the run if `None`.
    pub out: Option<PathBuf>,
}

impl MetaEvalOptions {
    /// Default numbers of steps after which to evaluate.
    pub const STEPS: [u32; 5] = [0, 8, 32, 128, 512];

    /// Return options that evaluate `run` with training on one view of each object.
    #[must_use]
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            objects: None,
            steps: Self::STEPS.to_vec(),
            train_views: Selection::Number(1),
            eval_views: None,
            root: None,
            splits: None,
            downscale: None,
            apply_orientation: false,
            out: None,
        }
    }
}

/// Default numbers of objects, and of views of each, on a software adapter.
const OBJECTS_ON_SOFTWARE: usize = 5;
const VIEWS_ON_SOFTWARE: usize = 3;
/// Maximum number of novel views of an object in the figure, as in the figure of the paper.
const SHOWN: usize = 8;
/// Names of the initialisations.
const INITIALISATIONS: [&str; 2] = ["learned", "random"];

/// Return the mean of `values`, or `None` if there are none.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Return the side in pixels of square views of which a software adapter renders `n` in `seconds`.
pub(super) fn affordable_side(
    gpu: &Gpu,
    config: &ResolvedConfig,
    n: usize,
    seconds: f64,
) -> Result<u32, GpuError> {
    /// Assumed operations per ray of methods that march rays, whose number of samples is not known in advance.
    const MARCHED: f64 = 1e6;
    let ray = operations(gpu.profile(), config)?.map_or(MARCHED, |[_, ray]| ray);
    let side = (SOFTWARE_SPEED * seconds / (ray * n as f64)).sqrt();
    Ok((side as u32).max(16))
}

/// Decoded views that are not trained on.
pub(super) struct NovelViews {
    frames: Vec<Frame>,
    pub(super) images: Vec<Image>,
    pub(super) downscale: u32,
}

impl NovelViews {
    /// Decode `frames` of `object`.
    pub(super) fn load(object: &str, mut frames: Vec<Frame>, downscale: u32) -> Result<Self> {
        let images = load_images(&frames, downscale, &|| ())?;
        for frame in &mut frames {
            frame.name = format!("{object}/{}", frame.name);
        }
        Ok(Self {
            frames,
            images,
            downscale,
        })
    }

    /// Render all views and compare them with their images.
    pub(super) fn measure(
        &self,
        observer: &dyn Observer,
        renderer: &mut Renderer,
    ) -> Result<Vec<(ViewQuality, render::RenderedFrame)>> {
        let mut keep_going = |_| observer.keep_going();
        let mut all = Vec::new();
        for (frame, image) in self.frames.iter().zip(&self.images) {
            let seen = evaluate_view(renderer, frame, image, self.downscale, &mut keep_going)?;
            let seen =
                seen.ok_or_else(|| Error::Cancelled(format!(" while rendering {}", frame.name)))?;
            all.push(seen);
        }
        Ok(all)
    }
}

/// Return the indices of the views of `object` to train on, and of those to evaluate.
fn choose(
    options: &MetaEvalOptions,
    object: &Object,
    software: bool,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let n = object.frames.len();
    let all_of_them = |text: String| {
        Error::usage(format!(
            "--train-views {text}: {} has {n} views, and some must be left to evaluate",
            object.name
        ))
    };
    let input: Vec<usize> = match &options.train_views {
        Selection::Number(0) => {
            return Err(Error::usage(
                "--train-views 0: a single number is the number of views; to train on the first view alone, give 1",
            ));
        }
        Selection::Number(k) if *k >= n => return Err(all_of_them(k.to_string())),
        Selection::Number(k) => (0..*k).collect(),
        Selection::Indices(parts) => views::indices(parts, "--train-views", n, &object.name)?,
        Selection::All => return Err(all_of_them("all".to_owned())),
    };
    let others: Vec<usize> = (0..n).filter(|i| !input.contains(i)).collect();
    let most = if software {
        VIEWS_ON_SOFTWARE
    } else {
        usize::MAX
    };
    let unseen = match &options.eval_views {
        Some(Selection::Indices(parts)) => {
            let list = views::indices(parts, "--eval-views", n, &object.name)?;
            if let Some(i) = list.iter().find(|i| input.contains(i)) {
                return Err(Error::usage(format!(
                    "--eval-views {i}: that view is trained on; leave it out"
                )));
            }
            list
        }
        views => {
            let k = match views {
                Some(Selection::Number(0)) => {
                    return Err(Error::usage("--eval-views 0: give 1 or more"));
                }
                Some(Selection::Number(k)) => *k,
                Some(Selection::All) => others.len(),
                _ => most,
            };
            let k = k.min(others.len());
            (0..k).map(|i| others[i * others.len() / k]).collect()
        }
    };
    if unseen.is_empty() {
        return Err(Error::usage(format!(
            "{} has no view left to evaluate: train on fewer with --train-views",
            object.name
        )));
    }
    Ok((input, unseen))
}

/// Note how long the evaluation takes if it is slow on a software adapter and the time can be estimated.
fn warn_of_slowness(
    observer: &dyn Observer,
    gpu: &Gpu,
    config: &ResolvedConfig,
    objects: &[Object],
    views: &[(Vec<usize>, Vec<usize>)],
    steps: &[u32],
) -> Result<(), GpuError> {
    let operations = operations(gpu.profile(), config)?;
    let Some([step, ray]) = operations.filter(|_| gpu.class() == AdapterClass::Software) else {
        return Ok(());
    };
    let pixels: u64 = objects
        .iter()
        .zip(views)
        .flat_map(|(o, (_, unseen))| unseen.iter().map(|&i| (&o.frames[i], o.dataset.downscale)))
        .map(|(frame, downscale)| stream::pixels(std::slice::from_ref(frame), downscale))
        .sum();
    let initialisations = INITIALISATIONS.len() as f64;
    let rendering = pixels as f64 * ray * steps.len() as f64 * initialisations;
    let most = f64::from(steps.last().copied().unwrap_or(0));
    let training = most * step * objects.len() as f64 * initialisations;
    let seconds = (rendering + training) / SOFTWARE_SPEED;
    if seconds > 30.0 {
        observer.note(format!(
            "on this adapter the evaluation takes about {seconds:.0} s; reduce that with --objects, --eval-views, --downscale or --steps"
        ));
    }
    Ok(())
}

/// Quality of an object after a number of steps.
#[derive(Debug, Clone, serde::Serialize)]
struct Measured {
    object: String,
    beginning: &'static str,
    steps: u32,
    psnr: f64,
    ssim: Option<f64>,
    views: usize,
    /// Training time so far, in seconds.
    seconds: f64,
}

/// Means over objects.
#[derive(Debug, Clone, serde::Serialize)]
struct Mean {
    beginning: &'static str,
    steps: u32,
    psnr: f64,
    ssim: Option<f64>,
    seconds: f64,
}

/// Contents of `meta-eval.json`.
#[derive(Debug, serde::Serialize)]
struct Report {
    schema: u32,
    event: &'static str,
    method: String,
    outer_steps: u32,
    inner_steps: u32,
    meta_seconds: f64,
    background: String,
    color_space: &'static str,
    root: String,
    downscale: u32,
    train_views: usize,
    objects: usize,
    means: Vec<Mean>,
    each: Vec<Measured>,
    device: String,
}

/// A trainer that is reused for each object, with a renderer for its views.
struct ObjectTrainer<'a> {
    observer: &'a dyn Observer,
    gpu: &'a Arc<Gpu>,
    config: &'a ResolvedConfig,
    checkpoint: &'a Checkpoint,
    set: ImageSet,
    trainer: Trainer,
    renderer: Renderer,
}

impl ObjectTrainer<'_> {
    /// Reset the trainer to an initialisation, for the images that are currently in the image set.
    fn initialise(&mut self, initialisation: &str) -> Result<()> {
        if initialisation == INITIALISATIONS[0] {
            self.trainer.reset(None)?;
            self.checkpoint.initialise(self.gpu, &self.trainer)?;
        } else {
            self.trainer.reset(Some(&self.set))?;
        }
        Ok(())
    }

    /// Train until `steps` steps are done, and export the weights to the renderer.
    fn train(&mut self, steps: u32) -> Result<()> {
        let mut events = Vec::new();
        loop {
            match self.trainer.advance(steps, &mut events)? {
                StepStatus::Reached => break,
                StepStatus::Busy => self.trainer.wait()?,
                StepStatus::Submitted => {}
            }
            self.observer.check()?;
            if !self.observer.keep_going() {
                return Err(Error::Cancelled(String::new()));
            }
        }
        self.trainer.pause(&mut events)?;
        Ok(self.trainer.export_ema(&self.renderer.parameters)?)
    }

    fn rgb(&self, frame: &render::RenderedFrame) -> Vec<u8> {
        let background = self.config.scene.eval_background.color();
        frame.pixels(Channel::Rgb, background, [0.0, 1.0])
    }

    fn photograph(&self, image: &Image) -> Vec<u8> {
        eval::bytes_over_background(image, self.config)
    }
}

/// Train held-out objects from the meta-learned initialisation and from random weights, evaluate both, and write
/// `meta-eval.json` and `meta-eval.png`.
///
/// # Errors
/// [`Error::Usage`] if the options do not fit the run or its objects, [`Error::Cancelled`] if the observer cancels, another
/// [`Error`] if the run or an object cannot be read, a file cannot be written, or the device fails.
pub fn meta_eval(gpu: &Arc<Gpu>, options: &MetaEvalOptions, observer: &dyn Observer) -> Result<()> {
    check::in_range("--objects", options.objects, &(1..=u32::MAX))?;
    check::in_range("--downscale", options.downscale, &(1..=MAX_DOWNSCALE))?;
    if options.steps.is_empty() {
        return Err(Error::usage(
            "--steps: give numbers of steps, such as 0,32,512",
        ));
    }
    let mut steps = options.steps.clone();
    steps.sort_unstable();
    steps.dedup();
    let mut checkpoint = open::open_checkpoint(observer, &options.run)?;
    if let Some(file) = &options.splits {
        checkpoint.info.config = checkpoint.info.config.with(|config| {
            if let Some(meta) = &mut config.meta {
                meta.splits = Some(data::absolute(file));
            }
        });
    }
    let root = ("--root", options.root.as_deref());
    let opening = checkpoint.info.opening();
    let opening = opening.or(options.downscale, options.apply_orientation);
    let objects = super::objects_of(observer, &options.run, &checkpoint, root, opening)?;
    let of_run = &checkpoint.info.config;
    let inner_steps = of_run.meta.as_ref().map_or(0, |m| m.inner_steps);
    let config = of_run.with(|config| config.meta = None);
    let software = gpu.class() == AdapterClass::Software;
    let most = match options.objects {
        Some(n) => n as usize,
        None if software => OBJECTS_ON_SOFTWARE,
        None => usize::MAX,
    };
    let chosen = &objects.test[..most.min(objects.test.len())];
    if chosen.is_empty() {
        return Err(Error::usage(format!(
            "{} has no held-out objects: list some as `test` in a file for --splits",
            match &objects.splits {
                Splits::Found => objects.root.display().to_string(),
                splits => splits.to_string(),
            }
        )));
    }
    if chosen.len() < objects.test.len() && options.objects.is_none() {
        observer.note(format!(
            "evaluating {} of {} objects on this software adapter (change that with --objects)",
            chosen.len(),
            objects.test.len()
        ));
    }
    let views = chosen
        .iter()
        .map(|object| choose(options, object, software))
        .collect::<Result<Vec<_>, _>>()?;
    warn_of_slowness(observer, gpu, &config, chosen, &views, &steps)?;
    let dir = options
        .out
        .clone()
        .unwrap_or_else(|| RunDir::of(&options.run).path().to_owned());
    std::fs::create_dir_all(&dir)
        .map_err(|e| Error::failed(format!("cannot create {}: {e}", dir.display())))?;
    let _listener = observer.listen_for_cancel();

    let inputs = chosen
        .iter()
        .zip(&views)
        .map(|(object, (input, _))| -> Vec<Frame> {
            input.iter().map(|&i| object.frames[i].clone()).collect()
        });
    let inputs: Vec<Vec<Frame>> = inputs.collect();
    let downscale = |object: &Object| object.dataset.downscale;
    let pixels = inputs
        .iter()
        .zip(chosen)
        .map(|(f, o)| stream::pixels(f, downscale(o)));
    let pixels = pixels.max().unwrap_or(1);
    let n_inputs = u32::try_from(inputs[0].len()).unwrap_or(u32::MAX);
    let spinner = observer.task("compiling shaders", Scale::Unknown);
    let set = ImageSet::of_slots(gpu, 1, n_inputs, pixels)?;
    let show = |set: &ImageSet, index: usize| -> Result<Vec<Image>> {
        let (frames, downscale) = (&inputs[index], downscale(&chosen[index]));
        let images = load_images(frames, downscale, &|| ())?;
        stream::upload_object(gpu, set, &config, 0, (frames, downscale), &images);
        set.assign(gpu, 0, 0, n_inputs);
        Ok(images)
    };
    show(&set, 0)?;
    let mut trainer = Trainer::new(gpu, &config, &set, None)?;
    trainer.warm_up(&set)?;
    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let renderer = Renderer::new(gpu, &config, bits)?;
    drop(spinner);
    let mut object_trainer = ObjectTrainer {
        observer,
        gpu,
        config: &config,
        checkpoint: &checkpoint,
        set,
        trainer,
        renderer,
    };

    let bar = observer.task(
        "adapting",
        Scale::Count((chosen.len() * INITIALISATIONS.len() * steps.len()) as u64),
    );
    let mut each: Vec<Measured> = Vec::new();
    let mut rows = Vec::new();
    for (index, (object, (_, unseen))) in chosen.iter().zip(&views).enumerate() {
        let images = show(&object_trainer.set, index)?;
        let frames = unseen.iter().map(|&i| object.frames[i].clone());
        let unseen = NovelViews::load(&object.name, frames.collect(), downscale(object))?;
        let mut row = Row {
            name: object.name.clone(),
            input: images
                .iter()
                .map(|i| object_trainer.photograph(i))
                .collect(),
            unseen: unseen
                .images
                .iter()
                .take(SHOWN)
                .map(|i| object_trainer.photograph(i))
                .collect(),
            learned: Vec::new(),
        };
        for initialisation in INITIALISATIONS {
            object_trainer.initialise(initialisation)?;
            let mut last = None;
            for &n in &steps {
                object_trainer.train(n)?;
                let seen = unseen.measure(observer, &mut object_trainer.renderer)?;
                let psnrs: Vec<f64> = seen.iter().map(|(q, _)| q.psnr).collect();
                let ssims: Vec<f64> = seen.iter().filter_map(|(q, _)| q.ssim).collect();
                let measured = Measured {
                    object: object.name.clone(),
                    beginning: initialisation,
                    steps: n,
                    psnr: mean(&psnrs).unwrap_or(0.0),
                    ssim: mean(&ssims),
                    views: seen.len(),
                    seconds: object_trainer.trainer.seconds(),
                };
                observer.json_if_read(&Line {
                    schema: SCHEMA,
                    event: "object",
                    value: &measured,
                })?;
                let views = seen
                    .iter()
                    .take(SHOWN)
                    .map(|(_, f)| object_trainer.rgb(f))
                    .collect();
                last = Some((views, measured.psnr));
                each.push(measured);
                bar.increment();
            }
            row.learned.extend(last);
        }
        rows.push(row);
    }
    drop(bar);

    let means = steps
        .iter()
        .flat_map(|&n| INITIALISATIONS.map(|initialisation| (n, initialisation)));
    let means: Vec<Mean> = means
        .filter_map(|(n, beginning)| mean_of(&each, beginning, n))
        .collect();
    let report = Report {
        schema: SCHEMA,
        event: "meta-eval",
        method: config.method.clone(),
        outer_steps: checkpoint.info.step / inner_steps.max(1),
        inner_steps,
        meta_seconds: checkpoint.info.train_seconds,
        background: config.scene.eval_background.to_string(),
        color_space: "sRGB",
        root: objects.root.display().to_string(),
        downscale: opening.downscale,
        train_views: inputs[0].len(),
        objects: chosen.len(),
        means,
        each,
        device: gpu.name().to_owned(),
    };
    print_table(observer, &report)?;
    let text = format!("{}\n", serde_json::to_string_pretty(&report)?);
    let path = dir.join("meta-eval.json");
    crate::files::replace_file(&path, text.as_bytes())
        .map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))?;
    let size = chosen[0].frames[0].camera.downscaled(downscale(&chosen[0]));
    let figure = Figure {
        title: format!(
            "{} after {} from {}",
            report.method,
            counted(steps.last().copied().unwrap_or(0), "step"),
            counted_len(report.train_views, "view"),
        ),
        beginnings: &INITIALISATIONS,
        rows,
        size: [size.width, size.height],
    };
    let path: &Path = &dir.join("meta-eval.png");
    figure.save(path)?;
    observer.note(format!("figure: {}", path.display()));
    observer.json(&report)
}

fn mean_of(each: &[Measured], beginning: &'static str, steps: u32) -> Option<Mean> {
    let of = || {
        each.iter()
            .filter(move |m| m.beginning == beginning && m.steps == steps)
    };
    let all =
        |value: fn(&Measured) -> Option<f64>| mean(&of().filter_map(value).collect::<Vec<_>>());
    Some(Mean {
        beginning,
        steps,
        psnr: all(|m| Some(m.psnr))?,
        ssim: all(|m| m.ssim),
        seconds: all(|m| Some(m.seconds))?,
    })
}

/// Print the means as a table.
fn print_table(observer: &dyn Observer, report: &Report) -> Result<()> {
    observer.result(format!(
        "PSNR of novel views (dB), {}, trained on {} each; background {}, {} values rounded to 8 bits",
        counted_len(report.objects, "held-out object"),
        counted_len(report.train_views, "view"),
        report.background,
        report.color_space
    ))?;
    observer.result(format!(
        "{:>8} {:>9} {:>9} {:>7} {:>10}",
        "steps", "learned", "random", "gain", "seconds"
    ))?;
    for pair in report.means.chunks(2) {
        if let [learned, random] = pair {
            observer.result(format!(
                "{:>8} {:>9.2} {:>9.2} {:>+7.2} {:>10.1}",
                learned.steps,
                learned.psnr,
                random.psnr,
                learned.psnr - random.psnr,
                learned.seconds
            ))?;
        }
    }
    Ok(())
}
