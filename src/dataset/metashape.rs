//! Agisoft Metashape: the XML file of *Export Cameras*, beside the images.
//!
//! Sensors have a calibration: focal length, offset of the principal point from the centre, and Brown's coefficients, of which
//! the tangential ones are in the other order than `OpenCV`'s. Cameras have a camera-to-component matrix in `OpenCV`'s axes, and
//! components a similarity to world space, which gives world units their length. Cameras without a matrix are not aligned.

use std::collections::HashMap;
use std::path::Path;

use glam::{DMat3, DVec3};
use roxmltree::{Document, Node};

use super::error::DatasetError;
use super::image_folders;
use super::pose::make_rigid;
use super::posed_image::{Fault, FrameList, Intrinsics, frame};
use super::{Dataset, Format, Frame, Notes};
use crate::camera::Lens;
use crate::files::{parent, read_file, read_start};
use crate::text::{counted_len, one_line, utf8};

/// Maximum size of a file: a hundred thousand images take less.
const MAX_BYTES: u64 = 128 << 20;
/// Number of bytes in which the root element begins.
const START: usize = 1024;
/// Maximum number of elements and texts of a file, which bounds what entities can expand to.
const MAX_NODES: u32 = 10_000_000;

/// Return whether `path` is an XML file of Metashape.
pub(super) fn is_file(path: &Path) -> bool {
    let is_xml = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("xml"));
    is_xml
        && read_start(path, START).is_ok_and(|start| {
            let start = utf8(&start).unwrap_or_default();
            let text = String::from_utf8_lossy(&start);
            text.contains("<document") && text.contains("<chunk")
        })
}

/// Read the dataset that `file` describes, for images at 1/`downscale` of the full size.
pub(super) fn open(
    file: &Path,
    downscale: u32,
    notes: &mut Notes,
) -> Result<Dataset, DatasetError> {
    let fault = |message: String| DatasetError::File {
        path: file.to_owned(),
        message,
    };
    let bytes = read_file(file, MAX_BYTES).map_err(|e| DatasetError::read(file, e))?;
    let text = utf8(&bytes).map_err(|e| fault(e.to_owned()))?;
    let text =
        str::from_utf8(&text).map_err(|_| fault("is not UTF-8: export it again".to_owned()))?;
    let options = roxmltree::ParsingOptions {
        nodes_limit: MAX_NODES,
        ..roxmltree::ParsingOptions::default()
    };
    let document = Document::parse_with_options(text, options).map_err(|e| {
        fault(format!(
            "is not valid XML ({}): export it again",
            one_line(&e.to_string())
        ))
    })?;
    let chunks: Vec<Node> = children(document.root_element(), "chunk").collect();
    let aligned = |chunk: &Node| {
        cameras(*chunk)
            .filter(|camera| child(*camera, "transform").is_some())
            .count()
    };
    // The first of several with equally many aligned cameras.
    let Some(chunk) = chunks.iter().rev().max_by_key(|chunk| aligned(chunk)) else {
        return Err(fault(
            "has no `chunk`: export the cameras of a chunk as Agisoft XML".to_owned(),
        ));
    };
    let sensors: HashMap<&str, Node> = child(*chunk, "sensors")
        .into_iter()
        .flat_map(|sensors| children(sensors, "sensor"))
        .filter_map(|sensor| Some((sensor.attribute("id")?, sensor)))
        .collect();
    let components: HashMap<&str, Node> = child(*chunk, "components")
        .into_iter()
        .flat_map(|components| children(components, "component"))
        .filter_map(|component| Some((component.attribute("id")?, component)))
        .collect();
    let all: Vec<Node> = cameras(*chunk).collect();
    let names: Vec<&str> = all.iter().map(label).collect();
    let root = parent(file);
    let base = image_folders::Base::find(&root, [0; 2], file, &names, None, notes)?;
    let mut dataset = Dataset::new(&root, Format::Metashape);
    let folder = base.choose(&mut dataset, downscale);
    if chunks.len() > 1 {
        dataset.warnings.push(format!(
            "the file has {} chunks: the one with the most aligned cameras, `{}`, is used",
            chunks.len(),
            one_line(chunk.attribute("label").unwrap_or("")),
        ));
    }
    let mut list = FrameList::of(file);
    let mut unaligned = 0;
    for camera in &all {
        let Some(matrix) = child(*camera, "transform") else {
            unaligned += 1;
            continue;
        };
        let place = || format!("camera {}", one_line(label(camera)));
        let sensor = camera.attribute("sensor_id").and_then(|id| sensors.get(id));
        // Older files place the whole chunk.
        let component = camera
            .attribute("component_id")
            .and_then(|id| components.get(id))
            .filter(|component| child(**component, "transform").is_some())
            .or(Some(chunk));
        let found = pose(&matrix, component)
            .and_then(|pose| Ok((pose, Sensor::read(sensor)?)))
            .map_err(Fault::from)
            .and_then(|(pose, sensor)| sensor.frame(&folder, label(camera), pose, notes, place));
        list.add(found, folder.join(label(camera)), place(), notes)?;
    }
    if unaligned > 0 {
        dataset.warnings.push(format!(
            "{} of {} without a position, because Metashape did not align {}: left out",
            counted_len(unaligned, "image"),
            all.len(),
            if unaligned == 1 { "it" } else { "them" },
        ));
    }
    list.check(
        "has no aligned camera: align the photographs and export the cameras again",
        notes,
    )?;
    dataset.missing = list.missing;
    dataset.hold_out(list.frames);
    dataset.warn_without_test_view();
    dataset.finish(notes);
    Ok(dataset)
}

