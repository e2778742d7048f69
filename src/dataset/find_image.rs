//! Finds images whose files were moved or renamed after the JSON file was written.
//!
//! A name is resolved by the first of these rules that matches: as written (the extension may be missing, and slashes may be
//! backslashes); ignoring case; with another image extension; the same with as few leading folders removed as possible, which
//! resolves absolute paths of other machines; in an additional folder, such as `images/`. All rules but the first search only
//! the dataset's folder. If two files match equally well, neither is used. If two names resolve to the same file, the second
//! name is refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization as _;

use super::pixel_format::{SUPPORTED_EXTENSIONS, UNSUPPORTED_EXTENSIONS, extension, is_image};
use crate::text::{escaped, shown};

/// Maximum number of files listed in a message if several match.
const MAX_LISTED: usize = 3;
/// The most common name of a folder of images.
const IMAGES: &str = "images";

/// The rule by which a name was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchRule {
    /// As written, except for a missing extension.
    Exact,
    /// As written, with the first of several possible extensions.
    FirstOfSeveral,
    /// Letters differ in case.
    Case,
    /// With another extension.
    Extension,
    /// Without leading folders.
    PathSuffix,
    /// In an additional folder.
    Subfolder,
}

/// The file that a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub path: PathBuf,
    pub how: MatchRule,
}

/// The reason why a name is not resolved although files match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous(pub String);

/// Cached folder listings, and the names resolved so far.
#[derive(Debug, Default)]
pub(super) struct Finder {
    folders: HashMap<PathBuf, Listing>,
    /// For each file that was found by a guess, the name that resolved to it.
    guessed: HashMap<PathBuf, String>,
}

/// The names in a folder.
#[derive(Debug, Default)]
struct Listing {
    /// Files by lower-case name.
    files: HashMap<String, Vec<String>>,
    /// Images by lower-case name without extension.
    stems: HashMap<String, Vec<String>>,
    /// Folders by lower-case name.
    folders: HashMap<String, Vec<String>>,
}

impl Listing {
    fn read(folder: &Path) -> Self {
        let mut listing = Self::default();
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            let lower = folded(&name);
            if path.is_dir() {
                listing.folders.entry(lower).or_default().push(name);
                continue;
            }
            // Skip dangling links.
            if !path.exists() {
                continue;
            }
            if is_image(&path) {
                let stem = without_extension(&lower).to_owned();
                listing.stems.entry(stem).or_default().push(name.clone());
            }
            listing.files.entry(lower).or_default().push(name);
        }
        let lists = [&mut listing.files, &mut listing.stems, &mut listing.folders];
        for names in lists.into_iter().flat_map(HashMap::values_mut) {
            names.sort();
        }
        listing
    }
}

/// Normalise a name for comparison: lower case, and composed accents (Unicode NFC), because macOS file systems decompose
/// accents.
fn folded(name: &str) -> String {
    name.nfc().flat_map(char::to_lowercase).collect()
}

fn is_read(name: &str) -> bool {
    SUPPORTED_EXTENSIONS.contains(&extension(Path::new(name)).as_str())
}

/// Return a name without its image extension (in any case), if it has one.
pub(super) fn without_extension(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, _)) if is_image(Path::new(name)) => stem,
        _ => name,
    }
}

impl Finder {
    /// Find the image that `file_path`, relative to `root`, refers to.
    pub fn find(&mut self, root: &Path, file_path: &str) -> Result<Option<Match>, Ambiguous> {
        if let Some(path) = as_written(root, file_path) {
            let readable = self.find_supported_sibling(&path)?;
            let how = self.ending_of(&path, file_path);
            return Ok(Some(readable.unwrap_or(Match { path, how })));
        }
        let parts = inside(file_path);
        let Some(mut found) = self.guess(root, &parts)? else {
            return Ok(None);
        };
        if parts.join("/") != normalised(file_path) {
            found.how = found.how.max(MatchRule::PathSuffix);
        }
        if found.how >= MatchRule::PathSuffix {
            let name = file_path.replace('\\', "/");
            let first = self.guessed.entry(found.path.clone()).or_insert(name);
            if *first != file_path.replace('\\', "/") {
                return Err(Ambiguous(format!(
                    "the file does not exist, and its only match, {}, is already used for {first:?}: correct the paths in the file",
                    shown(&found.path)
                )));
            }
        }
        Ok(Some(found))
    }

    /// Return the image in the folder of `image` whose name is `prefix` followed by the stem of `image`.
    pub fn beside(&mut self, image: &Path, prefix: &str) -> Option<PathBuf> {
        let (folder, stem) = (image.parent()?, image.file_stem()?);
        let name = folded(&format!("{prefix}{}", stem.to_string_lossy()));
        let names = self.listing(folder).stems.get(&name)?;
        Some(folder.join(names.first()?))
    }

