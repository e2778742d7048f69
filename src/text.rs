//! Text for messages: counts, sizes, and text from files on one line.

use std::borrow::Cow;
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

/// Convert a text file in UTF-8 or UTF-16, with or without a byte-order mark, to UTF-8. UTF-8 input is not validated.
///
/// The text should start with an ASCII character, as JSON does: without a mark, the zeros among the first bytes show the encoding
/// (RFC 4627, section 3).
///
/// # Errors
/// A one-line message for UTF-32 or damaged UTF-16.
pub(crate) fn utf8(bytes: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    type Unit = fn([u8; 2]) -> u16;
    let little: Unit = u16::from_le_bytes;
    let big: Unit = u16::from_be_bytes;
    let (rest, unit) = match bytes {
        [0, 0, 0, 0, ..] => return Ok(Cow::Borrowed(bytes)),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [_, 0, 0, 0, ..] | [0, 0, 0, _, ..] => {
            return Err("is UTF-32 text: save it as UTF-8");
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => return Ok(Cow::Borrowed(rest)),
        [0xff, 0xfe, rest @ ..] => (rest, little),
        [0xfe, 0xff, rest @ ..] => (rest, big),
        [0, 1..=255, ..] => (bytes, big),
        [1..=255, 0, ..] => (bytes, little),
        _ => return Ok(Cow::Borrowed(bytes)),
    };
    let (pairs, left) = rest.as_chunks::<2>();
    let text: Result<String, _> =
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match text {
        Ok(text) if left.is_empty() => Ok(Cow::Owned(text.into_bytes())),
        _ => Err("is UTF-16 text that is damaged: save it as UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_of_a_text_is_read_or_named() {
        let text = "{\"ä\": \"𝄞\"}";
        let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
        let with = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        for bytes in [
            text.as_bytes().to_vec(),
            with(b"\xef\xbb\xbf", text.as_bytes()),
            with(b"\xff\xfe", &little),
            with(b"\xfe\xff", &big),
            little.clone(),
            big,
        ] {
            assert_eq!(*utf8(&bytes).unwrap(), *text.as_bytes(), "{bytes:?}");
        }
        assert!(utf8(&little[..little.len() - 1]).is_err_and(|e| e.contains("damaged")));
        // Half of a surrogate pair.
        assert!(utf8(b"{\0\x34\xd8").is_err_and(|e| e.contains("damaged")));
        assert!(utf8(b"{\0\0\0}\0\0\0").is_err_and(|e| e.contains("UTF-32")));
        for short in [&b""[..], b"{", b"\0", b"\xff", b"\xef\xbb"] {
            assert_eq!(*utf8(short).unwrap(), *short);
        }
        assert_eq!(*utf8(b"\xff\xfe").unwrap(), *b"");
    }
}
