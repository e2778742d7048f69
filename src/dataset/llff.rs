//! The LLFF format (Mildenhall et al. 2019): forward-facing captures with `poses_bounds.npy` and `images`, `images_4`…
//!
//! Each row of the array describes one image, in the order of the file names: a 3 × 5 matrix in row-major order, whose columns
//! are the camera's axes in world space (down, right, back), its centre, and (height, width, focal length) in pixels of the
//! full-size image; then the near and far bounds of the visible scene as depths along the optical axis.
//!
//! Poses are scaled so that the nearest bound is at 1 / 0.75, then rotated and translated so that the mean camera is at the
//! origin and looks along −z, as in the loader of the `NeRF` paper (Mildenhall et al. 2020).

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use super::error::DatasetError;
use super::framing::{self, is_forward_facing};
use super::image::image_size;
use super::image_folders;
use super::intrinsics::{MAX_SIDE, size_ratio};
use super::npy::Array;
use super::pixel_format::images_in;
use super::{Dataset, Format, Frame, Notes, Orientation, orientation, pixel_format, pose};
use crate::camera::{Camera, Lens};
use crate::text::{escaped, one_line, shown};

/// File that identifies this format.
pub(super) const FILE: &str = "poses_bounds.npy";
/// Numbers per image: a 3 × 5 matrix and two bounds.
const NUMBERS: usize = 17;
/// Unit of length after scaling, as a fraction of the nearest bound.
const UNIT: f64 = 0.75;
/// Start of a ray, as a fraction of its view's near bound, because a view also shows points slightly nearer than the bound.
const START: f64 = 0.75;
/// Maximum coordinate; its square is finite in f32.
const MAX_VALUE: f64 = 1e15;
/// Maximum side of a unit cube of the box, in units of length: at 12, the cells of the finest level (2048 per side) are 1/230
/// of the nearest bound wide.
const CUBE: f64 = 12.0;

/// Read the dataset whose `poses_bounds.npy` lies in `root`, for images at 1/`downscale` of the full size.
pub(super) fn open(
    root: &Path,
    downscale: u32,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    let file = root.join(FILE);
    let rows = rows(&file)?;
    let full = rows.iter().flatten().map(|row| row.size).next();
    let first_size = |folder: &Path| {
        images_in(folder)
            .first()
            .map(|first| image_size(first))
            .transpose()
    };
    let folders = image_folders::find_folders(root, full, first_size)?;
    let (folder, rest) =
        image_folders::choose(&folders, downscale).ok_or_else(|| DatasetError::File {
            path: file.clone(),
            message: "there is no folder images or images_N with images beside it: \
                  put them there"
                .to_owned(),
        })?;
    let images = images_in(&folder.path);
    if images.len() != rows.len() {
        return Err(DatasetError::File {
            path: file,
            message: format!(
                "holds {} poses, but {} holds {} images: remove the images without a pose, or add the missing ones",
                rows.len(),
                folder.name,
                images.len()
            ),
        });
    }
    let mut views = Vec::with_capacity(rows.len());
    for (index, (row, image)) in rows.into_iter().zip(&images).enumerate() {
        let view = row
            .map_err(Fault::Row)
            .and_then(|row| view(&row, image, &images, notes));
        match view {
            Ok(view) => views.push(view),
            Err(Fault::Image(error)) => notes.fault(error)?,
            Err(Fault::Row(message)) => {
                let name = image.file_name().unwrap_or_default().to_string_lossy();
                notes.fault(DatasetError::Frame {
                    path: file.clone(),
                    frame: format!("frame {index} ({}/{})", folder.name, one_line(&name)),
                    message,
                })?;
            }
        }
    }
    if views.is_empty()
        && let Some(fault) = notes.faults.pop()
    {
        return Err(fault);
    }
    let [near, far] = normalise(&mut views);
    let mut dataset = Dataset::new(root, Format::Llff);
    let frames: Vec<Frame> = views.iter().map(|view| view.frame(far)).collect();
    let cameras: Vec<Camera> = frames.iter().map(|f| f.camera).collect();
    let around = if is_forward_facing(&cameras) {
        None
    } else {
        framing::Framing::of(&cameras, None, true)
    };
    let around = around.map(framing::Framing::as_one_cube);
    let framing = around.map_or_else(|| framing(&views, far), Into::into);
    let numbers = frames.iter().flat_map(|frame| {
        let pose = frame.camera.world_from_camera.into_iter().flatten();
        pose.chain(frame.near_far.unwrap_or_default().map(f64::from))
    });
    let mut numbers = numbers.chain(framing.offset).chain([framing.scale]);
    if numbers.any(|v| !v.is_finite() || v.abs() > MAX_VALUE) || framing.scale <= 0.0 {
        return Err(DatasetError::File {
            path: file,
            message: format!(
                "its poses and bounds, with the nearest at {near:e}, differ too much in size: export them again"
            ),
        });
    }
    dataset.aabb_scale = Some(framing.aabb_scale);
    dataset.scale = Some(framing.scale);
    dataset.offset = Some(framing.offset);
    dataset.framing = around;
    dataset.hold_out(frames);
    folder.record(&mut dataset, downscale, rest);
    dataset.warn_without_test_view();
    dataset.finish(notes);
    Ok(dataset)
}

