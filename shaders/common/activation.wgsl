// Output activations of a field and their derivatives. sigma is per unit length of the space of the samples.
const DENSITY_CLAMP: f32 = 15.0;
//: if density_activation == "exp"
const DENSITY_BIAS: f32 = ${density_bias};
//: endif

fn density_from_raw(raw: f32) -> f32 {
    //: if density_activation == "exp"
    return exp(raw + DENSITY_BIAS);
    //: elif density_activation == "softplus"
    // log(1 + e) without cancellation: rounding errors would matter, because the last dt may be enormous.
    let e = exp(-abs(raw));
    return max(raw, 0.0) + select(log(1.0 + e), e - 0.5 * e * e, e < 1e-3);
    //: else
    return max(raw, 0.0);
    //: endif
}

// d sigma / d raw; that of the exponential is clamped so that a diverging density still has a finite gradient.
fn density_derivative(raw: f32) -> f32 {
    //: if density_activation == "exp"
    return exp(clamp(raw + DENSITY_BIAS, -DENSITY_CLAMP, DENSITY_CLAMP));
    //: elif density_activation == "softplus"
    let e = exp(-abs(raw));
    return select(e, 1.0, raw > 0.0) / (1.0 + e);
    //: else
    return select(0.0, 1.0, raw > 0.0);
    //: endif
}

fn color_from_raw(raw: vec3<f32>) -> vec3<f32> {
    //: if color_activation == "sigmoid"
    return 1.0 / (1.0 + exp(-raw));
    //: else
    return raw;
    //: endif
}

// d rgb / d raw, given rgb.
fn color_derivative(color: vec3<f32>) -> vec3<f32> {
    //: if color_activation == "sigmoid"
    return color * (1.0 - color);
    //: else
    return vec3<f32>(1.0);
    //: endif
}
