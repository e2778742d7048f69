// Lit solids: render an image (width, height) of a scene by sphere tracing its signed distance field.
//
//   pixel = mean over samples of (shade(hit), 1), or (0, 0) where a ray leaves the box; straight alpha, sRGB.
//
// `draw` writes colours, `measure` the distances along the rays of the pixels' centres.
//
// World units, z up. The scene's shader defines the box (BOX_MIN, BOX_MAX), the distance to the nearest solid (`nearest`),
// and its material (`material_at`). See src/scene.rs.
#import common/color
#import common/grid_index
#import ${scene}
//: if room
#import scene/room
//: endif

struct View {
    world_from_camera: array<vec4<f32>, 3>, // rows
    focal: vec2<f32>,                       // pixels
    principal: vec2<f32>,                   // pixels
    width: u32,
    n_pixels: u32,
    first_pixel: u32,                       // of this dispatch
    n_tile: u32,                            // pixels of this dispatch
}

var<uniform> view: View;
//: if pass == "measure"
var<storage, read_write> distances: array<f32>;           // (height, width); 0 where a ray leaves the box
//: else
var<storage, read_write> image: array<u32>;               // (height, width) RGBA8
//: endif

const SAMPLES: u32 = ${samples}u;                         // per side of a pixel
const HIT: f32 = 0.0006;                                  // distance that counts as a hit

const TO_KEY = vec3<f32>(-0.7000, -0.3000, 0.6481);       // unit vector towards the key light
const KEY = vec3<f32>(2.75, 2.55, 2.25);
const TO_FILL = vec3<f32>(0.8018, -0.2673, 0.5345);       // a weak second light, without shadow
const FILL = vec3<f32>(0.20, 0.24, 0.31);

// --- distances -----------------------------------------------------------------------------------------------------

// Upright cylinder with rounded edges; `q` is (distance from the axis, height above the centre).
fn rounded_disc(q: vec2<f32>, radius: f32, half_height: f32, rounding: f32) -> f32 {
    let d = vec2<f32>(q.x - radius, abs(q.y) - half_height) + rounding;
    return length(max(d, vec2<f32>(0.0))) + min(max(d.x, d.y), 0.0) - rounding;
}

struct Nearest { distance: f32, solid: u32 }

fn closer(a: Nearest, distance: f32, solid: u32) -> Nearest {
    if (distance < a.distance) { return Nearest(distance, solid); }
    return a;
}

// Unit normal: the gradient of the distance, from the corners of a tetrahedron.
fn normal_at(p: vec3<f32>) -> vec3<f32> {
    var gradient = vec3<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        let corner = vec3<f32>(vec3<u32>(((i + 3u) >> 1u) & 1u, (i >> 1u) & 1u, i & 1u)) * 2.0 - 1.0;
        gradient += corner * nearest(p + corner * 0.0008).distance;
    }
    return normalize(gradient);
}

// Distance along the ray to a surface; negative if it leaves the box first.
fn trace(origin: vec3<f32>, direction: vec3<f32>) -> f32 {
    let inverse = 1.0 / select(direction, vec3<f32>(1e-9), abs(direction) < vec3<f32>(1e-9));
    let a = (BOX_MIN - origin) * inverse;
    let b = (BOX_MAX - origin) * inverse;
    let low = min(a, b);
    let high = min(max(a, b), vec3<f32>(1e9));
    let end = min(high.x, min(high.y, high.z));
    var t = max(max(low.x, low.y), max(low.z, 0.0));
    for (var i = 0u; i < 96u && t < end; i++) {
        let d = nearest(origin + t * direction).distance;
        if (d < HIT) { return t; }
        t += d;
    }
    return select(-1.0, t, t < end && nearest(origin + t * direction).distance < 0.004);
}

// --- light ---------------------------------------------------------------------------------------------------------

