//! The window: passes system events to egui and draws egui's output on the screen.

mod folder_dialog;
mod painter;

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop};
use winit::window::{Window, WindowId};

use super::panels;
use super::photo_loader::PhotoLoader;
use super::protocol::{Command, Event, EventSender};
use super::recent::Recent;
use super::script::{Script, WindowAction};
use super::state::State;
use super::theme;
use crate::gpu::{Gpu, GpuError};
use folder_dialog::{Answer, FolderDialog};
use painter::Painter;

/// Error of the window.
#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    /// There is no display.
    #[error(
        "no window can be opened ({0}): it needs a display (on Linux, DISPLAY or WAYLAND_DISPLAY); without one, use kiln train without --view, and kiln render"
    )]
    NoDisplay(String),
    /// The system could not open the window, or it failed later.
    #[error("the window failed: {0}")]
    Window(String),
    /// A script of actions is invalid, or an action failed.
    #[error("--script {0}")]
    Script(String),
    /// The device cannot draw in the window.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Wakes the event loop to receive the engine's events.
#[derive(Debug, Clone, Copy)]
struct EventLoopWaker;

/// Open a window and run `engine` on a separate thread until the window closes. Return the engine's result. For tests, a
/// `script` performs user actions.
///
/// # Errors
/// [`ViewerError`] if the window cannot be opened or fails, or if the script is invalid.
pub fn run<T: Send + 'static>(
    script: Option<&Path>,
    engine: impl FnOnce(Receiver<Command>, EventSender) -> T + Send + 'static,
) -> Result<T, ViewerError> {
    let script = script.map(Script::read).transpose();
    let script = script.map_err(ViewerError::Script)?;
    let event_loop = EventLoop::<EventLoopWaker>::with_user_event()
        .build()
        .map_err(|e| ViewerError::NoDisplay(without_location(&e.to_string())))?;
    let (to_engine, commands) = channel();
    let (to_window, events) = channel();
    let proxy = event_loop.create_proxy();
    let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        let _ = proxy.send_event(EventLoopWaker);
    });
    let other = Arc::clone(&wake);
    let photos = PhotoLoader::new(move || other());
    let sender = EventSender::new(to_window, Arc::clone(&wake));
    let thread = std::thread::Builder::new().name("engine".to_owned());
    let ended = sender.clone();
    let engine = thread
        .spawn(move || {
            let result = engine(commands, sender);
            ended.send(Event::Gone);
            result
        })
        .map_err(|e| ViewerError::Window(e.to_string()))?;
    let context = egui::Context::default();
    theme::apply(&context);
    let mut app = App {
        context,
        state: State::new(Recent::of_user()),
        photos,
        commands: to_engine,
        events,
        shown: None,
        gpu: None,
        drawn: false,
        repaint_at: None,
        failed: None,
        script,
        folder_dialog: FolderDialog::new(wake),
    };
    let outcome = event_loop.run_app(&mut app);
    let _ = app.commands.send(Command::Quit);
    if let Some(painter) = app.shown.take().and_then(|shown| shown.painter) {
        painter.close();
    }
    let result = engine
        .join()
        .map_err(|_| ViewerError::Window("its engine stopped".to_owned()))?;
    outcome.map_err(|e| ViewerError::Window(e.to_string()))?;
    app.failed.map_or(Ok(result), Err)
}

/// Return the message of an error of winit without the place in its source.
fn without_location(message: &str) -> String {
    let place = message.rfind(".rs:").map(|at| &message[at + 4..]);
    let reason = place.and_then(|rest| rest.split_once(": "));
    let reason = reason.map_or(message, |(_, reason)| reason);
    reason.trim_end_matches('.').to_owned()
}

/// Time between frames of a software adapter, and of scripts.
const FRAME: Duration = Duration::from_millis(16);
/// Time between checks of whether the window is minimised.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Time between repaints on a software adapter, to leave time for rendering.
const SOFTWARE_GAP: Duration = Duration::from_millis(100);

struct App {
    context: egui::Context,
    state: State,
    photos: PhotoLoader,
    commands: Sender<Command>,
    events: Receiver<Event>,
    shown: Option<WindowState>,
    gpu: Option<Arc<Gpu>>,
    /// Whether egui's textures are on a device.
    drawn: bool,
    repaint_at: Option<Instant>,
    failed: Option<ViewerError>,
    script: Option<Script>,
    folder_dialog: FolderDialog,
}

/// Return a translator of the window's events to egui input.
fn input_of(context: &egui::Context, window: &Window) -> egui_winit::State {
    let scale = Some(window.scale_factor() as f32);
    let (context, root) = (context.clone(), egui::ViewportId::ROOT);
    egui_winit::State::new(context, root, window, scale, window.theme(), None)
}

/// The window, and its painter once there is a device.
struct WindowState {
    painter: Option<Painter>,
    input: egui_winit::State,
    window: Arc<Window>,
    /// Whether the system reports that the window is covered.
    occluded: bool,
    minimized: bool,
    /// Time of the last check of whether the window is minimised; not all systems report it.
    asked: Option<Instant>,
}

