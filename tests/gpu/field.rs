//! A whole field, forward and backward through density and colour, against the composed references.

use std::sync::Arc;

use kiln::config::{
    Config, DirectionEncoding, FieldConfig, HashGridConfig, Initialization, NetworkConfig,
    PositionEncoding,
};
use kiln::field::{Field, FieldGradients, FieldInputs, FieldParameters, RAW_DENSITY_STRIDE};
use kiln::gpu::Gpu;
use kiln::network::SavedActivations;

use crate::reference::encoding::hash_grid::{HashGrid, levels_ngp};
use crate::reference::encoding::spherical_harmonics;
use crate::reference::network::fused::{Layer, Mlp};
use crate::reference::random::Pcg;
use crate::support::{GpuRay, Rig, assert_close, on_both_devices, pack_layers, samples, to_f64};

const N_DENSITY_OUTPUTS: usize = 8;
const SH_DEGREE: u32 = 3;

/// Return a configuration: 6 levels of 2 features → 16 → 8; 8 + 9 values → 20 → 20 → 3.
fn config(biases: bool) -> FieldConfig {
    let network = |n_neurons, n_hidden_layers| NetworkConfig {
        n_neurons,
        n_hidden_layers,
        biases,
        skips: Vec::new(),
        initialization: Initialization::XavierUniform,
    };
    let preset = Config::preset("ngp", &[]).unwrap().passes[0].field.clone();
    FieldConfig {
        position_encoding: PositionEncoding::HashGrid(HashGridConfig {
            n_levels: 6,
            n_features_per_level: 2,
            log2_hashmap_size: 10,
            base_resolution: 4,
            per_level_scale: Some(1.5),
            finest_resolution: 0,
            dense_levels: true,
            grid_offset: 0.5,
        }),
        direction_encoding: DirectionEncoding::SphericalHarmonics { degree: SH_DEGREE },
        density_network: network(16, 1),
        n_density_outputs: N_DENSITY_OUTPUTS as u32,
        color_network: Some(network(20, 2)),
        ..preset
    }
}

struct Reference {
    grid: HashGrid,
    table: Vec<f64>,
    density: (Mlp, Vec<Layer>),
    color: (Mlp, Vec<Layer>),
}

impl Reference {
    fn random(pcg: &mut Pcg, biases: bool) -> Self {
        let grid = HashGrid {
            levels: levels_ngp(6, 4, 1.5, 10, true, 0.5),
            n_features_per_level: 2,
            grid_offset: 0.5,
        };
        let table = pcg.uniform_vec(grid.total_rows() * 2, -1.0, 1.0);
        let mut network = |dims: Vec<usize>| {
            let mlp = Mlp { dims, biases };
            let layers = mlp.random(pcg);
            (mlp, layers)
        };
        let density = network(vec![12, 16, N_DENSITY_OUTPUTS]);
        let color = network(vec![N_DENSITY_OUTPUTS + 9, 20, 20, 3]);
        Self {
            grid,
            table,
            density,
            color,
        }
    }

    /// Return the colour network's input and the raw colour.
    fn forward(&self, x: [f64; 3], view_dir: [f64; 3]) -> (Vec<f64>, Vec<f64>) {
        let features = self.grid.forward(x, &self.table);
        let mut input = self
            .density
            .0
            .forward(&self.density.1, &features)
            .output()
            .to_vec();
        input.extend(spherical_harmonics::forward(SH_DEGREE as usize, view_dir));
        let color = self
            .color
            .0
            .forward(&self.color.1, &input)
            .output()
            .to_vec();
        (input, color)
    }

    /// Accumulate parameter gradients.
    fn backward(
        &self,
        x: [f64; 3],
        view_dir: [f64; 3],
        d_color: &[f64],
        d_density: f64,
        d: &mut Self,
    ) {
        let features = self.grid.forward(x, &self.table);
        let density = self.density.0.forward(&self.density.1, &features);
        let (input, _) = self.forward(x, view_dir);
        let color = self.color.0.forward(&self.color.1, &input);
        let d_input = self
            .color
            .0
            .backward(&self.color.1, &color, d_color, &mut d.color.1);
        let mut d_outputs = d_input[..N_DENSITY_OUTPUTS].to_vec();
        d_outputs[0] += d_density;
        let d_features =
            self.density
                .0
                .backward(&self.density.1, &density, &d_outputs, &mut d.density.1);
        self.grid
            .backward(x, &self.table, &d_features, &mut d.table);
    }

