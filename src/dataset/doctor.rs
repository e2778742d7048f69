//! Checks of a dataset as a whole: cameras against each other and against the scene's box, and images.

use std::collections::HashMap;
use std::path::Path;

use glam::DVec3;
use rayon::prelude::*;
use serde::Serialize;

use super::error::DatasetError;
use super::framing::{CELLS, Layout, looks_one_way, point, short};
use super::same_picture::Thumbnail;
use super::{Dataset, Frame, Image, Split, inverted};
use crate::aabb::Aabb;
use crate::camera::{Camera, focus};
use crate::text::{one_line, shown};

/// What a problem means for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training refuses to start or cannot learn anything.
    Error,
    /// Training ignores the affected data, or its result gets worse.
    Warning,
}

/// One problem, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it means for training.
    pub severity: Severity,
    /// The file it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The frame it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// File, frame, cause and remedy.
    pub message: String,
}

impl Problem {
    pub(super) fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            file: None,
            frame: None,
            message,
        }
    }

    /// A problem that training works around.
    #[must_use]
    pub fn warning(message: String) -> Self {
        Self::new(Severity::Warning, message)
    }

    /// The same for one view.
    pub(super) fn warning_of(view: &Frame, message: String) -> Self {
        Self::of_view(Severity::Warning, view, message)
    }

    fn of_view(severity: Severity, view: &Frame, message: String) -> Self {
        Self {
            file: Some(view.image_path.to_string_lossy().into_owned()),
            frame: Some(view.name.clone()),
            ..Self::new(severity, message)
        }
    }
}

impl From<&DatasetError> for Problem {
    fn from(error: &DatasetError) -> Self {
        Self {
            severity: Severity::Error,
            file: error.file().map(|f| f.to_string_lossy().into_owned()),
            frame: error.frame().map(str::to_owned),
            message: error.to_string(),
        }
    }
}

/// Camera positions of a dataset relative to the scene's box, in world units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stand {
    /// The point nearest to all optical axes, if the cameras look at one point.
    pub focus: Option<[f64; 3]>,
    /// Distance of the nearest and the farthest camera from the focus, or from the centre of the box if there is none.
    pub distance: [f64; 2],
    /// Number of cameras inside the box.
    pub inside: usize,
    /// Lowest corner of the cameras' bounding box.
    pub low: [f64; 3],
    /// Highest corner.
    pub high: [f64; 3],
}

/// Both corners of a box as text.
#[must_use]
pub fn corners(scene_box: &Aabb) -> String {
    let side = scene_box.side();
    format!(
        "{} to {}",
        point(scene_box.low, side),
        point(scene_box.high, side)
    )
}

/// How a box fits the region that the cameras see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fit {
    /// Fraction of an image's rays that hit the box, averaged over the views.
    pub rays_inside: f64,
    /// Side of the box over the width of the visible region at the focus, if the cameras have one.
    pub side_over_view: Option<f64>,
    /// Number of occupancy grid cells across that region.
    pub cells_across: Option<f64>,
}

/// How `scene_box`, with `cubes` unit cubes per side, fits the region that the cameras of `frames` see.
#[must_use]
pub fn fit(
    frames: &[Frame],
    scene_box: &Aabb,
    cubes: u32,
    near_far: &dyn Fn(&Frame) -> [f32; 2],
) -> Fit {
    let shares = frames.iter().map(|f| {
        let (ahead, _) = rays_that_meet(&f.camera, scene_box, near_far(f));
        ahead as f64 / RAYS as f64
    });
    let rays_inside = shares.sum::<f64>() / frames.len().max(1) as f64;
    let cameras: Vec<Camera> = frames.iter().map(|f| f.camera).collect();
    let width = match Layout::of(&cameras) {
        Some(Layout::Around { radius, .. }) => Some(2.0 * radius),
        _ => None,
    };
    let side = scene_box.side();
    Fit {
        rays_inside,
        side_over_view: width.map(|width| side / width),
        cells_across: width.map(|width| CELLS * f64::from(cubes) * width / side),
    }
}

/// Whether any of a camera's rays, within `near_far` world units, hits `scene_box`.
#[must_use]
pub fn sees(camera: &Camera, scene_box: &Aabb, near_far: [f32; 2]) -> bool {
    rays_that_meet(camera, scene_box, near_far).0 > 0
}

/// Whether the poses of `dataset` look like world-to-camera matrices, the inverse of what is expected.
#[must_use]
pub fn are_inverted(dataset: &Dataset) -> bool {
    inverted::are(&dataset.cameras())
}

