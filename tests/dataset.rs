//! Cameras, datasets that are written and read back, real scenes if available, and damaged images.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln::camera::{Camera, Lens};
use kiln::camera_path::spiral;
use kiln::dataset::{
    Dataset, DatasetError, FileIdentity, Format, Image, Objects, OpenOptions, Split, Splits,
    holds_objects, image_size, load_images, load_with_contents, write_blender, write_object,
    write_splits,
};
use proptest::prelude::*;

fn gradient(width: u32, height: u32) -> Image {
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

/// Check that the error is one line that contains `parts`.
#[track_caller]
fn refused<T>(result: Result<T, DatasetError>, parts: &[&str]) {
    let text = result
        .map(|_| ())
        .expect_err("should be refused")
        .to_string();
    assert!(!text.contains('\n'), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// Return the folder of a real scene in `KILN_DATA`, else in `data/`; tests on the scene are skipped if it is absent.
fn real(name: &str) -> Option<PathBuf> {
    let data = std::env::var_os("KILN_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("data"),
        PathBuf::from,
    );
    let path = data.join(name);
    if !path.is_dir() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn blender_round_trip_and_missing_splits() {
    let folder = tempfile::tempdir().unwrap();
    let (cameras, images) = views();
    let write = |split, n: usize| {
        write_blender(
            folder.path(),
            split,
            &cameras[..n],
            &images[..n],
            Some([2.0, 6.0]),
        )
        .unwrap();
    };
    write(Split::Train, 9);
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(
        (
            dataset.train.len(),
            dataset.test.len(),
            dataset.warnings.len()
        ),
        (7, 2, 1)
    );
    write(Split::Val, 2);
    let dataset = Dataset::open(&folder.path().join("transforms_val.json")).unwrap();
    assert_eq!(
        (
            dataset.format,
            dataset.train.len(),
            dataset.test == dataset.val
        ),
        (Format::Blender, 9, true)
    );
    write(Split::Test, 3);
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!((dataset.test.len(), dataset.warnings.len()), (3, 0));
    for (frame, camera) in dataset.train.iter().zip(&cameras) {
        assert!(frame.camera.world_from_camera == camera.world_from_camera);
        assert!((frame.camera.focal[0] - camera.focal[0]).abs() < 1e-5);
        assert_eq!(frame.near_far, Some([2.0, 6.0]));
    }
    assert_eq!(dataset.train[3].name, "train/r_3");
    let finished = AtomicUsize::new(0);
    let loaded = load_images(&dataset.train, 1, &|| {
        finished.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!((loaded.unwrap(), finished.into_inner()), (images, 9));
}

#[test]
fn selecting_views_and_writing_what_blender_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (cameras, images) = views();
    write_blender(folder.path(), Split::Train, &cameras, &images, None).unwrap();
    let mut dataset = Dataset::open(folder.path()).unwrap(); // 0 and 8 are held out
    // The files define no splits: indices count all views, and the views not chosen are held out.
    dataset.restrict_train(&[4, 0]).unwrap();
    assert_eq!(
        dataset
            .train
            .iter()
            .map(|f| f.name.as_str())
            .collect::<Vec<_>>(),
        ["train/r_4", "train/r_0"]
    );
    assert_eq!(dataset.test.len(), 7);
    refused(dataset.restrict_train(&[2]), &["view 2", "0 to 1"]);
    refused(dataset.restrict_train(&[0, 0]), &["twice"]);
    refused(dataset.restrict_train(&[]), &["at least one"]);
    let distorted = Camera {
        lens: Lens::OpenCvFisheye {
            k1: 0.0,
            k2: 0.0,
            k3: 0.0,
            k4: 0.0,
        },
        ..cameras[0]
    };
    refused(
        write_blender(folder.path(), Split::Val, &[distorted], &images[..1], None),
        &["pinhole"],
    );
}

/// Return nine cameras around the origin, and their images.
fn views() -> (Vec<Camera>, Vec<Image>) {
    let cameras: Vec<_> = (0..9)
        .map(|i| Camera::look_at([4.0, i as f32, 1.0], [0.0; 3], [0.0, 0.0, 1.0], 0.69, 8, 6))
        .collect();
    let mut image = gradient(8, 6);
    image.pixels[3] = 7;
    image.has_alpha = true;
    (cameras, vec![image; 9])
}

mod cameras {
    use super::*;

    fn camera(lens: Lens) -> Camera {
        let mut camera = Camera::look_at(
            [1.0, -2.0, 3.0],
            [0.2, 0.1, -0.4],
            [0.0, 0.0, 1.0],
            1.1,
            640,
            480,
        );
        camera.focal[1] *= 1.02;
        camera.principal = [310.5, 251.25];
        camera.lens = lens;
        camera
    }

    #[test]
    fn projecting_a_ray_returns_to_its_pixel() {
        let lenses = [
            Lens::Pinhole,
            Lens::OpenCv {
                k1: 0.0578,
                k2: -0.0805,
                k3: 0.01,
                p1: -9.8e-4,
                p2: 1.5e-4,
            },
            Lens::OpenCv {
                k1: -0.28,
                k2: 0.09,
                k3: -0.01,
                p1: 2e-3,
                p2: -1e-3,
            },
            Lens::OpenCvFisheye {
                k1: 0.05,
                k2: -0.01,
                k3: 2e-3,
                k4: -1e-4,
            },
            Lens::Orthographic,
            // 526 pixels per radian, as in `camera`.
            Lens::Equirectangular,
        ];
        for lens in lenses {
            let camera = camera(lens);
            assert!(camera.lens_is_invertible(), "{lens:?}");
            for (px, py) in [
                (0.5, 0.5),
                (639.5, 479.5),
                (310.5, 251.25),
                (100.0, 400.0),
                (0.0, 240.0),
            ] {
                let (origin, direction) = camera.ray(px, py);
                let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
                assert!((length - 1.0).abs() < 1e-12);
                let point = std::array::from_fn(|i| origin[i] + 2.5 * direction[i]);
                let [u, v] = camera.project(point).expect("in front of the camera");
                // The pose is f32: R is orthonormal to 1e-7, which causes errors of 1e-4 pixels here.
                assert!(
                    (u - f64::from(px)).abs() < 2e-4 && (v - f64::from(py)).abs() < 2e-4,
                    "{lens:?} {u} {v}"
                );
            }
        }
    }

    #[test]
    fn an_equidistant_fisheye_sees_to_the_side() {
        // θ = r / f: an angle of 90° lies f π/2 pixels from the centre.
        let mut camera =
            Camera::look_at([0.0; 3], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0], 1.0, 400, 400);
        camera.focal = [100.0; 2];
        camera.lens = Lens::OpenCvFisheye {
            k1: 0.0,
            k2: 0.0,
            k3: 0.0,
            k4: 0.0,
        };
        let (_, direction) = camera.ray(200.0 + 50.0 * std::f32::consts::PI, 200.0);
        assert!(
            (direction[0] - 1.0).abs() < 1e-6 && direction[2].abs() < 1e-6,
            "{direction:?}"
        );
    }

    #[test]
    fn parallel_rays_start_side_by_side() {
        let mut camera = camera(Lens::Orthographic);
        // 64 and 32 pixels per world unit.
        camera.focal = [64.0, 32.0];
        let (center, forward) = camera.ray(310.5, 251.25);
        let (aside, same) = camera.ray(310.5 + 64.0, 251.25 + 32.0);
        assert_eq!(forward, same);
        for i in 0..3 {
            let [right, up, _, eye] = camera.world_from_camera[i];
            assert!((center[i] - eye).abs() < 1e-12);
            assert!((aside[i] - center[i] - right + up).abs() < 1e-6);
        }
        let point = std::array::from_fn(|i| aside[i] + 3.0 * forward[i]);
        let [u, v] = camera.project(point).expect("in front of the camera");
        assert!(
            (u - 374.5).abs() < 1e-4 && (v - 283.25).abs() < 1e-4,
            "{u} {v}"
        );
        let behind = std::array::from_fn(|i| aside[i] - 3.0 * forward[i]);
        assert!(camera.project(behind).is_none() && camera.lens_is_invertible());
        // At twice the resolution, the view is the same.
        assert_eq!(camera.resized(1280, 960).ray(749.0, 566.5).0, aside);
    }

    #[test]
    fn a_panorama_shows_everything() {
        let mut camera = Camera::look_at([0.0; 3], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], 1.0, 400, 200);
        camera.focal = [400.0 / std::f32::consts::TAU, 200.0 / std::f32::consts::PI];
        camera.lens = Lens::Equirectangular;
        assert!(camera.lens_is_invertible());
        // The middle looks forward, a quarter of the width to the right of it looks right, the edges look back.
        for (pixel, direction) in [
            ([200.0, 100.0], [0.0, 1.0, 0.0]),
            ([300.0, 100.0], [1.0, 0.0, 0.0]),
            ([100.0, 100.0], [-1.0, 0.0, 0.0]),
            ([0.0, 100.0], [0.0, -1.0, 0.0]),
            ([77.0, 0.0], [0.0, 0.0, 1.0]),
            ([200.0, 200.0], [0.0, 0.0, -1.0]),
            ([200.0, 50.0], [0.0, 0.5_f64.sqrt(), 0.5_f64.sqrt()]),
        ] {
            let (_, found) = camera.ray(pixel[0], pixel[1]);
            for i in 0..3 {
                assert!(
                    (found[i] - direction[i]).abs() < 1e-6,
                    "{pixel:?} {found:?}"
                );
            }
        }
        // Everything is projected, even points behind the camera.
        let [u, v] = camera.project([-3.0, -3.0, 0.0]).expect("visible");
        assert!(
            (u - 50.0).abs() < 1e-4 && (v - 100.0).abs() < 1e-4,
            "{u} {v}"
        );
        assert!(camera.project([0.0; 3]).is_none());
        assert_eq!(
            camera.resized(800, 400).ray(154.0, 60.0),
            camera.ray(77.0, 30.0)
        );
    }

    #[test]
    fn look_at_faces_its_target_with_the_image_upright() {
        let camera = Camera::look_at(
            [0.0, -4.0, 0.0],
            [0.0; 3],
            [0.0, 0.0, 1.0],
            std::f32::consts::FRAC_PI_2,
            4,
            2,
        );
        assert!((camera.focal[0] - 2.0).abs() < 1e-6);
        assert!((camera.forward()[1] - 1.0).abs() < 1e-6);
        let (origin, top_left) = camera.ray(0.0, 0.0);
        assert!((origin[1] + 4.0).abs() < 1e-6);
        // x = −2/2, z = +1/2 per unit of depth.
        assert!(top_left[0] < 0.0 && top_left[2] > 0.0);
        assert!(
            (top_left[0] / top_left[1] + 1.0).abs() < 1e-6
                && (top_left[2] / top_left[1] - 0.5).abs() < 1e-6
        );
        for up in [[0.0, 1.0, 0.0], [0.0; 3], [f32::NAN; 3]] {
            let camera = Camera::look_at([0.0, -4.0, 0.0], [0.0; 3], up, 1.0, 4, 2);
            assert!(
                camera.ray(1.0, 1.0).1.iter().all(|v| v.is_finite()),
                "{up:?}"
            );
        }
    }

    #[test]
    fn downscaling_keeps_the_field_of_view() {
        let camera = camera(Lens::Pinhole);
        let small = camera.downscaled(7); // 640 × 480 → 91 × 68
        assert_eq!([small.width, small.height], [91, 68]);
        assert!((small.focal[0] - camera.focal[0] * 91.0 / 640.0).abs() < 1e-4);
        assert!((small.principal[1] - 251.25 * 68.0 / 480.0).abs() < 1e-4);
        let (a, b) = (camera.ray(640.0, 480.0).1, small.ray(91.0, 68.0).1);
        assert!((0..3).all(|i| (a[i] - b[i]).abs() < 1e-6));
        assert_eq!(camera.downscaled(0), camera);
        assert_eq!(
            [
                camera.downscaled(9999).width,
                camera.downscaled(9999).height
            ],
            [1, 1]
        );
    }
}

mod real_scenes {
    use super::*;

    #[test]
    fn fox() {
        let Some(path) = real("fox") else { return };
        let dataset = Dataset::open(&path).unwrap();
        assert_eq!(
            (
                dataset.missing.len(),
                dataset.train.len(),
                dataset.test.len()
            ),
            (17, 43, 7)
        );
        assert_eq!((dataset.aabb_scale, dataset.warnings.len()), (Some(4), 1));
        let camera = dataset.train[0].camera;
        assert_eq!([camera.width, camera.height], [1080, 1920]);
        assert!(
            (camera.focal[0] - 1375.52).abs() < 1e-3
                && (camera.principal[1] - 965.268).abs() < 1e-3
        );
        assert!(matches!(camera.lens, Lens::OpenCv { .. }) && camera.lens_is_invertible());
        let images = load_images(&dataset.test[..2], 8, &|| ()).unwrap();
        assert_eq!([images[0].width, images[0].height], [135, 240]);
        assert!(!images[0].has_alpha);
    }

    #[test]
    fn lego() {
        for (name, side, counts) in [
            ("lego", 400, [100, 0, 200]),
            ("lego_100", 100, [100, 10, 25]),
        ] {
            let Some(path) = real(name) else { return };
            let dataset = Dataset::open(&path).unwrap();
            let found =
                [Split::Train, Split::Val, Split::Test].map(|split| dataset.frames(split).len());
            assert_eq!((dataset.format, found), (Format::Blender, counts));
            assert_eq!((dataset.name.as_str(), dataset.warnings.len()), (name, 0));
            let camera = dataset.train[0].camera;
            assert_eq!(camera.width, side);
            assert!((camera.focal[0] / side as f32 - 1.388_888).abs() < 1e-5);
            // Every camera looks at the origin from 4.03 units away.
            let towards: f64 = camera
                .position()
                .iter()
                .zip(camera.forward())
                .map(|(p, f)| -p * f64::from(f))
                .sum();
            assert!((towards - 4.031).abs() < 1e-2, "{towards}");
            assert!(load_images(&dataset.train[..2], 2, &|| ()).unwrap()[1].has_alpha);
        }
    }

    #[test]
    fn cars() {
        let Some(path) = real("cars") else { return };
        refused(Dataset::open(&path), &["subfolders with a dataset"]);
        let folders = path.read_dir().unwrap().flatten().map(|entry| entry.path());
        let cars: Vec<_> = folders
            .filter(|path| path.join("transforms.json").is_file())
            .collect();
        assert!(!cars.is_empty());
        for car in cars {
            let dataset = Dataset::open(&car).unwrap();
            assert_eq!(
                (
                    dataset.train.len(),
                    dataset.test.len(),
                    dataset.warnings.len()
                ),
                (21, 4, 0)
            );
            assert_eq!(dataset.train[0].near_far, Some([2.0, 6.0]));
        }
    }

    #[test]
    fn fern() {
        let Some(path) = real("fern") else { return };
        for (downscale, width, left) in [(1, 1008, 1), (4, 1008, 1), (8, 504, 1), (16, 504, 2)] {
            let dataset = Dataset::open_at(&path, downscale).unwrap();
            assert_eq!(
                (dataset.format, dataset.downscale, dataset.warnings.len()),
                (Format::Llff, left, 0)
            );
            assert_eq!((dataset.train.len(), dataset.test.len()), (17, 3));
            let names: Vec<&str> = dataset.test.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(names, ["image000", "image008", "image016"]);
            let camera = dataset.train[0].camera;
            assert_eq!([camera.width, camera.height], [width, width * 3 / 4]);
            // 3260.53 pixels at a width of 4032.
            assert!((camera.focal[0] / width as f32 - 0.808_662).abs() < 1e-5);
            let image = &load_images(&dataset.test[..1], dataset.downscale, &|| ()).unwrap()[0];
            assert_eq!(image.width, 4032 / downscale.max(4));
        }
        let dataset = Dataset::open(&path).unwrap();
        // All cameras look along −z, from positions at most half a unit from the origin. The nearest bound of all is at 4/3,
        // and rays start at 3/4 of it.
        let all = || dataset.train.iter().chain(&dataset.test);
        assert!(all().all(|f| f.camera.forward()[2] < -0.98));
        assert!(all().all(|f| f.camera.position().iter().all(|v| v.abs() < 0.5)));
        let mean = all().map(|f| f.camera.position()[0]).sum::<f64>() / 20.0;
        assert!(mean.abs() < 1e-6);
        let near = all()
            .map(|f| f.near_far.unwrap()[0])
            .fold(f32::MAX, f32::min);
        assert!((near - 1.0).abs() < 1e-6, "{near}");
        let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
        let frames = spiral(&cameras, Some([1.0, 7.9]), 30, 12.0).unwrap();
        // The spiral stays among the cameras, and rotates.
        let x = |i: usize| frames[i].camera.position()[0];
        assert!(x(0) > 0.2 && x(0) < 0.5 && (x(15) - x(0)).abs() < 1e-5 && x(8) < -0.1);
        assert!(frames.iter().all(|f| f.camera.forward()[2] < -0.98));
    }

    #[test]
    fn can() {
        let Some(path) = real("can") else { return };
        let dataset = Dataset::open(&path).unwrap();
        assert_eq!(
            (dataset.format, dataset.train.len(), dataset.test.len()),
            (Format::Llff, 62, 9)
        );
        assert!(dataset.warnings.len() == 1 && dataset.warnings[0].contains("COLMAP"));
        let camera = dataset.train[0].camera;
        assert_eq!([camera.width, camera.height], [720, 1280]);
        assert!((camera.focal[1] - 1105.1327).abs() < 1e-2);
        // The cameras surround the can.
        let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
        let error = spiral(&cameras, Some([1.0, 9.0]), 30, 12.0).unwrap_err();
        assert!(error.to_string().contains("look one way"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn images_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ending in prop::sample::select(vec!["png", "jpg", "webp", "tiff", "bmp", "exr"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("a.{ending}"));
        let image = image::DynamicImage::ImageRgb8(image::RgbImage::new(16, 16));
        let image = if ending == "exr" { image.into_rgb32f().into() } else { image };
        image.save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        std::fs::write(&path, bytes).unwrap();
        for error in [image_size(&path).err(), Image::load(&path).err()].into_iter().flatten() {
            prop_assert!(!error.to_string().contains('\n') && error.to_string().contains("a."));
        }
    }
}

/// Write `n` views as one object.
fn write_views(folder: &Path, n: u8, side: u32) {
    let camera = |i: u8| {
        let eye = [3.0, f32::from(i), 1.0];
        Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.7, side, side)
    };
    let cameras: Vec<Camera> = (0..n).map(camera).collect();
    let images = vec![gradient(side, side); cameras.len()];
    write_object(folder, &cameras, &images, [2.0, 6.0]).unwrap();
}

fn write_lists(root: &Path, name: &str, train: &[&str], test: &[&str]) {
    let of = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    write_splits(&root.join(name), &[of(train), of(test)]).unwrap();
}

#[test]
fn images_are_identified_by_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("views");
    write_views(&root, 4, 8);
    let of = |root: &Path| {
        let dataset = Dataset::open(root).unwrap();
        let views = dataset.views();
        let (images, contents) = load_with_contents(&views, 2, &|| ()).unwrap();
        assert_eq!(images.len(), 4);
        assert_eq!(images[0].width, 4);
        assert_eq!(FileIdentity::of_images(&views).unwrap(), contents);
        FileIdentity::fingerprint(&contents)
    };
    let before = of(&root);
    assert_eq!(before.len(), 16);
    // The paths and modification times of the files do not matter.
    let moved = folder.path().join("elsewhere");
    std::fs::rename(&root, &moved).unwrap();
    assert_eq!(of(&moved), before);
    let views = Dataset::open(&moved).unwrap().views();
    let path = &views[1].image_path;
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes).unwrap();
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(of(&moved), before);
    let image = views[1].load().unwrap();
    // A single pixel matters, and so do bytes after the image data and swapped files, which decoded pixels do not reveal.
    let mut other = image.clone();
    other.pixels[0] ^= 1;
    other.save_png(path).unwrap();
    let changed = of(&moved);
    assert_ne!(changed, before);
    std::fs::write(path, [&bytes[..], b" "].concat()).unwrap();
    assert_eq!(views[1].load().unwrap(), image);
    assert!(![&before, &changed].contains(&&of(&moved)));
    other.save_png(path).unwrap();
    let other = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes).unwrap();
    std::fs::write(&views[0].image_path, &other).unwrap();
    assert_ne!(of(&moved), changed);
}

#[test]
fn a_dataset_without_splits_has_all_views_in_order() {
    let folder = tempfile::tempdir().unwrap();
    write_views(folder.path(), 10, 8);
    let mut dataset = Dataset::open(folder.path()).unwrap();
    let names = |frames: &[kiln::dataset::Frame]| -> Vec<String> {
        frames.iter().map(|f| f.name.clone()).collect()
    };
    let all: Vec<String> = (0..10).map(|i| format!("rgb_{i:02}")).collect();
    assert_eq!(names(&dataset.views()), all);
    assert_eq!(names(&dataset.test), ["rgb_00", "rgb_08"]);
    let fingerprint = dataset.fingerprint();
    // Train on two views, the first of which is held out by default, and test on all others.
    dataset.restrict_train(&[0, 5]).unwrap();
    assert_eq!(names(&dataset.train), ["rgb_00", "rgb_05"]);
    assert_eq!(dataset.test.len(), 8);
    assert!(!names(&dataset.test).contains(&"rgb_00".to_owned()));
    assert_eq!(dataset.fingerprint(), fingerprint);
    // A single view stays a training view.
    let single = tempfile::tempdir().unwrap();
    write_views(single.path(), 1, 8);
    let dataset = Dataset::open(single.path()).unwrap();
    assert_eq!(
        (
            dataset.views().len(),
            dataset.train.len(),
            dataset.is_held_out
        ),
        (1, 1, false)
    );
}

#[test]
fn folders_of_objects_and_their_faults() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a", "b", "c", "d"] {
        write_views(&root.join(name), 3, 8);
    }
    write_views(&root.join("large"), 3, 16);
    write_views(&root.join("empty"), 2, 8);
    for i in 0..2 {
        std::fs::remove_file(root.join(format!("empty/rgb_{i:02}.png"))).unwrap();
    }
    assert!(holds_objects(root) && !holds_objects(&root.join("a")));
    let open = |splits: &Splits| Objects::open(root, splits, OpenOptions::default());
    refused(
        open(&Splits::Found),
        &["*_splits.json", "--splits", "--train-fraction"],
    );
    write_lists(root, "x_splits.json", &["a", "b", "large", "empty"], &["c"]);
    let objects = open(&Splits::Found).unwrap();
    let names = |objects: &[kiln::dataset::Object]| -> Vec<String> {
        objects.iter().map(|o| o.name.clone()).collect()
    };
    assert_eq!(
        (names(&objects.train), names(&objects.test)),
        (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()])
    );
    assert_eq!((objects.size, objects.most_views()), ([8, 8], 3));
    let skipped: Vec<(&str, &str)> = objects
        .skipped
        .iter()
        .map(|s| (s.name.as_str(), s.reason.as_str()))
        .collect();
    let [("large", large), ("empty", empty)] = skipped[..] else {
        panic!("{skipped:?}");
    };
    assert!(
        large.contains("16 × 16") && empty.contains("none of the 2 images"),
        "{skipped:?}"
    );
    // Another list of objects has another fingerprint.
    let file = root.join("more.json");
    write_lists(root, "more.json", &["a", "b", "d"], &[]);
    let more = open(&Splits::File(file.clone())).unwrap();
    assert_ne!(more.fingerprint(), objects.fingerprint());

    write_lists(root, "y_splits.json", &["a"], &[]);
    refused(
        open(&Splits::Found),
        &["x_splits.json and y_splits.json", "--splits"],
    );
    let with = |train: &[&str], test: &[&str]| {
        write_lists(root, "more.json", train, test);
        open(&Splits::File(file.clone()))
    };
    refused(
        with(&["a", "nowhere"], &[]),
        &["more.json", "`train`", "nowhere"],
    );
    refused(
        with(&["a", "../a"], &[]),
        &["`../a`", "not a folder inside"],
    );
    refused(with(&["a", "b"], &["a"]), &["`a` is named twice"]);
    refused(
        with(&["a", "empty"], &["b"]),
        &["1 object to learn from", "two", "empty"],
    );
    refused(
        with(&["a", "large"], &[]),
        &["no common resolution", "8 × 8", "16 × 16"],
    );
    refused(
        open(&Splits::File(root.join("a/rgb_00.png"))),
        &["rgb_00.png"],
    );
    std::fs::write(&file, "{\"train\": 3}").unwrap();
    refused(
        open(&Splits::File(file.clone())),
        &["`train` should be a list"],
    );
    refused(
        Objects::open(&root.join("a"), &Splits::Found, OpenOptions::default()),
        &["is one scene"],
    );

    // A fraction of the folders, in order of their names; unreadable ones are skipped.
    let half = open(&Splits::Fraction(0.5)).unwrap();
    assert_eq!(names(&half.train), ["a", "b", "c"]);
    assert_eq!(names(&half.test), ["d"]);
}

