//! Submissions within a time budget, so that slow adapters neither trigger the watchdog nor freeze a window.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::context::Gpu;
use super::error::GpuError;
use super::stage::Stage;

#[derive(Debug)]
struct Submission {
    index: wgpu::SubmissionIndex,
    submitted: Instant,
    done: Receiver<Instant>,
    stages: Vec<&'static str>,
}

/// Groups stages into submissions that are expected to stay within a time budget, by the measured cost of each stage name, and
/// keeps at most two submissions in flight. The grouping does not change results.
#[derive(Debug)]
pub struct Submitter {
    budget: Duration,
    flights: VecDeque<Submission>,
    costs: HashMap<&'static str, f64>,
    last_done: Option<Instant>,
}

const IN_FLIGHT: usize = 2;
/// Assumed cost of a stage that was never timed: so high that the stage is submitted alone.
const UNKNOWN_SECONDS: f64 = 1.0;

impl Submitter {
    /// Create a submitter whose submissions should take at most `budget` on the device.
    #[must_use]
    pub fn new(budget: Duration) -> Self {
        Self {
            budget,
            flights: VecDeque::new(),
            costs: HashMap::new(),
            last_done: None,
        }
    }

    /// Set the time budget of subsequent submissions.
    pub fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
    }

    /// Whether another submission may be made now.
    pub fn ready(&mut self, gpu: &Gpu) -> Result<bool, GpuError> {
        gpu.poll_once()?;
        self.collect()?;
        Ok(self.flights.len() < IN_FLIGHT)
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Submit the longest prefix of `stages` that is expected to stay within the budget, but at least one stage; return its
    /// length.
    pub fn submit(&mut self, gpu: &Gpu, stages: &[&Stage]) -> usize {
        let budget = self.budget.as_secs_f64();
        let mut expected = 0.0;
        let mut taken = 0;
        for stage in stages {
            expected += self
                .costs
                .get(stage.name)
                .copied()
                .unwrap_or(UNKNOWN_SECONDS);
            if taken > 0 && expected > budget {
                break;
            }
            taken += 1;
        }
        self.submit_all(gpu, &stages[..taken])
    }

    /// Submit all of `stages` at once, regardless of the budget; return their number.
    pub fn submit_all(&mut self, gpu: &Gpu, stages: &[&Stage]) -> usize {
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for stage in stages {
            stage.record(&mut encoder);
        }
        let index = gpu.enqueue(encoder);
        let (sender, done): (Sender<Instant>, Receiver<Instant>) = channel();
        gpu.queue.on_submitted_work_done(move || {
            let _ = sender.send(Instant::now());
        });
        let names = stages.iter().map(|s| s.name).collect();
        self.flights.push_back(Submission {
            index,
            submitted: Instant::now(),
            done,
            stages: names,
        });
        stages.len()
    }

    /// Block until the oldest submission is done.
    pub fn wait_oldest(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        if let Some(flight) = self.flights.front() {
            gpu.poll(wgpu::PollType::Wait {
                submission_index: Some(flight.index.clone()),
                timeout: None,
            })?;
        }
        self.collect()
    }

    /// Submit all of `stages`, in as many submissions as needed, and block until they are done.
    pub fn run(&mut self, gpu: &Gpu, stages: &[&Stage]) -> Result<(), GpuError> {
        let mut rest = stages;
        while !rest.is_empty() {
            if self.ready(gpu)? {
                rest = &rest[self.submit(gpu, rest)..];
            } else {
                self.wait_oldest(gpu)?;
            }
        }
        while !self.idle() {
            self.wait_oldest(gpu)?;
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<(), GpuError> {
        while let Some(flight) = self.flights.front() {
            let done = match flight.done.try_recv() {
                Ok(done) => done,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(GpuError::DeviceLost {
                        reason: "a submission was dropped".to_owned(),
                    });
                }
            };
            let start = self
                .last_done
                .map_or(flight.submitted, |last| last.max(flight.submitted));
            let seconds = done.saturating_duration_since(start).as_secs_f64();
            self.last_done = Some(done);
            let known: f64 = flight
                .stages
                .iter()
                .map(|s| self.costs.get(s).copied().unwrap_or(0.0))
                .sum();
            let count = flight.stages.len().max(1);
            for name in &flight.stages {
                let old = self.costs.get(name).copied();
                let share = match old {
                    Some(cost) if known > 0.0 => seconds * cost / known,
                    _ => seconds / count as f64,
                };
                self.costs
                    .insert(*name, old.map_or(share, |cost| 0.8 * cost + 0.2 * share));
            }
            self.flights.pop_front();
        }
        Ok(())
    }
}

impl Gpu {
    /// Submit `stages` in order, without waiting.
    pub fn submit<'a>(&self, stages: impl IntoIterator<Item = &'a Stage>) {
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for stage in stages {
            stage.record(&mut encoder);
        }
        self.enqueue(encoder);
    }
}

/// Submitters and devices can be sent between threads.
const _: fn() = || {
    fn assert_send<T: Send>() {}
    assert_send::<Submitter>();
    assert_send::<Arc<Gpu>>();
};
