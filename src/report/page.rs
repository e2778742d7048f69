//! The content of the page as texts and coordinates; the template determines the appearance.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::chart::{Chart, Mark, Plot, Scale, Series, Unit};
use super::format::{decimals, duration, grouped, short, signed, significant};
use super::log::{Log, Session, Stage};
use super::picture::{self, Picture};
use super::{Example, ReportError, worst_first};
use crate::eval::EvalReport;

/// Maximum widths of images; the first at which all of them fit [`IMAGE_BUDGET`] is used.
const WIDTHS: [u32; 6] = [480, 400, 320, 240, 160, 96];
/// Maximum total length of the encoded images in characters.
const IMAGE_BUDGET: usize = 2_400_000;
/// Images narrower than this are shown without smoothing.
const FEW_PIXELS: u32 = 200;
/// Number of rows of the table that are always shown.
const ROWS_SHOWN: usize = 10;
/// Minimum number of rows to hide.
const ROWS_WORTH_HIDING: usize = 4;

/// The variables of the template: texts and coordinates.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    scene: String,
    method: String,
    scores: Vec<Score>,
    measured: String,
    facts: Vec<Fact>,
    charts: Vec<Chart>,
    gallery: Option<Gallery>,
    table: Option<Table>,
    stages: Vec<StageRow>,
    times: Times,
    dataset: Option<String>,
    commands: Vec<String>,
    config: Option<String>,
    writer: &'static str,
}

#[derive(Debug, Serialize)]
struct StageRow {
    name: String,
    run: String,
    method: String,
    steps: String,
    time: String,
    psnr: String,
}

#[derive(Debug, Serialize)]
struct Score {
    name: &'static str,
    value: String,
    unit: &'static str,
}

#[derive(Debug, Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

#[derive(Debug, Serialize)]
struct Gallery {
    views: Vec<GalleryView>,
    amplification: u32,
    /// The error at the end of the colour scale, of 255.
    full_scale: String,
    scale: String,
}

#[derive(Debug, Serialize)]
struct GalleryView {
    label: String,
    name: String,
    psnr: String,
    ssim: Option<String>,
    width: u32,
    height: u32,
    has_few_pixels: bool,
    truth: String,
    prediction: String,
    error: String,
}

#[derive(Debug, Serialize)]
struct Table {
    has_ssim: bool,
    has_lpips: bool,
    /// The difference from the mean that fills a bar, in dB.
    span: String,
    rows: Vec<Row>,
    /// Number of rows that are visible before the table is expanded.
    shown: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    psnr: String,
    ssim: String,
    lpips: String,
    difference: String,
    is_below: bool,
    /// Start and length of the bar in percent of the cell.
    start: String,
    length: String,
}

#[derive(Debug, Serialize)]
struct Times {
    /// Time spent by the whole run, by activity.
    parts: Vec<Part>,
    total: Option<String>,
    /// All sessions, if there are several.
    sessions: Vec<SessionRow>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    class: &'static str,
    seconds: f64,
    text: String,
}

#[derive(Debug, Serialize)]
struct SessionRow {
    from_step: String,
    parts: Vec<String>,
}

/// The parts of a session's time.
const PARTS: [(&str, &str); 4] = [
    ("load", "load"),
    ("compile", "compile"),
    ("train", "training"),
    ("evaluate", "held-out"),
];

impl Page {
    pub(super) fn new(
        run: &Path,
        config: Option<&str>,
        log: &Log,
        eval: &EvalReport,
        examples: &[Example],
    ) -> Result<Self, ReportError> {
        // Optional measures are looked up by name and shown if the report has them.
        let measures = serde_json::to_value(eval)
            .expect("an evaluation is made of texts and numbers, which JSON has");
        let latest = |of: fn(&Session) -> &Option<String>| {
            log.sessions.iter().rev().find_map(|s| of(s).clone())
        };
        let dataset = latest(|s| &s.dataset);
        let scene = latest(|s| &s.dataset_name)
            .or_else(|| dataset.as_deref().and_then(|d| last_part(Path::new(d))))
            .or_else(|| last_part(run))
            .unwrap_or_else(|| "run".to_owned());
        Ok(Self {
            scene,
            method: eval.method.clone(),
            scores: scores(eval, &measures),
            measured: measured(eval),
            facts: facts(log, eval),
            charts: charts(log, eval),
            gallery: gallery(examples)?,
            table: table(eval, &measures),
            stages: log.stages.iter().map(stage).collect(),
            times: times(log, eval),
            dataset,
            commands: log
                .sessions
                .iter()
                .filter_map(|s| s.command.clone())
                .filter(|command| !command.is_empty())
                .collect(),
            config: config.map(str::to_owned),
            writer: env!("CARGO_PKG_VERSION"),
        })
    }
}

