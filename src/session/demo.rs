//! Writes the datasets of the demo.

use std::path::{Path, PathBuf};

use super::{Error, Observer, ObserverExt, Result, Scale};
use crate::gpu::{AdapterClass, Gpu};
use crate::scene::{DemoScene, ToyCar};

/// Return the path of the folder `name` in `out`. `out` must be empty, absent, or made by an earlier demo.
fn folder_of(out: &Path, name: &str) -> Result<PathBuf> {
    let images = out.join(name);
    let is_empty = |folder: &Path| {
        folder
            .read_dir()
            .map_or(!folder.exists(), |mut d| d.next().is_none())
    };
    if !images.is_dir() && !is_empty(out) {
        return Err(Error::usage(format!(
            "--out {}: the folder holds files that kiln demo did not make: give another folder",
            out.display()
        )));
    }
    Ok(images)
}

/// Write the dataset of the built-in scene to a folder in `out`, in a size that suits `gpu`. Return the folder.
///
/// # Errors
/// [`Error::Usage`] if `out` holds other files; another [`Error`] if it cannot be written or the device fails.
pub fn make_demo_scene(gpu: &Gpu, out: &Path, observer: &dyn Observer) -> Result<PathBuf> {
    let (size, counts) = if gpu.class() == AdapterClass::Software {
        (128, [60, 4, 8])
    } else {
        (400, [100, 10, 20])
    };
    let images = folder_of(out, "demo-scene")?;
    let n: usize = counts.iter().sum();
    let task = observer.task("making the scene", Scale::Count(n as u64));
    DemoScene::write_dataset(gpu, &images, counts, size, &|| task.increment())?;
    drop(task);
    observer.note(format!(
        "made {n} views of {size}×{size} in {}",
        images.display()
    ));
    Ok(images)
}

/// Write the datasets of the built-in toy cars to a folder in `out`, as many as suit `gpu`. Return the folder.
///
/// # Errors
/// [`Error::Usage`] if `out` holds other files; another [`Error`] if it cannot be written or the device fails.
pub fn make_demo_objects(gpu: &Gpu, out: &Path, observer: &dyn Observer) -> Result<PathBuf> {
    let (n, views, size) = if gpu.class() == AdapterClass::Software {
        (40, 16, 96)
    } else {
        (100, 25, 128)
    };
    let root = folder_of(out, "toy-cars")?;
    let task = observer.task("making toy cars", Scale::Count(u64::from(n) * views as u64));
    ToyCar::write_objects(gpu, &root, n, views, size, &|| task.increment())?;
    drop(task);
    observer.note(format!(
        "made {n} toy cars, {views} views of {size}×{size} each, in {}",
        root.display()
    ));
    Ok(root)
}
