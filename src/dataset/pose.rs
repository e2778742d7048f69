//! Camera poses: 4×4 or 3×4 camera-to-world matrices, which must be rigid motions.

use std::fmt;

use glam::DVec3;
use serde_json::Value;

use super::error::DatasetError;
use super::json::Fields;
use super::{Note, Notes};
use crate::json_text::kind;

/// Tolerance for the cosine between columns, and for the relative difference of their lengths.
const RIGID: f64 = 1e-2;
/// Deviation of a column's length from 1 above which the rotation is normalised.
const UNIT: f64 = 1e-3;

/// The reason why a matrix is not a pose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRigid {
    ZeroColumn,
    Sheared,
    Mirrored,
}

impl fmt::Display for NotRigid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroColumn => "the pose's rotation has a zero column",
            Self::Sheared => "the pose is not rigid: its rotation is sheared or stretched",
            Self::Mirrored => "the pose is mirrored (determinant −1)",
        })
    }
}

/// Check that `rows`, `[R | t]`, is a rigid motion. If R has a uniform scale, remove and return it.
pub(super) fn make_rigid(rows: &mut [[f64; 4]; 3]) -> Result<Option<f64>, NotRigid> {
    let column = |i: usize| DVec3::new(rows[0][i], rows[1][i], rows[2][i]);
    let columns = [column(0), column(1), column(2)];
    let lengths = columns.map(DVec3::length);
    let (shortest, longest) = (
        lengths.into_iter().fold(f64::MAX, f64::min),
        lengths.into_iter().fold(0.0, f64::max),
    );
    if shortest < 1e-12 {
        return Err(NotRigid::ZeroColumn);
    }
    let unit = [
        columns[0] / lengths[0],
        columns[1] / lengths[1],
        columns[2] / lengths[2],
    ];
    let skew = [
        unit[0].dot(unit[1]),
        unit[1].dot(unit[2]),
        unit[2].dot(unit[0]),
    ];
    if longest > shortest * (1.0 + RIGID) || skew.iter().any(|cosine| cosine.abs() > RIGID) {
        return Err(NotRigid::Sheared);
    }
    if unit[0].cross(unit[1]).dot(unit[2]) < 0.0 {
        return Err(NotRigid::Mirrored);
    }
    if lengths.iter().all(|length| (length - 1.0).abs() <= UNIT) {
        return Ok(None);
    }
    for (row, values) in rows.iter_mut().enumerate() {
        for (column, value) in values.iter_mut().take(3).enumerate() {
            *value = unit[column][row];
        }
    }
    Ok(Some(lengths[0]))
}

/// Return the inverse of a rigid motion.
pub(super) fn inverse(rows: &[[f64; 4]; 3]) -> [[f64; 4]; 3] {
    std::array::from_fn(|i| {
        let place: f64 = rows.iter().map(|row| row[i] * row[3]).sum();
        [rows[0][i], rows[1][i], rows[2][i], -place]
    })
}

/// Read `transform_matrix`: rows of `[R | t]`, OpenGL camera-to-world.
///
/// A rotation with a uniform scale is normalised and noted; any other matrix that is not rigid is an error.
pub(super) fn pose(fields: &Fields, notes: &mut Notes) -> Result<[[f64; 4]; 3], DatasetError> {
    let mut rows = matrix(fields)?;
    let scale = make_rigid(&mut rows).map_err(|cause| {
        let advice = match cause {
            NotRigid::ZeroColumn => "remove the frame or export its pose again",
            NotRigid::Sheared => "expected an OpenGL camera-to-world matrix",
            NotRigid::Mirrored => {
                "expected a right-handed OpenGL camera-to-world matrix: flip one axis"
            }
        };
        fields.error(format!("{cause}: {advice}"))
    })?;
    if let Some(scale) = scale {
        notes.add(Note::ScaledPose, || {
            format!("{} has a rotation scaled by {scale:.4}", fields.place())
        });
    }
    Ok(rows)
}

