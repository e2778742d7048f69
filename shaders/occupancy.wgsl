// Occupancy grid (Mueller et al. 2022, appendix E.2): per cell the optical thickness of the field over the shortest step,
// kept as a decaying maximum of samples; one bit per cell says whether rays place samples there.
//
// Cells are visited in a fixed permutation, one slice per update: `sweep_positions` places a jittered sample in each cell of
// the slice, `occupied_positions` in occupied cells, the field evaluates densities, `update_swept` and `update_occupied`
// merge them, `sum_slices`, `reduce_sums` and `bits` rebuild the bitfield. `raise_sampled` merges the samples that training
// evaluates anyway: there are far more of them than of visits, so a surface in the corner of a cell is not missed.
// `mark_unseen` permanently disables the cells that no camera sees. A value below 0 is never occupied; UNVISITED always is.
// See src/occupancy.rs.
#import common/activation
#import common/camera
#import common/grid_index
#import common/pcg
#import common/step
//: if pass == "mark"
var<storage, read> cameras: array<Camera>;
var<storage, read_write> thickness: array<f32>;           // (cells)
//: elif pass == "positions"
var<storage, read> counts: StepState;
var<storage, read> occupancy: array<u32>;
var<storage, read_write> cells: array<u32>;               // (n_marched)
var<storage, read_write> samples: array<vec4<f32>>;       // (n_marched)
//: elif pass == "update"
var<storage, read> counts: StepState;
var<storage, read> cells: array<u32>;
var<storage, read> raw_density: array<f32>;               // (n_marched, density_stride)
var<storage, read_write> thickness: array<atomic<u32>>;   // f32 bits, which sort like the values if these are >= 0
//: elif pass == "sampled"
var<storage, read> counts: StepState;
var<storage, read> kept_samples: array<vec4<f32>>;        // (n_kept) position in [0, 1]^3, dt
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read_write> thickness: array<atomic<u32>>;
//: elif pass == "sum_slices"
var<storage, read> thickness: array<f32>;
var<storage, read_write> partial_sums: array<vec2<f32>>;  // (4096) sum, count of visited cells of cascade 0
//: elif pass == "reduce_sums"
var<storage, read> partial_sums: array<vec2<f32>>;
var<storage, read_write> total: array<vec2<f32>>;         // (1)
//: else
var<storage, read> thickness: array<f32>;
//: if not fixed_threshold
var<storage, read> total: array<vec2<f32>>;
//: endif
var<storage, read_write> occupancy: array<u32>;
//: endif

const RESOLUTION: u32 = ${resolution}u;
const CASCADES: u32 = ${cascades}u;
const CELLS_PER_CASCADE: u32 = ${resolution * resolution * resolution}u;
const CELLS: u32 = ${resolution * resolution * resolution * cascades}u;
const UNVISITED: f32 = 1e30;

fn cell_corner(cell: u32) -> vec3<u32> {
    return vec3<u32>(cell % RESOLUTION, (cell / RESOLUTION) % RESOLUTION, (cell / (RESOLUTION * RESOLUTION)) % RESOLUTION);
}

// Unit coordinates of the point at `at` in [0, 1]^3 within a cell.
fn unit_position(cell: u32, at: vec3<f32>) -> vec3<f32> {
    let side = f32(1u << (cell / CELLS_PER_CASCADE));
    return ((vec3<f32>(cell_corner(cell)) + at) / f32(RESOLUTION) - 0.5) * side + 0.5;
}

//: if pass == "mark"
@compute @workgroup_size(64)
fn mark_unseen(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let within = linear_group(group) * 64u + lane;
    if (within >= CELLS_PER_CASCADE) { return; }
    let cell = ${cascade}u * CELLS_PER_CASCADE + within;
    let side = f32(1u << (cell / CELLS_PER_CASCADE)) / f32(RESOLUTION) / ${scale};
    let centre = (unit_position(cell, vec3<f32>(0.5)) - vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]})) / ${scale};
    let radius = 0.8661 * side;
    for (var c = 0u; c < ${n_cameras}u; c++) {
        let m = cameras[c].world_from_camera;
        let to = centre - vec3<f32>(m[0].w, m[1].w, m[2].w);
        // Camera space, x right, y down, z forward.
        let p = vec3<f32>(
            dot(to, vec3<f32>(m[0].x, m[1].x, m[2].x)),
            -dot(to, vec3<f32>(m[0].y, m[1].y, m[2].y)),
            -dot(to, vec3<f32>(m[0].z, m[1].z, m[2].z)));
        if (cameras[c].lens >= 2u || dot(to, to) < radius * radius) {
            thickness[cell] = UNVISITED;
            return;
        }
        // Distances of the cell's bounding sphere from the planes of the camera's frustum.
        let low = cameras[c].view_low;
        let high = cameras[c].view_high;
        let from_low = p.xy - p.z * low + radius * sqrt(1.0 + low * low);
        let from_high = p.z * high - p.xy + radius * sqrt(1.0 + high * high);
        if (p.z > -radius && all(from_low > vec2<f32>(0.0)) && all(from_high > vec2<f32>(0.0))) {
            thickness[cell] = UNVISITED;
            return;
        }
    }
    thickness[cell] = -1.0;
}
//: elif pass == "positions"
fn place_sample(i: u32, cell: u32, state: ptr<function, u32>) {
    cells[i] = cell;
    let u = unit_position(cell, vec3<f32>(random(state), random(state), random(state)));
    samples[i] = vec4<f32>((u - 0.5) / f32(1u << (CASCADES - 1u)) + 0.5, 0.0);
}

