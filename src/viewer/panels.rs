//! Panels, buttons and keys.

use egui::{Align, Color32, Key, Layout, RichText};
use egui_plot::{Line, Plot, PlotPoints};

use super::canvas;
use super::protocol::{Command, Training};
use super::state::{Curve, State};
use crate::config::Background;
use crate::render::Show;

/// What can be shown, with its name and key.
const SHOWS: [(Show, &str, Key); 7] = [
    (Show::Color, "Colour", Key::Num1),
    (Show::Depth, "Depth", Key::Num2),
    (Show::Normals, "Normals", Key::Num3),
    (Show::Opacity, "Opacity", Key::Num4),
    (Show::Samples, "Cost", Key::Num5),
    (Show::Occupancy, "Occupancy", Key::Num6),
    (Show::Cells, "Networks", Key::Num7),
];

/// Keys and what they do.
const KEYS: [(&str, &str); 15] = [
    ("left drag", "turn around the pivot"),
    ("right drag", "look around"),
    ("middle drag, Shift + left drag", "move sideways"),
    ("wheel, pinch", "come nearer, go away"),
    ("W A S D, arrows, Q E", "fly; Shift is faster"),
    ("R, Home", "back to the first view"),
    ("N, P", "next, previous camera of the dataset"),
    (
        "1 … 7",
        "colour, depth, normals, opacity, cost, occupancy, networks",
    ),
    ("B", "another background"),
    ("C, X", "cameras, scene box"),
    ("Space", "pause and go on with training"),
    (".", "one step"),
    ("Ctrl + S", "save a checkpoint"),
    ("?, F1", "this help"),
    ("Ctrl + Q", "save and quit"),
];

/// Draw everything.
pub(super) fn all(state: &mut State, ui: &mut egui::Ui) {
    keys(state, ui.ctx());
    dropped(state, ui.ctx());
    egui::Panel::right("controls")
        .resizable(true)
        .default_size(290.0)
        .show(ui, |ui| {
            egui::ScrollArea::vertical().show(ui, |ui| controls(state, ui));
        });
    egui::Panel::bottom("log")
        .resizable(true)
        .default_size(84.0)
        .show(ui, |ui| log(state, ui));
    egui::CentralPanel::no_frame().show(ui, |ui| {
        canvas::show(state, ui);
        if state.opened.is_none() {
            welcome(state, ui);
        }
    });
    failure(state, ui.ctx());
    help(state, ui.ctx());
}

fn keys(state: &mut State, context: &egui::Context) {
    if context.egui_wants_keyboard_input() {
        return;
    }
    let pressed = |key: Key| context.input(|i| i.key_pressed(key) && !i.modifiers.command);
    let command = |key: Key| context.input(|i| i.key_pressed(key) && i.modifiers.command);
    for (show, _, key) in SHOWS {
        if pressed(key) {
            choose(state, show);
        }
    }
    if pressed(Key::Space) {
        toggle(state);
    }
    if pressed(Key::Period) {
        step(state);
    }
    if pressed(Key::R) || pressed(Key::Home) {
        state.go_to(0);
    }
    if pressed(Key::N) {
        next_camera(state, true);
    }
    if pressed(Key::P) {
        next_camera(state, false);
    }
    if pressed(Key::B) {
        state.background = next_background(state.background);
    }
    if pressed(Key::C) {
        state.show_cameras = !state.show_cameras;
    }
    if pressed(Key::X) {
        state.show_box = !state.show_box;
    }
    if command(Key::S) {
        state.ask(Command::Save);
    }
    if command(Key::Q) {
        state.close();
    }
    let asks = context.input(|i| {
        i.events
            .iter()
            .any(|e| matches!(e, egui::Event::Text(t) if t == "?"))
    });
    if asks || pressed(Key::F1) {
        state.show_help = !state.show_help;
    }
    if pressed(Key::Escape) {
        state.show_help = false;
        state.failed = None;
    }
}

fn dropped(state: &mut State, context: &egui::Context) {
    let path = context.input(|i| {
        let mut files = i.raw.dropped_files.iter();
        files.next().map(|file| file.path().to_owned())
    });
    if let Some(path) = path {
        state.open_path(path);
    }
}

