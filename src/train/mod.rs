//! Training: one driver, [`Trainer::advance`], for the command line and a window alike.
//!
//! A step is a fixed list of stages; everything that varies from step to step (ray count, learning rate, gradient scales)
//! is computed on the device. The trainer never waits and prints nothing: it submits, and hands out [`TrainEvent`]s.

mod budget;
pub(crate) mod init;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use budget::{MemoryPlan, fit_cells, max_networks, operations, plan};

use crate::compositing::RAY_LOSS_BYTES;
use crate::config::{Config, Optimizer};
use crate::distillation::{Distiller, Extraction, Teacher};
use crate::field::{Field, FieldParameters};
use crate::gpu::{
    Buffer, Count, Counts, Defines, Gpu, GpuError, Groups, Kernel, ReadBack, Stage, StepState,
    Submitter,
};
use crate::images::{ImageSet, TASKS};
use crate::loss;
use crate::network::{SavedActivations, Updated};
use crate::occupancy::OccupancyGrid;
use crate::optimizer::{CellGroup, DenseGroup, SparseGroup, schedule_defines};
use crate::pass::{Pass, Purpose};
use crate::reptile::Reptile;

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The loss or a gradient became NaN or infinite.
    #[error(
        "the loss became NaN or infinite by step {step}: lower optimizer.learning_rate with --set and train again"
    )]
    NonFinite {
        /// Step at which it was noticed.
        step: u32,
    },
    /// A distillation has steps left that learn from a teacher, and the trainer has none.
    #[error(
        "step {step} learns from a teacher, of {lessons} such steps, and there is none: give it to Trainer::new"
    )]
    NoTeacher {
        /// The step.
        step: u32,
        /// Steps that learn from the teacher.
        lessons: u32,
    },
    /// Nothing was evaluated from the beginning.
    #[error(
        "no samples were evaluated in the first {step} steps, so that nothing is learned: see that rays meet the box (scene.scale, \
         scene.offset, scene.near, scene.far, training.near_start) and that training.batch_size holds the samples of a ray"
    )]
    NoSamples {
        /// Steps without one.
        step: u32,
    },
}

/// What a reader of the training hears.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainEvent {
    /// Means over the steps since the last such event.
    Progress(Progress),
}

/// Means over a few steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Loss.
    pub loss: f32,
    /// PSNR of the training rays in dB, over their backgrounds.
    pub train_psnr: f32,
    /// Rays per step.
    pub rays: f32,
    /// Evaluated samples per step.
    pub samples: f32,
    /// Samples per step before culling.
    pub marched: f32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Gradients of the hash table that came near the end of their range, since the start.
    pub saturated: f32,
    /// How the inner steps went, of a method that learns weights to begin with.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub inner: Option<InnerProgress>,
}

/// PSNR of the training rays of the inner steps of each task, means over tasks.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct InnerProgress {
    /// In the first quarter of the steps, in dB.
    pub first_psnr: f32,
    /// In the last quarter.
    pub last_psnr: f32,
}

/// What [`Trainer::advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Work was submitted.
    Submitted,
    /// The device has enough to do: come back, or wait with [`Trainer::wait`].
    Busy,
    /// The requested step has been reached and submitted.
    Reached,
}

/// Steps whose losses the device remembers.
const RING: u32 = 256;
/// Steps from one progress report to the next.
const REPORT: u32 = 16;
/// Steps that one submission may reach into.
const AHEAD: u32 = 8;

/// A field being trained.
#[derive(Debug)]
pub struct Trainer {
    gpu: Arc<Gpu>,
    config: Config,
    /// The configuration's, as it takes the steps.
    optimizer: Optimizer,
    /// What steps begin with, of a method that learns that.
    pub reptile: Option<Reptile>,
    /// Samplers and fields with their buffers.
    pub passes: Vec<Pass>,
    /// Occupancy grid, where the method has one.
    pub occupancy: Option<OccupancyGrid>,
    /// Network weights of all passes.
    pub dense: DenseGroup,
    /// Hash table of each pass.
    pub sparse: Vec<SparseGroup>,
    /// Of each pass whose field is a grid, the updates of its networks, and the map of its cells.
    pub cells: Vec<Option<(CellGroup, Buffer)>>,
    /// Colours that the rays of a batch are to match: (rays, 4) f32.
    pub targets: Buffer,
    history: Buffer,
    ray_losses: Buffer,
    lessons: Option<Distiller>,
    /// Whether the gradients of a grid's networks replace those of the step before, which then need no zeroing: where a step
    /// has one part, and all steps must agree.
    overwrite: bool,
    program: Program,
    submitter: Submitter,
    position: usize,
    step: u32,
    reported: u32,
    tickets: VecDeque<(u32, f64, ReadBack)>,
    seconds: f64,
    running_since: Option<Instant>,
    /// Steps and seconds when [`Self::adapt`] began.
    adapting: Option<(u32, f64)>,
}

