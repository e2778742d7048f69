//! Detects what images show around a scene: transparency, one colour, or more of the scene.

use rayon::prelude::*;

use super::{Frame, Image, mask};
use crate::config::Surroundings;

/// Maximum number of images that are examined, evenly spread.
const MAX_IMAGES: usize = 12;
/// Maximum difference of a channel from the colour of a border.
const TOLERANCE: u8 = 8;
/// Minimum fraction of border pixels that have the border's colour, for a scene in front of one colour.
const SHARE: f64 = 0.7;
/// Ratio of the shorter side of an image to the minimum width of a border, and minimum fraction of pixels at that depth that
/// have the border's colour; the object may cover more pixels there.
const INSIDE: usize = 24;
const SHARE_INSIDE: f64 = 0.5;
/// Maximum difference of a JPEG border from white or black that is rounded to white or black.
const SNAP: u8 = 2;
/// Minimum fraction of images whose borders agree.
const IMAGES: f64 = 0.75;

/// Alpha below which a pixel counts as transparent; resampling and imprecise exports leave some pixels just below 255.
const CLEAR: u8 = 250;
/// Minimum fraction of transparent pixels of a transparent image.
const CLEAR_SHARE: f64 = 0.005;
/// Minimum fraction of transparent images of a scene with transparent surroundings; the object may fill some images.
const CLEAR_IMAGES: f64 = 0.25;

/// Return what most images of `frames` show around the scene; `None` if none can be decoded.
pub(super) fn of(frames: &[Frame]) -> Option<Surroundings> {
    let n = frames.len().min(MAX_IMAGES);
    let looks: Vec<BorderStatistics> = (0..n)
        .into_par_iter()
        .filter_map(|i| frames[i * frames.len() / n].load().ok())
        .map(|mut image| {
            mask::replace_hidden(&mut image);
            BorderStatistics::of(&image)
        })
        .collect();
    of_looks(&looks)
}

/// Statistics of one image.
struct BorderStatistics {
    is_clear: bool,
    border: Option<[u8; 3]>,
    mean: [f64; 3],
}

impl BorderStatistics {
    fn of(image: &Image) -> Self {
        Self {
            is_clear: is_transparent(image),
            border: border(image),
            mean: mean(image),
        }
    }
}

fn of_looks(images: &[BorderStatistics]) -> Option<Surroundings> {
    if images.is_empty() {
        return None;
    }
    let clear = images.iter().filter(|image| image.is_clear).count();
    if clear as f64 >= CLEAR_IMAGES * images.len() as f64 {
        return Some(Surroundings::Transparent);
    }
    let borders: Vec<[u8; 3]> = images.iter().filter_map(|image| image.border).collect();
    let color = median(&borders);
    let agreeing = borders.iter().filter(|b| is_like(**b, color)).count();
    Some(if agreeing as f64 >= IMAGES * images.len() as f64 {
        let pure = [[0; 3], [255; 3]];
        let near = |pure: &[u8; 3]| pure.iter().zip(color).all(|(p, c)| p.abs_diff(c) <= SNAP);
        Surroundings::Plain(pure.into_iter().find(near).unwrap_or(color))
    } else {
        // The colour of a transparent pixel is meaningless.
        let opaque: Vec<_> = images.iter().filter(|image| !image.is_clear).collect();
        let sum = |channel| opaque.iter().map(|image| image.mean[channel]).sum::<f64>();
        Surroundings::Filled([0, 1, 2].map(|c| (sum(c) / opaque.len() as f64).round() as u8))
    })
}

/// Return the mean of each channel.
fn mean(image: &Image) -> [f64; 3] {
    let n = (image.pixels.len() / 4).max(1) as f64;
    [0, 1, 2].map(|channel| {
        let values = image.pixels.iter().skip(channel).step_by(4);
        values.map(|v| f64::from(*v)).sum::<f64>() / n
    })
}

/// Return whether enough pixels of an image are transparent.
fn is_transparent(image: &Image) -> bool {
    let alphas = image.pixels.iter().skip(3).step_by(4);
    let clear = alphas.filter(|alpha| **alpha < CLEAR).count();
    image.has_alpha && clear as f64 >= CLEAR_SHARE * (image.pixels.len() / 4) as f64
}

/// Return the colour of an image's border, if it has a border. The colour must fill most of the edge, occur on at least one of
/// each two opposite sides, which excludes bars, and continue further inside, which excludes a thin frame.
fn border(image: &Image) -> Option<[u8; 3]> {
    let edge = ring(image, 0);
    let pixels = edge.concat();
    let color = median(&pixels);
    let alike = edge.each_ref().map(|side| share(side, color));
    let is_bar = alike.chunks(2).any(|two| two.iter().all(|s| *s < 0.5));
    let side = image.width.min(image.height) as usize;
    let inside = (side / INSIDE).max(2);
    let goes_on = || share(&ring(image, inside).concat(), color) >= SHARE_INSIDE;
    let is_border = share(&pixels, color) >= SHARE && !is_bar;
    (is_border && (side <= 4 * inside || goes_on())).then_some(color)
}

/// Return the pixels at `depth` from an image's edge on each side: above, below, left and right.
fn ring(image: &Image, depth: usize) -> [Vec<[u8; 3]>; 4] {
    let (w, h) = (image.width as usize, image.height as usize);
    let at = |x: usize, y: usize| {
        let i = 4 * (y * w + x);
        [image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]]
    };
    let row = |y| (depth..w - depth).map(|x| at(x, y)).collect();
    let column = |x| (depth..h - depth).map(|y| at(x, y)).collect();
    [
        row(depth),
        row(h - 1 - depth),
        column(depth),
        column(w - 1 - depth),
    ]
}

