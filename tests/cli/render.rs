//! `kiln render`: folders, PNGs and GIFs, and paths that cannot be written to.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use kiln::dataset::image_size;
use tempfile::TempDir;

use crate::support::*;

fn render(out: &Path) -> Command {
    let mut command = kiln(["render"]);
    command.arg(&shared().run).arg("--out").arg(out);
    command
}

fn frames(gif: &Path) -> Vec<(u32, u32)> {
    let frames = gif_frames(gif);
    frames.iter().map(|f| f.buffer().dimensions()).collect()
}

#[test]
fn an_orbit_of_all_channels_goes_to_a_folder() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("new/v1.2");
    let channels = "rgb,depth,normal,opacity";
    let output = succeeds(render(&out).args([
        "--turntable",
        "2",
        "--channels",
        channels,
        "--width",
        "16",
        "--json",
    ]));
    let expected = channels
        .split(',')
        .flat_map(|c| [0, 1].map(|i| out.join(format!("{c}_{i:04}.png"))));
    let expected: Vec<PathBuf> = expected.collect();
    let lines = json_lines(&text(&output.stdout));
    let listed: Vec<&Path> = lines
        .iter()
        .map(|line| Path::new(line["path"].as_str().unwrap()))
        .collect();
    assert_eq!(listed, expected);
    assert_eq!(names_in(&out).len(), 8);
    for path in expected {
        assert_eq!(image_size(&path).unwrap(), [16, 16], "{}", path.display());
    }
}

#[test]
fn views_of_a_split_go_to_an_animation() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let gif = folder.path().join("test.gif");
    succeeds(render(&gif).args([
        "--split",
        "test",
        "--width",
        "20",
        "--height",
        "12",
        "--background",
        "black",
    ]));
    assert_eq!(frames(&gif), [(20, 12); 3]);
    succeeds(render(&gif).args([
        "--split",
        "train",
        "--height",
        "10",
        "--channels",
        "rgb,depth",
    ]));
    assert_eq!(
        names_in(folder.path()),
        ["test-depth.gif", "test-rgb.gif", "test.gif"]
    );
    assert_eq!(frames(&folder.path().join("test-depth.gif")), [(10, 10); 6]);
}

#[test]
fn one_view_goes_to_one_png() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let png = folder.path().join("deep/one.png");
    succeeds(render(&png).args(["--turntable", "1"]));
    assert_eq!(image_size(&png).unwrap(), [SIDE; 2]);
    let other = folder.path().join("other.png");
    refused(
        render(&other).args(["--turntable", "2"]),
        2,
        &["other.png", "2 images", "one PNG"],
    );
    refused(
        render(&other).args(["--turntable", "1", "--channels", "rgb,depth"]),
        2,
        &["other.png", "2 images"],
    );
    assert!(!other.exists());
}

#[test]
fn unknown_formats_and_unwritable_paths_are_refused() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("file"), "mine").unwrap();
    for name in ["orbit.webm", "orbit.xyz", "view.jpg"] {
        refused(
            render(&at(name)).args(["--turntable", "1"]),
            2,
            &[name, ".gif", "folder"],
        );
    }
    refused(
        render(&at("file")).args(["--turntable", "1"]),
        2,
        &["file", "folder"],
    );
    refused(
        render(&at("file/in.png")).args(["--turntable", "1"]),
        1,
        &["cannot create", "file"],
    );
    refused(
        render(&at("file/in")).args(["--turntable", "1"]),
        1,
        &["cannot create", "file"],
    );
    assert_eq!(names_in(folder.path()), ["file"]);
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "mine");
    // The name of an output folder may have any extension.
    std::fs::create_dir(at("old.xyz")).unwrap();
    succeeds(render(&at("old.xyz")).args(["--turntable", "1", "--width", "4"]));
    succeeds(render(&at("new.xyz/")).args(["--turntable", "1", "--width", "4"]));
    assert_eq!(names_in(&at("new.xyz")), ["rgb_0000.png"]);
}

#[test]
fn impossible_sizes_and_channels_are_refused() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    for flags in [
        ["--turntable", "0"],
        ["--turntable", "99999999999"],
        ["--width", "0"],
        ["--height", "70000"],
        ["--channels", "rgb,smell"],
        ["--fps", "0"],
        ["--background", "#12"],
    ] {
        let error = error_of(render(&out).args(flags), 2);
        assert!(error[0].contains(flags[0]), "{error:?}");
    }
    refused(
        render(&out).args(["--split", "val"]),
        2,
        &["val views", "--turntable"],
    );
    refused(
        render(&out).args(["--background", "random"]),
        2,
        &["--background random"],
    );
    assert!(!out.exists());
}

#[test]
fn views_of_different_sizes_cannot_be_an_animation() {
    if !has_adapter() {
        return;
    }
    let (dataset, folder) = (own_dataset(), TempDir::new().unwrap());
    let smaller = image::RgbaImage::new(12, 10);
    smaller.save(dataset.path().join("test/r_1.png")).unwrap();
    let render = |out: &str| {
        let mut command = render(&folder.path().join(out));
        command.arg("--dataset").arg(dataset.path());
        command
    };
    for name in ["views.gif", "views.mp4"] {
        refused(&mut render(name), 2, &[name, "24×24, 12×10", "--width"]);
    }
    assert!(names_in(folder.path()).is_empty());
    succeeds(render("views.gif").args(["--width", "8", "--height", "8"]));
    assert_eq!(frames(&folder.path().join("views.gif")), [(8, 8); 3]);
    succeeds(&mut render("views"));
    let second = folder.path().join("views/rgb_0001.png");
    assert_eq!(image_size(&second).unwrap(), [12, 10]);
}

#[cfg(unix)]
#[test]
fn output_paths_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    if std::fs::create_dir(&out).is_err() {
        eprintln!("skipped: the file system does not allow such names");
        return;
    }
    let output = succeeds(render(&out).args(["--turntable", "1", "--width", "4", "--json"]));
    assert_eq!(json_lines(&text(&output.stdout)).len(), 1);
    assert_eq!(names_in(&out), ["rgb_0000.png"]);
}
