//! The canvas: draws the rendered view, compares it with a photograph, and moves the camera with pointer and keys.

use egui::{
    Align2, Color32, CursorIcon, FontId, Key, PointerButton, Pos2, Rect, Sense, Stroke, Vec2,
};

use super::overlay;
use super::state::{Canvas, Compare, DragHandle, State, fit};
use crate::camera::Camera;
use crate::render::{RenderMode, turbo};

/// Angle in radians of a drag over the height of the view.
const HALF_TURN: f64 = std::f64::consts::PI;
/// Scrolled points that change the distance to the pivot by a factor of e: a click of a wheel changes it by a tenth.
const SCROLL: f64 = 400.0;
/// Flight speed, in distances to the pivot per second.
const FLIGHT: f64 = 0.8;
/// Factor on the flight speed while Shift is held.
const FASTER: f64 = 4.0;
/// Colour around the view, dark and light.
const SURROUNDINGS: [Color32; 2] = [Color32::from_rgb(24, 25, 28), Color32::from_gray(214)];
/// Maximum distance between the pointer and a handle that it grabs, in points.
const REACH: f32 = 10.0;

/// Draw the view into the rest of `ui`.
pub(super) fn show(state: &mut State, ui: &mut egui::Ui) {
    let rect = ui.available_rect_before_wrap();
    let scale = ui.ctx().pixels_per_point();
    state.canvas = Canvas {
        pixels: [rect.width(), rect.height()].map(|v| (v * scale).round().max(0.0) as u32),
        rect,
    };
    let response = ui.allocate_rect(rect, Sense::click_and_drag());
    let painter = ui.painter_at(rect);
    let surroundings = SURROUNDINGS[usize::from(!ui.visuals().dark_mode)];
    painter.rect_filled(rect, 0.0, surroundings);
    if state.opened.is_none() {
        return;
    }
    handle_drag(state, ui, &response);
    if state.grip.is_none() {
        navigate(state, ui, &response);
    }
    let inner = picture_rect(state);
    let compares = state.compares();
    if let Some((texture, part, view)) = state.picture() {
        // Skip a view that is left over from another mode: error maps are shown only in the error comparison.
        if (compares == Compare::Error) == view.psnr.is_some() || state.photo(ui.ctx()).is_none() {
            painter.image(texture, inner, part, Color32::WHITE);
        }
    }
    if compares == Compare::Off {
        if let Some((camera, _)) = state.camera() {
            overlay::draw(state, &painter, &camera, inner);
        }
        overlay::map(state, &painter);
        if state.show == RenderMode::Depth {
            color_bar(state, &painter);
        }
    } else {
        compare(state, ui, &painter, inner);
    }
}

/// Return the rectangle of the view: the whole canvas, or the part with the photograph's aspect ratio.
pub(super) fn picture_rect(state: &State) -> Rect {
    let Canvas { pixels, rect } = state.canvas;
    let Some((camera, _)) = state.camera() else {
        return rect;
    };
    let room = state.room();
    let size = fit([camera.width, camera.height], room);
    let scale = rect.width() / (pixels[0].max(1) as f32);
    // If a photograph is shown beside the view, the view occupies the left half.
    let left = Vec2::new(room[0] as f32 * scale, rect.height());
    Rect::from_center_size(
        Rect::from_min_size(rect.min, left).center(),
        Vec2::new(size[0] as f32, size[1] as f32) * scale,
    )
}

