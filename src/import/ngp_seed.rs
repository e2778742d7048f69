//! Imports `NGP`, the compact implementation of Instant-NGP (Müller et al. 2022): hash tables with two features per row,
//! density and colour networks with biases, and directions as sines and cosines.
//!
//! Every level is hashed, its vertices lie at integer cell coordinates, and σ is the exponential of the first output.

use std::path::Path;

use super::{
    ImportError, Imported, Linear, RayOptions, Tensors, finite, parameters, resolved, size,
};
use crate::config::{
    ColorActivation, Config, DensityActivation, DirectionEncoding, HashGridConfig, Loss,
    NetworkConfig, PositionEncoding, RayDirection, Sampler, Spacing,
};
use crate::encoding::hash_grid::levels;

/// Maximum number of levels and layers.
const MAX_LEVELS: usize = 32;
/// Number of features per row.
const N_FEATURES: usize = 2;

/// Properties of a model that cannot be derived from its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Rays and their samples.
    pub rays: RayOptions,
    /// Side of the box, in world units.
    pub scene_scale: f32,
    /// Number of cells per axis of the coarsest level.
    pub base_resolution: u32,
    /// Number of cells per axis of the finest level before rounding, from which the growth factor is computed.
    pub finest_resolution: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rays: RayOptions::of_blender(192, RayDirection::Unit),
            scene_scale: 3.0,
            base_resolution: 16,
            finest_resolution: 2048,
        }
    }
}

/// Read the model in `path`. The error for a tensor that is missing or of another shape names it.
pub fn read(path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let tensors = Tensors::open(path)?;
    if !tensors.has("lookup_tables.0") {
        return Err(tensors.unknown(
            "there is no tensor `lookup_tables.0`: give an NGP state_dict, saved as safetensors under its own names",
        ));
    }
    let table_name = |l: usize| format!("lookup_tables.{l}");
    let n_levels = (0..MAX_LEVELS)
        .take_while(|&l| tensors.has(&table_name(l)))
        .count();
    let mut tables = Vec::new();
    let mut n_rows = None;
    for l in 0..n_levels {
        let (shape, values) = tensors.get(&table_name(l))?;
        let rows = n_rows.unwrap_or(shape.first().copied().unwrap_or(0));
        if shape != &[rows, N_FEATURES] || rows == 0 {
            let rows = n_rows.map_or("rows".to_owned(), |n: usize| n.to_string());
            let reason = format!("has shape {shape:?}, it should be [{rows}, {N_FEATURES}]");
            return Err(tensors.fault(&table_name(l), reason));
        }
        n_rows = Some(rows);
        let name = format!("position_encoding.level_{l}");
        tables.push((name, shape.clone(), super::single(values)));
    }
    let n_rows = n_rows.unwrap_or_default();
    if !n_rows.is_power_of_two() {
        let reason = format!("has {n_rows} rows; only a power of two can be imported");
        return Err(tensors.fault(&table_name(0), reason));
    }

    let density = mlp(&tensors, "density_MLP", N_FEATURES * n_levels, None)?;
    let n_density_outputs = density[density.len() - 1].weight.n_out;
    let (weight, ..) = tensors.get("color_MLP.0.weight")?;
    let n_in = weight.get(1).copied().unwrap_or_default();
    let n_encoded = n_in.saturating_sub(n_density_outputs + 3);
    let n_directions = n_encoded / 6;
    if !n_encoded.is_multiple_of(6) || !(1..=12).contains(&n_directions) {
        let reason = format!(
            "has {n_in} inputs, which do not fit the {n_density_outputs} outputs of the density network and an encoding of \
             1 to 12 frequencies"
        );
        return Err(tensors.fault("color_MLP.0.weight", reason));
    }
    let color = mlp(&tensors, "color_MLP", n_in, Some(3))?;

    let grid = grid(&tensors, options, n_levels, n_rows.ilog2())?;
    let networks = [network(&density), network(&color)];
    let config = config(
        options,
        grid,
        size(n_directions),
        size(n_density_outputs),
        networks,
    )?;
    let config = resolved(path, config)?;
    let mut all = tables;
    all.extend(parameters("density_network", &density));
    all.extend(parameters("color_network", &color));
    let parameters = finite(&tensors, all)?;
    Ok(Imported { config, parameters })
}

/// Open the layers `name.0`, `name.2`… of a `Sequential` with activations between them; all hidden layers have the same width.
fn mlp(
    tensors: &Tensors,
    name: &str,
    n_in: usize,
    n_out: Option<usize>,
) -> Result<Vec<Linear>, ImportError> {
    let layer = |l: usize| format!("{name}.{}", 2 * l);
    let n_layers = (0..MAX_LEVELS)
        .take_while(|&l| tensors.has(&format!("{}.weight", layer(l))))
        .count();
    if n_layers < 2 {
        // A network has at least two layers; name the first one that is missing.
        return Err(tensors.fault(&format!("{}.weight", layer(n_layers)), "is missing"));
    }
    let mut layers = vec![tensors.linear(&layer(0), Some(n_in), None)?];
    let width = layers[0].weight.n_out;
    for l in 1..n_layers {
        let n_out = if l + 1 == n_layers {
            n_out
        } else {
            Some(width)
        };
        layers.push(tensors.linear(&layer(l), Some(width), n_out)?);
    }
    Ok(layers)
}

