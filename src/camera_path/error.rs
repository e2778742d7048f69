//! Errors of camera paths, one line each: location, cause and remedy.

use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::text::shown;

/// A camera path that cannot be used. Every message is a single line.
#[derive(Debug, thiserror::Error)]
pub enum CameraPathError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", shown(.path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", shown(.path))]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Text that is not JSON.
    #[error(
        "{}: line {line}, column {column}: not valid JSON: {message}: correct the file or export it again",
        shown(.path)
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// The parser's reason.
        message: String,
    },
    /// Valid JSON that does not describe a path.
    #[error("{}: {message}", shown(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// Cause and remedy.
        message: String,
    },
    /// A key frame that cannot be used.
    #[error("{}: key frame {index}: {message}", shown(.path))]
    KeyFrame {
        /// The file.
        path: PathBuf,
        /// Its index in `key_frames`, from 0.
        index: usize,
        /// Cause and remedy.
        message: String,
    },
    /// A frame of another program's list that cannot be used.
    #[error("{}: frame {index} of `{list}`: {message}", shown(.path))]
    Frame {
        /// The file.
        path: PathBuf,
        /// The list's key.
        list: &'static str,
        /// Its index in the list, from 0.
        index: usize,
        /// Cause and remedy.
        message: String,
    },
    /// A `transforms.json` that cannot be used.
    #[error(transparent)]
    Poses(DatasetError),
    /// Cameras that are not suitable for a spiral.
    #[error(
        "a spiral is for cameras that look one way, but these deviate from their mean direction by {degrees:.0}° on average, \
         more than {most:.0}°: make an orbit (--turntable) or give a path"
    )]
    NotOneWay {
        /// Mean angle between the cameras' axes and their mean direction, in degrees.
        degrees: f64,
        /// Maximum mean angle in degrees.
        most: f64,
    },
    /// The depth of the target of a spiral is unknown.
    #[error(
        "the distance to the scene is unknown, since the cameras' axes do not meet and the dataset gives no near and far \
         bounds: give a path"
    )]
    NoDepth,
}
