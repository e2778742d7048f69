// Importance samples (Mildenhall et al. 2020, section 5.2): n positions, in order of distance, drawn from the
// piecewise-constant density that the weights of the previous pass's samples define on the intervals between their midpoints;
// also the previous samples themselves if they are merged.
//
// The inverse of a cumulative sum is non-decreasing, so numbers u in ascending order (stratified over [0, 1], or evenly spaced
// without jitter) give samples in ascending order: they are merged with the others as they are generated, without sorting.
// `sample_weights` traverses each ray once and computes the weights; `count` and `place` work as in ray_march.wgsl. See
// src/sampling/importance.rs.
#import common/box_position
#import common/grid_index
#import common/pcg
#import common/ray
#import common/step
//: if pass == "sample_weights"
#import common/activation
//: endif

var<storage, read> counts: StepState;
var<storage, read> previous_offsets: array<vec2<u32>>;    // (n_rays + 1), .y of the samples of the previous pass
//: if pass == "sample_weights"
var<storage, read> rays: array<Ray>;                      // (n_rays)
var<storage, read> previous_samples: array<vec4<f32>>;    // (n) position, dt
var<storage, read> previous_rays: array<vec2<u32>>;       // (n) ray, bits of the distance
var<storage, read> previous_density: array<f32>;          // (n, density_stride)
var<storage, read_write> weighted: array<vec2<f32>>;      // (n) t along the ray, weight in its colour
//: elif pass == "count"
var<storage, read_write> ray_counts: array<u32>;          // (n_rays)
//: else
var<storage, read> rays: array<Ray>;                      // (n_rays)
var<storage, read> weighted: array<vec2<f32>>;            // (n)
var<storage, read> ray_offsets: array<u32>;               // (n_rays + 1)
var<storage, read_write> samples: array<vec4<f32>>;       // (n_marched) x in [0, 1]^3, dt in units of the line's space
var<storage, read_write> sample_rays: array<vec2<u32>>;   // (n_marched) ray, bits of the distance from its origin
//: endif

const N: u32 = ${n_samples}u;

//: if pass == "sample_weights"
@compute @workgroup_size(64)
fn sample_weights(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays_fitting) { return; }
    let line = line_of(rays[i]);
    var transmittance = 1.0;
    for (var j = previous_offsets[i].y; j < previous_offsets[i + 1u].y; j++) {
        let sigma = density_from_raw(previous_density[j * ${density_stride}u]);
        let alpha = 1.0 - exp(-sigma * previous_samples[j].w);
        weighted[j] = vec2<f32>(line_parameter(line, bitcast<f32>(previous_rays[j].y)), transmittance * alpha);
        transmittance *= 1.0 - alpha;
    }
}
//: elif pass == "count"
@compute @workgroup_size(64)
fn count(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays) { return; }
    var n = 0u;
    if (i < counts.n_rays_fitting) { n = previous_offsets[i + 1u].y - previous_offsets[i].y; }
    //: if merge
    ray_counts[i] = select(0u, n + N, n > 0u);
    //: else
    ray_counts[i] = select(0u, N, n > 0u);
    //: endif
}
//: else
// Added to the weight of every interval, so that none is zero.
const WEIGHT_EPSILON: f32 = 1e-5;

struct Writer {
    line: Line,
    ray: u32,
    at: u32,
    t: f32,      // of the pending sample, whose dt ends at the next sample
    has_pending: bool,
}

fn write(w: ptr<function, Writer>, dt: f32) {
    samples[(*w).at] = vec4<f32>(line_position((*w).line, (*w).t), dt * (*w).line.unit);
    sample_rays[(*w).at] = vec2<u32>((*w).ray, bitcast<u32>(line_distance((*w).line, (*w).t)));
    (*w).at += 1u;
}

fn emit(w: ptr<function, Writer>, t: f32) {
    if ((*w).has_pending) { write(w, t - (*w).t); }
    (*w).has_pending = true;
    (*w).t = t;
}

@compute @workgroup_size(64)
fn place(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays_fitting) { return; }
    let first = previous_offsets[i].y;
    let n = previous_offsets[i + 1u].y - first;
    if (n == 0u) { return; }
    var w: Writer;
    w.line = line_of(rays[i]);
    w.ray = i;
    w.at = ray_offsets[i];
    // Interval b extends around sample b to the midpoints: b from 1 to n - 2, or all samples if there are too few.
    var total = 0.0;
    for (var b = 1u; b + 1u < n; b++) { total += weighted[first + b].y + WEIGHT_EPSILON; }
    let last = first + n - 1u;
    var b = 1u;
    var low = weighted[first].x;
    var high = weighted[last].x;
    var before = 0.0;
    var share = 1.0;
    if (n > 2u) {
        high = 0.5 * (weighted[first + 1u].x + weighted[first + 2u].x);
        low = 0.5 * (low + weighted[first + 1u].x);
        share = (weighted[first + 1u].y + WEIGHT_EPSILON) / total;
    }
    //: if merge
    var j = 0u;
    //: endif
    //: if jitter
    var state = random_seed(counts.seed ^ ${salt}u, counts.step, counts.n_rays_total + i);
    //: endif
    for (var k = 0u; k < N; k++) {
        //: if jitter
        let u = (f32(k) + random(&state)) / f32(N);
        //: else
        let u = f32(k) / f32(N - 1u);
        //: endif
        while (u >= before + share && b + 2u < n) {
            before += share;
            b += 1u;
            low = high;
            high = 0.5 * (weighted[first + b].x + weighted[first + b + 1u].x);
            share = (weighted[first + b].y + WEIGHT_EPSILON) / total;
        }
        let within = clamp((u - before) / select(share, 1.0, share < WEIGHT_EPSILON), 0.0, 1.0);
        let t = low + within * (high - low);
        //: if merge
        while (j < n && weighted[first + j].x <= t) {
            emit(&w, weighted[first + j].x);
            j += 1u;
        }
        //: endif
        emit(&w, t);
    }
    //: if merge
    for (; j < n; j++) { emit(&w, weighted[first + j].x); }
    //: endif
    write(&w, w.line.last);
}
//: endif
