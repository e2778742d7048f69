//! The demo scene: its cameras, its images, and the dataset written from them.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use kiln::camera::Camera;
use kiln::dataset::{Dataset, Image, Objects, OpenOptions, Split, Splits};
use kiln::gpu::{Gpu, GpuError, GpuOptions};
use kiln::scene::{DemoScene, ToyCar};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

/// Return the device of this process, or `None` if there is none and `KILN_REQUIRE_GPU` is not 1.
fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Result<Arc<Gpu>, GpuError>> = OnceLock::new();
    match GPU.get_or_init(|| Gpu::open(&GpuOptions::default())) {
        Ok(gpu) => Some(Arc::clone(gpu)),
        Err(GpuError::NoAdapter) if std::env::var("KILN_REQUIRE_GPU").as_deref() != Ok("1") => {
            eprintln!("skipped: no GPU adapter");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Return a camera in the direction `towards` (any length) from the origin, at the demo's distance.
fn camera_at(towards: [f32; 3], size: u32) -> Camera {
    let length = towards.iter().map(|v| v * v).sum::<f32>().sqrt();
    let eye = towards.map(|v| 4.031 * v / length);
    Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.6911, size, size)
}

/// Return the mean colour (0 to 255) of the 5 × 5 pixels around a world point, all of which are opaque.
fn color_at(image: &Image, camera: &Camera, point: [f64; 3]) -> [f64; 3] {
    let [x, y] = camera
        .project(point)
        .unwrap()
        .map(|v| v.floor() as usize - 2);
    let mut sum = [0.0; 3];
    for pixel in (0..25).map(|i| (y + i / 5) * image.width as usize + x + i % 5) {
        let rgba = &image.pixels[4 * pixel..4 * pixel + 4];
        assert_eq!(rgba[3], 255, "the point is not covered");
        for (sum, value) in sum.iter_mut().zip(rgba) {
            *sum += f64::from(*value) / 25.0;
        }
    }
    sum
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

#[test]
fn cameras_look_at_the_origin_from_the_same_distance() {
    for split in SPLITS {
        let cameras = DemoScene::cameras(split, 40, 100);
        assert_eq!(cameras.len(), 40);
        for camera in cameras {
            assert_eq!([camera.width, camera.height], [100, 100]);
            // 100 / 2 / tan(0.6911112 / 2) = 138.889 pixels
            assert!((camera.focal[0] - 138.889).abs() < 1e-2);
            let radius = camera.position().iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!((radius - 4.0311).abs() < 1e-3);
            let [x, y] = camera.project([0.0; 3]).unwrap();
            assert!((x - 50.0).abs() < 1e-3 && (y - 50.0).abs() < 1e-3);
        }
        assert!(DemoScene::cameras(split, 0, 100).is_empty());
    }
}

#[test]
fn distances_are_those_of_what_is_seen() {
    let Some(gpu) = gpu() else { return };
    let camera = camera_at([1.0, 0.3, 0.6], 40);
    let distances = DemoScene::distances(&gpu, &camera).unwrap();
    let image = DemoScene::render(&gpu, &camera).unwrap();
    assert_eq!(distances.len(), 40 * 40);
    for (distance, pixel) in distances.iter().zip(image.pixels.chunks_exact(4)) {
        match pixel[3] {
            0 => assert_eq!(*distance, 0.0),
            255 => assert!((2.5..5.5).contains(distance), "{distance}"),
            _ => {}
        }
    }
    // The sphere at (0.40, −0.44, −0.08) of radius 0.34, seen along the axis through its centre.
    let centre = [0.40_f32, -0.44, -0.08];
    let eye = [3.0_f32, -1.5, 1.5];
    let camera = Camera::look_at(eye, centre, [0.0, 0.0, 1.0], 0.4, 41, 41);
    let away: f32 = eye
        .iter()
        .zip(centre)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f32>()
        .sqrt();
    let seen = DemoScene::distances(&gpu, &camera).unwrap()[20 * 41 + 20];
    assert!((seen - (away - 0.34)).abs() < 2e-3, "{seen} {away}");
}

#[test]
fn the_room_fills_the_background() {
    let Some(gpu) = gpu() else { return };
    let camera = camera_at([1.0, 0.3, 0.6], 60);
    let [plain, room] = [
        DemoScene::render(&gpu, &camera).unwrap(),
        DemoScene::render_in_room(&gpu, &camera).unwrap(),
    ];
    assert!(plain.has_alpha && !room.has_alpha);
    let walls: Vec<&[u8]> = plain
        .pixels
        .chunks_exact(4)
        .zip(room.pixels.chunks_exact(4))
        .filter(|(plain, _)| plain[3] == 0)
        .map(|(_, room)| room)
        .collect();
    let colors: std::collections::BTreeSet<&[u8]> = walls.iter().copied().collect();
    assert!(
        walls.len() > 500 && colors.len() > 30,
        "{} colours",
        colors.len()
    );
}

#[test]
fn training_views_surround_the_scene_and_reach_below_the_horizon() {
    let cameras = DemoScene::cameras(Split::Train, 100, 8);
    let heights = || cameras.iter().map(|camera| camera.position()[2]);
    let below = heights().filter(|z| *z < 0.0).count();
    assert!((10..40).contains(&below), "{below} below the horizon");
    assert!(heights().any(|z| z > 3.8));
    for quadrant in [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]] {
        let inside = cameras.iter().filter(|camera| {
            let [x, y, _] = camera.position();
            x * quadrant[0] > 0.0 && y * quadrant[1] > 0.0
        });
        assert!(inside.count() > 15);
    }
}

#[test]
fn no_view_is_in_two_splits() {
    let splits = SPLITS.map(|split| DemoScene::cameras(split, 100, 8));
    for (i, a) in splits.iter().enumerate() {
        for (j, b) in splits.iter().enumerate().skip(i) {
            for (k, a) in a.iter().enumerate() {
                for (l, b) in b.iter().enumerate() {
                    let [a, b] = [a, b].map(kiln::camera::Camera::position);
                    let same = (i, k) == (j, l);
                    assert!(same || distance(a, b) > 1e-3, "{i} {k} and {j} {l}");
                }
            }
        }
    }
}

#[test]
fn images_show_the_whole_scene_on_a_transparent_background() {
    let Some(gpu) = gpu() else { return };
    for camera in DemoScene::cameras(Split::Train, 9, 64) {
        let image = DemoScene::render(&gpu, &camera).unwrap();
        assert_eq!([image.width, image.height], [64, 64]);
        assert_eq!(image.pixels.len(), 64 * 64 * 4);
        assert!(image.has_alpha);
        let alphas = || image.pixels.chunks_exact(4).map(|rgba| rgba[3]);
        let opaque = alphas().filter(|&a| a == 255).count();
        assert!((64 * 64 / 10..64 * 64 / 2).contains(&opaque), "{opaque}");
        assert!(alphas().any(|a| 0 < a && a < 255), "edges are smoothed");
        for (i, rgba) in image.pixels.chunks_exact(4).enumerate() {
            let border = [i % 64, i / 64].iter().any(|v| *v == 0 || *v == 63);
            assert!(!border || rgba == [0; 4], "cut off at pixel {i}");
            assert!(rgba[3] > 0 || rgba == [0; 4], "colour where nothing is");
        }
        let covered = image.pixels.chunks_exact(4).filter(|rgba| rgba[3] == 255);
        let brightness = covered.map(|rgba| *rgba[..3].iter().max().unwrap());
        let dark = brightness.clone().filter(|v| *v < 40).count();
        assert!(dark < opaque / 2, "{dark} of {opaque} are dark");
        assert!(brightness.max() > Some(180));
    }
}

/// The glossy sphere reflects the light to one side and is red from the other; a matte panel looks almost the same from both.
#[test]
fn the_sphere_is_view_dependent_and_the_cube_is_not() {
    let Some(gpu) = gpu() else { return };
    // The sphere's centre plus its radius, 0.34, towards the key light; the centre of a panel on top of the cube. See
    // `SPHERE_AT`, `TO_KEY` and `cube_material` in shaders/scene/demo.wgsl.
    let to_key = [-0.7, -0.3, 0.648];
    let on_sphere = [
        0.40 - 0.34 * 0.7,
        -0.44 - 0.34 * 0.3,
        -0.08 + 0.34 * 0.648_f64,
    ];
    let on_cube = [-0.427, -0.185, 0.102];
    let [[sphere_a, cube_a], [sphere_b, cube_b]] = [to_key, [0.1, -0.75, 0.65]].map(|towards| {
        let camera = camera_at(towards, 256);
        let image = DemoScene::render(&gpu, &camera).unwrap();
        [on_sphere, on_cube].map(|point| color_at(&image, &camera, point))
    });
    let (sphere, cube) = (distance(sphere_a, sphere_b), distance(cube_a, cube_b));
    assert!(sphere > 80.0, "{sphere_a:?} {sphere_b:?}");
    assert!(sphere_b[0] > 2.0 * sphere_b[1], "red: {sphere_b:?}");
    assert!(cube < 25.0, "{cube_a:?} {cube_b:?}");
}

#[test]
fn images_larger_than_a_submission_have_no_seams() {
    let Some(gpu) = gpu() else { return };
    let camera = camera_at([0.2, -0.9, 0.4], 250); // 62,500 pixels: no multiple of a submission
    let whole = DemoScene::render(&gpu, &camera).unwrap();
    assert_eq!(whole, DemoScene::render(&gpu, &camera).unwrap());
    // Half the size in each direction, so that the two images are split at different places.
    let small = DemoScene::render(&gpu, &camera.downscaled(2)).unwrap();
    let reduced = whole.downscaled(2);
    let far = small.pixels.iter().zip(&reduced.pixels);
    let far = far.filter(|(a, b)| a.abs_diff(**b) > 64).count();
    assert!(far < small.pixels.len() / 50, "{far}");
}

#[test]
fn the_dataset_opens_as_it_was_rendered() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let done = Cell::new(0);
    let progress = || done.set(done.get() + 1);
    DemoScene::write_dataset(&gpu, folder.path(), [4, 2, 3], 32, &progress).unwrap();
    assert_eq!(done.get(), 9);

    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.warnings, [""; 0]);
    for (split, n) in SPLITS.into_iter().zip([4, 2, 3]) {
        let cameras = DemoScene::cameras(split, n, 32);
        let frames = dataset.frames(split);
        assert_eq!(frames.len(), n);
        for (frame, camera) in frames.iter().zip(&cameras) {
            assert_eq!(frame.near_far, Some([2.0, 6.0]));
            let [a, b] = [frame.camera.position(), camera.position()];
            assert!(distance(a, b) < 1e-5);
            assert!((frame.camera.focal[0] - camera.focal[0]).abs() < 1e-3);
        }
        let image = Image::load(&frames[n - 1].image_path).unwrap();
        assert_eq!(image, DemoScene::render(&gpu, &cameras[n - 1]).unwrap());
    }

    let folder = tempfile::tempdir().unwrap();
    DemoScene::write_dataset(&gpu, folder.path(), [9, 0, 0], 16, &|| ()).unwrap();
    assert!(!folder.path().join("val").exists());
    assert_eq!(Dataset::open(folder.path()).unwrap().test.len(), 2);
}

