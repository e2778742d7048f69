//! Reads photographs of the dataset from disk on a separate thread.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::protocol::Photo;
use crate::dataset::{Image, Orientation};

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: u32 = 64;

/// A request for a photograph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PhotoRequest {
    /// Number of the dataset, counted as datasets are opened.
    pub album: u32,
    /// Index of the viewpoint.
    pub place: usize,
    /// Image file.
    pub path: PathBuf,
    /// Rotation to apply.
    pub orientation: Orientation,
    /// Factor to shrink the photograph by; `None` for a thumbnail.
    pub downscale: Option<u32>,
}

/// A photograph that was read.
#[derive(Debug)]
pub(super) struct LoadedPhoto {
    pub album: u32,
    pub place: usize,
    pub is_thumbnail: bool,
    /// The image, or an error message.
    pub photo: Result<Arc<Photo>, String>,
}

/// Reads photographs.
#[derive(Debug)]
pub(super) struct PhotoLoader {
    desk: Arc<(Mutex<LoadQueue>, Condvar)>,
    prints: Receiver<LoadedPhoto>,
}

/// The queue of requests.
#[derive(Debug, Default)]
struct LoadQueue {
    wanted: VecDeque<PhotoRequest>,
    is_over: bool,
}

fn lock(tray: &Mutex<LoadQueue>) -> MutexGuard<'_, LoadQueue> {
    tray.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PhotoLoader {
    /// Start the reading thread, which calls `wake` after each photograph. If no thread can be started, nothing is read.
    pub fn new(wake: impl Fn() + Send + 'static) -> Self {
        let desk: Arc<(Mutex<LoadQueue>, Condvar)> = Arc::default();
        let (out, prints) = channel();
        let shared = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("album".to_owned());
        let _ = thread.spawn(move || read_all(&shared, &out, &wake));
        Self { desk, prints }
    }

    /// Queue requests: photographs come before thumbnails, and requests of earlier datasets are dropped.
    pub fn want(&self, all: Vec<PhotoRequest>) {
        let mut tray = lock(&self.desk.0);
        for one in all {
            tray.wanted.retain(|w| w.album == one.album);
            if one.downscale.is_some() {
                // Only the last photograph requested is shown.
                tray.wanted.retain(|w| w.downscale.is_none());
                tray.wanted.push_front(one);
            } else {
                tray.wanted.push_back(one);
            }
        }
        self.desk.1.notify_one();
    }

    /// Take the photographs that have been read.
    pub fn prints(&self) -> impl Iterator<Item = LoadedPhoto> {
        self.prints.try_iter()
    }
}

impl Drop for PhotoLoader {
    fn drop(&mut self) {
        lock(&self.desk.0).is_over = true;
        self.desk.1.notify_one();
    }
}

fn read_all((tray, more): &(Mutex<LoadQueue>, Condvar), out: &Sender<LoadedPhoto>, wake: &dyn Fn()) {
    loop {
        let wanted = {
            let mut tray = lock(tray);
            loop {
                if tray.is_over {
                    return;
                }
                if let Some(wanted) = tray.wanted.pop_front() {
                    break wanted;
                }
                tray = more.wait(tray).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let photo = Image::load_oriented(&wanted.path, wanted.orientation).map(|image| {
            let longest = image.width.max(image.height);
            let factor = wanted
                .downscale
                .unwrap_or_else(|| longest.div_ceil(THUMBNAIL));
            let image = if factor > 1 {
                image.downscaled(factor)
            } else {
                image
            };
            let place = wanted.place;
            Arc::new(Photo { place, image })
        });
        let print = LoadedPhoto {
            album: wanted.album,
            place: wanted.place,
            is_thumbnail: wanted.downscale.is_none(),
            photo: photo.map_err(|e| e.to_string()),
        };
        if out.send(print).is_err() {
            return;
        }
        wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn photographs_and_thumbnails_are_read_and_missing_files_are_reported() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.png");
        let pixels: Vec<u8> = (0..200 * 100 * 4).map(|i| (i % 251) as u8).collect();
        image::save_buffer(&path, &pixels, 200, 100, image::ColorType::Rgba8).unwrap();
        let album = PhotoLoader::new(|| {});
        let wanted = |place, path: PathBuf, downscale| PhotoRequest {
            album: 3,
            place,
            path,
            orientation: Orientation::NoTransforms,
            downscale,
        };
        album.want(vec![
            wanted(0, path.clone(), None),
            wanted(1, folder.path().join("none.png"), None),
            wanted(2, path, Some(2)),
        ]);
        let mut prints = Vec::new();
        while prints.len() < 3 {
            prints.extend(album.prints.recv_timeout(Duration::from_secs(20)));
        }
        prints.sort_by_key(|p| p.place);
        let size = |print: &LoadedPhoto| {
            let photo = print.photo.as_ref().unwrap();
            assert_eq!((print.album, photo.place), (3, print.place));
            [photo.image.width, photo.image.height]
        };
        assert_eq!((size(&prints[0]), prints[0].is_thumbnail), ([50, 25], true));
        assert!(prints[1].photo.as_ref().unwrap_err().contains("none.png"));
        assert_eq!(
            (size(&prints[2]), prints[2].is_thumbnail),
            ([100, 50], false)
        );
    }
}
