//! The engine thread of the window: opens, trains and renders on command.

mod context;
mod export_job;
mod floaters;
mod observer;
mod progressive_render;
mod show;
mod training;

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use context::{EngineContext, IDLE, OpenRequest};
use show::show_run;
use training::train;

use super::protocol::{Command, EventSender, OpenChoice};
use crate::config::ConfigOptions;
use crate::run::RunDir;
use crate::session::crop::crop_run;
use crate::session::prepare::{PrepareOptions, prepare};
use crate::session::{
    DistillOptions, Error, FitOptions, Observer, ObserverExt as _, Result, WindowContent,
    WindowOptions, advice, make_demo_scene,
};

/// If the device is lost twice within this time, the engine gives up.
const BETWEEN_LOSSES: Duration = Duration::from_secs(30);

/// Open the `content` of the options, then serve the window until it closes.
pub(super) fn run(
    commands: Receiver<Command>,
    events: EventSender,
    options: WindowOptions,
    terminal: Box<dyn Observer + Send>,
) -> Result<()> {
    let engine = &EngineContext::new(commands, events, (options.gpu, options.command), terminal);
    let mut next = options.content.map(|content| match content {
        WindowContent::Path(path) => OpenRequest::Path(OpenChoice { path, method: None }),
        WindowContent::Fit(options) => OpenRequest::Train(options),
    });
    let mut lost: Option<Instant> = None;
    // The request that is being reopened on another device.
    let mut reopened: Option<OpenRequest> = None;
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
            let origin = what.origin();
            // What was cancelled before is over.
            engine.requests.borrow_mut().cancel = false;
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
                        engine.report_on_terminal(&error.full_message());
                        engine.note("reopening the device and what was open");
                    }
                    continue;
                }
                Err(error) => {
                    // The training may not have been saved.
                    reopened = origin.map(OpenRequest::Path);
                    engine.fail(&error);
                }
            }
        }
        engine.receive_commands(IDLE);
        let mut requests = engine.requests.borrow_mut();
        if requests.quit && engine.is_cancelled() {
            // Nothing was being trained: there is nothing to continue.
            return Err(Error::Cancelled(String::new()));
        }
        if requests.quit {
            return Ok(());
        }
        requests.exports.clear();
        next = requests.next.take().or(reopened.take());
    }
}

fn open(engine: &EngineContext, what: OpenRequest) -> Result<()> {
    let command = || engine.command.clone();
    let fit = |path: &Path, method: Option<String>| {
        let options = FitOptions {
            config: ConfigOptions {
                method,
                ..ConfigOptions::default()
            },
            command: command(),
            ..FitOptions::new(path)
        };
        train(engine, &options)
    };
    match what {
        OpenRequest::Continue(run, seconds) => {
            let trained = advice::open_checkpoint(&run)?.info.train_seconds;
            let options = FitOptions {
                resume: Some(run),
                seconds: Some(trained + seconds),
                command: command(),
                ..FitOptions::default()
            };
            train(engine, &options)
        }
        OpenRequest::RemoveOutside(run, crop) => {
            let cropped = crop_run(&run, &crop)?;
            let [before, after] = cropped.cells;
            engine.note(format!(
                "removed {} of {before} occupied cells: {} is the copy without them, {} is unchanged",
                before - after,
                cropped.path.display(),
                run.display()
            ));
            show_run(engine, &cropped.path)
        }
        OpenRequest::Distill(run) => {
            let options = FitOptions {
                distill: Some(DistillOptions::new(run)),
                command: command(),
                ..FitOptions::default()
            };
            train(engine, &options)
        }
        OpenRequest::Train(options) => train(engine, &options),
        OpenRequest::Resume(both) => {
            let [resumed, anew] = &*both;
            let is_saved = resumed
                .resume
                .as_deref()
                .is_some_and(|run| RunDir::of(run).has_checkpoint());
            train(engine, if is_saved { resumed } else { anew })
        }
        OpenRequest::Path(choice) if RunDir::of(&choice.path).has_checkpoint() => {
            show_run(engine, &choice.path)
        }
        OpenRequest::Path(choice) => fit(&choice.path, choice.method),
        OpenRequest::Prepare(choice) => {
            let options = PrepareOptions::beside(&choice.path);
            let done = prepare(&options, engine)?;
            engine.note(format!(
                "{} of {} images registered, {} points: {} is the dataset",
                done.registered,
                done.images,
                done.points,
                options.out.display()
            ));
            fit(&options.out, choice.method)
        }
        OpenRequest::Demo(method) => {
            let dataset = make_demo_scene(&*engine.open_gpu()?, Path::new("demo"), engine)?;
            fit(&dataset, method)
        }
    }
}
