//! Checks of options: conflicts and ranges.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Error, Result};

/// Maximum factor to shrink images by.
pub(crate) const MAX_DOWNSCALE: u32 = 64;
/// Maximum width and height of a rendered view, in pixels.
pub(crate) const MAX_SIDE: u32 = 16_384;

/// Refuse more than one of these flags.
pub(super) fn at_most_one(flags: &[(&str, bool)]) -> Result<()> {
    let mut given = flags.iter().filter(|(_, is_given)| *is_given);
    match (given.next(), given.next()) {
        (Some((first, _)), Some((second, _))) => Err(Error::usage(format!(
            "{first} cannot be used with {second}: leave one out"
        ))),
        _ => Ok(()),
    }
}

/// Refuse the combination of `flag` with any of `others`.
pub(super) fn excludes((flag, is_given): (&str, bool), others: &[(&str, bool)]) -> Result<()> {
    others
        .iter()
        .try_for_each(|&other| at_most_one(&[(flag, is_given), other]))
}

/// Refuse a value out of `range`.
pub(super) fn in_range<T: PartialOrd + Display>(
    flag: &str,
    value: Option<T>,
    range: &RangeInclusive<T>,
) -> Result<()> {
    match value.filter(|value| !range.contains(value)) {
        Some(value) => Err(Error::usage(format!(
            "{flag} {value}: give a value from {} to {}",
            range.start(),
            range.end()
        ))),
        None => Ok(()),
    }
}

/// Refuse a value that is not a positive number.
pub(super) fn positive(flag: &str, value: Option<f64>) -> Result<()> {
    match value.filter(|v| !(v.is_finite() && *v > 0.0)) {
        Some(value) => Err(Error::usage(format!(
            "{flag} {value}: give a positive number"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::ConfigOptions;
    use crate::session::{DistillOptions, FitOptions, MetaOptions, RenderOptions, Rendering};

    fn refused<T: std::fmt::Debug>(outcome: super::Result<T>, words: &[&str]) {
        let error = outcome.unwrap_err();
        assert!(error.is_usage(), "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let run = || Some(PathBuf::from("run"));
        let resumed = FitOptions {
            resume: run(),
            ..FitOptions::default()
        };
        assert!(resumed.check().is_ok());
        let to_another = FitOptions {
            out: run(),
            ..resumed.clone()
        };
        refused(to_another.check(), &["--resume", "--out"]);
        let by_another_method = FitOptions {
            config: ConfigOptions::preset("ngp"),
            ..resumed.clone()
        };
        refused(by_another_method.check(), &["--resume", "--method"]);
        let taught = FitOptions {
            distill: Some(DistillOptions::new("teacher")),
            ..resumed
        };
        refused(taught.check(), &["--resume", "a teacher"]);
        let twice = FitOptions {
            config: ConfigOptions {
                file: run(),
                ..ConfigOptions::preset("ngp")
            },
            ..FitOptions::new("data")
        };
        refused(twice.check(), &["--method", "--config"]);
        let of_objects = MetaOptions {
            resume: run(),
            train_fraction: Some(0.5),
            ..MetaOptions::default()
        };
        refused(of_objects.check(), &["--resume", "--train-fraction"]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for downscale in [0, 65] {
            let options = FitOptions {
                downscale: Some(downscale),
                ..FitOptions::new("data")
            };
            refused(options.check(), &["--downscale", "from 1 to 64"]);
        }
        let options = FitOptions {
            seconds: Some(f64::NAN),
            ..FitOptions::new("data")
        };
        refused(options.check(), &["--seconds NaN", "positive"]);
    }

    #[test]
    fn a_rendering_of_nothing_is_refused() {
        let options = || RenderOptions::new("run", "views");
        let check = |options: RenderOptions| Rendering::prepare(&options, &()).map(|_| ());
        check(options()).unwrap();
        for (wrong, words) in [
            (
                RenderOptions {
                    channels: Vec::new(),
                    ..options()
                },
                "--channels",
            ),
            (
                RenderOptions {
                    width: Some(0),
                    ..options()
                },
                "--width 0",
            ),
            (
                RenderOptions {
                    samples_per_side: 0,
                    ..options()
                },
                "samples_per_side 0",
            ),
            (
                RenderOptions {
                    every: Some(0),
                    ..options()
                },
                "--every 0",
            ),
            (
                RenderOptions {
                    every: Some(2),
                    frames: Some("0..8..2".parse().unwrap()),
                    ..options()
                },
                "--every",
            ),
        ] {
            refused(check(wrong), &[words]);
        }
    }
}
