//! The command line. Only this module and the window know about terminals, flags and exit codes.

mod bench;
mod demo;
mod devices;
mod distill;
mod eval;
mod flags;
mod help;
mod import;
mod inspect;
mod interrupt;
mod meta;
mod output;
mod prepare;
mod render;
mod train;
#[cfg(feature = "viewer")]
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::gpu::GpuOptions;
#[cfg(feature = "viewer")]
use crate::session::OpenWindow;
use crate::session::{Error, Level, Observer as _, Result};
use output::Terminal;

/// Train, evaluate and render neural radiance fields on any GPU.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "Examples:
  kiln demo                                      train, evaluate and render a small built-in scene
  kiln prepare desk.mp4 --out desk               make a dataset of a video, or of photographs
  kiln inspect data/lego                         check a dataset before training
  kiln train data/lego --seconds 60              train, then evaluate on held-out views
  kiln render runs/lego-ngp --turntable 48 --out orbit.gif

Exit codes: 0 success, 1 failure, 2 bad usage, 130 interrupted (training saves a checkpoint first).";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Adapter to use: its number, or part of its name, as listed by `kiln devices` [env: `KILN_DEVICE`]
    #[arg(long, global = true, value_name = "NAME|N")]
    device: Option<String>,
    /// Print only machine-readable JSON lines on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Print only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more details on stderr
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train, evaluate and render the built-in scene
    Demo(demo::Args),
    /// List the adapters (GPUs and software renderers) of this machine
    #[command(
        after_help = "Examples:\n  kiln devices\n  kiln devices --json | jq .name\n  kiln train data/lego --device radeon       select by part of the name; also --device 1 or KILN_DEVICE=1"
    )]
    Devices,
    /// Make a dataset of a video or of photographs, with ffmpeg and COLMAP
    Prepare(prepare::Args),
    /// Check a dataset before training on it, or summarise a run
    Inspect(inspect::Args),
    /// Train a radiance field from posed images
    Train(Box<train::Args>),
    /// Distil a run into a grid of tiny networks, for fast rendering
    Distill(Box<distill::Args>),
    /// Meta-learn an initialisation from many objects
    Meta(Box<meta::Args>),
    /// Evaluate a meta-learned initialisation on held-out objects
    MetaEval(Box<meta::EvalArgs>),
    /// Evaluate a run on images it was not trained on
    Eval(eval::Args),
    /// Render views of a run, an orbit around its scene, or a camera path
    Render(Box<render::Args>),
    /// Open a window to watch training or look around in a trained scene
    #[cfg(feature = "viewer")]
    View(view::Args),
    /// Import a model trained by another program
    Import(Box<import::Args>),
    /// Benchmark the stages of training, or rendering, on this machine
    Bench(bench::Args),
    /// Print a shell completion script
    Completions(help::CompletionsArgs),
    /// Write manual pages
    Man(help::ManArgs),
}

/// Quote an argument so that it can be pasted into a shell.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// Return the command line, quoted so that it can be pasted into a shell.
fn command_line() -> String {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|a| quoted(&a.to_string_lossy()));
    std::iter::once("kiln".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Run the program; `window` opens the window of `kiln view`. The exit code is 0 (success), 1 (failure), 2 (bad usage) or 130
/// (interrupted).
#[must_use]
pub fn main(#[cfg(feature = "viewer")] window: OpenWindow) -> ExitCode {
    let cli = Cli::parse();
    let options = GpuOptions {
        device: cli.global.device.clone(),
        base_path: false,
        class: None,
        checked: None,
    };
    let Global {
        json,
        quiet,
        verbose,
        ..
    } = cli.global;
    let terminal = Terminal::new(options, json, quiet, verbose);
    let outcome = match &cli.command {
        None => help::welcome(&terminal),
        #[cfg(feature = "viewer")]
        Some(command) => command.run(&terminal, window),
        #[cfg(not(feature = "viewer"))]
        Some(command) => command.run(&terminal),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) if error.is_cancelled() => {
            terminal.interrupted(&error.full_message());
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            let _ = terminal.message(Level::Error, &error.full_message());
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}

impl Command {
    fn run(
        &self,
        terminal: &Terminal,
        #[cfg(feature = "viewer")] window: OpenWindow,
    ) -> Result<()> {
        match self {
            #[cfg(feature = "viewer")]
            Self::View(args) => view::run(terminal, args, window),
            #[cfg(feature = "viewer")]
            Self::Train(args) if args.view => view::train(terminal, args, window),
            Self::Demo(args) => demo::run(terminal, args),
            Self::Devices => devices::run(terminal),
            Self::Prepare(args) => prepare::run(terminal, args),
            Self::Inspect(args) => inspect::run(terminal, args),
            Self::Train(args) => train::run(terminal, args),
            Self::Distill(args) => distill::run(terminal, args),
            Self::Meta(args) => meta::run(terminal, args),
            Self::MetaEval(args) => meta::evaluate(terminal, args),
            Self::Eval(args) => eval::run(terminal, args),
            Self::Render(args) => render::run(terminal, args),
            Self::Import(args) => import::run(terminal, args),
            Self::Bench(args) => bench::run(terminal, args),
            Self::Completions(args) => help::completions(args),
            Self::Man(args) => help::man(terminal, args),
        }
    }
}
