// Multi-layer perceptron of width <= 64, all layers in one kernel: h_l+1 = relu(W_l h_l), linear output.
//
// Shapes: `input` (n, in_stride), `output` (n, out_stride); a row of `hidden` holds all hidden layers of a sample in
// sequence, so that any depth fits the eight storage buffers of the base path. Rows are padded to multiples of 4.
// Weights are stored layer by layer as [out][in], rows padded to 4; `weights_transposed` as [in][out]. A bias is a weight on
// a constant input: with biases, the last column of each layer's input holds 1.
// In a grid of networks each workgroup evaluates a tile of one cell's samples with that cell's weights; threads without a
// sample write to a padding row. `staged` first copies weights into workgroup memory, in parts of as many whole rows of a
// layer as fit.
// Each thread evaluates SAMPLES samples; weights are read at indices that are uniform across a subgroup, from a uniform
// buffer if the slab fits one.
// See src/network/fused.rs.
#import common/index
#import common/grid_index
#import common/step

var<storage, read> counts: StepState;
//: if cells
var<storage, read> tiles: array<vec4<u32>>;               // (n_tiles) network, first sample, samples
//: endif
//: if staged
var<workgroup> sh_weights: array<vec4<f32>, ${stage_quads}>;  // rows of one layer
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
//: if rectified_input
var<storage, read> network_input: array<f32>;             // (n, in_stride), the output of a ReLU
//: endif
//: if extra_d_input
var<storage, read> d_first_input: array<f32>;             // (n), added to the gradient of input 0
//: endif
var<storage, read> hidden: array<f32>;                    // (n, hidden_stride)
//: if save
var<storage, read_write> d_hidden: array<f32>;            // (n, d_hidden_stride), before the activation
//: endif
//: if writes_d_input
var<storage, read_write> d_input: array<f32>;             // (n, d_in_stride)
//: endif
//: endif

//: set lane = ["x", "y", "z", "w"]
//: set rows_of_thread
    //: if cells
    if (linear_group(group) >= counts.n_tiles) { return; }
    let tile = tiles[linear_group(group)];
    let cell = uni15(tile.x) * ${cell_quads}u;
    //: for z in range(samples)
    let row_${z} = select(${padding_row}u, tile.y + lane + ${z * workgroup}u, lane + ${z * workgroup}u < tile.z);
    //: endfor
    //: else
    let first = linear_group(group) * ${workgroup * samples}u;
    if (first >= counts.${count}) { return; }
    //: for z in range(samples)
    let row_${z} = first + lane + ${z * workgroup}u;
    //: endfor
    //: endif
