// The crop box, outside which nothing is rendered, in world units. See src/render/crop.rs.
struct Crop {
    low: vec3<f32>,
    is_set: u32,
    high: vec3<f32>,
    unused: u32,
}
