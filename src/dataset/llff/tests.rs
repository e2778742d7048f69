//! Tests of the LLFF format: correct captures in a temporary folder, and captures with every kind of fault.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::aabb::Aabb;
use crate::config::Config;
use crate::dataset::npy::tests::file;
use crate::dataset::tests::{gradient, refused};
use crate::dataset::{OpenOptions, Split, load_images};
use crate::gpu::AdapterClass;
use crate::sampling::SceneBox;

/// Images of 16 × 12 pixels at full size, and at ½ and ¼ of it. Cameras are in a row along y at z = 5, with right along y and
/// up along z, and look along −x.
struct Capture {
    folder: tempfile::TempDir,
    rows: Vec<[f64; 17]>,
}

const SIZES: [(&str, u32, u32); 3] = [("images", 16, 12), ("images_2", 8, 6), ("images_4", 4, 3)];

impl Capture {
    fn new(n: u8) -> Self {
        let row = |i: u8| {
            let y = f64::from(i);
            // down, right, back, centre, (height, width, focal length); near, far
            let matrix = [
                [0.0, 0.0, 1.0, 0.0, 12.0],
                [0.0, 1.0, 0.0, y, 16.0],
                [-1.0, 0.0, 0.0, 5.0, 20.0],
            ];
            let mut row = [0.0; 17];
            row[..15].copy_from_slice(matrix.as_flattened());
            row[15] = 3.0 + y;
            row[16] = 30.0 - y;
            row
        };
        let capture = Self {
            folder: tempfile::tempdir().unwrap(),
            rows: (0..n).map(row).collect(),
        };
        for (folder, width, height) in SIZES {
            std::fs::create_dir(capture.path(folder)).unwrap();
            for i in 0..n {
                let image = capture.path(&format!("{folder}/IMG_{i:02}.png"));
                gradient(width, height).save_png(&image).unwrap();
            }
        }
        capture.write();
        capture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self) -> Vec<u8> {
        let numbers = self.rows.as_flattened().iter();
        let data: Vec<u8> = numbers.flat_map(|v| v.to_le_bytes()).collect();
        file(&header("<f8", self.rows.len(), 17), &data)
    }

    fn write(&self) {
        std::fs::write(self.path(FILE), self.bytes()).unwrap();
    }

    fn open(&self) -> Result<Dataset, DatasetError> {
        Dataset::open(self.folder.path())
    }

    /// Open the capture with `value` as number `column` of a row.
    fn open_with(
        &mut self,
        row: usize,
        column: usize,
        value: f64,
    ) -> Result<Dataset, DatasetError> {
        let before = std::mem::replace(&mut self.rows[row][column], value);
        self.write();
        self.rows[row][column] = before;
        self.open()
    }
}

fn header(descr: &str, rows: usize, columns: usize) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}")
}

fn near(a: impl Into<f64>, b: f64) -> bool {
    (a.into() - b).abs() < 1e-5
}

#[test]
fn the_mean_camera_becomes_the_identity() {
    let dataset = Capture::new(9).open().unwrap();
    assert_eq!(dataset.format, Format::Llff);
    assert_eq!((dataset.train.len(), dataset.val.len()), (7, 0));
    assert_eq!(dataset.warnings, Vec::<String>::new());
    let names: Vec<&str> = dataset.test.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["IMG_00", "IMG_08"]);
    for frame in dataset.train.iter().chain(&dataset.test) {
        let i: f64 = frame.name[4..].parse().unwrap();
        // The nearest bound, 3, is scaled to 4/3.
        let scale = 4.0 / 9.0;
        let [x, y, z] = frame.camera.world_from_camera;
        assert!(near(x[0], 1.0) && near(y[1], 1.0) && near(z[2], 1.0));
        assert!(near(x[3], scale * (i - 4.0)) && near(y[3], 0.0) && near(z[3], 0.0));
        assert_eq!(frame.camera.focal, [20.0; 2]);
        assert_eq!(frame.camera.principal, [8.0, 6.0]);
        // The frame's own near bound; the farthest of all far bounds; corners at (0.4, 0.3) at depth 1.
        let [start, end] = frame.near_far.unwrap();
        assert!(near(start, 0.75 * scale * (3.0 + i)), "{start}");
        assert!(near(end, 1.25_f64.sqrt() * scale * 30.0), "{end}");
    }
}

