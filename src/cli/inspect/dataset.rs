//! Checks a dataset and describes its views, images, cameras and memory needs.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::super::Terminal;
use super::Args;
use crate::aabb::Aabb;
use crate::camera::{Camera, Lens};
use crate::config::{Budget, ResolvedConfig};
use crate::dataset::doctor::{self, BoxFit, CameraPlacement, Problem, Severity};
use crate::dataset::framing::{point, short};
use crate::dataset::{Dataset, DepthSummary, Frame, Split, duplicate_images};
use crate::gpu::{AdapterClass, Gpu};
use crate::images::near_far;
use crate::session::memory::{self, Memory};
use crate::session::run_log::SCHEMA;
use crate::session::{self, Error, Observer as _, ObserverExt as _, Result, Scale, data, resolve};
use crate::text::bytes;
use crate::text::counted_len;
use crate::train::size_network_grids;

/// Maximum number of problems printed; `--json` lists all.
const SHOWN: usize = 20;

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    event: &'static str,
    path: String,
    format: Option<String>,
    variant: Option<String>,
    /// Number of sparse points.
    points: usize,
    /// Number of views whose depth is known, in part or entirely.
    with_depth: usize,
    views: Option<Views>,
    images: Option<&'a Images>,
    lenses: &'a [LensUse],
    scene: Option<Scene<'a>>,
    cameras: Option<CameraPlacement>,
    fit: Option<BoxFit>,
    memory: Option<&'a Memory>,
    missing: Vec<String>,
    problems: &'a [Problem],
    errors: usize,
    warnings: usize,
    usable: bool,
}

#[derive(Serialize)]
struct Views {
    train: usize,
    val: usize,
    test: usize,
}

#[derive(Serialize)]
struct Images {
    /// Width, height and number of images of each size, most frequent first.
    sizes: Vec<(u32, u32, usize)>,
    pixels: u64,
    disk_bytes: u64,
    with_alpha: usize,
    with_mask: usize,
    decode_seconds: f64,
}

#[derive(Serialize)]
struct LensUse {
    lens: &'static str,
    views: usize,
    /// Narrowest and widest horizontal field of view, degrees.
    fov_x: [f64; 2],
}

#[derive(Serialize)]
struct Scene<'a> {
    method: &'a str,
    scale: f64,
    offset: [f64; 3],
    aabb_scale: u32,
    world: Aabb,
}

