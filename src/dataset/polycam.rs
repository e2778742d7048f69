//! Polycam's raw data of `LiDAR` and photo captures: `keyframes/cameras/*.json`, `keyframes/images/*`, and depth if it was measured.
//!
//! Camera files hold the intrinsics and a camera-to-world matrix `t_00` to `t_23` in `ARKit`'s axes, y up; its rows are taken in the
//! order 2, 0, 1, so that z is up. The corrected cameras and images, after the app's global optimisation, take precedence.

use std::path::Path;

use super::error::DatasetError;
use super::json::Document;
use super::pixel_format::images_in;
use super::points::DepthSource;
use super::pose::make_rigid;
use super::posed_image::{Fault, FrameList, Intrinsics, frame};
use super::{Dataset, Format, Frame, Notes};
use crate::camera::Lens;
use crate::text::{counted_len, escaped};

/// Folders of cameras and images, in the order of their precedence.
const FOLDERS: [[&str; 2]; 2] = [
    ["corrected_cameras", "corrected_images"],
    ["cameras", "images"],
];
const KEYFRAMES: &str = "keyframes";
const DEPTH: &str = "depth";
/// World units (metres) per unit of a depth image.
const MILLIMETRE: f64 = 1e-3;
/// Images with a lower score are blurred, and left out (the limit of nerfstudio's converter).
const MIN_BLUR_SCORE: f64 = 25.0;

/// Return whether `root` is a folder in this format.
pub(super) fn is(root: &Path) -> bool {
    folders(root).is_some()
}

fn folders(root: &Path) -> Option<[std::path::PathBuf; 2]> {
    let found = FOLDERS.map(|names| names.map(|name| root.join(KEYFRAMES).join(name)));
    found
        .into_iter()
        .find(|names| names.iter().all(|folder| folder.is_dir()))
}

/// Read the dataset in `root`.
pub(super) fn open(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let Some([cameras, images]) = folders(root) else {
        return Err(DatasetError::NotADataset {
            path: root.to_owned(),
            looked_for: format!("looked for {KEYFRAMES}/cameras and {KEYFRAMES}/images"),
        });
    };
    let entries = cameras
        .read_dir()
        .map_err(|e| DatasetError::read(&cameras, e))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut dataset = Dataset::new(root, Format::Polycam);
    let mut list = FrameList::of(&cameras);
    let mut blurred = 0;
    for file in &files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let document = match Document::read(file) {
            Ok(document) => document,
            Err(error) => {
                notes.fault(error)?;
                continue;
            }
        };
        match document.fields().number("blur_score") {
            Ok(Some(score)) if score < MIN_BLUR_SCORE => {
                blurred += 1;
                continue;
            }
            Ok(_) => {}
            Err(error) => {
                notes.fault(error)?;
                continue;
            }
        }
        let found = camera(&document, &images, &stem, notes);
        list.add(found, images.join(&*stem), escaped(&stem), notes)?;
    }
    if blurred > 0 {
        dataset.warnings.push(format!(
            "{} with a `blur_score` below {MIN_BLUR_SCORE}: left out",
            counted_len(blurred, "image")
        ));
    }
    let none = if blurred > 0 {
        "all of its images are blurred (their `blur_score` is below 25): hold the camera still, and scan again"
    } else {
        "holds no camera: export the raw data again"
    };
    list.check(none, notes)?;
    let depths = images_in(&root.join(KEYFRAMES).join(DEPTH));
    for frame in &mut list.frames {
        let stem = frame.image_path.file_stem();
        let depth = depths.iter().find(|depth| depth.file_stem() == stem);
        frame.depth = depth.map(|path| DepthSource::File {
            path: path.clone(),
            unit: MILLIMETRE,
            is_distance: false,
        });
    }
    dataset.missing = list.missing;
    dataset.hold_out(list.frames);
    dataset.warn_without_test_view();
    dataset.finish(notes);
    Ok(dataset)
}

