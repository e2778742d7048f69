//! Lenses: the direction in the camera's space that each point of the image plane shows, and the inverse.
//!
//! Points of the image plane are in focal lengths from the principal point, x right, y down. Directions are in the camera's
//! space, x right, y down, z forward, and need not have unit length. The models are those of COLMAP (Schönberger and Frahm
//! 2016), `OpenCV` and Instant-NGP.

use glam::{DMat2, DVec2, DVec3};

/// Maximum number of Newton steps; well-behaved lenses need three or four.
const MAX_NEWTON_STEPS: usize = 32;
/// Residual, in focal lengths, below which undistortion has converged.
const CONVERGED: f64 = 1e-12;
/// Residual, in focal lengths, that is accepted where no step lowers it further.
const NEARLY_CONVERGED: f64 = 1e-9;

/// A camera model: a projection, and the distortion between the ideal image plane and the pixels.
///
/// Coefficients are dimensionless: they act on image-plane coordinates in focal lengths. For an ideal point (x, y) with
/// r² = x² + y², tangential coefficients `p1 p2` add (2 p1 x y + p2 (r² + 2 x²), p1 (r² + 2 y²) + 2 p2 x y).
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
    /// `OpenCV`'s rational model: the radial factor is (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶).
    FullOpenCv {
        /// `k1` to `k6`.
        k: [f32; 6],
        /// `p1 p2`.
        p: [f32; 2],
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
    /// A fisheye lens whose ideal point, at distance θ from the centre, is distorted radially, tangentially, and by a thin
    /// prism: + (sx r², sy r²) (Weng et al. 1992).
    ThinPrismFisheye {
        /// Coefficients of θ², θ⁴, θ⁶ and θ⁸.
        k: [f32; 4],
        /// `p1 p2`.
        p: [f32; 2],
        /// `sx sy`.
        s: [f32; 2],
    },
    /// The same with the tangential and prism terms of the radially distorted point, and prism terms
    /// (s0 r² + s1 r⁴, s2 r² + s3 r⁴): Project Aria's Fisheye624.
    RadTanThinPrismFisheye {
        /// Coefficients of θ² to θ¹².
        k: [f32; 6],
        /// `p1 p2`, which Project Aria calls `p1 p0`.
        p: [f32; 2],
        /// `s0` to `s3`.
        s: [f32; 4],
    },
    /// The field-of-view model: rd = atan(2 r tan(ω / 2)) / ω (Devernay and Faugeras 2001).
    Fov {
        /// ω in radians, positive.
        omega: f32,
    },
    /// The division model: the point at rd shows the ideal point at rd / (1 + k rd²) (Fitzgibbon 2001).
    Division {
        /// k.
        k: f32,
    },
    /// The enhanced unified camera model: (X, Y) / (α √(β (X² + Y²) + Z²) + (1 − α) Z) (Khomutenko et al. 2016).
    Eucm {
        /// α, 0 to 1.
        alpha: f32,
        /// β, positive.
        beta: f32,
    },
    /// Parallel rays, which start on the plane through the camera centre. A focal length is the
    /// number of pixels per world unit.
    Orthographic,
    /// Latitude and longitude: columns are angles around the camera's y axis, rows angles above
    /// its xz plane; the principal point looks along −z. A focal length is the number of pixels
    /// per radian: width / 2π and height / π cover the whole sphere.
    Equirectangular,
}

impl Lens {
    /// Return whether the lens shows the plane at depth 1 through a distortion that is the identity at the centre.
    #[must_use]
    pub fn is_perspective(&self) -> bool {
        matches!(
            self,
            Self::Pinhole | Self::OpenCv { .. } | Self::FullOpenCv { .. }
        )
    }

