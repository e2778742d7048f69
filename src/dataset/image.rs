//! Images: sizes from headers, decoding to RGBA8, box-filter downscaling.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, ImageReader};
use rayon::prelude::*;

use super::Frame;
use super::error::DatasetError;
use super::intrinsics::MAX_SIDE;
use crate::files::{open_file, read_file, replace_file};
use crate::text::escaped;

/// Most pixels of an image, which take 4 bytes each.
const MAX_PIXELS: u64 = 1 << 27;
/// Largest image file that is read: 16-bit RGBA of 8,000 × 8,000 pixels, not compressed.
const LONGEST: u64 = 512 << 20;
const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const JPEG_SIGNATURE: [u8; 2] = [0xff, 0xd8];

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// RGBA8, straight alpha, values as stored (sRGB); rows from the top, `4 * width * height`
    /// bytes.
    pub pixels: Vec<u8>,
    /// Whether the file has an alpha channel and some pixel is not opaque.
    pub has_alpha: bool,
}

/// Decodes the images of `frames` in parallel, each downscaled by the factor `downscale` as in
/// [`Image::downscaled`].
///
/// `progress` is called once per finished image, from any thread. The frames' cameras are those of
/// the stored images: use [`crate::camera::Camera::downscaled`] with the same factor for the
/// result.
///
/// # Errors
/// An image that is absent, damaged, or of another size than its frame's camera.
pub fn load_images(
    frames: &[Frame],
    downscale: u32,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Image>, DatasetError> {
    frames
        .par_iter()
        .map(|frame| {
            let image = Image::load(&frame.image_path)?;
            let expected = [frame.camera.width, frame.camera.height];
            if [image.width, image.height] != expected {
                return Err(damaged(
                    &frame.image_path,
                    format!(
                        "has {} × {} pixels but its camera {} × {}: \
                         load images with the cameras they were opened with",
                        image.width, image.height, expected[0], expected[1]
                    ),
                ));
            }
            let image = if downscale > 1 {
                image.downscaled(downscale)
            } else {
                image
            };
            progress();
            Ok(image)
        })
        .collect()
}

impl Image {
    /// Decodes a PNG or JPEG of 8 or 16 bits; 16 bits are rounded to 8.
    ///
    /// # Errors
    /// A file that is absent, in another format, or damaged.
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        let bytes = read_file(path, LONGEST).map_err(|e| DatasetError::read(path, e))?;
        let format = format_of(&bytes).ok_or_else(|| unknown_format(path))?;
        if format == ImageFormat::Jpeg && !jpeg_is_complete(&bytes) {
            return Err(damaged(path, "the JPEG is cut short: copy the image again"));
        }
        let decoded = ImageReader::with_format(Cursor::new(bytes), format)
            .decode()
            .map_err(|e| {
                damaged(
                    path,
                    format!("cannot be decoded ({e}): copy or export the image again"),
                )
            })?;
        Ok(Self::from_decoded(decoded))
    }

    fn from_decoded(decoded: DynamicImage) -> Self {
        let alpha_channel = decoded.color().has_alpha();
        let rgba = decoded.into_rgba8();
        let (width, height) = rgba.dimensions();
        let pixels = rgba.into_raw();
        let has_alpha = alpha_channel && pixels.iter().skip(3).step_by(4).any(|alpha| *alpha < 255);
        Self {
            width,
            height,
            pixels,
            has_alpha,
        }
    }

    /// The image at 1/`k` of the resolution, rounded down but at least one pixel a side.
    ///
    /// Each new pixel is the mean over the rectangle it covers, colour weighted by alpha. Where a
    /// side is not a multiple of `k` the rectangles are a little larger than `k` and cover the
    /// whole image, as [`crate::camera::Camera::downscaled`] expects. Means are taken of the stored
    /// (sRGB) values.
    #[must_use]
    pub fn downscaled(&self, k: u32) -> Self {
        let k = k.max(1);
        let (width, height) = ((self.width / k).max(1), (self.height / k).max(1));
        let (columns, rows) = (
            Spans::new(self.width, width),
            Spans::new(self.height, height),
        );
        let mut pixels = Vec::with_capacity(4 * width as usize * height as usize);
        for row in &rows.0 {
            for column in &columns.0 {
                pixels.extend(self.mean(column, row));
            }
        }
        Self {
            width,
            height,
            pixels,
            has_alpha: self.has_alpha,
        }
    }

    /// Alpha-weighted mean colour and mean alpha over a rectangle of pixels with their weights.
    fn mean(&self, columns: &Span, rows: &Span) -> [u8; 4] {
        let (mut colour, mut alpha, mut area) = ([0.0; 3], 0.0, 0.0);
        for (j, wy) in rows.weights.iter().enumerate() {
            let start = (rows.first + j) * self.width as usize + columns.first;
            let row = self.pixels[4 * start..].chunks_exact(4);
            for (wx, pixel) in columns.weights.iter().zip(row) {
                let weight = wx * wy;
                let opacity = weight * f64::from(pixel[3]);
                area += weight;
                alpha += opacity;
                for (sum, value) in colour.iter_mut().zip(pixel) {
                    *sum += opacity * f64::from(*value);
                }
            }
        }
        let rounded = |v: f64| (v + 0.5) as u8;
        if alpha == 0.0 {
            return [0; 4];
        }
        let [r, g, b] = colour.map(|sum| rounded(sum / alpha));
        [r, g, b, rounded(alpha / area)]
    }

    /// Writes a PNG: RGBA8 where [`Image::has_alpha`], else RGB8.
    ///
    /// # Errors
    /// A file that cannot be written, or `pixels` of the wrong length.
    pub fn save_png(&self, path: &Path) -> Result<(), DatasetError> {
        let buffer = image::RgbaImage::from_raw(self.width, self.height, self.pixels.clone())
            .ok_or_else(|| {
                damaged(
                    path,
                    "cannot be written: the pixels do not match width and height",
                )
            })?;
        let image = DynamicImage::ImageRgba8(buffer);
        let image = if self.has_alpha {
            image
        } else {
            image.into_rgb8().into()
        };
        let mut bytes = Cursor::new(Vec::new());
        image
            .write_to(&mut bytes, ImageFormat::Png)
            .map_err(|e| damaged(path, format!("cannot be encoded as PNG: {e}")))?;
        replace_file(path, &bytes.into_inner()).map_err(|e| DatasetError::write(path, e))
    }
}

