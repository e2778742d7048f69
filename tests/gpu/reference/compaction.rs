//! Sample compaction: a ray keeps its samples up to and including the first one behind which its transmittance is below a
//! minimum.

/// Return the number of samples that a ray keeps, given the optical thickness of each, front to back.
pub fn n_kept(thicknesses: &[f64], min_transmittance: f64) -> usize {
    let mut transmittance = 1.0;
    let before = |thickness: &&f64| {
        let goes_on = transmittance >= min_transmittance;
        transmittance *= (-**thickness).exp();
        goes_on
    };
    thicknesses.iter().take_while(before).count()
}

/// Return the first `kept[r]` of the values of each ray `r`, which start at `starts[r]`, ray by ray.
pub fn gather<T: Copy>(values: &[T], starts: &[u32], kept: &[u32]) -> Vec<T> {
    let of_ray = |(&start, &n): (&u32, &u32)| &values[start as usize..(start + n) as usize];
    starts
        .iter()
        .zip(kept)
        .map(of_ray)
        .collect::<Vec<_>>()
        .concat()
}
