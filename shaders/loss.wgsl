// Losses per colour channel of the difference e = predicted - target: L2 e^2, or the Huber loss with Instant-NGP's
// scale, (|e| <= delta ? e^2 / (2 delta) : |e| - delta / 2) / 5. The loss of a ray is the mean over its channels, that of a
// step the mean over its rays. See src/loss.rs.
//: if loss == "huber"
const DELTA: f32 = ${delta};

fn loss_value(e: vec3<f32>) -> vec3<f32> {
    let a = abs(e);
    return select(a - 0.5 * DELTA, 0.5 * e * e / DELTA, a <= vec3<f32>(DELTA)) * 0.2;
}

fn loss_derivative(e: vec3<f32>) -> vec3<f32> { return clamp(e / DELTA, vec3<f32>(-1.0), vec3<f32>(1.0)) * 0.2; }
//: else
fn loss_value(e: vec3<f32>) -> vec3<f32> { return e * e; }

fn loss_derivative(e: vec3<f32>) -> vec3<f32> { return 2.0 * e; }
//: endif