/// What every step runs.
#[derive(Debug, Default)]
struct Program {
    /// What steps before the first on images run.
    lessons: Vec<Stage>,
    first_on_images: u32,
    always: Vec<Stage>,
    occupancy: Vec<Stage>,
    warmup_steps: u32,
    interval: u32,
    /// What comes after the last inner step of a task, and how many there are.
    outer: Vec<Stage>,
    inner_steps: Option<u32>,
}

impl Program {
    /// The stages of step `step`, which ends with an occupancy update at every step of the warm-up and then every
    /// `interval` steps, or with an outer step after the last of a task's.
    fn stages_of(&self, step: u32) -> impl Iterator<Item = &Stage> {
        if step < self.first_on_images {
            return self.lessons.iter().chain(&[]);
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
        self.always.iter().chain(more)
    }

    /// Steps from one progress report to the next: whole tasks.
    fn report(&self) -> u32 {
        let tasks = |n: u32| n * REPORT.div_ceil(n).min(RING / n).max(1);
        self.inner_steps.map_or(REPORT, tasks)
    }
}

impl Trainer {
    /// Allocate everything and prepare the stages, for a resolved `config`. A distillation needs its `teacher`, unless what
    /// is left to do is on images.
    pub fn new(
        gpu: &Arc<Gpu>,
        config: &Config,
        images: &ImageSet,
        teacher: Option<&Teacher>,
    ) -> Result<Self, GpuError> {
        let plan = plan(gpu, config)?;
        let keep = |_| SavedActivations::Gradients;
        let passes = Pass::of_method(gpu, config, "training", &plan.capacities, &keep)?;
        let last = &passes[passes.len() - 1].field;
        let occupancy = OccupancyGrid::of_config(gpu, config, last)?;
        let slab_len = passes.iter().map(|p| p.field.slab_len()).sum();
        let optimizer = config.optimizer_of_steps();
        let dense = DenseGroup::new(gpu, "networks", slab_len, optimizer.ema_decay)?;
        let sparse: Vec<SparseGroup> = passes
            .iter()
            .map(|p| SparseGroup::new(gpu, p.field.tables()))
            .collect::<Result<_, _>>()?;
        let of_cells = |pass: &Pass| -> Result<_, GpuError> {
            let field = &pass.field;
            let Some((range, map)) = field.cell_range().zip(field.map_of_cells(gpu)?) else {
                return Ok(None);
            };
            let copies = field.density.layout().copies;
            let group = CellGroup::new(gpu, copies, range, field.matrices())?;
            Ok(Some((group, map)))
        };
        let cells = passes.iter().map(of_cells).collect::<Result<_, _>>()?;
        let targets = gpu.buffer("targets", u64::from(plan.capacities[0].rays) * 16)?;
        let history = gpu.buffer("history", u64::from(RING) * 32)?;
        let ray_losses = gpu.buffer(
            "ray losses",
            u64::from(plan.capacities[0].rays) * RAY_LOSS_BYTES,
        )?;
        let first = &passes[0];
        let taught = config
            .distillation
            .as_ref()
            .zip(teacher)
            .zip(first.field.cells.as_ref().zip(occupancy.as_ref()));
        let lessons = taught
            .map(|((config, teacher), grids)| Distiller::new(gpu, config, teacher, first, grids))
            .transpose()?;
        let of_tasks = config.meta.as_ref();
        let reptile = of_tasks
            .map(|meta| Reptile::new(gpu, meta, &dense, &sparse))
            .transpose()?;
        let mut trainer = Self {
            gpu: Arc::clone(gpu),
            config: config.clone(),
            optimizer,
            reptile,
            passes,
            occupancy,
            dense,
            sparse,
            cells,
            targets,
            history,
            ray_losses,
            lessons,
            overwrite: plan.micro_batches == 1,
            program: Program::default(),
            submitter: Submitter::new(Duration::from_secs_f32(config.training.submission_ms / 1e3)),
            position: 0,
            step: 0,
            reported: 0,
            tickets: VecDeque::new(),
            seconds: 0.0,
            running_since: None,
            adapting: None,
        };
        let grid = config.occupancy.as_ref();
        // What a teacher found empty stays so.
        let first_on_images = config.lessons();
        // So does nothing, where objects take turns: each may be where the others are not.
        let occupancy = match &trainer.occupancy {
            Some(grid) if first_on_images == 0 && of_tasks.is_none() => {
                let parameters = trainer.parameters();
                grid.update(gpu, trainer.field(), &parameters[parameters.len() - 1])?
            }
            _ => Vec::new(),
        };
        trainer.program = Program {
            lessons: match teacher {
                Some(teacher) => trainer.build_lesson(teacher)?,
                None => Vec::new(),
            },
            first_on_images,
            always: trainer.build_step(images, plan.micro_batches)?,
            occupancy,
            warmup_steps: grid.map_or(0, |g| g.warmup_steps),
            interval: grid.map_or(1, |g| g.interval),
            outer: trainer.end_of_task()?.into_iter().collect(),
            inner_steps: of_tasks.map(|meta| meta.inner_steps),
        };
        trainer.reset(Some(images))?;
        Ok(trainer)
    }

