//! Rendering with a crop box, for every sampler.

use kiln::aabb::Aabb;
use kiln::camera::Camera;
use kiln::render::RenderedFrame;

use crate::screen::renderer;
use crate::support::{crop_range, on_device};

/// Methods with ray marching, and one with stratified and importance sampling, whose last interval is unbounded.
const METHODS: [(&str, &[&str]); 3] = [
    ("ngp-small", &[]),
    ("kilonerf-small", &[]),
    ("nerf-small", &["scene.near=0.5", "scene.far=6.0"]),
];

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, f32::max)
}

fn difference(a: &RenderedFrame, b: &RenderedFrame) -> f32 {
    let pairs = a.color.iter().zip(&b.color);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn nothing_outside_a_crop_is_seen_with_any_sampler() {
    on_device(|gpu| {
        let (up, eye) = ([0.0, 0.0, 1.0], [1.9, -1.4, 1.2]);
        let camera = Camera::look_at(eye, [0.0; 3], up, 0.6, 24, 20);
        for (preset, overrides) in METHODS {
            let (mut whole, _bits) = renderer(gpu, preset, overrides);
            let mut cut = whole.sharing_parameters().unwrap();
            assert!(cut.can_crop());
            let all = whole.render(&camera, None, false).unwrap();
            assert!(
                largest(&all.opacity) > 0.5,
                "{preset}: something is visible"
            );

            // A box that contains everything changes nothing except where the last interval ends.
            let crop = Aabb::new([-50.0; 3], [50.0; 3]).unwrap();
            cut.set_crop(Some(crop));
            let same = cut.render(&camera, None, false).unwrap();
            assert!(difference(&all, &same) < 2e-3, "{preset}");

            let crop = Aabb::new([-0.2, -0.25, -0.3], [0.25, 0.2, 0.15]).unwrap();
            cut.set_crop(Some(crop));
            let part = cut.render(&camera, None, false).unwrap();
            let normals = cut.render(&camera, None, true).unwrap();
            let (mut hit, mut missed) = (0, 0);
            for y in 0..camera.height {
                for x in 0..camera.width {
                    let i = (y * camera.width + x) as usize;
                    let [near, far] = crop_range(&camera, &crop, x, y, [0.0, f64::MAX]);
                    for frame in [&part, &normals] {
                        if near >= far - 1e-4 {
                            assert_eq!(frame.opacity[i], 0.0, "{preset}: {x}, {y}");
                        } else if frame.opacity[i] > 0.01 {
                            let depth = f64::from(frame.depth[i] / frame.opacity[i]);
                            let is_between = depth > near - 1e-3 && depth < far + 1e-3;
                            assert!(is_between, "{preset}: {depth} not in {near}..{far}");
                        }
                    }
                    if near < far - 0.05 {
                        hit += i32::from(part.opacity[i] > 1e-3);
                    } else if near >= far {
                        missed += 1;
                    }
                }
            }
            assert!(hit > 10 && missed > 50, "{preset}: {hit} {missed}");

            cut.set_crop(None);
            let again = cut.render(&camera, None, false).unwrap();
            assert_eq!(difference(&all, &again), 0.0, "{preset}");
        }
    });
}
