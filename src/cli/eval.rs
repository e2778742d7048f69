//! `kiln eval`

use std::path::PathBuf;

use super::Session;
use super::scene::{self, Request};
use super::views::Selection;
use crate::config::Background;
use crate::dataset::Split;
use crate::metrics::lpips::Lpips;
use crate::run::RunDir;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln eval runs/lego-ngp                          all test views
  kiln eval runs/lego-ngp --eval-views 0,5,10 --save-images
  kiln eval runs/lego-ngp --lpips alex.safetensors --json")]
pub(super) struct Args {
    /// Run directory, or a checkpoint file
    run: PathBuf,
    /// Views to measure: train, val or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// Where the images are, if not where the run was trained
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Views to evaluate: how many, evenly spread, or which, as 0,5,10, 0..24 (without the last) or 0-23 (with it), or all
    /// [default: all, at most 25 on a software adapter]
    #[arg(long, value_name = "N|i,j|A..B|all")]
    eval_views: Option<Selection>,
    /// Background to composite over: white, black or #rrggbb
    #[arg(long, value_name = "C")]
    background: Option<Background>,
    /// Factor to shrink the images by; the run's own where left out
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    downscale: Option<u32>,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them; as the run does where it was trained so
    #[arg(long)]
    apply_orientation: bool,
    /// Write the renderings to the run's images/ folder
    #[arg(long)]
    save_images: bool,
    /// Measure LPIPS too, with these weights (safetensors) of its alex or vgg network: docs/evaluation.md tells how to
    /// export them
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let background = scene::one_background(args.background)?;
    let lpips = args.lpips.as_deref().map(Lpips::open).transpose()?;
    let gpu = session.open_gpu()?;
    let mut run = scene::open_run(session, &gpu, &args.run, background)?;
    let dataset = scene::dataset_of(
        session,
        &run.checkpoint,
        args.dataset.as_deref(),
        run.checkpoint
            .info
            .opening()
            .or(args.downscale, args.apply_orientation),
    )?;
    if dataset.frames(args.split).is_empty() {
        let split = args.split;
        return Err(super::usage(match dataset.poses(split).len() {
            0 => {
                let splits = [Split::Train, Split::Val, Split::Test];
                let others = splits
                    .into_iter()
                    .filter(|s| !dataset.frames(*s).is_empty());
                let others: Vec<String> = others.map(|s| format!("--split {s}")).collect();
                format!(
                    "--split {split}: the dataset has no such views beside those that the run trains on; there is {}",
                    others.join(", ")
                )
            }
            n => format!(
                "--split {split}: its {n} poses have no images to compare with: kiln render --split {split} draws them"
            ),
        }));
    }
    let frames = scene::pick(
        session,
        &gpu,
        dataset.frames(args.split),
        args.eval_views.as_ref(),
    )?;
    scene::warn_of_other_views(session, &run.checkpoint, &dataset);
    scene::warn_of_changed_images(session, &run.checkpoint, &dataset, args.split)?;
    let dir = RunDir::of(&args.run);
    if args.save_images {
        dir.clear_rendered(&args.split.to_string());
    }
    let images = dir.images();
    let request = Request {
        frames: &frames,
        split: args.split,
        steps: run.checkpoint.info.step,
        train_seconds: run.checkpoint.info.train_seconds,
        save_to: args.save_images.then_some(images.as_path()),
        dataset: &dataset,
        lpips: lpips.as_ref(),
        trained_on: &[],
    };
    let (report, examples) = scene::evaluate(session, &gpu, &mut run.renderer, &request)?;
    // Another file beside a run's own checkpoint is not what the run's evaluation is of.
    if dir.is(&args.run) {
        scene::keep(
            session,
            &dir,
            &run.checkpoint.info.config,
            &report,
            &examples,
        )?;
    }
    for view in &report.images {
        let ssim = view.ssim.map(|s| format!("  SSIM {s:.4}"));
        let lpips = view.lpips.map(|d| format!("  LPIPS {d:.3}"));
        session.out.detail(format!(
            "  {}  {:.2} dB{}{}",
            view.name,
            view.psnr,
            ssim.unwrap_or_default(),
            lpips.unwrap_or_default()
        ));
    }
    session.out.result(scene::describe(&report))?;
    if args.save_images {
        session
            .out
            .note(format!("renderings: {}", images.display()));
    }
    session.out.json(&report)
}
