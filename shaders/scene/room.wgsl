// A room around a scene, with walls of random tiles in three sizes, whose corners feature detectors find. See src/scene.rs.
#import common/pcg

const ROOM: f32 = 6.0;                                    // half of its side

// Distance from within the room to its walls.
fn room_distance(origin: vec3<f32>, direction: vec3<f32>) -> f32 {
    let to = (ROOM * sign(direction) - origin) / direction;
    return min(to.x, min(to.y, to.z));
}

fn tile(cell: vec2<i32>, wall: u32) -> f32 {
    var state = random_seed(wall, u32(cell.x + 4096), u32(cell.y + 4096));
    return random(&state);
}

fn room_color(origin: vec3<f32>, direction: vec3<f32>) -> vec3<f32> {
    let p = origin + room_distance(origin, direction) * direction;
    let a = abs(p);
    var uv = p.xy;
    var wall = select(0u, 1u, p.z > 0.0);
    if (a.x >= a.y && a.x >= a.z) {
        uv = p.yz;
        wall = select(2u, 3u, p.x > 0.0);
    } else if (a.y >= a.z) {
        uv = p.xz;
        wall = select(4u, 5u, p.y > 0.0);
    }
    let coarse = tile(vec2<i32>(floor(uv / 1.7)), 3u * wall);
    let medium = tile(vec2<i32>(floor(uv / 0.61)), 3u * wall + 1u);
    let fine = tile(vec2<i32>(floor(uv / 0.23)), 3u * wall + 2u);
    let shade = 0.05 + 0.30 * coarse + 0.20 * medium + 0.15 * fine;
    return shade * mix(vec3<f32>(1.0), vec3<f32>(coarse, medium, fine) * 1.6, 0.5);
}
