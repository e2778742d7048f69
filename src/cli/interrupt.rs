//! SIGINT (Ctrl-C), SIGTERM and SIGHUP: the first signal asks the running work to save and stop, the second quits at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Number of live [`Listener`]s, whose owners poll [`ASKED`] often.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
static HANDLER: Once = Once::new();
/// Files that are being written; they are deleted if a signal ends the program.
static INCOMPLETE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A second signal within this time counts as a repetition of the first: `timeout` and other programs signal a process and then
/// its whole process group.
const AGAIN: Duration = Duration::from_secs(1);

/// Exit code of an interrupted program, as in shells: 128 + SIGINT.
pub(super) const EXIT_CODE: u8 = 130;

/// While a listener exists, the first signal only sets [`is_asked`].
pub(super) struct Listener(());

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Return a new listener. Without any listener, a signal ends the program at once.
pub(super) fn listen() -> Listener {
    LISTENERS.fetch_add(1, Ordering::SeqCst);
    HANDLER.call_once(|| {
        // If no handler can be set, the system's default applies: the program ends, and the last checkpoint remains.
        let mut first: Option<Instant> = None;
        let _ = ctrlc::set_handler(move || {
            let since = first.get_or_insert_with(Instant::now).elapsed();
            let is_second = INTERRUPTED.swap(true, Ordering::SeqCst) && since > AGAIN;
            if is_second || LISTENERS.load(Ordering::SeqCst) == 0 {
                let incomplete = INCOMPLETE.lock().unwrap_or_else(PoisonError::into_inner);
                for path in incomplete.iter() {
                    let _ = std::fs::remove_file(path);
                }
                std::process::exit(i32::from(EXIT_CODE));
            }
        });
    });
    Listener(())
}

/// Marks a file as incomplete until it is dropped; if a signal ends the program, the file is deleted.
pub(super) struct Incomplete(PathBuf);

impl Incomplete {
    pub(super) fn at(path: &Path) -> Self {
        let mut all = INCOMPLETE.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Incomplete {
    fn drop(&mut self) {
        let mut all = INCOMPLETE.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|path| *path != self.0);
    }
}

/// Return whether the user has asked to stop.
pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
