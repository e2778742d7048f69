//! Fields that other programs trained, as runs of kiln's own.
//!
//! A foreign checkpoint comes as safetensors under the names of its `state_dict`. Its layers are rewritten as those of a
//! method here, exactly: linear maps without an activation between them are multiplied out, columns are put in the order
//! that kiln joins inputs in.

pub mod kilonerf_seed;
pub mod learnit;
pub mod nerf_pytorch;
pub mod ngp_seed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors};

use crate::checkpoint::{CheckpointError, read_whole};
use crate::config::{Background, Config, ConfigError, Length, RayDirection};

/// What can go wrong with an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: {source}: give a safetensors file of the model's state_dict", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not safetensors, or cut short.
    #[error(
        "{path} is not a safetensors file, or is cut short ({reason}): convert the checkpoint with safetensors.torch.save_file, as kiln import --help shows",
        path = .path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// A tensor is missing, or not what the others say it should be.
    #[error("{path}: tensor `{name}` {reason}", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The tensors' names are those of no model that is known.
    #[error("{path}: {reason}", path = .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// The model's sizes, or the options, make no method.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What no weights say of the rays that a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RayOptions {
    /// Stratified samples per ray.
    pub n_samples: u32,
    /// Where a ray starts.
    pub near: f32,
    /// Where it ends.
    pub far: f32,
    /// What near and far measure.
    pub ray_direction: RayDirection,
    /// Where in a pixel its ray passes.
    pub pixel_center: f32,
    /// Background of training and evaluation.
    pub background: Background,
}

impl RayOptions {
    /// Those of Blender scenes, rays through whose pixels' corners have `n_samples` samples.
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

    /// Write them to `config`.
    fn configure(&self, config: &mut Config) {
        config.scene.length = Length::World;
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
    /// Rows.
    pub(crate) n_out: usize,
    /// Columns.
    pub(crate) n_in: usize,
    /// Row after row.
    pub(crate) values: Vec<f64>,
}

impl Matrix {
    fn row(&self, o: usize) -> &[f64] {
        &self.values[o * self.n_in..(o + 1) * self.n_in]
    }

    /// `self · other`.
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

    /// The last columns, from `at` on, before the others.
    fn rotate_columns(&mut self, at: usize) {
        let n_in = self.n_in;
        self.values
            .chunks_exact_mut(n_in)
            .for_each(|row| row.rotate_left(at));
    }
}

/// One affine map: `weight · x + bias`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Vec<f64>,
}

impl Linear {
    /// `self` after `before`, with nothing between them.
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

    /// The outputs of `self`, then those of `other`, of the same input.
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

/// The tensors of a foreign checkpoint.
#[derive(Debug)]
pub(crate) struct Tensors {
    path: PathBuf,
    all: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    /// Types of tensors that are not of 32-bit floats.
    other: BTreeMap<String, String>,
}

impl Tensors {
    /// Read `path`.
    ///
    /// # Errors
    /// [`ImportError`]
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
                // Step counters and the like are of no concern; a weight of another type is named once it is asked for.
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

    /// What comes before names that end with `leaf`, each once.
    fn prefixes(&self, leaf: &str) -> Vec<String> {
        let names = self.all.keys().chain(self.other.keys());
        let prefixes = names.filter_map(|name| name.strip_suffix(leaf));
        let whole = |prefix: &&str| prefix.is_empty() || prefix.ends_with('.');
        prefixes.filter(whole).map(str::to_owned).collect()
    }

    /// Shape and values of the tensor `name`, which are finite.
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

    /// The affine map `name.weight` and `name.bias`, of sizes that are checked where given.
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

/// Name, shape and values.
pub type Parameter = (String, Vec<usize>, Vec<f32>);

/// A method and its parameters, under the names of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The whole configuration.
    pub config: Config,
    /// Name, shape and values of every parameter.
    pub parameters: Vec<Parameter>,
}

/// `parameters`, which layers were multiplied for, if 32-bit floats hold them all.
fn finite(tensors: &Tensors, parameters: Vec<Parameter>) -> Result<Vec<Parameter>, ImportError> {
    let is_infinite = |p: &&Parameter| p.2.iter().any(|v| !v.is_finite());
    match parameters.iter().find(is_infinite) {
        None => Ok(parameters),
        Some((name, ..)) => Err(tensors.unknown(format!(
            "what becomes `{name}`, layers without a rectifier between them as one, is too large for 32-bit floats: its \
             weights have diverged"
        ))),
    }
}

/// Density and colour from one layer of outputs r, g, b, σ.
fn density_first(output: &Linear) -> Linear {
    let mut output = output.clone();
    output.weight.values.rotate_right(output.weight.n_in);
    output.bias.rotate_right(1);
    output
}

/// The layers of `network` (its name, with the pass's prefix) as parameters.
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
