//! What all networks share: gradients of weights as sums over chunks of samples, added in a fixed order so that they are the
//! same on every run, and the transposed copy of the weights: `shaders/network/weight_gradients.wgsl`.

use super::{Layout, Rows, Weights};
use crate::gpu::{Buffer, Count, Counts, Defines, Gpu, GpuError, Groups, Stage};

/// Samples that one partial sum covers.
pub(super) const CHUNK: u32 = 512;
const FILE: &str = "network/weight_gradients";

/// Bytes of partial sums of a `width` by `rows` matrix over `capacity` samples.
pub(super) fn partial_bytes(capacity: u64, width: u32, rows: u32) -> u64 {
    capacity.div_ceil(u64::from(CHUNK)) * u64::from(width) * u64::from(rows) * 4
}

/// Part of a layer's matrix: where in the slab of gradients it starts, and what is multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    /// The layer's input, and how many of its columns.
    pub(super) input: (Rows<'a>, u32),
    /// Gradients of the layer's outputs, and how many columns.
    pub(super) d_output: (Rows<'a>, u32),
    /// First f32 in the slab.
    pub(super) offset: u32,
    /// f32 from row to row in the slab.
    pub(super) stride: u32,
    /// Column of the input that counts as 1, whatever it holds.
    pub(super) ones_at: Option<u32>,
}

/// Add: `gradients += d_output^T input` over `count` samples.
///
/// # Errors
/// Those of compilation and binding.
pub(super) fn accumulate(
    gpu: &Gpu,
    stage: &mut Stage,
    counts: &Counts,
    count: Count,
    block: &Block<'_>,
    partials: &Buffer,
    gradients: &Buffer,
) -> Result<(), GpuError> {
    let ((h, width), (d, rows)) = (block.input, block.d_output);
    // The larger side lies on the lanes, where four values share a load.
    let lanes_are_inputs = width >= rows;
    let (on_lanes, on_rows, lanes, n_rows) = if lanes_are_inputs {
        (h, d, width, rows)
    } else {
        (d, h, rows, width)
    };
    let ones = block.ones_at.map_or(-1, i64::from);
    let tile = [16, 12, 8, 4]
        .into_iter()
        .find(|b| n_rows % b == 0)
        .unwrap_or(4);
    let defines = Defines::new()
        .set("pass", "weights")
        .set("count", count.field())
        .set("lanes", lanes)
        .set("n_rows", n_rows)
        .set("block", tile)
        .set("chunk", CHUNK)
        .set("lanes_stride", on_lanes.stride)
        .set("lanes_offset", on_lanes.offset)
        .set("lanes_bias", if lanes_are_inputs { ones } else { -1 })
        .set("rows_stride", on_rows.stride)
        .set("rows_offset", on_rows.offset)
        .set("rows_bias", if lanes_are_inputs { -1 } else { ones });
    let bindings = [
        ("counts", &counts.state),
        ("lanes_operand", on_lanes.buffer),
        ("rows_operand", on_rows.buffer),
        ("partials", partials),
    ];
    let groups = counts.groups(gpu, count, CHUNK, n_rows / tile);
    stage.run(gpu, FILE, "weights", &defines, &bindings, groups)?;
    reduce(
        gpu,
        stage,
        counts,
        count,
        [lanes, n_rows],
        lanes_are_inputs,
        [block.offset, block.stride],
        partials,
        gradients,
    )
}

/// Add: the column of biases, `gradients += sum of d_output`, to a column of the slab that starts at f32 `offset` and
/// goes down rows of `stride`.
///
/// # Errors
/// Those of compilation and binding.
pub(super) fn accumulate_biases(
    gpu: &Gpu,
    stage: &mut Stage,
    counts: &Counts,
    count: Count,
    d_output: (Rows<'_>, u32),
    [offset, stride]: [u32; 2],
    partials: &Buffer,
    gradients: &Buffer,
) -> Result<(), GpuError> {
    let (d, rows) = d_output;
    let defines = Defines::new()
        .set("pass", "biases")
        .set("count", count.field())
        .set("lanes", rows)
        .set("chunk", CHUNK)
        .set("lanes_stride", d.stride)
        .set("lanes_offset", d.offset);
    let bindings = [
        ("counts", &counts.state),
        ("lanes_operand", d.buffer),
        ("partials", partials),
    ];
    let groups = counts.groups(gpu, count, CHUNK, 1);
    stage.run(gpu, FILE, "biases", &defines, &bindings, groups)?;
    reduce(
        gpu,
        stage,
        counts,
        count,
        [rows, 1],
        false,
        [offset, stride],
        partials,
        gradients,
    )
}

fn reduce(
    gpu: &Gpu,
    stage: &mut Stage,
    counts: &Counts,
    count: Count,
    [lanes, n_rows]: [u32; 2],
    lanes_are_inputs: bool,
    [offset, stride]: [u32; 2],
    partials: &Buffer,
    gradients: &Buffer,
) -> Result<(), GpuError> {
    let defines = Defines::new()
        .set("pass", "reduce")
        .set("count", count.field())
        .set("lanes", lanes)
        .set("n_rows", n_rows)
        .set("chunk", CHUNK)
        .set("lanes_are_inputs", lanes_are_inputs);
    // Layers of one shape share a kernel: where they lie is no part of its text.
    let place = gpu.uniform("weight gradients", &[offset, stride, 0, 0])?;
    let bindings = [
        ("counts", &counts.state),
        ("place", &place),
        ("partials", partials),
        ("gradients", gradients),
    ];
    let groups = Groups::covering(u64::from(lanes * n_rows), 64);
    stage.run(gpu, FILE, "reduce", &defines, &bindings, groups)?;
    Ok(())
}

/// Add: rewrite the transposed copy of the weights of `layout`.
///
/// # Errors
/// Those of compilation and binding.
pub(super) fn transpose(
    gpu: &Gpu,
    stage: &mut Stage,
    layout: &Layout,
    weights: &Weights,
) -> Result<(), GpuError> {
    for l in 0..layout.n_layers() {
        let (offset, width, rows) = (layout.offset(l), layout.width(l), layout.rows(l));
        let place = gpu.uniform("weights", &[offset, width, rows, 0])?;
        let bindings = [
            ("place", &place),
            ("weights", &weights.values),
            ("transposed", &weights.transposed),
        ];
        let defines = Defines::new().set("pass", "transpose");
        let groups = Groups::covering(u64::from(width * rows), 64);
        stage.run(gpu, FILE, "transpose", &defines, &bindings, groups)?;
    }
    Ok(())
}
