//! Panels, buttons and keys.

mod chart;
mod help;
mod open;
mod path;
mod training;
mod view;

use egui::{Key, RichText};

use super::protocol::Command;
use super::state::{Question, State};
use super::{canvas, theme};
use crate::session::prepare::PrepareOptions;

/// Width of the controls in points, at most half the window's; it depends on nothing else, because the view is rendered again
/// when the canvas changes size.
const WIDTH: f32 = 320.0;

/// Draw all panels, handle input, and request the views and photographs to show next.
pub(super) fn show(state: &mut State, ui: &mut egui::Ui) {
    state.play(ui.ctx());
    all(state, ui);
    state.request_photographs();
    state.request_view(ui.ctx());
}

/// Draw all panels.
fn all(state: &mut State, ui: &mut egui::Ui) {
    keys(state, ui.ctx());
    dropped(state, ui.ctx());
    egui::Panel::right("controls")
        .resizable(false)
        .exact_size(WIDTH.min(0.5 * ui.available_width()))
        .show(ui, |ui| {
            // Put the scroll bar beside the contents, not over them.
            ui.style_mut().spacing.scroll = egui::style::ScrollStyle::solid();
            // Sliders, with their values and names, fit into narrow panels too.
            ui.style_mut().spacing.slider_width = (0.3 * ui.available_width()).min(100.0);
            let always = egui::containers::scroll_area::ScrollBarVisibility::AlwaysVisible;
            egui::ScrollArea::vertical()
                .auto_shrink(false)
                .scroll_bar_visibility(always)
                .show(ui, |ui| controls(state, ui));
        });
    egui::Panel::bottom("log")
        .resizable(true)
        .default_size(84.0)
        .show(ui, |ui| log(state, ui));
    egui::CentralPanel::no_frame().show(ui, |ui| {
        canvas::show(state, ui);
        if state.opened.is_none() {
            open::welcome(state, ui);
        }
    });
    failure(state, ui.ctx());
    question(state, ui.ctx());
    help::show(state, ui.ctx());
}

fn keys(state: &mut State, context: &egui::Context) {
    if context.egui_wants_keyboard_input() {
        return;
    }
    if state.question.is_some() {
        if context.input(|i| i.key_pressed(Key::Escape)) {
            state.question = None;
        }
        return;
    }
    let pressed = |key: Key| context.input(|i| i.key_pressed(key) && !i.modifiers.command);
    let command = |key: Key| context.input(|i| i.key_pressed(key) && i.modifiers.command);
    let now = context.input(|i| i.time);
    view::keys(state, &pressed);
    if pressed(Key::Space) {
        training::toggle(state);
    }
    if pressed(Key::Period) {
        training::step(state);
    }
    if pressed(Key::K) {
        path::add(state);
    }
    if pressed(Key::L) {
        state.path_editor.toggle();
    }
    if pressed(Key::F12) {
        state.screenshot(now);
    }
    if command(Key::S) {
        state.send(Command::Save);
    }
    if command(Key::E) && !state.path_editor.draft.keys().is_empty() {
        state.save_path();
    }
    let renders = !state.path_editor.draft.keys().is_empty() && state.doing.is_none();
    if command(Key::R) && renders {
        state.render_path();
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
        state.open_path(&path);
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
                opened
                    .viewpoints
                    .iter()
                    .filter(|p| p.frame.is_some())
                    .count()
            ));
            ui.label(figures(state));
        }
        None => {
            ui.heading("kiln");
        }
    }
    match &state.opened {
        Some(opened) if opened.training => {
            section(ui, "Training", true, |ui| training::show(state, ui));
        }
        Some(_) => section(ui, "Run", true, |ui| training::run(state, ui)),
        None => {}
    }
    if state.opened.is_some() {
        section(ui, "View", true, |ui| view::show(state, ui));
        section(ui, "Cameras", true, |ui| view::cameras(state, ui));
        let opens = std::mem::take(&mut state.opens_crop).then_some(true);
        section_opened(ui, "Crop", false, opens, |ui| view::crop(state, ui));
        section(ui, "Path", false, |ui| path::show(state, ui));
        section(ui, "Screenshot", false, |ui| path::screenshot(state, ui));
    }
    let is_empty = state.opened.is_none();
    section(ui, "Open", is_empty, |ui| open::show(state, ui));
    ui.separator();
    ui.horizontal_wrapped(|ui| {
        if ui.button("Help (?)").clicked() {
            state.show_help = !state.show_help;
        }
        if ui.button("Quit").clicked() {
            state.close();
        }
    });
    theme::choose(ui);
}

/// Return text with the device memory and the occupied fraction of the occupancy grid.
fn figures(state: &State) -> String {
    let bytes = state.opened.as_ref().map_or(0, |o| o.bytes);
    let memory = format!(
        "about {:.0} MiB on the device",
        bytes as f64 / f64::from(1 << 20)
    );
    match state.occupied {
        Some(share) => format!("{memory} · {:.1} % occupied", 100.0 * share),
        None => memory,
    }
}

