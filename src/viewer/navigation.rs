//! The camera that the user moves: around a pivot (orbit, pan, zoom), or freely (turn, fly).
//!
//! Lengths are in world units of the dataset, angles in radians. Turning sideways rotates around the world's up axis, so a
//! camera taken from a photograph keeps its roll, and a level camera stays level.

use glam::{DMat3, DVec3};

use crate::camera::{Camera, Lens, focal_from_angle, focus, upwards};

/// Minimum angle between the viewing direction and the up axis, in radians.
const POLE: f64 = 0.02;
/// Minimum and maximum vertical field of view, in radians.
const FIELD_OF_VIEW: [f64; 2] = [0.05, 2.8];

/// Pose, pivot and field of view of the user's camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Navigation {
    position: DVec3,
    /// Columns: right, up and back.
    axes: DMat3,
    /// Distance from the camera to the pivot, which lies on the optical axis.
    distance: f64,
    up: DVec3,
    /// Vertical field of view.
    fov: f64,
    /// Common focus of the dataset's cameras, if they have one.
    center: Option<DVec3>,
}

impl Navigation {
    /// Start at the pose of `camera`, with the pivot at the common focus of `cameras`.
    #[must_use]
    pub fn new(camera: &Camera, cameras: &[Camera]) -> Self {
        let mut view = Self {
            position: DVec3::ZERO,
            axes: DMat3::IDENTITY,
            distance: 1.0,
            up: upwards(cameras),
            fov: 1.0,
            center: focus(cameras),
        };
        view.set_pose(camera);
        view
    }

    /// Move to the pose of `camera`. The pivot is the point on its optical axis nearest to the common focus, or at the same
    /// distance as before.
    pub fn set_pose(&mut self, camera: &Camera) {
        let column = |i: usize| DVec3::from(camera.world_from_camera.map(|row| row[i]));
        self.position = column(3);
        self.set_axes(DMat3::from_cols(column(0), column(1), column(2)));
        let ahead = self.center.map(|c| (c - self.position).dot(self.forward()));
        self.distance = ahead.filter(|d| *d > 0.0).unwrap_or(self.distance);
        let half = f64::from(camera.height) / 2.0 / f64::from(camera.focal[1]);
        let (edge, _) = camera.lens.direction([0.0, half]);
        self.fov = match camera.lens {
            Lens::Orthographic => self.fov,
            _ => 2.0 * edge.angle_between(DVec3::Z),
        }
        .clamp(FIELD_OF_VIEW[0], FIELD_OF_VIEW[1]);
    }

    /// Return the camera for an image of `width` × `height` pixels.
    #[must_use]
    pub fn camera(&self, width: u32, height: u32) -> Camera {
        let axes = [
            self.axes.x_axis,
            self.axes.y_axis,
            self.axes.z_axis,
            self.position,
        ];
        let focal = focal_from_angle(self.fov, f64::from(height));
        Camera::pinhole(axes, focal, width, height)
    }

    /// Return the pivot.
    #[must_use]
    pub fn pivot(&self) -> DVec3 {
        self.position + self.distance * self.forward()
    }

    /// Turn towards `point` and make it the pivot.
    pub fn set_pivot(&mut self, point: DVec3) {
        let towards = point - self.position;
        let distance = towards.length();
        let Some(forward) = towards.try_normalize() else {
            return;
        };
        let turned = glam::DQuat::from_rotation_arc(self.forward(), forward);
        self.set_axes(DMat3::from_quat(turned) * self.axes);
        self.distance = distance;
    }

    /// Return the distance from the camera to the pivot.
    #[must_use]
    pub fn distance(&self) -> f64 {
        self.distance
    }

    /// Return the vertical field of view.
    #[must_use]
    pub fn field_of_view(&self) -> f64 {
        self.fov
    }

    /// Set the vertical field of view.
    pub fn set_field_of_view(&mut self, fov: f64) {
        self.fov = fov.clamp(FIELD_OF_VIEW[0], FIELD_OF_VIEW[1]);
    }

    /// Return the world's up axis.
    #[must_use]
    pub fn up(&self) -> DVec3 {
        self.up
    }

