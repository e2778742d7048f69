//! Camera models: the ray through each pixel (origin and direction), projection, and lens distortion.
//!
//! All poses are OpenGL camera-to-world matrices (x right, y up, looking along −z), as in the
//! NeRF-synthetic and nerfstudio formats.
//!
//! Pixel coordinates start at the top-left corner of the image, y down; the centre of the first pixel is (0.5, 0.5).

mod lens;

use glam::{DMat3, DVec3};

pub use lens::Lens;

/// A posed camera with its intrinsics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Rows of the 3×4 matrix `[R | t]`, OpenGL camera-to-world; R is a rotation, t in world units.
    pub world_from_camera: [[f64; 4]; 3],
    /// Image width in pixels.
    pub width: u32,
    /// Image height in pixels.
    pub height: u32,
    /// Focal lengths (x, y) in pixels; for other meanings see [`Lens`].
    pub focal: [f32; 2],
    /// Principal point (x, y) in pixels from the top-left corner; the image centre is (width / 2,
    /// height / 2).
    pub principal: [f32; 2],
    /// Projection and distortion.
    pub lens: Lens,
}

impl Camera {
    /// Create a pinhole camera at `eye` that looks at `target` (world units), with square pixels and a centred principal point.
    ///
    /// `fov_x` is the full horizontal field of view in radians. If `up` is parallel to the view direction, or `eye` equals
    /// `target`, an arbitrary valid orientation is chosen.
    #[must_use]
    pub fn look_at(
        eye: [f32; 3],
        target: [f32; 3],
        up: [f32; 3],
        fov_x: f32,
        width: u32,
        height: u32,
    ) -> Self {
        let eye = DVec3::from(eye.map(f64::from));
        let forward = (DVec3::from(target.map(f64::from)) - eye).normalize_or(DVec3::NEG_Z);
        let right = forward.cross(DVec3::from(up.map(f64::from)).normalize_or(DVec3::Y));
        let right = if right.length() > 1e-6 {
            right.normalize()
        } else {
            forward.any_orthonormal_vector()
        };
        let columns = [right, right.cross(forward), -forward, eye];
        let focal = focal_from_angle(f64::from(fov_x), f64::from(width));
        Self::pinhole(columns, focal, width, height)
    }

    /// Create a pinhole camera with square pixels, focal length `focal` in pixels and a centred principal point. `columns` are
    /// the columns of its camera-to-world matrix: right, up, back, position.
    pub(crate) fn pinhole(columns: [DVec3; 4], focal: f64, width: u32, height: u32) -> Self {
        Self {
            world_from_camera: std::array::from_fn(|row| columns.map(|column| column[row])),
            width,
            height,
            focal: [focal as f32; 2],
            principal: [width as f32 / 2.0, height as f32 / 2.0],
            lens: Lens::Pinhole,
        }
    }

    /// Return the same view at 1/`k` of the resolution; each side is rounded down, to at least one pixel.
    ///
    /// Intrinsics are scaled by the exact ratio new/old of each side, which matches the resampling of
    /// [`crate::dataset::Image::downscaled`].
    #[must_use]
    pub fn downscaled(&self, k: u32) -> Self {
        let k = k.max(1);
        self.resized((self.width / k).max(1), (self.height / k).max(1))
    }

    /// Return the same view at `width` × `height` pixels, with intrinsics scaled by the exact ratio of each side.
    #[must_use]
    pub fn resized(&self, width: u32, height: u32) -> Self {
        let ratio = [
            f64::from(width) / f64::from(self.width.max(1)),
            f64::from(height) / f64::from(self.height.max(1)),
        ];
        let scale = |v: [f32; 2]| {
            [
                (f64::from(v[0]) * ratio[0]) as f32,
                (f64::from(v[1]) * ratio[1]) as f32,
            ]
        };
        Self {
            width,
            height,
            focal: scale(self.focal),
            principal: scale(self.principal),
            ..*self
        }
    }

    /// Return the camera of a part of the image: `size` pixels from `at`. Equirectangular cameras have no such parts.
    #[must_use]
    pub fn cropped(&self, at: [u32; 2], size: [u32; 2]) -> Self {
        Self {
            width: size[0],
            height: size[1],
            principal: [0, 1].map(|a| self.principal[a] - at[a] as f32),
            ..*self
        }
    }

    /// The camera centre in world units.
    #[must_use]
    pub fn position(&self) -> [f64; 3] {
        self.world_from_camera.map(|row| row[3])
    }

    /// [`Self::position`] as a vector.
    pub(crate) fn place(&self) -> DVec3 {
        DVec3::from(self.position())
    }

    /// [`Self::forward`] as a vector.
    pub(crate) fn direction(&self) -> DVec3 {
        DVec3::from(self.forward().map(f64::from))
    }

