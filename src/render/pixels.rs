//! Conversion of rendered views to pixels.

use super::{Channel, RenderedFrame};
use crate::metrics::round_to_8_bit;

/// Minimum opacity of a pixel whose colour is defined.
const MIN_COLOR_OPACITY: f32 = 1e-3;
/// Minimum opacity of a pixel whose depth is defined.
const MIN_DEPTH_OPACITY: f32 = 0.5;

/// Convert a linear value to sRGB (IEC 61966-2-1).
fn srgb_from_linear(v: f32) -> f32 {
    if v <= 0.003_130_8 {
        12.92 * v
    } else {
        1.055 * v.powf(1.0 / 2.4) - 0.055
    }
}

/// Convert an sRGB value to linear.
pub(super) fn linear_from_srgb(v: f32) -> f32 {
    if v <= 0.040_45 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}

fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

impl RenderedFrame {
    /// Return sRGB values in [0, 1] over `background` (sRGB), rounded to 8 bits: (height, width, 3).
    #[must_use]
    pub fn rgb(&self, background: [f32; 3]) -> Vec<f32> {
        let behind = if self.linear {
            background.map(linear_from_srgb)
        } else {
            background
        };
        let mut out = Vec::with_capacity(self.color.len());
        for (color, &opacity) in self.color.chunks_exact(3).zip(&self.opacity) {
            for c in 0..3 {
                let value = color[c] + (1.0 - opacity) * behind[c];
                out.push(round_to_8_bit(if self.linear {
                    srgb_from_linear(value)
                } else {
                    value
                }));
            }
        }
        out
    }

    /// Return the range of the depth of pixels that are more than half opaque, without the nearest and the farthest 2 %;
    /// `None` if there are none.
    #[must_use]
    pub fn depth_range(&self) -> Option<[f32; 2]> {
        let pixels = self.depth.iter().zip(&self.opacity);
        let solid = pixels.filter(|&(_, &o)| o > 0.5);
        let mut depths: Vec<f32> = solid.map(|(&d, &o)| d / o).collect();
        depths.sort_by(f32::total_cmp);
        let few = depths.len() / 50;
        let last = depths.len().checked_sub(1 + few)?;
        Some([depths[few], depths[last]])
    }

    /// Return RGB8 pixels that show `channel`. Depth is scaled to `depth_range`; the nearest is white.
    #[must_use]
    pub fn pixels(&self, channel: Channel, background: [f32; 3], depth_range: [f32; 2]) -> Vec<u8> {
        match channel {
            Channel::Rgb => self.rgb(background).into_iter().map(byte).collect(),
            Channel::Opacity => self.opacity.iter().flat_map(|&o| [byte(o); 3]).collect(),
            Channel::Depth => {
                let shaded = |(&d, &o): (&f32, &f32)| {
                    if o < MIN_COLOR_OPACITY {
                        0.0
                    } else {
                        shade(d / o, depth_range) * o
                    }
                };
                self.depth
                    .iter()
                    .zip(&self.opacity)
                    .map(shaded)
                    .flat_map(|v| [byte(v); 3])
                    .collect()
            }
            Channel::Normal => self
                .normal
                .chunks_exact(3)
                .zip(&self.opacity)
                .flat_map(|(n, &o)| {
                    let length = n.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
                    std::array::from_fn::<u8, 3, _>(|c| {
                        byte((n[c] / length * 0.5 + 0.5) * o + background[c] * (1.0 - o))
                    })
                })
                .collect(),
        }
    }

    /// Return RGBA8 pixels that show `channel` (not opacity) without a background, with straight alpha. They composite in sRGB
    /// values as the field does, except for fields that composite in linear colour.
    #[must_use]
    pub fn pixels_with_alpha(&self, channel: Channel, depth_range: [f32; 2]) -> Vec<u8> {
        let pixel = |(i, &opacity): (usize, &f32)| {
            let rgb = if opacity < MIN_COLOR_OPACITY {
                [0.0; 3]
            } else {
                match channel {
                    Channel::Rgb => self.straight(i),
                    Channel::Normal => {
                        let n = [0, 1, 2].map(|c| self.normal[3 * i + c]);
                        let length = n.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
                        n.map(|v| v / length * 0.5 + 0.5)
                    }
                    Channel::Depth => [shade(self.depth[i] / opacity, depth_range); 3],
                    Channel::Opacity => [opacity; 3],
                }
            };
            let [r, g, b] = rgb.map(byte);
            [r, g, b, byte(opacity)]
        };
        self.opacity.iter().enumerate().flat_map(pixel).collect()
    }

    /// Return the sRGB colour of pixel `i` divided by its opacity, which must not be 0.
    fn straight(&self, i: usize) -> [f32; 3] {
        [0, 1, 2].map(|c| {
            let value = self.color[3 * i + c] / self.opacity[i];
            if self.linear {
                srgb_from_linear(value)
            } else {
                value
            }
        })
    }

    /// Return linear-light RGBA with premultiplied alpha, (height, width, 4); opaque if a `background` (sRGB) is given.
    #[must_use]
    pub fn linear_rgba(&self, background: Option<[f32; 3]>) -> Vec<f32> {
        let pixel = |(i, &opacity): (usize, &f32)| {
            let color = [0, 1, 2].map(|c| self.color[3 * i + c]);
            let [r, g, b] = match background {
                Some(behind) => [0, 1, 2].map(|c| {
                    let rest = 1.0 - opacity;
                    if self.linear {
                        color[c] + rest * linear_from_srgb(behind[c])
                    } else {
                        linear_from_srgb(color[c] + rest * behind[c])
                    }
                }),
                None if self.linear || opacity <= 0.0 => color,
                None => color.map(|v| linear_from_srgb(v / opacity) * opacity),
            };
            [r, g, b, if background.is_some() { 1.0 } else { opacity }]
        };
        self.opacity.iter().enumerate().flat_map(pixel).collect()
    }

