// The linear index of a workgroup in a two-dimensional dispatch; see Groups::covering in src/gpu/stage.rs.
const GRID_WIDTH: u32 = 32768u;

fn linear_group(group: vec3<u32>) -> u32 { return group.y * GRID_WIDTH + group.x; }

// The workgroup counts that cover `items` with groups of `size`.
fn grid_covering(items: u32, size: u32) -> vec3<u32> {
    let groups = (items + size - 1u) / size;
    return select(vec3<u32>(GRID_WIDTH, (groups + GRID_WIDTH - 1u) / GRID_WIDTH, 1u), vec3<u32>(groups, 1u, 1u), groups <= GRID_WIDTH);
}
