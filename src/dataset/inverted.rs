//! Detects inverted poses: world-to-camera matrices where camera-to-world matrices are expected.
//!
//! After inversion, such cameras surround an object and look at it; as given, they look at no common point. Captures that are
//! plausible as given, whatever their layout, are not reported.

use glam::{DMat3, DVec3};

use super::Format;
use super::framing::median;
use super::framing::{point, short};
use super::pose::inverse;
use super::problem::{Problem, Severity};
use super::{Dataset, Frame};
use crate::camera::{Camera, focus};

/// Minimum number of cameras for a decision.
const MIN_CAMERAS: usize = 6;
/// Sine of the angle between the optical axis and the direction to the focus below which inverted cameras look at the focus.
const MEETS: f64 = 0.2;
/// The same sine, below which the cameras as given look at a focus, or away from it.
const MAY_MEET: f64 = 0.35;
/// Fraction of cameras that must agree.
const AGREE: f64 = 0.9;
/// Length of the mean of unit directions above which they count as one direction.
const ONE_WAY: f64 = 0.8;
/// Length of the mean direction above which cameras look in one direction, if their up axes agree by [`ONE_WAY`].
const ALONG: f64 = 0.75;
/// Amount by which the mean direction of the inverted cameras must be shorter for them to surround the focus rather than look
/// in one direction.
const BROADER: f64 = 0.08;
/// Length of the mean direction of the inverted cameras above which they cannot be distinguished from cameras that tilt in
/// place.
const NARROW: f64 = 0.9;
/// Length of the mean up direction below which cameras that look in one direction roll around their axes.
const TURNING: f64 = 0.5;
/// Ratio of the distance of the inverted cameras from their focus to the spread of the cameras as given, below which they are
/// at the focus.
const APART: f64 = 1e-8;
/// Difference in [`roll`] above which the cameras as given are upright and the inverted ones are not.
const UPRIGHT: f64 = 0.02;

/// Statistics of how cameras look at their focus, the point nearest to their optical axes.
struct FocusStatistics {
    at: DVec3,
    /// Median distance from the focus.
    distance: f64,
    /// Median sine of the angle between the optical axis and the direction to the focus.
    miss: f64,
    /// Fraction of cameras that face the focus.
    facing: f64,
}

impl FocusStatistics {
    fn of(cameras: &[Camera]) -> Option<Self> {
        let at = focus(cameras)?;
        let ways = || cameras.iter().map(|c| (at - c.place(), c.direction()));
        let facing = ways().filter(|(way, axis)| way.dot(*axis) > 0.0).count();
        Some(Self {
            at,
            distance: median(ways().map(|(way, _)| way.length())),
            miss: median(ways().map(|(way, axis)| way.normalize_or_zero().cross(axis).length())),
            facing: facing as f64 / cameras.len() as f64,
        })
    }

    /// Return whether nearly all cameras face towards the focus, or nearly all away from it, with a `miss` below `most`.
    fn is_shared(&self, most: f64) -> bool {
        self.miss < most && self.facing.max(1.0 - self.facing) >= AGREE
    }
}

/// Return column `i` of a camera's rotation: right, up, back.
fn column(camera: &Camera, i: usize) -> DVec3 {
    DVec3::from(camera.world_from_camera.map(|row| row[i]))
}

/// Return the length of the mean of unit directions.
fn mean_length(directions: impl Iterator<Item = DVec3>) -> f64 {
    let (sum, n) = directions.fold((DVec3::ZERO, 0.0), |(sum, n), d| (sum + d, n + 1.0));
    sum.length() / f64::max(n, 1.0)
}

/// Return how far the cameras' right axes, or their up axes, deviate from a plane: the minimum mean square along any direction.
/// It is 0 for level cameras.
fn roll(cameras: &[Camera]) -> f64 {
    let of = |i: usize| {
        let mut matrix = DMat3::ZERO;
        for axis in cameras.iter().map(|c| column(c, i)) {
            matrix += DMat3::from_cols(axis * axis.x, axis * axis.y, axis * axis.z);
        }
        least_eigenvalue(matrix * (1.0 / cameras.len().max(1) as f64))
    };
    of(0).min(of(1))
}

/// Return the least eigenvalue of a symmetric matrix (Smith 1961).
fn least_eigenvalue(a: DMat3) -> f64 {
    let mean = (a.x_axis.x + a.y_axis.y + a.z_axis.z) / 3.0;
    let b = a - DMat3::from_diagonal(DVec3::splat(mean));
    let square = b.x_axis.length_squared() + b.y_axis.length_squared() + b.z_axis.length_squared();
    let p = (square / 6.0).sqrt();
    if p < 1e-12 {
        return mean;
    }
    let r = ((b * (1.0 / p)).determinant() / 2.0).clamp(-1.0, 1.0);
    let angle = r.acos() / 3.0 + 2.0 * std::f64::consts::FRAC_PI_3;
    mean + 2.0 * p * angle.cos()
}

