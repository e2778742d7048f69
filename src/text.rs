//! Other people's text on one line of a message.

use std::path::Path;

/// A path on one line.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Text from a file, on one line of at most 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// "1 view", "2 views".
pub(crate) fn counted(n: impl Into<u64>, what: &str) -> String {
    let n = n.into();
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// As [`counted`], of what is in memory.
pub(crate) fn counted_len(n: usize, what: &str) -> String {
    counted(n as u64, what)
}

/// Text with control characters and line breaks escaped.
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
