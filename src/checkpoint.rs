//! Checkpoints: one safetensors file with every parameter laid out as a `PyTorch` `state_dict` has it, the optimiser's
//! state, the occupancy grid and the counters, so that a resumed run goes on as if it had never stopped.
//!
//! | tensor | shape |
//! |---|---|
//! | `position_encoding.level_{l}` | (rows, features) |
//! | `density_network.{l}.weight`, `color_network.{l}.weight` | (out, in) |
//! | `density_network.{l}.bias`, `color_network.{l}.bias` | (out), where the network has biases |
//! | `cells` | (z, y, x) u32: which of a grid's networks each cell has, 4294967295 where it has none |
//! | `ema.NAME`, `first_moment.NAME`, `second_moment.NAME` | as NAME |
//! | `outer_first_moment.NAME`, `outer_second_moment.NAME` | as NAME; of `kiln meta` with Adam as its outer optimiser |
//! | `updates.position_encoding.level_{l}` | (rows, 2) u32: updates, and the step of the last one |
//! | `updates.cells` | (networks, 2) u32, likewise |
//! | `occupancy.thickness` | (cascades, z, y, x) |
//! | `occupancy.bits` | u32, a bit a cell |
//! | `state.training`, `state.occupancy`, `state.gradient_scales`, `state.largest` | counters |
//!
//! Tensors of a grid's networks have a first dimension more: a network each. Where a method has more than one pass, the names of a pass's parameters begin with `passes.{i}.`: NAME is then, say,
//! `passes.0.density_network.0.weight`. `occupancy` tensors are those of methods with an occupancy grid.
//!
//! What `kiln meta` learned is saved between two tasks, when there is nothing to know of the inner steps: such a file has no
//! `ema`, `first_moment`, `second_moment` and `updates`.
//!
//! The file's metadata hold `format`, `config` (TOML), `step`, `train_seconds`, `dataset`, `fingerprint` (of the dataset's
//! cameras), `image_fingerprint` (of its images' bytes), `held_out_fingerprint` (of those of images held out), `downscale`,
//! `apply_orientation`, `train_views` and `device`. A file with nothing but the parameters can be evaluated; averages default
//! to the parameters.

mod contents;
mod info;
mod layout;
mod save;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::{Config, ResolvedConfig};
use crate::field::{Field, FieldParameters};
use crate::gpu::{Buffer, Gpu};
use crate::network::binned;
use crate::step_state::StepState;
use crate::train::Trainer;
pub use contents::Contents;
use contents::has_non_finite;
pub(crate) use contents::read_whole;
pub use info::{CheckpointError, Info};
use layout::Role;
pub(crate) use layout::prefix as pass_prefix;
use save::initialise_averages;
pub use save::save_parameters;
pub use save::{Source, save};

/// Steps that a run can have: some room is left to count on.
const MAX_STEPS: f64 = 4e9;
const DAMAGED: &str = "holds NaN or infinite values, which are never saved: the file is damaged";
/// Leading u32 of a [`StepState`] that one step hands to the next.
const STATE: usize = 16;
/// Version of the tensor names and metadata.
pub const FORMAT: &str = "kiln-1";

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    bytes: Vec<u8>,
    /// What it says about its run.
    pub info: Info,
}

impl Checkpoint {
    /// Read a checkpoint, or the one in a run directory.
    ///
    /// # Errors
    /// [`CheckpointError`]
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

    /// A hash of the whole file, which tells whether it changed (FNV-1a, 64 bits).
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

    fn slab(&self, fields: &[&Field], role: Role) -> Result<Vec<f32>, CheckpointError> {
        let len: usize = fields.iter().map(|f| f.slab_len() as usize).sum();
        let mut slab = vec![0.0; len];
        for matrix in layout::matrices(fields) {
            let name = format!("{}{}", role.prefix(), matrix.name);
            let values = self.values::<f32>(&name, Dtype::F32, &matrix.shape())?;
            matrix.insert(&mut slab, &values);
        }
        Ok(slab)
    }

