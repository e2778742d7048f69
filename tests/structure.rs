//! The module structure that ARCHITECTURE.md specifies: which modules may use which, and no dependency cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, UseTree};

/// Return the Rust files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// The names that a file uses from the crate and from other crates.
struct Names {
    /// The module that is being visited, as a path from the crate root.
    place: Vec<String>,
    /// Paths from the crate root.
    own: BTreeSet<Vec<String>>,
    /// First segments of all other paths.
    others: BTreeSet<String>,
    /// Macros that are called.
    macros: BTreeSet<String>,
}

impl Names {
    /// Add a path as it is written in the source.
    fn add(&mut self, path: &[String]) {
        let mut place = self.place.clone();
        match path[0].as_str() {
            "crate" => place.clear(),
            "self" => {}
            "super" => {
                place.pop();
            }
            first => {
                self.others.insert(first.to_owned());
                return;
            }
        }
        for segment in &path[1..] {
            if segment == "super" {
                place.pop();
            } else {
                place.push(segment.clone());
            }
        }
        self.own.insert(place);
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let mut path = before.to_vec();
        match tree {
            UseTree::Path(p) => {
                path.push(p.ident.to_string());
                self.add_tree(&p.tree, &path);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before);
                }
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.add(&path);
            }
            UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.add(&path);
            }
            UseTree::Glob(_) => self.add(&path),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let text = |a: &Attribute| match &a.meta {
        syn::Meta::List(list) => list.tokens.to_string(),
        _ => String::new(),
    };
    attributes
        .iter()
        .any(|a| a.path().is_ident("cfg") && text(a) == "test")
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if is_for_tests(&module.attrs) {
            return;
        }
        self.place.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.place.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = call.path.segments.last();
        self.macros.extend(name.map(|s| s.ident.to_string()));
        visit::visit_macro(self, call);
    }
}

/// Return the module of each file of the library, and the names that it uses.
fn tree() -> Vec<(Vec<String>, Names)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    for path in files(&root) {
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Vec<String> = relative
            .components()
            .map(|c| c.as_os_str().to_str().unwrap().to_owned())
            .collect();
        // Skip the program and test modules.
        if module == ["main"] || module.last().is_some_and(|m| m == "tests") {
            continue;
        }
        if module.last().is_some_and(|m| m == "mod" || m == "lib") {
            module.pop();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut names = Names {
            place: module.clone(),
            own: BTreeSet::new(),
            others: BTreeSet::new(),
            macros: BTreeSet::new(),
        };
        names.visit_file(&file);
        all.push((module, names));
    }
    assert!(all.len() > 150, "{} files", all.len());
    all
}

/// For each module below `parent`, return its siblings that it or its submodules use.
fn dependencies(
    tree: &[(Vec<String>, Names)],
    parent: &[String],
) -> BTreeMap<String, BTreeSet<String>> {
    let child = |path: &[String]| path.strip_prefix(parent)?.first().cloned();
    let modules = tree.iter().filter_map(|(module, _)| child(module));
    let mut known: BTreeMap<String, BTreeSet<String>> =
        modules.map(|module| (module, BTreeSet::new())).collect();
    for (module, names) in tree {
        let Some(own) = child(module) else { continue };
        let used = names.own.iter().filter_map(|path| child(path));
        let others: Vec<String> = used
            .filter(|m| *m != own && known.contains_key(m))
            .collect();
        known.get_mut(&own).unwrap().extend(others);
    }
    known
}

/// Return the modules that are in a dependency cycle, with the modules of the cycle that they use.
fn cycles(mut left: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let n = left.len();
        // A module that uses none of the remaining ones, or that none of them uses, is in no cycle.
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, known| known.iter().any(|m| names.contains(m)));
        let used: BTreeSet<String> = left.values().flatten().cloned().collect();
        left.retain(|module, _| used.contains(module));
        if left.len() == n {
            break;
        }
    }
    let names: BTreeSet<String> = left.keys().cloned().collect();
    for known in left.values_mut() {
        known.retain(|m| names.contains(m));
    }
    left
}

