//! Where renderings go, and whether the flags fit together.

use std::path::{Path, PathBuf};

use super::{Backdrop, DepthName, RenderOptions, View};
use crate::render::Channel;
use crate::session::sink::{DepthFormat, Sink, Target};
use crate::session::{Error, Observer, Result};

/// Most frames per second of a GIF: its clock counts hundredths, and players take one of them for a mistake.
const GIF_FPS: f64 = 50.0;
/// What a world unit is in 16-bit depth.
const DEPTH_SCALE: f64 = 1000.0;

/// What `--out` asks for.
pub(super) fn target(path: &Path) -> Result<Target> {
    let refuse = |reason: &str| Err(Error::usage(format!("--out {}: {reason}", path.display())));
    let names_folder = path.to_string_lossy().ends_with(std::path::is_separator);
    let extension = path
        .extension()
        .filter(|_| !names_folder)
        .map(|e| e.to_string_lossy().to_lowercase());
    let target = match extension.as_deref() {
        _ if path.is_dir() => Target::Folder,
        Some("png") => Target::Png,
        Some("exr") => Target::Exr,
        Some("gif") => Target::Gif,
        Some("mp4") => Target::Mp4,
        // A version, as in renders/v1.2, is no format.
        Some(other) if other.chars().any(char::is_alphabetic) => {
            let advice = "give a .png, .exr, .gif or .mp4, or a folder, ending in / where its name has a dot";
            return refuse(&format!("`.{other}` is not written: {advice}"));
        }
        _ if path.is_file() => {
            return refuse("is a file: give a folder, or a .png, .exr, .gif or .mp4");
        }
        _ => Target::Folder,
    };
    Ok(target)
}

/// How depth is written.
pub(super) fn depth_format(options: &RenderOptions, target: Target) -> DepthFormat {
    match (options.depth_format, target) {
        (Some(DepthName::Png16), _) => {
            DepthFormat::Png16(options.depth_scale.unwrap_or(DEPTH_SCALE) as f32)
        }
        (Some(DepthName::Exr), _) | (None, Target::Exr) => DepthFormat::Exr,
        (Some(DepthName::Shaded) | None, _) => DepthFormat::Shaded,
    }
}

/// Refuse flags that contradict each other.
pub(super) fn check(options: &RenderOptions, target: Target) -> Result<()> {
    let out = options.out.display();
    for (index, channel) in options.channels.iter().enumerate() {
        if options.channels[..index].contains(channel) {
            return Err(Error::usage(format!(
                "--channels: {} is named twice",
                channel.name()
            )));
        }
    }
    let has = |channel| options.channels.contains(&channel);
    if options.background == Some(Backdrop::Transparent) && target.is_animation() {
        return Err(Error::usage(format!(
            "--background transparent: {out} cannot be seen through: give a folder or a .png for --out"
        )));
    }
    if options.linear && !has(Channel::Rgb) {
        return Err(Error::usage(
            "--linear: is for colour: add rgb to --channels",
        ));
    }
    if options.linear && !matches!(target, Target::Folder | Target::Exr) {
        return Err(Error::usage(format!(
            "--linear: writes OpenEXR, which {out} is not: give a folder or an .exr for --out"
        )));
    }
    if options.depth_format.is_some() && !has(Channel::Depth) {
        return Err(Error::usage(
            "--depth-format: depth is not among the --channels: add it",
        ));
    }
    if options.depth_scale.is_some() && options.depth_format != Some(DepthName::Png16) {
        return Err(Error::usage("--depth-scale: is for --depth-format png16"));
    }
    let fits = match (options.depth_format, target) {
        (None, _) | (_, Target::Folder) => true,
        (Some(DepthName::Shaded), target) => target != Target::Exr,
        (Some(DepthName::Png16), target) => target == Target::Png,
        (Some(DepthName::Exr), target) => target == Target::Exr,
    };
    if !fits {
        return Err(Error::usage(format!(
            "--depth-format: {out} does not hold such depth: give a folder for --out"
        )));
    }
    if target == Target::Exr && (has(Channel::Normal) || has(Channel::Opacity)) {
        return Err(Error::usage(format!(
            "--out {out}: only rgb and depth are written as OpenEXR: give a folder for the other channels"
        )));
    }
    Ok(())
}

/// Refuse views that do not go into one file.
pub(super) fn check_views(
    options: &RenderOptions,
    target: Target,
    views: &[View],
    fps: f64,
) -> Result<()> {
    let out = options.out.display();
    let images = views.len() * options.channels.len();
    if matches!(target, Target::Png | Target::Exr) && images > 1 {
        let kind = if target == Target::Png { "PNG" } else { "EXR" };
        return Err(Error::usage(format!(
            "--out {out}: {images} images do not fit one {kind}; give a folder, a .gif or an .mp4"
        )));
    }
    if target == Target::Gif && fps > GIF_FPS {
        return Err(Error::usage(format!(
            "--fps: {out} would show {fps} frames per second, of which a GIF takes {GIF_FPS}: \
             give --fps {GIF_FPS}, --every 2 or an .mp4"
        )));
    }
    let mut sizes = views.iter().map(|v| [v.camera.width, v.camera.height]);
    let first = sizes.next().unwrap_or_default();
    if target.is_animation()
        && let Some([width, height]) = sizes.find(|size| *size != first)
    {
        return Err(Error::usage(format!(
            "--out {out}: the views differ in size ({}×{}, {width}×{height}): give --width and --height, or a folder",
            first[0], first[1]
        )));
    }
    Ok(())
}

/// The folder that images go to, made before anything is rendered.
pub(super) fn make_folder(out: &Path, target: Target) -> Result<()> {
    let folder = if target == Target::Folder {
        Some(out)
    } else {
        out.parent()
    };
    folder
        .filter(|p| !p.as_os_str().is_empty())
        .map_or(Ok(()), |folder| {
            std::fs::create_dir_all(folder)
                .map_err(|e| Error::failed(format!("cannot make {}: {e}", folder.display())))
        })
}

/// A sink for each channel.
pub(super) fn sinks(
    observer: &dyn Observer,
    options: &RenderOptions,
    target: Target,
    all: &[View],
    picked: &[View],
    fps: f64,
) -> Result<Vec<Sink>> {
    let n = options.channels.len();
    let size = picked
        .first()
        .map_or([1; 2], |v| [v.camera.width, v.camera.height]);
    let open = |&channel: &Channel| {
        let file = with_channel(&options.out, channel, n);
        match target {
            Target::Png | Target::Exr => Ok(Sink::still(&options.out, channel)),
            Target::Folder => Ok(Sink::folder(&options.out, channel, all.len())),
            Target::Gif => Sink::gif(observer, &file, channel, fps),
            Target::Mp4 => Sink::video(observer, &file, channel, size, fps),
        }
    };
    options.channels.iter().map(open).collect()
}

/// `out.gif`, or `out-depth.gif` where there are several channels.
fn with_channel(path: &Path, channel: Channel, n: usize) -> PathBuf {
    if n == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}.", channel.name()));
    name.push(path.extension().unwrap_or_default());
    path.with_file_name(name)
}
