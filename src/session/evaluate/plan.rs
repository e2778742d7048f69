//! Which views, and which of their pixels, are evaluated where rendering them all would take too long.
//!
//! On a software adapter a view may take minutes. Where the user did not choose the views, fewer are evaluated, and then only a
//! fixed subset of their pixels, at full resolution: shrunk images have other, mostly higher, PSNRs. The subset is a grid of
//! square tiles, each at a pseudo-random place in its cell, so that SSIM has whole windows.

use std::time::Instant;

use crate::camera::Camera;
use crate::dataset::Frame;
use crate::gpu::AdapterClass;
use crate::render::Renderer;
use crate::report::duration;
use crate::session::{Error, Observer, ObserverExt as _, Result};
use crate::text::counted_len;

/// Share of the training time that an evaluation may take.
const TIME_SHARE: f64 = 0.25;
/// Seconds that any evaluation may take.
const MIN_SECONDS: f64 = 10.0;
/// Numbers of views to reduce to before pixels are left out.
const FEWER_VIEWS: [usize; 2] = [16, 8];
/// Numbers of views to reduce to if a single tile of each takes too long.
const FEWEST_VIEWS: [usize; 3] = [4, 2, 1];
/// Side of a tile in pixels.
const TILE: u32 = 32;
/// Evaluations that take fewer seconds are not estimated.
const SHORT_SECONDS: f64 = 10.0;
/// The speed is measured over at least this many seconds, or this many rays.
const PROBE_SECONDS: f64 = 0.5;
const PROBE_RAYS: u32 = 128 * 128;

/// The views to evaluate, and the share of their pixels.
#[derive(Debug, Clone)]
pub(crate) struct EvaluationPlan {
    pub(crate) frames: Vec<Frame>,
    /// Share of each view's pixels, about; 1 for whole views.
    pub(crate) pixel_share: f64,
    /// Whether the user chose the views.
    is_chosen: bool,
    /// Estimated seconds, on a software adapter.
    seconds: Option<f64>,
}

/// A rectangle of a view, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Left and upper edge.
    pub(crate) at: [u32; 2],
    /// Width and height.
    pub(crate) size: [u32; 2],
}

/// Rows of tiles, each of as many tiles, which together are a picture.
pub(crate) type TileRows = Vec<Vec<Tile>>;

/// Return the tiles that hold about `share` of the pixels of a view of `size`: one that covers it for a share of 1.
pub(crate) fn tiles(size: [u32; 2], share: f64, seed: u32) -> TileRows {
    let whole = vec![vec![Tile { at: [0; 2], size }]];
    let [width, height] = size.map(f64::from);
    let n = share * width * height / f64::from(TILE * TILE);
    if share >= 1.0 {
        return whole;
    }
    let columns = ((n * width / height).sqrt().round() as u32).max(1);
    let rows = ((n / f64::from(columns)).round() as u32).max(1);
    let cell = [size[0] / columns, size[1] / rows];
    if cell.iter().any(|side| *side < TILE) {
        return whole;
    }
    let place = |index: [u32; 2], axis: usize| {
        let room = cell[axis] - TILE + 1;
        index[axis] * cell[axis] + hash([seed, index[0], index[1], axis as u32]) % room
    };
    let tile = |index: [u32; 2]| Tile {
        at: [place(index, 0), place(index, 1)],
        size: [TILE; 2],
    };
    (0..rows)
        .map(|y| (0..columns).map(|x| tile([x, y])).collect())
        .collect()
}

/// Return the number of pixels of all tiles.
pub(crate) fn n_pixels(rows: &TileRows) -> u64 {
    let sizes = rows.iter().flatten().map(|tile| tile.size.map(u64::from));
    sizes.map(|[width, height]| width * height).sum()
}

/// Hash words to a pseudo-random number (FNV-1a, then a final mix).
fn hash(words: [u32; 4]) -> u32 {
    let bytes = words.into_iter().flat_map(u32::to_le_bytes);
    let mut hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x7feb_352d);
    hash ^ (hash >> 15)
}

/// Return every `frames.len() / n`-th frame.
fn spread(frames: &[Frame], n: usize) -> Vec<Frame> {
    (0..n)
        .map(|i| frames[i * frames.len() / n].clone())
        .collect()
}

