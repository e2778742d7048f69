//! Images of the window: requested and rendered views, photographs and thumbnails.

use super::super::frame_scheduler::STILL;
use super::super::photo_loader::{LoadedPhoto, PhotoRequest};
use super::super::protocol::{Command, ExportJob, Photo, RenderedView, ViewRequest, Viewpoint};
use super::{Compare, MAX_LATENCIES, State, WHITE};
use crate::camera_path::MAX_SIDE;
use crate::config::Background;
use crate::eval;
use crate::render::{RenderMode, Shading};
use std::collections::HashMap;

/// Photographs as egui textures.
#[derive(Default)]
pub(super) struct Textures {
    photo: Option<(usize, Background, egui::TextureHandle)>,
    thumbnails: HashMap<usize, egui::TextureHandle>,
}

impl std::fmt::Debug for Textures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Textures").finish_non_exhaustive()
    }
}

/// Colour that tints the pixels that a mask hides.
const HIDDEN: [u8; 3] = [200, 40, 255];

/// Composite `photo` over `background` and upload it to egui; what its mask hides is tinted.
fn texture_of(
    context: &egui::Context,
    photo: &Photo,
    linear: bool,
    background: Background,
) -> egui::TextureHandle {
    let size = [photo.image.width, photo.image.height].map(|n| n as usize);
    let values = eval::over(&photo.image, linear, background.color());
    let mut rgb: Vec<u8> = values.iter().map(|v| (v * 255.0).round() as u8).collect();
    if let Some(mask) = &photo.image.mask {
        let hidden = rgb
            .chunks_exact_mut(3)
            .enumerate()
            .filter(|(i, _)| !mask.is_used(*i));
        hidden
            .flat_map(|(_, pixel)| pixel.iter_mut().zip(HIDDEN))
            .for_each(|(v, tint)| *v = v.midpoint(tint));
    }
    let image = egui::ColorImage::from_rgb(size, &rgb);
    context.load_texture("photograph", image, egui::TextureOptions::LINEAR)
}

impl State {
    /// Return the request for the current view.
    fn view_request(&self, now: f64) -> Option<ViewRequest> {
        let ((camera, near_far), view) = self.camera().zip(self.view)?;
        let compares = self.compares();
        let photo = self.photo.as_ref().filter(|photo| {
            let size = [photo.image.width, photo.image.height];
            self.at_camera == Some(photo.viewpoint) && size == [camera.width, camera.height]
        });
        Some(ViewRequest {
            camera,
            near_far,
            shading: Shading {
                show: if compares == Compare::Error {
                    RenderMode::Color
                } else {
                    self.show
                },
                background: self.background,
                depth_range: self.depth_range(),
                max_ray_samples: 64.0,
                up: view.up().to_array().map(|v| v as f32),
            },
            crop: self.crop,
            compared: photo.filter(|_| compares == Compare::Error).cloned(),
            moving: now - self.moved_at < STILL,
            asked: now,
        })
    }

    /// Request the current view from the engine if it has changed.
    pub(in crate::viewer) fn request_view(&mut self, context: &egui::Context) {
        let now = context.input(|i| i.time);
        if now - self.moved_at < STILL {
            let rest = STILL - (now - self.moved_at);
            context.request_repaint_after_secs(rest as f32 + 0.01);
        }
        let Some(request) = self.view_request(now) else {
            return;
        };
        if self.hidden {
            if self.requested.take().is_some() {
                self.send(Command::Hide);
            }
            return;
        }
        let before = self.requested.as_ref().filter(|r| r.shows_as(&request));
        // A view that has stopped moving is requested again, with the time of the original request.
        let request = ViewRequest {
            asked: before.map_or(now, |before| before.asked),
            ..request
        };
        if before.is_none_or(|before| before.moving != request.moving) {
            self.requested = Some(request.clone());
            self.send(Command::Look(Box::new(request)));
        }
    }

    /// Record that the last drawn view is on the screen at `now`, and measure its latency if it is new.
    pub fn painted(&mut self, now: f64) {
        let drawn = self.rendered.as_ref().filter(|_| !self.rendered_is_new);
        let asked = drawn.map(|rendered| rendered.request.asked);
        // Refinements of the same view do not count.
        if let Some(asked) = asked.filter(|asked| *asked > self.answered) {
            self.answered = asked;
            self.latency = Some(now - asked);
            self.latencies.push(now - asked);
            let more = self.latencies.len().saturating_sub(MAX_LATENCIES);
            self.latencies.drain(..more);
        }
    }

    /// Request the photographs to show.
    pub(in crate::viewer) fn request_photographs(&mut self) {
        let Some(opened) = &self.opened else {
            return;
        };
        let wanted = |index: usize, viewpoint: &Viewpoint, downscale| {
            viewpoint.frame.as_ref().map(|frame| PhotoRequest {
                dataset_id: self.dataset_id,
                viewpoint: index,
                frame: frame.clone(),
                downscale,
            })
        };
        if self.compare != Compare::Off && self.requested_photo != self.at_camera {
            self.requested_photo = self.at_camera;
            let here = self
                .at_camera
                .and_then(|i| opened.viewpoints.get(i).map(|p| (i, p)));
            let one = here.and_then(|(i, p)| wanted(i, p, Some(opened.downscale)));
            self.wanted.extend(one);
        }
        if self.show_cameras && !self.requested_thumbnails {
            self.requested_thumbnails = true;
            let all = opened.viewpoints.iter().enumerate();
            let all: Vec<PhotoRequest> = all.filter_map(|(i, p)| wanted(i, p, None)).collect();
            self.wanted.extend(all);
        }
    }