#[test]
fn toy_cars_differ_and_stand_inside_their_frame() {
    let Some(gpu) = gpu() else { return };
    let cameras = ToyCar::cameras(4, 32, 0.0);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for index in 0..6 {
        let car = ToyCar::new(index);
        assert_eq!(car, ToyCar::new(index));
        for camera in &cameras {
            let image = car.render(&gpu, camera).unwrap();
            let opaque = image.pixels.chunks_exact(4).filter(|p| p[3] == 255).count();
            assert!(
                (60..600).contains(&opaque),
                "{opaque} pixels of car {index}"
            );
            let border = (0..32).flat_map(|i| [i, 31 * 32 + i, 32 * i, 32 * i + 31]);
            for pixel in border {
                assert_eq!(image.pixels[4 * pixel + 3], 0, "car {index} is cut off");
            }
            assert!(!seen.contains(&image.pixels), "two cars are alike");
            seen.push(image.pixels);
        }
    }
}

#[test]
fn toy_cars_are_objects_for_meta_learning() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let drawn = Cell::new(0);
    let count = || drawn.set(drawn.get() + 1);
    ToyCar::write_objects(&gpu, folder.path(), 6, 3, 16, &count).unwrap();
    assert_eq!(drawn.get(), 18);
    let objects = Objects::open(folder.path(), &Splits::Found, OpenOptions::default()).unwrap();
    assert_eq!((objects.train.len(), objects.test.len()), (5, 1));
    assert_eq!((objects.size, objects.most_views()), ([16, 16], 3));
    assert_eq!(objects.test[0].name, "car_004");
    assert!(objects.skipped.is_empty());
    let frame = &objects.train[2].frames[1];
    assert_eq!(frame.near_far, Some([2.0, 6.0]));
    let camera = ToyCar::cameras(3, 16, 2.0)[1];
    assert_eq!(frame.camera.world_from_camera, camera.world_from_camera);
}
