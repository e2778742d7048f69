//! The window's state, driven by events and key presses.

use super::*;
use crate::dataset::SparsePoints;
use crate::report::History;
use crate::viewer::protocol::{TrainerReport, TrainingEnd};

fn viewpoints(n: u8) -> Vec<Viewpoint> {
    let stand = |i: u8| {
        let angle = f32::from(i);
        let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
        let camera = Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.8, 100, 100);
        Viewpoint {
            name: format!("view {i}"),
            camera,
            near_far: None,
            frame: None,
        }
    };
    (0..n).map(stand).collect()
}

/// A window of 800×600 points with a training open: five cameras, four of them training views.
struct Window {
    context: egui::Context,
    state: State,
    time: f64,
}

impl Window {
    fn new() -> Self {
        let mut state = State::default();
        state.handle_event(Event::Opened(Box::new(Opened {
            title: "run".to_owned(),
            method: "ngp".to_owned(),
            path: PathBuf::from("runs/run"),
            viewpoints: viewpoints(5),
            n_train: 4,
            downscale: 1,
            linear: false,
            can_crop: true,
            bytes: 1 << 20,
            bounds: Aabb {
                low: [-1.0; 3],
                high: [1.0; 3],
            },
            points: SparsePoints {
                positions: vec![[0.1, 0.0, 0.2], [0.0, 0.3, 0.0]],
                colors: vec![[255, 0, 0]; 2],
                reprojection_error: None,
            },
            shows: vec![RenderMode::Color, RenderMode::Depth],
            training: true,
            evaluation: None,
            is_kept_stage: false,
            history: History::default(),
        })));
        let mut window = Self {
            context: egui::Context::default(),
            state,
            time: 0.0,
        };
        // Panels reach their final size in the second frame.
        window.frame(Vec::new());
        window.frame(Vec::new());
        window.state.take_commands();
        window
    }

    /// Draw a frame 0.02 s later; return the commands for the engine.
    fn frame(&mut self, events: Vec<egui::Event>) -> Vec<Command> {
        self.time += 0.02;
        let size = egui::vec2(800.0, 600.0);
        let input = egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, size)),
            time: Some(self.time),
            focused: true,
            events,
            ..Default::default()
        };
        let state = &mut self.state;
        let mut output = self
            .context
            .run_ui(input, |ui| crate::viewer::panels::show(state, ui));
        output.textures_delta.clear();
        self.state.take_commands()
    }

    fn press(&mut self, key: egui::Key) -> Vec<Command> {
        let event = |pressed| key_event(key, pressed, egui::Modifiers::NONE);
        self.frame(vec![event(true), event(false)])
    }
}

fn key_event(key: egui::Key, pressed: bool, modifiers: egui::Modifiers) -> egui::Event {
    egui::Event::Key {
        key,
        physical_key: None,
        pressed,
        repeat: false,
        modifiers,
    }
}

fn view_requests(commands: &[Command]) -> Vec<&ViewRequest> {
    let mut all = Vec::new();
    for command in commands {
        if let Command::Look(request) = command {
            all.push(request.as_ref());
        }
    }
    all
}

#[test]
fn it_starts_at_the_first_camera_and_requests_the_view_once() {
    let mut window = Window::new();
    assert_eq!(window.state.at_camera, Some(0));
    assert!(window.frame(Vec::new()).is_empty());
    // The view has the photograph's aspect ratio, and is as large as possible.
    let (camera, _) = window.state.camera().unwrap();
    assert_eq!(camera.width, camera.height);
    assert_eq!(
        camera.height,
        window.state.canvas.pixels[1].min(window.state.canvas.pixels[0])
    );
}

#[test]
fn a_drag_turns_the_camera_and_its_end_requests_a_resting_view() {
    let mut window = Window::new();
    let middle = window.state.canvas.rect.center();
    let button = |pressed, pos| egui::Event::PointerButton {
        pos,
        button: egui::PointerButton::Primary,
        pressed,
        modifiers: egui::Modifiers::NONE,
    };
    window.frame(vec![
        egui::Event::PointerMoved(middle),
        button(true, middle),
    ]);
    let there = middle + egui::vec2(60.0, 20.0);
    let mut commands = window.frame(vec![egui::Event::PointerMoved(there)]);
    commands.extend(window.frame(vec![button(false, there)]));
    let asked = view_requests(&commands);
    assert!(!asked.is_empty() && asked.iter().all(|l| l.moving));
    assert_eq!(window.state.at_camera, None);
    // Let the camera come to rest.
    window.time += 1.0;
    let commands = window.frame(Vec::new());
    assert_eq!(view_requests(&commands).len(), 1);
    assert!(!view_requests(&commands)[0].moving);
    // Return exactly to the first camera.
    let commands = window.press(egui::Key::R);
    let first = window.state.camera().unwrap().0;
    let expected = viewpoints(1)[0].camera.resized(first.width, first.height);
    assert_eq!(view_requests(&commands)[0].camera, expected);
}

#[test]
fn keys_step_through_cameras_and_modes() {
    let mut window = Window::new();
    window.press(egui::Key::P);
    assert_eq!(window.state.at_camera, Some(4));
    window.press(egui::Key::N);
    window.press(egui::Key::N);
    assert_eq!(window.state.at_camera, Some(1));
    let commands = window.press(egui::Key::Num2);
    assert_eq!(view_requests(&commands)[0].shading.show, RenderMode::Depth);
    // A mode that this run does not support is not selected.
    window.press(egui::Key::Num6);
    assert_eq!(window.state.show, RenderMode::Depth);
}

