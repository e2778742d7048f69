//! `kiln bench`: times the stages of training and rendering, and compares them with the adapter's peak rates.

mod render;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Terminal;
use crate::camera::Camera;
use crate::config::{Budget, ConfigOptions, PositionEncoding, SceneHints};
use crate::dataset::{Image, Split};
use crate::gpu::{AdapterClass, Binding, Defines, Gpu, GpuError, Groups, Kernel, Stage, profile};
use crate::images::{GpuCamera, ImageSet, TASKS, near_far};
use crate::pass::Pass;
use crate::render::Renderer;
use crate::scene::DemoScene;
use crate::scene_frame::SceneFrame;
use crate::session::journal::SCHEMA;
use crate::session::{Error, Observer as _, ObserverExt as _, Result, Scale};
use crate::step_state::StepState;
use crate::text::si;
use crate::train::{Advance, Progress, TrainError, TrainEvent, Trainer, fit_cells, plan};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln bench                              time every stage of the default method
  kiln bench --method ngp --json
  kiln bench --stage meta                 time the inner and outer steps of kiln meta
  kiln bench --render runs/lego-ngp       time rendering of a trained run
  kiln bench --render runs/lego-nerf runs/lego-kilonerf
                                          compare runs; speedups are relative to the first")]
pub(super) struct Args {
    /// Show only this stage; may be repeated. `meta` times `kiln meta` instead of training on one scene
    #[arg(long, value_name = "NAME")]
    stage: Vec<String>,
    /// Time the rendering of test views of these runs instead of training, at 400×400, 800×800 and 1920×1080
    #[arg(long, value_name = "RUN", num_args = 1..)]
    render: Vec<PathBuf>,
    /// Preset to time [default: that of `kiln train` or `kiln meta`]
    #[arg(long, value_name = "M")]
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

/// The adapter's measured peak rates.
#[derive(Debug, Clone, Copy, Serialize)]
struct Peak {
    gflops: f64,
    copy_gb_per_s: f64,
    gather_m_per_s: f64,
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
        return render::run(terminal, &args.render, args.repeats);
    }
    let gpu = terminal.open_gpu()?;
    bench_training(terminal, args, &gpu)
}

/// Measure the adapter's peak rates and print them.
fn report_peak(terminal: &Terminal, gpu: &Gpu) -> Result<Peak> {
    let peak = measure_peak(gpu)?;
    terminal.json(&serde_json::json!({ "schema": SCHEMA, "event": "peak", "device": gpu.name(), "gflops": peak.gflops, "copy_gb_per_s": peak.copy_gb_per_s, "gather_m_per_s": peak.gather_m_per_s }))?;
    terminal.result(format!(
        "peak: {:.1} GFLOP/s multiply-add in registers, {:.1} GB/s copy, {:.0} M random 8-byte reads/s",
        peak.gflops, peak.copy_gb_per_s, peak.gather_m_per_s
    ))?;
    Ok(peak)
}

