// Rays through the lens of a camera (common/camera.wgsl), in its own space. See src/camera.rs.

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

// A ray in the camera's space: x right, y up, looking along -z.
struct LocalRay { start: vec3<f32>, direction: vec3<f32> }

// The ray through the image point `at`, in pixels. The direction lies on the plane at depth 1, if the lens has one, and is a
// unit vector otherwise.
fn local_ray(camera: Camera, at: vec2<f32>) -> LocalRay {
    let q = (at - camera.principal) / camera.focal;
    var d = vec3<f32>(q, 1.0);
    if (camera.lens == 1u) { d = vec3<f32>(undistort(camera, q), 1.0); }
    if (camera.lens == 2u) { d = fisheye_direction(camera, q); }
    var ray: LocalRay;
    if (camera.lens == 3u) {
        d = vec3<f32>(0.0, 0.0, 1.0);
        ray.start = vec3<f32>(q.x, -q.y, 0.0);
    }
    if (camera.lens == 4u) { d = vec3<f32>(cos(q.y) * sin(q.x), sin(q.y), cos(q.y) * cos(q.x)); }
    ray.direction = vec3<f32>(d.x, -d.y, -d.z);
    return ray;
}
