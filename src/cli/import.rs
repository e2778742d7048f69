//! `kiln import`

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::output::SCHEMA;
use super::{Session, usage};
use crate::checkpoint::{Info, save_parameters};
use crate::config::{Background, RayDirection, Spacing};
use crate::import::{RayOptions, kilonerf_seed, learnit, nerf_pytorch};
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
  safetensors.torch.save_file(tensors, \"lego.safetensors\")

A model of the 100-line KiloNeRF: safetensors.torch.save_file(model.state_dict(), \"cells.safetensors\"), then
  kiln import cells.safetensors --as kilonerf-seed --out runs/lego-cells

One of the 100-line learned initialisations likewise, as --as learnit: kiln train OBJECT --init RUN begins with it.")]
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
    /// Frequencies of positions; read off the weights where left out (nerf-pytorch)
    #[arg(long, value_name = "L")]
    frequencies: Option<u32>,
    /// Frequencies of directions; read off the weights where left out (nerf-pytorch)
    #[arg(long, value_name = "L")]
    direction_frequencies: Option<u32>,
    /// Stratified samples per ray; left out, 64 (nerf-pytorch), 192 (kilonerf-seed) or 128 (learnit)
    #[arg(long, value_name = "N")]
    samples: Option<u32>,
    /// Samples per ray that the fine model adds; left out, 64 (nerf-pytorch)
    #[arg(long, value_name = "N")]
    fine_samples: Option<u32>,
    /// What samples are spaced evenly in; left out, distance (nerf-pytorch)
    #[arg(long, value_enum, value_name = "WHAT")]
    spacing: Option<SpacingArg>,
    /// Side of the cube that the cells fill, in world units; left out, 3 (kilonerf-seed)
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    scene_scale: Option<f32>,
    /// Logarithm (of base 2) of the highest frequency; left out, 8 (learnit)
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    max_log2: Option<f64>,
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
    /// What near and far measure: depths along the viewing axis (plane) or distances (unit); left out, plane (nerf-pytorch)
    /// or unit (the others)
    #[arg(long, value_enum, value_name = "WHAT")]
    ray_direction: Option<DirectionArg>,
    /// Where in a pixel its ray passes: 0 is the corner, 0.5 the centre
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pixel_center: f32,
    /// The model is one of normalised device coordinates, of images whose half width and height are so many focal lengths:
    /// near and far count for nothing then (nerf-pytorch)
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
    /// Grids of small networks of the 100-line `KiloNeRF`
    KilonerfSeed,
    /// Networks of the 100-line learned initialisations
    Learnit,
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

impl From<SpacingArg> for Spacing {
    fn from(arg: SpacingArg) -> Self {
        match arg {
            SpacingArg::Linear => Self::Linear,
            SpacingArg::Disparity => Self::Disparity,
        }
    }
}

impl From<DirectionArg> for RayDirection {
    fn from(arg: DirectionArg) -> Self {
        match arg {
            DirectionArg::Plane => Self::Plane,
            DirectionArg::Unit => Self::Unit,
        }
    }
}

impl Args {
    /// A flag that means nothing to the model is refused.
    fn check_flags(&self) -> anyhow::Result<()> {
        let of_nerf = [
            ("--frequencies", self.frequencies.is_some()),
            (
                "--direction-frequencies",
                self.direction_frequencies.is_some(),
            ),
            ("--fine-samples", self.fine_samples.is_some()),
            ("--spacing", self.spacing.is_some()),
            ("--ndc", !self.ndc.is_empty()),
        ];
        let (model, strangers) = match self.model {
            Model::NerfPytorch => (
                "nerf-pytorch",
                &[
                    ("--scene-scale", self.scene_scale.is_some()),
                    ("--max-log2", self.max_log2.is_some()),
                ][..],
            ),
            Model::KilonerfSeed => (
                "kilonerf-seed",
                &[&of_nerf[..], &[("--max-log2", self.max_log2.is_some())]].concat()[..],
            ),
            Model::Learnit => (
                "learnit",
                &[
                    &of_nerf[..],
                    &[("--scene-scale", self.scene_scale.is_some())],
                ]
                .concat()[..],
            ),
        };
        if let Some(b) = self.max_log2.filter(|b| !(*b > 0.0 && *b <= 20.0)) {
            return Err(usage(format!(
                "--max-log2 {b}: give a number above 0, up to 20"
            )));
        }
        if let Some((flag, _)) = strangers.iter().find(|(_, given)| *given) {
            return Err(usage(format!(
                "{flag} means nothing to --as {model}: leave it out"
            )));
        }
        match self.scene_scale {
            Some(side) if !(side > 0.0 && side.is_finite()) => Err(usage(format!(
                "--scene-scale {side}: give the side of the cube, which is positive"
            ))),
            _ => Ok(()),
        }
    }

    /// `default`, but for what flags say.
    fn rays(&self, default: RayOptions) -> RayOptions {
        RayOptions {
            n_samples: self.samples.unwrap_or(default.n_samples),
            near: self.near,
            far: self.far,
            ray_direction: self
                .ray_direction
                .map_or(default.ray_direction, DirectionArg::into),
            pixel_center: self.pixel_center,
            background: self.background,
        }
    }
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
        if let Some(n) = n.filter(|n| !(2..=16_384).contains(n)) {
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
    args.check_flags()?;
    let imported = match args.model {
        Model::NerfPytorch => {
            let default = nerf_pytorch::Options::default();
            let options = nerf_pytorch::Options {
                n_frequencies: args.frequencies,
                n_direction_frequencies: args.direction_frequencies,
                rays: args.rays(default.rays),
                n_fine_samples: args.fine_samples.unwrap_or(default.n_fine_samples),
                spacing: args.spacing.map_or(default.spacing, SpacingArg::into),
                ndc,
            };
            nerf_pytorch::read(&args.file, &options)?
        }
        Model::KilonerfSeed => {
            let default = kilonerf_seed::Options::default();
            let options = kilonerf_seed::Options {
                rays: args.rays(default.rays),
                scene_scale: args.scene_scale.unwrap_or(default.scene_scale),
            };
            kilonerf_seed::read(&args.file, &options)?
        }
        Model::Learnit => {
            let default = learnit::Options::default();
            let options = learnit::Options {
                rays: args.rays(default.rays),
                max_log2: args.max_log2.unwrap_or(default.max_log2),
            };
            learnit::read(&args.file, &options)?
        }
    };
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