    /// Return the distance from the camera in world units, (height, width); 0 for a pixel that is less than half opaque.
    #[must_use]
    pub fn distances(&self) -> Vec<f32> {
        let distance = |(&d, &o): (&f32, &f32)| if o < MIN_DEPTH_OPACITY { 0.0 } else { d / o };
        self.depth.iter().zip(&self.opacity).map(distance).collect()
    }

    /// Return [`Self::distances`] times `scale` as 16-bit integers, and the number of values clipped to 65535.
    #[must_use]
    pub fn distances_in_16_bits(&self, scale: f32) -> (Vec<u16>, usize) {
        let mut cut = 0;
        let mut convert = |distance: f32| {
            let value = (distance * scale).round();
            cut += usize::from(value > f32::from(u16::MAX));
            // 0 means that there is no surface.
            let least = if distance > 0.0 { 1.0 } else { 0.0 };
            value.clamp(least, f32::from(u16::MAX)) as u16
        };
        let values = self.distances().into_iter().map(&mut convert).collect();
        (values, cut)
    }
}

/// Return the shade of grey of a distance; the nearest is white.
fn shade(distance: f32, [near, far]: [f32; 2]) -> f32 {
    1.0 - 0.9 * ((distance - near) / (far - near).max(1e-6)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An opaque, a half-opaque and a transparent pixel.
    fn frame(linear: bool) -> RenderedFrame {
        let mut frame = RenderedFrame::new(3, 1, linear);
        frame.opacity = vec![1.0, 0.5, 0.0];
        frame.color = vec![0.2, 0.4, 0.6, 0.1, 0.2, 0.3, 0.0, 0.0, 0.0];
        frame.depth = vec![2.0, 1.5, 0.0];
        frame.normal = vec![0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0];
        frame
    }

    #[test]
    fn alpha_is_straight() {
        let pixels = frame(false).pixels_with_alpha(Channel::Rgb, [0.0, 1.0]);
        assert_eq!(pixels, [51, 102, 153, 255, 51, 102, 153, 128, 0, 0, 0, 0]);
        // sRGB of 0.2, 0.4 and 0.6.
        let pixels = frame(true).pixels_with_alpha(Channel::Rgb, [0.0, 1.0]);
        assert_eq!(pixels[..8], [124, 170, 203, 255, 124, 170, 203, 128]);
        let normals = frame(false).pixels_with_alpha(Channel::Normal, [0.0, 1.0]);
        assert_eq!(normals[..8], [128, 128, 255, 255, 128, 255, 128, 128]);
        // Distances 2 and 3; the nearest is white.
        let depth = frame(false).pixels_with_alpha(Channel::Depth, [2.0, 3.0]);
        assert_eq!(depth[..8], [255, 255, 255, 255, 26, 26, 26, 128]);
    }

    #[test]
    fn straight_pixels_over_a_background_are_the_rendering() {
        let frame = frame(false);
        let straight = frame.pixels_with_alpha(Channel::Rgb, [0.0, 1.0]);
        let over = frame.pixels(Channel::Rgb, [1.0; 3], [0.0, 1.0]);
        for (rgba, rgb) in straight.chunks_exact(4).zip(over.chunks_exact(3)) {
            let alpha = f32::from(rgba[3]) / 255.0;
            for c in 0..3 {
                let blended = f32::from(rgba[c]) * alpha + 255.0 * (1.0 - alpha);
                assert!((blended - f32::from(rgb[c])).abs() <= 1.0);
            }
        }
    }

    #[test]
    fn linear_light_is_times_alpha() {
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        // Linear values of 0.2, 0.4 and 0.6.
        let linear = [0.03310, 0.13287, 0.31855];
        let pixels = frame(false).linear_rgba(None);
        assert!(
            close(&pixels[..3], &linear) && pixels[3] == 1.0,
            "{pixels:?}"
        );
        assert!(close(&pixels[4..7], &linear.map(|v| v / 2.0)) && pixels[7] == 0.5);
        assert_eq!(pixels[8..], [0.0; 4]);
        // 0.1 + 0.5 · 1, in sRGB and in linear values.
        let over = frame(false).linear_rgba(Some([1.0; 3]));
        assert!((over[4] - linear[2]).abs() < 1e-4 && over[7] == 1.0 && over[8..] == [1.0; 4]);
        let over = frame(true).linear_rgba(Some([1.0; 3]));
        assert!((over[4] - 0.6).abs() < 1e-6);
    }

    #[test]
    fn distances_are_numbers() {
        assert_eq!(frame(false).distances(), [2.0, 3.0, 0.0]);
        assert_eq!(
            frame(false).distances_in_16_bits(1000.0),
            (vec![2000, 3000, 0], 0)
        );
        assert_eq!(
            frame(false).distances_in_16_bits(30_000.0),
            (vec![60_000, 65_535, 0], 1)
        );
        assert_eq!(frame(false).distances_in_16_bits(1e-3), (vec![1, 1, 0], 0));
    }

    #[test]
    fn sums_of_frames_are_weighted_by_opacity() {
        let mut sum = RenderedFrame::new(3, 1, false);
        let mut far = frame(false);
        far.opacity[0] = 0.0;
        far.depth[0] = 0.0;
        sum.add(&frame(false), 0.5);
        sum.add(&far, 0.5);
        // Half of the first pixel is empty, which does not change its distance.
        assert_eq!(sum.opacity, [0.5, 0.5, 0.0]);
        assert_eq!(sum.distances(), [2.0, 3.0, 0.0]);
    }
}
