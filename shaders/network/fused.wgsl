// Multi-layer perceptron of width <= 64, all layers in one kernel: h_l+1 = relu(W_l h_l), linear output.
//
// Shapes: `input` (n, in_stride), `output` (n, out_stride); a row of `hidden` holds all hidden layers of a sample, one
// after the other, so that any depth fits the eight storage buffers of the base path. Rows are padded to multiples of 4.
// Weights lie layer after layer as [out][in], rows padded to 4; `weights_transposed` as [in][out]. A bias is a weight on
// a constant input: with biases each layer's input ends with a column that holds 1.
// Each thread carries SAMPLES samples; weights are read at indices that are uniform across a subgroup, from a uniform
// binding where the slab fits one.
// See src/network/fused.rs.
#import common/index
#import common/grid_index
#import common/step

//: if pass != "transpose"
var<storage, read> counts: StepState;
//: endif
//: if pass == "forward"
${weight_space} weights: ${weight_array};                        // per layer (out, in / 4)
var<storage, read> network_input: array<vec4<f32>>;       // (n, in_stride / 4)
var<storage, read_write> network_output: array<f32>;      // (n, out_stride)
//: if save
var<storage, read_write> hidden: array<f32>;              // (n, hidden_stride)
//: endif
//: elif pass == "backward"
${weight_space} weights_transposed: ${weight_array};             // per layer (in, out / 4)
var<storage, read> d_output: array<vec4<f32>>;            // (n, d_out_stride / 4)
//: if extra_d_input
var<storage, read> d_first_input: array<f32>;             // (n), added to the gradient of input 0
//: endif
var<storage, read> hidden: array<f32>;                    // (n, hidden_stride)
//: if save
var<storage, read_write> d_hidden: array<f32>;            // (n, d_hidden_stride), before the activation
//: endif
var<storage, read_write> d_input: array<f32>;             // (n, d_in_stride)
//: elif pass == "weights"
var<storage, read> lanes_operand: array<vec4<f32>>;       // (n, lanes_stride / 4)
var<storage, read> rows_operand: array<vec4<f32>>;        // (n, rows_stride / 4)
var<storage, read_write> partials: array<vec4<f32>>;      // (chunks, rows, lanes / 4)
//: elif pass == "reduce"
var<storage, read> partials: array<f32>;                  // (chunks, rows, lanes)
var<storage, read_write> gradients: array<f32>;           // as the weights
//: else
var<storage, read> weights: array<f32>;
var<storage, read_write> weights_transposed: array<f32>;
//: endif

