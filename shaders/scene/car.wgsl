// A toy car of given proportions and colours, nose along +x, within [-1.2, 1.2]^3. See src/scene/car.rs.

struct Car {
    half: vec3<f32>,          // half length, width and height of the body
    wheel: f32,               // radius
    cabin_at: f32,            // centre of the cabin along x
    cabin_half: f32,          // half its length at the base
    cabin_height: f32,
    slope: f32,               // how far the cabin's front and back lean inwards, per unit of height
    paint: vec3<f32>,         // colours are linear
    stripe_width: f32,        // half the width; 0 for no stripe
    stripe: vec3<f32>,
    spoiler: f32,             // height; 0 for no spoiler
    roof: vec3<f32>,
    nose: f32,                // how far the bonnet drops towards the front
}

var<uniform> car: Car;

const BOX_MIN = vec3<f32>(-1.2, -0.6, -0.62);
const BOX_MAX = vec3<f32>(1.2, 0.6, 0.62);
const GROUND: f32 = -0.42;

const BODY: u32 = 1u;
const CABIN: u32 = 2u;
const WHEEL: u32 = 3u;
const SPOILER: u32 = 4u;

fn rounded_box(p: vec3<f32>, half: vec3<f32>, rounding: f32) -> f32 {
    let d = abs(p) - half + rounding;
    return length(max(d, vec3<f32>(0.0))) + min(max(d.x, max(d.y, d.z)), 0.0) - rounding;
}

// Height of the body's centre above the ground.
fn body_height() -> f32 { return GROUND + 1.15 * car.wheel + car.half.z; }

// Height of the body's top at x above its centre: it drops towards the front.
fn bonnet(x: f32) -> f32 {
    let share = smoothstep(0.25 * car.half.x, car.half.x, x);
    return car.half.z - car.nose * share;
}

// Position of p relative to the nearest wheel: along x from its centre, across from its face, up from its axle.
fn into_wheel(p: vec3<f32>) -> vec3<f32> {
    let axle = 0.62 * car.half.x;
    return vec3<f32>(abs(p.x) - axle, abs(p.y) - car.half.y, p.z - GROUND - car.wheel);
}

fn nearest(p: vec3<f32>) -> Nearest {
    let q = vec3<f32>(p.xy, p.z - body_height());
    // The box without the part above the bonnet; slightly less than the true distance, which only costs more steps.
    let block = max(rounded_box(q, car.half, 0.06), 0.8 * (q.z - bonnet(q.x)));
    let wheel = into_wheel(p);
    let across = length(wheel.xz);
    // Cut out arches around the wheels.
    let arch = max(across - 1.12 * car.wheel, -0.16 - wheel.y);
    var best = Nearest(max(block, -arch), BODY);

    let up = q.z - car.half.z;
    let lean = car.slope * max(up, 0.0);
    let cabin = vec3<f32>(q.x - car.cabin_at, q.y, up - 0.5 * car.cabin_height);
    let foot = vec3<f32>(car.cabin_half - lean, 0.86 * car.half.y - 0.35 * lean, 0.5 * car.cabin_height + 0.03);
    best = closer(best, 0.8 * rounded_box(cabin, foot, 0.05), CABIN);

    let tyre = rounded_disc(vec2<f32>(across, wheel.y + 0.06), car.wheel, 0.075, 0.025);
    best = closer(best, tyre, WHEEL);

    if (car.spoiler > 0.0) {
        let at = vec3<f32>(q.x + 0.93 * car.half.x, q.y, up - car.spoiler);
        let wing = rounded_box(at, vec3<f32>(0.08, 0.9 * car.half.y, 0.018), 0.015);
        let post = vec3<f32>(at.x, abs(at.y) - 0.55 * car.half.y, at.z + 0.5 * car.spoiler);
        best = closer(best, min(wing, rounded_box(post, vec3<f32>(0.03, 0.02, 0.5 * car.spoiler), 0.01)), SPOILER);
    }
    return best;
}

fn painted(color: vec3<f32>) -> Material { return Material(color, 0.35, vec3<f32>(0.05), false); }

fn body_material(q: vec3<f32>) -> Material {
    let side = abs(q.y);
    if (abs(q.x) > car.half.x - 0.02 && side > 0.5 * car.half.y && side < 0.9 * car.half.y && abs(q.z) < 0.5 * car.half.z) {
        return painted(select(vec3<f32>(0.55, 0.01, 0.01), vec3<f32>(0.95, 0.88, 0.60), q.x > 0.0));
    }
    if (q.z < -0.72 * car.half.z) { return painted(vec3<f32>(0.025)); }
    return painted(select(car.paint, car.stripe, side < car.stripe_width));
}

fn cabin_material(q: vec3<f32>) -> Material {
    let up = (q.z - car.half.z) / car.cabin_height;
    if (up > 0.90) { return painted(select(car.roof, car.stripe, abs(q.y) < car.stripe_width)); }
    // Windows between pillars.
    let pillar = abs(abs(q.x - car.cabin_at) - 0.04) < 0.03 && abs(q.y) > 0.6 * car.half.y;
    if (up < 0.15 || pillar) { return painted(car.paint); }
    return Material(vec3<f32>(0.02, 0.03, 0.045), 0.2, vec3<f32>(0.08), false);
}

fn material_at(p: vec3<f32>, solid: u32) -> Material {
    let q = vec3<f32>(p.xy, p.z - body_height());
    switch solid {
        case BODY: { return body_material(q); }
        case CABIN: { return cabin_material(q); }
        case SPOILER: { return painted(car.stripe); }
        default: {
            let across = length(into_wheel(p).xz);
            return painted(select(vec3<f32>(0.018), vec3<f32>(0.45, 0.46, 0.48), across < 0.55 * car.wheel));
        }
    }
}
