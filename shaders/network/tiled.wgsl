// One layer of a wide network, forward or backward: result = epilogue(sum over segments of operand_s matrix_s + bias).
//
// Shapes: operands (n, stride), of which a range of columns from an offset is used; matrix (rows, matrix_stride), whose rows
// from first_rows[s] multiply segment s; result (n, out_stride). All widths are multiples of 4 and counted in vec4 here; the
// number of sample rows is padded to a multiple of 512.
// Three variants: `proved` for software adapters (a lane computes 4 outputs of 8 samples, whose values are read at indices
// proved uniform), `staged` for GPUs (64 samples x 64 outputs per workgroup, both operands in workgroup memory, 8 x 8 values
// per thread), `narrow` for few outputs (a thread computes all outputs of one sample).
// See src/network/tiled.rs.
#import common/index
#import common/grid_index
#import common/step

var<storage, read> counts: StepState;
var<uniform> place: vec4<u32>;                            // first vec4 of the matrix and of its row of biases
var<storage, read> matrix: array<vec4<f32>>;
var<storage, read> operand_0: array<vec4<f32>>;
//: if depths | length > 1
var<storage, read> operand_1: array<vec4<f32>>;
//: endif
var<storage, read_write> result: array<vec4<f32>>;
//: if has_mask
var<storage, read> mask: array<vec4<f32>>;
//: endif
//: if has_addend
var<storage, read> addend: array<f32>;                     // (n), added to output 0
//: endif

const N_OUTPUTS: u32 = ${n_outputs}u;

// The epilogue, applied to the sums of outputs 4n to 4n + 3 of sample m.
fn epilogue(m: u32, n: u32, sum: vec4<f32>) {
    var y = sum;
    //: if has_bias
    y += matrix[place.y + n];
    //: endif
    //: if rectified_from == 0
    y = max(y, vec4<f32>(0.0));
    //: elif rectified_from > 0
    if (n >= ${rectified_from}u) { y = max(y, vec4<f32>(0.0)); }
    //: endif
    //: if has_mask
    y = select(vec4<f32>(0.0), y, mask[m * ${mask_stride}u + ${mask_offset}u + n] > vec4<f32>(0.0));
    //: endif
    //: if has_addend
    if (n == 0u) { y.x += addend[m]; }
    //: endif
    let at = m * ${out_stride}u + ${out_offset}u + n;
    //: if accumulates
    result[at] += y;
    //: else
    result[at] = y;
    //: endif
}

//: if variant == "proved"
@compute @workgroup_size(${lanes})
fn proved(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let tile = linear_group(group);
    let first = tile * 8u;
    if (first >= counts.${count}) { return; }
    let n = group.z * ${lanes}u + lane;
    //: if n_outputs % lanes != 0
    if (n >= N_OUTPUTS) { return; }
    //: endif
    let m = uni25(tile) * 8u;
    //: for i in range(8)
    var c_${i} = vec4<f32>(0.0);
    //: endfor
    //: for depth in depths
    //: set s = loop.index0
    for (var q = 0u; q < ${depth}u * uni5(1u); q++) {
        let at = place.x + (${first_rows[s]}u + q * 4u) * ${matrix_stride}u + n;
        let b_0 = matrix[at];
        let b_1 = matrix[at + ${matrix_stride}u];
        let b_2 = matrix[at + ${2 * matrix_stride}u];
        let b_3 = matrix[at + ${3 * matrix_stride}u];
        let k = ${offsets[s]}u + uni10(q);
        //: for i in range(8)
        {
            let a = operand_${s}[(m + ${i}u) * ${strides[s]}u + k];
            c_${i} += a.x * b_0;
            c_${i} += a.y * b_1;
            c_${i} += a.z * b_2;
            c_${i} += a.w * b_3;
        }
        //: endfor
    }
    //: endfor
    //: for i in range(8)
    epilogue(first + ${i}u, n, c_${i});
    //: endfor
}
//: elif variant == "narrow"
@compute @workgroup_size(64)
fn narrow(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = linear_group(group) * 64u;
    if (first >= counts.${count}) { return; }
    let m = first + lane;
    let corner = uni25(place.x);
    //: for n in range(n_outputs)
    var c_${n} = vec4<f32>(0.0);
    //: endfor
    //: for depth in depths
    //: set s = loop.index0
    for (var q = 0u; q < ${depth}u * uni5(1u); q++) {
        let a = operand_${s}[m * ${strides[s]}u + ${offsets[s]}u + q];
        let at = corner + (${first_rows[s]}u + uni10(q) * 4u) * ${matrix_stride}u;
        //: for n in range(n_outputs)
        c_${n} += a.x * matrix[at + ${n}u];
        c_${n} += a.y * matrix[at + ${matrix_stride + n}u];
        c_${n} += a.z * matrix[at + ${2 * matrix_stride + n}u];
        c_${n} += a.w * matrix[at + ${3 * matrix_stride + n}u];
        //: endfor
    }
    //: endfor
    //: for n in range(n_outputs)
    epilogue(m, ${n}u, c_${n});
    //: endfor
}
//: else
// Rows of 4 vec4 have stride 5, so that simultaneous reads of different threads hit different banks.
var<workgroup> sh_operand: array<vec4<f32>, 320>;         // (64 samples, 4)
var<workgroup> sh_matrix: array<vec4<f32>, 256>;          // (16 rows, 16)

