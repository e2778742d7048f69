//! Training under the window's control.

use super::super::protocol::{Event, OpenChoice, TrainingEnd, TrainingMode};
use super::super::{NextWork, Progress, TrainerReport};
use super::context::{EngineContext, IDLE, OpenRequest, POLL_INTERVAL, longest_submission};
use super::show::opened;
use crate::session::Observer as _;
use crate::session::{Fit, FitOptions, FitProgress, FitStatus, Result};
use std::time::{Duration, Instant};

/// Seconds between progress reports.
const REPORT: f64 = 0.25;

/// Run a training in the window.
pub(super) fn train(engine: &EngineContext, options: &FitOptions) -> Result<()> {
    options.check()?;
    let gpu = engine.open_gpu()?;
    let mut fit = Fit::open(&gpu, options, engine)?;
    train_on(engine, &mut fit)
}

/// Train `fit` under the window's control, then show the result until the window requests something else.
fn train_on(engine: &EngineContext, fit: &mut Fit<'_>) -> Result<()> {
    let path = fit.dir().path().to_owned();
    let bytes = fit.bytes()?;
    let (opened, renderer) = {
        let renderer = fit.renderer().with_own_parameters()?;
        let opened = opened(
            &path,
            fit.config(),
            Some(fit.dataset()),
            &renderer,
            Some(bytes),
        )?;
        (opened, renderer)
    };
    let again = OpenRequest::Resume(Box::new(fit.options_again()));
    engine.open(opened, renderer, again);
    fit.set_budget(longest_submission(fit.gpu().class()));
    let mut over = false;
    let mut reported = Instant::now();
    let mut was_paused = false;
    while !over && !engine.is_over() {
        let (training, save, stop) = {
            let mut requests = engine.requests.borrow_mut();
            requests.cancel = false;
            requests.scheduler.is_training = requests.training != TrainingMode::Pause;
            let save = std::mem::take(&mut requests.save);
            (requests.training, save, requests.stop)
        };
        let wants = engine.wants_picture();
        let trains = training != TrainingMode::Pause;
        let has_export = engine.has_export();
        if (!trains && !was_paused) || has_export {
            fit.pause()?;
        }
        was_paused = !trains;
        if save {
            fit.pause()?;
            if let Err(error) = fit.save_and_note() {
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
                // Steps in flight end first, so that their time does not count as the view's.
                while !fit.is_idle()? {
                    std::thread::sleep(POLL_INTERVAL);
                }
                let started = Instant::now();
                if !engine.requests.borrow().picture.is_busy() {
                    engine.show_newest(fit)?;
                }
                engine.draw(trains)?;
                fit.exclude_time(started.elapsed());
            }
            NextWork::Training => {
                let one = training == TrainingMode::Step;
                let before = fit.progress().step;
                engine.worked.set(Instant::now());
                let outcome = match fit.advance(if one { before + 1 } else { u32::MAX }) {
                    // The user cancelled an evaluation; the training was saved.
                    Err(error) if error.is_cancelled() && !engine.is_cancelled() => break,
                    outcome => outcome?,
                };
                if one && outcome == FitStatus::Worked && fit.progress().step > before {
                    fit.pause()?;
                    engine.requests.borrow_mut().training = TrainingMode::Pause;
                }
                over = outcome == FitStatus::Done;
                // Submit one batch at a time, so that a view waits for at most one.
                let waits = wants || engine.requests.borrow().picture.is_moving();
                while waits && !fit.is_idle()? {
                    std::thread::sleep(POLL_INTERVAL);
                }
                if outcome == FitStatus::Busy {
                    std::thread::sleep(POLL_INTERVAL);
                }
                // Since the last view: a long task renders views too.
                let worked = engine.worked.get().elapsed().as_secs_f64();
                let mut requests = engine.requests.borrow_mut();
                requests.picture.mark_stale();
                requests.scheduler.trained(worked, wants);
            }
            NextWork::Idle => {}
        }
        engine.count_occupied()?;
        if reported.elapsed().as_secs_f64() > REPORT || !trains {
            reported = Instant::now();
            engine.events.send(Event::Progress(report(fit, !trains)));
        }
        engine.receive_commands(if turn == NextWork::Idle {
            IDLE
        } else {
            Duration::ZERO
        });
    }
    engine.events.send(Event::Progress(report(fit, true)));
    engine.events.send(Event::Ending);
    let mut requests = engine.requests.borrow_mut();
    (requests.cancel, requests.scheduler.is_training) = (false, false);
    drop(requests);
    let step = fit.progress().step;
    let ending = if over {
        match fit.finish() {
            Ok(Some(report)) => {
                engine.events.send(Event::Evaluated(Box::new(report)));
                TrainingEnd::Done
            }
            Ok(None) => TrainingEnd::Done,
            Err(error) if error.is_cancelled() && !engine.is_cancelled() => {
                TrainingEnd::NotEvaluated(step)
            }
            Err(error) => return Err(error),
        }
    } else {
        fit.pause()?;
        let outcome = fit.save_and_note();
        match outcome {
            // If the window closes, the failure must reach the user as the program's error.
            Err(error) if engine.is_over() => return Err(error),
            Err(error) => {
                engine.fail(&error);
                TrainingEnd::NotSaved(step)
            }
            Ok(()) if engine.is_cancelled() => return Err(fit.saved_interruption()),
            Ok(()) => TrainingEnd::Stopped(step),
        }
    };
    engine.events.send(Event::Progress(report(fit, true)));
    engine.events.send(Event::Ended(ending));
    // From now on, reopening shows the run instead of training it, unless training is to continue on another device.
    if !engine.is_over() {
        *engine.again.borrow_mut() = Some(OpenRequest::Path(OpenChoice { path, method: None }));
    }
    fit.show_newest()?;
    engine.show_newest(fit)?;
    engine.requests.borrow_mut().picture.mark_stale();
    while !engine.is_over() {
        engine.run_export(fit.renderer());
        engine.show()?;
    }
    Ok(())
}

/// Return the progress of `fit`, for the window.
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
        learned: latest.map(|p| TrainerReport {
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
