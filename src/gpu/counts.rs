//! What the kernels of a step share: the [`StepState`] on the device, and the table of indirect dispatches that a
//! kernel fills from its counts so that the host never waits for them.

use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::{Pod, Zeroable};

use super::buffer::Buffer;
use super::context::Gpu;
use super::error::GpuError;
use super::kernel::{Groups, Kernel, Stage};
use super::shader::Defines;

/// Mirror of `StepState` in `shaders/common/step.wgsl`; see there for the fields.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[expect(
    missing_docs,
    reason = "documented in the WGSL struct, whose offsets a test compares"
)]
pub struct StepState {
    pub step: u32,
    pub seed: u32,
    pub n_rays: u32,
    pub n_marched: u32,
    pub n_kept: u32,
    pub n_rays_fitting: u32,
    pub n_rays_total: u32,
    pub n_kept_total: u32,
    pub n_marched_total: u32,
    pub next_rays: u32,
    pub loss: f32,
    pub squared_error: f32,
    pub learning_rate: f32,
    pub non_finite: u32,
    pub saturated: u32,
    pub occupancy_phase: u32,
    pub n_tiles: u32,
    pub n_cells: u32,
    pub most_samples: u32,
    pub task: u32,
    pub task_start: u32,
}

/// A count in [`StepState`] that decides how many workgroups a dispatch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// `n_rays`
    Rays,
    /// `n_marched`
    Marched,
    /// `n_kept`
    Kept,
    /// `n_tiles`
    Tiles,
    /// `n_cells`
    Cells,
}

impl Count {
    /// The field's name in WGSL.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Rays => "n_rays",
            Self::Marched => "n_marched",
            Self::Kept => "n_kept",
            Self::Tiles => "n_tiles",
            Self::Cells => "n_cells",
        }
    }
}

/// What one workgroup of `shaders/entry/publish.wgsl` handles.
const CAPACITY: usize = 128;

/// The device's counts together with the indirect arguments derived from them.
#[derive(Debug, Clone)]
pub struct Counts {
    /// One [`StepState`].
    pub state: Buffer,
    arguments: Buffer,
    table: Buffer,
    publish: Arc<Kernel>,
    entries: Arc<Mutex<Vec<[u32; 4]>>>,
}

impl Counts {
    /// Zeroed counts.
    pub fn new(gpu: &Gpu, label: &str) -> Result<Self, GpuError> {
        Ok(Self {
            state: gpu.buffer(&format!("{label} state"), size_of::<StepState>() as u64)?,
            arguments: gpu.buffer(&format!("{label} indirect arguments"), CAPACITY as u64 * 16)?,
            table: gpu.buffer(&format!("{label} indirect table"), CAPACITY as u64 * 16)?,
            publish: Kernel::new(gpu, "entry/publish", "publish", &Defines::new())?,
            entries: Arc::default(),
        })
    }

    /// A dispatch of as many workgroups of `size` as cover `count` in x and y, times `depth` in z.
    pub fn groups(&self, gpu: &Gpu, count: Count, size: u32, depth: u32) -> Groups {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = [count as u32 + 1, size, depth, 0];
        let index = entries.iter().position(|e| *e == entry).unwrap_or_else(|| {
            if entries.len() == CAPACITY {
                gpu.raise(GpuError::Validation {
                    reason: "the table of indirect dispatches is full".to_owned(),
                });
                return 0;
            }
            entries.push(entry);
            gpu.write(&self.table, (entries.len() as u64 - 1) * 16, &entry);
            entries.len() - 1
        });
        Groups::Indirect(self.arguments.clone(), index as u64 * 16)
    }

    /// Add: derive the arguments of all dispatches over `count` from its present value.
    pub fn publish(&self, gpu: &Gpu, stage: &mut Stage) -> Result<(), GpuError> {
        let bindings = [
            ("state", &self.state),
            ("table", &self.table),
            ("arguments", &self.arguments),
        ];
        stage.dispatch(gpu, &self.publish, &bindings, Groups::Direct([1, 1, 1]))?;
        Ok(())
    }
}
