//! Lenient reading of JSON files: with a byte-order mark, in UTF-16, with comments, with Python's NaN.

use std::borrow::Cow;

use serde_json::Value;

use crate::text::{one_line, utf8};

/// Non-finite numbers as Python writes them; JSON has none.
const NON_FINITE: [&[u8]; 4] = [b"NaN", b"Infinity", b"-Infinity", b"-NaN"];

/// Why a file is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonFault {
    /// A fault of the whole file or of its encoding.
    Whole(String),
    /// A fault at one position.
    At {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// The parser's message.
        message: String,
    },
}

/// Parse a JSON file in UTF-8 or UTF-16; comments are skipped.
///
/// Python writes `NaN` and `Infinity`, which are not JSON. They are parsed as values of the wrong type, which [`kind`] names:
/// under a key that is read they are reported with their location, under other keys they are ignored.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonFault> {
    let text = utf8(bytes).map_err(|fault| JsonFault::Whole(fault.to_owned()))?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonFault::Whole("is empty: export it again".to_owned()));
    }
    if text.iter().any(|b| *b < b'\t') {
        let message =
            "is not a text file: it is damaged or in another format, copy or export it again";
        return Err(JsonFault::Whole(message.to_owned()));
    }
    if let Err(error) = std::str::from_utf8(&text) {
        let mut lines = text[..error.valid_up_to()].split(|b| *b == b'\n');
        return Err(JsonFault::Whole(format!(
            "line {}, column {}: a character that is not UTF-8 (is it Latin-1 or Windows-1252?): save the file as UTF-8",
            lines.clone().count(),
            lines.next_back().map_or(0, <[u8]>::len) + 1
        )));
    }
    serde_json::from_slice(&text)
        .or_else(|_| serde_json::from_slice(&quote_non_finite(&without_comments(&text))))
        .map_err(|error| {
            let message = error.to_string();
            let message = message
                .rsplit_once(" at line ")
                .map_or(message.as_str(), |(message, _)| message);
            JsonFault::At {
                line: error.line(),
                column: error.column(),
                message: one_line(message),
            }
        })
}

/// Return the number in `value`, which must lie within ±`limit`; errors name it `what`.
pub(crate) fn number(value: &Value, what: &str, limit: f64) -> Result<f64, String> {
    match value.as_f64() {
        Some(number) if number.abs() <= limit => Ok(number),
        Some(number) => Err(format!(
            "{what} is {number:e}, which is too large: numbers lie within ±{limit:e}"
        )),
        None => Err(format!(
            "{what} should be a finite number, found {}",
            kind(value)
        )),
    }
}

/// Return the string in `value`; errors name it `what`.
pub(crate) fn string<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    let wrong = || format!("{what} should be a string, found {}", kind(value));
    value.as_str().ok_or_else(wrong)
}

/// Return the type of a value with its article, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if NON_FINITE.iter().any(|word| inner(word) == text.as_bytes()) => {
            "NaN or Infinity"
        }
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Return a word without its first and last letter, which [`quote_non_finite`] replaces by quotes.
fn inner(word: &[u8]) -> &[u8] {
    &word[1..word.len() - 1]
}

/// Quote bare `NaN` and `Infinity` without shifting any position: `NaN` becomes `"a"`.
fn quote_non_finite(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let (mut i, mut in_text) = (0, false);
    while i < out.len() {
        match out[i] {
            b'\\' if in_text => i += 1,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            _ => {
                let word = NON_FINITE.iter().find(|word| out[i..].starts_with(word));
                if let Some(word) = word {
                    out[i] = b'"';
                    out[i + word.len() - 1] = b'"';
                    i += word.len() - 1;
                }
            }
        }
        i += 1;
    }
    out
}

/// Replace comments, `// …` to the end of the line and `/* … */`, by spaces, so that positions do not shift. An unterminated
/// comment stays.
fn without_comments(text: &[u8]) -> Cow<'_, [u8]> {
    // End of the last block comment; a comment that opens behind it is unterminated.
    let last_end = text.windows(2).rposition(|pair| pair == b"*/").unwrap_or(0);
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
            [b'/', b'*', ref rest @ ..] if !in_text && at < last_end => {
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
    fn comments_without_end_are_looked_for_once() {
        // A quadratic search would take minutes.
        let text = b"/* ".repeat(1 << 20);
        assert!(matches!(
            parse(&text),
            Err(JsonFault::At {
                line: 1,
                column: 1,
                ..
            })
        ));
        let text = [b"[1 /* a */ /* ".as_slice(), &text, b"]"].concat();
        assert!(parse(&text).is_err());
    }

    #[test]
    fn what_is_no_json_is_named() {
        let whole = |bytes: &[u8], word: &str| match parse(bytes) {
            Err(JsonFault::Whole(message)) => assert!(message.contains(word), "{message}"),
            other => panic!("{other:?}"),
        };
        whole(b"", "empty");
        whole(b" \n\t", "empty");
        whole(b"\xff\xfe", "empty");
        let at = |bytes: &[u8], place: (usize, usize), word: &str| match parse(bytes) {
            Err(JsonFault::At {
                line,
                column,
                message,
            }) => {
                assert_eq!((line, column), place, "{message}");
                assert!(message.contains(word), "{message}");
            }
            other => panic!("{other:?}"),
        };
        whole(
            b"{\n \"caf\xe9\": 1}",
            "line 2, column 6: a character that is not UTF-8",
        );
        whole(&[0; 100], "not a text file");
        whole(b"\x1f\x8b\x08\x00 gzip", "not a text file");
        at(b"{\n \"frames\": [,]}", (2, 13), "expected value");
        at(b"[1, NaN2]", (1, 8), "expected");
    }

    #[test]
    fn numbers_that_are_none_are_values_of_the_wrong_kind() {
        let value = parse(b"[NaN, Infinity, -Infinity, -NaN, \"NaN\", 1]").unwrap();
        let kinds: Vec<&str> = value.as_array().unwrap().iter().map(kind).collect();
        let no_number = "NaN or Infinity";
        assert_eq!(
            kinds,
            [
                no_number, no_number, no_number, no_number, "a string", "a number"
            ]
        );
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
        // Not inside a string, with or without escaped quotes.
        is(r#"["a//b", "\"/*", "*/"]"#, r#"["a//b", "\"/*", "*/"]"#);
        is("[1] /* open", "[1] /* open");
        is("/**/1 /*/", "    1 /*/");
        is("\"open // \\", "\"open // \\");
    }
}
