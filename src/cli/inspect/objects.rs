//! Checks a folder of objects and finds those that cannot be trained on.

use serde::Serialize;

use super::super::Terminal;
use super::Args;
use crate::config::{Budget, Config, SceneHints};
use crate::dataset::doctor::{self, Problem, Severity};
use crate::dataset::{DatasetError, Frame, Object, Objects, Splits};
use crate::session::run_log::SCHEMA;
use crate::session::{Error, Observer as _, ObserverExt as _, Result, Scale, resolve};
use crate::text::bytes;

/// Maximum number of problems printed; `--json` lists all.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    event: &'static str,
    root: String,
    train: usize,
    test: usize,
    width: u32,
    height: u32,
    most_views: usize,
    image_bytes: u64,
    skipped: Vec<ObjectProblem<'a>>,
    problems: Vec<ObjectProblem<'a>>,
    usable: bool,
}

/// A problem of an object.
#[derive(Serialize)]
struct ObjectProblem<'a> {
    object: &'a str,
    reason: String,
    /// Whether training is impossible until this is fixed.
    is_error: bool,
}

/// Check every object in `args.path`.
pub(super) fn inspect(terminal: &Terminal, args: &Args) -> Result<()> {
    if args.plot.is_some() {
        return Err(Error::usage(
            "--plot draws the cameras of one dataset, but this is a folder of datasets: give one of them",
        ));
    }
    let splits = match &args.splits {
        Some(file) => Splits::File(file.clone()),
        None => Splits::Found,
    };
    let objects = match Objects::open(&args.path, &splits, args.opening()) {
        // Without splits, the folders can still be checked.
        Err(error @ DatasetError::NoSplits { .. }) => {
            let all = Objects::open(&args.path, &Splits::Fraction(1.0), args.opening())?;
            terminal.warn(format!("{error}"));
            all
        }
        objects => objects?,
    };
    let all = || objects.train.iter().chain(&objects.test);
    let config = args.config().load("learnit")?;
    let hints = objects.scene().hints();
    let n = objects.train.len() + objects.test.len();
    let bar = terminal.task("decoding images", Scale::Count(n as u64));
    let mut problems = Vec::new();
    for object in all() {
        problems.extend(find_problems(object, &objects, hints, &config));
        bar.increment();
    }
    drop(bar);
    let pixels = |o: &Object| -> u64 {
        let of = |f: &Frame| {
            let camera = f.camera.downscaled(o.dataset.downscale);
            u64::from(camera.width) * u64::from(camera.height)
        };
        o.frames.iter().map(of).sum()
    };
    let image_bytes = 4 * objects.train.iter().map(pixels).sum::<u64>();
    let [width, height] = objects.size;
    let skipped = objects.skipped.iter().map(|s| ObjectProblem {
        object: &s.name,
        reason: s.reason.clone(),
        is_error: false,
    });
    let line = Line {
        schema: SCHEMA,
        event: "objects",
        root: args.path.display().to_string(),
        train: objects.train.len(),
        test: objects.test.len(),
        width,
        height,
        most_views: objects.most_views(),
        image_bytes,
        skipped: skipped.collect(),
        usable: objects.skipped.is_empty() && problems.iter().all(|p| !p.is_error),
        problems,
    };
    terminal.json(&line)?;
    terminal.result(format!(
        "{}: {} training objects, {} held out, images of {width}×{height}",
        objects.name, line.train, line.test
    ))?;
    let least = all().map(|o| o.frames.len()).min().unwrap_or(0);
    let range = if least == line.most_views {
        format!("{least}")
    } else {
        format!("{least} to {}", line.most_views)
    };
    terminal.result(format!("views per object: {range}"))?;
    if let Some([near, far]) = depths(all()) {
        terminal.result(format!(
            "rays start at {near:.3} and end at {far:.3} world units"
        ))?;
    }
    terminal.result(format!(
        "on the device: {} of training images, if meta.resident_mib is large enough",
        bytes(image_bytes)
    ))?;
    for left in &line.skipped {
        terminal.result(format!("left out: {}: {}", left.object, left.reason))?;
    }
    for left in line.problems.iter().take(SHOWN) {
        terminal.result(format!("{}: {}", left.object, left.reason))?;
    }
    if line.problems.len() > SHOWN {
        let more = line.problems.len() - SHOWN;
        terminal.result(format!("and {more} more; --json lists all"))?;
    }
    if line.skipped.is_empty() && line.problems.is_empty() {
        terminal.result("no problems found")?;
    }
    if line.usable {
        return Ok(());
    }
    let errors = line.problems.iter().filter(|p| p.is_error).count();
    let text = format!(
        "{} objects are left out, {errors} problems prevent kiln meta from running",
        line.skipped.len()
    );
    Err(Error::Failed(text))
}

/// Return the smallest near bound and the largest far bound of all views that have bounds.
fn depths<'a>(objects: impl Iterator<Item = &'a Object>) -> Option<[f32; 2]> {
    let all = objects.flat_map(|o| o.frames.iter().filter_map(|f| f.near_far));
    all.reduce(|[a, b], [c, d]| [a.min(c), b.max(d)])
}

/// Return the problems of `object`.
fn find_problems<'a>(
    object: &'a Object,
    objects: &Objects,
    hints: SceneHints,
    config: &Config,
) -> Vec<ObjectProblem<'a>> {
    let left = |reason: String| ObjectProblem {
        object: &object.name,
        reason,
        is_error: false,
    };
    let mut all: Vec<ObjectProblem<'a>> =
        object.dataset.warnings.iter().cloned().map(left).collect();
    let [most, n] = [objects.most_views(), object.frames.len()];
    if 2 * n < most {
        all.push(left(format!("has {n} views, others up to {most}")));
    }
    let config = config.clone().resolve(hints, Budget::SOFTWARE);
    let frames: Vec<&Frame> = object.frames.iter().collect();
    let (_, faulty) = doctor::check_images(&frames, &|| ());
    let of_cameras = resolve::problems(&object.dataset, &config);
    let problem = |p: Problem| ObjectProblem {
        is_error: p.severity == Severity::Error,
        ..left(p.message)
    };
    all.extend(faulty.into_iter().chain(of_cameras).map(problem));
    all
}
