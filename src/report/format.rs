//! Formats numbers for display.

/// Placeholder for a value that is not finite.
const NOT_FINITE: &str = "–";

/// Format `value` with `digits` decimals.
pub(super) fn decimals(value: f64, digits: usize) -> String {
    if value.is_finite() {
        format!("{value:.digits$}")
    } else {
        NOT_FINITE.to_owned()
    }
}

/// Format `value` with its sign and `digits` decimals.
pub(super) fn signed(value: f64, digits: usize) -> String {
    let text = decimals(value.abs(), digits);
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    match value {
        v if !v.is_finite() || is_zero => text,
        v if v < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

/// Format a count in groups of three digits.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Format `seconds` as a duration in at most two units.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round();
    match seconds {
        s if !s.is_finite() => NOT_FINITE.to_owned(),
        s if s < 119.95 => format!("{s:.1} s"),
        s if s < 7199.5 => format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0),
        s => {
            let minutes = (s / 60.0).round();
            format!(
                "{:.0} h {:.0} min",
                (minutes / 60.0).floor(),
                minutes % 60.0
            )
        }
    }
}

/// Return the divisor and the letter of the SI prefix that suits `value`.
pub(super) fn prefix(value: f64) -> (f64, &'static str) {
    match value.abs() {
        v if v >= 1e9 => (1e9, "G"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    }
}

/// Format `value` with three significant digits and an SI prefix.
pub(super) fn short(value: f64) -> String {
    let (divisor, letter) = prefix(value);
    format!("{}{letter}", significant(value / divisor, 3))
}

/// Format `value` with `digits` significant digits, in scientific notation if it is very small.
pub(super) fn significant(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return NOT_FINITE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor() as i32;
    if exponent < -3 {
        let mantissa = value / 10f64.powi(exponent);
        return format!("{mantissa:.*}×{}", (digits - 1) as usize, power(exponent));
    }
    format!("{value:.*}", (digits - 1 - exponent).max(0) as usize)
}

/// Format 10 to the power of `exponent`.
pub(super) fn power(exponent: i32) -> String {
    let exponent = exponent.to_string();
    let raised = exponent.chars().map(|c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    });
    "10".chars().chain(raised).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(duration(59.96), "60.0 s");
        assert_eq!(duration(119.97), "2 min 0 s");
        assert_eq!(duration(3600.0), "60 min 0 s");
        assert_eq!(duration(7199.6), "2 h 0 min");
        assert_eq!(short(1_234_000.0), "1.23M");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(significant(0.000_123, 2), "1.2×10⁻⁴");
        assert_eq!(significant(0.0123, 3), "0.0123");
        assert_eq!(signed(-0.001, 2), "0.00");
        assert_eq!(signed(-1.5, 1), "−1.5");
        assert_eq!(signed(1.5, 1), "+1.5");
        assert_eq!(decimals(f64::NAN, 2), "–");
        assert_eq!(decimals(f64::INFINITY, 2), "–");
    }
}
