//! Grids of networks: the sorting of samples by cell, and a whole field of networks against the composed references.

use std::sync::Arc;

use kiln::config::{
    Cells, Config, DirectionEncoding, FeatureActivation, FieldConfig, FrequencyConfig,
    Initialization, NetworkConfig, PositionEncoding,
};
use kiln::field::{Field, FieldGradients, FieldInputs, FieldParameters, RAW_DENSITY_STRIDE};
use kiln::gpu::{Gpu, GpuError};
use kiln::network::binned::NO_NETWORK;
use kiln::network::{Batch, Bins, CellGrid, Network, SavedActivations};
use kiln::step_state::StepState;

use crate::reference::encoding::frequency::Frequency;
use crate::reference::network::binned::Grid;
use crate::reference::network::fused::{Layer, Mlp};
use crate::reference::network::tiled::SkipMlp;
use crate::reference::random::Pcg;
use crate::support::{
    GpuRay, Rig, assert_close, on_both_devices, on_device, pack_layers, samples, to_f32,
};

/// Return a grid with a network in each cell for which `has_network` is true.
fn grid(resolution: [usize; 3], has_network: impl Fn(usize) -> bool) -> Grid {
    let mut n = 0;
    let mut network = |cell: usize| {
        has_network(cell).then(|| {
            n += 1;
            n - 1
        })
    };
    Grid {
        resolution,
        low: [0.125, 0.0, 0.25],
        high: [0.875, 1.0, 0.75],
        networks: (0..resolution.iter().product()).map(&mut network).collect(),
    }
}

fn cells_of(grid: &Grid) -> Cells {
    Cells {
        resolution: Some(grid.resolution.map(|n| n as u32)),
        longest: 16,
        memory_mib: None,
        low: grid.low.map(|v| v as f32),
        high: grid.high.map(|v| v as f32),
        local: true,
        occupied: Some(grid.n_networks() as u32),
    }
}

fn map_of(grid: &Grid) -> Vec<u32> {
    let number = |network: &Option<usize>| network.map_or(NO_NETWORK, |n| n as u32);
    grid.networks.iter().map(number).collect()
}

/// Sort `positions`, and check all outputs.
fn check_bins(gpu: &Arc<Gpu>, grid: &Grid, positions: &[[f64; 3]]) {
    const TILE: u32 = 16;
    let n = positions.len();
    let rig = Rig::new(gpu, 0, n, 0);
    let cells = CellGrid::new(&cells_of(grid));
    let bins = Bins::new(gpu, "test", &cells, n.max(1) as u64, true, TILE).unwrap();
    let map = rig.buffer(&map_of(grid));
    let positions_buffer = rig.buffer(&samples(positions, 0.1));
    let rays: Vec<[u32; 2]> = (0..n as u32).map(|i| [i, 7 * i]).collect();
    let rays = rig.buffer(&rays);
    // Run twice: values left over from the first run must not affect the second.
    for _ in 0..2 {
        rig.run(|stage| {
            let batch = Batch::of(&rig.counts, StepState::MARCHED);
            bins.sort(stage, batch, &map, &positions_buffer, Some(&rays))
        });
    }
    let expected = grid.bins(positions);
    let order: Vec<usize> = expected.concat();
    let state: StepState = gpu.read(&bins.counts.state, 0, 1).unwrap()[0];
    assert_eq!(state.n_kept as usize, order.len(), "samples with a network");
    let sorted: Vec<[f32; 4]> = rig.read(&bins.samples, order.len());
    let sorted_rays: Vec<[u32; 2]> = rig.read(&bins.sample_rays, order.len());
    for (slot, &sample) in order.iter().enumerate() {
        assert_eq!(sorted_rays[slot], [sample as u32, 7 * sample as u32]);
        let position = positions[sample].map(|v| v as f32);
        assert_eq!(
            sorted[slot][..3],
            position,
            "sample {sample} in place {slot}"
        );
    }
    let mut tiles = Vec::new();
    let (mut visited, mut updated, mut first) = (Vec::new(), Vec::new(), 0);
    for (network, bin) in expected.iter().enumerate() {
        let bounds: [u32; 2] = rig.read(&bins.bounds, network + 1)[network];
        updated.push(u32::from(!bin.is_empty()));
        if bin.is_empty() {
            assert_eq!(bounds[0], bounds[1], "bounds of network {network}");
            continue;
        }
        assert_eq!(bounds, [first, first + bin.len() as u32]);
        visited.push(network as u32);
        for (index, tile) in bin.chunks(TILE as usize).enumerate() {
            let at = first + index as u32 * TILE;
            tiles.push([network as u32, at, tile.len() as u32, 0]);
        }
        first += bin.len() as u32;
    }
    assert_eq!(state.n_tiles as usize, tiles.len());
    assert_eq!(rig.read::<[u32; 4]>(&bins.tiles, tiles.len()), tiles);
    assert_eq!(state.n_cells as usize, visited.len());
    assert_eq!(rig.read::<u32>(&bins.visited, visited.len()), visited);
    assert_eq!(rig.read::<u32>(&bins.updated, updated.len()), updated);
}

