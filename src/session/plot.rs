//! Draws a dataset's cameras and the scene box, from above and from the side.

use std::path::Path;

use glam::{DVec2, DVec3};
use tiny_skia::Rect;

use super::drawing::{Drawing, INK};
use super::{Error, Result};
use crate::aabb::Aabb;
use crate::camera::{Camera, upwards};
use crate::dataset::{Dataset, SparsePoints, Split};
use crate::report::tick_step;

/// Sizes in pixels: the side of each of the two views, the margin around them, and the height of the legend.
const SIDE: f32 = 640.0;
const MARGIN: f32 = 56.0;
const LEGEND: f32 = 40.0;

/// Maximum number of sparse points that are drawn.
const MAX_POINTS: usize = 20_000;

const GRID: [u8; 3] = [226, 226, 222];
const BOX: [u8; 3] = [120, 94, 240];
const FOCUS: [u8; 3] = [220, 38, 127];

/// Return the colour of a split; the colours are distinguishable with colour blindness (after IBM's palette).
fn color_of(split: Split) -> [u8; 3] {
    match split {
        Split::Train => [44, 100, 210],
        Split::Val => [130, 160, 60],
        Split::Test => [240, 110, 20],
    }
}

/// An orthographic projection of the world along an axis into a square of the canvas.
struct Projection {
    /// Unit vectors that point right and up.
    axes: [DVec3; 2],
    center: DVec2,
    /// Pixels per world unit.
    scale: f64,
    left: f32,
    top: f32,
}

impl Projection {
    fn flat(&self, p: DVec3) -> DVec2 {
        DVec2::from(self.axes.map(|axis| axis.dot(p)))
    }

    fn place(&self, p: DVec3) -> (f32, f32) {
        let at = (self.flat(p) - self.center) * self.scale;
        (
            self.left + SIDE / 2.0 + at.x as f32,
            self.top + SIDE / 2.0 - at.y as f32,
        )
    }
}

/// Return unit vectors to the right, into the depth and upwards: along the world's axes if the cameras are upright in it.
fn basis(up: DVec3) -> [DVec3; 3] {
    let main = up.abs().max_position();
    let next = DVec3::AXES[(main + 1) % 3];
    let across = (next - up * up.dot(next)).normalize_or(next);
    [across, up.cross(across), up]
}

/// Return the number of the world axis that the unit vector is, and its sign; `None` between the axes.
fn world_axis(v: DVec3) -> Option<(usize, f64)> {
    let axis = v.abs().max_position();
    (v.abs() == DVec3::AXES[axis]).then(|| (axis, v[axis]))
}

const NAMES: [&str; 3] = ["x", "y", "z"];

/// Return the name of the upwards axis.
fn name_of_up(up: DVec3) -> String {
    match world_axis(up) {
        Some((axis, sign)) => format!("{}{} up", if sign < 0.0 { "-" } else { "" }, NAMES[axis]),
        None => format!("up is {:.2}, {:.2}, {:.2}", up.x, up.y, up.z),
    }
}

/// Draw the cameras of `dataset`, the scene box `world` and the cameras' common `focus` (in world units) to a PNG file at
/// `path`.
///
/// # Errors
/// [`Error::Failed`] if the file cannot be written or there is not enough memory.
pub fn plot_cameras(
    path: &Path,
    dataset: &Dataset,
    world: &Aabb,
    focus: Option<[f64; 3]>,
) -> Result<()> {
    draw(dataset, world, focus)
        .ok_or_else(|| Error::failed(format!("cannot draw {}: not enough memory", path.display())))?
        .save(path)
}