    /// Return the gradient of the raw density with respect to position.
    fn density_gradient(&self, x: [f64; 3]) -> [f64; 3] {
        let features = self.grid.forward(x, &self.table);
        let (mlp, layers) = &self.density;
        let density = mlp.forward(layers, &features);
        let mut one_hot = vec![0.0; N_DENSITY_OUTPUTS];
        one_hot[0] = 1.0;
        let d_features = mlp.backward(layers, &density, &one_hot, &mut mlp.zeros());
        self.grid.backward(
            x,
            &self.table,
            &d_features,
            &mut vec![0.0; self.table.len()],
        )
    }

    fn zeros(&self) -> Self {
        let zeros = |(mlp, _): &(Mlp, Vec<Layer>)| (mlp.clone(), mlp.zeros());
        Self {
            grid: self.grid.clone(),
            table: vec![0.0; self.table.len()],
            density: zeros(&self.density),
            color: zeros(&self.color),
        }
    }

    /// Return the weight slab of `field` with the networks' weights.
    fn slab(&self, field: &Field) -> Vec<f64> {
        let mut slab = vec![0.0; field.slab_len() as usize];
        let color = field.color.as_ref().unwrap();
        pack_layers(field.density.layout(), 0, &self.density.1, &mut slab);
        pack_layers(color.layout(), 0, &self.color.1, &mut slab);
        slab
    }

    /// Return whether gradients are unaffected by displacements as small as rounding errors.
    fn is_smooth_at(&self, x: [f64; 3], view_dir: [f64; 3]) -> bool {
        let gradients = |x| {
            let mut d = self.zeros();
            self.backward(x, view_dir, &[0.3, -0.5, 0.7], 0.2, &mut d);
            (self.density_gradient(x), d.density.1, d.color.1)
        };
        let near = |a: &[f64], b: &[f64]| {
            a.iter()
                .zip(b)
                .all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + a.abs()))
        };
        let layers_near =
            |a: &[Layer], b: &[Layer]| a.iter().zip(b).all(|(a, b)| near(&a.weights, &b.weights));
        let here = gradients(x);
        [-3e-6, 3e-6].into_iter().all(|h| {
            let there = gradients(x.map(|v| v + h));
            near(&here.0, &there.0)
                && layers_near(&here.1, &there.1)
                && layers_near(&here.2, &there.2)
        })
    }
}

