//! Orbits around the focus of a dataset's cameras.

use glam::DVec3;

use super::TimedCamera;
use crate::camera::{Camera, focus, upwards};

/// Minimum angular gap without cameras, in radians, for which the cameras count as being on one side of the scene; the orbit
/// then does not show it from behind.
const UNSEEN: f64 = std::f64::consts::TAU / 3.0;

/// Return the centre and the half width of the arc that `angles` span, in radians.
fn arc(mut angles: Vec<f64>) -> (f64, f64) {
    use std::f64::consts::TAU;
    angles.sort_by(f64::total_cmp);
    let next = angles.iter().skip(1).copied();
    let next = next.chain(angles.first().map(|a| a + TAU));
    // The widest gap and its end.
    let (gap, end) = angles
        .iter()
        .zip(next)
        .map(|(a, b)| (b - a, b))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((0.0, 0.0));
    if gap < UNSEEN {
        return (0.0, std::f64::consts::PI);
    }
    let half = (TAU - gap) / 2.0;
    (end + half, half)
}

/// Return `n` cameras on a circle around the focus of `cameras`, at their mean height and distance, with `fps` frames per
/// second. If all `cameras` are on one side, the path swings back and forth over their arc instead.
#[must_use]
pub fn orbit(cameras: &[Camera], n: u32, fps: f64) -> Vec<TimedCamera> {
    let Some(first) = cameras.first() else {
        return Vec::new();
    };
    let count = cameras.len() as f64;
    let center = focus(cameras).unwrap_or_else(|| first.place() + first.direction());
    let up = upwards(cameras);
    let heights = cameras
        .iter()
        .map(|c| (c.place() - center).dot(up))
        .sum::<f64>()
        / count;
    let flat = |c: &Camera| {
        let offset = c.place() - center;
        offset - up * offset.dot(up)
    };
    let radius = cameras.iter().map(|c| flat(c).length()).sum::<f64>() / count;
    let x = flat(first).normalize_or(up.any_orthonormal_vector());
    let y = up.cross(x);
    let to_f32 = |v: DVec3| v.to_array().map(|c| c as f32);
    let fov = 2.0 * (first.width as f32 / 2.0 / first.focal[0]).atan();
    let angle_of = |c: &Camera| y.dot(flat(c)).atan2(x.dot(flat(c)));
    let (middle, half) = arc(cameras.iter().map(angle_of).collect());
    (0..n)
        .map(|i| {
            let turn = f64::from(i) / f64::from(n) * std::f64::consts::TAU;
            let angle = if half < std::f64::consts::PI {
                middle + half * turn.sin()
            } else {
                turn
            };
            let eye = center + radius * (angle.cos() * x + angle.sin() * y) + up * heights;
            let camera = Camera::look_at(
                to_f32(eye),
                to_f32(center),
                to_f32(up),
                fov,
                first.width,
                first.height,
            );
            TimedCamera {
                time: f64::from(i) / fps,
                camera,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{PI, TAU};

    #[test]
    fn cameras_on_one_side_span_an_arc() {
        let around: Vec<f64> = (0..8).map(|i| f64::from(i) / 8.0 * TAU).collect();
        assert_eq!(arc(around), (0.0, PI));
        // Arcs that cross ±π too.
        for turn in [0.0, 2.0, PI] {
            let wrap = |a: f64| (a + turn).sin().atan2((a + turn).cos());
            let (middle, half) = arc([0.5, -0.4, 0.1, -0.5].map(wrap).to_vec());
            assert!((half - 0.5).abs() < 1e-9, "{half}");
            assert!((middle - turn).sin().abs() < 1e-9 && (middle - turn).cos() > 0.0);
        }
        assert!(arc(vec![1.0]).1.abs() < 1e-9);
        assert_eq!(arc(Vec::new()), (0.0, PI));
    }

    #[test]
    fn a_swing_stays_among_the_cameras() {
        let stand = |angle: f32| {
            let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
            Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.8, 8, 8)
        };
        let cameras: Vec<Camera> = [-0.6, -0.2, 0.3, 0.6].map(stand).to_vec();
        for frame in orbit(&cameras, 12, 6.0) {
            let [x, y, z] = frame.camera.position();
            assert!(frame.time < 2.0);
            assert!(y.atan2(x).abs() < 0.61, "{x} {y}");
            assert!((x.hypot(y) - 4.0).abs() < 1e-3 && (z - 1.0).abs() < 1e-3);
        }
    }
}
