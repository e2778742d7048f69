// Stratified samples between near and far (Mildenhall et al. 2020, eq. 2): t_i is uniform between the midpoints around
// the i-th of n positions spaced evenly in distance or in disparity, or that position itself without jitter; dt_i = t_i+1 -
// t_i, and the last dt is `last` of common/box_position.wgsl, or LAST_INTERVAL if the method sets it.
//
// If samples are bounded, those outside the box, which have no density, are left out. `count` and `place` work as in
// ray_march.wgsl. See src/sampling/stratified.rs.
#import common/box_position
#import common/grid_index
#import common/pcg
#import common/ray
#import common/scene_box
#import common/step

var<storage, read> counts: StepState;
var<storage, read> rays: array<Ray>;                      // (n_rays)
//: if pass == "count"
var<storage, read_write> ray_counts: array<u32>;          // (n_rays)
//: else
var<storage, read> ray_offsets: array<u32>;               // (n_rays + 1)
var<storage, read_write> samples: array<vec4<f32>>;       // (n_marched) x in [0, 1]^3, dt in units of the line's space
var<storage, read_write> sample_rays: array<vec2<u32>>;   // (n_marched) ray, bits of the distance from its origin
//: endif

const N: u32 = ${n_samples}u;
const NO_END: f32 = 1e9;
//: if ends
const LAST_INTERVAL: f32 = ${last_interval};
//: endif

// A line without a given end runs through the box, or is empty if it misses the box.
fn bounded(line: Line) -> Line {
    var result = line;
    //: if bounded
    let is_open = line.t_max >= NO_END || line.last < INFINITE_DT;
    //: else
    let is_open = line.t_max >= NO_END;
    //: endif
    if (is_open) {
        let range = box_range(line.origin * SCALE + OFFSET, line.direction * SCALE, HALF_BOX);
        result.t_min = max(line.t_min, range.x);
        result.t_max = max(result.t_min, min(line.t_max, range.y));
    }
    return result;
}

fn edge(line: Line, i: u32) -> f32 {
    //: if disparity
    let f = f32(i) / f32(N - 1u);
    // Disparity is undefined at the camera: start beyond it.
    let near = max(line.t_min, 1e-3 * line.t_max);
    return 1.0 / ((1.0 - f) / near + f / line.t_max);
    //: else
    // Interpolate from the nearer end, as PyTorch's linspace does: exact at both ends, with the least rounding.
    let gap = (line.t_max - line.t_min) / f32(N - 1u);
    return select(line.t_max - gap * f32(N - 1u - i), line.t_min + gap * f32(i), i < N / 2u);
    //: endif
}

fn sample_t(line: Line, i: u32, state: ptr<function, u32>) -> f32 {
    let here = edge(line, i);
    //: if jitter
    let below = edge(line, max(i, 1u) - 1u);
    let above = edge(line, min(i + 1u, N - 1u));
    return mix(0.5 * (below + here), 0.5 * (here + above), random(state));
    //: else
    return here;
    //: endif
}

fn inside(x: vec3<f32>) -> bool {
    //: if bounded
    return all(x > vec3<f32>(0.0)) && all(x < vec3<f32>(1.0));
    //: else
    return true;
    //: endif
}

@compute @workgroup_size(64)
fn ${pass}(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    //: if pass == "count"
    if (i >= counts.n_rays) { return; }
    var n = 0u;
    //: else
    if (i >= counts.n_rays_fitting) { return; }
    var n = ray_offsets[i];
    let end = ray_offsets[i + 1u];
    //: endif
    let line = bounded(line_of(rays[i]));
    let n_places = select(0u, N, line.t_max > line.t_min);
    var state = random_seed(counts.seed ^ ${salt}u, counts.step, counts.n_rays_total + i);
    var t = sample_t(line, 0u, &state);
    for (var k = 0u; k < n_places; k++) {
        var next = t;
        //: if ends
        var dt = min(line.last, LAST_INTERVAL);
        //: else
        var dt = line.last;
        //: endif
        if (k + 1u < N) {
            next = sample_t(line, k + 1u, &state);
            dt = next - t;
        }
        let x = line_position(line, t);
        if (inside(x)) {
            //: if pass == "place"
            if (n < end) {
                samples[n] = vec4<f32>(x, dt * line.unit);
                sample_rays[n] = vec2<u32>(i, bitcast<u32>(line_distance(line, t)));
            }
            //: endif
            n += 1u;
        }
        t = next;
    }
    //: if pass == "count"
    ray_counts[i] = n;
    //: else
    for (; n < end; n++) {
        samples[n] = vec4<f32>(0.5, 0.5, 0.5, 0.0);
        sample_rays[n] = vec2<u32>(i, 0u);
    }
    //: endif
}
