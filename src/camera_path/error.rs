//! What can be wrong with a camera path, in one line each: where, why, and the way out.

use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::text::shown;

/// A camera path that cannot be used. Every message is a single line.
#[derive(Debug, thiserror::Error)]
pub enum CameraPathError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", shown(.path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The operating system refused to write.
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
    /// Valid JSON that describes no path.
    #[error("{}: {message}", shown(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// Cause and way out.
        message: String,
    },
    /// A key frame that cannot be used.
    #[error("{}: key frame {index}: {message}", shown(.path))]
    KeyFrame {
        /// The file.
        path: PathBuf,
        /// Its place in `key_frames`, from 0.
        index: usize,
        /// Cause and way out.
        message: String,
    },
    /// A frame of another program's list that cannot be used.
    #[error("{}: frame {index} of `{list}`: {message}", shown(.path))]
    Frame {
        /// The file.
        path: PathBuf,
        /// The list's key.
        list: &'static str,
        /// Its place there, from 0.
        index: usize,
        /// Cause and way out.
        message: String,
    },
    /// A transforms file that cannot be used.
    #[error(transparent)]
    Poses(DatasetError),
    /// Cameras that a spiral does not suit.
    #[error(
        "a spiral is for cameras that look one way, and these look {degrees:.0}° past their mean direction on average, \
         {most:.0}° at most: make an orbit (--turntable) or give a path"
    )]
    NotOneWay {
        /// The mean angle between the cameras' axes and their mean.
        degrees: f64,
        /// What it may be.
        most: f64,
    },
    /// A spiral that has nothing to look at.
    #[error(
        "how far what the cameras look at is away cannot be told, since their axes do not meet and the dataset gives no \
         near and far bounds: give a path"
    )]
    NoDepth,
}
