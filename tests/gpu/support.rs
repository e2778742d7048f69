//! Shared helpers: the devices, a rig that runs stages with given counts, and comparisons that name the worst element.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytemuck::{Pod, Zeroable};
use kiln::aabb::Aabb;
use kiln::camera::Camera;
use kiln::checkpoint;
use kiln::dataset::OpenOptions;
use kiln::gpu::{Buffer, Counts, Gpu, GpuError, GpuOptions, Stage};
use kiln::network::Layout;
use kiln::step_state::StepState;
use kiln::train::Trainer;

use crate::reference::network::fused::Layer;
use crate::reference::random::Pcg;

type Opened = OnceLock<Option<Arc<Gpu>>>;

static FULL: Opened = OnceLock::new();
static BASE: Opened = OnceLock::new();
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn open(cell: &Opened, base_path: bool) -> Option<Arc<Gpu>> {
    cell.get_or_init(|| {
        match Gpu::open(&GpuOptions {
            device: None,
            base_path,
            class: None,
            // Without run-time checks, a software driver crashes on a stray index; the base path has them.
            checked: Some(base_path),
        }) {
            Ok(gpu) => Some(gpu),
            Err(GpuError::NoAdapter) if std::env::var("KILN_REQUIRE_GPU").as_deref() != Ok("1") => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    })
    .clone()
}

fn exclusively() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Run `test` on the default device with all features that kiln uses.
pub fn on_device(test: impl FnOnce(&Arc<Gpu>)) {
    let _guard = exclusively();
    match open(&FULL, false) {
        Some(gpu) => test(&gpu),
        None => println!("skipped: no GPU adapter"),
    }
}

/// Run `test` on the default device, and on one with WebGPU's default limits and no features, for which the kernel texts
/// differ.
pub fn on_both_devices(test: impl Fn(&Arc<Gpu>)) {
    on_device(&test);
    let _guard = exclusively();
    if let Some(gpu) = open(&BASE, true) {
        test(&gpu);
    }
}

/// Counts on the device, and methods that run stages with them.
pub struct Rig {
    pub gpu: Arc<Gpu>,
    pub counts: Counts,
}

impl Rig {
    /// Return a rig with these numbers of rays and samples and seed 1; all other counts are 0.
    pub fn new(gpu: &Arc<Gpu>, rays: usize, marched: usize, kept: usize) -> Self {
        let rig = Self {
            gpu: Arc::clone(gpu),
            counts: StepState::counts(gpu, "test").unwrap(),
        };
        rig.set(StepState {
            seed: 1,
            n_rays: rays as u32,
            n_rays_fitting: rays as u32,
            n_marched: marched as u32,
            n_kept: kept as u32,
            ..StepState::zeroed()
        });
        rig
    }

    pub fn set(&self, state: StepState) {
        self.gpu.write(&self.counts.state, 0, &[state]);
    }

    pub fn state(&self) -> StepState {
        self.gpu.read(&self.counts.state, 0, 1).unwrap()[0]
    }

    /// Run the stage that `add` fills, after writing the indirect arguments that it needs.
    pub fn run(&self, add: impl FnOnce(&mut Stage) -> Result<(), GpuError>) {
        let mut stage = self.gpu.stage("test");
        add(&mut stage).unwrap();
        self.submit(&[&stage]);
    }

    pub fn submit(&self, stages: &[&Stage]) {
        let mut publish = self.gpu.stage("publish");
        self.counts.publish(&mut publish).unwrap();
        self.gpu
            .submit(std::iter::once(&publish).chain(stages.iter().copied()));
        self.gpu.wait().unwrap();
    }

    pub fn buffer<T: Pod>(&self, data: &[T]) -> Buffer {
        self.gpu.buffer_with("test", data).unwrap()
    }

    /// Return a buffer with f32 copies of `data`.
    pub fn floats(&self, data: &[f64]) -> Buffer {
        self.buffer(&to_f32(data))
    }

    pub fn zeros(&self, n: usize) -> Buffer {
        self.buffer(&vec![0_u32; n])
    }

    pub fn read<T: Pod>(&self, buffer: &Buffer, n: usize) -> Vec<T> {
        self.gpu.read(buffer, 0, n).unwrap()
    }
}

/// Mirror of `Ray` in `shaders/common/ray.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct GpuRay {
    pub origin: [f32; 3],
    pub t_min: f32,
    pub direction: [f32; 3],
    pub t_max: f32,
    pub view_dir: [f32; 3],
    pub image: u32,
    pub background: [f32; 3],
    pub pixel: u32,
}

impl GpuRay {
    pub fn new(origin: [f64; 3], direction: [f64; 3]) -> Self {
        let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
        Self {
            origin: origin.map(|v| v as f32),
            direction: direction.map(|v| v as f32),
            view_dir: direction.map(|v| (v / length) as f32),
            t_max: 1e10,
            ..Self::zeroed()
        }
    }
}

pub fn to_f32(data: &[f64]) -> Vec<f32> {
    data.iter().map(|&v| v as f32).collect()
}

pub fn to_f64(data: &[f32]) -> Vec<f64> {
    data.iter().map(|&v| f64::from(v)).collect()
}

