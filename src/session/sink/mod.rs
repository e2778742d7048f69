//! Writes rendered views to images or animations. Animations appear under their name once they are complete.

mod gif;
mod still;
mod video;

use std::path::{Path, PathBuf};

pub(crate) use still::save_png;

use super::{Error, Observer, Result};
use crate::render::{Channel, RenderedFrame};

/// Options for converting frames to pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PixelOptions {
    /// Background colour, sRGB; transparent if `None`.
    pub(crate) background: Option<[f32; 3]>,
    /// Background colour of linear `OpenEXR` images; transparent if `None`.
    pub(crate) linear_background: Option<[f32; 3]>,
    /// Depths shown as white and black; the same for all frames, so that an animation does not flicker.
    pub(crate) depth_range: [f32; 2],
    pub(crate) depth: DepthFormat,
    /// Whether to write colour as linear `OpenEXR`.
    pub(crate) linear: bool,
}

/// File format of depth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DepthFormat {
    /// Shades of grey, nearest white.
    Shaded,
    /// 16-bit PNG of distances in world units times this factor.
    Png16(f32),
    /// `OpenEXR` of distances in world units.
    Exr,
}

/// Kind of output file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A folder with one image per view.
    Folder,
    /// One PNG.
    Png,
    /// One `OpenEXR` image.
    Exr,
    Gif,
    /// H.264.
    Mp4,
}

impl Target {
    /// Return whether one file shows all views in turn.
    pub(crate) fn is_animation(self) -> bool {
        matches!(self, Self::Gif | Self::Mp4)
    }
}

/// Writes the images of one channel to files.
pub(crate) struct Sink {
    channel: Channel,
    files: Files,
    written: Vec<PathBuf>,
    /// Number of depths that were clipped to the 16-bit range.
    cut: usize,
}

enum Files {
    /// One image.
    Still(PathBuf),
    /// Numbered images: the folder, and the number of digits.
    Folder(PathBuf, usize),
    Gif(gif::Animation),
    Video(video::Video),
}

/// The files that a sink wrote.
pub(crate) struct Written {
    pub(crate) paths: Vec<PathBuf>,
    /// Number of depths that were clipped to the 16-bit range.
    pub(crate) cut: usize,
}

fn cannot_write(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::failed(format!("cannot write {}: {error}", path.display()))
}

/// Return the path of the temporary file of an animation.
fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

impl Sink {
    /// Write to one image.
    pub(crate) fn still(path: &Path, channel: Channel) -> Self {
        Self::new(channel, Files::Still(path.to_owned()))
    }

    /// Write to images in a folder, named after the channel and numbered with enough digits for `n` frames.
    pub(crate) fn folder(path: &Path, channel: Channel, n: usize) -> Self {
        let digits = n.saturating_sub(1).to_string().len().max(4);
        Self::new(channel, Files::Folder(path.to_owned(), digits))
    }

    /// Write to a GIF that loops forever.
    pub(crate) fn gif(
        observer: &dyn Observer,
        path: &Path,
        channel: Channel,
        fps: f64,
    ) -> Result<Self> {
        let animation = gif::Animation::begin(observer, path, fps)?;
        Ok(Self::new(channel, Files::Gif(animation)))
    }

    /// Write to a video of frames of `size`.
    pub(crate) fn video(
        observer: &dyn Observer,
        path: &Path,
        channel: Channel,
        size: [u32; 2],
        fps: f64,
    ) -> Result<Self> {
        let video = video::Video::begin(observer, path, size, fps)?;
        Ok(Self::new(channel, Files::Video(video)))
    }

    fn new(channel: Channel, files: Files) -> Self {
        Self {
            channel,
            files,
            written: Vec::new(),
            cut: 0,
        }
    }

    /// Write frame number `index`.
    pub(crate) fn add(
        &mut self,
        index: usize,
        frame: &RenderedFrame,
        look: &PixelOptions,
    ) -> Result<()> {
        let background = look.background.unwrap_or_default();
        let rgb = || frame.pixels(self.channel, background, look.depth_range);
        let path = match &mut self.files {
            Files::Gif(animation) => return animation.add(frame, rgb()),
            Files::Video(video) => return video.add(frame, &rgb()),
            Files::Still(path) => path.clone(),
            Files::Folder(folder, digits) => {
                let name = self.channel.name();
                let extension = still::extension(self.channel, look);
                folder.join(format!(
                    "{name}_{index:0digits$}.{extension}",
                    digits = *digits
                ))
            }
        };
        self.cut += still::save(&path, self.channel, frame, look)?;
        self.written.push(path);
        Ok(())
    }

    /// Finish the files.
    pub(crate) fn finish(mut self) -> Result<Written> {
        match self.files {
            Files::Gif(animation) => self.written.push(animation.finish()?),
            Files::Video(video) => self.written.push(video.finish()?),
            Files::Still(_) | Files::Folder(..) => {}
        }
        Ok(Written {
            paths: self.written,
            cut: self.cut,
        })
    }
}
