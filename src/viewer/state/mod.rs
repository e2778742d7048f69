//! State of the window. `panels` and `canvas` draw it; nothing here needs a window or a device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Navigation;
use super::path_editor::PathEditor;
use super::photo_loader::PhotoRequest;
use super::protocol::{
    Command, Event, ExportJob, Floaters, OpenChoice, Opened, Photo, Progress, RenderedView,
    TrainingEnd, TrainingMode, ViewRequest, Viewpoint,
};
use super::recent::Recent;
use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::config::Background;
use crate::dataset::is_without_poses;
use crate::eval::EvalReport;
use crate::render::RenderMode;
use crate::{camera_path, files};
use images::Textures;

/// The default background of the window.
pub(super) const WHITE: Background = Background::Fixed([1.0; 3]);
/// Maximum number of points of a curve; older points are thinned out.
const MAX_POINTS: usize = 2000;
/// Maximum number of latencies that are kept.
const MAX_LATENCIES: usize = 300;
/// Maximum number of lines of the log.
const MAX_LINES: usize = 500;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub is_error: bool,
}

/// A question to the user before something is lost, or takes long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether to overwrite this file with the camera path.
    Overwrite(PathBuf),
    /// Whether to save the camera path before the window closes.
    SaveBeforeClosing,
    /// Whether to make a dataset of this video or folder of photographs.
    Prepare(PathBuf),
}

/// How the rendered view is compared with the photograph from the same camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Off,
    /// Side by side.
    Side,
    /// One on top of the other, split at a movable line.
    Wipe,
    /// The difference of each pixel, as an error map.
    Error,
}

/// Values over training time: `[seconds, value]`, in order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve(pub Vec<[f64; 2]>);