    fn tables(
        &self,
        gpu: &Gpu,
        fields: &[&Field],
        roles: &[Role],
        buffer: &dyn Fn(&layout::Table) -> Buffer,
    ) -> Result<(), CheckpointError> {
        for table in layout::tables(fields) {
            let (offset, count) = table.range(roles[0]);
            let mut values = vec![0.0; count];
            for &role in roles {
                let name = format!("{}{}", role.prefix(), table.name);
                table.insert(
                    &mut values,
                    role,
                    &self.values::<f32>(&name, Dtype::F32, &table.shape())?,
                );
            }
            gpu.write(&buffer(&table), offset * 4, &values);
        }
        Ok(())
    }

    /// Upload the parameters that evaluation uses: averages where there are any, else the parameters themselves.
    ///
    /// # Errors
    /// [`CheckpointError`]
    pub fn load_parameters(
        &self,
        gpu: &Gpu,
        fields: &[&Field],
        into: &[FieldParameters],
    ) -> Result<(), CheckpointError> {
        let first = format!("ema.{}", layout::matrices(fields)[0].name);
        let averaged = self.has(&first);
        let role = if averaged { Role::Average } else { Role::Value };
        let mut slab = self.slab(fields, role)?;
        if averaged {
            self.decay_idle_averages(fields, &mut slab)?;
        }
        gpu.write(&into[0].weights.values, 0, &slab);
        for (map, cells) in self.maps(fields)? {
            let to = into[map.pass].cells.iter();
            to.for_each(|buffer| gpu.write(buffer, 0, &cells));
        }
        if averaged {
            self.settled_tables(gpu, fields, into)?;
        } else {
            let of = |table: &layout::Table| into[table.pass].tables[table.chunk].clone();
            self.tables(gpu, fields, &[role], &of)?;
        }
        let mut stage = gpu.stage("load");
        for (field, into) in fields.iter().zip(into) {
            field.transpose(&mut stage, into, None)?;
        }
        gpu.submit([&stage]);
        Ok(())
    }

    /// The maps of all grids, which must name networks that there are.
    fn maps(&self, fields: &[&Field]) -> Result<Vec<(layout::Map, Vec<u32>)>, CheckpointError> {
        let mut all = Vec::new();
        for map in layout::maps(fields) {
            // Where all cells have networks, those are in order unless it says otherwise.
            let cells = if map.len() == map.networks && !self.has(&map.name) {
                (0..map.len()).map(|cell| cell as u32).collect()
            } else {
                self.values::<u32>(&map.name, Dtype::U32, &map.shape)?
            };
            let known = |&c: &u32| c == binned::NO_NETWORK || (c as usize) < map.networks;
            if let Some(bad) = cells.iter().find(|c| !known(c)) {
                let reason = format!("names network {bad} of {}", map.networks);
                return Err(self.fault(&map.name, reason));
            }
            all.push((map, cells));
        }
        Ok(all)
    }

    /// Let the averages in `slab` of networks that were left alone catch up to the checkpoint's step.
    fn decay_idle_averages(
        &self,
        fields: &[&Field],
        slab: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let maps = layout::maps(fields);
        let decay = self.info.config.optimizer.ema_decay;
        if maps.is_empty() || decay == 0.0 {
            return Ok(());
        }
        let values = self.slab(fields, Role::Value)?;
        for map in maps {
            let name = format!("updates.{}", map.name);
            let updates = self.values::<u32>(&name, Dtype::U32, &[map.networks, 2])?;
            let Some([first, n, stride]) = fields[map.pass].cell_range() else {
                continue;
            };
            for network in 0..map.networks {
                let idle = self.info.step.saturating_sub(updates[2 * network + 1]);
                let keep = decay.powi(i32::try_from(idle).unwrap_or(i32::MAX));
                let begin = first as usize + network * stride as usize;
                for i in begin..begin + n as usize {
                    slab[i] = values[i] + (slab[i] - values[i]) * keep;
                }
            }
        }
        Ok(())
    }

