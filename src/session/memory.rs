//! What a run takes on the device, and how fast software adapters are.

use crate::config::Config;
use crate::dataset::Dataset;
use crate::distillation::{Distiller, Teacher};
use crate::gpu::{Gpu, GpuError};
use crate::text::bytes;
use crate::train::{MemoryPlan, plan};

/// What a software adapter does of networks on two cores, in operations per second.
pub(crate) const SOFTWARE_SPEED: f64 = 15e9;

/// What a run will take on the device.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Memory {
    image_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher_bytes: Option<u64>,
    total_bytes: u64,
    plan: MemoryPlan,
}

/// The memory that training on `dataset` takes under a resolved configuration.
pub(crate) fn memory(gpu: &Gpu, config: &Config, dataset: &Dataset) -> Result<Memory, GpuError> {
    let plan = plan(gpu, config)?;
    let pixels: u64 = dataset
        .train
        .iter()
        .map(|f| f.camera.downscaled(dataset.downscale))
        .map(|c| u64::from(c.width) * u64::from(c.height))
        .sum();
    Ok(Memory {
        image_bytes: pixels * 4,
        teacher_bytes: None,
        total_bytes: pixels * 4 + plan.total_bytes(),
        plan,
    })
}

impl Memory {
    /// Count what `teacher` takes while it teaches.
    pub(crate) fn add_teacher(&mut self, gpu: &Gpu, config: &Config, teacher: &Teacher) {
        let teacher = Distiller::bytes(gpu, config, teacher, self.plan.capacities[0].kept);
        self.teacher_bytes = Some(teacher);
        self.total_bytes += teacher;
    }

    /// Bytes of all of it.
    #[cfg(feature = "viewer")]
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let plan = &self.plan;
        format!(
            "about {} on the device ({} images, {} parameters, {} batch, {} occupancy, {} rendering{}){}",
            bytes(self.total_bytes),
            bytes(self.image_bytes),
            bytes(plan.parameter_bytes),
            bytes(plan.batch_bytes),
            bytes(plan.occupancy_bytes),
            bytes(plan.rendering_bytes),
            self.teacher_bytes
                .map(|teacher| format!(", {} teacher", bytes(teacher)))
                .unwrap_or_default(),
            if plan.micro_batches > 1 {
                format!(", in {} micro-batches", plan.micro_batches)
            } else {
                String::new()
            },
        )
    }
}
