//! The network of learned initialisations (Tancik et al. 2021) as the compact implementation has it: a `Sequential` of linear
//! layers with rectifiers between them, sines and cosines in, colour and then density out.

use std::path::Path;

use super::{
    ImportError, Imported, Linear, RayOptions, Tensors, density_first, finite, parameters, size,
};
use crate::config::{Config, PositionEncoding, RayDirection, Sampler, SceneHints};
use crate::gpu::AdapterClass;

/// Layers that are looked for.
const MOST_LAYERS: usize = 64;

/// What the weights do not say of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Rays, and the samples on them.
    pub rays: RayOptions,
    /// Logarithm of the highest frequency.
    pub max_log2: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rays: RayOptions::of_blender(128, RayDirection::Unit),
            max_log2: 8.0,
        }
    }
}

/// Read the model in `path`.
///
/// # Errors
/// [`ImportError`]; a tensor that is missing or of another shape is named.
pub fn read(path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let tensors = Tensors::open(path)?;
    if !tensors.has("net.0.weight") {
        return Err(tensors.unknown(
            "there is no tensor `net.0.weight`: give a NerfModel state_dict, saved as safetensors under its own names",
        ));
    }
    // Rectifiers, which have no weights, count too.
    let name = |l: usize| format!("net.{}", 2 * l);
    let n_layers = (0..MOST_LAYERS)
        .take_while(|&l| tensors.has(&format!("{}.weight", name(l))))
        .count();
    let mut layers: Vec<Linear> = Vec::new();
    for l in 0..n_layers {
        let n_in = layers.last().map(|before| before.weight.n_out);
        let n_out = if l + 1 == n_layers { Some(4) } else { None };
        layers.push(tensors.linear(&name(l), n_in, n_out)?);
    }
    let first = &layers[0];
    let (n_in, width) = (first.weight.n_in, first.weight.n_out);
    if n_layers < 2 || !n_in.is_multiple_of(6) || !(2..=20).contains(&(n_in / 6)) {
        let reason = format!("has {n_in} inputs, which no encoding of 2 to 20 frequencies makes");
        return Err(tensors.fault("net.0.weight", reason));
    }
    for (l, layer) in layers[..n_layers - 1].iter().enumerate() {
        if layer.weight.n_out != width {
            let reason = format!(
                "has {} outputs, the first layer {width}: hidden layers are alike",
                layer.weight.n_out
            );
            return Err(tensors.fault(&format!("{}.weight", name(l)), reason));
        }
    }
    layers[n_layers - 1] = density_first(&layers[n_layers - 1]);
    let parameters = parameters("density_network", &layers);
    let config = config(options, n_in / 6, width, n_layers - 1)?;
    // Refuses sizes that no kernel takes.
    let origin = format!("that {} makes", path.display());
    let config = Config::parse(&config.to_toml(), &origin, &[])?;
    let parameters = finite(&tensors, parameters)?;
    Ok(Imported { config, parameters })
}

fn config(
    options: &Options,
    n_frequencies: usize,
    width: usize,
    n_hidden_layers: usize,
) -> Result<Config, ImportError> {
    let mut config = Config::preset("learnit", &[])?;
    options.rays.configure(&mut config);
    let pass = &mut config.passes[0];
    if let Sampler::Stratified { n_samples, .. } = &mut pass.sampler {
        *n_samples = options.rays.n_samples;
    }
    if let PositionEncoding::Frequency(frequency) = &mut pass.field.position_encoding {
        frequency.n_frequencies = size(n_frequencies);
        frequency.max_log2 = Some(options.max_log2);
    }
    pass.field.density_network.n_neurons = size(width);
    pass.field.density_network.n_hidden_layers = size(n_hidden_layers);
    config.resolve(SceneHints::default(), AdapterClass::Software);
    Ok(config)
}
