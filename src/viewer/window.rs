//! The window: passes events of the system to egui and draws egui's output on the screen.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use winit::application::ApplicationHandler;
use winit::dpi::{LogicalSize, PhysicalSize};
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop};
use winit::window::{Window, WindowId};

use super::album::Album;
use super::protocol::{Command, Event, Outbox};
use super::recent::Recent;
use super::script::{Script, WindowAction};
use super::state::State;
use crate::gpu::{AdapterClass, Gpu, GpuError};

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
struct Wake;

/// Open a window and run `engine` on a separate thread until the window closes. Return the engine's result. For tests, a
/// `script` performs user actions.
///
/// # Errors
/// [`ViewerError`] if the window cannot be opened or fails, or if the script is invalid.
pub fn run<T: Send + 'static>(
    script: Option<&Path>,
    engine: impl FnOnce(Receiver<Command>, Outbox) -> T + Send + 'static,
) -> Result<T, ViewerError> {
    let script = script.map(Script::read).transpose();
    let script = script.map_err(ViewerError::Script)?;
    let event_loop = EventLoop::<Wake>::with_user_event()
        .build()
        .map_err(|e| ViewerError::NoDisplay(e.to_string()))?;
    let (to_engine, commands) = channel();
    let (to_window, events) = channel();
    let (proxy, other) = (event_loop.create_proxy(), event_loop.create_proxy());
    let wake = Arc::new(move || {
        let _ = proxy.send_event(Wake);
    });
    let album = Album::new(move || {
        let _ = other.send_event(Wake);
    });
    let outbox = Outbox::new(to_window, wake);
    let thread = std::thread::Builder::new().name("engine".to_owned());
    let ended = outbox.clone();
    let engine = thread
        .spawn(move || {
            let result = engine(commands, outbox);
            ended.send(Event::Gone);
            result
        })
        .map_err(|e| ViewerError::Window(e.to_string()))?;
    let mut app = App {
        context: egui::Context::default(),
        state: State::new(Recent::of_user()),
        album,
        commands: to_engine,
        events,
        shown: None,
        gpu: None,
        drawn: false,
        repaint_at: None,
        failed: None,
        script,
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

/// Time between frames of a software adapter, and of scripts.
const FRAME: Duration = Duration::from_millis(16);
/// Time between checks whether the window is minimised.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Time between repaints on a software adapter, which needs the time for rendering.
const SOFTWARE_GAP: Duration = Duration::from_millis(100);

struct App {
    context: egui::Context,
    state: State,
    album: Album,
    commands: Sender<Command>,
    events: Receiver<Event>,
    shown: Option<Shown>,
    gpu: Option<Arc<Gpu>>,
    /// Whether egui's textures are on a device.
    drawn: bool,
    repaint_at: Option<Instant>,
    failed: Option<ViewerError>,
    script: Option<Script>,
}

/// Return the translator of the window's events to egui input.
fn input_of(context: &egui::Context, window: &Window) -> egui_winit::State {
    let scale = Some(window.scale_factor() as f32);
    let (context, root) = (context.clone(), egui::ViewportId::ROOT);
    egui_winit::State::new(context, root, window, scale, window.theme(), None)
}

/// The window, and its painter once there is a device.
struct Shown {
    painter: Option<Painter>,
    input: egui_winit::State,
    window: Arc<Window>,
    /// Whether the system reports that the window is covered.
    occluded: bool,
    minimized: bool,
    /// Time of the last check whether the window is minimised, which not all systems report.
    asked: Option<Instant>,
}

impl Shown {
    /// Whether the window is invisible.
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

impl ApplicationHandler<Wake> for App {
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
                self.shown = Some(Shown {
                    painter: None,
                    input,
                    window,
                    occluded: false,
                    minimized: false,
                    asked: None,
                });
                self.attach();
            }
            Err(error) => self.fail(event_loop, ViewerError::Window(error.to_string())),
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, Wake: Wake) {
        self.listen(event_loop);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(shown) = &mut self.shown else {
            return;
        };
        let response = shown.input.on_window_event(&shown.window, &event);
        // egui asks for another repaint after a redraw event; ignore that.
        if response.repaint && !matches!(event, WindowEvent::RedrawRequested) {
            shown.window.request_redraw();
        }
        match event {
            WindowEvent::CloseRequested => self.close(),
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
                event => self.state.hear(event),
            }
        }
        for print in self.album.prints() {
            self.state.see(print);
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

    /// Ask the engine to save and end; the window closes after it.
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
        // Events that arrive meanwhile are handled together.
        if let Some(rest) = painter.rests_for() {
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
        let taken = survive(gpu, || painter.take_picture(gpu, &mut self.state));
        let output = self.context.run_ui(input, |ui| self.state.ui(ui));
        painter.textures.append(output.textures_delta);
        // Send commands before painting, so that the engine does not wait for it.
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
            survive(gpu, || {
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
        let wanted = self.state.take_wanted();
        if !wanted.is_empty() {
            self.album.want(wanted);
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
    /// Message of a panic in the work of [`survive`] on this thread.
    static HELD_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static HOLDS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Install a panic hook that holds back the message of panics that [`survive`] may catch.
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
fn survive<T>(gpu: &Gpu, work: impl FnOnce() -> T) -> Option<T> {
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

/// The surface of a window, and egui's renderer for it.
struct Painter {
    gpu: Arc<Gpu>,
    surface: wgpu::Surface<'static>,
    configuration: wgpu::SurfaceConfiguration,
    renderer: egui_wgpu::Renderer,
    picture: Option<egui::TextureId>,
    /// egui's texture changes that have not been uploaded yet.
    textures: egui::TexturesDelta,
    /// Shortest time between repaints without a new rendered view.
    gap: Duration,
    painted: Option<Instant>,
    /// Start of the last frame, painted or not.
    began: Option<Instant>,
}

impl Painter {
    fn new(gpu: &Arc<Gpu>, window: &Arc<Window>) -> Result<Self, GpuError> {
        let (surface, capabilities) = gpu.surface(Arc::clone(window))?;
        // A format without sRGB conversion: egui's values are sRGB already.
        let wanted = [
            wgpu::TextureFormat::Bgra8Unorm,
            wgpu::TextureFormat::Rgba8Unorm,
        ];
        let format = wanted
            .into_iter()
            .find(|f| capabilities.formats.contains(f))
            .unwrap_or(capabilities.formats[0]);
        let size = window.inner_size();
        let mut configuration = wgpu::SurfaceConfiguration {
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            format,
            color_space: wgpu::SurfaceColorSpace::Auto,
            width: size.width.max(1),
            height: size.height.max(1),
            present_mode: wgpu::PresentMode::AutoVsync,
            desired_maximum_frame_latency: 1,
            alpha_mode: wgpu::CompositeAlphaMode::Auto,
            view_formats: Vec::new(),
        };
        let side = gpu.limits().max_texture_dimension_2d;
        configuration.width = configuration.width.min(side);
        configuration.height = configuration.height.min(side);
        gpu.undisturbed(|| surface.configure(&gpu.device, &configuration));
        gpu.check()?;
        let renderer =
            egui_wgpu::Renderer::new(&gpu.device, format, egui_wgpu::RendererOptions::default());
        Ok(Self {
            gpu: Arc::clone(gpu),
            surface,
            configuration,
            renderer,
            picture: None,
            textures: egui::TexturesDelta::default(),
            gap: if gpu.class() == AdapterClass::Software {
                SOFTWARE_GAP
            } else {
                Duration::ZERO
            },
            painted: None,
            began: None,
        })
    }

    /// Release the window's surface. If the device is lost, frames in flight never return, and wgpu panics when it drops the
    /// surface; that panic is ignored.
    fn close(mut self) {
        self.textures.clear();
        if !self.gpu.is_lost() {
            return;
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self)));
        std::panic::set_hook(hook);
    }

    fn resize(&mut self, gpu: &Gpu, size: PhysicalSize<u32>) {
        if size.width == 0 || size.height == 0 {
            return;
        }
        let side = gpu.limits().max_texture_dimension_2d;
        self.configuration.width = size.width.min(side);
        self.configuration.height = size.height.min(side);
        gpu.undisturbed(|| self.surface.configure(&gpu.device, &self.configuration));
    }

    /// Time left until the next frame should start, on devices where painting takes time from rendering.
    fn rests_for(&mut self) -> Option<Duration> {
        if self.gap.is_zero() {
            return None;
        }
        let rest = self.began.map(|at| FRAME.saturating_sub(at.elapsed()));
        let rest = rest.filter(|rest| !rest.is_zero());
        if rest.is_none() {
            self.began = Some(Instant::now());
        }
        rest
    }

    /// Whether a repaint without a new rendered view is due.
    fn is_due(&self) -> bool {
        self.painted.is_none_or(|at| at.elapsed() >= self.gap)
    }

    /// Register the engine's last rendered view as an egui texture.
    fn take_picture(&mut self, gpu: &Gpu, state: &mut State) {
        let Some(texture) = state.new_texture() else {
            return;
        };
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        let filter = wgpu::FilterMode::Linear;
        if let Some(id) = self.picture {
            self.renderer
                .update_egui_texture_from_wgpu_texture(&gpu.device, &view, filter, id);
        } else {
            let renderer = &mut self.renderer;
            self.picture = Some(renderer.register_native_texture(&gpu.device, &view, filter));
        }
        state.set_texture_id(self.picture);
    }

    /// Paint a frame. Return an error if the surface is lost.
    fn paint(
        &mut self,
        gpu: &Gpu,
        context: &egui::Context,
        shapes: Vec<egui::epaint::ClippedShape>,
        pixels_per_point: f32,
        capture: Option<&PathBuf>,
    ) -> Result<(), ()> {
        self.painted = Some(Instant::now());
        for (id, deltas) in self.textures.set.drain() {
            for delta in deltas {
                self.renderer
                    .update_texture(&gpu.device, &gpu.queue, id, &delta);
            }
        }
        let jobs = context.tessellate(shapes, pixels_per_point);
        let outcome = self.present(gpu, &jobs, pixels_per_point);
        if let Some(path) = capture {
            self.capture(gpu, &jobs, pixels_per_point, path);
        }
        for id in self.textures.free.drain() {
            self.renderer.free_texture(&id);
        }
        outcome
    }

    fn present(
        &mut self,
        gpu: &Gpu,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
    ) -> Result<(), ()> {
        use wgpu::CurrentSurfaceTexture as Current;
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.upload(gpu, &mut encoder, jobs, pixels_per_point);
        let frame = match self.surface.get_current_texture() {
            Current::Success(frame) | Current::Suboptimal(frame) => frame,
            Current::Timeout | Current::Occluded => return Ok(()),
            Current::Outdated | Current::Validation => {
                gpu.undisturbed(|| self.surface.configure(&gpu.device, &self.configuration));
                return Ok(());
            }
            Current::Lost => return Err(()),
        };
        let view = frame
            .texture
            .create_view(&wgpu::TextureViewDescriptor::default());
        self.draw(&mut encoder, &view, jobs, pixels_per_point);
        gpu.enqueue(encoder);
        gpu.queue.present(frame);
        Ok(())
    }

    /// Write the contents of the window to a PNG, for tests; errors are ignored, and the test then misses the file.
    fn capture(
        &mut self,
        gpu: &Gpu,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
        path: &Path,
    ) {
        let (width, height) = (self.configuration.width, self.configuration.height);
        let size = wgpu::Extent3d {
            width,
            height,
            depth_or_array_layers: 1,
        };
        let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("capture"),
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: self.configuration.format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        let row = (width * 4).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let Ok(buffer) = gpu.buffer("capture", u64::from(row) * u64::from(height)) else {
            return;
        };
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.upload(gpu, &mut encoder, jobs, pixels_per_point);
        self.draw(&mut encoder, &view, jobs, pixels_per_point);
        encoder.copy_texture_to_buffer(
            texture.as_image_copy(),
            wgpu::TexelCopyBufferInfo {
                buffer: buffer.raw(),
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(row),
                    rows_per_image: None,
                },
            },
            size,
        );
        gpu.enqueue(encoder);
        let Ok(bytes) = gpu.read::<u8>(&buffer, 0, (row * height) as usize) else {
            return;
        };
        let is_bgra = self.configuration.format == wgpu::TextureFormat::Bgra8Unorm;
        let rows = bytes.chunks_exact(row as usize);
        let pixels = rows.flat_map(|r| r[..width as usize * 4].chunks_exact(4));
        let rgb: Vec<u8> = pixels
            .flat_map(|p| {
                if is_bgra {
                    [p[2], p[1], p[0]]
                } else {
                    [p[0], p[1], p[2]]
                }
            })
            .collect();
        let _ = image::save_buffer(path, &rgb, width, height, image::ColorType::Rgb8);
    }

    fn screen(&self, pixels_per_point: f32) -> egui_wgpu::ScreenDescriptor {
        egui_wgpu::ScreenDescriptor {
            size_in_pixels: [self.configuration.width, self.configuration.height],
            pixels_per_point,
        }
    }

    /// Upload the data to draw to the device.
    fn upload(
        &mut self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
    ) {
        let screen = self.screen(pixels_per_point);
        self.renderer
            .update_buffers(&gpu.device, &gpu.queue, encoder, jobs, &screen);
    }

    fn draw(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        view: &wgpu::TextureView,
        jobs: &[egui::ClippedPrimitive],
        pixels_per_point: f32,
    ) {
        let screen = self.screen(pixels_per_point);
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("window"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                    store: wgpu::StoreOp::Store,
                },
            })],
            ..Default::default()
        });
        self.renderer
            .render(&mut pass.forget_lifetime(), jobs, &screen);
    }
}
