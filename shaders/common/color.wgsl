// sRGB transfer functions (IEC 61966-2-1), per channel.
fn srgb_from_linear(c: vec3<f32>) -> vec3<f32> {
    let v = max(c, vec3<f32>(0.0));
    return select(1.055 * pow(max(v, vec3<f32>(0.0031308)), vec3<f32>(1.0 / 2.4)) - 0.055, 12.92 * v, v <= vec3<f32>(0.0031308));
}

fn linear_from_srgb(c: vec3<f32>) -> vec3<f32> {
    let v = max(c, vec3<f32>(0.0));
    return select(pow((max(v, vec3<f32>(0.04045)) + 0.055) / 1.055, vec3<f32>(2.4)), v / 12.92, v <= vec3<f32>(0.04045));
}

// d srgb / d linear at the linear value `c`.
fn srgb_derivative(c: vec3<f32>) -> vec3<f32> {
    let v = max(c, vec3<f32>(0.0031308));
    return select((1.055 / 2.4) * pow(v, vec3<f32>(1.0 / 2.4 - 1.0)), vec3<f32>(12.92), c <= vec3<f32>(0.0031308));
}
