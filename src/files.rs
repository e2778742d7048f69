//! Writing files whole.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

/// What a file begins with that Git leaves in place of one that it keeps elsewhere.
pub const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// What to do about such a file.
pub const LFS_ADVICE: &str =
    "it is a pointer of Git LFS in place of the file: fetch the file with git lfs pull";

/// Read a whole file of at most `limit` bytes, and no device or pipe, which might never end.
///
/// # Errors
/// Those of the file system; [`std::io::ErrorKind::FileTooLarge`] or `InvalidInput` for files that are not read, `InvalidData`
/// for pointers of Git LFS.
pub fn read_file(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file = open_file(path)?;
    if file.metadata()?.len() > limit {
        let text = format!("it is larger than {} MiB", limit >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text));
    }
    let mut bytes = Vec::new();
    // Some files, as those of /proc, are longer than they say.
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.starts_with(LFS_POINTER) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            LFS_ADVICE,
        ));
    }
    Ok(bytes)
}

/// Open a file for reading, unless it is a device or a pipe, where that could wait for ever.
pub fn open_file(path: &Path) -> std::io::Result<File> {
    check_regular(&path.metadata()?)?;
    File::open(path)
}

/// Open a file for appending, made where it is not there, with the same exceptions.
///
/// # Errors
/// As [`open_file`].
pub fn append_to_file(path: &Path) -> std::io::Result<File> {
    match path.metadata() {
        Ok(data) => check_regular(&data)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::options().create(true).append(true).open(path)
}

fn check_regular(data: &std::fs::Metadata) -> std::io::Result<()> {
    if data.is_file() {
        return Ok(());
    }
    let text = "it is not a regular file";
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text))
}

/// Make a rename last through a power cut, where the system lets folders be synced.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if cfg!(unix)
        && let Ok(folder) = File::open(folder.unwrap_or(Path::new(".")))
    {
        let _ = folder.sync_all();
    }
}

/// Write a file so that at any moment either the old or the new content is in place.
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
