//! Tasks of meta-learning: resuming and abandoning a task, and adapting to a held-out object.

use super::Trainer;
use crate::gpu::GpuError;
use crate::images::TASKS;
use crate::reptile::Reptile;
use crate::step_state::StepState;

impl Trainer {
    /// Take the current parameters, which were set from outside, as the initial weights of the task that starts at step `step`.
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

    /// Return to the start of the current task, which is then repeated; training must be paused.
    pub fn restart_task(&mut self) -> Result<(), GpuError> {
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

    /// Adapt to the task with number [`TASKS`], from step 0 on, outside the order of tasks. Training must be paused between
    /// two tasks of meta-learning.
    pub fn adapt(&mut self) {
        let Some(reptile) = &self.reptile else {
            return;
        };
        debug_assert!(self.next_stage == 0 && self.step.is_multiple_of(reptile.inner_steps()));
        let state = StepState {
            task: TASKS,
            ..self.first_state()
        };
        self.gpu.write(&self.counts().state, 0, &[state]);
        self.adapting = Some((self.step, self.seconds));
        self.program.inner_steps = None;
        self.restore_clock(0, 0.0);
    }

    /// Return from [`Self::adapt`] to the next task; training must be paused.
    pub fn end_adaptation(&mut self) -> Result<(), GpuError> {
        if let Some((step, seconds)) = self.adapting.take()
            && let Some(inner_steps) = self.reptile.as_ref().map(Reptile::inner_steps)
        {
            self.program.inner_steps = Some(inner_steps);
            self.restore_clock(step, seconds);
            self.restart_task()?;
        }
        Ok(())
    }
}