/// Camera positions of `frames` relative to the scene's box.
#[must_use]
pub fn stand(frames: &[Frame], scene_box: &Aabb) -> Stand {
    let cameras: Vec<Camera> = frames.iter().map(|f| f.camera).collect();
    let focus = Layout::of(&cameras).and_then(|layout| layout.focus());
    let middle = focus.map_or(scene_box.center(), DVec3::from);
    let points = || cameras.iter().map(Camera::place);
    let low = points().reduce(DVec3::min).unwrap_or(DVec3::ZERO);
    let high = points().reduce(DVec3::max).unwrap_or(DVec3::ZERO);
    let distances = points().map(|p| p.distance(middle));
    let distance = distances.fold([f64::INFINITY, 0.0_f64], |[a, b], d| [a.min(d), b.max(d)]);
    Stand {
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

/// Check the cameras of `dataset`, whose scene lies in `scene_box` with `cubes` unit cubes per side. `near_far` returns where
/// a view's rays start and end, in world units.
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
        // No advice if the box already is the suggested one.
        let side = f64::from(framing.aabb_scale) / framing.scale;
        let apart = scene_box.center().distance(framing.center().into());
        let is_that = (side - scene_box.side()).abs() < 0.01 * side && apart < 0.01 * side;
        (!is_that).then(|| framing.flags(cubes))
    };
    problems.extend(one_point(&dataset.train));
    // Problems of size have one cause: report the worst, and of equally bad ones the first.
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
    all.extend(inverted::instead_of(problems, dataset));
    all
}

/// Check a grid of networks that fills `grid`, a part of the scene's box, against the cameras of `dataset`.
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

/// ": " and the advice, or an empty string.
fn after_colon(advice: &dyn Fn() -> Option<String>) -> String {
    advice().map_or_else(String::new, |advice| format!(": {advice}"))
}

/// ", and so do 3 others", or an empty string.
pub(super) fn and_more(n: usize) -> String {
    match n {
        0 => String::new(),
        1 => ", and so does another".to_owned(),
        n => format!(", and so do {n} others"),
    }
}

/// Images and poses that occur twice.
fn duplicates(dataset: &Dataset) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen: HashMap<&Path, (Split, &Frame)> = HashMap::new();
    let (mut twice, mut leaked) = (Vec::new(), Vec::new());
    // A missing test split was replaced by the validation split: do not count its views twice.
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

