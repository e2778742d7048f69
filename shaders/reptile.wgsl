// Reptile (Nichol, Achiam and Schulman 2018): the difference between the weights before and after the steps on one task
// replaces the gradient. See src/reptile.rs.
#import common/grid_index

var<storage, read> values: array<vec4<f32>>;              // weights before the steps
var<storage, read> adapted: array<vec4<f32>>;             // weights after them
var<storage, read_write> gradients: array<vec4<f32>>;

@compute @workgroup_size(64)
fn outer_gradient(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= ${n // 4}u) { return; }
    gradients[i] = values[i] - adapted[i];
}