    /// Set the world's up axis and level the camera.
    pub fn set_up(&mut self, up: DVec3) {
        let pivot = self.pivot();
        self.up = up.normalize_or(DVec3::Z);
        let mut forward = self.forward();
        if forward.cross(self.up).length() < POLE {
            forward = self.up.any_orthonormal_vector();
        }
        let right = forward.cross(self.up).normalize();
        self.set_axes(DMat3::from_cols(right, right.cross(forward), -forward));
        self.position = pivot - self.distance * self.forward();
    }

    /// Orbit around the pivot: `sideways` around the world's up axis, and `upwards` at most to the pole.
    pub fn orbit(&mut self, sideways: f64, upwards: f64) {
        let pivot = self.pivot();
        self.turn(sideways, upwards);
        self.position = pivot - self.distance * self.forward();
    }

    /// Rotate the camera in place: positive angles turn it left and up.
    pub fn turn(&mut self, sideways: f64, upwards: f64) {
        let yaw = DMat3::from_axis_angle(self.up, sideways);
        // The angle between the up axis and the viewing direction.
        let polar = self.forward().angle_between(self.up);
        let (lowest, highest) = (polar - std::f64::consts::PI + POLE, polar - POLE);
        let upwards = if lowest < highest {
            upwards.clamp(lowest, highest)
        } else {
            0.0
        };
        // Rotate around the horizontal axis, which differs from the right axis of a rolled camera.
        let level = self.forward().cross(self.up).try_normalize();
        let pitch = DMat3::from_axis_angle(level.unwrap_or(self.axes.x_axis), upwards);
        self.set_axes(yaw * pitch * self.axes);
    }

    /// Move parallel to the image plane, in image heights at the pivot's distance.
    pub fn pan(&mut self, right: f64, up: f64) {
        let height = 2.0 * self.distance * (self.fov / 2.0).tan();
        self.position += height * (right * self.axes.x_axis + up * self.axes.y_axis);
    }

    /// Multiply the distance to the pivot by `factor`.
    pub fn zoom(&mut self, factor: f64) {
        let pivot = self.pivot();
        self.distance = (self.distance * factor).clamp(1e-4, 1e6);
        self.position = pivot - self.distance * self.forward();
    }

    /// Move by distances in world units: to the right, up along the world's up axis, and forward.
    pub fn fly(&mut self, right: f64, up: f64, ahead: f64) {
        self.position += right * self.axes.x_axis + up * self.up + ahead * self.forward();
    }

    fn forward(&self) -> DVec3 {
        -self.axes.z_axis
    }

    /// Set the axes, orthonormalised so that the rounding errors of many rotations do not accumulate.
    fn set_axes(&mut self, axes: DMat3) {
        let z = axes.z_axis.normalize_or(DVec3::Z);
        let x = axes.x_axis.reject_from_normalized(z);
        let x = x
            .try_normalize()
            .unwrap_or_else(|| z.any_orthonormal_vector());
        self.axes = DMat3::from_cols(x, z.cross(x), z);
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_2, PI};

    use super::*;

    fn around() -> Vec<Camera> {
        let stand = |i: u8| {
            let angle = f32::from(i);
            let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
            Camera::look_at(eye, [0.0, 0.0, 0.5], [0.0, 0.0, 1.0], 0.8, 80, 60)
        };
        (0..6).map(stand).collect()
    }

    fn view() -> Navigation {
        let cameras = around();
        Navigation::new(&cameras[0], &cameras)
    }

    fn near(a: DVec3, b: DVec3) -> bool {
        a.distance(b) < 1e-6
    }

    /// Return whether the axes are orthonormal and right-handed.
    fn is_rigid(view: &Navigation) -> bool {
        let product = view.axes * view.axes.transpose();
        product.abs_diff_eq(DMat3::IDENTITY, 1e-9) && (view.axes.determinant() - 1.0).abs() < 1e-9
    }

