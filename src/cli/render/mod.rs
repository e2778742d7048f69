//! `kiln render`

use std::path::{Path, PathBuf};

use super::output::SCHEMA;
use super::scene;
use super::sink::{Look, Sink};
use super::{Session, usage};
use crate::camera::Camera;
use crate::config::Background;
use crate::dataset::Split;
use crate::render::{Channel, Frame, Renderer};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run directory, or a checkpoint file
    pub(super) run: PathBuf,
    /// Render the views of a split: train, val or test (which is what is rendered where nothing is chosen)
    #[arg(long, value_name = "SPLIT", conflicts_with = "turntable")]
    pub(super) split: Option<Split>,
    /// Render an orbit of N views around the scene, or a swing where the cameras stood on one side of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) turntable: Option<u32>,
    /// Folder for PNGs, or one .png or .gif file
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) out: PathBuf,
    /// Pixels per row; left out, as in the dataset
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(super) width: Option<u32>,
    /// Rows; left out, as in the dataset
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(super) height: Option<u32>,
    /// What to render: rgb, depth, normal, opacity
    #[arg(long, value_name = "c,d", value_delimiter = ',', default_value = "rgb")]
    pub(super) channels: Vec<Channel>,
    /// Background: white, black or #rrggbb
    #[arg(long, value_name = "C")]
    pub(super) background: Option<Background>,
    /// Where the images are, if not where the run was trained
    #[arg(long, value_name = "DIR")]
    pub(super) dataset: Option<PathBuf>,
    /// Frames per second of an animation
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(super) fps: u32,
}

/// A camera with what its file says of near and far.
type View = (Camera, Option<[f32; 2]>);

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Folder,
    Png,
    Gif,
}

fn target(path: &Path) -> anyhow::Result<Target> {
    let refuse = |reason: &str| Err(usage(format!("--out {}: {reason}", path.display())));
    let names_folder = path.to_string_lossy().ends_with(std::path::is_separator);
    let extension = path
        .extension()
        .filter(|_| !names_folder)
        .map(|e| e.to_string_lossy().to_lowercase());
    let target = match extension.as_deref() {
        _ if path.is_dir() => Target::Folder,
        Some("png") => Target::Png,
        Some("gif") => Target::Gif,
        // A version, as in renders/v1.2, is no format.
        Some(other) if other.chars().any(char::is_alphabetic) => {
            let advice = "give a .png, a .gif, or a folder, ending in / where its name has a dot";
            return refuse(&format!("`.{other}` is not written: {advice}"));
        }
        _ if path.is_file() => return refuse("is a file: give a folder, a .png or a .gif"),
        _ => Target::Folder,
    };
    Ok(target)
}

/// The folder that images go to, made before anything is rendered.
fn make_folder(out: &Path, target: &Target) -> anyhow::Result<()> {
    let folder = if *target == Target::Folder {
        Some(out)
    } else {
        out.parent()
    };
    folder
        .filter(|p| !p.as_os_str().is_empty())
        .map_or(Ok(()), |folder| {
            std::fs::create_dir_all(folder)
                .map_err(|e| anyhow::anyhow!("cannot make {}: {e}", folder.display()))
        })
}

