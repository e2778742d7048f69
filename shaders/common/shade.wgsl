// How an image of a window is shaded. See src/render/screen.rs.
struct Shade {
    background: vec3<f32>,  // sRGB values
    mode: u32,              // 0 colour, 1 depth, 2 normals (viewer/normals.wgsl draws them), 3 opacity, 4 cells, 5 samples per ray
    near: f32,              // distances shown as dark red and as dark blue
    far: f32,
    max_ray_samples: f32,      // samples per ray at the end of the scale
    stride: u32,            // pixels between the starts of rows
    up: vec3<f32>,
    radius: u32,            // of the neighbourhood of a normal, in pixels
}
