//! Images for a window, made and kept on the device: `shaders/viewer/screen.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::{Renderer, normals};
use crate::camera::Camera;
use crate::config::Background;
use crate::gpu::{Buffer, Defines, Gpu, GpuError, Groups, Stage};
use crate::sampling::SceneBox;
use crate::scene_frame::SceneFrame;

const FILE: &str = "viewer/screen";
/// Alignment of rows in pixels, which copies to textures require.
const ROW: u32 = 64;

/// The quantity that an image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RenderMode {
    /// Colour over the background.
    Color,
    /// Distance from the camera in the colours of [`turbo`]: near surfaces are red, far ones blue.
    Depth,
    /// Surface normals, (n + 1) / 2, from the depth.
    Normals,
    /// Opacity.
    Opacity,
    /// The network of a grid that determines the visible surface.
    Cells,
    /// Number of samples evaluated on each ray.
    Samples,
    /// The occupied cells of the occupancy grid.
    Occupancy,
}

/// The colour map turbo, as the polynomial of its authors: Mikhailov, "Turbo, an improved rainbow colormap for visualization",
/// 2019. `x` in [0, 1] goes from dark blue over green to dark red; the result is RGB in sRGB values.
#[must_use]
pub fn turbo(x: f32) -> [f32; 3] {
    let x = x.clamp(0.0, 1.0);
    TURBO.map(|c| {
        let value = c.iter().rev().fold(0.0, |sum, c| sum * x + c);
        value.clamp(0.0, 1.0)
    })
}

/// Coefficients of [`turbo`] for each channel, by rising power.
const TURBO: [[f32; 6]; 3] = [
    [
        0.135_721_38,
        4.615_392_6,
        -42.660_32,
        132.131_08,
        -152.942_39,
        59.286_38,
    ],
    [
        0.091_402_61,
        2.194_188_4,
        4.842_966_6,
        -14.185_033,
        4.277_298_6,
        2.829_566,
    ],
    [
        0.106_673_3,
        12.641_946,
        -60.582_05,
        110.362_77,
        -89.903_11,
        27.348_25,
    ],
];

/// How an image is shaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shading {
    /// The quantity to show.
    pub show: RenderMode,
    /// Background of the scene.
    pub background: Background,
    /// Distances that are shown as dark red and as dark blue, in world units; the colours between are logarithmic.
    pub depth_range: [f32; 2],
    /// Number of samples per ray at the end of the colour scale.
    pub max_ray_samples: f32,
    /// World axis that points up, for the shading of occupied cells.
    pub up: [f32; 3],
}

/// Mirror of `Shade` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct GpuShade {
    pub background: [f32; 3],
    pub mode: u32,
    pub near: f32,
    pub far: f32,
    pub max_ray_samples: f32,
    pub stride: u32,
    pub up: [f32; 3],
    pub radius: u32,
}

/// Buffers of an image on the device, and the stage that writes it.
#[derive(Debug)]
pub(super) struct DisplayBuffer {
    pixels: Buffer,
    shade: Buffer,
    /// Stage that converts a rendered tile to pixels.
    pub show: Stage,
    /// Depth times opacity, and opacity, of each pixel.
    depths: Buffer,
}

/// Return the number of pixels of a row of `width`, including its padding.
fn stride(width: u32) -> u32 {
    width.next_multiple_of(ROW)
}

/// Return the size of an image in bytes.
fn bytes([width, height]: [u32; 2]) -> u64 {
    u64::from(stride(width)) * u64::from(height) * 4
}

/// Create a texture for RGBA8 pixels of `size`, in sRGB values.
#[cfg(feature = "viewer")]
fn new_texture(gpu: &Gpu, [width, height]: [u32; 2]) -> wgpu::Texture {
    gpu.device.create_texture(&wgpu::TextureDescriptor {
        label: Some("picture"),
        size: wgpu::Extent3d {
            width,
            height,
            depth_or_array_layers: 1,
        },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    })
}

/// Upload RGBA8 pixels of `size` to a new texture.
#[cfg(feature = "viewer")]
pub(crate) fn texture_of(gpu: &Gpu, size: [u32; 2], pixels: &[u8]) -> wgpu::Texture {
    let texture = new_texture(gpu, size);
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(size[0] * 4),
        rows_per_image: None,
    };
    gpu.queue
        .write_texture(texture.as_image_copy(), pixels, layout, texture.size());
    texture
}

/// A finished image on the device.
#[derive(Debug, Clone)]
pub struct DeviceImage {
    pixels: Buffer,
    /// Width and height in pixels.
    pub size: [u32; 2],
}

impl DeviceImage {
    /// Copy the image to a new texture.
    #[cfg(feature = "viewer")]
    pub(crate) fn to_texture(&self, gpu: &Gpu) -> wgpu::Texture {
        let texture = new_texture(gpu, self.size);
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_texture(
            wgpu::TexelCopyBufferInfo {
                buffer: self.pixels.raw(),
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(stride(self.size[0]) * 4),
                    rows_per_image: None,
                },
            },
            texture.as_image_copy(),
            texture.size(),
        );
        gpu.enqueue(encoder);
        texture
    }

    /// Read back RGBA8 pixels, row by row. Blocks; not for a window's loop.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<u8>, GpuError> {
        let [width, height] = self.size;
        let row = stride(width) as usize * 4;
        let padded: Vec<u8> = gpu.read(&self.pixels, 0, row * height as usize)?;
        let rows = padded.chunks_exact(row);
        Ok(rows
            .flat_map(|r| &r[..width as usize * 4])
            .copied()
            .collect())
    }
}