fn stage(stage: &Stage) -> StageRow {
    StageRow {
        name: stage.name.clone(),
        run: stage.run.clone(),
        method: stage.method.clone(),
        steps: grouped(stage.steps as u64),
        time: duration(stage.seconds),
        psnr: decimals(stage.psnr, 2),
    }
}

fn last_part(path: &Path) -> Option<String> {
    let absolute = std::path::absolute(path).ok()?;
    Some(absolute.file_name()?.to_string_lossy().into_owned())
}

fn scores(eval: &EvalReport, measures: &Value) -> Vec<Score> {
    // There is no score without views.
    if eval.views == 0 {
        return Vec::new();
    }
    let score = |name, value, digits, unit| Score {
        name,
        value: decimals(value, digits),
        unit,
    };
    let mut all = vec![score("PSNR", eval.psnr, 2, "dB")];
    all.extend(eval.ssim.map(|v| score("SSIM", v, 4, "")));
    all.extend(measures["lpips"].as_f64().map(|v| score("LPIPS", v, 4, "")));
    all
}

/// Describe how the scores were measured.
fn measured(eval: &EvalReport) -> String {
    if eval.views == 0 {
        return "No views were measured.".to_owned();
    }
    let size = if eval.downscale > 1 {
        format!(" at 1/{} of their size", eval.downscale)
    } else {
        String::new()
    };
    let of = match (eval.of_views, eval.pixel_share) {
        (None, None) => String::new(),
        (Some(all), None) => format!(" of {}", grouped(all as u64)),
        (all, Some(share)) => format!(
            " of {}, 1/{:.0} of their pixels (in tiles, which the pictures below show side by side)",
            grouped(all.unwrap_or(eval.views) as u64),
            1.0 / share
        ),
    };
    let adapted = eval.adapted_for.map_or_else(String::new, |steps| {
        format!(" of held-out objects, each after {steps} steps on another view of it")
    });
    format!(
        "{} over {} {} {}{of}{adapted}{size}, background {}, {} values rounded to 8 bits",
        if eval.views == 1 { "Measured" } else { "Mean" },
        grouped(eval.views as u64),
        eval.split,
        if eval.views == 1 { "view" } else { "views" },
        eval.background,
        eval.color_space,
    )
}

/// Return the distinct values of `of` over all sessions, in order.
fn distinct(log: &Log, of: fn(&Session) -> Option<&String>) -> Option<String> {
    let mut all: Vec<&str> = Vec::new();
    for value in log.sessions.iter().filter_map(of) {
        if !all.contains(&value.as_str()) {
            all.push(value);
        }
    }
    (!all.is_empty()).then(|| all.join(", "))
}

fn facts(log: &Log, eval: &EvalReport) -> Vec<Fact> {
    let mut all = Vec::new();
    let mut say = |name, value: Option<String>| {
        all.extend(value.map(|value| Fact { name, value }));
    };
    let positive = |v: f64| (v.is_finite() && v > 0.0).then_some(v);
    say("Steps", Some(grouped(u64::from(eval.steps))));
    say("Training", positive(eval.train_seconds).map(duration));
    say(
        "Rendering",
        positive(eval.rays_per_second).map(|v| format!("{} rays/s", short(v))),
    );
    let trained_on = distinct(log, |s| s.device.as_ref());
    let measured_on = Some(eval.device.clone()).filter(|d| !d.is_empty());
    if trained_on.is_none() || trained_on == measured_on {
        say("Device", measured_on);
    } else {
        say("Trained on", trained_on);
        say("Measured on", measured_on);
    }
    say("kiln", distinct(log, |s| s.version.as_ref()));
    all
}

/// Return the seconds of training: the larger of log and report, since the log may be missing, and the report may be
/// of an earlier checkpoint.
fn seconds_trained(log: &Log, eval: &EvalReport) -> f64 {
    // `max` ignores NaN.
    let seconds = log.seconds.max(eval.train_seconds);
    if seconds.is_finite() {
        seconds
    } else {
        log.seconds
    }
}

