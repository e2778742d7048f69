//! `kiln train`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;

use super::interrupt::{self, Interrupted, Listener};
use super::journal::{Journal, PLATEAU_DB, Plateau};
use super::output::{SCHEMA, short};
use super::scene::{self, Request, Views};
use super::{Session, usage};
use crate::checkpoint::{self, Checkpoint, CheckpointError, Source};
use crate::config::{Background, Config};
use crate::dataset::{Dataset, Frame, Image, Split};
use crate::eval::{EvalReport, evaluate_view};
use crate::gpu::{AdapterClass, Gpu};
use crate::images::{GpuCamera, ImageSet, near_far};
use crate::render::Renderer;
use crate::run::RunDir;
use crate::train::{Advance, Progress, TrainError, TrainEvent, Trainer};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln train data/lego                                   until the default budget is spent
  kiln train data/lego --seconds 300 --out runs/a        for five minutes of training
  kiln train data/fox --downscale 4 --until-psnr 27      until it is good enough
  kiln train --resume runs/a --seconds 900               go on, exactly as if it had never stopped
  kiln train data/lego --config runs/a/config.toml --seed 2
                                                         the same again with another seed
  kiln train data/lego --set training.batch_size=65536   change a value of the configuration

Ctrl-C saves a checkpoint and stops; a second one quits at once.")]
pub(super) struct Args {
    /// Folder of posed images: Blender or `transforms.json`; may be left out with --resume
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
    /// Stop after this many steps over the run's life [default without --seconds: 20000, or on a software adapter 300 s]
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<u32>,
    /// Stop after this many seconds of training over the run's life
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    pub(super) seconds: Option<f64>,
    /// Stop once the evaluation views reach this PSNR
    #[arg(long, allow_negative_numbers = true, value_name = "DB")]
    pub(super) until_psnr: Option<f64>,
    /// Train on these views only
    #[arg(long, value_name = "i,j", value_delimiter = ',')]
    pub(super) train_views: Vec<usize>,
    /// Views to evaluate: how many, evenly spread, or which: 0,5,10 [default: all, at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j")]
    pub(super) eval_views: Option<Views>,
    /// Shrink the images by this factor
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) downscale: Option<u32>,
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
    /// Background behind training rays: random, white, black or #rrggbb; a colour also serves evaluation
    #[arg(long, value_name = "C")]
    pub(super) background: Option<Background>,
    /// Composite in linear colour
    #[arg(long)]
    pub(super) linear: bool,
    /// Write event files for tensorboard into the run's tensorboard/ folder
    #[arg(long)]
    pub(super) tensorboard: bool,
    /// Overwrite an existing run
    #[arg(long)]
    pub(super) force: bool,
}

impl Args {
    /// Train on `dataset` into `out`, over whatever was there, as the demo does.
    pub(super) fn for_demo(dataset: &Path, out: &Path, seconds: f64) -> Self {
        Self {
            dataset: Some(dataset.to_owned()),
            out: Some(out.to_owned()),
            seconds: Some(seconds),
            checkpoint_every: 60.0,
            force: true,
            method: None,
            config: None,
            overrides: Vec::new(),
            resume: None,
            steps: None,
            until_psnr: None,
            train_views: Vec::new(),
            eval_views: None,
            downscale: None,
            seed: None,
            background: None,
            linear: false,
            tensorboard: false,
        }
    }
}

/// Steps of a run with no limit given, on a GPU; seconds on a software adapter.
const DEFAULT_STEPS: u32 = 20_000;
const DEFAULT_SECONDS: f64 = 300.0;
/// Seconds of training between looks at a held-out view, at least.
const LOOK_EVERY: f64 = 10.0;

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    train(session, args).map(|_| ())
}

/// Refuse what no run can be asked for.
fn check_flags(args: &Args) -> anyhow::Result<()> {
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
    if args.dataset.is_none() && args.resume.is_none() {
        return Err(usage(
            "no DATASET given: name a folder of posed images, or --resume a run",
        ));
    }
    Ok(())
}

