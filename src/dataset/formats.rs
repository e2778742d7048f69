//! The formats of datasets: how a folder or a file is recognised, and its reader.
//!
//! A reader is a function from a folder to the dataset's frames and hints, in a file of its own, and a line in [`READERS`].
//! Formats without a reader are recognised so that an error message can name them.

use std::path::{Path, PathBuf};

use super::error::DatasetError;
use super::notes::Notes;
use super::pixel_format::{extension, images_in, is_image};
use super::{
    Dataset, Format, Split, blender, colmap, llff, metashape, nerf_plus_plus, nsvf, polycam,
    reality_capture, srn, transforms,
};
use crate::files::files_in;
use crate::text::{one_line, shown};

/// A format that is read.
pub(super) struct Reader {
    pub format: Format,
    /// What a folder in the format contains, for the message about a folder that is in none.
    pub mark: &'static str,
    /// Whether a folder is in the format.
    pub is: fn(&Path) -> bool,
    /// Read the dataset in a folder, for images at 1/`downscale` of the full size.
    pub open: fn(&Path, u32, &mut Notes) -> Result<Dataset, DatasetError>,
}

/// The readers in the order of their precedence, for a folder in several formats.
pub(super) const READERS: [Reader; 10] = [
    Reader {
        format: Format::Blender,
        mark: "transforms_train.json",
        is: |root| root.join(Split::Train.file_name()).is_file(),
        open: |root, _, notes| blender::open(root, notes),
    },
    Reader {
        format: Format::Transforms,
        mark: "transforms.json",
        is: |root| transforms::file_in(root).is_some(),
        open: |root, _, notes| transforms::open_folder(root, notes),
    },
    Reader {
        format: Format::Colmap,
        mark: "a COLMAP model",
        is: colmap::is,
        open: colmap::open,
    },
    Reader {
        format: Format::Llff,
        mark: "poses_bounds.npy",
        is: |root| root.join(llff::FILE).is_file(),
        open: llff::open,
    },
    Reader {
        format: Format::Nsvf,
        mark: "NSVF's pose/ and rgb/",
        is: nsvf::is,
        open: |root, _, notes| nsvf::open(root, notes),
    },
    Reader {
        format: Format::Srn,
        mark: "SRN's pose/ and rgb/",
        is: srn::is,
        open: |root, _, notes| srn::open(root, notes),
    },
    Reader {
        format: Format::NerfPlusPlus,
        mark: "NeRF++'s train/pose/ and train/rgb/",
        is: nerf_plus_plus::is,
        open: |root, _, notes| nerf_plus_plus::open(root, notes),
    },
    Reader {
        format: Format::Polycam,
        mark: "Polycam's keyframes/",
        is: polycam::is,
        open: |root, _, notes| polycam::open(root, notes),
    },
    Reader {
        format: Format::RealityCapture,
        mark: "RealityCapture's CSV",
        is: |root| !files_in(root, reality_capture::is_file).is_empty(),
        open: |root, downscale, notes| {
            let files = files_in(root, reality_capture::is_file);
            open_first(root, &files, |file| {
                reality_capture::open(file, downscale, notes)
            })
        },
    },
    Reader {
        format: Format::Metashape,
        mark: "Metashape's XML",
        is: |root| !files_in(root, metashape::is_file).is_empty(),
        open: |root, downscale, notes| {
            let files = files_in(root, metashape::is_file);
            open_first(root, &files, |file| metashape::open(file, downscale, notes))
        },
    },
];

/// Read the dataset that the first of several files in `root` describes, and name the others.
fn open_first(
    root: &Path,
    files: &[PathBuf],
    open: impl FnOnce(&Path) -> Result<Dataset, DatasetError>,
) -> Result<Dataset, DatasetError> {
    let Some((first, others)) = files.split_first() else {
        return Err(DatasetError::NotADataset {
            path: root.to_owned(),
            looked_for: "looked for a file of cameras".to_owned(),
        });
    };
    let mut dataset = open(first)?;
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|other| shown(other)).collect();
        dataset.warnings.push(format!(
            "there are {} files of cameras: {} is used; to use another, name it: {}",
            files.len(),
            shown(first),
            one_line(&names.join(", "))
        ));
    }
    Ok(dataset)
}

/// Return what a folder would have to contain to be a dataset.
pub(super) fn marks() -> String {
    READERS.map(|reader| reader.mark).join(", ")
}

/// Return the formats of a folder, the one that is read first.
pub(super) fn readers_of(root: &Path) -> impl Iterator<Item = &'static Reader> {
    READERS.iter().filter(move |reader| (reader.is)(root))
}

/// A format and how to convert it.
pub(super) struct ConvertibleFormat {
    pub name: &'static str,
    pub advice: &'static str,
}

