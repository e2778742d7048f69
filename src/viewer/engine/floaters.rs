//! Finds floaters: occupied cells of an occupancy grid that are not connected to the largest cluster.

use super::super::protocol::Floaters;

/// Count the clusters of occupied cells, which touch at a face, in the first `side`³ cells of a grid. `bits` holds one bit per
/// cell, x fastest.
pub(super) fn find(bits: &[u8], side: usize) -> Floaters {
    let n = side.pow(3);
    let is_set = |cell: usize| bits[cell / 8] >> (cell % 8) & 1 != 0;
    let mut is_seen = vec![false; n];
    let (mut stack, mut sizes) = (Vec::new(), Vec::new());
    for first in 0..n {
        if is_seen[first] || !is_set(first) {
            continue;
        }
        is_seen[first] = true;
        stack.push(first);
        let mut size = 0_u64;
        while let Some(cell) = stack.pop() {
            size += 1;
            let at = [cell % side, cell / side % side, cell / (side * side)];
            for (axis, step) in [1, side, side * side].into_iter().enumerate() {
                let below = (at[axis] > 0).then(|| cell - step);
                let above = (at[axis] + 1 < side).then(|| cell + step);
                for next in below.into_iter().chain(above) {
                    if !is_seen[next] && is_set(next) {
                        is_seen[next] = true;
                        stack.push(next);
                    }
                }
            }
        }
        sizes.push(size);
    }
    let (total, largest) = (sizes.iter().sum(), sizes.iter().max());
    Floaters {
        count: sizes.len().saturating_sub(1),
        cells: total - largest.unwrap_or(&0),
        total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_apart_from_the_largest_cluster_are_floaters() {
        let side = 8;
        let mut bits = vec![0_u8; side * side * side / 8];
        let mut set = |[x, y, z]: [usize; 3]| {
            let cell = (z * side + y) * side + x;
            bits[cell / 8] |= 1 << (cell % 8);
        };
        // A bar, a pair, and a cell that touches the bar only at a corner.
        (0..6).for_each(|x| set([x, 3, 3]));
        set([0, 7, 0]);
        set([0, 7, 1]);
        set([6, 4, 4]);
        // The next row begins where this one ends, but is not beside it.
        set([7, 0, 7]);
        set([0, 1, 7]);
        let found = find(&bits, side);
        assert_eq!((found.count, found.cells, found.total), (4, 5, 11));
        let none = find(&vec![0; side * side * side / 8], side);
        assert_eq!((none.count, none.cells, none.total), (0, 0, 0));
    }
}