    fn listing(&mut self, folder: &Path) -> &Listing {
        self.folders
            .entry(folder.to_owned())
            .or_insert_with(|| Listing::read(folder))
    }

    /// Return whether `path` is one of several images that match `file_path`, which has no extension. `OpenEXR` files beside
    /// other images do not count: they contain data other than colour.
    fn ending_of(&mut self, path: &Path, file_path: &str) -> MatchRule {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return MatchRule::Exact;
        };
        let name = name.to_string_lossy();
        if normalised(file_path).ends_with(&*name) {
            return MatchRule::Exact;
        }
        let stem = folded(without_extension(&name));
        let is_other = |other: &&String| is_read(other) && extension(Path::new(other)) != "exr";
        let twins = self.listing(folder).stems.get(&stem);
        if twins.is_some_and(|names| names.iter().filter(is_other).count() > 1) {
            MatchRule::FirstOfSeveral
        } else {
            MatchRule::Exact
        }
    }

    /// Find the supported image beside an `image` in an unsupported format, such as one created by a converter.
    fn find_supported_sibling(&mut self, image: &Path) -> Result<Option<Match>, Ambiguous> {
        let (Some(folder), Some(name)) = (image.parent(), image.file_name()) else {
            return Ok(None);
        };
        if !UNSUPPORTED_EXTENSIONS.contains(&extension(image).as_str()) {
            return Ok(None);
        }
        let name = name.to_string_lossy();
        let found = self.with_other_ending(folder, without_extension(&name))?;
        Ok(found.filter(|found| is_read(&found.path.to_string_lossy())))
    }

    /// Find the best inexact match in `root` for the folders and file name in `parts`.
    fn guess(&mut self, root: &Path, parts: &[&str]) -> Result<Option<Match>, Ambiguous> {
        for start in 0..parts.len() {
            let Some((name, folders)) = parts[start..].split_last() else {
                break;
            };
            let Some(folder) = self.folder(root, folders)? else {
                continue;
            };
            if let Some(mut found) = self.in_folder(&folder, name)? {
                if start > 0 {
                    found.how = MatchRule::PathSuffix;
                }
                return Ok(Some(found));
            }
        }
        // Try an additional folder: below any existing prefix of the folders, and in `images/` for the file name alone.
        let Some((name, folders)) = parts.split_last() else {
            return Ok(None);
        };
        for known in (0..=folders.len()).rev() {
            let (before, after) = folders.split_at(known);
            if let Some(folder) = self.folder(root, before)?
                && let Some(found) = self.in_subfolder(&folder, after, name)?
            {
                return Ok(Some(found));
            }
        }
        let alone = self.folder(root, &[IMAGES])?;
        let found = alone.map(|folder| self.in_folder(&folder, name));
        Ok(found.transpose()?.flatten().map(|found| Match {
            how: MatchRule::Subfolder,
            ..found
        }))
    }

    /// Find the file `*/after/name` in `folder`: in the subfolder `images`, else in the only subfolder that has such a file.
    fn in_subfolder(
        &mut self,
        folder: &Path,
        after: &[&str],
        name: &str,
    ) -> Result<Option<Match>, Ambiguous> {
        let mut names: Vec<String> = self
            .listing(folder)
            .folders
            .values()
            .flatten()
            .cloned()
            .collect();
        names.sort();
        let mut fitting = Vec::new();
        for sub in names {
            let Some(inner) = self.folder(&folder.join(&sub), after)? else {
                continue;
            };
            if let Some(found) = self.in_folder(&inner, name)? {
                let how = MatchRule::Subfolder;
                let found = Match { how, ..found };
                if sub == IMAGES {
                    return Ok(Some(found));
                }
                fitting.push(found);
            }
        }
        one_of(fitting)
    }

    /// Find the folder `parts` in `root`, ignoring case.
    fn folder(&mut self, root: &Path, parts: &[&str]) -> Result<Option<PathBuf>, Ambiguous> {
        let mut folder = root.to_owned();
        for part in parts {
            let Some(names) = self.listing(&folder).folders.get(&folded(part)) else {
                return Ok(None);
            };
            let exact = names.iter().find(|name| name == part);
            let name = match (exact, names.as_slice()) {
                (Some(name), _) | (None, [name]) => name.clone(),
                (None, several) => return Err(several_fit(&folder, several)),
            };
            folder.push(name);
        }
        Ok(Some(folder))
    }

    /// Find the file `name` in `folder`, ignoring case, else with another extension.
    fn in_folder(&mut self, folder: &Path, name: &str) -> Result<Option<Match>, Ambiguous> {
        let listing = self.listing(folder);
        if let Some(names) = listing.files.get(&folded(name)) {
            let how = |found: &str| {
                if found == name {
                    MatchRule::Exact
                } else {
                    MatchRule::Case
                }
            };
            let found = names.iter().find(|found| *found == name);
            return match (found, names.as_slice()) {
                (Some(found), _) | (None, [found]) => {
                    let (path, how) = (folder.join(found), how(found));
                    let readable = self.find_supported_sibling(&path)?;
                    Ok(Some(readable.unwrap_or(Match { path, how })))
                }
                (None, several) => Err(several_fit(folder, several)),
            };
        }
        self.with_other_ending(folder, without_extension(name))
    }

    /// Find the image in `folder` whose name without extension is `stem`, ignoring case. Supported formats are preferred to
    /// unsupported ones, and the exact case to another.
    fn with_other_ending(&mut self, folder: &Path, stem: &str) -> Result<Option<Match>, Ambiguous> {
        let Some(names) = self.listing(folder).stems.get(&folded(stem)) else {
            return Ok(None);
        };
        let is_exact = |name: &&String| without_extension(name) == stem;
        let tiers: [&dyn Fn(&&String) -> bool; 4] = [
            &|name| is_read(name) && is_exact(name),
            &|name| is_read(name),
            &is_exact,
            &|_| true,
        ];
        for tier in tiers {
            let fitting: Vec<&String> = names.iter().filter(tier).collect();
            let matches = fitting.into_iter().map(|name| Match {
                path: folder.join(name),
                how: MatchRule::Extension,
            });
            if let Some(found) = one_of(matches.collect())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Return the only match, if any; several are an error.
fn one_of(mut fitting: Vec<Match>) -> Result<Option<Match>, Ambiguous> {
    if fitting.len() > 1 {
        let paths: Vec<String> = fitting.iter().map(|found| shown(&found.path)).collect();
        return Err(several(&paths));
    }
    Ok(fitting.pop())
}

fn several_fit(folder: &Path, names: &[String]) -> Ambiguous {
    let paths: Vec<String> = names.iter().map(|name| shown(&folder.join(name))).collect();
    several(&paths)
}

fn several(paths: &[String]) -> Ambiguous {
    let more = paths.len().saturating_sub(MAX_LISTED);
    let listed = paths[..paths.len() - more].join(" and ");
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Ambiguous(format!(
        "the file does not exist, and {listed}{more} match equally well: correct the paths in the file"
    ))
}

/// Return the existing file that `file_path` names exactly, with or without its extension and with either kind of slash.
pub(super) fn as_written(root: &Path, file_path: &str) -> Option<PathBuf> {
    let candidates = |file_path: &str| {
        let path = root.join(without_dot(file_path));
        let upper = SUPPORTED_EXTENSIONS.map(str::to_uppercase);
        let endings = SUPPORTED_EXTENSIONS
            .into_iter()
            .map(str::to_owned)
            .chain(upper);
        let extended: Vec<PathBuf> = endings
            .map(|ending| {
                let mut path = path.clone().into_os_string();
                path.push(".");
                path.push(ending);
                PathBuf::from(path)
            })
            .collect();
        std::iter::once(path)
            .chain(extended)
            .find(|path| path.is_file())
    };
    candidates(file_path).or_else(|| candidates(&file_path.replace('\\', "/")))
}

/// Return the components of `file_path` below its root: without drive, root, "." and "..".
fn inside(file_path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in file_path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            // ".." cancels the folder before it.
            ".." => drop(parts.pop()),
            part if part.ends_with(':') => parts.clear(),
            part => parts.push(part),
        }
    }
    parts
}