    /// Return whether all coefficients are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let all = |coefficients: &[f32]| coefficients.iter().all(|v| v.is_finite());
        match self {
            Self::Pinhole | Self::Orthographic | Self::Equirectangular => true,
            Self::OpenCv { k1, k2, k3, p1, p2 } => all(&[*k1, *k2, *k3, *p1, *p2]),
            Self::OpenCvFisheye { k1, k2, k3, k4 } => all(&[*k1, *k2, *k3, *k4]),
            Self::FullOpenCv { k, p } => all(k) && all(p),
            Self::ThinPrismFisheye { k, p, s } => all(k) && all(p) && all(s),
            Self::RadTanThinPrismFisheye { k, p, s } => all(k) && all(p) && all(s),
            Self::Fov { omega } => omega.is_finite(),
            Self::Division { k } => k.is_finite(),
            Self::Eucm { alpha, beta } => all(&[*alpha, *beta]),
        }
    }

    /// Return the direction that the image point `q` shows, and whether the lens has one and the iteration found it.
    ///
    /// Orthographic lenses show z everywhere. Where a lens without closed form has no direction, the result is the last
    /// iterate of Newton's method.
    #[must_use]
    pub fn direction(&self, q: [f64; 2]) -> (DVec3, bool) {
        let q = DVec2::from(q);
        let r2 = q.length_squared();
        match *self {
            Self::Pinhole => (q.extend(1.0), true),
            Self::Orthographic => (DVec3::Z, true),
            Self::Equirectangular => {
                let (lon, lat) = (q.x.sin_cos(), q.y.sin_cos());
                (DVec3::new(lat.1 * lon.0, lat.0, lat.1 * lon.1), true)
            }
            Self::OpenCvFisheye { .. } => {
                let radius = r2.sqrt();
                let (theta, converged) = self.undistort_fisheye(radius);
                let ideal = if radius > CONVERGED {
                    q * (theta / radius)
                } else {
                    q
                };
                (from_equidistant(ideal), converged)
            }
            Self::Fov { omega } => {
                let omega = f64::from(omega);
                let (rd, c) = (r2.sqrt(), 2.0 * (0.5 * omega).tan());
                let angle = rd * omega;
                let scale = if rd > CONVERGED {
                    angle.sin() / (c * rd)
                } else {
                    omega / c
                };
                (
                    (q * scale).extend(angle.cos()),
                    angle < std::f64::consts::PI,
                )
            }
            Self::Division { k } => {
                let k = f64::from(k);
                (q.extend(1.0 + k * r2), k * r2 < 1.0)
            }
            Self::Eucm { alpha, beta } => {
                let (alpha, beta) = (f64::from(alpha), f64::from(beta));
                let radicand = 1.0 - (2.0 * alpha - 1.0) * beta * r2;
                let divisor = alpha * radicand.max(0.0).sqrt() + 1.0 - alpha;
                let depth = (1.0 - alpha * alpha * beta * r2) / divisor.max(f64::EPSILON);
                (q.extend(depth), radicand >= 0.0 && divisor > f64::EPSILON)
            }
            Self::OpenCv { .. } | Self::FullOpenCv { .. } => {
                let (ideal, converged) = Distortion::of(self).invert(q);
                (ideal.extend(1.0), converged)
            }
            Self::ThinPrismFisheye { .. } | Self::RadTanThinPrismFisheye { .. } => {
                let (ideal, converged) = Distortion::of(self).invert(q);
                (
                    from_equidistant(ideal),
                    converged && ideal.length() <= std::f64::consts::PI,
                )
            }
        }
    }

    /// Return the image point that shows the direction `d`, or the position `d` for an orthographic lens; `None` if none does.
    #[must_use]
    pub fn project(&self, d: DVec3) -> Option<[f64; 2]> {
        let flat = d.truncate();
        let across = flat.length();
        let q = match *self {
            Self::Pinhole if d.z > 0.0 => flat / d.z,
            Self::OpenCv { .. } | Self::FullOpenCv { .. } if d.z > 0.0 => {
                Distortion::of(self).apply(flat / d.z).0
            }
            Self::Orthographic if d.z >= 0.0 => flat,
            Self::Pinhole | Self::OpenCv { .. } | Self::FullOpenCv { .. } | Self::Orthographic => {
                return None;
            }
            Self::Equirectangular => {
                let distance = d.length();
                if distance == 0.0 {
                    return None;
                }
                DVec2::new(d.x.atan2(d.z), (d.y / distance).clamp(-1.0, 1.0).asin())
            }
            Self::OpenCvFisheye { .. } => {
                let ideal = to_equidistant(d)?;
                ideal * self.fisheye_scale(ideal.length()).0
            }
            Self::ThinPrismFisheye { .. } | Self::RadTanThinPrismFisheye { .. } => {
                Distortion::of(self).apply(to_equidistant(d)?).0
            }
            Self::Fov { omega } => {
                let omega = f64::from(omega);
                if across == 0.0 {
                    return (d.z > 0.0).then_some([0.0; 2]);
                }
                let c = 2.0 * (0.5 * omega).tan();
                flat * ((c * across).atan2(d.z) / (omega * across))
            }
            Self::Division { k } => {
                let root = d.z * d.z - 4.0 * f64::from(k) * across * across;
                let divisor = d.z + root.max(0.0).sqrt();
                if root < 0.0 || divisor <= 0.0 {
                    return None;
                }
                flat * (2.0 / divisor)
            }
            Self::Eucm { alpha, beta } => {
                let (alpha, beta) = (f64::from(alpha), f64::from(beta));
                let rho = (beta * across * across + d.z * d.z).sqrt();
                let divisor = alpha * rho + (1.0 - alpha) * d.z;
                if divisor <= 0.0 {
                    return None;
                }
                flat / divisor
            }
        };
        Some(q.to_array())
    }

    /// Return θd / θ and dθd / dθ of `OpenCV`'s fisheye model.
    fn fisheye_scale(&self, theta: f64) -> (f64, f64) {
        let Self::OpenCvFisheye { k1, k2, k3, k4 } = *self else {
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
                return (theta, error.abs() <= NEARLY_CONVERGED);
            };
            theta = better;
        }
        (theta, residual(theta).abs() <= NEARLY_CONVERGED)
    }
}