/// What limits an evaluation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Nothing: the user chose the views.
    None,
    /// A share of this many seconds of training, on a software adapter.
    Training(f64),
    /// The same, but views are whole.
    TrainingWhole(f64),
}

impl EvaluationPlan {
    /// Plan the evaluation of `frames`, at 1/`downscale` of their size: of as many views and pixels as `limit` allows. On a
    /// software adapter a few rays are rendered to measure the speed. Tell what is evaluated of the `all` views of the split.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer cancels, [`Error::Gpu`] if the device fails.
    pub(crate) fn new(
        observer: &dyn Observer,
        renderer: &mut Renderer,
        (frames, downscale): (&[Frame], u32),
        limit: Limit,
        all: usize,
    ) -> Result<Self> {
        let mut plan = Self {
            frames: frames.to_vec(),
            pixel_share: 1.0,
            is_chosen: matches!(limit, Limit::None),
            seconds: None,
        };
        if renderer.gpu().class() != AdapterClass::Software || frames.is_empty() {
            plan.announce(observer, all);
            return Ok(plan);
        }
        let rate = measure(observer, renderer, &frames[frames.len() / 2], downscale)?;
        let allowed = |train_seconds: f64| rate * MIN_SECONDS.max(TIME_SHARE * train_seconds);
        plan = match limit {
            Limit::None => plan,
            Limit::Training(seconds) => choose(frames, downscale, allowed(seconds), true),
            Limit::TrainingWhole(seconds) => choose(frames, downscale, allowed(seconds), false),
        };
        plan.seconds = Some(plan.rays(downscale) / rate);
        plan.announce(observer, all);
        Ok(plan)
    }

    /// Number of rays, with images at 1/`downscale` of their size.
    fn rays(&self, downscale: u32) -> f64 {
        let cameras = self.frames.iter().map(|f| f.camera.downscaled(downscale));
        let pixels = |camera: Camera| {
            n_pixels(&tiles([camera.width, camera.height], self.pixel_share, 0)) as f64
        };
        cameras.map(pixels).sum()
    }

    /// Tell how much of a split of `all` views is evaluated, and the time that it takes, if that is not short.
    fn announce(&self, observer: &dyn Observer, all: usize) {
        let n = self.frames.len();
        let views = if n < all {
            format!("{n} of {}", counted_len(all, "view"))
        } else {
            counted_len(n, "view")
        };
        let pixels = if self.pixel_share < 1.0 {
            format!(", about 1/{:.0} of their pixels", 1.0 / self.pixel_share)
        } else {
            String::new()
        };
        let time = self
            .seconds
            .filter(|seconds| *seconds > SHORT_SECONDS)
            .map(|seconds| format!(", in about {}", duration(seconds)))
            .unwrap_or_default();
        let is_part = n < all || self.pixel_share < 1.0;
        let more = if is_part && !self.is_chosen {
            " (--eval-views chooses whole views)"
        } else {
            ""
        };
        let text = format!("evaluating {views}{pixels}{time}{more}");
        if time.is_empty() && more.is_empty() {
            observer.task_note(text);
        } else {
            observer.note(text);
        }
    }
}

/// Choose the plan with the most pixels that renders at most `rays` rays.
fn choose(frames: &[Frame], downscale: u32, rays: f64, allows_tiles: bool) -> EvaluationPlan {
    let of = |n: usize, pixel_share: f64| EvaluationPlan {
        frames: spread(frames, n.min(frames.len())),
        pixel_share,
        is_chosen: false,
        seconds: None,
    };
    let n = frames.len();
    let few = FEWER_VIEWS[1].min(n);
    let mut plans = vec![of(n, 1.0)];
    plans.extend(
        FEWER_VIEWS
            .into_iter()
            .filter(|v| *v < n)
            .map(|v| of(v, 1.0)),
    );
    if allows_tiles {
        plans.extend((1..16).map(|k| of(few, 0.5_f64.powi(k))));
    }
    let share = if allows_tiles { 0.5_f64.powi(15) } else { 1.0 };
    plans.extend(
        FEWEST_VIEWS
            .into_iter()
            .filter(|v| *v < few)
            .map(|v| of(v, share)),
    );
    let fits = plans.iter().position(|plan| plan.rays(downscale) <= rays);
    plans.swap_remove(fits.unwrap_or(plans.len() - 1))
}

