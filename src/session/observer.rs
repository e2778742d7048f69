//! Who watches a session: what it is told, how far the work is, and whether it is still wanted.

use std::any::Any;
use std::path::Path;

use serde::Serialize;

use super::Result;
use crate::train::Progress;

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For who wants to know more.
    Detail,
    /// What [`Observer::task`] says too: for who shows no progress.
    Task,
    /// What is being done.
    Note,
    /// What was dropped, guessed or is not supported, and how to change that.
    Warning,
    /// What went wrong, while something else goes on.
    Error,
    /// What was asked for.
    Result,
}

/// What [`Observer::task`] shows the progress of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// So many things, each of which counts.
    Count(u64),
    /// So many rays, of which the share that is done matters.
    Rays(u64),
    /// So many parts, while descriptions say everything.
    Live(u64),
    /// Nobody knows how much.
    Unknown,
}

/// The progress of one task; dropping it ends the task.
pub trait Task {
    /// `done` of the whole are done.
    fn set(&self, done: u64);

    /// One more is done.
    fn increment(&self);

    /// What is being done now.
    fn describe(&self, text: &str);
}

/// Watches a session and may cancel it. Every method does nothing where it is not implemented; `()` watches nothing.
pub trait Observer {
    /// A sentence for a person.
    fn message(&self, level: Level, text: &str) -> Result<()> {
        let _ = (level, text);
        Ok(())
    }

    /// A record for a program: one JSON object on one line, as in `metrics.jsonl`.
    fn record(&self, line: &str) -> Result<()> {
        let _ = line;
        Ok(())
    }

    /// How training goes, every few steps.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }

    /// A task that takes a while begins.
    fn task(&self, what: &str, scale: Scale) -> Box<dyn Task + Sync> {
        let _ = (what, scale);
        Box::new(Untold)
    }

    /// Whether work is to end, with what was trained saved. Asked often and quick to answer.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Whether a long task is still wanted, asked while it runs; an observer may do work of its own meanwhile.
    fn keep_going(&self) -> bool {
        !self.is_cancelled()
    }

    /// From now until what it returns is dropped, [`Self::is_cancelled`] and [`Self::keep_going`] are asked often.
    fn listens(&self) -> Box<dyn Any> {
        Box::new(())
    }

    /// Until what it returns is dropped, the file at `path` is incomplete, and of no use if the program ends.
    fn writes(&self, path: &Path) -> Box<dyn Any> {
        let _ = path;
        Box::new(())
    }
}

impl Observer for () {}

/// A task that is shown to nobody.
struct Untold;

impl Task for Untold {
    fn set(&self, _: u64) {}
    fn increment(&self) {}
    fn describe(&self, _: &str) {}
}

/// What an [`Observer`] is told with.
pub(crate) trait ObserverExt: Observer {
    /// A line on what is being done. Nobody need read it.
    fn note(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Note, text.as_ref());
    }

    /// A line for who wants to know more.
    fn detail(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Detail, text.as_ref());
    }

    /// A line on what begins, for who shows no tasks.
    fn task_note(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Task, text.as_ref());
    }

    /// A line on what was dropped, guessed or is not supported.
    fn warn(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Warning, text.as_ref());
    }

    /// A line of the result.
    fn result(&self, text: impl AsRef<str>) -> Result<()> {
        self.message(Level::Result, text.as_ref())
    }

    /// `value` as a record.
    fn json<T: Serialize>(&self, value: &T) -> Result<()> {
        self.record(&serde_json::to_string(value)?)
    }

    /// The same from work that goes on when nobody reads it any more.
    fn json_if_read<T: Serialize>(&self, value: &T) -> Result<()> {
        match self.json(value) {
            Err(super::Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// An error once the work is cancelled.
    fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(super::Error::Cancelled(String::new()))
        } else {
            Ok(())
        }
    }
}

impl<T: Observer + ?Sized> ObserverExt for T {}