#[test]
fn keys_of_shortcuts_do_not_fly_and_a_question_holds_the_view() {
    let (none, ctrl) = (egui::Modifiers::NONE, egui::Modifiers::COMMAND);
    let mut window = Window::new();
    let position = |window: &Window| window.state.view.unwrap().camera(1, 1).position();
    let first = position(&window);
    // Ctrl is released before the letter.
    window.frame(vec![key_event(egui::Key::E, true, ctrl)]);
    window.frame(Vec::new());
    assert_eq!(position(&window), first);
    window.frame(vec![key_event(egui::Key::E, false, none)]);
    window.frame(vec![key_event(egui::Key::E, true, none)]);
    window.frame(Vec::new());
    let second = position(&window);
    assert_ne!(second, first);
    window.state.question = Some(Question::SaveBeforeClosing);
    window.frame(Vec::new());
    window.press(egui::Key::B);
    assert_eq!(position(&window), second);
    window.press(egui::Key::Escape);
    assert!(window.state.question.is_none());
}

#[test]
fn training_pauses_steps_and_continues() {
    let mut window = Window::new();
    let trains = |commands: &[Command]| match commands {
        [Command::Train(training)] => Some(*training),
        _ => None,
    };
    let commands = window.press(egui::Key::Space);
    assert_eq!(trains(&commands), Some(TrainingMode::Pause));
    let commands = window.press(egui::Key::Period);
    assert_eq!(trains(&commands), Some(TrainingMode::Step));
    let commands = window.press(egui::Key::Space);
    assert_eq!(trains(&commands), Some(TrainingMode::Run));
    assert!(window.state.training_status().ends_with("s left"));
    window
        .state
        .handle_event(Event::Ended(TrainingEnd::Stopped(7)));
    assert_eq!(window.state.training_status(), "stopped at step 7");
    assert!(window.press(egui::Key::Space).is_empty());
}

#[test]
fn errors_stay_until_they_are_closed_and_what_is_open_stays_too() {
    let mut window = Window::new();
    window
        .state
        .handle_event(Event::Failed("no such dataset".to_owned()));
    window.frame(Vec::new());
    assert_eq!(window.state.failed.as_deref(), Some("no such dataset"));
    assert!(window.state.log.iter().any(|l| l.is_error));
    assert!(window.state.opened.is_some());
    window.press(egui::Key::Escape);
    assert_eq!(window.state.failed, None);
}

fn learned(step: u32, seconds: f64) -> TrainerReport {
    TrainerReport {
        step,
        seconds,
        loss: 0.1,
        train_psnr: 20.0,
    }
}

#[test]
fn curves_hold_each_reported_value_once() {
    let mut state = State::default();
    for step in 0..6000_u32 {
        let progress = Progress {
            step: step / 2,
            seconds: f64::from(step / 2) / 10.0,
            learned: Some(learned(step / 2, f64::from(step / 2) / 10.0)),
            held_out: Some(f64::from(step / 1000)),
            ..Progress::default()
        };
        state.handle_event(Event::Progress(progress));
    }
    let points = &state.loss.0;
    assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 4);
    assert!(points.windows(2).all(|p| p[0][0] < p[1][0]));
    assert!((points[points.len() - 1][0] - 299.9).abs() < 1e-9);
    assert_eq!(state.held_out.0.len(), 6);
    // A restarted run starts its curve again.
    let again = Progress {
        step: 1,
        seconds: 5.0,
        learned: Some(learned(1, 5.0)),
        ..Progress::default()
    };
    state.handle_event(Event::Progress(again));
    assert!(state.loss.0.iter().all(|p| p[0] <= 5.0));
}

#[test]
fn a_hidden_window_asks_for_nothing() {
    let mut window = Window::new();
    window.state.hidden = true;
    assert!(matches!(window.frame(Vec::new())[..], [Command::Hide]));
    assert!(window.frame(Vec::new()).is_empty());
    window.state.hidden = false;
    assert_eq!(view_requests(&window.frame(Vec::new())).len(), 1);
}

#[test]
fn sizes_fit() {
    assert_eq!(fit([100, 50], [400, 400]), [400, 200]);
    assert_eq!(fit([50, 100], [400, 400]), [200, 400]);
    assert_eq!(fit([1, 1000], [10, 10]), [1, 10]);
}

#[cfg(unix)]
#[test]
fn what_has_no_poses_is_prepared_first() {
    let folder = tempfile::TempDir::new().unwrap();
    let video = folder.path().join("desk.mp4");
    std::fs::write(&video, b"").unwrap();
    let mut window = Window::new();
    window.state.open_path(&video);
    assert_eq!(
        window.state.question,
        Some(Question::Prepare(video.clone()))
    );
    // The question is shown, and nothing starts before it is answered.
    let commands = window.frame(Vec::new());
    assert!(
        !commands
            .iter()
            .any(|c| matches!(c, Command::Prepare(_) | Command::Open(_)))
    );
    window.state.prepare(&video);
    assert_eq!(window.state.question, None);
    let commands = window.state.take_commands();
    assert!(matches!(&commands[..], [Command::Prepare(choice)] if choice.path == video));
}

#[test]
fn a_pipe_that_is_dropped_is_not_read() {
    let folder = tempfile::TempDir::new().unwrap();
    let pipe = folder.path().join("path.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let mut window = Window::new();
    // Opening the pipe would block for ever; the engine refuses it.
    window.state.open_path(&pipe);
    let commands = window.state.take_commands();
    assert!(matches!(&commands[..], [Command::Open(choice)] if choice.path == pipe));
}