#[test]
fn f32_and_any_axes_give_the_same() {
    let mut capture = Capture::new(9);
    let expected = capture.open().unwrap();
    // Rotate the world by 0.7 around (1, 2, 3), translate it, and scale it by 3.
    let turn = DMat3::from_axis_angle(DVec3::new(1.0, 2.0, 3.0).normalize(), 0.7);
    for row in &mut capture.rows {
        for column in 0..4 {
            let v = DVec3::from([row[column], row[5 + column], row[10 + column]]);
            let mut v = turn * v;
            if column == 3 {
                v = 3.0 * v + DVec3::new(50.0, -8.0, 2.0);
            }
            (row[column], row[5 + column], row[10 + column]) = (v.x, v.y, v.z);
        }
        row[15] *= 3.0;
        row[16] *= 3.0;
    }
    let numbers = capture.rows.as_flattened().iter();
    let data: Vec<u8> = numbers.flat_map(|v| (*v as f32).to_le_bytes()).collect();
    std::fs::write(capture.path(FILE), file(&header("<f4", 9, 17), &data)).unwrap();
    let found = Dataset::open(&capture.path(FILE)).unwrap();
    assert_eq!(found.train.len(), expected.train.len());
    for (a, b) in found.train.iter().zip(&expected.train) {
        let (a, b) = (a.camera.world_from_camera, b.camera.world_from_camera);
        for (a, b) in a.as_flattened().iter().zip(b.as_flattened()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn a_folder_is_chosen_by_size() {
    let capture = Capture::new(9);
    let opened = |downscale| {
        let dataset = Dataset::open_at(capture.folder.path(), downscale).unwrap();
        let images = load_images(&dataset.train[..1], dataset.downscale, &|| ()).unwrap();
        let camera = dataset.train[0].camera;
        // Focal length 20 at a width of 16.
        assert!(near(camera.focal[0], 1.25 * f64::from(camera.width)));
        let notes = dataset.warnings.len();
        (camera.width, dataset.downscale, images[0].width, notes)
    };
    let stored = |downscale| {
        let dataset = Dataset::open_at(capture.folder.path(), downscale).unwrap();
        dataset.variant
    };
    assert_eq!(stored(1), "");
    assert_eq!(
        stored(2),
        "images of images_2, stored at 1/2 of the full size"
    );
    assert!(stored(8).contains("images_4") && stored(8).contains("shrunk by 2"));
    assert_eq!(opened(0), (16, 1, 16, 0));
    assert_eq!(opened(1), (16, 1, 16, 0));
    assert_eq!(opened(2), (8, 1, 8, 0));
    assert_eq!(opened(3), (16, 3, 5, 0));
    assert_eq!(opened(4), (4, 1, 4, 0));
    assert_eq!(opened(6), (8, 3, 2, 0));
    assert_eq!(opened(8), (4, 2, 2, 0));
    // The size of the images matters, not the folder's name.
    std::fs::remove_dir_all(capture.path("images")).unwrap();
    std::fs::rename(capture.path("images_4"), capture.path("images")).unwrap();
    assert_eq!(opened(1), (8, 1, 8, 0));
    assert_eq!(opened(2), (8, 1, 8, 0));
    assert_eq!(opened(4), (4, 1, 4, 0));
    // 1/5 is not available: 1/4 is the next larger size.
    assert_eq!(opened(5), (4, 1, 4, 1));
    std::fs::remove_dir_all(capture.path("images_2")).unwrap();
    assert_eq!(opened(1), (4, 1, 4, 0));
    let dataset = Dataset::open_at(capture.folder.path(), 2).unwrap();
    let words = ["1/2", "16 × 12", "images is used", "1/4"];
    assert!(words.iter().all(|w| dataset.warnings[0].contains(w)));
}

#[test]
fn cameras_all_around_are_held_in_the_world_and_in_a_box_around_what_they_look_at() {
    let mut capture = Capture::new(12);
    for (i, row) in capture.rows.iter_mut().enumerate() {
        // Cameras on a circle of radius 6 around (20, 0, 5), looking at the centre, up along z.
        let (sin, cos) = (i as f64 / 12.0 * std::f64::consts::TAU).sin_cos();
        let matrix = [
            [0.0, -sin, cos, 20.0 + 6.0 * cos, 12.0],
            [0.0, cos, sin, 6.0 * sin, 16.0],
            [-1.0, 0.0, 0.0, 5.0, 20.0],
        ];
        row[..15].copy_from_slice(matrix.as_flattened());
        (row[15], row[16]) = (4.0, 9.0);
    }
    capture.write();
    let dataset = capture.open().unwrap();
    // The framing that is reported.
    let framing = dataset.framing.unwrap();
    assert_eq!((framing.cameras, framing.aabb_scale), (12, 1));
    for method in ["nerf-small", "ngp-small"] {
        let config = Config::preset(method, &[]).unwrap();
        let config = config.resolve(dataset.hints(), AdapterClass::Software);
        assert_eq!(config.scene.ndc, None);
        let scene = SceneBox::of(&config);
        let Aabb { low, high } = scene.bounds();
        for axis in 0..3 {
            // The reader moves the mean camera, which is at the point that the cameras look at, to the origin.
            assert!((low[axis] + high[axis]).abs() < 1e-2, "{low:?} {high:?}");
        }
        // The cameras are 6 · (4/3) / 4 away from it.
        let side = high[0] - low[0];
        assert!((side - 8.0).abs() < 1e-2 && scene.aabb_scale == 1, "{side}");
    }
    let row = Capture::new(9).open().unwrap();
    assert!(row.hints().forward_facing.is_some());
}

#[test]
fn what_is_seen_lies_in_the_box() {
    for far in [12.0, 30.0, 300.0] {
        let mut capture = Capture::new(9);
        for row in &mut capture.rows {
            row[16] = far;
        }
        capture.write();
        let dataset = capture.open().unwrap();
        let config = Config::preset("ngp", &[]).unwrap();
        let config = config.resolve(dataset.hints(), AdapterClass::Discrete);
        let scene = SceneBox::of(&config);
        let Aabb { low, high } = scene.bounds();
        for frame in dataset.train.iter().chain(&dataset.test) {
            let start = f64::from(frame.near_far.unwrap()[0]);
            for (px, py) in [(0.0, 0.0), (16.0, 0.0), (0.0, 12.0), (16.0, 12.0)] {
                let (origin, direction) = frame.camera.ray(px, py);
                for depth in [start, far * 4.0 / 9.0] {
                    for axis in 0..3 {
                        let p = origin[axis] - depth * direction[axis] / direction[2];
                        assert!(p > low[axis] - 1e-3 && p < high[axis] + 1e-3, "{axis}: {p}");
                    }
                }
            }
        }
        // The box starts where the rays start.
        assert!((high[2] + 1.0).abs() < 1e-4, "{high:?}");
        let side = (high[0] - low[0]) / f64::from(scene.aabb_scale);
        assert!(
            side <= CUBE + 1e-4 && (side > CUBE / 2.0 || scene.aabb_scale == 1),
            "{side}"
        );
    }
}

#[test]
fn bad_rows_are_refused_by_frame() {
    let mut capture = Capture::new(3);
    let place = "poses_bounds.npy: frame 2 (images/IMG_02.png)";
    for (column, value, cause) in [
        (7, f64::NAN, "column 7 of its 17 is NaN"),
        (16, f64::INFINITY, "column 16"),
        (3, 1e39, "not a finite number"),
        (15, 28.0, "near 28 and far 28"),
        (15, 29.0, "0 < near < far"),
        (15, 0.0, "0 < near < far"),
        (16, -1.0, "0 < near < far"),
        (4, 0.0, "16 × 0 pixels"),
        (9, 1e9, "sides of 1 to"),
        (14, -20.0, "focal length of -20"),
        (9, 20.0, "16 × 12 pixels but its row says 20 × 12"),
        (10, 0.0, "zero column"),
        (10, 1.0, "mirrored"),
        (5, 0.4, "not rigid"),
    ] {
        refused(capture.open_with(2, column, value), &[place, cause]);
    }
    // Swap width and height.
    (capture.rows[2][4], capture.rows[2][9]) = (16.0, 12.0);
    capture.write();
    refused(
        capture.open(),
        &[place, "12 × 16", "exchanged in poses_bounds.npy"],
    );
    // `examine` skips the frame and reads the others unchanged.
    let (dataset, faults) = Dataset::examine(capture.folder.path(), OpenOptions::default());
    assert_eq!(faults.len(), 1);
    assert_eq!(dataset.unwrap().frames(Split::Train).len(), 1);
    for row in &mut capture.rows {
        row[0] = f64::NAN;
    }
    capture.write();
    let (dataset, faults) = Dataset::examine(capture.folder.path(), OpenOptions::default());
    assert_eq!((dataset, faults.len()), (None, 1));
    assert!(faults[0].to_string().contains("and 2 other frames"));
}

#[test]
fn bad_files_say_what_is_expected() {
    let capture = Capture::new(3);
    let write = |header: &str, bytes: usize| {
        std::fs::write(capture.path(FILE), file(header, &vec![0; bytes])).unwrap();
        capture.open()
    };
    let expected = [FILE, "(images, 17)"];
    refused(write(&header("<f8", 3, 15), 360), &expected);
    refused(write(&header("<f8", 3, 15), 360), &["(3, 15)"]);
    refused(write(&header("<f8", 0, 17), 0), &expected);
    let vector = header("<f8", 3, 17).replace("(3, 17)", "(51,)");
    refused(write(&vector, 408), &[FILE, "(51,)"]);
    let fortran = header("<f8", 3, 17).replace("False", "True");
    refused(
        write(&fortran, 408),
        &[FILE, "Fortran", "ascontiguousarray"],
    );
    refused(write(&header("|O", 3, 17), 408), &[FILE, "Python objects"]);
    refused(write(&header("<f8", 3, 17), 400), &[FILE, "cut short"]);
    std::fs::write(capture.path(FILE), "").unwrap();
    refused(capture.open(), &[FILE, "not a .npy file"]);
}

#[test]
fn images_that_do_not_fit_are_named() {
    let capture = Capture::new(3);
    gradient(16, 12)
        .save_png(&capture.path("images/IMG_03.png"))
        .unwrap();
    refused(capture.open(), &[FILE, "3 poses", "images holds 4 images"]);
    // Files that are not images do not count.
    std::fs::rename(
        capture.path("images/IMG_03.png"),
        capture.path("images/._IMG_03.png"),
    )
    .unwrap();
    std::fs::write(capture.path("images/notes.txt"), "").unwrap();
    assert!(capture.open().is_ok());
    gradient(8, 6)
        .save_png(&capture.path("images/IMG_01.png"))
        .unwrap();
    refused(
        capture.open(),
        &["IMG_01.png", "8 × 6", "IMG_00.png has 16 × 12"],
    );
    std::fs::write(capture.path("images/IMG_01.png"), "").unwrap();
    refused(capture.open(), &["IMG_01.png", "the file is empty"]);
    for (folder, ..) in SIZES {
        std::fs::remove_dir_all(capture.path(folder)).unwrap();
    }
    std::fs::create_dir(capture.path("images_old")).unwrap();
    gradient(16, 12)
        .save_png(&capture.path("images_old/IMG_00.png"))
        .unwrap();
    refused(capture.open(), &[FILE, "no folder images or images_N"]);
}

#[test]
fn other_formats_beside_it() {
    let capture = Capture::new(3);
    for name in ["pose", "rgb"] {
        std::fs::create_dir(capture.path(name)).unwrap();
    }
    std::fs::write(capture.path("intrinsics.txt"), "1\n").unwrap();
    let dataset = capture.open().unwrap();
    assert!(
        dataset.warnings[0].contains("also holds SRN")
            && dataset.warnings[0].contains("read as LLFF"),
        "{:?}",
        dataset.warnings
    );
    std::fs::write(capture.path("transforms.json"), "{}").unwrap();
    refused(capture.open(), &["transforms.json"]);
    assert!(Dataset::open(&capture.path(FILE)).is_ok());
}

#[test]
fn sizes_that_floats_do_not_hold_are_refused() {
    let mut capture = Capture::new(3);
    refused(capture.open_with(1, 15, 1e-30), &[FILE, "1e-30"]);
    refused(capture.open_with(1, 16, 1e38), &[FILE, "differ too much"]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn poses_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_header: bool,
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        downscale in 0..70_u32,
    ) {
        let capture = Capture::new(2);
        let mut bytes = capture.bytes();
        let end = if in_header { 90 } else { bytes.len() };
        for (at, value) in edits {
            bytes[at.index(end)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(capture.path(FILE), bytes).unwrap();
        match Dataset::open_at(capture.folder.path(), downscale) {
            Ok(dataset) => prop_assert!(dataset.scale.unwrap() > 0.0),
            Err(error) => {
                let line = error.to_string();
                prop_assert!(!line.contains(['\n', '\r']) && line.contains(FILE), "{line}");
            }
        }
        let _ = Dataset::examine(capture.folder.path(), OpenOptions::default().or(Some(downscale), false));
    }
}
