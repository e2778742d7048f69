// Camera rays: pixel -> undistorted direction (common/lens.wgsl) -> world. See src/camera.rs; Camera::ray is the CPU reference.
//
// Entry points: `training_rays` draws random pixels of the images in one chunk; `depth_rays` replaces every few of them by pixels
// whose depth is known; `camera_rays` makes the rays of one camera's pixels in order.
#import common/camera
#import common/color
#import common/crop
#import common/grid_index
#import common/lens
#import common/pcg
#import common/ray
#import common/scene_box
#import common/step

var<storage, read> cameras: array<Camera>;
var<storage, read> counts: StepState;
var<storage, read_write> rays: array<Ray>;                // (n_rays)
//: if pass == "training" or pass == "depth"
var<storage, read> pixels: array<u32>;                    // one chunk of RGBA8 images
var<storage, read_write> targets: array<vec4<f32>>;       // (n_rays) target colour over the ray's background
//: endif
//: if pass == "depth"
var<storage, read> depth_samples: array<DepthSample>;
var<storage, read_write> depth_targets: array<vec2<f32>>; // (n_rays / stride) distance, weight
//: elif pass == "training"
var<storage, read> tasks: array<vec2<u32>>;               // first image, number of images
//: if masked
var<storage, read> masks: array<vec2<u32>>;               // (pixels / 32) bit set if used, used pixels of the image before
//: endif
//: else
var<uniform> tile: vec4<u32>;                             // camera index, first pixel
var<uniform> crop: Crop;
//: endif

const PIXEL_CENTER: f32 = ${pixel_center};

//: if pass == "depth"
// The known depth of a pixel.
struct DepthSample {
    image: u32,
    pixel: u32,
    distance: f32, // along the ray, in the field's units
    weight: f32,
}
//: endif

fn camera_ray(camera: Camera, image: u32, pixel: u32) -> Ray {
    let at = vec2<f32>(f32(pixel % camera.width), f32(pixel / camera.width)) + PIXEL_CENTER;
    let seen = local_ray(camera, at);
    let start = vec4<f32>(seen.start, 1.0);
    //: if plane
    // Keep the plane at depth 1, if the lens has one.
    var v = seen.direction;
    if (camera.lens > 1u) { v = normalize(v); }
    //: else
    let v = normalize(seen.direction);
    //: endif
    let m = camera.world_from_camera;
    var ray: Ray;
    ray.origin = vec3<f32>(dot(m[0], start), dot(m[1], start), dot(m[2], start));
    ray.direction = vec3<f32>(dot(m[0].xyz, v), dot(m[1].xyz, v), dot(m[2].xyz, v));
    //: if plane
    ray.view_dir = normalize(ray.direction);
    //: else
    ray.view_dir = ray.direction;
    //: endif
    ray.t_min = camera.near;
    ray.t_max = camera.far;
    ray.image = image;
    ray.pixel = pixel;
    ray.background = vec3<f32>(${background[0]}, ${background[1]}, ${background[2]});
    return ray;
}

//: if pass == "training" or pass == "depth"
// Write ray i, through `pixel` of `image`, and its target.
fn write_ray(i: u32, camera: Camera, image: u32, pixel: u32, state: ptr<function, u32>) {
    var ray = camera_ray(camera, image, pixel);
    //: if near_steps > 0
    // Start at most at the middle of the ray's interval.
    let start = ${near_start} * (1.0 - f32(min(counts.step, ${near_steps}u)) / ${near_steps}.0);
    ray.t_min = clamp(start, ray.t_min, 0.5 * (ray.t_min + ray.t_max));
    //: endif
    //: if random_background
    ray.background = vec3<f32>(random(state), random(state), random(state));
    //: endif
    rays[i] = ray;
    let rgba = unpack4x8unorm(pixels[camera.first_pixel + pixel]);
    //: if linear
    let blended = linear_from_srgb(rgba.rgb) * rgba.a + linear_from_srgb(ray.background) * (1.0 - rgba.a);
    targets[i] = vec4<f32>(srgb_from_linear(blended), rgba.a);
    //: else
    targets[i] = vec4<f32>(rgba.rgb * rgba.a + ray.background * (1.0 - rgba.a), rgba.a);
    //: endif
}
//: endif

