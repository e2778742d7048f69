//! `kiln import`

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::output::SCHEMA;
use super::{Session, usage};
use crate::checkpoint::{Info, save_parameters};
use crate::config::{Background, RayDirection, Spacing};
use crate::import::nerf_pytorch::{self, Options};
use crate::run::RunDir;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln import lego.safetensors --as nerf-pytorch --out runs/lego-imported
  kiln eval runs/lego-imported --dataset data/lego
  kiln render runs/lego-imported --dataset data/lego --turntable 48 --out orbit.gif
  kiln train data/lego --resume runs/lego-imported --seconds 600

From PyTorch, for krrish94's nerf-pytorch (docs/import.md has more):
  checkpoint = torch.load(\"checkpoint199999.ckpt\", map_location=\"cpu\")
  tensors = {f\"{part}.{name}\": value.contiguous()
             for part in (\"coarse\", \"fine\")
             for name, value in checkpoint[f\"model_{part}_state_dict\"].items()}
  safetensors.torch.save_file(tensors, \"lego.safetensors\")")]
pub(super) struct Args {
    /// Weights under the names of the model's `state_dict`
    #[arg(value_name = "FILE.safetensors")]
    file: PathBuf,
    /// What the weights are those of
    #[arg(long = "as", value_name = "MODEL")]
    model: Model,
    /// Run directory to make
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Overwrite an existing run
    #[arg(long)]
    force: bool,
    /// Frequencies of positions; read off the weights where left out
    #[arg(long, value_name = "L")]
    frequencies: Option<u32>,
    /// Frequencies of directions; read off the weights where left out
    #[arg(long, value_name = "L")]
    direction_frequencies: Option<u32>,
    /// Stratified samples per ray
    #[arg(long, value_name = "N", default_value_t = 64)]
    samples: u32,
    /// Samples per ray that the fine model adds
    #[arg(long, value_name = "N", default_value_t = 64)]
    fine_samples: u32,
    /// What samples are spaced evenly in
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = SpacingArg::Linear)]
    spacing: SpacingArg,
    /// Where rays start
    #[arg(
        long,
        value_name = "T",
        default_value_t = 2.0,
        allow_negative_numbers = true
    )]
    near: f32,
    /// Where rays end
    #[arg(
        long,
        value_name = "T",
        default_value_t = 6.0,
        allow_negative_numbers = true
    )]
    far: f32,
    /// What near and far measure: depths along the viewing axis (plane) or distances (unit)
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DirectionArg::Plane)]
    ray_direction: DirectionArg,
    /// Where in a pixel its ray passes: 0 is the corner, 0.5 the centre
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pixel_center: f32,
    /// The model is one of normalised device coordinates, of images whose half width and height are so many focal lengths:
    /// near and far count for nothing then
    #[arg(long, value_name = "X,Y", value_delimiter = ',', num_args = 1)]
    ndc: Vec<f32>,
    /// Background of training and evaluation: white, black or #rrggbb
    #[arg(long, value_name = "C", default_value = "white")]
    background: Background,
}

/// Models that can be imported.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Model {
    /// Neural radiance fields of krrish94 and of yenchenlin
    NerfPytorch,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SpacingArg {
    Linear,
    Disparity,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DirectionArg {
    Plane,
    Unit,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    schema: u32,
    event: &'static str,
    run: &'a str,
    parameters: usize,
    passes: usize,
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    if !(args.near >= 0.0 && args.far > args.near && args.far.is_finite()) {
        return Err(usage(format!(
            "--near {} and --far {}: near must not be negative, and far be larger",
            args.near, args.far
        )));
    }
    for (flag, n) in [
        ("--samples", args.samples),
        ("--fine-samples", args.fine_samples),
    ] {
        if !(2..=16_384).contains(&n) {
            return Err(usage(format!(
                "{flag} {n}: give 2 to 16384 samples per ray"
            )));
        }
    }
    if !(0.0..=1.0).contains(&args.pixel_center) {
        return Err(usage(format!(
            "--pixel-center {}: it must lie between 0 and 1",
            args.pixel_center
        )));
    }
    if args.background == Background::Random {
        return Err(usage(
            "--background random: a model was trained over one colour: white, black or #rrggbb",
        ));
    }
    let ndc = match args.ndc[..] {
        [] => None,
        [x, y] if x > 0.0 && y > 0.0 && x.is_finite() && y.is_finite() => Some([x, y]),
        _ => {
            return Err(usage(
                "--ndc: give two positive numbers, half of an image's width and height in focal lengths: 0.62,0.46",
            ));
        }
    };
    let dir = RunDir::at(&args.out);
    dir.check_free(args.force)?;
    let options = Options {
        n_frequencies: args.frequencies,
        n_direction_frequencies: args.direction_frequencies,
        n_samples: args.samples,
        n_fine_samples: args.fine_samples,
        spacing: match args.spacing {
            SpacingArg::Linear => Spacing::Linear,
            SpacingArg::Disparity => Spacing::Disparity,
        },
        near: args.near,
        far: args.far,
        ray_direction: match args.ray_direction {
            DirectionArg::Plane => RayDirection::Plane,
            DirectionArg::Unit => RayDirection::Unit,
        },
        pixel_center: args.pixel_center,
        background: args.background,
        ndc,
    };
    let Model::NerfPytorch = args.model;
    let imported = nerf_pytorch::read(&args.file, &options)?;
    let info = Info::imported(imported.config);
    let _reservation = dir.reserve()?;
    let _lock = dir.lock()?;
    dir.create()?;
    save_parameters(&dir.checkpoint(), &imported.parameters, &info)?;
    dir.write(&dir.config(), &info.config.to_toml())?;
    dir.forget_previous();
    let out = args.out.display().to_string();
    let parameters = imported.parameters.iter().map(|(_, _, v)| v.len()).sum();
    session.out.json(&Line {
        schema: SCHEMA,
        event: "import",
        run: &out,
        parameters,
        passes: info.config.passes.len(),
    })?;
    session.out.result(format!(
        "{parameters} parameters of {} imported",
        if info.config.passes.len() > 1 {
            "a coarse and a fine field"
        } else {
            "one field"
        }
    ))?;
    session.out.result(format!(
        "run: {out} (evaluate with `kiln eval {out} --dataset DIR`)"
    ))?;
    Ok(())
}
