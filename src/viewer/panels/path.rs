//! Panels for the camera path, for rendering it, and for screenshots.

use egui::{DragValue, Ui};

use super::State;
use super::canvas;
use crate::camera_path::{KeyFrame, MAX_FPS, MAX_SIDE};
use crate::render::Channel;

/// Channels that a path can be rendered to.
const CHANNELS: [(Channel, &str); 4] = [
    (Channel::Rgb, "colour"),
    (Channel::Depth, "depth"),
    (Channel::Normal, "normals"),
    (Channel::Opacity, "opacity"),
];

/// Add a key frame at the current camera.
pub(super) fn add(state: &mut State) {
    if state.opened.is_some()
        && let Some(camera) = canvas::current_camera(state)
    {
        state.path_editor.add(&camera);
    }
}

pub(super) fn show(state: &mut State, ui: &mut Ui) {
    let now = ui.input(|i| i.time);
    let camera = canvas::current_camera(state);
    ui.horizontal_wrapped(|ui| {
        if ui.button("Add key frame").on_hover_text("K").clicked() {
            add(state);
        }
        ui.add(
            DragValue::new(&mut state.path_editor.gap)
                .range(0.01..=600.0)
                .speed(0.05)
                .suffix(" s"),
        )
        .on_hover_text("time after the previous key frame");
        let chosen = state.path_editor.selected.is_some();
        let button = |ui: &mut Ui, name: &str, what: &str| {
            let response = ui.add_enabled(chosen, egui::Button::new(name));
            response.on_hover_text(what).clicked()
        };
        if button(
            ui,
            "Move here",
            "move the selected key frame to the current camera",
        ) && let Some(camera) = &camera
        {
            state.path_editor.put(camera);
        }
        if button(ui, "Delete", "remove the selected key frame") {
            state.path_editor.remove();
        }
    });
    let mut seen = None;
    let mut retimed = None;
    let size = state.canvas.pixels.map(|n| n.max(1));
    let frames: Vec<f64> = state
        .path_editor
        .draft
        .keys()
        .iter()
        .map(KeyFrame::time)
        .collect();
    egui::Grid::new("key frames").show(ui, |ui| {
        for (index, time) in frames.iter().enumerate() {
            let is_selected = state.path_editor.selected == Some(index);
            if ui
                .selectable_label(is_selected, format!("key frame {index}"))
                .clicked()
            {
                seen = Some(index);
            }
            // Key frames are sorted by time once the edit ends.
            let edited = state.path_editor.edited.filter(|(i, _)| *i == index);
            let mut time = edited.map_or(*time, |(_, time)| time);
            let edit = DragValue::new(&mut time)
                .range(0.0..=86_400.0)
                .speed(0.05)
                .suffix(" s");
            let response = ui.add(edit);
            if response.changed() {
                state.path_editor.edited = Some((index, time));
            }
            let is_over = response.drag_stopped() || response.lost_focus();
            if is_over && let Some((_, time)) = edited {
                retimed = Some((index, time));
            }
            ui.end_row();
        }
    });
    if let Some((index, time)) = retimed {
        state.path_editor.edited = None;
        state.path_editor.selected = Some(state.path_editor.draft.retime(index, time));
        state.path_editor.is_changed = true;
    }
    if let Some(index) = seen {
        state.path_editor.selected = Some(index);
        state.path_editor.plays = false;
        let key = state.path_editor.draft.keys().get(index).copied();
        if let Some(key) = key {
            state.path_editor.time = key.time() - frames[0];
            state.stand_at(&key.camera(size), now);
        }
    }
    play(state, ui, now, size);
    files(state, ui);
}

