//! Progress of rendering views, with an estimate of the remaining time if it is long.

use std::time::{Duration, Instant};

use super::{Observer, ObserverExt, Scale, Task};
use crate::report::duration;
use crate::text::{counted_len, si};

/// Time to measure before the remaining time is estimated.
const MEASURED: Duration = Duration::from_secs(5);

/// Remaining times up to this many seconds are not reported.
const SHORT: f64 = 120.0;

/// Reports the fraction of rays rendered, and once the estimated remaining time.
pub(super) struct ViewProgress<'a> {
    observer: &'a dyn Observer,
    task: Box<dyn Task + Sync>,
    what: &'static str,
    /// Advice on how to stop or shorten the work.
    way_out: &'a str,
    /// Rays of each view.
    views: Vec<u64>,
    estimate: Estimate,
    /// Views that are complete.
    complete: usize,
}

impl<'a> ViewProgress<'a> {
    /// Start the progress of rendering views, given the number of rays of each.
    pub(super) fn new(
        observer: &'a dyn Observer,
        what: &'static str,
        way_out: &'a str,
        views: impl IntoIterator<Item = u64>,
    ) -> Self {
        let views: Vec<u64> = views.into_iter().collect();
        let rays = views.iter().sum();
        Self {
            observer,
            task: observer.task(what, Scale::Rays(rays)),
            what,
            way_out,
            views,
            estimate: Estimate::new(rays),
            complete: 0,
        }
    }

    /// Report that `done` rays of the current view are done. Return whether to continue.
    pub(super) fn update(&mut self, done: u64) -> bool {
        let done = self.rays_complete() + done;
        self.task.set(done);
        if let Some((seconds, rate)) = self.estimate.left(done, Instant::now()) {
            self.observer.note(format!(
                "{} {} will take about {} more, at {}rays/s: {}",
                self.what,
                counted_len(self.views.len(), "view"),
                duration(seconds),
                si(rate),
                self.way_out
            ));
        }
        self.observer.keep_going()
    }

    /// Report that the current view is complete.
    pub(super) fn complete(&mut self) {
        self.complete += 1;
        self.task.set(self.rays_complete());
        let (done, of) = (self.complete, self.views.len());
        self.task.describe(&format!("{} {done}/{of}", self.what));
    }

    /// Return the number of rays of the complete views.
    fn rays_complete(&self) -> u64 {
        self.views[..self.complete].iter().sum()
    }
}

/// Estimates the remaining time from the rate of rays.
struct Estimate {
    rays: u64,
    /// Time and number of rays of the first report; the time before it includes compiling shaders.
    since: Option<(Instant, u64)>,
    is_made: bool,
}

impl Estimate {
    fn new(rays: u64) -> Self {
        Self {
            rays,
            since: None,
            is_made: false,
        }
    }

    /// Return the remaining seconds and the rays per second, once, if the remaining time is long.
    fn left(&mut self, done: u64, now: Instant) -> Option<(f64, f64)> {
        if self.is_made || done == 0 {
            return None;
        }
        let (since, before) = *self.since.get_or_insert((now, done));
        let elapsed = now.duration_since(since);
        if elapsed < MEASURED || done == before {
            return None;
        }
        self.is_made = true;
        let rate = (done - before) as f64 / elapsed.as_secs_f64();
        let seconds = self.rays.saturating_sub(done) as f64 / rate;
        (seconds > SHORT).then_some((seconds, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_remaining_time_is_reported_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut long = Estimate::new(1_000_000);
        // Nothing is measured while shaders are compiled.
        assert_eq!(long.left(0, after(0)), None);
        assert_eq!(long.left(1000, after(60)), None);
        assert_eq!(long.left(5000, after(64)), None);
        let (seconds, rate) = long.left(11_000, after(70)).unwrap();
        assert!((rate - 1000.0).abs() < 1e-9 && (seconds - 989.0).abs() < 1e-9);
        assert_eq!(long.left(12_000, after(71)), None);

        let mut short = Estimate::new(100_000);
        assert_eq!(short.left(1000, after(0)), None);
        assert_eq!(short.left(11_000, after(10)), None);
        assert_eq!(short.left(11_001, after(90)), None);
    }
}