pub(super) fn inspect(terminal: &Terminal, args: &Args) -> Result<()> {
    if let Some(plot) = &args.plot
        && plot
            .extension()
            .is_none_or(|e| !e.eq_ignore_ascii_case("png"))
    {
        return Err(Error::usage(format!(
            "--plot {}: give a .png file",
            plot.display()
        )));
    }
    // Problems are reported even without a device.
    let gpu = Gpu::open(&terminal.options);
    let class = gpu.as_ref().map_or(AdapterClass::Software, |g| g.class());
    let default = Budget::from(class).preset("ngp");
    let mut config = args.config().load(&default)?;
    let (dataset, faults) = Dataset::examine(&args.path, args.opening());
    let mut problems: Vec<Problem> = faults.iter().map(Problem::from).collect();
    let Some(mut dataset) = dataset else {
        return finish(terminal, args, None, &problems);
    };
    problems.extend(dataset.warnings.iter().cloned().map(Problem::warning));
    let fitted = match &gpu {
        Ok(gpu) => size_network_grids(gpu.profile(), &mut config),
        Err(_) => Ok(()),
    };
    let config = resolve::resolve(terminal, config, &mut dataset, class);
    problems.extend(resolve::problems(&dataset, &config));
    let all: Vec<&Frame> = distinct(&dataset);
    let bar = terminal.task("decoding images", Scale::Count(all.len() as u64));
    let started = std::time::Instant::now();
    let (seen, faulty) = doctor::check_images(&all, &|| bar.increment());
    let decode_seconds = started.elapsed().as_secs_f64();
    let read: Vec<_> = all.par_iter().map(|frame| frame.read_depths()).collect();
    let (read, faults): (Vec<_>, Vec<_>) = all.iter().zip(read).partition(|(_, d)| d.is_ok());
    problems.extend(
        faults
            .iter()
            .filter_map(|(_, fault)| Some(Problem::from(fault.as_ref().err()?))),
    );
    let world = resolve::world_box(&dataset, &config);
    let known = read
        .iter()
        .filter_map(|(frame, depths)| Some((**frame, depths.as_deref().ok()?)));
    let depths = DepthSummary::of(known, &world);
    problems.extend(depths.problems().into_iter().map(Problem::warning));
    drop(bar);
    problems.extend(faulty);
    let thumbnails = seen.iter().map(|s| (s.frame, &s.thumbnail));
    let trained = dataset.train.iter().map(|view| view.image_path.as_path());
    let trained: HashSet<&Path> = trained.collect();
    let (train, held_out): (Vec<_>, Vec<_>) =
        thumbnails.partition(|(view, _)| trained.contains(view.image_path.as_path()));
    problems.extend(duplicate_images::find_duplicate_images(
        &dataset, &train, &held_out,
    ));
    let memory = match &gpu {
        Ok(gpu) => match fitted.and_then(|()| Ok(memory::memory(gpu, &config, &dataset)?)) {
            Ok(memory) => Some(memory),
            Err(error) => {
                problems.push(Problem::warning(error.to_string()));
                None
            }
        },
        Err(error) => {
            problems.push(Problem::warning(format!(
                "cannot compute the memory needed: {error}"
            )));
            None
        }
    };
    let found = Found {
        images: images(
            &all,
            seen.iter().filter(|s| s.has_alpha).count(),
            decode_seconds,
        ),
        lenses: lenses(&all),
        stand: doctor::camera_placement(&dataset.train, &world),
        fit: doctor::fit(&dataset.train, &world, config.aabb_scale(), &|view| {
            near_far(&config, view.near_far)
        }),
        world,
        depths,
        memory,
        config: &config,
        dataset: &dataset,
    };
    if let Some(path) = &args.plot {
        session::plot_cameras(path, &dataset, &world, found.stand.focus)?;
        terminal.note(format!("cameras drawn in {}", path.display()));
    }
    finish(terminal, args, Some(&found), &problems)
}

struct Found<'a> {
    dataset: &'a Dataset,
    config: &'a ResolvedConfig,
    images: Images,
    lenses: Vec<LensUse>,
    stand: CameraPlacement,
    fit: BoxFit,
    world: Aabb,
    depths: DepthSummary,
    memory: Option<Memory>,
}

/// Return the views of all splits, each image once.
fn distinct(dataset: &Dataset) -> Vec<&Frame> {
    let mut seen = HashSet::new();
    [Split::Train, Split::Val, Split::Test]
        .into_iter()
        .flat_map(|split| dataset.frames(split))
        .filter(|f| seen.insert(f.image_path.as_path()))
        .collect()
}

fn images(frames: &[&Frame], with_alpha: usize, decode_seconds: f64) -> Images {
    let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for frame in frames {
        *sizes
            .entry((frame.camera.width, frame.camera.height))
            .or_default() += 1;
    }
    let mut sizes: Vec<_> = sizes.into_iter().map(|((w, h), n)| (w, h, n)).collect();
    sizes.sort_by_key(|&(.., n)| std::cmp::Reverse(n));
    let disk_bytes = frames
        .iter()
        .filter_map(|f| f.image_path.metadata().ok())
        .map(|m| m.len())
        .sum();
    Images {
        pixels: sizes
            .iter()
            .map(|&(w, h, n)| u64::from(w) * u64::from(h) * n as u64)
            .sum(),
        sizes,
        disk_bytes,
        with_alpha,
        with_mask: frames.iter().filter(|frame| frame.mask.is_some()).count(),
        decode_seconds,
    }
}

fn lens_name(camera: &Camera) -> &'static str {
    match camera.lens {
        Lens::Pinhole => "pinhole",
        Lens::OpenCv { .. } => "OpenCV",
        Lens::OpenCvFisheye { .. } => "OpenCV fisheye",
        Lens::FullOpenCv { .. } => "full OpenCV",
        Lens::ThinPrismFisheye { .. } => "thin-prism fisheye",
        Lens::RadTanThinPrismFisheye { .. } => "radial-tangential thin-prism fisheye",
        Lens::Fov { .. } => "field of view",
        Lens::Division { .. } => "division",
        Lens::Eucm { .. } => "enhanced unified",
        Lens::Orthographic => "orthographic",
        Lens::Equirectangular => "equirectangular",
    }
}

