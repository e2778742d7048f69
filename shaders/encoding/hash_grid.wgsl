// Multiresolution hash encoding (Mueller et al. 2022, section 3): at each level, the features of the 8 grid corners
// around a position are looked up by index or by spatial hash, and interpolated trilinearly.
//
// Shapes: `samples` (n) with the position in xyz, `features` (n, stride), `table` (rows of this chunk, F). The levels
// of one dispatch share a chunk; workgroup_id.z is the level within it. See src/encoding/hash_grid.rs.
//
// Gradients of the table are i32 fixed point, so that their sum does not depend on the order of additions.
#import common/grid_index
#import common/index
#import common/step

var<storage, read> counts: StepState;
var<storage, read> samples: array<vec4<f32>>;             // (n) position in [0, 1]^3
//: if pass == "forward"
var<storage, read> table: array<${row_type}>;
var<storage, read_write> features: array<${row_type}>;
//: elif pass == "backward"
var<storage, read> d_features: array<${row_type}>;
var<storage, read> gradient_scales: array<f32>;           // (levels) powers of two
var<storage, read_write> d_table: array<atomic<i32>>;
//: else
var<storage, read> table: array<${row_type}>;
var<storage, read> d_features: array<${row_type}>;
var<storage, read_write> d_position: array<vec4<f32>>;    // (n) += over chunks of levels
//: endif

struct Level {
    scale: f32,       // grid units per side of the box
    resolution: u32,  // corners per axis
    first_row: u32,   // in this chunk
    rows: u32,
    dense: u32,       // whether a corner's row is its index instead of its hash
    pad_0: u32,
    pad_1: u32,
    pad_2: u32,
}
// A buffer that is read at uniform indices, because a constant array would be copied to every invocation.
var<uniform> levels: array<Level, ${n_levels}>;

const N_LEVELS: u32 = ${n_levels}u;
const FIRST_LEVEL: u32 = ${first_level}u;
const GRID_OFFSET: f32 = ${grid_offset};
// A row is PARTS values of ${row_type}.
const PARTS: u32 = ${parts}u;
const STRIDE: u32 = ${stride // lanes}u;

fn corner_row(level: Level, corner: vec3<u32>) -> u32 {
    if (level.dense != 0u) {
        let index = corner.x + level.resolution * (corner.y + level.resolution * corner.z);
        return level.first_row + select(index, index - level.rows, index >= level.rows);
    }
    return level.first_row + ((corner.x ^ (corner.y * 2654435761u) ^ (corner.z * 805459861u)) & (level.rows - 1u));
}

struct Cell { corner: vec3<u32>, weight: vec3<f32> }

fn cell_of(level: Level, x: vec3<f32>) -> Cell {
    let q = x * level.scale + GRID_OFFSET;
    let below = floor(q);
    return Cell(vec3<u32>(max(below, vec3<f32>(0.0))), q - below);
}

fn corner_weight(weight: vec3<f32>, k: u32) -> f32 {
    let w = select(1.0 - weight, weight, vec3<bool>((k & 1u) != 0u, (k & 2u) != 0u, (k & 4u) != 0u));
    return w.x * w.y * w.z;
}

fn corner_at(cell: Cell, k: u32) -> vec3<u32> {
    return cell.corner + vec3<u32>(k & 1u, (k >> 1u) & 1u, k >> 2u);
}

//: if pass == "forward"
@compute @workgroup_size(64)
fn forward(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.${count}) { return; }
    let level = levels[uni10(group.z)];
    let cell = cell_of(level, samples[s].xyz);
    //: for p in range(parts)
    var sum_${p} = ${row_type}(0.0);
    //: endfor
    for (var k = 0u; k < 8u; k++) {
        let weight = corner_weight(cell.weight, k);
        let row = corner_row(level, corner_at(cell, k)) * PARTS;
        //: for p in range(parts)
        sum_${p} += weight * table[row + ${p}u];
        //: endfor
    }
    //: for p in range(parts)
    features[s * STRIDE + (FIRST_LEVEL + group.z) * PARTS + ${p}u] = sum_${p};
    //: endfor
}
//: elif pass == "backward"
@compute @workgroup_size(64)
fn backward(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.${count}) { return; }
    let level = levels[uni10(group.z)];
    let scale = gradient_scales[FIRST_LEVEL + uni10(group.z)];
    let cell = cell_of(level, samples[s].xyz);
    //: for p in range(parts)
    let d_${p} = d_features[s * STRIDE + (FIRST_LEVEL + group.z) * PARTS + ${p}u] * scale;
    //: endfor
    for (var k = 0u; k < 8u; k++) {
        let weight = corner_weight(cell.weight, k);
        let row = corner_row(level, corner_at(cell, k)) * ${n_features}u;
        //: for p in range(parts)
        let v_${p} = clamp(round(d_${p} * weight), ${row_type}(-5e8), ${row_type}(5e8));
        //: for f in range(lanes)
        atomicAdd(&d_table[row + ${p * lanes + f}u], i32(v_${p}${component[f]}));
        //: endfor
        //: endfor
    }
}
//: else
// dL/dx = sum over levels of scale * d interpolation / d weight.
@compute @workgroup_size(64)
fn position(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.${count}) { return; }
    var gradient = vec3<f32>(0.0);
    for (var l = 0u; l < N_LEVELS * uni5(1u); l++) {
        let level = levels[uni10(l)];
        let cell = cell_of(level, samples[s].xyz);
        var slope = vec3<f32>(0.0);
        for (var k = 0u; k < 8u; k++) {
            let row = corner_row(level, corner_at(cell, k)) * PARTS;
            var product = 0.0;
            //: for p in range(parts)
            {
                let v = table[row + ${p}u] * d_features[s * STRIDE + (FIRST_LEVEL + l) * PARTS + ${p}u];
                product += ${sum_of_lanes};
            }
            //: endfor
            let far_side = vec3<bool>((k & 1u) != 0u, (k & 2u) != 0u, (k & 4u) != 0u);
            let w = select(1.0 - cell.weight, cell.weight, far_side);
            let sign = select(vec3<f32>(-1.0), vec3<f32>(1.0), far_side);
            slope += product * sign * vec3<f32>(w.y * w.z, w.x * w.z, w.x * w.y);
        }
        gradient += slope * level.scale;
    }
    //: if first_level == 0
    d_position[s] = vec4<f32>(gradient, 0.0);
    //: else
    d_position[s] += vec4<f32>(gradient, 0.0);
    //: endif
}
//: endif
