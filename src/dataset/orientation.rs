//! EXIF orientation: whether an image is used as stored or rotated as image viewers show it.
//!
//! Cameras that are held upright store images in landscape format, with an EXIF tag for the rotation. Poses may refer to
//! either version: COLMAP and most loaders ignore the tag, image editors and phones rotate the pixels. Images are therefore
//! used as stored, unless their declared size fits only the rotated image or the user requests the orientation.

use image::metadata::Orientation;

use super::intrinsics::is_same_shape;
use super::pixel_format::Header;
use super::{Note, Notes};

/// Return whether `orientation` swaps width and height.
fn exchanges_sides(orientation: Orientation) -> bool {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => true,
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => false,
    }
}

/// Return the width and height of an image of this size after `orientation` is applied.
pub(super) fn oriented_size([width, height]: [u32; 2], orientation: Orientation) -> [u32; 2] {
    if exchanges_sides(orientation) {
        [height, width]
    } else {
        [width, height]
    }
}

/// Return advice for an image whose width and height are swapped relative to its camera.
pub(super) fn advice(header: &Header, applied: Orientation) -> &'static str {
    if applied != Orientation::NoTransforms {
        "its EXIF orientation is applied: leave out --apply-orientation"
    } else if header.orientation != Orientation::NoTransforms {
        "its EXIF orientation does not exchange them: rotate the image, or exchange width and height in the file"
    } else {
        "rotate the image, or exchange width and height in the file"
    }
}

impl Notes {
    /// Return the orientation to apply to the image with `header` and the `declared` size. Add a note with the location `place`
    /// unless the choice is obvious.
    pub(super) fn choose_orientation(
        &mut self,
        header: &Header,
        declared: Option<[f64; 2]>,
        place: impl Fn() -> String,
    ) -> Orientation {
        let chosen = self.orientation_for(header, declared);
        let number = header.orientation.to_exif();
        if header.orientation == Orientation::NoTransforms || self.apply_orientation {
            return chosen;
        }
        if chosen == Orientation::NoTransforms {
            self.add(Note::Orientation, || {
                format!("{} has EXIF orientation {number}", place())
            });
        } else {
            self.add(Note::Turned, || {
                format!(
                    "{} has EXIF orientation {number}, and only the turned image has its declared width and height",
                    place()
                )
            });
        }
        chosen
    }

    /// Return the same orientation as [`Self::choose_orientation`], without adding a note.
    pub(super) fn orientation_for(
        &self,
        header: &Header,
        declared: Option<[f64; 2]>,
    ) -> Orientation {
        let orientation = header.orientation;
        let fits = |size| declared.is_some_and(|declared| is_same_shape(size, declared));
        if self.apply_orientation
            || fits(oriented_size(header.size, orientation)) && !fits(header.size)
        {
            orientation
        } else {
            Orientation::NoTransforms
        }
    }
}

#[cfg(test)]
mod tests {
    use image::ImageEncoder as _;
    use image::codecs::jpeg::JpegEncoder;
    use serde_json::json;

    use crate::dataset::tests::{Scene, refused};
    use crate::dataset::{Dataset, OpenOptions, load_images};

    /// Return a TIFF header with a single entry, the orientation.
    pub(crate) fn exif(orientation: u8) -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        exif
    }

    /// Return a JPEG of 16 × 8 pixels, red on the left and blue on the right.
    fn jpeg(orientation: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        let pixels: Vec<u8> = (0..16 * 8)
            .flat_map(|i| if i % 16 < 8 { [255, 0, 0] } else { [0, 0, 255] })
            .collect();
        encoder
            .write_image(&pixels, 16, 8, image::ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    fn scene(orientation: u8) -> Scene {
        let scene = Scene::new(3);
        for i in 0..3 {
            let bytes = jpeg(orientation);
            std::fs::write(scene.path(&format!("images/{i:04}.png")), bytes).unwrap();
        }
        scene
    }

    #[test]
    fn an_orientation_is_told_once_and_applied_when_asked_for() {
        let scene = scene(6);
        let dataset = scene.open().unwrap();
        let camera = dataset.train[0].camera;
        assert_eq!([camera.width, camera.height], [16, 8]);
        let warnings = &dataset.warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for word in ["EXIF orientation 6", "--apply-orientation", "3 frames"] {
            assert!(warnings[0].contains(word), "{warnings:?}");
        }
        let opening = OpenOptions {
            apply_orientation: true,
            ..OpenOptions::default()
        };
        let dataset = Dataset::open_with(&scene.path("transforms.json"), opening).unwrap();
        let camera = dataset.train[0].camera;
        assert_eq!([camera.width, camera.height], [8, 16]);
        assert_eq!(camera.principal, [4.0, 8.0]);
        assert!(dataset.warnings.is_empty(), "{:?}", dataset.warnings);
        // Orientation 6 shows the stored left side at the top.
        let image = &load_images(&dataset.train, 1, &|| ()).unwrap()[0];
        assert_eq!([image.width, image.height], [8, 16]);
        assert!(image.pixels[0] > 200 && image.pixels[2] < 60);
        assert!(image.pixels[4 * 8 * 15] < 60 && image.pixels[4 * 8 * 15 + 2] > 200);
        assert_eq!(dataset.train[0].load().unwrap(), *image);
    }

    #[test]
    fn a_size_that_fits_only_the_turned_image_turns_it() {
        let mut scene = scene(8);
        let size = |w, h| [("w", json!(w)), ("h", json!(h))];
        let dataset = scene.open_with(None, &size(16, 32)).unwrap();
        let camera = dataset.train[0].camera;
        assert_eq!([camera.width, camera.height], [8, 16]);
        assert!(
            dataset.warnings[0].contains("turned") && dataset.warnings[0].contains("3 frames"),
            "{:?}",
            dataset.warnings
        );
        // If the declared size fits the stored image, the image is used as stored, and the flag is an error.
        let keys = size(16, 8);
        assert_eq!(
            scene.open_with(None, &keys).unwrap().train[0].camera.width,
            16
        );
        for (key, value) in keys {
            scene.json[key] = value;
        }
        scene.open().unwrap();
        let opening = OpenOptions {
            apply_orientation: true,
            ..OpenOptions::default()
        };
        let opened = Dataset::open_with(&scene.path("transforms.json"), opening);
        refused(
            opened,
            &["frame 0", "8 × 16", "leave out --apply-orientation"],
        );
    }

    #[test]
    fn an_upright_image_says_nothing() {
        let scene = scene(1);
        assert!(scene.open().unwrap().warnings.is_empty());
    }
}
