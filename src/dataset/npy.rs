//! Reads `NumPy`'s `.npy` files of floating-point numbers.
//!
//! `numpy.lib.format` defines them: a signature, a version, and a Python dictionary with the type, order and shape of the
//! numbers that follow. Dictionaries as `numpy.save` writes them for arrays of f32, f64, u16 and u32 are supported, in either byte
//! order.

use std::path::Path;

use super::error::DatasetError;
use crate::files::read_file;
use crate::text::one_line;

const SIGNATURE: &[u8] = b"\x93NUMPY";
/// Maximum size of a file: the depths of an image of 8,000 × 8,000 pixels, or the poses of two million images.
const MAX_BYTES: u64 = 256 << 20;
/// Advice on converting a file of any numbers to a supported one.
const RESAVE: &str = "save it again with numpy.save(file, numpy.ascontiguousarray(a, '<f8'))";

/// An array in memory in C order (the last index varies fastest).
#[derive(Debug, PartialEq)]
pub(super) struct Array {
    /// Length along each axis.
    pub shape: Vec<usize>,
    /// The numbers; their count is the product of `shape`.
    pub values: Vec<f64>,
}

impl Array {
    /// Read a file of numbers in C order.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let bytes = read_file(path, MAX_BYTES).map_err(|e| DatasetError::read(path, e))?;
        parse(&bytes).map_err(|message| DatasetError::File {
            path: path.to_owned(),
            message,
        })
    }

    /// Return the shape as Python writes it: `(20, 17)`.
    pub fn shape_text(&self) -> String {
        let sides: Vec<_> = self.shape.iter().map(usize::to_string).collect();
        match sides.as_slice() {
            [side] => format!("({side},)"),
            sides => format!("({})", sides.join(", ")),
        }
    }
}

/// Storage format of one number.
#[derive(Clone, Copy)]
struct Kind {
    bytes: usize,
    is_big_endian: bool,
    is_integer: bool,
}

impl Kind {
    fn of(descr: &str) -> Result<Self, String> {
        let kind = |bytes, is_big_endian| Kind {
            bytes,
            is_big_endian,
            is_integer: descr.contains('u'),
        };
        match descr {
            "<f8" => Ok(kind(8, false)),
            ">f8" => Ok(kind(8, true)),
            "<f4" | "<u4" => Ok(kind(4, false)),
            ">f4" | ">u4" => Ok(kind(4, true)),
            "<u2" => Ok(kind(2, false)),
            ">u2" => Ok(kind(2, true)),
            _ if descr.contains('O') => Err(format!(
                "holds Python objects, which are not supported, instead of numbers: {RESAVE}"
            )),
            _ => Err(format!(
                "holds values of type '{}', expected f4, f8, u2 or u4: {RESAVE}",
                one_line(descr)
            )),
        }
    }