#[test]
fn each_sample_is_in_one_bin_in_stable_order() {
    on_both_devices(|gpu| {
        let grid = grid([5, 7, 3], |cell| cell % 4 != 1);
        let mut pcg = Pcg::new(3);
        let positions: Vec<_> = (0..5000).map(|_| pcg.uniform3(-0.1, 1.1)).collect();
        check_bins(gpu, &grid, &positions);
        // Use the maximum number of networks, most of them without samples.
        let fine = super::binned::grid([32, 32, 32], |_| true);
        check_bins(gpu, &fine, &positions[..700]);
    });
}

#[test]
fn borders_belong_to_the_upper_cell_and_faces_of_the_grid_to_none() {
    on_device(|gpu| {
        let grid = grid([6, 4, 2], |_| true);
        // Multiples of 1/8 are exact in f32, so that the device and the reference assign the same cells.
        let steps = |i: usize| i as f64 / 8.0;
        let lattice = (0..729).map(|i| [steps(i % 9), steps(i / 9 % 9), steps(i / 81)]);
        check_bins(gpu, &grid, &lattice.collect::<Vec<_>>());
    });
}

#[test]
fn one_bin_one_sample_and_none_at_all() {
    on_device(|gpu| {
        let grid = grid([4, 4, 4], |cell| cell != 0);
        check_bins(gpu, &grid, &vec![[0.6, 0.6, 0.6]; 1000]);
        check_bins(gpu, &grid, &[[0.3, 0.9, 0.7]]);
        // The first cell has no network, and the last two lie outside.
        check_bins(
            gpu,
            &grid,
            &[[0.2, 0.1, 0.3], [0.1, 0.5, 0.5], [0.5, 0.5, 0.8]],
        );
        let lone = super::binned::grid([1, 1, 1], |_| true);
        check_bins(gpu, &lone, &[[0.5; 3], [0.0; 3], [0.4; 3]]);
    });
}

const N_DENSITY_OUTPUTS: usize = 9;
const FREQUENCIES: u32 = 3;

/// Return a configuration: position in a cell → `width` → `width` → density and 8 features; features and direction → 8 → 3.
fn config(grid: &Grid, width: usize, rectified: bool) -> FieldConfig {
    let network = |n_neurons, n_hidden_layers| NetworkConfig {
        n_neurons,
        n_hidden_layers,
        biases: true,
        skips: Vec::new(),
        initialization: Initialization::XavierUniform,
    };
    let preset = Config::preset("kilonerf", &[]).unwrap().passes[0]
        .field
        .clone();
    FieldConfig {
        position_encoding: PositionEncoding::Frequency(FrequencyConfig {
            n_frequencies: FREQUENCIES,
            include_input: true,
            max_log2: None,
            scale: Some(1.0),
            offset: Some([0.0; 3]),
        }),
        direction_encoding: DirectionEncoding::Frequency {
            n_frequencies: 1,
            include_input: true,
        },
        cells: Some(cells_of(grid)),
        density_network: network(width as u32, 2),
        n_density_outputs: N_DENSITY_OUTPUTS as u32,
        feature_activation: if rectified {
            FeatureActivation::Relu
        } else {
            FeatureActivation::None
        },
        color_network: Some(network(8, 1)),
        ..preset
    }
}

