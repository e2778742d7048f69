//! State of the window. `panels` and `canvas` draw it; nothing here needs a window or a device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::album::{Print, Wanted};
use super::canvas::{Canvas, Grip};
use super::flight::Flight;
use super::frame_scheduler::STILL;
use super::protocol::{
    Choice, Command, Event, ExportJob, Opened, Photo, Progress, RenderedView, Training,
    ViewRequest, Viewpoint,
};
use super::recent::Recent;
use super::{Navigation, panels};
use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::camera_path::MAX_SIDE;
use crate::config::Background;
use crate::eval;
use crate::render::{Shading, Show};

/// Most points of a curve; older ones are thinned out.
const MAX_POINTS: usize = 2000;
/// Most latencies kept.
const MAX_LATENCIES: usize = 300;
/// Most lines of the log.
const MAX_LINES: usize = 500;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub is_error: bool,
}

/// How the rendered view is compared with the photograph from the same camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Off,
    /// Side by side.
    Side,
    /// One on top of the other, split at a movable line.
    Wipe,
    /// The difference of each pixel.
    Error,
}

/// Values over training time: `[seconds, value]`, in order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve(pub Vec<[f64; 2]>);

impl Curve {
    fn push(&mut self, seconds: f64, value: f64) {
        // After a resume or restart, drop the points that lie ahead.
        self.0.retain(|p| p[0] < seconds);
        self.0.push([seconds, value]);
        if self.0.len() > MAX_POINTS {
            let mut index = 0;
            let last = self.0.len() - 1;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1 || index > last
            });
        }
    }
}

/// Photographs as egui textures.
#[derive(Default)]
struct Textures {
    photo: Option<(usize, Background, egui::TextureHandle)>,
    thumbnails: HashMap<usize, egui::TextureHandle>,
}

impl std::fmt::Debug for Textures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Textures").finish_non_exhaustive()
    }
}

