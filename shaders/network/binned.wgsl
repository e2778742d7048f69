// A grid of networks (Reiser et al. 2021): samples are sorted by their cell, so that a workgroup evaluates samples of one
// cell.
//
// `keys` finds the network of each sample, a sort groups the samples by network, `bounds` finds the range of each network's
// samples, `sizes` counts their tiles, `tiles` lists the tiles and the networks that have samples, `place` copies the samples
// into sorted order. `scatter` returns the outputs of the networks to the original order of the samples, `gather` brings
// gradients into sorted order. A sample without a network has no density and no gradient.
// See src/network/binned.rs.
#import common/empty
#import common/grid_index
#import common/step

//: if pass == "keys"
var<storage, read> counts: StepState;
var<storage, read> samples: array<vec4<f32>>;             // (n) position in [0, 1]^3
var<storage, read> cells: array<u32>;                     // (z, y, x) network of each cell, or NONE
var<storage, read_write> pairs: array<vec2<u32>>;         // (n) network, sample
//: elif pass == "bounds"
var<storage, read> counts: StepState;
var<storage, read> pairs: array<vec2<u32>>;               // (n), sorted by network
var<storage, read_write> bounds: array<vec2<u32>>;        // (networks + 1) first sample, and one past the last
//: elif pass == "sizes"
var<storage, read> bounds: array<vec2<u32>>;
var<storage, read_write> tile_counts: array<u32>;         // (networks)
var<storage, read_write> has_samples: array<u32>;         // (networks)
//: elif pass == "tiles"
var<storage, read> counts: StepState;
var<storage, read> bounds: array<vec2<u32>>;
var<storage, read> tile_offsets: array<u32>;              // (networks + 1)
var<storage, read> cell_offsets: array<u32>;              // (networks + 1)
var<storage, read_write> tiles: array<vec4<u32>>;         // (n_tiles) network, first sample, samples
var<storage, read_write> visited: array<u32>;             // (n_cells) networks that have samples
var<storage, read_write> updated: array<u32>;             // (networks) 1 for networks that the optimiser must update
var<storage, read_write> binned: StepState;
//: elif pass == "place"
var<storage, read> binned: StepState;
var<storage, read> pairs: array<vec2<u32>>;
var<storage, read> samples: array<vec4<f32>>;             // (n)
var<storage, read_write> binned_samples: array<vec4<f32>>; // (n_kept)
//: if with_rays
var<storage, read> sample_rays: array<vec2<u32>>;         // (n)
var<storage, read_write> binned_rays: array<vec2<u32>>;   // (n_kept)
//: endif
//: elif pass == "scatter"
var<storage, read> counts: StepState;
var<storage, read> binned: StepState;
var<storage, read> pairs: array<vec2<u32>>;
//: if with_density
var<storage, read> binned_density: array<f32>;            // (n_kept, from_density_stride)
var<storage, read_write> density: array<f32>;             // (n, to_density_stride)
//: endif
//: if with_color
var<storage, read> binned_color: array<vec4<f32>>;        // (n_kept)
var<storage, read_write> color: array<vec4<f32>>;         // (n)
//: endif
//: else
var<storage, read> binned: StepState;
var<storage, read> pairs: array<vec2<u32>>;
var<storage, read> d_density: array<f32>;                 // (n)
var<storage, read> d_color: array<vec4<f32>>;             // (n)
var<storage, read_write> d_binned_density: array<f32>;    // (n_kept, to_density_stride)
var<storage, read_write> d_binned_color: array<vec4<f32>>; // (n_kept)
//: endif

const NETWORKS: u32 = ${networks}u;
const NONE: u32 = NETWORKS;
const TILE: u32 = ${tile}u;

//: if pass == "keys"
@compute @workgroup_size(64)
fn keys(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.${count}) { return; }
    const RESOLUTION = vec3<u32>(${resolution[0]}u, ${resolution[1]}u, ${resolution[2]}u);
    let low = vec3<f32>(${low[0]}, ${low[1]}, ${low[2]});
    let per_unit = vec3<f32>(${per_unit[0]}, ${per_unit[1]}, ${per_unit[2]});
    let x = (samples[i].xyz - low) * per_unit;
    var network = NONE;
    if (all(x > vec3<f32>(0.0)) && all(x < vec3<f32>(RESOLUTION))) {
        let c = min(vec3<u32>(x), RESOLUTION - 1u);
        network = min(cells[(c.z * RESOLUTION.y + c.y) * RESOLUTION.x + c.x], NONE);
    }
    pairs[i] = vec2<u32>(network, i);
}
//: elif pass == "bounds"
@compute @workgroup_size(64)
fn find_bounds(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    let n = counts.${count};
    if (i >= n) { return; }
    let network = pairs[i].x;
    if (i == 0u || pairs[i - 1u].x != network) { bounds[network].x = i; }
    if (i + 1u == n || pairs[i + 1u].x != network) { bounds[network].y = i + 1u; }
}
//: elif pass == "sizes"
@compute @workgroup_size(64)
fn sizes(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let network = linear_group(group) * 64u + lane;
    if (network >= NETWORKS) { return; }
    let n = bounds[network].y - bounds[network].x;
    tile_counts[network] = (n + TILE - 1u) / TILE;
    has_samples[network] = min(n, 1u);
}
//: elif pass == "tiles"
@compute @workgroup_size(64)
fn list_tiles(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let network = linear_group(group) * 64u + lane;
    if (network == 0u) {
        let without = bounds[NETWORKS];
        binned.n_kept = counts.${count} - (without.y - without.x);
        binned.n_tiles = tile_offsets[NETWORKS];
        binned.n_cells = cell_offsets[NETWORKS];
    }
    if (network >= NETWORKS) { return; }
    let samples = bounds[network];
    if (samples.x == samples.y) { return; }
    visited[cell_offsets[network]] = network;
    updated[network] = 1u;
    var at = tile_offsets[network];
    for (var first = samples.x; first < samples.y; first += TILE) {
        tiles[at] = vec4<u32>(network, first, min(TILE, samples.y - first), 0u);
        at += 1u;
    }
}
//: elif pass == "place"
@compute @workgroup_size(64)
fn place(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= binned.n_kept) { return; }
    let sample = pairs[i].y;
    binned_samples[i] = samples[sample];
    //: if with_rays
    binned_rays[i] = sample_rays[sample];
    //: endif
}
//: elif pass == "scatter"
@compute @workgroup_size(64)
fn scatter(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.${count}) { return; }
    let sample = pairs[i].y;
    let has_network = i < binned.n_kept;
    //: if with_density
    var raw = EMPTY;
    if (has_network) { raw = binned_density[i * ${from_density_stride}u]; }
    density[sample * ${to_density_stride}u] = raw;
    //: endif
    //: if with_color
    var rgb = vec4<f32>(0.0);
    if (has_network) { rgb = binned_color[i]; }
    color[sample] = rgb;
    //: endif
}
//: else
@compute @workgroup_size(64)
fn gather(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= binned.n_kept) { return; }
    let sample = pairs[i].y;
    d_binned_density[i * ${to_density_stride}u] = d_density[sample];
    d_binned_color[i] = d_color[sample];
}
//: endif
