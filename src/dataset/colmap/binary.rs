//! Reads the binary files of a COLMAP model: little-endian numbers without padding.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::Path;

use super::model::{ModelCamera, ModelImage, ModelPoints};
use crate::dataset::DatasetError;
use crate::dataset::camera_model::MODELS;
use crate::files::open_file;

/// Maximum length of an image's name in bytes.
const MAX_NAME: u64 = 4096;
const DAMAGED: &str =
    "the file is damaged or not of COLMAP: copy it again, or export the model again";

/// A file that is read from its beginning to its end.
struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Bytes that are left according to the file's length.
    left: u64,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, DatasetError> {
        let file = open_file(path).map_err(|e| DatasetError::read(path, e))?;
        let left = file
            .metadata()
            .map_err(|e| DatasetError::read(path, e))?
            .len();
        Ok(Self {
            path,
            file: BufReader::with_capacity(1 << 18, file),
            left,
        })
    }

    fn fault(&self, what: &str) -> DatasetError {
        DatasetError::File {
            path: self.path.to_owned(),
            message: format!("{what}: {DAMAGED}"),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DatasetError> {
        let mut bytes = [0; N];
        self.file
            .read_exact(&mut bytes)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => self.fault("ends too early"),
                _ => DatasetError::read(self.path, error),
            })?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, DatasetError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DatasetError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn f64s<const N: usize>(&mut self) -> Result<[f64; N], DatasetError> {
        let mut values = [0.0; N];
        for value in &mut values {
            *value = self.bytes().map(f64::from_le_bytes)?;
        }
        Ok(values)
    }

    /// Read the number of records that follow, each of at least `bytes` bytes.
    fn count(&mut self, what: &str, bytes: u64) -> Result<usize, DatasetError> {
        let n = self.u64()?;
        if n.checked_mul(bytes).is_none_or(|all| all > self.left) {
            return Err(self.fault(&format!("claims to hold {n} {what}, more than fit into it")));
        }
        usize::try_from(n).map_err(|_| self.fault(&format!("holds {n} {what}")))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), DatasetError> {
        let offset = i64::try_from(bytes).map_err(|_| self.fault("ends too early"))?;
        if bytes > self.left {
            return Err(self.fault("ends too early"));
        }
        self.file
            .seek_relative(offset)
            .map_err(|e| DatasetError::read(self.path, e))?;
        self.left -= bytes;
        Ok(())
    }

    /// Read a name that ends with a zero byte.
    fn name(&mut self) -> Result<String, DatasetError> {
        let mut bytes = Vec::new();
        (&mut self.file)
            .take(MAX_NAME)
            .read_until(0, &mut bytes)
            .map_err(|e| DatasetError::read(self.path, e))?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if bytes.pop() != Some(0) {
            return Err(self.fault("holds an image name without an end"));
        }
        String::from_utf8(bytes).map_err(|_| self.fault("holds an image name that is not UTF-8"))
    }
}

/// Read `cameras.bin`: cameras by number.
pub(super) fn cameras(path: &Path) -> Result<HashMap<u32, ModelCamera>, DatasetError> {
    let mut reader = Reader::open(path)?;
    let n = reader.count("cameras", 24)?;
    let mut cameras = HashMap::new();
    for _ in 0..n {
        let id = reader.u32()?;
        let number = reader.u32()?;
        let size = [reader.u64()?, reader.u64()?];
        let Some((model, _, n_parameters)) = MODELS.get(number as usize) else {
            return Err(DatasetError::File {
                path: path.to_owned(),
                message: format!(
                    "camera {id} has the model number {number}, which is not one of the {} known: undistort the images \
                     with colmap image_undistorter",
                    MODELS.len()
                ),
            });
        };
        let mut parameters = Vec::with_capacity(*n_parameters);
        for _ in 0..*n_parameters {
            let [value] = reader.f64s()?;
            parameters.push(value);
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

/// Smallest size of an image in bytes.
const IMAGE_BYTES: u64 = 4 + 56 + 4 + 1 + 8;

/// Return the number of images in `images.bin`.
pub(super) fn n_images(path: &Path) -> Result<usize, DatasetError> {
    Reader::open(path)?.count("images", IMAGE_BYTES)
}

/// Read `images.bin`, without the points seen in the images.
pub(super) fn images(path: &Path) -> Result<Vec<ModelImage>, DatasetError> {
    let mut reader = Reader::open(path)?;
    let n = reader.count("images", IMAGE_BYTES)?;
    let mut images = Vec::with_capacity(n);
    for _ in 0..n {
        let id = reader.u32()?;
        let rotation = reader.f64s()?;
        let translation = reader.f64s()?;
        let camera = reader.u32()?;
        let name = reader.name()?;
        let observations = reader.count("observations", 24)?;
        reader.skip(24 * observations as u64)?;
        images.push(ModelImage {
            id,
            rotation,
            translation,
            camera,
            name,
        });
    }
    Ok(images)
}

/// Read `points3D.bin`.
pub(super) fn points(path: &Path) -> Result<ModelPoints, DatasetError> {
    let mut reader = Reader::open(path)?;
    let n = reader.count("points", 8 + 24 + 3 + 8 + 8)?;
    let mut points = ModelPoints::default();
    for _ in 0..n {
        reader.skip(8)?;
        let position: [f64; 3] = reader.f64s()?;
        if position.iter().any(|v| !v.is_finite()) {
            return Err(DatasetError::File {
                path: path.to_owned(),
                message: "holds a point whose position is not finite: it is damaged, export the model again".to_owned(),
            });
        }
        points.positions.push(position);
        points.colors.push(reader.bytes()?);
        let [error] = reader.f64s()?;
        points.errors.push(error);
        let observations = reader.count("observations of a point", 8)?;
        for _ in 0..observations {
            points.image_ids.push(reader.u32()?);
            reader.skip(4)?;
        }
        points.track_ends.push(points.image_ids.len());
    }
    Ok(points)
}
