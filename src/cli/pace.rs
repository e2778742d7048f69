//! How far a rendering of views is, and how long it takes where that is long.

use std::time::{Duration, Instant};

use super::Session;
use super::output::{Bar, short};
use crate::camera::Camera;
use crate::report::duration;

/// What is measured before it is told how long the rest takes.
const MEASURED: Duration = Duration::from_secs(5);

/// Seconds that nobody needs to be told of.
const SHORT: f64 = 120.0;

/// Views under way: a bar over their rays and, once, how long they take.
pub(super) struct Pace<'a> {
    session: &'a Session,
    bar: Bar,
    what: &'static str,
    /// How it takes less.
    way_out: &'a str,
    views: usize,
    rays: u64,
    /// Views, and rays of them, that are complete.
    complete: (usize, u64),
    /// When rays were first seen to be done, and how many: shaders were compiled before.
    since: Option<(Instant, u64)>,
    is_told: bool,
}

impl<'a> Pace<'a> {
    /// Of views through `cameras`, of `per_pixel` rays a pixel.
    pub(super) fn new<'c>(
        session: &'a Session,
        what: &'static str,
        way_out: &'a str,
        cameras: impl IntoIterator<Item = &'c Camera>,
        per_pixel: u32,
    ) -> Self {
        let pixels = |c: &Camera| u64::from(c.width) * u64::from(c.height);
        let all: Vec<u64> = cameras.into_iter().map(pixels).collect();
        let rays = all.iter().sum::<u64>() * u64::from(per_pixel);
        Self {
            session,
            bar: session.out.bar_of_rays(rays, what),
            what,
            way_out,
            views: all.len(),
            rays,
            complete: (0, 0),
            since: None,
            is_told: false,
        }
    }

    /// `done` rays of the view under way are done; whether to go on.
    pub(super) fn go_on(&mut self, done: u64) -> bool {
        let done = self.complete.1 + done;
        self.bar.set_position(done);
        if done > 0 && !self.is_told {
            let (since, before) = *self.since.get_or_insert_with(|| (Instant::now(), done));
            let elapsed = since.elapsed();
            if elapsed >= MEASURED && done > before {
                self.is_told = true;
                let rate = (done - before) as f64 / elapsed.as_secs_f64();
                let left = self.rays.saturating_sub(done) as f64 / rate;
                if left > SHORT {
                    self.session.out.note(format!(
                        "{} {} view{} takes about {} more, at {}rays/s: {}",
                        self.what,
                        self.views,
                        if self.views == 1 { "" } else { "s" },
                        duration(left),
                        short(rate),
                        self.way_out
                    ));
                }
            }
        }
        self.session.keep_going()
    }

    /// The view under way is complete.
    pub(super) fn complete(&mut self, rays: u64) {
        self.complete = (self.complete.0 + 1, self.complete.1 + rays);
        self.bar.set_position(self.complete.1);
        self.bar
            .set_message(format!("{} {}/{}", self.what, self.complete.0, self.views));
    }

    /// Nothing is left, or nobody waits for it.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
