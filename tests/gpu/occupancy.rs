//! The occupancy grid: the cells that an update visits, the decay and rise of values, the bits, and cells that no camera sees.

use std::sync::Arc;

use kiln::camera::{Camera, Lens};
use kiln::config::{Config, ResolvedConfig, SceneHints};
use kiln::dataset::Image;
use kiln::field::{Field, FieldParameters};
use kiln::gpu::Gpu;
use kiln::images::{GpuCamera, ImageSet};
use kiln::network::SavedActivations;
use kiln::occupancy::{OccupancyGrid, UNVISITED};
use kiln::pass::{Capacity, Pass};
use kiln::sampling::SceneBox;
use kiln::scene_frame::SceneFrame;
use kiln::step_state::StepState;

use crate::reference::occupancy;
use crate::reference::random::Pcg;
use crate::support::{Rig, on_device};

const RESOLUTION: u32 = 16;
const CELLS: usize = 4096;
/// Number of cells that an update sweeps, of the 2048 cells that it visits.
const SWEPT: usize = 1024;

struct Setup {
    gpu: Arc<Gpu>,
    config: ResolvedConfig,
    field: Field,
    parameters: FieldParameters,
    grid: OccupancyGrid,
}

impl Setup {
    /// Return a grid over a field whose features are the position itself, and whose raw density is the dot product of position
    /// and `weights[..3]`, plus `weights[3]`. The field has one level of 4 features, whose rows contain the coordinates of the
    /// grid points, and a network that passes them on.
    fn new(gpu: &Arc<Gpu>, aabb_scale: u32, weights: [f32; 4]) -> Self {
        let overrides = [
            &format!("scene.aabb_scale={aabb_scale}"),
            "occupancy.resolution=16",
            "passes.sampler.ray_march.steps=256",
            "occupancy.cells_per_update=2048",
            "passes.field.position_encoding.hash_grid.n_levels=1",
            "passes.field.position_encoding.hash_grid.n_features_per_level=4",
            "passes.field.position_encoding.hash_grid.base_resolution=4",
            "passes.field.position_encoding.hash_grid.grid_offset=0.0",
            "passes.field.density_network.n_neurons=4",
            "passes.field.density_network.biases=true",
            "passes.field.density_bias=0.0",
        ];
        let config = Config::preset("ngp-small", &overrides.map(str::to_owned)).unwrap();
        let config = config.resolve(SceneHints::default(), gpu.class());
        let field = Field::new(gpu.profile(), &config.passes[0].field).unwrap();
        let parameters = FieldParameters::new(gpu, &field).unwrap();
        let level = &field.tables().levels()[0];
        assert!(level.dense && level.resolution == 5);
        let coordinate = |i: u32| i as f32 / 4.0;
        let table: Vec<[f32; 4]> = (0..125)
            .map(|i| {
                [
                    coordinate(i % 5),
                    coordinate(i / 5 % 5),
                    coordinate(i / 25),
                    0.0,
                ]
            })
            .collect();
        gpu.write(&parameters.tables[0], 0, &table);
        let mut slab = vec![0.0_f32; field.slab_len() as usize];
        let network = field.density.layout();
        let at = |l: usize, o: u32, i: u32| (network.offset(l) + o * network.width(l) + i) as usize;
        for i in 0..3 {
            slab[at(0, i, i)] = 1.0;
            slab[at(1, 0, i)] = weights[i as usize];
        }
        slab[at(1, 0, network.dims[1])] = weights[3];
        gpu.write(&parameters.weights.values, 0, &slab);
        let grid = OccupancyGrid::of_config(gpu, &config, &field)
            .unwrap()
            .unwrap();
        grid.reset(gpu, config.seed);
        assert_eq!(grid.cells_per_update(), 2 * SWEPT as u32);
        Self {
            gpu: Arc::clone(gpu),
            config,
            field,
            parameters,
            grid,
        }
    }

    fn n(&self) -> usize {
        self.grid.n_cells() as usize
    }

    fn update(&self) {
        let stages = self
            .grid
            .update(&self.gpu, &self.field, &self.parameters)
            .unwrap();
        self.gpu.submit(&stages);
        self.gpu.wait().unwrap();
    }

    fn set(&self, thickness: &[f32]) {
        self.gpu.write(&self.grid.thickness, 0, thickness);
    }

    fn thickness(&self) -> Vec<f32> {
        self.gpu.read(&self.grid.thickness, 0, self.n()).unwrap()
    }