    /// The unit view direction (−z of the camera) in world space.
    #[must_use]
    pub fn forward(&self) -> [f32; 3] {
        let forward = self.rotate(DVec3::NEG_Z).normalize_or(DVec3::NEG_Z);
        forward.to_array().map(|v| v as f32)
    }

    /// Return the ray through the image point (`px`, `py`): origin in world units and unit direction.
    ///
    /// `px`, `py` are pixels from the top-left corner: pass column + 0.5 for a pixel's centre. The distortion is inverted by
    /// damped Newton iterations in f64 (see [`Camera::lens_is_invertible`]); where it is not invertible (the model folds over),
    /// the last iterate is returned. This is the CPU reference of the GPU ray generator.
    #[must_use]
    pub fn ray(&self, px: f32, py: f32) -> ([f64; 3], [f64; 3]) {
        let q = self.image_plane(f64::from(px), f64::from(py));
        let (seen, _) = self.lens.direction(q);
        let mut origin = self.place();
        if self.lens == Lens::Orthographic {
            origin += self.rotate(DVec3::new(q[0], -q[1], 0.0));
        }
        let direction = DVec3::new(seen.x, -seen.y, -seen.z);
        let direction = self.rotate(direction).normalize_or(DVec3::NEG_Z);
        (origin.to_array(), direction.to_array())
    }

    /// Project the world-space `point` to image coordinates (pixels, y down); `None` behind a
    /// perspective or orthographic camera or at the camera centre. The result may lie outside the
    /// image.
    #[must_use]
    pub fn project(&self, point: [f64; 3]) -> Option<[f64; 2]> {
        let offset = DVec3::from(point) - self.place();
        let column = |i: usize| DVec3::from(self.world_from_camera.map(|row| row[i]));
        let seen = DVec3::new(
            column(0).dot(offset),
            -column(1).dot(offset),
            -column(2).dot(offset),
        );
        let q = self.lens.project(seen)?;
        Some([
            q[0] * f64::from(self.focal[0]) + f64::from(self.principal[0]),
            q[1] * f64::from(self.focal[1]) + f64::from(self.principal[1]),
        ])
    }

    /// Whether undistortion converges at the image's corners and edge centres, and hence almost
    /// everywhere.
    #[must_use]
    pub fn lens_is_invertible(&self) -> bool {
        let (w, h) = (f64::from(self.width), f64::from(self.height));
        let border = [
            (0.0, 0.0),
            (0.5, 0.0),
            (1.0, 0.0),
            (0.0, 0.5),
            (1.0, 0.5),
            (0.0, 1.0),
            (0.5, 1.0),
            (1.0, 1.0),
        ];
        border
            .iter()
            .all(|(u, v)| self.lens.direction(self.image_plane(u * w, v * h)).1)
    }

    /// Return the point on the image plane, in focal lengths from the principal point, of a point in pixels.
    fn image_plane(&self, px: f64, py: f64) -> [f64; 2] {
        [
            (px - f64::from(self.principal[0])) / f64::from(self.focal[0]),
            (py - f64::from(self.principal[1])) / f64::from(self.focal[1]),
        ]
    }

    fn rotate(&self, v: DVec3) -> DVec3 {
        let row = |i: usize| {
            let [x, y, z, _] = self.world_from_camera[i];
            DVec3::new(x, y, z)
        };
        DVec3::new(row(0).dot(v), row(1).dot(v), row(2).dot(v))
    }
}

/// Return the point with the smallest sum of distances to the cameras' optical axes (world units), which is robust to outlier
/// cameras; `None` if the axes are nearly parallel.
///
/// Iteratively reweighted least squares (Weiszfeld 1937): Σ w (I − d dᵀ) (x − p) = 0, where w is the reciprocal of the distance
/// in the previous iteration.
#[must_use]
pub fn focus(cameras: &[Camera]) -> Option<DVec3> {
    const ROUNDS: usize = 12;
    let axes: Vec<(DVec3, DVec3)> = cameras.iter().map(|c| (c.place(), c.direction())).collect();
    let mut found: Option<DVec3> = None;
    for _ in 0..ROUNDS {
        let (mut matrix, mut right, mut total) = (DMat3::ZERO, DVec3::ZERO, 0.0);
        for &(p, d) in &axes {
            let weight = found.map_or(1.0, |x| {
                let off = (x - p).reject_from_normalized(d).length();
                // The second term bounds the weight of axes that pass almost exactly through the point.
                1.0 / (off + 1e-3 * x.distance(p)).max(1e-9)
            });
            let across = DMat3::IDENTITY - DMat3::from_cols(d * d.x, d * d.y, d * d.z);
            matrix += across * weight;
            right += across * p * weight;
            total += weight;
        }
        // Axes that span one degree give a determinant of about 1e-4.
        let is_clear = axes.len() > 1 && (matrix * (1.0 / total)).determinant() > 1e-4;
        let next = is_clear.then(|| matrix.inverse() * right)?;
        if !next.is_finite() {
            return found;
        }
        found = Some(next);
    }
    found
}

