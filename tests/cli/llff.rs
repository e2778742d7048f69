//! LLFF captures: training, evaluation and rendering at one of their image sizes, and spiral paths.

use std::path::Path;

use kiln::camera::Camera;
use kiln::dataset::image_size;
use tempfile::TempDir;

use crate::support::*;

/// Write a capture of 9 views of the sphere at full size, 24 × 16 pixels, and at half of it.
fn write_capture(root: &Path) {
    let camera = |i: u8| {
        let across = 0.2 * (f32::from(i) - 4.0);
        let eye = [4.0, across, 0.5 * across * across];
        Camera::look_at(eye, [0.0; 3], [0.0, 0.0, 1.0], 0.7, 24, 16)
    };
    let mut numbers: Vec<f64> = Vec::new();
    for i in 0..9 {
        let camera = camera(i);
        for (name, k) in [("images", 1), ("images_2", 2)] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            let image = sphere(&camera.downscaled(k));
            image
                .save_png(&root.join(format!("{name}/{i}.png")))
                .unwrap();
        }
        let last = [16.0, 24.0, f64::from(camera.focal[0])];
        for ([right, up, back, centre], last) in camera.world_from_camera.into_iter().zip(last) {
            numbers.extend([-up, right, back, centre, last]);
        }
        numbers.extend([2.8, 5.5]);
    }
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (9, 17), }\n";
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let mut file = [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes()].concat();
    file.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(root.join("poses_bounds.npy"), file).unwrap();
}

#[test]
fn a_capture_is_trained_and_rendered_at_the_requested_size() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_capture(&at("capture"));
    let output = succeeds(kiln(["inspect"]).arg(at("capture")));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("LLFF") && printed.contains("no problems"),
        "{printed}"
    );
    succeeds(train(&at("capture"), &at("run")).args(["--downscale", "2", "--steps", "8"]));
    assert_eq!(checkpoint(&at("run")).0["downscale"], "2");
    // The images at full size are not needed.
    std::fs::remove_dir_all(at("capture/images")).unwrap();
    succeeds(kiln(["eval", "--save-images"]).arg(at("run")));
    let image = at("run/images/test_001.png");
    assert_eq!(image_size(&image).unwrap(), [12, 8]);
    assert_eq!(json(&at("run/eval.json"))["images"][1]["name"], "8");
    succeeds(kiln(["eval", "--save-images", "--downscale", "4"]).arg(at("run")));
    assert_eq!(image_size(&image).unwrap(), [6, 4]);

    let render = |out: &str| {
        let mut command = kiln(["render", "--spiral", "4", "--out"]);
        command.arg(at(out)).arg(at("run"));
        command
    };
    succeeds(&mut render("spiral"));
    let frames = files_in(&at("spiral"));
    assert_eq!(frames.len(), 4);
    assert_eq!(image_size(&at("spiral/rgb_0003.png")).unwrap(), [12, 8]);
    // After the first of two turns, only the depth of the camera differs.
    assert_ne!(frames["rgb_0000.png"], frames["rgb_0001.png"]);
    for other in [
        ["--turntable", "4"],
        ["--split", "test"],
        ["--path", "a.json"],
    ] {
        let lines = error_of(render("no").args(other), 2);
        assert!(lines[0].contains("cannot be used with"), "{lines:?}");
    }
    // The cameras of the shared run surround the scene.
    let mut command = kiln(["render", "--spiral", "4", "--out"]);
    command.arg(at("no")).arg(&shared().run);
    refused(
        &mut command,
        2,
        &["--spiral 4", "look one way", "--turntable"],
    );
    assert!(!at("no").exists());
}

/// Test a forward-facing capture in normalised device coordinates and in world coordinates.
#[test]
fn a_capture_in_device_coordinates() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_capture(&at("capture"));
    for (name, more) in [
        ("ndc", "scene.forward_facing=ndc"),
        ("world", "scene.forward_facing=world"),
    ] {
        succeeds(
            kiln([
                "train",
                "--method=nerf-small",
                "--steps=6",
                "--downscale=2",
                "--out",
            ])
            .arg(at(name))
            .arg(at("capture"))
            .args(["--set=training.n_rays=32", "--set", more]),
        );
        let config = std::fs::read_to_string(at(name).join("config.toml")).unwrap();
        assert_eq!(config.contains("[scene.ndc]"), name == "ndc", "{config}");
        assert_eq!(config.contains("disparity"), name == "world", "{config}");
        succeeds(kiln(["eval"]).arg(at(name)));
        succeeds(
            kiln([
                "render",
                "--spiral",
                "2",
                "--channels",
                "rgb,depth,normal",
                "--out",
            ])
            .arg(at(name).join("spiral"))
            .arg(at(name)),
        );
        let mut cropped = kiln(["render", "--crop=-1,-1,-9,1,1,0", "--out"]);
        cropped.arg(at(name).join("cropped")).arg(at(name));
        if name == "ndc" {
            refused(&mut cropped, 2, &["--crop", "device coordinates"]);
        } else {
            succeeds(&mut cropped);
        }
        succeeds(kiln(["train", "--steps=8", "--resume"]).arg(at(name)));
    }
}