    fn bits(&self) -> Vec<u32> {
        self.gpu.read(&self.grid.bits, 0, self.n() / 32).unwrap()
    }

    /// Return the minimum step in the field's units of length.
    fn dt(&self) -> f32 {
        kiln::sampling::ray_march::dt_min(256) / SceneBox::of(&self.config).scale
    }
}

/// Return the bits of `values`: set above the smaller of the threshold and the mean of visited cells. A coarse cell also has
/// the bits of its fine cells.
fn expected_bits(values: &[f32], cascades: u32, threshold: f32) -> Vec<u32> {
    let mut reference = occupancy::OccupancyGrid::empty(RESOLUTION, cascades);
    let visited: Vec<f64> = values[..CELLS]
        .iter()
        .filter(|v| **v < UNVISITED)
        .map(|&v| f64::from(v.max(0.0)))
        .collect();
    let mean = visited.iter().sum::<f64>() / visited.len().max(1) as f64;
    let cutoff = threshold.min(mean as f32);
    for (index, &value) in values.iter().enumerate() {
        reference.set(index, value > cutoff);
    }
    reference.pool_bits();
    reference.bits
}

#[test]
fn a_sweep_visits_every_cell_once() {
    on_device(|gpu| {
        let setup = Setup::new(gpu, 1, [0.0, 0.0, 0.0, -60.0]);
        let decay = setup.config.occupancy.as_ref().unwrap().decay.powi(4);
        setup.set(&[1.0; CELLS]);
        for update in 1..=4 {
            setup.update();
            let decayed = setup
                .thickness()
                .iter()
                .filter(|v| (**v - decay).abs() < 1e-6)
                .count();
            let untouched = setup.thickness().iter().filter(|v| **v == 1.0).count();
            assert_eq!(
                (decayed, untouched),
                (SWEPT * update, CELLS - SWEPT * update)
            );
        }
        setup.update();
        let twice = setup
            .thickness()
            .iter()
            .filter(|v| (**v - decay * decay).abs() < 1e-6)
            .count();
        assert_eq!(twice, SWEPT);
        let state: kiln::step_state::StepState =
            gpu.read(&setup.grid.counts.state, 0, 1).unwrap()[0];
        assert_eq!(state.occupancy_phase, 5);
    });
}

#[test]
fn values_are_optical_thicknesses_within_their_cells() {
    for aabb_scale in [1, 4] {
        on_device(|gpu| {
            let weights = [3.0, 2.0, 4.0, -3.0];
            let setup = Setup::new(gpu, aabb_scale, weights);
            let updates = setup.n() / SWEPT;
            (0..updates).for_each(|_| setup.update());
            let cascades = aabb_scale.trailing_zeros() + 1;
            let thickness = setup.thickness();
            let raw = |x: [f32; 3]| (0..3).map(|c| weights[c] * x[c]).sum::<f32>() + weights[3];
            for (cell, &value) in thickness.iter().enumerate() {
                let cell = cell as u32;
                let (cascade, r) = (cell / CELLS as u32, RESOLUTION);
                let corner = [cell % r, cell / r % r, cell / (r * r) % r];
                // Box coordinates: the cascade's cube within the cube of the coarsest cascade.
                let side = 1.0 / (1 << (cascades - 1 - cascade)) as f32;
                let place =
                    |upper: u32| corner.map(|c| ((c + upper) as f32 / r as f32 - 0.5) * side + 0.5);
                let (low, high) = (
                    raw(place(0)).exp() * setup.dt(),
                    raw(place(1)).exp() * setup.dt(),
                );
                let within = value >= low * 0.9999 && value <= high * 1.0001;
                assert!(
                    within,
                    "cascade {cascade}, cell {corner:?}: {value} outside {low}..{high}"
                );
            }
            let threshold = setup.config.occupancy.as_ref().unwrap().threshold;
            assert!(setup.bits() == expected_bits(&thickness, cascades, threshold));
            let on: u32 = setup.bits().iter().map(|w| w.count_ones()).sum();
            assert!(on > 100 && on < setup.n() as u32 - 100, "{on} cells are on");
        });
    }
}

