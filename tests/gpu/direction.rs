//! Direction encodings, written into their columns of the colour network's input.

use std::sync::Arc;

use kiln::config::DirectionEncoding;
use kiln::encoding::{encode_directions, n_direction_values};
use kiln::gpu::Gpu;
use kiln::network::Rows;

use crate::reference::encoding::{frequency::Frequency, spherical_harmonics};
use crate::reference::random::Pcg;
use crate::support::{GpuRay, Rig, assert_close, on_device, to_f64};

/// Check 150 samples on 40 rays, written to columns 8.. of rows with 12 additional columns.
fn check(
    gpu: &Arc<Gpu>,
    encoding: &DirectionEncoding,
    tolerance: f64,
    forward: impl Fn([f64; 3]) -> Vec<f64>,
) {
    let (n_rays, n_kept) = (40, 150);
    let mut pcg = Pcg::new(11);
    // The encoding uses `view_dir`, whatever the length of the direction.
    let rays: Vec<GpuRay> = (0..n_rays)
        .map(|_| GpuRay::new([0.0; 3], pcg.direction().map(|v| 3.0 * v)))
        .collect();
    let kept_rays: Vec<[u32; 2]> = (0..n_kept).map(|_| [pcg.next_u32() % n_rays, 0]).collect();
    let width = n_direction_values(encoding) as usize;
    let (stride, offset) = (width + 12, 8);
    let rig = Rig::new(gpu, n_rays as usize, 0, n_kept);
    let output = rig.buffer(&vec![5.0_f32; n_kept * stride]);
    let rows = Rows {
        buffer: &output,
        stride: stride as u32,
        offset: offset as u32,
    };
    let (rays_buffer, kept) = (rig.buffer(&rays), rig.buffer(&kept_rays));
    rig.run(|stage| encode_directions(stage, &rig.counts, encoding, &rays_buffer, &kept, rows));
    let expected: Vec<f64> = kept_rays
        .iter()
        .flat_map(|&[ray, _]| {
            let view_dir = to_f64(&rays[ray as usize].view_dir);
            let mut row = vec![5.0; stride];
            row[offset..offset + width].copy_from_slice(&forward([
                view_dir[0],
                view_dir[1],
                view_dir[2],
            ]));
            row
        })
        .collect();
    assert_close(
        &format!("{encoding:?}"),
        &rig.read(&output, n_kept * stride),
        &expected,
        tolerance,
    );
}

#[test]
fn spherical_harmonics_of_every_degree() {
    on_device(|gpu| {
        for degree in 1..=4 {
            let encoding = DirectionEncoding::SphericalHarmonics { degree };
            check(gpu, &encoding, 1e-6, |d| {
                spherical_harmonics::forward(degree as usize, d)
            });
        }
    });
}

#[test]
fn frequencies_up_to_the_tenth_octave() {
    on_device(|gpu| {
        for (n_frequencies, include_input, tolerance) in [(4, false, 1e-5), (10, true, 5e-5)] {
            let encoding = DirectionEncoding::Frequency {
                n_frequencies,
                include_input,
            };
            let reference = Frequency::powers_of_two(n_frequencies, include_input);
            check(gpu, &encoding, tolerance, |d| reference.forward(d));
        }
    });
}
