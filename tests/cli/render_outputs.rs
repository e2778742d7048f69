//! `kiln render`: the contents of the files that it writes, format by format.

use std::path::{Path, PathBuf};
use std::process::Command as System;
use std::sync::OnceLock;

use assert_cmd::Command;
use image::{ColorType, DynamicImage};
use tempfile::TempDir;

use crate::support::*;
use crate::tools::is_here;

/// Return a run with a solid surface, which takes more steps than the shared run has.
pub fn solid_run() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let run = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-solid");
        let _ = std::fs::remove_dir_all(&run);
        succeeds(train(&shared().dataset, &run).args(["--steps", "600"]));
        run
    })
}

fn render(out: &Path, flags: &[&str]) -> Command {
    let mut command = kiln(["render"]);
    command.arg(solid_run()).arg("--out").arg(out).args(flags);
    command
}

fn open(path: impl AsRef<Path>) -> DynamicImage {
    let path = path.as_ref();
    image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Check that rendering is refused with these words and writes no file.
fn refused_without_output(name: &str, flags: &[&str], words: &[&str]) {
    let folder = TempDir::new().unwrap();
    refused(&mut render(&folder.path().join(name), flags), 2, words);
    assert!(names_in(folder.path()).is_empty(), "{name} {flags:?}");
}

#[test]
fn transparent_images_composite_to_the_opaque_ones() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let one = |name: &str, background: &str| {
        let out = folder.path().join(name);
        let flags = ["--turntable", "1", "--background", background];
        succeeds(&mut render(&out, &flags));
        open(out)
    };
    let clear = one("clear.png", "transparent");
    assert_eq!(clear.color(), ColorType::Rgba8);
    let clear = clear.into_rgba8();
    assert!(clear.pixels().any(|p| p.0[3] < 10) && clear.pixels().any(|p| p.0[3] > 200));
    for (background, behind) in [("white", [255.0; 3]), ("#2080ff", [32.0, 128.0, 255.0])] {
        let opaque = one("opaque.png", background);
        assert_eq!(opaque.color(), ColorType::Rgb8);
        for (clear, opaque) in clear.pixels().zip(opaque.into_rgb8().pixels()) {
            let alpha = f32::from(clear.0[3]) / 255.0;
            for (c, behind) in behind.iter().enumerate() {
                let blended = f32::from(clear.0[c]) * alpha + (1.0 - alpha) * behind;
                let error = (blended - f32::from(opaque.0[c])).abs();
                assert!(error < 1.6, "{clear:?} {opaque:?}");
            }
        }
    }
    let out = folder.path().join("all");
    let channels = "rgb,depth,normal,opacity";
    let flags = ["--turntable", "1", "--background", "transparent"];
    succeeds(render(&out, &flags).args(["--channels", channels]));
    for (name, color) in [
        ("rgb", ColorType::Rgba8),
        ("depth", ColorType::Rgba8),
        ("normal", ColorType::Rgba8),
        ("opacity", ColorType::Rgb8),
    ] {
        assert_eq!(open(out.join(format!("{name}_0000.png"))).color(), color);
    }
}

#[test]
fn depth_is_written_as_numbers() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let numbers = |name: &str, format: &[&str]| {
        let out = folder.path().join(name);
        let flags = ["--turntable", "1", "--channels", "depth", "--depth-format"];
        let output = succeeds(render(&out, &flags).args(format));
        (open(out), text(&output.stderr))
    };
    let (exact, _) = numbers("depth.exr", &["exr"]);
    assert_eq!(exact.color(), ColorType::Rgb32F);
    let exact: Vec<f32> = exact.into_rgb32f().pixels().map(|p| p.0[0]).collect();
    // The sphere has a radius of one world unit; its centre is four from the camera.
    let seen: Vec<&f32> = exact.iter().filter(|d| **d > 0.0).collect();
    assert!(
        seen.len() > 20 && seen.len() < exact.len(),
        "{}",
        seen.len()
    );
    assert!(seen.iter().all(|d| (1.0..8.0).contains(*d)), "{seen:?}");
    let (thousandths, note) = numbers("depth.png", &["png16"]);
    assert_eq!(thousandths.color(), ColorType::L16);
    assert!(!note.contains("clipped"), "{note}");
    for (short, exact) in thousandths.into_luma16().pixels().zip(&exact) {
        assert!((f32::from(short.0[0]) - 1000.0 * exact).abs() <= 0.51);
    }
    let (scaled, note) = numbers("scaled.png", &["png16", "--depth-scale", "100000"]);
    assert!(scaled.into_luma16().pixels().any(|p| p.0[0] == u16::MAX));
    assert!(
        note.contains("clipped") && note.contains("--depth-scale"),
        "{note}"
    );
    // A single .exr file holds depth in world units by default.
    let out = folder.path().join("same.exr");
    succeeds(&mut render(
        &out,
        &["--turntable", "1", "--channels", "depth"],
    ));
    let same = open(out).into_rgb32f();
    assert!(same.pixels().map(|p| p.0[0]).eq(exact.iter().copied()));
}

