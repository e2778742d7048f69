//! Zip archives of datasets, which are unpacked into the user's cache folder.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zip::ZipArchive;

use super::error::DatasetError;
use super::folder::is_dataset;
use super::formats::POSES_ADVICE;
use super::pixel_format::images_below;
use crate::files::open_file;
use crate::text::{bytes, one_line, shown};

/// Maximum number of entries of an archive.
const MAX_ENTRIES: usize = 500_000;
/// Maximum size of all unpacked files.
const MAX_BYTES: u64 = 32 << 30;
/// Maximum ratio of unpacked to packed sizes, beyond the first [`FREE_BYTES`]: images hardly shrink, and text shrinks tenfold.
const MAX_RATIO: u64 = 50;
const FREE_BYTES: u64 = 256 << 20;
/// Name of the file that says that an archive was unpacked completely.
const COMPLETE: &str = ".kiln-unpacked";
/// Environment variable that names the folder for unpacked archives, in place of the user's cache folder.
const CACHE: &str = "KILN_CACHE";
/// What follows the name of the folder in which an archive is being unpacked, before the number of the process.
const PARTIAL: &str = ".partial-";
/// Time after which an unpacking that writes nothing is taken for dead.
const ABANDONED: Duration = Duration::from_hours(1);
/// Levels of folders of an archive in which the dataset is looked for.
const MAX_DEPTH: usize = 3;

/// Name of the file that says that an archive holds symbolic links.
const LINKS: &str = ".kiln-links";

/// An archive that was unpacked.
#[derive(Debug, PartialEq)]
pub(super) struct Unpacked {
    /// The folder of the first dataset in it.
    pub dataset: PathBuf,
    /// The folder that it was unpacked to.
    pub folder: PathBuf,
    /// The folders of other datasets in it.
    pub others: Vec<PathBuf>,
    /// Whether it holds symbolic links, which are left out.
    pub has_links: bool,
}

/// Return whether `path` is a zip archive.
pub(super) fn is(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}

/// Unpack the archive at `path`, unless that was done before. Return the folder of the dataset in it.
pub(super) fn unpack(path: &Path) -> Result<Unpacked, DatasetError> {
    let of_user = || dirs::cache_dir().unwrap_or_else(std::env::temp_dir);
    let base = std::env::var_os(CACHE).map_or_else(|| of_user().join("kiln"), PathBuf::from);
    unpack_below(path, &base.join("unpacked"))
}

