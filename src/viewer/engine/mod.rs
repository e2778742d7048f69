//! The engine thread of the window: opens, trains and renders on command.

mod export_job;
mod observer;
mod progressive_render;
mod training;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use progressive_render::ProgressiveRender;
use training::train;

use super::protocol::{Choice, Command, Event, ExportJob, Opened, Outbox, Training, Viewpoint};
use super::{FrameScheduler, NextWork};
use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::checkpoint::Checkpoint;
use crate::config::{ConfigOptions, ResolvedConfig};
use crate::dataset::Dataset;
use crate::gpu::{AdapterClass, Gpu, GpuError, GpuOptions, ReadBack, list_adapters};
use crate::render::{Renderer, Show};
use crate::run::RunDir;
use crate::sampling::SceneBox;
use crate::scene_frame::SceneFrame;
use crate::session::open::{self, OpenRun};
use crate::session::{
    Error, Fit, FitOptions, Level, Observer, ObserverExt as _, Result, WindowContent,
    WindowOptions, data, make_demo_scene,
};

/// Initial share of device time for training.
const SHARE: f64 = 0.75;
/// Time between polls for commands while idle.
const IDLE: Duration = Duration::from_millis(50);
/// Time between polls of the device while it is busy.
const NAP: Duration = Duration::from_micros(300);
/// Seconds between progress reports.
const REPORT: f64 = 0.25;
/// Time between counts of occupied cells.
const CENSUS: Duration = Duration::from_secs(2);
/// Longest wait for the window to paint a rendered view.
const PAINTING: Duration = Duration::from_millis(80);
/// If the device is lost twice within this time, the engine gives up.
const BETWEEN_LOSSES: Duration = Duration::from_secs(30);

/// What to open.
#[derive(Debug, Clone)]
enum What {
    /// A run or a dataset.
    Path(Choice),
    /// A training.
    Train(Box<FitOptions>),
    /// An interrupted training: options to resume it, and options to restart it if no checkpoint was saved.
    Again(Box<[FitOptions; 2]>),
    /// The built-in scene, with a method if one is chosen.
    Demo(Option<String>),
}

/// Pending requests of the window.
#[derive(Debug)]
struct Requests {
    picture: ProgressiveRender,
    scheduler: FrameScheduler,
    training: Training,
    save: bool,
    stop: bool,
    cancel: bool,
    quit: bool,
    exports: VecDeque<Box<ExportJob>>,
    next: Option<What>,
}

/// Channels to and from the window, the device, and the renderer of the window's views.
struct EngineContext {
    outbox: Outbox,
    /// Receives the messages that the window shows, and detects Ctrl-C.
    terminal: Box<dyn Observer + Send>,
    options: GpuOptions,
    /// Command line that repeats the trainings started here.
    command: String,
    commands: Receiver<Command>,
    requests: RefCell<Requests>,
    gpu: RefCell<Option<Arc<Gpu>>>,
    /// Number of the device chosen in the window.
    device: RefCell<Option<usize>>,
    /// Whether to open the chosen device once the previous one is released.
    switches: Cell<bool>,
    /// Renderer of the window's views, which are rendered between other work.
    renderer: RefCell<Option<Renderer>>,
    /// How to reopen what is open, on another device.
    again: RefCell<Option<What>>,
    census: RefCell<Census>,
    /// When a view was sent that the window has not painted yet.
    unpainted: Cell<Option<Instant>>,
    /// Since when work other than the window's views has used the device.
    worked: Cell<Instant>,
}

/// Counts the occupied cells of the occupancy grid from time to time.
#[derive(Debug)]
struct Census {
    ticket: Option<ReadBack>,
    next: Instant,
}

impl EngineContext {
    fn new(
        commands: Receiver<Command>,
        outbox: Outbox,
        (options, command): (GpuOptions, String),
        terminal: Box<dyn Observer + Send>,
    ) -> Self {
        Self {
            outbox,
            terminal,
            options,
            command,
            commands,
            requests: RefCell::new(Requests {
                picture: ProgressiveRender::default(),
                scheduler: scheduler_of(SHARE, AdapterClass::Software),
                training: Training::Go,
                save: false,
                stop: false,
                cancel: false,
                quit: false,
                exports: VecDeque::new(),
                next: None,
            }),
            gpu: RefCell::default(),
            device: RefCell::default(),
            switches: Cell::new(false),
            renderer: RefCell::default(),
            again: RefCell::default(),
            census: RefCell::new(Census {
                ticket: None,
                next: Instant::now(),
            }),
            unpainted: Cell::new(None),
            worked: Cell::new(Instant::now()),
        }
    }

