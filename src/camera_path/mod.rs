//! Timed cameras: paths from files, orbits around the focus of a dataset's cameras, spirals in front of it.
//!
//! `docs/camera-path.md` describes the files: key frames that are interpolated smoothly, the dense paths that
//! nerfstudio's viewer exports, Instant-NGP's key frames, and the poses of a `transforms.json`. World units are the
//! dataset's; times are in seconds.

mod draft;
mod error;
mod instant_ngp;
mod json;
mod key_frame_file;
mod key_frames;
mod nerfstudio;
mod orbit;
mod pose;
mod spiral;
mod spline;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use draft::{Draft, KeyFrame};
pub use error::CameraPathError;
pub use nerfstudio::FrameTransform;
pub use orbit::orbit;
pub use spiral::spiral;

use crate::aabb::Aabb;
use crate::camera::{Camera, Lens};
use crate::dataset::parse_poses;
use crate::files::read_file;
use crate::json_text::{JsonFault, kind, parse};
use json::{Fields, Location};
use key_frames::KeyFrames;
use pose::Pose;

/// Maximum number of frames of a path, and of key frames.
pub const MAX_FRAMES: usize = 100_000;
/// Largest side of an image in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Maximum frames per second.
pub const MAX_FPS: f64 = 1000.0;
/// Default frames per second.
const DEFAULT_FPS: f64 = 24.0;
/// Maximum size of a file in bytes.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// A camera of an animation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedCamera {
    /// Seconds from the first frame.
    pub time: f64,
    /// The camera at that time.
    pub camera: Camera,
}

/// Camera model of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    Perspective,
    Orthographic,
    Equirectangular,
    /// Equidistant fisheye, as in nerfstudio.
    Fisheye,
}

/// The pose and the field of view of a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CameraState {
    pose: Pose,
    /// Extent of the image's height in world units: at distance 1 for a perspective camera, at any distance
    /// for an orthographic one.
    extent: f64,
}

/// A camera path, as described by a file.
#[derive(Clone, Debug)]
pub struct CameraPath {
    file: PathBuf,
    size: [u32; 2],
    fps: f64,
    crop: Option<Aabb>,
    model: Model,
    views: Views,
}

#[derive(Clone, Debug)]
enum Views {
    /// Key frames to interpolate, in the world.
    KeyFrames(Box<KeyFrames>),
    /// Key frames to interpolate, in Instant-NGP's unit cube.
    UnitCube(Box<KeyFrames>),
    /// One view per frame, in nerfstudio's normalised frame before [`CameraPath::to_world`].
    Dense(Vec<CameraState>),
    /// One camera per frame, in the world, each with its own intrinsics.
    Poses(Vec<Camera>),
}

impl CameraPath {
    /// Read a path: a file of key frames, of nerfstudio or of Instant-NGP, or a `transforms.json`.
    ///
    /// # Errors
    /// [`CameraPathError`] names the file, the key frame and the key.
    pub fn read(file: &Path) -> Result<Self, CameraPathError> {
        Self::parse(file, &read_text(file)?)
    }

    /// Parse the content `text` of `file`; see [`Self::read`].
    pub fn parse(file: &Path, text: &[u8]) -> Result<Self, CameraPathError> {
        let root = parse_json(file, text)?;
        let whole = Fields::of(file, Location::File, &root)?;
        if whole.has("key_frames") {
            let (model, draft) = key_frame_file::parse(&whole)?;
            let path = draft
                .path(file)
                .ok_or_else(|| whole.error("`key_frames` is empty"))?;
            return Ok(Self { model, ..path });
        }
        if whole.has("camera_path") {
            return nerfstudio::parse(&whole);
        }
        if whole.has("path") {
            return instant_ngp::parse(&whole);
        }
        if whole.has("frames") {
            return Self::of_poses(file, text, &whole);
        }
        Err(whole.error(
            "none of `key_frames`, nerfstudio's `camera_path`, Instant-NGP's `path` and the `frames` of a transforms.json \
             exists: see docs/camera-path.md for the formats",
        ))
    }

    /// Return the path along the poses of a `transforms.json`.
    fn of_poses(file: &Path, text: &[u8], whole: &Fields) -> Result<Self, CameraPathError> {
        let poses = parse_poses(file, text).map_err(CameraPathError::Poses)?;
        let cameras: Vec<Camera> = poses.iter().map(|pose| pose.camera).collect();
        let size = cameras.first().map_or([1; 2], |c| [c.width, c.height]);
        Ok(Self {
            file: file.to_owned(),
            size,
            fps: fps(whole)?,
            crop: None,
            model: Model::Perspective,
            views: Views::Poses(cameras),
        })
    }