#[test]
fn occupied_cells_rise_between_sweeps() {
    on_device(|gpu| {
        // The field is dense everywhere, while the grid's values are 0: all visited cells rise.
        let setup = Setup::new(gpu, 1, [0.0, 0.0, 0.0, 3.0]);
        setup.set(&[0.0; CELLS]);
        setup.update();
        let full = 3.0_f32.exp() * setup.dt();
        let (mut risen, mut other) = (0, 0);
        for value in setup.thickness() {
            if (value - full).abs() < 1e-4 * full {
                risen += 1;
            } else {
                assert_eq!(value, 0.0);
                other += 1;
            }
        }
        // 1024 cells are swept, and 1024 draws with replacement hit of the other 3072: 3072 (1 - e^(-1/4)) = 680.
        assert!((1600..1800).contains(&risen), "{risen} risen, {other} not");
        // Unseen cells stay unseen, and cells that were never swept stay unvisited.
        setup.set(&[-1.0; CELLS]);
        setup.update();
        assert!(setup.thickness() == [-1.0; CELLS]);
        assert!(setup.bits().iter().all(|&w| w == 0));
        setup.set(&[UNVISITED; CELLS]);
        setup.update();
        assert_eq!(
            setup.thickness().iter().filter(|v| **v < UNVISITED).count(),
            SWEPT
        );
    });
}

#[test]
fn samples_of_a_batch_raise_the_cells_they_lie_in() {
    const N: usize = 700;
    for aabb_scale in [1, 4] {
        on_device(|gpu| {
            let setup = Setup::new(gpu, aabb_scale, [0.0; 4]);
            let capacity = Capacity {
                rays: 64,
                marched: 1024,
                kept: 1024,
            };
            let keep = |_| SavedActivations::Gradients;
            let pass = Pass::of_method(gpu, &setup.config, "test", &[capacity], &keep)
                .unwrap()
                .remove(0);
            let mut pcg = Pcg::new(72);
            // Some cells are unseen, some unvisited, and the others have low values.
            let before: Vec<f32> = (0..setup.n())
                .map(|_| match pcg.unit() {
                    p if p < 0.1 => -1.0,
                    p if p < 0.2 => UNVISITED,
                    p => p as f32 * 0.1,
                })
                .collect();
            setup.set(&before);
            let samples: Vec<[f32; 4]> = (0..1024)
                .map(|_| std::array::from_fn(|_| pcg.unit() as f32))
                .collect();
            gpu.write(&pass.kept.samples, 0, &samples);
            let raw = pass.field.raw_outputs(&pass.buffers);
            let stride = raw.density_stride as usize;
            let densities: Vec<f32> = (0..1024 * stride)
                .map(|_| pcg.unit() as f32 * 4.0)
                .collect();
            gpu.write(&raw.density, 0, &densities);
            let rig = Rig {
                gpu: Arc::clone(gpu),
                counts: pass.counts.clone(),
            };
            rig.set(StepState {
                n_kept: N as u32,
                ..bytemuck::Zeroable::zeroed()
            });
            let mut stage = gpu.stage("raise");
            pass.counts.publish(&mut stage).unwrap();
            setup.grid.raise_sampled_cells(&mut stage, &pass).unwrap();
            gpu.submit([&stage]);
            let cascades = aabb_scale.trailing_zeros() + 1;
            let reference = occupancy::OccupancyGrid::empty(RESOLUTION, cascades);
            let mut expected = before.clone();
            for (i, x) in samples[..N].iter().enumerate() {
                let u: [f32; 3] = std::array::from_fn(|c| (x[c] - 0.5) * aabb_scale as f32 + 0.5);
                let cascade = reference.mip_from_position(u);
                let cell = &mut expected[reference.index(cascade, reference.cell(u, cascade))];
                if *cell >= 0.0 && *cell < UNVISITED {
                    *cell = cell.max(densities[i * stride].exp() * setup.dt());
                }
            }
            let after = setup.thickness();
            let mut raised = 0;
            for ((before, after), expected) in before.iter().zip(&after).zip(&expected) {
                assert!((after - expected).abs() <= 1e-5 * expected.abs());
                raised += usize::from(after > before);
            }
            assert!(raised > N / 10, "{raised} cells raised");
        });
    }
}

#[test]
fn a_grid_that_was_never_visited_is_occupied() {
    on_device(|gpu| {
        let setup = Setup::new(gpu, 2, [0.0; 4]);
        assert!(setup.bits().iter().all(|&w| w == u32::MAX));
        assert!(setup.thickness().iter().all(|&v| v == UNVISITED));
    });
}

