//! `kiln bench`: times the stages of training and rendering, and compares them with the adapter's peak rates.

mod cost;
mod peak;
mod render;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Terminal;
use super::flags::MethodParser;
use crate::camera::Camera;
use crate::config::{Budget, ConfigOptions, SceneHints};
use crate::dataset::{Image, Split};
use crate::gpu::{AdapterClass, Gpu, GpuError, Stage, time_stages};
use crate::images::{GpuCamera, ImageSet, TASKS, near_far};
use crate::render::Renderer;
use crate::scene::DemoScene;
use crate::scene_frame::SceneFrame;
use crate::session::run_log::SCHEMA;
use crate::session::{Error, Observer as _, ObserverExt as _, Result, Scale};
use crate::step_state::StepState;
use crate::text::si;
use crate::train::{
    Progress, StepStatus, TrainError, TrainEvent, Trainer, plan, size_network_grids,
};
use cost::{Cost, cost, samples_of};
use peak::{PeakRates, report_peak};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln bench                              time every stage of the default method
  kiln bench --method ngp --json
  kiln bench --stage meta                 time the inner and outer steps of kiln meta
  kiln bench --render runs/lego-ngp       time rendering of a trained run
  kiln bench --render runs/lego-ngp --size 256x256
  kiln bench --render runs/lego-nerf runs/lego-kilonerf
                                          compare runs; speedups are relative to the first")]
pub(super) struct Args {
    /// Show only this stage; may be repeated. `meta` times `kiln meta` instead of training on one scene
    #[arg(long, value_name = "NAME")]
    stage: Vec<String>,
    /// Time the rendering of test views of these runs instead of training
    #[arg(long, value_name = "RUN", num_args = 1..)]
    render: Vec<PathBuf>,
    /// Frame size for --render; may be repeated [default: 400x400, 800x800 and 1920x1080]
    #[arg(long, value_name = "WxH", requires = "render")]
    size: Vec<render::FrameSize>,
    /// Preset to time [default: that of `kiln train` or `kiln meta`]
    #[arg(long, value_name = "M", value_parser = MethodParser)]
    method: Option<String>,
    /// Change a configuration value; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Training steps before timing starts, so that the occupancy grid has found the empty space [default: up to 1000, or up
    /// to 32 on a software adapter, within 2 s]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    warm_up: Option<u32>,
    /// How often each stage is timed
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
}

/// Timings of one stage; rates that do not apply are `None`.
#[derive(Debug, Serialize)]
struct StageLine {
    schema: u32,
    event: &'static str,
    stage: String,
    milliseconds: f64,
    items: Option<f64>,
    items_per_second: Option<f64>,
    gflops: Option<f64>,
    gb_per_s: Option<f64>,
    share_of_peak: Option<f64>,
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    if !args.render.is_empty() {
        return render::run(terminal, &args.render, &args.size, args.repeats);
    }
    let gpu = terminal.open_gpu()?;
    bench_training(terminal, args, &gpu)
}

/// Train until step `until` is done, and return the trainer's reports.
fn train_to(trainer: &mut Trainer, until: u32) -> Result<Vec<Progress>, TrainError> {
    let mut events = Vec::new();
    loop {
        match trainer.advance(until, &mut events)? {
            StepStatus::Submitted => {}
            StepStatus::Busy => trainer.wait()?,
            StepStatus::Reached => break,
        }
    }
    trainer.pause(&mut events)?;
    let progress = |event| {
        let TrainEvent::Progress(progress) = event;
        progress
    };
    Ok(events.into_iter().map(progress).collect())
}

/// Stop repeating after this time, once every stage has been timed.
const PROFILED: Duration = Duration::from_secs(30);
/// Maximum number of seconds for one view.
const VIEW_SECONDS: f64 = 2.0;
/// Seconds of whole training steps to time.
const TIMED_SECONDS: f64 = 2.0;

/// Train `steps` more steps or, if `briefly`, until [`TIMED_SECONDS`] have passed.
fn train_for(
    trainer: &mut Trainer,
    steps: u32,
    briefly: bool,
) -> Result<Vec<Progress>, TrainError> {
    let (end, started) = (trainer.step() + steps, trainer.seconds());
    let (mut heard, mut stride) = (Vec::new(), 1);
    while trainer.step() < end && !(briefly && trainer.seconds() - started >= TIMED_SECONDS) {
        let until = end.min(trainer.step() + stride);
        heard.extend(train_to(trainer, until)?);
        // Start with single steps, in case they are slow.
        stride = (2 * stride).min(16);
    }
    Ok(heard)
}