fn section(ui: &mut egui::Ui, title: &str, open: bool, contents: impl FnOnce(&mut egui::Ui)) {
    section_opened(ui, title, open, None, contents);
}

/// As [`section`], but open or close it now if `opens` says so.
fn section_opened(
    ui: &mut egui::Ui,
    title: &str,
    open: bool,
    opens: Option<bool>,
    contents: impl FnOnce(&mut egui::Ui),
) {
    ui.add_space(6.0);
    egui::CollapsingHeader::new(RichText::new(title).strong())
        .default_open(open)
        .open(opens)
        .show(ui, contents);
}

fn log(state: &mut State, ui: &mut egui::Ui) {
    if state.closing {
        ui.horizontal_wrapped(|ui| {
            ui.spinner();
            ui.label("saving and closing");
        });
    } else if let Some((doing, share)) = state.doing.clone() {
        ui.horizontal_wrapped(|ui| {
            ui.spinner();
            if let Some(share) = share {
                ui.add(
                    egui::ProgressBar::new(share)
                        .desired_width(160.0)
                        .text(doing),
                );
                if ui.button("Cancel").clicked() {
                    state.send(Command::Cancel);
                }
            } else {
                ui.label(doing);
            }
        });
    }
    egui::ScrollArea::vertical()
        .stick_to_bottom(true)
        .auto_shrink(false)
        .show(ui, |ui| {
            for line in &state.log {
                let text = RichText::new(&line.text);
                let visuals = ui.visuals();
                ui.label(if line.is_error {
                    text.color(visuals.error_fg_color)
                } else if line.text.starts_with("warning: ") {
                    text.color(visuals.warn_fg_color)
                } else {
                    text
                });
            }
        });
}

/// Ask the open question in the middle of the window.
fn question(state: &mut State, context: &egui::Context) {
    let Some(question) = state.question.clone() else {
        return;
    };
    let title = match &question {
        Question::Overwrite(_) => "Overwrite?",
        Question::SaveBeforeClosing => "Unsaved camera path",
        Question::Prepare(_) => "Make a dataset?",
    };
    egui::Window::new(title)
        .collapsible(false)
        .resizable(false)
        .anchor(egui::Align2::CENTER_CENTER, [0.0; 2])
        .show(context, |ui| {
            ui.set_max_width((context.content_rect().width() - 60.0).min(420.0));
            match &question {
                Question::Overwrite(file) => {
                    ui.label(format!(
                        "{} exists and holds something else.",
                        file.display()
                    ));
                }
                Question::SaveBeforeClosing => {
                    ui.label("The camera path has not been saved.");
                }
                Question::Prepare(path) => {
                    let out = PrepareOptions::beside(path).out;
                    ui.label(format!(
                        "{} holds pictures without camera poses. ffmpeg and COLMAP can make a dataset of it, {}, which takes \
                         minutes; then training starts.",
                        path.display(),
                        out.display()
                    ));
                    ui.label("In a terminal, kiln prepare does the same, with more choices.");
                }
            }
            ui.add_space(6.0);
            ui.horizontal_wrapped(|ui| {
                match &question {
                    Question::Overwrite(_) => {
                        if ui.button("Save under a new name").clicked() {
                            state.path_editor.take_free_name();
                            state.save_path_anyway();
                        }
                        if ui.button("Overwrite").clicked() {
                            state.save_path_anyway();
                        }
                    }
                    Question::SaveBeforeClosing => {
                        if ui.button("Save and quit").clicked() {
                            if state.path_editor.overwritten().is_some() {
                                state.path_editor.take_free_name();
                            }
                            state.save_path_anyway();
                            if !state.path_is_unsaved() {
                                state.close_anyway();
                            }
                        }
                        if ui.button("Quit without saving").clicked() {
                            state.close_anyway();
                        }
                    }
                    Question::Prepare(_) => {}
                }
                if let Question::Prepare(path) = &question
                    && ui.button("Prepare").clicked()
                {
                    state.prepare(path);
                }
                if ui.button("Cancel").clicked() {
                    state.question = None;
                }
            });
        });
}

fn failure(state: &mut State, context: &egui::Context) {
    let Some(text) = state.failed.clone() else {
        return;
    };
    egui::Window::new("Error")
        .collapsible(false)
        .resizable(false)
        .anchor(egui::Align2::LEFT_TOP, [20.0, 40.0])
        .show(context, |ui| {
            ui.set_max_width((context.content_rect().width() - 60.0).min(520.0));
            ui.label(text);
            ui.add_space(6.0);
            if ui.button("Close").clicked() {
                state.failed = None;
            }
        });
}
