//! Detects training images that are also held out, under another name.

use std::collections::HashMap;

use glam::DVec3;

use super::image::Spans;
use super::problem::{Problem, and_more};
use super::{Dataset, FileIdentity, Frame, Image};
use crate::text::one_line;

/// Cells per side of a thumbnail.
const SIDE: u32 = 8;
/// Maximum difference of a level after an image is saved again with lossy compression or in another size.
const RESAVE_TOLERANCE: u8 = 6;
/// Minimum range of levels at which a thumbnail is distinctive enough for an inexact comparison.
const MIN_RANGE: u8 = 24;
/// Maximum distance between the cameras of equal images, as a fraction of the extent of all cameras, and minimum cosine between
/// their directions. Consecutive images of a slow sequence look alike too.
const SAME_PLACE: f64 = 1e-3;
const SAME_WAY: f64 = 1.0 - 1.5e-6;

/// A thumbnail of an image, to find copies of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Mean levels of cells: brightness times alpha, then alpha. Empty for an image smaller than the thumbnail.
    levels: Vec<u8>,
    /// Mean of all levels.
    mean: u8,
    /// Width over height, in sixteenths.
    shape: u32,
    /// CRC-32C of all pixels.
    crc: u32,
    /// Whether all pixels are equal.
    is_blank: bool,
}

impl Thumbnail {
    /// Compute the thumbnail of an image.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        let first = image.pixels.get(..4);
        let is_blank = image.pixels.chunks_exact(4).all(|p| Some(p) == first);
        let mut levels = Vec::new();
        if image.width.min(image.height) >= SIDE {
            let [columns, rows] = [image.width, image.height].map(|side| Spans::new(side, SIDE).0);
            for row in &rows {
                for column in &columns {
                    let [r, g, b, alpha] = image.mean(column, row).map(u32::from);
                    // Rec. 601 luma, which JPEG preserves best.
                    let luma = (299 * r + 587 * g + 114 * b) * alpha / 255_000;
                    levels.extend([luma as u8, alpha as u8]);
                }
            }
        }
        let total: u64 = levels.iter().map(|v| u64::from(*v)).sum();
        Self {
            mean: (total / levels.len().max(1) as u64) as u8,
            shape: (16 * image.width).div_ceil(image.height.max(1)),
            levels,
            crc: crc32c::crc32c(&image.pixels),
            is_blank,
        }
    }

    /// Return whether the thumbnail is distinctive enough for an inexact comparison.
    fn is_distinctive(&self) -> bool {
        (0..2).any(|channel| {
            let levels = || self.levels.iter().skip(channel).step_by(2);
            let range = levels().max().zip(levels().min());
            range.is_some_and(|(high, low)| high - low >= MIN_RANGE)
        })
    }

    /// Return a key that is equal for images with equal pixels.
    fn key(&self) -> (u32, &[u8], u32) {
        (self.crc, &self.levels, self.shape)
    }

    /// Return whether both could be the same image, saved again.
    fn is_like(&self, other: &Self) -> bool {
        let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= RESAVE_TOLERANCE;
        self.shape.abs_diff(other.shape) <= 1
            && self.levels.len() == other.levels.len()
            && self.levels.iter().zip(&other.levels).all(near)
    }
}

/// Views, each with a value of type `T`.
pub type Views<'a, T> = [(&'a Frame, T)];

/// Report held-out views whose files have the same bytes as those of training views, as one problem.
#[must_use]
pub fn find_identical_files(
    train: &Views<'_, FileIdentity>,
    held_out: &Views<'_, FileIdentity>,
) -> Option<Problem> {
    let trained: HashMap<FileIdentity, &Frame> =
        train.iter().map(|(view, c)| (*c, *view)).collect();
    let pair = |(view, content): &(_, FileIdentity)| Some((*view, *trained.get(content)?));
    let pairs: Vec<(&Frame, &Frame)> = held_out.iter().filter_map(pair).collect();
    report(&pairs)
}

/// Report held-out views that show the same image as training views, as one problem.
#[must_use]
pub fn find_duplicate_images(
    dataset: &Dataset,
    train: &Views<'_, &Thumbnail>,
    held_out: &Views<'_, &Thumbnail>,
) -> Option<Problem> {
    let shows = |(_, thumbnail): &&(&Frame, &Thumbnail)| !thumbnail.is_blank;
    let train = || train.iter().filter(shows).copied();
    let exact: HashMap<_, &Frame> = train().map(|(view, t)| (t.key(), view)).collect();
    let mut telling: Vec<_> = train().filter(|(_, t)| t.is_distinctive()).collect();
    telling.sort_by_key(|(_, t)| t.mean);
    let cameras = || dataset.views().into_iter().map(|f| f.camera.place());
    let (low, high) = (cameras().reduce(DVec3::min)?, cameras().reduce(DVec3::max)?);
    let is_beside = |a: &Frame, b: &Frame| {
        let apart = a.camera.place().distance(b.camera.place());
        apart <= SAME_PLACE * low.distance(high)
            && a.camera.direction().dot(b.camera.direction()) >= SAME_WAY
    };
    let twin = |view: &Frame, thumbnail: &Thumbnail| {
        if let Some(same) = exact.get(&thumbnail.key()) {
            return Some(*same);
        }
        let start = thumbnail.mean.saturating_sub(RESAVE_TOLERANCE);
        let start = telling.partition_point(|(_, t)| t.mean < start);
        let end = thumbnail.mean.saturating_add(RESAVE_TOLERANCE);
        let mut near = telling[start..].iter().take_while(|(_, t)| t.mean <= end);
        let found = near.find(|(other, t)| t.is_like(thumbnail) && is_beside(other, view))?;
        Some(found.0)
    };
    let held_out = held_out.iter().filter(shows);
    let pairs: Vec<(&Frame, &Frame)> = held_out
        .filter_map(|(view, thumbnail)| Some((*view, twin(view, thumbnail)?)))
        .collect();
    report(&pairs)
}

