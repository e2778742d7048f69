//! The format of Neural Sparse Voxel Fields (Liu et al. 2020): `rgb/*`, `pose/*.txt`, `intrinsics.txt` and `bbox.txt`.
//!
//! Poses are camera-to-world in `OpenCV`'s axes. The first character of a name is its split: `0_` train, `1_` val, `2_` test.
//! Without `2_`, as in Tanks and Temples and `BlendedMVS`, `1_` is test.

use std::path::Path;

use super::error::DatasetError;
use super::number_files::{is_matrix, numbers, opencv_pose, text_files};
use super::pixel_format::images_in;
use super::posed_image::check_frames;
use super::{Dataset, Format, Frame, Notes, blender, intrinsics, orientation, pixel_format};
use crate::camera::{Camera, Lens};
use crate::text::{escaped, shown};

const INTRINSICS: &str = "intrinsics.txt";
const BBOX: &str = "bbox.txt";
const NEAR_FAR: &str = "near_and_far.txt";
/// Factor by which boxes are enlarged: those of Mic and Lego cut off parts of the object.
const ENLARGED: f64 = 1.2;

/// Return whether `root` is a folder in this format. SRN folders lack the box, and have another file of intrinsics.
pub(super) fn is(root: &Path) -> bool {
    let file = root.join(INTRINSICS);
    root.join("pose").is_dir()
        && root.join("rgb").is_dir()
        && file.exists()
        && (root.join(BBOX).exists() || numbers(&file).is_ok_and(|lines| is_matrix(&lines)))
}

/// Focal lengths and principal point in pixels.
struct Intrinsics {
    focal: [f64; 2],
    principal: [f64; 2],
}

impl Intrinsics {
    fn read(path: &Path) -> Result<Self, DatasetError> {
        let lines = numbers(path)?;
        let all = lines.concat();
        let side = match all.len() {
            9 => 3,
            16 => 4,
            _ => 0,
        };
        let found = match lines.as_slice() {
            _ if side > 0 && is_matrix(&lines) => Self {
                focal: [all[0], all[side + 1]],
                principal: [all[2], all[side + 2]],
            },
            [first, ..] if first.len() >= 3 => Self {
                focal: [first[0]; 2],
                principal: [first[1], first[2]],
            },
            _ => {
                return Err(DatasetError::File {
                    path: path.to_owned(),
                    message: "expected a 3 × 3 or 4 × 4 matrix of intrinsics, or a line with focal length, cx and cy".to_owned(),
                });
            }
        };
        if found.focal.iter().any(|focal| *focal <= 0.0) {
            return Err(DatasetError::File {
                path: path.to_owned(),
                message: format!(
                    "the focal lengths {:?} should be positive: correct the file or copy it again",
                    found.focal
                ),
            });
        }
        Ok(found)
    }
}

/// Return the scale and offset to the unit cube of the box in `path`.
fn unit_cube(path: &Path) -> Result<(f64, [f64; 3]), DatasetError> {
    let all = numbers(path)?.concat();
    let fault = |message: String| DatasetError::File {
        path: path.to_owned(),
        message,
    };
    let [x, y, z, to_x, to_y, to_z, ..] = *all.as_slice() else {
        return Err(fault(
            "expected the minimum and maximum of the box, six numbers, and optionally the size of a voxel".to_owned(),
        ));
    };
    let sides = [to_x - x, to_y - y, to_z - z];
    if sides.iter().any(|side| *side <= 0.0) {
        return Err(fault(format!(
            "the sides of its box, {sides:?}, should be positive: correct the file or copy it again"
        )));
    }
    let side = sides.into_iter().fold(0.0, f64::max);
    let scale = 1.0 / (ENLARGED * side);
    let middle = [x + to_x, y + to_y, z + to_z].map(|sum| 0.5 * sum);
    Ok((scale, middle.map(|m| 0.5 - m * scale)))
}

