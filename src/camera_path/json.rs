//! Typed access to the JSON objects of a path file, with errors that give the location.

use std::path::Path;

use serde_json::{Map, Value};

use super::CameraPathError;
use crate::json_text::{self, kind};

/// Maximum accepted magnitude: larger than any scene, and small enough to compute with.
const MAX_VALUE: f64 = 1e9;

/// Location of an object in a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Location {
    File,
    KeyFrame(usize),
    /// An entry of the list with this key.
    Of(&'static str, usize),
}

/// The fields of an object, and its location.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub path: &'a Path,
    place: Location,
    map: &'a Map<String, Value>,
}

fn error(path: &Path, place: Location, message: String) -> CameraPathError {
    let path = path.to_owned();
    match place {
        Location::File => CameraPathError::File { path, message },
        Location::KeyFrame(index) => CameraPathError::KeyFrame {
            path,
            index,
            message,
        },
        Location::Of(list, index) => CameraPathError::Frame {
            path,
            list,
            index,
            message,
        },
    }
}

impl<'a> Fields<'a> {
    /// Open the object `value`, or return an error if it is of another type.
    pub fn of(path: &'a Path, place: Location, value: &'a Value) -> Result<Self, CameraPathError> {
        let map = value.as_object().ok_or_else(|| {
            let message = format!("should be an object in braces, found {}", kind(value));
            error(path, place, message)
        })?;
        Ok(Self { path, place, map })
    }

    /// Create an error at this location.
    pub fn error(&self, message: impl Into<String>) -> CameraPathError {
        error(self.path, self.place, message.into())
    }

    /// Return an error if a key is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), CameraPathError> {
        let unknown = self.map.keys().find(|key| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| {
            let start: String = key.chars().take(40).collect();
            Err(self.error(format!(
                "{start:?} is not a known key: the keys are {}",
                known.join(", ")
            )))
        })
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// Return a number within ±[`MAX_VALUE`].
    pub fn number(&self, key: &str) -> Result<Option<f64>, CameraPathError> {
        self.get(key)
            .map(|value| self.finite(value, || format!("`{key}`")))
            .transpose()
    }

    /// Return a required number; `unit` describes it in the error.
    pub fn required(&self, key: &str, unit: &str) -> Result<f64, CameraPathError> {
        self.number(key)?
            .ok_or_else(|| self.error(format!("`{key}` ({unit}) is missing")))
    }

    fn finite(&self, value: &Value, what: impl Fn() -> String) -> Result<f64, CameraPathError> {
        json_text::number(value, &what(), MAX_VALUE).map_err(|message| self.error(message))
    }

    /// Return a list of `N` numbers.
    pub fn vector<const N: usize>(&self, key: &str) -> Result<Option<[f64; N]>, CameraPathError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        self.numbers(value, N, || format!("`{key}`"))
            .map(|list| Some(std::array::from_fn(|i| list[i])))
    }

    fn numbers(
        &self,
        value: &Value,
        n: usize,
        what: impl Fn() -> String,
    ) -> Result<Vec<f64>, CameraPathError> {
        let list = value
            .as_array()
            .filter(|list| list.len() == n)
            .ok_or_else(|| {
                let found = match value {
                    Value::Array(list) => format!("{} entries", list.len()),
                    other => kind(other).to_owned(),
                };
                self.error(format!("{} should be {n} numbers, found {found}", what()))
            })?;
        list.iter().map(|v| self.finite(v, &what)).collect()
    }

    /// Return the upper three rows of a matrix with 3 or 4 rows of 4 numbers.
    pub fn matrix(&self, key: &str) -> Result<Option<[[f64; 4]; 3]>, CameraPathError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let rows = value
            .as_array()
            .filter(|rows| rows.len() == 3 || rows.len() == 4)
            .ok_or_else(|| {
                let found = match value {
                    Value::Array(rows) => format!("{} rows", rows.len()),
                    other => kind(other).to_owned(),
                };
                self.error(format!(
                    "`{key}` should be 4 rows (or 3) of 4 numbers, found {found}"
                ))
            })?;
        let rows = rows
            .iter()
            .enumerate()
            .map(|(i, row)| self.numbers(row, 4, || format!("row {i} of `{key}`")))
            .collect::<Result<Vec<_>, _>>()?;
        self.affine(key, &rows.concat()).map(Some)
    }

    /// Return the upper three rows of a matrix of 12 or 16 numbers in row-major order.
    pub fn affine(&self, key: &str, numbers: &[f64]) -> Result<[[f64; 4]; 3], CameraPathError> {
        let last = numbers.get(12..).unwrap_or_default();
        if last
            .iter()
            .zip([0.0, 0.0, 0.0, 1.0])
            .any(|(a, b)| (a - b).abs() > 1e-3)
        {
            return Err(self.error(format!(
                "the last row of `{key}` is not 0 0 0 1: is the matrix transposed?"
            )));
        }
        Ok(std::array::from_fn(|row| {
            std::array::from_fn(|column| numbers[4 * row + column])
        }))
    }

    /// Return the upper three rows of a matrix given as one list of 16 (or 12) numbers in row-major order.
    pub fn flat_matrix(&self, key: &str) -> Result<Option<[[f64; 4]; 3]>, CameraPathError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let n = value.as_array().map_or(16, Vec::len);
        let n = if n == 12 { 12 } else { 16 };
        let numbers = self.numbers(value, n, || format!("`{key}`"))?;
        self.affine(key, &numbers).map(Some)
    }

    /// Return the lower and the upper corner of a box.
    pub fn corners(&self, key: &str) -> Result<Option<[[f64; 3]; 2]>, CameraPathError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Some([low, high]) = value.as_array().map(Vec::as_slice) else {
            return Err(self.error(format!(
                "`{key}` should be two corners, [[x, y, z], [x, y, z]]"
            )));
        };
        let corner = |value: &Value, which: &str| {
            self.numbers(value, 3, || format!("the {which} corner of `{key}`"))
                .map(|list| [list[0], list[1], list[2]])
        };
        Ok(Some([corner(low, "lower")?, corner(high, "upper")?]))
    }

    /// Return a string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, CameraPathError> {
        let text = self
            .get(key)
            .map(|value| json_text::string(value, &format!("`{key}`")));
        text.transpose().map_err(|message| self.error(message))
    }

    /// Return a Boolean, false by default.
    pub fn flag(&self, key: &str) -> Result<bool, CameraPathError> {
        let Some(value) = self.get(key) else {
            return Ok(false);
        };
        value.as_bool().ok_or_else(|| {
            self.error(format!(
                "`{key}` should be true or false, found {}",
                kind(value)
            ))
        })
    }
}