/// Report that the first view of each pair is held out but shows the same image as the second. [`super::doctor::check`] reports
/// pairs with the same file.
fn report(pairs: &[(&Frame, &Frame)]) -> Option<Problem> {
    let mut pairs = pairs.to_vec();
    pairs.retain(|(view, other)| view.image_path != other.image_path);
    let (first, other) = *pairs.first()?;
    let more = and_more(pairs.len() - 1);
    Some(Problem::warning_of(
        first,
        format!(
            "view {} is held out but shows the same image as training view {}{more}, which makes its metrics too good: remove \
             it from one of the two",
            one_line(&first.name),
            one_line(&other.name),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::Scene;

    /// Return an image of `width` × `height` pixels with a pattern that moves with `phase`.
    fn picture(width: u32, height: u32, phase: f32) -> ::image::RgbImage {
        ::image::RgbImage::from_fn(width, height, |x, y| {
            let share = |i: u32, n: u32| (i as f32 + 0.5) / n as f32;
            let (u, v) = (share(x, width), share(y, height));
            let wave = |a: f32, b: f32| {
                let angle = a * (u + phase) + b * v;
                (127.5 + 100.0 * angle.sin()) as u8
            };
            ::image::Rgb([wave(9.0, 3.0), wave(4.0, 11.0), wave(17.0, -6.0)])
        })
    }

    /// Return nine views of different patterns; the first and last are held out.
    fn scene() -> Scene {
        let scene = Scene::new(9);
        for i in 0..9_u8 {
            let path = scene.path(&format!("images/{i:04}.png"));
            picture(64, 48, 0.02 * f32::from(i)).save(path).unwrap();
        }
        scene
    }

    fn found(scene: &Scene) -> Option<Problem> {
        let dataset = scene.open().unwrap();
        let thumbnails = |frames: &[Frame]| -> Vec<Thumbnail> {
            let load = |frame: &Frame| Thumbnail::of(&frame.load().unwrap());
            frames.iter().map(load).collect()
        };
        let [train, test] = [&dataset.train, &dataset.test];
        let (of_train, of_test) = (thumbnails(train), thumbnails(test));
        assert_eq!(of_train.len() + of_test.len(), 9);
        let train: Vec<_> = train.iter().zip(&of_train).collect();
        let test: Vec<_> = test.iter().zip(&of_test).collect();
        find_duplicate_images(&dataset, &train, &test)
    }

    #[track_caller]
    fn told(scene: &Scene, words: &[&str]) {
        let problem = found(scene).unwrap();
        for word in words {
            assert!(problem.message.contains(word), "{word}: {problem:?}");
        }
    }

    #[test]
    fn neighbours_of_a_sequence_are_no_copies() {
        assert_eq!(found(&scene()), None);
    }

    #[test]
    fn a_copy_is_told_whatever_it_is_saved_as() {
        let mut scene = scene();
        let held_out = scene.path("images/0008.png");
        std::fs::copy(scene.path("images/0003.png"), &held_out).unwrap();
        told(&scene, &["images/0008", "images/0003", "held out"]);
        // Save the copy with lossy compression and in another size, from the same camera.
        scene.json["frames"][8]["transform_matrix"] =
            scene.json["frames"][5]["transform_matrix"].clone();
        let copy = picture(64, 48, 0.02 * 5.0);
        copy.save_with_format(&held_out, ::image::ImageFormat::Jpeg)
            .unwrap();
        told(&scene, &["images/0008", "images/0005"]);
        for (width, height) in [(128, 96), (100, 75), (36, 27)] {
            picture(width, height, 0.02 * 5.0).save(&held_out).unwrap();
            told(&scene, &["images/0008", "images/0005"]);
        }
        let copy = picture(64, 48, 0.02 * 4.0);
        copy.save(scene.path("images/0000.png")).unwrap();
        told(&scene, &["images/0000", "images/0004", "so does another"]);
        // A similar image from another camera may show the other side.
        let again = picture(64, 48, 0.02);
        again
            .save_with_format(scene.path("images/0000.png"), ::image::ImageFormat::Jpeg)
            .unwrap();
        picture(64, 48, 0.9).save(&held_out).unwrap();
        assert_eq!(found(&scene), None);
    }

    #[test]
    fn what_shows_nothing_is_like_nothing() {
        let scene = scene();
        for i in [3, 8] {
            let path = scene.path(&format!("images/{i:04}.png"));
            let grey = ::image::RgbImage::from_pixel(64, 48, ::image::Rgb([9; 3]));
            grey.save(path).unwrap();
        }
        assert_eq!(found(&scene), None);
    }
}
