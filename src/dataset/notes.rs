//! Assumptions, omissions and faults that are recorded while a dataset is read.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::find_image::{self, MatchRule};
use super::{MAX_FAULTS, OpenOptions};
use crate::text::shown;

/// A problem of a frame that can be worked around.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Rescaled,
    NearPlane,
    ScaledPose,
    OffCentre,
    FoldingLens,
    Extreme,
    Distorted,
    DepthUnit,
    FisheyeCrop,
    Bad,
    CompanionAbsent,
    CompanionMismatch,
    CompanionUnreadable,
    OtherCase,
    OtherEnding,
    SeveralEndings,
    Moved,
    Deeper,
    Orientation,
    Turned,
}

impl Note {
    pub(super) fn consequence(self) -> &'static str {
        match self {
            Self::Rescaled => "intrinsics are scaled to the stored size",
            Self::NearPlane => {
                "its rays start at the middle of the object: correct the near plane, or leave its line out"
            }
            Self::ScaledPose => "the rotation is normalised, the position kept",
            Self::OffCentre => "check it: it is in pixels of the declared size",
            Self::FoldingLens | Self::Distorted => "check the distortion coefficients",
            Self::Extreme => "check the focal length, which is in pixels of the declared size",
            Self::DepthUnit => {
                "depths are taken to be millimetres, as in nerfstudio: add `depth_unit_scale_factor`, the length of a unit in world units"
            }
            Self::FisheyeCrop => {
                "pixels outside the circle are used too: give masks that hide them"
            }
            Self::Bad => "blurred, according to the file: left out",
            Self::CompanionAbsent => "check the path, which is relative to the file that names it",
            Self::CompanionMismatch => "export it again at the image's size",
            Self::CompanionUnreadable => {
                "not used: export masks as PNG, and depths as 16-bit PNG, OpenEXR or .npy"
            }
            Self::OtherCase => {
                "names that differ only in upper and lower case, or in the encoding of accents, are taken to be the same: \
                 correct the names in the file or rename the files"
            }
            Self::OtherEnding => {
                "the file does not exist, and an image with another extension is used: correct the names in the file"
            }
            Self::SeveralEndings => {
                "several images have that name with different extensions: write the extension too"
            }
            Self::Moved => {
                "the folders in their paths do not exist, and images whose path has the same end are used: \
                 make the paths relative to the file that lists them"
            }
            Self::Deeper => {
                "images are read from a folder that their paths do not name: correct the paths"
            }
            Self::Orientation => {
                "the image is used as it is stored: give --apply-orientation if the poses belong to the image as viewers \
                 show it"
            }
            Self::Turned => "it is turned by its EXIF orientation",
        }
    }
}

/// State and findings while a dataset is read.
#[derive(Default)]
pub(super) struct Notes {
    /// Notes by kind: number of frames, and a description of the first.
    pub(super) counted: Vec<(Note, usize, String)>,
    /// Whether to skip frames that cannot be used instead of stopping.
    pub(super) go_on: bool,
    /// The reasons why frames were skipped.
    pub(super) faults: Vec<DatasetError>,
    /// See [`OpenOptions::apply_orientation`].
    pub(super) apply_orientation: bool,
    /// See [`OpenOptions::alpha_mask`].
    pub(super) alpha_mask: bool,
    /// Resolves the names of images.
    pub(super) finder: find_image::Finder,
    /// Width and height of the first image that was found, after its orientation is applied.
    pub(super) usual_size: Option<[u32; 2]>,
}

impl Notes {
    pub(super) fn of(opening: OpenOptions) -> Self {
        Self {
            apply_orientation: opening.apply_orientation,
            alpha_mask: opening.alpha_mask,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, note: Note, first: impl FnOnce() -> String) {
        match self.counted.iter_mut().find(|(known, ..)| *known == note) {
            Some((_, count, _)) => *count += 1,
            None => self.counted.push((note, 1, first())),
        }
    }

    /// Find the image `name` in `root`, and add a note if it was found under another name; `place` names the frame. The error
    /// is the message about it.
    pub(super) fn find_image(
        &mut self,
        root: &Path,
        name: &str,
        place: impl Fn() -> String,
    ) -> Result<Option<PathBuf>, String> {
        let Some(found) = self.finder.find(root, name).map_err(|fault| fault.0)? else {
            return Ok(None);
        };
        let note = match found.how {
            MatchRule::Exact => return Ok(Some(found.path)),
            MatchRule::FirstOfSeveral => Note::SeveralEndings,
            MatchRule::Case => Note::OtherCase,
            MatchRule::Extension => Note::OtherEnding,
            MatchRule::PathSuffix => Note::Moved,
            MatchRule::Subfolder => Note::Deeper,
        };
        self.add(note, || format!("{} is {}", place(), shown(&found.path)));
        Ok(Some(found.path))
    }

    pub(super) fn fault(&mut self, error: DatasetError) -> Result<(), DatasetError> {
        if self.go_on && self.faults.len() < MAX_FAULTS {
            self.faults.push(error);
            Ok(())
        } else {
            Err(error)
        }
    }
}