/// Return the fraction of `pixels` with a colour.
fn share(pixels: &[[u8; 3]], color: [u8; 3]) -> f64 {
    let alike = pixels.iter().filter(|p| is_like(**p, color)).count();
    alike as f64 / pixels.len().max(1) as f64
}

/// Return the median of each channel.
fn median(colors: &[[u8; 3]]) -> [u8; 3] {
    [0, 1, 2].map(|channel| {
        let mut values: Vec<u8> = colors.iter().map(|c| c[channel]).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    })
}

fn is_like(a: [u8; 3], b: [u8; 3]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_images(images: &[Image]) -> Option<Surroundings> {
        of_looks(&images.iter().map(BorderStatistics::of).collect::<Vec<_>>())
    }

    /// Return an image with a colour for each pixel.
    fn image(color: impl Fn(u32, u32) -> [u8; 4]) -> Image {
        let (width, height) = (20, 16);
        let all = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels: Vec<u8> = all.flat_map(|(x, y)| color(x, y)).collect();
        Image {
            width,
            height,
            has_alpha: pixels.iter().skip(3).step_by(4).any(|a| *a < 255),
            pixels,
            mask: None,
        }
    }

    /// Return an image with JPEG-like noise of an object in front of the colour `behind`; the object reaches the lower border.
    fn object(behind: [u8; 3]) -> Image {
        image(|x, y| {
            let is_object = (7..13).contains(&x) && y > 4;
            let noise = (x * 7 + y * 3) as u8 % 5;
            let [r, g, b] = if is_object {
                [90, 40, 20]
            } else {
                behind.map(|v| v - noise)
            };
            [r, g, b, 255]
        })
    }

    /// Return an image that the scene fills.
    fn filled(seed: u32) -> Image {
        image(|x, y| {
            let v = (x * 11 + y * 17 + seed * 29) as u8;
            [v, v / 2, 255 - v, 255]
        })
    }

    #[test]
    fn a_border_of_one_colour_in_most_images_is_the_background() {
        let mut images: Vec<Image> = (0..6).map(|_| object([250, 250, 250])).collect();
        images.push(filled(1));
        let found = of_images(&images);
        let Some(Surroundings::Plain(rgb)) = found else {
            panic!("{found:?}");
        };
        assert!(rgb.iter().all(|v| (245..=250).contains(v)), "{rgb:?}");
        images.extend([filled(2), filled(3)]);
        assert!(matches!(of_images(&images), Some(Surroundings::Filled(_))));
    }

    #[test]
    fn frames_and_bars_around_a_scene_are_no_background() {
        let framed = |seed: u32, is_frame: fn(u32, u32) -> bool| {
            image(|x, y| {
                let v = (x * 11 + y * 17 + seed * 29) as u8;
                let [r, g, b] = if is_frame(x, y) {
                    [0; 3]
                } else {
                    [v, v / 2, 255 - v]
                };
                [r, g, b, 255]
            })
        };
        let thin = |x, y| x == 0 || y == 0 || x == 19 || y == 15;
        let letterbox = |_, y| !(3..13).contains(&y);
        let pillarbox = |x, _| !(4..16).contains(&x);
        for is_frame in [thin, letterbox, pillarbox] {
            let images: Vec<Image> = (0..5).map(|seed| framed(seed, is_frame)).collect();
            assert!(matches!(of_images(&images), Some(Surroundings::Filled(_))));
        }
        // White after JPEG compression.
        let images: Vec<Image> = (0..4).map(|_| object([254, 255, 253])).collect();
        assert!(matches!(of_images(&images), Some(Surroundings::Plain(_))));
        let images: Vec<Image> = (0..4).map(|_| image(|_, _| [254, 255, 253, 255])).collect();
        assert_eq!(of_images(&images), Some(Surroundings::Plain([255; 3])));
    }

    #[test]
    fn borders_that_differ_from_image_to_image_are_no_background() {
        let images: Vec<Image> = [40, 90, 140, 190].map(|v| object([v; 3])).into();
        assert!(matches!(of_images(&images), Some(Surroundings::Filled(_))));
    }

    #[test]
    fn images_that_a_scene_fills_have_a_mean_colour() {
        let left = |x: u32| x < 10;
        let images = [50, 150].map(|red| {
            image(|x, _| {
                if left(x) {
                    [0, 100, 200, 255]
                } else {
                    [red, 200, 50, 255]
                }
            })
        });
        let mean = Some(Surroundings::Filled([50, 150, 125]));
        assert_eq!(of_images(&images), mean);
        // Transparent pixels in a few images do not affect the mean.
        let cut_out = image(|x, _| [0, 0, 0, if x < 9 { 0 } else { 255 }]);
        let images = images.iter().cycle().take(4).cloned().chain([cut_out]);
        assert_eq!(of_images(&images.collect::<Vec<_>>()), mean);
    }

    #[test]
    fn transparency_is_told_first_and_nothing_of_no_images() {
        let clear = image(|x, _| [255, 255, 255, if x < 3 { 0 } else { 255 }]);
        let images = [object([255; 3]), clear];
        assert_eq!(of_images(&images), Some(Surroundings::Transparent));
        // A single transparent pixel, as from an imprecise export, does not count.
        let careless = |x: u32, y: u32| [255, 255, 255, if x + y == 0 { 0 } else { 254 }];
        let images = [object([255; 3]), image(careless)];
        assert_eq!(
            of_images(&images),
            Some(Surroundings::Plain([255, 255, 255]))
        );
        assert_eq!(of_images(&[]), None);
    }
}