fn lenses(frames: &[&Frame]) -> Vec<LensUse> {
    let mut uses: Vec<LensUse> = Vec::new();
    for frame in frames {
        let (camera, lens) = (&frame.camera, lens_name(&frame.camera));
        let fov = horizontal_fov(camera);
        if let Some(known) = uses.iter_mut().find(|u| u.lens == lens) {
            known.views += 1;
            known.fov_x = [known.fov_x[0].min(fov), known.fov_x[1].max(fov)];
        } else {
            uses.push(LensUse {
                lens,
                views: 1,
                fov_x: [fov; 2],
            });
        }
    }
    uses
}

/// Return the angle between the rays through the middles of the left and right edges, in degrees.
fn horizontal_fov(camera: &Camera) -> f64 {
    let ray = |x: f32| glam::DVec3::from(camera.ray(x, camera.principal[1]).1);
    let middle = ray(camera.principal[0]);
    let half = |x: f32| ray(x).dot(middle).clamp(-1.0, 1.0).acos();
    (half(0.0) + half(camera.width as f32)).to_degrees()
}

fn finish(
    terminal: &Terminal,
    args: &Args,
    found: Option<&Found<'_>>,
    problems: &[Problem],
) -> Result<()> {
    let count = |severity| problems.iter().filter(|p| p.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if let Some(found) = found {
        describe(terminal, found)?;
    }
    let mark = |severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    // Sort errors first.
    let mut ordered: Vec<&Problem> = problems.iter().collect();
    ordered.sort_by_key(|p| p.severity == Severity::Warning);
    for problem in ordered.iter().take(SHOWN) {
        terminal.result(format!(
            "  {:10} {}",
            mark(problem.severity),
            problem.message
        ))?;
    }
    if ordered.len() > SHOWN {
        let more = ordered.len() - SHOWN;
        terminal.result(format!("  and {more} more; --json lists all"))?;
    }
    terminal.json(&Report {
        schema: SCHEMA,
        event: "inspect",
        path: args.path.display().to_string(),
        format: found.map(|f| f.dataset.format.to_string()),
        variant: found
            .map(|f| f.dataset.variant.clone())
            .filter(|variant| !variant.is_empty()),
        points: found.map_or(0, |f| f.dataset.points.positions.len()),
        with_depth: found.map_or(0, |f| f.depths.views),
        views: found.map(|f| Views {
            train: f.dataset.train.len(),
            val: f.dataset.val.len(),
            test: f.dataset.test.len(),
        }),
        images: found.map(|f| &f.images),
        lenses: found.map_or(&[], |f| &f.lenses),
        scene: found.map(|f| Scene {
            method: &f.config.method,
            scale: f.config.scale(),
            offset: f.config.offset(),
            aabb_scale: f.config.aabb_scale(),
            world: f.world,
        }),
        cameras: found.map(|f| f.stand),
        fit: found.map(|f| f.fit),
        memory: found.and_then(|f| f.memory.as_ref()),
        missing: found.map_or_else(Vec::new, |f| {
            let shown = |p: &std::path::PathBuf| p.display().to_string();
            f.dataset.missing.iter().map(shown).collect()
        }),
        problems,
        errors,
        warnings,
        usable: errors == 0,
    })?;
    if errors > 0 {
        let text = format!("{}: training would fail", counted_len(errors, "error"));
        return Err(Error::Failed(text));
    }
    terminal.result(match warnings {
        0 => "no problems: ready to train".to_owned(),
        n => format!("{}: training is possible", counted_len(n, "warning")),
    })
}

fn describe(terminal: &Terminal, found: &Found<'_>) -> Result<()> {
    let line = |what: &str, text: String| terminal.result(format!("  {what:10} {text}"));
    let (dataset, images) = (found.dataset, &found.images);
    terminal.result(format!(
        "{}: {}, {}",
        dataset.name,
        data::described_format(dataset),
        dataset.root.display()
    ))?;
    line(
        "views",
        format!(
            "{} training, {} validation, {} test{}",
            dataset.train.len(),
            dataset.val.len(),
            dataset.test.len(),
            match dataset.missing.len() {
                0 => String::new(),
                n => format!("; {n} missing and left out"),
            }
        ),
    )?;
    let n: usize = images.sizes.iter().map(|s| s.2).sum();
    let mut sizes: Vec<String> = images
        .sizes
        .iter()
        .take(3)
        .map(|(w, h, n)| {
            if images.sizes.len() == 1 {
                format!("{w}×{h}")
            } else {
                format!("{n} of {w}×{h}")
            }
        })
        .collect();
    if images.sizes.len() > 3 {
        sizes.push(format!("{} other sizes", images.sizes.len() - 3));
    }
    line(
        "images",
        format!(
            "{n}, {}{}{}; {} on disk, decoded in {:.1} s",
            sizes.join(", "),
            match images.with_alpha {
                0 => ", opaque".to_owned(),
                a if a == n => ", with alpha".to_owned(),
                a => format!(", {a} with alpha"),
            },
            match images.with_mask {
                0 => String::new(),
                m if m == n => ", with masks".to_owned(),
                m => format!(", {m} with masks"),
            },
            bytes(images.disk_bytes),
            images.decode_seconds,
        ),
    )?;
    for lens in &found.lenses {
        let [a, b] = lens.fov_x;
        let angle = if b - a < 0.1 {
            format!("{a:.1}°")
        } else {
            format!("{a:.1}° to {b:.1}°")
        };
        let of = if found.lenses.len() > 1 {
            format!(" ({} views)", lens.views)
        } else {
            String::new()
        };
        line("lens", format!("{}, {angle} wide{of}", lens.lens))?;
    }
    describe_depth(&line, found)?;
    let scene = &found.config.scene;
    let side = found.world.side();
    line(
        "scene box",
        format!(
            "{} world units per side, centred at {} (scale {}, aabb_scale {})",
            short(side),
            point(found.world.center().to_array(), side),
            scene.scale.unwrap_or_default(),
            scene.aabb_scale.unwrap_or(1),
        ),
    )?;
    // Inverted poses have their own error; their positions are meaningless.
    if !doctor::are_inverted(dataset) {
        describe_cameras(&line, found)?;
    }
    if let Some(memory) = &found.memory {
        line(
            "memory",
            format!("{} to train {}", memory.describe(), found.config.method),
        )?;
    }
    Ok(())
}

/// Print what is known about surfaces: sparse points, and depths of views.
fn describe_depth(line: &dyn Fn(&str, String) -> Result<()>, found: &Found<'_>) -> Result<()> {
    let points = &found.dataset.points;
    let n = points.positions.len();
    if n > 0 {
        let (low, high) = (found.world.low, found.world.high);
        let is_inside = |p: &&[f64; 3]| (0..3).all(|a| (low[a]..=high[a]).contains(&p[a]));
        let inside = points.positions.iter().filter(is_inside).count();
        let error = points.reprojection_error;
        line(
            "points",
            format!(
                "{n} sparse points, {:.0} % in the box{}",
                100.0 * inside as f64 / n as f64,
                error.map_or_else(String::new, |e| format!(", reprojection error {e:.2} px"))
            ),
        )?;
    }
    let DepthSummary { views, range, .. } = found.depths;
    if views == 0 {
        return Ok(());
    }
    let [low, high] = range.map(|v| short(f64::from(v)));
    let views = counted_len(views, "view");
    line(
        "depth",
        format!("known in {views}, most of it {low} to {high} from the camera"),
    )
}

/// Print the distances of the cameras, and how well the scene box fits what they see.
fn describe_cameras(line: &dyn Fn(&str, String) -> Result<()>, found: &Found<'_>) -> Result<()> {
    let stand = &found.stand;
    let [nearest, farthest] = stand.distance;
    let what = stand.focus.map_or_else(
        || "the centre of the box (they have no common focus)".to_owned(),
        |f| format!("their common focus, {}", point(f, farthest)),
    );
    line(
        "cameras",
        format!(
            "{} to {} from {what}; {} of {} inside the box",
            short(nearest),
            short(farthest),
            stand.inside,
            found.dataset.train.len()
        ),
    )?;
    let fit = &found.fit;
    let across = fit.cells_across.map_or_else(String::new, |cells| {
        let cells = if cells < 10.0 {
            short(cells)
        } else {
            format!("{cells:.0}")
        };
        format!("; {cells} occupancy-grid cells across what they look at")
    });
    line(
        "fit",
        format!(
            "{:.0} % of an image's rays meet the box{across}",
            100.0 * fit.rays_inside
        ),
    )
}
