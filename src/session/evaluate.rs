//! Evaluates a run: renders views and compares them with their images.

mod plan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

pub(crate) use plan::{EvaluationPlan, Limit};

use super::check::{self, MAX_DOWNSCALE};
use super::data::{self, load};
use super::open::{one_background, open_run};
use super::sink::save_png;
use super::view_progress::ViewProgress;
use super::views::Selection;
use super::{Error, Observer, ObserverExt, Result};
use crate::camera::Camera;
use crate::config::{Background, ResolvedConfig};
use crate::dataset::duplicate_images::{self, Thumbnail};
use crate::dataset::framing::short;
use crate::dataset::{Dataset, Frame, Image, Split};
use crate::eval::{self, Context, DepthComparison, EvalReport};
use crate::files::read_file;
use crate::gpu::Gpu;
use crate::metrics::lpips::Lpips;
use crate::render::{Channel, RenderedFrame, Renderer};
use crate::report::{self, Example};
use crate::run::RunDir;
use crate::text::counted;

/// Maximum size of a stored evaluation in bytes.
const MAX_REPORT: u64 = 1 << 26;

/// Frames to evaluate, and how.
pub(crate) struct EvaluationRequest<'a> {
    pub(crate) plan: &'a EvaluationPlan,
    pub(crate) split: Split,
    pub(crate) steps: u32,
    pub(crate) train_seconds: f64,
    /// Folder to write the renderings to.
    pub(crate) save_to: Option<&'a Path>,
    /// Dataset that the frames are from.
    pub(crate) dataset: &'a Dataset,
    /// Network for LPIPS.
    pub(crate) lpips: Option<&'a Lpips>,
    /// Thumbnails of the training images, to detect copies among `frames`; empty to skip the check.
    pub(crate) trained_on: &'a [Thumbnail],
}

