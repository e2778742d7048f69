//! Panel for opening datasets and runs, with the method and the device.

use egui::Key;

use super::{Command, State};
use crate::config::Config;

pub(super) fn show(state: &mut State, ui: &mut egui::Ui) {
    ui.label("Drop a dataset, a run or a camera path here, or enter its path:");
    ui.horizontal_wrapped(|ui| {
        let edit = egui::TextEdit::singleline(&mut state.path_to_open).hint_text("data/lego");
        let entered = ui
            .add(edit.desired_width(190.0_f32.min(ui.available_width() - 60.0)))
            .lost_focus()
            && ui.input(|i| i.key_pressed(Key::Enter));
        let named = !state.path_to_open.trim().is_empty();
        if (ui.button("Open").clicked() || entered) && named {
            let path = state.path_to_open.trim().to_owned();
            state.open_path(path.as_ref());
        }
        if ui.button("Browse…").clicked() {
            state.browses = true;
        }
    });
    let recent: Vec<_> = state.recent.folders().cloned().collect();
    let mut chosen = None;
    let name_of = |folder: &std::path::Path| {
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let names: Vec<String> = recent.iter().map(|folder| name_of(folder)).collect();
    for (folder, name) in recent.into_iter().zip(&names) {
        // Runs of several datasets often have the same name.
        let is_alone = names.iter().filter(|other| *other == name).count() == 1;
        let parent = folder.parent().filter(|_| !is_alone).map(name_of);
        let shown = parent.map_or_else(|| name.clone(), |parent| format!("{parent}/{name}"));
        let link = ui.link(shown);
        if link.on_hover_text(folder.display().to_string()).clicked() {
            chosen = Some(folder);
        }
    }
    if let Some(folder) = chosen {
        state.open_path(&folder);
    }
    if ui.button("Train on the built-in scene").clicked() {
        state.open_demo();
    }
    ui.horizontal_wrapped(|ui| {
        ui.label("training method");
        let name = state.method.as_deref().unwrap_or("default for the device");
        egui::ComboBox::from_id_salt("method")
            .width(ui.available_width().clamp(60.0, 150.0))
            .truncate()
            .selected_text(name.to_owned())
            .show_ui(ui, |ui| {
                ui.selectable_value(&mut state.method, None, "default for the device");
                for name in Config::presets() {
                    ui.selectable_value(&mut state.method, Some(name.to_owned()), name);
                }
            });
    });
    let used = state.device.and_then(|i| state.devices.get(i)).cloned();
    if let Some(used) = used {
        let mut chosen = None;
        egui::ComboBox::from_id_salt("device")
            .selected_text(used)
            .width(ui.available_width().min(270.0))
            .truncate()
            .show_ui(ui, |ui| {
                for (number, name) in state.devices.iter().enumerate() {
                    let is_used = state.device == Some(number);
                    if ui
                        .selectable_label(is_used, format!("{number}  {name}"))
                        .clicked()
                    {
                        chosen = Some(number);
                    }
                }
            })
            .response
            .on_hover_text("device; a training is saved and continues there");
        if let Some(number) = chosen.filter(|n| state.device != Some(*n)) {
            state.send(Command::Device(number));
        }
    }
}

pub(super) fn welcome(state: &mut State, ui: &mut egui::Ui) {
    if state.doing.is_some() {
        return;
    }
    let room = ui.max_rect();
    egui::Area::new(egui::Id::unique("welcome"))
        .fixed_pos(room.center())
        .pivot(egui::Align2::CENTER_CENTER)
        .constrain_to(room)
        .show(ui.ctx(), |ui| {
            egui::Frame::popup(ui.style())
                .inner_margin(20.0)
                .show(ui, |ui| {
                    ui.set_max_width((room.width() - 60.0).clamp(80.0, 420.0));
                    ui.heading("Nothing is open");
                    ui.label(
                        "A dataset is a folder of posed images; training on it starts at once.",
                    );
                    ui.label("A run is the folder that a training created.");
                    ui.label("A video, or photographs without camera poses, are made into a dataset first.");
                    ui.label("Drop any of them here, browse for it, or try the built-in scene:");
                    ui.add_space(8.0);
                    ui.horizontal_wrapped(|ui| {
                        if ui.button("Browse…").clicked() {
                            state.browses = true;
                        }
                        if ui.button("Train on the built-in scene").clicked() {
                            state.open_demo();
                        }
                    });
                });
        });
}
