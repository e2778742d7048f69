//! Masks: what they hide has no influence on training and metrics.

use std::path::Path;

use image::{GrayImage, Luma, Rgba, RgbaImage};
use tempfile::TempDir;

use crate::support::{
    assert_same_tensors, has_adapter, json_lines, kiln, own_dataset, succeeds, text, train,
};

/// Whether the pixel is in the part of the image that is hidden.
fn is_hidden(x: u32, y: u32) -> bool {
    (4..14).contains(&x) && (6..20).contains(&y)
}

/// Paint over what is hidden in every image of the dataset at `root`.
fn spoil(root: &Path, color: [u8; 4]) {
    for split in ["train", "test"] {
        for entry in std::fs::read_dir(root.join(split)).unwrap() {
            let path = entry.unwrap().path();
            let mut image: RgbaImage = image::open(&path).unwrap().into_rgba8();
            let pixels = image.enumerate_pixels_mut();
            let hidden = pixels.filter(|(x, y, _)| is_hidden(*x, *y));
            hidden.for_each(|(_, _, pixel)| *pixel = Rgba(color));
            image.save(&path).unwrap();
        }
    }
}

/// Write a mask for every image of the dataset at `root`, black where it hides.
fn write_masks(root: &Path) {
    for split in ["train", "test"] {
        std::fs::create_dir_all(root.join("masks").join(split)).unwrap();
        for entry in std::fs::read_dir(root.join(split)).unwrap() {
            let path = entry.unwrap().path();
            let (width, height) = image::image_dimensions(&path).unwrap();
            let value = |x, y| Luma([if is_hidden(x, y) { 0 } else { 255 }]);
            let name = path.file_name().unwrap();
            let mask = GrayImage::from_fn(width, height, value);
            mask.save(root.join("masks").join(split).join(name))
                .unwrap();
        }
    }
}

#[test]
fn hidden_pixels_have_no_influence() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = |name: &str| folder.path().join(name);
    let mut figures = Vec::new();
    for (name, color) in [("red", [255, 0, 0, 255]), ("clear", [0, 0, 0, 0])] {
        let dataset = own_dataset();
        spoil(dataset.path(), color);
        write_masks(dataset.path());
        let mut command = train(dataset.path(), &run(name));
        // The background would otherwise follow the images.
        command.args(["--background", "white", "--steps", "24", "--json"]);
        let printed = json_lines(&text(&succeeds(&mut command).stdout));
        let report = printed.last().unwrap();
        let share = report["hidden_share"].as_f64().unwrap();
        assert!((0.1..0.4).contains(&share), "{report}");
        figures.push((report["psnr"].clone(), report["ssim"].clone()));
    }
    assert_same_tensors(&run("red"), &run("clear"));
    assert_eq!(figures[0], figures[1]);
}

#[test]
fn alpha_is_a_mask_on_request() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let dataset = own_dataset();
    spoil(dataset.path(), [0, 0, 0, 0]);
    let run = folder.path().join("run");
    let mut command = train(dataset.path(), &run);
    let output = succeeds(command.args(["--alpha-mask", "--background", "white", "--steps", "8"]));
    let told = text(&output.stderr);
    assert!(told.contains("9 with masks"), "{told}");
    let printed = text(&output.stdout);
    assert!(printed.contains("that masks hide"), "{printed}");
    // The checkpoint knows.
    let output = succeeds(kiln(["eval"]).arg(&run));
    assert!(text(&output.stderr).contains("9 with masks"));
    // Without the flag, alpha is transparency.
    let told = text(&succeeds(kiln(["inspect"]).arg(dataset.path())).stdout);
    assert!(
        told.contains("with alpha") && !told.contains("masks"),
        "{told}"
    );
}
