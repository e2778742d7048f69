//! The built-in demo scene: `shaders/scene/demo.wgsl` defines it, `shaders/scene/solids.wgsl` renders it, and this module
//! defines its cameras. [`ToyCar`] is a class of objects for meta-learning.
//!
//! A pedestal with a glossy sphere, a panelled cube, a standing ring and a small tower, lit by a key light with soft shadows.
//! Everything lies within [−1.2, 1.2]³ world units, z up. The cameras have a distance of 4.03, as in the NeRF-synthetic scenes
//! (Mildenhall et al. 2020), so that configurations for those apply.

mod car;

use std::f64::consts::{PI, TAU};
use std::path::Path;

use bytemuck::{Pod, Zeroable};

use crate::camera::Camera;
use crate::dataset::{DatasetError, Image, Split, write_blender};
use crate::gpu::{Binding, Defines, Gpu, GpuError, Groups};
pub use car::ToyCar;

/// Distance of the cameras from the origin, in world units.
const RADIUS: f64 = 4.031_129;
/// Full horizontal field of view of the cameras, in radians.
const FOV_X: f32 = 0.691_111_2;
/// Near and far bounds of rays, in world units.
const NEAR_FAR: [f32; 2] = [2.0, 6.0];
/// Rays per pixel along each axis.
const SAMPLES: u32 = 3;
/// The same in a room, of which there are many views.
const ROOM_SAMPLES: u32 = 2;
/// Pixels per submission: few enough for the watchdog of a slow adapter.
const TILE: u32 = 1 << 13;
/// Threads per workgroup of `draw`.
const WORKGROUP: u64 = 64;

/// An error while creating the demo dataset.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A file could not be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Mirror of `View` in `shaders/scene/solids.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct GpuView {
    world_from_camera: [[f32; 4]; 3],
    focal: [f32; 2],
    principal: [f32; 2],
    width: u32,
    n_pixels: u32,
    first_pixel: u32,
    n_tile: u32,
}

/// The demo scene.
#[derive(Debug, Clone, Copy)]
pub struct DemoScene;

impl DemoScene {
    /// Return `n` cameras of a split, `size` × `size` pixels each, looking at the origin.
    ///
    /// Training views lie on a golden spiral from 17° below the horizon to near the zenith;
    /// validation and test views lie on circles that rise and fall between the horizon and 55°.
    #[must_use]
    pub fn cameras(split: Split, n: usize, size: u32) -> Vec<Camera> {
        (0..n)
            .map(|i| {
                let [azimuth, elevation] = direction(split, i as f64, n as f64);
                let (sin, cos) = elevation.sin_cos();
                let eye = [azimuth.cos() * cos, azimuth.sin() * cos, sin];
                let eye = eye.map(|v| (RADIUS * v) as f32);
                Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], FOV_X, size, size)
            })
            .collect()
    }

    /// Return `n` cameras of a walk around the scene in its room, a turn and a bit, looking at the origin: the frames of a video
    /// of `size` (width, height) pixels.
    #[must_use]
    pub fn walk(n: usize, size: [u32; 2]) -> Vec<Camera> {
        let camera = |i: usize| {
            let turn = 1.1 * std::f32::consts::TAU * i as f32 / n as f32;
            let height = 1.4 + 0.8 * (2.0 * turn).sin();
            let eye = [3.2 * turn.cos(), 3.2 * turn.sin(), height];
            Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 1.0, size[0], size[1])
        };
        (0..n).map(camera).collect()
    }

    /// Render the scene from `camera`: sRGB, straight alpha, nine rays per pixel, transparent background.
    /// Lens distortion is ignored.
    ///
    /// Blocks until the image is complete.
    pub fn render(gpu: &Gpu, camera: &Camera) -> Result<Image, GpuError> {
        draw(gpu, camera, "scene/demo", false, &[])
    }

    /// Render the scene as [`Self::render`] does, but four rays per pixel, in a room with walls of random tiles instead of a
    /// transparent background: what structure from motion needs to find cameras.
    pub fn render_in_room(gpu: &Gpu, camera: &Camera) -> Result<Image, GpuError> {
        draw(gpu, camera, "scene/demo", true, &[])
    }

    /// Return the distance from `camera` along the ray of each pixel's centre, in world units, row by row; 0 where nothing is
    /// hit.
    ///
    /// Blocks until all are computed.
    pub fn distances(gpu: &Gpu, camera: &Camera) -> Result<Vec<f32>, GpuError> {
        let n_pixels = camera.width * camera.height;
        let distances = gpu.buffer("scene distances", u64::from(n_pixels) * 4)?;
        let bindings = [("distances", &distances)];
        run(gpu, camera, "scene/demo", "measure", false, &bindings)?;
        gpu.read::<f32>(&distances, 0, n_pixels as usize)
    }

    /// Render `counts` training, validation and test views of `size` × `size` pixels, and write them to `root` in Blender's
    /// format. A split without views is omitted.
    ///
    /// `progress` is called once per finished view.
    pub fn write_dataset(
        gpu: &Gpu,
        root: &Path,
        counts: [usize; 3],
        size: u32,
        progress: &dyn Fn(),
    ) -> Result<(), SceneError> {
        for (split, n) in [Split::Train, Split::Val, Split::Test]
            .into_iter()
            .zip(counts)
        {
            if n == 0 {
                continue;
            }
            let cameras = Self::cameras(split, n, size);
            let images = cameras
                .iter()
                .map(|camera| {
                    let image = Self::render(gpu, camera)?;
                    progress();
                    Ok(image)
                })
                .collect::<Result<Vec<_>, GpuError>>()?;
            write_blender(root, split, &cameras, &images, Some(NEAR_FAR))?;
        }
        Ok(())
    }
}

