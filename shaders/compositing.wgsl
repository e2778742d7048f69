// Volume rendering along rays (Mildenhall et al. 2020, eq. 3): alpha_i = 1 - exp(-sigma_i dt_i), T_i = prod (1 - alpha),
// colour = sum T_i alpha_i c_i. One thread per ray; a ray's samples are contiguous, offsets[r].y to offsets[r + 1].y.
//
// `train` composites and compares with the target, `gradients` traverses the ray again and writes the gradients, `depth` adds
// those of the loss on depths, `render` writes pixels, `accumulate` adds a round of rendering to them, after which a ray starts behind its last sample or is empty.
// Each stays within the eight storage buffers of the base path. See src/compositing.rs.
#import common/activation
#import common/color
#import common/grid_index
#import common/ray
#import common/step
//: if pass == "train"
#import loss
//: endif
//: if pass == "train" or pass == "gradients" or pass == "depth"
#import common/ray_loss
//: endif

//: if pass == "train"
var<storage, read> counts: StepState;
var<storage, read> offsets: array<vec2<u32>>;             // (n_rays + 1), .y of the kept samples
var<storage, read> kept_samples: array<vec4<f32>>;        // (n_kept)
var<storage, read> raw_color: array<vec4<f32>>;           // (n_kept, color_stride), from column color_offset on
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read> rays: array<Ray>;                      // (n_rays)
var<storage, read> targets: array<vec4<f32>>;             // (n_rays)
var<storage, read_write> ray_losses: array<RayLoss>;      // (n_rays)
//: elif pass == "gradients"
var<storage, read> counts: StepState;
var<storage, read> offsets: array<vec2<u32>>;             // (n_rays + 1), .y of the kept samples
var<storage, read> kept_samples: array<vec4<f32>>;        // (n_kept)
var<storage, read> raw_color: array<vec4<f32>>;           // (n_kept, color_stride), from column color_offset on
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read> ray_losses: array<RayLoss>;            // (n_rays)
var<storage, read_write> d_color: array<vec4<f32>>;       // (n_kept, color_stride) of the raw colour; w = 0
//: if not joint
var<storage, read_write> d_density: array<f32>;           // (n_kept, d_density_stride) of the raw density
//: endif
//: elif pass == "depth"
var<storage, read> counts: StepState;
var<storage, read> offsets: array<vec2<u32>>;             // (n_rays + 1), .y of the kept samples
var<storage, read> kept_samples: array<vec4<f32>>;        // (n_kept)
var<storage, read> kept_rays: array<vec2<u32>>;           // (n_kept)
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read> depth_targets: array<vec2<f32>>;       // (n_rays / stride) distance, weight
var<storage, read_write> ray_losses: array<RayLoss>;      // (n_rays)
//: if joint
var<storage, read_write> d_color: array<vec4<f32>>;       // (n_kept, color_stride), x of which is that of the raw density
//: else
var<storage, read_write> d_density: array<f32>;           // (n_kept, d_density_stride) of the raw density
//: endif
//: elif pass == "accumulate"
var<storage, read> counts: StepState;
var<storage, read> offsets: array<vec2<u32>>;             // (n_rays + 1)
var<storage, read> kept_samples: array<vec4<f32>>;        // (n_kept)
var<storage, read> kept_rays: array<vec2<u32>>;           // (n_kept)
var<storage, read> raw_color: array<vec4<f32>>;           // (n_kept, color_stride), from column color_offset on
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
var<storage, read_write> rays: array<Ray>;                // (n_rays) whose `image` is the index of the pixel in the tile
var<storage, read_write> image: array<vec4<f32>>;         // (pixels, 2) colour and opacity; samples, 0, 0, depth
//: else
var<storage, read> counts: StepState;
var<storage, read> offsets: array<vec2<u32>>;             // (n_rays + 1)
var<storage, read> kept_samples: array<vec4<f32>>;        // (n_kept)
var<storage, read> kept_rays: array<vec2<u32>>;           // (n_kept)
var<storage, read> raw_color: array<vec4<f32>>;           // (n_kept, color_stride), from column color_offset on
var<storage, read> raw_density: array<f32>;               // (n_kept, density_stride)
//: if normals
var<storage, read> d_position: array<vec4<f32>>;          // (n_kept) gradient of the raw density
//: endif
var<storage, read_write> image: array<vec4<f32>>;         // (n_rays, 2) colour and opacity; normal (or samples, 0, 0) and depth
//: endif

