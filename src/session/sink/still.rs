//! Single images: PNG and `OpenEXR`.

use std::io::Cursor;
use std::path::Path;

use image::codecs::openexr::OpenExrEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use super::{DepthFormat, PixelOptions, Result, cannot_write};
use crate::files::replace_file;
use crate::render::{Channel, RenderedFrame};

/// Write RGB8 pixels.
pub(crate) fn save_png(path: &Path, pixels: &[u8], width: u32, height: u32) -> Result<()> {
    png(path, pixels, [width, height], ExtendedColorType::Rgb8)
}

/// Return the file name extension for images of `channel`.
pub(super) fn extension(channel: Channel, look: &PixelOptions) -> &'static str {
    match channel {
        Channel::Rgb if look.linear => "exr",
        Channel::Depth if look.depth == DepthFormat::Exr => "exr",
        _ => "png",
    }
}

/// Write an image of `channel`. Return the number of depths that were clipped to the 16-bit range.
pub(super) fn save(
    path: &Path,
    channel: Channel,
    frame: &RenderedFrame,
    look: &PixelOptions,
) -> Result<usize> {
    let size = [frame.width, frame.height];
    match (channel, look.depth) {
        (Channel::Rgb, _) if look.linear => {
            let pixels = frame.linear_rgba(look.linear_background);
            exr(path, &pixels, size, ExtendedColorType::Rgba32F)?;
        }
        (Channel::Depth, DepthFormat::Exr) => {
            let pixels: Vec<f32> = frame.distances().into_iter().flat_map(|d| [d; 3]).collect();
            exr(path, &pixels, size, ExtendedColorType::Rgb32F)?;
        }
        (Channel::Depth, DepthFormat::Png16(scale)) => {
            let (values, cut) = frame.distances_in_16_bits(scale);
            let bytes = bytemuck::cast_slice(&values);
            png(path, bytes, size, ExtendedColorType::L16)?;
            return Ok(cut);
        }
        (Channel::Rgb | Channel::Depth | Channel::Normal, _) if look.background.is_none() => {
            let pixels = frame.pixels_with_alpha(channel, look.depth_range);
            png(path, &pixels, size, ExtendedColorType::Rgba8)?;
        }
        _ => {
            let background = look.background.unwrap_or_default();
            let pixels = frame.pixels(channel, background, look.depth_range);
            png(path, &pixels, size, ExtendedColorType::Rgb8)?;
        }
    }
    Ok(0)
}

fn png(
    path: &Path,
    pixels: &[u8],
    [width, height]: [u32; 2],
    color: ExtendedColorType,
) -> Result<()> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, color)
        .map_err(|e| cannot_write(path, e))?;
    replace_file(path, &bytes).map_err(|e| cannot_write(path, e))
}

fn exr(
    path: &Path,
    pixels: &[f32],
    [width, height]: [u32; 2],
    color: ExtendedColorType,
) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    OpenExrEncoder::new(&mut bytes)
        .write_image(bytemuck::cast_slice(pixels), width, height, color)
        .map_err(|e| cannot_write(path, e))?;
    replace_file(path, bytes.get_ref()).map_err(|e| cannot_write(path, e))
}
