use kiln::gpu::*; use kiln::network::*;  use std::time::Instant;
fn main() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    println!("{} table {}", gpu.description(), gpu.identity_table());
    let n: u32 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1<<16);
    let counts = Counts::new(&gpu, "spike").unwrap();
    let mut st: StepState = bytemuck::Zeroable::zeroed(); st.n_kept = n;
    gpu.write(&counts.state, 0, &[st]);
    for dims in [vec![32u32,64,16], vec![32,64,64,3], vec![32,32,16], vec![32,32,32,3]] {
        let net = Fused::new(&gpu, &dims, false, 0);
        let act = net.activations(&gpu, "x", n as u64).unwrap();
        let rnd = |m: usize| (0..m).map(|i| ((i as u32).wrapping_mul(2654435761) >> 8) as f32 / 16777216.0 - 0.5).collect::<Vec<f32>>();
        let w = gpu.buffer_with("w", &rnd(net.slab_len() as usize)).unwrap();
        let wt = gpu.buffer("wt", net.slab_len() as u64 * 4).unwrap();
        let g = gpu.buffer("g", net.slab_len() as u64 * 4).unwrap();
        let x = gpu.buffer_with("x", &rnd((n * net.width(0)) as usize)).unwrap();
        let last = *dims.last().unwrap(); let os = last.next_multiple_of(4);
        let y = gpu.buffer("y", (n * os * 4) as u64).unwrap();
        let dy = gpu.buffer_with("dy", &rnd((n * os) as usize)).unwrap();
        let dx = gpu.buffer("dx", (n * net.width(0) * 4) as u64).unwrap();
        let xin = Rows::of(&x, net.width(0));
        let mk = |f: &dyn Fn(&mut Stage)| { let mut s = Stage::new("s"); f(&mut s); s };
        let stages = [
            ("fwd", mk(&|s| net.forward(&gpu, s, &counts, Count::Kept, &w, xin, Rows::of(&y, os), Some(&act)).unwrap())),
            ("bwd", mk(&|s| { net.transpose(&gpu, s, &w, &wt).unwrap(); net.backward(&gpu, s, &counts, Count::Kept, &wt, Rows::of(&dy, os), None, &act, Rows::of(&dx, net.width(0)), dims[0], true).unwrap() })),
            ("dW", mk(&|s| net.weight_gradients(&gpu, s, &counts, Count::Kept, xin, Rows::of(&dy, os), &act, &g).unwrap())),
        ];
        let mut p = Stage::new("p"); counts.publish(&gpu, &mut p).unwrap();
        gpu.submit([&p]); gpu.wait().unwrap();
        let fl = 2.0 * net.multiply_adds() as f64 * n as f64;
        let mut total = 0.0;
        for (name, s) in &stages {
            let t = Instant::now(); gpu.submit([s]); gpu.wait().unwrap(); let jit = t.elapsed().as_secs_f64();
            let mut best = 1e9f64; for _ in 0..7 { let t = Instant::now(); gpu.submit([s]); gpu.wait().unwrap(); best = best.min(t.elapsed().as_secs_f64()); }
            total += best;
            println!("{dims:?} {name}: first {jit:.2}s, {:.2} ms, {:.1} GFLOP/s", best * 1e3, fl / best / 1e9);
        }
        println!("   total {:.2} Msamples/s", n as f64 / total / 1e6);
    }
}