fn play(state: &mut State, ui: &mut Ui, now: f64, size: [u32; 2]) {
    let lasts = state.path_editor.draft.duration();
    ui.add_enabled_ui(state.path_editor.draft.keys().len() > 1, |ui| {
        ui.horizontal_wrapped(|ui| {
            let label = if state.path_editor.plays {
                "Stop"
            } else {
                "Play"
            };
            if ui.button(label).on_hover_text("L").clicked() {
                state.path_editor.toggle();
            }
            let mut time = state.path_editor.time.min(lasts);
            let slider = egui::Slider::new(&mut time, 0.0..=lasts.max(1e-3)).suffix(" s");
            if ui.add(slider).changed() {
                state.path_editor.time = time;
                state.path_editor.plays = false;
                let camera = state.path_editor.path().map(|p| p.at(time, size));
                if let Some(camera) = camera {
                    state.stand_at(&camera, now);
                }
            }
        });
        let draft = &mut state.path_editor.draft;
        let mut is_changed = false;
        ui.horizontal_wrapped(|ui| {
            is_changed |= ui.checkbox(&mut draft.looped, "loop").changed();
            let fps = DragValue::new(&mut draft.fps)
                .range(0.1..=MAX_FPS)
                .speed(0.2);
            is_changed |= ui.add(fps.suffix(" fps")).changed();
            let [width, height] = &mut draft.size;
            for side in [width, height] {
                is_changed |= ui.add(DragValue::new(side).range(1..=MAX_SIDE)).changed();
            }
            ui.label("px");
        });
        state.path_editor.is_changed |= is_changed;
    });
}

fn files(state: &mut State, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        let edit = egui::TextEdit::singleline(&mut state.path_editor.file)
            .desired_width(130.0_f32.min(ui.available_width() - 80.0));
        ui.add(edit).on_hover_text("file for kiln render --path");
        let has_keys = !state.path_editor.draft.keys().is_empty();
        let label = if state.path_is_unsaved() {
            "Save path*"
        } else {
            "Save path"
        };
        if ui.add_enabled(has_keys, egui::Button::new(label)).clicked() {
            state.save_path();
        }
        if ui.button("Load").clicked() {
            let file = state.path_editor.file.trim().to_owned();
            state.load_path(file.as_ref());
        }
    });
    ui.horizontal_wrapped(|ui| {
        let edit = egui::TextEdit::singleline(&mut state.path_editor.to)
            .desired_width(130.0_f32.min(ui.available_width() - 80.0));
        ui.add(edit)
            .on_hover_text("a folder, or a .gif or .mp4 (which needs ffmpeg)");
        let can = !state.path_editor.draft.keys().is_empty() && state.doing.is_none();
        if ui
            .add_enabled(can, egui::Button::new("Render path"))
            .clicked()
        {
            state.render_path();
        }
    });
    ui.horizontal_wrapped(|ui| {
        let flight = &mut state.path_editor;
        let name = |channel: Channel| CHANNELS.iter().find(|c| c.0 == channel).map_or("", |c| c.1);
        egui::ComboBox::from_id_salt("channel")
            .selected_text(name(flight.channel))
            .width(80.0)
            .show_ui(ui, |ui| {
                for (channel, name) in CHANNELS {
                    ui.selectable_value(&mut flight.channel, channel, name);
                }
            });
        egui::ComboBox::from_id_salt("rays a pixel")
            .selected_text(match flight.per_side {
                1 => "1 ray per pixel".to_owned(),
                side => format!("{} rays per pixel", side.pow(2)),
            })
            .width(110.0)
            .show_ui(ui, |ui| {
                for side in 1..=4_u32 {
                    ui.selectable_value(&mut flight.per_side, side, side.pow(2).to_string());
                }
            });
    });
}

pub(super) fn screenshot(state: &mut State, ui: &mut Ui) {
    let now = ui.input(|i| i.time);
    let Some(mut size) = state.size_of_screenshot() else {
        return;
    };
    ui.horizontal_wrapped(|ui| {
        let mut chosen = false;
        for side in &mut size {
            chosen |= ui.add(DragValue::new(side).range(1..=MAX_SIDE)).changed();
        }
        ui.label("px");
        for (factor, name) in [(2, "×2"), (4, "×4")] {
            if ui.button(name).clicked() {
                size = size.map(|n| (n * factor).min(MAX_SIDE));
                chosen = true;
            }
        }
        if chosen {
            state.screenshot_size = Some(size);
        }
        if ui
            .button("reset")
            .on_hover_text("same size as the view")
            .clicked()
        {
            state.screenshot_size = None;
        }
    });
    let can = state.doing.is_none();
    let button = egui::Button::new("Save screenshot");
    if ui.add_enabled(can, button).on_hover_text("F12").clicked() {
        state.screenshot(now);
    }
}