    /// Return the open device, or open the chosen one; the window draws with it too.
    fn open_gpu(&self) -> Result<Arc<Gpu>, GpuError> {
        let before = self.gpu.borrow().clone();
        if let Some(gpu) = before.filter(|gpu| gpu.check().is_ok()) {
            return Ok(gpu);
        }
        let chosen = self.device.borrow().map(|number| number.to_string());
        let options = GpuOptions {
            device: chosen.or_else(|| self.options.device.clone()),
            ..self.options.clone()
        };
        let gpu = Gpu::open(&options)?;
        self.note(format!("device: {}", gpu.description()));
        // The cost of a view is unknown before the first one.
        let mut requests = self.requests.borrow_mut();
        let share = requests.scheduler.share;
        requests.scheduler = scheduler_of(share, gpu.class());
        drop(requests);
        *self.gpu.borrow_mut() = Some(Arc::clone(&gpu));
        self.outbox.send(Event::Device(Arc::clone(&gpu)));
        let all = list_adapters(&options);
        let used = all.iter().position(|a| a.default);
        let names = all.into_iter().map(|a| a.name).collect();
        self.outbox.send(Event::Devices(names, used));
        Ok(gpu)
    }

    /// Receive commands from the window, waiting up to `patience` for the first.
    fn listen(&self, patience: Duration) {
        self.take_in(&mut self.requests.borrow_mut(), patience);
    }

