//! `kiln demo`
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_: &super::Session, _: &Args) -> anyhow::Result<()> { Ok(()) }