/// State of the window.
#[derive(Debug)]
pub(super) struct State {
    pub opened: Option<Opened>,
    pub view: Option<Navigation>,
    /// The dataset camera that the view is at, until the user moves.
    pub at_camera: Option<usize>,
    /// The dataset camera that the view was at last.
    pub last_camera: usize,
    pub show: Show,
    pub background: Background,
    pub crop: Option<Aabb>,
    pub compare: Compare,
    /// Position of the line of [`Compare::Wipe`], as a fraction of the view's width.
    pub wipe: f32,
    pub flight: Flight,
    /// Width and height of screenshots, in pixels; those of the view if `None`.
    pub screenshot_size: Option<[u32; 2]>,
    pub progress: Option<Progress>,
    /// Occupied fraction of the occupancy grid.
    pub occupied: Option<f64>,
    pub loss: Curve,
    pub train_psnr: Curve,
    pub held_out: Curve,
    pub log: Vec<Line>,
    /// The long task that is running, and the fraction that is done, if known.
    pub doing: Option<(String, Option<f32>)>,
    /// The last error, until it is dismissed or something is opened.
    pub failed: Option<String>,
    pub training: Training,
    /// Training is over and the final evaluation is running.
    pub ending: bool,
    pub ended: Option<String>,
    pub share: f64,
    pub show_cameras: bool,
    pub show_box: bool,
    pub show_help: bool,
    pub path_to_open: String,
    pub recent: Recent,
    /// The method that datasets are trained with; the device's default if `None`.
    pub method: Option<String>,
    pub devices: Vec<String>,
    pub device: Option<usize>,
    pub canvas: Canvas,
    /// What the user is dragging over the view.
    pub grip: Option<Grip>,
    pub hidden: bool,
    /// The window is waiting for the engine to save and stop.
    pub closing: bool,
    /// Path of what was open before.
    previous: Option<PathBuf>,
    photo: Option<Arc<Photo>>,
    thumbnails: HashMap<usize, Arc<Photo>>,
    textures: Textures,
    /// Number of datasets opened so far; identifies which dataset an arriving photograph belongs to.
    album: u32,
    wanted: Vec<Wanted>,
    /// Index of the photograph that was requested last.
    requested_photo: Option<usize>,
    requested_thumbnails: bool,
    rendered: Option<RenderedView>,
    rendered_is_new: bool,
    texture: Option<egui::TextureId>,
    /// Time of the last movement, in seconds since the window opened.
    moved_at: f64,
    /// The view that was requested from the engine last.
    requested: Option<ViewRequest>,
    /// Time at which the newest view on the screen was requested, in seconds since the window opened.
    answered: f64,
    /// Last time from requesting a new view to seeing it, in seconds.
    pub latency: Option<f64>,
    /// The most recent latencies, in seconds.
    pub latencies: Vec<f64>,
    commands: Vec<Command>,
    wants_close: bool,
    title: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            opened: None,
            view: None,
            at_camera: None,
            last_camera: 0,
            show: Show::Color,
            background: panels::WHITE,
            crop: None,
            compare: Compare::Off,
            wipe: 0.5,
            flight: Flight::default(),
            screenshot_size: None,
            progress: None,
            occupied: None,
            loss: Curve::default(),
            train_psnr: Curve::default(),
            held_out: Curve::default(),
            log: Vec::new(),
            doing: None,
            failed: None,
            training: Training::Go,
            ending: false,
            ended: None,
            share: 0.75,
            show_cameras: false,
            show_box: false,
            show_help: false,
            path_to_open: String::new(),
            recent: Recent::default(),
            method: None,
            devices: Vec::new(),
            device: None,
            canvas: Canvas::default(),
            grip: None,
            hidden: false,
            closing: false,
            previous: None,
            photo: None,
            thumbnails: HashMap::new(),
            textures: Textures::default(),
            album: 0,
            wanted: Vec::new(),
            requested_photo: None,
            requested_thumbnails: false,
            rendered: None,
            rendered_is_new: false,
            texture: None,
            moved_at: f64::NEG_INFINITY,
            requested: None,
            answered: f64::NEG_INFINITY,
            latency: None,
            latencies: Vec::new(),
            commands: Vec::new(),
            wants_close: false,
            title: None,
        }
    }
}

impl State {
    /// Return the state of an empty window; `recent` lists what was opened recently.
    pub fn new(recent: Recent) -> Self {
        Self {
            recent,
            ..Self::default()
        }
    }

