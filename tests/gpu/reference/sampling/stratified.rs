//! Stratified sampling (Mildenhall et al. 2020, equation 2) on evenly spaced points with bins between their midpoints.

/// Default interval of the last sample, which represents everything behind it.
pub const LAST_DT: f64 = 1e10;

/// Return the `n` samples of one ray as positions `t` and intervals `dt`, in units of the ray's parameter.
///
/// Points `p_i` are evenly spaced from `near` to `far`, both included. Without jitter, `t = p`. With `jitter` (n uniform
/// numbers in `[0, 1)`), `t_i` lies in its bin: `lower_i + (upper_i - lower_i) jitter_i`, where the bounds are the midpoints
/// to the neighbours, and `near` or `far` at the ends. `dt_i = t_{i+1} - t_i`; the last one is `last`.
pub fn stratified(
    near: f64,
    far: f64,
    n: usize,
    jitter: Option<&[f64]>,
    last: f64,
) -> (Vec<f64>, Vec<f64>) {
    let point = |i: usize| near + (far - near) * i as f64 / (n.max(2) - 1) as f64;
    let middle = |i: usize| 0.5 * (point(i) + point(i + 1));
    let t: Vec<f64> = (0..n)
        .map(|i| match jitter {
            None => point(i),
            Some(jitter) => {
                let lower = if i == 0 { point(0) } else { middle(i - 1) };
                let upper = if i + 1 == n { point(i) } else { middle(i) };
                lower + (upper - lower) * jitter[i]
            }
        })
        .collect();
    let dt = (0..n)
        .map(|i| t.get(i + 1).map_or(last, |next| next - t[i]))
        .collect();
    (t, dt)
}
