//! The thread behind the window: opens, trains and draws as it is told.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::interrupt::{self, Interrupted};
use super::super::output::{Output, told};
use super::super::scene::{self, OpenRun};
use super::super::train::{self, Driver, Turn as Step};
use super::super::{Session, demo};
use super::easel::Easel;
use crate::camera::Camera;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::dataset::Dataset;
use crate::gpu::{AdapterClass, Gpu, GpuError};
use crate::render::{Renderer, Show};
use crate::run::RunDir;
use crate::sampling::SceneBox;
use crate::viewer::{Command, Event, Opened, Outbox, Pace, Training, Turn};

/// Share of the device that training gets at first.
const SHARE: f64 = 0.75;
/// Between looks at commands, while there is nothing to do.
const IDLE: Duration = Duration::from_millis(50);
/// Between looks at the device, while it is busy.
const NAP: Duration = Duration::from_micros(300);
/// Seconds between two reports of progress.
const REPORT: f64 = 0.25;

/// What to open.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A run or a dataset.
    Path(PathBuf),
    /// Training as its flags say.
    Train(Box<train::Args>),
    /// The built-in scene.
    Demo,
}

/// What the window has asked for, and has not got yet.
#[derive(Debug)]
struct Wishes {
    easel: Easel,
    pace: Pace,
    training: Training,
    save: bool,
    stop: bool,
    quit: bool,
    next: Option<What>,
}

/// Where commands come in and events go out.
#[derive(Debug)]
pub(in crate::cli) struct Desk {
    outbox: Outbox,
    out: Output,
    commands: Receiver<Command>,
    wishes: RefCell<Wishes>,
    gpu: RefCell<Option<Arc<Gpu>>>,
}

impl Desk {
    pub(super) fn new(commands: Receiver<Command>, outbox: Outbox, out: &Output) -> Self {
        Self {
            outbox,
            out: out.clone(),
            commands,
            wishes: RefCell::new(Wishes {
                easel: Easel::default(),
                pace: Pace::new(SHARE, 50_000.0),
                training: Training::Go,
                save: false,
                stop: false,
                quit: false,
                next: None,
            }),
            gpu: RefCell::default(),
        }
    }

    /// The device that is open, or one that `open` opens; the window draws with it too.
    pub(in crate::cli) fn gpu(
        &self,
        open: impl FnOnce() -> Result<Arc<Gpu>, GpuError>,
    ) -> Result<Arc<Gpu>, GpuError> {
        let before = self.gpu.borrow().clone();
        if let Some(gpu) = before.filter(|gpu| gpu.check().is_ok()) {
            return Ok(gpu);
        }
        let gpu = open()?;
        // What pictures cost is not known before the first.
        self.wishes.borrow_mut().pace = Pace::new(
            SHARE,
            match gpu.class() {
                AdapterClass::Software => 5e4,
                AdapterClass::Integrated => 2e6,
                AdapterClass::Discrete => 2e7,
            },
        );
        *self.gpu.borrow_mut() = Some(Arc::clone(&gpu));
        self.outbox.send(Event::Device(Arc::clone(&gpu)));
        Ok(gpu)
    }

