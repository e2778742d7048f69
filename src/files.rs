//! Reading of regular files only, and atomic replacement of files.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The first bytes of a Git LFS pointer file.
pub const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// Advice on a Git LFS pointer file.
pub const LFS_ADVICE: &str =
    "it is a pointer of Git LFS in place of the file: fetch the file with git lfs pull";

/// Read a whole regular file of at most `limit` bytes. Devices and pipes are refused, since they might never end.
///
/// # Errors
/// An error of the file system; [`std::io::ErrorKind::FileTooLarge`] above the limit, `InvalidInput` for other than regular
/// files, `InvalidData` for Git LFS pointers.
pub fn read_file(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file = open_file(path)?;
    if file.metadata()?.len() > limit {
        let text = format!("it is larger than {} MiB", limit >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text));
    }
    let mut bytes = Vec::new();
    // Some files, such as those in /proc, are longer than their metadata says.
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.starts_with(LFS_POINTER) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            LFS_ADVICE,
        ));
    }
    Ok(bytes)
}

/// Read at most the first `n` bytes of a regular file.
pub fn read_start(path: &Path, n: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(n);
    open_file(path)?.take(n as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Return the files in `folder` for which `is_wanted` holds, sorted by name.
pub(crate) fn files_in(folder: &Path, is_wanted: fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| is_wanted(path))
        .collect();
    files.sort();
    files
}

/// Open a regular file for reading. Devices and pipes are refused, since opening one could block for ever.
pub fn open_file(path: &Path) -> std::io::Result<File> {
    check_regular(&path.metadata()?)?;
    File::open(path)
}

/// Open a regular file for appending, creating it if it does not exist. Devices and pipes are refused.
pub fn append_to_file(path: &Path) -> std::io::Result<File> {
    match path.metadata() {
        Ok(data) => check_regular(&data)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::options().create(true).append(true).open(path)
}

/// Return the parent that the path names, else that of the current folder.
#[must_use]
pub fn parent(of: &Path) -> PathBuf {
    match of.parent() {
        _ if of.file_name().is_none() => of.join(".."),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn check_regular(data: &std::fs::Metadata) -> std::io::Result<()> {
    if data.is_file() {
        return Ok(());
    }
    let text = "it is not a regular file";
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text))
}

/// Sync the parent folder, so that a rename survives a power failure, on systems that can sync folders.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if cfg!(unix)
        && let Ok(folder) = File::open(folder.unwrap_or(Path::new(".")))
    {
        let _ = folder.sync_all();
    }
}

/// Replace a file atomically: at any moment it has either the old or the new content.
pub fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)?;
        sync_folder(path);
        Ok(())
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&partial);
    })
}