/// Return `file_path` with forward slashes and without a leading "./".
pub(super) fn normalised(file_path: &str) -> String {
    without_dot(&file_path.replace('\\', "/")).to_owned()
}

pub(super) fn without_dot(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    path
}

/// Return a frame's name: its normalised path without an image extension.
pub(super) fn frame_name(file_path: &str) -> String {
    escaped(without_extension(&normalised(file_path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Create a folder with empty files.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    /// Return the file that `name` resolves to in `folder`, and the rule that matched.
    fn found(folder: &tempfile::TempDir, name: &str) -> Option<(String, MatchRule)> {
        let found = Finder::default().find(folder.path(), name).unwrap()?;
        let path = found.path.strip_prefix(folder.path()).unwrap();
        let path = path.to_string_lossy().replace('\\', "/");
        Some((path, found.how))
    }

    fn refused(folder: &tempfile::TempDir, name: &str) -> String {
        Finder::default().find(folder.path(), name).unwrap_err().0
    }

    #[test]
    fn exact_goes_before_case_before_ending_before_tail() {
        let all = folder(&["images/a.png", "images/A.PNG", "images/a.jpg", "a.png"]);
        let is = |name: &str, path: &str, how| {
            assert_eq!(found(&all, name), Some((path.to_owned(), how)), "{name}");
        };
        is("images/a.png", "images/a.png", MatchRule::Exact);
        is("./images\\a.png", "images/a.png", MatchRule::Exact);
        is("images/A.PNG", "images/A.PNG", MatchRule::Exact);
        is("Images/a.png", "images/a.png", MatchRule::Exact);
        is("images/a.JPG", "images/a.jpg", MatchRule::Case);
        is("other/a.png", "a.png", MatchRule::PathSuffix);
        is(
            "/home/x/set/images/a.jpg",
            "images/a.jpg",
            MatchRule::PathSuffix,
        );
        is(
            "C:\\Users\\x\\images\\a.png",
            "images/a.png",
            MatchRule::PathSuffix,
        );
        is("../../images/a.png", "images/a.png", MatchRule::PathSuffix);
        is("images/a", "images/a.png", MatchRule::FirstOfSeveral);
        // Both `a.png` and `A.PNG` match in another case.
        assert!(refused(&all, "images/a.Png").contains("A.PNG"));
    }

    #[test]
    fn accents_are_the_same_composed_and_taken_apart() {
        let set = folder(&["images/pho\u{301}to\u{308} 0.png"]);
        let (path, how) = found(&set, "images/ph\u{f3}t\u{f6} 0.png").unwrap();
        assert_eq!(
            (path.as_str(), how),
            ("images/pho\u{301}to\u{308} 0.png", MatchRule::Case)
        );
        assert!(found(&set, "images/photo 0.png").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_nowhere_are_not_there() {
        let set = folder(&["images/a.png"]);
        std::os::unix::fs::symlink("gone.png", set.path().join("images/b.png")).unwrap();
        assert_eq!(found(&set, "images/b.png"), None);
        assert!(found(&set, "images/a.png").is_some());
    }

    #[test]
    fn endings_of_images_stand_for_each_other_where_one_fits() {
        let set = folder(&[
            "x/IMG_1.JPG",
            "x/IMG_2.jpeg",
            "x/3.jpg",
            "x/3.webp",
            "x/4.HEIC",
            "x/5.heic",
            "x/5.jpg",
        ]);
        let is = |name: &str, path: &str, how| {
            assert_eq!(found(&set, name), Some((path.to_owned(), how)), "{name}");
        };
        is("x/IMG_1.jpg", "x/IMG_1.JPG", MatchRule::Case);
        is("X/img_1.png", "x/IMG_1.JPG", MatchRule::Extension);
        is("x/IMG_2.png", "x/IMG_2.jpeg", MatchRule::Extension);
        let text = refused(&set, "x/3.png");
        assert!(text.contains("3.jpg") && text.contains("3.webp"), "{text}");
        is("x/4.jpg", "x/4.HEIC", MatchRule::Extension);
        // A converted image beside it is preferred, because it can be read.
        is("x/5.heic", "x/5.jpg", MatchRule::Extension);
        assert_eq!(found(&set, "x/6.jpg"), None);
        // An extension that is not an image's is part of the name.
        assert_eq!(found(&set, "x/3.txt"), None);
    }

    #[test]
    fn a_folder_between_is_found_where_one_fits() {
        let set = folder(&[
            "images/0.png",
            "train/images/1.png",
            "images_2/2.png",
            "masks/2.png",
        ]);
        let is = |name: &str, path: &str| {
            assert_eq!(
                found(&set, name),
                Some((path.to_owned(), MatchRule::Subfolder)),
                "{name}"
            );
        };
        is("0.png", "images/0.png");
        is("train/1.png", "train/images/1.png");
        is("D:\\somewhere\\0.png", "images/0.png");
        let text = refused(&set, "2.png");
        assert!(
            text.contains("images_2") && text.contains("masks"),
            "{text}"
        );
    }

    #[test]
    fn two_names_do_not_lead_to_one_file() {
        let set = folder(&["0.png"]);
        let mut finder = Finder::default();
        let mut find = |name: &str| finder.find(set.path(), name);
        assert!(find("/data/train/0.png").unwrap().is_some());
        assert!(find("/data/train/0.png").unwrap().is_some());
        let text = find("/data/test/0.png").unwrap_err().0;
        assert!(text.contains("/data/train/0.png"), "{text}");
    }

    #[test]
    fn guesses_stay_in_the_folder() {
        let outer = folder(&["secret.JPG", "set/a.png"]);
        let find = |name: &str| {
            Finder::default()
                .find(&outer.path().join("set"), name)
                .unwrap()
        };
        assert!(find("../secret.jpg").is_none());
        assert!(find("../set/../secret.png").is_none());
        // A path that exists exactly as written is used, even outside the folder.
        assert!(find("../secret.JPG").is_some());
    }
}