fn children<'a, 'b: 'a>(
    node: Node<'a, 'b>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'b>> {
    node.children()
        .filter(move |child| child.has_tag_name(name))
}

fn child<'a, 'b: 'a>(node: Node<'a, 'b>, name: &'static str) -> Option<Node<'a, 'b>> {
    children(node, name).next()
}

/// The cameras of a chunk, including those in groups.
fn cameras<'a, 'b: 'a>(chunk: Node<'a, 'b>) -> impl Iterator<Item = Node<'a, 'b>> {
    let all = child(chunk, "cameras").into_iter();
    all.flat_map(|cameras| cameras.descendants().filter(|n| n.has_tag_name("camera")))
}

fn label<'a>(camera: &Node<'a, '_>) -> &'a str {
    camera.attribute("label").unwrap_or("")
}

/// Return the `N` numbers in a node's text.
fn numbers<const N: usize>(node: &Node) -> Result<[f64; N], String> {
    let what = node.tag_name().name();
    let text = node.text().unwrap_or("");
    let parsed: Option<Vec<f64>> = text
        .split_whitespace()
        .map(|word| word.parse().ok().filter(|v: &f64| (*v as f32).is_finite()))
        .collect();
    parsed
        .and_then(|all| <[f64; N]>::try_from(all).ok())
        .ok_or_else(|| format!("its `{what}` should be {N} finite numbers: export it again"))
}

/// Return the OpenGL camera-to-world matrix of a camera's `transform`, in the world of `component`.
fn pose(matrix: &Node, component: Option<&Node>) -> Result<[[f64; 4]; 3], String> {
    let m: [f64; 16] = numbers(matrix)?;
    let mut rows = [0, 4, 8].map(|i| [m[i], m[i + 1], m[i + 2], m[i + 3]]);
    if let Some(similarity) = component.and_then(|component| child(*component, "transform")) {
        let part = |name: &'static str| child(similarity, name);
        let rotation = part("rotation").map_or(Ok(DMat3::IDENTITY), |node| {
            numbers::<9>(&node).map(|r| DMat3::from_cols_array(&r).transpose())
        })?;
        let translation = part("translation")
            .map_or(Ok([0.0; 3]), |node| numbers(&node))
            .map(DVec3::from)?;
        let scale = part("scale").map_or(Ok([1.0]), |node| numbers(&node))?[0];
        if scale <= 0.0 {
            return Err(format!(
                "the scale of its component, {scale}, should be positive: export the cameras again"
            ));
        }
        let column = |c: usize| DVec3::from(rows.map(|row| row[c]));
        let columns = [
            rotation * column(0),
            rotation * column(1),
            rotation * column(2),
            scale * (rotation * column(3)) + translation,
        ];
        rows = [0, 1, 2].map(|row| columns.map(|column| column[row]));
    }
    make_rigid(&mut rows).map_err(|cause| format!("{cause}: export the cameras again"))?;
    Ok(rows.map(|[x, y, z, t]| [x, -y, -z, t]))
}