/// Draw the photograph beside or over the view in `inner`, or label the error map.
fn compare(state: &mut State, ui: &egui::Ui, painter: &egui::Painter, inner: Rect) {
    let label = |rect: Rect, text: &str| {
        let font = FontId::proportional(13.0);
        let at = rect.left_top() + Vec2::new(8.0, 6.0);
        let galley = painter.layout_no_wrap(text.to_owned(), font, Color32::WHITE);
        let behind = Rect::from_min_size(at, galley.size()).expand(4.0);
        painter.rect_filled(behind, 3.0, Color32::from_black_alpha(170));
        painter.galley(at, galley, Color32::WHITE);
    };
    let name = state.viewpoint().map_or(String::new(), |p| p.name.clone());
    let photo = state.photo(ui.ctx());
    let whole = Rect::from_min_max(Pos2::ZERO, Pos2::new(1.0, 1.0));
    match (state.compares(), photo) {
        (_, None) => label(inner, "loading the photograph"),
        (Compare::Side, Some(photo)) => {
            let room = state.canvas.rect;
            let there = inner.translate(Vec2::new(room.width() / 2.0, 0.0));
            painter.image(photo, there, whole, Color32::WHITE);
            label(inner, "rendered");
            label(there, &name);
        }
        (Compare::Wipe, Some(photo)) => {
            let x = inner.left() + state.wipe * inner.width();
            let right = Rect::from_min_max(Pos2::new(x, inner.top()), inner.max);
            let clipped = painter.with_clip_rect(right.intersect(painter.clip_rect()));
            clipped.image(photo, inner, whole, Color32::WHITE);
            let stroke = Stroke::new(2.0, Color32::from_rgb(250, 180, 60));
            painter.vline(x, inner.y_range(), stroke);
            painter.circle_filled(Pos2::new(x, inner.center().y), 6.0, stroke.color);
            if state.wipe > 0.15 {
                label(inner, "rendered");
            }
            if state.wipe < 0.85 {
                label(right, &name);
            }
        }
        (Compare::Error, Some(_)) => {
            let text = state.psnr().map_or("measuring".to_owned(), |psnr| {
                format!("{name}: error, white from 0.25 on · PSNR {psnr:.2} dB")
            });
            label(inner, &text);
        }
        (Compare::Off, Some(_)) => {}
    }
}

/// Draw the colours of depth with their distances at the lower left.
fn color_bar(state: &State, painter: &egui::Painter) {
    const SIZE: Vec2 = Vec2::new(160.0, 10.0);
    let [near, far] = state.depth_range();
    let area = painter.clip_rect();
    // The map of the camera path may be at the lower right, with a margin like that of the bar.
    let beside_map = (1.0 - overlay::MAP_SHARE) * area.width() - 40.0;
    let bar = Rect::from_min_size(
        area.left_bottom() + Vec2::new(14.0, -34.0),
        SIZE.min(Vec2::new(beside_map.max(60.0), SIZE.y)),
    );
    painter.rect_filled(
        bar.expand2(Vec2::new(8.0, 6.0))
            .with_max_y(bar.bottom() + 22.0),
        4.0,
        Color32::from_black_alpha(170),
    );
    let parts = 64_u8;
    for part in 0..parts {
        let t = f32::from(part) / f32::from(parts);
        let [r, g, b] = turbo(1.0 - t).map(|v| (v * 255.0).round() as u8);
        let left = bar.left() + t * bar.width();
        let width = bar.width() / f32::from(parts) + 0.5;
        let cell = Rect::from_min_size(Pos2::new(left, bar.top()), Vec2::new(width, bar.height()));
        painter.rect_filled(cell, 0.0, Color32::from_rgb(r, g, b));
    }
    let font = FontId::proportional(12.0);
    for (at, align, value) in [
        (bar.left_bottom(), Align2::LEFT_TOP, near),
        (bar.right_bottom(), Align2::RIGHT_TOP, far),
    ] {
        let text = format!("{value:.2}");
        painter.text(
            at + Vec2::new(0.0, 3.0),
            align,
            text,
            font.clone(),
            Color32::WHITE,
        );
    }
}

