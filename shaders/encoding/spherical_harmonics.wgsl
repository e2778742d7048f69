// Real spherical harmonics of a unit direction up to degree 4 (16 values), and their gradient as polynomials in x, y, z.
// See src/encoding/spherical_harmonics.rs.
const ENCODED: u32 = ${degree * degree}u;

fn encode(d: vec3<f32>) -> array<f32, ${degree * degree}> {
    let x = d.x; let y = d.y; let z = d.z;
    let xy = x * y; let xz = x * z; let yz = y * z;
    let x2 = x * x; let y2 = y * y; let z2 = z * z;
    var e: array<f32, ${degree * degree}>;
    e[0] = 0.28209479177387814;
    //: if degree > 1
    e[1] = -0.48860251190291987 * y;
    e[2] = 0.48860251190291987 * z;
    e[3] = -0.48860251190291987 * x;
    //: endif
    //: if degree > 2
    e[4] = 1.0925484305920792 * xy;
    e[5] = -1.0925484305920792 * yz;
    e[6] = 0.94617469575755997 * z2 - 0.31539156525251999;
    e[7] = -1.0925484305920792 * xz;
    e[8] = 0.54627421529603959 * (x2 - y2);
    //: endif
    //: if degree > 3
    e[9] = 0.59004358992664352 * y * (-3.0 * x2 + y2);
    e[10] = 2.8906114426405538 * xy * z;
    e[11] = 0.45704579946446572 * y * (1.0 - 5.0 * z2);
    e[12] = 0.3731763325901154 * z * (5.0 * z2 - 3.0);
    e[13] = 0.45704579946446572 * x * (1.0 - 5.0 * z2);
    e[14] = 1.4453057213202769 * z * (x2 - y2);
    e[15] = 0.59004358992664352 * x * (-x2 + 3.0 * y2);
    //: endif
    return e;
}

fn encode_backward(d: vec3<f32>, g: array<f32, ${degree * degree}>) -> vec3<f32> {
    let x = d.x; let y = d.y; let z = d.z;
    let x2 = x * x; let y2 = y * y; let z2 = z * z;
    var r = vec3<f32>(0.0);
    //: if degree > 1
    r += 0.48860251190291987 * vec3<f32>(-g[3], -g[1], g[2]);
    //: endif
    //: if degree > 2
    r += 1.0925484305920792 * vec3<f32>(g[4] * y - g[7] * z + g[8] * x, g[4] * x - g[5] * z - g[8] * y, -g[5] * y - g[7] * x);
    r.z += 2.0 * 0.94617469575755997 * g[6] * z;
    //: endif
    //: if degree > 3
    r += 0.59004358992664352 * (g[9] * vec3<f32>(-6.0 * x * y, -3.0 * x2 + 3.0 * y2, 0.0) + g[15] * vec3<f32>(-3.0 * x2 + 3.0 * y2, 6.0 * x * y, 0.0));
    r += 2.8906114426405538 * g[10] * vec3<f32>(y * z, x * z, x * y);
    r += 0.45704579946446572 * vec3<f32>(g[13] * (1.0 - 5.0 * z2), g[11] * (1.0 - 5.0 * z2), -10.0 * z * (g[11] * y + g[13] * x));
    r.z += 0.3731763325901154 * g[12] * (15.0 * z2 - 3.0);
    r += 1.4453057213202769 * g[14] * vec3<f32>(2.0 * x * z, -2.0 * y * z, x2 - y2);
    //: endif
    return r;
}
