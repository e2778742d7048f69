//! Charts: converts data to coordinates on the page, which the template draws.

use std::fmt::Write as _;

use serde::Serialize;

use super::format::{decimals, duration, power, prefix, short, significant};

/// Size of a chart and of the margins around its plot, in SVG units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 306.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 52.0;
/// Lines with at most this many points show each point.
const FEW_POINTS: usize = 40;
/// Maximum number of intervals between ticks on an axis.
const PARTS_ACROSS: f64 = 8.0;
const PARTS_UP: f64 = 5.0;

/// Scale of the value axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Linear over the range of the data.
    Linear,
    /// Linear from 0.
    FromZero,
    /// Logarithmic; values that are not positive are gaps.
    Logarithmic,
}

/// Unit of the values, which determines their format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Decibel,
    Loss,
    PerSecond,
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Self::Decibel => format!("{} dB", decimals(value, 2)),
            Self::Loss => significant(value, 3),
            Self::PerSecond => format!("{}/s", short(value)),
        }
    }
}

/// A line of a chart.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// CSS class of the colour in the template.
    pub(super) class: &'static str,
    /// Seconds and values; `None` is a gap.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// A value to mark at the end of the lines.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) value: f64,
}

/// The data of a chart.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    /// Unique name of the chart within the page; letters only.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) axis: &'static str,
    pub(super) scale: Scale,
    pub(super) unit: Unit,
    pub(super) series: Vec<Series>,
    pub(super) mark: Option<Mark>,
    /// Seconds at which a run was resumed.
    pub(super) resumes: &'a [f64],
    /// End of the time axis in seconds.
    pub(super) seconds: f64,
}

/// A chart for the template; all coordinates are in SVG units.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    id: &'static str,
    title: &'static str,
    axis: &'static str,
    time_axis: String,
    description: String,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    lines: Vec<Line>,
    mark: Option<DrawnMark>,
    resumes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: String,
    label: String,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    class: &'static str,
    path: String,
    dots: Vec<(String, String)>,
    last: String,
    /// Position, time and value of each point for the tooltip: `x|y|time|value`, joined by `;`.
    readings: String,
}

#[derive(Debug, Serialize)]
struct DrawnMark {
    name: String,
    x: String,
    y: String,
    value: String,
}

/// The range of an axis.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
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

    /// Relative position of `value`: 0 at the low end, 1 at the high end.
    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
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

/// Return the step between ticks over `span` seconds, minutes or hours: one that is common on clocks, if it suits.
fn time_step(span: f64) -> f64 {
    let fits = |step: &f64| (0.5..=1.0).contains(&(span / step / PARTS_ACROSS));
    let step = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0]
        .into_iter()
        .find(fits);
    step.unwrap_or_else(|| tick_step(span, PARTS_ACROSS))
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

/// Return a linear axis that covers `data` and ends on ticks.
fn even_axis(data: Range, from_zero: bool) -> (Range, Vec<(f64, String)>) {
    let mut low = if from_zero { 0.0 } else { data.low };
    let mut high = data.high;
    if high - low < 1e-9 * high.abs().max(1e-9) {
        let pad = if from_zero || high == 0.0 {
            1.0
        } else {
            high.abs() * 0.1
        };
        (low, high) = (if from_zero { 0.0 } else { low - pad }, high + pad);
    }
    let step = tick_step(high - low, PARTS_UP);
    let range = Range {
        low: (low / step + 1e-6).floor() * step,
        high: (high / step - 1e-6).ceil() * step,
    };
    let ticks = multiples(range, step).into_iter();
    let (divisor, letter) = prefix(if step >= 100.0 { range.high } else { 0.0 });
    let label = |v: f64| match v / divisor {
        v if v.abs() < step * 1e-6 / divisor => "0".to_owned(),
        v => format!("{v:.*}{letter}", digits(step / divisor)),
    };
    (range, ticks.map(|v| (v, label(v))).collect())
}

/// Return a logarithmic axis over `data`, which must be positive. The returned range is of log₁₀ values.
fn logarithmic_axis(data: Range) -> (Range, Vec<(f64, String)>) {
    let pad = 0.04 * (data.high.log10() - data.low.log10()).max(0.25);
    let range = Range {
        low: data.low.log10() - pad,
        high: data.high.log10() + pad,
    };
    let is_inside = |v: &f64| (range.low..=range.high).contains(v);
    let (first, last) = (range.low.floor() as i32, range.high.ceil() as i32);
    let every = |factors: &[i32]| -> Vec<(f64, String)> {
        let all = (first..=last).flat_map(|e| factors.iter().map(move |&f| (f, e)));
        all.map(|(f, e)| (f64::from(f).log10() + f64::from(e), power_label(f, e)))
            .filter(|(at, _)| is_inside(at))
            .collect()
    };
    let (fine, coarse) = (every(&[1, 2, 5]), every(&[1]));
    let ticks = if fine.len() < 3 {
        let linear = Range {
            low: 10f64.powf(range.low),
            high: 10f64.powf(range.high),
        };
        let step = tick_step(linear.high - linear.low, PARTS_UP);
        multiples(linear, step)
            .into_iter()
            .map(|v| (v.log10(), significant(v, 3)))
            .collect()
    } else if fine.len() <= 8 {
        fine
    } else {
        let stride = coarse.len().div_ceil(8);
        coarse.into_iter().step_by(stride.max(1)).collect()
    };
    (range, ticks)
}

