//! The stages of each step.

use std::sync::Arc;

use super::{HISTORY_LEN, REPORT_INTERVAL, Trainer};
use crate::compositing::{DepthTerms, LossTerms};
use crate::distillation::Teacher;
use crate::field::{FieldGradients, FieldParameters};
use crate::gpu::{Defines, GpuError, Groups, Kernel, Stage};
use crate::images::ImageSet;
use crate::network::Updated;
use crate::optimizer::{CellGroup, CellUpdate, schedule_defines};
use crate::pass::PassUse;
use crate::reptile::Reptile;

/// The stages of each step, in order.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Stages of a distillation step; distillation steps come first.
    pub(super) distillation: Vec<Stage>,
    pub(super) distillation_steps: u32,
    pub(super) image_step: Vec<Stage>,
    pub(super) occupancy: Vec<Stage>,
    pub(super) warmup_steps: u32,
    pub(super) interval: u32,
    /// Stages after the last of a task's `inner_steps`.
    pub(super) outer: Vec<Stage>,
    pub(super) inner_steps: Option<u32>,
}

impl Program {
    /// Return the stages of step `step`. It ends with an occupancy update during the warm-up and then every `interval` steps,
    /// or with an outer step if it is the last inner step of a task.
    pub(super) fn stages_of(&self, step: u32) -> impl Iterator<Item = &Stage> {
        if step < self.distillation_steps {
            return self.distillation.iter().chain(&[]);
        }
        let due = step < self.warmup_steps || (step + 1).is_multiple_of(self.interval);
        let ends_task = |n: u32| (step + 1).is_multiple_of(n);
        let more: &[Stage] = if self.inner_steps.is_some_and(ends_task) {
            &self.outer
        } else if due {
            &self.occupancy
        } else {
            &[]
        };
        self.image_step.iter().chain(more)
    }

    /// Return the number of steps between progress reports: whole tasks in meta-learning.
    pub(super) fn report(&self) -> u32 {
        let tasks = |n: u32| n * REPORT_INTERVAL.div_ceil(n).min(HISTORY_LEN / n).max(1);
        self.inner_steps.map_or(REPORT_INTERVAL, tasks)
    }
}

impl Trainer {
    /// Create the stage of an outer step, which follows the last inner step of a task.
    pub(super) fn outer_step_stage(&self) -> Result<Option<Stage>, GpuError> {
        let Some(reptile) = &self.reptile else {
            return Ok(None);
        };
        let (gpu, state) = (&*self.gpu, &self.counts().state);
        let mut stage = gpu.stage("outer step");
        reptile.step(&mut stage)?;
        self.begin_task(reptile, &mut stage)?;
        reptile.next_task(&mut stage, state)?;
        reptile.save_state(&mut stage, state);
        Ok(Some(stage))
    }

    /// Add: start a task from the initial weights, with a reset optimiser.
    pub(super) fn begin_task(&self, reptile: &Reptile, stage: &mut Stage) -> Result<(), GpuError> {
        reptile.begin_task(stage, &self.dense, &self.sparse);
        for (group, _) in self.cells.iter().flatten() {
            stage.clear(&group.counters);
        }
        for (field, parameters) in self.fields().zip(&self.parameters()) {
            field.transpose(stage, parameters, None)?;
        }
        Ok(())
    }

    /// Return one of the small kernels in `shaders/entry/step.wgsl`.
    pub(super) fn step_kernel(
        &self,
        pass: &str,
        micro_batches: u32,
        more: Defines,
    ) -> Result<Arc<Kernel>, GpuError> {
        let defines = more.set("pass", pass).set("micro_batches", micro_batches);
        self.gpu.kernel("entry/step", pass, &defines)
    }

