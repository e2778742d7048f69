//! Loads checkpoints: the parameters for evaluation, or the complete state of a trainer.

use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::layout::{self, Quantity};
use super::save::initialise_averages;
use super::{Checkpoint, CheckpointError, N_PERSISTENT_WORDS};
use crate::field::{Field, FieldParameters};
use crate::gpu::{Buffer, Gpu};
use crate::network::binned;
use crate::step_state::StepState;
use crate::train::Trainer;

impl Checkpoint {
    fn slab(&self, fields: &[&Field], role: Quantity) -> Result<Vec<f32>, CheckpointError> {
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
        roles: &[Quantity],
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

    /// Upload the parameters for evaluation: the moving averages if there are any, else the parameters themselves.
    pub fn load_parameters(
        &self,
        gpu: &Gpu,
        fields: &[&Field],
        into: &[FieldParameters],
    ) -> Result<(), CheckpointError> {
        let first = format!("ema.{}", layout::matrices(fields)[0].name);
        let averaged = self.has(&first);
        let role = if averaged {
            Quantity::Average
        } else {
            Quantity::Value
        };
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
            self.load_averaged_tables(gpu, fields, into)?;
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

    /// Read the cell maps of all grids of networks, which must refer to existing networks.
    fn maps(&self, fields: &[&Field]) -> Result<Vec<(layout::CellMap, Vec<u32>)>, CheckpointError> {
        let mut all = Vec::new();
        for map in layout::maps(fields) {
            // If every cell has a network and there is no map, the networks are in the order of the cells.
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

    /// Decay the averages in `slab` of networks that were not updated, up to the checkpoint's step.
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
        let values = self.slab(fields, Quantity::Value)?;
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

    /// Upload the averages of hash grids; the averages of rows that were not updated decay up to the checkpoint's step.
    fn load_averaged_tables(
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
            let (offset, _) = table.range(Quantity::Value);
            gpu.write(&into[table.pass].tables[table.chunk], offset * 4, &average);
        }
        Ok(())
    }

    /// Upload the occupancy bits, all set if the checkpoint has none; `None` if the method has no occupancy grid.
    pub fn load_occupancy(&self, gpu: &Gpu) -> Result<Option<Buffer>, CheckpointError> {
        if self.info.config.occupancy.is_none() {
            return Ok(None);
        }
        Ok(Some(gpu.buffer_with("occupancy bits", &self.bits()?)?))
    }

    /// Read the occupancy bits, all set if the checkpoint has none.
    pub(super) fn bits(&self) -> Result<Vec<u32>, CheckpointError> {
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

    /// Restore the state of `trainer`, made from this checkpoint's configuration, to where the checkpoint was saved. If the
    /// checkpoint holds only parameters, training starts from them.
    pub fn restore(&self, gpu: &Gpu, trainer: &mut Trainer) -> Result<(), CheckpointError> {
        let fields: Vec<Field> = trainer.fields().cloned().collect();
        let fields: Vec<&Field> = fields.iter().collect();
        self.restore_role(gpu, trainer, &fields, Quantity::Value)?;
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

    /// Initialise the parameters of `trainer`, whose configuration may differ, with the parameters for evaluation. Nothing
    /// else of the run is used.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] names the first tensor that does not fit.
    pub fn initialise(&self, gpu: &Gpu, trainer: &Trainer) -> Result<(), CheckpointError> {
        let fields: Vec<&Field> = trainer.fields().collect();
        let into = trainer.parameters();
        self.load_parameters(gpu, &fields, &into)?;
        initialise_averages(gpu, trainer);
        Ok(())
    }

    /// Upload the quantity `role` of all parameters.
    fn restore_role(
        &self,
        gpu: &Gpu,
        trainer: &Trainer,
        fields: &[&Field],
        role: Quantity,
    ) -> Result<(), CheckpointError> {
        gpu.write(role.of_slab(trainer), 0, &self.slab(fields, role)?);
        // Both moments of a table share one buffer and are uploaded together.
        let roles: &[Quantity] = match role {
            Quantity::FirstMoment => return Ok(()),
            Quantity::SecondMoment => &[Quantity::FirstMoment, Quantity::SecondMoment],
            _ => &[role],
        };
        let of = |table: &layout::Table| role.of_table(trainer, table).clone();
        self.tables(gpu, fields, roles, &of)
    }

    /// Upload the update counters of hash-grid rows and of the networks of grids.
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

    /// Upload averages, moments, counters and the occupancy grid.
    fn restore_state(
        &self,
        gpu: &Gpu,
        trainer: &Trainer,
        fields: &[&Field],
    ) -> Result<(), CheckpointError> {
        for &role in layout::roles(trainer.config()) {
            if role != Quantity::Value && !role.is_outer() {
                self.restore_role(gpu, trainer, fields, role)?;
            }
        }
        // Between two tasks, all update counters are zero.
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
            let state = self.values::<u32>("state.occupancy", Dtype::U32, &[N_PERSISTENT_WORDS])?;
            gpu.write(&grid.counts.state, 0, &state);
        }
        let state = self.values::<u32>("state.training", Dtype::U32, &[N_PERSISTENT_WORDS])?;
        // The rest is set in every step.
        let mut whole: StepState = bytemuck::Zeroable::zeroed();
        bytemuck::bytes_of_mut(&mut whole)[..N_PERSISTENT_WORDS * 4]
            .copy_from_slice(bytemuck::cast_slice(&state));
        let mut state = whole;
        // The buffers on this device may hold fewer rays.
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