    /// Width and height in pixels: the file's, else the default.
    #[must_use]
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Frames per second: the file's, else the default.
    #[must_use]
    pub fn fps(&self) -> f64 {
        self.fps
    }

    /// The visible part of the scene, if the file gives it.
    #[must_use]
    pub fn crop(&self) -> Option<Aabb> {
        self.crop
    }

    /// Return the camera `time` seconds after the first key frame, for an image of `size`.
    #[must_use]
    pub fn at(&self, time: f64, size: [u32; 2]) -> Camera {
        let view = match &self.views {
            Views::KeyFrames(keys) | Views::UnitCube(keys) => keys.at(time),
            Views::Dense(views) => views[self.frame_at(time, views.len())],
            Views::Poses(cameras) => {
                return in_size(&cameras[self.frame_at(time, cameras.len())], size);
            }
        };
        self.model.camera(&view, size)
    }

    /// Return the index of the frame that is shown at a time.
    fn frame_at(&self, time: f64, frames: usize) -> usize {
        ((time * self.fps).max(0.0) as usize).min(frames - 1)
    }

    /// Whether the cameras are in Instant-NGP's unit cube rather than in the dataset's world.
    #[must_use]
    pub fn is_in_unit_cube(&self) -> bool {
        matches!(self.views, Views::UnitCube(_))
    }

    /// Transform cameras in Instant-NGP's unit cube to the world; `scale` and `offset` map the world to the cube. Other
    /// cameras, which are in the world already, are unchanged.
    pub fn place_unit_cube(&mut self, scale: f64, offset: [f64; 3]) {
        if let Views::UnitCube(keys) = &self.views {
            let placed = keys.mapped(|pose| instant_ngp::to_world(pose, scale, offset.into()));
            self.views = Views::KeyFrames(Box::new(placed));
        }
    }

    /// Whether the cameras are in nerfstudio's normalised frame rather than in the dataset's world.
    #[must_use]
    pub fn is_normalised(&self) -> bool {
        matches!(self.views, Views::Dense(_))
    }

    /// Transform cameras in nerfstudio's normalised frame to the dataset's world. Other cameras are unchanged.
    pub fn to_world(&mut self, transform: &FrameTransform) {
        if let Views::Dense(views) = &mut self.views {
            for view in views {
                view.pose = transform.to_world(view.pose);
            }
        }
    }

    /// Return the cameras of the path at `fps` frames per second, with images of `size`. The vertical field of view is
    /// independent of the aspect ratio.
    ///
    /// Frames of nerfstudio and of a `transforms.json` are not resampled; `fps` only sets their times.
    ///
    /// # Errors
    /// [`CameraPathError::File`] for more than [`MAX_FRAMES`] frames, or if `fps` is not in (0, [`MAX_FPS`]].
    pub fn cameras(&self, size: [u32; 2], fps: f64) -> Result<Vec<TimedCamera>, CameraPathError> {
        let refuse = |message| CameraPathError::File {
            path: self.file.clone(),
            message,
        };
        if !(fps > 0.0 && fps <= MAX_FPS) {
            return Err(refuse(format!("{fps} frames per second: {FPS_RANGE}")));
        }
        let frame = |i: usize, view: &CameraState| TimedCamera {
            time: i as f64 / fps,
            camera: self.model.camera(view, size),
        };
        match &self.views {
            Views::Dense(views) => Ok(views.iter().enumerate().map(|(i, v)| frame(i, v)).collect()),
            Views::Poses(cameras) => {
                let frame = |(i, camera): (usize, &Camera)| TimedCamera {
                    time: i as f64 / fps,
                    camera: in_size(camera, size),
                };
                Ok(cameras.iter().enumerate().map(frame).collect())
            }
            Views::KeyFrames(keys) | Views::UnitCube(keys) => {
                let n = keys.frames(fps);
                if n > MAX_FRAMES as f64 {
                    return Err(refuse(format!(
                        "{n:.0} frames at {fps} frames per second, but the maximum is {MAX_FRAMES}: lower the rate"
                    )));
                }
                let at = |i: usize| frame(i, &keys.at(i as f64 / fps));
                Ok((0..n as usize).map(at).collect())
            }
        }
    }
}