/// When to stop, over the run's life.
#[derive(Debug, Clone, Copy)]
struct Limits {
    steps: u32,
    seconds: f64,
    psnr: f64,
}

impl Limits {
    fn of(args: &Args, gpu: &Gpu) -> Self {
        let none = args.steps.is_none() && args.seconds.is_none();
        let software = gpu.class() == AdapterClass::Software;
        Self {
            steps: args.steps.unwrap_or(if none && !software {
                DEFAULT_STEPS
            } else {
                u32::MAX
            }),
            seconds: args.seconds.unwrap_or(if none && software {
                DEFAULT_SECONDS
            } else {
                f64::INFINITY
            }),
            psnr: args.until_psnr.unwrap_or(f64::INFINITY),
        }
    }

    fn describe(self) -> String {
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
    dir: RunDir,
    downscale: u32,
    train_views: Vec<usize>,
    checkpoint: Option<Checkpoint>,
}

/// `--set` keys that do not change what a resumed run computes.
const SAFE_TO_SET: [&str; 2] = ["training.submission_ms", "scene.eval_background"];

fn resume(session: &Session, args: &Args, run: &Path) -> anyhow::Result<Setup> {
    if let Some(text) = args
        .overrides
        .iter()
        .find(|o| !SAFE_TO_SET.iter().any(|k| o.split('=').next() == Some(k)))
    {
        return Err(usage(format!(
            "--set {text}: a resumed run keeps its own configuration; only {} may be set",
            SAFE_TO_SET.join(" and ")
        )));
    }
    for (flag, is_given) in [
        ("--seed", args.seed.is_some()),
        ("--background", args.background.is_some()),
        ("--linear", args.linear),
        ("--downscale", args.downscale.is_some()),
        ("--train-views", !args.train_views.is_empty()),
    ] {
        if is_given {
            return Err(usage(format!(
                "--resume goes on under the run's own configuration: leave out {flag}"
            )));
        }
    }
    let mut checkpoint = Checkpoint::open(run)?;
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
    if args.dataset.is_none() && !dataset_path.exists() {
        return Err(usage(format!(
            "{} was trained on {}, which is not there: give its place as DATASET",
            run.display(),
            dataset_path.display()
        )));
    }
    let dataset = scene::open_dataset(session, &dataset_path)?;
    session.out.note(format!(
        "resuming {} at step {} after {:.1} s",
        run.display(),
        checkpoint.info.step,
        checkpoint.info.train_seconds
    ));
    Ok(Setup {
        dataset,
        dataset_path,
        config: checkpoint.info.config.clone(),
        dir: RunDir::of(run),
        downscale: checkpoint.info.downscale,
        train_views: checkpoint.info.train_views.clone(),
        checkpoint: Some(checkpoint),
    })
}

fn fresh(session: &Session, args: &Args, gpu: &Gpu) -> anyhow::Result<Setup> {
    let dataset_path = args.dataset.clone().unwrap_or_default();
    let mut config = scene::config(
        args.config.as_deref(),
        args.method.as_deref(),
        &args.overrides,
        gpu.class(),
    )?;
    let chosen = args.config.is_some() || args.method.is_some();
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
        config.scene.background = background;
        if background != Background::Random {
            config.scene.eval_background = background;
        }
    }
    config.scene.linear |= args.linear;
    let dataset = scene::open_dataset(session, &dataset_path)?;
    config.resolve(dataset.hints(), gpu.class());
    let dir = args.out.as_deref().map_or_else(
        || RunDir::default_for(&dataset.name, &config.method),
        RunDir::at,
    );
    dir.check_free(args.force)?;
    Ok(Setup {
        dataset,
        dataset_path,
        config,
        dir,
        downscale: args.downscale.unwrap_or(1),
        train_views: args.train_views.clone(),
        checkpoint: None,
    })
}

