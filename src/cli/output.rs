//! Output of the commands: results and JSON lines go to stdout, everything else to stderr; progress bars only on a terminal.

use std::any::Any;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::interrupt::{self, Incomplete};
use crate::gpu::{Gpu, GpuError, GpuOptions};
use crate::session::run_log::SCHEMA;
use crate::session::{Level, Observer, ObserverExt as _, Result, Scale, Task};

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
        let (template, length) = match scale {
            Scale::Count(n) => ("{msg:16} {bar:32} {pos}/{len}  {eta}", Some(n)),
            Scale::Rays(n) => ("{msg:16} {bar:32} {percent:>3} %  {eta}", Some(n)),
            Scale::Fraction(n) => ("{bar:24} {percent:>3} %  {msg}", Some(n)),
            Scale::Unknown => ("{spinner} {msg}", None),
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