/// Return the direction at angle |p| from the axis, towards p.
fn from_equidistant(p: DVec2) -> DVec3 {
    let theta = p.length();
    let sinc = if theta > 1e-9 {
        theta.sin() / theta
    } else {
        1.0
    };
    (p * sinc).extend(theta.cos())
}

/// Return the angle of `d` from the axis times the unit vector towards it, unless that is not defined.
fn to_equidistant(d: DVec3) -> Option<DVec2> {
    let across = d.truncate().length();
    if across == 0.0 {
        return (d.z > 0.0).then_some(DVec2::ZERO);
    }
    Some(d.truncate() * (across.atan2(d.z) / across))
}

/// A distortion of the plane by polynomials.
#[derive(Clone, Copy, Debug, Default)]
struct Distortion {
    /// Coefficients of r² to r¹² in the radial factor.
    radial: [f64; 6],
    /// Coefficients of r² to r⁶ in its divisor.
    divisor: [f64; 3],
    /// `p1 p2`.
    tangential: [f64; 2],
    /// Coefficients of r² and r⁴ along x, then along y.
    prism: [f64; 4],
    /// Whether the tangential and prism terms act on the radially distorted point.
    is_radial_first: bool,
}

impl Distortion {
    fn of(lens: &Lens) -> Self {
        match *lens {
            Lens::OpenCv { k1, k2, k3, p1, p2 } => Self {
                radial: [k1, k2, k3, 0.0, 0.0, 0.0].map(f64::from),
                tangential: [p1, p2].map(f64::from),
                ..Self::default()
            },
            Lens::FullOpenCv { k, p } => Self {
                radial: [k[0], k[1], k[2], 0.0, 0.0, 0.0].map(f64::from),
                divisor: [k[3], k[4], k[5]].map(f64::from),
                tangential: p.map(f64::from),
                ..Self::default()
            },
            Lens::ThinPrismFisheye { k, p, s } => Self {
                radial: [k[0], k[1], k[2], k[3], 0.0, 0.0].map(f64::from),
                tangential: p.map(f64::from),
                prism: [s[0], 0.0, s[1], 0.0].map(f64::from),
                ..Self::default()
            },
            Lens::RadTanThinPrismFisheye { k, p, s } => Self {
                radial: k.map(f64::from),
                tangential: p.map(f64::from),
                prism: s.map(f64::from),
                is_radial_first: true,
                ..Self::default()
            },
            Lens::Pinhole
            | Lens::OpenCvFisheye { .. }
            | Lens::Fov { .. }
            | Lens::Division { .. }
            | Lens::Eucm { .. }
            | Lens::Orthographic
            | Lens::Equirectangular => Self::default(),
        }
    }

