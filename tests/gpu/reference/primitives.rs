//! Sequential versions of the data-parallel primitives.

/// Return `out[i] = sum of values before i` (wrapping), and the total.
pub fn exclusive_scan(values: &[u32]) -> (Vec<u32>, u32) {
    let mut total = 0_u32;
    let scanned = values
        .iter()
        .map(|&value| {
            let before = total;
            total = total.wrapping_add(value);
            before
        })
        .collect();
    (scanned, total)
}

/// Sort stably by key. Return `(order, offsets)`.
///
/// `order[n]` lists item indices bin by bin, ascending within a bin; bin k is `offsets[k]..offsets[k + 1]`
/// (`n_bins + 1` offsets). Keys must be below `n_bins`.
pub fn bin(keys: &[u32], n_bins: u32) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_by_key(|&i| keys[i as usize]);
    let mut counts = vec![0; n_bins as usize + 1];
    for &key in keys {
        counts[key as usize] += 1;
    }
    (order, exclusive_scan(&counts).0)
}
