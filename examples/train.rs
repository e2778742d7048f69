//! Trains a field on a folder of posed images, prints its PSNR, and renders it from a new camera.

use kiln::gpu::{Gpu, GpuOptions};
use kiln::session::{FitOptions, Observer, RenderOptions, Result, fit, render};
use kiln::train::Progress;

struct Print;

impl Observer for Print {
    fn progress(&self, progress: &Progress) {
        println!("step {}: {:.2} dB", progress.step, progress.train_psnr);
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dataset = arguments.next().unwrap_or_else(|| "data/lego".to_owned());
    let steps = arguments.next().and_then(|n| n.parse().ok());
    let gpu = Gpu::open(&GpuOptions::default())?;
    let options = FitOptions {
        steps,
        ..FitOptions::new(dataset)
    };
    let (run, report) = fit(&gpu, &options, &Print)?;
    if let Some(report) = report {
        println!("{:.2} dB over {} views", report.psnr, report.views);
    }
    let orbit = RenderOptions {
        turntable: Some(1),
        ..RenderOptions::new(run.path(), "view.png")
    };
    render(&gpu, &orbit, &())
}
