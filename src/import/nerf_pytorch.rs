//! Imports models of `PyTorch` implementations of `NeRF`: `FlexibleNeRFModel` and `PaperNeRFModel` of krrish94's nerf-pytorch,
//! and the `NeRF` class of yenchenlin's.
//!
//! The names of a `state_dict` may have any prefix. A prefix with the word `fine` marks the fine model; without a fine model,
//! the coarse model renders the image.

use std::path::Path;

use super::{
    ImportError, Imported, Linear, RayOptions, Tensors, density_first, finite, parameters,
    resolved, size,
};
use crate::config::{
    Config, DirectionEncoding, FeatureActivation, FieldConfig, ForwardFacing, FrequencyConfig, Ndc,
    NetworkConfig, PassConfig, PositionEncoding, RayDirection, Sampler, Spacing,
};

/// Properties of a model that cannot be derived from its weights. The defaults are nerf-pytorch's for Blender scenes.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Number of frequencies of positions; by default derived from the shapes of the weights.
    pub n_frequencies: Option<u32>,
    /// Number of frequencies of directions; by default derived from the shapes of the weights.
    pub n_direction_frequencies: Option<u32>,
    /// Rays, and samples of the coarse model.
    pub rays: RayOptions,
    /// Number of samples per ray that the fine model adds.
    pub n_fine_samples: u32,
    /// Quantity in which samples are evenly spaced.
    pub spacing: Spacing,
    /// For a model in normalised device coordinates: half the image's width and height in focal lengths.
    pub ndc: Option<[f32; 2]>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            n_frequencies: None,
            n_direction_frequencies: None,
            rays: RayOptions::of_blender(64, RayDirection::Plane),
            n_fine_samples: 64,
            spacing: Spacing::Linear,
            ndc: None,
        }
    }
}

/// One converted model.
#[derive(Debug)]
struct Model {
    density: Vec<Linear>,
    color: Vec<Linear>,
    skips: Vec<u32>,
    rectified_features: bool,
    n_position: usize,
    n_direction: usize,
}

impl Model {
    /// Add the heads: density and features from the `width` outputs of the last hidden layer, and a
    /// view branch on the features.
    fn with_heads(
        mut self,
        tensors: &Tensors,
        [alpha, features, branch, rgb]: [String; 4],
        width: usize,
    ) -> Result<Self, ImportError> {
        let alpha = tensors.linear(&alpha, Some(width), Some(1))?;
        let features = tensors.linear(&features, Some(width), None)?;
        let n_features = features.weight.n_out;
        self.n_direction = directions(tensors, &format!("{branch}.0"), n_features)?;
        let n_in = n_features + self.n_direction;
        self.color = view_branch(tensors, &branch, n_in, usize::MAX, &rgb)?;
        self.density.push(alpha.above(&features));
        Ok(self)
    }
}

/// Names of layers that identify the classes.
const MARKS: [(&str, Class); 3] = [
    ("layer1.weight", Class::Flexible),
    ("pts_linears.0.weight", Class::Yenchenlin),
    ("layers_xyz.0.weight", Class::Paper),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Flexible,
    Paper,
    Yenchenlin,
}

