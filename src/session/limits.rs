//! Limits at which a training stops.

/// Limits counted from the start of the run; the first one reached stops the training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) steps: u32,
    pub(crate) seconds: f64,
    /// PSNR of the evaluation views, dB.
    pub(crate) psnr: f64,
}

impl Limits {
    /// Return limits with the steps and seconds that are `given`, or the defaults if neither is.
    pub(crate) fn given(given: (Option<u32>, Option<f64>), default: (u32, f64)) -> Self {
        let (steps, seconds) = match given {
            (None, None) => default,
            (steps, seconds) => (steps.unwrap_or(u32::MAX), seconds.unwrap_or(f64::INFINITY)),
        };
        Self {
            steps,
            seconds,
            psnr: f64::INFINITY,
        }
    }

    /// Return the fraction done after `step` steps and `seconds`, and the estimated remaining time in seconds.
    pub(crate) fn progress(self, step: u32, seconds: f64) -> (f64, f64) {
        let by_steps = f64::from(step) / f64::from(self.steps);
        let fraction = by_steps.max(seconds / self.seconds).min(1.0);
        let left = if fraction > 0.0 {
            seconds / fraction - seconds
        } else {
            0.0
        };
        (fraction, left)
    }

    pub(crate) fn describe(self) -> String {
        let mut parts = Vec::new();
        if self.steps < u32::MAX {
            parts.push(format!("{} steps", self.steps));
        }
        if self.seconds.is_finite() {
            parts.push(format!("{:.0} s", self.seconds));
        }
        if self.psnr.is_finite() {
            parts.push(format!("{} dB", self.psnr));
        }
        parts.join(" or ")
    }
}