/// Report a single training view, and cameras that all stand at one point.
fn one_point(train: &[Frame]) -> Option<Problem> {
    if let [view] = train {
        let text = "is the only training view: without parallax no depth can be learned beyond what --init provides";
        let text = format!("view {} {text}", one_line(&view.name));
        return Some(Problem::of_view(Severity::Warning, view, text));
    }
    let points = || train.iter().map(|f| f.camera.place());
    let (low, high) = (points().reduce(DVec3::min)?, points().reduce(DVec3::max)?);
    // Distances below this are rounding errors of the coordinates.
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

/// Cells per side of a lattice over an image.
const SIDE: u8 = 8;
/// Rays through the lattice points.
const RAYS: usize = (SIDE as usize + 1) * (SIDE as usize + 1);

/// How many of a camera's rays, on a lattice over the image, hit the box, and how many would if the camera faced the other
/// way.
fn rays_that_meet(camera: &Camera, scene_box: &Aabb, near_far: [f32; 2]) -> (usize, usize) {
    let range = near_far.map(f64::from);
    let (mut ahead, mut behind) = (0, 0);
    for (u, v) in (0..=SIDE).flat_map(|v| (0..=SIDE).map(move |u| (u, v))) {
        let at = |i: u8, side: u32| f32::from(i) / f32::from(SIDE) * side as f32;
        let (origin, direction) = camera.ray(at(u, camera.width), at(v, camera.height));
        let (origin, direction) = (DVec3::from(origin), DVec3::from(direction));
        ahead += usize::from(scene_box.meets(origin, direction, range));
        behind += usize::from(scene_box.meets(origin, -direction, range));
    }
    (ahead, behind)
}

/// Report cameras whose rays do not hit the box.
fn against_box(
    train: &[Frame],
    scene_box: &Aabb,
    near_far: &dyn Fn(&Frame) -> [f32; 2],
    advice: &dyn Fn() -> Option<String>,
) -> Option<Problem> {
    let counts: Vec<(usize, usize)> = train
        .iter()
        .map(|f| rays_that_meet(&f.camera, scene_box, near_far(f)))
        .collect();
    let blind: Vec<&Frame> = train
        .iter()
        .zip(&counts)
        .filter(|(_, (ahead, _))| *ahead == 0)
        .map(|(f, _)| f)
        .collect();
    let first = *blind.first()?;
    let place = format!("the scene's box {}", corners(scene_box));
    if blind.len() < train.len() {
        let text = format!(
            "view {} looks past {place}{}: it shows only background; check the pose, or enlarge the box with a smaller \
             scene.scale",
            one_line(&first.name),
            and_more(blind.len() - 1)
        );
        return Some(if blind.len() * 2 > train.len() {
            let text = format!("{text}{}", after_colon(advice));
            Problem::of_view(Severity::Error, first, text)
        } else {
            Problem::warning_of(first, text)
        });
    }
    let would = counts.iter().filter(|(_, behind)| *behind > 0).count();
    let mut text = if would * 2 > train.len() {
        format!(
            "all cameras look away from {place}, which lies behind them: poses must be OpenGL camera-to-world \
             (x right, y up, looking along -z); those of OpenCV and COLMAP need their second and third columns negated, \
             and world-to-camera matrices need inverting"
        )
    } else {
        format!("no camera sees {place}")
    };
    let cameras: Vec<Camera> = train.iter().map(|f| f.camera).collect();
    let is_box = focus(&cameras).is_some_and(|f| !scene_box.contains(f));
    if let Some(advice) = advice().filter(|_| is_box && would * 2 <= train.len()) {
        text = format!("{text}: {advice}");
    } else if would * 2 <= train.len() {
        text.push_str(
            ": check the poses, the principal point, near and far, and scene.scale and scene.offset",
        );
    }
    Some(Problem::new(Severity::Error, text))
}

/// Report cameras that look away from the point that the others look at, and such a point outside the box.
fn against_focus(
    train: &[Frame],
    scene_box: &Aabb,
    advice: &dyn Fn() -> Option<String>,
    inside_out: &dyn Fn() -> Option<String>,
) -> Vec<Problem> {
    let cameras: Vec<Camera> = train.iter().map(|f| f.camera).collect();
    let Some(focus) = focus(&cameras) else {
        return Vec::new();
    };
    let away: Vec<&Frame> = train
        .iter()
        .filter(|f| f.camera.direction().dot(focus - f.camera.place()) < 0.0)
        .collect();
    let mut problems = Vec::new();
    if let Some(first) = away.first().filter(|_| away.len() * 5 <= train.len()) {
        let text = format!(
            "view {} looks away from what most cameras look at, {}{}: check the pose",
            one_line(&first.name),
            point(focus.to_array(), scene_box.side()),
            and_more(away.len() - 1)
        );
        problems.push(Problem::of_view(Severity::Warning, first, text));
    } else if away.len() * 2 > train.len() {
        let or_try = inside_out().map_or_else(String::new, |flags| {
            format!("; if the cameras stand inside the scene, try {flags}")
        });
        problems.push(Problem::warning(format!(
            "{} of {} cameras look away from the point their axes share: this is right for an inside-out capture; \
             otherwise the poses are not OpenGL camera-to-world (those of OpenCV and COLMAP need their second and third \
             columns negated){or_try}",
            away.len(),
            train.len()
        )));
        return problems;
    }
    if !scene_box.contains(focus)
        && let Some(advice) = advice()
    {
        problems.push(Problem::warning(format!(
            "what the cameras look at lies outside the scene's box: {advice}"
        )));
    }
    problems
}

/// Report a box that few rays hit.
fn against_rays(
    fit: &Fit,
    scene_box: &Aabb,
    advice: &dyn Fn() -> Option<String>,
) -> Option<Problem> {
    let severity = match fit.rays_inside {
        share if share < HARDLY_ANY => Severity::Error,
        share if share < TOO_FEW => Severity::Warning,
        _ => return None,
    };
    let share = short(100.0 * fit.rays_inside);
    let place = format!("the scene's box {}", corners(scene_box));
    let advice = advice().unwrap_or_else(|| "check scene.scale and scene.offset".to_owned());
    let text = format!(
        "{share} % of the images' rays meet {place}, and the others can only learn background: {advice}"
    );
    Some(Problem::new(severity, text))
}

/// Report a box that leaves out the surroundings that the images of cameras around an object show.
fn against_filled(
    dataset: &Dataset,
    scene_box: &Aabb,
    advice: &dyn Fn() -> Option<String>,
) -> Option<Problem> {
    let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
    if looks_one_way(&cameras) || !matches!(Layout::of(&cameras), Some(Layout::Around { .. })) {
        return None;
    }
    let outside = |camera: &&Camera| !scene_box.contains(camera.place());
    let outside = cameras.iter().filter(outside).count();
    (2 * outside > cameras.len()).then(|| {
        let advice = after_colon(advice);
        Problem::warning(format!(
            "the scene fills the images, but {outside} of {} cameras stand outside its box, {} world units a side: the \
             box leaves out what lies behind the object{advice}",
            cameras.len(),
            short(scene_box.side())
        ))
    })
}

/// Report a box that is much smaller than the visible region, or so large that the region spans only a few cells.
fn against_view(
    fit: &Fit,
    scene_box: &Aabb,
    advice: &dyn Fn() -> Option<String>,
) -> Option<Problem> {
    let (size, cells) = (fit.side_over_view?, fit.cells_across?);
    let side = scene_box.side();
    let (severity, what) = if size < TOO_SMALL {
        let severity = if size < HOPELESS {
            Severity::Error
        } else {
            Severity::Warning
        };
        let seen = short(side / size);
        (
            severity,
            format!("lies inside what the cameras see, which is about {seen} wide"),
        )
    } else if cells < TOO_COARSE {
        let severity = if cells < 1.0 {
            Severity::Error
        } else {
            Severity::Warning
        };
        let seen = short(side / size);
        let of = format!(
            "holds what the cameras see, about {seen} wide, in {} cells of its grid",
            short(cells)
        );
        (severity, of)
    } else {
        return None;
    };
    let advice = after_colon(advice);
    let text = format!(
        "the scene's box, {} world units a side, {what}{advice}",
        short(side)
    );
    Some(Problem::new(severity, text))
}

/// Side of a box over the width of the visible region below which much of the region is left out.
const TOO_SMALL: f64 = 0.3;
/// The same ratio below which nothing can be learned.
const HOPELESS: f64 = 0.02;
/// Fraction of rays that hit the box below which most of what the images show is left out.
const TOO_FEW: f64 = 0.3;
/// The same fraction below which nothing can be learned.
const HARDLY_ANY: f64 = 0.02;
/// Number of cells across the visible region below which the grid is too coarse.
const TOO_COARSE: f64 = 8.0;

/// Properties of a decoded image.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<'a> {
    /// Its view.
    pub frame: &'a Frame,
    /// Whether it has transparent pixels.
    pub has_alpha: bool,
    /// A thumbnail for comparisons.
    pub thumbnail: Thumbnail,
}

