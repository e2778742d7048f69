//! Axes of charts: ranges and ticks.

use super::format::{power, prefix};

/// A range of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Range {
    /// Return the range of `values`, or `None` if there are none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let empty = Self {
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
        };
        let range = values.fold(empty, |r, v| Self {
            low: r.low.min(v),
            high: r.high.max(v),
        });
        (range.low <= range.high).then_some(range)
    }

    /// Return the smallest range that contains this one and zero.
    pub(super) fn with_zero(self) -> Self {
        Self {
            low: self.low.min(0.0),
            high: self.high.max(0.0),
        }
    }
}

/// An axis: its range, and its ticks with their labels, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    range: Range,
    is_logarithmic: bool,
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Return a linear axis that covers `data` and ends on ticks, with at most `parts` intervals between them, or one more.
    pub(crate) fn linear(data: Range, parts: f64) -> Self {
        let Range { mut low, mut high } = data;
        if high - low < 1e-9 * high.abs().max(low.abs()).max(1e-9) {
            let pad = if high == 0.0 { 1.0 } else { high.abs() * 0.1 };
            low = if low == 0.0 { 0.0 } else { low - pad };
            high += pad;
        }
        let step = tick_step(high - low, parts);
        let range = Range {
            low: (low / step + 1e-6).floor() * step,
            high: (high / step - 1e-6).ceil() * step,
        };
        let (divisor, letter) = prefix(if step >= 100.0 { range.high } else { 0.0 });
        let label = |v: f64| match v / divisor {
            v if v.abs() < step * 1e-6 / divisor => "0".to_owned(),
            v => format!("{v:.*}{letter}", digits(step / divisor)),
        };
        Self {
            range,
            is_logarithmic: false,
            ticks: labelled(multiples(range, step), label),
        }
    }

    /// Return a logarithmic axis over `data`, which must be positive.
    pub(crate) fn logarithmic(data: Range, parts: f64) -> Self {
        let pad = 0.04 * (data.high.log10() - data.low.log10()).max(0.25);
        let exponents = Range {
            low: data.low.log10() - pad,
            high: data.high.log10() + pad,
        };
        let range = Range {
            low: 10f64.powf(exponents.low),
            high: 10f64.powf(exponents.high),
        };
        let (first, last) = (exponents.low.floor() as i32, exponents.high.ceil() as i32);
        let every = |factors: &[i32]| -> Vec<(f64, String)> {
            let all = (first..=last).flat_map(|e| factors.iter().map(move |&f| (f, e)));
            all.map(|(f, e)| (f64::from(f) * 10f64.powi(e), power_label(f, e)))
                .filter(|(at, _)| (range.low..=range.high).contains(at))
                .collect()
        };
        let most = (1.6 * parts) as usize;
        let (fine, coarse) = (every(&[1, 2, 5]), every(&[1]));
        let ticks = if fine.len() < 3 {
            let step = tick_step(range.high - range.low, parts);
            labelled(multiples(range, step), |v| format!("{v:.*}", digits(step)))
        } else if fine.len() <= most {
            fine
        } else {
            let stride = coarse.len().div_ceil(most);
            coarse.into_iter().step_by(stride.max(1)).collect()
        };
        Self {
            range,
            is_logarithmic: true,
            ticks,
        }
    }

    /// Return an axis of the time from 0 to `end` seconds with at most `parts` intervals between ticks, and its unit. Values are
    /// in seconds, labels in the unit.
    pub(crate) fn of_time(end: f64, parts: f64) -> (&'static str, Self) {
        let (unit, length) = time_unit(end);
        let range = Range {
            low: 0.0,
            high: end,
        };
        let step = time_step(end / length, parts);
        let ticks = labelled(multiples(range, step * length), |v| {
            format!("{:.*}", digits(step), v / length)
        });
        let axis = Self {
            range,
            is_logarithmic: false,
            ticks,
        };
        (unit, axis)
    }

    /// Return the relative position of `value`: 0 at the low end, 1 at the high end.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let position = |v: f64| if self.is_logarithmic { v.log10() } else { v };
        let [value, low, high] = [value, self.range.low, self.range.high].map(position);
        (value - low) / (high - low)
    }
}

