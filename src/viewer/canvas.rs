//! The picture: drawing it, what lies over it, and moving the camera with it.

use egui::{Color32, Key, PointerButton, Pos2, Rect, Sense, Stroke, Vec2};

use super::state::{State, fit};
use crate::camera::Camera;

/// Turning by half a turn takes a drag over the picture's height.
const HALF_TURN: f64 = std::f64::consts::PI;
/// Distances to the pivot that flight covers in a second.
const FLIGHT: f64 = 0.8;
/// What Shift makes of it.
const FASTER: f64 = 4.0;
const BACKGROUND: Color32 = Color32::from_rgb(24, 25, 28);

/// Where the picture is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Canvas {
    /// Room for the picture, in pixels of the screen.
    pub pixels: [u32; 2],
    /// The same in points.
    pub rect: Rect,
}

impl Default for Canvas {
    fn default() -> Self {
        Self {
            pixels: [0; 2],
            rect: Rect::ZERO,
        }
    }
}

/// Draw the picture into what is left of `ui`.
pub(super) fn show(state: &mut State, ui: &mut egui::Ui) {
    let rect = ui.available_rect_before_wrap();
    let scale = ui.ctx().pixels_per_point();
    state.canvas = Canvas {
        pixels: [rect.width(), rect.height()].map(|v| (v * scale).round().max(0.0) as u32),
        rect,
    };
    let response = ui.allocate_rect(rect, Sense::click_and_drag());
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, 0.0, BACKGROUND);
    if state.opened.is_some() {
        navigate(state, ui, &response);
    }
    let inner = picture_rect(state);
    if let Some((texture, part, _)) = state.picture() {
        painter.image(texture, inner, part, Color32::WHITE);
    }
    if let Some((camera, _)) = state.camera() {
        overlay(state, &painter, &camera, inner);
    }
}

/// Where the picture lies: all of the canvas, or the part of it that has a photograph's shape.
pub(super) fn picture_rect(state: &State) -> Rect {
    let Canvas { pixels, rect } = state.canvas;
    let Some((camera, _)) = state.camera() else {
        return rect;
    };
    let size = fit([camera.width, camera.height], pixels);
    let scale = rect.width() / (pixels[0].max(1) as f32);
    Rect::from_center_size(
        rect.center(),
        Vec2::new(size[0] as f32, size[1] as f32) * scale,
    )
}

/// Move the camera as the pointer and the keys say.
fn navigate(state: &mut State, ui: &egui::Ui, response: &egui::Response) {
    let now = ui.input(|i| i.time);
    let Some(mut view) = state.view else {
        return;
    };
    let before = view;
    let height = f64::from(state.canvas.rect.height().max(1.0));
    let delta = response.drag_delta();
    let [dx, dy] = [delta.x, delta.y].map(|d| f64::from(d) / height);
    let shift = ui.input(|i| i.modifiers.shift);
    let pans = response.dragged_by(PointerButton::Middle)
        || (shift && response.dragged_by(PointerButton::Primary));
    if delta == Vec2::ZERO {
        // Turning by nothing would round.
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
        let factor = (-f64::from(scroll) / 300.0).exp() / f64::from(pinch);
        if factor != 1.0 {
            view.zoom(factor);
        }
    }
    if !ui.ctx().egui_wants_keyboard_input() {
        let held = |key: Key| ui.input(|i| f64::from(u8::from(i.key_down(key))));
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
            let speed = view.distance() * FLIGHT * if shift { FASTER } else { 1.0 } * seconds;
            view.fly(right * speed, up * speed, ahead * speed);
            ui.ctx().request_repaint();
        }
    }
    if view != before {
        state.moved(now);
        state.view = Some(view);
    }
}

/// A point of the world on the screen, where `camera` sees it in `rect`.
fn project(camera: &Camera, rect: Rect, point: [f64; 3]) -> Option<Pos2> {
    let [x, y] = camera.project(point)?;
    let at = Vec2::new(
        x as f32 / camera.width as f32 * rect.width(),
        y as f32 / camera.height as f32 * rect.height(),
    );
    // Far outside lines would only cost.
    (at.length() < 1e5).then(|| rect.min + at)
}

/// Lines over the picture: the scene's box and the cameras.
fn overlay(state: &State, painter: &egui::Painter, camera: &Camera, rect: Rect) {
    let Some(opened) = &state.opened else {
        return;
    };
    let painter = painter.with_clip_rect(rect.intersect(painter.clip_rect()));
    let line = |a: [f64; 3], b: [f64; 3], stroke: Stroke| {
        if let (Some(a), Some(b)) = (project(camera, rect, a), project(camera, rect, b)) {
            painter.line_segment([a, b], stroke);
        }
    };
    if state.show_box {
        let corner =
            |i: usize| -> [f64; 3] { std::array::from_fn(|a| opened.corners[(i >> a) & 1][a]) };
        let stroke = Stroke::new(1.0, Color32::from_rgb(250, 180, 60));
        for i in 0..8_usize {
            for axis in 0..3 {
                if i & (1 << axis) == 0 {
                    line(corner(i), corner(i | (1 << axis)), stroke);
                }
            }
        }
    }
    if state.show_cameras {
        let length = state.view.map_or(1.0, |v| v.distance()) * 0.06;
        for (index, (_, other, _)) in opened.cameras.iter().enumerate() {
            if state.at_camera == Some(index) {
                continue;
            }
            let color = if index < opened.n_train {
                Color32::from_rgb(90, 160, 250)
            } else {
                Color32::from_rgb(120, 220, 120)
            };
            let stroke = Stroke::new(1.0, color);
            let [eye, corners] = frustum(other, length);
            for i in 0..4 {
                line(eye[0], corners[i], stroke);
                line(corners[i], corners[(i + 1) % 4], stroke);
            }
        }
    }
}

/// Where `camera` stands (four times), and the corners of its image `length` in front of it.
fn frustum(camera: &Camera, length: f64) -> [[[f64; 3]; 4]; 2] {
    let (w, h) = (camera.width as f32, camera.height as f32);
    let corners = [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]].map(|[x, y]| {
        let (origin, direction) = camera.ray(x, y);
        std::array::from_fn(|a| origin[a] + length * direction[a])
    });
    let eye = camera.position().map(f64::from);
    [[eye; 4], corners]
}
