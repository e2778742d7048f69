//! The training loop: one driver, [`Trainer::advance`], for the command line and a window.
//!
//! A step is a fixed list of stages; everything that varies from step to step (ray count, learning rate, gradient scales) is
//! computed on the device. [`Trainer::advance`] never waits and prints nothing: it submits stages and returns [`TrainEvent`]s.

mod buffers;
mod init;
mod plan;
mod program;
mod progress;
mod tasks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use plan::{MemoryPlan, PlanError, max_networks, operations, plan, size_network_grids};
pub use progress::{InnerProgress, Progress, TrainEvent};

use crate::config::{Optimizer, ResolvedConfig};
use crate::distillation::{Distiller, Extraction, Teacher};
use crate::field::{Field, FieldParameters};
use crate::gpu::{Buffer, Counts, Gpu, GpuError, ReadBack, Stage, Submitter};
use crate::images::ImageSet;
use crate::occupancy::OccupancyGrid;
use crate::optimizer::{CellGroup, DenseGroup, SparseGroup};
use crate::pass::Pass;
use crate::reptile::Reptile;
use crate::step_state::StepState;
use program::Program;
use progress::summarize;

/// An error of training.
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
        /// Step at which it was detected.
        step: u32,
    },
    /// Distillation steps remain, but the trainer has no teacher.
    #[error(
        "step {step} is one of {distillation_steps} distillation steps, and there is no teacher: pass one to Trainer::new"
    )]
    NoTeacher {
        /// The step.
        step: u32,
        /// Number of distillation steps.
        distillation_steps: u32,
    },
    /// There is a teacher, but the configuration has no distillation steps, no occupancy grid or no grid of networks.
    #[error(
        "there is a teacher, but nothing to distil: the first pass needs `cells`, and the configuration `occupancy` and \
         `distillation` with `steps` and `teacher`"
    )]
    UnusedTeacher,
    /// No sample was evaluated in the first steps.
    #[error(
        "no samples were evaluated in the first {step} steps, so that nothing is learned: see that rays meet the box (scene.scale, \
         scene.offset, scene.near, scene.far, training.near_start) and that training.batch_size holds the samples of a ray"
    )]
    NoSamples {
        /// Number of steps without a sample.
        step: u32,
    },
}

/// Result of [`Trainer::advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// Work was submitted.
    Submitted,
    /// Enough submissions are in flight: call again later, or wait with [`Trainer::wait`].
    Busy,
    /// The requested step has been reached and submitted.
    Reached,
}

/// Number of steps in the history on the device, a ring buffer.
const HISTORY_LEN: u32 = 256;
/// Number of steps between progress reports.
const REPORT_INTERVAL: u32 = 16;
/// Maximum number of steps per submission.
const MAX_STEPS_PER_SUBMISSION: u32 = 8;

/// A field being trained.
#[derive(Debug)]
pub struct Trainer {
    gpu: Arc<Gpu>,
    config: ResolvedConfig,
    /// Optimiser of the training steps, which are the inner steps in meta-learning.
    optimizer: Optimizer,
    /// Initial weights and outer optimiser, if the method meta-learns an initialisation.
    pub reptile: Option<Reptile>,
    /// Samplers and fields of all passes, with their buffers.
    pub passes: Vec<Pass>,
    /// Occupancy grid, if the method has one.
    pub occupancy: Option<OccupancyGrid>,
    /// Network weights of all passes.
    pub dense: DenseGroup,
    /// Hash table of each pass.
    pub sparse: Vec<SparseGroup>,
    /// For each pass whose field is a grid of networks: optimiser state of the networks, and map of the cells.
    pub cells: Vec<Option<(CellGroup, Buffer)>>,
    /// Target colours of the rays of a batch: (rays, 4) f32.
    pub targets: Buffer,
    /// Target depths of some of the rays, if any depth is known; see [`ImageSet::depth_targets`].
    pub depth_targets: Option<Buffer>,
    history: Buffer,
    ray_losses: Buffer,
    distiller: Option<Distiller>,
    /// Whether gradients of a grid's networks overwrite those of the previous step, which are then not zeroed: if a step is one
    /// micro-batch. It is the same for all steps.
    overwrite: bool,
    program: Program,
    submitter: Submitter,
    next_stage: usize,
    step: u32,
    reported: u32,
    tickets: VecDeque<(u32, f64, ReadBack)>,
    seconds: f64,
    running_since: Option<Instant>,
    /// Steps and seconds at the call of [`Self::adapt`].
    adapting: Option<(u32, f64)>,
}

