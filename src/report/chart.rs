//! Charts: converts data to coordinates on the page, which the template draws.

use std::fmt::Write as _;

use serde::Serialize;

use super::axis::{Axis, Range};
use super::format::{decimals, duration, short, significant};

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
        let vertical = match self.scale {
            Scale::Linear => Axis::linear(data, PARTS_UP),
            Scale::FromZero => Axis::linear(data.with_zero(), PARTS_UP),
            Scale::Logarithmic => Axis::logarithmic(data, PARTS_UP),
        };
        let times = self
            .series
            .iter()
            .filter_map(|s| s.points.last())
            .map(|p| p.0);
        let end = times.fold(self.seconds, f64::max).max(1e-3);
        let (unit, horizontal) = Axis::of_time(end, PARTS_ACROSS);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let x = |seconds: f64| LEFT + horizontal.share(seconds) * (right - LEFT);
        let y = |value: f64| bottom - vertical.share(value) * (bottom - TOP);
        let ticks = |axis: &Axis, at: &dyn Fn(f64) -> f64| {
            let all = axis.ticks.iter();
            all.map(|(value, label)| Tick {
                at: place(at(*value)),
                label: label.clone(),
            })
            .collect()
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
            x_ticks: ticks(&horizontal, &x),
            y_ticks: ticks(&vertical, &y),
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
