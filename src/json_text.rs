//! The text of JSON files as people's programs write it: with a byte-order mark, in UTF-16, with comments.

use std::borrow::Cow;

/// The UTF-8 text of a JSON file, which is UTF-8 or UTF-16, with a byte-order mark or without; it may still not be valid.
///
/// JSON begins with an ASCII character, so that the zeros among the first bytes tell what has no mark (RFC 4627, section 3).
///
/// # Errors
/// One line on a text in UTF-32, or in damaged UTF-16.
pub(crate) fn decoded(bytes: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    type Unit = fn([u8; 2]) -> u16;
    let little: Unit = u16::from_le_bytes;
    let big: Unit = u16::from_be_bytes;
    let (rest, unit) = match bytes {
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

/// The text with its comments, `// …` to the end of the line and `/* … */`, made spaces, so that no place in it changes.
/// A comment without end stays.
pub(crate) fn without_comments(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(text);
    let (mut at, mut in_text) = (0, false);
    while at < text.len() {
        let end = match text[at..] {
            [b'\\', ..] if in_text => {
                at += 2;
                continue;
            }
            [b'"', ..] => {
                in_text = !in_text;
                None
            }
            [b'/', b'/', ..] if !in_text => {
                let end = text[at..].iter().position(|b| matches!(b, b'\n' | b'\r'));
                Some(end.map_or(text.len(), |n| at + n))
            }
            [b'/', b'*', ref rest @ ..] if !in_text => {
                let end = rest.windows(2).position(|pair| pair == b"*/");
                end.map(|n| at + 2 + n + 2)
            }
            _ => None,
        };
        let Some(end) = end else {
            at += 1;
            continue;
        };
        for byte in &mut out.to_mut()[at..end] {
            if !matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        at = end;
    }
    out
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
            assert_eq!(*decoded(&bytes).unwrap(), *text.as_bytes(), "{bytes:?}");
        }
        assert!(decoded(&little[..little.len() - 1]).is_err_and(|e| e.contains("damaged")));
        // Half of a pair of surrogates.
        assert!(decoded(b"{\0\x34\xd8").is_err_and(|e| e.contains("damaged")));
        assert!(decoded(b"{\0\0\0}\0\0\0").is_err_and(|e| e.contains("UTF-32")));
        for short in [&b""[..], b"{", b"\0", b"\xff", b"\xef\xbb"] {
            assert_eq!(*decoded(short).unwrap(), *short);
        }
        assert_eq!(*decoded(b"\xff\xfe").unwrap(), *b"");
    }

    #[test]
    fn comments_become_spaces() {
        let is = |text: &str, expected: &str| {
            let found = without_comments(text.as_bytes());
            assert_eq!(std::str::from_utf8(&found).unwrap(), expected);
        };
        is("{} // end", "{}       ");
        is("{// a\n\"b\": 1}", "{    \n\"b\": 1}");
        is("[1, /* a\n * b */ 2]", "[1,     \n        2]");
        // Not in a text, be there quotes in it or not.
        is(r#"["a//b", "\"/*", "*/"]"#, r#"["a//b", "\"/*", "*/"]"#);
        is("[1] /* open", "[1] /* open");
        is("/**/1 /*/", "    1 /*/");
        is("\"open // \\", "\"open // \\");
    }
}
