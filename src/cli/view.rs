//! `kiln view` and `kiln train --view`.

use std::path::PathBuf;

use super::{Terminal, command_line, train};
use crate::session::{OpenWindow, Result, WindowContent, WindowOptions};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln view                          an empty window: drop a dataset or a run on it, or open the demo
  kiln view runs/lego-ngp            look around in a trained scene
  kiln view data/fox                 train on a dataset and watch

Press ? in the window for a list of keys.")]
pub(super) struct Args {
    /// Run directory or checkpoint to view, or dataset to train on
    what: Option<PathBuf>,
    /// Run a script of user actions, for tests
    #[arg(long, value_name = "FILE", hide = true)]
    script: Option<PathBuf>,
}

/// Open a window with the run or dataset that `args` name.
pub(super) fn run(terminal: &Terminal, args: &Args, open: OpenWindow) -> Result<()> {
    let options = WindowOptions {
        gpu: terminal.options.clone(),
        content: args.what.clone().map(WindowContent::Path),
        command: command_line(),
        script: args.script.clone(),
    };
    open(options, Box::new(terminal.clone()))
}

/// Train in a window with the options in `args`.
pub(super) fn train(terminal: &Terminal, args: &train::Args, open: OpenWindow) -> Result<()> {
    let options = WindowOptions {
        gpu: terminal.options.clone(),
        content: Some(WindowContent::Fit(Box::new(args.options()))),
        command: command_line(),
        script: args.view_script.clone(),
    };
    open(options, Box::new(terminal.clone()))
}
