// Distillation (Reiser et al. 2021, section 3.2): a grid of networks learns a teacher's outputs at random points, in random
// directions.
//
// `begin` sets the counts, `draw` places the same number of points for each network, in the occupied cells of the occupancy
// grid (voxels) inside the network's cell, and draws directions, `targets` turns the teacher's outputs into colour and
// density, `compare` computes the mean squared error of colour and of alpha = 1 - exp(-sigma distance), with its gradients.
// See src/distillation/mod.rs.
#import common/activation
#import common/empty
#import common/grid_index
#import common/pcg
#import common/ray
#import common/step
//: if pass == "compare"
#import common/ray_loss
//: endif

//: if pass == "begin"
var<storage, read_write> state: StepState;
//: elif pass == "draw"
var<storage, read> counts: StepState;
var<storage, read> voxels: array<u32>;                    // occupied voxels that overlap its cell, network by network
var<storage, read> first_voxels: array<u32>;              // (networks + 1)
var<storage, read> cells: array<u32>;                     // (networks) cell of each
var<storage, read_write> samples: array<vec4<f32>>;       // (n_kept) position in [0, 1]^3
var<storage, read_write> sample_rays: array<vec2<u32>>;   // (n_kept)
var<storage, read_write> rays: array<Ray>;                // (n_rays)
//: elif pass == "targets"
var<storage, read> counts: StepState;
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read> raw_color: array<vec4<f32>>;           // (n_kept, color_stride), from column color_offset on
var<storage, read_write> targets: array<vec4<f32>>;       // (n_kept) colour and density
//: else
var<storage, read> counts: StepState;
var<storage, read> targets: array<vec4<f32>>;             // (n_kept) colour and density
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read> raw_color: array<vec4<f32>>;           // (n_kept, color_stride), from column color_offset on
var<storage, read_write> d_density: array<f32>;           // (n_kept, density_stride)
var<storage, read_write> d_color: array<vec4<f32>>;       // (n_kept, color_stride)
var<storage, read_write> ray_losses: array<RayLoss>;      // (n_rays)
//: endif

const SIDE: u32 = ${side}u;

//: if pass == "begin"
@compute @workgroup_size(1)
fn begin() {
    state.n_rays = ${n_rays}u;
    state.n_rays_fitting = ${n_rays}u;
    state.n_marched = ${n_points}u;
    state.n_kept = ${n_points}u;
    state.n_marched_total = ${n_points}u;
    state.n_kept_total = ${n_points}u;
}
//: elif pass == "draw"
// Coordinates along x, y and z of element `index` of a grid, in any cascade.
fn corner_of(index: u32, n: vec3<u32>) -> vec3<u32> { return vec3<u32>(index % n.x, (index / n.x) % n.y, (index / (n.x * n.y)) % n.z); }

@compute @workgroup_size(64)
fn draw(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_kept) { return; }
    var state = random_seed(counts.seed ^ 0x2c1b3c6du, counts.step, i);
    // If there are more networks than points, the next step continues with the networks after this step's.
    let network = (i + counts.step * ${shift}u) % ${networks}u;
    let first = first_voxels[network];
    let n = first_voxels[network + 1u] - first;
    let per_unit = vec3<f32>(${per_unit[0]}, ${per_unit[1]}, ${per_unit[2]});
    let cell = vec3<f32>(corner_of(cells[network], vec3<u32>(${resolution[0]}u, ${resolution[1]}u, ${resolution[2]}u)));
    var low = vec3<f32>(${low[0]}, ${low[1]}, ${low[2]}) + cell / per_unit;
    var high = low + 1.0 / per_unit;
    if (n > 0u) {
        let voxel = voxels[first + min(u32(random(&state) * f32(n)), n - 1u)];
        let corner = vec3<f32>(corner_of(voxel, vec3<u32>(SIDE)));
        // Cascades double in size; the box is the largest of them.
        let share = exp2(f32(voxel / (SIDE * SIDE * SIDE)) - ${cascades - 1}.0);
        let from_here = (corner / f32(SIDE) - 0.5) * share + 0.5;
        low = max(low, from_here);
        high = max(low, min(high, from_here + share / f32(SIDE)));
    }
    // Avoid faces, which may belong to another network.
    let within = 0.001 + 0.998 * vec3<f32>(random(&state), random(&state), random(&state));
    samples[i] = vec4<f32>(low + within * (high - low), 0.0);
    sample_rays[i] = vec2<u32>(i % counts.n_rays, 0u);
    if (i < counts.n_rays) {
        let z = 2.0 * random(&state) - 1.0;
        let turn = 6.283185307179586 * random(&state) - 3.141592653589793;
        let across = sqrt(max(1.0 - z * z, 0.0));
        rays[i].view_dir = vec3<f32>(across * cos(turn), across * sin(turn), z);
    }
}
//: elif pass == "targets"
@compute @workgroup_size(64)
fn teacher_targets(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_kept) { return; }
    let rgb = color_from_raw(raw_color[i * ${color_stride}u + ${color_offset}u].xyz);
    targets[i] = vec4<f32>(rgb, density_from_raw(raw_density[i * ${density_stride}u]));
}
//: else
const DISTANCE: f32 = ${alpha_distance};

// A ReLU at zero has no gradient, so a leaky ReLU replaces it during distillation.
//: if density_activation == "relu"
fn student_density(raw: f32) -> f32 { return select(0.01 * raw, raw, raw > 0.0); }
fn student_density_derivative(raw: f32) -> f32 { return select(0.01, 1.0, raw > 0.0); }
//: else
fn student_density(raw: f32) -> f32 { return density_from_raw(raw); }
fn student_density_derivative(raw: f32) -> f32 { return density_derivative(raw); }
//: endif

// A thread compares all points of one ray, which share its direction.
@compute @workgroup_size(64)
fn compare(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays) { return; }
    // The mean over points and channels; ray_losses holds each ray's share of the mean over rays.
    let share = 0.25 / f32(counts.n_kept);
    var sum = 0.0;
    for (var i = r; i < counts.n_kept; i += counts.n_rays) {
        let raw = raw_density[i * ${density_stride}u];
        // Rounding moved the point out of the network's cell; it has no loss.
        if (raw <= EMPTY) {
            d_color[i * ${color_stride}u + ${color_offset}u] = vec4<f32>(0.0);
            d_density[i * ${density_stride}u] = 0.0;
            continue;
        }
        let rgb = color_from_raw(raw_color[i * ${color_stride}u + ${color_offset}u].xyz);
        let through = exp(-student_density(raw) * DISTANCE);
        let of_color = rgb - targets[i].xyz;
        let of_alpha = exp(-targets[i].w * DISTANCE) - through;
        sum += dot(of_color, of_color) + of_alpha * of_alpha;
        d_color[i * ${color_stride}u + ${color_offset}u] = vec4<f32>(2.0 * share * of_color * color_derivative(rgb), 0.0);
        d_density[i * ${density_stride}u] = 2.0 * share * of_alpha * through * DISTANCE * student_density_derivative(raw);
    }
    var result: RayLoss;
    result.loss = sum * share * f32(counts.n_rays);
    result.squared_error = result.loss;
    ray_losses[r] = result;
}
//: endif
