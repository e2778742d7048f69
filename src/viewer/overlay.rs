//! Overlays in world space: boxes, cameras with thumbnails, and the camera path; and dragging them with the pointer.

use egui::{Color32, Mesh, Pos2, Rect, Stroke, TextureId, Vec2};

use super::state::State;
use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::dataset::SparsePoints;
use glam::DVec3;

const BOX: Color32 = Color32::from_rgb(250, 180, 60);
const CROP: Color32 = Color32::from_rgb(90, 220, 210);
const TRAINED: Color32 = Color32::from_rgb(90, 160, 250);
const OTHER: Color32 = Color32::from_rgb(120, 220, 120);
const PATH: Color32 = Color32::from_rgb(240, 110, 170);
/// Maximum number of sparse points that are drawn.
const MAX_POINTS: usize = 20_000;
/// Number of subdivisions of a thumbnail's sides; each part is drawn with affine texture coordinates.
const PARTS: u32 = 4;

/// Project a world point to the screen, for `camera` drawn in `rect`.
pub(super) fn project(camera: &Camera, rect: Rect, point: [f64; 3]) -> Option<Pos2> {
    let [x, y] = camera.project(point)?;
    let at = Vec2::new(
        x as f32 / camera.width as f32 * rect.width(),
        y as f32 / camera.height as f32 * rect.height(),
    );
    // Drop points far outside, which would only cost time.
    (at.length() < 1e5).then(|| rect.min + at)
}

/// Draws lines and images that are given in world coordinates.
struct LinePainter<'a> {
    painter: egui::Painter,
    camera: &'a Camera,
    rect: Rect,
}

impl LinePainter<'_> {
    fn line(&self, a: [f64; 3], b: [f64; 3], stroke: Stroke) {
        let [a, b] = [a, b].map(|p| project(self.camera, self.rect, p));
        if let (Some(a), Some(b)) = (a, b) {
            self.painter.line_segment([a, b], stroke);
        }
    }

    fn dot(&self, at: [f64; 3], radius: f32, color: Color32) {
        if let Some(at) = project(self.camera, self.rect, at) {
            self.painter.circle_filled(at, radius, color);
        }
    }

    fn edges(&self, bounds: &Aabb, color: Color32) {
        let corner = |i: usize| bounds.corner(i);
        for i in 0..8_usize {
            for axis in (0..3).filter(|axis| i & (1 << axis) == 0) {
                self.line(corner(i), corner(i | (1 << axis)), Stroke::new(1.0, color));
            }
        }
    }

    /// Draw the camera `other` as a pyramid of height `length`.
    fn pyramid(&self, other: &Camera, length: f64, stroke: Stroke) {
        let (eye, corners) = frustum(other, length);
        for i in 0..4 {
            self.line(eye, corners[i], stroke);
            self.line(corners[i], corners[(i + 1) % 4], stroke);
        }
    }

    /// Draw a photograph in the image plane of its camera.
    fn photograph(&self, other: &Camera, length: f64, texture: TextureId) {
        let (_, [a, b, c, d]) = frustum(other, length);
        let mut mesh = Mesh::with_texture(texture);
        for row in 0..=PARTS {
            for column in 0..=PARTS {
                let [u, v] = [column, row].map(|i| f64::from(i) / f64::from(PARTS));
                let point: [f64; 3] = std::array::from_fn(|i| {
                    let (top, bottom) = (a[i] + u * (b[i] - a[i]), d[i] + u * (c[i] - d[i]));
                    top + v * (bottom - top)
                });
                let Some(at) = project(self.camera, self.rect, point) else {
                    return;
                };
                mesh.vertices.push(egui::epaint::Vertex {
                    pos: at,
                    uv: Pos2::new(u as f32, v as f32),
                    color: Color32::WHITE,
                });
            }
        }
        for row in 0..PARTS {
            for column in 0..PARTS {
                let i = row * (PARTS + 1) + column;
                mesh.add_triangle(i, i + 1, i + PARTS + 1);
                mesh.add_triangle(i + 1, i + PARTS + 1, i + PARTS + 2);
            }
        }
        self.painter.add(mesh);
    }
}

