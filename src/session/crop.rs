//! Removes what lies outside a box from a run.

use std::path::{Path, PathBuf};

use super::{Error, Result, advice, open};
use crate::aabb::Aabb;
use crate::files::replace_file;
use crate::run::{RunDir, RunError};

/// A run without what lies outside a box.
#[derive(Debug)]
pub(crate) struct CroppedRun {
    pub(crate) path: PathBuf,
    /// Numbers of occupied cells before and after.
    pub(crate) cells: [u64; 2],
}

/// Write a copy of `run` in which nothing lies outside `crop`, beside it. The cells of its occupancy grid outside are empty, so
/// that they are not rendered.
pub(crate) fn crop_run(run: &Path, crop: &Aabb) -> Result<CroppedRun> {
    let checkpoint = advice::open_checkpoint(&open::rendered(run))?;
    let config = &checkpoint.info.config;
    if config.occupancy.is_none() || config.scene.ndc.is_some() {
        return Err(Error::usage(format!(
            "{}: its method has no occupancy grid in world space, so nothing can be removed: kiln render --crop leaves it out",
            run.display()
        )));
    }
    let (bytes, cells) = checkpoint.cropped(crop)?;
    if cells[1] == 0 {
        return Err(Error::usage(
            "nothing of the scene lies inside the crop box: enlarge it",
        ));
    }
    if cells[1] == cells[0] {
        return Err(Error::usage(
            "nothing of the scene lies outside the crop box: make it smaller",
        ));
    }
    let place = RunDir::of(run).path().canonicalize()?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let names = (1..10_000).map(|n| match n {
        1 => format!("{name}-cropped"),
        n => format!("{name}-cropped-{n}"),
    });
    let mut paths = names.map(|name| place.with_file_name(name));
    let path = paths
        .find(|path| !path.exists())
        .ok_or_else(|| Error::usage(format!("{}: there are too many copies", place.display())))?;
    let dir = RunDir::at(&path);
    let _reservation = dir.reserve()?;
    let _lock = dir.lock()?;
    dir.create()?;
    dir.write_config(config)?;
    replace_file(&dir.checkpoint(), &bytes).map_err(|source| RunError::Io {
        path: dir.checkpoint(),
        source,
    })?;
    Ok(CroppedRun { path, cells })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_run_is_not_cropped() {
        let folder = tempfile::tempdir().unwrap();
        let crop = Aabb::new([-1.0; 3], [1.0; 3]).unwrap();
        let error = crop_run(&folder.path().join("nothing"), &crop).unwrap_err();
        assert!(error.to_string().contains("nothing"), "{error}");
        assert!(folder.path().read_dir().unwrap().next().is_none());
    }
}
