// March rays through the occupancy grid and place samples in occupied cells (Mueller et al. 2022, section 5.4).
//
// Unit coordinates u = world * scale + offset; cascade c of the grid covers the cube of side 2^c around 0.5, and the
// encodings see x = (u - 0.5) / 2^(cascades - 1) + 0.5 in [0, 1]^3. `count` counts the samples of each ray; after a
// prefix sum, `place` writes them. Steps along rays are up to twice as long in the first training steps.
// See src/sampling/ray_march.rs.
#import common/grid_index
#import common/pcg
#import common/ray
#import common/scene_box
#import common/step

var<storage, read> counts: StepState;
var<storage, read> rays: array<Ray>;                      // (n_rays)
var<storage, read> occupancy: array<u32>;                 // one bit a cell, ((c R + z) R + y) R + x
//: if pass == "count"
var<storage, read_write> ray_counts: array<u32>;          // (n_rays)
//: else
var<storage, read> ray_offsets: array<u32>;               // (n_rays + 1)
var<storage, read_write> samples: array<vec4<f32>>;       // (n_marched) x in [0, 1]^3, dt in world units
var<storage, read_write> sample_rays: array<vec2<u32>>;   // (n_marched) ray, bits of the distance from its origin
//: endif

const RESOLUTION: u32 = ${resolution}u;
const CASCADES: u32 = ${cascades}u;
const DT_MIN: f32 = ${dt_min};
const DT_MAX: f32 = ${dt_max};
const CONE_ANGLE: f32 = f32(${cone_angle});
const SCALE: f32 = ${scale};
const OFFSET: vec3<f32> = vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]});
const HALF_BOX: f32 = ${half_box};

fn step_length(t: f32) -> f32 {
    //: if coarse_steps > 0
    let times = 2.0 - f32(min(counts.step, ${coarse_steps}u)) / ${coarse_steps}.0;
    return min(max(t * CONE_ANGLE, DT_MIN) * times, DT_MAX);
    //: elif cone_angle > 0
    return clamp(t * CONE_ANGLE, DT_MIN, DT_MAX);
    //: else
    return DT_MIN;
    //: endif
}

fn floor_log2(x: f32) -> i32 { return i32(bitcast<u32>(x) >> 23u) - 127; }

// The finest cascade that holds u and whose cells are more than twice as long as dt.
fn cascade_of(u: vec3<f32>, dt: f32) -> u32 {
    //: if cascades > 1
    let from_centre = abs(u - 0.5);
    let by_position = floor_log2(max(from_centre.x, max(from_centre.y, from_centre.z))) + 2;
    let by_step = floor_log2(dt * f32(2u * RESOLUTION)) + 1;
    return u32(clamp(max(by_position, by_step), 0, i32(CASCADES) - 1));
    //: else
    return 0u;
    //: endif
}

struct Marcher {
    origin: vec3<f32>,    // unit coordinates
    direction: vec3<f32>, // unit vector
    t: f32,               // unit coordinates
    t_end: f32,
}

fn start(ray: Ray, index: u32) -> Marcher {
    var m: Marcher;
    m.origin = ray.origin * SCALE + OFFSET;
    let length_of_direction = length(ray.direction);
    m.direction = ray.direction / length_of_direction;
    let to_unit = SCALE * length_of_direction;
    let range = box_range(m.origin, m.direction, HALF_BOX);
    m.t = max(range.x, ray.t_min * to_unit);
    m.t_end = min(range.y, ray.t_max * to_unit);
    //: if jitter
    var state = random_seed(counts.seed ^ 0x5bd1e995u, counts.step, counts.n_rays_total + index);
    m.t += random(&state) * step_length(m.t);
    //: endif
    return m;
}

// Move t to the next sample; false if the ray leaves the box, or is so far out that a step is lost to rounding.
fn find(m: ptr<function, Marcher>) -> bool {
    while ((*m).t < (*m).t_end) {
        let u = (*m).origin + (*m).t * (*m).direction;
        let dt = step_length((*m).t);
        let cascade = cascade_of(u, dt);
        let side = f32(1u << cascade);
        let cell = (u - 0.5) * (f32(RESOLUTION) / side) + 0.5 * f32(RESOLUTION);
        let at = vec3<u32>(clamp(cell, vec3<f32>(0.0), vec3<f32>(f32(RESOLUTION) - 1.0)));
        let bit = ((cascade * RESOLUTION + at.z) * RESOLUTION + at.y) * RESOLUTION + at.x;
        if (((occupancy[bit >> 5u] >> (bit & 31u)) & 1u) != 0u) { return true; }
        // Move to the far faces of this cell in whole steps, so that sample positions do not depend on what is skipped.
        let far_face = floor(cell) + select(vec3<f32>(0.0), vec3<f32>(1.0), (*m).direction > vec3<f32>(0.0));
        let safe = select((*m).direction, vec3<f32>(1e-12), abs((*m).direction) < vec3<f32>(1e-12));
        let to_face = (far_face - cell) * (side / f32(RESOLUTION)) / safe;
        if ((*m).t + dt == (*m).t) { return false; }
        let target_t = (*m).t + max(min(to_face.x, min(to_face.y, to_face.z)), 0.0);
        //: if cone_angle > 0 or coarse_steps > 0
        loop {
            (*m).t += step_length((*m).t);
            if ((*m).t >= target_t) { break; }
        }
        //: else
        (*m).t += max(ceil((target_t - (*m).t) / DT_MIN), 1.0) * DT_MIN;
        //: endif
    }
    return false;
}

//: if pass == "count"
@compute @workgroup_size(64)
fn count(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays) { return; }
    var m = start(rays[i], i);
    var n = 0u;
    //: if limited
    let most = counts.max_ray_samples;
    //: else
    let most = ${max_samples}u;
    //: endif
    while (n < most && find(&m)) {
        n += 1u;
        m.t += step_length(m.t);
    }
    ray_counts[i] = n;
}
//: else
@compute @workgroup_size(64)
fn place(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays_fitting) { return; }
    var m = start(rays[i], i);
    let end = ray_offsets[i + 1u];
    for (var j = ray_offsets[i]; j < end; j++) {
        // A compiler may round differently here than in `count`: a sample that is not found again gets zero weight.
        let found = find(&m);
        let u = m.origin + m.t * m.direction;
        let dt = step_length(m.t);
        let x = clamp((u - 0.5) * (0.5 / HALF_BOX) + 0.5, vec3<f32>(0.0), vec3<f32>(1.0));
        samples[j] = vec4<f32>(x, select(0.0, dt / SCALE, found));
        sample_rays[j] = vec2<u32>(i, bitcast<u32>(m.t / SCALE));
        m.t += dt;
    }
}
//: endif