/// Draw all enabled overlays for `camera` in `rect`.
pub(super) fn draw(state: &mut State, painter: &egui::Painter, camera: &Camera, rect: Rect) {
    let pen = LinePainter {
        painter: painter.with_clip_rect(rect.intersect(painter.clip_rect())),
        camera,
        rect,
    };
    if let Some(opened) = state.opened.as_ref().filter(|_| state.show_box) {
        pen.edges(&opened.bounds, BOX);
    }
    if let Some(opened) = state.opened.as_ref().filter(|_| state.show_points) {
        points(&opened.points, &pen);
    }
    if state.show_cameras {
        cameras(state, &pen);
    }
    if let Some(crop) = &state.crop {
        pen.edges(crop, CROP);
        for axis in 0..3 {
            for upper in [false, true] {
                pen.dot(middle_of_face(crop, axis, upper), 5.0, CROP);
            }
        }
    }
    if !state.path_editor.plays {
        path(state, &pen);
    }
}

/// Draw sparse points in their colours, an even part of them if there are many.
fn points(points: &SparsePoints, pen: &LinePainter<'_>) {
    let step = points.positions.len().div_ceil(MAX_POINTS).max(1);
    let mut mesh = Mesh::default();
    let all = points.positions.iter().zip(&points.colors).step_by(step);
    for (position, [r, g, b]) in all {
        let at = project(pen.camera, pen.rect, *position);
        if let Some(at) = at.filter(|at| pen.rect.contains(*at)) {
            let dot = Rect::from_center_size(at, Vec2::splat(2.0));
            mesh.add_colored_rect(dot, Color32::from_rgb(*r, *g, *b));
        }
    }
    pen.painter.add(mesh);
}

fn length_of_cameras(state: &State) -> f64 {
    state.view.map_or(1.0, |v| v.distance()) * 0.06
}

fn cameras(state: &mut State, pen: &LinePainter<'_>) {
    let length = length_of_cameras(state);
    let Some(opened) = &state.opened else {
        return;
    };
    let eye = pen.camera.position();
    let away = |camera: &Camera| {
        let at = camera.position();
        (0..3).map(|a| (at[a] - eye[a]).powi(2)).sum::<f64>()
    };
    let n_train = opened.n_train;
    let mut all: Vec<(usize, Camera)> = opened
        .viewpoints
        .iter()
        .enumerate()
        .filter(|(_, place)| place.frame.is_some())
        .filter(|(_, place)| !is_at_camera(pen.camera, &place.camera, length))
        .map(|(index, place)| (index, place.camera))
        .collect();
    // Draw the nearest camera last, on top of the others.
    all.sort_by(|a, b| away(&b.1).total_cmp(&away(&a.1)));
    let context = pen.painter.ctx().clone();
    for (index, camera) in all {
        if let Some(texture) = state.thumbnail(&context, index) {
            pen.photograph(&camera, length, texture);
        }
        let color = if index < n_train { TRAINED } else { OTHER };
        pen.pyramid(&camera, length, Stroke::new(1.0, color));
    }
}

/// Return the screen positions of the dataset's cameras.
pub(super) fn eyes(state: &State, rect: Rect) -> impl Iterator<Item = (usize, Pos2)> {
    let camera = state.camera().map(|c| c.0);
    let length = length_of_cameras(state);
    let viewpoints = state
        .opened
        .iter()
        .flat_map(|o| o.viewpoints.iter().enumerate());
    viewpoints.filter_map(move |(index, place)| {
        let camera = camera.as_ref()?;
        let is_drawn = place.frame.is_some() && !is_at_camera(camera, &place.camera, length);
        is_drawn.then_some(())?;
        // Use the centre of the drawn image, which is the visible part of a camera.
        let (_, corners) = frustum(&place.camera, length);
        let middle = std::array::from_fn(|a| f64::midpoint(corners[0][a], corners[2][a]));
        Some((index, project(camera, rect, middle)?))
    })
}

/// Size of the map of the path in points, and its maximum size as a fraction of the canvas.
const MAP: Vec2 = Vec2::new(220.0, 165.0);
pub(super) const MAP_SHARE: f32 = 0.4;
/// Azimuth in radians of the direction that the map is seen from, which is along none of the box's edges.
const MAP_AZIMUTH: f64 = 0.6;
/// Maximum ratio of the radius of the map with the scene's box to that without it.
const MAX_MAP: f64 = 2.5;

/// Return the centre of the box around `points`, and the radius of the sphere around it that contains them.
fn sphere(points: &[[f64; 3]]) -> (DVec3, f64) {
    let points = || points.iter().copied().map(DVec3::from);
    let Some(first) = points().next() else {
        return (DVec3::ZERO, 1e-6);
    };
    let (low, high) = points().fold((first, first), |(low, high), p| (low.min(p), high.max(p)));
    let center = 0.5 * (low + high);
    (
        center,
        points().map(|p| center.distance(p)).fold(1e-6, f64::max),
    )
}