/// The networks of one cell, or their gradients.
#[derive(Clone)]
struct Networks {
    density: Vec<Layer>,
    color: Vec<Layer>,
}

struct Reference {
    grid: Grid,
    position: Frequency,
    direction: Frequency,
    density: SkipMlp,
    color: Mlp,
    cells: Vec<Networks>,
}

impl Reference {
    fn random(pcg: &mut Pcg, grid: Grid, width: usize, rectified: bool) -> Self {
        let position = Frequency::powers_of_two(FREQUENCIES, true);
        let direction = Frequency::powers_of_two(1, true);
        let density = SkipMlp {
            dims: vec![position.n_outputs(), width, width, N_DENSITY_OUTPUTS],
            skips: Vec::new(),
            biases: true,
            rectified_outputs: rectified,
        };
        let color = Mlp {
            dims: vec![N_DENSITY_OUTPUTS - 1 + direction.n_outputs(), 8, 3],
            biases: true,
        };
        let networks = |_| Networks {
            density: density.random(pcg),
            color: color.random(pcg),
        };
        let cells = (0..grid.n_networks()).map(networks).collect();
        Self {
            grid,
            position,
            direction,
            density,
            color,
            cells,
        }
    }

    /// Return the activations of the density network and of the colour network, or `None` in a cell without a network.
    fn forward(&self, x: [f64; 3], view_dir: [f64; 3]) -> Option<[Vec<Vec<f64>>; 2]> {
        let networks = &self.cells[self.grid.network(x)?];
        let features = self.position.forward(self.grid.local(x));
        let (values, sums) = self.density.forward(&networks.density, &features);
        let mut input = values[3][1..].to_vec();
        input.extend(self.direction.forward(view_dir));
        let color = self.color.forward(&networks.color, &input);
        Some([[values, sums].concat(), color.values])
    }

    /// Return whether no pre-activation is so close to zero that rounding could change its sign.
    fn is_decided(&self, x: [f64; 3], view_dir: [f64; 3]) -> bool {
        let active = |x: [f64; 3]| {
            let values = self.forward(x, view_dir).unwrap_or_default().concat();
            let network = self.grid.network(x);
            (
                network,
                values.concat().iter().map(|v| *v > 0.0).collect::<Vec<_>>(),
            )
        };
        let here = active(x);
        let moves = [[1e-5; 3], [-1e-5; 3], [1e-5, -1e-5, 1e-5]];
        moves
            .iter()
            .all(|m| active(std::array::from_fn(|a| x[a] + m[a])) == here)
    }

    /// Accumulate the gradients of a cell's networks. Return the gradient with respect to position, which is that of the
    /// density alone if `d_color` is zero.
    fn backward(
        &self,
        x: [f64; 3],
        view_dir: [f64; 3],
        d_color: &[f64],
        d_density: f64,
        d: &mut [Networks],
    ) -> [f64; 3] {
        let Some(network) = self.grid.network(x) else {
            return [0.0; 3];
        };
        let (cell, d) = (&self.cells[network], &mut d[network]);
        let features = self.position.forward(self.grid.local(x));
        let density = self.density.forward(&cell.density, &features);
        let mut input = density.0[3][1..].to_vec();
        input.extend(self.direction.forward(view_dir));
        let color = self.color.forward(&cell.color, &input);
        let d_input = self
            .color
            .backward(&cell.color, &color, d_color, &mut d.color);
        let mut d_outputs = vec![d_density];
        d_outputs.extend(&d_input[..N_DENSITY_OUTPUTS - 1]);
        for (o, d) in d_outputs.iter_mut().enumerate() {
            if self.density.is_rectified(2, o) && density.1[2][o] <= 0.0 {
                *d = 0.0;
            }
        }
        let d_features = self
            .density
            .backward(&cell.density, &density, &d_outputs, &mut d.density);
        let d_local = self.position.backward(self.grid.local(x), &d_features);
        let scale = self.grid.d_local();
        std::array::from_fn(|a| d_local[a] * scale[a])
    }

