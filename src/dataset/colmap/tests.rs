//! Models in every layout and version, and models with every kind of fault.

use std::fmt::Write as _;
use std::path::Path;

use super::model::ModelCamera;
use super::*;
use crate::camera::Lens;
use crate::dataset::camera_model::{CameraModel, MODELS};
use crate::dataset::tests::{gradient, refused};

/// A view in a model: name, and distance from the origin along −z of a camera that looks along +z.
type View<'a> = (&'a str, f64);

/// A folder with images of 8 × 6 pixels.
struct Capture(tempfile::TempDir);

impl Capture {
    fn new(images: &[&str]) -> Self {
        let capture = Self(tempfile::tempdir().unwrap());
        for image in images {
            capture.image(image, [8, 6]);
        }
        capture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self, name: &str, [width, height]: [u32; 2]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        gradient(width, height).save_png(&path).unwrap();
    }

    fn open(&self) -> Result<Dataset, DatasetError> {
        Dataset::open(self.0.path())
    }
}

/// Write a model whose images share one PINHOLE camera of 8 × 6 pixels.
fn write_binary(folder: &Path, views: &[View<'_>]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(
        folder.join("cameras.bin"),
        camera_bytes(1, &[9.0, 9.5, 4.0, 3.0]),
    )
    .unwrap();
    std::fs::write(folder.join("images.bin"), image_bytes(views)).unwrap();
    std::fs::write(folder.join("points3D.bin"), point_bytes()).unwrap();
}

