//! Parses the key frames of `docs/camera-path.md` and interpolates between them.

use glam::DVec3;

use super::draft::{Draft, KeyFrame};
use super::json::{Fields, Place};
use super::pose::Pose;
use super::spline::{Knots, hermite, rotation, turn};
use super::{CameraPathError, Model, View};
use super::{extent_of_angle, fps, list, size};
use crate::aabb::Aabb;

/// Minimum time between two key frames in seconds.
const LEAST_GAP: f64 = 1e-6;

/// Views at certain times, and the slopes of the curves through them.
#[derive(Clone, Debug)]
pub(super) struct KeyFrames {
    knots: Knots,
    looped: bool,
    views: Vec<View>,
    /// Velocities in world units per second.
    velocities: Vec<DVec3>,
    /// Angular velocities in radians per second around the camera's axes.
    spins: Vec<DVec3>,
    /// Slopes of the extent's logarithm per second.
    zooms: Vec<f64>,
    /// Curves of target and up direction, if every key frame gives them.
    looks: Option<[Curve; 2]>,
}

/// Points at the key frames, and the slopes of the curve through them.
#[derive(Clone, Debug)]
struct Curve {
    points: Vec<DVec3>,
    slopes: Vec<DVec3>,
}

impl Curve {
    fn new(knots: &Knots, points: Vec<DVec3>) -> Self {
        let next = points.iter().cycle().skip(1);
        let moves: Vec<DVec3> = points.iter().zip(next).map(|(a, b)| *b - *a).collect();
        Self {
            slopes: knots.slopes(&moves),
            points,
        }
    }

    fn at(&self, ends: [usize; 2], t: f64, length: f64) -> DVec3 {
        let slopes = ends.map(|i| self.slopes[i] * length);
        hermite(ends.map(|i| self.points[i]), slopes, t)
    }
}

/// Target and up direction of a key frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub target: DVec3,
    pub up: DVec3,
}

/// The change `of` each pair of consecutive views.
fn changes<V>(pairs: &[[View; 2]], of: impl Fn(&View, &View) -> V) -> Vec<V> {
    pairs.iter().map(|[a, b]| of(a, b)).collect()
}

impl KeyFrames {
    /// `times` increase; `period`, the duration of a loop, is longer than the time from the first to the last. If all `looks`
    /// are given, the camera keeps looking at a point that moves from target to target.
    pub fn new(
        times: Vec<f64>,
        views: Vec<View>,
        looks: &[Option<Look>],
        period: Option<f64>,
    ) -> Self {
        Self::through(Knots::new(times, period), views, looks)
    }

    /// The same key frames with every pose transformed by `map`; targets are dropped.
    pub fn mapped(&self, map: impl Fn(Pose) -> Pose) -> Self {
        let map = |view: &View| View {
            pose: map(view.pose),
            ..*view
        };
        let views = self.views.iter().map(map).collect();
        Self::through(self.knots.clone(), views, &[])
    }

    fn through(knots: Knots, views: Vec<View>, looks: &[Option<Look>]) -> Self {
        let looks: Option<Vec<Look>> = looks.iter().copied().collect();
        let looks = looks
            .filter(|looks| looks.len() == views.len())
            .map(|looks| {
                let curve =
                    |of: fn(&Look) -> DVec3| Curve::new(&knots, looks.iter().map(of).collect());
                [curve(|l| l.target), curve(|l| l.up.normalize_or(DVec3::Z))]
            });
        let pairs: Vec<[View; 2]> = views
            .iter()
            .zip(views.iter().cycle().skip(1))
            .map(|(&a, &b)| [a, b])
            .collect();
        let moves = changes(&pairs, |a, b| b.pose.position - a.pose.position);
        let turns = changes(&pairs, |a, b| turn(a.pose.rotation, b.pose.rotation));
        let scales = changes(&pairs, |a, b| (b.extent / a.extent).ln());
        Self {
            velocities: knots.slopes(&moves),
            spins: knots.slopes(&turns),
            zooms: knots.monotone_slopes(&scales),
            looped: knots.is_loop(),
            looks,
            knots,
            views,
        }
    }

    /// The view `time` seconds after the first key frame.
    pub fn at(&self, time: f64) -> View {
        let Some((segment, t, length)) = self.knots.find(time) else {
            return self.views[0];
        };
        let ends = self.knots.ends(segment);
        let [a, b] = ends.map(|i| self.views[i]);
        // Return the key frames themselves exactly, without rounding errors.
        if t <= 0.0 || t >= 1.0 {
            return if t <= 0.0 { a } else { b };
        }
        let velocities = ends.map(|i| self.velocities[i] * length);
        let spins = ends.map(|i| self.spins[i] * length);
        let zooms = ends.map(|i| self.zooms[i] * length);
        let position = hermite([a.pose.position, b.pose.position], velocities, t);
        let looking = self.looks.as_ref().and_then(|curves| {
            let [target, up] = curves.each_ref().map(|c| c.at(ends, t, length));
            Pose::look_at(position, target, up).ok()
        });
        View {
            pose: looking.unwrap_or_else(|| Pose {
                position,
                rotation: rotation([a.pose.rotation, b.pose.rotation], spins, t),
            }),
            extent: hermite([a.extent.ln(), b.extent.ln()], zooms, t).exp(),
        }
    }

    /// Number of frames at `fps` frames per second: up to and including the last key frame, or for the whole loop without
    /// repeating its first frame.
    pub fn frames(&self, fps: f64) -> f64 {
        let frames = self.knots.duration() * fps;
        if self.looped {
            (frames - 1e-6).ceil().max(1.0)
        } else {
            (frames + 1e-6).floor() + 1.0
        }
    }
}