impl Curve {
    fn push(&mut self, seconds: f64, value: f64) {
        // After a resume or restart, drop the points at later times.
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

/// The area for the rendered view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Canvas {
    /// Size in screen pixels.
    pub pixels: [u32; 2],
    /// Rectangle in points.
    pub rect: egui::Rect,
}

impl Default for Canvas {
    fn default() -> Self {
        Self {
            pixels: [0; 2],
            rect: egui::Rect::ZERO,
        }
    }
}

/// A handle over the view that can be dragged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DragHandle {
    /// The line between view and photograph.
    Wipe,
    /// A face of the crop box: its axis, and whether it is the upper one.
    Face(usize, bool),
    /// A key frame.
    Key(usize),
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
    pub show: RenderMode,
    pub background: Background,
    pub crop: Option<Aabb>,
    /// Whether to open the section of the crop box.
    pub opens_crop: bool,
    pub compare: Compare,
    /// Position of the line of [`Compare::Wipe`], as a fraction of the view's width.
    pub wipe: f32,
    pub path_editor: PathEditor,
    /// Width and height of screenshots, in pixels; those of the view if `None`.
    pub screenshot_size: Option<[u32; 2]>,
    pub progress: Option<Progress>,
    /// Occupied fraction of the occupancy grid.
    pub occupied: Option<f64>,
    /// Floaters, while the occupancy grid is shown.
    pub floaters: Option<Floaters>,
    pub loss: Curve,
    pub train_psnr: Curve,
    pub held_out: Curve,
    pub log: Vec<Line>,
    /// The long task that is running, and the fraction that is done, if known.
    pub doing: Option<(String, Option<f32>)>,
    /// The question that the user is asked.
    pub question: Option<Question>,
    /// The last error, until it is dismissed or something is opened.
    pub failed: Option<String>,
    pub training: TrainingMode,
    /// Training is over and the final evaluation is running.
    pub ending: bool,
    pub ended: Option<TrainingEnd>,
    /// Keys that were pressed with Ctrl and are still held.
    pub shortcuts: std::collections::HashSet<egui::Key>,
    /// The last evaluation of the open run.
    pub evaluation: Option<EvalReport>,
    pub share: f64,
    /// Factor on the flight speed.
    pub speed: f64,
    /// Distances at the ends of the colours of depth, in world units; they follow the pivot if `None`.
    pub depth_range: Option<[f32; 2]>,
    pub show_cameras: bool,
    pub show_box: bool,
    pub show_points: bool,
    pub show_help: bool,
    pub path_to_open: String,
    /// Whether the user asks for the system's dialog for folders.
    pub browses: bool,
    pub recent: Recent,
    /// The method that datasets are trained with; the device's default if `None`.
    pub method: Option<String>,
    pub devices: Vec<String>,
    pub device: Option<usize>,
    pub canvas: Canvas,
    /// The handle that the user is dragging.
    pub grip: Option<DragHandle>,
    pub hidden: bool,
    /// The window is waiting for the engine to save and stop.
    pub closing: bool,
    /// Path of the run or dataset that was open before.
    previous: Option<PathBuf>,
    photo: Option<Arc<Photo>>,
    thumbnails: HashMap<usize, Arc<Photo>>,
    textures: Textures,
    /// Number of datasets opened so far; identifies which dataset an arriving photograph belongs to.
    dataset_id: u32,
    wanted: Vec<PhotoRequest>,
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
    /// Time of the request for the newest view on the screen, in seconds since the window opened.
    answered: f64,
    /// Latest latency, from requesting a new view to painting it, in seconds.
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
            show: RenderMode::Color,
            background: WHITE,
            crop: None,
            opens_crop: false,
            compare: Compare::Off,
            wipe: 0.5,
            path_editor: PathEditor::default(),
            screenshot_size: None,
            progress: None,
            occupied: None,
            floaters: None,
            loss: Curve::default(),
            train_psnr: Curve::default(),
            held_out: Curve::default(),
            log: Vec::new(),
            doing: None,
            question: None,
            failed: None,
            training: TrainingMode::Run,
            ending: false,
            ended: None,
            shortcuts: std::collections::HashSet::new(),
            evaluation: None,
            share: 0.75,
            speed: 1.0,
            depth_range: None,
            show_cameras: false,
            show_box: false,
            show_points: false,
            show_help: false,
            path_to_open: String::new(),
            browses: false,
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
            dataset_id: 0,
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
    pub fn handle_event(&mut self, event: Event) {
        match event {
            Event::Opened(opened) => self.open(*opened),
            Event::Doing(what, share) => self.doing = Some((what, share)),
            Event::Done => self.doing = None,
            Event::Note(text) => self.add_message(text, false),
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
            Event::Occupied(share, floaters) => {
                self.occupied = Some(share);
                self.floaters = floaters;
            }
            Event::Ending => self.ending = true,
            Event::Closed => self.closed(),
            Event::Ended(ending) => {
                self.training = TrainingMode::Pause;
                self.doing = None;
                self.add_message(ending.to_string(), false);
                self.ended = Some(ending);
            }
            Event::Evaluated(report) => {
                self.doing = None;
                self.evaluation = Some(*report);
            }
            Event::Picked(Some(point)) => {
                if let Some(view) = &mut self.view {
                    view.set_pivot(point.into());
                    self.at_camera = None;
                }
            }
            Event::RenderedView(rendered) => {
                self.rendered = Some(*rendered);
                self.rendered_is_new = true;
            }
            Event::Devices(devices, used) => (self.devices, self.device) = (devices, used),
            Event::Picked(None) | Event::Device(_) | Event::Gone => {}
        }
    }

