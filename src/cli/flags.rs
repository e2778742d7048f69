//! Flags that several commands share. Where their help depends on the command, the command replaces it.

use std::path::PathBuf;

use crate::config::ConfigOptions;

/// The configuration to start from, and changes to it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigFlags {
    /// Preset
    #[arg(long, conflicts_with = "config", value_name = "M")]
    pub(super) method: Option<String>,
    /// Configuration file instead of a preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a configuration value, as in --set `training.batch_size=65536`; may be repeated
    #[arg(long = "set", value_name = "k=v")]
    overrides: Vec<String>,
    /// Seed of all random numbers [default: the configuration's]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
}

impl ConfigFlags {
    /// Return the options that the flags set.
    pub(super) fn options(&self) -> ConfigOptions {
        ConfigOptions {
            method: self.method.clone(),
            file: self.config.clone(),
            overrides: self.overrides.clone(),
            seed: self.seed,
            ..ConfigOptions::default()
        }
    }
}

/// Run directory and limits of a training.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RunFlags {
    /// Run directory to create [default: `runs/<dataset>-<method>`]
    #[arg(long, value_name = "RUN")]
    pub(super) out: Option<PathBuf>,
    /// Overwrite an existing run
    #[arg(long)]
    pub(super) force: bool,
    /// Stop after this many steps, counted from the start of the run
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<u32>,
    /// Stop after this many seconds of training, counted from the start of the run
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    pub(super) seconds: Option<f64>,
    /// Seconds between checkpoints
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "S",
        default_value_t = 60.0
    )]
    pub(super) checkpoint_every: f64,
    /// Write event files for tensorboard to the run's tensorboard/ folder
    #[arg(long)]
    pub(super) tensorboard: bool,
}
