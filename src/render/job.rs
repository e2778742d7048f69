//! Render jobs: views that are rendered tile by tile, without blocking.

use super::frame::RenderedFrame;
use super::screen::{DeviceImage, RenderMode, Shading};
use super::{FLOATS_PER_PIXEL, NormalPasses, NormalSource, Renderer, normals};
use crate::camera::Camera;
use crate::field::Field;
use crate::gpu::{Buffer, GpuError, ReadBack, Stage, time_stages};
use crate::images::{GpuCamera, near_far};
use crate::network::SavedActivations;
use crate::pass::{Capacity, Pass};
use crate::step_state::StepState;

/// A view being rendered; see [`Renderer::begin`].
#[derive(Debug)]
pub struct RenderJob {
    frame: RenderedFrame,
    camera: Camera,
    /// Whether normals are the gradient of the density, which other stages compute.
    normals: bool,
    /// Whether the normals of a frame come from its depth, once it is complete.
    estimates_normals: bool,
    /// The stage that shows the normals of an image, once its depth is complete.
    last_stage: Option<Stage>,
    destination: Destination,
    /// The stage that draws the whole view, if no field is evaluated for it.
    whole_frame_stage: Option<Stage>,
    next_pixel: u32,
    in_flight: Option<PendingTile>,
    n_submitted_stages: usize,
    /// Whether rays of the current tile remain after the rounds that were submitted.
    has_active_rays: bool,
    /// Whether each tile is submitted at once, regardless of the time budget.
    submits_whole_tiles: bool,
}

impl RenderJob {
    /// Submit each tile at once, regardless of the time budget: for small views that are needed soon.
    pub fn submit_whole_tiles(&mut self) {
        self.submits_whole_tiles = true;
    }
}

/// A tile in flight.
#[derive(Debug)]
pub(super) struct PendingTile {
    n: u32,
    state: ReadBack,
    image: Option<ReadBack>,
}

/// Destination of the pixels of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// A frame on the host.
    Frame,
    /// An image on the device, for a window.
    Picture,
}

/// A completed view.
#[derive(Debug)]
pub enum Rendered {
    /// On the host.
    Frame(RenderedFrame),
    /// On the device.
    Picture(DeviceImage),
}

impl Rendered {
    /// Return the frame; `None` for a view whose image is on the device.
    #[must_use]
    pub fn into_frame(self) -> Option<RenderedFrame> {
        match self {
            Self::Frame(frame) => Some(frame),
            Self::Picture(_) => None,
        }
    }
}

/// Cost of rendering a view.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RenderCost {
    /// Seconds on the device.
    pub seconds: f64,
    /// Number of rays.
    pub rays: u64,
    /// Number of samples whose density and colour were evaluated.
    pub kept: u64,
    /// Number of samples whose density was evaluated for culling.
    pub density_only: u64,
}

impl RenderCost {
    /// Add the cost `other`.
    pub fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.rays += other.rays;
        self.kept += other.kept;
        self.density_only += other.density_only;
    }
}

impl Renderer {
    /// Start rendering the view of `camera`; with `normals` from [`Renderer::normal_source`].
    pub fn begin(
        &mut self,
        camera: &Camera,
        from_file: Option<[f32; 2]>,
        normals: bool,
    ) -> Result<RenderJob, GpuError> {
        let of_density = normals && self.normal_source == NormalSource::Density;
        let mut job = self.start(camera, from_file, of_density, Destination::Frame)?;
        job.estimates_normals = normals && !of_density;
        Ok(job)
    }

    /// Start rendering the view of `camera` for a window; the image stays on the device.
    pub fn begin_picture(
        &mut self,
        camera: &Camera,
        from_file: Option<[f32; 2]>,
        shading: &Shading,
    ) -> Result<RenderJob, GpuError> {
        self.prepare_screen([camera.width, camera.height], shading)?;
        let mut job = self.start(camera, from_file, false, Destination::Picture)?;
        if shading.show == RenderMode::Normals {
            job.last_stage = Some(self.normals_stage([camera.width, camera.height])?);
        }
        if shading.show == RenderMode::Occupancy {
            job.whole_frame_stage = Some(self.occupancy_stage(camera)?);
        }
        Ok(job)
    }

    fn start(
        &mut self,
        camera: &Camera,
        from_file: Option<[f32; 2]>,
        normals: bool,
        goal: Destination,
    ) -> Result<RenderJob, GpuError> {
        if normals && self.with_normals.is_none() {
            let fields: Vec<Field> = self.fields().cloned().collect();
            let capacities = Self::capacities(self.gpu.profile(), &self.config, &fields);
            let last = capacities.len() - 1;
            let keep = |index| {
                if index == last {
                    SavedActivations::Activations
                } else {
                    SavedActivations::Nothing
                }
            };
            let (gpu, config) = (&self.gpu, &self.config);
            let passes = Pass::of_method(gpu, config, "rendering", &capacities, &keep)?;
            let stages = self.build(&passes, true)?;
            self.with_normals = Some(NormalPasses { passes, stages });
        }
        let gpu_camera =
            GpuCamera::new(camera, near_far(&self.config, from_file), &self.scene_frame);
        self.gpu.write(&self.cameras, 0, &[gpu_camera]);
        let size = match goal {
            Destination::Frame => [camera.width, camera.height],
            Destination::Picture => [0; 2],
        };
        Ok(RenderJob {
            frame: RenderedFrame::new(size[0], size[1], self.config.scene.linear),
            camera: *camera,
            normals,
            estimates_normals: false,
            last_stage: None,
            destination: goal,
            whole_frame_stage: None,
            next_pixel: 0,
            in_flight: None,
            n_submitted_stages: 0,
            has_active_rays: false,
            submits_whole_tiles: false,
        })
    }

