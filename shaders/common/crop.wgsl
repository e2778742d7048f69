// A box outside of which nothing is seen, in world units. See src/render/crop.rs.
struct Crop {
    low: vec3<f32>,
    is_set: u32,
    high: vec3<f32>,
    unused: u32,
}