    fn take_in(&self, requests: &mut Requests, patience: Duration) {
        let first = match self.commands.recv_timeout(patience) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Quit),
        };
        for command in first.into_iter().chain(self.commands.try_iter()) {
            match command {
                Command::Look(looking) => {
                    if looking.moving && !requests.picture.is_moving() {
                        requests.scheduler.hurry();
                    }
                    requests.picture.look(Some(*looking));
                }
                Command::Painted => self.unpainted.set(None),
                Command::Hide => requests.picture.look(None),
                Command::Train(training) => requests.training = training,
                Command::Share(share) => requests.scheduler.share = share,
                Command::Save => requests.save = true,
                Command::Stop => requests.stop = true,
                // Keep what is open until the new path is known to be readable.
                Command::Open(choice) => match can_open(&choice.path) {
                    Ok(()) => requests.next = Some(What::Path(choice)),
                    Err(error) => self.fail(&error),
                },
                Command::Demo(method) => requests.next = Some(What::Demo(method)),
                Command::Device(number) => {
                    *self.device.borrow_mut() = Some(number);
                    self.switches.set(true);
                }
                Command::Render(export) => requests.exports.push_back(export),
                Command::Cancel => requests.cancel = true,
                Command::Quit => requests.quit = true,
                Command::LoseDevice => {
                    if let Some(gpu) = self.gpu.borrow().as_ref() {
                        gpu.lose();
                    }
                }
            }
        }
        requests.quit |= self.is_cancelled();
    }

    /// Report an error in the window and on the terminal.
    fn fail(&self, error: &Error) {
        let message = error.full_message();
        self.complain(&message);
        self.outbox.send(Event::Failed(message));
    }

    /// Report an error on the terminal only.
    fn complain(&self, message: &str) {
        let _ = self.terminal.message(Level::Error, message);
    }

    /// Whether the current work should end, because the window closes, opens something else or switches devices.
    fn is_over(&self) -> bool {
        let requests = self.requests.borrow();
        requests.quit || requests.next.is_some() || self.switches.get()
    }

    /// Tell the window what was opened, use `renderer` for its views, and reset the state of what was open before.
    fn open(&self, opened: Opened, mut renderer: Renderer, again: What) {
        renderer.set_budget(longest_submission(renderer.gpu().class()));
        *self.renderer.borrow_mut() = Some(renderer);
        *self.again.borrow_mut() = Some(again);
        self.census.borrow_mut().ticket = None;
        let mut requests = self.requests.borrow_mut();
        requests.picture.clear();
        (requests.training, requests.save, requests.stop) = (Training::Go, false, false);
        requests.exports.clear();
        requests.cancel = false;
        drop(requests);
        self.outbox.send(Event::Opened(Box::new(opened)));
    }

    /// Close what is open, and return how to reopen it.
    fn close(&self) -> Option<What> {
        *self.renderer.borrow_mut() = None;
        self.requests.borrow_mut().picture.clear();
        self.outbox.send(Event::Closed);
        self.again.borrow_mut().take()
    }

    /// Export the current weights of `fit` to the window's renderer.
    fn show_newest(&self, fit: &Fit<'_>) -> Result<()> {
        if let Some(renderer) = self.renderer.borrow().as_ref() {
            fit.show_newest_in(renderer)?;
        }
        Ok(())
    }

    /// Whether a view is due or being rendered.
    fn wants_picture(&self) -> bool {
        let requests = self.requests.borrow();
        self.renderer.borrow().is_some() && requests.picture.wants(&requests.scheduler)
    }

    /// Work on the view for one turn; `waits` says whether other work is waiting.
    fn draw(&self, waits: bool) -> Result<(), GpuError> {
        let requests = &mut *self.requests.borrow_mut();
        let mut renderer = self.renderer.borrow_mut();
        let Some(renderer) = renderer.as_mut() else {
            return Ok(());
        };
        let gpu = Arc::clone(renderer.gpu());
        let started = Instant::now();
        let shot = requests
            .picture
            .turn(&gpu, renderer, &mut requests.scheduler)?;
        let moving = requests.picture.is_moving();
        let seconds = started.elapsed().as_secs_f64();
        requests.scheduler.rendered(seconds, waits, moving);
        if let Some(shot) = shot {
            self.unpainted.set(Some(Instant::now()));
            self.outbox.send(Event::RenderedView(Box::new(shot)));
        }
        // While something moves, painting takes priority over other work.
        while moving
            && self
                .unpainted
                .get()
                .is_some_and(|at| at.elapsed() < PAINTING)
        {
            self.take_in(requests, NAP);
        }
        Ok(())
    }

    /// Serve the window during a long task. Return whether to continue the task.
    fn poll_window(&self) -> bool {
        self.listen(Duration::ZERO);
        let worked = self.worked.get().elapsed().as_secs_f64();
        let wants = self.wants_picture();
        self.requests.borrow_mut().scheduler.trained(worked, wants);
        // Device errors are reported by the task itself.
        while self.wants_picture()
            && !self.is_over()
            && self.requests.borrow().scheduler.next(true, true) == NextWork::Picture
            && self.draw(true).is_ok()
        {
            self.listen(Duration::ZERO);
        }
        self.worked.set(Instant::now());
        !self.is_over() && !self.requests.borrow().cancel
    }

    /// Render what is due, or wait for a command.
    fn show(&self) -> Result<(), GpuError> {
        if self.wants_picture() {
            self.draw(false)?;
            self.listen(Duration::ZERO);
        } else {
            if let Some(renderer) = self.renderer.borrow().as_ref() {
                renderer.gpu().poll_once()?;
            }
            self.listen(IDLE);
        }
        self.count_occupied()
    }

    /// Report the occupied fraction of the occupancy grid from time to time.
    fn count_occupied(&self) -> Result<(), GpuError> {
        let mut census = self.census.borrow_mut();
        if let Some(bytes) = census.ticket.as_ref().map(ReadBack::poll).transpose()? {
            if let Some(bytes) = bytes {
                let ones: u64 = bytes.iter().map(|b| u64::from(b.count_ones())).sum();
                let share = ones as f64 / (8.0 * bytes.len().max(1) as f64);
                self.outbox.send(Event::Occupied(share));
                census.ticket = None;
            }
        } else if census.next <= Instant::now() {
            census.next = Instant::now() + CENSUS;
            let renderer = self.renderer.borrow();
            census.ticket = renderer.as_ref().and_then(Renderer::read_occupancy);
        }
        Ok(())
    }

    /// Run the next export, if any, with `renderer`.
    fn run_export(&self, renderer: &mut Renderer) {
        let export = self.requests.borrow_mut().exports.pop_front();
        let Some(export) = export else {
            return;
        };
        self.requests.borrow_mut().cancel = false;
        let outcome = export_job::run(self, renderer, *export);
        renderer.set_crop(None);
        self.outbox.send(Event::Done);
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {
                self.note("cancelled: incomplete files were discarded");
            }
            // The loss is reported when the device is reopened.
            Err(_) if renderer.gpu().is_lost() => {}
            Err(error) => self.fail(&error),
        }
    }

    fn has_lost_device(&self) -> bool {
        self.gpu.borrow().as_ref().is_some_and(|gpu| gpu.is_lost())
    }

    fn has_export(&self) -> bool {
        !self.requests.borrow().exports.is_empty()
    }
}

