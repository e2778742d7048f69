//! The command line: the only part of kiln, with the window, that knows about terminals, flags and exit codes.

mod bench;
mod canvas;
mod demo;
mod devices;
mod distill;
mod eval;
mod help;
mod import;
mod inspect;
mod interrupt;
mod journal;
mod meta;
mod output;
mod pace;
mod render;
mod scene;
mod sink;
mod train;
#[cfg(feature = "viewer")]
mod view;
mod views;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::gpu::{Gpu, GpuError, GpuOptions};
use crate::run::RunError;
use interrupt::Interrupted;
use output::Output;

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
  kiln demo                                      everything once, on a small scene of its own
  kiln inspect data/lego                         is the dataset fit to train on?
  kiln train data/lego --seconds 60              train, then measure on views not trained on
  kiln render runs/lego-ngp --turntable 48 --out orbit.gif

Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted (train has saved what it had).";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Adapter to use: its number or a part of its name, as `kiln devices` lists them [env: `KILN_DEVICE`]
    #[arg(long, global = true, value_name = "NAME|N")]
    device: Option<String>,
    /// Print machine-readable JSON lines on stdout and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Say less on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the built-in scene, train on it, evaluate and render it
    Demo(demo::Args),
    /// List the adapters of this machine
    #[command(
        after_help = "Examples:\n  kiln devices\n  kiln devices --json | jq .name\n  kiln train data/lego --device radeon       by a part of its name, or --device 1, or KILN_DEVICE=1"
    )]
    Devices,
    /// Examine a dataset before training on it, or a run
    Inspect(inspect::Args),
    /// Train a radiance field from posed images
    Train(Box<train::Args>),
    /// Teach a grid of tiny networks what a run has learned, for fast rendering
    Distill(Box<distill::Args>),
    /// Learn from many objects what a new one begins with
    Meta(Box<meta::Args>),
    /// Measure what a learned beginning is worth
    MetaEval(Box<meta::EvalArgs>),
    /// Measure a run against images it was not trained on
    Eval(eval::Args),
    /// Render views of a run, or an orbit around it
    Render(Box<render::Args>),
    /// Open a window: watch training, look around in a run
    #[cfg(feature = "viewer")]
    View(view::Args),
    /// Make a run of a field that another program trained
    Import(Box<import::Args>),
    /// Time every stage on this machine
    Bench(bench::Args),
    /// Print a script that completes kiln's commands and flags in a shell
    Completions(help::CompletionsArgs),
    /// Write manual pages
    Man(help::ManArgs),
}

/// A wrong use of flags: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// What a command shares: the device that was asked for, and where output goes.
struct Session {
    options: GpuOptions,
    out: Output,
    /// Of the engine of a window.
    #[cfg(feature = "viewer")]
    desk: Option<view::Desk>,
}

impl Session {
    fn open_gpu(&self) -> Result<Arc<Gpu>, GpuError> {
        let open = |options: &GpuOptions| {
            let gpu = Gpu::open(options)?;
            self.out.note(format!("device: {}", gpu.description()));
            Ok(gpu)
        };
        #[cfg(feature = "viewer")]
        if let Some(desk) = &self.desk {
            return desk.gpu(&self.options, open);
        }
        open(&self.options)
    }

    /// Whether what takes long is still wanted; asked while it is done, for a window to have its part meanwhile.
    #[cfg_attr(
        not(feature = "viewer"),
        expect(clippy::unused_self, reason = "only a window wants anything")
    )]
    fn keep_going(&self) -> bool {
        #[cfg(feature = "viewer")]
        if let Some(desk) = &self.desk {
            return desk.breathe() && !interrupt::is_asked();
        }
        !interrupt::is_asked()
    }
}

/// Run the program; the exit code is 0, 1 (failed) or 2 (bad usage).
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let session = Session {
        options: GpuOptions {
            device: cli.global.device.clone(),
            base_path: false,
        },
        out: Output::new(cli.global.json, cli.global.quiet, cli.global.verbose),
        #[cfg(feature = "viewer")]
        desk: None,
    };
    let outcome = match &cli.command {
        None => help::welcome(&session),
        Some(command) => command.run(&session),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            session.out.error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

impl Command {
    fn run(&self, session: &Session) -> anyhow::Result<()> {
        match self {
            #[cfg(feature = "viewer")]
            Self::View(args) => view::run(session, args),
            #[cfg(feature = "viewer")]
            Self::Train(args) if args.view => view::train(session, args),
            Self::Demo(args) => demo::run(session, args),
            Self::Devices => devices::run(session),
            Self::Inspect(args) => inspect::run(session, args),
            Self::Train(args) => train::run(session, args),
            Self::Distill(args) => distill::run(session, args),
            Self::Meta(args) => meta::run(session, args),
            Self::MetaEval(args) => meta::evaluate(session, args),
            Self::Eval(args) => eval::run(session, args),
            Self::Render(args) => render::run(session, args),
            Self::Import(args) => import::run(session, args),
            Self::Bench(args) => bench::run(session, args),
            Self::Completions(args) => help::completions(args),
            Self::Man(args) => help::man(session, args),
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Interrupted>() {
        return interrupt::EXIT_CODE;
    }
    let is_usage = error.is::<Usage>()
        || error.is::<ConfigError>()
        || matches!(
            error.downcast_ref(),
            Some(
                RunError::Exists { .. }
                    | RunError::Unfinished { .. }
                    | RunError::NotARun { .. }
                    | RunError::Busy { .. }
            )
        )
        || matches!(error.downcast_ref(), Some(GpuError::NoSuchDevice { .. }));
    let nested_config = matches!(error.downcast_ref(), Some(CheckpointError::Config { .. }));
    if is_usage && !nested_config { 2 } else { 1 }
}
