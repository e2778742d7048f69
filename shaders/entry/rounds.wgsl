// Rendering in rounds: only rays that are neither opaque nor out of the box continue to the next round.
// `start` numbers the rays of a tile, `limit` divides the sample capacity among the active rays, `flag_active` marks rays that
// continue, `compact` compacts them, `update_count` counts them. See src/render/rounds.rs.
#import common/grid_index
#import common/ray
#import common/step

//: if pass == "start"
var<storage, read> counts: StepState;
var<storage, read_write> rays: array<Ray>;                // (n_rays)
//: elif pass == "limit"
var<storage, read_write> state: StepState;
//: elif pass == "flag_active"
var<storage, read> counts: StepState;
var<storage, read> rays: array<Ray>;                      // (n_rays)
var<storage, read_write> flags: array<u32>;               // (n_rays)
//: elif pass == "compact"
var<storage, read> counts: StepState;
var<storage, read> rays: array<Ray>;                      // (n_rays)
var<storage, read> flags: array<u32>;                     // (n_rays)
var<storage, read> places: array<u32>;                    // (n_rays + 1)
var<storage, read_write> next_rays: array<Ray>;
//: else
var<storage, read_write> state: StepState;
var<storage, read> places: array<u32>;                    // (n_rays + 1)
//: endif

//: if pass == "start"
@compute @workgroup_size(64)
fn start(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays) { return; }
    rays[i].image = i;
}
//: elif pass == "limit"
@compute @workgroup_size(1)
fn limit() {
    state.max_ray_samples = clamp(${capacity}u / max(state.n_rays, 1u), 2u, ${max_samples}u);
}
//: elif pass == "flag_active"
@compute @workgroup_size(64)
fn flag_active(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays) { return; }
    flags[i] = select(0u, 1u, rays[i].t_min < rays[i].t_max);
}
//: elif pass == "compact"
@compute @workgroup_size(64)
fn compact(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays || flags[i] == 0u) { return; }
    next_rays[places[i]] = rays[i];
}
//: else
@compute @workgroup_size(1)
fn update_count() { state.n_rays = places[state.n_rays]; }
//: endif