/// Longest submission while the window is open: a movement has to wait for the submission in progress.
fn longest_submission(class: AdapterClass) -> Duration {
    Duration::from_millis(match class {
        AdapterClass::Software => 25,
        AdapterClass::Integrated => 10,
        AdapterClass::Discrete => 5,
    })
}

/// The initial scheduler for a device class, with a guess of the rendering speed.
fn scheduler_of(share: f64, class: AdapterClass) -> FrameScheduler {
    match class {
        AdapterClass::Software => FrameScheduler::new(share, 0.045, 5e4),
        AdapterClass::Integrated => FrameScheduler::new(share, 0.010, 2e6),
        AdapterClass::Discrete => FrameScheduler::new(share, 0.006, 2e7),
    }
}

/// Open `content` of the options, then serve the window until it closes.
pub(super) fn run(
    commands: Receiver<Command>,
    outbox: Outbox,
    options: WindowOptions,
    terminal: Box<dyn Observer + Send>,
) -> Result<()> {
    let engine = &EngineContext::new(commands, outbox, (options.gpu, options.command), terminal);
    let mut next = options.content.map(|content| match content {
        WindowContent::Path(path) => What::Path(Choice { path, method: None }),
        WindowContent::Fit(options) => What::Train(options),
    });
    let mut lost: Option<Instant> = None;
    // What to reopen on another device.
    let mut reopened: Option<What> = None;
    loop {
        if engine.switches.take() {
            *engine.gpu.borrow_mut() = None;
        }
        // The window needs a device even if nothing is open.
        if let Err(error) = engine.open_gpu() {
            if engine.device.borrow_mut().take().is_none() {
                return Err(error.into());
            }
            // The chosen device cannot be opened: go back to the previous one.
            engine.fail(&error.into());
            continue;
        }
        if let Some(what) = next.take() {
            let outcome = open(engine, what);
            let again = engine.close();
            reopened = again.clone().filter(|_| engine.switches.get());
            match outcome {
                Ok(()) => {}
                Err(error) if error.is_cancelled() && engine.is_cancelled() => {
                    return Err(error);
                }
                Err(error) if error.is_cancelled() => engine.note(error.to_string()),
                Err(error) if engine.has_lost_device() => {
                    // Do not reopen an unstable device forever.
                    if lost.is_some_and(|at| at.elapsed() < BETWEEN_LOSSES) {
                        return Err(error);
                    }
                    lost = Some(Instant::now());
                    next = again;
                    if next.is_none() {
                        engine.fail(&error);
                    } else {
                        engine.complain(&error.full_message());
                        engine.note("reopening the device and what was open");
                    }
                    continue;
                }
                Err(error) => {
                    // It may not have been saved.
                    reopened = None;
                    engine.fail(&error);
                }
            }
        }
        engine.listen(IDLE);
        let mut requests = engine.requests.borrow_mut();
        if requests.quit && engine.is_cancelled() {
            return Err(Error::Cancelled("; the training was saved".to_owned()));
        }
        if requests.quit {
            return Ok(());
        }
        requests.exports.clear();
        next = requests.next.take().or(reopened.take());
    }
}