fn unpack_below(path: &Path, base: &Path) -> Result<Unpacked, DatasetError> {
    let file = open_file(path).map_err(|e| DatasetError::read(path, e))?;
    let folder = base.join(key(path, &file)?);
    let is_there =
        || folder.join(COMPLETE).is_file() && !datasets_in(&folder, MAX_DEPTH).is_empty();
    if !is_there() {
        // Unpacked beside its place, so that an interrupted attempt is not taken for a whole one.
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let partial = folder.with_file_name(format!("{name}{PARTIAL}{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&partial);
        remove_abandoned(base);
        let unpacked = extract(path, file, &partial).and_then(|()| {
            if is_there() {
                return Ok(());
            }
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::rename(&partial, &folder).map_err(|e| DatasetError::write(&folder, e))
        });
        if let Err(error) = unpacked {
            let _ = std::fs::remove_dir_all(&partial);
            // Another process may have been faster.
            if !is_there() {
                return Err(error);
            }
        }
        let _ = std::fs::remove_dir_all(&partial);
    }
    let mut datasets = datasets_in(&folder, MAX_DEPTH);
    if datasets.is_empty() {
        let mut looked_for = format!(
            "looked for a dataset in the archive, unpacked to {}",
            shown(&folder)
        );
        if !images_below(&folder).is_empty() {
            looked_for = format!(
                "{looked_for}; there are images but no poses: give that folder in place of PHOTOS: {POSES_ADVICE}"
            );
        }
        return Err(DatasetError::NotADataset {
            path: path.to_owned(),
            looked_for,
        });
    }
    let has_links = folder.join(LINKS).is_file();
    Ok(Unpacked {
        dataset: datasets.remove(0),
        others: datasets,
        folder,
        has_links,
    })
}

/// Remove what unpackings left that were killed: partial folders to which nothing was written for long.
fn remove_abandoned(base: &Path) {
    let entries = base.read_dir().into_iter().flatten().flatten();
    for entry in entries {
        let is_partial = entry.file_name().to_string_lossy().contains(PARTIAL);
        if is_partial && last_change(&entry.path()).is_some_and(is_long_ago) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Return the latest time of modification of a folder, of its files and of its sub-folders.
fn last_change(folder: &Path) -> Option<SystemTime> {
    let own = folder.metadata().ok()?.modified().ok()?;
    if !folder.is_dir() {
        return Some(own);
    }
    let entries = folder.read_dir().ok()?.flatten();
    let below = entries.filter_map(|entry| last_change(&entry.path()));
    Some(below.fold(own, SystemTime::max))
}

fn is_long_ago(time: SystemTime) -> bool {
    time.elapsed().is_ok_and(|age| age > ABANDONED)
}

/// Return the name of the folder for the archive: its own name, and a hash of its path, size and time of modification.
fn key(path: &Path, file: &File) -> Result<String, DatasetError> {
    let data = file.metadata().map_err(|e| DatasetError::read(path, e))?;
    let full = path
        .canonicalize()
        .map_err(|e| DatasetError::read(path, e))?;
    let time = data.modified().ok();
    let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let text = format!("{}\n{}\n{time:?}", full.display(), data.len());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{stem}-{:08x}", crc32c::crc32c(text.as_bytes())))
}

/// Return the folders in `folder`, or a few levels below it, that contain a dataset, in the order of their names.
fn datasets_in(folder: &Path, depth: usize) -> Vec<PathBuf> {
    if is_dataset(folder) {
        return vec![folder.to_owned()];
    }
    if depth == 0 {
        return Vec::new();
    }
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut below: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        // macOS adds a folder of its own to archives.
        .filter(|path| path.is_dir() && !path.ends_with("__MACOSX"))
        .collect();
    below.sort();
    below
        .iter()
        .flat_map(|path| datasets_in(path, depth - 1))
        .collect()
}

fn extract(path: &Path, file: File, folder: &Path) -> Result<(), DatasetError> {
    let refused = |message: String| DatasetError::File {
        path: path.to_owned(),
        message,
    };
    let damaged = |error: &dyn std::fmt::Display| {
        refused(format!(
            "is not a zip archive that can be read ({}): download it again, or unpack it and give the folder",
            one_line(&error.to_string())
        ))
    };
    let packed = file
        .metadata()
        .map_err(|e| DatasetError::read(path, e))?
        .len();
    let mut archive = ZipArchive::new(file).map_err(|e| damaged(&e))?;
    if archive.len() > MAX_ENTRIES {
        return Err(refused(format!(
            "holds {} files, but {MAX_ENTRIES} is the maximum: unpack it and give the folder",
            archive.len()
        )));
    }
    let limit = MAX_BYTES.min(FREE_BYTES + MAX_RATIO * packed);
    let too_large = || {
        refused(format!(
            "would take more than {} unpacked: unpack it and give the folder if you trust it",
            bytes(limit)
        ))
    };
    std::fs::create_dir_all(folder).map_err(|e| {
        refused(format!(
            "cannot be unpacked to {} ({e}): name another folder in the environment variable {CACHE}, or unpack it and give the folder",
            shown(folder)
        ))
    })?;
    let mut total = 0;
    let mut has_links = false;
    let mut buffer = vec![0; 1 << 16];
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| damaged(&e))?;
        let Some(name) = entry.enclosed_name() else {
            return Err(refused(format!(
                "holds the file {}, which would lie outside of its folder: do not trust it",
                one_line(
                    &entry
                        .name()
                        .map_or_else(|_| i.to_string(), std::borrow::Cow::into_owned)
                )
            )));
        };
        let target = folder.join(name);
        if entry.is_dir() {
            std::fs::create_dir_all(&target).map_err(|e| DatasetError::write(&target, e))?;
            continue;
        }
        // Links could lead out of the folder.
        if entry.is_symlink() {
            has_links = true;
            continue;
        }
        let above = target.parent().unwrap_or(folder);
        std::fs::create_dir_all(above).map_err(|e| DatasetError::write(above, e))?;
        let mut output = File::create(&target).map_err(|e| DatasetError::write(&target, e))?;
        // The sizes that an archive declares may be wrong.
        loop {
            let n = entry.read(&mut buffer).map_err(|e| damaged(&e))?;
            if n == 0 {
                break;
            }
            total += n as u64;
            if total > limit {
                return Err(too_large());
            }
            output
                .write_all(&buffer[..n])
                .map_err(|e| DatasetError::write(&target, e))?;
        }
    }
    for name in [LINKS, COMPLETE] {
        let marker = folder.join(name);
        if name == COMPLETE || has_links {
            std::fs::write(&marker, b"").map_err(|e| DatasetError::write(&marker, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::dataset::Dataset;
    use crate::dataset::tests::{Scene, refused};

    /// Write an archive of files with these names and contents.
    fn archive(path: &Path, files: &[(&str, Vec<u8>)]) {
        let mut writer = ZipWriter::new(File::create(path).unwrap());
        for (name, content) in files {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn other_datasets_and_missing_poses_are_told() {
        let scene = Scene::new(2);
        scene.open().unwrap();
        let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
        let names = ["transforms.json", "images/0000.png", "images/0001.png"];
        let of = |folder: &str| names.map(|name| (format!("{folder}{name}"), read(name)));
        let (a, b) = (of("a/"), of("b/"));
        let files: Vec<(&str, Vec<u8>)> = a
            .iter()
            .chain(&b)
            .map(|(name, bytes)| (name.as_str(), bytes.clone()))
            .collect();
        let (path, base) = (scene.path("two.zip"), scene.path("cache"));
        archive(&path, &files);
        let found = unpack_below(&path, &base).unwrap();
        assert!(found.dataset.ends_with("a"), "{found:?}");
        assert!(
            found.others.len() == 1 && found.others[0].ends_with("b"),
            "{found:?}"
        );
        let photographs = scene.path("photos.zip");
        archive(&photographs, &files[1..3]);
        let told = unpack_below(&photographs, &base).unwrap_err().to_string();
        assert!(told.contains("kiln prepare"), "{told}");
        let told = unpack_below(&photographs, &path).unwrap_err().to_string();
        assert!(told.contains(CACHE), "{told}");
    }

    #[test]
    fn what_killed_unpackings_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let partial = |name: &str| folder.path().join(format!("{name}{PARTIAL}1"));
        for name in ["old", "new"] {
            std::fs::create_dir(partial(name)).unwrap();
            std::fs::write(partial(name).join("a"), "").unwrap();
        }
        let past = SystemTime::now() - 2 * ABANDONED;
        for path in [partial("old").join("a"), partial("old"), partial("new")] {
            File::open(path).unwrap().set_modified(past).unwrap();
        }
        remove_abandoned(folder.path());
        assert!(!partial("old").exists() && partial("new").exists());
    }

    #[test]
    fn the_dataset_in_an_archive_is_unpacked_once() {
        let scene = Scene::new(2);
        scene.open().unwrap();
        let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
        let names = ["transforms.json", "images/0000.png", "images/0001.png"];
        let files = names.map(|name| (format!("outer/desk/{name}"), read(name)));
        let files: Vec<(&str, Vec<u8>)> =
            files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        let (path, base) = (scene.path("desk.zip"), scene.path("cache"));
        archive(&path, &files);
        let folder = unpack_below(&path, &base).unwrap().dataset;
        assert!(folder.ends_with("outer/desk"), "{}", folder.display());
        let dataset = Dataset::open(&folder).unwrap();
        assert_eq!((dataset.train.len(), dataset.test.len()), (1, 1));
        // The second time, nothing is written.
        std::fs::write(folder.join("mark"), b"").unwrap();
        assert_eq!(unpack_below(&path, &base).unwrap().dataset, folder);
        assert!(folder.join("mark").exists());
        assert_eq!(base.read_dir().unwrap().count(), 1);
        // What is deleted is unpacked again.
        std::fs::remove_dir_all(&folder).unwrap();
        let again = unpack_below(&path, &base).unwrap();
        assert_eq!((again.dataset, again.has_links), (folder, false));
        assert_eq!(base.read_dir().unwrap().count(), 1);
    }

    #[test]
    fn harmful_archives_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, base) = (folder.path().join("a.zip"), folder.path().join("cache"));
        archive(&path, &[("../outside.txt", vec![1])]);
        refused(
            unpack_below(&path, &base),
            &["a.zip", "outside.txt", "outside of its folder"],
        );
        assert!(!folder.path().join("outside.txt").exists());
        // 300 MiB of zeros in 300 KiB.
        archive(&path, &[("zeros", vec![0; 300 << 20])]);
        refused(
            unpack_below(&path, &base),
            &["a.zip", "would take more than"],
        );
        std::fs::write(&path, b"PK\x03\x04 and then nothing").unwrap();
        refused(unpack_below(&path, &base), &["a.zip", "zip archive"]);
        archive(&path, &[("readme.txt", vec![1])]);
        refused(
            unpack_below(&path, &base),
            &["a.zip", "looked for a dataset"],
        );
        let left = base.read_dir().unwrap().flatten();
        assert!(
            left.into_iter()
                .all(|entry| entry.path().join(COMPLETE).exists())
        );
    }
}
