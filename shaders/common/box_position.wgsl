// The line that a ray's samples lie on: in world space, or in normalised device coordinates (Mildenhall et al. 2020,
// appendix C), which map everything beyond the near plane of forward-facing cameras into a cube. See SceneBox in
// src/sampling/mod.rs.
const SCALE: f32 = ${scale};
const OFFSET: vec3<f32> = vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]});
const HALF_BOX: f32 = ${half_box};
const INFINITE_DT: f32 = 1e10;

struct Line {
    origin: vec3<f32>,
    t_min: f32,
    direction: vec3<f32>,
    t_max: f32,
    unit: f32,        // length of the direction
    last: f32,        // dt of the last sample: infinite, or 0 if a crop ends the ray
    //: if ndc
    start: f32,       // parameter of the ray (not of the line) at the near plane
    depth: f32,       // depth (along -z) per unit of the ray's parameter
    ray_unit: f32,    // length of the ray's direction
    //: endif
}

// Map from the line's space to the box of the encodings, [0, 1]^3.
fn box_position(point: vec3<f32>) -> vec3<f32> {
    let u = point * SCALE + OFFSET;
    return (u - 0.5) * (0.5 / HALF_BOX) + 0.5;
}

fn line_position(line: Line, t: f32) -> vec3<f32> { return box_position(line.origin + t * line.direction); }

//: if ndc
const NDC_NEAR: f32 = ${ndc_near};
const NDC_HALF: vec2<f32> = vec2<f32>(${ndc_half[0]}, ${ndc_half[1]});

// A ray that does not point forward is empty.
fn line_of(ray: Ray) -> Line {
    var line: Line;
    line.depth = max(-ray.direction.z, 1e-6);
    line.start = (NDC_NEAR + ray.origin.z) / line.depth;
    line.ray_unit = length(ray.direction);
    let from_here = ray.origin + line.start * ray.direction;
    let at = from_here.xy / (NDC_NEAR * NDC_HALF);
    line.origin = vec3<f32>(at, -1.0);
    line.direction = vec3<f32>(ray.direction.xy / (line.depth * NDC_HALF) - at, 2.0);
    line.t_max = select(0.0, 1.0, ray.direction.z < -1e-6);
    line.unit = length(line.direction);
    line.last = INFINITE_DT;
    return line;
}

// Distance from the ray's origin in world units; points at infinity get a finite value.
fn line_distance(line: Line, t: f32) -> f32 {
    return (line.start + NDC_NEAR / line.depth * t / max(1.0 - t, 1e-6)) * line.ray_unit;
}

fn line_parameter(line: Line, distance: f32) -> f32 {
    let away = (distance / line.ray_unit - line.start) * line.depth;
    return away / (NDC_NEAR + away);
}
//: else
fn line_of(ray: Ray) -> Line {
    var line: Line;
    line.origin = ray.origin;
    line.direction = ray.direction;
    line.t_min = ray.t_min;
    line.t_max = ray.t_max;
    line.unit = length(ray.direction);
    line.last = select(INFINITE_DT, 0.0, (ray.pixel & CROPPED) != 0u);
    return line;
}

// Distance from the ray's origin in world units.
fn line_distance(line: Line, t: f32) -> f32 { return t * line.unit; }

fn line_parameter(line: Line, distance: f32) -> f32 { return distance / line.unit; }
//: endif
