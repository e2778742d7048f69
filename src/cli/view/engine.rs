//! The thread behind the window: opens, trains and draws as it is told.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::interrupt::{self, Interrupted};
use super::super::output::{Output, told};
use super::super::scene::{self, OpenRun};
use super::super::train::{self, Driver, Turn as Step};
use super::super::{Session, demo};
use super::easel::Easel;
use super::errand;
use crate::camera::Camera;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::dataset::Dataset;
use crate::gpu::{AdapterClass, Gpu, GpuError, GpuOptions, ReadBack, list_adapters};
use crate::render::{Renderer, Show};
use crate::run::RunDir;
use crate::sampling::SceneBox;
use crate::scene_frame::SceneFrame;
use crate::viewer::{Choice, Command, Errand, Event, Opened, Outbox, Pace, Place, Training, Turn};

/// Share of the device that training gets at first.
const SHARE: f64 = 0.75;
/// Between looks at commands, while there is nothing to do.
const IDLE: Duration = Duration::from_millis(50);
/// Between looks at the device, while it is busy.
const NAP: Duration = Duration::from_micros(300);
/// Seconds between two reports of progress.
const REPORT: f64 = 0.25;
/// Between two counts of the occupancy grid.
const CENSUS: Duration = Duration::from_secs(2);
/// Longest wait for the window to paint a picture.
const PAINTING: Duration = Duration::from_millis(80);
/// A device that is lost again sooner is given up.
const BETWEEN_LOSSES: Duration = Duration::from_secs(30);

/// What to open.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A run or a dataset.
    Path(Choice),
    /// Training as its flags say.
    Train(Box<train::Args>),
    /// Training that was under way: flags that go on with it, and flags that begin it anew where nothing was saved.
    Again(Box<[train::Args; 2]>),
    /// The built-in scene, by a method if one is chosen.
    Demo(Option<String>),
}

/// What the window has asked for, and has not got yet.
#[derive(Debug)]
struct Wishes {
    easel: Easel,
    pace: Pace,
    training: Training,
    save: bool,
    stop: bool,
    cancel: bool,
    quit: bool,
    errands: VecDeque<Box<Errand>>,
    next: Option<What>,
}

/// Where commands come in and events go out, and what pictures are made with.
#[derive(Debug)]
pub(in crate::cli) struct Desk {
    outbox: Outbox,
    out: Output,
    commands: Receiver<Command>,
    wishes: RefCell<Wishes>,
    gpu: RefCell<Option<Arc<Gpu>>>,
    /// The device that was chosen in the window, by its number.
    device: RefCell<Option<usize>>,
    /// Whether it is to be opened, once nothing else has the one before.
    switches: Cell<bool>,
    /// Of the window's pictures, which come between whatever else is rendered.
    renderer: RefCell<Option<Renderer>>,
    /// How to open again what is open, on another device.
    again: RefCell<Option<What>>,
    census: RefCell<Census>,
    /// Since when the window has a picture that it has not painted yet.
    unpainted: Cell<Option<Instant>>,
    /// Since when something else than a picture has the device.
    worked: Cell<Instant>,
}

/// Counts of the occupancy grid, now and then.
#[derive(Debug)]
struct Census {
    ticket: Option<ReadBack>,
    next: Instant,
}

