//! Chooses the output format of a rendering and checks its flags.

use std::path::{Path, PathBuf};

use super::{DepthEncoding, RenderBackground, RenderOptions, View};
use crate::render::Channel;
use crate::session::sink::{DepthFormat, Sink, Target};
use crate::session::{Error, Observer, Result, check};

/// Maximum frame rate of a GIF: its delays are in hundredths of a second, and players do not respect a delay of 1.
const GIF_FPS: f64 = 50.0;
/// Maximum number of views of an orbit or a spiral.
const MAX_VIEWS: u32 = 10_000;
/// Maximum square root of the number of rays per pixel.
const MAX_SAMPLES_PER_SIDE: u32 = 8;
/// Default value of one world unit in 16-bit depth.
const DEPTH_SCALE: f64 = 1000.0;

/// Return the output format that `--out` names.
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
        // A number such as in renders/v1.2 is not an extension.
        Some(other) if other.chars().any(char::is_alphabetic) => {
            let advice = "give a .png, .exr, .gif or .mp4 file, or a folder (end it with / if its name has a dot)";
            return refuse(&format!("`.{other}` is not supported: {advice}"));
        }
        _ if path.is_file() => {
            return refuse("is a file: give a folder, or a .png, .exr, .gif or .mp4 file");
        }
        _ => Target::Folder,
    };
    Ok(target)
}

/// Return the depth format for `target`.
pub(super) fn depth_format(options: &RenderOptions, target: Target) -> DepthFormat {
    match (options.depth_format, target) {
        (Some(DepthEncoding::Png16), _) => {
            DepthFormat::Png16(options.depth_scale.unwrap_or(DEPTH_SCALE) as f32)
        }
        (Some(DepthEncoding::Exr), _) | (None, Target::Exr) => DepthFormat::Exr,
        (Some(DepthEncoding::Shaded) | None, _) => DepthFormat::Shaded,
    }
}

/// Return an error if flags contradict each other.
pub(super) fn check_options(options: &RenderOptions, target: Target) -> Result<()> {
    check::at_most_one(&[
        ("--split", options.split.is_some()),
        ("--turntable", options.turntable.is_some()),
        ("--spiral", options.spiral.is_some()),
        ("--path", options.path.is_some()),
    ])?;
    if options.path_transform.is_some() && options.path.is_none() {
        return Err(Error::usage(
            "--path-transform belongs to a --path: give that too",
        ));
    }
    check::in_range("--turntable", options.turntable, &(1..=MAX_VIEWS))?;
    check::in_range("--spiral", options.spiral, &(1..=MAX_VIEWS))?;
    check::in_range("--width", options.width, &(1..=check::MAX_SIDE))?;
    check::in_range("--height", options.height, &(1..=check::MAX_SIDE))?;
    let per_side = Some(options.samples_per_side);
    check::in_range("samples_per_side", per_side, &(1..=MAX_SAMPLES_PER_SIDE))?;
    let step = options.frames.and_then(|frames| frames.step);
    for (flag, step) in [("--every", options.every), ("--frames A..B..", step)] {
        if step == Some(0) {
            return Err(Error::usage(format!(
                "{flag} 0: give a whole number, 1 or more"
            )));
        }
    }
    if step.is_some() && options.every.is_some() {
        return Err(Error::usage(
            "--every: --frames A..B..STEP already gives a step; leave one of them out",
        ));
    }
    if options.channels.is_empty() {
        return Err(Error::usage("--channels: name at least one"));
    }
    check::in_range("--depth-scale", options.depth_scale, &(1e-9..=1e9))?;
    check::in_range("--fps", options.fps, &(0.01..=1000.0))?;
    let out = options.out.display();
    for (index, channel) in options.channels.iter().enumerate() {
        if options.channels[..index].contains(channel) {
            return Err(Error::usage(format!(
                "--channels: {} is given twice",
                channel.name()
            )));
        }
    }
    let has = |channel| options.channels.contains(&channel);
    if options.background == Some(RenderBackground::Transparent) && target.is_animation() {
        return Err(Error::usage(format!(
            "--background transparent: {out} cannot be transparent: give a folder or a .png file for --out"
        )));
    }
    if options.linear && !has(Channel::Rgb) {
        return Err(Error::usage(
            "--linear applies to colour: add rgb to --channels",
        ));
    }
    if options.linear && !matches!(target, Target::Folder | Target::Exr) {
        return Err(Error::usage(format!(
            "--linear writes OpenEXR, but {out} has another format: give a folder or an .exr file for --out"
        )));
    }
    if options.depth_format.is_some() && !has(Channel::Depth) {
        return Err(Error::usage("--depth-format: add depth to --channels"));
    }
    if options.depth_scale.is_some() && options.depth_format != Some(DepthEncoding::Png16) {
        return Err(Error::usage(
            "--depth-scale applies only to --depth-format png16: add that, or leave it out",
        ));
    }
    let fits = match (options.depth_format, target) {
        (None, _) | (_, Target::Folder) => true,
        (Some(DepthEncoding::Shaded), target) => target != Target::Exr,
        (Some(DepthEncoding::Png16), target) => target == Target::Png,
        (Some(DepthEncoding::Exr), target) => target == Target::Exr,
    };
    if !fits {
        return Err(Error::usage(format!(
            "--depth-format: {out} cannot hold depth in that format: give a folder for --out"
        )));
    }
    if target == Target::Exr && (has(Channel::Normal) || has(Channel::Opacity)) {
        return Err(Error::usage(format!(
            "--out {out}: only rgb and depth can be written as OpenEXR: give a folder for the other channels"
        )));
    }
    Ok(())
}

/// Return an error if the views do not fit into one file.
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
            "--out {out}: {images} images do not fit into one {kind}; give a folder, or a .gif or .mp4 file"
        )));
    }
    if target == Target::Gif && fps > GIF_FPS {
        return Err(Error::usage(format!(
            "--fps: {out} would show {fps} frames per second, but a GIF allows at most {GIF_FPS}: \
             give --fps {GIF_FPS}, --every 2 or an .mp4 file"
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

/// Create the folder of the output before anything is rendered.
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
                .map_err(|e| Error::failed(format!("cannot create {}: {e}", folder.display())))
        })
}

/// Open a sink for each channel.
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

/// Return the file of a channel: `out.gif`, or `out-depth.gif` if there are several channels.
fn with_channel(path: &Path, channel: Channel, n: usize) -> PathBuf {
    if n == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}.", channel.name()));
    name.push(path.extension().unwrap_or_default());
    path.with_file_name(name)
}
