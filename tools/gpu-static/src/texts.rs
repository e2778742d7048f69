//! The texts that a method compiles on a GPU.

use std::error::Error;
use std::sync::Arc;

use kiln::camera::Camera;
use kiln::config::{Background, Config, SceneHints};
use kiln::dataset::Image;
use kiln::gpu::{AdapterClass, Gpu, GpuOptions};
use kiln::images::{GpuCamera, ImageSet};
use kiln::render::{RenderMode, Renderer, Shading};
use kiln::scene_frame::SceneFrame;
use kiln::train::Trainer;

/// The methods whose kernels are shown.
pub const METHODS: [&str; 3] = ["ngp", "kilonerf", "nerf"];

/// Return the kernels that training and rendering with `method` compile: `file::entry` and WGSL.
pub fn of(method: &str) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let gpu = Gpu::open(&GpuOptions {
        device: None,
        base_path: false,
        class: Some(AdapterClass::Discrete),
        checked: None,
    })?;
    // The size of a batch is a bound in the texts; a small one saves memory.
    let small = if method == "nerf" {
        "training.n_rays=64"
    } else {
        "training.batch_size=16384"
    };
    let config = Config::preset(method, &[small.to_owned()])?;
    let config = config.resolve(SceneHints::default(), gpu.class());
    let images = images(&gpu)?;
    let trainer = Trainer::new(&gpu, &config, &images, None)?;
    let bits = trainer.occupancy.as_ref().map(|grid| &grid.bits);
    let mut renderer = Renderer::new(&gpu, &config, bits)?;
    trainer.export_ema(&renderer.parameters)?;
    let shading = Shading {
        show: RenderMode::Color,
        background: Background::Fixed([1.0; 3]),
        depth_range: [1.0, 2.0],
        max_ray_samples: 64.0,
        up: [0.0, 0.0, 1.0],
    };
    renderer.begin_picture(&camera(), None, &shading)?;
    gpu.wait()?;
    Ok(gpu.compiled_texts())
}

fn camera() -> Camera {
    Camera::look_at([2.0, 0.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0], 0.7, 4, 4)
}

fn images(gpu: &Arc<Gpu>) -> Result<ImageSet, Box<dyn Error>> {
    let image = Image {
        width: 4,
        height: 4,
        pixels: vec![255; 64],
        has_alpha: false,
        mask: None,
    };
    let camera = GpuCamera::new(&camera(), [0.0, 9.0], &SceneFrame::WORLD);
    Ok(ImageSet::upload(gpu, &[image], &[camera])?)
}
