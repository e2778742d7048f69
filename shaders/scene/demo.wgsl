// The demo scene: solids on a pedestal, within [-1.2, 1.2]^3. See src/scene.rs.

const BOX_MIN = vec3<f32>(-1.12, -1.12, -0.68);
const BOX_MAX = vec3<f32>(1.12, 1.12, 0.80);
const FLOOR: f32 = -0.42;                                 // top of the pedestal

const SPHERE_AT = vec3<f32>(0.40, -0.44, FLOOR + 0.34);
const CUBE_AT = vec3<f32>(-0.46, -0.34, FLOOR + 0.262);
const TORUS_AT = vec3<f32>(-0.34, 0.42, FLOOR + 0.415);
const TORUS_AXIS = vec3<f32>(0.5145, -0.8575, 0.0);       // horizontal: the ring stands on its rim
const TOWER_AT = vec2<f32>(0.42, 0.36);

const PEDESTAL: u32 = 0u;
const SPHERE: u32 = 1u;
const CUBE: u32 = 2u;
const TORUS: u32 = 3u;
const TOWER: u32 = 4u;
const FINIAL: u32 = 5u;

// --- distances -----------------------------------------------------------------------------------------------------

// The cube's frame, rotated by 33 degrees about z.
fn into_cube(v: vec3<f32>) -> vec3<f32> {
    return vec3<f32>(0.8387 * v.x + 0.5446 * v.y, -0.5446 * v.x + 0.8387 * v.y, v.z);
}

// Distance to the nearest solid, and its index.
fn nearest(p: vec3<f32>) -> Nearest {
    let r = length(p.xy);
    let slab = rounded_disc(vec2<f32>(r, p.z - (FLOOR - 0.07)), 1.08, 0.07, 0.025);
    let foot = rounded_disc(vec2<f32>(r, p.z - (FLOOR - 0.18)), 0.92, 0.06, 0.02);
    var best = Nearest(min(slab, foot), PEDESTAL);

    best = closer(best, length(p - SPHERE_AT) - 0.34, SPHERE);

    let c = abs(into_cube(p - CUBE_AT)) - vec3<f32>(0.215);
    best = closer(best, length(max(c, vec3<f32>(0.0))) + min(max(c.x, max(c.y, c.z)), 0.0) - 0.045, CUBE);

    let t = p - TORUS_AT;
    let along = dot(t, TORUS_AXIS);
    let ring = length(t - along * TORUS_AXIS) - 0.30;
    best = closer(best, length(vec2<f32>(ring, along)) - 0.115, TORUS);

    let a = length(p.xy - TOWER_AT);
    let drum = rounded_disc(vec2<f32>(a, p.z - (FLOOR + 0.16)), 0.29, 0.16, 0.03);
    let neck = rounded_disc(vec2<f32>(a, p.z - (FLOOR + 0.44)), 0.20, 0.14, 0.015);
    // Cone of radius 0.27 and height 0.46: its lateral surface and its base.
    let cone = max(0.8624 * a + 0.5062 * (p.z - (FLOOR + 1.04)), FLOOR + 0.58 - p.z);
    best = closer(best, min(min(drum, neck), cone), TOWER);
    return closer(best, length(vec2<f32>(a, p.z - (FLOOR + 1.06))) - 0.065, FINIAL);
}

// --- materials -----------------------------------------------------------------------------------------------------

fn pedestal_material(p: vec3<f32>) -> Material {
    let r = length(p.xy);
    let grain = 0.5 + 0.5 * sin(70.0 * r + 14.0 * p.z + 2.5 * sin(6.0 * atan2(p.y, p.x)));
    let wood = mix(vec3<f32>(0.20, 0.085, 0.032), vec3<f32>(0.34, 0.16, 0.065), grain);
    if (p.z < FLOOR - 0.005 || r > 0.93) { return Material(wood, 0.45, vec3<f32>(0.04), false); }
    if (r > 0.88) { return Material(vec3<f32>(0.30, 0.20, 0.06), 0.30, vec3<f32>(0.75, 0.52, 0.18), false); }
    let tile = vec2<i32>(floor(p.xy / 0.22));
    let dark = ((tile.x + tile.y) & 1) == 1;
    return Material(select(vec3<f32>(0.74, 0.69, 0.58), vec3<f32>(0.045, 0.075, 0.13), dark), 0.35, vec3<f32>(0.04), false);
}

// Six coloured faces of two by two panels each, on a pale body.
fn cube_material(p: vec3<f32>) -> Material {
    let q = into_cube(p - CUBE_AT);
    let a = abs(q);
    var uv = q.xy;
    var color = select(vec3<f32>(0.75, 0.75, 0.05), vec3<f32>(0.95, 0.62, 0.02), q.z > 0.0);
    if (a.x > a.z && a.x >= a.y) {
        uv = q.yz;
        color = select(vec3<f32>(0.02, 0.16, 0.72), vec3<f32>(0.80, 0.16, 0.02), q.x > 0.0);
    } else if (a.y > a.z) {
        uv = q.xz;
        color = select(vec3<f32>(0.02, 0.42, 0.12), vec3<f32>(0.50, 0.03, 0.42), q.y > 0.0);
    }
    let panel = abs(abs(uv) - 0.112);
    let body = max(panel.x, panel.y) > 0.090;
    return Material(select(color, vec3<f32>(0.80), body), 0.40, vec3<f32>(0.04), false);
}

fn torus_material(p: vec3<f32>) -> Material {
    let t = p - TORUS_AT;
    let turn = atan2(t.z, dot(t.xy, vec2<f32>(0.8575, 0.5145))) / 6.2831853;
    let stripe = fract(turn * 12.0) < 0.5;
    let color = select(vec3<f32>(0.88, 0.86, 0.80), vec3<f32>(0.01, 0.42, 0.46), stripe);
    return Material(color, 0.25, vec3<f32>(0.05), false);
}

fn tower_material(p: vec3<f32>) -> Material {
    let height = p.z - FLOOR;
    var color = vec3<f32>(0.55, 0.02, 0.16);
    if (height < 0.58) { color = vec3<f32>(0.93, 0.50, 0.03); }
    if (height < 0.32) {
        let band = abs(height - 0.16) < 0.05;
        color = select(vec3<f32>(0.03, 0.36, 0.10), vec3<f32>(0.80, 0.80, 0.74), band);
    }
    return Material(color, 0.45, vec3<f32>(0.04), false);
}

fn material_at(p: vec3<f32>, solid: u32) -> Material {
    switch solid {
        case SPHERE: { return Material(vec3<f32>(0.50, 0.006, 0.012), 0.16, vec3<f32>(0.09), true); }
        case CUBE: { return cube_material(p); }
        case TORUS: { return torus_material(p); }
        case TOWER: { return tower_material(p); }
        case FINIAL: { return Material(vec3<f32>(0.10, 0.06, 0.01), 0.18, vec3<f32>(0.95, 0.68, 0.25), true); }
        default: { return pedestal_material(p); }
    }
}