impl Trainer {
    /// Allocate all buffers and build the stages, for a resolved `config`. A distillation needs its `teacher` while
    /// distillation steps remain.
    pub fn new(
        gpu: &Arc<Gpu>,
        config: &ResolvedConfig,
        images: &ImageSet,
        teacher: Option<&Teacher>,
    ) -> Result<Self, TrainError> {
        let plan = plan(gpu.profile(), config)?;
        let buffers = plan.allocate(gpu, config)?;
        let capacity = plan.capacities[0];
        let distiller = match teacher {
            Some(teacher) => {
                let distiller = Distiller::of_config(gpu, config, teacher, capacity)?;
                if distiller.is_none() || config.distillation_steps() == 0 {
                    return Err(TrainError::UnusedTeacher);
                }
                distiller
            }
            None => None,
        };
        let mut trainer = Self {
            gpu: Arc::clone(gpu),
            config: config.clone(),
            optimizer: config.inner_optimizer(),
            reptile: buffers.reptile,
            passes: buffers.passes,
            occupancy: buffers.occupancy,
            dense: buffers.dense,
            sparse: buffers.sparse,
            cells: buffers.cells,
            targets: buffers.targets,
            depth_targets: images.depth_targets(gpu, capacity.rays)?,
            history: buffers.history,
            ray_losses: buffers.ray_losses,
            distiller,
            overwrite: plan.micro_batches == 1,
            program: Program::default(),
            submitter: Submitter::new(Duration::from_secs_f32(config.training.submission_ms / 1e3)),
            next_stage: 0,
            step: 0,
            reported: 0,
            tickets: VecDeque::new(),
            seconds: 0.0,
            running_since: None,
            adapting: None,
        };
        let grid = config.occupancy.as_ref();
        // The occupancy grid extracted from a teacher is not updated.
        let distillation_steps = config.distillation_steps();
        // Nor is one in meta-learning: an object may lie where the others are empty.
        let occupancy = match &trainer.occupancy {
            Some(grid) if distillation_steps == 0 && config.meta.is_none() => {
                let parameters = trainer.parameters();
                grid.update(gpu, trainer.field(), &parameters[parameters.len() - 1])?
            }
            _ => Vec::new(),
        };
        trainer.program = Program {
            distillation: match teacher {
                Some(teacher) => trainer.build_distillation_step(teacher)?,
                None => Vec::new(),
            },
            distillation_steps,
            image_step: trainer.build_step(images, plan.micro_batches)?,
            occupancy,
            warmup_steps: grid.map_or(0, |g| g.warmup_steps),
            interval: grid.map_or(1, |g| g.interval),
            outer: trainer.outer_step_stage()?.into_iter().collect(),
            inner_steps: config.meta.as_ref().map(|meta| meta.inner_steps),
        };
        trainer.reset(Some(images))?;
        Ok(trainer)
    }

    /// Return the parameters of each pass, which are being trained.
    #[must_use]
    pub fn parameters(&self) -> Vec<FieldParameters> {
        let of_pass = |index: usize| FieldParameters {
            tables: self.sparse[index].values.clone(),
            weights: self.dense.weights.clone(),
            cells: self.cells[index].as_ref().map(|(_, map)| map.clone()),
        };
        (0..self.passes.len()).map(of_pass).collect()
    }

    /// The field of the last pass, which renders the image.
    #[must_use]
    pub fn field(&self) -> &Field {
        &self.passes[self.passes.len() - 1].field
    }

