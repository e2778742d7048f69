//! Meta-learned initial weights (Reptile: Nichol, Achiam and Schulman 2018): `shaders/reptile.wgsl`.
//!
//! θ are the initial weights, and φ is a copy of them that the inner steps adapt to one task. An outer step updates θ with an
//! optimiser that takes θ − φ as the gradient. Then φ = θ, and the next task begins. θ and φ stay in their buffers on the
//! device, and no step waits for the host.

use crate::config::{Algorithm, Meta};
use crate::gpu::{Allocator, Buffer, Counts, Defines, Gpu, GpuError, Groups, Stage};
use crate::images::TASKS;
use crate::network::Weights;
use crate::optimizer::{DenseGroup, SparseGroup, schedule_defines};
use crate::random::Random;
use crate::step_state::StepState;

/// The object of each outer step: each round visits all objects, in a new random order.
#[derive(Debug, Clone)]
pub struct ObjectOrder {
    seed: u32,
    /// The current round; `objects` holds its order.
    round: u32,
    objects: Vec<u32>,
}

impl ObjectOrder {
    /// Create the order of `n` objects.
    #[must_use]
    pub fn new(seed: u32, n: u32) -> Self {
        let mut order = Self {
            seed,
            round: 0,
            objects: (0..n).collect(),
        };
        order.shuffle();
        order
    }

    fn shuffle(&mut self) {
        let n = self.objects.len() as u32;
        let mut random = Random(self.seed ^ 0x2545_f491);
        random = Random(random.next() ^ self.round);
        random.next();
        self.objects = (0..n).collect();
        for i in (1..n).rev() {
            let other = (u64::from(random.next()) * u64::from(i + 1)) >> 32;
            self.objects.swap(i as usize, other as usize);
        }
    }

    /// Return the object of an outer step.
    pub fn object(&mut self, outer_step: u32) -> u32 {
        let n = self.objects.len() as u32;
        if outer_step / n != self.round {
            self.round = outer_step / n;
            self.shuffle();
        }
        self.objects[(outer_step % n) as usize]
    }
}

/// θ and φ of one buffer of parameters.
#[derive(Debug, Clone)]
pub struct OuterParameters {
    /// θ and the outer optimiser's moments, which are minimal buffers if it has none.
    pub group: DenseGroup,
    /// φ.
    adapted: Buffer,
}

/// The outer loop: θ, and the state with which the inner steps of a task begin.
#[derive(Debug)]
pub struct Reptile {
    config: Meta,
    /// Counts of the outer loop, whose `step` is the number of outer steps done.
    pub counts: Counts,
    /// θ and φ of the slab of network weights, then of the chunks of each pass's hash table.
    pub outer: Vec<OuterParameters>,
    /// State of the inner steps at the start of the current task.
    state: Buffer,
    /// Initial gradient scales of each hash table.
    scales: Vec<Buffer>,
}

impl Reptile {
    /// Allocate θ for all trained parameters.
    pub fn new(
        allocator: &dyn Allocator,
        config: &Meta,
        dense: &DenseGroup,
        sparse: &[SparseGroup],
    ) -> Result<Self, GpuError> {
        let of = |adapted: &Buffer| -> Result<OuterParameters, GpuError> {
            let bytes = adapted.bytes();
            let of_adam = if config.optimizer.algorithm == Algorithm::Adam {
                bytes
            } else {
                16
            };
            let values = allocator.buffer("outer values", bytes)?;
            let group = DenseGroup {
                len: u32::try_from(bytes / 4).unwrap_or(u32::MAX),
                averages: values.clone(),
                weights: Weights {
                    transposed: values.clone(),
                    values,
                },
                gradients: allocator.buffer("outer gradients", bytes)?,
                moments: [
                    allocator.buffer("outer first moments", of_adam)?,
                    allocator.buffer("outer second moments", of_adam)?,
                ],
            };
            Ok(OuterParameters {
                group,
                adapted: adapted.clone(),
            })
        };
        let tables = sparse.iter().flat_map(|s| &s.values);
        let fresh = |s: &SparseGroup| {
            let scales = allocator.buffer("first gradient scales", s.gradient_scales.bytes())?;
            SparseGroup::reset_scales(allocator, &scales);
            Ok(scales)
        };
        Ok(Self {
            config: config.clone(),
            counts: StepState::counts(allocator, "outer")?,
            outer: std::iter::once(&dense.weights.values)
                .chain(tables)
                .map(of)
                .collect::<Result<_, _>>()?,
            state: allocator.buffer("state of the task", size_of::<StepState>() as u64)?,
            scales: sparse.iter().map(fresh).collect::<Result<_, GpuError>>()?,
        })
    }

