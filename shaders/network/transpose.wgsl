// transposed[in][out] = values[out][in] for one layer whose first weight is at index `corner` of the slab: the 4 x 4 block
// number `block`. See src/network/weight_gradients.rs.
fn transpose_tile(corner: u32, n_columns: u32, n_rows: u32, block: u32) {
    let columns = n_columns / 4u;
    let rows = n_rows / 4u;
    let column = block % columns;
    let row = block / columns;
    let from_here = corner / 4u + 4u * row * columns + column;
    let w = mat4x4<f32>(values[from_here], values[from_here + columns], values[from_here + 2u * columns], values[from_here + 3u * columns]);
    let t = transpose(w);
    let to = corner / 4u + 4u * column * rows + row;
    transposed[to] = t[0];
    transposed[to + rows] = t[1];
    transposed[to + 2u * rows] = t[2];
    transposed[to + 3u * rows] = t[3];
}
