//! Editable key frames, which can be read from and written to a file.

use std::path::Path;

use glam::{DMat3, DVec3};

use super::key_frames::{KeyFrames, ViewTarget};
use super::{CameraPath, CameraPathError, CameraState, Model, Pose, Views};
use crate::aabb::Aabb;
use crate::camera::Camera;
use crate::files::replace_file;

/// Minimum time between two key frames in seconds.
const GAP: f64 = 1e-3;

/// Key frames of a perspective camera, and settings for rendering them.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Width and height of the images in pixels.
    pub size: [u32; 2],
    /// Frames per second.
    pub fps: f64,
    /// Whether the path is a loop: the last key frame leads back to the first.
    pub looped: bool,
    /// Duration of a loop in seconds, if given.
    pub seconds: Option<f64>,
    /// The visible part of the scene, if it is cropped.
    pub crop: Option<Aabb>,
    pub(super) keys: Vec<KeyFrame>,
}

/// A camera pose at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyFrame {
    pub(super) time: f64,
    pub(super) view: CameraState,
    /// Target and up direction, if the pose was given by them.
    pub(super) look: Option<ViewTarget>,
}

impl KeyFrame {
    /// Time in seconds.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.time
    }

    /// The camera, in images of `size`.
    #[must_use]
    pub fn camera(&self, size: [u32; 2]) -> Camera {
        Model::Perspective.camera(&self.view, size)
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            size: [800, 600],
            fps: super::DEFAULT_FPS,
            looped: false,
            seconds: None,
            crop: None,
            keys: Vec::new(),
        }
    }
}

impl Draft {
    /// Write a file that [`Self::read`] and `kiln render --path` can read.
    pub fn write(&self, file: &Path) -> Result<(), CameraPathError> {
        replace_file(file, self.to_json().as_bytes()).map_err(|source| CameraPathError::Write {
            path: file.to_owned(),
            source,
        })
    }

    /// Serialise to the text of a key-frame file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut head = serde_json::json!({
            "width": self.size[0], "height": self.size[1], "fps": self.fps, "loop": self.looped,
        });
        if let Some(seconds) = self.seconds.filter(|_| self.looped && self.keys.len() > 1) {
            head["seconds"] = seconds.into();
        }
        if let Some(crop) = self.crop {
            head["crop"] = serde_json::json!([crop.low, crop.high]);
        }
        let key = |key: &KeyFrame| {
            let fov = 2.0 * (key.view.extent / 2.0).atan().to_degrees();
            let eye = key.view.pose.position.to_array();
            let mut line = serde_json::json!({ "time": key.time, "fov": fov });
            if let Some(look) = key.look {
                line["eye"] = serde_json::json!(eye);
                line["target"] = serde_json::json!(look.target.to_array());
                line["up"] = serde_json::json!(look.up.to_array());
            } else {
                let axes = DMat3::from_quat(key.view.pose.rotation);
                let row = |i: usize| [axes.x_axis[i], axes.y_axis[i], axes.z_axis[i], eye[i]];
                line["transform_matrix"] = serde_json::json!([row(0), row(1), row(2)]);
            }
            format!("    {line}")
        };
        let keys: Vec<String> = self.keys.iter().map(key).collect();
        let head = head.to_string();
        let head = head.trim_end_matches('}');
        // One key frame per line.
        format!(
            "{head},\n  \"key_frames\": [\n{}\n  ]\n}}\n",
            keys.join(",\n")
        )
    }

    /// The key frames, in order of their times.
    #[must_use]
    pub fn keys(&self) -> &[KeyFrame] {
        &self.keys
    }

    /// Return the path through the key frames; `None` if there are none.
    #[must_use]
    pub fn path(&self, file: &Path) -> Option<CameraPath> {
        if self.keys.is_empty() {
            return None;
        }
        let times: Vec<f64> = self.keys.iter().map(|k| k.time).collect();
        let views = self.keys.iter().map(|k| k.view).collect();
        let looks: Vec<Option<ViewTarget>> = self.keys.iter().map(|k| k.look).collect();
        let period = self.period();
        Some(CameraPath {
            file: file.to_owned(),
            size: self.size,
            fps: self.fps,
            crop: self.crop,
            model: Model::Perspective,
            views: Views::KeyFrames(Box::new(KeyFrames::new(times, views, &looks, period))),
        })
    }

    /// Duration of the path in seconds.
    #[must_use]
    pub fn duration(&self) -> f64 {
        self.period().unwrap_or_else(|| self.lasts())
    }

    fn lasts(&self) -> f64 {
        let [first, .., last] = self.keys.as_slice() else {
            return 0.0;
        };
        last.time - first.time
    }

    /// Return the duration of a loop in seconds, which is longer than the time from the first to the last key frame.
    fn period(&self) -> Option<f64> {
        let n = self.keys.len();
        if !self.looped || n < 2 {
            return None;
        }
        let lasts = self.lasts();
        let even = lasts + lasts / (n - 1) as f64;
        Some(self.seconds.unwrap_or(even).max(lasts + GAP))
    }

    /// Append a key frame with the pose of `camera`, `gap` seconds after the last one, and return its index.
    pub fn add(&mut self, camera: &Camera, gap: f64) -> usize {
        let time = self.keys.last().map_or(0.0, |k| k.time + gap.max(GAP));
        if let Some(view) = view_of(camera) {
            let look = None;
            self.keys.push(KeyFrame { time, view, look });
        }
        self.keys.len().saturating_sub(1)
    }

    /// Set the pose of key frame `index` to that of `camera`.
    pub fn set_pose(&mut self, index: usize, camera: &Camera) {
        if let (Some(key), Some(view)) = (self.keys.get_mut(index), view_of(camera)) {
            (key.view, key.look) = (view, None);
        }
    }

    /// Move key frame `index` by `by` (world units). It keeps looking at its target, or in the same direction without one.
    pub fn shift(&mut self, index: usize, by: [f64; 3]) {
        let Some(key) = self.keys.get_mut(index) else {
            return;
        };
        let eye = key.view.pose.position + DVec3::from(by);
        match key
            .look
            .map(|look| Pose::look_at(eye, look.target, look.up))
        {
            Some(Ok(pose)) => key.view.pose = pose,
            // Vertically above or below the target the orientation is undefined.
            Some(Err(_)) => {}
            None => key.view.pose.position = eye,
        }
    }

    /// Remove key frame `index`.
    pub fn remove(&mut self, index: usize) {
        if index < self.keys.len() {
            self.keys.remove(index);
        }
    }

    /// Move key frame `index` to `time` (seconds), and return its new index. Later key frames are delayed if necessary.
    pub fn retime(&mut self, index: usize, time: f64) -> usize {
        if index >= self.keys.len() || !time.is_finite() {
            return index;
        }
        let mut key = self.keys.remove(index);
        key.time = time.max(0.0);
        let place = self.keys.partition_point(|k| k.time <= key.time);
        self.keys.insert(place, key);
        for i in 1..self.keys.len() {
            let least = self.keys[i - 1].time + GAP;
            self.keys[i].time = self.keys[i].time.max(least);
        }
        place
    }
}

/// Return the pose and extent of `camera`; `None` if its matrix is not a pose.
fn view_of(camera: &Camera) -> Option<CameraState> {
    let rows = camera.world_from_camera;
    Some(CameraState {
        pose: Pose::from_rows(rows).ok()?,
        extent: f64::from(camera.height) / f64::from(camera.focal[1]),
    })
}
