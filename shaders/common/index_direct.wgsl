// Identity index helpers for GPUs; index_proved.wgsl explains them.
fn uni5(x: u32) -> u32 { return x; }
fn uni10(x: u32) -> u32 { return x; }
fn uni15(x: u32) -> u32 { return x; }
fn uni20(x: u32) -> u32 { return x; }
fn uni25(x: u32) -> u32 { return x; }