    /// The fields of all passes.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.passes.iter().map(|p| &p.field)
    }

    /// Copy an extracted occupancy grid and cell map to the device; see [`crate::distillation::extract`].
    pub fn apply_extraction(&self, found: &Extraction) {
        if let Some(grid) = &self.occupancy {
            self.gpu.write(&grid.thickness, 0, &found.thickness);
            self.gpu.write(&grid.bits, 0, &found.bits);
        }
        if let Some((_, map)) = &self.cells[0] {
            self.gpu.write(map, 0, &found.map);
        }
        self.set_distilled_cells(&found.map, &found.bits);
    }

    /// Set the cells to distil from `map`, and the occupied cells of the occupancy grid from `bits`.
    pub fn set_distilled_cells(&self, map: &[u32], bits: &[u32]) {
        if let Some(distiller) = &self.distiller {
            distiller.set_cells_and_occupancy(&self.gpu, map, bits);
        }
    }

    /// Counts on the device, shared by all passes.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.passes[0].counts
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }

    /// Number of steps submitted.
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

    /// Exclude the last `time` from the seconds of training: the device was used for something else.
    pub fn exclude_time(&mut self, time: Duration) {
        let now = Instant::now();
        let later = self.running_since.and_then(|at| at.checked_add(time));
        self.running_since = later.map(|at| at.min(now));
    }

    /// Restore the step and the seconds of training from a checkpoint.
    pub fn restore_clock(&mut self, step: u32, seconds: f64) {
        self.step = step;
        self.reported = step;
        self.seconds = seconds;
    }

    /// The stages of a step and of an occupancy update, for benchmarks.
    #[must_use]
    pub fn stages(&self) -> (&[Stage], &[Stage]) {
        (&self.program.image_step, &self.program.occupancy)
    }

    /// Return the state at the first step.
    fn first_state(&self) -> StepState {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.seed = self.config.seed;
        let rays = self.config.first_rays();
        state.next_rays = rays.min(self.passes[0].capacity.rays);
        state
    }

    /// The stages of an outer step; empty without meta-learning.
    #[must_use]
    pub fn outer_stages(&self) -> &[Stage] {
        &self.program.outer
    }

    /// Initialise parameters, counters and occupancy grid from the configuration's seed. Cells that none of
    /// `images` sees are permanently disabled; pass `None` to disable none, if parameters from another source will
    /// replace the initial ones. Blocks.
    pub fn reset(&mut self, images: Option<&ImageSet>) -> Result<(), GpuError> {
        let gpu = Arc::clone(&self.gpu);
        gpu.write(&self.counts().state, 0, &[self.first_state()]);
        let mut zero = gpu.stage("reset");
        self.dense.reset(&mut zero);
        for sparse in &self.sparse {
            sparse.reset(&mut zero);
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
            field.transpose(&mut zero, parameters, None)?;
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
            reptile.save_state(&mut zero, &self.counts().state);
        }
        let stages: Vec<&Stage> = std::iter::once(&zero).chain(&mark).collect();
        self.submitter.run(&gpu, &stages)?;
        self.next_stage = 0;
        self.adapting = None;
        self.restore_clock(0, 0.0);
        Ok(())
    }

    /// Run every kernel once, so that shaders are compiled before the training time starts, then [`Self::reset`]. Must be
    /// called before parameters are set. Blocks.
    pub fn warm_up(&mut self, images: &ImageSet) -> Result<(), GpuError> {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.next_rays = self.passes[0].capacity.rays.min(64);
        self.gpu.write(&self.counts().state, 0, &[state]);
        let program = &self.program;
        let stages: Vec<&Stage> = program
            .distillation
            .iter()
            .chain(&program.image_step)
            .chain(&program.occupancy)
            .chain(&program.outer)
            .collect();
        // A separate submitter, so that compilation does not count as the cost of stages.
        Submitter::new(Duration::ZERO).run(&self.gpu, &stages)?;
        self.reset(Some(images))
    }

    /// Submit the next stages, in at most one submission, and not beyond step `until`.
    pub fn advance(
        &mut self,
        until: u32,
        events: &mut Vec<TrainEvent>,
    ) -> Result<StepStatus, TrainError> {
        self.collect(events)?;
        if self.step >= until {
            return Ok(StepStatus::Reached);
        }
        let distillation_steps = self.program.distillation_steps;
        if self.step < distillation_steps && self.program.distillation.is_empty() {
            return Err(TrainError::NoTeacher {
                step: self.step,
                distillation_steps,
            });
        }
        self.running_since.get_or_insert_with(Instant::now);
        if !self.submitter.ready(&self.gpu)? {
            return Ok(StepStatus::Busy);
        }
        // The rest of this step and, if steps are short, a few more.
        let mut upcoming: Vec<&Stage> = Vec::new();
        let mut ends = Vec::new();
        let mut skip = self.next_stage;
        for step in self.step..until.min(self.step + MAX_STEPS_PER_SUBMISSION) {
            upcoming.extend(self.program.stages_of(step).skip(skip));
            ends.push(upcoming.len());
            skip = 0;
            if (step + 1).is_multiple_of(self.program.report()) {
                break;
            }
        }
        let taken = self.submitter.submit(&self.gpu, &upcoming);
        let finished = ends.iter().filter(|&&end| end <= taken).count();
        self.next_stage = match finished {
            0 => self.next_stage + taken,
            n => taken - ends[n - 1],
        };
        self.step += u32::try_from(finished).unwrap_or(0);
        if finished > 0 && self.step.is_multiple_of(self.program.report()) {
            self.request_report();
        }
        Ok(StepStatus::Submitted)
    }

    fn request_report(&mut self) {
        let ticket = self
            .gpu
            .read_back(&self.history, 0, u64::from(HISTORY_LEN) * 32);
        self.tickets.push_back((self.step, self.seconds(), ticket));
    }

    fn collect(&mut self, events: &mut Vec<TrainEvent>) -> Result<(), TrainError> {
        while let Some((step, seconds, ticket)) = self.tickets.front() {
            let Some(bytes) = ticket.poll()? else {
                return Ok(());
            };
            let rows: Vec<[f32; 8]> = bytemuck::pod_collect_to_vec(&bytes);
            let (step, seconds) = (*step, *seconds);
            let first = self.reported.max(step.saturating_sub(HISTORY_LEN));
            self.tickets.pop_front();
            self.reported = step;
            let inner_steps = self.program.inner_steps;
            if let Some(progress) = summarize(&rows, first, step, seconds, inner_steps)? {
                events.push(TrainEvent::Progress(progress));
            }
        }
        Ok(())
    }

    /// Set the time budget of subsequent submissions, so that others can use the device in between.
    pub fn set_budget(&mut self, budget: std::time::Duration) {
        self.submitter.set_budget(budget);
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&mut self) -> Result<bool, TrainError> {
        self.submitter.ready(&self.gpu)?;
        Ok(self.submitter.idle())
    }

    /// Block until the oldest submission is done.
    pub fn wait(&mut self) -> Result<(), TrainError> {
        Ok(self.submitter.wait_oldest(&self.gpu)?)
    }

    /// Complete the current step, report, and stop the clock. Blocks.
    pub fn pause(&mut self, events: &mut Vec<TrainEvent>) -> Result<(), TrainError> {
        while self.next_stage != 0 {
            let rest: Vec<&Stage> = self
                .program
                .stages_of(self.step)
                .skip(self.next_stage)
                .collect();
            let (n, taken) = (rest.len(), self.submitter.submit(&self.gpu, &rest));
            self.next_stage = if taken == n {
                0
            } else {
                self.next_stage + taken
            };
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

    /// Write the parameters for evaluation to `into`: the moving averages, or the values if averaging is disabled.
    pub fn export_ema(&self, into: &[FieldParameters]) -> Result<(), GpuError> {
        let mut stage = self.gpu.stage("export");
        let (counts, optimizer) = (self.counts(), &self.optimizer);
        stage.copy(&self.dense.averages, &into[0].weights.values);
        for (index, (field, into)) in self.fields().zip(into).enumerate() {
            if let Some((group, map)) = &self.cells[index] {
                if optimizer.ema_decay > 0.0 {
                    let weights = &into.weights.values;
                    group.export_ema(&mut stage, counts, optimizer, &self.dense, weights)?;
                }
                into.cells.iter().for_each(|to| {
                    stage.copy(map, to);
                });
            }
            let (sparse, tables) = (&self.sparse[index], field.tables());
            sparse.export_ema(&mut stage, counts, tables, optimizer, &into.tables)?;
            field.transpose(&mut stage, into, None)?;
        }
        self.gpu.submit([&stage]);
        Ok(())
    }
}
