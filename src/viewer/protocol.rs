//! What the window and the engine say to each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::camera::Camera;
use crate::camera_path::Draft;
use crate::dataset::{Frame, Image};
use crate::gpu::Gpu;
use crate::render::{Channel, Crop, Shading};

/// What the window asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Show this, from now on.
    Look(Box<ViewRequest>),
    /// The last picture is on the screen.
    Painted,
    /// Show nothing: the window is hidden.
    Hide,
    /// Go on with training, or wait.
    Train(Training),
    /// Share of the device that training gets, 0 to 1.
    Share(f64),
    /// Save a checkpoint now.
    Save,
    /// End training where it is, saved.
    Stop,
    /// Open a dataset or a run.
    Open(Choice),
    /// Make the built-in scene and train on it by a method, if one is chosen.
    Demo(Option<String>),
    /// Go on, on the device that is listed there.
    Device(usize),
    /// Write something that is rendered.
    Render(Box<ExportJob>),
    /// Leave what takes a while.
    Cancel,
    /// The window is closing.
    Quit,
    /// Lose the device, for tests.
    LoseDevice,
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Of a dataset or a run.
    pub path: PathBuf,
    /// How to train on it, if it is a dataset and this is chosen.
    pub method: Option<String>,
}

/// Whether to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Training {
    /// On and on.
    Go,
    /// Not now.
    Pause,
    /// One step.
    Step,
}

/// Something to render and to write, while the window shows on and training waits.
#[derive(Debug, Clone)]
pub enum ExportJob {
    /// What is seen, as a PNG of its own, at the size of its camera.
    Screenshot {
        /// What is seen.
        looking: ViewRequest,
    },
    /// A path, as `kiln render` does.
    Path {
        /// The key frames.
        path: Draft,
        /// A folder, or a PNG, GIF or video.
        to: PathBuf,
        /// What of it.
        channel: Channel,
        /// Rays a pixel, per side.
        per_side: u32,
        /// What stands behind it.
        background: [f32; 3],
    },
}

/// A photograph of the dataset, at the size that it is trained and evaluated at.
#[derive(Debug)]
pub struct Photo {
    /// Which place it was taken at.
    pub place: usize,
    /// Its pixels.
    pub image: Image,
}

/// What is to be seen.
#[derive(Debug, Clone)]
pub struct ViewRequest {
    /// From where, at the full size of the picture.
    pub camera: Camera,
    /// Where rays begin and end, if the dataset says.
    pub near_far: Option<[f32; 2]>,
    /// What of it.
    pub shading: Shading,
    /// The part of the scene that is seen.
    pub crop: Option<Crop>,
    /// A photograph as large as the camera's picture: how far it is from that is shown instead.
    pub compared: Option<Arc<Photo>>,
    /// Whether the camera is being moved.
    pub moving: bool,
    /// When it was asked for, in seconds of the window's life.
    pub asked: f64,
}

impl ViewRequest {
    /// Whether pictures of both are the same.
    #[must_use]
    pub fn shows_as(&self, other: &Self) -> bool {
        let place = |looking: &Self| looking.compared.as_ref().map(|p| p.place);
        self.camera == other.camera
            && self.near_far == other.near_far
            && self.shading == other.shading
            && self.crop == other.crop
            && place(self) == place(other)
    }
}

/// What the engine tells.
#[derive(Debug)]
pub enum Event {
    /// The device that everything happens on from now on.
    Device(Arc<Gpu>),
    /// The devices there are, and the number of the one in use.
    Devices(Vec<String>, Option<usize>),
    /// What was opened.
    Opened(Box<Opened>),
    /// What is being done that takes a while, and the share that is done, if that is known.
    Doing(String, Option<f32>),
    /// That is over.
    Done,
    /// A line that a terminal would show.
    Note(String),
    /// Something that did not work.
    Failed(String),
    /// How training goes.
    Progress(Progress),
    /// Share of the occupancy grid that is occupied.
    Occupied(f64),
    /// Training is over; what it came to is found out.
    Ending,
    /// Training has ended; what it came to.
    Ended(String),
    /// What was open is no more.
    Closed,
    /// A picture is done.
    RenderedView(Box<RenderedView>),
    /// The engine has ended.
    Gone,
}

/// A dataset or a run, opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What to call it.
    pub title: String,
    /// Its folder.
    pub path: PathBuf,
    /// Its method.
    pub method: String,
    /// Where one can stand; those that are trained on first.
    pub places: Vec<Viewpoint>,
    /// How many of them are trained on.
    pub n_train: usize,
    /// Factor that photographs are shrunk by.
    pub downscale: u32,
    /// Whether colour is composited in linear light.
    pub linear: bool,
    /// Corners of the scene's box in world units.
    pub corners: [[f64; 3]; 2],
    /// What can be shown.
    pub shows: Vec<crate::render::Show>,
    /// Whether the scene can be cropped.
    pub can_crop: bool,
    /// Bytes on the device, reckoned.
    pub bytes: u64,
    /// Whether it is being trained.
    pub training: bool,
}

/// A place that the dataset looked from.
#[derive(Debug, Clone)]
pub struct Viewpoint {
    /// The image's name.
    pub name: String,
    /// Its camera.
    pub camera: Camera,
    /// Where rays begin and end, if the dataset says.
    pub near_far: Option<[f32; 2]>,
    /// The photograph, if there is one.
    pub frame: Option<Frame>,
}

/// How training goes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Steps.
    pub step: u32,
    /// Seconds of training.
    pub seconds: f64,
    /// What the trainer reported last, if it has.
    pub learned: Option<Learned>,
    /// PSNR of the held-out view, in dB.
    pub held_out: Option<f64>,
    /// Steps a second.
    pub steps_per_second: f64,
    /// Evaluated samples a second.
    pub samples_per_second: f64,
    /// Rays a second.
    pub rays_per_second: f64,
    /// Share that is done, 0 to 1.
    pub fraction: f64,
    /// Seconds that are left.
    pub left: f64,
    /// Whether it waits.
    pub paused: bool,
}

/// What the trainer reports now and then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// After which step.
    pub step: u32,
    /// After how many seconds of training.
    pub seconds: f64,
    /// Loss of the training rays.
    pub loss: f32,
    /// Their PSNR in dB.
    pub train_psnr: f32,
}

/// A picture on the device.
#[derive(Debug, Clone)]
pub struct RenderedView {
    pub(crate) texture: wgpu::Texture,
    /// Pixels of the texture that it fills.
    pub size: [u32; 2],
    /// What it shows.
    pub looking: ViewRequest,
    /// PSNR against the photograph that it is compared with, in dB, over 8-bit values; then it shows the error.
    pub psnr: Option<f64>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The engine's way to the window.
#[derive(Clone)]
pub struct Outbox {
    events: Sender<Event>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// Through `events`; `wake` makes the window look.
    #[must_use]
    pub fn new(events: Sender<Event>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { events, wake }
    }

    /// Tell the window, if it still listens.
    pub fn send(&self, event: Event) {
        if self.events.send(event).is_ok() {
            (self.wake)();
        }
    }
}
