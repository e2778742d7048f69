//! Reads the vertices of a PLY file as sparse points.

use std::io::BufReader;
use std::path::Path;

use ply_rs_bw::parser::{Parser, Reader};
use ply_rs_bw::ply::{Property, PropertyAccess, PropertyAccessResult};

use super::SparsePoints;
use crate::dataset::DatasetError;
use crate::files::open_file;

const VERTEX: &str = "vertex";
/// Maximum number of points of a file.
const MAX_POINTS: usize = 50_000_000;

/// Position and colour of a vertex; other properties are ignored.
#[derive(Debug, Default)]
struct Vertex {
    position: [f64; 3],
    color: [u8; 3],
}

impl PropertyAccess for Vertex {
    fn new() -> Self {
        Self::default()
    }

    fn set_property(&mut self, name: &str, value: Property) -> PropertyAccessResult {
        let number = match value {
            Property::Double(v) => v,
            ref other => match other.to_f32_lossy() {
                Some(v) => f64::from(v),
                None => return PropertyAccessResult::Ignored,
            },
        };
        match name {
            "x" => self.position[0] = number,
            "y" => self.position[1] = number,
            "z" => self.position[2] = number,
            "red" | "green" | "blue" => {
                let channel = match name {
                    "red" => 0,
                    "green" => 1,
                    _ => 2,
                };
                self.color[channel] = value.to_u8_color_lossy().unwrap_or(0);
            }
            _ => return PropertyAccessResult::Ignored,
        }
        PropertyAccessResult::Set
    }
}

/// Read the points of the file at `path`, text or binary.
pub fn read(path: &Path) -> Result<SparsePoints, DatasetError> {
    let file = open_file(path).map_err(|e| DatasetError::read(path, e))?;
    let fault = |message: String| DatasetError::File {
        path: path.to_owned(),
        message,
    };
    let damaged = |error: &dyn std::fmt::Display| {
        fault(format!(
            "is not a PLY file of points ({}): export it again, or remove `ply_file_path`",
            crate::text::one_line(
                &error
                    .to_string()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        ))
    };
    let mut reader = Reader::new(BufReader::new(file));
    let parser = Parser::<Vertex>::new();
    let header = parser.read_header(&mut reader).map_err(|e| damaged(&e))?;
    // Other elements, such as faces, follow the vertices.
    let Some(element) = header
        .elements
        .values()
        .next()
        .filter(|element| element.name == VERTEX)
    else {
        return Err(damaged(&"its first element is not `vertex`"));
    };
    if let Some(missing) = ["x", "y", "z"].iter().find(|name| {
        let mut names = element.properties.values().map(|p| p.name.as_str());
        !names.any(|known| known == **name)
    }) {
        return Err(damaged(&format!("its vertices have no `{missing}`")));
    }
    if element.count > MAX_POINTS {
        return Err(fault(format!(
            "holds {} points, but {MAX_POINTS} is the maximum: thin it out",
            element.count
        )));
    }
    let vertices = parser
        .read_payload_for_element(&mut reader, element, &header)
        .map_err(|e| damaged(&e))?;
    let usable = vertices
        .into_iter()
        .filter(|vertex| vertex.position.iter().all(|v| v.is_finite()));
    let (positions, colors) = usable.map(|v| (v.position, v.color)).unzip();
    Ok(SparsePoints {
        positions,
        colors,
        reprojection_error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::refused;

    #[test]
    fn text_and_binary_points_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.ply");
        let header = |format: &str, kind: &str| {
            format!(
                "ply\nformat {format} 1.0\ncomment made by hand\nelement vertex 2\nproperty {kind} x\nproperty {kind} y\n\
                 property {kind} z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
            )
        };
        let expected = SparsePoints {
            positions: vec![[0.5, -1.0, 2.0], [3.0, 0.25, -4.0]],
            colors: vec![[1, 2, 255], [4, 5, 6]],
            reprojection_error: None,
        };
        let text = "0.5 -1 2 1 2 255\n3 0.25 -4 4 5 6\n";
        std::fs::write(&path, header("ascii", "float") + text).unwrap();
        assert_eq!(read(&path).unwrap(), expected);
        let mut bytes = header("binary_little_endian", "double").into_bytes();
        for (position, color) in expected.positions.iter().zip(&expected.colors) {
            bytes.extend(position.iter().flat_map(|v| v.to_le_bytes()));
            bytes.extend(color);
        }
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), expected);
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        refused(read(&path), &["points.ply", "PLY", "export it again"]);
        let flat = header("ascii", "float").replace(" z\n", " w\n");
        std::fs::write(&path, flat + text).unwrap();
        refused(read(&path), &["points.ply", "no `z`"]);
        std::fs::write(&path, b"solid\n").unwrap();
        refused(read(&path), &["points.ply", "PLY"]);
    }
}
