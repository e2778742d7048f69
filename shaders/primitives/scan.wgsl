// Exclusive prefix sum of u32 in three dispatches: `blocks` scans blocks of 1024 and stores their totals, `totals` scans
// those in one workgroup, `add` adds them to the blocks. offsets[n] is the total. See src/gpu/primitives.rs.
#import common/grid_index
#import common/step

var<storage, read> counts: StepState;
//: if pass == "blocks"
var<storage, read> values: array<u32>;                // (n)
//: endif
var<storage, read_write> offsets: array<u32>;         // (n + 1)
var<storage, read_write> block_totals: array<u32>;    // (ceil(n / 1024) + 1)

const PER_THREAD: u32 = 16u;
const BLOCK: u32 = 1024u;

var<workgroup> sh_sums: array<u32, 64>;

// Exclusive prefix of `sum` over the workgroup's 64 threads; the total of all is left in sh_sums[63].
fn workgroup_prefix(lane: u32, sum: u32) -> u32 {
    sh_sums[lane] = sum;
    workgroupBarrier();
    for (var reach = 1u; reach < 64u; reach *= 2u) {
        var before = 0u;
        if (lane >= reach) { before = sh_sums[lane - reach]; }
        workgroupBarrier();
        sh_sums[lane] += before;
        workgroupBarrier();
    }
    return sh_sums[lane] - sum;
}

//: if pass == "blocks"
@compute @workgroup_size(64)
fn blocks(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n = counts.${count};
    let block = linear_group(group);
    let first = block * BLOCK + lane * PER_THREAD;
    let last = min(first + PER_THREAD, n);
    var sum = 0u;
    for (var i = first; i < last; i++) { sum += values[i]; }
    var running = workgroup_prefix(lane, sum);
    for (var i = first; i < last; i++) {
        offsets[i] = running;
        running += values[i];
    }
    if (lane == 63u) { block_totals[block] = sh_sums[63]; }
}
//: elif pass == "totals"
@compute @workgroup_size(64)
fn totals(@builtin(local_invocation_index) lane: u32) {
    let n = (counts.${count} + BLOCK - 1u) / BLOCK;
    let share = (n + 63u) / 64u;
    let first = min(lane * share, n);
    let last = min(first + share, n);
    var sum = 0u;
    for (var i = first; i < last; i++) { sum += block_totals[i]; }
    var running = workgroup_prefix(lane, sum);
    for (var i = first; i < last; i++) {
        let total = block_totals[i];
        block_totals[i] = running;
        running += total;
    }
    if (lane == 63u) { offsets[counts.${count}] = sh_sums[63]; }
}
//: else
@compute @workgroup_size(64)
fn add(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n = counts.${count};
    let block = linear_group(group);
    let before = block_totals[block];
    for (var i = block * BLOCK + lane; i < min((block + 1u) * BLOCK, n); i += 64u) { offsets[i] += before; }
}
//: endif
