// The pixels of a window: RGBA8 in sRGB values, opaque. See src/render/screen.rs.
//
// `show` converts a rendered tile; `occupied` draws the occupancy grid, all pixels at once, with the cells that
// sampling/ray_march.wgsl uses: side faces are darker than top faces, coarser cascades bluer.
#import common/camera
#import common/color
#import common/crop
#import common/grid_index
#import common/scene_box
#import common/shade

var<uniform> shade: Shade;
var<storage, read> cameras: array<Camera>;
//: if pass == "show"
var<uniform> tile: vec4<u32>;                             // camera, first pixel, pixels
var<storage, read> image: array<vec4<f32>>;               // (pixels, 2) colour and opacity; normal and depth
//: if cells
var<storage, read> cells: array<u32>;                     // network of each cell
//: endif
//: else
var<uniform> crop: Crop;
var<storage, read> occupancy: array<u32>;                 // one bit a cell, ((c R + z) R + y) R + x
//: endif
var<storage, read_write> pixels: array<u32>;              // (height, stride)
//: if pass == "show"
var<storage, read_write> depths: array<vec2<f32>>;        // (height, width) depth times opacity, and opacity
//: endif

const SCALE: f32 = ${scale};
const OFFSET: vec3<f32> = vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]});
const HALF_BOX: f32 = ${half_box};

// Unit direction of pixel (x, y) of a pinhole camera.
fn seen_from(camera: Camera, x: u32, y: u32) -> vec3<f32> {
    let q = (vec2<f32>(f32(x), f32(y)) + 0.5 - camera.principal) / camera.focal;
    let v = normalize(vec3<f32>(q.x, -q.y, -1.0));
    let m = camera.world_from_camera;
    return vec3<f32>(dot(m[0].xyz, v), dot(m[1].xyz, v), dot(m[2].xyz, v));
}

fn camera_position(camera: Camera) -> vec3<f32> {
    let m = camera.world_from_camera;
    return vec3<f32>(m[0].w, m[1].w, m[2].w);
}

//: if pass == "show"
// Black, blue, violet, orange, yellow, white: monotonically lighter.
fn heat(x: f32) -> vec3<f32> {
    let t = clamp(x, 0.0, 1.0) * 5.0;
    var stops = array<vec3<f32>, 6>(
        vec3<f32>(0.02, 0.02, 0.05), vec3<f32>(0.16, 0.11, 0.44), vec3<f32>(0.55, 0.16, 0.50),
        vec3<f32>(0.90, 0.36, 0.26), vec3<f32>(0.98, 0.74, 0.28), vec3<f32>(1.0, 1.0, 0.90));
    let i = min(u32(t), 4u);
    return mix(stops[i], stops[i + 1u], t - f32(i));
}

// The colour map turbo: see src/render/screen.rs.
fn turbo(x: f32) -> vec3<f32> {
    var sum = vec3<f32>(0.0);
    //: for i in range(5, -1, -1)
    sum = sum * x + vec3<f32>(${red[i]}, ${green[i]}, ${blue[i]});
    //: endfor
    return clamp(sum, vec3<f32>(0.0), vec3<f32>(1.0));
}

// Map distances logarithmically, so that near and far ones are equally distinguishable.
fn color_of_distance(distance: f32) -> vec3<f32> {
    let t = log(max(distance, 1e-6) / shade.near) / log(shade.far / shade.near);
    return turbo(1.0 - clamp(t, 0.0, 1.0));
}

//: if cells
// A colour for each network that differs clearly from those of its neighbours.
fn color_of_network(network: u32) -> vec3<f32> {
    var h = network * 747796405u + 2891336453u;
    h = ((h >> ((h >> 28u) + 4u)) ^ h) * 277803737u;
    h = (h >> 22u) ^ h;
    let hue = f32(h & 1023u) / 1024.0 * 6.0;
    let k = abs((vec3<f32>(0.0, 4.0, 2.0) + hue) % vec3<f32>(6.0) - 3.0) - 1.0;
    return mix(vec3<f32>(0.35), clamp(k, vec3<f32>(0.0), vec3<f32>(1.0)), 0.45 + 0.4 * f32((h >> 10u) & 255u) / 255.0);
}

fn color_of_cell(world: vec3<f32>) -> vec3<f32> {
    let x = (world * SCALE + OFFSET - 0.5) * (0.5 / HALF_BOX) + 0.5;
    let at = (x - vec3<f32>(${low[0]}, ${low[1]}, ${low[2]})) * vec3<f32>(${per_unit[0]}, ${per_unit[1]}, ${per_unit[2]});
    let n = vec3<u32>(${resolution[0]}u, ${resolution[1]}u, ${resolution[2]}u);
    let i = vec3<u32>(clamp(at, vec3<f32>(0.0), vec3<f32>(n - 1u)));
    return color_of_network(cells[(i.z * n.y + i.y) * n.x + i.x]);
}
//: endif

