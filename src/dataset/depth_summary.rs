//! How far known depths reach, compared with the scene's box: a wrong unit shows there.

use super::{DepthSource, Frame, PointDepth};
use crate::aabb::Aabb;
use crate::camera::Camera;

/// Maximum number of depths of a view that are looked at.
const MAX_DEPTHS: usize = 500;
/// Share of the depths from which a fault of all of them is likely.
const MOST: f64 = 0.9;
/// Part of the distance to the box's centre below which a depth is near.
const NEAR: f64 = 0.02;

/// Where the known depths of several views end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DepthSummary {
    /// Number of views with a known depth.
    pub views: usize,
    /// Number of views that name depths of which none is known.
    pub empty: usize,
    /// Distances along the rays in world units that 5 % and 95 % of the depths do not reach.
    pub range: [f32; 2],
    /// Number of depths that were looked at, of those that end outside of the box, and of those next to the camera.
    counts: [usize; 3],
}

impl DepthSummary {
    /// Summarise the depths of `views`, of which an even part is looked at.
    pub fn of<'a>(
        views: impl Iterator<Item = (&'a Frame, &'a [PointDepth])>,
        world: &Aabb,
    ) -> Self {
        let mut summary = Self::default();
        let mut distances = Vec::new();
        for (frame, depths) in views.filter(|(frame, _)| frame.depth.is_some()) {
            summary.views += usize::from(!depths.is_empty());
            // A view may see no sparse point.
            let is_file = matches!(frame.depth, Some(DepthSource::File { .. }));
            summary.empty += usize::from(is_file && depths.is_empty());
            let step = depths.len().div_ceil(MAX_DEPTHS).max(1);
            for depth in depths.iter().step_by(step) {
                distances.push(depth.distance);
                summary.count(&frame.camera, depth, world);
            }
        }
        distances.sort_by(f32::total_cmp);
        let at = |part: f64| {
            let last = distances.len().saturating_sub(1);
            distances.get((part * last as f64) as usize).copied()
        };
        summary.range = [0.05, 0.95].map(|part| at(part).unwrap_or(0.0));
        summary
    }

    fn count(&mut self, camera: &Camera, depth: &PointDepth, world: &Aabb) {
        let (origin, direction) = camera.ray(depth.at[0], depth.at[1]);
        let distance = f64::from(depth.distance);
        let end = [0, 1, 2].map(|axis| origin[axis] + direction[axis] * distance);
        let is_inside =
            (0..3).all(|axis| (world.low[axis]..=world.high[axis]).contains(&end[axis]));
        let center =
            [0, 1, 2].map(|axis| 0.5 * (world.low[axis] + world.high[axis]) - origin[axis]);
        let to_center = center.iter().map(|v| v * v).sum::<f64>().sqrt();
        self.counts[0] += 1;
        self.counts[1] += usize::from(!is_inside);
        self.counts[2] += usize::from(distance < NEAR * to_center);
    }

    /// Return what is probably wrong with the depths.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let [all, outside, near] = self.counts.map(|n| n as f64);
        let [low, high] = self.range;
        let mut add = |what: &str, n: f64| {
            problems.push(format!(
                "{:.0} % of the known depths {what} (most are {low:.3} to {high:.3} world units long): check their unit \
                 (`depth_unit_scale_factor`), or ignore them with --set training.depth=false",
                100.0 * n / all
            ));
        };
        if all > 0.0 && outside >= MOST * all {
            add("end outside of the scene's box", outside);
        } else if all > 0.0 && near >= MOST * all {
            add("end next to the camera", near);
        }
        if self.empty > 0 {
            problems.push(format!(
                "depths of {} are all unknown (zero, negative or not finite): export them again",
                crate::text::counted_len(self.empty, "view")
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::Scene;

    #[test]
    fn wrong_units_are_noticed() {
        let mut scene = Scene::new(3);
        let mut frame = scene.open_with(None, &[]).unwrap().train[0].clone();
        frame.depth = Some(DepthSource::File {
            path: "a.png".into(),
            unit: 1.0,
            is_distance: true,
        });
        frame.camera = Camera::look_at([4.0, 0.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0], 0.5, 8, 8);
        let world = Aabb {
            low: [-1.0; 3],
            high: [1.0; 3],
        };
        let told = |distances: &[f32]| {
            let depths: Vec<PointDepth> = distances
                .iter()
                .map(|distance| PointDepth {
                    at: [4.0, 4.0],
                    distance: *distance,
                    weight: 1.0,
                })
                .collect();
            let views = [(&frame, depths.as_slice())];
            DepthSummary::of(views.into_iter(), &world)
        };
        let right = told(&[3.5, 4.0, 4.5, 9.0]);
        assert_eq!((right.views, right.range), (1, [3.5, 4.5]));
        assert_eq!(right.problems(), [""; 0]);
        let parts = |distances: &[f32]| told(distances).problems().join("; ");
        assert!(parts(&[3500.0, 4000.0]).contains("100 % of the known depths end outside"));
        assert!(parts(&[0.0035, 0.004]).contains("depth_unit_scale_factor"));
        assert!(parts(&[]).contains("all unknown"));
    }
}
