//! Training: one driver, [`Trainer::advance`], for the command line and a window alike.
//!
//! A step is a fixed list of stages; everything that varies from step to step (ray count, learning rate, gradient scales)
//! is computed on the device. The trainer never waits and prints nothing: it submits, and hands out [`TrainEvent`]s.

mod buffers;
mod init;
mod plan;
mod program;
mod progress;
mod tasks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use plan::{MemoryPlan, PlanError, fit_cells, max_networks, operations, plan};
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
        "step {step} is one of {distillation_steps} distillation steps, and there is no teacher: pass one to Trainer::new"
    )]
    NoTeacher {
        /// The step.
        step: u32,
        /// Steps that learn from the teacher.
        distillation_steps: u32,
    },
    /// There is a teacher, but the configuration has no distillation steps, no occupancy grid or no grid of networks.
    #[error(
        "there is a teacher, but nothing to distil: the first pass needs `cells`, and the configuration `occupancy` and \
         `distillation` with `steps` and `teacher`"
    )]
    UnusedTeacher,
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

/// What [`Trainer::advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
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
    config: ResolvedConfig,
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
    distiller: Option<Distiller>,
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

impl Trainer {
    /// Allocate everything and prepare the stages, for a resolved `config`. A distillation needs its `teacher`, unless what
    /// is left to do is on images.
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
            history: buffers.history,
            ray_losses: buffers.ray_losses,
            distiller,
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
        let distillation_steps = config.distillation_steps();
        // So does nothing, where objects take turns: each may be where the others are not.
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
            always: trainer.build_step(images, plan.micro_batches)?,
            occupancy,
            warmup_steps: grid.map_or(0, |g| g.warmup_steps),
            interval: grid.map_or(1, |g| g.interval),
            outer: trainer.outer_step_stage()?.into_iter().collect(),
            inner_steps: config.meta.as_ref().map(|meta| meta.inner_steps),
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

    /// Distil the cells of `map`, where the occupancy grid's `bits` are set.
    pub fn set_distilled_cells(&self, map: &[u32], bits: &[u32]) {
        if let Some(distiller) = &self.distiller {
            distiller.set_map(&self.gpu, map, bits);
        }
    }

    /// Counts and rays, which all passes share.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.passes[0].counts
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ResolvedConfig {
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
    pub fn exclude_time(&mut self, time: Duration) {
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

    /// The stages of one step and of one occupancy update, for measuring.
    #[must_use]
    pub fn stages(&self) -> (&[Stage], &[Stage]) {
        (&self.program.always, &self.program.occupancy)
    }

    /// What the first step begins with.
    fn first_state(&self) -> StepState {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.seed = self.config.seed;
        let rays = self.config.first_rays();
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
        self.position = 0;
        self.adapting = None;
        self.restore_clock(0, 0.0);
        Ok(())
    }

    /// Run every kernel once, so that shaders are compiled before the clock starts, then [`Self::reset`]: call it before
    /// parameters are set. Blocks.
    ///
    /// # Errors
    /// What the device raised meanwhile.
    pub fn warm_up(&mut self, images: &ImageSet) -> Result<(), GpuError> {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.next_rays = self.passes[0].capacity.rays.min(64);
        self.gpu.write(&self.counts().state, 0, &[state]);
        let program = &self.program;
        let stages: Vec<&Stage> = program
            .distillation
            .iter()
            .chain(&program.always)
            .chain(&program.occupancy)
            .chain(&program.outer)
            .collect();
        // One of its own, so that what compilation takes is not thought to be what stages cost.
        Submitter::new(Duration::ZERO).run(&self.gpu, &stages)?;
        self.reset(Some(images))
    }

    /// Submit what comes next, one submission at most, and not beyond `until` steps.
    ///
    /// # Errors
    /// [`TrainError`]
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
        Ok(StepStatus::Submitted)
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
