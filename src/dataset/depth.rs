//! Depths of views: from depth images, or from the sparse points that a view sees.

use std::io::Cursor;
use std::path::Path;

use image::DynamicImage;

use super::error::{DatasetError, damaged};
use super::image::decode;
use super::intrinsics::is_same_shape;
use super::npy::Array;
use super::orientation::oriented_size;
use super::pixel_format::extension;
use super::{DepthSource, Frame, Orientation, PointDepth};
use crate::camera::Lens;
use crate::files::read_file;

/// Maximum size of a file: 8,000 × 8,000 floats.
const MAX_BYTES: u64 = 512 << 20;
/// Advice on a damaged file.
const AGAIN: &str = "export the depths again, as 16-bit PNG, OpenEXR or .npy";

impl Frame {
    /// Read the known depths of the view: all of an image of depths, row by row, or those of the points that it sees.
    ///
    /// # Errors
    /// A [`DatasetError`] if the image of depths is absent, damaged, or has another shape than the view.
    pub fn read_depths(&self) -> Result<Vec<PointDepth>, DatasetError> {
        match &self.depth {
            None => Ok(Vec::new()),
            Some(DepthSource::Points(points)) => Ok(points.to_vec()),
            Some(DepthSource::File {
                path,
                unit,
                is_distance,
            }) => {
                let stored = read(path)?.oriented(self.orientation);
                self.depths_of(path, &stored, *unit, *is_distance)
            }
        }
    }