fn draw(dataset: &Dataset, world: &Aabb, focus: Option<[f64; 3]>) -> Option<Drawing> {
    let views: Vec<(Split, &Camera)> = [Split::Val, Split::Test, Split::Train]
        .into_iter()
        .flat_map(|split| {
            dataset
                .frames(split)
                .iter()
                .map(move |f| (split, &f.camera))
        })
        .collect();
    let cameras: Vec<Camera> = views.iter().map(|(_, c)| **c).collect();
    let basis = basis(upwards(&cameras));
    let [across, depth, up] = basis;
    let turned = |p: DVec3| DVec3::from(basis.map(|axis| axis.dot(p)));
    let extent = |points: &mut dyn Iterator<Item = DVec3>| {
        let points = points.map(turned);
        points.fold((DVec3::MAX, DVec3::MIN), |(a, b), p| (a.min(p), b.max(p)))
    };
    let (mut low, mut high) = extent(&mut corners(world).into_iter());
    // If the box is far larger than the cameras' extent, fit the drawing to the cameras and clip the box.
    let spread = cameras.iter().map(Camera::place);
    let (a, b) = extent(&mut spread.chain(focus.map(DVec3::from)));
    let cameras_size = (b - a).max_element().max(1e-6);
    if (high - low).max_element() > 6.0 * cameras_size {
        (low, high) = (a - cameras_size / 2.0, b + cameras_size / 2.0);
    } else {
        (low, high) = (low.min(a), high.max(b));
    }
    let size = (high - low).max_element() * 1.12;
    let width = 2.0 * SIDE + 3.0 * MARGIN;
    let height = SIDE + 2.0 * MARGIN + LEGEND;
    let mut canvas = Drawing::new(width as u32, height as u32)?;
    let middle = (low + high) / 2.0;
    let from_above = format!("from above ({})", name_of_up(up));
    for (index, (axes, center, title)) in [
        ([across, depth], DVec2::new(middle.x, middle.y), from_above),
        (
            [across, up],
            DVec2::new(middle.x, middle.z),
            "from the side".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let view = Projection {
            axes,
            center,
            scale: f64::from(SIDE) / size,
            left: MARGIN + index as f32 * (SIDE + MARGIN),
            top: MARGIN,
        };
        panel(&mut canvas, &view, &title, size);
        draw_points(&mut canvas, &view, &dataset.points);
        box_of(&mut canvas, &view, world);
        for (split, camera) in &views {
            frustum(&mut canvas, &view, camera, color_of(*split), size);
        }
        if let Some(focus) = focus {
            let (x, y) = view.place(DVec3::from(focus));
            canvas.line(&[(x - 7.0, y), (x + 7.0, y)], FOCUS, 2.0);
            canvas.line(&[(x, y - 7.0), (x, y + 7.0)], FOCUS, 2.0);
        }
    }
    let mut pen = MARGIN;
    let y = height - LEGEND;
    for split in [Split::Train, Split::Val, Split::Test] {
        let n = dataset.frames(split).len();
        if n > 0 {
            canvas.dot((pen + 5.0, y - 5.0), 5.0, color_of(split));
            pen += 18.0 + canvas.text(&format!("{n} {split}"), (pen + 16.0, y), INK) + 20.0;
        }
    }
    let n_points = dataset.points.positions.len();
    if n_points > 0 {
        canvas.dot((pen + 5.0, y - 5.0), 1.5, INK);
        let text = format!("{n_points} sparse points");
        pen += 14.0 + canvas.text(&text, (pen + 12.0, y), INK) + 20.0;
    }
    canvas.line(&[(pen, y - 5.0), (pen + 14.0, y - 5.0)], BOX, 2.0);
    pen += 20.0 + canvas.text("scene box", (pen + 20.0, y), INK) + 20.0;
    if focus.is_some() {
        canvas.line(&[(pen, y - 5.0), (pen + 12.0, y - 5.0)], FOCUS, 2.0);
        canvas.line(&[(pen + 6.0, y - 11.0), (pen + 6.0, y + 1.0)], FOCUS, 2.0);
        canvas.text("common focus", (pen + 20.0, y), INK);
    }
    Some(canvas)
}

/// Draw grid lines with world coordinates, axis names and a title.
fn panel(canvas: &mut Drawing, view: &Projection, title: &str, size: f64) {
    let (left, top) = (view.left, view.top);
    canvas.text(title, (left, top - 14.0), INK);
    let step = tick_step(size, 6.0);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    for axis in 0..2 {
        let center = view.center[axis];
        let first = ((center - size / 2.0) / step).ceil() as i64;
        let last = ((center + size / 2.0) / step).floor() as i64;
        for value in (first..=last).map(|i| i as f64 * step) {
            let offset = ((value - center) * view.scale) as f32;
            // Label flipped axes with the world coordinate.
            let shown = value * world_axis(view.axes[axis]).map_or(1.0, |(_, sign)| sign);
            let shown = if shown == 0.0 { 0.0 } else { shown };
            let label = format!("{shown:.decimals$}");
            if axis == 0 {
                let x = left + SIDE / 2.0 + offset;
                canvas.line(&[(x, top), (x, top + SIDE)], GRID, 1.0);
                canvas.text(
                    &label,
                    (x - 4.0 * label.len() as f32, top + SIDE + 18.0),
                    INK,
                );
            } else {
                let y = top + SIDE / 2.0 - offset;
                canvas.line(&[(left, y), (left + SIDE, y)], GRID, 1.0);
                canvas.text(
                    &label,
                    (left - 10.0 - 8.0 * label.len() as f32, y + 5.0),
                    INK,
                );
            }
        }
    }
    let places = [
        (left + SIDE - 10.0, top + SIDE - 8.0),
        (left + 8.0, top + 16.0),
    ];
    for (axis, place) in view.axes.into_iter().zip(places) {
        if let Some((axis, _)) = world_axis(axis) {
            canvas.text(NAMES[axis], place, INK);
        }
    }
    if let Some(frame) = Rect::from_xywh(left, top, SIDE, SIDE) {
        let (l, t, r, b) = (frame.left(), frame.top(), frame.right(), frame.bottom());
        canvas.line(&[(l, t), (r, t), (r, b), (l, b), (l, t)], INK, 1.0);
    }
}

/// Draw sparse points in their colours, an even part of them if there are many.
fn draw_points(canvas: &mut Drawing, view: &Projection, points: &SparsePoints) {
    let step = points.positions.len().div_ceil(MAX_POINTS).max(1);
    let all = points.positions.iter().zip(&points.colors).step_by(step);
    let (left, top) = (view.left, view.top);
    for (position, color) in all {
        let (x, y) = view.place(DVec3::from(*position));
        if (left..left + SIDE).contains(&x) && (top..top + SIDE).contains(&y) {
            canvas.dot((x, y), 0.9, *color);
        }
    }
}

/// Return the corners of a box; bit `i` of the index says which side of axis `i` a corner is on.
fn corners(of: &Aabb) -> [DVec3; 8] {
    let (low, high) = (DVec3::from(of.low), DVec3::from(of.high));
    std::array::from_fn(|corner| {
        let side = |axis: usize| {
            if corner >> axis & 1 == 1 {
                high[axis]
            } else {
                low[axis]
            }
        };
        DVec3::new(side(0), side(1), side(2))
    })
}

/// Draw the edges of the scene box, as far as they lie in the square.
fn box_of(canvas: &mut Drawing, view: &Projection, world: &Aabb) {
    let corners = corners(world).map(|corner| view.place(corner));
    for (i, from) in corners.into_iter().enumerate() {
        for axis in 0..3 {
            let j = i | 1 << axis;
            if j != i
                && let Some(edge) = clipped(view, from, corners[j])
            {
                canvas.line(&edge, BOX, 2.0);
            }
        }
    }
}

/// Return the part of a line that lies in the square (Liang and Barsky 1984).
fn clipped(view: &Projection, from: (f32, f32), to: (f32, f32)) -> Option<[(f32, f32); 2]> {
    let (mut start, mut end) = (0.0_f32, 1.0_f32);
    for (at, along, low) in [
        (from.0, to.0 - from.0, view.left),
        (from.1, to.1 - from.1, view.top),
    ] {
        if along == 0.0 {
            if !(low..=low + SIDE).contains(&at) {
                return None;
            }
            continue;
        }
        let (a, b) = ((low - at) / along, (low + SIDE - at) / along);
        (start, end) = (start.max(a.min(b)), end.min(a.max(b)));
    }
    let at = |t: f32| (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
    (start < end).then(|| [at(start), at(end)])
}

/// Draw a camera as the pyramid spanned by the rays of its corners.
fn frustum(canvas: &mut Drawing, view: &Projection, camera: &Camera, color: [u8; 3], size: f64) {
    let (w, h) = (camera.width as f32, camera.height as f32);
    let corners = [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]].map(|[x, y]| {
        let (origin, direction) = camera.ray(x, y);
        view.place(DVec3::from(origin) + DVec3::from(direction) * 0.05 * size)
    });
    let eye = view.place(camera.place());
    for corner in corners {
        canvas.line(&[eye, corner], color, 1.0);
    }
    let [a, b, c, d] = corners;
    canvas.line(&[a, b, c, d, a], color, 1.0);
    canvas.dot(eye, 2.5, color);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_is_drawn_upright() {
        for (up, across, depth) in [
            (DVec3::Z, DVec3::X, DVec3::Y),
            (-DVec3::Z, DVec3::X, -DVec3::Y),
            (DVec3::Y, DVec3::Z, DVec3::X),
            (-DVec3::Y, DVec3::Z, -DVec3::X),
        ] {
            assert_eq!(basis(up), [across, depth, up]);
        }
        let up = DVec3::new(0.2, -0.9, 0.4).normalize();
        let [across, depth, same] = basis(up);
        assert_eq!(same, up);
        for (a, b) in [(across, depth), (depth, up), (up, across)] {
            assert!(a.dot(b).abs() < 1e-12 && (a.length() - 1.0).abs() < 1e-12);
        }
        assert_eq!(name_of_up(-DVec3::Y), "-y up");
        assert_eq!(name_of_up(up), "up is 0.20, -0.90, 0.40");
    }

    #[test]
    fn lines_end_at_the_edge_of_the_square() {
        let view = Projection {
            axes: [DVec3::X, DVec3::Y],
            center: DVec2::ZERO,
            scale: 1.0,
            left: 10.0,
            top: 20.0,
        };
        let (middle, right) = (20.0 + SIDE / 2.0, 10.0 + SIDE);
        let whole = clipped(&view, (-100.0, middle), (1000.0, middle));
        assert_eq!(whole, Some([(10.0, middle), (right, middle)]));
        assert_eq!(
            clipped(&view, (15.0, 25.0), (30.0, 40.0)),
            Some([(15.0, 25.0), (30.0, 40.0)])
        );
        assert_eq!(clipped(&view, (0.0, 0.0), (0.0, 1000.0)), None);
        assert_eq!(clipped(&view, (-10.0, 25.0), (15.0, 0.0)), None);
    }
}
