//! Drawings with lines, images and text, saved as PNG.

use std::path::Path;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _};
use tiny_skia::{Color, LineCap, Paint, PathBuilder, Pixmap, Stroke, Transform};

use super::Result;
use super::sink::save_png;

/// Font size, in pixels.
const TEXT: f32 = 15.0;
const BACKGROUND: [u8; 3] = [250, 250, 248];
/// Colour of text.
pub(crate) const INK: [u8; 3] = [60, 62, 66];

/// A drawing.
pub(crate) struct Drawing {
    pixels: Pixmap,
    font: FontRef<'static>,
}

impl Drawing {
    /// Return a blank drawing, or `None` if there is not enough memory.
    pub(crate) fn new(width: u32, height: u32) -> Option<Self> {
        let mut pixels = Pixmap::new(width, height)?;
        let [r, g, b] = BACKGROUND;
        pixels.fill(Color::from_rgba8(r, g, b, 255));
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).ok()?;
        Some(Self { pixels, font })
    }

    /// Write it as a PNG.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let rgb: Vec<u8> = self
            .pixels
            .data()
            .chunks_exact(4)
            .flat_map(|p| [p[0], p[1], p[2]])
            .collect();
        save_png(path, &rgb, self.pixels.width(), self.pixels.height())
    }

    /// Draw an image of sRGB pixels (height, width, 3) with its top left corner at `left`, `top`; parts outside are clipped.
    pub(crate) fn image(&mut self, pixels: &[u8], width: u32, [left, top]: [u32; 2]) {
        let (across, down) = (self.pixels.width(), self.pixels.height());
        let data = self.pixels.data_mut();
        for (i, rgb) in pixels.chunks_exact(3).enumerate() {
            let (x, y) = (left + i as u32 % width, top + i as u32 / width);
            if x < across && y < down {
                let at = 4 * (y as usize * across as usize + x as usize);
                data[at..at + 3].copy_from_slice(rgb);
            }
        }
    }

    pub(crate) fn line(&mut self, points: &[(f32, f32)], color: [u8; 3], width: f32) {
        let mut path = PathBuilder::new();
        for (i, &(x, y)) in points.iter().enumerate() {
            if i == 0 {
                path.move_to(x, y);
            } else {
                path.line_to(x, y);
            }
        }
        let Some(path) = path.finish() else { return };
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            ..Stroke::default()
        };
        self.pixels
            .stroke_path(&path, &paint(color), &stroke, Transform::identity(), None);
    }

    pub(crate) fn dot(&mut self, (x, y): (f32, f32), radius: f32, color: [u8; 3]) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            let rule = tiny_skia::FillRule::Winding;
            self.pixels
                .fill_path(&path, &paint(color), rule, Transform::identity(), None);
        }
    }

    /// Draw text whose baseline starts at (x, y). Return its width, in pixels.
    pub(crate) fn text(&mut self, text: &str, (x, y): (f32, f32), color: [u8; 3]) -> f32 {
        let scaled = self.font.as_scaled(PxScale::from(TEXT));
        let mut pen = x;
        let mut glyphs = Vec::new();
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            glyphs.push(id.with_scale_and_position(TEXT, ab_glyph::point(pen, y)));
            pen += scaled.h_advance(id);
        }
        let (width, height) = (self.pixels.width(), self.pixels.height());
        for outline in glyphs
            .into_iter()
            .filter_map(|g| self.font.outline_glyph(g))
        {
            let bounds = outline.px_bounds();
            let data = self.pixels.data_mut();
            outline.draw(|gx, gy, coverage| {
                let (px, py) = (
                    bounds.min.x as i64 + i64::from(gx),
                    bounds.min.y as i64 + i64::from(gy),
                );
                let inside =
                    (0..i64::from(width)).contains(&px) && (0..i64::from(height)).contains(&py);
                if inside {
                    let at = 4 * (py as usize * width as usize + px as usize);
                    for (byte, ink) in data[at..at + 3].iter_mut().zip(color) {
                        let (old, new) = (f32::from(*byte), f32::from(ink));
                        *byte = (old + (new - old) * coverage.min(1.0)).round() as u8;
                    }
                }
            });
        }
        pen - x
    }
}

pub(crate) fn paint(color: [u8; 3]) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(color[0], color[1], color[2], 255);
    paint.anti_alias = true;
    paint
}
