//! The log of a training: `metrics.jsonl`, the same lines on stdout with `--json`, and `TensorBoard` event files.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Observer, ObserverExt, Result};
use crate::config::ResolvedConfig;
use crate::run::{MetricsLog, RunDir, RunError};
use crate::tensorboard::EventLog;

/// Schema version of the JSON lines.
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

/// A record: `value` with the schema version and the event type.
#[derive(Serialize)]
pub(crate) struct Line<'a, T> {
    pub(crate) schema: u32,
    pub(crate) event: &'a str,
    #[serde(flatten)]
    pub(crate) value: T,
}

/// Writes records to `metrics.jsonl`, the observer and the event files.
pub(crate) struct RunLog<'a> {
    observer: &'a dyn Observer,
    metrics: MetricsLog,
    events: Option<EventLog>,
    /// Whether a warning about a failed write was given.
    warned: bool,
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

impl<'a> RunLog<'a> {
    /// Open the log of a new run in `dir`, or of a run that continues from step `resumed`, and write `config.toml`.
    pub(crate) fn begin(
        observer: &'a dyn Observer,
        dir: &RunDir,
        config: &ResolvedConfig,
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

    /// Write a line to the log and to the observer.
    pub(crate) fn write<T: Serialize>(&mut self, line: &T) -> Result<()> {
        self.append(line);
        self.observer.json_if_read(line)
    }

    /// Write a line to the log only.
    pub(crate) fn append<T: Serialize>(&mut self, line: &T) {
        if let Err(error) = self.metrics.append(line) {
            self.warn(&error);
        }
    }

    /// Write values of step `step` to the event files, if there are any.
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

    /// Warn once that the log cannot be written; training continues.
    fn warn(&mut self, error: &dyn std::fmt::Display) {
        if !self.warned {
            self.warned = true;
            self.observer
                .warn(format!("{error}; training continues, but its log has gaps"));
        }
    }
}

fn open_events(folder: &Path) -> Result<EventLog, RunError> {
    EventLog::create(folder, now()).map_err(|source| RunError::Io {
        path: folder.to_owned(),
        source,
    })
}

/// A held-out view whose PSNR gains less than this many dB has reached a plateau.
pub(crate) const PLATEAU_DB: f64 = 0.1;
/// Length of a plateau: at least this many seconds, and this fraction of the training time so far.
const PLATEAU_SECONDS: f64 = 60.0;
const PLATEAU_PART: f64 = 0.25;

/// Detects a plateau in the PSNR of the held-out view.
#[derive(Debug, Default)]
pub(crate) struct Plateau {
    /// Training time in seconds and PSNR in dB of each preview.
    previews: Vec<(f64, f64)>,
    reported: bool,
}

impl Plateau {
    /// Add the PSNR (dB) after `seconds` of training. At the first plateau, return its length in seconds.
    pub(crate) fn add(&mut self, seconds: f64, psnr: f64) -> Option<f64> {
        self.previews.push((seconds, psnr));
        let window = PLATEAU_SECONDS.max(PLATEAU_PART * seconds);
        let best = |previews: &[(f64, f64)]| previews.iter().map(|p| p.1).fold(f64::MIN, f64::max);
        let recent = self.previews.partition_point(|p| p.0 <= seconds - window);
        let (before, since) = self.previews.split_at(recent);
        let is_flat = !before.is_empty() && best(since) < best(before) + PLATEAU_DB;
        if self.reported || !is_flat {
            return None;
        }
        self.reported = true;
        before.last().map(|p| seconds - p.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_is_reported_once_and_not_while_the_psnr_rises() {
        let mut plateau = Plateau::default();
        let mut reported = Vec::new();
        for i in 0..60 {
            let seconds = f64::from(i) * 10.0;
            // Rises by 0.5 dB per preview for 200 s, then stays constant.
            let psnr = 10.0 + 0.5 * f64::from(i.min(20));
            reported.extend(plateau.add(seconds, psnr).map(|s| (seconds, s)));
        }
        assert_eq!(reported.len(), 1, "{reported:?}");
        let (at, since) = reported[0];
        assert!((260.0..=290.0).contains(&at), "{at}");
        assert!(since >= 60.0, "{since}");
    }
}
