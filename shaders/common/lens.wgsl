// Rays through the lens of a camera (common/camera.wgsl), in its own space. See src/camera/lens.rs.
#import common/trigonometry

const LENS_OPENCV = 1u;
const LENS_FISHEYE = 2u;
const LENS_ORTHOGRAPHIC = 3u;
const LENS_EQUIRECTANGULAR = 4u;
const LENS_THIN_PRISM = 5u;
const LENS_RAD_TAN_THIN_PRISM = 6u;
const LENS_FOV = 7u;
const LENS_DIVISION = 8u;
const LENS_EUCM = 9u;

// The distorted image of the undistorted point p, and the Jacobian by columns.
struct Distorted { at: vec2<f32>, dx: vec2<f32>, dy: vec2<f32> }

fn distort(camera: Camera, p: vec2<f32>) -> Distorted {
    let a = camera.distortion[0];
    let b = camera.distortion[1];
    let c = camera.distortion[2];
    let r2 = dot(p, p);
    // The radial factor and its derivative with respect to r2, doubled.
    var radial: f32;
    var slope: f32;
    if (camera.lens == LENS_OPENCV) {
        // k1 k2 p1 p2, k3 k4 k5 k6
        let above = 1.0 + r2 * (a.x + r2 * (a.y + r2 * b.x));
        let below = 1.0 + r2 * (b.y + r2 * (b.z + r2 * b.w));
        radial = above / below;
        slope = 2.0 * (a.x + r2 * (2.0 * a.y + r2 * 3.0 * b.x) - radial * (b.y + r2 * (2.0 * b.z + r2 * 3.0 * b.w))) / below;
    } else if (camera.lens == LENS_THIN_PRISM) {
        // k1 k2 p1 p2, k3 k4 sx sy
        radial = 1.0 + r2 * (a.x + r2 * (a.y + r2 * (b.x + r2 * b.y)));
        slope = 2.0 * (a.x + r2 * (2.0 * a.y + r2 * (3.0 * b.x + r2 * 4.0 * b.y)));
    } else {
        // k1 k2 p1 p2, k3 k4 k5 k6, s0 s1 s2 s3
        radial = 1.0 + r2 * (a.x + r2 * (a.y + r2 * (b.x + r2 * (b.y + r2 * (b.z + r2 * b.w)))));
        slope = 2.0 * (a.x + r2 * (2.0 * a.y + r2 * (3.0 * b.x + r2 * (4.0 * b.y + r2 * (5.0 * b.z + r2 * 6.0 * b.w)))));
    }
    let scaled = p * radial;
    let mixed = p.x * p.y * slope;
    let scaled_dx = vec2<f32>(radial + p.x * p.x * slope, mixed);
    let scaled_dy = vec2<f32>(mixed, radial + p.y * p.y * slope);
    // The tangential and prism terms move `base`.
    var base = p;
    if (camera.lens == LENS_RAD_TAN_THIN_PRISM) { base = scaled; }
    let s = dot(base, base);
    var prism = vec2<f32>(0.0);
    var prism_slope = vec2<f32>(0.0);
    if (camera.lens == LENS_THIN_PRISM) {
        prism = b.zw * s;
        prism_slope = 2.0 * b.zw;
    } else if (camera.lens == LENS_RAD_TAN_THIN_PRISM) {
        prism = s * (c.xz + s * c.yw);
        prism_slope = 2.0 * (c.xz + 2.0 * s * c.yw);
    }
    let p1 = a.z;
    let p2 = a.w;
    let across = 2.0 * (p1 * base.x + p2 * base.y);
    let moves_dx = vec2<f32>(2.0 * p1 * base.y + 6.0 * p2 * base.x, across) + base.x * prism_slope;
    let moves_dy = vec2<f32>(across, 6.0 * p1 * base.y + 2.0 * p2 * base.x) + base.y * prism_slope;
    var d: Distorted;
    d.at = scaled + prism + vec2<f32>(
        2.0 * p1 * base.x * base.y + p2 * (s + 2.0 * base.x * base.x),
        p1 * (s + 2.0 * base.y * base.y) + 2.0 * p2 * base.x * base.y,
    );
    if (camera.lens == LENS_RAD_TAN_THIN_PRISM) {
        d.dx = scaled_dx + moves_dx * scaled_dx.x + moves_dy * scaled_dx.y;
        d.dy = scaled_dy + moves_dx * scaled_dy.x + moves_dy * scaled_dy.y;
    } else {
        d.dx = scaled_dx + moves_dx;
        d.dy = scaled_dy + moves_dy;
    }
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

// Direction in camera space (x right, y down, z forward) at angle |p| from the axis, towards p.
fn from_equidistant(p: vec2<f32>) -> vec3<f32> {
    let theta = length(p);
    if (theta < 1e-8) { return vec3<f32>(p, 1.0); }
    let a = sin_cos(theta);
    return vec3<f32>(p * (a.x / theta), a.y);
}

// Direction in camera space seen through the image plane at q, for a fisheye lens whose distance from the centre is
// theta (1 + k1 theta^2 + ...).
fn fisheye_direction(camera: Camera, q: vec2<f32>) -> vec3<f32> {
    let k = camera.distortion[0];
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
    let a = sin_cos(theta);
    return vec3<f32>(q * (a.x / r), a.y);
}

// Direction in camera space seen through the image plane at q, for the lenses with a closed form.
fn closed_direction(camera: Camera, q: vec2<f32>) -> vec3<f32> {
    let k = camera.distortion[0];
    let r2 = dot(q, q);
    if (camera.lens == LENS_EQUIRECTANGULAR) {
        let a = sin_cos_3(vec3<f32>(q, 0.0));
        return vec3<f32>(a.c.y * a.s.x, a.s.y, a.c.y * a.c.x);
    }
    if (camera.lens == LENS_FOV) {
        let r = sqrt(r2);
        let a = sin_cos_3(vec3<f32>(0.5 * k.x, r * k.x, 0.0));
        let c = 2.0 * a.s.x / a.c.x;
        let scale = select(a.s.y / (c * r), k.x / c, r < 1e-8);
        return vec3<f32>(q * scale, a.c.y);
    }
    if (camera.lens == LENS_DIVISION) { return vec3<f32>(q, 1.0 + k.x * r2); }
    let radicand = max(1.0 - (2.0 * k.x - 1.0) * k.y * r2, 0.0);
    return vec3<f32>(q, (1.0 - k.x * k.x * k.y * r2) / max(k.x * sqrt(radicand) + 1.0 - k.x, 1e-9));
}

// A ray in the camera's space: x right, y up, looking along -z.
struct LocalRay { start: vec3<f32>, direction: vec3<f32> }

// The ray through the image point `at`, in pixels. The direction lies on the plane at depth 1, if the lens has one, and has
// arbitrary length otherwise.
fn local_ray(camera: Camera, at: vec2<f32>) -> LocalRay {
    let q = (at - camera.principal) / camera.focal;
    var d = vec3<f32>(q, 1.0);
    var ray: LocalRay;
    switch camera.lens {
        case 0u: {}
        case LENS_OPENCV: { d = vec3<f32>(undistort(camera, q), 1.0); }
        case LENS_FISHEYE: { d = fisheye_direction(camera, q); }
        case LENS_ORTHOGRAPHIC: {
            d = vec3<f32>(0.0, 0.0, 1.0);
            ray.start = vec3<f32>(q.x, -q.y, 0.0);
        }
        case LENS_THIN_PRISM, LENS_RAD_TAN_THIN_PRISM: { d = from_equidistant(undistort(camera, q)); }
        default: { d = closed_direction(camera, q); }
    }
    ray.direction = vec3<f32>(d.x, -d.y, -d.z);
    return ray;
}