    #[test]
    fn it_begins_as_the_camera_it_is_given() {
        let cameras = around();
        let camera = view().camera(80, 60);
        for (got, expected) in camera
            .world_from_camera
            .iter()
            .zip(cameras[0].world_from_camera)
        {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        assert!((camera.focal[0] - cameras[0].focal[0]).abs() < 1e-3);
        assert_eq!(view().up(), DVec3::Z);
        assert!(
            near(view().pivot(), DVec3::new(0.0, 0.0, 0.5))
                || view().pivot().distance(DVec3::new(0.0, 0.0, 0.5)) < 1e-3
        );
    }

    #[test]
    fn orbiting_keeps_the_pivot_and_the_distance() {
        let mut view = view();
        let (pivot, distance) = (view.pivot(), view.distance());
        for i in 0..500 {
            view.orbit(0.13, if i % 7 == 0 { 0.3 } else { -0.05 });
        }
        assert!(view.pivot().distance(pivot) < 1e-6 && is_rigid(&view));
        assert!((view.position.distance(pivot) - distance).abs() < 1e-6);
        // The horizon is still level.
        assert!(view.axes.x_axis.dot(DVec3::Z).abs() < 1e-6);
    }

    #[test]
    fn a_full_turn_ends_where_it_began_and_the_pole_is_not_crossed() {
        let mut view = view();
        let start = view;
        for _ in 0..8 {
            view.orbit(PI / 4.0, 0.0);
        }
        assert!(near(view.position, start.position));
        view.orbit(0.0, -10.0);
        assert!((view.forward().angle_between(-DVec3::Z) - POLE).abs() < 1e-6);
        view.orbit(0.0, 10.0);
        assert!((view.forward().angle_between(DVec3::Z) - POLE).abs() < 1e-6);
        assert!(is_rigid(&view));
    }

    #[test]
    fn a_rolled_camera_keeps_its_roll_until_it_is_levelled() {
        let mut view = view();
        view.set_axes(DMat3::from_axis_angle(view.forward(), 0.3) * view.axes);
        let tilt = |view: &Navigation| view.axes.x_axis.dot(view.up).abs();
        let before = tilt(&view);
        view.orbit(1.0, 0.0);
        assert!((tilt(&view) - before).abs() < 1e-6 && before > 0.2);
        view.set_up(DVec3::Z);
        assert!(tilt(&view) < 1e-9);
        // An up axis along the viewing direction gives some level view.
        view.set_up(view.forward());
        assert!(is_rigid(&view) && tilt(&view) < 1e-9);
    }

    #[test]
    fn panning_moves_the_pivot_with_the_image() {
        let mut view = view();
        let before = view;
        view.pan(0.5, 0.0);
        let height = 2.0 * before.distance() * (before.field_of_view() / 2.0).tan();
        let moved = view.pivot() - before.pivot();
        assert!(near(moved, 0.5 * height * before.axes.x_axis));
        // The point that was at the centre is now half an image height to the left.
        let camera = view.camera(60, 60);
        let [x, y] = camera.project(before.pivot().to_array()).unwrap();
        assert!((x - 0.0).abs() < 1e-3 && (y - 30.0).abs() < 1e-3, "{x} {y}");
    }

    #[test]
    fn zooming_goes_towards_the_pivot_and_never_through_it() {
        let mut view = view();
        let pivot = view.pivot();
        view.zoom(0.5);
        assert!(view.pivot().distance(pivot) < 1e-9);
        for _ in 0..100 {
            view.zoom(0.5);
        }
        assert!(view.distance() > 0.0 && view.position.is_finite());
    }

    #[test]
    fn a_chosen_pivot_is_in_the_middle_of_the_image() {
        let mut view = view();
        let before = view;
        let point = DVec3::new(0.7, -0.4, 0.9);
        view.set_pivot(point);
        assert!(near(view.position, before.position) && is_rigid(&view));
        assert!(view.pivot().distance(point) < 1e-9);
        let [x, y] = view.camera(60, 60).project(point.to_array()).unwrap();
        assert!((x - 30.0).abs() < 1e-3 && (y - 30.0).abs() < 1e-3);
        // The camera's own position cannot be the pivot.
        view.set_pivot(view.position);
        assert!(view.pivot().distance(point) < 1e-9);
    }

    #[test]
    fn flight_follows_where_one_looks() {
        let mut view = view();
        let before = view;
        view.turn(FRAC_PI_2, 0.0);
        assert!(near(view.position, before.position));
        // After a quarter turn to the left, the direction that was left is forward.
        view.fly(0.0, 0.0, 2.0);
        let moved = view.position - before.position;
        assert!(moved.dot(before.axes.x_axis) < -1.9);
        let below = view.position;
        view.fly(0.0, 1.0, 0.0);
        assert!(near(view.position - below, DVec3::Z));
        assert!(is_rigid(&view));
    }
}
