//! Images and cameras on the device, and the rays drawn from them: `shaders/images.wgsl`.
//!
//! Images are stored as RGBA8 in chunks no larger than a binding. A batch is drawn with one dispatch per chunk, and each
//! dispatch fills in the rays whose image lies in its chunk.

mod depths;

pub use depths::DepthSample;

use bytemuck::{Pod, Zeroable};

use crate::camera::{Camera, Lens};
use crate::config::{Background, RayDirection, ResolvedConfig};
use crate::dataset::Image;
use crate::gpu::{Allocator as _, Buffer, Counts, Defines, Gpu, GpuError, Stage, WithAdvice};
use crate::scene_frame::SceneFrame;
use crate::step_state::StepState;
use depths::Depths;

/// Size in bytes of a `Ray` in `shaders/common/ray.wgsl`.
pub const RAY_BYTES: u64 = 64;

/// Mirror of `Camera` in `shaders/common/camera.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct GpuCamera {
    pub world_from_camera: [[f32; 4]; 3],
    pub focal: [f32; 2],
    pub principal: [f32; 2],
    pub distortion: [[f32; 4]; 3],
    pub view_low: [f32; 2],
    pub view_high: [f32; 2],
    pub lens: u32,
    pub width: u32,
    pub height: u32,
    pub chunk: u32,
    pub first_pixel: u32,
    pub near: f32,
    pub far: f32,
    pub first_mask: u32,
}

/// Number of tasks that an [`ImageSet`] with slots can hold in advance; one more entry is for adaptation to a held-out object.
pub const TASKS: u32 = 64;

/// Number of bytes of staged images after which they are submitted.
const STAGED_BYTES: usize = 64 << 20;

/// A distance beyond any scene, in the field's units.
const FAR: f32 = 1e10;
/// Mirror of `NO_MASK` in `shaders/common/camera.wgsl`: every pixel of the image is used.
pub const NO_MASK: u32 = u32::MAX;
/// Far bound of rays without one, in world units.
const NO_END: f32 = f32::MAX;

impl GpuCamera {
    /// Convert `camera` to the space of `frame` for the device, with rays limited to `near_far` (world units along the ray).
    #[must_use]
    pub fn new(camera: &Camera, near_far: [f32; 2], frame: &SceneFrame) -> Self {
        let camera = &frame.camera(camera);
        let [near, far] = near_far.map(|v| frame.length(f64::from(v)).min(f64::from(FAR)) as f32);
        let (lens, distortion) = lens_of(&camera.lens);
        let view = if camera.lens.is_perspective() {
            view_bounds(camera)
        } else {
            [[-FAR; 2], [FAR; 2]]
        };
        Self {
            world_from_camera: camera.world_from_camera.map(|row| row.map(|v| v as f32)),
            focal: camera.focal,
            principal: camera.principal,
            distortion,
            lens,
            width: camera.width,
            height: camera.height,
            chunk: 0,
            first_pixel: 0,
            near,
            far,
            view_low: view[0],
            view_high: view[1],
            first_mask: NO_MASK,
        }
    }
}

/// Return the number of the lens in `shaders/common/lens.wgsl`, and its coefficients in the order used there.
fn lens_of(lens: &Lens) -> (u32, [[f32; 4]; 3]) {
    let none = [0.0; 4];
    match *lens {
        Lens::Pinhole => (0, [none; 3]),
        Lens::OpenCv { k1, k2, k3, p1, p2 } => (1, [[k1, k2, p1, p2], [k3, 0.0, 0.0, 0.0], none]),
        Lens::FullOpenCv { k, p } => (
            1,
            [[k[0], k[1], p[0], p[1]], [k[2], k[3], k[4], k[5]], none],
        ),
        Lens::OpenCvFisheye { k1, k2, k3, k4 } => (2, [[k1, k2, k3, k4], none, none]),
        Lens::Orthographic => (3, [none; 3]),
        Lens::Equirectangular => (4, [none; 3]),
        Lens::ThinPrismFisheye { k, p, s } => (
            5,
            [[k[0], k[1], p[0], p[1]], [k[2], k[3], s[0], s[1]], none],
        ),
        Lens::RadTanThinPrismFisheye { k, p, s } => {
            (6, [[k[0], k[1], p[0], p[1]], [k[2], k[3], k[4], k[5]], s])
        }
        Lens::Fov { omega } => (7, [[omega, 0.0, 0.0, 0.0], none, none]),
        Lens::Division { k } => (8, [[k, 0.0, 0.0, 0.0], none, none]),
        Lens::Eucm { alpha, beta } => (9, [[alpha, beta, 0.0, 0.0], none, none]),
    }
}