    /// Create the first stage of every step.
    pub(super) fn begin_stage(&self) -> Result<Stage, GpuError> {
        let (gpu, counts) = (&*self.gpu, self.counts());
        let once = || Groups::Direct([1, 1, 1]);
        let small = |pass: &str, more: Defines| self.step_kernel(pass, 1, more);
        let mut begin = gpu.stage("begin");
        for (field, sparse) in self.fields().zip(&self.sparse) {
            let n_levels = field.tables().levels().len();
            let bindings = [
                ("gradient_scales", &sparse.gradient_scales),
                ("largest", &sparse.largest),
            ];
            if n_levels > 0 {
                let kernel = small("rescale", Defines::new().set("n_levels", n_levels))?;
                begin.dispatch(&kernel, &bindings, once())?;
            }
        }
        let kernel = small("begin_step", schedule_defines(&self.optimizer))?;
        begin.dispatch(&kernel, &[("state", &counts.state)], once())?;
        counts.publish(&mut begin)?;
        Ok(begin)
    }

    /// Add the stages from the gradients of the raw outputs of pass `index` to the gradients of its
    /// parameters, and sum the losses.
    pub(super) fn backward(
        &self,
        index: usize,
        parameters: &FieldParameters,
        micro_batches: u32,
        stages: &mut Vec<Stage>,
    ) -> Result<(), GpuError> {
        let (gpu, counts) = (&*self.gpu, self.counts());
        let (pass, sparse) = (&self.passes[index], &self.sparse[index]);
        let (mut network, mut encode) =
            (gpu.stage("network backward"), gpu.stage("encode backward"));
        pass.field.backward(
            &mut network,
            &mut encode,
            parameters,
            &pass.kept_samples(),
            &pass.buffers,
            &FieldGradients {
                weights: &self.dense.gradients,
                overwrite: self.overwrite,
                tables: &sparse.gradients,
                scales: &sparse.gradient_scales,
            },
        )?;
        let is_last = index + 1 == self.passes.len();
        let more = Defines::new().set("is_last", is_last);
        let kernel = self.step_kernel("end_batch", micro_batches, more)?;
        let bindings = [("state", &counts.state), ("ray_losses", &self.ray_losses)];
        // Encodings without parameters have no backward pass, so the last kernel joins the network stage.
        let is_trained = !encode.is_empty();
        let last = if is_trained {
            &mut encode
        } else {
            &mut network
        };
        last.dispatch(&kernel, &bindings, Groups::Direct([1, 1, 1]))?;
        stages.push(network);
        stages.extend(is_trained.then_some(encode));
        Ok(())
    }

    /// Create the stages of a distillation step from `teacher`.
    pub(super) fn build_distillation_step(
        &self,
        teacher: &Teacher,
    ) -> Result<Vec<Stage>, GpuError> {
        let Some(distiller) = &self.distiller else {
            return Ok(Vec::new());
        };
        let parameters = self.parameters();
        let student = &self.passes[0];
        let mut stages = vec![self.begin_stage()?];
        stages.extend(distiller.stages(
            &self.gpu,
            teacher,
            student,
            &parameters[0],
            &self.ray_losses,
        )?);
        self.backward(0, &parameters[0], 1, &mut stages)?;
        stages.push(self.update(&parameters, 1, false)?);
        Ok(stages)
    }

    /// Create the stages of a training step on `images`.
    pub(super) fn build_step(
        &self,
        images: &ImageSet,
        micro_batches: u32,
    ) -> Result<Vec<Stage>, GpuError> {
        let gpu = &*self.gpu;
        let counts = self.counts();
        let first = &self.passes[0];
        let targets = &self.targets;
        let parameters = self.parameters();
        let bits = self.occupancy.as_ref().map(|grid| &grid.bits);
        let purpose = PassUse {
            training: true,
            color: true,
            limited: false,
        };
        // What differs between micro-batches is on the device: their stages are the same.
        let mut batch = Vec::new();
        let mut draw = gpu.stage("rays");
        images.draw(&mut draw, counts, &self.config, &first.rays, targets)?;
        if let Some(depths) = &self.depth_targets {
            let rays = &first.rays;
            images.draw_depths(&mut draw, counts, &self.config, rays, targets, depths)?;
        }
        batch.push(draw);
        for (index, pass) in self.passes.iter().enumerate() {
            batch.extend(
                pass.stages(gpu, &parameters[index], bits, purpose)?
                    .into_vec(),
            );
            let mut composite = self.composite(index, micro_batches)?;
            let is_last = index + 1 == self.passes.len();
            if let Some(grid) = self.occupancy.as_ref().filter(|_| is_last) {
                grid.raise_sampled_cells(&mut composite, pass)?;
            }
            batch.push(composite);
            self.backward(index, &parameters[index], micro_batches, &mut batch)?;
        }
        let mut stages = vec![self.begin_stage()?];
        for _ in 0..micro_batches {
            stages.extend(batch.iter().cloned());
        }
        stages.push(self.update(&parameters, micro_batches, true)?);
        Ok(stages)
    }