impl WindowState {
    /// Return whether the window is invisible.
    fn is_hidden(&mut self) -> bool {
        if self.asked.is_none_or(|at| at.elapsed() > ASK_EVERY) {
            self.asked = Some(Instant::now());
            let size = self.window.inner_size();
            let is_empty = size.width == 0 || size.height == 0;
            self.minimized = is_empty || self.window.is_minimized() == Some(true);
        }
        self.occluded || self.minimized
    }
}

impl ApplicationHandler<EventLoopWaker> for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.shown.is_some() {
            return;
        }
        let attributes = Window::default_attributes()
            .with_title("kiln")
            .with_inner_size(LogicalSize::new(1280.0, 800.0))
            .with_min_inner_size(LogicalSize::new(480.0, 320.0));
        match event_loop.create_window(attributes) {
            Ok(window) => {
                let window = Arc::new(window);
                let input = input_of(&self.context, &window);
                self.shown = Some(WindowState {
                    painter: None,
                    input,
                    window,
                    occluded: false,
                    minimized: false,
                    asked: None,
                });
                self.attach();
            }
            Err(error) => {
                let reason = without_location(&error.to_string());
                self.fail(event_loop, ViewerError::Window(reason));
            }
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, EventLoopWaker: EventLoopWaker) {
        self.listen(event_loop);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(shown) = &mut self.shown else {
            return;
        };
        let response = shown.input.on_window_event(&shown.window, &event);
        // egui requests another repaint after a redraw event; ignore that.
        if response.repaint && !matches!(event, WindowEvent::RedrawRequested) {
            shown.window.request_redraw();
        }
        match event {
            // Without a painter, nothing can be asked.
            WindowEvent::CloseRequested if shown.painter.is_none() => self.close(),
            WindowEvent::CloseRequested => {
                self.state.close();
                shown.window.request_redraw();
            }
            WindowEvent::Resized(size) => {
                if let (Some(painter), Some(gpu)) = (&mut shown.painter, &self.gpu) {
                    painter.resize(gpu, size);
                }
                shown.window.request_redraw();
            }
            WindowEvent::Occluded(hidden) => {
                shown.occluded = hidden;
                shown.window.request_redraw();
            }
            WindowEvent::RedrawRequested => self.redraw(event_loop),
            _ => {}
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let now = Instant::now();
        match self.repaint_at {
            Some(at) if at <= now => {
                self.repaint_at = None;
                if let Some(shown) = &self.shown {
                    shown.window.request_redraw();
                }
                event_loop.set_control_flow(ControlFlow::Wait);
            }
            Some(at) => event_loop.set_control_flow(ControlFlow::WaitUntil(at)),
            None => event_loop.set_control_flow(ControlFlow::Wait),
        }
    }
}