impl Desk {
    pub(super) fn new(commands: Receiver<Command>, outbox: Outbox, out: &Output) -> Self {
        Self {
            outbox,
            out: out.clone(),
            commands,
            wishes: RefCell::new(Wishes {
                easel: Easel::default(),
                pace: pace_of(SHARE, AdapterClass::Software),
                training: Training::Go,
                save: false,
                stop: false,
                cancel: false,
                quit: false,
                errands: VecDeque::new(),
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

    /// The device that is open, or one that `open` opens; the window draws with it too.
    pub(in crate::cli) fn gpu(
        &self,
        options: &GpuOptions,
        open: impl FnOnce(&GpuOptions) -> Result<Arc<Gpu>, GpuError>,
    ) -> Result<Arc<Gpu>, GpuError> {
        let before = self.gpu.borrow().clone();
        if let Some(gpu) = before.filter(|gpu| gpu.check().is_ok()) {
            return Ok(gpu);
        }
        let chosen = self.device.borrow().map(|number| number.to_string());
        let options = GpuOptions {
            device: chosen.or_else(|| options.device.clone()),
            ..options.clone()
        };
        let gpu = open(&options)?;
        // What pictures cost is not known before the first.
        let mut wishes = self.wishes.borrow_mut();
        let share = wishes.pace.share;
        wishes.pace = pace_of(share, gpu.class());
        drop(wishes);
        *self.gpu.borrow_mut() = Some(Arc::clone(&gpu));
        self.outbox.send(Event::Device(Arc::clone(&gpu)));
        let all = list_adapters(&options);
        let used = all.iter().position(|a| a.default);
        let names = all.into_iter().map(|a| a.name).collect();
        self.outbox.send(Event::Devices(names, used));
        Ok(gpu)
    }

    /// Take in what the window asks for, and wait for it until `patience` is over.
    fn listen(&self, patience: Duration) {
        self.take_in(&mut self.wishes.borrow_mut(), patience);
    }

    fn take_in(&self, wishes: &mut Wishes, patience: Duration) {
        let first = match self.commands.recv_timeout(patience) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Quit),
        };
        for command in first.into_iter().chain(self.commands.try_iter()) {
            match command {
                Command::Look(looking) => {
                    if looking.moving && !wishes.easel.is_moving() {
                        wishes.pace.hurry();
                    }
                    wishes.easel.look(Some(*looking));
                }
                Command::Painted => self.unpainted.set(None),
                Command::Hide => wishes.easel.look(None),
                Command::Train(training) => wishes.training = training,
                Command::Share(share) => wishes.pace.share = share,
                Command::Save => wishes.save = true,
                Command::Stop => wishes.stop = true,
                // What is open stays so until there is something else.
                Command::Open(choice) => match can_open(&choice.path) {
                    Ok(()) => wishes.next = Some(What::Path(choice)),
                    Err(error) => self.fail(&error),
                },
                Command::Demo(method) => wishes.next = Some(What::Demo(method)),
                Command::Device(number) => {
                    *self.device.borrow_mut() = Some(number);
                    self.switches.set(true);
                }
                Command::Render(errand) => wishes.errands.push_back(errand),
                Command::Cancel => wishes.cancel = true,
                Command::Quit => wishes.quit = true,
                Command::LoseDevice => {
                    if let Some(gpu) = self.gpu.borrow().as_ref() {
                        gpu.lose();
                    }
                }
            }
        }
        wishes.quit |= interrupt::is_asked();
    }

    /// Tell that something did not work, in the window in the same words as on the terminal.
    fn fail(&self, error: &anyhow::Error) {
        self.out.error(error);
        self.outbox.send(Event::Failed(told(error)));
    }

    /// Whether something else is to be done.
    fn is_over(&self) -> bool {
        let wishes = self.wishes.borrow();
        wishes.quit || wishes.next.is_some() || self.switches.get()
    }

    /// Tell what was opened, whose pictures `renderer` makes, and forget what the last one left behind.
    fn open(&self, opened: Opened, mut renderer: Renderer, again: What) {
        renderer.set_budget(longest_submission(renderer.gpu().class()));
        *self.renderer.borrow_mut() = Some(renderer);
        *self.again.borrow_mut() = Some(again);
        self.census.borrow_mut().ticket = None;
        let mut wishes = self.wishes.borrow_mut();
        wishes.easel.clear();
        (wishes.training, wishes.save, wishes.stop) = (Training::Go, false, false);
        wishes.errands.clear();
        wishes.cancel = false;
        drop(wishes);
        self.outbox.send(Event::Opened(Box::new(opened)));
    }

    /// What was open is no more; how it can be opened again.
    fn close(&self) -> Option<What> {
        *self.renderer.borrow_mut() = None;
        self.wishes.borrow_mut().easel.clear();
        self.outbox.send(Event::Closed);
        self.again.borrow_mut().take()
    }

    /// Let pictures show what `driver` has learned so far.
    fn show_newest(&self, driver: &Driver<'_>) -> anyhow::Result<()> {
        if let Some(renderer) = self.renderer.borrow().as_ref() {
            driver.show_newest_in(renderer)?;
        }
        Ok(())
    }

    /// Whether a picture is due or under way.
    fn wants_picture(&self) -> bool {
        let wishes = self.wishes.borrow();
        self.renderer.borrow().is_some() && wishes.easel.wants(&wishes.pace)
    }

    /// Let a picture have its turn, while something else `waits` or not.
    fn draw(&self, waits: bool) -> Result<(), GpuError> {
        let wishes = &mut *self.wishes.borrow_mut();
        let mut renderer = self.renderer.borrow_mut();
        let Some(renderer) = renderer.as_mut() else {
            return Ok(());
        };
        let gpu = Arc::clone(renderer.gpu());
        let started = Instant::now();
        let shot = wishes.easel.turn(&gpu, renderer, &mut wishes.pace)?;
        let moving = wishes.easel.is_moving();
        let seconds = started.elapsed().as_secs_f64();
        wishes.pace.rendered(seconds, waits, moving);
        if let Some(shot) = shot {
            self.unpainted.set(Some(Instant::now()));
            self.outbox.send(Event::Shot(Box::new(shot)));
        }
        // What is painted while something moves comes before whatever else would be done.
        while moving
            && self
                .unpainted
                .get()
                .is_some_and(|at| at.elapsed() < PAINTING)
        {
            self.take_in(wishes, NAP);
        }
        Ok(())
    }

    /// Let the window have its part while something else takes long; whether that is still wanted.
    pub(in crate::cli) fn breathe(&self) -> bool {
        self.listen(Duration::ZERO);
        let worked = self.worked.get().elapsed().as_secs_f64();
        let wants = self.wants_picture();
        self.wishes.borrow_mut().pace.trained(worked, wants);
        // What is wrong with the device is told by what it does for others too.
        while self.wants_picture()
            && !self.is_over()
            && self.wishes.borrow().pace.next(true, true) == Turn::Picture
            && self.draw(true).is_ok()
        {
            self.listen(Duration::ZERO);
        }
        self.worked.set(Instant::now());
        !self.is_over() && !self.wishes.borrow().cancel
    }

    /// Draw what is due, or wait for something to be.
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

    /// Tell now and then how much of the occupancy grid is occupied.
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

    /// Do what is to be rendered and written, if anything, with `renderer`.
    fn run_errand(&self, session: &Session, renderer: &mut Renderer) {
        let errand = self.wishes.borrow_mut().errands.pop_front();
        let Some(errand) = errand else {
            return;
        };
        self.wishes.borrow_mut().cancel = false;
        let outcome = errand::run(session, renderer, *errand);
        renderer.set_crop(None);
        self.outbox.send(Event::Done);
        match outcome {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => {
                self.out
                    .note("left: nothing was written of what was not complete");
            }
            // It is told by what comes next.
            Err(_) if renderer.gpu().is_lost() => {}
            Err(error) => self.fail(&error),
        }
    }

    fn has_lost_device(&self) -> bool {
        self.gpu.borrow().as_ref().is_some_and(|gpu| gpu.is_lost())
    }

    fn has_errand(&self) -> bool {
        !self.wishes.borrow().errands.is_empty()
    }
}

/// Longest submission while a window waits for its turn: what is under way when something moves is waited for.
fn longest_submission(class: AdapterClass) -> Duration {
    Duration::from_millis(match class {
        AdapterClass::Software => 25,
        AdapterClass::Integrated => 10,
        AdapterClass::Discrete => 5,
    })
}

/// How pictures and training take turns at first on such a device: what a picture costs is not known before the first.
fn pace_of(share: f64, class: AdapterClass) -> Pace {
    match class {
        AdapterClass::Software => Pace::new(share, 0.045, 5e4),
        AdapterClass::Integrated => Pace::new(share, 0.010, 2e6),
        AdapterClass::Discrete => Pace::new(share, 0.006, 2e7),
    }
}

/// Do what the window asks for until it closes, `what` first.
pub(super) fn work(session: &Session, what: Option<What>) -> anyhow::Result<()> {
    let Some(desk) = &session.desk else {
        return Ok(());
    };
    let mut next = what;
    let mut lost: Option<Instant> = None;
    // What is to be opened again, on another device.
    let mut reopened: Option<What> = None;
    loop {
        if desk.switches.take() {
            *desk.gpu.borrow_mut() = None;
        }
        // The window needs a device even where nothing is open.
        if let Err(error) = session.open_gpu() {
            if desk.device.borrow_mut().take().is_none() {
                return Err(error.into());
            }
            // What was chosen does not open: the one before did.
            desk.fail(&error.into());
            continue;
        }
        if let Some(what) = next.take() {
            let outcome = open(session, desk, what);
            let again = desk.close();
            reopened = again.clone().filter(|_| desk.switches.get());
            match outcome {
                Ok(()) => {}
                Err(error) if error.is::<Interrupted>() && interrupt::is_asked() => {
                    return Err(error);
                }
                Err(error) if error.is::<Interrupted>() => desk.out.note(error.to_string()),
                Err(error) if desk.has_lost_device() => {
                    // A device that does not hold is not opened for ever.
                    if lost.is_some_and(|at| at.elapsed() < BETWEEN_LOSSES) {
                        return Err(error);
                    }
                    lost = Some(Instant::now());
                    next = again;
                    if next.is_none() {
                        desk.fail(&error);
                    } else {
                        desk.out.error(&error);
                        desk.out.note("opening the device again, and what was open");
                    }
                    continue;
                }
                Err(error) => {
                    // It may not have been saved.
                    reopened = None;
                    desk.fail(&error);
                }
            }
        }
        desk.listen(IDLE);
        let mut wishes = desk.wishes.borrow_mut();
        if wishes.quit && interrupt::is_asked() {
            return Err(Interrupted(", with what was trained saved".to_owned()).into());
        }
        if wishes.quit {
            return Ok(());
        }
        wishes.errands.clear();
        next = wishes.next.take().or(reopened.take());
    }
}

fn open(session: &Session, desk: &Desk, what: What) -> anyhow::Result<()> {
    let train = |dataset: &Path, method: Option<String>| {
        let args = train::Args {
            method,
            ..train::Args::on(dataset)
        };
        train::train(session, &args, None).map(|_| ())
    };
    match what {
        What::Train(args) => train::train(session, &args, None).map(|_| ()),
        What::Again(both) => {
            let [resumed, anew] = &*both;
            let is_saved = resumed.resume.as_deref().is_some_and(is_run);
            train::train(session, if is_saved { resumed } else { anew }, None).map(|_| ())
        }
        What::Path(choice) if is_run(&choice.path) => look(session, desk, &choice.path),
        What::Path(choice) => train(&choice.path, choice.method),
        What::Demo(method) => train(&demo::dataset(session)?, method),
    }
}

/// Whether `path` is a run or a dataset that can be read.
fn can_open(path: &Path) -> anyhow::Result<()> {
    if is_run(path) {
        Checkpoint::open(path)?;
    } else {
        Dataset::open(path)?;
    }
    Ok(())
}

/// Whether there is a checkpoint at `path`, or in it.
fn is_run(path: &Path) -> bool {
    RunDir::of(path).checkpoint().is_file()
}

/// Show the run at `path` until something else is asked for.
fn look(session: &Session, desk: &Desk, path: &Path) -> anyhow::Result<()> {
    let gpu = session.open_gpu()?;
    let OpenRun {
        checkpoint,
        mut renderer,
    } = scene::open_run(session, &gpu, path, None)?;
    let dataset = scene::dataset_of(session, &checkpoint, None, checkpoint.info.opening());
    let dataset = dataset
        .map_err(|error| {
            let reason = format!("no cameras of the run's dataset: {error}");
            session.out.note(reason);
        })
        .ok();
    let config = &checkpoint.info.config;
    let opened = opened(path, config, dataset.as_ref(), &renderer, None);
    let choice = Choice {
        path: path.to_owned(),
        method: None,
    };
    desk.open(opened, renderer.beside()?, What::Path(choice));
    while !desk.is_over() {
        desk.run_errand(session, &mut renderer);
        desk.show()?;
    }
    Ok(())
}

/// What there is to see of a field; `bytes` that its training takes, if it is trained.
fn opened(
    path: &Path,
    config: &Config,
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
        places.extend(frames.map(|frame| Place {
            name: frame.name.clone(),
            camera: frame.camera.downscaled(dataset.downscale),
            near_far: frame.near_far,
            frame: Some(frame.clone()),
        }));
    }
    let scene_frame = SceneFrame::of(config);
    let corners = SceneBox::of(config).corners();
    let corners = corners.map(|corner| scene_frame.world_point(corner));
    if places.is_empty() {
        places.push(Place {
            name: "the scene's box".to_owned(),
            camera: outside(corners),
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
    // The window's own renderer has batches of its own.
    let batches = renderer.batch_bytes();
    Opened {
        title: path.display().to_string(),
        path: path.to_owned(),
        method: config.method.clone(),
        places,
        n_train: dataset.map_or(0, |d| d.train.len()),
        downscale: dataset.map_or(1, |d| d.downscale),
        linear: config.scene.linear,
        corners,
        shows: all.into_iter().filter(|s| renderer.can_show(*s)).collect(),
        can_crop: renderer.can_crop(),
        bytes: batches + bytes.unwrap_or(batches + renderer.parameter_bytes()),
        training: bytes.is_some(),
    }
}

/// A camera that sees the box between `corners` whole.
fn outside([low, high]: [[f64; 3]; 2]) -> Camera {
    let middle: [f64; 3] = std::array::from_fn(|a| f64::midpoint(low[a], high[a]));
    let side = (0..3).map(|a| high[a] - low[a]).fold(0.0, f64::max);
    let eye = [0.9, -1.2, 0.7].map(|v| v * side);
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

/// Let `driver` train as the window wishes; when training is over the field can still be looked at.
pub(in crate::cli) fn train_on(desk: &Desk, driver: &mut Driver<'_>) -> anyhow::Result<()> {
    let path = driver.path();
    let bytes = driver.bytes()?;
    let opened = {
        let (config, dataset, renderer) = driver.scene();
        opened(&path, config, Some(dataset), renderer, Some(bytes))
    };
    let again = What::Again(Box::new(driver.args_again()));
    desk.open(opened, driver.renderer().apart()?, again);
    driver.set_budget(longest_submission(driver.gpu().class()));
    let mut over = !driver.begin()?;
    let mut told = Instant::now();
    let mut was_paused = false;
    while !over && !desk.is_over() {
        let (training, save, stop) = {
            let mut wishes = desk.wishes.borrow_mut();
            wishes.cancel = false;
            let save = std::mem::take(&mut wishes.save);
            (wishes.training, save, wishes.stop)
        };
        let wants = desk.wants_picture();
        let trains = training != Training::Pause;
        let has_errand = desk.has_errand();
        if (!trains && !was_paused) || has_errand {
            driver.pause()?;
        }
        was_paused = !trains;
        if save {
            driver.pause()?;
            if let Err(error) = driver.save_and_tell() {
                desk.fail(&error);
            }
        }
        if stop {
            break;
        }
        if has_errand {
            driver.show_newest()?;
            desk.run_errand(driver.session(), driver.renderer());
        }
        let turn = desk.wishes.borrow().pace.next(wants, trains);
        match turn {
            Turn::Picture => {
                let started = Instant::now();
                if !desk.wishes.borrow().easel.is_busy() {
                    desk.show_newest(driver)?;
                }
                desk.draw(trains)?;
                driver.leave_out(started.elapsed());
            }
            Turn::Training => {
                let started = Instant::now();
                let one = training == Training::Step;
                let before = driver.step();
                desk.worked.set(started);
                let outcome = match driver.turn(if one { before + 1 } else { u32::MAX }) {
                    // An evaluation was left; what was trained is saved.
                    Err(error) if error.is::<Interrupted>() && !interrupt::is_asked() => break,
                    outcome => outcome?,
                };
                if one && outcome == Step::Went && driver.step() > before {
                    driver.pause()?;
                    desk.wishes.borrow_mut().training = Training::Pause;
                }
                over = outcome == Step::Done;
                // One at a time, so that a picture need not wait for more than one.
                let waits = wants || desk.wishes.borrow().easel.is_moving();
                while waits && !driver.is_idle()? {
                    std::thread::sleep(NAP);
                }
                if outcome == Step::Busy {
                    std::thread::sleep(NAP);
                }
                let mut wishes = desk.wishes.borrow_mut();
                wishes.easel.spoil();
                wishes.pace.trained(started.elapsed().as_secs_f64(), wants);
            }
            Turn::Nobody => {}
        }
        desk.count_occupied()?;
        if told.elapsed().as_secs_f64() > REPORT || !trains {
            told = Instant::now();
            desk.outbox.send(Event::Progress(driver.progress(!trains)));
        }
        desk.listen(if turn == Turn::Nobody {
            IDLE
        } else {
            Duration::ZERO
        });
    }
    desk.outbox.send(Event::Progress(driver.progress(true)));
    desk.outbox.send(Event::Ending);
    desk.wishes.borrow_mut().cancel = false;
    let text = if over {
        match driver.end() {
            Ok(report) => report.map_or_else(|| "trained".to_owned(), |r| scene::describe(&r)),
            Err(error) if error.is::<Interrupted>() && !interrupt::is_asked() => {
                format!("trained to step {} and saved; not evaluated", driver.step())
            }
            Err(error) => return Err(error),
        }
    } else {
        driver.pause()?;
        let outcome = driver.save_and_tell();
        match outcome {
            // Who asked to leave is to know that it is lost.
            Err(error) if desk.is_over() => return Err(error),
            Err(error) => {
                desk.fail(&error);
                format!("stopped at step {}, not saved", driver.step())
            }
            Ok(()) => format!("stopped at step {} and saved", driver.step()),
        }
    };
    desk.outbox.send(Event::Progress(driver.progress(true)));
    desk.outbox.send(Event::Ended(text));
    // From now on it is a run like any other, unless it goes on elsewhere.
    if !desk.is_over() {
        *desk.again.borrow_mut() = Some(What::Path(Choice { path, method: None }));
    }
    driver.show_newest()?;
    desk.show_newest(driver)?;
    desk.wishes.borrow_mut().easel.spoil();
    while !desk.is_over() {
        desk.run_errand(driver.session(), driver.renderer());
        desk.show()?;
    }
    Ok(())
}
