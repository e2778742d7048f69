//! Poses without images, such as camera paths from `BlenderNeRF`. They can be rendered, but not used for training or metrics.

use std::path::Path;

use super::error::DatasetError;
use super::find_image::{as_written, frame_name, without_dot};
use super::json::{Document, Fields};
use super::{Notes, Split, intrinsics, orientation, pixel_format, pose};
use crate::camera::Camera;

/// A view without an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewWithoutImage {
    /// The view's name, as in [`super::Frame`].
    pub name: String,
    /// Pose and intrinsics.
    pub camera: Camera,
    /// Start and end of rays in world units, if the file gives them.
    pub near_far: Option<[f32; 2]>,
}

/// Return the view of a frame without an image. If the file gives no size, use `usual`, the size of other images.
pub(super) fn without_images(
    fields: &Fields,
    usual: Option<[u32; 2]>,
) -> Result<ViewWithoutImage, DatasetError> {
    let declared = intrinsics::declared(fields)?.map(|sides| sides.map(|v| v.round() as u32));
    let size = declared.or(usual).ok_or_else(|| {
        fields.error(
            "neither `w` and `h` nor an image give the size to render it at: add `w` and `h`",
        )
    })?;
    view(fields, size)
}

fn view(fields: &Fields, size: [u32; 2]) -> Result<ViewWithoutImage, DatasetError> {
    // Notes are dropped, since the view is not used for training.
    let mut notes = Notes::default();
    let pose = pose::pose(fields, &mut notes)?;
    let name = fields.own("file_path").and_then(serde_json::Value::as_str);
    Ok(ViewWithoutImage {
        name: frame_name(name.unwrap_or_default()),
        camera: intrinsics::camera(fields, size, "exchange width and height", pose, &mut notes)?,
        near_far: intrinsics::near_far(fields)?,
    })
}

/// Parse all views of a transforms file with the content `text`, whether or not their images exist. If the file does not give a
/// size, use that of the existing images, else that of the training images beside the file.
///
/// # Errors
/// A [`DatasetError`] if the file is not a transforms file, or for the first frame that is not a valid view.
pub fn parse_poses(file: &Path, text: &[u8]) -> Result<Vec<ViewWithoutImage>, DatasetError> {
    let root = file.parent().unwrap_or(Path::new(""));
    let document = Document::parse(file, text)?;
    let frames: Vec<Fields> = document.frames()?.into_iter().collect::<Result<_, _>>()?;
    if frames.is_empty() {
        return Err(document
            .fields()
            .error("`frames` is empty: expected at least one {transform_matrix}"));
    }
    let own: Vec<Option<[u32; 2]>> = frames.iter().map(|f| size_of(root, f)).collect();
    let usual = own
        .iter()
        .flatten()
        .next()
        .copied()
        .or_else(|| size_beside(root));
    let view = |(fields, own): (&Fields, Option<[u32; 2]>)| match own {
        Some(size) => view(fields, size),
        None => without_images(fields, usual),
    };
    frames.iter().zip(own).map(view).collect()
}

/// Return the size of a frame's image, if it exists under its exact name.
fn size_of(root: &Path, fields: &Fields) -> Option<[u32; 2]> {
    let path = fields.own("file_path")?.as_str()?;
    let header = pixel_format::header(&as_written(root, without_dot(path))?).ok()?;
    let declared = intrinsics::declared(fields).ok()?;
    let orientation = Notes::default().orientation_for(&header, declared);
    Some(orientation::oriented_size(header.size, orientation))
}

/// Return the size of the first existing training image in `root`.
fn size_beside(root: &Path) -> Option<[u32; 2]> {
    let document = Document::read(&root.join(Split::Train.file_name())).ok()?;
    let frames = document.frames().ok()?;
    frames.iter().flatten().find_map(|f| size_of(root, f))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dataset::Dataset;
    use crate::dataset::tests::{Scene, refused};

    fn read_poses(file: &Path) -> Result<Vec<ViewWithoutImage>, DatasetError> {
        parse_poses(file, &std::fs::read(file).unwrap())
    }

    #[test]
    fn a_split_without_images_can_be_seen_but_not_measured() {
        let scene = Scene::new(4);
        let write = |name: &str, json: &serde_json::Value| {
            std::fs::write(scene.path(name), json.to_string()).unwrap();
        };
        write("transforms_train.json", &scene.json);
        let mut test = scene.json.clone();
        for i in 0..4 {
            test["frames"][i]["file_path"] = json!(format!("./test/r_{i}"));
        }
        write("transforms_test.json", &test);
        let dataset = Dataset::open(&scene.path("transforms_train.json")).unwrap();
        let poses = dataset.poses(Split::Test);
        assert_eq!((poses.len(), dataset.poses(Split::Train).len()), (4, 0));
        assert_eq!(poses[2].name, "test/r_2");
        // The same size and field of view as the training images.
        let like = dataset.train[0].camera;
        assert_eq!(
            (
                poses[2].camera.width,
                poses[2].camera.height,
                poses[2].camera.focal
            ),
            (8, 6, like.focal)
        );
        assert_eq!(poses[3].camera.position().map(|v| v as i32), [1, 3, 3]);
        // Every 8th training view is held out as the test split.
        assert_eq!((dataset.train.len(), dataset.test.len()), (3, 1));
        assert!(dataset.missing.is_empty());
        assert!(
            dataset.warnings[0].contains("4 poses") && dataset.warnings[0].contains("render"),
            "{:?}",
            dataset.warnings
        );
        let all = read_poses(&scene.path("transforms_test.json")).unwrap();
        assert_eq!(all, poses);
    }

    #[test]
    fn poses_of_a_file_have_a_size_or_are_refused() {
        let mut scene = Scene::new(2);
        let file = scene.path("transforms.json");
        scene.open().unwrap();
        let all = read_poses(&file).unwrap();
        assert_eq!((all.len(), all[1].camera.width), (2, 8));
        std::fs::remove_dir_all(scene.path("images")).unwrap();
        refused(read_poses(&file), &["frame 0", "`w` and `h`"]);
        for (key, value) in [("w", json!(20)), ("h", json!(10))] {
            scene.json[key] = value;
        }
        scene.json["frames"][0]["file_path"] = json!(null);
        std::fs::write(&file, scene.json.to_string()).unwrap();
        let camera = read_poses(&file).unwrap()[0].camera;
        assert_eq!(
            (camera.width, camera.height, camera.principal),
            (20, 10, [10.0, 5.0])
        );
    }
}
