//! Saves checkpoints.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use safetensors::tensor::{Dtype, View};

use super::layout::{self};
use super::verify::has_non_finite;
use super::{CheckpointError, FORMAT, Info, N_PERSISTENT_WORDS};
use crate::dataset::OpenOptions;
use crate::field::Field;
use crate::files::replace_file;
use crate::gpu::{Buffer, Gpu, GpuError};
use crate::train::Trainer;

#[derive(Debug)]
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn read_all(gpu: &Gpu, buffer: &Buffer) -> Result<Vec<f32>, GpuError> {
    gpu.read(buffer, 0, usize::try_from(buffer.bytes() / 4).unwrap_or(0))
}

fn f32_tensor(name: String, shape: Vec<usize>, values: &[f32]) -> Tensor {
    Tensor {
        name,
        dtype: Dtype::F32,
        shape,
        bytes: bytemuck::cast_slice(values).to_vec(),
    }
}

fn u32_tensor(name: &str, shape: Vec<usize>, values: &[u32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::U32,
        shape,
        bytes: bytemuck::cast_slice(values).to_vec(),
    }
}

fn capture(gpu: &Gpu, trainer: &Trainer) -> Result<Vec<Tensor>, GpuError> {
    let fields: Vec<&Field> = trainer.fields().collect();
    let mut tensors = Vec::new();
    for &role in layout::roles(trainer.config()) {
        let slab = read_all(gpu, role.of_slab(trainer))?;
        for matrix in layout::matrices(&fields) {
            let name = format!("{}{}", role.prefix(), matrix.name);
            tensors.push(f32_tensor(name, matrix.shape(), &matrix.extract(&slab)));
        }
        for table in layout::tables(&fields) {
            let (offset, count) = table.range(role);
            let buffer = role.of_table(trainer, &table);
            let values = gpu.read::<f32>(buffer, offset * 4, count)?;
            let name = format!("{}{}", role.prefix(), table.name);
            tensors.push(f32_tensor(
                name,
                table.shape(),
                &table.extract(&values, role),
            ));
        }
    }
    // Between two tasks, all update counters are zero.
    let is_between_tasks = trainer.reptile.is_some();
    let counted = if is_between_tasks {
        Vec::new()
    } else {
        layout::tables(&fields)
    };
    for table in counted {
        let counters = gpu.read::<u32>(
            &trainer.sparse[table.pass].counters[table.chunk],
            u64::from(table.first_row) * 8,
            table.rows * 2,
        )?;
        tensors.push(u32_tensor(
            &format!("updates.{}", table.name),
            vec![table.rows, 2],
            &counters,
        ));
    }
    for map in layout::maps(&fields) {
        if let Some((group, cells)) = &trainer.cells[map.pass] {
            let cells = gpu.read::<u32>(cells, 0, map.len())?;
            if !is_between_tasks {
                let counters = gpu.read::<u32>(&group.counters, 0, map.networks * 2)?;
                let name = format!("updates.{}", map.name);
                tensors.push(u32_tensor(&name, vec![map.networks, 2], &counters));
            }
            tensors.push(u32_tensor(&map.name, map.shape, &cells));
        }
    }
    if let Some(grid) = &trainer.occupancy {
        let (n, side) = (grid.n_cells() as usize, grid.resolution as usize);
        let thickness = gpu.read::<f32>(&grid.thickness, 0, n)?;
        tensors.push(f32_tensor(
            "occupancy.thickness".into(),
            vec![grid.cascades as usize, side, side, side],
            &thickness,
        ));
        tensors.push(u32_tensor(
            "occupancy.bits",
            vec![n / 32],
            &gpu.read(&grid.bits, 0, n / 32)?,
        ));
        let state = gpu.read(&grid.counts.state, 0, N_PERSISTENT_WORDS)?;
        tensors.push(u32_tensor(
            "state.occupancy",
            vec![N_PERSISTENT_WORDS],
            &state,
        ));
    }
    let state = gpu.read(&trainer.counts().state, 0, N_PERSISTENT_WORDS)?;
    tensors.push(u32_tensor(
        "state.training",
        vec![N_PERSISTENT_WORDS],
        &state,
    ));
    for (index, sparse) in trainer.sparse.iter().enumerate() {
        let pass = layout::prefix(index, fields.len());
        let levels = fields[index].tables().levels().len().max(1);
        let scales = gpu.read::<f32>(&sparse.gradient_scales, 0, levels)?;
        let name = format!("state.{pass}gradient_scales");
        tensors.push(f32_tensor(name, vec![levels], &scales));
        let largest = gpu.read(&sparse.largest, 0, levels)?;
        let name = format!("state.{pass}largest");
        tensors.push(u32_tensor(&name, vec![levels], &largest));
    }
    Ok(tensors)
}