    /// Take in what the window asks for, and wait for it until `patience` is over.
    fn listen(&self, patience: Duration) {
        let first = match self.commands.recv_timeout(patience) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Quit),
        };
        let mut wishes = self.wishes.borrow_mut();
        for command in first.into_iter().chain(self.commands.try_iter()) {
            match command {
                Command::Look(looking) => wishes.easel.look(Some(*looking)),
                Command::Hide => wishes.easel.look(None),
                Command::Train(training) => wishes.training = training,
                Command::Share(share) => wishes.pace.share = share,
                Command::Save => wishes.save = true,
                Command::Stop => wishes.stop = true,
                // What is open stays so until there is something else.
                Command::Open(path) => match can_open(&path) {
                    Ok(()) => wishes.next = Some(What::Path(path)),
                    Err(error) => {
                        self.out.error(&error);
                        self.outbox.send(Event::Failed(told(&error)));
                    }
                },
                Command::Demo => wishes.next = Some(What::Demo),
                Command::Quit => wishes.quit = true,
            }
        }
        wishes.quit |= interrupt::is_asked();
    }

    /// Whether something else is to be done.
    fn is_over(&self) -> bool {
        let wishes = self.wishes.borrow();
        wishes.quit || wishes.next.is_some()
    }

    /// Tell what was opened, and forget what the last one left behind.
    fn open(&self, opened: Opened) {
        let mut wishes = self.wishes.borrow_mut();
        wishes.easel.clear();
        (wishes.training, wishes.save, wishes.stop) = (Training::Go, false, false);
        drop(wishes);
        self.outbox.send(Event::Opened(Box::new(opened)));
    }

    /// Let a picture have its turn.
    fn draw(&self, gpu: &Gpu, renderer: &mut Renderer, training: bool) -> Result<(), GpuError> {
        let wishes = &mut *self.wishes.borrow_mut();
        let started = Instant::now();
        let shot = wishes.easel.turn(gpu, renderer, &mut wishes.pace)?;
        let moving = wishes.easel.is_moving();
        let seconds = started.elapsed().as_secs_f64();
        wishes.pace.rendered(seconds, training, moving);
        if let Some(shot) = shot {
            self.outbox.send(Event::Shot(shot));
        }
        Ok(())
    }
}

/// Do what the window asks for until it closes, `what` first.
pub(super) fn work(session: &Session, what: Option<What>) -> anyhow::Result<()> {
    let Some(desk) = &session.desk else {
        return Ok(());
    };
    // The window needs a device even where nothing is open.
    session.open_gpu()?;
    let mut next = what;
    loop {
        if let Some(what) = next.take() {
            let outcome = open(session, desk, what);
            match outcome {
                Ok(()) => {}
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    desk.outbox.send(Event::Failed(told(&error)));
                    session.out.error(&error);
                }
            }
        }
        desk.listen(IDLE);
        let mut wishes = desk.wishes.borrow_mut();
        if wishes.quit {
            break;
        }
        next = wishes.next.take();
        drop(wishes);
    }
    Ok(())
}

fn open(session: &Session, desk: &Desk, what: What) -> anyhow::Result<()> {
    match what {
        What::Train(args) => train::train(session, &args, None).map(|_| ()),
        What::Path(path) if is_run(&path) => look(session, desk, &path),
        What::Path(path) => train::train(session, &train::Args::on(&path), None).map(|_| ()),
        What::Demo => {
            let dataset = demo::dataset(session)?;
            train::train(session, &train::Args::on(&dataset), None).map(|_| ())
        }
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
    } = scene::open_run(&gpu, path, None)?;
    let dataset = scene::dataset_of(session, &checkpoint, None, None);
    let dataset = dataset
        .map_err(|error| {
            let reason = format!("no cameras of the run's dataset: {error}");
            session.out.note(reason);
        })
        .ok();
    let title = path.file_name().unwrap_or(path.as_os_str());
    desk.open(opened(
        &title.to_string_lossy(),
        &checkpoint.info.config,
        dataset.as_ref(),
        &renderer,
        false,
    ));
    while !desk.is_over() {
        show(desk, &gpu, &mut renderer)?;
    }
    Ok(())
}

/// Draw what is due, or wait for something to be.
fn show(desk: &Desk, gpu: &Gpu, renderer: &mut Renderer) -> anyhow::Result<()> {
    let wishes = desk.wishes.borrow();
    let wants = wishes.easel.wants(&wishes.pace);
    drop(wishes);
    if wants {
        desk.draw(gpu, renderer, false)?;
        desk.listen(Duration::ZERO);
    } else {
        gpu.poll_once()?;
        desk.listen(IDLE);
    }
    Ok(())
}

