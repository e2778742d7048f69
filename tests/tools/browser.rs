//! The browser that some tests use.

use std::path::PathBuf;

use crate::tools::is_here;

/// Return the path of a browser; `None` if none is installed.
pub fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("KILN_CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut all = names
        .iter()
        .flat_map(|n| places.iter().map(move |p| p.join(n)));
    let found = all.find(|p| p.is_file());
    is_here("chromium", found.is_some());
    found
}