/// Which old pixels, with which weights, make each new pixel along one axis.
struct Spans(Vec<Span>);

/// A run of old pixels; `weights` are the covered lengths, 1 for a whole pixel.
struct Span {
    first: usize,
    weights: Vec<f64>,
}

impl Spans {
    fn new(old: u32, new: u32) -> Self {
        // Boundaries are exact fractions over `new`: pixel i covers [i old / new, (i + 1) old / new).
        let (old, new) = (u64::from(old), u64::from(new));
        let span = |i: u64| {
            let (start, end) = (i * old, (i + 1) * old);
            let covered =
                |p: u64| ((end.min((p + 1) * new) - start.max(p * new)) as f64) / new as f64;
            Span {
                first: (start / new) as usize,
                weights: (start / new..end.div_ceil(new)).map(covered).collect(),
            }
        };
        Self((0..new).map(span).collect())
    }
}

/// Width and height in pixels, read from the file's header alone.
///
/// # Errors
/// A file that is neither PNG nor JPEG, whose header is damaged, or with a side longer than 65,536
/// pixels.
pub fn image_size(path: &Path) -> Result<[u32; 2], DatasetError> {
    let file = open_file(path).map_err(|e| DatasetError::read(path, e))?;
    let mut reader = BufReader::new(file);
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(24)
        .read_to_end(&mut start)
        .map_err(|e| DatasetError::read(path, e))?;
    let format = format_of(&start).ok_or_else(|| unknown_format(path))?;
    let size = match format {
        ImageFormat::Png => start.get(16..24).map(|ihdr| {
            let side = |at: usize| {
                u32::from_be_bytes([ihdr[at], ihdr[at + 1], ihdr[at + 2], ihdr[at + 3]])
            };
            [side(0), side(4)]
        }),
        _ => reader
            .seek(SeekFrom::Start(JPEG_SIGNATURE.len() as u64))
            .ok()
            .and_then(|_| jpeg_size(&mut reader)),
    };
    let [width, height] =
        size.ok_or_else(|| damaged(path, "the image header is damaged: copy the image again"))?;
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(damaged(
            path,
            format!("the header says {width} × {height} pixels: expected sides of 1 to {MAX_SIDE}"),
        ));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let millions = MAX_PIXELS / 1_000_000;
        return Err(damaged(
            path,
            format!("has {width} × {height} pixels: {millions} million are the most, shrink it"),
        ));
    }
    Ok([width, height])
}

/// The PNG and JPEG files of a folder by their extensions, sorted by name; none where there is no folder.
pub(super) fn images_in(folder: &Path) -> Vec<PathBuf> {
    let is_image = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        // Hidden files are those of file managers.
        matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg")) && !name.starts_with(b".")
    };
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut images: Vec<_> = entries.map(|e| e.path()).filter(is_image).collect();
    images.sort();
    images
}

fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(&PNG_SIGNATURE) {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(&JPEG_SIGNATURE) {
        Some(ImageFormat::Jpeg)
    } else {
        None
    }
}

fn unknown_format(path: &Path) -> DatasetError {
    damaged(
        path,
        "is neither PNG nor JPEG, or is damaged: convert or copy the image again",
    )
}