impl App {
    /// Receive the engine's events.
    fn listen(&mut self, event_loop: &ActiveEventLoop) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Device(gpu) => {
                    self.gpu = Some(gpu);
                    self.attach();
                }
                Event::Gone => event_loop.exit(),
                event => self.state.handle_event(event),
            }
        }
        for photo in self.photos.photos() {
            self.state.add_photo(photo);
        }
        match self.folder_dialog.answer() {
            Some(Answer::Chosen(folder)) => self.state.open_path(&folder),
            Some(Answer::Unavailable) => self.state.add_message(
                "the system has no dialog for folders: enter the path, or drop the folder here"
                    .to_owned(),
                true,
            ),
            Some(Answer::Cancelled) | None => {}
        }
        if let Some(shown) = &self.shown {
            shown.window.request_redraw();
        }
    }

    /// Create the painter once there are both a device and a window.
    fn attach(&mut self) {
        let (Some(shown), Some(gpu)) = (&mut self.shown, &self.gpu) else {
            return;
        };
        // A window can have only one surface at a time.
        if let Some(painter) = shown.painter.take() {
            painter.close();
        }
        self.state.forget_picture();
        if gpu.is_lost() {
            // The engine will open another device.
            return;
        }
        if self.drawn {
            // egui's textures were on the previous device: a new context uploads them again.
            let memory = self.context.memory(Clone::clone);
            self.context = egui::Context::default();
            self.context.memory_mut(|m| *m = memory);
            shown.input = input_of(&self.context, &shown.window);
        }
        self.drawn = true;
        match Painter::new(gpu, &shown.window) {
            Ok(painter) => {
                let side = gpu.limits().max_texture_dimension_2d;
                shown.input.set_max_texture_side(side as usize);
                shown.painter = Some(painter);
                shown.window.request_redraw();
            }
            Err(error) => {
                self.failed = Some(error.into());
                self.close();
            }
        }
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: ViewerError) {
        self.failed = Some(error);
        event_loop.exit();
    }

    /// Tell the engine to save and quit; the window closes afterwards.
    fn close(&mut self) {
        if !self.state.closing {
            self.state.closing = true;
            let _ = self.commands.send(Command::Quit);
        }
        if let Some(shown) = &self.shown {
            shown.window.request_redraw();
        }
    }

    fn redraw(&mut self, event_loop: &ActiveEventLoop) {
        let (Some(shown), Some(gpu)) = (&mut self.shown, &self.gpu) else {
            return;
        };
        self.state.hidden = shown.is_hidden();
        let Some(painter) = &mut shown.painter else {
            return;
        };
        // Events that arrive during the wait are handled together.
        if let Some(rest) = painter.time_until_next_frame() {
            self.repaint_at = Instant::now().checked_add(rest);
            return;
        }
        let mut input = shown.input.take_egui_input(&shown.window);
        let (began, started) = (input.time.unwrap_or_default(), Instant::now());
        let wish = match self.script.as_mut().filter(|s| !s.is_over()) {
            Some(script) => script.play(&mut self.state, &mut input),
            None => Ok(None),
        };
        let wish = wish.unwrap_or_else(|reason| {
            self.failed = Some(ViewerError::Script(reason));
            self.script = None;
            Some(WindowAction::Close)
        });
        let capture = match &wish {
            Some(WindowAction::Capture(path)) => Some(path),
            _ => None,
        };
        let is_new = self.state.has_new_texture();
        let paints = capture.is_some() || is_new || painter.is_due();
        let taken = catch_device_loss(gpu, || painter.take_picture(gpu, &mut self.state));
        let output = self
            .context
            .run_ui(input, |ui| panels::show(&mut self.state, ui));
        painter.textures.append(output.textures_delta);
        // Send commands before painting, so that the engine does not wait for painting.
        for command in self.state.take_commands() {
            let _ = self.commands.send(command);
        }
        shown.input.handle_platform_output_with_event_loop(
            &shown.window,
            event_loop,
            output.platform_output,
        );
        let drawn = taken.and_then(|()| {
            if !paints {
                return Some(Ok(()));
            }
            let (context, scale) = (&self.context, output.pixels_per_point);
            catch_device_loss(gpu, || {
                painter.paint(gpu, context, output.shapes, scale, capture)
            })
        });
        if paints && drawn == Some(Ok(())) {
            self.state.painted(began + started.elapsed().as_secs_f64());
            if is_new {
                let _ = self.commands.send(Command::Painted);
            }
        }
        match &wish {
            Some(WindowAction::Resize([width, height])) => {
                let _ = shown
                    .window
                    .request_inner_size(LogicalSize::new(*width, *height));
            }
            Some(WindowAction::Close) => self.state.close(),
            Some(WindowAction::Capture(_)) | None => {}
        }
        let delay = output
            .viewport_output
            .get(&egui::ViewportId::ROOT)
            .map_or(Duration::MAX, |v| v.repaint_delay);
        let acts = self.script.as_ref().is_some_and(|s| !s.is_over());
        let delay = if acts { delay.min(FRAME) } else { delay };
        let delay = if paints {
            delay
        } else {
            delay.min(painter.gap)
        };
        self.repaint_at = Instant::now().checked_add(delay);
        for command in self.state.take_commands() {
            let _ = self.commands.send(command);
        }
        if std::mem::take(&mut self.state.browses) {
            self.folder_dialog.open(&shown.window);
        }
        let wanted = self.state.take_wanted();
        if !wanted.is_empty() {
            self.photos.want(wanted);
        }
        let closes = self.state.take_close();
        if let Some(title) = self.state.take_title() {
            shown.window.set_title(&title);
        }
        match drawn {
            Some(Ok(())) if closes => self.close(),
            Some(Ok(())) => {}
            Some(Err(())) | None => self.attach(),
        }
    }
}

thread_local! {
    /// Message of a panic in the work of [`catch_device_loss`] on this thread.
    static HELD_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static HOLDS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Install a panic hook that withholds the message of panics that [`catch_device_loss`] may catch.
fn hold_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if HOLDS_PANICS.get() {
                HELD_PANIC.set(Some(info.to_string()));
            } else {
                default(info);
            }
        }));
    });
}

/// Run `work` with a device that may be lost at any time, which makes egui's renderer panic. Return `None` in that case.
fn catch_device_loss<T>(gpu: &Gpu, work: impl FnOnce() -> T) -> Option<T> {
    if gpu.is_lost() {
        return None;
    }
    hold_panics();
    HOLDS_PANICS.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    HOLDS_PANICS.set(false);
    let held = HELD_PANIC.take();
    match outcome {
        Ok(value) => Some(value),
        Err(panic) => {
            // The notification of the loss may still be pending.
            let _ = gpu.poll_once();
            if !gpu.is_lost() {
                let _ = writeln!(std::io::stderr().lock(), "{}", held.unwrap_or_default());
                resume_unwind(panic);
            }
            None
        }
    }
}
