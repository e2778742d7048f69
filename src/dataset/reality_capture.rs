//! `RealityCapture` and `RealityScan`: a CSV file of registered images (*Internal/External camera parameters*), beside the images.
//!
//! Columns are found by name: `#name x y alt heading pitch roll f px py k1 k2 k3 k4 t1 t2`. The focal length is that of a 35 mm
//! film, and px, py are offsets from the image's centre, in parts of the longer side: f · longer / 36 and px · longer + width / 2
//! pixels. The rotation is Rz(−heading) Rx(pitch) Ry(roll), in degrees, of an OpenGL camera-to-world matrix.

use std::path::Path;

use glam::DMat3;

use super::error::DatasetError;
use super::image_folders;
use super::posed_image::{Fault, FrameList, Intrinsics, frame};
use super::{Dataset, Format, Notes};
use crate::camera::Lens;
use crate::files::{parent, read_file, read_start};
use crate::text::{one_line, utf8};

/// Maximum size of a file: a hundred thousand images take less.
const MAX_BYTES: u64 = 64 << 20;
/// Number of bytes that suffice to read a header.
const HEADER_BYTES: usize = 4096;
/// Width of 35 mm film, in mm.
const FILM: f64 = 36.0;
/// The columns by which a file is recognised; `heading`, `pitch`, `roll` and `f` are needed too.
const REQUIRED: [&str; 4] = ["name", "x", "y", "alt"];

/// Return whether `path` is a CSV file of registered images.
pub(super) fn is_file(path: &Path) -> bool {
    let is_csv = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    is_csv
        && read_start(path, HEADER_BYTES).is_ok_and(|start| {
            let columns = columns(&header(&utf8(&start).unwrap_or_default()));
            REQUIRED
                .iter()
                .all(|name| columns.iter().any(|column| column == name))
        })
}

/// Return what separates the columns. Where commas are decimal signs, it is another character.
fn delimiter(header: &str) -> u8 {
    let others = [';', '\t'];
    let found = others.into_iter().find(|other| header.contains(*other));
    found.map_or(b',', |other| other as u8)
}

/// Return the first line.
fn header(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(HEADER_BYTES)]);
    text.lines().next().unwrap_or("").to_owned()
}

fn columns(header: &str) -> Vec<String> {
    let names = header.split(['\t', ',', ';']);
    names
        .map(|name| {
            let name = name.trim().trim_matches('"').trim_start_matches('#');
            name.to_ascii_lowercase()
        })
        .collect()
}

/// Read the dataset that `file` describes, for images at 1/`downscale` of the full size.
pub(super) fn open(
    file: &Path,
    downscale: u32,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    let bytes = read_file(file, MAX_BYTES).map_err(|e| DatasetError::read(file, e))?;
    let bytes = utf8(&bytes).map_err(|fault| DatasetError::File {
        path: file.to_owned(),
        message: fault.to_owned(),
    })?;
    let header = header(&bytes);
    let columns = columns(&header);
    let mut rows = Vec::new();
    let reader = csv::ReaderBuilder::new()
        .has_headers(true)
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(delimiter(&header))
        .from_reader(&*bytes);
    for record in reader.into_byte_records() {
        let record = record.map_err(|e| DatasetError::File {
            path: file.to_owned(),
            message: format!(
                "cannot be read as CSV ({}): export it again",
                one_line(&e.to_string())
            ),
        })?;
        rows.push(Row {
            columns: &columns,
            values: record
                .iter()
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .collect(),
        });
    }
    let names: Vec<&str> = rows.iter().map(Row::name).collect();
    let root = parent(file);
    let base = image_folders::Base::find(&root, [0; 2], file, &names, None, notes)?;
    let mut dataset = Dataset::new(&root, Format::RealityCapture);
    let folder = base.choose(&mut dataset, downscale);
    let mut list = FrameList::of(file);
    for (i, row) in rows.iter().enumerate() {
        let place = || format!("line {} ({})", i + 2, one_line(row.name()));
        let found = row.frame(&folder, notes, place);
        list.add(found, folder.join(row.name()), place(), notes)?;
    }
    list.check(
        "lists no image: export the registration of the aligned images",
        notes,
    )?;
    dataset.missing = list.missing;
    dataset.hold_out(list.frames);
    dataset.warn_without_test_view();
    dataset.finish(notes);
    Ok(dataset)
}

/// A line of the file.
struct Row<'a> {
    columns: &'a [String],
    values: Vec<String>,
}

