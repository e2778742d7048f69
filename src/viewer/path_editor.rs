//! The camera path that is being edited: key frames, playback, and the settings for rendering it.

use std::path::{Path, PathBuf};

use crate::camera::Camera;
use crate::camera_path::{CameraPath, CameraPathError, Draft};
use crate::render::Channel;

/// Number of points of the line from one key frame to the next.
const POINTS: usize = 24;
/// Width of rendered paths in pixels, unless the window is narrower.
const WIDTH: f64 = 640.0;

/// A camera path that is being edited.
#[derive(Debug, Clone)]
pub(super) struct PathEditor {
    pub draft: Draft,
    /// Index of the selected key frame.
    pub selected: Option<usize>,
    /// Seconds from the last key frame to a new one.
    pub gap: f64,
    /// Whether the path is playing.
    pub plays: bool,
    /// Playback position, in seconds from the first key frame.
    pub time: f64,
    /// File to save to.
    pub file: String,
    /// Folder or file to render to.
    pub to: String,
    pub channel: Channel,
    /// Square root of the number of rays per pixel.
    pub per_side: u32,
    /// Whether there are unsaved changes.
    pub is_changed: bool,
    /// The file that this path was read from or saved to last, which may be overwritten without asking.
    own: Option<PathBuf>,
    /// Index and new time of the key frame whose time is being edited.
    pub edited: Option<(usize, f64)>,
    /// Cached points of the line, and the draft that they were computed from.
    line: Option<(Draft, Vec<[f64; 3]>)>,
}

impl Default for PathEditor {
    fn default() -> Self {
        Self {
            draft: Draft::default(),
            selected: None,
            gap: 2.0,
            plays: false,
            time: 0.0,
            file: "cameras.json".to_owned(),
            to: "path.gif".to_owned(),
            channel: Channel::Rgb,
            per_side: 1,
            is_changed: false,
            own: None,
            edited: None,
            line: None,
        }
    }
}

impl PathEditor {
    /// Return the path, if it has key frames.
    pub fn path(&self) -> Option<CameraPath> {
        self.draft.path(Path::new(&self.file))
    }

    /// Add a key frame at the pose of `camera` after the last one.
    pub fn add(&mut self, camera: &Camera) {
        if self.draft.keys().is_empty() {
            // Default size: at most `WIDTH` pixels wide, with the window's aspect ratio.
            let [w, h] = [camera.width, camera.height].map(f64::from);
            let scale = WIDTH.min(w) / w.max(1.0);
            self.draft.size = [w, h].map(|n| ((n * scale).round() as u32).max(1));
        }
        self.selected = Some(self.draft.add(camera, self.gap));
        self.is_changed = true;
    }

    /// Move the selected key frame to the pose of `camera`.
    pub fn put(&mut self, camera: &Camera) {
        if let Some(index) = self.selected {
            self.draft.set_pose(index, camera);
            self.is_changed = true;
        }
    }

    /// Remove the selected key frame and select the previous one.
    pub fn remove(&mut self) {
        if let Some(index) = self.selected {
            self.draft.remove(index);
            let n = self.draft.keys().len();
            self.selected = (n > 0).then(|| index.saturating_sub(1).min(n - 1));
            self.plays &= n > 1;
            self.is_changed = true;
        }
    }

    /// If the path is playing, advance by `seconds` and return the camera.
    pub fn play(&mut self, seconds: f64, size: [u32; 2]) -> Option<Camera> {
        if !self.plays {
            return None;
        }
        let path = self.path()?;
        let lasts = self.draft.duration();
        self.time += seconds;
        if self.time >= lasts {
            self.plays = self.draft.looped && lasts > 0.0;
            self.time = if self.plays { self.time % lasts } else { lasts };
        }
        Some(path.at(self.time, size))
    }

    /// Start playing, from the start if the path was at its end, or stop.
    pub fn toggle(&mut self) {
        self.plays = !self.plays && self.draft.keys().len() > 1;
        if self.plays && self.time >= self.draft.duration() - 1e-9 {
            self.time = 0.0;
        }
    }

    /// Return the points of the line that the camera follows.
    pub fn line(&mut self) -> &[[f64; 3]] {
        if self.line.as_ref().is_none_or(|(d, _)| *d != self.draft) {
            let n = self.draft.keys().len().saturating_sub(1) + usize::from(self.draft.looped);
            let points = self.path().map_or(Vec::new(), |path| {
                let lasts = self.draft.duration();
                let count = n * POINTS;
                let at = |i: usize| lasts * i as f64 / count.max(1) as f64;
                let place = |i| path.at(at(i), [1, 1]).position();
                (0..=count).map(place).collect()
            });
            self.line = Some((self.draft.clone(), points));
        }
        self.line.as_ref().map_or(&[], |(_, points)| points)
    }