/// Return `camera` with the inverse pose.
fn inverted(camera: &Camera) -> Camera {
    Camera {
        world_from_camera: inverse(&camera.world_from_camera),
        ..*camera
    }
}

/// The result of the detection.
struct Detection {
    look: FocusStatistics,
    /// Whether the inverted cameras face away from the focus, because they follow `OpenCV`'s convention.
    is_opencv: bool,
}

fn find(cameras: &[Camera]) -> Option<Detection> {
    if cameras.len() < MIN_CAMERAS {
        return None;
    }
    let others: Vec<Camera> = cameras.iter().map(inverted).collect();
    let look = FocusStatistics::of(&others)?;
    let n = cameras.len() as f64;
    let center = cameras.iter().map(Camera::place).sum::<DVec3>() / n;
    let spread = median(cameras.iter().map(|c| c.place().distance(center)));
    let inverted_along = mean_length(others.iter().map(Camera::direction));
    let is_around =
        look.is_shared(MEETS) && look.distance > APART * spread && inverted_along < NARROW;
    if !is_around || roll(&others) > roll(cameras) + UPRIGHT {
        return None;
    }
    let along = mean_length(cameras.iter().map(Camera::direction));
    let upwards = mean_length(cameras.iter().map(|c| column(c, 1)));
    // Nearly parallel axes meet far away, if at all.
    let is_turning = along > NARROW && upwards < TURNING;
    let is_shared = FocusStatistics::of(cameras).is_some_and(|look| look.is_shared(MAY_MEET));
    let is_one_way = along > ALONG && upwards > ONE_WAY && along < inverted_along + BROADER;
    (is_turning || !is_shared && !is_one_way).then_some(Detection {
        is_opencv: look.facing < 0.5,
        look,
    })
}

/// Return whether the poses are inverted, so that they do not show where the scene lies.
pub(super) fn are_inverted_poses(cameras: &[Camera]) -> bool {
    find(cameras).is_some()
}

