//! `kiln demo`: the built-in scene, from its images to an orbit around the trained field; or the built-in objects, and what
//! learning from many of them is worth to the next one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::interrupt;
use super::output::SCHEMA;
use super::render::{How, View, look, render_all};
use super::scene::open_run;
use super::sink::Sink;
use super::{Session, meta, train, usage};
use crate::camera::Camera;
use crate::camera_path::orbit;
use crate::dataset::Dataset;
use crate::gpu::{AdapterClass, Gpu};
use crate::render::Channel;
use crate::scene::{DemoScene, ToyCar};

/// Frames per second of the orbits.
const FPS: f64 = 12.0;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln demo                          into demo/: dataset, run, orbits, a view
  kiln demo --seconds 30 --out d     a shorter training
  kiln demo --objects --out toys     toy cars: learn from many, then from one view of another")]
pub(super) struct Args {
    /// Folder to make
    #[arg(long, default_value = "demo", value_name = "DIR")]
    out: PathBuf,
    /// Make toy cars instead, learn what to begin with from most of them, and the others from one view each
    #[arg(long)]
    objects: bool,
    /// Seconds of training; where left out, 120 on a software adapter and 30 on a GPU, with --objects 300 and 120
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
}

/// The folder `name` of `out`, which must hold nothing that the demo did not make.
fn folder_of(out: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let images = out.join(name);
    let is_empty = |folder: &Path| {
        folder
            .read_dir()
            .map_or(!folder.exists(), |mut d| d.next().is_none())
    };
    if !images.is_dir() && !is_empty(out) {
        return Err(usage(format!(
            "--out {}: holds something that kiln demo did not make: give another folder",
            out.display()
        )));
    }
    Ok(images)
}

/// Make the built-in objects, learn from them, and measure what that is worth.
fn objects(session: &Session, args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let gpu = Gpu::open(&session.options)?;
    let software = gpu.class() == AdapterClass::Software;
    let (n, views, size) = if software {
        (40, 16, 96)
    } else {
        (100, 25, 128)
    };
    let root = folder_of(&args.out, "toy-cars")?;
    let bar = session.out.bar(n as usize * views, "making toy cars");
    ToyCar::write_objects(&gpu, &root, n, views, size, &|| bar.inc())?;
    bar.finish_and_clear();
    session.out.note(format!(
        "made {n} toy cars, {views} views of {size}×{size} each, in {}",
        root.display()
    ));
    drop(gpu);
    let seconds = args.seconds.unwrap_or(if software { 300.0 } else { 120.0 });
    let run = args.out.join("learned");
    meta::run(session, &meta::Args::for_demo(&root, &run, seconds))?;
    meta::evaluate(session, &meta::EvalArgs::for_demo(&run))?;
    let total = started.elapsed().as_secs_f64();
    session
        .out
        .result(run.join("meta-eval.png").display().to_string())?;
    session.out.result(format!("done in {total:.0} s"))
}

/// Make the built-in scene's dataset in a folder of `out`, and say which.
fn make(session: &Session, gpu: &Gpu, out: &Path) -> anyhow::Result<PathBuf> {
    let (size, counts) = if gpu.class() == AdapterClass::Software {
        (128, [60, 4, 8])
    } else {
        (400, [100, 10, 20])
    };
    let images = folder_of(out, "demo-scene")?;
    let bar = session.out.bar(counts.iter().sum(), "making the scene");
    DemoScene::write_dataset(gpu, &images, counts, size, &|| bar.inc())?;
    bar.finish_and_clear();
    session.out.note(format!(
        "made {} views of {size}×{size} in {}",
        counts.iter().sum::<usize>(),
        images.display()
    ));
    Ok(images)
}

/// The built-in scene's dataset, made where the demo makes it.
#[cfg(feature = "viewer")]
pub(super) fn dataset(session: &Session) -> anyhow::Result<PathBuf> {
    let gpu = session.open_gpu()?;
    make(session, &gpu, Path::new("demo"))
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    if args.seconds.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
        return Err(usage(format!(
            "--seconds {}: give a positive number",
            args.seconds.unwrap_or_default()
        )));
    }
    if args.objects {
        return objects(session, args);
    }
    let started = Instant::now();
    let gpu = Gpu::open(&session.options)?;
    let software = gpu.class() == AdapterClass::Software;
    let (images, run) = (args.out.join("demo-scene"), args.out.join("run"));
    make(session, &gpu, &args.out)?;
    drop(gpu);

    let seconds = args.seconds.unwrap_or(if software { 120.0 } else { 30.0 });
    let training = train::Args::for_demo(&images, &run, seconds);
    let (_, report) = train::train(session, &training, None)?;

    let gpu = Gpu::open(&session.options)?;
    let mut opened = open_run(session, &gpu, &run, None)?;
    let dataset = Dataset::open(&images)?;
    let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
    let mut frames = orbit(&cameras, if software { 24 } else { 48 }, FPS);
    for frame in &mut frames {
        // Larger than the images it learned from: it is a field, not pictures.
        let [width, height] = [frame.camera.width, frame.camera.height];
        frame.camera = frame.camera.resized(2 * width, 2 * height);
    }
    let views = View::of(&frames);
    let channels = [Channel::Rgb, Channel::Depth, Channel::Normal];
    let look = look(session, &mut opened.renderer, &views, true)?;
    let _listener = interrupt::listen();
    let mut sinks = channels
        .iter()
        .map(|&c| Sink::gif(&args.out.join(format!("orbit-{}.gif", c.name())), c, FPS))
        .collect::<anyhow::Result<Vec<Sink>>>()?;
    let view = args.out.join("view.png");
    let mut still = Some(Sink::still(&view, Channel::Rgb));
    let how = How {
        normals: true,
        per_side: 1,
    };
    render_all(
        session,
        &mut opened.renderer,
        &views,
        how,
        |index, frame| {
            if let Some(mut sink) = still.take() {
                sink.add(index, frame, &look)?;
            }
            sinks
                .iter_mut()
                .try_for_each(|s| s.add(index, frame, &look))
        },
    )?;
    let mut written = Vec::new();
    for sink in sinks {
        written.extend(sink.finish()?.paths);
    }
    written.push(view);
    let total = started.elapsed().as_secs_f64();
    for path in &written {
        session.out.result(path.display().to_string())?;
    }
    session.out.result(format!("done in {total:.0} s"))?;
    let files: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    session.out.json(&serde_json::json!({
        "schema": SCHEMA, "event": "demo", "seconds": total, "files": files, "psnr": report.map(|r| r.psnr),
    }))
}
