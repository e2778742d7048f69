//! Camera rays against `kiln::camera::Camera::ray`, and the pixels that are drawn for training.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytemuck::Zeroable;
use kiln::aabb::Aabb;
use kiln::camera::{Camera, Lens};
use kiln::config::{Background, Config, ResolvedConfig};
use kiln::dataset::{Image, Mask};
use kiln::gpu::Gpu;
use kiln::images::{DepthSample, GpuCamera, ImageSet, camera_rays};
use kiln::render::GpuCrop;
use kiln::scene_frame::SceneFrame;
use kiln::step_state::{DEPTH_STRIDE, StepState};

use crate::reference::random::Pcg;
use crate::support::{GpuRay, Rig, crop_range, linear_from_srgb, on_device, srgb_from_linear};

fn config(overrides: &[&str]) -> ResolvedConfig {
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    ResolvedConfig::from_run(Config::preset("ngp-small", &overrides).unwrap())
}

fn camera(lens: Lens, width: u32, height: u32) -> Camera {
    let mut camera = Camera::look_at(
        [1.0, -2.0, 0.7],
        [0.1, 0.2, -0.3],
        [0.0, 0.0, 1.0],
        1.1,
        width,
        height,
    );
    camera.focal[1] *= 1.05;
    camera.principal = [0.47 * width as f32, 0.55 * height as f32];
    match lens {
        Lens::Orthographic => camera.focal = [0.3 * width as f32, 0.31 * width as f32],
        // Slightly less than the full panorama.
        Lens::Equirectangular => {
            camera.focal = [width as f32 / 6.0, height as f32 / 2.8];
        }
        _ => {}
    }
    camera.lens = lens;
    camera
}

fn lenses() -> [Lens; 11] {
    [
        Lens::Pinhole,
        Lens::OpenCv {
            k1: -0.2,
            k2: 0.07,
            k3: -0.01,
            p1: 1e-3,
            p2: -2e-3,
        },
        Lens::OpenCvFisheye {
            k1: 0.05,
            k2: -0.02,
            k3: 4e-3,
            k4: -1e-3,
        },
        Lens::Orthographic,
        Lens::Equirectangular,
        Lens::FullOpenCv {
            k: [-0.2, 0.07, -0.01, 0.02, 0.01, -3e-3],
            p: [1e-3, -2e-3],
        },
        Lens::ThinPrismFisheye {
            k: [0.05, -0.02, 4e-3, -1e-3],
            p: [1e-3, -2e-3],
            s: [3e-3, -1e-3],
        },
        Lens::RadTanThinPrismFisheye {
            k: [0.05, -0.02, 4e-3, -1e-3, 5e-4, -1e-4],
            p: [1e-3, -2e-3],
            s: [3e-3, -1e-3, 2e-3, 5e-4],
        },
        Lens::Fov { omega: 0.9 },
        Lens::Division { k: -0.15 },
        Lens::Eucm {
            alpha: 0.6,
            beta: 1.1,
        },
    ]
}

/// Assert that origin, direction and view direction are those of pixel `ray.pixel` of `camera`.
fn assert_ray(ray: &GpuRay, camera: &Camera, pixel_center: f32) {
    let (x, y) = (ray.pixel % camera.width, ray.pixel / camera.width);
    let (origin, direction) = camera.ray(x as f32 + pixel_center, y as f32 + pixel_center);
    for c in 0..3 {
        assert!(
            (f64::from(ray.origin[c]) - origin[c]).abs() < 1e-6,
            "{ray:?}: origin {origin:?}"
        );
        let error = (f64::from(ray.direction[c]) - direction[c]).abs();
        assert!(
            error < 5e-6,
            "{:?}, pixel {x}, {y}: {ray:?}: direction {direction:?}",
            camera.lens
        );
    }
    assert_eq!(ray.view_dir, ray.direction);
}