/// Shortest time of `runs` + 1 runs of `stage`, in seconds.
fn best_of(gpu: &Gpu, stage: &Stage, runs: u32) -> Result<f64, GpuError> {
    let mut best = f64::INFINITY;
    for _ in 0..=runs {
        let start = Instant::now();
        gpu.submit([stage]);
        gpu.wait()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn measure_peak(gpu: &Gpu) -> Result<Peak, GpuError> {
    const ITERATIONS: u64 = 512;
    const THREADS: u64 = 1 << 16;
    const COPIED: u64 = 64 << 20;
    const ROWS: u64 = 1 << 19;
    // On a GPU, enough work to make the cost of a submission negligible.
    let (scale, repeats) = match gpu.class() {
        AdapterClass::Software => (1, 1),
        AdapterClass::Integrated => (16, 4),
        AdapterClass::Discrete => (16, 32),
    };
    let threads = THREADS * scale;
    let result = gpu.buffer("peak result", threads * 16)?;
    let kernel = |pass: &str| {
        let defines = Defines::new()
            .set("pass", pass)
            .set("iterations", ITERATIONS)
            .set("rows", ROWS);
        Kernel::new(gpu, "entry/bench_peak", pass, &defines)
    };
    let repeated = |name, kernel: &Arc<Kernel>, bindings: &[Binding<'_>], items| {
        let mut stage = gpu.stage(name);
        for _ in 0..repeats {
            stage.dispatch(kernel, bindings, Groups::covering(items, 64))?;
        }
        best_of(gpu, &stage, 4).map(|seconds| seconds / f64::from(repeats))
    };
    let bindings = [("result", &result)];
    let arithmetic = repeated(
        "peak arithmetic",
        &kernel("arithmetic")?,
        &bindings,
        threads,
    )?;
    let (from, to) = (
        gpu.buffer("copy from", COPIED)?,
        gpu.buffer("copy to", COPIED)?,
    );
    let bindings = [("from_here", &from), ("to_there", &to)];
    let copy = repeated("peak copy", &kernel("copy")?, &bindings, COPIED / 16)?;
    let table = gpu.buffer("gather table", ROWS * 8)?;
    let bindings = [("table", &table), ("result", &result)];
    let gather = repeated("peak gather", &kernel("gather")?, &bindings, threads)?;
    Ok(Peak {
        gflops: (threads * ITERATIONS * 8 * 4 * 2) as f64 / arithmetic / 1e9,
        copy_gb_per_s: (2 * COPIED) as f64 / copy / 1e9,
        gather_m_per_s: (threads * 8) as f64 / gather / 1e6,
    })
}

/// Items that a stage processes (samples, cells, or rows of the hash table), and its operations and bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    items: f64,
    flops: f64,
    bytes: f64,
}

/// Samples of one pass in a whole step.
#[derive(Debug, Clone, Copy)]
struct Samples {
    marched: f64,
    kept: f64,
}

/// The samples of each pass, from the counts of the last micro-batch. The counts are those of the last pass; other passes are
/// scaled by their capacities, which is exact if the number of samples per ray is fixed.
fn samples_of(trainer: &Trainer, state: &StepState, micro_batches: u32) -> Vec<Samples> {
    let last = trainer.passes[trainer.passes.len() - 1].capacity;
    let of_pass = |pass: &Pass| {
        let share = f64::from(pass.capacity.kept) / f64::from(last.kept);
        Samples {
            marched: f64::from(state.n_marched) * f64::from(micro_batches) * share,
            kept: f64::from(state.n_kept) * f64::from(micro_batches) * share,
        }
    };
    trainer.passes.iter().map(of_pass).collect()
}

/// Cost of a stage summed over all passes, counting only the arithmetic of its formulas, without index arithmetic or padding.
fn cost(stage: &str, trainer: &Trainer, samples: &[Samples]) -> Option<Cost> {
    let mut sum = Cost::default();
    for (pass, &samples) in trainer.passes.iter().zip(samples) {
        let is_last = pass.index + 1 == trainer.passes.len();
        let cells = trainer.occupancy.as_ref().filter(|_| is_last);
        let cells = cells.map_or(0.0, |grid| f64::from(grid.cells_per_update()));
        let cost = pass_cost(stage, pass, samples, cells)?;
        sum.items += cost.items;
        sum.flops += cost.flops * cost.items;
        sum.bytes += cost.bytes * cost.items;
    }
    Some(sum)
}

/// Cost of a stage in one pass, with operations and bytes per item; `None` for a stage without a cost model.
fn pass_cost(stage: &str, pass: &Pass, samples: Samples, cells: f64) -> Option<Cost> {
    let field = &pass.field;
    let Samples { marched, kept } = samples;
    let (levels, features) = match &field.config.position_encoding {
        PositionEncoding::HashGrid(grid) => (
            f64::from(grid.n_levels),
            f64::from(grid.n_features_per_level),
        ),
        PositionEncoding::Frequency(_) => (0.0, 0.0),
    };
    let row = 4.0 * features;
    let encoded = 4.0 * f64::from(field.position.n_outputs());
    // Before culling, only the first output of the density network is computed.
    let density = field.density.layout();
    let last = density.n_layers() - 1;
    let other_outputs = f64::from(density.dims[last + 1]) - 4.0;
    let first_output =
        density.multiply_adds() as f64 - f64::from(density.inputs(last)) * other_outputs.max(0.0);
    let networks = field.multiply_adds() as f64;
    let activations: u64 = field.networks().map(|(_, n)| n.activation_bytes()).sum();
    let activations = activations as f64;
    let interpolation = match &field.config.position_encoding {
        PositionEncoding::HashGrid(_) => levels * 8.0 * (2.0 * features + 3.0),
        // A sine or cosine counts as one operation.
        PositionEncoding::Frequency(_) => 2.0 * f64::from(field.position.n_outputs()),
    };
    let rows = field.tables().total_rows() as f64;
    Some(match stage {
        "encode" => Cost {
            items: marched,
            flops: interpolation,
            bytes: 8.0 * encoded + encoded + 16.0,
        },
        "density" => Cost {
            items: marched,
            flops: 2.0 * first_output,
            bytes: encoded + 16.0,
        },
        "occupancy encode" => Cost {
            items: cells,
            flops: interpolation,
            bytes: 9.0 * encoded + 16.0,
        },
        "occupancy density" => Cost {
            items: cells,
            flops: 2.0 * first_output,
            bytes: encoded + 16.0,
        },
        "cull" => Cost {
            items: marched,
            flops: 0.0,
            bytes: 2.0 * (encoded + 24.0) + 20.0,
        },
        "forward" => Cost {
            items: kept,
            flops: 2.0 * networks,
            bytes: encoded + activations,
        },
        "composite" => Cost {
            items: kept,
            flops: 60.0,
            bytes: 2.0 * 36.0 + 20.0,
        },
        "network backward" => Cost {
            items: kept,
            flops: 4.0 * networks,
            bytes: 2.0 * encoded + 3.0 * activations,
        },
        "encode backward" if rows == 0.0 => Cost::default(),
        "encode backward" => Cost {
            items: kept,
            flops: interpolation,
            bytes: 16.0 * encoded + encoded + 16.0,
        },
        "optimize" => Cost {
            items: rows,
            flops: 0.0,
            bytes: row,
        },
        "march" => Cost {
            items: marched,
            flops: 0.0,
            bytes: 24.0,
        },
        _ => return None,
    })
}

/// Train until step `until` is done, and return the trainer's reports.
fn train_to(trainer: &mut Trainer, until: u32) -> Result<Vec<Progress>, TrainError> {
    let mut events = Vec::new();
    loop {
        match trainer.advance(until, &mut events)? {
            Advance::Submitted => {}
            Advance::Busy => trainer.wait()?,
            Advance::Reached => break,
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
/// Most seconds for one view.
const VIEW_SECONDS: f64 = 2.0;
/// Seconds of whole training steps to time.
const TIMED_SECONDS: f64 = 2.0;

/// Train `steps` more steps, or, if `briefly`, until [`TIMED_SECONDS`] are over.
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

/// Return an error if a wanted stage does not exist.
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

/// The name that stands for all stages of `kiln meta`.
const META: &str = "meta";
/// Number of stand-in objects that the views of the built-in scene are divided among.
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
    fit_cells(gpu.profile(), &mut config)?;
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

    // First time whole steps, as training runs them.
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
        for (index, time) in profile(gpu, &all)?.iter().enumerate() {
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

/// Side of a square view, in pixels, that should render within [`VIEW_SECONDS`], estimated from a small view.
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

fn stage_line(name: &str, seconds: f64, cost: Option<Cost>, peak: Peak) -> StageLine {
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