/// Decodes the images of `frames` on all cores without keeping them, and reports those that cannot be used or are blank.
/// `progress` is called once per image, from any thread.
#[must_use]
pub fn check_images<'a>(
    frames: &[&'a Frame],
    progress: &(dyn Fn() + Sync),
) -> (Vec<Seen<'a>>, Vec<Problem>) {
    let outcomes: Vec<(Option<Seen>, Option<Problem>)> = frames
        .par_iter()
        .map(|frame| {
            let outcome = frame.load();
            progress();
            match outcome {
                Ok(image) => {
                    let seen = Seen {
                        frame,
                        has_alpha: image.has_alpha,
                        thumbnail: Thumbnail::of(&image),
                    };
                    (Some(seen), blank(frame, &image))
                }
                Err(error) => (
                    None,
                    Some(Problem {
                        frame: Some(frame.name.clone()),
                        ..Problem::from(&error)
                    }),
                ),
            }
        })
        .collect();
    let (seen, problems): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    (
        seen.into_iter().flatten().collect(),
        problems.into_iter().flatten().collect(),
    )
}

/// Report an image of one colour.
fn blank(frame: &Frame, image: &Image) -> Option<Problem> {
    let mut pixels = image.pixels.chunks_exact(4);
    let first = pixels.next()?;
    let is_blank = if first[3] == 0 {
        pixels.all(|p| p[3] == 0)
    } else {
        pixels.all(|p| p == first)
    };
    (is_blank && image.width * image.height > 1).then(|| {
        let what = if first[3] == 0 {
            "wholly transparent".to_owned()
        } else {
            format!(
                "of one colour, #{:02x}{:02x}{:02x}",
                first[0], first[1], first[2]
            )
        };
        let text = format!(
            "{}: the image is {what}: remove its frame if there is nothing to see",
            shown(&frame.image_path)
        );
        Problem::of_view(Severity::Warning, frame, text)
    })
}