/// Return `n` rays of view `tile[0]` of `cameras` from pixel `tile[1]` on, within `crop`.
fn rays_of(
    gpu: &Arc<Gpu>,
    config: &ResolvedConfig,
    cameras: &[GpuCamera],
    tile: [u32; 2],
    crop: Option<Aabb>,
    n: usize,
) -> Vec<GpuRay> {
    let rig = Rig::new(gpu, n, 0, 0);
    let cameras = rig.buffer(cameras);
    let tile = gpu.uniform("tile", &[tile[0], tile[1], 0, 0]).unwrap();
    let crop = GpuCrop::new(crop, &SceneFrame::WORLD);
    let crop = gpu.uniform("crop", &crop).unwrap();
    let rays = rig.buffer(&vec![GpuRay::zeroed(); n]);
    rig.run(|stage| camera_rays(stage, &rig.counts, config, &cameras, &tile, &crop, &rays));
    rig.read(&rays, n)
}

#[test]
fn camera_rays_follow_every_lens() {
    on_device(|gpu| {
        let cameras: Vec<Camera> = lenses().map(|lens| camera(lens, 31, 17)).into();
        for (config, pixel_center) in [
            (config(&[]), 0.5),
            (config(&["scene.pixel_center=0.0"]), 0.0),
        ] {
            for (index, camera) in cameras.iter().enumerate() {
                // All pixels except the first 40, which are a row and a part of the next.
                let (first, n) = (40, 31 * 17 - 40);
                let on_device: Vec<GpuCamera> = cameras
                    .iter()
                    .map(|c| GpuCamera::new(c, [0.25, 7.5], &SceneFrame::WORLD))
                    .collect();
                let tile = [index as u32, first];
                let rays = rays_of(gpu, &config, &on_device, tile, None, n as usize);
                for (i, ray) in rays.iter().enumerate() {
                    assert_eq!((ray.image, ray.pixel), (index as u32, first + i as u32));
                    assert_eq!([ray.t_min, ray.t_max], [0.25, 7.5]);
                    assert_eq!(ray.background, [1.0; 3]);
                    assert_ray(ray, camera, pixel_center);
                }
            }
        }
    });
}

#[test]
fn rays_of_large_images_meet_their_pixels() {
    on_device(|gpu| {
        let (width, height) = (1024, 768);
        let n = width * height;
        for lens in lenses()
            .into_iter()
            .filter(|lens| *lens != Lens::Orthographic)
        {
            let camera = camera(lens, width, height);
            let on_device = [GpuCamera::new(&camera, [0.0, 1.0], &SceneFrame::WORLD)];
            let rays = rays_of(gpu, &config(&[]), &on_device, [0; 2], None, n as usize);
            let corners = [0, width - 1, n - width, n - 1];
            // Longitudes repeat.
            let turn = match lens {
                Lens::Equirectangular => std::f64::consts::TAU * f64::from(camera.focal[0]),
                _ => f64::MAX,
            };
            for pixel in corners.into_iter().chain((0..n).step_by(997)) {
                let ray = &rays[pixel as usize];
                let point: [f64; 3] =
                    std::array::from_fn(|c| f64::from(ray.origin[c]) + f64::from(ray.direction[c]));
                let seen = camera.project(point).unwrap();
                let at = [
                    f64::from(pixel % width) + 0.5,
                    f64::from(pixel / width) + 0.5,
                ];
                let across = (seen[0] - at[0]).abs();
                let error = across.min((turn - across).abs()).hypot(seen[1] - at[1]);
                assert!(error < 0.01, "{lens:?} at {at:?}: {error} px");
            }
        }
    });
}

#[test]
fn a_crop_limits_rays_to_where_they_enter_and_leave_it() {
    on_device(|gpu| {
        let crop = Aabb::new([-0.4, -0.3, -0.9], [0.3, 0.5, 0.2]).unwrap();
        let camera = camera(Lens::Pinhole, 31, 17);
        let n = 31 * 17;
        let on_device = [GpuCamera::new(&camera, [0.25, 2.7], &SceneFrame::WORLD)];
        let rays = rays_of(gpu, &config(&[]), &on_device, [0; 2], Some(crop), n);
        let (mut misses, mut cuts, mut ends) = (0, 0, 0);
        for (i, ray) in rays.iter().enumerate() {
            let (x, y) = (i as u32 % 31, i as u32 / 31);
            let range = crop_range(&camera, &crop, x, y, [0.25, 2.7]);
            assert_eq!(ray.pixel & 0x7fff_ffff, i as u32);
            if range[0] >= range[1] {
                assert!(ray.t_max <= ray.t_min + 1e-4, "{ray:?}");
                misses += 1;
                continue;
            }
            assert!((f64::from(ray.t_min) - range[0]).abs() < 1e-4, "{ray:?}");
            assert!((f64::from(ray.t_max) - range[1]).abs() < 1e-4, "{ray:?}");
            // The ray ends at the crop box, or at the camera's far bound.
            let is_cut = ray.pixel >> 31 == 1;
            assert_eq!(is_cut, ray.t_max < 2.7, "{ray:?}");
            *(if is_cut { &mut cuts } else { &mut ends }) += 1;
        }
        assert!(
            misses > 20 && cuts > 20 && ends > 5,
            "{misses} {cuts} {ends}"
        );
    });
}

