//! What the window knows and shows; `panels` and `canvas` draw it. Nothing here needs a window or a device.

use std::path::PathBuf;

use super::canvas::Canvas;
use super::pace::STILL;
use super::protocol::{Command, Event, Looking, Opened, Progress, Shot, Training};
use super::{Navigation, panels};
use crate::camera::Camera;
use crate::config::Background;
use crate::render::{Shading, Show};

/// Points of a curve at most; older ones are thinned out.
const MOST_POINTS: usize = 2000;
/// Lines of the log at most.
const MOST_LINES: usize = 500;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub is_error: bool,
}

/// Values over seconds of training.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve(pub Vec<[f64; 2]>);

impl Curve {
    fn push(&mut self, seconds: f64, value: f64) {
        // A run that was resumed or rewound goes on where it is.
        self.0.retain(|p| p[0] < seconds);
        self.0.push([seconds, value]);
        if self.0.len() > MOST_POINTS {
            let mut index = 0;
            let last = self.0.len() - 1;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1 || index > last
            });
        }
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
    pub progress: Option<Progress>,
    pub loss: Curve,
    pub train_psnr: Curve,
    pub held_out: Curve,
    pub log: Vec<Line>,
    /// What takes a while.
    pub doing: Option<String>,
    /// What went wrong last, until it is dismissed or something opens.
    pub failed: Option<String>,
    pub training: Training,
    pub ended: Option<String>,
    pub share: f64,
    pub show_cameras: bool,
    pub show_box: bool,
    pub show_help: bool,
    pub path_to_open: String,
    pub canvas: Canvas,
    pub hidden: bool,
    /// The window waits for its engine to save and end.
    pub closing: bool,
    shot: Option<Shot>,
    shot_is_new: bool,
    texture: Option<egui::TextureId>,
    /// When something last moved, in seconds of the window's life.
    moved_at: f64,
    told: Option<Looking>,
    /// When what the last picture shows was asked for.
    answered: f64,
    /// Seconds from asking for something new to seeing it, of the last time.
    pub latency: Option<f64>,
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
            progress: None,
            loss: Curve::default(),
            train_psnr: Curve::default(),
            held_out: Curve::default(),
            log: Vec::new(),
            doing: None,
            failed: None,
            training: Training::Go,
            ended: None,
            share: 0.75,
            show_cameras: false,
            show_box: false,
            show_help: false,
            path_to_open: String::new(),
            canvas: Canvas::default(),
            hidden: false,
            closing: false,
            shot: None,
            shot_is_new: false,
            texture: None,
            moved_at: f64::NEG_INFINITY,
            told: None,
            answered: f64::NEG_INFINITY,
            latency: None,
            commands: Vec::new(),
            wants_close: false,
            title: None,
        }
    }
}

