//! `kiln demo`: trains on the built-in scene and renders orbits around it, or meta-learns an initialisation from the built-in
//! objects and evaluates it.

use std::path::PathBuf;
use std::time::Instant;

use super::flags::seconds;
use super::{Terminal, command_line};
use crate::camera::Camera;
use crate::camera_path::orbit;
use crate::dataset::Dataset;
use crate::gpu::AdapterClass;
use crate::render::Channel;
use crate::session::open::open_run;
use crate::session::render::{RenderSettings, View, pixel_options, render_all};
use crate::session::run_log::SCHEMA;
use crate::session::sink::Sink;
use crate::session::{
    self, Error, FitOptions, MetaEvalOptions, MetaOptions, Observer, ObserverExt, Result,
    make_demo_objects, make_demo_scene,
};

/// Frames per second of the orbits.
const FPS: f64 = 12.0;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln demo                          write dataset, run, orbits and a view to demo/
  kiln demo --seconds 30 --out d     train for 30 seconds
  kiln demo --objects --out toys     toy cars: meta-learn an initialisation, then train on single views")]
pub(super) struct Args {
    /// Folder to create
    #[arg(long, default_value = "demo", value_name = "DIR")]
    out: PathBuf,
    /// Use toy cars instead: meta-learn an initialisation from most of them, then train on one view of each of the others
    #[arg(long)]
    objects: bool,
    /// Time of training, in seconds or as 90s or 5m [default: 30 on a GPU, 120 on a software adapter; with --objects 120 and 300]
    #[arg(long, allow_negative_numbers = true, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
}

/// Make the built-in objects, meta-learn an initialisation from them, and evaluate it.
fn objects(terminal: &Terminal, args: &Args) -> Result<()> {
    let started = Instant::now();
    let gpu = terminal.open_gpu()?;
    let software = gpu.class() == AdapterClass::Software;
    let root = make_demo_objects(&gpu, &args.out, terminal)?;
    let seconds = args.seconds.unwrap_or(if software { 300.0 } else { 120.0 });
    let run = args.out.join("learned");
    let options = MetaOptions {
        out: Some(run.clone()),
        seconds: Some(seconds),
        overwrite: true,
        command: command_line(),
        ..MetaOptions::new(root)
    };
    session::meta(&gpu, &options, terminal)?;
    let options = MetaEvalOptions {
        objects: Some(3),
        steps: vec![0, 8, 32, 128],
        ..MetaEvalOptions::new(&run)
    };
    session::meta_eval(&gpu, &options, terminal)?;
    let total = started.elapsed().as_secs_f64();
    terminal.result(run.join("meta-eval.png").display().to_string())?;
    terminal.result(format!("done in {total:.0} s"))
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    if args.seconds.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
        return Err(Error::usage(format!(
            "--seconds {}: give a positive number",
            args.seconds.unwrap_or_default()
        )));
    }
    if args.objects {
        return objects(terminal, args);
    }
    let started = Instant::now();
    let gpu = terminal.open_gpu()?;
    let software = gpu.class() == AdapterClass::Software;
    let images = make_demo_scene(&gpu, &args.out, terminal)?;
    let run = args.out.join("run");
    let seconds = args.seconds.unwrap_or(if software { 120.0 } else { 30.0 });
    let options = FitOptions {
        out: Some(run.clone()),
        seconds: Some(seconds),
        overwrite: true,
        command: command_line(),
        ..FitOptions::new(&images)
    };
    let (_, report) = session::fit(&gpu, &options, terminal)?;

    let mut opened = open_run(terminal, &gpu, &run, None)?;
    let dataset = Dataset::open(&images)?;
    let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
    let side = if software { 400 } else { 800 };
    let mut frames = orbit(&cameras, if software { 24 } else { 48 }, FPS);
    for frame in &mut frames {
        // Not the size of the training images, because a field can be rendered at any resolution.
        frame.camera = frame.camera.resized(side, side);
    }
    let views = View::of(&frames);
    let channels = [Channel::Rgb, Channel::Depth, Channel::Normal];
    let look = pixel_options(terminal, &mut opened.renderer, &views, true)?;
    let _listener = terminal.listen_for_cancel();
    let mut sinks = channels
        .iter()
        .map(|&c| {
            Sink::gif(
                terminal,
                &args.out.join(format!("orbit-{}.gif", c.name())),
                c,
                FPS,
            )
        })
        .collect::<Result<Vec<Sink>>>()?;
    let view = args.out.join("view.png");
    let mut still = Some(Sink::still(&view, Channel::Rgb));
    let how = RenderSettings {
        normals: true,
        per_side: 1,
    };
    render_all(
        terminal,
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
        terminal.result(path.display().to_string())?;
    }
    terminal.result(format!("done in {total:.0} s"))?;
    terminal.suggest_next(&run);
    let files: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    terminal.json(&serde_json::json!({
        "schema": SCHEMA, "event": "demo", "seconds": total, "files": files, "psnr": report.map(|r| r.psnr),
    }))
}