/// Return images of several sizes with cameras of several lenses; the pixels are random.
fn images() -> (Vec<Image>, Vec<Camera>) {
    let mut pcg = Pcg::new(51);
    let sizes = [(6, 4), (5, 7), (3, 3), (6, 4), (8, 2)];
    let cameras: Vec<Camera> = sizes
        .iter()
        .zip(lenses().iter().cycle())
        .map(|(&(w, h), &l)| camera(l, w, h))
        .collect();
    let image = |&(width, height): &(u32, u32)| {
        let pixels = (0..4 * width * height)
            .map(|_| pcg.next_u32() as u8)
            .collect();
        Image {
            width,
            height,
            pixels,
            has_alpha: true,
            mask: None,
        }
    };
    (sizes.iter().map(image).collect(), cameras)
}

/// Draw 1000 rays, check each against its image, and return them.
fn draw(
    gpu: &Arc<Gpu>,
    config: &ResolvedConfig,
    chunk_bytes: u64,
    chunks: usize,
    state: StepState,
) -> Vec<GpuRay> {
    draw_of(gpu, config, (chunk_bytes, chunks), state, &images())
}

/// Draw 1000 rays from images with these cameras, check each against its image, and return them.
fn draw_of(
    gpu: &Arc<Gpu>,
    config: &ResolvedConfig,
    (chunk_bytes, chunks): (u64, usize),
    state: StepState,
    (images, cameras): &(Vec<Image>, Vec<Camera>),
) -> Vec<GpuRay> {
    const N: usize = 1000;
    let on_device: Vec<GpuCamera> = cameras
        .iter()
        .map(|c| GpuCamera::new(c, [0.0, 9.0], &SceneFrame::WORLD))
        .collect();
    let set = ImageSet::upload_in_chunks(gpu, images, &on_device, chunk_bytes).unwrap();
    assert_eq!((set.n_chunks(), set.len()), (chunks, 5));
    let rig = Rig::new(gpu, N, 0, 0);
    rig.set(StepState {
        n_rays: N as u32,
        ..state
    });
    let (rays, targets) = (
        rig.buffer(&vec![GpuRay::zeroed(); N]),
        rig.buffer(&vec![-1.0_f32; 4 * N]),
    );
    rig.run(|stage| set.draw(stage, &rig.counts, config, &rays, &targets));
    let rays: Vec<GpuRay> = rig.read(&rays, N);
    let targets: Vec<[f32; 4]> = rig.read(&targets, N);
    for (ray, target) in rays.iter().zip(&targets) {
        let image = &images[ray.image as usize];
        assert!(ray.pixel < image.width * image.height);
        assert_ray(ray, &cameras[ray.image as usize], 0.5);
        let at = 4 * ray.pixel as usize;
        let rgba: Vec<f64> = image.pixels[at..at + 4]
            .iter()
            .map(|&b| f64::from(b) / 255.0)
            .collect();
        for c in 0..3 {
            let (over, under) = (rgba[c], f64::from(ray.background[c]));
            let expected = if config.scene.linear {
                let [over, under] = [over, under].map(linear_from_srgb);
                srgb_from_linear(over * rgba[3] + under * (1.0 - rgba[3])).0
            } else {
                over * rgba[3] + under * (1.0 - rgba[3])
            };
            let error = (f64::from(target[c]) - expected).abs();
            assert!(
                error < 1e-5,
                "{ray:?} over {rgba:?}: {target:?}, expected {expected} in channel {c}"
            );
        }
        assert!((f64::from(target[3]) - rgba[3]).abs() < 1e-6);
    }
    rays
}

fn seeded(seed: u32, step: u32) -> StepState {
    StepState {
        seed,
        step,
        ..StepState::zeroed()
    }
}

