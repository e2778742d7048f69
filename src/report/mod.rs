//! `report.html`: a run in one self-contained file. `assets/report.html` is its template.
//!
//! Names, paths, commands and configurations are untrusted text: the template escapes all of them, and the content security
//! policy of the page allows no script but its own.

mod axis;
mod chart;
mod format;
mod log;
mod page;
mod picture;

pub(crate) use axis::tick_step;
#[cfg(feature = "viewer")]
pub(crate) use axis::{Axis, Range};
pub(crate) use format::duration;

use std::cmp::Ordering;
use std::path::PathBuf;

use image::ImageError;

use crate::config::ResolvedConfig;
use crate::dataset::Image;
use crate::eval::{self, EvalReport, ViewQuality};
use crate::run::{RunDir, RunError};
use log::Log;
use page::Page;

const TEMPLATE: &str = include_str!("../../assets/report.html");

/// Seconds and values that a run's log holds: loss, PSNR of the training rays, and PSNR of the held-out view.
#[cfg(feature = "viewer")]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct History {
    pub(crate) loss: Vec<[f64; 2]>,
    pub(crate) train_psnr: Vec<[f64; 2]>,
    pub(crate) held_out: Vec<[f64; 2]>,
}

#[cfg(feature = "viewer")]
impl History {
    /// Read the log of the run in `dir`; empty if there is none.
    pub(crate) fn of(dir: &RunDir) -> Self {
        let log = Log::parse(&dir.metrics_text().unwrap_or_default());
        let points = |curve: &log::Curve| {
            let known = curve.points().into_iter();
            known.filter_map(|(x, y)| Some([x, y?])).collect()
        };
        Self {
            loss: points(&log.loss),
            train_psnr: points(&log.train_psnr),
            held_out: points(&log.view_psnr),
        }
    }
}

/// An error while writing a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// An example's images do not have its size.
    #[error("the images of view {name} do not have {width}×{height} RGB pixels")]
    Size {
        /// The view.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// An image cannot be encoded.
    #[error("cannot encode an image of the report: {0}")]
    Image(#[from] ImageError),
    /// A file of the run exists, but cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The template is faulty.
    #[error("cannot fill in the report: {0:#}")]
    Template(#[from] minijinja::Error),
    /// The file cannot be written.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A view to show: ground truth and prediction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// Why this view was chosen: `worst`, `median`, `best`.
    pub label: String,
    /// The frame's name.
    pub name: String,
    /// PSNR in dB over 8-bit-rounded sRGB values.
    pub psnr: f64,
    /// Structural similarity, if it was computed.
    pub ssim: Option<f64>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The ground truth over the background: sRGB, 8 bits, (height, width, 3).
    pub truth: Vec<u8>,
    /// The rendering over the background, in the format of `truth`.
    pub prediction: Vec<u8>,
}

impl Example {
    /// Create an example from an evaluated view, whose rendering over the background of `config` is `prediction`.
    #[must_use]
    pub fn new(
        label: &str,
        view: &ViewQuality,
        image: &Image,
        prediction: Vec<u8>,
        config: &ResolvedConfig,
    ) -> Self {
        Self {
            label: label.to_owned(),
            name: view.name.clone(),
            psnr: view.psnr,
            ssim: view.ssim,
            width: image.width,
            height: image.height,
            truth: eval::bytes_over_background(image, config),
            prediction,
        }
    }
}

/// Choose the views to show: the worst, the median and the best by PSNR, each once.
///
/// Returns indices with their labels: the worst and the best of two views, or the only view. A NaN PSNR counts as the worst.
#[must_use]
pub fn pick(views: &[ViewQuality]) -> Vec<(usize, &'static str)> {
    let order = worst_first(views);
    let last = order.len().saturating_sub(1);
    match order.len() {
        0 => Vec::new(),
        1 => vec![(order[0], "only view")],
        2 => vec![(order[0], "worst"), (order[1], "best")],
        _ => vec![
            (order[0], "worst"),
            (order[last / 2], "median"),
            (order[last], "best"),
        ],
    }
}

/// Write `report.html` of `run` atomically, from its log, the text of its configuration, `eval` and `examples`.
///
/// A missing log or configuration, and lines of the log that cannot be parsed, are left out of the report.
///
/// # Errors
/// [`ReportError::Size`] for images of the wrong size, [`ReportError::Read`] for a file that exists but cannot be read,
/// [`ReportError::Run`] if the report cannot be written.
pub fn write(
    run: &RunDir,
    config: Option<&str>,
    eval: &EvalReport,
    examples: &[Example],
) -> Result<(), ReportError> {
    let unreadable = |path: PathBuf| |source| ReportError::Read { path, source };
    let text = run.metrics_text().map_err(unreadable(run.metrics()))?;
    let log = Log::parse(&text);
    let page = Page::new(run.path(), config, &log, eval, examples)?;
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    // The extension of the name turns on escaping.
    let text = environment.render_named_str("report.html", TEMPLATE, page)?;
    Ok(run.write(&run.report(), &text)?)
}

/// Return the indices sorted by PSNR, with NaN first.
fn worst_first(views: &[ViewQuality]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (views[a].psnr, views[b].psnr);
        a.partial_cmp(&b)
            .unwrap_or_else(|| match (a.is_nan(), b.is_nan()) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ => Ordering::Equal,
            })
    });
    order
}
