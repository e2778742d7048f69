//! The system's dialog for choosing a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use winit::window::Window;

/// A dialog that ends sooner than this was not seen by anybody.
const UNSEEN: Duration = Duration::from_millis(300);

/// What came of a dialog.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Chosen(PathBuf),
    Cancelled,
    /// The system could not open one.
    Unavailable,
}

/// The dialog, of which at most one is open.
pub(super) struct FolderDialog {
    wake: Arc<dyn Fn() + Send + Sync>,
    answers: (Sender<Answer>, Receiver<Answer>),
    is_open: bool,
}

impl FolderDialog {
    /// `wake` makes the window ask for the answer.
    pub(super) fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self {
            wake,
            answers: channel(),
            is_open: false,
        }
    }

    /// Open the dialog over `window`, unless it is open already.
    pub(super) fn open(&mut self, window: &Window) {
        if self.is_open {
            return;
        }
        // Some systems open dialogs only from the main thread; all let others wait for them.
        let dialog = rfd::AsyncFileDialog::new()
            .set_title("Open a dataset or a run")
            .set_parent(window)
            .pick_folder();
        let (to, wake) = (self.answers.0.clone(), Arc::clone(&self.wake));
        let waits = std::thread::Builder::new().name("folder dialog".to_owned());
        let waits = waits.spawn(move || {
            let opened = Instant::now();
            let answer = match pollster::block_on(dialog) {
                Some(folder) => Answer::Chosen(folder.path().to_owned()),
                None if opened.elapsed() < UNSEEN => Answer::Unavailable,
                None => Answer::Cancelled,
            };
            let _ = to.send(answer);
            wake();
        });
        self.is_open = waits.is_ok();
    }

    /// Return what came of the dialog, once.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.1.try_recv().ok()?;
        self.is_open = false;
        Some(answer)
    }
}
