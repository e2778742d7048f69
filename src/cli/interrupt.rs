//! Ctrl-C, a polite kill, and a terminal that is closed: the first asks what runs to save and stop, the second quits.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

static ASKED: AtomicBool = AtomicBool::new(false);
/// How many parts of the program look at [`ASKED`] in time.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
static HANDLER: Once = Once::new();
/// Files under way, which go away with the program.
static INCOMPLETE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What follows the first signal sooner is that signal again: `timeout` and others send theirs to a process and then to its
/// whole group.
const AGAIN: Duration = Duration::from_secs(1);

/// Exit code of a program that was interrupted, as shells have it: 128 + SIGINT.
pub(super) const EXIT_CODE: u8 = 130;

/// While this lives, an interruption waits for [`is_asked`].
pub(super) struct Listener(());

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Listen from here on; where nobody listens an interruption ends the program at once.
pub(super) fn listen() -> Listener {
    LISTENERS.fetch_add(1, Ordering::SeqCst);
    HANDLER.call_once(|| {
        // Without a handler the system's own applies: the program ends, and the last checkpoint stays.
        let mut first: Option<Instant> = None;
        let _ = ctrlc::set_handler(move || {
            let since = first.get_or_insert_with(Instant::now).elapsed();
            let is_second = ASKED.swap(true, Ordering::SeqCst) && since > AGAIN;
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

/// A file that is not to be left behind half-written, while this lives.
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

/// Whether the user asked to stop.
pub(super) fn is_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
