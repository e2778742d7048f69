// uniN(x) = x for x < 2^N, read back through an identity table in the immediates.
//
// The compiler of a software adapter turns a load into one scalar load and a broadcast only if it can prove the index
// uniform across the lanes; among run-time values, it accepts only immediates. Use uniN for indices that *are* uniform across
// a subgroup. uni5(1u) is also a run-time 1 that prevents loops from being unrolled.
struct IdentityTable { entries: array<vec4<u32>, 8> }
var<immediate> identity_table: IdentityTable;

fn uni5(x: u32) -> u32 { return identity_table.entries[(x >> 2u) & 7u][x & 3u]; }
fn uni10(x: u32) -> u32 { return uni5(x & 31u) + 32u * uni5(x >> 5u); }
fn uni15(x: u32) -> u32 { return uni5(x & 31u) + 32u * uni5((x >> 5u) & 31u) + 1024u * uni5(x >> 10u); }
fn uni20(x: u32) -> u32 { return uni15(x & 32767u) + 32768u * uni5(x >> 15u); }
fn uni25(x: u32) -> u32 { return uni20(x & 1048575u) + 1048576u * uni5(x >> 20u); }
