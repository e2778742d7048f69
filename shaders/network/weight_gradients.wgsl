// Kernels common to all networks: weight gradients, summed over chunks of samples in a fixed order, and the transposed copy
// of the weights. Rows are padded to multiples of 4. See src/network/weight_gradients.rs.
#import common/index
#import common/grid_index
#import common/step

//: if pass != "transpose" or only_updated
var<storage, read> counts: StepState;
//: endif
//: if pass == "weights"
var<storage, read> lanes_operand: array<vec4<f32>>;       // (n, lanes_stride / 4)
var<storage, read> rows_operand: array<vec4<f32>>;        // (n, rows_stride / 4)
//: if cells
var<uniform> place: vec4<u32>;                            // first f32 of the matrix in the slab, its row stride
var<storage, read> visited: array<u32>;                   // (n_cells) networks that have samples
var<storage, read> bounds: array<vec2<u32>>;              // (networks) first sample, and one past the last
var<storage, read_write> gradients: array<f32>;           // in the layout of the weights
//: else
var<storage, read_write> partials: array<vec4<f32>>;      // (chunks, rows, lanes / 4)
//: endif
//: elif pass == "biases"
var<storage, read> lanes_operand: array<vec4<f32>>;       // (n, lanes_stride / 4)
var<storage, read_write> partials: array<vec4<f32>>;      // (chunks, lanes / 4)
//: elif pass == "reduce"
var<uniform> place: vec4<u32>;                            // first f32 of the matrix in the slab, its row stride
var<storage, read> partials: array<f32>;                  // (chunks, rows, lanes)
var<storage, read_write> gradients: array<f32>;           // in the layout of the weights
//: else
var<uniform> place: vec4<u32>;                            // first f32 of the matrix in the slab, columns, rows, cell stride
//: if only_updated
var<storage, read> counters: array<vec2<u32>>;            // (copies) updates, step of the last one
//: endif
var<storage, read> values: array<vec4<f32>>;
var<storage, read_write> transposed: array<vec4<f32>>;
//: endif

//: set lane = ["x", "y", "z", "w"]
//: if pass == "weights"
// dW = sum over samples of d (x) h. The larger dimension is spread over the lanes, four values each; a thread has 4 x block
// accumulators and loops over one chunk of samples; one partial sum per chunk. In a grid of networks it loops over all
// samples of one network, in chunks, and needs no partial sums.
@compute @workgroup_size(${lanes // 4})
fn weights(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let block = uni10(group.z) * ${block // 4}u;
    //: for r in range(block)
    var g_${r} = vec4<f32>(0.0);
    //: endfor
    //: if cells
    if (linear_group(group) >= counts.n_cells) { return; }
    let cell = visited[linear_group(group)];
    let samples = bounds[cell];
    for (var first = samples.x; first < samples.y; first += ${chunk}u) {
    let n = min(${chunk}u, samples.y - first);
    let first_uniform = uni25(first);
    //: else
    let chunk = linear_group(group);
    let first = chunk * ${chunk}u;
    if (first >= counts.${count}) { return; }
    let n = min(${chunk}u, counts.${count} - first);
    let first_uniform = uni20(chunk) * ${chunk}u;
    //: endif
    for (var s = 0u; s < n; s++) {
        //: if lanes_bias >= 0
        var h = lanes_operand[(first + s) * ${lanes_stride // 4}u + ${lanes_offset // 4}u + lane];
        if (lane == ${lanes_bias // 4}u) { h.${lane[lanes_bias % 4]} = 1.0; }
        //: else
        let h = lanes_operand[(first + s) * ${lanes_stride // 4}u + ${lanes_offset // 4}u + lane];
        //: endif
        let row = (first_uniform + uni10(s)) * ${rows_stride // 4}u + ${rows_offset // 4}u + block;
        //: for q in range(block // 4)
        {
            //: if rows_bias >= 0
            var d = rows_operand[row + ${q}u];
            if (block + ${q}u == ${rows_bias // 4}u) { d.${lane[rows_bias % 4]} = 1.0; }
            //: else
            let d = rows_operand[row + ${q}u];
            //: endif
            g_${4 * q} += d.x * h;
            g_${4 * q + 1} += d.y * h;
            g_${4 * q + 2} += d.z * h;
            g_${4 * q + 3} += d.w * h;
        }
        //: endfor
    }
    //: if cells
    }
    let corner = cell * ${network_stride}u + place.x;
    //: for r in range(block)
    {
        let row = group.z * ${block}u + ${r}u;
        //: for c in range(4)
        //: if lanes_are_inputs
        gradients[corner + row * place.y + 4u * lane + ${c}u] ${"=" if overwrite else "+="} g_${r}.${lane[c]};
        //: else
        gradients[corner + (4u * lane + ${c}u) * place.y + row] ${"=" if overwrite else "+="} g_${r}.${lane[c]};
        //: endif
        //: endfor
    }
    //: endfor
    //: else
    let out = (chunk * ${n_rows}u + group.z * ${block}u) * ${lanes // 4}u + lane;
    //: for r in range(block)
    partials[out + ${r * (lanes // 4)}u] = g_${r};
    //: endfor
    //: endif
}
//: elif pass == "biases"
@compute @workgroup_size(${lanes // 4})
fn biases(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let chunk = linear_group(group);
    let first = chunk * ${chunk}u;
    if (first >= counts.${count}) { return; }
    let n = min(${chunk}u, counts.${count} - first);
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < n; s++) {
        sum += lanes_operand[(first + s) * ${lanes_stride // 4}u + ${lanes_offset // 4}u + lane];
    }
    partials[chunk * ${lanes // 4}u + lane] = sum;
}
//: elif pass == "reduce"
// gradients += partials summed over the chunks, in order.
@compute @workgroup_size(64)
fn reduce(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    if (i >= ${n_rows * lanes}u) { return; }
    let n = (counts.${count} + ${chunk - 1}u) / ${chunk}u;
    var sums = vec4<f32>(0.0);
    var c = 0u;
    for (; c + 4u <= n; c += 4u) {
        let at = c * ${n_rows * lanes}u + i;
        sums += vec4<f32>(partials[at], partials[at + ${n_rows * lanes}u], partials[at + ${2 * n_rows * lanes}u], partials[at + ${3 * n_rows * lanes}u]);
    }
    for (; c < n; c++) { sums.x += partials[c * ${n_rows * lanes}u + i]; }
    let row = i / ${lanes}u;
    let column = i % ${lanes}u;
    //: if lanes_are_inputs
    gradients[place.x + row * place.y + column] += (sums.x + sums.y) + (sums.z + sums.w);
    //: else
    gradients[place.x + column * place.y + row] += (sums.x + sums.y) + (sums.z + sums.w);
    //: endif
}
//: else
#import network/transpose

@compute @workgroup_size(64)
fn transpose_layer(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    //: if cells
    let cell = linear_group(group);
    if (cell >= ${n_networks}u) { return; }
    //: if only_updated
    if (counters[cell].y != counts.step + 1u) { return; }
    //: endif
    for (var i = lane; i < place.y * place.z / 16u; i += 64u) { transpose_tile(place.x + cell * place.w, place.y, place.z, i); }
    //: else
    let i = linear_group(group) * 64u + lane;
    if (i >= place.y * place.z / 16u) { return; }
    transpose_tile(place.x, place.y, place.z, i);
    //: endif
}
//: endif
