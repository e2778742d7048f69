//! Masks: the pixels of an image that are used for training and metrics.

use std::path::{Path, PathBuf};

use super::error::{DatasetError, damaged};
use super::intrinsics::is_same_shape;
use super::{FileIdentity, Image, Orientation};

/// The pixels of an image that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// One bit per pixel, row by row from the top, from the lowest bit of the first word on; set if the pixel is used.
    words: Vec<u32>,
}

impl Mask {
    /// Return a mask of `width` × `height` pixels, in which the pixel in column `x` and row `y` is used if `is_used(x, y)`.
    #[must_use]
    pub fn from_fn(width: u32, height: u32, mut is_used: impl FnMut(u32, u32) -> bool) -> Self {
        let n = width as usize * height as usize;
        let mut words = vec![0; n.div_ceil(32)];
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        for (i, (x, y)) in pixels.enumerate() {
            words[i / 32] |= u32::from(is_used(x, y)) << (i % 32);
        }
        Self {
            width,
            height,
            words,
        }
    }

    /// Return whether the pixel with this index, row by row, is used.
    #[must_use]
    pub fn is_used(&self, pixel: usize) -> bool {
        self.words[pixel / 32] >> (pixel % 32) & 1 == 1
    }

    /// Number of used pixels.
    #[must_use]
    pub fn n_used(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Return each word of 32 pixels with the number of used pixels before it, from which the device draws a used pixel.
    #[must_use]
    pub fn ranked(&self) -> Vec<[u32; 2]> {
        let mut before = 0;
        let ranked = self.words.iter().map(|word| {
            let entry = [*word, before];
            before += word.count_ones();
            entry
        });
        ranked.collect()
    }

    /// Number of entries of [`Self::ranked`] for an image of `width` × `height` pixels.
    #[must_use]
    pub fn n_words(width: u32, height: u32) -> u64 {
        (u64::from(width) * u64::from(height)).div_ceil(32)
    }

    /// Return the part of `size` pixels from `at`, which must lie in the mask.
    #[must_use]
    pub fn cropped(&self, at: [u32; 2], size: [u32; 2]) -> Self {
        Self::from_fn(size[0], size[1], |x, y| {
            self.is_used(((y + at[1]) * self.width + x + at[0]) as usize)
        })
    }

    /// Return the mask for an image of `width` × `height` pixels: a pixel is used if all pixels that it covers are.
    #[must_use]
    pub fn resized(&self, width: u32, height: u32) -> Self {
        let covered = |i: u32, old: u32, new: u32| {
            let (i, old, new) = (u64::from(i), u64::from(old), u64::from(new));
            let start = i * old / new;
            (
                start as u32,
                ((i + 1) * old).div_ceil(new).max(start + 1) as u32,
            )
        };
        Self::from_fn(width, height, |x, y| {
            let columns = covered(x, self.width, width);
            let rows = covered(y, self.height, height);
            (rows.0..rows.1).all(|y| {
                (columns.0..columns.1).all(|x| self.is_used((y * self.width + x) as usize))
            })
        })
    }

    /// Set the values of hidden pixels of `rgb`, an image of the mask's size, to grey.
    pub fn blank(&self, rgb: &mut [f32]) {
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            if !self.is_used(i) {
                pixel.fill(0.5);
            }
        }
    }
}

/// What a mask's file shows where pixels are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Black, as in nerfstudio and COLMAP.
    Black,
    /// White, as in Instant-NGP's masks of dynamic objects.
    White,
}

/// Where the mask of a frame is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskSource {
    /// In an image of its own.
    File {
        /// The image, which existed when the dataset was opened.
        path: PathBuf,
        /// The colour of unused pixels.
        hidden: Hidden,
    },
    /// In the alpha channel of the frame's image: transparent pixels are not used.
    Alpha,
}

/// Read the mask in `path` for an image of `size` (width, height) pixels after `orientation` is applied.
///
/// A pixel is white if its value, the largest of its channels times alpha, is above half of the image's largest value, so that
/// masks of 0 and 1 are read as those of 0 and 255 are.
pub(super) fn read(
    path: &Path,
    hidden: Hidden,
    orientation: Orientation,
    size: [u32; 2],
) -> Result<(Mask, FileIdentity), DatasetError> {
    let (image, identity) = Image::read(path, orientation)?;
    let [width, height] = size;
    if !is_same_shape([image.width, image.height], size.map(f64::from)) {
        return Err(damaged(
            path,
            format!(
                "is a mask of {} × {} pixels for an image of {width} × {height}: export it again at the image's size",
                image.width, image.height
            ),
        ));
    }
    let value = |pixel: &[u8]| {
        let brightest = pixel[..3].iter().copied().max().unwrap_or(0);
        u32::from(brightest) * u32::from(pixel[3])
    };
    let values: Vec<u32> = image.pixels.chunks_exact(4).map(value).collect();
    let most = values.iter().copied().max().unwrap_or(0);
    let mask = Mask::from_fn(image.width, image.height, |x, y| {
        let is_white = 2 * values[(y * image.width + x) as usize] > most;
        is_white == (hidden == Hidden::Black)
    });
    let mask = if [image.width, image.height] == size {
        mask
    } else {
        mask.resized(width, height)
    };
    Ok((mask, identity))
}

