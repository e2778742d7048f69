//! What is kept of a training as it goes: `metrics.jsonl`, the same lines on stdout with `--json`, and event files.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Observer, ObserverExt, Result};
use crate::config::Config;
use crate::run::{MetricsLog, RunDir, RunError};
use crate::tensorboard::EventLog;

/// Version of the JSON lines.
pub(crate) const SCHEMA: u32 = 1;

/// The first record of a training.
#[derive(Serialize)]
pub(crate) struct Start {
    pub(crate) schema: u32,
    pub(crate) event: &'static str,
    pub(crate) step: u32,
    pub(crate) seconds: f64,
    pub(crate) command: String,
    pub(crate) dataset: String,
    pub(crate) dataset_name: String,
    pub(crate) downscale: u32,
    pub(crate) device: String,
    pub(crate) version: &'static str,
    pub(crate) load_seconds: f64,
    pub(crate) compile_seconds: f64,
}

/// A record: `value` with its version and kind.
#[derive(Serialize)]
pub(crate) struct Line<'a, T> {
    pub(crate) schema: u32,
    pub(crate) event: &'a str,
    #[serde(flatten)]
    pub(crate) value: T,
}

/// The three places that records go to.
pub(crate) struct Journal<'a> {
    observer: &'a dyn Observer,
    metrics: MetricsLog,
    events: Option<EventLog>,
    /// Whether a full disk has been told of.
    warned: bool,
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

impl<'a> Journal<'a> {
    /// The log of a run that begins in `dir`, or goes on from step `resumed`, with its configuration beside it.
    pub(crate) fn begin(
        observer: &'a dyn Observer,
        dir: &RunDir,
        config: &Config,
        resumed: Option<u32>,
        tensorboard: bool,
    ) -> Result<Self> {
        match resumed {
            Some(step) => dir.rewind_metrics(step)?,
            None => dir.create()?,
        }
        dir.write_config(config)?;
        Self::open(observer, dir, tensorboard)
    }

    /// Open the run's log, and event files if `tensorboard`.
    fn open(observer: &'a dyn Observer, dir: &RunDir, tensorboard: bool) -> Result<Self> {
        let events = tensorboard.then(|| open_events(&dir.tensorboard()));
        Ok(Self {
            observer,
            metrics: dir.metrics_log()?,
            events: events.transpose()?,
            warned: false,
        })
    }

    /// One line, to the log and to whom reads `--json`.
    pub(crate) fn write<T: Serialize>(&mut self, line: &T) -> Result<()> {
        self.keep(line);
        self.observer.json_if_read(line)
    }

    /// One line, to the log alone.
    pub(crate) fn keep<T: Serialize>(&mut self, line: &T) {
        if let Err(error) = self.metrics.append(line) {
            self.warn(&error);
        }
    }

    /// Values of step `step` for `TensorBoard`, where it is fed.
    pub(crate) fn scalars(&mut self, step: u32, values: &[(&str, f64)]) {
        let Some(events) = &mut self.events else {
            return;
        };
        let time = now();
        let written = values
            .iter()
            .try_for_each(|(tag, value)| events.scalar(tag, u64::from(step), time, *value as f32))
            .and_then(|()| events.flush());
        if let Err(error) = written {
            self.warn(&error);
        }
    }

    /// A log that cannot be written is no reason to lose a training.
    fn warn(&mut self, error: &dyn std::fmt::Display) {
        if !self.warned {
            self.warned = true;
            self.observer
                .warn(format!("{error}; training goes on, its log has gaps"));
        }
    }
}

fn open_events(folder: &Path) -> Result<EventLog, RunError> {
    EventLog::create(folder, now()).map_err(|source| RunError::Io {
        path: folder.to_owned(),
        source,
    })
}

/// A held-out view that gains less than this has stopped getting better.
pub(crate) const PLATEAU_DB: f64 = 0.1;
/// Seconds without gain, at least, and as a part of the training so far.
const PLATEAU_SECONDS: f64 = 60.0;
const PLATEAU_PART: f64 = 0.25;

/// Watches the held-out view's PSNR.
#[derive(Debug, Default)]
pub(crate) struct Plateau {
    looks: Vec<(f64, f64)>,
    told: bool,
}

impl Plateau {
    /// Take in the PSNR (dB) after `seconds`; how long nothing was gained, the first time that this is long.
    pub(crate) fn add(&mut self, seconds: f64, psnr: f64) -> Option<f64> {
        self.looks.push((seconds, psnr));
        let window = PLATEAU_SECONDS.max(PLATEAU_PART * seconds);
        let best = |looks: &[(f64, f64)]| looks.iter().map(|l| l.1).fold(f64::MIN, f64::max);
        let recent = self.looks.partition_point(|l| l.0 <= seconds - window);
        let (before, since) = self.looks.split_at(recent);
        let is_flat = !before.is_empty() && best(since) < best(before) + PLATEAU_DB;
        if self.told || !is_flat {
            return None;
        }
        self.told = true;
        before.last().map(|l| seconds - l.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_is_told_once_and_not_while_it_rises() {
        let mut plateau = Plateau::default();
        let mut told = Vec::new();
        for i in 0..60 {
            let seconds = f64::from(i) * 10.0;
            // Rises by 0.5 dB a look for 200 s, then stays.
            let psnr = 10.0 + 0.5 * f64::from(i.min(20));
            told.extend(plateau.add(seconds, psnr).map(|s| (seconds, s)));
        }
        assert_eq!(told.len(), 1, "{told:?}");
        let (at, since) = told[0];
        assert!((260.0..=290.0).contains(&at), "{at}");
        assert!(since >= 60.0, "{since}");
    }
}
