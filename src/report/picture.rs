//! Images in the page: downscaling, differences, false colours, and encoding as `data:` URLs.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _, ImageError};

/// Factors by which errors may be amplified; the largest suitable one is used.
const AMPLIFICATIONS: [u32; 7] = [50, 20, 10, 5, 4, 2, 1];
/// Fraction of the errors that must fit within the colour scale.
const WITHIN_SCALE: f64 = 0.99;
/// Largest sum over three channels.
const MAX_SUM: usize = 3 * 255;

/// An 8-bit image with `channels` values per pixel, rows from the top.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    /// (height, width, channels)
    values: Vec<f32>,
    channels: usize,
}

impl Picture {
    /// Create an RGB image from `3 * width * height` bytes.
    pub(super) fn rgb(width: u32, height: u32, bytes: &[u8]) -> Self {
        Self {
            width,
            height,
            values: bytes.iter().map(|&b| f32::from(b)).collect(),
            channels: 3,
        }
    }

    /// Return the absolute difference of two images of equal size, averaged over channels, in 0..=255.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let pixels = self
            .values
            .chunks_exact(3)
            .zip(other.values.chunks_exact(3));
        let mean = |(a, b): (&[f32], &[f32])| {
            let sum: f32 = a.iter().zip(b).map(|(x, y)| (x - y).abs()).sum();
            sum / 3.0
        };
        Self {
            width: self.width,
            height: self.height,
            values: pixels.map(mean).collect(),
            channels: 1,
        }
    }

    /// Downscale to a width of at most `limit` pixels; every pixel is the mean of the area that it covers.
    pub(super) fn at_most(&self, limit: u32) -> Self {
        if self.width <= limit {
            return self.clone();
        }
        let width = limit;
        let height = (u64::from(self.height) * u64::from(limit))
            .div_ceil(u64::from(self.width))
            .max(1) as u32;
        let (rows, channels) = (self.height as usize, self.channels);
        let row = self.width as usize * channels;
        let across = coverage(self.width, width);
        let mut narrow: Vec<f32> = Vec::with_capacity(rows * width as usize * channels);
        for y in 0..rows {
            for (first, weights) in &across {
                for channel in 0..channels {
                    let start = y * row + first * channels + channel;
                    let sources = self.values[start..].iter().step_by(channels);
                    narrow.push(weights.iter().zip(sources).map(|(w, v)| w * v).sum());
                }
            }
        }
        let row = width as usize * channels;
        let mut values = Vec::with_capacity(height as usize * row);
        for (first, weights) in &coverage(self.height, height) {
            for x in 0..row {
                let sources = narrow[first * row + x..].iter().step_by(row);
                values.push(weights.iter().zip(sources).map(|(w, v)| w * v).sum());
            }
        }
        Self {
            width,
            height,
            values,
            channels,
        }
    }

    /// Encode an RGB image as a `data:` URL of a PNG.
    pub(super) fn address(&self) -> Result<String, ImageError> {
        let bytes: Vec<u8> = self.values.iter().map(|v| v.round() as u8).collect();
        png(&bytes, self.width, self.height, FilterType::Adaptive)
    }

    /// Encode an error map, amplified by `amplification` and in false colours, as a `data:` URL of a PNG.
    pub(super) fn error_address(&self, amplification: u32) -> Result<String, ImageError> {
        let strength = amplification as f32;
        let level = |v: &f32| (v * strength).round().clamp(0.0, 255.0) as usize;
        let scale: Vec<[u8; 3]> = (0..256).map(|i| ember(i as f32 / 255.0)).collect();
        let bytes: Vec<u8> = self.values.iter().flat_map(|v| scale[level(v)]).collect();
        png(&bytes, self.width, self.height, FilterType::NoFilter)
    }
}

/// Return, for each of `to` new pixels along a side of `from` pixels, the first old pixel that it covers, and the
/// weights of all covered pixels.
fn coverage(from: u32, to: u32) -> Vec<(usize, Vec<f32>)> {
    let size = f64::from(from) / f64::from(to);
    let cover = |i: u32| {
        let (start, end) = (f64::from(i) * size, f64::from(i + 1) * size);
        let pixels = start.floor() as u32..(end.ceil() as u32).min(from);
        let share = |p: u32| (end.min(f64::from(p + 1)) - start.max(f64::from(p))).max(0.0);
        let weights = pixels.clone().map(|p| (share(p) / size) as f32).collect();
        (pixels.start as usize, weights)
    };
    (0..to).map(cover).collect()
}

