//! `kiln inspect`: checks a dataset for problems, or summarises and verifies a run.

mod dataset;
mod objects;
mod run;

use std::path::{Path, PathBuf};

use super::Terminal;
use super::flags::MethodParser;
use crate::config::ConfigOptions;
use crate::dataset::OpenOptions;
use crate::run::is_run;
use crate::session::{Error, MAX_DOWNSCALE, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln inspect data/lego                      views, lens, scene box, problems, memory
  kiln inspect data/lego --plot cameras.png   draw the cameras too
  kiln inspect data/cars                      every object of a folder of objects, for kiln meta
  kiln inspect runs/lego-ngp                  summary of a run, and whether its checkpoint is intact
  kiln inspect data/lego --json | jq .problems")]
pub(super) struct Args {
    /// Dataset or folder of objects to check, or run directory or checkpoint to summarise and verify
    path: PathBuf,
    /// For a folder of objects: JSON file that lists the folders of the splits `train` and `test` [default: the only
    /// *_splits.json in it]
    #[arg(long, value_name = "FILE")]
    splits: Option<PathBuf>,
    /// Draw the cameras and the scene box from above and from the side
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,
    /// Preset for which to compute the memory and the scene box
    #[arg(long, conflicts_with = "config", value_name = "M", value_parser = MethodParser)]
    method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a configuration value, as in `kiln train`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Shrink the images by this factor, as in `kiln train`
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DOWNSCALE)))]
    downscale: u32,
    /// Rotate the images by their EXIF orientation, for datasets whose poses describe the rotated images
    #[arg(long)]
    apply_orientation: bool,
    /// Take the alpha of the images for a mask, as in `kiln train`
    #[arg(long)]
    alpha_mask: bool,
}

impl Args {
    /// Return the options to open the dataset with.
    fn opening(&self) -> OpenOptions {
        OpenOptions::default()
            .or(Some(self.downscale), self.apply_orientation)
            .or_alpha_mask(self.alpha_mask)
    }

    /// Return the configuration that the flags select.
    fn config(&self) -> ConfigOptions {
        ConfigOptions {
            method: self.method.clone(),
            file: self.config.clone(),
            overrides: self.overrides.clone(),
            ..ConfigOptions::default()
        }
    }
}

/// Check the dataset at `path` with the default settings, and draw its cameras to `plot`.
pub(super) fn of_dataset(terminal: &Terminal, path: &Path, plot: &Path) -> Result<()> {
    let args = Args {
        path: path.to_owned(),
        splits: None,
        plot: Some(plot.to_owned()),
        method: None,
        config: None,
        overrides: Vec::new(),
        downscale: 1,
        apply_orientation: false,
        alpha_mask: false,
    };
    dataset::inspect(terminal, &args)
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    if is_run(&args.path) {
        if args.plot.is_some() {
            return Err(Error::usage(
                "--plot draws the cameras of a dataset, but this is a run: leave it out, or give the dataset",
            ));
        }
        run::inspect(terminal, &args.path)
    } else if args.splits.is_some() || crate::dataset::holds_objects(&args.path) {
        objects::inspect(terminal, args)
    } else {
        dataset::inspect(terminal, args)
    }
}
