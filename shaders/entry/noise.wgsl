// Add Gaussian noise to raw densities, which keeps a field from becoming transparent early in training (Mildenhall et al.
// 2020, appendix A). See src/pass.rs.
#import common/grid_index
#import common/pcg
#import common/step

var<storage, read> counts: StepState;
var<storage, read_write> raw_density: array<f32>;         // (n_kept, density_stride)

@compute @workgroup_size(64)
fn noise(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_kept) { return; }
    // The total counts the samples of the step so far, including these.
    var state = random_seed(counts.seed ^ 0x7feb352du, counts.step, counts.n_kept_total - counts.n_kept + i);
    let radius = sqrt(-2.0 * log(1.0 - random(&state)));
    let angle = 6.283185307179586 * (random(&state) - 0.5);
    raw_density[i * ${density_stride}u] += ${deviation} * radius * cos(angle);
}
