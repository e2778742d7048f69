//! `kiln bench --render RUN…`: compares the rendering speed of runs.

use std::path::PathBuf;

use serde::Serialize;

use super::super::Terminal;
use super::{median, report_peak};
use crate::camera::Camera;
use crate::gpu::Gpu;
use crate::render::RenderCost;
use crate::session::open::{self, OpenRun};
use crate::session::run_log::SCHEMA;
use crate::session::{Error, MAX_SIDE, ObserverExt as _, Result, data};
use crate::text::si;

/// Frame sizes unless others are chosen.
const SIZES: [FrameSize; 3] = [
    FrameSize([400, 400]),
    FrameSize([800, 800]),
    FrameSize([1920, 1080]),
];
/// Number of views rendered per run.
const VIEWS: usize = 3;
/// Frames that would take longer than this many seconds are extrapolated from a smaller frame.
const MAX_SECONDS: f64 = 5.0;

/// Width and height of a frame, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameSize([u32; 2]);

impl std::str::FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let sides = text.split_once(['x', '×']);
        let side = |text: &str| text.parse().ok().filter(|n| (8..=MAX_SIDE).contains(n));
        sides
            .and_then(|(width, height)| Some(Self([side(width)?, side(height)?])))
            .ok_or_else(|| format!("give WIDTHxHEIGHT, as in 800x600, each from 8 to {MAX_SIDE}"))
    }
}

/// One run at one size.
#[derive(Debug, Serialize)]
struct Line {
    schema: u32,
    event: &'static str,
    run: String,
    method: String,
    device: String,
    width: u32,
    height: u32,
    milliseconds_per_frame: f64,
    rays_per_second: f64,
    samples_per_second: f64,
    /// Number of samples whose colour and density were evaluated.
    samples_per_ray: f64,
    /// Number of samples of which only the density was evaluated, to find the visible ones.
    density_samples_per_ray: f64,
    /// Whether the values were extrapolated from a smaller frame of the same camera.
    extrapolated: bool,
    /// Speed relative to the first run.
    speedup: f64,
}

struct Entry {
    name: String,
    run: OpenRun,
    cameras: Vec<(Camera, Option<[f32; 2]>)>,
}

/// Render views of all `runs` in turn, about `repeats` times in total per run and size, and print the mean over views of the
/// median times.
pub(super) fn run(
    terminal: &Terminal,
    runs: &[PathBuf],
    sizes: &[FrameSize],
    repeats: u32,
) -> Result<()> {
    let gpu = terminal.open_gpu()?;
    let mut entries = Vec::new();
    for path in runs {
        let run = open::open_run(terminal, &gpu, path, None)?;
        let dataset = data::dataset_of(
            terminal,
            &run.checkpoint,
            None,
            run.checkpoint.info.opening(),
        )?;
        let all = if dataset.test.is_empty() {
            &dataset.train
        } else {
            &dataset.test
        };
        let step = (all.len() / VIEWS).max(1);
        let views = all.iter().step_by(step).take(VIEWS);
        let cameras: Vec<_> = views.map(|f| (f.camera, f.near_far)).collect();
        if cameras.is_empty() {
            return Err(Error::usage(format!(
                "{}: its dataset has no views to render",
                path.display()
            )));
        }
        entries.push(Entry {
            name: path.display().to_string(),
            run,
            cameras,
        });
    }
    report_peak(terminal, &gpu)?;
    terminal.note(
        "times are measured on the device, without reading frames back; ~ marks values extrapolated from a smaller frame",
    );
    terminal.result(format!(
        "{:28} {:>11} {:>12} {:>10} {:>10} {:>11} {:>12} {:>8}",
        "run", "size", "ms/frame", "frames/s", "rays/s", "samples/s", "samples/ray", "times"
    ))?;
    let sizes = if sizes.is_empty() { &SIZES } else { sizes };
    for &FrameSize(size) in sizes {
        let lines = at_size(&gpu, &mut entries, size, repeats)?;
        for line in &lines {
            show(terminal, line)?;
        }
    }
    Ok(())
}

