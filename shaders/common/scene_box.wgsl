// The interval [x, y] of t in which origin + t direction is inside the cube of half side `half` around 0.5, in unit
// coordinates; empty (x > y) for a ray that misses it. Uses the map in src/sampling/mod.rs.
fn box_range(origin: vec3<f32>, direction: vec3<f32>, half: f32) -> vec2<f32> {
    return range_between(vec3<f32>(0.5 - half), vec3<f32>(0.5 + half), origin, direction);
}

// The same for the box between two corners, in the space of the corners, the origin and the direction.
fn range_between(lowest: vec3<f32>, highest: vec3<f32>, origin: vec3<f32>, direction: vec3<f32>) -> vec2<f32> {
    let inverse = 1.0 / select(direction, vec3<f32>(1e-12), abs(direction) < vec3<f32>(1e-12));
    let a = (lowest - origin) * inverse;
    let b = (highest - origin) * inverse;
    let low = min(a, b);
    let high = max(a, b);
    return vec2<f32>(max(low.x, max(low.y, low.z)), min(high.x, min(high.y, high.z)));
}
