//! What the points of a model say about its views: near bounds and depths.

use std::collections::HashMap;

use glam::DVec3;

use super::model::{Model, ModelPoints, Storage};
use crate::dataset::{DepthSource, Frame, PointDepth};

/// Number of points that a view must see for a near bound.
const MIN_SEEN: usize = 32;
/// Fraction of the points that a view sees that may be outliers in front of the others.
const NEAREST: f64 = 0.02;
/// The near bound as a fraction of the distance of the nearest point.
const NEAR: f64 = 0.5;

impl ModelPoints {
    /// Return the mean reprojection error in pixels, if any is known.
    pub fn mean_error(&self) -> Option<f64> {
        let known = self
            .errors
            .iter()
            .filter(|error| error.is_finite() && **error >= 0.0);
        let n = known.clone().count();
        (n > 0).then(|| known.sum::<f64>() / n as f64)
    }

    /// Set the depths and near bounds of frames, of the images with these `ids`.
    ///
    /// A near bound is a part of the distance of the nearest points that the view sees. The weights of depths are
    /// 2 exp(−(e / ē)²) for a reprojection error e with mean ē (Deng et al. 2022).
    pub fn describe(&self, ids: &[u32], frames: &mut [Frame]) {
        let index: HashMap<u32, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mean = self.mean_error().unwrap_or(0.0);
        let mut depths: Vec<Vec<PointDepth>> = vec![Vec::new(); frames.len()];
        let mut distances: Vec<Vec<f64>> = vec![Vec::new(); frames.len()];
        for (i, point) in self.positions.iter().enumerate() {
            let error = self.errors[i];
            let weight = if mean > 0.0 && error.is_finite() {
                2.0 * (-(error / mean).powi(2)).exp()
            } else {
                1.0
            };
            for &view in self.track(i).iter().filter_map(|image| index.get(image)) {
                let camera = &frames[view].camera;
                let distance = camera.place().distance(DVec3::from(*point));
                distances[view].push(distance);
                let size = [camera.width, camera.height].map(f64::from);
                let at = camera.project(*point).filter(|at| {
                    (0.0..size[0]).contains(&at[0]) && (0.0..size[1]).contains(&at[1])
                });
                if let Some(at) = at
                    && distance > 0.0
                {
                    depths[view].push(PointDepth {
                        at: at.map(|v| v as f32),
                        distance: distance as f32,
                        weight: weight as f32,
                    });
                }
            }
        }
        for ((frame, depths), mut seen) in frames.iter_mut().zip(depths).zip(distances) {
            if !depths.is_empty() {
                frame.depth = Some(DepthSource::Points(depths.into()));
            }
            if seen.len() < MIN_SEEN {
                continue;
            }
            seen.sort_by(f64::total_cmp);
            let near = NEAR * seen[(NEAREST * seen.len() as f64) as usize];
            if near.is_finite() && near > 0.0 {
                frame.near_far = Some([near as f32, f32::MAX]);
            }
        }
    }
}

impl Model {
    /// Describe how the model is stored, by which version of COLMAP.
    pub fn variant(&self) -> String {
        let storage = match self.storage {
            Storage::Binary => "binary",
            Storage::Text => "text",
        };
        let version = if self.has_rigs {
            "3.12 or later, with rigs and frames"
        } else {
            "before 3.12"
        };
        format!("{storage} files of COLMAP {version}")
    }
}