//: if pass == "train"
@compute @workgroup_size(64)
fn train(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays) { return; }
    var result: RayLoss;
    if (r < counts.n_rays_fitting) {
        var color = vec3<f32>(0.0);
        var transmittance = 1.0;
        for (var j = offsets[r].y; j < offsets[r + 1u].y; j++) {
            let alpha = 1.0 - exp(-density_from_raw(raw_density[j * ${density_stride}u]) * kept_samples[j].w);
            color += transmittance * alpha * color_from_raw(raw_color[j * ${color_stride}u + ${color_offset}u].xyz);
            transmittance *= 1.0 - alpha;
        }
        //: if linear
        result.background = linear_from_srgb(rays[r].background);
        result.composited = color + transmittance * result.background;
        let error = srgb_from_linear(result.composited) - targets[r].xyz;
        let slope = loss_derivative(error) * srgb_derivative(result.composited);
        //: else
        result.background = rays[r].background;
        result.composited = color + transmittance * result.background;
        let error = result.composited - targets[r].xyz;
        let slope = loss_derivative(error);
        //: endif
        // The mean over channels and over the rays that fit, of all micro-batches.
        result.slope = ${loss_weight} * slope / (3.0 * f32(counts.n_rays_fitting) * ${micro_batches}.0);
        let value = loss_value(error);
        result.loss = ${loss_weight} * (value.x + value.y + value.z) / 3.0;
        result.squared_error = dot(error, error) / 3.0;
        //: if opacity_loss
        // For opaque pixels: approximately the mean loss over random backgrounds.
        let clear = vec3<f32>(f32(${opacity_loss}) * targets[r].w * transmittance);
        result.loss += ${loss_weight} * loss_value(clear).x;
        result.transmittance_slope = ${loss_weight} * clear.x * loss_derivative(clear).x / (f32(counts.n_rays_fitting) * ${micro_batches}.0);
        //: endif
        //: if mask_loss
        // For transparent pixels: linear, since the loss on colours is quadratic and leaves faint density.
        let empty = ${loss_weight} * f32(${mask_loss}) * (1.0 - targets[r].w);
        result.loss += empty * (1.0 - transmittance);
        result.transmittance_slope -= empty * transmittance / (f32(counts.n_rays_fitting) * ${micro_batches}.0);
        //: endif
    }
    ray_losses[r] = result;
}
//: elif pass == "gradients"
@compute @workgroup_size(64)
fn gradients_of_samples(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays_fitting) { return; }
    let ray = ray_losses[r];
    let g = ray.slope;
    let end = offsets[r + 1u].y;
    // dL/dsigma_i = dt_i g . (T_i+1 c_i - colour composited behind sample i, background included).
    var color_behind = ray.composited;
    var transmittance = 1.0;
    for (var j = offsets[r].y; j < end; j++) {
        let dt = kept_samples[j].w;
        let raw = raw_density[j * ${density_stride}u];
        let alpha = 1.0 - exp(-density_from_raw(raw) * dt);
        let rgb = color_from_raw(raw_color[j * ${color_stride}u + ${color_offset}u].xyz);
        let weight = transmittance * alpha;
        transmittance *= 1.0 - alpha;
        color_behind -= weight * rgb;
        // Drop the rounding error, which an enormous last dt would amplify.
        if (j + 1u == end) { color_behind = transmittance * ray.background; }
        d_color[j * ${color_stride}u + ${color_offset}u] = vec4<f32>(weight * g * color_derivative(rgb), 0.0);
        //: if opacity_loss or mask_loss
        let d = (dot(g, transmittance * rgb - color_behind) - ray.transmittance_slope) * dt * density_derivative(raw);
        //: else
        let d = dot(g, transmittance * rgb - color_behind) * dt * density_derivative(raw);
        //: endif
        //: if joint
        d_color[j * ${color_stride}u] = vec4<f32>(d, 0.0, 0.0, 0.0);
        //: else
        d_density[j * ${d_density_stride}u] = d;
        //: endif
    }
}
//: elif pass == "depth"
const MIN_WEIGHT: f32 = 1e-7;

// The share p_j of sample j in a normal distribution around the distance D of the surface.
fn share(j: u32, surface: f32) -> f32 {
    let dt = kept_samples[j].w;
    // Narrower peaks would fall between samples.
    let deviation = max(${deviation} * surface, dt);
    let z = (bitcast<f32>(kept_rays[j].y) - surface) / deviation;
    return exp(-0.5 * z * z) * min(dt / deviation, 1.0) * 0.3989423;
}

// The cross-entropy -sum p_j log w_j of the samples' weights w and p (Deng et al. 2022, eq. 7), of every few rays.
@compute @workgroup_size(64)
fn depth_gradients(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let k = linear_group(group) * 64u + lane;
    let r = k * ${stride}u;
    if (r >= counts.n_rays_fitting) { return; }
    let known = depth_targets[k];
    let first = offsets[r].y;
    let end = offsets[r + 1u].y;
    // dL/dsigma_j = dt_j (g_j T_j+1 - sum over i > j of g_i w_i), g_i = dL/dw_i.
    var behind = 0.0;
    var loss = 0.0;
    var transmittance = 1.0;
    for (var j = first; j < end; j++) {
        let alpha = 1.0 - exp(-density_from_raw(raw_density[j * ${density_stride}u]) * kept_samples[j].w);
        let weight = transmittance * alpha;
        let p = share(j, known.x);
        loss -= p * log(weight + MIN_WEIGHT);
        behind -= p * weight / (weight + MIN_WEIGHT);
        transmittance *= 1.0 - alpha;
    }
    let factor = ${loss_weight} * ${depth_loss} * known.y;
    // Counted in the mean over all rays, of which those with a depth are every few.
    ray_losses[r].loss += factor * loss * ${stride}.0;
    let scale = factor * ${stride}.0 / (f32(counts.n_rays_fitting) * ${micro_batches}.0);
    transmittance = 1.0;
    for (var j = first; j < end; j++) {
        let dt = kept_samples[j].w;
        let raw = raw_density[j * ${density_stride}u];
        let alpha = 1.0 - exp(-density_from_raw(raw) * dt);
        let weight = transmittance * alpha;
        let g = -share(j, known.x) / (weight + MIN_WEIGHT);
        behind -= g * weight;
        transmittance *= 1.0 - alpha;
        let d = scale * dt * (g * transmittance - behind) * density_derivative(raw);
        //: if joint
        d_color[j * ${color_stride}u].x += d;
        //: else
        d_density[j * ${d_density_stride}u] += d;
        //: endif
    }
}
//: elif pass == "accumulate"
const MIN_TRANSMITTANCE: f32 = ${min_transmittance};