    fn open(&mut self, opened: Opened) {
        let cameras: Vec<Camera> = opened.viewpoints.iter().map(|p| p.camera).collect();
        let trained = &cameras[..opened.n_train.min(cameras.len())];
        // After a change of device the same path is opened again: keep the view and the curves.
        if self.previous.take().as_ref() != Some(&opened.path) {
            self.view = cameras.first().map(|c| Navigation::new(c, trained));
            self.at_camera = (!cameras.is_empty()).then_some(0);
            self.last_camera = 0;
            (self.crop, self.depth_range) = (None, None);
            self.path_editor = PathEditor::default();
            let history = opened.history.clone();
            self.loss = Curve(history.loss);
            self.train_psnr = Curve(history.train_psnr);
            self.held_out = Curve(history.held_out);
        }
        if !opened.shows.contains(&self.show) {
            self.show = RenderMode::Color;
        }
        self.crop = self.crop.filter(|_| opened.can_crop);
        self.title = Some(format!("kiln · {} · {}", opened.title, opened.method));
        (self.progress, self.ended, self.failed, self.doing) = (None, None, None, None);
        self.ending = false;
        self.evaluation.clone_from(&opened.evaluation);
        (self.occupied, self.floaters) = (None, None);
        self.training = TrainingMode::Run;
        self.recent.add(&opened.path);
        self.opened = Some(opened);
        self.requested = None;
        self.dataset_id += 1;
        (self.photo, self.requested_photo) = (None, None);
        self.thumbnails.clear();
        self.requested_thumbnails = false;
        self.textures = Textures::default();
    }

    /// Close the run or dataset, and keep its path in case it is opened again.
    fn closed(&mut self) {
        self.previous = self.opened.take().map(|opened| opened.path);
        self.forget_picture();
        (self.progress, self.doing, self.grip) = (None, None, None);
        self.path_editor.plays = false;
    }

    /// Add a line to the log.
    pub fn add_message(&mut self, text: String, is_error: bool) {
        self.log.push(Line { text, is_error });
        let more = self.log.len().saturating_sub(MAX_LINES);
        self.log.drain(..more);
    }

    /// Show an error and log it.
    pub fn fail(&mut self, text: String) {
        self.add_message(format!("error: {text}"), true);
        self.failed = Some(text);
    }

    /// Follow the camera path while it plays.
    pub(super) fn play(&mut self, context: &egui::Context) {
        let (now, seconds) = context.input(|i| (i.time, f64::from(i.stable_dt)));
        let size = self.canvas.pixels.map(|n| n.max(1));
        let Some(camera) = self.path_editor.play(seconds, size) else {
            return;
        };
        self.stand_at(&camera, now);
        context.request_repaint();
    }

    /// Move to the pose of `camera`.
    pub fn stand_at(&mut self, camera: &Camera, now: f64) {
        if let Some(view) = &mut self.view {
            view.set_pose(camera);
            self.moved(now);
        }
    }

    /// Return whether a training is running or paused.
    pub fn is_training(&self) -> bool {
        self.ended.is_none() && !self.ending && self.opened.as_ref().is_some_and(|o| o.training)
    }

    /// Remember the keys that were pressed with Ctrl, which do not fly until they are released.
    pub fn note_shortcuts(&mut self, context: &egui::Context) {
        context.input(|i| {
            for event in &i.events {
                if let egui::Event::Key {
                    key,
                    pressed,
                    modifiers,
                    ..
                } = event
                {
                    if !pressed {
                        self.shortcuts.remove(key);
                    } else if modifiers.command {
                        self.shortcuts.insert(*key);
                    }
                }
            }
        });
    }

    /// Return in a few words how far training is, or how it ended.
    pub fn training_status(&self) -> String {
        let p = self.progress.unwrap_or_default();
        match self.ended {
            Some(ending) => ending.to_string(),
            None if self.ending => "evaluating".to_owned(),
            None if p.paused => "paused".to_owned(),
            None => format!("{:.0} s left", p.left),
        }
    }

    /// Return whether a run is open that is not being trained, and nothing else is being done.
    pub fn can_go_on(&self) -> bool {
        let is_idle = self.doing.is_none() && !self.is_training();
        let is_over = self.ended.is_some() || self.opened.as_ref().is_some_and(|o| !o.training);
        self.opened.is_some() && is_idle && is_over
    }