/// Return the bounds of the part of the ideal image plane (x right, y down, in focal lengths) that a perspective `camera`
/// shows, found by undistorting points on the image's border.
fn view_bounds(camera: &Camera) -> [[f32; 2]; 2] {
    const POINTS: u8 = 16;
    let unposed = Camera {
        world_from_camera: [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ],
        ..*camera
    };
    #[expect(clippy::cast_precision_loss, reason = "sides of an image")]
    let size = [camera.width as f32, camera.height as f32];
    let mut bounds = [[f32::MAX; 2], [f32::MIN; 2]];
    for part in (0..=POINTS).map(|i| f32::from(i) / f32::from(POINTS)) {
        for [x, y] in [[part, 0.0], [part, 1.0], [0.0, part], [1.0, part]] {
            let (_, [x, y, z]) = unposed.ray(x * size[0], y * size[1]);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what the device computes with"
            )]
            for (axis, v) in [(x / -z) as f32, (y / z) as f32].into_iter().enumerate() {
                bounds[0][axis] = bounds[0][axis].min(v);
                bounds[1][axis] = bounds[1][axis].max(v);
            }
        }
    }
    bounds
}

/// Return the near and far bounds of a camera in world units: the configuration's, else the file's, else 0 and none.
#[must_use]
pub fn near_far(config: &ResolvedConfig, from_file: Option<[f32; 2]>) -> [f32; 2] {
    let file = from_file.unwrap_or([0.0, NO_END]);
    [
        config.scene.near.unwrap_or(file[0]),
        config.scene.far.unwrap_or(file[1]),
    ]
}

fn ray_defines(config: &ResolvedConfig, background: Background) -> Defines {
    Defines::new()
        .set_f32("pixel_center", config.scene.pixel_center)
        .set_f32s("background", background.color())
        .set("linear", config.scene.linear)
        .set("plane", config.scene.ray_direction == RayDirection::Plane)
}

/// Training images and their cameras: of one scene, or of several objects with one slot per object.
#[derive(Debug, Clone)]
pub struct ImageSet {
    chunks: Vec<Chunk>,
    /// One [`GpuCamera`] per image.
    pub cameras: Buffer,
    /// First image and number of images of each task.
    tasks: Buffer,
    n_images: u32,
    slots: Slots,
    depths: Option<Depths>,
}

/// Images in one binding.
#[derive(Debug, Clone)]
struct Chunk {
    pixels: Buffer,
    /// [`Mask::ranked`] of the images that have masks, one after another.
    masks: Option<Buffer>,
}

/// Advice if images do not fit in memory.
const SMALLER: &str = "--downscale the images";

/// Layout of the slots, each of which holds one object's images.
#[derive(Debug, Clone, Copy, Default)]
struct Slots {
    images: u32,
    pixels: u64,
    /// Slots per chunk.
    per_chunk: u32,
}

impl ImageSet {
    /// Upload images with their cameras, which must have the images' (downscaled) sizes. Blocks; only for setup.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] if one image is larger than a binding.
    ///
    /// # Panics
    /// If the numbers of images and cameras differ.
    pub fn upload(gpu: &Gpu, images: &[Image], cameras: &[GpuCamera]) -> Result<Self, GpuError> {
        Self::upload_in_chunks(gpu, images, cameras, gpu.max_binding_bytes())
    }