    /// Averages of hash rows, those that were left alone caught up to the checkpoint's step.
    fn settled_tables(
        &self,
        gpu: &Gpu,
        fields: &[&Field],
        into: &[FieldParameters],
    ) -> Result<(), CheckpointError> {
        let decay = self.info.config.optimizer.ema_decay;
        for table in layout::tables(fields) {
            let value = self.values::<f32>(&table.name, Dtype::F32, &table.shape())?;
            let mut average =
                self.values::<f32>(&format!("ema.{}", table.name), Dtype::F32, &table.shape())?;
            let updates = self.values::<u32>(
                &format!("updates.{}", table.name),
                Dtype::U32,
                &[table.rows, 2],
            )?;
            let width = table.features;
            average
                .par_chunks_mut(width)
                .enumerate()
                .for_each(|(row, average)| {
                    let idle = self.info.step.saturating_sub(updates[2 * row + 1]);
                    let keep = decay.powi(i32::try_from(idle).unwrap_or(i32::MAX));
                    for (a, w) in average.iter_mut().zip(&value[row * width..]) {
                        *a = w + (*a - w) * keep;
                    }
                });
            let (offset, _) = table.range(Role::Value);
            gpu.write(&into[table.pass].tables[table.chunk], offset * 4, &average);
        }
        Ok(())
    }

    /// Occupancy bits, all set where the checkpoint has none; `None` where the method has no grid.
    ///
    /// # Errors
    /// [`CheckpointError`]
    pub fn load_occupancy(&self, gpu: &Gpu) -> Result<Option<Buffer>, CheckpointError> {
        if self.info.config.occupancy.is_none() {
            return Ok(None);
        }
        Ok(Some(gpu.buffer_with("occupancy bits", &self.bits()?)?))
    }

    /// Occupancy bits, all set where the checkpoint has none.
    fn bits(&self) -> Result<Vec<u32>, CheckpointError> {
        let config = &self.info.config;
        let side = config.occupancy.as_ref().map_or(0, |o| o.resolution);
        let cascades = config.aabb_scale().trailing_zeros() + 1;
        let words = (side.pow(3) * cascades) as usize / 32;
        if self.has("occupancy.bits") {
            self.values::<u32>("occupancy.bits", Dtype::U32, &[words])
        } else {
            Ok(vec![u32::MAX; words])
        }
    }

    /// Put `trainer`, made from this checkpoint's config, where the checkpoint was saved. Where it holds nothing but
    /// parameters, training begins with them.
    ///
    /// # Errors
    /// [`CheckpointError`]
    pub fn restore(&self, gpu: &Gpu, trainer: &mut Trainer) -> Result<(), CheckpointError> {
        let fields: Vec<Field> = trainer.fields().cloned().collect();
        let fields: Vec<&Field> = fields.iter().collect();
        self.restore_role(gpu, trainer, &fields, Role::Value)?;
        if self.has("state.training") {
            self.restore_state(gpu, trainer, &fields)?;
        } else {
            initialise_averages(gpu, trainer);
        }
        for (map, cells) in self.maps(&fields)? {
            if let Some((_, buffer)) = &trainer.cells[map.pass] {
                gpu.write(buffer, 0, &cells);
                trainer.set_distilled_cells(&cells, &self.bits()?);
            }
        }
        let mut stage = gpu.stage("load");
        for (field, parameters) in fields.iter().zip(&trainer.parameters()) {
            field.transpose(&mut stage, parameters, None)?;
        }
        gpu.submit([&stage]);
        trainer.restore_clock(self.info.step, self.info.train_seconds);
        if trainer.reptile.is_some() {
            trainer.resume_tasks(self.info.step)?;
            for &role in layout::roles(trainer.config()) {
                if role.is_outer() && self.has("state.training") {
                    self.restore_role(gpu, trainer, &fields, role)?;
                }
            }
        }
        Ok(())
    }

    /// Let `trainer`, whose configuration may be another, begin with the parameters that evaluation uses; nothing else of the
    /// run is taken over.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] names the first that does not fit.
    pub fn initialise(&self, gpu: &Gpu, trainer: &Trainer) -> Result<(), CheckpointError> {
        let fields: Vec<&Field> = trainer.fields().collect();
        let into = trainer.parameters();
        self.load_parameters(gpu, &fields, &into)?;
        initialise_averages(gpu, trainer);
        Ok(())
    }

    /// Whether `fields` have the shapes of the parameters here.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] names the first that does not fit.
    pub fn fits(&self, fields: &[&Field]) -> Result<(), CheckpointError> {
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
        let is_extra = |name: &&str| {
            contents::is_parameter(name) && !expected.iter().any(|(_, known)| known == name)
        };
        let mut names = file.names();
        names.sort_unstable();
        match names.into_iter().find(|name| is_extra(&&**name)) {
            Some(extra) => Err(self.fault(extra, "has no place in the method's networks")),
            None => Ok(()),
        }
    }

