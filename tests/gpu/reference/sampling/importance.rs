//! Importance sampling (Mildenhall et al. 2020, section 5.2): inverse transform sampling of the piecewise-constant distribution
//! that the weights of the samples define on the intervals between their midpoints.

use super::stratified::LAST_DT;

/// Added to every weight, so that no interval has zero probability.
pub const WEIGHT_EPSILON: f64 = 1e-5;

/// Draw positions from the intervals around samples `1 … len - 2` of `t`, one for each of `u` (in `[0, 1]`, same order), by
/// inverse transform sampling: normalise, accumulate, search, interpolate. With fewer than three samples, draw evenly between
/// the first and the last.
pub fn invert(t: &[f64], weights: &[f64], u: &[f64]) -> Vec<f64> {
    let n = t.len();
    let (edges, weights): (Vec<f64>, Vec<f64>) = if n > 2 {
        let middles = t.windows(2).map(|pair| 0.5 * (pair[0] + pair[1]));
        let weights = weights[1..n - 1].iter().map(|w| w + WEIGHT_EPSILON);
        (middles.collect(), weights.collect())
    } else {
        (vec![t[0], t[n - 1]], vec![1.0])
    };
    let total: f64 = weights.iter().sum();
    let mut cumulative = vec![0.0];
    for w in &weights {
        cumulative.push(cumulative[cumulative.len() - 1] + w / total);
    }
    u.iter()
        .map(|&u| {
            let above = cumulative.partition_point(|&c| c <= u).min(weights.len());
            let below = above.max(1) - 1;
            let share = cumulative[below + 1] - cumulative[below];
            let within = (u - cumulative[below]) / if share < WEIGHT_EPSILON { 1.0 } else { share };
            edges[below] + within.clamp(0.0, 1.0) * (edges[below + 1] - edges[below])
        })
        .collect()
}

/// Merge `t` and `more` in order. Return them, and the distance from each to the next.
pub fn merge(t: &[f64], more: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut all = [t, more].concat();
    all.sort_by(f64::total_cmp);
    let dt = (0..all.len())
        .map(|i| all.get(i + 1).map_or(LAST_DT, |next| next - all[i]))
        .collect();
    (all, dt)
}
