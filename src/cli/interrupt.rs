//! Ctrl-C, a polite kill, and a terminal that is closed: the first asks what runs to save and stop, the second quits.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);
/// How many parts of the program look at [`ASKED`] in time.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
static HANDLER: Once = Once::new();

/// Exit code of a program that was interrupted, as shells have it: 128 + SIGINT.
pub(super) const EXIT_CODE: u8 = 130;

/// The user asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted{0}")]
pub(super) struct Interrupted(pub(super) String);

/// While this lives, an interruption waits for [`Listener::check`].
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
        let _ = ctrlc::set_handler(|| {
            let is_second = ASKED.swap(true, Ordering::SeqCst);
            if is_second || LISTENERS.load(Ordering::SeqCst) == 0 {
                std::process::exit(i32::from(EXIT_CODE));
            }
        });
    });
    Listener(())
}

/// Whether the user asked to stop.
pub(super) fn is_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

impl Listener {
    /// An error once the user has asked to stop.
    pub(super) fn check() -> Result<(), Interrupted> {
        if is_asked() {
            Err(Interrupted(String::new()))
        } else {
            Ok(())
        }
    }
}
