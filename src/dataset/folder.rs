//! Detects the format of a folder, and datasets in its subfolders.

use super::error::DatasetError;
use super::notes::Notes;
use super::{Dataset, Split, TRANSFORMS};
use super::{blender, formats, llff, srn, transforms};
use crate::text::one_line;
use std::path::Path;

pub(super) fn open_folder(
    root: &Path,
    downscale: u32,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    if root.join(Split::Train.file_name()).is_file() {
        return blender::open(root, notes);
    }
    if root.join(TRANSFORMS).is_file() {
        return transforms::open(root, &root.join(TRANSFORMS), notes);
    }
    if root.join(llff::FILE).is_file() {
        return llff::open(root, downscale, notes);
    }
    if srn::is(root) {
        return srn::open(root, notes);
    }
    if let Some(format) = formats::of_folder(root) {
        return Err(DatasetError::UnsupportedFormat {
            path: root.to_owned(),
            format: format.name,
            advice: format.advice,
        });
    }
    let mut looked_for = format!(
        "looked for {}, {TRANSFORMS} and {}",
        Split::Train.file_name(),
        llff::FILE
    );
    let inside = subfolders_with_datasets(root);
    if !inside.is_empty() {
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

/// Return whether a folder contains one scene.
pub(super) fn is_dataset(path: &Path) -> bool {
    let split = Split::Train.file_name();
    let has = |name: &&str| path.join(name).is_file();
    [TRANSFORMS, &split, llff::FILE].iter().any(has) || srn::is(path)
}

/// Return the names of up to three subfolders that contain a dataset.
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
    names.truncate(3);
    names
}