    /// Advance `job` without blocking, by at most one submission. Return the view once it is complete.
    pub fn advance(&mut self, job: &mut RenderJob) -> Result<Option<Rendered>, GpuError> {
        let size = [job.camera.width, job.camera.height];
        let total = size[0] * size[1];
        if let Some(stage) = &job.whole_frame_stage {
            self.submitter.submit_all(&self.gpu, &[stage]);
            let screen = self.screen.as_ref();
            return Ok(screen.map(|s| Rendered::Picture(s.picture(size))));
        }
        let normals = self.with_normals.as_ref().filter(|_| job.normals);
        let in_rounds = normals.is_none() && !self.rounds.is_empty();
        let last = normals.map_or(self.last(), |n| &n.passes[n.passes.len() - 1]);
        let (capacity, state_buffer) = (last.capacity, last.counts.state.clone());
        if let Some(PendingTile { n, state, image }) = &job.in_flight {
            let n = *n;
            let Some(state) = state.poll()? else {
                return Ok(None);
            };
            let pixels = match image.as_ref().map(ReadBack::poll).transpose()? {
                Some(None) => return Ok(None),
                Some(Some(image)) => Some(bytemuck::pod_collect_to_vec::<u8, f32>(&image)),
                None => None,
            };
            let state: StepState = bytemuck::pod_read_unaligned(&state);
            job.has_active_rays = in_rounds && state.n_rays > 0;
            let done = match (in_rounds, job.has_active_rays) {
                (true, true) => 0,
                (true, false) => n,
                (false, _) => state.n_rays_fitting.min(n),
            };
            if let Some(pixels) = pixels {
                let done = &pixels[..done as usize * FLOATS_PER_PIXEL];
                let first = job.next_pixel as usize;
                job.frame.store(first, done, job.normals, &self.scene_frame);
            } else if let Some(screen) = self.screen.as_ref().filter(|_| done > 0) {
                self.gpu.submit([&screen.show]);
            }
            job.next_pixel += done;
            if !in_rounds {
                self.size_tiles(n, &state, capacity);
            }
            job.in_flight = None;
            if job.next_pixel >= total {
                let picture = self
                    .screen
                    .as_ref()
                    .filter(|_| job.destination != Destination::Frame);
                if let Some(screen) = picture {
                    if let Some(stage) = &job.last_stage {
                        self.submitter.submit_all(&self.gpu, &[stage]);
                    }
                    return Ok(Some(Rendered::Picture(screen.picture(size))));
                }
                let mut frame = std::mem::take(&mut job.frame);
                if job.estimates_normals {
                    frame.normal = normals::of_depth(&job.camera, &frame.depth, &frame.opacity);
                }
                return Ok(Some(Rendered::Frame(frame)));
            }
        }
        if !self.submitter.ready(&self.gpu)? {
            return Ok(None);
        }
        let n = self
            .tile_rays
            .min(capacity.rays)
            .min(total - job.next_pixel);
        if job.n_submitted_stages == 0 && !job.has_active_rays {
            self.begin_tile(n, job.next_pixel, &state_buffer);
        }
        let normals = self.with_normals.as_ref().filter(|_| job.normals);
        let stages = match normals {
            Some(normals) => &normals.stages,
            None if job.has_active_rays => &self.rounds,
            None => &self.plain,
        };
        let rest: Vec<&Stage> = stages.iter().skip(job.n_submitted_stages).collect();
        job.n_submitted_stages += if job.submits_whole_tiles {
            self.submitter.submit_all(&self.gpu, &rest)
        } else {
            self.submitter.submit(&self.gpu, &rest)
        };
        if job.n_submitted_stages >= stages.len() {
            job.n_submitted_stages = 0;
            let bytes = u64::from(n) * FLOATS_PER_PIXEL as u64 * 4;
            let gpu = &self.gpu;
            let to_host = job.destination == Destination::Frame;
            job.in_flight = Some(PendingTile {
                n,
                state: gpu.read_back(&state_buffer, 0, size_of::<StepState>() as u64),
                image: to_host.then(|| gpu.read_back(&self.image, 0, bytes)),
            });
        }
        Ok(None)
    }

