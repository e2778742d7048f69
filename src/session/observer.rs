//! The observer of a session: it receives messages, records and progress, and may cancel the work.

use std::any::Any;
use std::path::Path;

use serde::Serialize;

use super::Result;
use crate::train::Progress;

/// Kind and importance of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Details for verbose output.
    Detail,
    /// The start of a task that [`Observer::task`] reports too; for observers that show no progress.
    Task,
    /// What is being done.
    Note,
    /// Something that was dropped, guessed or is not supported, and how to change that.
    Warning,
    /// A failure.
    Error,
    /// A line of the result that the user asked for.
    Result,
}

/// Unit and length of a task's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// This many items; show the number done.
    Count(u64),
    /// This many rays; show the percentage done.
    Rays(u64),
    /// This many parts; show the percentage done and the task's description, which changes often.
    Fraction(u64),
    /// Unknown length.
    Unknown,
}

/// The progress of one task; dropping it ends the task.
pub trait Task {
    /// Set the number of units done.
    fn set(&self, done: u64);

    /// Add one unit.
    fn increment(&self);

    /// Set the description of what is being done now.
    fn describe(&self, text: &str);
}

/// Watches a session and may cancel it. Every method has a default that does nothing; `()` implements the trait with the
/// defaults.
///
/// # Errors
/// An error of [`Self::message`] or [`Self::record`] means that the output cannot be written, such as a closed pipe. It ends
/// the session, except for notes and warnings, whose errors are ignored.
pub trait Observer {
    /// Show a sentence to the user.
    fn message(&self, level: Level, text: &str) -> Result<()> {
        let _ = (level, text);
        Ok(())
    }

    /// Write a record for programs: one JSON object on one line, as in `metrics.jsonl`.
    fn record(&self, line: &str) -> Result<()> {
        let _ = line;
        Ok(())
    }

    /// Report training statistics, every few steps.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }

    /// Report the start of a task that takes a while; the returned [`Task`] receives its progress.
    fn task(&self, what: &str, scale: Scale) -> Box<dyn Task + Sync> {
        let _ = (what, scale);
        Box::new(SilentTask)
    }

    /// Return whether the user has asked to stop; training then saves a checkpoint and returns [`super::Error::Cancelled`].
    /// Called often, so it must be fast.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Return whether to continue a long task (rendering, evaluation, extraction); called between its submissions. Unlike in
    /// [`Self::is_cancelled`], an observer may do other work in this call, such as updating its window.
    fn keep_going(&self) -> bool {
        !self.is_cancelled()
    }

    /// Announce that [`Self::is_cancelled`] and [`Self::keep_going`] are called often until the returned value is dropped.
    fn listen_for_cancel(&self) -> Box<dyn Any> {
        Box::new(())
    }

    /// Announce that the file at `path` is incomplete until the returned value is dropped; if the program ends before, the file
    /// is useless.
    fn guard_incomplete_file(&self, path: &Path) -> Box<dyn Any> {
        let _ = path;
        Box::new(())
    }
}

impl Observer for () {}

/// A task whose progress is not shown.
struct SilentTask;

impl Task for SilentTask {
    fn set(&self, _: u64) {}
    fn increment(&self) {}
    fn describe(&self, _: &str) {}
}

/// Shorthands for the methods of [`Observer`].
pub(crate) trait ObserverExt: Observer {
    /// Show what is being done. Errors are ignored.
    fn note(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Note, text.as_ref());
    }

    /// Show a detail. Errors are ignored.
    fn detail(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Detail, text.as_ref());
    }

    /// Show the start of a task, for observers that show no progress. Errors are ignored.
    fn task_note(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Task, text.as_ref());
    }

    /// Show a warning. Errors are ignored.
    fn warn(&self, text: impl AsRef<str>) {
        let _ = self.message(Level::Warning, text.as_ref());
    }

    /// Show a line of the result.
    fn result(&self, text: impl AsRef<str>) -> Result<()> {
        self.message(Level::Result, text.as_ref())
    }

    /// Write `value` as a record.
    fn json<T: Serialize>(&self, value: &T) -> Result<()> {
        self.record(&serde_json::to_string(value)?)
    }

    /// Write `value` as a record, but ignore a closed pipe: the work continues if nobody reads its records.
    fn json_if_read<T: Serialize>(&self, value: &T) -> Result<()> {
        match self.json(value) {
            Err(super::Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Return [`super::Error::Cancelled`] if the user has asked to stop.
    fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(super::Error::Cancelled(String::new()))
        } else {
            Ok(())
        }
    }
}

impl<T: Observer + ?Sized> ObserverExt for T {}