    /// The parameters being trained, pass by pass.
    #[must_use]
    pub fn parameters(&self) -> Vec<FieldParameters> {
        let of_pass = |index: usize| FieldParameters {
            tables: self.sparse[index].values.clone(),
            weights: self.dense.weights.clone(),
            cells: self.cells[index].as_ref().map(|(_, map)| map.clone()),
        };
        (0..self.passes.len()).map(of_pass).collect()
    }

    /// The field of the last pass, which makes the image.
    #[must_use]
    pub fn field(&self) -> &Field {
        &self.passes[self.passes.len() - 1].field
    }

    /// The fields of all passes.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.passes.iter().map(|p| &p.field)
    }

    /// Take over where a teacher is dense, as [`crate::distillation::extract`] found it for this configuration.
    pub fn adopt(&self, found: &Extraction) {
        if let Some(grid) = &self.occupancy {
            self.gpu.write(&grid.thickness, 0, &found.thickness);
            self.gpu.write(&grid.bits, 0, &found.bits);
        }
        if let Some((_, map)) = &self.cells[0] {
            self.gpu.write(map, 0, &found.map);
        }
        self.set_lessons(&found.map, &found.bits);
    }

    /// Let lessons be about the cells of `map`, where the occupancy grid's `bits` are set.
    pub fn set_lessons(&self, map: &[u32], bits: &[u32]) {
        if let Some(lessons) = &self.lessons {
            lessons.set_map(&self.gpu, map, bits);
        }
    }

