//! Checks of a dataset as a whole: cameras against each other and against the scene box, and images.

use std::collections::HashMap;
use std::path::Path;

use glam::DVec3;
use serde::Serialize;

use super::framing::{CELLS, CameraLayout, point};
use super::problem::and_more;
pub use super::problem::{Problem, Severity};
use super::{Dataset, Frame, Split, inverted};
use crate::aabb::Aabb;
use crate::camera::{Camera, focus};
use crate::text::one_line;
use against_box::{
    RAYS, against_box, against_filled, against_focus, against_rays, against_view, count_ray_hits,
};
pub use images::{DecodedImage, check_images};

/// Camera positions of a dataset relative to the scene box, in world units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CameraPlacement {
    /// The point nearest to all optical axes, if the cameras look at one point.
    pub focus: Option<[f64; 3]>,
    /// Distance of the nearest and the farthest camera from the focus, or from the centre of the box if there is none.
    pub distance: [f64; 2],
    /// Number of cameras inside the box.
    pub inside: usize,
    /// Lowest corner of the cameras' bounding box.
    pub low: [f64; 3],
    /// Highest corner of the cameras' bounding box.
    pub high: [f64; 3],
}

/// Return both corners of a box as text.
#[must_use]
pub fn corners(scene_box: &Aabb) -> String {
    let side = scene_box.side();
    format!(
        "{} to {}",
        point(scene_box.low, side),
        point(scene_box.high, side)
    )
}

/// Fit of a box to the region that the cameras see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BoxFit {
    /// Fraction of an image's rays that hit the box, averaged over the views.
    pub rays_inside: f64,
    /// Ratio of the box's side to the width of the visible region at the focus, if the cameras have a focus.
    pub side_over_view: Option<f64>,
    /// Number of occupancy grid cells across the visible region.
    pub cells_across: Option<f64>,
}

/// Return how `scene_box`, with `cubes` unit cubes per side, fits the region that the cameras of `frames` see.
#[must_use]
pub fn fit(
    frames: &[Frame],
    scene_box: &Aabb,
    cubes: u32,
    near_far: &dyn Fn(&Frame) -> [f32; 2],
) -> BoxFit {
    let shares = frames.iter().map(|f| {
        let (ahead, _) = count_ray_hits(&f.camera, scene_box, near_far(f));
        ahead as f64 / RAYS as f64
    });
    let rays_inside = shares.sum::<f64>() / frames.len().max(1) as f64;
    let cameras: Vec<Camera> = frames.iter().map(|f| f.camera).collect();
    let width = match CameraLayout::of(&cameras) {
        Some(CameraLayout::Around { radius, .. }) => Some(2.0 * radius),
        _ => None,
    };
    let side = scene_box.side();
    BoxFit {
        rays_inside,
        side_over_view: width.map(|width| side / width),
        cells_across: width.map(|width| CELLS * f64::from(cubes) * width / side),
    }
}

/// Return whether any of a camera's rays, within `near_far` world units, hits `scene_box`.
#[must_use]
pub fn sees(camera: &Camera, scene_box: &Aabb, near_far: [f32; 2]) -> bool {
    count_ray_hits(camera, scene_box, near_far).0 > 0
}

/// Return whether the poses of `dataset` look like world-to-camera matrices, the inverse of the expected ones.
#[must_use]
pub fn are_inverted(dataset: &Dataset) -> bool {
    inverted::are_inverted_poses(&dataset.cameras())
}

/// Return the camera positions of `frames` relative to the scene box.
#[must_use]
pub fn camera_placement(frames: &[Frame], scene_box: &Aabb) -> CameraPlacement {
    let cameras: Vec<Camera> = frames.iter().map(|f| f.camera).collect();
    let focus = CameraLayout::of(&cameras).and_then(|layout| layout.focus());
    let middle = focus.map_or(scene_box.center(), DVec3::from);
    let points = || cameras.iter().map(Camera::place);
    let low = points().reduce(DVec3::min).unwrap_or(DVec3::ZERO);
    let high = points().reduce(DVec3::max).unwrap_or(DVec3::ZERO);
    let distances = points().map(|p| p.distance(middle));
    let distance = distances.fold([f64::INFINITY, 0.0_f64], |[a, b], d| [a.min(d), b.max(d)]);
    CameraPlacement {
        focus,
        distance: if cameras.is_empty() {
            [0.0; 2]
        } else {
            distance
        },
        inside: points().filter(|p| scene_box.contains(*p)).count(),
        low: low.to_array(),
        high: high.to_array(),
    }
}

