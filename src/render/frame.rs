//! A rendered view and its conversion to pixels.

use std::str::FromStr;

use crate::metrics::round_to_8_bit;

/// A rendered view. Colour is composited without a background: add `(1 - opacity) * background`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Colour times opacity, (height, width, 3).
    pub color: Vec<f32>,
    /// (height, width)
    pub opacity: Vec<f32>,
    /// Normal times opacity in world space, (height, width, 3); zero unless asked for.
    pub normal: Vec<f32>,
    /// Expected distance from the camera in world units times opacity, (height, width).
    pub depth: Vec<f32>,
    linear: bool,
}

/// What an output image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Colour over the background.
    Rgb,
    /// Distance from the camera, nearest white.
    Depth,
    /// Surface normal, (n + 1) / 2.
    Normal,
    /// Opacity.
    Opacity,
}

impl Channel {
    /// The name on the command line and in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Depth => "depth",
            Self::Normal => "normal",
            Self::Opacity => "opacity",
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Rgb, Self::Depth, Self::Normal, Self::Opacity]
            .into_iter()
            .find(|c| c.name() == text)
            .ok_or_else(|| format!("`{text}` is not a channel: give rgb, depth, normal or opacity"))
    }
}

/// sRGB of a linear value (IEC 61966-2-1).
fn srgb_from_linear(v: f32) -> f32 {
    if v <= 0.003_130_8 {
        12.92 * v
    } else {
        1.055 * v.powf(1.0 / 2.4) - 0.055
    }
}

/// Linear value of sRGB.
fn linear_from_srgb(v: f32) -> f32 {
    if v <= 0.040_45 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}
fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

impl Frame {
    /// An empty frame.
    #[must_use]
    pub fn new(width: u32, height: u32, linear: bool) -> Self {
        let n = width as usize * height as usize;
        Self {
            width,
            height,
            color: vec![0.0; 3 * n],
            opacity: vec![0.0; n],
            normal: vec![0.0; 3 * n],
            depth: vec![0.0; n],
            linear,
        }
    }

    /// Take over the device's pixels (colour, opacity, normal, depth: 8 f32 each) from pixel `first` on.
    pub(super) fn store(&mut self, first: usize, pixels: &[f32]) {
        for (offset, p) in pixels.chunks_exact(8).enumerate() {
            let i = first + offset;
            self.color[3 * i..3 * i + 3].copy_from_slice(&p[..3]);
            self.opacity[i] = p[3];
            self.normal[3 * i..3 * i + 3].copy_from_slice(&p[4..7]);
            self.depth[i] = p[7];
        }
    }

    /// Take over an image's RGBA8 pixels (sRGB, straight alpha), in the colour space the frame composites in.
    pub fn set_straight(&mut self, rgba: &[u8]) {
        for (i, p) in rgba.chunks_exact(4).enumerate() {
            let alpha = f32::from(p[3]) / 255.0;
            self.opacity[i] = alpha;
            for (color, &byte) in self.color[3 * i..3 * i + 3].iter_mut().zip(p) {
                let value = f32::from(byte) / 255.0;
                *color = alpha
                    * if self.linear {
                        linear_from_srgb(value)
                    } else {
                        value
                    };
            }
        }
    }

    /// sRGB values in [0, 1] over `background` (sRGB), rounded to 8 bits: (height, width, 3).
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

    /// Range of the depth of what is at least half opaque; `None` where nothing is.
    #[must_use]
    pub fn depth_range(&self) -> Option<[f32; 2]> {
        let solid = self
            .depth
            .iter()
            .zip(&self.opacity)
            .filter(|&(_, &o)| o > 0.5)
            .map(|(&d, &o)| d / o);
        solid.fold(None, |range: Option<[f32; 2]>, d| {
            let [low, high] = range.unwrap_or([d, d]);
            Some([low.min(d), high.max(d)])
        })
    }

    /// RGB8 pixels that show `channel`. Depth is scaled to `depth_range`, nearest white.
    #[must_use]
    pub fn pixels(&self, channel: Channel, background: [f32; 3], depth_range: [f32; 2]) -> Vec<u8> {
        match channel {
            Channel::Rgb => self.rgb(background).into_iter().map(byte).collect(),
            Channel::Opacity => self.opacity.iter().flat_map(|&o| [byte(o); 3]).collect(),
            Channel::Depth => {
                let [near, far] = depth_range;
                let span = (far - near).max(1e-6);
                let shade = |(&d, &o): (&f32, &f32)| {
                    if o < 1e-3 {
                        0.0
                    } else {
                        (1.0 - 0.9 * ((d / o - near) / span).clamp(0.0, 1.0)) * o
                    }
                };
                self.depth
                    .iter()
                    .zip(&self.opacity)
                    .map(shade)
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
}