/// Return the bytes of one camera with the number 7.
fn camera_bytes(model: u32, parameters: &[f64]) -> Vec<u8> {
    let mut bytes = 1_u64.to_le_bytes().to_vec();
    bytes.extend([7_u32.to_le_bytes(), model.to_le_bytes()].concat());
    bytes.extend([8_u64.to_le_bytes(), 6_u64.to_le_bytes()].concat());
    bytes.extend(parameters.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn image_bytes(views: &[View<'_>]) -> Vec<u8> {
    let mut bytes = (views.len() as u64).to_le_bytes().to_vec();
    for (id, (name, distance)) in (10_u32..).zip(views) {
        bytes.extend(id.to_le_bytes());
        for value in [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, *distance] {
            bytes.extend(f64::to_le_bytes(value));
        }
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend(name.bytes().chain([0]));
        // Two observations, the first of no point.
        bytes.extend(2_u64.to_le_bytes());
        for point in [u64::MAX, 5] {
            bytes.extend([1.5_f64, 2.5].map(f64::to_le_bytes).concat());
            bytes.extend(point.to_le_bytes());
        }
    }
    bytes
}

/// Return the bytes of one point, seen by images 10 and 11.
fn point_bytes() -> Vec<u8> {
    let mut bytes = [1_u64, 5].map(u64::to_le_bytes).concat();
    bytes.extend([0.5_f64, -0.25, 2.0].map(f64::to_le_bytes).concat());
    bytes.extend([200, 100, 50]);
    bytes.extend(0.75_f64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend([10_u32, 1, 11, 1].map(u32::to_le_bytes).concat());
    bytes
}

fn write_text(folder: &Path, camera: &str, views: &[View<'_>]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(
        folder.join("cameras.txt"),
        format!("# a comment\n7 {camera}\n"),
    )
    .unwrap();
    let mut images = "# two lines per image\n\n".to_owned();
    for (id, (name, distance)) in (10..).zip(views) {
        writeln!(images, "{id} 1 0 0 0 0 0 {distance} 7 {name}").unwrap();
        // The observations of every other image are absent.
        images += if id % 2 == 0 {
            "\n"
        } else {
            "1.5 2.5 -1 3 4 5\n"
        };
    }
    std::fs::write(folder.join("images.txt"), images).unwrap();
    let points = "# ID X Y Z R G B ERROR TRACK[]\n5 0.5 -0.25 2 200 100 50 0.75 10 1 11 1\n";
    std::fs::write(folder.join("points3D.txt"), points).unwrap();
}

const NAMES: [&str; 3] = ["images/a.png", "images/b.png", "images/c d/e.png"];
const VIEWS: [View<'static>; 3] = [("c d/e.png", 4.0), ("a.png", 2.0), ("b.png", 3.0)];

#[test]
fn binary_and_text_models_are_the_same() {
    let (binary, text) = (Capture::new(&NAMES), Capture::new(&NAMES));
    write_binary(&binary.path("sparse/0"), &VIEWS);
    write_text(&text.path("sparse/0"), "PINHOLE 8 6 9 9.5 4 3", &VIEWS);
    let read = |capture: &Capture, storage| read::read(&capture.path("sparse/0"), storage).unwrap();
    let (a, b) = (read(&binary, Storage::Binary), read(&text, Storage::Text));
    assert_eq!(
        (&a.cameras, &a.images, &a.points),
        (&b.cameras, &b.images, &b.points)
    );
    assert_eq!(a.points.track(0), [10, 11]);
    assert_eq!(a.points.colors, [[200, 100, 50]]);
    for capture in [binary, text] {
        let dataset = capture.open().unwrap();
        assert_eq!(dataset.format, Format::Colmap);
        assert!(dataset.warnings.is_empty(), "{:?}", dataset.warnings);
        // Sorted by name; every 8th is held out, from the first on.
        let views = dataset.views();
        let names: Vec<&str> = views.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c d/e"]);
        assert_eq!((dataset.test.len(), dataset.train.len()), (1, 2));
        let camera = dataset.test[0].camera;
        // Camera from world: t = (0, 0, 2) and no rotation. The centre is (0, 0, −2); y and z point the other way.
        assert_eq!(
            camera.world_from_camera,
            [
                [1.0, 0.0, 0.0, 0.0],
                [0.0, -1.0, 0.0, 0.0],
                [0.0, 0.0, -1.0, -2.0]
            ]
        );
        assert_eq!((camera.focal, camera.principal), ([9.0, 9.5], [4.0, 3.0]));
    }
}

#[test]
fn poses_are_those_of_the_quaternion() {
    // 90° around x maps the world's y to the camera's z: the camera looks along +y.
    let half = 0.5_f64.sqrt();
    let image = ModelImage {
        id: 1,
        rotation: [2.0 * half, 2.0 * half, 0.0, 0.0],
        translation: [1.0, 2.0, 3.0],
        camera: 1,
        name: String::new(),
    };
    let pose = camera::pose(&image).unwrap();
    let expected = [
        [1.0, 0.0, 0.0, -1.0],
        [0.0, 0.0, -1.0, -3.0],
        [0.0, 1.0, 0.0, 2.0],
    ];
    for (a, b) in pose.as_flattened().iter().zip(expected.as_flattened()) {
        assert!((a - b).abs() < 1e-12, "{pose:?}");
    }
    for rotation in [[0.0; 4], [f64::NAN, 0.0, 0.0, 1.0]] {
        let message = camera::pose(&ModelImage {
            rotation,
            ..image.clone()
        })
        .unwrap_err();
        assert!(message.contains("not a pose"), "{message}");
    }
}

#[test]
fn models_are_found_in_every_layout() {
    for folder in [
        "sparse/0",
        "sparse",
        "colmap/sparse/0",
        "dense/sparse",
        "distorted/sparse/0",
        ".",
    ] {
        let images = if folder.starts_with("dense") {
            "dense/images"
        } else {
            "images"
        };
        let capture = Capture::new(
            &NAMES
                .map(|name| name.replace("images", images))
                .each_ref()
                .map(String::as_str),
        );
        write_binary(&capture.path(folder), &VIEWS);
        for path in [
            capture.path(""),
            capture.path(folder),
            capture.path(folder).join("images.bin"),
        ] {
            let dataset = Dataset::open(&path).unwrap();
            assert_eq!(dataset.views().len(), 3, "{folder}");
            let root = if folder.starts_with("dense") {
                capture.path("dense")
            } else {
                capture.path("")
            };
            assert_eq!(
                dataset.root.canonicalize().unwrap(),
                root.canonicalize().unwrap(),
                "{folder}"
            );
        }
    }
    // Images beside the model, and in the folder of the original photographs.
    for images in ["", "input/"] {
        let names = ["a.png", "b.png"].map(|name| format!("{images}{name}"));
        let capture = Capture::new(&names.each_ref().map(String::as_str));
        write_binary(&capture.path("sparse/0"), &VIEWS[1..]);
        assert_eq!(capture.open().unwrap().views().len(), 2, "{images}");
    }
    // What else lies beside the model is not taken for photographs.
    let names = [
        "a.png",
        "b.png",
        "c.png",
        "dynamic_mask_a.png",
        "masks/b.png",
    ];
    let capture = Capture::new(&names);
    write_binary(&capture.path("sparse/0"), &VIEWS[1..]);
    let told = capture.open().unwrap().warnings;
    assert!(told.iter().any(|w| w.starts_with("1 image in")), "{told:?}");
}

#[test]
fn images_of_other_captures_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for other in ["images", "other", "other/images"] {
        std::fs::create_dir_all(at(other)).unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            gradient(8, 6).save_png(&at(other).join(name)).unwrap();
        }
    }
    for model in ["sparse/0", "colmap/sparse/0", "dense/sparse", "sparse"] {
        let capture = at("capture");
        write_binary(&capture.join(model), &VIEWS);
        for path in [capture.clone(), capture.join(model)] {
            refused(Dataset::open(&path), &["none of the 3 images exists"]);
        }
        std::fs::remove_dir_all(capture).unwrap();
    }
    // Above a model in a place of its own, the nearest folder of images counts.
    write_binary(&at("capture/best"), &VIEWS);
    assert!(Dataset::open(&at("capture/best")).is_err());
    std::fs::rename(at("images"), at("capture/images")).unwrap();
    let dataset = Dataset::open(&at("capture/best")).unwrap();
    let images = at("capture/images");
    let views = dataset.views();
    assert!(!views.is_empty() && views.iter().all(|v| v.image_path.starts_with(&images)));
}

#[test]
fn the_largest_of_several_models_is_used() {
    let capture = Capture::new(&NAMES);
    write_binary(&capture.path("sparse/0"), &VIEWS[..1]);
    write_text(&capture.path("sparse/1"), "PINHOLE 8 6 9 9.5 4 3", &VIEWS);
    let dataset = capture.open().unwrap();
    assert_eq!(dataset.views().len(), 3);
    let [warning] = dataset.warnings.as_slice() else {
        panic!("{:?}", dataset.warnings);
    };
    for part in ["2 models", "sparse/1, with 3 images", "sparse/0 (1 image)"] {
        assert!(warning.contains(part), "{warning}");
    }
    let one = Dataset::open(&capture.path("sparse/0")).unwrap();
    assert_eq!(one.views().len(), 1);
    let unregistered = one
        .warnings
        .iter()
        .any(|w| w.starts_with("2 images in") && w.contains("did not register them"));
    assert!(unregistered, "{:?}", one.warnings);
}

#[test]
fn stored_sizes_are_used() {
    let capture = Capture::new(&["images/a.png", "images/b.png"]);
    write_text(
        &capture.path("sparse/0"),
        "PINHOLE 16 12 18 19 8 6",
        &VIEWS[1..],
    );
    capture.image("images_2/a.png", [4, 3]);
    capture.image("images_2/b.png", [4, 3]);
    let open = |downscale| Dataset::open_at(&capture.path(""), downscale).unwrap();
    // The images are half as large as the model's camera, and those of images_2 a quarter.
    for (downscale, width, rest) in [(2, 8, 1), (4, 4, 1), (8, 4, 2)] {
        let dataset = open(downscale);
        let camera = dataset.train[0].camera;
        assert_eq!(
            (camera.width, dataset.downscale),
            (width, rest),
            "{downscale}"
        );
        assert!((camera.focal[0] / camera.width as f32 - 18.0 / 16.0).abs() < 1e-6);
    }
}

#[test]
fn transforms_come_first_and_poses_bounds_last() {
    let capture = Capture::new(&NAMES);
    write_binary(&capture.path("sparse/0"), &VIEWS);
    std::fs::write(capture.path("poses_bounds.npy"), b"").unwrap();
    let dataset = capture.open().unwrap();
    assert_eq!(dataset.format, Format::Colmap);
    assert!(
        dataset.warnings[0].contains("also holds LLFF data"),
        "{:?}",
        dataset.warnings
    );
    refused(
        Dataset::open(&capture.path("poses_bounds.npy")),
        &["poses_bounds.npy"],
    );
    std::fs::write(capture.path("transforms.json"), "{}").unwrap();
    refused(capture.open(), &["transforms.json"]);
    assert_eq!(
        Dataset::open(&capture.path("sparse"))
            .unwrap()
            .views()
            .len(),
        3
    );
}

#[test]
fn rays_start_in_front_of_the_nearest_points_that_a_view_sees() {
    let capture = Capture::new(&NAMES);
    let folder = capture.path("sparse/0");
    write_text(&folder, "PINHOLE 8 6 9 9.5 4 3", &VIEWS);
    // Image 11 is a.png, at z = -2; one of 100 points is an outlier in front of it.
    let mut points = String::new();
    for i in 0..100 {
        let z = if i == 0 { -1.9 } else { 2.0 + f64::from(i) };
        writeln!(points, "{i} 0 0 {z} 9 9 9 0.5 11 {i} 10 {i}").unwrap();
    }
    std::fs::write(folder.join("points3D.txt"), &points).unwrap();
    let views = capture.open().unwrap().views();
    // The third nearest point, 4 + 2 away, counts.
    assert_eq!(views[0].near_far, Some([3.0, f32::MAX]));
    // b.png sees no point.
    assert_eq!(views[1].near_far, None);
    assert!(views[2].near_far.is_some());
}

#[test]
fn every_camera_model_has_its_lens() {
    for (number, (model, name, n)) in (0_u32..).zip(MODELS) {
        assert_eq!(model as u32, number);
        let parameters: Vec<f64> = (0..n).map(|i| 4.0 - i as f64 / 4.0).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cameras.bin");
        std::fs::write(&path, camera_bytes(number, &parameters)).unwrap();
        let binary = binary::cameras(&path).unwrap();
        let listed: Vec<String> = parameters.iter().map(f64::to_string).collect();
        let path = folder.path().join("cameras.txt");
        std::fs::write(&path, format!("7 {name} 8 6 {}\n", listed.join(" "))).unwrap();
        let text = text::cameras(&path).unwrap();
        assert_eq!(binary, text, "{name}");
        assert_eq!(binary[&7].parameters, parameters);
    }
    let of = |model: CameraModel, parameters: &[f64]| {
        super::camera::intrinsics(&ModelCamera {
            model,
            size: [8, 6],
            parameters: parameters.to_vec(),
        })
    };
    let radial = of(MODELS[2].0, &[5.0, 4.0, 3.0, 0.25]);
    assert_eq!((radial.focal, radial.principal), ([5.0; 2], [4.0, 3.0]));
    let lens = Lens::OpenCv {
        k1: 0.25,
        k2: 0.0,
        k3: 0.0,
        p1: 0.0,
        p2: 0.0,
    };
    assert_eq!(radial.lens, lens);
    assert_eq!(of(MODELS[2].0, &[5.0, 4.0, 3.0, 0.0]).lens, Lens::Pinhole);
}

#[test]
fn damaged_models_are_refused() {
    let capture = Capture::new(&NAMES);
    let folder = capture.path("sparse/0");
    let fresh = || write_binary(&folder, &VIEWS);
    fresh();
    for name in ["cameras.bin", "images.bin", "points3D.bin"] {
        let whole = std::fs::read(folder.join(name)).unwrap();
        for end in 0..whole.len() {
            std::fs::write(folder.join(name), &whole[..end]).unwrap();
            refused(capture.open(), &[name, "damaged"]);
        }
        fresh();
    }
    // More records than the file has room for.
    let mut many = image_bytes(&VIEWS);
    many[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(folder.join("images.bin"), many).unwrap();
    refused(capture.open(), &["images.bin", "more than fit"]);
    fresh();
    std::fs::write(folder.join("cameras.bin"), camera_bytes(99, &[1.0; 4])).unwrap();
    refused(capture.open(), &["cameras.bin", "camera 7", "99"]);
    std::fs::write(folder.join("cameras.bin"), 0_u64.to_le_bytes()).unwrap();
    refused(
        capture.open(),
        &["images.bin", "image 11 (a.png)", "camera 7 is not in"],
    );
    std::fs::write(
        folder.join("cameras.bin"),
        camera_bytes(1, &[0.0, 9.0, 4.0, 3.0]),
    )
    .unwrap();
    refused(capture.open(), &["image 11 (a.png)", "focal length"]);
    fresh();
    std::fs::write(folder.join("images.bin"), 0_u64.to_le_bytes()).unwrap();
    refused(
        capture.open(),
        &["images.bin", "no photograph was registered"],
    );
    fresh();
    std::fs::remove_dir_all(capture.path("images")).unwrap();
    refused(capture.open(), &["none of the 3 images exists"]);
}

#[test]
fn images_without_lines_of_observations_are_refused() {
    let capture = Capture::new(&NAMES);
    write_text(&capture.path("sparse/0"), "PINHOLE 8 6 9 9.5 4 3", &VIEWS);
    let path = capture.path("sparse/0/images.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "\u{feff}".to_owned() + &text).unwrap();
    assert_eq!(capture.open().unwrap().views().len(), 3);
    let is_image = |line: &&str| line.split_whitespace().count() >= 10;
    let lines: Vec<&str> = text.lines().filter(is_image).collect();
    assert!(lines.len() > 1, "{text}");
    std::fs::write(&path, lines.join("\n")).unwrap();
    refused(capture.open(), &["images.txt", "line 2", "observations"]);
    let wide: Vec<u8> = "\u{feff}1"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(&path, wide).unwrap();
    refused(capture.open(), &["images.txt", "UTF-16"]);
}

#[test]
fn lenses_that_are_not_finite_are_refused() {
    for value in [f64::NAN, 1e300] {
        let capture = Capture::new(&NAMES);
        write_binary(&capture.path("sparse/0"), &VIEWS);
        let camera = camera_bytes(2, &[9.0, 4.0, 3.0, value]);
        std::fs::write(capture.path("sparse/0/cameras.bin"), camera).unwrap();
        refused(capture.open(), &["coefficients of its lens"]);
    }
}

#[test]
fn damaged_text_names_its_line() {
    let capture = Capture::new(&NAMES);
    let folder = capture.path("sparse/0");
    let camera = "PINHOLE 8 6 9 9.5 4 3";
    for (name, text, parts) in [
        (
            "cameras.txt",
            "7 PINHOLE 8 6 9 9.5 4\n",
            ["line 1", "has 3 parameters"],
        ),
        (
            "cameras.txt",
            "\n7 LENS 8 6 9\n",
            ["line 2", "unknown camera model LENS"],
        ),
        (
            "cameras.txt",
            "seven PINHOLE 8 6 9 9 4 3\n",
            ["line 1", "not a camera"],
        ),
        (
            "images.txt",
            "10 1 0 0 0 0 0 x 7 a.png\n\n",
            ["line 1", "not an image"],
        ),
        (
            "images.txt",
            "10 1 0 0 0 0 0 2 7\n\n",
            ["line 1", "not an image"],
        ),
        (
            "points3D.txt",
            "5 0.5 1 2 200 100 500 0.75 10 1\n",
            ["line 1", "not a point"],
        ),
        (
            "points3D.txt",
            "5 0.5 1 2 200 100 50 0.75 10\n",
            ["line 1", "not a point"],
        ),
    ] {
        write_text(&folder, camera, &VIEWS);
        std::fs::write(folder.join(name), text).unwrap();
        refused(capture.open(), &[&[name][..], &parts].concat());
    }
}

/// What `tests/fixtures/colmap/lenses.py` wrote of one model.
#[derive(serde::Deserialize)]
struct SeenByColmap {
    model: String,
    parameters: Vec<f64>,
    size: [u64; 2],
    pixels: Vec<[f64; 2]>,
    directions: Vec<[f64; 3]>,
}

#[test]
fn lenses_show_what_colmap_says() {
    let text = include_str!("../../../tests/fixtures/colmap/lenses.json");
    let all: Vec<SeenByColmap> = serde_json::from_str(text).unwrap();
    assert_eq!(all.len(), MODELS.len());
    for (seen, (model, name, _)) in all.iter().zip(MODELS) {
        assert_eq!(seen.model, name);
        let of = super::camera::intrinsics(&ModelCamera {
            model,
            size: seen.size,
            parameters: seen.parameters.clone(),
        });
        assert!(seen.pixels.len() >= 15, "{name}");
        for (pixel, direction) in seen.pixels.iter().zip(&seen.directions) {
            let to_pixel = |q: [f64; 2]| [0, 1].map(|a| q[a] * of.focal[a] + of.principal[a]);
            let distance = |q: [f64; 2]| {
                let at = to_pixel(q);
                (at[0] - pixel[0]).hypot(at[1] - pixel[1])
            };
            let direction = glam::DVec3::from(*direction);
            let error = distance(of.lens.project(direction).unwrap());
            assert!(error < 1e-5, "{name}: {pixel:?} is {error:e} px off");
            let q = [0, 1].map(|a| (pixel[a] - of.principal[a]) / of.focal[a]);
            let (ours, shows) = of.lens.direction(q);
            let angle = ours.normalize().cross(direction.normalize()).length();
            assert!(
                shows && angle < 1e-8 && ours.dot(direction) > 0.0,
                "{name}: the direction of {pixel:?} is {angle:e} off"
            );
        }
    }
}
