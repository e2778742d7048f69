//! The format of Scene Representation Networks: one folder per object with `pose/*.txt`, `rgb/*` and `intrinsics.txt`.

use std::path::Path;

use super::error::DatasetError;
use super::number_files::{is_matrix, numbers, opencv_pose, text_files};
use super::pixel_format::images_in;
use super::posed_image::check_frames;
use super::{Dataset, Format, Frame, Note, Notes, orientation, pixel_format};
use crate::camera::{Camera, Lens};
use crate::text::{escaped, shown};

const INTRINSICS: &str = "intrinsics.txt";

/// A file that distinguishes NSVF folders from this format.
const BBOX: &str = "bbox.txt";

/// Content of `intrinsics.txt`: focal length and principal point in pixels of an image of `size`, and centre and scale of the
/// object's cube in world units.
///
/// The lines of the file are: focal length, cx, cy, 0; the centre; the near plane, which pixelNeRF's copies omit; the scale;
/// height and width; and optionally whether poses are world-to-camera.
struct Intrinsics {
    focal: f64,
    principal: [f64; 2],
    middle: [f64; 3],
    near: f64,
    scale: f64,
    size: [f64; 2],
    is_world_to_camera: bool,
}

/// Return whether `root` is a folder in this format. NSVF folders have a matrix of intrinsics and a bounding box instead.
pub(super) fn is(root: &Path) -> bool {
    let file = root.join(INTRINSICS);
    root.join("pose").is_dir()
        && root.join("rgb").is_dir()
        && file.exists()
        && !root.join(BBOX).exists()
        // `open` reports a file that cannot be read.
        && !numbers(&file).is_ok_and(|lines| is_matrix(&lines))
}

impl Intrinsics {
    fn read(root: &Path) -> Result<Self, DatasetError> {
        let path = root.join(INTRINSICS);
        let lines = numbers(&path)?;
        let lines: Vec<&[f64]> = lines.iter().map(Vec::as_slice).collect();
        let fault = |message: String| DatasetError::File {
            path: path.clone(),
            message,
        };
        let (near, rest) = match lines.as_slice() {
            [a, b, [near], rest @ ..] if rest.first().is_some_and(|line| line.len() == 1) => {
                (*near, [&[*a, *b][..], rest].concat())
            }
            all => (0.0, all.to_vec()),
        };
        let (first, middle, scale, size, last) = match rest.as_slice() {
            [
                [focal, cx, cy, ..],
                [x, y, z],
                [scale],
                [height, width],
                last @ ..,
            ] => (
                [*focal, *cx, *cy],
                [*x, *y, *z],
                *scale,
                [*width, *height],
                last,
            ),
            _ => {
                return Err(fault(
                    "expected four or five lines: focal length, cx, cy, 0; the object's middle; optionally the near plane; the \
                     object's scale; height and width"
                        .to_owned(),
                ));
            }
        };
        let [focal, cx, cy] = first;
        if focal <= 0.0 || scale <= 0.0 || size.iter().any(|side| *side < 1.0) || near < 0.0 {
            return Err(fault(format!(
                "focal length {focal}, scale {scale}, height {} and width {} should be positive, and the near plane {near} not \
                 negative: correct the file or copy it again",
                size[1], size[0]
            )));
        }
        let is_world_to_camera = match last {
            [] => false,
            [[flag]] if *flag == 0.0 || *flag == 1.0 => *flag == 1.0,
            _ => {
                return Err(fault(
                    "expected at most one line after height and width, with 1 if the poses are world-to-camera, else 0: \
                     remove the rest or copy the file again"
                        .to_owned(),
                ));
            }
        };
        Ok(Self {
            focal,
            principal: [cx, cy],
            middle,
            near,
            scale,
            size,
            is_world_to_camera,
        })
    }
}

/// Read the object in `root`.
pub(super) fn open(root: &Path, notes: &mut Notes) -> Result<Dataset, DatasetError> {
    let intrinsics = Intrinsics::read(root)?;
    let folder = root.join("pose");
    let poses = text_files(&folder)?;
    let images = images_in(&root.join("rgb"));
    let mut dataset = Dataset::new(root, Format::Srn);
    let mut frames = Vec::new();
    for path in &poses {
        let stem = path.file_stem().unwrap_or_default();
        let Some(image_path) = images.iter().find(|i| i.file_stem() == Some(stem)) else {
            dataset
                .missing
                .push(root.join("rgb").join(stem).with_extension("png"));
            continue;
        };
        match frame(path, image_path, &intrinsics, notes) {
            Ok(frame) => frames.push(frame),
            Err(error) => notes.fault(error)?,
        }
    }
    check_frames(
        &frames,
        &dataset.missing,
        &folder,
        "holds no poses: expected one text file per view",
        notes,
    )?;
    let scale = 1.0 / (1.2 * intrinsics.scale);
    dataset.scale = Some(scale);
    dataset.offset = Some(intrinsics.middle.map(|m| 0.5 - m * scale));
    dataset.hold_out(frames);
    dataset.finish(notes);
    Ok(dataset)
}

fn frame(
    pose_path: &Path,
    image_path: &Path,
    of: &Intrinsics,
    notes: &mut Notes,
) -> Result<Frame, DatasetError> {
    let world_from_camera = opencv_pose(pose_path, of.is_world_to_camera)?;
    let header = pixel_format::header(image_path)?;
    let orientation = notes.choose_orientation(&header, Some(of.size), || shown(image_path));
    let [width, height] = orientation::oriented_size(header.size, orientation);
    let ratio = [
        f64::from(width) / of.size[0],
        f64::from(height) / of.size[1],
    ];
    if ratio.iter().any(|r| (r - 1.0).abs() > 1e-9) {
        notes.add(Note::Rescaled, || {
            let [w, h] = of.size;
            let image = shown(image_path);
            format!("{image} is stored with {width} × {height} pixels, not the {w} × {h} of {INTRINSICS}")
        });
    }
    // The object lies in a cube of side `scale`: rays cover half of that in front of and behind its centre.
    let away: f64 = (0..3)
        .map(|a| (world_from_camera[a][3] - of.middle[a]).powi(2))
        .sum::<f64>()
        .sqrt();
    let half = 0.5 * of.scale;
    if of.near > away {
        notes.add(Note::NearPlane, || {
            format!(
                "{} is {away:.3} from the object's middle, and the near plane of {INTRINSICS} is {}",
                shown(image_path),
                of.near
            )
        });
    }
    let stem = image_path.file_stem().unwrap_or_default();
    Ok(Frame {
        name: escaped(&format!("rgb/{}", stem.to_string_lossy())),
        image_path: image_path.to_owned(),
        orientation,
        camera: Camera {
            world_from_camera,
            width,
            height,
            focal: ratio.map(|r| (of.focal * r) as f32),
            principal: [0, 1].map(|a| (of.principal[a] * ratio[a]) as f32),
            lens: Lens::Pinhole,
        },
        near_far: Some([
            (away - half).max(0.01 * away).max(of.near.min(away)) as f32,
            (away + half) as f32,
        ]),
        mask: None,
        depth: None,
    })
}
