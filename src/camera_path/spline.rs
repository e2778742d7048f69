//! Curves through key frames: cubic Hermite splines with non-uniform Catmull–Rom tangents, where the tangent at a key depends
//! on its predecessor and its successor.
//!
//! All curves pass through the keys exactly, and have a continuous first derivative.

use std::ops::{Add, Mul, Sub};

use glam::{DQuat, DVec3};

/// Times of the keys, and the period of a loop.
#[derive(Clone, Debug)]
pub(super) struct Knots {
    /// Increasing times in seconds.
    times: Vec<f64>,
    /// Duration of a loop in seconds.
    period: Option<f64>,
}

impl Knots {
    pub fn new(times: Vec<f64>, period: Option<f64>) -> Self {
        Self { times, period }
    }

    /// Whether the curve is a loop: the last key leads back to the first.
    pub fn is_loop(&self) -> bool {
        self.period.is_some()
    }

    /// Number of curve segments.
    fn segments(&self) -> usize {
        let n = self.times.len();
        if n > 1 && self.period.is_some() {
            n
        } else {
            n.saturating_sub(1)
        }
    }

    /// Duration in seconds.
    pub fn duration(&self) -> f64 {
        match (self.times.first(), self.times.last()) {
            (Some(first), Some(last)) if self.times.len() > 1 => {
                self.period.unwrap_or(last - first)
            }
            _ => 0.0,
        }
    }

    fn length(&self, segment: usize) -> f64 {
        let end = self
            .times
            .get(segment + 1)
            .copied()
            .unwrap_or(self.times[0] + self.period.unwrap_or(0.0));
        end - self.times[segment]
    }

    /// Return the keys at the ends of a segment.
    pub fn ends(&self, segment: usize) -> [usize; 2] {
        [segment, (segment + 1) % self.times.len()]
    }

    /// Return the segment at `time` seconds after the first key, the position along it (0 to 1), and its length in seconds;
    /// `None` for a single key.
    pub fn find(&self, time: f64) -> Option<(usize, f64, f64)> {
        let last = self.segments().checked_sub(1)?;
        let time = match self.period {
            Some(period) => time.rem_euclid(period),
            None => time,
        };
        let time = time + self.times[0];
        let after = self.times.partition_point(|&t| t <= time);
        let segment = after.saturating_sub(1).min(last);
        let length = self.length(segment);
        let along = ((time - self.times[segment]) / length).clamp(0.0, 1.0);
        Some((segment, along, length))
    }

    /// Return the tangent at each key (per second), given the differences `change` along each segment.
    pub fn slopes<V>(&self, change: &[V]) -> Vec<V>
    where
        V: Copy + Add<Output = V> + Sub<Output = V> + Mul<f64, Output = V>,
    {
        let n = self.segments();
        let middle = |before: usize, after: usize| {
            (change[before] + change[after]) * (1.0 / (self.length(before) + self.length(after)))
        };
        let secant = |segment: usize| change[segment] * (1.0 / self.length(segment));
        // Zero curvature at the ends.
        let end = |segment: usize, inner: V| secant(segment) * 1.5 - inner * 0.5;
        let keys = 0..self.times.len();
        match n {
            0 => Vec::new(),
            _ if self.period.is_some() => keys.map(|i| middle((i + n - 1) % n, i)).collect(),
            1 => vec![secant(0); 2],
            _ => keys
                .map(|i| match i {
                    0 => end(0, middle(0, 1)),
                    i if i == n => end(n - 1, middle(n - 2, n - 1)),
                    i => middle(i - 1, i),
                })
                .collect(),
        }
    }

    /// Return [`Self::slopes`], limited so that the curve stays between the values of neighbouring keys
    /// (Fritsch and Carlson 1980).
    pub fn monotone_slopes(&self, change: &[f64]) -> Vec<f64> {
        let n = self.segments();
        let bounded = |(i, slope): (usize, f64)| {
            let around = if self.period.is_some() {
                [(i + n - 1) % n, i]
            } else {
                [i.saturating_sub(1), i.min(n - 1)]
            };
            around.into_iter().fold(slope, |slope, segment| {
                let limit = 3.0 * change[segment] / self.length(segment);
                if slope * limit <= 0.0 {
                    0.0
                } else {
                    slope.signum() * slope.abs().min(limit.abs())
                }
            })
        };
        self.slopes(change)
            .into_iter()
            .enumerate()
            .map(bounded)
            .collect()
    }
}

/// Evaluate the Hermite curve from `ends[0]` to `ends[1]`, with these `slopes` per unit of `t` in [0, 1].
pub(super) fn hermite<V>(ends: [V; 2], slopes: [V; 2], t: f64) -> V
where
    V: Copy + Add<Output = V> + Mul<f64, Output = V>,
{
    let (t2, t3) = (t * t, t * t * t);
    let rise = 3.0 * t2 - 2.0 * t3;
    ends[0] * (1.0 - rise)
        + ends[1] * rise
        + slopes[0] * (t3 - 2.0 * t2 + t)
        + slopes[1] * (t3 - t2)
}

/// Return the shortest rotation from `a` to `b`, as a rotation vector in the axes of `a`.
pub(super) fn turn(a: DQuat, b: DQuat) -> DVec3 {
    logarithm(a.conjugate() * b)
}

fn logarithm(q: DQuat) -> DVec3 {
    if q.w < 0.0 { -q } else { q }.to_scaled_axis()
}

/// Evaluate the analogue of [`hermite`] for rotations, with angular velocities in the camera's axes as `slopes`: a cubic Bézier
/// curve in cumulative form (Kim, Kim and Shin 1995). Constant angular velocity is preserved.
pub(super) fn rotation(ends: [DQuat; 2], slopes: [DVec3; 2], t: f64) -> DQuat {
    let [leave, arrive] = slopes.map(|slope| slope / 3.0);
    let between = DQuat::from_scaled_axis(-leave)
        * (ends[0].conjugate() * ends[1])
        * DQuat::from_scaled_axis(-arrive);
    let between = logarithm(between);
    let rest = 1.0 - t;
    let turns = [
        leave * (1.0 - rest * rest * rest),
        between * (t * t * (3.0 - 2.0 * t)),
        arrive * (t * t * t),
    ];
    turns
        .into_iter()
        .fold(ends[0], |q, turn| q * DQuat::from_scaled_axis(turn))
        .normalize()
}
