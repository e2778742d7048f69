//! Kernels common to all networks: weight gradients, summed over chunks of samples in a fixed order so that all runs give the
//! same result, and the transposed copy of the weights: `shaders/network/weight_gradients.wgsl`.

use super::{Batch, Layout, Rows, Updated, Weights};
use crate::gpu::{Buffer, Defines, GpuError, Groups, Stage};
use crate::step_state::StepState;

/// Number of samples per partial sum.
pub(super) const CHUNK: u32 = 512;
const FILE: &str = "network/weight_gradients";

/// Size in bytes of the partial sums of a `width` × `rows` matrix over `capacity` samples.
pub(super) fn partial_bytes(capacity: u64, width: u32, rows: u32) -> u64 {
    capacity.div_ceil(u64::from(CHUNK)) * u64::from(width) * u64::from(rows) * 4
}

/// A block of a layer's weight gradients: its operands, and its location in the slab of gradients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    /// The layer's input, and the number of its columns to use.
    pub(super) input: (Rows<'a>, u32),
    /// Gradients of the layer's outputs, and the number of columns to use.
    pub(super) d_output: (Rows<'a>, u32),
    /// Offset of the first f32 in the slab.
    pub(super) offset: u32,
    /// Row stride in the slab, in f32.
    pub(super) stride: u32,
    /// Stride between the matrices of consecutive cells in f32, in a grid of networks.
    pub(super) network_stride: u32,
    /// Column of the input that is read as 1, regardless of its values.
    pub(super) bias_column: Option<u32>,
    /// Whether the gradients of a grid of networks overwrite the slab instead of adding to it.
    pub(super) overwrite: bool,
}

/// Add: `gradients += d_output^T input`, or `=` if `block.overwrite`, summed over the samples of `batch`. In a grid, each
/// network sums over its own samples.
pub(super) fn accumulate(
    stage: &mut Stage,
    batch: Batch<'_>,
    block: &Block<'_>,
    partials: &Buffer,
    gradients: &Buffer,
) -> Result<(), GpuError> {
    let ((h, width), (d, rows)) = (block.input, block.d_output);
    // Spread the larger dimension over the lanes, where four values share a load. In a grid, whose matrices are small, prefer
    // the dimension that leaves no lanes idle.
    let fills = |side: u32| side.is_multiple_of(32);
    let lanes_are_inputs = if batch.bins.is_some() && fills(width) != fills(rows) {
        fills(width)
    } else {
        width >= rows
    };
    let (on_lanes, on_rows, lanes, n_rows) = if lanes_are_inputs {
        (h, d, width, rows)
    } else {
        (d, h, rows, width)
    };
    let ones = block.bias_column.map_or(-1, i64::from);
    let tile = [16, 12, 8, 4]
        .into_iter()
        .find(|b| n_rows % b == 0)
        .unwrap_or(4);
    let defines = Defines::new()
        .set("pass", "weights")
        .set("count", batch.count.field())
        .set("cells", batch.bins.is_some())
        .set("network_stride", block.network_stride)
        .set("overwrite", block.overwrite)
        .set("lanes_are_inputs", lanes_are_inputs)
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
    let mut bindings = vec![
        ("counts", &batch.counts.state),
        ("lanes_operand", on_lanes.buffer),
        ("rows_operand", on_rows.buffer),
    ];
    let depth = n_rows / tile;
    if let Some(bins) = batch.bins {
        let place = stage
            .gpu()
            .uniform("weight gradients", &[block.offset, block.stride, 0, 0])?;
        bindings.extend([
            ("place", &place),
            ("visited", &bins.visited),
            ("bounds", &bins.bounds),
            ("gradients", gradients),
        ]);
        let groups = batch.counts.groups(StepState::CELLS, 1, depth);
        stage.run(FILE, "weights", &defines, &bindings, groups)?;
        return Ok(());
    }
    bindings.push(("partials", partials));
    let groups = batch.counts.groups(batch.count, CHUNK, depth);
    stage.run(FILE, "weights", &defines, &bindings, groups)?;
    reduce(
        stage,
        batch,
        [lanes, n_rows],
        lanes_are_inputs,
        [block.offset, block.stride],
        partials,
        gradients,
    )
}

/// Add: compute the bias gradients, `gradients += sum of d_output`, in the column of the slab that starts at f32 `offset` with
/// row stride `stride`.
pub(super) fn accumulate_biases(
    stage: &mut Stage,
    batch: Batch<'_>,
    d_output: (Rows<'_>, u32),
    [offset, stride]: [u32; 2],
    partials: &Buffer,
    gradients: &Buffer,
) -> Result<(), GpuError> {
    let (d, rows) = d_output;
    let defines = Defines::new()
        .set("pass", "biases")
        .set("count", batch.count.field())
        .set("lanes", rows)
        .set("chunk", CHUNK)
        .set("lanes_stride", d.stride)
        .set("lanes_offset", d.offset);
    let bindings = [
        ("counts", &batch.counts.state),
        ("lanes_operand", d.buffer),
        ("partials", partials),
    ];
    let groups = batch.counts.groups(batch.count, CHUNK, 1);
    stage.run(FILE, "biases", &defines, &bindings, groups)?;
    reduce(
        stage,
        batch,
        [rows, 1],
        false,
        [offset, stride],
        partials,
        gradients,
    )
}

fn reduce(
    stage: &mut Stage,
    batch: Batch<'_>,
    [lanes, n_rows]: [u32; 2],
    lanes_are_inputs: bool,
    [offset, stride]: [u32; 2],
    partials: &Buffer,
    gradients: &Buffer,
) -> Result<(), GpuError> {
    let defines = Defines::new()
        .set("pass", "reduce")
        .set("count", batch.count.field())
        .set("lanes", lanes)
        .set("n_rows", n_rows)
        .set("chunk", CHUNK)
        .set("lanes_are_inputs", lanes_are_inputs);
    // Layers of the same shape share a kernel, because their offsets are in a uniform.
    let place = stage
        .gpu()
        .uniform("weight gradients", &[offset, stride, 0, 0])?;
    let bindings = [
        ("counts", &batch.counts.state),
        ("place", &place),
        ("partials", partials),
        ("gradients", gradients),
    ];
    let groups = Groups::covering(u64::from(lanes * n_rows), 64);
    stage.run(FILE, "reduce", &defines, &bindings, groups)?;
    Ok(())
}

/// Add: update the transposed copy of the weights of `layout`; in a grid, only for the networks in `updated`, if given.
pub(super) fn transpose(
    stage: &mut Stage,
    layout: &Layout,
    weights: &Weights,
    updated: Option<Updated<'_>>,
) -> Result<(), GpuError> {
    for l in 0..layout.n_layers() {
        let (offset, width, rows) = (layout.offset(l), layout.width(l), layout.rows(l));
        let place = stage
            .gpu()
            .uniform("weights", &[offset, width, rows, layout.network_stride])?;
        let mut bindings = vec![
            ("place", &place),
            ("values", &weights.values),
            ("transposed", &weights.transposed),
        ];
        let is_grid = layout.is_grid();
        let updated = updated.filter(|_| is_grid);
        if let Some(Updated { counts, counters }) = updated {
            bindings.extend([("counts", &counts.state), ("counters", counters)]);
        }
        let defines = Defines::new()
            .set("pass", "transpose")
            .set("cells", is_grid)
            .set("n_networks", layout.n_networks)
            .set("only_updated", updated.is_some());
        let groups = if is_grid {
            Groups::covering(u64::from(layout.n_networks), 1)
        } else {
            Groups::covering(u64::from(width * rows / 16), 64)
        };
        stage.run(FILE, "transpose_layer", &defines, &bindings, groups)?;
    }
    Ok(())
}