#[test]
fn colour_is_written_in_linear_light() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("views");
    let flags = ["--turntable", "2", "--linear", "--channels", "rgb,opacity"];
    succeeds(&mut render(&out, &flags));
    assert_eq!(
        names_in(&out),
        [
            "opacity_0000.png",
            "opacity_0001.png",
            "rgb_0000.exr",
            "rgb_0001.exr"
        ]
    );
    let linear = open(out.join("rgb_0001.exr"));
    assert_eq!(linear.color(), ColorType::Rgba32F);
    let opacity = open(out.join("opacity_0001.png")).into_rgb8();
    let clear = folder.path().join("clear");
    let flags = ["--turntable", "2", "--background", "transparent"];
    succeeds(&mut render(&clear, &flags));
    let straight = open(clear.join("rgb_0001.png")).into_rgba8();
    let decoded = |v: u8| {
        let v = f32::from(v) / 255.0;
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    };
    for ((linear, opacity), straight) in linear
        .into_rgba32f()
        .pixels()
        .zip(opacity.pixels())
        .zip(straight.pixels())
    {
        let alpha = linear.0[3];
        assert!((alpha - f32::from(opacity.0[0]) / 255.0).abs() < 3e-3);
        for c in 0..3 {
            // Premultiplied by alpha; half an 8-bit step is less than 0.005 in linear light.
            assert!(
                (linear.0[c] - decoded(straight.0[c]) * alpha).abs() < 6e-3,
                "{linear:?} {straight:?}"
            );
        }
    }
    // Over a background colour the image is opaque.
    let single = folder.path().join("one.exr");
    let flags = ["--turntable", "1", "--background", "white"];
    succeeds(&mut render(&single, &flags));
    assert!(open(single).into_rgba32f().pixels().all(|p| p.0[3] == 1.0));
}

#[test]
fn samples_are_averaged() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let rendered = |name: &str, flags: &[&str]| {
        let out = folder.path().join(name);
        succeeds(render(&out, &["--turntable", "1", "--background", "black"]).args(flags));
        open(out).into_rgb8()
    };
    for (samples, side) in [("4", 2), ("9", 3)] {
        let fine = rendered("fine.png", &["--width", &(12 * side).to_string()]);
        let averaged = rendered("averaged.png", &["--width", "12", "--samples", samples]);
        assert_eq!(averaged.dimensions(), (12, 12));
        for (x, y, pixel) in averaged.enumerate_pixels() {
            for c in 0..3 {
                let of = |i: u32| {
                    f32::from(fine.get_pixel(x * side + i % side, y * side + i / side).0[c])
                };
                let mean = (0..side * side).map(of).sum::<f32>() / (side * side) as f32;
                assert!(
                    (mean - f32::from(pixel.0[c])).abs() < 1.5,
                    "{x} {y}: {mean} {pixel:?}"
                );
            }
        }
    }
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    if !has_adapter() {
        return;
    }
    let turn = "--turntable=3";
    for (name, flags, words) in [
        (
            "a.gif",
            &[turn, "--background", "transparent"][..],
            &["--background transparent", "a.gif", ".png"][..],
        ),
        (
            "a.mp4",
            &[turn, "--background", "transparent"],
            &["--background transparent", "a.mp4"],
        ),
        ("a.gif", &[turn, "--linear"], &["--linear", "a.gif", ".exr"]),
        (
            "a",
            &[turn, "--linear", "--channels", "depth"],
            &["--linear", "--channels"],
        ),
        (
            "a",
            &[turn, "--depth-format", "exr"],
            &["--depth-format", "--channels"],
        ),
        (
            "a",
            &[turn, "--depth-scale", "10"],
            &["--depth-scale", "png16"],
        ),
        (
            "a.gif",
            &[turn, "--channels", "depth", "--depth-format", "png16"],
            &["--depth-format", "a.gif"],
        ),
        (
            "a.exr",
            &["--turntable=1", "--channels", "normal"],
            &["a.exr", "OpenEXR"],
        ),
        ("a.exr", &[turn], &["a.exr", "3 images"]),
        ("a.gif", &[turn, "--fps", "60"], &["--fps", "a.gif", "50"]),
        (
            "a",
            &[turn, "--frames", "3.."],
            &["--frames", "there are 3 frames"],
        ),
        (
            "a",
            &[turn, "--frames", "1..4"],
            &["--frames 1..4", "there are 3 frames"],
        ),
        (
            "a",
            &[turn, "--frames", "0..3..2", "--every", "2"],
            &["--every", "STEP"],
        ),
    ] {
        refused_without_output(name, flags, words);
    }
    let folder = TempDir::new().unwrap();
    for flags in [
        ["--samples", "2"],
        ["--frames", "2..2"],
        ["--frames", "two"],
        ["--every", "0"],
        ["--fps", "nan"],
        ["--depth-format", "tiff"],
        ["--depth-scale", "0"],
        ["--path-transform", "x.json"],
    ] {
        let error = error_of(&mut render(&folder.path().join("a"), &flags), 2);
        assert!(
            error
                .iter()
                .any(|line| line.contains(flags[0]) || line.contains("--path")),
            "{error:?}"
        );
    }
}