#[test]
fn modules_have_no_dependency_cycles() {
    let tree = tree();
    let mut parents: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, _) in &tree {
        parents.extend((0..module.len()).map(|n| module[..n].to_vec()));
    }
    assert!(
        parents.len() > 20,
        "{} modules with submodules",
        parents.len()
    );
    let found: Vec<String> = parents
        .iter()
        .map(|parent| (parent, cycles(dependencies(&tree, parent))))
        .filter(|(_, found)| !found.is_empty())
        .map(|(parent, found)| format!("in {}: {found:?}", parent.join("::")))
        .collect();
    assert!(found.is_empty(), "cycles:\n{}", found.join("\n"));
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let known = dependencies(&tree(), &[]);
    let stages = ["compositing", "encoding", "loss", "network", "optimizer"];
    let below: [(&str, &[&str]); 15] = [
        ("gpu", &[]),
        ("aabb", &[]),
        ("config", &["aabb", "files", "text"]),
        ("files", &[]),
        ("text", &[]),
        ("random", &[]),
        ("encoding", &["config", "gpu", "network", "step_state"]),
        ("network", &["aabb", "config", "gpu", "step_state"]),
        ("compaction", &["gpu", "sampling", "step_state"]),
        ("compositing", &["config", "gpu", "loss", "step_state"]),
        ("loss", &["config", "gpu"]),
        ("optimizer", &["config", "encoding", "gpu", "network"]),
        (
            "field",
            &[
                "compositing",
                "config",
                "encoding",
                "gpu",
                "network",
                "step_state",
            ],
        ),
        ("sampling", &["aabb", "config", "gpu", "step_state"]),
        ("step_state", &["gpu"]),
    ];
    for (module, allowed) in below {
        let of = &known[module];
        let strangers: Vec<_> = of
            .iter()
            .filter(|m| !allowed.contains(&m.as_str()))
            .collect();
        assert!(strangers.is_empty(), "{module} uses {strangers:?}");
    }
    let never: [(&str, &[&str]); 9] = [
        ("cli", &["viewer"]),
        ("viewer", &["cli"]),
        ("session", &["cli", "viewer"]),
        (
            "train",
            &[
                "files",
                "checkpoint",
                "dataset",
                "eval",
                "report",
                "run",
                "session",
            ],
        ),
        (
            "render",
            &["files", "run", "checkpoint", "dataset", "session", "train"],
        ),
        (
            "distillation",
            &["files", "run", "checkpoint", "session", "train"],
        ),
        (
            "reptile",
            &["files", "run", "checkpoint", "session", "train"],
        ),
        ("checkpoint", &["report", "run", "session"]),
        ("occupancy", &["render", "session", "train"]),
    ];
    for (module, strangers) in never {
        for stranger in strangers {
            assert!(
                known.contains_key(*stranger),
                "there is no module {stranger}"
            );
            assert!(
                !known[module].contains(*stranger),
                "{module} uses {stranger}"
            );
        }
    }
    // Only the program uses its user interfaces.
    for (module, known) in &known {
        for edge in ["cli", "viewer"] {
            assert!(!known.contains(edge), "{module} uses {edge}");
        }
        if stages.contains(&module.as_str()) {
            assert!(!known.contains("field"), "{module} uses field");
        }
    }
}

#[test]
fn only_user_interfaces_use_terminals_and_windows() {
    let edges: [(&str, &[&str]); 2] = [
        (
            "cli",
            &["clap", "clap_complete", "clap_mangen", "ctrlc", "indicatif"],
        ),
        (
            "viewer",
            &["egui", "egui_plot", "egui_wgpu", "egui_winit", "winit"],
        ),
    ];
    for (module, names) in tree() {
        let own = module.first().map_or("", String::as_str);
        for (edge, crates) in edges {
            for name in crates.iter().filter(|name| names.others.contains(**name)) {
                assert_eq!(own, edge, "{module:?} uses {name}");
            }
        }
        for printing in ["println", "print", "eprintln", "eprint", "dbg"] {
            assert!(
                !names.macros.contains(printing),
                "{module:?} calls {printing}!"
            );
        }
    }
}