    /// Load the path in `file`.
    pub fn open(&mut self, file: &Path) -> Result<(), CameraPathError> {
        self.draft = Draft::read(file)?;
        (self.selected, self.plays, self.time) = (Some(0), false, 0.0);
        self.file = file.display().to_string();
        self.own = Some(file.to_owned());
        self.is_changed = false;
        Ok(())
    }

    /// Return the file to save to if it exists and holds something else than an earlier version of this path.
    pub fn overwritten(&self) -> Option<PathBuf> {
        let file = PathBuf::from(self.file.trim());
        (file.exists() && self.own.as_ref() != Some(&file)).then_some(file)
    }

    /// Name another file, numbered, that does not exist.
    pub fn take_free_name(&mut self) {
        let file = PathBuf::from(self.file.trim());
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let ending = file
            .extension()
            .map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
        let named = |n: u32| file.with_file_name(format!("{stem}-{n}{ending}"));
        if let Some(free) = (2..10_000).map(named).find(|path| !path.exists()) {
            self.file = free.display().to_string();
        }
    }

    /// Save the path to its file, and return the file.
    pub fn save(&mut self) -> Result<PathBuf, CameraPathError> {
        let file = PathBuf::from(self.file.trim());
        self.draft.write(&file)?;
        self.is_changed = false;
        self.own = Some(file.clone());
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(x: f32) -> Camera {
        Camera::look_at([x, 4.0, 1.0], [0.0; 3], [0.0, 0.0, 1.0], 0.8, 40, 30)
    }

    fn flight() -> PathEditor {
        let mut flight = PathEditor::default();
        for x in [0.0, 1.0, 2.0] {
            flight.add(&camera(x));
        }
        flight
    }

    #[test]
    fn key_frames_are_set_moved_and_removed() {
        let mut flight = flight();
        assert_eq!(flight.draft.size, [40, 30]);
        assert_eq!((flight.selected, flight.draft.duration()), (Some(2), 4.0));
        flight.put(&camera(5.0));
        assert_eq!(flight.draft.keys()[2].camera([40, 30]).position()[0], 5.0);
        flight.selected = Some(0);
        flight.remove();
        assert_eq!((flight.selected, flight.draft.keys().len()), (Some(0), 2));
        flight.remove();
        flight.remove();
        flight.remove();
        assert_eq!((flight.selected, flight.draft.keys().len()), (None, 0));
        assert!(flight.path().is_none() && flight.line().is_empty());
    }

    #[test]
    fn it_plays_to_its_end_or_round_and_round() {
        let mut flight = flight();
        flight.toggle();
        let seen = flight.play(2.0, [40, 30]).unwrap();
        assert!((seen.position()[0] - 1.0).abs() < 1e-5);
        flight.play(5.0, [40, 30]).unwrap();
        assert!(!flight.plays && flight.time == 4.0);
        assert!(flight.play(1.0, [40, 30]).is_none());
        flight.draft.looped = true;
        flight.toggle();
        flight.play(1.5, [40, 30]).unwrap();
        flight.play(6.0, [40, 30]).unwrap();
        assert!(flight.plays && (flight.time - 5.5).abs() < 1e-9);
    }

    #[test]
    fn the_line_goes_through_the_key_frames() {
        let mut flight = flight();
        let line = flight.line().to_vec();
        assert_eq!(line.len(), 2 * POINTS + 1);
        assert!((line[POINTS][0] - 1.0).abs() < 1e-5);
        flight.draft.looped = true;
        assert_eq!(flight.line().len(), 3 * POINTS + 1);
    }

    #[test]
    fn what_is_saved_is_what_is_opened() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut flight = flight();
        flight.file = folder.path().join("c.json").display().to_string();
        let file = flight.save().unwrap();
        let mut again = PathEditor::default();
        again.open(&file).unwrap();
        assert_eq!(again.draft.keys().len(), 3);
        let ends = [&flight, &again].map(|f| f.draft.keys()[2].camera([40, 30]));
        let rows = ends.map(|c| c.world_from_camera);
        for (a, b) in rows[0].iter().flatten().zip(rows[1].iter().flatten()) {
            assert!((a - b).abs() < 1e-6);
        }
        // A path may overwrite its own file, but not another's.
        assert_eq!([&flight, &again].map(PathEditor::overwritten), [None, None]);
        let mut other = self::flight();
        other.file = file.display().to_string();
        assert_eq!(other.overwritten(), Some(file.clone()));
        for name in ["c-2.json", "c-3.json"] {
            other.take_free_name();
            assert_eq!(Path::new(&other.file), folder.path().join(name));
            other.save().unwrap();
            other.file = file.display().to_string();
        }
        std::fs::write(&file, "{").unwrap();
        assert!(again.open(&file).is_err());
        assert_eq!(again.draft.keys().len(), 3);
    }
}