    /// Upload images in chunks of at most `limit` bytes.
    ///
    /// # Panics
    /// If the numbers of images and cameras differ.
    pub fn upload_in_chunks(
        gpu: &Gpu,
        images: &[Image],
        cameras: &[GpuCamera],
        limit: u64,
    ) -> Result<Self, GpuError> {
        assert_eq!(images.len(), cameras.len(), "one camera per image");
        let mut cameras = cameras.to_vec();
        let mut chunks: Vec<(u64, Vec<usize>)> = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let bytes = image.pixels.len() as u64;
            match chunks.last_mut() {
                Some((used, members)) if *used + bytes <= limit => {
                    cameras[index].first_pixel = u32::try_from(*used / 4).unwrap_or(u32::MAX);
                    *used += bytes;
                    members.push(index);
                }
                _ => chunks.push((bytes, vec![index])),
            }
            cameras[index].chunk = u32::try_from(chunks.len() - 1).unwrap_or(u32::MAX);
        }
        let mut masks: Vec<Vec<[u32; 2]>> = vec![Vec::new(); chunks.len()];
        for (camera, image) in cameras.iter_mut().zip(images) {
            if let Some(mask) = &image.mask {
                let masks = &mut masks[camera.chunk as usize];
                camera.first_mask = u32::try_from(masks.len()).unwrap_or(u32::MAX);
                masks.extend(mask.ranked());
            }
        }
        let buffers = chunks
            .iter()
            .zip(&masks)
            .map(|((bytes, members), masks)| {
                let buffer = WithAdvice::new(gpu, SMALLER).buffer("images", *bytes)?;
                let mut waiting = 0;
                for &index in members {
                    let pixels = &images[index].pixels;
                    gpu.write(&buffer, u64::from(cameras[index].first_pixel) * 4, pixels);
                    // Written data stays in a staging buffer until it is submitted.
                    waiting += pixels.len();
                    if waiting > STAGED_BYTES {
                        gpu.submit([]);
                        gpu.wait()?;
                        waiting = 0;
                    }
                }
                let masks = (!masks.is_empty()).then(|| gpu.buffer_with("masks", masks));
                Ok(Chunk {
                    pixels: buffer,
                    masks: masks.transpose()?,
                })
            })
            .collect::<Result<_, GpuError>>()?;
        let n_images = u32::try_from(images.len()).unwrap_or(u32::MAX);
        Ok(Self {
            chunks: buffers,
            cameras: gpu.buffer_with("cameras", &cameras)?,
            tasks: gpu.buffer_with("tasks", &[[0, n_images]])?,
            n_images,
            slots: Slots::default(),
            depths: None,
        })
    }

    /// Allocate slots for `n` objects of up to `images` images with `pixels` pixels in total per object. [`Self::put`] fills
    /// a slot, and [`Self::assign`] assigns a slot to a task.
    ///
    /// # Errors
    /// [`GpuError::TooLarge`] if one object is larger than a binding.
    pub fn of_slots(gpu: &Gpu, n: u32, images: u32, pixels: u64) -> Result<Self, GpuError> {
        let per_chunk = (gpu.max_binding_bytes() / (pixels * 4).max(1)).clamp(1, u64::from(n));
        let chunk = |first: u64| -> Result<Chunk, GpuError> {
            let n = per_chunk.min(u64::from(n) - first);
            let pixels = WithAdvice::new(gpu, SMALLER).buffer("images", n * pixels * 4)?;
            Ok(Chunk {
                pixels,
                masks: None,
            })
        };
        let firsts = (0..u64::from(n)).step_by(usize::try_from(per_chunk).unwrap_or(1));
        let n_images = n * images;
        Ok(Self {
            chunks: firsts.map(chunk).collect::<Result<_, _>>()?,
            cameras: gpu.buffer(
                "cameras",
                u64::from(n_images) * size_of::<GpuCamera>() as u64,
            )?,
            tasks: gpu.buffer("tasks", u64::from(TASKS + 1) * 8)?,
            n_images,
            slots: Slots {
                images,
                pixels,
                per_chunk: u32::try_from(per_chunk).unwrap_or(n),
            },
            depths: None,
        })
    }

    /// Write an object into `slot`, replacing its contents. Work that was submitted earlier still reads the old contents.
    ///
    /// # Panics
    /// If the set has no such slot, or a slot holds fewer images.
    pub fn put(&self, gpu: &Gpu, slot: u32, images: &[Image], cameras: &[GpuCamera]) {
        self.check_slot(slot, images.len());
        let Slots {
            images: most,
            pixels,
            per_chunk,
            ..
        } = self.slots;
        let mut first_pixel = u64::from(slot % per_chunk) * pixels;
        let mut placed = cameras.to_vec();
        for (camera, image) in placed.iter_mut().zip(images) {
            camera.chunk = slot / per_chunk;
            camera.first_pixel = u32::try_from(first_pixel).unwrap_or(u32::MAX);
            let chunk = &self.chunks[camera.chunk as usize].pixels;
            gpu.write(chunk, first_pixel * 4, &image.pixels);
            first_pixel += image.pixels.len() as u64 / 4;
        }
        let first = u64::from(slot * most) * size_of::<GpuCamera>() as u64;
        gpu.write(&self.cameras, first, &placed);
    }

    /// Assign the first `n_images` images in `slot` to `task`, at most [`TASKS`].
    ///
    /// # Panics
    /// If the set has no such slot or task, or a slot holds fewer images.
    pub fn assign(&self, gpu: &Gpu, task: u32, slot: u32, n_images: u32) {
        self.check_slot(slot, n_images as usize);
        assert!(task <= TASKS, "task {task} of {TASKS}");
        let entry = [slot * self.slots.images, n_images];
        gpu.write(&self.tasks, u64::from(task) * 8, &entry);
    }

    fn check_slot(&self, slot: u32, n_images: usize) {
        let most = self.slots.images;
        let n = self.n_images.checked_div(most).unwrap_or(0);
        assert!(slot < n, "slot {slot} of {n}");
        assert!(
            n_images <= most as usize,
            "{n_images} images in a slot for {most}"
        );
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.n_images
    }

    /// Whether the set holds no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_images == 0
    }

    /// Number of buffers that hold the images.
    #[must_use]
    pub fn n_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Add to `stage`: draw `n_rays` random pixels and write their rays and target colours.
    pub fn draw(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        config: &ResolvedConfig,
        rays: &Buffer,
        targets: &Buffer,
    ) -> Result<(), GpuError> {
        for (chunk, Chunk { pixels, masks }) in self.chunks.iter().enumerate() {
            let defines = training_defines(config)
                .set("pass", "training")
                .set("masked", masks.is_some())
                .set("chunk", chunk);
            let mut bindings = vec![
                ("cameras", &self.cameras),
                ("counts", &counts.state),
                ("rays", rays),
                ("pixels", pixels),
                ("tasks", &self.tasks),
                ("targets", targets),
            ];
            bindings.extend(masks.as_ref().map(|masks| ("masks", masks)));
            stage.run(
                "images",
                "training_rays",
                &defines,
                &bindings,
                counts.groups(StepState::RAYS, 64, 1),
            )?;
        }
        Ok(())
    }
}

