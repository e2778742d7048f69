//! Write a video of a walk around the built-in scene, for `kiln prepare`: `cargo run --release --example room_video desk.mp4`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use kiln::gpu::{Gpu, GpuOptions};
use kiln::scene::DemoScene;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("give the video file to write")?;
    let (size, n_frames) = ([960, 720], 240);
    let gpu = Gpu::open(&GpuOptions::default())?;
    let mut ffmpeg = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pixel_format",
            "rgba",
        ])
        .args(["-video_size", &format!("{}x{}", size[0], size[1])])
        .args([
            "-framerate",
            "24",
            "-i",
            "pipe:0",
            "-c:v",
            "libx264",
            "-crf",
            "14",
            "-pix_fmt",
            "yuv420p",
        ])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    let pipe = ffmpeg.stdin.as_mut().ok_or("ffmpeg has no input")?;
    for camera in DemoScene::walk(n_frames, size) {
        pipe.write_all(&DemoScene::render_in_room(&gpu, &camera)?.pixels)?;
    }
    drop(ffmpeg.stdin.take());
    if !ffmpeg.wait()?.success() {
        return Err("ffmpeg failed".into());
    }
    Ok(())
}
