//! `kiln` without a command, `kiln completions` and `kiln man`.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Terminal};
use crate::files::replace_file;
use crate::session::{Error, ObserverExt as _, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln completions bash > ~/.local/share/bash-completion/completions/kiln
  kiln completions zsh  > ~/.zfunc/_kiln
  kiln completions fish > ~/.config/fish/completions/kiln.fish")]
pub(super) struct CompletionsArgs {
    /// Shell to print the script for
    shell: Shell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln man --out ~/.local/share/man/man1
  man kiln-train")]
pub(super) struct ManArgs {
    /// Folder to write the pages to: kiln.1, kiln-train.1 and so on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(terminal: &Terminal, args: &ManArgs) -> Result<()> {
    std::fs::create_dir_all(&args.out)
        .map_err(|e| Error::failed(format!("cannot create {}: {e}", args.out.display())))?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &args.out)
        .and_then(|()| with_examples(&args.out))
        .map_err(|e| Error::failed(format!("cannot write to {}: {e}", args.out.display())))?;
    terminal.result(format!("manual pages in {}", args.out.display()))
}

/// Rename the section EXTRA of each page in `folder` to EXAMPLES, and keep its line breaks.
fn with_examples(folder: &Path) -> std::io::Result<()> {
    for entry in folder.read_dir()?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if !(name.starts_with("kiln") && name.ends_with(".1")) {
            continue;
        }
        let page = std::fs::read_to_string(&path)?;
        let Some((before, rest)) = page.split_once(".SH EXTRA\n") else {
            continue;
        };
        let end = rest.find("\n.SH ").map_or(rest.len(), |at| at + 1);
        let (examples, after) = rest.split_at(end);
        let examples: Vec<&str> = examples.lines().filter(|l| *l != "Examples:").collect();
        let page = format!(
            "{before}.SH EXAMPLES\n.nf\n{}\n.fi\n{after}",
            examples.join("\n")
        );
        replace_file(&path, page.as_bytes())?;
    }
    Ok(())
}

/// Print the text of `kiln` without a command.
pub(super) fn welcome(terminal: &Terminal) -> Result<()> {
    terminal.result(
        "kiln trains, evaluates and renders neural radiance fields on any GPU, or on the CPU.

First steps:
  kiln demo                     train and render a small built-in scene; takes a few minutes
  kiln inspect DATASET          check whether your posed images are ready to train on
  kiln train DATASET            train on them; Ctrl-C saves and stops
  kiln render RUN --turntable 48 --out orbit.gif
                                render the result

DATASET is a folder with transforms.json (Instant-NGP, nerfstudio) or transforms_train.json (Blender).
RUN is the folder that training creates, by default runs/DATASET-METHOD; its name is printed.

kiln --help lists all commands, kiln COMMAND --help explains one, kiln devices lists your adapters.",
    )
}
