//! Trains a method that is not a preset: one hash grid that feeds 4×4×4 small networks, each for one cell of the scene.
//! Usage: `custom_method DATASET [STEPS]`

use kiln::config::ConfigOptions;
use kiln::gpu::{Gpu, GpuOptions};
use kiln::session::{FitOptions, Result, fit};

/// Changes to the preset `kilonerf-small`.
const CHANGES: [&str; 2] = [
    "passes.field.cells.resolution=[4,4,4]",
    "passes.field.position_encoding={hash_grid={n_levels=8,n_features_per_level=2,log2_hashmap_size=15,base_resolution=16,finest_resolution=512}}",
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dataset = arguments.next().unwrap_or_else(|| "data/lego".to_owned());
    let options = FitOptions {
        config: ConfigOptions {
            overrides: CHANGES.map(str::to_owned).to_vec(),
            ..ConfigOptions::preset("kilonerf-small")
        },
        steps: arguments.next().and_then(|n| n.parse().ok()),
        ..FitOptions::new(dataset)
    };
    let gpu = Gpu::open(&GpuOptions::default())?;
    let (run, report) = fit(&gpu, &options, &())?;
    println!(
        "{}: {:.2} dB",
        run.path().display(),
        report.map_or(f64::NAN, |report| report.psnr)
    );
    Ok(())
}
