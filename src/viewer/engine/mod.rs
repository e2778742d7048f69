//! The engine thread of the window: opens, trains and renders on command.

mod export_job;
mod progressive_render;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use progressive_render::ProgressiveRender;

use super::protocol::{Choice, Command, Event, ExportJob, Opened, Outbox, Training, Viewpoint};
use super::{FrameScheduler, Learned, NextWork, Progress};
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
use crate::session::fit::diverged;
use crate::session::open::{self, OpenRun};
use crate::session::{
    Advanced, Error, Fit, FitOptions, FitProgress, Level, Observer, ObserverExt as _, Result,
    Scale, Task, WindowContent, WindowOptions, data, evaluate, make_demo_scene,
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

/// Run a training in the window.
fn train(engine: &EngineContext, options: &FitOptions) -> Result<()> {
    options.check()?;
    let gpu = engine.open_gpu()?;
    let mut fit = Fit::open(&gpu, options, engine)?;
    train_on(engine, &mut fit).map_err(|error| diverged(error, fit.dir()))
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
    let opened = opened(path, config, dataset.as_ref(), &renderer, None);
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
) -> Opened {
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
    let [parameters, batches] = renderer.bytes().unwrap_or_default();
    Opened {
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
    }
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

/// Train `fit` under the window's control, then show the result until the window asks for something else.
fn train_on(engine: &EngineContext, fit: &mut Fit<'_>) -> Result<()> {
    let path = fit.dir().path().to_owned();
    let bytes = fit.bytes()?;
    let (opened, renderer) = {
        let renderer = fit.renderer().apart()?;
        let opened = opened(
            &path,
            fit.config(),
            Some(fit.dataset()),
            &renderer,
            Some(bytes),
        );
        (opened, renderer)
    };
    let again = What::Again(Box::new(fit.options_again()));
    engine.open(opened, renderer, again);
    fit.set_budget(longest_submission(fit.gpu().class()));
    let mut over = !fit.begin()?;
    let mut told = Instant::now();
    let mut was_paused = false;
    while !over && !engine.is_over() {
        let (training, save, stop) = {
            let mut requests = engine.requests.borrow_mut();
            requests.cancel = false;
            let save = std::mem::take(&mut requests.save);
            (requests.training, save, requests.stop)
        };
        let wants = engine.wants_picture();
        let trains = training != Training::Pause;
        let has_export = engine.has_export();
        if (!trains && !was_paused) || has_export {
            fit.pause()?;
        }
        was_paused = !trains;
        if save {
            fit.pause()?;
            if let Err(error) = fit.save_and_tell() {
                engine.fail(&error);
            }
        }
        if stop {
            break;
        }
        if has_export {
            fit.show_newest()?;
            engine.run_export(fit.renderer());
        }
        let turn = engine.requests.borrow().scheduler.next(wants, trains);
        match turn {
            NextWork::Picture => {
                let started = Instant::now();
                if !engine.requests.borrow().picture.is_busy() {
                    engine.show_newest(fit)?;
                }
                engine.draw(trains)?;
                fit.leave_out(started.elapsed());
            }
            NextWork::Training => {
                let started = Instant::now();
                let one = training == Training::Step;
                let before = fit.progress().step;
                engine.worked.set(started);
                let outcome = match fit.advance(if one { before + 1 } else { u32::MAX }) {
                    // The user cancelled an evaluation; the training was saved.
                    Err(error) if error.is_cancelled() && !engine.is_cancelled() => break,
                    outcome => outcome?,
                };
                if one && outcome == Advanced::Worked && fit.progress().step > before {
                    fit.pause()?;
                    engine.requests.borrow_mut().training = Training::Pause;
                }
                over = outcome == Advanced::Done;
                // Submit one batch at a time, so that a view waits for at most one.
                let waits = wants || engine.requests.borrow().picture.is_moving();
                while waits && !fit.is_idle()? {
                    std::thread::sleep(NAP);
                }
                if outcome == Advanced::Busy {
                    std::thread::sleep(NAP);
                }
                let mut requests = engine.requests.borrow_mut();
                requests.picture.spoil();
                requests
                    .scheduler
                    .trained(started.elapsed().as_secs_f64(), wants);
            }
            NextWork::Nobody => {}
        }
        engine.count_occupied()?;
        if told.elapsed().as_secs_f64() > REPORT || !trains {
            told = Instant::now();
            engine.outbox.send(Event::Progress(report(fit, !trains)));
        }
        engine.listen(if turn == NextWork::Nobody {
            IDLE
        } else {
            Duration::ZERO
        });
    }
    engine.outbox.send(Event::Progress(report(fit, true)));
    engine.outbox.send(Event::Ending);
    engine.requests.borrow_mut().cancel = false;
    let text = if over {
        match fit.finish() {
            Ok(report) => report.map_or_else(|| "trained".to_owned(), |r| evaluate::describe(&r)),
            Err(error) if error.is_cancelled() && !engine.is_cancelled() => {
                format!(
                    "trained to step {}, checkpoint saved; not evaluated",
                    fit.progress().step
                )
            }
            Err(error) => return Err(error),
        }
    } else {
        fit.pause()?;
        let outcome = fit.save_and_tell();
        match outcome {
            // If the window closes, the failure must reach the user as the program's error.
            Err(error) if engine.is_over() => return Err(error),
            Err(error) => {
                engine.fail(&error);
                format!("stopped at step {}, not saved", fit.progress().step)
            }
            Ok(()) => format!("stopped at step {}, checkpoint saved", fit.progress().step),
        }
    };
    engine.outbox.send(Event::Progress(report(fit, true)));
    engine.outbox.send(Event::Ended(text));
    // From now on, reopening shows the run instead of training it, unless training is to continue on another device.
    if !engine.is_over() {
        *engine.again.borrow_mut() = Some(What::Path(Choice { path, method: None }));
    }
    fit.show_newest()?;
    engine.show_newest(fit)?;
    engine.requests.borrow_mut().picture.spoil();
    while !engine.is_over() {
        engine.run_export(fit.renderer());
        engine.show()?;
    }
    Ok(())
}

/// Progress of `fit`, for the window.
fn report(fit: &Fit<'_>, paused: bool) -> Progress {
    let FitProgress {
        step,
        seconds,
        latest,
        held_out,
        fraction,
        left,
    } = fit.progress();
    let rate = f64::from(step) / seconds.max(1e-9);
    let per_second =
        |of: fn(&crate::train::Progress) -> f32| latest.map_or(0.0, |p| f64::from(of(&p)) * rate);
    Progress {
        step,
        seconds,
        learned: latest.map(|p| Learned {
            step: p.step,
            seconds: p.seconds,
            loss: p.loss,
            train_psnr: p.train_psnr,
        }),
        held_out,
        steps_per_second: rate,
        samples_per_second: per_second(|p| p.samples),
        rays_per_second: per_second(|p| p.rays),
        fraction,
        left,
        paused,
    }
}

/// Passes messages and progress to the terminal and the window.
impl Observer for EngineContext {
    fn message(&self, level: Level, text: &str) -> Result<()> {
        match level {
            Level::Note | Level::Result => self.outbox.send(Event::Note(text.to_owned())),
            Level::Warning => self.outbox.send(Event::Note(format!("warning: {text}"))),
            Level::Detail | Level::Task | Level::Error => {}
        }
        self.terminal.message(level, text)
    }

    fn record(&self, line: &str) -> Result<()> {
        self.terminal.record(line)
    }

    fn progress(&self, progress: &crate::train::Progress) {
        self.terminal.progress(progress);
    }

    fn task(&self, what: &str, scale: Scale) -> Box<dyn Task + Sync> {
        let on_terminal = self.terminal.task(what, scale);
        let of = match scale {
            Scale::Count(n) | Scale::Rays(n) => Some(n.max(1)),
            Scale::Live(_) | Scale::Unknown => None,
        };
        let share = of.map(|_| 0.0);
        self.outbox.send(Event::Doing(what.to_owned(), share));
        match of {
            None => on_terminal,
            Some(of) => Box::new(ShownTask {
                on_terminal,
                what: std::sync::Mutex::new(what.to_owned()),
                counts: matches!(scale, Scale::Count(_)),
                done: AtomicU64::new(0),
                of,
                outbox: self.outbox.clone(),
            }),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.terminal.is_cancelled()
    }

    fn keep_going(&self) -> bool {
        self.poll_window() && self.terminal.keep_going()
    }

    fn listens(&self) -> Box<dyn Any> {
        self.terminal.listens()
    }

    fn writes(&self, path: &Path) -> Box<dyn Any> {
        self.terminal.writes(path)
    }
}

/// A task on the terminal and in the window.
struct ShownTask {
    on_terminal: Box<dyn Task + Sync>,
    what: std::sync::Mutex<String>,
    /// Whether the progress is shown as a count.
    counts: bool,
    done: AtomicU64,
    of: u64,
    outbox: Outbox,
}

impl ShownTask {
    fn show(&self, done: u64, counts: bool) {
        let what = self
            .what
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = if counts {
            format!("{what} {done}/{}", self.of)
        } else {
            what.clone()
        };
        let share = done as f32 / self.of as f32;
        self.outbox.send(Event::Doing(text, Some(share)));
    }
}

impl Task for ShownTask {
    fn set(&self, done: u64) {
        self.on_terminal.set(done);
        self.done.store(done, Ordering::Relaxed);
        self.show(done, false);
    }

    fn increment(&self) {
        self.on_terminal.increment();
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(done, self.counts);
    }

    fn describe(&self, text: &str) {
        self.on_terminal.describe(text);
        text.clone_into(
            &mut self
                .what
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }
}

impl Drop for ShownTask {
    fn drop(&mut self) {
        self.outbox.send(Event::Done);
    }
}
