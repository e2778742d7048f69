//! Text for messages: counts, sizes, and text from files on one line.

use std::path::Path;

/// Format a path on one line.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Format text from a file on one line of at most 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// Format a count: "1 view", "2 views".
pub(crate) fn counted(n: impl Into<u64>, what: &str) -> String {
    let n = n.into();
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Same as [`counted`], for a `usize`.
pub(crate) fn counted_len(n: usize, what: &str) -> String {
    counted(n as u64, what)
}

/// Format 1234567 as `1.23 M`, to be followed directly by a unit: small numbers end with a space too.
pub(crate) fn si(value: impl Into<f64>) -> String {
    let value: f64 = value.into();
    match value.abs() {
        v if v >= 1e9 => format!("{:.2} G", value / 1e9),
        v if v >= 1e6 => format!("{:.2} M", value / 1e6),
        v if v >= 1e4 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0} "),
    }
}

/// Format a number of bytes in MiB or GiB.
pub(crate) fn bytes(n: u64) -> String {
    let mib = n as f64 / (1024.0 * 1024.0);
    if mib >= 1024.0 {
        format!("{:.2} GiB", mib / 1024.0)
    } else {
        format!("{mib:.1} MiB")
    }
}

/// Return how similar two names are, from 0 to 1 (equal): one minus the share of edited characters.
pub(crate) fn likeness(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

/// Likeness of two names from which on one is taken for a misspelling of the other.
pub(crate) const SIMILAR: f64 = 0.7;

/// Return those of `names` that `name` may be a misspelling of, the most similar first.
pub(crate) fn similar_names<'a>(
    name: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Vec<&'a String> {
    let mut alike: Vec<(f64, &String)> = names
        .into_iter()
        .map(|known| (likeness(known, name), known))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().map(|(_, known)| known).collect()
}

/// Escape control characters and line breaks.
pub(crate) fn escaped(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if breaks(c) {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}
