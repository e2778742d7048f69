//! What the window knows and shows; `panels` and `canvas` draw it. Nothing here needs a window or a device.

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
use crate::camera::Camera;
use crate::camera_path::MAX_SIDE;
use crate::config::Background;
use crate::eval;
use crate::render::{Crop, Shading, Show};

/// Points of a curve at most; older ones are thinned out.
const MAX_POINTS: usize = 2000;
/// Measured latencies at most.
const MAX_LATENCIES: usize = 300;
/// Lines of the log at most.
const MAX_LINES: usize = 500;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub is_error: bool,
}

/// How what is rendered is compared with the photograph taken from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Off,
    /// One beside the other.
    Side,
    /// One over the other, up to a line.
    Wipe,
    /// How far they are apart.
    Error,
}

/// Values over seconds of training.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve(pub Vec<[f64; 2]>);

impl Curve {
    fn push(&mut self, seconds: f64, value: f64) {
        // A run that was resumed or rewound goes on where it is.
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

/// What is on egui's own textures: photographs.
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

/// What the window knows.
#[derive(Debug)]
pub(super) struct State {
    pub opened: Option<Opened>,
    pub view: Option<Navigation>,
    /// The camera of the dataset that one stands at, as long as one does not move.
    pub at_camera: Option<usize>,
    /// The last one that one stood at.
    pub last_camera: usize,
    pub show: Show,
    pub background: Background,
    pub crop: Option<Crop>,
    pub compare: Compare,
    /// Where the line of [`Compare::Wipe`] is, in shares of the picture's width.
    pub wipe: f32,
    pub flight: Flight,
    /// Sides of screenshots; the window's picture where they are left out.
    pub screenshot_size: Option<[u32; 2]>,
    pub progress: Option<Progress>,
    /// Share of the occupancy grid that is occupied.
    pub occupied: Option<f64>,
    pub loss: Curve,
    pub train_psnr: Curve,
    pub held_out: Curve,
    pub log: Vec<Line>,
    /// What takes a while, and the share that is done, if that is known.
    pub doing: Option<(String, Option<f32>)>,
    /// What went wrong last, until it is dismissed or something opens.
    pub failed: Option<String>,
    pub training: Training,
    /// Training is over, and evaluated.
    pub ending: bool,
    pub ended: Option<String>,
    pub share: f64,
    pub show_cameras: bool,
    pub show_box: bool,
    pub show_help: bool,
    pub path_to_open: String,
    pub recent: Recent,
    /// The method that datasets are trained by, if not what suits the device.
    pub method: Option<String>,
    pub devices: Vec<String>,
    pub device: Option<usize>,
    pub canvas: Canvas,
    /// What is being dragged over the picture.
    pub grip: Option<Grip>,
    pub hidden: bool,
    /// The window waits for its engine to save and end.
    pub closing: bool,
    /// What was open before.
    left: Option<PathBuf>,
    photo: Option<Arc<Photo>>,
    thumbnails: HashMap<usize, Arc<Photo>>,
    textures: Textures,
    /// Counts what was opened, to know whose photographs come.
    album: u32,
    wanted: Vec<Wanted>,
    /// Which photograph was asked for last.
    asked_photo: Option<usize>,
    asked_thumbnails: bool,
    shot: Option<RenderedView>,
    shot_is_new: bool,
    texture: Option<egui::TextureId>,
    /// When something last moved, in seconds of the window's life.
    moved_at: f64,
    told: Option<ViewRequest>,
    /// When what the last picture shows was asked for.
    answered: f64,
    /// Seconds from asking for something new to seeing it, of the last time.
    pub latency: Option<f64>,
    /// The last of these.
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
            left: None,
            photo: None,
            thumbnails: HashMap::new(),
            textures: Textures::default(),
            album: 0,
            wanted: Vec::new(),
            asked_photo: None,
            asked_thumbnails: false,
            shot: None,
            shot_is_new: false,
            texture: None,
            moved_at: f64::NEG_INFINITY,
            told: None,
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
    /// An empty window, of a person who opened these lately.
    pub fn new(recent: Recent) -> Self {
        Self {
            recent,
            ..Self::default()
        }
    }

    /// Take in what the engine says.
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
            Event::RenderedView(shot) => {
                self.shot = Some(*shot);
                self.shot_is_new = true;
            }
            Event::Devices(devices, used) => (self.devices, self.device) = (devices, used),
            Event::Device(_) | Event::Gone => {}
        }
    }

