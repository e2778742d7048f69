//! Toy cars, a built-in class of similar objects for meta-learning: `shaders/scene/car.wgsl` renders them, and this module
//! chooses their proportions.

use std::path::Path;

use bytemuck::{Pod, Zeroable};

use super::{FOV_X, NEAR_FAR, RADIUS, SceneError, draw};
use crate::camera::Camera;
use crate::dataset::{Image, write_object, write_splits};
use crate::gpu::{Gpu, GpuError};
use crate::random::Random;

/// Mirror of `Car` in `shaders/scene/car.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct ToyCar {
    pub half: [f32; 3],
    pub wheel: f32,
    pub cabin_at: f32,
    pub cabin_half: f32,
    pub cabin_height: f32,
    pub slope: f32,
    pub paint: [f32; 3],
    pub stripe_width: f32,
    pub stripe: [f32; 3],
    pub spoiler: f32,
    pub roof: [f32; 3],
    pub nose: f32,
}

/// Every `HELD_OUT`th car is a test object.
const HELD_OUT: usize = 5;

/// Return the linear colour of a hue (0 to 1), with the saturation of paint.
fn paint(hue: f32, lightness: f32) -> [f32; 3] {
    let channel = |shift: f32| {
        let wave = ((hue + shift).fract() * 6.0 - 3.0).abs() - 1.0;
        lightness * (0.04 + 0.96 * wave.clamp(0.0, 1.0))
    };
    [channel(0.0), channel(2.0 / 3.0), channel(1.0 / 3.0)]
}

impl ToyCar {
    /// Create car number `index`.
    #[must_use]
    pub fn new(index: u32) -> Self {
        let mut random = Random(index.wrapping_mul(0x9e37_79b9) ^ 0x51ed_270b);
        random.next();
        let mut between =
            |low: f32, high: f32| low + (high - low) * (random.next() >> 8) as f32 / 16_777_216.0;
        let half = [
            between(0.78, 1.02),
            between(0.34, 0.44),
            between(0.11, 0.17),
        ];
        let (hue, grey) = (between(0.0, 1.0), between(0.0, 1.0));
        let lightness = between(0.35, 0.75);
        let body = if grey < 0.25 {
            [lightness; 3]
        } else {
            paint(hue, lightness)
        };
        let stripe = paint(hue + between(0.25, 0.75), between(0.4, 0.9));
        let has_stripe = between(0.0, 1.0) < 0.5;
        let has_spoiler = between(0.0, 1.0) < 0.35;
        let two_tone = between(0.0, 1.0) < 0.4;
        Self {
            half,
            wheel: between(0.15, 0.21),
            cabin_at: between(-0.28, -0.02) * half[0],
            cabin_half: between(0.42, 0.62) * half[0],
            cabin_height: between(0.19, 0.32),
            slope: between(0.35, 1.0),
            paint: body,
            stripe_width: if has_stripe { between(0.06, 0.12) } else { 0.0 },
            stripe,
            spoiler: if has_spoiler {
                between(0.07, 0.13)
            } else {
                0.0
            },
            roof: if two_tone { stripe } else { body },
            nose: between(0.02, 0.9) * half[2],
        }
    }

    /// Return `n` cameras around a car, `size` × `size` pixels each. The first views it obliquely from the side, front and
    /// above; the others lie on a golden spiral from just above the ground to near the zenith, rotated by `turn` (radians).
    #[must_use]
    pub fn cameras(n: usize, size: u32, turn: f64) -> Vec<Camera> {
        let golden_angle = std::f64::consts::PI * (3.0 - 5.0_f64.sqrt());
        let camera = |i: usize| {
            let (azimuth, elevation) = if i == 0 {
                (0.7 + 0.3 * turn.sin(), 0.42)
            } else {
                // The order of the cameras is unrelated to their height.
                let place = (i * 7919) % (n - 1).max(1);
                let height = 0.05 + 0.88 * (place as f64 + 0.5) / (n - 1).max(1) as f64;
                (turn + golden_angle * place as f64, height.asin())
            };
            let (sin, cos) = elevation.sin_cos();
            let eye = [azimuth.cos() * cos, azimuth.sin() * cos, sin];
            let eye = eye.map(|v| (RADIUS * v) as f32);
            Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], FOV_X, size, size)
        };
        (0..n).map(camera).collect()
    }

    /// Render the car from `camera`, in the same way as [`super::DemoScene::render`].
    pub fn render(&self, gpu: &Gpu, camera: &Camera) -> Result<Image, GpuError> {
        let car = gpu.uniform("toy car", self)?;
        draw(gpu, camera, "scene/car", false, &[("car", &car)])
    }

    /// Render `views` views of each of `n` cars, and write them to folders in `root`, with a `cars_splits.json` that holds out
    /// every fifth car. `progress` is called once per finished view.
    pub fn write_objects(
        gpu: &Gpu,
        root: &Path,
        n: u32,
        views: usize,
        size: u32,
        progress: &dyn Fn(),
    ) -> Result<(), SceneError> {
        let mut names = [Vec::new(), Vec::new()];
        for index in 0..n {
            let car = Self::new(index);
            let cameras = Self::cameras(views, size, f64::from(index));
            let images = cameras.iter().map(|camera| {
                let image = car.render(gpu, camera)?;
                progress();
                Ok(image)
            });
            let images = images.collect::<Result<Vec<_>, GpuError>>()?;
            let name = format!("car_{index:03}");
            write_object(&root.join(&name), &cameras, &images, NEAR_FAR)?;
            let is_held_out = (index as usize + 1).is_multiple_of(HELD_OUT);
            names[usize::from(is_held_out)].push(name);
        }
        Ok(write_splits(&root.join("cars_splits.json"), &names)?)
    }
}