//: endset
//: if pass == "forward"
@compute @workgroup_size(${workgroup})
fn forward(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
${rows_of_thread}
    //: for z in range(samples)
    var h_${z}: array<f32, ${scratch}>;
    //: for q in range(widths[0] // 4)
    //: if biases and q == bias_at[0] // 4
    var x0_${z}_${q} = network_input[row_${z} * ${in_stride // 4}u + ${q + in_offset // 4}u];
    x0_${z}_${q}.${lane[bias_at[0] % 4]} = 1.0;
    //: else
    let x0_${z}_${q} = network_input[row_${z} * ${in_stride // 4}u + ${q + in_offset // 4}u];
    //: endif
    //: endfor
    //: endfor
    //: for l in range(layers)
    //: for part in parts[l]
    //: if staged
    workgroupBarrier();
    for (var i = lane; i < ${part.n * widths[l] // 4}u; i += ${workgroup}u) {
        sh_weights[i] = weights[cell + ${(offsets[l] + part.first * widths[l]) // 4}u + i];
    }
    workgroupBarrier();
    //: endif
    for (var o = ${part.first}u; o < ${part.first + part.n}u * uni5(1u); o++) {
        //: if staged
        let row = (o - ${part.first}u) * ${widths[l] // 4}u;
        //: elif cells
        let row = cell + ${offsets[l] // 4}u + uni10(o) * ${widths[l] // 4}u;
        //: else
        let row = ${offsets[l] // 4}u + uni10(o) * ${widths[l] // 4}u;
        //: endif
        //: for z in range(samples)
        var a_${z} = 0.0;
        var b_${z} = 0.0;
        //: endfor
        //: for q in range(widths[l] // 4)
        {
            let w = ${"sh_weights" if staged else "weights"}[row + ${q}u];
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
        hidden[row_${z} * ${hidden_stride}u + ${hidden_offset[l]}u + o] = y_${z};
        //: endif
        //: else
        //: if rectified_outputs
        network_output[row_${z} * ${out_stride}u + ${out_offset}u + o] = max(a_${z} + b_${z}, select(0.0, a_${z} + b_${z}, o == 0u));
        //: else
        network_output[row_${z} * ${out_stride}u + ${out_offset}u + o] = a_${z} + b_${z};
        //: endif
        //: endif
        //: endfor
    }
    //: endfor
    //: if l + 1 < layers
    //: for z in range(samples)
    //: if biases
    h_${z}[${bias_at[l + 1]}] = 1.0;
    //: if save
    hidden[row_${z} * ${hidden_stride}u + ${hidden_offset[l] + bias_at[l + 1]}u] = 1.0;
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
${rows_of_thread}
    //: for z in range(samples)
    var h_${z}: array<f32, ${scratch}>;
    //: for q in range(padded_rows[layers - 1] // 4)
    var d${layers}_${z}_${q} = d_output[row_${z} * ${d_out_stride // 4}u + ${q + d_out_offset // 4}u];
    //: endfor
    //: endfor
    //: for l in range(layers - 1, -1, -1)
    //: for part in parts[l]
    //: if staged
    workgroupBarrier();
    for (var i = lane; i < ${part.n * padded_rows[l] // 4}u; i += ${workgroup}u) {
        sh_weights[i] = weights_transposed[cell + ${(back_offsets[l] + part.first * padded_rows[l]) // 4}u + i];
    }
    workgroupBarrier();
    //: endif
    for (var i = ${part.first}u; i < ${part.first + part.n}u * uni5(1u); i++) {
        //: if staged
        let row = (i - ${part.first}u) * ${padded_rows[l] // 4}u;
        //: elif cells
        let row = cell + ${back_offsets[l] // 4}u + uni10(i) * ${padded_rows[l] // 4}u;
        //: else
        let row = ${back_offsets[l] // 4}u + uni10(i) * ${padded_rows[l] // 4}u;
        //: endif
        //: for z in range(samples)
        var a_${z} = 0.0;
        var b_${z} = 0.0;
        //: endfor
        //: for q in range(padded_rows[l] // 4)
        {
            let w = ${"sh_weights" if staged else "weights_transposed"}[row + ${q}u];
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
        let y_${z} = select(0.0, a_${z} + b_${z}, hidden[row_${z} * ${hidden_stride}u + ${hidden_offset[l - 1]}u + i] > 0.0);
        h_${z}[i] = y_${z};
        //: if save
        d_hidden[row_${z} * ${d_hidden_stride}u + ${d_hidden_offset[l - 1]}u + i] = y_${z};
        //: endif
        //: elif rectified_input
        d_input[row_${z} * ${d_in_stride}u + ${d_in_offset}u + i] = select(0.0, a_${z} + b_${z}, network_input[row_${z} * ${in_stride}u + ${in_offset}u + i] > 0.0);
        //: elif writes_d_input
        d_input[row_${z} * ${d_in_stride}u + ${d_in_offset}u + i] = a_${z} + b_${z};
        //: endif
        //: endfor
    }
    //: endfor
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
    d_input[row_${z} * ${d_in_stride}u + ${d_in_offset}u] += d_first_input[row_${z}];
    //: endfor
    //: endif
}
//: endif
