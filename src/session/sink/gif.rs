//! Animated GIFs.

use std::any::Any;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame as GifFrame, RgbImage};

use super::{Observer, Result, cannot_write, part_of};
use crate::render::RenderedFrame;

/// A GIF that is being written to a temporary file beside its final path.
pub(super) struct Animation {
    path: PathBuf,
    part: PathBuf,
    _incomplete: Box<dyn Any>,
    encoder: Option<GifEncoder<BufWriter<File>>>,
    fps: f64,
    frames: u32,
}

impl Drop for Animation {
    fn drop(&mut self) {
        if self.encoder.take().is_some() {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Check that a GIF ends with its trailer: the encoder writes it when dropped and cannot report a failure.
fn ended(path: &Path) -> std::io::Result<()> {
    const TRAILER: u8 = 0x3b;
    // Windows can only sync files that are open for writing.
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last[0] == TRAILER {
        file.sync_all()
    } else {
        Err(std::io::Error::other("the file is truncated"))
    }
}

/// Return the delay of frame `i` in hundredths of a second, the unit of GIF; rounding errors do not accumulate.
fn hundredths(i: u32, fps: f64) -> u32 {
    let until = |i: u32| (f64::from(i) * 100.0 / fps).round();
    (until(i + 1) - until(i)).max(1.0) as u32
}

impl Animation {
    pub(super) fn begin(observer: &dyn Observer, path: &Path, fps: f64) -> Result<Self> {
        let part = part_of(path);
        let file = File::create(&part).map_err(|e| cannot_write(path, e))?;
        let mut animation = Self {
            path: path.to_owned(),
            _incomplete: observer.guard_incomplete_file(&part),
            part,
            encoder: None,
            fps,
            frames: 0,
        };
        let encoder = animation
            .encoder
            .insert(GifEncoder::new_with_speed(BufWriter::new(file), 10));
        encoder
            .set_repeat(Repeat::Infinite)
            .map_err(|e| cannot_write(path, e))?;
        Ok(animation)
    }

    pub(super) fn add(&mut self, frame: &RenderedFrame, pixels: Vec<u8>) -> Result<()> {
        let fault = |e: &dyn std::fmt::Display| cannot_write(&self.path, e);
        let image = RgbImage::from_raw(frame.width, frame.height, pixels)
            .ok_or_else(|| fault(&"bad frame size"))?;
        let rgba = image::DynamicImage::ImageRgb8(image).into_rgba8();
        let delay = Delay::from_numer_denom_ms(10 * hundredths(self.frames, self.fps), 1);
        self.frames += 1;
        let frame = GifFrame::from_parts(rgba, 0, 0, delay);
        self.encoder
            .as_mut()
            .map_or(Ok(()), |encoder| encoder.encode_frame(frame))
            .map_err(|e| fault(&e))
    }

    pub(super) fn finish(mut self) -> Result<PathBuf> {
        drop(self.encoder.take());
        let truncated = |_| std::io::Error::other("the file is truncated: is the disk full?");
        let end = ended(&self.part).map_err(truncated);
        end.and_then(|()| std::fs::rename(&self.part, &self.path))
            .map_err(|e| {
                let _ = std::fs::remove_file(&self.part);
                cannot_write(&self.path, e)
            })?;
        Ok(self.path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::hundredths;

    #[test]
    fn delays_add_up_to_the_duration() {
        let total: u32 = (0..24).map(|i| hundredths(i, 24.0)).sum();
        assert_eq!(total, 100);
        assert_eq!((0..3).map(|i| hundredths(i, 12.0)).sum::<u32>(), 25);
        assert_eq!(hundredths(7, 50.0), 2);
    }
}