@compute @workgroup_size(64)
fn show(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= tile.z) { return; }
    let camera = cameras[tile.x];
    let pixel = tile.y + i;
    let x = pixel % camera.width;
    let y = pixel / camera.width;
    let color = image[2u * i];
    let more = image[2u * i + 1u];
    let rest = 1.0 - color.w;
    depths[pixel] = vec2<f32>(more.w, color.w);
    var seen = shade.background;
    switch (shade.mode) {
        case 1u: { seen = color_of_distance(more.w / max(color.w, 1e-6)) * color.w + rest * shade.background; }
        case 3u: { seen = vec3<f32>(color.w); }
        //: if cells
        case 4u: {
            // Keep the brightness of the rendered colour, so that shapes stay recognisable.
            let bright = dot(color.xyz, vec3<f32>(0.3, 0.6, 0.1)) / max(color.w, 1e-6);
            let world = camera_position(camera) + seen_from(camera, x, y) * (more.w / max(color.w, 1e-6));
            seen = color_of_cell(world) * (0.35 + 0.9 * bright) * color.w + rest * shade.background;
        }
        //: endif
        case 5u: { seen = heat(more.x / shade.max_ray_samples); }
        case 2u: { return; }
        default: {
            //: if linear
            seen = srgb_from_linear(color.xyz + rest * linear_from_srgb(shade.background));
            //: else
            seen = color.xyz + rest * shade.background;
            //: endif
        }
    }
    pixels[y * shade.stride + x] = pack4x8unorm(vec4<f32>(seen, 1.0));
}
//: else
const RESOLUTION: u32 = ${side}u;
const CASCADES: u32 = ${cascades}u;
const STEPS: u32 = ${steps}u;

fn is_set(cascade: u32, at: vec3<u32>) -> bool {
    let bit = ((cascade * RESOLUTION + at.z) * RESOLUTION + at.y) * RESOLUTION + at.x;
    return ((occupancy[bit >> 5u] >> (bit & 31u)) & 1u) != 0u;
}

@compute @workgroup_size(64)
fn occupied(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let camera = cameras[0];
    let pixel = linear_group(group) * 64u + lane;
    if (pixel >= camera.width * camera.height) { return; }
    let x = pixel % camera.width;
    let y = pixel / camera.width;
    let d = seen_from(camera, x, y);
    let direction = select(d, vec3<f32>(1e-9), abs(d) < vec3<f32>(1e-9));
    let origin = camera_position(camera) * SCALE + OFFSET;
    var range = box_range(origin, direction, HALF_BOX);
    if (crop.is_set != 0u) {
        let cut = range_between(crop.low * SCALE + OFFSET, crop.high * SCALE + OFFSET, origin, direction);
        range = vec2<f32>(max(range.x, cut.x), min(range.y, cut.y));
    }
    var t = max(range.x, 0.0) + 1e-6;
    var face = 3u;
    var seen = shade.background;
    for (var i = 0u; i < STEPS && t < range.y; i++) {
        let u = origin + t * direction;
        let from_centre = abs(u - 0.5);
        let reach = max(from_centre.x, max(from_centre.y, from_centre.z));
        var cascade = 0u;
        while (cascade + 1u < CASCADES && reach > 0.5 * f32(1u << cascade)) { cascade++; }
        let size = f32(1u << cascade) / f32(RESOLUTION);
        let cell = (u - 0.5) / size + 0.5 * f32(RESOLUTION);
        let at = vec3<u32>(clamp(cell, vec3<f32>(0.0), vec3<f32>(f32(RESOLUTION) - 1.0)));
        if (is_set(cascade, at)) {
            var normal = vec3<f32>(0.0);
            if (face < 3u) { normal[face] = -sign(direction[face]); }
            let light = 0.62 + 0.25 * dot(normal, shade.up) + 0.08 * normal.x + 0.05 * normal.y;
            let checker = f32((at.x + at.y + at.z) & 1u) * 0.06;
            let far = f32(cascade) / f32(max(CASCADES, 2u) - 1u);
            seen = mix(vec3<f32>(0.95, 0.80, 0.55), vec3<f32>(0.50, 0.65, 0.95), far) * (light - checker);
            break;
        }
        // Move into the next cell.
        let ahead = floor(cell) + select(vec3<f32>(0.0), vec3<f32>(1.0), direction > vec3<f32>(0.0));
        let to = max((ahead - cell) * size / direction, vec3<f32>(0.0));
        face = select(select(2u, 1u, to.y <= to.z), 0u, to.x <= min(to.y, to.z));
        t += min(to.x, min(to.y, to.z)) + 1e-4 * size;
    }
    pixels[y * shade.stride + x] = pack4x8unorm(vec4<f32>(seen, 1.0));
}
//: endif
