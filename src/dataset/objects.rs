//! Objects of one class: one folder per object, and a file that assigns them to the training and test splits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::error::DatasetError;
use super::json::Document;
use super::{Dataset, Frame, OpenOptions, is_dataset};
use crate::json_text::kind;
use crate::text::{counted_len, escaped, shown};

/// Maximum number of names listed in a message before "and N more".
const MAX_LISTED: usize = 5;

/// An object: all views of its folder, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The folder's path below the root.
    pub name: String,
    /// The object's views, not yet decoded.
    pub frames: Vec<Frame>,
    /// The object's dataset.
    pub dataset: Dataset,
}

/// Source of the training and test splits.
#[derive(Clone, Debug, PartialEq)]
pub enum Splits {
    /// The only `*_splits.json` in the folder.
    Found,
    /// This file.
    File(PathBuf),
    /// This fraction of the folders, the first by name, is used for training.
    Fraction(f64),
}

impl fmt::Display for Splits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found => f.write_str("*_splits.json"),
            Self::File(path) => path.display().fmt(f),
            Self::Fraction(share) => write!(f, "--train-fraction {share}"),
        }
    }
}

/// An object that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The folder's path below the root.
    pub name: String,
    /// The reason, in one line.
    pub reason: String,
}

/// The objects of a folder, all of the same resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The folder.
    pub root: PathBuf,
    /// The folder's name.
    pub name: String,
    /// Objects to train on.
    pub train: Vec<Object>,
    /// Held-out objects for evaluation.
    pub test: Vec<Object>,
    /// Width and height of all images, as stored.
    pub size: [u32; 2],
    /// Objects that cannot be used.
    pub skipped: Vec<Skipped>,
    /// Source of the splits.
    pub splits: Splits,
}

/// Return whether `root` contains folders of objects rather than one scene.
#[must_use]
pub fn holds_objects(root: &Path) -> bool {
    root.is_dir()
        && !is_dataset(root)
        && folders(root)
            .iter()
            .any(|name| is_dataset(&root.join(name)))
}

impl Objects {
    /// Open every object. Only poses and image headers are read.
    ///
    /// # Errors
    /// A [`DatasetError`] if there are no splits, a split names a folder that does not exist, the objects have no common
    /// resolution, or there are fewer than two training objects.
    pub fn open(root: &Path, splits: &Splits, opening: OpenOptions) -> Result<Self, DatasetError> {
        if !root.is_dir() {
            return Err(DatasetError::NotFound {
                path: root.to_owned(),
                nearby: Vec::new(),
            });
        }
        if is_dataset(root) {
            return Err(DatasetError::Objects {
                path: root.to_owned(),
                message: "is one scene: expected a folder that holds one folder per object"
                    .to_owned(),
            });
        }
        let [train, test] = names_of(root, splits)?;
        let open = |name: &String| (name.clone(), object(root, name, opening));
        let all: Vec<_> = train.par_iter().chain(&test).map(open).collect();
        let size = common_size(root, &all)?;
        let mut skipped = Vec::new();
        let mut usable = BTreeMap::new();
        for (name, object) in all {
            let reason = match object {
                Ok(object) => match odd_size(&object, size) {
                    None => {
                        usable.insert(name, object);
                        continue;
                    }
                    Some([w, h]) => format!(
                        "has images of {w} × {h}, the others of {} × {}",
                        size[0], size[1]
                    ),
                },
                Err(error) => error.to_string(),
            };
            skipped.push(Skipped { name, reason });
        }
        let of = |names: &[String]| {
            names
                .iter()
                .filter_map(|n| usable.get(n).cloned())
                .collect()
        };
        let objects = Self {
            name: Dataset::new(root, super::Format::Transforms).name,
            root: root.to_owned(),
            train: of(&train),
            test: of(&test),
            size,
            skipped,
            splits: splits.clone(),
        };
        if objects.train.len() < 2 {
            let fault = objects.skipped.first().map_or_else(String::new, |s| {
                format!(
                    "; {} cannot be used, the first {}: {}",
                    objects.skipped.len(),
                    escaped(&s.name),
                    s.reason
                )
            });
            return Err(DatasetError::Objects {
                path: root.to_owned(),
                message: format!(
                    "has {} to learn from, but meta-learning needs at least two{fault}",
                    counted_len(objects.train.len(), "object"),
                ),
            });
        }
        Ok(objects)
    }

    /// Return a fingerprint of the training objects (FNV-1a over their names and fingerprints).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for object in &self.train {
            for byte in object
                .name
                .bytes()
                .chain(object.dataset.fingerprint().bytes())
            {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }

    /// Return all training views as one scene with a common frame and background.
    #[must_use]
    pub fn scene(&self) -> Dataset {
        let mut scene = self.train[0].dataset.clone();
        let views = self.train.iter().flat_map(|object| &object.frames);
        scene.train = views.cloned().collect();
        scene.val.clear();
        scene.test.clear();
        scene.is_held_out = false;
        scene.examine_surroundings();
        scene
    }

    /// Return the maximum number of views of an object.
    #[must_use]
    pub fn most_views(&self) -> usize {
        let all = self.train.iter().chain(&self.test);
        all.map(|object| object.frames.len()).max().unwrap_or(0)
    }
}

fn object(root: &Path, name: &str, opening: OpenOptions) -> Result<Object, DatasetError> {
    let dataset = Dataset::open_with(&root.join(name), opening)?;
    Ok(Object {
        name: name.to_owned(),
        frames: dataset.views(),
        dataset,
    })
}