/// Read the model in `path`. The error for a tensor that is missing or of another shape names it.
pub fn read(path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let tensors = Tensors::open(path)?;
    // A prefix belongs to the first class whose mark it has, since FlexibleNeRFModel shares layer names with PaperNeRFModel.
    let mut found: Vec<(String, Class)> = Vec::new();
    for (mark, class) in MARKS {
        for prefix in tensors.prefixes(mark) {
            if !found.iter().any(|(p, _)| *p == prefix) {
                found.push((prefix, class));
            }
        }
    }
    if found.is_empty() {
        let names: Vec<String> = MARKS.iter().map(|(m, _)| format!("`{m}`")).collect();
        return Err(tensors.unknown(format!(
            "no tensor's name ends with {}: give a nerf-pytorch state_dict, saved as safetensors under its own names",
            names.join(", ")
        )));
    }
    let is_fine = |prefix: &str| prefix.split(['.', '_']).any(|word| word == "fine");
    let (fine, coarse): (Vec<_>, Vec<_>) = found.into_iter().partition(|(p, _)| is_fine(p));
    let one = |mut which: Vec<(String, Class)>, what: &str| match which.len() {
        0 | 1 => Ok(which.pop()),
        _ => Err(tensors.unknown(format!("it holds more than one {what} model"))),
    };
    let (coarse, fine) = (one(coarse, "coarse")?, one(fine, "fine")?);
    let Some(coarse) = coarse else {
        return Err(tensors.unknown("it holds a fine model, but no coarse one"));
    };
    let mut config = Config::preset("nerf", &[])?;
    options.rays.configure(&mut config);
    if options.ndc.is_some() {
        config.scene.near = None;
        config.scene.far = None;
    } else {
        config.scene.forward_facing = ForwardFacing::World;
    }
    config.training.crop_steps = 0;
    config.scene.ndc = options.ndc.map(|half| Ndc { near: 1.0, half });
    let preset = config.passes[0].clone();
    config.passes.clear();
    let mut all = Vec::new();
    let models: Vec<(String, Class)> = [Some(coarse), fine].into_iter().flatten().collect();
    for (index, (prefix, class)) in models.iter().enumerate() {
        let model = match class {
            Class::Flexible => flexible(&tensors, prefix),
            Class::Paper => paper(&tensors, prefix),
            Class::Yenchenlin => yenchenlin(&tensors, prefix),
        }?;
        let sampler = if index == 0 {
            Sampler::Stratified {
                n_samples: options.rays.n_samples,
                jitter: true,
                min_transmittance: 0.0,
                bounded: false,
                spacing: Some(options.spacing),
                last_interval: None,
            }
        } else {
            Sampler::Importance {
                n_samples: options.n_fine_samples,
                jitter: true,
                merge: true,
            }
        };
        let name = |network: &str| {
            let pass = crate::checkpoint::pass_prefix(index, models.len());
            format!("{pass}{network}")
        };
        all.extend(parameters(&name("density_network"), &model.density));
        all.extend(parameters(&name("color_network"), &model.color));
        config.passes.push(PassConfig {
            loss_weight: 1.0,
            sampler,
            field: field(&tensors, prefix, &model, &preset.field, options)?,
        });
    }
    let config = resolved(path, config)?;
    Ok(Imported {
        config,
        parameters: finite(&tensors, all)?,
    })
}

/// Return the configuration of `model`.
fn field(
    tensors: &Tensors,
    prefix: &str,
    model: &Model,
    preset: &FieldConfig,
    options: &Options,
) -> Result<FieldConfig, ImportError> {
    let (position, include_position) = frequencies(model.n_position);
    let (direction, include_direction) = frequencies(model.n_direction);
    let agrees = |asked: Option<u32>, found: u32, what: &str| match asked {
        Some(n) if n != found => Err(tensors.unknown(format!(
            "the weights of `{prefix}` have {found} frequencies of {what}, not {n}"
        ))),
        _ => Ok(()),
    };
    agrees(options.n_frequencies, position, "positions")?;
    agrees(options.n_direction_frequencies, direction, "directions")?;
    let network = |layers: &[Linear], of: &NetworkConfig| NetworkConfig {
        n_neurons: size(layers[0].weight.n_out),
        n_hidden_layers: size(layers.len() - 1),
        ..of.clone()
    };
    let last = &model.density[model.density.len() - 1];
    let color = preset.color_network.as_ref();
    Ok(FieldConfig {
        position_encoding: PositionEncoding::Frequency(FrequencyConfig {
            n_frequencies: position,
            include_input: include_position,
            max_log2: None,
            scale: None,
            offset: None,
        }),
        direction_encoding: if model.n_direction == 0 {
            DirectionEncoding::None
        } else {
            DirectionEncoding::Frequency {
                n_frequencies: direction,
                include_input: include_direction,
            }
        },
        density_network: NetworkConfig {
            skips: model.skips.clone(),
            ..network(&model.density, &preset.density_network)
        },
        n_density_outputs: size(last.weight.n_out),
        feature_activation: if model.rectified_features {
            FeatureActivation::Relu
        } else {
            FeatureActivation::None
        },
        color_network: color
            .filter(|_| !model.color.is_empty())
            .map(|of| network(&model.color, of)),
        ..preset.clone()
    })
}

