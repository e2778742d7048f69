//! Converts fields trained by other programs to kiln runs.
//!
//! A foreign checkpoint is a safetensors file with the names of its `state_dict`. Its layers are converted to those of a kiln
//! method without approximation: linear maps without an activation between them are multiplied, and columns are reordered to
//! kiln's order of inputs.

pub mod kilonerf_seed;
pub mod learnit;
pub mod nerf_pytorch;
pub mod ngp_seed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors};

use crate::checkpoint::{CheckpointError, read_whole};
use crate::config::{
    Background, Budget, Config, ConfigError, LengthUnit, RayDirection, ResolvedConfig, SceneHints,
};

/// An error of an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: {source}: give a safetensors file of the model's state_dict", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not safetensors, or is truncated.
    #[error(
        "{path} is not a safetensors file, or is cut short ({reason}): convert the checkpoint with safetensors.torch.save_file, as kiln import --help shows",
        path = .path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// A tensor is missing, or is inconsistent with the others.
    #[error("{path}: tensor `{name}` {reason}", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The tensors do not belong to a supported model.
    #[error("{path}: {reason}", path = .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What is missing or unsupported.
        reason: String,
    },
    /// The model's sizes, or the options, give no valid configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Properties of the training rays, which cannot be derived from weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RayOptions {
    /// Stratified samples per ray.
    pub n_samples: u32,
    /// Near bound of a ray in world units.
    pub near: f32,
    /// Far bound of a ray in world units.
    pub far: f32,
    /// Whether near and far are depths along the viewing axis, or distances.
    pub ray_direction: RayDirection,
    /// Position of the ray within its pixel, along both axes.
    pub pixel_center: f32,
    /// Background of training and evaluation.
    pub background: Background,
}

impl RayOptions {
    /// Return the options for Blender scenes, with rays through the corners of pixels and `n_samples` samples per ray.
    fn of_blender(n_samples: u32, ray_direction: RayDirection) -> Self {
        Self {
            n_samples,
            near: 2.0,
            far: 6.0,
            ray_direction,
            pixel_center: 0.0,
            background: Background::Fixed([1.0; 3]),
        }
    }

    /// Set these options in `config`.
    fn configure(&self, config: &mut Config) {
        config.scene.length = LengthUnit::World;
        config.scene.near = Some(self.near);
        config.scene.far = Some(self.far);
        config.scene.ray_direction = self.ray_direction;
        config.scene.pixel_center = self.pixel_center;
        config.scene.background = self.background;
        config.scene.eval_background = self.background;
    }
}

/// A matrix or a vector of f64.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    /// Number of rows.
    pub(crate) n_out: usize,
    /// Number of columns.
    pub(crate) n_in: usize,
    /// Values in row-major order.
    pub(crate) values: Vec<f64>,
}

impl Matrix {
    fn row(&self, o: usize) -> &[f64] {
        &self.values[o * self.n_in..(o + 1) * self.n_in]
    }

    /// Return the product `self · other`.
    fn times(&self, other: &Self) -> Self {
        let mut values = vec![0.0; self.n_out * other.n_in];
        for (o, out) in values.chunks_exact_mut(other.n_in).enumerate() {
            for (k, weight) in self.row(o).iter().enumerate() {
                for (sum, v) in out.iter_mut().zip(other.row(k)) {
                    *sum += weight * v;
                }
            }
        }
        Self {
            n_out: self.n_out,
            n_in: other.n_in,
            values,
        }
    }

    /// Move the columns from `at` on before the others.
    fn rotate_columns(&mut self, at: usize) {
        let n_in = self.n_in;
        self.values
            .chunks_exact_mut(n_in)
            .for_each(|row| row.rotate_left(at));
    }
}

/// An affine map: `weight · x + bias`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Vec<f64>,
}

impl Linear {
    /// Return the composition `self ∘ before`.
    fn after(&self, before: &Self) -> Self {
        let column = Matrix {
            n_out: before.bias.len(),
            n_in: 1,
            values: before.bias.clone(),
        };
        let mut bias = self.weight.times(&column).values;
        bias.iter_mut().zip(&self.bias).for_each(|(b, v)| *b += v);
        Self {
            weight: self.weight.times(&before.weight),
            bias,
        }
    }

    /// Stack two maps of the same input: the outputs of `self`, then those of `other`.
    fn above(&self, other: &Self) -> Self {
        Self {
            weight: Matrix {
                n_out: self.weight.n_out + other.weight.n_out,
                n_in: self.weight.n_in,
                values: [self.weight.values.as_slice(), &other.weight.values].concat(),
            },
            bias: [self.bias.as_slice(), &other.bias].concat(),
        }
    }
}

/// Tensors of a foreign checkpoint.
#[derive(Debug)]
pub(crate) struct Tensors {
    path: PathBuf,
    all: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    /// Types of tensors that are not f32.
    other: BTreeMap<String, String>,
}

