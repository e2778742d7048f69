//! Tests of the supported formats: correct datasets in temporary folders, and datasets with every kind of fault.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::camera::Lens;

const ANGLE: f64 = 0.8;

/// A folder with `n` views of 8 × 6 pixels and the document that describes them.
pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub json: Value,
}

impl Scene {
    pub fn new(n: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        let frames: Vec<_> = (0..n)
            .map(|i| {
                gradient(8, 6)
                    .save_png(&folder.path().join(format!("images/{i:04}.png")))
                    .unwrap();
                json!({ "file_path": format!("./images/{i:04}.png"), "transform_matrix": pose(i) })
            })
            .collect();
        let json = json!({ "camera_angle_x": ANGLE, "frames": frames });
        Self { folder, json }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn open(&self) -> Result<Dataset, DatasetError> {
        std::fs::write(self.path("transforms.json"), self.json.to_string()).unwrap();
        Dataset::open(self.folder.path())
    }

    /// Open the dataset with `keys` set in the file, or in frame `frame`.
    pub fn open_with(
        &mut self,
        frame: Option<usize>,
        keys: &[(&str, Value)],
    ) -> Result<Dataset, DatasetError> {
        let before = self.json.clone();
        let target = match frame {
            Some(frame) => &mut self.json["frames"][frame],
            None => &mut self.json,
        };
        for (key, value) in keys {
            target[key] = value.clone();
        }
        let result = self.open();
        self.json = before;
        result
    }
}

fn pose(i: usize) -> Value {
    let (sin, cos) = (0.3 * i as f64).sin_cos();
    json!([
        [cos, -sin, 0.0, 1.0],
        [sin, cos, 0.0, i],
        [0.0, 0.0, 1.0, 3.0],
        [0.0, 0.0, 0.0, 1.0]
    ])
}

pub(super) fn gradient(width: u32, height: u32) -> Image {
    let pixels = (0..width * height)
        .flat_map(|i| [(3 * i) as u8, (5 * i) as u8, 200, 255])
        .collect();
    Image {
        width,
        height,
        pixels,
        has_alpha: false,
        mask: None,
    }
}

/// Assert that `result` is an error whose message is one line that contains `parts`.
#[track_caller]
pub(super) fn refused<T>(result: Result<T, DatasetError>, parts: &[&str]) {
    let text = result
        .map(|_| ())
        .expect_err("should be refused")
        .to_string();
    assert!(!text.contains('\n'), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn holds_out_every_eighth_view() {
    let dataset = Scene::new(17).open().unwrap();
    let names = |split| {
        dataset
            .frames(split)
            .iter()
            .map(|f| f.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(Split::Test),
        ["images/0000", "images/0008", "images/0016"]
    );
    assert_eq!((dataset.train.len(), dataset.val.len()), (14, 0));
    assert_eq!(
        (dataset.format, dataset.warnings.len()),
        (Format::Transforms, 0)
    );
    let camera = dataset.test[1].camera;
    assert_eq!(camera.position().map(|v| v as i32), [1, 8, 3]);
    let focal = 4.0 / (0.5 * ANGLE).tan() as f32; // ½ · 8 pixels
    assert!((camera.focal[0] - focal).abs() < 1e-5 && (camera.focal[1] - focal).abs() < 1e-5);
    assert_eq!((camera.principal, camera.lens), ([4.0, 3.0], Lens::Pinhole));
}

#[test]
fn absent_images_are_skipped_before_the_split() {
    let scene = Scene::new(10);
    for i in [0, 3] {
        std::fs::remove_file(scene.path(&format!("images/{i:04}.png"))).unwrap();
    }
    let dataset = scene.open().unwrap();
    assert_eq!(
        (
            dataset.missing.len(),
            dataset.train.len(),
            dataset.test.len()
        ),
        (2, 7, 1)
    );
    assert_eq!(dataset.test[0].name, "images/0001");
    assert!(
        dataset.warnings[0].contains("2 listed images are absent"),
        "{:?}",
        dataset.warnings
    );
    std::fs::remove_dir_all(scene.path("images")).unwrap();
    refused(
        scene.open(),
        &["transforms.json", "none of the 10 images", "0000.png"],
    );
}

#[test]
fn filename_lists_define_the_splits() {
    let mut scene = Scene::new(6);
    let list = |range: std::ops::Range<usize>| {
        range
            .map(|i| json!(format!("images/{i:04}.png")))
            .collect::<Value>()
    };
    let keys = [
        ("train_filenames", list(0..3)),
        ("val_filenames", list(3..4)),
        ("test_filenames", list(4..5)),
    ];
    let dataset = scene.open_with(None, &keys).unwrap();
    assert_eq!(
        [dataset.train.len(), dataset.val.len(), dataset.test.len()],
        [3, 1, 1]
    );
    assert!(
        dataset.warnings[0].starts_with("1 frames are in none"),
        "{:?}",
        dataset.warnings
    );
    let dataset = scene.open_with(None, &keys[..2]).unwrap();
    assert_eq!(dataset.test, dataset.val);
    refused(
        scene.open_with(None, &[("train_filenames", json!([]))]),
        &["train_filenames"],
    );
    refused(
        scene.open_with(None, &[("train_filenames", json!("a"))]),
        &["list of image paths"],
    );
}

#[test]
fn a_frame_overrides_its_file() {
    let mut scene = Scene::new(2);
    scene.json["k1"] = json!(0.01);
    let keys = [
        ("fl_x", json!(20)),
        ("cx", json!(3.5)),
        ("k1", json!(null)),
        ("p2", json!(0.002)),
    ];
    let dataset = scene.open_with(Some(1), &keys).unwrap();
    let camera = dataset.train[0].camera;
    assert_eq!((camera.focal, camera.principal), ([20.0, 20.0], [3.5, 3.0]));
    assert_eq!(
        camera.lens,
        Lens::OpenCv {
            k1: 0.01,
            k2: 0.0,
            k3: 0.0,
            p1: 0.0,
            p2: 0.002
        }
    );
    assert_eq!(
        dataset.test[0].camera.lens,
        Lens::OpenCv {
            k1: 0.01,
            k2: 0.0,
            k3: 0.0,
            p1: 0.0,
            p2: 0.0
        }
    );
}

#[test]
fn scene_keys() {
    let mut scene = Scene::new(2);
    let keys = [
        ("aabb_scale", json!(16)),
        ("scale", json!(0.5)),
        ("offset", json!([0.5, 1, 2])),
        ("near", json!(1)),
        ("far", json!(4)),
    ];
    let dataset = scene.open_with(None, &keys).unwrap();
    assert_eq!(
        (dataset.aabb_scale, dataset.scale, dataset.offset),
        (Some(16), Some(0.5), Some([0.5, 1.0, 2.0]))
    );
    assert_eq!(dataset.train[0].near_far, Some([1.0, 4.0]));
    assert_eq!(dataset.downscale, 1);
    let path = scene.path("transforms.json");
    assert_eq!(Dataset::open_at(&path, 3).unwrap().downscale, 3);
}

#[test]
fn bad_values_are_refused_by_name() {
    let mut scene = Scene::new(2);
    let cases: &[(&str, Value)] = &[
        ("aabb_scale", json!(0)),
        ("aabb_scale", json!(3)),
        ("aabb_scale", json!(256)),
        ("scale", json!(-1)),
        ("offset", json!([1, 2])),
        ("fl_x", json!(0)),
        ("fl_x", json!(-5)),
        ("fl_x", json!("40")),
        ("fl_y", json!(1e300)),
        ("camera_angle_x", json!(0)),
        ("camera_angle_x", json!(null)),
        ("camera_angle_y", json!(3.2)),
        ("w", json!(-8)),
        ("h", json!(1e9)),
        ("w", json!(0)),
        ("k1", json!([1])),
        ("camera_model", json!(3)),
        ("frames", json!(null)),
        ("frames", json!({})),
        ("frames", json!([])),
        ("frames", json!([7])),
    ];
    for (key, value) in cases {
        refused(
            scene.open_with(None, &[(key, value.clone())]),
            &["transforms.json"],
        );
        if *key != "frames" && !value.is_null() {
            refused(
                scene.open_with(None, &[(key, value.clone())]),
                &[&format!("`{key}`")],
            );
        }
    }
    refused(
        scene.open_with(None, &[("near", json!(3)), ("far", json!(2))]),
        &["`near`", "`far`"],
    );
    refused(
        scene.open_with(Some(1), &[("file_path", json!(null))]),
        &["frame 1", "`file_path`"],
    );
}

#[test]
fn what_is_not_a_dataset_says_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    refused(
        Dataset::open(path),
        &["transforms_train.json", "transforms.json"],
    );
    refused(
        Dataset::open(&path.join("nowhere")),
        &["nowhere", "no such file"],
    );
    std::fs::write(path.join("scene.ply"), "").unwrap();
    refused(
        Dataset::open(&path.join("scene.ply")),
        &["scene.ply", "point cloud", "posed images"],
    );
    std::fs::create_dir(path.join("chair")).unwrap();
    std::fs::write(path.join("chair/transforms.json"), "{}").unwrap();
    refused(Dataset::open(path), &["subfolders with a dataset", "chair"]);
    std::fs::create_dir_all(path.join("sparse/0")).unwrap();
    refused(Dataset::open(path), &["COLMAP", "cameras and images"]);
    refused("dev".parse::<Split>(), &["`dev`", "train, val or test"]);
}

#[test]
fn damaged_images_are_named() {
    let mut scene = Scene::new(2);
    let photo = ::image::RgbImage::from_fn(64, 48, |x, y| {
        ::image::Rgb([(4 * x) as u8, (5 * y) as u8, (x * y) as u8])
    });
    photo.save(scene.path("images/photo.jpg")).unwrap();
    scene.json["frames"][1]["file_path"] = json!("images/photo"); // extension found
    let dataset = scene.open().unwrap();
    assert_eq!(
        [dataset.train[0].camera.width, dataset.test[0].camera.width],
        [64, 8]
    );
    assert_eq!(
        load_images(&dataset.train, 1, &|| ()).unwrap()[0].height,
        48
    );
    for (frames, name) in [
        (&dataset.train, "images/photo.jpg"),
        (&dataset.test, "images/0000.png"),
    ] {
        let whole = std::fs::read(scene.path(name)).unwrap();
        assert!(image_size(&scene.path(name)).is_ok());
        for keep in [whole.len() - 20, whole.len() / 2] {
            std::fs::write(scene.path(name), &whole[..keep]).unwrap();
            refused(load_images(frames, 1, &|| ()), &[name]);
        }
        for keep in [0, 1, 2, 15] {
            std::fs::write(scene.path(name), &whole[..keep]).unwrap();
            refused(scene.open(), &[name]);
        }
        std::fs::write(scene.path(name), &whole).unwrap();
    }
    std::fs::write(scene.path("images/0000.png"), b"RIFF....WEBP").unwrap();
    refused(scene.open(), &["0000.png", "header is damaged"]);
    std::fs::write(scene.path("images/0000.png"), b"no image").unwrap();
    refused(scene.open(), &["0000.png", "not a PNG, JPEG, WebP"]);
    gradient(4, 4)
        .save_png(&scene.path("images/0000.png"))
        .unwrap();
    refused(
        load_images(&dataset.test, 1, &|| ()),
        &["0000.png", "4 × 4", "8 × 6"],
    );
}

#[test]
fn names_that_differ_from_the_files_are_told_once() {
    let mut scene = Scene::new(3);
    let rename = |scene: &Scene, to: &dyn Fn(usize) -> String| {
        for i in 0..3 {
            let image = scene.path(&format!("images/{i:04}.png"));
            std::fs::rename(image, scene.path(&to(i))).unwrap();
        }
    };
    let told = |scene: &Scene, words: &[&str]| {
        let dataset = scene.open().unwrap();
        assert_eq!(dataset.train.len() + dataset.test.len(), 3);
        assert_eq!(dataset.warnings.len(), 1, "{:?}", dataset.warnings);
        for word in words.iter().chain(&["frame 0", "3 frames"]) {
            assert!(
                dataset.warnings[0].contains(word),
                "no {word:?} in {:?}",
                dataset.warnings
            );
        }
    };
    rename(&scene, &|i| format!("images/{i:04}.PNG"));
    told(&scene, &["0000.PNG", "case"]);
    for i in 0..3 {
        let name = format!("C:\\Users\\me\\scan\\images\\{i:04}.PNG");
        scene.json["frames"][i]["file_path"] = json!(name);
    }
    told(
        &scene,
        &["images/0000.PNG", "relative to the file that lists them"],
    );
    for i in 0..3 {
        scene.json["frames"][i]["file_path"] = json!(format!("{i:04}.jpg"));
    }
    told(&scene, &["images", "folder"]);
    for i in 0..3 {
        scene.json["frames"][i]["file_path"] = json!(format!("images/{i:04}.jpg"));
    }
    told(&scene, &["another extension"]);
    // Two files match: neither is used.
    std::fs::copy(
        scene.path("images/0001.PNG"),
        scene.path("images/0001.webp"),
    )
    .unwrap();
    refused(
        scene.open(),
        &["frame 1", "0001.PNG", "0001.webp", "match equally well"],
    );
}

#[test]
fn what_git_keeps_elsewhere_is_to_be_fetched() {
    let scene = Scene::new(3);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    scene.open().unwrap();
    std::fs::write(scene.path("transforms.json"), pointer).unwrap();
    let error = Dataset::open(&scene.path("transforms.json"))
        .unwrap_err()
        .to_string();
    for word in ["transforms.json", "git lfs pull"] {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

#[test]
fn images_that_are_not_read_are_one_fault() {
    let mut scene = Scene::new(3);
    for i in 0..3 {
        std::fs::remove_file(scene.path(&format!("images/{i:04}.png"))).unwrap();
        let bytes = b"\0\0\0\x28ftypheic\0\0\0\0mif1MiHE";
        std::fs::write(scene.path(&format!("images/{i:04}.HEIC")), bytes).unwrap();
        scene.json["frames"][i]["file_path"] = json!(format!("images/{i:04}.HEIC"));
    }
    refused(
        scene.open(),
        &["0000.HEIC and 2 other images are HEIC", "heif-convert"],
    );
    let (_, faults) = Dataset::examine(&scene.path("transforms.json"), OpenOptions::default());
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("2 other images are HEIC"), "{faults:?}");
    // Converted images beside the HEIC files are used.
    for i in 0..3 {
        gradient(8, 6)
            .save_png(&scene.path(&format!("images/{i:04}.png")))
            .unwrap();
    }
    let dataset = scene.open().unwrap();
    assert_eq!(dataset.warnings.len(), 1, "{:?}", dataset.warnings);
}

#[test]
fn masks_are_found() {
    let mut scene = Scene::new(3);
    std::fs::create_dir(scene.path("shown")).unwrap();
    for i in 0..3 {
        let mask = format!("shown/{i:04}.png");
        gradient(8, 6).save_png(&scene.path(&mask)).unwrap();
        scene.json["frames"][i]["mask_path"] = json!(mask);
    }
    let masks = |scene: &Scene| {
        let dataset = scene.open().unwrap();
        let views = dataset.views();
        // Only a folder of masks promises one for each image.
        let is_partial = scene.path("masks").is_dir();
        let n_warnings = usize::from(is_partial);
        assert_eq!(dataset.warnings.len(), n_warnings, "{:?}", dataset.warnings);
        let is_told = |w: &String| w.contains("1 image without a mask") && !w.contains("there");
        assert!(
            dataset.warnings.iter().all(is_told),
            "{:?}",
            dataset.warnings
        );
        assert_eq!(
            dataset.n_masks(),
            views.iter().filter(|f| f.mask.is_some()).count()
        );
        views
            .into_iter()
            .map(|frame| frame.mask)
            .collect::<Vec<_>>()
    };
    let file = |scene: &Scene, name: &str, hidden| {
        let path = scene.path(name);
        Some(MaskSource::File { path, hidden })
    };
    let named = masks(&scene);
    assert_eq!(named[1], file(&scene, "shown/0001.png", Hidden::Black));
    assert_eq!(named.iter().flatten().count(), 3);
    for i in 0..3 {
        scene.json["frames"][i]["mask_path"] = json!(null);
    }
    assert_eq!(masks(&scene), [None, None, None]);
    // Instant-NGP's masks are beside the images; other masks in a folder of their own.
    std::fs::create_dir(scene.path("masks")).unwrap();
    for mask in [
        "images/dynamic_mask_0001.png",
        "masks/0001.png",
        "masks/0002.png",
    ] {
        gradient(8, 6).save_png(&scene.path(mask)).unwrap();
    }
    let expected = [
        None,
        file(&scene, "images/dynamic_mask_0001.png", Hidden::White),
        file(&scene, "masks/0002.png", Hidden::Black),
    ];
    assert_eq!(masks(&scene), expected);
    // Alpha is a mask for the others on request.
    let transparent = ::image::RgbaImage::new(8, 6);
    transparent.save(scene.path("images/0000.png")).unwrap();
    let opening = OpenOptions::default().or_alpha_mask(true);
    let dataset = Dataset::open_with(&scene.path(""), opening).unwrap();
    assert_eq!(dataset.views()[0].mask, Some(MaskSource::Alpha));
    // A mask that hides everything is refused.
    let black = ::image::GrayImage::new(8, 6);
    black.save(scene.path("masks/0002.png")).unwrap();
    let dataset = scene.open().unwrap();
    refused(
        load_images(&dataset.views()[2..], 1, &|| ()),
        &["0002.png", "hidden entirely"],
    );
}

mod hostile_input {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 400,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn transforms_json_never_panics(
            edits in prop::collection::vec((any::<prop::sample::Index>(), edit()), 0..6),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut scene = Scene::new(2);
            scene.json["k1"] = json!(0.1);
            scene.json["w"] = json!(8);
            scene.json["aabb_scale"] = json!(4);
            let mut text = scene.json.to_string().into_bytes();
            for (at, edit) in edits {
                let at = at.index(text.len());
                text.splice(at..at + usize::from(edit.len() == 1), edit);
            }
            if let Some(cut) = cut {
                text.truncate(cut.index(text.len()));
            }
            std::fs::write(scene.path("transforms.json"), text).unwrap();
            if let Err(error) = Dataset::open(scene.folder.path()) {
                let line = error.to_string();
                prop_assert!(!line.contains(['\n', '\r']), "{line}");
                prop_assert!(line.contains("transforms.json") || line.contains(".png"), "{line}");
            }
        }
    }

    /// Return a strategy for a byte that replaces another, or a token to insert.
    fn edit() -> impl Strategy<Value = Vec<u8>> {
        let tokens = [
            "NaN", "-1e999", "1e300", "null", "[[", "]]", "{}", "\\n", "\\u0000", "-", "00",
            "\"\":", ",,", "\u{2028}",
        ];
        prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            "[0-9\"\\[\\]{},:.eE-]".prop_map(String::into_bytes),
            prop::sample::select(tokens.to_vec()).prop_map(|token| token.as_bytes().to_vec()),
        ]
    }
}
