//! Evaluation of a field against images.

use serde::Serialize;

use crate::camera::Camera;
use crate::config::ResolvedConfig;
use crate::dataset::{DatasetError, DepthSource, Frame, Image};
use crate::gpu::GpuError;
use crate::metrics::lpips::{Lpips, LpipsError};
use crate::metrics::{psnr_of_mse, squared_error, ssim_where};
use crate::render::{self, Renderer};
use crate::text::counted_len;

/// Metrics of one view.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct ViewQuality {
    /// Name of the frame.
    pub name: String,
    /// PSNR in dB over 8-bit-rounded sRGB values.
    pub psnr: f64,
    /// Structural similarity; absent for images below 11 pixels a side.
    pub ssim: Option<f64>,
    /// Learned perceptual distance (LPIPS); absent without weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// Share of the view's pixels that its mask hides; they are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_share: Option<f64>,
    /// Error of the depth, if an image of depths belongs to the view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthQuality>,
}

/// Errors of rendered depths, as distances along rays; a ray that meets nothing has depth 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, serde::Deserialize)]
pub struct DepthQuality {
    /// Mean of |d − d*| / d* over the pixels whose depth d* is known.
    pub abs_rel: f64,
    /// Root of the mean of (d − d*)², in world units.
    pub rmse: f64,
}

/// Metrics over a split; the last object that `eval --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct EvalReport {
    /// Version of the schema of this object.
    pub schema: u32,
    /// Name of the method.
    pub method: String,
    /// `train`, `val` or `test`.
    pub split: String,
    /// Background that images and renderings are composited over.
    pub background: String,
    /// Colour space the values are compared in.
    pub color_space: String,
    /// Mean PSNR over views in dB.
    pub psnr: f64,
    /// Mean SSIM over views.
    pub ssim: Option<f64>,
    /// Mean LPIPS over views.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// `alex` or `vgg`: distances of the two networks are not comparable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips_network: Option<String>,
    /// Number of views.
    pub views: usize,
    /// Number of views in the split, if not all of them were evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_views: Option<usize>,
    /// Share of each view's pixels that were compared, in tiles at full resolution; absent if it is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_share: Option<f64>,
    /// Mean share of the pixels that masks hide; absent if there are no masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_share: Option<f64>,
    /// Errors of the depth, means over the views that have an image of depths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthQuality>,
    /// Metrics of every view.
    pub images: Vec<ViewQuality>,
    /// Path of the dataset.
    #[serde(default)]
    pub dataset: String,
    /// Factor by which the images were downscaled before the comparison.
    #[serde(default = "one")]
    pub downscale: u32,
    /// Number of training steps.
    pub steps: u32,
    /// For a meta-learned initialisation: number of adaptation steps on one view of each object before its evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted_for: Option<u32>,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Rays rendered per second.
    pub rays_per_second: f64,
    /// The device that rendered the views.
    pub device: String,
}

impl EvalReport {
    /// Describe how many views, and how many of their pixels, were compared: `8 of 25 views, 1/4 of their pixels`.
    #[must_use]
    pub fn extent(&self) -> String {
        let views = match self.of_views {
            Some(all) => format!("{} of {}", self.views, counted_len(all, "view")),
            None => counted_len(self.views, "view"),
        };
        let views = match self.pixel_share {
            Some(share) => format!("{views}, 1/{:.0} of their pixels", 1.0 / share),
            None => views,
        };
        match self.hidden_share {
            Some(share) => format!(
                "{views}, without the {:.1} % that masks hide",
                100.0 * share
            ),
            None => views,
        }
    }
}

fn one() -> u32 {
    1
}

/// Composite `image` over the background of `config`, as for training targets; returns sRGB values in [0, 1].
#[must_use]
pub fn over_background(image: &Image, config: &ResolvedConfig) -> Vec<f32> {
    let scene = &config.scene;
    over(image, scene.linear, scene.eval_background.color())
}

/// Same as [`over_background`], as 8-bit values.
#[must_use]
pub fn bytes_over_background(image: &Image, config: &ResolvedConfig) -> Vec<u8> {
    let values = over_background(image, config).into_iter();
    values.map(|v| (v * 255.0).round() as u8).collect()
}

/// Composite `image` over `background`, in `linear` light or in sRGB; returns sRGB values in [0, 1].
#[must_use]
pub fn over(image: &Image, linear: bool, background: [f32; 3]) -> Vec<f32> {
    let mut frame = render::RenderedFrame::new(image.width, image.height, linear);
    frame.set_rgba8(&image.pixels);
    frame.rgb(background)
}