/// Return the frame of the camera in `document`.
fn camera(
    document: &Document,
    images: &Path,
    stem: &str,
    notes: &mut Notes,
) -> Result<Option<Frame>, Fault> {
    let fields = document.fields();
    let required = |key: &str| -> Result<f64, Fault> {
        let value = fields.number(key).map_err(Fault::Image)?;
        value.ok_or_else(|| Fault::Entry(format!("`{key}` is missing: export the raw data again")))
    };
    let mut matrix = [[0.0; 4]; 3];
    for (row, name) in matrix.iter_mut().zip(["2", "0", "1"]) {
        for (column, value) in row.iter_mut().enumerate() {
            *value = required(&format!("t_{name}{column}"))?;
        }
    }
    make_rigid(&mut matrix).map_err(|cause| format!("{cause}: export the raw data again"))?;
    let intrinsics = Intrinsics {
        focal: [required("fx")?, required("fy")?],
        principal: [required("cx")?, required("cy")?],
        lens: Lens::Pinhole,
    };
    let declared = [required("width")?, required("height")?];
    if declared.iter().any(|side| *side < 1.0) {
        let [w, h] = declared;
        return Err(Fault::Entry(format!(
            "its `width` and `height` are {w} × {h}: export the raw data again"
        )));
    }
    let declared = Some(declared);
    let place = || escaped(stem);
    frame(images, stem, matrix, declared, |_| intrinsics, notes, place)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dataset::tests::{gradient, refused};

    fn scene(folders: [&str; 2], cameras: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(KEYFRAMES).join(name);
        for name in folders.into_iter().chain([DEPTH]) {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for (name, camera) in cameras {
            let text = camera.to_string();
            std::fs::write(at(folders[0]).join(format!("{name}.json")), text).unwrap();
            let image = gradient(8, 6);
            image
                .save_png(&at(folders[1]).join(format!("{name}.png")))
                .unwrap();
        }
        gradient(4, 3).save_png(&at(DEPTH).join("2.png")).unwrap();
        folder
    }

    fn camera(score: f64) -> Value {
        json!({
            "fx": 12.0, "fy": 12.0, "cx": 8.0, "cy": 6.0, "width": 16, "height": 12, "blur_score": score,
            "t_00": 1.0, "t_01": 0.0, "t_02": 0.0, "t_03": 1.0,
            "t_10": 0.0, "t_11": 1.0, "t_12": 0.0, "t_13": 2.0,
            "t_20": 0.0, "t_21": 0.0, "t_22": 1.0, "t_23": 3.0,
        })
    }

    #[test]
    fn sharp_images_are_read_with_depth() {
        for folders in FOLDERS {
            let cameras = [("1", camera(90.0)), ("2", camera(80.0)), ("3", camera(9.0))];
            let folder = scene(folders, &cameras);
            let dataset = Dataset::open(folder.path()).unwrap();
            assert_eq!((dataset.format, dataset.train.len()), (Format::Polycam, 1));
            let view = &dataset.train[0];
            assert_eq!(
                (view.camera.focal, view.camera.principal),
                ([6.0; 2], [4.0, 3.0])
            );
            // z is up, which was y.
            assert_eq!(view.camera.position(), [3.0, 1.0, 2.0]);
            assert_eq!(view.camera.forward(), [-1.0, 0.0, 0.0]);
            assert!(matches!(&view.depth, Some(DepthSource::File { unit, .. }) if *unit == 1e-3));
            assert!(dataset.test[0].depth.is_none());
            assert!(
                dataset.warnings[0].contains("blur_score"),
                "{:?}",
                dataset.warnings
            );
        }
    }

    #[test]
    fn faults_name_the_camera() {
        let mut broken = camera(90.0);
        broken["t_11"] = json!(5.0);
        refused(
            Dataset::open(scene(FOLDERS[1], &[("7", broken)]).path()),
            &["7", "not rigid"],
        );
        let mut broken = camera(90.0);
        broken["fx"] = Value::Null;
        refused(
            Dataset::open(scene(FOLDERS[1], &[("7", broken)]).path()),
            &["7", "`fx`"],
        );
        refused(
            Dataset::open(scene(FOLDERS[1], &[]).path()),
            &["holds no camera"],
        );
    }
}
