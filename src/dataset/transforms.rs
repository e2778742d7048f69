//! The format of Instant-NGP and nerfstudio: one `transforms.json`.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::error::DatasetError;
use super::find_image::frame_name;
use super::json::{Document, Fields};
use super::{Dataset, Format, Notes, Split, blender, frames};
use crate::json_text::kind;

/// Read the dataset that `file` describes; image paths are relative to its folder `root`.
pub(super) fn open(root: &Path, file: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let document = Document::read(file)?;
    let fields = document.fields();
    let found = frames::read_some(&document, root, notes)?;
    let mut dataset = Dataset::new(root, Format::Transforms).with_hints(&fields)?;
    dataset.missing = found.missing;
    let lists = [
        listed(&fields, Split::Train)?,
        listed(&fields, Split::Val)?,
        listed(&fields, Split::Test)?,
    ];
    if lists.iter().all(Option::is_none) {
        dataset.hold_out(found.frames);
        dataset.warn_without_test_view();
    } else {
        let [train, val, test] = lists.map(Option::unwrap_or_default);
        let mut unlisted = 0_usize;
        for frame in found.frames {
            let mut used = false;
            for (list, split) in [
                (&train, &mut dataset.train),
                (&val, &mut dataset.val),
                (&test, &mut dataset.test),
            ] {
                if list.contains(&frame.name) {
                    split.push(frame.clone());
                    used = true;
                }
            }
            unlisted += usize::from(!used);
        }
        if unlisted > 0 {
            dataset.warnings.push(format!(
                "{unlisted} frames are in none of the file's split lists: ignored"
            ));
        }
        if dataset.train.is_empty() {
            return Err(fields.error(
                "`train_filenames` names no frame with an image: correct the list or remove it",
            ));
        }
        for (list, split) in [(&val, Split::Val), (&test, Split::Test)] {
            let mut poses = found.without_images.clone();
            poses.retain(|pose| list.contains(&pose.name));
            if dataset.frames(split).is_empty() && !poses.is_empty() {
                let count = poses.len();
                dataset.warnings.push(format!(
                    "`{split}_filenames`: its {count} poses have no images: kiln render --split {split} renders them, but \
                     metrics need images"
                ));
                dataset.missing.retain(|image| {
                    let name = image.strip_prefix(root).unwrap_or(image);
                    !list.contains(&frame_name(&name.to_string_lossy()))
                });
                dataset.without_images.push((split, poses));
            }
        }
        if dataset.test.is_empty() {
            blender::fall_back(&mut dataset);
        }
    }
    dataset.finish(notes);
    Ok(dataset)
}

/// Return the frame names in nerfstudio's `{split}_filenames`, if the file has that key.
fn listed(fields: &Fields, split: Split) -> Result<Option<HashSet<String>>, DatasetError> {
    let key = format!("{split}_filenames");
    let Some(value) = fields.get(&key) else {
        return Ok(None);
    };
    let wrong = |found: &Value| {
        fields.error(format!(
            "`{key}` should be a list of image paths, found {}",
            kind(found)
        ))
    };
    let Value::Array(list) = value else {
        return Err(wrong(value));
    };
    let names = list
        .iter()
        .map(|entry| entry.as_str().map(frame_name).ok_or_else(|| wrong(entry)));
    names.collect::<Result<_, _>>().map(Some)
}
