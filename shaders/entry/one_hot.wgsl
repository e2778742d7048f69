// dL/doutput for L = the raw density: 1 in column 0, 0 elsewhere. The resulting gradient with respect to position gives the
// normals.
#import common/grid_index
#import common/step

var<storage, read> counts: StepState;
var<storage, read_write> d_output: array<vec4<f32>>;      // (n_kept, stride / 4)

@compute @workgroup_size(64)
fn one_hot(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.n_kept) { return; }
    d_output[s * ${stride // 4}u] = vec4<f32>(1.0, 0.0, 0.0, 0.0);
    for (var q = 1u; q < ${width // 4}u; q++) { d_output[s * ${stride // 4}u + q] = vec4<f32>(0.0); }
}
