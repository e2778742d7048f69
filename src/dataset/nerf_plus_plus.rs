//! The format of `NeRF++` (Zhang et al. 2020), in which Tanks and Temples circulates: for each split a folder with `rgb/*`,
//! `pose/*.txt` and `intrinsics/*.txt`, which hold 4 × 4 matrices, camera-to-world in `OpenCV`'s axes.

use std::path::Path;

use super::error::DatasetError;
use super::number_files::{is_matrix, numbers, opencv_pose, text_files};
use super::posed_image::{Fault, FrameList, Intrinsics, check_frames, frame};
use super::{Dataset, Format, Notes, Split, blender};
use crate::camera::Lens;
use crate::text::shown;

/// The folder of a split.
const fn folder_of(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Val => "validation",
        Split::Test => "test",
    }
}

/// Return whether `root` is a folder in this format.
pub(super) fn is(root: &Path) -> bool {
    let train = root.join(folder_of(Split::Train));
    ["rgb", "pose", "intrinsics"]
        .iter()
        .all(|name| train.join(name).is_dir())
}

/// Read the scene in `root`.
pub(super) fn open(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let mut dataset = Dataset::new(root, Format::NerfPlusPlus);
    for split in [Split::Train, Split::Val, Split::Test] {
        let folder = root.join(folder_of(split));
        let poses = folder.join("pose");
        if !poses.is_dir() {
            continue;
        }
        let mut list = FrameList::of(&poses);
        for pose_path in &text_files(&poses)? {
            let stem = pose_path.file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{}/rgb/{stem}", folder_of(split));
            let found = intrinsics(&folder.join("intrinsics").join(format!("{stem}.txt")))
                .and_then(|of| Ok((of, opencv_pose(pose_path, false)?)))
                .map_err(Fault::Image)
                .and_then(|(of, pose)| {
                    frame(root, &name, pose, None, |_| of, notes, || shown(pose_path))
                });
            list.add(found, root.join(&name), shown(pose_path), notes)?;
        }
        if split == Split::Train {
            list.check("holds no poses: expected one text file per view", notes)?;
        }
        dataset.missing.extend(list.missing);
        match split {
            Split::Train => dataset.train = list.frames,
            Split::Val => dataset.val = list.frames,
            Split::Test => dataset.test = list.frames,
        }
    }
    check_frames(
        &dataset.train,
        &dataset.missing,
        root,
        "holds no view",
        notes,
    )?;
    if dataset.test.is_empty() {
        blender::fall_back(&mut dataset);
    }
    dataset.finish(notes);
    Ok(dataset)
}

/// Read a matrix of intrinsics.
fn intrinsics(path: &Path) -> Result<Intrinsics, DatasetError> {
    let lines = numbers(path)?;
    if !is_matrix(&lines) {
        return Err(DatasetError::File {
            path: path.to_owned(),
            message: "expected a 4 × 4 matrix of intrinsics: copy the file again".to_owned(),
        });
    }
    let all = lines.concat();
    let side = if all.len() == 9 { 3 } else { 4 };
    Ok(Intrinsics {
        focal: [all[0], all[side + 1]],
        principal: [all[2], all[side + 2]],
        lens: Lens::Pinhole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{gradient, refused};

    fn write_view(root: &Path, split: &str, name: &str) {
        let at = |kind: &str, file: String| {
            let folder = root.join(split).join(kind);
            std::fs::create_dir_all(&folder).unwrap();
            folder.join(file)
        };
        let image = at("rgb", format!("{name}.png"));
        gradient(8, 6).save_png(&image).unwrap();
        let pose = "1 0 0 1 0 1 0 2 0 0 1 3 0 0 0 1\n";
        std::fs::write(at("pose", format!("{name}.txt")), pose).unwrap();
        let matrix = "10 0 4.5 0 0 11 3 0 0 0 1 0 0 0 0 1\n";
        std::fs::write(at("intrinsics", format!("{name}.txt")), matrix).unwrap();
    }

    #[test]
    fn splits_are_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write_view(root, "train", "0");
        write_view(root, "train", "1");
        write_view(root, "test", "0");
        let dataset = Dataset::open(root).unwrap();
        assert_eq!(dataset.format, Format::NerfPlusPlus);
        assert_eq!((dataset.train.len(), dataset.test.len()), (2, 1));
        let camera = dataset.train[0].camera;
        assert_eq!((camera.focal, camera.principal), ([10.0, 11.0], [4.5, 3.0]));
        assert_eq!(
            (camera.position(), camera.forward()),
            ([1.0, 2.0, 3.0], [0.0, 0.0, 1.0])
        );
        assert_eq!(dataset.test[0].name, "test/rgb/0");
        std::fs::write(root.join("train/intrinsics/1.txt"), "1 2").unwrap();
        refused(Dataset::open(root), &["1.txt", "matrix of intrinsics"]);
        std::fs::remove_file(root.join("train/intrinsics/1.txt")).unwrap();
        refused(Dataset::open(root), &["intrinsics", "1.txt", "cannot read"]);
    }
}