/// Return the near and far bounds in `path`, if it exists.
fn near_far(path: &Path) -> Result<Option<[f32; 2]>, DatasetError> {
    if !path.exists() {
        return Ok(None);
    }
    match *numbers(path)?.concat().as_slice() {
        [near, far] if near >= 0.0 && near < far => Ok(Some([near as f32, far as f32])),
        _ => Err(DatasetError::File {
            path: path.to_owned(),
            message: "expected two numbers, 0 ≤ near < far: correct the file or remove it"
                .to_owned(),
        }),
    }
}

/// Read the scene in `root`.
pub(super) fn open(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let of = Intrinsics::read(&root.join(INTRINSICS))?;
    let near_far = near_far(&root.join(NEAR_FAR))?;
    let folder = root.join("pose");
    let images = images_in(&root.join("rgb"));
    let mut dataset = Dataset::new(root, Format::Nsvf);
    if root.join(BBOX).exists() {
        let (scale, offset) = unit_cube(&root.join(BBOX))?;
        (dataset.scale, dataset.offset) = (Some(scale), Some(offset));
    }
    let mut frames = Vec::new();
    for path in &text_files(&folder)? {
        let stem = path.file_stem().unwrap_or_default();
        let Some(image) = images.iter().find(|image| image.file_stem() == Some(stem)) else {
            let absent = root.join("rgb").join(stem).with_extension("png");
            dataset.missing.push(absent);
            continue;
        };
        match frame(path, image, &of, near_far, notes) {
            Ok(frame) => frames.push((stem.to_string_lossy().into_owned(), frame)),
            Err(error) => notes.fault(error)?,
        }
    }
    if frames.is_empty() {
        check_frames(
            &[],
            &dataset.missing,
            &folder,
            "holds no poses: expected one text file per view",
            notes,
        )?;
    }
    split(&mut dataset, frames);
    dataset.finish(notes);
    Ok(dataset)
}

