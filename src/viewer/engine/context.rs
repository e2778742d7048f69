//! State of the engine: channels to and from the window, the device, and the window's requests and views.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::protocol::{
    Command, Event, EventSender, ExportJob, OpenChoice, Opened, TrainingMode,
};
use super::super::{FrameScheduler, NextWork};
use super::progressive_render::ProgressiveRender;
use super::{export_job, floaters};
use crate::aabb::Aabb;
use crate::dataset::Dataset;
use crate::gpu::{AdapterClass, Gpu, GpuError, GpuOptions, ReadBack, list_adapters};
use crate::render::{RenderMode, Renderer};
use crate::run::RunDir;
use crate::session::{Error, Fit, FitOptions, Level, Observer, ObserverExt as _, Result, advice};

/// Initial share of device time for training.
const SHARE: f64 = 0.75;
/// Time between polls for commands while idle.
pub(super) const IDLE: Duration = Duration::from_millis(50);
/// Time between polls of the device while it is busy.
pub(super) const POLL_INTERVAL: Duration = Duration::from_micros(300);
/// Time between counts of occupied cells.
const COUNT_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum time to wait for the window to paint a rendered view.
const MAX_PAINT_WAIT: Duration = Duration::from_millis(80);
/// A request to open something.
#[derive(Debug, Clone)]
pub(super) enum OpenRequest {
    /// A run or a dataset.
    Path(OpenChoice),
    /// A training.
    Train(Box<FitOptions>),
    /// An interrupted training: options to resume it, and options to restart it if no checkpoint was saved.
    Resume(Box<[FitOptions; 2]>),
    /// The built-in scene, with a method if one is chosen.
    Demo(Option<String>),
    /// A video or photographs, of which a dataset is made first.
    Prepare(OpenChoice),
    /// More seconds of training of a run.
    Continue(PathBuf, f64),
    /// The distillation of a run.
    Distill(PathBuf),
    /// A copy of a run without what lies outside a box.
    RemoveOutside(PathBuf, Aabb),
}

impl OpenRequest {
    /// The run that it starts from, which is shown again if it fails.
    pub(super) fn origin(&self) -> Option<OpenChoice> {
        match self {
            Self::Continue(path, _) | Self::Distill(path) | Self::RemoveOutside(path, _) => {
                Some(OpenChoice {
                    path: path.clone(),
                    method: None,
                })
            }
            Self::Path(_) | Self::Train(_) | Self::Resume(_) | Self::Demo(_) | Self::Prepare(_) => {
                None
            }
        }
    }
}

/// Pending requests of the window.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) picture: ProgressiveRender,
    pub(super) scheduler: FrameScheduler,
    pub(super) training: TrainingMode,
    pub(super) save: bool,
    pub(super) stop: bool,
    pub(super) cancel: bool,
    pub(super) quit: bool,
    pub(super) exports: VecDeque<Box<ExportJob>>,
    pub(super) next: Option<OpenRequest>,
}

/// Channels to and from the window, the device, the window's requests, and the renderer of its views.
pub(super) struct EngineContext {
    pub(super) events: EventSender,
    /// Receives the messages that the window shows, and detects Ctrl-C.
    pub(super) terminal: Box<dyn Observer + Send>,
    pub(super) options: GpuOptions,
    /// Command line that repeats the trainings started in the window.
    pub(super) command: String,
    pub(super) commands: Receiver<Command>,
    pub(super) requests: RefCell<Requests>,
    pub(super) gpu: RefCell<Option<Arc<Gpu>>>,
    /// Index of the device chosen in the window.
    pub(super) device: RefCell<Option<usize>>,
    /// Whether to open the chosen device once the previous one is released.
    pub(super) switches: Cell<bool>,
    /// Renderer of the window's views, which are rendered between other work.
    pub(super) renderer: RefCell<Option<Renderer>>,
    /// Request that reopens the current run or dataset on another device.
    pub(super) again: RefCell<Option<OpenRequest>>,
    pub(super) occupancy_counter: RefCell<OccupancyCounter>,
    /// When the last view was sent, if the window has not painted it yet.
    pub(super) unpainted: Cell<Option<Instant>>,
    /// Start of the device time that counts as work other than the window's views; the end of the last view, if that was
    /// rendered during the work.
    pub(super) worked: Cell<Instant>,
}

