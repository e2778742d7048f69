//! What the tests share: the devices, a rig that runs stages over given counts, and comparisons that name the worst
//! element.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytemuck::{Pod, Zeroable};
use kiln::gpu::{Buffer, Counts, Gpu, GpuError, GpuOptions, Stage, StepState};

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

/// Runs `test` on the default device with all the features kiln uses.
pub fn on_device(test: impl FnOnce(&Arc<Gpu>)) {
    let _guard = exclusively();
    match open(&FULL, false) {
        Some(gpu) => test(&gpu),
        None => println!("skipped: no GPU adapter"),
    }
}

/// Runs `test` on that device and on one with WebGPU's default limits and no feature, whose kernels have another text.
pub fn on_both_devices(test: impl Fn(&Arc<Gpu>)) {
    on_device(&test);
    let _guard = exclusively();
    if let Some(gpu) = open(&BASE, true) {
        test(&gpu);
    }
}

/// Counts on the device, and what runs stages that depend on them.
pub struct Rig {
    pub gpu: Arc<Gpu>,
    pub counts: Counts,
}

impl Rig {
    /// All counts of rays and samples as given, nothing else set.
    pub fn new(gpu: &Arc<Gpu>, rays: usize, marched: usize, kept: usize) -> Self {
        let rig = Self {
            gpu: Arc::clone(gpu),
            counts: Counts::new(gpu, "test").unwrap(),
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

    /// Runs what `add` puts into a stage, after the indirect arguments it relies on.
    pub fn run(&self, add: impl FnOnce(&mut Stage) -> Result<(), GpuError>) {
        let mut stage = Stage::new("test");
        add(&mut stage).unwrap();
        self.submit(&[&stage]);
    }

    pub fn submit(&self, stages: &[&Stage]) {
        let mut publish = Stage::new("publish");
        self.counts.publish(&self.gpu, &mut publish).unwrap();
        self.gpu
            .submit(std::iter::once(&publish).chain(stages.iter().copied()));
        self.gpu.wait().unwrap();
    }

    pub fn buffer<T: Pod>(&self, data: &[T]) -> Buffer {
        self.gpu.buffer_with("test", data).unwrap()
    }

    /// f32 copies of `data`.
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

/// `samples` as the kernels read them: position and dt.
pub fn samples(positions: &[[f64; 3]], dt: f64) -> Vec<f32> {
    positions
        .iter()
        .flat_map(|p| [p[0] as f32, p[1] as f32, p[2] as f32, dt as f32])
        .collect()
}

/// Rows of `stride` values, `row` at column `offset` of each and `around` everywhere else, padded to whole chunks of 512
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

/// Uniform rows in `+-bound`.
pub fn random_rows(pcg: &mut Pcg, n: usize, width: usize, bound: f64) -> Vec<Vec<f64>> {
    (0..n)
        .map(|_| pcg.uniform_vec(width, -bound, bound))
        .collect()
}

/// The largest error relative to the largest expected value, and where it is.
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

/// Every element within `tolerance` of the expected one, relative to the largest expected one.
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