/// Template values of training rays.
fn training_defines(config: &ResolvedConfig) -> Defines {
    let training = &config.training;
    let near_start = training.near_start.unwrap_or(0.0);
    let near_start = SceneFrame::of(config).length(f64::from(near_start));
    let near_start = near_start.min(f64::from(FAR)) as f32;
    // Meta-learning starts over with every object, so schedules at the start of training do not apply.
    let at_start = |steps: u32| if config.meta.is_some() { 0 } else { steps };
    let near_steps = training.near_start.map_or(0, |_| training.near_steps);
    let background = config.scene.background;
    let is_random = matches!(background, Background::Random | Background::Auto(None));
    ray_defines(config, background)
        .set("random_background", is_random)
        .set("near_steps", at_start(near_steps))
        .set_f32("near_start", near_start)
        .set("crop_steps", at_start(training.crop_steps))
        .set_f32("crop_fraction", training.crop_fraction)
}

/// Add to `stage`: generate `n_rays` rays, for consecutive pixels of `cameras[tile.x]` from pixel `tile.y` on. `tile` is a
/// uniform of four u32, `crop` a uniform of [`crate::render::GpuCrop`].
pub fn camera_rays(
    stage: &mut Stage,
    counts: &Counts,
    config: &ResolvedConfig,
    cameras: &Buffer,
    tile: &Buffer,
    crop: &Buffer,
    rays: &Buffer,
) -> Result<(), GpuError> {
    let defines = ray_defines(config, config.scene.eval_background).set("pass", "camera");
    let bindings = [
        ("cameras", cameras),
        ("counts", &counts.state),
        ("rays", rays),
        ("tile", tile),
        ("crop", crop),
    ];
    stage.run(
        "images",
        "camera_rays",
        &defines,
        &bindings,
        counts.groups(StepState::RAYS, 64, 1),
    )?;
    Ok(())
}