    /// Counts and rays, which all passes share.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.passes[0].counts
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Steps submitted.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Seconds of training.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
            + self
                .running_since
                .map_or(0.0, |t| t.elapsed().as_secs_f64())
    }

    /// Do not count the last `time` as training: the device was somebody else's.
    pub fn leave_out(&mut self, time: Duration) {
        let now = Instant::now();
        let later = self.running_since.and_then(|at| at.checked_add(time));
        self.running_since = later.map(|at| at.min(now));
    }

    /// Set what a checkpoint remembers of the host's state.
    pub fn restore_clock(&mut self, step: u32, seconds: f64) {
        self.step = step;
        self.reported = step;
        self.seconds = seconds;
    }

    /// What follows the last inner step of a task: the outer step.
    fn end_of_task(&self) -> Result<Option<Stage>, GpuError> {
        let Some(reptile) = &self.reptile else {
            return Ok(None);
        };
        let (gpu, state) = (&*self.gpu, &self.counts().state);
        let mut stage = Stage::new("outer step");
        reptile.step(gpu, &mut stage)?;
        self.begin_task(reptile, &mut stage)?;
        reptile.next_task(gpu, &mut stage, state)?;
        reptile.remember(&mut stage, state);
        Ok(Some(stage))
    }

    /// Add: the parameters that a task begins with.
    fn begin_task(&self, reptile: &Reptile, stage: &mut Stage) -> Result<(), GpuError> {
        reptile.begin_task(stage, &self.dense, &self.sparse);
        for (group, _) in self.cells.iter().flatten() {
            stage.clear(&group.counters);
        }
        for (field, parameters) in self.fields().zip(&self.parameters()) {
            field.transpose(&self.gpu, stage, parameters, None)?;
        }
        Ok(())
    }

    /// Go on from the parameters, which were set from outside, as those that step `step` begins a task with.
    pub fn resume_tasks(&self, step: u32) -> Result<(), GpuError> {
        let Some(reptile) = &self.reptile else {
            return Ok(());
        };
        let done = step / reptile.inner_steps();
        reptile.set_step(&self.gpu, done);
        let state = &self.counts().state;
        let at = std::mem::offset_of!(StepState, task) as u64;
        self.gpu.write(state, at, &[done % TASKS, step]);
        let mut stage = Stage::new("resume");
        reptile.adopt(&mut stage);
        self.begin_task(reptile, &mut stage)?;
        reptile.remember(&mut stage, state);
        self.gpu.submit([&stage]);
        Ok(())
    }

    /// Go back to where the task under way began, which is done anew then; of a paused training.
    pub fn abandon_task(&mut self) -> Result<(), GpuError> {
        let Some(reptile) = &self.reptile else {
            return Ok(());
        };
        let mut stage = Stage::new("abandon");
        self.begin_task(reptile, &mut stage)?;
        reptile.recall(&mut stage, &self.counts().state);
        self.gpu.submit([&stage]);
        let step = self.step - self.step % reptile.inner_steps();
        self.restore_clock(step, self.seconds);
        Ok(())
    }

    /// Learn the task with number [`TASKS`] from step 0 on, beside the tasks' turn: of a paused training that learns weights
    /// to begin with, between two tasks.
    pub fn adapt(&mut self) {
        let Some(reptile) = &self.reptile else {
            return;
        };
        debug_assert!(self.position == 0 && self.step.is_multiple_of(reptile.inner_steps()));
        let state = StepState {
            task: TASKS,
            ..self.first_state()
        };
        self.gpu.write(&self.counts().state, 0, &[state]);
        self.adapting = Some((self.step, self.seconds));
        self.program.inner_steps = None;
        self.restore_clock(0, 0.0);
    }

    /// Go back to the tasks, where [`Self::adapt`] left them; of a paused training.
    pub fn end_adaptation(&mut self) -> Result<(), GpuError> {
        if let Some((step, seconds)) = self.adapting.take()
            && let Some(inner_steps) = self.reptile.as_ref().map(Reptile::inner_steps)
        {
            self.program.inner_steps = Some(inner_steps);
            self.restore_clock(step, seconds);
            self.abandon_task()?;
        }
        Ok(())
    }

    /// The stages of one step and of one occupancy update, for measuring.
    #[must_use]
    pub fn stages(&self) -> (&[Stage], &[Stage]) {
        (&self.program.always, &self.program.occupancy)
    }

    /// What the first step begins with.
    fn first_state(&self) -> StepState {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.seed = self.config.seed;
        let rays = self.config.training.first_rays();
        state.next_rays = rays.min(self.passes[0].capacity.rays);
        state
    }

    /// The stages of an outer step, where there are such.
    #[must_use]
    pub fn outer_stages(&self) -> &[Stage] {
        &self.program.outer
    }

    /// Initialise parameters, counters and grid from the configuration's seed; where none of the `images` looks, nothing can
    /// be, unless parameters from elsewhere are to take their place and know better. Blocks.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn reset(&mut self, images: Option<&ImageSet>) -> Result<(), GpuError> {
        let gpu = Arc::clone(&self.gpu);
        gpu.write(&self.counts().state, 0, &[self.first_state()]);
        let mut zero = Stage::new("reset");
        self.dense.reset(&mut zero);
        for sparse in &self.sparse {
            sparse.reset(&gpu, &mut zero);
        }
        let fields: Vec<&Field> = self.fields().collect();
        init::initialize(&gpu, &self.config, &fields, &self.dense, &self.sparse);
        for (group, _) in self.cells.iter().flatten() {
            zero.clear(&group.counters);
        }
        for updated in self.passes.iter().filter_map(|p| p.buffers.updated()) {
            zero.clear(updated);
        }
        for (field, parameters) in self.fields().zip(&self.parameters()) {
            field.transpose(&gpu, &mut zero, parameters, None)?;
        }
        let mut mark = Vec::new();
        if let Some(grid) = &self.occupancy {
            grid.reset(&gpu, self.config.seed);
            if let Some(images) = images.filter(|_| self.reptile.is_none()) {
                mark.extend(grid.mark_unseen(&gpu, self.field(), images)?);
            }
        }
        if let Some(reptile) = &self.reptile {
            reptile.adopt(&mut zero);
            reptile.set_step(&gpu, 0);
            reptile.remember(&mut zero, &self.counts().state);
        }
        let stages: Vec<&Stage> = std::iter::once(&zero).chain(&mark).collect();
        self.submitter.run(&gpu, &stages)?;
        self.position = 0;
        self.adapting = None;
        self.restore_clock(0, 0.0);
        Ok(())
    }

    /// Run every kernel once and start afresh, so that shader compilation is paid before the clock starts. Blocks.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn warm_up(&mut self, images: &ImageSet) -> Result<(), GpuError> {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.next_rays = self.passes[0].capacity.rays.min(64);
        self.gpu.write(&self.counts().state, 0, &[state]);
        let program = &self.program;
        let stages: Vec<&Stage> = program
            .lessons
            .iter()
            .chain(&program.always)
            .chain(&program.occupancy)
            .chain(&program.outer)
            .collect();
        // One of its own, so that what compilation takes is not thought to be what stages cost.
        Submitter::new(Duration::ZERO).run(&self.gpu, &stages)?;
        self.reset(Some(images))
    }

    /// One of the small kernels in `shaders/entry/step.wgsl`.
    fn small(
        &self,
        pass: &str,
        micro_batches: u32,
        more: Defines,
    ) -> Result<Arc<Kernel>, GpuError> {
        let defines = more.set("pass", pass).set("micro_batches", micro_batches);
        Kernel::new(&self.gpu, "entry/step", pass, &defines)
    }

    /// What every step begins with.
    fn begin(&self) -> Result<Stage, GpuError> {
        let (gpu, counts) = (&*self.gpu, self.counts());
        let once = || Groups::Direct([1, 1, 1]);
        let small = |pass: &str, more: Defines| self.small(pass, 1, more);
        let mut begin = Stage::new("begin");
        for (field, sparse) in self.fields().zip(&self.sparse) {
            let n_levels = field.tables().levels().len();
            let bindings = [
                ("gradient_scales", &sparse.gradient_scales),
                ("largest", &sparse.largest),
            ];
            if n_levels > 0 {
                let kernel = small("rescale", Defines::new().set("n_levels", n_levels))?;
                begin.dispatch(gpu, &kernel, &bindings, once())?;
            }
        }
        let kernel = small("begin_step", schedule_defines(&self.optimizer))?;
        begin.dispatch(gpu, &kernel, &[("state", &counts.state)], once())?;
        counts.publish(gpu, &mut begin)?;
        Ok(begin)
    }

    /// Add the stages from the gradients of the raw outputs of pass `index` to those of its parameters, and the losses.
    fn backward(
        &self,
        index: usize,
        parameters: &FieldParameters,
        micro_batches: u32,
        stages: &mut Vec<Stage>,
    ) -> Result<(), GpuError> {
        let (gpu, counts) = (&*self.gpu, self.counts());
        let (pass, sparse) = (&self.passes[index], &self.sparse[index]);
        let (mut network, mut encode) = (
            Stage::new("network backward"),
            Stage::new("encode backward"),
        );
        pass.field.backward(
            gpu,
            &mut network,
            &mut encode,
            counts,
            parameters,
            &pass.kept_samples,
            &pass.buffers,
            &self.dense.gradients,
            self.overwrite,
            &sparse.gradient_scales,
            &sparse.gradients,
        )?;
        let is_last = index + 1 == self.passes.len();
        let more = Defines::new().set("is_last", is_last);
        let kernel = self.small("end_batch", micro_batches, more)?;
        let bindings = [("state", &counts.state), ("ray_losses", &self.ray_losses)];
        // Encodings without parameters have no backward pass: there is no stage that would stand for one.
        let is_trained = !encode.is_empty();
        let last = if is_trained {
            &mut encode
        } else {
            &mut network
        };
        last.dispatch(gpu, &kernel, &bindings, Groups::Direct([1, 1, 1]))?;
        stages.push(network);
        stages.extend(is_trained.then_some(encode));
        Ok(())
    }

    /// The stages of a step that learns from `teacher`.
    fn build_lesson(&self, teacher: &Teacher) -> Result<Vec<Stage>, GpuError> {
        let Some(lessons) = &self.lessons else {
            return Ok(Vec::new());
        };
        let parameters = self.parameters();
        let student = &self.passes[0];
        let mut stages = vec![self.begin()?];
        stages.extend(lessons.stages(
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

    /// The stages of a step that learns from `images`.
    fn build_step(&self, images: &ImageSet, micro_batches: u32) -> Result<Vec<Stage>, GpuError> {
        let gpu = &*self.gpu;
        let counts = self.counts();
        let first = &self.passes[0];
        let targets = &self.targets;
        let parameters = self.parameters();
        let bits = self.occupancy.as_ref().map(|grid| &grid.bits);
        let purpose = Purpose {
            training: true,
            keep: SavedActivations::Gradients,
            color: true,
            limited: false,
        };
        // What tells micro-batches apart lies on the device: their stages are the same.
        let mut batch = Vec::new();
        let mut draw = Stage::new("rays");
        images.draw(gpu, &mut draw, counts, &self.config, &first.rays, targets)?;
        batch.push(draw);
        for (index, pass) in self.passes.iter().enumerate() {
            batch.extend(
                pass.stages(gpu, &parameters[index], bits, purpose)?
                    .into_vec(),
            );
            let mut composite = self.composite(pass, micro_batches)?;
            let is_last = index + 1 == self.passes.len();
            if let Some(grid) = self.occupancy.as_ref().filter(|_| is_last) {
                grid.raise_seen(gpu, &mut composite, pass)?;
            }
            batch.push(composite);
            self.backward(index, &parameters[index], micro_batches, &mut batch)?;
        }
        let mut stages = vec![self.begin()?];
        for _ in 0..micro_batches {
            stages.extend(batch.iter().cloned());
        }
        stages.push(self.update(&parameters, micro_batches, true)?);
        Ok(stages)
    }

    /// What every step ends with, one `on_images` or a lesson.
    fn update(
        &self,
        parameters: &[FieldParameters],
        micro_batches: u32,
        on_images: bool,
    ) -> Result<Stage, GpuError> {
        let (gpu, counts, optimizer) = (&*self.gpu, self.counts(), &self.optimizer);
        let mut update = Stage::new("optimize");
        for (index, pass) in self.passes.iter().enumerate() {
            let (field, dense) = (&pass.field, &self.dense);
            let cells = self.cells[index].as_ref().map(|(group, _)| group);
            if let Some((group, updated)) = cells.zip(pass.buffers.updated()) {
                let overwrite = self.overwrite;
                group.update(
                    gpu,
                    &mut update,
                    counts,
                    optimizer,
                    dense,
                    updated,
                    overwrite,
                    on_images,
                )?;
                if !CellGroup::transposes(optimizer) {
                    let counters = &group.counters;
                    let updated = Some(Updated { counts, counters });
                    field.transpose(gpu, &mut update, &parameters[index], updated)?;
                }
            } else {
                let range = [field.density.layout().base, field.slab_len()];
                dense.update(gpu, &mut update, counts, optimizer, range)?;
                field.transpose(gpu, &mut update, &parameters[index], None)?;
            }
            let tables = field.tables();
            self.sparse[index].update(gpu, &mut update, counts, tables, optimizer)?;
        }
        let capacity = self.passes[0].capacity;
        let defines = Defines::new()
            .set("ring", RING)
            .set("adapts", on_images && self.config.training.n_rays.is_none())
            .set("kept_capacity", capacity.kept)
            .set("marched_capacity", capacity.marched)
            .set("max_rays", capacity.rays);
        let bindings = [("state", &counts.state), ("history", &self.history)];
        let kernel = self.small("end_step", micro_batches, defines)?;
        update.dispatch(gpu, &kernel, &bindings, Groups::Direct([1, 1, 1]))?;
        Ok(update)
    }

    fn composite(&self, pass: &Pass, micro_batches: u32) -> Result<Stage, GpuError> {
        let gpu = &*self.gpu;
        let raw = pass.field.raw_outputs(&pass.buffers);
        let d_raw = pass.field.d_raw_outputs(&pass.buffers);
        let opacity_loss = self.config.training.opacity_loss.unwrap_or(0.0);
        let of_loss = pass
            .defines()
            .merge(loss::defines(&self.config.loss))
            .set("opacity_loss", opacity_loss)
            .set("pass", "train")
            .set(
                "loss_weight",
                format!("{:?}", self.config.passes[pass.index].loss_weight),
            )
            .set("linear", self.config.scene.linear)
            .set("micro_batches", micro_batches);
        let of_samples = pass
            .defines()
            .set("pass", "gradients")
            .set("opacity_loss", opacity_loss)
            .set("joint", pass.field.color.is_none())
            .set("d_density_stride", d_raw.density_stride);
        let bindings = [
            ("counts", &pass.counts.state),
            ("offsets", &pass.offsets),
            ("kept_samples", &pass.kept_samples),
            ("raw_color", &raw.color),
            ("raw_density", &raw.density),
            ("rays", &pass.rays),
            ("targets", &self.targets),
            ("ray_losses", &self.ray_losses),
            ("d_color", &d_raw.color),
            ("d_density", &d_raw.density),
        ];
        let mut stage = Stage::new("composite");
        for (entry, defines) in [("train", of_loss), ("gradients_of_samples", of_samples)] {
            stage.run(
                gpu,
                "compositing",
                entry,
                &defines,
                &bindings,
                pass.counts.groups(gpu, Count::Rays, 64, 1),
            )?;
        }
        Ok(stage)
    }

    /// Submit what comes next, one submission at most, and not beyond `until` steps.
    ///
    /// # Errors
    /// [`TrainError`]
    pub fn advance(
        &mut self,
        until: u32,
        events: &mut Vec<TrainEvent>,
    ) -> Result<Advance, TrainError> {
        self.collect(events)?;
        if self.step >= until {
            return Ok(Advance::Reached);
        }
        let lessons = self.program.first_on_images;
        if self.step < lessons && self.program.lessons.is_empty() {
            return Err(TrainError::NoTeacher {
                step: self.step,
                lessons,
            });
        }
        self.running_since.get_or_insert_with(Instant::now);
        if !self.submitter.ready(&self.gpu)? {
            return Ok(Advance::Busy);
        }
        // The rest of this step and, where steps are short, a few more.
        let mut upcoming: Vec<&Stage> = Vec::new();
        let mut ends = Vec::new();
        let mut skip = self.position;
        for step in self.step..until.min(self.step + AHEAD) {
            upcoming.extend(self.program.stages_of(step).skip(skip));
            ends.push(upcoming.len());
            skip = 0;
            if (step + 1).is_multiple_of(self.program.report()) {
                break;
            }
        }
        let taken = self.submitter.submit(&self.gpu, &upcoming);
        let finished = ends.iter().filter(|&&end| end <= taken).count();
        self.position = match finished {
            0 => self.position + taken,
            n => taken - ends[n - 1],
        };
        self.step += u32::try_from(finished).unwrap_or(0);
        if finished > 0 && self.step.is_multiple_of(self.program.report()) {
            self.request_report();
        }
        Ok(Advance::Submitted)
    }

    fn request_report(&mut self) {
        let ticket = self.gpu.read_back(&self.history, 0, u64::from(RING) * 32);
        self.tickets.push_back((self.step, self.seconds(), ticket));
    }

    fn collect(&mut self, events: &mut Vec<TrainEvent>) -> Result<(), TrainError> {
        while let Some((step, seconds, ticket)) = self.tickets.front() {
            let Some(bytes) = ticket.poll()? else {
                return Ok(());
            };
            let rows: Vec<[f32; 8]> = bytemuck::pod_collect_to_vec(&bytes);
            let (step, seconds) = (*step, *seconds);
            let first = self.reported.max(step.saturating_sub(RING));
            self.tickets.pop_front();
            self.reported = step;
            let inner_steps = self.program.inner_steps;
            if let Some(progress) = summarize(&rows, first, step, seconds, inner_steps)? {
                events.push(TrainEvent::Progress(progress));
            }
        }
        Ok(())
    }

    /// Let a submission take no longer than `budget` from now on, so that others have the device in between.
    pub fn set_budget(&mut self, budget: std::time::Duration) {
        self.submitter.set_budget(budget);
    }

    /// Whether nothing that was submitted is under way.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn is_idle(&mut self) -> Result<bool, TrainError> {
        self.submitter.ready(&self.gpu)?;
        Ok(self.submitter.idle())
    }

    /// Block until the oldest submission is done. For the edges of the program.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn wait(&mut self) -> Result<(), TrainError> {
        Ok(self.submitter.wait_oldest(&self.gpu)?)
    }

    /// Finish the step under way, report, and stop the clock. Blocks.
    ///
    /// # Errors
    /// [`TrainError`]
    pub fn pause(&mut self, events: &mut Vec<TrainEvent>) -> Result<(), TrainError> {
        while self.position != 0 {
            let rest: Vec<&Stage> = self
                .program
                .stages_of(self.step)
                .skip(self.position)
                .collect();
            let (n, taken) = (rest.len(), self.submitter.submit(&self.gpu, &rest));
            self.position = if taken == n { 0 } else { self.position + taken };
            self.step += u32::from(taken == n);
        }
        while !self.submitter.idle() {
            self.submitter.wait_oldest(&self.gpu)?;
        }
        self.gpu.wait()?;
        if let Some(start) = self.running_since.take() {
            self.seconds += start.elapsed().as_secs_f64();
        }
        let asked = self.tickets.back().map_or(self.reported, |t| t.0);
        if asked < self.step {
            self.request_report();
        }
        while !self.tickets.is_empty() {
            self.gpu.wait()?;
            self.collect(events)?;
        }
        Ok(())
    }

    /// Write the parameters that evaluation uses (the moving averages, or the values where averaging is off) to `into`.
    pub fn export_ema(&self, into: &[FieldParameters]) -> Result<(), GpuError> {
        let mut stage = Stage::new("settle");
        let (gpu, counts, optimizer) = (&*self.gpu, self.counts(), &self.optimizer);
        stage.copy(&self.dense.averages, &into[0].weights.values);
        for (index, (field, into)) in self.fields().zip(into).enumerate() {
            if let Some((group, map)) = &self.cells[index] {
                if optimizer.ema_decay > 0.0 {
                    let weights = &into.weights.values;
                    group.export_ema(gpu, &mut stage, counts, optimizer, &self.dense, weights)?;
                }
                into.cells.iter().for_each(|to| {
                    stage.copy(map, to);
                });
            }
            let (sparse, tables) = (&self.sparse[index], field.tables());
            sparse.export_ema(gpu, &mut stage, counts, tables, optimizer, &into.tables)?;
            field.transpose(gpu, &mut stage, into, None)?;
        }
        self.gpu.submit([&stage]);
        Ok(())
    }
}