    fn zeros(&self) -> Vec<Networks> {
        let zeros = Networks {
            density: self.density.zeros(),
            color: self.color.zeros(),
        };
        vec![zeros; self.cells.len()]
    }

    /// Return the weight slab of `field` for the networks in `cells`.
    fn slab(field: &Field, cells: &[Networks]) -> Vec<f64> {
        let mut slab = vec![0.0; field.slab_len() as usize];
        let [density, color] = [&field.density, field.color.as_ref().unwrap()].map(Network::layout);
        for (copy, networks) in cells.iter().enumerate() {
            pack_layers(density, copy, &networks.density, &mut slab);
            pack_layers(color, copy, &networks.color, &mut slab);
        }
        slab
    }
}

#[test]
fn a_field_of_many_networks() {
    on_both_devices(|gpu| check_field(gpu, 12, false));
}

#[test]
fn rectified_features() {
    on_both_devices(|gpu| check_field(gpu, 12, true));
}

#[test]
fn layers_that_do_not_fit_workgroup_memory_at_once() {
    on_both_devices(|gpu| check_field(gpu, 64, false));
}

fn check_field(gpu: &Arc<Gpu>, width: usize, rectified: bool) {
    const N_RAYS: u32 = 9;
    const N: usize = 700;
    // Without rectified features, test gradients that accumulate; with them, gradients that overwrite.
    let overwrite = rectified;
    let mut pcg = Pcg::new(17);
    let reference = Reference::random(
        &mut pcg,
        grid([3, 2, 2], |cell| cell != 4),
        width,
        rectified,
    );
    let field = Field::new(gpu.profile(), &config(&reference.grid, width, rectified)).unwrap();
    let rays: Vec<GpuRay> = (0..N_RAYS)
        .map(|_| GpuRay::new([0.0; 3], pcg.direction()))
        .collect();
    let view_dir = |ray: u32| -> [f64; 3] { rays[ray as usize].view_dir.map(f64::from) };
    let mut points: Vec<([f64; 3], u32)> = Vec::new();
    while points.len() < N {
        let x = pcg.uniform3(0.0, 1.0).map(|v| f64::from(v as f32));
        let point = (x, pcg.next_u32() % N_RAYS);
        if reference.is_decided(point.0, view_dir(point.1)) {
            points.push(point);
        }
    }
    let has_network = |i: &usize| reference.grid.network(points[*i].0).is_some();
    let without = (0..N).filter(|i| !has_network(i)).count();
    assert!(
        (50..N - 50).contains(&without),
        "{without} of {N} have no network"
    );

    let rig = Rig::new(gpu, N_RAYS as usize, N, N);
    let counts = &rig.counts;
    let parameters = FieldParameters::new(gpu, &field).unwrap();
    let slab = to_f32(&Reference::slab(&field, &reference.cells));
    gpu.write(&parameters.weights.values, 0, &slab);
    let map = parameters.cells.as_ref().unwrap();
    gpu.write(map, 0, &map_of(&reference.grid));
    let buffers = field
        .buffers(gpu, "test", N as u64, N as u64, SavedActivations::Gradients)
        .unwrap();
    let positions: Vec<[f64; 3]> = points.iter().map(|p| p.0).collect();
    let samples = rig.buffer(&samples(&positions, 0.1));
    let ray_of: Vec<[u32; 2]> = points.iter().map(|p| [p.1, 0]).collect();
    let (rays_buffer, kept_rays) = (rig.buffer(&rays), rig.buffer(&ray_of));
    let gradients = rig.buffer(&vec![0.25_f32; field.slab_len() as usize]);
    let scales = rig.buffer(&[1.0_f32]);
    let d_position = rig.zeros(4 * N);
    // The sizes of all dispatches are fixed before the samples are sorted.
    let [mut forward, mut backward, mut normals] =
        ["forward", "backward", "normals"].map(|name| gpu.stage(name));
    let mut build = || -> Result<(), GpuError> {
        let stage = &mut forward;
        let mut network = gpu.stage("network");
        field.transpose(stage, &parameters, None)?;
        field.density(stage, &mut network, counts, &parameters, &samples, &buffers)?;
        stage.append(network);
        let kept = FieldInputs {
            counts,
            positions: &samples,
            sample_rays: &kept_rays,
            rays: &rays_buffer,
        };
        field.encode_kept(stage, &parameters, &kept, &buffers)?;
        field.forward(stage, &parameters, &kept, &buffers, true)?;
        let mut encode = gpu.stage("encode");
        let into = FieldGradients {
            weights: &gradients,
            overwrite,
            tables: &[],
            scales: &scales,
        };
        field.backward(
            &mut backward,
            &mut encode,
            &parameters,
            &kept,
            &buffers,
            &into,
        )?;
        field.density_gradient(&mut normals, &parameters, &kept, &buffers, &d_position)
    };
    build().unwrap();
    rig.submit(&[&forward]);

    let forwards: Vec<_> = points
        .iter()
        .map(|p| reference.forward(p.0, view_dir(p.1)))
        .collect();
    let raw = field.raw_outputs(&buffers);
    let marched: Vec<f32> = rig.read(&buffers.raw_density, N * RAW_DENSITY_STRIDE as usize);
    let kept: Vec<f32> = rig.read(&raw.density, N);
    let colors: Vec<f32> = rig.read(&raw.color, N * 4);
    let (mut got, mut expected) = ([vec![], vec![], vec![]], [vec![], vec![]]);
    for (i, forward) in forwards.iter().enumerate() {
        let density = marched[i * RAW_DENSITY_STRIDE as usize];
        let Some([of_density, of_color]) = forward else {
            assert_eq!(
                [density, kept[i]],
                [-1e4; 2],
                "density of sample {i}, which has no network"
            );
            assert_eq!(colors[4 * i..4 * i + 4], [0.0; 4]);
            continue;
        };
        got[0].push(density);
        got[1].push(kept[i]);
        got[2].extend(&colors[4 * i..4 * i + 3]);
        expected[0].push(of_density[3][0]);
        expected[1].extend(&of_color[2]);
    }
    assert_close(
        "raw density of marched samples",
        &got[0],
        &expected[0],
        5e-6,
    );
    assert_close("raw density", &got[1], &expected[0], 5e-6);
    assert_close("raw colour", &got[2], &expected[1], 5e-6);

    let mut d = reference.zeros();
    let (mut d_colors, mut d_densities) = (vec![0.0_f32; N * 4], vec![0.0_f32; N]);
    for (i, &(x, ray)) in points.iter().enumerate() {
        let (d_color, d_density) = (pcg.uniform_vec(3, -1.0, 1.0), pcg.uniform(-1.0, 1.0));
        (0..3).for_each(|c| d_colors[4 * i + c] = d_color[c] as f32);
        d_densities[i] = d_density as f32;
        reference.backward(x, view_dir(ray), &d_color, d_density, &mut d);
    }
    let d_raw = field.d_raw_outputs(&buffers);
    gpu.write(&d_raw.color, 0, &d_colors);
    gpu.write(&d_raw.density, 0, &d_densities);
    rig.submit(&[&backward]);
    let slab = Reference::slab(&field, &d);
    let before = if overwrite { 0.0 } else { 0.25 };
    let expected: Vec<f64> = slab.iter().map(|g| g + before).collect();
    let got: Vec<f32> = rig.read(&gradients, slab.len());
    assert_close("weight gradients", &got, &expected, 1e-5);

    rig.submit(&[&normals]);
    let got: Vec<[f32; 4]> = rig.read(&d_position, N);
    let expected: Vec<f64> = points
        .iter()
        .flat_map(|p| reference.backward(p.0, view_dir(p.1), &[0.0; 3], 1.0, &mut d))
        .collect();
    let got: Vec<f32> = got.iter().flat_map(|v| v[..3].to_vec()).collect();
    assert_close("gradient of the density", &got, &expected, 1e-5);
}