/// Check the cameras of `dataset`, whose scene lies in `scene_box` with `cubes` unit cubes per side. `near_far` returns the
/// start and end of a view's rays, in world units.
#[must_use]
pub fn check(
    dataset: &Dataset,
    scene_box: &Aabb,
    cubes: u32,
    near_far: &dyn Fn(&Frame) -> [f32; 2],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let advice = || {
        let framing = dataset.suggested(cubes)?;
        let (reason, flags) = (framing.reason(), framing.flags(cubes));
        Some(format!("{reason}; try {flags}"))
    };
    let inside_out = || {
        let framing = dataset.suggested_inside_out()?;
        // Give no advice if the box is already the suggested one.
        let side = f64::from(framing.aabb_scale) / framing.scale;
        let apart = scene_box.center().distance(framing.center().into());
        let is_that = (side - scene_box.side()).abs() < 0.01 * side && apart < 0.01 * side;
        (!is_that).then(|| framing.flags(cubes))
    };
    problems.extend(one_point(&dataset.train));
    // Problems of the box's size have one cause: report the worst, and the first of equally bad ones.
    let fit = fit(&dataset.train, scene_box, cubes, near_far);
    let of_place: Vec<Problem> = against_box(&dataset.train, scene_box, near_far, &advice)
        .into_iter()
        .chain(against_focus(
            &dataset.train,
            scene_box,
            &advice,
            &inside_out,
        ))
        .collect();
    let of_size = [
        against_view(&fit, scene_box, &advice),
        against_rays(&fit, scene_box, &advice),
    ];
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    let mut of_size: Vec<Problem> = of_size.into_iter().flatten().collect();
    of_size.sort_by_key(|problem| !is_error(problem));
    of_size.truncate(1);
    let is_worse = of_size.iter().any(is_error) && !of_place.iter().any(is_error);
    problems.extend(if of_place.is_empty() || is_worse {
        of_size
    } else {
        of_place
    });
    if problems.is_empty() && dataset.is_filled() {
        problems.extend(against_filled(dataset, scene_box, &advice));
    }
    problems.extend(far_off(&dataset.train));
    let mut all = duplicates(dataset);
    all.extend(inverted::replace_if_inverted(problems, dataset));
    all
}

/// Check a grid of networks that fills `grid`, a part of the scene box, against the cameras of `dataset`.
#[must_use]
pub fn check_grid(
    dataset: &Dataset,
    grid: &Aabb,
    near_far: &dyn Fn(&Frame) -> [f32; 2],
) -> Option<Problem> {
    let train = &dataset.train;
    let place = format!("the grid of networks, {},", corners(grid));
    let advice = "everything outside it is empty: move it with cells.low and cells.high, fractions of the scene's box";
    let sees_it = |f: &Frame| sees(&f.camera, grid, near_far(f));
    if !train.is_empty() && !train.iter().any(sees_it) {
        let text = format!("no camera sees {place} but {advice}");
        return Some(Problem::new(Severity::Error, text));
    }
    let cameras: Vec<Camera> = train.iter().map(|f| f.camera).collect();
    let missed = focus(&cameras).filter(|focus| !grid.contains(*focus))?;
    let text = format!(
        "cameras look at {}, which {place} misses; {advice}",
        point(missed.to_array(), grid.side())
    );
    Some(Problem::new(Severity::Warning, text))
}

/// Return ": " and the advice, or an empty string.
fn after_colon(advice: &dyn Fn() -> Option<String>) -> String {
    advice().map_or_else(String::new, |advice| format!(": {advice}"))
}

