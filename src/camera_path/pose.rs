//! Position and orientation of a camera.

use glam::{DMat3, DQuat, DVec3};

/// Tolerance of the cosine between columns, and of the relative difference of their lengths.
const RIGID: f64 = 1e-2;

/// Camera-to-world pose with OpenGL's axes: x right, y up, looking along −z.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pose {
    pub position: DVec3,
    /// A unit quaternion.
    pub rotation: DQuat,
}

impl Pose {
    /// Create the pose with the rows of `[R | t]`; a uniform scale of R is dropped.
    pub fn from_rows(rows: [[f64; 4]; 3]) -> Result<Self, &'static str> {
        let column = |i: usize| DVec3::new(rows[0][i], rows[1][i], rows[2][i]);
        let lengths = [0, 1, 2].map(|i| column(i).length());
        let shortest = lengths.into_iter().fold(f64::MAX, f64::min);
        let longest = lengths.into_iter().fold(0.0, f64::max);
        if shortest < 1e-9 {
            return Err("its rotation has a zero column");
        }
        let [x, y, z] = [0, 1, 2].map(|i| column(i) / lengths[i]);
        let skew = x.dot(y).abs().max(y.dot(z).abs()).max(z.dot(x).abs());
        if longest > shortest * (1.0 + RIGID) || skew > RIGID {
            return Err("its rotation is sheared or stretched");
        }
        if x.cross(y).dot(z) < 0.0 {
            return Err("it is mirrored (determinant −1)");
        }
        Ok(Self::new(column(3), x, y))
    }

    /// Create the pose at `eye` that looks at `target`, with the image's top towards `up`.
    pub fn look_at(eye: DVec3, target: DVec3, up: DVec3) -> Result<Self, &'static str> {
        let back = (eye - target).try_normalize();
        let back = back.ok_or("`eye` and `target` are the same point: move one of them")?;
        let up = up.try_normalize().ok_or("`up` is zero: give a direction")?;
        let right = up.cross(back);
        if right.length() < 1e-6 {
            return Err("`up` lies along the view from `eye` to `target`: give another `up`");
        }
        let right = right.normalize();
        Ok(Self::new(eye, right, back.cross(right)))
    }

    /// Create the pose with two unit axes that are nearly orthogonal.
    fn new(position: DVec3, x: DVec3, y: DVec3) -> Self {
        let y = (y - x * x.dot(y)).normalize();
        let axes = DMat3::from_cols(x, y, x.cross(y));
        Self {
            position,
            rotation: DQuat::from_mat3(&axes).normalize(),
        }
    }

    /// Return the rows of `[R | t]`.
    pub fn rows(&self) -> [[f64; 4]; 3] {
        let axes = DMat3::from_quat(self.rotation);
        std::array::from_fn(|row| {
            [
                axes.x_axis[row],
                axes.y_axis[row],
                axes.z_axis[row],
                self.position[row],
            ]
        })
    }
}