/// The intrinsics of a sensor.
struct Sensor {
    size: [f64; 2],
    intrinsics: Intrinsics,
}

impl Sensor {
    fn read(sensor: Option<&Node>) -> Result<Self, String> {
        let sensor = *sensor.ok_or("its sensor is not in the file: export the cameras again")?;
        let kind = sensor.attribute("type").unwrap_or("frame");
        // The adjusted calibration, if the one given at the start is there too.
        let calibration = children(sensor, "calibration")
            .max_by_key(|calibration| calibration.attribute("class") == Some("adjusted"));
        let resolution = calibration
            .and_then(|calibration| child(calibration, "resolution"))
            .or(child(sensor, "resolution"))
            .ok_or("its sensor has no `resolution`: export the cameras again")?;
        let side = |name: &str| {
            let value = resolution.attribute(name).and_then(|v| v.parse().ok());
            value
                .filter(|v: &f64| (1.0..=65_536.0).contains(v))
                .ok_or_else(|| {
                    format!("the {name} of its sensor is not a number of pixels: export it again")
                })
        };
        let size = [side("width")?, side("height")?];
        let [width, height] = size;
        if kind == "spherical" {
            let (pi, tau) = (std::f64::consts::PI, std::f64::consts::TAU);
            let intrinsics = Intrinsics {
                focal: [width / tau, height / pi],
                principal: [width / 2.0, height / 2.0],
                lens: Lens::Equirectangular,
            };
            return Ok(Self { size, intrinsics });
        }
        let calibration =
            calibration.ok_or("its sensor has no `calibration`: align the photographs first")?;
        let value = |name: &'static str| {
            child(calibration, name)
                .map_or(Ok([0.0]), |node| numbers(&node))
                .map(|[v]: [f64; 1]| v)
        };
        let focal = value("f")?;
        if value("b2")? != 0.0 {
            return Err("the skew `b2` of its sensor is not supported: align without it, or export undistorted images".to_owned());
        }
        let [k1, k2, k3, k4] = [
            value("k1")? as f32,
            value("k2")? as f32,
            value("k3")? as f32,
            value("k4")? as f32,
        ];
        // Metashape's p1 is the coefficient of r² + 2 x².
        let [p1, p2] = [value("p2")? as f32, value("p1")? as f32];
        let lens = match kind {
            "frame" if k4 != 0.0 => {
                return Err(
                    "`k4` of its sensor is not supported: align without it, or export undistorted images".to_owned(),
                );
            }
            "frame" if [k1, k2, k3, p1, p2] == [0.0; 5] => Lens::Pinhole,
            "frame" => Lens::OpenCv { k1, k2, k3, p1, p2 },
            "fisheye" | "equidistant_fisheye" => Lens::ThinPrismFisheye {
                k: [k1, k2, k3, k4],
                p: [p1, p2],
                s: [0.0; 2],
            },
            other => {
                return Err(format!(
                    "sensors of type `{}` are not supported: export undistorted images",
                    one_line(other)
                ));
            }
        };
        Ok(Self {
            size,
            intrinsics: Intrinsics {
                focal: [focal + value("b1")?, focal],
                principal: [0.5 * width + value("cx")?, 0.5 * height + value("cy")?],
                lens,
            },
        })
    }

    fn frame(
        &self,
        folder: &Path,
        name: &str,
        pose: [[f64; 4]; 3],
        notes: &mut Notes,
        place: impl Fn() -> String,
    ) -> Result<Option<Frame>, Fault> {
        let of = |_| self.intrinsics;
        frame(folder, name, pose, Some(self.size), of, notes, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{gradient, refused};

    fn document(calibration: &str, cameras: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<document version=\"2.0.0\">\n<chunk label=\"Chunk 1\">\n<sensors>\n\
             <sensor id=\"0\" label=\"a\" type=\"frame\"><resolution width=\"16\" height=\"12\"/>\n\
             <calibration class=\"initial\"><f>1</f></calibration>\n\
             <calibration type=\"frame\" class=\"adjusted\"><resolution width=\"16\" height=\"12\"/>{calibration}</calibration>\
             </sensor></sensors>\n<components><component id=\"7\"><transform><rotation>0 -1 0 1 0 0 0 0 1</rotation>\
             <translation>10 20 30</translation><scale>2</scale></transform></component></components>\n\
             <cameras><group>{cameras}</group></cameras></chunk></document>"
        )
    }

    fn scene(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        for name in ["IMG_1.png", "IMG_2.png"] {
            let image = folder.path().join("images").join(name);
            gradient(8, 6).save_png(&image).unwrap();
        }
        std::fs::write(folder.path().join("cameras.xml"), text).unwrap();
        folder
    }

    const AT: &str = "<transform>1 0 0 3 0 1 0 4 0 0 1 5 0 0 0 1</transform>";

    #[test]
    fn cameras_are_in_the_world_of_their_component() {
        let cameras = format!(
            "<camera id=\"0\" label=\"IMG_1\" sensor_id=\"0\" component_id=\"7\">{AT}</camera>\
             <camera id=\"1\" label=\"IMG_2\" sensor_id=\"0\">{AT}</camera>\
             <camera id=\"2\" label=\"IMG_3\" sensor_id=\"0\"/>"
        );
        let calibration =
            "<f>20</f><cx>1</cx><cy>-2</cy><k1>0.01</k1><p1>0.001</p1><p2>0.002</p2><b1>2</b1>";
        let folder = scene(&document(calibration, &cameras));
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.format, Format::Metashape);
        let (first, second) = (&dataset.test[0].camera, &dataset.train[0].camera);
        // Images are stored at half the sensor's size.
        assert_eq!((first.focal, first.principal), ([11.0, 10.0], [4.5, 2.0]));
        let lens = Lens::OpenCv {
            k1: 0.01,
            k2: 0.0,
            k3: 0.0,
            p1: 0.002,
            p2: 0.001,
        };
        assert_eq!(first.lens, lens);
        // 2 R (3, 4, 5) + t.
        assert_eq!(first.position(), [2.0, 26.0, 40.0]);
        assert_eq!(second.position(), [3.0, 4.0, 5.0]);
        assert_eq!(second.forward(), [0.0, 0.0, 1.0]);
        assert!(
            dataset
                .warnings
                .iter()
                .any(|w| w.starts_with("1 image of 3 without a position")),
            "{:?}",
            dataset.warnings
        );
    }

    #[test]
    fn faults_name_the_camera() {
        let one = |camera: &str| document("<f>20</f>", camera);
        let bad = [
            ("<document><chunk><x>".to_owned(), "not valid XML"),
            (document("<f>20</f>", ""), "no aligned camera"),
            (
                one("<camera label=\"IMG_1\"><transform>1 2</transform></camera>"),
                "camera IMG_1",
            ),
            (
                one(&format!("<camera label=\"IMG_1\">{AT}</camera>")),
                "sensor",
            ),
            (
                document(
                    "<f>20</f><k4>1</k4>",
                    &format!("<camera label=\"IMG_1\" sensor_id=\"0\">{AT}</camera>"),
                ),
                "`k4`",
            ),
        ];
        for (text, part) in bad {
            let folder = scene(&text);
            refused(
                Dataset::open(&folder.path().join("cameras.xml")),
                &["cameras.xml", part],
            );
        }
    }
}
