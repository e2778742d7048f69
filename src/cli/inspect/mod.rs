//! `kiln inspect`: what a dataset is and what is wrong with it, or what a run holds and whether it is whole.

mod dataset;
mod objects;
mod run;

use std::path::{Path, PathBuf};

use super::Terminal;
use crate::dataset::Opening;
use crate::session::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln inspect data/lego                      views, lens, scene box, problems, memory
  kiln inspect data/lego --plot cameras.png   and where the cameras stand
  kiln inspect data/cars                      every object of a folder of objects, as kiln meta takes it
  kiln inspect runs/lego-ngp                  what a run is, and whether its checkpoint is whole
  kiln inspect data/lego --json | jq .problems")]
pub(super) struct Args {
    /// Dataset to examine, folder of objects, or run directory (or checkpoint) to summarise and verify
    path: PathBuf,
    /// File with the lists `train` and `test` of a folder of objects [default: the one *_splits.json in it]
    #[arg(long, value_name = "FILE")]
    splits: Option<PathBuf>,
    /// Draw the cameras and the scene's box, from above and from the side
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,
    /// Preset that the memory and the scene's box are told for
    #[arg(long, conflicts_with = "config", value_name = "M")]
    method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a value of the configuration, as `kiln train` does; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Factor that the images will be shrunk by, as `kiln train` takes it
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    downscale: u32,
    /// Turn images as their EXIF orientation says: for poses of the images as viewers show them
    #[arg(long)]
    apply_orientation: bool,
}

impl Args {
    /// How the dataset is opened.
    fn opening(&self) -> Opening {
        Opening::default().or(Some(self.downscale), self.apply_orientation)
    }
}

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    if is_run(&args.path) {
        if args.plot.is_some() {
            return Err(Error::usage(
                "--plot draws the cameras of a dataset, and this is a run",
            ));
        }
        run::inspect(terminal, &args.path)
    } else if args.splits.is_some() || crate::dataset::holds_objects(&args.path) {
        objects::inspect(terminal, args)
    } else {
        dataset::inspect(terminal, args)
    }
}

/// Whether `path` is a run rather than a dataset.
fn is_run(path: &Path) -> bool {
    let is_checkpoint = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let has = |name: &str| path.join(name).is_file();
    is_checkpoint
        || has("checkpoint.safetensors")
        || (has("config.toml") && (has("metrics.jsonl") || has("eval.json")))
}