    /// Create the last stage of a step, which updates the parameters; `on_images` is false in distillation steps.
    pub(super) fn update(
        &self,
        parameters: &[FieldParameters],
        micro_batches: u32,
        on_images: bool,
    ) -> Result<Stage, GpuError> {
        let (gpu, counts, optimizer) = (&*self.gpu, self.counts(), &self.optimizer);
        let mut update = gpu.stage("optimize");
        for (index, pass) in self.passes.iter().enumerate() {
            let (field, dense) = (&pass.field, &self.dense);
            let cells = self.cells[index].as_ref().map(|(group, _)| group);
            if let Some((group, updated)) = cells.zip(pass.buffers.updated()) {
                let overwrite = self.overwrite;
                let cells = CellUpdate {
                    updated,
                    overwrite,
                    penalized: on_images,
                };
                group.update(&mut update, counts, optimizer, dense, &cells)?;
                if !CellGroup::transposes(optimizer) {
                    let counters = &group.counters;
                    let updated = Some(Updated { counts, counters });
                    field.transpose(&mut update, &parameters[index], updated)?;
                }
            } else {
                let range = [field.density.layout().base, field.slab_len()];
                dense.update(&mut update, counts, optimizer, range)?;
                field.transpose(&mut update, &parameters[index], None)?;
            }
            let tables = field.tables();
            self.sparse[index].update(&mut update, counts, tables, optimizer)?;
        }
        let capacity = self.passes[0].capacity;
        let defines = Defines::new()
            .set("ring", HISTORY_LEN)
            .set("adapts", on_images && self.config.training.n_rays.is_none())
            .set("kept_capacity", capacity.kept)
            .set("marched_capacity", capacity.marched)
            .set("max_rays", capacity.rays);
        let bindings = [("state", &counts.state), ("history", &self.history)];
        let kernel = self.step_kernel("end_step", micro_batches, defines)?;
        update.dispatch(&kernel, &bindings, Groups::Direct([1, 1, 1]))?;
        Ok(update)
    }

    /// Create the stage that composites the rays of pass `index`, compares with the targets, and composites backward.
    fn composite(&self, index: usize, micro_batches: u32) -> Result<Stage, GpuError> {
        let pass = &self.passes[index];
        let terms = LossTerms {
            loss: &self.config.loss,
            weight: self.config.passes[index].loss_weight,
            opacity_loss: self.config.training.opacity_loss.unwrap_or(0.0),
            mask_loss: self.config.training.mask_loss.unwrap_or(0.0),
            linear: self.config.scene.linear,
            micro_batches,
        };
        let mut stage = self.gpu.stage("composite");
        let (samples, losses) = (pass.ray_samples(), &self.ray_losses);
        samples.forward(&mut stage, &terms, &self.targets, losses)?;
        let d_raw = pass.field.d_raw_outputs(&pass.buffers);
        let joint = pass.field.color.is_none();
        samples.backward(&mut stage, &terms, losses, &d_raw, joint)?;
        if let Some(targets) = &self.depth_targets {
            let depth = DepthTerms {
                depth_loss: self.config.training.depth_loss,
                deviation: self.config.training.depth_deviation,
                targets,
            };
            samples.depth_backward(&mut stage, &terms, &depth, losses, &d_raw, joint)?;
        }
        Ok(stage)
    }
}