/// Return the factor that spreads the errors of all `maps` over the colour scale, except for the largest 1 % of them.
pub(super) fn amplification<'a>(maps: impl Iterator<Item = &'a Picture>) -> u32 {
    let mut counts = vec![0_usize; MAX_SUM + 1];
    for value in maps.flat_map(|m| &m.values) {
        counts[((value * 3.0).round() as usize).min(MAX_SUM)] += 1;
    }
    let enough = counts.iter().sum::<usize>() as f64 * WITHIN_SCALE;
    let mut seen = 0;
    let bound = counts.iter().position(|&n| {
        seen += n;
        seen as f64 >= enough
    });
    let bound = bound.unwrap_or(MAX_SUM) as u32;
    let fits = |f: &u32| f * bound <= MAX_SUM as u32;
    AMPLIFICATIONS.into_iter().find(fits).unwrap_or(1)
}

/// Encode the colour scale as a `data:` URL of a PNG.
pub(super) fn scale_address() -> Result<String, ImageError> {
    let bytes: Vec<u8> = (0..256).flat_map(|i| ember(i as f32 / 255.0)).collect();
    png(&bytes, 256, 1, FilterType::NoFilter)
}

/// Return the colour for `t` in [0, 1]: from black through red to pale yellow, with lightness linear in Oklab.
fn ember(t: f32) -> [u8; 3] {
    let lightness = 0.12 + 0.84 * t;
    let chroma = 0.03 + 0.62 * t * (1.0 - t) + 0.03 * t;
    let hue = (310.0 + 150.0 * t).to_radians();
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    // Cone responses of Oklab (Ottosson 2020), then linear sRGB.
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    let linear = [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ];
    linear.map(|v| {
        let v = v.clamp(0.0, 1.0);
        let encoded = if v <= 0.003_130_8 {
            12.92 * v
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        };
        (encoded * 255.0).round() as u8
    })
}

fn png(bytes: &[u8], width: u32, height: u32, filter: FilterType) -> Result<String, ImageError> {
    let mut file = Vec::new();
    PngEncoder::new_with_quality(&mut file, CompressionType::Default, filter).write_image(
        bytes,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(file)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_keeps_the_mean() {
        let bytes: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let large = Picture::rgb(7, 5, &bytes);
        for limit in 1..7 {
            let small = large.at_most(limit);
            assert_eq!(small.width, limit);
            assert_eq!(small.values.len() as u32, small.width * small.height * 3);
            for channel in 0..3 {
                let mean = |p: &Picture| {
                    let values: Vec<f32> =
                        p.values.iter().skip(channel).step_by(3).copied().collect();
                    values.iter().sum::<f32>() / values.len() as f32
                };
                assert!((mean(&small) - mean(&large)).abs() < 0.01);
            }
        }
        assert_eq!(large.at_most(480).values, large.values);
    }

    #[test]
    fn the_scale_grows_lighter_at_every_step() {
        let luminance = |[r, g, b]: [u8; 3]| {
            let linear = |v: u8| (f64::from(v) / 255.0).powf(2.2);
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
        };
        let steps: Vec<f64> = (0..256)
            .map(|i| luminance(ember(i as f32 / 255.0)))
            .collect();
        assert!(steps.windows(2).all(|w| w[0] <= w[1]), "{steps:?}");
        assert!(steps[0] < 0.01 && steps[255] > 0.7);
    }

    #[test]
    fn small_errors_are_amplified_more() {
        let map = |value: f32| Picture {
            width: 10,
            height: 10,
            values: vec![value; 100],
            channels: 1,
        };
        assert_eq!(amplification([map(0.0)].iter()), 50);
        assert_eq!(amplification([map(20.0)].iter()), 10);
        assert_eq!(amplification([map(255.0)].iter()), 1);
        let mut one_off = map(20.0);
        one_off.values[0] = 255.0;
        assert_eq!(amplification([one_off].iter()), 10);
    }
}