    /// Upload what `trainer` has in `role`.
    fn restore_role(
        &self,
        gpu: &Gpu,
        trainer: &Trainer,
        fields: &[&Field],
        role: Role,
    ) -> Result<(), CheckpointError> {
        gpu.write(role.of_slab(trainer), 0, &self.slab(fields, role)?);
        // Moments of tables lie together, and are written together.
        let roles: &[Role] = match role {
            Role::FirstMoment => return Ok(()),
            Role::SecondMoment => &[Role::FirstMoment, Role::SecondMoment],
            _ => &[role],
        };
        let of = |table: &layout::Table| role.of_table(trainer, table).clone();
        self.tables(gpu, fields, roles, &of)
    }

    /// Updates of hash rows and of the networks of grids.
    fn restore_counters(
        &self,
        gpu: &Gpu,
        trainer: &Trainer,
        fields: &[&Field],
    ) -> Result<(), CheckpointError> {
        for table in layout::tables(fields) {
            let name = format!("updates.{}", table.name);
            let counters = self.values::<u32>(&name, Dtype::U32, &[table.rows, 2])?;
            let first = u64::from(table.first_row) * 8;
            let chunk = &trainer.sparse[table.pass].counters[table.chunk];
            gpu.write(chunk, first, &counters);
        }
        for map in layout::maps(fields) {
            let name = format!("updates.{}", map.name);
            let counters = self.values::<u32>(&name, Dtype::U32, &[map.networks, 2])?;
            if let Some((group, _)) = &trainer.cells[map.pass] {
                gpu.write(&group.counters, 0, &counters);
            }
        }
        Ok(())
    }

    /// Averages, moments, counters and the occupancy grid.
    fn restore_state(
        &self,
        gpu: &Gpu,
        trainer: &Trainer,
        fields: &[&Field],
    ) -> Result<(), CheckpointError> {
        for &role in layout::roles(trainer.config()) {
            if role != Role::Value && !role.is_outer() {
                self.restore_role(gpu, trainer, fields, role)?;
            }
        }
        // Between two tasks nothing has been counted yet.
        if trainer.reptile.is_none() {
            self.restore_counters(gpu, trainer, fields)?;
        }
        if let Some(grid) = &trainer.occupancy {
            let (n, side) = (grid.n_cells() as usize, grid.resolution as usize);
            let shape = [grid.cascades as usize, side, side, side];
            let thickness = self.values::<f32>("occupancy.thickness", Dtype::F32, &shape)?;
            gpu.write(&grid.thickness, 0, &thickness);
            let bits = self.values::<u32>("occupancy.bits", Dtype::U32, &[n / 32])?;
            gpu.write(&grid.bits, 0, &bits);
            let state = self.values::<u32>("state.occupancy", Dtype::U32, &[STATE])?;
            gpu.write(&grid.counts.state, 0, &state);
        }
        let state = self.values::<u32>("state.training", Dtype::U32, &[STATE])?;
        // What is not saved is set anew by every step.
        let mut whole: StepState = bytemuck::Zeroable::zeroed();
        bytemuck::bytes_of_mut(&mut whole)[..STATE * 4]
            .copy_from_slice(bytemuck::cast_slice(&state));
        let mut state = whole;
        // Another device may hold fewer.
        state.next_rays = state.next_rays.min(trainer.passes[0].capacity.rays);
        gpu.write(&trainer.counts().state, 0, &[state]);
        for (index, sparse) in trainer.sparse.iter().enumerate() {
            let pass = layout::prefix(index, fields.len());
            let levels = fields[index].tables().levels().len().max(1);
            let name = format!("state.{pass}gradient_scales");
            let scales = self.values::<f32>(&name, Dtype::F32, &[levels])?;
            gpu.write(&sparse.gradient_scales, 0, &scales);
            let name = format!("state.{pass}largest");
            let largest = self.values::<u32>(&name, Dtype::U32, &[levels])?;
            gpu.write(&sparse.largest, 0, &largest);
        }
        Ok(())
    }
}