/// Take the mask from the alpha channel of `image`, which becomes opaque: pixels that are at most half opaque are not used.
pub(super) fn take_alpha(image: &mut Image) -> Mask {
    let mask = Mask::from_fn(image.width, image.height, |x, y| {
        image.pixels[4 * (y * image.width + x) as usize + 3] > 127
    });
    image
        .pixels
        .iter_mut()
        .skip(3)
        .step_by(4)
        .for_each(|alpha| *alpha = 255);
    image.has_alpha = false;
    mask
}

/// Replace each hidden pixel by the used pixel before it, or the first, so that statistics are those of what is used.
pub(super) fn replace_hidden(image: &mut Image) {
    let Some(mask) = &image.mask else {
        return;
    };
    let n = image.pixels.len() / 4;
    let Some(first) = (0..n).find(|pixel| mask.is_used(*pixel)) else {
        return;
    };
    let mut last = first;
    for pixel in 0..n {
        if mask.is_used(pixel) {
            last = pixel;
        } else {
            image.pixels.copy_within(4 * last..4 * last + 4, 4 * pixel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkered(width: u32, height: u32) -> Mask {
        Mask::from_fn(width, height, |x, y| (x + 2 * y) % 3 != 0)
    }

    #[test]
    fn pixels_are_counted_and_ranked() {
        let mask = checkered(13, 7);
        let used = (0..13 * 7).filter(|i| mask.is_used(*i)).count();
        assert_eq!(mask.n_used() as usize, used);
        let ranked = mask.ranked();
        assert_eq!(ranked.len() as u64, Mask::n_words(13, 7));
        for (i, [word, before]) in ranked.iter().enumerate() {
            let counted = (0..32 * i).filter(|p| mask.is_used(*p)).count();
            assert_eq!(*before as usize, counted);
            assert_eq!(word & 1 == 1, mask.is_used(32 * i));
        }
    }

    #[test]
    fn parts_and_sizes_keep_what_is_hidden() {
        let mask = checkered(12, 8);
        let part = mask.cropped([3, 2], [5, 4]);
        for (x, y) in [(0, 0), (4, 0), (2, 3)] {
            assert_eq!(part.is_used(y * 5 + x), mask.is_used((y + 2) * 12 + x + 3));
        }
        // One hidden pixel hides the pixel that covers it, also where sides are no multiples.
        for (width, height) in [(6, 4), (5, 3), (12, 8), (1, 1)] {
            let one = Mask::from_fn(12, 8, |x, y| (x, y) != (7, 5));
            let small = one.resized(width, height);
            assert!(small.n_used() + 4 >= width * height && small.n_used() < width * height);
            let at = (5 * height / 8) * width + 7 * width / 12;
            assert!(!small.is_used(at as usize), "{width} × {height}");
        }
        // Enlarged masks repeat their pixels.
        let large = Mask::from_fn(2, 1, |x, _| x == 1).resized(4, 2);
        let used: Vec<bool> = (0..8).map(|i| large.is_used(i)).collect();
        assert_eq!(used, [false, false, true, true, false, false, true, true]);
    }

    #[test]
    fn statistics_are_of_what_is_used() {
        let pixels = (1..=6_u8).flat_map(|v| [v, v, v, 255]).collect();
        let mut image = Image {
            width: 3,
            height: 2,
            pixels,
            has_alpha: false,
            mask: Some(Mask::from_fn(3, 2, |x, y| x + y == 1)),
        };
        replace_hidden(&mut image);
        let values: Vec<u8> = image.pixels.iter().step_by(4).copied().collect();
        assert_eq!(values, [2, 2, 2, 4, 4, 4]);
    }

    #[test]
    fn files_are_read_with_their_polarity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        for (dark, bright) in [(0, 255), (0, 1), (20, 240)] {
            let pixel = |x, _| ::image::Luma([if x < 2 { dark } else { bright }]);
            ::image::GrayImage::from_fn(4, 2, pixel)
                .save(&path)
                .unwrap();
            for (hidden, used) in [
                (Hidden::Black, [false, true]),
                (Hidden::White, [true, false]),
            ] {
                let mask = read(&path, hidden, Orientation::NoTransforms, [4, 2])
                    .unwrap()
                    .0;
                assert_eq!(
                    [mask.is_used(0), mask.is_used(3)],
                    used,
                    "{dark} {bright} {hidden:?}"
                );
                assert_eq!(mask.n_used(), 4);
            }
        }
        let half = read(&path, Hidden::Black, Orientation::NoTransforms, [2, 1])
            .unwrap()
            .0;
        assert_eq!([half.is_used(0), half.is_used(1)], [false, true]);
        let refused = read(&path, Hidden::Black, Orientation::NoTransforms, [4, 4]).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("mask of 4 × 2 pixels for an image of 4 × 4")
        );
    }
}
