//! The command line: the only part of kiln, with the window, that knows about terminals, flags and exit codes.

mod bench;
mod demo;
mod devices;
mod distill;
mod eval;
mod help;
mod import;
mod inspect;
mod interrupt;
mod meta;
mod output;
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
    /// Distil a run into a grid of tiny networks, for fast rendering
    Distill(Box<distill::Args>),
    /// Meta-learn an initialisation from many objects
    Meta(Box<meta::Args>),
    /// Measure a meta-learned initialisation on held-out objects
    MetaEval(Box<meta::EvalArgs>),
    /// Measure a run against images it was not trained on
    Eval(eval::Args),
    /// Render views of a run, or an orbit around it
    Render(Box<render::Args>),
    /// Open a window: watch training, look around in a run
    #[cfg(feature = "viewer")]
    View(view::Args),
    /// Import a field that another program trained
    Import(Box<import::Args>),
    /// Time every stage on this machine
    Bench(bench::Args),
    /// Print a script that completes kiln's commands and flags in a shell
    Completions(help::CompletionsArgs),
    /// Write manual pages
    Man(help::ManArgs),
}

/// The command as one would type it again.
fn command_line() -> String {
    let quoted = |argument: String| {
        let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
        if !argument.is_empty() && argument.chars().all(is_plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|a| quoted(a.to_string_lossy().into_owned()));
    std::iter::once("kiln".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Run the program, whose windows `window` opens; the exit code is 0, 1 (failed) or 2 (bad usage).
#[must_use]
pub fn main(#[cfg(feature = "viewer")] window: OpenWindow) -> ExitCode {
    let cli = Cli::parse();
    let options = GpuOptions {
        device: cli.global.device.clone(),
        base_path: false,
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
        Err(error) => {
            let _ = terminal.message(Level::Error, &error.full_message());
            ExitCode::from(output::exit_code(&error))
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