/// Return the upper three rows of `transform_matrix`; every entry must be finite as f32.
fn matrix(fields: &Fields) -> Result<[[f64; 4]; 3], DatasetError> {
    const EXPECTED: &str = "expected 4 rows (or 3) of 4 numbers";
    let Some(value) = fields.own("transform_matrix") else {
        return Err(fields.error(format!(
            "`transform_matrix` is missing: {EXPECTED}, OpenGL camera-to-world"
        )));
    };
    let wrong = |found: String| {
        fields.error(format!(
            "`transform_matrix` has the wrong shape: {EXPECTED}, found {found}"
        ))
    };
    let rows = value
        .as_array()
        .ok_or_else(|| wrong(kind(value).to_owned()))?;
    if rows.len() != 3 && rows.len() != 4 {
        return Err(wrong(format!("{} rows", rows.len())));
    }
    let mut matrix = [[0.0, 0.0, 0.0, 1.0]; 4];
    for (i, row) in rows.iter().enumerate() {
        let entries = row
            .as_array()
            .ok_or_else(|| wrong(format!("{} as row {i}", kind(row))))?;
        if entries.len() != 4 {
            return Err(wrong(format!("{} numbers in row {i}", entries.len())));
        }
        for (j, entry) in entries.iter().enumerate() {
            matrix[i][j] = entry
                .as_f64()
                .filter(|number| (*number as f32).is_finite())
                .ok_or_else(|| {
                    fields.error(format!(
                        "the pose has an entry that is not a finite number (row {i}, column {j}, \
                     found {}): remove the frame or export its pose again",
                        described(entry)
                    ))
                })?;
        }
    }
    if matrix[3]
        .iter()
        .zip([0.0, 0.0, 0.0, 1.0])
        .any(|(a, b)| (a - b).abs() > 1e-3)
    {
        return Err(fields.error(
            "the last row of `transform_matrix` is not 0 0 0 1: is the matrix transposed?",
        ));
    }
    Ok([matrix[0], matrix[1], matrix[2]])
}

fn described(entry: &Value) -> String {
    entry
        .as_f64()
        .map_or_else(|| kind(entry).to_owned(), |number| format!("{number:e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::dataset::tests::{Scene, refused};

    #[test]
    fn bad_poses_are_refused_by_frame() {
        let mut scene = Scene::new(3);
        let row = json!([0, 0, 0, 1]);
        let cases = [
            (json!(null), "missing"),
            (json!([[1, 0, 0], [0, 1, 0], [0, 0, 1]]), "shape"),
            (json!([row, row]), "2 rows"),
            (
                json!([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], row]),
                "zero column",
            ),
            (
                json!([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], row]),
                "not rigid",
            ),
            (
                json!([[1, 0, 0, 0], [0, 1.1, 0, 0], [0, 0, 1, 0], row]),
                "not rigid",
            ),
            (
                json!([[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], row]),
                "mirrored",
            ),
            (
                json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]),
                "transposed",
            ),
            (
                json!([[1, 0, 0, 1e39], [0, 1, 0, 0], [0, 0, 1, 0]]),
                "finite",
            ),
        ];
        for (matrix, cause) in cases {
            let result = scene.open_with(Some(2), &[("transform_matrix", matrix)]);
            refused(
                result,
                &["transforms.json: frame 2 (./images/0002.png)", cause],
            );
        }
        let scaled = json!([[2, 0, 0, 7], [0, 2, 0, 8], [0, 0, 2, 9]]);
        let dataset = scene
            .open_with(Some(1), &[("transform_matrix", scaled)])
            .unwrap();
        let expected = [
            [1.0, 0.0, 0.0, 7.0],
            [0.0, 1.0, 0.0, 8.0],
            [0.0, 0.0, 1.0, 9.0],
        ];
        assert!(dataset.train[0].camera.world_from_camera == expected);
        assert!(
            dataset.warnings[0].contains("scaled by 2"),
            "{:?}",
            dataset.warnings
        );
    }
}