@compute @workgroup_size(64)
fn accumulate(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays) { return; }
    let pixel = rays[r].image;
    let before = image[2u * pixel];
    var color = before.xyz;
    var transmittance = 1.0 - before.w;
    var depth = image[2u * pixel + 1u].w;
    let first = offsets[r].y;
    let end = offsets[r + 1u].y;
    var last = vec2<f32>(0.0);
    for (var j = first; j < end && transmittance >= MIN_TRANSMITTANCE; j++) {
        last = vec2<f32>(bitcast<f32>(kept_rays[j].y), kept_samples[j].w);
        let alpha = 1.0 - exp(-density_from_raw(raw_density[j * ${density_stride}u]) * last.y);
        let weight = transmittance * alpha;
        color += weight * color_from_raw(raw_color[j * ${color_stride}u + ${color_offset}u].xyz);
        depth += weight * last.x;
        transmittance *= 1.0 - alpha;
    }
    image[2u * pixel] = vec4<f32>(color, 1.0 - transmittance);
    let evaluated = image[2u * pixel + 1u].x + f32(end - first);
    image[2u * pixel + 1u] = vec4<f32>(evaluated, 0.0, 0.0, depth);
    // More samples may follow if the march stopped only at the sample limit.
    let goes_on = end - first >= counts.max_ray_samples && transmittance >= MIN_TRANSMITTANCE && last.y > 0.0;
    rays[r].t_min = select(rays[r].t_max, (last.x + last.y) / length(rays[r].direction), goes_on);
}
//: else
//: if normals and ndc
// Transform a gradient in the box, whose space is normalised device coordinates, to world space, up to a factor.
fn world_gradient(x: vec3<f32>, d: vec3<f32>) -> vec3<f32> {
    let half = vec2<f32>(${ndc_half[0]}, ${ndc_half[1]});
    let offset = vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]});
    let p = ((x - 0.5) * (2.0 * ${half_box}) + 0.5 - offset) / ${scale};
    let z = 2.0 * ${ndc_near} / min(p.z - 1.0, -1e-6);
    let along = -dot(d.xy, p.xy) / z - 2.0 * ${ndc_near} * d.z / (z * z);
    return vec3<f32>(-d.xy / (z * half), along);
}
//: endif
@compute @workgroup_size(64)
fn render(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = linear_group(group) * 64u + lane;
    if (r >= counts.n_rays) { return; }
    var color = vec3<f32>(0.0);
    var transmittance = 1.0;
    var depth = 0.0;
    //: if normals
    var normal = vec3<f32>(0.0);
    //: else
    var evaluated = 0.0;
    //: endif
    if (r < counts.n_rays_fitting) {
        let end = offsets[r + 1u].y;
        //: if not normals
        evaluated = f32(end - offsets[r].y);
        //: endif
        for (var j = offsets[r].y; j < end; j++) {
            let alpha = 1.0 - exp(-density_from_raw(raw_density[j * ${density_stride}u]) * kept_samples[j].w);
            let weight = transmittance * alpha;
            color += weight * color_from_raw(raw_color[j * ${color_stride}u + ${color_offset}u].xyz);
            //: if ndc
            // A sample may lie at infinity, which would dominate the mean.
            depth += weight * min(bitcast<f32>(kept_rays[j].y), ${64 * ndc_near});
            //: else
            depth += weight * bitcast<f32>(kept_rays[j].y);
            //: endif
            //: if normals
            //: if ndc
            normal -= weight * world_gradient(kept_samples[j].xyz, d_position[j].xyz);
            //: else
            normal -= weight * d_position[j].xyz;
            //: endif
            //: endif
            transmittance *= 1.0 - alpha;
        }
    }
    //: if normals
    normal *= (1.0 - transmittance) * inverseSqrt(max(dot(normal, normal), 1e-20));
    //: endif
    image[2u * r] = vec4<f32>(color, 1.0 - transmittance);
    //: if normals
    image[2u * r + 1u] = vec4<f32>(normal, depth);
    //: else
    image[2u * r + 1u] = vec4<f32>(evaluated, 0.0, 0.0, depth);
    //: endif
}
//: endif