    fn open(&mut self, opened: Opened) {
        let cameras: Vec<Camera> = opened.places.iter().map(|p| p.camera).collect();
        let trained = &cameras[..opened.n_train.min(cameras.len())];
        // On another device it is the same still.
        if self.left.take().as_ref() != Some(&opened.path) {
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
        self.told = None;
        self.album += 1;
        (self.photo, self.asked_photo) = (None, None);
        self.thumbnails.clear();
        self.asked_thumbnails = false;
        self.textures = Textures::default();
    }

    /// What was open is no more, unless it is opened again.
    fn closed(&mut self) {
        self.left = self.opened.take().map(|opened| opened.path);
        self.forget_picture();
        (self.progress, self.doing, self.grip) = (None, None, None);
        self.flight.plays = false;
    }

    /// A line for the log.
    pub fn say(&mut self, text: String, is_error: bool) {
        self.log.push(Line { text, is_error });
        let more = self.log.len().saturating_sub(MAX_LINES);
        self.log.drain(..more);
    }

    /// Something did not work.
    pub fn fail(&mut self, text: String) {
        self.say(format!("error: {text}"), true);
        self.failed = Some(text);
    }

    /// Draw everything, and take in what was done.
    pub fn ui(&mut self, ui: &mut egui::Ui) {
        self.play(ui.ctx());
        panels::all(self, ui);
        self.want_photographs();
        self.tell(ui.ctx());
    }

    /// Follow the path, where it is played.
    fn play(&mut self, context: &egui::Context) {
        let (now, seconds) = context.input(|i| (i.time, f64::from(i.stable_dt)));
        let size = self.canvas.pixels.map(|n| n.max(1));
        let Some(camera) = self.flight.play(seconds, size) else {
            return;
        };
        self.stand_at(&camera, now);
        context.request_repaint();
    }

    /// Stand where `camera` does.
    pub fn stand_at(&mut self, camera: &Camera, now: f64) {
        if let Some(view) = &mut self.view {
            view.stand_at(camera);
            self.moved(now);
        }
    }

    /// Whether training is under way, or waits.
    pub fn is_training(&self) -> bool {
        self.ended.is_none() && !self.ending && self.opened.as_ref().is_some_and(|o| o.training)
    }

    /// Ask the engine for something.
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

    /// The picture is another device's, and so is what egui draws.
    pub fn forget_picture(&mut self) {
        (self.shot, self.texture, self.shot_is_new) = (None, None, false);
        self.textures = Textures::default();
        self.told = None;
    }

    /// Whether the picture is what is asked for, at its full size.
    pub fn is_sharp(&self) -> bool {
        let Some((shot, told)) = self.shot.as_ref().zip(self.told.as_ref()) else {
            return false;
        };
        let full = [told.camera.width, told.camera.height];
        shot.looking.shows_as(told) && shot.size == full && !told.moving
    }

    /// Whether there is a picture that has not been drawn yet.
    pub fn has_new_texture(&self) -> bool {
        self.shot_is_new
    }

    /// The texture of a picture that has not been drawn yet.
    pub fn new_texture(&mut self) -> Option<wgpu::Texture> {
        let is_new = std::mem::take(&mut self.shot_is_new);
        let shot = self.shot.as_ref().filter(|_| is_new)?;
        Some(shot.texture.clone())
    }

    pub fn set_texture_id(&mut self, id: Option<egui::TextureId>) {
        self.texture = id;
    }

    /// What to draw, and which part of the texture it is.
    pub fn picture(&self) -> Option<(egui::TextureId, egui::Rect, &RenderedView)> {
        let shot = self.shot.as_ref()?;
        let texture = shot.texture.size();
        let part = egui::pos2(
            shot.size[0] as f32 / texture.width as f32,
            shot.size[1] as f32 / texture.height as f32,
        );
        let rect = egui::Rect::from_min_max(egui::Pos2::ZERO, part);
        Some((self.texture?, rect, shot))
    }

    /// PSNR of the picture against the photograph that it is compared with.
    pub fn psnr(&self) -> Option<f64> {
        self.shot.as_ref()?.psnr
    }

    /// The camera has moved.
    pub fn moved(&mut self, now: f64) {
        self.moved_at = now;
        self.at_camera = None;
    }

    /// Something else that is drawn over and over has moved.
    pub fn changed(&mut self, now: f64) {
        self.moved_at = now;
    }

    /// Stand where camera `index` of the dataset does.
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

    /// The place of the dataset that one stands at.
    pub fn place(&self) -> Option<&Viewpoint> {
        self.opened.as_ref()?.places.get(self.at_camera?)
    }

    /// How it is compared with a photograph here: not at all, where there is none.
    pub fn compares(&self) -> Compare {
        let has_photo = self.place().is_some_and(|p| p.frame.is_some());
        if has_photo {
            self.compare
        } else {
            Compare::Off
        }
    }

    /// Pixels that the picture has room in.
    pub fn room(&self) -> [u32; 2] {
        let [width, height] = self.canvas.pixels;
        match self.compares() {
            Compare::Side => [width / 2, height],
            Compare::Off | Compare::Wipe | Compare::Error => [width, height],
        }
    }

    /// The camera of the picture: the dataset's own where one stands at it, at the size it is shown in; where it is compared
    /// pixel by pixel, at the photograph's.
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
        // Where a photograph's rays end says nothing of those from elsewhere.
        Some((self.view?.camera(width, height), None))
    }