fn choose(state: &mut State, show: Show) {
    let can = state
        .opened
        .as_ref()
        .is_some_and(|o| o.shows.contains(&show));
    if can {
        state.show = show;
    }
}

fn toggle(state: &mut State) {
    if state.is_training() {
        let next = match state.training {
            Training::Go => Training::Pause,
            Training::Pause | Training::Step => Training::Go,
        };
        state.training = next;
        state.ask(Command::Train(next));
    }
}

fn step(state: &mut State) {
    if state.is_training() {
        state.training = Training::Pause;
        state.ask(Command::Train(Training::Step));
    }
}

/// Go to the next camera of the dataset, or to the one before.
fn next_camera(state: &mut State, forward: bool) {
    let n = state.opened.as_ref().map_or(0, |o| o.cameras.len());
    if n > 0 {
        let now = state.last_camera.min(n - 1);
        state.go_to((now + if forward { 1 } else { n - 1 }) % n);
    }
}

pub(super) const WHITE: Background = Background::Fixed([1.0; 3]);
const BLACK: Background = Background::Fixed([0.0; 3]);
const GREY: Background = Background::Fixed([0.25; 3]);

fn next_background(now: Background) -> Background {
    match now {
        b if b == WHITE => BLACK,
        b if b == BLACK => GREY,
        _ => WHITE,
    }
}

fn controls(state: &mut State, ui: &mut egui::Ui) {
    ui.add_space(6.0);
    match &state.opened {
        Some(opened) => {
            ui.heading(&opened.title);
            ui.label(format!(
                "{} · {} cameras",
                opened.method,
                opened.cameras.len()
            ));
        }
        None => {
            ui.heading("kiln");
        }
    }
    if state.opened.as_ref().is_some_and(|o| o.training) {
        training(state, ui);
    }
    if state.opened.is_some() {
        shown(state, ui);
        cameras(state, ui);
    }
    section(ui, "Open", |ui| open(state, ui));
    ui.separator();
    ui.horizontal(|ui| {
        if ui.button("Help (?)").clicked() {
            state.show_help = !state.show_help;
        }
        if ui.button("Quit").clicked() {
            state.close();
        }
    });
}

fn section(ui: &mut egui::Ui, title: &str, contents: impl FnOnce(&mut egui::Ui)) {
    ui.add_space(6.0);
    egui::CollapsingHeader::new(RichText::new(title).strong())
        .default_open(true)
        .show(ui, contents);
}

fn training(state: &mut State, ui: &mut egui::Ui) {
    section(ui, "Training", |ui| {
        ui.horizontal(|ui| {
            let running = state.training == Training::Go;
            let enabled = state.is_training();
            ui.add_enabled_ui(enabled, |ui| {
                let label = if running { "Pause" } else { "Go on" };
                if ui.button(label).on_hover_text("Space").clicked() {
                    toggle(state);
                }
                if ui.button("Step").on_hover_text(".").clicked() {
                    step(state);
                }
                if ui.button("Save").on_hover_text("Ctrl + S").clicked() {
                    state.ask(Command::Save);
                }
                if ui
                    .button("Stop")
                    .on_hover_text("save and end training")
                    .clicked()
                {
                    state.ask(Command::Stop);
                }
            });
        });
        let p = state.progress.unwrap_or_default();
        let text = match &state.ended {
            Some(_) => "done".to_owned(),
            None if p.paused => "paused".to_owned(),
            None => format!("{:.0} s left", p.left),
        };
        ui.add(egui::ProgressBar::new(p.fraction as f32).text(text));
        egui::Grid::new("figures").num_columns(2).show(ui, |ui| {
            let mut row = |name: &str, value: String| {
                ui.label(name);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    ui.monospace(value)
                });
                ui.end_row();
            };
            row("step", format!("{}  ({:.1}/s)", p.step, p.steps_per_second));
            row("trained", format!("{:.1} s", p.seconds));
            row("loss", format!("{:.5}", p.loss));
            row("PSNR, training", format!("{:.2} dB", p.train_psnr));
            let held_out = p.held_out.map_or("–".to_owned(), |v| format!("{v:.2} dB"));
            row("PSNR, held out", held_out);
            row("samples/s", thousands(p.samples_per_second));
            row("rays/s", thousands(p.rays_per_second));
        });
        let mut share = state.share * 100.0;
        let slider =
            egui::Slider::new(&mut share, 0.0..=98.0).custom_formatter(|v, _| format!("{v:.0} %"));
        let response = ui.add(slider.text("for training")).on_hover_text(
            "Share of the device while the camera rests; the rest goes into pictures",
        );
        if response.changed() {
            state.share = share / 100.0;
            let share = state.share;
            state.ask(Command::Share(share));
        }
        plot(
            ui,
            "psnr",
            "PSNR, dB",
            &[
                ("training", &state.train_psnr),
                ("held out", &state.held_out),
            ],
        );
        let log_loss = Curve(
            state
                .loss
                .0
                .iter()
                .map(|p| [p[0], p[1].max(1e-9).log10()])
                .collect(),
        );
        plot(ui, "loss", "loss, log₁₀", &[("loss", &log_loss)]);
    });
}

