// One pass of a stable radix sort of (key, value) pairs by 4 bits of the key. A thread owns RUN consecutive pairs:
// `histogram` counts its digits into a (16, threads) matrix, a prefix sum turns the counts into positions, `scatter` moves
// the pairs.
// See src/gpu/primitives.rs.
#import common/grid_index
#import common/step

var<storage, read> counts: StepState;
var<storage, read> pairs: array<vec2<u32>>;               // (n) key, value
//: if pass == "histogram"
var<storage, read_write> histogram_out: array<u32>;       // (16, threads)
//: else
var<storage, read> places: array<u32>;                    // (16, threads + 1)
var<storage, read_write> sorted: array<vec2<u32>>;        // (n)
//: endif

const RUN: u32 = 64u;
const SHIFT: u32 = ${shift}u;
const THREADS: u32 = ${threads}u;

@compute @workgroup_size(64)
fn ${pass}(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let thread = linear_group(group) * 64u + lane;
    if (thread >= THREADS) { return; }
    let first = min(thread * RUN, counts.${count});
    let last = min(first + RUN, counts.${count});
    var digits: array<u32, 16>;
    //: if pass == "histogram"
    for (var i = first; i < last; i++) { digits[(pairs[i].x >> SHIFT) & 15u] += 1u; }
    for (var d = 0u; d < 16u; d++) { histogram_out[d * THREADS + thread] = digits[d]; }
    //: else
    for (var d = 0u; d < 16u; d++) { digits[d] = places[d * THREADS + thread]; }
    for (var i = first; i < last; i++) {
        let pair = pairs[i];
        let d = (pair.x >> SHIFT) & 15u;
        sorted[digits[d]] = pair;
        digits[d] += 1u;
    }
    //: endif
}