@compute @workgroup_size(64)
fn sweep_positions(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= ${n_sweep}u) { return; }
    var state = random_seed(counts.seed ^ 0x27d4eb2fu, counts.occupancy_phase, i);
    // The number of cells is a power of two times the number of cascades; an odd factor permutes the power of two.
    let visit = (counts.occupancy_phase * ${n_sweep}u + i) % CELLS;
    let within = (visit * 0x9e3779b1u) & (CELLS_PER_CASCADE - 1u);
    place_sample(i, (visit / CELLS_PER_CASCADE) * CELLS_PER_CASCADE + within, &state);
}

@compute @workgroup_size(64)
fn occupied_positions(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= ${n_sweep}u) { return; }
    var state = random_seed(counts.seed ^ 0x165667b1u, counts.occupancy_phase, i);
    var cell = 0u;
    for (var tries = 0u; tries < 10u; tries++) {
        state = pcg(state);
        cell = state % CELLS;
        if (((occupancy[cell >> 5u] >> (cell & 31u)) & 1u) != 0u) { break; }
    }
    place_sample(${n_sweep}u + i, cell, &state);
}
//: elif pass == "update" or pass == "sampled"
fn thickness_of(i: u32) -> f32 {
    // Drop the sign of a negative zero, since the bits of values >= 0 are compared.
    return abs(min(density_from_raw(raw_density[i * ${density_stride}u]) * ${dt}, 1e20));
}

fn raise_cell(cell: u32, i: u32) {
    let old = bitcast<f32>(atomicLoad(&thickness[cell]));
    if (old >= 0.0 && old < UNVISITED) { atomicMax(&thickness[cell], bitcast<u32>(thickness_of(i))); }
}

//: if pass == "sampled"
@compute @workgroup_size(64)
fn raise_sampled(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_kept) { return; }
    // The finest cascade that contains the sample.
    let from_centre = (kept_samples[i].xyz - 0.5) * f32(1u << (CASCADES - 1u));
    let farthest = max(abs(from_centre.x), max(abs(from_centre.y), abs(from_centre.z)));
    var cascade = 0u;
    while (cascade + 1u < CASCADES && farthest >= 0.5 * f32(1u << cascade)) { cascade++; }
    let at = (from_centre / f32(1u << cascade) + 0.5) * f32(RESOLUTION);
    let corner = vec3<u32>(clamp(at, vec3<f32>(0.0), vec3<f32>(f32(RESOLUTION) - 1.0)));
    raise_cell(((cascade * RESOLUTION + corner.z) * RESOLUTION + corner.y) * RESOLUTION + corner.x, i);
}
//: else
@compute @workgroup_size(64)
fn update_swept(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= ${n_sweep}u) { return; }
    let old = bitcast<f32>(atomicLoad(&thickness[cells[i]]));
    if (old < 0.0) { return; }
    let decayed = select(old * ${decay}, 0.0, old >= UNVISITED);
    atomicStore(&thickness[cells[i]], bitcast<u32>(max(decayed, thickness_of(i))));
}

@compute @workgroup_size(64)
fn update_occupied(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = ${n_sweep}u + linear_group(group) * 64u + lane;
    if (i >= ${2 * n_sweep}u) { return; }
    raise_cell(cells[i], i);
}
//: endif
//: elif pass == "sum_slices"
@compute @workgroup_size(64)
fn sum_slices(@builtin(global_invocation_id) id: vec3<u32>) {
    const RUN = CELLS_PER_CASCADE / 4096u;
    var sum = vec2<f32>(0.0);
    for (var i = id.x * RUN; i < (id.x + 1u) * RUN; i++) {
        let value = thickness[i];
        if (value < UNVISITED) { sum += vec2<f32>(max(value, 0.0), 1.0); }
    }
    partial_sums[id.x] = sum;
}
//: elif pass == "reduce_sums"
var<workgroup> sh_sums: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn reduce_sums(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>(0.0);
    for (var i = lane * 64u; i < (lane + 1u) * 64u; i++) { sum += partial_sums[i]; }
    sh_sums[lane] = sum;
    workgroupBarrier();
    if (lane == 0u) {
        for (var i = 1u; i < 64u; i++) { sum += sh_sums[i]; }
        total[0] = sum;
    }
}
//: else
// One word of 32 cells per thread; cascade by cascade, from the finest.
@compute @workgroup_size(64)
fn bits(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let word = linear_group(group) * 64u + lane;
    if (word >= CELLS_PER_CASCADE / 32u) { return; }
    let first = ${cascade}u * CELLS_PER_CASCADE + word * 32u;
    //: if fixed_threshold
    let threshold = f32(${threshold});
    //: else
    let threshold = min(${threshold}, total[0].x / max(total[0].y, 1.0));
    //: endif
    var mask = 0u;
    for (var b = 0u; b < 32u; b++) {
        var occupied = thickness[first + b] > threshold;
        //: if cascade > 0
        // Each central cell covers eight cells of the next finer cascade.
        let at = cell_corner(first + b);
        let low = RESOLUTION / 4u;
        if (all(at >= vec3<u32>(low)) && all(at < vec3<u32>(3u * low))) {
            for (var k = 0u; k < 8u; k++) {
                let child = (at - low) * 2u + vec3<u32>(k & 1u, (k >> 1u) & 1u, k >> 2u);
                let bit = (((${cascade}u - 1u) * RESOLUTION + child.z) * RESOLUTION + child.y) * RESOLUTION + child.x;
                occupied = occupied || ((occupancy[bit >> 5u] >> (bit & 31u)) & 1u) != 0u;
            }
        }
        //: endif
        mask |= select(0u, 1u, occupied) << b;
    }
    occupancy[${cascade}u * CELLS_PER_CASCADE / 32u + word] = mask;
}
//: endif