/// Format `factor` times ten to the power of `exponent`.
fn power_label(factor: i32, exponent: i32) -> String {
    match (factor, exponent) {
        (f, 0..=4) => (f64::from(f) * 10f64.powi(exponent)).to_string(),
        (f, -3..=-1) => format!(
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

/// Format a coordinate, rounded to a tenth of a unit.
fn place(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

impl Plot<'_> {
    /// Lay out the chart; `None` if there is nothing to draw.
    pub(super) fn draw(mut self) -> Option<Chart> {
        let is_drawable = |v: f64| v.is_finite() && (self.scale != Scale::Logarithmic || v > 0.0);
        for series in &mut self.series {
            for (_, value) in &mut series.points {
                *value = value.filter(|&v| is_drawable(v));
            }
        }
        self.series
            .retain(|s| s.points.iter().any(|(_, v)| v.is_some()));
        if self.series.is_empty() {
            return None;
        }
        self.mark = self.mark.filter(|m| is_drawable(m.value));
        let values = self
            .series
            .iter()
            .flat_map(|s| &s.points)
            .filter_map(|p| p.1);
        let data = Range::of(values.chain(self.mark.as_ref().map(|m| m.value)))?;
        let (range, y_ticks) = match self.scale {
            Scale::Linear => even_axis(data, false),
            Scale::FromZero => even_axis(data, true),
            Scale::Logarithmic => logarithmic_axis(data),
        };
        let times = self
            .series
            .iter()
            .filter_map(|s| s.points.last())
            .map(|p| p.0);
        let end = times.fold(self.seconds, f64::max).max(1e-3);
        let (unit, length) = time_unit(end);
        let time = Range {
            low: 0.0,
            high: end / length,
        };
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let x = |seconds: f64| LEFT + time.share(seconds / length) * (right - LEFT);
        let y_of = |height: f64| bottom - range.share(height) * (bottom - TOP);
        let y = |value: f64| match self.scale {
            Scale::Logarithmic => y_of(value.log10()),
            _ => y_of(value),
        };
        let step = time_step(time.high);
        let x_tick = |t: f64| Tick {
            at: place(x(t * length)),
            label: format!("{t:.*}", digits(step)),
        };
        let lines: Vec<Line> = self
            .series
            .iter()
            .map(|series| line(series, self.unit, &x, &y))
            .collect();
        Some(Chart {
            id: self.id,
            title: self.title,
            axis: self.axis,
            time_axis: format!("{unit} of training"),
            description: self.describe(),
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right,
            top: TOP,
            bottom,
            x_ticks: multiples(time, step).into_iter().map(x_tick).collect(),
            y_ticks: y_ticks
                .into_iter()
                .map(|(at, label)| Tick {
                    at: place(y_of(at)),
                    label,
                })
                .collect(),
            lines,
            mark: self.mark.as_ref().map(|m| DrawnMark {
                name: m.name.clone(),
                x: place(x(m.seconds.clamp(0.0, end))),
                y: place(y(m.value)),
                value: self.unit.format(m.value),
            }),
            resumes: self
                .resumes
                .iter()
                .filter(|&&s| s > 0.0 && s < end)
                .map(|&s| place(x(s)))
                .collect(),
        })
    }

    /// Return a text description of the chart.
    fn describe(&self) -> String {
        let mut text = String::new();
        for series in &self.series {
            let mut known = series.points.iter().filter_map(|p| Some((p.0, p.1?)));
            let Some(first) = known.next() else { continue };
            let last = known.next_back().unwrap_or(first);
            let _ = write!(
                text,
                "{}: {} after {}, {} after {}. ",
                series.name,
                self.unit.format(first.1),
                duration(first.0),
                self.unit.format(last.1),
                duration(last.0),
            );
        }
        if let Some(mark) = &self.mark {
            let _ = write!(text, "{}: {}.", mark.name, self.unit.format(mark.value));
        }
        text.trim_end().to_owned()
    }
}

fn line(series: &Series, unit: Unit, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> Line {
    let (mut path, mut readings) = (String::new(), String::new());
    let (mut dots, mut last) = (Vec::new(), String::new());
    let mut is_after_gap = true;
    let shows_dots = series.points.len() <= FEW_POINTS;
    let neighbour = |i: usize| series.points.get(i).and_then(|p| p.1);
    for (i, &(seconds, value)) in series.points.iter().enumerate() {
        let Some(value) = value else {
            is_after_gap = true;
            continue;
        };
        let (px, py) = (place(x(seconds)), place(y(value)));
        let command = if is_after_gap { 'M' } else { 'L' };
        let _ = write!(path, "{command}{px} {py}");
        last = unit.format(value);
        if !readings.is_empty() {
            readings.push(';');
        }
        let _ = write!(readings, "{px}|{py}|{}|{last}", duration(seconds));
        let is_alone = is_after_gap && neighbour(i + 1).is_none();
        if shows_dots || is_alone {
            dots.push((px, py));
        }
        is_after_gap = false;
    }
    Line {
        name: series.name.clone(),
        class: series.class,
        path,
        dots,
        last,
        readings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[(f64, String)]) -> Vec<&str> {
        ticks.iter().map(|t| t.1.as_str()).collect()
    }

    fn range(low: f64, high: f64) -> Range {
        Range { low, high }
    }

    #[test]
    fn ticks_are_round_numbers_that_hold_the_data() {
        let (axis, ticks) = even_axis(range(8.3, 29.1), false);
        assert_eq!((axis.low, axis.high), (5.0, 30.0));
        assert_eq!(labels(&ticks), ["5", "10", "15", "20", "25", "30"]);
        let (_, ticks) = even_axis(range(0.0, 1_630_000.0), true);
        assert_eq!(labels(&ticks), ["0", "0.5M", "1.0M", "1.5M", "2.0M"]);
        let (_, ticks) = even_axis(range(29.01, 29.06), false);
        assert_eq!(ticks[0].1, "29.01");
        let (axis, ticks) = even_axis(range(25.0, 25.0), false);
        assert!(axis.low < 25.0 && axis.high > 25.0 && ticks.len() > 2);
        let (axis, _) = even_axis(range(0.0, 0.0), true);
        assert!(axis.high > 0.0);
    }

    #[test]
    fn times_are_divided_as_clocks_are() {
        let steps = [0.3, 7.0, 70.0, 100.0, 165.0, 290.0, 400.0].map(time_step);
        assert_eq!(steps, [0.05, 1.0, 10.0, 15.0, 30.0, 60.0, 60.0]);
    }

    #[test]
    fn logarithmic_ticks_suit_narrow_and_wide_ranges() {
        assert_eq!(
            labels(&logarithmic_axis(range(0.0008, 0.06)).1),
            ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05"]
        );
        assert_eq!(
            labels(&logarithmic_axis(range(1e-9, 0.5)).1),
            ["10⁻⁹", "10⁻⁷", "10⁻⁵", "0.001", "0.1"]
        );
        assert!(logarithmic_axis(range(0.011, 0.012)).1.len() >= 2);
        assert!(logarithmic_axis(range(0.011, 0.011)).1.len() >= 2);
    }

    fn plot(points: Vec<(f64, Option<f64>)>, scale: Scale) -> Plot<'static> {
        Plot {
            id: "loss",
            title: "Loss",
            axis: "loss",
            scale,
            unit: Unit::Loss,
            series: vec![Series {
                name: "training".to_owned(),
                class: "training",
                points,
            }],
            mark: None,
            resumes: &[],
            seconds: 0.0,
        }
    }

    #[test]
    fn gaps_break_lines_and_lone_points_are_dots() {
        let mut points: Vec<_> = (0..50).map(|i| (f64::from(i), Some(1.0))).collect();
        points[10].1 = None;
        points[12].1 = Some(f64::NAN);
        points[20].1 = Some(0.0);
        let chart = plot(points, Scale::Logarithmic).draw().unwrap();
        let line = &chart.lines[0];
        assert_eq!(line.path.matches('M').count(), 4);
        assert_eq!(line.dots.len(), 1);
        assert_eq!(line.readings.split(';').count(), 47);
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        assert!(plot(vec![], Scale::Linear).draw().is_none());
        assert!(plot(vec![(1.0, None)], Scale::Linear).draw().is_none());
        assert!(
            plot(vec![(1.0, Some(-1.0))], Scale::Logarithmic)
                .draw()
                .is_none()
        );
        assert!(plot(vec![(0.0, Some(1.0))], Scale::Linear).draw().is_some());
    }

    #[test]
    fn everything_lies_inside() {
        let points = (1..100).map(|i| (f64::from(i), Some(1.0 / f64::from(i))));
        for scale in [Scale::Linear, Scale::FromZero, Scale::Logarithmic] {
            let chart = plot(points.clone().collect(), scale).draw().unwrap();
            let places = chart.lines[0].readings.split(';').filter_map(|r| {
                let mut parts = r.split('|').map(str::parse::<f64>);
                parts.next().zip(parts.next())
            });
            for (x, y) in places {
                let (x, y) = (x.unwrap(), y.unwrap());
                assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
                assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{y}");
            }
        }
    }
}
