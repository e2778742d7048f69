//! Output of the commands: results and JSON lines go to stdout, everything else to stderr; progress bars only on a terminal.

use std::any::Any;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::interrupt::{self, Incomplete};
use crate::gpu::{Gpu, GpuError, GpuOptions};
use crate::session::run_log::SCHEMA;
use crate::session::{Level, Observer, ObserverExt as _, Result, Scale, Task};

/// Times after the start of a task and between lines of its progress, if there are no bars.
const FIRST_LINE: Duration = Duration::from_secs(10);
const LAST_LINE: Duration = Duration::from_mins(1);

/// The terminal that the program runs in, and the device that its flags select.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    pub(super) options: GpuOptions,
    json: bool,
    quiet: bool,
    verbose: bool,
    /// All progress bars; they are suspended while a line is written.
    bars: MultiProgress,
}

impl Terminal {
    pub(super) fn new(options: GpuOptions, json: bool, quiet: bool, verbose: bool) -> Self {
        let target = if quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            options,
            json,
            quiet,
            verbose,
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// Open the device and print its name.
    pub(super) fn open_gpu(&self) -> Result<Arc<Gpu>, GpuError> {
        let gpu = Gpu::open(&self.options)?;
        self.note(format!("device: {}", gpu.description()));
        Ok(gpu)
    }

    /// Report that the user interrupted the work: wanted, so not an error.
    pub(super) fn interrupted(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
        let line = serde_json::json!({ "schema": SCHEMA, "event": "interrupted", "message": text });
        // stdout may be closed.
        let _ = self.record(&line.to_string());
    }

    /// Print the commands that continue from the run in `dir`.
    pub(super) fn suggest_next(&self, dir: &Path) {
        let run = dir.display();
        if cfg!(feature = "viewer") {
            self.note(format!("look around in it: kiln view {run}"));
        }
        self.note(format!(
            "render it: kiln render {run} --turntable 24 --out orbit.gif; train it further: kiln train --resume {run} --seconds … (counted from its start)"
        ));
    }

    /// Print a line on stderr. Errors are ignored: work continues if the terminal is closed.
    fn line(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }
}

impl Observer for Terminal {
    fn message(&self, level: Level, text: &str) -> Result<()> {
        match level {
            Level::Error => {
                self.line(&format!("error: {text}"));
                let line =
                    serde_json::json!({ "schema": SCHEMA, "event": "error", "message": text });
                // stdout may be closed.
                let _ = self.record(&line.to_string());
            }
            Level::Detail if !self.verbose => {}
            Level::Task if !self.bars.is_hidden() => {}
            Level::Result if self.json => {}
            Level::Result => self
                .bars
                .suspend(|| writeln!(std::io::stdout().lock(), "{text}"))?,
            _ if self.quiet => {}
            Level::Warning => self.line(&format!("warning: {text}")),
            Level::Detail | Level::Task | Level::Note => self.line(text),
        }
        Ok(())
    }

    fn record(&self, line: &str) -> Result<()> {
        if self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        Ok(())
    }

    fn task(&self, what: &str, scale: Scale) -> Box<dyn Task + Sync> {
        if self.bars.is_hidden() {
            return Box::new(Lines::new(self, what, scale));
        }
        // Lines that are wider than the terminal would be wrapped, and remain on the screen.
        let (template, length) = match scale {
            Scale::Count(n) => ("{bar:16} {pos}/{len}  {eta}  {wide_msg}", Some(n)),
            Scale::Rays(n) => ("{bar:16} {percent:>3} %  {eta}  {wide_msg}", Some(n)),
            Scale::Fraction(n) => ("{bar:16} {percent:>3} %  {wide_msg}", Some(n)),
            Scale::Unknown => ("{spinner} {wide_msg}", None),
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let bar = self
            .bars
            .add(bar.with_style(style).with_message(what.to_owned()));
        if length.is_none() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Box::new(Bar(bar))
    }

    fn is_cancelled(&self) -> bool {
        interrupt::is_interrupted()
    }

    fn listen_for_cancel(&self) -> Box<dyn Any> {
        Box::new(interrupt::listen())
    }

    fn guard_incomplete_file(&self, path: &Path) -> Box<dyn Any> {
        Box::new(Incomplete::at(path))
    }
}

/// Progress for a terminal without bars, such as a pipe: a line now and then, so that long work is seen to go on.
struct Lines {
    terminal: Terminal,
    scale: Scale,
    started: Instant,
    state: Mutex<LineState>,
}

struct LineState {
    text: String,
    done: u64,
    /// Time of the next line after the start.
    next: Duration,
}

impl Lines {
    fn new(terminal: &Terminal, what: &str, scale: Scale) -> Self {
        Self {
            terminal: terminal.clone(),
            scale,
            started: Instant::now(),
            state: Mutex::new(LineState {
                text: what.to_owned(),
                done: 0,
                next: FIRST_LINE,
            }),
        }
    }

    /// Apply `change`, and print a line if one is due.
    fn update(&self, change: impl FnOnce(&mut LineState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let elapsed = self.started.elapsed();
        if elapsed < state.next || self.terminal.quiet {
            return;
        }
        // The longer the work takes, the rarer are the lines.
        state.next = elapsed + (elapsed / 4).clamp(FIRST_LINE, LAST_LINE);
        let LineState { text, done, .. } = &*state;
        let percent = |n: u64| 100 * done / n.max(1);
        self.terminal.line(&match self.scale {
            Scale::Count(n) => format!("{text}: {done} of {n}"),
            Scale::Rays(n) | Scale::Fraction(n) => format!("{:>3} %  {text}", percent(n)),
            Scale::Unknown => text.clone(),
        });
    }
}

impl Task for Lines {
    fn set(&self, done: u64) {
        self.update(|state| state.done = done);
    }

    fn increment(&self) {
        self.update(|state| state.done += 1);
    }

    fn describe(&self, text: &str) {
        self.update(|state| text.clone_into(&mut state.text));
    }
}

/// A progress bar that is cleared when it is dropped.
struct Bar(ProgressBar);

impl Task for Bar {
    fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    fn increment(&self) {
        self.0.inc(1);
    }

    fn describe(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