/// Draw the camera path from outside, at the lower right: from inside, the view is on the path, which hides most of it.
pub(super) fn map(state: &mut State, painter: &egui::Painter) {
    let line = state.path_editor.line().to_vec();
    let (Some(view), Some(opened), false) = (state.view, &state.opened, line.is_empty()) else {
        return;
    };
    let area = painter.clip_rect();
    let size = MAP.min(MAP_SHARE * area.size());
    let rect = Rect::from_min_size(area.right_bottom() - size - Vec2::splat(10.0), size);
    let visuals = painter.ctx().global_style().visuals.clone();
    painter.rect_filled(rect, 4.0, visuals.panel_fill.gamma_multiply(0.92));
    let here = view.camera(1, 1);
    let mut points = line.clone();
    points.extend([here.position(), view.pivot().to_array()]);
    let (mut center, mut radius) = sphere(&points);
    // A box that is much larger than the path would leave too little room for it.
    points.extend((0..8).map(|i| opened.bounds.corner(i)));
    let with_box = sphere(&points);
    if with_box.1 < MAX_MAP * radius {
        (center, radius) = with_box;
    }
    let up = view.up();
    let aside = up.any_orthonormal_vector();
    let (sin, cos) = MAP_AZIMUTH.sin_cos();
    let from = (cos * aside + sin * up.cross(aside) + 0.9 * up).normalize();
    let fov = 0.6_f64;
    let distance = 1.15 * radius / (fov / 2.0).sin();
    // Relative to the centre, which may be far from the origin for f32.
    let mut camera = Camera::look_at(
        (distance * from).to_array().map(|v| v as f32),
        [0.0; 3],
        up.to_array().map(|v| v as f32),
        fov as f32,
        size.x as u32,
        size.y as u32,
    );
    for (row, center) in camera.world_from_camera.iter_mut().zip(center.to_array()) {
        row[3] += center;
    }
    let pen = LinePainter {
        painter: painter.with_clip_rect(rect),
        camera: &camera,
        rect,
    };
    pen.edges(&opened.bounds, BOX.gamma_multiply(0.5));
    for ends in line.windows(2) {
        pen.line(ends[0], ends[1], Stroke::new(1.5, PATH));
    }
    for (index, key) in state.path_editor.draft.keys().iter().enumerate() {
        let is_selected = state.path_editor.selected == Some(index);
        let radius = if is_selected { 5.0 } else { 3.0 };
        pen.dot(key.camera([1, 1]).position(), radius, PATH);
    }
    pen.pyramid(
        &here,
        0.25 * radius,
        Stroke::new(1.5, visuals.strong_text_color()),
    );
}

fn path(state: &mut State, pen: &LinePainter<'_>) {
    let length = 0.8 * length_of_cameras(state);
    for ends in state.path_editor.line().windows(2) {
        pen.line(ends[0], ends[1], Stroke::new(1.5, PATH));
    }
    let (size, selected) = (state.path_editor.draft.size, state.path_editor.selected);
    for (index, key) in state.path_editor.draft.keys().iter().enumerate() {
        let camera = key.camera(size);
        if is_at_camera(pen.camera, &camera, length) {
            continue;
        }
        let is_selected = selected == Some(index);
        let stroke = Stroke::new(if is_selected { 2.5 } else { 1.0 }, PATH);
        pen.pyramid(&camera, length, stroke);
        let radius = if is_selected { 6.0 } else { 4.0 };
        pen.dot(camera.position(), radius, PATH);
    }
}

/// Return whether the view is at the position of `other`, inside its pyramid, which would cover the screen.
fn is_at_camera(camera: &Camera, other: &Camera, length: f64) -> bool {
    let [here, there] = [camera, other].map(Camera::position);
    (0..3).all(|a| (here[a] - there[a]).abs() < 1e-3 * length)
}

/// Return the position of `camera`, and the corners of its image at distance `length`.
fn frustum(camera: &Camera, length: f64) -> ([f64; 3], [[f64; 3]; 4]) {
    let (w, h) = (camera.width as f32, camera.height as f32);
    let corners = [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]].map(|[x, y]| {
        let (origin, direction) = camera.ray(x, y);
        std::array::from_fn(|a| origin[a] + length * direction[a])
    });
    (camera.position(), corners)
}

/// Return the centre of a face of the crop box.
pub(super) fn middle_of_face(crop: &Aabb, axis: usize, upper: bool) -> [f64; 3] {
    let mut middle = crop.center().to_array();
    middle[axis] = if upper { crop.high } else { crop.low }[axis];
    middle
}

