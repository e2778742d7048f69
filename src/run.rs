//! Run directories.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | a copy of the configuration, for reading; `kiln train --config` repeats the run with it |
//! | `checkpoint.safetensors` | parameters, optimiser, occupancy and counters: see [`crate::checkpoint`] |
//! | `best.safetensors` | the distilled field of a student, if fine-tuning made it worse: what is rendered and evaluated |
//! | `distilled.safetensors` | the same until that is known |
//! | `metrics.jsonl` | the log of the run, one object per line |
//! | `eval.json` | the last evaluation: [`crate::eval::EvalReport`] |
//! | `images/` | renderings that `eval --save-images` writes |
//! | `report.html` | a report of the run to view in a browser |
//! | `tensorboard/` | event files, with `train --tensorboard` |

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, ResolvedConfig};
use crate::files::{append_to_file, read_file, replace_file};

/// Comment at the top of `config.toml`.
const COPY: &str = "\
# A copy for reading: this run uses the configuration in its checkpoint, and edits here have no effect on it.
# `kiln train DATASET --config FILE` trains a new run with the configuration in such a file.
";

/// Maximum size of a log in bytes: enough for about ten million steps.
const MAX_LOG: u64 = 256 << 20;

/// An error of a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The directory already holds a run.
    #[error("{path} already holds a run: give --force to overwrite it, --resume {path} to go on, or another --out", path = .path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The directory already holds a run, which stopped before its first checkpoint.
    #[error("{path} holds a run without a checkpoint: give --force to overwrite it, or another --out", path = .path.display())]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error("{path} exists and is not a run directory: give another --out", path = .path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process is training in the directory.
    #[error("another kiln process is training in {path}: wait for it, stop it, or give another --out", path = .path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// How `config.toml` differs from the checkpoint's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFault {
    /// It holds another configuration.
    Changed,
    /// It cannot be parsed, for the given reason.
    Unreadable(String),
}

/// A run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

/// Whether `path` is a run directory or a checkpoint file, rather than a dataset.
#[must_use]
pub fn is_run(path: &Path) -> bool {
    let is_checkpoint = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let has = |name: &str| path.join(name).is_file();
    is_checkpoint
        || has("checkpoint.safetensors")
        || (has("config.toml") && (has("metrics.jsonl") || has("eval.json")))
}

impl RunDir {
    /// The run directory at `path`, which need not exist.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The run directory of `run`, which is the directory itself or a checkpoint in it.
    #[must_use]
    pub fn of(run: &Path) -> Self {
        match run.parent() {
            Some(parent) if run.is_file() && parent.as_os_str().is_empty() => {
                Self::at(Path::new("."))
            }
            Some(parent) if run.is_file() => Self::at(parent),
            _ => Self::at(run),
        }
    }

    /// Whether `run` is this directory or its `checkpoint.safetensors`, rather than another file in it.
    #[must_use]
    pub fn is(&self, run: &Path) -> bool {
        !run.is_file() || run.file_name() == self.checkpoint().file_name()
    }