impl Row<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let column = self.columns.iter().position(|column| column == name)?;
        let value = self.values.get(column)?.as_str();
        (!value.is_empty()).then_some(value)
    }

    fn name(&self) -> &str {
        self.get("name").unwrap_or("")
    }

    /// Return the number in the column `name`, or `default` without one.
    fn number(&self, name: &str, default: Option<f64>) -> Result<f64, String> {
        let Some(text) = self.get(name) else {
            return default.ok_or_else(|| format!("`{name}` is missing: export it again"));
        };
        let value = text.parse::<f64>().ok();
        value.filter(|v| (*v as f32).is_finite()).ok_or_else(|| {
            format!(
                "`{name}` is `{}`, not a finite number: export it again, with a decimal point",
                one_line(text)
            )
        })
    }

    fn frame(
        &self,
        folder: &Path,
        notes: &mut Notes,
        place: impl Fn() -> String,
    ) -> Result<Option<super::Frame>, Fault> {
        if self.name().is_empty() {
            return Err(Fault::Entry(
                "`name` is missing: export it again".to_owned(),
            ));
        }
        let required = |name: &str| self.number(name, None);
        let optional = |name: &str| self.number(name, Some(0.0));
        let [heading, pitch, roll] = [
            required("heading")?.to_radians(),
            required("pitch")?.to_radians(),
            required("roll")?.to_radians(),
        ];
        let position = [required("x")?, required("y")?, required("alt")?];
        let rotation = DMat3::from_rotation_z(-heading)
            * DMat3::from_rotation_x(pitch)
            * DMat3::from_rotation_y(roll);
        let pose = [0, 1, 2].map(|row| {
            let column = |c: usize| rotation.col(c)[row];
            [column(0), column(1), column(2), position[row]]
        });
        let focal = required("f")?;
        let principal = [optional("px")?, optional("py")?];
        if optional("k4")? != 0.0 {
            return Err(Fault::Entry(
                "`k4` is not supported: align with a lens model of at most three radial terms, or export undistorted images"
                    .to_owned(),
            ));
        }
        let [k1, k2, k3, p1, p2] = [
            optional("k1")? as f32,
            optional("k2")? as f32,
            optional("k3")? as f32,
            optional("t1")? as f32,
            optional("t2")? as f32,
        ];
        let lens = if [k1, k2, k3, p1, p2] == [0.0; 5] {
            Lens::Pinhole
        } else {
            Lens::OpenCv { k1, k2, k3, p1, p2 }
        };
        let intrinsics = |[width, height]: [f64; 2]| {
            let longer = width.max(height);
            Intrinsics {
                focal: [focal * longer / FILM; 2],
                principal: [
                    principal[0] * longer + 0.5 * width,
                    principal[1] * longer + 0.5 * height,
                ],
                lens,
            }
        };
        frame(folder, self.name(), pose, None, intrinsics, notes, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{gradient, refused};

    const HEADER: &str = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\n";

    fn scene(lines: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b c.png"] {
            gradient(8, 6).save_png(&folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("cameras.csv"), HEADER.to_owned() + lines).unwrap();
        folder
    }

    #[test]
    fn cameras_are_placed_and_scaled() {
        let folder = scene(
            "a.png,1,2,3,90,0,0,36,0.25,-0.125,0.01,0,0,0,0.001,0.002\n\
             b c.png,4,5,6,0,90,0,18,0,0,0,0,0,0,0,0\nnot there.png,4,5,6,0,90,0,18,0,0,0,0,0,0,0,0\n",
        );
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.format, Format::RealityCapture);
        assert_eq!(dataset.missing.len(), 1);
        let (a, b) = (&dataset.test[0].camera, &dataset.train[0].camera);
        // 36 mm are the longer side, 8 pixels.
        assert_eq!((a.focal, a.principal), ([8.0; 2], [6.0, 2.0]));
        assert_eq!(
            a.lens,
            Lens::OpenCv {
                k1: 0.01,
                k2: 0.0,
                k3: 0.0,
                p1: 0.001,
                p2: 0.002
            }
        );
        assert_eq!(a.position(), [1.0, 2.0, 3.0]);
        assert_eq!((b.focal, b.lens), ([4.0; 2], Lens::Pinhole));
        // Without rotation, cameras look down. A pitch of 90° raises that to +y (north), and a heading turns it clockwise.
        assert!((b.forward()[1] - 1.0).abs() < 1e-6, "{:?}", b.forward());
        assert!((a.forward()[2] + 1.0).abs() < 1e-6, "{:?}", a.forward());
        let file = folder.path().join("cameras.csv");
        assert_eq!(Dataset::open(&file).unwrap().train, dataset.train);
    }

    #[test]
    fn images_of_the_full_size_are_used_unless_smaller_ones_are_asked_for() {
        let folder =
            scene("a.png,1,2,3,90,0,0,36\nb c.png,4,5,6,0,90,0,18\nabsent.png,4,5,6,0,90,0,18\n");
        for (name, size) in [("images", [8, 6]), ("images_2", [4, 3])] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            for image in ["a.png", "b c.png"] {
                let path = folder.path().join(name).join(image);
                gradient(size[0], size[1]).save_png(&path).unwrap();
            }
        }
        let width = |downscale| {
            let dataset = Dataset::open_at(folder.path(), downscale).unwrap();
            (dataset.train[0].camera.width, dataset.downscale)
        };
        assert_eq!([width(1), width(2), width(4)], [(8, 1), (4, 1), (4, 2)]);
    }

    #[test]
    fn the_first_of_several_files_is_used_in_any_encoding() {
        let folder = scene("a.png,1,2,3,90,0,0,36\nb c.png,4,5,6,0,90,0,18\n");
        let text = HEADER.to_owned() + "b c.png,4,5,6,0,90,0,18\n";
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(folder.path().join("before.csv"), wide).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.train.len(), 1);
        assert_eq!(dataset.train[0].name, "b c");
        let told = |w: &String| {
            w.contains("2 files of cameras")
                && w.ends_with("cameras.csv")
                && w.contains("before.csv is used")
        };
        assert!(dataset.warnings.iter().any(told), "{:?}", dataset.warnings);
    }

    #[test]
    fn faults_name_the_line() {
        let bad = [
            ("a.png,1,2,x,0,0,0,36\n", "`alt` is `x`"),
            ("a.png,1,2,3,0,0,0\n", "`f` is missing"),
            ("a.png,1,2,3,0,0,0,36,0,0,0,0,0,0.1\n", "`k4`"),
            ("a.png,1,2,3,0,0,0,-36\n", "focal length"),
        ];
        for (line, part) in bad {
            let folder = scene(line);
            refused(
                Dataset::open(folder.path()),
                &["cameras.csv", "line 2 (a.png)", part],
            );
        }
        refused(
            Dataset::open(scene("").path()),
            &["cameras.csv", "lists no image"],
        );
    }
}
