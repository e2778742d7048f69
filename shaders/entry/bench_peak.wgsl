// Peak rates of the adapter: `arithmetic` runs independent multiply-adds in registers, `copy` moves vec4s, `gather` reads
// vec2s at random rows of a table. See src/cli/bench.rs.
#import common/grid_index
#import common/index
#import common/pcg

//: if pass == "arithmetic"
var<storage, read_write> result: array<vec4<f32>>;
//: elif pass == "copy"
var<storage, read> from_here: array<vec4<f32>>;
var<storage, read_write> to_there: array<vec4<f32>>;
//: else
var<storage, read> table: array<vec2<f32>>;
var<storage, read_write> result: array<vec2<f32>>;
//: endif

@compute @workgroup_size(64)
fn ${pass}(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let i = linear_group(group) * 64u + lane;
    //: if pass == "arithmetic"
    let x = vec4<f32>(f32(i) * 1e-9 + 0.5);
    //: for k in range(8)
    var a_${k} = vec4<f32>(${k}.0);
    //: endfor
    for (var n = 0u; n < ${iterations}u * uni5(1u); n++) {
        //: for k in range(8)
        a_${k} = a_${k} * x + x;
        //: endfor
    }
    result[i] = ((a_0 + a_1) + (a_2 + a_3)) + ((a_4 + a_5) + (a_6 + a_7));
    //: elif pass == "copy"
    to_there[i] = from_here[i];
    //: else
    var state = pcg(i);
    var sum = vec2<f32>(0.0);
    for (var n = 0u; n < 8u * uni5(1u); n++) {
        state = pcg(state);
        sum += table[state & ${rows - 1}u];
    }
    result[i] = sum;
    //: endif
}