/// Return the configuration of the network with these `layers`.
fn network(layers: &[Linear]) -> NetworkConfig {
    NetworkConfig {
        n_neurons: size(layers[0].weight.n_out),
        n_hidden_layers: size(layers.len() - 1),
        biases: true,
        skips: Vec::new(),
        initialization: crate::config::Initialization::TorchLinear,
    }
}

/// Return the configuration of a hash grid whose levels have as many cells as the model's.
fn grid(
    tensors: &Tensors,
    options: &Options,
    n_levels: usize,
    log2_hashmap_size: u32,
) -> Result<HashGridConfig, ImportError> {
    let (coarsest, finest) = (options.base_resolution, options.finest_resolution);
    let wanted = cells(n_levels, coarsest, finest);
    let exact = (f64::from(finest) / f64::from(coarsest)).powf(1.0 / steps(n_levels));
    let of_growth = |growth: f64| HashGridConfig {
        n_levels: size(n_levels),
        n_features_per_level: size(N_FEATURES),
        log2_hashmap_size,
        base_resolution: coarsest,
        per_level_scale: Some(growth),
        finest_resolution: finest,
        dense_levels: false,
        grid_offset: 0.0,
    };
    // Where a level should have a whole number of cells, rounding in the model may give one cell less. The rounding error grows
    // from level to level, so a sufficiently small change of the growth factor separates such levels from the exact ones.
    let changes = (16..=29)
        .rev()
        .map(|half_decades| 10_f64.powf(-0.5 * f64::from(half_decades)));
    let candidates = std::iter::once(0.0)
        .chain(changes.flat_map(|change| [-change, change]))
        .map(|change| exact * (1.0 + change));
    let agrees = |grid: &HashGridConfig| levels(grid).iter().map(|l| l.scale).eq(wanted.clone());
    let found = candidates.map(of_growth).find(agrees);
    found.ok_or_else(|| {
        tensors.unknown(format!(
            "no growth factor reproduces the {n_levels} levels from {coarsest} to {finest} cells: give other values of \
             --base-resolution and --finest-resolution"
        ))
    })
}

/// Return the number of levels after the coarsest one.
fn steps(n_levels: usize) -> f64 {
    f64::from(size(n_levels.max(2) - 1))
}

/// Return the number of cells per axis of each level, rounded as in the model's program.
fn cells(n_levels: usize, coarsest: u32, finest: u32) -> Vec<f32> {
    let (coarsest, finest) = (f64::from(coarsest), f64::from(finest));
    let growth = ((finest.ln() - coarsest.ln()) / steps(n_levels)).exp();
    (0..n_levels)
        .map(|l| (coarsest * growth.powf(f64::from(size(l)))).floor() as f32)
        .collect()
}

/// Return the configuration of a method with this grid and these density and colour networks.
fn config(
    options: &Options,
    grid: HashGridConfig,
    n_directions: u32,
    n_density_outputs: u32,
    [density, color]: [NetworkConfig; 2],
) -> Result<Config, ImportError> {
    let mut config = Config::preset("ngp", &[])?;
    "ngp-seed".clone_into(&mut config.method);
    options.rays.configure(&mut config);
    config.scene.scale = Some(1.0 / f64::from(options.scene_scale));
    config.scene.offset = Some([0.5; 3]);
    config.scene.aabb_scale = Some(1);
    // As in the training of the model: a constant learning rate and no moving average.
    config.optimizer.ema_decay = 0.0;
    config.optimizer.decay_base = 1.0;
    config.optimizer.decay_start = 0;
    config.optimizer.decay_interval = 0;
    config.loss = Loss::L2 {};
    // The model evaluates every sample in the box.
    config.occupancy = None;
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
    field.position_encoding = PositionEncoding::HashGrid(grid);
    field.direction_encoding = DirectionEncoding::Frequency {
        n_frequencies: n_directions,
        include_input: true,
    };
    field.n_density_outputs = n_density_outputs;
    field.density_network = density;
    field.color_network = Some(color);
    field.density_activation = DensityActivation::Exp;
    field.color_activation = ColorActivation::Sigmoid;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_as_many_cells_as_the_program_computes() {
        // Results of NumPy, where a whole number of cells came out just below the integer.
        for (n_levels, finest, last) in [
            (2, 128, 127.0),
            (16, 2048, 2048.0),
            (16, 1024, 1023.0),
            (16, 4096, 4095.0),
        ] {
            let wanted = cells(n_levels, 16, finest);
            // C libraries may differ by one unit in the last place.
            assert!(
                (wanted[n_levels - 1] - last).abs() <= 1.0,
                "{finest}: {wanted:?}"
            );
        }
        let tensors = Tensors {
            path: "model".into(),
            all: std::collections::BTreeMap::new(),
            other: std::collections::BTreeMap::new(),
        };
        let finest = [100, 128, 256, 512, 1000, 1024, 2048, 4096, 8192, 65_536];
        for (coarsest, finest) in [4, 8, 12, 16, 32]
            .into_iter()
            .flat_map(|coarsest| finest.map(|finest| (coarsest, finest)))
        {
            for n_levels in 1..=MAX_LEVELS {
                let options = Options {
                    base_resolution: coarsest,
                    finest_resolution: finest,
                    ..Options::default()
                };
                let grid = grid(&tensors, &options, n_levels, 12).unwrap();
                let found: Vec<f32> = levels(&grid).iter().map(|l| l.scale).collect();
                let wanted = cells(n_levels, coarsest, finest);
                assert_eq!(found, wanted, "{n_levels}, {coarsest} to {finest}");
            }
        }
    }
}
