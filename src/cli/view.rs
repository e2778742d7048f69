//! `kiln view`, and `--view` of training.

use std::path::PathBuf;

use super::{Terminal, command_line, train};
use crate::session::{OpenWindow, Result, WindowContent, WindowOptions};

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
pub(super) fn run(terminal: &Terminal, args: &Args, open: OpenWindow) -> Result<()> {
    let options = WindowOptions {
        gpu: terminal.options.clone(),
        content: args.what.clone().map(WindowContent::Path),
        command: command_line(),
        script: args.script.clone(),
    };
    open(options, Box::new(terminal.clone()))
}

/// Train as `args` say, in a window.
pub(super) fn train(terminal: &Terminal, args: &train::Args, open: OpenWindow) -> Result<()> {
    let options = WindowOptions {
        gpu: terminal.options.clone(),
        content: Some(WindowContent::Fit(Box::new(args.options()))),
        command: command_line(),
        script: args.view_script.clone(),
    };
    open(options, Box::new(terminal.clone()))
}
