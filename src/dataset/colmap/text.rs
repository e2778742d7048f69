//! Reads the text files of a COLMAP model.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::str::FromStr;

use super::model::{ModelCamera, ModelImage, ModelPoints};
use crate::dataset::DatasetError;
use crate::dataset::camera_model::MODELS;
use crate::files::open_file;
use crate::text::one_line;

/// Maximum length of a line in bytes: an image with a million observations.
const MAX_LINE: u64 = 64 << 20;

/// The lines of a file.
struct Lines<'a> {
    path: &'a Path,
    file: BufReader<File>,
    number: usize,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, DatasetError> {
        let file = open_file(path).map_err(|e| DatasetError::read(path, e))?;
        Ok(Self {
            path,
            file: BufReader::with_capacity(1 << 18, file),
            number: 0,
            line: Vec::new(),
        })
        .and_then(Self::after_mark)
    }

    /// Skip a byte-order mark; that of UTF-16 is an error.
    fn after_mark(mut self) -> Result<Self, DatasetError> {
        let start = self
            .file
            .fill_buf()
            .map_err(|e| DatasetError::read(self.path, e))?;
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(DatasetError::File {
                path: self.path.to_owned(),
                message: "is UTF-16 text: save it as UTF-8".to_owned(),
            });
        }
        if start.starts_with(b"\xef\xbb\xbf") {
            self.file.consume(3);
        }
        Ok(self)
    }

    /// Read the next line without its end; return whether there was one.
    fn read(&mut self) -> Result<bool, DatasetError> {
        self.line.clear();
        let read = (&mut self.file)
            .take(MAX_LINE)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| DatasetError::read(self.path, e))?;
        self.number += 1;
        if read as u64 == MAX_LINE {
            return Err(self.fault("is too long"));
        }
        while self.line.last().is_some_and(u8::is_ascii_whitespace) {
            self.line.pop();
        }
        Ok(read > 0)
    }

    /// Return the next line that is neither empty nor a comment.
    fn next(&mut self) -> Result<Option<&str>, DatasetError> {
        loop {
            if !self.read()? {
                return Ok(None);
            }
            let text = self.line.trim_ascii_start();
            if !text.is_empty() && !text.starts_with(b"#") {
                break;
            }
        }
        match std::str::from_utf8(self.line.trim_ascii_start()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.fault("is not UTF-8")),
        }
    }

    fn fault(&self, what: &str) -> DatasetError {
        DatasetError::File {
            path: self.path.to_owned(),
            message: format!(
                "line {} {what}: correct it, or export the model again",
                self.number
            ),
        }
    }
}

/// Take the next word of `rest` and parse it.
fn take<T: FromStr>(rest: &mut &str) -> Option<T> {
    let text = rest.trim_start();
    let (word, after) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    *rest = after;
    word.parse().ok()
}

fn take_f64s<const N: usize>(rest: &mut &str) -> Option<[f64; N]> {
    let mut values = [0.0; N];
    for value in &mut values {
        *value = take(rest)?;
    }
    Some(values)
}

/// Read `cameras.txt`: cameras by number.
pub(super) fn cameras(path: &Path) -> Result<HashMap<u32, ModelCamera>, DatasetError> {
    let mut lines = Lines::open(path)?;
    let mut cameras = HashMap::new();
    while let Some(line) = lines.next()? {
        let mut rest = line;
        let head = (|| {
            let id: u32 = take(&mut rest)?;
            let name: String = take(&mut rest)?;
            Some((id, name, [take(&mut rest)?, take(&mut rest)?]))
        })();
        let parameters: Option<Vec<f64>> =
            rest.split_whitespace().map(|v| v.parse().ok()).collect();
        let (Some((id, name, size)), Some(parameters)) = (head, parameters) else {
            return Err(lines.fault("is not a camera (number, model, width, height, parameters)"));
        };
        let Some((model, _, n)) = MODELS.iter().find(|(_, known, _)| *known == name) else {
            let name = one_line(&name);
            return Err(lines.fault(&format!("names the unknown camera model {name}")));
        };
        if parameters.len() != *n {
            let found = parameters.len();
            return Err(lines.fault(&format!("has {found} parameters, but {name} has {n}")));
        }
        let camera = ModelCamera {
            model: *model,
            size,
            parameters,
        };
        cameras.insert(id, camera);
    }
    Ok(cameras)
}

/// Read `images.txt`: two lines per image, the second of which, the observations, may be empty.
pub(super) fn images(path: &Path) -> Result<Vec<ModelImage>, DatasetError> {
    let mut lines = Lines::open(path)?;
    let mut images = Vec::new();
    while let Some(line) = lines.next()? {
        let mut rest = line;
        let image = (|| {
            Some(ModelImage {
                id: take(&mut rest)?,
                rotation: take_f64s(&mut rest)?,
                translation: take_f64s(&mut rest)?,
                camera: take(&mut rest)?,
                name: Some(rest.trim())
                    .filter(|name| !name.is_empty())?
                    .to_owned(),
            })
        })();
        match image {
            Some(image) => images.push(image),
            None => {
                return Err(lines.fault(
                    "is not an image (number, quaternion, translation, camera, name); a line of observations follows each",
                ));
            }
        }
        lines.read()?;
        if !are_observations(&lines.line) {
            return Err(lines.fault(
                "is not the line of observations (x, y, number of the point…) that follows each image, and that may be empty",
            ));
        }
    }
    Ok(images)
}

/// Return whether a line consists of triples of numbers, as far as its length and its ends show.
fn are_observations(line: &[u8]) -> bool {
    let words = || {
        line.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
    };
    let is_number =
        |word: &[u8]| str::from_utf8(word).is_ok_and(|word| word.parse::<f64>().is_ok());
    words().count().is_multiple_of(3) && words().next_back().is_none_or(is_number)
}

/// Read `points3D.txt`.
pub(super) fn points(path: &Path) -> Result<ModelPoints, DatasetError> {
    let mut lines = Lines::open(path)?;
    let mut points = ModelPoints::default();
    while let Some(line) = lines.next()? {
        let mut rest = line;
        let read = (|| {
            let _: u64 = take(&mut rest)?;
            points.positions.push(take_f64s(&mut rest)?);
            points
                .colors
                .push([take(&mut rest)?, take(&mut rest)?, take(&mut rest)?]);
            points.errors.push(take(&mut rest)?);
            while !rest.trim_start().is_empty() {
                points.image_ids.push(take(&mut rest)?);
                let _: u32 = take(&mut rest)?;
            }
            points.track_ends.push(points.image_ids.len());
            Some(())
        })();
        if read.is_none() {
            return Err(lines.fault(
                "is not a point (number, position, colour, error, pairs of image and observation)",
            ));
        }
    }
    Ok(points)
}