/// Counts the occupied cells of the occupancy grid periodically.
#[derive(Debug)]
pub(super) struct OccupancyCounter {
    ticket: Option<ReadBack>,
    next: Instant,
}

impl EngineContext {
    pub(super) fn new(
        commands: Receiver<Command>,
        events: EventSender,
        (options, command): (GpuOptions, String),
        terminal: Box<dyn Observer + Send>,
    ) -> Self {
        Self {
            events,
            terminal,
            options,
            command,
            commands,
            requests: RefCell::new(Requests {
                picture: ProgressiveRender::default(),
                scheduler: scheduler_of(SHARE, AdapterClass::Software),
                training: TrainingMode::Run,
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
            occupancy_counter: RefCell::new(OccupancyCounter {
                ticket: None,
                next: Instant::now(),
            }),
            unpainted: Cell::new(None),
            worked: Cell::new(Instant::now()),
        }
    }

    /// Return the open device, or open the chosen one, which the window also uses for painting.
    pub(super) fn open_gpu(&self) -> Result<Arc<Gpu>, GpuError> {
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
        // The cost of a view on the new device is not known yet.
        let mut requests = self.requests.borrow_mut();
        let share = requests.scheduler.share;
        requests.scheduler = scheduler_of(share, gpu.class());
        drop(requests);
        *self.gpu.borrow_mut() = Some(Arc::clone(&gpu));
        self.events.send(Event::Device(Arc::clone(&gpu)));
        let all = list_adapters(&options);
        let used = all.iter().position(|a| a.default);
        let names = all.into_iter().map(|a| a.name).collect();
        self.events.send(Event::Devices(names, used));
        Ok(gpu)
    }

    /// Receive commands from the window, waiting up to `patience` for the first.
    pub(super) fn receive_commands(&self, patience: Duration) {
        self.handle_commands(&mut self.requests.borrow_mut(), patience);
    }

    pub(super) fn handle_commands(&self, requests: &mut Requests, patience: Duration) {
        let first = match self.commands.recv_timeout(patience) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Quit),
        };
        for command in first.into_iter().chain(self.commands.try_iter()) {
            match command {
                Command::Look(request) => {
                    if request.moving && !requests.picture.is_moving() {
                        requests.scheduler.prioritise_view();
                    }
                    requests.picture.set_request(Some(*request));
                }
                Command::Painted => self.unpainted.set(None),
                Command::Hide => requests.picture.set_request(None),
                Command::Train(training) => requests.training = training,
                Command::Share(share) => requests.scheduler.share = share,
                Command::Save => requests.save = true,
                Command::Stop => requests.stop = true,
                // Keep what is open until the new path is known to be readable.
                Command::Open(choice) => match can_open(&choice.path) {
                    Ok(()) => requests.next = Some(OpenRequest::Path(choice)),
                    Err(error) => self.fail(&error),
                },
                Command::Demo(method) => requests.next = Some(OpenRequest::Demo(method)),
                Command::Prepare(choice) => requests.next = Some(OpenRequest::Prepare(choice)),
                Command::Continue(run, seconds) => {
                    requests.next = Some(OpenRequest::Continue(run, seconds));
                }
                Command::Distill(run) => requests.next = Some(OpenRequest::Distill(run)),
                Command::RemoveOutside(run, crop) => {
                    requests.next = Some(OpenRequest::RemoveOutside(run, crop));
                }
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
    pub(super) fn fail(&self, error: &Error) {
        let message = error.full_message();
        self.report_on_terminal(&message);
        self.events.send(Event::Failed(message));
    }

    /// Report an error on the terminal only.
    pub(super) fn report_on_terminal(&self, message: &str) {
        let _ = self.terminal.message(Level::Error, message);
    }

    /// Return whether the current work should end, because the window closes, opens something else or switches devices.
    pub(super) fn is_over(&self) -> bool {
        let requests = self.requests.borrow();
        requests.quit || requests.next.is_some() || self.switches.get()
    }

    /// Tell the window what was opened, use `renderer` for its views, and reset the state of what was open before.
    pub(super) fn open(&self, opened: Opened, mut renderer: Renderer, again: OpenRequest) {
        renderer.set_budget(longest_submission(renderer.gpu().class()));
        *self.renderer.borrow_mut() = Some(renderer);
        *self.again.borrow_mut() = Some(again);
        self.occupancy_counter.borrow_mut().ticket = None;
        let mut requests = self.requests.borrow_mut();
        requests.picture.clear();
        (requests.training, requests.save, requests.stop) = (TrainingMode::Run, false, false);
        requests.scheduler.is_training = false;
        requests.exports.clear();
        requests.cancel = false;
        drop(requests);
        self.events.send(Event::Opened(Box::new(opened)));
    }

    /// Close the current run or dataset. Return the request that reopens it.
    pub(super) fn close(&self) -> Option<OpenRequest> {
        *self.renderer.borrow_mut() = None;
        self.requests.borrow_mut().picture.clear();
        self.events.send(Event::Closed);
        self.again.borrow_mut().take()
    }

    /// Export the current weights of `fit` to the window's renderer.
    pub(super) fn show_newest(&self, fit: &Fit<'_>) -> Result<()> {
        if let Some(renderer) = self.renderer.borrow().as_ref() {
            fit.show_newest_in(renderer)?;
        }
        Ok(())
    }

    /// Return whether a view is due or being rendered.
    pub(super) fn wants_picture(&self) -> bool {
        let requests = self.requests.borrow();
        self.renderer.borrow().is_some() && requests.picture.wants(&requests.scheduler)
    }

    /// Work on the view for one time slice. `waits` tells whether other work is waiting.
    pub(super) fn draw(&self, waits: bool) -> Result<(), GpuError> {
        let requests = &mut *self.requests.borrow_mut();
        let mut renderer = self.renderer.borrow_mut();
        let Some(renderer) = renderer.as_mut() else {
            return Ok(());
        };
        let gpu = Arc::clone(renderer.gpu());
        let started = Instant::now();
        let view = requests
            .picture
            .advance(&gpu, renderer, &mut requests.scheduler)?;
        let moving = requests.picture.is_moving();
        let seconds = started.elapsed().as_secs_f64();
        requests.scheduler.rendered(seconds, waits, moving);
        if let Some(view) = view {
            self.unpainted.set(Some(Instant::now()));
            self.events.send(Event::RenderedView(Box::new(view)));
        }
        // While the view is moving, painting takes priority over other work.
        while moving
            && self
                .unpainted
                .get()
                .is_some_and(|at| at.elapsed() < MAX_PAINT_WAIT)
        {
            self.handle_commands(requests, POLL_INTERVAL);
        }
        Ok(())
    }

    /// Receive the window's commands and render its views during a long task. Return whether to continue the task.
    pub(super) fn poll_window(&self) -> bool {
        self.receive_commands(Duration::ZERO);
        let worked = self.worked.get().elapsed().as_secs_f64();
        let wants = self.wants_picture();
        self.requests.borrow_mut().scheduler.trained(worked, wants);
        // Device errors are reported by the task itself.
        while self.wants_picture()
            && !self.is_over()
            && self.requests.borrow().scheduler.next(true, true) == NextWork::Picture
            && self.draw(true).is_ok()
        {
            self.receive_commands(Duration::ZERO);
        }
        self.worked.set(Instant::now());
        !self.is_over() && !self.requests.borrow().cancel
    }

    /// Render the view that is due, or wait for a command.
    pub(super) fn show(&self) -> Result<(), GpuError> {
        if self.wants_picture() {
            self.draw(false)?;
            self.receive_commands(Duration::ZERO);
        } else {
            if let Some(renderer) = self.renderer.borrow().as_ref() {
                renderer.gpu().poll_once()?;
            }
            self.receive_commands(IDLE);
        }
        self.count_occupied()
    }

    /// Report the occupied fraction of the occupancy grid periodically.
    pub(super) fn count_occupied(&self) -> Result<(), GpuError> {
        let mut occupancy_counter = self.occupancy_counter.borrow_mut();
        if let Some(bytes) = occupancy_counter
            .ticket
            .as_ref()
            .map(ReadBack::poll)
            .transpose()?
        {
            if let Some(bytes) = bytes {
                let ones: u64 = bytes.iter().map(|b| u64::from(b.count_ones())).sum();
                let share = ones as f64 / (8.0 * bytes.len().max(1) as f64);
                let config = self.renderer.borrow().as_ref().and_then(|renderer| {
                    let shows = self.requests.borrow().picture.shows(RenderMode::Occupancy);
                    renderer.config().occupancy.clone().filter(|_| shows)
                });
                let found = config.map(|c| floaters::find(&bytes, c.resolution as usize));
                self.events.send(Event::Occupied(share, found));
                occupancy_counter.ticket = None;
            }
        } else if occupancy_counter.next <= Instant::now() {
            occupancy_counter.next = Instant::now() + COUNT_INTERVAL;
            let renderer = self.renderer.borrow();
            occupancy_counter.ticket = renderer.as_ref().and_then(Renderer::read_occupancy);
        }
        Ok(())
    }

    /// Run the next export, if any, with `renderer`.
    pub(super) fn run_export(&self, renderer: &mut Renderer) {
        let export = self.requests.borrow_mut().exports.pop_front();
        let Some(export) = export else {
            return;
        };
        self.requests.borrow_mut().cancel = false;
        let outcome = export_job::run(self, &self.events, renderer, *export);
        renderer.set_crop(None);
        self.events.send(Event::Done);
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {
                self.note("cancelled: incomplete files were discarded");
            }
            // The device loss is reported when the device is reopened.
            Err(_) if renderer.gpu().is_lost() => {}
            Err(error) => self.fail(&error),
        }
    }

    pub(super) fn has_lost_device(&self) -> bool {
        self.gpu.borrow().as_ref().is_some_and(|gpu| gpu.is_lost())
    }

    pub(super) fn has_export(&self) -> bool {
        !self.requests.borrow().exports.is_empty()
    }
}

/// Return the maximum duration of a submission while the window is open: a moving view has to wait for the submission in
/// progress.
pub(super) fn longest_submission(class: AdapterClass) -> Duration {
    Duration::from_millis(match class {
        AdapterClass::Software => 25,
        AdapterClass::Integrated => 10,
        AdapterClass::Discrete => 5,
    })
}

/// Return the initial scheduler for a device class, with a guess of the rendering speed.
fn scheduler_of(share: f64, class: AdapterClass) -> FrameScheduler {
    match class {
        AdapterClass::Software => FrameScheduler::new(share, [0.045, 2.0], 5e4),
        AdapterClass::Integrated => FrameScheduler::new(share, [0.010, 0.5], 2e6),
        AdapterClass::Discrete => FrameScheduler::new(share, [0.006, 0.5], 2e7),
    }
}

/// Check that `path` is a run or a dataset that can be read.
fn can_open(path: &Path) -> Result<()> {
    if RunDir::of(path).has_checkpoint() {
        advice::open_checkpoint(path)?;
    } else {
        Dataset::open(path)?;
    }
    Ok(())
}
