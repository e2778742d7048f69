//! Runs other programs: their output goes to a log, line by line through a callback, and the user can cancel them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::super::{Error, Observer, Result};
use crate::text::one_line;

/// Interval at which cancelling is looked for while a program says nothing.
const POLL: Duration = Duration::from_millis(100);
/// Number of last lines that may hold the reason of a failure.
const LAST_LINES: usize = 40;

/// A child process that is ended when it is dropped.
pub(super) struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None) | Err(_)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Return a command for `program` in its own process group: Ctrl-C in a terminal signals the whole group of this program, which
/// ends its children itself.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// Start `command`, which is an error with the way to install the program if it does not exist.
pub(super) fn start(command: &mut Command, tool: Tool) -> Result<Running> {
    let child = command.spawn();
    child
        .map(Running)
        .map_err(|e| cannot_start(command, tool, &e))
}

fn cannot_start(command: &Command, tool: Tool, error: &std::io::Error) -> Error {
    let program = Path::new(command.get_program());
    match error.kind() {
        ErrorKind::NotFound => tool.missing(program),
        _ => Error::failed(format!("{} cannot be started: {error}", program.display())),
    }
}

/// Run `command` to its end. Its output is appended to `log`, and each line is passed to `on_line`.
///
/// # Errors
/// [`Error::Cancelled`] if the observer cancels, with the program ended; [`Error::Failed`] with its last words if it crashes.
pub(super) fn run_to_end(
    observer: &dyn Observer,
    command: &mut Command,
    tool: Tool,
    log: &Path,
    on_line: &mut dyn FnMut(&str),
) -> Result<Ending> {
    let cannot_log = |e| Error::failed(format!("cannot write {}: {e}", log.display()));
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(cannot_log)?;
    writeln!(file, "$ {}", shown(command)).map_err(cannot_log)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command, tool)?;
    let (sender, lines) = channel();
    if let Some(pipe) = child.0.stdout.take() {
        read_lines(pipe, &sender);
    }
    if let Some(pipe) = child.0.stderr.take() {
        read_lines(pipe, &sender);
    }
    drop(sender);
    let mut last: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                writeln!(file, "{line}").map_err(cannot_log)?;
                on_line(&line);
                if !line.trim().is_empty() {
                    last.push(line);
                    let surplus = last.len().saturating_sub(LAST_LINES);
                    last.drain(..surplus);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        go_on(observer)?;
    }
    let status = child
        .0
        .wait()
        .map_err(|e| Error::failed(format!("{} cannot be waited for: {e}", tool.name())))?;
    if status.success() {
        return Ok(Ending::Success);
    }
    let failure = Error::failed(format!(
        "{} failed ({status}){}: its output is in {}",
        tool.name(),
        reason(&last, tool).map_or_else(String::new, |line| format!(": {}", one_line(line.trim()))),
        log.display()
    ));
    // A signal ended it: memory was short, or it is faulty.
    match status.code() {
        None => Err(failure),
        Some(_) => Ok(Ending::Failure(failure)),
    }
}

/// Run `command` as [`run_to_end`] does; a failure is an error.
pub(super) fn run(
    observer: &dyn Observer,
    command: &mut Command,
    tool: Tool,
    log: &Path,
    on_line: &mut dyn FnMut(&str),
) -> Result<()> {
    match run_to_end(observer, command, tool, log, on_line)? {
        Ending::Success => Ok(()),
        Ending::Failure(error) => Err(error),
    }
}

/// How a program that was not interrupted ended.
pub(super) enum Ending {
    Success,
    /// With an exit code, which the error names.
    Failure(Error),
}

/// Return the line that most likely says why a program failed.
fn reason(lines: &[String], tool: Tool) -> Option<&String> {
    let is_error = |line: &&String| {
        let line = line.to_ascii_lowercase();
        // A trace of the calls follows a failed check.
        let is_call = line.trim_start().starts_with("@ 0x");
        !is_call && (line.contains("error") || line.contains("fail") || line.contains("cannot"))
    };
    let check = lines.iter().find(|line| line.contains("Check failed"));
    match tool {
        // What follows the first is a consequence.
        Tool::Ffmpeg => lines.iter().find(is_error),
        Tool::Colmap => check.or_else(|| lines.iter().rfind(is_error)),
    }
    .or(lines.last())
}

