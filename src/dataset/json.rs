//! A transforms JSON file, and typed access to its keys; errors name the location.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::DatasetError;
use crate::files::read_file;
use crate::json_text::{self, JsonFault, kind, parse};
use crate::text::one_line;

/// Maximum size of a file; a hundred thousand frames take less.
const MAX_BYTES: u64 = 128 << 20;
/// The key of the list of frames.
pub(super) const FRAMES: &str = "frames";
/// Maximum number of frames of a file.
const MAX_FRAMES: usize = 100_000;

/// One transforms file in memory.
pub(super) struct Document {
    pub path: PathBuf,
    root: Map<String, Value>,
    no_fields: Map<String, Value>,
}

/// The keys of one frame, with the keys of the file as defaults. `null` counts as absent.
pub(super) struct Fields<'a> {
    path: &'a Path,
    /// "frame 3 (images/0004)"; empty for the file as a whole.
    place: String,
    frame: &'a Map<String, Value>,
    file: &'a Map<String, Value>,
}

impl Document {
    /// Read and parse a file.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
        Self::parse(path, &bytes)
    }

    /// Parse `bytes`, the content of `path`.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let value = parse(bytes).map_err(|fault| match fault {
            JsonFault::Whole(message) => DatasetError::File {
                path: path.to_owned(),
                message,
            },
            JsonFault::At {
                line,
                column,
                message,
            } => DatasetError::Json {
                path: path.to_owned(),
                line,
                column,
                message,
            },
        })?;
        let Value::Object(root) = value else {
            return Err(DatasetError::File {
                path: path.to_owned(),
                message: format!("expected an object with `frames`, found {}", kind(&value)),
            });
        };
        Ok(Self {
            path: path.to_owned(),
            root,
            no_fields: Map::new(),
        })
    }

    /// Return the keys of the file as a whole.
    pub fn fields(&self) -> Fields<'_> {
        Fields {
            path: &self.path,
            place: String::new(),
            frame: &self.no_fields,
            file: &self.root,
        }
    }

    /// Return the file's frames, in order; the list may be empty. A frame that is not an object is an error in its place.
    pub fn frames(&self) -> Result<Vec<Result<Fields<'_>, DatasetError>>, DatasetError> {
        self.frames_in(FRAMES)
    }

    /// Return whether the file has a list of frames under `key`.
    pub fn has(&self, key: &str) -> bool {
        self.root.get(key).is_some_and(Value::is_array)
    }

    /// Return the frames in the list `key`, as [`Self::frames`] does.
    pub fn frames_in(
        &self,
        key: &str,
    ) -> Result<Vec<Result<Fields<'_>, DatasetError>>, DatasetError> {
        let whole = self.fields();
        let frames = match self.root.get(key) {
            Some(Value::Array(frames)) => frames,
            Some(other) => {
                return Err(whole.error(format!(
                    "`{key}` should be a list of frames, found {}",
                    kind(other)
                )));
            }
            None => {
                return Err(whole.error(format!(
                    "`{key}` is missing: expected a list of {{file_path, transform_matrix}}"
                )));
            }
        };
        if frames.len() > MAX_FRAMES {
            return Err(whole.error(format!(
                "`{key}` lists {} frames, but {MAX_FRAMES} is the maximum: remove some",
                frames.len()
            )));
        }
        Ok(self.fields_of(frames))
    }

    fn fields_of<'a>(&'a self, frames: &'a [Value]) -> Vec<Result<Fields<'a>, DatasetError>> {
        let fields = frames.iter().enumerate().map(|(i, frame)| {
            let mut place = format!("frame {i}");
            let Value::Object(frame) = frame else {
                let message = format!(
                    "expected an object with `file_path` and `transform_matrix`, found {}",
                    kind(frame)
                );
                return Err(DatasetError::Frame {
                    path: self.path.clone(),
                    frame: place,
                    message,
                });
            };
            if let Some(name) = frame.get("file_path").and_then(Value::as_str) {
                place = format!("frame {i} ({})", one_line(name));
            }
            Ok(Fields {
                path: &self.path,
                place,
                frame,
                file: &self.root,
            })
        });
        fields.collect()
    }
}