/// Return the up direction of `cameras`.
///
/// It is perpendicular to the right axes of cameras that are held level, which determine it if they point in different
/// directions; else it is the mean of the cameras' up directions. A world axis (either sign) takes its place if it is within 8°
/// of the former, or within 37° of the latter.
#[must_use]
pub fn upwards(cameras: &[Camera]) -> DVec3 {
    let axis = |c: &Camera, column: usize| DVec3::from(c.world_from_camera.map(|row| row[column]));
    let mean = cameras.iter().map(|c| axis(c, 1)).sum::<DVec3>();
    let mean = mean.normalize_or(DVec3::Z);
    let level = perpendicular(cameras.iter().map(|c| axis(c, 0)));
    let (up, least) = match level {
        Some(level) if level.dot(mean).abs() > LEVEL => (level * level.dot(mean).signum(), 0.99),
        _ => (mean, 0.8),
    };
    [DVec3::X, DVec3::Y, DVec3::Z]
        .into_iter()
        .flat_map(|a| [a, -a])
        .find(|a| a.dot(up) > least)
        .unwrap_or(up)
}

/// Minimum cosine between the mean of the cameras' up directions and the normal of their right axes.
const LEVEL: f64 = 0.5;

/// Return the unit vector that is most nearly perpendicular to all `vectors`, or `None` if they do not determine it: if they lie
/// near a line, or in no plane.
fn perpendicular(vectors: impl Iterator<Item = DVec3>) -> Option<DVec3> {
    // The eigenvectors of the sum of v vᵀ, by power iteration.
    let mut sum = DMat3::ZERO;
    let mut n = 0.0;
    for v in vectors {
        sum += DMat3::from_cols(v * v.x, v * v.y, v * v.z);
        n += v.length_squared();
    }
    let dominant = |m: DMat3| {
        let mut v = DVec3::new(0.577, 0.613, 0.541);
        for _ in 0..200 {
            v = (m * v).normalize_or(v);
        }
        (v, v.dot(m * v))
    };
    let (first, largest) = dominant(sum);
    let rest = sum - DMat3::from_cols(first * first.x, first * first.y, first * first.z) * largest;
    let (second, middle) = dominant(rest);
    let smallest = n - largest - middle;
    let is_plane = middle > 0.05 * n && smallest < 0.2 * middle;
    is_plane.then(|| first.cross(second).normalize_or(DVec3::Z))
}

/// Return the focal length in pixels of an image side of `side` pixels with the full field of view `angle`
/// (radians): ½ side / tan(½ angle).
pub(crate) fn focal_from_angle(angle: f64, side: f64) -> f64 {
    0.5 * side / (0.5 * angle).tan()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cameras around the origin that are held level, `up` away from the z axis.
    fn around(up: DVec3, heights: [f64; 3]) -> Vec<Camera> {
        let x = up.any_orthonormal_vector();
        let y = up.cross(x);
        (0..12)
            .map(|i| {
                let angle = f64::from(i) * std::f64::consts::TAU / 12.0;
                let height = heights[i as usize % 3];
                let eye = 4.0 * (angle.cos() * x + angle.sin() * y) + height * up;
                let [eye, up] = [eye, up].map(|v| v.to_array().map(|v| v as f32));
                Camera::look_at(eye, [0.0; 3], up, 0.8, 8, 8)
            })
            .collect()
    }

    #[test]
    fn up_is_what_level_cameras_agree_on() {
        // A tilt of 30°, as structure from motion leaves it, and one of 2°, which is a world axis held imprecisely.
        for (tilt, expected) in [
            (30.0_f64, None),
            (2.0, Some(DVec3::Z)),
            (90.0, Some(DVec3::Y)),
        ] {
            let (sin, cos) = tilt.to_radians().sin_cos();
            let up = DVec3::new(0.0, sin, cos);
            for heights in [[1.0, 2.0, 3.0], [-1.0, 0.5, 1.0]] {
                let found = upwards(&around(up, heights));
                let expected = expected.unwrap_or(up);
                assert!(found.dot(expected) > 0.9999, "{tilt}: {found}");
            }
        }
        // Cameras that look one way say nothing about it: their mean up direction, snapped to an axis.
        let one_way: Vec<Camera> = (0..4_u8)
            .map(|i| {
                let x = f32::from(i);
                Camera::look_at([x, 0.0, 5.0], [x, 0.5, 0.0], [0.0, 1.0, 0.0], 0.8, 8, 8)
            })
            .collect();
        assert_eq!(upwards(&one_way), DVec3::Y);
        assert_eq!(upwards(&[]), DVec3::Z);
    }
}
