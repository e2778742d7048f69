//! Axis-aligned boxes.

use std::fmt;
use std::str::FromStr;

use glam::DVec3;
use serde::Serialize;

/// An axis-aligned box.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Aabb<T = f64> {
    /// Corner with the lowest coordinates.
    pub low: [T; 3],
    /// Corner with the highest coordinates.
    pub high: [T; 3],
}

impl<T: Copy + PartialOrd> Aabb<T> {
    /// Whether the interiors of the two boxes intersect.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        (0..3).all(|a| self.high[a] > other.low[a] && self.low[a] < other.high[a])
    }

    /// Return the intersection of the two boxes; `None` if they do not overlap.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let larger = |a: T, b: T| if a > b { a } else { b };
        let smaller = |a: T, b: T| if a < b { a } else { b };
        self.overlaps(other).then(|| Self {
            low: std::array::from_fn(|a| larger(self.low[a], other.low[a])),
            high: std::array::from_fn(|a| smaller(self.high[a], other.high[a])),
        })
    }

    /// Return corner `index`, from 0 to 7: bit `a` selects the high end along axis `a`.
    #[must_use]
    pub fn corner(&self, index: usize) -> [T; 3] {
        let end = |a: usize| {
            if (index >> a) & 1 == 0 {
                self.low[a]
            } else {
                self.high[a]
            }
        };
        std::array::from_fn(end)
    }

    /// Apply `map`, which must be increasing along each axis, to both corners.
    #[must_use]
    pub fn map<U>(&self, map: impl Fn([T; 3]) -> [U; 3]) -> Aabb<U> {
        Aabb {
            low: map(self.low),
            high: map(self.high),
        }
    }
}

impl Aabb {
    /// Create the box between two corners.
    ///
    /// # Errors
    /// A message that names the axis along which the second corner is not above the first.
    pub fn new(low: [f64; 3], high: [f64; 3]) -> Result<Self, String> {
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            let (a, b) = (low[axis], high[axis]);
            if !(a.is_finite() && b.is_finite() && a < b) {
                return Err(format!(
                    "a box runs from low to high along every axis, but along {name} this runs from {a} to {b}"
                ));
            }
        }
        Ok(Self { low, high })
    }

    /// Return the cube that `u = position * scale + offset` maps to the cube of side `side` around the centre of the unit cube.
    #[must_use]
    pub fn around_unit_cube(side: f64, scale: f64, offset: [f64; 3]) -> Self {
        let corner = |sign: f64| offset.map(|o| (0.5 + sign * side / 2.0 - o) / scale);
        Self {
            low: corner(-1.0),
            high: corner(1.0),
        }
    }

    /// The centre.
    #[must_use]
    pub fn center(&self) -> DVec3 {
        (DVec3::from(self.low) + DVec3::from(self.high)) / 2.0
    }

    /// Length of the longest side.
    #[must_use]
    pub fn side(&self) -> f64 {
        (DVec3::from(self.high) - DVec3::from(self.low)).max_element()
    }

    /// Whether `point` lies inside or on a face.
    #[must_use]
    pub fn contains(&self, point: DVec3) -> bool {
        point.cmpge(DVec3::from(self.low)).all() && point.cmple(DVec3::from(self.high)).all()
    }

    /// Whether the ray `origin + t direction` is inside the box for some t in `range`.
    #[must_use]
    pub fn meets(&self, origin: DVec3, direction: DVec3, range: [f64; 2]) -> bool {
        let (mut enter, mut leave) = (range[0], range[1]);
        for axis in 0..3 {
            let (o, d) = (origin[axis], direction[axis]);
            let (a, b) = ((self.low[axis] - o) / d, (self.high[axis] - o) / d);
            if d.abs() < 1e-12 {
                if o < self.low[axis] || o > self.high[axis] {
                    return false;
                }
            } else {
                enter = enter.max(a.min(b));
                leave = leave.min(a.max(b));
            }
        }
        enter < leave
    }
}

impl FromStr for Aabb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|t| t.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[x0, y0, z0, x1, y1, z1]) => Self::new([x0, y0, z0], [x1, y1, z1]),
            _ => Err(format!(
                "`{text}` is not a box: give six numbers x0,y0,z0,x1,y1,z1, two corners in world units"
            )),
        }
    }
}

impl fmt::Display for Aabb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([x0, y0, z0], [x1, y1, z1]) = (self.low, self.high);
        write!(f, "{x0:.4},{y0:.4},{z0:.4},{x1:.4},{y1:.4},{z1:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_as_they_are_written() {
        let read: Aabb = "-1, -0.5,0,1,0.5,2.25".parse().unwrap();
        assert_eq!(read.low, [-1.0, -0.5, 0.0]);
        assert_eq!(read.to_string().parse(), Ok(read));
        for bad in ["", "1,2,3", "0,0,0,1,1,0", "0,0,0,1,1,nan", "a,0,0,1,1,1"] {
            assert!(bad.parse::<Aabb>().is_err(), "{bad}");
        }
    }

    #[test]
    fn boxes_that_share_a_face_do_not_overlap() {
        let unit = Aabb::new([0.0; 3], [1.0; 3]).unwrap();
        let beside = Aabb::new([1.0, 0.0, 0.0], [2.0, 1.0, 1.0]).unwrap();
        assert!(!unit.overlaps(&beside) && unit.intersection(&beside).is_none());
        let across = Aabb::new([0.5, -1.0, 0.25], [2.0, 0.5, 0.75]).unwrap();
        let both = Aabb::new([0.5, 0.0, 0.25], [1.0, 0.5, 0.75]).unwrap();
        assert_eq!(unit.intersection(&across), Some(both));
        assert_eq!(across.intersection(&unit), Some(both));
        assert_eq!([both.corner(0), both.corner(7)], [both.low, both.high]);
        assert_eq!(both.corner(2), [0.5, 0.5, 0.25]);
    }

    #[test]
    fn rays_meet_boxes_within_their_range() {
        let unit = Aabb::new([0.0; 3], [1.0; 3]).unwrap();
        let (origin, along_x) = (DVec3::new(-1.0, 0.5, 0.5), DVec3::X);
        assert!(unit.meets(origin, along_x, [0.0, 1.5]));
        assert!(
            !unit.meets(origin, along_x, [0.0, 0.5]) && !unit.meets(origin, along_x, [2.5, 9.0])
        );
        assert!(!unit.meets(DVec3::new(-1.0, 1.5, 0.5), along_x, [0.0, 9.0]));
        assert!(unit.contains(unit.center()) && !unit.contains(origin));
    }
}
