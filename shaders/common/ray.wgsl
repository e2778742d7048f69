// A ray in world units: points lie at origin + t direction for t in [t_min, t_max]. The direction may have any length;
// view_dir is the unit vector for direction encodings. Bit 31 of `pixel` is set if a crop cuts the ray off at
// t_max. See src/camera.rs.
const CROPPED: u32 = 0x80000000u;

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