/// Return `camera` for images of another size: the vertical field of view stays, the horizontal one follows the aspect ratio.
fn in_size(camera: &Camera, [width, height]: [u32; 2]) -> Camera {
    let ratio = f64::from(height) / f64::from(camera.height.max(1));
    let shape = (f64::from(camera.width) * ratio).round();
    if shape == f64::from(width) {
        return camera.resized(width, height);
    }
    let mut resized = camera.resized(shape.max(1.0) as u32, height);
    resized.principal[0] += (width as f32 - resized.width as f32) / 2.0;
    resized.width = width;
    resized
}

/// The allowed frame rates, for messages.
const FPS_RANGE: &str = "give a number above 0, at most 1000";

impl Model {
    fn camera(self, view: &CameraState, [width, height]: [u32; 2]) -> Camera {
        use std::f64::consts::{PI, TAU};
        let (w, h) = (f64::from(width), f64::from(height));
        let focal = match self {
            Self::Equirectangular => [w / TAU, h / PI],
            Self::Perspective | Self::Orthographic | Self::Fisheye => [h / view.extent; 2],
        };
        Camera {
            world_from_camera: view.pose.rows(),
            width,
            height,
            focal: focal.map(|f| f as f32),
            principal: [width as f32 / 2.0, height as f32 / 2.0],
            lens: match self {
                Self::Perspective => Lens::Pinhole,
                Self::Orthographic => Lens::Orthographic,
                Self::Equirectangular => Lens::Equirectangular,
                Self::Fisheye => Lens::OpenCvFisheye {
                    k1: 0.0,
                    k2: 0.0,
                    k3: 0.0,
                    k4: 0.0,
                },
            },
        }
    }
}

/// Read a file of at most [`MAX_BYTES`].
fn read_text(file: &Path) -> Result<Vec<u8>, CameraPathError> {
    read_file(file, MAX_BYTES).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => CameraPathError::File {
            path: file.to_owned(),
            message: format!(
                "larger than {} MiB: is this a camera path?",
                MAX_BYTES >> 20
            ),
        },
        _ => CameraPathError::Read {
            path: file.to_owned(),
            source,
        },
    })
}

fn parse_json(file: &Path, text: &[u8]) -> Result<Value, CameraPathError> {
    parse(text).map_err(|fault| match fault {
        JsonFault::Whole(message) => CameraPathError::File {
            path: file.to_owned(),
            message,
        },
        JsonFault::At {
            line,
            column,
            message,
        } => CameraPathError::Json {
            path: file.to_owned(),
            line,
            column,
            message,
        },
    })
}

/// Parse the size of the images in whole pixels.
fn size(whole: &Fields, keys: [&str; 2]) -> Result<[u32; 2], CameraPathError> {
    let side = |key: &str| {
        let side = whole.required(key, "pixels")?;
        if side.fract() != 0.0 || !(1.0..=f64::from(MAX_SIDE)).contains(&side) {
            return Err(whole.error(format!(
                "`{key}` is {side}: give a whole number of pixels from 1 to {MAX_SIDE}"
            )));
        }
        Ok(side as u32)
    };
    Ok([side(keys[0])?, side(keys[1])?])
}

/// Parse the frames per second.
fn fps(whole: &Fields) -> Result<f64, CameraPathError> {
    let fps = whole.number("fps")?.unwrap_or(DEFAULT_FPS);
    if fps > 0.0 && fps <= MAX_FPS {
        Ok(fps)
    } else {
        Err(whole.error(format!("`fps` is {fps}: {FPS_RANGE}")))
    }
}

/// Return the extent of an image's height at distance 1 for a vertical field of view in degrees.
fn extent_of_angle(fields: &Fields, degrees: f64) -> Result<f64, CameraPathError> {
    // Narrower and wider angles suffer from rounding errors.
    if (1e-3..=179.9).contains(&degrees) {
        Ok(2.0 * (degrees.to_radians() / 2.0).tan())
    } else {
        Err(fields.error(format!(
            "`fov` is {degrees}: give the vertical field of view in degrees, from 0.001 to 179.9"
        )))
    }
}

/// Return the list under `key`, which must have 1 to [`MAX_FRAMES`] entries.
fn list<'a>(whole: &Fields<'a>, key: &str, what: &str) -> Result<&'a [Value], CameraPathError> {
    match whole.get(key) {
        Some(Value::Array(list)) if list.is_empty() => {
            Err(whole.error(format!("`{key}` is empty: give at least one {what}")))
        }
        Some(Value::Array(list)) if list.len() > MAX_FRAMES => Err(whole.error(format!(
            "`{key}` holds {} entries, but the maximum is {MAX_FRAMES}: remove some",
            list.len()
        ))),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(whole.error(format!("`{key}` should be a list, found {}", kind(other)))),
        None => Err(whole.error(format!("`{key}` is missing"))),
    }
}
