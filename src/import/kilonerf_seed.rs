//! Imports `KiloNerf`, the compact implementation of `KiloNeRF` (Reiser et al. 2021): a cube of N×N×N cells around the origin,
//! with five layers per cell. The first dimensions of its tensors are the cells along x, y and z.
//!
//! The density is the last output of layer 2, with a `ReLU` like the features. Layer 3 has no activation, so it is
//! multiplied into layer 4.

use std::path::Path;

use super::{
    ImportError, Imported, Linear, Matrix, RayOptions, Tensors, finite, resolved, single, size,
};
use crate::config::{
    Cells, Config, DensityActivation, DirectionEncoding, FeatureActivation, FrequencyConfig,
    PositionEncoding, RayDirection, Sampler, Spacing,
};

/// Properties of a model that cannot be derived from its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Rays and their samples.
    pub rays: RayOptions,
    /// Side of the cube in world units.
    pub scene_scale: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rays: RayOptions::of_blender(192, RayDirection::Unit),
            scene_scale: 3.0,
        }
    }
}

/// One of the five layers, for all cells.
#[derive(Debug)]
struct Grid<'a> {
    /// Number of cells along x, y and z.
    resolution: [usize; 3],
    n_in: usize,
    n_out: usize,
    /// (x, y, z, in, out)
    weights: &'a [f64],
    /// (x, y, z, out)
    biases: &'a [f64],
}

impl<'a> Grid<'a> {
    /// Open layer `number`; sizes are checked if given.
    fn open(
        tensors: &'a Tensors,
        number: u32,
        resolution: Option<[usize; 3]>,
        [n_in, n_out]: [Option<usize>; 2],
    ) -> Result<Self, ImportError> {
        let [weight, bias] = ["w", "b"].map(|kind| format!("layer{number}_{kind}"));
        let ((shape, weights), (bias_shape, biases)) = (tensors.get(&weight)?, tensors.get(&bias)?);
        let of = |n: Option<usize>, name: &str| n.map_or(name.to_owned(), |n| n.to_string());
        let shape_fault = |name: &str, shape: &[usize], cells: Option<[usize; 3]>, sizes: &str| {
            let cells = cells.map_or("nx, ny, nz".to_owned(), |c| {
                c.map(|n| n.to_string()).join(", ")
            });
            let reason = format!("has shape {shape:?}, it should be [{cells}, {sizes}]");
            tensors.fault(name, reason)
        };
        let agrees = |&[x, y, z, found_in, found_out]: &[usize; 5]| {
            resolution.is_none_or(|r| r == [x, y, z])
                && n_in.is_none_or(|n| n == found_in)
                && n_out.is_none_or(|n| n == found_out)
        };
        let found = shape.as_slice().try_into().ok();
        let found = found.filter(|found| agrees(found) && !weights.is_empty());
        let Some([x, y, z, found_in, found_out]) = found else {
            let sizes = format!("{}, {}", of(n_in, "in"), of(n_out, "out"));
            return Err(shape_fault(&weight, shape, resolution, &sizes));
        };
        if bias_shape != &[x, y, z, 1, found_out] {
            let sizes = format!("1, {found_out}");
            return Err(shape_fault(&bias, bias_shape, Some([x, y, z]), &sizes));
        }
        Ok(Self {
            resolution: [x, y, z],
            n_in: found_in,
            n_out: found_out,
            weights,
            biases,
        })
    }

    /// Return the layer of one cell.
    fn of(&self, cell: usize) -> Linear {
        let (n_in, n_out) = (self.n_in, self.n_out);
        let weights = &self.weights[cell * n_in * n_out..][..n_in * n_out];
        let transposed = (0..n_out * n_in).map(|i| weights[i % n_in * n_out + i / n_in]);
        Linear {
            weight: Matrix {
                n_out,
                n_in,
                values: transposed.collect(),
            },
            bias: self.biases[cell * n_out..][..n_out].to_vec(),
        }
    }
}