/// Return the number of frequencies of an encoding of `n` values, and whether it includes the input.
fn frequencies(n: usize) -> (u32, bool) {
    (size(n / 6), n % 6 == 3)
}

/// Open the first layer, whose inputs must be a frequency encoding.
fn first_layer(tensors: &Tensors, name: &str) -> Result<Linear, ImportError> {
    let first = tensors.linear(name, None, None)?;
    let (n, width) = (first.weight.n_in, first.weight.n_out);
    // Above 16 frequencies, the encoding resolves only rounding errors of the position.
    if !(6..=3 + 6 * 16).contains(&n) || n % 3 != 0 {
        let reason = format!("has {n} inputs, which fit no encoding of 1 to 16 frequencies");
        return Err(tensors.fault(&format!("{name}.weight"), reason));
    }
    if width % 4 != 0 || width > 512 {
        let reason = format!("has {width} outputs; only a multiple of 4 up to 512 can be imported");
        return Err(tensors.fault(&format!("{name}.weight"), reason));
    }
    Ok(first)
}

/// Return the number of values of the encoded direction, which follow `width` features in the input of layer `name`.
fn directions(tensors: &Tensors, name: &str, width: usize) -> Result<usize, ImportError> {
    let layer = tensors.linear(name, None, None)?;
    let n = layer.weight.n_in.checked_sub(width);
    let makes = |n: &usize| *n == 0 || (n.is_multiple_of(3) && (6..=3 + 6 * 12).contains(n));
    n.filter(makes).ok_or_else(|| {
        let reason = format!(
            "has {} inputs, it should be {width} features and an encoded direction",
            layer.weight.n_in
        );
        tensors.fault(&format!("{name}.weight"), reason)
    })
}

/// Open the layers `name.0`, `name.1`… with `width` or `width + n_skip` inputs each; also return the indices of the latter.
fn trunk(
    tensors: &Tensors,
    name: &str,
    from: usize,
    width: usize,
    n_skip: usize,
) -> Result<(Vec<Linear>, Vec<u32>), ImportError> {
    let (mut layers, mut skips) = (Vec::new(), Vec::new());
    for l in from.. {
        let layer = format!("{name}.{l}");
        if !tensors.has(&format!("{layer}.weight")) {
            break;
        }
        let any = tensors.linear(&layer, None, Some(width))?;
        let has_skip = any.weight.n_in == width + n_skip;
        if has_skip {
            skips.push(size(l));
        }
        let n_in = if has_skip { width + n_skip } else { width };
        layers.push(tensors.linear(&layer, Some(n_in), Some(width))?);
    }
    Ok((layers, skips))
}

/// Open the hidden layers `name.0`, `name.1`… of a view branch, at most `limit`, then `last`.
fn view_branch(
    tensors: &Tensors,
    name: &str,
    n_in: usize,
    limit: usize,
    last: &str,
) -> Result<Vec<Linear>, ImportError> {
    let first = tensors.linear(&format!("{name}.0"), Some(n_in), None)?;
    let width = first.weight.n_out;
    let mut layers = vec![first];
    while layers.len() < limit && tensors.has(&format!("{name}.{}.weight", layers.len())) {
        let layer = format!("{name}.{}", layers.len());
        layers.push(tensors.linear(&layer, Some(width), Some(width))?);
    }
    layers.push(tensors.linear(last, Some(width), Some(3))?);
    Ok(layers)
}

