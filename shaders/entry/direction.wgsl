// Encode the view direction of each kept sample's ray into its columns of the colour network's input.
// See src/encoding/mod.rs.
#import common/grid_index
#import common/ray
#import common/step
#import ${encoding}

var<storage, read> counts: StepState;
var<storage, read> rays: array<Ray>;
var<storage, read> kept_rays: array<vec2<u32>>;           // (n_kept) ray
var<storage, read_write> color_input: array<f32>;         // (n_kept, stride)

@compute @workgroup_size(64)
fn direction(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.n_kept) { return; }
    let e = encode(rays[kept_rays[s].x].view_dir);
    for (var i = 0u; i < ENCODED; i++) { color_input[s * ${stride}u + ${offset}u + i] = e[i]; }
}