@compute @workgroup_size(64)
fn staged(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = linear_group(group) * 64u;
    if (first >= counts.${count}) { return; }
    let first_output = group.z * 16u;
    let column = lane & 7u;
    let row = lane >> 3u;
    //: for i in range(8)
    var c_${i}_0 = vec4<f32>(0.0);
    var c_${i}_1 = vec4<f32>(0.0);
    //: endfor
    //: for depth in depths
    //: set s = loop.index0
    for (var q = 0u; q < ${depth}u; q += 4u) {
        workgroupBarrier();
        for (var j = 0u; j < 4u; j++) {
            var a = vec4<f32>(0.0);
            if (q + j < ${depth}u) { a = operand_${s}[(first + lane) * ${strides[s]}u + ${offsets[s]}u + q + j]; }
            sh_operand[lane * 5u + j] = a;
            let k = j * 4u + (lane >> 4u);
            let n = first_output + (lane & 15u);
            var b = vec4<f32>(0.0);
            if (q * 4u + k < ${4 * depth}u && n < N_OUTPUTS) {
                b = matrix[place.x + (${first_rows[s]}u + q * 4u + k) * ${matrix_stride}u + n];
            }
            sh_matrix[k * 16u + (lane & 15u)] = b;
        }
        workgroupBarrier();
        for (var j = 0u; j < 4u * uni5(1u); j++) {
            let at = j * 64u + column;
            let b_00 = sh_matrix[at];
            let b_10 = sh_matrix[at + 16u];
            let b_20 = sh_matrix[at + 32u];
            let b_30 = sh_matrix[at + 48u];
            let b_01 = sh_matrix[at + 8u];
            let b_11 = sh_matrix[at + 24u];
            let b_21 = sh_matrix[at + 40u];
            let b_31 = sh_matrix[at + 56u];
            //: for i in range(8)
            {
                let a = sh_operand[(row + ${8 * i}u) * 5u + j];
                //: for half in range(2)
                c_${i}_${half} += a.x * b_0${half};
                c_${i}_${half} += a.y * b_1${half};
                c_${i}_${half} += a.z * b_2${half};
                c_${i}_${half} += a.w * b_3${half};
                //: endfor
            }
            //: endfor
        }
    }
    //: endfor
    //: for half in range(2)
    if (first_output + column + ${8 * half}u < N_OUTPUTS) {
        //: for i in range(8)
        epilogue(first + row + ${8 * i}u, first_output + column + ${8 * half}u, c_${i}_${half});
        //: endfor
    }
    //: endfor
}
//: endif