    /// Train the open run for `seconds` more.
    pub fn continue_training(&mut self, seconds: f64) {
        self.start("opening the run", |run| Command::Continue(run, seconds));
    }

    /// Distil the open run.
    pub fn distill(&mut self) {
        self.start("opening the run", Command::Distill);
    }

    /// Open a copy of the open run without what lies outside the crop box.
    pub fn remove_outside(&mut self) {
        if let Some(crop) = self.crop {
            self.start("removing what is outside", |run| {
                Command::RemoveOutside(run, crop)
            });
        }
    }

    /// Evaluate the test views of the open run.
    pub fn evaluate(&mut self) {
        self.start("evaluating", |run| {
            Command::Render(Box::new(ExportJob::Evaluation(run)))
        });
    }

    /// Send a command for the open run, if [`Self::can_go_on`].
    fn start(&mut self, doing: &str, command: impl FnOnce(PathBuf) -> Command) {
        let path = self.opened.as_ref().map(|opened| opened.path.clone());
        if let Some(path) = path.filter(|_| self.can_go_on()) {
            self.doing = Some((doing.to_owned(), None));
            self.send(command(path));
        }
    }

    /// Find the point that the view shows at (`x`, `y`), in pixels, and make it the pivot.
    pub fn pick(&mut self, [x, y]: [u32; 2]) {
        if let Some((camera, near_far)) = self.camera() {
            self.send(Command::Render(Box::new(ExportJob::Pick {
                camera: camera.cropped([x, y], [1, 1]),
                near_far,
                crop: self.crop,
            })));
        }
    }

    /// Return the distances at the ends of the colours of depth, in world units.
    pub fn depth_range(&self) -> [f32; 2] {
        let distance = self.view.map_or(1.0, |view| view.distance()) as f32;
        self.depth_range.unwrap_or([0.6 * distance, 1.8 * distance])
    }

    /// Queue a command for the engine.
    pub fn send(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Close the window, or first ask about an unsaved camera path.
    pub fn close(&mut self) {
        if self.path_is_unsaved() && !self.closing {
            self.question = Some(Question::SaveBeforeClosing);
        } else {
            self.wants_close = true;
        }
    }

    /// Close the window without saving the camera path.
    pub fn close_anyway(&mut self) {
        self.question = None;
        self.wants_close = true;
    }

    /// Whether the camera path, with its crop box, has changes that are not saved.
    pub fn path_is_unsaved(&self) -> bool {
        let editor = &self.path_editor;
        let has_path = !editor.draft.keys().is_empty();
        has_path && (editor.is_changed || editor.draft.crop != self.crop)
    }

    pub fn take_close(&mut self) -> bool {
        std::mem::take(&mut self.wants_close)
    }

    pub fn take_title(&mut self) -> Option<String> {
        self.title.take()
    }

    /// Return the PSNR (dB) of the rendered view against the photograph that it is compared with.
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
            .and_then(|opened| opened.viewpoints.get(index));
        if let (Some(place), Some(view)) = (place, &mut self.view) {
            view.set_pose(&place.camera);
            self.at_camera = Some(index);
            self.last_camera = index;
            self.path_editor.plays = false;
        }
    }

    /// Return the dataset viewpoint that the view is at.
    pub fn viewpoint(&self) -> Option<&Viewpoint> {
        self.opened.as_ref()?.viewpoints.get(self.at_camera?)
    }

    /// Return how the view is compared with the photograph from the same camera, or [`Compare::Off`] if there is none.
    pub fn compares(&self) -> Compare {
        let has_photo = self.viewpoint().is_some_and(|p| p.frame.is_some());
        if has_photo {
            self.compare
        } else {
            Compare::Off
        }
    }

    /// Return the maximum width and height of the view, in pixels.
    pub fn room(&self) -> [u32; 2] {
        let [width, height] = self.canvas.pixels;
        match self.compares() {
            Compare::Side => [width / 2, height],
            Compare::Off | Compare::Wipe | Compare::Error => [width, height],
        }
    }

