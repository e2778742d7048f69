//! Spirals in front of the scene, for forward-facing captures.

use std::f64::consts::TAU;

use glam::{DMat3, DVec3};

use super::{CameraPathError, TimedCamera};
use crate::camera::{Camera, Lens, focus};

/// Maximum mean angle, in degrees, between the cameras' axes and their mean direction.
const SPREAD: f64 = 30.0;
/// Number of turns of a spiral, in which it moves forwards and backwards once.
const TURNS: f64 = 2.0;
/// Quantile of the cameras' absolute offsets along each axis that gives the radius of the spiral.
const WITHIN: f64 = 0.9;
/// Weight of the far bound in the harmonic mean of the bounds that is the depth of the target, and the factor by which the
/// scene is assumed to extend beyond the far bound.
const FAR_WEIGHT: f64 = 0.75;
const BEYOND: f64 = 5.0;

/// Return `n` cameras on a spiral of two turns around the mean of `cameras`, as in LLFF (Mildenhall et al. 2019), with
/// `fps` frames per second.
///
/// Its radii are the 90th percentiles of the cameras' offsets to the right, upwards and backwards. All cameras look at one
/// point on the mean axis: between the depths `near_far` (world units) if they are known, else at the depth of the cameras'
/// focus. Image size and intrinsics are the first camera's, without distortion.
///
/// # Errors
/// [`CameraPathError::NotOneWay`], [`CameraPathError::NoDepth`]
pub fn spiral(
    cameras: &[Camera],
    near_far: Option<[f64; 2]>,
    n: u32,
    fps: f64,
) -> Result<Vec<TimedCamera>, CameraPathError> {
    let Some(first) = cameras.first() else {
        return Ok(Vec::new());
    };
    let mean = Mean::of(cameras)?;
    let depth = match near_far.filter(|[near, far]| *near > 0.0 && far > near) {
        Some([near, far]) => {
            let inverse = (1.0 - FAR_WEIGHT) / near + FAR_WEIGHT / (far * BEYOND);
            Some(1.0 / inverse)
        }
        None => focus(cameras).map(|point| -mean.local(point).z),
    };
    let depth = depth
        .filter(|depth| depth.is_finite() && *depth > 0.0)
        .ok_or(CameraPathError::NoDepth)?;
    let target = mean.world(DVec3::new(0.0, 0.0, -depth));
    let offsets: Vec<DVec3> = cameras
        .iter()
        .map(|c| mean.local(c.place()).abs())
        .collect();
    let radii = DVec3::from_array([0, 1, 2].map(|axis| {
        let along = offsets.iter().map(|offset| offset[axis]).collect();
        percentile(along, WITHIN)
    }));
    let frame = |i: u32| {
        let angle = f64::from(i) / f64::from(n) * TURNS * TAU;
        let at = DVec3::new(angle.cos(), -angle.sin(), -(angle / TURNS).sin());
        let eye = mean.world(radii * at);
        let axes = axes(eye - target, mean.axes.y_axis);
        let columns = [axes.x_axis, axes.y_axis, axes.z_axis, eye];
        TimedCamera {
            time: f64::from(i) / fps,
            camera: Camera {
                world_from_camera: std::array::from_fn(|row| columns.map(|column| column[row])),
                lens: Lens::Pinhole,
                ..*first
            },
        }
    };
    Ok((0..n).map(frame).collect())
}

/// Mean position and mean axes (right, up, back) of cameras, in world space.
struct Mean {
    position: DVec3,
    axes: DMat3,
}

impl Mean {
    fn of(cameras: &[Camera]) -> Result<Self, CameraPathError> {
        let count = cameras.len().max(1) as f64;
        let back: DVec3 = cameras.iter().map(|c| column(c, 2)).sum::<DVec3>() / count;
        // The length of the mean of unit vectors is the mean cosine of their angles to the mean direction.
        let degrees = back.length().min(1.0).acos().to_degrees();
        if degrees > SPREAD {
            return Err(CameraPathError::NotOneWay {
                degrees,
                most: SPREAD,
            });
        }
        let up = cameras.iter().map(|c| column(c, 1)).sum();
        Ok(Self {
            position: cameras.iter().map(Camera::place).sum::<DVec3>() / count,
            axes: axes(back, up),
        })
    }

    /// Convert a point from the mean camera's frame to world space.
    fn world(&self, p: DVec3) -> DVec3 {
        self.position + self.axes * p
    }

    /// Inverse of [`Self::world`].
    fn local(&self, p: DVec3) -> DVec3 {
        self.axes.transpose() * (p - self.position)
    }
}

/// Return the i-th axis of a camera in world space.
fn column(camera: &Camera, i: usize) -> DVec3 {
    DVec3::from(camera.world_from_camera.map(|row| row[i])).normalize_or_zero()
}

/// Return the right, up and back axes of a camera that looks along −`back`, with the top of its image towards `up`.
fn axes(back: DVec3, up: DVec3) -> DMat3 {
    let back = back.normalize_or(DVec3::Z);
    let right = up.cross(back);
    let right = right
        .try_normalize()
        .unwrap_or(back.any_orthonormal_vector());
    DMat3::from_cols(right, back.cross(right), back)
}