/// Report a camera that stands much farther from the focus than the others.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Format;

    const BOX: Aabb = Aabb {
        low: [-1.5; 3],
        high: [1.5; 3],
    };

    fn view(i: u16, eye: [f32; 3], target: [f32; 3]) -> Frame {
        Frame {
            name: format!("v{i}"),
            image_path: format!("v{i}.png").into(),
            orientation: super::super::Orientation::NoTransforms,
            camera: Camera::look_at(eye, target, [0.0, 0.0, 1.0], 0.7, 8, 8),
            near_far: None,
        }
    }

    /// Ten views around `at`, modified by `change`.
    fn around(at: [f32; 3], change: impl FnOnce(&mut Vec<Frame>)) -> Dataset {
        let place = |i: u16| {
            let angle = f32::from(i) / 10.0 * std::f32::consts::TAU;
            let eye = [
                at[0] + 4.0 * angle.cos(),
                at[1] + 4.0 * angle.sin(),
                at[2] + 1.0,
            ];
            view(i, eye, at)
        };
        let mut train: Vec<Frame> = (0..10).map(place).collect();
        change(&mut train);
        Dataset {
            name: "d".to_owned(),
            train,
            test: vec![view(99, [4.0, 4.0, 1.0], at)],
            ..Dataset::new(std::path::Path::new("."), Format::Transforms)
        }
    }

    /// Assert that exactly one problem is found, with this severity and these words.
    #[track_caller]
    fn finds(dataset: &Dataset, severity: Severity, words: &[&str]) {
        let problems = check(dataset, &BOX, 1, &|_| [0.0, 1e10]);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(problems[0].severity, severity, "{problems:#?}");
        for word in words {
            assert!(problems[0].message.contains(word), "{word}: {problems:#?}");
        }
    }

    fn turn_round(view: &mut Frame) {
        for row in &mut view.camera.world_from_camera {
            row[0] = -row[0];
            row[2] = -row[2];
        }
    }

    #[test]
    fn a_good_set_has_no_problems_and_a_focus() {
        let dataset = around([0.0; 3], |_| {});
        assert_eq!(check(&dataset, &BOX, 1, &|_| [2.0, 6.0]), []);
        let stand = stand(&dataset.train, &BOX);
        let focus = stand.focus.unwrap();
        assert!(focus.iter().all(|v| v.abs() < 1e-5), "{focus:?}");
        let distance = 17.0_f64.sqrt();
        assert!(stand.distance.iter().all(|d| (d - distance).abs() < 1e-5));
        assert_eq!(stand.inside, 0);
    }

    #[test]
    fn cameras_that_look_at_no_one_point_have_no_focus() {
        let inside_out = around([0.0; 3], |views| views.iter_mut().for_each(turn_round));
        assert_eq!(stand(&inside_out.train, &BOX).focus, None);
        // From the poses alone, they may follow another convention or be right.
        let told = [
            "negated",
            "if the cameras stand inside the scene",
            "scene.aabb_scale=16",
        ];
        let problems = check(&inside_out, &BOX, 1, &|_| [0.0, 1e10]);
        let all = problems.iter().map(|p| p.message.as_str());
        let all = all.collect::<Vec<_>>().join("\n");
        assert!(told.iter().all(|word| all.contains(word)), "{all}");
        // No advice if the box is already the suggested one; a box of that size elsewhere is not.
        let framing = inside_out.suggested_inside_out().unwrap();
        let half = DVec3::splat(0.5 * f64::from(framing.aabb_scale) / framing.scale);
        let advises = |center: DVec3| {
            let [low, high] = [center - half, center + half].map(|p| p.to_array());
            let problems = check(&inside_out, &Aabb { low, high }, 16, &|_| [0.0, 1e10]);
            let mut all = problems.iter();
            all.any(|p| p.message.contains("if the cameras stand inside the scene"))
        };
        let center = DVec3::from(framing.center());
        assert!(!advises(center) && advises(center + half));
        let most = around([0.0; 3], |views| {
            views
                .iter_mut()
                .skip(3)
                .for_each(|view| view.camera.principal[0] = -1e4);
        });
        finds(
            &most,
            Severity::Error,
            &["looks past", "and so do 6 others", "try --set"],
        );
        let mut alone = around([0.0; 3], |_| {});
        alone.train.truncate(1);
        finds(
            &alone,
            Severity::Warning,
            &["v0", "only training view", "parallax"],
        );
    }

    #[test]
    fn cameras_against_each_other() {
        let dataset = around([0.0; 3], |views| views[3].image_path = "v2.png".into());
        finds(
            &dataset,
            Severity::Warning,
            &["v3", "repeats the image of view v2"],
        );
        let dataset = around([0.0; 3], |views| views[3].image_path = "v99.png".into());
        finds(
            &dataset,
            Severity::Warning,
            &["v99", "held out", "of view v3"],
        );
        let dataset = around([0.0; 3], |views| views[3].camera = views[2].camera);
        finds(
            &dataset,
            Severity::Warning,
            &["v3", "repeats the pose of view v2"],
        );
        let dataset = around([0.0; 3], |views| {
            let camera = views[0].camera;
            for view in views {
                view.camera = camera;
            }
        });
        finds(&dataset, Severity::Error, &["all 10 cameras", "parallax"]);
        let dataset = around([0.0; 3], |views| turn_round(&mut views[4]));
        let problems = check(&dataset, &BOX, 1, &|_| [0.0, 1e10]);
        assert!(problems.iter().all(|p| p.severity == Severity::Warning));
        assert!(
            problems
                .iter()
                .any(|p| p.message.contains("v4") && p.message.contains("past"))
        );
        assert!(
            problems
                .iter()
                .any(|p| p.message.contains("v4") && p.message.contains("away"))
        );
    }

    #[test]
    fn cameras_against_the_box() {
        let far_off = around([40.0, 0.0, 0.0], |_| {});
        let problems = check(&far_off, &BOX, 1, &|_| [0.0, 1e10]);
        let outside = |p: &Problem| {
            p.message.contains("lies outside") && p.message.contains("scene.offset=[-12.")
        };
        assert!(problems.iter().any(outside), "{problems:#?}");
        let all_round = around([0.0; 3], |views| views.iter_mut().for_each(turn_round));
        let problems = check(&all_round, &BOX, 1, &|_| [0.0, 1e10]);
        assert_eq!(problems[0].severity, Severity::Error);
        assert!(problems[0].message.contains("OpenCV"), "{problems:#?}");
        // Rays that end before the box.
        let short = check(&around([0.0; 3], |_| {}), &BOX, 1, &|_| [0.0, 1.0]);
        assert_eq!(short[0].severity, Severity::Error);
        assert!(short[0].message.contains("no camera sees"), "{short:#?}");
    }

    #[test]
    fn one_camera_gone_astray_does_not_move_the_focus() {
        let dataset = around([0.0; 3], |views| {
            views[5].camera.world_from_camera[0][3] = 1e3;
        });
        let problems = check(&dataset, &BOX, 1, &|_| [0.0, 1e10]);
        let told = |words: &[&str]| {
            let is_it = |p: &Problem| words.iter().all(|w| p.message.contains(w));
            problems.iter().any(is_it)
        };
        assert!(told(&["v5", "times farther"]), "{problems:#?}");
        assert!(!told(&["scene.scale="]), "{problems:#?}");
    }

    #[test]
    fn inverted_poses_are_told_in_place_of_what_follows_from_them() {
        let invert = |views: &mut Vec<Frame>| {
            for view in views {
                let rows = view.camera.world_from_camera;
                let place = |i: usize| -(0..3).map(|r| rows[r][i] * rows[r][3]).sum::<f64>();
                view.camera.world_from_camera =
                    std::array::from_fn(|i| [rows[0][i], rows[1][i], rows[2][i], place(i)]);
            }
        };
        // Orbits around the origin invert to cameras at one point.
        let dataset = around([0.0; 3], invert);
        finds(
            &dataset,
            Severity::Error,
            &[
                "world-to-camera",
                "numpy.linalg.inv",
                "(0.00, 0.00, 0.00)",
                "4.12 away",
            ],
        );
        let dataset = around([3.0, 1.0, 0.0], invert);
        let problems = check(&dataset, &BOX, 1, &|_| [0.0, 1e10]);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(
            problems[0].message.contains("(3.00, 1.00, 0.00)"),
            "{problems:#?}"
        );
    }

    #[test]
    fn rays_parallel_to_a_side_meet_the_box_or_not() {
        let along = |y: f64| BOX.meets(DVec3::new(-5.0, y, 0.0), DVec3::X, [0.0, 100.0]);
        assert!(along(0.0) && along(1.49) && !along(1.51));
        assert!(!BOX.meets(DVec3::new(5.0, 0.0, 0.0), DVec3::X, [0.0, 100.0]));
        assert!(BOX.meets(DVec3::ZERO, DVec3::X, [0.0, 0.1]));
    }
}
