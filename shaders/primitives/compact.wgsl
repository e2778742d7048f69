// Indices of the set flags, in order, given the exclusive prefix sum of the flags. See src/gpu/primitives.rs.
#import common/grid_index
#import common/step

var<storage, read> counts: StepState;
var<storage, read> flags: array<u32>;                 // (n) 0 or 1
var<storage, read> offsets: array<u32>;               // (n + 1)
var<storage, read_write> indices: array<u32>;         // (offsets[n])

@compute @workgroup_size(64)
fn compact(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i < counts.${count} && flags[i] != 0u) { indices[offsets[i]] = i; }
}