/// Return the first size among the images of `object` that is not `size`.
fn odd_size(object: &Object, size: [u32; 2]) -> Option<[u32; 2]> {
    let mut sizes = object
        .frames
        .iter()
        .map(|f| [f.camera.width, f.camera.height]);
    sizes.find(|s| *s != size)
}

/// Return the image size that more than half of the objects have.
fn common_size(
    root: &Path,
    all: &[(String, Result<Object, DatasetError>)],
) -> Result<[u32; 2], DatasetError> {
    let mut sizes: BTreeMap<[u32; 2], usize> = BTreeMap::new();
    for object in all.iter().filter_map(|(_, object)| object.as_ref().ok()) {
        if let Some(frame) = object.frames.first() {
            *sizes
                .entry([frame.camera.width, frame.camera.height])
                .or_default() += 1;
        }
    }
    let total: usize = sizes.values().sum();
    let most = sizes.iter().max_by_key(|(_, n)| **n);
    let fault = |message: String| DatasetError::Objects {
        path: root.to_owned(),
        message,
    };
    match most {
        Some((size, n)) if 2 * n > total => Ok(*size),
        Some(_) => {
            let list: Vec<String> = sizes
                .iter()
                .map(|([w, h], n)| format!("{n} of {w} × {h}"))
                .collect();
            Err(fault(format!(
                "its objects have no common resolution ({}), so pixels would cover different angles: scale them to one size",
                list.join(", ")
            )))
        }
        None => {
            let first = all.iter().find_map(|(_, object)| object.as_ref().err());
            let why = first.map_or_else(String::new, |e| format!(": {e}"));
            Err(fault(format!(
                "none of its {} objects can be used{why}",
                all.len()
            )))
        }
    }
}

/// Return the names of the folders in `root`, in order.
fn folders(root: &Path) -> Vec<String> {
    let Ok(entries) = root.read_dir() else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Return the names of the training objects and of the held-out objects.
fn names_of(root: &Path, splits: &Splits) -> Result<[Vec<String>; 2], DatasetError> {
    match splits {
        Splits::File(path) => listed(root, path),
        Splits::Fraction(share) => {
            let mut names = folders(root);
            names.retain(|name| is_dataset(&root.join(name)));
            let n = (names.len() as f64 * share).round() as usize;
            let test = names.split_off(n.clamp(names.len().min(1), names.len()));
            Ok([names, test])
        }
        Splits::Found => {
            let entries = root.read_dir().map_err(|e| DatasetError::read(root, e))?;
            let is_splits = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.ends_with("_splits.json") || name == "splits.json"
            };
            let mut found: Vec<PathBuf> = entries
                .flatten()
                .map(|e| e.path())
                .filter(is_splits)
                .collect();
            found.sort();
            match found.as_slice() {
                [one] => listed(root, one),
                [] => Err(DatasetError::NoSplits {
                    path: root.to_owned(),
                }),
                several => {
                    let names: Vec<String> = several
                        .iter()
                        .map(|p| shown(Path::new(p.file_name().unwrap_or_default())))
                        .collect();
                    Err(DatasetError::Objects {
                        path: root.to_owned(),
                        message: format!("has {}: choose one with --splits", names.join(" and ")),
                    })
                }
            }
        }
    }
}

/// Write a splits file with the names of the training and test folders, which are beside the file.
pub fn write_splits(path: &Path, [train, test]: &[Vec<String>; 2]) -> Result<(), DatasetError> {
    let document = serde_json::json!({ "train": train, "test": test });
    super::blender::write_json(path, &document)
}

/// Return the lists `train` and `test` of a splits file.
fn listed(root: &Path, file: &Path) -> Result<[Vec<String>; 2], DatasetError> {
    let document = Document::read(file)?;
    let fields = document.fields();
    let fault = |message: String| DatasetError::File {
        path: file.to_owned(),
        message,
    };
    let mut seen = BTreeSet::new();
    let mut list = |key: &str, needed: bool| {
        let Some(value) = fields.get(key) else {
            return if needed {
                Err(fault(format!(
                    "`{key}` is missing: expected a list of folder names"
                )))
            } else {
                Ok(Vec::new())
            };
        };
        let wrong = |found| {
            fault(format!(
                "`{key}` should be a list of folder names, found {}",
                kind(found)
            ))
        };
        let entries = value.as_array().ok_or_else(|| wrong(value))?;
        let mut names = Vec::new();
        let mut absent = Vec::new();
        for entry in entries {
            let name = entry
                .as_str()
                .ok_or_else(|| wrong(entry))?
                .trim_end_matches('/');
            let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
            if name.is_empty() || !Path::new(name).components().all(inside) {
                return Err(fault(format!(
                    "`{key}` names `{}`, which is not a folder inside",
                    escaped(name)
                )));
            }
            // Normalise the name, so that each folder has exactly one name.
            let name: PathBuf = Path::new(name)
                .components()
                .filter(|c| matches!(c, Component::Normal(_)))
                .collect();
            let name = name.to_string_lossy().into_owned();
            if !seen.insert(name.clone()) {
                return Err(fault(format!(
                    "`{}` is named twice: name each object once, in one of the lists",
                    escaped(&name)
                )));
            }
            if !root.join(&name).is_dir() {
                absent.push(escaped(&name));
            }
            names.push(name);
        }
        if !absent.is_empty() {
            let more = absent.len().saturating_sub(MAX_LISTED);
            absent.truncate(MAX_LISTED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            return Err(fault(format!(
                "`{key}` names folders that are not in {}: {}{more}: correct the list, or give another with --splits",
                shown(root),
                absent.join(", ")
            )));
        }
        Ok(names)
    };
    Ok([list("train", true)?, list("test", false)?])
}
