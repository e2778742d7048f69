//! Paints the window on its surface.

use super::super::state::State;
use super::{FRAME, SOFTWARE_GAP};
use crate::gpu::{AdapterClass, Gpu, GpuError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use winit::dpi::PhysicalSize;
use winit::window::Window;

/// The surface of a window, and egui's renderer for it.
pub(super) struct Painter {
    gpu: Arc<Gpu>,
    surface: wgpu::Surface<'static>,
    configuration: wgpu::SurfaceConfiguration,
    renderer: egui_wgpu::Renderer,
    picture: Option<egui::TextureId>,
    /// egui's texture changes that have not been uploaded yet.
    pub(super) textures: egui::TexturesDelta,
    /// Minimum time between repaints without a new rendered view.
    pub(super) gap: Duration,
    painted: Option<Instant>,
    /// Start of the last frame, painted or not.
    began: Option<Instant>,
}

impl Painter {
    pub(super) fn new(gpu: &Arc<Gpu>, window: &Arc<Window>) -> Result<Self, GpuError> {
        let (surface, capabilities) = gpu.surface(Arc::clone(window))?;
        // Use a format without sRGB conversion: egui's values are sRGB already.
        let wanted = [
            wgpu::TextureFormat::Bgra8Unorm,
            wgpu::TextureFormat::Rgba8Unorm,
        ];
        let format = wanted
            .into_iter()
            .find(|f| capabilities.formats.contains(f))
            .unwrap_or(capabilities.formats[0]);
        let size = window.inner_size();
        let mut configuration = wgpu::SurfaceConfiguration {
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            format,
            color_space: wgpu::SurfaceColorSpace::Auto,
            width: size.width.max(1),
            height: size.height.max(1),
            present_mode: wgpu::PresentMode::AutoVsync,
            desired_maximum_frame_latency: 1,
            alpha_mode: wgpu::CompositeAlphaMode::Auto,
            view_formats: Vec::new(),
        };
        let side = gpu.limits().max_texture_dimension_2d;
        configuration.width = configuration.width.min(side);
        configuration.height = configuration.height.min(side);
        gpu.with_submissions_blocked(|| surface.configure(&gpu.device, &configuration));
        gpu.check()?;
        let renderer =
            egui_wgpu::Renderer::new(&gpu.device, format, egui_wgpu::RendererOptions::default());
        Ok(Self {
            gpu: Arc::clone(gpu),
            surface,
            configuration,
            renderer,
            picture: None,
            textures: egui::TexturesDelta::default(),
            gap: if gpu.class() == AdapterClass::Software {
                SOFTWARE_GAP
            } else {
                Duration::ZERO
            },
            painted: None,
            began: None,
        })
    }

    /// Release the window's surface. If the device is lost, frames in flight never complete, and wgpu panics when the surface
    /// is dropped; that panic is ignored.
    pub(super) fn close(mut self) {
        self.textures.clear();
        if !self.gpu.is_lost() {
            return;
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self)));
        std::panic::set_hook(hook);
    }

    pub(super) fn resize(&mut self, gpu: &Gpu, size: PhysicalSize<u32>) {
        if size.width == 0 || size.height == 0 {
            return;
        }
        let side = gpu.limits().max_texture_dimension_2d;
        self.configuration.width = size.width.min(side);
        self.configuration.height = size.height.min(side);
        gpu.with_submissions_blocked(|| self.surface.configure(&gpu.device, &self.configuration));
    }

    /// Return the time left until the next frame should start, on devices where painting takes time from rendering.
    pub(super) fn time_until_next_frame(&mut self) -> Option<Duration> {
        if self.gap.is_zero() {
            return None;
        }
        let rest = self.began.map(|at| FRAME.saturating_sub(at.elapsed()));
        let rest = rest.filter(|rest| !rest.is_zero());
        if rest.is_none() {
            self.began = Some(Instant::now());
        }
        rest
    }

    /// Return whether a repaint without a new rendered view is due.
    pub(super) fn is_due(&self) -> bool {
        self.painted.is_none_or(|at| at.elapsed() >= self.gap)
    }

    /// Register the engine's last rendered view as an egui texture.
    pub(super) fn take_picture(&mut self, gpu: &Gpu, state: &mut State) {
        let Some(texture) = state.new_texture() else {
            return;
        };
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        let filter = wgpu::FilterMode::Linear;
        if let Some(id) = self.picture {
            self.renderer
                .update_egui_texture_from_wgpu_texture(&gpu.device, &view, filter, id);
        } else {
            let renderer = &mut self.renderer;
            self.picture = Some(renderer.register_native_texture(&gpu.device, &view, filter));
        }
        state.set_texture_id(self.picture);
    }

    /// Paint a frame. Return an error if the surface is lost.
    pub(super) fn paint(
        &mut self,
        gpu: &Gpu,
        context: &egui::Context,
        shapes: Vec<egui::epaint::ClippedShape>,
        pixels_per_point: f32,
        capture: Option<&PathBuf>,
    ) -> Result<(), ()> {
        self.painted = Some(Instant::now());
        for (id, deltas) in self.textures.set.drain() {
            for delta in deltas {
                self.renderer
                    .update_texture(&gpu.device, &gpu.queue, id, &delta);
            }
        }
        let jobs = context.tessellate(shapes, pixels_per_point);
        let outcome = self.present(gpu, &jobs, pixels_per_point);
        if let Some(path) = capture {
            self.capture(gpu, &jobs, pixels_per_point, path);
        }
        for id in self.textures.free.drain() {
            self.renderer.free_texture(&id);
        }
        outcome
    }

    fn present(
        &mut self,
        gpu: &Gpu,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
    ) -> Result<(), ()> {
        use wgpu::CurrentSurfaceTexture as Current;
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.upload(gpu, &mut encoder, jobs, pixels_per_point);
        let frame = match self.surface.get_current_texture() {
            Current::Success(frame) | Current::Suboptimal(frame) => frame,
            Current::Timeout | Current::Occluded => return Ok(()),
            Current::Outdated | Current::Validation => {
                gpu.with_submissions_blocked(|| {
                    self.surface.configure(&gpu.device, &self.configuration);
                });
                return Ok(());
            }
            Current::Lost => return Err(()),
        };
        let view = frame
            .texture
            .create_view(&wgpu::TextureViewDescriptor::default());
        self.draw(&mut encoder, &view, jobs, pixels_per_point);
        gpu.enqueue(encoder);
        gpu.queue.present(frame);
        Ok(())
    }

    /// Write the contents of the window to a PNG, for tests; errors are ignored, and the test then misses the file.
    fn capture(
        &mut self,
        gpu: &Gpu,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
        path: &Path,
    ) {
        let (width, height) = (self.configuration.width, self.configuration.height);
        let size = wgpu::Extent3d {
            width,
            height,
            depth_or_array_layers: 1,
        };
        let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("capture"),
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: self.configuration.format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        let row = (width * 4).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let Ok(buffer) = gpu.buffer("capture", u64::from(row) * u64::from(height)) else {
            return;
        };
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.upload(gpu, &mut encoder, jobs, pixels_per_point);
        self.draw(&mut encoder, &view, jobs, pixels_per_point);
        encoder.copy_texture_to_buffer(
            texture.as_image_copy(),
            wgpu::TexelCopyBufferInfo {
                buffer: buffer.raw(),
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(row),
                    rows_per_image: None,
                },
            },
            size,
        );
        gpu.enqueue(encoder);
        let Ok(bytes) = gpu.read::<u8>(&buffer, 0, (row * height) as usize) else {
            return;
        };
        let is_bgra = self.configuration.format == wgpu::TextureFormat::Bgra8Unorm;
        let rows = bytes.chunks_exact(row as usize);
        let pixels = rows.flat_map(|r| r[..width as usize * 4].chunks_exact(4));
        let rgb: Vec<u8> = pixels
            .flat_map(|p| {
                if is_bgra {
                    [p[2], p[1], p[0]]
                } else {
                    [p[0], p[1], p[2]]
                }
            })
            .collect();
        let _ = image::save_buffer(path, &rgb, width, height, image::ColorType::Rgb8);
    }

    fn screen(&self, pixels_per_point: f32) -> egui_wgpu::ScreenDescriptor {
        egui_wgpu::ScreenDescriptor {
            size_in_pixels: [self.configuration.width, self.configuration.height],
            pixels_per_point,
        }
    }

    /// Upload the data to draw to the device.
    fn upload(
        &mut self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
    ) {
        let screen = self.screen(pixels_per_point);
        self.renderer
            .update_buffers(&gpu.device, &gpu.queue, encoder, jobs, &screen);
    }

    fn draw(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        view: &wgpu::TextureView,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
    ) {
        let screen = self.screen(pixels_per_point);
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("window"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                    store: wgpu::StoreOp::Store,
                },
            })],
            ..Default::default()
        });
        self.renderer
            .render(&mut pass.forget_lifetime(), jobs, &screen);
    }
}
