//! Verifies checkpoints: the file's length against its header, and the tensors against the configuration.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use super::layout;
use super::{Checkpoint, CheckpointError};
use crate::config::ResolvedConfig;
use crate::field::Field;
use crate::files::{LFS_ADVICE, LFS_POINTER};
use crate::gpu::Gpu;

/// Maximum size of a header in bytes: enough for ten thousand tensors.
const MAX_HEADER: u64 = 1 << 20;

/// Read a safetensors file, after checking that its length agrees with its header.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let io = |source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    let format = |reason: String| CheckpointError::Format {
        path: path.to_owned(),
        reason,
    };
    let data = path.metadata().map_err(io)?;
    if !data.is_file() {
        return Err(format("it is not a regular file".to_owned()));
    }
    let mut file = File::open(path).map_err(io)?;
    let mut start = Vec::new();
    file.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
    if start == LFS_POINTER[..8] {
        return Err(format(LFS_ADVICE.to_owned()));
    }
    let length = <[u8; 8]>::try_from(start.as_slice()).map_or(0, u64::from_le_bytes);
    if length > MAX_HEADER || length + 8 > data.len() {
        return Err(format("its header is cut short".to_owned()));
    }
    file.by_ref()
        .take(length)
        .read_to_end(&mut start)
        .map_err(io)?;
    let header: Metadata =
        serde_json::from_slice(&start[8..]).map_err(|e| format(e.to_string()))?;
    let end = header
        .tensors()
        .values()
        .map(|t| t.data_offsets.1 as u64)
        .max();
    let expected = (8 + length).saturating_add(end.unwrap_or(0));
    if expected != data.len() {
        return Err(format(std::format!(
            "it has {} bytes, but its header says {expected}",
            data.len()
        )));
    }
    file.read_to_end(&mut start).map_err(io)?;
    Ok(start)
}

/// Whether any f32 in `bytes` is NaN or infinite.
pub(super) fn has_non_finite(bytes: &[u8]) -> bool {
    bytes
        .chunks_exact(4)
        .any(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) & 0x7f80_0000 == 0x7f80_0000)
}

/// Whether a tensor is a parameter of the field rather than training state.
pub(super) fn is_parameter(name: &str) -> bool {
    [
        "passes.",
        "position_encoding.",
        "density_network.",
        "color_network.",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// Return name, type and shape of every tensor of a resumable checkpoint of `fields`.
fn expected(fields: &[&Field], config: &ResolvedConfig) -> Vec<(String, Dtype, Vec<usize>)> {
    let (matrices, tables) = (layout::matrices(fields), layout::tables(fields));
    let mut all = Vec::new();
    for &role in layout::roles(config) {
        let named = |name: &str| format!("{}{name}", role.prefix());
        all.extend(
            matrices
                .iter()
                .map(|m| (named(&m.name), Dtype::F32, m.shape())),
        );
        all.extend(
            tables
                .iter()
                .map(|t| (named(&t.name), Dtype::F32, t.shape())),
        );
    }
    let counters = |t: &layout::Table| {
        let name = format!("updates.{}", t.name);
        (name, Dtype::U32, vec![t.rows, 2])
    };
    if config.meta.is_none() {
        all.extend(tables.iter().map(counters));
    }
    let mut state = |name: String, dtype, shape| all.push((name, dtype, shape));
    if let Some(occupancy) = &config.occupancy {
        let side = occupancy.resolution as usize;
        let cascades = config.aabb_scale().trailing_zeros() as usize + 1;
        let shape = vec![cascades, side, side, side];
        state("occupancy.thickness".to_owned(), Dtype::F32, shape);
        let words = cascades * side.pow(3) / 32;
        state("occupancy.bits".to_owned(), Dtype::U32, vec![words]);
        state("state.occupancy".to_owned(), Dtype::U32, vec![16]);
    }
    state("state.training".to_owned(), Dtype::U32, vec![16]);
    for (index, field) in fields.iter().enumerate() {
        let pass = layout::prefix(index, fields.len());
        let levels = field.tables().levels().len().max(1);
        state(
            format!("state.{pass}gradient_scales"),
            Dtype::F32,
            vec![levels],
        );
        state(format!("state.{pass}largest"), Dtype::U32, vec![levels]);
    }
    all
}

/// Contents of a valid checkpoint; see [`Checkpoint::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Name, type and shape of every tensor.
    pub tensor_names: Vec<String>,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Whether training can be resumed from it.
    pub resumable: bool,
}

impl Checkpoint {
    /// Check that every tensor that the configuration requires exists, has the right shape, and is finite.
    pub fn verify(&self, gpu: &Gpu) -> Result<Contents, CheckpointError> {
        let file = SafeTensors::deserialize(&self.bytes).map_err(|e| CheckpointError::Format {
            path: self.path.clone(),
            reason: e.to_string(),
        })?;
        let fields = Field::of_passes(gpu.profile(), &self.info.config)?;
        let fields: Vec<&Field> = fields.iter().collect();
        // A checkpoint holds only the parameters; or also averages, with the update counters that they need; or
        // the complete training state.
        let has = |prefix: &str| file.names().iter().any(|n| n.starts_with(prefix));
        let (resumable, averaged) = (has("state.training"), has("ema."));
        let expected = expected(&fields, &self.info.config);
        for (name, dtype, shape) in &expected {
            let is_average = name.starts_with("ema.") || name.starts_with("updates.");
            let is_needed = resumable || is_parameter(name) || (averaged && is_average);
            if !is_needed && file.tensor(name).is_err() {
                continue;
            }
            let view = self.view(&file, name, *dtype, shape)?;
            if *dtype == Dtype::F32 && has_non_finite(view.data()) {
                return Err(self.fault(name, super::DAMAGED));
            }
        }
        let parameters = expected
            .iter()
            .filter(|(name, ..)| is_parameter(name))
            .map(|(.., shape)| shape.iter().product::<usize>() as u64)
            .sum();
        Ok(Contents {
            bytes: self.bytes.len() as u64,
            tensors: file.len(),
            tensor_names: file
                .tensors()
                .iter()
                .map(|(name, view)| format!("{name} {:?} {:?}", view.dtype(), view.shape()))
                .collect(),
            parameters,
            resumable,
        })
    }
}
