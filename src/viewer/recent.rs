//! Recently opened folders, saved between runs of the program.

use std::path::{Path, PathBuf};

/// Maximum number of entries.
const MAX_RECENT: usize = 8;

/// Recently opened folders, most recent first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Recent {
    /// File in which the list is saved, if any.
    file: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Recent {
    /// Load the user's list, `kiln/recent.json` in the system's folder for application state.
    pub fn of_user() -> Self {
        let folder = dirs::state_dir().or_else(dirs::data_local_dir);
        folder.map_or_else(Self::default, |f| Self::at(&f.join("kiln/recent.json")))
    }

    /// Load the entries of `file` that still exist; none if the file is absent or invalid.
    pub fn at(file: &Path) -> Self {
        let text = std::fs::read(file).unwrap_or_default();
        let mut folders: Vec<PathBuf> = serde_json::from_slice(&text).unwrap_or_default();
        folders.retain(|f| f.exists());
        Self {
            file: Some(file.to_owned()),
            folders,
        }
    }

    /// Return the folders, most recent first.
    pub fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.folders.iter()
    }

    /// Move `folder` to the front and save the list; errors of saving are ignored.
    pub fn add(&mut self, folder: &Path) {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        self.folders.retain(|f| *f != folder);
        self.folders.insert(0, folder);
        self.folders.truncate(MAX_RECENT);
        if let Some(file) = &self.file
            && let Ok(text) = serde_json::to_vec_pretty(&self.folders)
            && let Some(parent) = file.parent()
            && std::fs::create_dir_all(parent).is_ok()
        {
            let _ = crate::files::replace_file(file, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_once_each() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("state/recent.json");
        let mut recent = Recent::at(&file);
        for i in 0..12 {
            let run = folder.path().join(format!("run-{}", i % 10));
            std::fs::create_dir_all(&run).unwrap();
            recent.add(&run);
        }
        assert_eq!(Recent::at(&file), recent);
        let names: Vec<_> = recent.folders().map(|f| f.file_name().unwrap()).collect();
        assert_eq!(names.len(), MAX_RECENT);
        assert_eq!(names[..3], ["run-1", "run-0", "run-9"]);
        std::fs::remove_dir(folder.path().join("run-0")).unwrap();
        assert_eq!(Recent::at(&file).folders().count(), MAX_RECENT - 1);
        std::fs::write(&file, "what?").unwrap();
        assert_eq!(Recent::at(&file).folders().count(), 0);
    }
}
