//! `kiln demo`: the built-in scene, from its images to an orbit around the trained field.

use std::path::PathBuf;
use std::time::Instant;

use super::output::SCHEMA;
use super::render::{orbit, render_all, write_gif};
use super::scene::{self, open_run};
use super::{Session, train, usage};
use crate::camera::Camera;
use crate::dataset::Dataset;
use crate::gpu::AdapterClass;
use crate::render::{Channel, Frame};
use crate::scene::DemoScene;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to make
    #[arg(long, default_value = "demo", value_name = "DIR")]
    out: PathBuf,
    /// Seconds of training; where left out, 120 on a software adapter and 30 on a GPU
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    seconds: Option<f64>,
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    if args.seconds.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
        return Err(usage(format!(
            "--seconds {}: give a positive number",
            args.seconds.unwrap_or_default()
        )));
    }
    let started = Instant::now();
    let gpu = session.open_gpu()?;
    let software = gpu.class() == AdapterClass::Software;
    let (size, counts) = if software {
        (128, [60, 4, 8])
    } else {
        (400, [100, 10, 20])
    };
    let (images, run) = (args.out.join("dataset"), args.out.join("run"));
    let bar = session.out.bar(counts.iter().sum(), "making the scene");
    DemoScene::write_dataset(&gpu, &images, counts, size, &|| bar.inc(1))?;
    bar.finish_and_clear();
    session.out.note(format!(
        "made {} views of {size}×{size} in {}",
        counts.iter().sum::<usize>(),
        images.display()
    ));
    drop(gpu);

    let seconds = args.seconds.unwrap_or(if software { 120.0 } else { 30.0 });
    let training = train::Args::for_demo(&images, &run, seconds);
    let (_, report) = train::train(session, &training)?;

    let gpu = crate::gpu::Gpu::open(&session.options)?;
    let mut opened = open_run(&gpu, &run, None)?;
    let dataset = Dataset::open(&images)?;
    let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
    let views: Vec<_> = orbit(&cameras, if software { 24 } else { 48 })
        .into_iter()
        .map(|c| (c, None))
        .collect();
    let frames = render_all(session, &mut opened.renderer, &views, true)?;
    let background = opened.renderer.config().scene.eval_background.color();
    let range = frames
        .iter()
        .filter_map(Frame::depth_range)
        .reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]);
    let range = range.unwrap_or([0.0, 1.0]);
    let mut written = Vec::new();
    for channel in [Channel::Rgb, Channel::Depth, Channel::Normal] {
        let path = args.out.join(format!("orbit-{}.gif", channel.name()));
        write_gif(&path, &frames, channel, background, range, 12)?;
        written.push(path);
    }
    if let Some(first) = frames.first() {
        let path = args.out.join("view.png");
        scene::save_png(
            &path,
            &first.pixels(Channel::Rgb, background, range),
            first.width,
            first.height,
        )?;
        written.push(path);
    }
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