    /// Set the `n` pixels of the next tile on the device.
    fn begin_tile(&self, n: u32, first_pixel: u32, state_buffer: &Buffer) {
        let mut state: StepState = bytemuck::Zeroable::zeroed();
        state.n_rays = n;
        self.gpu.write(state_buffer, 0, &[state]);
        self.gpu.write(&self.tile, 0, &[0, first_pixel, n, 0]);
    }

    /// Set the size of the next tile from the buffer use of the last one, which had `n` rays. Its rays
    /// that did not fit come first.
    fn size_tiles(&mut self, n: u32, state: &StepState, capacity: Capacity) {
        let done = state.n_rays_fitting.min(n);
        let use_of = |n: u32, of: u32| n as f32 / of as f32;
        let fullest =
            use_of(state.n_marched, capacity.marched).max(use_of(state.n_kept, capacity.kept));
        let fits = if done < n {
            0.8
        } else {
            (0.8 / fullest.max(1e-3)).clamp(0.5, 4.0)
        };
        // The last tile of a frame may be partial, and is then not representative.
        if n == self.tile_rays || done < n {
            let rays = (done.max(64) as f32 * fits) as u32;
            self.tile_rays = rays.clamp(64.min(capacity.rays), capacity.rays);
        }
    }

    /// Render the view of `camera` without reading it back, and return the cost. Blocks; for benchmarks.
    pub fn measure(
        &mut self,
        camera: &Camera,
        from_file: Option<[f32; 2]>,
    ) -> Result<RenderCost, GpuError> {
        let job = self.begin(camera, from_file, false)?;
        let total = job.camera.width * job.camera.height;
        let culls = self
            .passes
            .iter()
            .any(|p| p.sampler.min_transmittance() > 0.0);
        let state_buffer = self.last().counts.state.clone();
        let capacity = self.last().capacity;
        let in_rounds = !self.rounds.is_empty();
        let (mut next_pixel, mut cost) = (0, RenderCost::default());
        while next_pixel < total {
            let n = self.tile_rays.min(capacity.rays).min(total - next_pixel);
            self.begin_tile(n, next_pixel, &state_buffer);
            let mut stages: Vec<&Stage> = self.plain.iter().collect();
            let state = loop {
                let times = time_stages(&self.gpu, &stages)?;
                cost.seconds += times.iter().map(|t| t.seconds).sum::<f64>();
                let state: StepState = self.gpu.read(&state_buffer, 0, 1)?[0];
                if !in_rounds || state.n_rays == 0 {
                    break state;
                }
                stages = self.rounds.iter().collect();
            };
            cost.kept += u64::from(state.n_kept_total);
            cost.density_only += u64::from(if culls { state.n_marched_total } else { 0 });
            if in_rounds {
                next_pixel += n;
            } else {
                next_pixel += state.n_rays_fitting.min(n);
                self.size_tiles(n, &state, capacity);
            }
        }
        cost.rays = u64::from(total);
        Ok(cost)
    }

    /// Render the view of `camera`. Blocks; not for a training loop or a window.
    pub fn render(
        &mut self,
        camera: &Camera,
        from_file: Option<[f32; 2]>,
        normals: bool,
    ) -> Result<RenderedFrame, GpuError> {
        let frame = self.render_while(camera, from_file, normals, 1, &mut |_| true)?;
        Ok(frame.unwrap_or_default())
    }

    /// Render the view of `camera` with `per_side`² rays per pixel, averaged. `keep_going` is called between submissions with
    /// the number of rays done; if it returns false, the result is `None`. Blocks; not for a training loop or a window.
    pub fn render_while(
        &mut self,
        camera: &Camera,
        from_file: Option<[f32; 2]>,
        normals: bool,
        per_side: u32,
        keep_going: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<RenderedFrame>, GpuError> {
        if per_side <= 1 {
            let mut job = self.begin(camera, from_file, normals)?;
            while keep_going(u64::from(job.next_pixel)) {
                if let Some(rendered) = self.advance(&mut job)? {
                    return Ok(rendered.into_frame());
                }
                self.gpu.wait()?;
            }
            return Ok(None);
        }
        let mut sum = RenderedFrame::new(camera.width, camera.height, self.config.scene.linear);
        let weight = 1.0 / (per_side * per_side) as f32;
        // Offset of a pixel centre of an image `per_side` times as large; each iteration renders one such ray for every pixel.
        let offset = |i: u32| (i as f32 + 0.5) / per_side as f32 - 0.5;
        let (mut before, rays) = (0, u64::from(camera.width) * u64::from(camera.height));
        for (row, column) in (0..per_side).flat_map(|r| (0..per_side).map(move |c| (r, c))) {
            let mut shifted = *camera;
            shifted.principal[0] -= offset(column);
            shifted.principal[1] -= offset(row);
            let mut of_all = |done| keep_going(before + done);
            let one = self.render_while(&shifted, from_file, normals, 1, &mut of_all)?;
            let Some(one) = one else {
                return Ok(None);
            };
            sum.add(&one, weight);
            before += rays;
        }
        Ok(Some(sum))
    }
}
