//! `kiln view`, and `--view` of training: what the window's engine does.

mod easel;
mod engine;
mod errand;

use std::path::{Path, PathBuf};

use super::{Session, train};
use crate::viewer::{self, Choice};
use engine::What;
pub(super) use engine::{Desk, train_on};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln view                          an empty window: drop a dataset or a run on it, or try the built-in scene
  kiln view runs/lego-ngp            look around in what a run has learned
  kiln view data/fox                 train on a dataset, and watch

? in the window lists its keys.")]
pub(super) struct Args {
    /// Run directory or checkpoint to look at, or dataset to train on
    what: Option<PathBuf>,
    /// Do what a file of actions says, for tests
    #[arg(long, value_name = "FILE", hide = true)]
    script: Option<PathBuf>,
}

/// Open a window on what `args` name.
pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let what = args
        .what
        .clone()
        .map(|path| What::Path(Choice { path, method: None }));
    in_window(session, what, args.script.as_deref())
}

/// Train as `args` say, in a window.
pub(super) fn train(session: &Session, args: &train::Args) -> anyhow::Result<()> {
    let what = What::Train(Box::new(args.clone()));
    in_window(session, Some(what), args.view_script.as_deref())
}

fn in_window(session: &Session, what: Option<What>, script: Option<&Path>) -> anyhow::Result<()> {
    let (options, mut out) = (session.options.clone(), session.out.clone());
    viewer::run(script, move |commands, outbox| {
        out.listener = Some(outbox.clone());
        let desk = Some(Desk::new(commands, outbox, &out));
        let session = Session { options, out, desk };
        engine::work(&session, what)
    })?
}