pub(super) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let target = target(&args.out)?;
    for (index, channel) in args.channels.iter().enumerate() {
        if args.channels[..index].contains(channel) {
            return Err(usage(format!(
                "--channels: {} is named twice",
                channel.name()
            )));
        }
    }
    let background = scene::one_background(args.background)?;
    let gpu = session.open_gpu()?;
    let mut run = scene::open_run(&gpu, &args.run, background)?;
    let dataset = scene::dataset_of(session, &run.checkpoint, args.dataset.as_deref())?;
    let downscale = run.checkpoint.info.downscale;
    let views: Vec<View> = match (args.turntable, args.split) {
        (Some(n), _) => {
            let cameras: Vec<Camera> = dataset
                .train
                .iter()
                .map(|f| f.camera.downscaled(downscale))
                .collect();
            orbit(&cameras, n).into_iter().map(|c| (c, None)).collect()
        }
        (None, split) => {
            let split = split.unwrap_or(Split::Test);
            dataset
                .frames(split)
                .iter()
                .map(|f| (f.camera.downscaled(downscale), f.near_far))
                .collect()
        }
    };
    if views.is_empty() {
        let split = args.split.unwrap_or(Split::Test);
        return Err(usage(format!(
            "the dataset has no {split} views to render: give another --split, or --turntable N"
        )));
    }
    if target == Target::Png && views.len() * args.channels.len() > 1 {
        return Err(usage(format!(
            "--out {}: {} images do not fit one PNG; give a folder or a .gif",
            args.out.display(),
            views.len() * args.channels.len()
        )));
    }
    make_folder(&args.out, &target)?;
    let views: Vec<View> = views
        .into_iter()
        .map(|(c, n)| (sized(&c, args.width, args.height), n))
        .collect();
    if let Some((camera, _)) = views.first() {
        session.out.in_place_of_bar(format!(
            "rendering {} views of {}×{}",
            views.len(),
            camera.width,
            camera.height
        ));
    }
    let look = look(session, &mut run.renderer, &views, &args.channels)?;
    let mut sinks = args
        .channels
        .iter()
        .map(|&channel| match target {
            Target::Png => Ok(Sink::png(&args.out, channel)),
            Target::Folder => Ok(Sink::folder(&args.out, channel)),
            Target::Gif => {
                let path = with_channel(&args.out, channel, args.channels.len());
                Sink::gif(&path, channel, args.fps)
            }
        })
        .collect::<anyhow::Result<Vec<Sink>>>()?;
    let normals = args.channels.contains(&Channel::Normal);
    render_all(session, &mut run.renderer, &views, normals, |frame| {
        sinks.iter_mut().try_for_each(|s| s.add(frame, &look))
    })?;
    for sink in sinks {
        for path in sink.finish()? {
            session.out.json(&serde_json::json!({ "schema": SCHEMA, "event": "image", "path": path.display().to_string() }))?;
        }
    }
    session.out.result(format!(
        "rendered {} views to {}",
        views.len(),
        args.out.display()
    ))
}

/// `camera` with another resolution: the same view, width deciding the focal length where the shape changes.
fn sized(camera: &Camera, width: Option<u32>, height: Option<u32>) -> Camera {
    match (width, height) {
        (None, None) => *camera,
        (Some(w), Some(h)) => {
            // Keep the horizontal field of view and square pixels.
            let mut resized = camera.resized(w, scaled(camera.height, w, camera.width));
            let shift = (h as f32 - resized.height as f32) / 2.0;
            resized.principal[1] += shift;
            resized.height = h;
            resized
        }
        (Some(w), None) => camera.resized(w, scaled(camera.height, w, camera.width)),
        (None, Some(h)) => camera.resized(scaled(camera.width, h, camera.height), h),
    }
}

fn scaled(side: u32, new: u32, old: u32) -> u32 {
    u32::try_from(u64::from(side) * u64::from(new) / u64::from(old.max(1)))
        .unwrap_or(1)
        .max(1)
}

/// Angles without a camera that make the others one side of a scene, which is then not shown from behind.
const UNSEEN: f64 = std::f64::consts::TAU / 3.0;

/// The middle and half the width of the arc that `angles` span.
fn arc(mut angles: Vec<f64>) -> (f64, f64) {
    use std::f64::consts::TAU;
    angles.sort_by(f64::total_cmp);
    let next = angles.iter().skip(1).copied();
    let next = next.chain(angles.first().map(|a| a + TAU));
    // The widest gap, and where it ends.
    let (gap, end) = angles
        .iter()
        .zip(next)
        .map(|(a, b)| (b - a, b))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((0.0, 0.0));
    if gap < UNSEEN {
        return (0.0, std::f64::consts::PI);
    }
    let half = (TAU - gap) / 2.0;
    (end + half, half)
}

