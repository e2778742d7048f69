//! Progressive rendering of the window's views: decides which size is due, and renders it in short time slices.

use std::time::{Duration, Instant};

use crate::eval;
use crate::gpu::{Gpu, GpuError};
use crate::render::{DeviceImage, RenderJob, RenderMode, Rendered, Renderer, texture_of};
use crate::viewer::{FrameScheduler, Photo, RenderedView, ViewRequest, finer};

/// Longest time slice for a view that is being refined.
const SLICE: Duration = Duration::from_millis(20);
/// Time between polls of the device.
const POLL_INTERVAL: Duration = Duration::from_micros(300);

/// A view that is being rendered.
#[derive(Debug)]
struct PendingFrame {
    job: RenderJob,
    request: ViewRequest,
    size: [u32; 2],
    seconds: f64,
}

/// The requested view, the view shown last, and the one that is being rendered.
#[derive(Debug, Default)]
pub(super) struct ProgressiveRender {
    request: Option<ViewRequest>,
    drawn: Option<(ViewRequest, [u32; 2])>,
    pending: Option<PendingFrame>,
    /// Whether the field has changed since the last rendering started.
    stale: bool,
}

impl ProgressiveRender {
    /// Set the requested view, or `None` to show nothing.
    pub fn set_request(&mut self, request: Option<ViewRequest>) {
        // Abandon a large rendering in progress; let a small one finish, because showing it is better than showing nothing.
        let is_large = self
            .pending
            .as_ref()
            .is_some_and(|pending| !pending.request.moving);
        let changes = match (&request, &self.pending) {
            (Some(request), Some(pending)) => !request.shows_as(&pending.request),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if is_large && changes {
            self.pending = None;
        }
        self.request = request;
    }

    /// Record that the field has changed.
    pub fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Discard all rendered views, because another field was opened.
    pub fn clear(&mut self) {
        (self.drawn, self.pending, self.request) = (None, None, None);
    }

    /// Return whether the requested view is moving.
    pub fn is_moving(&self) -> bool {
        self.request.as_ref().is_some_and(|l| l.moving)
    }

    /// Return whether the requested view shows `mode`.
    pub fn shows(&self, mode: RenderMode) -> bool {
        let request = self.request.as_ref();
        request.is_some_and(|request| request.shading.show == mode)
    }

    /// Return whether a view is being rendered.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Return the size of the view that is due, if any.
    fn due(&self, scheduler: &FrameScheduler) -> Option<[u32; 2]> {
        let request = self.request.as_ref()?;
        let full = [request.camera.width, request.camera.height];
        let seen = self.drawn.as_ref().filter(|(l, _)| l.shows_as(request));
        match seen {
            None => Some(scheduler.first_size(full, request.moving)),
            Some((_, size)) => {
                // Errors are measured at the size of the photograph.
                let last = match request.compared {
                    Some(_) => full,
                    None => scheduler.final_size(full),
                };
                match finer(*size, last) {
                    Some(_) if request.moving => None,
                    Some(next) => Some(next),
                    None => self.stale.then_some(last),
                }
            }
        }
    }

    /// Return whether a view is due or being rendered.
    pub fn wants(&self, scheduler: &FrameScheduler) -> bool {
        self.is_busy() || self.due(scheduler).is_some()
    }

    /// Work on the view for one time slice. Return it once it is complete.
    pub fn advance(
        &mut self,
        gpu: &Gpu,
        renderer: &mut Renderer,
        scheduler: &mut FrameScheduler,
    ) -> Result<Option<RenderedView>, GpuError> {
        if self.pending.is_none() {
            let Some((size, request)) = self.due(scheduler).zip(self.request.clone()) else {
                return Ok(None);
            };
            let camera = request.camera.resized(size[0], size[1]);
            renderer.set_crop(request.crop);
            let (near_far, shading) = (request.near_far, &request.shading);
            let mut job = renderer.begin_picture(&camera, near_far, shading)?;
            if request.moving {
                job.submit_whole_tiles();
            }
            self.stale = false;
            self.pending = Some(PendingFrame {
                job,
                request,
                size,
                seconds: 0.0,
            });
        }
        let Some(pending) = &mut self.pending else {
            return Ok(None);
        };
        let started = Instant::now();
        let rendered = loop {
            if let Some(rendered) = renderer.advance(&mut pending.job)? {
                break Some(rendered);
            }
            if !pending.request.moving && started.elapsed() > SLICE {
                break None;
            }
            std::thread::sleep(POLL_INTERVAL);
            gpu.poll_once()?;
        };
        // Wait for the device here, so that the next work does not wait for this view, and its time is known.
        while !renderer.is_idle()? {
            std::thread::sleep(POLL_INTERVAL);
        }
        pending.seconds += started.elapsed().as_secs_f64();
        let Some(Rendered::Picture(picture)) = rendered else {
            return Ok(None);
        };
        let Some(pending) = self.pending.take() else {
            return Ok(None);
        };
        let rays = u64::from(pending.size[0]) * u64::from(pending.size[1]);
        scheduler.measured(rays, pending.seconds, pending.request.moving);
        self.drawn = Some((pending.request.clone(), pending.size));
        let photo = pending.request.compared.as_deref();
        let compared =
            photo.filter(|photo| [photo.image.width, photo.image.height] == pending.size);
        let linear = renderer.config().scene.linear;
        let (texture, psnr) = match compared {
            Some(photo) => {
                let background = pending.request.shading.background.color();
                let (texture, psnr) = compare(gpu, &picture, photo, linear, background)?;
                (texture, Some(psnr))
            }
            None => (picture.to_texture(gpu), None),
        };
        Ok(Some(RenderedView {
            texture,
            size: pending.size,
            request: pending.request,
            psnr,
            seconds: pending.seconds,
        }))
    }
}

/// Error that is shown as white: mean absolute difference over the channels, of values in [0, 1].
const MAX_ERROR: f32 = 0.25;
/// Colour of pixels that a mask hides.
const HIDDEN: [u8; 4] = [60, 30, 90, 255];

/// Return the error map of `picture` against `photo`, coloured from black over red and yellow to white, and the PSNR in dB over
/// 8-bit values.
fn compare(
    gpu: &Gpu,
    picture: &DeviceImage,
    photo: &Photo,
    linear: bool,
    background: [f32; 3],
) -> Result<(wgpu::Texture, f64), GpuError> {
    let rgba = picture.read(gpu)?;
    let rgb = rgba.chunks_exact(4).flat_map(|p| &p[..3]);
    let ours: Vec<f32> = rgb.map(|&v| f32::from(v) / 255.0).collect();
    let theirs = eval::over(&photo.image, linear, background);
    let mask = photo.image.mask.as_ref();
    let errors = ours.chunks_exact(3).zip(theirs.chunks_exact(3));
    let pixels: Vec<u8> = errors
        .enumerate()
        .flat_map(|(i, (a, b))| {
            if mask.is_some_and(|mask| !mask.is_used(i)) {
                return HIDDEN;
            }
            let error = (0..3).map(|c| (a[c] - b[c]).abs()).sum::<f32>() / 3.0;
            let t = (error / MAX_ERROR).clamp(0.0, 1.0).sqrt() * 3.0;
            let [r, g, b] = [t, t - 1.0, t - 2.0].map(|v| (v.clamp(0.0, 1.0) * 255.0) as u8);
            [r, g, b, 255]
        })
        .collect();
    let texture = texture_of(gpu, picture.size, &pixels);
    Ok((texture, eval::psnr_where_used(&photo.image, ours, theirs)))
}