/// Report images and poses that occur twice.
fn duplicates(dataset: &Dataset) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen: HashMap<&Path, (Split, &Frame)> = HashMap::new();
    let (mut twice, mut leaked) = (Vec::new(), Vec::new());
    // If the test split was missing and replaced by the validation split, do not count its views twice.
    let splits: &[Split] = if dataset.test == dataset.val {
        &[Split::Train, Split::Test]
    } else {
        &[Split::Train, Split::Val, Split::Test]
    };
    for &split in splits {
        for view in dataset.frames(split) {
            match seen.get(view.image_path.as_path()) {
                None => {
                    seen.insert(&view.image_path, (split, view));
                }
                Some((first, other)) if *first == split => twice.push((view, *other)),
                Some((Split::Train, other)) => leaked.push((view, *other)),
                Some(_) => {}
            }
        }
    }
    let report = |pairs: &[(&Frame, &Frame)], what: &str| {
        pairs.first().map(|(view, other)| {
            let text = format!(
                "view {} {what} of view {}{}",
                one_line(&view.name),
                one_line(&other.name),
                and_more(pairs.len() - 1)
            );
            Problem::of_view(Severity::Warning, view, text)
        })
    };
    problems.extend(report(&twice, "repeats the image"));
    problems.extend(report(
        &leaked,
        "is held out but trained on too, which makes its metrics too good: it repeats the image",
    ));
    let mut poses: HashMap<[u64; 12], &Frame> = HashMap::new();
    let mut same = Vec::new();
    for view in &dataset.train {
        let mut bits = [0; 12];
        for (bits, value) in bits
            .iter_mut()
            .zip(view.camera.world_from_camera.as_flattened())
        {
            *bits = (value + 0.0).to_bits();
        }
        match poses.get(&bits) {
            Some(other) if other.image_path != view.image_path => same.push((view, *other)),
            Some(_) => {}
            None => {
                poses.insert(bits, view);
            }
        }
    }
    // If all poses are equal, `one_point` reports it.
    if same.len() + 1 < dataset.train.len() {
        problems.extend(report(&same, "has another image but repeats the pose"));
    }
    problems
}

/// Report a single training view, or cameras that are all at one point.
fn one_point(train: &[Frame]) -> Option<Problem> {
    if let [view] = train {
        let text = "is the only training view: without parallax no depth can be learned beyond what --init provides";
        let text = format!("view {} {text}", one_line(&view.name));
        return Some(Problem::of_view(Severity::Warning, view, text));
    }
    let points = || train.iter().map(|f| f.camera.place());
    let (low, high) = (points().reduce(DVec3::min)?, points().reduce(DVec3::max)?);
    // Smaller distances are rounding errors of the coordinates.
    let resolution = 1e-10 * low.abs().max(high.abs()).max_element();
    (low.distance(high) <= resolution).then(|| {
        let size = 0.1 * low.abs().max_element();
        let text = format!(
            "all {} cameras stand at one point, {}: without parallax no depth can be learned; \
             check the last column of the poses",
            train.len(),
            point(low.to_array(), size)
        );
        Problem::new(Severity::Error, text)
    })
}

/// Report a camera that is much farther from the focus than the others.
fn far_off(train: &[Frame]) -> Option<Problem> {
    const TIMES: f64 = 20.0;
    let cameras: Vec<Camera> = train.iter().map(|f| f.camera).collect();
    let focus = focus(&cameras)?;
    let distance = |c: &Camera| c.place().distance(focus);
    let mut sorted: Vec<f64> = cameras.iter().map(distance).collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let is_far = |f: &&Frame| distance(&f.camera) > TIMES * median.max(1e-9);
    let far: Vec<&Frame> = train.iter().filter(is_far).collect();
    let first = far.first()?;
    let text = format!(
        "view {} stands {:.0} times farther than most from what they look at{}: check the pose",
        one_line(&first.name),
        distance(&first.camera) / median.max(1e-9),
        and_more(far.len() - 1)
    );
    Some(Problem::of_view(Severity::Warning, first, text))
}

mod against_box;
mod images;
#[cfg(test)]
mod tests;