/// Read the model in `path`. The error for a tensor that is missing or of another shape names it.
pub fn read(path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let tensors = Tensors::open(path)?;
    if !tensors.has("layer1_w") {
        return Err(tensors.unknown(
            "there is no tensor `layer1_w`: give a KiloNerf state_dict, saved as safetensors under its own names",
        ));
    }
    let first = Grid::open(&tensors, 1, None, [None, None])?;
    let (cells, width) = (Some(first.resolution), first.n_out);
    if !width.is_multiple_of(4) || width > 64 {
        let reason = format!("has {width} outputs; only a multiple of 4 up to 64 can be imported");
        return Err(tensors.fault("layer1_w", reason));
    }
    let open = |number, n_in, n_out| Grid::open(&tensors, number, cells, [n_in, n_out]);
    let second = open(2, Some(width), Some(width + 1))?;
    let third = open(3, Some(width), Some(width))?;
    let fourth = open(4, None, Some(width))?;
    let fifth = open(5, Some(width), Some(3))?;
    let n_frequencies = |layer: &str, n_in: usize, before: usize, most: usize| {
        let n = n_in.checked_sub(before + 3).filter(|n| n % 6 == 0);
        let n = n.map(|n| n / 6).filter(|n| (1..=most).contains(n));
        n.map(size).ok_or_else(|| {
            let reason =
                format!("has {n_in} inputs, which fit no encoding of 1 to {most} frequencies");
            tensors.fault(layer, reason)
        })
    };
    let n_positions = n_frequencies("layer1_w", first.n_in, 0, 16)?;
    let n_directions = n_frequencies("layer4_w", fourth.n_in, width, 12)?;

    // x varies slowest in the file, and fastest in kiln's grid.
    let [nx, ny, nz] = first.resolution;
    let order = (0..nz * ny * nx).map(|i| ((i % nx) * ny + i / nx % ny) * nz + i / (nx * ny));
    let mut slabs: [[Vec<f32>; 2]; 4] = Default::default();
    for cell in order {
        let mut outputs = second.of(cell);
        outputs.weight.values.rotate_right(width);
        outputs.bias.rotate_right(1);
        let layers = [
            first.of(cell),
            outputs,
            joined(&third.of(cell), &fourth.of(cell)),
            fifth.of(cell),
        ];
        for ([weights, biases], layer) in slabs.iter_mut().zip(layers) {
            weights.extend(single(&layer.weight.values));
            biases.extend(single(&layer.bias));
        }
    }
    let names = [
        "density_network.0",
        "density_network.1",
        "color_network.0",
        "color_network.1",
    ];
    let n_networks = nx * ny * nz;
    let mut parameters = Vec::new();
    for (name, [weights, biases]) in names.iter().zip(slabs) {
        let n_out = biases.len() / n_networks;
        let shape = vec![n_networks, n_out, weights.len() / biases.len()];
        parameters.push((format!("{name}.weight"), shape, weights));
        parameters.push((format!("{name}.bias"), vec![n_networks, n_out], biases));
    }
    let config = config(
        options,
        first.resolution,
        width,
        [n_positions, n_directions],
    )?;
    let config = resolved(path, config)?;
    let parameters = finite(&tensors, parameters)?;
    Ok(Imported { config, parameters })
}

/// Return the product of two layers without an activation between them. The outputs of `before` are the first inputs of
/// `after`; the other inputs of `after` are unchanged.
fn joined(before: &Linear, after: &Linear) -> Linear {
    let n = before.weight.n_out;
    let (of_before, others): (Vec<f64>, Vec<f64>) = {
        let rows = after.weight.values.chunks_exact(after.weight.n_in);
        let (first, others): (Vec<_>, Vec<_>) = rows.map(|row| row.split_at(n)).unzip();
        (first.concat(), others.concat())
    };
    let of_before = Linear {
        weight: Matrix {
            n_out: after.weight.n_out,
            n_in: n,
            values: of_before,
        },
        bias: after.bias.clone(),
    };
    let mut joined = of_before.after(before);
    let first = joined.weight.values.chunks_exact(before.weight.n_in);
    let others = others.chunks_exact(after.weight.n_in - n);
    joined.weight.values = first
        .zip(others)
        .flat_map(|(a, b)| [a, b].concat())
        .collect();
    joined.weight.n_in = before.weight.n_in + after.weight.n_in - n;
    joined
}

/// Return the configuration of a method whose networks are `width` wide.
fn config(
    options: &Options,
    resolution: [usize; 3],
    width: usize,
    [n_positions, n_directions]: [u32; 2],
) -> Result<Config, ImportError> {
    let mut config = Config::preset("kilonerf", &[])?;
    options.rays.configure(&mut config);
    config.scene.scale = Some(1.0 / f64::from(options.scene_scale));
    config.scene.offset = Some([0.5; 3]);
    config.scene.aabb_scale = Some(1);
    config.optimizer.learning_rate = 5e-4;
    // The model evaluates every sample in the cube.
    config.occupancy = None;
    config.distillation = None;
    let pass = &mut config.passes[0];
    pass.sampler = Sampler::Stratified {
        n_samples: options.rays.n_samples,
        jitter: true,
        min_transmittance: 0.0,
        bounded: true,
        spacing: Some(Spacing::Linear),
        last_interval: None,
    };
    let field = &mut pass.field;
    field.position_encoding = PositionEncoding::Frequency(FrequencyConfig {
        n_frequencies: n_positions,
        include_input: true,
        max_log2: None,
        scale: None,
        offset: None,
    });
    field.direction_encoding = DirectionEncoding::Frequency {
        n_frequencies: n_directions,
        include_input: true,
    };
    field.cells = Some(Cells {
        resolution: Some(resolution.map(size)),
        local: false,
        ..Cells::default()
    });
    field.density_network.n_neurons = size(width);
    field.density_network.n_hidden_layers = 1;
    field.n_density_outputs = size(width + 1);
    field.feature_activation = FeatureActivation::Relu;
    field.density_activation = DensityActivation::Relu;
    if let Some(color) = &mut field.color_network {
        color.n_neurons = size(width);
        color.n_hidden_layers = 1;
    }
    Ok(config)
}