#[test]
fn objects_as_scene_representation_networks_store_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("car");
    for sub in ["pose", "rgb"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    let intrinsics = "131.25 64.0 64.0 0.\n0. 0. 0.\n1.\n128 128\n";
    std::fs::write(root.join("intrinsics.txt"), intrinsics).unwrap();
    for i in 0..3 {
        // The cameras are at (0, 0, -1.3) and look along +z, with y down.
        let pose = "1 0 0 0 0 1 0 0 0 0 1 -1.3 0 0 0 1";
        std::fs::write(root.join(format!("pose/{i:06}.txt")), pose).unwrap();
        gradient(64, 64)
            .save_png(&root.join(format!("rgb/{i:06}.png")))
            .unwrap();
    }
    let dataset = Dataset::open(&root).unwrap();
    assert_eq!((dataset.format, dataset.views().len()), (Format::Srn, 3));
    let frame = &dataset.views()[1];
    assert_eq!(frame.name, "rgb/000001");
    // The images are stored at half the size that the intrinsics are for.
    assert_eq!(
        (frame.camera.focal, frame.camera.principal),
        ([65.625; 2], [32.0; 2])
    );
    let [near, far] = frame.near_far.unwrap();
    assert!((near - 0.8).abs() < 1e-6 && (far - 1.8).abs() < 1e-6);
    let (origin, direction) = frame.camera.ray(32.0, 32.0);
    assert!(
        (origin[2] + 1.3).abs() < 1e-6 && (direction[2] - 1.0).abs() < 1e-6,
        "{direction:?}"
    );
    // The top of the image looks up, which is -y here.
    assert!(frame.camera.ray(32.0, 0.0).1[1] < 0.0);

    std::fs::write(root.join("pose/000001.txt"), "1 0 0").unwrap();
    refused(Dataset::open(&root), &["000001.txt", "16 numbers"]);
    std::fs::write(root.join("pose/000001.txt"), "1 0 0 x").unwrap();
    refused(Dataset::open(&root), &["000001.txt", "line 1", "`x`"]);
    std::fs::write(
        root.join("intrinsics.txt"),
        "131.25 64.0 64.0 0.\n0. 0. 0.\n1.\n",
    )
    .unwrap();
    refused(
        Dataset::open(&root),
        &["intrinsics.txt", "four or five lines"],
    );
    let write = |text: &str| std::fs::write(root.join("intrinsics.txt"), text).unwrap();
    for (text, words) in [
        ("", ["five lines"; 2]),
        ("131 64 64 0\n0 0 x\n1\n128 128\n", ["line 2", "`x`"]),
        (
            "0 64 64 0\n0 0 0\n1\n128 128\n",
            ["focal length 0", "positive"],
        ),
        (
            "131 64 64 0\n0 0 0\n-1\n1\n128 128\n",
            ["near plane -1", "negative"],
        ),
        (
            "131 64 64 0\n0 0 0\n1\n128 128\n7\n",
            ["world-to-camera"; 2],
        ),
        ("131 64 64 0\n0 0 0\n0\n1\n1\n128 128\n", ["five lines"; 2]),
    ] {
        write(text);
        let words = [&["intrinsics.txt"][..], &words].concat();
        refused(Dataset::open(&root), &words);
    }
    // An intrinsics matrix identifies NSVF's format, and so does a bounding box.
    let pose = "1 0 0 0 0 1 0 0 0 0 1 -1.3 0 0 0 1";
    std::fs::write(root.join("pose/000001.txt"), pose).unwrap();
    for matrix in [
        "100 0 32 0\n0 100 32 0\n0 0 1 0\n0 0 0 1\n",
        "100 0 32\n0 100 32\n0 0 1\n",
        "100 0 32 0 0 100 32 0 0 0 1 0 0 0 0 1\n",
    ] {
        write(matrix);
        assert_eq!(Dataset::open(&root).unwrap().format, Format::Nsvf);
    }
    write(intrinsics);
    std::fs::write(root.join("bbox.txt"), "-1 -1 -1 1 1 1 0.4\n").unwrap();
    assert_eq!(Dataset::open(&root).unwrap().format, Format::Nsvf);
}