fn damaged(path: &Path, message: impl Into<String>) -> DatasetError {
    let message = escaped(&message.into());
    DatasetError::Image {
        path: path.to_owned(),
        message,
    }
}

/// Size from the start-of-frame segment of a JPEG; the reader stands behind the signature.
fn jpeg_size(reader: &mut BufReader<File>) -> Option<[u32; 2]> {
    loop {
        let marker = next_marker(reader)?;
        if matches!(marker, 0x01 | 0xd0..=0xd7) {
            continue; // stands alone
        }
        if matches!(marker, 0xd8..=0xda) {
            return None; // pixels before any size
        }
        let mut length = [0; 2];
        reader.read_exact(&mut length).ok()?;
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let mut frame = [0; 5]; // precision, height, width
            reader.read_exact(&mut frame).ok()?;
            let side = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
            return Some([side(3), side(1)]);
        }
        reader
            .seek_relative(i64::from(u16::from_be_bytes(length).checked_sub(2)?))
            .ok()?;
    }
}

/// The next marker byte: 0xff, any number of fill bytes 0xff, then the marker.
fn next_marker(reader: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte).ok()?;
    if byte[0] != 0xff {
        return None;
    }
    while byte[0] == 0xff {
        reader.read_exact(&mut byte).ok()?;
    }
    Some(byte[0])
}

/// Whether a JPEG reaches its end-of-image marker; decoders fill what is cut off with grey and say
/// nothing.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = JPEG_SIGNATURE.len();
    let mut in_scan = false;
    while let Some(window) = bytes.get(at..at + 2) {
        let [0xff, marker] = *window else {
            at += 1;
            continue;
        };
        match marker {
            0xd9 => return true,
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            _ if in_scan && marker < 0xc0 => at += 2, // not a segment: damaged scan data
            _ => {
                let length = bytes
                    .get(at + 2..at + 4)
                    .map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                at += 2 + length.max(2);
                in_scan = marker == 0xda;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgba(width: u32, height: u32, pixels: &[[u8; 4]]) -> Image {
        let pixels = pixels.concat();
        Image {
            width,
            height,
            pixels,
            has_alpha: true,
        }
    }

    #[test]
    fn downscaling_weights_colour_by_alpha() {
        let image = rgba(
            2,
            2,
            &[
                [200, 0, 0, 255],
                [100, 0, 0, 255],
                [9, 9, 9, 0],
                [9, 9, 9, 0],
            ],
        );
        // Colour (200 + 100) / 2, alpha 510 / 4 = 127.5.
        assert_eq!(image.downscaled(2), rgba(1, 1, &[[150, 0, 0, 128]]));
        assert_eq!(
            image.downscaled(1),
            rgba(2, 2, &[[200, 0, 0, 255], [100, 0, 0, 255], [0; 4], [0; 4]])
        );
        assert_eq!(
            rgba(1, 2, &[[9, 9, 9, 0]; 2]).downscaled(8),
            rgba(1, 1, &[[0; 4]])
        );
    }

    #[test]
    fn downscaling_covers_sides_that_do_not_divide() {
        // 5 columns over 2: each new pixel covers 2.5 old ones.
        let row = [10, 20, 30, 40, 50].map(|v| [v, v, v, 255]);
        let [left, right] = [(10 + 20 + 15) * 2 / 5, (15 + 40 + 50) * 2 / 5]
            .map(|v| [v as u8, v as u8, v as u8, 255]);
        assert_eq!(rgba(5, 1, &row).downscaled(2), rgba(2, 1, &[left, right]));
    }

    #[test]
    fn every_depth_and_colour_type_becomes_rgba8() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let load = |image: DynamicImage| {
            image.save(&path).unwrap();
            assert_eq!(image_size(&path).unwrap(), [1, 1]);
            let image = Image::load(&path).unwrap();
            (image.pixels, image.has_alpha)
        };
        // 16 bit to 8: v / 257 rounded; 128 / 257 rounds to 0, 129 / 257 to 1, 65,406 / 257 = 254.498.
        let deep = image::ImageBuffer::from_pixel(1, 1, image::Rgb([128_u16, 129, 65406]));
        assert_eq!(
            load(DynamicImage::ImageRgb16(deep)),
            (vec![0, 1, 254, 255], false)
        );
        let gray = image::GrayImage::from_pixel(1, 1, image::Luma([77]));
        assert_eq!(load(gray.into()), (vec![77, 77, 77, 255], false));
        let gray_alpha = image::GrayAlphaImage::from_pixel(1, 1, image::LumaA([77, 5]));
        assert_eq!(load(gray_alpha.into()), (vec![77, 77, 77, 5], true));
        let opaque = image::RgbaImage::from_pixel(1, 1, image::Rgba([1, 2, 3, 255]));
        assert_eq!(load(opaque.into()), (vec![1, 2, 3, 255], false));
    }
}
