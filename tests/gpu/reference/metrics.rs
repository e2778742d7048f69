//! Image metrics. Images are `[height][width][3]`, values in `[0, 1]`.

/// Side of the SSIM window.
pub const WINDOW: usize = 11;

/// Round to the nearest of the 256 values of an 8-bit image.
pub fn round_to_8_bit(value: f64) -> f64 {
    (value.clamp(0.0, 1.0) * 255.0).round() / 255.0
}

/// Return `-10 log10(mean squared difference)` of the 8-bit-rounded images, in dB; infinite for equal images.
pub fn psnr(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "image sizes");
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (round_to_8_bit(a) - round_to_8_bit(b)).powi(2))
        .sum();
    -10.0 * (sum / a.len() as f64).log10()
}

/// Return the taps of the separable window: a Gaussian with a sigma of 1.5 pixels, normalised to sum 1.
pub fn gaussian_window() -> [f64; WINDOW] {
    let taps: [f64; WINDOW] =
        std::array::from_fn(|i| (-(i as f64 - 5.0).powi(2) / (2.0 * 1.5 * 1.5)).exp());
    let sum: f64 = taps.iter().sum();
    taps.map(|tap| tap / sum)
}

/// Return the structural similarity (Wang et al. 2004): 11 × 11 Gaussian window with sigma 1.5, `K1 = 0.01`, `K2 = 0.03`, data
/// range 1, only windows inside the image, mean over pixels and the three channels.
///
/// Per window `(2 mu_a mu_b + C1)(2 cov + C2) / ((mu_a^2 + mu_b^2 + C1)(var_a + var_b + C2))` with `C = K^2`; variances are
/// weighted by the window and not corrected for bias. Values are used as given: for 8-bit images, round them first.
pub fn ssim(a: &[f64], b: &[f64], width: usize, height: usize) -> f64 {
    assert_eq!(a.len(), width * height * 3, "size of the first image");
    assert_eq!(b.len(), a.len(), "size of the second image");
    assert!(
        width >= WINDOW && height >= WINDOW,
        "smaller than the window"
    );
    let (columns, rows) = (width - WINDOW + 1, height - WINDOW + 1);
    let mut sum = 0.0;
    for y in 0..rows {
        for x in 0..columns {
            for channel in 0..3 {
                sum += ssim_window(a, b, |i, j| ((y + j) * width + x + i) * 3 + channel);
            }
        }
    }
    sum / (columns * rows * 3) as f64
}

/// Return the SSIM of one window, whose pixel `(i, j)` has index `at(i, j)`.
fn ssim_window(a: &[f64], b: &[f64], at: impl Fn(usize, usize) -> usize) -> f64 {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    let taps = gaussian_window();
    let expectation = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        (0..WINDOW * WINDOW)
            .map(|k| {
                let (i, j) = (k % WINDOW, k / WINDOW);
                taps[i] * taps[j] * f(a[at(i, j)], b[at(i, j)])
            })
            .sum()
    };
    let mean_a = expectation(&|a, _| a);
    let mean_b = expectation(&|_, b| b);
    let variance_a = expectation(&|a, _| (a - mean_a).powi(2));
    let variance_b = expectation(&|_, b| (b - mean_b).powi(2));
    let covariance = expectation(&|a, b| (a - mean_a) * (b - mean_b));
    (2.0 * mean_a * mean_b + C1) * (2.0 * covariance + C2)
        / ((mean_a * mean_a + mean_b * mean_b + C1) * (variance_a + variance_b + C2))
}