fn open(engine: &EngineContext, what: What) -> Result<()> {
    let fit = |path: &Path, method: Option<String>| {
        let options = FitOptions {
            config: ConfigOptions {
                method,
                ..ConfigOptions::default()
            },
            command: engine.command.clone(),
            ..FitOptions::new(path)
        };
        train(engine, &options)
    };
    match what {
        What::Train(options) => train(engine, &options),
        What::Again(both) => {
            let [resumed, anew] = &*both;
            let is_saved = resumed.resume.as_deref().is_some_and(is_run);
            train(engine, if is_saved { resumed } else { anew })
        }
        What::Path(choice) if is_run(&choice.path) => look(engine, &choice.path),
        What::Path(choice) => fit(&choice.path, choice.method),
        What::Demo(method) => {
            let dataset = make_demo_scene(&*engine.open_gpu()?, Path::new("demo"), engine)?;
            fit(&dataset, method)
        }
    }
}

/// Check that `path` is a run or a dataset that can be read.
fn can_open(path: &Path) -> Result<()> {
    if is_run(path) {
        Checkpoint::open(path)?;
    } else {
        Dataset::open(path)?;
    }
    Ok(())
}

/// Whether `path` is a checkpoint or a directory with one.
fn is_run(path: &Path) -> bool {
    RunDir::of(path).checkpoint().is_file()
}

/// Show the run at `path` until the window asks for something else.
fn look(engine: &EngineContext, path: &Path) -> Result<()> {
    let gpu = engine.open_gpu()?;
    let OpenRun {
        checkpoint,
        mut renderer,
    } = open::open_run(engine, &gpu, path, None)?;
    let dataset = data::dataset_of(engine, &checkpoint, None, checkpoint.info.opening());
    let dataset = dataset
        .map_err(|error| {
            let reason = format!("the cameras of the run's dataset are not shown: {error}");
            engine.note(reason);
        })
        .ok();
    let config = &checkpoint.info.config;
    let opened = opened(path, config, dataset.as_ref(), &renderer, None)?;
    let choice = Choice {
        path: path.to_owned(),
        method: None,
    };
    engine.open(opened, renderer.beside()?, What::Path(choice));
    while !engine.is_over() {
        engine.run_export(&mut renderer);
        engine.show()?;
    }
    Ok(())
}

/// Describe what was opened; `bytes` is the device memory of its training, if it is being trained.
fn opened(
    path: &Path,
    config: &ResolvedConfig,
    dataset: Option<&Dataset>,
    renderer: &Renderer,
    bytes: Option<u64>,
) -> Result<Opened> {
    let mut places = Vec::new();
    if let Some(dataset) = dataset {
        let frames = dataset
            .train
            .iter()
            .chain(&dataset.val)
            .chain(&dataset.test);
        places.extend(frames.map(|frame| Viewpoint {
            name: frame.name.clone(),
            camera: frame.camera.downscaled(dataset.downscale),
            near_far: frame.near_far,
            frame: Some(frame.clone()),
        }));
    }
    let scene_frame = SceneFrame::of(config);
    let bounds = SceneBox::of(config).bounds();
    let bounds = bounds.map(|corner| scene_frame.world_point(corner));
    if places.is_empty() {
        places.push(Viewpoint {
            name: "the scene's box".to_owned(),
            camera: outside(&bounds),
            near_far: None,
            frame: None,
        });
    }
    let all = [
        Show::Color,
        Show::Depth,
        Show::Normals,
        Show::Opacity,
        Show::Samples,
        Show::Occupancy,
        Show::Cells,
    ];
    // The window's renderer has its own batches.
    let [parameters, batches] = renderer.bytes()?;
    Ok(Opened {
        title: path.display().to_string(),
        path: path.to_owned(),
        method: config.method.clone(),
        places,
        n_train: dataset.map_or(0, |d| d.train.len()),
        downscale: dataset.map_or(1, |d| d.downscale),
        linear: config.scene.linear,
        bounds,
        shows: all.into_iter().filter(|s| renderer.can_show(*s)).collect(),
        can_crop: renderer.can_crop(),
        bytes: batches + bytes.unwrap_or(batches + parameters),
        training: bytes.is_some(),
    })
}

/// A camera that sees the whole of `bounds`.
fn outside(bounds: &Aabb) -> Camera {
    let middle = bounds.center().to_array();
    let eye = [0.9, -1.2, 0.7].map(|v| v * bounds.side());
    let eye: [f32; 3] = std::array::from_fn(|a| (middle[a] + eye[a]) as f32);
    Camera::look_at(
        eye,
        middle.map(|v| v as f32),
        [0.0, 0.0, 1.0],
        0.8,
        800,
        600,
    )
}
