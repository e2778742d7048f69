//! The weights of `tests/fixtures/lpips/make_lpips.py`, by the same formula.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

/// Convolutions as (slice, index in the classifier, inputs, outputs, side), and the number of channels after each slice.
type Layers = (&'static [(usize, usize, usize, usize, usize)], [usize; 5]);

const ALEX: Layers = (
    &[
        (1, 0, 3, 64, 11),
        (2, 3, 64, 192, 5),
        (3, 6, 192, 384, 3),
        (4, 8, 384, 256, 3),
        (5, 10, 256, 256, 3),
    ],
    [64, 192, 384, 256, 256],
);

const VGG: Layers = (
    &[
        (1, 0, 3, 64, 3),
        (1, 2, 64, 64, 3),
        (2, 5, 64, 128, 3),
        (2, 7, 128, 128, 3),
        (3, 10, 128, 256, 3),
        (3, 12, 256, 256, 3),
        (3, 14, 256, 256, 3),
        (4, 17, 256, 512, 3),
        (4, 19, 512, 512, 3),
        (4, 21, 512, 512, 3),
        (5, 24, 512, 512, 3),
        (5, 26, 512, 512, 3),
        (5, 28, 512, 512, 3),
    ],
    [64, 128, 256, 512, 512],
);

/// Return the pseudorandom sequence with seed `name`: multiples of 2^-24 in [0, 1).
pub fn uniform(name: &str) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(2_166_136_261_u32, |seed, byte| {
        (seed ^ u32::from(byte)).wrapping_mul(16_777_619)
    });
    (0_u32..).map(move |i| {
        let mut x = i.wrapping_mul(0x9E37_79B9).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        f64::from(x >> 8) / f64::from(1 << 24)
    })
}

/// A tensor of a weights file.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name, as in the `lpips` package.
    pub name: String,
    /// Shape, as in `PyTorch`.
    pub shape: Vec<usize>,
    /// Values, in row-major order.
    pub values: Vec<f32>,
}

fn tensor(name: String, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    let fan_in: usize = shape[1..].iter().product();
    let bound = (6.0 / fan_in as f64).sqrt();
    let value = |u: f64| {
        let value = if name.starts_with("lin") {
            4.0 * u
        } else if shape.len() == 1 {
            (2.0 * u - 1.0) / 8.0
        } else {
            (2.0 * u - 1.0) * bound
        };
        value as f32
    };
    Tensor {
        values: uniform(&name).take(n).map(value).collect(),
        shape: shape.to_vec(),
        name,
    }
}

/// Return the tensors of `alex` or `vgg`.
pub fn weights(network: &str) -> Vec<Tensor> {
    let (convolutions, channels) = if network == "alex" { ALEX } else { VGG };
    let mut tensors = Vec::new();
    for &(slice, layer, inputs, outputs, side) in convolutions {
        let name = format!("net.slice{slice}.{layer}");
        tensors.push(tensor(
            format!("{name}.weight"),
            &[outputs, inputs, side, side],
        ));
        tensors.push(tensor(format!("{name}.bias"), &[outputs]));
    }
    for (index, channels) in channels.into_iter().enumerate() {
        tensors.push(tensor(
            format!("lin{index}.model.1.weight"),
            &[1, channels, 1, 1],
        ));
    }
    tensors
}

/// Write `tensors` as safetensors.
pub fn write(path: &Path, tensors: &[Tensor]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(t, bytes)| {
        let view = TensorView::new(Dtype::F32, t.shape.clone(), bytes).unwrap();
        (&t.name, view)
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
