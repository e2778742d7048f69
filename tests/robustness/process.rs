//! Runs the program and measures its time, memory and exit code.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use wait4::Wait4;

/// Wall-clock time after which a process counts as hung, even on a busy machine.
const HANG: Duration = Duration::from_mins(2);

/// Outcome of a process.
pub struct Outcome {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stderr: String,
    pub stdout: String,
    /// CPU time over all cores, in seconds.
    pub cpu_seconds: f64,
    /// Peak memory, in bytes.
    pub bytes: u64,
}

/// Run `command` to its end; kill it if it hangs.
pub fn run(command: &mut Command) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    // Use files, because pipes that nobody reads would fill up.
    let child = command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .env_remove("RUST_BACKTRACE")
        .spawn()
        .unwrap();
    let id = child.id();
    let (done, is_done) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if is_done.recv_timeout(HANG).is_err() {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        }
    });
    let usage = child.wait4().unwrap();
    let _ = done.send(());
    watch.join().unwrap();
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    Outcome {
        code: usage.status.code(),
        stderr: text(&err),
        stdout: text(&out),
        cpu_seconds: (usage.rusage.utime + usage.rusage.stime).as_secs_f64(),
        bytes: usage.rusage.maxrss,
    }
}
