//! Checkpoints: one safetensors file with every parameter in the layout of a `PyTorch` `state_dict`, the optimiser's state, the
//! occupancy grid and the counters, so that a resumed run equals an uninterrupted one.
//!
//! | tensor | shape |
//! |---|---|
//! | `position_encoding.level_{l}` | (rows, features) |
//! | `density_network.{l}.weight`, `color_network.{l}.weight` | (out, in) |
//! | `density_network.{l}.bias`, `color_network.{l}.bias` | (out), where the network has biases |
//! | `cells` | (z, y, x) u32: index of the network of each cell of a grid of networks, 4294967295 for a cell without one |
//! | `ema.NAME`, `first_moment.NAME`, `second_moment.NAME` | as NAME |
//! | `outer_first_moment.NAME`, `outer_second_moment.NAME` | as NAME; only of `kiln meta` with Adam as its outer optimiser |
//! | `updates.position_encoding.level_{l}` | (rows, 2) u32: number of updates, and step of the last one |
//! | `updates.cells` | (networks, 2) u32, likewise |
//! | `occupancy.thickness` | (cascades, z, y, x): optical thickness over the minimum step, a decaying maximum |
//! | `occupancy.bits` | u32, one bit per cell, lowest bit first |
//! | `state.training`, `state.occupancy`, `state.gradient_scales`, `state.largest` | counters |
//!
//! Tensors of a grid of networks have a leading dimension with one entry per network. If a method has several passes, the
//! names of a pass's parameters begin with `passes.{i}.`, as in `passes.0.density_network.0.weight`. Only methods with an
//! occupancy grid have `occupancy` tensors.
//!
//! `kiln meta` saves between two tasks, where the inner optimiser has no state: its files have no `ema`, `first_moment`,
//! `second_moment` and `updates`.
//!
//! The file's metadata hold `format`, `config` (TOML), `step`, `train_seconds`, `dataset`, `fingerprint` (of the dataset's
//! cameras), `image_fingerprint` (of the bytes of its training images), `held_out_fingerprint` (of the bytes of its held-out
//! images), `downscale`, `apply_orientation`, `alpha_mask`, `train_views` and
//! `device`. A file with only the parameters can be evaluated;
//! averages then default to the parameters.

#[cfg(feature = "viewer")]
mod crop;
mod info;
mod layout;
mod load;
mod save;
mod verify;

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::{Config, ResolvedConfig};
use crate::field::Field;
pub use info::{CheckpointError, Info};
pub(crate) use layout::prefix as pass_prefix;
pub use save::{DataSource, save, save_parameters};
pub use verify::Contents;
pub(crate) use verify::read_whole;
use verify::{has_non_finite, is_parameter};

/// Maximum step count.
const MAX_STEPS: f64 = 4e9;
const DAMAGED: &str = "holds NaN or infinite values, which are never saved: the file is damaged";
/// Number of leading u32 of a `StepState` that persist from one step to the next.
const N_PERSISTENT_WORDS: usize = 16;
/// Version of the tensor names and metadata.
pub const FORMAT: &str = "kiln-1";

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Metadata of its run.
    pub info: Info,
}

