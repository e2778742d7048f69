// Sine and cosine to 2e-7 for arguments up to a few thousand. Those of WGSL may be off by 2^-11 between -pi and pi, and by any
// amount beyond, and GPUs make use of that. The argument is reduced to the nearest quarter turn, whose length is subtracted in
// three parts (Cody and Waite 1980); the polynomials are those of Cephes.
struct SinCos {
    s: vec3<f32>,
    c: vec3<f32>,
}

fn sin_cos_3(x: vec3<f32>) -> SinCos {
    let quarters = round(x * 0.6366197723675814);
    // The first two parts have few bits, so that their products with the count are exact.
    let r = ((x - quarters * 1.5703125) - quarters * 4.837512969970703e-4) - quarters * 7.549789948768648e-8;
    let z = r * r;
    let s = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4));
    let c = 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
    let k = vec3<i32>(quarters);
    let is_odd = (k & vec3<i32>(1)) != vec3<i32>(0);
    let sign_s = vec3<f32>(1 - (k & vec3<i32>(2)));
    let sign_c = vec3<f32>(1 - ((k + 1) & vec3<i32>(2)));
    return SinCos(sign_s * select(s, c, is_odd), sign_c * select(c, s, is_odd));
}

// (sin x, cos x).
fn sin_cos(x: f32) -> vec2<f32> {
    let both = sin_cos_3(vec3<f32>(x));
    return vec2<f32>(both.s.x, both.c.x);
}
