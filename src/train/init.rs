//! Initial parameters: hash features uniform in ±1e-4, network weights as configured.

use crate::config::{Initialization, ResolvedConfig};
use crate::field::Field;
use crate::gpu::Gpu;
use crate::network::Layout;
use crate::optimizer::{DenseGroup, SparseGroup};
use crate::random::Random;

const HASH_BOUND: f32 = 1e-4;

fn network(layout: &Layout, how: Initialization, slab: &mut [f32], random: &mut Random) {
    let layers =
        (0..layout.n_networks).flat_map(|copy| (0..layout.n_layers()).map(move |l| (copy, l)));
    for (copy, l) in layers {
        let (n_in, n_out) = (layout.inputs(l), layout.dims[l + 1]);
        let bound = match how {
            Initialization::XavierUniform => (6.0 / (n_in + n_out) as f32).sqrt(),
            Initialization::TorchLinear => 1.0 / (n_in as f32).sqrt(),
        };
        let n = match how {
            Initialization::TorchLinear if layout.biases => n_in + 1,
            _ => n_in,
        };
        for o in 0..n_out {
            let row = copy * layout.network_stride
                + layout.offset(l)
                + layout.row_of(l, o) * layout.width(l);
            for i in 0..n {
                slab[(row + i) as usize] = random.symmetric(bound);
            }
        }
    }
}

/// Write the initial parameters and averages.
pub(super) fn initialize(
    gpu: &Gpu,
    config: &ResolvedConfig,
    fields: &[&Field],
    dense: &DenseGroup,
    sparse: &[SparseGroup],
) {
    let mut random = Random(config.seed ^ 0x9e37_79b9);
    let mut slab = vec![0.0_f32; dense.len as usize];
    for field in fields {
        let of_density = field.config.density_network.initialization;
        let color = field.config.color_network.as_ref();
        let of_color = color.map_or(of_density, |n| n.initialization);
        for ((_, net), how) in field.networks().zip([of_density, of_color]) {
            network(net.layout(), how, &mut slab, &mut random);
        }
    }
    gpu.write(&dense.weights.values, 0, &slab);
    gpu.write(&dense.averages, 0, &slab);
    for (field, sparse) in fields.iter().zip(sparse) {
        for (index, chunk) in field.tables().chunks().iter().enumerate() {
            let n = chunk.rows as usize * field.tables().n_features() as usize;
            let values: Vec<f32> = (0..n).map(|_| random.symmetric(HASH_BOUND)).collect();
            gpu.write(&sparse.values[index], 0, &values);
            gpu.write(&sparse.averages[index], 0, &values);
        }
    }
}