/// Evaluate with a progress bar. Return the report, and the worst, the median and the best view as examples.
pub(crate) fn evaluate_views(
    observer: &dyn Observer,
    gpu: &Gpu,
    renderer: &mut Renderer,
    request: &EvaluationRequest<'_>,
) -> Result<(EvalReport, Vec<Example>)> {
    let EvaluationPlan {
        frames,
        pixel_share,
        ..
    } = request.plan;
    let (images, _) = load(observer, frames, request.dataset.downscale, "loading")?;
    if !request.trained_on.is_empty() {
        let train = request.dataset.train.iter().zip(request.trained_on);
        let shown: Vec<Thumbnail> = images.par_iter().map(Thumbnail::of).collect();
        let held_out: Vec<_> = frames.iter().zip(&shown).collect();
        let train: Vec<_> = train.collect();
        if let Some(leak) =
            duplicate_images::find_duplicate_images(request.dataset, &train, &held_out)
        {
            observer.warn(&leak.message);
        }
    }
    if let Some(lpips) = request.lpips {
        for (frame, image) in frames.iter().zip(&images) {
            lpips
                .check_size(image.width as usize, image.height as usize)
                .map_err(|e| Error::failed(format!("{}: {e}", frame.name)))?;
        }
    }
    if let Some(folder) = request.save_to {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::failed(format!("cannot create {}: {e}", folder.display())))?;
    }
    let camera_of = |frame: &Frame| frame.camera.downscaled(request.dataset.downscale);
    let cameras: Vec<Camera> = frames.iter().map(camera_of).collect();
    let tiles = |(index, camera): (usize, &Camera)| {
        plan::tiles([camera.width, camera.height], *pixel_share, index as u32)
    };
    let tiles: Vec<_> = cameras.iter().enumerate().map(tiles).collect();
    let way_out = "Ctrl-C stops it and leaves the run unchanged; fewer --eval-views or a larger --downscale take less time";
    let mut progress = ViewProgress::new(
        observer,
        "evaluating",
        way_out,
        tiles.iter().map(plan::n_pixels),
    );
    let background = renderer.config().scene.eval_background.color();
    let mut views = Vec::with_capacity(images.len());
    let mut renderings = Vec::with_capacity(images.len());
    let mut compared = Vec::with_capacity(images.len());
    let mut n_rays = 0.0;
    let mut seconds = 0.0;
    for (index, (frame, image)) in frames.iter().zip(&images).enumerate() {
        let start = Instant::now();
        let mut parts: Vec<Vec<(Image, RenderedFrame)>> = Vec::new();
        let mut done_before = 0;
        let mut depth = DepthComparison::of(frame, &cameras[index])?;
        for row in &tiles[index] {
            let mut of_row = Vec::new();
            for tile in row {
                let camera = cameras[index].cropped(tile.at, tile.size);
                let mut go_on = |done| progress.update(done_before + done);
                let rendered =
                    renderer.render_while(&camera, frame.near_far, false, 1, &mut go_on)?;
                let Some(rendered) = rendered else {
                    drop(progress);
                    return Err(Error::Cancelled(format!(
                        " while evaluating view {}",
                        frame.name
                    )));
                };
                done_before += u64::from(tile.size[0]) * u64::from(tile.size[1]);
                let image = image.cropped(tile.at, tile.size);
                if let Some(depth) = &mut depth {
                    depth.add(tile.at, &image, &rendered);
                }
                of_row.push((image, rendered));
            }
            parts.push(of_row);
        }
        // The first view includes compiling shaders.
        if index > 0 || images.len() == 1 {
            n_rays += done_before as f64;
            seconds += start.elapsed().as_secs_f64();
        }
        let all = parts
            .iter()
            .flatten()
            .map(|(image, rendered)| (image, rendered));
        let mut quality = eval::compare_parts(renderer.config(), &frame.name, all);
        if let (Some(lpips), [one]) = (request.lpips, &*parts)
            && let [(image, rendered)] = &**one
        {
            let distance = eval::perceptual_distance(lpips, renderer.config(), image, rendered)?;
            quality.lpips = Some(distance);
        }
        quality.depth = depth.and_then(|depth| depth.quality());
        let (image, pixels) = assemble(&parts, background);
        if let Some(folder) = request.save_to {
            // Number files by the view's index in its split, whichever views were selected.
            let mut all = request.dataset.frames(request.split).iter();
            let number = all.position(|f| f == frame).unwrap_or(index);
            let path = folder.join(format!("{}_{number:03}.png", request.split));
            save_png(&path, &pixels, image.width, image.height)?;
        }
        renderings.push(pixels);
        compared.push(image);
        views.push(quality);
        progress.complete();
    }
    drop(progress);
    let context = Context {
        split: request.split.to_string(),
        dataset: request.dataset.root.display().to_string(),
        downscale: request.dataset.downscale,
        steps: request.steps,
        train_seconds: request.train_seconds,
        rays_per_second: if seconds > 0.0 { n_rays / seconds } else { 0.0 },
        device: gpu.name().to_owned(),
        lpips_network: request.lpips.map(|l| l.network().to_string()),
        of_views: request.dataset.frames(request.split).len(),
        pixel_share: *pixel_share,
    };
    let picks = report::pick(&views).into_iter();
    let examples = picks.map(|(index, label)| {
        let prediction = std::mem::take(&mut renderings[index]);
        Example::new(
            label,
            &views[index],
            &compared[index],
            prediction,
            renderer.config(),
        )
    });
    let examples = examples.collect();
    Ok((eval::report(renderer.config(), context, views), examples))
}

/// Put the parts of a view, in rows, side by side: their images, and their renderings over `background`, RGB.
fn assemble(parts: &[Vec<(Image, RenderedFrame)>], background: [f32; 3]) -> (Image, Vec<u8>) {
    let (mut pixels, mut rendered) = (Vec::new(), Vec::new());
    for row in parts {
        let of_row: Vec<(&Image, Vec<u8>)> = row
            .iter()
            .map(|(image, frame)| (image, frame.pixels(Channel::Rgb, background, [0.0, 1.0])))
            .collect();
        for y in 0..row.first().map_or(0, |(image, _)| image.height as usize) {
            for (image, rgb) in &of_row {
                let width = image.width as usize;
                pixels.extend_from_slice(&image.pixels[4 * width * y..][..4 * width]);
                rendered.extend_from_slice(&rgb[3 * width * y..][..3 * width]);
            }
        }
    }
    let first = |of: fn(&Image) -> u32| parts.iter().map(move |row| of(&row[0].0));
    let image = Image {
        width: parts[0].iter().map(|(image, _)| image.width).sum(),
        height: first(|image| image.height).sum(),
        pixels,
        has_alpha: parts[0][0].0.has_alpha,
        mask: None,
    };
    (image, rendered)
}