/// If the poses of `dataset` are inverted, report that instead of `problems`, which are consequences of it.
pub(super) fn replace_if_inverted(problems: Vec<Problem>, dataset: &Dataset) -> Vec<Problem> {
    if dataset.format == Format::Llff {
        // The LLFF reader recentred the poses, so their inverses are meaningless.
        return problems;
    }
    let of = |frames: &[Frame]| frames.iter().map(|f| f.camera).collect::<Vec<Camera>>();
    let Some(found) = find(&of(&dataset.train)) else {
        return problems;
    };
    let severity = problems
        .iter()
        .map(|p| p.severity)
        .find(|s| *s == Severity::Error)
        .unwrap_or(Severity::Warning);
    let FocusStatistics { at, distance, .. } = found.look;
    let more = if found.is_opencv {
        ", and negate the second and third columns of the result (they follow the convention of OpenCV and COLMAP)"
    } else {
        ""
    };
    let message = format!(
        "the poses look like world-to-camera matrices: inverted, the cameras look at {} from about {} away; as given, they \
         look at no common point: invert each of them (numpy.linalg.inv){more}",
        point(at.to_array(), distance),
        short(distance),
    );
    vec![Problem::new(severity, message)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::dataset::tests::Scene;

    /// Return the camera at `eye` that looks at `target`, with up direction `up`.
    fn camera(eye: DVec3, target: DVec3, up: DVec3) -> Camera {
        let f = |v: DVec3| v.to_array().map(|v| v as f32);
        let mut camera = Camera::look_at(f(eye), f(target), f(up), 0.7, 64, 48);
        for (row, v) in eye.to_array().into_iter().enumerate() {
            camera.world_from_camera[row][3] = v;
        }
        camera
    }

    /// Return a pseudorandom number from -1 to 1.
    fn noise(seed: u32, i: usize) -> f64 {
        let mut z = (u64::from(seed) << 32) ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn noise3(seed: u32, i: usize) -> DVec3 {
        DVec3::from([0, 1, 2].map(|axis| noise(seed, 3 * i + axis)))
    }

    /// Return `n` cameras around `at` along a fraction `arc` of a turn, within `latitudes`; their axes miss `at` by the
    /// fraction `miss` of their distance.
    fn around(at: DVec3, n: usize, arc: f64, latitudes: [f64; 2], miss: f64) -> Vec<Camera> {
        let one = |i: usize| {
            let share = i as f64 / n as f64;
            let angle = arc * share * std::f64::consts::TAU;
            let latitude = latitudes[0] + (latitudes[1] - latitudes[0]) * (7.3 * share).fract();
            let (flat, high) = (latitude.cos(), latitude.sin());
            let way = DVec3::new(flat * angle.cos(), flat * angle.sin(), high);
            camera(at + 4.0 * way, at + 4.0 * miss * noise3(1, i), DVec3::Z)
        };
        (0..n).map(one).collect()
    }

    fn all(cameras: &[Camera]) -> Vec<Camera> {
        cameras.iter().map(inverted).collect()
    }

    /// Return the cameras in `OpenCV`'s convention: y down, looking along +z.
    fn opencv(cameras: &[Camera]) -> Vec<Camera> {
        let turn = |c: &Camera| Camera {
            world_from_camera: c.world_from_camera.map(|[x, y, z, t]| [x, -y, -z, t]),
            ..*c
        };
        cameras.iter().map(turn).collect()
    }

    /// Return orbits of many kinds.
    fn orbits() -> Vec<Vec<Camera>> {
        let off = DVec3::new(2.0, -1.0, 0.5);
        let far = DVec3::new(300.0, 20.0, -7.0);
        [DVec3::ZERO, off, far]
            .into_iter()
            .flat_map(|at| {
                [
                    around(at, 24, 1.0, [0.0, 0.0], 0.0),
                    around(at, 24, 1.0, [0.4, 0.4], 0.02),
                    around(at, 40, 3.0, [0.0, 1.4], 0.05),
                    around(at, 40, 3.0, [-0.5, 0.9], 0.1),
                    around(at, 16, 0.5, [0.1, 0.5], 0.05),
                    around(at, 20, 0.35, [0.0, 0.6], 0.1),
                ]
            })
            .collect()
    }

    /// Return cameras on a plane that look along −x, as in LLFF captures.
    fn one_way(seed: u32, at: DVec3, turn: f64) -> Vec<Camera> {
        let one = |i: usize| {
            let eye = at + 0.3 * noise3(seed, i) * DVec3::new(0.2, 1.0, 1.0);
            let aim = DVec3::NEG_X + turn * noise3(seed + 1, i);
            camera(eye, eye + aim, DVec3::Z)
        };
        (0..20).map(one).collect()
    }

    /// Return cameras at `radius` around `at` that look outwards, tilted by up to `tilt` and perturbed by `shake`.
    fn inside_out(seed: u32, at: DVec3, [radius, tilt, shake]: [f64; 3]) -> Vec<Camera> {
        let one = |i: usize| {
            let angle = i as f64 * 0.7;
            let (sin, cos) = (tilt * noise(seed, i)).sin_cos();
            let way = DVec3::new(cos * angle.cos(), cos * angle.sin(), sin);
            let eye = at + radius * way + shake * noise3(seed + 1, i);
            camera(eye, eye + way, DVec3::Z)
        };
        (0..36).map(one).collect()
    }

    #[test]
    fn orbits_are_told_when_they_are_inverted_and_only_then() {
        for (i, orbit) in orbits().into_iter().enumerate() {
            assert!(find(&orbit).is_none(), "orbit {i}");
            assert!(find(&opencv(&orbit)).is_none(), "orbit {i}, OpenCV");
            let found = find(&all(&orbit)).unwrap_or_else(|| panic!("orbit {i}, inverted"));
            assert!(!found.is_opencv && (found.look.distance - 4.0).abs() < 0.5);
            let found = find(&all(&opencv(&orbit)));
            assert!(found.is_some_and(|f| f.is_opencv), "orbit {i}, both");
        }
    }

    #[test]
    fn inverted_poses_place_no_scene() {
        let mut scene = Scene::new(16);
        let orbit = around(DVec3::new(300.0, 20.0, -7.0), 16, 1.0, [0.2, 0.5], 0.0);
        let mut write = |cameras: &[Camera]| {
            for (i, camera) in cameras.iter().enumerate() {
                scene.json["frames"][i]["transform_matrix"] = json!(camera.world_from_camera);
            }
            scene.open().unwrap()
        };
        assert!(write(&orbit).framing.is_some());
        assert!(write(&all(&orbit)).framing.is_none());
    }

    #[test]
    fn a_few_cameras_or_one_point_say_nothing() {
        let few = around(DVec3::ZERO, 5, 1.0, [0.0, 0.5], 0.0);
        assert!(find(&all(&few)).is_none());
        let same = vec![few[0]; 20];
        assert!(find(&same).is_none() && find(&all(&same)).is_none());
        assert!(find(&[]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn captures_that_look_one_way_are_left_alone(
            seed in 0..10_000_u32, at in prop::array::uniform3(-5.0..5.0), turn in 0.0..1.0,
        ) {
            prop_assert!(find(&one_way(seed, at.into(), turn)).is_none());
        }

        #[test]
        fn captures_from_the_inside_out_are_left_alone(
            seed in 0..10_000_u32,
            // The origin is on a floor under the cameras, which is most common, or anywhere.
            at in prop_oneof![
                (0.5..3.0).prop_map(|height| [0.0, 0.0, height]),
                prop::array::uniform3(-5.0..5.0),
            ],
            radius in 0.1..2.0, tilt in 0.0..0.9, shake in 0.0..1.5,
        ) {
            prop_assert!(find(&inside_out(seed, at.into(), [radius, tilt, shake])).is_none());
        }

        #[test]
        fn orbits_are_left_alone(
            at in prop::array::uniform3(-50.0..50.0), n in 6..60_usize, arc in 0.1..5.0,
            low in -1.55..1.55, high in -1.55..1.55, miss in 0.0..0.3,
        ) {
            prop_assert!(find(&around(at.into(), n, arc, [low, high], miss)).is_none());
        }
    }
}
