// Adam (Kingma and Ba 2015) with tiny-cuda-nn's changes, or plain gradient descent, which has no moments; with an exponential
// moving average of the weights.
//
// `dense` updates a range of a slab of network weights, four at a time. `cells` updates the networks of a grid that had
// samples, one workgroup per network; like the rows of a hash table, each has its own step counter. The norms of the layers
// of its colour network, biases included (padding is 0), may add to the loss. `sparse` updates the rows of a hash table: a row
// whose gradient is all zero is skipped and keeps its step counter; the average of a row that was skipped for k steps
// catches up at its next update (or in `export_ema`). See src/optimizer.rs.
#import common/grid_index
#import common/step

//: if pass == "dense"
var<storage, read_write> state: StepState;
var<storage, read_write> values: array<vec4<f32>>;
var<storage, read_write> gradients: array<vec4<f32>>;
//: if not is_sgd
var<storage, read_write> first_moments: array<vec4<f32>>;
var<storage, read_write> second_moments: array<vec4<f32>>;
//: endif
//: if averages
var<storage, read_write> averages: array<vec4<f32>>;
//: endif
//: elif pass == "cells"
var<storage, read_write> state: StepState;
var<storage, read_write> values: array<vec4<f32>>;
//: if overwrites_gradients
var<storage, read> gradients: array<vec4<f32>>;
//: else
var<storage, read_write> gradients: array<vec4<f32>>;
//: endif
//: if not is_sgd
var<storage, read_write> first_moments: array<vec4<f32>>;
var<storage, read_write> second_moments: array<vec4<f32>>;
//: endif
//: if averages
var<storage, read_write> averages: array<vec4<f32>>;
//: endif
//: if writes_transposed
var<storage, read_write> transposed: array<vec4<f32>>;
//: endif
var<storage, read> counters: array<vec2<u32>>;              // (networks) updates, step of the last one
var<storage, read> updated: array<u32>;                     // (networks) 1 where there were samples
//: elif pass == "count_cells"
var<storage, read> counts: StepState;
var<storage, read_write> counters: array<vec2<u32>>;
var<storage, read_write> updated: array<u32>;
//: elif pass == "export_ema_cells"
var<storage, read> counts: StepState;
var<storage, read> values: array<vec4<f32>>;
var<storage, read> averages: array<vec4<f32>>;
var<storage, read> counters: array<vec2<u32>>;
var<storage, read_write> exported: array<vec4<f32>>;         // the averages as of now
//: elif pass == "sparse"
var<storage, read_write> state: StepState;
var<storage, read_write> values: array<${row_type}>;        // (rows, parts)
var<storage, read_write> gradients: array<${int_type}>;     // (rows, parts) fixed point
//: if not is_sgd
var<storage, read_write> moments: array<${row_type}>;       // (rows, parts, 2)
//: endif
var<storage, read_write> averages: array<${row_type}>;      // (rows, parts)
var<storage, read_write> counters: array<vec2<u32>>;        // (rows) updates, step of the last one
var<storage, read> gradient_scales: array<f32>;             // (levels)
var<storage, read_write> largest: array<atomic<u32>>;       // (levels) largest |gradient| of this step, fixed point
//: else
var<storage, read> counts: StepState;
var<storage, read> values: array<${row_type}>;
var<storage, read> averages: array<${row_type}>;
var<storage, read> counters: array<vec2<u32>>;
var<storage, read_write> exported: array<${row_type}>;       // the averages as of now
//: endif

const BETA1: f32 = ${beta1};
const BETA2: f32 = ${beta2};
const EPSILON: f32 = ${epsilon};
const LR_FACTOR: f32 = ${learning_rate_factor};
const L2: f32 = ${l2_reg};
const EMA: f32 = ${ema_decay};

// The fraction of an average that remains after some steps; pow(0, 0) may be NaN.
fn ema_remaining(steps: u32) -> f32 {
    if (steps == 0u) { return 1.0; }
    return pow(EMA, f32(steps));
}

fn finite(v: vec4<f32>) -> bool {
    return all((bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u));
}