/// Return [`Error::Cancelled`] if the user has asked to stop.
pub(super) fn go_on(observer: &dyn Observer) -> Result<()> {
    if observer.keep_going() {
        Ok(())
    } else {
        Err(Error::Cancelled(
            ": finished stages are kept, and preparing it again goes on from there".to_owned(),
        ))
    }
}

fn read_lines(pipe: impl Read + Send + 'static, sender: &Sender<String>) {
    let sender = sender.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes);
            if sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
            bytes.clear();
        }
    });
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// A program that must be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Ffmpeg,
    Colmap,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ffmpeg => "ffmpeg",
            Self::Colmap => "colmap",
        }
    }

    /// Return the error for the program that is not at `path`.
    pub fn missing(self, path: &Path) -> Error {
        let (purpose, name) = match self {
            Self::Ffmpeg => ("which takes frames from a video", "ffmpeg"),
            Self::Colmap => ("which finds the positions of the cameras", "colmap"),
        };
        let windows = match self {
            Self::Ffmpeg => "winget install ffmpeg",
            Self::Colmap => "download it from https://github.com/colmap/colmap/releases",
        };
        Error::usage(format!(
            "{} is not here: install {name}, {purpose}: Debian and Ubuntu, sudo apt install {name}; Fedora, sudo dnf install \
             {name}; Arch, sudo pacman -S {name}; macOS, brew install {name}; Windows, {windows}; or name it with --{name} PATH",
            path.display()
        ))
    }
}

/// Run `command` and return what it prints, of which it is expected little.
pub(super) fn output(command: &mut Command, tool: Tool) -> Result<String> {
    let result = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    let output = result.map_err(|e| cannot_start(command, tool, &e))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(text(&output.stdout) + &text(&output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failure_is_its_last_error() {
        let lines = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all = lines(&["opening", "ERROR: no such file", "done"]);
        assert_eq!(reason(&all, Tool::Colmap).unwrap(), "ERROR: no such file");
        let two = lines(&["Error initializing filter", "Error while decoding"]);
        assert_eq!(
            reason(&two, Tool::Ffmpeg).unwrap(),
            "Error initializing filter"
        );
        assert_eq!(
            reason(&lines(&["one", "two"]), Tool::Ffmpeg).unwrap(),
            "two"
        );
        assert_eq!(reason(&[], Tool::Colmap), None);
        let crash = [
            "F01 file.cc:12] Check failed: file.is_open() /tree",
            "*** Check failure stack trace: ***",
            "    @ 0x7f google::LogMessage::Fail()",
        ];
        assert_eq!(reason(&lines(&crash), Tool::Colmap).unwrap(), crash[0]);
    }

    #[cfg(unix)]
    #[test]
    fn programs_are_logged_and_their_failure_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        let mut lines = Vec::new();
        let mut shell = command(Path::new("sh"));
        shell.args(["-c", "echo one; echo two >&2; echo bad failure; exit 3"]);
        let result = run(&(), &mut shell, Tool::Colmap, &log, &mut |line| {
            lines.push(line.to_owned());
        });
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("bad failure") && text.contains("a.log"),
            "{text}"
        );
        lines.sort();
        assert_eq!(lines, ["bad failure", "one", "two"]);
        let logged = std::fs::read_to_string(&log).unwrap();
        assert!(
            logged.starts_with("$ sh -c") && logged.contains("two"),
            "{logged}"
        );
        let missing = run(
            &(),
            &mut command(Path::new("/nowhere/colmap")),
            Tool::Colmap,
            &log,
            &mut |_| (),
        );
        let text = missing.unwrap_err().to_string();
        for part in [
            "/nowhere/colmap",
            "apt install colmap",
            "brew install colmap",
            "--colmap",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_cancelled_program_is_ended() {
        struct Cancelled;
        impl Observer for Cancelled {
            fn is_cancelled(&self) -> bool {
                true
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        let mut sleep = command(Path::new("sleep"));
        sleep.arg("60");
        let started = std::time::Instant::now();
        let result = run(&Cancelled, &mut sleep, Tool::Colmap, &log, &mut |_| ());
        assert!(matches!(result, Err(Error::Cancelled(_))));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
