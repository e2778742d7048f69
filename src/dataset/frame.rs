//! Posed images, and the splits of a dataset.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{DatasetError, DepthSource, MaskSource, Orientation};
use crate::camera::Camera;

/// A split of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Views to train on.
    Train,
    /// Views for evaluation during training.
    Val,
    /// Views to report metrics on.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

impl Split {
    /// Return the name of the file that lists the split in NeRF-synthetic datasets.
    pub(super) fn file_name(self) -> String {
        format!("transforms_{self}.json")
    }
}

impl FromStr for Split {
    type Err = DatasetError;

    fn from_str(value: &str) -> Result<Self, DatasetError> {
        match value {
            "train" => Ok(Self::Train),
            "val" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            _ => Err(DatasetError::UnknownSplit {
                value: value.to_owned(),
            }),
        }
    }
}

/// One posed image, not yet decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The image's path in the file, without a leading "./" and without extension: `train/r_0`.
    pub name: String,
    /// The image file, which existed when the dataset was opened.
    pub image_path: PathBuf,
    /// Rotation or flip to apply after decoding.
    pub orientation: Orientation,
    /// Pose, and intrinsics for the stored size after `orientation` is applied.
    pub camera: Camera,
    /// Start and end of rays in world units, if the file gives them.
    pub near_far: Option<[f32; 2]>,
    /// Where the image's mask is stored, if it has one.
    pub mask: Option<MaskSource>,
    /// What is known about the view's depth.
    pub depth: Option<DepthSource>,
}