impl Shading {
    fn on_device(&self, [width, height]: [u32; 2], scene_frame: &SceneFrame) -> GpuShade {
        let [near, far] = self
            .depth_range
            .map(|v| scene_frame.length(f64::from(v)) as f32);
        GpuShade {
            background: self.background.color(),
            mode: match self.show {
                RenderMode::Color | RenderMode::Occupancy => 0,
                RenderMode::Depth => 1,
                RenderMode::Normals => 2,
                RenderMode::Opacity => 3,
                RenderMode::Cells => 4,
                RenderMode::Samples => 5,
            },
            near: near.max(1e-6),
            far: far.max(2e-6),
            max_ray_samples: self.max_ray_samples.max(1.0),
            stride: stride(width),
            up: self.up,
            radius: normals::radius(height),
        }
    }
}

impl DisplayBuffer {
    /// Return the image in this buffer.
    pub fn picture(&self, size: [u32; 2]) -> DeviceImage {
        DeviceImage {
            pixels: self.pixels.clone(),
            size,
        }
    }
}

impl Renderer {
    /// Whether images can show `show`.
    #[must_use]
    pub fn can_show(&self, show: RenderMode) -> bool {
        match show {
            RenderMode::Cells => self.last().field.cells.is_some(),
            RenderMode::Occupancy => self.occupancy.is_some(),
            _ => true,
        }
    }

    /// Allocate the buffers for an image of `size` if necessary, and set its shading.
    pub(super) fn prepare_screen(
        &mut self,
        size: [u32; 2],
        shading: &Shading,
    ) -> Result<(), GpuError> {
        let fits = self.screen.as_ref();
        if fits.is_none_or(|screen| screen.pixels.bytes() < bytes(size)) {
            self.screen = Some(self.new_screen(bytes(size))?);
        }
        if let Some(screen) = &self.screen {
            let shade = shading.on_device(size, &self.scene_frame);
            self.gpu.write(&screen.shade, 0, &[shade]);
        }
        Ok(())
    }

    fn new_screen(&self, bytes: u64) -> Result<DisplayBuffer, GpuError> {
        let gpu = &*self.gpu;
        let pixels = gpu.buffer("pixels of the screen", bytes)?;
        let depths = gpu.buffer("depths of the screen", 2 * bytes)?;
        let shade = gpu.uniform("shade", &GpuShade::zeroed())?;
        let field = &self.last().field;
        let cells = field.cells.as_ref();
        let map = self.parameters[self.parameters.len() - 1].cells.as_ref();
        let mut defines = SceneBox::of(&self.config)
            .defines()
            .set("pass", "show")
            .set("linear", self.config.scene.linear)
            .set_f32s("red", TURBO[0])
            .set_f32s("green", TURBO[1])
            .set_f32s("blue", TURBO[2])
            .set("cells", cells.is_some());
        if let Some(cells) = cells {
            defines = defines.merge(cells.defines());
        }
        let mut bindings = vec![
            ("shade", &shade),
            ("cameras", &self.cameras),
            ("tile", &self.tile),
            ("image", &self.image),
            ("pixels", &pixels),
            ("depths", &depths),
        ];
        bindings.extend(map.map(|map| ("cells", map)));
        let mut show = gpu.stage("show");
        let groups = Groups::covering(u64::from(self.last().capacity.rays), 64);
        show.run(FILE, "show", &defines, &bindings, groups)?;
        Ok(DisplayBuffer {
            pixels,
            shade,
            show,
            depths,
        })
    }

    /// Create the stage that shows the normals of a complete view, from its depth.
    pub(super) fn normals_stage(&self, size: [u32; 2]) -> Result<Stage, GpuError> {
        let mut stage = self.gpu.stage("normals of depth");
        if let Some(screen) = &self.screen {
            let defines = Defines::new()
                .set_f32("min_opacity", normals::MIN_OPACITY)
                .set_f32("max_slope", normals::MAX_SLOPE);
            let bindings = [
                ("shade", &screen.shade),
                ("cameras", &self.cameras),
                ("depths", &screen.depths),
                ("pixels", &screen.pixels),
            ];
            let groups = Groups::covering(u64::from(size[0]) * u64::from(size[1]), 64);
            stage.run("viewer/normals", "normals", &defines, &bindings, groups)?;
        }
        Ok(stage)
    }

    /// Create the stage that draws the occupancy grid as seen from `camera`; it is empty if there is no grid.
    pub(super) fn occupancy_stage(&self, camera: &Camera) -> Result<Stage, GpuError> {
        let mut stage = self.gpu.stage("occupied");
        let grid = self.config.occupancy.as_ref().zip(self.occupancy.as_ref());
        if let Some(((config, bits), screen)) = grid.zip(self.screen.as_ref()) {
            let scene = SceneBox::of(&self.config);
            let defines = scene
                .defines()
                .merge(Defines::new().set("pass", "occupied"))
                .set("side", config.resolution)
                .set("steps", 4 * config.resolution * scene.cascades());
            let bindings = [
                ("shade", &screen.shade),
                ("cameras", &self.cameras),
                ("crop", &self.crop),
                ("occupancy", bits),
                ("pixels", &screen.pixels),
            ];
            let pixels = u64::from(camera.width) * u64::from(camera.height);
            let groups = Groups::covering(pixels, 64);
            stage.run(FILE, "occupied", &defines, &bindings, groups)?;
        }
        Ok(stage)
    }
}
