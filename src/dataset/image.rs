//! Images: sizes from headers, decoding to RGBA8, box-filter downscaling.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, ImageReader, Rgba, Rgba32FImage, RgbaImage};
use rayon::prelude::*;

use super::Frame;
use super::error::DatasetError;
use super::error::damaged;
use super::mask::{self, Mask, MaskSource};
use super::pixel_format::{self, StoredFormat, jpeg_is_complete, kind_of};
use crate::files::{read_file, replace_file};

/// Maximum size of an image file: uncompressed 16-bit RGBA of 8,000 × 8,000 pixels.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// RGBA8, straight alpha, values as stored (sRGB); rows from the top, `4 * width * height` bytes.
    pub pixels: Vec<u8>,
    /// Whether the file has an alpha channel and at least one pixel is not opaque.
    pub has_alpha: bool,
    /// The pixels that are used for training and metrics; all of them without a mask.
    pub mask: Option<Mask>,
}

/// Decode the images of `frames` in parallel, each downscaled by the factor `downscale` as in [`Image::downscaled`].
///
/// `progress` is called once per finished image, from any thread. The frames' cameras refer to the stored images: apply
/// [`crate::camera::Camera::downscaled`] with the same factor to them.
///
/// # Errors
/// A [`DatasetError`] if an image is absent, damaged, or of another size than its frame's camera.
pub fn load_images(
    frames: &[Frame],
    downscale: u32,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Image>, DatasetError> {
    Ok(load_with_contents(frames, downscale, progress)?.0)
}

/// Decode images as [`load_images`] does. Return them with the [`FileIdentity`] of each file.
pub fn load_with_contents(
    frames: &[Frame],
    downscale: u32,
    progress: &(dyn Fn() + Sync),
) -> Result<(Vec<Image>, Vec<FileIdentity>), DatasetError> {
    let all: Vec<(Image, FileIdentity)> = frames
        .par_iter()
        .map(|frame| {
            let (image, content) = frame.read()?;
            let expected = [frame.camera.width, frame.camera.height];
            if [image.width, image.height] != expected {
                return Err(damaged(
                    &frame.image_path,
                    format!(
                        "has {} × {} pixels but its camera has {} × {}: \
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
            Ok((image, content))
        })
        .collect::<Result<_, DatasetError>>()?;
    Ok(all.into_iter().unzip())
}

/// Identifies a file by its bytes (length and CRC-32C), independent of its path and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    length: u64,
    crc: u32,
}

impl FileIdentity {
    fn of(bytes: &[u8]) -> Self {
        Self {
            length: bytes.len() as u64,
            crc: crc32c::crc32c(bytes),
        }
    }

    /// Return the identity of this file followed by `other`.
    fn with(self, other: Self) -> Self {
        Self {
            length: self.length + other.length,
            crc: crc32c::crc32c_append(self.crc, &other.crc.to_le_bytes()),
        }
    }

    /// Read the image files of `frames`, and their masks, without decoding them, and return their identities.
    pub fn of_images(frames: &[Frame]) -> Result<Vec<Self>, DatasetError> {
        let of_file = |path: &Path| {
            let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
            Ok(Self::of(&bytes))
        };
        let of = |frame: &Frame| {
            let image = of_file(&frame.image_path)?;
            match &frame.mask {
                Some(MaskSource::File { path, .. }) => Ok(image.with(of_file(path)?)),
                Some(MaskSource::Alpha) | None => Ok(image),
            }
        };
        frames.par_iter().map(of).collect()
    }

    /// Return the fingerprint of a sequence of files: an FNV-1a hash over the length and CRC-32C of each.
    #[must_use]
    pub fn fingerprint(all: &[Self]) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for Self { length, crc } in all {
            for byte in length.to_le_bytes().into_iter().chain(crc.to_le_bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }
}

impl Frame {
    /// Decode the image, apply `orientation`, and read the mask.
    ///
    /// # Errors
    /// A [`DatasetError`] if a file is absent or damaged, or if the mask hides every pixel.
    pub fn load(&self) -> Result<Image, DatasetError> {
        Ok(self.read()?.0)
    }

    fn read(&self) -> Result<(Image, FileIdentity), DatasetError> {
        let (mut image, mut identity) = Image::read(&self.image_path, self.orientation)?;
        let mask = match &self.mask {
            None => return Ok((image, identity)),
            Some(MaskSource::Alpha) => mask::take_alpha(&mut image),
            Some(MaskSource::File { path, hidden }) => {
                let size = [image.width, image.height];
                let (mask, of_mask) = mask::read(path, *hidden, self.orientation, size)?;
                identity = identity.with(of_mask);
                mask
            }
        };
        if mask.n_used() == 0 {
            return Err(damaged(
                &self.image_path,
                "is hidden entirely by its mask: leave the frame out, or correct the mask",
            ));
        }
        image.mask = Some(mask);
        Ok((image, identity))
    }
}

/// Decode `bytes`, the content of the image at `path`, and rotate or flip it by `orientation`. `advice` ends the error about
/// content that cannot be decoded.
pub(super) fn decode(
    path: &Path,
    bytes: Vec<u8>,
    orientation: Orientation,
    advice: &str,
) -> Result<(DynamicImage, ImageFormat), DatasetError> {
    let kind = kind_of(&bytes);
    let StoredFormat::Read(format) = kind else {
        return Err(pixel_format::refused(path, kind));
    };
    check_complete(path, &bytes)?;
    let size = pixel_format::header(path)?.size;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(pixel_format::limits(size));
    let mut decoded = reader
        .decode()
        .map_err(|e| damaged(path, format!("cannot be decoded ({e}): {advice}")))?;
    decoded.apply_orientation(orientation);
    Ok((decoded, format))
}

impl Image {
    /// Return the part of `size` pixels from `at`, which must lie in the image.
    #[must_use]
    pub fn cropped(&self, at: [u32; 2], size: [u32; 2]) -> Self {
        let stride = 4 * self.width as usize;
        let start = 4 * at[0] as usize;
        let rows = self.pixels.chunks_exact(stride);
        let rows = rows.skip(at[1] as usize).take(size[1] as usize);
        Self {
            width: size[0],
            height: size[1],
            pixels: rows
                .flat_map(|row| &row[start..start + 4 * size[0] as usize])
                .copied()
                .collect(),
            has_alpha: self.has_alpha,
            mask: self.mask.as_ref().map(|mask| mask.cropped(at, size)),
        }
    }

    /// Decode a PNG, JPEG, WebP, TIFF, BMP or `OpenEXR` file as it is stored, ignoring its EXIF orientation.
    ///
    /// 16-bit channels are rounded to 8 bits. Floats are linear light: they are clamped to [0, 1] and converted to sRGB. The
    /// colours of an `OpenEXR` file are premultiplied by alpha.
    ///
    /// # Errors
    /// A [`DatasetError`] if the file is absent, in another format, or damaged.
    pub fn load(path: &Path) -> Result<Self, DatasetError> {
        Self::load_oriented(path, Orientation::NoTransforms)
    }

    /// Decode an image as [`Self::load`] does, and rotate or flip it by `orientation`.
    pub fn load_oriented(path: &Path, orientation: Orientation) -> Result<Self, DatasetError> {
        Ok(Self::read(path, orientation)?.0)
    }

    pub(super) fn read(
        path: &Path,
        orientation: Orientation,
    ) -> Result<(Self, FileIdentity), DatasetError> {
        let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
        let content = FileIdentity::of(&bytes);
        let (decoded, format) = decode(path, bytes, orientation, "copy or export the image again")?;
        Ok((Self::from_decoded(decoded, format), content))
    }

    fn from_decoded(decoded: DynamicImage, format: ImageFormat) -> Self {
        let alpha_channel = decoded.color().has_alpha();
        let rgba = match decoded {
            DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
                let is_premultiplied = alpha_channel && format == ImageFormat::OpenExr;
                srgb_of_linear(&decoded.into_rgba32f(), is_premultiplied)
            }
            decoded => decoded.into_rgba8(),
        };
        let (width, height) = rgba.dimensions();
        let pixels = rgba.into_raw();
        let has_alpha = alpha_channel && pixels.iter().skip(3).step_by(4).any(|alpha| *alpha < 255);
        Self {
            width,
            height,
            pixels,
            has_alpha,
            mask: None,
        }
    }

    /// Return the image at 1/`k` of the resolution; each side is rounded down, to at least one pixel.
    ///
    /// Each new pixel is the mean over the rectangle that it covers, with colour weighted by alpha. If a side is not a multiple
    /// of `k`, the rectangles are slightly larger than `k` and cover the whole image, as
    /// [`crate::camera::Camera::downscaled`] expects. Means are taken over the stored (sRGB) values.
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
            mask: self.mask.as_ref().map(|mask| mask.resized(width, height)),
        }
    }

    /// Return the alpha-weighted mean colour and the mean alpha over a rectangle of pixels with weights.
    pub(super) fn mean(&self, columns: &Span, rows: &Span) -> [u8; 4] {
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

    /// Write a PNG: RGBA8 if [`Image::has_alpha`], else RGB8.
    ///
    /// # Errors
    /// A [`DatasetError`] if the file cannot be written, or if `pixels` has the wrong length.
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

/// Convert linear light to sRGB (IEC 61966-2-1) with straight alpha; NaN becomes 0.
fn srgb_of_linear(image: &Rgba32FImage, is_premultiplied: bool) -> RgbaImage {
    let rounded = |value: f32| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    let encoded = |linear: f32| {
        let linear = if linear > 0.0 { linear.min(1.0) } else { 0.0 };
        if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        }
    };
    let pixel = |&Rgba([r, g, b, a]): &Rgba<f32>| {
        let alpha = if a > 0.0 { a.min(1.0) } else { 0.0 };
        let divisor = if is_premultiplied && alpha > 0.0 {
            alpha
        } else {
            1.0
        };
        let [r, g, b] = [r, g, b].map(|v| rounded(encoded(v / divisor)));
        [r, g, b, rounded(alpha)]
    };
    let pixels = image.pixels().flat_map(pixel).collect();
    RgbaImage::from_raw(image.width(), image.height(), pixels).unwrap_or_default()
}

/// For each new pixel along one axis, the old pixels that it covers and their weights.
pub(super) struct Spans(pub Vec<Span>);

/// Consecutive old pixels; `weights` are the covered lengths, 1 for a whole pixel.
pub(super) struct Span {
    first: usize,
    weights: Vec<f64>,
}

impl Spans {
    pub fn new(old: u32, new: u32) -> Self {
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

/// Read the width and height in pixels, as stored, from the file's header alone.
///
/// # Errors
/// A [`DatasetError`] if the file is not a supported image, has a damaged header, or has a side longer than 65,536 pixels.
pub fn image_size(path: &Path) -> Result<[u32; 2], DatasetError> {
    Ok(pixel_format::header(path)?.size)
}

/// Check that the file at `path` is an image that can be read, as far as that shows without decoding it.
pub(crate) fn check_image(path: &Path) -> Result<(), DatasetError> {
    image_size(path)?;
    let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
    check_complete(path, &bytes)
}

/// Refuse a JPEG file without its end, which would be decoded with grey in place of what is missing.
fn check_complete(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let is_jpeg = kind_of(bytes) == StoredFormat::Read(ImageFormat::Jpeg);
    if is_jpeg && !jpeg_is_complete(bytes) {
        return Err(damaged(path, "the JPEG is cut short: copy the image again"));
    }
    Ok(())
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
            mask: None,
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

    #[test]
    fn linear_light_becomes_srgb() {
        let folder = tempfile::tempdir().unwrap();
        let load = |name: &str, image: DynamicImage| {
            let path = folder.path().join(name);
            image.save(&path).unwrap();
            assert_eq!(image_size(&path).unwrap(), [1, 1]);
            let image = Image::load(&path).unwrap();
            (image.pixels, image.has_alpha)
        };
        // Linear 0.21405 is sRGB 0.5; values brighter than white become white.
        let rgb = image::Rgb32FImage::from_pixel(1, 1, image::Rgb([0.214_05, 7.0, -1.0]));
        let expected = (vec![128, 255, 0, 255], false);
        assert_eq!(load("a.exr", rgb.clone().into()), expected);
        assert_eq!(load("a.tiff", rgb.into()), expected);
        // OpenEXR colours are premultiplied: half as much light at half the opacity, and no light where alpha is 0.
        let half = Rgba32FImage::from_pixel(1, 1, Rgba([0.107_025, 0.5, 0.0, 0.5]));
        assert_eq!(load("a.exr", half.into()), (vec![128, 255, 0, 128], true));
        let clear = Rgba32FImage::from_pixel(1, 1, Rgba([0.0, 0.0, 0.0, 0.0]));
        assert_eq!(load("a.exr", clear.into()), (vec![0, 0, 0, 0], true));
        let nothing =
            Rgba32FImage::from_pixel(1, 1, Rgba([f32::NAN, f32::INFINITY, 0.0, f32::NAN]));
        assert_eq!(load("a.exr", nothing.into()).0, [0, 255, 0, 0]);
    }

    #[test]
    fn a_format_is_told_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<[u8; 4]> = (0..12).map(|i| [20 * i, 7, 200 - i, 255]).collect();
        let expected = Image {
            has_alpha: false,
            ..rgba(4, 3, &pixels)
        };
        let image = image::RgbaImage::from_raw(4, 3, expected.pixels.clone()).unwrap();
        let image = DynamicImage::ImageRgba8(image).into_rgb8();
        for format in [
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Tiff,
            ImageFormat::Bmp,
        ] {
            // None of the files is a JPEG, although the name has that extension.
            let path = folder.path().join("a.jpg");
            image.save_with_format(&path, format).unwrap();
            assert_eq!(image_size(&path).unwrap(), [4, 3], "{format:?}");
            assert_eq!(Image::load(&path).unwrap(), expected, "{format:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_named_with_a_converter() {
        let folder = tempfile::tempdir().unwrap();
        let named = |bytes: &[u8], words: [&str; 2]| {
            let path = folder.path().join("a.png");
            std::fs::write(&path, bytes).unwrap();
            for error in [image_size(&path).err(), Image::load(&path).err()] {
                let text = error.unwrap().to_string();
                assert!(!text.contains('\n') && text.contains("a.png"), "{text}");
                for word in words {
                    assert!(text.contains(word), "no {word:?} in: {text}");
                }
            }
        };
        named(b"\0\0\0\x28ftypheic\0\0\0\0mif1", ["HEIC", "heif-convert"]);
        named(b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", ["AVIF", "avifdec"]);
        named(b"\0\0\0\x0cJXL \r\n\x87\n", ["JPEG XL", "djxl"]);
        named(b"GIF89a", ["GIF", "ImageMagick"]);
        named(b"II*\0\x10\0\0\0CR\x02\0", ["raw data", "darktable"]);
        // A DNG and a NEF: TIFFs whose first image has a DNG version, or is marked as a reduced version.
        named(
            b"II*\0\x08\0\0\0\x01\0\x12\xc6\x01\0\x04\0\0\0\x01\x04\0\0",
            ["raw data", "darktable"],
        );
        named(
            b"MM\0*\0\0\0\x08\0\x01\0\xfe\0\x04\0\0\0\x01\0\0\0\x01",
            ["raw data", "darktable"],
        );
        named(b"IIU\0\x18\0\0\0", ["raw data", "darktable"]);
        named(b"IIRO\x08\0\0\0", ["raw data", "darktable"]);
        named(b"P6 2 2 255\n", ["PPM", "ImageMagick"]);
        named(b"\n<!DOCTYPE html>", ["web page", "download"]);
        named(b"", ["is empty", "again"]);
        named(
            b"version https://git-lfs.github.com/spec/v1\n",
            ["Git LFS", "git lfs pull"],
        );
    }
}
