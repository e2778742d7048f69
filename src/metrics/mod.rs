//! Image quality over 8-bit-rounded sRGB values; see `docs/evaluation.md`.

pub mod lpips;

/// Convert a mean squared error to a peak signal-to-noise ratio in dB, with peak 1.
#[must_use]
pub fn psnr_of_mse(mse: f64) -> f64 {
    // NaN propagates.
    -10.0 * if mse < 1e-10 { 1e-10 } else { mse }.log10()
}

/// Return the PSNR in dB of two RGB images of equal size, values in [0, 1].
#[must_use]
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    psnr_of_mse(squared_error(a, b) / a.len().max(1) as f64)
}

/// Return the sum of squared differences of two images of equal size.
#[must_use]
pub fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(&x, &y)| f64::from(x - y).powi(2));
    squares.sum()
}

/// Side of the SSIM window in pixels.
pub const SSIM_WINDOW: usize = 11;
const SSIM_SIGMA: f64 = 1.5;
const SSIM_C1: f64 = 0.01 * 0.01;
const SSIM_C2: f64 = 0.03 * 0.03;

fn window() -> [f64; SSIM_WINDOW] {
    let mut w: [f64; SSIM_WINDOW] = std::array::from_fn(|i| {
        (-(i as f64 - (SSIM_WINDOW / 2) as f64).powi(2) / (2.0 * SSIM_SIGMA * SSIM_SIGMA)).exp()
    });
    let sum: f64 = w.iter().sum();
    for x in &mut w {
        *x /= sum;
    }
    w
}

/// Apply a separable Gaussian filter, at the positions where the window fits.
fn blur(plane: &[f64], width: usize, height: usize) -> Vec<f64> {
    let w = window();
    let (out_w, out_h) = (width + 1 - SSIM_WINDOW, height + 1 - SSIM_WINDOW);
    let mut rows = vec![0.0; out_w * height];
    for y in 0..height {
        for x in 0..out_w {
            rows[y * out_w + x] = w
                .iter()
                .enumerate()
                .map(|(k, c)| c * plane[y * width + x + k])
                .sum();
        }
    }
    let mut out = vec![0.0; out_w * out_h];
    for y in 0..out_h {
        for x in 0..out_w {
            out[y * out_w + x] = w
                .iter()
                .enumerate()
                .map(|(k, c)| c * rows[(y + k) * out_w + x])
                .sum();
        }
    }
    out
}

/// Return the structural similarity (Wang et al. 2004) of two RGB images: 11×11 Gaussian window of σ 1.5, K1 = 0.01, K2 = 0.03,
/// averaged over channels and the positions where the window fits. `None` if an image is smaller than the window.
#[must_use]
pub fn ssim(a: &[f32], b: &[f32], width: usize, height: usize) -> Option<f64> {
    ssim_where(a, b, width, height, |_| true)
}

/// Return the structural similarity as [`ssim`] does, averaged over the windows around the pixels that `counts`; `None` if there
/// is none. Pixels are numbered row by row.
pub fn ssim_where(
    a: &[f32],
    b: &[f32],
    width: usize,
    height: usize,
    counts: impl Fn(usize) -> bool,
) -> Option<f64> {
    if width < SSIM_WINDOW || height < SSIM_WINDOW {
        return None;
    }
    let columns = width + 1 - SSIM_WINDOW;
    let middle = SSIM_WINDOW / 2;
    let is_counted = |i: usize| counts((i / columns + middle) * width + i % columns + middle);
    let mut total = 0.0;
    let mut count = 0.0;
    for channel in 0..3 {
        let plane = |image: &[f32]| -> Vec<f64> {
            image
                .iter()
                .skip(channel)
                .step_by(3)
                .map(|&v| f64::from(v))
                .collect()
        };
        let (x, y) = (plane(a), plane(b));
        let product =
            |p: &[f64], q: &[f64]| -> Vec<f64> { p.iter().zip(q).map(|(u, v)| u * v).collect() };
        let (mx, my) = (blur(&x, width, height), blur(&y, width, height));
        let xx = blur(&product(&x, &x), width, height);
        let yy = blur(&product(&y, &y), width, height);
        let xy = blur(&product(&x, &y), width, height);
        for i in (0..mx.len()).filter(|i| is_counted(*i)) {
            let (u, v) = (mx[i], my[i]);
            let covariance = xy[i] - u * v;
            let variances = (xx[i] - u * u) + (yy[i] - v * v);
            total += ((2.0 * u * v + SSIM_C1) * (2.0 * covariance + SSIM_C2))
                / ((u * u + v * v + SSIM_C1) * (variances + SSIM_C2));
            count += 1.0;
        }
    }
    (count > 0.0).then(|| total / count)
}

/// Round to the nearest of 256 levels, after clamping to [0, 1].
#[must_use]
pub fn round_to_8_bit(value: f32) -> f32 {
    (value.clamp(0.0, 1.0) * 255.0).round() / 255.0
}