impl State {
    /// Take in what the engine says.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Opened(opened) => self.open(*opened),
            Event::Doing(what) => self.doing = Some(what),
            Event::Note(text) => self.say(text, false),
            Event::Failed(text) => {
                self.doing = None;
                self.failed = Some(text.clone());
                self.say(format!("error: {text}"), true);
            }
            Event::Progress(progress) => {
                self.doing = None;
                let is_new = self.progress.is_none_or(|p| p.step != progress.step);
                if is_new && progress.step > 0 {
                    self.loss.push(progress.seconds, f64::from(progress.loss));
                    let psnr = f64::from(progress.train_psnr);
                    self.train_psnr.push(progress.seconds, psnr);
                }
                if let Some(psnr) = progress.held_out
                    && self.progress.and_then(|p| p.held_out) != Some(psnr)
                {
                    self.held_out.push(progress.seconds, psnr);
                }
                self.progress = Some(progress);
            }
            Event::Ended(text) => {
                self.training = Training::Pause;
                self.doing = None;
                self.say(text.clone(), false);
                self.ended = Some(text);
            }
            Event::Shot(shot) => {
                self.doing = None;
                self.shot = Some(shot);
                self.shot_is_new = true;
            }
            Event::Device(_) | Event::Gone => {}
        }
    }

    fn open(&mut self, opened: Opened) {
        let cameras: Vec<Camera> = opened.cameras.iter().map(|c| c.1).collect();
        let trained = &cameras[..opened.n_train.min(cameras.len())];
        let first = opened.cameras.first();
        self.view = first.map(|(_, camera, _)| Navigation::new(camera, trained));
        self.at_camera = first.map(|_| 0);
        if !opened.shows.contains(&self.show) {
            self.show = Show::Color;
        }
        self.title = Some(format!("kiln · {} · {}", opened.title, opened.method));
        (self.loss, self.train_psnr, self.held_out) = Default::default();
        (self.progress, self.ended, self.failed, self.doing) = (None, None, None, None);
        self.training = Training::Go;
        self.opened = Some(opened);
        self.told = None;
    }

    fn say(&mut self, text: String, is_error: bool) {
        self.log.push(Line { text, is_error });
        let more = self.log.len().saturating_sub(MOST_LINES);
        self.log.drain(..more);
    }

    /// Draw everything, and take in what was done.
    pub fn ui(&mut self, ui: &mut egui::Ui) {
        panels::all(self, ui);
        self.tell(ui.ctx());
    }

    /// Whether training is under way, or waits.
    pub fn is_training(&self) -> bool {
        self.ended.is_none() && self.opened.as_ref().is_some_and(|o| o.training)
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

    /// The picture is another device's.
    pub fn forget_picture(&mut self) {
        (self.shot, self.texture, self.shot_is_new) = (None, None, false);
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
    pub fn picture(&self) -> Option<(egui::TextureId, egui::Rect, &Shot)> {
        let shot = self.shot.as_ref()?;
        let texture = shot.texture.size();
        let part = egui::pos2(
            shot.size[0] as f32 / texture.width as f32,
            shot.size[1] as f32 / texture.height as f32,
        );
        let rect = egui::Rect::from_min_max(egui::Pos2::ZERO, part);
        Some((self.texture?, rect, shot))
    }

    /// The camera has moved.
    pub fn moved(&mut self, now: f64) {
        self.moved_at = now;
        self.at_camera = None;
    }

    /// Stand where camera `index` of the dataset does.
    pub fn go_to(&mut self, index: usize) {
        let camera = self
            .opened
            .as_ref()
            .and_then(|opened| opened.cameras.get(index));
        if let (Some((_, camera, _)), Some(view)) = (camera, &mut self.view) {
            view.stand_at(camera);
            self.at_camera = Some(index);
            self.last_camera = index;
        }
    }

    /// The camera of the picture: the dataset's own where one stands at it, at the size it is shown in.
    pub fn camera(&self) -> Option<(Camera, Option<[f32; 2]>)> {
        let [width, height] = self.canvas.pixels;
        if width == 0 || height == 0 {
            return None;
        }
        let at = self
            .at_camera
            .zip(self.opened.as_ref())
            .and_then(|(index, opened)| opened.cameras.get(index));
        if let Some((_, camera, near_far)) = at {
            let [w, h] = fit([camera.width, camera.height], [width, height]);
            return Some((camera.resized(w, h), *near_far));
        }
        let near_far = self
            .opened
            .as_ref()
            .and_then(|o| o.cameras.first())
            .and_then(|c| c.2);
        Some((self.view?.camera(width, height), near_far))
    }

    /// Tell the engine what is to be seen, where that has changed.
    fn tell(&mut self, context: &egui::Context) {
        let now = context.input(|i| i.time);
        self.measure(now);
        let moving = now - self.moved_at < STILL;
        if moving {
            let rest = STILL - (now - self.moved_at);
            context.request_repaint_after_secs(rest as f32 + 0.01);
        }
        let Some(((camera, near_far), view)) = self.camera().zip(self.view) else {
            return;
        };
        if self.hidden {
            if self.told.take().is_some() {
                self.ask(Command::Hide);
            }
            return;
        }
        let distance = view.distance() as f32;
        let looking = Looking {
            camera,
            near_far,
            shading: Shading {
                show: self.show,
                background: self.background,
                depth_range: [0.6 * distance, 1.8 * distance],
                most_samples: 64.0,
                up: view.up().to_array().map(|v| v as f32),
            },
            moving,
            asked: now,
        };
        let told = self.told.as_ref().filter(|told| told.shows_as(&looking));
        // That it rests now is news too, of what was asked for before.
        let looking = Looking {
            asked: told.map_or(now, |told| told.asked),
            ..looking
        };
        if told.is_none_or(|told| told.moving != moving) {
            self.told = Some(looking.clone());
            self.ask(Command::Look(Box::new(looking)));
        }
    }

    /// How long the picture that has come was waited for.
    fn measure(&mut self, now: f64) {
        let asked = self.shot.as_ref().map(|shot| shot.looking.asked);
        // Later pictures of the same are sharper, not sooner.
        if let Some(asked) = asked.filter(|asked| *asked > self.answered) {
            self.answered = asked;
            self.latency = Some(now - asked);
        }
    }

    /// Open what was dropped or named.
    pub fn open_path(&mut self, path: PathBuf) {
        self.failed = None;
        self.doing = Some(format!("opening {}", path.display()));
        self.ask(Command::Open(path));
    }
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

    fn cameras(n: u8) -> Vec<(String, Camera, Option<[f32; 2]>)> {
        let stand = |i: u8| {
            let angle = f32::from(i);
            let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
            let camera = Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.8, 100, 100);
            (format!("view {i}"), camera, None)
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
                cameras: cameras(5),
                n_train: 4,
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

    fn looks(commands: &[Command]) -> Vec<&Looking> {
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
        let expected = cameras(1)[0].1.resized(first.width, first.height);
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

    #[test]
    fn curves_hold_what_was_told_once() {
        let mut state = State::default();
        for step in 0..6000_u32 {
            let progress = Progress {
                step: step / 2,
                seconds: f64::from(step / 2) / 10.0,
                loss: 0.1,
                train_psnr: 20.0,
                held_out: Some(f64::from(step / 1000)),
                ..Progress::default()
            };
            state.hear(Event::Progress(progress));
        }
        let points = &state.loss.0;
        assert!(points.len() <= MOST_POINTS && points.len() > MOST_POINTS / 4);
        assert!(points.windows(2).all(|p| p[0][0] < p[1][0]));
        assert!((points[points.len() - 1][0] - 299.9).abs() < 1e-9);
        assert_eq!(state.held_out.0.len(), 6);
        // A run that begins again draws its curve again.
        let again = Progress {
            step: 1,
            seconds: 5.0,
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
