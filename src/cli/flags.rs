//! Flags that several commands share. Where their help depends on the command, the command replaces it.

use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

use crate::config::{Config, ConfigOptions};

/// Parse a time: a number of seconds, or numbers with units, as in `90s`, `1.5m` or `1h30m`. Return it in seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let fault = || "give seconds, or a time such as 90s, 1.5m or 1h30m".to_owned();
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic());
        let (number, after) = rest.split_at(unit.ok_or_else(fault)?);
        let end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let factor = match unit {
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(fault()),
        };
        sum += number.trim().parse::<f64>().map_err(|_| fault())? * factor;
        rest = after.trim_start();
    }
    if text.is_empty() {
        Err(fault())
    } else {
        Ok(sum)
    }
}

/// Parses the name of a method. Shells complete the presets, but any name is accepted: the error of an unknown one is that of
/// the configuration.
#[derive(Debug, Clone)]
pub(super) struct MethodParser;

impl TypedValueParser for MethodParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            Config::presets().into_iter().map(PossibleValue::new),
        ))
    }
}

/// The configuration to start from, and changes to it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigFlags {
    /// Preset
    #[arg(long, conflicts_with = "config", value_name = "M", value_parser = MethodParser)]
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
    /// Stop after this time of training, in seconds or as 90s, 5m or 2h, counted from the start of the run
    #[arg(long, allow_negative_numbers = true, value_name = "S", value_parser = seconds)]
    pub(super) seconds: Option<f64>,
    /// Time between checkpoints, in seconds or as 90s, 5m or 2h
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "S",
        value_parser = seconds,
        default_value = "60"
    )]
    pub(super) checkpoint_every: f64,
    /// Write event files for tensorboard to the run's tensorboard/ folder
    #[arg(long)]
    pub(super) tensorboard: bool,
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, expected) in [
            ("60", 60.0),
            ("1e3", 1000.0),
            ("-3", -3.0),
            ("90s", 90.0),
            ("1m", 60.0),
            ("0.5m", 30.0),
            ("2h", 7200.0),
            ("1h30m", 5400.0),
            ("1h 30m 5s", 5405.0),
            ("2 min", 120.0),
            ("250ms", 0.25),
            ("1d", 86_400.0),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "5x", "1m30", "one", "1:30", "5mm", "s5"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