/// Steps in which an occupancy grid has emptied nothing yet, so that some samples must be there.
const FIRST: u32 = 200;

/// Means of the ring's rows for steps `first..end`.
fn summarize(
    rows: &[[f32; 8]],
    first: u32,
    end: u32,
    seconds: f64,
    inner_steps: Option<u32>,
) -> Result<Option<Progress>, TrainError> {
    if first >= end {
        return Ok(None);
    }
    let n = (end - first) as f32;
    let mut sums = [0.0_f32; 8];
    for step in first..end {
        let row = rows[(step % RING) as usize];
        if row[6] > 0.0 || !row[0].is_finite() {
            return Err(TrainError::NonFinite { step });
        }
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    if first < FIRST && sums[3] == 0.0 {
        return Err(TrainError::NoSamples { step: end });
    }
    let last = rows[((end - 1) % RING) as usize];
    let psnr = |mean: f32| -10.0 * mean.max(1e-10).log10();
    let quarter = |n: u32, which: u32| {
        let is_in = |step: &u32| (step % n) * 4 / n == which;
        let errors: Vec<f32> = (first..end)
            .filter(is_in)
            .map(|step| rows[(step % RING) as usize][1])
            .collect();
        (!errors.is_empty()).then(|| psnr(errors.iter().sum::<f32>() / errors.len() as f32))
    };
    let inner = |n: u32| {
        Some(InnerProgress {
            first_psnr: quarter(n, 0)?,
            last_psnr: quarter(n, (n - 1) * 4 / n)?,
        })
    };
    Ok(Some(Progress {
        step: end,
        seconds,
        loss: sums[0] / n,
        train_psnr: psnr(sums[1] / n),
        rays: sums[2] / n,
        samples: sums[3] / n,
        marched: sums[4] / n,
        learning_rate: last[5],
        saturated: last[7],
        inner: inner_steps.and_then(inner),
    }))
}
