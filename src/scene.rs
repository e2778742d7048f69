//! The built-in demo scene: `shaders/scene/demo.wgsl` draws it, this file says from where.
//!
//! A pedestal with a glossy sphere, a panelled cube, a standing ring and a small tower, lit by a key
//! light with soft shadows. Everything lies within [−1.2, 1.2]³ world units with z up, seen from a
//! distance of 4.03 as in the NeRF-synthetic scenes (Mildenhall et al. 2020), so that their
//! configuration fits.

use std::f64::consts::{PI, TAU};
use std::path::Path;

use bytemuck::{Pod, Zeroable};

use crate::camera::Camera;
use crate::dataset::{DatasetError, Image, Split, write_blender};
use crate::gpu::{Defines, Gpu, GpuError, Groups, Stage};

/// Distance of the cameras from the origin, in world units.
const RADIUS: f64 = 4.031_129;
/// Full horizontal angle of the cameras, in radians.
const FOV_X: f32 = 0.691_111_2;
/// Where rays start and end, in world units from the camera.
const NEAR_FAR: [f32; 2] = [2.0, 6.0];
/// Rays a pixel, along each side.
const SAMPLES: u32 = 3;
/// Pixels of one submission: few enough for the watchdog of a slow adapter.
const TILE: u32 = 1 << 13;
/// Threads of a workgroup of `draw`.
const WORKGROUP: u64 = 64;

/// What can go wrong while the demo dataset is made.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A file could not be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Mirror of `View` in `shaders/scene/demo.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct View {
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
    /// `n` cameras of a split, `size` × `size` pixels each, looking at the origin.
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

    /// Draws the scene as `camera` sees it: sRGB, straight alpha, nine rays a pixel, transparent
    /// where nothing is. The camera's lens distortion, if any, is left out.
    ///
    /// Blocks until the image is there.
    ///
    /// # Errors
    /// Those of compilation, allocation and the device.
    pub fn render(gpu: &Gpu, camera: &Camera) -> Result<Image, GpuError> {
        let defines = Defines::new().set("samples", SAMPLES);
        let n_pixels = camera.width * camera.height;
        let mut view = View {
            world_from_camera: camera.world_from_camera,
            focal: camera.focal,
            principal: camera.principal,
            width: camera.width,
            n_pixels,
            first_pixel: 0,
            n_tile: TILE,
        };
        let uniform = gpu.uniform("demo view", &view)?;
        let image = gpu.buffer("demo image", u64::from(n_pixels) * 4)?;
        let mut stage = Stage::new("demo scene");
        let bindings = [("view", &uniform), ("image", &image)];
        let groups = Groups::covering(u64::from(TILE.min(n_pixels)), WORKGROUP);
        stage.run(gpu, "scene/demo", "draw", &defines, &bindings, groups)?;
        for first_pixel in (0..n_pixels).step_by(TILE as usize) {
            view.first_pixel = first_pixel;
            gpu.write(&uniform, 0, &[view]);
            gpu.submit([&stage]);
        }
        let pixels = gpu.read::<u8>(&image, 0, n_pixels as usize * 4)?;
        Ok(Image {
            width: camera.width,
            height: camera.height,
            has_alpha: pixels.iter().skip(3).step_by(4).any(|&alpha| alpha < 255),
            pixels,
        })
    }

    /// Draws `counts` training, validation and test views of `size` × `size` pixels and writes them
    /// to `root` in Blender's format. A split of no views is left out.
    ///
    /// `progress` is called once per finished view.
    ///
    /// # Errors
    /// What the device raised, or a file that cannot be written.
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

/// Azimuth and elevation, in radians, of the `i`-th of `n` cameras.
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
        let shader = Shader::load("scene/demo", &defines, false).unwrap();
        let module = naga::front::wgsl::parse_str(&shader.text).unwrap();
        let (_, view) = module
            .types
            .iter()
            .find(|(_, ty)| ty.name.as_deref() == Some("View"))
            .unwrap();
        let naga::TypeInner::Struct { members, span } = &view.inner else {
            panic!("View is not a struct");
        };
        let theirs: Vec<_> = members.iter().map(|m| m.offset as usize).collect();
        let ours = [
            std::mem::offset_of!(View, world_from_camera),
            std::mem::offset_of!(View, focal),
            std::mem::offset_of!(View, principal),
            std::mem::offset_of!(View, width),
            std::mem::offset_of!(View, n_pixels),
            std::mem::offset_of!(View, first_pixel),
            std::mem::offset_of!(View, n_tile),
        ];
        assert_eq!(
            (theirs.as_slice(), *span as usize),
            (&ours[..], size_of::<View>())
        );
    }
}
