//! Runs COLMAP (Schönberger and Frahm 2016): features, matches, model. Versions name some options differently, so each
//! command is asked which it has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{Error, Observer, Result, Scale};
use super::process::{self, Tool, command};
use crate::text::one_line;

/// Number of following images that each image of a sequence is matched with.
const OVERLAP: usize = 10;
/// Number of images of a sequence, evenly spread, that are all matched with each other, to close loops.
const LOOP_IMAGES: usize = 40;

/// COLMAP's program.
pub(super) struct Colmap {
    path: PathBuf,
    /// Whether it finds features on a GPU.
    has_gpu: bool,
}

/// The paths that COLMAP's commands work on.
pub(super) struct Places<'a> {
    pub images: &'a Path,
    pub database: &'a Path,
    pub model: &'a Path,
    pub logs: &'a Path,
}

/// Which images are matched with which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// Each with those that follow it, and some with all others.
    Sequential,
    /// Each with all others.
    Exhaustive,
    /// Each with the most similar ones, by this tree of visual words.
    VocabularyTree(PathBuf),
}

impl Colmap {
    /// Find COLMAP at `path`, or on the PATH.
    pub fn find(path: Option<&Path>) -> Result<Self> {
        let path = path.unwrap_or(Path::new("colmap")).to_owned();
        let about = process::output(command(&path).arg("help"), Tool::Colmap)?;
        if !about.contains("COLMAP") {
            return Err(Error::usage(format!(
                "{} is not COLMAP: it says {}",
                path.display(),
                one_line(about.lines().next().unwrap_or("nothing"))
            )));
        }
        // A build with CUDA also runs where there is no such GPU.
        let has_driver = cfg!(windows) || Path::new("/dev/nvidiactl").exists();
        let has_gpu = about.contains("with CUDA") && has_driver;
        Ok(Self { path, has_gpu })
    }

    /// Return the command `name` with `flags`, of which each has several possible names; those that this version lacks are left
    /// out.
    fn command(&self, name: &str, flags: &[(&[&str], String)]) -> Result<Command> {
        let help = process::output(command(&self.path).args([name, "-h"]), Tool::Colmap)?;
        let has = |flag: &str| {
            help.split_whitespace()
                .any(|word| word.strip_prefix("--") == Some(flag))
        };
        let mut command = command(&self.path);
        command.arg(name);
        for (names, value) in flags {
            if let Some(flag) = names.iter().find(|flag| has(flag)) {
                command.arg(format!("--{flag}")).arg(value);
            }
        }
        // Without a display.
        command.env("QT_QPA_PLATFORM", "offscreen");
        Ok(command)
    }

    fn gpu(&self) -> String {
        u8::from(self.has_gpu).to_string()
    }

    /// Find the features of all images.
    pub fn features(
        &self,
        observer: &dyn Observer,
        places: &Places,
        n: usize,
        camera_model: &str,
        is_one_camera: bool,
    ) -> Result<()> {
        let mut command = self.command(
            "feature_extractor",
            &[
                (&["database_path"], text(places.database)),
                (&["image_path"], text(places.images)),
                (&["ImageReader.camera_model"], camera_model.to_owned()),
                (
                    &["ImageReader.single_camera"],
                    u8::from(is_one_camera).to_string(),
                ),
                (
                    &["FeatureExtraction.use_gpu", "SiftExtraction.use_gpu"],
                    self.gpu(),
                ),
            ],
        )?;
        let bar = observer.task("finding features", Scale::Count(n as u64));
        let log = places.logs.join("features.log");
        process::run(observer, &mut command, Tool::Colmap, &log, &mut |line| {
            if let Some((done, _)) = fraction(line) {
                bar.set(done);
            }
        })
    }

    /// Match the features of the images with these names.
    pub fn matches(
        &self,
        observer: &dyn Observer,
        places: &Places,
        names: &[String],
        matching: &Matching,
    ) -> Result<()> {
        let database = || (&["database_path"][..], text(places.database));
        let gpu = || {
            let names: &[&str] = &["FeatureMatching.use_gpu", "SiftMatching.use_gpu"];
            (names, self.gpu())
        };
        let mut command = match matching {
            Matching::Exhaustive => self.command("exhaustive_matcher", &[database(), gpu()])?,
            Matching::VocabularyTree(tree) => self.command(
                "vocab_tree_matcher",
                &[
                    database(),
                    gpu(),
                    (&["VocabTreeMatching.vocab_tree_path"], text(tree)),
                ],
            )?,
            Matching::Sequential => {
                let list = places.logs.join("pairs.txt");
                let mut pairs = String::new();
                for [a, b] in sequence_pairs(names.len()) {
                    pairs.extend([&names[a], " ", &names[b], "\n"]);
                }
                std::fs::write(&list, pairs)
                    .map_err(|e| Error::failed(format!("cannot write {}: {e}", list.display())))?;
                self.command(
                    "matches_importer",
                    &[
                        database(),
                        gpu(),
                        (&["match_list_path"], text(&list)),
                        (&["match_type"], "pairs".to_owned()),
                    ],
                )?
            }
        };
        let bar = observer.task("matching images", Scale::Fraction(1000));
        let log = places.logs.join("matches.log");
        process::run(observer, &mut command, Tool::Colmap, &log, &mut |line| {
            if let Some(share) = matched_share(line) {
                bar.set((share * 1000.0) as u64);
                bar.describe(&format!("matching images: {:.0} %", 100.0 * share));
            }
        })
    }

