//! Imports the network of learned initialisations (Tancik et al. 2021) from two implementations: a `Sequential` of linear
//! layers with `ReLU` between them, whose inputs are sines and cosines, and whose outputs are colour, then density.
//!
//! | | compact implementation | nerf-meta |
//! |---|---|---|
//! | first layer | `net.0` | `net.1`, after the frequencies `net.0.freqs` |
//! | inputs | sine and cosine of each frequency in turn | all sines, then all cosines |
//! | σ | `ReLU` | softplus |
//! | last interval | infinite | 1e-3, over white |

use std::path::Path;

use super::{
    ImportError, Imported, Linear, RayOptions, Tensors, density_first, finite, parameters,
    resolved, size,
};
use crate::config::{
    Background, Config, DensityActivation, PositionEncoding, RayDirection, Sampler,
};

/// Maximum number of layers.
const MAX_LAYERS: usize = 64;

/// Properties of a model that cannot be derived from its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Rays and their samples.
    pub rays: RayOptions,
    /// Base-2 logarithm of the highest frequency; by default the file's, else 8.
    pub max_log2: Option<f64>,
    /// Activation from raw density to σ; by default that of the implementation that the tensor names indicate.
    pub density_activation: Option<DensityActivation>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rays: RayOptions::of_blender(128, RayDirection::Unit),
            max_log2: None,
            density_activation: None,
        }
    }
}

/// The implementation that a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Compact,
    NerfMeta,
}

impl Layout {
    fn of(tensors: &Tensors) -> Option<Self> {
        if tensors.has("net.0.weight") {
            Some(Self::Compact)
        } else {
            (tensors.has("net.0.freqs") || tensors.has("net.1.weight")).then_some(Self::NerfMeta)
        }
    }

    /// Return the name of layer `l`. The indices also count the activations between layers, and the frequencies if present.
    fn layer(self, l: usize) -> String {
        format!("net.{}", 2 * l + usize::from(self == Self::NerfMeta))
    }

    /// Reorder the inputs of the first layer, a sine and a cosine of three coordinates for each of `n`
    /// frequencies, to kiln's order.
    fn reordered(self, first: &mut Linear, n: usize) {
        if self == Self::Compact {
            return;
        }
        for row in first.weight.values.chunks_exact_mut(6 * n) {
            let (sines, cosines) = row.split_at(3 * n);
            let pairs = sines.chunks_exact(3).zip(cosines.chunks_exact(3));
            let reordered: Vec<f64> = pairs.flat_map(|(s, c)| [s, c].concat()).collect();
            row.copy_from_slice(&reordered);
        }
    }

    fn density_activation(self) -> DensityActivation {
        match self {
            Self::Compact => DensityActivation::Relu,
            Self::NerfMeta => DensityActivation::Softplus,
        }
    }

    /// Return the length of the last sample's interval, if it is finite.
    fn last_interval(self, background: Background) -> Option<f32> {
        let over_white = background == Background::Fixed([1.0; 3]);
        (self == Self::NerfMeta && over_white).then_some(1e-3)
    }
}