    /// Decode a number from `bytes`, whose length is [`Self::bytes`].
    fn number(self, bytes: &[u8]) -> f64 {
        let mut eight = [0; 8];
        for (to, from) in eight.iter_mut().zip(bytes) {
            *to = *from;
        }
        let [a, b, c, d, ..] = eight;
        if self.is_integer {
            return match (self.bytes, self.is_big_endian) {
                (2, false) => f64::from(u16::from_le_bytes([a, b])),
                (2, true) => f64::from(u16::from_be_bytes([a, b])),
                (_, false) => f64::from(u32::from_le_bytes([a, b, c, d])),
                (_, true) => f64::from(u32::from_be_bytes([a, b, c, d])),
            };
        }
        match (self.bytes, self.is_big_endian) {
            (4, false) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (4, true) => f64::from(f32::from_be_bytes([a, b, c, d])),
            (_, false) => f64::from_le_bytes(eight),
            (_, true) => f64::from_be_bytes(eight),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    let (header, data) = parts(bytes)?;
    let bad_header = || format!("its header is not as NumPy writes it: {RESAVE}");
    let header = str::from_utf8(header).map_err(|_| bad_header())?;
    let header = Scanner(header).header().ok_or_else(bad_header)?;
    let kind = Kind::of(header.descr)?;
    if header.is_fortran {
        return Err(format!(
            "is stored in Fortran order, expected C order: {RESAVE}"
        ));
    }
    let array = |values| Array {
        shape: header.shape.clone(),
        values,
    };
    let expected = header
        .shape
        .iter()
        .try_fold(kind.bytes, |n, side| n.checked_mul(*side))
        .filter(|n| *n == data.len());
    if expected.is_none() {
        return Err(format!(
            "holds {} bytes of numbers, which is not the size of '{}' in the shape {}: \
             it is cut short or damaged, copy it again",
            data.len(),
            header.descr,
            array(Vec::new()).shape_text(),
        ));
    }
    let numbers = data.chunks_exact(kind.bytes).map(|v| kind.number(v));
    Ok(array(numbers.collect()))
}

/// Return the text of the header, and the bytes after it.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let cut = || "is cut short within its header: copy it again".to_owned();
    let rest = bytes
        .strip_prefix(SIGNATURE)
        .ok_or("is not a .npy file: expected a file written by numpy.save")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(format!("is a .npy file of version {other}: {RESAVE}")),
    };
    rest.split_at_checked(length).ok_or_else(cut)
}

/// The content of a header.
struct Header<'a> {
    descr: &'a str,
    is_fortran: bool,
    shape: Vec<usize>,
}

