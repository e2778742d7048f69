//! The format of Instant-NGP and nerfstudio: one `transforms.json`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::DatasetError;
use super::find_image::frame_name;
use super::frames::Roots;
use super::json::{Document, Fields};
use super::points::read_ply;
use super::{Dataset, Format, Notes, Split, TRANSFORMS, blender, frames};
use crate::files::parent;
use crate::json_text::kind;
use crate::text::{counted_len, one_line, shown};

/// Where `ScanNet++` keeps its file, in the folder of a scene.
const SCANNET: &str = "dslr/nerfstudio/transforms.json";
/// The list of `ScanNet++`'s test views.
const TEST_FRAMES: &str = "test_frames";
/// The folders of `ScanNet++`'s images and masks, beside that of the file.
const SCANNET_IMAGES: [&str; 2] = ["resized_images", "resized_undistorted_images"];
const SCANNET_MASKS: [&str; 2] = ["resized_anon_masks", "resized_undistorted_masks"];
/// Keys that tell how a converter moved the scene before it wrote the poses.
const MOVED: [&str; 3] = ["applied_transform", "applied_scale", "orientation_override"];

/// Return the file in the folder `root` of a scene.
pub(super) fn file_in(root: &Path) -> Option<PathBuf> {
    [TRANSFORMS, SCANNET]
        .map(|name| root.join(name))
        .into_iter()
        .find(|file| file.is_file())
}

/// Read the dataset in the folder `root`.
pub(super) fn open_folder(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let file = file_in(root).unwrap_or_else(|| root.join(TRANSFORMS));
    let mut dataset = open(&parent(&file), &file, notes)?;
    dataset.name = Dataset::new(root, Format::Transforms).name;
    Ok(dataset)
}