/// The file's data about one image.
struct Row {
    /// `[R | t]`, OpenGL camera-to-world.
    pose: [[f64; 4]; 3],
    /// Width and height of the image at full size.
    size: [f64; 2],
    /// Focal length in pixels of the full size.
    focal: f64,
    /// Near and far bounds as depths along the optical axis.
    bounds: [f64; 2],
}

/// Return the rows of the file, with an error message in place of each that cannot be used.
fn rows(file: &Path) -> Result<Vec<Result<Row, String>>, DatasetError> {
    let array = Array::read(file)?;
    match array.shape[..] {
        [images, NUMBERS] if images > 0 => {
            Ok(array.values.chunks_exact(NUMBERS).map(row).collect())
        }
        _ => Err(DatasetError::File {
            path: file.to_owned(),
            message: format!(
                "holds an array of shape {}, expected (images, {NUMBERS}): for each image a 3 × 5 matrix, near and far; \
                 export it again",
                array.shape_text()
            ),
        }),
    }
}

fn row(values: &[f64]) -> Result<Row, String> {
    if let Some(column) = values.iter().position(|v| !(*v as f32).is_finite()) {
        return Err(format!(
            "column {column} of its {NUMBERS} is {}, not a finite number: remove the image and its row, \
             or export the poses again",
            values[column]
        ));
    }
    let [near, far] = [values[15], values[16]];
    if near <= 0.0 || near >= far {
        return Err(format!(
            "its bounds are near {near} and far {far}, expected 0 < near < far: remove the image and its row, \
             or export the poses again"
        ));
    }
    let [height, width, focal] = [values[4], values[9], values[14]];
    let is_side = |side: f64| (1.0..=f64::from(MAX_SIDE)).contains(&side);
    if !is_side(width) || !is_side(height) || focal <= 0.0 {
        return Err(format!(
            "its image is {width} × {height} pixels with a focal length of {focal}: expected sides of 1 to {MAX_SIDE} \
             and a positive focal length as the matrix's last column (height, width, focal length)"
        ));
    }
    let mut pose = [0, 5, 10].map(|i| [values[i + 1], -values[i], values[i + 2], values[i + 3]]);
    pose::make_rigid(&mut pose).map_err(|cause| {
        format!("{cause}: expected a matrix whose columns are down, right, back, the centre and (height, width, focal length)")
    })?;
    Ok(Row {
        pose,
        size: [width, height],
        focal,
        bounds: [near, far],
    })
}

/// A posed image.
struct PosedImage {
    image: PathBuf,
    orientation: Orientation,
    /// The camera's axes (right, up, back) in world space.
    axes: DMat3,
    position: DVec3,
    /// Intrinsics.
    camera: Camera,
    bounds: [f64; 2],
}

/// Reason why an image cannot be used.
enum Fault {
    Row(String),
    Image(DatasetError),
}

/// Return the view of `row` at the size of `image`, which must equal that of the first of `images`.
fn view(
    row: &Row,
    image: &Path,
    images: &[PathBuf],
    notes: &mut Notes,
) -> Result<PosedImage, Fault> {
    let header = pixel_format::header(image).map_err(Fault::Image)?;
    let orientation = notes.choose_orientation(&header, Some(row.size), || shown(image));
    let size = orientation::oriented_size(header.size, orientation);
    if let Some(first) = images.first().filter(|first| *first != image)
        && let Ok(first_header) = pixel_format::header(first)
        && let first_orientation = notes.orientation_for(&first_header, Some(row.size))
        && let other = orientation::oriented_size(first_header.size, first_orientation)
        && other != size
    {
        return Err(Fault::Image(DatasetError::Image {
            path: image.to_owned(),
            message: format!(
                "has {} × {} pixels but {} has {} × {}: all images in a folder should have the same size",
                size[0],
                size[1],
                one_line(&first.file_name().unwrap_or_default().to_string_lossy()),
                other[0],
                other[1]
            ),
            others: 0,
        }));
    }
    let exchanged = format!(
        "width and height are exchanged in {FILE}, whose matrices end in a column of height, width and focal length, \
         or the image was rotated afterwards: correct one of them"
    );
    let ratio = size_ratio(size, row.size, "its row says", &exchanged).map_err(Fault::Row)?;
    let column = |i: usize| DVec3::from(row.pose.map(|values| values[i]));
    Ok(PosedImage {
        image: image.to_owned(),
        orientation,
        axes: DMat3::from_cols(column(0), column(1), column(2)),
        position: column(3),
        camera: Camera {
            world_from_camera: [[0.0; 4]; 3],
            width: size[0],
            height: size[1],
            focal: ratio.map(|ratio| (ratio * row.focal) as f32),
            principal: size.map(|side| side as f32 / 2.0),
            lens: Lens::Pinhole,
        },
        bounds: row.bounds,
    })
}