//: set lane = ["x", "y", "z", "w"]
//: if pass == "forward"
@compute @workgroup_size(${workgroup})
fn forward(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = linear_group(group) * ${workgroup * samples}u + lane;
    if (linear_group(group) * ${workgroup * samples}u >= counts.${count}) { return; }
    //: for z in range(samples)
    var h_${z}: array<f32, ${scratch}>;
    //: for q in range(widths[0] // 4)
    //: if biases and q == bias_at[0] // 4
    var x0_${z}_${q} = network_input[(first + ${z * workgroup}u) * ${in_stride // 4}u + ${q + in_offset // 4}u];
    x0_${z}_${q}.${lane[bias_at[0] % 4]} = 1.0;
    //: else
    let x0_${z}_${q} = network_input[(first + ${z * workgroup}u) * ${in_stride // 4}u + ${q + in_offset // 4}u];
    //: endif
    //: endfor
    //: endfor
    //: for l in range(layers)
    for (var o = 0u; o < ${rows[l]}u * uni5(1u); o++) {
        let row = ${offsets[l] // 4}u + uni10(o) * ${widths[l] // 4}u;
        //: for z in range(samples)
        var a_${z} = 0.0;
        var b_${z} = 0.0;
        //: endfor
        //: for q in range(widths[l] // 4)
        {
            let w = weights[row + ${q}u];
            //: for z in range(samples)
            a_${z} += w.x * x${l}_${z}_${q}.x;
            //: endfor
            //: for z in range(samples)
            b_${z} += w.y * x${l}_${z}_${q}.y;
            //: endfor
            //: for z in range(samples)
            a_${z} += w.z * x${l}_${z}_${q}.z;
            //: endfor
            //: for z in range(samples)
            b_${z} += w.w * x${l}_${z}_${q}.w;
            //: endfor
        }
        //: endfor
        //: for z in range(samples)
        //: if l + 1 < layers
        let y_${z} = max(a_${z} + b_${z}, 0.0);
        h_${z}[o] = y_${z};
        //: if save
        hidden[(first + ${z * workgroup}u) * ${hidden_stride}u + ${hidden_at[l]}u + o] = y_${z};
        //: endif
        //: else
        network_output[(first + ${z * workgroup}u) * ${out_stride}u + ${out_offset}u + o] = a_${z} + b_${z};
        //: endif
        //: endfor
    }
    //: if l + 1 < layers
    //: for z in range(samples)
    //: if biases
    h_${z}[${bias_at[l + 1]}] = 1.0;
    //: if save
    hidden[(first + ${z * workgroup}u) * ${hidden_stride}u + ${hidden_at[l] + bias_at[l + 1]}u] = 1.0;
    //: endif
    //: endif
    //: for q in range(widths[l + 1] // 4)
    let x${l + 1}_${z}_${q} = vec4<f32>(h_${z}[${4 * q}], h_${z}[${4 * q + 1}], h_${z}[${4 * q + 2}], h_${z}[${4 * q + 3}]);
    //: endfor
    //: endfor
    //: endif
    //: endfor
}
//: elif pass == "backward"
@compute @workgroup_size(${workgroup})
fn backward(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = linear_group(group) * ${workgroup * samples}u + lane;
    if (linear_group(group) * ${workgroup * samples}u >= counts.${count}) { return; }
    //: for z in range(samples)
    var h_${z}: array<f32, ${scratch}>;
    //: for q in range(padded_rows[layers - 1] // 4)
    var d${layers}_${z}_${q} = d_output[(first + ${z * workgroup}u) * ${d_out_stride // 4}u + ${q + d_out_offset // 4}u];
    //: endfor
    //: endfor
    //: for l in range(layers - 1, -1, -1)
    for (var i = 0u; i < ${back_rows[l]}u * uni5(1u); i++) {
        let row = ${back_offsets[l] // 4}u + uni10(i) * ${padded_rows[l] // 4}u;
        //: for z in range(samples)
        var a_${z} = 0.0;
        var b_${z} = 0.0;
        //: endfor
        //: for q in range(padded_rows[l] // 4)
        {
            let w = weights_transposed[row + ${q}u];
            //: for z in range(samples)
            a_${z} += w.x * d${l + 1}_${z}_${q}.x;
            //: endfor
            //: for z in range(samples)
            b_${z} += w.y * d${l + 1}_${z}_${q}.y;
            //: endfor
            //: for z in range(samples)
            a_${z} += w.z * d${l + 1}_${z}_${q}.z;
            //: endfor
            //: for z in range(samples)
            b_${z} += w.w * d${l + 1}_${z}_${q}.w;
            //: endfor
        }
        //: endfor
        //: for z in range(samples)
        //: if l > 0
        let y_${z} = select(0.0, a_${z} + b_${z}, hidden[(first + ${z * workgroup}u) * ${hidden_stride}u + ${hidden_at[l - 1]}u + i] > 0.0);
        h_${z}[i] = y_${z};
        //: if save
        d_hidden[(first + ${z * workgroup}u) * ${d_hidden_stride}u + ${d_hidden_at[l - 1]}u + i] = y_${z};
        //: endif
        //: else
        d_input[(first + ${z * workgroup}u) * ${d_in_stride}u + i] = a_${z} + b_${z};
        //: endif
        //: endfor
    }
    //: if l > 0
    //: for z in range(samples)
    //: for q in range(padded_rows[l - 1] // 4)
    let d${l}_${z}_${q} = vec4<f32>(h_${z}[${4 * q}], h_${z}[${4 * q + 1}], h_${z}[${4 * q + 2}], h_${z}[${4 * q + 3}]);
    //: endfor
    //: endfor
    //: endif
    //: endfor
    //: if extra_d_input
    //: for z in range(samples)
    d_input[(first + ${z * workgroup}u) * ${d_in_stride}u] += d_first_input[first + ${z * workgroup}u];
    //: endfor
    //: endif
}
//: elif pass == "weights"
// dW = sum over samples of d (x) h. The larger side lies on the lanes, four values each; a thread owns 4 x block
// accumulators and loops over one chunk of samples; one partial sum per chunk.
@compute @workgroup_size(${lanes // 4})
fn weights(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let chunk = linear_group(group);
    let first = chunk * ${chunk}u;
    if (first >= counts.${count}) { return; }
    let n = min(${chunk}u, counts.${count} - first);
    let first_uniform = uni20(chunk) * ${chunk}u;
    let block = uni10(group.z) * ${block // 4}u;
    //: for r in range(block)
    var g_${r} = vec4<f32>(0.0);
    //: endfor
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
    let out = (chunk * ${n_rows}u + group.z * ${block}u) * ${lanes // 4}u + lane;
    //: for r in range(block)
    partials[out + ${r * (lanes // 4)}u] = g_${r};
    //: endfor
}
//: elif pass == "reduce"
// gradients += partials summed over the chunks, in order.
@compute @workgroup_size(64)
fn reduce(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= ${n_rows * lanes}u) { return; }
    let n = (counts.${count} + ${chunk - 1}u) / ${chunk}u;
    var sums = vec4<f32>(0.0);
    var c = 0u;
    for (; c + 4u <= n; c += 4u) {
        let at = c * ${n_rows * lanes}u + id.x;
        sums += vec4<f32>(partials[at], partials[at + ${n_rows * lanes}u], partials[at + ${2 * n_rows * lanes}u], partials[at + ${3 * n_rows * lanes}u]);
    }
    for (; c < n; c++) { sums.x += partials[c * ${n_rows * lanes}u + id.x]; }
    let row = id.x / ${lanes}u;
    let column = id.x % ${lanes}u;
    //: if lanes_are_inputs
    gradients[${offset}u + row * ${width}u + column] += (sums.x + sums.y) + (sums.z + sums.w);
    //: else
    gradients[${offset}u + column * ${width}u + row] += (sums.x + sums.y) + (sums.z + sums.w);
    //: endif
}
//: else
// weights_transposed[in][out] = weights[out][in], layer by layer.
@compute @workgroup_size(64)
fn transpose(@builtin(global_invocation_id) id: vec3<u32>) {
    //: for l in range(layers)
    if (id.x >= ${offsets[l]}u && id.x < ${offsets[l] + padded_rows[l] * widths[l]}u) {
        let at = id.x - ${offsets[l]}u;
        weights_transposed[${offsets[l]}u + (at % ${widths[l]}u) * ${padded_rows[l]}u + at / ${widths[l]}u] = weights[id.x];
    }
    //: endfor
}
//: endif