//: if pass == "dense" or pass == "cells"
// Step size and epsilon of update number t, with Adam's bias corrections.
fn rates(t: f32) -> vec2<f32> {
    let second = sqrt(1.0 - pow(BETA2, t));
    return vec2<f32>(state.learning_rate * LR_FACTOR * second / (1.0 - pow(BETA1, t)), EPSILON * second);
}

// Update weights 4i to 4i + 3. Their averages first move to the weights, keeping the fraction `idle` of themselves; `decay`
// times the weights adds to the gradient.
fn update(i: u32, rates: vec2<f32>, idle: f32, decay: f32) {
    let w = values[i];
    let g = gradients[i] + decay * w;
    //: if not overwrites_gradients
    gradients[i] = vec4<f32>(0.0);
    //: endif
    //: if is_sgd
    let next = w - state.learning_rate * LR_FACTOR * g;
    //: else
    let m = BETA1 * first_moments[i] + (1.0 - BETA1) * g;
    let v = BETA2 * second_moments[i] + (1.0 - BETA2) * g * g;
    let next = w - rates.x * m / (sqrt(v) + rates.y);
    //: endif
    // Check the weight too: a ReLU may hide a NaN weight from the loss.
    if (!finite(g) || !finite(next)) {
        atomicAdd(&state.non_finite, 1u);
        return;
    }
    //: if not is_sgd
    first_moments[i] = m;
    second_moments[i] = v;
    //: endif
    values[i] = next;
    //: if averages
    averages[i] = EMA * mix(w, averages[i], idle) + (1.0 - EMA) * next;
    //: endif
}
//: endif