/// Write an evaluation to its run: `eval.json` and the report. If that fails, only warn, so that the metrics are still shown.
pub(crate) fn write_evaluation(
    observer: &dyn Observer,
    dir: &RunDir,
    config: &ResolvedConfig,
    report: &EvalReport,
    examples: &[Example],
) -> Result<()> {
    let text = format!("{}\n", serde_json::to_string_pretty(report)?);
    if let Err(error) = dir.write(&dir.eval(), &text) {
        observer.warn(format!("{error}"));
    }
    match report::write(dir, Some(&config.to_toml()), report, examples) {
        Ok(()) => observer.note(format!("report: {}", dir.report().display())),
        Err(error) => observer.warn(format!("{error}")),
    }
    Ok(())
}

/// Return the last evaluation that was written to the run in `dir`, if it can be read.
pub(crate) fn stored(dir: &RunDir) -> Option<EvalReport> {
    let text = read_file(&dir.eval(), MAX_REPORT).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Describe an evaluation in one line.
pub(crate) fn describe(report: &EvalReport) -> String {
    let ssim = report
        .ssim
        .map(|s| format!(", SSIM {s:.4} (11×11 Gaussian, σ 1.5)"))
        .unwrap_or_default();
    let lpips = report
        .lpips
        .zip(report.lpips_network.as_ref())
        .map(|(distance, network)| format!(", LPIPS {distance:.3} ({network})"))
        .unwrap_or_default();
    let depth = report.depth.map_or_else(String::new, |depth| {
        format!(
            ", depth off by {:.1} % (RMSE {})",
            100.0 * depth.abs_rel,
            short(depth.rmse)
        )
    });
    let size = if report.downscale > 1 {
        format!(" at 1/{} of full size", report.downscale)
    } else {
        String::new()
    };
    format!(
        "{} PSNR {:.2} dB{ssim}{lpips}{depth} over {}{size}, background {}, {} values rounded to 8 bits, after {} and {:.1} s of training",
        report.split,
        report.psnr,
        report.extent(),
        report.background,
        report.color_space,
        counted(report.steps, "step"),
        report.train_seconds
    )
}

/// Options of an evaluation.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// Run directory, or a checkpoint file.
    pub run: PathBuf,
    /// Split to evaluate.
    pub split: Split,
    /// Where the images are, if not where the run was trained.
    pub dataset: Option<PathBuf>,
    /// Views of the split. If `None`, all, but at most 25 on a software adapter.
    pub eval_views: Option<Selection>,
    /// Colour to composite over; the run's if `None`.
    pub background: Option<Background>,
    /// Factor to shrink the images by; the run's if `None`.
    pub downscale: Option<u32>,
    /// Whether to rotate images by their EXIF orientation; on if the run was trained that way.
    pub apply_orientation: bool,
    /// Whether to write the renderings to the run's `images/` folder.
    pub save_images: bool,
    /// File of weights for LPIPS, which is not computed if `None`.
    pub lpips: Option<PathBuf>,
}

impl EvaluateOptions {
    /// Return options that evaluate the test views of `run`.
    #[must_use]
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            split: Split::Test,
            dataset: None,
            eval_views: None,
            background: None,
            downscale: None,
            apply_orientation: false,
            save_images: false,
            lpips: None,
        }
    }
}

/// Evaluate a run and write `eval.json` and the report to its directory.
pub fn evaluate(
    gpu: &Arc<Gpu>,
    options: &EvaluateOptions,
    observer: &dyn Observer,
) -> Result<EvalReport> {
    Evaluation::prepare(options)?.run(gpu, observer)
}

/// An evaluation whose options have been checked, before a device is opened.
#[derive(Debug)]
pub struct Evaluation<'a> {
    options: &'a EvaluateOptions,
    background: Option<Background>,
    lpips: Option<Lpips>,
}

