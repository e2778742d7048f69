//! Where a command's words go: JSON lines to stdout, everything else to stderr, bars only on a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Version of the JSON lines.
pub(super) const SCHEMA: u32 = 1;

#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) json: bool,
    quiet: bool,
    verbose: bool,
    /// A window, which shows what a terminal is told too.
    #[cfg(feature = "viewer")]
    pub(super) listener: Option<crate::viewer::Outbox>,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        Self {
            json,
            quiet,
            verbose,
            #[cfg(feature = "viewer")]
            listener: None,
        }
    }

    /// A line for people.
    pub(super) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            tell(text.as_ref());
        }
        #[cfg(feature = "viewer")]
        if let Some(window) = &self.listener {
            window.send(crate::viewer::Event::Note(text.as_ref().to_owned()));
        }
    }

    /// A line for people who asked for more.
    pub(super) fn detail(&self, text: impl AsRef<str>) {
        if self.verbose {
            self.note(text);
        }
    }

    /// A result for people, on stdout unless that carries JSON.
    pub(super) fn result(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        #[cfg(feature = "viewer")]
        if let Some(window) = &self.listener {
            window.send(crate::viewer::Event::Note(text.as_ref().to_owned()));
        }
        if !self.json {
            writeln!(std::io::stdout().lock(), "{}", text.as_ref())?;
        }
        Ok(())
    }

    /// A result for programs.
    pub(super) fn json<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        if self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(value)?)?;
            out.flush()?;
        }
        Ok(())
    }

    /// A result for programs, from work that goes on when nobody reads it any more.
    pub(super) fn json_if_read<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        self.json(value).or_else(|error| {
            let io: Option<&std::io::Error> = error.downcast_ref();
            match io.map(std::io::Error::kind) {
                Some(std::io::ErrorKind::BrokenPipe) => Ok(()),
                _ => Err(error),
            }
        })
    }

    pub(super) fn error(&self, error: &anyhow::Error) {
        let message = told(error);
        tell(&format!("error: {message}"));
        if self.json {
            let line =
                serde_json::json!({ "schema": SCHEMA, "event": "error", "message": message });
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }

    /// A line that stands for a bar where there is no terminal to draw it on.
    pub(super) fn in_place_of_bar(&self, text: impl AsRef<str>) {
        if self.hidden() {
            self.note(text);
        }
    }

    fn hidden(&self) -> bool {
        self.quiet || !std::io::stderr().is_terminal()
    }

    /// A bar over `len` things.
    pub(super) fn bar(&self, len: usize, what: impl Into<Cow<'static, str>>) -> Bar {
        self.bar_like("{msg:16} {bar:32} {pos}/{len}  {eta}", len as u64, what)
    }

    /// A bar over so many rays that nobody wants to read how many.
    pub(super) fn bar_of_rays(&self, len: u64, what: impl Into<Cow<'static, str>>) -> Bar {
        self.bar_like("{msg:16} {bar:32} {percent:>3} %  {eta}", len, what)
    }

    fn bar_like(&self, template: &str, len: u64, what: impl Into<Cow<'static, str>>) -> Bar {
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar {
            bar: self.styled(ProgressBar::new(len), style, what, Some(0.0)),
            #[cfg(feature = "viewer")]
            window: self.listener.clone(),
        }
    }

    /// A bar whose message says everything.
    pub(super) fn live(&self, len: u64, what: impl Into<Cow<'static, str>>) -> ProgressBar {
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        self.styled(ProgressBar::new(len), style, what, None)
    }

    /// A sign of life.
    pub(super) fn spinner(&self, what: impl Into<Cow<'static, str>>) -> ProgressBar {
        let spinner = self.styled(
            ProgressBar::new_spinner(),
            ProgressStyle::default_spinner(),
            what,
            None,
        );
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    /// Tell the window what takes a while, and the share that is done where it can be left.
    #[cfg(feature = "viewer")]
    fn doing(&self, what: &str, share: Option<f32>) {
        if let Some(window) = &self.listener {
            window.send(crate::viewer::Event::Doing(what.to_owned(), share));
        }
    }

    fn styled(
        &self,
        bar: ProgressBar,
        style: ProgressStyle,
        what: impl Into<Cow<'static, str>>,
        share: Option<f32>,
    ) -> ProgressBar {
        let target = if self.hidden() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        bar.set_draw_target(target);
        bar.set_style(style);
        let what = what.into();
        #[cfg(feature = "viewer")]
        self.doing(&what, share);
        #[cfg(not(feature = "viewer"))]
        let _ = share;
        bar.set_message(what);
        bar
    }
}

/// A bar on the terminal, and in the window.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    bar: ProgressBar,
    #[cfg(feature = "viewer")]
    window: Option<crate::viewer::Outbox>,
}

impl Bar {
    /// One more is done.
    pub(super) fn inc(&self) {
        self.bar.inc(1);
        #[cfg(feature = "viewer")]
        {
            let (done, of) = (self.bar.position(), self.bar.length().unwrap_or(1));
            self.show(format!("{} {done}/{of}", self.bar.message()));
        }
    }

    /// So many are done.
    pub(super) fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        #[cfg(feature = "viewer")]
        self.show(self.bar.message());
    }

    /// What is being done now.
    pub(super) fn set_message(&self, text: String) {
        self.bar.set_message(text);
    }

    #[cfg(feature = "viewer")]
    fn show(&self, text: String) {
        if let Some(window) = &self.window {
            let of = self.bar.length().unwrap_or(1).max(1);
            let share = self.bar.position() as f32 / of as f32;
            window.send(crate::viewer::Event::Doing(text, Some(share)));
        }
    }

    /// All is done.
    pub(super) fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
        #[cfg(feature = "viewer")]
        if let Some(window) = &self.window {
            window.send(crate::viewer::Event::Done);
        }
    }
}

/// A line on stderr, which may be gone: what runs goes on without a terminal.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// An error with those of its causes that its own message does not tell already.
pub(super) fn told(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| {
            if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}

/// 1234567 as `1.23 M`, to be followed by a unit at once: small numbers end with the space too.
pub(super) fn short(value: impl Into<f64>) -> String {
    let value: f64 = value.into();
    match value.abs() {
        v if v >= 1e9 => format!("{:.2} G", value / 1e9),
        v if v >= 1e6 => format!("{:.2} M", value / 1e6),
        v if v >= 1e4 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0} "),
    }
}

/// Bytes as MiB or GiB.
pub(super) fn bytes(n: u64) -> String {
    let mib = n as f64 / (1024.0 * 1024.0);
    if mib >= 1024.0 {
        format!("{:.2} GiB", mib / 1024.0)
    } else {
        format!("{mib:.1} MiB")
    }
}
