//! Panels for the render mode, the camera and the crop box.

use egui::{DragValue, Key, Ui};

use super::super::state::WHITE;
use super::State;
use crate::config::Background;
use crate::render::RenderMode;
use crate::text::counted_len;
use crate::viewer::protocol::{Floaters, TrainingMode};
use crate::viewer::state::Compare;

/// Render modes with their names and keys.
const SHOWS: [(RenderMode, &str, Key); 7] = [
    (RenderMode::Color, "Colour", Key::Num1),
    (RenderMode::Depth, "Depth", Key::Num2),
    (RenderMode::Normals, "Normals", Key::Num3),
    (RenderMode::Opacity, "Opacity", Key::Num4),
    (RenderMode::Samples, "Cost", Key::Num5),
    (RenderMode::Occupancy, "Occupancy", Key::Num6),
    (RenderMode::Cells, "Networks", Key::Num7),
];

/// Why cropping is disabled.
const NO_BOX: &str =
    "this run uses normalised device coordinates, which cannot be cropped to a box";

/// Comparison modes with their names.
const COMPARISONS: [(Compare, &str); 4] = [
    (Compare::Off, "off"),
    (Compare::Side, "beside"),
    (Compare::Wipe, "wipe"),
    (Compare::Error, "error"),
];

const BLACK: Background = Background::Fixed([0.0; 3]);
const GREY: Background = Background::Fixed([0.25; 3]);

