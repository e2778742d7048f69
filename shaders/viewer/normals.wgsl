// Surface normals of a view from its depth: the plane through the points that a pixel and its neighbours see. See
// src/render/normals.rs, which does the same on the host.
#import common/camera
#import common/grid_index
#import common/lens
#import common/shade

var<uniform> shade: Shade;
var<storage, read> cameras: array<Camera>;
var<storage, read> depths: array<vec2<f32>>;              // (height, width) depth times opacity, and opacity
var<storage, read_write> pixels: array<u32>;              // (height, stride)

const MIN_OPACITY: f32 = ${min_opacity};
const MAX_SLOPE: f32 = ${max_slope};

fn unit_ray(camera: Camera, at: vec2<f32>) -> LocalRay {
    let ray = local_ray(camera, at);
    return LocalRay(ray.start, normalize(ray.direction));
}

@compute @workgroup_size(64)
fn normals(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let camera = cameras[0];
    let pixel = linear_group(group) * 64u + lane;
    if (pixel >= camera.width * camera.height) { return; }
    let at = vec2<i32>(i32(pixel % camera.width), i32(pixel / camera.width));
    let here = depths[pixel];
    var normal = vec3<f32>(0.0);
    if (here.y > MIN_OPACITY) {
        let center = vec2<f32>(at) + 0.5;
        let ray = unit_ray(camera, center);
        let right = unit_ray(camera, center + vec2<f32>(1.0, 0.0));
        let down = unit_ray(camera, center + vec2<f32>(0.0, 1.0));
        let axis_x = LocalRay(right.start - ray.start, right.direction - ray.direction);
        let axis_y = LocalRay(down.start - ray.start, down.direction - ray.direction);
        let depth = here.x / here.y;
        // The side of a pixel at this depth, across the ray.
        let side = length(axis_x.start + depth * axis_x.direction);
        let radius = i32(shade.radius);
        let reach = MAX_SLOPE * side * f32(radius);
        let spread = 0.6 * f32(radius);
        // Moments of the weights, and of the points, relative to this pixel's.
        let point = ray.start + depth * ray.direction;
        var moments = vec3<f32>(0.0);
        var mixed = vec3<f32>(0.0);
        var sum = vec3<f32>(0.0);
        var sum_x = vec3<f32>(0.0);
        var sum_y = vec3<f32>(0.0);
        for (var dy = -radius; dy <= radius; dy++) {
            for (var dx = -radius; dx <= radius; dx++) {
                let to = at + vec2<i32>(dx, dy);
                if (any(to < vec2<i32>(0)) || to.x >= i32(camera.width) || to.y >= i32(camera.height)) { continue; }
                let there = depths[u32(to.y) * camera.width + u32(to.x)];
                if (there.y <= MIN_OPACITY) { continue; }
                let to_depth = there.x / there.y;
                let x = f32(dx);
                let y = f32(dy);
                let start = ray.start + x * axis_x.start + y * axis_y.start;
                let direction = normalize(ray.direction + x * axis_x.direction + y * axis_y.direction);
                let p = start + to_depth * direction - point;
                let away = (to_depth - depth) / reach;
                let weight = there.y * exp(-away * away - (x * x + y * y) / (2.0 * spread * spread));
                moments += weight * vec3<f32>(1.0, x, y);
                mixed += weight * vec3<f32>(x * x, x * y, y * y);
                sum += weight * p;
                sum_x += weight * x * p;
                sum_y += weight * y * p;
            }
        }
        // Weighted least squares of p = a + x b + y c; the normal is c × b up to the sign.
        let mean = moments.yz / moments.x;
        let xx = mixed.x - moments.y * mean.x;
        let xy = mixed.y - moments.y * mean.y;
        let yy = mixed.z - moments.z * mean.y;
        let px = sum_x - mean.x * sum;
        let py = sum_y - mean.y * sum;
        let local = cross(py * xx - px * xy, px * yy - py * xy);
        let facing = -ray.direction;
        let size = length(local);
        var n = facing;
        if (size > 0.0) { n = local * sign(dot(local, facing)) / size; }
        let m = camera.world_from_camera;
        normal = vec3<f32>(dot(m[0].xyz, n), dot(m[1].xyz, n), dot(m[2].xyz, n));
    }
    let seen = (0.5 * normal + 0.5) * here.y + (1.0 - here.y) * shade.background;
    pixels[u32(at.y) * shade.stride + u32(at.x)] = pack4x8unorm(vec4<f32>(seen, 1.0));
}