#[test]
fn hidden_pixels_are_never_drawn_and_all_others_equally_often() {
    on_device(|gpu| {
        let config = config(&[]);
        for (chunk_bytes, chunks) in [(1 << 20, 1), (4 * 6 * 4, 5)] {
            let (mut images, mut cameras) = images();
            // One image has several words, one has a word without any used pixel, one has a single used pixel.
            let shown: [&dyn Fn(u32, u32) -> bool; 3] = [
                &|x, y| (x + y) % 3 != 0,
                &|_, y| y == 0 || y > 9,
                &|x, y| (x, y) == (2, 1),
            ];
            for (index, size, shown) in [
                (0, [13, 7], shown[0]),
                (2, [9, 12], shown[1]),
                (3, [6, 4], shown[2]),
            ] {
                let [width, height] = size;
                let pixels = (0..4 * width * height).map(|i| (7 * i) as u8).collect();
                images[index] = Image {
                    width,
                    height,
                    pixels,
                    has_alpha: true,
                    mask: Some(Mask::from_fn(width, height, shown)),
                };
                cameras[index] = camera(cameras[index].lens, width, height);
            }
            let views = (images, cameras);
            let limit = if chunks == 1 { chunk_bytes } else { 4 * 13 * 7 };
            let mut counts = std::collections::HashMap::new();
            for step in 0..40 {
                let n_chunks = if chunks == 1 { 1 } else { 4 };
                for ray in draw_of(gpu, &config, (limit, n_chunks), seeded(3, step), &views) {
                    *counts.entry((ray.image, ray.pixel)).or_insert(0_u32) += 1;
                }
            }
            for (index, image) in views.0.iter().enumerate() {
                let n = image.width * image.height;
                let is_used = |pixel: u32| {
                    image
                        .mask
                        .as_ref()
                        .is_none_or(|mask| mask.is_used(pixel as usize))
                };
                let used = (0..n).filter(|pixel| is_used(*pixel)).count() as f64;
                let expected = 8000.0 / used;
                for pixel in 0..n {
                    let drawn = f64::from(counts.get(&(index as u32, pixel)).copied().unwrap_or(0));
                    if !is_used(pixel) {
                        assert!(drawn == 0.0, "hidden pixel {pixel} of image {index}");
                        continue;
                    }
                    // Five standard deviations.
                    assert!(
                        (drawn - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                        "pixel {pixel} of image {index}: {drawn}, expected {expected}"
                    );
                }
            }
        }
    });
}

#[test]
fn training_rays_carry_their_pixels_colors_over_a_random_background() {
    on_device(|gpu| {
        let config = config(&[]);
        assert_eq!(config.scene.background, Background::Auto(None));
        let rays = draw(gpu, &config, 1 << 20, 1, seeded(1, 0));
        // All images get the same number of rays, and all pixels are drawn.
        for image in 0..5 {
            let own: Vec<&GpuRay> = rays.iter().filter(|r| r.image == image).collect();
            assert!(
                (199..=201).contains(&own.len()),
                "{} rays of image {image}",
                own.len()
            );
        }
        let pixels: BTreeSet<(u32, u32)> = rays.iter().map(|r| (r.image, r.pixel)).collect();
        assert!(pixels.len() > 100, "{} of 108 pixels", pixels.len());
        let mean = rays.iter().flat_map(|r| r.background).sum::<f32>() / 3000.0;
        assert!(
            (mean - 0.5).abs() < 0.03
                && rays
                    .iter()
                    .all(|r| r.background.iter().all(|b| (0.0..1.0).contains(b)))
        );
    });
}

#[test]
fn chunks_of_images_draw_the_same_rays() {
    on_device(|gpu| {
        let config = config(&[]);
        let whole = draw(gpu, &config, 1 << 20, 1, seeded(1, 0));
        // Chunks of at most 140 bytes: images of 96; 140; 36 and 96; and 64 bytes.
        assert!(draw(gpu, &config, 140, 4, seeded(1, 0)) == whole);
    });
}

#[test]
fn seed_step_and_micro_batch_choose_the_rays() {
    on_device(|gpu| {
        let config = config(&[]);
        let draw = |state| draw(gpu, &config, 1 << 20, 1, state);
        let first = draw(seeded(1, 0));
        assert!(first == draw(seeded(1, 0)));
        let second_batch = StepState {
            n_rays_total: 1000,
            ..seeded(1, 0)
        };
        for state in [seeded(2, 0), seeded(1, 1), second_batch] {
            let same = draw(state)
                .iter()
                .zip(&first)
                .filter(|(a, b)| (a.image, a.pixel) == (b.image, b.pixel))
                .count();
            assert!(
                same < 200,
                "{same} of 1000 rays are those of another state than {state:?}"
            );
        }
    });
}

#[test]
fn fixed_backgrounds_and_linear_color() {
    on_device(|gpu| {
        let rays = draw(
            gpu,
            &config(&["scene.background=\"#ff8000\""]),
            1 << 20,
            1,
            seeded(1, 0),
        );
        assert!(
            rays.iter()
                .all(|r| r.background == [1.0, 128.0 / 255.0, 0.0])
        );
        draw(
            gpu,
            &config(&["scene.linear=true"]),
            1 << 20,
            1,
            seeded(1, 0),
        );
    });
}

/// Directions reach the plane at depth 1 if the lens has such a plane; otherwise they are unit vectors.
#[test]
fn rays_measured_in_depth() {
    on_device(|gpu| {
        let config = config(&["scene.ray_direction=plane"]);
        for lens in lenses() {
            let camera = camera(lens, 13, 9);
            let n = 13 * 9;
            let on_device = [GpuCamera::new(&camera, [2.0, 6.0], &SceneFrame::WORLD)];
            let rays = rays_of(gpu, &config, &on_device, [0; 2], None, n);
            let forward = camera.forward();
            for ray in rays {
                let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
                let length = dot(ray.direction, ray.direction).sqrt();
                match lens {
                    _ if lens.is_perspective() => {
                        assert!((dot(ray.direction, forward) - 1.0).abs() < 1e-5, "{ray:?}");
                    }
                    _ => assert!((length - 1.0).abs() < 1e-5, "{ray:?}"),
                }
                let unit = GpuRay {
                    direction: ray.direction.map(|v| v / length),
                    view_dir: ray.direction.map(|v| v / length),
                    ..ray
                };
                assert_ray(&unit, &camera, 0.5);
                assert!((dot(ray.view_dir, unit.view_dir) - 1.0).abs() < 1e-5);
            }
        }
    });
}

/// Return the first `n` rays of a training step.
fn drawn(
    gpu: &Arc<Gpu>,
    set: &ImageSet,
    step: u32,
    config: &ResolvedConfig,
    n: usize,
) -> Vec<GpuRay> {
    let rig = Rig::new(gpu, n, 0, 0);
    rig.set(StepState {
        step,
        ..rig.state()
    });
    let rays = rig.buffer(&vec![GpuRay::zeroed(); n]);
    let targets = rig.zeros(4 * n);
    rig.run(|stage| set.draw(stage, &rig.counts, config, &rays, &targets));
    rig.read::<GpuRay>(&rays, n)
}

#[test]
fn every_few_rays_go_through_known_depths() {
    on_device(|gpu| {
        let config = config(&[]);
        let stride = DEPTH_STRIDE as usize;
        // Two images in two chunks, told apart by their colours.
        let [first, second] = [[10_u8, 20, 30, 255], [200, 100, 50, 255]].map(|color| Image {
            width: 40,
            height: 24,
            pixels: color.repeat(40 * 24),
            has_alpha: false,
            mask: None,
        });
        let camera = camera(Lens::Pinhole, 40, 24);
        let on_device = GpuCamera::new(&camera, [0.0, 9.0], &SceneFrame::WORLD);
        let cameras = [on_device, on_device];
        let known = [(0, 7, 1.5, 0.5), (1, 900, 2.5, 1.0), (1, 41, 3.5, 2.0)];
        let known = known.map(|(image, pixel, distance, weight)| DepthSample {
            image,
            pixel,
            distance,
            weight,
        });
        let set = ImageSet::upload_in_chunks(gpu, &[first, second], &cameras, 40 * 24 * 4);
        let set = set.unwrap().with_depths(gpu, &known).unwrap();
        assert_eq!(set.n_chunks(), 2);
        let n = 800;
        let rig = Rig::new(gpu, n, 0, 0);
        let rays = rig.buffer(&vec![GpuRay::zeroed(); n]);
        let targets = rig.zeros(4 * n);
        let depths = set.depth_targets(gpu, n as u32).unwrap().unwrap();
        rig.run(|stage| {
            set.draw(stage, &rig.counts, &config, &rays, &targets)?;
            set.draw_depths(stage, &rig.counts, &config, &rays, &targets, &depths)
        });
        let rays = rig.read::<GpuRay>(&rays, n);
        let targets = rig.read::<[f32; 4]>(&targets, n);
        let depths = rig.read::<[f32; 2]>(&depths, n / stride);
        let mut drawn = BTreeSet::new();
        for (k, [distance, weight]) in depths.into_iter().enumerate() {
            let ray = &rays[k * stride];
            let sample = known
                .iter()
                .find(|sample| sample.distance == distance)
                .unwrap();
            assert_eq!(
                (sample.image, sample.pixel, sample.weight),
                (ray.image, ray.pixel, weight)
            );
            let red = if sample.image == 0 { 10.0 } else { 200.0 } / 255.0;
            assert!((targets[k * stride][0] - red).abs() < 1e-6);
            assert_ray(ray, &camera, 0.5);
            drawn.insert(ray.pixel);
        }
        assert_eq!(drawn.len(), 3);
        let others: BTreeSet<u32> = rays.iter().map(|ray| ray.pixel).collect();
        assert!(others.len() > 300, "{} pixels", others.len());
    });
}

#[test]
fn first_steps_draw_from_the_middle() {
    on_device(|gpu| {
        let config = config(&["training.crop_steps=10", "training.crop_fraction=0.25"]);
        let images = [Image {
            width: 40,
            height: 24,
            pixels: vec![255; 4 * 40 * 24],
            has_alpha: false,
            mask: None,
        }];
        let camera = camera(Lens::Pinhole, 40, 24);
        let set = ImageSet::upload(
            gpu,
            &images,
            &[GpuCamera::new(&camera, [0.0, 9.0], &SceneFrame::WORLD)],
        )
        .unwrap();
        let pixels = |step: u32| -> BTreeSet<[u32; 2]> {
            let rays = drawn(gpu, &set, step, &config, 4000);
            rays.iter().map(|r| [r.pixel % 40, r.pixel / 40]).collect()
        };
        let middle: BTreeSet<[u32; 2]> = (15..25)
            .flat_map(|x| (9..15).map(move |y| [x, y]))
            .collect();
        assert_eq!(pixels(9), middle);
        assert!(pixels(10).len() > 900);
    });
}

/// During the first steps, training rays start at a distance from their camera that decreases with the step.
#[test]
fn first_steps_start_far_from_the_cameras() {
    on_device(|gpu| {
        let config = config(&[
            "scene.scale=0.165",
            "scene.length=normalized",
            "training.near_start=4",
            "training.near_steps=8",
        ]);
        let frame = SceneFrame::of(&config);
        let images = [Image {
            width: 40,
            height: 24,
            pixels: vec![255; 4 * 40 * 24],
            has_alpha: false,
            mask: None,
        }];
        let camera = camera(Lens::Pinhole, 40, 24);
        let upload = |near_far: [f32; 2]| {
            let camera = GpuCamera::new(&camera, near_far, &frame);
            ImageSet::upload(gpu, &images, &[camera]).unwrap()
        };
        let start = |set: &ImageSet, step: u32, config: &ResolvedConfig| {
            let starts = drawn(gpu, set, step, config, 100);
            assert!(starts.iter().all(|r| r.t_min == starts[0].t_min));
            starts[0].t_min
        };
        let set = upload([0.5, 9.0]);
        // A world unit is half a unit of the normalised frame.
        for (step, inside) in [
            (0, 2.0),
            (2, 1.5),
            (6, 0.5),
            (7, 0.25),
            (8, 0.25),
            (900, 0.25),
        ] {
            assert_eq!(start(&set, step, &config), inside, "step {step}");
        }
        let plain = config.with(|config| config.training.near_start = None);
        assert_eq!(start(&set, 0, &plain), 0.25);
        // If a ray is short, half of it remains.
        assert_eq!(start(&upload([0.5, 3.5]), 0, &config), 1.0);
    });
}
