// Turn the counts of a step into the workgroup counts of the dispatches that depend on them. See src/gpu/counts.rs.
#import common/grid_index
#import common/step

var<storage, read> state: StepState;
var<storage, read> table: array<vec4<u32>>;              // (128) count selector (0: unused), group size, depth
var<storage, read_write> arguments: array<vec4<u32>>;    // (128) workgroups x, y, z

@compute @workgroup_size(128)
fn publish(@builtin(local_invocation_index) lane: u32) {
    let entry = table[lane];
    var count = state.n_rays;
    if (entry.x == 2u) { count = state.n_marched; }
    if (entry.x == 3u) { count = state.n_kept; }
    if (entry.x == 4u) { count = state.n_tiles; }
    if (entry.x == 5u) { count = state.n_cells; }
    if (entry.x == 0u) { count = 0u; }
    var groups = vec3<u32>(0u);
    if (count > 0u) { groups = grid_covering(count, entry.y); }
    arguments[lane] = vec4<u32>(groups.xy, select(entry.z, 0u, count == 0u), 0u);
}