    /// Whether a checkpoint has been saved.
    #[must_use]
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint().is_file()
    }

    /// Return `runs/<dataset>-<method>`, with a suffix `-2`, `-3`… if that exists.
    #[must_use]
    pub fn default_for(dataset: &str, method: &str) -> Self {
        // The result must be a valid file name for any method name.
        let base = format!("{dataset}-{method}").replace(['/', '\\', ':'], "-");
        let named = |n: u32| {
            if n == 1 {
                base.clone()
            } else {
                format!("{base}-{n}")
            }
        };
        let free = (1..10_000)
            .map(|n| Path::new("runs").join(named(n)))
            .find(|p| !p.exists());
        Self(free.unwrap_or_else(|| Path::new("runs").join(&base)))
    }

    /// Return an error if the directory is in use. Nothing is changed.
    ///
    /// # Errors
    /// [`RunError::Exists`] or [`RunError::Unfinished`] for a run, unless `force`; [`RunError::NotARun`] for other content.
    pub fn check_free(&self, force: bool) -> Result<(), RunError> {
        if !self.0.exists() {
            return Ok(());
        }
        // Stricter than `is_run`, since a run may be overwritten.
        let has_log = self.config().exists() && self.metrics().exists();
        let is_run = self.checkpoint().exists() || has_log;
        let is_left = |entry: std::fs::DirEntry| entry.file_name() != ".lock";
        let is_empty = std::fs::read_dir(&self.0).is_ok_and(|d| !d.flatten().any(is_left));
        match (is_run, force || is_empty) {
            (true, false) if self.checkpoint().exists() => Err(RunError::Exists {
                path: self.0.clone(),
            }),
            (true, false) => Err(RunError::Unfinished {
                path: self.0.clone(),
            }),
            (false, _) if !is_empty => Err(RunError::NotARun {
                path: self.0.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Create the directory if necessary, and check that it is writable, before anything is loaded.
    pub fn reserve(&self) -> Result<Reservation, RunError> {
        let missing = self
            .0
            .ancestors()
            .filter(|p| !p.as_os_str().is_empty())
            .take_while(|p| !p.exists());
        let reservation = Reservation(missing.map(Path::to_owned).collect());
        let probe = self.0.join(".kiln");
        std::fs::create_dir_all(&self.0)
            .and_then(|()| File::create(&probe))
            .and_then(|_| std::fs::remove_file(&probe))
            .map_err(|source| RunError::Io {
                path: self.0.clone(),
                source,
            })?;
        Ok(reservation)
    }

    /// Lock the directory, which must exist, against training by other processes until the returned lock is dropped. The system
    /// releases the lock when the process ends. Return `None` if the file system does not support locks.
    ///
    /// # Errors
    /// [`RunError::Busy`] if another process holds the lock; [`RunError::Io`].
    pub fn lock(&self) -> Result<Option<Lock>, RunError> {
        let path = self.0.join(".lock");
        let file = File::create(&path).map_err(|source| RunError::Io {
            path: path.clone(),
            source,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { path, _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Err(RunError::Busy {
                path: self.0.clone(),
            }),
            Err(std::fs::TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Create the directory and remove everything of an earlier run except its checkpoint, which is kept as [`Self::previous`].
    pub fn create(&self) -> Result<(), RunError> {
        std::fs::create_dir_all(&self.0).map_err(|source| RunError::Io {
            path: self.0.clone(),
            source,
        })?;
        let (checkpoint, previous) = (self.checkpoint(), self.previous());
        if checkpoint.exists() {
            std::fs::rename(&checkpoint, &previous).map_err(|source| RunError::Io {
                path: previous,
                source,
            })?;
        }
        for split in ["train", "val", "test"] {
            self.clear_rendered(split);
        }
        let files = [
            self.metrics(),
            self.eval(),
            self.report(),
            self.distilled(),
            self.best(),
        ];
        let stale = files.into_iter().chain(self.event_files());
        for path in stale {
            if path.exists() {
                std::fs::remove_file(&path).map_err(|source| RunError::Io { path, source })?;
            }
        }
        Ok(())
    }

    /// Remove the images rendered by an earlier evaluation of `split`.
    pub fn clear_rendered(&self, split: &str) {
        let is_ours = |name: &str| {
            let rest = name.strip_prefix(split).and_then(|n| n.strip_prefix('_'));
            let number = rest.and_then(|n| n.strip_suffix(".png"));
            number.is_some_and(|n| n.len() >= 3 && n.bytes().all(|b| b.is_ascii_digit()))
        };
        for path in named(&self.images(), is_ours) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Event files of `TensorBoard`.
    fn event_files(&self) -> Vec<PathBuf> {
        named(&self.tensorboard(), |name| {
            name.starts_with("events.out.tfevents.")
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `config.toml`
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// `checkpoint.safetensors`
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.safetensors")
    }

    /// `distilled.safetensors`: the state after the last distillation step, until fine-tuning is over.
    #[must_use]
    pub fn distilled(&self) -> PathBuf {
        self.0.join("distilled.safetensors")
    }

    /// `best.safetensors`: the state after the last distillation step, if it is better than the fine-tuned one.
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.0.join("best.safetensors")
    }

    /// Keep the checkpoint, which was saved after the last distillation step, as [`Self::distilled`].
    pub fn keep_distilled(&self) -> Result<(), RunError> {
        let (from, to) = (self.checkpoint(), self.distilled());
        let _ = std::fs::remove_file(&to);
        // Checkpoints are replaced and never changed, so that a second name suffices where the file system has them.
        std::fs::hard_link(&from, &to)
            .or_else(|_| std::fs::copy(&from, &to).map(|_| ()))
            .map_err(|source| RunError::Io { path: to, source })
    }

    /// Make [`Self::distilled`] the field that is rendered if `is_better`, else remove it, also if it was chosen before.
    pub fn choose_distilled(&self, is_better: bool) -> Result<(), RunError> {
        let (from, to) = (self.distilled(), self.best());
        let failed = |path: &Path, source| RunError::Io {
            path: path.to_owned(),
            source,
        };
        if is_better && from.exists() {
            return std::fs::rename(&from, &to).map_err(|source| failed(&to, source));
        }
        if !is_better {
            for file in [from, to].iter().filter(|file| file.exists()) {
                std::fs::remove_file(file).map_err(|source| failed(file, source))?;
            }
        }
        Ok(())
    }

    /// `previous.safetensors`: the checkpoint from before `--force`, until the new run has saved one.
    #[must_use]
    pub fn previous(&self) -> PathBuf {
        self.0.join("previous.safetensors")
    }

    /// Remove [`Self::previous`], if it exists.
    pub fn remove_previous(&self) {
        let _ = std::fs::remove_file(self.previous());
    }

    /// `metrics.jsonl`
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Content of `metrics.jsonl`; empty if it does not exist.
    pub fn metrics_text(&self) -> std::io::Result<Vec<u8>> {
        match read_file(&self.metrics(), MAX_LOG) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// `eval.json`
    #[must_use]
    pub fn eval(&self) -> PathBuf {
        self.0.join("eval.json")
    }

    /// `report.html`
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// `tensorboard/`
    #[must_use]
    pub fn tensorboard(&self) -> PathBuf {
        self.0.join("tensorboard")
    }

    /// `images/`
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Write a file atomically.
    pub fn write(&self, path: &Path, text: &str) -> Result<(), RunError> {
        replace_file(path, text.as_bytes()).map_err(|source| RunError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// Write `config.toml`, a copy of the checkpoint's configuration.
    pub fn write_config(&self, config: &ResolvedConfig) -> Result<(), RunError> {
        self.write(&self.config(), &format!("{COPY}\n{}", config.to_toml()))
    }

    /// Compare `config.toml` with `rules`, the checkpoint's configuration; a missing file is not a fault.
    #[must_use]
    pub fn config_mismatch(&self, rules: &ResolvedConfig) -> Option<CopyFault> {
        // Fill in settings that an older version lacks on both sides.
        match Config::from_file(&self.config(), &[]).map(ResolvedConfig::from_run) {
            Ok(copy) if copy == *rules => None,
            Ok(_) => Some(CopyFault::Changed),
            Err(ConfigError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().next().unwrap_or_default();
                Some(CopyFault::Unreadable(reason.to_owned()))
            }
        }
    }

    /// Drop the lines of `metrics.jsonl` beyond `step`, which a run resumed there writes again, and an incomplete last line.
    pub fn rewind_metrics(&self, step: u32) -> Result<(), RunError> {
        let path = self.metrics();
        let bytes = self.metrics_text().map_err(|source| RunError::Io {
            path: path.clone(),
            source,
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let is_done = |line: &str| {
            let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
            value
                .and_then(|v| v["step"].as_u64())
                .is_some_and(|s| s <= u64::from(step))
        };
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n') && is_done(line))
            .collect();
        if kept.len() < bytes.len() {
            self.write(&path, &kept)
        } else {
            Ok(())
        }
    }

    /// Return the stages of a distillation in `metrics.jsonl`, each with its run.
    #[must_use]
    pub fn logged_stages(&self) -> Vec<(String, String)> {
        let text = self.metrics_text().unwrap_or_default();
        let stage = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_stage = value["event"] == "stage";
            let text = |key: &str| value[key].as_str().map(str::to_owned);
            is_stage.then(|| text("stage").zip(text("run"))).flatten()
        };
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(stage)
            .collect()
    }

    /// Open `metrics.jsonl` for appending.
    pub fn metrics_log(&self) -> Result<MetricsLog, RunError> {
        let path = self.metrics();
        let file = append_to_file(&path);
        Ok(MetricsLog {
            file: file.map_err(|source| RunError::Io {
                path: path.clone(),
                source,
            })?,
            path,
        })
    }
}

/// Files in `folder` whose names satisfy `is_ours`.
fn named(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&is_ours))
        .map(|entry| entry.path())
        .collect()
}

/// Lock of a run directory in which this process trains; see [`RunDir::lock`].
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Directories created for a run; those that are still empty are removed on drop.
#[derive(Debug)]
pub struct Reservation(Vec<PathBuf>);

impl Drop for Reservation {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// `metrics.jsonl`, open for appending, one object per line.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Append one object.
    pub fn append<T: serde::Serialize>(&mut self, value: &T) -> Result<(), RunError> {
        let written = serde_json::to_string(value)
            .map_err(std::io::Error::other)
            .and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| RunError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_without_a_setting_that_the_checkpoint_lacks_too_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::at(folder.path());
        let written = Config::preset("ngp-small", &[]).unwrap();
        std::fs::write(dir.config(), written.to_toml()).unwrap();
        let rules = ResolvedConfig::from_run(written);
        assert!(dir.config_mismatch(&rules).is_none());
        let changed = rules.with(|config| config.seed += 1);
        assert!(matches!(
            dir.config_mismatch(&changed),
            Some(CopyFault::Changed)
        ));
    }
}