/// Drag a face of `crop` along its axis as the pointer moves by `delta` over the view of `camera` in `rect`.
pub(super) fn pull(
    crop: &mut Aabb,
    axis: usize,
    upper: bool,
    camera: &Camera,
    rect: Rect,
    delta: Vec2,
) {
    let size = crop.high[axis] - crop.low[axis];
    let at = middle_of_face(crop, axis, upper);
    let mut ahead = at;
    // Direction of the axis on the screen at this point.
    let step = 1e-3 * size;
    ahead[axis] += step;
    let ends = [at, ahead].map(|p| project(camera, rect, p));
    let [Some(a), Some(b)] = ends else {
        return;
    };
    let along = (b - a) / step as f32;
    if along.length_sq() < 1e-6 {
        return;
    }
    let by = f64::from(delta.dot(along) / along.length_sq());
    let thinnest = 0.01 * size;
    if upper {
        crop.high[axis] = (crop.high[axis] + by).max(crop.low[axis] + thinnest);
    } else {
        crop.low[axis] = (crop.low[axis] + by).min(crop.high[axis] - thinnest);
    }
}

/// Return the displacement of `at` in world space, parallel to the image plane, as the pointer moves by `delta` over the view
/// of `camera` in `rect`.
pub(super) fn shift(camera: &Camera, rect: Rect, at: [f64; 3], delta: Vec2) -> Option<[f64; 3]> {
    project(camera, rect, at)?;
    let m = camera.world_from_camera;
    let depth: f64 = (0..3).map(|a| m[a][2] * (m[a][3] - at[a])).sum();
    // World units per screen point at the depth of `at`.
    let unit = |side: f32, pixels: u32, focal: f32| {
        depth * f64::from(pixels) / f64::from(focal) / f64::from(side.max(1.0))
    };
    let right = f64::from(delta.x) * unit(rect.width(), camera.width, camera.focal[0]);
    let down = f64::from(delta.y) * unit(rect.height(), camera.height, camera.focal[1]);
    Some(std::array::from_fn(|a| right * m[a][0] - down * m[a][1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECT: Rect = Rect {
        min: Pos2 { x: 50.0, y: 20.0 },
        max: Pos2 { x: 450.0, y: 320.0 },
    };

    fn camera() -> Camera {
        Camera::look_at([3.0, 1.0, 2.0], [0.0; 3], [0.0, 0.0, 1.0], 0.8, 800, 600)
    }

    #[test]
    fn what_is_dragged_stays_under_the_pointer() {
        let at = [0.4, -0.2, 0.3];
        let delta = Vec2::new(33.0, -21.0);
        let by = shift(&camera(), RECT, at, delta).unwrap();
        let moved = std::array::from_fn(|a| at[a] + by[a]);
        let ends = [at, moved].map(|p| project(&camera(), RECT, p).unwrap());
        assert!((ends[1] - ends[0] - delta).length() < 1e-2);
    }

    #[test]
    fn faces_follow_the_pointer_along_their_axis_and_never_pass_each_other() {
        let mut crop = Aabb::new([-1.0; 3], [1.0; 3]).unwrap();
        for axis in 0..3 {
            let at = |crop: &Aabb| project(&camera(), RECT, middle_of_face(crop, axis, true));
            let before = at(&crop).unwrap();
            let mut ahead = middle_of_face(&crop, axis, true);
            ahead[axis] += 0.1;
            let delta = project(&camera(), RECT, ahead).unwrap() - before;
            pull(&mut crop, axis, true, &camera(), RECT, delta);
            assert!((crop.high[axis] - 1.1).abs() < 0.02, "{axis}: {crop:?}");
            pull(&mut crop, axis, true, &camera(), RECT, -1000.0 * delta);
            assert!(crop.high[axis] > crop.low[axis]);
            assert_eq!(crop.low, [-1.0; 3]);
        }
    }

    #[test]
    fn photographs_stand_before_their_cameras() {
        let (eye, corners) = frustum(&camera(), 0.5);
        let rig = camera();
        assert_eq!(eye, rig.position());
        for (corner, [x, y]) in
            corners
                .iter()
                .zip([[0.0, 0.0], [800.0, 0.0], [800.0, 600.0], [0.0, 600.0]])
        {
            let [px, py] = rig.project(*corner).unwrap();
            assert!((px - x).abs() < 1e-2 && (py - y).abs() < 1e-2);
        }
    }
}
