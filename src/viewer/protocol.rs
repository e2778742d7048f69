//! Messages between the window and the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::camera_path::Draft;
use crate::dataset::{Frame, Image};
use crate::eval::EvalReport;
use crate::gpu::Gpu;
use crate::render::{Channel, Shading};
use crate::report::History;

/// A command of the window to the engine.
#[derive(Debug, Clone)]
pub enum Command {
    /// Render this view from now on.
    Look(Box<ViewRequest>),
    /// The last rendered view is on the screen.
    Painted,
    /// Render nothing: the window is hidden.
    Hide,
    /// Train, pause, or train one step.
    Train(TrainingMode),
    /// Set the share of device time for training, 0 to 1.
    Share(f64),
    /// Save a checkpoint now.
    Save,
    /// Save a checkpoint and end training.
    Stop,
    /// Open a dataset or a run.
    Open(OpenChoice),
    /// Make the built-in scene and train on it, with this method if one is chosen.
    Demo(Option<String>),
    /// Make a dataset of a video or of photographs, and train on it.
    Prepare(OpenChoice),
    /// Train the run in this folder for this many more seconds.
    Continue(PathBuf, f64),
    /// Distil the run in this folder into a grid of tiny networks, and train that.
    Distill(PathBuf),
    /// Write a copy of the run in this folder without what lies outside a box, and open it.
    RemoveOutside(PathBuf, Aabb),
    /// Continue on the device with this index.
    Device(usize),
    /// Render something to a file.
    Render(Box<ExportJob>),
    /// Cancel the long task that is running.
    Cancel,
    /// The window is closing.
    Quit,
    /// Lose the device, for tests.
    LoseDevice,
}

/// A choice of what to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenChoice {
    /// Path of a dataset or a run.
    pub path: PathBuf,
    /// Method for training on a dataset; the device's default if `None`.
    pub method: Option<String>,
}

/// Whether training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingMode {
    /// Train continuously.
    Run,
    /// Pause.
    Pause,
    /// Train one step, then pause.
    Step,
}

/// A task beside training, which pauses meanwhile; the window stays responsive.
#[derive(Debug, Clone)]
pub enum ExportJob {
    /// Evaluate the test views of the run in this folder.
    Evaluation(PathBuf),
    /// Find the point that a pixel shows.
    Pick {
        /// Camera whose only pixel it is.
        camera: Camera,
        /// Near and far bounds of the ray in world units, if the dataset has them.
        near_far: Option<[f32; 2]>,
        /// Box to render; everything if `None`.
        crop: Option<Aabb>,
    },
    /// A PNG file of a view, at the size of its camera.
    Screenshot {
        /// The view.
        request: ViewRequest,
    },
    /// A camera path, as in `kiln render`.
    Path {
        /// The key frames.
        path: Draft,
        /// A folder, or a PNG, GIF or video.
        to: PathBuf,
        /// Channel to render.
        channel: Channel,
        /// Square root of the number of rays per pixel.
        per_side: u32,
        /// Background colour, sRGB.
        background: [f32; 3],
    },
}

/// A photograph of the dataset, at the size that it is trained and evaluated at.
#[derive(Debug)]
pub struct Photo {
    /// Index of its viewpoint.
    pub viewpoint: usize,
    /// The image.
    pub image: Image,
}

/// A request for a rendered view.
#[derive(Debug, Clone)]
pub struct ViewRequest {
    /// Camera, at the full size of the view.
    pub camera: Camera,
    /// Near and far bounds of rays in world units, if the dataset has them.
    pub near_far: Option<[f32; 2]>,
    /// Render mode and its parameters.
    pub shading: Shading,
    /// Box to render; everything if `None`.
    pub crop: Option<Aabb>,
    /// Photograph of the camera's size; if given, the error against it is shown instead.
    pub compared: Option<Arc<Photo>>,
    /// Whether the view is moving.
    pub moving: bool,
    /// Time of the request, in seconds since the window opened.
    pub asked: f64,
}

impl ViewRequest {
    /// Return whether both requests show the same image.
    #[must_use]
    pub fn shows_as(&self, other: &Self) -> bool {
        let place = |request: &Self| request.compared.as_ref().map(|p| p.viewpoint);
        self.camera == other.camera
            && self.near_far == other.near_far
            && self.shading == other.shading
            && self.crop == other.crop
            && place(self) == place(other)
    }
}

/// How training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingEnd {
    /// A limit was reached, and the views were evaluated, if there are any.
    Done,
    /// A limit was reached after this step, and the evaluation was cancelled.
    NotEvaluated(u32),
    /// It was stopped after this step and saved.
    Stopped(u32),
    /// It was stopped after this step and could not be saved.
    NotSaved(u32),
}

impl std::fmt::Display for TrainingEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::NotEvaluated(step) => write!(f, "trained to step {step}, not evaluated"),
            Self::Stopped(step) => write!(f, "stopped at step {step}"),
            Self::NotSaved(step) => write!(f, "stopped at step {step}, not saved"),
        }
    }
}