/// Distribute the frames over the splits by the first characters of their names.
fn split(dataset: &mut Dataset, frames: Vec<(String, Frame)>) {
    let has = |prefix: &str| frames.iter().any(|(name, _)| name.starts_with(prefix));
    let all = frames.iter().all(|(name, _)| {
        ["0_", "1_", "2_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    if !all || !has("0_") {
        dataset.hold_out(frames.into_iter().map(|(_, frame)| frame).collect());
        return;
    }
    let has_test = has("2_");
    for (name, frame) in frames {
        match name.as_bytes()[0] {
            b'0' => dataset.train.push(frame),
            b'1' if has_test => dataset.val.push(frame),
            _ => dataset.test.push(frame),
        }
    }
    if dataset.test.is_empty() {
        blender::fall_back(dataset);
    }
}

fn frame(
    pose_path: &Path,
    image_path: &Path,
    of: &Intrinsics,
    near_far: Option<[f32; 2]>,
    notes: &mut Notes,
) -> Result<Frame, DatasetError> {
    let world_from_camera = opencv_pose(pose_path, false)?;
    let header = pixel_format::header(image_path)?;
    let orientation = notes.choose_orientation(&header, None, || shown(image_path));
    let [width, height] = orientation::oriented_size(header.size, orientation);
    let stem = image_path.file_stem().unwrap_or_default();
    let camera = Camera {
        world_from_camera,
        width,
        height,
        focal: of.focal.map(|v| v as f32),
        principal: of.principal.map(|v| v as f32),
        lens: Lens::Pinhole,
    };
    intrinsics::check(&camera, notes, || shown(image_path)).map_err(|message| {
        DatasetError::File {
            path: image_path.to_owned(),
            message,
        }
    })?;
    Ok(Frame {
        name: escaped(&format!("rgb/{}", stem.to_string_lossy())),
        image_path: image_path.to_owned(),
        orientation,
        camera,
        near_far,
        mask: None,
        depth: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{gradient, refused};

    /// Write a scene with the views of these names; return its folder.
    fn scene(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["rgb", "pose"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at(INTRINSICS), "9 0 4 0\n0 9.5 3 0\n0 0 1 0\n0 0 0 1\n").unwrap();
        std::fs::write(at(BBOX), "-1 -2 -0.5 1 2 0.5 0.1\n").unwrap();
        for (i, name) in names.iter().enumerate() {
            gradient(8, 6)
                .save_png(&at(&format!("rgb/{name}.png")))
                .unwrap();
            let pose = format!("1 0 0 {i}\n0 1 0 2\n0 0 1 -3\n0 0 0 1\n");
            std::fs::write(at(&format!("pose/{name}.txt")), pose).unwrap();
        }
        folder
    }

    #[test]
    fn names_are_split_by_their_first_character() {
        let folder = scene(&["0_a", "0_b", "1_a", "2_a", "2_b"]);
        let dataset = Dataset::open(folder.path()).unwrap();
        let counts = |d: &Dataset| (d.train.len(), d.val.len(), d.test.len());
        assert_eq!(
            (dataset.format, counts(&dataset)),
            (Format::Nsvf, (2, 1, 2))
        );
        assert!(dataset.warnings.is_empty(), "{:?}", dataset.warnings);
        let camera = dataset.train[1].camera;
        // Axes y and z point the other way.
        assert_eq!(
            camera.world_from_camera,
            [
                [1.0, 0.0, 0.0, 1.0],
                [0.0, -1.0, 0.0, 2.0],
                [0.0, 0.0, -1.0, -3.0]
            ]
        );
        assert_eq!((camera.focal, camera.principal), ([9.0, 9.5], [4.0, 3.0]));
        // The longest side of the box, 4, is enlarged by 1.2.
        let scale = dataset.scale.unwrap();
        assert!((scale - 1.0 / 4.8).abs() < 1e-12);
        assert_eq!(dataset.offset, Some([0.5; 3]));
        // Without 2_, 1_ is test; without prefixes every 8th view is.
        let dataset = Dataset::open(scene(&["0_a", "0_b", "1_a"]).path()).unwrap();
        assert_eq!(counts(&dataset), (2, 0, 1));
        let dataset = Dataset::open(scene(&["a", "b", "0_c"]).path()).unwrap();
        assert_eq!(counts(&dataset), (2, 0, 1));
        assert!(dataset.is_held_out);
    }

    #[test]
    fn intrinsics_are_a_matrix_or_a_line() {
        let folder = scene(&["0_a", "1_a"]);
        for text in [
            "9 0 4\n0 9 3\n0 0 1\n",
            "9 4 3 0\n0 0 0\n1\n",
            "9 0 4 0 0 9 3 0 0 0 1 0 0 0 0 1\n",
        ] {
            std::fs::write(folder.path().join(INTRINSICS), text).unwrap();
            let camera = Dataset::open(folder.path()).unwrap().train[0].camera;
            assert_eq!(
                (camera.focal, camera.principal),
                ([9.0; 2], [4.0, 3.0]),
                "{text}"
            );
        }
        std::fs::write(folder.path().join(NEAR_FAR), "0.5 6\n").unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.train[0].near_far, Some([0.5, 6.0]));
    }

    #[test]
    fn faults_name_their_file() {
        let folder = scene(&["0_a", "1_a"]);
        let at = |name: &str| folder.path().join(name);
        let cases = [
            (INTRINSICS, "9 0\n", "expected a 3 × 3"),
            (INTRINSICS, "0 4 3\n", "should be positive"),
            (BBOX, "-1 -1 -1 1 1\n", "six numbers"),
            (BBOX, "-1 -1 -1 1 1 -1\n", "should be positive"),
            (NEAR_FAR, "6 0.5\n", "0 ≤ near < far"),
            ("pose/0_a.txt", "1 0 0\n", "16 numbers"),
            ("pose/0_a.txt", "x\n", "not a finite number"),
        ];
        for (name, text, message) in cases {
            let before = std::fs::read(at(name)).ok();
            std::fs::write(at(name), text).unwrap();
            refused(Dataset::open(folder.path()), &[name, message]);
            match before {
                Some(before) => std::fs::write(at(name), before).unwrap(),
                None => std::fs::remove_file(at(name)).unwrap(),
            }
        }
        std::fs::remove_dir_all(at("rgb")).unwrap();
        std::fs::create_dir(at("rgb")).unwrap();
        refused(
            Dataset::open(folder.path()),
            &["none of the 2 images exists"],
        );
    }
}