    fn depths_of(
        &self,
        path: &Path,
        stored: &Stored,
        unit: f64,
        is_distance: bool,
    ) -> Result<Vec<PointDepth>, DatasetError> {
        let camera = &self.camera;
        let size = [camera.width, camera.height].map(f64::from);
        let of = [stored.width as f64, stored.height as f64];
        let stored_size =
            [stored.width, stored.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        if !is_same_shape(stored_size, size) {
            return Err(damaged(
                path,
                format!(
                    "has {} × {} depths for an image of {} × {} pixels: export it again in the image's shape",
                    stored.width, stored.height, camera.width, camera.height
                ),
            ));
        }
        let mut depths = Vec::new();
        for (i, value) in stored.values.iter().enumerate() {
            let depth = f64::from(*value) * unit;
            if !(depth > 0.0 && depth.is_finite()) {
                continue;
            }
            let at = [i % stored.width, i / stored.width];
            let at = [0, 1].map(|axis| (at[axis] as f64 + 0.5) * size[axis] / of[axis]);
            // No axis is in front of the whole sphere.
            let along = if is_distance || camera.lens == Lens::Equirectangular {
                1.0
            } else {
                let q = [0, 1].map(|axis| {
                    (at[axis] - f64::from(camera.principal[axis])) / f64::from(camera.focal[axis])
                });
                let (direction, has_one) = camera.lens.direction(q);
                if !has_one {
                    continue;
                }
                direction.z / direction.length()
            };
            let distance = (depth / along) as f32;
            if distance > 0.0 && distance.is_finite() {
                depths.push(PointDepth {
                    at: at.map(|v| v as f32),
                    distance,
                    weight: 1.0,
                });
            }
        }
        Ok(depths)
    }
}

/// Depths as stored, row by row; zero, negative and infinite values, and NaN, are unknown.
struct Stored {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Stored {
    /// Return the depths as the image is shown, which is stored in the same way.
    fn oriented(self, orientation: Orientation) -> Self {
        let turns_sides = oriented_size([0, 1], orientation) == [1, 0];
        let (width, height) = if turns_sides {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        };
        let (right, low) = (self.width.saturating_sub(1), self.height.saturating_sub(1));
        let from = |x: usize, y: usize| match orientation {
            Orientation::NoTransforms => (x, y),
            Orientation::FlipHorizontal => (right - x, y),
            Orientation::Rotate180 => (right - x, low - y),
            Orientation::FlipVertical => (x, low - y),
            Orientation::Rotate90FlipH => (y, x),
            Orientation::Rotate90 => (y, low - x),
            Orientation::Rotate270FlipH => (right - y, low - x),
            Orientation::Rotate270 => (right - y, x),
        };
        let at = |x, y| {
            let (x, y) = from(x, y);
            self.values[y * self.width + x]
        };
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            values: rows.map(|(x, y)| at(x, y)).collect(),
        }
    }
}

/// Read an array or an image; of several channels, the first counts.
fn read(path: &Path) -> Result<Stored, DatasetError> {
    if extension(path) == "npy" {
        let array = Array::read(path)?;
        let (height, width) = match array.shape.as_slice() {
            [height, width] | [height, width, 1] | [1, height, width] => (*height, *width),
            _ => (0, 0),
        };
        if width == 0 || height == 0 {
            return Err(damaged(
                path,
                format!(
                    "has the shape {}: expected (height, width)",
                    array.shape_text()
                ),
            ));
        }
        let values = array.values.iter().map(|v| *v as f32).collect();
        return Ok(Stored {
            width,
            height,
            values,
        });
    }
    let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
    if extension(path) == "exr" {
        return read_exr(path, bytes);
    }
    let (decoded, _) = decode(path, bytes, Orientation::NoTransforms, AGAIN)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let values = match decoded {
        DynamicImage::ImageLuma8(image) => image.iter().map(|v| f32::from(*v)).collect(),
        DynamicImage::ImageLuma16(image) => image.iter().map(|v| f32::from(*v)).collect(),
        DynamicImage::ImageRgb16(image) => image.iter().step_by(3).map(|v| f32::from(*v)).collect(),
        _ => {
            return Err(damaged(
                path,
                "is an image of colours, not of depths: expected 16-bit grey PNG, OpenEXR or .npy",
            ));
        }
    };
    Ok(Stored {
        width,
        height,
        values,
    })
}

/// The names of the channel of depths in an `OpenEXR` file, in the order of their precedence; else the first channel counts.
const CHANNELS: [&str; 5] = ["Z", "depth", "Y", "V", "R"];

/// Read a channel of an `OpenEXR` file.
fn read_exr(path: &Path, bytes: Vec<u8>) -> Result<Stored, DatasetError> {
    use exr::prelude::{ReadChannels as _, ReadLayers as _};
    let image = exr::prelude::read()
        .no_deep_data()
        .largest_resolution_level()
        .all_channels()
        .first_valid_layer()
        .all_attributes()
        .from_buffered(Cursor::new(bytes))
        .map_err(|e| damaged(path, format!("cannot be decoded ({e}): {AGAIN}")))?;
    let layer = &image.layer_data;
    let channels = &layer.channel_data.list;
    let of_name = |name: &&str| channels.iter().find(|channel| channel.name.eq(name));
    let Some(channel) = CHANNELS.iter().find_map(of_name).or(channels.first()) else {
        return Err(damaged(path, "has no channels: export the depths again"));
    };
    Ok(Stored {
        width: layer.size.width(),
        height: layer.size.height(),
        values: channel.sample_data.values_as_f32().collect(),
    })
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, Rgb32FImage};
    use serde_json::json;

    use super::*;
    use crate::dataset::Dataset;
    use crate::dataset::npy::tests::file;
    use crate::dataset::tests::{Scene, refused};

    /// A scene of one view, whose image has 8 × 6 pixels, and its frame with these keys.
    fn open(
        write: impl Fn(&Path),
        name: &str,
        more: &[(&str, serde_json::Value)],
    ) -> Result<Vec<PointDepth>, DatasetError> {
        let mut scene = Scene::new(1);
        write(&scene.path(name));
        let mut keys = vec![("depth_file_path", json!(name))];
        keys.extend(more.iter().cloned());
        scene.open_with(Some(0), &keys)?.train[0].read_depths()
    }

    #[test]
    fn depths_are_along_rays_in_world_units() {
        // Millimetres at half the image's size; 0 is unknown.
        let png = |path: &Path| {
            let value = |x: u32, y: u32| Luma([if x == 0 { 0 } else { 1000 + 10 * y as u16 }]);
            ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(4, 3, value)
                .save(path)
                .unwrap();
        };
        let depths = open(png, "a.png", &[]).unwrap();
        assert_eq!(depths.len(), 9);
        assert_eq!(depths[0].at, [3.0, 1.0]);
        let focal = 4.0 / 0.4_f32.tan();
        let [x, y] = [-1.0 / focal, -2.0 / focal];
        let expected = (1.0 + x * x + y * y).sqrt();
        assert!(
            (depths[0].distance - expected).abs() < 1e-5,
            "{:?}",
            depths[0]
        );
        let metres = [
            ("depth_unit_scale_factor", json!(0.01)),
            ("is_euclidean_depth", json!(true)),
        ];
        let depths = open(png, "a.png", &metres).unwrap();
        assert!((depths[3].distance - 10.1).abs() < 1e-5, "{:?}", depths[3]);
    }