/// Return all drag handles with their screen positions.
fn drag_handles(state: &State) -> Vec<(DragHandle, Pos2)> {
    let inner = picture_rect(state);
    match state.compares() {
        Compare::Off => {}
        Compare::Wipe => {
            let x = inner.left() + state.wipe * inner.width();
            return vec![(DragHandle::Wipe, Pos2::new(x, inner.center().y))];
        }
        Compare::Side | Compare::Error => return Vec::new(),
    }
    let Some((camera, _)) = state.camera() else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut add = |grip, point| {
        if let Some(at) = overlay::project(&camera, inner, point) {
            all.push((grip, at));
        }
    };
    if let Some(crop) = &state.crop {
        for axis in 0..3 {
            for upper in [false, true] {
                add(
                    DragHandle::Face(axis, upper),
                    overlay::middle_of_face(crop, axis, upper),
                );
            }
        }
    }
    if !state.path_editor.plays {
        for (index, key) in state.path_editor.draft.keys().iter().enumerate() {
            let place = key.camera([1, 1]).position();
            add(DragHandle::Key(index), place.map(f64::from));
        }
    }
    all
}

/// Return the item with the smallest distance, if it is within [`REACH`].
fn nearest<T>(all: impl Iterator<Item = (T, f32)>) -> Option<T> {
    let near = all.filter(|(_, away)| *away < REACH);
    near.min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(thing, _)| thing)
}

/// Grab, drag and release the handle under the pointer. A click on a dataset camera moves the view to it.
fn handle_drag(state: &mut State, ui: &egui::Ui, response: &egui::Response) {
    let now = ui.input(|i| i.time);
    if state.grip.is_none() {
        // When egui recognises a drag, the pointer has already moved: use the position where the button was pressed.
        let pointer = if response.drag_started() {
            ui.input(|i| i.pointer.press_origin())
        } else {
            response.hover_pos()
        };
        let wipes = state.compares() == Compare::Wipe;
        let away = |at: Pos2| {
            let distance = |p: Pos2| {
                if wipes {
                    (p.x - at.x).abs()
                } else {
                    p.distance(at)
                }
            };
            pointer.map_or(f32::INFINITY, distance)
        };
        let all = drag_handles(state)
            .into_iter()
            .map(|(grip, at)| (grip, away(at)));
        if let Some(grip) = nearest(all) {
            ui.ctx().set_cursor_icon(CursorIcon::Grab);
            if response.drag_started_by(PointerButton::Primary) {
                state.grip = Some(grip);
            }
            if let (DragHandle::Key(index), true) = (grip, response.clicked()) {
                state.path_editor.selected = Some(index);
                return;
            }
        }
        if state.show_cameras && state.compares() == Compare::Off {
            let eyes = overlay::eyes(state, picture_rect(state));
            if let Some(index) = nearest(eyes.map(|(index, at)| (index, away(at)))) {
                ui.ctx().set_cursor_icon(CursorIcon::PointingHand);
                if response.clicked() {
                    state.go_to(index);
                }
            }
        }
    }
    let Some(grip) = state.grip else {
        return;
    };
    if !response.dragged() {
        state.grip = None;
        return;
    }
    ui.ctx().set_cursor_icon(CursorIcon::Grabbing);
    let delta = response.drag_delta();
    let inner = picture_rect(state);
    if let DragHandle::Wipe = grip {
        if let Some(pointer) = response.interact_pointer_pos() {
            state.wipe = ((pointer.x - inner.left()) / inner.width().max(1.0)).clamp(0.0, 1.0);
        }
        return;
    }
    let Some((camera, _)) = state.camera().filter(|_| delta != Vec2::ZERO) else {
        return;
    };
    match grip {
        DragHandle::Wipe => {}
        DragHandle::Face(axis, upper) => {
            let crop = state.crop.as_mut();
            if let Some(crop) = crop {
                overlay::pull(crop, axis, upper, &camera, inner, delta);
                state.changed(now);
            }
        }
        DragHandle::Key(index) => {
            state.path_editor.selected = Some(index);
            let key = state.path_editor.draft.keys().get(index);
            let by = key.and_then(|key| {
                let at = key.camera([1, 1]).position();
                overlay::shift(&camera, inner, at, delta)
            });
            if let Some(by) = by {
                state.path_editor.draft.shift(index, by);
                state.path_editor.is_changed = true;
            }
        }
    }
}

