//! Problems of a dataset. Each message is one line.

use serde::Serialize;

use super::error::DatasetError;
use super::frame::Frame;

/// Consequence of a problem for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training refuses to start or cannot learn anything.
    Error,
    /// Training ignores the affected data, or its result gets worse.
    Warning,
}

/// A problem, described in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Consequence for training.
    pub severity: Severity,
    /// The file with the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The frame with the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// File, frame, cause and remedy.
    pub message: String,
}

impl Problem {
    pub(super) fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            file: None,
            frame: None,
            message,
        }
    }

    /// Return a problem that training works around.
    #[must_use]
    pub fn warning(message: String) -> Self {
        Self::new(Severity::Warning, message)
    }

    /// Return a problem of one view that training works around.
    pub(super) fn warning_of(view: &Frame, message: String) -> Self {
        Self::of_view(Severity::Warning, view, message)
    }

    pub(super) fn of_view(severity: Severity, view: &Frame, message: String) -> Self {
        Self {
            file: Some(view.image_path.to_string_lossy().into_owned()),
            frame: Some(view.name.clone()),
            ..Self::new(severity, message)
        }
    }
}

impl From<&DatasetError> for Problem {
    fn from(error: &DatasetError) -> Self {
        Self {
            severity: Severity::Error,
            file: error.file().map(|f| f.to_string_lossy().into_owned()),
            frame: error.frame().map(str::to_owned),
            message: error.to_string(),
        }
    }
}

/// Return text such as ", and so do 3 others", or an empty string.
pub(super) fn and_more(n: usize) -> String {
    match n {
        0 => String::new(),
        1 => ", and so does another".to_owned(),
        n => format!(", and so do {n} others"),
    }
}
