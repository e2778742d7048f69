use kiln::{camera::*, config::*, dataset::*, gpu::*, images::*, metrics::*, render::*, train::*};
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let path = std::path::PathBuf::from(&args[1]); let seconds: f64 = args[2].parse().unwrap(); let method = &args[3];
    let k: u32 = args[4].parse().unwrap();
    let mut config = Config::preset(method, &args[5..].to_vec()).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(2) });
    let ds = Dataset::open(&path).unwrap();
    let t = Instant::now();
    let imgs = load_images(&ds.train, k, &|| ()).unwrap();
    let cams: Vec<GpuCamera> = ds.train.iter().map(|f| GpuCamera::new(&f.camera.downscaled(k), near_far(&config, f.near_far))).collect();
    config.resolve(SceneHints { aabb_scale: ds.aabb_scale, scale: ds.scale, offset: ds.offset }, gpu.class());
    let set = ImageSet::upload(&gpu, &imgs, &cams).unwrap();
    println!("load {:.2}", t.elapsed().as_secs_f64()); let t = Instant::now();
    println!("{:?}", plan(&gpu, &config).unwrap());
    let mut tr = Trainer::new(&gpu, &config, &set).unwrap();
    tr.warm_up(&set).unwrap();
    println!("setup+compile {:.2}", t.elapsed().as_secs_f64());
    let mut r = Renderer::new(&gpu, &config, &tr.occupancy.bits).unwrap();
    let test: Vec<Frame> = [0, 5, 10, 15, 20].iter().filter_map(|&i| ds.test.get(i).cloned()).collect();
    let timgs = load_images(&test, k, &|| ()).unwrap();
    let mut events = vec![]; let mut next = 15.0;
    while tr.seconds() < seconds {
        match tr.advance(u32::MAX, &mut events).unwrap() { Advance::Busy => tr.wait().unwrap(), _ => {} }
        if tr.seconds() > next {
            next += 15.0;
            while !tr.between_steps() { if tr.advance(tr.step()+1, &mut events).unwrap() == Advance::Busy { tr.wait().unwrap() } }
            tr.pause(&mut events).unwrap();
            let TrainEvent::Progress(p) = events.last().unwrap().clone();
            tr.settle(&r.parameters).unwrap();
            let t = Instant::now(); let mut ps = vec![]; let mut n = 0;
            for (f, im) in test.iter().zip(&timgs) {
                let cam = f.camera.downscaled(k);
                let fr = r.render(&cam, f.near_far, false).unwrap(); n += fr.opacity.len();
                let bg = [1.0; 3]; let rgb = fr.rgb(bg);
                let tgt: Vec<f32> = im.pixels.chunks_exact(4).flat_map(|p| { let a = p[3] as f32 / 255.0; [0, 1, 2].map(|c| p[c] as f32 / 255.0 * a + 1.0 - a) }).collect();
                ps.push(psnr(&rgb, &tgt));
                if ps.len() == 1 { image::save_buffer("/tmp/out.png", &fr.pixels(Channel::Rgb, bg, [0.0, 1.0]), fr.width, fr.height, image::ColorType::Rgb8).unwrap(); }
            }
            println!("{:.0}s step {} loss {:.5} train {:.2} rays {:.0} kept {:.0} marched {:.0} sat {} | test {:.2} dB | render {:.0} rays/s | {:.0} samples/s", tr.seconds(), tr.step(), p.loss, p.train_psnr, p.rays, p.samples, p.marched, p.saturated, ps.iter().sum::<f64>() / ps.len() as f64, n as f64 / t.elapsed().as_secs_f64(), p.samples as f64 * tr.step() as f64 / tr.seconds());
        }
    }
    tr.pause(&mut events).unwrap();
    let (a, b) = tr.stages();
    let all: Vec<&Stage> = a.iter().chain(b).collect();
    let mut sums = std::collections::BTreeMap::new();
    for _ in 0..5 { for s in profile(&gpu, &all).unwrap() { *sums.entry(s.name).or_insert(0.0) += s.seconds / 5.0; } }
    for (n, s) in sums { println!("{n:20} {:.2} ms", s * 1e3); }
}
