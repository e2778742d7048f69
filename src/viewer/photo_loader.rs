//! Reads photographs of the dataset from disk on a separate thread.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::protocol::Photo;
use crate::dataset::Frame;

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: u32 = 64;

/// A request for a photograph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PhotoRequest {
    /// Number of the dataset, counted as datasets are opened.
    pub dataset_id: u32,
    /// Index of the viewpoint.
    pub viewpoint: usize,
    /// The frame that it is the photograph of.
    pub frame: Frame,
    /// Factor to shrink the photograph by; `None` for a thumbnail.
    pub downscale: Option<u32>,
}

/// A photograph that was read, or an error.
#[derive(Debug)]
pub(super) struct LoadedPhoto {
    pub dataset_id: u32,
    pub viewpoint: usize,
    pub is_thumbnail: bool,
    /// The image, or an error message.
    pub photo: Result<Arc<Photo>, String>,
}

/// Reads photographs on a separate thread.
#[derive(Debug)]
pub(super) struct PhotoLoader {
    queue: Arc<(Mutex<LoadQueue>, Condvar)>,
    photos: Receiver<LoadedPhoto>,
}

/// The queue of requests.
#[derive(Debug, Default)]
struct LoadQueue {
    wanted: VecDeque<PhotoRequest>,
    is_over: bool,
}

fn lock(queue: &Mutex<LoadQueue>) -> MutexGuard<'_, LoadQueue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PhotoLoader {
    /// Start the reading thread, which calls `wake` after each photograph. If no thread can be started, nothing is read.
    pub fn new(wake: impl Fn() + Send + 'static) -> Self {
        let queue: Arc<(Mutex<LoadQueue>, Condvar)> = Arc::default();
        let (out, photos) = channel();
        let shared = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("photographs".to_owned());
        let _ = thread.spawn(move || read_all(&shared, &out, &wake));
        Self { queue, photos }
    }

    /// Queue requests: photographs come before thumbnails, and requests of earlier datasets are dropped.
    pub fn want(&self, all: Vec<PhotoRequest>) {
        let mut queue = lock(&self.queue.0);
        for one in all {
            queue.wanted.retain(|w| w.dataset_id == one.dataset_id);
            if one.downscale.is_some() {
                // Only the photograph requested last is shown.
                queue.wanted.retain(|w| w.downscale.is_none());
                queue.wanted.push_front(one);
            } else {
                queue.wanted.push_back(one);
            }
        }
        self.queue.1.notify_one();
    }

    /// Take the photographs that have been read.
    pub fn photos(&self) -> impl Iterator<Item = LoadedPhoto> {
        self.photos.try_iter()
    }
}

impl Drop for PhotoLoader {
    fn drop(&mut self) {
        lock(&self.queue.0).is_over = true;
        self.queue.1.notify_one();
    }
}

fn read_all(
    (queue, more): &(Mutex<LoadQueue>, Condvar),
    out: &Sender<LoadedPhoto>,
    wake: &dyn Fn(),
) {
    loop {
        let wanted = {
            let mut queue = lock(queue);
            loop {
                if queue.is_over {
                    return;
                }
                if let Some(wanted) = queue.wanted.pop_front() {
                    break wanted;
                }
                queue = more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let photo = wanted.frame.load().map(|image| {
            let longest = image.width.max(image.height);
            let factor = wanted
                .downscale
                .unwrap_or_else(|| longest.div_ceil(THUMBNAIL));
            let image = if factor > 1 {
                image.downscaled(factor)
            } else {
                image
            };
            let viewpoint = wanted.viewpoint;
            Arc::new(Photo { viewpoint, image })
        });
        let loaded = LoadedPhoto {
            dataset_id: wanted.dataset_id,
            viewpoint: wanted.viewpoint,
            is_thumbnail: wanted.downscale.is_none(),
            photo: photo.map_err(|e| e.to_string()),
        };
        if out.send(loaded).is_err() {
            return;
        }
        wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::camera::Camera;
    use crate::dataset::Orientation;
    use std::path::PathBuf;

    #[test]
    fn photographs_and_thumbnails_are_read_and_missing_files_are_reported() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.png");
        let pixels: Vec<u8> = (0..200 * 100 * 4).map(|i| (i % 251) as u8).collect();
        image::save_buffer(&path, &pixels, 200, 100, image::ColorType::Rgba8).unwrap();
        let loader = PhotoLoader::new(|| {});
        let wanted = |viewpoint, image_path: PathBuf, downscale| PhotoRequest {
            dataset_id: 3,
            viewpoint,
            frame: Frame {
                name: String::new(),
                image_path,
                orientation: Orientation::NoTransforms,
                camera: Camera::look_at([1.0; 3], [0.0; 3], [0.0, 0.0, 1.0], 0.8, 200, 100),
                near_far: None,
                mask: None,
                depth: None,
            },
            downscale,
        };
        loader.want(vec![
            wanted(0, path.clone(), None),
            wanted(1, folder.path().join("none.png"), None),
            wanted(2, path, Some(2)),
        ]);
        let mut photos = Vec::new();
        while photos.len() < 3 {
            photos.extend(loader.photos.recv_timeout(Duration::from_secs(20)));
        }
        photos.sort_by_key(|p| p.viewpoint);
        let size = |loaded: &LoadedPhoto| {
            let photo = loaded.photo.as_ref().unwrap();
            assert_eq!((loaded.dataset_id, photo.viewpoint), (3, loaded.viewpoint));
            [photo.image.width, photo.image.height]
        };
        assert_eq!((size(&photos[0]), photos[0].is_thumbnail), ([50, 25], true));
        assert!(photos[1].photo.as_ref().unwrap_err().contains("none.png"));
        assert_eq!(
            (size(&photos[2]), photos[2].is_thumbnail),
            ([100, 50], false)
        );
    }
}