    #[test]
    fn floats_are_read_from_arrays_and_open_exr() {
        let values: Vec<u8> = (0..48).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let npy = |path: &Path| {
            let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }";
            std::fs::write(path, file(header, &values)).unwrap();
        };
        let exact = [
            ("depth_unit_scale_factor", json!(2)),
            ("is_euclidean_depth", json!(true)),
        ];
        let depths = open(npy, "a.npy", &exact).unwrap();
        assert_eq!(
            (depths.len(), depths[0].distance, depths[0].at),
            (47, 2.0, [1.5, 0.5])
        );
        let exr = |path: &Path| {
            let value =
                |x: u32, y: u32| image::Rgb([if x == y { f32::INFINITY } else { 3.0 }, 0.0, 0.0]);
            Rgb32FImage::from_fn(8, 6, value).save(path).unwrap();
        };
        let depths = open(exr, "a.exr", &exact).unwrap();
        assert_eq!((depths.len(), depths[0].distance), (42, 6.0));
    }

    #[test]
    fn spheres_have_no_axis() {
        let values: Vec<u8> = (0..48).flat_map(|_| 2.0_f32.to_le_bytes()).collect();
        let npy = |path: &Path| {
            let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }";
            std::fs::write(path, file(header, &values)).unwrap();
        };
        let keys = [
            ("depth_unit_scale_factor", json!(1)),
            ("camera_model", json!("EQUIRECTANGULAR")),
        ];
        let depths = open(npy, "a.npy", &keys).unwrap();
        assert_eq!(depths.len(), 48);
        assert!(depths.iter().all(|depth| depth.distance == 2.0));
    }

    #[test]
    fn depths_are_turned_as_images_are() {
        let pixel = |x: u32, y: u32| Luma([(10 * y + x) as u16]);
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let image = ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(3, 2, pixel);
            let values = image.iter().map(|v| f32::from(*v)).collect();
            let stored = Stored {
                width: 3,
                height: 2,
                values,
            };
            let mut expected = DynamicImage::ImageLuma16(image);
            expected.apply_orientation(orientation);
            let found = stored.oriented(orientation);
            assert_eq!(
                [found.width, found.height],
                [expected.width() as usize, expected.height() as usize]
            );
            let expected: Vec<f32> = expected.to_luma16().iter().map(|v| f32::from(*v)).collect();
            assert_eq!(found.values, expected, "{orientation:?}");
        }
    }

    #[test]
    fn other_images_are_refused() {
        let square = |path: &Path| {
            ImageBuffer::<Luma<u16>, Vec<u16>>::new(4, 4)
                .save(path)
                .unwrap();
        };
        // A header that does not fit is told when the dataset is opened.
        assert_eq!(open(square, "a.png", &[]).unwrap(), []);
        let array = |path: &Path| {
            let header = "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2), }";
            std::fs::write(path, file(header, &[1; 8])).unwrap();
        };
        refused(open(array, "a.npy", &[]), &["a.npy", "2 × 2", "8 × 6"]);
        let colours = |path: &Path| image::RgbImage::new(8, 6).save(path).unwrap();
        refused(open(colours, "a.png", &[]), &["a.png", "colours"]);
        let text = |path: &Path| std::fs::write(path, "depth").unwrap();
        refused(open(text, "a.npy", &[]), &["a.npy"]);
        let mut scene = Scene::new(1);
        let dataset: Dataset = scene
            .open_with(Some(0), &[("depth_file_path", json!("none.png"))])
            .unwrap();
        assert!(dataset.train[0].depth.is_none());
        assert!(
            dataset.warnings[1].contains("depth_file_path"),
            "{:?}",
            dataset.warnings
        );
    }
}
