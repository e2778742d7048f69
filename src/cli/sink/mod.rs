//! Where rendered views go: PNGs, or animations that appear once they are complete.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::png::PngEncoder;
use image::{Delay, ExtendedColorType, Frame as GifFrame, ImageEncoder as _, RgbImage};

use crate::files::replace_file;
use crate::render::{Channel, Frame};

/// How frames become pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// sRGB.
    pub(super) background: [f32; 3],
    /// One scale for all frames, so that an animation's depth does not flicker.
    pub(super) depth_range: [f32; 2],
}

/// One channel's images on their way to files.
pub(super) struct Sink {
    channel: Channel,
    files: Files,
    written: Vec<PathBuf>,
}

enum Files {
    /// One image.
    Png(PathBuf),
    /// Numbered images.
    Folder(PathBuf),
    Gif(Animation),
}

/// A GIF under way beside its final place.
struct Animation {
    path: PathBuf,
    part: PathBuf,
    encoder: Option<GifEncoder<BufWriter<File>>>,
    fps: u32,
}

impl Drop for Animation {
    fn drop(&mut self) {
        if self.encoder.take().is_some() {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn cannot_write(path: &Path, error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("cannot write {}: {error}", path.display())
}

/// Write RGB8 pixels.
pub(super) fn save_png(path: &Path, pixels: &[u8], width: u32, height: u32) -> anyhow::Result<()> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|e| cannot_write(path, e))?;
    replace_file(path, &png).map_err(|e| cannot_write(path, e))
}

impl Sink {
    /// To one PNG.
    pub(super) fn png(path: &Path, channel: Channel) -> Self {
        Self::new(channel, Files::Png(path.to_owned()))
    }

    /// To PNGs in a folder, named after the channel and numbered from 0.
    pub(super) fn folder(path: &Path, channel: Channel) -> Self {
        Self::new(channel, Files::Folder(path.to_owned()))
    }

    /// To an endless animation.
    pub(super) fn gif(path: &Path, channel: Channel, fps: u32) -> anyhow::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|e| cannot_write(path, e))?;
        let mut animation = Animation {
            path: path.to_owned(),
            part,
            encoder: None,
            fps,
        };
        let encoder = animation
            .encoder
            .insert(GifEncoder::new_with_speed(BufWriter::new(file), 10));
        encoder
            .set_repeat(Repeat::Infinite)
            .map_err(|e| cannot_write(path, e))?;
        Ok(Self::new(channel, Files::Gif(animation)))
    }

    fn new(channel: Channel, files: Files) -> Self {
        Self {
            channel,
            files,
            written: Vec::new(),
        }
    }

    /// Take the next frame.
    pub(super) fn add(&mut self, frame: &Frame, look: &Look) -> anyhow::Result<()> {
        let pixels = frame.pixels(self.channel, look.background, look.depth_range);
        let path = match &mut self.files {
            Files::Gif(animation) => return animation.add(frame, pixels),
            Files::Png(path) => path.clone(),
            Files::Folder(folder) => {
                let number = self.written.len();
                folder.join(format!("{}_{number:04}.png", self.channel.name()))
            }
        };
        save_png(&path, &pixels, frame.width, frame.height)?;
        self.written.push(path);
        Ok(())
    }

    /// Complete what was begun; the files that were written.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<PathBuf>> {
        if let Files::Gif(animation) = &mut self.files {
            animation.finish()?;
            self.written.push(animation.path.clone());
        }
        Ok(self.written)
    }
}

/// Whether a GIF is whole: its encoder writes the end as it is dropped, and cannot say when that fails.
fn ended(path: &Path) -> std::io::Result<()> {
    const TRAILER: u8 = 0x3b;
    // Windows syncs only what is open for writing.
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last[0] == TRAILER {
        file.sync_all()
    } else {
        Err(std::io::Error::other("the file was cut short"))
    }
}

impl Animation {
    fn add(&mut self, frame: &Frame, pixels: Vec<u8>) -> anyhow::Result<()> {
        let fault = |e: &dyn std::fmt::Display| cannot_write(&self.path, e);
        let image = RgbImage::from_raw(frame.width, frame.height, pixels)
            .ok_or_else(|| fault(&"bad frame size"))?;
        let rgba = image::DynamicImage::ImageRgb8(image).into_rgba8();
        let delay = Delay::from_numer_denom_ms(1000, self.fps);
        let frame = GifFrame::from_parts(rgba, 0, 0, delay);
        self.encoder
            .as_mut()
            .map_or(Ok(()), |encoder| encoder.encode_frame(frame))
            .map_err(|e| fault(&e))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        drop(self.encoder.take());
        let end = ended(&self.part);
        end.and_then(|()| std::fs::rename(&self.part, &self.path))
            .map_err(|e| {
                let _ = std::fs::remove_file(&self.part);
                cannot_write(&self.path, e)
            })
    }
}