fn show(terminal: &Terminal, line: &Line) -> Result<()> {
    terminal.json(line)?;
    let name: String = line.run.chars().rev().take(28).collect();
    let name: String = name.chars().rev().collect();
    let about = if line.extrapolated { "~" } else { "" };
    terminal.result(format!(
        "{name:28} {:>11} {:>12} {:>10} {:>10} {:>11} {:>12} {:>8}",
        format!("{}×{}", line.width, line.height),
        format!("{about}{:.1}", line.milliseconds_per_frame),
        format!("{about}{:.2}", 1e3 / line.milliseconds_per_frame),
        si(line.rays_per_second),
        si(line.samples_per_second),
        format!("{:.1}", line.samples_per_ray),
        format!("{:.1}", line.speedup),
    ))
}

/// Render one view and return its seconds, rays and samples.
fn render(entry: &mut Entry, view: usize, [width, height]: [u32; 2]) -> Result<RenderCost> {
    let (camera, near_far) = entry.cameras[view % entry.cameras.len()];
    let camera = camera.resized(width, height);
    Ok(entry.run.renderer.measure(&camera, near_far)?)
}

/// Return the largest frame of `size` divided by a power of two that renders within [`MAX_SECONDS`], tried from small to large.
fn affordable(entry: &mut Entry, size: [u32; 2]) -> Result<[u32; 2]> {
    let shrunk = |by: u32| size.map(|side| (side / by).max(8));
    let mut by = 32;
    // The first rendering compiles the shaders.
    render(entry, 0, shrunk(by))?;
    while by > 1 && 4.0 * render(entry, 0, shrunk(by))?.seconds < MAX_SECONDS {
        by /= 2;
    }
    Ok(shrunk(by))
}

fn at_size(gpu: &Gpu, entries: &mut [Entry], size: [u32; 2], repeats: u32) -> Result<Vec<Line>> {
    let mut sizes = Vec::new();
    for entry in &mut *entries {
        sizes.push(affordable(entry, size)?);
    }
    // Indexed by run and view.
    let mut times = vec![vec![Vec::<f64>::new(); VIEWS]; entries.len()];
    let mut totals = vec![RenderCost::default(); entries.len()];
    // Runs take turns so that other load on the machine affects all of them alike.
    for _ in 0..repeats.div_ceil(VIEWS as u32) {
        for (index, entry) in entries.iter_mut().enumerate() {
            // Long measurements vary little: a few are enough.
            if totals[index].seconds > MAX_SECONDS {
                continue;
            }
            for (view, times) in times[index].iter_mut().enumerate() {
                let cost = render(entry, view, sizes[index])?;
                times.push(cost.seconds);
                totals[index].add(&cost);
            }
        }
    }
    let pixels = f64::from(size[0]) * f64::from(size[1]);
    let mut lines: Vec<Line> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let [width, height] = sizes[index];
        let measured = f64::from(width) * f64::from(height);
        let medians: f64 = times[index].iter_mut().map(|of_view| median(of_view)).sum();
        let seconds = medians / VIEWS as f64 * pixels / measured;
        let total = &totals[index];
        let rays = total.rays.max(1) as f64;
        let first = lines
            .first()
            .map_or(seconds * 1e3, |l| l.milliseconds_per_frame);
        lines.push(Line {
            schema: SCHEMA,
            event: "render",
            run: entry.name.clone(),
            method: entry.run.renderer.config().method.clone(),
            device: gpu.name().to_owned(),
            width: size[0],
            height: size[1],
            milliseconds_per_frame: seconds * 1e3,
            rays_per_second: pixels / seconds,
            samples_per_second: total.kept as f64 / total.seconds.max(1e-9),
            samples_per_ray: total.kept as f64 / rays,
            density_samples_per_ray: total.density_only as f64 / rays,
            extrapolated: sizes[index] != size,
            speedup: first / (seconds * 1e3),
        });
    }
    Ok(lines)
}
