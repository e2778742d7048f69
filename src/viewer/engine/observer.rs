//! Implements [`Observer`] for the engine: the messages and progress of sessions go to the window and the terminal.

use super::super::protocol::{Event, EventSender};
use super::context::EngineContext;
use crate::session::{Level, Observer, Result, Scale, Task};
use std::any::Any;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Passes messages and progress to the terminal and the window.
impl Observer for EngineContext {
    fn message(&self, level: Level, text: &str) -> Result<()> {
        match level {
            Level::Note | Level::Result => self.events.send(Event::Note(text.to_owned())),
            Level::Warning => self.events.send(Event::Note(format!("warning: {text}"))),
            Level::Detail | Level::Task | Level::Error => {}
        }
        self.terminal.message(level, text)
    }

    fn record(&self, line: &str) -> Result<()> {
        self.terminal.record(line)
    }

    fn progress(&self, progress: &crate::train::Progress) {
        self.terminal.progress(progress);
    }

    fn task(&self, what: &str, scale: Scale) -> Box<dyn Task + Sync> {
        let on_terminal = self.terminal.task(what, scale);
        let of = match scale {
            Scale::Count(n) | Scale::Rays(n) => Some(n.max(1)),
            Scale::Fraction(_) | Scale::Unknown => None,
        };
        let share = of.map(|_| 0.0);
        self.events.send(Event::Doing(what.to_owned(), share));
        match of {
            None => on_terminal,
            Some(of) => Box::new(ShownTask {
                on_terminal,
                what: std::sync::Mutex::new(what.to_owned()),
                counts: matches!(scale, Scale::Count(_)),
                done: AtomicU64::new(0),
                of,
                events: self.events.clone(),
            }),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.terminal.is_cancelled()
    }

    fn keep_going(&self) -> bool {
        self.poll_window() && self.terminal.keep_going()
    }

    fn listen_for_cancel(&self) -> Box<dyn Any> {
        self.terminal.listen_for_cancel()
    }

    fn guard_incomplete_file(&self, path: &Path) -> Box<dyn Any> {
        self.terminal.guard_incomplete_file(path)
    }
}

/// A task whose progress is shown on the terminal and in the window.
pub(super) struct ShownTask {
    on_terminal: Box<dyn Task + Sync>,
    what: std::sync::Mutex<String>,
    /// Whether the progress is shown as a count.
    counts: bool,
    done: AtomicU64,
    pub(super) of: u64,
    events: EventSender,
}

impl ShownTask {
    fn show(&self, done: u64, counts: bool) {
        let what = self
            .what
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = if counts {
            format!("{what} {done}/{}", self.of)
        } else {
            what.clone()
        };
        let share = done as f32 / self.of as f32;
        self.events.send(Event::Doing(text, Some(share)));
    }
}

impl Task for ShownTask {
    fn set(&self, done: u64) {
        self.on_terminal.set(done);
        self.done.store(done, Ordering::Relaxed);
        self.show(done, false);
    }

    fn increment(&self) {
        self.on_terminal.increment();
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(done, self.counts);
    }

    fn describe(&self, text: &str) {
        self.on_terminal.describe(text);
        text.clone_into(
            &mut self
                .what
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }
}

impl Drop for ShownTask {
    fn drop(&mut self) {
        self.events.send(Event::Done);
    }
}