fn labelled(values: Vec<f64>, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    values.into_iter().map(|v| (v, label(v))).collect()
}

/// Return the smallest step of 1, 2 or 5 times a power of ten that divides `span` into at most `count` parts.
pub(crate) fn tick_step(span: f64, count: f64) -> f64 {
    let rough = span / count;
    let decade = 10f64.powf(rough.log10().floor());
    let factor = match rough / decade {
        f if f < 1.001 => 1.0,
        f if f < 2.001 => 2.0,
        f if f < 5.001 => 5.0,
        _ => 10.0,
    };
    decade * factor
}

/// Return the step between ticks over `span` seconds, minutes or hours: one that is common on clocks, if it
/// suits.
fn time_step(span: f64, parts: f64) -> f64 {
    let fits = |step: &f64| (0.5..=1.0).contains(&(span / step / parts));
    let step = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0]
        .into_iter()
        .find(fits);
    step.unwrap_or_else(|| tick_step(span, parts))
}

/// Return the multiples of `step` in `range`, both ends included.
fn multiples(range: Range, step: f64) -> Vec<f64> {
    let first = (range.low / step - 1e-6).ceil() as i64;
    let last = (range.high / step + 1e-6).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Return the number of decimals needed to distinguish multiples of `step`.
fn digits(step: f64) -> usize {
    (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize
}

/// Format `factor` times ten to the power of `exponent`.
fn power_label(factor: i32, exponent: i32) -> String {
    match (factor, exponent) {
        (f, 0..=4) => (f64::from(f) * 10f64.powi(exponent)).to_string(),
        (f, -4..=-1) => format!(
            "{:.*}",
            -exponent as usize,
            f64::from(f) * 10f64.powi(exponent)
        ),
        (1, e) => power(e),
        (f, e) => format!("{f}×{}", power(e)),
    }
}

/// Return the unit for showing a time of `seconds`: its name, and its length in seconds.
fn time_unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        s if s < 300.0 => ("seconds", 1.0),
        s if s < 3.0 * 3600.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|t| t.1.as_str()).collect()
    }

    fn range(low: f64, high: f64) -> Range {
        Range { low, high }
    }

    #[test]
    fn ticks_are_round_numbers_that_hold_the_data() {
        let axis = Axis::linear(range(8.3, 29.1), 5.0);
        assert_eq!(axis.range, range(5.0, 30.0));
        assert_eq!(labels(&axis), ["5", "10", "15", "20", "25", "30"]);
        let axis = Axis::linear(range(9.0, 1_630_000.0).with_zero(), 5.0);
        assert_eq!(labels(&axis), ["0", "0.5M", "1.0M", "1.5M", "2.0M"]);
        let axis = Axis::linear(range(29.01, 29.06), 5.0);
        assert_eq!(axis.ticks[0].1, "29.01");
        let axis = Axis::linear(range(25.0, 25.0), 5.0);
        assert!(axis.range.low < 25.0 && axis.range.high > 25.0 && axis.ticks.len() > 2);
        let axis = Axis::linear(range(0.0, 0.0), 5.0);
        assert!(axis.range.high > 0.0);
    }

    #[test]
    fn times_are_divided_as_clocks_are() {
        let steps = [0.3, 7.0, 70.0, 100.0, 165.0, 290.0, 400.0].map(|span| time_step(span, 8.0));
        assert_eq!(steps, [0.05, 1.0, 10.0, 15.0, 30.0, 60.0, 60.0]);
    }

    #[test]
    fn logarithmic_ticks_suit_narrow_and_wide_ranges() {
        assert_eq!(
            labels(&Axis::logarithmic(range(0.0008, 0.06), 5.0)),
            ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05"]
        );
        assert_eq!(
            labels(&Axis::logarithmic(range(1e-9, 0.5), 5.0)),
            ["10⁻⁹", "10⁻⁷", "10⁻⁵", "0.001", "0.1"]
        );
        let narrow = Axis::logarithmic(range(0.011, 0.012), 5.0);
        assert_eq!(labels(&narrow)[0], "0.0110");
        assert!(Axis::logarithmic(range(0.011, 0.011), 5.0).ticks.len() >= 2);
    }
}