/// Parse an object with `key_frames`: its camera model and key frames.
pub(super) fn parse(whole: &Fields) -> Result<(Model, Draft), CameraPathError> {
    whole.only(&[
        "camera",
        "width",
        "height",
        "fps",
        "loop",
        "seconds",
        "fov",
        "size",
        "crop",
        "key_frames",
    ])?;
    let model = match whole.text("camera")?.unwrap_or("perspective") {
        "perspective" => Model::Perspective,
        "orthographic" => Model::Orthographic,
        "equirectangular" => Model::Equirectangular,
        other => {
            let start: String = other.chars().take(40).collect();
            return Err(whole.error(format!(
                "`camera` is {start:?}: give perspective, orthographic or equirectangular"
            )));
        }
    };
    let shared = extent(whole, model)?;
    let mut keys: Vec<KeyFrame> = Vec::new();
    for (index, value) in list(whole, "key_frames", "key frame")?.iter().enumerate() {
        let key = Fields::of(whole.path, Place::KeyFrame(index), value)?;
        key.only(&[
            "time",
            "transform_matrix",
            "eye",
            "target",
            "up",
            "fov",
            "size",
        ])?;
        let time = key.required("time", "seconds")?;
        if let Some(before) = keys.last().map(|k| k.time)
            && time < before + LEAST_GAP
        {
            return Err(key.error(format!(
                "its time, {time} s, is not later than that of the key frame before, {before} s: times must increase"
            )));
        }
        let (pose, look) = pose(&key)?;
        let extent = extent(&key, model)?.or(shared).ok_or_else(|| match model {
            Model::Orthographic => key.error(
                "`size` (what the image's height spans, in world units) is missing, \
                     here and for the whole file",
            ),
            _ => key.error(
                "`fov` (vertical field of view, in degrees) is missing, \
                     here and for the whole file",
            ),
        })?;
        let view = View { pose, extent };
        keys.push(KeyFrame { time, view, look });
    }
    let draft = Draft {
        size: size(whole, ["width", "height"])?,
        fps: fps(whole)?,
        looped: whole.flag("loop")?,
        seconds: seconds(whole, &keys)?,
        crop: crop(whole)?,
        keys,
    };
    Ok((model, draft))
}

/// The visible part of the scene, given by two corners.
fn crop(whole: &Fields) -> Result<Option<Aabb>, CameraPathError> {
    let Some(corners) = whole.corners("crop")? else {
        return Ok(None);
    };
    let crop = Aabb::new(corners[0], corners[1]);
    crop.map(Some)
        .map_err(|e| whole.error(format!("`crop`: {e}")))
}

/// The extent of the image's height from `fov` or `size`, if given.
fn extent(fields: &Fields, model: Model) -> Result<Option<f64>, CameraPathError> {
    let refuse = |key: &str, way: &str| {
        if fields.has(key) {
            return Err(fields.error(format!("`{key}` is not for this camera: {way}")));
        }
        Ok(())
    };
    match model {
        Model::Orthographic => {
            refuse("fov", "an orthographic one has a `size` in world units")?;
            let size = fields.number("size")?;
            if let Some(size) = size.filter(|s| !(1e-6..=1e9).contains(s)) {
                return Err(fields.error(format!(
                    "`size` is {size}: give what the image's height spans in world units, above 0"
                )));
            }
            Ok(size)
        }
        Model::Equirectangular => {
            refuse("fov", "an equirectangular one sees everything")?;
            refuse("size", "an equirectangular one sees everything")?;
            Ok(Some(1.0))
        }
        Model::Perspective | Model::Fisheye => {
            refuse("size", "a perspective one has a `fov` in degrees")?;
            let degrees = fields.number("fov")?;
            degrees.map(|d| extent_of_angle(fields, d)).transpose()
        }
    }
}

/// The pose of a key frame, given by a matrix or by eye and target.
fn pose(key: &Fields) -> Result<(Pose, Option<Look>), CameraPathError> {
    let looks = key.vector("eye")?.zip(key.vector("target")?);
    match (key.matrix("transform_matrix")?, looks) {
        (Some(_), _) if ["eye", "target", "up"].iter().any(|k| key.has(k)) => {
            Err(key.error("give either `transform_matrix` or `eye` and `target`, not both"))
        }
        (Some(rows), _) => {
            let pose = Pose::from_rows(rows).map_err(|fault| {
                key.error(format!(
                    "`transform_matrix` is not a pose, {fault}: \
                     expected an OpenGL camera-to-world matrix"
                ))
            })?;
            Ok((pose, None))
        }
        (None, Some((eye, target))) => {
            let up = key.vector("up")?.unwrap_or([0.0, 0.0, 1.0]);
            let look = Look {
                target: target.into(),
                up: up.into(),
            };
            let pose = Pose::look_at(eye.into(), look.target, look.up);
            Ok((pose.map_err(|fault| key.error(fault))?, Some(look)))
        }
        (None, None) => {
            Err(key.error("has no pose: give `transform_matrix`, or `eye` and `target`"))
        }
    }
}

/// Duration of a loop in seconds, if given.
fn seconds(whole: &Fields, keys: &[KeyFrame]) -> Result<Option<f64>, CameraPathError> {
    let seconds = whole.number("seconds")?;
    let [first, .., last] = keys else {
        return Ok(None);
    };
    let lasts = last.time - first.time;
    if !whole.flag("loop")? {
        return match seconds {
            Some(_) => Err(whole.error("`seconds` is the length of a loop: add `\"loop\": true`")),
            None => Ok(None),
        };
    }
    if let Some(seconds) = seconds.filter(|s| *s < lasts + LEAST_GAP) {
        return Err(whole.error(format!(
            "`seconds` is {seconds}: a loop is longer than the {lasts} s from the first key frame to the last"
        )));
    }
    Ok(seconds)
}