/// Convert a `FlexibleNeRFModel`: the first layer has no activation, and the features have a `ReLU`. In skip connections,
/// hidden values come before the encoded position.
fn flexible(tensors: &Tensors, prefix: &str) -> Result<Model, ImportError> {
    let name = |leaf: &str| format!("{prefix}{leaf}");
    let first = first_layer(tensors, &name("layer1"))?;
    let (width, n_position) = (first.weight.n_out, first.weight.n_in);
    let (mut density, skips) = trunk(tensors, &name("layers_xyz"), 0, width, n_position)?;
    if density.is_empty() {
        return Err(tensors.fault(&name("layers_xyz.0.weight"), "is missing"));
    }
    if skips.first() == Some(&0) {
        let reason =
            "has a skip connection directly after the first layer, which kiln does not support";
        return Err(tensors.fault(&name("layers_xyz.0.weight"), reason));
    }
    density[0] = density[0].after(&first);
    let mut model = Model {
        density,
        color: Vec::new(),
        skips,
        rectified_features: false,
        n_position,
        n_direction: 0,
    };
    if tensors.has(&name("fc_out.weight")) {
        let output = tensors.linear(&name("fc_out"), Some(width), Some(4))?;
        model.density.push(density_first(&output));
        return Ok(model);
    }
    model.rectified_features = true;
    let leaves = ["fc_alpha", "fc_feat", "layers_dir", "fc_rgb"];
    model.with_heads(tensors, leaves.map(name), width)
}

/// Convert a `PaperNeRFModel`: the density is computed from the features, and the last layer of the view branch is unused.
fn paper(tensors: &Tensors, prefix: &str) -> Result<Model, ImportError> {
    let name = |leaf: &str| format!("{prefix}{leaf}");
    let (mut density, skips) = position_first_trunk(tensors, &name("layers_xyz"))?;
    let (width, n_position) = (density[0].weight.n_out, density[0].weight.n_in);
    let features = tensors.linear(&name("fc_feat"), Some(width), None)?;
    let n_features = features.weight.n_out;
    let alpha = tensors.linear(&name("fc_alpha"), Some(n_features), Some(1))?;
    let n_direction = directions(tensors, &name("layers_dir.0"), n_features)?;
    let n_in = n_features + n_direction;
    let (branch, rgb) = (name("layers_dir"), name("fc_rgb"));
    density.push(alpha.after(&features).above(&features));
    Ok(Model {
        density,
        color: view_branch(tensors, &branch, n_in, 3, &rgb)?,
        skips,
        rectified_features: false,
        n_position,
        n_direction,
    })
}

/// Convert a model of the `NeRF` class of yenchenlin's nerf-pytorch.
fn yenchenlin(tensors: &Tensors, prefix: &str) -> Result<Model, ImportError> {
    let name = |leaf: &str| format!("{prefix}{leaf}");
    let (density, skips) = position_first_trunk(tensors, &name("pts_linears"))?;
    let (width, n_position) = (density[0].weight.n_out, density[0].weight.n_in);
    let mut model = Model {
        density,
        color: Vec::new(),
        skips,
        rectified_features: false,
        n_position,
        n_direction: 0,
    };
    if tensors.has(&name("output_linear.weight")) {
        let output = tensors.linear(&name("output_linear"), Some(width), None)?;
        if output.weight.n_out < 4 {
            let reason = format!(
                "has {} outputs, it should be 4 at least",
                output.weight.n_out
            );
            return Err(tensors.fault(&name("output_linear.weight"), reason));
        }
        // With a fine model there is a fifth output, which is unused.
        let mut four = output.clone();
        four.weight.n_out = 4;
        four.weight.values.truncate(4 * width);
        four.bias.truncate(4);
        model.density.push(density_first(&four));
        return Ok(model);
    }
    let leaves = [
        "alpha_linear",
        "feature_linear",
        "views_linears",
        "rgb_linear",
    ];
    model.with_heads(tensors, leaves.map(name), width)
}

/// Open all layers `name.0`, `name.1`… of a trunk whose skip connections have the encoded position before the hidden values,
/// and move the columns of the position behind those of the hidden values; also return the indices of those layers.
fn position_first_trunk(
    tensors: &Tensors,
    name: &str,
) -> Result<(Vec<Linear>, Vec<u32>), ImportError> {
    let first = first_layer(tensors, &format!("{name}.0"))?;
    let (width, n_position) = (first.weight.n_out, first.weight.n_in);
    let (mut layers, skips) = trunk(tensors, name, 1, width, n_position)?;
    layers.insert(0, first);
    for &skip in &skips {
        layers[skip as usize].weight.rotate_columns(n_position);
    }
    Ok((layers, skips))
}