fn charts(log: &Log, eval: &EvalReport) -> Vec<Chart> {
    let resumes: Vec<f64> = log.sessions.iter().map(|s| s.since).collect();
    let seconds = seconds_trained(log, eval);
    let training = |name: &str, points| Series {
        name: name.to_owned(),
        class: "training",
        points,
    };
    let held_out = Series {
        name: match log.view_downscale {
            Some(n) if n > 1 => format!("a held-out view at 1/{n} size"),
            _ => "a held-out view".to_owned(),
        },
        class: "held-out",
        points: log.view_psnr.points(),
    };
    let plot = |id, title, axis, scale, unit, series| Plot {
        id,
        title,
        axis,
        scale,
        unit,
        series,
        mark: None,
        resumes: &resumes,
        seconds,
    };
    let quality = Plot {
        mark: (eval.views > 0).then(|| Mark {
            name: match eval.views {
                1 => format!("the {} view", eval.split),
                n => format!("mean of {} {} views", grouped(n as u64), eval.split),
            },
            seconds: eval.train_seconds,
            value: eval.psnr,
        }),
        ..plot(
            "psnr",
            "PSNR",
            "dB",
            Scale::Linear,
            Unit::Decibel,
            vec![training("training rays", log.train_psnr.points()), held_out],
        )
    };
    let loss = plot(
        "loss",
        "Loss",
        "loss",
        Scale::Logarithmic,
        Unit::Loss,
        vec![training("training rays", log.loss.points())],
    );
    let rate = |id, title, axis, name, points| {
        plot(
            id,
            title,
            axis,
            Scale::FromZero,
            Unit::PerSecond,
            vec![training(name, points)],
        )
    };
    let samples = rate(
        "samples",
        "Samples per second",
        "samples/s",
        "evaluated, after culling",
        log.samples_per_second.points(),
    );
    let rays = rate(
        "rays",
        "Rays per second",
        "rays/s",
        "training rays",
        log.rays_per_second.points(),
    );
    let all = [quality, loss, samples, rays].into_iter();
    all.filter_map(Plot::draw).collect()
}

fn gallery(examples: &[Example]) -> Result<Option<Gallery>, ReportError> {
    if examples.is_empty() {
        return Ok(None);
    }
    let mut pictures = Vec::new();
    for example in examples {
        let (width, height) = (example.width, example.height);
        let bytes = 3 * u64::from(width) * u64::from(height);
        if bytes == 0
            || [&example.truth, &example.prediction]
                .iter()
                .any(|p| p.len() as u64 != bytes)
        {
            return Err(ReportError::Size {
                name: example.name.clone(),
                width,
                height,
            });
        }
        let truth = Picture::rgb(width, height, &example.truth);
        let prediction = Picture::rgb(width, height, &example.prediction);
        let error = truth.difference(&prediction);
        pictures.push([truth, prediction, error].map(|p| p.at_most(WIDTHS[0])));
    }
    let amplification = picture::amplification(pictures.iter().map(|p| &p[2]));
    let mut views = Vec::new();
    for limit in WIDTHS {
        views.clear();
        for (example, [truth, prediction, error]) in examples.iter().zip(&pictures) {
            let truth = truth.at_most(limit);
            views.push(GalleryView {
                label: example.label.clone(),
                name: example.name.clone(),
                psnr: decimals(example.psnr, 2),
                ssim: example.ssim.map(|v| decimals(v, 4)),
                width: truth.width,
                height: truth.height,
                has_few_pixels: truth.width < FEW_PIXELS,
                truth: truth.address()?,
                prediction: prediction.at_most(limit).address()?,
                error: error.at_most(limit).error_address(amplification)?,
            });
        }
        let size: usize = views
            .iter()
            .map(|v| v.truth.len() + v.prediction.len() + v.error.len())
            .sum();
        if size <= IMAGE_BUDGET {
            break;
        }
    }
    Ok(Some(Gallery {
        views,
        amplification,
        full_scale: significant(255.0 / f64::from(amplification), 2),
        scale: picture::scale_address()?,
    }))
}