impl<'a> Evaluation<'a> {
    /// Check `options` and load the LPIPS weights.
    ///
    /// # Errors
    /// [`Error::Usage`] if the background is not a single colour, [`Error::Lpips`] if the weights cannot be loaded.
    pub fn prepare(options: &'a EvaluateOptions) -> Result<Self> {
        check::in_range("--downscale", options.downscale, &(1..=MAX_DOWNSCALE))?;
        Ok(Self {
            options,
            background: one_background(options.background)?,
            lpips: options.lpips.as_deref().map(Lpips::open).transpose()?,
        })
    }

    /// Evaluate the run and write `eval.json` and the report to its directory.
    ///
    /// # Errors
    /// [`Error::Usage`] if the split or the selection has no views, [`Error::Cancelled`] if the observer cancels, another
    /// [`Error`] if the run or the dataset cannot be read, or the device fails.
    pub fn run(&self, gpu: &Arc<Gpu>, observer: &dyn Observer) -> Result<EvalReport> {
        let Self {
            options,
            background,
            lpips,
        } = self;
        let mut run = open_run(observer, gpu, &options.run, *background)?;
        let dataset = data::dataset_of(
            observer,
            &run.checkpoint,
            options.dataset.as_deref(),
            run.checkpoint
                .info
                .opening()
                .or(options.downscale, options.apply_orientation),
        )?;
        if dataset.frames(options.split).is_empty() {
            let split = options.split;
            return Err(Error::usage(match dataset.poses(split).len() {
                0 => {
                    let splits = [Split::Train, Split::Val, Split::Test];
                    let others = splits
                        .into_iter()
                        .filter(|s| !dataset.frames(*s).is_empty());
                    let others: Vec<String> = others.map(|s| format!("--split {s}")).collect();
                    format!(
                        "--split {split}: the dataset has no such views apart from those that the run was trained on; choose from {}",
                        others.join(", ")
                    )
                }
                n => format!(
                    "--split {split}: its {n} poses have no images to compare with; kiln render --split {split} renders them"
                ),
            }));
        }
        let frames = data::select_eval_frames(
            gpu,
            dataset.frames(options.split),
            options.eval_views.as_ref(),
        )?;
        data::warn_of_other_views(observer, &run.checkpoint, &dataset);
        data::warn_of_changed_images(observer, &run.checkpoint, &dataset, options.split)?;
        let dir = RunDir::of(&options.run);
        if options.save_images {
            dir.clear_rendered(&options.split.to_string());
        }
        let images = dir.images();
        // Distances and saved renderings are of whole views.
        let allows_tiles = lpips.is_none() && !options.save_images;
        let seconds = run.checkpoint.info.train_seconds;
        let limit = match options.eval_views {
            Some(_) => Limit::None,
            None if allows_tiles => Limit::Training(seconds),
            None => Limit::TrainingWhole(seconds),
        };
        let frames = (&*frames, dataset.downscale);
        let all = dataset.frames(options.split).len();
        let plan = EvaluationPlan::new(observer, &mut run.renderer, frames, limit, all)?;
        let request = EvaluationRequest {
            plan: &plan,
            split: options.split,
            steps: run.checkpoint.info.step,
            train_seconds: run.checkpoint.info.train_seconds,
            save_to: options.save_images.then_some(images.as_path()),
            dataset: &dataset,
            lpips: lpips.as_ref(),
            trained_on: &[],
        };
        let (report, examples) = evaluate_views(observer, gpu, &mut run.renderer, &request)?;
        // The evaluation of another checkpoint file in the directory is not stored as that of the run.
        if dir.is(&options.run) {
            write_evaluation(
                observer,
                &dir,
                &run.checkpoint.info.config,
                &report,
                &examples,
            )?;
        }
        for view in &report.images {
            let ssim = view.ssim.map(|s| format!("  SSIM {s:.4}"));
            let lpips = view.lpips.map(|d| format!("  LPIPS {d:.3}"));
            observer.detail(format!(
                "  {}  {:.2} dB{}{}",
                view.name,
                view.psnr,
                ssim.unwrap_or_default(),
                lpips.unwrap_or_default()
            ));
        }
        observer.result(describe(&report))?;
        if options.save_images {
            observer.note(format!("renderings: {}", images.display()));
        }
        observer.json(&report)?;
        Ok(report)
    }
}
