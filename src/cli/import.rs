//! `kiln import`: makes a run from the weights of another program.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::Terminal;
use crate::checkpoint::{Info, save_parameters};
use crate::config::{Background, DensityActivation, RayDirection, Spacing};
use crate::import::{RayOptions, kilonerf_seed, learnit, nerf_pytorch, ngp_seed};
use crate::run::RunDir;
use crate::session::run_log::SCHEMA;
use crate::session::{Error, ObserverExt as _, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln import lego.safetensors --as nerf-pytorch --out runs/lego-imported
  kiln eval runs/lego-imported --dataset data/lego
  kiln render runs/lego-imported --dataset data/lego --turntable 48 --out orbit.gif
  kiln train data/lego --resume runs/lego-imported --seconds 600

To export krrish94's nerf-pytorch from PyTorch (docs/import.md has more):
  checkpoint = torch.load(\"checkpoint199999.ckpt\", map_location=\"cpu\")
  tensors = {f\"{part}.{name}\": value.contiguous()
             for part in (\"coarse\", \"fine\")
             for name, value in checkpoint[f\"model_{part}_state_dict\"].items()}
  safetensors.torch.save_file(tensors, \"lego.safetensors\")

For the 100-line Instant-NGP: safetensors.torch.save_file(model.state_dict(), \"ngp.safetensors\"), then
  kiln import ngp.safetensors --as ngp-seed --out runs/lego-ngp

For the 100-line KiloNeRF: safetensors.torch.save_file(model.state_dict(), \"cells.safetensors\"), then
  kiln import cells.safetensors --as kilonerf-seed --out runs/lego-cells

For the 100-line learned initialisations or nerf-meta, use --as learnit; then kiln train OBJECT --init RUN
trains from those weights.")]
pub(super) struct Args {
    /// Weights, named as in the model's `state_dict`
    #[arg(value_name = "FILE.safetensors")]
    file: PathBuf,
    /// Model that the weights are from
    #[arg(long = "as", value_name = "MODEL")]
    model: Model,
    /// Run directory to create
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Overwrite an existing run
    #[arg(long)]
    force: bool,
    /// Number of positional-encoding frequencies of positions [default: from the weights] (nerf-pytorch)
    #[arg(long, value_name = "L")]
    frequencies: Option<u32>,
    /// Number of positional-encoding frequencies of directions [default: from the weights] (nerf-pytorch)
    #[arg(long, value_name = "L")]
    direction_frequencies: Option<u32>,
    /// Stratified samples per ray [default: 64 (nerf-pytorch), 128 (learnit) or 192 (others)]
    #[arg(long, value_name = "N")]
    samples: Option<u32>,
    /// Samples per ray that the fine model adds [default: 64] (nerf-pytorch)
    #[arg(long, value_name = "N")]
    fine_samples: Option<u32>,
    /// Space samples evenly in distance (linear) or in inverse distance (disparity) [default: linear] (nerf-pytorch)
    #[arg(long, value_enum, value_name = "WHAT")]
    spacing: Option<SpacingArg>,
    /// Side of the cube of the cells or the hash grid, in world units [default: 3] (kilonerf-seed, ngp-seed)
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    scene_scale: Option<f32>,
    /// Cells along an axis of the coarsest level [default: 16] (ngp-seed)
    #[arg(long, value_name = "N")]
    base_resolution: Option<u32>,
    /// Cells along an axis of the finest level, `N_max` of the model [default: 2048] (ngp-seed)
    #[arg(long, value_name = "N")]
    finest_resolution: Option<u32>,
    /// Base-2 logarithm of the highest frequency [default: from the file, else 8] (learnit)
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    max_log2: Option<f64>,
    /// Activation of the density output [default: relu, or softplus for weights of nerf-meta] (learnit)
    #[arg(long, value_enum, value_name = "WHAT")]
    density_activation: Option<ActivationArg>,
    /// Near bound of rays
    #[arg(
        long,
        value_name = "T",
        default_value_t = 2.0,
        allow_negative_numbers = true
    )]
    near: f32,
    /// Far bound of rays
    #[arg(
        long,
        value_name = "T",
        default_value_t = 6.0,
        allow_negative_numbers = true
    )]
    far: f32,
    /// Whether near and far are depths along the viewing axis (plane) or distances along the ray (unit) [default: plane
    /// (nerf-pytorch) or unit (others)]
    #[arg(long, value_enum, value_name = "WHAT")]
    ray_direction: Option<DirectionArg>,
    /// Position of the ray in its pixel: 0 is the corner, 0.5 the centre
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pixel_center: f32,
    /// The model uses normalised device coordinates; give half the width and height of its images in focal lengths. --near
    /// and --far are ignored then (nerf-pytorch)
    #[arg(long, value_name = "X,Y", value_delimiter = ',', num_args = 1)]
    ndc: Vec<f32>,
    /// Background of training and evaluation: white, black or #rrggbb
    #[arg(long, value_name = "C", default_value = "white")]
    background: Background,
}

/// Models that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// nerf-pytorch of krrish94 or of yenchenlin
    NerfPytorch,
    /// Hash grid of the 100-line Instant-NGP
    NgpSeed,
    /// Grid of small networks of the 100-line `KiloNeRF`
    KilonerfSeed,
    /// Network of the 100-line learned initialisations, or of nerf-meta
    Learnit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ActivationArg {
    Relu,
    Softplus,
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

impl From<ActivationArg> for DensityActivation {
    fn from(arg: ActivationArg) -> Self {
        match arg {
            ActivationArg::Relu => Self::Relu,
            ActivationArg::Softplus => Self::Softplus,
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
    /// Return an error for flags that do not apply to the model or values that are out of range.
    fn check_flags(&self) -> Result<()> {
        let (of_nerf, of_ngp) = (&[Model::NerfPytorch][..], &[Model::NgpSeed][..]);
        let (of_boxes, of_learnit) = (
            &[Model::NgpSeed, Model::KilonerfSeed][..],
            &[Model::Learnit][..],
        );
        let flags = [
            ("--frequencies", self.frequencies.is_some(), of_nerf),
            (
                "--direction-frequencies",
                self.direction_frequencies.is_some(),
                of_nerf,
            ),
            ("--fine-samples", self.fine_samples.is_some(), of_nerf),
            ("--spacing", self.spacing.is_some(), of_nerf),
            ("--ndc", !self.ndc.is_empty(), of_nerf),
            ("--scene-scale", self.scene_scale.is_some(), of_boxes),
            ("--base-resolution", self.base_resolution.is_some(), of_ngp),
            (
                "--finest-resolution",
                self.finest_resolution.is_some(),
                of_ngp,
            ),
            ("--max-log2", self.max_log2.is_some(), of_learnit),
            (
                "--density-activation",
                self.density_activation.is_some(),
                of_learnit,
            ),
        ];
        let stranger = flags
            .iter()
            .find(|(_, given, models)| *given && !models.contains(&self.model));
        if let Some((flag, ..)) = stranger {
            let model = self.model.to_possible_value();
            let model = model.as_ref().map_or("", |m| m.get_name());
            return Err(Error::usage(format!(
                "{flag} does not apply to --as {model}: leave it out"
            )));
        }
        if let Some(b) = self.max_log2.filter(|b| !(*b > 0.0 && *b <= 20.0)) {
            return Err(Error::usage(format!(
                "--max-log2 {b}: give a number above 0, up to 20"
            )));
        }
        let [base, finest] = self.resolutions();
        if !(1..=4096).contains(&base) || !(base..=65_536).contains(&finest) {
            return Err(Error::usage(format!(
                "--base-resolution {base} and --finest-resolution {finest}: give a base of 1 to 4096 cells, and a finest \
                 resolution from there up to 65536"
            )));
        }
        match self.scene_scale {
            Some(side) if !(side > 0.0 && side.is_finite()) => Err(Error::usage(format!(
                "--scene-scale {side}: give the side of the cube, a positive number"
            ))),
            _ => Ok(()),
        }
    }

    /// Return the number of cells along an axis of the coarsest and of the finest level.
    fn resolutions(&self) -> [u32; 2] {
        let default = ngp_seed::Options::default();
        let base = self.base_resolution.unwrap_or(default.base_resolution);
        [
            base,
            self.finest_resolution.unwrap_or(default.finest_resolution),
        ]
    }

    /// Return `default` with the values that the flags set.
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

pub(super) fn run(terminal: &Terminal, args: &Args) -> Result<()> {
    if !(args.near >= 0.0 && args.far > args.near && args.far.is_finite()) {
        return Err(Error::usage(format!(
            "--near {} and --far {}: near must be 0 or more, and far must be larger than near",
            args.near, args.far
        )));
    }
    for (flag, n) in [
        ("--samples", args.samples),
        ("--fine-samples", args.fine_samples),
    ] {
        if let Some(n) = n.filter(|n| !(2..=16_384).contains(n)) {
            return Err(Error::usage(format!(
                "{flag} {n}: give 2 to 16384 samples per ray"
            )));
        }
    }
    if !(0.0..=1.0).contains(&args.pixel_center) {
        return Err(Error::usage(format!(
            "--pixel-center {}: give a number from 0 to 1",
            args.pixel_center
        )));
    }
    if !matches!(args.background, Background::Fixed(_)) {
        return Err(Error::usage(format!(
            "--background {}: give the one colour that the model was trained with: white, black or #rrggbb",
            args.background
        )));
    }
    let ndc = match args.ndc[..] {
        [] => None,
        [x, y] if x > 0.0 && y > 0.0 && x.is_finite() && y.is_finite() => Some([x, y]),
        _ => {
            return Err(Error::usage(
                "--ndc: give two positive numbers, half the width and height of an image in focal lengths, such as 0.62,0.46",
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
        Model::NgpSeed => {
            let default = ngp_seed::Options::default();
            let [base_resolution, finest_resolution] = args.resolutions();
            let options = ngp_seed::Options {
                rays: args.rays(default.rays),
                scene_scale: args.scene_scale.unwrap_or(default.scene_scale),
                base_resolution,
                finest_resolution,
            };
            ngp_seed::read(&args.file, &options)?
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
                max_log2: args.max_log2,
                density_activation: args.density_activation.map(ActivationArg::into),
            };
            learnit::read(&args.file, &options)?
        }
    };
    let info = Info::imported(imported.config);
    let _reservation = dir.reserve()?;
    let _lock = dir.lock()?;
    dir.create()?;
    save_parameters(&dir.checkpoint(), &imported.parameters, &info)?;
    dir.write_config(&info.config)?;
    dir.remove_previous();
    let out = args.out.display().to_string();
    let parameters = imported.parameters.iter().map(|(_, _, v)| v.len()).sum();
    terminal.json(&Line {
        schema: SCHEMA,
        event: "import",
        run: &out,
        parameters,
        passes: info.config.passes.len(),
    })?;
    terminal.result(format!(
        "{parameters} parameters of {} imported",
        if info.config.passes.len() > 1 {
            "a coarse and a fine field"
        } else {
            "one field"
        }
    ))?;
    terminal.result(format!(
        "run: {out} (evaluate with `kiln eval {out} --dataset DIR`)"
    ))?;
    Ok(())
}