/// Train and evaluate; returns the run and its report.
pub(super) fn train(
    session: &Session,
    args: &Args,
) -> anyhow::Result<(RunDir, Option<EvalReport>)> {
    check_flags(args)?;
    let gpu = session.open_gpu()?;
    let limits = Limits::of(args, &gpu);
    let mut setup = match &args.resume {
        Some(run) => resume(session, args, run)?,
        None => fresh(session, args, &gpu)?,
    };
    if !setup.train_views.is_empty() {
        setup
            .dataset
            .restrict_train(&setup.train_views)
            .map_err(|e| usage(format!("--train-views: {e}")))?;
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
    announce(session, &gpu, &setup, limits)?;
    let _listener = interrupt::listen();
    let _reservation = setup.dir.reserve()?;

    let started = Instant::now();
    let images = scene::load(
        session,
        &setup.dataset.train,
        setup.downscale,
        "loading images",
    )?;
    let set = upload(&gpu, &setup, &images)?;
    drop(images);
    Listener::check()?;
    let loading = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let spinner = session.out.spinner("compiling shaders");
    let mut trainer = Trainer::new(&gpu, &setup.config, &set)?;
    trainer.warm_up(&set)?;
    if let Some(checkpoint) = &setup.checkpoint {
        checkpoint.restore(&gpu, &mut trainer)?;
    }
    let renderer = Renderer::new(&gpu, &setup.config, &trainer.occupancy.bits)?;
    spinner.finish_and_clear();
    Listener::check()?;
    let compiling = started.elapsed().as_secs_f64();
    session.out.note(format!(
        "loaded in {loading:.1} s, shaders compiled in {compiling:.1} s"
    ));

    if let Some(checkpoint) = &setup.checkpoint {
        setup.dir.rewind_metrics(checkpoint.info.step)?;
    } else {
        setup.dir.create()?;
    }
    let config = setup.config.to_toml();
    setup.dir.write(&setup.dir.config(), &config)?;
    let mut driver = Driver {
        session,
        gpu: &gpu,
        args,
        setup: &setup,
        log: Journal::open(session, &setup.dir, args.tensorboard)?,
        trainer,
        renderer,
        eval_frames,
        limits,
        plateau: Plateau::default(),
    };
    driver.log.write(&Start {
        schema: SCHEMA,
        event: "start",
        step: driver.trainer.step(),
        seconds: driver.trainer.seconds(),
        command: command_line(),
        dataset: setup.dataset_path.display().to_string(),
        dataset_name: setup.dataset.name.clone(),
        downscale: setup.downscale,
        device: gpu.name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        load_seconds: loading,
        compile_seconds: compiling,
    })?;
    let report = driver
        .run(held_out)
        .map_err(|error| diverged(error, &setup.dir))?;
    Ok((setup.dir.clone(), report))
}

/// `error`, with what is left of the run where its values stopped being finite.
fn diverged(error: anyhow::Error, dir: &RunDir) -> anyhow::Error {
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
    let memory = scene::memory(gpu, &setup.config, &setup.dataset.train, setup.downscale)?;
    session.out.note(format!("memory: {}", memory.describe()));
    session.out.note(format!(
        "training {} into {} for {}",
        setup.config.method,
        setup.dir.path().display(),
        limits.describe()
    ));
    Ok(())
}

fn upload(gpu: &Gpu, setup: &Setup, images: &[Image]) -> anyhow::Result<ImageSet> {
    let camera = |f: &Frame| {
        GpuCamera::new(
            &f.camera.downscaled(setup.downscale),
            near_far(&setup.config, f.near_far),
        )
    };
    let cameras: Vec<GpuCamera> = setup.dataset.train.iter().map(camera).collect();
    Ok(ImageSet::upload(gpu, images, &cameras)?)
}

/// How a session of training began, in metrics.jsonl.
#[derive(Serialize)]
struct Start {
    schema: u32,
    event: &'static str,
    step: u32,
    seconds: f64,
    command: String,
    dataset: String,
    dataset_name: String,
    downscale: u32,
    device: String,
    version: &'static str,
    load_seconds: f64,
    compile_seconds: f64,
}

/// The command as one would type it again.
fn command_line() -> String {
    let quoted = |argument: String| {
        let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
        if !argument.is_empty() && argument.chars().all(is_plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|a| quoted(a.to_string_lossy().into_owned()));
    std::iter::once("kiln".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    event: &'a str,
    #[serde(flatten)]
    value: T,
}

struct Driver<'a> {
    session: &'a Session,
    gpu: &'a Arc<Gpu>,
    args: &'a Args,
    setup: &'a Setup,
    trainer: Trainer,
    renderer: Renderer,
    log: Journal<'a>,
    eval_frames: Vec<Frame>,
    limits: Limits,
    plateau: Plateau,
}

impl Driver<'_> {
    fn run(&mut self, split: Split) -> anyhow::Result<Option<EvalReport>> {
        let bar = self.session.out.live(1000, "starting");
        let look = self.look_view()?;
        // A resumed run may be there already.
        let mut done = self.setup.checkpoint.is_some()
            && (self.trainer.step() >= self.limits.steps
                || self.trainer.seconds() >= self.limits.seconds
                || self.is_good_enough(split)?);
        if done {
            self.session.out.note(format!(
                "nothing to train: the run is past {} already, which count over its whole life; give more to go on",
                self.limits.describe()
            ));
        }
        let mut events = Vec::new();
        let mut latest = None;
        let mut last_psnr = None;
        let start = self.trainer.seconds();
        let (mut next_look, mut next_save) =
            (start + LOOK_EVERY, start + self.args.checkpoint_every);
        while !done {
            let outcome = self.trainer.advance(self.limits.steps, &mut events)?;
            if outcome == Advance::Busy {
                self.trainer.wait()?;
            }
            self.hear(&mut events, &mut latest, last_psnr, &bar)?;
            if interrupt::is_asked() {
                return Err(self.interrupted(&mut events, &bar));
            }
            let seconds = self.trainer.seconds();
            done = outcome == Advance::Reached || seconds >= self.limits.seconds;
            if !done && seconds >= next_look {
                self.trainer.pause(&mut events)?;
                let started = Instant::now();
                last_psnr = self.look(look.as_ref())?;
                if let Some(psnr) = last_psnr {
                    self.tell_plateau(seconds, psnr, &bar)?;
                }
                done = self.is_good_enough(split)?;
                // A tenth of the time at most goes into looking.
                next_look = seconds + LOOK_EVERY.max(10.0 * started.elapsed().as_secs_f64());
            }
            if !done && seconds >= next_save {
                next_save = seconds + self.args.checkpoint_every;
                self.trainer.pause(&mut events)?;
                self.save_or_go_on(&bar)?;
            }
        }
        self.trainer.pause(&mut events)?;
        self.hear(&mut events, &mut latest, last_psnr, &bar)?;
        bar.finish_and_clear();
        self.save()?;
        self.finish(split, latest)
    }

    /// Pass on what the trainer says.
    fn hear(
        &mut self,
        events: &mut Vec<TrainEvent>,
        latest: &mut Option<Progress>,
        psnr: Option<f64>,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        for event in events.drain(..) {
            let TrainEvent::Progress(progress) = event;
            self.log.write(&Line {
                schema: SCHEMA,
                event: "progress",
                value: progress,
            })?;
            self.log.scalars(
                progress.step,
                &[
                    ("train/loss", f64::from(progress.loss)),
                    ("train/psnr", f64::from(progress.train_psnr)),
                    ("train/learning_rate", f64::from(progress.learning_rate)),
                    ("train/rays_per_step", f64::from(progress.rays)),
                    ("train/samples_per_step", f64::from(progress.samples)),
                ],
            );
            *latest = Some(progress);
            self.show(progress, psnr, bar);
        }
        Ok(())
    }

    fn show(&self, p: Progress, psnr: Option<f64>, bar: &ProgressBar) {
        let rate = f64::from(p.step) / p.seconds.max(1e-9);
        let by_steps = f64::from(p.step) / f64::from(self.limits.steps);
        let by_seconds = p.seconds / self.limits.seconds;
        let fraction = by_steps.max(by_seconds).min(1.0);
        let eta = if fraction > 0.0 {
            p.seconds / fraction - p.seconds
        } else {
            0.0
        };
        let held_out = psnr
            .map(|v| format!(", held-out {v:.2} dB"))
            .unwrap_or_default();
        bar.set_position((fraction * 1000.0) as u64);
        bar.set_message(format!(
            "step {}  {rate:.1} steps/s  {}samples/s  {}rays/s  train {:.2} dB{held_out}  {eta:.0} s left",
            p.step,
            short(f64::from(p.samples) * rate),
            short(f64::from(p.rays) * rate),
            p.train_psnr,
        ));
    }

    /// A held-out view, small enough to look at often.
    fn look_view(&self) -> anyhow::Result<Option<(Frame, Image, u32)>> {
        let Some(frame) = self.eval_frames.first() else {
            return Ok(None);
        };
        let side = if self.gpu.class() == AdapterClass::Software {
            100
        } else {
            400
        };
        let extra = frame
            .camera
            .width
            .div_ceil(self.setup.downscale)
            .div_ceil(side)
            .max(1);
        let downscale = self.setup.downscale * extra;
        let image = scene::load(
            self.session,
            std::slice::from_ref(frame),
            downscale,
            "loading",
        )?;
        Ok(image
            .into_iter()
            .next()
            .map(|image| (frame.clone(), image, downscale)))
    }

    fn look(&mut self, view: Option<&(Frame, Image, u32)>) -> anyhow::Result<Option<f64>> {
        let Some((frame, image, downscale)) = view else {
            return Ok(None);
        };
        self.trainer.settle(&self.renderer.parameters)?;
        let (quality, _) = evaluate_view(&mut self.renderer, frame, image, *downscale)?;
        let line = serde_json::json!({
            "schema": SCHEMA, "event": "view", "step": self.trainer.step(), "seconds": self.trainer.seconds(),
            "name": quality.name, "psnr": quality.psnr, "downscale": downscale,
        });
        self.log.write(&line)?;
        self.log
            .scalars(self.trainer.step(), &[("held_out/psnr", quality.psnr)]);
        Ok(Some(quality.psnr))
    }

    /// Say once that the held-out view has stopped getting better.
    fn tell_plateau(&mut self, seconds: f64, psnr: f64, bar: &ProgressBar) -> anyhow::Result<()> {
        let Some(since) = self.plateau.add(seconds, psnr) else {
            return Ok(());
        };
        let text = format!(
            "plateau: the held-out view gained less than {PLATEAU_DB} dB in the last {since:.0} s (now {psnr:.2} dB); \
             Ctrl-C saves and stops"
        );
        bar.suspend(|| self.session.out.note(&text));
        self.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "plateau", "step": self.trainer.step(), "seconds": seconds,
            "psnr": psnr, "for_seconds": since,
        }))
    }

    /// Save what there is and say how to go on.
    fn interrupted(&mut self, events: &mut Vec<TrainEvent>, bar: &ProgressBar) -> anyhow::Error {
        bar.finish_and_clear();
        self.session
            .out
            .note("stopping: saving a checkpoint (Ctrl-C again quits at once)");
        let saved = self
            .trainer
            .pause(events)
            .map_err(anyhow::Error::from)
            .and_then(|()| self.hear(events, &mut None, None, bar))
            .and_then(|()| self.save());
        match saved {
            Ok(()) => Interrupted(format!(
                " at step {} and saved: kiln train --resume {} goes on",
                self.trainer.step(),
                self.setup.dir.path().display()
            ))
            .into(),
            Err(error) => error,
        }
    }

    /// Save; a disk that is full now may not be later, and what was saved before is still there.
    fn save_or_go_on(&self, bar: &ProgressBar) -> anyhow::Result<()> {
        let Err(error) = self.save() else {
            return Ok(());
        };
        match error.downcast_ref() {
            Some(CheckpointError::Io { .. }) => {
                bar.suspend(|| {
                    self.session.out.note(format!(
                        "warning: cannot save a checkpoint: {error}; training goes on, the one before is kept"
                    ));
                });
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Whether `--until-psnr` is given and reached.
    fn is_good_enough(&mut self, split: Split) -> anyhow::Result<bool> {
        Ok(self.limits.psnr.is_finite() && self.evaluate(split)?.psnr >= self.limits.psnr)
    }

    fn evaluate(&mut self, split: Split) -> anyhow::Result<EvalReport> {
        self.trainer.settle(&self.renderer.parameters)?;
        let request = Request {
            frames: &self.eval_frames,
            split,
            downscale: self.setup.downscale,
            steps: self.trainer.step(),
            train_seconds: self.trainer.seconds(),
            save_to: None,
            lpips: None,
        };
        scene::evaluate(self.session, self.gpu, &mut self.renderer, &request)
    }

    fn save(&self) -> anyhow::Result<()> {
        let dataset = std::path::absolute(&self.setup.dataset_path)
            .unwrap_or_else(|_| self.setup.dataset_path.clone());
        let path = self.setup.dir.checkpoint();
        let source = Source {
            dataset: &dataset.display().to_string(),
            downscale: self.setup.downscale,
            train_views: &self.setup.train_views,
        };
        checkpoint::save(&path, self.gpu, &self.trainer, &source)?;
        self.session.out.detail(format!(
            "saved {} at step {}",
            path.display(),
            self.trainer.step()
        ));
        Ok(())
    }

    fn finish(
        &mut self,
        split: Split,
        latest: Option<Progress>,
    ) -> anyhow::Result<Option<EvalReport>> {
        let (steps, seconds) = (self.trainer.step(), self.trainer.seconds());
        let rate = latest.map_or_else(String::new, |p| {
            let rate = f64::from(steps) / seconds.max(1e-9);
            format!(
                ", {}samples/s, {}rays/s",
                short(f64::from(p.samples) * rate),
                short(f64::from(p.rays) * rate)
            )
        });
        self.session
            .out
            .note(format!("trained {steps} steps in {seconds:.1} s{rate}"));
        if let Some(p) = latest.filter(|p| p.saturated > 0.0) {
            self.session.out.note(format!(
                "warning: {} hash-table gradients came near the end of their range",
                p.saturated
            ));
        }
        if latest.is_some_and(|p| p.samples == 0.0) {
            self.session.out.note(
                "warning: no samples were evaluated: see that rays meet the box (scene.scale, offset, near, far) \
                 and that training.batch_size holds the samples of a ray",
            );
        }
        if self.eval_frames.is_empty() {
            self.session.out.note("no views to evaluate");
            return Ok(None);
        }
        let started = Instant::now();
        let report = self.evaluate(split)?;
        self.log.write(&serde_json::json!({
            "schema": SCHEMA, "event": "eval", "step": steps, "seconds": seconds, "split": report.split,
            "psnr": report.psnr, "ssim": report.ssim, "evaluate_seconds": started.elapsed().as_secs_f64(),
        }))?;
        let mut scalars = vec![("test/psnr", report.psnr)];
        scalars.extend(report.ssim.map(|s| ("test/ssim", s)));
        self.log.scalars(steps, &scalars);
        let dir = &self.setup.dir;
        dir.write(
            &dir.eval(),
            &format!("{}\n", serde_json::to_string_pretty(&report)?),
        )?;
        self.session.out.result(scene::describe(&report))?;
        self.session
            .out
            .result(format!("run: {}", dir.path().display()))?;
        let mut line = serde_json::to_value(&report)?;
        line["event"] = "eval".into();
        self.session.out.json(&line)?;
        Ok(Some(report))
    }
}
