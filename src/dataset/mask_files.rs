//! Finds masks that no file names: in a folder `masks` beside the images, or in their alpha channels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Dataset;
use super::mask::{Hidden, MaskSource};
use super::pixel_format::{has_alpha, images_below};
use crate::text::{counted_len, shown};

/// The start of the names of folders of images in one size, and of those of their masks.
const FOLDERS: [&str; 2] = ["images", "masks"];

/// Give each frame without a mask the one in the dataset's folder of masks, if there is one there; black is hidden. Warn of images
/// without a mask, and of masks without an image, where there are others.
pub(super) fn find_in_folder(dataset: &mut Dataset) {
    let root = dataset.root.clone();
    let folders = mask_folders(&root);
    if folders.is_empty() {
        return;
    }
    let mut used = BTreeSet::new();
    let mut without: Vec<String> = Vec::new();
    let frames = [&mut dataset.train, &mut dataset.val, &mut dataset.test];
    for frame in frames.into_iter().flatten() {
        let found = in_folder(&root, &frame.image_path);
        used.extend(found.clone());
        if frame.mask.is_none() {
            let hidden = Hidden::Black;
            frame.mask = found.map(|path| MaskSource::File { path, hidden });
        }
        if frame.mask.is_none() {
            without.push(frame.name.clone());
        }
    }
    let all: BTreeSet<PathBuf> = folders.iter().flat_map(|f| images_below(f)).collect();
    // Several sizes of the same masks are stored side by side.
    let unused = all.len().saturating_sub(used.len());
    let first_unused = all.difference(&used).next().filter(|_| folders.len() == 1);
    if let (Some(first), false) = (without.first(), all.is_empty()) {
        let unused = first_unused.map_or_else(String::new, |path| {
            format!(
                "; {} there {} no image, for instance {}",
                counted_len(unused, "mask"),
                if unused == 1 { "matches" } else { "match" },
                shown(path)
            )
        });
        dataset.warnings.push(format!(
            "{} without a mask in {}, for instance {first}: all of their pixels are used{unused}",
            counted_len(without.len(), "image"),
            shown(&folders[0]),
        ));
    }
}

/// Return the folders of masks in the dataset's folder.
fn mask_folders(root: &Path) -> Vec<PathBuf> {
    let is_of_masks = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let size = name.and_then(|name| name.strip_prefix(FOLDERS[1]));
        size.is_some_and(|size| size.is_empty() || size.starts_with('_')) && path.is_dir()
    };
    let entries = root.read_dir().into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|e| e.path()).filter(is_of_masks).collect();
    found.sort();
    found
}

/// Return the mask of `image`, for instance `masks/a/0.jpg.png` or `masks/a/0.png` of `images/a/0.jpg`, in any letter case. The
/// masks of `images_2` may also be in `masks_2`.
pub(crate) fn in_folder(root: &Path, image: &Path) -> Option<PathBuf> {
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
            let exact = candidates.iter().find(|path| path.is_file()).cloned();
            if let Some(found) = exact.or_else(|| candidates.iter().find_map(|p| in_any_case(p))) {
                return Some(found);
            }
        }
    }
    None
}

/// Return the file whose name differs from that of `path` in upper and lower case at most.
fn in_any_case(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let entries = path.parent()?.read_dir().ok()?.flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.find(|path| {
        let found = path.file_name().and_then(|name| name.to_str());
        found.is_some_and(|found| found.to_lowercase() == name)
    })
}

/// Take masks from the alpha channels of the frames that have one and no other mask, and say how many have none.
pub(super) fn take_alpha(dataset: &mut Dataset) {
    let mut opaque: Vec<String> = Vec::new();
    let frames = [&mut dataset.train, &mut dataset.val, &mut dataset.test];
    for frame in frames.into_iter().flatten() {
        if frame.mask.is_some() {
            continue;
        }
        if has_alpha(&frame.image_path) {
            frame.mask = Some(MaskSource::Alpha);
        } else {
            opaque.push(frame.name.clone());
        }
    }
    if let Some(first) = opaque.first() {
        dataset.warnings.push(format!(
            "{} without an alpha channel to take a mask from, for instance {first}: all of their pixels are used",
            counted_len(opaque.len(), "image")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::OpenOptions;
    use crate::dataset::tests::{Scene, gradient};

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
        let upper = root.join("masks/5.PNG");
        std::fs::write(&upper, b"").unwrap();
        assert_eq!(in_folder(root, &root.join("images/5.jpg")), Some(upper));
    }

    #[test]
    fn images_without_masks_are_told() {
        let scene = Scene::new(4);
        scene.open().unwrap();
        std::fs::create_dir(scene.path("masks")).unwrap();
        for name in ["0001.png", "absent.png"] {
            gradient(8, 6)
                .save_png(&scene.path("masks").join(name))
                .unwrap();
        }
        let told = scene.open().unwrap().warnings.join("; ");
        for part in [
            "3 images without a mask",
            "for instance images/000",
            "1 mask there matches no image",
            "absent.png",
        ] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
        let opening = OpenOptions {
            alpha_mask: true,
            ..OpenOptions::default()
        };
        let dataset = Dataset::open_with(&scene.path("transforms.json"), opening).unwrap();
        let is_told = dataset
            .warnings
            .iter()
            .any(|w| w.contains("3 images without an alpha channel"));
        assert_eq!(
            (dataset.n_masks(), is_told),
            (1, true),
            "{:?}",
            dataset.warnings
        );
    }
}
