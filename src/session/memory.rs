//! Device memory that a run needs, and the speed of software adapters.

use crate::config::ResolvedConfig;
use crate::dataset::{Dataset, Frame, Mask};
use crate::distillation::{Distiller, Teacher};
use crate::gpu::{Gpu, GpuError};
use crate::text::bytes;
use crate::train::{MemoryPlan, plan};

/// Network operations (multiplications and additions) per second of a software adapter on two cores.
pub(crate) const SOFTWARE_SPEED: f64 = 15e9;

/// Device memory of a run, in bytes.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Memory {
    image_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher_bytes: Option<u64>,
    total_bytes: u64,
    plan: MemoryPlan,
}

/// Compute the device memory for training on `dataset` with a resolved configuration.
pub(crate) fn memory(
    gpu: &Gpu,
    config: &ResolvedConfig,
    dataset: &Dataset,
) -> Result<Memory, GpuError> {
    let plan = plan(gpu.profile(), config)?;
    let bytes = |frame: &Frame| {
        let camera = frame.camera.downscaled(dataset.downscale);
        let mask = frame.mask.as_ref();
        let mask = mask.map_or(0, |_| 8 * Mask::n_words(camera.width, camera.height));
        4 * u64::from(camera.width) * u64::from(camera.height) + mask
    };
    let image_bytes: u64 = dataset.train.iter().map(bytes).sum();
    Ok(Memory {
        image_bytes,
        teacher_bytes: None,
        total_bytes: image_bytes + plan.total_bytes(),
        plan,
    })
}

impl Memory {
    /// Add the memory that `teacher` needs during distillation.
    pub(crate) fn add_teacher(
        &mut self,
        gpu: &Gpu,
        config: &ResolvedConfig,
        teacher: &Teacher,
    ) -> Result<(), GpuError> {
        let teacher = Distiller::bytes(gpu.profile(), config, teacher, self.plan.capacities[0])?;
        self.teacher_bytes = Some(teacher);
        self.total_bytes += teacher;
        Ok(())
    }

    /// Return the total number of bytes.
    #[cfg(feature = "viewer")]
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Describe the memory in words.
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