fn plot(ui: &mut egui::Ui, id: &str, title: &str, curves: &[(&str, &Curve)]) {
    ui.label(RichText::new(title).small());
    Plot::new(id)
        .height(90.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .show_x(true)
        .show(ui, |plot| {
            for (name, curve) in curves {
                plot.line(Line::new(*name, PlotPoints::from(curve.0.clone())));
            }
        });
}

fn shown(state: &mut State, ui: &mut egui::Ui) {
    section(ui, "View", |ui| {
        ui.horizontal_wrapped(|ui| {
            let shows = state
                .opened
                .as_ref()
                .map_or(Vec::new(), |o| o.shows.clone());
            for (show, name, key) in SHOWS {
                if shows.contains(&show) {
                    ui.selectable_value(&mut state.show, show, name)
                        .on_hover_text(key.name());
                }
            }
        });
        ui.horizontal(|ui| {
            ui.label("background");
            for (background, name) in [(WHITE, "white"), (BLACK, "black"), (GREY, "grey")] {
                ui.selectable_value(&mut state.background, background, name);
            }
        });
        let now = ui.input(|i| i.time);
        if let Some(mut view) = state.view {
            let mut degrees = view.field_of_view().to_degrees();
            let slider = egui::Slider::new(&mut degrees, 5.0..=150.0)
                .custom_formatter(|v, _| format!("{v:.0}°"));
            if ui.add(slider.text("field of view")).changed() {
                view.set_field_of_view(degrees.to_radians());
                state.moved(now);
                state.view = Some(view);
            }
            ui.horizontal(|ui| {
                ui.label("up");
                for (axis, name) in [
                    (glam::DVec3::X, "+x"),
                    (-glam::DVec3::X, "−x"),
                    (glam::DVec3::Y, "+y"),
                    (-glam::DVec3::Y, "−y"),
                    (glam::DVec3::Z, "+z"),
                    (-glam::DVec3::Z, "−z"),
                ] {
                    let is_up = view.up().distance(axis) < 1e-6;
                    if ui.selectable_label(is_up, name).clicked() {
                        view.set_up(axis);
                        state.moved(now);
                        state.view = Some(view);
                    }
                }
            });
        }
        if let Some((_, _, shot)) = state.picture() {
            let [w, h] = shot.size;
            let latency = state.latency.map_or(String::new(), |s| {
                format!(", shown after {:.0} ms", s * 1e3)
            });
            ui.label(format!("{w}×{h} in {:.0} ms{latency}", shot.seconds * 1e3));
        }
        ui.horizontal(|ui| {
            ui.checkbox(&mut state.show_cameras, "cameras");
            ui.checkbox(&mut state.show_box, "scene box");
        });
    });
}

fn cameras(state: &mut State, ui: &mut egui::Ui) {
    section(ui, "Cameras", |ui| {
        ui.horizontal(|ui| {
            if ui.button("<").on_hover_text("P").clicked() {
                next_camera(state, false);
            }
            if ui.button(">").on_hover_text("N").clicked() {
                next_camera(state, true);
            }
            let Some(opened) = &state.opened else {
                return;
            };
            let name = state
                .at_camera
                .and_then(|i| opened.cameras.get(i))
                .map_or("free", |c| c.0.as_str())
                .to_owned();
            let names: Vec<String> = opened.cameras.iter().map(|c| c.0.clone()).collect();
            let mut chosen = None;
            egui::ComboBox::from_id_salt("camera")
                .selected_text(name)
                .width(170.0)
                .show_ui(ui, |ui| {
                    for (index, name) in names.iter().enumerate() {
                        if ui
                            .selectable_label(state.at_camera == Some(index), name)
                            .clicked()
                        {
                            chosen = Some(index);
                        }
                    }
                });
            if let Some(index) = chosen {
                state.go_to(index);
            }
        });
        if ui.button("Back to the first (R)").clicked() {
            state.go_to(0);
        }
    });
}

fn open(state: &mut State, ui: &mut egui::Ui) {
    ui.label("Drop a dataset or a run here, or name its folder:");
    ui.horizontal(|ui| {
        let edit = egui::TextEdit::singleline(&mut state.path_to_open).hint_text("data/lego");
        let entered = ui.add(edit.desired_width(190.0)).lost_focus()
            && ui.input(|i| i.key_pressed(Key::Enter));
        let named = !state.path_to_open.trim().is_empty();
        if (ui.button("Open").clicked() || entered) && named {
            let path = state.path_to_open.trim().into();
            state.open_path(path);
        }
    });
    if ui.button("Train on the built-in scene").clicked() {
        state.doing = Some("making the built-in scene".to_owned());
        state.ask(Command::Demo);
    }
}

fn log(state: &State, ui: &mut egui::Ui) {
    if state.closing {
        ui.horizontal(|ui| {
            ui.spinner();
            ui.label("saving and closing");
        });
    } else if let Some(doing) = &state.doing {
        ui.horizontal(|ui| {
            ui.spinner();
            ui.label(doing);
        });
    }
    egui::ScrollArea::vertical()
        .stick_to_bottom(true)
        .auto_shrink(false)
        .show(ui, |ui| {
            for line in &state.log {
                let text = RichText::new(&line.text).small();
                ui.label(if line.is_error {
                    text.color(Color32::from_rgb(235, 100, 90))
                } else {
                    text
                });
            }
        });
}

fn welcome(state: &mut State, ui: &mut egui::Ui) {
    if state.doing.is_some() {
        return;
    }
    egui::Area::new(egui::Id::unique("welcome"))
        .anchor(egui::Align2::CENTER_CENTER, [-140.0, -40.0])
        .show(ui.ctx(), |ui| {
            egui::Frame::popup(ui.style())
                .inner_margin(20.0)
                .show(ui, |ui| {
                    ui.heading("Nothing is open yet");
                    ui.label(
                        "A dataset is a folder of posed images; training on it begins at once.",
                    );
                    ui.label("A run is what training made.");
                    ui.add_space(8.0);
                    open(state, ui);
                });
        });
}

fn failure(state: &mut State, context: &egui::Context) {
    let Some(text) = state.failed.clone() else {
        return;
    };
    egui::Window::new("That did not work")
        .collapsible(false)
        .resizable(false)
        .anchor(egui::Align2::CENTER_TOP, [-140.0, 60.0])
        .show(context, |ui| {
            ui.set_max_width(520.0);
            ui.label(text);
            ui.add_space(6.0);
            if ui.button("Close").clicked() {
                state.failed = None;
            }
        });
}

fn help(state: &mut State, context: &egui::Context) {
    egui::Window::new("Keys")
        .open(&mut state.show_help)
        .resizable(false)
        .anchor(egui::Align2::CENTER_CENTER, [-140.0, 0.0])
        .show(context, |ui| {
            egui::Grid::new("keys")
                .num_columns(2)
                .striped(true)
                .show(ui, |ui| {
                    for (key, what) in KEYS {
                        ui.monospace(key);
                        ui.label(what);
                        ui.end_row();
                    }
                });
        });
}

fn thousands(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}