/// Return the quantile `part` of `values`, with linear interpolation.
fn percentile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = part * values.len().saturating_sub(1) as f64;
    let value = |i: f64| values.get(i as usize).copied().unwrap_or_default();
    let (low, high) = (value(at.floor()), value(at.ceil()));
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eleven cameras in a row along x, half a unit apart, that look along −z.
    fn row() -> Vec<Camera> {
        let stand = |i: u8| {
            let x = 0.5 * (f32::from(i) - 5.0);
            Camera::look_at([x, 2.0, 3.0], [x, 2.0, 0.0], [0.0, 1.0, 0.0], 0.8, 32, 24)
        };
        (0..11).map(stand).collect()
    }

    #[test]
    fn percentiles_lie_between_values() {
        // The 0.9 quantile of 11 values is the tenth.
        let values: Vec<f64> = (0..11).rev().map(f64::from).collect();
        assert!((percentile(values, 0.9) - 9.0).abs() < 1e-12);
        // Nine tenths of the way from 1 to 5.
        assert!((percentile(vec![5.0, 1.0], 0.9) - 4.6).abs() < 1e-12);
        assert_eq!(percentile(vec![7.0], 0.9), 7.0);
    }

    #[test]
    fn a_spiral_turns_twice_and_looks_at_one_depth() {
        let frames = spiral(&row(), Some([2.0, 30.0]), 8, 4.0).unwrap();
        // Offsets 0, ½, ½, 1, 1, … 2½, 2½: the tenth of eleven is 2½; there are no offsets upwards or backwards.
        let places = [2.5, 0.0, -2.5, 0.0];
        // 1 / (¼ / 2 + ¾ / (5 · 30)) = 7.6923
        let target = DVec3::new(0.0, 2.0, 3.0 - 1.0 / 0.13);
        assert_eq!(frames.len(), 8);
        for (i, frame) in frames.iter().enumerate() {
            let [x, y, z] = frame.camera.position();
            assert!((x - places[i % 4]).abs() < 1e-5, "{i}: {x}");
            assert_eq!((y, z), (2.0, 3.0));
            assert_eq!(frame.time, i as f64 / 4.0);
            let [px, py] = frame.camera.project(target.to_array()).unwrap();
            assert!((px - 16.0).abs() < 1e-4 && (py - 12.0).abs() < 1e-4);
            assert!(frame.camera.world_from_camera[1][1] > 0.99); // upright
        }
    }

    #[test]
    fn a_spiral_moves_with_its_cameras() {
        // The same cameras, spread along all axes.
        let mut cameras = row();
        for (i, camera) in cameras.iter_mut().enumerate() {
            let i = i as f64 - 5.0;
            camera.world_from_camera[1][3] += 0.1 * i;
            camera.world_from_camera[2][3] += 0.02 * i;
        }
        let frames = spiral(&cameras, Some([2.0, 30.0]), 16, 1.0).unwrap();
        // θ = 4π · 3 / 16 = ¾π: (2.5 cos θ, −0.5 sin θ, −0.1 sin ½θ)
        let [x, y, z] = frames[3].camera.position();
        assert!((x + 2.5 * 0.5_f64.sqrt()).abs() < 1e-5, "{x}");
        assert!((y - 2.0 + 0.5 * 0.5_f64.sqrt()).abs() < 1e-5, "{y}");
        assert!((z - 3.0 + 0.1 * 0.923_88).abs() < 1e-5, "{z}");
        // The same world, rotated: z up, looking along x.
        let turned: Vec<Camera> = cameras
            .iter()
            .map(|c| Camera {
                world_from_camera: {
                    let [x, y, z] = c.world_from_camera;
                    [z.map(|v| -v), x.map(|v| -v), y]
                },
                ..*c
            })
            .collect();
        let turned = spiral(&turned, Some([2.0, 30.0]), 16, 1.0).unwrap();
        for (a, b) in frames.iter().zip(&turned) {
            let [x, y, z] = a.camera.world_from_camera;
            let expected = [z.map(|v| -v), x.map(|v| -v), y];
            let found = b.camera.world_from_camera;
            for (e, f) in expected.as_flattened().iter().zip(found.as_flattened()) {
                assert!((e - f).abs() < 1e-5, "{expected:?} {found:?}");
            }
        }
    }

    #[test]
    fn without_bounds_the_cameras_show_how_far() {
        let towards = |x: f32| {
            let eye = [x, 0.1 * x * x, 4.0];
            Camera::look_at(eye, [0.0, 0.0, -1.0], [0.0, 1.0, 0.0], 0.8, 32, 24)
        };
        let cameras: Vec<Camera> = [-1.0, -0.3, 0.4, 0.9].map(towards).to_vec();
        for frame in spiral(&cameras, None, 5, 1.0).unwrap() {
            let [px, py] = frame.camera.project([0.0, 0.0, -1.0]).unwrap();
            // The mean axis passes near the focus.
            assert!((px - 16.0).abs() < 2.0 && (py - 12.0).abs() < 2.0);
        }
        // Parallel axes have no focus, and bounds that start at 0 give no depth.
        for near_far in [None, Some([0.0, 9.0])] {
            assert!(matches!(
                spiral(&row(), near_far, 5, 1.0),
                Err(CameraPathError::NoDepth)
            ));
        }
    }

    #[test]
    fn cameras_all_round_are_refused() {
        let stand = |i: u8| {
            let angle = f32::from(i) / 8.0 * std::f32::consts::TAU;
            let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
            Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.8, 8, 8)
        };
        let cameras: Vec<Camera> = (0..8).map(stand).collect();
        let error = spiral(&cameras, Some([1.0, 9.0]), 5, 1.0).unwrap_err();
        let text = error.to_string();
        // The mean axis points down and has length 1 / √17: 76° from each axis.
        assert!(text.contains("76°") && text.contains("30°"), "{text}");
        assert!(spiral(&[], None, 5, 1.0).unwrap().is_empty());
    }
}