    /// Return the camera of the view, and the near and far bounds of its rays if known. At a dataset camera it is that camera,
    /// resized to fit the canvas, or at the photograph's size if the two are compared pixel by pixel.
    pub fn camera(&self) -> Option<(Camera, Option<[f32; 2]>)> {
        let [width, height] = self.room();
        if width == 0 || height == 0 {
            return None;
        }
        if let Some(place) = self.viewpoint() {
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

    /// Open a path that was dropped or typed: a camera path, a run or a dataset.
    pub fn open_path(&mut self, path: &Path) {
        self.failed = None;
        let text = path.extension().filter(|e| *e == "json");
        let text = text.and_then(|_| files::read_file(path, camera_path::MAX_BYTES).ok());
        if text.is_some_and(|t| String::from_utf8_lossy(&t).contains("\"key_frames\"")) {
            self.load_path(path);
            return;
        }
        if is_without_poses(path) && !crate::run::is_run(path) {
            self.question = Some(Question::Prepare(path.to_owned()));
            return;
        }
        self.doing = Some((format!("opening {}", path.display()), None));
        self.send(Command::Open(OpenChoice {
            path: path.to_owned(),
            method: self.method.clone(),
        }));
    }

    /// Make a dataset of a video or of photographs, and train on it.
    pub fn prepare(&mut self, path: &Path) {
        self.question = None;
        self.doing = Some((format!("preparing {}", path.display()), None));
        self.send(Command::Prepare(OpenChoice {
            path: path.to_owned(),
            method: self.method.clone(),
        }));
    }

    /// Load the camera path in `file`, and its crop box.
    pub fn load_path(&mut self, file: &Path) {
        match self.path_editor.open(file) {
            Ok(()) => {
                let can = self.opened.as_ref().is_none_or(|o| o.can_crop);
                self.crop = self.path_editor.draft.crop.filter(|_| can);
                self.add_message(format!("opened {}", file.display()), false);
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Make the built-in scene and train on it.
    pub fn open_demo(&mut self) {
        self.doing = Some(("making the built-in scene".to_owned(), None));
        self.send(Command::Demo(self.method.clone()));
    }

    /// Save the camera path with the crop box, or first ask whether to overwrite a file that holds something else.
    pub fn save_path(&mut self) {
        match self.path_editor.overwritten() {
            Some(file) => self.question = Some(Question::Overwrite(file)),
            None => self.save_path_anyway(),
        }
    }

    /// Save the camera path with the crop box, even if its file exists.
    pub fn save_path_anyway(&mut self) {
        self.question = None;
        self.path_editor.draft.crop = self.crop;
        match self.path_editor.save() {
            Ok(file) => self.add_message(format!("saved {}", file.display()), false),
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Render the camera path to a file.
    pub fn render_path(&mut self) {
        self.path_editor.draft.crop = self.crop;
        let flight = &self.path_editor;
        let export = ExportJob::Path {
            path: flight.draft.clone(),
            to: PathBuf::from(flight.to.trim()),
            channel: flight.channel,
            per_side: flight.per_side,
            background: self.background.color(),
        };
        self.doing = Some(("rendering".to_owned(), Some(0.0)));
        self.send(Command::Render(Box::new(export)));
    }
}

/// Return the largest size within `room` that has the aspect ratio of `size`, at least one pixel.
pub(super) fn fit(size: [u32; 2], room: [u32; 2]) -> [u32; 2] {
    let ratio = |i: usize| f64::from(room[i]) / f64::from(size[i].max(1));
    let scale = ratio(0).min(ratio(1));
    [0, 1].map(|i| ((f64::from(size[i]) * scale).round() as u32).clamp(1, room[i].max(1)))
}

mod images;
#[cfg(test)]
mod tests;