/// Render `scene`, with its own `bindings`, from `camera`.
fn draw(
    gpu: &Gpu,
    camera: &Camera,
    scene: &str,
    in_room: bool,
    bindings: &[Binding<'_>],
) -> Result<Image, GpuError> {
    let n_pixels = camera.width * camera.height;
    let image = gpu.buffer("scene image", u64::from(n_pixels) * 4)?;
    let mut all = vec![("image", &image)];
    all.extend(bindings);
    run(gpu, camera, scene, "draw", in_room, &all)?;
    let pixels = gpu.read::<u8>(&image, 0, n_pixels as usize * 4)?;
    Ok(Image {
        width: camera.width,
        height: camera.height,
        has_alpha: pixels.iter().skip(3).step_by(4).any(|&alpha| alpha < 255),
        pixels,
        mask: None,
    })
}

/// Run the entry point `pass` for all pixels of `camera`, tile by tile.
fn run(
    gpu: &Gpu,
    camera: &Camera,
    scene: &str,
    pass: &str,
    in_room: bool,
    bindings: &[Binding<'_>],
) -> Result<(), GpuError> {
    let defines = Defines::new()
        .set("samples", if in_room { ROOM_SAMPLES } else { SAMPLES })
        .set("scene", scene)
        .set("pass", pass)
        .set("room", in_room);
    let n_pixels = camera.width * camera.height;
    let mut view = GpuView {
        world_from_camera: camera.world_from_camera.map(|row| row.map(|v| v as f32)),
        focal: camera.focal,
        principal: camera.principal,
        width: camera.width,
        n_pixels,
        first_pixel: 0,
        n_tile: TILE,
    };
    let uniform = gpu.uniform("scene view", &view)?;
    let mut stage = gpu.stage("scene");
    let mut all = vec![("view", &uniform)];
    all.extend(bindings);
    let groups = Groups::covering(u64::from(TILE.min(n_pixels)), WORKGROUP);
    stage.run("scene/solids", pass, &defines, &all, groups)?;
    for first_pixel in (0..n_pixels).step_by(TILE as usize) {
        view.first_pixel = first_pixel;
        gpu.write(&uniform, 0, &[view]);
        gpu.submit([&stage]);
    }
    Ok(())
}

/// Return azimuth and elevation, in radians, of the `i`-th of `n` cameras.
fn direction(split: Split, i: f64, n: f64) -> [f64; 2] {
    const LOWEST: f64 = -0.3; // sines of the spiral's ends
    const HIGHEST: f64 = 0.98;
    let golden_angle = PI * (3.0 - 5.0_f64.sqrt());
    let circle = |start: f64, waves: f64| {
        let azimuth = start + TAU * i / n;
        let elevation = 0.48 * (1.0 + (waves * azimuth).sin());
        [azimuth, elevation]
    };
    match split {
        Split::Train => {
            let height = LOWEST + (HIGHEST - LOWEST) * (i + 0.5) / n;
            [golden_angle * i, height.asin()]
        }
        Split::Val => circle(0.35, 2.0),
        Split::Test => circle(-1.9, 3.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Shader;

    #[test]
    fn the_view_is_laid_out_as_the_shader_says() {
        let defines = Defines::new().set("samples", SAMPLES);
        let defines = defines.set("scene", "scene/car").set("pass", "draw");
        let defines = defines.set("room", false);
        let shader = Shader::load("scene/solids", &defines, false).unwrap();
        let module = naga::front::wgsl::parse_str(&shader.text).unwrap();
        let layout = |name: &str| {
            let mut types = module.types.iter();
            let of = types.find(|(_, ty)| ty.name.as_deref() == Some(name));
            let naga::TypeInner::Struct { members, span } = &of.unwrap().1.inner else {
                panic!("{name} is not a struct");
            };
            let offsets: Vec<_> = members.iter().map(|m| m.offset as usize).collect();
            (offsets, *span as usize)
        };
        let ours = vec![
            std::mem::offset_of!(GpuView, world_from_camera),
            std::mem::offset_of!(GpuView, focal),
            std::mem::offset_of!(GpuView, principal),
            std::mem::offset_of!(GpuView, width),
            std::mem::offset_of!(GpuView, n_pixels),
            std::mem::offset_of!(GpuView, first_pixel),
            std::mem::offset_of!(GpuView, n_tile),
        ];
        assert_eq!(layout("View"), (ours, size_of::<GpuView>()));
        let ours = vec![
            std::mem::offset_of!(ToyCar, half),
            std::mem::offset_of!(ToyCar, wheel),
            std::mem::offset_of!(ToyCar, cabin_at),
            std::mem::offset_of!(ToyCar, cabin_half),
            std::mem::offset_of!(ToyCar, cabin_height),
            std::mem::offset_of!(ToyCar, slope),
            std::mem::offset_of!(ToyCar, paint),
            std::mem::offset_of!(ToyCar, stripe_width),
            std::mem::offset_of!(ToyCar, stripe),
            std::mem::offset_of!(ToyCar, spoiler),
            std::mem::offset_of!(ToyCar, roof),
            std::mem::offset_of!(ToyCar, nose),
        ];
        assert_eq!(layout("Car"), (ours, size_of::<ToyCar>()));
    }
}
