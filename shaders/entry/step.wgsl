// The small kernels between the stages of a step: they turn totals into counts, adapt the ray count and the gradient scales,
// and record the history. See src/step_state.rs and src/train/mod.rs.
#import common/step
//: if pass == "end_batch"
#import common/ray_loss
//: endif

var<storage, read_write> state: StepState;
//: if pass == "rescale"
var<storage, read_write> gradient_scales: array<f32>;     // (levels)
var<storage, read_write> largest: array<u32>;             // (levels)
//: elif pass == "marched"
var<storage, read> ray_offsets: array<u32>;               // (n_rays + 1)
//: elif pass == "kept"
var<storage, read> kept_offsets: array<u32>;              // (n_rays + 1)
//: elif pass == "end_batch"
var<storage, read> ray_losses: array<RayLoss>;            // (n_rays)
//: elif pass == "next_task"
var<storage, read_write> outer: StepState;                // counts outer steps
//: elif pass == "end_step"
// (ring, 2): loss, squared error, rays, kept samples; marched samples, learning rate, non-finite values, saturated gradients.
var<storage, read_write> history: array<vec4<f32>>;
//: endif

//: if pass == "rescale"
@compute @workgroup_size(64)
fn rescale(@builtin(local_invocation_index) lane: u32) {
    // Keep the largest sum of each level near 2^26: the next step's may be 16 times as large before it is reported, and
    // 32 times before it wraps. One step with few gradients must not exhaust that margin: scales fall faster than they rise.
    for (var level = lane; level < ${n_levels}u; level += 64u) {
        let size = largest[level];
        if (size > 0u) {
            let bits = 32i - i32(countLeadingZeros(size));
            let shift = clamp(26i - bits, -8i, 4i);
            gradient_scales[level] = clamp(gradient_scales[level] * exp2(f32(shift)), 1.0, 18446744073709551616.0);
        }
        largest[level] = 0u;
    }
}
//: elif pass == "begin_step"
@compute @workgroup_size(1)
fn begin_step() {
    state.n_rays = state.next_rays;
    state.n_rays_total = 0u;
    state.n_kept_total = 0u;
    state.n_marched_total = 0u;
    state.loss = 0.0;
    state.squared_error = 0.0;
    let step = state.step - state.task_start;
    var rate = ${learning_rate};
    //: if decay_interval > 0
    if (step >= ${decay_start}u) {
        let steps = min(step, ${decay_end}u) - ${decay_start}u;
        //: if staircase
        rate *= pow(${decay_base}, f32(steps / ${decay_interval}u + 1u));
        //: else
        rate *= pow(${decay_base}, f32(steps) / ${decay_interval}.0);
        //: endif
    }
    //: endif
    //: if warmup_steps > 0
    rate *= min(f32(step + 1u) / ${warmup_steps}.0, 1.0);
    //: endif
    state.learning_rate = rate;
}
//: elif pass == "marched"
// Count the rays whose samples fit: offsets are non-decreasing, so bisect.
@compute @workgroup_size(1)
fn marched() {
    var fitting = ${n_rays};
    if (ray_offsets[fitting] > ${capacity}u) {
        var low = 0u;
        while (fitting - low > 1u) {
            let middle = (low + fitting) / 2u;
            if (ray_offsets[middle] > ${capacity}u) { fitting = middle; } else { low = middle; }
        }
        fitting = low;
    }
    state.n_rays_fitting = fitting;
    state.n_marched = ray_offsets[fitting];
    state.n_marched_total += ray_offsets[state.n_rays];
    //: if keeps_all
    state.n_kept = state.n_marched;
    state.n_kept_total += state.n_kept;
    //: endif
}
//: elif pass == "kept"
@compute @workgroup_size(1)
fn kept() {
    var fitting = state.n_rays_fitting;
    if (kept_offsets[fitting] > ${capacity}u) {
        var low = 0u;
        while (fitting - low > 1u) {
            let middle = (low + fitting) / 2u;
            if (kept_offsets[middle] > ${capacity}u) { fitting = middle; } else { low = middle; }
        }
        fitting = low;
    }
    state.n_rays_fitting = fitting;
    state.n_kept = kept_offsets[fitting];
    state.n_kept_total += state.n_kept;
}
//: elif pass == "end_batch"
var<workgroup> sh_sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn end_batch(@builtin(local_invocation_index) lane: u32) {
    let share = (state.n_rays + 255u) / 256u;
    var sum = vec2<f32>(0.0);
    for (var i = lane * share; i < min((lane + 1u) * share, state.n_rays); i++) {
        sum += vec2<f32>(ray_losses[i].loss, ray_losses[i].squared_error);
    }
    sh_sums[lane] = sum;
    workgroupBarrier();
    if (lane != 0u) { return; }
    for (var i = 1u; i < 256u; i++) { sum += sh_sums[i]; }
    // Rays that did not fit contribute zero.
    let rays = f32(max(state.n_rays_fitting, 1u)) * ${micro_batches}.0;
    state.loss += sum.x / rays;
    //: if is_last
    state.squared_error += sum.y / rays;
    state.n_rays_total += state.n_rays_fitting;
    //: endif
    if ((bitcast<u32>(sum.x) & 0x7f800000u) == 0x7f800000u) { state.non_finite += 1u; }
}
//: elif pass == "end_step"
@compute @workgroup_size(1)
fn end_step() {
    let at = (state.step % ${ring}u) * 2u;
    history[at] = vec4<f32>(state.loss, state.squared_error, f32(state.n_rays_total), f32(state.n_kept_total));
    history[at + 1u] = vec4<f32>(f32(state.n_marched_total), state.learning_rate, f32(state.non_finite), f32(state.saturated));
    //: if adapts
    // Aim a little below the capacity, so that few rays are dropped.
    let kept = ${0.94 * kept_capacity * micro_batches} / max(f32(state.n_kept_total), 1.0);
    let marched = ${0.9 * marched_capacity * micro_batches} / max(f32(state.n_marched_total), 1.0);
    let factor = clamp(min(kept, marched), 0.5, 1.5);
    state.next_rays = u32(clamp(f32(state.n_rays) * factor, 64.0, ${max_rays}.0));
    //: endif
    state.step += 1u;
}
//: elif pass == "next_task"
@compute @workgroup_size(1)
fn next_task() {
    outer.step += 1u;
    state.task = outer.step % ${tasks}u;
    state.task_start = state.step;
    state.non_finite += outer.non_finite;
    outer.non_finite = 0u;
}
//: elif pass == "next_phase"
@compute @workgroup_size(1)
fn next_phase() { state.occupancy_phase += 1u; }
//: endif