/// Return whether ffmpeg is installed.
fn has_ffmpeg() -> bool {
    is_here(
        "ffmpeg",
        System::new("ffmpeg").arg("-version").output().is_ok(),
    )
}

/// Return the codec, size, pixel format, frame rate and number of frames of a video; empty without ffprobe.
fn probe(video: &Path) -> String {
    let output = System::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-select_streams",
            "v:0",
            "-of",
            "csv=p=0",
        ])
        .args([
            "-show_entries",
            "stream=codec_name,width,height,pix_fmt,r_frame_rate,nb_read_frames",
        ])
        .arg(video)
        .output();
    output.map_or_else(|_| String::new(), |o| text(&o.stdout).trim().to_owned())
}

#[test]
fn videos_are_written_by_ffmpeg() {
    if !has_adapter() || !has_ffmpeg() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("new/orbit: a.mp4");
    // Odd sizes are rounded up to even ones.
    let flags = [
        "--turntable",
        "5",
        "--width",
        "17",
        "--height",
        "15",
        "--fps",
        "10",
        "--channels",
        "rgb,depth",
    ];
    let output = succeeds(render(&out, &flags).arg("--json"));
    assert_eq!(
        names_in(out.parent().unwrap()),
        ["orbit: a-depth.mp4", "orbit: a-rgb.mp4"]
    );
    assert_eq!(json_lines(&text(&output.stdout)).len(), 2);
    for channel in ["rgb", "depth"] {
        let video = out.with_file_name(format!("orbit: a-{channel}.mp4"));
        let probed = probe(&video);
        if !probed.is_empty() {
            assert_eq!(probed, "h264,18,16,yuv420p,10/1,5");
        }
        // The index precedes the frames, so players can start at once.
        let bytes = std::fs::read(&video).unwrap();
        let place = |word: &[u8]| bytes.windows(4).position(|w| w == word).unwrap();
        assert!(place(b"moov") < place(b"mdat"));
    }
    // A second video, of every other frame, replaces it and has the same duration.
    let flags = [
        "--turntable",
        "6",
        "--every",
        "2",
        "--width",
        "16",
        "--fps",
        "12",
    ];
    let out = out.with_file_name("orbit: a-rgb.mp4");
    succeeds(&mut render(&out, &flags));
    let probed = probe(&out);
    assert!(
        probed.is_empty() || probed == "h264,16,16,yuv420p,6/1,3",
        "{probed}"
    );
}

#[test]
fn without_ffmpeg_there_is_no_video() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("orbit.mp4");
    refused(
        render(&out, &["--turntable", "2"]).env("PATH", folder.path()),
        2,
        &["orbit.mp4", "ffmpeg", "PATH", "install", "PNGs"],
    );
    assert!(names_in(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn an_interrupted_rendering_leaves_no_animation() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let kinds = ["orbit.gif", "orbit.mp4"];
    for name in &kinds[..=usize::from(has_ffmpeg())] {
        let mut running = System::new(env!("CARGO_BIN_EXE_kiln"))
            .args(["render", "--turntable", "10000", "--out"])
            .arg(folder.path().join(name))
            .arg(solid_run())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let part = folder.path().join(format!("{name}.part"));
        while running.try_wait().unwrap().is_none() && !part.exists() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(part.exists(), "{name}: no partial file appeared");
        // Let the program write some frames.
        std::thread::sleep(std::time::Duration::from_millis(500));
        signal(&running, "INT");
        assert_eq!(running.wait().unwrap().code(), Some(130), "{name}");
        assert!(
            names_in(folder.path()).is_empty(),
            "{:?}",
            names_in(folder.path())
        );
    }
}

#[cfg(unix)]
#[test]
fn the_last_line_of_ffmpeg_is_in_the_error() {
    use std::os::unix::fs::PermissionsExt as _;
    if !has_adapter() {
        return;
    }
    let (tools, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let fake = tools.path().join("ffmpeg");
    for script in [
        // One script exits before it reads its input, the other after it has read all of it.
        "#!/bin/sh\necho first >&2\necho 'no such encoder' >&2\nexit 1\n",
        "#!/bin/sh\ncat >/dev/null\necho 'no such encoder' >&2\nexit 3\n",
    ] {
        std::fs::write(&fake, script).unwrap();
        std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", tools.path().display());
        refused(
            render(&folder.path().join("orbit.mp4"), &["--turntable", "30"]).env("PATH", path),
            1,
            &["cannot write", "orbit.mp4", "ffmpeg says: no such encoder"],
        );
        assert!(names_in(folder.path()).is_empty());
    }
}
