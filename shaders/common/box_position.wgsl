// World to the box that the encodings see, [0, 1]^3. See SceneBox in src/sampling/mod.rs.
const SCALE: f32 = ${scale};
const OFFSET: vec3<f32> = vec3<f32>(${offset[0]}, ${offset[1]}, ${offset[2]});
const HALF_BOX: f32 = ${half_box};

fn box_position(world: vec3<f32>) -> vec3<f32> {
    let u = world * SCALE + OFFSET;
    return (u - 0.5) * (0.5 / HALF_BOX) + 0.5;
}
