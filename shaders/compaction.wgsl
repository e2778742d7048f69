// Sample compaction: `cull` counts each ray's samples before the transmittance falls below the minimum, `pair` puts the offsets
// of marched and of kept samples side by side, `gather` copies kept samples to the front of the arrays. A ray's samples are
// contiguous, ray_offsets[r] to ray_offsets[r + 1], and it keeps a prefix of them. See src/compaction.rs.
//: if pass == "cull"
#import common/activation
//: endif
#import common/grid_index
#import common/step

//: if pass == "cull"
var<storage, read> counts: StepState;
var<storage, read> samples: array<vec4<f32>>;             // (n_marched) position, dt
var<storage, read> raw_density: array<f32>;               // (n_marched, density_stride)
var<storage, read> ray_offsets: array<u32>;               // (n_rays + 1)
var<storage, read_write> kept_counts: array<u32>;         // (n_rays)
//: elif pass == "gather"
var<storage, read> counts: StepState;
var<storage, read> samples: array<vec4<f32>>;             // (n_marched)
var<storage, read> sample_rays: array<vec2<u32>>;         // (n_marched) ray, bits of the distance
var<storage, read> features: array<vec4<f32>>;            // (n_marched, feature_stride / 4)
var<storage, read> offsets: array<vec2<u32>>;             // (n_rays + 1) of the marched and of the kept samples
var<storage, read_write> kept_samples: array<vec4<f32>>;  // (n_kept)
var<storage, read_write> kept_rays: array<vec2<u32>>;     // (n_kept)
var<storage, read_write> kept_features: array<vec4<f32>>; // (n_kept, feature_stride / 4)
//: elif pass == "pair"
var<storage, read> counts: StepState;
var<storage, read> ray_offsets: array<u32>;               // (n_rays + 1)
var<storage, read> kept_offsets: array<u32>;              // (n_rays + 1)
var<storage, read_write> offsets: array<vec2<u32>>;       // (n_rays + 1)
//: endif

//: if pass == "cull"
const MIN_TRANSMITTANCE: f32 = ${min_transmittance};

@compute @workgroup_size(64)
fn cull(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays) { return; }
    var kept = 0u;
    if (r < counts.n_rays_fitting) {
        let first = ray_offsets[r];
        let n = ray_offsets[r + 1u] - first;
        var transmittance = 1.0;
        while (kept < n && transmittance >= MIN_TRANSMITTANCE) {
            let sigma = density_from_raw(raw_density[(first + kept) * ${density_stride}u]);
            transmittance *= exp(-sigma * samples[first + kept].w);
            kept += 1u;
        }
    }
    kept_counts[r] = kept;
}
//: elif pass == "pair"
@compute @workgroup_size(64)
fn pair(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays) { return; }
    offsets[r] = vec2<u32>(ray_offsets[r], kept_offsets[r]);
    if (r + 1u == counts.n_rays) { offsets[r + 1u] = vec2<u32>(ray_offsets[r + 1u], kept_offsets[r + 1u]); }
}
//: elif pass == "gather"
@compute @workgroup_size(64)
fn gather(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.n_marched) { return; }
    let ray = sample_rays[s];
    let from_here = offsets[ray.x];
    let to = from_here.y + (s - from_here.x);
    if (ray.x >= counts.n_rays_fitting || to >= offsets[ray.x + 1u].y) { return; }
    kept_samples[to] = samples[s];
    kept_rays[to] = ray;
    for (var q = 0u; q < ${feature_stride // 4}u; q++) {
        kept_features[to * ${feature_stride // 4}u + q] = features[s * ${feature_stride // 4}u + q];
    }
}
//: endif