//: if pass == "depth"
@compute @workgroup_size(64)
fn depth_rays(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let k = linear_group(group) * 64u + lane;
    let i = k * ${stride}u;
    if (i >= counts.n_rays) { return; }
    var state = random_seed(counts.seed ^ 0x9e3779b9u, counts.step, counts.n_rays_total + i);
    let drawn = depth_samples[min(u32(random(&state) * ${n_samples}.0), ${n_samples}u - 1u)];
    let camera = cameras[drawn.image];
    if (camera.chunk != ${chunk}u) { return; }
    write_ray(i, camera, drawn.image, drawn.pixel, &state);
    depth_targets[k] = vec2<f32>(drawn.distance, drawn.weight);
}
//: elif pass == "training"
//: if masked
// Whether the mask of `camera` shows `pixel`.
fn is_used(camera: Camera, pixel: u32) -> bool {
    return camera.first_mask == NO_MASK || ((masks[camera.first_mask + pixel / 32u].x >> (pixel % 32u)) & 1u) == 1u;
}

// The pixel that is number u * (number of used pixels) among the used pixels of `camera`, for u in [0, 1).
fn used_pixel(camera: Camera, u: f32) -> u32 {
    var low = camera.first_mask;
    var high = low + (camera.width * camera.height + 31u) / 32u - 1u;
    let n = masks[high].y + countOneBits(masks[high].x);
    let wanted = min(u32(u * f32(n)), n - 1u);
    // The last word with at most `wanted` used pixels before it.
    while (low < high) {
        let middle = (low + high + 1u) / 2u;
        if (masks[middle].y <= wanted) { low = middle; } else { high = middle - 1u; }
    }
    var word = masks[low].x;
    for (var i = masks[low].y; i < wanted; i++) { word &= word - 1u; }
    return (low - camera.first_mask) * 32u + countTrailingZeros(word);
}

//: endif
@compute @workgroup_size(64)
fn training_rays(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays) { return; }
    // n_rays_total makes the random numbers of a step's micro-batches differ.
    var state = random_seed(counts.seed, counts.step, counts.n_rays_total + i);
    // Images are stratified over the rays, so that each batch samples all of them evenly.
    let images = tasks[counts.task];
    let image = images.x + min(u32((f32(i) + random(&state)) * f32(images.y) / f32(counts.n_rays)), images.y - 1u);
    let camera = cameras[image];
    var at = vec2<f32>(random(&state), random(&state));
    //: if crop_steps > 0
    if (counts.step < ${crop_steps}u) { at = 0.5 + (at - 0.5) * ${crop_fraction}; }
    //: endif
    let x = min(u32(at.x * f32(camera.width)), camera.width - 1u);
    let y = min(u32(at.y * f32(camera.height)), camera.height - 1u);
    if (camera.chunk != ${chunk}u) { return; }
    //: if masked
    var pixel = y * camera.width + x;
    // What replaces the pixels that are not used is uniform over the others, so that all are equally likely.
    if (!is_used(camera, pixel)) { pixel = used_pixel(camera, random(&state)); }
    //: else
    let pixel = y * camera.width + x;
    //: endif
    write_ray(i, camera, image, pixel, &state);
}
//: else
@compute @workgroup_size(64)
fn camera_rays(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= counts.n_rays) { return; }
    var ray = camera_ray(cameras[tile.x], tile.x, tile.y + i);
    if (crop.is_set != 0u) {
        let range = range_between(crop.low, crop.high, ray.origin, ray.direction);
        ray.t_min = max(ray.t_min, range.x);
        if (range.y < ray.t_max) {
            ray.t_max = max(range.y, ray.t_min);
            ray.pixel |= CROPPED;
        }
    }
    rays[i] = ray;
}
//: endif
