// A ray in world units: points lie at origin + t direction for t in [t_min, t_max]. The direction may have any length;
// view_dir is the unit vector that direction encodings see. See src/camera.rs.
struct Ray {
    origin: vec3<f32>,
    t_min: f32,
    direction: vec3<f32>,
    t_max: f32,
    view_dir: vec3<f32>,
    image: u32,
    background: vec3<f32>,
    pixel: u32,
}
