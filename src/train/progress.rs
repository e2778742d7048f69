//! Progress reports of training.

use super::{HISTORY_LEN, TrainError};

/// An event of training.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainEvent {
    /// Means over the steps since the previous such event.
    Progress(Progress),
}

/// Means over several steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Progress {
    /// Number of steps done.
    pub step: u32,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Mean loss.
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
    /// Number of hash-grid gradients close to the fixed-point limit since the start.
    pub saturated: f32,
    /// Progress of the inner steps, in meta-learning.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub inner: Option<InnerProgress>,
}

/// PSNR of the training rays in the inner steps of each task, averaged over tasks.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct InnerProgress {
    /// In the first quarter of a task's steps, in dB.
    pub first_psnr: f32,
    /// In the last quarter, in dB.
    pub last_psnr: f32,
}

/// Number of initial steps in which there must be samples, since the occupancy grid has not cleared any cell yet.
const FIRST: u32 = 200;

/// Average the rows of the history for steps `first..end`.
pub(super) fn summarize(
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
        let row = rows[(step % HISTORY_LEN) as usize];
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
    let last = rows[((end - 1) % HISTORY_LEN) as usize];
    let psnr = |mean: f32| -10.0 * mean.max(1e-10).log10();
    let quarter = |n: u32, which: u32| {
        let is_in = |step: &u32| (step % n) * 4 / n == which;
        let errors: Vec<f32> = (first..end)
            .filter(is_in)
            .map(|step| rows[(step % HISTORY_LEN) as usize][1])
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