fn table(eval: &EvalReport, measures: &Value) -> Option<Table> {
    if eval.images.is_empty() {
        return None;
    }
    let lpips = |i: usize| measures["images"][i]["lpips"].as_f64();
    let differences = eval.images.iter().map(|v| v.psnr - eval.psnr);
    let largest = differences.map(f64::abs).filter(|d| d.is_finite());
    let span = largest.fold(0.0, f64::max);
    let row = |i: usize| {
        let view = &eval.images[i];
        let difference = view.psnr - eval.psnr;
        let share = if difference.is_finite() && span > 0.0 {
            difference / span
        } else {
            0.0
        };
        let measure = |v: Option<f64>| v.map(|v| decimals(v, 4)).unwrap_or_default();
        Row {
            name: view.name.clone(),
            psnr: decimals(view.psnr, 2),
            ssim: measure(view.ssim),
            lpips: measure(lpips(i)),
            difference: signed(difference, 2),
            is_below: share < 0.0,
            start: decimals(50.0 + 50.0 * share.min(0.0), 1),
            length: decimals(50.0 * share.abs(), 1),
        }
    };
    let rows: Vec<Row> = worst_first(&eval.images).into_iter().map(row).collect();
    let shown = if rows.len() >= ROWS_SHOWN + ROWS_WORTH_HIDING {
        ROWS_SHOWN
    } else {
        rows.len()
    };
    Some(Table {
        has_ssim: eval.images.iter().any(|v| v.ssim.is_some()),
        has_lpips: (0..eval.images.len()).any(|i| lpips(i).is_some()),
        span: decimals(span, 2),
        rows,
        shown,
    })
}

fn times(log: &Log, eval: &EvalReport) -> Times {
    let end = seconds_trained(log, eval);
    let ends = log.sessions.iter().skip(1).map(|s| s.since).chain([end]);
    let spent: Vec<[Option<f64>; 4]> = log
        .sessions
        .iter()
        .zip(ends)
        .map(|(s, end)| {
            let trained = Some(end - s.since).filter(|&t| t > 0.0);
            [s.load, s.compile, trained, s.evaluate]
        })
        .collect();
    let sum = |part: usize| {
        let known = spent.iter().filter_map(|s| s[part]);
        known
            .reduce(|a, b| a + b)
            .filter(|s| s.is_finite() && *s >= 0.0)
    };
    let part = |(i, &(name, class))| {
        let seconds = sum(i)?;
        Some(Part {
            name,
            class,
            seconds,
            text: duration(seconds),
        })
    };
    let parts: Vec<Part> = PARTS.iter().enumerate().filter_map(part).collect();
    let total = parts.iter().map(|p| p.seconds).sum();
    let text = |seconds: &Option<f64>| seconds.map(duration).unwrap_or_default();
    let sessions = log
        .sessions
        .iter()
        .zip(&spent)
        .map(|(s, spent)| SessionRow {
            from_step: s.step.map(grouped).unwrap_or_default(),
            parts: spent.iter().map(text).collect(),
        });
    Times {
        sessions: if log.sessions.len() > 1 {
            sessions.collect()
        } else {
            Vec::new()
        },
        total: (parts.len() > 1).then(|| duration(total)),
        parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::ViewQuality;

    #[test]
    fn a_measure_that_only_some_reports_have_is_shown_where_it_is() {
        let view = |name: &str, psnr| ViewQuality {
            name: name.to_owned(),
            psnr,
            ssim: None,
            lpips: None,
            hidden_share: None,
            depth: None,
        };
        let eval = EvalReport {
            schema: 1,
            method: "ngp".to_owned(),
            split: "test".to_owned(),
            background: "white".to_owned(),
            color_space: "sRGB".to_owned(),
            psnr: 25.0,
            ssim: None,
            lpips: None,
            lpips_network: None,
            dataset: String::new(),
            downscale: 1,
            views: 2,
            of_views: None,
            pixel_share: None,
            hidden_share: None,
            depth: None,
            images: vec![view("better", 26.0), view("worse", 24.0)],
            steps: 1,
            adapted_for: None,
            train_seconds: 1.0,
            rays_per_second: 1.0,
            device: String::new(),
        };
        let without = serde_json::json!({"images": [{}, {}]});
        assert_eq!(scores(&eval, &without).len(), 1);
        assert!(table(&eval, &without).is_some_and(|t| !t.has_lpips && !t.has_ssim));
        let with = serde_json::json!({"lpips": 0.15, "images": [{"lpips": 0.1}, {"lpips": 0.2}]});
        assert_eq!(scores(&eval, &with)[1].value, "0.1500");
        let table = table(&eval, &with).unwrap();
        let rows = table
            .rows
            .iter()
            .map(|r| (r.name.as_str(), r.lpips.as_str()));
        assert!(table.has_lpips);
        assert!(rows.eq([("worse", "0.2000"), ("better", "0.1000")]));
    }
}