fn check(gpu: &Arc<Gpu>, biases: bool) {
    const N_RAYS: u32 = 9;
    const N: usize = 203;
    let mut pcg = Pcg::new(41);
    let reference = Reference::random(&mut pcg, biases);
    let field = Field::new(gpu.profile(), &config(biases)).unwrap();
    let rays: Vec<GpuRay> = (0..N_RAYS)
        .map(|_| GpuRay::new([0.0; 3], pcg.direction()))
        .collect();
    let view_dir = |ray: u32| -> [f64; 3] { rays[ray as usize].view_dir.map(f64::from) };
    let mut points: Vec<([f64; 3], u32)> = Vec::new();
    while points.len() < N {
        let point = (pcg.uniform3(0.01, 0.99), pcg.next_u32() % N_RAYS);
        if reference.is_smooth_at(point.0, view_dir(point.1)) {
            points.push(point);
        }
    }

    let rig = Rig::new(gpu, N_RAYS as usize, N, N);
    let counts = &rig.counts;
    let parameters = FieldParameters::new(gpu, &field).unwrap();
    gpu.write(
        &parameters.weights.values,
        0,
        &crate::support::to_f32(&reference.slab(&field)),
    );
    gpu.write(
        &parameters.tables[0],
        0,
        &crate::support::to_f32(&reference.table),
    );
    let buffers = field
        .buffers(gpu, "test", N as u64, N as u64, SavedActivations::Gradients)
        .unwrap();
    let positions: Vec<[f64; 3]> = points.iter().map(|p| p.0).collect();
    let mut data = samples(&positions, 0.1);
    data.resize(512 * 4, 0.5);
    let samples = rig.buffer(&data);
    let (rays_buffer, kept_rays) = (
        rig.buffer(&rays),
        rig.buffer(&points.iter().map(|p| [p.1, 0]).collect::<Vec<[u32; 2]>>()),
    );
    let (mut encode, mut network) = (gpu.stage("encode"), gpu.stage("network"));
    field.transpose(&mut encode, &parameters, None).unwrap();
    field
        .density(
            &mut encode,
            &mut network,
            counts,
            &parameters,
            &samples,
            &buffers,
        )
        .unwrap();
    network.copy(&buffers.features, &buffers.kept_features);
    let kept = FieldInputs {
        counts,
        positions: &samples,
        sample_rays: &kept_rays,
        rays: &rays_buffer,
    };
    field
        .forward(&mut network, &parameters, &kept, &buffers, true)
        .unwrap();
    rig.submit(&[&encode, &network]);

    let forwards: Vec<_> = points
        .iter()
        .map(|p| reference.forward(p.0, view_dir(p.1)))
        .collect();
    let columns = |data: Vec<f32>, stride: u32, n: usize| -> Vec<f32> {
        data.chunks_exact(stride as usize)
            .flat_map(|row| row[..n].to_vec())
            .collect()
    };
    let raw: Vec<f32> = rig.read(&buffers.raw_density, N * RAW_DENSITY_STRIDE as usize);
    let expected: Vec<f64> = forwards.iter().map(|(input, _)| input[0]).collect();
    assert_close(
        "raw density of marched samples",
        &columns(raw, RAW_DENSITY_STRIDE, 1),
        &expected,
        3e-6,
    );
    let input: Vec<f32> = rig.read(&buffers.color_input, N * field.color_stride() as usize);
    let expected: Vec<f64> = forwards
        .iter()
        .flat_map(|(input, _)| input.clone())
        .collect();
    assert_close(
        "colour input",
        &columns(input, field.color_stride(), 17),
        &expected,
        3e-6,
    );
    let raw: Vec<f32> = rig.read(&field.raw_outputs(&buffers).color, N * 4);
    let expected: Vec<f64> = forwards
        .iter()
        .flat_map(|(_, color)| color.clone())
        .collect();
    assert_close("raw colour", &columns(raw, 4, 3), &expected, 5e-6);

    let mut d = reference.zeros();
    let mut d_colors = vec![0.0_f32; 512 * 4];
    let mut d_densities = vec![0.0_f32; 512];
    for (i, &(x, ray)) in points.iter().enumerate() {
        let (d_color, d_density) = (pcg.uniform_vec(3, -1.0, 1.0), pcg.uniform(-1.0, 1.0));
        (0..3).for_each(|c| d_colors[4 * i + c] = d_color[c] as f32);
        d_densities[i] = d_density as f32;
        reference.backward(x, view_dir(ray), &d_color, d_density, &mut d);
    }
    let d_raw = field.d_raw_outputs(&buffers);
    gpu.write(&d_raw.color, 0, &d_colors);
    gpu.write(&d_raw.density, 0, &d_densities);
    let gradients = rig.zeros(field.slab_len() as usize);
    let scale = 2_f32.powi(18);
    let scales = rig.buffer(&[scale; 6]);
    let tables = field.tables().allocate(gpu, "gradients", 4).unwrap();
    let (mut network, mut encode) = (gpu.stage("network"), gpu.stage("encode"));
    let into = FieldGradients {
        weights: &gradients,
        overwrite: false,
        tables: &tables,
        scales: &scales,
    };
    field
        .backward(
            &mut network,
            &mut encode,
            &parameters,
            &kept,
            &buffers,
            &into,
        )
        .unwrap();
    rig.submit(&[&network, &encode]);
    assert_close(
        "weight gradients",
        &rig.read(&gradients, field.slab_len() as usize),
        &d.slab(&field),
        2e-5,
    );
    let fixed: Vec<i32> = rig.read(&tables[0], d.table.len());
    let actual: Vec<f32> = fixed.iter().map(|&g| g as f32 / scale).collect();
    assert_close("table gradients", &actual, &d.table, 2e-5);

    let d_position = rig.zeros(4 * N);
    rig.run(|stage| field.density_gradient(stage, &parameters, &kept, &buffers, &d_position));
    let actual = to_f64(&rig.read::<f32>(&d_position, 4 * N));
    let actual: Vec<f32> = actual
        .chunks_exact(4)
        .flat_map(|d| [d[0] as f32, d[1] as f32, d[2] as f32])
        .collect();
    let expected: Vec<f64> = positions
        .iter()
        .flat_map(|&x| reference.density_gradient(x))
        .collect();
    assert_close("gradient of the density", &actual, &expected, 2e-5);
}

#[test]
fn without_biases() {
    on_both_devices(|gpu| check(gpu, false));
}

#[test]
fn with_biases() {
    crate::support::on_device(|gpu| check(gpu, true));
}
