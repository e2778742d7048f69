//! Camera models: the ray through each pixel (origin and direction), projection, and lens distortion.
//!
//! All poses are OpenGL camera-to-world matrices (x right, y up, looking along −z), as in the
//! NeRF-synthetic and nerfstudio formats.
//!
//! Pixel coordinates start at the top-left corner of the image, y down; the centre of the first pixel is (0.5, 0.5).

use glam::{DMat3, DVec3};

/// Maximum number of Newton steps; well-behaved lenses need three or four.
const MAX_NEWTON_STEPS: usize = 32;
/// Residual, in focal lengths, below which undistortion has converged.
const CONVERGED: f64 = 1e-12;

/// A camera model: a projection, and the distortion between the ideal image plane and the pixels.
///
/// Coefficients are dimensionless: they act on image-plane coordinates in focal lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lens {
    /// No distortion.
    Pinhole,
    /// `OpenCV`'s perspective model: radial `k1 k2 k3`, tangential `p1 p2` (Brown 1966).
    OpenCv {
        /// Radial coefficient of r².
        k1: f32,
        /// Radial coefficient of r⁴.
        k2: f32,
        /// Radial coefficient of r⁶.
        k3: f32,
        /// First tangential coefficient.
        p1: f32,
        /// Second tangential coefficient.
        p2: f32,
    },
    /// `OpenCV`'s fisheye model: θd = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) (Kannala and Brandt
    /// 2006).
    OpenCvFisheye {
        /// Coefficient of θ².
        k1: f32,
        /// Coefficient of θ⁴.
        k2: f32,
        /// Coefficient of θ⁶.
        k3: f32,
        /// Coefficient of θ⁸.
        k4: f32,
    },
    /// Parallel rays, which start on the plane through the camera centre. A focal length is the
    /// number of pixels per world unit.
    Orthographic,
    /// Latitude and longitude: columns are angles around the camera's y axis, rows angles above
    /// its xz plane; the principal point looks along −z. A focal length is the number of pixels
    /// per radian: width / 2π and height / π cover the whole sphere.
    Equirectangular,
}

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
        let ([x, y], _) = self.undistort_pixel(f64::from(px), f64::from(py));
        let direction = match self.lens {
            Lens::OpenCvFisheye { .. } => {
                let theta = x.hypot(y);
                let sinc = if theta > 1e-9 {
                    theta.sin() / theta
                } else {
                    1.0
                };
                DVec3::new(x * sinc, -y * sinc, -theta.cos())
            }
            Lens::Equirectangular => DVec3::new(y.cos() * x.sin(), -y.sin(), -y.cos() * x.cos()),
            Lens::Orthographic => DVec3::NEG_Z,
            Lens::Pinhole | Lens::OpenCv { .. } => DVec3::new(x, -y, -1.0),
        };
        let mut origin = self.place();
        if self.lens == Lens::Orthographic {
            origin += self.rotate(DVec3::new(x, -y, 0.0));
        }
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
        let (x, y, z) = (
            column(0).dot(offset),
            -column(1).dot(offset),
            -column(2).dot(offset),
        );
        let plane = match self.lens {
            Lens::OpenCvFisheye { .. } => {
                let radius = x.hypot(y);
                if radius == 0.0 && z <= 0.0 {
                    return None;
                }
                let scale = if radius > 0.0 {
                    radius.atan2(z) / radius
                } else {
                    0.0
                };
                [x * scale, y * scale]
            }
            Lens::Equirectangular => {
                let distance = x.hypot(y).hypot(z);
                if distance == 0.0 {
                    return None;
                }
                [x.atan2(z), (y / distance).clamp(-1.0, 1.0).asin()]
            }
            Lens::Orthographic if z >= 0.0 => [x, y],
            Lens::Pinhole | Lens::OpenCv { .. } if z > 0.0 => [x / z, y / z],
            Lens::Orthographic | Lens::Pinhole | Lens::OpenCv { .. } => return None,
        };
        let distorted = self.lens.distort(plane);
        Some([
            distorted[0] * f64::from(self.focal[0]) + f64::from(self.principal[0]),
            distorted[1] * f64::from(self.focal[1]) + f64::from(self.principal[1]),
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
            .all(|(u, v)| self.undistort_pixel(u * w, v * h).1)
    }

    /// Return the undistorted image-plane point of a pixel, and whether the iteration converged.
    fn undistort_pixel(&self, px: f64, py: f64) -> ([f64; 2], bool) {
        self.lens.undistort([
            (px - f64::from(self.principal[0])) / f64::from(self.focal[0]),
            (py - f64::from(self.principal[1])) / f64::from(self.focal[1]),
        ])
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

/// Return the mean up direction of `cameras`, snapped to a world axis (either sign) if one is within 37° of it.
#[must_use]
pub fn upwards(cameras: &[Camera]) -> DVec3 {
    let up = |c: &Camera| DVec3::from(c.world_from_camera.map(|row| row[1]));
    let up = cameras.iter().map(up).sum::<DVec3>().normalize_or(DVec3::Z);
    [DVec3::X, DVec3::Y, DVec3::Z]
        .into_iter()
        .flat_map(|a| [a, -a])
        .find(|a| a.dot(up) > 0.8)
        .unwrap_or(up)
}

/// Return the focal length in pixels of an image side of `side` pixels with the full field of view `angle`
/// (radians): ½ side / tan(½ angle).
pub(crate) fn focal_from_angle(angle: f64, side: f64) -> f64 {
    0.5 * side / (0.5 * angle).tan()
}

impl Lens {
    /// Distort an ideal image-plane point; the result is in focal lengths, y down.
    ///
    /// For [`Lens::OpenCvFisheye`] the ideal point is the direction's angle from the axis, θ, times
    /// the unit vector towards the point; for [`Lens::Equirectangular`] it is longitude and latitude in
    /// radians, for [`Lens::Orthographic`] a point in world units, otherwise the perspective projection.
    #[must_use]
    pub fn distort(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        match *self {
            Lens::Pinhole | Lens::Orthographic | Lens::Equirectangular => [x, y],
            Lens::OpenCv { .. } => self.distort_opencv([x, y]).0,
            Lens::OpenCvFisheye { .. } => {
                let scale = self.fisheye_scale(x.hypot(y)).0;
                [x * scale, y * scale]
            }
        }
    }

    /// Return the inverse of [`Lens::distort`], and whether the iteration converged.
    ///
    /// Newton's method, started at the distorted point. A step is halved until it lowers the residual; the
    /// iteration stops where the model folds over (the Jacobian is not positive definite).
    #[must_use]
    pub fn undistort(&self, distorted: [f64; 2]) -> ([f64; 2], bool) {
        match self {
            Lens::Pinhole | Lens::Orthographic | Lens::Equirectangular => (distorted, true),
            Lens::OpenCv { .. } => self.undistort_opencv(distorted),
            Lens::OpenCvFisheye { .. } => {
                let radius = distorted[0].hypot(distorted[1]);
                if radius < CONVERGED {
                    return (distorted, true);
                }
                let (theta, converged) = self.undistort_fisheye(radius);
                (distorted.map(|v| v * theta / radius), converged)
            }
        }
    }

    /// Return the distorted point and the symmetric Jacobian [∂u/∂x, ∂u/∂y = ∂v/∂x, ∂v/∂y] of the perspective model.
    fn distort_opencv(&self, [x, y]: [f64; 2]) -> ([f64; 2], [f64; 3]) {
        let Lens::OpenCv { k1, k2, k3, p1, p2 } = *self else {
            return ([x, y], [1.0, 0.0, 1.0]);
        };
        let [k1, k2, k3, p1, p2] = [k1, k2, k3, p1, p2].map(f64::from);
        let r2 = x * x + y * y;
        let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
        let slope = k1 + r2 * (2.0 * k2 + r2 * 3.0 * k3); // d radial / d r²
        let point = [
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ];
        let jacobian = [
            radial + 2.0 * x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x,
            2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y,
            radial + 2.0 * y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x,
        ];
        (point, jacobian)
    }

    fn undistort_opencv(&self, target: [f64; 2]) -> ([f64; 2], bool) {
        let residual = |at: [f64; 2]| {
            let (point, jacobian) = self.distort_opencv(at);
            ([point[0] - target[0], point[1] - target[1]], jacobian)
        };
        let mut at = target;
        let (mut error, mut jacobian) = residual(at);
        for _ in 0..MAX_NEWTON_STEPS {
            let size = error[0].hypot(error[1]);
            let [a, b, d] = jacobian;
            let determinant = a * d - b * b;
            let folded = determinant.is_nan() || determinant <= 1e-9 || a + d <= 0.0;
            if size <= CONVERGED || folded {
                return (at, !folded && size <= CONVERGED);
            }
            let step = [
                (d * error[0] - b * error[1]) / determinant,
                (a * error[1] - b * error[0]) / determinant,
            ];
            let better = (0..8).map(|halving| 0.5_f64.powi(halving)).find_map(|t| {
                let next = [at[0] - t * step[0], at[1] - t * step[1]];
                let (error, jacobian) = residual(next);
                (error[0].hypot(error[1]) < size).then_some((next, error, jacobian))
            });
            let Some(better) = better else {
                return (at, size <= 1e-9); // at the limit of f64, or at a fold
            };
            (at, error, jacobian) = better;
        }
        (at, error[0].hypot(error[1]) <= 1e-9)
    }

    /// Return θd / θ and dθd / dθ of the fisheye model.
    fn fisheye_scale(&self, theta: f64) -> (f64, f64) {
        let Lens::OpenCvFisheye { k1, k2, k3, k4 } = *self else {
            return (1.0, 1.0);
        };
        let [k1, k2, k3, k4] = [k1, k2, k3, k4].map(f64::from);
        let t = theta * theta;
        let scale = 1.0 + t * (k1 + t * (k2 + t * (k3 + t * k4)));
        let slope = 1.0 + t * (3.0 * k1 + t * (5.0 * k2 + t * (7.0 * k3 + t * 9.0 * k4)));
        (scale, slope)
    }

    /// Return the angle θ in [0, π] whose distorted angle is `target`, and whether the iteration converged.
    fn undistort_fisheye(&self, target: f64) -> (f64, bool) {
        let pi = std::f64::consts::PI;
        let residual = |theta: f64| theta * self.fisheye_scale(theta).0 - target;
        let mut theta = target.min(pi);
        for _ in 0..MAX_NEWTON_STEPS {
            let (error, slope) = (residual(theta), self.fisheye_scale(theta).1);
            if error.abs() <= CONVERGED || slope.is_nan() || slope <= 1e-9 {
                return (theta, slope > 1e-9 && error.abs() <= CONVERGED);
            }
            let better = (0..8)
                .map(|halving| (theta - 0.5_f64.powi(halving) * error / slope).clamp(0.0, pi))
                .find(|&next| residual(next).abs() < error.abs());
            let Some(better) = better else {
                return (theta, error.abs() <= 1e-9);
            };
            theta = better;
        }
        (theta, residual(theta).abs() <= 1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distortion_follows_the_formulas() {
        let lens = Lens::OpenCv {
            k1: 0.1,
            k2: 0.01,
            k3: 0.001,
            p1: 0.002,
            p2: 0.003,
        };
        // r² = 0.3125; radial = 1 + 0.03125 + 0.0009765625 + 0.0000305176 = 1.0322570801
        // u = 0.5 radial + 2 p1 (−0.125) + p2 (r² + 0.5) = 0.51612854 − 0.0005 + 0.0024375
        // v = −0.25 radial + p1 (r² + 0.125) + 2 p2 (−0.125) = −0.25806427 + 0.000875 − 0.00075
        let [u, v] = lens.distort([0.5, -0.25]);
        assert!((u - 0.518_066_04).abs() < 1e-8 && (v + 0.257_939_27).abs() < 1e-8);
        let lens = Lens::OpenCvFisheye {
            k1: 0.1,
            k2: 0.02,
            k3: 0.003,
            k4: 0.0004,
        };
        // θ = 0.5: 1 + 0.1/4 + 0.02/16 + 0.003/64 + 0.0004/256 = 1.0262984375, times 0.6 and 0.8 of θ.
        let [u, v] = lens.distort([0.3, 0.4]);
        assert!((u - 0.307_889_53).abs() < 1e-8 && (v - 0.410_519_375).abs() < 1e-8);
    }

    #[test]
    fn undistortion_inverts_distortion_to_f64() {
        let lens = Lens::OpenCv {
            k1: -0.2,
            k2: 0.05,
            k3: 0.0,
            p1: 1e-3,
            p2: -2e-3,
        };
        let ideal = [0.31, -0.47];
        let (back, converged) = lens.undistort(lens.distort(ideal));
        assert!(converged);
        assert!((back[0] - ideal[0]).abs() < 1e-11 && (back[1] - ideal[1]).abs() < 1e-11);
    }

    #[test]
    fn opencv_jacobian_matches_finite_differences() {
        let lens = Lens::OpenCv {
            k1: -0.2,
            k2: 0.05,
            k3: 0.03,
            p1: 1e-2,
            p2: -2e-2,
        };
        let ([x, y], h) = ([0.6, -0.4], 1e-6);
        let (_, jacobian) = lens.distort_opencv([x, y]);
        let slope = |plus: [f64; 2], minus: [f64; 2]| {
            let (plus, minus) = (lens.distort(plus), lens.distort(minus));
            [0, 1].map(|i| (plus[i] - minus[i]) / (2.0 * h))
        };
        let numeric = [slope([x + h, y], [x - h, y]), slope([x, y + h], [x, y - h])];
        let numeric = [numeric[0][0], numeric[0][1], numeric[1][0], numeric[1][1]];
        let analytic = [jacobian[0], jacobian[1], jacobian[1], jacobian[2]];
        for (analytic, numeric) in analytic.into_iter().zip(numeric) {
            assert!((analytic - numeric).abs() < 1e-8, "{analytic} {numeric}");
        }
    }

    #[test]
    fn a_pixel_beyond_the_fold_is_reported_and_stays_finite() {
        // r (1 − r²/3) has its maximum 2/3 at r = 1: distorted radii above 2/3 have no preimage.
        let lens = Lens::OpenCv {
            k1: -1.0 / 3.0,
            k2: 0.0,
            k3: 0.0,
            p1: 0.0,
            p2: 0.0,
        };
        assert!(lens.undistort([0.6, 0.0]).1);
        for x in [0.7, 1.0, 5.0, 1e6] {
            let (point, converged) = lens.undistort([x, 0.0]);
            assert!(!converged && point.iter().all(|v| v.is_finite()), "{x}");
        }
    }
}