/// Return an error if a requested stage does not exist.
fn check_stage_names(wanted: &[String], trainer: &Trainer) -> Result<()> {
    let (step, occupancy) = trainer.stages();
    let mut names: Vec<&str> = vec![META];
    for stage in step.iter().chain(occupancy).chain(trainer.outer_stages()) {
        if !stage.is_empty() && !names.contains(&stage.name) {
            names.push(stage.name);
        }
    }
    match wanted.iter().find(|w| !names.contains(&w.as_str())) {
        Some(name) => Err(Error::usage(format!(
            "--stage {name}: no such stage; choose one of: {}",
            names.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Name that stands for all stages of `kiln meta`.
const META: &str = "meta";
/// Number of stand-in objects among which the views of the built-in scene are divided.
const OBJECTS: u32 = 3;

/// Upload `images` as one scene or, if `in_turns`, divided among several objects that are trained in turn.
fn upload(
    gpu: &Gpu,
    images: &[Image],
    cameras: &[GpuCamera],
    in_turns: bool,
) -> Result<ImageSet, GpuError> {
    if !in_turns {
        return ImageSet::upload(gpu, images, cameras);
    }
    let each = images.len() / OBJECTS as usize;
    let n = u32::try_from(each).unwrap_or(u32::MAX);
    let pixels = images[0].pixels.len() as u64 / 4;
    let set = ImageSet::of_slots(gpu, OBJECTS, n, u64::from(n) * pixels)?;
    let objects = images.chunks_exact(each).zip(cameras.chunks_exact(each));
    for (slot, (images, cameras)) in (0..OBJECTS).zip(objects) {
        set.put(gpu, slot, images, cameras);
    }
    for task in 0..TASKS {
        set.assign(gpu, task, task % OBJECTS, n);
    }
    Ok(set)
}

/// Train the built-in scene for a while, then time every stage.
fn bench_training(terminal: &Terminal, args: &Args, gpu: &Arc<Gpu>) -> Result<()> {
    let in_turns = args.stage.iter().any(|s| s == META);
    let shown: Vec<&String> = args.stage.iter().filter(|s| *s != META).collect();
    let default = if in_turns { "learnit" } else { "ngp" };
    let default = Budget::from(gpu.class()).preset(default);
    let options = ConfigOptions {
        method: args.method.clone(),
        overrides: args.overrides.clone(),
        ..ConfigOptions::default()
    };
    let mut config = if in_turns {
        options.load_with_meta(&default)?
    } else {
        let mut config = options.load(&default)?;
        config.meta = None;
        config
    };
    size_network_grids(gpu.profile(), &mut config)?;
    let config = config.resolve(SceneHints::default(), gpu.class());
    let cameras = DemoScene::cameras(Split::Train, 48, 96);
    let images = cameras
        .iter()
        .map(|c| DemoScene::render(gpu, c))
        .collect::<Result<Vec<_>, _>>()?;
    let on_device: Vec<GpuCamera> = cameras
        .iter()
        .map(|c| GpuCamera::new(c, near_far(&config, None), &SceneFrame::of(&config)))
        .collect();
    let set = upload(gpu, &images, &on_device, in_turns)?;
    let spinner = terminal.task("compiling shaders", Scale::Unknown);
    let mut trainer = Trainer::new(gpu, &config, &set, None)?;
    let micro_batches = plan(gpu.profile(), &config)?.micro_batches;
    check_stage_names(&args.stage, &trainer)?;
    let peak = report_peak(terminal, gpu)?;
    trainer.warm_up(&set)?;
    spinner.describe("warming up");
    let software = gpu.class() == AdapterClass::Software;
    let steps = if software { 32 } else { 1000 };
    let asked = args.warm_up.unwrap_or(steps);
    train_for(&mut trainer, asked, args.warm_up.is_none())?;
    spinner.describe("timing");

    // First time whole steps, in the same way as training runs them.
    let (first, started) = (trainer.step(), trainer.seconds());
    let heard = train_for(&mut trainer, u32::MAX - first, true)?;
    let rate = f64::from(trainer.step() - first) / (trainer.seconds() - started);
    let mean = |of: fn(&Progress) -> f32| {
        heard.iter().map(|p| f64::from(of(p))).sum::<f64>() / heard.len() as f64
    };
    let (rays, kept) = (mean(|p| p.rays), mean(|p| p.samples));

    let (step_stages, occupancy_stages) = trainer.stages();
    let between = occupancy_stages.iter().chain(trainer.outer_stages());
    let all: Vec<&Stage> = step_stages
        .iter()
        .chain(between)
        .filter(|stage| !stage.is_empty())
        .collect();
    let mut times: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let profiling = Instant::now();
    for _ in 0..args.repeats {
        for (index, time) in time_stages(gpu, &all)?.iter().enumerate() {
            times.entry(index).or_default().push(time.seconds);
        }
        if profiling.elapsed() > PROFILED {
            break;
        }
    }
    drop(spinner);
    let state: StepState = gpu.read(&trainer.counts().state, 0, 1)?[0];
    let samples = samples_of(&trainer, &state, micro_batches);
    let mut order: Vec<&str> = Vec::new();
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    for (index, stage) in all.iter().enumerate() {
        if !order.contains(&stage.name) {
            order.push(stage.name);
        }
        *seconds.entry(stage.name).or_default() += median(times.entry(index).or_default());
    }
    let total: f64 = step_stages
        .iter()
        .map(|s| s.name)
        .collect::<std::collections::BTreeSet<_>>()
        .iter()
        .filter_map(|n| seconds.get(n))
        .sum();
    terminal.result(format!(
        "{:20} {:>10} {:>7} {:>14} {:>12} {:>10} {:>8}",
        "stage", "ms", "step %", "items/s", "GFLOP/s", "GB/s", "% peak"
    ))?;
    for name in order {
        if !shown.is_empty() && !shown.iter().any(|s| *s == name) {
            continue;
        }
        let line = stage_line(
            name,
            seconds[name],
            cost(name, &trainer, &samples).filter(|c| c.items > 0.0),
            peak,
        );
        terminal.json(&line)?;
        let text =
            |v: Option<f64>, digits: usize| v.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        terminal.result(format!(
            "{name:20} {:>10.3} {:>6.1}% {:>14} {:>12} {:>10} {:>8}",
            line.milliseconds,
            100.0 * seconds[name] / total,
            line.items_per_second.map_or("-".to_owned(), si),
            text(line.gflops, 1),
            text(line.gb_per_s, 2),
            text(line.share_of_peak.map(|s| s * 100.0), 1),
        ))?;
    }
    terminal.note("each stage is timed alone; in a training step, stages overlap");
    let event = if in_turns { META } else { "training" };
    terminal.json(&serde_json::json!({
        "schema": SCHEMA, "event": event, "method": config.method, "device": gpu.name(), "steps_per_second": rate,
        "samples_per_second": kept * rate, "rays_per_second": rays * rate, "batch_size": config.training.batch_size,
    }))?;
    terminal.result(format!(
        "{event} {}: {rate:.2} {}steps/s, {}samples/s evaluated, {}rays/s",
        config.method,
        if in_turns { "inner " } else { "" },
        si(kept * rate),
        si(rays * rate)
    ))?;
    if let Some(meta) = &config.meta {
        let n = meta.inner_steps;
        return terminal.result(format!(
            "with an outer step and the next object every {n} steps: {:.2} objects/s",
            rate / f64::from(n)
        ));
    }
    let mut renderer = Renderer::new(
        gpu,
        &config,
        trainer.occupancy.as_ref().map(|grid| &grid.bits),
    )?;
    trainer.export_ema(&renderer.parameters)?;
    let most = if software { 96 } else { 800 };
    let side = affordable_side(&mut renderer, most)?;
    let cameras = DemoScene::cameras(Split::Test, 3, side);
    bench_rendering(terminal, &mut renderer, &cameras)
}

/// Return the side in pixels of a square view that should render within [`VIEW_SECONDS`], estimated from a small view.
fn affordable_side(renderer: &mut Renderer, most: u32) -> Result<u32, GpuError> {
    const SMALL: u32 = 16;
    let cameras = DemoScene::cameras(Split::Test, 1, SMALL);
    let mut seconds = 0.0;
    // Render twice: the first time compiles the shaders.
    for _ in 0..2 {
        let start = Instant::now();
        renderer.render(&cameras[0], None, false)?;
        seconds = start.elapsed().as_secs_f64();
    }
    let side = f64::from(SMALL) * (VIEW_SECONDS / seconds).sqrt();
    Ok((side as u32).next_multiple_of(8).clamp(SMALL, most))
}

fn stage_line(name: &str, seconds: f64, cost: Option<Cost>, peak: PeakRates) -> StageLine {
    let rate = |of_all: f64| (of_all > 0.0).then(|| of_all / seconds / 1e9);
    let gflops = cost.and_then(|c| rate(c.flops));
    let gb_per_s = cost.and_then(|c| rate(c.bytes));
    // Roofline model: the larger of the shares of peak arithmetic and peak bandwidth.
    let share = [
        gflops.map(|g| g / peak.gflops),
        gb_per_s.map(|g| g / peak.copy_gb_per_s),
    ]
    .into_iter()
    .flatten()
    .reduce(f64::max);
    StageLine {
        schema: SCHEMA,
        event: "stage",
        stage: name.to_owned(),
        milliseconds: seconds * 1e3,
        items: cost.map(|c| c.items),
        items_per_second: cost.map(|c| c.items / seconds),
        gflops,
        gb_per_s,
        share_of_peak: share,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = |i: usize| values.get(i).copied().unwrap_or(0.0);
    f64::midpoint(
        middle(values.len().saturating_sub(1) / 2),
        middle(values.len() / 2),
    )
}

fn bench_rendering(terminal: &Terminal, renderer: &mut Renderer, cameras: &[Camera]) -> Result<()> {
    let Some(first) = cameras.first() else {
        return Err(Error::usage("there are no test views to render"));
    };
    renderer.render(first, None, false)?;
    let mut rates = Vec::new();
    for camera in cameras {
        let start = Instant::now();
        renderer.render(camera, None, false)?;
        rates.push(f64::from(camera.width * camera.height) / start.elapsed().as_secs_f64());
    }
    let rate = median(&mut rates);
    let pixels = f64::from(first.width * first.height);
    terminal.json(&serde_json::json!({
        "schema": SCHEMA, "event": "rendering", "rays_per_second": rate, "width": first.width, "height": first.height,
        "frames_per_second": rate / pixels,
    }))?;
    terminal.result(format!(
        "rendering: {}rays/s, {:.2} frames/s at {}×{}",
        si(rate),
        rate / pixels,
        first.width,
        first.height
    ))
}