/// Render and evaluate one view. `keep_going` is called between submissions with the number of rays done; if it returns
/// false, the result is `None`.
pub fn evaluate_view(
    renderer: &mut Renderer,
    frame: &Frame,
    image: &Image,
    downscale: u32,
    keep_going: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<(ViewQuality, render::RenderedFrame)>, GpuError> {
    let camera = frame.camera.downscaled(downscale);
    let rendered = renderer.render_while(&camera, frame.near_far, false, 1, keep_going)?;
    Ok(rendered.map(|rendered| {
        let quality = compare(renderer.config(), &frame.name, image, &rendered);
        (quality, rendered)
    }))
}

/// Compare `rendered` with `image`, over the background of `config`.
#[must_use]
pub fn compare(
    config: &ResolvedConfig,
    name: &str,
    image: &Image,
    rendered: &render::RenderedFrame,
) -> ViewQuality {
    compare_parts(config, name, [(image, rendered)])
}

/// Compare parts of a view, each an image and its rendering, over the background of `config`: PSNR over all their pixels, SSIM
/// as the mean over parts, which must be of one size.
#[must_use]
pub fn compare_parts<'a>(
    config: &ResolvedConfig,
    name: &str,
    parts: impl IntoIterator<Item = (&'a Image, &'a render::RenderedFrame)>,
) -> ViewQuality {
    let (mut error, mut used, mut all, mut ssims) = (0.0, 0, 0, Vec::new());
    for (image, rendered) in parts {
        let theirs = over_background(image, config);
        let ours = rendered.rgb(config.scene.eval_background.color());
        let [a, b] = where_used(image, [ours, theirs]);
        let mask = image.mask.as_ref();
        let counts = |pixel| mask.is_none_or(|mask| mask.is_used(pixel));
        let [width, height] = [image.width, image.height].map(|side| side as usize);
        ssims.extend(ssim_where(&a, &b, width, height, counts));
        error += squared_error(&a, &b);
        all += width * height;
        used += mask.map_or(width * height, |mask| mask.n_used() as usize);
    }
    let n = ssims.len() as f64;
    ViewQuality {
        name: name.to_owned(),
        psnr: psnr_of_mse(error / (3 * used.max(1)) as f64),
        ssim: (!ssims.is_empty()).then(|| ssims.iter().sum::<f64>() / n),
        lpips: None,
        hidden_share: (used < all).then(|| 1.0 - used as f64 / all as f64),
        depth: None,
    }
}

/// Compares the rendered depths of a view, in parts, with known ones.
#[derive(Debug)]
pub struct DepthComparison {
    /// Known distance of each pixel of the view, in world units; 0 if unknown.
    known: Vec<f32>,
    width: usize,
    relative: f64,
    squared: f64,
    n: usize,
}

impl DepthComparison {
    /// Read the image of depths of `frame`, for the view `camera`, which has the same shape; `None` if there is none.
    ///
    /// # Errors
    /// A [`DatasetError`] if the image of depths cannot be read.
    pub fn of(frame: &Frame, camera: &Camera) -> Result<Option<Self>, DatasetError> {
        if !matches!(frame.depth, Some(DepthSource::File { .. })) {
            return Ok(None);
        }
        let (full, size) = (frame.camera, [camera.width, camera.height]);
        let full = [full.width, full.height];
        let mut known = vec![0.0; size[0] as usize * size[1] as usize];
        for depth in frame.read_depths()? {
            known[depth.pixel(full, size) as usize] = depth.distance;
        }
        Ok(Some(Self {
            known,
            width: size[0] as usize,
            relative: 0.0,
            squared: 0.0,
            n: 0,
        }))
    }

    /// Compare the part of the view from pixel `at` on; pixels that the mask of `image` hides do not count.
    pub fn add(&mut self, at: [u32; 2], image: &Image, rendered: &render::RenderedFrame) {
        let part = rendered.width as usize;
        for (i, distance) in rendered.distances().into_iter().enumerate() {
            let (x, y) = (at[0] as usize + i % part, at[1] as usize + i / part);
            let known = f64::from(self.known[y * self.width + x]);
            let is_used = image.mask.as_ref().is_none_or(|mask| mask.is_used(i));
            if known > 0.0 && is_used {
                let error = f64::from(distance) - known;
                self.relative += error.abs() / known;
                self.squared += error * error;
                self.n += 1;
            }
        }
    }