/// Read the dataset that `file` describes; image paths are relative to its folder `root`.
pub(super) fn open(root: &Path, file: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let document = Document::read(file)?;
    let fields = document.fields();
    if document.has(TEST_FRAMES) {
        return open_scannet(root, &document, notes);
    }
    let found = frames::read_some(&document, root, notes)?;
    let mut dataset = Dataset::new(root, Format::Transforms).with_hints(&fields)?;
    dataset.missing = found.missing;
    let moved: Vec<String> = MOVED
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .map(|key| format!("`{key}`"))
        .collect();
    if !moved.is_empty() {
        dataset.variant = format!(
            "of nerfstudio; world space is that of its poses, whatever {} may say",
            moved.join(" and ")
        );
    }
    read_points(&mut dataset, &fields, root)?;
    let lists = [
        listed(&fields, Split::Train)?,
        listed(&fields, Split::Val)?,
        listed(&fields, Split::Test)?,
    ];
    if lists.iter().all(Option::is_none) {
        dataset.hold_out(found.frames);
        dataset.warn_without_test_view();
    } else {
        let [train, val, test] = lists;
        let (val, test) = (val.unwrap_or_default(), test.unwrap_or_default());
        // Without a list of its own, the training split has what the others leave.
        let train = train.unwrap_or_else(|| {
            let names = found.frames.iter().map(|frame| frame.name.clone());
            names
                .filter(|name| !val.contains(name) && !test.contains(name))
                .collect()
        });
        let known: HashSet<&str> = found
            .frames
            .iter()
            .map(|frame| frame.name.as_str())
            .chain(found.without_images.iter().map(|pose| pose.name.as_str()))
            .collect();
        let mut unknown: Vec<&String> = [&train, &val, &test]
            .into_iter()
            .flatten()
            .filter(|name| !known.contains(name.as_str()))
            .collect();
        unknown.sort();
        if let Some(first) = unknown.first() {
            dataset.warnings.push(format!(
                "{} in the file's split lists {} no frame, the first {}: correct the lists",
                counted_len(unknown.len(), "name"),
                if unknown.len() == 1 {
                    "is of"
                } else {
                    "are of"
                },
                one_line(first)
            ));
        }
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

/// Read a scene of `ScanNet++`: views to train on in `frames`, others in `test_frames`, with images and masks in folders beside
/// that of the file.
fn open_scannet(
    root: &Path,
    document: &Document,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    let beside = |names: [&str; 2]| {
        let folders = names.map(|name| parent(root).join(name));
        let found = folders.into_iter().find(|folder| folder.is_dir());
        found.unwrap_or_else(|| root.to_owned())
    };
    let (images, companions) = (beside(SCANNET_IMAGES), beside(SCANNET_MASKS));
    let roots = Roots {
        images: &images,
        companions: &companions,
    };
    let train = frames::read_some_of(document, roots, notes)?;
    let test = frames::read_list(document, TEST_FRAMES, roots, notes)?;
    let mut dataset = Dataset::new(root, Format::Transforms).with_hints(&document.fields())?;
    dataset.add_variant("of ScanNet++, with its test views");
    read_points(&mut dataset, &document.fields(), root)?;
    dataset.missing = [train.missing, test.missing].concat();
    dataset.train = train.frames;
    dataset.test = test.frames;
    if dataset.test.is_empty() {
        blender::fall_back(&mut dataset);
    }
    dataset.finish(notes);
    Ok(dataset)
}

/// Read the sparse points that `ply_file_path` names, if the file has that key.
fn read_points(dataset: &mut Dataset, fields: &Fields, root: &Path) -> Result<(), DatasetError> {
    let Some(name) = fields.text("ply_file_path")? else {
        return Ok(());
    };
    let path = root.join(name);
    if path.is_file() {
        dataset.points = read_ply(&path)?;
    } else {
        dataset.warnings.push(format!(
            "{}, which `ply_file_path` names, does not exist: there are no sparse points",
            shown(&path)
        ));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::camera::Lens;
    use crate::dataset::tests::{Scene, gradient, refused};
    use crate::dataset::{Dataset, Format};

    #[test]
    fn scannet_scenes_have_their_own_folders_and_test_views() {
        let mut scene = Scene::new(5);
        let frames = scene.json["frames"].as_array().unwrap().clone();
        let named = |range: std::ops::Range<usize>| {
            let mut frames = frames[range].to_vec();
            for frame in &mut frames {
                let name = frame["file_path"].as_str().unwrap();
                let name = name.rsplit('/').next().unwrap().to_owned();
                frame["mask_path"] = json!(name);
                frame["file_path"] = json!(name);
            }
            frames
        };
        scene.json["frames"] = json!(named(0..3));
        scene.json["frames"][1]["is_bad"] = json!(true);
        scene.json["test_frames"] = json!(named(3..5));
        scene.json["ply_file_path"] = json!("absent.ply");
        let folder = |name: &str| scene.path("scene/dslr").join(name);
        std::fs::create_dir_all(folder("nerfstudio")).unwrap();
        std::fs::rename(scene.path("images"), folder("resized_images")).unwrap();
        std::fs::create_dir_all(folder("resized_anon_masks")).unwrap();
        gradient(8, 6)
            .save_png(&folder("resized_anon_masks").join("0003.png"))
            .unwrap();
        std::fs::write(folder("nerfstudio/transforms.json"), scene.json.to_string()).unwrap();
        let dataset = Dataset::open(&scene.path("scene")).unwrap();
        assert_eq!(
            (dataset.format, dataset.name.as_str()),
            (Format::Transforms, "scene")
        );
        assert!(dataset.variant.contains("ScanNet++"), "{}", dataset.variant);
        assert_eq!(
            (dataset.train.len(), dataset.test.len(), dataset.n_masks()),
            (2, 2, 1)
        );
        assert!(dataset.test[0].mask.is_some());
        let told = |part: &str| dataset.warnings.iter().any(|w| w.contains(part));
        assert!(
            told("blurred") && told("`mask_path`") && told("absent.ply"),
            "{:?}",
            dataset.warnings
        );
    }

    #[test]
    fn names_without_a_frame_are_told() {
        let mut scene = Scene::new(3);
        let lists = [
            (
                "train_filenames",
                json!(["images/0000.png", "images/0001.png"]),
            ),
            ("test_filenames", json!(["images/0002.png", "images/9.png"])),
        ];
        let dataset = scene.open_with(None, &lists).unwrap();
        assert_eq!((dataset.train.len(), dataset.test.len()), (2, 1));
        let is_told = |w: &String| w.contains("1 name in") && w.contains("images/9");
        assert!(
            dataset.warnings.iter().any(is_told),
            "{:?}",
            dataset.warnings
        );
    }

    #[test]
    fn colmaps_name_of_the_only_coefficient_is_read() {
        let mut scene = Scene::new(2);
        let keys = [("camera_model", json!("SIMPLE_RADIAL")), ("k", json!(0.1))];
        let dataset = scene.open_with(None, &keys).unwrap();
        let lens = Lens::OpenCv {
            k1: 0.1,
            k2: 0.0,
            k3: 0.0,
            p1: 0.0,
            p2: 0.0,
        };
        assert_eq!(dataset.train[0].camera.lens, lens);
    }

    #[test]
    fn sparse_points_are_read_where_a_file_names_them() {
        let mut scene = Scene::new(2);
        let key = ("ply_file_path", json!("points.ply"));
        let dataset = scene.open_with(None, std::slice::from_ref(&key)).unwrap();
        assert!(
            dataset.warnings[0].contains("points.ply"),
            "{:?}",
            dataset.warnings
        );
        let header = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n";
        std::fs::write(scene.path("points.ply"), format!("{header}1 2 3\n")).unwrap();
        let moved = ("applied_scale", json!(2.0));
        let dataset = scene.open_with(None, &[key.clone(), moved]).unwrap();
        assert_eq!(dataset.points.positions, [[1.0, 2.0, 3.0]]);
        assert!(
            dataset.variant.contains("`applied_scale`"),
            "{}",
            dataset.variant
        );
        std::fs::write(scene.path("points.ply"), "ply\n").unwrap();
        refused(scene.open_with(None, &[key]), &["points.ply", "PLY"]);
    }
}