impl Checkpoint {
    /// Read a checkpoint file, or the checkpoint of a run directory.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let not_a_run = |reason| CheckpointError::NotARun {
            path: path.to_owned(),
            reason,
        };
        let path = match path.metadata() {
            Ok(data) if !data.is_dir() => path.to_owned(),
            Ok(_) if !path.join("checkpoint.safetensors").exists() => {
                return Err(not_a_run("no run here, there is no checkpoint.safetensors"));
            }
            Ok(_) => path.join("checkpoint.safetensors"),
            Err(_) => return Err(not_a_run("no such run")),
        };
        let bytes = read_whole(&path)?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| CheckpointError::Format {
                path: path.clone(),
                reason: e.to_string(),
            })?;
        let foreign = |reason: &str| CheckpointError::Foreign {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let metadata = header
            .metadata()
            .clone()
            .ok_or_else(|| foreign("it has no metadata"))?;
        let get = |key: &str| metadata.get(key).cloned();
        match get("format") {
            Some(format) if format == FORMAT => {}
            Some(format) => {
                return Err(foreign(&format!(
                    "its format is `{format}`, this version reads `{FORMAT}`"
                )));
            }
            None => return Err(foreign("its metadata name no format")),
        }
        let text = get("config").ok_or_else(|| foreign("its metadata hold no config"))?;
        let config = Config::parse(&text, "the checkpoint's metadata", &[]).map_err(|source| {
            CheckpointError::Config {
                path: path.clone(),
                source,
            }
        })?;
        let number = |key: &str, range: std::ops::RangeInclusive<f64>| {
            let text = get(key).unwrap_or_else(|| range.start().to_string());
            let value = text.parse::<f64>().ok().filter(|v| range.contains(v));
            value.ok_or_else(|| {
                let start: String = text.chars().take(40).collect();
                foreign(&format!("its `{key}` is {start:?}"))
            })
        };
        let info = Info {
            config: ResolvedConfig::from_run(config),
            step: number("step", 0.0..=MAX_STEPS)? as u32,
            train_seconds: number("train_seconds", 0.0..=1e12)?,
            dataset: get("dataset").unwrap_or_default(),
            downscale: number("downscale", 1.0..=64.0)? as u32,
            apply_orientation: get("apply_orientation").is_some_and(|text| text == "true"),
            alpha_mask: get("alpha_mask").is_some_and(|text| text == "true"),
            train_views: get("train_views")
                .unwrap_or_default()
                .split(',')
                .filter_map(|v| v.parse().ok())
                .collect(),
            fingerprint: get("fingerprint").unwrap_or_default(),
            image_fingerprint: get("image_fingerprint").unwrap_or_default(),
            held_out_fingerprint: get("held_out_fingerprint").unwrap_or_default(),
            device: get("device").unwrap_or_default(),
        };
        SafeTensors::deserialize(&bytes).map_err(|e| CheckpointError::Format {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        Ok(Self { path, bytes, info })
    }

    /// Return a hash of the whole file, to detect changes: FNV-1a over 64-bit words.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let step = |hash: u64, word: &[u8]| {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0100_0000_01b3)
        };
        self.bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn fault(&self, name: &str, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Tensor {
            path: self.path.clone(),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    fn values<T: bytemuck::Pod>(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<Vec<T>, CheckpointError> {
        let tensors =
            SafeTensors::deserialize(&self.bytes).map_err(|e| CheckpointError::Format {
                path: self.path.clone(),
                reason: e.to_string(),
            })?;
        let view = self.view(&tensors, name, dtype, shape)?;
        if dtype == Dtype::F32 && has_non_finite(view.data()) {
            return Err(self.fault(name, DAMAGED));
        }
        Ok(bytemuck::pod_collect_to_vec(view.data()))
    }

    fn view<'a>(
        &self,
        file: &SafeTensors<'a>,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<TensorView<'a>, CheckpointError> {
        let view = file
            .tensor(name)
            .map_err(|_| self.fault(name, "is missing"))?;
        if view.dtype() != dtype || view.shape() != shape {
            let found = format!(
                "is {:?} {:?}; the config asks for {dtype:?} {shape:?}",
                view.dtype(),
                view.shape()
            );
            return Err(self.fault(name, found));
        }
        Ok(view)
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).is_ok_and(|t| t.tensor(name).is_ok())
    }

    /// Check that the parameters have the shapes of `fields`, and that there are no others.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] names the first tensor that does not fit.
    pub fn check_shapes(&self, fields: &[&Field]) -> Result<(), CheckpointError> {
        let file = SafeTensors::deserialize(&self.bytes).map_err(|e| CheckpointError::Format {
            path: self.path.clone(),
            reason: e.to_string(),
        })?;
        let matrices = layout::matrices(fields);
        let matrices = matrices.into_iter().map(|m| (m.shape(), m.name));
        let tables = layout::tables(fields);
        let tables = tables.into_iter().map(|t| (t.shape(), t.name));
        let expected: Vec<(Vec<usize>, String)> = tables.chain(matrices).collect();
        for (shape, name) in &expected {
            self.view(&file, name, Dtype::F32, shape)?;
        }
        let is_extra =
            |name: &&str| is_parameter(name) && !expected.iter().any(|(_, known)| known == name);
        let mut names = file.names();
        names.sort_unstable();
        match names.into_iter().find(|name| is_extra(&&**name)) {
            Some(extra) => Err(self.fault(extra, "has no place in the method's networks")),
            None => Ok(()),
        }
    }
}