/// The part of a header that has not been scanned yet.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// Scan `{'descr': '<f8', 'fortran_order': False, 'shape': (20, 17), }`, with the keys in any order.
    fn header(mut self) -> Option<Header<'a>> {
        let (mut descr, mut is_fortran, mut shape) = (None, None, None);
        self.eat('{')?;
        while self.eat('}').is_none() {
            let key = self.quoted()?;
            self.eat(':')?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => is_fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                _ => return None,
            }
            if self.eat(',').is_none() {
                self.eat('}')?;
                break;
            }
        }
        self.0.trim().is_empty().then_some(Header {
            descr: descr?,
            is_fortran: is_fortran?,
            shape: shape?,
        })
    }

    /// Skip white space and `expected`. Return `None` if another character follows.
    fn eat(&mut self, expected: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(expected)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = ['\'', '"'].into_iter().find(|q| self.eat(*q).is_some())?;
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    /// Scan a type: a quoted string, or a list of fields, which is returned as written.
    fn descr(&mut self) -> Option<&'a str> {
        self.quoted().or_else(|| {
            let text = self.0.trim_start();
            let end = text.starts_with('[').then(|| text.rfind(']'))??;
            self.0 = &text[end + 1..];
            Some(&text[..=end])
        })
    }

    fn boolean(&mut self) -> Option<bool> {
        let text = self.0.trim_start();
        let (word, value) = [("True", true), ("False", false)]
            .into_iter()
            .find(|(word, _)| text.starts_with(word))?;
        self.0 = &text[word.len()..];
        Some(value)
    }

    /// Scan a shape: `()`, `(20,)`, `(20, 17)`.
    fn shape(&mut self) -> Option<Vec<usize>> {
        let mut shape = Vec::new();
        self.eat('(')?;
        while self.eat(')').is_none() {
            let text = self.0.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit())?;
            shape.push(text[..end].parse().ok()?);
            self.0 = &text[end..];
            if self.eat(',').is_none() {
                self.eat(')')?;
                break;
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Return a file of version 1 with the dictionary `header` and `data`.
    pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{header}\n");
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [
            SIGNATURE,
            &[1, 0],
            length.as_slice(),
            header.as_bytes(),
            data,
        ]
        .concat()
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
    }

    #[test]
    fn types_orders_and_versions() {
        let six = [1.0, -2.5, 0.0, 4.0, 5.0, 1e9_f32];
        let bytes = |f: &dyn Fn(f32) -> Vec<u8>| six.iter().flat_map(|v| f(*v)).collect::<Vec<_>>();
        let cases = [
            ("'<f4'", bytes(&|v| v.to_le_bytes().to_vec())),
            ("'>f4'", bytes(&|v| v.to_be_bytes().to_vec())),
            ("\"<f8\"", bytes(&|v| f64::from(v).to_le_bytes().to_vec())),
            ("'>f8'", bytes(&|v| f64::from(v).to_be_bytes().to_vec())),
        ];
        let integers = [
            ("'<u2'", vec![1, 2, 255, 255]),
            ("'>u2'", vec![2, 1, 255, 255]),
        ];
        for (descr, data) in integers {
            let array = parse(&file(&header(descr, "(2,)"), &data)).unwrap();
            assert_eq!(array.values, [513.0, 65_535.0], "{descr}");
        }
        let array = parse(&file(&header("'>u4'", "(1,)"), &[1, 0, 0, 2])).unwrap();
        assert_eq!(array.values, [16_777_218.0]);
        for (descr, data) in &cases {
            let array = parse(&file(&header(descr, "(2, 3)"), data)).unwrap();
            assert_eq!(array.shape, [2, 3]);
            assert_eq!(array.values, six.map(f64::from), "{descr}");
        }
        // Version 2 has a longer length field; keys may be in another order, with or without spaces.
        let header = "{ 'shape':(6,),'fortran_order':False , 'descr':'<f4'}   ";
        let length = u32::try_from(header.len()).unwrap().to_le_bytes();
        let parts = [SIGNATURE, &[2, 0], &length, header.as_bytes(), &cases[0].1];
        let array = parse(&parts.concat()).unwrap();
        assert_eq!(
            (array.shape_text().as_str(), array.values.len()),
            ("(6,)", 6)
        );
        let scalar = parse(&file(&self::header("'<f4'", "()"), &[0; 4])).unwrap();
        assert_eq!(
            (scalar.shape_text().as_str(), scalar.values[0]),
            ("()", 0.0)
        );
    }

    #[test]
    fn what_is_not_read_says_why() {
        let good = file(&header("'<f8'", "(1, 2)"), &[0; 16]);
        assert!(parse(&good).is_ok());
        let refused = |bytes: &[u8], word: &str| {
            let text = parse(bytes).unwrap_err();
            assert!(
                text.contains(word) && !text.contains('\n'),
                "{word}: {text}"
            );
        };
        refused(b"", "not a .npy file");
        refused(b"PK\x03\x04", "not a .npy file");
        for keep in [7, 9, 20] {
            refused(&good[..keep], "cut short within its header");
        }
        for keep in [good.len() - 1, good.len() - 16] {
            refused(&good[..keep], "in the shape (1, 2)");
        }
        refused(&[good.as_slice(), b"x"].concat(), "holds 17 bytes");
        refused(&file(&header("'|O'", "(1, 2)"), &[0; 16]), "Python objects");
        refused(&file(&header("'<i8'", "(1, 2)"), &[0; 16]), "'<i8'");
        let fields = "[('a', '<f8'), ('b', '<f8')]";
        refused(&file(&header(fields, "(1,)"), &[0; 16]), "f4, f8, u2 or u4");
        let fortran = header("'<f8'", "(1, 2)").replace("False", "True");
        refused(&file(&fortran, &[0; 16]), "Fortran");
        let vast = "(4294967296, 4294967296, 4294967296)";
        refused(&file(&header("'<f8'", vast), &[0; 16]), "in the shape");
        for bad in [
            "{}",
            "{'descr': '<f8'}",
            "[1, 2]",
            "{'descr': '<f8', 'fortran_order': 0, 'shape': (1, 2)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1, -2)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1 2)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)} 7",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), 'more': 1}",
            "{'descr': '<f8",
        ] {
            refused(&file(bad, &[0; 16]), "header");
        }
        let mut future = good.clone();
        future[6] = 9;
        refused(&future, "version 9");
    }
}
