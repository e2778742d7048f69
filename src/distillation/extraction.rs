//! Occupancy extraction from a teacher: the student's occupancy grid, and the cells that get networks.

use std::time::Duration;

use super::{DistillationError, Teacher};
use crate::aabb::Aabb;
use crate::config::{Cells, Occupancy, ResolvedConfig};
use crate::field::Field;
use crate::gpu::{Gpu, Stage, Submitter};
use crate::images::ImageSet;
use crate::network::{CellGrid, GridTooLarge, binned};
use crate::occupancy::OccupancyGrid;

/// Occupied cells of a teacher, and the grid of networks that covers them.
#[derive(Debug, Clone)]
pub struct Extraction {
    /// Optical thickness of each cell of the occupancy grid.
    pub thickness: Vec<f32>,
    /// Occupancy bits of the occupancy grid.
    pub bits: Vec<u32>,
    /// The grid of networks, over the bounding box of the occupied cells.
    pub cells: Cells,
    /// Index of the network of each cell, in the order (z, y, x).
    pub map: Vec<u32>,
}

/// Evaluate `teacher`'s density at `config.distillation.supersampling` points in every cell of the occupancy grid of `config`;
/// cells that no camera of `images` sees are empty. The grid of networks has at most `max_networks` networks, if given.
/// `keep_going` is called with the completed fraction; the extraction stops if it returns false. Blocks.
pub fn extract(
    gpu: &Gpu,
    config: &ResolvedConfig,
    teacher: &Teacher,
    images: &ImageSet,
    max_networks: Option<u32>,
    keep_going: &mut dyn FnMut(f64) -> bool,
) -> Result<Extraction, DistillationError> {
    let (Some(occupancy), Some(distillation)) = (&config.occupancy, &config.distillation) else {
        return Err(DistillationError::NotADistillation);
    };
    let occupancy = Occupancy {
        decay: 1.0,
        threshold: distillation.threshold,
        ..occupancy.clone()
    };
    let grid = OccupancyGrid::new(gpu, config, &occupancy, &teacher.field)?.with_fixed_threshold();
    grid.reset(gpu, config.seed);
    let mut submitter = Submitter::new(Duration::from_millis(50));
    let unseen = grid.mark_unseen(gpu, &teacher.field, images)?;
    submitter.run(gpu, &unseen.iter().collect::<Vec<_>>())?;
    let update = grid.update(gpu, &teacher.field, &teacher.parameters)?;
    let update: Vec<&Stage> = update.iter().collect();
    // Half of the cells that an update visits are new.
    let per_update = u64::from(grid.cells_per_update() / 2);
    let visits = u64::from(grid.n_cells()) * u64::from(distillation.supersampling);
    let n = visits.div_ceil(per_update);
    for i in 0..n {
        submitter.run(gpu, &update)?;
        if !keep_going((i + 1) as f64 / n as f64) {
            return Err(DistillationError::Stopped);
        }
    }
    let cells = grid.n_cells() as usize;
    let mut bits: Vec<u32> = gpu.read(&grid.bits, 0, cells / 32)?;
    let thickness: Vec<f32> = gpu.read(&grid.thickness, 0, cells)?;
    let voxels: Vec<Aabb<f32>> = occupied(&bits)
        .map(|cell| voxel(cell, grid.resolution as usize, grid.cascades))
        .collect();
    if voxels.is_empty() {
        return Err(DistillationError::Empty {
            threshold: occupancy.threshold,
        });
    }
    let field = &config.passes[0].field;
    let room = NetworkBudget {
        wanted: max_networks,
        bytes: u64::from(Field::len_of_networks(field)) * 4,
        limit: gpu.max_binding_bytes(),
    };
    let (cells, map) = fit_grid(&voxels, &field.cells.clone().unwrap_or_default(), room)?;
    // Neither rays nor distillation points need cells without a network.
    for index in occupied(&bits.clone()) {
        let voxel = voxel(index, grid.resolution as usize, grid.cascades);
        if !voxel.overlaps(&cells.bounds()) {
            bits[index / 32] &= !(1 << (index % 32));
        }
    }
    Ok(Extraction {
        thickness,
        bits,
        cells,
        map,
    })
}

/// Return the cells of an occupancy grid whose bits are set.
pub(super) fn occupied(bits: &[u32]) -> impl Iterator<Item = usize> + '_ {
    (0..32 * bits.len()).filter(|cell| bits[cell / 32] >> (cell % 32) & 1 == 1)
}