    pub fn take_wanted(&mut self) -> Vec<PhotoRequest> {
        std::mem::take(&mut self.wanted)
    }

    /// Store a photograph that was read, if it belongs to the open dataset.
    pub fn add_photo(&mut self, loaded: LoadedPhoto) {
        if loaded.dataset_id != self.dataset_id {
            return;
        }
        match loaded.photo {
            Ok(photo) if loaded.is_thumbnail => {
                self.thumbnails.insert(loaded.viewpoint, photo);
            }
            Ok(photo) => self.photo = Some(photo),
            Err(reason) => self.add_message(format!("error: {reason}"), true),
        }
    }

    /// Return the texture of the photograph from the current dataset camera.
    pub fn photo(&mut self, context: &egui::Context) -> Option<egui::TextureId> {
        let linear = self.opened.as_ref()?.linear;
        let photo = self.photo.as_ref();
        let photo = photo.filter(|photo| Some(photo.viewpoint) == self.at_camera)?;
        let background = self.background;
        let drawn = self.textures.photo.as_ref();
        if let Some((_, _, texture)) =
            drawn.filter(|(place, behind, _)| *place == photo.viewpoint && *behind == background)
        {
            return Some(texture.id());
        }
        let texture = texture_of(context, photo, linear, background);
        let id = texture.id();
        self.textures.photo = Some((photo.viewpoint, background, texture));
        Some(id)
    }

    /// Return the texture of the thumbnail of viewpoint `index`.
    pub fn thumbnail(&mut self, context: &egui::Context, index: usize) -> Option<egui::TextureId> {
        let linear = self.opened.as_ref()?.linear;
        let photo = self.thumbnails.get(&index)?;
        let textures = &mut self.textures.thumbnails;
        let texture = textures
            .entry(index)
            .or_insert_with(|| texture_of(context, photo, linear, WHITE));
        Some(texture.id())
    }

    /// Drop the rendered view and all textures, because they belong to another device.
    pub fn forget_picture(&mut self) {
        (self.rendered, self.texture, self.rendered_is_new) = (None, None, false);
        self.textures = Textures::default();
        self.requested = None;
    }

    /// Return whether the rendered view is the requested one, at full size.
    pub fn is_sharp(&self) -> bool {
        let Some((rendered, requested)) = self.rendered.as_ref().zip(self.requested.as_ref())
        else {
            return false;
        };
        let full = [requested.camera.width, requested.camera.height];
        rendered.request.shows_as(requested) && rendered.size == full && !requested.moving
    }

    /// Return whether there is a rendered view that has not been drawn yet.
    pub fn has_new_texture(&self) -> bool {
        self.rendered_is_new
    }

    /// Take the texture of a rendered view that has not been drawn yet.
    pub fn new_texture(&mut self) -> Option<wgpu::Texture> {
        let is_new = std::mem::take(&mut self.rendered_is_new);
        let rendered = self.rendered.as_ref().filter(|_| is_new)?;
        Some(rendered.texture.clone())
    }

    pub fn set_texture_id(&mut self, id: Option<egui::TextureId>) {
        self.texture = id;
    }

    /// Return the texture to draw, the part of it that contains the view (in texture coordinates), and the view itself.
    pub fn picture(&self) -> Option<(egui::TextureId, egui::Rect, &RenderedView)> {
        let rendered = self.rendered.as_ref()?;
        let texture = rendered.texture.size();
        let part = egui::pos2(
            rendered.size[0] as f32 / texture.width as f32,
            rendered.size[1] as f32 / texture.height as f32,
        );
        let rect = egui::Rect::from_min_max(egui::Pos2::ZERO, part);
        Some((self.texture?, rect, rendered))
    }

    /// Return the width and height of a screenshot, in pixels: as chosen, or those of the view.
    pub fn size_of_screenshot(&self) -> Option<[u32; 2]> {
        let (camera, _) = self.camera()?;
        Some(
            self.screenshot_size
                .unwrap_or([camera.width, camera.height]),
        )
    }

    /// Render the current view to a PNG file in the folder of screenshots.
    pub fn screenshot(&mut self, now: f64) {
        let (Some(request), Some([width, height])) =
            (self.view_request(now), self.size_of_screenshot())
        else {
            return;
        };
        let [width, height] = [width, height].map(|n| n.clamp(1, MAX_SIDE));
        let camera = match (self.viewpoint(), self.view) {
            (Some(place), _) => place.camera.resized(width, height),
            (None, Some(view)) => view.camera(width, height),
            (None, None) => return,
        };
        let request = ViewRequest {
            camera,
            compared: None,
            ..request
        };
        self.doing = Some(("rendering".to_owned(), None));
        self.send(Command::Render(Box::new(ExportJob::Screenshot { request })));
    }
}