    /// Number of inner steps per task.
    #[must_use]
    pub fn inner_steps(&self) -> u32 {
        self.config.inner_steps
    }

    /// Add: set θ = φ, and reset the outer optimiser.
    pub fn adopt(&self, stage: &mut Stage) {
        for outer in &self.outer {
            stage.copy(&outer.adapted, &outer.group.weights.values);
            outer.group.reset(stage);
        }
    }

    /// Set the number of outer steps done.
    pub fn set_step(&self, gpu: &Gpu, step: u32) {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.step = step;
        gpu.write(&self.counts.state, 0, &[state]);
    }

    /// Add: one outer step, which moves θ towards φ.
    pub fn step(&self, stage: &mut Stage) -> Result<(), GpuError> {
        let optimizer = &self.config.optimizer;
        let once = Groups::Direct([1, 1, 1]);
        let defines = schedule_defines(optimizer).set("pass", "begin_step");
        let state = ("state", &self.counts.state);
        stage.run("entry/step", "begin_step", &defines, &[state], once)?;
        for OuterParameters { group, adapted } in &self.outer {
            let bindings = [
                ("values", &group.weights.values),
                ("adapted", adapted),
                ("gradients", &group.gradients),
            ];
            let defines = Defines::new().set("n", group.len);
            let groups = Groups::covering(u64::from(group.len / 4), 64);
            stage.run("reptile", "outer_gradient", &defines, &bindings, groups)?;
            group.update(stage, &self.counts, optimizer, [0, group.len])?;
        }
        Ok(())
    }

    /// Add: set φ = θ, and reset the inner optimiser.
    pub fn begin_task(&self, stage: &mut Stage, dense: &DenseGroup, sparse: &[SparseGroup]) {
        for outer in &self.outer {
            stage.copy(&outer.group.weights.values, &outer.adapted);
        }
        dense.reset(stage);
        for (sparse, scales) in sparse.iter().zip(&self.scales) {
            stage.copy(scales, &sparse.gradient_scales);
            stage.clear(&sparse.largest);
            for (values, averages) in sparse.values.iter().zip(&sparse.averages) {
                stage.copy(values, averages);
            }
            for buffer in sparse.moments.iter().chain(&sparse.counters) {
                stage.clear(buffer);
            }
        }
    }

    /// Add: count the outer step, and advance `state` to the next task.
    pub fn next_task(&self, stage: &mut Stage, state: &Buffer) -> Result<(), GpuError> {
        let defines = Defines::new().set("pass", "next_task").set("tasks", TASKS);
        let bindings = [("state", state), ("outer", &self.counts.state)];
        let once = Groups::Direct([1, 1, 1]);
        stage.run("entry/step", "next_task", &defines, &bindings, once)?;
        Ok(())
    }

    /// Add: save the state that a task begins with.
    pub fn save_state(&self, stage: &mut Stage, state: &Buffer) {
        stage.copy(state, &self.state);
    }

    /// Add: restore the state that [`Self::save_state`] saved.
    pub fn restore_state(&self, stage: &mut Stage, state: &Buffer) {
        stage.copy(&self.state, state);
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectOrder;

    #[test]
    fn every_object_has_its_turn_once_in_a_round() {
        let mut order = ObjectOrder::new(7, 11);
        let rounds: Vec<Vec<u32>> = (0..4)
            .map(|round| (0..11).map(|i| order.object(11 * round + i)).collect())
            .collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..11).collect::<Vec<_>>());
        }
        assert!(rounds[0] != rounds[1] && rounds[1] != rounds[2]);
        // An order that starts in the middle gives the same object.
        assert_eq!(ObjectOrder::new(7, 11).object(27), rounds[2][5]);
        assert_ne!(
            ObjectOrder::new(8, 11).objects,
            ObjectOrder::new(7, 11).objects
        );
        let mut single = ObjectOrder::new(3, 1);
        assert_eq!([single.object(0), single.object(9)], [0, 0]);
    }
}