/// `n` cameras on a circle around the point that `cameras` look at, at their mean height and distance; where those stand
/// on one side only, the circle is left for a swing from end to end of their arc and back.
pub(super) fn orbit(cameras: &[Camera], n: u32) -> Vec<Camera> {
    use glam::DVec3;
    let position = |c: &Camera| DVec3::from_array(c.position().map(f64::from));
    let forward = |c: &Camera| DVec3::from_array(c.forward().map(f64::from));
    let Some(first) = cameras.first() else {
        return Vec::new();
    };
    let count = cameras.len() as f64;
    // The point nearest all optical axes, least squares: sum (I - d dᵀ) (x - p) = 0.
    let mut matrix = glam::DMat3::ZERO;
    let mut right = DVec3::ZERO;
    let mut up = DVec3::ZERO;
    for camera in cameras {
        let d = forward(camera).normalize_or_zero();
        let m = glam::DMat3::IDENTITY - glam::DMat3::from_cols(d * d.x, d * d.y, d * d.z);
        matrix += m;
        right += m * position(camera);
        let w = camera.world_from_camera;
        up += DVec3::new(f64::from(w[0][1]), f64::from(w[1][1]), f64::from(w[2][1]));
    }
    let center = if matrix.determinant().abs() > 1e-6 {
        matrix.inverse() * right
    } else {
        position(first) + forward(first)
    };
    // The world's own axis where the cameras' mean up is near it.
    let up = up.normalize_or(DVec3::Z);
    let up = [DVec3::X, DVec3::Y, DVec3::Z]
        .into_iter()
        .flat_map(|a| [a, -a])
        .find(|a| a.dot(up) > 0.8)
        .unwrap_or(up);
    let heights = cameras
        .iter()
        .map(|c| (position(c) - center).dot(up))
        .sum::<f64>()
        / count;
    let flat = |c: &Camera| {
        let offset = position(c) - center;
        offset - up * offset.dot(up)
    };
    let radius = cameras.iter().map(|c| flat(c).length()).sum::<f64>() / count;
    let x = flat(first).normalize_or(up.any_orthonormal_vector());
    let y = up.cross(x);
    let to_f32 = |v: DVec3| v.to_array().map(|c| c as f32);
    let fov = 2.0 * (first.width as f32 / 2.0 / first.focal[0]).atan();
    let angle_of = |c: &Camera| y.dot(flat(c)).atan2(x.dot(flat(c)));
    let (middle, half) = arc(cameras.iter().map(angle_of).collect());
    (0..n)
        .map(|i| {
            let turn = f64::from(i) / f64::from(n) * std::f64::consts::TAU;
            let angle = if half < std::f64::consts::PI {
                middle + half * turn.sin()
            } else {
                turn
            };
            let eye = center + radius * (angle.cos() * x + angle.sin() * y) + up * heights;
            Camera::look_at(
                to_f32(eye),
                to_f32(center),
                to_f32(up),
                fov,
                first.width,
                first.height,
            )
        })
        .collect()
}

/// Render `views` one after the other; `take` gets each as it is done.
pub(super) fn render_all(
    session: &Session,
    renderer: &mut Renderer,
    views: &[View],
    normals: bool,
    mut take: impl FnMut(&Frame) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let bar = session.out.bar(views.len(), "rendering");
    for (camera, near_far) in views {
        take(&renderer.render(camera, *near_far, normals)?)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Pixels per row of the small views that the range of depth is taken from.
const SMALL: u32 = 64;

/// How `channels` of `views` are to look; where depth is among them, its range is that of small versions of the views.
pub(super) fn look(
    session: &Session,
    renderer: &mut Renderer,
    views: &[View],
    channels: &[Channel],
) -> anyhow::Result<Look> {
    let mut range = None;
    if channels.contains(&Channel::Depth) {
        let small = |(c, near_far): &View| (sized(c, Some(c.width.min(SMALL)), None), *near_far);
        let views: Vec<View> = views.iter().map(small).collect();
        render_all(session, renderer, &views, false, |frame| {
            let both = range.into_iter().chain(frame.depth_range());
            range = both.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]);
            Ok(())
        })?;
    }
    Ok(Look {
        background: renderer.config().scene.eval_background.color(),
        depth_range: range.unwrap_or([0.0, 1.0]),
    })
}

/// `out.gif`, or `out-depth.gif` where there are several channels.
fn with_channel(path: &Path, channel: Channel, n: usize) -> PathBuf {
    if n == 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.gif", channel.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{PI, TAU};

    #[test]
    fn cameras_on_one_side_span_an_arc() {
        let around: Vec<f64> = (0..8).map(|i| f64::from(i) / 8.0 * TAU).collect();
        assert_eq!(arc(around), (0.0, PI));
        // Across the end of the range of angles.
        for turn in [0.0, 2.0, PI] {
            let wrap = |a: f64| (a + turn).sin().atan2((a + turn).cos());
            let (middle, half) = arc([0.5, -0.4, 0.1, -0.5].map(wrap).to_vec());
            assert!((half - 0.5).abs() < 1e-9, "{half}");
            assert!((middle - turn).sin().abs() < 1e-9 && (middle - turn).cos() > 0.0);
        }
        assert!(arc(vec![1.0]).1.abs() < 1e-9);
        assert_eq!(arc(Vec::new()), (0.0, PI));
    }

    #[test]
    fn a_swing_stays_among_the_cameras() {
        let stand = |angle: f32| {
            let eye = [4.0 * angle.cos(), 4.0 * angle.sin(), 1.0];
            Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.8, 8, 8)
        };
        let cameras: Vec<Camera> = [-0.6, -0.2, 0.3, 0.6].map(stand).to_vec();
        for camera in orbit(&cameras, 12) {
            let [x, y, z] = camera.position();
            assert!(y.atan2(x).abs() < 0.61, "{x} {y}");
            assert!((x.hypot(y) - 4.0).abs() < 1e-3 && (z - 1.0).abs() < 1e-3);
        }
    }
}