// Fraction of the key light that reaches p: a penumbra from the closest approach to a solid relative to the distance there.
fn key_visibility(p: vec3<f32>) -> f32 {
    var open = 1.0;
    var t = 0.015;
    for (var i = 0u; i < 28u && t < 1.7 && open > 0.0; i++) {
        let q = p + t * TO_KEY;
        if (q.z > BOX_MAX.z) { break; }
        let d = nearest(q).distance;
        open = min(open, 0.5 + 7.0 * d / t);
        t += clamp(d, 0.012, 0.16);
    }
    open = clamp(open, 0.0, 1.0);
    return open * open * (3.0 - 2.0 * open);
}

// Fraction of the sky's light that reaches p (ambient occlusion), from distances to the solids along the normal.
fn openness(p: vec3<f32>, normal: vec3<f32>) -> f32 {
    var blocked = 0.0;
    var weight = 1.0;
    for (var i = 1u; i <= 4u; i++) {
        let height = 0.07 * f32(i);
        blocked += weight * (height - nearest(p + height * normal).distance);
        weight *= 0.65;
    }
    return clamp(1.0 - 2.2 * blocked, 0.0, 1.0);
}

// The environment that reflected rays see: a sky over brown ground, a window in front of the key light, a strip of light.
fn environment(direction: vec3<f32>, roughness: f32) -> vec3<f32> {
    let blur = 0.02 + 0.5 * roughness;
    let sky = mix(vec3<f32>(0.72, 0.80, 0.88), vec3<f32>(0.16, 0.30, 0.62), smoothstep(0.0, 0.9, direction.z));
    var light = mix(vec3<f32>(0.20, 0.15, 0.11), sky, smoothstep(-0.15 - blur, 0.05 + blur, direction.z));
    // The window's panes: a square seen along the key light, with a cross in it.
    let right = vec3<f32>(-0.3939, 0.9191, 0.0);
    let at = vec2<f32>(dot(direction, right), dot(direction, cross(TO_KEY, right))) / max(dot(direction, TO_KEY), 1e-3);
    let inside = 0.38 - max(abs(at.x), abs(at.y));
    let cross_bar = min(abs(at.x), abs(at.y)) - 0.02;
    let facing = smoothstep(0.0, 0.2, dot(direction, TO_KEY));
    let pane = smoothstep(-blur, blur, inside) * smoothstep(-blur, blur, cross_bar + 0.5 * blur);
    light += vec3<f32>(4.6, 4.3, 3.8) * (pane * facing / (1.0 + 20.0 * roughness));
    let strip = smoothstep(0.90 - blur, 0.97, dot(direction, TO_FILL));
    return light + vec3<f32>(0.9, 1.0, 1.2) * (strip / (1.0 + 6.0 * roughness));
}

struct Material { albedo: vec3<f32>, roughness: f32, specular: vec3<f32>, mirror: bool }

// GGX distribution times Smith's visibility term (Walter et al. 2007), without the Fresnel factor.
fn ggx(roughness: f32, n_h: f32, n_l: f32, n_v: f32) -> f32 {
    let a = roughness * roughness;
    let spread = n_h * n_h * (a * a - 1.0) + 1.0;
    let k = 0.5 * a;
    let shadowing = (n_l * (1.0 - k) + k) * (n_v * (1.0 - k) + k);
    return a * a / (3.14159265 * spread * spread) * 0.25 / shadowing;
}

// Schlick's approximation.
fn fresnel(specular: vec3<f32>, cosine: f32) -> vec3<f32> {
    return specular + (1.0 - specular) * pow(clamp(1.0 - cosine, 0.0, 1.0), 5.0);
}

// --- rays ----------------------------------------------------------------------------------------------------------