//: if pass == "dense"
@compute @workgroup_size(64)
fn dense(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= ${n // 4}u) { return; }
    update(${first // 4}u + i, rates(f32(state.step - state.task_start + 1u)), 1.0, L2);
}
//: elif pass == "cells"
//: if writes_transposed
#import network/transpose

// Index of the first weight within a network, columns and rows of each layer.
const MATRICES: array<vec3<u32>, ${matrices | length}> = array<vec3<u32>, ${matrices | length}>(${matrices | join(", ")});
//: endif
//: set n_parts = parts | length
// First vec4 of the part of a network without a norm penalty, of each penalised layer, and of the part after them.
const PARTS: array<u32, ${n_parts + 1}> = array<u32, ${n_parts + 1}>(${parts | join("u, ")}u, ${n // 4}u);
//: if n_parts > 1
const NORM_REG: f32 = ${norm_reg};
var<workgroup> squares: array<f32, ${64 * n_parts}>;
var<workgroup> slopes: array<f32, ${n_parts}>;            // gradient of a part's norm per unit of its weights, times NORM_REG
//: endif

@compute @workgroup_size(64)
fn cells(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let network = linear_group(group);
    if (network >= ${networks}u || updated[network] == 0u) { return; }
    let counter = counters[network];
    let idle = ema_remaining(state.step - counter.y);
    let first = ${first // 4}u + network * ${network_stride // 4}u;
    let rates = rates(f32(counter.x + 1u));
    //: if n_parts > 1
    for (var p = 1u; p < ${n_parts}u; p++) {
        var sum = 0.0;
        for (var i = first + PARTS[p] + lane; i < first + PARTS[p + 1u]; i += 64u) { sum += dot(values[i], values[i]); }
        squares[p * 64u + lane] = sum;
    }
    workgroupBarrier();
    if (lane > 0u && lane < ${n_parts}u) {
        var sum = 0.0;
        for (var i = 0u; i < 64u; i++) { sum += squares[lane * 64u + i]; }
        slopes[lane] = NORM_REG / max(sqrt(sum), 1e-12);
    }
    workgroupBarrier();
    //: endif
    for (var p = 0u; p < ${n_parts}u; p++) {
        var decay = L2;
        //: if n_parts > 1
        if (p > 0u) { decay += slopes[p]; }
        //: endif
        for (var i = first + PARTS[p] + lane; i < first + PARTS[p + 1u]; i += 64u) { update(i, rates, idle, decay); }
    }
    //: if writes_transposed
    storageBarrier();
    for (var m = 0u; m < ${matrices | length}u; m++) {
        let matrix = MATRICES[m];
        for (var i = lane; i < matrix.y * matrix.z / 16u; i += 64u) { transpose_tile(4u * first + matrix.x, matrix.y, matrix.z, i); }
    }
    //: endif
}
//: elif pass == "count_cells"
@compute @workgroup_size(64)
fn count_cells(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let network = linear_group(group) * 64u + lane;
    if (network >= ${networks}u || updated[network] == 0u) { return; }
    counters[network] = vec2<u32>(counters[network].x + 1u, counts.step + 1u);
    updated[network] = 0u;
}
//: elif pass == "export_ema_cells"
@compute @workgroup_size(64)
fn export_ema_cells(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let network = linear_group(group);
    if (network >= ${networks}u) { return; }
    let idle = ema_remaining(counts.step - counters[network].y);
    let first = ${first // 4}u + network * ${network_stride // 4}u;
    for (var i = first + lane; i < first + ${n // 4}u; i += 64u) { exported[i] = values[i] + (averages[i] - values[i]) * idle; }
}
//: elif pass == "sparse"
const N_LEVELS: u32 = ${n_levels}u;
const FIRST_LEVEL: u32 = ${first_level}u;
const FIRST_ROWS: array<u32, ${n_levels}> = array<u32, ${n_levels}>(${first_rows | join("u, ")}u);
const PARTS: u32 = ${parts}u;
// A sum this large may overflow in the next step.
const NEAR_OVERFLOW: u32 = 0x40000000u;

@compute @workgroup_size(64)
fn sparse(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = linear_group(group) * 64u + lane;
    if (row >= ${n_rows}u) { return; }
    //: for p in range(parts)
    let i_${p} = gradients[row * PARTS + ${p}u];
    //: endfor
    var size = 0u;
    //: for p in range(parts)
    //: for f in range(lanes)
    size = max(size, u32(abs(i_${p}${component[f]})));
    //: endfor
    //: endfor
    if (size == 0u) { return; }
    var level = 0u;
    for (var l = 1u; l < N_LEVELS; l++) { level += select(0u, 1u, row >= FIRST_ROWS[l]); }
    if (atomicLoad(&largest[FIRST_LEVEL + level]) < size) { atomicMax(&largest[FIRST_LEVEL + level], size); }
    if (size >= NEAR_OVERFLOW) { atomicAdd(&state.saturated, 1u); }
    let unscale = 1.0 / gradient_scales[FIRST_LEVEL + level];
    let counter = counters[row];
    let t = f32(counter.x + 1u);
    counters[row] = vec2<u32>(counter.x + 1u, state.step + 1u);
    let rate = state.learning_rate * LR_FACTOR * sqrt(1.0 - pow(BETA2, t)) / (1.0 - pow(BETA1, t));
    let idle = ema_remaining(state.step - counter.y);
    //: for p in range(parts)
    {
        let at = row * PARTS + ${p}u;
        gradients[at] = ${int_type}(0);
        let w = values[at];
        let g = ${row_type}(i_${p}) * unscale;
        //: if is_sgd
        let next = w - state.learning_rate * LR_FACTOR * g;
        //: else
        let m = BETA1 * moments[2u * at] + (1.0 - BETA1) * g;
        let v = BETA2 * moments[2u * at + 1u] + (1.0 - BETA2) * g * g;
        moments[2u * at] = m;
        moments[2u * at + 1u] = v;
        let next = w - rate * m / (sqrt(v) + EPSILON * sqrt(1.0 - pow(BETA2, t)));
        //: endif
        values[at] = next;
        averages[at] = EMA * (w + (averages[at] - w) * idle) + (1.0 - EMA) * next;
    }
    //: endfor
}
//: else
@compute @workgroup_size(64)
fn export_ema(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = linear_group(group) * 64u + lane;
    if (row >= ${n_rows}u) { return; }
    let idle = ema_remaining(counts.step - counters[row].y);
    //: for p in range(parts)
    {
        let at = row * ${parts}u + ${p}u;
        exported[at] = values[at] + (averages[at] - values[at]) * idle;
    }
    //: endfor
}
//: endif