    /// Apply an event from the engine.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Opened(opened) => self.open(*opened),
            Event::Doing(what, share) => self.doing = Some((what, share)),
            Event::Done => self.doing = None,
            Event::Note(text) => self.say(text, false),
            Event::Failed(text) => {
                self.doing = None;
                self.fail(text);
            }
            Event::Progress(progress) => {
                let before = self.progress.and_then(|p| p.learned).map(|l| l.step);
                let new = progress.learned.filter(|l| before != Some(l.step));
                if let Some(learned) = new {
                    self.doing = None;
                    self.loss.push(learned.seconds, f64::from(learned.loss));
                    let psnr = f64::from(learned.train_psnr);
                    self.train_psnr.push(learned.seconds, psnr);
                }
                if let Some(psnr) = progress.held_out
                    && self.progress.and_then(|p| p.held_out) != Some(psnr)
                {
                    self.held_out.push(progress.seconds, psnr);
                }
                self.progress = Some(progress);
            }
            Event::Occupied(share) => self.occupied = Some(share),
            Event::Ending => self.ending = true,
            Event::Closed => self.closed(),
            Event::Ended(text) => {
                self.training = Training::Pause;
                self.doing = None;
                self.say(text.clone(), false);
                self.ended = Some(text);
            }
            Event::RenderedView(rendered) => {
                self.rendered = Some(*rendered);
                self.rendered_is_new = true;
            }
            Event::Devices(devices, used) => (self.devices, self.device) = (devices, used),
            Event::Device(_) | Event::Gone => {}
        }
    }

    fn open(&mut self, opened: Opened) {
        let cameras: Vec<Camera> = opened.places.iter().map(|p| p.camera).collect();
        let trained = &cameras[..opened.n_train.min(cameras.len())];
        // After a change of device the same path is opened again: keep the view and the curves.
        if self.previous.take().as_ref() != Some(&opened.path) {
            self.view = cameras.first().map(|c| Navigation::new(c, trained));
            self.at_camera = (!cameras.is_empty()).then_some(0);
            self.last_camera = 0;
            self.crop = None;
            self.flight = Flight::default();
            (self.loss, self.train_psnr, self.held_out) = Default::default();
        }
        if !opened.shows.contains(&self.show) {
            self.show = Show::Color;
        }
        self.crop = self.crop.filter(|_| opened.can_crop);
        self.title = Some(format!("kiln · {} · {}", opened.title, opened.method));
        (self.progress, self.ended, self.failed, self.doing) = (None, None, None, None);
        self.ending = false;
        self.occupied = None;
        self.training = Training::Go;
        self.recent.add(&opened.path);
        self.opened = Some(opened);
        self.requested = None;
        self.album += 1;
        (self.photo, self.requested_photo) = (None, None);
        self.thumbnails.clear();
        self.requested_thumbnails = false;
        self.textures = Textures::default();
    }

    /// Close what was open, and keep its path in case it is opened again.
    fn closed(&mut self) {
        self.previous = self.opened.take().map(|opened| opened.path);
        self.forget_picture();
        (self.progress, self.doing, self.grip) = (None, None, None);
        self.flight.plays = false;
    }

    /// Add a line to the log.
    pub fn say(&mut self, text: String, is_error: bool) {
        self.log.push(Line { text, is_error });
        let more = self.log.len().saturating_sub(MAX_LINES);
        self.log.drain(..more);
    }

    /// Show an error and log it.
    pub fn fail(&mut self, text: String) {
        self.say(format!("error: {text}"), true);
        self.failed = Some(text);
    }

    /// Draw everything and handle input.
    pub fn ui(&mut self, ui: &mut egui::Ui) {
        self.play(ui.ctx());
        panels::all(self, ui);
        self.request_photographs();
        self.request_view(ui.ctx());
    }

    /// Follow the camera path while it plays.
    fn play(&mut self, context: &egui::Context) {
        let (now, seconds) = context.input(|i| (i.time, f64::from(i.stable_dt)));
        let size = self.canvas.pixels.map(|n| n.max(1));
        let Some(camera) = self.flight.play(seconds, size) else {
            return;
        };
        self.stand_at(&camera, now);
        context.request_repaint();
    }

    /// Move to the pose of `camera`.
    pub fn stand_at(&mut self, camera: &Camera, now: f64) {
        if let Some(view) = &mut self.view {
            view.stand_at(camera);
            self.moved(now);
        }
    }

    /// Whether a training is running or paused.
    pub fn is_training(&self) -> bool {
        self.ended.is_none() && !self.ending && self.opened.as_ref().is_some_and(|o| o.training)
    }

    /// Queue a command for the engine.
    pub fn ask(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    pub fn close(&mut self) {
        self.wants_close = true;
    }

    pub fn take_close(&mut self) -> bool {
        std::mem::take(&mut self.wants_close)
    }

    pub fn take_title(&mut self) -> Option<String> {
        self.title.take()
    }

    /// Drop the rendered view and all textures, for they belong to another device.
    pub fn forget_picture(&mut self) {
        (self.rendered, self.texture, self.rendered_is_new) = (None, None, false);
        self.textures = Textures::default();
        self.requested = None;
    }

    /// Whether the rendered view is the one requested, at full size.
    pub fn is_sharp(&self) -> bool {
        let Some((rendered, requested)) = self.rendered.as_ref().zip(self.requested.as_ref())
        else {
            return false;
        };
        let full = [requested.camera.width, requested.camera.height];
        rendered.looking.shows_as(requested) && rendered.size == full && !requested.moving
    }

    /// Whether there is a rendered view that has not been drawn yet.
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

    /// The texture to draw, the part of it that holds the view (in texture coordinates), and the view itself.
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

    /// PSNR of the rendered view against the photograph that it is compared with, dB.
    pub fn psnr(&self) -> Option<f64> {
        self.rendered.as_ref()?.psnr
    }

    /// Record that the camera has moved.
    pub fn moved(&mut self, now: f64) {
        self.moved_at = now;
        self.at_camera = None;
    }

    /// Record that something other than the camera has changed and the view must be redrawn.
    pub fn changed(&mut self, now: f64) {
        self.moved_at = now;
    }

    /// Move to camera `index` of the dataset.
    pub fn go_to(&mut self, index: usize) {
        let place = self
            .opened
            .as_ref()
            .and_then(|opened| opened.places.get(index));
        if let (Some(place), Some(view)) = (place, &mut self.view) {
            view.stand_at(&place.camera);
            self.at_camera = Some(index);
            self.last_camera = index;
            self.flight.plays = false;
        }
    }

    /// The viewpoint of the dataset that the view is at.
    pub fn place(&self) -> Option<&Viewpoint> {
        self.opened.as_ref()?.places.get(self.at_camera?)
    }

    /// How the view is compared with the photograph here: [`Compare::Off`] if there is none.
    pub fn compares(&self) -> Compare {
        let has_photo = self.place().is_some_and(|p| p.frame.is_some());
        if has_photo {
            self.compare
        } else {
            Compare::Off
        }
    }

    /// Largest width and height of the view, in pixels.
    pub fn room(&self) -> [u32; 2] {
        let [width, height] = self.canvas.pixels;
        match self.compares() {
            Compare::Side => [width / 2, height],
            Compare::Off | Compare::Wipe | Compare::Error => [width, height],
        }
    }

    /// The camera of the view, and the near and far bounds of its rays if known. At a dataset camera it is that camera, resized
    /// to fit the canvas, or at the photograph's size if the two are compared pixel by pixel.
    pub fn camera(&self) -> Option<(Camera, Option<[f32; 2]>)> {
        let [width, height] = self.room();
        if width == 0 || height == 0 {
            return None;
        }
        if let Some(place) = self.place() {
            let camera = place.camera;
            let size = [camera.width, camera.height];
            let [w, h] = if self.compares() == Compare::Error {
                size
            } else {
                fit(size, [width, height])
            };
            return Some((camera.resized(w, h), place.near_far));
        }
        // The ray bounds of a photograph do not apply to other viewpoints.
        Some((self.view?.camera(width, height), None))
    }

    /// The request for the current view.
    fn view_request(&self, now: f64) -> Option<ViewRequest> {
        let ((camera, near_far), view) = self.camera().zip(self.view)?;
        let distance = view.distance() as f32;
        let compares = self.compares();
        let photo = self.photo.as_ref().filter(|photo| {
            let size = [photo.image.width, photo.image.height];
            self.at_camera == Some(photo.place) && size == [camera.width, camera.height]
        });
        Some(ViewRequest {
            camera,
            near_far,
            shading: Shading {
                show: if compares == Compare::Error {
                    Show::Color
                } else {
                    self.show
                },
                background: self.background,
                depth_range: [0.6 * distance, 1.8 * distance],
                most_samples: 64.0,
                up: view.up().to_array().map(|v| v as f32),
            },
            crop: self.crop,
            compared: photo.filter(|_| compares == Compare::Error).cloned(),
            moving: now - self.moved_at < STILL,
            asked: now,
        })
    }

    /// Request the current view from the engine if it has changed.
    fn request_view(&mut self, context: &egui::Context) {
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
                self.ask(Command::Hide);
            }
            return;
        }
        let before = self.requested.as_ref().filter(|r| r.shows_as(&request));
        // A view that has stopped moving is requested again, with the time of the first request.
        let request = ViewRequest {
            asked: before.map_or(now, |before| before.asked),
            ..request
        };
        if before.is_none_or(|before| before.moving != request.moving) {
            self.requested = Some(request.clone());
            self.ask(Command::Look(Box::new(request)));
        }
    }

    /// Record that what was drawn is on the screen at `now`, and measure the latency of a new view.
    pub fn painted(&mut self, now: f64) {
        let drawn = self.rendered.as_ref().filter(|_| !self.rendered_is_new);
        let asked = drawn.map(|rendered| rendered.looking.asked);
        // Later refinements of the same view do not count.
        if let Some(asked) = asked.filter(|asked| *asked > self.answered) {
            self.answered = asked;
            self.latency = Some(now - asked);
            self.latencies.push(now - asked);
            let more = self.latencies.len().saturating_sub(MAX_LATENCIES);
            self.latencies.drain(..more);
        }
    }

    /// Request the photographs that are to be shown.
    fn request_photographs(&mut self) {
        let Some(opened) = &self.opened else {
            return;
        };
        let wanted = |index: usize, place: &Viewpoint, downscale| {
            place.frame.as_ref().map(|frame| Wanted {
                album: self.album,
                place: index,
                path: frame.image_path.clone(),
                orientation: frame.orientation,
                downscale,
            })
        };
        if self.compare != Compare::Off && self.requested_photo != self.at_camera {
            self.requested_photo = self.at_camera;
            let here = self
                .at_camera
                .and_then(|i| opened.places.get(i).map(|p| (i, p)));
            let one = here.and_then(|(i, p)| wanted(i, p, Some(opened.downscale)));
            self.wanted.extend(one);
        }
        if self.show_cameras && !self.requested_thumbnails {
            self.requested_thumbnails = true;
            let all = opened.places.iter().enumerate();
            let all: Vec<Wanted> = all.filter_map(|(i, p)| wanted(i, p, None)).collect();
            self.wanted.extend(all);
        }
    }

    pub fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.wanted)
    }

    /// Store a photograph that was read, if it belongs to the open dataset.
    pub fn see(&mut self, print: Print) {
        if print.album != self.album {
            return;
        }
        match print.photo {
            Ok(photo) if print.is_thumbnail => {
                self.thumbnails.insert(print.place, photo);
            }
            Ok(photo) => self.photo = Some(photo),
            Err(reason) => self.say(format!("error: {reason}"), true),
        }
    }

    /// The texture of the photograph from the current dataset camera.
    pub fn photo(&mut self, context: &egui::Context) -> Option<egui::TextureId> {
        let linear = self.opened.as_ref()?.linear;
        let photo = self.photo.as_ref();
        let photo = photo.filter(|photo| Some(photo.place) == self.at_camera)?;
        let background = self.background;
        let drawn = self.textures.photo.as_ref();
        if let Some((_, _, texture)) =
            drawn.filter(|(place, behind, _)| *place == photo.place && *behind == background)
        {
            return Some(texture.id());
        }
        let texture = texture_of(context, photo, linear, background);
        let id = texture.id();
        self.textures.photo = Some((photo.place, background, texture));
        Some(id)
    }

    /// The texture of the thumbnail of viewpoint `index`.
    pub fn thumbnail(&mut self, context: &egui::Context, index: usize) -> Option<egui::TextureId> {
        let linear = self.opened.as_ref()?.linear;
        let photo = self.thumbnails.get(&index)?;
        let textures = &mut self.textures.thumbnails;
        let texture = textures
            .entry(index)
            .or_insert_with(|| texture_of(context, photo, linear, panels::WHITE));
        Some(texture.id())
    }

    /// Open what was dropped or named: a camera path, a run or a dataset.
    pub fn open_path(&mut self, path: &Path) {
        self.failed = None;
        let text = path.extension().filter(|e| *e == "json");
        let text = text.and_then(|_| std::fs::read_to_string(path).ok());
        if text.is_some_and(|t| t.contains("\"key_frames\"")) {
            self.load_path(path);
            return;
        }
        self.doing = Some((format!("opening {}", path.display()), None));
        self.ask(Command::Open(Choice {
            path: path.to_owned(),
            method: self.method.clone(),
        }));
    }

    /// Load the camera path in `file`, and its crop box.
    pub fn load_path(&mut self, file: &Path) {
        match self.flight.open(file) {
            Ok(()) => {
                let can = self.opened.as_ref().is_none_or(|o| o.can_crop);
                self.crop = self.flight.draft.crop.filter(|_| can);
                self.say(format!("opened {}", file.display()), false);
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Make the built-in scene and train on it.
    pub fn open_demo(&mut self) {
        self.doing = Some(("making the built-in scene".to_owned(), None));
        self.ask(Command::Demo(self.method.clone()));
    }

    /// Save the camera path with the crop box.
    pub fn save_path(&mut self) {
        self.flight.draft.crop = self.crop;
        match self.flight.save() {
            Ok(file) => self.say(format!("saved {}", file.display()), false),
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Render the camera path to a file.
    pub fn render_path(&mut self) {
        self.flight.draft.crop = self.crop;
        let flight = &self.flight;
        let export = ExportJob::Path {
            path: flight.draft.clone(),
            to: PathBuf::from(flight.to.trim()),
            channel: flight.channel,
            per_side: flight.per_side,
            background: self.background.color(),
        };
        self.doing = Some(("rendering".to_owned(), Some(0.0)));
        self.ask(Command::Render(Box::new(export)));
    }

    /// Width and height of a screenshot, in pixels: as chosen, or those of the view.
    pub fn size_of_screenshot(&self) -> Option<[u32; 2]> {
        let (camera, _) = self.camera()?;
        Some(
            self.screenshot_size
                .unwrap_or([camera.width, camera.height]),
        )
    }

    /// Render the current view to a PNG file in the folder of screenshots.
    pub fn screenshot(&mut self, now: f64) {
        let (Some(looking), Some([width, height])) =
            (self.view_request(now), self.size_of_screenshot())
        else {
            return;
        };
        let [width, height] = [width, height].map(|n| n.clamp(1, MAX_SIDE));
        let camera = match (self.place(), self.view) {
            (Some(place), _) => place.camera.resized(width, height),
            (None, Some(view)) => view.camera(width, height),
            (None, None) => return,
        };
        let looking = ViewRequest {
            camera,
            compared: None,
            ..looking
        };
        self.doing = Some(("rendering".to_owned(), None));
        self.ask(Command::Render(Box::new(ExportJob::Screenshot { looking })));
    }
}

/// Composite `photo` over `background` and upload it to egui.
fn texture_of(
    context: &egui::Context,
    photo: &Photo,
    linear: bool,
    background: Background,
) -> egui::TextureHandle {
    let size = [photo.image.width, photo.image.height].map(|n| n as usize);
    let values = eval::over(&photo.image, linear, background.color());
    let rgb: Vec<u8> = values.iter().map(|v| (v * 255.0).round() as u8).collect();
    let image = egui::ColorImage::from_rgb(size, &rgb);
    context.load_texture("photograph", image, egui::TextureOptions::LINEAR)
}

/// The largest size within `room` that has the aspect ratio of `size`, at least one pixel.
pub(super) fn fit(size: [u32; 2], room: [u32; 2]) -> [u32; 2] {
    let ratio = |i: usize| f64::from(room[i]) / f64::from(size[i].max(1));
    let scale = ratio(0).min(ratio(1));
    [0, 1].map(|i| ((f64::from(size[i]) * scale).round() as u32).clamp(1, room[i].max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::protocol::Learned;

    fn places(n: u8) -> Vec<Viewpoint> {
        let stand = |i: u8| {
            let angle = f32::from(i);
            let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
            let camera = Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.8, 100, 100);
            Viewpoint {
                name: format!("view {i}"),
                camera,
                near_far: None,
                frame: None,
            }
        };
        (0..n).map(stand).collect()
    }

    /// A window of 800×600 points with a training open: five cameras, four of them training views.
    struct Window {
        context: egui::Context,
        state: State,
        time: f64,
    }

    impl Window {
        fn new() -> Self {
            let mut state = State::default();
            state.hear(Event::Opened(Box::new(Opened {
                title: "run".to_owned(),
                method: "ngp".to_owned(),
                path: PathBuf::from("runs/run"),
                places: places(5),
                n_train: 4,
                downscale: 1,
                linear: false,
                can_crop: true,
                bytes: 1 << 20,
                bounds: Aabb {
                    low: [-1.0; 3],
                    high: [1.0; 3],
                },
                shows: vec![Show::Color, Show::Depth],
                training: true,
            })));
            let mut window = Self {
                context: egui::Context::default(),
                state,
                time: 0.0,
            };
            // Panels settle in their second frame.
            window.frame(Vec::new());
            window.frame(Vec::new());
            window.state.take_commands();
            window
        }

        /// Draw a frame 0.02 s later; return the commands for the engine.
        fn frame(&mut self, events: Vec<egui::Event>) -> Vec<Command> {
            self.time += 0.02;
            let size = egui::vec2(800.0, 600.0);
            let input = egui::RawInput {
                screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, size)),
                time: Some(self.time),
                focused: true,
                events,
                ..Default::default()
            };
            let state = &mut self.state;
            let mut output = self.context.run_ui(input, |ui| state.ui(ui));
            output.textures_delta.clear();
            self.state.take_commands()
        }

        fn press(&mut self, key: egui::Key) -> Vec<Command> {
            let event = |pressed| egui::Event::Key {
                key,
                physical_key: None,
                pressed,
                repeat: false,
                modifiers: egui::Modifiers::NONE,
            };
            self.frame(vec![event(true), event(false)])
        }
    }

    fn view_requests(commands: &[Command]) -> Vec<&ViewRequest> {
        let mut all = Vec::new();
        for command in commands {
            if let Command::Look(looking) = command {
                all.push(looking.as_ref());
            }
        }
        all
    }

    #[test]
    fn it_starts_at_the_first_camera_and_requests_the_view_once() {
        let mut window = Window::new();
        assert_eq!(window.state.at_camera, Some(0));
        assert!(window.frame(Vec::new()).is_empty());
        // The photograph's aspect ratio, as large as fits.
        let (camera, _) = window.state.camera().unwrap();
        assert_eq!(camera.width, camera.height);
        assert_eq!(
            camera.height,
            window.state.canvas.pixels[1].min(window.state.canvas.pixels[0])
        );
    }

    #[test]
    fn a_drag_turns_the_camera_and_its_end_requests_a_resting_view() {
        let mut window = Window::new();
        let middle = window.state.canvas.rect.center();
        let button = |pressed, pos| egui::Event::PointerButton {
            pos,
            button: egui::PointerButton::Primary,
            pressed,
            modifiers: egui::Modifiers::NONE,
        };
        window.frame(vec![
            egui::Event::PointerMoved(middle),
            button(true, middle),
        ]);
        let there = middle + egui::vec2(60.0, 20.0);
        let mut commands = window.frame(vec![egui::Event::PointerMoved(there)]);
        commands.extend(window.frame(vec![button(false, there)]));
        let asked = view_requests(&commands);
        assert!(!asked.is_empty() && asked.iter().all(|l| l.moving));
        assert_eq!(window.state.at_camera, None);
        // The camera has come to rest.
        window.time += 1.0;
        let commands = window.frame(Vec::new());
        assert_eq!(view_requests(&commands).len(), 1);
        assert!(!view_requests(&commands)[0].moving);
        // Back to the first camera, exactly.
        let commands = window.press(egui::Key::R);
        let first = window.state.camera().unwrap().0;
        let expected = places(1)[0].camera.resized(first.width, first.height);
        assert_eq!(view_requests(&commands)[0].camera, expected);
    }

    #[test]
    fn keys_step_through_cameras_and_modes() {
        let mut window = Window::new();
        window.press(egui::Key::P);
        assert_eq!(window.state.at_camera, Some(4));
        window.press(egui::Key::N);
        window.press(egui::Key::N);
        assert_eq!(window.state.at_camera, Some(1));
        let commands = window.press(egui::Key::Num2);
        assert_eq!(view_requests(&commands)[0].shading.show, Show::Depth);
        // A mode that this run does not have is not selected.
        window.press(egui::Key::Num6);
        assert_eq!(window.state.show, Show::Depth);
    }

    #[test]
    fn training_pauses_steps_and_continues() {
        let mut window = Window::new();
        let trains = |commands: &[Command]| match commands {
            [Command::Train(training)] => Some(*training),
            _ => None,
        };
        let commands = window.press(egui::Key::Space);
        assert_eq!(trains(&commands), Some(Training::Pause));
        let commands = window.press(egui::Key::Period);
        assert_eq!(trains(&commands), Some(Training::Step));
        let commands = window.press(egui::Key::Space);
        assert_eq!(trains(&commands), Some(Training::Go));
        window.state.hear(Event::Ended("done".to_owned()));
        assert!(window.press(egui::Key::Space).is_empty());
    }

    #[test]
    fn errors_stay_until_they_are_closed_and_what_is_open_stays_too() {
        let mut window = Window::new();
        window
            .state
            .hear(Event::Failed("no such dataset".to_owned()));
        window.frame(Vec::new());
        assert_eq!(window.state.failed.as_deref(), Some("no such dataset"));
        assert!(window.state.log.iter().any(|l| l.is_error));
        assert!(window.state.opened.is_some());
        window.press(egui::Key::Escape);
        assert_eq!(window.state.failed, None);
    }

    fn learned(step: u32, seconds: f64) -> Learned {
        Learned {
            step,
            seconds,
            loss: 0.1,
            train_psnr: 20.0,
        }
    }

    #[test]
    fn curves_hold_each_reported_value_once() {
        let mut state = State::default();
        for step in 0..6000_u32 {
            let progress = Progress {
                step: step / 2,
                seconds: f64::from(step / 2) / 10.0,
                learned: Some(learned(step / 2, f64::from(step / 2) / 10.0)),
                held_out: Some(f64::from(step / 1000)),
                ..Progress::default()
            };
            state.hear(Event::Progress(progress));
        }
        let points = &state.loss.0;
        assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 4);
        assert!(points.windows(2).all(|p| p[0][0] < p[1][0]));
        assert!((points[points.len() - 1][0] - 299.9).abs() < 1e-9);
        assert_eq!(state.held_out.0.len(), 6);
        // A run that restarts draws its curve again.
        let again = Progress {
            step: 1,
            seconds: 5.0,
            learned: Some(learned(1, 5.0)),
            ..Progress::default()
        };
        state.hear(Event::Progress(again));
        assert!(state.loss.0.iter().all(|p| p[0] <= 5.0));
    }

    #[test]
    fn a_hidden_window_asks_for_nothing() {
        let mut window = Window::new();
        window.state.hidden = true;
        assert!(matches!(window.frame(Vec::new())[..], [Command::Hide]));
        assert!(window.frame(Vec::new()).is_empty());
        window.state.hidden = false;
        assert_eq!(view_requests(&window.frame(Vec::new())).len(), 1);
    }

    #[test]
    fn sizes_fit() {
        assert_eq!(fit([100, 50], [400, 400]), [400, 200]);
        assert_eq!(fit([50, 100], [400, 400]), [200, 400]);
        assert_eq!(fit([1, 1000], [10, 10]), [1, 10]);
    }
}
