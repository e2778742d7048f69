// What a ray's composited colour costs, and what its samples' gradients need of it. See shaders/compositing.wgsl.
struct RayLoss {
    slope: vec3<f32>,      // dL/dcolour
    loss: f32,             // mean over the channels, and what light that passes through costs
    composited: vec3<f32>, // colour over the background, linear where compositing is
    squared_error: f32,    // mean over the channels
    background: vec3<f32>, // linear where compositing is
    clear_slope: f32,      // T dL/dT of the loss of what passes through the scene, T the transmittance of the ray
}