impl Tensors {
    /// Read the tensors in `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let format = |reason: String| ImportError::Format {
            path: path.to_owned(),
            reason,
        };
        let bytes = read_whole(path).map_err(|e| match e {
            CheckpointError::Io { path, source } => ImportError::Io { path, source },
            CheckpointError::Format { reason, .. } => format(reason),
            other => format(other.to_string()),
        })?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| format(e.to_string()))?;
        let mut tensors = Self {
            path: path.to_owned(),
            all: BTreeMap::new(),
            other: BTreeMap::new(),
        };
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                // Step counters and the like are irrelevant; `get` reports a weight of another type.
                let kind = format!("{:?}", view.dtype());
                tensors.other.insert(name.to_owned(), kind);
                continue;
            }
            let values = view.data().as_chunks::<4>().0.iter();
            let values: Vec<f64> = values.map(|b| f64::from(f32::from_le_bytes(*b))).collect();
            let entry = (view.shape().to_vec(), values);
            tensors.all.insert(name.to_owned(), entry);
        }
        Ok(tensors)
    }

    fn fault(&self, name: &str, reason: impl Into<String>) -> ImportError {
        ImportError::Tensor {
            path: self.path.clone(),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    fn unknown(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Unknown {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Return the distinct prefixes of names that end with `leaf`.
    fn prefixes(&self, leaf: &str) -> Vec<String> {
        let names = self.all.keys().chain(self.other.keys());
        let prefixes = names.filter_map(|name| name.strip_suffix(leaf));
        let whole = |prefix: &&str| prefix.is_empty() || prefix.ends_with('.');
        prefixes.filter(whole).map(str::to_owned).collect()
    }

    /// Return shape and values of the tensor `name`, or an error if values are not finite.
    fn get(&self, name: &str) -> Result<&(Vec<usize>, Vec<f64>), ImportError> {
        match self.all.get(name) {
            None => Err(match self.other.get(name) {
                Some(kind) => {
                    let reason =
                        format!("is of type {kind}: save it as 32-bit floats, with .float()");
                    self.fault(name, reason)
                }
                None => self.fault(name, "is missing"),
            }),
            Some((_, values)) if values.iter().any(|v| !v.is_finite()) => {
                Err(self.fault(name, "holds NaN or infinite values"))
            }
            Some(tensor) => Ok(tensor),
        }
    }

    /// Return the affine map with `name.weight` and `name.bias`; sizes are checked if given.
    fn linear(
        &self,
        name: &str,
        n_in: Option<usize>,
        n_out: Option<usize>,
    ) -> Result<Linear, ImportError> {
        let get = |part: &str| self.get(&format!("{name}.{part}"));
        let ((shape, values), (bias_shape, bias)) = (get("weight")?, get("bias")?);
        let any = |n: Option<usize>| n.map_or("any".to_owned(), |n| n.to_string());
        let fits = shape.len() == 2
            && n_out.is_none_or(|n| shape[0] == n)
            && n_in.is_none_or(|n| shape[1] == n)
            && shape[0] * shape[1] > 0;
        if !fits {
            let wanted = format!("[{}, {}]", any(n_out), any(n_in));
            let reason = format!("has shape {shape:?}, it should be {wanted}");
            return Err(self.fault(&format!("{name}.weight"), reason));
        }
        if bias_shape != &shape[..1] {
            let reason = format!("has shape {bias_shape:?}, it should be [{}]", shape[0]);
            return Err(self.fault(&format!("{name}.bias"), reason));
        }
        Ok(Linear {
            weight: Matrix {
                n_out: shape[0],
                n_in: shape[1],
                values: values.clone(),
            },
            bias: bias.clone(),
        })
    }
}

/// Name, shape and values of a parameter.
pub type Parameter = (String, Vec<usize>, Vec<f32>);

/// Resolve the configuration of the model in `path`, and check that kiln supports it.
fn resolved(path: &Path, config: Config) -> Result<ResolvedConfig, ImportError> {
    let config = config.resolve(SceneHints::default(), Budget::SOFTWARE);
    let origin = format!("that {} makes", path.display());
    Config::parse(&config.to_toml(), &origin, &[])?;
    Ok(config)
}

/// A method and its parameters, which have the names of a checkpoint's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The complete configuration.
    pub config: ResolvedConfig,
    /// Name, shape and values of every parameter.
    pub parameters: Vec<Parameter>,
}

/// Return `parameters` if all are finite; products of layers may overflow 32-bit floats.
fn finite(tensors: &Tensors, parameters: Vec<Parameter>) -> Result<Vec<Parameter>, ImportError> {
    let is_infinite = |p: &&Parameter| p.2.iter().any(|v| !v.is_finite());
    match parameters.iter().find(is_infinite) {
        None => Ok(parameters),
        Some((name, ..)) => Err(tensors.unknown(format!(
            "`{name}`, the product of layers without an activation between them, is too large for 32-bit floats: the model's \
             weights have diverged"
        ))),
    }
}

/// Reorder the outputs r, g, b, σ of a layer to σ, r, g, b.
fn density_first(output: &Linear) -> Linear {
    let mut output = output.clone();
    output.weight.values.rotate_right(output.weight.n_in);
    output.bias.rotate_right(1);
    output
}

/// Return the layers of `network` (its name, with the pass's prefix) as parameters.
fn parameters(network: &str, layers: &[Linear]) -> Vec<Parameter> {
    let mut all = Vec::new();
    for (l, layer) in layers.iter().enumerate() {
        let shape = vec![layer.weight.n_out, layer.weight.n_in];
        let name = format!("{network}.{l}");
        all.push((
            format!("{name}.weight"),
            shape,
            single(&layer.weight.values),
        ));
        let shape = vec![layer.bias.len()];
        all.push((format!("{name}.bias"), shape, single(&layer.bias)));
    }
    all
}

#[expect(clippy::cast_possible_truncation, reason = "f32 is what is stored")]
fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn size(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
