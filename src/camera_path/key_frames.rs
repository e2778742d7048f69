//! Interpolation between the key frames of `docs/camera-path.md`.

use glam::DVec3;

use super::CameraState;
use super::pose::Pose;
use super::spline::{Knots, hermite, rotation, turn};

/// Minimum time between two key frames in seconds.
pub(super) const MIN_GAP: f64 = 1e-6;

/// Key frames, and the derivatives of the curves through them.
#[derive(Clone, Debug)]
pub(super) struct KeyFrames {
    knots: Knots,
    looped: bool,
    views: Vec<CameraState>,
    /// Velocities in world units per second.
    velocities: Vec<DVec3>,
    /// Angular velocities in radians per second around the camera's axes.
    spins: Vec<DVec3>,
    /// Derivatives of the logarithm of the extent, per second.
    log_extent_tangents: Vec<f64>,
    /// Curves of target and up direction, if every key frame has them.
    looks: Option<[Curve; 2]>,
}

/// A curve of points at the key frames, with its derivatives there.
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
pub(super) struct ViewTarget {
    pub target: DVec3,
    pub up: DVec3,
}

/// Apply `of` to each pair of consecutive views.
fn changes<V>(pairs: &[[CameraState; 2]], of: impl Fn(&CameraState, &CameraState) -> V) -> Vec<V> {
    pairs.iter().map(|[a, b]| of(a, b)).collect()
}

impl KeyFrames {
    /// `times` increase; `period`, the duration of a loop, is longer than the time from the first to the last key frame. If all
    /// `looks` are given, the camera always looks at a point that moves from target to target.
    pub fn new(
        times: Vec<f64>,
        views: Vec<CameraState>,
        looks: &[Option<ViewTarget>],
        period: Option<f64>,
    ) -> Self {
        Self::through(Knots::new(times, period), views, looks)
    }

    /// Return the same key frames with every pose transformed by `map`, without targets.
    pub fn mapped(&self, map: impl Fn(Pose) -> Pose) -> Self {
        let map = |view: &CameraState| CameraState {
            pose: map(view.pose),
            ..*view
        };
        let views = self.views.iter().map(map).collect();
        Self::through(self.knots.clone(), views, &[])
    }

    fn through(knots: Knots, views: Vec<CameraState>, looks: &[Option<ViewTarget>]) -> Self {
        let looks: Option<Vec<ViewTarget>> = looks.iter().copied().collect();
        let looks = looks
            .filter(|looks| looks.len() == views.len())
            .map(|looks| {
                let curve = |of: fn(&ViewTarget) -> DVec3| {
                    Curve::new(&knots, looks.iter().map(of).collect())
                };
                [curve(|l| l.target), curve(|l| l.up.normalize_or(DVec3::Z))]
            });
        let pairs: Vec<[CameraState; 2]> = views
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
            log_extent_tangents: knots.monotone_slopes(&scales),
            looped: knots.is_loop(),
            looks,
            knots,
            views,
        }
    }

    /// Return the view `time` seconds after the first key frame.
    pub fn at(&self, time: f64) -> CameraState {
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
        let zooms = ends.map(|i| self.log_extent_tangents[i] * length);
        let position = hermite([a.pose.position, b.pose.position], velocities, t);
        let looking = self.looks.as_ref().and_then(|curves| {
            let [target, up] = curves.each_ref().map(|c| c.at(ends, t, length));
            Pose::look_at(position, target, up).ok()
        });
        CameraState {
            pose: looking.unwrap_or_else(|| Pose {
                position,
                rotation: rotation([a.pose.rotation, b.pose.rotation], spins, t),
            }),
            extent: hermite([a.extent.ln(), b.extent.ln()], zooms, t).exp(),
        }
    }

    /// Return the number of frames at `fps` frames per second: up to and including the last key frame, or the whole loop
    /// without a repeated first frame.
    pub fn frames(&self, fps: f64) -> f64 {
        let frames = self.knots.duration() * fps;
        if self.looped {
            (frames - 1e-6).ceil().max(1.0)
        } else {
            (frames + 1e-6).floor() + 1.0
        }
    }
}
