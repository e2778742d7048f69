//! The adapter's peak rates of arithmetic, copies and random reads, with which the stages are compared.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::super::Terminal;
use crate::gpu::{AdapterClass, Binding, Defines, Gpu, GpuError, Groups, Kernel, Stage};
use crate::session::run_log::SCHEMA;
use crate::session::{ObserverExt as _, Result};

/// The adapter's measured peak rates.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct PeakRates {
    pub(super) gflops: f64,
    pub(super) copy_gb_per_s: f64,
    pub(super) gather_m_per_s: f64,
}

/// Measure the adapter's peak rates and print them.
pub(super) fn report_peak(terminal: &Terminal, gpu: &Gpu) -> Result<PeakRates> {
    let peak = measure_peak(gpu)?;
    terminal.json(&serde_json::json!({ "schema": SCHEMA, "event": "peak", "device": gpu.name(), "gflops": peak.gflops, "copy_gb_per_s": peak.copy_gb_per_s, "gather_m_per_s": peak.gather_m_per_s }))?;
    terminal.result(format!(
        "peak: {:.1} GFLOP/s multiply-add in registers, {:.1} GB/s copy, {:.0} M random 8-byte reads/s",
        peak.gflops, peak.copy_gb_per_s, peak.gather_m_per_s
    ))?;
    Ok(peak)
}

/// Return the minimum time of `runs` + 1 runs of `stage`, in seconds.
fn best_of(gpu: &Gpu, stage: &Stage, runs: u32) -> Result<f64, GpuError> {
    let mut best = f64::INFINITY;
    for _ in 0..=runs {
        let start = Instant::now();
        gpu.submit([stage]);
        gpu.wait()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn measure_peak(gpu: &Gpu) -> Result<PeakRates, GpuError> {
    const ITERATIONS: u64 = 512;
    const THREADS: u64 = 1 << 16;
    const COPIED: u64 = 64 << 20;
    const ROWS: u64 = 1 << 19;
    // On a GPU, enough work to make the cost of a submission negligible.
    let (scale, repeats) = match gpu.class() {
        AdapterClass::Software => (1, 1),
        AdapterClass::Integrated => (16, 4),
        AdapterClass::Discrete => (16, 32),
    };
    let threads = THREADS * scale;
    let result = gpu.buffer("peak result", threads * 16)?;
    let kernel = |pass: &str| {
        let defines = Defines::new()
            .set("pass", pass)
            .set("iterations", ITERATIONS)
            .set("rows", ROWS);
        gpu.kernel("entry/bench_peak", pass, &defines)
    };
    let repeated = |name, kernel: &Arc<Kernel>, bindings: &[Binding<'_>], items| {
        let mut stage = gpu.stage(name);
        for _ in 0..repeats {
            stage.dispatch(kernel, bindings, Groups::covering(items, 64))?;
        }
        best_of(gpu, &stage, 4).map(|seconds| seconds / f64::from(repeats))
    };
    let bindings = [("result", &result)];
    let arithmetic = repeated(
        "peak arithmetic",
        &kernel("arithmetic")?,
        &bindings,
        threads,
    )?;
    let (from, to) = (
        gpu.buffer("copy from", COPIED)?,
        gpu.buffer("copy to", COPIED)?,
    );
    let bindings = [("from_here", &from), ("to_there", &to)];
    let copy = repeated("peak copy", &kernel("copy")?, &bindings, COPIED / 16)?;
    let table = gpu.buffer("gather table", ROWS * 8)?;
    let bindings = [("table", &table), ("result", &result)];
    let gather = repeated("peak gather", &kernel("gather")?, &bindings, threads)?;
    Ok(PeakRates {
        gflops: (threads * ITERATIONS * 8 * 4 * 2) as f64 / arithmetic / 1e9,
        copy_gb_per_s: (2 * COPIED) as f64 / copy / 1e9,
        gather_m_per_s: (threads * 8) as f64 / gather / 1e6,
    })
}
