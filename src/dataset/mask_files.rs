//! Finds masks that no file names: in a folder `masks` beside the images, or in their alpha channels.

use std::path::{Path, PathBuf};

use super::Dataset;
use super::mask::{Hidden, MaskSource};
use super::pixel_format::extension;

/// The start of the names of folders of images in one size, and of those of their masks.
const FOLDERS: [&str; 2] = ["images", "masks"];

/// Give each frame without a mask the one in the dataset's folder of masks, if there is one there; black is hidden.
pub(super) fn find_in_folder(dataset: &mut Dataset) {
    let root = dataset.root.clone();
    let frames = [&mut dataset.train, &mut dataset.val, &mut dataset.test];
    for frame in frames.into_iter().flatten() {
        if frame.mask.is_none() {
            let path = in_folder(&root, &frame.image_path);
            let hidden = Hidden::Black;
            frame.mask = path.map(|path| MaskSource::File { path, hidden });
        }
    }
}

/// Return the mask of `image`, for instance `masks/a/0.jpg.png` or `masks/a/0.png` of `images/a/0.jpg`. The masks of `images_2`
/// may also be in `masks_2`.
fn in_folder(root: &Path, image: &Path) -> Option<PathBuf> {
    let path = image.strip_prefix(root).ok()?;
    let first = path.components().next()?.as_os_str().to_str()?;
    let size = first.strip_prefix(FOLDERS[0]);
    let below = path.strip_prefix(first).ok();
    // Images that lie beside the folder of masks, or in a folder of another name.
    let names = [
        below.filter(|below| below.file_name().is_some()),
        Some(path),
    ];
    let folders = [
        size.map(|size| format!("{}{size}", FOLDERS[1])),
        Some(FOLDERS[1].to_owned()),
    ];
    for folder in folders.into_iter().flatten().map(|name| root.join(name)) {
        if !folder.is_dir() {
            continue;
        }
        for name in names.iter().flatten() {
            let whole = name.file_name()?.to_str()?;
            let stem = name.file_stem()?.to_str()?;
            let candidates = [
                format!("{whole}.png"),
                format!("{stem}.png"),
                format!("{stem}.mask.png"),
                format!("{stem}.jpg"),
            ];
            let candidates = candidates.map(|file| folder.join(name.with_file_name(file)));
            if let Some(found) = candidates.into_iter().find(|path| path.is_file()) {
                return Some(found);
            }
        }
    }
    None
}

/// Take masks from the alpha channels of the frames that can have one and have no other mask.
pub(super) fn take_alpha(dataset: &mut Dataset) {
    let frames = [&mut dataset.train, &mut dataset.val, &mut dataset.test];
    for frame in frames.into_iter().flatten() {
        let is_opaque = matches!(
            extension(&frame.image_path).as_str(),
            "jpg" | "jpeg" | "bmp"
        );
        if frame.mask.is_none() && !is_opaque {
            frame.mask = Some(MaskSource::Alpha);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_found_by_the_names_of_their_images() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (image, masks) in [
            (
                "images/a/0.jpg",
                vec!["masks/a/0.jpg.png", "masks/a/0.png", "masks/a/0.mask.png"],
            ),
            ("images_2/1.png", vec!["masks_2/1.png", "masks/1.png"]),
            ("train/2.png", vec!["masks/2.png", "masks/train/2.png"]),
            ("3.jpg", vec!["masks/3.png", "masks/3.jpg"]),
        ] {
            // Each is found without those before it.
            for mask in masks.iter().rev() {
                assert_ne!(in_folder(root, &root.join(image)), Some(root.join(mask)));
                std::fs::create_dir_all(root.join(mask).parent().unwrap()).unwrap();
                std::fs::write(root.join(mask), b"").unwrap();
                assert_eq!(in_folder(root, &root.join(image)), Some(root.join(mask)));
            }
        }
        assert_eq!(in_folder(root, &root.join("images/4.jpg")), None);
    }
}