/// An event from the engine to the window.
#[derive(Debug)]
pub enum Event {
    /// The device in use from now on.
    Device(Arc<Gpu>),
    /// Names of the devices, and the index of the one in use.
    Devices(Vec<String>, Option<usize>),
    /// A dataset or a run was opened.
    Opened(Box<Opened>),
    /// A long task is running; its description, and the fraction done if known.
    Doing(String, Option<f32>),
    /// The long task has ended.
    Done,
    /// A line for the log.
    Note(String),
    /// An error message.
    Failed(String),
    /// Progress of training.
    Progress(Progress),
    /// Occupied fraction of the occupancy grid, and its floaters while the grid is shown.
    Occupied(f64, Option<Floaters>),
    /// Training is over and is being saved and evaluated.
    Ending,
    /// Training has ended.
    Ended(TrainingEnd),
    /// The open run was evaluated.
    Evaluated(Box<EvalReport>),
    /// The point that a picked pixel shows, in world units; `None` for the background.
    Picked(Option<[f64; 3]>),
    /// The open run or dataset was closed.
    Closed,
    /// A view was rendered.
    RenderedView(Box<RenderedView>),
    /// The engine has ended.
    Gone,
}

/// Clusters of occupied cells apart from the largest, in the innermost occupancy grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floaters {
    /// Number of clusters.
    pub count: usize,
    /// Number of their cells.
    pub cells: u64,
    /// Number of occupied cells, with the largest cluster's.
    pub total: u64,
}

/// Description of an open run or dataset.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Title for the window.
    pub title: String,
    /// Folder.
    pub path: PathBuf,
    /// Method.
    pub method: String,
    /// Cameras of the dataset, training views first.
    pub viewpoints: Vec<Viewpoint>,
    /// Number of training views.
    pub n_train: usize,
    /// Factor that photographs are shrunk by.
    pub downscale: u32,
    /// Whether colour is composited in linear light.
    pub linear: bool,
    /// Corners of the scene box in world units.
    pub bounds: Aabb,
    /// The dataset's sparse points.
    pub points: crate::dataset::SparsePoints,
    /// Available render modes.
    pub shows: Vec<crate::render::RenderMode>,
    /// Whether the scene can be cropped.
    pub can_crop: bool,
    /// Estimated device memory in bytes.
    pub bytes: u64,
    /// Whether a training is open, rather than a finished run.
    pub training: bool,
    /// The last evaluation of a finished run, if there is one.
    pub evaluation: Option<EvalReport>,
    /// Whether it is a distilled field that was kept instead of the fine-tuned one.
    pub is_kept_stage: bool,
    /// What was logged before.
    pub(crate) history: History,
}

/// A camera of the dataset.
#[derive(Debug, Clone)]
pub struct Viewpoint {
    /// The image's name.
    pub name: String,
    /// The camera.
    pub camera: Camera,
    /// Near and far bounds of rays in world units, if the dataset has them.
    pub near_far: Option<[f32; 2]>,
    /// The photograph, if there is one.
    pub frame: Option<Frame>,
}

/// Progress of training.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Steps submitted.
    pub step: u32,
    /// Training time, in seconds.
    pub seconds: f64,
    /// The trainer's last report, if any.
    pub learned: Option<TrainerReport>,
    /// PSNR of the held-out view, in dB.
    pub held_out: Option<f64>,
    /// Steps per second.
    pub steps_per_second: f64,
    /// Evaluated samples per second.
    pub samples_per_second: f64,
    /// Rays per second.
    pub rays_per_second: f64,
    /// Fraction done, 0 to 1.
    pub fraction: f64,
    /// Estimated time left, in seconds.
    pub left: f64,
    /// Whether training is paused.
    pub paused: bool,
}

/// A report of the trainer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainerReport {
    /// Step of the report.
    pub step: u32,
    /// Training time, in seconds.
    pub seconds: f64,
    /// Loss of the training rays.
    pub loss: f32,
    /// PSNR of the training rays, dB.
    pub train_psnr: f32,
}

/// A rendered view on the device.
#[derive(Debug, Clone)]
pub struct RenderedView {
    pub(crate) texture: wgpu::Texture,
    /// Width and height of the part of the texture that the view fills, in pixels.
    pub size: [u32; 2],
    /// The request that was rendered.
    pub request: ViewRequest,
    /// PSNR against the photograph in dB, over 8-bit values; only if the view shows the error.
    pub psnr: Option<f64>,
    /// Rendering time, in seconds.
    pub seconds: f64,
}

/// Sends events from the engine to the window.
#[derive(Clone)]
pub struct EventSender {
    events: Sender<Event>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for EventSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl EventSender {
    /// Send through `events`; `wake` makes the window receive them.
    #[must_use]
    pub fn new(events: Sender<Event>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { events, wake }
    }

    /// Send an event; it is dropped if the window is gone.
    pub fn send(&self, event: Event) {
        if self.events.send(event).is_ok() {
            (self.wake)();
        }
    }
}
