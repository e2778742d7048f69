//! `--train-views` and `--eval-views`: select views by number, index or range.

use std::fmt::Write as _;
use std::ops::Range;

use super::{Error, Result};

/// A selection of views: `all`, a number, or a list of indices and ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All views.
    All,
    /// A single number: a count or an index, depending on the flag.
    Number(usize),
    /// Indices and ranges, such as `0,5`, `0..24` (24 excluded), `0-23` (23 included), or a list of these.
    Indices(Vec<IndexRange>),
}

/// An index or a range, with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRange {
    text: String,
    views: Range<usize>,
}

impl IndexRange {
    fn one(view: usize) -> Self {
        Self {
            text: view.to_string(),
            views: view..view.saturating_add(1),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "`{text}` is neither an index such as 5 nor a range such as 0..24 (24 excluded) or 0-23 (23 included)"
            )
        };
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| fault());
        let (first, end) = if let Some((first, end)) = text.split_once("..") {
            (number(first)?, number(end)?)
        } else if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(format!("`{text}` ends before it starts"));
            }
            (first, last.checked_add(1).ok_or_else(fault)?)
        } else {
            return Ok(Self::one(number(text)?));
        };
        if end < first {
            return Err(format!("`{text}` ends before it starts"));
        }
        if end == first {
            return Err(format!("`{text}` selects no view"));
        }
        Ok(Self {
            text: text.to_owned(),
            views: first..end,
        })
    }
}

impl std::str::FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "all" {
            return Ok(Self::All);
        }
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        let parts = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        let parts = parts.map(|part| match part {
            "all" => Err("`all` cannot be combined with other views".to_owned()),
            part => IndexRange::parse(part),
        });
        let parts: Vec<IndexRange> = parts.collect::<Result<_, _>>().map_err(|mut fault| {
            if !text.contains([',', '-', '.']) {
                let _ = write!(fault, "; `all` selects every view");
            }
            fault
        })?;
        if parts.is_empty() {
            return Err(format!("`{text}` selects no view"));
        }
        Ok(Self::Indices(parts))
    }
}

impl Selection {
    /// Return the same selection, with a single number taken as an index.
    pub(crate) fn by_index(self) -> Self {
        match self {
            Self::Number(view) => Self::Indices(vec![IndexRange::one(view)]),
            other => other,
        }
    }
}

/// Return the indices that `parts` select among `n` views, without repetition. `flag` and `whose` (the source of the views) are
/// for error messages.
pub(crate) fn indices(
    parts: &[IndexRange],
    flag: &str,
    n: usize,
    whose: &str,
) -> Result<Vec<usize>> {
    let mut views = Vec::new();
    let mut is_named = vec![false; n];
    for IndexRange { text, views: range } in parts {
        if range.end > n {
            let absent = range.start.max(n);
            let there = match n {
                0 => "there are none".to_owned(),
                1 => "there is only view 0".to_owned(),
                n => format!("the {n} views are numbered 0 to {}", n - 1),
            };
            return Err(Error::usage(format!(
                "{flag} {text}: {whose} has no view {absent}; {there}"
            )));
        }
        for view in range.clone() {
            if std::mem::replace(&mut is_named[view], true) {
                return Err(Error::usage(format!(
                    "{flag} {text}: view {view} is selected twice; give it once"
                )));
            }
            views.push(view);
        }
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str, n: usize) -> Result<Vec<usize>, String> {
        match text.parse::<Selection>()?.by_index() {
            Selection::All => Ok((0..n).collect()),
            Selection::Indices(parts) => {
                indices(&parts, "--views", n, "it").map_err(|e| e.to_string())
            }
            Selection::Number(_) => unreachable!("numbers are indices"),
        }
    }

    #[test]
    fn views_are_selected_by_index_and_range() {
        assert_eq!("7".parse(), Ok(Selection::Number(7)));
        assert_eq!(chosen("all", 3).unwrap(), [0, 1, 2]);
        assert_eq!(chosen("2", 3).unwrap(), [2]);
        assert_eq!(chosen("2,", 3).unwrap(), [2]);
        assert_eq!(chosen("4, 0", 5).unwrap(), [4, 0]);
        assert_eq!(chosen("1..4", 5).unwrap(), [1, 2, 3]);
        assert_eq!(chosen("1-4", 5).unwrap(), [1, 2, 3, 4]);
        assert_eq!(chosen("0..1", 5).unwrap(), [0]);
        assert_eq!(chosen("0-0", 5).unwrap(), [0]);
        assert_eq!(chosen("9, 0..2 ,5-6,3", 10).unwrap(), [9, 0, 1, 5, 6, 3]);
    }

    #[test]
    fn selections_of_no_views_are_errors() {
        for (text, words) in [
            ("", "selects no view"),
            (",", "selects no view"),
            ("3..3", "`3..3` selects no view"),
            ("3..2", "`3..2` ends before it starts"),
            ("3-2", "`3-2` ends before it starts"),
            ("0,3-2", "`3-2` ends"),
            ("all,3", "`all` cannot be combined"),
            ("first", "`first` is neither"),
            ("ALL", "`all` selects every view"),
            ("..4", "`..4` is neither"),
            ("4..", "`4..` is neither"),
            ("0..=3", "`0..=3` is neither"),
            ("0...3", "`0...3` is neither"),
            ("-3", "`-3` is neither"),
            ("1-2-3", "`1-2-3` is neither"),
            ("1.5", "`1.5` is neither"),
            ("0-18446744073709551615", "is neither"),
            ("0..99999999999999999999", "is neither"),
            ("99999999999999999999", "is neither"),
        ] {
            let fault = chosen(text, 10).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
        for (text, n, words) in [
            (
                "3",
                3,
                "--views 3: it has no view 3; the 3 views are numbered 0 to 2",
            ),
            ("0..4", 3, "--views 0..4: it has no view 3"),
            ("7-9", 3, "--views 7-9: it has no view 7"),
            ("0..18446744073709551615", 3, "has no view 3"),
            ("1", 1, "there is only view 0"),
            ("0", 0, "there are none"),
            ("1,1", 3, "--views 1: view 1 is selected twice"),
            ("2,0..3", 3, "--views 0..3: view 2 is selected twice"),
        ] {
            let fault = chosen(text, n).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }
}