/// Return the bounds of cell `index` of an occupancy grid, in the scene's box.
pub(super) fn voxel(index: usize, side: usize, cascades: u32) -> Aabb<f32> {
    let per_cascade = side.pow(3);
    let (cascade, within) = (index / per_cascade, index % per_cascade);
    let corner = [within % side, within / side % side, within / (side * side)];
    // Cascades double in size; the box is the largest of them.
    let share = (cascade as f32 + 1.0 - cascades as f32).exp2();
    let place = |i: usize| (i as f32 / side as f32 - 0.5) * share + 0.5;
    Aabb {
        low: corner.map(place),
        high: corner.map(|i| place(i + 1)),
    }
}

/// Limits on the number of networks.
#[derive(Debug, Clone, Copy)]
struct NetworkBudget {
    /// Maximum number of networks, if given; the cells are then the smallest for which it suffices.
    wanted: Option<u32>,
    /// Size in bytes of a network's weights.
    bytes: u64,
    /// Maximum size in bytes of the weights of all networks.
    limit: u64,
}

/// Cover the intersection of `wanted` and the bounding box of `voxels` with a grid, and give networks to the cells that overlap
/// a voxel. The grid has the cells of `wanted`, or the smallest cells for which `room.wanted` networks suffice. Return the
/// grid, and the network of each cell.
fn fit_grid(
    voxels: &[Aabb<f32>],
    wanted: &Cells,
    room: NetworkBudget,
) -> Result<(Cells, Vec<u32>), DistillationError> {
    let mut dense = Aabb {
        low: [1.0_f32; 3],
        high: [0.0_f32; 3],
    };
    for voxel in voxels {
        for a in 0..3 {
            dense.low[a] = dense.low[a].min(voxel.low[a]).max(0.0);
            dense.high[a] = dense.high[a].max(voxel.high[a]).min(1.0);
        }
    }
    let bounds = wanted.bounds();
    let all = voxels.len();
    let voxels: Vec<_> = voxels.iter().filter(|v| v.overlaps(&bounds)).collect();
    // A few stray cells in the grid do not count as a scene.
    let covered = bounds.intersection(&dense);
    let Some(covered) = covered.filter(|_| 100 * voxels.len() >= all) else {
        return Err(DistillationError::Misses {
            grid: bounds,
            dense,
        });
    };
    let mut cells = Cells {
        low: covered.low,
        high: covered.high,
        ..wanted.clone()
    };
    let occupied = |cells: &Cells| {
        let grid = CellGrid::new(cells);
        let mut map = vec![binned::NO_NETWORK; grid.n_cells() as usize];
        for voxel in &voxels {
            for cell in overlapping_cells(voxel, &grid) {
                map[cell] = 0;
            }
        }
        map
    };
    let count = |cells: &Cells| occupied(cells).iter().map(|&n| u32::from(n == 0)).sum();
    if let Some(finest) = room
        .wanted
        .and_then(|most| CellGrid::finest(&cells, most, count))
    {
        cells = finest;
    }
    cells.resolution = Some(cells.resolution());
    let mut map = occupied(&cells);
    let mut networks = 0;
    for network in map.iter_mut().filter(|network| **network == 0) {
        *network = networks;
        networks += 1;
    }
    let most = u32::try_from(room.limit / room.bytes.max(1)).unwrap_or(u32::MAX);
    let most = most.min(Cells::MAX_NETWORKS);
    if networks > most {
        let finest = CellGrid::finest(&cells, most, count);
        return Err(DistillationError::GridTooLarge(GridTooLarge {
            networks,
            bytes: u64::from(networks) * room.bytes,
            limit: room.limit,
            longest: finest.map_or(1, |cells| cells.longest),
        }));
    }
    cells.occupied = Some(networks);
    Ok((cells, map))
}

/// Return the cells of `grid` that overlap a box.
pub(super) fn overlapping_cells(voxel: &Aabb<f32>, grid: &CellGrid) -> impl Iterator<Item = usize> {
    // A shared face is no overlap: shrink the box slightly.
    const FACE: f32 = 1e-3;
    let (n, per_unit) = (grid.resolution, grid.per_unit());
    let [x, y, z] = std::array::from_fn(|a| {
        let along = |x: [f32; 3]| (x[a] - grid.bounds.low[a]) * per_unit[a];
        let (low, high) = (along(voxel.low), along(voxel.high));
        let face = FACE.min((high - low) / 2.0);
        let last = ((high - face).max(0.0) as u32).min(n[a] - 1);
        ((low + face).max(0.0) as u32).min(last)..=last
    });
    z.flat_map(move |z| y.clone().map(move |y| (y, z)))
        .flat_map(move |(y, z)| x.clone().map(move |x| ((z * n[1] + y) * n[0] + x) as usize))
}