    /// What is seen through `camera`.
    fn looking(&self, now: f64) -> Option<ViewRequest> {
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

    /// Tell the engine what is to be seen, where that has changed.
    fn tell(&mut self, context: &egui::Context) {
        let now = context.input(|i| i.time);
        if now - self.moved_at < STILL {
            let rest = STILL - (now - self.moved_at);
            context.request_repaint_after_secs(rest as f32 + 0.01);
        }
        let Some(looking) = self.looking(now) else {
            return;
        };
        if self.hidden {
            if self.told.take().is_some() {
                self.ask(Command::Hide);
            }
            return;
        }
        let told = self.told.as_ref().filter(|told| told.shows_as(&looking));
        // That it rests now is news too, of what was asked for before.
        let looking = ViewRequest {
            asked: told.map_or(now, |told| told.asked),
            ..looking
        };
        if told.is_none_or(|told| told.moving != looking.moving) {
            self.told = Some(looking.clone());
            self.ask(Command::Look(Box::new(looking)));
        }
    }

    /// What was drawn is on the screen at `now`: how long the picture that has come was waited for.
    pub fn painted(&mut self, now: f64) {
        let drawn = self.shot.as_ref().filter(|_| !self.shot_is_new);
        let asked = drawn.map(|shot| shot.looking.asked);
        // Later pictures of the same are sharper, not sooner.
        if let Some(asked) = asked.filter(|asked| *asked > self.answered) {
            self.answered = asked;
            self.latency = Some(now - asked);
            self.latencies.push(now - asked);
            let more = self.latencies.len().saturating_sub(MAX_LATENCIES);
            self.latencies.drain(..more);
        }
    }

    /// Ask for the photographs that are to be seen.
    fn want_photographs(&mut self) {
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
        if self.compare != Compare::Off && self.asked_photo != self.at_camera {
            self.asked_photo = self.at_camera;
            let here = self
                .at_camera
                .and_then(|i| opened.places.get(i).map(|p| (i, p)));
            let one = here.and_then(|(i, p)| wanted(i, p, Some(opened.downscale)));
            self.wanted.extend(one);
        }
        if self.show_cameras && !self.asked_thumbnails {
            self.asked_thumbnails = true;
            let all = opened.places.iter().enumerate();
            let all: Vec<Wanted> = all.filter_map(|(i, p)| wanted(i, p, None)).collect();
            self.wanted.extend(all);
        }
    }

    pub fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.wanted)
    }

    /// A photograph was read.
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

    /// The photograph of where one stands, to be drawn.
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

    /// The thumbnail of place `index`, to be drawn.
    pub fn thumbnail(&mut self, context: &egui::Context, index: usize) -> Option<egui::TextureId> {
        let linear = self.opened.as_ref()?.linear;
        let photo = self.thumbnails.get(&index)?;
        let textures = &mut self.textures.thumbnails;
        let texture = textures
            .entry(index)
            .or_insert_with(|| texture_of(context, photo, linear, panels::WHITE));
        Some(texture.id())
    }

    /// Open what was dropped or named: a path of key frames, a run or a dataset.
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

    /// Take the path of `file`, and what it crops.
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

    /// Make the built-in scene, and train on it.
    pub fn open_demo(&mut self) {
        self.doing = Some(("making the built-in scene".to_owned(), None));
        self.ask(Command::Demo(self.method.clone()));
    }

    /// Keep the path, and what is cropped.
    pub fn save_path(&mut self) {
        self.flight.draft.crop = self.crop;
        match self.flight.save() {
            Ok(file) => self.say(format!("saved {}", file.display()), false),
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Render the path to a file.
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

    /// The size of a screenshot: what was chosen, or the picture's.
    pub fn size_of_screenshot(&self) -> Option<[u32; 2]> {
        let (camera, _) = self.camera()?;
        Some(
            self.screenshot_size
                .unwrap_or([camera.width, camera.height]),
        )
    }

    /// Write what is seen to a PNG beside the others.
    pub fn screenshot(&mut self, now: f64) {
        let (Some(looking), Some([width, height])) = (self.looking(now), self.size_of_screenshot())
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

/// `photo` over `background`, for egui.
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

/// The largest size of the shape of `size` within `room`, one pixel at least.
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

    /// A window of 800×600 points that has opened a training of five cameras, of which four are trained on.
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
                corners: [[-1.0; 3], [1.0; 3]],
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

        /// Draw a frame a little later; what the engine was asked for.
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

    fn looks(commands: &[Command]) -> Vec<&ViewRequest> {
        let mut all = Vec::new();
        for command in commands {
            if let Command::Look(looking) = command {
                all.push(looking.as_ref());
            }
        }
        all
    }

    #[test]
    fn it_begins_at_the_first_camera_and_asks_for_a_picture_once() {
        let mut window = Window::new();
        assert_eq!(window.state.at_camera, Some(0));
        assert!(window.frame(Vec::new()).is_empty());
        // The photograph's shape, as large as fits.
        let (camera, _) = window.state.camera().unwrap();
        assert_eq!(camera.width, camera.height);
        assert_eq!(
            camera.height,
            window.state.canvas.pixels[1].min(window.state.canvas.pixels[0])
        );
    }

    #[test]
    fn a_drag_turns_the_camera_and_its_end_is_told() {
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
        let asked = looks(&commands);
        assert!(!asked.is_empty() && asked.iter().all(|l| l.moving));
        assert_eq!(window.state.at_camera, None);
        // Nothing moves any more.
        window.time += 1.0;
        let commands = window.frame(Vec::new());
        assert_eq!(looks(&commands).len(), 1);
        assert!(!looks(&commands)[0].moving);
        // Back to the first camera, exactly.
        let commands = window.press(egui::Key::R);
        let first = window.state.camera().unwrap().0;
        let expected = places(1)[0].camera.resized(first.width, first.height);
        assert_eq!(looks(&commands)[0].camera, expected);
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
        assert_eq!(looks(&commands)[0].shading.show, Show::Depth);
        // What this run has not is not shown.
        window.press(egui::Key::Num6);
        assert_eq!(window.state.show, Show::Depth);
    }

    #[test]
    fn training_pauses_steps_and_goes_on() {
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
    fn curves_hold_what_was_told_once() {
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
        // A run that begins again draws its curve again.
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
        assert_eq!(looks(&window.frame(Vec::new())).len(), 1);
    }

    #[test]
    fn sizes_fit() {
        assert_eq!(fit([100, 50], [400, 400]), [400, 200]);
        assert_eq!(fit([50, 100], [400, 400]), [200, 400]);
        assert_eq!(fit([1, 1000], [10, 10]), [1, 10]);
    }
}
