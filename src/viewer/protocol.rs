//! What the window and the engine say to each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::camera::Camera;
use crate::gpu::Gpu;
use crate::render::{Shading, Show};

/// What the window asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Show this, from now on.
    Look(Box<Looking>),
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
    Open(PathBuf),
    /// Make the built-in scene and train on it.
    Demo,
    /// The window is closing.
    Quit,
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

/// What is to be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Looking {
    /// From where, at the full size of the picture.
    pub camera: Camera,
    /// Where rays begin and end, if the dataset says.
    pub near_far: Option<[f32; 2]>,
    /// What of it.
    pub shading: Shading,
    /// Whether the camera is being moved.
    pub moving: bool,
    /// When it was asked for, in seconds of the window's life.
    pub asked: f64,
}

impl Looking {
    /// Whether pictures of both are the same.
    #[must_use]
    pub fn shows_as(&self, other: &Self) -> bool {
        self.camera == other.camera
            && self.near_far == other.near_far
            && self.shading == other.shading
    }
}

/// What the engine tells.
#[derive(Debug)]
pub enum Event {
    /// The device that everything happens on from now on.
    Device(Arc<Gpu>),
    /// What was opened.
    Opened(Box<Opened>),
    /// What is being done that takes a while.
    Doing(String),
    /// A line that a terminal would show.
    Note(String),
    /// An error, after which nothing is open.
    Failed(String),
    /// How training goes.
    Progress(Progress),
    /// Training has ended; whether it can go on.
    Ended(String),
    /// A picture is done.
    Shot(Shot),
    /// The engine has ended.
    Gone,
}

/// A dataset or a run, opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What to call it.
    pub title: String,
    /// Its method.
    pub method: String,
    /// All cameras with their images' names; those of training first.
    pub cameras: Vec<(String, Camera, Option<[f32; 2]>)>,
    /// How many of them are trained on.
    pub n_train: usize,
    /// Corners of the scene's box in world units.
    pub corners: [[f64; 3]; 2],
    /// What can be shown.
    pub shows: Vec<Show>,
    /// Whether it is being trained.
    pub training: bool,
}

/// How training goes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Steps.
    pub step: u32,
    /// Seconds of training.
    pub seconds: f64,
    /// Loss of the training rays.
    pub loss: f32,
    /// Their PSNR in dB.
    pub train_psnr: f32,
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

/// A picture on the device.
#[derive(Debug, Clone)]
pub struct Shot {
    pub(crate) texture: wgpu::Texture,
    /// Pixels of the texture that it fills.
    pub size: [u32; 2],
    /// What it shows.
    pub looking: Looking,
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
