//! Trains inside a program that has its own wgpu device, on images in memory, one submission at a time.

use std::error::Error;

use kiln::camera::Camera;
use kiln::config::{Config, SceneHints};
use kiln::dataset::Image;
use kiln::gpu::Gpu;
use kiln::images::{GpuCamera, ImageSet, near_far};
use kiln::render::Renderer;
use kiln::scene_frame::SceneFrame;
use kiln::train::{StepStatus, Trainer};
use kiln::wgpu;

const SIDE: u32 = 48;
const STEPS: u32 = 150;

/// Open the program's own device.
async fn open() -> Result<(wgpu::Instance, wgpu::Adapter, wgpu::Device, wgpu::Queue), Box<dyn Error>>
{
    let instance = wgpu::Instance::default();
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions::default())
        .await?;
    let request = wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::IMMEDIATES,
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&request).await?;
    Ok((instance, adapter, device, queue))
}

/// Return a camera on a circle around the origin, at the fraction `turn` of a full turn.
fn camera(turn: f32) -> Camera {
    let (sin, cos) = (turn * std::f32::consts::TAU).sin_cos();
    Camera::look_at(
        [3.0 * cos, 3.0 * sin, 1.0],
        [0.0; 3],
        [0.0, 0.0, 1.0],
        0.7,
        SIDE,
        SIDE,
    )
}

/// Render a red ball of radius 0.8 over a transparent background, as `camera` sees it.
fn render_ball(camera: &Camera) -> Image {
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let pixel = |i: u32| {
        let (origin, direction) = camera.ray((i % SIDE) as f32 + 0.5, (i / SIDE) as f32 + 0.5);
        let half = dot(origin, direction);
        let hits = half * half > dot(origin, origin) - 0.64;
        if hits { [200, 40, 30, 255] } else { [0; 4] }
    };
    Image {
        width: SIDE,
        height: SIDE,
        pixels: (0..SIDE * SIDE).flat_map(pixel).collect(),
        has_alpha: true,
        mask: None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (instance, adapter, device, queue) = pollster::block_on(open())?;
    let gpu = Gpu::from_device(&instance, &adapter, device, queue);

    let config = Config::preset("ngp-small", &["scene.scale=0.45".to_owned()])?;
    let config = config.resolve(SceneHints::default(), gpu.class());
    let frame = SceneFrame::of(&config);
    let views: Vec<Camera> = (0..12).map(|i| camera(i as f32 / 12.0)).collect();
    let images: Vec<Image> = views.iter().map(render_ball).collect();
    let cameras: Vec<GpuCamera> = views
        .iter()
        .map(|camera| GpuCamera::new(camera, near_far(&config, None), &frame))
        .collect();
    let images = ImageSet::upload(&gpu, &images, &cameras)?;

    let mut trainer = Trainer::new(&gpu, &config, &images, None)?;
    trainer.warm_up(&images)?;
    let mut events = Vec::new();
    loop {
        // The program's own work fits between two submissions.
        match trainer.advance(STEPS, &mut events)? {
            StepStatus::Submitted => {}
            StepStatus::Busy => trainer.wait()?,
            StepStatus::Reached => break,
        }
    }
    trainer.pause(&mut events)?;

    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let mut renderer = Renderer::new(&gpu, &config, bits)?;
    trainer.export_ema(&renderer.parameters)?;
    let seen = renderer.render(&camera(0.04), None, false)?;
    let middle = ((SIDE / 2) * SIDE + SIDE / 2) as usize;
    let rgb = &seen.rgb([1.0; 3])[3 * middle..3 * middle + 3];
    println!(
        "the middle of a new view is {rgb:.2?}, opacity {:.2}",
        seen.opacity[middle]
    );
    Ok(())
}
