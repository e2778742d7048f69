// Identity index helpers for real GPUs: see index_proved.wgsl for what they stand for.
fn uni5(x: u32) -> u32 { return x; }
fn uni10(x: u32) -> u32 { return x; }
fn uni15(x: u32) -> u32 { return x; }
fn uni20(x: u32) -> u32 { return x; }
fn uni25(x: u32) -> u32 { return x; }