    /// Return the errors over all pixels; `None` if the depth of none is known.
    #[must_use]
    pub fn quality(&self) -> Option<DepthQuality> {
        let n = self.n as f64;
        (self.n > 0).then(|| DepthQuality {
            abs_rel: self.relative / n,
            rmse: (self.squared / n).sqrt(),
        })
    }
}

fn mean_depth(views: &[ViewQuality]) -> Option<DepthQuality> {
    let known: Vec<DepthQuality> = views.iter().filter_map(|view| view.depth).collect();
    let mean =
        |of: fn(&DepthQuality) -> f64| known.iter().map(of).sum::<f64>() / known.len() as f64;
    (!known.is_empty()).then(|| DepthQuality {
        abs_rel: mean(|depth| depth.abs_rel),
        rmse: mean(|depth| depth.rmse),
    })
}

/// Return RGB values of the view of `image` with grey in place of the pixels that the image's mask hides.
fn where_used(image: &Image, mut values: [Vec<f32>; 2]) -> [Vec<f32>; 2] {
    if let Some(mask) = &image.mask {
        for rgb in &mut values {
            mask.blank(rgb);
        }
    }
    values
}

/// Return the PSNR in dB of RGB values of a view against those of `image`, over the pixels that its mask does not hide.
#[must_use]
pub fn psnr_where_used(image: &Image, ours: Vec<f32>, theirs: Vec<f32>) -> f64 {
    let [ours, theirs] = where_used(image, [ours, theirs]);
    let used = image.mask.as_ref();
    let used = used.map_or(theirs.len(), |mask| 3 * mask.n_used() as usize);
    psnr_of_mse(squared_error(&ours, &theirs) / used.max(1) as f64)
}

/// Learned perceptual distance between `rendered` and `image`, over the same values as in [`compare`].
///
/// # Errors
/// [`LpipsError::TooSmall`].
pub fn perceptual_distance(
    lpips: &Lpips,
    config: &ResolvedConfig,
    image: &Image,
    rendered: &render::RenderedFrame,
) -> Result<f64, LpipsError> {
    let theirs = over_background(image, config);
    let ours = rendered.rgb(config.scene.eval_background.color());
    let [ours, theirs] = where_used(image, [ours, theirs]);
    lpips.distance(&ours, &theirs, image.width as usize, image.height as usize)
}

/// Properties of an evaluation for its report.
#[derive(Debug, Clone)]
pub struct Context {
    /// The split's name.
    pub split: String,
    /// Path of the dataset.
    pub dataset: String,
    /// Factor by which the images were downscaled.
    pub downscale: u32,
    /// Number of training steps.
    pub steps: u32,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Rays rendered per second.
    pub rays_per_second: f64,
    /// The device that rendered the views.
    pub device: String,
    /// Network of the learned distances.
    pub lpips_network: Option<String>,
    /// Number of views in the split.
    pub of_views: usize,
    /// Share of each view's pixels that were compared.
    pub pixel_share: f64,
}

/// Assemble a report. Means over an empty list are 0.
#[must_use]
pub fn report(config: &ResolvedConfig, context: Context, images: Vec<ViewQuality>) -> EvalReport {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let psnrs: Vec<f64> = images.iter().map(|i| i.psnr).collect();
    let ssims: Vec<f64> = images.iter().filter_map(|i| i.ssim).collect();
    let distances: Vec<f64> = images.iter().filter_map(|i| i.lpips).collect();
    let hidden: Vec<f64> = images
        .iter()
        .map(|i| i.hidden_share.unwrap_or(0.0))
        .collect();
    let has_masks = images.iter().any(|i| i.hidden_share.is_some());
    EvalReport {
        schema: 1,
        method: config.method.clone(),
        split: context.split,
        background: config.scene.eval_background.to_string(),
        color_space: "sRGB".to_owned(),
        psnr: mean(&psnrs),
        ssim: (!ssims.is_empty()).then(|| mean(&ssims)),
        lpips: (!distances.is_empty()).then(|| mean(&distances)),
        lpips_network: context.lpips_network,
        views: images.len(),
        of_views: (context.of_views > images.len()).then_some(context.of_views),
        pixel_share: (context.pixel_share < 1.0).then_some(context.pixel_share),
        hidden_share: has_masks.then(|| mean(&hidden)),
        depth: mean_depth(&images),
        images,
        dataset: context.dataset,
        downscale: context.downscale,
        steps: context.steps,
        adapted_for: None,
        train_seconds: context.train_seconds,
        rays_per_second: context.rays_per_second,
        device: context.device,
    }
}