#[test]
fn intrinsics_as_scene_representation_networks_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for sub in ["pose", "rgb"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    for i in 0..3 {
        // The cameras are at (0.5, 0, -1.3).
        let pose = "1 0 0 0.5 0 1 0 0 0 0 1 -1.3 0 0 0 1";
        std::fs::write(root.join(format!("pose/{i:06}.txt")), pose).unwrap();
        gradient(64, 64)
            .save_png(&root.join(format!("rgb/{i:06}.png")))
            .unwrap();
    }
    let open = |text: &str| {
        std::fs::write(root.join("intrinsics.txt"), text).unwrap();
        Dataset::open(root).unwrap().train[0].clone()
    };
    // The centre is (0.5, 0, 0); the near plane has a separate line, and can only raise the near bound.
    let four = open("131.25 64. 64. 0.\n.5 0. 0.\n1.\n128 128\n");
    let five = open("131.25 64. 64. 0.\n.5 0. 0.\n0.\n1.\n128 128\n");
    assert_eq!(five, four);
    assert_eq!(
        (five.camera.focal, five.near_far),
        ([65.625; 2], Some([0.8, 1.8]))
    );
    let near = open("131.25 64. 64. 0.\n.5 0. 0.\n1.1\n1.\n128 128\n0\n");
    assert_eq!(
        (near.camera, near.near_far),
        (four.camera, Some([1.1, 1.8]))
    );
    let inverse = open("131.25 64. 64. 0.\n-.5 0. 0.\n0.\n1.\n128 128\n1\n");
    assert_eq!(inverse.camera.position(), [-0.5, 0.0, 1.3]);
    assert_eq!(inverse.camera.forward(), [0.0, 0.0, 1.0]);
    // Each inconsistency is reported once.
    let warnings = |text: &str| {
        std::fs::write(root.join("intrinsics.txt"), text).unwrap();
        Dataset::open(root).unwrap().warnings
    };
    assert_eq!(
        warnings("66. 32. 32. 0.\n.5 0. 0.\n0.\n1.\n64 64\n"),
        Vec::<String>::new()
    );
    assert_eq!(
        warnings("\u{feff}66. 32. 32. 0.\n.5 0. 0.\n1.\n64 64\n"),
        Vec::<String>::new()
    );
    let wide = warnings("66. 32. 32. 0.\n.5 0. 0.\n0.\n1.\n48 64\n");
    assert!(
        wide.len() == 1 && wide[0].contains("64 × 64 pixels, not the 64 × 48"),
        "{wide:?}"
    );
    assert!(wide[0].contains("(3 "), "{wide:?}");
    let behind = warnings("66. 32. 32. 0.\n.5 0. 0.\n9.\n1.\n64 64\n");
    assert!(
        behind.len() == 1 && behind[0].contains("near plane of intrinsics.txt is 9"),
        "{behind:?}"
    );
}
