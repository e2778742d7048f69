//! The figure of an evaluated initialisation: for every object its input views, then novel views as photographed and as
//! rendered after training from each initialisation.

use std::path::Path;

use crate::session::drawing::{Drawing, INK};
use crate::session::{Error, Result};

/// Sizes in pixels: gaps between images and rows, height of a line of text, width of labels, outer margin.
const GAP: u32 = 4;
const BETWEEN: u32 = 14;
const TEXT: u32 = 22;
const LABEL: u32 = 92;
const MARGIN: u32 = 14;

/// An image (height, width, 3), sRGB.
pub(super) type Pixels = Vec<u8>;

/// The images of one object.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) input: Vec<Pixels>,
    /// Photographs of the novel views.
    pub(super) unseen: Vec<Pixels>,
    /// Renderings of the novel views for each initialisation, in the order of [`Figure::beginnings`], with their PSNR (dB).
    pub(super) learned: Vec<(Vec<Pixels>, f64)>,
}

/// A figure with a row for each object.
pub(super) struct Figure<'a> {
    pub(super) title: String,
    /// Names of the initialisations.
    pub(super) beginnings: &'a [&'a str],
    pub(super) rows: Vec<Row>,
    /// Width and height of every image.
    pub(super) size: [u32; 2],
}

impl Figure<'_> {
    /// Write the figure as a PNG.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let canvas = self.draw().ok_or_else(|| {
            Error::failed(format!("cannot draw {}: not enough memory", path.display()))
        })?;
        canvas.save(path)
    }

    fn draw(&self) -> Option<Drawing> {
        let [w, h] = self.size;
        let inputs = self.rows.iter().map(|r| r.input.len()).max()? as u32;
        let unseen = self.rows.iter().map(|r| r.unseen.len()).max()? as u32;
        let lines = 1 + self.beginnings.len() as u32;
        let block = TEXT + lines * (h + GAP) + BETWEEN;
        let first_unseen = MARGIN + inputs * (w + GAP) + LABEL;
        let width = first_unseen + unseen * (w + GAP) + MARGIN;
        let height = MARGIN + 2 * TEXT + self.rows.len() as u32 * block + MARGIN;
        let mut canvas = Drawing::new(width, height)?;
        let text = |canvas: &mut Drawing, words: &str, x: u32, y: u32| {
            canvas.text(words, (x as f32, y as f32), INK);
        };
        text(&mut canvas, &self.title, MARGIN, MARGIN + TEXT - 6);
        let heads = MARGIN + 2 * TEXT - 6;
        let seen = if inputs > 1 {
            "input views"
        } else {
            "input view"
        };
        text(&mut canvas, seen, MARGIN, heads);
        text(&mut canvas, "novel views", first_unseen, heads);
        for (index, row) in self.rows.iter().enumerate() {
            let top = MARGIN + 2 * TEXT + index as u32 * block;
            text(&mut canvas, &row.name, MARGIN, top + TEXT - 6);
            let top = top + TEXT;
            for (i, pixels) in row.input.iter().enumerate() {
                canvas.image(pixels, w, [MARGIN + i as u32 * (w + GAP), top]);
            }
            let truth = std::iter::once((&row.unseen, "photograph".to_owned()));
            let learned = row.learned.iter().zip(self.beginnings);
            let learned =
                learned.map(|((views, psnr), name)| (views, format!("{name}\n{psnr:.2} dB")));
            for (line, (views, label)) in truth.chain(learned).enumerate() {
                let top = top + line as u32 * (h + GAP);
                for (i, words) in label.lines().enumerate() {
                    let y = top + h / 2 + i as u32 * (TEXT - 4);
                    text(&mut canvas, words, first_unseen - LABEL + 6, y);
                }
                for (i, pixels) in views.iter().enumerate() {
                    canvas.image(pixels, w, [first_unseen + i as u32 * (w + GAP), top]);
                }
            }
        }
        Some(canvas)
    }
}
