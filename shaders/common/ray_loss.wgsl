// The loss of a ray's composited colour, and the values that the gradients of its samples need. See shaders/compositing.wgsl.
struct RayLoss {
    slope: vec3<f32>,      // dL/dcolour
    loss: f32,             // mean over the channels, plus the losses on opacity
    composited: vec3<f32>, // colour over the background, linear if compositing is linear
    squared_error: f32,    // mean over the channels
    background: vec3<f32>, // linear if compositing is linear
    transmittance_slope: f32,      // T dL/dT of the losses on opacity, T the transmittance of the ray
}
