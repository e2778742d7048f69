//! Text files of numbers: matrices, poses and boxes, one line per row.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::pose::{inverse, make_rigid};
use crate::files::read_file;
use crate::text::escaped;

/// Maximum size of a text file, which contains a few numbers.
const MAX_BYTES: u64 = 1 << 16;

/// Return the text files in `folder`, sorted by name.
pub(super) fn text_files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let entries = folder
        .read_dir()
        .map_err(|e| DatasetError::read(folder, e))?;
    let is_text = |path: &PathBuf| path.extension().is_some_and(|e| e == "txt");
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(is_text)
        .collect();
    files.sort();
    Ok(files)
}

/// Return whether the numbers form a square matrix, row by row or all in one line.
pub(super) fn is_matrix(lines: &[Vec<f64>]) -> bool {
    match lines {
        [all] => [9, 16].contains(&all.len()),
        rows => [3, 4].contains(&rows.len()) && rows.iter().all(|row| row.len() == rows.len()),
    }
}

/// Return the numbers of a text file, line by line; empty lines are skipped.
pub(super) fn numbers(path: &Path) -> Result<Vec<Vec<f64>>, DatasetError> {
    let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let fault = |line: usize, word: &str| DatasetError::File {
        path: path.to_owned(),
        message: format!(
            "line {}: `{}` is not a finite number: correct the file or copy it again",
            line + 1,
            escaped(word)
        ),
    };
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let parsed = line.split_whitespace().map(|word| {
            let value = word.parse::<f64>().ok().filter(|v| (*v as f32).is_finite());
            value.ok_or_else(|| fault(index, word))
        });
        let parsed = parsed.collect::<Result<Vec<f64>, _>>()?;
        if !parsed.is_empty() {
            lines.push(parsed);
        }
    }
    Ok(lines)
}

/// Read the OpenGL camera-to-world pose of a pose file, which contains a 4 × 4 camera-to-world matrix in the convention looking
/// along +z, y down, or its inverse.
pub(super) fn opencv_pose(
    path: &Path,
    is_world_to_camera: bool,
) -> Result<[[f64; 4]; 3], DatasetError> {
    let all = numbers(path)?.concat();
    let fault = |message: String| DatasetError::File {
        path: path.to_owned(),
        message,
    };
    let [rows @ .., _, _, _, _] = all.as_slice() else {
        return Err(fault(
            "expected the 16 numbers of a 4 × 4 matrix".to_owned(),
        ));
    };
    if rows.len() != 12 {
        let found = all.len();
        return Err(fault(format!(
            "expected the 16 numbers of a 4 × 4 matrix, found {found}"
        )));
    }
    let mut matrix: [[f64; 4]; 3] =
        std::array::from_fn(|r| std::array::from_fn(|c| rows[4 * r + c]));
    make_rigid(&mut matrix).map_err(|cause| fault(format!("{cause}: copy the file again")))?;
    if is_world_to_camera {
        matrix = inverse(&matrix);
    }
    Ok(matrix.map(|[x, y, z, t]| [x, -y, -z, t]))
}