/// Transform the mean pose to the identity and the nearest bound to 1 / [`UNIT`]. Return the nearest bound before and the
/// farthest bound after scaling.
fn normalise(views: &mut [PosedImage]) -> [f64; 2] {
    let near = views.iter().map(|v| v.bounds[0]).fold(f64::MAX, f64::min);
    let far = views.iter().map(|v| v.bounds[1]).fold(0.0, f64::max);
    let scale = 1.0 / (near * UNIT);
    let middle = views.iter().map(|v| v.position).sum::<DVec3>() / views.len().max(1) as f64;
    let sum = |axis: fn(&PosedImage) -> DVec3| views.iter().map(axis).sum::<DVec3>();
    let back = sum(|v| v.axes.z_axis).normalize_or(DVec3::Z);
    let right = sum(|v| v.axes.y_axis).cross(back);
    let right = right
        .try_normalize()
        .unwrap_or(back.any_orthonormal_vector());
    let inverse = DMat3::from_cols(right, back.cross(right), back).transpose();
    for view in views {
        view.position = inverse * (view.position - middle) * scale;
        view.axes = inverse * view.axes;
        view.bounds = view.bounds.map(|bound| bound * scale);
    }
    [near, far * scale]
}

impl PosedImage {
    /// Return the frame. Its rays end at the depth `far`, the farthest bound of all views, because a view shows more than the
    /// points from which its own bound was computed.
    fn frame(&self, far: f64) -> Frame {
        let [x, y, z] = [self.axes.x_axis, self.axes.y_axis, self.axes.z_axis];
        let columns = [x, y, z, self.position];
        // Bounds are depths along the optical axis; rays to the corners are longer.
        let longest = self
            .corners()
            .map(DVec3::length)
            .into_iter()
            .fold(1.0, f64::max);
        Frame {
            name: escaped(&self.image.file_stem().unwrap_or_default().to_string_lossy()),
            image_path: self.image.clone(),
            orientation: self.orientation,
            camera: Camera {
                world_from_camera: std::array::from_fn(|i| columns.map(|column| column[i])),
                ..self.camera
            },
            near_far: Some([(START * self.bounds[0]) as f32, (longest * far) as f32]),
            mask: None,
            depth: None,
        }
    }

    /// Return the image's corners at depth 1, relative to the camera centre, in world axes.
    fn corners(&self) -> [DVec3; 4] {
        let Camera {
            width,
            height,
            focal,
            ..
        } = self.camera;
        let x = f64::from(width) / 2.0 / f64::from(focal[0]);
        let y = f64::from(height) / 2.0 / f64::from(focal[1]);
        [(x, y), (-x, y), (x, -y), (-x, -y)].map(|(x, y)| self.axes * DVec3::new(x, y, -1.0))
    }
}

/// A box in Instant-NGP's parameters.
struct CaptureScale {
    aabb_scale: u32,
    scale: f64,
    offset: [f64; 3],
}

impl From<framing::Framing> for CaptureScale {
    fn from(around: framing::Framing) -> Self {
        Self {
            aabb_scale: around.aabb_scale,
            scale: around.scale,
            offset: around.offset,
        }
    }
}

/// Return the box around the visible region of all views up to the depth `far`.
fn framing(views: &[PosedImage], far: f64) -> CaptureScale {
    let points = || {
        views.iter().flat_map(|view| {
            let depths = [START * view.bounds[0], far];
            depths
                .into_iter()
                .flat_map(|depth| view.corners().map(|corner| view.position + depth * corner))
        })
    };
    let low = points().reduce(DVec3::min).unwrap_or(DVec3::NEG_ONE);
    let high = points().reduce(DVec3::max).unwrap_or(DVec3::ONE);
    let side = (high - low).max_element();
    let mut center = (low + high) / 2.0;
    if high.z < 0.0 {
        // The box must not extend in front of the visible region: no ray would train that part to be empty.
        center.z = high.z - side / 2.0;
    }
    let cubes = (side / CUBE).clamp(1.0, 128.0);
    let aabb_scale = (cubes.ceil() as u32).next_power_of_two();
    let scale = f64::from(aabb_scale) / side;
    CaptureScale {
        aabb_scale,
        scale,
        offset: (DVec3::splat(0.5) - scale * center).to_array(),
    }
}
