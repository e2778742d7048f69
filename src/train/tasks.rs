//! Objects that take turns: going on with a task, leaving it, and adapting to one that is held out.

use super::Trainer;
use crate::gpu::GpuError;
use crate::images::TASKS;
use crate::reptile::Reptile;
use crate::step_state::StepState;

impl Trainer {
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
        let mut stage = self.gpu.stage("resume");
        reptile.adopt(&mut stage);
        self.begin_task(reptile, &mut stage)?;
        reptile.save_state(&mut stage, state);
        self.gpu.submit([&stage]);
        Ok(())
    }

    /// Go back to where the task under way began, which is done anew then; of a paused training.
    pub fn abandon_task(&mut self) -> Result<(), GpuError> {
        let Some(reptile) = &self.reptile else {
            return Ok(());
        };
        let mut stage = self.gpu.stage("abandon");
        self.begin_task(reptile, &mut stage)?;
        reptile.restore_state(&mut stage, &self.counts().state);
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
}
