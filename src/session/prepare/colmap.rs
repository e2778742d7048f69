//! Runs COLMAP (Schönberger and Frahm 2016): features, matches, model. Versions name some options differently, so each
//! command is asked which it has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{Error, Observer, Result, Scale};
use super::process::{self, Ending, Tool, command};
use crate::text::one_line;

/// Number of following images that each image of a sequence is matched with.
const OVERLAP: usize = 10;
/// Number of images of a sequence, evenly spread, that are all matched with each other, to close loops.
const LOOP_IMAGES: usize = 40;

/// Number of similar images that COLMAP finds for each in a vocabulary tree.
const SIMILAR: usize = 100;
/// Number of parts in which pairs are matched, and the number of pairs of the smallest: to start a part takes about a second.
const PARTS: usize = 20;
const MIN_PART: usize = 50;

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
    /// Masks named as their images with `.png` after it, black where no features are wanted; the folder may not exist.
    pub masks: &'a Path,
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
        let mut flags: Vec<(&[&str], String)> = vec![
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
        ];
        if places.masks.is_dir() {
            flags.push((&["ImageReader.mask_path"], text(places.masks)));
        }
        let mut command = self.command("feature_extractor", &flags)?;
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
        let log = places.logs.join("matches.log");
        let bar = observer.task("matching images", Scale::Fraction(1000));
        let show = |share: f64| {
            bar.set((share * 1000.0) as u64);
            bar.describe(&format!("matching images: {:.0} %", 100.0 * share));
        };
        let database = || (&["database_path"][..], text(places.database));
        let gpu = || {
            let names: &[&str] = &["FeatureMatching.use_gpu", "SiftMatching.use_gpu"];
            (names, self.gpu())
        };
        let pairs = match matching {
            Matching::VocabularyTree(tree) => {
                let tree_path: &[&str] = &["VocabTreeMatching.vocab_tree_path"];
                let flags = [database(), gpu(), (tree_path, text(tree))];
                let mut command = self.command("vocab_tree_matcher", &flags)?;
                return process::run(observer, &mut command, Tool::Colmap, &log, &mut |line| {
                    if let Some(share) = matched_share(line) {
                        show(share);
                    }
                });
            }
            Matching::Exhaustive | Matching::Sequential => pairs_of(matching, names.len()),
        };
        // In parts, because COLMAP says nothing before it is done with as many pairs as it holds in memory.
        let list = places.logs.join("pairs.txt");
        let flags = [
            database(),
            gpu(),
            (&["match_list_path"][..], text(&list)),
            (&["match_type"][..], "pairs".to_owned()),
        ];
        let mut command = self.command("matches_importer", &flags)?;
        let part = pairs.len().div_ceil(PARTS).max(MIN_PART);
        for (i, some) in pairs.chunks(part).enumerate() {
            let mut lines = String::new();
            for [a, b] in some {
                lines.extend([&names[*a], " ", &names[*b], "\n"]);
            }
            std::fs::write(&list, lines)
                .map_err(|e| Error::failed(format!("cannot write {}: {e}", list.display())))?;
            show((i * part) as f64 / pairs.len() as f64);
            process::run(observer, &mut command, Tool::Colmap, &log, &mut |_| ())?;
        }
        Ok(())
    }

    /// Reconstruct cameras and points. COLMAP fails where it finds no two images to start from.
    pub fn map(&self, observer: &dyn Observer, places: &Places, n: usize) -> Result<Ending> {
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
        process::run_to_end(observer, &mut command, Tool::Colmap, &log, &mut |line| {
            if let Some(registered) = registered(line) {
                bar.set(registered);
            }
        })
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Return the pairs of `n` images to match; with a vocabulary tree, about as many as COLMAP finds.
pub(super) fn n_pairs(matching: &Matching, n: usize) -> usize {
    match matching {
        Matching::VocabularyTree(_) => (n * SIMILAR).min(n * n.saturating_sub(1) / 2),
        Matching::Exhaustive | Matching::Sequential => pairs_of(matching, n).len(),
    }
}

fn pairs_of(matching: &Matching, n: usize) -> Vec<[usize; 2]> {
    if *matching == Matching::Sequential {
        return sequence_pairs(n);
    }
    (0..n)
        .flat_map(|a| (a + 1..n).map(move |b| [a, b]))
        .collect()
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
