//! Errors of datasets. Each message is one line: location, cause and remedy.

use std::path::{Path, PathBuf};

use crate::text::{counted_len, escaped, one_line, shown};

/// The reason why a dataset cannot be used. Every message is a single line.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The path does not exist.
    #[error("{}: no such file or directory: {}", shown(.path), instead(.nearby))]
    NotFound {
        /// The path as given.
        path: PathBuf,
        /// Datasets in the folder where it would be.
        nearby: Vec<String>,
    },
    /// A folder or file that no loader recognises.
    #[error("{}: no dataset here: {looked_for}", shown(.path))]
    NotADataset {
        /// The path as given.
        path: PathBuf,
        /// What was searched for, and where to look instead.
        looked_for: String,
    },
    /// A known format that is not supported.
    #[error("{}: this is {format}, which kiln does not read: {advice}", shown(.path))]
    UnsupportedFormat {
        /// The folder.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// The remedy.
        advice: &'static str,
    },
    /// An error of the operating system.
    #[error("{}: cannot {action}: {source}: check that the path exists and its permissions", shown(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The attempted action: "read" or "write".
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// Text that is not JSON.
    #[error(
        "{}: line {line}, column {column}: not valid JSON: {message}: \
         correct the file or export it again",
        shown(.path)
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// The parser's message.
        message: String,
    },
    /// Valid JSON that does not describe a dataset.
    #[error("{}: {message}", shown(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// Cause and remedy.
        message: String,
    },
    /// A frame that cannot be used.
    #[error("{}: {frame}: {message}", shown(.path))]
    Frame {
        /// The file.
        path: PathBuf,
        /// The frame's index in the file, and its name.
        frame: String,
        /// Cause and remedy.
        message: String,
    },
    /// All listed images are absent.
    #[error(
        "{}: none of the {count} images exists, for instance {}: \
         put them there, or correct the paths in the file that lists them",
        shown(.path), shown(.first)
    )]
    NoImages {
        /// The JSON file.
        path: PathBuf,
        /// Number of images that the file lists.
        count: usize,
        /// The first image.
        first: PathBuf,
    },
    /// An image that cannot be decoded.
    #[error("{}{}: {message}", shown(.path), and_others(*.others))]
    Image {
        /// The image, or the first of several.
        path: PathBuf,
        /// Cause and remedy.
        message: String,
        /// Number of other images with the same fault.
        others: usize,
    },
    /// Images in a known format that is not supported.
    #[error(
        "{}{} {} {format}, which kiln does not read: {advice}",
        shown(.path), and_others(*.others), if *.others == 0 { "is" } else { "are" }
    )]
    ImageFormat {
        /// The first image.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// The remedy.
        advice: &'static str,
        /// Number of other images with the same fault.
        others: usize,
    },
    /// A split name other than train, val and test.
    #[error("unknown split `{}`: use train, val or test", one_line(.value))]
    UnknownSplit {
        /// The name as given.
        value: String,
    },
    /// A folder of objects that meta-learning cannot use.
    #[error("{}: {message}", shown(.path))]
    Objects {
        /// The folder.
        path: PathBuf,
        /// Cause and remedy.
        message: String,
    },
    /// Objects without a file that assigns them to the training and test splits.
    #[error(
        "{} has no *_splits.json that names `train` and `test` folders: give one with --splits, or a share of the folders \
         with --train-fraction",
        shown(.path)
    )]
    NoSplits {
        /// The folder.
        path: PathBuf,
    },
    /// A selection of training views that is invalid.
    #[error("{dataset}: {message}")]
    Views {
        /// The dataset's name.
        dataset: String,
        /// Cause and remedy.
        message: String,
    },
}

impl DatasetError {
    /// Return the faulty file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path, .. }
            | Self::NotADataset { path, .. }
            | Self::UnsupportedFormat { path, .. }
            | Self::Io { path, .. }
            | Self::Json { path, .. }
            | Self::File { path, .. }
            | Self::Frame { path, .. }
            | Self::Objects { path, .. }
            | Self::NoSplits { path }
            | Self::NoImages { path, .. }
            | Self::ImageFormat { path, .. }
            | Self::Image { path, .. } => Some(path),
            Self::UnknownSplit { .. } | Self::Views { .. } => None,
        }
    }

    /// Return whether `other` is the same fault of another frame in the same file, or of another image.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Frame {
                    path: a,
                    message: b,
                    ..
                },
                Self::Frame {
                    path: c,
                    message: d,
                    ..
                },
            ) => (a, b) == (c, d),
            (Self::ImageFormat { format: a, .. }, Self::ImageFormat { format: b, .. }) => a == b,
            (Self::Image { message: a, .. }, Self::Image { message: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Extend the message to `more` other frames or images with the same fault.
    pub(super) fn and_more(mut self, more: usize) -> Self {
        if let Self::Frame { frame, .. } = &mut self
            && more > 0
        {
            *frame = format!("{frame} and {}", counted_len(more, "other frame"));
        }
        if let Self::ImageFormat { others, .. } | Self::Image { others, .. } = &mut self {
            *others += more;
        }
        self
    }

    /// Return the faulty frame, if there is one: its index in the file, and its name.
    #[must_use]
    pub fn frame(&self) -> Option<&str> {
        match self {
            Self::Frame { frame, .. } => Some(frame),
            _ => None,
        }
    }

    /// Wrap an error of the operating system on reading `path`.
    pub(super) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "read",
            source,
        }
    }

    /// Wrap an error of the operating system on writing `path`.
    pub(super) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "write",
            source,
        }
    }
}

/// Say what to do about a path that does not exist.
fn instead(nearby: &[String]) -> String {
    if nearby.is_empty() {
        "check the path of the dataset".to_owned()
    } else {
        format!("did you mean {}?", nearby.join(" or "))
    }
}

/// Return text such as " and 23 other images", or an empty string.
fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " and another image".to_owned(),
        n => format!(" and {n} other images"),
    }
}

/// Return the error of an image file that cannot be decoded.
pub(super) fn damaged(path: &Path, message: impl Into<String>) -> DatasetError {
    let message = escaped(&message.into());
    DatasetError::Image {
        path: path.to_owned(),
        message,
        others: 0,
    }
}