/// Move the camera with the pointer and the keys.
fn navigate(state: &mut State, ui: &egui::Ui, response: &egui::Response) {
    let now = ui.input(|i| i.time);
    let Some(mut view) = state.view else {
        return;
    };
    if response.double_clicked() {
        pick(state, response);
    }
    let before = view;
    let height = f64::from(state.canvas.rect.height().max(1.0));
    let delta = response.drag_delta();
    let [dx, dy] = [delta.x, delta.y].map(|d| f64::from(d) / height);
    let shift = ui.input(|i| i.modifiers.shift);
    let pans = response.dragged_by(PointerButton::Middle)
        || (shift && response.dragged_by(PointerButton::Primary));
    if delta == Vec2::ZERO {
        // Skip: even a rotation by zero would add rounding errors.
    } else if pans {
        view.pan(-dx, dy);
    } else if response.dragged_by(PointerButton::Primary) {
        view.orbit(-dx * HALF_TURN, -dy * HALF_TURN);
    } else if response.dragged_by(PointerButton::Secondary) {
        let angle = view.field_of_view();
        view.turn(-dx * angle, -dy * angle);
    }
    if response.hovered() {
        let (scroll, pinch) = ui.input(|i| (i.smooth_scroll_delta().y, i.zoom_delta()));
        let factor = (-f64::from(scroll) / SCROLL).exp() / f64::from(pinch);
        if factor != 1.0 {
            view.zoom(factor);
        }
    }
    state.note_shortcuts(ui.ctx());
    if !ui.ctx().egui_wants_keyboard_input() && state.question.is_none() {
        let held = |key: Key| {
            let is_held = !state.shortcuts.contains(&key) && ui.input(|i| i.key_down(key));
            f64::from(u8::from(is_held))
        };
        let axis = |more: [Key; 2], less: [Key; 2]| {
            let sum = |keys: [Key; 2]| keys.into_iter().map(held).fold(0.0, f64::max);
            sum(more) - sum(less)
        };
        let plain = ui.input(|i| !i.modifiers.command && !i.modifiers.alt);
        let ahead = axis([Key::W, Key::ArrowUp], [Key::S, Key::ArrowDown]);
        let right = axis([Key::D, Key::ArrowRight], [Key::A, Key::ArrowLeft]);
        let up = axis([Key::E, Key::PageUp], [Key::Q, Key::PageDown]);
        if plain && (ahead != 0.0 || right != 0.0 || up != 0.0) {
            let seconds = ui.input(|i| f64::from(i.stable_dt)).min(0.1);
            let speed =
                state.speed * view.distance() * FLIGHT * if shift { FASTER } else { 1.0 } * seconds;
            view.fly(right * speed, up * speed, ahead * speed);
            ui.ctx().request_repaint();
        }
    }
    if view != before {
        state.path_editor.plays = false;
        state.moved(now);
        state.view = Some(view);
    }
}

/// Make the point under the pointer the pivot.
fn pick(state: &mut State, response: &egui::Response) {
    let inner = picture_rect(state);
    let pointer = response.interact_pointer_pos();
    let pointer = pointer.filter(|at| inner.contains(*at));
    let Some((at, (camera, _))) = pointer.zip(state.camera()) else {
        return;
    };
    let place = |offset: f32, side: f32, pixels: u32| {
        ((offset / side.max(1.0) * pixels as f32) as u32).min(pixels.saturating_sub(1))
    };
    state.pick([
        place(at.x - inner.left(), inner.width(), camera.width),
        place(at.y - inner.top(), inner.height(), camera.height),
    ]);
}

/// Return the current camera, for a key frame.
pub(super) fn current_camera(state: &State) -> Option<Camera> {
    let [width, height] = state.canvas.pixels;
    (width > 0 && height > 0).then_some(())?;
    Some(state.view?.camera(width, height))
}