/// Return the maximum number of pairs of a network's cell and an overlapping voxel, for `cascades` of `side`³ voxels.
pub(super) fn max_overlaps(grid: &CellGrid, side: u32, cascades: u32) -> u64 {
    let of_cascade = |cascade: u32| {
        // Bound the number of pieces that both grids cut space into, and the number of voxels per cell.
        let whole: u64 = grid
            .resolution
            .iter()
            .map(|n| u64::from(side + n))
            .product();
        let share = (cascade as f32 + 1.0 - cascades as f32).exp2();
        let voxels = |a: usize| {
            let cell = (grid.bounds.high[a] - grid.bounds.low[a]) / grid.resolution[a] as f32;
            (cell * side as f32 / share) as u64 + 2
        };
        let each: u64 = (0..3).map(voxels).product();
        whole.min(each.saturating_mul(u64::from(grid.n_networks)))
    };
    (0..cascades).map(of_cascade).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aabb(low: [f32; 3], high: [f32; 3]) -> Aabb<f32> {
        Aabb { low, high }
    }

    #[test]
    fn cells_that_voxels_reach_into_get_networks() {
        let voxels = [
            aabb([0.25, 0.25, 0.25], [0.5, 0.5, 0.5]),
            aabb([0.5, 0.25, 0.25], [0.75, 0.5, 0.5]),
            aabb([0.5, 0.5, 0.5], [0.75, 0.75, 0.75]),
        ];
        let wanted = Cells {
            longest: 4,
            ..Cells::default()
        };
        let room = NetworkBudget {
            wanted: None,
            bytes: 100,
            limit: 1 << 20,
        };
        let (cells, map) = fit_grid(&voxels, &wanted, room).unwrap();
        assert_eq!((cells.low, cells.high), ([0.25; 3], [0.75; 3]));
        assert_eq!(cells.resolution, Some([4; 3]));
        assert_eq!(cells.occupied, Some(24));
        let none = map.iter().filter(|&&n| n == binned::NO_NETWORK).count();
        assert_eq!(none, 40);
        let mut numbers: Vec<u32> = map
            .iter()
            .copied()
            .filter(|&n| n != binned::NO_NETWORK)
            .collect();
        numbers.dedup();
        assert_eq!(numbers, (0..24).collect::<Vec<_>>());
        // A flat box has fewer cells along its short sides.
        let (cells, map) = fit_grid(&voxels[..2], &wanted, room).unwrap();
        assert_eq!(cells.resolution, Some([4, 2, 2]));
        assert_eq!(map, (0..16).collect::<Vec<_>>());
        // The wanted box cuts off what lies outside it.
        let half = Cells {
            low: [0.5, 0.0, 0.0],
            ..wanted.clone()
        };
        let (half, _) = fit_grid(&voxels, &half, room).unwrap();
        assert_eq!((half.low, half.high), ([0.5, 0.25, 0.25], [0.75; 3]));
        let beside = Cells {
            low: [0.8; 3],
            ..wanted.clone()
        };
        let missed = fit_grid(&voxels, &beside, room).unwrap_err().to_string();
        assert!(missed.contains("[0.75, 0.75, 0.75]"), "{missed}");
        // The smallest cells for which 60 networks suffice.
        let sixty = NetworkBudget {
            wanted: Some(60),
            ..room
        };
        let (cells, map) = fit_grid(&voxels, &wanted, sixty).unwrap();
        let networks = map.iter().filter(|&&n| n != binned::NO_NETWORK).count();
        assert!(networks <= 60 && cells.memory_mib.is_none());
        let finer = Cells {
            longest: cells.longest + 1,
            resolution: None,
            occupied: None,
            ..cells
        };
        let (finer, _) = fit_grid(&voxels, &finer, room).unwrap();
        assert!(finer.occupied.unwrap() > 60);
        // The error for a grid that does not fit names one that does.
        let small = NetworkBudget {
            limit: 60 * 100,
            ..room
        };
        let longest = finer.longest;
        let refused = fit_grid(
            &voxels,
            &Cells {
                longest,
                ..wanted.clone()
            },
            small,
        )
        .unwrap_err();
        let DistillationError::GridTooLarge(GridTooLarge { longest, .. }) = refused else {
            panic!("{refused}");
        };
        let at = |longest: u32| {
            fit_grid(
                &voxels,
                &Cells {
                    longest,
                    ..wanted.clone()
                },
                small,
            )
        };
        assert!(at(longest).is_ok() && at(longest + 1).is_err(), "{longest}");
    }

    #[test]
    fn voxels_of_coarser_cascades_are_larger() {
        let n = 8 * 8 * 8;
        assert_eq!(voxel(0, 8, 1), aabb([0.0; 3], [0.125; 3]));
        assert_eq!(voxel(0, 8, 2), aabb([0.25; 3], [0.3125; 3]));
        assert_eq!(voxel(n, 8, 2), aabb([0.0; 3], [0.125; 3]));
        assert_eq!(voxel(2 * n - 1, 8, 2), aabb([0.875; 3], [1.0; 3]));
    }
}