/// Read the model in `path`. The error for a tensor that is missing or of another shape names it.
pub fn read(path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let tensors = Tensors::open(path)?;
    let layout = Layout::of(&tensors).ok_or_else(|| {
        tensors.unknown(
            "there is no tensor `net.0.weight` or `net.1.weight`: give the state_dict of a NerfModel, or of nerf-meta's \
             SimpleNeRF, saved as safetensors under its own names",
        )
    })?;
    let name = |l: usize| layout.layer(l);
    let n_layers = (0..MAX_LAYERS)
        .take_while(|&l| tensors.has(&format!("{}.weight", name(l))))
        .count();
    let mut layers: Vec<Linear> = Vec::new();
    // Open at least one layer, so that an error names it if it is missing.
    for l in 0..n_layers.max(1) {
        let n_in = layers.last().map(|before| before.weight.n_out);
        let n_out = if l + 1 == n_layers { Some(4) } else { None };
        layers.push(tensors.linear(&name(l), n_in, n_out)?);
    }
    let first = &layers[0];
    let (n_in, width) = (first.weight.n_in, first.weight.n_out);
    if n_layers < 2 || !n_in.is_multiple_of(6) || !(2..=20).contains(&(n_in / 6)) {
        let reason = format!("has {n_in} inputs, which fit no encoding of 2 to 20 frequencies");
        return Err(tensors.fault(&format!("{}.weight", name(0)), reason));
    }
    for (l, layer) in layers[..n_layers - 1].iter().enumerate() {
        if layer.weight.n_out != width {
            let reason = format!(
                "has {} outputs, but the first layer has {width}: all hidden layers must have the same width",
                layer.weight.n_out
            );
            return Err(tensors.fault(&format!("{}.weight", name(l)), reason));
        }
    }
    let n_frequencies = n_in / 6;
    let max_log2 = highest(&tensors, options.max_log2, n_frequencies)?;
    layout.reordered(&mut layers[0], n_frequencies);
    layers[n_layers - 1] = density_first(&layers[n_layers - 1]);
    let parameters = parameters("density_network", &layers);
    let sizes = [n_frequencies, width, n_layers - 1];
    let config = config(options, layout, max_log2, sizes)?;
    let config = resolved(path, config)?;
    let parameters = finite(&tensors, parameters)?;
    Ok(Imported { config, parameters })
}

/// Return the base-2 logarithm of the highest of `n` frequencies: the file's if it holds them, else `given`, else 8.
fn highest(tensors: &Tensors, given: Option<f64>, n: usize) -> Result<f64, ImportError> {
    const NAME: &str = "net.0.freqs";
    if !tensors.has(NAME) {
        return Ok(given.unwrap_or(8.0));
    }
    let (shape, values) = tensors.get(NAME)?;
    if shape != &[n] {
        let reason = format!("has shape {shape:?}, it should be [{n}]");
        return Err(tensors.fault(NAME, reason));
    }
    // The frequencies were rounded to 32 bits twice.
    let found = values[n - 1].log2();
    let rounded = (found * 1e4).round() / 1e4;
    let expected = |i: usize| (rounded * f64::from(size(i)) / f64::from(size(n - 1))).exp2();
    let agrees = |(i, v): (usize, &f64)| (v / expected(i) - 1.0).abs() < 1e-5;
    if !(rounded > 0.0 && rounded <= 20.0 && values.iter().enumerate().all(agrees)) {
        let reason = "holds frequencies that are not 1 to 2^b, evenly spaced in the exponent, for a b up to 20";
        return Err(tensors.fault(NAME, reason));
    }
    match given {
        Some(given) if (given - rounded).abs() > 1e-4 => {
            let reason = format!("ends with 2^{rounded}, not with 2^{given}: leave --max-log2 out");
            Err(tensors.fault(NAME, reason))
        }
        _ => Ok(rounded),
    }
}

fn config(
    options: &Options,
    layout: Layout,
    max_log2: f64,
    [n_frequencies, width, n_hidden_layers]: [usize; 3],
) -> Result<Config, ImportError> {
    let mut config = Config::preset("learnit", &[])?;
    options.rays.configure(&mut config);
    let pass = &mut config.passes[0];
    if let Sampler::Stratified {
        n_samples,
        last_interval,
        ..
    } = &mut pass.sampler
    {
        *n_samples = options.rays.n_samples;
        *last_interval = layout.last_interval(options.rays.background);
    }
    pass.field.density_activation = options
        .density_activation
        .unwrap_or(layout.density_activation());
    if let PositionEncoding::Frequency(frequency) = &mut pass.field.position_encoding {
        frequency.n_frequencies = size(n_frequencies);
        frequency.max_log2 = Some(max_log2);
    }
    pass.field.density_network.n_neurons = size(width);
    pass.field.density_network.n_hidden_layers = size(n_hidden_layers);
    Ok(config)
}
