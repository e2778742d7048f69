// A posed camera: world_from_camera is OpenGL camera-to-world (x right, y up, looking along -z). See src/images.rs.
struct Camera {
    world_from_camera: array<vec4<f32>, 3>, // rows
    focal: vec2<f32>,                       // pixels; orthographic: per world unit, equirectangular: per radian
    principal: vec2<f32>,                   // pixels
    distortion: array<vec4<f32>, 3>,        // coefficients of the lens, in the order of common/lens.wgsl
    view_low: vec2<f32>,                    // bounds of the image on the ideal plane at distance 1, x right, y down;
    view_high: vec2<f32>,                   // unused for lenses from 2 on
    lens: u32,                              // 0 pinhole, or one of the numbers in common/lens.wgsl
    width: u32,
    height: u32,
    chunk: u32,                             // chunk of images that holds its pixels
    first_pixel: u32,                       // index of its first pixel in that chunk
    near: f32,
    far: f32,
    first_mask: u32,                        // index of its first entry in the masks of that chunk, or NO_MASK
}

const NO_MASK = 0xffffffffu;
