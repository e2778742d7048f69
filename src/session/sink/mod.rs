//! Where rendered views go: images, or animations that appear once they are complete.

mod gif;
mod still;
mod video;

use std::path::{Path, PathBuf};

pub(crate) use still::save_png;

use super::{Error, Observer, Result};
use crate::render::{Channel, Frame};

/// How frames become pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// sRGB; transparent where there is none.
    pub(crate) background: Option<[f32; 3]>,
    /// What stands behind colour in linear light.
    pub(crate) linear_background: Option<[f32; 3]>,
    /// One scale for all frames, so that an animation's depth does not flicker.
    pub(crate) depth_range: [f32; 2],
    pub(crate) depth: DepthFormat,
    /// Colour as linear-light `OpenEXR`.
    pub(crate) linear: bool,
}

/// How depth is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DepthFormat {
    /// Nearest white.
    Shaded,
    /// 16-bit PNG of distances times this.
    Png16(f32),
    /// World units.
    Exr,
}

/// What kind of file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One image a view.
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
    /// Whether it shows one view after the other.
    pub(crate) fn is_animation(self) -> bool {
        matches!(self, Self::Gif | Self::Mp4)
    }
}

/// One channel's images on their way to files.
pub(crate) struct Sink {
    channel: Channel,
    files: Files,
    written: Vec<PathBuf>,
    /// Depths beyond what a number holds.
    cut: usize,
}

enum Files {
    /// One image.
    Still(PathBuf),
    /// Numbered images: the folder, and digits of a number.
    Folder(PathBuf, usize),
    Gif(gif::Animation),
    Video(video::Video),
}

/// What a sink wrote.
pub(crate) struct Written {
    pub(crate) paths: Vec<PathBuf>,
    /// Depths that were cut off.
    pub(crate) cut: usize,
}

fn cannot_write(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::failed(format!("cannot write {}: {error}", path.display()))
}

/// Where an animation is written until it is complete.
fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

impl Sink {
    /// To one image.
    pub(crate) fn still(path: &Path, channel: Channel) -> Self {
        Self::new(channel, Files::Still(path.to_owned()))
    }

    /// To images in a folder, named after the channel and numbered as the `n` frames of the whole are.
    pub(crate) fn folder(path: &Path, channel: Channel, n: usize) -> Self {
        let digits = n.saturating_sub(1).to_string().len().max(4);
        Self::new(channel, Files::Folder(path.to_owned(), digits))
    }

    /// To an endless animation.
    pub(crate) fn gif(
        observer: &dyn Observer,
        path: &Path,
        channel: Channel,
        fps: f64,
    ) -> Result<Self> {
        let animation = gif::Animation::begin(observer, path, fps)?;
        Ok(Self::new(channel, Files::Gif(animation)))
    }

    /// To a video of frames of `size`.
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

    /// Take frame number `index`.
    pub(crate) fn add(&mut self, index: usize, frame: &Frame, look: &Look) -> Result<()> {
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

    /// Complete what was begun.
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
