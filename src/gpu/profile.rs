//! Timing of individual stages.

use std::time::Instant;

use super::context::Gpu;
use super::error::GpuError;
use super::stage::Stage;

/// Duration of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageTime {
    /// The stage's name.
    pub name: &'static str,
    /// Seconds between device timestamps if the device supports them, else wall-clock seconds.
    pub seconds: f64,
}

/// Run `stages` once, in order, and time each. Blocks; for `kiln bench` and reports.
pub fn time_stages(gpu: &Gpu, stages: &[&Stage]) -> Result<Vec<StageTime>, GpuError> {
    if gpu.has(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS) {
        by_timestamps(gpu, stages)
    } else {
        by_wall(gpu, stages)
    }
}

fn by_wall(gpu: &Gpu, stages: &[&Stage]) -> Result<Vec<StageTime>, GpuError> {
    gpu.wait()?;
    let mut times = Vec::with_capacity(stages.len());
    for stage in stages {
        let start = Instant::now();
        gpu.submit([*stage]);
        gpu.wait()?;
        times.push(StageTime {
            name: stage.name,
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    Ok(times)
}

fn by_timestamps(gpu: &Gpu, stages: &[&Stage]) -> Result<Vec<StageTime>, GpuError> {
    let count = u32::try_from(stages.len() + 1).unwrap_or(u32::MAX);
    let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("profile"),
        ty: wgpu::QueryType::Timestamp,
        count,
    });
    let bytes = u64::from(count) * 8;
    let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("profile"),
        size: bytes,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let times = gpu.buffer("profile times", bytes)?;
    let mut encoder = gpu
        .device
        .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.write_timestamp(&queries, 0);
    for (stage, index) in stages.iter().zip(1..) {
        stage.record(&mut encoder);
        encoder.write_timestamp(&queries, index);
    }
    encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
    encoder.copy_buffer_to_buffer(&resolved, 0, times.raw(), 0, bytes);
    gpu.enqueue(encoder);
    let ticks = gpu.read::<u64>(&times, 0, stages.len() + 1)?;
    let nanoseconds = f64::from(gpu.queue.get_timestamp_period());
    let seconds = |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * nanoseconds * 1e-9;
    Ok(stages
        .iter()
        .zip(ticks.windows(2))
        .map(|(stage, pair)| StageTime {
            name: stage.name,
            seconds: seconds(pair),
        })
        .collect())
}