/// Return samples in the layout of the kernels: position and dt.
pub fn samples(positions: &[[f64; 3]], dt: f64) -> Vec<f32> {
    positions
        .iter()
        .flat_map(|p| [p[0] as f32, p[1] as f32, p[2] as f32, dt as f32])
        .collect()
}

/// Return rows of `stride` values: `rows` from column `offset` on, and `around` everywhere else, padded to a multiple of 512
/// rows as the kernels require.
pub fn strided(rows: &[Vec<f64>], stride: u32, offset: u32, around: f32) -> Vec<f32> {
    let (stride, offset) = (stride as usize, offset as usize);
    let mut out = vec![around; rows.len().next_multiple_of(512) * stride];
    for (i, row) in rows.iter().enumerate() {
        for (to, v) in out[i * stride + offset..].iter_mut().zip(row) {
            *to = *v as f32;
        }
    }
    out
}

/// Return rows of values uniform in `+-bound`.
pub fn random_rows(pcg: &mut Pcg, n: usize, width: usize, bound: f64) -> Vec<Vec<f64>> {
    (0..n)
        .map(|_| pcg.uniform_vec(width, -bound, bound))
        .collect()
}

/// Write copy `copy` of a network's layers to its position in `slab`.
pub fn pack_layers(layout: &Layout, copy: usize, layers: &[Layer], slab: &mut [f64]) {
    for (l, layer) in layers.iter().enumerate() {
        let n_in = layout.inputs(l) as usize;
        for (o, row) in layer.weights.chunks_exact(n_in).enumerate() {
            let first = layout.offset(l) + layout.row_of(l, o as u32) * layout.width(l);
            let at = copy * layout.network_stride as usize + first as usize;
            slab[at..at + n_in].copy_from_slice(row);
            if let Some(bias) = layer.biases.get(o) {
                slab[at + n_in] = *bias;
            }
        }
    }
}

/// Save a checkpoint of `trainer`, with an arbitrary dataset name.
pub fn save_checkpoint(path: &Path, gpu: &Gpu, trainer: &Trainer) {
    let source = checkpoint::DataSource {
        dataset: "test",
        opening: OpenOptions::default(),
        train_views: &[],
        fingerprint: "",
        image_fingerprint: "",
        held_out_fingerprint: "",
    };
    checkpoint::save(path, gpu, trainer, &source).unwrap();
}

/// Return the part of `range` in which the ray through pixel (x, y) of `camera` is inside `crop`; empty if the start is not
/// below the end.
pub fn crop_range(camera: &Camera, crop: &Aabb, x: u32, y: u32, mut range: [f64; 2]) -> [f64; 2] {
    let (origin, direction) = camera.ray(x as f32 + 0.5, y as f32 + 0.5);
    for a in 0..3 {
        let faces = [crop.low[a], crop.high[a]].map(|v| (v - origin[a]) / direction[a]);
        range[0] = range[0].max(faces[0].min(faces[1]));
        range[1] = range[1].min(faces[0].max(faces[1]));
    }
    range
}

/// Return the linear value of an sRGB value.
pub fn linear_from_srgb(v: f64) -> f64 {
    if v <= 0.04045 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}

/// Return the sRGB value of a linear value, and its derivative.
pub fn srgb_from_linear(v: f64) -> (f64, f64) {
    if v <= 0.003_130_8 {
        (12.92 * v.max(0.0), 12.92)
    } else {
        (
            1.055 * v.powf(1.0 / 2.4) - 0.055,
            1.055 / 2.4 * v.powf(1.0 / 2.4 - 1.0),
        )
    }
}

/// Return the index of the largest error, and the error relative to the largest expected value.
fn worst(actual: &[f32], expected: &[f64]) -> (usize, f64) {
    let scale = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let error = |i: usize| {
        let error = (f64::from(actual[i]) - expected[i]).abs();
        if error.is_finite() {
            error / scale
        } else {
            f64::INFINITY
        }
    };
    (0..expected.len())
        .map(|i| (i, error(i)))
        .fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a })
}

/// Check that every element is within `tolerance` of the expected one, relative to the largest expected one.
#[track_caller]
pub fn assert_close(name: &str, actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}: lengths");
    assert!(
        expected.iter().any(|v| *v != 0.0),
        "{name}: nothing to compare with, everything expected is 0"
    );
    let (at, error) = worst(actual, expected);
    assert!(
        error <= tolerance,
        "{name}[{at}] of {}: {:e}, expected {:e}: error {error:.2e} of the largest, allowed {tolerance:.0e}",
        expected.len(),
        actual[at],
        expected[at]
    );
}

#[test]
fn a_comparison_accepts_rounding() {
    assert_close("x", &[1.0, 2.000_001], &[1.0, 2.0], 1e-6);
}

#[test]
#[should_panic(expected = "x[1] of 2")]
fn a_comparison_refuses_a_wrong_element() {
    assert_close("x", &[1.0, 2.01], &[1.0, 2.0], 1e-3);
}

#[test]
#[should_panic(expected = "x[0] of 2")]
fn a_comparison_refuses_nan() {
    assert_close("x", &[f32::NAN, 2.0], &[1.0, 2.0], 1e-3);
}
