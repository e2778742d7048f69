//! Renders a run along a camera path with key frames: `render_path RUN OUT.gif`.

use kiln::gpu::{Gpu, GpuOptions};
use kiln::session::{Error, RenderOptions, Result, render};

/// Two key frames with their targets, in the format of `docs/camera-path.md`.
const PATH: &str = r#"{
    "width": 160, "height": 120, "fps": 12, "fov": 45,
    "key_frames": [
        { "time": 0, "eye": [4.0, 0.0, 2.0], "target": [0.0, 0.0, 0.0] },
        { "time": 1, "eye": [0.0, 4.0, 1.0], "target": [0.0, 0.0, 0.0] }
    ]
}"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, out] = arguments.as_slice() else {
        return Err(Error::Usage("render_path RUN OUT.gif".to_owned()));
    };
    let path = std::env::temp_dir().join("render_path.json");
    std::fs::write(&path, PATH)?;
    let gpu = Gpu::open(&GpuOptions::default())?;
    let options = RenderOptions {
        path: Some(path),
        ..RenderOptions::new(run, out)
    };
    render(&gpu, &options, &())
}