    /// Reconstruct cameras and points.
    pub fn map(&self, observer: &dyn Observer, places: &Places, n: usize) -> Result<()> {
        std::fs::create_dir_all(places.model)
            .map_err(|e| Error::failed(format!("cannot create {}: {e}", places.model.display())))?;
        let mut command = self.command(
            "mapper",
            &[
                (&["database_path"], text(places.database)),
                (&["image_path"], text(places.images)),
                (&["output_path"], text(places.model)),
            ],
        )?;
        let bar = observer.task("finding cameras", Scale::Count(n as u64));
        let log = places.logs.join("mapper.log");
        process::run(observer, &mut command, Tool::Colmap, &log, &mut |line| {
            if let Some(registered) = registered(line) {
                bar.set(registered);
            }
        })
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Return the pairs of images of a sequence to match: neighbours, and some images with each other.
fn sequence_pairs(n: usize) -> Vec<[usize; 2]> {
    let mut pairs = Vec::new();
    for a in 0..n {
        for b in a + 1..n.min(a + 1 + OVERLAP) {
            pairs.push([a, b]);
        }
        // Distances that double find what a pause or a turn separates.
        let mut distance = 2 * OVERLAP;
        while a + distance < n && distance <= 8 * OVERLAP {
            pairs.push([a, a + distance]);
            distance *= 2;
        }
    }
    let step = n.div_ceil(LOOP_IMAGES).max(1);
    let spread: Vec<usize> = (0..n).step_by(step).collect();
    for (i, &a) in spread.iter().enumerate() {
        pairs.extend(spread[i + 1..].iter().map(|&b| [a, b]));
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// Return the numbers in `[3/62]`, or of the last such group.
fn fraction(line: &str) -> Option<(u64, u64)> {
    let start = line.rfind('[')?;
    let end = start + line[start..].find(']')?;
    let last = line[start + 1..end].split(',').next_back()?;
    let (done, of) = last.split_once('/')?;
    Some((done.trim().parse().ok()?, of.trim().parse().ok()?))
}

/// Return the part of the pairs that are matched when a block starts: `Matching block [2/3, 1/3]`, `Matching image [3/62]`.
fn matched_share(line: &str) -> Option<f64> {
    let start = line.find('[')?;
    let end = start + line[start..].find(']')?;
    let parts = line[start + 1..end].split(',');
    let numbers: Vec<(f64, f64)> = parts
        .map(|part| {
            let (done, of) = part.split_once('/')?;
            Some((done.trim().parse().ok()?, of.trim().parse().ok()?))
        })
        .collect::<Option<_>>()?;
    let (first, of) = *numbers.first()?;
    if of <= 0.0 {
        return None;
    }
    let within = numbers
        .get(1)
        .map_or(0.0, |(done, of)| (done - 1.0) / of.max(1.0));
    Some(((first - 1.0 + within) / of).clamp(0.0, 1.0))
}

/// Return the number of images that are registered: `Registering image #12 (34)` or `… (num_reg_frames=34)`.
fn registered(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("Registering image #")?;
    let (_, count) = rest.split_once('(')?;
    let digits = count.split(')').next()?.rsplit('=').next()?;
    digits.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_what_colmap_prints() {
        assert_eq!(fraction("Processed file [3/62]"), Some((3, 62)));
        let of_4 =
            "I20260101 10:00:00.000000 12345 feature_extraction.cc:257] Processed file [3/62]";
        assert_eq!(fraction(of_4), Some((3, 62)));
        assert_eq!(fraction("  Name: [a]"), None);
        assert_eq!(matched_share("Matching block [1/4] in 0.1s"), Some(0.0));
        assert_eq!(
            matched_share("Matching block [2/2, 2/4] in 1s"),
            Some(0.625)
        );
        assert_eq!(matched_share("Elapsed time"), None);
        assert_eq!(registered("Registering image #12 (34)"), Some(34));
        assert_eq!(
            registered("... Registering image #7 (num_reg_frames=8)"),
            Some(8)
        );
        assert_eq!(registered("Loading images..."), None);
    }

    #[test]
    fn neighbours_and_loops_are_matched() {
        let pairs = sequence_pairs(5);
        assert_eq!(pairs.len(), 10);
        let pairs = sequence_pairs(400);
        assert!(pairs.contains(&[0, 1]) && pairs.contains(&[0, 10]) && !pairs.contains(&[0, 11]));
        // The first and the last of the images that are spread over the sequence.
        assert!(
            pairs.contains(&[0, 390]) && pairs.len() < 8000,
            "{}",
            pairs.len()
        );
        assert!(pairs.iter().all(|[a, b]| a < b && *b < 400));
        assert_eq!(sequence_pairs(1), [[0; 2]; 0]);
    }
}