/// Handle the keys of these panels.
pub(super) fn keys(state: &mut State, pressed: &dyn Fn(Key) -> bool) {
    for (show, _, key) in SHOWS {
        if pressed(key) {
            choose(state, show);
        }
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
    if pressed(Key::V) && state.opened.is_some() {
        let now = COMPARISONS.iter().position(|c| c.0 == state.compare);
        let next = (now.unwrap_or(0) + 1) % COMPARISONS.len();
        start_comparing(state, COMPARISONS[next].0);
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
    if pressed(Key::O) {
        state.show_points = !state.show_points;
    }
    if pressed(Key::G) {
        toggle_crop(state);
        state.opens_crop = state.crop.is_some();
    }
}

/// Start comparing, at the dataset camera where the view was last.
fn start_comparing(state: &mut State, compare: Compare) {
    state.compare = compare;
    if compare != Compare::Off && state.at_camera.is_none() {
        state.go_to(state.last_camera);
    }
}

fn choose(state: &mut State, show: RenderMode) {
    let can = state
        .opened
        .as_ref()
        .is_some_and(|o| o.shows.contains(&show));
    if can {
        state.show = show;
    }
}

/// Go to the next or the previous camera of the dataset.
fn next_camera(state: &mut State, forward: bool) {
    let n = state.opened.as_ref().map_or(0, |o| o.viewpoints.len());
    if n > 0 {
        let now = state.last_camera.min(n - 1);
        state.go_to((now + if forward { 1 } else { n - 1 }) % n);
    }
}

fn next_background(now: Background) -> Background {
    match now {
        b if b == WHITE => BLACK,
        b if b == BLACK => GREY,
        _ => WHITE,
    }
}

pub(super) fn show(state: &mut State, ui: &mut Ui) {
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
    ui.horizontal_wrapped(|ui| {
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
        ui.horizontal_wrapped(|ui| {
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
    match (state.show, state.floaters) {
        (RenderMode::Depth, _) => depth_range(state, ui),
        (RenderMode::Occupancy, Some(found)) => floaters(&found, ui),
        _ => {}
    }
    let speed = egui::Slider::new(&mut state.speed, 0.05..=20.0)
        .logarithmic(true)
        .custom_formatter(|v, _| format!("{v:.2}×"));
    ui.add(speed.text("flight speed"));
    if let Some((_, _, view)) = state.picture() {
        let [w, h] = view.size;
        let latency = state.latency.map_or(String::new(), |s| {
            format!(", shown after {:.0} ms", s * 1e3)
        });
        ui.label(format!("{w}×{h} in {:.0} ms{latency}", view.seconds * 1e3));
        let full = [view.request.camera.width, view.request.camera.height];
        if view.size != full && state.is_training() && state.training == TrainingMode::Run {
            ui.label("full size when training is paused or over");
        }
    }
    ui.horizontal_wrapped(|ui| {
        ui.checkbox(&mut state.show_cameras, "cameras");
        ui.checkbox(&mut state.show_box, "scene box");
        let n_points = state
            .opened
            .as_ref()
            .map_or(0, |o| o.points.positions.len());
        if n_points > 0 {
            ui.checkbox(&mut state.show_points, "sparse points");
        }
    });
}

/// Describe the floaters of the occupancy grid.
fn floaters(found: &Floaters, ui: &mut Ui) {
    if found.count == 0 {
        ui.label("no floaters: the occupied cells of the innermost grid are connected");
        return;
    }
    let share = 100.0 * found.cells as f64 / found.total.max(1) as f64;
    let clusters = counted_len(found.count, "floater");
    ui.label(format!(
        "{clusters}: {share:.1} % of the occupied cells of the innermost grid are apart from the largest cluster"
    ));
    ui.label(
        "to remove them, put a crop box (G) around the scene and choose “Remove what is outside”",
    );
}

/// Choose the distances at the ends of the colours of depth.
fn depth_range(state: &mut State, ui: &mut Ui) {
    let [mut near, mut far] = state.depth_range();
    ui.horizontal_wrapped(|ui| {
        ui.label("depth from");
        let speed = 0.01 * far;
        let lower = DragValue::new(&mut near)
            .range(0.0..=0.99 * far)
            .speed(speed);
        let mut is_changed = ui.add(lower).changed();
        ui.label("to");
        let upper = DragValue::new(&mut far)
            .range(1.01 * near..=1e6)
            .speed(speed);
        is_changed |= ui.add(upper).changed();
        if is_changed {
            state.depth_range = Some([near, far]);
        }
        let fixed = state.depth_range.is_some();
        let button = egui::Button::new("auto");
        let response = ui.add_enabled(fixed, button);
        if response
            .on_hover_text("around the pivot's distance")
            .clicked()
        {
            state.depth_range = None;
        }
    });
}

pub(super) fn cameras(state: &mut State, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
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
            .and_then(|i| opened.viewpoints.get(i))
            .map_or("free", |p| p.name.as_str())
            .to_owned();
        let names: Vec<String> = opened.viewpoints.iter().map(|p| p.name.clone()).collect();
        let mut chosen = None;
        egui::ComboBox::from_id_salt("camera")
            .selected_text(name)
            .width(170.0_f32.min(ui.available_width() - 20.0))
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
    if ui.button("First camera (R)").clicked() {
        state.go_to(0);
    }
    ui.horizontal_wrapped(|ui| {
        ui.label("photo")
            .on_hover_text("compare with the photograph (V)");
        for (compare, name) in COMPARISONS {
            if ui
                .selectable_label(state.compare == compare, name)
                .clicked()
            {
                start_comparing(state, compare);
            }
        }
    });
    let psnr = state.psnr();
    match state.compare {
        Compare::Off => {}
        _ if state.at_camera.is_none() => {
            ui.label("go to a camera (N, P) to compare");
        }
        Compare::Error => {
            let text = psnr.map_or("measuring".to_owned(), |p| format!("PSNR {p:.2} dB"));
            ui.label(text);
        }
        Compare::Side | Compare::Wipe => {}
    }
}

/// Switch the crop box on, starting with the scene box, or off.
fn toggle_crop(state: &mut State) {
    let opened = state.opened.as_ref().filter(|o| o.can_crop);
    state.crop = match (state.crop, opened) {
        (None, Some(opened)) => Some(opened.bounds),
        _ => None,
    };
    if state.opened.as_ref().is_some_and(|o| !o.can_crop) {
        state.add_message(NO_BOX.to_owned(), false);
    }
}

pub(super) fn crop(state: &mut State, ui: &mut Ui) {
    let can = state.opened.as_ref().is_some_and(|o| o.can_crop);
    let mut is_on = state.crop.is_some();
    let toggled = ui
        .add_enabled(can, egui::Checkbox::new(&mut is_on, "crop box (G)"))
        .on_hover_text("drag the dots on its faces")
        .on_disabled_hover_text(NO_BOX)
        .changed();
    if toggled {
        toggle_crop(state);
    }
    let (now, mut is_changed) = (ui.input(|i| i.time), false);
    let Some(mut crop) = state.crop else {
        return;
    };
    egui::Grid::new("crop").show(ui, |ui| {
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            ui.label(name);
            let thinnest = 1e-3 * (crop.high[axis] - crop.low[axis]);
            let (low, high) = (crop.low[axis], crop.high[axis]);
            let speed = 0.01 * (high - low);
            let lower = DragValue::new(&mut crop.low[axis]).range(-1e9..=high - thinnest);
            is_changed |= ui.add(lower.speed(speed)).changed();
            let upper = DragValue::new(&mut crop.high[axis]).range(low + thinnest..=1e9);
            is_changed |= ui.add(upper.speed(speed)).changed();
            ui.end_row();
        }
    });
    if is_changed {
        state.crop = Some(crop);
        state.changed(now);
    }
    let can = state.can_go_on();
    let remove = ui.add_enabled(can, egui::Button::new("Remove what is outside"));
    if remove
        .on_hover_text("write a copy of the run without it, and open that; the run itself is kept")
        .on_disabled_hover_text("when training is over")
        .clicked()
    {
        state.remove_outside();
    }
    ui.horizontal_wrapped(|ui| {
        if ui
            .button("Copy as flag")
            .on_hover_text("for kiln render")
            .clicked()
        {
            ui.ctx().copy_text(format!("--crop={crop}"));
        }
        if ui
            .button("Reset")
            .on_hover_text("to the whole scene box")
            .clicked()
        {
            state.crop = None;
            toggle_crop(state);
        }
    });
}
