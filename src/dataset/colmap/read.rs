//! Reads a COLMAP model from its files, however they are stored.

use std::path::Path;

use super::model::{FILES, Model, Storage};
use super::{binary, text};
use crate::dataset::DatasetError;

/// Return the number of images of the model in `folder`.
pub(super) fn n_images(folder: &Path, storage: Storage) -> Result<usize, DatasetError> {
    let file = folder.join(FILES[1]).with_extension(storage.extension());
    match storage {
        Storage::Binary => binary::n_images(&file),
        Storage::Text => text::images(&file).map(|images| images.len()),
    }
}

/// Read the model in `folder`. A model without `points3D` has no points.
pub(super) fn read(folder: &Path, storage: Storage) -> Result<Model, DatasetError> {
    let [cameras, images, points] =
        FILES.map(|name| folder.join(name).with_extension(storage.extension()));
    let (cameras, mut images, points) = match storage {
        Storage::Binary => (
            binary::cameras(&cameras)?,
            binary::images(&images)?,
            points.is_file().then(|| binary::points(&points)),
        ),
        Storage::Text => (
            text::cameras(&cameras)?,
            text::images(&images)?,
            points.is_file().then(|| text::points(&points)),
        ),
    };
    images.sort_by(|a, b| a.name.cmp(&b.name));
    let rigs = folder.join("rigs").with_extension(storage.extension());
    Ok(Model {
        storage,
        has_rigs: rigs.is_file(),
        cameras,
        images,
        points: points.transpose()?.unwrap_or_default(),
    })
}