impl<'a> Fields<'a> {
    /// Return an error with this location.
    pub fn error(&self, message: impl Into<String>) -> DatasetError {
        let (path, message) = (self.path.to_owned(), message.into());
        if self.place.is_empty() {
            DatasetError::File { path, message }
        } else {
            DatasetError::Frame {
                path,
                frame: self.place.clone(),
                message,
            }
        }
    }

    /// Return the file name and frame, for warnings.
    pub fn place(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{}: {}", one_line(&file), self.place)
    }

    /// Return the value of `key` in the frame itself.
    pub fn own(&self, key: &str) -> Option<&'a Value> {
        self.frame.get(key).filter(|value| !value.is_null())
    }

    /// Return the value of `key` in the frame, else in the file.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.own(key)
            .or_else(|| self.file.get(key).filter(|value| !value.is_null()))
    }

    /// Return the value of `key` as a finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, DatasetError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        json_text::number(value, &format!("`{key}`"), f64::from(f32::MAX))
            .map(Some)
            .map_err(|message| self.error(message))
    }

    /// Return the first of `keys` that the frame has, else the first that the file has, with its number.
    pub fn first_number<'k>(
        &self,
        keys: &[&'k str],
    ) -> Result<Option<(&'k str, f64)>, DatasetError> {
        for fields in [self.frame, self.file] {
            if let Some(key) = keys
                .iter()
                .find(|key| fields.get(**key).is_some_and(|value| !value.is_null()))
            {
                // `number` prefers the frame's own value, but in the second round the frame has none of `keys`.
                return Ok(self.number(key)?.map(|number| (*key, number)));
            }
        }
        Ok(None)
    }

    /// Return the value of `key` as a string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, DatasetError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        json_text::string(value, &format!("`{key}`"))
            .map(Some)
            .map_err(|message| self.error(message))
    }

    /// Return whether `key` is present and true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| {
            value
                .as_bool()
                .unwrap_or_else(|| value.as_f64().is_some_and(|v| v != 0.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::dataset::Dataset;
    use crate::dataset::tests::{Scene, refused};

    #[test]
    fn bad_json_says_where() {
        let scene = Scene::new(2);
        let open = |text: &[u8]| {
            std::fs::write(scene.path("transforms.json"), text).unwrap();
            Dataset::open(&scene.path("transforms.json"))
        };
        refused(
            open(b"{\n \"frames\": [,]}"),
            &["transforms.json", "line 2", "column 13"],
        );
        refused(open(b""), &["transforms.json", "is empty"]);
        refused(
            open(b"{\"frames\": [\xff]}"),
            &["transforms.json", "line 1, column 13", "UTF-8"],
        );
        refused(open(b"[]"), &["expected an object with `frames`"]);
        refused(open(b"{}"), &["`frames` is missing"]);
        // Python's NaN is harmless in keys that are not read; otherwise the error names the frame (in poses) or the key.
        let text = scene.json.to_string();
        assert!(
            open(
                text.replacen("\"frames\"", "\"sharpness\":NaN,\"frames\"", 1)
                    .as_bytes()
            )
            .is_ok()
        );
        assert!(open([b"\xef\xbb\xbf", text.as_bytes()].concat().as_slice()).is_ok());
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(open([b"\xff\xfe", wide.as_slice()].concat().as_slice()).is_ok());
        assert!(open(&wide).is_ok());
        refused(
            open(&wide[..wide.len() - 1]),
            &["transforms.json", "UTF-16", "UTF-8"],
        );
        let told = text.replacen("\"frames\"", "// {\n/* ], */ \"frames\"", 1);
        assert!(open(told.as_bytes()).is_ok());
        // Comments do not shift the position of an error.
        refused(open(b"{ // a\n \"frames\": [,]}"), &["line 2", "column 13"]);
        refused(
            open(text.replacen("3.0]", "-Infinity]", 1).as_bytes()),
            &["frame 0", "finite", "NaN or Infinity"],
        );
        refused(
            open(text.replacen("0.8", "NaN", 1).as_bytes()),
            &["`camera_angle_x`", "NaN"],
        );
        refused(
            open(text.replacen("0.8", "NaN,", 1).as_bytes()),
            &["line 1", "column"],
        );
    }
}