/// Advice on images without poses.
pub(super) const POSES_ADVICE: &str = "kiln prepare PHOTOS --out DATASET finds them, with COLMAP";

/// Extensions of videos.
pub(super) const VIDEO_EXTENSIONS: [&str; 15] = [
    "mp4", "mov", "avi", "mkv", "webm", "m4v", "mts", "m2ts", "ts", "3gp", "mpg", "mpeg", "wmv",
    "flv", "ogv",
];

const CONVERT: &str = "kiln prepare PHOTOS --out DATASET finds the poses again, with COLMAP";
const BY_PROCESS_DATA: &str = "convert it to a transforms.json with nerfstudio's ns-process-data";

/// Formats recognised by the contents of a folder: all names of one of the lists must exist.
const FOLDERS: [(&[&[&str]], ConvertibleFormat); 5] = [
    (
        &[&["database.db"]],
        ConvertibleFormat {
            name: "a COLMAP database without a model",
            advice: "run colmap mapper, which writes sparse/0, or kiln prepare PHOTOS --out DATASET",
        },
    ),
    (
        &[
            &["sparse"],
            &["colmap/sparse"],
            &["dense/sparse"],
            &["distorted/sparse"],
        ],
        ConvertibleFormat {
            name: "a folder for a COLMAP model without the model",
            advice: "it should hold cameras and images, as .bin or .txt: copy them into it, or run colmap mapper",
        },
    ),
    (
        &[&["cameras_sphere.npz"], &["cameras.npz"]],
        ConvertibleFormat {
            name: "DTU data as NeuS and IDR write it",
            advice: "write its projection matrices as a transforms.json",
        },
    ),
    (
        &[&["EXR_RGBD", "metadata.json"], &["rgbd", "metadata"]],
        ConvertibleFormat {
            name: "a Record3D export",
            advice: BY_PROCESS_DATA,
        },
    ),
    (
        &[&["bundle.out"], &["bundle/bundle.out"]],
        ConvertibleFormat {
            name: "Bundler data",
            advice: CONVERT,
        },
    ),
];

/// Formats recognised by the extension of a file that is given in place of a dataset.
const FILES: [(&[&str], ConvertibleFormat); 5] = [
    (
        &VIDEO_EXTENSIONS,
        ConvertibleFormat {
            name: "a video",
            advice: "make a dataset of it first, with kiln prepare VIDEO --out DATASET",
        },
    ),
    (
        &["ply", "splat", "spz", "sog"],
        ConvertibleFormat {
            name: "a point cloud or Gaussian splats",
            advice: "give the posed images it was made from",
        },
    ),
    (
        &["ingp", "msgpack"],
        ConvertibleFormat {
            name: "an Instant-NGP snapshot",
            advice: "give the folder of images it was trained on",
        },
    ),
    (
        &["tar", "gz", "tgz", "xz", "7z", "rar"],
        ConvertibleFormat {
            name: "an archive",
            advice: "unpack it and give the folder",
        },
    ),
    (
        &["safetensors"],
        ConvertibleFormat {
            name: "a checkpoint",
            advice: "give its run directory to inspect, eval or render, or to train --resume",
        },
    ),
];

const URL: ConvertibleFormat = ConvertibleFormat {
    name: "a URL",
    advice: "download it, unpack it, and give the folder",
};

const SINGLE_IMAGE: ConvertibleFormat = ConvertibleFormat {
    name: "a single image",
    advice: "give the folder that holds a transforms.json",
};

/// Return the format of a folder without a transforms file.
pub(super) fn of_folder(root: &Path) -> Option<&'static ConvertibleFormat> {
    let holds = |names: &&[&str]| names.iter().all(|name| root.join(name).exists());
    FOLDERS
        .iter()
        .find(|(layouts, _)| layouts.iter().any(holds))
        .map(|(_, known)| known)
}

/// Return the format of a path that is a URL.
pub(super) fn of_url(path: &Path) -> Option<&'static ConvertibleFormat> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'+');
    (is_scheme && !scheme.is_empty() && !path.exists()).then_some(&URL)
}

/// Return the format of a file that is not JSON.
pub(super) fn of_file(path: &Path) -> Option<&'static ConvertibleFormat> {
    if is_image(path) {
        return Some(&SINGLE_IMAGE);
    }
    let ending = extension(path);
    FILES
        .iter()
        .find(|(endings, _)| endings.contains(&ending.as_str()))
        .map(|(_, known)| known)
}

/// Return the number of images in a folder, or in its subfolder `images/`; `None` if there are none.
pub(super) fn bare_images(root: &Path) -> Option<usize> {
    [root, &root.join("images")]
        .map(|folder| images_in(folder).len())
        .into_iter()
        .find(|n| *n > 0)
}