    /// Return the distorted point and the Jacobian.
    fn apply(&self, at: DVec2) -> (DVec2, DMat2) {
        let r2 = at.length_squared();
        let (above, above_slope) = polynomial(&self.radial, r2);
        let (below, below_slope) = polynomial(&self.divisor, r2);
        let radial = above / below;
        let slope = 2.0 * (above_slope - radial * below_slope) / below;
        let scaled = at * radial;
        let mixed = at.x * at.y * slope;
        let jacobian = DMat2::from_cols(
            DVec2::new(radial + at.x * at.x * slope, mixed),
            DVec2::new(mixed, radial + at.y * at.y * slope),
        );
        let base = if self.is_radial_first { scaled } else { at };
        let ([p1, p2], [x2, x4, y2, y4]) = (self.tangential, self.prism);
        let (s, (x, y)) = (base.length_squared(), base.into());
        let moved = DVec2::new(
            2.0 * p1 * x * y + p2 * (s + 2.0 * x * x) + s * (x2 + s * x4),
            p1 * (s + 2.0 * y * y) + 2.0 * p2 * x * y + s * (y2 + s * y4),
        );
        let prism = 2.0 * DVec2::new(x2 + 2.0 * s * x4, y2 + 2.0 * s * y4);
        let across = 2.0 * (p1 * x + p2 * y);
        let moves = DMat2::from_cols(
            DVec2::new(2.0 * p1 * y + 6.0 * p2 * x, across) + x * prism,
            DVec2::new(across, 6.0 * p1 * y + 2.0 * p2 * x) + y * prism,
        );
        let moves = if self.is_radial_first {
            moves * jacobian
        } else {
            moves
        };
        (scaled + moved, jacobian + moves)
    }

    /// Return the point that [`Self::apply`] moves to `target`, and whether the iteration converged.
    ///
    /// Newton's method, started at the distorted point. A step is halved until it lowers the residual; the
    /// iteration stops where the model folds over (the Jacobian's determinant or trace is not positive).
    fn invert(&self, target: DVec2) -> (DVec2, bool) {
        let residual = |at: DVec2| {
            let (point, jacobian) = self.apply(at);
            (point - target, jacobian)
        };
        let mut at = target;
        let (mut error, mut jacobian) = residual(at);
        for _ in 0..MAX_NEWTON_STEPS {
            let size = error.length();
            let determinant = jacobian.determinant();
            let trace = jacobian.x_axis.x + jacobian.y_axis.y;
            let folded = determinant.is_nan() || determinant <= 1e-9 || trace <= 0.0;
            if size <= CONVERGED || folded {
                return (at, !folded && size <= CONVERGED);
            }
            let step = jacobian.inverse() * error;
            let better = (0..8).map(|halving| 0.5_f64.powi(halving)).find_map(|t| {
                let next = at - t * step;
                let (error, jacobian) = residual(next);
                (error.length() < size).then_some((next, error, jacobian))
            });
            let Some(better) = better else {
                return (at, size <= NEARLY_CONVERGED); // at the limit of f64, or at a fold
            };
            (at, error, jacobian) = better;
        }
        (at, error.length() <= NEARLY_CONVERGED)
    }
}