/// Initialise the averages of `trainer`'s parameters with the current values, if averages are stored separately.
pub(super) fn initialise_averages(gpu: &Gpu, trainer: &Trainer) {
    let mut stage = gpu.stage("averages");
    let dense = &trainer.dense;
    if trainer.config().inner_optimizer().ema_decay > 0.0 {
        stage.copy(&dense.weights.values, &dense.averages);
    }
    for sparse in &trainer.sparse {
        for (values, averages) in sparse.values.iter().zip(&sparse.averages) {
            stage.copy(values, averages);
        }
    }
    gpu.submit([&stage]);
}

/// Where a trainer's data come from, as saved in its checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct DataSource<'a> {
    /// Path of the dataset.
    pub dataset: &'a str,
    /// The options with which the dataset was opened.
    pub opening: OpenOptions,
    /// Indices of the training views; empty for all.
    pub train_views: &'a [usize],
    /// [`crate::dataset::Dataset::fingerprint`] of the dataset; may be empty.
    pub fingerprint: &'a str,
    /// [`Info::image_fingerprint`]; may be empty.
    pub image_fingerprint: &'a str,
    /// [`Info::held_out_fingerprint`]; may be empty.
    pub held_out_fingerprint: &'a str,
}

/// Save `trainer`, which must be paused between two steps. The checkpoint is written to a temporary file, synced, then renamed;
/// after an error, an existing file is unchanged.
pub fn save(
    path: &Path,
    gpu: &Gpu,
    trainer: &Trainer,
    source: &DataSource<'_>,
) -> Result<(), CheckpointError> {
    let tensors = capture(gpu, trainer)?;
    let broken = tensors
        .par_iter()
        .find_any(|t| t.dtype == Dtype::F32 && has_non_finite(&t.bytes));
    if let Some(tensor) = broken {
        return Err(CheckpointError::NonFinite {
            name: tensor.name.clone(),
        });
    }
    let info = Info {
        config: trainer.config().clone(),
        step: trainer.step(),
        train_seconds: trainer.seconds(),
        dataset: source.dataset.to_owned(),
        downscale: source.opening.downscale,
        apply_orientation: source.opening.apply_orientation,
        alpha_mask: source.opening.alpha_mask,
        train_views: source.train_views.to_vec(),
        fingerprint: source.fingerprint.to_owned(),
        image_fingerprint: source.image_fingerprint.to_owned(),
        held_out_fingerprint: source.held_out_fingerprint.to_owned(),
        device: gpu.name().to_owned(),
    };
    write(path, &tensors, &info)
}

/// Save parameters that another program trained; [`super::Checkpoint::restore`] can load them. The checkpoint is written to a
/// temporary file, synced, then renamed; after an error, an existing file is unchanged.
pub fn save_parameters(
    path: &Path,
    parameters: &[(String, Vec<usize>, Vec<f32>)],
    info: &Info,
) -> Result<(), CheckpointError> {
    let tensor = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
        f32_tensor(name.clone(), shape.clone(), values)
    };
    let tensors: Vec<Tensor> = parameters.iter().map(tensor).collect();
    write(path, &tensors, info)
}

fn write(path: &Path, tensors: &[Tensor], info: &Info) -> Result<(), CheckpointError> {
    let train_views: Vec<String> = info.train_views.iter().map(ToString::to_string).collect();
    let mut metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("config".to_owned(), info.config.to_toml()),
        ("step".to_owned(), info.step.to_string()),
        ("train_seconds".to_owned(), info.train_seconds.to_string()),
        ("dataset".to_owned(), info.dataset.clone()),
        ("downscale".to_owned(), info.downscale.to_string()),
        (
            "apply_orientation".to_owned(),
            info.apply_orientation.to_string(),
        ),
        ("alpha_mask".to_owned(), info.alpha_mask.to_string()),
        ("fingerprint".to_owned(), info.fingerprint.clone()),
        ("train_views".to_owned(), train_views.join(",")),
        ("device".to_owned(), info.device.clone()),
    ]);
    for (key, value) in [
        ("image_fingerprint", &info.image_fingerprint),
        ("held_out_fingerprint", &info.held_out_fingerprint),
    ] {
        if !value.is_empty() {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let bytes =
        safetensors::serialize(tensors.iter().map(|t| (t.name.as_str(), t)), Some(metadata))
            .map_err(|e| CheckpointError::Format {
                path: path.to_owned(),
                reason: e.to_string(),
            })?;
    replace_file(path, &bytes).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
}