/// Return the rays per second of rendering parts of `frame`.
fn measure(
    observer: &dyn Observer,
    renderer: &mut Renderer,
    frame: &Frame,
    downscale: u32,
) -> Result<f64> {
    let camera = frame.camera.downscaled(downscale);
    let mut render = |side: u32| -> Result<(f64, f64)> {
        let size = [camera.width, camera.height].map(|n| n.min(side));
        let at = [(camera.width - size[0]) / 2, (camera.height - size[1]) / 2];
        let part = camera.cropped(at, size);
        let started = Instant::now();
        let mut keep_going = |_| observer.keep_going();
        renderer
            .render_while(&part, frame.near_far, false, 1, &mut keep_going)?
            .ok_or_else(|| Error::Cancelled(" before the evaluation".to_owned()))?;
        Ok((
            f64::from(size[0] * size[1]),
            started.elapsed().as_secs_f64(),
        ))
    };
    let mut side = 8;
    // The first rendering compiles the shaders.
    render(side)?;
    loop {
        let (rays, seconds) = render(side)?;
        let is_all = side >= camera.width.max(camera.height);
        if seconds >= PROBE_SECONDS || side * side >= PROBE_RAYS || is_all {
            return Ok(rays / seconds.max(1e-9));
        }
        side *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(n: usize, [width, height]: [u32; 2]) -> Vec<Frame> {
        let camera = Camera::look_at([3.0; 3], [0.0; 3], [0.0, 0.0, 1.0], 0.8, width, height);
        let frame = |i: usize| Frame {
            name: format!("view {i}"),
            image_path: std::path::PathBuf::new(),
            orientation: crate::dataset::Orientation::NoTransforms,
            camera,
            near_far: None,
            mask: None,
            depth: None,
        };
        (0..n).map(frame).collect()
    }

    #[test]
    fn tiles_hold_their_share_of_the_pixels_and_do_not_overlap() {
        for (size, share) in [
            ([1080, 1920], 1.0 / 32.0),
            ([800, 800], 0.25),
            ([1920, 1080], 1e-9),
        ] {
            let rows = tiles(size, share, 7);
            let all: Vec<Tile> = rows.iter().flatten().copied().collect();
            let wanted = (share * f64::from(size[0] * size[1])).max(1024.0);
            let pixels = f64::from(TILE * TILE) * all.len() as f64;
            assert!((0.7..1.4).contains(&(pixels / wanted)), "{size:?} {share}");
            for (i, a) in all.iter().enumerate() {
                assert!((0..2).all(|k| a.at[k] + a.size[k] <= size[k]));
                let apart = |b: &Tile| (0..2).any(|k| a.at[k].abs_diff(b.at[k]) >= TILE);
                assert!(all[i + 1..].iter().all(apart));
            }
            assert_eq!(tiles(size, share, 7), rows);
            assert_ne!(tiles(size, share, 8), rows);
        }
        let whole = vec![vec![Tile {
            at: [0, 0],
            size: [40, 30],
        }]];
        assert_eq!(tiles([40, 30], 1.0, 0), whole);
        assert_eq!(tiles([40, 30], 0.5, 0), whole);
    }

    #[test]
    fn views_are_left_out_before_pixels() {
        let frames = frames(25, [800, 800]);
        let chosen = |rays: f64, allows_tiles| {
            let plan = choose(&frames, 1, rays, allows_tiles);
            (plan.frames.len(), plan.pixel_share)
        };
        let view = 640_000.0;
        assert_eq!(chosen(25.0 * view, true), (25, 1.0));
        assert_eq!(chosen(24.0 * view, true), (16, 1.0));
        assert_eq!(chosen(9.0 * view, true), (8, 1.0));
        assert_eq!(chosen(4.5 * view, true), (8, 0.5));
        assert_eq!(chosen(0.3 * view, true), (8, 1.0 / 32.0));
        assert_eq!(chosen(4.5 * view, false), (4, 1.0));
        assert_eq!(chosen(10.0, false), (1, 1.0));
        assert_eq!(chosen(3000.0, true).0, 2);
        assert_eq!(chosen(10.0, true).0, 1);
        let names: Vec<String> = choose(&frames, 1, 9.0 * view, true)
            .frames
            .iter()
            .map(|f| f.name.clone())
            .collect();
        assert_eq!(names[..3], ["view 0", "view 3", "view 6"]);
    }
}
