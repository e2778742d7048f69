//! Detects the format of a folder, and datasets in its subfolders.

use super::error::DatasetError;
use super::notes::Notes;
use super::{Dataset, formats};
use crate::files::parent;
use crate::text::{one_line, shown, similar_names};
use std::path::{Path, PathBuf};

/// Maximum number of datasets that an error names.
const MAX_NAMED: usize = 3;

pub(super) fn open_folder(
    root: &Path,
    downscale: u32,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    let mut readers = formats::readers_of(root);
    if let Some(reader) = readers.next() {
        let mut dataset = (reader.open)(root, downscale, notes)?;
        let others: Vec<String> = readers.map(|other| other.format.to_string()).collect();
        if !others.is_empty() {
            dataset.warnings.push(format!(
                "the folder also holds {} data, which is not used: the dataset is read as {}; name a file or folder of the other \
                 format to read that",
                others.join(" and "),
                reader.format
            ));
        }
        return Ok(dataset);
    }
    if let Some(format) = formats::of_folder(root) {
        return Err(DatasetError::UnsupportedFormat {
            path: root.to_owned(),
            format: format.name,
            advice: format.advice,
        });
    }
    let mut looked_for = format!("looked for {}", formats::marks());
    let mut inside = subfolders_with_datasets(root);
    if let Some(more) = inside.len().checked_sub(MAX_NAMED + 1) {
        inside.truncate(MAX_NAMED);
        inside.push(format!("and {} more", more + 1));
    }
    if let Some(above) = dataset_above(root) {
        looked_for = format!("did you mean {}?", shown(&above));
    } else if !inside.is_empty() {
        looked_for = format!(
            "{looked_for}; subfolders with a dataset: {}",
            inside.join(", ")
        );
    } else if let Some(n) = formats::bare_images(root) {
        looked_for = format!(
            "{looked_for}; there are {n} images but no poses: {}",
            formats::POSES_ADVICE
        );
    }
    Err(DatasetError::NotADataset {
        path: root.to_owned(),
        looked_for,
    })
}

/// Return the folder one or two levels above `folder` that contains a dataset, for a folder of its images.
pub(super) fn dataset_above(folder: &Path) -> Option<PathBuf> {
    let first = parent(folder);
    let second = parent(&first);
    [first, second].into_iter().find(|path| is_dataset(path))
}

/// Return the datasets beside the missing `path` with similar names, as paths, at most [`MAX_NAMED`].
pub(super) fn datasets_beside(path: &Path) -> Vec<String> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let here = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let names = subfolders_with_datasets(here);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let alike = similar_names(&name, &names).into_iter().take(MAX_NAMED);
    alike.map(|name| shown(&parent.join(name))).collect()
}

/// Return whether a folder contains one scene.
#[must_use]
pub fn is_dataset(path: &Path) -> bool {
    formats::readers_of(path).next().is_some()
}

/// Return the names of the subfolders that contain a dataset, sorted.
fn subfolders_with_datasets(root: &Path) -> Vec<String> {
    let Ok(entries) = root.read_dir() else {
        return Vec::new();
    };
    let folders = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_dataset(path));
    let mut names: Vec<_> = folders
        .filter_map(|path| Some(one_line(&path.file_name()?.to_string_lossy())))
        .collect();
    names.sort();
    names
}