// Linear colour along a ray, and 1; zero if nothing is hit. A mirror reflects the ray once.
fn radiance(camera: vec3<f32>, towards: vec3<f32>) -> vec4<f32> {
    var origin = camera;
    var direction = towards;
    var through = vec3<f32>(1.0);
    var color = vec3<f32>(0.0);
    for (var bounce = 0u; bounce < 2u; bounce++) {
        let t = trace(origin, direction);
        if (t < 0.0) {
            //: if room
            color += through * room_color(origin, direction);
            break;
            //: else
            if (bounce == 0u) { return vec4<f32>(0.0); }
            //: endif
            //: if not room
            color += through * environment(direction, 0.0);
            break;
            //: endif
        }
        let p = origin + t * direction;
        let n = normal_at(p);
        let m = material_at(p, nearest(p).solid);
        let n_v = max(dot(n, -direction), 1e-3);
        let n_l = max(dot(n, TO_KEY), 0.0);
        let h = normalize(TO_KEY - direction);
        var key = vec3<f32>(0.0);
        if (n_l > 0.0) { key = KEY * (n_l * key_visibility(p + 0.004 * n)); }
        let open = openness(p, n);
        let sky = mix(vec3<f32>(0.17, 0.145, 0.12), vec3<f32>(0.34, 0.40, 0.50), 0.5 + 0.5 * n.z) * open;
        let fill = FILL * (max(dot(n, TO_FILL), 0.0) * open);
        let glint = ggx(m.roughness, max(dot(n, h), 0.0), n_l, n_v) * fresnel(m.specular, max(dot(h, TO_KEY), 0.0));
        color += through * (m.albedo * (0.36 * key + sky + fill) + min(glint, vec3<f32>(6.0)) * key);
        let bounced = reflect(direction, n);
        let reflected = fresnel(m.specular, n_v);
        if (!m.mirror || bounce == 1u) {
            let dull = (1.0 - m.roughness) * (1.0 - m.roughness);
            color += through * reflected * environment(bounced, m.roughness) * (dull * open);
            break;
        }
        through *= reflected;
        origin = p + 0.003 * n;
        direction = bounced;
    }
    return vec4<f32>(color, 1.0);
}

// Keep values below 0.65 and compress the rest towards 1.
fn shoulder(c: vec3<f32>) -> vec3<f32> {
    return select(1.0 - 0.35 * exp((0.65 - c) / 0.35), c, c < vec3<f32>(0.65));
}

//: if pass == "measure"
@compute @workgroup_size(64)
fn measure(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    let pixel = view.first_pixel + i;
    if (i >= view.n_tile || pixel >= view.n_pixels) { return; }
    let m = view.world_from_camera;
    let eye = vec3<f32>(m[0].w, m[1].w, m[2].w);
    let q = (vec2<f32>(f32(pixel % view.width), f32(pixel / view.width)) + 0.5 - view.principal) / view.focal;
    let v = normalize(vec3<f32>(q.x, -q.y, -1.0));
    let direction = vec3<f32>(dot(m[0].xyz, v), dot(m[1].xyz, v), dot(m[2].xyz, v));
    distances[pixel] = max(trace(eye, direction), 0.0);
}
//: else
@compute @workgroup_size(64)
fn draw(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    let pixel = view.first_pixel + i;
    if (i >= view.n_tile || pixel >= view.n_pixels) { return; }
    let corner = vec2<f32>(f32(pixel % view.width), f32(pixel / view.width));
    let m = view.world_from_camera;
    let eye = vec3<f32>(m[0].w, m[1].w, m[2].w);
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < SAMPLES * SAMPLES; s++) {
        let within = (vec2<f32>(f32(s % SAMPLES), f32(s / SAMPLES)) + 0.5) / f32(SAMPLES);
        let q = (corner + within - view.principal) / view.focal;
        let v = normalize(vec3<f32>(q.x, -q.y, -1.0));
        let seen = radiance(eye, vec3<f32>(dot(m[0].xyz, v), dot(m[1].xyz, v), dot(m[2].xyz, v)));
        sum += vec4<f32>(shoulder(seen.rgb), seen.a);
    }
    let color = srgb_from_linear(sum.rgb / max(sum.a, 1.0));
    image[pixel] = pack4x8unorm(vec4<f32>(color, sum.a / f32(SAMPLES * SAMPLES)));
}
//: endif
