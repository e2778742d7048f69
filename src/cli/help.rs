//! `kiln`, `kiln completions` and `kiln man`: what a newcomer needs first, and what a packager does.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Session};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln completions bash > ~/.local/share/bash-completion/completions/kiln
  kiln completions zsh  > ~/.zfunc/_kiln
  kiln completions fish > ~/.config/fish/completions/kiln.fish")]
pub(super) struct CompletionsArgs {
    /// Shell to complete in
    shell: Shell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln man --out ~/.local/share/man/man1
  man kiln-train")]
pub(super) struct ManArgs {
    /// Folder to write kiln.1, kiln-train.1 and so on to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(session: &Session, args: &ManArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out)
        .map_err(|e| anyhow::anyhow!("cannot make {}: {e}", args.out.display()))?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &args.out)
        .map_err(|e| anyhow::anyhow!("cannot write to {}: {e}", args.out.display()))?;
    session
        .out
        .result(format!("manual pages in {}", args.out.display()))
}

/// What `kiln` alone says.
pub(super) fn welcome(session: &Session) -> anyhow::Result<()> {
    session.out.result(
        "kiln trains, measures and renders neural radiance fields on any GPU, or on none.

First steps:
  kiln demo                     make a small scene, train on it and render it: a few minutes anywhere
  kiln inspect DATASET          see whether your posed images are ready to train on
  kiln train DATASET            train on them; Ctrl-C saves and stops
  kiln render RUN --turntable 48 --out orbit.gif
                                look at the result

DATASET is a folder with transforms.json (Instant-NGP, nerfstudio) or transforms_train.json (Blender).
RUN is the folder that train makes and names: runs/DATASET-METHOD.

kiln --help lists all commands, kiln COMMAND --help explains one, kiln devices shows your adapters.",
    )
}
