// Camera rays: pixel -> undistorted direction -> world. See src/camera.rs; Camera::ray is the CPU reference.
//
// Entry points: `training_rays` draws random pixels of the images in one chunk; `camera_rays` makes the rays of one camera's
// pixels in order.
#import common/camera
#import common/color
#import common/crop
#import common/grid_index
#import common/pcg
#import common/ray
#import common/scene_box
#import common/step

var<storage, read> cameras: array<Camera>;
var<storage, read> counts: StepState;
var<storage, read_write> rays: array<Ray>;                // (n_rays)
//: if pass == "training"
var<storage, read> pixels: array<u32>;                    // one chunk of RGBA8 images
var<storage, read> tasks: array<vec2<u32>>;               // first image, number of images
var<storage, read_write> targets: array<vec4<f32>>;       // (n_rays) target colour over the ray's background
//: else
var<uniform> tile: vec4<u32>;                             // camera index, first pixel
var<uniform> crop: Crop;
//: endif

const PIXEL_CENTER: f32 = ${pixel_center};

// The distorted image of the undistorted point p, and the Jacobian by columns.
struct Distorted { at: vec2<f32>, dx: vec2<f32>, dy: vec2<f32> }

fn distort(camera: Camera, p: vec2<f32>) -> Distorted {
    let k = camera.distortion;
    let r2 = dot(p, p);
    let radial = 1.0 + r2 * (k.x + r2 * (k.y + r2 * camera.k3));
    let slope = 2.0 * (k.x + r2 * (2.0 * k.y + r2 * 3.0 * camera.k3)); // d radial / d r2 * 2
    let xy = p.x * p.y;
    var d: Distorted;
    d.at = p * radial + vec2<f32>(2.0 * k.z * xy + k.w * (r2 + 2.0 * p.x * p.x), k.z * (r2 + 2.0 * p.y * p.y) + 2.0 * k.w * xy);
    let mixed = xy * slope + 2.0 * k.z * p.x + 2.0 * k.w * p.y;
    d.dx = vec2<f32>(radial + p.x * p.x * slope + 2.0 * k.z * p.y + 6.0 * k.w * p.x, mixed);
    d.dy = vec2<f32>(mixed, radial + p.y * p.y * slope + 6.0 * k.z * p.y + 2.0 * k.w * p.x);
    return d;
}

// Newton's method on distort(p) = q.
fn undistort(camera: Camera, q: vec2<f32>) -> vec2<f32> {
    var p = q;
    for (var i = 0u; i < 12u; i++) {
        let d = distort(camera, p);
        let error = d.at - q;
        let determinant = d.dx.x * d.dy.y - d.dy.x * d.dx.y;
        if (abs(determinant) < 1e-6) { break; }
        let move_by = vec2<f32>(d.dy.y * error.x - d.dy.x * error.y, d.dx.x * error.y - d.dx.y * error.x) / determinant;
        p -= move_by;
        if (dot(move_by, move_by) < 1e-14) { break; }
    }
    return p;
}

// Direction in camera space (x right, y down, z forward) seen through the image plane at q, for a fisheye lens whose
// distance from the centre is theta (1 + k1 theta^2 + ...).
fn fisheye_direction(camera: Camera, q: vec2<f32>) -> vec3<f32> {
    let k = camera.distortion;
    let r = length(q);
    if (r < 1e-8) { return vec3<f32>(q, 1.0); }
    var theta = r;
    for (var i = 0u; i < 12u; i++) {
        let t2 = theta * theta;
        let value = theta * (1.0 + t2 * (k.x + t2 * (k.y + t2 * (k.z + t2 * k.w)))) - r;
        let slope = 1.0 + t2 * (3.0 * k.x + t2 * (5.0 * k.y + t2 * (7.0 * k.z + t2 * 9.0 * k.w)));
        if (abs(slope) < 1e-6) { break; }
        theta -= value / slope;
    }
    return vec3<f32>(q * (sin(theta) / r), cos(theta));
}

fn camera_ray(camera: Camera, image: u32, pixel: u32) -> Ray {
    let at = vec2<f32>(f32(pixel % camera.width), f32(pixel / camera.width)) + PIXEL_CENTER;
    let q = (at - camera.principal) / camera.focal;
    var local = vec3<f32>(q, 1.0);
    if (camera.lens == 1u) { local = vec3<f32>(undistort(camera, q), 1.0); }
    if (camera.lens == 2u) { local = fisheye_direction(camera, q); }
    var start = vec4<f32>(0.0, 0.0, 0.0, 1.0);
    if (camera.lens == 3u) {
        local = vec3<f32>(0.0, 0.0, 1.0);
        start = vec4<f32>(q.x, -q.y, 0.0, 1.0);
    }
    if (camera.lens == 4u) { local = vec3<f32>(cos(q.y) * sin(q.x), sin(q.y), cos(q.y) * cos(q.x)); }
    //: if plane
    // Scale to the plane at depth 1, if the lens has one.
    var v = vec3<f32>(local.x, -local.y, -local.z);
    if (camera.lens > 1u) { v = normalize(v); }
    //: else
    let v = normalize(vec3<f32>(local.x, -local.y, -local.z));
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

//: if pass == "training"
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
    let pixel = y * camera.width + x;
    var ray = camera_ray(camera, image, pixel);
    //: if near_steps > 0
    // Start at most at the middle of the ray's interval.
    let start = ${near_start} * (1.0 - f32(min(counts.step, ${near_steps}u)) / ${near_steps}.0);
    ray.t_min = clamp(start, ray.t_min, 0.5 * (ray.t_min + ray.t_max));
    //: endif
    //: if random_background
    ray.background = vec3<f32>(random(&state), random(&state), random(&state));
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