/// Return 1 + Σ c\[i\] tⁱ⁺¹ and its derivative.
fn polynomial(coefficients: &[f64], t: f64) -> (f64, f64) {
    let (mut value, mut slope) = (0.0, 0.0);
    for c in coefficients.iter().rev() {
        slope = slope * t + value + c;
        value = (value + c) * t;
    }
    (1.0 + value, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lenses of every kind, with coefficients that leave no term out.
    fn lenses() -> [Lens; 12] {
        [
            Lens::Pinhole,
            Lens::OpenCv {
                k1: -0.2,
                k2: 0.05,
                k3: 0.01,
                p1: 1e-3,
                p2: -2e-3,
            },
            Lens::FullOpenCv {
                k: [-0.2, 0.05, 0.01, 0.02, -0.01, 0.003],
                p: [1e-3, -2e-3],
            },
            Lens::OpenCvFisheye {
                k1: 0.1,
                k2: 0.02,
                k3: 0.003,
                k4: 0.0004,
            },
            Lens::ThinPrismFisheye {
                k: [0.05, -0.01, 0.002, 0.001],
                p: [1e-3, -2e-3],
                s: [3e-3, -1e-3],
            },
            Lens::RadTanThinPrismFisheye {
                k: [0.05, -0.01, 0.002, 0.001, -5e-4, 1e-4],
                p: [1e-3, -2e-3],
                s: [3e-3, -1e-3, 2e-3, 5e-4],
            },
            Lens::Fov { omega: 0.9 },
            Lens::Division { k: -0.2 },
            Lens::Division { k: 0.1 },
            Lens::Eucm {
                alpha: 0.6,
                beta: 1.1,
            },
            Lens::Equirectangular,
            Lens::Orthographic,
        ]
    }

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
        let [u, v] = lens.project(DVec3::new(1.0, -0.5, 2.0)).unwrap();
        assert!((u - 0.518_066_04).abs() < 1e-8 && (v + 0.257_939_27).abs() < 1e-8);
        let lens = Lens::OpenCvFisheye {
            k1: 0.1,
            k2: 0.02,
            k3: 0.003,
            k4: 0.0004,
        };
        // θ = 0.5: 1 + 0.1/4 + 0.02/16 + 0.003/64 + 0.0004/256 = 1.0262984375, times 0.6 and 0.8 of θ.
        let seen = from_equidistant(DVec2::new(0.3, 0.4));
        let [u, v] = lens.project(seen).unwrap();
        assert!((u - 0.307_889_53).abs() < 1e-8 && (v - 0.410_519_375).abs() < 1e-8);
    }

    #[test]
    fn directions_and_projections_are_inverse() {
        for lens in lenses() {
            for q in [[0.0, 0.0], [0.31, -0.47], [-0.62, 0.2], [0.05, 0.55]] {
                let (seen, converged) = lens.direction(q);
                let back = match lens {
                    Lens::Orthographic => lens.project(DVec3::new(q[0], q[1], 1.0)),
                    _ => lens.project(seen),
                };
                let back = back.unwrap();
                let error = (back[0] - q[0]).hypot(back[1] - q[1]);
                assert!(converged && error < 1e-11, "{lens:?} at {q:?}: {error:e}");
            }
        }
    }

    #[test]
    fn jacobians_match_finite_differences() {
        let (at, h) = (DVec2::new(0.6, -0.4), 1e-6);
        for lens in lenses() {
            let distortion = Distortion::of(&lens);
            let (_, jacobian) = distortion.apply(at);
            for (axis, analytic) in [(DVec2::X, jacobian.x_axis), (DVec2::Y, jacobian.y_axis)] {
                let [plus, minus] = [h, -h].map(|h| distortion.apply(at + h * axis).0);
                let numeric = (plus - minus) / (2.0 * h);
                assert!(
                    (analytic - numeric).length() < 1e-8,
                    "{lens:?}: {analytic} {numeric}"
                );
            }
        }
    }

    #[test]
    fn what_a_lens_does_not_show_is_reported_and_stays_finite() {
        // r (1 − r²/3) has its maximum 2/3 at r = 1: distorted radii above 2/3 have no preimage.
        let folding = Lens::OpenCv {
            k1: -1.0 / 3.0,
            k2: 0.0,
            k3: 0.0,
            p1: 0.0,
            p2: 0.0,
        };
        let unified = Lens::Eucm {
            alpha: 0.8,
            beta: 1.0,
        };
        // Radii up to 2/3, π / ω, 1 / √k and 1 / √((2 α − 1) β) are shown.
        let cases = [
            (folding, 0.6, 0.7),
            (Lens::Fov { omega: 1.0 }, 3.1, 3.2),
            (Lens::Division { k: 0.25 }, 1.9, 2.1),
            (unified, 1.2, 1.4),
        ];
        for (lens, inside, outside) in cases {
            assert!(lens.direction([inside, 0.0]).1, "{lens:?}");
            for x in [outside, 5.0 * outside, 1e6] {
                let (seen, shows) = lens.direction([x, 0.0]);
                assert!(!shows && seen.is_finite(), "{lens:?} at {x}: {seen}");
            }
        }
    }
}
