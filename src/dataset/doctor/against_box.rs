//! Checks of the cameras against the scene box.

use super::super::framing::{CameraLayout, is_forward_facing, point, short};
use super::super::{Dataset, Frame};
use super::{BoxFit, Problem, Severity, after_colon, and_more, corners};
use crate::aabb::Aabb;
use crate::camera::{Camera, focus};
use crate::text::one_line;
use glam::DVec3;

/// Cells per side of a lattice over an image.
const SIDE: u8 = 8;

/// Rays through the lattice points.
pub(super) const RAYS: usize = (SIDE as usize + 1) * (SIDE as usize + 1);

/// Return how many rays of a camera, on a lattice over the image, hit the box, and how many would if the camera faced the
/// opposite direction.
pub(super) fn count_ray_hits(
    camera: &Camera,
    scene_box: &Aabb,
    near_far: [f32; 2],
) -> (usize, usize) {
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
pub(super) fn against_box(
    train: &[Frame],
    scene_box: &Aabb,
    near_far: &dyn Fn(&Frame) -> [f32; 2],
    advice: &dyn Fn() -> Option<String>,
) -> Option<Problem> {
    let counts: Vec<(usize, usize)> = train
        .iter()
        .map(|f| count_ray_hits(&f.camera, scene_box, near_far(f)))
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

/// Report cameras that face away from the point that the others look at, and a focus outside the box.
pub(super) fn against_focus(
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
pub(super) fn against_rays(
    fit: &BoxFit,
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

/// Report a box that excludes the surroundings that cameras around an object show.
pub(super) fn against_filled(
    dataset: &Dataset,
    scene_box: &Aabb,
    advice: &dyn Fn() -> Option<String>,
) -> Option<Problem> {
    let cameras: Vec<Camera> = dataset.train.iter().map(|f| f.camera).collect();
    if is_forward_facing(&cameras)
        || !matches!(
            CameraLayout::of(&cameras),
            Some(CameraLayout::Around { .. })
        )
    {
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

/// Report a box that is much smaller than the visible region, or so large that the visible region spans only a few cells.
pub(super) fn against_view(
    fit: &BoxFit,
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

/// Ratio of a box's side to the width of the visible region below which the box excludes much of the region.
const TOO_SMALL: f64 = 0.3;

/// The same ratio, below which nothing can be learned.
const HOPELESS: f64 = 0.02;

/// Fraction of rays that hit the box below which the box excludes most of what the images show.
const TOO_FEW: f64 = 0.3;

/// The same fraction, below which nothing can be learned.
const HARDLY_ANY: f64 = 0.02;

/// Number of cells across the visible region below which the grid is too coarse.
const TOO_COARSE: f64 = 8.0;
