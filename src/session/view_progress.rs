//! How far a rendering of views is, and how long it takes where that is long.

use std::time::{Duration, Instant};

use super::{Observer, ObserverExt, Scale, Task};
use crate::camera::Camera;
use crate::report::duration;
use crate::text::{counted_len, si};

/// What is measured before it is told how long the rest takes.
const MEASURED: Duration = Duration::from_secs(5);

/// Seconds that nobody needs to be told of.
const SHORT: f64 = 120.0;

/// The progress of rendering views: the share of their rays and, once, how long they take.
pub(super) struct ViewProgress<'a> {
    observer: &'a dyn Observer,
    task: Box<dyn Task + Sync>,
    what: &'static str,
    /// How it takes less.
    way_out: &'a str,
    /// Rays of each view.
    views: Vec<u64>,
    estimate: Estimate,
    /// Views that are complete.
    complete: usize,
}

impl<'a> ViewProgress<'a> {
    /// Of views through `cameras`, of `per_pixel` rays a pixel.
    pub(super) fn new<'c>(
        observer: &'a dyn Observer,
        what: &'static str,
        way_out: &'a str,
        cameras: impl IntoIterator<Item = &'c Camera>,
        per_pixel: u32,
    ) -> Self {
        let of = |c: &Camera| u64::from(c.width) * u64::from(c.height) * u64::from(per_pixel);
        let views: Vec<u64> = cameras.into_iter().map(of).collect();
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

    /// `done` rays of the view under way are done; whether to go on.
    pub(super) fn go_on(&mut self, done: u64) -> bool {
        let done = self.rays_complete() + done;
        self.task.set(done);
        if let Some((seconds, rate)) = self.estimate.left(done, Instant::now()) {
            self.observer.note(format!(
                "{} {} takes about {} more, at {}rays/s: {}",
                self.what,
                counted_len(self.views.len(), "view"),
                duration(seconds),
                si(rate),
                self.way_out
            ));
        }
        self.observer.keep_going()
    }

    /// The view under way is complete.
    pub(super) fn complete(&mut self) {
        self.complete += 1;
        self.task.set(self.rays_complete());
        let (done, of) = (self.complete, self.views.len());
        self.task.describe(&format!("{} {done}/{of}", self.what));
    }

    /// Rays of the views that are complete.
    fn rays_complete(&self) -> u64 {
        self.views[..self.complete].iter().sum()
    }
}

/// How long so many rays take.
struct Estimate {
    rays: u64,
    /// When rays were first seen to be done, and how many: shaders were compiled before.
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

    /// Seconds that the rest takes and rays per second, once, where that is long.
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
    fn what_takes_long_is_told_once() {
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
