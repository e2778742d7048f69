// Frequency encoding of sample positions, and the gradient with respect to them. The encoded value is scale p + offset for p
// in the scene's box, or the position within its cell of a grid, from -1 to 1. See src/encoding/frequency.rs.
#import common/grid_index
#import common/step
#import encoding/frequency

var<storage, read> counts: StepState;
var<storage, read> samples: array<vec4<f32>>;             // (n) position in [0, 1]^3
//: if pass == "forward"
var<storage, read_write> features: array<f32>;            // (n, stride)
//: else
var<storage, read> d_features: array<f32>;                // (n, stride)
var<storage, read_write> d_position: array<vec4<f32>>;    // (n)
//: endif

//: if local
const PER_UNIT = vec3<f32>(${per_unit[0]}, ${per_unit[1]}, ${per_unit[2]});
const SCALE = 2.0 * PER_UNIT;

fn encoded_point(p: vec3<f32>) -> vec3<f32> {
    const LAST = vec3<f32>(${resolution[0] - 1}.0, ${resolution[1] - 1}.0, ${resolution[2] - 1}.0);
    let x = (p - vec3<f32>(${low[0]}, ${low[1]}, ${low[2]})) * PER_UNIT;
    return 2.0 * (x - clamp(floor(x), vec3<f32>(0.0), LAST)) - 1.0;
}
//: else
const SCALE = ${scale};

fn encoded_point(p: vec3<f32>) -> vec3<f32> {
    return SCALE * p + vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]});
}
//: endif

//: if pass == "forward"
@compute @workgroup_size(64)
fn forward(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.${count}) { return; }
    let e = encode(encoded_point(samples[s].xyz));
    for (var i = 0u; i < ENCODED; i++) { features[s * ${stride}u + i] = e[i]; }
}
//: else
@compute @workgroup_size(64)
fn position(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let s = linear_group(group) * 64u + lane;
    if (s >= counts.${count}) { return; }
    var d: array<f32, ${encoded}>;
    for (var i = 0u; i < ENCODED; i++) { d[i] = d_features[s * ${stride}u + i]; }
    d_position[s] = vec4<f32>(SCALE * encode_backward(encoded_point(samples[s].xyz), d), 0.0);
}
//: endif
