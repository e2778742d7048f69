//! A rendered view.

use crate::scene_frame::SceneFrame;
use std::str::FromStr;

use super::pixels::linear_from_srgb;

/// A rendered view. Colour is premultiplied by opacity, without a background: add `(1 - opacity) * background`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderedFrame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Colour times opacity, (height, width, 3).
    pub color: Vec<f32>,
    /// Opacity, (height, width).
    pub opacity: Vec<f32>,
    /// Normal times opacity in world space, (height, width, 3); zero unless normals were requested.
    pub normal: Vec<f32>,
    /// Number of samples evaluated on the ray, (height, width); zero if normals were requested.
    pub samples: Vec<f32>,
    /// Expected distance from the camera in world units times opacity, (height, width).
    pub depth: Vec<f32>,
    pub(super) linear: bool,
}

/// The quantity that an output image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Colour over the background.
    Rgb,
    /// Distance from the camera; the nearest is white.
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

impl RenderedFrame {
    /// Create an empty frame.
    #[must_use]
    pub fn new(width: u32, height: u32, linear: bool) -> Self {
        let n = width as usize * height as usize;
        Self {
            width,
            height,
            color: vec![0.0; 3 * n],
            opacity: vec![0.0; n],
            normal: vec![0.0; 3 * n],
            samples: vec![0.0; n],
            depth: vec![0.0; n],
            linear,
        }
    }

    /// Store pixels read from the device (8 f32 each: colour, opacity, normal or else number of samples, depth) from pixel
    /// `first` on. Normals and depth are converted from the space of `scene_frame` to world space.
    pub(super) fn store(
        &mut self,
        first: usize,
        pixels: &[f32],
        normals: bool,
        scene_frame: &SceneFrame,
    ) {
        for (offset, p) in pixels.chunks_exact(8).enumerate() {
            let i = first + offset;
            self.color[3 * i..3 * i + 3].copy_from_slice(&p[..3]);
            self.opacity[i] = p[3];
            if normals {
                let normal = scene_frame.world_direction([p[4], p[5], p[6]]);
                self.normal[3 * i..3 * i + 3].copy_from_slice(&normal);
            } else {
                self.samples[i] = p[4];
            }
            self.depth[i] = scene_frame.world_length(f64::from(p[7])) as f32;
        }
    }

    /// Set colour and opacity from RGBA8 pixels (sRGB, straight alpha), converted to the colour space that
    /// the frame composites in.
    pub fn set_rgba8(&mut self, rgba: &[u8]) {
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

    /// Add `weight` times `other`, which must have the same size. All values of a frame are premultiplied by opacity, so sums
    /// of frames are weighted by opacity.
    pub fn add(&mut self, other: &Self, weight: f32) {
        let parts = [
            (&mut self.color, &other.color),
            (&mut self.opacity, &other.opacity),
            (&mut self.normal, &other.normal),
            (&mut self.depth, &other.depth),
            (&mut self.samples, &other.samples),
        ];
        for (sum, values) in parts {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
    }
}