/// Return points along the rays of `camera` that lie in the box, in unit coordinates.
fn seen(camera: &Camera, scene: &kiln::sampling::SceneBox) -> Vec<[f64; 3]> {
    let mut points = Vec::new();
    let half = f64::from(scene.aabb_scale) / 2.0;
    for (x, y) in (0..=12).flat_map(|x| (0..=12).map(move |y| (x, y))) {
        let (px, py) = (
            x as f32 / 12.0 * camera.width as f32,
            y as f32 / 12.0 * camera.height as f32,
        );
        let (o, d) = camera.ray(px, py);
        for step in 1..400 {
            let t = f64::from(step) * 0.02;
            let u: [f64; 3] = std::array::from_fn(|c| {
                (o[c] + t * d[c]) * f64::from(scene.scale) + f64::from(scene.offset[c])
            });
            if u.iter().all(|u| (u - 0.5).abs() < half) {
                points.push(u);
            }
        }
    }
    points
}

#[test]
fn cells_that_no_camera_sees_are_marked() {
    let look = |eye, target, fov, lens| {
        let mut camera = Camera::look_at(eye, target, [0.0, 0.0, 1.0], fov, 40, 30);
        camera.lens = lens;
        camera
    };
    let barrel = Lens::OpenCv {
        k1: -0.25,
        k2: 0.05,
        k3: 0.0,
        p1: 0.0,
        p2: 0.0,
    };
    // A view from outside, a wide view from inside, and a view through a distorted lens.
    let cameras = [
        look([2.5, 0.3, 0.2], [0.0, 0.0, 0.2], 0.5, Lens::Pinhole),
        look([0.2, 0.1, 0.0], [-1.0, 0.4, 0.3], 1.5, Lens::Pinhole),
        look([0.1, -1.4, 0.4], [0.0, 0.0, 0.0], 1.2, barrel),
    ];
    for (number, camera) in cameras.iter().enumerate() {
        on_device(|gpu| {
            for aabb_scale in [1, 4] {
                let setup = Setup::new(gpu, aabb_scale, [0.0; 4]);
                let pixels = vec![255; 40 * 30 * 4];
                let image = Image {
                    width: 40,
                    height: 30,
                    pixels,
                    has_alpha: false,
                    mask: None,
                };
                let images = ImageSet::upload(
                    gpu,
                    &[image],
                    &[GpuCamera::new(camera, [0.0, 1e10], &SceneFrame::WORLD)],
                )
                .unwrap();
                let stages = setup.grid.mark_unseen(gpu, &setup.field, &images).unwrap();
                gpu.submit(&stages);
                gpu.wait().unwrap();
                let thickness = setup.thickness();
                assert!(thickness.iter().all(|&v| v == UNVISITED || v == -1.0));
                let cascades = aabb_scale.trailing_zeros() + 1;
                let reference = occupancy::OccupancyGrid::empty(RESOLUTION, cascades);
                let points = seen(camera, &SceneBox::of(&setup.config));
                assert!(points.len() > 1000);
                for point in points {
                    let u = point.map(|v| v as f32);
                    let first = reference.mip_from_position(u);
                    for cascade in first..cascades {
                        let index = reference.index(cascade, reference.cell(u, cascade));
                        assert!(
                            thickness[index] == UNVISITED,
                            "camera {number}: {point:?}, cascade {cascade}, is seen"
                        );
                    }
                }
                // The other cells are marked: more than a quarter of the finest cascade.
                let gone = thickness[..CELLS].iter().filter(|v| **v < 0.0).count();
                assert!(
                    gone > CELLS / 4,
                    "camera {number}: {gone} of {CELLS} cells are marked"
                );
                let threshold = setup.config.occupancy.as_ref().unwrap().threshold;
                assert!(setup.bits() == expected_bits(&thickness, cascades, threshold));
            }
        });
    }
}

#[test]
fn bits_of_random_values() {
    on_device(|gpu| {
        let mut pcg = Pcg::new(71);
        // The field is empty, so values only decay. The mean is below the threshold, then above it.
        for top in [0.008, 0.2] {
            let setup = Setup::new(gpu, 4, [0.0, 0.0, 0.0, -60.0]);
            let values: Vec<f32> = (0..setup.n())
                .map(|_| {
                    if pcg.unit() < 0.1 {
                        -1.0
                    } else {
                        (pcg.unit().powi(3) * top) as f32
                    }
                })
                .collect();
            setup.set(&values);
            setup.update();
            let threshold = setup.config.occupancy.as_ref().unwrap().threshold;
            assert!(
                setup.bits() == expected_bits(&setup.thickness(), 3, threshold),
                "values up to {top}"
            );
        }
    });
}