/// What there is to see of a field.
fn opened(
    title: &str,
    config: &Config,
    dataset: Option<&Dataset>,
    renderer: &Renderer,
    training: bool,
) -> Opened {
    let mut cameras = Vec::new();
    let mut n_train = 0;
    if let Some(dataset) = dataset {
        n_train = dataset.train.len();
        let frames = dataset
            .train
            .iter()
            .chain(&dataset.val)
            .chain(&dataset.test);
        cameras.extend(frames.map(|f| {
            let camera = f.camera.downscaled(dataset.downscale);
            (f.name.clone(), camera, f.near_far)
        }));
    }
    let corners = SceneBox::of(config).corners();
    if cameras.is_empty() {
        cameras.push(("the scene's box".to_owned(), outside(corners), None));
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
    Opened {
        title: title.to_owned(),
        method: config.method.clone(),
        cameras,
        n_train,
        corners,
        shows: all.into_iter().filter(|s| renderer.can_show(*s)).collect(),
        training,
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
    let gpu = Arc::clone(driver.gpu());
    let title = driver.title();
    let opened = {
        let (config, dataset, renderer) = driver.scene();
        opened(&title, config, Some(dataset), renderer, true)
    };
    desk.open(opened);
    let mut over = !driver.begin()?;
    let mut told = Instant::now();
    let mut was_paused = false;
    while !over && !desk.is_over() {
        let (wants, training, save, stop) = {
            let mut wishes = desk.wishes.borrow_mut();
            let wants = wishes.easel.wants(&wishes.pace);
            let save = std::mem::take(&mut wishes.save);
            (wants, wishes.training, save, wishes.stop)
        };
        let trains = training != Training::Pause;
        if !trains && !was_paused {
            driver.pause()?;
        }
        was_paused = !trains;
        if save {
            driver.pause()?;
            driver.save_and_tell()?;
        }
        if stop {
            break;
        }
        let turn = desk.wishes.borrow().pace.next(wants, trains);
        match turn {
            Turn::Picture => {
                if !desk.wishes.borrow().easel.is_busy() {
                    driver.show_newest()?;
                }
                desk.draw(&gpu, driver.renderer(), trains)?;
            }
            Turn::Training => {
                let started = Instant::now();
                let one = training == Training::Step;
                let (before, renderings) = (driver.step(), driver.renderings());
                let outcome = driver.turn(if one { driver.step() + 1 } else { u32::MAX })?;
                if one && outcome == Step::Went && driver.step() > before {
                    driver.pause()?;
                    desk.wishes.borrow_mut().training = Training::Pause;
                }
                over = outcome == Step::Done;
                // One at a time, so that a picture need not wait for more than one.
                while wants && !driver.is_idle()? {
                    std::thread::sleep(NAP);
                }
                if outcome == Step::Busy {
                    std::thread::sleep(NAP);
                }
                let mut wishes = desk.wishes.borrow_mut();
                wishes.easel.spoil();
                if driver.renderings() != renderings {
                    wishes.easel.restart();
                }
                wishes.pace.trained(started.elapsed().as_secs_f64(), wants);
            }
            Turn::Nobody => {}
        }
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
    if over {
        desk.outbox.send(Event::Doing("evaluating".to_owned()));
        let report = driver.end()?;
        let text = report.map_or_else(|| "trained".to_owned(), |r| scene::describe(&r));
        desk.outbox.send(Event::Ended(text));
    } else {
        driver.pause()?;
        driver.save_and_tell()?;
        let text = format!("stopped at step {} and saved", driver.step());
        desk.outbox.send(Event::Ended(text));
    }
    driver.show_newest()?;
    desk.wishes.borrow_mut().easel.spoil();
    while !desk.is_over() {
        show(desk, &gpu, driver.renderer())?;
    }
    Ok(())
}
